package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// policyVersions lists the versions of the policy that a store has objects for, up
// to the first that is left out; that is ErrMissing.
func policyVersions(ctx context.Context, store archive.Store) (newest int64, err error) {
	for object, err := range store.List(ctx, "policy/") {
		if err != nil {
			return 0, fmt.Errorf("list policies: %w", err)
		}
		version, ok := manifest.ParsePolicyName(object.Name)
		if !ok {
			continue
		}
		if newest++; version != newest {
			return newest - 1, fmt.Errorf("%s: %w, though there is %s", manifest.PolicyName(newest), ErrMissing, object.Name)
		}
	}
	return newest, nil
}

// renew reads the versions of the policy after the one the archive has. Names are
// for anyone to make up, so what is wrong with one does not make the versions before
// it worse: it is kept for [Archive.Chain] and for whoever writes.
func (a *Archive) renew(ctx context.Context) error {
	newest, hole := policyVersions(ctx, a.Store)
	if hole != nil && !errors.Is(hole, ErrMissing) {
		return hole
	}
	a.wrong = hole
	for version := a.Policy.Version + 1; version <= newest; version++ {
		err := a.next(ctx, version)
		if errors.Is(err, archive.ErrUnavailable) || errors.Is(err, archive.ErrFrozen) || ctx.Err() != nil {
			return err
		}
		if err != nil {
			a.wrong = err
			return nil
		}
	}
	return nil
}

// next goes on to a version of the policy.
func (a *Archive) next(ctx context.Context, version int64) error {
	name := manifest.PolicyName(version)
	sealed, err := archive.ReadAll(ctx, a.Store, name, manifest.MaxPolicy)
	if err != nil {
		return missing(name, err)
	}
	policy, err := manifest.OpenNextPolicy(sealed, a.Policy)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a.Policy, a.sealed = policy, append(a.sealed, sealed)
	return nil
}

// own returns the archive for one who looks for newer versions of its policy while
// others use it.
func (a *Archive) own() *Archive {
	own := *a
	own.sealed = slices.Clip(own.sealed)
	return &own
}

// renewed is renew for whoever writes: nobody may by a version that has been replaced,
// so a policy that is not whole is an error.
func (a *Archive) renewed(ctx context.Context) error {
	err := a.renew(ctx)
	if err = cmp.Or(err, a.wrong); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// InForce returns the version of the policy by which the next snapshot is signed, and
// the number of that snapshot. Versions that were added since the archive was opened
// count. A policy that is not whole, or a hole in the chain, is an error.
func (a *Archive) InForce(ctx context.Context) (*manifest.Policy, int64, error) {
	if err := a.renewed(ctx); err != nil {
		return nil, 0, err
	}
	newest, err := a.newest(ctx)
	if err != nil {
		return nil, 0, err
	}
	return a.Policy.At(newest + 1), newest + 1, nil
}

// ApplyPolicy makes the version of the policy in sealed the next of the archive, if
// it is signed as the newest version asks and as it asks itself, and is from a number
// on that no snapshot has: else it is manifest.ErrUntrusted, or ErrWish. The object is
// locked as the archive's own are. One that is there already is fs.ErrExist, unless it
// is the same.
//
// An export that commits in the same moment under the version before would be refused
// from then on, so ApplyPolicy ends with reading the chain; no export should be under
// way.
func (a *Archive) ApplyPolicy(ctx context.Context, sealed []byte, now time.Time) error {
	if err := a.apply(ctx, sealed, now); err != nil {
		return fmt.Errorf("snapshot: policy: %w", err)
	}
	_, err := a.Chain(ctx)
	return err
}

func (a *Archive) apply(ctx context.Context, sealed []byte, now time.Time) error {
	draft, err := manifest.ReadDraft(sealed)
	if err != nil {
		return err
	}
	_, seq, err := a.InForce(ctx)
	if err != nil {
		return err
	}
	if draft.Digest == a.Policy.Digest() {
		return nil
	}
	if draft.Policy.Version <= a.Policy.Version {
		return fmt.Errorf("there is a version %d already, and this is another one: %w", draft.Policy.Version, fs.ErrExist)
	}
	next, err := manifest.OpenNextPolicy(sealed, a.Policy)
	if err != nil {
		return err
	}
	if next.From < seq {
		return fmt.Errorf("version %d is to be in force from snapshot %d on, and there are %d: %w", next.Version, next.From, seq-1, ErrWish)
	}
	if err := a.putOwn(ctx, manifest.PolicyName(next.Version), sealed, now); err != nil {
		return err
	}
	a.Policy, a.sealed = next, append(a.sealed, sealed)
	return nil
}

// putOwn is put for objects of the archive that belong to no snapshot: they are locked
// as long as the archive was made to lock its objects.
func (a *Archive) putOwn(ctx context.Context, name string, data []byte, now time.Time) error {
	opts := archive.PutOptions{}
	if _, ok := a.Store.(archive.Locker); ok {
		settings, err := a.Settings(ctx)
		if err != nil {
			return err
		}
		opts.Lock = signedTerm(settings).lock(now)
	}
	if _, err := putWith(ctx, a.Store, name, data, opts); err != nil {
		return err
	}
	return locked(ctx, a.Store, name, opts.Lock)
}
