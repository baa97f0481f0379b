package snapshot

import (
	"errors"

	"github.com/otsnap/otsnap/manifest"
)

// sealing is an error of sealing a document without its verdict: what this program
// cannot seal is no damage to the archive. An error of the signer's own, as of one
// that is not reached, stays what it is.
func sealing(err error) error {
	for _, verdict := range []error{manifest.ErrInvalid, manifest.ErrUntrusted, manifest.ErrLimit} {
		if errors.Is(err, verdict) {
			return errors.New(err.Error())
		}
	}
	return err
}
