package row

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Compose appends a row that no record holds yet: its key, and its cells in
// canonical order. The service allows all its names and values; of one version of
// one cell there is one.
func Compose(dst []byte, key, cells []Cell) []byte {
	dst = append(dst, tagKey)
	var crc, of byte
	for _, c := range key {
		dst, of = appendKeyCell(dst, c.Name, c.Value.kind, c.Value.wire())
		crc = crcByte(crc, of)
	}
	if len(cells) > 0 {
		dst = append(dst, tagCells)
	}
	for _, c := range slices.SortedFunc(slices.Values(cells), canonical) {
		dst, of = composeCell(dst, c)
		crc = crcByte(crc, of)
	}
	return append(dst, tagRowChecksum, crcByte(crc, 0))
}

// canonical orders the cells of a row: by name, newest first.
func canonical(a, b Cell) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(b.Version, a.Version))
}

// composeCell appends an attribute and returns its checksum.
func composeCell(dst []byte, c Cell) ([]byte, byte) {
	dst = cellHead(dst, c.Name)
	body := len(dst) + 5
	dst = appendValue(dst, c.Value.kind, c.Value.wire())
	version := binary.LittleEndian.AppendUint64(nil, uint64(c.Version))
	crc := sumOf(rest([]byte(c.Name)), dst, body, len(dst)).add8(binary.BigEndian.Uint64(version)).checksum()
	dst = append(append(dst, tagVersion), version...)
	return append(dst, tagCellChecksum, crc), crc
}

// wire returns the value as it stands on the wire, after its type and length.
func (v Value) wire() []byte {
	switch v.kind {
	case integer, double:
		return binary.LittleEndian.AppendUint64(nil, v.num)
	case boolean:
		return []byte{byte(v.num)}
	}
	return []byte(v.text)
}

// Take takes the row at the head of wire apart and returns what follows it. It
// reads what answers about series have as well: any number of key columns, and
// cells without a version, which then is 0. Every checksum must be right.
func Take(wire []byte) (key, cells []Cell, rest []byte, err error) {
	key, cells, rest, err = take(wire)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("row: %w", err)
	}
	return key, cells, rest, nil
}

func take(wire []byte) (key, cells []Cell, rest []byte, err error) {
	if len(wire) == 0 || wire[0] != tagKey {
		return nil, nil, nil, fmt.Errorf("row does not start with a primary key: %w", errTag)
	}
	key, at, crc, err := takeCells(wire, 1, 0)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("key: %w", err)
	}
	if at < len(wire) && wire[at] == tagCells {
		if cells, at, crc, err = takeCells(wire, at+1, crc); err != nil {
			return nil, nil, nil, err
		}
	}
	end, err := readEnd(wire, at, crc)
	if err != nil {
		return nil, nil, nil, err
	}
	return key, cells, wire[end:], nil
}

// takeCells reads the cells from at on, and adds their checksums to crc.
func takeCells(wire []byte, at int, crc byte) ([]Cell, int, byte, error) {
	var cells []Cell
	for at < len(wire) && wire[at] == tagCell {
		name, next, err := readName(wire, at)
		if err != nil {
			return nil, 0, 0, fmt.Errorf("cell %d: %w", len(cells)+1, err)
		}
		var c cell
		if at, err = c.readAny(wire, next, rest(name)); err != nil {
			return nil, 0, 0, fmt.Errorf("cell %q: %w", name, err)
		}
		cells = append(cells, Cell{string(name), c.version, newValue(c.kind, wire[c.from:c.to])})
		crc = crcByte(crc, c.crc)
	}
	return cells, at, crc, nil
}

// readAny is readAttribute where the version may be missing.
func (c *cell) readAny(wire []byte, at int, rest byte) (end int, err error) {
	if err := c.readValue(wire, at); err != nil {
		return 0, err
	}
	if c.kind.typ() == "" {
		return 0, errNull
	}
	if c.to < len(wire) && wire[c.to] == tagVersion {
		return c.readAttribute(wire, at, rest)
	}
	return c.readKey(wire, at, rest)
}

// DoubleValue returns a DOUBLE.
func DoubleValue(f float64) Value { return Value{kind: double, num: math.Float64bits(f)} }

// BooleanValue returns a BOOLEAN.
func BooleanValue(b bool) Value {
	if b {
		return Value{kind: boolean, num: 1}
	}
	return Value{kind: boolean}
}

// Integer returns the value of an INTEGER.
func (v Value) Integer() int64 { return int64(v.num) }

// Double returns the value of a DOUBLE.
func (v Value) Double() float64 { return math.Float64frombits(v.num) }

// Boolean returns the value of a BOOLEAN.
func (v Value) Boolean() bool { return v.num == 1 }

// Text returns the bytes of a STRING or a BINARY.
func (v Value) Text() string { return v.text }
