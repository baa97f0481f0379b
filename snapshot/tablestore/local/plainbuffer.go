package local

import (
	"encoding/binary"
	"math"
)

// PlainBuffer is how rows travel: a header, then rows one after another, all
// integers little-endian.
//
//	buffer = header row*
//	row    = [keyTag cell*] [cellsTag cell*] [deleteTag] [extensionTag len32 ...] rowSumTag sum
//	cell   = cellTag nameTag len32 name [valueTag len32 value] [opTag op] [versionTag int64] cellSumTag sum
//	value  = type [len32] payload
const (
	header = 0x75

	tagKey     = 0x01
	tagCells   = 0x02
	tagCell    = 0x03
	tagName    = 0x04
	tagValue   = 0x05
	tagOp      = 0x06
	tagVersion = 0x07
	tagDelete  = 0x08
	tagRowSum  = 0x09
	tagCellSum = 0x0A

	tagExtension = 0x0B // of a row in a stream, and what is in it
	tagSequence  = 0x0C
	tagEpoch     = 0x0D
	tagTime      = 0x0E
	tagRowIndex  = 0x0F
)

// What a cell of an UpdateRow does. A cell without one is a put.
const (
	opNone             = 0x00
	opDeleteAll        = 0x01
	opDeleteOneVersion = 0x03
	opIncrement        = 0x04
)

// Types of values. The last three occur in primary keys only: the ends of an
// axis in the bounds of a range, and the column the server fills in.
const (
	typeInteger       = 0x00
	typeDouble        = 0x01
	typeBoolean       = 0x02
	typeString        = 0x03
	typeNull          = 0x06
	typeBinary        = 0x07
	typeInfMin        = 0x09
	typeInfMax        = 0x0A
	typeAutoIncrement = 0x0B
)

// value is a type byte and its payload, exactly the bytes a cell's checksum
// covers: a string or binary carries its length before its bytes.
type value []byte

func integerValue(v int64) value {
	return binary.LittleEndian.AppendUint64(value{typeInteger}, uint64(v))
}

// bytesValue makes a string or a binary, as t says.
func bytesValue(t byte, b []byte) value {
	return append(binary.LittleEndian.AppendUint32(value{t}, uint32(len(b))), b...)
}

func (v value) integer() int64  { return int64(binary.LittleEndian.Uint64(v[1:])) }
func (v value) double() float64 { return math.Float64frombits(binary.LittleEndian.Uint64(v[1:])) }
func (v value) bytes() []byte   { return v[5:] }

// size is what the service counts for a value.
func (v value) size() int {
	switch v[0] {
	case typeInteger, typeDouble:
		return 8
	case typeBoolean:
		return 1
	case typeString, typeBinary:
		return len(v) - 5
	}
	return 0
}

// check refuses a value whose length does not follow from its type, so that
// the accessors above can trust it.
func (v value) check() error {
	if len(v) == 0 {
		return broken("data format is invalid.")
	}
	want := -1
	switch v[0] {
	case typeInteger, typeDouble:
		want = 9
	case typeBoolean:
		want = 2
	case typeString, typeBinary:
		if len(v) >= 5 && uint64(binary.LittleEndian.Uint32(v[1:])) == uint64(len(v)-5) {
			return nil
		}
		return broken("Cell data broken, wrong string format, size: %d.", len(v))
	case typeNull, typeInfMin, typeInfMax, typeAutoIncrement:
		want = 1
	default:
		return broken("data format is invalid, unknown variant type occured.")
	}
	if len(v) != want {
		return broken("data format is invalid.")
	}
	return nil
}

// cell is one cell of a row. Its slices alias the buffer it was parsed from.
type cell struct {
	name       []byte
	value      value // nil when the cell carries none
	version    int64
	hasVersion bool
	op         byte
	sum        byte
	raw        []byte // from the cell's tag to its checksum
}

// makeCell builds a plain cell: a name and a value, with a version when the
// column is an attribute.
func makeCell(name []byte, v value, version int64, hasVersion bool) cell {
	raw, sum := appendCell(make([]byte, 0, len(name)+len(v)+24), name, v, version, hasVersion)
	return cell{name: name, value: v, version: version, hasVersion: hasVersion, sum: sum, raw: raw}
}

// appendCell appends a cell to raw and returns its checksum.
func appendCell(raw, name []byte, v value, version int64, hasVersion bool) ([]byte, byte) {
	raw = append(raw, tagCell, tagName)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(len(name)))
	raw = append(raw, name...)
	sum := crc8(0, name)

	raw = append(raw, tagValue)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(len(v)))
	raw = append(raw, v...)
	sum = crc8(sum, v)

	if hasVersion {
		raw = append(raw, tagVersion)
		raw = binary.LittleEndian.AppendUint64(raw, uint64(version))
		sum = crc8(sum, raw[len(raw)-8:])
	}
	return append(raw, tagCellSum, sum), sum
}

// appendDated appends to arena a cell without a version as it is with one, and
// returns the arena and the cell in it. What was in the arena before stays where
// cells point to it.
func appendDated(arena []byte, c cell, version int64) ([]byte, cell) {
	start := len(arena)
	arena = append(arena, c.raw[:len(c.raw)-2]...) // but its checksum
	arena = append(arena, tagVersion)
	arena = binary.LittleEndian.AppendUint64(arena, uint64(version))
	c.sum = crc8(c.sum, arena[len(arena)-8:])
	arena = append(arena, tagCellSum, c.sum)
	c.version, c.hasVersion, c.raw = version, true, arena[start:len(arena):len(arena)]
	return arena, c
}

// row is a parsed row. Parsing into a row used before reuses its memory.
type row struct {
	key     []cell
	cells   []cell
	deleted bool // carries a delete marker
}

// parseBuffer reads the header and the one row of a request's buffer. Bytes
// after the row are ignored: the Node.js SDK leaves some behind its range
// bounds.
func parseBuffer(buf []byte, r *row) error {
	if len(buf) < 4 {
		return broken("Input encoded PK broken, length is shorter than expect.")
	}
	if got := binary.LittleEndian.Uint32(buf); got != header {
		return broken("Cell data broken, mismatch header, actual: %d, expect: %d.", got, header)
	}
	_, err := parseRow(buf[4:], r)
	return err
}

// parseRow reads one row from the head of wire into r and returns what follows
// it. Every checksum is verified.
func parseRow(wire []byte, r *row) (rest []byte, err error) {
	r.key, r.cells, r.deleted = r.key[:0], r.cells[:0], false
	var sum byte
	if !startsWith(wire, tagKey) {
		return nil, broken("Cell data broken, PK is empty.")
	}
	if r.key, wire, sum, err = parseCells(r.key, wire[1:], 0); err != nil {
		return nil, err
	}
	if len(r.key) == 0 {
		return nil, broken("Cell data broken, no PK follow PKTag.")
	}
	if startsWith(wire, tagCells) {
		if r.cells, wire, sum, err = parseCells(r.cells, wire[1:], sum); err != nil {
			return nil, err
		}
		if len(r.cells) == 0 {
			return nil, broken("Cell data broken, no Cells follow CellTag.")
		}
	}
	marker := byte(0)
	if startsWith(wire, tagDelete) {
		r.deleted, marker, wire = true, 1, wire[1:]
	}
	if startsWith(wire, tagExtension) { // of a record of a stream
		if _, wire, err = parseBytes(wire[1:]); err != nil {
			return nil, err
		}
	}
	sum = crc8Byte(sum, marker)
	if len(wire) < 2 || wire[0] != tagRowSum {
		return nil, broken("Cell data broken, row is not end with checksum tag.")
	}
	if wire[1] != sum {
		return nil, broken("Cell data broken, checksum is mismatch, %d:%d.", wire[1], sum)
	}
	return wire[2:], nil
}

func startsWith(wire []byte, tag byte) bool { return len(wire) > 0 && wire[0] == tag }

// parseCells appends the cells at the head of wire to cells and carries on the
// row's checksum, which is that of its cells' checksums.
func parseCells(cells []cell, wire []byte, sum byte) ([]cell, []byte, byte, error) {
	for startsWith(wire, tagCell) {
		cells = append(cells, cell{})
		c := &cells[len(cells)-1]
		rest, err := parseCell(wire, c)
		if err != nil {
			return nil, nil, 0, err
		}
		wire, sum = rest, crc8Byte(sum, c.sum)
	}
	return cells, wire, sum, nil
}

// parseCell reads the cell at the head of wire, whose tag has been seen.
func parseCell(wire []byte, c *cell) (rest []byte, err error) {
	rest = wire[1:]
	if !startsWith(rest, tagName) {
		return nil, broken("Cell data broken, attr has no name.")
	}
	if c.name, rest, err = parseBytes(rest[1:]); err != nil {
		return nil, err
	}
	sum := crc8(0, c.name)

	if startsWith(rest, tagValue) {
		if c.value, rest, err = parseBytes(rest[1:]); err != nil {
			return nil, err
		}
		if err := c.value.check(); err != nil {
			return nil, err
		}
		sum = crc8(sum, c.value)
	}
	// On the wire the operation comes before the version, in the checksum after.
	hasOp := false
	if startsWith(rest, tagOp) {
		if len(rest) < 2 {
			return nil, errShort()
		}
		if c.op = rest[1]; c.op == opNone {
			return nil, broken("Invalid op type of cell: %d.", c.op)
		}
		hasOp, rest = true, rest[2:]
	}
	if startsWith(rest, tagVersion) {
		if len(rest) < 9 {
			return nil, errShort()
		}
		c.version, c.hasVersion = int64(binary.LittleEndian.Uint64(rest[1:])), true
		sum = crc8(sum, rest[1:9])
		rest = rest[9:]
	}
	if hasOp {
		sum = crc8Byte(sum, c.op)
	}
	if len(rest) < 2 || rest[0] != tagCellSum {
		return nil, broken("Cell data broken, cell is not end with checksum[0x0A] tag.")
	}
	if rest[1] != sum {
		return nil, broken("Cell data broken, checksum is mismatch, %d:%d.", rest[1], sum)
	}
	c.sum = sum
	c.raw = wire[:len(wire)-len(rest)+2]
	return rest[2:], nil
}

// parseBytes reads a length and so many bytes.
func parseBytes(wire []byte) (b, rest []byte, err error) {
	if len(wire) < 4 {
		return nil, nil, errShort()
	}
	n := binary.LittleEndian.Uint32(wire)
	if uint64(n) > uint64(len(wire)-4) {
		return nil, nil, errShort()
	}
	return wire[4 : 4+n : 4+n], wire[4+n:], nil
}

func errShort() error { return broken("Input encoded PK broken, length is shorter than expect.") }

func appendHeader(dst []byte) []byte { return binary.LittleEndian.AppendUint32(dst, header) }

// appendRow appends a row of plain cells.
func appendRow(dst []byte, key, cells []cell) []byte {
	dst, sum := appendCells(dst, key, cells)
	return append(dst, tagRowSum, crc8Byte(sum, 0))
}

// appendCells appends the cells of a row and returns the checksum of theirs.
func appendCells(dst []byte, key, cells []cell) ([]byte, byte) {
	dst = append(dst, tagKey)
	sum := byte(0)
	for i := range key {
		dst, sum = append(dst, key[i].raw...), crc8Byte(sum, key[i].sum)
	}
	if len(cells) > 0 {
		dst = append(dst, tagCells)
	}
	for i := range cells {
		dst, sum = append(dst, cells[i].raw...), crc8Byte(sum, cells[i].sum)
	}
	return dst, sum
}

// appendRecord appends a row as a stream has it: what was written, a marker when
// the row was deleted, and when that was, in microseconds.
func appendRecord(dst []byte, key, cells []cell, deleted bool, at int64) []byte {
	const (
		sequenceLen  = 1 + 4 + 1 + 8 + 1 + 4
		extensionLen = 1 + 4 + sequenceLen
	)
	dst, sum := appendCells(dst, key, cells)
	marker := byte(0)
	if deleted {
		dst, marker = append(dst, tagDelete), 1
	}
	dst = binary.LittleEndian.AppendUint32(append(dst, tagExtension), extensionLen)
	dst = binary.LittleEndian.AppendUint32(append(dst, tagSequence), sequenceLen)
	dst = binary.LittleEndian.AppendUint32(append(dst, tagEpoch), 0)
	dst = binary.LittleEndian.AppendUint64(append(dst, tagTime), uint64(at))
	dst = binary.LittleEndian.AppendUint32(append(dst, tagRowIndex), 0)
	return append(dst, tagRowSum, crc8Byte(sum, marker))
}

// crc8 carries sum on over b: polynomial x^8+x^2+x+1, no reflection.
func crc8(sum byte, b []byte) byte {
	for _, x := range b {
		sum = crcTable[sum^x]
	}
	return sum
}

func crc8Byte(sum, b byte) byte { return crcTable[sum^b] }

var crcTable = makeCRCTable()

func makeCRCTable() (table [256]byte) {
	for i := range table {
		x := byte(i)
		for range 8 {
			carry := x & 0x80
			x <<= 1
			if carry != 0 {
				x ^= 0x07
			}
		}
		table[i] = x
	}
	return table
}
