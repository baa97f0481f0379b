package archivetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/otsnap/otsnap/archive"
)

// noLocks says why objects cannot be locked; nil if they can.
func (v *Vault) noLocks() error {
	switch {
	case v.NoVersions:
		return fmt.Errorf("no locks in a bucket without versions: %w", errors.ErrUnsupported)
	case v.NoLocks:
		return fmt.Errorf("no locks in this bucket: %w", errors.ErrUnsupported)
	}
	return nil
}

// lockOf returns the lock of an object put now that asks for one.
func (v *Vault) lockOf(asked archive.Lock) (archive.Lock, error) {
	if asked != (archive.Lock{}) {
		if err := errors.Join(v.noLocks(), v.checkLock(asked)); err != nil {
			return archive.Lock{}, err
		}
	}
	if v.DropLocks || v.noLocks() != nil {
		return archive.Lock{}, nil
	}
	if asked.Mode == archive.Unlocked && v.Default != archive.Unlocked {
		asked.Mode, asked.Until = v.Default, v.DefaultPeriod.After(v.now())
	}
	return inSeconds(asked), nil
}

// checkLock refuses what services refuse.
func (v *Vault) checkLock(asked archive.Lock) error {
	switch asked.Mode {
	case archive.Unlocked:
		return nil
	case archive.Governance, archive.Compliance:
	default:
		return fmt.Errorf("no lock mode %q: %w", asked.Mode, errors.ErrUnsupported)
	}
	if !asked.Until.After(v.now()) {
		return fmt.Errorf("a lock until %s, which is past: %w", asked.Until.Format(time.RFC3339), errors.ErrUnsupported)
	}
	return nil
}

// inSeconds is what a service keeps of a lock.
func inSeconds(l archive.Lock) archive.Lock {
	if l.Mode == archive.Unlocked {
		l.Until = time.Time{}
	}
	l.Until = l.Until.UTC().Truncate(time.Second)
	return l
}

// retained reports whether a version may not be removed. Markers never are.
func (v *Vault) retained(one *version) bool {
	now := v.now()
	switch {
	case one.marker:
		return false
	case one.lock.Hold, one.lock.Mode != archive.Unlocked && now.Before(one.lock.Until):
		return true
	}
	b := v.bucketLock()
	return b.State != archive.BucketUnlocked && !b.Expired && now.Before(one.modified.AddDate(0, 0, b.Days))
}

// DefaultLock returns the bucket's lock of objects put without one.
func (v *Vault) DefaultLock(ctx context.Context) (archive.Mode, archive.Period, error) {
	err := ctx.Err()
	if err == nil {
		err = v.noLocks()
	}
	if err != nil {
		return archive.Unlocked, archive.Period{}, fmt.Errorf("vault: default lock: %w", err)
	}
	return v.Default, v.DefaultPeriod, nil
}

// Lock makes sure that an object is locked at least as asked and as it is.
func (v *Vault) Lock(ctx context.Context, name string, asked archive.Lock) error {
	err := v.relock(ctx, name, func(had archive.Lock) (archive.Lock, error) {
		asked.Hold = had.Hold
		if had.Covers(asked) {
			return had, nil
		}
		if err := v.checkLock(asked); err != nil {
			return had, err
		}
		if had.Mode != archive.Unlocked && v.now().Before(had.Until) {
			asked = firmer(asked, had)
		}
		return inSeconds(asked), nil
	})
	if err != nil {
		return fmt.Errorf("vault: lock %.600s: %w", name, err)
	}
	return nil
}

// firmer returns a lock that covers both, with the hold of the first.
func firmer(a, b archive.Lock) archive.Lock {
	if b.Mode.Covers(a.Mode) {
		a.Mode = b.Mode
	}
	if b.Until.After(a.Until) {
		a.Until = b.Until
	}
	return a
}

// Hold puts a legal hold on an object, or takes it off.
func (v *Vault) Hold(ctx context.Context, name string, on bool) error {
	err := v.relock(ctx, name, func(l archive.Lock) (archive.Lock, error) {
		l.Hold = on
		return l, nil
	})
	if err != nil {
		return fmt.Errorf("vault: hold %.600s: %w", name, err)
	}
	return nil
}

func (v *Vault) relock(ctx context.Context, name string, change func(archive.Lock) (archive.Lock, error)) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	found, err := v.find(ctx, name)
	if err != nil {
		return err
	}
	if err := v.noLocks(); err != nil {
		return err
	}
	lock, err := change(found.lock)
	if err == nil && !v.DropLocks {
		found.lock = lock
	}
	return err
}

// bucketLock is the bucket's lock as it is now.
func (v *Vault) bucketLock() archive.BucketLock {
	b := v.bucket
	b.Expired = b.State == archive.BucketOpen && !v.now().Before(b.Deadline)
	return b
}

// BucketLock returns the state of the bucket's lock.
func (v *Vault) BucketLock(ctx context.Context) (archive.BucketLock, error) {
	var found archive.BucketLock
	err := v.worm(ctx, "show", func(b archive.BucketLock) (archive.BucketLock, error) {
		found = b
		return b, nil
	})
	return found, err
}

// StartBucketLock begins a lock. Where one is on, its error wraps [fs.ErrExist].
func (v *Vault) StartBucketLock(ctx context.Context, days int) (archive.BucketLock, error) {
	var begun archive.BucketLock
	err := v.worm(ctx, "start", func(b archive.BucketLock) (archive.BucketLock, error) {
		if b.State != archive.BucketUnlocked && !b.Expired {
			return b, fs.ErrExist
		}
		if days < 1 {
			return b, fmt.Errorf("%d days: %w", days, errors.ErrUnsupported)
		}
		now := v.now().Truncate(time.Second)
		v.serial++
		begun = archive.BucketLock{
			ID: fmt.Sprintf("worm%04d", v.serial), State: archive.BucketOpen, Days: days,
			Created: now, Deadline: now.Add(24 * time.Hour),
		}
		return begun, nil
	})
	return begun, err
}

// CompleteBucketLock makes a lock final. Where none is open, its error wraps
// [fs.ErrNotExist].
func (v *Vault) CompleteBucketLock(ctx context.Context) error {
	return v.worm(ctx, "complete", func(b archive.BucketLock) (archive.BucketLock, error) {
		if b.State != archive.BucketOpen || b.Expired {
			return b, fmt.Errorf("none is open: %w", fs.ErrNotExist)
		}
		b.State, b.Deadline = archive.BucketLocked, time.Time{}
		return b, nil
	})
}

// AbortBucketLock ends a lock that is open. Of one that is final the error wraps
// [archive.ErrLocked].
func (v *Vault) AbortBucketLock(ctx context.Context) error {
	return v.worm(ctx, "abort", func(b archive.BucketLock) (archive.BucketLock, error) {
		switch b.State {
		case archive.BucketLocked:
			return b, archive.ErrLocked
		case archive.BucketUnlocked:
			return b, fs.ErrNotExist
		}
		return archive.BucketLock{}, nil
	})
}

// ExtendBucketLock makes a final lock longer. Of a shorter time the error wraps
// [archive.ErrLocked].
func (v *Vault) ExtendBucketLock(ctx context.Context, days int) error {
	return v.worm(ctx, "extend", func(b archive.BucketLock) (archive.BucketLock, error) {
		if b.State != archive.BucketLocked {
			return b, fmt.Errorf("none is final: %w", fs.ErrNotExist)
		}
		if days < b.Days {
			return b, fmt.Errorf("%d days, has %d: %w", days, b.Days, archive.ErrLocked)
		}
		b.Days = days
		return b, nil
	})
}

func (v *Vault) worm(ctx context.Context, op string, change func(archive.BucketLock) (archive.BucketLock, error)) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	err := ctx.Err()
	if err == nil && v.NoBucketLock {
		err = fmt.Errorf("no such thing here: %w", errors.ErrUnsupported)
	}
	b := v.bucketLock()
	if err == nil {
		b, err = change(b)
	}
	if err != nil {
		return fmt.Errorf("vault: bucket lock: %s: %w", op, err)
	}
	v.bucket = b
	return nil
}
