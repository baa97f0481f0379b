package manifest

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// first is the number of the first manifest the policy is for.
func (p *Policy) first() int64 { return max(p.From, 1) }

// genesis is the first version.
func (p *Policy) genesis() *Policy {
	for p.before != nil {
		p = p.before
	}
	return p
}

// At returns the version that is in force for manifest seq: the newest that is from
// seq, or from a number before it, on. [OpenPage], [OpenPlan] and [Policy.Check]
// then go by the keys that count for this manifest.
func (p *Policy) At(seq int64) *Policy {
	v := *p
	for v.before != nil && v.first() > seq {
		v = *v.before
	}
	v.at = max(seq, 1)
	v.revoked = p.revoked
	return &v
}

// Versions returns the versions of the policy, the first one first.
func (p *Policy) Versions() []*Policy {
	var all []*Policy
	for v := p; v != nil; v = v.before {
		all = append(all, v)
	}
	slices.Reverse(all)
	return all
}

// Alike reports whether the same keys count, for the same, under p and under o, as
// [Policy.At] returned them.
func (p *Policy) Alike(o *Policy) bool {
	same := func(a, b trustedKey) bool {
		return a.key == b.key && a.role == b.role && a.counts(p.at) == b.counts(o.at)
	}
	return p.digest == o.digest && slices.EqualFunc(p.parsed, o.parsed, same)
}

// plausible checks that enough keys of one version or another signed a manifest,
// before anything in it is read.
func (p *Policy) plausible(o opened) error {
	var newest error
	for v := p; v != nil; v = v.before {
		err := v.ballot(v.parsed, 0, false).decide(o)
		if err == nil {
			return nil
		}
		if newest == nil {
			newest = err
		}
	}
	return newest
}

// judge checks that a manifest was made under the version in force for its number,
// and by keys that count for it, which it returns. It reports whether the version it
// names is known.
func (p *Policy) judge(m *Manifest, o opened) (by []trustedKey, known bool, err error) {
	inForce := p.At(m.Seq)
	for _, v := range p.Versions() {
		if v.digest != m.Policy {
			continue
		}
		if v.Version != inForce.Version {
			return nil, true, untrusted("manifest %d was made under version %d of the policy; version %d is in force for it, from manifest %d on",
				m.Seq, v.Version, inForce.Version, inForce.first())
		}
		known = true
	}
	b := inForce.ballot(inForce.parsed, m.Seq, false)
	signed := b.signed(o)
	by = slices.DeleteFunc(slices.Clone(b.keys), func(k trustedKey) bool { return !signed[k.key] })
	return by, known, b.enough(signed)
}

// OpenNextPolicy returns the version of the policy after p, the newest so far: one
// that follows p in the chain, and that as many keys signed as p asks for, and as it
// asks for itself. That the object holds another version is ErrRollback.
func OpenNextPolicy(sealed []byte, p *Policy) (*Policy, error) {
	next, err := openNextPolicy(sealed, p)
	if err != nil {
		return nil, fmt.Errorf("manifest: policy: %w", err)
	}
	return next, nil
}

func openNextPolicy(sealed []byte, p *Policy) (*Policy, error) {
	if _, err := p.opened(); err != nil {
		return nil, err
	}
	o, err := policyKind.open(sealed)
	if err != nil {
		return nil, err
	}
	if err := p.ballot(p.parsed, 0, true).decide(o); err != nil {
		return nil, fmt.Errorf("not agreed to by version %d: %w", p.Version, err)
	}
	next, err := parsePolicy(o.payload)
	if err != nil {
		return nil, err
	}
	if err := next.follows(p); err != nil {
		return nil, err
	}
	if err := p.ballot(p.parsed, next.first(), true).decide(o); err != nil {
		return nil, fmt.Errorf("not agreed to by version %d: %w", p.Version, err)
	}
	if err := next.adopt(o, p.id, p); err != nil {
		return nil, fmt.Errorf("version %d: %w", next.Version, err)
	}
	return next, nil
}

// follows checks the rules about a version and the one before it.
func (p *Policy) follows(before *Policy) error {
	if p.Version != before.Version+1 {
		return rollback("it is version %d, want %d", p.Version, before.Version+1)
	}
	if p.Prev != before.digest {
		return rollback("version %d follows policy %s, but version %d is %s", p.Version, p.Prev, before.Version, before.digest)
	}
	if p.first() < before.first() {
		return invalid("version %d is from manifest %d on, the version before it from %d", p.Version, p.first(), before.first())
	}
	if p.Salt != before.Salt {
		return invalid("version %d has another salt", p.Version)
	}
	for _, f := range before.Files {
		if !slices.Contains(p.Files, f) {
			return invalid("version %d leaves out file %s", p.Version, f.Name)
		}
	}
	keys, err := p.keys()
	if err != nil {
		return err
	}
	for _, k := range keys {
		if was, ok := before.revoked[k.key]; ok && (k.revoked == 0 || k.revoked > was) {
			return invalid("key %s was revoked from manifest %d on; a key is not taken back", k.name, was)
		}
	}
	return nil
}

// Next returns a version to come after p, the newest so far, which says the same
// from manifest from on; it is for the caller to change.
func (p *Policy) Next(created time.Time, from int64) *Policy {
	return &Policy{
		Format: Format, Version: p.Version + 1, Prev: p.digest, From: from, Created: At(created),
		Salt: p.Salt, Threshold: p.Threshold,
		Keys: slices.Clone(p.Keys), Groups: slices.Clone(p.Groups), Files: slices.Clone(p.Files),
	}
}

// DraftPolicy returns next, which comes after p, as an envelope without signatures,
// for [SignPolicy].
func DraftPolicy(next, p *Policy) ([]byte, error) {
	draft, err := draftPolicy(next, p)
	if err != nil {
		return nil, fmt.Errorf("manifest: policy: %w", err)
	}
	return draft, nil
}

func draftPolicy(next, p *Policy) ([]byte, error) {
	if _, err := p.opened(); err != nil {
		return nil, err
	}
	if err := next.Validate(); err != nil {
		return nil, err
	}
	if err := next.follows(p); err != nil {
		return nil, err
	}
	payload, err := encode(*next)
	if err != nil {
		return nil, invalid("%w", err)
	}
	return policyKind.pack(payload, nil)
}

// Draft is a policy that may not have all its signatures yet. Nobody has checked
// more than that it makes sense.
type Draft struct {
	Policy *Policy
	Digest Hash
	Keys   []string // ids of the keys that seem to have signed it
}

// ReadDraft reads a draft to show it to those who are to sign it.
func ReadDraft(draft []byte) (Draft, error) {
	o, err := policyKind.open(draft)
	if err != nil {
		return Draft{}, fmt.Errorf("manifest: policy: %w", err)
	}
	p, err := parsePolicy(o.payload)
	if err != nil {
		return Draft{}, fmt.Errorf("manifest: policy: %w", err)
	}
	d := Draft{Policy: p, Digest: Sum(o.payload), Keys: []string{}}
	for _, s := range o.signatures {
		d.Keys = append(d.Keys, s.KeyID)
	}
	return d, nil
}

// SignPolicy adds signatures to a draft. A key that has signed it already is left
// alone.
func SignPolicy(ctx context.Context, draft []byte, signers ...Signer) ([]byte, error) {
	signed, err := signPolicy(ctx, draft, signers)
	if err != nil {
		return nil, fmt.Errorf("manifest: policy: %w", err)
	}
	return signed, nil
}

func signPolicy(ctx context.Context, draft []byte, signers []Signer) ([]byte, error) {
	o, err := policyKind.open(draft)
	if err != nil {
		return nil, err
	}
	if _, err := parsePolicy(o.payload); err != nil {
		return nil, err
	}
	for _, s := range signers {
		if o.by(s.Key()) {
			continue
		}
		sig, err := sign(ctx, s, o.signed)
		if err != nil {
			return nil, fmt.Errorf("key sha256:%s: %w", s.Key().ID(), err)
		}
		o.signatures = append(o.signatures, sig)
	}
	if len(o.signatures) > MaxSignatures {
		return nil, overLimit("%d signatures; at most %d", len(o.signatures), MaxSignatures)
	}
	return policyKind.pack(o.payload, o.signatures)
}
