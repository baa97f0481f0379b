package manifest

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// An endorsement is a statement about the manifest with some number that a key of the
// policy makes later, in an object of its own: a head, a notarization, a receipt. It
// takes one signature to be good, and names of those who gave it are told with it.
type endorsement interface {
	Validate() error
	about() (archive Hash, seq int64)
}

// sealEndorsement validates e and signs it.
func sealEndorsement(ctx context.Context, k kind, e endorsement, signers []Signer) ([]byte, error) {
	payload, err := endorsementPayload(e)
	if err != nil {
		return nil, fmt.Errorf("manifest: %s: %w", k.name, err)
	}
	sealed, err := k.seal(ctx, payload, signers)
	if err != nil {
		return nil, fmt.Errorf("manifest: %s: %w", k.name, err)
	}
	return sealed, nil
}

func endorsementPayload(e endorsement) ([]byte, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	payload, err := appendDocument(nil, e)
	if err != nil {
		return nil, invalid("%w", err)
	}
	return payload, nil
}

// openEndorsement reads sealed into e, if a key with one of roles signed it, and
// returns the names of those that did.
func openEndorsement(k kind, sealed []byte, p *Policy, e endorsement, roles ...string) ([]string, error) {
	names, err := readEndorsement(k, sealed, p, e, roles)
	if err != nil {
		return nil, fmt.Errorf("manifest: %s: %w", k.name, err)
	}
	return names, nil
}

func readEndorsement(k kind, sealed []byte, p *Policy, e endorsement, roles []string) ([]string, error) {
	if _, err := p.opened(); err != nil {
		return nil, err
	}
	o, err := k.open(sealed)
	if err != nil {
		return nil, err
	}
	if _, err := p.endorsers(o, 0, roles); err != nil {
		return nil, err // before anything in it is read
	}
	if err := parseEndorsement(o.payload, e); err != nil {
		return nil, err
	}
	archive, seq := e.about()
	if err := p.governs(archive); err != nil {
		return nil, err
	}
	return p.endorsers(o, seq, roles)
}

func parseEndorsement(payload []byte, e endorsement) error {
	if err := parse(payload, e); err != nil {
		return err
	}
	return e.Validate()
}

// mayEndorse returns the keys that may speak of manifest seq: those with one of roles
// in the version of the policy in force for it, or in the newest, so that a key that
// came later may look back; but not what any version revokes from seq or a lower number
// on. 0 is no manifest in particular.
func (p *Policy) mayEndorse(seq int64, roles []string) []trustedKey {
	versions := []*Policy{p.At(seq), p}
	if seq == 0 {
		versions = p.Versions()
	}
	var may []trustedKey
	for _, v := range versions {
		for _, k := range v.parsed {
			same := func(o trustedKey) bool { return o.name == k.name && o.key == k.key }
			until, revoked := p.revoked[k.key]
			if slices.Contains(roles, k.role) && !slices.ContainsFunc(may, same) && (seq == 0 || !revoked || seq < until) {
				may = append(may, k)
			}
		}
	}
	return may
}

// Notaries returns the keys whose notarization of manifest seq counts. p is the newest
// version.
func (p *Policy) Notaries(seq int64) []PolicyKey {
	var keys []PolicyKey
	for _, k := range p.mayEndorse(seq, []string{Notary}) {
		keys = append(keys, NewPolicyKey(k.name, k.role, k.key))
	}
	return keys
}

// endorsers returns the names of the keys that signed o and may speak of manifest seq,
// see mayEndorse.
func (p *Policy) endorsers(o opened, seq int64, roles []string) ([]string, error) {
	var signed, known []string
	for _, k := range p.mayEndorse(seq, roles) {
		known = append(known, k.String())
		if o.by(k.key) {
			signed = append(signed, k.name)
		}
	}
	if len(signed) > 0 {
		return signed, nil
	}
	what := strings.Join(roles, ", ")
	if len(known) == 0 {
		return nil, untrusted("not signed by a key that may; the policy has no %s", what)
	}
	return nil, untrusted("not signed by a key that may (%s); these may: %s", what, strings.Join(known, "; "))
}

// checkAbout checks the members that every endorsement has.
func checkAbout(format int64, archive Hash, seq int64, digest Hash, tool string) error {
	if seq < 1 || seq > MaxSeq {
		return invalid("manifest %d; want 1 to %d", seq, MaxSeq)
	}
	if digest.IsZero() {
		return invalid("the digest of manifest %d is zero", seq)
	}
	return checkMaker(format, archive, tool)
}

// checkMaker checks what does not depend on there being a manifest.
func checkMaker(format int64, archive Hash, tool string) error {
	if err := checkFormatNumber(format); err != nil {
		return err
	}
	if archive.IsZero() {
		return invalid("archive is zero")
	}
	if err := checkPresent("tool", tool); err != nil {
		return err
	}
	return checkPrintable("tool", tool)
}

// checkSpan checks that something ended after it began.
func checkSpan(started, finished Time) error {
	if err := checkTime("started", started); err != nil {
		return err
	}
	if err := checkTime("finished", finished); err != nil {
		return err
	}
	if finished.Before(started.Time) {
		return invalid("finished %s, before it was started %s", finished, started)
	}
	return nil
}
