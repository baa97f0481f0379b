package archive

import (
	"encoding/binary"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// A dictionary pays where at most one value in twenty is new, as a sample tells.
const (
	sampleValues = 4096
	fewValues    = 128 // in a shorter column nothing is to be gained
	newOneIn     = 20
)

// repetitive returns the paths of the columns of a record that a dictionary
// makes smaller. The first key column is sorted, and its runs of equal values
// are compressed better without.
func repetitive(rec arrow.RecordBatch) []string {
	var paths []string
	for i, column := range rec.Columns() {
		if i == 0 {
			continue
		}
		leaves(rec.ColumnName(i), column, func(path string, leaf arrow.Array) {
			if repeats(leaf) {
				paths = append(paths, path)
			}
		})
	}
	return paths
}

// leaves visits the Parquet columns that a column of a record becomes.
func leaves(path string, column arrow.Array, visit func(path string, leaf arrow.Array)) {
	switch a := column.(type) {
	case *array.List:
		leaves(path+".list.element", a.ListValues(), visit)
	case *array.Struct:
		for i, field := range a.DataType().(*arrow.StructType).Fields() {
			leaves(path+"."+field.Name, a.Field(i), visit)
		}
	default:
		visit(path, column)
	}
}

// repeats reports whether most values of a column occur often in it. The sample
// is spread over the whole column because its start may not be typical of it.
func repeats(leaf arrow.Array) bool {
	value := valueOf(leaf)
	n := leaf.Len() - leaf.NullN()
	if value == nil || n < fewValues {
		return false
	}
	step := max(1, leaf.Len()/sampleValues)
	limit := max(1, min(n, sampleValues)/newOneIn)
	seen := make(map[string]struct{})
	var buf [8]byte
	for i := 0; i < leaf.Len(); i += step {
		if leaf.IsNull(i) {
			continue
		}
		seen[string(value(buf[:0], i))] = struct{}{}
		if len(seen) > limit {
			return false
		}
	}
	return true
}

// valueOf returns a function that returns the bytes of a value, if need be in
// buf, or nil for a column that has no use for a dictionary.
func valueOf(leaf arrow.Array) func(buf []byte, i int) []byte {
	switch a := leaf.(type) {
	case *array.String:
		return func(_ []byte, i int) []byte { return []byte(a.Value(i)) }
	case *array.Binary:
		return func(_ []byte, i int) []byte { return a.Value(i) }
	case *array.Int64:
		return func(buf []byte, i int) []byte { return binary.LittleEndian.AppendUint64(buf, uint64(a.Value(i))) }
	case *array.Float64:
		return func(buf []byte, i int) []byte {
			return binary.LittleEndian.AppendUint64(buf, math.Float64bits(a.Value(i)))
		}
	}
	return nil
}
