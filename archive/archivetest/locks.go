package archivetest

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
)

// LockStore is a store with locks.
type LockStore interface {
	archive.Store
	archive.Locker
}

// TestLocks holds a store to its locks. open returns an empty store whose bucket
// can lock and locks nothing by itself. The tests leave objects behind that are
// locked, with compliance, for up to four days: only run it on a server that is
// thrown away.
func TestLocks(t *testing.T, open func(t *testing.T) LockStore) {
	tests := []struct {
		name string
		run  func(t *testing.T, s LockStore)
	}{
		{"AnObjectPutWithALockHasIt", putLocked},
		{"AnObjectPutWithoutALockHasNone", putUnlocked},
		{"ALockThatEndedIsNotTaken", putLockedInThePast},
		{"ALockedObjectIsNotDeletedNorReplaced", lockedStays},
		{"ALockComesLater", lockLater},
		{"ALockIsExtended", lockExtended},
		{"ALockIsNeverShortened", lockNeverShortened},
		{"ALockIsNeverWeakened", lockNeverWeakened},
		{"ALockIsMadeFirmerOrStays", lockFirmer},
		{"AHoldIsPutOnAndTakenOff", holdOnAndOff},
		{"AHoldIsBesideTheLock", holdBesideLock},
		{"OnlyTheNamedObjectIsLocked", lockIsOfOneObject},
		{"WhatIsMissingIsErrNotExist", lockMissing},
		{"BadNamesAreRefused", lockBadNames},
		{"ACancelledCallDoesNothing", lockCancelled},
		{"TheBucketLocksNothing", noDefaultLock},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// TestDefaultLock holds a store to its bucket's lock. open returns an empty store
// whose bucket locks what is put without a lock. It leaves locked objects behind.
func TestDefaultLock(t *testing.T, open func(t *testing.T) LockStore) {
	s := open(t)
	mode, period, err := s.DefaultLock(t.Context())
	if err != nil || mode == archive.Unlocked || period.IsZero() {
		t.Fatalf("DefaultLock: got %v for %v and %v, want what the bucket is set to", mode, period, err)
	}
	t.Run("AnObjectPutWithoutALockHasIt", func(t *testing.T) {
		before := time.Now().Add(-time.Minute) // clocks differ
		put(t, s, "a/object", "rows")
		asked := archive.Lock{Mode: mode, Until: period.After(before)}
		wantLock(t, s, "a/object", asked)
		if got := lockOf(t, s, "a/object"); got.Until.After(period.After(time.Now()).Add(time.Minute)) {
			t.Errorf("locked until %v, longer than the %v of the bucket", got.Until, period)
		}
		wantLocked(t, s, "a/object")
	})
	t.Run("ALockThatIsAskedForComesFirst", func(t *testing.T) {
		asked := archive.Lock{Mode: archive.Compliance, Until: period.After(time.Now()).AddDate(0, 0, 30)}
		putWith(t, s, "a/longer", asked)
		wantLock(t, s, "a/longer", asked)
	})
	t.Run("AHoldLeavesIt", func(t *testing.T) {
		putWith(t, s, "a/held", archive.Lock{Hold: true})
		wantLock(t, s, "a/held", archive.Lock{Mode: mode, Until: period.After(time.Now().Add(-time.Minute)), Hold: true})
	})
}

// in returns the time so many days from now.
func in(days int) time.Time { return time.Now().UTC().AddDate(0, 0, days) }

func putLocked(t *testing.T, s LockStore) {
	for name, lock := range map[string]archive.Lock{
		"governance":        {Mode: archive.Governance, Until: in(2)},
		"compliance":        {Mode: archive.Compliance, Until: in(2)},
		"hold":              {Hold: true},
		"governance held":   {Mode: archive.Governance, Until: in(3), Hold: true},
		"another time zone": {Mode: archive.Governance, Until: in(2).In(time.FixedZone("UTC+8", 8*3600))},
		"parts of a second": {Mode: archive.Governance, Until: in(2).Truncate(time.Second).Add(999 * time.Millisecond)},
	} {
		putWith(t, s, name, lock)
		wantLock(t, s, name, lock)
		got := lockOf(t, s, name)
		if got.Mode != lock.Mode || got.Hold != lock.Hold || got.Until.Sub(lock.Until).Abs() >= time.Second {
			t.Errorf("%s: put with lock %v, Inspect says %v; want the same to the second", name, lock, got)
		}
		if got.Until.Location() != time.UTC {
			t.Errorf("%s: Inspect tells the date in %v, want UTC", name, got.Until.Location())
		}
		want(t, s, name, "rows")
		wantLocked(t, s, name)
	}
}

func putUnlocked(t *testing.T, s LockStore) {
	put(t, s, "a/object", "rows")
	wantNoLock(t, s, "a/object")
	remove(t, s, "a/object")
	wantMissing(t, s, "a/object")
}

func putLockedInThePast(t *testing.T, s LockStore) {
	lock := archive.Lock{Mode: archive.Governance, Until: in(-1)}
	err := s.Put(t.Context(), "a/object", strings.NewReader("rows"), archive.PutOptions{Lock: lock})
	if err == nil {
		t.Error("Put with a lock that ended yesterday: got nil, want an error: it would lock nothing")
	}
	if errors.Is(err, fs.ErrExist) {
		t.Errorf("Put with a lock that ended yesterday: got %v, but the name is free", err)
	}
}

func lockedStays(t *testing.T, s LockStore) {
	for _, mode := range []archive.Mode{archive.Governance, archive.Compliance} {
		name := "a/" + string(mode)
		lock := archive.Lock{Mode: mode, Until: in(1)}
		putWith(t, s, name, lock)
		for range 2 {
			wantLocked(t, s, name)
		}
		for what, opts := range map[string]archive.PutOptions{"no lock": {}, "a longer lock": {Lock: archive.Lock{Mode: mode, Until: in(2)}}} {
			if err := s.Put(t.Context(), name, strings.NewReader("others"), opts); !errors.Is(err, fs.ErrExist) {
				t.Errorf("Put over a locked object, with %s: got %v, want fs.ErrExist", what, err)
			}
		}
		want(t, s, name, "rows")
		wantLock(t, s, name, lock)
	}
	wantList(t, s, "", "a/compliance", "a/governance")
}

func lockLater(t *testing.T, s LockStore) {
	put(t, s, "a/object", "rows")
	lock := archive.Lock{Mode: archive.Compliance, Until: in(1)}
	mustLock(t, s, "a/object", lock)
	wantLock(t, s, "a/object", lock)
	wantLocked(t, s, "a/object")
	want(t, s, "a/object", "rows")
}

func lockExtended(t *testing.T, s LockStore) {
	for _, mode := range []archive.Mode{archive.Governance, archive.Compliance} {
		name := "a/" + string(mode)
		putWith(t, s, name, archive.Lock{Mode: mode, Until: in(1)})
		longer := archive.Lock{Mode: mode, Until: in(3)}
		for range 2 { // asking for what is there is no error
			mustLock(t, s, name, longer)
			wantLock(t, s, name, longer)
		}
		wantLocked(t, s, name)
	}
}

func lockNeverShortened(t *testing.T, s LockStore) {
	for _, mode := range []archive.Mode{archive.Governance, archive.Compliance} {
		name := "a/" + string(mode)
		lock := archive.Lock{Mode: mode, Until: in(3)}
		putWith(t, s, name, lock)
		for what, until := range map[string]time.Time{"an earlier date": in(1), "a date that is past": in(-1), "a second less": lock.Until.Add(-time.Second)} {
			err := s.Lock(t.Context(), name, archive.Lock{Mode: mode, Until: until})
			t.Logf("%s: Lock with %s: %v", mode, what, err)
			wantLock(t, s, name, lock)
		}
		if err := s.Lock(t.Context(), name, archive.Lock{}); err != nil {
			t.Logf("%s: Lock without a lock: %v", mode, err)
		}
		wantLock(t, s, name, lock)
		wantLocked(t, s, name)
	}
}

func lockNeverWeakened(t *testing.T, s LockStore) {
	lock := archive.Lock{Mode: archive.Compliance, Until: in(2)}
	putWith(t, s, "a/object", lock)
	for what, until := range map[string]time.Time{"an earlier": in(1), "the same": lock.Until, "a later": in(4)} {
		asked := archive.Lock{Mode: archive.Governance, Until: until}
		err := s.Lock(t.Context(), "a/object", asked)
		t.Logf("Lock with governance and %s date: %v", what, err)
		wantLock(t, s, "a/object", lock)
		if err == nil {
			wantLock(t, s, "a/object", asked)
		}
	}
	wantLocked(t, s, "a/object")
}

func lockFirmer(t *testing.T, s LockStore) {
	lock := archive.Lock{Mode: archive.Governance, Until: in(2)}
	for what, until := range map[string]time.Time{"earlier": in(1), "same": lock.Until, "later": in(3)} {
		putWith(t, s, what, lock)
		asked := archive.Lock{Mode: archive.Compliance, Until: until}
		err := s.Lock(t.Context(), what, asked)
		t.Logf("Lock with compliance and the date %s: %v", what, err)
		wantLock(t, s, what, lock)
		if err == nil {
			wantLock(t, s, what, asked)
		}
		wantLocked(t, s, what)
	}
}

func holdOnAndOff(t *testing.T, s LockStore) {
	put(t, s, "a/object", "rows")
	for range 2 {
		mustHold(t, s, "a/object", true)
		wantLock(t, s, "a/object", archive.Lock{Hold: true})
		wantLocked(t, s, "a/object")
	}
	for range 2 {
		mustHold(t, s, "a/object", false)
		wantNoLock(t, s, "a/object")
	}
	remove(t, s, "a/object")
	wantList(t, s, "")
}

func holdBesideLock(t *testing.T, s LockStore) {
	lock := archive.Lock{Mode: archive.Governance, Until: in(1)}
	putWith(t, s, "a/object", lock)
	mustHold(t, s, "a/object", true)
	wantLock(t, s, "a/object", archive.Lock{Mode: lock.Mode, Until: lock.Until, Hold: true})
	longer := archive.Lock{Mode: archive.Governance, Until: in(2)}
	mustLock(t, s, "a/object", longer)
	wantLock(t, s, "a/object", archive.Lock{Mode: longer.Mode, Until: longer.Until, Hold: true})
	mustHold(t, s, "a/object", false)
	wantLock(t, s, "a/object", longer)
	if lockOf(t, s, "a/object").Hold {
		t.Error("Inspect says it is held after the hold was taken off")
	}
	wantLocked(t, s, "a/object")
}

func lockIsOfOneObject(t *testing.T, s LockStore) {
	names := []string{"a/object", "a/object-2", "a/objecs", "b/ö +%41"}
	for _, name := range names {
		put(t, s, name, "rows")
	}
	mustLock(t, s, "a/object", archive.Lock{Mode: archive.Governance, Until: in(1)})
	mustHold(t, s, "b/ö +%41", true)
	wantLocked(t, s, "a/object")
	wantLocked(t, s, "b/ö +%41")
	for _, name := range []string{"a/object-2", "a/objecs"} {
		wantNoLock(t, s, name)
		remove(t, s, name)
	}
	wantList(t, s, "", "a/object", "b/ö +%41")
}

func lockMissing(t *testing.T, s LockStore) {
	put(t, s, "a/object", "rows")
	for _, name := range []string{"none", "a", "a/object2", "a/objec"} {
		for op, err := range onName(t.Context(), s, name) {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s(%q), which is missing: got %v, want fs.ErrNotExist", op, name, err)
			}
		}
	}
	wantNoLock(t, s, "a/object")
}

func lockBadNames(t *testing.T, s LockStore) {
	for _, name := range []string{"", "/a", "a//b", "../a", "a\x00b", "a\xffb"} {
		for op, err := range onName(t.Context(), s, name) {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s(%q): got %v, want fs.ErrInvalid", op, name, err)
			}
		}
	}
}

func lockCancelled(t *testing.T, s LockStore) {
	put(t, s, "a/object", "rows")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for op, err := range onName(ctx, s, "a/object") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: got %v, want context.Canceled", op, err)
		}
	}
	wantNoLock(t, s, "a/object")
}

// onName calls everything a LockStore adds to a Store.
func onName(ctx context.Context, s LockStore, name string) map[string]error {
	_, inspect := s.Inspect(ctx, name)
	return map[string]error{
		"Inspect":   inspect,
		"Lock":      s.Lock(ctx, name, archive.Lock{Mode: archive.Governance, Until: in(1)}),
		"Hold, on":  s.Hold(ctx, name, true),
		"Hold, off": s.Hold(ctx, name, false),
	}
}

func noDefaultLock(t *testing.T, s LockStore) {
	mode, period, err := s.DefaultLock(t.Context())
	if err != nil || mode != archive.Unlocked || !period.IsZero() {
		t.Errorf("DefaultLock of a bucket without one: got %v for %v and %v, want neither", mode, period, err)
	}
}

func putWith(t *testing.T, s archive.Store, name string, lock archive.Lock) {
	t.Helper()
	if err := s.Put(t.Context(), name, strings.NewReader("rows"), archive.PutOptions{Lock: lock}); err != nil {
		t.Fatalf("Put(%q) with lock %v: %v", name, lock, err)
	}
}

func mustLock(t *testing.T, s LockStore, name string, lock archive.Lock) {
	t.Helper()
	if err := s.Lock(t.Context(), name, lock); err != nil {
		t.Fatalf("Lock(%q, %v), which makes it firmer: %v", name, lock, err)
	}
}

func mustHold(t *testing.T, s LockStore, name string, on bool) {
	t.Helper()
	if err := s.Hold(t.Context(), name, on); err != nil {
		t.Fatalf("Hold(%q, %v): %v", name, on, err)
	}
}

func inspect(t *testing.T, s archive.Inspector, name string) archive.Info {
	t.Helper()
	info, err := s.Inspect(t.Context(), name)
	if err != nil {
		t.Fatalf("Inspect(%q): %v", name, err)
	}
	return info
}

func lockOf(t *testing.T, s archive.Inspector, name string) archive.Lock {
	t.Helper()
	return inspect(t, s, name).Lock
}

// wantLock holds a store to showing at least this lock.
func wantLock(t *testing.T, s archive.Inspector, name string, lock archive.Lock) {
	t.Helper()
	if got := lockOf(t, s, name); !got.Covers(lock) {
		t.Errorf("Inspect(%q) shows lock %v, which is less than %v", name, got, lock)
	}
}

func wantNoLock(t *testing.T, s archive.Inspector, name string) {
	t.Helper()
	if got := lockOf(t, s, name); got != (archive.Lock{}) {
		t.Errorf("Inspect(%q) shows lock %v on an object that nobody locked", name, got)
	}
}

// wantLocked holds a store to refusing to delete a locked object.
func wantLocked(t *testing.T, s archive.Store, name string) {
	t.Helper()
	if err := s.Delete(t.Context(), name); !errors.Is(err, archive.ErrLocked) {
		t.Errorf("Delete(%q) of a locked object: got %v, want archive.ErrLocked", name, err)
	}
	get(t, s, name)
}
