package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
