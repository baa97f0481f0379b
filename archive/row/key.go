package row

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/otsnap/otsnap/manifest"
)

// A key is the values of its columns one after the other. An INTEGER is 8 bytes,
// big-endian, with the sign bit flipped. A STRING or BINARY is its bytes with
// every zero byte followed by ff, and two zero bytes after them. So the key of
// the first columns is a prefix of every key that continues it, and sorts first.

const signBit = 1 << 63

// appendKeyValue appends the form a value on the wire has in a key.
func appendKeyValue(dst []byte, k kind, value []byte) []byte {
	if k == integer {
		return binary.BigEndian.AppendUint64(dst, binary.LittleEndian.Uint64(value)^signBit)
	}
	for {
		zero := bytes.IndexByte(value, 0)
		if zero < 0 {
			return append(append(dst, value...), 0, 0)
		}
		dst = append(append(dst, value[:zero+1]...), 0xff)
		value = value[zero+1:]
	}
}

// cutKeyValue returns the first value of a key as it stands on the wire, appended
// to dst, and the rest of the key.
func cutKeyValue(dst []byte, k kind, key []byte) (value, rest []byte, err error) {
	if k == integer {
		if len(key) < 8 {
			return nil, nil, errShort
		}
		return binary.LittleEndian.AppendUint64(dst, binary.BigEndian.Uint64(key)^signBit), key[8:], nil
	}
	for {
		zero := bytes.IndexByte(key, 0)
		if zero < 0 || zero+1 == len(key) {
			return nil, nil, errShort
		}
		dst = append(dst, key[:zero]...)
		escape := key[zero+1]
		key = key[zero+2:]
		switch escape {
		case 0:
			return dst, key, nil
		case 0xff:
			dst = append(dst, 0)
		default:
			return nil, nil, errors.New("zero byte is followed by neither 00 nor ff")
		}
	}
}

// CutKey cuts a key, which must be that long, after its first n columns. Neither
// part is a copy.
func CutKey(cols []manifest.KeyColumn, k manifest.Key, n int) (head, tail manifest.Key, err error) {
	tail = k
	var value []byte
	for _, c := range cols[:n] {
		of, _ := kindOf(c.Type)
		if value, tail, err = cutKeyValue(value[:0], of, tail); err != nil {
			return nil, nil, fmt.Errorf("row: key column %q: %w", c.Name, err)
		}
	}
	return k[:len(k)-len(tail)], tail, nil
}

// ParseKey returns the key in a PlainBuffer of one row that has nothing but a
// primary key, as the service names split points and where to read on. The key
// ends before the first column that is absent or INF_MIN. Bytes after the row
// are ignored, because some clients add zeros.
func ParseKey(cols []manifest.KeyColumn, wire []byte) (manifest.Key, error) {
	body, err := ParseHeader(wire)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(cols, body)
	if err != nil {
		return nil, fmt.Errorf("row: key: %w", err)
	}
	return key, nil
}

func parseKey(cols []manifest.KeyColumn, wire []byte) (manifest.Key, error) {
	cells, err := readKeyRow(wire)
	if err != nil {
		return nil, err
	}
	if len(cells) > len(cols) {
		return nil, fmt.Errorf("%d columns, the table has %d", len(cells), len(cols))
	}
	key := manifest.Key{}
	open := true // no INF_MIN yet
	for i, c := range cells {
		if name := string(c.nameOf(wire)); name != cols[i].Name {
			return nil, fmt.Errorf("column %d is %q, want %q", i+1, name, cols[i].Name)
		}
		want, _ := kindOf(cols[i].Type)
		open = open && c.kind != infMin
		if !open {
			continue
		}
		if c.kind != want {
			return nil, fmt.Errorf("column %q: value is not %s", cols[i].Name, cols[i].Type)
		}
		key = appendKeyValue(key, c.kind, wire[c.from:c.to])
	}
	return key, nil
}

// readKeyRow reads the row at the head of wire, which must have no attributes.
func readKeyRow(wire []byte) ([]cell, error) {
	cells, at, crc, err := readKeyCells(wire)
	if err != nil {
		return nil, err
	}
	if at < len(wire) && wire[at] == tagCells {
		return nil, errors.New("carries attributes")
	}
	_, err = readEnd(wire, at, crc)
	return cells, err
}

// readKeyCells reads the primary key of a row, whatever its columns are. It
// returns where they end and the checksum over theirs.
func readKeyCells(wire []byte) (cells []cell, at int, crc byte, err error) {
	if len(wire) == 0 || wire[0] != tagKey {
		return nil, 0, 0, fmt.Errorf("row does not start with a primary key: %w", errTag)
	}
	at = 1
	for at < len(wire) && wire[at] == tagCell {
		if len(cells) == maxKey {
			return nil, 0, 0, fmt.Errorf("more than %d key columns", maxKey)
		}
		name, next, err := readName(wire, at)
		if err != nil {
			return nil, 0, 0, fmt.Errorf("key column %d: %w", len(cells)+1, err)
		}
		c := cell{start: at}
		if at, err = c.readKey(wire, next, rest(name)); err != nil {
			return nil, 0, 0, fmt.Errorf("key column %q: %w", name, err)
		}
		cells = append(cells, c)
		crc = crcByte(crc, c.crc)
	}
	return cells, at, crc, nil
}

// AppendBound appends a key as a bound of a range to read: a PlainBuffer of one
// row, in which the columns a short key leaves out are INF_MIN. The empty key is
// the start of the table, or with end its end, where all columns are INF_MAX.
func AppendBound(dst []byte, cols []manifest.KeyColumn, k manifest.Key, end bool) ([]byte, error) {
	absent := infMin
	if end && len(k) == 0 {
		absent = infMax
	}
	out, crc, err := appendKeyRow(AppendHeader(dst), cols, k, absent)
	if err != nil {
		return dst, err
	}
	return append(out, tagRowChecksum, crcByte(crc, 0)), nil
}

// AppendDeletion appends the change that deletes the row with a key, which must
// be whole: a PlainBuffer of one row.
func AppendDeletion(dst []byte, cols []manifest.KeyColumn, k manifest.Key) ([]byte, error) {
	out, crc, err := appendKeyRow(AppendHeader(dst), cols, k, null)
	if err != nil {
		return dst, err
	}
	return append(out, tagDeleted, tagRowChecksum, crcByte(crc, 1)), nil
}

// appendKeyRow appends the start of a row: its primary key, with absent for the
// columns a short key leaves out, null if none may be. It returns the checksum
// over those of its cells.
func appendKeyRow(dst []byte, cols []manifest.KeyColumn, k manifest.Key, absent kind) ([]byte, byte, error) {
	out := append(dst, tagKey)
	var crc byte
	var value []byte
	for _, c := range cols {
		has := absent
		if len(k) > 0 || absent == null {
			has, _ = kindOf(c.Type)
			var err error
			if value, k, err = cutKeyValue(value[:0], has, k); err != nil {
				return dst, 0, fmt.Errorf("row: key column %q: %w", c.Name, err)
			}
		}
		var of byte
		out, of = appendKeyCell(out, c.Name, has, value)
		crc = crcByte(crc, of)
	}
	if len(k) > 0 {
		return dst, 0, fmt.Errorf("row: key has %d bytes more than the table's columns", len(k))
	}
	return out, crc, nil
}

// appendKeyCell appends a cell of a primary key and returns its checksum.
func appendKeyCell(dst []byte, name string, k kind, value []byte) ([]byte, byte) {
	dst = cellHead(dst, name)
	body := len(dst) + 5
	dst = appendValue(dst, k, value)
	crc := sumOf(rest([]byte(name)), dst, body, len(dst)).checksum()
	return append(dst, tagCellChecksum, crc), crc
}

// appendValue appends a value with its tag. Kinds that are no values ignore it.
func appendValue(dst []byte, k kind, value []byte) []byte {
	size := 1
	switch {
	case k.hasLength():
		size += 4 + len(value)
	case k.typ() != "":
		size += len(value)
	default:
		value = nil
	}
	dst = append(dst, tagValue)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(size))
	dst = append(dst, byte(k))
	if k.hasLength() {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(value)))
	}
	return append(dst, value...)
}

// FormatKey writes a key for people: ("US", 5391959, 0xff00). What does not print
// is escaped. A short key has fewer values.
func FormatKey(cols []manifest.KeyColumn, k manifest.Key) string {
	var parts []string
	left := []byte(k)
	for _, c := range cols {
		if len(left) == 0 {
			break
		}
		of, _ := kindOf(c.Type)
		value, after, err := cutKeyValue(nil, of, left)
		if err != nil {
			return "malformed key 0x" + k.String()
		}
		parts = append(parts, newValue(of, value).String())
		left = after
	}
	if len(left) > 0 {
		return "malformed key 0x" + k.String()
	}
	return "(" + strings.Join(parts, ", ") + ")"
}
