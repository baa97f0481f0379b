package manifest

import (
	"context"
	"fmt"
)

// SealPlan validates pl and signs it.
func SealPlan(ctx context.Context, pl *Plan, s Signer) ([]byte, error) {
	payload, err := pl.payload()
	if err != nil {
		return nil, fmt.Errorf("manifest: plan: %w", err)
	}
	sealed, err := planKind.seal(ctx, payload, []Signer{s})
	if err != nil {
		return nil, fmt.Errorf("manifest: plan: %w", err)
	}
	return sealed, nil
}

func (pl *Plan) payload() ([]byte, error) {
	if err := pl.Validate(); err != nil {
		return nil, err
	}
	payload, err := encode(*pl)
	if err != nil {
		return nil, invalid("%w", err)
	}
	return payload, nil
}

// OpenPlan returns the plan in sealed: one that an exporter of p signed, that
// belongs to p's archive, and that keeps every rule.
func OpenPlan(sealed []byte, p *Policy) (*Plan, error) {
	pl, err := openPlan(sealed, p)
	if err != nil {
		return nil, fmt.Errorf("manifest: plan: %w", err)
	}
	return pl, nil
}

func openPlan(sealed []byte, p *Policy) (*Plan, error) {
	payload, err := p.exported(planKind, sealed)
	if err != nil {
		return nil, err
	}
	pl, err := parsePlan(payload)
	if err != nil {
		return nil, err
	}
	return pl, p.governs(pl.Archive)
}

func parsePlan(payload []byte) (*Plan, error) {
	pl := new(Plan)
	if err := parse(payload, pl); err != nil {
		return nil, err
	}
	return pl, pl.Validate()
}
