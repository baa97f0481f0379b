package manifest

import (
	"fmt"
	"strconv"
	"strings"
)

// Trust is what a reader holds of an archive, kept where who writes the archive
// cannot change it. It is what makes a hidden snapshot show.
type Trust struct {
	Archive Hash  // the archive's id
	Seq     int64 // the newest manifest seen; 0: none yet
	Head    Hash  // digest of that manifest's object; zero with Seq 0
	Version int64 // the newest version of the policy seen; 0: none after the first
	Policy  Hash  // [Policy.Digest] of that version; zero with Version 0
}

const trustHeader = `# What a reader trusts of an otsnap archive. It holds no secret: keep it under
# version control. archive is the digest of the archive's first policy; seq and
# head are the number and the digest of the newest manifest seen.
`

// WithPolicy returns t for who has seen p as the newest version of the policy.
func (t Trust) WithPolicy(p *Policy) Trust {
	if p.Version > 1 {
		t.Version, t.Policy = p.Version, p.digest
	}
	return t
}

// CheckPolicy checks p, the newest version of the archive's policy there is, against
// the version seen earlier. An older one, or another one, is ErrRollback.
func (t Trust) CheckPolicy(p *Policy) error {
	if t.Version == 0 {
		return nil
	}
	if p.Version < t.Version {
		return fmt.Errorf("manifest: policy: %w", rollback("the newest version is %d, but %d was seen earlier: a newer one is hidden or deleted", p.Version, t.Version))
	}
	for _, v := range p.Versions() {
		if v.Version == t.Version && v.digest != t.Policy {
			return fmt.Errorf("manifest: policy: %w", rollback("version %d is %s, but %s was seen earlier: the policy has been forked", v.Version, v.digest, t.Policy))
		}
	}
	return nil
}

// Format returns t as the text of a trust file.
func (t Trust) Format() []byte {
	text := fmt.Appendf(nil, "%sarchive %s\nseq %d\nhead %s\n", trustHeader, t.Archive, t.Seq, t.Head)
	if t.Version != 0 {
		text = fmt.Appendf(text, "policy %d %s\n", t.Version, t.Policy)
	}
	return text
}

// ParseTrust reads a trust file: a line each for archive, seq and head, and one for
// the policy if a later version was seen, in this order, among empty lines and lines
// that begin with #.
func ParseTrust(text []byte) (Trust, error) {
	t, err := parseTrust(text)
	if err != nil {
		return Trust{}, fmt.Errorf("manifest: trust file: %w", err)
	}
	return t, nil
}

func parseTrust(text []byte) (Trust, error) {
	if len(text) > MaxTrust {
		return Trust{}, overLimit("%d bytes; at most %d", len(text), MaxTrust)
	}
	var t Trust
	wants := []trustLine{
		{"archive", func(s string) error { return t.Archive.UnmarshalText([]byte(s)) }},
		{"seq", func(s string) (err error) { t.Seq, err = parseSeq(s); return err }},
		{"head", func(s string) error { return t.Head.UnmarshalText([]byte(s)) }},
		{"policy", t.setPolicy},
	}
	for n, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if len(wants) == 0 {
			return Trust{}, invalid("line %d: nothing may follow policy", n+1)
		}
		value, ok := strings.CutPrefix(line, wants[0].name+" ")
		if !ok {
			return Trust{}, invalid("line %d: %q; want %s and a value", n+1, clip(line), wants[0].name)
		}
		if err := wants[0].set(value); err != nil {
			return Trust{}, invalid("line %d: %w", n+1, err)
		}
		wants = wants[1:]
	}
	if len(wants) > 1 {
		return Trust{}, invalid("no line for %s", wants[0].name)
	}
	return t, t.validate()
}

// trustLine is a line of a trust file: its name, and what takes its value.
type trustLine struct {
	name string
	set  func(string) error
}

func (t *Trust) setPolicy(value string) (err error) {
	version, digest, _ := strings.Cut(value, " ")
	if t.Version, err = parseSeq(version); err != nil {
		return err
	}
	if t.Version < 2 || t.Version > MaxPolicies {
		return invalid("version %d of the policy", t.Version)
	}
	return t.Policy.UnmarshalText([]byte(digest))
}

func parseSeq(s string) (int64, error) {
	seq, err := parseNumber(s, MaxSeq)
	if err == nil && strconv.FormatInt(seq, 10) != s {
		return 0, invalid("number %q", s)
	}
	return seq, err
}

func (t Trust) validate() error {
	if t.Archive.IsZero() {
		return invalid("archive is zero")
	}
	if t.Seq < 0 || t.Seq > MaxSeq || (t.Seq == 0) != t.Head.IsZero() {
		return invalid("seq %d with head %s", t.Seq, t.Head)
	}
	if t.Version != 0 && t.Version < 2 || t.Version > MaxPolicies || (t.Version == 0) != t.Policy.IsZero() {
		return invalid("version %d of the policy with digest %s", t.Version, t.Policy)
	}
	return nil
}
