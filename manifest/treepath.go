package manifest

import "math/bits"

// maxPath is the number of hashes in the longest path there is: that of a tree of
// as many leaves as can be counted.
const maxPath = 63

// Path returns the path of leaf i in the RFC 6962 tree over leaves: the hashes that
// lead from it to the root, the nearest first. There must be a leaf i.
func Path(leaves []Hash, i int64) []Hash {
	n := int64(len(leaves))
	if n == 1 {
		return nil
	}
	k := leftLeaves(n)
	if i < k {
		return append(Path(leaves[:k], i), rootOver(leaves[k:]))
	}
	return append(Path(leaves[k:], i-k), rootOver(leaves[:k]))
}

// leftLeaves returns how many of n leaves, 2 or more, are on the left of the root:
// the largest power of 2 below n.
func leftLeaves(n int64) int64 { return 1 << (bits.Len64(uint64(n-1)) - 1) }

func rootOver(leaves []Hash) Hash {
	var t Tree
	for _, leaf := range leaves {
		t.Add(leaf)
	}
	return t.Root()
}

// FollowPath returns the root that path leads to from leaf i of a tree of n leaves,
// as RFC 9162 section 2.1.3.2 has it. A path of another length than such a leaf has
// is [ErrInvalid]. The number of leaves must be one that is signed: a root does not
// commit to it.
func FollowPath(leaf Hash, i, n int64, path []Hash) (Hash, error) {
	if i < 0 || i >= n {
		return Hash{}, invalid("leaf %d of %d", i, n)
	}
	root, last := leaf, n-1
	for _, sibling := range path {
		if last == 0 {
			return Hash{}, invalid("a path of %d hashes is too long for leaf %d of %d", len(path), i, n)
		}
		if i&1 == 0 && i < last {
			root = nodeHash(root, sibling)
		} else {
			root = nodeHash(sibling, root)
			skipped := bits.TrailingZeros64(uint64(i)) // levels at which there is nothing on the right
			i, last = i>>skipped, last>>skipped
		}
		i, last = i>>1, last>>1
	}
	if last != 0 {
		return Hash{}, invalid("a path of %d hashes is too short", len(path))
	}
	return root, nil
}
