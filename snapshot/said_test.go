package snapshot_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// spoken is an archive with three snapshots, the last retained for 30 days and the
// archive's own objects for two, and all that can be said about them; and rubbish, which
// anybody may have put.
func spoken(t *testing.T) (*notarial, *archivetest.Vault) {
	t.Helper()
	vault := new(archivetest.Vault)
	n := newNotarial(t, vault, snapshot.Setup{Mode: archive.Governance, Period: archive.Period{Days: 2}})
	run := exporting(t, n.service, n.archive, n.exporter, "plain")
	run.Mode, run.Retain = archive.Governance, month
	if _, err := run.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.entries = chainOf(t, n.archive)
	n.run(notarizing(n.archive, n.notary))
	stampAt(t, n.archive, n.entries[2], time.Now())
	appendReceipt(t, n.archive, "one", n.exporter)
	put(t, vault, manifest.NotarizationName(7, 1), []byte("of no snapshot"))
	put(t, vault, manifest.NotarizationName(3, 9), make([]byte, manifest.MaxNotarization+1))
	put(t, vault, manifest.TimestampFolder+"/3.tsr", []byte("of no name"))
	return n, vault
}

func lockedNow(t *testing.T, vault *archivetest.Vault, name string) archive.Lock {
	t.Helper()
	info, err := vault.Inspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Lock
}

func TestWhatIsSaidOfASnapshotIsLockedAndHeldWithIt(t *testing.T) {
	n, vault := spoken(t)
	of3 := []string{manifest.NotarizationName(3, 1), manifest.TimestampName(3, 1), manifest.ReceiptName(1)}
	of1 := manifest.NotarizationName(1, 1)
	rubbish := []string{manifest.NotarizationName(7, 1), manifest.NotarizationName(3, 9), manifest.TimestampFolder + "/3.tsr"}
	before := lockedNow(t, vault, of1)
	want := archive.Lock{Mode: archive.Compliance, Until: time.Now().UTC().AddDate(5, 0, 0).Truncate(time.Second)}
	run := snapshot.Retention{Archive: n.archive, Snapshot: "3"}
	report, err := run.Extend(t.Context(), want.Mode, want.Until)
	if err != nil || report.Said.Objects != 3 || report.Said.Compliance != 3 {
		t.Fatalf("got %+v, %v", report, err)
	}
	for _, name := range of3 {
		if got := lockedNow(t, vault, name); got != want {
			t.Errorf("%s is locked %+v, want %+v", name, got, want)
		}
	}
	for _, name := range rubbish {
		if got := lockedNow(t, vault, name); got != (archive.Lock{}) {
			t.Errorf("%s is locked %+v", name, got)
		}
	}
	if got := lockedNow(t, vault, of1); got != before {
		t.Errorf("%s, of another snapshot, is locked %+v", of1, got)
	}
	held := func() (names []string) {
		for _, name := range append(slices.Clone(of3), of1) {
			if lockedNow(t, vault, name).Hold {
				names = append(names, name)
			}
		}
		return names
	}
	for _, step := range []struct {
		which string
		on    bool
		want  []string
	}{
		{"3", true, of3},
		{"1", true, append(slices.Clone(of3), of1)},
		{"3", false, []string{manifest.ReceiptName(1), of1}}, // the receipts are about snapshot 1 as well
		{"1", false, nil},
	} {
		if _, err := (snapshot.Retention{Archive: n.archive, Snapshot: step.which}).Hold(t.Context(), step.on); err != nil {
			t.Fatal(err)
		}
		if got := held(); !slices.Equal(got, step.want) {
			t.Errorf("snapshot %s, %v: held are %q, want %q", step.which, step.on, got, step.want)
		}
	}
}

func TestWhatIsSaidOfASnapshotIsVerifiedToBeLocked(t *testing.T) {
	n, whole := spoken(t)
	notarization, stamp := manifest.NotarizationName(3, 1), manifest.TimestampName(3, 1)
	for name, test := range map[string]struct {
		change func(v *archivetest.Vault) error
		want   error
		says   string
		shadow bool
	}{
		// The time stamp was put as the archive locks, and the snapshot asked for more.
		"as it was put":             {func(*archivetest.Vault) error { return nil }, nil, "1 notarizations and time stamps, the first " + stamp, false},
		"a notarization unlocked":   {func(v *archivetest.Vault) error { v.Unlock(notarization); return nil }, snapshot.ErrWeaker, notarization + ": its snapshot", false},
		"a marker over it":          {func(v *archivetest.Vault) error { return v.Mark(notarization) }, snapshot.ErrShadowed, notarization + " is hidden", true},
		"a version over a stamp":    {func(v *archivetest.Vault) error { return v.Overlay(stamp, []byte("x")) }, snapshot.ErrShadowed, stamp + ": a newer version", true},
		"a marker over a receipt":   {func(v *archivetest.Vault) error { return v.Mark(manifest.ReceiptName(1)) }, snapshot.ErrShadowed, manifest.ReceiptName(1), true},
		"rubbish that is no longer": {func(v *archivetest.Vault) error { v.Erase(manifest.NotarizationName(3, 9)); return nil }, nil, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			vault := whole.Clone()
			if err := test.change(vault); err != nil {
				t.Fatal(err)
			}
			report, err := snapshot.Verify{Archive: open(t, vault, n.archive.Trust), Retention: true}.Run(t.Context())
			if report == nil || !errors.Is(err, test.want) || test.want == nil && err != nil {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if text := strings.Join(append(report.Problems, report.Notes...), "\n"); !strings.Contains(text, test.says) {
				t.Errorf("it does not say %q:\n%s", test.says, text)
			}
			if (report.Retention.Shadows == 1) != test.shadow {
				t.Errorf("%d shadows", report.Retention.Shadows)
			}
		})
	}
	// Extended, nothing is left to note; a later snapshot's date is no word on earlier ones.
	a := open(t, whole, n.archive.Trust)
	if _, err := (snapshot.Retention{Archive: a}).Extend(t.Context(), archive.Governance, time.Now().AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	report, err := snapshot.Verify{Archive: a, Retention: true}.Run(t.Context())
	if err != nil || slices.ContainsFunc(report.Notes, func(n string) bool { return strings.Contains(n, "time stamps") }) {
		t.Errorf("%v, %q", err, report.Notes)
	}
}

// TestLookingAtWhatIsSaidListsEachFolderOnce, however many snapshots there are.
func TestLookingAtWhatIsSaidListsEachFolderOnce(t *testing.T) {
	n, vault := spoken(t)
	store := &folders{Vault: vault, lists: map[string]int{}}
	if _, err := (snapshot.Retention{Archive: open(t, store, n.archive.Trust)}).Show(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{manifest.NotarizationFolder, manifest.TimestampFolder, manifest.ReceiptFolder} {
		if store.lists[folder] != 1 {
			t.Errorf("%s/ was listed %d times", folder, store.lists[folder])
		}
	}
}

// folders is a Vault that counts listings by the first part of their prefix.
type folders struct {
	*archivetest.Vault
	lists map[string]int
}

func (l *folders) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	folder, _, _ := strings.Cut(prefix, "/")
	l.lists[folder]++
	return l.Vault.List(ctx, prefix)
}
