package pages

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
)

// dictionary numbers the distinct values of a column in the order in which they
// come first.
type dictionary struct {
	entries values
	indexes []uint32 // of each value, its entry
	slots   []uint32 // by hash: an entry, plus one
	shift   int      // of a hash, to a slot
}

// seed has no part in what comes out.
var seed = maphash.MakeSeed()

// build numbers the values, unless there are more than limit distinct ones.
func (d *dictionary) build(v *values, limit int) bool {
	d.entries = values{kind: v.kind, fixed: d.entries.fixed[:0], spans: d.entries.spans[:0], data: v.data}
	d.indexes = slices.Grow(d.indexes[:0], v.n)
	d.resize(1 << 10)
	for i := range v.n {
		if i > 0 && v.same(i-1, i) {
			d.indexes = append(d.indexes, d.indexes[len(d.indexes)-1])
			continue
		}
		x := d.number(v, i)
		if d.entries.n > limit {
			return false
		}
		d.indexes = append(d.indexes, x)
	}
	return true
}

func (v *values) same(i, j int) bool {
	if v.isFixed() {
		return v.fixed[i] == v.fixed[j]
	}
	return bytes.Equal(v.text(i), v.text(j))
}

func (v *values) isFixed() bool { return v.kind == arrow.INT64 || v.kind == arrow.FLOAT64 }

func (v *values) hash(i int) uint64 {
	if v.isFixed() {
		x := v.fixed[i] * 0x9e3779b97f4a7c15
		return x ^ x>>32*0x9e3779b97f4a7c15
	}
	return maphash.Bytes(seed, v.text(i))
}

// number returns the number of a value, which may be new.
func (d *dictionary) number(v *values, i int) uint32 {
	for at := v.hash(i) >> d.shift; ; at = (at + 1) & uint64(len(d.slots)-1) {
		entry := d.slots[at]
		if entry == 0 {
			d.slots[at] = uint32(d.entries.n) + 1
			d.add(v, i)
			return uint32(d.entries.n) - 1
		}
		if d.has(int(entry)-1, v, i) {
			return entry - 1
		}
	}
}

func (d *dictionary) has(entry int, v *values, i int) bool {
	if v.isFixed() {
		return d.entries.fixed[entry] == v.fixed[i]
	}
	return bytes.Equal(d.entries.text(entry), v.text(i))
}

func (d *dictionary) add(v *values, i int) {
	if v.isFixed() {
		d.entries.fixed = append(d.entries.fixed, v.fixed[i])
	} else {
		d.entries.spans = append(d.entries.spans, v.spans[i])
	}
	d.entries.n++
	if 2*d.entries.n > len(d.slots) {
		d.resize(4 * len(d.slots))
	}
}

// resize makes room for n entries, a power of two, and finds the slots of those
// there are.
func (d *dictionary) resize(n int) {
	d.slots = slices.Grow(d.slots[:0], n)[:n]
	clear(d.slots)
	d.shift = 64 - bits.TrailingZeros(uint(n))
	for i := range d.entries.n {
		at := d.entries.hash(i) >> d.shift
		for d.slots[at] != 0 {
			at = (at + 1) & uint64(n-1)
		}
		d.slots[at] = uint32(i) + 1
	}
}

// size returns how many bytes the entries have in PLAIN.
func (v *values) size() int {
	if v.isFixed() {
		return 8 * v.n
	}
	sum := 4 * v.n
	for _, s := range v.spans {
		sum += int(s.to - s.from)
	}
	return sum
}

// appendIndexes appends the numbers of the values from to to-1 in the encoding
// RLE_DICTIONARY.
func (d *dictionary) appendIndexes(dst []byte, from, to int) []byte {
	width := bits.Len(uint(max(d.entries.n-1, 0)))
	return appendHybrid(append(dst, byte(width)), d.indexes[from:to], width)
}
