package manifest

import (
	"errors"
	"strings"
	"testing"
)

// chainOf makes a chain of n manifests.
func chainOf(t *testing.T, f *fixture, n int) [][]byte {
	t.Helper()
	sealed := [][]byte{f.sealed}
	for len(sealed) < n {
		m := *f.manifest
		m.Seq = int64(len(sealed)) + 1
		m.Prev = Sum(sealed[len(sealed)-1])
		sealed = append(sealed, must(Seal(t.Context(), &m, f.exporter, f.notary))(t))
	}
	return sealed
}

// walk checks a whole chain.
func walk(trust Trust, p *Policy, from int64, sealed [][]byte) (Trust, error) {
	c, err := NewChain(trust, p, from)
	if err != nil {
		return Trust{}, err
	}
	for _, s := range sealed {
		if _, err := c.Add(s); err != nil {
			return Trust{}, err
		}
	}
	return c.Finish()
}

func TestChainAdvancesTrust(t *testing.T) {
	f := newFixture(t)
	sealed := chainOf(t, f, 4)
	nothing := Trust{Archive: f.policy.ID()}
	seen := func(n int64) Trust { return Trust{Archive: f.policy.ID(), Seq: n, Head: Sum(sealed[n-1])} }
	tests := []struct {
		name  string
		trust Trust
		from  int64
		want  Trust
	}{
		{"from the first, nothing seen", nothing, 1, seen(4)},
		{"from the first, two seen", seen(2), 1, seen(4)},
		{"from the newest seen", seen(2), 2, seen(4)},
		{"from the newest there is", seen(4), 4, seen(4)},
	}
	for _, test := range tests {
		got, err := walk(test.trust, f.policy, test.from, sealed[test.from-1:])
		if err != nil || got != test.want {
			t.Errorf("%s: got %+v, %v, want %+v", test.name, got, err, test.want)
		}
	}
	if got, err := walk(nothing, f.policy, 1, nil); err != nil || got != nothing {
		t.Errorf("an archive without snapshots: got %+v, %v", got, err)
	}
}

func TestChainRefuses(t *testing.T) {
	f := newFixture(t)
	s := chainOf(t, f, 4)
	trust := Trust{Archive: f.policy.ID(), Seq: 3, Head: Sum(s[2])}

	fork := *f.manifest
	fork.Seq, fork.Prev, fork.Tool = 3, Sum(s[1]), "otsnap 6.6.6"
	forked := must(Seal(t.Context(), &fork, f.exporter, f.notary))(t)
	afterFork := fork
	afterFork.Seq, afterFork.Prev = 4, Sum(forked)

	tests := []struct {
		name   string
		from   int64
		sealed [][]byte
		says   string
	}{
		{"a tail cut off", 1, s[:2], "ends at manifest 2, but 3 was seen earlier"},
		{"everything gone", 1, nil, "ends at manifest 0"},
		{"a hole", 1, [][]byte{s[0], s[2], s[3]}, "manifests/00000002.dsse.json holds manifest 3"},
		{"two swapped", 1, [][]byte{s[0], s[2], s[1], s[3]}, "holds manifest 3"},
		{"one replayed", 1, [][]byte{s[0], s[1], s[1], s[3]}, "holds manifest 2"},
		{"a late start", 1, s[1:], "holds manifest 2"},
		{"a fork before the newest seen", 1, [][]byte{s[0], s[1], forked}, "forked"},
		{"a fork at the start", 3, [][]byte{forked}, "forked"},
		{"a fork after the newest seen", 1,
			[][]byte{s[0], s[1], s[2], must(Seal(t.Context(), &afterFork, f.exporter, f.notary))(t)}, "manifest 4 follows"},
	}
	for _, test := range tests {
		if _, err := walk(trust, f.policy, test.from, test.sealed); !errors.Is(err, ErrRollback) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.says)
		}
	}
	for _, from := range []int64{-1, 0, 4} {
		if _, err := NewChain(trust, f.policy, from); !errors.Is(err, ErrInvalid) {
			t.Errorf("from %d: got %v, want %v", from, err, ErrInvalid)
		}
	}
}

func TestChainIsOfOneArchive(t *testing.T) {
	f := newFixture(t)
	other := newFixture(t, Files()...)
	if _, err := NewChain(Trust{Archive: other.policy.ID()}, f.policy, 1); !errors.Is(err, ErrUntrusted) {
		t.Errorf("trust in another archive: got %v, want %v", err, ErrUntrusted)
	}
	if _, err := NewChain(Trust{}, f.policy, 1); !errors.Is(err, ErrInvalid) {
		t.Errorf("no trust: got %v, want %v", err, ErrInvalid)
	}
	c := must(NewChain(Trust{Archive: f.policy.ID()}, f.policy, 1))(t)
	if _, err := c.Add(other.sealed); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a manifest of another archive: got %v, want %v", err, ErrUntrusted)
	}
}
