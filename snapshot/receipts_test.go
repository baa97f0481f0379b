package snapshot_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// aReceipt says that somebody found nothing.
func aReceipt(host string) manifest.Receipt {
	now := manifest.At(time.Now())
	return manifest.Receipt{Kind: "verify", Started: now, Finished: now, Host: host, Tool: "test", Report: manifest.Raw("{}")}
}

func appendReceipt(t testing.TB, a *snapshot.Archive, host string, by ...manifest.Signer) snapshot.ReceiptEntry {
	t.Helper()
	e, err := a.AppendReceipt(t.Context(), aReceipt(host), time.Now(), by...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// reading is what is found among the receipts of an archive.
type reading struct {
	good, findings, junk []int64
	hosts                []string
}

func readReceipts(t testing.TB, a *snapshot.Archive) (r reading) {
	t.Helper()
	for e, err := range a.Receipts(t.Context()) {
		switch {
		case err != nil:
			t.Fatal(err)
		case e.Receipt == nil && e.Wrong == nil, e.Receipt != nil && e.Wrong != nil && !errors.Is(e.Wrong, manifest.ErrRollback):
			t.Errorf("receipt %d: %v", e.Number, e.Wrong)
		case e.Receipt == nil:
			r.junk = append(r.junk, e.Number)
		default:
			r.good, r.hosts = append(r.good, e.Number), append(r.hosts, e.Receipt.Host)
		}
		if e.Receipt != nil && e.Wrong != nil {
			r.findings = append(r.findings, e.Number)
		}
	}
	return r
}

func (r reading) is(good, findings, junk []int64) bool {
	return slices.Equal(r.good, good) && slices.Equal(r.findings, findings) && slices.Equal(r.junk, junk)
}

func put(t testing.TB, store archive.Store, name string, data []byte) {
	t.Helper()
	if err := store.Put(t.Context(), name, bytes.NewReader(data), archive.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestReceiptsAreAChainInTheArchive(t *testing.T) {
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	if r := readReceipts(t, a); !r.is(nil, nil, nil) {
		t.Errorf("none yet: %+v", r)
	}
	appendReceipt(t, a, "one", key)
	appendReceipt(t, a, "two", key, newKey(t))
	for _, n := range []int64{3, 4, 99_999_999} {
		put(t, store, manifest.ReceiptName(n), []byte("junk"))
	}
	put(t, store, manifest.ReceiptFolder+"/junk", []byte("junk"))
	appendReceipt(t, a, "three", key)
	put(t, store, manifest.ReceiptName(7), make([]byte, manifest.MaxReceipt+1))
	e := appendReceipt(t, a, "four", key)
	if r := readReceipts(t, a); !r.is([]int64{1, 2, 5, 6}, nil, []int64{3, 4, 7, 99_999_999}) || !slices.Equal(r.hosts, []string{"one", "two", "three", "four"}) {
		t.Errorf("got %+v", r)
	}
	if e.Number != 6 || e.Receipt.Before != 5 || e.Receipt.Archive != a.Policy.ID() || e.Receipt.Seq != 0 || !slices.Equal(e.Keys, []string{"key-1"}) {
		t.Errorf("the newest is %+v", e)
	}

	all := contents(t, store)
	without := func(n int64) reading {
		return readReceipts(t, open(t, storeWithout(t, all, manifest.ReceiptName(n)), a.Trust))
	}
	if r := without(2); !slices.Equal(r.findings, []int64{5}) {
		t.Errorf("the second removed: %+v", r)
	}
	if r := without(6); r.findings != nil { // as the documents say
		t.Errorf("the newest removed: %+v", r)
	}
	moved := maps.Clone(all)
	moved[manifest.ReceiptName(2)], moved[manifest.ReceiptName(5)] = all[manifest.ReceiptName(5)], all[manifest.ReceiptName(2)]
	if r := readReceipts(t, open(t, storeWith(t, moved), a.Trust)); !r.is([]int64{1, 6}, []int64{6}, []int64{2, 3, 4, 5, 7, 99_999_999}) {
		t.Errorf("two swapped: %+v", r)
	}
}

func TestReceiptsOfOthersCountForNothing(t *testing.T) {
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	if _, err := a.AppendReceipt(t.Context(), aReceipt("x"), time.Now(), newKey(t)); !errors.Is(err, snapshot.ErrWish) {
		t.Errorf("a stranger's: %v", err)
	}
	if _, err := a.AppendReceipt(t.Context(), aReceipt("x"), time.Now()); !errors.Is(err, snapshot.ErrWish) {
		t.Errorf("nobody's: %v", err)
	}
	other, otherKey := newArchive(t, new(archivetest.Memory))
	put(t, store, manifest.ReceiptName(1), appendReceipt(t, other, "other", otherKey).Sealed)
	appendReceipt(t, a, "mine", key)
	if r := readReceipts(t, a); !r.is([]int64{2}, nil, []int64{1}) {
		t.Errorf("got %+v", r)
	}
}

func TestReceiptsAfterAKeyWasRevoked(t *testing.T) {
	r := newRotated(t)
	fromOld := open(t, storeWithout(t, contents(t, r.archive.Store), manifest.PolicyName(2)), manifest.Trust{Archive: r.archive.Trust.Archive})
	if _, err := r.archive.AppendReceipt(t.Context(), aReceipt("old"), time.Now(), r.old); !errors.Is(err, snapshot.ErrWish) {
		t.Errorf("of the revoked key: %v", err)
	}
	e := appendReceipt(t, r.archive, "fresh", r.fresh)
	if e.Receipt.Seq != 2 || e.Receipt.Digest != r.second.Digest || e.Receipt.Version != 2 {
		t.Errorf("got %+v", e.Receipt)
	}
	// Who holds the revoked key claims that there was but one snapshot.
	if err := fromOld.Store.Delete(t.Context(), manifest.ManifestName(2)); err != nil {
		t.Fatal(err)
	}
	put(t, fromOld.Store, manifest.ReceiptName(1), e.Sealed)
	forged := appendReceipt(t, fromOld, "old", r.old)
	if forged.Number != 2 || forged.Receipt.Seq != 1 {
		t.Fatalf("the forged one is %+v", forged.Receipt)
	}
	put(t, r.archive.Store, manifest.ReceiptName(2), forged.Sealed)
	if got := readReceipts(t, r.archive); !got.is([]int64{1}, nil, []int64{2}) {
		t.Errorf("got %+v", got)
	}
}

// TestAReceiptOfARevokedKeyDoesNotBreakTheChain has who holds a revoked key put one that
// names a snapshot of before, and others go on.
func TestAReceiptOfARevokedKeyDoesNotBreakTheChain(t *testing.T) {
	r := newRotated(t)
	first, err := r.archive.Find(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	honest := appendReceipt(t, r.archive, "one", r.fresh)
	forge := func(number int64) {
		t.Helper()
		f := *honest.Receipt
		f.Host, f.Seq, f.Digest, f.Number, f.Before, f.Prev = "forged", 1, first.Digest, number, 0, manifest.Hash{}
		sealed, err := manifest.SealReceipt(t.Context(), &f, r.old)
		if err != nil {
			t.Fatal(err)
		}
		put(t, r.archive.Store, manifest.ReceiptName(number), sealed)
	}
	forge(2)
	if e := appendReceipt(t, r.archive, "three", r.fresh); e.Number != 3 || e.Receipt.Before != 1 {
		t.Errorf("receipt %d after %d", e.Number, e.Receipt.Before)
	}
	forge(4)
	forge(5)
	appendReceipt(t, r.archive, "six", r.fresh)
	if got := readReceipts(t, r.archive); !got.is([]int64{1, 3, 6}, nil, []int64{2, 4, 5}) {
		t.Errorf("got %+v", got)
	}
	if _, err := r.archive.Receipt(t.Context(), 2); !errors.Is(err, manifest.ErrUntrusted) || !strings.Contains(err.Error(), "does not count") {
		t.Errorf("the forged one: %v", err)
	}
	if e, err := r.archive.Receipt(t.Context(), 3); err != nil || e.Receipt.Host != "three" || len(e.Keys) != 1 {
		t.Errorf("an honest one: %+v, %v", e, err)
	}
}

// TestReceiptsOfBeforeAKeyWasRevokedCount has an honest one of the old key come first.
func TestReceiptsOfBeforeAKeyWasRevokedCount(t *testing.T) {
	service := newService(t)
	fillPlain(t, service.client("source"), "plain", 20)
	a, old := newArchive(t, new(archivetest.Memory))
	export(t, service, a, old, "plain")
	appendReceipt(t, a, "old", old)
	fresh := newKey(t)
	apply(t, a, replaced(t, a, 2, old, fresh))
	if e, err := a.Receipt(t.Context(), 1); err != nil || e.Receipt.Host != "old" || len(e.Keys) != 1 {
		t.Errorf("the old one: %+v, %v", e, err)
	}
	if e := appendReceipt(t, a, "fresh", fresh); e.Number != 2 || e.Receipt.Before != 1 {
		t.Errorf("receipt %d after %d", e.Number, e.Receipt.Before)
	}
	if got := readReceipts(t, a); !got.is([]int64{1, 2}, nil, nil) {
		t.Errorf("got %+v", got)
	}
}

// TestReceiptsOfManyAtOnce has some append to one archive in the same moments.
func TestReceiptsOfManyAtOnce(t *testing.T) {
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	var group sync.WaitGroup
	for i := range 12 {
		own := open(t, store, a.Trust)
		group.Go(func() {
			if _, err := own.AppendReceipt(t.Context(), aReceipt(string(rune('a'+i))), time.Now(), key); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	r := readReceipts(t, a)
	slices.Sort(r.hosts)
	if len(r.good) != 12 || r.findings != nil || r.junk != nil || strings.Join(r.hosts, "") != "abcdefghijkl" {
		t.Errorf("got %+v", r)
	}
}

func TestReceiptsBetweenTooMuchJunk(t *testing.T) {
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	appendReceipt(t, a, "one", key)
	for n := range int64(manifest.MaxTries) {
		put(t, store, manifest.ReceiptName(2+n), []byte("junk"))
	}
	if _, err := a.AppendReceipt(t.Context(), aReceipt("two"), time.Now(), key); !errors.Is(err, manifest.ErrLimit) {
		t.Errorf("after %d: %v", manifest.MaxTries, err)
	}
	put(t, store, manifest.ReceiptName(99), []byte("junk"))
	if _, err := a.AppendReceipt(t.Context(), aReceipt("two"), time.Now(), key); !errors.Is(err, manifest.ErrLimit) {
		t.Errorf("after one more: %v", err)
	}
}

// TestAppendingIsNotSlow counts what is read where there are many receipts.
func TestAppendingIsNotSlow(t *testing.T) {
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	last := appendReceipt(t, a, "last", key)
	objects := contents(t, store)
	for n := range int64(9_999) { // whatever they are: nobody looks
		objects[manifest.ReceiptName(n+1)] = []byte("x")
	}
	r := *last.Receipt
	r.Number = 10_000
	sealed, err := manifest.SealReceipt(t.Context(), &r, key)
	if err != nil {
		t.Fatal(err)
	}
	objects[manifest.ReceiptName(10_000)] = sealed
	var gets atomic.Int64
	counted := &archivetest.Faulty{Store: storeWith(t, objects), Cue: func(c archivetest.Call) archivetest.Fault {
		if c.Op == "get" && strings.HasPrefix(c.Name, manifest.ReceiptFolder) {
			gets.Add(1)
		}
		return archivetest.None
	}}
	e := appendReceipt(t, open(t, counted, a.Trust), "next", key)
	if e.Number != 10_001 || e.Receipt.Before != 10_000 || gets.Load() != 1 {
		t.Errorf("receipt %d after %d; %d were read", e.Number, e.Receipt.Before, gets.Load())
	}
}

func TestReceiptsThatCannotBeReadAreNoVerdict(t *testing.T) {
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	appendReceipt(t, a, "one", key)
	for _, op := range []string{"list", "get"} {
		a.Store = &archivetest.Faulty{Store: store, Cue: func(c archivetest.Call) archivetest.Fault {
			if c.Op == op && strings.HasPrefix(c.Name, manifest.ReceiptFolder) {
				return archivetest.Before
			}
			return archivetest.None
		}}
		for _, err := range a.Receipts(t.Context()) {
			if !errors.Is(err, archive.ErrUnavailable) {
				t.Errorf("%s: %v", op, err)
			}
		}
		if _, err := a.AppendReceipt(t.Context(), aReceipt("two"), time.Now(), key); !errors.Is(err, archive.ErrUnavailable) || snapshot.IsVerdict(err) {
			t.Errorf("%s: append: %v", op, err)
		}
	}
}

func TestReceiptsAreLockedAsTheArchivesOwnObjects(t *testing.T) {
	store := new(archivetest.Vault)
	a, key := archiveIn(t, store, archive.Compliance, year)
	now := time.Now()
	e := appendReceipt(t, a, "one", key)
	info, err := store.Inspect(t.Context(), manifest.ReceiptName(e.Number))
	if want := (archive.Lock{Mode: archive.Compliance, Until: now.AddDate(1, 0, 0).Add(-time.Minute)}); err != nil || !info.Lock.Covers(want) {
		t.Errorf("is locked %+v, %v", info.Lock, err)
	}
}
