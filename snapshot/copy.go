package snapshot

import (
	"bytes"
	"cmp"
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

// Copy brings an archive, or some of its snapshots, into another store. The copy
// is the same archive: every object has the bytes it has in the source, with the
// signatures in them, and so the same id, keys and chain.
//
// Nothing is put that was not checked against what was signed, nothing that is
// there is overwritten, and a manifest comes after everything it names. So a copy
// that was interrupted claims no snapshot that is not whole, and running it again
// goes on with it. Whatever is there already is compared: by the digest the
// store's server vouches for, or by reading it.
//
// Readers need the whole chain. So where some snapshots are chosen, the others up
// to the newest of them come as their manifest alone, and the report says so.
//
// What the source's storage could do (manifest.StoreName) is no part of a copy,
// nor are unfinished exports and objects that no manifest names, but for what was said
// about snapshots later: good notarizations, time stamps and receipts. A copy has no
// settings of its own: what an export into it is to be retained with, that export
// says.
//
// It holds a page and a chunk in memory for each worker.
type Copy struct {
	From      *Archive
	To        archive.Store
	Snapshots []string // as Find takes them; none: all of them
	Workers   int      // chunks in work at once; 0: DefaultWorkers

	// Seen is what was seen of the copy earlier; zero: nothing. A copy, or a
	// source, that contradicts it is manifest.ErrRollback.
	Seen manifest.Trust

	// Lock is how firmly and how long everything that is copied, or is there
	// already, is to be locked at least: a store that cannot do it is refused with
	// errors.ErrUnsupported. What a manifest was signed with is kept where it is
	// more, and where Lock is zero as far as the store can. Where only the bucket
	// retains objects, what was there before keeps the end it has; the report counts
	// it as Unretained. Lock puts no legal hold.
	Lock archive.Lock

	Now      func() time.Time
	Progress func(Event)
}

// CopyReport says what a copy holds now.
type CopyReport struct {
	Kind     string        `json:"kind"` // copy
	Archive  manifest.Hash `json:"archive"`
	Seq      int64         `json:"seq"`      // of the newest snapshot whose manifest the copy holds; 0: none
	Snapshot string        `json:"snapshot"` // likewise
	Digest   manifest.Hash `json:"digest"`   // of that manifest's object
	Started  manifest.Time `json:"started"`
	Finished manifest.Time `json:"finished"`

	Snapshots []CopiedSnapshot `json:"snapshots"` // of the source, by number

	Copied  Count `json:"copied"`
	Present Count `json:"present"` // there already, with the bytes that were signed
	Frozen  Count `json:"frozen"`  // not copied: in an archive tier of the source

	Relocked    int64 `json:"relocked"`    // objects locked more firmly or longer than they were found
	Unretained  int64 `json:"unretained"`  // objects locked less than was signed, or asked, which this store cannot do
	Unconfirmed int64 `json:"unconfirmed"` // of Present: in an archive tier of the copy, so only their size was compared

	Notes    []string `json:"notes"`
	Problems []string `json:"problems"`
}

// CopiedSnapshot is a snapshot of the source, and what of it the copy holds.
type CopiedSnapshot struct {
	Seq      int64         `json:"seq"`
	Snapshot string        `json:"snapshot"`
	Digest   manifest.Hash `json:"digest"`
	Chosen   bool          `json:"chosen"`
	State    string        `json:"state"` // Whole, Incomplete or Absent
	Copied   Count         `json:"copied"`
	Present  Count         `json:"present"`
}

// What a copy holds of a snapshot.
const (
	Whole      = "whole"      // its manifest and everything that names
	Incomplete = "incomplete" // its manifest, and not everything that names
	Absent     = "absent"     // no manifest
)

// Count is a number of objects and their size.
type Count struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (c *Count) add(bytes int64) {
	c.Objects++
	c.Bytes += bytes
}

// Lacking returns the snapshots of the source whose rows are not in the copy.
func (r *CopyReport) Lacking() []CopiedSnapshot {
	var lacking []CopiedSnapshot
	for _, s := range r.Snapshots {
		if s.State != Whole {
			lacking = append(lacking, s)
		}
	}
	return lacking
}

// copier is a Copy under way.
type copier struct {
	Copy
	chain    []Entry        // of the source
	newest   int64          // number of the last manifest the target is to have
	locks    []archive.Lock // by number from 0: of what all later snapshots need
	begun    bool           // the target has the first policy already
	versions int64          // of the policy that the target has
	has      map[int64]bool // numbers of the manifests in the target
	ahead    []Entry        // snapshots of the target that the source does not have
	target   *target
	slots    chan struct{} // one for each chunk in work
	progress *progress

	mu       sync.Mutex
	report   *CopyReport
	frozen   string // the first object of the source found so
	problems []error
}

// Run copies. It goes on past objects that are missing, damaged or frozen in the
// source, or differ in the target, to copy as much as there is and to name what
// there is not; from then on it puts no manifest. It returns the problems joined:
// errors.Is finds ErrMissing, archive.ErrCorrupt and archive.ErrFrozen among them.
// A store that cannot be used is archive.ErrUnavailable.
//
// A target that holds another archive, or something else under the name of one
// of its texts, is fs.ErrExist, one whose chain is not that of the source is
// manifest.ErrRollback; nothing is written there then, and nothing more where it
// becomes so meanwhile. A target that has all the source has, and later snapshots of the same chain, is complete.
func (c Copy) Run(ctx context.Context) (*CopyReport, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Workers = orDefault(c.Workers, DefaultWorkers)
	x := &copier{
		Copy: c, progress: newProgress(c.Progress), slots: make(chan struct{}, c.Workers), has: map[int64]bool{},
		report: &CopyReport{
			Kind: "copy", Archive: c.From.Policy.ID(), Started: stamp(c.Now),
			Snapshots: []CopiedSnapshot{}, Notes: []string{}, Problems: []string{},
		},
	}
	if err := x.choose(ctx); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{x.sameArchive, x.sameChain, x.asSeen, x.head, x.snapshots, x.beside} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("snapshot: copy: %w", err)
		}
	}
	return x.finish()
}

// choose reads the chain of the source and settles what of it is copied.
func (x *copier) choose(ctx context.Context) error {
	var err error
	if x.chain, err = x.From.Chain(ctx); err != nil {
		return err
	}
	chosen := map[int64]bool{}
	for _, which := range x.Snapshots {
		e, err := find(x.chain, which)
		if err != nil {
			return err
		}
		chosen[e.Manifest.Seq] = true
		x.newest = max(x.newest, e.Manifest.Seq)
	}
	all := len(x.Snapshots) == 0
	if all {
		x.newest = int64(len(x.chain))
	}
	for _, e := range x.chain {
		x.report.Snapshots = append(x.report.Snapshots, CopiedSnapshot{
			Seq: e.Manifest.Seq, Snapshot: e.Manifest.Snapshot, Digest: e.Digest,
			Chosen: all || chosen[e.Manifest.Seq], State: Absent,
		})
	}
	return nil
}

// sameArchive refuses a target that is another archive.
func (x *copier) sameArchive(ctx context.Context) error {
	sealed, err := archive.ReadAll(ctx, x.To, manifest.PolicyName(1), manifest.MaxPolicy)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	x.begun = true
	if id, err := manifest.PolicyID(sealed); err == nil && id != x.From.Policy.ID() {
		return fmt.Errorf("the target holds another archive, %s; this is %s: %w", id, x.From.Policy.ID(), fs.ErrExist)
	}
	if !bytes.Equal(sealed, x.From.sealed[0]) {
		return fmt.Errorf("the target's %s is not that of this archive: %w", manifest.PolicyName(1), fs.ErrExist)
	}
	return x.samePolicy(ctx)
}

// samePolicy makes sure that the versions of the policy in the target are those of
// the source, and no more.
func (x *copier) samePolicy(ctx context.Context) (err error) {
	if x.versions, err = policyVersions(ctx, x.To); err != nil && !errors.Is(err, ErrMissing) { // what is left out is copied
		return fmt.Errorf("target: %w", err)
	}
	if have := x.From.Policy.Version; x.versions > have {
		return fmt.Errorf("the target has version %d of the policy, the source no more than %d: has the source lost it? %w", x.versions, have, manifest.ErrRollback)
	}
	for version := int64(2); version <= x.versions; version++ {
		name := manifest.PolicyName(version)
		sealed, err := archive.ReadAll(ctx, x.To, name, manifest.MaxPolicy)
		if err != nil {
			return fmt.Errorf("target: %w", missing(name, err))
		}
		if !bytes.Equal(sealed, x.From.sealed[version-1]) {
			return fmt.Errorf("the target's %s is not that of this archive: %w", name, fs.ErrExist)
		}
	}
	return nil
}

// sameChain makes sure that every manifest of the target is the one of that
// number in the source, or continues its chain.
func (x *copier) sameChain(ctx context.Context) error {
	highest := int64(0)
	for object, err := range x.To.List(ctx, "manifests/") {
		if err != nil {
			return fmt.Errorf("target: list manifests: %w", err)
		}
		if seq, ok := manifest.ParseManifestName(object.Name); ok {
			x.has[seq] = true
			highest = max(highest, seq)
		}
	}
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for _, s := range x.report.Snapshots {
		if x.has[s.Seq] {
			x.newest = max(x.newest, s.Seq)
			group.Go(func() error { return x.sameManifest(within, s) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := x.continued(ctx, highest); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return nil
}

func (x *copier) sameManifest(ctx context.Context, s CopiedSnapshot) error {
	name := manifest.ManifestName(s.Seq)
	sealed, err := archive.ReadAll(ctx, x.To, name, manifest.MaxManifest)
	if err != nil {
		return fmt.Errorf("target: %w", missing(name, err))
	}
	if manifest.Sum(sealed) == s.Digest {
		return nil
	}
	if _, err := manifest.Open(sealed, x.From.Policy); err != nil {
		return fmt.Errorf("target: %s is not the one of the source, and is not signed: %w", name, archive.ErrCorrupt)
	}
	return fmt.Errorf("target: %s is signed, and is not the one of the source: the archive has been forked: %w", name, manifest.ErrRollback)
}

// continued checks the manifests of the target that come after the source's last,
// up to number highest.
func (x *copier) continued(ctx context.Context, highest int64) error {
	last := int64(len(x.chain))
	if highest <= last {
		return nil
	}
	trust := manifest.Trust{Archive: x.From.Policy.ID()}
	if last > 0 {
		trust.Seq, trust.Head = last, x.chain[last-1].Digest
	}
	chain, err := manifest.NewChain(trust, x.From.Policy, max(last, 1))
	if err != nil {
		return err
	}
	for seq := max(last, 1); seq <= highest; seq++ {
		store, name := x.To, manifest.ManifestName(seq)
		if seq == last {
			store = x.From.Store // the target is to get it, if it does not have it
		}
		sealed, err := archive.ReadAll(ctx, store, name, manifest.MaxManifest)
		if err != nil {
			return missing(name, err)
		}
		m, err := chain.Add(sealed)
		if err != nil {
			return fmt.Errorf("%s does not continue the chain of the source: %w", name, err)
		}
		if seq > last {
			x.ahead = append(x.ahead, Entry{Manifest: m, Digest: manifest.Sum(sealed), Size: int64(len(sealed))})
		}
	}
	x.note("the target's newest snapshot is number %d, the source's number %d: has the source lost the others?", highest, last)
	return nil
}

// asSeen holds what was seen of the target earlier against what it is to be.
func (x *copier) asSeen(context.Context) error {
	if x.Seen.Archive.IsZero() {
		return nil
	}
	if x.Seen.Archive != x.From.Policy.ID() {
		return fmt.Errorf("the target was seen to hold archive %s, this is %s: %w", x.Seen.Archive, x.From.Policy.ID(), manifest.ErrUntrusted)
	}
	if x.Seen.Seq == 0 {
		return nil
	}
	digests := map[int64]manifest.Hash{}
	for _, e := range slices.Concat(x.chain, x.ahead) {
		digests[e.Manifest.Seq] = e.Digest
	}
	switch found, ok := digests[x.Seen.Seq]; {
	case !ok:
		return fmt.Errorf("manifest %d was seen in the target, and neither it nor the source has it any more: %w", x.Seen.Seq, manifest.ErrRollback)
	case found != x.Seen.Head:
		return fmt.Errorf("manifest %d was seen as %s in the target, and is %s now: the archive has been forked: %w", x.Seen.Seq, x.Seen.Head, found, manifest.ErrRollback)
	}
	return nil
}

// head copies what makes the target an archive: the texts, and then the policy.
// They are locked like the chain.
func (x *copier) head(ctx context.Context) (err error) {
	if x.target, err = newTarget(ctx, x.To, x.Lock, x.Now()); err != nil {
		return err
	}
	x.chainLocks()
	lock := x.locks[0]
	texts, err := x.texts(ctx, lock)
	if err != nil {
		return err
	}
	for _, text := range texts {
		if _, err := x.bring(ctx, text, nil); err != nil {
			return err
		}
	}
	if !x.begun && len(texts) > 0 {
		if err := x.target.probe(ctx, texts[0].Name); err != nil {
			return err
		}
	}
	for i, sealed := range x.From.sealed {
		version := int64(i) + 1
		there := x.begun && version <= x.versions
		policy := item{
			Object: manifest.Object{Name: manifest.PolicyName(version), Size: int64(len(sealed)), SHA256: manifest.Sum(sealed)},
			lock:   lock, data: sealed, listed: there, same: there, differs: x.sameArchive,
		}
		if x.failed() {
			return nil
		}
		if _, err := x.bring(ctx, policy, nil); err != nil {
			return err
		}
	}
	return nil
}

// texts lists the texts the policy names. A target that is no archive yet and
// has something else under one of their names is refused: it is not ours.
func (x *copier) texts(ctx context.Context, lock archive.Lock) ([]item, error) {
	var texts []item
	for _, f := range x.From.Policy.Files {
		text := item{Object: manifest.Object{Name: f.Name, Size: -1, SHA256: f.SHA256}, lock: lock}
		sizes, err := listSizes(ctx, x.To, f.Name)
		if err != nil {
			return nil, err
		}
		_, text.listed = sizes[f.Name]
		if text.listed && !x.begun {
			if _, err := archive.Fetch(ctx, x.To, text.Object); errors.Is(err, archive.ErrCorrupt) || errors.Is(err, manifest.ErrLimit) {
				return nil, fmt.Errorf("the target is no archive, and has a %s of its own: %w", f.Name, fs.ErrExist)
			}
		}
		texts = append(texts, text)
	}
	return texts, nil
}

func (x *copier) snapshots(ctx context.Context) error {
	var total int64
	for i, e := range x.chain {
		if x.report.Snapshots[i].Chosen {
			total += e.Manifest.Totals.Chunks
		}
	}
	x.progress.begin("copy", total)
	for i, e := range x.chain[:x.newest] {
		if err := x.entry(ctx, e, &x.report.Snapshots[i]); err != nil {
			return err
		}
	}
	return nil
}

// entry copies one snapshot, or its manifest alone.
func (x *copier) entry(ctx context.Context, e Entry, to *CopiedSnapshot) error {
	sizes, err := listSizes(ctx, x.To, snapshotPrefix(to.Snapshot))
	if err != nil {
		return err
	}
	whole := false
	if to.Chosen {
		whole, err = x.contents(ctx, e, sizes, to)
	} else {
		whole, err = x.there(ctx, e, sizes)
	}
	if err != nil {
		return err
	}
	object := manifest.Object{Name: manifest.ManifestName(to.Seq), Size: e.Size, SHA256: e.Digest}
	if !x.has[to.Seq] && x.failed() {
		return nil
	}
	has := x.has[to.Seq]
	ok, err := x.bring(ctx, item{
		Object: object, lock: x.locks[to.Seq], listed: has, same: has,
		differs: func(ctx context.Context) error { return x.sameManifest(ctx, *to) },
	}, to)
	if err != nil || !ok {
		return err
	}
	if to.State = Incomplete; whole {
		to.State = Whole
	}
	return nil
}

// contents copies what the manifest names: each page after its chunks, and the
// plan, by which an export could be resumed, after all pages. It reports whether
// the target has all of it now.
func (x *copier) contents(ctx context.Context, e Entry, sizes map[string]int64, to *CopiedSnapshot) (bool, error) {
	leaves := make([][][]manifest.Hash, len(e.Manifest.Tables)) // by table and page
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(x.Workers)
	for i, t := range e.Manifest.Tables {
		leaves[i] = make([][]manifest.Hash, len(t.Pages))
		for n, ref := range t.Pages {
			group.Go(func() (err error) {
				leaves[i][n], err = x.page(within, e, t, ref, sizes, to)
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return false, err
	}
	for i, t := range e.Manifest.Tables {
		if slices.ContainsFunc(leaves[i], func(page []manifest.Hash) bool { return page == nil }) {
			return false, nil
		}
		var tree manifest.Tree
		for _, leaf := range slices.Concat(leaves[i]...) {
			tree.Add(leaf)
		}
		if ok, err := x.settle(t.CheckRoot(&tree)); err != nil || !ok {
			return false, err
		}
	}
	return x.bring(ctx, newItem(e.Manifest.PlanObject(), x.lock(e), sizes), to)
}

// page copies the chunks of a page and then the page, and returns the hashes of
// its lines; nil if anything of it could not be copied.
func (x *copier) page(ctx context.Context, e Entry, t manifest.TableEntry, ref manifest.PageRef, sizes map[string]int64, to *CopiedSnapshot) ([]manifest.Hash, error) {
	it := newItem(e.Manifest.PageObject(t, ref), x.lock(e), sizes)
	page, err := x.readPage(ctx, e, t, ref, &it)
	if ok, err := x.settle(err); err != nil || !ok {
		return nil, err
	}
	chunks := make([]bool, len(page.Chunks))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(x.Workers)
	for i, c := range page.Chunks {
		group.Go(func() (err error) {
			chunk := newItem(manifest.ChunkObject(e.Manifest.Snapshot, t.Table.Name, c), x.lock(e), sizes)
			chunk.bulk = true
			chunks[i], err = x.chunk(within, chunk, t.Table.Name, to)
			return err
		})
	}
	if err := group.Wait(); err != nil || slices.Contains(chunks, false) {
		return nil, err
	}
	if ok, err := x.bring(ctx, it, to); err != nil || !ok {
		return nil, err
	}
	leaves := make([]manifest.Hash, 0, len(page.Chunks))
	for _, line := range page.Lines() {
		leaves = append(leaves, manifest.LeafHash(line))
	}
	return leaves, nil
}

// readPage fetches a page and checks that it is the one the manifest means.
func (x *copier) readPage(ctx context.Context, e Entry, t manifest.TableEntry, ref manifest.PageRef, it *item) (*manifest.Page, error) {
	var err error
	if it.data, err = x.fetch(ctx, it.Object); err != nil {
		return nil, err
	}
	page, err := manifest.OpenPage(it.data, x.From.Policy.At(e.Manifest.Seq))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", it.Name, err)
	}
	if err := page.Matches(e.Manifest, t, ref); err != nil {
		return nil, fmt.Errorf("%s: %w", it.Name, err)
	}
	return page, nil
}

// chunk copies a chunk when it is its turn.
func (x *copier) chunk(ctx context.Context, it item, table string, to *CopiedSnapshot) (bool, error) {
	if err := send(ctx, x.slots, struct{}{}); err != nil {
		return false, err
	}
	defer func() { <-x.slots }()
	ok, err := x.bring(ctx, it, to)
	x.progress.add(table, Event{Done: 1, StoredBytes: it.Size})
	return ok, err
}

// there reports whether the target has all that the manifest of a snapshot names
// from an earlier run, as far as names and sizes tell.
func (x *copier) there(ctx context.Context, e Entry, sizes map[string]int64) (bool, error) {
	if _, ok := sizes[e.Manifest.PlanObject().Name]; !ok {
		return false, nil
	}
	listed := listedChunks(e, sizes)
	for _, t := range e.Manifest.Tables {
		for _, ref := range t.Pages {
			if checkSize(e.Manifest.PageObject(t, ref), sizes) != nil {
				return false, nil
			}
		}
		if addUp(t, listed) {
			continue
		}
		if ok, err := x.tableThere(ctx, e, t, sizes); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// tableRange is a range of a table.
type tableRange struct {
	table string
	rng   int64
}

// listedChunks counts what is named like the chunks of a snapshot.
func listedChunks(e Entry, sizes map[string]int64) map[tableRange]Count {
	listed := map[tableRange]Count{}
	prefix := snapshotPrefix(e.Manifest.Snapshot)
	for name, size := range sizes {
		table, base, _ := strings.Cut(strings.TrimPrefix(name, prefix), "/")
		if rng, _, _, err := manifest.ParseChunkName(base); err == nil {
			c := listed[tableRange{table, rng}]
			c.add(size)
			listed[tableRange{table, rng}] = c
		}
	}
	return listed
}

// addUp reports whether the chunks listed for a table are as many and as large as
// its pages say. It spares reading these.
func addUp(t manifest.TableEntry, listed map[tableRange]Count) bool {
	return !slices.ContainsFunc(t.Pages, func(ref manifest.PageRef) bool {
		return listed[tableRange{t.Table.Name, ref.Range}] != (Count{ref.Totals.Chunks, ref.Totals.StoredBytes})
	})
}

// tableThere is addUp chunk by chunk, for where something else lies among them.
func (x *copier) tableThere(ctx context.Context, e Entry, t manifest.TableEntry, sizes map[string]int64) (bool, error) {
	pages, err := tablePages(ctx, &Archive{Store: x.To, Policy: x.From.Policy}, e, t)
	if errors.Is(err, archive.ErrUnavailable) || ctx.Err() != nil {
		return false, err
	}
	if err != nil {
		return false, nil // damaged: verify of the copy says how
	}
	for _, j := range tableJobs(e, t, pages) {
		if checkSize(j.object(), sizes) != nil {
			return false, nil
		}
	}
	return true, nil
}

// bring makes sure that the target has an object, and reports whether it does.
// Its error is one that ends the run.
func (x *copier) bring(ctx context.Context, it item, to *CopiedSnapshot) (bool, error) {
	brought, size, err := x.bringOne(ctx, it)
	if ok, err := x.settle(err); err != nil || !ok {
		return false, err
	}
	x.count(brought, size, to)
	return true, nil
}

// count notes an object that was copied, or was there.
func (x *copier) count(brought bool, size int64, to *CopiedSnapshot) {
	x.mu.Lock()
	defer x.mu.Unlock()
	counts := []*Count{&x.report.Present}
	if to != nil {
		counts = append(counts, &to.Present)
	}
	if brought {
		if counts = []*Count{&x.report.Copied}; to != nil {
			counts = append(counts, &to.Copied)
		}
	}
	for _, c := range counts {
		c.add(size)
	}
}

// bringOne copies an object that the target does not have. It returns whether it
// had to, and how many bytes the object has.
func (x *copier) bringOne(ctx context.Context, it item) (brought bool, size int64, err error) {
	if it.listed {
		size, err := x.target.confirm(ctx, it)
		if !isNotExist(err) {
			return false, size, err
		}
	}
	if it.data == nil {
		if it.data, err = x.fetch(ctx, it.Object); err != nil {
			return false, 0, err
		}
	}
	err = x.target.put(ctx, it)
	if errors.Is(err, fs.ErrExist) { // another copy was faster, or the answer to a try was lost
		it.same = false
		size, err := x.target.confirm(ctx, it)
		if errors.Is(err, archive.ErrCorrupt) && it.differs != nil {
			err = cmp.Or(it.differs(ctx), err)
		}
		return false, size, err
	}
	return true, int64(len(it.data)), err
}

// fetch reads an object of the source.
func (x *copier) fetch(ctx context.Context, o manifest.Object) ([]byte, error) {
	data, err := archive.Fetch(ctx, x.From.Store, o)
	if errors.Is(err, archive.ErrFrozen) {
		return nil, frozenError{o, err}
	}
	return data, missing(o.Name, err)
}

// frozenError says which object of the source could not be read.
type frozenError struct {
	object manifest.Object
	error
}

func (f frozenError) Unwrap() error { return f.error }

// lock is how the objects of a snapshot are to be retained: as was signed, where
// that is not over yet, and as was asked.
func (x *copier) lock(e Entry) archive.Lock {
	signed := lockOf(e.Manifest.Retention)
	if !signed.Until.After(x.Now()) {
		return x.Lock
	}
	return firmest(x.Lock, signed)
}

// chainLocks sets how manifests are to be retained: as long as any snapshot after
// them, since without them theirs prove nothing. Number 0 stands for the policy and
// the texts.
func (x *copier) chainLocks() {
	x.locks = make([]archive.Lock, x.newest+1)
	lock := x.Lock
	for seq := x.newest; seq > 0; seq-- {
		lock = firmest(lock, x.lock(x.chain[seq-1]))
		x.locks[seq] = lock
	}
	x.locks[0] = lock
}

// firmest returns the lock that covers both.
func firmest(a, b archive.Lock) archive.Lock {
	if b.Mode.Covers(a.Mode) {
		a.Mode = b.Mode
	}
	if b.Until.After(a.Until) {
		a.Until = b.Until
	}
	a.Hold = a.Hold || b.Hold
	return a
}

// settle notes a problem and lets the run go on; it reports whether there is
// none. What says nothing about the archive, a target that has become another one,
// and one problem too many, end the run.
func (x *copier) settle(problem error) (ok bool, err error) {
	if problem == nil {
		return true, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var cold frozenError
	if errors.As(problem, &cold) {
		if x.report.Frozen.add(max(cold.object.Size, 0)); x.frozen == "" {
			x.frozen = cold.object.Name
		}
		return false, nil
	}
	for _, last := range []error{archive.ErrUnavailable, errors.ErrUnsupported, fs.ErrExist, manifest.ErrRollback, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(problem, last) {
			return false, problem
		}
	}
	x.problems = append(x.problems, problem)
	if len(x.problems) < maxProblems {
		return false, nil
	}
	return false, errors.Join(append(x.problems, fmt.Errorf("stopped after %d problems", maxProblems))...)
}

// failed reports whether anything could not be copied so far.
func (x *copier) failed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.problems) > 0 || x.report.Frozen.Objects > 0
}

func (x *copier) note(format string, args ...any) {
	x.report.Notes = append(x.report.Notes, fmt.Sprintf(format, args...))
}

// finish completes the report.
func (x *copier) finish() (*CopyReport, error) {
	r := x.report
	newest := slices.IndexFunc(r.Snapshots, func(s CopiedSnapshot) bool { return s.State == Absent })
	if newest < 0 {
		newest = len(r.Snapshots)
	}
	if newest > 0 {
		last := r.Snapshots[newest-1]
		r.Seq, r.Snapshot, r.Digest = last.Seq, last.Snapshot, last.Digest
	}
	if len(x.ahead) > 0 && newest == len(r.Snapshots) {
		last := x.ahead[len(x.ahead)-1]
		r.Seq, r.Snapshot, r.Digest = last.Manifest.Seq, last.Manifest.Snapshot, last.Digest
	}
	r.Relocked, r.Unretained, r.Unconfirmed = x.target.relocked.Load(), x.target.unretained.Load(), x.target.unconfirmed.Load()
	x.notes()
	slices.SortFunc(x.problems, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	if n := r.Frozen.Objects; n > 0 {
		x.problems = append(x.problems, frozenError{error: fmt.Errorf("snapshot: copy: %d objects of the source are in an archive tier and were not copied, such as %s: %w", n, x.frozen, archive.ErrFrozen)})
	}
	for _, p := range x.problems {
		r.Problems = append(r.Problems, p.Error())
	}
	r.Finished = stamp(x.Now)
	return r, errors.Join(x.problems...)
}

// notes says what the copy does not have, and what is known of it less well.
func (x *copier) notes() {
	var bare, absent []string
	for _, s := range x.report.Snapshots {
		switch number := fmt.Sprint(s.Seq); s.State {
		case Incomplete:
			bare = append(bare, number)
		case Absent:
			absent = append(absent, number)
		}
	}
	if len(bare) > 0 {
		x.note("rows of snapshots %s are not, or not all, in this copy: it has their manifests, which the chain needs", enumerate(bare, 20))
	}
	if len(absent) > 0 {
		x.note("snapshots %s are not in this copy", enumerate(absent, 20))
	}
	if n := x.report.Unretained; n > 0 {
		x.note("%d objects are retained less in this copy than was signed or asked; a verification of retention finds what was signed: %s", n, x.target.why())
	}
	if n := x.report.Unconfirmed; n > 0 {
		x.note("%d objects that were there already are in an archive tier of the target: their sizes are right, their bytes were not compared", n)
	}
}
