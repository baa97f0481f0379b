package archive

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
)

// stretch is what is true of the values of a column in some rows.
type stretch struct {
	low, high []byte // the smallest and the largest, as statistics of Parquet have them; nil: there is none
	entries   int64  // values, nulls and empty lists counted
	values    int64
}

// order is how values of a column compare, as statistics have them.
type order func(a, b []byte) int

// join adds what is true of the rows that follow.
func (s *stretch) join(next stretch, by order) {
	s.entries += next.entries
	s.values += next.values
	if s.low == nil || next.low != nil && by(next.low, s.low) < 0 {
		s.low = next.low
	}
	if s.high == nil || next.high != nil && by(next.high, s.high) > 0 {
		s.high = next.high
	}
}

func orderOf(values arrow.Array) order {
	switch values.(type) {
	case *array.Int64:
		return func(a, b []byte) int { return cmp.Compare(integerOf(a), integerOf(b)) }
	case *array.Float64:
		return func(a, b []byte) int { return cmp.Compare(doubleOf(a), doubleOf(b)) }
	}
	return bytes.Compare
}

// extremesOf returns the stretch of values from to to-1, as if each were an entry.
func extremesOf(values arrow.Array, from, to int) (stretch, error) {
	s := stretch{entries: int64(to - from), values: int64(to - from)}
	if values.NullN() > 0 {
		s.values = int64(bitutil.CountSetBits(values.NullBitmapBytes(), values.Data().Offset()+from, to-from))
	}
	if s.values == 0 {
		return s, nil
	}
	switch a := values.(type) {
	case *array.Int64:
		s.integers(a, from, to)
	case *array.Float64:
		s.doubles(a, from, to)
	case *array.Boolean:
		s.booleans(a, from, to)
	case *array.String:
		s.texts(a, a.ValueOffsets(), from, to)
	case *array.Binary:
		s.texts(a, a.ValueOffsets(), from, to)
	default:
		return stretch{}, fmt.Errorf("no column has the type %s", values.DataType())
	}
	return s, nil
}

func (s *stretch) integers(a *array.Int64, from, to int) {
	low, high := int64(math.MaxInt64), int64(math.MinInt64)
	all := s.values == s.entries
	for i, v := range a.Int64Values()[from:to] {
		if all || a.IsValid(from+i) {
			low, high = min(low, v), max(high, v)
		}
	}
	s.low, s.high = encoded(uint64(low)), encoded(uint64(high))
}

// doubles follows Parquet: NaN is not among the values, and of zeros the smallest
// is -0 and the largest 0, whichever there are.
func (s *stretch) doubles(a *array.Float64, from, to int) {
	low, high := math.Inf(1), math.Inf(-1)
	all := s.values == s.entries
	for i, v := range a.Float64Values()[from:to] {
		if !all && !a.IsValid(from+i) {
			continue
		}
		if v < low {
			low = v
		}
		if v > high {
			high = v
		}
	}
	if low > high {
		return // all are NaN
	}
	if low == 0 {
		low = math.Copysign(0, -1)
	}
	if high == 0 {
		high = 0
	}
	s.low, s.high = encoded(math.Float64bits(low)), encoded(math.Float64bits(high))
}

func (s *stretch) booleans(a *array.Boolean, from, to int) {
	no, yes := false, false
	for i := from; i < to && !(no && yes); i++ {
		if a.IsValid(i) {
			no, yes = no || !a.Value(i), yes || a.Value(i)
		}
	}
	s.low, s.high = []byte{1}, []byte{0}
	if no {
		s.low = []byte{0}
	}
	if yes {
		s.high = []byte{1}
	}
}

// texts compares values by their first eight bytes, and by all only where those
// are the same: else most of the time of a check would go into it.
func (s *stretch) texts(a arrow.Array, offsets []int32, from, to int) {
	var data []byte // none if all are empty
	if buffer := a.Data().Buffers()[2]; buffer != nil {
		data = buffer.Bytes()
	}
	all := s.values == s.entries
	low, high := []byte(nil), []byte{}
	least, most := uint64(math.MaxUint64), uint64(0)
	start := offsets[from]
	for i, end := range offsets[from+1 : to+1] {
		v, rest := data[start:end], data[start:]
		start = end
		if len(v) == 0 && !all && a.IsNull(from+i) { // a null has no bytes
			continue
		}
		first := beginning(rest, len(v))
		if first <= least && (low == nil || !same(v, low, first, least) && bytes.Compare(v, low) < 0) {
			low, least = v, first
		}
		if first >= most && !same(v, high, first, most) && bytes.Compare(v, high) > 0 {
			high, most = v, first
		}
	}
	s.low, s.high = append([]byte{}, low...), high
}

// same reports whether a and b are short and equal, which their beginnings tell.
func same(a, b []byte, beginsA, beginsB uint64) bool {
	return beginsA == beginsB && len(a) == len(b) && len(a) <= 8
}

// beginning returns the first eight of the n bytes at the start of data as a
// number that compares as they do, but where they are equal.
func beginning(data []byte, n int) uint64 {
	if len(data) >= 8 {
		start := binary.BigEndian.Uint64(data)
		if n < 8 {
			start &^= math.MaxUint64 >> (8 * n)
		}
		return start
	}
	var padded [8]byte
	copy(padded[:], data[:n])
	return binary.BigEndian.Uint64(padded[:])
}

func encoded(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func integerOf(p []byte) int64  { return int64(binary.LittleEndian.Uint64(p)) }
func doubleOf(p []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(p)) }

// text returns a bound as people read it.
func boundText(values arrow.Array, bound []byte) string {
	const most = 64 // bytes of a text or a binary
	switch values.(type) {
	case *array.Int64:
		if len(bound) == 8 {
			return strconv.FormatInt(integerOf(bound), 10)
		}
	case *array.Float64:
		if len(bound) == 8 {
			return strconv.FormatFloat(doubleOf(bound), 'g', -1, 64)
		}
	case *array.Boolean:
		if len(bound) == 1 {
			return strconv.FormatBool(bound[0] != 0)
		}
	case *array.String:
		return fmt.Sprintf("%.*q", most, bound)
	}
	if len(bound) > most {
		return fmt.Sprintf("0x%x…", bound[:most])
	}
	return fmt.Sprintf("0x%x", bound)
}
