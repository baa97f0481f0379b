package manifest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// The roles of keys.
const (
	Exporter = "exporter" // signs plans, pages and manifests
	Notary   = "notary"   // signs manifests, after a look of its own
)

// Policy says who may sign in an archive. The digest of its payload is the
// archive's id, so an archive's policy is beyond doubt for whoever holds the id.
type Policy struct {
	Format    int64       `json:"format"`
	Version   int64       `json:"version"` // 1
	Created   Time        `json:"created"`
	Salt      Hash        `json:"salt"`      // random, so that no two archives have one id
	Threshold int64       `json:"threshold"` // how many of the keys must sign a manifest
	Keys      []PolicyKey `json:"keys"`
	Files     []FileRef   `json:"files"`

	id Hash // set by OpenPolicy alone
}

// NewPolicy returns the first policy of a new archive: its texts are those of this
// program, and its salt makes its id unlike any other's.
func NewPolicy(created time.Time, threshold int64, keys ...PolicyKey) *Policy {
	p := &Policy{
		Format: Format, Version: 1, Created: At(created),
		Threshold: threshold, Keys: keys, Files: FileRefs(Files()),
	}
	rand.Read(p.Salt[:]) // never fails
	return p
}

// PolicyKey is a key a policy trusts, and what for.
type PolicyKey struct {
	Name      string `json:"name"`
	Role      string `json:"role"` // [Exporter] or [Notary]
	Algorithm string `json:"algorithm"`
	SPKI      string `json:"spki"` // SubjectPublicKeyInfo in DER, in base64
}

// FileRef is a fixed file at the top of an archive, bound by the policy.
type FileRef struct {
	Name   string `json:"name"`
	SHA256 Hash   `json:"sha256"`
}

// NewPolicyKey returns the entry of a policy for key.
func NewPolicyKey(name, role string, key PublicKey) PolicyKey {
	return PolicyKey{
		Name:      name,
		Role:      role,
		Algorithm: key.Algorithm(),
		SPKI:      base64.StdEncoding.EncodeToString(key.SPKI()),
	}
}

// Key returns the key itself.
func (k PolicyKey) Key() (PublicKey, error) {
	spki, err := decodeBase64(k.SPKI)
	if err != nil {
		return PublicKey{}, invalid("spki: %w", err)
	}
	key, err := parseSPKI(spki)
	if err != nil {
		return PublicKey{}, err
	}
	if key.Algorithm() != k.Algorithm {
		return PublicKey{}, invalid("algorithm %q for a key of %s", clip(k.Algorithm), key.Algorithm())
	}
	return key, nil
}

// ID returns the id of the archive the policy governs, and zero for a policy that
// [OpenPolicy] did not return.
func (p *Policy) ID() Hash { return p.id }

// Validate checks every rule a policy must keep.
func (p *Policy) Validate() error {
	if err := checkFormatNumber(p.Format); err != nil {
		return err
	}
	if p.Version != 1 {
		return invalid("version %d; the first policy of an archive has version 1", p.Version)
	}
	if err := checkTime("created", p.Created); err != nil {
		return err
	}
	if p.Salt.IsZero() {
		return invalid("no salt; without one, two archives could have the same id")
	}
	keys, err := p.keys()
	if err != nil {
		return err
	}
	if p.Threshold < 1 || p.Threshold > int64(len(keys)) {
		return invalid("threshold %d with %d keys", p.Threshold, len(keys))
	}
	return checkFiles(p.Files)
}

func checkFiles(files []FileRef) error {
	if len(files) > MaxFiles {
		return overLimit("%d files; at most %d", len(files), MaxFiles)
	}
	seen := map[string]bool{"policy": true, "manifests": true, "snapshots": true, StoreFolder: true}
	for _, f := range files {
		if err := checkLabel("file", f.Name); err != nil {
			return err
		}
		if seen[f.Name] {
			return invalid("file name %q is taken", f.Name)
		}
		seen[f.Name] = true
		if f.SHA256.IsZero() {
			return invalid("file %s has no digest", f.Name)
		}
	}
	return nil
}

// trustedKey is a key of a policy, parsed.
type trustedKey struct {
	name, role string
	key        PublicKey
}

func (k trustedKey) String() string { return fmt.Sprintf("%s sha256:%s", k.name, k.key.ID()) }

// keys parses the policy's keys. No two of them are the same key, so whoever
// counts keys counts key material.
func (p *Policy) keys() ([]trustedKey, error) {
	if len(p.Keys) > MaxKeys {
		return nil, overLimit("%d keys; at most %d", len(p.Keys), MaxKeys)
	}
	keys := make([]trustedKey, 0, len(p.Keys))
	exporters := 0
	for _, entry := range p.Keys {
		k, err := entry.trusted()
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", clip(entry.Name), err)
		}
		for _, other := range keys {
			if other.name == k.name {
				return nil, invalid("two keys are named %s", k.name)
			}
			if other.key == k.key {
				return nil, invalid("keys %s and %s are the same key", other.name, k.name)
			}
		}
		if k.role == Exporter {
			exporters++
		}
		keys = append(keys, k)
	}
	if exporters == 0 {
		return nil, invalid("no key has the role %s", Exporter)
	}
	return keys, nil
}

func (k PolicyKey) trusted() (trustedKey, error) {
	if err := checkLabel("name", k.Name); err != nil {
		return trustedKey{}, err
	}
	if k.Role != Exporter && k.Role != Notary {
		return trustedKey{}, invalid("role %q; %s or %s", clip(k.Role), Exporter, Notary)
	}
	key, err := k.Key()
	if err != nil {
		return trustedKey{}, err
	}
	return trustedKey{name: k.Name, role: k.Role, key: key}, nil
}

// opened returns the keys of a policy that came from [OpenPolicy].
func (p *Policy) opened() ([]trustedKey, error) {
	if p == nil || p.id.IsZero() {
		return nil, untrusted("the policy was not opened under an archive id")
	}
	return p.keys()
}

// Check reports whether documents signed by signers would meet the policy's
// threshold: enough of them, each another key, each in the policy. If not, the
// error says who is missing.
func (p *Policy) Check(signers ...Signer) error {
	if err := p.check(signers); err != nil {
		return fmt.Errorf("manifest: policy: %w", err)
	}
	return nil
}

func (p *Policy) check(signers []Signer) error {
	keys, err := p.keys()
	if err != nil {
		return err
	}
	trusted := make(map[PublicKey]bool, len(keys))
	for _, k := range keys {
		trusted[k.key] = true
	}
	have := make(map[PublicKey]bool, len(signers))
	for _, s := range signers {
		if have[s.Key()] {
			return untrusted("key sha256:%s is there twice; a key counts once", s.Key().ID())
		}
		if !trusted[s.Key()] {
			return untrusted("key sha256:%s is not in the policy", s.Key().ID())
		}
		have[s.Key()] = true
	}
	return p.enough(keys, have)
}

// threshold checks that enough of the policy's keys signed o.
func (p *Policy) threshold(keys []trustedKey, o opened) error {
	signed := make(map[PublicKey]bool, len(keys))
	for _, k := range keys {
		if o.by(k.key) {
			signed[k.key] = true
		}
	}
	return p.enough(keys, signed)
}

// enough checks the number of keys that signed, and says whose signatures there
// are and whose are missing when it is too low.
func (p *Policy) enough(keys []trustedKey, signed map[PublicKey]bool) error {
	if int64(len(signed)) >= max(p.Threshold, 1) {
		return nil
	}
	var ok, missing []string
	for _, k := range keys {
		if signed[k.key] {
			ok = append(ok, "ok "+k.String())
		} else {
			missing = append(missing, "missing "+k.String())
		}
	}
	noun := "keys"
	if len(signed) == 1 {
		noun = "key"
	}
	return untrusted("signed by %d trusted %s, %d needed; %s",
		len(signed), noun, p.Threshold, strings.Join(append(ok, missing...), "; "))
}

// exporter checks that a key with the role of exporter signed o.
func exporter(keys []trustedKey, o opened) error {
	var names []string
	for _, k := range keys {
		if k.role != Exporter {
			continue
		}
		if o.by(k.key) {
			return nil
		}
		names = append(names, k.String())
	}
	return untrusted("not signed by an exporter of the policy; exporters are %s", strings.Join(names, ", "))
}

// exported returns the payload of a document that any exporter may sign.
func (p *Policy) exported(k kind, sealed []byte) ([]byte, error) {
	keys, err := p.opened()
	if err != nil {
		return nil, err
	}
	o, err := k.open(sealed)
	if err != nil {
		return nil, err
	}
	return o.payload, exporter(keys, o)
}

// governs checks that a document belongs to the policy's archive.
func (p *Policy) governs(archive Hash) error {
	if archive != p.id {
		return untrusted("it belongs to archive %s, this is %s", archive, p.id)
	}
	return nil
}

// SealPolicy signs p with its own keys, at least as many as its threshold.
func SealPolicy(ctx context.Context, p *Policy, signers ...Signer) (sealed []byte, err error) {
	if sealed, err = sealPolicy(ctx, p, signers); err != nil {
		return nil, fmt.Errorf("manifest: policy: %w", err)
	}
	return sealed, nil
}

func sealPolicy(ctx context.Context, p *Policy, signers []Signer) ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if err := p.check(signers); err != nil {
		return nil, err
	}
	payload, err := encode(*p)
	if err != nil {
		return nil, invalid("%w", err)
	}
	return policyKind.seal(ctx, payload, signers)
}

// OpenPolicy returns the policy of the archive with that id, after checking that
// it is that policy and that enough of its own keys signed it. The caller must
// not change it.
func OpenPolicy(sealed []byte, archive Hash) (*Policy, error) {
	p, err := openPolicy(sealed, archive)
	if err != nil {
		return nil, fmt.Errorf("manifest: policy: %w", err)
	}
	return p, nil
}

func openPolicy(sealed []byte, archive Hash) (*Policy, error) {
	o, err := policyKind.open(sealed)
	if err != nil {
		return nil, err
	}
	if id := Sum(o.payload); id != archive {
		return nil, untrusted("this archive is %s, want %s: it is another one, or its policy was replaced", id, archive)
	}
	p, err := parsePolicy(o.payload)
	if err != nil {
		return nil, err
	}
	keys, err := p.keys()
	if err != nil {
		return nil, err
	}
	if err := p.threshold(keys, o); err != nil {
		return nil, err
	}
	p.id = archive
	return p, nil
}

func parsePolicy(payload []byte) (*Policy, error) {
	if err := checkFormat(payload); err != nil {
		return nil, err
	}
	p := new(Policy)
	if err := decode(payload, p); err != nil {
		return nil, invalid("%w", err)
	}
	return p, p.Validate()
}

// PolicyID returns the id of the archive whose first policy this is. It verifies
// nothing: it is for showing the id to whoever made the policy, or asking about it.
func PolicyID(sealed []byte) (Hash, error) {
	o, err := policyKind.open(sealed)
	if err != nil {
		return Hash{}, fmt.Errorf("manifest: policy: %w", err)
	}
	return Sum(o.payload), nil
}
