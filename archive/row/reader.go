package row

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/manifest"
)

// reader finds the cells of rows on the wire.
type reader struct {
	layout   Layout
	keyKinds []kind
	keyHeads []string // what the key columns' cells start with
	keyRests []byte
	names    *names

	// Of the row at hand.
	key     []cell
	cells   cells
	scratch []byte // the row in canonical order
}

func newReader(l Layout) reader {
	r := reader{layout: l, key: make([]cell, len(l.Key))}
	for _, c := range l.Key {
		k, _ := kindOf(c.Type)
		r.keyKinds = append(r.keyKinds, k)
		r.keyHeads = append(r.keyHeads, string(cellHead(nil, c.Name)))
		r.keyRests = append(r.keyRests, rest([]byte(c.Name)))
	}
	var columns []string
	for _, c := range l.Columns {
		columns = append(columns, c.Name)
	}
	r.names = newNames(columns)
	return r
}

// appendKey appends the key of the row at hand.
func (r *reader) appendKey(dst manifest.Key, row []byte) manifest.Key {
	for i := range r.key {
		c := &r.key[i]
		dst = appendKeyValue(dst, c.kind, row[c.from:c.to])
	}
	return dst
}

// read finds the cells of the row at the head of wire, and reports whether the
// row is canonical as it stands.
func (r *reader) read(wire []byte) (end int, canonical bool, err error) {
	r.names.startRow()
	r.key, r.cells = r.key[:0], r.cells[:0]
	at, crc, err := r.readKey(wire)
	if err != nil {
		return 0, false, err
	}
	canonical = true
	if at < len(wire) && wire[at] == tagCells {
		if at, crc, canonical, err = r.readCells(wire, at+1, crc); err != nil {
			return 0, false, err
		}
	}
	end, err = readEnd(wire, at, crc)
	return end, canonical, err
}

// readKey reads the cells of the primary key and returns where they end and the
// checksum over theirs.
func (r *reader) readKey(wire []byte) (at int, crc byte, err error) {
	if len(wire) == 0 || wire[0] != tagKey {
		return 0, 0, fmt.Errorf("row does not start with a primary key: %w", errTag)
	}
	at = 1
	key := r.key[:len(r.keyHeads)]
	for i, head := range r.keyHeads {
		next := at + len(head)
		if next > len(wire) || string(wire[at:next]) != head {
			return 0, 0, fmt.Errorf("key column %d is not %q", i+1, r.layout.Key[i].Name)
		}
		c := &key[i]
		c.start = at
		if at, err = c.readKey(wire, next, r.keyRests[i]); err != nil {
			return 0, 0, fmt.Errorf("key column %q: %w", r.layout.Key[i].Name, err)
		}
		if c.kind != r.keyKinds[i] {
			return 0, 0, fmt.Errorf("key column %q: value is not %s", r.layout.Key[i].Name, r.layout.Key[i].Type)
		}
		r.key = key[:i+1]
		crc = crcByte(crc, c.crc)
	}
	if at < len(wire) && wire[at] == tagCell {
		return 0, 0, fmt.Errorf("more than %d key columns", len(r.keyHeads))
	}
	return at, crc, nil
}

// readCells reads the attribute cells from at on and returns where they end, the
// checksum over theirs, and whether they are canonical: there are some, by name,
// newest first.
func (r *reader) readCells(wire []byte, at int, crc byte) (end int, crc2 byte, canonical bool, err error) {
	var before int32
	ordered := true
	for at < len(wire) && wire[at] == tagCell {
		id, next, ascending, err := r.names.read(wire, at, before)
		if err != nil {
			return 0, 0, false, fmt.Errorf("cell %d: %w", len(r.cells)+1, err)
		}
		c := r.cells.add(at, id)
		if at, err = c.readAttribute(wire, next, r.names.list[id].rest); err != nil {
			return 0, 0, false, fmt.Errorf("attribute %q: %w", r.names.list[id].text, err)
		}
		if !ascending && len(r.cells) > 1 {
			prev := &r.cells[len(r.cells)-2]
			ordered = ordered && id == before && c.version < prev.version
		}
		before = id
		crc = crcByte(crc, c.crc)
	}
	return at, crc, ordered && len(r.cells) > 0, nil
}

// reorder puts the cells in canonical order and returns the row that way, with
// the cells standing in it.
func (r *reader) reorder(wire []byte) ([]byte, error) {
	list := r.names.list
	slices.SortFunc(r.cells, func(x, y cell) int {
		if x.name != y.name {
			return strings.Compare(list[x.name].text, list[y.name].text)
		}
		return cmp.Compare(y.version, x.version)
	})
	row := append(r.scratch[:0], wire[:r.key[len(r.key)-1].to+keyTail]...)
	var crc byte
	for i := range r.key {
		crc = crcByte(crc, r.key[i].crc)
	}
	if len(r.cells) > 0 {
		row = append(row, tagCells)
	}
	for i := range r.cells {
		c := &r.cells[i]
		if i > 0 && c.name == r.cells[i-1].name && c.version == r.cells[i-1].version {
			return nil, fmt.Errorf("attribute %q: version %d: %w", list[c.name].text, c.version, errTwice)
		}
		crc = crcByte(crc, c.crc)
		moved := len(row) - c.start
		row = append(row, wire[c.start:c.to+attributeTail]...)
		c.move(moved)
	}
	r.scratch = append(row, tagRowChecksum, crcByte(crc, 0))
	return r.scratch, nil
}

// move says that the cell stands n bytes further on.
func (c *cell) move(n int) {
	c.start += n
	c.from += n
	c.to += n
}
