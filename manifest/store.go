package manifest

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The states of a [Capability].
const (
	Supported = "supported"
	Absent    = "absent"
	Unknown   = "unknown"
)

// SealStore validates st and signs it. Whether the signatures meet the policy's
// threshold is the business of [Policy.Check].
func SealStore(ctx context.Context, st *Store, signers ...Signer) ([]byte, error) {
	payload, err := st.payload()
	if err != nil {
		return nil, fmt.Errorf("manifest: store: %w", err)
	}
	sealed, err := storeKind.seal(ctx, payload, signers)
	if err != nil {
		return nil, fmt.Errorf("manifest: store: %w", err)
	}
	return sealed, nil
}

func (st *Store) payload() ([]byte, error) {
	if err := st.Validate(); err != nil {
		return nil, err
	}
	payload, err := encode(*st)
	if err != nil {
		return nil, invalid("%w", err)
	}
	return payload, nil
}

// OpenStore returns the report of a store in sealed: one that as many keys of the
// first version of p signed as that asks for, because the report is as old as the
// archive; that belongs to p's archive, and that keeps every rule.
func OpenStore(sealed []byte, p *Policy) (*Store, error) {
	st, err := openStore(sealed, p)
	if err != nil {
		return nil, fmt.Errorf("manifest: store: %w", err)
	}
	return st, nil
}

func openStore(sealed []byte, p *Policy) (*Store, error) {
	if _, err := p.opened(); err != nil {
		return nil, err
	}
	o, err := storeKind.open(sealed)
	if err != nil {
		return nil, err
	}
	first := p.genesis()
	if err := first.ballot(first.parsed, 1, true).decide(o); err != nil {
		return nil, err
	}
	st, err := parseStore(o.payload)
	if err != nil {
		return nil, err
	}
	return st, p.governs(st.Archive)
}

func parseStore(payload []byte) (*Store, error) {
	st := new(Store)
	if err := parse(payload, st); err != nil {
		return nil, err
	}
	return st, st.Validate()
}

// Validate checks every rule a report of a store must keep.
func (st *Store) Validate() error {
	if err := checkFormatNumber(st.Format); err != nil {
		return err
	}
	if st.Archive.IsZero() {
		return invalid("archive is zero")
	}
	if err := checkTime("created", st.Created); err != nil {
		return err
	}
	if err := checkLabel("kind", st.Kind); err != nil {
		return err
	}
	if err := checkCapabilities(st.Capabilities); err != nil {
		return err
	}
	return st.Retention.validate()
}

func checkCapabilities(capabilities []Capability) error {
	if len(capabilities) > MaxCapabilities {
		return overLimit("%d capabilities; at most %d", len(capabilities), MaxCapabilities)
	}
	seen := make(map[string]bool, len(capabilities))
	for _, c := range capabilities {
		if err := c.validate(); err != nil {
			return fmt.Errorf("capability %q: %w", clip(c.Name), err)
		}
		if seen[c.Name] {
			return invalid("capability %q is there twice", c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}

func (c Capability) validate() error {
	if len(c.Name) == 0 || len(c.Name) > MaxLabel {
		return invalid("name of %d bytes, want 1 to %d", len(c.Name), MaxLabel)
	}
	if !utf8.ValidString(c.Name) || strings.ContainsFunc(c.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return invalid("name that does not print")
	}
	if c.State != Supported && c.State != Absent && c.State != Unknown {
		return invalid("state %q; %s, %s or %s", clip(c.State), Supported, Absent, Unknown)
	}
	return checkPrintable("detail", c.Detail)
}

func (r StoreRetention) validate() error {
	if r.Years < 0 || r.Years > MaxRetainYears || r.Days < 0 || r.Days > MaxRetainDays {
		return invalid("retention of %d years and %d days; at most %d and %d", r.Years, r.Days, MaxRetainYears, MaxRetainDays)
	}
	switch r.Mode {
	case NoRetention, Governance, Compliance:
	default:
		return invalid("retention mode %q", clip(r.Mode))
	}
	if (r.Mode == NoRetention) != (r.Years == 0 && r.Days == 0) {
		return invalid("retention %s of %d years and %d days", r.Mode, r.Years, r.Days)
	}
	return nil
}
