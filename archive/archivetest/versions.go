package archivetest

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
)

// VersionStore is a store that tells what is laid over its objects.
type VersionStore interface {
	archive.Store
	archive.Inspector
	archive.Shadower
}

// VersionedBucket is a store on a bucket that keeps versions, and what others
// with rights to the bucket can do there.
type VersionedBucket struct {
	Store VersionStore
	// Overlay puts data over the object called name, without a condition.
	Overlay func(name string, data []byte) error
	// Mark deletes the object called name without naming a version, which lays a
	// delete marker over it.
	Mark func(name string) error
}

// TestVersions holds a store on a bucket that keeps versions to taking the oldest
// of them for the object. open returns an empty one.
func TestVersions(t *testing.T, open func(t *testing.T) VersionedBucket) {
	tests := []struct {
		name string
		run  func(t *testing.T, b VersionedBucket)
	}{
		{"ANewerVersionHidesNothing", overlaid},
		{"ADeleteMarkerHidesNothing", marked},
		{"AnEmptyNewerVersionHidesNothing", overlaidEmpty},
		{"APileOfVersionsAndMarkersHidesNothing", piledUp},
		{"MoreVersionsThanAPageHideNothing", buried},
		{"NothingIsLaidOverAnUntouchedObject", noShadows},
		{"ShadowsAreThoseOfThePrefixInOrder", shadowsInOrder},
		{"AllOfABucketMayBeMarked", allMarked},
		{"AMarkerOverNothingIsNothing", markerAlone},
		{"DeleteFreesTheNameForGood", deleteAllVersions},
		{"DeleteLeavesNamesThatGoOn", deleteLeavesNeighbours},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func (b VersionedBucket) overlay(t *testing.T, name, content string) {
	t.Helper()
	if err := b.Overlay(name, []byte(content)); err != nil {
		t.Fatalf("laying a version over %q: %v", name, err)
	}
}

func (b VersionedBucket) mark(t *testing.T, name string) {
	t.Helper()
	if err := b.Mark(name); err != nil {
		t.Fatalf("laying a delete marker over %q: %v", name, err)
	}
}

// wantUnchanged holds a store to showing an object as before was laid over it.
func wantUnchanged(t *testing.T, s VersionStore, before archive.Info, content string) {
	t.Helper()
	want(t, s, before.Name, content)
	now := inspect(t, s, before.Name)
	if late := now.Modified.Sub(before.Modified); late >= 0 && late <= time.Minute {
		now.Modified = before.Modified // versitygw tells when the version was moved aside
	}
	if now != before {
		t.Errorf("Inspect(%q) is %+v, was %+v before something was laid over it", before.Name, now, before)
	}
	found := false
	for o, err := range s.List(t.Context(), before.Name) {
		if err != nil {
			t.Fatal(err)
		}
		found = found || o == before.Object
	}
	if !found {
		t.Errorf("List leaves out %q, or tells another size than %d: what is laid over it hides it", before.Name, before.Size)
	}
	if err := tryPut(t, s, before.Name, "others"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Put(%q), which is there below: got %v, want fs.ErrExist", before.Name, err)
	}
	want(t, s, before.Name, content)
}

// wantShadows holds a store to finding these: each a name, with a "-" for a
// marker and a "+" for a version.
func wantShadows(t *testing.T, s VersionStore, prefix string, shadows ...string) {
	t.Helper()
	var got []string
	versions := make(map[string]bool)
	objects := make(map[string]string) // versions, by name
	for found, err := range s.Shadows(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("Shadows(%q): %v", prefix, err)
		}
		kind := "+"
		if found.Marker {
			kind = "-"
		}
		got = append(got, kind+found.Name)
		if objects[found.Name] == "" {
			objects[found.Name] = inspect(t, s, found.Name).Version
		}
		if object := objects[found.Name]; found.Version == "" || found.Version == object || versions[found.Name+found.Version] {
			t.Errorf("Shadows(%q): %q with version %q: want one of its own, other than the object's %q", prefix, found.Name, found.Version, object)
		}
		versions[found.Name+found.Version] = true
		if found.Modified.IsZero() {
			t.Errorf("Shadows(%q): %q has no date", prefix, found.Name)
		}
	}
	inOrder := slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(a[1:], b[1:]) })
	slices.Sort(got)
	slices.Sort(shadows)
	if !slices.Equal(got, shadows) || !inOrder {
		t.Errorf("Shadows(%q): got %.30q (%d), in the order of names: %v; want %.30q (%d)", prefix, got, len(got), inOrder, shadows, len(shadows))
	}
}

func overlaid(t *testing.T, b VersionedBucket) {
	put(t, b.Store, "a/object", "rows")
	before := inspect(t, b.Store, "a/object")
	if before.Version == "" {
		t.Error("Inspect tells no version in a bucket that keeps them")
	}
	b.overlay(t, "a/object", "forged rows")
	wantUnchanged(t, b.Store, before, "rows")
	wantShadows(t, b.Store, "", "+a/object")
}

func marked(t *testing.T, b VersionedBucket) {
	put(t, b.Store, "a/object", "rows")
	before := inspect(t, b.Store, "a/object")
	b.mark(t, "a/object")
	wantUnchanged(t, b.Store, before, "rows")
	wantShadows(t, b.Store, "", "-a/object")
}

func overlaidEmpty(t *testing.T, b VersionedBucket) {
	put(t, b.Store, "rows", "rows")
	put(t, b.Store, "empty", "")
	rows, empty := inspect(t, b.Store, "rows"), inspect(t, b.Store, "empty")
	b.overlay(t, "rows", "")
	b.overlay(t, "empty", "rows")
	wantUnchanged(t, b.Store, rows, "rows")
	wantUnchanged(t, b.Store, empty, "")
	wantShadows(t, b.Store, "", "+empty", "+rows")
}

func piledUp(t *testing.T, b VersionedBucket) {
	put(t, b.Store, "a/object", "rows")
	before := inspect(t, b.Store, "a/object")
	var shadows []string
	for range 5 { // all within a second, so dates do not tell which is the oldest
		b.overlay(t, "a/object", "forged")
		b.mark(t, "a/object")
		shadows = append(shadows, "+a/object", "-a/object")
	}
	b.overlay(t, "a/object", "rows") // the same bytes are a shadow too
	shadows = append(shadows, "+a/object")
	wantUnchanged(t, b.Store, before, "rows")
	wantShadows(t, b.Store, "", shadows...)
	wantList(t, b.Store, "", "a/object")
}

// buried puts the object where a list of versions, newest first, has it on its
// second page.
func buried(t *testing.T, b VersionedBucket) {
	if testing.Short() {
		t.Skip("puts 1,005 versions")
	}
	put(t, b.Store, "a/object", "rows")
	put(t, b.Store, "a/object2", "rows")
	before := inspect(t, b.Store, "a/object")
	shadows := make([]string, 1005)
	each(shadows, func(string) {
		if err := b.Overlay("a/object", []byte("forged")); err != nil {
			t.Error(err)
		}
	})
	for i := range shadows {
		shadows[i] = "+a/object"
	}
	wantUnchanged(t, b.Store, before, "rows")
	wantShadows(t, b.Store, "", shadows...)
	wantList(t, b.Store, "", "a/object", "a/object2")
	remove(t, b.Store, "a/object")
	wantMissing(t, b.Store, "a/object")
	wantList(t, b.Store, "", "a/object2")
}

func noShadows(t *testing.T, b VersionedBucket) {
	wantShadows(t, b.Store, "")
	put(t, b.Store, "a/object", "rows")
	if err := tryPut(t, b.Store, "a/object", "others"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Put over an object in a bucket that keeps versions: got %v, want fs.ErrExist", err)
	}
	want(t, b.Store, "a/object", "rows")
	wantShadows(t, b.Store, "")
}

func shadowsInOrder(t *testing.T, b VersionedBucket) {
	names := []string{"a", "b-c", "b/c", "b/c d+%41", "b/é", "b0"}
	for _, name := range names {
		put(t, b.Store, name, name)
	}
	var all, inB []string
	for i, name := range names {
		one := "+" + name
		if i%2 == 0 {
			b.mark(t, name)
			one = "-" + name
		} else {
			b.overlay(t, name, "forged")
		}
		all = append(all, one)
		if strings.HasPrefix(name, "b/") {
			inB = append(inB, one)
		}
	}
	wantShadows(t, b.Store, "", all...)
	wantShadows(t, b.Store, "b/", inB...)
	wantShadows(t, b.Store, "none/")
	wantList(t, b.Store, "", names...)
	wantList(t, b.Store, "b/", names[2:5]...)
}

func allMarked(t *testing.T, b VersionedBucket) {
	names := make([]string, 30)
	shadows := make([]string, len(names))
	for i := range names {
		names[i] = fmt.Sprintf("t/r%04d.parquet", i)
		shadows[i] = "-" + names[i]
		put(t, b.Store, names[i], names[i])
		b.mark(t, names[i])
	}
	wantList(t, b.Store, "", names...)
	wantShadows(t, b.Store, "", shadows...)
	for _, name := range names {
		want(t, b.Store, name, name)
	}
}

func markerAlone(t *testing.T, b VersionedBucket) {
	b.mark(t, "a/object")
	wantMissing(t, b.Store, "a/object")
	wantList(t, b.Store, "")
	wantShadows(t, b.Store, "")
	for op, err := range map[string]error{"Delete": b.Store.Delete(t.Context(), "a/object"), "Inspect": second(b.Store.Inspect(t.Context(), "a/object"))} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of a name that has a delete marker alone: got %v, want fs.ErrNotExist", op, err)
		}
	}
	// Some servers take the marker for an object here, and refuse.
	if err := tryPut(t, b.Store, "a/object", "rows"); err != nil {
		t.Logf("Put where a delete marker is alone: %v", err)
		wantMissing(t, b.Store, "a/object")
		return
	}
	want(t, b.Store, "a/object", "rows")
	wantList(t, b.Store, "", "a/object")
	wantShadows(t, b.Store, "")
}

func second[A any](_ A, err error) error { return err }

func deleteAllVersions(t *testing.T, b VersionedBucket) {
	for _, name := range []string{"plain", "overlaid", "marked", "both"} {
		put(t, b.Store, name, "rows")
	}
	b.overlay(t, "overlaid", "forged")
	b.mark(t, "marked")
	b.overlay(t, "both", "forged")
	b.mark(t, "both")
	for _, name := range []string{"plain", "overlaid", "marked", "both"} {
		remove(t, b.Store, name)
		wantMissing(t, b.Store, name)
		if err := b.Store.Delete(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("second Delete(%q): got %v, want fs.ErrNotExist", name, err)
		}
		if _, err := b.Store.Inspect(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Inspect(%q) after Delete: got %v, want fs.ErrNotExist", name, err)
		}
	}
	wantList(t, b.Store, "")
	wantShadows(t, b.Store, "")
	for _, name := range []string{"plain", "overlaid", "marked", "both"} {
		put(t, b.Store, name, "new rows")
		want(t, b.Store, name, "new rows")
	}
	wantList(t, b.Store, "", "both", "marked", "overlaid", "plain")
	wantShadows(t, b.Store, "")
}

func deleteLeavesNeighbours(t *testing.T, b VersionedBucket) {
	put(t, b.Store, "a", "a")
	for _, name := range []string{"a-b", "a0"} {
		put(t, b.Store, name, name)
		b.overlay(t, name, "forged")
	}
	remove(t, b.Store, "a")
	wantList(t, b.Store, "", "a-b", "a0")
	wantShadows(t, b.Store, "", "+a-b", "+a0")
	want(t, b.Store, "a-b", "a-b")
}
