package manifest

import (
	"context"
	"fmt"
	"slices"
)

// Receipt is the signed report of something that was done with an archive: a
// verification, a restore, a comparison. Kept in the archive, receipts form a chain of
// their own.
type Receipt struct {
	Format  int64 `json:"format"`
	Archive Hash  `json:"archive"`

	// The place in the archive's chain; all zero for a receipt that is kept elsewhere.
	Number int64 `json:"number,omitzero"` // the one in the object's name
	Before int64 `json:"before,omitzero"` // number of the receipt before; 0: it is the first
	Prev   Hash  `json:"prev,omitzero"`   // digest of that one's object

	Kind     string   `json:"kind"`   // what was done: a word of small letters
	Seq      int64    `json:"seq"`    // the newest good manifest there was; 0: none
	Digest   Hash     `json:"digest"` // of its object; zero with Seq 0
	Version  int64    `json:"version"`
	Policy   Hash     `json:"policy"`  // [Policy.Digest] of that version, the newest there was
	Anchors  []Anchor `json:"anchors"` // what the archive was held against, beside its own signatures
	Started  Time     `json:"started"`
	Finished Time     `json:"finished"`
	Host     string   `json:"host"`    // as the machine calls itself; may be empty
	User     string   `json:"user"`    // likewise
	Tool     string   `json:"tool"`    // name and version of the program
	Build    string   `json:"build"`   // how it was built
	Program  Hash     `json:"program"` // SHA-256 of its executable; zero: not known
	Exit     int64    `json:"exit"`    // the exit code: 0 if nothing was found to be wrong
	Report   Raw      `json:"report"`  // what was covered and found
}

// Anchor is something outside an archive that says how far it has come.
type Anchor struct {
	Source string `json:"source"` // where it is from, for people
	Seq    int64  `json:"seq"`    // of a manifest; 0: not known
	Digest Hash   `json:"digest"` // of that one's object; zero: not known. One of the two is
}

// anyRole is of whom a receipt may be.
var anyRole = []string{Exporter, Notary, Officer}

// SealReceipt validates r and signs it.
func SealReceipt(ctx context.Context, r *Receipt, signers ...Signer) ([]byte, error) {
	return sealEndorsement(ctx, receiptKind, r, signers)
}

// OpenReceipt returns the receipt in sealed, and the names of the keys of p that
// signed it: at least one, of any role, that counts for the manifest it names.
func OpenReceipt(sealed []byte, p *Policy) (*Receipt, []string, error) {
	r := new(Receipt)
	names, err := openEndorsement(receiptKind, sealed, p, r, anyRole...)
	if err != nil {
		return nil, nil, err
	}
	return r, names, nil
}

// OpenReceiptAfter is OpenReceipt for one that stands in the chain after a receipt that
// names manifest seq: keys count for the newer of the two. With [MaxSeq] these are the
// keys that no version of p revokes, whatever came before.
func OpenReceiptAfter(sealed []byte, p *Policy, seq int64) (*Receipt, []string, error) {
	r, _, err := OpenReceipt(sealed, p)
	if err != nil {
		return nil, nil, err
	}
	o, err := receiptKind.open(sealed)
	if err != nil {
		return nil, nil, err
	}
	_, own := r.about()
	names, err := p.reporters(o, own, seq)
	if err != nil {
		return nil, nil, fmt.Errorf("manifest: receipt: %w", err)
	}
	return r, names, nil
}

// reporters returns the names of the keys that signed o, a receipt that names manifest
// seq, and count where one before it names manifest before.
func (p *Policy) reporters(o opened, seq, before int64) ([]string, error) {
	names, err := p.endorsers(o, max(seq, before), anyRole)
	if err == nil || before <= seq {
		return names, err
	}
	if _, alone := p.endorsers(o, seq, anyRole); alone != nil {
		return nil, err
	}
	return nil, untrusted("it does not count: it names manifest %d, a receipt before it names manifest %d, and for that no key that signed it counts any more", seq, before)
}

// OpenReceiptBy returns the receipt in sealed, which key must have signed: that of an
// auditor, whom no policy names.
func OpenReceiptBy(sealed []byte, key PublicKey) (*Receipt, error) {
	o, err := receiptKind.open(sealed)
	if err == nil && !o.by(key) {
		err = untrusted("key sha256:%s has not signed it", key.ID())
	}
	r := new(Receipt)
	if err == nil {
		err = parseEndorsement(o.payload, r)
	}
	if err != nil {
		return nil, fmt.Errorf("manifest: receipt: %w", err)
	}
	return r, nil
}

// MayReport reports whether a receipt that key signs counts, if its newest manifest is
// number seq. p is the newest version.
func (p *Policy) MayReport(key PublicKey, seq int64) bool {
	return slices.ContainsFunc(p.mayEndorse(max(seq, 1), anyRole), func(k trustedKey) bool { return k.key == key })
}

// about is manifest 1 where there was none, so that it is clear which keys count.
func (r *Receipt) about() (Hash, int64) { return r.Archive, max(r.Seq, 1) }

// Validate checks every rule a receipt must keep.
func (r *Receipt) Validate() error {
	check := checkMaker(r.Format, r.Archive, r.Tool)
	if r.Seq != 0 || !r.Digest.IsZero() {
		check = checkAbout(r.Format, r.Archive, r.Seq, r.Digest, r.Tool)
	}
	if check != nil {
		return check
	}
	if err := r.checkPlace(); err != nil {
		return err
	}
	if err := checkWord("kind", r.Kind); err != nil {
		return err
	}
	if r.Version < 1 || r.Version > MaxPolicies || r.Policy.IsZero() {
		return invalid("version %d of the policy with digest %s", r.Version, r.Policy)
	}
	if len(r.Anchors) > MaxAnchors {
		return overLimit("%d anchors; at most %d", len(r.Anchors), MaxAnchors)
	}
	for i, a := range r.Anchors {
		if err := a.validate(); err != nil {
			return fmt.Errorf("anchor %d: %w", i, err)
		}
	}
	if err := checkSpan(r.Started, r.Finished); err != nil {
		return err
	}
	for _, text := range []struct{ what, text string }{{"host", r.Host}, {"user", r.User}, {"build", r.Build}} {
		if err := checkPrintable(text.what, text.text); err != nil {
			return err
		}
	}
	if r.Exit < 0 || r.Exit > 255 {
		return invalid("exit code %d", r.Exit)
	}
	return r.Report.check()
}

// checkPlace checks the place in the chain.
func (r *Receipt) checkPlace() error {
	switch {
	case r.Number < 0 || r.Number > MaxSeq || r.Before < 0:
		return invalid("receipt %d after %d", r.Number, r.Before)
	case r.Before >= r.Number && r.Before != 0:
		return invalid("receipt %d is after receipt %d", r.Number, r.Before)
	case (r.Before == 0) != r.Prev.IsZero():
		return invalid("receipt %d is after receipt %d with digest %s", r.Number, r.Before, r.Prev)
	}
	return nil
}

func (a Anchor) validate() error {
	if err := checkPresent("source", a.Source); err != nil {
		return err
	}
	if err := checkPrintable("source", a.Source); err != nil {
		return err
	}
	if a.Seq < 0 || a.Seq > MaxSeq || a.Seq == 0 && a.Digest.IsZero() {
		return invalid("manifest %d with digest %s", a.Seq, a.Digest)
	}
	return nil
}

// checkWord refuses what is no short word of small letters.
func checkWord(what, word string) error {
	if len(word) == 0 || len(word) > MaxLabel {
		return invalid("%s %q has %d bytes, want 1 to %d", what, clip(word), len(word), MaxLabel)
	}
	for _, c := range []byte(word) {
		if c < 'a' || c > 'z' {
			return invalid("%s %q; small letters only", what, clip(word))
		}
	}
	return nil
}
