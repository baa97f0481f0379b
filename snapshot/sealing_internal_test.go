package snapshot

import (
	"errors"
	"fmt"
	"testing"

	"github.com/otsnap/otsnap/manifest"
)

func TestSealingKeepsWhatSignersSay(t *testing.T) {
	gone := errors.New("the token is gone")
	if err := sealing(fmt.Errorf("key: %w", gone)); !errors.Is(err, gone) {
		t.Errorf("got %v, which is no longer what the signer said", err)
	}
	for _, verdict := range []error{manifest.ErrInvalid, manifest.ErrUntrusted, manifest.ErrLimit} {
		err := sealing(fmt.Errorf("%w: too many tables", verdict))
		if errors.Is(err, verdict) || err.Error() != verdict.Error()+": too many tables" {
			t.Errorf("%v: got %v, which passes for damage to the archive", verdict, err)
		}
	}
}
