package manifest

import (
	"context"
	"fmt"
)

// Head says which manifest was the newest of an archive, and which version of its
// policy. Kept elsewhere, where those who write the archive cannot remove it, it is an
// anchor: an archive that ends before it, or has another manifest in its place, is
// refused.
type Head struct {
	Format  int64  `json:"format"`
	Archive Hash   `json:"archive"`
	Seq     int64  `json:"seq"`
	Digest  Hash   `json:"digest"`  // of the object of manifest Seq
	Version int64  `json:"version"` // of the policy: the newest there was
	Policy  Hash   `json:"policy"`  // [Policy.Digest] of that version
	Time    Time   `json:"time"`    // when that was seen, by the clock of who signed
	Tool    string `json:"tool"`
}

// SealHead validates h and signs it.
func SealHead(ctx context.Context, h *Head, signers ...Signer) ([]byte, error) {
	return sealEndorsement(ctx, headKind, h, signers)
}

// OpenHead returns the head in sealed, and the names of the keys of p that signed it:
// at least one, of any role, that counts for the head's manifest.
func OpenHead(sealed []byte, p *Policy) (*Head, []string, error) {
	h := new(Head)
	names, err := openEndorsement(headKind, sealed, p, h, Exporter, Notary, Officer)
	if err != nil {
		return nil, nil, err
	}
	return h, names, nil
}

// ReadHead returns what sealed says as a head, to show it. Who signed it is not looked
// at, so nothing can be held against it: that takes [OpenHead].
func ReadHead(sealed []byte) (*Head, error) {
	h := new(Head)
	o, err := headKind.open(sealed)
	if err == nil {
		err = parseEndorsement(o.payload, h)
	}
	if err != nil {
		return nil, fmt.Errorf("manifest: head: %w", err)
	}
	return h, nil
}

func (h *Head) about() (Hash, int64) { return h.Archive, h.Seq }

// Validate checks every rule a head must keep.
func (h *Head) Validate() error {
	if err := checkAbout(h.Format, h.Archive, h.Seq, h.Digest, h.Tool); err != nil {
		return err
	}
	if h.Version < 1 || h.Version > MaxPolicies || h.Policy.IsZero() {
		return invalid("version %d of the policy with digest %s", h.Version, h.Policy)
	}
	return checkTime("time", h.Time)
}
