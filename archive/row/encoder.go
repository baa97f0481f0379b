package row

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/otsnap/otsnap/manifest"
)

// Encoder turns the rows of a record back into PlainBuffer. Records may come from
// anywhere: one that no [Builder] would have made is an error. It is not safe for
// concurrent use.
type Encoder struct {
	fields   []field // key columns, then promoted ones
	keys     int
	names    []string // of all columns of a record
	version  view
	versions listView
	more     listView
	rows     int

	stopped walk // where AppendCells stopped, to go on there

	// What stands in a key column in place of its values, see Generate.
	replaced    int
	replacement []byte // nil: nothing does
	crc         byte   // of the replacement
}

// field is a column of a record, and what the cells in it have in common.
type field struct {
	view
	name []byte
	kind kind
	rest byte // of the name, see [rest]
}

// NewEncoder returns an Encoder of records in a layout made by [NewLayout].
func NewEncoder(l Layout) *Encoder {
	e := &Encoder{keys: len(l.Key)}
	for _, c := range l.Key {
		e.add(c.Name, c.Type)
	}
	for _, c := range l.Columns {
		e.add(c.Name, c.Type)
	}
	e.names = append(e.names, VersionColumn, VersionsColumn, MoreColumn)
	return e
}

func (e *Encoder) add(name string, t manifest.Type) {
	k, _ := kindOf(t)
	e.names = append(e.names, name)
	e.fields = append(e.fields, field{
		name: []byte(name),
		kind: k,
		rest: rest([]byte(name)),
	})
}

// Reset makes rec the record whose rows are encoded. The record must live as long
// as it is in use.
func (e *Encoder) Reset(rec arrow.RecordBatch) error {
	e.rows, e.stopped = 0, walk{}
	if err := e.reset(rec); err != nil {
		return fmt.Errorf("row: record: %w", err)
	}
	e.rows = int(rec.NumRows())
	return nil
}

func (e *Encoder) reset(rec arrow.RecordBatch) (err error) {
	if int(rec.NumCols()) != len(e.names) {
		return fmt.Errorf("%d columns, want %d", rec.NumCols(), len(e.names))
	}
	for i, want := range e.names {
		if got := rec.ColumnName(i); got != want {
			return fmt.Errorf("column %d is %q, want %q", i+1, got, want)
		}
		if rec.Column(i).Len() != int(rec.NumRows()) {
			return fmt.Errorf("column %q has %d rows, want %d", want, rec.Column(i).Len(), rec.NumRows())
		}
	}
	for i := range e.fields {
		f := &e.fields[i]
		if f.view, err = newView(rec.Column(i), f.kind); err != nil {
			return fmt.Errorf("column %q: %w", f.name, err)
		}
		if i < e.keys && f.validity.bits != nil {
			return fmt.Errorf("key column %q has nulls", f.name)
		}
	}
	n := len(e.fields)
	if e.version, err = newView(rec.Column(n), integer); err != nil {
		return fmt.Errorf("column %q: %w", VersionColumn, err)
	}
	if e.versions, err = newListView(rec.Column(n+1), versionFields()); err != nil {
		return fmt.Errorf("column %q: %w", VersionsColumn, err)
	}
	if e.more, err = newListView(rec.Column(n+2), moreFields()); err != nil {
		return fmt.Errorf("column %q: %w", MoreColumn, err)
	}
	return nil
}

// Generate has rows encoded, until told otherwise, with a sign in key column n by
// which the service is asked to choose its value. AppendKey goes on to return
// what the record has.
func (e *Encoder) Generate(n int) {
	e.replaced = n
	e.replacement, e.crc = appendKeyCell(nil, string(e.fields[n].name), auto, nil)
}

// Replace is Generate with a value the service chose.
func (e *Encoder) Replace(n int, v int64) {
	e.replaced = n
	value := binary.LittleEndian.AppendUint64(nil, uint64(v))
	e.replacement, e.crc = appendKeyCell(nil, string(e.fields[n].name), integer, value)
}

// Cells returns the number of cells of row i, every version counted. There must
// be a row i.
func (e *Encoder) Cells(i int) int {
	from, to := e.more.bounds(i)
	n := to - from
	for c := range e.fields[e.keys:] {
		if e.fields[e.keys+c].has(i) {
			n++
		}
	}
	return n
}

// AppendKey appends the key of row i. There must be a row i.
func (e *Encoder) AppendKey(dst []byte, i int) []byte {
	for c := range e.fields[:e.keys] {
		f := &e.fields[c]
		if f.kind == integer {
			dst = binary.BigEndian.AppendUint64(dst, uint64(f.fixed[i])^signBit)
			continue
		}
		dst = appendKeyValue(dst, f.kind, f.text(i))
	}
	return dst
}

// AppendRow appends row i: its primary key, its cells by name and newest first,
// and its checksum. On an error it returns dst as it was.
func (e *Encoder) AppendRow(dst []byte, i int) ([]byte, error) {
	w, err := e.start(i)
	if err != nil {
		return dst, err
	}
	out, crc := e.appendKeyCells(dst, i)
	if w.plain() && e.version.has(i) {
		// Nearly all rows are plain. One without cells is an error for walk to name.
		if plain := e.appendPlain(out, i, crc); len(plain) > len(out) {
			return plain, nil
		}
	}
	var it item
	for {
		ok, err := w.next(e, &it)
		if err != nil {
			return dst, e.explain(i, err)
		}
		if !ok {
			return append(out, tagRowChecksum, crcByte(crc, 0)), nil
		}
		if w.cell == 1 {
			out = append(out, tagCells)
		}
		var of byte
		out, of = appendCell(out, &it)
		crc = crcByte(crc, of)
	}
}

// plain reports whether all there is of the row stands in columns and is of one
// version.
func (w *walk) plain() bool { return w.more == w.moreEnd && w.versions == w.versionsEnd }

// appendPlain appends the cells and the checksum of a plain row, or nothing if it
// has no cells.
func (e *Encoder) appendPlain(dst []byte, i int, crc byte) []byte {
	it := item{row: i, version: e.version.fixed[i]}
	out := append(dst, tagCells)
	for c := e.keys; c < len(e.fields); c++ {
		f := &e.fields[c]
		if !f.has(i) {
			continue
		}
		it.view, it.name, it.rest = &f.view, f.name, f.rest
		var of byte
		out, of = appendCell(out, &it)
		crc = crcByte(crc, of)
	}
	if len(out) == len(dst)+1 {
		return dst
	}
	return append(out, tagRowChecksum, crcByte(crc, 0))
}

// AppendCells appends row i with only its cells from the given one on, counted
// from 0, as a row too wide for one write is written. It stops before maxCells
// or maxBytes are exceeded, but never before the first cell; 0 is no limit. It
// returns the number of the next cell, which is Cells(i) when all are done.
// Calls that go on where the last one stopped cost together what AppendRow does.
func (e *Encoder) AppendCells(dst []byte, i, from, maxCells, maxBytes int) (out []byte, next int, err error) {
	w, err := e.walkTo(i, from)
	if err != nil {
		return dst, from, err
	}
	out, crc := e.appendKeyCells(dst, i)
	total := e.Cells(i)
	var it item
	for w.cell < total && (maxCells <= 0 || w.cell-from < maxCells) {
		before := w
		if _, err := w.next(e, &it); err != nil {
			return dst, from, e.explain(i, err)
		}
		if before.cell == from {
			out = append(out, tagCells)
		} else if maxBytes > 0 && len(out)-len(dst)+it.size()+2 > maxBytes {
			w = before
			break
		}
		var of byte
		out, of = appendCell(out, &it)
		crc = crcByte(crc, of)
	}
	if w.cell == total {
		if _, err := w.next(e, &it); err != nil {
			return dst, from, e.explain(i, err)
		}
	}
	e.stopped = w
	return append(out, tagRowChecksum, crcByte(crc, 0)), w.cell, nil
}

// walkTo returns a walk over row i that has passed the cells before the given
// one.
func (e *Encoder) walkTo(i, cell int) (walk, error) {
	if cell > 0 && e.stopped.row == i && e.stopped.cell == cell {
		return e.stopped, nil
	}
	w, err := e.start(i)
	if err != nil {
		return walk{}, err
	}
	if total := e.Cells(i); cell < 0 || cell > total {
		return walk{}, e.explain(i, fmt.Errorf("cell %d of %d", cell, total))
	}
	var it item
	for w.cell < cell {
		if _, err := w.next(e, &it); err != nil {
			return walk{}, e.explain(i, err)
		}
	}
	return w, nil
}

// explain says which row an error is about.
func (e *Encoder) explain(i int, err error) error {
	return fmt.Errorf("row: row %d of the record: %w", i+1, err)
}

// walk goes through the cells of a row in canonical order: it merges the columns
// with __more, and takes versions from __ts and __tsx. What it passes it checks.
type walk struct {
	row    int
	cell   int // number of the next cell
	column int // next field
	votes  vote

	versions, versionsEnd int    // next entry of __tsx
	more, moreEnd         int    // next entry of __more
	moreName              []byte // its name
	moreView              *view  // where its value is

	// The last cell from __more, or from a column with older versions there.
	lastName    []byte
	lastVersion int64
}

// item is a cell on the way to the wire.
type item struct {
	view    *view
	row     int // in the view
	name    []byte
	rest    byte // of the name, see [rest]
	version int64
}

// size returns how many bytes the item takes on the wire.
func (it *item) size() int { return 6 + len(it.name) + 6 + it.view.size(it.row) + 11 }

// start returns a walk over row i.
func (e *Encoder) start(i int) (walk, error) {
	if i < 0 || i >= e.rows {
		return walk{}, fmt.Errorf("row: row %d of a record of %d", i+1, e.rows)
	}
	w := walk{row: i, column: e.keys}
	w.versions, w.versionsEnd = e.versions.bounds(i)
	w.more, w.moreEnd = e.more.bounds(i)
	if err := w.readMore(e); err != nil {
		return walk{}, e.explain(i, err)
	}
	return w, nil
}

// next makes it the next cell. At the end of the row it returns false.
func (w *walk) next(e *Encoder, it *item) (bool, error) {
	for ; w.column < len(e.fields); w.column++ {
		f := &e.fields[w.column]
		order := -1
		if w.more < w.moreEnd {
			order = bytes.Compare(f.name, w.moreName)
		}
		if order > 0 {
			break
		}
		if f.has(w.row) {
			w.column++
			w.cell++
			return true, w.takeColumn(e, f, order == 0, it)
		}
		if order == 0 && w.moreView.kind == f.kind {
			return false, fmt.Errorf("column %q: the newest version stands in %s", f.name, MoreColumn)
		}
	}
	if w.more < w.moreEnd {
		w.cell++
		return true, w.takeMore(e, it)
	}
	return false, w.end(e)
}

// takeColumn makes it the cell of a column, of which __more may have older
// versions.
func (w *walk) takeColumn(e *Encoder, f *field, older bool, it *item) error {
	if !e.version.has(w.row) {
		return fmt.Errorf("column %q is set, but %s is null", f.name, VersionColumn)
	}
	version := e.version.fixed[w.row]
	if w.versions < w.versionsEnd {
		name, err := e.versions.name(w.versions)
		if err != nil {
			return fmt.Errorf("%s: %w", VersionsColumn, err)
		}
		if bytes.Equal(name, f.name) {
			version = e.versions.versions.fixed[w.versions]
			w.versions++
			if version == e.version.fixed[w.row] {
				return fmt.Errorf("%s: %q has the version of the row", VersionsColumn, name)
			}
		}
	}
	w.votes.cast(version)
	if older {
		w.lastName, w.lastVersion = f.name, version
	}
	*it = item{view: &f.view, row: w.row, name: f.name, rest: f.rest, version: version}
	return nil
}

// takeMore makes it the next cell of __more.
func (w *walk) takeMore(e *Encoder, it *item) error {
	version := e.more.versions.fixed[w.more]
	order := bytes.Compare(w.lastName, w.moreName)
	if order > 0 || order == 0 && w.lastVersion <= version {
		return fmt.Errorf("%s: %q, version %d, is out of order", MoreColumn, w.moreName, version)
	}
	*it = item{view: w.moreView, row: w.more, name: w.moreName, rest: rest(w.moreName), version: version}
	w.lastName, w.lastVersion = w.moreName, version
	w.more++
	return w.readMore(e)
}

// readMore reads the name and the type of the next entry of __more, if there is
// one.
func (w *walk) readMore(e *Encoder) (err error) {
	if w.more == w.moreEnd {
		return nil
	}
	if w.moreName, err = e.more.name(w.more); err != nil {
		return fmt.Errorf("%s: %w", MoreColumn, err)
	}
	if w.moreView, err = e.more.value(w.more); err != nil {
		return fmt.Errorf("%s: %q: %w", MoreColumn, w.moreName, err)
	}
	return nil
}

// end checks what can only be told when all cells of the row have passed.
func (w *walk) end(e *Encoder) error {
	if w.versions < w.versionsEnd {
		name, err := e.versions.name(w.versions)
		if err != nil {
			return fmt.Errorf("%s: %w", VersionsColumn, err)
		}
		return fmt.Errorf("%s: %q is not the name of a column that is set, or is out of order", VersionsColumn, name)
	}
	has := e.version.has(w.row)
	if has && w.votes.cells == 0 {
		return fmt.Errorf("%s is set, but no column is", VersionColumn)
	}
	if has && w.votes.winner != e.version.fixed[w.row] {
		return fmt.Errorf("%s is %d, but the columns' versions make it %d", VersionColumn, e.version.fixed[w.row], w.votes.winner)
	}
	return nil
}

// appendKeyCells appends the start of row i: its primary key. It returns the
// checksum over those of its cells.
func (e *Encoder) appendKeyCells(dst []byte, i int) ([]byte, byte) {
	dst = append(dst, tagKey)
	var crc byte
	for c := range e.fields[:e.keys] {
		if e.replacement != nil && c == e.replaced {
			dst = append(dst, e.replacement...)
			crc = crcByte(crc, e.crc)
			continue
		}
		f := &e.fields[c]
		size := 6 + len(f.name) + 6 + f.size(i) + 2
		var p []byte
		dst, p = extend(dst, size)
		body, end := putValue(p, f.name, &f.view, i)
		of := sumOf(f.rest, p, body, end).checksum()
		p[end], p[end+1] = tagCellChecksum, of
		crc = crcByte(crc, of)
	}
	return dst, crc
}

// appendCell appends a cell and returns its checksum.
func appendCell(dst []byte, it *item) ([]byte, byte) {
	if it.view.kind == integer || it.view.kind == double {
		return appendFixed(dst, it)
	}
	dst, p := extend(dst, it.size())
	body, end := putValue(p, it.name, it.view, it.row)
	p[end] = tagVersion
	binary.LittleEndian.PutUint64(p[end+1:], uint64(it.version))
	crc := sumOf(it.rest, p, body, end).add8(bits.ReverseBytes64(uint64(it.version))).checksum()
	p[end+9], p[end+10] = tagCellChecksum, crc
	return dst, crc
}

// appendFixed is appendCell for an integer or a double.
func appendFixed(dst []byte, it *item) ([]byte, byte) {
	dst, p := extend(dst, 6+len(it.name)+fixedSize)
	p[0], p[1] = tagCell, tagName
	binary.LittleEndian.PutUint32(p[2:], uint32(len(it.name)))
	copy(p[6:], it.name)
	p = p[6+len(it.name):]
	kind, value, version := it.view.kind, uint64(it.view.fixed[it.row]), uint64(it.version)
	s := sum{uint64(it.rest)<<8 | uint64(kind), bits.ReverseBytes64(value)}
	crc := s.add8(bits.ReverseBytes64(version)).checksum()
	_ = p[fixedSize-1]
	binary.LittleEndian.PutUint64(p, 0x00_00000009_05|uint64(kind)<<40)
	binary.LittleEndian.PutUint64(p[6:], value)
	p[14] = tagVersion
	binary.LittleEndian.PutUint64(p[15:], version)
	p[23], p[24] = tagCellChecksum, crc
	return dst, crc
}

// extend makes dst n bytes longer and returns these bytes too.
func extend(dst []byte, n int) (all, added []byte) {
	dst = slices.Grow(dst, n)[:len(dst)+n]
	return dst, dst[len(dst)-n:]
}

// putValue writes the start of a cell up to the end of its value. It returns
// where the bytes from the type of the value on start and end.
func putValue(p, name []byte, v *view, i int) (body, end int) {
	p[0], p[1] = tagCell, tagName
	binary.LittleEndian.PutUint32(p[2:], uint32(len(name)))
	body = 6 + copy(p[6:], name) + 5
	size := v.size(i)
	p[body-5] = tagValue
	binary.LittleEndian.PutUint32(p[body-4:], uint32(1+size))
	p[body] = byte(v.kind)
	end = body + 1 + size
	value := p[body+1 : end]
	switch v.kind {
	case integer, double:
		binary.LittleEndian.PutUint64(value, uint64(v.fixed[i]))
	case boolean:
		value[0] = v.bool(i)
	default:
		binary.LittleEndian.PutUint32(value, uint32(size-4))
		copy(value[4:], v.text(i))
	}
	return body, end
}
