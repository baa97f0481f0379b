package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"
	"sort"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// Selection is a part of a table. The zero Selection is all of it.
type Selection struct {
	Within  manifest.Range // of the rows' keys; bounds may be cut anywhere in a value
	Where   *row.Filter    // what the rows match; nil: all do
	Columns []string       // patterns, as of [path.Match], of the names of the cells; none: all
	Without KeySet         // keys of rows that are not selected, whatever the rest says

	// LeftOut is told of numbers of rows that all but Without says are selected. Nil:
	// nobody.
	LeftOut func(rows int64)
}

// LeavesOut reports whether it is known without reading a chunk that all of its rows
// are selected but for Without, which has all of them.
func (s Selection) LeavesOut(c manifest.Chunk) bool {
	return s.Where == nil && Contains(s.Within, c.First) && Contains(s.Within, c.Last) && s.Without.Covers(c.First, c.Last)
}

// Keys returns a range no key of the selected rows is outside of, by Within and
// by what Where says of keys: what lies outside need not be fetched.
func (s Selection) Keys(key []manifest.KeyColumn) manifest.Range {
	return row.Intersect(s.Within, s.Where.Keys(key))
}

// Check refuses patterns that are none, and a Where that compares a column of the
// key with a value of another type.
func (s Selection) Check(key []manifest.KeyColumn) error {
	for _, pattern := range s.Columns {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fmt.Errorf("archive: %q is no pattern of names", pattern)
		}
	}
	return s.Where.Check(key)
}

// takes returns what tells the names of selected cells, nil if all are.
func (s Selection) takes() func(name []byte) bool {
	if len(s.Columns) == 0 {
		return nil
	}
	known := map[string]bool{}
	return func(name []byte) bool {
		taken, ok := known[string(name)]
		if ok {
			return taken
		}
		taken = slices.ContainsFunc(s.Columns, func(pattern string) bool {
			match, _ := path.Match(pattern, string(name))
			return match
		})
		const enough = 1 << 16 // of names; a table may have more than memory
		if len(known) < enough {
			known[string(name)] = taken
		}
		return taken
	}
}

// ReadSelection is [Read] for the selected rows of a chunk. Of each it has the key
// and all versions of the cells selected, which may be none.
//
// Row groups that cannot have such rows, going by the smallest and largest values
// their footer names and by the keys decoded so far, are not decoded; nor are, where no row matches, columns
// that do not tell which rows do, and columns that are not selected. Keys that
// are decoded must lie between the values the footer names. What is not decoded
// is not checked.
func ReadSelection(ctx context.Context, data []byte, l row.Layout, c manifest.Chunk, s Selection) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		err := s.Check(l.Key)
		var r *reader
		if err == nil {
			r, err = open(data, l, c)
		}
		if err == nil {
			mem := memory.NewGoAllocator()
			x := selecting{reader: r, layout: l, where: s.Where, within: s.Keys(l.Key), without: s.Without, leftOut: s.LeftOut, picker: row.NewSelector(mem, l, s.Where, s.takes())}
			err = x.groups(ctx, yield)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("archive: chunk %s: %w", c.Name, err))
		}
	}
}

// errStopped says that no more rows are wanted.
var errStopped = errors.New("stopped")

// selecting reads a selection of a chunk.
type selecting struct {
	*reader
	layout  row.Layout
	where   *row.Filter
	within  manifest.Range
	without KeySet
	leftOut func(rows int64) // nil: nobody is told
	picker  *row.Selector
	match   []int // rows of the group at hand
}

func (x *selecting) groups(ctx context.Context, yield func(arrow.RecordBatch, error) bool) error {
	plan, err := x.plan()
	if err == nil {
		plan, err = x.narrow(ctx, plan)
	}
	for i := 0; err == nil && i < len(plan) && !x.past(); i++ {
		if plan[i].number > 0 && x.keys.first == nil {
			x.keys.first = x.chunk.First // of a group that is not decoded
		}
		err = x.group(ctx, plan[i], yield)
		if err == nil && plan[i].number == x.reader.groups-1 {
			return x.end()
		}
	}
	return err
}

// group is a row group that may have rows that are selected.
type group struct {
	number int
	of     manifest.Range // no key is outside of
}

// plan returns the groups that may have rows that are selected, by what the footer
// tells.
func (x *selecting) plan() ([]group, error) {
	var plan []group
	for number := range x.reader.groups {
		of, possible, err := x.outlook(number)
		if err != nil {
			return nil, corrupt(fmt.Errorf("row group %d: %w", number, err))
		}
		if possible {
			plan = append(plan, group{number, of})
		}
	}
	return plan, nil
}

// narrow leaves out groups at the start whose keys are all before the range, as
// the first key of the group that follows tells: where a value of the first key
// column ends one group and starts the next, the footer does not tell which of
// them has a key with it.
func (x *selecting) narrow(ctx context.Context, plan []group) ([]group, error) {
	for len(plan) > 1 && bytes.Compare(plan[1].of.From, x.within.From) <= 0 {
		first, err := x.firstKey(ctx, plan[1].number)
		if err != nil || bytes.Compare(first, x.within.From) > 0 {
			return plan, err
		}
		plan = plan[1:]
	}
	return plan, nil
}

// firstKey decodes the key of the first row of a group.
func (x *selecting) firstKey(ctx context.Context, number int) (key manifest.Key, err error) {
	columns := make([]arrow.Array, x.schema.NumFields())
	defer func() { release(columns) }()
	err = x.trying(ctx, number, func() error {
		one, err := pqarrow.NewFileReader(x.arrow.ParquetReader(), pqarrow.ArrowReadProperties{BatchSize: 1}, x.memory())
		if err != nil {
			return err
		}
		leaves := make([]int, len(x.layout.Key))
		for i := range leaves {
			leaves[i] = i
		}
		decoded, err := readColumns(ctx, one, number, leaves)
		if err != nil {
			return err
		}
		copy(columns, decoded)
		if err := x.picker.Reset(columns, 1); err != nil {
			return err
		}
		key = x.picker.AppendKey(nil, 0)
		return nil
	})
	return key, err
}

// past reports whether the keys read so far reach the end of the range.
func (x *selecting) past() bool { return x.keys.last != nil && !before(x.keys.last, x.within.To) }

// outlook returns a range no key of a group is outside of, and whether the group
// may have rows that are selected.
func (x *selecting) outlook(group int) (of manifest.Range, possible bool, err error) {
	err = guard(func() (err error) {
		if of, err = x.bounds(x.layout, group); err != nil || !Overlap(of, x.within) {
			return err
		}
		var e row.Extent
		if e, err = x.extent(group); err == nil {
			possible = x.where.Possible(x.layout, e)
		}
		return err
	})
	return of, possible, err
}

// group yields the selected rows of a row group.
func (x *selecting) group(ctx context.Context, g group, yield func(arrow.RecordBatch, error) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	columns := make([]arrow.Array, x.schema.NumFields())
	defer func() { release(columns) }()
	err := x.trying(ctx, g.number, func() error {
		if err := x.decode(ctx, g.number, columns, x.picker.Decides()); err != nil {
			return err
		}
		return x.matches(g)
	})
	if err == nil && len(x.match) > 0 {
		err = x.trying(ctx, g.number, func() error { return x.decode(ctx, g.number, columns, x.picker.Wants()) })
	}
	if err != nil {
		return err
	}
	for rows := x.match; len(rows) > 0; {
		var rec arrow.RecordBatch
		if rec, rows, err = x.picker.Pick(rows); err != nil {
			return corrupt(fmt.Errorf("row group %d: %w", g.number, err))
		}
		more := yield(rec, nil)
		rec.Release()
		if !more {
			return errStopped
		}
	}
	return nil
}

// decode decodes those of the columns asked for that are not there yet.
func (x *selecting) decode(ctx context.Context, group int, columns []arrow.Array, ask []bool) error {
	var leaves, fields []int
	leaf := 0
	for i, f := range x.schema.Fields() {
		n := leavesOf(f.Type)
		if ask[i] && columns[i] == nil {
			fields = append(fields, i)
			for j := range n {
				leaves = append(leaves, leaf+j)
			}
		}
		leaf += n
	}
	if len(fields) > 0 {
		decoded, err := readColumns(ctx, x.arrow, group, leaves)
		if err != nil {
			return err
		}
		if n := decoded[0].Len(); n != int(x.rows[group]) {
			release(decoded)
			return fmt.Errorf("%d rows, its footer says %d", n, x.rows[group])
		}
		for i, c := range decoded {
			columns[fields[i]] = c
		}
	}
	return x.picker.Reset(columns, int(x.rows[group]))
}

// leavesOf returns how many Parquet columns a column has.
func leavesOf(t arrow.DataType) int {
	switch t := t.(type) {
	case *arrow.ListType:
		return leavesOf(t.Elem())
	case *arrow.StructType:
		n := 0
		for _, f := range t.Fields() {
			n += leavesOf(f.Type)
		}
		return n
	}
	return 1
}

// matches finds the rows of the group that are selected, and checks the keys of
// all.
func (x *selecting) matches(g group) (err error) {
	n := int(x.rows[g.number])
	if err := x.keys.follow(n, x.picker.AppendKey); err != nil {
		return err
	}
	if err := x.signed(); err != nil {
		return err
	}
	key := func(i int) manifest.Key { return x.picker.AppendKey(nil, i) }
	if !Contains(g.of, key(0)) || !Contains(g.of, key(n-1)) {
		return fmt.Errorf("keys %s to %s are not between the values the footer names", x.keys.format(key(0)), x.keys.format(key(n-1)))
	}
	from := sort.Search(n, func(i int) bool { return bytes.Compare(key(i), x.within.From) >= 0 })
	to := sort.Search(n, func(i int) bool { return !before(key(i), x.within.To) })
	if x.match, err = x.picker.Match(x.match[:0], from, to); err == nil {
		x.leaveOut(x.without.between(key(0), key(n-1)))
	}
	return err
}

// leaveOut takes the rows whose keys are in a set from those that match.
func (x *selecting) leaveOut(without KeySet) {
	if without.IsEmpty() {
		return
	}
	matched := len(x.match)
	var key manifest.Key
	x.match = slices.DeleteFunc(x.match, func(i int) bool {
		key = x.picker.AppendKey(key[:0], i)
		return without.Has(key)
	})
	if x.leftOut != nil {
		x.leftOut(int64(matched - len(x.match)))
	}
}

// extent returns what the footer tells of the values of a row group.
func (x *selecting) extent(group int) (e row.Extent, err error) {
	meta := x.arrow.ParquetReader().MetaData().RowGroup(group)
	all := make([]row.Bounds, meta.NumColumns())
	for i := range all {
		c, err := meta.ColumnChunk(i)
		if err != nil {
			return row.Extent{}, err
		}
		if all[i], err = boundsOf(c, x.reader.rows[group]); err != nil {
			return row.Extent{}, err
		}
	}
	keys := len(x.layout.Key)
	columns := keys + len(x.layout.Columns)
	const names = 3 // come behind __ts, and name and ts of __tsx
	return row.Extent{Keys: all[:keys], Columns: all[keys:columns], Names: all[columns+names]}, nil
}
