package row

import (
	"math/rand/v2"
	"testing"
)

// slowChecksum is the CRC-8 as its definition has it, a byte at a time.
func slowChecksum(p []byte) byte {
	var crc byte
	for _, b := range p {
		crc = slowTable[crc^b]
	}
	return crc
}

var slowTable = func() (t [256]byte) {
	for b := range t {
		t[b] = crcBits(byte(b))
	}
	return t
}()

func TestChecksumIsCRC8(t *testing.T) {
	// The check value of CRC-8 with polynomial 0x07.
	if got := checksum([]byte("123456789")); got != 0xf4 {
		t.Fatalf("checksum of the check string is %#x, want 0xf4", got)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 300)
	for i := range buf {
		buf[i] = byte(rnd.Uint32())
	}
	for from := range 20 {
		for to := from; to <= len(buf); to++ {
			if got, want := checksum(buf[from:to]), slowChecksum(buf[from:to]); got != want {
				t.Fatalf("checksum of bytes %d to %d is %#x, want %#x", from, to, got, want)
			}
		}
	}
}

func TestSumsContinueFromARest(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	buf := make([]byte, 200)
	for i := range buf {
		buf[i] = byte(rnd.Uint32())
	}
	for cut := range len(buf) - 8 {
		head := rest(buf[:cut])
		if got, want := sumOf(head, buf, cut, len(buf)).checksum(), slowChecksum(buf); got != want {
			t.Fatalf("cut at %d: checksum is %#x, want %#x", cut, got, want)
		}
		word := uint64(0x0102030405060708)
		got := sumOf(head, buf, cut, len(buf)).add8(word).checksum()
		want := slowChecksum(append(buf[:len(buf):len(buf)], 1, 2, 3, 4, 5, 6, 7, 8))
		if got != want {
			t.Fatalf("cut at %d, 8 bytes added: checksum is %#x, want %#x", cut, got, want)
		}
	}
}
