package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// item is an object to be copied.
type item struct {
	manifest.Object
	lock   archive.Lock
	bulk   bool
	data   []byte // nil: still in the source
	listed bool   // by the target
	same   bool   // if it is there: its bytes were compared before

	// differs says what it means if others put something else under the name
	// meanwhile; nil: that it is damaged.
	differs func(context.Context) error
}

func newItem(o manifest.Object, lock archive.Lock, listed map[string]int64) item {
	_, ok := listed[o.Name]
	return item{Object: o, lock: lock, listed: ok}
}

// target is the store of a copy: it puts objects with their locks, and tells
// whether those that are there are the right ones.
type target struct {
	store     archive.Store
	inspector archive.Inspector // nil: it tells nothing
	asked     bool              // whether locks were asked for: not to have them is an error then
	own       archive.Lock      // what the bucket does to what is put without a lock

	relocked, unretained, unconfirmed atomic.Int64

	mu     sync.Mutex
	locker bool  // whether objects can be locked one by one
	reason error // why not
}

// newTarget asks the store how it locks. asked is the lock all objects must have;
// zero: there is no such.
func newTarget(ctx context.Context, store archive.Store, asked archive.Lock, now time.Time) (*target, error) {
	t := &target{store: store, asked: asked.Mode != archive.Unlocked}
	if t.asked && !asked.Until.After(now) {
		return nil, fmt.Errorf("a lock until %s is none", asked.Until.UTC().Format(time.RFC3339))
	}
	t.inspector, _ = store.(archive.Inspector)
	_, t.locker = store.(archive.Locker)
	t.reason = errors.New("this kind of store cannot lock objects")
	bucket, err := defaultTerm(ctx, store)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		t.locker, t.reason = false, err
	case err != nil && (t.asked && !t.locker || ctx.Err() != nil):
		return nil, fmt.Errorf("target: %w", err)
	case err != nil: // maybe the caller has no right to ask: what is put will show
		t.reason = err
	case !bucket.isZero():
		t.own = bucket.lock(now)
		t.reason = fmt.Errorf("this kind of store cannot lock single objects, and its bucket retains them %s", bucket)
	}
	if t.asked && !t.locker && !t.own.Covers(asked) {
		return nil, fmt.Errorf("the target cannot lock objects %s until %s: %w", asked.Mode, asked.Until.UTC().Format(time.RFC3339), errors.Join(t.reason, errors.ErrUnsupported))
	}
	return t, nil
}

// probe refuses a store that does not keep one writer from replacing what another
// put. name is an object it has.
func (t *target) probe(ctx context.Context, name string) error {
	prober, ok := t.store.(archive.Prober)
	if !ok {
		return nil
	}
	found, err := prober.Probe(ctx, name)
	if err != nil {
		return err
	}
	for _, c := range found {
		if c.Name == archive.CanCreateOnly && c.State == archive.Absent {
			return fmt.Errorf("the target lets a second writer replace objects (%s): no archive is safe there: %w", c.Detail, errors.ErrUnsupported)
		}
	}
	return nil
}

// put stores an item with its lock. If something of that name is there already it
// is fs.ErrExist.
func (t *target) put(ctx context.Context, it item) error {
	opts := archive.PutOptions{SHA256: it.SHA256, Bulk: it.bulk}
	if t.canLock() && !t.own.Covers(it.lock) {
		opts.Lock = firmest(it.lock, t.own)
	}
	err := t.store.Put(ctx, it.Name, bytes.NewReader(it.data), opts)
	if errors.Is(err, errors.ErrUnsupported) && opts.Lock.Mode != archive.Unlocked && !t.asked {
		t.cannotLock(err)
		opts.Lock = archive.Lock{}
		err = t.store.Put(ctx, it.Name, bytes.NewReader(it.data), opts)
	}
	if err != nil || it.lock.Mode == archive.Unlocked || opts.Lock.Mode != archive.Unlocked {
		return err
	}
	has, _, err := observed(ctx, t.store, it.Name) // what the bucket did unasked
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return t.relock(ctx, it, has)
}

// confirm makes sure that the object of that name in the target is the item, and
// that it is locked as the item should be. It returns its size. What is not what
// was signed is archive.ErrCorrupt.
func (t *target) confirm(ctx context.Context, it item) (int64, error) {
	var info archive.Info
	if it.same && it.lock.Mode == archive.Unlocked {
		return it.Size, nil
	}
	if t.inspector != nil {
		var err error
		if info, err = t.inspector.Inspect(ctx, it.Name); err != nil {
			return 0, fmt.Errorf("target: %w", err)
		}
	}
	if it.same {
		return it.Size, t.relock(ctx, it, info.Lock)
	}
	size, err := t.compare(ctx, it.Object, info)
	if err != nil {
		return 0, fmt.Errorf("target: %w", err)
	}
	return size, t.relock(ctx, it, info.Lock)
}

func (t *target) compare(ctx context.Context, o manifest.Object, info archive.Info) (int64, error) {
	switch {
	case t.inspector == nil:
	case o.Size >= 0 && info.Size != o.Size:
		return 0, fmt.Errorf("%s has %d bytes, %d were signed: %w", o.Name, info.Size, o.Size, archive.ErrCorrupt)
	case info.SHA256 == o.SHA256:
		return info.Size, nil
	case !info.SHA256.IsZero():
		return 0, fmt.Errorf("%s: the store keeps digest %s, signed is %s: %w", o.Name, info.SHA256, o.SHA256, archive.ErrCorrupt)
	case info.Frozen:
		t.unconfirmed.Add(1)
		return info.Size, nil
	}
	data, err := archive.Fetch(ctx, t.store, o)
	return int64(len(data)), err
}

// relock locks an object that is there and is locked less than it should be.
func (t *target) relock(ctx context.Context, it item, has archive.Lock) error {
	if has.Covers(it.lock) {
		return nil
	}
	if t.canLock() {
		err := locked(ctx, t.store, it.Name, it.lock)
		if err == nil {
			t.relocked.Add(1)
			return nil
		}
		if t.asked || !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, ErrWeaker) {
			return fmt.Errorf("target: %w", err)
		}
		t.cannotLock(err)
	}
	if t.inspector == nil && t.own.Covers(it.lock) {
		return nil
	}
	t.unretained.Add(1)
	return nil
}

func (t *target) canLock() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.locker
}

func (t *target) cannotLock(reason error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.locker, t.reason = false, reason
}

// why tells why objects are not locked.
func (t *target) why() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reason
}
