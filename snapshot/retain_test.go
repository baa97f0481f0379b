package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

var (
	month = archive.Period{Days: 30}
	year  = archive.Period{Years: 1}
	seven = archive.Period{Years: 7}
)

// archiveIn makes an archive whose snapshots are retained as asked.
func archiveIn(t testing.TB, store archive.Store, mode archive.Mode, period archive.Period) (*snapshot.Archive, manifest.Signer) {
	t.Helper()
	key := newKey(t)
	made := initiate(t, store, snapshot.Setup{Mode: mode, Period: period}, policyOf(1, key), key)
	return open(t, store, made.Trust), key
}

func signed(e snapshot.Entry) archive.Lock {
	r := e.Manifest.Retention
	if r.Mode == "none" {
		return archive.Lock{}
	}
	until, err := time.Parse(time.RFC3339, r.Until)
	if err != nil {
		panic(err)
	}
	return archive.Lock{Mode: archive.Mode(r.Mode), Until: until}
}

// lockedAsSigned holds every object of a snapshot, its manifest included, to what
// the manifest says of its retention.
func lockedAsSigned(t testing.TB, store archive.Store, e snapshot.Entry) {
	t.Helper()
	names := []string{manifest.ManifestName(e.Manifest.Seq)}
	for o, err := range store.List(t.Context(), "snapshots/"+e.Manifest.Snapshot) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, o.Name)
	}
	for _, name := range names {
		info, err := store.(archive.Inspector).Inspect(t.Context(), name)
		if err != nil || !info.Lock.Covers(signed(e)) {
			t.Errorf("%s is locked %+v, signed is %+v: %v", name, info.Lock, signed(e), err)
		}
	}
}

func TestASnapshotIsRetainedAsAskedAndSaysSo(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 300)
	bucket := &archivetest.Vault{Default: archive.Governance, DefaultPeriod: month}
	for _, test := range []struct {
		name           string
		store          archive.Store
		mode           archive.Mode // of the archive
		period         archive.Period
		asked          archive.Mode
		retain         archive.Period
		want           archive.Mode
		until          archive.Period
		before, refuse bool // the bucket's own clock counts; refused
	}{
		{name: "nothing", store: new(archivetest.Vault)},
		{name: "in a store without locks", store: new(archivetest.Memory)},
		{name: "what is asked", store: new(archivetest.Vault), asked: archive.Compliance, retain: year, want: archive.Compliance, until: year},
		{name: "the archive's default", store: new(archivetest.Vault), mode: archive.Compliance, period: seven, want: archive.Compliance, until: seven},
		{name: "longer than that", store: new(archivetest.Vault), mode: archive.Governance, period: month, retain: year, want: archive.Governance, until: year},
		{name: "more firmly than that", store: new(archivetest.Vault), mode: archive.Governance, period: month, asked: archive.Compliance, want: archive.Compliance, until: month},
		{name: "less long than that", store: new(archivetest.Vault), mode: archive.Governance, period: year, retain: month, refuse: true},
		{name: "less firmly than that", store: new(archivetest.Vault), mode: archive.Compliance, period: year, asked: archive.Governance, retain: seven, refuse: true},
		{name: "the bucket's default", store: bucket, want: archive.Governance, until: month, before: true},
		{name: "more than the bucket's default", store: bucket.Clone(), asked: archive.Compliance, retain: year, want: archive.Compliance, until: year},
		{name: "the bucket's lock", store: newWorm(400), want: archive.Compliance, until: archive.Period{Days: 400}, before: true},
		{name: "less than the bucket's lock", store: newWorm(400), asked: archive.Governance, retain: year, want: archive.Governance, until: year},
		{name: "more than the bucket's lock", store: newWorm(300), asked: archive.Governance, retain: year, refuse: true},
		{name: "a lock where there is none", store: new(archivetest.Memory), asked: archive.Governance, retain: year, refuse: true},
		{name: "a lock of a bucket without", store: &archivetest.Vault{NoLocks: true, NoBucketLock: true}, asked: archive.Governance, retain: year, refuse: true},
		{name: "a lock of a server that drops it", store: &archivetest.Vault{DropLocks: true}, asked: archive.Governance, retain: year, refuse: true},
		{name: "a mode alone", store: new(archivetest.Vault), asked: archive.Governance, refuse: true},
		{name: "a period alone", store: new(archivetest.Vault), retain: year, refuse: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, key := archiveIn(t, test.store, test.mode, test.period)
			at := time.Now()
			run := exporting(t, s, a, key, "plain")
			run.Mode, run.Retain, run.Now = test.asked, test.retain, func() time.Time { return at }
			e, err := first(run.Run(t.Context()))
			if test.refuse {
				chain, chainErr := a.Chain(t.Context())
				if err == nil || chainErr != nil || len(chain) > 0 {
					t.Errorf("got %v with %d snapshots, want it refused", err, len(chain))
				}
				for name := range contents(t, test.store) {
					if strings.Contains(name, "/plain/") {
						t.Errorf("%s was written before that was clear", name)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := archive.Lock{Mode: test.want}
			if want.Mode != archive.Unlocked {
				want.Until = test.until.After(at.UTC()).Truncate(time.Second)
			}
			if test.before {
				want.Until = test.until.After(at.UTC().Add(-15 * time.Minute)).Truncate(time.Second)
			}
			if got := signed(e); got != want {
				t.Errorf("signed is %+v, want %+v", got, want)
			}
			if want.Mode != archive.Unlocked {
				lockedAsSigned(t, test.store, e)
			}
		})
	}
}

func TestABucketThatDoesItUnaskedIsNotAsked(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 100)
	store := &watching{Vault: &archivetest.Vault{Default: archive.Compliance, DefaultPeriod: seven}}
	a, key := archiveIn(t, store, archive.Unlocked, archive.Period{})
	run := exporting(t, s, a, key, "plain")
	run.Mode, run.Retain = archive.Compliance, year
	if _, err := run.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, opts := range store.put {
		if opts.Lock != (archive.Lock{}) {
			t.Errorf("%s was put with %+v", name, opts.Lock)
		}
	}
	if store.locks > 0 {
		t.Errorf("%d locks were set", store.locks)
	}
}

func TestChunksArePutWithTheirDigestAndInBulk(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 300)
	store := &watching{Vault: new(archivetest.Vault)}
	a, key := archiveIn(t, store, archive.Governance, month)
	e := export(t, s, a, key, "plain")
	chunks := int64(0)
	for name, data := range contents(t, store.Vault) {
		opts := store.put[name]
		if opts.SHA256 != manifest.Sum(data) {
			t.Errorf("%s was put with digest %s", name, opts.SHA256)
		}
		if bulk := strings.HasSuffix(name, ".parquet"); opts.Bulk != bulk {
			t.Errorf("%s: bulk is %v", name, opts.Bulk)
		} else if bulk {
			chunks++
		}
	}
	if chunks != e.Manifest.Totals.Chunks || chunks < 2 {
		t.Errorf("%d chunks, signed are %d", chunks, e.Manifest.Totals.Chunks)
	}
}

// watching is a Vault that remembers what it was asked.
type watching struct {
	*archivetest.Vault
	put    map[string]archive.PutOptions
	locks  int
	forbid func(name string) bool // objects whose locks may not be changed
	broken func(name string) bool // objects that cannot be put
}

func (w *watching) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	guard.Lock()
	defer guard.Unlock()
	if w.put == nil {
		w.put = map[string]archive.PutOptions{}
	}
	w.put[name] = opts
	if w.broken != nil && w.broken(name) {
		return fmt.Errorf("put %s: %w", name, archivetest.ErrInjected)
	}
	return w.Vault.Put(ctx, name, body, opts)
}

func (w *watching) Lock(ctx context.Context, name string, lock archive.Lock) error {
	guard.Lock()
	defer guard.Unlock()
	w.locks++
	if w.forbid != nil && w.forbid(name) {
		return fmt.Errorf("lock %s: no right to: %w", name, archive.ErrUnavailable)
	}
	return w.Vault.Lock(ctx, name, lock)
}

func TestTheArchivesOwnObjectsStayAsLongAsTheSnapshot(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 100)
	store := &watching{Vault: new(archivetest.Vault)}
	a, key := archiveIn(t, store, archive.Governance, month)
	own := []string{"README.md", "policy/00000001.dsse.json", manifest.StoreName(a.Policy.ID()), "verify.sh"}
	run := exporting(t, s, a, key, "plain")
	run.Mode, run.Retain = archive.Compliance, year
	e, err := first(run.Run(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range own {
		if info, err := store.Inspect(t.Context(), name); err != nil || !info.Lock.Covers(signed(e)) {
			t.Errorf("%s is locked %+v, %v", name, info.Lock, err)
		}
	}
	store.forbid = func(name string) bool { return !strings.HasPrefix(name, "snapshots/") }
	run.Retain = seven
	exported, err := run.Run(t.Context())
	if err != nil {
		t.Fatalf("an exporter without the right to lock: %v", err)
	}
	text := strings.Join(exported[0].Warnings, "\n")
	for _, name := range own {
		if !strings.Contains(text, name) {
			t.Errorf("no warning of %s: %q", name, text)
		}
	}
	lockedAsSigned(t, store, exported[0].Entry)
}

// TestNothingIsSignedThatIsNotSo takes the locks off what a broken export left: who
// resumes it has to set them again, or fails before there is a manifest.
func TestNothingIsSignedThatIsNotSo(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 600)
	for _, allowed := range []bool{true, false} {
		vault := new(archivetest.Vault)
		a, key := archiveIn(t, vault, archive.Compliance, year)
		broken := exporting(t, s, a, key, "plain")
		broken.To = []*snapshot.Archive{{Policy: a.Policy, Trust: a.Trust, Store: &watching{Vault: vault, broken: func(name string) bool {
			return strings.HasPrefix(name, "manifests/")
		}}}}
		if _, err := broken.Run(t.Context()); err == nil {
			t.Fatal("the export should have broken")
		}
		for _, name := range vault.Names() {
			if strings.HasPrefix(name, "snapshots/") && !strings.HasSuffix(name, "plan.dsse.json") {
				vault.Unlock(name)
			}
		}
		store := &watching{Vault: vault, forbid: func(string) bool { return !allowed }}
		resumed := exporting(t, s, open(t, store, a.Trust), key)
		resumed.Resume = "latest"
		e, err := first(resumed.Run(t.Context()))
		if allowed {
			if err != nil {
				t.Fatal(err)
			}
			lockedAsSigned(t, vault, e)
			continue
		}
		if chain, chainErr := a.Chain(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be set") || chainErr != nil || len(chain) > 0 {
			t.Errorf("got %v and %d snapshots, want it refused", err, len(chain))
		}
	}
}

// TestAResumedExportKeepsTheDateOfTheFirstRun also when it is asked for another.
func TestAResumedExportKeepsTheDateOfTheFirstRun(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 600)
	vault := new(archivetest.Vault)
	a, key := archiveIn(t, vault, archive.Governance, month)
	at := time.Now()
	run := exporting(t, s, a, key, "plain")
	run.Mode, run.Retain, run.Now = archive.Compliance, year, func() time.Time { return at }
	run.To = []*snapshot.Archive{{Policy: a.Policy, Trust: a.Trust, Store: &dying{Vault: vault, at: 12}}}
	if _, err := run.Run(t.Context()); err == nil {
		t.Fatal("the export should have broken")
	}
	want := archive.Lock{Mode: archive.Compliance, Until: at.UTC().AddDate(1, 0, 0).Truncate(time.Second)}
	at = at.Add(3 * time.Hour)
	run.To, run.Resume, run.Mode, run.Retain = []*snapshot.Archive{a}, "latest", archive.Governance, month
	e, err := first(run.Run(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if got := signed(e); got != want {
		t.Errorf("signed is %+v, want %+v", got, want)
	}
	lockedAsSigned(t, vault, e)
}

// TestADateThatHasPassedIsNotExportedFor, nor is there anything written then.
func TestADateThatHasPassedIsNotExportedFor(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 600)
	first, other := new(archivetest.Vault), new(archivetest.Vault)
	key := newKey(t)
	a := open(t, first, initiate(t, first, snapshot.Setup{}, policyOf(1, key), key).Trust)
	b := open(t, other, initiate(t, other, snapshot.Setup{}, policyOf(1, key), key).Trust)
	at := time.Now()
	run := exporting(t, s, nil, key, "plain")
	run.Mode, run.Retain, run.Now = archive.Governance, month, func() time.Time { return at }
	run.To = []*snapshot.Archive{{Policy: a.Policy, Trust: a.Trust, Store: &dying{Vault: first, at: 12}}}
	if _, err := run.Run(t.Context()); err == nil {
		t.Fatal("the export should have broken")
	}
	run.Resume = "latest"
	at = at.AddDate(0, 0, 31)
	for _, to := range [][]*snapshot.Archive{{a}, {b, a}} {
		was := len(first.Names()) + len(other.Names())
		run.To = to
		_, err := run.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "has passed; begin a new export") || errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("got %v", err)
		}
		if now := len(first.Names()) + len(other.Names()); now != was {
			t.Errorf("%d objects, there were %d", now, was)
		}
	}
	at = at.AddDate(0, 0, -2)
	run.To = []*snapshot.Archive{a, b}
	if _, err := run.Run(t.Context()); err != nil {
		t.Errorf("on the last day but one: %v", err)
	}
}

// TestABucketThatDoesLessThanBeforeIsNoticed while an export goes on: chunks put
// after somebody changed the bucket's default are locked one by one, or there is no
// manifest.
func TestABucketThatDoesLessThanBeforeIsNoticed(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 600)
	for _, allowed := range []bool{true, false} {
		vault := &archivetest.Vault{Default: archive.Governance, DefaultPeriod: month}
		a, key := archiveIn(t, vault, archive.Unlocked, archive.Period{})
		store := &watching{Vault: vault, forbid: func(string) bool { return !allowed }, broken: func(name string) bool {
			if strings.HasSuffix(name, ".parquet") {
				vault.DefaultPeriod = archive.Period{Days: 1}
			}
			return false
		}}
		e, err := first(exporting(t, s, open(t, store, a.Trust), key, "plain").Run(t.Context()))
		chain, chainErr := a.Chain(t.Context())
		if chainErr != nil || (len(chain) == 1) != allowed {
			t.Errorf("%d snapshots, %v", len(chain), chainErr)
		}
		if !allowed {
			if err == nil || !strings.Contains(err.Error(), "cannot be set") {
				t.Errorf("got %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		lockedAsSigned(t, vault, e)
	}
}

// TestWhateverFailsASnapshotIsWholeAndLockedOrNone kills an export of locked
// objects, to one archive and to two, at every call of its stores.
func TestWhateverFailsASnapshotIsWholeAndLockedOrNone(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 400)
	step := 1
	if testing.Short() {
		step = 7
	}
	for _, archives := range []int{1, 2} {
		for _, after := range []bool{false, true} {
			for n := 1; ; n += step {
				if !killedAt(t, s, archives, n, after) {
					if n < 30 {
						t.Errorf("only %d calls", n)
					}
					break
				}
			}
		}
	}
}

// killedAt exports to stores of which the last dies at its n-th call, checks what is
// there, resumes, and checks again. It returns false if n was too high to matter.
func killedAt(t *testing.T, s *service, archives, n int, after bool) bool {
	t.Helper()
	var vaults []*archivetest.Vault
	var whole, broken []*snapshot.Archive
	key := newKey(t)
	for range archives {
		vault := new(archivetest.Vault)
		made := initiate(t, vault, snapshot.Setup{Mode: archive.Compliance, Period: year}, policyOf(1, key), key)
		a := open(t, vault, made.Trust)
		vaults, whole, broken = append(vaults, vault), append(whole, a), append(broken, a)
	}
	last := archives - 1
	store := &dying{Vault: vaults[last], at: n, after: after}
	broken[last] = &snapshot.Archive{Store: store, Policy: whole[last].Policy, Trust: whole[last].Trust, Place: "s3://dying"}
	run := exporting(t, s, nil, key, "plain")
	run.To, run.Workers, run.SplitBytes, run.ChunkBytes = broken, 2, 16<<10, 16<<10
	exported, err := run.Run(t.Context())
	if !store.dead {
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	what := fmt.Sprintf("call %d of archive %d, done %v", n, archives, after)
	if err != nil && (!errors.Is(err, archive.ErrUnavailable) || archives > 1 && !strings.Contains(err.Error(), "s3://dying")) {
		t.Errorf("%s: got %v", what, err)
	}
	if err == nil && len(exported[last].Warnings) == 0 {
		t.Errorf("%s: no word of what failed after the commit", what)
	}
	done := 0
	for i, a := range whole {
		done += len(wholeAndLocked(t, what, vaults[i], a))
	}
	if done == archives {
		return true
	}
	run.To = whole
	if ids := unfinished(t, whole); len(ids) > 0 {
		run.Resume = "latest"
	}
	exported, err = run.Run(t.Context())
	if err != nil {
		t.Fatalf("%s: resumed: %v", what, err)
	}
	for i, a := range whole {
		chain := wholeAndLocked(t, what, vaults[i], a)
		if len(chain) != 1 || chain[0].Digest != exported[i].Digest || chain[0].Manifest.Snapshot != exported[0].Manifest.Snapshot {
			t.Errorf("%s: archive %d has %d snapshots, not the one exported", what, i, len(chain))
		}
	}
	return true
}

func unfinished(t *testing.T, archives []*snapshot.Archive) []string {
	t.Helper()
	var all []string
	for _, a := range archives {
		ids, err := a.Unfinished(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ids...)
	}
	return all
}

func wholeAndLocked(t *testing.T, what string, vault *archivetest.Vault, a *snapshot.Archive) []snapshot.Entry {
	t.Helper()
	chain, err := a.Chain(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if _, err := (snapshot.Verify{Archive: a, Level: snapshot.Hashes}).Run(t.Context()); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	for _, e := range chain {
		lockedAsSigned(t, vault, e)
	}
	return chain
}

func TestOneScanFillsTwoArchives(t *testing.T) {
	counted := newScanCounter(newService(t))
	s := counted.service
	fillPlain(t, s.client("source"), "plain", 600)
	fillRagged(t, s.client("source"))
	one, both, two := newKey(t), newKey(t), newKey(t)
	v1, v2 := new(archivetest.Vault), new(archivetest.Vault)
	a1 := open(t, v1, initiate(t, v1, snapshot.Setup{Mode: archive.Compliance, Period: seven}, policyOf(2, one, both), one, both).Trust)
	a2 := open(t, v2, initiate(t, v2, snapshot.Setup{}, policyOf(1, two, both), two).Trust)
	run := exporting(t, s, nil, nil, "plain", "ragged")
	run.From, run.To, run.Signers = counted.source(t), []*snapshot.Archive{a1, a2}, []manifest.Signer{two, both, one}
	exported, err := run.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again := counted.again(); len(again) > 0 {
		t.Errorf("scanned more than once: %v", again)
	}
	a, b := exported[0].Manifest, exported[1].Manifest
	if a.Snapshot != b.Snapshot || a.Archive == b.Archive || a.Started != b.Started || a.Totals != b.Totals {
		t.Errorf("the snapshots are\n%+v\n%+v", a, b)
	}
	if a.Retention.Mode != "compliance" || b.Retention.Mode != "none" {
		t.Errorf("retained %+v and %+v", a.Retention, b.Retention)
	}
	chunksOf := func(v *archivetest.Vault) map[string][]byte {
		chunks := contents(t, v)
		for name := range chunks {
			if !strings.HasSuffix(name, ".parquet") {
				delete(chunks, name)
			}
		}
		return chunks
	}
	inFirst, inSecond := chunksOf(v1), chunksOf(v2)
	if len(inFirst) != len(inSecond) || len(inFirst) < 5 {
		t.Errorf("%d and %d chunks", len(inFirst), len(inSecond))
	}
	for name, data := range inFirst {
		if !bytes.Equal(inSecond[name], data) {
			t.Errorf("%s differs", name)
		}
	}
	for _, x := range []*snapshot.Archive{a1, a2} {
		if _, err := (snapshot.Verify{Archive: x, Level: snapshot.Rows}).Run(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestTwoArchivesThatCannotBeOneExport(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 50)
	a, keyA := newArchive(t, new(archivetest.Memory))
	b, keyB := newArchive(t, new(archivetest.Memory))
	a.Place, b.Place = "oss://one", "s3://other"
	for name, test := range map[string]struct {
		to      []*snapshot.Archive
		signers []manifest.Signer
		want    error
		says    string
	}{
		"none":           {nil, []manifest.Signer{keyA}, nil, "no archive"},
		"the same twice": {[]*snapshot.Archive{a, a}, []manifest.Signer{keyA}, nil, "copy it"},
		"a key for one":  {[]*snapshot.Archive{a, b}, []manifest.Signer{keyA}, manifest.ErrUntrusted, "s3://other"},
		"a key for none": {[]*snapshot.Archive{a, b}, []manifest.Signer{keyA, keyB, newKey(t)}, manifest.ErrUntrusted, "none of the archives"},
		"one key twice":  {[]*snapshot.Archive{a, b}, []manifest.Signer{keyA, keyB, keyA}, manifest.ErrUntrusted, "twice"},
	} {
		run := exporting(t, s, nil, nil, "plain")
		run.To, run.Signers = test.to, test.signers
		_, err := run.Run(t.Context())
		if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", name, err, test.says)
		}
	}
	if ids := unfinished(t, []*snapshot.Archive{a, b}); len(ids) > 0 {
		t.Errorf("plans were written: %v", ids)
	}
}

// TestNoPlanIsWrittenUnlessEveryArchiveTakesIt: one that is locked would stay.
func TestNoPlanIsWrittenUnlessEveryArchiveTakesIt(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 50)
	key := newKey(t)
	var to []*snapshot.Archive
	for _, store := range []archive.Store{new(archivetest.Vault), new(archivetest.Memory)} {
		to = append(to, open(t, store, initiate(t, store, snapshot.Setup{}, policyOf(1, key), key).Trust))
	}
	run := exporting(t, s, nil, key, "plain")
	run.To, run.Mode, run.Retain = to, archive.Compliance, year
	if _, err := run.Run(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
	if ids := unfinished(t, to); len(ids) > 0 {
		t.Errorf("plans were written: %v", ids)
	}
}

// TestPlansThatDifferAreNotResumedAsOne has an archive where somebody signed another
// plan under the same id.
func TestPlansThatDifferAreNotResumedAsOne(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 200)
	key := newKey(t)
	vaults := []*archivetest.Vault{new(archivetest.Vault), new(archivetest.Vault)}
	var whole, broken []*snapshot.Archive
	for _, v := range vaults {
		a := open(t, v, initiate(t, v, snapshot.Setup{}, policyOf(1, key), key).Trust)
		store := &watching{Vault: v, broken: func(name string) bool { return strings.Contains(name, "/plain/") }}
		whole, broken = append(whole, a), append(broken, &snapshot.Archive{Store: store, Policy: a.Policy, Trust: a.Trust})
	}
	run := exporting(t, s, nil, key, "plain")
	run.To = broken
	if _, err := run.Run(t.Context()); err == nil {
		t.Fatal("the export should have broken")
	}
	ids := unfinished(t, whole)
	if len(ids) != 2 || ids[0] != ids[1] {
		t.Fatalf("unfinished are %q", ids)
	}
	name := manifest.PlanName(ids[0])
	plan, err := manifest.OpenPlan(contents(t, vaults[1])[name], whole[1].Policy)
	if err != nil {
		t.Fatal(err)
	}
	plan.ChunkBytes++
	sealed, err := manifest.SealPlan(t.Context(), plan, key)
	if err != nil {
		t.Fatal(err)
	}
	vaults[1].Replace(name, sealed)
	run.To, run.Resume = whole, "latest"
	if _, err := run.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "one by one") {
		t.Errorf("resumed together: %v", err)
	}
	for i, a := range whole {
		run.To = []*snapshot.Archive{a}
		if _, err := run.Run(t.Context()); err != nil {
			t.Errorf("archive %d alone: %v", i, err)
		}
	}
}

// TestOnlyWhoLacksARangeGetsItAgain breaks off the second archive after some ranges
// of both are there.
func TestOnlyWhoLacksARangeGetsItAgain(t *testing.T) {
	counted := newScanCounter(newService(t))
	s := counted.service
	fillPlain(t, s.client("source"), "plain", 1500)
	key := newKey(t)
	var archives []*snapshot.Archive
	for range 2 {
		v := new(archivetest.Vault)
		archives = append(archives, open(t, v, initiate(t, v, snapshot.Setup{}, policyOf(1, key), key).Trust))
	}
	run := exporting(t, s, nil, key, "plain")
	run.Workers, run.From, run.SplitBytes = 1, counted.source(t), 64<<10
	pages := 0
	run.To = []*snapshot.Archive{archives[0], {Policy: archives[1].Policy, Trust: archives[1].Trust, Store: &archivetest.Faulty{
		Store: archives[1].Store, Cue: func(c archivetest.Call) archivetest.Fault {
			if c.Op == "put" && strings.Contains(c.Name, "/plain/") && strings.HasSuffix(c.Name, ".dsse.json") {
				if pages++; pages == 2 {
					return archivetest.Before
				}
			}
			return archivetest.None
		},
	}}}
	if _, err := run.Run(t.Context()); err == nil {
		t.Fatal("the export should have broken")
	}
	counted.reset()
	run.To, run.Resume = archives, "latest"
	exported, err := run.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ranges := len(exported[0].Manifest.Tables[0].Pages)
	if got := counted.scans(); got != ranges-1 || ranges < 3 {
		t.Errorf("%d of %d ranges were scanned again, want all but the one both had", got, ranges)
	}
	for i, a := range archives {
		if _, err := (snapshot.Verify{Archive: a, Level: snapshot.Rows}).Run(t.Context()); err != nil {
			t.Errorf("archive %d: %v", i, err)
		}
	}
}

// TestFrozenChunksOfABrokenExportAreTakenAsTheyAre resumes where no chunk can be
// read again: the store vouches for their digests.
func TestFrozenChunksOfABrokenExportAreTakenAsTheyAre(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 600)
	for _, vouches := range []bool{true, false} {
		vault := &archivetest.Vault{FreezeBulk: true, NoChecksums: !vouches}
		a, key := archiveIn(t, vault, archive.Compliance, year)
		run := exporting(t, s, a, key, "plain")
		run.To = []*snapshot.Archive{{Policy: a.Policy, Trust: a.Trust, Store: &watching{Vault: vault, broken: func(name string) bool {
			return strings.HasSuffix(name, "/plain/r0000.dsse.json")
		}}}}
		if _, err := run.Run(t.Context()); err == nil {
			t.Fatal("the export should have broken")
		}
		run.To, run.Resume = []*snapshot.Archive{a}, "latest"
		e, err := first(run.Run(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		second := slices.ContainsFunc(vault.Names(), func(name string) bool { return strings.Contains(name, "r0000.1-") })
		if second == vouches {
			t.Errorf("the store vouches %v, and chunks have a second name %v", vouches, second)
		}
		lockedAsSigned(t, vault, e)
	}
}

// TestABucketCountsByItsOwnClock has a machine whose clock is ahead of the store's:
// what the bucket does unasked is signed with room for that, and what is asked for
// to the second is refused if the bucket does not keep it.
func TestABucketCountsByItsOwnClock(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 100)
	store := newWorm(30)
	store.skew = -10 * time.Minute
	a, key := archiveIn(t, store, archive.Unlocked, archive.Period{})
	lockedAsSigned(t, store, export(t, s, a, key, "plain"))
	run := exporting(t, s, a, key, "plain")
	run.Mode, run.Retain = archive.Compliance, month
	if _, err := run.Run(t.Context()); !errors.Is(err, snapshot.ErrWeaker) {
		t.Errorf("got %v, want ErrWeaker", err)
	}
	if chain, err := a.Chain(t.Context()); err != nil || len(chain) != 1 {
		t.Errorf("%d snapshots, %v", len(chain), err)
	}
}

// TestRetentionOutlivesTheReport: an archive whose report of the store is gone, as
// that of any copy, is exported to as it was before.
func TestRetentionOutlivesTheReport(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 100)
	vault := new(archivetest.Vault)
	a, key := archiveIn(t, vault, archive.Compliance, month)
	if _, err := first(exporting(t, s, a, key, "plain").Run(t.Context())); err != nil {
		t.Fatal(err)
	}
	vault.Erase(manifest.StoreName(a.Policy.ID()))
	e, err := first(exporting(t, s, a, key, "plain").Run(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	until, err := time.Parse(time.RFC3339, e.Manifest.Retention.Until)
	if kept := until.Sub(e.Manifest.Started.Time); err != nil || e.Manifest.Retention.Mode != "compliance" || kept < 29*24*time.Hour {
		t.Errorf("the second snapshot is signed to be retained %+v (%s), %v", e.Manifest.Retention, kept, err)
	}
	weaker := exporting(t, s, a, key, "plain")
	weaker.Mode, weaker.Retain = archive.Governance, archive.Period{Days: 3}
	if _, err := weaker.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "less than") {
		t.Errorf("less was asked for: %v", err)
	}
}

// TestASnapshotRetainedLessIsNoted, for each of them is as it was signed.
func TestASnapshotRetainedLessIsNoted(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), year, month)
	report, err := snapshot.Verify{Archive: k.Archive}.Run(t.Context())
	if err != nil || len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "which is less than the one before") {
		t.Errorf("got %v, notes %q", err, report.Notes)
	}
	longer := newKept(t, new(archivetest.Vault), month, year)
	report, err = snapshot.Verify{Archive: longer.Archive}.Run(t.Context())
	if err != nil || len(report.Notes) != 0 {
		t.Errorf("got %v, notes %q", err, report.Notes)
	}
}
