package local

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// loadCounter reads a number kept under a key of one byte, zero when there is
// none.
func loadCounter(db *pebble.DB, key byte) (uint64, error) {
	b, closer, err := db.Get([]byte{key})
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	if len(b) != 8 {
		return 0, fmt.Errorf("counter %q is damaged", key)
	}
	return binary.BigEndian.Uint64(b), nil
}

func encodeCounter(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// incrementsReserved is how many AUTO_INCREMENT values are reserved at a time:
// a second's, as they are microseconds.
const incrementsReserved = 1_000_000

// nextIncrement returns a value for an AUTO_INCREMENT column above all before
// it, floor or more. None is given out twice even when the clock has turned back
// after a crash: a block of values is durably taken before its first is used.
func (s *Server) nextIncrement(floor int64) (int64, error) {
	s.increments.Lock()
	defer s.increments.Unlock()
	next := max(s.increment+1, floor)
	if next >= s.reserved {
		reserved := next + incrementsReserved
		if err := s.db.Set([]byte{prefixIncrement}, encodeCounter(uint64(reserved)), s.durable); err != nil {
			return 0, err
		}
		s.reserved = reserved
	}
	s.increment = next
	return next, nil
}
