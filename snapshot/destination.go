package snapshot

import (
	"bytes"
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
	"golang.org/x/sync/errgroup"
)

// destination is one of the archives an export writes to, and what it holds of the
// snapshot so far.
type destination struct {
	*Archive
	signers []manifest.Signer // of this archive; the first is an exporter
	several bool              // errors have to say which archive they are about
	policy  *manifest.Policy  // the version in force for the snapshot
	now     func() time.Time

	plan     *manifest.Plan
	sealed   []byte // the plan of a new snapshot; nil: it is stored
	planHash manifest.Hash
	lock     archive.Lock // what the snapshot's objects are to be locked with at least
	explicit bool         // that has to be said with every object: the bucket does not do it unasked
	done     *Entry       // the snapshot is there

	results  [][]rangeResult // by table and range
	warnings []string

	mu   sync.Mutex
	sure map[string]bool // objects that were put with the lock, or were seen to have it
}

// rangeResult is a finished range: its page, and what the manifest says of it.
type rangeResult struct {
	ref  manifest.PageRef
	page *manifest.Page
}

// destinations checks that the archives can be exported to, and finds who signs
// in each.
func destinations(ctx context.Context, archives []*Archive, signers []manifest.Signer, now func() time.Time) ([]*destination, error) {
	if len(archives) == 0 {
		return nil, errors.New("no archive to write to")
	}
	var all []*destination
	used := map[manifest.PublicKey]bool{}
	for i, a := range archives {
		for _, other := range archives[:i] {
			if other.Policy.ID() == a.Policy.ID() {
				return nil, fmt.Errorf("%s and %s are the same archive, which has one chain of snapshots; export to one and copy it", other, a)
			}
		}
		own := a.own()
		d := &destination{Archive: own, several: len(archives) > 1, now: now, sure: map[string]bool{}}
		var err error
		if d.policy, _, err = own.InForce(ctx); err != nil {
			return nil, d.blame(err)
		}
		for _, s := range signers {
			if len(archives) == 1 || signsIn(d.policy, s) != "" {
				d.signers = append(d.signers, s)
				used[s.Key()] = true
			}
		}
		if err := d.policy.Check(d.signers...); err != nil {
			return nil, d.blame(err)
		}
		slices.SortStableFunc(d.signers, func(s, t manifest.Signer) int {
			return strings.Compare(signsIn(d.policy, s), signsIn(d.policy, t)) // exporter before notary
		})
		all = append(all, d)
	}
	for _, s := range signers {
		if !used[s.Key()] {
			return nil, fmt.Errorf("key sha256:%s may sign in none of the archives: %w", s.Key().ID(), manifest.ErrUntrusted)
		}
	}
	return all, nil
}

// signsIn returns the role a key has in a policy, "" for none.
func signsIn(p *manifest.Policy, s manifest.Signer) string {
	for _, k := range p.Keys {
		if key, err := k.Key(); err == nil && key == s.Key() {
			return k.Role
		}
	}
	return ""
}

// blame says which of several archives an error is about.
func (d *destination) blame(err error) error {
	if err == nil || !d.several {
		return err
	}
	return fmt.Errorf("%s: %w", d.Archive, err)
}

// settle finds out what a snapshot begun at a time is to be retained with: what is
// asked, at least what the archive's signed default says, and where nothing is
// asked what the bucket does of itself.
func (d *destination) settle(ctx context.Context, asked term, started time.Time) (archive.Lock, error) {
	settings, err := d.Settings(ctx)
	if err != nil {
		return archive.Lock{}, err
	}
	signed := signedTerm(settings)
	if settings == nil {
		if signed, err = d.lastTerm(ctx); err != nil {
			return archive.Lock{}, err
		}
	}
	asked = asked.or(signed)
	if asked == (term{}) {
		bucket, err := bucketTerm(ctx, d.Store)
		// Clocks may differ, and the bucket counts from its own.
		return bucket.lock(started.Add(-skew)), err
	}
	if err := asked.check(); err != nil {
		return archive.Lock{}, fmt.Errorf("snapshot: export: %w", err)
	}
	if !asked.lock(started).Covers(signed.lock(started)) {
		return archive.Lock{}, fmt.Errorf("snapshot: export: retention %s is less than the %s of %s", asked, signed, d.Archive)
	}
	return asked.lock(started), nil
}

// lastTerm is how the newest snapshot was signed to be retained. It stands in for
// the report of an archive that has none: a copy, or one somebody took it from.
func (d *destination) lastTerm(ctx context.Context) (term, error) {
	chain, err := d.Chain(ctx)
	if err != nil || len(chain) == 0 {
		return term{}, err
	}
	newest := chain[len(chain)-1].Manifest
	lock := lockOf(newest.Retention)
	if lock.Mode == archive.Unlocked {
		return term{}, nil
	}
	days := lock.Until.Sub(newest.Started.Time).Round(24*time.Hour) / (24 * time.Hour)
	return term{lock.Mode, archive.Period{Days: max(int(days), 1)}}, nil
}

// begin makes the plan of a new snapshot, and refuses one that the archive cannot
// retain as asked. It writes nothing.
func (d *destination) begin(ctx context.Context, common *manifest.Plan, asked term) error {
	lock, err := d.settle(ctx, asked, common.Started.Time)
	if err != nil {
		return err
	}
	plan := *common
	plan.Archive, plan.Retention = d.Policy.ID(), retentionOf(lock)
	d.sealed, err = manifest.SealPlan(ctx, &plan, d.signers[0])
	if err != nil {
		return fmt.Errorf("snapshot: plan: %w", sealing(err))
	}
	return d.use(ctx, &plan, d.sealed)
}

// writePlan stores the plan of a new snapshot.
func (d *destination) writePlan(ctx context.Context) error {
	opts := archive.PutOptions{SHA256: d.planHash, Lock: d.asked()}
	if err := d.Store.Put(ctx, manifest.PlanName(d.plan.Snapshot), bytes.NewReader(d.sealed), opts); err != nil {
		return fmt.Errorf("snapshot: plan: %w", err)
	}
	d.sealed = nil
	return d.confirm(ctx)
}

// use sets the plan to go by.
func (d *destination) use(ctx context.Context, plan *manifest.Plan, sealed []byte) error {
	d.plan, d.planHash, d.lock = plan, manifest.Sum(sealed), lockOf(plan.Retention)
	d.results = make([][]rangeResult, len(plan.Tables))
	for i, t := range plan.Tables {
		d.results[i] = make([]rangeResult, len(t.Ranges))
	}
	if d.lock.Mode == archive.Unlocked {
		return nil
	}
	if !d.lock.Until.After(d.now()) {
		return fmt.Errorf("snapshot: export: %s, begun %s, was to be retained until %s, and that has passed; begin a new export",
			plan.Snapshot, plan.Started, plan.Retention.Until)
	}
	bucket, err := bucketTerm(ctx, d.Store)
	_, locker := d.Store.(archive.Locker)
	switch {
	case err == nil && bucket.lock(plan.Started.Time).Covers(d.lock):
		return nil
	case locker: // whatever the bucket does, and whether or not it may be asked
		d.explicit = true
		return nil
	case err != nil:
		return fmt.Errorf("snapshot: export: %w", err)
	}
	return fmt.Errorf("snapshot: export: retention %s: %w", lockText(d.lock), tooWeak(ctx, d.Store, bucket))
}

// asked is the lock to put objects with.
func (d *destination) asked() archive.Lock {
	if !d.explicit {
		return archive.Lock{}
	}
	return d.lock
}

// confirm makes sure, on the plan, that objects are locked as they are asked to
// be, before there are more. Where the bucket was to do it and does less than it
// says, or does not show it, every object is asked for.
func (d *destination) confirm(ctx context.Context) error {
	name := manifest.PlanName(d.plan.Snapshot)
	found, known, err := observed(ctx, d.Store, name)
	if err != nil {
		return fmt.Errorf("snapshot: plan: %w", err)
	}
	if known && !found.Covers(d.lock) {
		_, d.explicit = d.Store.(archive.Locker)
	}
	return d.makeSure(ctx, name)
}

// makeSure sees to it that an object is locked.
func (d *destination) makeSure(ctx context.Context, name string) error {
	if d.lock.Mode == archive.Unlocked || d.isSure(name) {
		return nil
	}
	if err := locked(ctx, d.Store, name, d.lock); err != nil {
		return fmt.Errorf("snapshot: retention of %w", err)
	}
	d.setSure(name)
	return nil
}

func (d *destination) isSure(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sure[name]
}

func (d *destination) setSure(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sure[name] = true
}

// put stores an object of the snapshot. One that is there with the same bytes is as
// good. How it is locked has to be looked at before the manifest says so, unless it
// was put with the lock: what the bucket does unasked may be changed at any time.
func (d *destination) put(ctx context.Context, name string, data []byte, bulk bool) error {
	before, err := putWith(ctx, d.Store, name, data, archive.PutOptions{Lock: d.asked(), Bulk: bulk})
	if err == nil && !before && d.explicit {
		d.setSure(name)
	}
	return err
}

// take reads what the archive holds of the snapshot with that id: its manifest, its
// plan, or neither.
func (d *destination) take(ctx context.Context, chain []Entry, id string) error {
	d.done = committed(chain, id)
	sealed, err := archive.ReadAll(ctx, d.Store, manifest.PlanName(id), manifest.MaxPlan)
	if isNotExist(err) && d.done == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("snapshot: resume %s: %w", id, missing(manifest.PlanName(id), err))
	}
	policy := d.policy
	if d.done != nil {
		policy = d.Policy.At(d.done.Manifest.Seq)
	}
	plan, err := manifest.OpenPlan(sealed, policy)
	if err != nil {
		return fmt.Errorf("snapshot: resume %s: %w", id, err)
	}
	if plan.Snapshot != id {
		return fmt.Errorf("snapshot: resume %s: its plan is of %s: %w", id, plan.Snapshot, manifest.ErrInvalid)
	}
	if d.done != nil {
		d.plan, d.lock = plan, lockOf(d.done.Manifest.Retention)
		return nil
	}
	if err := d.use(ctx, plan, sealed); err != nil {
		return err
	}
	return d.confirm(ctx)
}

// finishedRange reads the page of a range. None is fs.ErrNotExist.
func (d *destination) finishedRange(ctx context.Context, table, n int) error {
	t := d.plan.Tables[table]
	name := manifest.PageName(d.plan.Snapshot, t.Table.Name, int64(n))
	sealed, err := archive.ReadAll(ctx, d.Store, name, manifest.MaxPage)
	if err != nil {
		return err
	}
	page, err := manifest.OpenPage(sealed, d.policy)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	ref := page.Ref(sealed)
	ref.Range, ref.From, ref.To = int64(n), t.Ranges[n].From, t.Ranges[n].To
	m := &manifest.Manifest{Archive: d.Policy.ID(), Snapshot: d.plan.Snapshot}
	if err := page.Matches(m, manifest.TableEntry{Table: t.Table}, ref); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	d.results[table][n] = rangeResult{ref: ref, page: page}
	return nil
}

// writePage signs the chunks of a range, unless another run of this export was
// first: what is stored counts.
func (d *destination) writePage(ctx context.Context, table, n int, chunks []manifest.Chunk) error {
	t := d.plan.Tables[table]
	page := &manifest.Page{
		Format: d.plan.Format, Archive: d.Policy.ID(), Snapshot: d.plan.Snapshot,
		Table: t.Table.Name, Range: int64(n), From: t.Ranges[n].From, To: t.Ranges[n].To, Chunks: chunks,
	}
	for _, c := range chunks {
		page.Totals.Add(c.Totals())
	}
	sealed, err := manifest.SealPage(ctx, page, d.signers[0])
	if err != nil {
		return fmt.Errorf("page: %w", sealing(err))
	}
	name := manifest.PageName(d.plan.Snapshot, t.Table.Name, int64(n))
	if err := d.put(ctx, name, sealed, false); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.finishedRange(ctx, table, n)
}

// complete makes sure that every object the manifest will stand for is there, and
// retained as it will say.
func (d *destination) complete(ctx context.Context) error {
	sizes, err := listSizes(ctx, d.Store, snapshotPrefix(d.plan.Snapshot))
	if err != nil {
		return err
	}
	objects := d.objects()
	for _, object := range objects {
		size, ok := sizes[object.Name]
		if !ok {
			return fmt.Errorf("snapshot: commit: %s: %w", object.Name, ErrMissing)
		}
		if object.Size >= 0 && size != object.Size {
			return fmt.Errorf("snapshot: commit: %s has %d bytes, not %d: %w", object.Name, size, object.Size, archive.ErrCorrupt)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for _, object := range objects {
		group.Go(func() error { return d.makeSure(ctx, object.Name) })
	}
	return group.Wait()
}

// objects lists what the snapshot is made of, its manifest aside.
func (d *destination) objects() []manifest.Object {
	planned := manifest.Manifest{Snapshot: d.plan.Snapshot, Plan: d.planHash}
	objects := []manifest.Object{planned.PlanObject()}
	for i, ranges := range d.results {
		name := d.plan.Tables[i].Table.Name
		for n, r := range ranges {
			objects = append(objects, manifest.Object{
				Name: manifest.PageName(d.plan.Snapshot, name, int64(n)), Size: r.ref.Size, SHA256: r.ref.SHA256,
			})
			for _, c := range r.page.Chunks {
				objects = append(objects, manifest.ChunkObject(d.plan.Snapshot, name, c))
			}
		}
	}
	return objects
}

// commit makes the results a snapshot, unless a rival run of the same export has
// done so. The policy is looked at again right before, and the last time when the
// manifest is signed: one put under a version that has been replaced would be void.
func (d *destination) commit(ctx context.Context, m *manifest.Manifest) error {
	for {
		chain, err := d.Chain(ctx)
		if err != nil {
			return err
		}
		if d.done = committed(chain, m.Snapshot); d.done != nil {
			return nil
		}
		m.Seq, m.Prev = int64(len(chain))+1, manifest.Hash{}
		if len(chain) > 0 {
			m.Prev = chain[len(chain)-1].Digest
		}
		if err := d.stillInForce(ctx, m.Seq); err != nil {
			return err
		}
		m.Policy = d.policy.Digest()
		m.Finished = stamp(d.now)
		if m.Finished.Before(m.Started.Time) {
			m.Finished = m.Started // the clock was set back, or is another host's
		}
		sealed, err := manifest.Seal(ctx, m, d.signers...)
		if err != nil {
			return fmt.Errorf("snapshot: seal manifest %d: %w", m.Seq, sealing(err))
		}
		if err := d.stillInForce(ctx, m.Seq); err != nil {
			return err
		}
		err = d.put(ctx, manifest.ManifestName(m.Seq), sealed, false)
		if errors.Is(err, fs.ErrExist) {
			continue // another exporter took this number
		}
		if err != nil {
			return fmt.Errorf("snapshot: store manifest %d: %w", m.Seq, err)
		}
		d.done = &Entry{Manifest: m, Digest: manifest.Sum(sealed), Size: int64(len(sealed))}
		return nil
	}
}

// stillInForce makes sure that what was signed so far is signed as the version of the
// policy that is in force for manifest seq asks.
func (d *destination) stillInForce(ctx context.Context, seq int64) error {
	if err := d.renewed(ctx); err != nil {
		return err
	}
	if now := d.Policy.At(seq); !now.Alike(d.policy) {
		return fmt.Errorf("snapshot: commit: the policy has changed since the export began: for snapshot %d version %d is in force; resume the export with the keys that count there, or begin a new one if the key that signed its plan does not", seq, now.Version)
	}
	return nil
}

// manifest states the results, with the place in the chain and the policy left open.
func (d *destination) manifest(tool, build string) *manifest.Manifest {
	m := &manifest.Manifest{
		Format:      d.plan.Format,
		Archive:     d.Policy.ID(),
		Snapshot:    d.plan.Snapshot,
		Tool:        tool,
		Build:       build,
		Instance:    d.plan.Instance,
		Started:     d.plan.Started,
		Consistency: manifest.Consistency{Kind: "window", Positions: []string{}},
		Plan:        d.planHash,
		Retention:   d.plan.Retention,
	}
	if m.Retention.Mode == "" {
		m.Retention.Mode = manifest.NoRetention
	}
	for i, ranges := range d.results {
		entry := manifest.TableEntry{Table: d.plan.Tables[i].Table}
		var tree manifest.Tree
		for _, r := range ranges {
			entry.Pages = append(entry.Pages, r.ref)
			entry.Totals.Add(r.ref.Totals)
			for _, line := range r.page.Lines() {
				tree.Add(manifest.LeafHash(line))
			}
		}
		entry.Root = tree.Root()
		m.Tables = append(m.Tables, entry)
		m.Totals.Add(entry.Totals)
	}
	return m
}

// protect makes the archive's own objects stay as long as the snapshot does, which
// nobody can read without them. Whoever exports may lack the right to: the
// snapshot stands without it.
func (d *destination) protect(ctx context.Context) {
	if _, ok := d.Store.(archive.Locker); !ok || d.lock.Mode == archive.Unlocked {
		return
	}
	for _, name := range ownObjects(d.Policy) {
		err := locked(ctx, d.Store, name, d.lock)
		if errors.Is(err, ErrMissing) && name == manifest.StoreName(d.Policy.ID()) {
			continue
		}
		if err != nil {
			d.warn("the snapshot is retained, and needs this as long: %v", err)
		}
	}
	if err := locked(ctx, d.Store, manifest.ManifestName(d.done.Manifest.Seq), d.lock); err != nil {
		d.warn("the snapshot is there, and its manifest is not retained as it says: %v", err)
	}
}

// ownObjects are the objects every snapshot of an archive needs to be read.
func ownObjects(p *manifest.Policy) []string {
	names := []string{manifest.StoreName(p.ID())}
	for version := range p.Version {
		names = append(names, manifest.PolicyName(version+1))
	}
	for _, f := range p.Files {
		names = append(names, f.Name)
	}
	return names
}

func (d *destination) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if d.several {
		text = d.String() + ": " + text
	}
	d.warnings = append(d.warnings, text)
}

// sweep removes what dead runs of this export left behind: with the snapshot
// committed, no page can name those objects any more. Objects that are retained
// stay, and so does everything if the store fails: the snapshot stands without
// this, and verify names what is left over.
func (d *destination) sweep(ctx context.Context) {
	named := map[string]bool{}
	for _, object := range d.objects() {
		named[object.Name] = true
	}
	for object, err := range d.Store.List(ctx, snapshotPrefix(d.plan.Snapshot)) {
		if err != nil {
			return
		}
		if !named[object.Name] && strings.HasSuffix(object.Name, ".parquet") {
			_ = d.Store.Delete(ctx, object.Name)
		}
	}
}
