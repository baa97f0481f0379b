package manifest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The roles of keys.
const (
	Exporter = "exporter" // signs plans, pages and manifests
	Notary   = "notary"   // signs manifests, after a look of its own
	Officer  = "officer"  // signs policies and reports of stores, and no snapshots
)

// Policy says who may sign in an archive. The digest of the first policy's payload
// is the archive's id, so the policy is beyond doubt for whoever holds the id; each
// later version is signed by the keys of the one before and by its own.
type Policy struct {
	Format    int64         `json:"format"`
	Version   int64         `json:"version"`       // 1 for the first
	Prev      Hash          `json:"prev,omitzero"` // [Policy.Digest] of the version before; zero for the first
	From      int64         `json:"from,omitzero"` // number of the first manifest it is for; 0 for the first version: 1
	Created   Time          `json:"created"`
	Salt      Hash          `json:"salt"`      // random, so that no two archives have one id
	Threshold int64         `json:"threshold"` // how many of the keys must sign a manifest
	Keys      []PolicyKey   `json:"keys"`
	Groups    []PolicyGroup `json:"groups,omitzero"`
	Files     []FileRef     `json:"files"`

	// Set where a policy is opened.
	id      Hash // of the archive
	digest  Hash
	parsed  []trustedKey
	before  *Policy             // the version before; nil for the first
	revoked map[PublicKey]int64 // by this version and all before it: the first manifest a key counts for no more
	at      int64               // the manifest asked about, see At; 0: none in particular
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
	Role      string `json:"role"` // [Exporter], [Notary] or [Officer]
	Algorithm string `json:"algorithm"`
	SPKI      string `json:"spki"`             // SubjectPublicKeyInfo in DER, in base64
	Group     string `json:"group,omitzero"`   // one of the policy's; empty: none
	From      int64  `json:"from,omitzero"`    // number of the first manifest it counts for; 0: of any
	Revoked   int64  `json:"revoked,omitzero"` // number of the first manifest it counts for no more; 0: none
}

// PolicyGroup asks for signatures by keys of a kind, beside the policy's threshold.
type PolicyGroup struct {
	Name      string `json:"name"`
	Threshold int64  `json:"threshold"`
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
// was not opened.
func (p *Policy) ID() Hash { return p.id }

// Digest returns the SHA-256 of the policy's payload, by which manifests name it,
// and zero for a policy that was not opened. That of the first version is its ID.
func (p *Policy) Digest() Hash { return p.digest }

// Validate checks every rule a policy must keep, but for those about the version
// before it.
func (p *Policy) Validate() error {
	if err := checkFormatNumber(p.Format); err != nil {
		return err
	}
	if err := p.checkVersion(); err != nil {
		return err
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
	if err := p.checkThresholds(keys); err != nil {
		return err
	}
	return checkFiles(p.Files)
}

func (p *Policy) checkVersion() error {
	switch {
	case p.Version < 1:
		return invalid("version %d", p.Version)
	case p.Version > MaxPolicies:
		return overLimit("version %d; at most %d", p.Version, MaxPolicies)
	case p.Version == 1 && (!p.Prev.IsZero() || p.From != 0):
		return invalid("version 1 is the first policy of an archive, and from manifest 1 on")
	case p.Version > 1 && p.Prev.IsZero():
		return invalid("version %d names no policy before it", p.Version)
	case p.Version > 1 && (p.From < 1 || p.From > MaxSeq):
		return invalid("version %d is from manifest %d on", p.Version, p.From)
	}
	return nil
}

// checkThresholds makes sure that the keys there are from the policy's first
// manifest on can sign one.
func (p *Policy) checkThresholds(keys []trustedKey) error {
	b := p.ballot(keys, p.first(), false)
	if !slices.ContainsFunc(b.keys, func(k trustedKey) bool { return k.role == Exporter }) {
		return invalid("no key has the role %s from manifest %d on", Exporter, p.first())
	}
	if p.Threshold < 1 || p.Threshold > int64(len(b.keys)) {
		return invalid("threshold %d with %d keys that sign manifest %d", p.Threshold, len(b.keys), p.first())
	}
	if len(p.Groups) > MaxKeys {
		return overLimit("%d groups; at most %d", len(p.Groups), MaxKeys)
	}
	seen := map[string]bool{}
	for _, g := range p.Groups {
		if err := checkLabel("group", g.Name); err != nil {
			return err
		}
		if seen[g.Name] {
			return invalid("two groups are named %s", g.Name)
		}
		seen[g.Name] = true
		if err := g.check(keys, p.first()); err != nil {
			return err
		}
	}
	for _, k := range keys {
		if k.group != "" && !seen[k.group] {
			return invalid("key %s is of group %s, and there is none", k.name, k.group)
		}
	}
	return nil
}

// check makes sure that the group's keys are enough, and that it is clear which
// documents it is asked about: those that officers sign, or all.
func (g PolicyGroup) check(keys []trustedKey, seq int64) error {
	var size, officers, all int64
	for _, k := range keys {
		if k.group != g.Name {
			continue
		}
		all++
		if k.role == Officer {
			officers++
		}
		if k.counts(seq) {
			size++
		}
	}
	if officers != 0 && officers != all {
		return invalid("group %s has officers and others", g.Name)
	}
	if g.Threshold < 1 || g.Threshold > size {
		return invalid("group %s: threshold %d with %d keys", g.Name, g.Threshold, size)
	}
	return nil
}

// folders are the names at the top of an archive that a policy's files cannot have.
// No program ever named a file so.
var folders = []string{
	"policy", "manifests", "snapshots", StoreFolder, TimestampFolder, NotarizationFolder, ReceiptFolder, HeadFolder, "restores",
}

func checkFiles(files []FileRef) error {
	if len(files) > MaxFiles {
		return overLimit("%d files; at most %d", len(files), MaxFiles)
	}
	seen := map[string]bool{}
	for _, folder := range folders {
		seen[folder] = true
	}
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
	name, role, group string
	from, revoked     int64
	key               PublicKey
}

func (k trustedKey) String() string { return fmt.Sprintf("%s sha256:%s", k.name, k.key.ID()) }

// counts reports whether the policy lets the key sign for manifest seq; 0 is no
// manifest in particular.
func (k trustedKey) counts(seq int64) bool {
	return seq == 0 || k.from <= seq && (k.revoked == 0 || seq < k.revoked)
}

// keys parses the policy's keys. No two of them are the same key, so whoever
// counts keys counts key material.
func (p *Policy) keys() ([]trustedKey, error) {
	if len(p.Keys) > MaxKeys {
		return nil, overLimit("%d keys; at most %d", len(p.Keys), MaxKeys)
	}
	keys := make([]trustedKey, 0, len(p.Keys))
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
		keys = append(keys, k)
	}
	return keys, nil
}

func (k PolicyKey) trusted() (trustedKey, error) {
	if err := checkLabel("name", k.Name); err != nil {
		return trustedKey{}, err
	}
	if k.Role != Exporter && k.Role != Notary && k.Role != Officer {
		return trustedKey{}, invalid("role %q; %s, %s or %s", clip(k.Role), Exporter, Notary, Officer)
	}
	if k.Group != "" {
		if err := checkLabel("group", k.Group); err != nil {
			return trustedKey{}, err
		}
	}
	if k.From < 0 || k.From == 1 || k.From > MaxSeq || k.Revoked < 0 || k.Revoked > MaxSeq {
		return trustedKey{}, invalid("from manifest %d on, revoked from %d on", k.From, k.Revoked)
	}
	if k.Revoked != 0 && k.Revoked <= k.From {
		return trustedKey{}, invalid("revoked from manifest %d on, before it counts, from %d on", k.Revoked, k.From)
	}
	key, err := k.Key()
	if err != nil {
		return trustedKey{}, err
	}
	return trustedKey{k.Name, k.Role, k.Group, k.From, k.Revoked, key}, nil
}

// opened returns the keys of a policy that was opened under an archive's id.
func (p *Policy) opened() ([]trustedKey, error) {
	if p == nil || p.id.IsZero() {
		return nil, untrusted("the policy was not opened under an archive id")
	}
	return p.parsed, nil
}

// ballot is whose signatures of a document count, and how many are needed.
type ballot struct {
	need   int64
	groups []PolicyGroup
	keys   []trustedKey
	void   []trustedKey // of the policy, but not for this manifest
}

// ballot is the one for manifest seq, or 0 for none in particular. Officers sign
// policies and reports of stores, but no manifests.
func (p *Policy) ballot(keys []trustedKey, seq int64, officers bool) ballot {
	b := ballot{need: max(p.Threshold, 1)}
	asked := map[string]bool{}
	for _, k := range keys {
		if k.role == Officer && !officers {
			continue
		}
		asked[k.group] = true
		if until, ok := p.revoked[k.key]; ok && (k.revoked == 0 || until < k.revoked) {
			k.revoked = until
		}
		if k.counts(seq) {
			b.keys = append(b.keys, k)
		} else {
			b.void = append(b.void, k)
		}
	}
	for _, g := range p.Groups {
		if asked[g.Name] {
			b.groups = append(b.groups, g)
		}
	}
	return b
}

// Check reports whether manifests signed by signers would meet the policy's
// thresholds: enough of them, each another key, each in the policy, and not revoked
// for the manifest [Policy.At] was asked about. If not, the error says who is
// missing.
func (p *Policy) Check(signers ...Signer) error {
	if err := p.check(signers, p.at, false); err != nil {
		return fmt.Errorf("manifest: policy: %w", err)
	}
	return nil
}

func (p *Policy) check(signers []Signer, seq int64, officers bool) error {
	keys, err := p.keys()
	if err != nil {
		return err
	}
	b := p.ballot(keys, seq, officers)
	have := make(map[PublicKey]bool, len(signers))
	for _, s := range signers {
		if have[s.Key()] {
			return untrusted("key sha256:%s is there twice; a key counts once", s.Key().ID())
		}
		if err := b.has(s.Key(), seq); err != nil {
			return err
		}
		have[s.Key()] = true
	}
	return b.enough(have)
}

// has reports why a key's signature would not count.
func (b ballot) has(key PublicKey, seq int64) error {
	is := func(k trustedKey) bool { return k.key == key }
	if slices.ContainsFunc(b.keys, is) {
		return nil
	}
	if i := slices.IndexFunc(b.void, is); i >= 0 {
		return untrusted("key %s does not count for manifest %d: %s", b.void[i], seq, b.void[i].window())
	}
	return untrusted("key sha256:%s is not in the policy", key.ID())
}

// window says for which manifests a key counts.
func (k trustedKey) window() string {
	switch {
	case k.revoked == 0:
		return fmt.Sprintf("it counts from %d on", k.from)
	case k.from == 0:
		return fmt.Sprintf("it is revoked from %d on", k.revoked)
	}
	return fmt.Sprintf("it counts from %d on, and is revoked from %d on", k.from, k.revoked)
}

// decide checks that enough keys signed o.
func (b ballot) decide(o opened) error { return b.enough(b.signed(o)) }

// signed returns which of the keys signed o.
func (b ballot) signed(o opened) map[PublicKey]bool {
	signed := make(map[PublicKey]bool, len(b.keys))
	for _, k := range slices.Concat(b.keys, b.void) {
		if o.by(k.key) {
			signed[k.key] = true
		}
	}
	return signed
}

// enough checks the number of keys that signed, and says whose signatures there
// are and whose are missing when it is too low.
func (b ballot) enough(signed map[PublicKey]bool) error {
	var n int64
	var ok, missing []string
	groups := map[string]int64{}
	for _, k := range b.keys {
		if signed[k.key] {
			n++
			groups[k.group]++
			ok = append(ok, "ok "+k.String())
		} else {
			missing = append(missing, "missing "+k.String())
		}
	}
	var short []string
	for _, g := range b.groups {
		if groups[g.Name] < g.Threshold {
			short = append(short, fmt.Sprintf("; %d of group %s, %d needed", groups[g.Name], g.Name, g.Threshold))
		}
	}
	if n >= b.need && len(short) == 0 {
		return nil
	}
	for _, k := range b.void {
		if signed[k.key] {
			missing = append(missing, "void "+k.String()+", "+k.window())
		}
	}
	noun := "keys"
	if n == 1 {
		noun = "key"
	}
	return untrusted("signed by %d trusted %s, %d needed%s; %s",
		n, noun, b.need, strings.Join(short, ""), strings.Join(append(ok, missing...), "; "))
}

// exporter checks that a key with the role of exporter signed o. What counts is
// the policy alone: a key that a later one revoked was good when it signed, and
// what it signed then is named by a manifest that others signed too.
func (p *Policy) exporter(keys []trustedKey, o opened) error {
	var names []string
	for _, k := range keys {
		if k.role != Exporter || !k.counts(p.at) {
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
	return o.payload, p.exporter(keys, o)
}

// governs checks that a document belongs to the policy's archive.
func (p *Policy) governs(archive Hash) error {
	if archive != p.id {
		return untrusted("it belongs to archive %s, this is %s", archive, p.id)
	}
	return nil
}

// SealPolicy signs the first policy of an archive with its own keys, at least as
// many as its threshold.
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
	if err := p.check(signers, p.first(), true); err != nil {
		return nil, err
	}
	payload, err := encode(*p)
	if err != nil {
		return nil, invalid("%w", err)
	}
	return policyKind.seal(ctx, payload, signers)
}

// OpenPolicy returns the first policy of the archive with that id, after checking
// that it is that policy and that enough of its own keys signed it. The caller must
// not change it. [OpenNextPolicy] opens the versions after it.
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
	if p.Version != 1 {
		return nil, invalid("version %d; the first policy of an archive has version 1", p.Version)
	}
	return p, p.adopt(o, archive, nil)
}

// adopt makes p, which is in o, the policy after before, if enough of its own keys
// signed it.
func (p *Policy) adopt(o opened, archive Hash, before *Policy) (err error) {
	if p.parsed, err = p.keys(); err != nil {
		return err
	}
	p.revoked = map[PublicKey]int64{}
	if before != nil {
		maps.Copy(p.revoked, before.revoked)
	}
	for _, k := range p.parsed {
		if k.revoked != 0 {
			p.revoked[k.key] = k.revoked // not later than before it, see follows
		}
	}
	if err := p.ballot(p.parsed, p.first(), true).decide(o); err != nil {
		return err
	}
	p.id, p.digest, p.before = archive, Sum(o.payload), before
	return nil
}

func parsePolicy(payload []byte) (*Policy, error) {
	p := new(Policy)
	if err := parse(payload, p); err != nil {
		return nil, err
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
