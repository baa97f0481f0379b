package pages

import (
	"encoding/binary"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow/bitutil"
)

// bitmap is a run of bits, the lowest bit of the first byte first.
type bitmap struct {
	bytes []byte // nil: all bits are ones
	n     int
}

// slice returns the bits from to to-1. The first of them is on a byte's edge in
// the result, for which buf has room.
func (b bitmap) slice(buf []byte, from, to int) (part bitmap, grown []byte) {
	if b.bytes == nil {
		return bitmap{nil, to - from}, buf
	}
	if from%8 == 0 {
		return bitmap{b.bytes[from/8:], to - from}, buf
	}
	size := (to - from + 7) / 8
	buf = append(buf[:0], make([]byte, size)...)
	bitutil.CopyBitmap(b.bytes, from, to-from, buf, 0)
	return bitmap{buf, to - from}, buf
}

// word returns up to 64 bits from i on, which is a multiple of 64, and how many.
func (b bitmap) word(i int) (word uint64, n int) {
	n = min(64, b.n-i)
	switch {
	case b.bytes == nil:
		word = ^uint64(0)
	case len(b.bytes) >= i/8+8:
		word = binary.LittleEndian.Uint64(b.bytes[i/8:])
	default:
		for j, x := range b.bytes[i/8 : (b.n+7)/8] {
			word |= uint64(x) << (8 * j)
		}
	}
	return word & (^uint64(0) >> (64 - n)), n
}

// ones counts the ones.
func (b bitmap) ones() int {
	if b.bytes == nil {
		return b.n
	}
	sum := 0
	for i := 0; i < b.n; i += 64 {
		word, _ := b.word(i)
		sum += bits.OnesCount64(word)
	}
	return sum
}

// find returns the place of the nth one, counting from 0, among the bits from
// place from on.
func (b bitmap) find(from, nth int) int {
	if b.bytes == nil {
		return from + nth
	}
	skip := from % 64
	for i := from - skip; ; i += 64 {
		word, _ := b.word(i)
		word = word >> skip << skip
		skip = 0
		if n := bits.OnesCount64(word); n <= nth {
			nth -= n
			continue
		}
		for ; nth > 0; nth-- {
			word &= word - 1
		}
		return i + bits.TrailingZeros64(word)
	}
}

// appendPacked appends the lowest width bits of each value, 8 values in width
// bytes. A last group that is not full is filled with zeros.
func appendPacked[T uint32 | uint64](dst []byte, values []T, width int) []byte {
	var pending uint64
	filled := 0
	for _, v := range values {
		x := uint64(v)
		pending |= x << filled
		if filled += width; filled >= 64 {
			dst = binary.LittleEndian.AppendUint64(dst, pending)
			filled -= 64
			pending = x >> (width - filled) // by 64, if none is left, which is none
		}
	}
	if missing := -len(values) & 7; missing > 0 {
		filled += missing * width
		for filled >= 64 {
			dst = binary.LittleEndian.AppendUint64(dst, pending)
			pending, filled = 0, filled-64
		}
	}
	for ; filled > 0; filled -= 8 {
		dst = append(dst, byte(pending))
		pending >>= 8
	}
	return dst
}

// appendRun appends n times a value, in Parquet's RLE hybrid.
func appendRun(dst []byte, n int, value uint32, width int) []byte {
	dst = binary.AppendUvarint(dst, uint64(n)<<1)
	for ; width > 0; width -= 8 {
		dst = append(dst, byte(value))
		value >>= 8
	}
	return dst
}

// appendGroups appends the header of n values that follow packed.
func appendGroups(dst []byte, n int) []byte {
	return binary.AppendUvarint(dst, uint64((n+7)/8)<<1|1)
}

// appendHybrid appends values in Parquet's RLE hybrid: those that repeat as
// runs, others packed.
func appendHybrid(dst []byte, values []uint32, width int) []byte {
	least := 8 + 64/max(width, 1) // values in a run that takes less space than packed
	packed := 0                   // where the values not yet written begin
	for i := 0; i < len(values); {
		end := i + 1
		for end < len(values) && values[end] == values[i] {
			end++
		}
		// The values packed before a run are a multiple of 8.
		from := i + (packed-i)&7
		if end-from < least {
			i = end
			continue
		}
		if from > packed {
			dst = appendPacked(appendGroups(dst, from-packed), values[packed:from], width)
		}
		dst = appendRun(dst, end-from, values[i], width)
		packed, i = end, end
	}
	if packed < len(values) {
		dst = appendPacked(appendGroups(dst, len(values)-packed), values[packed:], width)
	}
	return dst
}

// appendHybridBits appends bits in Parquet's RLE hybrid.
func appendHybridBits(dst []byte, b bitmap) []byte {
	if b.bytes == nil {
		return appendRun(dst, b.n, 1, 1)
	}
	const least = 16 // bytes that are the same in a run
	whole := b.n / 8
	packed := 0
	for i := 0; i < whole; {
		x := b.bytes[i]
		end := i + 1
		for end < whole && b.bytes[end] == x {
			end++
		}
		if (x == 0 || x == 0xff) && (end-i >= least || end-i == whole) {
			if i > packed {
				dst = append(appendGroups(dst, 8*(i-packed)), b.bytes[packed:i]...)
			}
			n := 8 * (end - i)
			packed = end
			if rest := b.n - 8*end; rest < 8 && end == whole && b.last() == x&b.mask() {
				n += rest
				packed++
			}
			dst = appendRun(dst, n, uint32(x&1), 1)
		}
		i = end
	}
	if left := b.n - 8*packed; left > 0 {
		dst = append(appendGroups(dst, left), b.bytes[packed:(b.n+7)/8]...)
		if b.n%8 > 0 {
			dst[len(dst)-1] = b.last()
		}
	}
	return dst
}

// mask has the bits of a last byte that is not full.
func (b bitmap) mask() byte { return 1<<(b.n%8) - 1 }

// last returns the last byte, if it is not full.
func (b bitmap) last() byte {
	if b.n%8 == 0 {
		return 0
	}
	return b.bytes[b.n/8] & b.mask()
}
