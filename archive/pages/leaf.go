package pages

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// leaf is a Parquet column: a column of a record, or a field of the structs in a
// column of lists.
type leaf struct {
	column   arrow.Array
	optional bool
	valid    bitmap
	list     *list // nil for a column that is no list
}

// list tells which entries the rows of a column of lists have.
type list struct {
	offsets []int32 // one more than rows
	// What the leaves of the list have in common is built once.
	from, to       int
	repeats, holds []byte // a bit for each level: not the first of its row; an entry
	levels         int
	head           []byte // repetition levels, encoded
	sparse         []byte // definition levels of a required field, encoded
}

// leavesOf returns the Parquet columns of a record, in order.
func leavesOf(rec arrow.RecordBatch) (all []leaf, err error) {
	defer func() {
		if err != nil {
			release(all)
		}
	}()
	for i, f := range rec.Schema().Fields() {
		if lists, ok := rec.Column(i).(*array.List); ok {
			all, err = appendFields(all, lists)
		} else {
			all, err = appendLeaf(all, rec.Column(i), f.Nullable, nil)
		}
		if err != nil {
			return all, fmt.Errorf("column %q: %w", f.Name, err)
		}
	}
	return all, nil
}

// appendFields appends the fields of the structs in lists.
func appendFields(all []leaf, lists *array.List) ([]leaf, error) {
	entries, ok := lists.ListValues().(*array.Struct)
	if !ok || lists.NullN() > 0 || entries.NullN() > 0 {
		return all, fmt.Errorf("%s with %d null; it has to be lists of structs, none of them null", lists.DataType(), lists.NullN())
	}
	shared := &list{offsets: lists.Offsets()[lists.Data().Offset():], from: -1}
	first, last := int64(shared.offsets[0]), int64(shared.offsets[lists.Len()])
	for i, f := range entries.DataType().(*arrow.StructType).Fields() {
		field := array.NewSlice(entries.Field(i), first, last)
		var err error
		all, err = appendLeaf(all, field, f.Nullable, shared)
		field.Release()
		if err != nil {
			return all, fmt.Errorf("field %q: %w", f.Name, err)
		}
	}
	return all, nil
}

func appendLeaf(all []leaf, column arrow.Array, optional bool, of *list) ([]leaf, error) {
	switch column.(type) {
	case *array.Int64, *array.Float64, *array.Boolean, *array.String, *array.Binary:
	default:
		return all, fmt.Errorf("it is %s", column.DataType())
	}
	l := leaf{column: column, optional: optional, valid: bitmap{n: column.Len()}, list: of}
	if nulls := column.NullN(); nulls > 0 && !optional {
		return all, fmt.Errorf("%d values are null, and none may be", nulls)
	} else if nulls > 0 {
		from := column.Data().Offset()
		l.valid, _ = bitmap{column.NullBitmapBytes(), from + column.Len()}.slice(nil, from, from+column.Len())
	}
	column.Retain()
	return append(all, l), nil
}

// release gives back the columns.
func release(leaves []leaf) {
	for _, l := range leaves {
		l.column.Release()
	}
}

// entries returns which values of the column those of rows are.
func (l *leaf) entries(from, to int) (int, int) {
	if l.list == nil {
		return from, to
	}
	return int(l.list.offsets[from] - l.list.offsets[0]), int(l.list.offsets[to] - l.list.offsets[0])
}

// row returns the row an entry is in.
func (l *leaf) row(entry int) int {
	if l.list == nil {
		return entry
	}
	first := l.list.offsets[0]
	return sort.Search(len(l.list.offsets)-1, func(i int) bool { return int(l.list.offsets[i+1]-first) > entry })
}

// appendLevels appends the levels of rows as a page starts with them, and returns
// how many there are. The bits are those of valid for the rows' values.
func (l *leaf) appendLevels(dst []byte, from, to int, valid bitmap, room *[]uint32) (out []byte, n int) {
	if l.list != nil {
		return l.list.appendLevels(dst, from, to, l.optional, valid, room)
	}
	if l.optional {
		dst = withSize(dst, func(dst []byte) []byte { return appendHybridBits(dst, valid) })
	}
	return dst, to - from
}

func (s *list) appendLevels(dst []byte, from, to int, optional bool, valid bitmap, room *[]uint32) (out []byte, n int) {
	if s.from != from || s.to != to {
		s.build(from, to)
	}
	dst = append(dst, s.head...)
	if !optional {
		return append(dst, s.sparse...), s.levels
	}
	return withSize(dst, func(dst []byte) []byte {
		if valid.n == 0 {
			return appendRun(dst, s.levels, 0, 2)
		}
		*room = s.definitions((*room)[:0], valid)
		return appendHybrid(dst, *room, 2)
	}), s.levels
}

// build makes the levels that are the same for all leaves.
func (s *list) build(from, to int) {
	s.from, s.to, s.levels = from, to, 0
	s.repeats, s.holds = s.repeats[:0], s.holds[:0]
	if s.offsets[from] == s.offsets[to] {
		s.levels = to - from
		s.head = withSize(s.head[:0], func(dst []byte) []byte { return appendRun(dst, s.levels, 0, 1) })
		s.sparse = append(s.sparse[:0], s.head...)
		return
	}
	most := to - from + int(s.offsets[to]-s.offsets[from])
	s.repeats = append(s.repeats, make([]byte, (most+7)/8)...)
	s.holds = append(s.holds, make([]byte, (most+7)/8)...)
	at := 0
	for i := from; i < to; i++ {
		entries := int(s.offsets[i+1] - s.offsets[i])
		for j := range entries {
			s.holds[at>>3] |= 1 << (at & 7)
			if j > 0 {
				s.repeats[at>>3] |= 1 << (at & 7)
			}
			at++
		}
		if entries == 0 {
			at++
		}
	}
	s.levels = at
	s.head = withSize(s.head[:0], func(dst []byte) []byte { return appendHybridBits(dst, bitmap{s.repeats, at}) })
	s.sparse = withSize(s.sparse[:0], func(dst []byte) []byte { return appendHybridBits(dst, bitmap{s.holds, at}) })
}

// definitions appends the definition levels of an optional field: 0 where there
// is no entry, 1 where the field of the entry is null, else 2.
func (s *list) definitions(levels []uint32, valid bitmap) []uint32 {
	entry := 0
	for i := range s.levels {
		level := uint32(0)
		if s.holds[i>>3]>>(i&7)&1 == 1 {
			level = 1
			if valid.bytes == nil || valid.bytes[entry>>3]>>(entry&7)&1 == 1 {
				level = 2
			}
			entry++
		}
		levels = append(levels, level)
	}
	return levels
}

// withSize appends what f appends, after its size.
func withSize(dst []byte, f func([]byte) []byte) []byte {
	at := len(dst)
	dst = f(append(dst, 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}
