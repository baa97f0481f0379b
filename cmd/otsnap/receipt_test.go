package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

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
	folder := t.TempDir()
	r, err := new(app).newReceipt(filepath.Join(folder, "receipt.json"), []manifest.Signer{lostKey{key}})
	if err != nil {
		t.Fatal(err)
	}
	now := manifest.At(time.Now())
	of := manifest.Receipt{
		Format: 1, Archive: manifest.Hash{1}, Kind: "restore", Seq: 1, Digest: manifest.Hash{2}, Version: 1, Policy: manifest.Hash{3},
		Started: now, Finished: now, Tool: "otsnap",
	}
	if err := r.keep(t.Context(), of, new(snapshot.Report)); !errors.Is(err, errLost) {
		t.Errorf("got %v, want that the key is lost", err)
	}
	r.discard()
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
