package snapshot_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// replaced is the next version of an archive's policy, from snapshot from on: fresh
// exports in place of old, which is revoked.
func replaced(t testing.TB, a *snapshot.Archive, from int64, old, fresh manifest.Signer) []byte {
	t.Helper()
	next := a.Policy.Next(time.Now(), from)
	next.Keys[len(next.Keys)-1].Revoked = from
	next.Keys = append(next.Keys, manifest.NewPolicyKey("fresh-"+fresh.Key().ID().String()[:8], manifest.Exporter, fresh.Key()))
	draft, err := manifest.DraftPolicy(next, a.Policy)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := manifest.SignPolicy(t.Context(), draft, old, fresh)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func apply(t testing.TB, a *snapshot.Archive, sealed []byte) {
	t.Helper()
	if err := a.ApplyPolicy(t.Context(), sealed, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// rotated is an archive with one snapshot under the first version of its policy, and
// one under the second.
type rotated struct {
	service    *service
	archive    *snapshot.Archive
	old, fresh manifest.Signer
	second     snapshot.Entry
}

func newRotated(t testing.TB) *rotated {
	t.Helper()
	r := &rotated{service: newService(t), fresh: newKey(t)}
	fillPlain(t, r.service.client("source"), "plain", 20)
	r.archive, r.old = newArchive(t, new(archivetest.Memory))
	export(t, r.service, r.archive, r.old, "plain")
	apply(t, r.archive, replaced(t, r.archive, 2, r.old, r.fresh))
	r.second = export(t, r.service, r.archive, r.fresh, "plain")
	return r
}

func TestSnapshotsOfAllVersionsAreRead(t *testing.T) {
	r := newRotated(t)
	trust := r.archive.Anchor(r.second)
	if trust.Version != 2 || trust.Seq != 2 {
		t.Errorf("what is trusted then is %+v", trust)
	}
	a := open(t, r.archive.Store, trust)
	report, err := snapshot.Verify{Archive: a, Level: snapshot.Rows}.Run(t.Context())
	if err != nil || report.Snapshots != 2 {
		t.Fatalf("verify: %+v, %v", report, err)
	}
	if _, err := exporting(t, r.service, a, r.old, "plain").Run(t.Context()); !errors.Is(err, manifest.ErrUntrusted) || !strings.Contains(err.Error(), "revoked from 2") {
		t.Errorf("an export with the old key: %v", err)
	}
	target := new(archivetest.Memory)
	for range 2 { // and again
		if _, err := (snapshot.Copy{From: a, To: target}).Run(t.Context()); err != nil {
			t.Fatalf("copy: %v", err)
		}
	}
	copied := contents(t, target)
	for name, data := range contents(t, r.archive.Store) {
		if !strings.HasPrefix(name, manifest.StoreFolder+"/") && string(copied[name]) != string(data) {
			t.Errorf("the copy has another %s", name)
		}
	}
	delete(copied, manifest.ManifestName(2))
	before := storeWith(t, copied)
	if _, err := (snapshot.Copy{From: open(t, storeWithout(t, copied, manifest.PolicyName(2)), manifest.Trust{Archive: trust.Archive}), To: before}).Run(t.Context()); !errors.Is(err, manifest.ErrRollback) {
		t.Errorf("a copy out of an archive that lost the second version: %v", err)
	}
}

func storeWithout(t testing.TB, objects map[string][]byte, name string) archive.Store {
	t.Helper()
	rest := maps.Clone(objects)
	delete(rest, name)
	return storeWith(t, rest)
}

// TestPoliciesThatAreRefused changes what is under policy/ in an archive whose second
// version one snapshot is under.
func TestPoliciesThatAreRefused(t *testing.T) {
	r := newRotated(t)
	all := contents(t, r.archive.Store)
	other := contents(t, newRotated(t).archive.Store)[manifest.PolicyName(2)]
	seen, unseen := r.archive.Anchor(r.second), manifest.Trust{Archive: r.archive.Trust.Archive}
	tests := []struct {
		name   string
		change map[string][]byte // nil removes
		trust  manifest.Trust
		want   error
		first  bool // whether the first snapshot is found by its number
	}{
		{"hidden from who has seen it", map[string][]byte{manifest.PolicyName(2): nil}, seen, manifest.ErrRollback, false},
		{"hidden", map[string][]byte{manifest.PolicyName(2): nil}, unseen, manifest.ErrUntrusted, true},
		{"hidden, and its snapshot too", map[string][]byte{manifest.PolicyName(2): nil, manifest.ManifestName(2): nil},
			manifest.Trust{Archive: seen.Archive, Version: seen.Version, Policy: seen.Policy}, manifest.ErrRollback, false},
		{"of another archive", map[string][]byte{manifest.PolicyName(2): other}, unseen, manifest.ErrUntrusted, true},
		{"the first again", map[string][]byte{manifest.PolicyName(2): all[manifest.PolicyName(1)]}, unseen, manifest.ErrRollback, false},
		{"rubbish", map[string][]byte{manifest.PolicyName(2): []byte("rubbish")}, unseen, manifest.ErrInvalid, true},
		{"rubbish, to who has seen it", map[string][]byte{manifest.PolicyName(2): []byte("rubbish")}, seen, manifest.ErrInvalid, false},
		{"rubbish after it", map[string][]byte{manifest.PolicyName(3): []byte("rubbish")}, seen, manifest.ErrInvalid, true},
		{"a hole", map[string][]byte{manifest.PolicyName(4): all[manifest.PolicyName(2)]}, seen, snapshot.ErrMissing, true},
		{"large", map[string][]byte{manifest.PolicyName(3): make([]byte, manifest.MaxPolicy+1)}, seen, manifest.ErrLimit, true},
	}
	for _, test := range tests {
		objects := maps.Clone(all)
		for name, data := range test.change {
			if objects[name] = data; data == nil {
				delete(objects, name)
			}
		}
		a, err := snapshot.Open(t.Context(), storeWith(t, objects), test.trust)
		if err != nil {
			if !errors.Is(err, test.want) || test.first {
				t.Errorf("%s: open: got %v, want %v", test.name, err, test.want)
			}
			continue
		}
		if _, err := a.Chain(t.Context()); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
		if e, err := a.Find(t.Context(), "1"); test.first != (err == nil && errors.Is(e.After, test.want)) {
			t.Errorf("%s: snapshot 1: %v, after it %v", test.name, err, e.After)
		}
		if _, err := exporting(t, r.service, a, r.fresh, "plain").Run(t.Context()); !isVerdict(err) && !errors.Is(err, manifest.ErrLimit) {
			t.Errorf("%s: an export: %v", test.name, err)
		}
	}
}

// TestAttackerWithTheOldKey makes what nothing but the policy in force forbids.
func TestAttackerWithTheOldKey(t *testing.T) {
	r := newRotated(t)
	objects := contents(t, r.archive.Store)
	blind := open(t, storeWithout(t, objects, manifest.PolicyName(2)), manifest.Trust{Archive: r.archive.Trust.Archive})
	if _, err := exporting(t, r.service, blind, r.old, "plain").Run(t.Context()); !errors.Is(err, manifest.ErrUntrusted) {
		t.Fatalf("after a snapshot of the second version: %v", err)
	}
	delete(objects, manifest.ManifestName(2))
	blind = open(t, storeWithout(t, objects, manifest.PolicyName(2)), manifest.Trust{Archive: r.archive.Trust.Archive})
	export(t, r.service, blind, r.old, "plain")
	forged := contents(t, blind.Store)
	forged[manifest.PolicyName(2)] = objects[manifest.PolicyName(2)]
	_, err := open(t, storeWith(t, forged), manifest.Trust{Archive: r.archive.Trust.Archive}).Chain(t.Context())
	if !errors.Is(err, manifest.ErrUntrusted) || !strings.Contains(err.Error(), "version 2 is in force for it") {
		t.Errorf("got %v", err)
	}
}

// meanwhile is a store in which something happens before an object is put.
type meanwhile struct {
	archive.Store
	before string
	do     func()
	once   sync.Once
}

func (m *meanwhile) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	if strings.HasSuffix(name, m.before) {
		m.once.Do(m.do)
	}
	return m.Store.Put(ctx, name, body, opts)
}

// TestPolicyChangesDuringAnExport applies a version while an export is under way: no
// manifest is put that would be void, and who resumes it with a key that counts, for a
// plan by a key that still counts, is done.
func TestPolicyChangesDuringAnExport(t *testing.T) {
	for _, revoke := range []bool{true, false} {
		s := newService(t)
		fillPlain(t, s.client("source"), "plain", 20)
		store := new(archivetest.Memory)
		a, old := newArchive(t, store)
		fresh := newKey(t)
		beside := open(t, store, a.Trust)
		a.Store = &meanwhile{Store: store, before: "r0000.dsse.json", do: func() {
			sealed := replaced(t, beside, 1, old, fresh)
			if !revoke {
				next := beside.Policy.Next(time.Now(), 1)
				next.Keys = append(next.Keys, manifest.NewPolicyKey("fresh", manifest.Exporter, fresh.Key()))
				draft, err := manifest.DraftPolicy(next, beside.Policy)
				if err != nil {
					t.Fatal(err)
				}
				if sealed, err = manifest.SignPolicy(t.Context(), draft, old); err != nil {
					t.Fatal(err)
				}
			}
			apply(t, beside, sealed)
		}}
		_, err := exporting(t, s, a, old, "plain").Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "the policy has changed since the export began: for snapshot 1 version 2 is in force") {
			t.Fatalf("got %v", err)
		}
		again := exporting(t, s, open(t, store, a.Trust), fresh)
		again.Resume = "latest"
		_, err = again.Run(t.Context())
		if revoke != errors.Is(err, manifest.ErrUntrusted) || !revoke && err != nil {
			t.Errorf("resumed with the new key, the old one revoked: %v: %v", revoke, err)
		}
		if _, err := open(t, store, a.Trust).Chain(t.Context()); err != nil {
			t.Errorf("the archive: %v", err)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	r := newRotated(t)
	third := newKey(t)
	good := replaced(t, r.archive, 3, r.fresh, third)
	unsigned, err := manifest.DraftPolicy(r.archive.Policy.Next(time.Now(), 3), r.archive.Policy)
	if err != nil {
		t.Fatal(err)
	}
	byOld, err := manifest.SignPolicy(t.Context(), unsigned, r.old)
	if err != nil {
		t.Fatal(err)
	}
	late := replaced(t, r.archive, 2, r.fresh, third)
	mine := contents(t, newRotated(t).archive.Store)[manifest.PolicyName(2)]
	for _, test := range []struct {
		name   string
		sealed []byte
		want   error
	}{
		{"unsigned", unsigned, manifest.ErrUntrusted},
		{"signed by the key that was revoked", byOld, manifest.ErrUntrusted},
		{"from a snapshot that is there", late, snapshot.ErrWish},
		{"another second version", mine, fs.ErrExist},
		{"no policy", []byte("{}"), manifest.ErrInvalid},
	} {
		if err := r.archive.ApplyPolicy(t.Context(), test.sealed, time.Now()); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	if version := open(t, r.archive.Store, r.archive.Trust).Policy.Version; version != 2 {
		t.Errorf("version %d is there", version)
	}
	for range 2 { // an answer may be lost
		apply(t, r.archive, good)
	}
	if p, seq, err := r.archive.InForce(t.Context()); err != nil || p.Version != 3 || seq != 3 {
		t.Errorf("in force: %+v for %d, %v", p, seq, err)
	}
}
