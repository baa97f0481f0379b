package local

import (
	"encoding/binary"
	"maps"
	"slices"
)

// A matrix is the other form a scan's rows can have: names once, then the values
// of every row in their order, without versions.
const (
	matrixMagic      = 0x304d5253 // SRM0
	matrixRow        = 0x02
	matrixRowCount   = 0x03
	matrixEntireKeys = 0x0A
	matrixSum        = 0x01
	matrixAbsent     = 0x06 // the type of a value that is not there
)

// asMatrix turns the rows found, of which no cell has two versions, into a
// matrix.
func (f *scanned) asMatrix(entireKeys bool) error {
	rows, err := f.parse()
	if err != nil {
		return err
	}
	keys, columns := matrixNames(rows)
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(keys)))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(columns)))
	for _, name := range slices.Concat(keys, columns) {
		head = binary.LittleEndian.AppendUint16(head, uint16(len(name)))
		head = append(head, name...)
	}
	options := binary.LittleEndian.AppendUint32([]byte{matrixRowCount}, uint32(len(rows)))
	options = append(options, matrixEntireKeys, 0)
	if entireKeys {
		options[len(options)-1] = 1
	}
	const fixed = 3 * 4 // the magic and two offsets
	out := binary.LittleEndian.AppendUint32(make([]byte, headRoom, len(f.buf)), matrixMagic)
	out = binary.LittleEndian.AppendUint32(out, uint32(fixed+len(head)+len(options)))
	out = binary.LittleEndian.AppendUint32(out, uint32(fixed+len(head)))
	out = append(append(out, head...), options...)
	for _, r := range rows {
		out = appendMatrixRow(out, r, columns)
	}
	f.buf = append(out, matrixSum, crc8(0, out[headRoom:]))
	f.matrix = true
	return nil
}

// parse reads back the rows found.
func (f *scanned) parse() ([]row, error) {
	var rows []row
	for wire := f.buf[headRoom+4:]; len(wire) > 0; {
		var r row
		var err error
		if wire, err = parseRow(wire, &r); err != nil {
			return nil, errStored()
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// matrixNames returns the names of the key columns and, in byte order, of all
// attributes any row has.
func matrixNames(rows []row) (keys, columns []string) {
	seen := map[string]bool{}
	for i, r := range rows {
		for _, c := range r.key {
			if i == 0 {
				keys = append(keys, string(c.name))
			}
		}
		for _, c := range r.cells {
			seen[string(c.name)] = true
		}
	}
	return keys, slices.Sorted(maps.Keys(seen))
}

// appendMatrixRow appends the values of a row, whose cells are in the order of
// columns.
func appendMatrixRow(out []byte, r row, columns []string) []byte {
	out = append(out, matrixRow)
	for _, c := range r.key {
		out = append(out, c.value...)
	}
	cells := r.cells
	for _, name := range columns {
		if len(cells) == 0 || string(cells[0].name) != name {
			out = append(out, matrixAbsent)
			continue
		}
		out = append(out, cells[0].value...)
		cells = cells[1:]
	}
	return out
}
