package archivetest

import (
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
)

// BucketLockStore is a store whose bucket can retain every object in it.
type BucketLockStore interface {
	archive.Store
	archive.BucketLocker
}

// TestBucketLock holds a store to the retention of its bucket. open returns an
// empty store, on a bucket of its own that never had one. The tests leave buckets
// behind that retain what is in them.
func TestBucketLock(t *testing.T, open func(t *testing.T) BucketLockStore) {
	tests := []struct {
		name string
		run  func(t *testing.T, s BucketLockStore)
	}{
		{"ABucketHasNone", bucketUnlocked},
		{"AnOpenOneRetainsAndIsAborted", bucketOpen},
		{"AFinalOneStays", bucketFinal},
		{"AFinalOneIsExtendedOnly", bucketExtended},
		{"ThereIsOneAtATime", bucketOnce},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func wantBucketLock(t *testing.T, s BucketLockStore, state archive.BucketLockState, days int) archive.BucketLock {
	t.Helper()
	got, err := s.BucketLock(t.Context())
	if err != nil || got.State != state || got.Days != days || got.Expired {
		t.Errorf("BucketLock: got %+v and %v, want %q for %d days", got, err, state, days)
	}
	return got
}

func mustStart(t *testing.T, s BucketLockStore, days int) archive.BucketLock {
	t.Helper()
	b, err := s.StartBucketLock(t.Context(), days)
	if err != nil {
		t.Fatalf("StartBucketLock(%d): %v", days, err)
	}
	return b
}

func mustComplete(t *testing.T, s BucketLockStore) {
	t.Helper()
	if err := s.CompleteBucketLock(t.Context()); err != nil {
		t.Fatalf("CompleteBucketLock: %v", err)
	}
}

func bucketUnlocked(t *testing.T, s BucketLockStore) {
	if got := wantBucketLock(t, s, archive.BucketUnlocked, 0); got != (archive.BucketLock{}) {
		t.Errorf("BucketLock of a bucket that never had one: got %+v, want the zero value", got)
	}
	for op, err := range map[string]error{
		"CompleteBucketLock": s.CompleteBucketLock(t.Context()),
		"ExtendBucketLock":   s.ExtendBucketLock(t.Context(), 10),
	} {
		if err == nil {
			t.Errorf("%s where none was started: got nil, want an error", op)
		}
	}
	put(t, s, "a/object", "rows")
	remove(t, s, "a/object")
}

func bucketOpen(t *testing.T, s BucketLockStore) {
	put(t, s, "a/before", "rows")
	begun := mustStart(t, s, 3)
	if begun.ID == "" || begun.State != archive.BucketOpen || begun.Days != 3 {
		t.Errorf("StartBucketLock(3): got %+v, want it open, for 3 days, with an id", begun)
	}
	shown := wantBucketLock(t, s, archive.BucketOpen, 3)
	if shown.ID != begun.ID || shown.Deadline.Sub(shown.Created) != 24*time.Hour || time.Since(shown.Created).Abs() > time.Hour {
		t.Errorf("BucketLock: got %+v, want id %q, begun now, and void a day later", shown, begun.ID)
	}
	put(t, s, "a/after", "rows")
	wantLocked(t, s, "a/before")
	wantLocked(t, s, "a/after")
	if err := s.AbortBucketLock(t.Context()); err != nil {
		t.Fatalf("AbortBucketLock of one that is open: %v", err)
	}
	wantBucketLock(t, s, archive.BucketUnlocked, 0)
	remove(t, s, "a/before")
	remove(t, s, "a/after")
}

func bucketFinal(t *testing.T, s BucketLockStore) {
	put(t, s, "a/before", "rows")
	mustStart(t, s, 3)
	mustComplete(t, s)
	put(t, s, "a/after", "rows")
	if got := wantBucketLock(t, s, archive.BucketLocked, 3); !got.Deadline.IsZero() {
		t.Errorf("BucketLock of one that is final: void on %v, want no date", got.Deadline)
	}
	if err := s.AbortBucketLock(t.Context()); err == nil {
		t.Error("AbortBucketLock of one that is final: got nil, want an error")
	}
	wantBucketLock(t, s, archive.BucketLocked, 3)
	wantLocked(t, s, "a/before")
	wantLocked(t, s, "a/after")
	wantList(t, s, "", "a/after", "a/before")
}

func bucketExtended(t *testing.T, s BucketLockStore) {
	mustStart(t, s, 3)
	mustComplete(t, s)
	if err := s.ExtendBucketLock(t.Context(), 2); err == nil {
		t.Error("ExtendBucketLock to fewer days: got nil, want an error: a lock is never shortened")
	}
	wantBucketLock(t, s, archive.BucketLocked, 3)
	if err := s.ExtendBucketLock(t.Context(), 10); err != nil {
		t.Errorf("ExtendBucketLock from 3 to 10 days: %v", err)
	}
	wantBucketLock(t, s, archive.BucketLocked, 10)
}

func bucketOnce(t *testing.T, s BucketLockStore) {
	for _, final := range []bool{false, true} {
		if !final {
			mustStart(t, s, 30)
		} else {
			mustComplete(t, s)
		}
		if b, err := s.StartBucketLock(t.Context(), 1); err == nil {
			t.Errorf("StartBucketLock where one is (final: %v): got %+v, want an error: it would shorten it", final, b)
		}
		if got, err := s.BucketLock(t.Context()); err != nil || got.Days != 30 {
			t.Errorf("BucketLock after a second start: got %+v and %v, want 30 days", got, err)
		}
	}
}
