package manifest

import (
	"crypto/sha256"
	"math/bits"
)

// LeafHash returns the hash of a leaf of an RFC 6962 tree, SHA-256(0x00 || data).
func LeafHash(data []byte) (leaf Hash) {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(data)
	h.Sum(leaf[:0]) // into leaf itself: this runs once a row
	return leaf
}

func nodeHash(left, right Hash) Hash {
	var node [1 + 2*sha256.Size]byte
	node[0] = 1
	copy(node[1:], left[:])
	copy(node[1+sha256.Size:], right[:])
	return sha256.Sum256(node[:])
}

// Tree computes the root of an RFC 6962 tree leaf by leaf, in memory that grows
// with the logarithm of their number. The zero Tree is the empty tree. A root does
// not commit to the number of leaves: sign the two together.
type Tree struct {
	size int64
	// full holds the roots of the complete subtrees from left to right, one for
	// every bit set in size.
	full []Hash
}

// Add appends a leaf, given its hash.
func (t *Tree) Add(leaf Hash) {
	for range bits.TrailingZeros64(^uint64(t.size)) {
		last := len(t.full) - 1
		leaf = nodeHash(t.full[last], leaf)
		t.full = t.full[:last]
	}
	t.full = append(t.full, leaf)
	t.size++
}

// Size returns the number of leaves.
func (t *Tree) Size() int64 { return t.size }

// Root returns the hash of the tree as it is. That of the empty tree is the
// SHA-256 of nothing.
func (t *Tree) Root() Hash {
	if t.size == 0 {
		return Sum(nil)
	}
	last := len(t.full) - 1
	root := t.full[last]
	for i := last - 1; i >= 0; i-- {
		root = nodeHash(t.full[i], root)
	}
	return root
}
