package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// maxShadows is how many things laid over objects a verification names.
const maxShadows = 100

// seen is an object and how it is locked.
type seen struct {
	name string
	lock archive.Lock
}

// inspects reports whether chunks are to be inspected, as far as the store can.
func (v *verifier) inspects() bool {
	return v.inspector != nil && (v.Level == Objects || v.Retention)
}

// inspect holds what the store knows of an object against what was signed, and
// notes its lock. It reports whether the store vouches for the digest.
func (v *verifier) inspect(ctx context.Context, o manifest.Object) (vouched bool, err error) {
	info, err := v.inspector.Inspect(ctx, o.Name)
	switch {
	case err != nil:
		return false, missing(o.Name, err)
	case o.Size >= 0 && info.Size != o.Size:
		return false, fmt.Errorf("%s: has %d bytes, %d were signed: %w", o.Name, info.Size, o.Size, archive.ErrCorrupt)
	case !info.SHA256.IsZero() && !o.SHA256.IsZero() && info.SHA256 != o.SHA256:
		return false, fmt.Errorf("%s: the store keeps digest %s, signed is %s: %w", o.Name, info.SHA256, o.SHA256, archive.ErrCorrupt)
	}
	if v.Retention {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.observed = append(v.observed, seen{o.Name, info.Lock})
	}
	return !info.SHA256.IsZero(), nil
}

// inspectAll does so for objects that are read and hashed anyway.
func (v *verifier) inspectAll(ctx context.Context, objects []manifest.Object) error {
	if !v.Retention || v.inspector == nil {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for _, o := range objects {
		group.Go(func() error {
			_, err := v.inspect(ctx, o)
			return v.found(err)
		})
	}
	return group.Wait()
}

// due is what a snapshot's manifest asks for still; the zero Lock: nothing, or its
// date has passed.
func (v *verifier) due(e Entry) archive.Lock {
	lock := lockOf(e.Manifest.Retention)
	if !lock.Until.After(v.Now()) {
		return archive.Lock{}
	}
	return lock
}

// judge compares the locks seen on a snapshot's objects with what was signed.
func (v *verifier) judge(e Entry) error {
	due := v.due(e)
	objects := v.tally()
	if v.inspector != nil {
		locks := &Locks{}
		for _, s := range objects {
			locks.add(s.lock)
		}
		v.seen().Locks = locks
	}
	if due.Mode == archive.Unlocked {
		return nil
	}
	id := e.Manifest.Snapshot
	if v.inspector == nil {
		return v.weaker(fmt.Errorf("snapshot %s is signed to be retained %s, and the store cannot lock objects, or tell: %w", id, lockText(due), ErrWeaker))
	}
	weak := slices.DeleteFunc(objects, func(s seen) bool { return s.lock.Covers(due) })
	bare := slices.DeleteFunc(slices.Clone(weak), func(s seen) bool { return s.lock != archive.Lock{} })
	if len(bare) > 0 && len(bare) == len(objects) {
		return v.weaker(fmt.Errorf("snapshot %s is signed to be retained %s, and none of its %d objects is locked: %w", id, lockText(due), len(bare), ErrWeaker))
	}
	for _, s := range weak {
		if err := v.weaker(fmt.Errorf("%s: signed is %s, the lock is %s: %w", s.name, lockText(due), lockText(s.lock), ErrWeaker)); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) weaker(problem error) error {
	v.report.Retention.Weaker++
	return v.found(problem)
}

// tally takes what was observed into the report, and forgets it.
func (v *verifier) tally() []seen {
	objects := v.observed
	v.observed = nil
	slices.SortFunc(objects, func(a, b seen) int { return cmp.Compare(a.name, b.name) })
	for _, s := range objects {
		v.report.Retention.add(s.lock)
	}
	return objects
}

// own looks at the archive's own objects, which every snapshot needs to be read,
// and at the manifests of the snapshots before, which its chain needs.
func (v *verifier) own(ctx context.Context, chain, verified []Entry) error {
	if v.inspector == nil {
		return nil
	}
	var objects []manifest.Object
	for _, name := range ownObjects(v.Archive.Policy) {
		if name != manifest.StoreName(v.Archive.Policy.ID()) || v.hasSettings {
			objects = append(objects, manifest.Object{Name: name, Size: -1})
		}
	}
	if err := v.inspectAll(ctx, objects); err != nil {
		return err
	}
	_, locker := v.Archive.Store.(archive.Locker)
	for _, s := range v.tally() {
		e, ok := v.outlived(s, verified)
		if !ok {
			continue
		}
		problem := fmt.Errorf("%s: snapshot %s needs it and is signed to be retained %s, its lock is %s: %w",
			s.name, e.Manifest.Snapshot, lockText(v.due(e)), lockText(s.lock), ErrWeaker)
		if !locker { // its bucket counts from when an object was put, and nobody can help that
			v.note("%v", problem)
			continue
		}
		if err := v.weaker(problem); err != nil {
			return err
		}
	}
	return v.before(ctx, chain, verified)
}

// outlived returns a snapshot that is to be retained longer, or more firmly, than
// an object it needs.
func (v *verifier) outlived(s seen, verified []Entry) (Entry, bool) {
	for _, e := range slices.Backward(verified) {
		if !s.lock.Covers(v.due(e)) {
			return e, true
		}
	}
	return Entry{}, false
}

// before notes manifests that are locked less than a later snapshot asks, whose
// chain breaks without them.
func (v *verifier) before(ctx context.Context, chain, verified []Entry) error {
	needed := map[string]archive.Lock{} // by the snapshots after it
	var objects []manifest.Object
	var lock archive.Lock
	for _, e := range slices.Backward(chain[:verified[len(verified)-1].Manifest.Seq]) {
		name := manifest.ManifestName(e.Manifest.Seq)
		if lock.Mode != archive.Unlocked {
			needed[name] = lock
			objects = append(objects, manifest.Object{Name: name, Size: e.Size, SHA256: e.Digest})
		}
		if e.Manifest.Seq >= verified[0].Manifest.Seq {
			lock = firmest(lock, v.due(e))
		}
	}
	if err := v.inspectAll(ctx, objects); err != nil {
		return err
	}
	weak := slices.DeleteFunc(v.observed, func(s seen) bool { return s.lock.Covers(needed[s.name]) })
	v.observed = nil
	if len(weak) > 0 {
		slices.SortFunc(weak, func(a, b seen) int { return cmp.Compare(a.name, b.name) })
		v.note("%d manifests of earlier snapshots, the first %s, are locked less than snapshots after them, whose chain needs them; otsnap lock extends them",
			len(weak), weak[0].name)
	}
	return nil
}

// shadows looks for what is laid over the archive's objects.
func (v *verifier) shadows(ctx context.Context, verified []Entry) error {
	store, ok := v.Archive.Store.(archive.Shadower)
	if !ok {
		return nil
	}
	prefixes := []string{"policy/", "manifests/"}
	for _, kind := range besides() {
		prefixes = append(prefixes, kind.folder)
	}
	for _, name := range ownObjects(v.Archive.Policy) {
		if !strings.HasPrefix(name, "policy/") {
			prefixes = append(prefixes, name)
		}
	}
	for _, e := range verified {
		prefixes = append(prefixes, snapshotPrefix(e.Manifest.Snapshot))
	}
	total := 0
	for _, prefix := range prefixes {
		for s, err := range store.Shadows(ctx, prefix) {
			if errors.Is(err, errors.ErrUnsupported) {
				v.note("whether anything is laid over objects could not be looked for: %v", err)
				return nil
			}
			if err != nil {
				return fmt.Errorf("snapshot: verify: %w", err)
			}
			if !strings.HasSuffix(prefix, "/") && s.Name != prefix {
				continue
			}
			if total++; total <= maxShadows {
				v.shadow(shadowText(s))
			}
		}
	}
	if total > maxShadows {
		v.shadow(fmt.Sprintf("%d more objects are hidden by a delete marker or a newer version", total-maxShadows))
	}
	if v.report.Retention != nil {
		v.report.Retention.Shadows = int64(total)
	}
	return nil
}

// shadow notes what hides an object. It does not end the run: the objects
// themselves are read all the same.
func (v *verifier) shadow(text string) {
	if !v.Retention {
		v.note("%s", text)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.problems = append(v.problems, fmt.Errorf("%s: %w", text, ErrShadowed))
}

func shadowText(s archive.Shadow) string {
	at := s.Modified.UTC().Format(time.RFC3339)
	if s.Marker {
		return fmt.Sprintf("%s is hidden by a delete marker of %s", s.Name, at)
	}
	return fmt.Sprintf("%s: a newer version %s of %d bytes, of %s, lies over it", s.Name, s.Version, s.Size, at)
}

func (v *verifier) note(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Notes = append(v.report.Notes, fmt.Sprintf(format, args...))
}

// thawFirst says what cannot be read until it is thawed, where reading one chunk
// failed for that.
func (v *verifier) thawFirst(ctx context.Context, cause error) error {
	if !errors.Is(cause, archive.ErrFrozen) {
		return cause
	}
	if inner := errors.Unwrap(cause); inner != nil {
		cause = inner // it said that it is about this verification
	}
	frozen, first := v.frozen(ctx)
	if frozen == 0 {
		return fmt.Errorf("snapshot: verify: %w; otsnap thaw gets what is frozen", cause)
	}
	return fmt.Errorf("snapshot: verify: %d of %d chunks of snapshot %s are in an archive tier, the first %s; otsnap thaw gets them: %w",
		frozen, len(v.reading), v.reading[0].entry.Manifest.Snapshot, first, cause)
}

// frozen counts the chunks being read that cannot be. What cannot be found out is
// left out.
func (v *verifier) frozen(ctx context.Context) (count int, first string) {
	if v.inspector == nil {
		return 0, ""
	}
	found := make([]bool, len(v.reading))
	var group errgroup.Group
	group.SetLimit(fetchers)
	for i, j := range v.reading {
		group.Go(func() error {
			info, err := v.inspector.Inspect(ctx, j.object().Name)
			found[i] = err == nil && info.Frozen
			return nil
		})
	}
	_ = group.Wait()
	for i, is := range found {
		if !is {
			continue
		}
		if count++; count == 1 {
			first = v.reading[i].object().Name
		}
	}
	return count, first
}
