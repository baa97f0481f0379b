package snapshot_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// TestACopyHasReceiptsOfRevokedKeys has one that counts for nothing, as others may come
// after it.
func TestACopyHasReceiptsOfRevokedKeys(t *testing.T) {
	r := newRotated(t)
	old := aReceipt("old")
	if err := r.archive.About(t.Context(), &old); err != nil {
		t.Fatal(err)
	}
	old.Number = 1
	sealed, err := manifest.SealReceipt(t.Context(), &old, r.old)
	if err != nil {
		t.Fatal(err)
	}
	put(t, r.archive.Store, manifest.ReceiptName(1), sealed)
	appendReceipt(t, r.archive, "fresh", r.fresh)
	target := new(archivetest.Memory)
	if r := mustCopy(t, snapshot.Copy{From: r.archive, To: target}); len(r.Notes) > 0 {
		t.Errorf("notes %q", r.Notes)
	}
	if got := readReceipts(t, open(t, target, r.archive.Trust)); !got.is([]int64{2}, nil, []int64{1}) {
		t.Errorf("the copy has %+v", got)
	}
}

// TestACopyReadsSomeJunkAmongReceiptsAndNoMore has junk before and between the receipts.
func TestACopyReadsSomeJunkAmongReceiptsAndNoMore(t *testing.T) {
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	appendReceipt(t, a, "one", key)
	for n := int64(2); n < 1000; n++ {
		put(t, store, manifest.ReceiptName(n), []byte("junk"))
	}
	link := func(number, before int64, prev manifest.Hash) manifest.Hash {
		r := aReceipt("x")
		if err := a.About(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
		r.Number, r.Before, r.Prev = number, before, prev
		sealed, err := manifest.SealReceipt(t.Context(), &r, key)
		if err != nil {
			t.Fatal(err)
		}
		put(t, store, manifest.ReceiptName(number), sealed)
		return manifest.Sum(sealed)
	}
	one, err := a.Receipt(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	link(1200, 1000, link(1000, 1, one.Digest))
	put(t, store, manifest.ReceiptName(1201), []byte("junk"))
	var gets atomic.Int64
	a.Store = &archivetest.Faulty{Store: store, Cue: func(c archivetest.Call) archivetest.Fault {
		if c.Op == "get" && strings.HasPrefix(c.Name, manifest.ReceiptFolder) {
			gets.Add(1)
		}
		return archivetest.None
	}}
	target := new(archivetest.Memory)
	r := mustCopy(t, snapshot.Copy{From: a, To: target})
	if len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], "999 objects under receipts/ are not copied, such as receipts/00000002.dsse.json: ") {
		t.Errorf("notes %q", r.Notes)
	}
	if n := gets.Load(); n > manifest.MaxTries+20 {
		t.Errorf("%d objects were read", n)
	}
	if r := readReceipts(t, open(t, target, a.Trust)); !r.is([]int64{1, 1000, 1200}, nil, nil) {
		t.Errorf("the copy has %+v", r)
	}
}

// TestWhatIsSaidOfSnapshotsCanBeFrozen has each kind in an archive tier of the source.
func TestWhatIsSaidOfSnapshotsCanBeFrozen(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	n.run(notarizing(n.archive, n.notary))
	appendReceipt(t, n.archive, "one", n.exporter)
	appendReceipt(t, n.archive, "two", n.exporter)
	put(t, n.archive.Store, manifest.TimestampName(1, 1), likeAStamp(n.entries[0].Digest))
	all := contents(t, n.archive.Store)
	for _, name := range []string{manifest.NotarizationName(2, 1), manifest.ReceiptName(2), manifest.TimestampName(1, 1)} {
		from := frozenVault(t, new(archivetest.Vault), all, func(other string) bool { return other == name })
		to := new(archivetest.Memory)
		run := snapshot.Copy{From: open(t, from, n.archive.Trust), To: to}
		r, err := run.Run(t.Context())
		if !errors.Is(err, archive.ErrFrozen) || isVerdict(err) || r.Frozen.Objects != 1 || r.Frozen.Bytes != int64(len(all[name])) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %+v, %v", name, r.Frozen, err)
		}
		if slices.Contains(to.Names(), name) {
			t.Errorf("%s was copied", name)
		}
		put(t, to, name, all[name]) // from another copy
		if r := mustCopy(t, run); r.Copied.Objects != 0 || r.Unconfirmed != 0 {
			t.Errorf("%s is there: %+v", name, r)
		}
		to.Replace(name, make([]byte, len(all[name])))
		if _, err := run.Run(t.Context()); !errors.Is(err, archive.ErrFrozen) {
			t.Errorf("something else is in the place of %s: %v", name, err)
		}
		// Frozen on both sides, it has the right size.
		cold := frozenVault(t, new(archivetest.Vault), all, func(other string) bool { return other == name })
		run.To = cold
		if r := mustCopy(t, run); r.Copied.Objects != 0 || r.Unconfirmed != 1 {
			t.Errorf("%s is frozen there too: %+v", name, r)
		}
	}
}

// TestAFrozenNotarizationIsNoVerdict has the only one in an archive tier, and asks for it.
func TestAFrozenNotarizationIsNoVerdict(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	n.run(notarizing(n.archive, n.notary))
	name := manifest.NotarizationName(2, 1)
	store := frozenVault(t, new(archivetest.Vault), contents(t, n.archive.Store), func(other string) bool { return other == name })
	a := open(t, store, n.archive.Trust)
	if _, err := snapshot.RequireNotary(t.Context(), a, n.entries[1]); !errors.Is(err, archive.ErrFrozen) || isVerdict(err) {
		t.Errorf("frozen: %v", err)
	}
	if _, err := (snapshot.Thaw{Store: store, Trust: n.archive.Trust}).Ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.RequireNotary(t.Context(), a, n.entries[1]); err != nil {
		t.Errorf("thawed: %v", err)
	}
}
