package manifest

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

// receipts makes the objects of a chain of receipts.
type receipts struct {
	*fixture
	t       *testing.T
	objects map[int64][]byte
}

// add puts a receipt after another, of when there were seq manifests.
func (c receipts) add(number, before, seq int64, by ...Signer) {
	c.t.Helper()
	r := testReceipt(c.fixture)
	r.Number, r.Before, r.Prev, r.Seq = number, before, Hash{}, seq
	if before != 0 {
		r.Prev = Sum(c.objects[before])
	}
	c.objects[number] = must(SealReceipt(c.t.Context(), r, by...))(c.t)
}

// without is the chain with some objects changed; nil removes.
func (c receipts) without(change map[int64][]byte) receipts {
	objects := maps.Clone(c.objects)
	maps.Copy(objects, change)
	maps.DeleteFunc(objects, func(_ int64, data []byte) bool { return data == nil })
	return receipts{c.fixture, c.t, objects}
}

// check reads all of them: the good ones, those that come with a finding, and the rest.
func (c receipts) check(p *Policy) (good, findings, junk []int64) {
	chain := NewReceiptChain(p)
	for _, n := range slices.Sorted(maps.Keys(c.objects)) {
		r, names, err := chain.Add(n, c.objects[n])
		switch {
		case (r == nil) != (len(names) == 0), err != nil && (r == nil) == errors.Is(err, ErrRollback):
			c.t.Errorf("receipt %d: %+v by %q with %v", n, r, names, err)
		case r == nil:
			junk = append(junk, n)
		case err != nil:
			findings = append(findings, n)
			fallthrough
		default:
			good = append(good, n)
		}
	}
	return good, findings, junk
}

func TestAChainOfReceipts(t *testing.T) {
	c := receipts{newFixture(t), t, map[int64][]byte{}}
	c.add(1, 0, 1, c.exporter)
	c.add(2, 1, 1, c.notary)
	c.add(5, 2, 1, c.exporter, c.notary) // 3 and 4 were junk
	c.add(6, 5, 1, c.exporter)
	other := receipts{newFixture(t), t, map[int64][]byte{}}
	other.add(2, 0, 1, other.exporter)
	forged := c.without(nil)
	forged.add(7, 6, 1, c.stranger)
	fork := c.without(nil)
	fork.add(7, 2, 1, c.exporter)
	replaced := c.without(nil)
	replaced.add(2, 1, 1, c.exporter)
	all := []int64{1, 2, 5, 6}
	for _, test := range []struct {
		name                 string
		chain                receipts
		good, findings, junk []int64
	}{
		{"whole", c, all, nil, nil},
		{"junk", c.without(map[int64][]byte{3: []byte("junk"), 9: {}}), all, nil, []int64{3, 9}},
		{"of a stranger", forged, all, nil, []int64{7}},
		{"of another archive", c.without(map[int64][]byte{3: other.objects[2]}), all, nil, []int64{3}},
		{"moved", c.without(map[int64][]byte{7: c.objects[2]}), all, nil, []int64{7}},
		{"over the limit", c.without(map[int64][]byte{7: make([]byte, MaxReceipt+1)}), all, nil, []int64{7}},
		{"the first removed", c.without(map[int64][]byte{1: nil}), []int64{2, 5, 6}, []int64{2}, nil},
		{"one in the middle removed", c.without(map[int64][]byte{5: nil}), []int64{1, 2, 6}, []int64{6}, nil},
		{"one made junk", c.without(map[int64][]byte{2: []byte("junk")}), []int64{1, 5, 6}, []int64{5}, []int64{2}},
		{"one replaced by a good key", replaced, all, []int64{5}, nil},
		{"one swapped for another's bytes", c.without(map[int64][]byte{2: c.objects[1]}), []int64{1, 5, 6}, []int64{5}, []int64{2}},
		{"one left out", fork, append(all, 7), []int64{7}, nil},
		{"the newest removed, which nobody sees", c.without(map[int64][]byte{6: nil}), []int64{1, 2, 5}, nil, nil},
	} {
		if good, findings, junk := test.chain.check(c.policy); !slices.Equal(good, test.good) || !slices.Equal(findings, test.findings) || !slices.Equal(junk, test.junk) {
			t.Errorf("%s: good %d, findings %d, junk %d; want %d, %d, %d", test.name, good, findings, junk, test.good, test.findings, test.junk)
		}
	}
}

// A key that is revoked does not date receipts back, and what comes after its own is
// still held to what came before them.
func TestReceiptsOfARevokedKey(t *testing.T) {
	c := receipts{newFixture(t), t, map[int64][]byte{}}
	c.add(1, 0, 1, c.exporter)
	c.add(2, 1, 3, c.notary)
	c.add(3, 2, 6, c.notary) // is void
	c.add(4, 3, 7, c.exporter)
	c.add(5, 4, 2, c.notary) // dated back
	c.add(6, 4, 7, c.exporter)
	next := c.policy.Next(testTime(0).Time, 5)
	next.Keys[1].Revoked = 5 // the notary
	next.Threshold = 1
	p := must(OpenNextPolicy(c.sealNext(t, next, c.exporter, c.notary), c.policy))(t)
	if good, findings, junk := c.check(p); !slices.Equal(good, []int64{1, 2, 4, 6}) || findings != nil || !slices.Equal(junk, []int64{3, 5}) {
		t.Errorf("good %d, findings %d, junk %d", good, findings, junk)
	}
	for _, test := range []struct {
		number, after int64
		counts        bool
	}{{1, MaxSeq, true}, {2, 4, true}, {2, 5, false}, {2, MaxSeq, false}, {3, 0, false}, {5, 2, true}, {5, 7, false}} {
		r, names, err := OpenReceiptAfter(c.objects[test.number], p, test.after)
		if (err == nil) != test.counts || (r != nil) != test.counts || (len(names) == 1) != test.counts || err != nil && !errors.Is(err, ErrUntrusted) {
			t.Errorf("receipt %d after manifest %d: %+v by %q, %v", test.number, test.after, r, names, err)
		}
	}
	if good, findings, _ := c.without(map[int64][]byte{2: nil}).check(p); !slices.Equal(good, []int64{1, 4, 6}) || !slices.Equal(findings, []int64{4}) {
		t.Errorf("without the second: good %d, findings %d", good, findings)
	}
}

func TestAReceiptOfAnArchiveWithoutAGoodManifest(t *testing.T) {
	f := newFixture(t)
	r := testReceipt(f)
	r.Seq, r.Digest = 0, Hash{}
	sealed := must(SealReceipt(t.Context(), r, f.exporter))(t)
	if _, names, err := OpenReceipt(sealed, f.policy); err != nil || len(names) != 1 {
		t.Errorf("by %q, %v", names, err)
	}
	for what, change := range map[string]func(*Receipt){
		"a digest":                 func(r *Receipt) { r.Digest = Hash{1} },
		"a number and no digest":   func(r *Receipt) { r.Seq = 1 },
		"no archive":               func(r *Receipt) { r.Archive = Hash{} },
		"no tool":                  func(r *Receipt) { r.Tool = "" },
		"a place without a digest": func(r *Receipt) { r.Prev = Hash{} },
	} {
		bad := *r
		change(&bad)
		if err := bad.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("with %s: %v", what, err)
		}
	}
}

func TestAChainOfReceiptsNeedsAPolicy(t *testing.T) {
	c := receipts{newFixture(t), t, map[int64][]byte{}}
	c.add(1, 0, 1, c.exporter)
	if _, _, err := NewReceiptChain(new(Policy)).Add(1, c.objects[1]); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "not opened") {
		t.Errorf("got %v", err)
	}
}
