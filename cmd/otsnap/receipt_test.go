package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// lostKey is a signer whose key cannot be used.
type lostKey struct{ manifest.Signer }

var errLost = errors.New("the key is lost")

func (lostKey) Sign(context.Context, []byte) ([]byte, error) { return nil, errLost }

func TestAReceiptThatCannotBeSignedIsNoFile(t *testing.T) {
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
