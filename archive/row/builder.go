package row

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/manifest"
)

// Builder turns rows on the wire into batches. It is not safe for concurrent
// use.
type Builder struct {
	layout   Layout
	schema   *arrow.Schema
	kinds    []kind   // of the promoted columns, by number of their name; [0] is none
	keyHeads []string // what the key columns' cells start with
	keyRests []byte
	names    *names

	keys     []column
	columns  []column // by number of their name; [0] is none
	version  column
	versions list
	more     list

	// Of the row at hand.
	key     []cell
	cells   []cell
	scratch []byte // its leaf, or the row in canonical order

	rows   int
	bytes  int64
	count  int64 // cells
	leaves []manifest.Hash
}

// maxBatch is how large a batch can be in PlainBuffer, because the offsets of an
// array have 32 bits.
const maxBatch = math.MaxInt32

// NewBuilder returns a Builder of batches in a layout made by [NewLayout]. Their
// memory comes from mem.
func NewBuilder(mem memory.Allocator, l Layout) *Builder {
	b := &Builder{
		layout:   l,
		schema:   l.Schema(),
		kinds:    []kind{null},
		columns:  make([]column, 1),
		version:  newColumn(mem, integer, false),
		versions: newList(mem, versionFields()),
		more:     newList(mem, moreFields()),
		key:      make([]cell, len(l.Key)),
	}
	for _, c := range l.Key {
		k, _ := kindOf(c.Type)
		b.keys = append(b.keys, newColumn(mem, k, true))
		b.keyHeads = append(b.keyHeads, string(cellHead(nil, c.Name)))
		b.keyRests = append(b.keyRests, rest([]byte(c.Name)))
	}
	var columns []string
	for _, c := range l.Columns {
		k, _ := kindOf(c.Type)
		columns = append(columns, c.Name)
		b.kinds = append(b.kinds, k)
		b.columns = append(b.columns, newColumn(mem, k, false))
	}
	b.names = newNames(columns)
	return b
}

// explain says which row of the batch an error is about, by its key where that
// was read.
func (b *Builder) explain(wire []byte, err error) error {
	if len(b.key) < len(b.keys) {
		return fmt.Errorf("row: row %d: %w", b.rows+1, err)
	}
	var key manifest.Key
	for i := range b.key {
		c := &b.key[i]
		key = appendKeyValue(key, c.kind, wire[c.from:c.to])
	}
	return fmt.Errorf("row: key %s: %w", FormatKey(b.layout.Key, key), err)
}

// Rows returns the number of rows appended since the last batch.
func (b *Builder) Rows() int { return b.rows }

// Bytes returns their size in PlainBuffer.
func (b *Builder) Bytes() int64 { return b.bytes }

// Append adds the row at the head of wire, without the buffer's header, and
// returns what follows it. The row must be what a read returns: exactly the key
// columns of the layout, cells with a version and a value, each version of a
// cell once, no delete marker, and every checksum right. Cells out of order are
// put in order. The bytes are copied.
//
// When Append returns an error the Builder is as it was before.
func (b *Builder) Append(wire []byte) (rest []byte, err error) {
	end, ordered, err := b.read(wire)
	if err != nil {
		return nil, b.explain(wire, err)
	}
	row := wire[:end]
	if !ordered {
		if row, err = b.reorder(row); err != nil {
			return nil, b.explain(wire, err)
		}
	}
	if b.bytes+int64(len(row)) > maxBatch {
		return nil, b.explain(wire, errors.New("the batch would be larger than 2 GiB"))
	}
	b.leaves = append(b.leaves, manifest.LeafHash(row))
	b.add(row)
	return wire[end:], nil
}

// read finds the cells of the row at the head of wire, and reports whether the
// row is canonical as it stands.
func (b *Builder) read(wire []byte) (end int, canonical bool, err error) {
	b.names.startRow()
	b.key, b.cells = b.key[:0], b.cells[:0]
	at, crc, err := b.readKey(wire)
	if err != nil {
		return 0, false, err
	}
	canonical = true
	if at < len(wire) && wire[at] == tagCells {
		if at, crc, canonical, err = b.readCells(wire, at+1, crc); err != nil {
			return 0, false, err
		}
	}
	end, err = readEnd(wire, at, crc)
	return end, canonical, err
}

// readKey reads the cells of the primary key and returns where they end and the
// checksum over theirs.
func (b *Builder) readKey(wire []byte) (at int, crc byte, err error) {
	if len(wire) == 0 || wire[0] != tagKey {
		return 0, 0, fmt.Errorf("row does not start with a primary key: %w", errTag)
	}
	at = 1
	for i, head := range b.keyHeads {
		next := at + len(head)
		if next > len(wire) || string(wire[at:next]) != head {
			return 0, 0, fmt.Errorf("key column %d is not %q", i+1, b.layout.Key[i].Name)
		}
		c := cell{start: at}
		if at, err = c.readKey(wire, next, b.keyRests[i]); err != nil {
			return 0, 0, fmt.Errorf("key column %q: %w", b.layout.Key[i].Name, err)
		}
		if c.kind != b.keys[i].kind {
			return 0, 0, fmt.Errorf("key column %q: value is not %s", b.layout.Key[i].Name, b.layout.Key[i].Type)
		}
		b.key = append(b.key, c)
		crc = crcByte(crc, c.crc)
	}
	if at < len(wire) && wire[at] == tagCell {
		return 0, 0, fmt.Errorf("more than %d key columns", len(b.keyHeads))
	}
	return at, crc, nil
}

// readCells reads the attribute cells from at on and returns where they end, the
// checksum over theirs, and whether they are canonical: there are some, by name,
// newest first.
func (b *Builder) readCells(wire []byte, at int, crc byte) (end int, crc2 byte, canonical bool, err error) {
	var before int32
	ordered := true
	for at < len(wire) && wire[at] == tagCell {
		id, next, ascending, err := b.names.read(wire, at, before)
		if err != nil {
			return 0, 0, false, fmt.Errorf("cell %d: %w", len(b.cells)+1, err)
		}
		b.cells = append(b.cells, cell{start: at, name: id})
		c := &b.cells[len(b.cells)-1]
		if at, err = c.readAttribute(wire, next, b.names.list[id].rest); err != nil {
			return 0, 0, false, fmt.Errorf("attribute %q: %w", b.names.list[id].text, err)
		}
		if !ascending && len(b.cells) > 1 {
			prev := &b.cells[len(b.cells)-2]
			ordered = ordered && id == before && c.version < prev.version
		}
		before = id
		crc = crcByte(crc, c.crc)
	}
	return at, crc, ordered && len(b.cells) > 0, nil
}

// reorder puts the cells in canonical order and returns the row that way, with
// the cells standing in it.
func (b *Builder) reorder(wire []byte) ([]byte, error) {
	list := b.names.list
	slices.SortFunc(b.cells, func(x, y cell) int {
		if x.name != y.name {
			return strings.Compare(list[x.name].text, list[y.name].text)
		}
		return cmp.Compare(y.version, x.version)
	})
	row := append(b.scratch[:0], wire[:b.key[len(b.key)-1].to+keyTail]...)
	var crc byte
	for i := range b.key {
		crc = crcByte(crc, b.key[i].crc)
	}
	if len(b.cells) > 0 {
		row = append(row, tagCells)
	}
	for i := range b.cells {
		c := &b.cells[i]
		if i > 0 && c.name == b.cells[i-1].name && c.version == b.cells[i-1].version {
			return nil, fmt.Errorf("attribute %q: version %d: %w", list[c.name].text, c.version, errTwice)
		}
		crc = crcByte(crc, c.crc)
		moved := len(row) - c.start
		row = append(row, wire[c.start:c.to+attributeTail]...)
		c.move(moved)
	}
	b.scratch = append(row, tagRowChecksum, crcByte(crc, 0))
	return b.scratch, nil
}

// move says that the cell stands n bytes further on.
func (c *cell) move(n int) {
	c.start += n
	c.from += n
	c.to += n
}

// add writes the row whose cells were found to the columns.
func (b *Builder) add(row []byte) {
	for i := range b.key {
		b.keys[i].set(b.rows, row[b.key[i].from:b.key[i].to])
	}
	var votes vote
	for i := 0; i < len(b.cells); {
		first := &b.cells[i]
		if b.promotes(first) {
			b.columns[first.name].set(b.rows, row[first.from:first.to])
			votes.cast(first.version)
			first.promoted = true
			i++
		}
		for ; i < len(b.cells) && b.cells[i].name == first.name; i++ {
			c := &b.cells[i]
			b.more.addValue(b.rows, c.nameOf(row), c.version, c.kind, row[c.from:c.to])
		}
	}
	b.addVersions(row, votes)
	b.rows++
	b.bytes += int64(len(row))
	b.count += int64(len(b.cells))
}

// promotes reports whether the newest version of an attribute belongs in its
// column.
func (b *Builder) promotes(c *cell) bool {
	return int(c.name) < len(b.kinds) && b.kinds[c.name] == c.kind
}

// addVersions writes the version of the row, and those of the cells in columns
// that have another.
func (b *Builder) addVersions(row []byte, votes vote) {
	if votes.cells == 0 {
		return
	}
	b.version.setFixed(b.rows, votes.winner)
	if votes.unanimous() {
		return
	}
	for i := range b.cells {
		c := &b.cells[i]
		if c.promoted && c.version != votes.winner {
			b.versions.add(b.rows, c.nameOf(row), c.version)
		}
	}
}

// Batch hands over the rows appended since the last batch, possibly none, and
// starts anew. The caller releases the record.
func (b *Builder) Batch() Batch {
	n := b.rows
	arrays := make([]arrow.Array, 0, b.schema.NumFields())
	take := func(data arrow.ArrayData) {
		arrays = append(arrays, array.MakeFromData(data))
		data.Release()
	}
	for i := range b.keys {
		take(b.keys[i].take(n))
	}
	for i := range b.columns[1:] {
		take(b.columns[i+1].take(n))
	}
	take(b.version.take(n))
	take(b.versions.take(n))
	take(b.more.take(n))
	batch := Batch{
		Record: array.NewRecordBatch(b.schema, arrays, int64(n)),
		Leaves: b.leaves,
		Cells:  b.count,
		Bytes:  b.bytes,
	}
	for _, a := range arrays {
		a.Release()
	}
	b.leaves = make([]manifest.Hash, 0, n)
	b.rows, b.bytes, b.count = 0, 0, 0
	return batch
}
