package row

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/otsnap/otsnap/manifest"
)

// Row is a row taken apart, to say how two rows differ.
type Row struct {
	Key   []Value
	Cells []Cell // by name, newest first
}

// Cell is one version of an attribute.
type Cell struct {
	Name    string
	Version int64 // milliseconds since 1970
	Value   Value
}

// Value is a value of any type. Two values are equal, with ==, if type and every
// bit are: -0.0 differs from 0.0, and a DOUBLE from the INTEGER next to it.
type Value struct {
	kind kind
	num  uint64
	text string
}

// newValue returns the value that stands on the wire.
func newValue(k kind, value []byte) Value {
	switch k {
	case integer, double:
		return Value{kind: k, num: binary.LittleEndian.Uint64(value)}
	case boolean:
		return Value{kind: k, num: uint64(value[0])}
	}
	return Value{kind: k, text: string(value)}
}

// Type returns the type of the value.
func (v Value) Type() manifest.Type { return v.kind.typ() }

// String writes the value for people: 17, 1.5, true, "text", 0xff00. What does
// not print is escaped, and a long value is cut.
func (v Value) String() string {
	switch v.kind {
	case integer:
		return strconv.FormatInt(int64(v.num), 10)
	case double:
		return formatDouble(math.Float64frombits(v.num))
	case boolean:
		return strconv.FormatBool(v.num == 1)
	case text:
		return shorten(v.text, strconv.Quote)
	case blob:
		return shorten(v.text, func(s string) string { return "0x" + hex.EncodeToString([]byte(s)) })
	}
	return "none"
}

// formatDouble writes a double so that it cannot be taken for an integer.
func formatDouble(f float64) string {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if strings.ContainsAny(s, ".eIN") {
		return s
	}
	return s + ".0"
}

// shorten formats the head of a long value and says how long it is.
func shorten(s string, format func(string) string) string {
	const enough = 256
	if len(s) <= enough {
		return format(s)
	}
	return fmt.Sprintf("%s… (%d bytes)", format(s[:enough]), len(s))
}

// Parse takes apart the one row that wire is, without the buffer's header. It
// accepts what [Builder.Append] does, whatever the key columns are.
func Parse(wire []byte) (Row, error) {
	r, err := parse(wire)
	if err != nil {
		return Row{}, fmt.Errorf("row: %w", err)
	}
	return r, nil
}

func parse(wire []byte) (Row, error) {
	key, at, crc, err := readKeyCells(wire)
	if err != nil {
		return Row{}, err
	}
	if len(key) == 0 {
		return Row{}, errors.New("no primary key")
	}
	var r Row
	for _, c := range key {
		if !slices.Contains(keyKinds, c.kind) {
			return Row{}, fmt.Errorf("key column %q: %w", c.nameOf(wire), errKind)
		}
		r.Key = append(r.Key, newValue(c.kind, wire[c.from:c.to]))
	}
	if at < len(wire) && wire[at] == tagCells {
		if r.Cells, at, crc, err = parseCells(wire, at+1, crc); err != nil {
			return Row{}, err
		}
	}
	end, err := readEnd(wire, at, crc)
	if err != nil {
		return Row{}, err
	}
	if end != len(wire) {
		return Row{}, fmt.Errorf("%d bytes follow the row", len(wire)-end)
	}
	return r, nil
}

// parseCells reads the attribute cells from at on and puts them in order. It
// returns where they end and the checksum over theirs.
func parseCells(wire []byte, at int, crc byte) (cells []Cell, end int, crc2 byte, err error) {
	for at < len(wire) && wire[at] == tagCell {
		name, next, err := readName(wire, at)
		if err != nil {
			return nil, 0, 0, fmt.Errorf("cell %d: %w", len(cells)+1, err)
		}
		var c cell
		if at, err = c.readAttribute(wire, next, rest(name)); err != nil {
			return nil, 0, 0, fmt.Errorf("attribute %q: %w", name, err)
		}
		cells = append(cells, Cell{string(name), c.version, newValue(c.kind, wire[c.from:c.to])})
		crc = crcByte(crc, c.crc)
	}
	slices.SortStableFunc(cells, canonical)
	for i := range cells[min(1, len(cells)):] {
		if cells[i].Name == cells[i+1].Name && cells[i].Version == cells[i+1].Version {
			return nil, 0, 0, fmt.Errorf("attribute %q: version %d: %w", cells[i].Name, cells[i].Version, errTwice)
		}
	}
	return cells, at, crc, nil
}
