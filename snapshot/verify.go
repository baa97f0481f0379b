package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// Level is how deep a verification goes. Every level checks all signatures, the
// chain, the policy's texts, plans and pages.
type Level int

// The levels of a verification.
const (
	Objects Level = iota // chunks exist, have their size, and the digest the store keeps, if it keeps one
	Hashes               // every byte of every chunk is hashed
	Rows                 // every row is rebuilt and hashed
)

var levelNames = []string{"objects", "hashes", "rows"}

func (l Level) String() string { return levelNames[l] }

// ParseLevel returns the level of that name.
func ParseLevel(name string) (Level, error) {
	if i := slices.Index(levelNames, name); i >= 0 {
		return Level(i), nil
	}
	return 0, fmt.Errorf("snapshot: no level %q; there are %s", name, strings.Join(levelNames, ", "))
}

// maxProblems is how many problems a verification names before it stops.
const maxProblems = 100

// Verify checks an archive against its signatures.
type Verify struct {
	Archive  *Archive
	Snapshot string   // one snapshot, as Find takes it; "": all of them
	Tables   []string // globs as Select takes them; none: all tables. Others are not looked at
	Level    Level
	// Retention looks at the lock of every object too, also of what was said about the
	// snapshots later, and holds it to what was signed; what is laid over an object is then a problem, and not only noted.
	Retention bool
	Require   []Requirement // of each snapshot that is looked at; that it is not met is a problem
	Stamps    StampCheck    // of time stamps; nil: they are not looked at
	Workers   int           // chunks in work at once; 0: DefaultWorkers
	Memory    int64         // in bytes, as of Export
	Now       func() time.Time
	Progress  func(Event)

	alone bool              // what comes after Snapshot in the chain is no problem
	rows  archive.Selection // pages and chunks that can have none of them are not looked at

	suppress *Suppression // nor are chunks that have no others than these
}

// verifier is a Verify under way.
type verifier struct {
	Verify
	progress    *progress
	memory      *budget
	inspector   archive.Inspector // nil: the store tells nothing of its objects
	hasSettings bool              // there is a report of the store
	reading     []job             // the chunks of the snapshot in work
	snapshots   int               // in the archive
	tables      int               // in the snapshots that are looked at
	asked       int64             // chunks that are to be looked at
	tableAt     map[string]int    // where a table of the snapshot in work is in the report

	mu       sync.Mutex
	report   *Report
	problems []error
	observed []seen // since the last tally
}

// Run verifies. It goes on past problems to name as many as there are, and
// returns them joined: errors.Is finds manifest.ErrUntrusted,
// manifest.ErrRollback, ErrMissing, archive.ErrCorrupt and, with Retention, ErrWeaker
// and ErrShadowed among them. A store that cannot be read is archive.ErrUnavailable
// and no verdict; chunks that have to be thawed first are archive.ErrFrozen as well.
func (v Verify) Run(ctx context.Context) (*Report, error) {
	run := v.begin()
	chain, err := v.Archive.chain(ctx)
	entries := chain
	if v.Snapshot != "" {
		var one Entry
		if one, err = v.Archive.findBefore(chain, err, v.Snapshot); err == nil {
			entries = []Entry{one}
			if !v.alone {
				err = run.found(one.After)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	run.snapshots = len(chain)
	if run.report.Anchors, err = v.Archive.against(chain, false); err != nil {
		return nil, err
	}
	if err := run.entries(ctx, entries); err != nil {
		return nil, run.broken(run.thawFirst(ctx, err))
	}
	if v.Retention && len(entries) > 0 {
		if err := run.own(ctx, chain, entries); err != nil {
			return nil, err
		}
	}
	if err := run.shadows(ctx, entries); err != nil {
		return nil, err
	}
	if err := run.timestamps(ctx, chain, entries); err != nil {
		return nil, err
	}
	if err := run.said(ctx, entries); err != nil {
		return nil, err
	}
	run.finish()
	return run.report, errors.Join(run.problems...)
}

func (v Verify) begin() *verifier {
	if v.Now == nil {
		v.Now = time.Now
	}
	v.Workers = orDefault(v.Workers, DefaultWorkers)
	run := &verifier{Verify: v, progress: newProgress(v.Progress), memory: newBudget(v.Memory), tableAt: map[string]int{}}
	run.inspector, _ = v.Archive.Store.(archive.Inspector)
	run.report = &Report{Kind: "verify", Archive: v.Archive.Policy.ID(), Level: v.Level.String(), Started: stamp(v.Now)}
	if v.Retention {
		run.report.Retention = &RetentionReport{}
	}
	return run
}

// one verifies one entry of a chain that was read, and nothing beside it. Its problems
// are in the report, and joined in found; err is no verdict.
func (v Verify) one(ctx context.Context, e Entry) (report *Report, found, err error) {
	run := v.begin()
	run.alone = true
	if err := run.entries(ctx, []Entry{e}); err != nil {
		return nil, nil, run.thawFirst(ctx, err)
	}
	run.finish()
	return run.report, errors.Join(run.problems...), nil
}

func stamp(now func() time.Time) manifest.Time {
	return manifest.Time{Time: now().UTC().Truncate(time.Second)}
}

// broken adds to an error that is no verdict how far the run came.
func (v *verifier) broken(err error) error {
	if !errors.Is(err, archive.ErrUnavailable) || errors.Is(err, archive.ErrFrozen) || v.asked == 0 {
		return err
	}
	var good int64
	for _, t := range v.report.Tables {
		good += t.Chunks
	}
	return fmt.Errorf("%w; until then %d of %d chunks were good", err, good, v.asked)
}

// newReport is a report on one snapshot.
func newReport(kind string, a *Archive, e Entry, now func() time.Time) *Report {
	return &Report{
		Kind: kind, Archive: a.Policy.ID(), Started: stamp(now),
		Seq: e.Manifest.Seq, Snapshot: e.Manifest.Snapshot, Digest: e.Digest, Snapshots: 1,
		BySnapshot: []SnapshotReport{newSnapshotReport(a, e)},
		Anchors:    e.held,
		Notes:      []string{}, Problems: []string{},
	}
}

// entries checks snapshots one after another: what is known of one is forgotten
// before the next.
func (v *verifier) entries(ctx context.Context, entries []Entry) error {
	for _, f := range v.Archive.Policy.Files {
		_, err := archive.Fetch(ctx, v.Archive.Store, manifest.Object{Name: f.Name, Size: -1, SHA256: f.SHA256})
		if err := v.found(missing(f.Name, err)); err != nil {
			return err
		}
	}
	settings, err := v.Archive.Settings(ctx)
	if err := v.found(err); err != nil {
		return err
	}
	v.hasSettings = settings != nil || err != nil
	if v.Retention && !v.hasSettings {
		v.note("there is no %s: the archive is a copy, an older version made it, or somebody removed it", manifest.StoreName(v.Archive.Policy.ID()))
	}
	v.report.Snapshots = int64(len(entries))
	if len(entries) == 0 {
		return nil
	}
	last := entries[len(entries)-1]
	v.report.Seq, v.report.Snapshot, v.report.Digest = last.Manifest.Seq, last.Manifest.Snapshot, last.Digest
	names, err := selectTables(entries, v.Tables)
	if err != nil {
		return err
	}
	all, err := selectTables(entries, nil)
	if err != nil {
		return err
	}
	v.tables = len(all)
	var total int64
	for _, e := range entries {
		for _, t := range chosen(e, names) {
			total += t.Totals.Chunks
		}
	}
	v.asked = total
	v.progress.begin("verify", total)
	v.relaxed(entries)
	for _, e := range entries {
		if err := v.entry(ctx, e, names); err != nil {
			return err
		}
	}
	return nil
}

// relaxed notes snapshots that were signed to be retained less than the one
// before: somebody may have changed, or taken away, what exports go by.
func (v *verifier) relaxed(entries []Entry) {
	for i := 1; i < len(entries); i++ {
		before, after := entries[i-1].Manifest, entries[i].Manifest
		was, is := lockOf(before.Retention), lockOf(after.Retention)
		const day = 24 * time.Hour
		shorter := is.Mode != archive.Unlocked && is.Until.Sub(after.Started.Time) < was.Until.Sub(before.Started.Time)-day
		if !is.Mode.Covers(was.Mode) || was.Mode != archive.Unlocked && shorter {
			v.note("snapshot %s is signed to be retained %s, which is less than the one before: %s", after.Snapshot, lockText(is), lockText(was))
		}
	}
}

// chosen returns the tables of a snapshot that are among the names.
func chosen(e Entry, names []string) []manifest.TableEntry {
	var tables []manifest.TableEntry
	for _, t := range e.Manifest.Tables {
		if slices.Contains(names, t.Table.Name) {
			tables = append(tables, t)
		}
	}
	return tables
}

// entry checks the plan of one snapshot and the named tables of it.
func (v *verifier) entry(ctx context.Context, e Entry, names []string) error {
	v.reading = nil
	part := newSnapshotReport(v.Archive, e)
	part.Seen = &Seen{}
	v.report.BySnapshot = append(v.report.BySnapshot, part)
	if err := v.endorsed(ctx, e); err != nil {
		return err
	}
	if err := v.found(checkPlan(ctx, v.Archive, e)); err != nil {
		return err
	}
	tables := chosen(e, names)
	objects := []manifest.Object{e.Manifest.PlanObject()}
	var jobs []job
	known := len(tables) == len(e.Manifest.Tables) // else the objects of some tables are not
	known = known && whole(v.rows) && v.suppress == nil
	for _, t := range tables {
		some, err := rangeJobs(ctx, v.Archive, e, t, v.rows.Keys(t.Table.Key))
		if err != nil {
			known = false
		}
		if err := v.found(err); err != nil {
			return err
		}
		for _, ref := range t.Pages {
			objects = append(objects, e.Manifest.PageObject(t, ref))
		}
		jobs = append(jobs, v.wanted(some)...)
		v.tableAt[t.Table.Name] = len(v.report.Tables)
		v.report.Tables = append(v.report.Tables, TableReport{Name: t.Table.Name, Rows: t.Totals.Rows, ChunksSigned: t.Totals.Chunks, Differences: []Difference{}})
		v.report.Totals.Add(t.Totals)
		part.Seen.Tables++
		part.Seen.Expected.Add(t.Totals)
	}
	sizes, err := listSizes(ctx, v.Archive.Store, snapshotPrefix(e.Manifest.Snapshot))
	if err != nil {
		return err
	}
	if known {
		v.extra(sizes, objects, jobs)
	}
	v.reading = jobs
	if err := v.chunks(ctx, jobs, sizes); err != nil {
		return err
	}
	if !v.Retention {
		return nil
	}
	own := manifest.Object{Name: manifest.ManifestName(e.Manifest.Seq), Size: e.Size, SHA256: e.Digest}
	if err := v.inspectAll(ctx, append(objects, own)); err != nil {
		return err
	}
	return v.judge(e)
}

// wanted returns the chunks of a table that can have rows which are selected.
func (v *verifier) wanted(jobs []job) []job {
	return slices.DeleteFunc(jobs, func(j job) bool {
		return v.suppress.without(v.rows, j.table.Table.Name).LeavesOut(j.chunk)
	})
}

func (v *verifier) chunks(ctx context.Context, jobs []job, sizes map[string]int64) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(v.Workers)
	if v.Level == Objects { // nothing is held in memory
		group.SetLimit(max(v.Workers, fetchers))
	}
	for _, j := range jobs {
		group.Go(func() error { return v.found(v.chunk(ctx, j, sizes)) })
	}
	return group.Wait()
}

// extra notes the objects of a snapshot that nothing names.
func (v *verifier) extra(sizes map[string]int64, objects []manifest.Object, jobs []job) {
	named := make(map[string]bool, len(sizes))
	for _, o := range objects {
		named[o.Name] = true
	}
	for _, j := range jobs {
		named[j.object().Name] = true
	}
	for name := range sizes {
		if !named[name] {
			v.note("%s is named by no manifest", name)
		}
	}
}

// found notes a problem and lets the run go on. What says nothing about the
// archive, and one problem too many, end the run.
func (v *verifier) found(problem error) error {
	if problem == nil {
		return nil
	}
	if errors.Is(problem, archive.ErrUnavailable) || errors.Is(problem, context.Canceled) || errors.Is(problem, context.DeadlineExceeded) {
		return fmt.Errorf("snapshot: verify: %w", problem)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if slices.ContainsFunc(v.problems, func(p error) bool { return p.Error() == problem.Error() }) {
		return nil // met twice, as by who reads an object and who looks at its lock
	}
	v.problems = append(v.problems, problem)
	if len(v.problems) < maxProblems {
		return nil
	}
	v.problems = append(v.problems, fmt.Errorf("snapshot: verify: stopped after %d problems", maxProblems))
	return errors.Join(v.problems...)
}

// job is one chunk to check.
type job struct {
	entry  *Entry
	table  *manifest.TableEntry
	layout *row.Layout
	chunk  manifest.Chunk
	from   manifest.Key // where the part of the key space begins that the chunk answers for
	to     manifest.Key // and where it ends: the first key of the next chunk
}

func (j job) object() manifest.Object {
	return manifest.ChunkObject(j.entry.Manifest.Snapshot, j.table.Table.Name, j.chunk)
}

// selectTables chooses among the tables the snapshots hold.
func selectTables(entries []Entry, globs []string) ([]string, error) {
	var names []string
	for _, e := range entries {
		for _, t := range e.Manifest.Tables {
			names = append(names, t.Table.Name)
		}
	}
	slices.Sort(names)
	return Select(slices.Compact(names), globs)
}

// checkPlan makes sure that the plan is the one the manifest names.
func checkPlan(ctx context.Context, a *Archive, e Entry) error {
	object := e.Manifest.PlanObject()
	sealed, err := archive.Fetch(ctx, a.Store, object)
	if err != nil {
		return missing(object.Name, err)
	}
	if _, err := manifest.OpenPlan(sealed, a.Policy.At(e.Manifest.Seq)); err != nil {
		return fmt.Errorf("%s: %w", object.Name, err)
	}
	return nil
}

// tablePages reads the pages of a table and checks them against the manifest:
// digests, signatures, totals, and the root over their lines.
func tablePages(ctx context.Context, a *Archive, e Entry, t manifest.TableEntry) ([]*manifest.Page, error) {
	pages, err := somePages(ctx, a, e, t)
	if err != nil {
		return nil, err
	}
	var tree manifest.Tree
	for _, page := range pages {
		for _, line := range page.Lines() {
			tree.Add(manifest.LeafHash(line))
		}
	}
	if err := t.CheckRoot(&tree); err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", e.Manifest.Snapshot, err)
	}
	return pages, nil
}

// tableJobs lists the chunks of a table in key order, each with the part of the
// key space it answers for; side by side these cover all of it.
func tableJobs(e Entry, t manifest.TableEntry, pages []*manifest.Page) []job {
	layout := &row.Layout{Key: t.Table.Key, Columns: t.Table.Columns}
	chunks := 0
	for _, page := range pages {
		chunks += len(page.Chunks)
	}
	jobs := make([]job, 0, chunks) // there may be a million, and none moves
	for _, page := range pages {
		for _, c := range page.Chunks {
			jobs = append(jobs, job{entry: &e, table: &t, layout: layout, chunk: c, from: c.First})
		}
	}
	for i := range jobs {
		if i == 0 {
			jobs[i].from = manifest.Key{}
		}
		if i+1 < len(jobs) {
			jobs[i].to = jobs[i+1].chunk.First
		}
	}
	return jobs
}

func checkSize(o manifest.Object, sizes map[string]int64) error {
	size, ok := sizes[o.Name]
	if !ok {
		return fmt.Errorf("%s: %w", o.Name, ErrMissing)
	}
	if size != o.Size {
		return fmt.Errorf("%s: has %d bytes, %d were signed: %w", o.Name, size, o.Size, archive.ErrCorrupt)
	}
	return nil
}

// chunk checks one chunk as deep as the level says: at the lowest, what the store
// lists and knows of it stands in for reading it.
func (v *verifier) chunk(ctx context.Context, j job, sizes map[string]int64) error {
	object := j.object()
	vouched := false
	if v.inspects() {
		var err error
		if vouched, err = v.inspect(ctx, object); err != nil {
			return err
		}
	}
	if v.Level == Objects {
		if err := checkSize(object, sizes); err != nil {
			return err
		}
		if vouched {
			v.vouch()
		}
		v.count(j, 0)
		return nil
	}
	size := object.Size
	if v.Level == Rows {
		size = rowsMemory(j.chunk)
	}
	giveBack, err := v.memory.take(ctx, size)
	if err != nil {
		return err
	}
	defer giveBack()
	data, err := archive.Fetch(ctx, v.Archive.Store, object)
	if err != nil {
		return missing(object.Name, err)
	}
	if v.Level == Hashes {
		v.count(j, 0)
		return nil
	}
	if err := archive.Check(ctx, data, *j.layout, j.chunk); err != nil {
		return fmt.Errorf("%s: %w", object.Name, err)
	}
	v.count(j, j.chunk.Rows)
	return nil
}

// count adds a good chunk to the report.
func (v *verifier) count(j job, decoded int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen := v.seen()
	seen.Chunks++
	seen.Rows += decoded
	seen.StoredBytes += j.chunk.Size
	if v.Level != Objects {
		seen.Read++
	}
	t := &v.report.Tables[v.tableAt[j.table.Table.Name]]
	t.Chunks++
	t.Decoded += decoded
	t.RawBytes += j.chunk.RawBytes
	t.StoredBytes += j.chunk.Size
	v.progress.add(j.table.Table.Name, Event{Done: 1, Rows: j.chunk.Rows, RawBytes: j.chunk.RawBytes, StoredBytes: j.chunk.Size})
}

// seen is what is found of the snapshot in work.
func (v *verifier) seen() *Seen { return v.report.BySnapshot[len(v.report.BySnapshot)-1].Seen }

func (v *verifier) vouch() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Vouched++
	v.seen().Vouched++
}

// finish orders the report.
func (v *verifier) finish() {
	v.report.Finished = stamp(v.Now)
	v.report.Tables = mergeTables(v.report.Tables)
	v.report.Coverage = v.report.covered(v.Level, v.inspector != nil, max(v.snapshots, len(v.report.BySnapshot)), v.tables)
	slices.Sort(v.report.Notes)
	slices.SortFunc(v.problems, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	v.report.Problems = []string{}
	for _, p := range v.problems {
		v.report.Problems = append(v.report.Problems, p.Error())
	}
	if v.report.Notes == nil {
		v.report.Notes = []string{}
	}
}

// mergeTables adds up what several snapshots hold of one table.
func mergeTables(tables []TableReport) []TableReport {
	merged := []TableReport{}
	index := map[string]int{}
	for _, t := range tables {
		i, ok := index[t.Name]
		if !ok {
			index[t.Name] = len(merged)
			merged = append(merged, t)
			continue
		}
		m := &merged[i]
		m.Chunks += t.Chunks
		m.ChunksSigned += t.ChunksSigned
		m.Rows += t.Rows
		m.Decoded += t.Decoded
		m.RawBytes += t.RawBytes
		m.StoredBytes += t.StoredBytes
	}
	return merged
}
