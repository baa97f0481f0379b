package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// Notarize reads snapshots again and countersigns those in which nothing is wrong. It
// is for another machine than the exporter's, with credentials of its own: it needs to
// read everything, and to put objects under manifest.NotarizationFolder.
type Notarize struct {
	Archive  *Archive
	Snapshot string // one snapshot, as Find takes it; "": all that signers have not notarized as deep yet, oldest first
	Level    Level  // how deep all of a snapshot is read first: Rows or Hashes
	Signers  []manifest.Signer
	DryRun   bool // nothing is read of snapshots, or written: the report says which are due

	Workers     int // chunks in work at once; 0: DefaultWorkers
	Tool, Build string
	Now         func() time.Time
	Progress    func(Event)
}

// NotarizeReport says what became of each snapshot.
type NotarizeReport struct {
	Kind      string             `json:"kind"` // notarize
	Archive   manifest.Hash      `json:"archive"`
	Level     string             `json:"level"`
	Started   manifest.Time      `json:"started"`
	Finished  manifest.Time      `json:"finished"`
	Snapshots []NotarizeSnapshot `json:"snapshots"` // by number
	Notes     []string           `json:"notes"`
	Problems  []string           `json:"problems"`
}

// NotarizeSnapshot is what became of a snapshot.
type NotarizeSnapshot struct {
	Seq      int64           `json:"seq"`
	Snapshot string          `json:"snapshot"`
	Digest   manifest.Hash   `json:"digest"`
	State    string          `json:"state"`          // NotarizedNow, NotarizedBefore, Due, Refused or Unread
	Name     string          `json:"name,omitempty"` // of the object, where State is NotarizedNow or NotarizedBefore
	Totals   manifest.Totals `json:"totals"`
}

// What becomes of a snapshot.
const (
	NotarizedNow    = "notarized"
	NotarizedBefore = "before"  // as deep, by the same keys
	Due             = "due"     // in a dry run: it would be read
	Refused         = "refused" // something is wrong with it
	Unread          = "unread"  // it is in an archive tier, or the key does not count for it
)

// notarizing is a Notarize under way.
type notarizing struct {
	Notarize
	report   *NotarizeReport
	problems []error
	own      archive.Lock // as the archive's own objects are
}

// Run notarizes. That a key is of no notary is a *NotANotaryError, before anything
// is read. A snapshot in which something is wrong is not notarized, and the run goes on
// to the next; the problems of all are returned, joined. Trouble with the store is
// archive.ErrUnavailable, ends the run, and says nothing of the snapshot: what was
// notarized before stays, and running again goes on.
func (n Notarize) Run(ctx context.Context) (*NotarizeReport, error) {
	if n.Now == nil {
		n.Now = time.Now
	}
	if n.Level != Hashes && n.Level != Rows {
		return nil, fmt.Errorf("snapshot: notarize: level %s reads too little, there are %s and %s: %w", n.Level, Hashes, Rows, ErrWish)
	}
	x := &notarizing{Notarize: n, report: &NotarizeReport{
		Kind: "notarize", Archive: n.Archive.Policy.ID(), Level: n.Level.String(), Started: stamp(n.Now),
		Snapshots: []NotarizeSnapshot{}, Notes: []string{}, Problems: []string{},
	}}
	err := x.run(ctx)
	if err != nil && len(x.report.Snapshots) == 0 {
		return nil, err
	}
	x.report.Finished = stamp(n.Now)
	for _, p := range x.problems {
		x.report.Problems = append(x.report.Problems, p.Error())
	}
	if err != nil {
		return x.report, err
	}
	return x.report, errors.Join(x.problems...)
}

func (x *notarizing) run(ctx context.Context) error {
	if err := x.Archive.renewed(ctx); err != nil {
		return err
	}
	chain, err := x.choose(ctx)
	if err != nil {
		return err
	}
	due, err := x.due(ctx, chain)
	if err != nil || x.DryRun {
		return err
	}
	settings, err := x.Archive.Settings(ctx)
	if err != nil {
		return err
	}
	x.own = signedTerm(settings).lock(x.Now())
	for _, i := range due {
		if err := x.entry(ctx, chain[i], &x.report.Snapshots[i]); err != nil {
			return fmt.Errorf("snapshot: notarize snapshot %d: %w", chain[i].Manifest.Seq, err)
		}
	}
	return nil
}

// choose returns the snapshots the run is about, and makes sure that the keys are of
// notaries.
func (x *notarizing) choose(ctx context.Context) ([]Entry, error) {
	if len(x.Signers) == 0 {
		return nil, &NotANotaryError{"snapshot: notarize: there is no key to sign with"}
	}
	if x.Snapshot != "" {
		e, err := x.Archive.Find(ctx, x.Snapshot)
		if err != nil {
			return nil, err
		}
		if e.After != nil {
			x.note("snapshot %d is looked at alone; what comes after it is not as it was signed: %v", e.Manifest.Seq, e.After)
		}
		return []Entry{e}, x.mayAny([]Entry{e})
	}
	chain, err := x.Archive.Chain(ctx)
	if err != nil {
		return nil, err
	}
	return chain, x.mayAny(chain)
}

// mayAny makes sure that the keys may notarize one of the snapshots at least, or the
// next if there is none.
func (x *notarizing) mayAny(entries []Entry) error {
	var last error
	for _, e := range entries {
		if last = x.may(e.Manifest.Seq); last == nil {
			return nil
		}
	}
	if len(entries) == 0 {
		return x.may(1)
	}
	return last
}

// NotANotaryError says that a key is not of a notary, or does not count for a snapshot.
// It is manifest.ErrUntrusted.
type NotANotaryError struct{ text string }

func (e *NotANotaryError) Error() string        { return e.text }
func (e *NotANotaryError) Is(target error) bool { return target == manifest.ErrUntrusted }

// may makes sure that the keys may notarize manifest seq.
func (x *notarizing) may(seq int64) error {
	notaries := x.Archive.Policy.Notaries(seq)
	for _, s := range x.Signers {
		if nameOf(notaries, s.Key()) == "" {
			return &NotANotaryError{fmt.Sprintf("snapshot: key %s cannot notarize snapshot %d; %s", x.describe(s.Key()), seq, whoMay(notaries))}
		}
	}
	return nil
}

// whoMay names notaries, for people.
func whoMay(notaries []manifest.PolicyKey) string {
	if len(notaries) == 0 {
		return "the policy has no notary for it"
	}
	var names []string
	for _, k := range notaries {
		names = append(names, k.Name)
	}
	return "notaries of the policy are " + strings.Join(names, ", ")
}

// nameOf returns the name a policy has for a key; "": none.
func nameOf(keys []manifest.PolicyKey, key manifest.PublicKey) string {
	for _, k := range keys {
		if other, err := k.Key(); err == nil && other == key {
			return k.Name
		}
	}
	return ""
}

// describe says what the newest policy knows of a key.
func (x *notarizing) describe(key manifest.PublicKey) string {
	for _, k := range x.Archive.Policy.Keys {
		if other, err := k.Key(); err == nil && other == key {
			text := fmt.Sprintf("%s (%s", k.Name, k.Role)
			if k.Revoked != 0 {
				text += fmt.Sprintf(", revoked from snapshot %d on", k.Revoked)
			}
			return text + ")"
		}
	}
	return fmt.Sprintf("sha256:%s, which is not in the policy,", key.ID())
}

// due notes what is known of each snapshot, and returns the places of those to read.
func (x *notarizing) due(ctx context.Context, entries []Entry) ([]int, error) {
	prefix, newest := manifest.NotarizationFolder+"/", int64(len(entries))
	if x.Snapshot != "" {
		newest = entries[0].Manifest.Seq
		prefix = manifest.NotarizationsOf(newest)
	}
	claims, err := x.Archive.claims(ctx, prefix, newest)
	if err != nil {
		return nil, err
	}
	var due []int
	for i, e := range entries {
		s := NotarizeSnapshot{Seq: e.Manifest.Seq, Snapshot: e.Manifest.Snapshot, Digest: e.Digest, Totals: e.Manifest.Totals}
		good, notes, err := x.Archive.notarizations(ctx, e, claims[s.Seq])
		if err != nil {
			return nil, err
		}
		x.report.Notes = append(x.report.Notes, notes...)
		before := slices.IndexFunc(good, func(n Notarized) bool { return x.enough(e, n) })
		switch err := x.may(s.Seq); {
		case err != nil:
			s.State = Unread
			x.note("%v", err)
		case before >= 0:
			s.State, s.Name = NotarizedBefore, good[before].Name
		default:
			s.State = Due
			due = append(due, i)
		}
		x.report.Snapshots = append(x.report.Snapshots, s)
	}
	return due, nil
}

// enough reports whether a notarization says by the same keys what the run would.
func (x *notarizing) enough(e Entry, n Notarized) bool {
	notaries := x.Archive.Policy.Notaries(e.Manifest.Seq)
	for _, s := range x.Signers {
		if !slices.Contains(n.By, nameOf(notaries, s.Key())) {
			return false
		}
	}
	return n.depth() >= Notarized{Level: x.Level.String()}.depth()
}

// entry reads a snapshot and notarizes it. Its error ends the run.
func (x *notarizing) entry(ctx context.Context, e Entry, s *NotarizeSnapshot) error {
	started := stamp(x.Now)
	check := Verify{Archive: x.Archive, Level: x.Level, Workers: x.Workers, Now: x.Now, Progress: x.Progress}
	report, found, err := check.one(ctx, e)
	switch {
	case errors.Is(err, archive.ErrFrozen):
		s.State = Unread
		x.problems = append(x.problems, err)
		return nil
	case err != nil && !isProblem(err):
		return err
	}
	if found = errors.Join(found, err); found == nil {
		found = closes(report, x.Level, e)
	}
	if found != nil {
		s.State = Refused
		x.problems = append(x.problems, fmt.Errorf("snapshot: snapshot %d is not notarized: %w", s.Seq, found))
		return nil
	}
	sealed, err := manifest.SealNotarization(ctx, &manifest.Notarization{
		Format: manifest.Format, Archive: x.Archive.Policy.ID(), Seq: s.Seq, Digest: e.Digest, Snapshot: s.Snapshot,
		Level: x.Level.String(), Totals: e.Manifest.Totals, Started: started, Finished: stamp(x.Now), Tool: x.Tool, Build: x.Build,
	}, x.Signers...)
	if err != nil {
		return sealing(err)
	}
	return x.put(ctx, e, sealed, s)
}

// isProblem reports whether an error that ended a verification is about what it read:
// too many problems.
func isProblem(err error) bool {
	return !errors.Is(err, archive.ErrUnavailable) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// closes makes sure that as much was read as the manifest names: only that is signed.
func closes(r *Report, level Level, e Entry) error {
	var chunks, rows, decoded int64
	for _, t := range r.Tables {
		chunks, rows, decoded = chunks+t.Chunks, rows+t.Rows, decoded+t.Decoded
	}
	want := e.Manifest.Totals
	if chunks != want.Chunks || rows != want.Rows || level == Rows && decoded != want.Rows {
		return fmt.Errorf("%d chunks with %d rows were read, the manifest names %d with %d: %w", chunks, decoded, want.Chunks, want.Rows, archive.ErrCorrupt)
	}
	return nil
}

// put stores a notarization under the first name that is free: anybody may have put
// something under those before it.
func (x *notarizing) put(ctx context.Context, e Entry, sealed []byte, s *NotarizeSnapshot) error {
	lock := x.lock(e)
	for n := int64(1); n <= manifest.MaxTries; n++ {
		name := manifest.NotarizationName(s.Seq, n)
		err := x.putOne(ctx, name, sealed, lock)
		if errors.Is(err, fs.ErrExist) {
			there, _, err := x.Archive.notarization(ctx, e, n)
			if err != nil {
				return err
			}
			if there != nil && x.enough(e, *there) { // another run of this notary was quicker
				s.State, s.Name = NotarizedBefore, name
				return nil
			}
			continue
		}
		if errors.Is(err, ErrWeaker) {
			x.problems = append(x.problems, fmt.Errorf("snapshot: %w", err))
			err = nil
		}
		if err == nil {
			s.State, s.Name = NotarizedNow, name
		}
		return err
	}
	return fmt.Errorf("something else is under all of the %d names from %s on; have it removed: %w",
		manifest.MaxTries, manifest.NotarizationName(s.Seq, 1), manifest.ErrLimit)
}

// lock is how a notarization is locked: like the archive's own objects, and at least
// as its snapshot was signed to be.
func (x *notarizing) lock(e Entry) archive.Lock {
	if _, ok := x.Archive.Store.(archive.Locker); !ok {
		return archive.Lock{}
	}
	signed := lockOf(e.Manifest.Retention)
	if !signed.Until.After(x.Now()) {
		return x.own
	}
	return firmest(x.own, signed)
}

// putOne stores a notarization. A copy may be in a store that cannot lock objects as
// the original could: there it is not locked, and said so.
func (x *notarizing) putOne(ctx context.Context, name string, sealed []byte, lock archive.Lock) error {
	_, err := putWith(ctx, x.Archive.Store, name, sealed, archive.PutOptions{Lock: lock})
	if errors.Is(err, errors.ErrUnsupported) && lock.Mode != archive.Unlocked && x.own.Mode == archive.Unlocked {
		x.note("%s is not locked %s, as its snapshot is signed to be: %v", name, lockText(lock), err)
		lock = archive.Lock{}
		_, err = putWith(ctx, x.Archive.Store, name, sealed, archive.PutOptions{})
	}
	if err != nil {
		return err
	}
	return locked(ctx, x.Archive.Store, name, lock)
}

func (x *notarizing) note(format string, args ...any) {
	x.report.Notes = append(x.report.Notes, fmt.Sprintf(format, args...))
}
