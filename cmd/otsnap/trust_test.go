package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/otsnap/otsnap/manifest"
)

func TestTrustIsNeverMovedBack(t *testing.T) {
	file := trustFile{path: filepath.Join(t.TempDir(), "config", "a.trust")}
	at := func(seq int64) manifest.Trust {
		return manifest.Trust{Archive: manifest.Sum([]byte("a")), Seq: seq, Head: manifest.Sum([]byte{byte(seq)})}
	}
	for _, step := range []struct{ advance, want int64 }{{3, 3}, {2, 3}, {3, 3}, {4, 4}} {
		if err := file.advance(at(step.advance)); err != nil {
			t.Fatal(err)
		}
		got, err := file.load("")
		if err != nil || got != at(step.want) {
			t.Errorf("after %d: trust is at %d, %v, want %d", step.advance, got.Seq, err, step.want)
		}
	}
	left, err := os.ReadDir(filepath.Dir(file.path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestTrustFilesOfArchivesDoNotMeet(t *testing.T) {
	a, b := localName("shop", "/backup/one/shop"), localName("shop", "/backup/two/shop")
	if a == b {
		t.Errorf("both are %s", a)
	}
}
