package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// skew is how far clocks may lie apart: services refuse requests that are further off.
const skew = 15 * time.Minute

// term is how firmly and how long objects are to be retained; the zero value: not.
type term struct {
	mode   archive.Mode
	period archive.Period
}

func (t term) isZero() bool { return t.mode == archive.Unlocked || t.period.IsZero() }

// lock is the lock of an object put at from.
func (t term) lock(from time.Time) archive.Lock {
	if t.isZero() {
		return archive.Lock{}
	}
	return archive.Lock{Mode: t.mode, Until: t.period.After(from.UTC())}
}

func (t term) String() string {
	if t.isZero() {
		return "none"
	}
	return fmt.Sprintf("%s for %s", t.mode, t.period)
}

// check refuses half a term.
func (t term) check() error {
	if t.mode != archive.Unlocked && t.period.IsZero() {
		return fmt.Errorf("a %s lock without a period; say for how long, as in 7y", t.mode)
	}
	if t.mode == archive.Unlocked && !t.period.IsZero() {
		return fmt.Errorf("retention for %s without a mode; say %s or %s", t.period, archive.Governance, archive.Compliance)
	}
	return nil
}

// or fills in from another what t leaves open.
func (t term) or(o term) term {
	if o.isZero() {
		return t
	}
	if t.mode == archive.Unlocked {
		t.mode = o.mode
	}
	if t.period.IsZero() {
		t.period = o.period
	}
	return t
}

// covers reports whether t is as firm and as long as o, from whatever day of the
// next years on: years differ in length.
func (t term) covers(o term, from time.Time) bool {
	for year := range 4 {
		day := from.AddDate(year, 0, 0)
		if !t.lock(day).Covers(o.lock(day)) {
			return false
		}
	}
	return true
}

// signedTerm is what a report of the store asks for; none: nothing.
func signedTerm(st *manifest.Store) term {
	if st == nil || st.Retention.Mode == manifest.NoRetention {
		return term{}
	}
	r := st.Retention
	return term{archive.Mode(r.Mode), archive.Period{Years: int(r.Years), Days: int(r.Days)}}
}

func storeRetention(t term) manifest.StoreRetention {
	if t.isZero() {
		return manifest.StoreRetention{Mode: manifest.NoRetention}
	}
	return manifest.StoreRetention{Mode: string(t.mode), Years: int64(t.period.Years), Days: int64(t.period.Days)}
}

// bucketTerm is what the bucket does to every object unasked. One that cannot do
// that does nothing.
func bucketTerm(ctx context.Context, store archive.Store) (term, error) {
	t, err := defaultTerm(ctx, store)
	if errors.Is(err, errors.ErrUnsupported) {
		return term{}, nil
	}
	return t, err
}

func defaultTerm(ctx context.Context, store archive.Store) (term, error) {
	s, ok := store.(interface {
		DefaultLock(ctx context.Context) (archive.Mode, archive.Period, error)
	})
	if !ok {
		return term{}, nil
	}
	mode, period, err := s.DefaultLock(ctx)
	return term{mode, period}, err
}

// lockOf is the lock a document asks for. The document was checked, so its date is
// one.
func lockOf(r manifest.Retention) archive.Lock {
	if r.Mode == "" || r.Mode == manifest.NoRetention {
		return archive.Lock{}
	}
	until, err := time.Parse(time.RFC3339, r.Until)
	if err != nil {
		panic(fmt.Sprintf("snapshot: retention until %q in a document that was checked", r.Until))
	}
	return archive.Lock{Mode: archive.Mode(r.Mode), Until: until.UTC()}
}

// retentionOf is how a plan states a lock.
func retentionOf(l archive.Lock) manifest.Retention {
	if l.Mode == archive.Unlocked {
		return manifest.Retention{}
	}
	return manifest.Retention{Mode: string(l.Mode), Until: manifest.At(l.Until).String()}
}

func lockText(l archive.Lock) string {
	text := l.Mode.String()
	if l.Mode != archive.Unlocked {
		text += " until " + manifest.At(l.Until).String()
	}
	if l.Hold {
		text += ", held"
	}
	return text
}

// locked makes sure that an object is locked as want says, and looks whether it
// is where the store can tell.
func locked(ctx context.Context, store archive.Store, name string, want archive.Lock) error {
	if want == (archive.Lock{}) {
		return nil
	}
	found, known, err := observed(ctx, store, name)
	if err != nil || !known || found.Covers(want) {
		return err
	}
	locker, ok := store.(archive.Locker)
	if !ok {
		return fmt.Errorf("%s is locked %s, %s was asked, and the store cannot lock single objects: %w",
			name, lockText(found), lockText(want), ErrWeaker)
	}
	if err := locker.Lock(ctx, name, want); err != nil {
		return fmt.Errorf("%s is locked %s, %s was asked, and cannot be set: %w", name, lockText(found), lockText(want), err)
	}
	if found, _, err = observed(ctx, store, name); err != nil || found.Covers(want) {
		return err
	}
	return fmt.Errorf("%s: the store took a lock, %s, and keeps %s: %w", name, lockText(want), lockText(found), ErrWeaker)
}

// observed is the lock an object has, if the store can tell.
func observed(ctx context.Context, store archive.Store, name string) (lock archive.Lock, known bool, err error) {
	inspector, ok := store.(archive.Inspector)
	if !ok {
		return archive.Lock{}, false, nil
	}
	info, err := inspector.Inspect(ctx, name)
	if err != nil {
		return archive.Lock{}, false, missing(name, err)
	}
	return info.Lock, true, nil
}
