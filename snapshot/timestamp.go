package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// Stamp is what a good time stamp says.
type Stamp struct {
	Time     manifest.Time `json:"time"`               // what was stamped existed by then
	Accuracy string        `json:"accuracy,omitempty"` // of Time, either way, as in 1.5s; empty: it is not said
	TSA      string        `json:"tsa"`                // who stamped
	Serial   string        `json:"serial"`             // of the time stamp there
	Policy   string        `json:"policy"`             // it was made under, an object identifier
}

// StampCheck reports what a time stamp says, or why what is there proves no time: that
// it is none, or over something else than the digest, or of nobody trusted. What it
// gets, anybody may have put.
type StampCheck func(data []byte, digest manifest.Hash) (Stamp, error)

// TimestampReport says when the snapshots verified existed at the latest.
type TimestampReport struct {
	Objects   int64        `json:"objects"`   // that were looked at, over these snapshots and later ones
	Good      int64        `json:"good"`      // of them
	Snapshots []ProvenTime `json:"snapshots"` // those verified, by number
}

// ProvenTime is the earliest time at which a snapshot was there, as time stamps prove
// it: over its own manifest or over a later one, which names it through the chain.
type ProvenTime struct {
	Seq      int64  `json:"seq"`
	Snapshot string `json:"snapshot"`
	Proof    *Proof `json:"proof,omitempty"` // nil: nothing proves a time
}

// Proof is a good time stamp.
type Proof struct {
	Stamp
	Over   int64  `json:"over"`   // number of the manifest that was stamped
	Object string `json:"object"` // name of the time stamp
}

// Timestamps lists the names of what may be time stamps over manifest seq. Nobody has
// looked at what is in them.
func (a *Archive) Timestamps(ctx context.Context, seq int64) ([]string, error) {
	found, err := a.timestamps(ctx, manifest.TimestampsOf(seq))
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, n := range found[seq] {
		names = append(names, manifest.TimestampName(seq, n))
	}
	return names, nil
}

// timestamps lists what is named as a time stamp: the second numbers of each manifest's,
// in order.
func (a *Archive) timestamps(ctx context.Context, prefix string) (map[int64][]int64, error) {
	found := map[int64][]int64{}
	for object, err := range a.Store.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("snapshot: list time stamps: %w", err)
		}
		if seq, n, ok := manifest.ParseTimestampName(object.Name); ok {
			found[seq] = append(found[seq], n)
		}
	}
	for _, all := range found {
		slices.Sort(all)
	}
	return found, nil
}

// PutTimestamp keeps a time stamp over manifest seq, which the caller has checked, under
// the next name that is free, locked as the archive's own objects are. All names may be
// taken, by anybody: then it is fs.ErrExist, and a later manifest can be stamped.
func (a *Archive) PutTimestamp(ctx context.Context, seq int64, data []byte, now time.Time) (name string, err error) {
	if len(data) > manifest.MaxTimestamp {
		return "", fmt.Errorf("snapshot: time stamp of %d bytes; at most %d: %w", len(data), manifest.MaxTimestamp, manifest.ErrLimit)
	}
	taken, err := a.Timestamps(ctx, seq)
	if err != nil {
		return "", err
	}
	for n := range int64(manifest.MaxTries) {
		name := manifest.TimestampName(seq, n+1)
		if slices.Contains(taken, name) {
			continue
		}
		err := a.putOwn(ctx, name, data, now)
		if errors.Is(err, fs.ErrExist) { // somebody was quicker
			continue
		}
		if err != nil {
			return "", fmt.Errorf("snapshot: time stamp: %w", err)
		}
		return name, nil
	}
	return "", fmt.Errorf("snapshot: all %d names for time stamps over snapshot %d are taken; a time stamp over a later one covers it as well: %w",
		manifest.MaxTries, seq, fs.ErrExist)
}

// stamped is an object that may be a time stamp over an entry, and what came of it.
type stamped struct {
	over  Entry
	name  string
	good  *Proof
	wrong error
}

// timestamps finds out at what time the snapshots verified existed at the latest. What
// is no good is noted: anybody may have put it.
func (v *verifier) timestamps(ctx context.Context, chain, verified []Entry) error {
	if v.Stamps == nil || len(verified) == 0 {
		return nil
	}
	all, err := v.Archive.stamped(ctx, v.Stamps, chain[verified[0].Manifest.Seq-1:])
	if err != nil {
		return fmt.Errorf("snapshot: verify: %w", err)
	}
	v.report.Timestamps = proven(verified, all)
	v.noteStamps(verified, all)
	return nil
}

// stamped looks at all that may be time stamps over a part of the chain.
func (a *Archive) stamped(ctx context.Context, check StampCheck, chain []Entry) ([]stamped, error) {
	found, err := a.timestamps(ctx, manifest.TimestampFolder+"/")
	if err != nil {
		return nil, err
	}
	var all []stamped
	for _, e := range chain {
		for _, n := range found[e.Manifest.Seq] {
			all = append(all, stamped{over: e, name: manifest.TimestampName(e.Manifest.Seq, n)})
		}
	}
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for i := range all {
		group.Go(func() error { return all[i].look(within, a.Store, check) })
	}
	return all, group.Wait()
}

// look reads one object.
func (s *stamped) look(ctx context.Context, store archive.Store, check StampCheck) error {
	data, err := archive.ReadAll(ctx, store, s.name, manifest.MaxTimestamp)
	switch {
	case isNotExist(err), errors.Is(err, manifest.ErrLimit), errors.Is(err, archive.ErrFrozen):
		s.wrong = err
		return nil
	case err != nil:
		return err
	}
	said, err := check(data, s.over.Digest)
	if err != nil {
		s.wrong = err
		return nil
	}
	s.good = &Proof{Stamp: said, Over: s.over.Manifest.Seq, Object: s.name}
	return nil
}

// proven finds for each snapshot the earliest time among those of the time stamps over
// it and over later ones. Both are in the order of the chain.
func proven(verified []Entry, all []stamped) *TimestampReport {
	r := &TimestampReport{Objects: int64(len(all))}
	var earliest *Proof
	for _, e := range slices.Backward(verified) {
		for len(all) > 0 && all[len(all)-1].over.Manifest.Seq >= e.Manifest.Seq {
			good := all[len(all)-1].good
			all = all[:len(all)-1]
			if good == nil {
				continue
			}
			r.Good++
			if earliest == nil || !earliest.Time.Before(good.Time.Time) {
				earliest = good
			}
		}
		r.Snapshots = append(r.Snapshots, ProvenTime{e.Manifest.Seq, e.Manifest.Snapshot, earliest})
	}
	slices.Reverse(r.Snapshots)
	return r
}

// noteStamps notes what proves no time, and times that cannot be.
func (v *verifier) noteStamps(verified []Entry, all []stamped) {
	wrong := 0
	for _, s := range all {
		if s.wrong == nil {
			continue
		}
		if wrong++; wrong <= maxProblems {
			v.note("%s proves no time: %v", s.name, s.wrong)
		}
	}
	if wrong > maxProblems {
		v.note("%d more time stamps prove no time", wrong-maxProblems)
	}
	for i, p := range v.report.Timestamps.Snapshots {
		began := verified[i].Manifest.Started
		if p.Proof != nil && p.Proof.Time.Add(skew).Before(began.Time) {
			v.note("snapshot %d says that it was begun at %s, and %s proves that it was there at %s: one of the two clocks was wrong",
				p.Seq, began, p.Proof.Object, p.Proof.Time)
		}
	}
}

// NoTimeError says that nothing proves when a snapshot was there. It is
// manifest.ErrUntrusted.
type NoTimeError struct {
	Seq    int64
	Proven int64 // the newest snapshot before it of which something does; 0: none
	text   string
}

func (e *NoTimeError) Error() string        { return e.text }
func (e *NoTimeError) Is(target error) bool { return target == manifest.ErrUntrusted }

// RequireTimestamp returns the Requirement of a proven time: a time stamp that is good by
// check, over the snapshot or over a later one of its chain; else it is a *NoTimeError.
// What it reads of an archive, once, it answers from for all snapshots of that.
func RequireTimestamp(check StampCheck) Requirement {
	var mu sync.Mutex
	var of *Archive
	var read *times
	return func(ctx context.Context, a *Archive, e Entry) (met string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if of != a || !read.know(e) {
			if read, err = a.times(ctx, check); err != nil {
				return "", err
			}
			of = a
		}
		return read.of(e)
	}
}

// times are the proven times of all snapshots of an archive.
type times struct {
	chain []Entry
	*TimestampReport
	wrong []stamped
}

func (a *Archive) times(ctx context.Context, check StampCheck) (*times, error) {
	chain, err := a.chain(ctx)
	if err != nil && (len(chain) == 0 || !IsVerdict(err)) { // what is wrong after them is for others to say
		return nil, err
	}
	all, err := a.stamped(ctx, check, chain)
	if err != nil {
		return nil, fmt.Errorf("snapshot: time stamps: %w", err)
	}
	t := &times{chain: chain, TimestampReport: proven(chain, all)}
	for _, s := range all {
		if s.wrong != nil {
			t.wrong = append(t.wrong, s)
		}
	}
	return t, nil
}

func (t *times) know(e Entry) bool {
	return e.Manifest.Seq <= int64(len(t.chain)) && t.chain[e.Manifest.Seq-1].Digest == e.Digest
}

func (t *times) of(e Entry) (met string, err error) {
	seq := e.Manifest.Seq
	if t.know(e) {
		if p := t.Snapshots[seq-1].Proof; p != nil {
			return fmt.Sprintf("snapshot %d was there at %s, by %s, serial %s, over snapshot %d (%s)", seq, p.Time, p.TSA, p.Serial, p.Over, p.Object), nil
		}
	}
	missing := &NoTimeError{Seq: seq, text: fmt.Sprintf("nothing proves when snapshot %d was there: no good time stamp is over it or over a later one", seq)}
	for _, p := range t.Snapshots[:min(seq-1, int64(len(t.Snapshots)))] {
		if p.Proof != nil {
			missing.Proven = p.Seq
		}
	}
	reasons := 0
	for _, s := range t.wrong {
		if s.over.Manifest.Seq < seq {
			continue
		}
		if reasons++; reasons <= maxReasons {
			missing.text += fmt.Sprintf("; %s is none: %v", s.name, s.wrong)
		}
	}
	if reasons > maxReasons {
		missing.text += fmt.Sprintf("; and %d more objects that are none", reasons-maxReasons)
	}
	return "", missing
}
