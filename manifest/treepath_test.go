package manifest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// TestPathsOfKnownTrees has the test vectors of Certificate Transparency, of the
// leaves of TestTreeOfKnownLeaves.
func TestPathsOfKnownTrees(t *testing.T) {
	leaves := hashLeaves(t, "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
	for _, test := range []struct {
		leaf, size int64
		path       []string
	}{
		{0, 1, nil},
		{0, 8, []string{
			"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
			"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
			"6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
		}},
		{5, 8, []string{
			"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
			"ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
			"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		}},
		{2, 3, []string{"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"}},
		{1, 5, []string{
			"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
			"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
			"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
		}},
	} {
		var got []string
		for _, h := range Path(leaves[:test.size], test.leaf) {
			got = append(got, h.String())
		}
		if !slices.Equal(got, test.path) {
			t.Errorf("path of leaf %d of %d is %q, want %q", test.leaf, test.size, got, test.path)
		}
	}
}

func hashLeaves(t *testing.T, data ...string) []Hash {
	t.Helper()
	var leaves []Hash
	for _, text := range data {
		leaves = append(leaves, LeafHash(must(hex.DecodeString(text))(t)))
	}
	return leaves
}

func TestAPathLeadsFromItsLeafToTheRootAndNoOtherDoes(t *testing.T) {
	var leaves []Hash
	for n := int64(1); n <= 70; n++ {
		leaves = append(leaves, LeafHash(fmt.Append(nil, n)))
		root := definition(leaves)
		for i := range n {
			path := Path(leaves, i)
			if got, err := FollowPath(leaves[i], i, n, path); err != nil || got != root {
				t.Fatalf("leaf %d of %d leads to %s, %v, want %s", i, n, got, err, root)
			}
			for other := range n {
				if got, err := FollowPath(leaves[i], other, n, path); other != i && err == nil && got == root {
					t.Fatalf("leaf %d of %d passes for leaf %d", i, n, other)
				}
			}
			if got, err := FollowPath(LeafHash(nil), i, n, path); err == nil && got == root {
				t.Fatalf("another leaf passes for leaf %d of %d", i, n)
			}
			if _, err := FollowPath(leaves[i], i, n, append(slices.Clone(path), Hash{})); !errors.Is(err, ErrInvalid) {
				t.Fatalf("one hash more: got %v, want %v", err, ErrInvalid)
			}
			if len(path) == 0 {
				continue
			}
			if _, err := FollowPath(leaves[i], i, n, path[1:]); !errors.Is(err, ErrInvalid) {
				t.Fatalf("one hash less: got %v, want %v", err, ErrInvalid)
			}
			for at := range path {
				changed := slices.Clone(path)
				changed[at][31] ^= 1
				if got, err := FollowPath(leaves[i], i, n, changed); err != nil || got == root {
					t.Fatalf("leaf %d of %d with hash %d changed leads to %s, %v", i, n, at, got, err)
				}
			}
		}
	}
}

func TestThereIsNoPathFromALeafThatIsNotThere(t *testing.T) {
	for _, test := range [][2]int64{{0, 0}, {1, 1}, {-1, 1}, {5, 4}} {
		if _, err := FollowPath(Hash{}, test[0], test[1], nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("leaf %d of %d: got %v, want %v", test[0], test[1], err, ErrInvalid)
		}
	}
}

func TestALongPathIsFollowedFromTheLastLeafToo(t *testing.T) {
	for _, n := range []int64{1<<62 + 1, 1<<62 - 1, 1<<63 - 1} {
		depth := 0
		for path := []Hash{}; len(path) <= maxPath; path = append(path, Hash{1}) {
			if _, err := FollowPath(Hash{2}, n-1, n, path); err == nil {
				depth++
			}
		}
		if depth != 1 {
			t.Errorf("the last of %d leaves has paths of %d lengths, want 1", n, depth)
		}
	}
}
