package row

import "encoding/binary"

// PlainBuffer's checksum is a CRC-8: the remainder of the message, as a
// polynomial over GF(2) times x^8, divided by P = x^8 + x^2 + x + 1.
//
// Two properties of P make it quick to compute. The powers of x repeat with
// period 127 modulo P, so x^128 = x, and 16 bytes are added to a sum of 16 bytes
// by shifting the sum left by one bit. And squaring P gives x^16 = x^4 + x^2 + 1,
// x^32 = x^8 + x^4 + 1 and x^64 = x^16 + x^8 + 1 modulo P, so the upper half of a
// sum is added to the lower with two shifts, until it is two bytes long.

// crcTables[k][b] is the checksum of the byte b followed by k zero bytes.
var crcTables = newCRCTables()

func newCRCTables() (t [2][256]byte) {
	for b := range 256 {
		t[0][b] = crcBits(byte(b))
		t[1][b] = crcBits(t[0][b])
	}
	return t
}

// crcBits multiplies by x^8 modulo P, bit by bit.
func crcBits(crc byte) byte {
	for range 8 {
		carry := crc >> 7
		crc = crc<<1 ^ carry*0x07
	}
	return crc
}

// crcByte returns the checksum of a message one byte longer than the one whose
// checksum is crc.
func crcByte(crc, b byte) byte { return crcTables[0][crc^b] }

// sum is a polynomial congruent to a message modulo P, not yet times x^8.
type sum struct{ hi, lo uint64 }

// checksum returns the CRC-8 of p.
func checksum(p []byte) byte { return sumOf(0, p, 0, len(p)).checksum() }

// rest returns the message p modulo P, which is what sumOf continues from.
func rest(p []byte) byte {
	if len(p) == 0 {
		return 0
	}
	last := len(p) - 1
	return checksum(p[:last]) ^ p[last]
}

// sumOf returns the sum of a message that starts with bytes of the given rest
// and goes on with buf[from:to].
func sumOf(rest byte, buf []byte, from, to int) sum {
	var pad [16]byte
	head := pad[:]
	if len(buf)-from >= len(pad) {
		head = buf[from : from+len(pad)]
	} else {
		copy(head, buf[from:])
	}
	n := uint(to-from) % 16
	s := headSum(rest, head, n)
	for block := buf[from+int(n) : to]; len(block) >= 16; block = block[16:] {
		s = s.add16(block)
	}
	return s
}

// headSum returns the sum of the rest and the first n bytes of head, n < 16.
func headSum(rest byte, head []byte, n uint) sum {
	a, b := binary.BigEndian.Uint64(head), binary.BigEndian.Uint64(head[8:])
	if n < 8 {
		return sum{0, uint64(rest)<<(8*n) ^ a>>(64-8*n)}
	}
	n -= 8
	return sum{uint64(rest)<<(8*n) ^ a>>(64-8*n), a<<(8*n) | b>>(64-8*n)}
}

// add16 returns the sum of a message 16 bytes longer.
func (s sum) add16(p []byte) sum {
	_ = p[15]
	carry := s.hi >> 63
	return sum{
		hi: s.hi<<1 ^ s.lo>>63 ^ binary.BigEndian.Uint64(p),
		lo: s.lo<<1 ^ carry<<1 ^ binary.BigEndian.Uint64(p[8:]),
	}
}

// add8 returns the sum of a message 8 bytes longer, given them in big-endian.
func (s sum) add8(word uint64) sum {
	return sum{hi: s.lo ^ s.hi>>63, lo: s.hi<<1 ^ word}
}

// checksum returns the CRC-8 of the message.
func (s sum) checksum() byte {
	// Each line halves what is left, from 16 bytes down to two. The bits a shift
	// pushes over the half are few, and go round again.
	over := s.hi>>48 ^ s.hi>>56
	m := s.lo ^ s.hi ^ s.hi<<8 ^ s.hi<<16 ^ over ^ over<<8 ^ over<<16
	h := m >> 32
	m = m&0xffffffff ^ h ^ h<<4 ^ h<<8
	h = m >> 16
	m = m&0xffff ^ h ^ h<<2 ^ h<<4
	h = m >> 16
	m = m&0xffff ^ h ^ h<<2 ^ h<<4
	return crcTables[0][byte(m)] ^ crcTables[1][byte(m>>8)]
}
