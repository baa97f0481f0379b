package snapshot_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/snapshot"
)

// newSmallVictim is an archive with one snapshot of a few rows.
func newSmallVictim(t *testing.T) *victim {
	t.Helper()
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 3)
	a, key := newArchive(t, new(archivetest.Memory))
	last := export(t, s, a, key, "plain")
	return &victim{service: s, objects: contents(t, a.Store), trust: a.Anchor(last), last: last}
}

// opened verifies an archive in which one object is another. It reads the objects
// as they are, so that the caller may change them back.
func (v *victim) opened(t *testing.T, store *archivetest.Memory, name string, data []byte) error {
	t.Helper()
	store.Replace(name, data)
	a, err := snapshot.Open(t.Context(), store, v.trust)
	if err == nil {
		_, err = snapshot.Verify{Archive: a, Level: snapshot.Hashes}.Run(t.Context())
	}
	return err
}

// TestNoByteOfAnArchiveCanChange changes bytes of everything a small archive
// has, signed or named by what is signed: one bit of some, and with OTSNAP_SOAK
// every bit of all.
func TestNoByteOfAnArchiveCanChange(t *testing.T) {
	v := newSmallVictim(t)
	store := storeWith(t, v.objects).(*archivetest.Memory)
	soak := os.Getenv("OTSNAP_SOAK") != ""
	rnd := rand.New(rand.NewPCG(51, 52))
	changes := 0
	for _, name := range v.names() {
		original := bytes.Clone(v.objects[name])
		data := bytes.Clone(original)
		for i := range data {
			flips := []byte{1, 2, 4, 8, 16, 32, 64, 128}
			if !soak {
				flips = flips[rnd.IntN(8):][:1]
				if rnd.IntN(stride(name)) > 0 {
					continue
				}
			}
			for _, flip := range flips {
				data[i] ^= flip
				if err := v.opened(t, store, name, data); !isVerdict(err) {
					t.Fatalf("%s, byte %d with %#x flipped: got %v, want it refused", name, i, flip, err)
				}
				data[i] ^= flip
				changes++
			}
		}
		store.Replace(name, original)
	}
	t.Logf("%d changes refused", changes)
	if err := v.opened(t, store, v.names()[0], v.objects[v.names()[0]]); err != nil {
		t.Errorf("the archive as it was: %v", err)
	}
}

// stride is how many bytes there are to one that is changed.
func stride(name string) int {
	switch {
	case testing.Short():
		return 200
	case strings.HasSuffix(name, ".json"):
		return 7
	}
	return 20 // hashed as a whole
}

// TestNoMutantOfAnArchiveIsAccepted changes each object in several places at once,
// also by pieces of the others.
func TestNoMutantOfAnArchiveIsAccepted(t *testing.T) {
	v := newSmallVictim(t)
	store := storeWith(t, v.objects).(*archivetest.Memory)
	rnd := rand.New(rand.NewPCG(53, 54))
	rounds := 100
	if os.Getenv("OTSNAP_SOAK") != "" {
		rounds = 1_000
	}
	var others []byte
	for _, name := range v.names() {
		others = append(others, v.objects[name]...)
	}
	for _, name := range v.names() {
		for i := range rounds {
			if err := v.opened(t, store, name, archivetest.Mutate(rnd, v.objects[name], others)); !isVerdict(err) {
				t.Fatalf("%s, mutant %d: got %v, want it refused", name, i, err)
			}
		}
		store.Replace(name, v.objects[name])
	}
}
