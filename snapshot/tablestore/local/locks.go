package local

import (
	"hash/maphash"
	"math/bits"
	"sync"
)

// rowLocks orders changes to a row. Changes that overwrite a row without
// looking at it share its lock, since the database orders their batches;
// changes that read it first have it for themselves. Rows share a fixed number
// of locks, taken in one order.
type rowLocks struct {
	seed  maphash.Seed
	locks [lockCount]sync.RWMutex
}

const lockCount = 1024

func newRowLocks() *rowLocks { return &rowLocks{seed: maphash.MakeSeed()} }

// lockSet says which locks to take.
type lockSet [lockCount / 64]uint64

func (set *lockSet) add(i uint64)      { set[i/64] |= 1 << (i % 64) }
func (set *lockSet) has(i uint64) bool { return set[i/64]&(1<<(i%64)) != 0 }

// each calls f with the members in order.
func (set *lockSet) each(f func(i uint64)) {
	for word, members := range set {
		for ; members != 0; members &= members - 1 {
			f(uint64(word*64 + bits.TrailingZeros64(members)))
		}
	}
}

// lock takes the locks of the rows that will change and returns what gives them
// back. A row to be made with a new key is no one else's.
func (l *rowLocks) lock(changes []*change) (unlock func()) {
	var all, exclusive lockSet
	for _, ch := range changes {
		if ch.generate || ch.refused != nil {
			continue
		}
		i := maphash.Bytes(l.seed, ch.key) % lockCount
		all.add(i)
		if !ch.blind() {
			exclusive.add(i)
		}
	}
	all.each(func(i uint64) {
		if exclusive.has(i) {
			l.locks[i].Lock()
		} else {
			l.locks[i].RLock()
		}
	})
	return func() {
		all.each(func(i uint64) {
			if exclusive.has(i) {
				l.locks[i].Unlock()
			} else {
				l.locks[i].RUnlock()
			}
		})
	}
}
