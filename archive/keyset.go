package archive

import (
	"bytes"
	"slices"
	"sort"

	"github.com/otsnap/otsnap/manifest"
)

// KeySet is all keys that start with one of some others, which are whole or cut
// short: single rows, and all rows of a partition. The zero KeySet has none. It takes
// 24 bytes for each of the others, and what these take themselves. It is safe for
// concurrent use.
type KeySet struct {
	starts []manifest.Key // ascending; none starts with another, so the last that is not after a key tells of it
}

// NewKeySet returns the set of the keys that start with one of these; the empty key
// starts all of them. It puts starts in order, and keeps it.
func NewKeySet(starts []manifest.Key) KeySet {
	slices.SortFunc(starts, func(a, b manifest.Key) int { return bytes.Compare(a, b) })
	distinct := starts[:0]
	for _, k := range starts {
		if n := len(distinct); n == 0 || !bytes.HasPrefix(k, distinct[n-1]) {
			distinct = append(distinct, k)
		}
	}
	return KeySet{distinct}
}

// IsEmpty reports whether no key is in the set.
func (s KeySet) IsEmpty() bool { return len(s.starts) == 0 }

// Has reports whether a key is in the set.
func (s KeySet) Has(k manifest.Key) bool { return s.Covers(k, k) }

// Covers reports whether both keys, and so all between, start with the same of those
// the set was made of.
func (s KeySet) Covers(first, last manifest.Key) bool {
	n := s.after(first)
	return n > 0 && bytes.HasPrefix(first, s.starts[n-1]) && bytes.HasPrefix(last, s.starts[n-1])
}

// Touches reports whether a key from first to last can be in the set.
func (s KeySet) Touches(first, last manifest.Key) bool { return !s.between(first, last).IsEmpty() }

// Meets reports whether a key that starts so can be in the set.
func (s KeySet) Meets(start manifest.Key) bool {
	n := s.after(start)
	return s.Has(start) || n < len(s.starts) && bytes.HasPrefix(s.starts[n], start)
}

// between returns a set that has the same keys from first to last.
func (s KeySet) between(first, last manifest.Key) KeySet {
	from, to := s.after(first), s.after(last)
	if from > 0 && bytes.HasPrefix(first, s.starts[from-1]) {
		from--
	}
	return KeySet{s.starts[from:max(from, to)]}
}

// after returns how many of the starts are not after a key.
func (s KeySet) after(k manifest.Key) int {
	return sort.Search(len(s.starts), func(i int) bool { return bytes.Compare(s.starts[i], k) > 0 })
}
