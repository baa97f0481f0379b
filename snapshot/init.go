package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// Setup is what a new archive is to be.
type Setup struct {
	Kind string // of the store, for its report: dir, s3, oss

	// Mode and Period are what every snapshot of the archive is retained with at
	// least, from the start of its export on; none of them: nothing is asked.
	Mode   archive.Mode
	Period archive.Period

	// Found is told what to trust about the archive before there is one, so that
	// whoever is interrupted knows its id; an error ends Init. Nil: nobody is told.
	Found func(manifest.Trust) error

	Now func() time.Time // nil: time.Now
}

func (s Setup) term() term { return term{s.Mode, s.Period} }

// Initiated is a new archive.
type Initiated struct {
	Trust        manifest.Trust
	Capabilities []archive.Capability // of the store, as they are in the archive's report
	Warnings     []string             // what could not be done; the archive is one without it
}

// capabilityNames are all that a report of a store tells of.
var capabilityNames = []string{
	archive.CanCreateOnly, archive.CanChecksum, archive.CanVersion, archive.CanLock,
	archive.CanHold, archive.CanBucketLock, archive.CanTier, archive.CanEncrypt,
}

// Init makes an archive in the store: the texts for readers without otsnap, which
// the policy names; a report of what the store can do, found out by trying; and
// the policy, signed by signers, which comes last and makes it an archive. An
// archive that exists is fs.ErrExist; what an interrupted Init of the same release
// left behind is not in the way.
//
// A store that would overwrite objects, or cannot give the retention asked for, is
// errors.ErrUnsupported: then there is nothing but the texts.
func Init(ctx context.Context, store archive.Store, policy *manifest.Policy, setup Setup, signers ...manifest.Signer) (Initiated, error) {
	if setup.Now == nil {
		setup.Now = time.Now
	}
	made, err := initiate(ctx, store, policy, setup, signers)
	if err != nil {
		return Initiated{}, fmt.Errorf("snapshot: new archive: %w", err)
	}
	return made, nil
}

func initiate(ctx context.Context, store archive.Store, policy *manifest.Policy, setup Setup, signers []manifest.Signer) (Initiated, error) {
	sealed, err := manifest.SealPolicy(ctx, policy, signers...)
	if err != nil {
		return Initiated{}, err
	}
	id, err := manifest.PolicyID(sealed)
	if err != nil {
		return Initiated{}, err
	}
	if err := setup.possible(ctx, store); err != nil {
		return Initiated{}, err
	}
	if err := absent(ctx, store); err != nil {
		return Initiated{}, err
	}
	for _, f := range manifest.Files() {
		if err := put(ctx, store, f.Name, f.Data); err != nil {
			return Initiated{}, err
		}
	}
	found, err := probe(ctx, store)
	if err != nil {
		return Initiated{}, err
	}
	if err := setup.check(found); err != nil {
		return Initiated{}, err
	}
	report, err := manifest.SealStore(ctx, setup.report(id, found), signers...)
	if err != nil {
		return Initiated{}, err
	}
	made := Initiated{Trust: manifest.Trust{Archive: id}, Capabilities: found}
	if setup.Found != nil {
		if err := setup.Found(made.Trust); err != nil {
			return Initiated{}, err
		}
	}
	lock, name := setup.lock(store), manifest.StoreName(id)
	if err := place(ctx, store, lock, name, report, sealed); err != nil {
		return Initiated{}, err
	}
	if err := errors.Join(locked(ctx, store, name, lock), locked(ctx, store, manifest.PolicyName(1), lock)); err != nil {
		made.Warnings = []string{err.Error()}
	}
	return made, nil
}

// possible refuses a retention that the store says it cannot give, before
// anything is written.
func (s Setup) possible(ctx context.Context, store archive.Store) error {
	if err := s.term().check(); err != nil || s.term().isZero() {
		return err
	}
	if _, ok := store.(archive.Locker); ok {
		return nil
	}
	bucket, err := bucketTerm(ctx, store)
	if err != nil {
		return err
	}
	if bucket.covers(s.term(), s.Now()) {
		return nil
	}
	return fmt.Errorf("retention %s: %w", s.term(), tooWeak(ctx, store, bucket))
}

// tooWeak says that a store which cannot lock objects one by one does not retain
// them as asked either.
func tooWeak(ctx context.Context, store archive.Store, bucket term) error {
	if b, ok := store.(archive.BucketLocker); ok && bucket.isZero() {
		if lock, err := b.BucketLock(ctx); err == nil && lock.State == archive.BucketOpen && !lock.Expired {
			return fmt.Errorf("the store cannot lock single objects, and the lock of its bucket, of %d days, is not final: complete it before %s, or it is void: %w",
				lock.Days, manifest.At(lock.Deadline), errors.ErrUnsupported)
		}
	}
	if bucket.isZero() {
		return fmt.Errorf("the store cannot lock objects, and nothing retains all of its bucket: %w", errors.ErrUnsupported)
	}
	return fmt.Errorf("the store cannot lock single objects, and its bucket retains them %s, which is less; extend the bucket's lock first: %w",
		bucket, errors.ErrUnsupported)
}

// probe finds out what the store can do, trying on the first text. What it does
// not tell is unknown.
func probe(ctx context.Context, store archive.Store) ([]archive.Capability, error) {
	var found []archive.Capability
	detail := "the store cannot tell"
	if p, ok := store.(archive.Prober); ok {
		var err error
		if found, err = p.Probe(ctx, manifest.Files()[0].Name); err != nil {
			return nil, fmt.Errorf("finding out what the store can do: %w", err)
		}
		detail = "not found out"
	}
	for _, name := range capabilityNames {
		if !slices.ContainsFunc(found, func(c archive.Capability) bool { return c.Name == name }) {
			found = append(found, archive.Capability{Name: name, State: archive.Unknown, Detail: detail})
		}
	}
	return found, nil
}

// check refuses a store that cannot do what an archive, or this one, needs.
func (s Setup) check(found []archive.Capability) error {
	for _, c := range found {
		if c.State != archive.Absent {
			continue
		}
		switch {
		case c.Name == archive.CanCreateOnly:
			return fmt.Errorf("the store lets objects be overwritten: a second write of %s was to be refused and was not%s; an archive needs a store that is %s: %w",
				manifest.Files()[0].Name, inBrackets(c.Detail), c.Name, errors.ErrUnsupported)
		case c.Name == archive.CanLock && !s.term().isZero() && !s.byBucket(found):
			return fmt.Errorf("retention %s: the bucket has no %s%s: %w", s.term(), c.Name, inBrackets(c.Detail), errors.ErrUnsupported)
		}
	}
	return nil
}

// byBucket reports whether the bucket as a whole may be what retains objects. That
// its lock covers what is asked was seen before.
func (s Setup) byBucket(found []archive.Capability) bool {
	return slices.ContainsFunc(found, func(c archive.Capability) bool {
		return c.Name == archive.CanBucketLock && c.State == archive.Supported
	})
}

func inBrackets(detail string) string {
	if detail == "" {
		return ""
	}
	return " (" + detail + ")"
}

func (s Setup) report(id manifest.Hash, found []archive.Capability) *manifest.Store {
	st := &manifest.Store{
		Format: manifest.Format, Archive: id, Created: stamp(s.Now), Kind: s.Kind, Retention: storeRetention(s.term()),
	}
	for _, c := range found {
		st.Capabilities = append(st.Capabilities, manifest.Capability{Name: c.Name, State: string(c.State), Detail: c.Detail})
	}
	return st
}

// lock is what the archive's own objects are locked with, none where the store
// cannot lock single objects: its bucket then retains them.
func (s Setup) lock(store archive.Store) archive.Lock {
	if _, ok := store.(archive.Locker); !ok {
		return archive.Lock{}
	}
	return s.term().lock(s.Now())
}

// place puts the report and then the policy. The report is locked once the policy
// is there, so that an Init which ends in between leaves nothing that stays.
func place(ctx context.Context, store archive.Store, lock archive.Lock, name string, report, policy []byte) error {
	for _, f := range manifest.Files() {
		if err := locked(ctx, store, f.Name, lock); err != nil {
			return err
		}
	}
	if err := put(ctx, store, name, report); err != nil {
		return err
	}
	return store.Put(ctx, manifest.PolicyName(1), bytes.NewReader(policy), archive.PutOptions{SHA256: manifest.Sum(policy), Lock: lock})
}

// Settings is the signed report of the archive's store, nil where there is none:
// the archive was made by an older version, or somebody removed it.
func (a *Archive) Settings(ctx context.Context) (*manifest.Store, error) {
	sealed, err := archive.ReadAll(ctx, a.Store, manifest.StoreName(a.Policy.ID()), manifest.MaxStore)
	if isNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot: %s: %w", manifest.StoreName(a.Policy.ID()), err)
	}
	st, err := manifest.OpenStore(sealed, a.Policy)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %s: %w", manifest.StoreName(a.Policy.ID()), err)
	}
	return st, nil
}
