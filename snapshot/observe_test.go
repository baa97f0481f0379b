package snapshot_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// kept is an archive in a vault with two snapshots: one retained for a year and one
// for a month, both in governance mode.
type kept struct {
	*snapshot.Archive
	vault       *archivetest.Vault
	key         manifest.Signer
	first, last snapshot.Entry
	now         time.Time // of whoever looks; not of the vault
}

func newKept(t *testing.T, vault *archivetest.Vault, terms ...archive.Period) *kept {
	t.Helper()
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 300)
	a, key := archiveIn(t, vault, archive.Unlocked, archive.Period{})
	k := &kept{Archive: a, vault: vault, key: key, now: time.Now()}
	for i, period := range terms {
		run := exporting(t, s, a, key, "plain")
		run.Mode, run.Retain, run.ChunkBytes = archive.Governance, period, 16<<10
		if period.IsZero() {
			run.Mode = archive.Unlocked
		}
		e, err := first(run.Run(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if k.last = e; i == 0 {
			k.first = e
		}
	}
	return k
}

// of returns the names of the objects of a snapshot that end so.
func (k *kept) of(e snapshot.Entry, suffix string) []string {
	return slices.DeleteFunc(k.vault.Names(), func(name string) bool {
		return !strings.HasPrefix(name, "snapshots/"+e.Manifest.Snapshot+"/") || !strings.HasSuffix(name, suffix)
	})
}

func (k *kept) verify(t *testing.T, level snapshot.Level) (*snapshot.Report, error) {
	t.Helper()
	return snapshot.Verify{Archive: k.Archive, Level: level, Retention: true, Now: func() time.Time { return k.now }}.Run(t.Context())
}

func TestRetentionIsComparedWithWhatWasSigned(t *testing.T) {
	whole := newKept(t, new(archivetest.Vault), year, month)
	inOne := len(whole.of(whole.last, "")) + 1 // and the manifest
	all := len(whole.of(whole.first, "")) + 1 + inOne + 4
	for name, test := range map[string]struct {
		change func(*kept)
		weaker int    // problems
		says   string // one of them, or a note
	}{
		"as signed":         {func(*kept) {}, 0, "none weaker"},
		"a chunk unlocked":  {func(k *kept) { k.vault.Unlock(k.of(k.last, ".parquet")[0]) }, 1, "parquet: signed is governance until"},
		"a page unlocked":   {func(k *kept) { k.vault.Unlock(k.of(k.first, "r0000.dsse.json")[0]) }, 1, "the lock is none"},
		"the plan unlocked": {func(k *kept) { k.vault.Unlock(k.of(k.last, "plan.dsse.json")[0]) }, 1, "plan.dsse.json"},
		"the last manifest unlocked": {func(k *kept) { k.vault.Unlock(manifest.ManifestName(2)) }, 1,
			manifest.ManifestName(2) + ": signed is"},
		"the policy unlocked":  {func(k *kept) { k.vault.Unlock(manifest.PolicyName(1)) }, 1, "snapshot " + whole.last.Manifest.Snapshot + " needs it"},
		"verify.sh unlocked":   {func(k *kept) { k.vault.Unlock("verify.sh") }, 1, "verify.sh"},
		"the report unlocked":  {func(k *kept) { k.vault.Unlock(manifest.StoreName(k.Policy.ID())) }, 1, "store/"},
		"the report gone":      {func(k *kept) { k.vault.Erase(manifest.StoreName(k.Policy.ID())) }, 0, "there is no store/"},
		"a snapshot unlocked":  {func(k *kept) { unlockAll(k, k.first) }, 1, "none of its"},
		"all but one unlocked": {func(k *kept) { unlockAll(k, k.last); relock(t, k, k.of(k.last, "plan.dsse.json")[0]) }, inOne - 1, "the lock is none"},
		"a date that passed":   {func(k *kept) { unlockAll(k, k.last); k.now = k.now.AddDate(0, 2, 0) }, 0, "none weaker"},
		"all dates passed":     {func(k *kept) { unlockAll(k, k.first); unlockAll(k, k.last); k.now = k.now.AddDate(2, 0, 0) }, 0, "none weaker"},
	} {
		for _, level := range []snapshot.Level{snapshot.Objects, snapshot.Rows} {
			t.Run(fmt.Sprint(name, " ", level), func(t *testing.T) {
				k := *whole
				k.vault = whole.vault.Clone()
				k.Archive = open(t, k.vault, whole.Trust)
				test.change(&k)
				report, err := k.verify(t, level)
				if report == nil {
					t.Fatal(err)
				}
				if errors.Is(err, snapshot.ErrWeaker) != (test.weaker > 0) || isVerdict(err) {
					t.Errorf("got %v", err)
				}
				r := report.Retention
				if int(r.Weaker) != test.weaker || len(report.Problems) != test.weaker {
					t.Errorf("%d weaker, want %d: %q", r.Weaker, test.weaker, report.Problems)
				}
				if n := r.Compliance + r.Governance + r.Unlocked; n != r.Objects || n != int64(all) && test.says[:5] != "there" {
					t.Errorf("%d objects of %d: %+v", n, all, r)
				}
				text := strings.Join(slices.Concat(report.Problems, report.Notes, report.Coverage), "\n")
				if !strings.Contains(text, test.says) {
					t.Errorf("it does not say %q:\n%s", test.says, text)
				}
			})
		}
	}
}

func unlockAll(k *kept, e snapshot.Entry) {
	for _, name := range append(k.of(e, ""), manifest.ManifestName(e.Manifest.Seq)) {
		k.vault.Unlock(name)
	}
}

func relock(t *testing.T, k *kept, name string) {
	t.Helper()
	if err := k.vault.Lock(t.Context(), name, signed(k.last)); err != nil {
		t.Fatal(err)
	}
}

func TestTheRetentionReportCounts(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), archive.Period{}, month)
	if err := k.vault.Hold(t.Context(), "README.md", true); err != nil {
		t.Fatal(err)
	}
	name := k.of(k.last, ".parquet")[0]
	firm := archive.Lock{Mode: archive.Compliance, Until: time.Now().AddDate(1, 0, 0)}
	if err := k.vault.Lock(t.Context(), name, firm); err != nil {
		t.Fatal(err)
	}
	report, err := k.verify(t, snapshot.Objects)
	if err != nil {
		t.Fatal(err)
	}
	r := report.Retention
	locked := int64(len(k.of(k.last, "")) + 1 + 4)
	if r.Compliance != 1 || r.Governance != locked-1 || r.Unlocked != int64(len(k.of(k.first, "")))+1 || r.Held != 1 {
		t.Errorf("got %+v", r)
	}
	if want := manifest.At(signed(k.last).Until); r.Earliest == nil || *r.Earliest != want {
		t.Errorf("the first ends %v, want %v", r.Earliest, want)
	}
	if chunks := k.first.Manifest.Totals.Chunks + k.last.Manifest.Totals.Chunks; report.Vouched != chunks {
		t.Errorf("vouched for %d of %d", report.Vouched, chunks)
	}
	if text := strings.Join(report.Notes, "\n"); !strings.Contains(text, "1 manifests of earlier snapshots, the first "+manifest.ManifestName(1)) {
		t.Errorf("no word of the manifest the chain needs: %q", text)
	}
}

// TestAManifestIsHeldToEverySnapshotAfterIt, not to the newest alone.
func TestAManifestIsHeldToEverySnapshotAfterIt(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), month, year, archive.Period{Days: 20})
	want := "1 manifests of earlier snapshots, the first " + manifest.ManifestName(1)
	for which, noted := range map[string]bool{"": true, "3": false, "2": true, "1": false} {
		report, err := snapshot.Verify{Archive: k.Archive, Snapshot: which, Retention: true}.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(report.Notes, "\n"); strings.Contains(text, want) != noted || strings.Contains(text, "manifests") != noted {
			t.Errorf("snapshot %q: notes %q", which, text)
		}
	}
}

func TestWhatIsMissingIsOneProblem(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), year)
	gone := []string{"README.md", k.of(k.last, "plan.dsse.json")[0], k.of(k.last, ".parquet")[0], k.of(k.last, "r0000.dsse.json")[0]}
	for _, name := range gone[:3] {
		k.vault.Erase(name)
	}
	report, err := k.verify(t, snapshot.Hashes)
	if !errors.Is(err, snapshot.ErrMissing) || len(report.Problems) != 3 {
		t.Errorf("got %v, problems %q", err, report.Problems)
	}
	k.vault.Erase(gone[3])
	if report, err = k.verify(t, snapshot.Hashes); err == nil || len(report.Problems) != 3 { // its chunks are not known
		t.Errorf("got %v, problems %q", err, report.Problems)
	}
}

func TestAStoreThatCannotLockIsOneProblemASnapshot(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), month, year)
	for name, store := range map[string]archive.Store{
		"memory": storeWith(t, contents(t, k.vault)),
		"a bucket without locks": func() archive.Store {
			v := &archivetest.Vault{NoLocks: true}
			for name, data := range contents(t, k.vault) {
				v.Replace(name, data)
			}
			return v
		}(),
	} {
		report, err := snapshot.Verify{Archive: open(t, store, k.Trust), Retention: true}.Run(t.Context())
		if !errors.Is(err, snapshot.ErrWeaker) {
			t.Fatalf("%s: got %v", name, err)
		}
		snapshots := slices.DeleteFunc(report.Problems, func(p string) bool { return !strings.HasPrefix(p, "snapshot ") })
		if len(snapshots) != 2 {
			t.Errorf("%s: problems of snapshots %q", name, snapshots)
		}
	}
}

func TestABucketThatRetainsAllIsEnough(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 100)
	store := newWorm(400)
	a, key := archiveIn(t, store, archive.Compliance, year)
	export(t, s, a, key, "plain")
	report, err := snapshot.Verify{Archive: a, Retention: true}.Run(t.Context())
	if err != nil || report.Retention.Compliance != report.Retention.Objects {
		t.Fatalf("got %v, %+v", err, report)
	}
	// The bucket counts from the day an object was put: the policy's is soon over.
	later := time.Now().AddDate(0, 0, 300)
	report, err = snapshot.Verify{Archive: a, Retention: true, Now: func() time.Time { return later }}.Run(t.Context())
	if err != nil || report.Retention.Weaker > 0 {
		t.Errorf("got %v, %+v", err, report.Retention)
	}
}

func TestWhatIsLaidOverObjectsIsFound(t *testing.T) {
	whole := newKept(t, new(archivetest.Vault), month)
	chunk := whole.of(whole.last, ".parquet")[0]
	for name, test := range map[string]struct {
		lay  func(v *archivetest.Vault) error
		says string
	}{
		"a marker over a chunk":        {func(v *archivetest.Vault) error { return v.Mark(chunk) }, chunk + " is hidden by a delete marker of "},
		"a version over a chunk":       {func(v *archivetest.Vault) error { return v.Overlay(chunk, []byte("theirs")) }, "of 6 bytes"},
		"a version over the manifest":  {func(v *archivetest.Vault) error { return v.Overlay(manifest.ManifestName(1), nil) }, "manifests/"},
		"a marker over the policy":     {func(v *archivetest.Vault) error { return v.Mark(manifest.PolicyName(1)) }, "policy/"},
		"a version over the texts":     {func(v *archivetest.Vault) error { return v.Overlay("verify.sh", []byte("rm -rf /")) }, "verify.sh: a newer version"},
		"a marker over the report":     {func(v *archivetest.Vault) error { return v.Mark(manifest.StoreName(whole.Policy.ID())) }, ".dsse.json is hidden"},
		"a marker over something else": {func(v *archivetest.Vault) error { return v.Mark("README.md.bak") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			vault := whole.vault.Clone()
			if err := test.lay(vault); err != nil {
				t.Fatal(err)
			}
			a := open(t, vault, whole.Trust)
			plain, err := snapshot.Verify{Archive: a, Level: snapshot.Rows}.Run(t.Context())
			if err != nil {
				t.Fatalf("a plain verification: %v", err)
			}
			strict, err := snapshot.Verify{Archive: a, Retention: true}.Run(t.Context())
			if test.says == "" {
				if err != nil || len(plain.Notes)+len(strict.Notes) > 0 || strict.Retention.Shadows > 0 {
					t.Errorf("got %v, notes %q and %q", err, plain.Notes, strict.Notes)
				}
				return
			}
			if len(plain.Notes) != 1 || !strings.Contains(plain.Notes[0], test.says) {
				t.Errorf("notes %q, want %q", plain.Notes, test.says)
			}
			if !errors.Is(err, snapshot.ErrShadowed) || errors.Is(err, snapshot.ErrWeaker) || !strings.Contains(err.Error(), test.says) || strict.Retention.Shadows != 1 {
				t.Errorf("with retention: %v", err)
			}
		})
	}
}

func TestMoreShadowsThanAnybodyReadsAreCounted(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), month)
	for range 120 {
		if err := k.vault.Mark("verify.sh"); err != nil {
			t.Fatal(err)
		}
	}
	report, err := snapshot.Verify{Archive: k.Archive}.Run(t.Context())
	if err != nil || len(report.Notes) != 101 {
		t.Errorf("%d notes, %v", len(report.Notes), err)
	}
	report, err = k.verify(t, snapshot.Objects)
	if !errors.Is(err, snapshot.ErrShadowed) || len(report.Problems) != 101 || !strings.Contains(err.Error(), "20 more") || report.Retention.Shadows != 120 {
		t.Errorf("%d problems, %v", len(report.Problems), err)
	}
}

func TestAReaderWhoMayNotLookForShadowsSaysSo(t *testing.T) {
	k := newKept(t, &archivetest.Vault{Blind: true}, month)
	report, err := k.verify(t, snapshot.Objects)
	if err != nil || len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "could not be looked for") {
		t.Errorf("notes %q, %v", report.Notes, err)
	}
}

func TestWhatTheStoreKeepsOfAChunkIsHeldAgainstTheSignature(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), archive.Period{})
	chunks := k.last.Manifest.Totals.Chunks
	report, err := snapshot.Verify{Archive: k.Archive}.Run(t.Context())
	if err != nil || report.Vouched != chunks || !strings.Contains(report.Coverage[0], fmt.Sprintf("for %d the store vouches", chunks)) {
		t.Errorf("vouched for %d of %d: %v, %q", report.Vouched, chunks, err, report.Coverage)
	}
	// Other bytes of the same size: nothing a listing shows.
	name := k.of(k.last, ".parquet")[0]
	data := contents(t, k.vault)[name]
	data[len(data)/2] ^= 1
	k.vault.Replace(name, data)
	if _, err := (snapshot.Verify{Archive: k.Archive}).Run(t.Context()); !errors.Is(err, archive.ErrCorrupt) || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v, want ErrCorrupt of %s", err, name)
	}
	k.vault.NoChecksums = true
	k.vault.Replace(name, data)
	report, err = snapshot.Verify{Archive: k.Archive}.Run(t.Context())
	if err != nil || report.Vouched != chunks-1 || !strings.Contains(report.Coverage[0], "of 1 only existence") {
		t.Errorf("a store that keeps no digest: vouched for %d of %d: %v, %q", report.Vouched, chunks, err, report.Coverage)
	}
}

func TestFrozenChunksAreCountedAndNotReadOneByOne(t *testing.T) {
	k := newKept(t, &archivetest.Vault{FreezeBulk: true, ThawTime: time.Hour}, month)
	chunks := k.of(k.last, ".parquet")
	if len(chunks) < 3 {
		t.Fatalf("%d chunks", len(chunks))
	}
	now := time.Now()
	k.vault.Now = func() time.Time { return now }
	if err := k.vault.Thaw(t.Context(), chunks[0], 3, ""); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Hour)
	if _, err := k.verify(t, snapshot.Objects); err != nil {
		t.Errorf("nothing is read at this level: %v", err)
	}
	want := fmt.Sprintf("%d of %d chunks of snapshot %s are in an archive tier, the first %s; otsnap thaw gets them",
		len(chunks)-1, len(chunks), k.last.Manifest.Snapshot, chunks[1])
	for _, level := range []snapshot.Level{snapshot.Hashes, snapshot.Rows} {
		_, err := k.verify(t, level)
		if !errors.Is(err, archive.ErrFrozen) || !errors.Is(err, archive.ErrUnavailable) || isVerdict(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", level, err, want)
		}
	}
	s := newService(t)
	target := s.instance(t, "target")
	_, err := restoring(t, s, k.Archive, "target").Run(t.Context())
	if !errors.Is(err, archive.ErrFrozen) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "nothing was written") {
		t.Errorf("restore: got %v, want %q", err, want)
	}
	if tables, err := target.Tables(t.Context()); err != nil || len(tables) > 0 {
		t.Errorf("restore left tables %v, %v", tables, err)
	}
}

func TestTroubleWhileLookingAtLocksIsNoVerdict(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), month)
	for n := 1; ; n++ {
		store := &dying{Vault: k.vault, at: n}
		a, err := snapshot.Open(t.Context(), store, k.Trust)
		if err == nil {
			_, err = snapshot.Verify{Archive: a, Retention: true}.Run(t.Context())
		}
		if !store.dead {
			if err != nil || n < 20 {
				t.Errorf("%d calls: %v", n, err)
			}
			break
		}
		if !errors.Is(err, archive.ErrUnavailable) || isVerdict(err) || errors.Is(err, snapshot.ErrWeaker) {
			t.Errorf("call %d: got %v", n, err)
		}
	}
}
