package row

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// vector grows a buffer of an Arrow array. When the buffer is handed over, the
// next one starts as large as it was.
type vector[T byte | int32 | int64] struct {
	mem   memory.Allocator
	buf   *memory.Buffer
	items []T // as long as was written, with the capacity of buf
	size  int // of a T in bytes
	last  int // items in the buffer handed over last
}

func newVector[T byte | int32 | int64](mem memory.Allocator) vector[T] {
	return vector[T]{mem: mem, size: len(arrow.GetBytes([]T{0}))}
}

func (v *vector[T]) add(x T) {
	if len(v.items) == cap(v.items) {
		v.grow(1)
	}
	v.items = append(v.items, x)
}

func (v *vector[T]) addAll(p []T) {
	if cap(v.items)-len(v.items) < len(p) {
		v.grow(len(p))
	}
	n := len(v.items)
	v.items = v.items[:n+len(p)]
	copy(v.items[n:], p)
}

// pad fills up to n items with x.
func (v *vector[T]) pad(n int, x T) {
	missing := n - len(v.items)
	if missing <= 0 {
		return
	}
	if cap(v.items)-len(v.items) < missing {
		v.grow(missing)
	}
	from := len(v.items)
	v.items = v.items[:n]
	for i := from; i < n; i++ {
		v.items[i] = x
	}
}

func (v *vector[T]) grow(n int) {
	const least = 64
	if v.buf == nil {
		v.buf = memory.NewResizableBuffer(v.mem)
	}
	used := len(v.items)
	v.buf.Reserve(max(used+n, 2*cap(v.items), v.last, least) * v.size)
	v.items = arrow.GetData[T](v.buf.Buf())[:used]
}

// take hands over the buffer.
func (v *vector[T]) take() *memory.Buffer {
	buf := v.buf
	if buf == nil {
		buf = memory.NewResizableBuffer(v.mem)
	}
	buf.ResizeNoShrink(len(v.items) * v.size)
	v.last = len(v.items)
	v.buf, v.items = nil, nil
	return buf
}

// bitmap is a vector of bits.
type bitmap struct{ vector[byte] }

// set makes bit i one; bits before it that were not set are zero.
func (b *bitmap) set(i int) {
	if i>>3 >= len(b.items) {
		b.pad(i>>3+1, 0)
	}
	b.items[i>>3] |= 1 << (i & 7)
}

// fill makes the first n bits one. None was set before.
func (b *bitmap) fill(n int) {
	b.pad(n>>3, 0xff)
	if n&7 != 0 {
		b.add(1<<(n&7) - 1)
	}
}

// column grows one Arrow array. Only what is there is written: the nulls before
// a value are filled in when it comes, so an absent attribute costs nothing, and
// so costs to say of each that it is there until the first that is absent.
type column struct {
	kind     kind
	required bool
	count    int           // values that are not null
	valid    bitmap        // empty while no value is null, and when there is none at all
	fixed    vector[int64] // of an integer or a double, its bits
	bools    bitmap
	starts   vector[int32] // of a text or a blob
	bytes    vector[byte]
}

func newColumn(mem memory.Allocator, k kind, required bool) column {
	return column{
		kind:     k,
		required: required,
		valid:    bitmap{newVector[byte](mem)},
		fixed:    newVector[int64](mem),
		bools:    bitmap{newVector[byte](mem)},
		starts:   newVector[int32](mem),
		bytes:    newVector[byte](mem),
	}
}

// set gives row i a value as it stands on the wire. Rows come in order.
func (c *column) set(i int, value []byte) {
	switch c.kind {
	case integer, double:
		c.setFixed(i, int64(binary.LittleEndian.Uint64(value)))
		return
	case boolean:
		if value[0] == 1 {
			c.bools.set(i)
		}
	default:
		start := int32(len(c.bytes.items))
		if i > len(c.starts.items) {
			c.starts.pad(i, start)
		}
		c.starts.add(start)
		c.bytes.addAll(value)
	}
	c.mark(i)
}

func (c *column) setFixed(i int, value int64) {
	if i > len(c.fixed.items) {
		c.fixed.pad(i, 0)
	}
	c.fixed.add(value)
	c.mark(i)
}

// mark says that there is a value i.
func (c *column) mark(i int) {
	if c.count != i {
		c.markBehindGap(i)
	}
	c.count++
}

// markBehindGap is mark where values before i are null.
func (c *column) markBehindGap(i int) {
	c.startValid()
	c.valid.set(i)
}

// startValid makes the bitmap, behind the values that are there without a gap.
func (c *column) startValid() {
	if len(c.valid.items) == 0 {
		c.valid.fill(c.count)
	}
}

// take hands over the array of n rows.
func (c *column) take(n int) arrow.ArrayData {
	buffers := []*memory.Buffer{c.takeValid(n)}
	switch c.kind {
	case integer, double:
		c.fixed.pad(n, 0)
		buffers = append(buffers, c.fixed.take())
	case boolean:
		c.bools.pad(bytesFor(n), 0)
		buffers = append(buffers, c.bools.take())
	default:
		c.starts.pad(n+1, int32(len(c.bytes.items)))
		buffers = append(buffers, c.starts.take(), c.bytes.take())
	}
	nulls := n - c.count
	c.count = 0
	return newData(arrowType(c.kind.typ()), n, buffers, nil, nulls)
}

// takeValid hands over the bitmap of the rows that are not null, nil if all are.
func (c *column) takeValid(n int) *memory.Buffer {
	if c.required {
		return nil
	}
	c.startValid()
	c.valid.pad(bytesFor(n), 0)
	return c.valid.take()
}

func bytesFor(bits int) int { return (bits + 7) / 8 }

// newData makes the data of an array and passes to it what it is made of.
func newData(t arrow.DataType, n int, buffers []*memory.Buffer, children []arrow.ArrayData, nulls int) arrow.ArrayData {
	data := array.NewData(t, n, buffers, children, nulls, 0)
	for _, b := range buffers {
		if b != nil {
			b.Release()
		}
	}
	for _, c := range children {
		c.Release()
	}
	return data
}

// list grows an array of lists of structs, whose first fields are the name and
// the version of a cell.
type list struct {
	typ      *arrow.ListType
	starts   vector[int32]
	names    column
	versions column
	values   []column // in the order of cellKinds; none in the column __tsx
	n        int      // entries
}

func newList(mem memory.Allocator, fields []arrow.Field) list {
	l := list{
		typ:      listOf(fields),
		starts:   newVector[int32](mem),
		names:    newColumn(mem, text, true),
		versions: newColumn(mem, integer, true),
	}
	for i := range fields[len(versionFields()):] {
		l.values = append(l.values, newColumn(mem, cellKinds[i], false))
	}
	return l
}

// add adds an entry to the list of row i. Rows come in order.
func (l *list) add(i int, name []byte, version int64) {
	l.starts.pad(i+1, int32(l.n))
	l.names.set(l.n, name)
	l.versions.setFixed(l.n, version)
	l.n++
}

// addValue adds an entry with a value to the list of row i.
func (l *list) addValue(i int, name []byte, version int64, k kind, value []byte) {
	l.values[fieldOf(k)].set(l.n, value)
	l.add(i, name, version)
}

// fieldOf returns the index of a kind in cellKinds.
func fieldOf(k kind) int {
	if k == blob {
		return 4
	}
	return int(k)
}

// take hands over the array of n lists.
func (l *list) take(n int) arrow.ArrayData {
	l.starts.pad(n+1, int32(l.n))
	children := []arrow.ArrayData{l.names.take(l.n), l.versions.take(l.n)}
	for i := range l.values {
		children = append(children, l.values[i].take(l.n))
	}
	entries := newData(l.typ.Elem(), l.n, []*memory.Buffer{nil}, children, 0)
	l.n = 0
	return newData(l.typ, n, []*memory.Buffer{nil, l.starts.take()}, []arrow.ArrayData{entries}, 0)
}
