package row

import (
	"encoding/binary"

	"github.com/otsnap/otsnap/manifest"
)

// Read makes r row i of the record given to [Encoder.Reset]: its key, and its
// cells by name and newest first. The slices of r are used again; names and
// values are copies. A row no [Builder] would have made is an error.
func (e *Encoder) Read(r *Row, i int) error {
	w, err := e.start(i)
	if err != nil {
		return err
	}
	r.Key, r.Cells = r.Key[:0], r.Cells[:0]
	for c := range e.fields[:e.keys] {
		r.Key = append(r.Key, e.fields[c].value(i))
	}
	var it item
	for {
		ok, err := w.next(e, &it)
		if err != nil {
			return e.explain(i, err)
		}
		if !ok {
			return nil
		}
		r.Cells = append(r.Cells, Cell{Name: string(it.name), Version: it.version, Value: it.view.value(it.row)})
	}
}

// value returns value i of an array.
func (v *view) value(i int) Value {
	switch v.kind {
	case integer, double:
		return Value{kind: v.kind, num: uint64(v.fixed[i])}
	case boolean:
		return Value{kind: v.kind, num: uint64(v.bool(i))}
	}
	return Value{kind: v.kind, text: string(v.text(i))}
}

// IntegerValue returns an INTEGER.
func IntegerValue(n int64) Value { return Value{kind: integer, num: uint64(n)} }

// StringValue returns a STRING.
func StringValue(s string) Value { return Value{kind: text, text: s} }

// BinaryValue returns a BINARY.
func BinaryValue(b []byte) Value { return Value{kind: blob, text: string(b)} }

// AppendKey appends the form a value of a key column has in a key. The value is
// an INTEGER, a STRING or a BINARY.
func AppendKey(dst manifest.Key, v Value) manifest.Key {
	if v.kind == integer {
		return appendKeyValue(dst, integer, binary.LittleEndian.AppendUint64(nil, v.num))
	}
	return appendKeyValue(dst, v.kind, []byte(v.text))
}

// Following returns the smallest bound that is after every key that starts with
// k; nil if that is the end of the table. So the rows from k to Following(k) are
// those whose keys start with k, and the one whose key is k if k is whole.
func Following(k manifest.Key) manifest.Key {
	for n := len(k); n > 0; n-- {
		if k[n-1] < 0xff {
			after := append(manifest.Key{}, k[:n]...)
			after[n-1]++
			return after
		}
	}
	return nil
}
