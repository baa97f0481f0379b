package row

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/otsnap/otsnap/manifest"
)

// The tags of PlainBuffer.
const (
	tagKey          = 0x01
	tagCells        = 0x02
	tagCell         = 0x03
	tagName         = 0x04
	tagValue        = 0x05
	tagOperation    = 0x06
	tagVersion      = 0x07
	tagDeleted      = 0x08
	tagRowChecksum  = 0x09
	tagCellChecksum = 0x0A
)

// kind is the type of a value on the wire.
type kind byte

const (
	integer kind = 0x00
	double  kind = 0x01
	boolean kind = 0x02
	text    kind = 0x03
	null    kind = 0x06
	blob    kind = 0x07
	infMin  kind = 0x09
	infMax  kind = 0x0A
	auto    kind = 0x0B
)

// cellKinds are the kinds a cell can have, in the order of the fields of __more.
var cellKinds = []kind{integer, double, boolean, text, blob}

// keyKinds are the kinds a primary key column can have.
var keyKinds = []kind{integer, text, blob}

func kindOf(t manifest.Type) (kind, bool) {
	for _, k := range cellKinds {
		if k.typ() == t {
			return k, true
		}
	}
	return null, false
}

// typ returns the name of a kind; the empty string if values cannot have it.
func (k kind) typ() manifest.Type {
	switch k {
	case integer:
		return manifest.Integer
	case double:
		return manifest.Double
	case boolean:
		return manifest.Boolean
	case text:
		return manifest.String
	case blob:
		return manifest.Binary
	}
	return ""
}

// hasLength reports whether the length of a value stands before its bytes.
func (k kind) hasLength() bool { return k == text || k == blob }

// What can be wrong with a cell. The reader of a row adds where.
var (
	errShort     = errors.New("bytes end too soon")
	errTag       = errors.New("unexpected tag")
	errLength    = errors.New("length does not fit the value")
	errKind      = errors.New("unknown type of value")
	errBoolean   = errors.New("boolean is neither 0 nor 1")
	errNull      = errors.New("no value")
	errOperation = errors.New("carries an operation")
	errVersion   = errors.New("no version")
	errVersioned = errors.New("key column with a version")
	errName      = fmt.Errorf("name is not 1 to %d bytes long", maxName)
	errChecksum  = errors.New("checksum differs")
	errTwice     = errors.New("version stands twice")
)

const headerSize = 4

// AppendHeader appends the bytes a buffer of rows starts with.
func AppendHeader(dst []byte) []byte { return append(dst, 0x75, 0, 0, 0) }

// ParseHeader returns what follows the header of a buffer of rows. A response
// without rows has no header either: ask it only about one that is not empty.
func ParseHeader(wire []byte) (rest []byte, err error) {
	if len(wire) < headerSize || binary.LittleEndian.Uint32(wire) != 0x75 {
		return nil, errors.New("row: no PlainBuffer header")
	}
	return wire[headerSize:], nil
}

// cell is where a cell stands on the wire.
type cell struct {
	start    int // of the cell
	from, to int // the value
	version  int64
	name     int32 // number of the name, see [names]
	kind     kind
	crc      byte
	promoted bool // stands in a column of its own
}

// cells are those of a row, in memory used again for the next row.
type cells []cell

// add adds the cell at start and returns it, for the reader of the cell to fill
// in. The cell is not written as a whole: this runs for every cell there is.
func (s *cells) add(start int, name int32) *cell {
	if len(*s) == cap(*s) {
		*s = append(*s, cell{})
	} else {
		*s = (*s)[:len(*s)+1]
	}
	c := &(*s)[len(*s)-1]
	c.start, c.name, c.promoted = start, name, false
	return c
}

// What a cell has after its value: in a primary key its checksum, else its
// version before that.
const (
	keyTail       = 2
	attributeTail = 9 + keyTail
)

// nameOf returns the name of a cell.
func (c *cell) nameOf(wire []byte) []byte { return wire[c.start+6 : c.body()-5] }

// body returns where the bytes from the type of the value on start.
func (c *cell) body() int {
	if c.kind.hasLength() {
		return c.from - 5
	}
	return c.from - 1
}

// readName returns the name of the cell at start and what follows it.
func readName(wire []byte, start int) (name []byte, next int, err error) {
	if len(wire)-start < 6 {
		return nil, 0, errShort
	}
	if wire[start] != tagCell || wire[start+1] != tagName {
		return nil, 0, errTag
	}
	size := int(binary.LittleEndian.Uint32(wire[start+2:]))
	if size < 1 || size > maxName {
		return nil, 0, errName
	}
	next = start + 6 + size
	if next > len(wire) {
		return nil, 0, errShort
	}
	return wire[start+6 : next], next, nil
}

// readValue reads the value at the given place and leaves c.to after it. It
// accepts every kind, also those no cell can have.
func (c *cell) readValue(wire []byte, at int) error {
	if len(wire)-at < 6 {
		return errShort
	}
	if wire[at] != tagValue {
		return errNull
	}
	size := int(binary.LittleEndian.Uint32(wire[at+1:]))
	body := at + 5
	if size < 1 || size > len(wire)-body {
		return errShort
	}
	c.kind = kind(wire[body])
	c.from = body + 1
	c.to = body + size
	switch c.kind {
	case integer, double:
		if size != 9 {
			return errLength
		}
	case text, blob:
		c.from += 4
		if size < 5 || int(binary.LittleEndian.Uint32(wire[body+1:])) != size-5 {
			return errLength
		}
	case boolean:
		if size != 2 {
			return errLength
		}
		if wire[c.from] > 1 {
			return errBoolean
		}
	case null, infMin, infMax, auto:
		if size != 1 {
			return errLength
		}
	default:
		return errKind
	}
	return nil
}

// readKey reads a cell of a primary key after its name, of which rest is the
// rest. It returns the place after the cell.
func (c *cell) readKey(wire []byte, at int, rest byte) (end int, err error) {
	if err := c.readValue(wire, at); err != nil {
		return 0, err
	}
	if len(wire)-c.to < keyTail {
		return 0, errShort
	}
	if err := checkTag(wire[c.to], tagCellChecksum); err != nil {
		return 0, err
	}
	c.crc = sumOf(rest, wire, c.body(), c.to).checksum()
	return c.to + keyTail, c.check(wire[c.to+1])
}

// readAttribute reads a cell with a version after its name, of which rest is
// the rest. It returns the place after the cell.
func (c *cell) readAttribute(wire []byte, at int, rest byte) (end int, err error) {
	if len(wire)-at >= fixedSize && isFixed(wire[at:]) {
		return c.readFixed(wire, at, rest)
	}
	if err := c.readValue(wire, at); err != nil {
		return 0, err
	}
	if c.kind.typ() == "" {
		return 0, errNull
	}
	tail := wire[c.to:]
	if len(tail) < attributeTail {
		return 0, shortTail(tail)
	}
	if err := checkTag(tail[0], tagVersion); err != nil {
		return 0, err
	}
	if err := checkTag(tail[9], tagCellChecksum); err != nil {
		return 0, err
	}
	c.version = int64(binary.LittleEndian.Uint64(tail[1:]))
	c.crc = sumOf(rest, wire, c.body(), c.to).add8(binary.BigEndian.Uint64(tail[1:])).checksum()
	return c.to + attributeTail, c.check(tail[10])
}

// fixedSize is the size of a cell with an integer or a double after its name.
const fixedSize = 5 + 9 + attributeTail

// isFixed reports whether p starts with an integer or a double in full.
func isFixed(p []byte) bool {
	// The tag, the length 9, and the type: 0 or 1.
	const mask, want = 0xfe_ffffffff_ff, 0x00_00000009_05
	return binary.LittleEndian.Uint64(p)&mask == want && p[14] == tagVersion && p[23] == tagCellChecksum
}

// readFixed is readAttribute where isFixed.
func (c *cell) readFixed(wire []byte, at int, rest byte) (end int, err error) {
	p := wire[at : at+fixedSize]
	c.kind = kind(p[5])
	c.from, c.to = at+6, at+14
	c.version = int64(binary.LittleEndian.Uint64(p[15:]))
	s := sum{uint64(rest)<<8 | uint64(p[5]), binary.BigEndian.Uint64(p[6:])}
	c.crc = s.add8(binary.BigEndian.Uint64(p[15:])).checksum()
	return at + fixedSize, c.check(p[24])
}

func (c *cell) check(crc byte) error {
	if crc != c.crc {
		return errChecksum
	}
	return nil
}

// shortTail says what is wrong with the end of a cell that is too short to have
// a version.
func shortTail(tail []byte) error {
	if len(tail) > 0 && checkTag(tail[0], tagVersion) != nil {
		return checkTag(tail[0], tagVersion)
	}
	return errShort
}

// checkTag says what the tag after a value means if it is not the one wanted.
func checkTag(got, want byte) error {
	switch {
	case got == want:
		return nil
	case got == tagOperation:
		return errOperation
	case want == tagVersion && got == tagCellChecksum:
		return errVersion
	case want == tagCellChecksum && got == tagVersion:
		return errVersioned
	}
	return errTag
}

// readEnd reads the end of a row, given the checksum over those of its cells,
// and returns the place after it.
func readEnd(wire []byte, at int, crc byte) (next int, err error) {
	if len(wire)-at < 2 {
		return 0, errShort
	}
	if wire[at] == tagDeleted {
		return 0, errors.New("carries a delete marker")
	}
	if wire[at] != tagRowChecksum {
		return 0, errTag
	}
	if wire[at+1] != crcByte(crc, 0) {
		return 0, fmt.Errorf("row %w", errChecksum)
	}
	return at + 2, nil
}
