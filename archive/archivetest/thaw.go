package archivetest

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
)

// ThawStore is a store with tiers that cannot be read at once.
type ThawStore interface {
	archive.Store
	archive.Thawer
}

// FrozenBucket is a store that keeps Bulk objects in an archive tier.
type FrozenBucket struct {
	Store ThawStore
	// Finish makes what is thawing readable, as time does. Nothing thaws before
	// it is called.
	Finish func()
}

// TestThaw holds a store to its archive tiers. open returns an empty one.
func TestThaw(t *testing.T, open func(t *testing.T) FrozenBucket) {
	tests := []struct {
		name string
		run  func(t *testing.T, b FrozenBucket)
	}{
		{"BulkIsFrozenAndNothingElse", bulkIsFrozen},
		{"AFrozenObjectIsAnObject", frozenIsThere},
		{"AnObjectThaws", objectThaws},
		{"AskingAgainIsNoError", thawTwice},
		{"EveryTierIsTaken", thawTiers},
		{"AnUnknownTierIsRefused", thawUnknownTier},
		{"OnlyTheNamedObjectThaws", thawOne},
		{"WhatIsMissingIsErrNotExist", thawMissing},
		{"BadNamesAreRefused", thawBadNames},
		{"ACancelledCallDoesNothing", thawCancelled},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func putBulk(t *testing.T, s archive.Store, name string) {
	t.Helper()
	if err := s.Put(t.Context(), name, strings.NewReader("rows"), archive.PutOptions{Bulk: true}); err != nil {
		t.Fatal(err)
	}
}

func mustThaw(t *testing.T, s archive.Thawer, name, tier string) {
	t.Helper()
	if err := s.Thaw(t.Context(), name, 2, tier); err != nil {
		t.Fatalf("Thaw(%q) for 2 days, tier %q: %v", name, tier, err)
	}
}

// wantFrozen holds a store to calling an object frozen, whether it is asked about
// it or for it.
func wantFrozen(t *testing.T, s ThawStore, name string, thawing bool) {
	t.Helper()
	info := inspect(t, s, name)
	if !info.Frozen || info.Thawing != thawing || !info.ThawedTo.IsZero() {
		t.Errorf("Inspect(%q): frozen %v, thawing %v, thawed to %v; want it frozen, thawing %v, and no date", name, info.Frozen, info.Thawing, info.ThawedTo, thawing)
	}
	if info.Class == "" {
		t.Errorf("Inspect(%q) tells no storage class of a frozen object", name)
	}
	body, err := s.Get(t.Context(), name)
	if err == nil {
		body.Close()
	}
	if !errors.Is(err, archive.ErrFrozen) || !errors.Is(err, archive.ErrUnavailable) {
		t.Errorf("Get(%q), which is frozen: got %v, want archive.ErrFrozen and archive.ErrUnavailable", name, err)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, archive.ErrCorrupt) {
		t.Errorf("Get(%q), which is frozen: got %v; it is neither missing nor corrupt", name, err)
	}
}

func wantThawed(t *testing.T, s ThawStore, name string) {
	t.Helper()
	info := inspect(t, s, name)
	if info.Frozen || info.Thawing || info.ThawedTo.Before(time.Now()) {
		t.Errorf("Inspect(%q): frozen %v, thawing %v, thawed to %v; want it readable until some date to come", name, info.Frozen, info.Thawing, info.ThawedTo)
	}
	want(t, s, name, "rows")
}

func bulkIsFrozen(t *testing.T, b FrozenBucket) {
	putBulk(t, b.Store, "a/bulk")
	put(t, b.Store, "a/manifest", "signed")
	wantFrozen(t, b.Store, "a/bulk", false)
	want(t, b.Store, "a/manifest", "signed")
	if info := inspect(t, b.Store, "a/manifest"); info.Frozen || info.Thawing || !info.ThawedTo.IsZero() {
		t.Errorf("an object that is not Bulk: got %+v, want nothing of frost", info)
	}
}

func frozenIsThere(t *testing.T, b FrozenBucket) {
	putBulk(t, b.Store, "a/bulk")
	wantList(t, b.Store, "", "a/bulk")
	if info := inspect(t, b.Store, "a/bulk"); info.Size != 4 {
		t.Errorf("Inspect tells %d bytes of a frozen object, want 4", info.Size)
	}
	if err := tryPut(t, b.Store, "a/bulk", "others"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Put over a frozen object: got %v, want fs.ErrExist", err)
	}
	remove(t, b.Store, "a/bulk")
	wantMissing(t, b.Store, "a/bulk")
}

func objectThaws(t *testing.T, b FrozenBucket) {
	putBulk(t, b.Store, "a/bulk")
	mustThaw(t, b.Store, "a/bulk", "")
	wantFrozen(t, b.Store, "a/bulk", true)
	b.Finish()
	wantThawed(t, b.Store, "a/bulk")
	wantList(t, b.Store, "", "a/bulk")
}

func thawTwice(t *testing.T, b FrozenBucket) {
	putBulk(t, b.Store, "a/bulk")
	mustThaw(t, b.Store, "a/bulk", "")
	mustThaw(t, b.Store, "a/bulk", "")
	wantFrozen(t, b.Store, "a/bulk", true)
	b.Finish()
	mustThaw(t, b.Store, "a/bulk", "")
	wantThawed(t, b.Store, "a/bulk")
}

func thawTiers(t *testing.T, b FrozenBucket) {
	tiers := b.Store.Tiers()
	if len(tiers) == 0 || slices.Contains(tiers, "") {
		t.Errorf("Tiers: got %q, want the names of some", tiers)
	}
	for _, tier := range tiers {
		putBulk(t, b.Store, "a/"+tier)
		mustThaw(t, b.Store, "a/"+tier, tier)
		wantFrozen(t, b.Store, "a/"+tier, true)
	}
	b.Finish()
	for _, tier := range tiers {
		wantThawed(t, b.Store, "a/"+tier)
	}
}

func thawUnknownTier(t *testing.T, b FrozenBucket) {
	putBulk(t, b.Store, "a/bulk")
	if err := b.Store.Thaw(t.Context(), "a/bulk", 2, "At once, please"); err == nil {
		t.Error("Thaw in a tier there is not: got nil, want an error")
	}
	wantFrozen(t, b.Store, "a/bulk", false)
}

func thawOne(t *testing.T, b FrozenBucket) {
	for _, name := range []string{"a/ö +%41", "a/bulk", "a/bulk-2"} {
		putBulk(t, b.Store, name)
	}
	mustThaw(t, b.Store, "a/bulk", "")
	mustThaw(t, b.Store, "a/ö +%41", "")
	wantFrozen(t, b.Store, "a/bulk-2", false)
	b.Finish()
	wantThawed(t, b.Store, "a/bulk")
	wantThawed(t, b.Store, "a/ö +%41")
	wantFrozen(t, b.Store, "a/bulk-2", false)
}

func thawMissing(t *testing.T, b FrozenBucket) {
	putBulk(t, b.Store, "a/bulk")
	for _, name := range []string{"none", "a", "a/bulk2"} {
		if err := b.Store.Thaw(t.Context(), name, 2, ""); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Thaw(%q), which is missing: got %v, want fs.ErrNotExist", name, err)
		}
	}
	wantFrozen(t, b.Store, "a/bulk", false)
}

func thawBadNames(t *testing.T, b FrozenBucket) {
	for _, name := range []string{"", "/a", "../a", "a\x00b"} {
		if err := b.Store.Thaw(t.Context(), name, 2, ""); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Thaw(%q): got %v, want fs.ErrInvalid", name, err)
		}
	}
}

func thawCancelled(t *testing.T, b FrozenBucket) {
	putBulk(t, b.Store, "a/bulk")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Store.Thaw(ctx, "a/bulk", 2, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("Thaw with a cancelled context: got %v, want context.Canceled", err)
	}
	wantFrozen(t, b.Store, "a/bulk", false)
}
