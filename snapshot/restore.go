package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// Restore brings tables of a snapshot back into an instance that does not have
// them. Nothing is created before every signature and every byte of what will be
// restored was checked. The tables are compared with what was signed while they
// still show every version of every cell, and get their options, which may hide
// some, after that.
//
// It holds, for each worker, one chunk and one row group of it as Arrow.
type Restore struct {
	From     *Archive
	Snapshot string   // as Find takes it; "": the newest
	Tables   []string // globs as Select takes them; none: all tables
	To       Sink
	Check    Source   // the same instance as To, for the comparison
	Journal  *Journal // what an earlier run did; nil: the restore cannot be resumed
	Workers  int      // chunks in work at once; 0: DefaultWorkers
	Now      func() time.Time
	Progress func(Event)
}

// restorer is a Restore under way.
type restorer struct {
	Restore
	entry    Entry
	tables   []manifest.TableEntry
	report   *Report
	progress *progress

	mu sync.Mutex
}

// Run restores. When it returns nil, the rows signed, decoded, acknowledged and
// counted back are the same number and have the signed digests. A table that
// exists and was not made by the journal's run is fs.ErrExist, before anything
// is written.
func (r Restore) Run(ctx context.Context) (*Report, error) {
	if r.Now == nil {
		r.Now = time.Now
	}
	r.Workers = orDefault(r.Workers, DefaultWorkers)
	x := &restorer{Restore: r, progress: newProgress(r.Progress)}
	if err := x.choose(ctx); err != nil {
		return nil, err
	}
	if err := x.target(ctx); err != nil {
		return nil, err
	}
	jobs, err := x.verify(ctx)
	if err != nil {
		return nil, err
	}
	if err := x.create(ctx); err != nil {
		return nil, err
	}
	if err := x.write(ctx, jobs); err != nil {
		return nil, err
	}
	if err := x.compare(ctx); err != nil {
		return x.done(), err
	}
	if err := x.finish(ctx); err != nil {
		return nil, err
	}
	return x.done(), x.closed()
}

func (x *restorer) choose(ctx context.Context) error {
	var err error
	if x.entry, err = x.From.Find(ctx, x.Snapshot); err != nil {
		return err
	}
	names, err := selectTables([]Entry{x.entry}, x.Restore.Tables)
	if err != nil {
		return err
	}
	x.report = newReport("restore", x.From, x.entry, x.Now)
	x.report.after(x.entry)
	instance := x.To.Instance()
	x.report.Instance = &instance
	for _, t := range x.entry.Manifest.Tables {
		if !slices.Contains(names, t.Table.Name) {
			continue
		}
		x.tables = append(x.tables, t)
		x.report.Tables = append(x.report.Tables, TableReport{Name: t.Table.Name, Rows: t.Totals.Rows, Differences: []Difference{}})
		x.report.Totals.Add(t.Totals)
		x.notes(t.Table)
	}
	return nil
}

// notes records what the restored table will not have.
func (x *restorer) notes(t manifest.Table) {
	note := func(format string, args ...any) {
		x.report.Notes = append(x.report.Notes, fmt.Sprintf("table %s: ", t.Name)+fmt.Sprintf(format, args...))
	}
	for _, k := range t.Key {
		if k.AutoIncrement {
			note("%s is a plain INTEGER now: the service does not take chosen values in an AUTO_INCREMENT column", k.Name)
		}
	}
	for _, i := range t.Indexes {
		note("secondary index %s is recorded in the manifest and was not made", i.Name)
	}
	for _, i := range t.SearchIndexes {
		note("search index %s is recorded in the manifest and was not made", i.Name)
	}
	if t.Encryption.Enabled {
		note("server-side encryption with key %q is recorded in the manifest and was not set", t.Encryption.KeyID)
	}
}

// target refuses tables that exist and are not this restore's own. What the
// journal says of a table that does not exist any more is void.
func (x *restorer) target(ctx context.Context) error {
	var taken []string
	for _, t := range x.tables {
		live, err := x.Check.Describe(ctx, t.Table.Name)
		if isNotExist(err) {
			if err := x.forget(t.Table.Name); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return inTable(t.Table, err)
		}
		own, err := x.own(ctx, t.Table)
		if err != nil {
			return inTable(t.Table, err)
		}
		if !own {
			taken = append(taken, t.Table.Name)
			continue
		}
		if !sameKey(live.Key, t.Table.Key) {
			return fmt.Errorf("snapshot: table %s has primary key %s now, not %s: someone else made it",
				t.Table.Name, formatKeyColumns(live.Key), formatKeyColumns(t.Table.Key))
		}
	}
	if len(taken) > 0 {
		return fmt.Errorf("snapshot: instance %s has %s already; nothing was written: %w", x.To.Instance().Name, enumerate(taken, 10), fs.ErrExist)
	}
	return nil
}

// own reports whether a table that exists was made by this restore. Where a
// crash fell between the intent and its confirmation, an empty table is.
func (x *restorer) own(ctx context.Context, t manifest.Table) (bool, error) {
	state := x.Journal.table(t.Name)
	if state.created || !state.intended {
		return state.created, nil
	}
	layout := row.Layout{Key: t.Key, Columns: t.Columns}
	for _, err := range x.Check.Scan(ctx, Scan{Table: t, Layout: layout, Limit: 1}) {
		return false, err
	}
	return true, x.Journal.record(entry{Table: t.Name, Step: stepCreate})
}

// forget voids what the journal says of a table.
func (x *restorer) forget(table string) error {
	state := x.Journal.table(table)
	if !state.intended && !state.created {
		return nil
	}
	return x.Journal.record(entry{Table: table, Step: stepForget})
}

// verify checks every byte of what will be restored and returns its chunks.
func (x *restorer) verify(ctx context.Context) ([][]job, error) {
	names := make([]string, len(x.tables))
	for i, t := range x.tables {
		names[i] = t.Table.Name
	}
	check := Verify{
		Archive: x.From, Snapshot: x.entry.Manifest.Snapshot, Tables: names,
		Level: Hashes, Workers: x.Workers, Now: x.Now, Progress: x.Restore.Progress, alone: true,
	}
	if _, err := check.Run(ctx); err != nil {
		return nil, fmt.Errorf("nothing was written: %w", err)
	}
	jobs := make([][]job, len(x.tables))
	for i, t := range x.tables {
		pages, err := tablePages(ctx, x.From, x.entry, t)
		if err != nil {
			return nil, err
		}
		jobs[i] = tableJobs(x.entry, t, pages)
	}
	return jobs, nil
}

// create makes the tables that an earlier run has not made. The journal knows of
// each before it exists, so that a crash in between leaves no table it denies,
// and does not claim one that somebody else was first to make.
func (x *restorer) create(ctx context.Context) error {
	x.progress.begin("create", int64(len(x.tables)))
	for _, t := range x.tables {
		if !x.Journal.table(t.Table.Name).created {
			if err := x.createTable(ctx, t.Table); err != nil {
				return inTable(t.Table, err)
			}
		}
		x.progress.add(t.Table.Name, Event{Done: 1})
	}
	return nil
}

func (x *restorer) createTable(ctx context.Context, t manifest.Table) error {
	if err := x.Journal.record(entry{Table: t.Name, Step: stepIntend}); err != nil {
		return err
	}
	t.Key = slices.Clone(t.Key)
	for i := range t.Key {
		t.Key[i].AutoIncrement = false
	}
	err := x.To.Create(ctx, t)
	if errors.Is(err, fs.ErrExist) {
		return errors.Join(err, x.forget(t.Name))
	}
	if err != nil {
		return err
	}
	return x.Journal.record(entry{Table: t.Name, Step: stepCreate})
}

// write puts the rows of all chunks. The order goes to and fro over the key
// space of each table, and over the tables, so that no partition gets all the
// writes of its moment.
func (x *restorer) write(ctx context.Context, jobs [][]job) error {
	order := interleave(jobs)
	x.progress.begin("restore", int64(len(order)))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(x.Workers)
	for _, j := range order {
		group.Go(func() error {
			if err := x.chunk(ctx, j); err != nil {
				return fmt.Errorf("snapshot: table %s, %s: %w", j.table.Table.Name, j.chunk.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// interleave takes one job of each table in turn, and each table's in the order
// of their bit-reversed positions: 0, 4, 2, 6, 1, 5, 3, 7.
func interleave(tables [][]job) []job {
	var order []job
	spread := make([][]job, len(tables))
	longest := 0
	for i, jobs := range tables {
		spread[i] = bitReversed(jobs)
		longest = max(longest, len(jobs))
	}
	for n := range longest {
		for _, jobs := range spread {
			if n < len(jobs) {
				order = append(order, jobs[n])
			}
		}
	}
	return order
}

func bitReversed(jobs []job) []job {
	if len(jobs) < 2 {
		return jobs
	}
	width := bits.Len(uint(len(jobs) - 1))
	out := make([]job, 0, len(jobs))
	for n := range 1 << width {
		if i := int(bits.Reverse64(uint64(n)) >> (64 - width)); i < len(jobs) {
			out = append(out, jobs[i])
		}
	}
	return out
}

// chunk writes the rows of one chunk, unless an earlier run had them all
// acknowledged.
func (x *restorer) chunk(ctx context.Context, j job) error {
	object := j.object()
	if rows, ok := x.Journal.written(j.table.Table.Name, object.Name); ok {
		x.count(j, rows, rows)
		return nil
	}
	data, err := archive.Fetch(ctx, x.From.Store, object)
	if err != nil {
		return missing(object.Name, err)
	}
	var decoded, acknowledged int64
	for record, err := range archive.Read(ctx, data, *j.layout, j.chunk) {
		if err != nil {
			return err
		}
		decoded += record.NumRows()
		n, err := x.To.Write(ctx, Write{Table: j.table.Table, Layout: *j.layout, Record: record})
		acknowledged += n.Rows
		if err != nil {
			return err
		}
		x.progress.add(j.table.Table.Name, Event{Rows: n.Rows})
	}
	if decoded != j.chunk.Rows || acknowledged != decoded {
		return fmt.Errorf("%d rows signed, %d decoded, %d acknowledged: %w", j.chunk.Rows, decoded, acknowledged, ErrDiffers)
	}
	if err := x.Journal.record(entry{Table: j.table.Table.Name, Step: stepChunk, Object: object.Name, Rows: acknowledged}); err != nil {
		return err
	}
	x.progress.add(j.table.Table.Name, Event{RawBytes: j.chunk.RawBytes, StoredBytes: j.chunk.Size})
	x.count(j, decoded, acknowledged)
	return nil
}

func (x *restorer) count(j job, decoded, acknowledged int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.tableReport(j.table.Table.Name)
	t.Chunks++
	t.Decoded += decoded
	t.Acknowledged += acknowledged
	t.RawBytes += j.chunk.RawBytes
	t.StoredBytes += j.chunk.Size
	x.progress.add(j.table.Table.Name, Event{Done: 1})
}

func (x *restorer) tableReport(name string) *TableReport {
	i := slices.IndexFunc(x.report.Tables, func(t TableReport) bool { return t.Name == name })
	return &x.report.Tables[i]
}

// compare holds the restored tables against what was signed.
func (x *restorer) compare(ctx context.Context) error {
	run := &comparer{archive: x.From, entry: x.entry, with: x.Check, workers: x.Workers, limit: defaultDifferences, progress: x.progress}
	var total int64
	for _, t := range x.tables {
		total += max(1, t.Totals.Chunks)
	}
	x.progress.begin("compare", total)
	var problems []error
	for _, t := range x.tables {
		report := x.tableReport(t.Table.Name)
		if state := x.Journal.table(t.Table.Name); state.compared && state.finished {
			report.Counted = state.rows
			x.report.Notes = append(x.report.Notes, fmt.Sprintf("table %s: compared by the run that is resumed here, before it got its options", t.Table.Name))
			continue
		}
		found, err := run.table(ctx, t)
		if err != nil && !errors.Is(err, ErrDiffers) {
			return err
		}
		if err != nil {
			problems = append(problems, err)
			x.report.Problems = append(x.report.Problems, err.Error())
		}
		report.Counted, report.Missing, report.Extra, report.Changed = found.Counted, found.Missing, found.Extra, found.Changed
		report.Differences = found.Differences
		if err != nil {
			continue
		}
		if err := x.Journal.record(entry{Table: t.Table.Name, Step: stepCompare, Rows: found.Counted}); err != nil {
			return err
		}
	}
	return errors.Join(problems...)
}

// finish gives the tables their options and looks whether they took them.
func (x *restorer) finish(ctx context.Context) error {
	x.progress.begin("finish", int64(len(x.tables)))
	for _, t := range x.tables {
		if !x.Journal.table(t.Table.Name).finished {
			if err := x.To.Configure(ctx, t.Table); err != nil {
				return inTable(t.Table, err)
			}
			if err := x.Journal.record(entry{Table: t.Table.Name, Step: stepFinish}); err != nil {
				return err
			}
		}
		live, err := x.Check.Describe(ctx, t.Table.Name)
		if err != nil {
			return inTable(t.Table, err)
		}
		if live.Options != t.Table.Options {
			return fmt.Errorf("snapshot: table %s has options %+v, signed were %+v: %w", t.Table.Name, live.Options, t.Table.Options, ErrDiffers)
		}
		x.progress.add(t.Table.Name, Event{Done: 1})
	}
	return nil
}

func (x *restorer) done() *Report {
	x.report.Finished = stamp(x.Now)
	return x.report
}

// closed makes sure that the four counts of rows agree.
func (x *restorer) closed() error {
	for _, t := range x.report.Tables {
		if t.Decoded != t.Rows || t.Acknowledged != t.Rows || t.Counted != t.Rows {
			return fmt.Errorf("snapshot: table %s: %d rows signed, %d decoded, %d acknowledged, %d counted: %w",
				t.Name, t.Rows, t.Decoded, t.Acknowledged, t.Counted, ErrDiffers)
		}
	}
	return nil
}
