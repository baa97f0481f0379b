package pages

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// values are those of a column that are not null, one after the other. Integers
// and doubles are fixed, strings and binaries are spans of data, booleans bits.
type values struct {
	kind  arrow.Type
	n     int
	fixed []uint64
	data  []byte
	spans []span
	bools []uint32
}

type span struct{ from, to int32 }

func (v *values) text(i int) []byte { return v.data[v.spans[i].from:v.spans[i].to] }

// load makes v the values of a column of which valid tells those not null.
func (v *values) load(column arrow.Array, valid bitmap) {
	v.kind, v.n = column.DataType().ID(), valid.ones()
	v.fixed, v.spans, v.bools = v.fixed[:0], v.spans[:0], v.bools[:0]
	switch a := column.(type) {
	case *array.Int64:
		v.loadFixed(arrow.Uint64Traits.CastFromBytes(arrow.Int64Traits.CastToBytes(a.Int64Values())), valid)
	case *array.Float64:
		v.loadFixed(arrow.Uint64Traits.CastFromBytes(arrow.Float64Traits.CastToBytes(a.Float64Values())), valid)
	case *array.String:
		v.loadSpans(a.ValueOffsets(), a.Data().Buffers()[2].Bytes(), valid)
	case *array.Binary:
		v.loadSpans(a.ValueOffsets(), a.Data().Buffers()[2].Bytes(), valid)
	case *array.Boolean:
		v.loadBools(a, valid)
	}
}

func (v *values) loadFixed(from []uint64, valid bitmap) {
	if v.n == valid.n {
		v.fixed = append(v.fixed, from...)
		return
	}
	v.fixed = slices.Grow(v.fixed, v.n)[:v.n]
	at := 0
	for i := 0; i < valid.n; i += 64 {
		for word, _ := valid.word(i); word != 0; word &= word - 1 {
			v.fixed[at] = from[i+bits.TrailingZeros64(word)]
			at++
		}
	}
}

func (v *values) loadSpans(offsets []int32, data []byte, valid bitmap) {
	v.data = data
	v.spans = slices.Grow(v.spans, v.n)[:v.n]
	if v.n == valid.n {
		for i := range v.spans {
			v.spans[i] = span{offsets[i], offsets[i+1]}
		}
		return
	}
	at := 0
	for i := 0; i < valid.n; i += 64 {
		for word, _ := valid.word(i); word != 0; word &= word - 1 {
			j := i + bits.TrailingZeros64(word)
			v.spans[at] = span{offsets[j], offsets[j+1]}
			at++
		}
	}
}

func (v *values) loadBools(from *array.Boolean, valid bitmap) {
	v.bools = slices.Grow(v.bools, v.n)[:0]
	for i := 0; i < valid.n; i += 64 {
		for word, _ := valid.word(i); word != 0; word &= word - 1 {
			x := uint32(0)
			if from.Value(i + bits.TrailingZeros64(word)) {
				x = 1
			}
			v.bools = append(v.bools, x)
		}
	}
}

// appendPlain appends the values from to to-1 in the encoding PLAIN.
func (v *values) appendPlain(dst []byte, from, to int) []byte {
	switch v.kind {
	case arrow.BOOL:
		packed := appendPacked(dst, v.bools[from:to], 1)
		return packed[:len(dst)+(to-from+7)/8]
	case arrow.INT64, arrow.FLOAT64:
		dst = slices.Grow(dst, 8*(to-from))
		for _, x := range v.fixed[from:to] {
			dst = binary.LittleEndian.AppendUint64(dst, x)
		}
		return dst
	}
	for _, s := range v.spans[from:to] {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(s.to-s.from))
		dst = append(dst, v.data[s.from:s.to]...)
	}
	return dst
}

// appendSplit appends doubles in the encoding BYTE_STREAM_SPLIT: the first bytes
// of all values, then the second.
func appendSplit(dst []byte, doubles []uint64) []byte {
	n := len(doubles)
	at := len(dst)
	dst = slices.Grow(dst, 8*n)[:at+8*n]
	s := dst[at:]
	for i, x := range doubles {
		s[i] = byte(x)
		s[n+i] = byte(x >> 8)
		s[2*n+i] = byte(x >> 16)
		s[3*n+i] = byte(x >> 24)
		s[4*n+i] = byte(x >> 32)
		s[5*n+i] = byte(x >> 40)
		s[6*n+i] = byte(x >> 48)
		s[7*n+i] = byte(x >> 56)
	}
	return dst
}

// appendLengths appends strings or binaries in the encoding
// DELTA_LENGTH_BYTE_ARRAY: their lengths, as integers in DELTA_BINARY_PACKED, and
// then what they hold.
func (v *values) appendLengths(dst []byte, from, to int) []byte {
	lengths := v.fixed[:0] // strings have no other use for it
	for _, s := range v.spans[from:to] {
		lengths = append(lengths, uint64(s.to-s.from))
	}
	v.fixed = lengths[:0]
	dst = appendDelta(dst, lengths)
	for _, s := range v.spans[from:to] {
		dst = append(dst, v.data[s.from:s.to]...)
	}
	return dst
}

// fit returns where the page ends that starts at a value: after at most limit
// bytes in PLAIN, or after one value.
func (v *values) fit(from int, limit int) int {
	if v.kind == arrow.BOOL {
		return min(v.n, from+8*limit)
	}
	if v.isFixed() {
		return min(v.n, from+limit/8)
	}
	size := 0
	for i := from; i < v.n; i++ {
		if size += 4 + len(v.text(i)); size > limit {
			return max(i, from+1)
		}
	}
	return v.n
}

// How DELTA_BINARY_PACKED is cut up.
const (
	deltaBlock = 128
	deltaMini  = 32
)

// appendDelta appends integers in the encoding DELTA_BINARY_PACKED.
func appendDelta(dst []byte, all []uint64) []byte {
	dst = binary.AppendUvarint(dst, deltaBlock)
	dst = binary.AppendUvarint(dst, deltaBlock/deltaMini)
	dst = binary.AppendUvarint(dst, uint64(len(all)))
	if len(all) == 0 {
		return binary.AppendUvarint(dst, 0)
	}
	dst = binary.AppendVarint(dst, int64(all[0]))
	before := all[0]
	var deltas [deltaBlock]uint64
	for rest := all[1:]; len(rest) > 0; {
		n := min(deltaBlock, len(rest))
		for i, x := range rest[:n] {
			deltas[i] = x - before // it wraps, as the format says
			before = x
		}
		rest = rest[n:]
		dst = appendDeltas(dst, &deltas, n)
	}
	return dst
}

// appendDeltas appends a block of n deltas.
func appendDeltas(dst []byte, deltas *[deltaBlock]uint64, n int) []byte {
	least := int64(math.MaxInt64)
	for _, d := range deltas[:n] {
		least = min(least, int64(d))
	}
	for i := range deltas[:n] {
		deltas[i] -= uint64(least)
	}
	clear(deltas[n:])
	dst = binary.AppendVarint(dst, least)
	var widths [deltaBlock / deltaMini]byte
	for m := range widths {
		var all uint64
		for _, d := range deltas[m*deltaMini : (m+1)*deltaMini] {
			all |= d
		}
		widths[m] = byte(bits.Len64(all))
	}
	dst = append(dst, widths[:]...)
	for m := 0; m*deltaMini < n; m++ {
		dst = appendPacked(dst, deltas[m*deltaMini:(m+1)*deltaMini], int(widths[m]))
	}
	return dst
}

// bounds returns the least and the largest value as statistics have them, false
// if there is none. NaN is left out, and a zero stands for both of them.
func (v *values) bounds() (low, high []byte, ok bool) {
	if v.n == 0 {
		return nil, nil, false
	}
	switch v.kind {
	case arrow.BOOL:
		return []byte{byte(slices.Min(v.bools))}, []byte{byte(slices.Max(v.bools))}, true
	case arrow.INT64:
		least, most := v.extremes()
		return binary.LittleEndian.AppendUint64(nil, uint64(least)), binary.LittleEndian.AppendUint64(nil, uint64(most)), true
	case arrow.FLOAT64:
		return v.doubleBounds()
	}
	low, high = v.text(0), v.text(0)
	for _, s := range v.spans[1:] {
		if t := v.data[s.from:s.to]; bytes.Compare(t, low) < 0 {
			low = t
		} else if bytes.Compare(t, high) > 0 {
			high = t
		}
	}
	return low, high, true
}

func (v *values) extremes() (least, most int64) {
	least, most = math.MaxInt64, math.MinInt64
	for _, x := range v.fixed {
		least, most = min(least, int64(x)), max(most, int64(x))
	}
	return least, most
}

func (v *values) doubleBounds() (low, high []byte, ok bool) {
	least, most := math.Inf(1), math.Inf(-1)
	for _, x := range v.fixed {
		f := math.Float64frombits(x)
		if f < least {
			least = f
		}
		if f > most {
			most = f
		}
		ok = ok || f == f
	}
	if least == 0 {
		least = math.Copysign(0, -1)
	}
	if most == 0 {
		most = 0
	}
	return binary.LittleEndian.AppendUint64(nil, math.Float64bits(least)), binary.LittleEndian.AppendUint64(nil, math.Float64bits(most)), ok
}
