package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// wormStore is a store that cannot lock single objects; its bucket retains all of
// them for some days after they were put.
type wormStore struct {
	archive.Store
	vault *archivetest.Vault
	days  int           // 0: it does not
	skew  time.Duration // of the server's clock
}

func newWorm(days int) *wormStore {
	v := &archivetest.Vault{NoVersions: true}
	return &wormStore{Store: v, vault: v, days: days}
}

func (w *wormStore) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	if opts.Lock != (archive.Lock{}) {
		return errors.ErrUnsupported
	}
	return w.vault.Put(ctx, name, body, opts)
}

func (w *wormStore) Delete(ctx context.Context, name string) error {
	if info, err := w.Inspect(ctx, name); err == nil && info.Lock.Until.After(time.Now()) {
		return archive.ErrLocked
	}
	return w.vault.Delete(ctx, name)
}

func (w *wormStore) DefaultLock(context.Context) (archive.Mode, archive.Period, error) {
	if w.days == 0 {
		return archive.Unlocked, archive.Period{}, nil
	}
	return archive.Compliance, archive.Period{Days: w.days}, nil
}

func (w *wormStore) Inspect(ctx context.Context, name string) (archive.Info, error) {
	info, err := w.vault.Inspect(ctx, name)
	if w.days > 0 && err == nil {
		info.Lock = archive.Lock{Mode: archive.Compliance, Until: info.Modified.Add(w.skew).AddDate(0, 0, w.days)}
	}
	return info, err
}

// bare is a store that is no more than one, whatever it is made of.
type bare struct{ store archive.Store }

func (b bare) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	return b.store.Put(ctx, name, body, opts)
}
func (b bare) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	return b.store.Get(ctx, name)
}
func (b bare) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return b.store.List(ctx, prefix)
}
func (b bare) Delete(ctx context.Context, name string) error { return b.store.Delete(ctx, name) }

func TestANewArchiveRecordsWhatItsStoreCanDo(t *testing.T) {
	for name, test := range map[string]struct {
		store archive.Store
		want  map[string]archive.State
	}{
		"a vault":                {new(archivetest.Vault), map[string]archive.State{archive.CanCreateOnly: archive.Supported, archive.CanLock: archive.Supported, archive.CanEncrypt: archive.Absent}},
		"a vault without locks":  {&archivetest.Vault{NoLocks: true}, map[string]archive.State{archive.CanLock: archive.Absent, archive.CanVersion: archive.Supported}},
		"one that is not sure":   {&archivetest.Vault{Unsure: []string{archive.CanCreateOnly}}, map[string]archive.State{archive.CanCreateOnly: archive.Unknown}},
		"one that does not tell": {bare{new(archivetest.Memory)}, map[string]archive.State{archive.CanCreateOnly: archive.Unknown, archive.CanLock: archive.Unknown, archive.CanTier: archive.Unknown}},
	} {
		key := newKey(t)
		made := initiate(t, test.store, snapshot.Setup{Kind: "test"}, policyOf(1, key), key)
		settings, err := open(t, test.store, made.Trust).Settings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if settings.Kind != "test" || settings.Retention != (manifest.StoreRetention{Mode: "none"}) || len(settings.Capabilities) != 8 {
			t.Errorf("%s: recorded is %+v", name, settings)
		}
		for i, c := range made.Capabilities {
			recorded := settings.Capabilities[i]
			if recorded != (manifest.Capability{Name: c.Name, State: string(c.State), Detail: c.Detail}) {
				t.Errorf("%s: told is %+v, recorded %+v", name, c, recorded)
			}
			if want, ok := test.want[c.Name]; ok && c.State != want {
				t.Errorf("%s: %s is %s, want %s", name, c.Name, c.State, want)
			}
		}
	}
}

func TestAStoreThatOverwritesIsRefused(t *testing.T) {
	for _, versions := range []bool{true, false} {
		store := &archivetest.Vault{IgnoreCreateOnly: true, NoVersions: !versions}
		key := newKey(t)
		_, err := snapshot.Init(t.Context(), store, policyOf(1, key), snapshot.Setup{Kind: "test"}, key)
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "overwritten") {
			t.Errorf("versions %v: got %v", versions, err)
		}
		if names := store.Names(); !slices.Equal(names, []string{"README.md", "verify.sh"}) {
			t.Errorf("versions %v: there is %q, want the texts alone", versions, names)
		}
	}
}

func TestANewArchiveIsLockedAsAsked(t *testing.T) {
	store, key := new(archivetest.Vault), newKey(t)
	setup := snapshot.Setup{Mode: archive.Compliance, Period: archive.Period{Years: 7}}
	before := time.Now()
	made := initiate(t, store, setup, policyOf(1, key), key)
	want := archive.Lock{Mode: archive.Compliance, Until: before.AddDate(7, 0, 0)}
	for _, name := range []string{"README.md", "verify.sh", "policy/00000001.dsse.json", manifest.StoreName(made.Trust.Archive)} {
		if info, err := store.Inspect(t.Context(), name); err != nil || !info.Lock.Covers(want) {
			t.Errorf("%s: lock %+v, %v, want %+v", name, info.Lock, err, want)
		}
	}
	settings, err := open(t, store, made.Trust).Settings(t.Context())
	if err != nil || settings.Retention != (manifest.StoreRetention{Mode: "compliance", Years: 7}) {
		t.Errorf("recorded is %+v, %v", settings, err)
	}
}

func TestARetentionTheStoreCannotGiveIsRefused(t *testing.T) {
	week := archive.Period{Days: 7}
	for name, test := range map[string]struct {
		store  archive.Store
		mode   archive.Mode
		period archive.Period
		says   string
		left   int // objects
	}{
		"a store without locks":            {bare{new(archivetest.Memory)}, archive.Governance, week, "cannot lock", 0},
		"a bucket without locks":           {&archivetest.Vault{NoLocks: true, NoBucketLock: true}, archive.Governance, week, "no object lock", 2},
		"a server that drops locks":        {&archivetest.Vault{DropLocks: true, NoBucketLock: true}, archive.Governance, week, "no object lock", 2},
		"one of which that is not known":   {&archivetest.Vault{DropLocks: true, Unsure: []string{archive.CanLock}}, archive.Governance, week, "keeps none", 2},
		"a bucket that retains nothing":    {newWorm(0), archive.Compliance, week, "nothing retains", 0},
		"a bucket that retains less long":  {newWorm(6), archive.Compliance, week, "compliance for 6d", 0},
		"a bucket, short of a leap day":    {newWorm(7*365 + 1), archive.Compliance, archive.Period{Years: 7}, "which is less", 0},
		"a year that is not a leap year's": {newWorm(365), archive.Compliance, archive.Period{Years: 1}, "which is less", 0},
		"a period without a mode":          {new(archivetest.Vault), archive.Unlocked, week, "without a mode", 0},
		"a mode without a period":          {new(archivetest.Vault), archive.Compliance, archive.Period{}, "without a period", 0},
		"a bucket's lock of a store alone": {newWorm(7), archive.Unlocked, week, "without a mode", 0},
	} {
		key := newKey(t)
		_, err := snapshot.Init(t.Context(), test.store, policyOf(1, key), snapshot.Setup{Kind: "test", Mode: test.mode, Period: test.period}, key)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want an error with %q", name, err, test.says)
		}
		if left := len(contents(t, test.store)); left != test.left || isArchive(t, test.store) {
			t.Errorf("%s: %d objects are there, want %d", name, left, test.left)
		}
	}
}

// undecided is a store whose bucket has a lock that is not final.
type undecided struct {
	*wormStore
	archive.BucketLocker
}

func TestABucketsLockThatIsNotFinalIsNamed(t *testing.T) {
	worm, key := newWorm(0), newKey(t)
	store := undecided{worm, worm.vault}
	begun, err := store.StartBucketLock(t.Context(), 400)
	if err != nil {
		t.Fatal(err)
	}
	setup := snapshot.Setup{Kind: "test", Mode: archive.Compliance, Period: archive.Period{Years: 1}}
	_, err = snapshot.Init(t.Context(), store, policyOf(1, key), setup, key)
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "complete it before "+manifest.At(begun.Deadline).String()) {
		t.Errorf("got %v", err)
	}
}

// TestANotaryMayMakeAnArchive that others export to.
func TestANotaryMayMakeAnArchive(t *testing.T) {
	exporter, notary := newKey(t), newKey(t)
	policy := policyOf(1, exporter)
	policy.Keys = append(policy.Keys, manifest.NewPolicyKey("notary", manifest.Notary, notary.Key()))
	store := new(archivetest.Memory)
	made := initiate(t, store, snapshot.Setup{}, policy, notary)
	if settings, err := open(t, store, made.Trust).Settings(t.Context()); err != nil || settings == nil {
		t.Errorf("got %+v, %v", settings, err)
	}
}

func TestABucketThatRetainsEnoughIsTaken(t *testing.T) {
	store, key := newWorm(7*365+2), newKey(t)
	setup := snapshot.Setup{Mode: archive.Compliance, Period: archive.Period{Years: 7}}
	made := initiate(t, store, setup, policyOf(1, key), key)
	if settings, err := open(t, store, made.Trust).Settings(t.Context()); err != nil || settings.Retention.Years != 7 {
		t.Errorf("recorded is %+v, %v", settings, err)
	}
}

// TestAnInterruptedInitIsNotInTheWay breaks off a first attempt at every call.
func TestAnInterruptedInitIsNotInTheWay(t *testing.T) {
	setup := snapshot.Setup{Kind: "test", Mode: archive.Compliance, Period: archive.Period{Days: 30}}
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			vault, key := new(archivetest.Vault), newKey(t)
			store := &dying{Vault: vault, at: n, after: after}
			made, err := snapshot.Init(t.Context(), store, policyOf(1, key), setup, key)
			if err == nil {
				open(t, vault, made.Trust)
				if store.dead != (len(made.Warnings) > 0) {
					t.Errorf("call %d failed: %v, warnings %q", n, store.dead, made.Warnings)
				}
			}
			if !store.dead {
				if n < 15 {
					t.Errorf("only %d calls", n)
				}
				break
			}
			if isArchive(t, vault) {
				continue
			}
			again := initiate(t, vault, setup, policyOf(1, key), key)
			if settings, err := open(t, vault, again.Trust).Settings(t.Context()); err != nil || settings == nil {
				t.Errorf("call %d failed, then: recorded is %+v, %v", n, settings, err)
			}
		}
	}
}

// isArchive reports whether the store has a policy.
func isArchive(t *testing.T, store archive.Store) bool {
	t.Helper()
	return contents(t, store)[manifest.PolicyName(1)] != nil
}

// TestAnInitThatCannotSeeTheArchiveHarmsNothing of it: not even what it may replace.
func TestAnInitThatCannotSeeTheArchiveHarmsNothing(t *testing.T) {
	for _, setup := range []snapshot.Setup{{}, {Mode: archive.Governance, Period: month}} {
		store, key := new(archivetest.Vault), newKey(t)
		initiate(t, store, setup, policyOf(1, key), key)
		was := contents(t, store)
		blind := &archivetest.Faulty{Store: store, Cue: archivetest.OnNth("get", 1, archivetest.Before)}
		other := newKey(t)
		_, err := snapshot.Init(t.Context(), blind, policyOf(1, other), snapshot.Setup{Kind: "test"}, other)
		if !errors.Is(err, archive.ErrUnavailable) || errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		if now := contents(t, store); !reflect.DeepEqual(now, was) {
			t.Errorf("there is %q now, there was %q", slices.Sorted(maps.Keys(now)), slices.Sorted(maps.Keys(was)))
		}
	}
}

// TestOfTwoInitsAtOnceOneMakesTheArchive with its own report of the store, whenever
// the second begins and ends while the first is at work, be it that it breaks off.
func TestOfTwoInitsAtOnceOneMakesTheArchive(t *testing.T) {
	for _, dies := range []bool{false, true} {
		for n := 1; n <= 5; n++ {
			store := new(archivetest.Memory)
			var made snapshot.Initiated
			var second error
			broken := &archivetest.Faulty{Store: store, Cue: func(c archivetest.Call) archivetest.Fault {
				if dies && c.Op == "put" && c.Name == manifest.PolicyName(1) {
					return archivetest.Before
				}
				return archivetest.None
			}}
			slow := &archivetest.Faulty{Store: store, Cue: func(c archivetest.Call) archivetest.Fault {
				if c.Op == "put" && c.N == n {
					key := newKey(t)
					made, second = snapshot.Init(t.Context(), broken, policyOf(1, key), snapshot.Setup{Kind: "second"}, key)
				}
				return archivetest.None
			}}
			key := newKey(t)
			first, err := snapshot.Init(t.Context(), slow, policyOf(1, key), snapshot.Setup{Kind: "first"}, key)
			kind := "first"
			if err != nil {
				first, kind = made, "second"
			}
			if kind == "second" && (second != nil || !errors.Is(err, fs.ErrExist)) {
				t.Fatalf("put %d: got %v and %v, want one archive", n, err, second)
			}
			settings, err := open(t, store, first.Trust).Settings(t.Context())
			if err != nil || settings == nil || settings.Kind != kind || len(first.Warnings) > 0 {
				t.Errorf("put %d: the report of the %s is %+v, %v, %q", n, kind, settings, err, first.Warnings)
			}
		}
	}
}

// TestTheIdIsToldBeforeThereIsAnArchive, and who cannot take it stops it.
func TestTheIdIsToldBeforeThereIsAnArchive(t *testing.T) {
	store, key := new(archivetest.Memory), newKey(t)
	var told manifest.Trust
	full := errors.New("disk full")
	_, err := snapshot.Init(t.Context(), store, policyOf(1, key), snapshot.Setup{Kind: "test", Found: func(found manifest.Trust) error {
		told = found
		return full
	}}, key)
	if !errors.Is(err, full) || told.Archive.IsZero() || isArchive(t, store) {
		t.Errorf("got %v, told %+v", err, told)
	}
	made := initiate(t, store, snapshot.Setup{Kind: "test", Found: func(found manifest.Trust) error { told = found; return nil }}, policyOf(1, key), key)
	if told != made.Trust {
		t.Errorf("told %+v, made %+v", told, made.Trust)
	}
}

func TestASecondInitIsRefused(t *testing.T) {
	store, key := new(archivetest.Vault), newKey(t)
	initiate(t, store, snapshot.Setup{}, policyOf(1, key), key)
	was := contents(t, store)
	_, err := snapshot.Init(t.Context(), store, policyOf(1, key), snapshot.Setup{Kind: "test"}, key)
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	for name, data := range contents(t, store) {
		if !bytes.Equal(was[name], data) {
			t.Errorf("%s is another", name)
		}
	}
}
