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
}

const trustHeader = `# What a reader trusts of an otsnap archive. It holds no secret: keep it under
# version control. archive is the digest of the archive's first policy; seq and
# head are the number and the digest of the newest manifest seen.
`

// Format returns t as the text of a trust file.
func (t Trust) Format() []byte {
	return fmt.Appendf(nil, "%sarchive %s\nseq %d\nhead %s\n", trustHeader, t.Archive, t.Seq, t.Head)
}

// ParseTrust reads a trust file: a line each for archive, seq and head in this
// order, among empty lines and lines that begin with #.
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
	wants := []struct {
		name string
		set  func(string) error
	}{
		{"archive", func(s string) error { return t.Archive.UnmarshalText([]byte(s)) }},
		{"seq", func(s string) (err error) { t.Seq, err = parseSeq(s); return err }},
		{"head", func(s string) error { return t.Head.UnmarshalText([]byte(s)) }},
	}
	for n, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if len(wants) == 0 {
			return Trust{}, invalid("line %d: nothing may follow head", n+1)
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
	if len(wants) > 0 {
		return Trust{}, invalid("no line for %s", wants[0].name)
	}
	return t, t.validate()
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
	return nil
}
