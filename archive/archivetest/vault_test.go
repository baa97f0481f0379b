package archivetest

import (
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

func TestVault(t *testing.T) {
	for name, open := range map[string]func() *Vault{
		"Whole":      func() *Vault { return new(Vault) },
		"NoVersions": func() *Vault { return &Vault{NoVersions: true, NoBucketLock: true, NoChecksums: true} },
	} {
		t.Run(name, func(t *testing.T) {
			TestStore(t, func(*testing.T) archive.Store { return open() })
		})
	}
}

// clock is a time that a test sets.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newClock() *clock { return &clock{time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

func TestVaultKeepsWhatIsLocked(t *testing.T) {
	c := newClock()
	day := func(n int) time.Time { return c.now.AddDate(0, 0, n) }
	governance := archive.Lock{Mode: archive.Governance, Until: day(10)}
	compliance := archive.Lock{Mode: archive.Compliance, Until: day(10)}
	tests := []struct {
		name           string
		lock           archive.Lock
		days           int // passed
		delete, bypass bool
	}{
		{name: "none", delete: true, bypass: true},
		{name: "governance", lock: governance, days: 9, bypass: true},
		{name: "compliance", lock: compliance, days: 9},
		{name: "a lock that ended", lock: compliance, days: 10, delete: true, bypass: true},
		{name: "a hold", lock: archive.Lock{Hold: true}, days: 100},
		{name: "a hold beyond the lock", lock: archive.Lock{Mode: archive.Governance, Until: day(10), Hold: true}, days: 11},
	}
	for _, test := range tests {
		v := &Vault{Now: c.Now}
		if err := v.Put(t.Context(), "a", strings.NewReader("x"), archive.PutOptions{Lock: test.lock}); err != nil {
			t.Fatal(test.name, err)
		}
		later := &clock{day(test.days)}
		v.Now = later.Now
		for op, remove := range map[string]func(*Vault) error{
			"Delete": func(v *Vault) error { return v.Delete(t.Context(), "a") },
			"Bypass": func(v *Vault) error { return v.Bypass(t.Context(), "a") },
		} {
			can := test.delete
			if op == "Bypass" {
				can = test.bypass
			}
			one := v.Clone()
			err := remove(one)
			if can != (err == nil) || err != nil && !errors.Is(err, archive.ErrLocked) {
				t.Errorf("%s: %s after %d days: %v", test.name, op, test.days, err)
			}
			if gone := len(one.Names()) == 0; gone != can {
				t.Errorf("%s: %s: the object is gone: %v", test.name, op, gone)
			}
		}
	}
}

func TestVaultFirmsLocksOnly(t *testing.T) {
	c := newClock()
	lock := func(mode archive.Mode, days int) archive.Lock {
		return archive.Lock{Mode: mode, Until: c.now.AddDate(0, 0, days)}
	}
	tests := []struct{ had, asked, want archive.Lock }{
		{archive.Lock{}, lock(archive.Governance, 5), lock(archive.Governance, 5)},
		{lock(archive.Governance, 5), lock(archive.Governance, 9), lock(archive.Governance, 9)},
		{lock(archive.Governance, 5), lock(archive.Governance, 3), lock(archive.Governance, 5)},
		{lock(archive.Governance, 5), lock(archive.Compliance, 3), lock(archive.Compliance, 5)},
		{lock(archive.Compliance, 5), lock(archive.Governance, 9), lock(archive.Compliance, 9)},
		{lock(archive.Compliance, 5), archive.Lock{}, lock(archive.Compliance, 5)},
	}
	for _, test := range tests {
		v := &Vault{Now: c.Now}
		if err := v.Put(t.Context(), "a", strings.NewReader("x"), archive.PutOptions{Lock: test.had}); err != nil {
			t.Fatal(err)
		}
		if err := v.Lock(t.Context(), "a", test.asked); err != nil {
			t.Errorf("%v on %v: %v", test.asked, test.had, err)
		}
		if info, err := v.Inspect(t.Context(), "a"); err != nil || info.Lock != test.want {
			t.Errorf("%v on %v: got %v and %v, want %v", test.asked, test.had, info.Lock, err, test.want)
		}
	}
}

func TestVaultRetainsTheWholeBucket(t *testing.T) {
	c := newClock()
	v := &Vault{Now: c.Now}
	put(t, v, "a", "x")
	if b, err := v.StartBucketLock(t.Context(), 3); err != nil || b.State != archive.BucketOpen || b.Deadline != c.now.Add(24*time.Hour) {
		t.Fatalf("got %+v and %v", b, err)
	}
	wantLocked(t, v, "a")
	c.now = c.now.Add(24 * time.Hour)
	if b, err := v.BucketLock(t.Context()); err != nil || !b.Expired {
		t.Errorf("a day later: got %+v and %v, want it expired", b, err)
	}
	remove(t, v, "a")
	if err := v.CompleteBucketLock(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("completed one that is void: %v", err)
	}
	if _, err := v.StartBucketLock(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if err := v.CompleteBucketLock(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, v, "b", "x")
	if err := v.AbortBucketLock(t.Context()); !errors.Is(err, archive.ErrLocked) {
		t.Errorf("aborted one that is final: %v", err)
	}
	if err := v.ExtendBucketLock(t.Context(), 2); !errors.Is(err, archive.ErrLocked) {
		t.Errorf("made one shorter: %v", err)
	}
	if err := v.ExtendBucketLock(t.Context(), 5); err != nil {
		t.Error(err)
	}
	c.now = c.now.AddDate(0, 0, 4)
	wantLocked(t, v, "b")
	c.now = c.now.AddDate(0, 0, 1)
	remove(t, v, "b")
}

func TestVaultWithoutLocks(t *testing.T) {
	lock := archive.Lock{Mode: archive.Compliance, Until: time.Now().AddDate(1, 0, 0)}
	for name, v := range map[string]*Vault{"NoLocks": {NoLocks: true}, "NoVersions": {NoVersions: true}} {
		if err := v.Put(t.Context(), "a", strings.NewReader("x"), archive.PutOptions{Lock: lock}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: locked put: %v", name, err)
		}
		put(t, v, "a", "x")
		if err := errors.Join(v.Lock(t.Context(), "a", lock)); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: lock: %v", name, err)
		}
		remove(t, v, "a")
	}
	v := &Vault{DropLocks: true}
	if err := v.Put(t.Context(), "a", strings.NewReader("x"), archive.PutOptions{Lock: lock}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Lock(t.Context(), "a", lock), v.Hold(t.Context(), "a", true)); err != nil {
		t.Error(err)
	}
	if info, err := v.Inspect(t.Context(), "a"); err != nil || info.Lock != (archive.Lock{}) {
		t.Errorf("locks are dropped: got %v and %v", info.Lock, err)
	}
}

func TestVaultFreezesAndThaws(t *testing.T) {
	c := newClock()
	v := &Vault{Now: c.Now, FreezeBulk: true, ThawTime: 5 * time.Hour}
	put(t, v, "small", "x")
	if err := v.Put(t.Context(), "bulk", strings.NewReader("rows"), archive.PutOptions{Bulk: true}); err != nil {
		t.Fatal(err)
	}
	state := func(frozen, thawing bool, to time.Time) {
		t.Helper()
		info, err := v.Inspect(t.Context(), "bulk")
		if err != nil || info.Class != ClassArchive || info.Frozen != frozen || info.Thawing != thawing || info.ThawedTo != to {
			t.Errorf("got %+v and %v, want frozen %v, thawing %v, thawed to %v", info, err, frozen, thawing, to)
		}
		_, err = v.Get(t.Context(), "bulk")
		if got := errors.Is(err, archive.ErrFrozen) && errors.Is(err, archive.ErrUnavailable); got != frozen {
			t.Errorf("Get: %v", err)
		}
	}
	state(true, false, time.Time{})
	thaw := func() {
		if err := v.Thaw(t.Context(), "bulk", 2, "Standard"); err != nil {
			t.Error(err)
		}
	}
	thaw()
	state(true, true, time.Time{})
	c.now = c.now.Add(4 * time.Hour)
	thaw()
	state(true, true, time.Time{})
	c.now = c.now.Add(time.Hour)
	state(false, false, c.now.AddDate(0, 0, 2))
	c.now = c.now.AddDate(0, 0, 1)
	thaw()
	state(false, false, c.now.AddDate(0, 0, 2))
	c.now = c.now.AddDate(0, 0, 2)
	state(true, false, time.Time{})
	want(t, v, "small", "x")
	for name, err := range map[string]error{
		"standard class": v.Thaw(t.Context(), "small", 1, ""),
		"no such tier":   v.Thaw(t.Context(), "bulk", 1, "now"),
		"no days":        v.Thaw(t.Context(), "bulk", 0, ""),
	} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("thaw, %s: %v", name, err)
		}
	}
}

func TestVaultUnderAttack(t *testing.T) {
	lock := archive.Lock{Mode: archive.Compliance, Until: time.Now().AddDate(1, 0, 0)}
	v := new(Vault)
	if err := v.Put(t.Context(), "a", strings.NewReader("mine"), archive.PutOptions{Lock: lock}); err != nil {
		t.Fatal(err)
	}
	first, err := v.Inspect(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Overlay("a", []byte("theirs")), v.Mark("a")); err != nil {
		t.Fatal(err)
	}
	want(t, v, "a", "mine")
	wantList(t, v, "", "a")
	var kinds []bool
	for s, err := range v.Shadows(t.Context(), "") {
		if err != nil || s.Name != "a" || s.Version == first.Version {
			t.Errorf("got %+v and %v", s, err)
		}
		kinds = append(kinds, s.Marker)
	}
	if !reflect.DeepEqual(kinds, []bool{false, true}) {
		t.Errorf("shadows are markers: %v, want the second only", kinds)
	}
	v.Tamper("a", []byte("flip"))
	want(t, v, "a", "flip")
	if now, err := v.Inspect(t.Context(), "a"); err != nil || now != first {
		t.Errorf("tampering shows: %+v, was %+v", now, first)
	}
	wantLocked(t, v, "a")
	v.Unlock("a")
	remove(t, v, "a")
	wantMissing(t, v, "a")
}

func TestVaultThatIgnoresCreateOnly(t *testing.T) {
	for _, versions := range []bool{true, false} {
		v := &Vault{IgnoreCreateOnly: true, NoVersions: !versions}
		put(t, v, "a", "first")
		put(t, v, "a", "second")
		if versions {
			want(t, v, "a", "first")
		} else {
			want(t, v, "a", "second")
		}
		found, err := v.Probe(t.Context(), "a")
		if err != nil || found[0] != (archive.Capability{Name: archive.CanCreateOnly, State: archive.Absent}) {
			t.Errorf("probe: %+v, %v", found, err)
		}
	}
}

func TestVaultChecksDigests(t *testing.T) {
	wrong := archive.PutOptions{SHA256: manifest.Hash{1}}
	if err := new(Vault).Put(t.Context(), "a", strings.NewReader("x"), wrong); !errors.Is(err, archive.ErrUnavailable) {
		t.Errorf("wrong digest: got %v", err)
	}
	v := &Vault{NoChecksums: true}
	if err := v.Put(t.Context(), "a", strings.NewReader("x"), wrong); err != nil {
		t.Error(err)
	}
	if info, err := v.Inspect(t.Context(), "a"); err != nil || info.SHA256 != (manifest.Hash{}) {
		t.Errorf("got digest %v, %v", info.SHA256, err)
	}
}

func TestVaultCloneHasAllFields(t *testing.T) {
	v := &Vault{
		Default: archive.Governance, DefaultPeriod: archive.Period{Days: 1}, FreezeBulk: true, ThawTime: 1, Encryption: "x",
		IgnoreCreateOnly: true, NoVersions: true, NoLocks: true, DropLocks: true, NoBucketLock: true, NoChecksums: true,
		NoTiers: true, Blind: true, Unsure: []string{"x"}, Now: time.Now,
	}
	c := reflect.ValueOf(v.Clone()).Elem()
	for _, field := range reflect.VisibleFields(c.Type()) {
		if field.IsExported() && c.FieldByIndex(field.Index).IsZero() {
			t.Errorf("clone lacks %s", field.Name)
		}
	}
}
