package snapshot

import (
	"context"
	"errors"
	"fmt"

	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// comparer returns what holds the target against what was signed.
func (x *restorer) comparer() *comparer {
	c := &comparer{
		archive: x.From, entry: x.entry, with: x.Check, turns: x.turns, memory: x.memory, limit: defaultDifferences,
		progress: x.progress, names: map[string]string{}, rows: x.Rows, suppress: x.Suppress,
	}
	for _, t := range x.tables {
		c.names[t.signed.Table.Name] = t.table.Name
	}
	return c
}

// compare holds the restored tables against what was signed. Where it is not what
// an earlier run believed to have written, the rows are written again, once.
func (x *restorer) compare(ctx context.Context) error {
	var total int64
	for _, t := range x.tables {
		total += int64(max(1, len(t.jobs)))
	}
	x.progress.begin("compare", total)
	var left []*restored
	for _, t := range x.tables {
		if !x.compared(t) {
			left = append(left, t)
		}
	}
	results, err := x.compareTables(ctx, left)
	if err != nil {
		return err
	}
	var problems []error
	for i, t := range left {
		err := x.settle(ctx, t, results[i])
		if err != nil && !errors.Is(err, ErrDiffers) {
			return err
		}
		if err != nil {
			problems = append(problems, err)
			x.report.Problems = append(x.report.Problems, err.Error())
		}
	}
	return errors.Join(problems...)
}

// compareTables compares tables, several at once: small ones share the workers. It
// leaves out those that have keys the service chose.
func (x *restorer) compareTables(ctx context.Context, tables []*restored) (results []error, err error) {
	results = make([]error, len(tables))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(x.Workers)
	for i, t := range tables {
		if t.generate {
			continue
		}
		group.Go(func() error {
			results[i] = x.compareTable(ctx, t)
			if errors.Is(results[i], ErrDiffers) {
				return nil
			}
			return results[i]
		})
	}
	return results, group.Wait()
}

// settle does what a comparison that ended with err calls for.
func (x *restorer) settle(ctx context.Context, t *restored, err error) error {
	switch {
	case t.generate:
		err = x.compareGenerated(ctx, t)
	case errors.Is(err, ErrDiffers) && x.Journal.Resumed() && !t.finished:
		err = x.again(ctx, t)
	}
	if err != nil {
		return err
	}
	if !t.generate {
		x.tell(t)
	}
	return x.Journal.record(ctx, entry{Table: t.signed.Table.Name, Step: stepCompare, Rows: t.report.Counted, Left: t.report.left()})
}

// compared reports whether an earlier run has compared a table that has its
// options since, and a time to live among them, which may hide what was compared.
func (x *restorer) compared(t *restored) bool {
	state := x.Journal.table(t.signed.Table.Name)
	if !state.compared || !t.finished || timeToLive(t.table) <= 0 || t.generate && x.KeyMap != nil { // the keys have to be told
		return false
	}
	r := t.report
	r.Counted, r.Rows, r.Compared = state.rows, r.Decoded, true
	if r.Suppressed = x.Suppress.report(t.signed.Table.Name); r.Suppressed != nil {
		r.Suppressed.Rows = state.left
		r.suppressedOf(t.signed, x.Rows)
	}
	x.report.Notes = append(x.report.Notes, fmt.Sprintf("table %s: compared by the run that is resumed here, before it got its options", t.table.Name))
	return true
}

func (x *restorer) compareTable(ctx context.Context, t *restored) error {
	run := x.comparer()
	run.within = t.live != nil && x.Mode != FillEmpty
	run.tolerant = run.within && !x.DeleteExtra
	if run.within && x.Mode == Insert {
		run.kept = t.report.Kept
	}
	t.report.Others = run.tolerant
	found, err := run.table(ctx, t.signed, t.jobs, nil)
	if found == nil {
		return err
	}
	r := t.report
	r.Rows, r.Counted, r.Missing, r.Extra, r.Changed = found.Rows, found.Counted, found.Missing, found.Extra, found.Changed
	r.Differences, r.Suppressed = found.Differences, found.Suppressed
	if r.Suppressed != nil {
		r.Suppressed.Deleted = t.removed
	}
	r.Compared = true
	return err
}

// tell notes what a comparison found that is no difference.
func (x *restorer) tell(t *restored) {
	r := t.report
	if r.Deleted > 0 {
		x.note(t, "%d rows that were not signed were removed", r.Deleted)
	}
	if r.Kept > 0 {
		x.note(t, "%d rows were there already", r.Kept)
	}
	if t.removed > 0 {
		x.note(t, "%d of the rows removed are on the lists of rows that must not come back", t.removed)
	}
	live := int64(0)
	if r.Suppressed != nil {
		live = r.Suppressed.Live
	}
	if live > 0 {
		x.note(t, "%d rows on the lists of rows that must not come back are in it, and are left there: remove them, or restore in mode repair and let rows be removed that are extra", live)
	}
	if r.Extra > live {
		x.note(t, "%d rows that were not signed are left as they are", r.Extra-live)
	}
	if r.Changed > 0 {
		x.note(t, "%d of the %d rows that were there differ from what was signed, and are left as they are", r.Changed, r.Kept)
	}
}

func (x *restorer) note(t *restored, format string, args ...any) {
	x.report.Notes = append(x.report.Notes, fmt.Sprintf("table %s: ", t.table.Name)+fmt.Sprintf(format, args...))
}

// again writes all chunks of a table whose journal was not right, and compares once
// more.
func (x *restorer) again(ctx context.Context, t *restored) error {
	x.note(t, "what the interrupted run had written was not all there; written again")
	x.Journal.distrust(t.signed.Table.Name)
	if t.live != nil { // it may have its own options again
		if err := x.takeVersions(ctx, t); err != nil {
			return inTable(t.table, err)
		}
	}
	r := t.report
	*r = TableReport{Name: r.Name, Target: r.Target, ChunksSigned: r.ChunksSigned, Differences: []Difference{}, Expired: r.Expired}
	t.leftOut, t.removed = 0, 0
	for _, w := range interleave([]*restored{t}) {
		if err := x.chunk(ctx, w); err != nil {
			return fmt.Errorf("snapshot: table %s, %s: %w", t.table.Name, w.job.chunk.Name, err)
		}
	}
	return x.compareTable(ctx, t)
}

// finish gives the tables their options, streams and indexes, and looks whether
// they took them. One that did not keeps no other from its own.
func (x *restorer) finish(ctx context.Context) error {
	x.progress.begin("finish", int64(len(x.tables)))
	var problems []error
	for _, t := range x.tables {
		if err := x.configure(ctx, t); err != nil {
			return inTable(t.table, err)
		}
		if err := x.indexes(ctx, t); err != nil {
			return inTable(t.table, err)
		}
		switch err := x.taken(ctx, t); {
		case errors.Is(err, ErrDiffers):
			problems = append(problems, err)
		case err != nil:
			return err
		}
		x.progress.add(t.table.Name, Event{Done: 1})
	}
	return errors.Join(problems...)
}

// configure gives a table its options: those that were signed, or its own again.
// The journal knows before it does: with them the table may not show any more what
// was compared.
func (x *restorer) configure(ctx context.Context, t *restored) error {
	name := t.signed.Table.Name
	if !x.Journal.table(name).configured {
		if err := x.Journal.record(ctx, entry{Table: name, Step: stepConfigure}); err != nil {
			return err
		}
	}
	if t.live == nil {
		return x.To.Configure(ctx, t.table)
	}
	if x.open(t) == t.live.Options {
		return nil
	}
	err := x.To.Configure(ctx, optionsOf(t))
	t.opened = t.opened && err != nil
	return err
}

// optionsOf describes a table that exists with its options alone: its stream and
// its throughput were not changed.
func optionsOf(t *restored) manifest.Table {
	table := t.table
	table.Stream, table.Throughput = manifest.Stream{}, manifest.Throughput{}
	return table
}

func (x *restorer) indexes(ctx context.Context, t *restored) error {
	name := t.signed.Table.Name
	for _, i := range t.table.Indexes {
		if x.Journal.table(name).indexes[i.Name] {
			continue
		}
		x.progress.add(t.table.Name, Event{Message: "secondary index " + i.Name})
		if err := x.To.CreateIndex(ctx, t.table, i); err != nil {
			return err
		}
		if err := x.Journal.record(ctx, entry{Table: name, Step: stepIndex, Object: i.Name}); err != nil {
			return err
		}
	}
	for _, i := range t.table.SearchIndexes {
		object := "search/" + i.Name
		if x.Journal.table(name).indexes[object] {
			continue
		}
		x.progress.add(t.table.Name, Event{Message: "search index " + i.Name})
		if err := x.To.CreateSearchIndex(ctx, t.table, i); err != nil {
			return err
		}
		if err := x.Journal.record(ctx, entry{Table: name, Step: stepIndex, Object: object}); err != nil {
			return err
		}
	}
	return nil
}

// taken looks whether the table is in the end what the plan said.
func (x *restorer) taken(ctx context.Context, t *restored) error {
	live, err := x.Check.Describe(ctx, t.table.Name)
	if err != nil {
		return inTable(t.table, err)
	}
	if t.live == nil {
		for _, what := range tableDifferences(t.table, live) {
			problem := fmt.Errorf("snapshot: table %s: %s: %w", t.table.Name, what, ErrDiffers)
			x.report.Problems = append(x.report.Problems, problem.Error())
			err = errors.Join(err, problem)
		}
	} else if live.Options != t.live.Options {
		err = fmt.Errorf("snapshot: table %s has options %s, before the restore %s: %w",
			t.table.Name, optionsText(live.Options), optionsText(t.live.Options), ErrDiffers)
	}
	if err != nil {
		return err
	}
	return x.expired(ctx, t)
}

// expiring counts, of tables with a time to live, what it will hide of what is
// restored: before anything is written.
func (x *restorer) expiring(ctx context.Context) error {
	for _, t := range x.tables {
		ttl := timeToLive(t.table)
		if ttl <= 0 || t.table.Timeseries.Part == manifest.MetaPart {
			continue
		}
		e := &Expiry{TTL: ttl}
		end := x.Now().UnixMilli() - e.TTL*1000
		var left int64 // counted when they are written
		for _, j := range t.jobs {
			for r, err := range rows(*j.layout, x.selected(ctx, t, j, &left)) {
				if err == nil {
					err = e.add(r.row, end, t.table.Timeseries.Part != "")
				}
				if err != nil {
					return inTable(t.table, err)
				}
			}
		}
		t.report.Expired = e
		if t.live != nil && x.Mode != FillEmpty && e.Cells > 0 {
			return fmt.Errorf("snapshot: table %s has a time to live of %d seconds, and %d of %d cells to be written are older: the service refuses or hides them; raise it, or restore under another name; nothing was written",
				t.table.Name, e.TTL, e.Cells, e.AllCells)
		}
		if e.Cells > 0 {
			x.note(t, "%d of %d cells, and with them %d of %d rows, are older than its time to live of %d seconds; they will vanish when it gets it back, after the comparison",
				e.Cells, e.AllCells, e.Rows, e.AllRows, e.TTL)
		}
	}
	return nil
}

// add counts a row, of which what is of before end is hidden. Cells of a timeseries
// table are as old as their point.
func (e *Expiry) add(wire []byte, end int64, series bool) error {
	r, err := row.Parse(wire)
	if err != nil {
		return err
	}
	old := int64(0)
	for _, c := range r.Cells {
		at := c.Version
		if series {
			at = r.Key[len(r.Key)-1].Integer() / 1000 // its last column is microseconds
		}
		if at < end {
			old++
		}
	}
	e.AllRows++
	e.AllCells += int64(len(r.Cells))
	e.Cells += old
	if old > 0 && old == int64(len(r.Cells)) {
		e.Rows++
	}
	return nil
}

// expired counts what a table with a time to live still shows.
func (x *restorer) expired(ctx context.Context, t *restored) error {
	e := t.report.Expired
	if e == nil || e.Cells == 0 || t.live != nil {
		return nil
	}
	layout := row.Layout{Key: t.signed.Table.Key, Columns: t.signed.Table.Columns}
	for batch, err := range x.Check.Scan(ctx, Scan{Table: t.table, Layout: layout, Rows: groupRows, Bytes: groupBytes, Digest: true}) {
		if err != nil {
			return inTable(t.table, err)
		}
		e.Visible += int64(len(batch.Leaves))
	}
	x.note(t, "with its time to live it shows %d of the %d rows restored", e.Visible, t.report.Counted)
	return nil
}
