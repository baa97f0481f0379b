package manifest_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
)

// signedObjects are the signed objects of the archive in testdata/v1, and how each
// kind is opened.
var signedObjects = map[string]func(sealed []byte, p *manifest.Policy) error{
	"policy.dsse.json": func(sealed []byte, p *manifest.Policy) error {
		_, err := manifest.OpenPolicy(sealed, p.ID())
		return err
	},
	"policy-2.dsse.json": func(sealed []byte, p *manifest.Policy) error {
		_, err := manifest.OpenNextPolicy(sealed, p)
		return err
	},
	"plan.dsse.json":                openPlan,
	"plan-retained.dsse.json":       openPlan,
	"page.dsse.json":                func(sealed []byte, p *manifest.Policy) error { _, err := manifest.OpenPage(sealed, p); return err },
	"store.dsse.json":               func(sealed []byte, p *manifest.Policy) error { _, err := manifest.OpenStore(sealed, p); return err },
	"manifest-1.dsse.json":          openManifest,
	"manifest-2.dsse.json":          openManifest,
	"manifest-timeseries.dsse.json": openManifest,
}

func openPlan(sealed []byte, p *manifest.Policy) error {
	_, err := manifest.OpenPlan(sealed, p)
	return err
}

func openManifest(sealed []byte, p *manifest.Policy) error {
	_, err := manifest.Open(sealed, p)
	return err
}

func readObject(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "v1", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func signedPolicy(t *testing.T) *manifest.Policy {
	t.Helper()
	sealed := readObject(t, "policy.dsse.json")
	id, err := manifest.PolicyID(sealed)
	if err != nil {
		t.Fatal(err)
	}
	p, err := manifest.OpenPolicy(sealed, id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestNoByteOfASignedObjectCanChange flips one bit of every byte, and with
// OTSNAP_SOAK each of the eight. All keys of these objects are needed, so that no
// byte is without meaning.
func TestNoByteOfASignedObjectCanChange(t *testing.T) {
	p := signedPolicy(t)
	rnd := rand.New(rand.NewPCG(41, 42))
	for name, open := range signedObjects {
		sealed := readObject(t, name)
		if err := open(sealed, p); err != nil {
			t.Fatalf("%s as it is: %v", name, err)
		}
		for i := 0; i < len(sealed); i += stride() {
			for _, bit := range bits(rnd) {
				sealed[i] ^= bit
				refusedAsForged(t, name, i, open(sealed, p))
				sealed[i] ^= bit
			}
		}
	}
}

// stride is how far apart the bytes changed are: the race detector need not see all.
func stride() int {
	if testing.Short() {
		return 16
	}
	return 1
}

// bits are those of a byte to flip.
func bits(rnd *rand.Rand) []byte {
	if os.Getenv("OTSNAP_SOAK") == "" {
		return []byte{1 << rnd.IntN(8)}
	}
	return []byte{1, 2, 4, 8, 16, 32, 64, 128}
}

// refusedAsForged takes no error but those that say that the object is not what
// was signed.
func refusedAsForged(t *testing.T, name string, number int, err error) {
	t.Helper()
	if !errors.Is(err, manifest.ErrInvalid) && !errors.Is(err, manifest.ErrUntrusted) && !errors.Is(err, manifest.ErrLimit) {
		t.Fatalf("%s, change %d: got %v, want it refused", name, number, err)
	}
}

// TestNoMutantOfASignedObjectIsOpened changes signed objects in several places at
// once, also by pieces of other signed objects.
func TestNoMutantOfASignedObjectIsOpened(t *testing.T) {
	p := signedPolicy(t)
	rnd := rand.New(rand.NewPCG(43, 44))
	other := bytes.Join([][]byte{readObject(t, "policy.dsse.json"), readObject(t, "plan.dsse.json"), readObject(t, "page.dsse.json"), readObject(t, "manifest-2.dsse.json")}, nil)
	for name, open := range signedObjects {
		sealed := readObject(t, name)
		for i := range 1_000 {
			mutant := archivetest.Mutate(rnd, sealed, other)
			refusedAsForged(t, name, i, open(mutant, p))
		}
	}
}
