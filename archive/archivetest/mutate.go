package archivetest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
)

// Mutate returns data changed in one to four places: bits flipped, bytes set, a
// piece cut out, repeated, made up, or taken out of other. Half of the changes are
// in the last sixteenth of it and what lies around, where files have their footers.
// It never returns data itself.
func Mutate(rnd *rand.Rand, data, other []byte) []byte {
	mutant := bytes.Clone(data)
	for range 1 + rnd.IntN(4) {
		mutant = mutateOnce(rnd, mutant, other)
	}
	if bytes.Equal(mutant, data) {
		return append(mutant, 0)
	}
	return mutant
}

func mutateOnce(rnd *rand.Rand, data, other []byte) []byte {
	if len(data) == 0 {
		return piece(rnd, other)
	}
	at := rnd.IntN(len(data))
	if rnd.IntN(2) == 0 {
		at = len(data) - 1 - rnd.IntN(1+len(data)/16)
	}
	end := at + 1 + rnd.IntN(min(32, len(data)-at))
	switch rnd.IntN(8) {
	case 0, 1:
		data[at] ^= 1 << rnd.IntN(8)
	case 2:
		data[at] = byte(rnd.Uint32())
	case 3: // numbers at the ends of what they can be
		copy(data[at:], binary.AppendUvarint(nil, 1<<rnd.IntN(64)-uint64(rnd.IntN(2))))
	case 4:
		return append(data[:at], data[end:]...)
	case 5:
		return insert(data, at, bytes.Clone(data[at:end]))
	case 6:
		made := make([]byte, 1+rnd.IntN(16))
		for i := range made {
			made[i] = byte(rnd.Uint32())
		}
		return insert(data, at, made)
	default:
		copy(data[at:], piece(rnd, other))
	}
	return data
}

func insert(data []byte, at int, piece []byte) []byte {
	return append(append(bytes.Clone(data[:at]), piece...), data[at:]...)
}

func piece(rnd *rand.Rand, of []byte) []byte {
	if len(of) == 0 {
		return nil
	}
	at := rnd.IntN(len(of))
	return of[at : at+1+rnd.IntN(min(64, len(of)-at))]
}
