package snapshot_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// verdicts are the errors that say an archive is not what was signed.
var verdicts = []error{manifest.ErrUntrusted, manifest.ErrRollback, snapshot.ErrMissing, archive.ErrCorrupt, manifest.ErrInvalid}

func isVerdict(err error) bool {
	return slices.ContainsFunc(verdicts, func(v error) bool { return errors.Is(err, v) })
}

// victim is an archive with two snapshots, as its objects, and what a reader
// who saw the second one trusts.
type victim struct {
	service *service
	objects map[string][]byte
	trust   manifest.Trust
	last    snapshot.Entry
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	s := newService(t)
	fillRagged(t, s.client("source"))
	fillPlain(t, s.client("source"), "plain", 300)
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "ragged", "plain")
	last := export(t, s, a, key, "ragged", "plain")
	return &victim{service: s, objects: contents(t, a.Store), trust: a.Anchor(last), last: last}
}

// refused makes sure that verify and restore refuse the objects with want,
// naming object, and that the restore leaves its target empty.
func (v *victim) refused(t *testing.T, what string, objects map[string][]byte, want error, object string) {
	t.Helper()
	a, err := snapshot.Open(t.Context(), storeWith(t, objects), v.trust)
	if err == nil {
		_, err = snapshot.Verify{Archive: a, Level: snapshot.Hashes, Workers: 1}.Run(t.Context())
	}
	if !errors.Is(err, want) {
		t.Errorf("%s: verify: got %v, want %v", what, err, want)
	}
	if err != nil && !strings.Contains(err.Error(), object) {
		t.Errorf("%s: verify does not name %s: %v", what, object, err)
	}
	if a == nil || !v.restored(object) {
		return
	}
	target := v.service.instance(t, "target")
	_, err = restoring(t, v.service, a, "target").Run(t.Context())
	if !errors.Is(err, want) {
		t.Errorf("%s: restore: got %v, want %v", what, err, want)
	}
	if tables, err := target.Tables(t.Context()); err != nil || len(tables) > 0 {
		t.Fatalf("%s: restore left tables %v, %v", what, tables, err)
	}
}

// restored reports whether a restore of the last snapshot reads the object.
func (v *victim) restored(object string) bool {
	return !strings.HasPrefix(object, manifest.StoreFolder+"/") && !strings.HasPrefix(object, "snapshots/") || strings.Contains(object, v.last.Manifest.Snapshot)
}

// changed returns the objects with one replaced, or removed when data is nil.
func (v *victim) changed(name string, data []byte) map[string][]byte {
	objects := maps.Clone(v.objects)
	delete(objects, name)
	if data != nil {
		objects[name] = data
	}
	return objects
}

func (v *victim) names() []string { return slices.Sorted(maps.Keys(v.objects)) }

// kinds are the errors an object with a changed byte and one of another size are
// refused with: what carries its own signature is no longer signed, or no longer
// a document; everything else does not have the signed digest.
func kinds(name string) (changed, resized error) {
	if strings.HasPrefix(name, "policy/") || strings.HasPrefix(name, "manifests/") || strings.HasPrefix(name, manifest.StoreFolder+"/") {
		return manifest.ErrUntrusted, manifest.ErrInvalid
	}
	return archive.ErrCorrupt, archive.ErrCorrupt
}

func TestAFlippedBitAnywhereIsRefused(t *testing.T) {
	v := newVictim(t)
	for _, name := range v.names() {
		data := v.objects[name]
		for _, at := range []int{0, 1, len(data) / 3, len(data) / 2, len(data) - 2, len(data) - 1} {
			damaged := bytes.Clone(data)
			damaged[at] ^= 0x10
			a, err := snapshot.Open(t.Context(), storeWith(t, v.changed(name, damaged)), v.trust)
			if err == nil {
				_, err = snapshot.Verify{Archive: a, Level: snapshot.Hashes}.Run(t.Context())
			}
			if !isVerdict(err) {
				t.Errorf("%s, byte %d: got %v, want it refused", name, at, err)
			}
		}
	}
}

func TestAChangedObjectIsRefusedByNameAndNothingIsRestored(t *testing.T) {
	v := newVictim(t)
	for _, name := range v.names() {
		data := v.objects[name]
		damaged := bytes.Clone(data)
		damaged[len(damaged)/2] ^= 1
		changed, resized := kinds(name)
		v.refused(t, "flip in "+name, v.changed(name, damaged), changed, name)
		v.refused(t, "cut of "+name, v.changed(name, data[:len(data)-1]), resized, name)
		v.refused(t, "growth of "+name, v.changed(name, append(bytes.Clone(data), 'x')), resized, name)
	}
}

func TestADeletedObjectIsRefusedByName(t *testing.T) {
	v := newVictim(t)
	for _, name := range v.names() {
		switch name {
		case manifest.PolicyName(1):
			if _, err := snapshot.Open(t.Context(), storeWith(t, v.changed(name, nil)), v.trust); err == nil {
				t.Error("an archive without a policy was opened")
			}
		case manifest.StoreName(v.trust.Archive):
			// Nothing names the store's report, and copies have none.
			a := open(t, storeWith(t, v.changed(name, nil)), v.trust)
			if _, err := (snapshot.Verify{Archive: a}).Run(t.Context()); err != nil {
				t.Errorf("an archive without a report of its store: %v", err)
			}
		case manifest.ManifestName(2):
			v.refused(t, "deletion of "+name, v.changed(name, nil), manifest.ErrRollback, "2")
		default:
			v.refused(t, "deletion of "+name, v.changed(name, nil), snapshot.ErrMissing, name)
		}
	}
}

func TestTwoSwappedObjectsAreRefused(t *testing.T) {
	v := newVictim(t)
	names := v.names()
	for i, name := range names {
		other := names[(i+1)%len(names)]
		if bytes.Equal(v.objects[name], v.objects[other]) {
			continue
		}
		objects := v.changed(name, v.objects[other])
		objects[other] = v.objects[name]
		a, err := snapshot.Open(t.Context(), storeWith(t, objects), v.trust)
		if err == nil {
			_, err = snapshot.Verify{Archive: a, Level: snapshot.Hashes}.Run(t.Context())
		}
		if !isVerdict(err) {
			t.Errorf("%s and %s swapped: got %v, want them refused", name, other, err)
		}
	}
}

func TestAnOlderManifestInPlaceOfANewerIsARollback(t *testing.T) {
	v := newVictim(t)
	v.refused(t, "replay", v.changed(manifest.ManifestName(2), v.objects[manifest.ManifestName(1)]), manifest.ErrRollback, manifest.ManifestName(2))
}

func TestAShortenedArchiveIsOnlyKnownToWhoSawMore(t *testing.T) {
	v := newVictim(t)
	objects := v.changed(manifest.ManifestName(2), nil)
	newcomer := open(t, storeWith(t, objects), manifest.Trust{Archive: v.trust.Archive})
	if _, err := newcomer.Chain(t.Context()); err != nil {
		t.Errorf("a reader who saw nothing yet cannot know: %v", err)
	}
	witness := open(t, storeWith(t, objects), v.trust)
	if _, err := witness.Chain(t.Context()); !errors.Is(err, manifest.ErrRollback) {
		t.Errorf("got %v, want ErrRollback", err)
	}
}

func TestAnArchiveOfAnotherIsUntrusted(t *testing.T) {
	v := newVictim(t)
	for _, trust := range []manifest.Trust{{}, {Archive: manifest.Sum([]byte("another"))}} {
		if _, err := snapshot.Open(t.Context(), storeWith(t, v.objects), trust); !errors.Is(err, manifest.ErrUntrusted) {
			t.Errorf("trust in %s: got %v, want ErrUntrusted", trust.Archive, err)
		}
	}
}

func TestOneSignatureOfTwoIsRefusedBeforeAChunkIsRead(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 100)
	one, two, stranger := newKey(t), newKey(t), newKey(t)
	store := new(archivetest.Memory)
	trust := initiate(t, store, snapshot.Setup{}, policyOf(2, one, two), one, two).Trust
	a := open(t, store, trust)
	run := exporting(t, s, a, one, "plain")
	for _, signers := range [][]manifest.Signer{{one}, {one, one}, {one, stranger}} {
		run.Signers = signers
		if _, err := run.Run(t.Context()); !errors.Is(err, manifest.ErrUntrusted) {
			t.Errorf("an export with %d signers: got %v, want ErrUntrusted", len(signers), err)
		}
	}
	run.Signers = []manifest.Signer{one, two}
	e, err := first(run.Run(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	// The same manifest, signed again by one of the two.
	sealed, err := manifest.Seal(t.Context(), e.Manifest, one)
	if err != nil {
		t.Fatal(err)
	}
	store.Replace(manifest.ManifestName(1), sealed)
	watched := &archivetest.Faulty{Store: store, Cue: func(c archivetest.Call) archivetest.Fault {
		if c.Op == "get" && strings.HasSuffix(c.Name, ".parquet") {
			t.Errorf("%s was read", c.Name)
		}
		return archivetest.None
	}}
	b := open(t, watched, trust)
	if _, err := (snapshot.Verify{Archive: b}).Run(t.Context()); !errors.Is(err, manifest.ErrUntrusted) {
		t.Errorf("verify: got %v, want ErrUntrusted", err)
	}
	if _, err := restoring(t, s, b, "target").Run(t.Context()); !errors.Is(err, manifest.ErrUntrusted) {
		t.Errorf("restore: got %v, want ErrUntrusted", err)
	}
}

func TestTroubleWithTheStoreIsNoVerdict(t *testing.T) {
	v := newVictim(t)
	store := storeWith(t, v.objects)
	tried := 0
	for _, op := range []string{"get", "list"} {
		for n := 1; ; n++ {
			fault := archivetest.Cut
			if op == "list" {
				fault = archivetest.After
			}
			a, err := snapshot.Open(t.Context(), &archivetest.Faulty{Store: store, Cue: archivetest.OnNth(op, n, fault)}, v.trust)
			if err == nil {
				_, err = snapshot.Verify{Archive: a, Level: snapshot.Hashes, Workers: 1}.Run(t.Context())
			}
			if err == nil {
				break
			}
			tried++
			if !errors.Is(err, archive.ErrUnavailable) || isVerdict(err) {
				t.Errorf("%s %d: got %v, want ErrUnavailable and no verdict", op, n, err)
			}
		}
	}
	if tried < 20 {
		t.Errorf("%d faults tried, want more", tried)
	}
}

// TestABrokenVerificationSaysHowFarItCame, and is no verdict all the same.
func TestABrokenVerificationSaysHowFarItCame(t *testing.T) {
	v := newVictim(t)
	chunks := 0
	store := &archivetest.Faulty{Store: storeWith(t, v.objects), Cue: func(c archivetest.Call) archivetest.Fault {
		if c.Op != "get" || !strings.HasSuffix(c.Name, ".parquet") {
			return archivetest.None
		}
		if chunks++; chunks < 3 {
			return archivetest.None
		}
		return archivetest.Before
	}}
	a := open(t, store, v.trust)
	chain, err := a.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all int64
	for _, e := range chain {
		all += e.Manifest.Totals.Chunks
	}
	_, err = snapshot.Verify{Archive: a, Level: snapshot.Hashes, Workers: 1}.Run(t.Context())
	if want := fmt.Sprintf("; until then 2 of %d chunks were good", all); !errors.Is(err, archive.ErrUnavailable) || isVerdict(err) || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want it to end with %q", err, want)
	}
}

func TestAnObjectNothingNamesIsNoted(t *testing.T) {
	v := newVictim(t)
	name := fmt.Sprintf("snapshots/%s/plain/r0000.7-000000.parquet", v.last.Manifest.Snapshot)
	a := open(t, storeWith(t, v.changed(name, []byte("left over"))), v.trust)
	report, err := snapshot.Verify{Archive: a}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Notes) != 1 || !strings.Contains(report.Notes[0], name) {
		t.Errorf("notes %q, want one of %s", report.Notes, name)
	}
}

// TestJunkAfterASnapshotDoesNotHideIt from who asks for it by its number. Whoever
// may put objects can put junk where the next manifest is to be, and lock it.
func TestJunkAfterASnapshotDoesNotHideIt(t *testing.T) {
	v := newVictim(t)
	instance := 0
	for name, objects := range map[string]map[string][]byte{
		"no manifest":          v.changed(manifest.ManifestName(3), []byte("junk")),
		"a manifest further":   v.changed(manifest.ManifestName(5), v.objects[manifest.ManifestName(2)]),
		"in place of the last": v.changed(manifest.ManifestName(2), []byte("junk")),
	} {
		a, err := snapshot.Open(t.Context(), storeWith(t, objects), v.trust)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Find(t.Context(), "latest"); err == nil {
			t.Errorf("%s: the latest snapshot was found", name)
		}
		if _, err := a.Chain(t.Context()); err == nil {
			t.Errorf("%s: the chain is good", name)
		}
		run := restoring(t, v.service, a, fmt.Sprintf("target%d", instance))
		instance++
		run.Snapshot = "1"
		report, err := run.Run(t.Context())
		if err != nil || len(report.Notes) == 0 || !strings.Contains(strings.Join(report.Notes, "\n"), "what comes after it is not") {
			t.Errorf("%s: restore of snapshot 1: %v, notes %+v", name, err, report)
		}
		verified, err := snapshot.Verify{Archive: a, Level: snapshot.Rows, Snapshot: "1"}.Run(t.Context())
		if err == nil || verified == nil || verified.Totals.Chunks == 0 || len(verified.Problems) != 1 {
			t.Errorf("%s: verify of snapshot 1: %v, %+v", name, err, verified)
		}
	}
}

// TestANetworkThatFailsIsNoJunk: then nothing is said of what comes after.
func TestANetworkThatFailsIsNoJunk(t *testing.T) {
	v := newVictim(t)
	store := &archivetest.Faulty{Store: storeWith(t, v.objects), Cue: func(c archivetest.Call) archivetest.Fault {
		if c.Op == "get" && c.Name == manifest.ManifestName(2) {
			return archivetest.Before
		}
		return archivetest.None
	}}
	a, err := snapshot.Open(t.Context(), store, v.trust)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Find(t.Context(), "1"); !errors.Is(err, archive.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}
