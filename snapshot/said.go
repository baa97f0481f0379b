package snapshot

import (
	"context"
	"fmt"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// said is an object that says something about a snapshot after it was made, as its name
// has it, and how it is locked. Nobody has looked at what is in it.
type said struct {
	seen
	entry *Entry // nil: it is a receipt, and about the archive
}

// said lists what was said about snapshots later: notarizations and time stamps, and the
// receipts. What is larger than its kind may be is none of it.
func (a *Archive) said(ctx context.Context, about []Entry) ([]said, error) {
	entries := map[int64]*Entry{}
	for i := range about {
		entries[about[i].Manifest.Seq] = &about[i]
	}
	var all []said
	for _, kind := range besides() {
		for object, err := range a.Store.List(ctx, kind.folder) {
			if err != nil {
				return nil, fmt.Errorf("snapshot: list %s: %w", kind.folder, err)
			}
			number, _, ok := kind.parse(object.Name)
			if !ok || object.Size > kind.limit {
				continue
			}
			s := said{seen: seen{name: object.Name}}
			if kind.of {
				if s.entry = entries[number]; s.entry == nil {
					continue
				}
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// said looks how that is locked which was said about the snapshots verified. A good
// notarization is held to what its snapshot was signed to be. Of all else nobody knows
// here what it is: that is noted.
func (v *verifier) said(ctx context.Context, verified []Entry) error {
	if !v.Retention || v.inspector == nil {
		return nil
	}
	all, err := v.Archive.said(ctx, verified)
	if err != nil {
		return err
	}
	there := make([]bool, len(all))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for i := range all {
		group.Go(func() error {
			info, err := v.inspector.Inspect(within, all[i].name)
			if isNotExist(err) { // it was junk, or a problem of who reads it
				return nil
			}
			all[i].lock, there[i] = info.Lock, err == nil
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("snapshot: verify: %w", err)
	}
	good := v.notarizations()
	_, locker := v.Archive.Store.(archive.Locker)
	var weak []string
	for i, s := range all {
		if !there[i] {
			continue
		}
		v.report.Retention.add(s.lock)
		if s.entry == nil || s.lock.Covers(v.due(*s.entry)) {
			continue
		}
		if !locker || !good[s.name] {
			weak = append(weak, s.name)
			continue
		}
		if err := v.weaker(fmt.Errorf("%s: its snapshot %s is signed to be retained %s, its lock is %s: %w",
			s.name, s.entry.Manifest.Snapshot, lockText(v.due(*s.entry)), lockText(s.lock), ErrWeaker)); err != nil {
			return err
		}
	}
	if len(weak) > 0 {
		v.note("%d notarizations and time stamps, the first %s, are locked less than their snapshots are signed to be; otsnap lock extends them", len(weak), weak[0])
	}
	return nil
}

// notarizations returns the names of the good ones.
func (v *verifier) notarizations() map[string]bool {
	names := map[string]bool{}
	for _, by := range v.report.Notarized {
		for _, n := range by.Notarizations {
			if _, _, ok := manifest.ParseNotarizationName(n.Name); ok {
				names[n.Name] = true
			}
		}
	}
	return names
}
