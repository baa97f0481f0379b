package row

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Builder turns rows on the wire into batches. It is not safe for concurrent
// use.
type Builder struct {
	hasher
	schema *arrow.Schema
	kinds  []kind // of the promoted columns, by number of their name; [0] is none

	keys     []column
	columns  []column // by number of their name; [0] is none
	version  column
	versions list
	more     list
}

// NewBuilder returns a Builder of batches in a layout made by [NewLayout]. Their
// memory comes from mem.
func NewBuilder(mem memory.Allocator, l Layout) *Builder {
	b := &Builder{
		hasher:   hasher{reader: newReader(l)},
		schema:   l.Schema(),
		kinds:    []kind{null},
		columns:  make([]column, 1),
		version:  newColumn(mem, integer, false),
		versions: newList(mem, versionFields()),
		more:     newList(mem, moreFields()),
	}
	for _, k := range b.keyKinds {
		b.keys = append(b.keys, newColumn(mem, k, true))
	}
	for _, c := range l.Columns {
		k, _ := kindOf(c.Type)
		b.kinds = append(b.kinds, k)
		b.columns = append(b.columns, newColumn(mem, k, false))
	}
	return b
}

// Append adds the row at the head of wire, without the buffer's header, and
// returns what follows it. The row must be what a read returns: exactly the key
// columns of the layout, cells with a version and a value, each version of a
// cell once, no delete marker, and every checksum right. Cells out of order are
// put in order. The bytes are copied.
//
// When Append returns an error the Builder is as it was before.
func (b *Builder) Append(wire []byte) (rest []byte, err error) {
	row, rest, err := b.take(wire)
	if err != nil {
		return nil, err
	}
	b.add(row)
	return rest, nil
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
	b.note(row)
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
	batch := b.hand()
	batch.Record = array.NewRecordBatch(b.schema, arrays, int64(n))
	for _, a := range arrays {
		a.Release()
	}
	return batch
}
