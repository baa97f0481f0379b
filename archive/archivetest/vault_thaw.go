package archivetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// tiers are the speeds of a Vault, which all take its ThawTime.
var tiers = []string{"Expedited", "Standard", "Bulk"}

// Tiers names the speeds.
func (v *Vault) Tiers() []string {
	if v.NoTiers {
		return nil
	}
	return slices.Clone(tiers)
}

// Thaw asks for a copy of a frozen object. For one in [ClassStandard], and for a
// tier there is not, its error wraps [errors.ErrUnsupported].
func (v *Vault) Thaw(ctx context.Context, name string, days int, tier string) error {
	if err := v.thaw(ctx, name, days, tier); err != nil {
		return fmt.Errorf("vault: thaw %.600s: %w", name, err)
	}
	return nil
}

func (v *Vault) thaw(ctx context.Context, name string, days int, tier string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	found, err := v.find(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case !found.archived:
		return fmt.Errorf("is in class %s: %w", ClassStandard, errors.ErrUnsupported)
	case tier != "" && !slices.Contains(tiers, tier):
		return fmt.Errorf("no tier %q: %w", tier, errors.ErrUnsupported)
	case days < 1:
		return fmt.Errorf("for %d days: %w", days, errors.ErrUnsupported)
	}
	now := v.now()
	switch {
	case v.frozen(found) && !now.Before(found.thawed):
		found.thawed = now.Add(v.ThawTime)
		found.freezes = found.thawed.AddDate(0, 0, days)
	case !v.frozen(found):
		found.freezes = now.AddDate(0, 0, days)
	}
	return nil
}

// frozen reports whether a version cannot be read now.
func (v *Vault) frozen(one *version) bool {
	now := v.now()
	return one.archived && (one.thawed.IsZero() || now.Before(one.thawed) || !now.Before(one.freezes))
}
