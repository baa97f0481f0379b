package manifest

import "context"

// The depths of a [Notarization].
const (
	NotarizedHashes = "hashes" // every byte of every object was read and hashed
	NotarizedRows   = "rows"   // and every row was rebuilt and hashed
)

// Notarization says that a notary has read what a manifest names, all of it, and
// found it as the manifest says. It is made after the manifest, with other
// credentials than the exporter's, and countersigns it.
type Notarization struct {
	Format   int64  `json:"format"`
	Archive  Hash   `json:"archive"`
	Seq      int64  `json:"seq"`
	Digest   Hash   `json:"digest"` // of the object of manifest Seq
	Snapshot string `json:"snapshot"`
	Level    string `json:"level"`  // [NotarizedHashes] or [NotarizedRows]
	Totals   Totals `json:"totals"` // what was read: all that the manifest names
	Started  Time   `json:"started"`
	Finished Time   `json:"finished"`
	Tool     string `json:"tool"`
	Build    string `json:"build"`
}

// SealNotarization validates n and signs it.
func SealNotarization(ctx context.Context, n *Notarization, signers ...Signer) ([]byte, error) {
	return sealEndorsement(ctx, notarizationKind, n, signers)
}

// OpenNotarization returns the notarization in sealed, and the names of the notaries
// of p that signed it: at least one that counts for the manifest. Whether it is about
// the manifest that is there is for the caller to see; [Notarization.Of] does.
func OpenNotarization(sealed []byte, p *Policy) (*Notarization, []string, error) {
	n := new(Notarization)
	names, err := openEndorsement(notarizationKind, sealed, p, n, Notary)
	if err != nil {
		return nil, nil, err
	}
	return n, names, nil
}

func (n *Notarization) about() (Hash, int64) { return n.Archive, n.Seq }

// Of checks that n is about m, whose object has that digest, and covers all of it.
func (n *Notarization) Of(m *Manifest, digest Hash) error {
	if n.Seq != m.Seq || n.Digest != digest || n.Snapshot != m.Snapshot {
		return invalid("it is about manifest %d with digest %s, this is %d with %s", n.Seq, n.Digest, m.Seq, digest)
	}
	if n.Totals != m.Totals {
		return invalid("it covers %d chunks with %d rows, manifest %d names %d with %d", n.Totals.Chunks, n.Totals.Rows, m.Seq, m.Totals.Chunks, m.Totals.Rows)
	}
	return nil
}

// Validate checks every rule a notarization must keep.
func (n *Notarization) Validate() error {
	if err := checkAbout(n.Format, n.Archive, n.Seq, n.Digest, n.Tool); err != nil {
		return err
	}
	if err := CheckSnapshotID(n.Snapshot); err != nil {
		return err
	}
	if n.Level != NotarizedHashes && n.Level != NotarizedRows {
		return invalid("level %q; %s or %s", clip(n.Level), NotarizedHashes, NotarizedRows)
	}
	if err := n.Totals.validate(); err != nil {
		return err
	}
	if err := checkSpan(n.Started, n.Finished); err != nil {
		return err
	}
	return checkPrintable("build", n.Build)
}
