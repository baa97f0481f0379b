package row

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Selector picks rows, and cells of them, out of runs of rows of which not all
// columns are at hand. It is not safe for concurrent use.
type Selector struct {
	encoder *Encoder
	schema  *arrow.Schema
	builder *Builder
	where   *Filter
	takes   func(name []byte) bool
	wanted  []bool // columns of the schema that picked rows are made of
	decides []bool // columns that tell which rows match
	sources []*field
	columns []arrow.Array
	wire    []byte // room for a row
}

// NewSelector returns a Selector of the rows that match, with the cells whose
// names takes accepts; nil accepts all. Memory of records comes from mem.
func NewSelector(mem memory.Allocator, l Layout, where *Filter, takes func(name []byte) bool) *Selector {
	s := &Selector{encoder: NewEncoder(l), schema: l.Schema(), builder: NewBuilder(mem, l), where: where, takes: takes}
	n := len(s.encoder.fields)
	s.wanted, s.decides = make([]bool, n+3), make([]bool, n+3)
	for i := range s.wanted {
		key := i < len(l.Key)
		s.decides[i] = key
		s.wanted[i] = key || i >= n || takes == nil || takes(s.encoder.fields[i].name)
	}
	if where.all() {
		return s
	}
	for _, name := range where.names {
		i := slices.IndexFunc(s.encoder.fields, func(f field) bool { return string(f.name) == name })
		var source *field
		if i >= 0 {
			source = &s.encoder.fields[i]
			s.decides[i] = true
		}
		s.sources = append(s.sources, source)
		if i < 0 || i >= len(l.Key) {
			s.decides[n+2] = true // it may be in __more
		}
	}
	return s
}

// Decides reports, by column of [Layout.Schema], which ones Match looks at: those
// of the primary key always.
func (s *Selector) Decides() []bool { return s.decides }

// Wants reports likewise which ones Pick looks at.
func (s *Selector) Wants() []bool { return s.wanted }

// Reset makes columns those of the rows at hand, of which there are n. They stand
// in the order of [Layout.Schema], nil for those not at hand, and must live as
// long as they are in use. Who has not all columns is not told of rows that no
// [Builder] would have made.
func (s *Selector) Reset(columns []arrow.Array, n int) error {
	s.columns = columns
	if !slices.Contains(columns, nil) {
		rec := array.NewRecordBatch(s.schema, columns, int64(n))
		defer rec.Release()
		return s.encoder.Reset(rec)
	}
	if err := s.reset(n); err != nil {
		return fmt.Errorf("row: columns: %w", err)
	}
	return nil
}

// reset is [Encoder.Reset] with the columns at hand.
func (s *Selector) reset(n int) (err error) {
	e := s.encoder
	for i, column := range s.columns {
		if column != nil && column.Len() != n {
			return fmt.Errorf("column %q has %d rows, want %d", e.names[i], column.Len(), n)
		}
	}
	for i := range e.fields {
		f := &e.fields[i]
		if s.columns[i] == nil {
			continue
		}
		if f.view, err = newView(s.columns[i], f.kind); err != nil {
			return fmt.Errorf("column %q: %w", f.name, err)
		}
		if i < e.keys && f.validity.bits != nil {
			return fmt.Errorf("key column %q has nulls", f.name)
		}
	}
	last := s.columns[len(e.fields):]
	if last[0] != nil {
		if e.version, err = newView(last[0], integer); err != nil {
			return fmt.Errorf("column %q: %w", VersionColumn, err)
		}
	}
	if last[1] != nil {
		if e.versions, err = newListView(last[1], versionFields()); err != nil {
			return fmt.Errorf("column %q: %w", VersionsColumn, err)
		}
	}
	if last[2] != nil {
		if e.more, err = newListView(last[2], moreFields()); err != nil {
			return fmt.Errorf("column %q: %w", MoreColumn, err)
		}
	}
	return nil
}

// AppendKey appends the key of row i of those at hand. There must be a row i.
func (s *Selector) AppendKey(dst []byte, i int) []byte { return s.encoder.AppendKey(dst, i) }

// Match appends to dst the numbers, from..to-1, of the rows that match.
func (s *Selector) Match(dst []int, from, to int) ([]int, error) {
	if s.where.all() {
		for i := from; i < to; i++ {
			dst = append(dst, i)
		}
		return dst, nil
	}
	v := recordValues{selector: s}
	for v.row = from; v.row < to; v.row++ {
		if s.where.root.match(&v) {
			dst = append(dst, v.row)
		}
		if v.err != nil {
			return dst, s.encoder.explain(v.row, v.err)
		}
	}
	return dst, nil
}

// recordValues are the values of a row of the columns at hand.
type recordValues struct {
	selector *Selector
	row      int
	err      error
}

func (v *recordValues) newest(name int) (operand, bool) {
	source := v.selector.sources[name]
	if source != nil && source.has(v.row) {
		return source.operand(v.row), true
	}
	if v.err != nil || source != nil && v.selector.isKey(source) {
		return operand{}, false
	}
	o, has, err := v.selector.encoder.newestMore(v.row, v.selector.where.names[name])
	v.err = err
	return o, has
}

func (s *Selector) isKey(f *field) bool {
	return slices.ContainsFunc(s.encoder.fields[:s.encoder.keys], func(k field) bool { return bytes.Equal(k.name, f.name) })
}

// newestMore returns the newest version of a cell in __more of row i.
func (e *Encoder) newestMore(i int, name string) (operand, bool, error) {
	for from, to := e.more.bounds(i); from < to; from++ {
		got, err := e.more.name(from)
		if err != nil {
			return operand{}, false, fmt.Errorf("%s: %w", MoreColumn, err)
		}
		if string(got) != name {
			continue
		}
		v, err := e.more.value(from)
		if err != nil {
			return operand{}, false, fmt.Errorf("%s: %q: %w", MoreColumn, name, err)
		}
		return v.operand(from), true, nil
	}
	return operand{}, false, nil
}

// pickBytes is about how large a record of picked rows gets, in PlainBuffer.
const pickBytes = 64 << 20

// Pick returns a record of the first of the given rows, in order, and those left
// for the next call. Each row has its key and the cells that are taken, every
// version of them. All columns of Wants must be at hand.
func (s *Selector) Pick(rows []int) (rec arrow.RecordBatch, left []int, err error) {
	if rec := s.slice(rows); rec != nil {
		return rec, nil, nil
	}
	for len(rows) > 0 && s.builder.Bytes() < pickBytes {
		if s.wire, err = s.append(s.wire[:0], rows[0]); err != nil {
			return nil, nil, err
		}
		if _, err = s.builder.Append(s.wire); err != nil {
			return nil, nil, err
		}
		rows = rows[1:]
	}
	return s.builder.Batch().Record, rows, nil
}

// slice returns the rows as they stand, if they are whole and follow each other.
func (s *Selector) slice(rows []int) arrow.RecordBatch {
	first, n := rows[0], len(rows)
	if s.takes != nil || rows[n-1]-first != n-1 {
		return nil
	}
	columns := make([]arrow.Array, len(s.columns))
	for i, c := range s.columns {
		columns[i] = array.NewSlice(c, int64(first), int64(first+n))
		defer columns[i].Release()
	}
	return array.NewRecordBatch(s.schema, columns, int64(n))
}

// append appends row i with the cells that are taken.
func (s *Selector) append(dst []byte, i int) ([]byte, error) {
	if s.takes == nil {
		return s.encoder.AppendRow(dst, i)
	}
	m := merge{selector: s, row: i}
	m.out, m.crc = s.encoder.appendKeyCells(dst, i)
	if err := m.cells(); err != nil {
		return dst, s.encoder.explain(i, err)
	}
	return append(m.out, tagRowChecksum, crcByte(m.crc, 0)), nil
}

// merge appends the cells of a row that are taken, in canonical order: those in
// columns with those in __more.
type merge struct {
	selector *Selector
	row      int
	out      []byte
	crc      byte
	any      bool // cell yet

	versions, versionsEnd int // next entry of __tsx
	more, moreEnd         int // next entry of __more
}

func (m *merge) cells() error {
	e := m.selector.encoder
	m.versions, m.versionsEnd = e.versions.bounds(m.row)
	m.more, m.moreEnd = e.more.bounds(m.row)
	for i := e.keys; i < len(e.fields); i++ {
		f := &e.fields[i]
		if !m.selector.wanted[i] || !f.has(m.row) {
			continue
		}
		if err := m.moreBefore(f.name); err != nil {
			return err
		}
		version, err := m.version(f.name)
		if err != nil {
			return fmt.Errorf("column %q: %w", f.name, err)
		}
		m.add(&item{view: &f.view, row: m.row, name: f.name, rest: f.rest, version: version})
	}
	return m.moreBefore(nil)
}

// version returns that of the cell in a column.
func (m *merge) version(name []byte) (int64, error) {
	e := m.selector.encoder
	for ; m.versions < m.versionsEnd; m.versions++ {
		got, err := e.versions.name(m.versions)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", VersionsColumn, err)
		}
		order := bytes.Compare(got, name)
		if order == 0 {
			return e.versions.versions.fixed[m.versions], nil
		}
		if order > 0 {
			break
		}
	}
	return e.rowVersion(m.row)
}

func (e *Encoder) rowVersion(i int) (int64, error) {
	if !e.version.has(i) {
		return 0, fmt.Errorf("is set, but %s is null", VersionColumn)
	}
	return e.version.fixed[i], nil
}

// moreBefore adds the cells of __more up to a name, nil for all.
func (m *merge) moreBefore(end []byte) error {
	e := m.selector.encoder
	for ; m.more < m.moreEnd; m.more++ {
		name, err := e.more.name(m.more)
		if err != nil {
			return fmt.Errorf("%s: %w", MoreColumn, err)
		}
		if end != nil && bytes.Compare(name, end) >= 0 {
			return nil
		}
		if !m.selector.takes(name) {
			continue
		}
		v, err := e.more.value(m.more)
		if err != nil {
			return fmt.Errorf("%s: %q: %w", MoreColumn, name, err)
		}
		m.add(&item{view: v, row: m.more, name: name, rest: rest(name), version: e.more.versions.fixed[m.more]})
	}
	return nil
}

func (m *merge) add(it *item) {
	if !m.any {
		m.out, m.any = append(m.out, tagCells), true
	}
	var of byte
	m.out, of = appendCell(m.out, it)
	m.crc = crcByte(m.crc, of)
}
