package manifest

import "fmt"

// Chain checks the manifests of an archive, one after another from some seq to
// the newest, against each other and against what was seen earlier.
type Chain struct {
	trust  Trust
	policy *Policy
	next   int64 // seq of the next manifest
	prev   Hash  // digest of the one before; zero: not known
}

// NewChain begins a check of the archive p governs, the newest version of its
// policy, at manifest from. That is 1,
// or any other up to the newest one seen, which anchors what lies before it.
func NewChain(t Trust, p *Policy, from int64) (*Chain, error) {
	if err := t.validate(); err != nil {
		return nil, fmt.Errorf("manifest: trust: %w", err)
	}
	if _, err := p.opened(); err != nil {
		return nil, fmt.Errorf("manifest: policy: %w", err)
	}
	if err := p.governs(t.Archive); err != nil {
		return nil, fmt.Errorf("manifest: trust: %w", err)
	}
	if err := t.CheckPolicy(p); err != nil {
		return nil, err
	}
	if from < 1 || from > max(t.Seq, 1) {
		return nil, fmt.Errorf("manifest: chain: %w", invalid("cannot begin at %d; want 1 to %d", from, max(t.Seq, 1)))
	}
	return &Chain{trust: t, policy: p, next: from}, nil
}

// Judged is a manifest that was opened, and has no place in a chain yet.
type Judged struct {
	Manifest *Manifest
	Digest   Hash  // of its object
	Size     int64 // of its object, bytes

	by []trustedKey // who signed it, of those that count
}

// SignedBy returns the names of the keys that count for the manifest and signed it:
// those with that role, or all for "".
func (j *Judged) SignedBy(role string) []string {
	var names []string
	for _, k := range j.by {
		if role == "" || k.role == role {
			names = append(names, k.name)
		}
	}
	return names
}

// Judge opens a manifest, and does not look at its place. It is most of the work, and
// may be called for many at once. One that trusted keys signed and that names a
// version of the policy which is not there is ErrRollback: the version is hidden.
func (c *Chain) Judge(sealed []byte) (*Judged, error) {
	m, by, known, err := judge(sealed, c.policy)
	if err == nil && !known {
		err = rollback("manifest %d was made under policy %s, which is none of the %d there are: a newer version is hidden or deleted",
			m.Seq, m.Policy, c.policy.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return &Judged{Manifest: m, Digest: Sum(sealed), Size: int64(len(sealed)), by: by}, nil
}

// Link checks the place of the next manifest: its number, that it names the one
// before, and, where it is the newest one seen earlier, that it is the same. After an
// error the Chain is of no more use.
func (c *Chain) Link(j *Judged) error {
	if err := c.link(j.Manifest, j.Digest); err != nil {
		return fmt.Errorf("manifest: chain: %w", err)
	}
	return nil
}

// Add is Judge and Link.
func (c *Chain) Add(sealed []byte) (*Manifest, error) {
	j, err := c.Judge(sealed)
	if err != nil {
		return nil, err
	}
	return j.Manifest, c.Link(j)
}

func (c *Chain) link(m *Manifest, digest Hash) error {
	if m.Seq != c.next {
		return rollback("%s holds manifest %d", ManifestName(c.next), m.Seq)
	}
	if !c.prev.IsZero() && m.Prev != c.prev {
		return rollback("manifest %d follows %s, but manifest %d is %s", m.Seq, m.Prev, m.Seq-1, c.prev)
	}
	if m.Seq == c.trust.Seq && digest != c.trust.Head {
		return rollback("manifest %d is %s, but %s was seen earlier: the archive has been forked", m.Seq, digest, c.trust.Head)
	}
	c.next, c.prev = m.Seq+1, digest
	return nil
}

// Finish is called after the newest manifest. It checks that the archive does not
// end before what was seen earlier, and returns what has been seen now.
func (c *Chain) Finish() (Trust, error) {
	newest := c.next - 1
	if newest < c.trust.Seq {
		return Trust{}, fmt.Errorf("manifest: chain: %w", rollback(
			"the archive ends at manifest %d, but %d was seen earlier: something is hidden or deleted", newest, c.trust.Seq))
	}
	if c.prev.IsZero() {
		return c.trust.WithPolicy(c.policy), nil
	}
	return Trust{Archive: c.trust.Archive, Seq: newest, Head: c.prev}.WithPolicy(c.policy), nil
}
