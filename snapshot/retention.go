package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// Retention shows how snapshots are locked, locks them longer, and holds them.
//
// A snapshot is its plan, pages, chunks and manifest. To be read it needs more: the
// archive's own objects, and all manifests before its own, which make the chain. And
// something was said about it later: its notarizations, the time stamps over its
// manifest, the archive's receipts. Whatever is done to a snapshot is done to these as
// well, as far as their names and sizes are what they should be.
type Retention struct {
	Archive  *Archive
	Snapshot string // as Find takes it; "": all of them
	Workers  int    // objects in work at once; 0: 16
	Now      func() time.Time
	Progress func(Event)
}

// LockReport says how snapshots are locked.
type LockReport struct {
	Kind      string           `json:"kind"` // show, extend, hold or release
	Archive   manifest.Hash    `json:"archive"`
	Started   manifest.Time    `json:"started"`
	Finished  manifest.Time    `json:"finished"`
	Snapshots []LockedSnapshot `json:"snapshots"`
	Needed    Locks            `json:"needed"`  // of what the snapshots need beside themselves
	Said      Locks            `json:"said"`    // of their notarizations and time stamps, and the archive's receipts
	Changed   int64            `json:"changed"` // objects whose lock, or hold, is another now
	Notes     []string         `json:"notes"`
}

// LockedSnapshot says how the objects of a snapshot are locked, and how they were
// signed to be.
type LockedSnapshot struct {
	Seq      int64              `json:"seq"`
	Snapshot string             `json:"snapshot"`
	Signed   manifest.Retention `json:"signed"`
	Locks
}

// retaining is a Retention under way.
type retaining struct {
	Retention
	store     archive.Locker // nil: the store locks no single objects
	inspector archive.Inspector
	progress  *progress
	report    *LockReport

	chain  []Entry
	chosen []Entry
	own    [][]seen // plan, pages and chunks of each snapshot chosen
	shared []seen   // all manifests up to the newest chosen, then the archive's own objects
	later  []said   // what was said about the snapshots chosen
}

// Show tells how the snapshots are locked. A store that does not tell is
// errors.ErrUnsupported.
func (r Retention) Show(ctx context.Context) (*LockReport, error) {
	x, err := r.look(ctx, "show")
	if err != nil {
		return nil, err
	}
	return x.told(), nil
}

// Extend locks every object the snapshots need in that mode until that date, to
// the second. Where a snapshot is locked longer, or more firmly, nothing is done and
// the error says so: locks are never shortened. What the snapshots share with
// others keeps what is longer or firmer. What an interrupted run has done is not
// done again.
//
// The signed manifests stay as they are: they say what was asked at the export.
func (r Retention) Extend(ctx context.Context, mode archive.Mode, until time.Time) (*LockReport, error) {
	want := archive.Lock{Mode: mode, Until: until.UTC().Truncate(time.Second)}
	x, err := r.look(ctx, "extend")
	if err != nil {
		return nil, err
	}
	if err := x.extendable(want); err != nil {
		return nil, fmt.Errorf("snapshot: lock %s: %w", lockText(want), err)
	}
	return x.change(ctx, func(s seen) (archive.Lock, bool) {
		return x.longer(s.lock, want), !s.lock.Covers(want)
	}, func(ctx context.Context, name string, lock archive.Lock) error {
		return x.store.Lock(ctx, name, archive.Lock{Mode: lock.Mode, Until: lock.Until})
	})
}

// Hold puts a legal hold on every object the snapshots need, or takes it off. What
// a snapshot that is still held needs stays held.
func (r Retention) Hold(ctx context.Context, on bool) (*LockReport, error) {
	kind := "hold"
	if !on {
		kind = "release"
	}
	x, err := r.look(ctx, kind)
	if err != nil {
		return nil, err
	}
	if err := x.lockable(); err != nil {
		return nil, fmt.Errorf("snapshot: %s: %w", kind, err)
	}
	kept := map[string]bool{}
	if !on {
		if kept, err = x.stillHeld(ctx); err != nil {
			return nil, err
		}
	}
	return x.change(ctx, func(s seen) (archive.Lock, bool) {
		lock := s.lock
		lock.Hold = on
		return lock, s.lock.Hold != on && !kept[s.name]
	}, func(ctx context.Context, name string, _ archive.Lock) error {
		return x.store.Hold(ctx, name, on)
	})
}

// look finds the snapshots' objects and how they are locked.
func (r Retention) look(ctx context.Context, kind string) (*retaining, error) {
	if r.Now == nil {
		r.Now = time.Now
	}
	r.Workers = orDefault(r.Workers, fetchers)
	x := &retaining{Retention: r, progress: newProgress(r.Progress)}
	x.report = &LockReport{Kind: kind, Archive: r.Archive.Policy.ID(), Started: stamp(r.Now), Snapshots: []LockedSnapshot{}, Notes: []string{}}
	x.store, _ = r.Archive.Store.(archive.Locker)
	x.inspector, _ = r.Archive.Store.(archive.Inspector)
	if x.inspector == nil {
		return nil, fmt.Errorf("snapshot: locks: the store cannot lock objects, or tell how they are: %w", errors.ErrUnsupported)
	}
	if err := x.find(ctx); err != nil {
		return nil, err
	}
	if err := x.inspect(ctx, x.all()); err != nil {
		return nil, fmt.Errorf("snapshot: locks: %w", err)
	}
	return x, nil
}

// find names the objects.
func (x *retaining) find(ctx context.Context) error {
	var err error
	if x.chain, err = x.Archive.Chain(ctx); err != nil {
		return err
	}
	x.chosen = x.chain
	if x.Snapshot != "" {
		e, err := find(x.chain, x.Snapshot)
		if err != nil {
			return err
		}
		x.chosen = []Entry{e}
	}
	newest := int64(0)
	for _, e := range x.chosen {
		names, err := snapshotObjects(ctx, x.Archive, e)
		if err != nil {
			return fmt.Errorf("snapshot: locks: %w", err)
		}
		x.own = append(x.own, names)
		newest = e.Manifest.Seq
	}
	for seq := int64(1); seq <= newest; seq++ {
		x.shared = append(x.shared, seen{name: manifest.ManifestName(seq)})
	}
	settings, err := x.Archive.Settings(ctx)
	if err != nil {
		return err
	}
	for _, name := range ownObjects(x.Archive.Policy) {
		if name != manifest.StoreName(x.Archive.Policy.ID()) || settings != nil {
			x.shared = append(x.shared, seen{name: name})
		}
	}
	x.later, err = x.Archive.said(ctx, x.chosen)
	return err
}

// snapshotObjects names the plan, the pages and the chunks of a snapshot.
func snapshotObjects(ctx context.Context, a *Archive, e Entry) ([]seen, error) {
	objects := []seen{{name: e.Manifest.PlanObject().Name}}
	for _, t := range e.Manifest.Tables {
		pages, err := tablePages(ctx, a, e, t)
		if err != nil {
			return nil, err
		}
		for i, page := range pages {
			objects = append(objects, seen{name: e.Manifest.PageObject(t, t.Pages[i]).Name})
			for _, c := range page.Chunks {
				objects = append(objects, seen{name: manifest.ChunkObject(e.Manifest.Snapshot, t.Table.Name, c).Name})
			}
		}
	}
	return objects, nil
}

// all returns every object of the run, those of snapshots first.
func (x *retaining) all() []*seen {
	var all []*seen
	for _, objects := range append(slices.Clone(x.own), x.shared) {
		for i := range objects {
			all = append(all, &objects[i])
		}
	}
	for i := range x.later {
		all = append(all, &x.later[i].seen)
	}
	return all
}

func (x *retaining) inspect(ctx context.Context, objects []*seen) error {
	x.progress.begin("look", int64(len(objects)))
	return x.each(ctx, len(objects), func(ctx context.Context, i int) error {
		info, err := x.inspector.Inspect(ctx, objects[i].name)
		if err != nil {
			return missing(objects[i].name, err)
		}
		objects[i].lock = info.Lock
		return nil
	})
}

// each does something n times, some at once, and counts it.
func (x *retaining) each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(x.Workers)
	for i := range n {
		group.Go(func() error {
			if err := do(ctx, i); err != nil {
				return err
			}
			x.progress.add("", Event{Done: 1})
			return nil
		})
	}
	return group.Wait()
}

func (x *retaining) lockable() error {
	if x.store == nil {
		return fmt.Errorf("the store cannot lock single objects; what retains them is the lock of their bucket: %w", errors.ErrUnsupported)
	}
	return nil
}

// extendable refuses what would not make locks longer.
func (x *retaining) extendable(want archive.Lock) error {
	if err := x.lockable(); err != nil {
		return err
	}
	if _, err := archive.ParseMode(string(want.Mode)); err != nil {
		return err
	}
	now := x.Now()
	if !want.Until.After(now) {
		return fmt.Errorf("that date has passed; it is %s", manifest.At(now))
	}
	for i, objects := range x.own {
		latest := slices.MaxFunc(objects, func(a, b seen) int { return cmp.Compare(a.lock.Until.Unix(), b.lock.Until.Unix()) })
		if latest.lock.Until.Unix() > want.Until.Unix() {
			return fmt.Errorf("snapshot %s is locked %s already (%s), and a lock is never shortened; nothing was changed: %w",
				x.chosen[i].Manifest.Snapshot, lockText(latest.lock), latest.name, archive.ErrLocked)
		}
		for _, s := range objects {
			if !want.Mode.Covers(s.lock.Mode) && s.lock.Until.After(now) {
				return fmt.Errorf("snapshot %s is locked %s already (%s), which is firmer; nothing was changed: %w",
					x.chosen[i].Manifest.Snapshot, lockText(s.lock), s.name, archive.ErrLocked)
			}
		}
	}
	return nil
}

// longer is the lock an object gets that has one already: as asked, but what is
// firmer or longer stays. One that has ended is none.
func (x *retaining) longer(has, want archive.Lock) archive.Lock {
	if !has.Until.After(x.Now()) {
		has = archive.Lock{Hold: has.Hold}
	}
	return firmest(want, has)
}

// stillHeld returns what snapshots that are not chosen and are held need: a
// snapshot is held if its plan is.
func (x *retaining) stillHeld(ctx context.Context) (map[string]bool, error) {
	chosen := map[int64]bool{}
	for _, e := range x.chosen {
		chosen[e.Manifest.Seq] = true
	}
	newest := int64(0)
	held := 0
	for _, e := range x.chain {
		if chosen[e.Manifest.Seq] {
			continue
		}
		lock, _, err := observed(ctx, x.Archive.Store, e.Manifest.PlanObject().Name)
		if err != nil {
			return nil, fmt.Errorf("snapshot: release: %w", err)
		}
		if lock.Hold {
			held++
			newest = e.Manifest.Seq
		}
	}
	kept := map[string]bool{}
	for seq := int64(1); seq <= newest; seq++ {
		kept[manifest.ManifestName(seq)] = true
	}
	if held > 0 {
		for _, name := range ownObjects(x.Archive.Policy) {
			kept[name] = true
		}
		for _, s := range x.later {
			kept[s.name] = kept[s.name] || s.entry == nil
		}
		x.report.Notes = append(x.report.Notes, fmt.Sprintf("%d other snapshots are held, so the archive's own objects, its receipts and the manifests up to number %d stay held", held, newest))
	}
	return kept, nil
}

// change gives the objects the lock they are to have, where that is not theirs
// yet, and then looks whether they have it.
func (x *retaining) change(ctx context.Context, to func(seen) (lock archive.Lock, change bool), set func(context.Context, string, archive.Lock) error) (*LockReport, error) {
	var objects []*seen
	var locks []archive.Lock
	for _, s := range x.all() {
		if lock, change := to(*s); change {
			objects, locks = append(objects, s), append(locks, lock)
		}
	}
	x.progress.begin(x.report.Kind, int64(len(objects)))
	var done atomic.Int64
	err := x.each(ctx, len(objects), func(ctx context.Context, i int) error {
		if err := set(ctx, objects[i].name, locks[i]); err != nil {
			return fmt.Errorf("%s: %w", objects[i].name, err)
		}
		done.Add(1)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("snapshot: %s: %d of %d objects were changed, run it again to go on: %w", x.report.Kind, done.Load(), len(objects), err)
	}
	if err := x.inspect(ctx, objects); err != nil {
		return nil, fmt.Errorf("snapshot: %s: %w", x.report.Kind, err)
	}
	for i, o := range objects {
		if o.lock.Hold != locks[i].Hold || !o.lock.Covers(locks[i]) {
			return nil, fmt.Errorf("snapshot: %s: %s: the store took it and keeps %s: %w", x.report.Kind, o.name, lockText(o.lock), ErrWeaker)
		}
	}
	x.report.Changed = int64(len(objects))
	return x.told(), nil
}

// told finishes the report.
func (x *retaining) told() *LockReport {
	mine := map[string]int{}
	for i, e := range x.chosen {
		s := LockedSnapshot{Seq: e.Manifest.Seq, Snapshot: e.Manifest.Snapshot, Signed: e.Manifest.Retention}
		for _, o := range x.own[i] {
			s.add(o.lock)
		}
		mine[manifest.ManifestName(s.Seq)] = i
		x.report.Snapshots = append(x.report.Snapshots, s)
	}
	for _, o := range x.shared {
		if i, ok := mine[o.name]; ok {
			x.report.Snapshots[i].add(o.lock)
			continue
		}
		x.report.Needed.add(o.lock)
	}
	for _, s := range x.later {
		x.report.Said.add(s.lock)
	}
	x.report.Finished = stamp(x.Now)
	return x.report
}
