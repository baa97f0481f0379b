package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// lostKey is a signer whose key cannot be used.
type lostKey struct{ manifest.Signer }

var errLost = errors.New("the key is lost")

func (lostKey) Sign(context.Context, []byte) ([]byte, error) { return nil, errLost }

// anArchive is one that a key governs.
func anArchive(t *testing.T) (*snapshot.Archive, manifest.Signer) {
	t.Helper()
	_, key, err := manifest.GenerateKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	store := new(archivetest.Memory)
	policy := manifest.NewPolicy(time.Now(), 1, manifest.NewPolicyKey("key", manifest.Exporter, key.Key()))
	made, err := snapshot.Init(t.Context(), store, policy, snapshot.Setup{Kind: "memory"}, key)
	if err != nil {
		t.Fatal(err)
	}
	opening, err := snapshot.Open(t.Context(), store, made.Trust)
	if err != nil {
		t.Fatal(err)
	}
	return opening, key
}

func TestAReceiptThatCannotBeSignedIsNoFile(t *testing.T) {
	opening, key := anArchive(t)
	folder := t.TempDir()
	a := &app{now: time.Now, quiet: true}
	r, err := a.newReceipt(t.Context(), "verify", &opened{Archive: opening, app: a}, receiptFlags{file: filepath.Join(folder, "receipt.json")}, []manifest.Signer{lostKey{key}})
	if err != nil {
		t.Fatal(err)
	}
	now := manifest.At(time.Now())
	if err := r.keep(t.Context(), &snapshot.Report{Started: now, Finished: now}, nil); !errors.Is(err, errLost) {
		t.Errorf("got %v, want that the key is lost", err)
	}
	r.discard()
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAPlaceWithinAnother(t *testing.T) {
	folder := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(folder, "a", "sub"), 0o755), os.Symlink("a", filepath.Join(folder, "link"))); err != nil {
		t.Fatal(err)
	}
	at := func(parts ...string) place {
		name := filepath.Join(append([]string{folder}, parts...)...)
		return place{kind: "dir", name: name, path: name}
	}
	for _, in := range []place{at("a"), at("a", "sub"), at("a", "new", "er"), at("link"), at("link", "sub"), at("link", "new")} {
		if !in.within(at("a")) {
			t.Errorf("%s is not within a", in.name)
		}
	}
	for _, out := range []place{at(), at("b"), at("ab", "new")} {
		if out.within(at("a")) {
			t.Errorf("%s is within a", out.name)
		}
	}
}

// TestNothingIsProvedOfNoSnapshot: an archive that was emptied is not called proved.
func TestNothingIsProvedOfNoSnapshot(t *testing.T) {
	var out strings.Builder
	printVerified(&out, &snapshot.Report{Level: "hashes"}, "1s")
	if text := out.String(); strings.Contains(text, "proved: ") || !strings.Contains(text, "there is no snapshot yet") {
		t.Errorf("got %q", text)
	}
}

// TestAReceiptKeepsTheStrongestAnchors of more than it can have.
func TestAReceiptKeepsTheStrongestAnchors(t *testing.T) {
	many := make([]manifest.Anchor, manifest.MaxAnchors+1)
	for i := range many {
		many[i] = manifest.Anchor{Source: "head", Seq: int64(i + 1)}
	}
	r := &receipt{from: &opened{Archive: &snapshot.Archive{Anchors: many}}}
	for name, report := range map[string]*snapshot.Report{
		"held":      {Anchors: many, BySnapshot: make([]snapshot.SnapshotReport, 1)},
		"cut short": {},
	} {
		got := r.anchors(report)
		if len(got) != manifest.MaxAnchors || got[0].Seq != manifest.MaxAnchors+1 || got[len(got)-1].Seq != 2 {
			t.Errorf("%s: %d anchors, from %d to %d", name, len(got), got[0].Seq, got[len(got)-1].Seq)
		}
	}
}

// TestAReceiptDoesNotOutrankWhatWasFound has the key be lost at the end of a run that
// found something: the exit code says what.
func TestAReceiptDoesNotOutrankWhatWasFound(t *testing.T) {
	opening, key := anArchive(t)
	a := &app{now: time.Now, quiet: true}
	r := &receipt{app: a, kind: "verify", from: &opened{Archive: opening, app: a}, signers: []manifest.Signer{lostKey{key}}, record: true, digest: sha256.New()}
	now := manifest.At(time.Now())
	err := r.keep(t.Context(), &snapshot.Report{Started: now, Finished: now}, archive.ErrCorrupt)
	if judge(t.Context(), err).exit != exitCorrupt || errors.Is(err, errLost) || !strings.Contains(err.Error(), "there is no receipt: ") || !strings.Contains(err.Error(), errLost.Error()) {
		t.Errorf("got %v", err)
	}
}

// TestAReceiptSaysWhereItIs has one of two places refuse it.
func TestAReceiptSaysWhereItIs(t *testing.T) {
	opening, key := anArchive(t)
	now := manifest.At(time.Now())
	a := &app{now: time.Now, quiet: true, stderr: io.Discard}
	keep := func(file string, spoil func()) string {
		t.Helper()
		r, err := a.newReceipt(t.Context(), "verify", &opened{Archive: opening, app: a}, receiptFlags{file: file, record: true}, []manifest.Signer{key})
		if err != nil {
			t.Fatal(err)
		}
		defer r.discard()
		spoil()
		if err = r.keep(t.Context(), &snapshot.Report{Started: now, Finished: now}, nil); err == nil {
			t.Fatal("no error")
		}
		return err.Error()
	}
	file := filepath.Join(t.TempDir(), "receipt.json")
	said := keep(file, func() {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Error(err)
		}
	})
	if !strings.HasPrefix(said, "the receipt is number 1 in the archive, and not in files") || !strings.Contains(said, file+" is there already") {
		t.Errorf("the file was not written: %q", said)
	}
	file = filepath.Join(t.TempDir(), "receipt.json")
	store := opening.Store
	said = keep(file, func() {
		opening.Store = &archivetest.Faulty{Store: store, Cue: func(c archivetest.Call) archivetest.Fault {
			if c.Op == "put" {
				return archivetest.Before
			}
			return archivetest.None
		}}
	})
	if _, err := os.Stat(file); err != nil || !strings.HasPrefix(said, "the receipt is in "+file+", and not in the archive: ") {
		t.Errorf("the archive was not: %q, %v", said, err)
	}
}

// TestAKeyThatDoesNotCountIsToldAsSuch has a revoked key sign beside a good one.
func TestAKeyThatDoesNotCountIsToldAsSuch(t *testing.T) {
	opening, old := anArchive(t)
	_, fresh, err := manifest.GenerateKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	next := opening.Policy.Next(time.Now(), 1)
	next.Keys[0].Revoked = 1
	next.Keys = append(next.Keys, manifest.NewPolicyKey("fresh", manifest.Exporter, fresh.Key()))
	draft, err := manifest.DraftPolicy(next, opening.Policy)
	if err == nil {
		draft, err = manifest.SignPolicy(t.Context(), draft, old, fresh)
	}
	if err == nil {
		err = opening.ApplyPolicy(t.Context(), draft, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	now := manifest.At(time.Now())
	e, err := opening.AppendReceipt(t.Context(), manifest.Receipt{Kind: "verify", Started: now, Finished: now, Tool: "test", Report: manifest.Raw("{}")}, time.Now(), old, fresh)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{now: time.Now, quiet: true}
	shown, err := a.openReceipt(e.Sealed, opening.Policy, 0)
	if err != nil || len(shown.Keys) != 2 || shown.Keys[0].Name != "fresh" || shown.Keys[0].Void || shown.Keys[1].Name != "key" || !shown.Keys[1].Void {
		t.Fatalf("got %+v, %v", shown.Keys, err)
	}
	var page strings.Builder
	if err := shown.Write(&page); err != nil || strings.Count(page.String(), "does not count") != 1 || !strings.Contains(page.String(), "key; <strong>does not count</strong>") {
		t.Errorf("the page does not say so: %v", err)
	}
}
