package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// SignedHead is a head that keys of the archive's policy have signed.
type SignedHead struct {
	*manifest.Head
	Name     string   // of its object
	SignedBy []string // names of keys
}

// anchor is what the head says to hold an archive against. Place is what people call
// the place where it is kept.
func (h SignedHead) anchor(place string) manifest.Anchor {
	return manifest.Anchor{
		Source: fmt.Sprintf("head signed by %s on %s in %s", strings.Join(h.SignedBy, ", "), h.Time, place),
		Seq:    h.Seq, Digest: h.Digest,
	}
}

// OpenHead reads the head of the archive that a place keeps under a name.
func (a *Archive) OpenHead(ctx context.Context, in archive.Store, name string) (SignedHead, error) {
	sealed, err := archive.ReadAll(ctx, in, name, manifest.MaxHead)
	if err != nil {
		return SignedHead{}, err
	}
	head, by, err := manifest.OpenHead(sealed, a.Policy)
	return named(head, name, by, err)
}

// ReadHead returns what an object in a place says of itself as a head. Nobody vouches
// for it: see [Archive.OpenHead].
func ReadHead(ctx context.Context, in archive.Store, name string) (SignedHead, error) {
	sealed, err := archive.ReadAll(ctx, in, name, manifest.MaxHead)
	if err != nil {
		return SignedHead{}, err
	}
	head, err := manifest.ReadHead(sealed)
	return named(head, name, nil, err)
}

// named makes sure that a head is the one its name says.
func named(head *manifest.Head, name string, by []string, err error) (SignedHead, error) {
	if err != nil {
		return SignedHead{}, fmt.Errorf("%s: %w", name, err)
	}
	if seq, _, _ := manifest.ParseHeadName(head.Archive, name); seq != head.Seq {
		return SignedHead{}, fmt.Errorf("%s: is the head of archive %s at manifest %d: %w", name, head.Archive, head.Seq, manifest.ErrInvalid)
	}
	return SignedHead{head, name, by}, nil
}

// noVerdict reports whether an error says nothing about an object.
func noVerdict(ctx context.Context, err error) bool {
	return errors.Is(err, archive.ErrUnavailable) || errors.Is(err, archive.ErrFrozen) || ctx.Err() != nil
}

// Heads returns the names of what may be the newest heads of an archive that are kept
// in a place, the newest first, at most manifest.MaxTries of them, and how many there
// are in all. Names are for anyone to make up.
func Heads(ctx context.Context, in archive.Store, id manifest.Hash) (names []string, all int, err error) {
	names, err = headNames(ctx, in, id)
	return names[:min(len(names), manifest.MaxTries)], len(names), err
}

// headNames lists what may be heads of an archive, the newest first.
func headNames(ctx context.Context, in archive.Store, id manifest.Hash) ([]string, error) {
	var names []string
	for object, err := range in.List(ctx, manifest.HeadPrefix(id)) {
		if err != nil {
			return nil, fmt.Errorf("snapshot: list heads: %w", err)
		}
		if _, _, ok := manifest.ParseHeadName(id, object.Name); ok {
			names = append(names, object.Name)
		}
	}
	slices.Reverse(names)
	return names, nil
}

// GoodHeads returns the good heads of the archive in a place, the newest first. Several
// may contradict each other. Skipped says what is no good head there. It gives up after
// manifest.MaxTries of these: then skipped says first how many older objects were not
// looked at. If no good one was met by then, it is manifest.ErrUntrusted: somebody fills
// the place up. None at all is fs.ErrNotExist.
func (a *Archive) GoodHeads(ctx context.Context, in archive.Store) (heads []SignedHead, skipped []string, err error) {
	prefix := manifest.HeadPrefix(a.Policy.ID())
	names, err := headNames(ctx, in, a.Policy.ID())
	if err != nil {
		return nil, nil, err
	}
	for some := range slices.Chunk(names, fetchers) {
		for i, r := range a.openHeads(ctx, in, some) {
			switch {
			case r.err == nil:
				heads = append(heads, r.SignedHead)
			case noVerdict(ctx, r.err):
				return nil, nil, fmt.Errorf("snapshot: head: %w", r.err)
			default:
				skipped = append(skipped, r.err.Error())
			}
			older := len(names) - len(heads) - len(skipped)
			switch {
			case len(skipped) < manifest.MaxTries || older == 0:
			case len(heads) == 0:
				return nil, skipped, fmt.Errorf("snapshot: %w: the newest %d of %d objects under %s are no good heads", manifest.ErrUntrusted, len(skipped), len(names), prefix)
			default:
				unread := fmt.Sprintf("%d objects down to %s; so the %d older ones were not looked at, and if one of them contradicts the archive that does not show", len(skipped), some[i], older)
				return heads, append([]string{unread}, skipped...), nil
			}
		}
	}
	if len(heads) == 0 {
		return nil, skipped, fmt.Errorf("snapshot: no good head of the archive under %s: %w", prefix, fs.ErrNotExist)
	}
	return heads, skipped, nil
}

// openedHead is a head that was read, or why it was not.
type openedHead struct {
	SignedHead
	err error
}

// openHeads reads heads at once.
func (a *Archive) openHeads(ctx context.Context, in archive.Store, names []string) []openedHead {
	heads := make([]openedHead, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() { heads[i].SignedHead, heads[i].err = a.OpenHead(ctx, in, name) })
	}
	group.Wait()
	return heads
}

// HoldAgainst has the archive held, from now on, against all good heads in a place,
// which people call place. Those at the highest number become Anchors: where they
// hold, the others are told by them. Errors are those of [Archive.GoodHeads], and
// manifest.ErrRollback where the policy lacks a version that a head names.
func (a *Archive) HoldAgainst(ctx context.Context, in archive.Store, place string) (skipped []string, err error) {
	heads, skipped, err := a.GoodHeads(ctx, in)
	for _, h := range heads {
		x := h.anchor(place)
		seen := manifest.Trust{Archive: h.Archive, Version: h.Version, Policy: h.Policy}
		if err := seen.CheckPolicy(a.Policy); err != nil {
			return skipped, fmt.Errorf("snapshot: by the %s: %w", x.Source, err)
		}
		known := func(o manifest.Anchor) bool { return o.Seq == x.Seq && o.Digest == x.Digest }
		switch {
		case h.Seq < heads[0].Seq:
			a.earlier = append(a.earlier, x)
		case !slices.ContainsFunc(a.Anchors, known):
			a.Anchors = append(a.Anchors, x)
		}
	}
	return skipped, err
}

// RecordHead states, in a place elsewhere, how far an archive has come.
type RecordHead struct {
	Archive *Archive
	Newest  Entry         // of the archive's chain
	In      archive.Store // another archive's, or one of nothing but heads
	Signers []manifest.Signer
	// Lock is how the head is to be locked; a place that cannot do that is
	// errors.ErrUnsupported. The zero Lock is that of the snapshot, as far as the place
	// can do it.
	Lock archive.Lock
	Tool string
	Now  func() time.Time
}

// RecordedHead is a head that is in its place.
type RecordedHead struct {
	SignedHead
	Before   bool // it was there already
	Warnings []string
}

// Run records. A good head at the same manifest and version of the policy that is
// there already is as good; a good one that the archive contradicts is
// manifest.ErrRollback, whatever its number. What is no good head is left alone, and
// written past.
func (r RecordHead) Run(ctx context.Context) (*RecordedHead, error) {
	done, err := r.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("snapshot: record head: %w", err)
	}
	return done, nil
}

func (r RecordHead) run(ctx context.Context) (*RecordedHead, error) {
	if r.Now == nil {
		r.Now = time.Now
	}
	if err := r.hold(ctx); err != nil {
		return nil, err
	}
	p, m := r.Archive.Policy, r.Newest.Manifest
	keep := headLock{r.Lock, true}
	if r.Lock == (archive.Lock{}) {
		keep = lockLike(m, r.In, r.Now())
	}
	head := &manifest.Head{
		Format: manifest.Format, Archive: p.ID(), Seq: m.Seq, Digest: r.Newest.Digest,
		Version: p.Version, Policy: p.Digest(), Time: stamp(r.Now), Tool: r.Tool,
	}
	sealed, err := manifest.SealHead(ctx, head, r.Signers...)
	if err != nil {
		return nil, sealing(err)
	}
	_, by, err := manifest.OpenHead(sealed, p)
	if err != nil {
		return nil, err
	}
	for n := range int64(manifest.MaxTries) {
		name := manifest.HeadName(p.ID(), m.Seq, n+1)
		done, err := keep.put(ctx, r.In, name, sealed)
		if errors.Is(err, fs.ErrExist) {
			there, err := r.Archive.OpenHead(ctx, r.In, name)
			if noVerdict(ctx, err) {
				return nil, err
			}
			if err != nil {
				continue
			}
			if there.Digest != head.Digest {
				return nil, fmt.Errorf("%w: %s, signed by %s, says that manifest %d is sha256:%s; here it is sha256:%s: the archive has been forked",
					manifest.ErrRollback, name, strings.Join(there.SignedBy, ", "), head.Seq, there.Digest, head.Digest)
			}
			if there.Version != head.Version || there.Policy != head.Policy {
				continue
			}
			done = &RecordedHead{SignedHead: there, Before: true}
			return done, keep.confirm(ctx, r.In, done)
		}
		if err != nil {
			return nil, err
		}
		done.SignedHead = SignedHead{head, name, by}
		return done, keep.confirm(ctx, r.In, done)
	}
	return nil, fmt.Errorf("%w: all of the %d names there are for a head at manifest %d hold something else", manifest.ErrLimit, manifest.MaxTries, m.Seq)
}

// hold holds the archive against the heads that are in the place already, by its chain
// as it is now: who forks it does not get a head beside those that say so.
func (r RecordHead) hold(ctx context.Context) error {
	held := *r.Archive
	held.Anchors, held.earlier = nil, nil
	_, err := held.HoldAgainst(ctx, r.In, "the same place")
	if isNotExist(err) {
		return nil
	}
	if err == nil {
		_, err = held.Chain(ctx)
	}
	return err
}

// headLock is a lock for a head, and whether it is there without as well.
type headLock struct {
	lock   archive.Lock
	insist bool
}

// lockLike is the lock of a snapshot for its head, where the place has locks at all.
func lockLike(m *manifest.Manifest, in archive.Store, now time.Time) headLock {
	lock := lockOf(m.Retention)
	if _, ok := in.(archive.Locker); !ok || !lock.Until.After(now) {
		lock = archive.Lock{}
	}
	return headLock{lock, false}
}

// put stores a head.
func (l headLock) put(ctx context.Context, in archive.Store, name string, sealed []byte) (*RecordedHead, error) {
	before, err := putWith(ctx, in, name, sealed, archive.PutOptions{Lock: l.lock})
	if l.insist || !errors.Is(err, errors.ErrUnsupported) {
		return &RecordedHead{Before: before}, err
	}
	before, plain := putWith(ctx, in, name, sealed, archive.PutOptions{})
	return &RecordedHead{Before: before, Warnings: []string{fmt.Sprintf("the head cannot be locked there as its snapshot is: %v", err)}}, plain
}

// confirm makes sure of the lock, also of a head that was there before.
func (l headLock) confirm(ctx context.Context, in archive.Store, done *RecordedHead) error {
	if len(done.Warnings) > 0 {
		return nil
	}
	err := locked(ctx, in, done.Name, l.lock)
	if err == nil || l.insist || noVerdict(ctx, err) {
		return err
	}
	done.Warnings = append(done.Warnings, fmt.Sprintf("the head is not locked there as its snapshot is: %v", err))
	return nil
}
