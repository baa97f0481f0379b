package row

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// validity tells which values of an array are there.
type validity struct {
	bits []byte // nil: all
	at   int    // bit of the first value
}

func (v validity) has(i int) bool {
	i += v.at
	return v.bits == nil || v.bits[i/8]>>(i%8)&1 == 1
}

// view reads the values of an Arrow array in the form they have on the wire. It
// is made once for an array, and has checked that no index into it can fail.
type view struct {
	validity
	kind   kind
	fixed  []int64 // of an integer or a double, its bits
	bools  validity
	starts []int32 // of a text or a blob
	bytes  []byte
}

var errArray = errors.New("array is inconsistent")

func newView(a arrow.Array, k kind) (view, error) {
	if want := arrowType(k.typ()); a.DataType().ID() != want.ID() {
		return view{}, fmt.Errorf("type is %s, want %s", a.DataType(), want)
	}
	data := a.Data()
	v := view{kind: k}
	var err error
	if v.validity, err = newValidity(a); err != nil {
		return view{}, err
	}
	switch k {
	case integer, double:
		err = v.readFixed(data)
	case boolean:
		err = v.readBools(data)
	default:
		err = v.readBytes(data)
	}
	return v, err
}

func newValidity(a arrow.Array) (validity, error) {
	data := a.Data()
	buf := bufferOf(data, 0)
	if buf == nil || a.NullN() == 0 {
		return validity{}, nil
	}
	if len(buf) < bytesFor(data.Offset()+data.Len()) {
		return validity{}, errArray
	}
	return validity{buf, data.Offset()}, nil
}

func bufferOf(data arrow.ArrayData, i int) []byte {
	buffers := data.Buffers()
	if i >= len(buffers) || buffers[i] == nil {
		return nil
	}
	return buffers[i].Bytes()
}

func (v *view) readFixed(data arrow.ArrayData) error {
	all := arrow.GetData[int64](wholeWords(bufferOf(data, 1), 8))
	if len(all) < data.Offset()+data.Len() {
		return errArray
	}
	v.fixed = all[data.Offset():][:data.Len()]
	return nil
}

func (v *view) readBools(data arrow.ArrayData) error {
	v.bools = validity{bufferOf(data, 1), data.Offset()}
	if len(v.bools.bits) < bytesFor(data.Offset()+data.Len()) {
		return errArray
	}
	return nil
}

func (v *view) readBytes(data arrow.ArrayData) (err error) {
	v.bytes = bufferOf(data, 2)
	v.starts, err = offsets(data, len(v.bytes))
	return err
}

// offsets returns the offsets of an array's values, one more than there are
// values, ascending and within limit.
func offsets(data arrow.ArrayData, limit int) ([]int32, error) {
	if data.Len() == 0 {
		return []int32{0}, nil
	}
	all := arrow.GetData[int32](wholeWords(bufferOf(data, 1), 4))
	if len(all) < data.Offset()+data.Len()+1 {
		return nil, errArray
	}
	starts := all[data.Offset():][:data.Len()+1]
	last := int32(0)
	for _, s := range starts {
		if s < last {
			return nil, errArray
		}
		last = s
	}
	if int(last) > limit {
		return nil, errArray
	}
	return starts, nil
}

func wholeWords(p []byte, size int) []byte { return p[:len(p)/size*size] }

// text returns value i of an array of a kind that has a length.
func (v *view) text(i int) []byte { return v.bytes[v.starts[i]:v.starts[i+1]] }

// bool returns value i of an array of booleans as a byte.
func (v *view) bool(i int) byte {
	if v.bools.has(i) {
		return 1
	}
	return 0
}

// size returns how many bytes value i takes on the wire after its type.
func (v *view) size(i int) int {
	switch v.kind {
	case integer, double:
		return 8
	case boolean:
		return 1
	}
	return 4 + int(v.starts[i+1]-v.starts[i])
}

// listView reads an array of lists of structs, see [list].
type listView struct {
	starts   []int32
	entries  validity
	names    view
	versions view
	values   []view // in the order of cellKinds
}

func newListView(a arrow.Array, fields []arrow.Field) (listView, error) {
	lists, ok := a.(*array.List)
	if !ok {
		return listView{}, fmt.Errorf("type is %s, want a list", a.DataType())
	}
	entries, ok := lists.ListValues().(*array.Struct)
	if !ok || entries.NumField() != len(fields) {
		return listView{}, fmt.Errorf("type is %s, want a list of structs with %d fields", a.DataType(), len(fields))
	}
	if lists.NullN() > 0 {
		return listView{}, errors.New("a list is null, want an empty one")
	}
	var l listView
	var err error
	if l.starts, err = offsets(lists.Data(), entries.Len()); err != nil {
		return listView{}, err
	}
	if l.entries, err = newValidity(entries); err != nil {
		return listView{}, err
	}
	views := make([]view, len(fields))
	for i, f := range fields {
		k := []kind{text, integer}
		if i >= len(k) {
			k = append(k, cellKinds...)
		}
		if views[i], err = newField(entries, i, f.Name, k[i]); err != nil {
			return listView{}, err
		}
	}
	l.names, l.versions, l.values = views[0], views[1], views[2:]
	return l, nil
}

// newField returns the view of one field of the entries.
func newField(entries *array.Struct, i int, name string, k kind) (view, error) {
	if got := entries.DataType().(*arrow.StructType).Field(i).Name; got != name {
		return view{}, fmt.Errorf("field %d is %q, want %q", i+1, got, name)
	}
	field := entries.Field(i)
	if field.Len() != entries.Len() {
		return view{}, errArray
	}
	v, err := newView(field, k)
	if err != nil {
		return view{}, fmt.Errorf("field %q: %w", name, err)
	}
	return v, nil
}

// name checks entry i and returns its name.
func (l *listView) name(i int) ([]byte, error) {
	if !l.entries.has(i) || !l.names.has(i) || !l.versions.has(i) {
		return nil, errors.New("entry, its name or its version is null")
	}
	name := l.names.text(i)
	if len(name) < 1 || len(name) > maxName {
		return nil, errName
	}
	return name, nil
}

// value returns the one view in which entry i has its value.
func (l *listView) value(i int) (*view, error) {
	found := 0
	for j := range l.values {
		if l.values[j].has(i) {
			found |= 1 << j
		}
	}
	if bits.OnesCount(uint(found)) != 1 {
		return nil, fmt.Errorf("%d values, want one", bits.OnesCount(uint(found)))
	}
	return &l.values[bits.TrailingZeros(uint(found))], nil
}

// bounds returns the entries of list i.
func (l *listView) bounds(i int) (from, to int) { return int(l.starts[i]), int(l.starts[i+1]) }
