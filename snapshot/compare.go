package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// defaultDifferences is how many differences of a table are named.
const defaultDifferences = 20

// digestRows is how many digests are taken in at once: few, as nothing is made of
// them but one.
const digestRows = 8 << 10

// Compare holds live tables against a snapshot, cell by cell: every part of the
// key space is scanned, and its rows must have the signed digest. Chunks are
// read only where they have not, to name what differs.
type Compare struct {
	Archive  *Archive
	Snapshot string        // as Find takes it; "": the newest
	Tables   []string      // globs as Select takes them; none: all tables
	Rename   []Rename      // names of the live tables, where a restore gave them others
	Require  []Requirement // what the snapshot must have beside its signatures
	With     Source

	// Suppress is rows that are not expected, though they were signed; one that is
	// there is extra, and not named. Nil: none.
	Suppress *Suppression

	Workers  int   // parts of the key space in work at once; 0: DefaultWorkers
	Memory   int64 // in bytes, as of Export
	Limit    int   // differences named a table; 0: 20. All are counted
	Now      func() time.Time
	Progress func(Event)
}

// comparer is a comparison under way.
type comparer struct {
	archive  *Archive
	entry    Entry
	with     Source
	limit    int
	progress *progress
	names    map[string]string // of live tables, by those that were signed
	renames  []Rename
	turns    chan struct{} // has one for each part in work, of all tables
	memory   *budget

	rows     archive.Selection // of what was signed
	suppress *Suppression      // less these; nil: none
	within   bool              // other keys of the live tables are not looked at
	tolerant bool              // rows that were not signed are no difference
	kept     int64             // so many rows may differ

	mu sync.Mutex
}

// Run compares. Any difference, also a table that is not there, is ErrDiffers.
func (c Compare) Run(ctx context.Context) (*Report, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	found, err := c.Archive.Find(ctx, c.Snapshot)
	if err != nil {
		return nil, err
	}
	met, err := c.Archive.require(ctx, found, c.Require)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if err := c.Suppress.check(found.Manifest); err != nil {
		return nil, err
	}
	names, err := selectTables([]Entry{found}, c.Tables)
	if err != nil {
		return nil, err
	}
	run := &comparer{
		archive: c.Archive, entry: found, with: c.With, progress: newProgress(c.Progress),
		limit: orDefault(c.Limit, defaultDifferences), names: map[string]string{}, renames: c.Rename,
		turns: make(chan struct{}, orDefault(c.Workers, DefaultWorkers)), memory: newBudget(c.Memory), suppress: c.Suppress,
	}
	if err := run.rename(found, names, c.Rename); err != nil {
		return nil, fmt.Errorf("snapshot: compare: %w", err)
	}
	report := newReport("compare", c.Archive, found, c.Now)
	report.after(found)
	report.Notes = append(report.Notes, met...)
	c.Suppress.tell(report)
	instance := c.With.Instance()
	report.Instance = &instance
	run.progress.begin("compare", chunkCount(found.Manifest, names))
	compared, err := run.tables(ctx, names)
	if err != nil {
		return nil, err
	}
	var problems []error
	for _, t := range compared {
		report.Notes = append(report.Notes, t.notes...)
		if t.err != nil {
			problems = append(problems, t.err)
			report.Problems = append(report.Problems, t.err.Error())
		}
		t.report.Compared = true
		report.Tables = append(report.Tables, *t.report)
		report.Totals.Add(t.signed.Totals)
	}
	report.Finished = stamp(c.Now)
	report.proved(found)
	return report, errors.Join(problems...)
}

// compared is what a comparison says of a table.
type compared struct {
	signed manifest.TableEntry
	report *TableReport
	notes  []string
	err    error // ErrDiffers
}

// tables compares the named tables, several at once: small ones share the workers.
func (c *comparer) tables(ctx context.Context, names []string) ([]compared, error) {
	var all []compared
	for _, t := range c.entry.Manifest.Tables {
		if slices.Contains(names, t.Table.Name) {
			all = append(all, compared{signed: t})
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cap(c.turns))
	for i := range all {
		group.Go(func() error {
			t := &all[i]
			jobs, err := rangeJobs(ctx, c.archive, c.entry, t.signed, manifest.Range{})
			if err != nil {
				return err
			}
			note := func(text string) { t.notes = append(t.notes, text) }
			if t.report, t.err = c.table(ctx, t.signed, jobs, note); t.report == nil {
				return t.err
			}
			return nil
		})
	}
	return all, group.Wait()
}

// chunkCount is how many parts the named tables are compared in.
func chunkCount(m *manifest.Manifest, names []string) int64 {
	var n int64
	for _, t := range m.Tables {
		if slices.Contains(names, t.Table.Name) {
			n += max(1, t.Totals.Chunks)
		}
	}
	return n
}

// rename notes the names of the live tables.
func (c *comparer) rename(e Entry, names []string, renames []Rename) error {
	var signed, live []manifest.Table
	for _, t := range e.Manifest.Tables {
		if slices.Contains(names, t.Table.Name) {
			renamed := inTarget(t.Table, renames)
			c.names[t.Table.Name] = renamed.Name
			signed, live = append(signed, t.Table), append(live, renamed)
		}
	}
	return checkNames(signed, live, renames)
}

// table compares one table with the chunks that are to be looked at, and tells note,
// unless it is nil, how the live one is defined otherwise. The report is nil unless
// the error is nil or ErrDiffers.
func (c *comparer) table(ctx context.Context, t manifest.TableEntry, jobs []job, note func(string)) (*TableReport, error) {
	report := &TableReport{Name: t.Table.Name, ChunksSigned: t.Totals.Chunks, Differences: []Difference{}, Suppressed: c.suppress.report(t.Table.Name)}
	name := c.names[t.Table.Name]
	if name != t.Table.Name {
		report.Target = name
	}
	live, err := c.with.Describe(ctx, name)
	if isNotExist(err) {
		report.Rows, report.Missing = t.Totals.Rows, t.Totals.Rows
		return report, fmt.Errorf("snapshot: table %s does not exist in instance %s: %w", name, c.with.Instance().Name, ErrDiffers)
	}
	if err != nil {
		return nil, inTable(t.Table, err)
	}
	if note != nil {
		c.definition(t.Table, live, note)
	}
	if !sameKey(live.Key, t.Table.Key) {
		report.Rows = t.Totals.Rows
		return report, fmt.Errorf("snapshot: table %s has primary key %s, signed was %s: %w",
			name, formatKeyColumns(live.Key), formatKeyColumns(t.Table.Key), ErrDiffers)
	}
	if err := c.parts(ctx, parts(c.entry, t, jobs), report); err != nil {
		return nil, inTable(t.Table, err)
	}
	report.suppressedOf(t, c.rows)
	slices.SortStableFunc(report.Differences, func(a, b Difference) int { return bytes.Compare([]byte(a.Key), []byte(b.Key)) })
	return report, c.judge(name, report)
}

// parts compares parts of a table, as turns come up.
func (c *comparer) parts(ctx context.Context, parts []job, report *TableReport) error {
	group, ctx := errgroup.WithContext(ctx)
	var err error
	for _, part := range parts {
		if err = send(ctx, c.turns, struct{}{}); err != nil {
			break
		}
		group.Go(func() error {
			defer func() { <-c.turns }()
			return c.part(ctx, part, report)
		})
	}
	return cmp.Or(group.Wait(), err) // the reason, where err is only that ctx is done
}

// definition notes how a live table is defined otherwise than the one that was
// signed.
func (c *comparer) definition(signed, live manifest.Table, note func(string)) {
	signed.Indexes = inTarget(signed, c.renames).Indexes
	for _, what := range tableDifferences(signed, live) {
		note(fmt.Sprintf("table %s: rows are compared, and not how it is defined: %s", live.Name, what))
	}
}

// judge says whether what was found in a table is what may be.
func (c *comparer) judge(name string, r *TableReport) error {
	if s := r.Suppressed; s != nil && s.Live > 0 && !c.tolerant {
		return fmt.Errorf("snapshot: table %s: %d rows on the lists of rows that must not come back are in it; beside them %d rows missing, %d extra, %d changed: %w",
			name, s.Live, r.Missing, r.Extra-s.Live, r.Changed, ErrDiffers)
	}
	if r.Missing > 0 || r.Extra > 0 && !c.tolerant || r.Changed > c.kept {
		return fmt.Errorf("snapshot: table %s: %d rows missing, %d extra, %d changed: %w", name, r.Missing, r.Extra, r.Changed, ErrDiffers)
	}
	if r.Counted-r.Extra != r.Rows {
		return fmt.Errorf("snapshot: table %s: %d rows counted, %d signed: %w", name, r.Counted-r.Extra, r.Rows, ErrDiffers)
	}
	if s := r.Suppressed; s != nil && s.Signed != s.Rows+r.Rows {
		return fmt.Errorf("snapshot: table %s: %d rows signed, %d left out, %d compared: %w", name, s.Signed, s.Rows, r.Rows, ErrDiffers)
	}
	return nil
}

// parts are the parts of the live table that chunks answer for: side by side they
// are all of its key space.
func parts(e Entry, t manifest.TableEntry, jobs []job) []job {
	if len(jobs) == 0 {
		layout := &row.Layout{Key: t.Table.Key, Columns: t.Table.Columns}
		return []job{{entry: &e, table: &t, layout: layout}}
	}
	all := slices.Clone(jobs)
	all[0].from, all[len(all)-1].to = nil, nil
	return all
}

func formatKeyColumns(key []manifest.KeyColumn) string {
	var text []byte
	for i, k := range key {
		if i > 0 {
			text = append(text, ", "...)
		}
		text = fmt.Appendf(text, "%s %s", k.Name, k.Type)
	}
	return "(" + string(text) + ")"
}

// part compares the part of the key space one chunk answers for.
func (c *comparer) part(ctx context.Context, j job, report *TableReport) error {
	found, differs, err := c.sum(ctx, j)
	if err == nil && differs {
		err = c.differences(ctx, j, &found)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	report.merge(found, c.limit)
	c.progress.add(j.table.Table.Name, Event{Done: 1})
	return nil
}

// sum reports whether the rows of a part can be other than those that were signed,
// going by their digest where there is one for what is selected.
func (c *comparer) sum(ctx context.Context, j job) (found TableReport, differs bool, err error) {
	found = TableReport{Chunks: min(1, j.chunk.Rows), StoredBytes: j.chunk.Size}
	if c.suppress != nil {
		found.Suppressed = new(TableSuppression)
	}
	if !c.whole(j) {
		return found, true, nil
	}
	giveBack, err := c.memory.take(ctx, scanBytes)
	if err != nil {
		return found, false, err
	}
	defer giveBack()
	var tree manifest.Tree
	for batch, err := range c.scan(ctx, j, true) {
		if err != nil {
			return found, false, err
		}
		for _, leaf := range batch.Leaves {
			tree.Add(leaf)
		}
		found.RawBytes += batch.Bytes
		c.progress.add(j.table.Table.Name, Event{Rows: int64(len(batch.Leaves)), RawBytes: batch.Bytes})
	}
	found.Rows, found.Counted = j.chunk.Rows, tree.Size()
	return found, tree.Size() != j.chunk.Rows || tree.Root() != signedDigest(j), nil
}

// whole reports whether all rows of a chunk are selected.
func (c *comparer) whole(j job) bool {
	s := c.rows
	if s.Where != nil || len(s.Columns) > 0 || c.without(j).Touches(j.chunk.First, j.chunk.Last) {
		return false
	}
	return j.chunk.Rows == 0 || archive.Contains(s.Within, j.chunk.First) && archive.Contains(s.Within, j.chunk.Last)
}

// without returns the keys that must not be in the table of a part.
func (c *comparer) without(j job) archive.KeySet { return c.suppress.of(j.table.Table.Name) }

// signedDigest is the row digest the part must have; a part without a chunk must
// be empty.
func signedDigest(j job) manifest.Hash {
	if j.chunk.Rows == 0 {
		return new(manifest.Tree).Root()
	}
	return j.chunk.RowDigest
}

func (t *TableReport) merge(o TableReport, limit int) {
	t.Chunks += o.Chunks
	t.Rows += o.Rows
	t.Counted += o.Counted
	t.RawBytes += o.RawBytes
	t.StoredBytes += o.StoredBytes
	t.Missing += o.Missing
	t.Extra += o.Extra
	t.Changed += o.Changed
	if s := o.Suppressed; s != nil {
		t.Suppressed.Rows += s.Rows
		t.Suppressed.Live += s.Live
	}
	room := max(0, limit-len(t.Differences))
	t.Differences = append(t.Differences, o.Differences[:min(room, len(o.Differences))]...)
}

// scan scans a part of the live table, for its rows or only for their digests.
func (c *comparer) scan(ctx context.Context, j job, digest bool) iter.Seq2[row.Batch, error] {
	table := j.table.Table
	table.Name = c.names[table.Name]
	part := manifest.Range{From: j.from, To: j.to}
	if c.within {
		var any bool
		if part, any = row.Whole(table.Key, row.Intersect(part, c.rows.Keys(table.Key))); !any {
			return func(func(row.Batch, error) bool) {}
		}
	}
	scan := Scan{Table: table, Layout: *j.layout, From: part.From, To: part.To, Rows: groupRows, Bytes: groupBytes, Digest: digest}
	if digest {
		scan.Rows = digestRows
	}
	return c.with.Scan(ctx, scan)
}

// keyed is a row in PlainBuffer with its key.
type keyed struct {
	key manifest.Key
	row []byte
}

// pair is a row that was signed, one that is live, or both of one key: order is
// negative where only the signed one is there, positive where only the live one is.
type pair struct {
	order        int
	signed, live keyed
}

// pairs reads the chunk and scans its part, side by side. It adds to left how many
// rows of the chunk lists leave out.
func (c *comparer) pairs(ctx context.Context, j job, left *int64) iter.Seq2[pair, error] {
	return func(yield func(pair, error) bool) {
		signed, stopSigned := iter.Pull2(c.signedRows(ctx, j, left))
		defer stopSigned()
		live, stopLive := iter.Pull2(rows(*j.layout, records(c.scan(ctx, j, false))))
		defer stopLive()
		s, sErr, sOK := signed()
		l, lErr, lOK := live()
		for sOK || lOK {
			if sErr != nil || lErr != nil {
				yield(pair{}, errors.Join(sErr, lErr))
				return
			}
			p := pair{signed: s, live: l}
			switch {
			case !lOK:
				p.order = -1
			case !sOK:
				p.order = 1
			default:
				p.order = bytes.Compare(s.key, l.key)
			}
			if !yield(p, nil) {
				return
			}
			if p.order >= 0 {
				l, lErr, lOK = live()
			}
			if p.order <= 0 {
				s, sErr, sOK = signed()
			}
		}
	}
}

// differences notes every row that is not in the chunk and in its part alike.
func (c *comparer) differences(ctx context.Context, j job, found *TableReport) error {
	found.Rows, found.Counted = 0, 0
	giveBack, err := c.memory.take(ctx, pairsMemory(j.chunk))
	if err != nil {
		return err
	}
	defer giveBack()
	var left int64
	for p, err := range c.pairs(ctx, j, &left) {
		if err == nil {
			err = c.note(j, found, p)
		}
		if err != nil {
			return err
		}
		if p.order <= 0 {
			found.Rows++
		}
		if p.order >= 0 {
			found.Counted++
		}
	}
	if found.Suppressed != nil {
		found.Suppressed.Rows = left
	}
	return nil
}

// note adds the difference of a pair, if there is one.
func (c *comparer) note(j job, found *TableReport, p pair) error {
	d := Difference{Table: j.table.Table.Name}
	switch {
	case p.order < 0:
		found.Missing++
		d.Kind, d.Key = "missing", row.FormatKey(j.layout.Key, p.signed.key)
	case p.order > 0:
		found.Extra++
		if c.without(j).Has(p.live.key) {
			found.Suppressed.Live++
			return nil // who is on a list is not named
		}
		if c.tolerant {
			return nil
		}
		d.Kind, d.Key = "extra", row.FormatKey(j.layout.Key, p.live.key)
	case bytes.Equal(p.signed.row, p.live.row):
		return nil
	default:
		found.Changed++
		d.Kind, d.Key = "changed", row.FormatKey(j.layout.Key, p.live.key)
		if len(found.Differences) >= c.limit {
			return nil
		}
		cells, err := cellDifferences(d, p.signed.row, p.live.row)
		found.Differences = append(found.Differences, cells...)
		return err
	}
	if len(found.Differences) < c.limit {
		found.Differences = append(found.Differences, d)
	}
	return nil
}

// cellDifferences names the cells in which two rows with one key differ.
func cellDifferences(d Difference, signed, live []byte) ([]Difference, error) {
	s, err := row.Parse(signed)
	if err != nil {
		return nil, err
	}
	l, err := row.Parse(live)
	if err != nil {
		return nil, err
	}
	type cellKey struct {
		name    string
		version int64
	}
	inLive := map[cellKey]row.Value{}
	for _, cell := range l.Cells {
		inLive[cellKey{cell.Name, cell.Version}] = cell.Value
	}
	var differences []Difference
	name := func(cell row.Cell, signed, live string) {
		d.Cell, d.Signed, d.Live = fmt.Sprintf("%s@%d", cell.Name, cell.Version), signed, live
		differences = append(differences, d)
	}
	for _, cell := range s.Cells {
		key := cellKey{cell.Name, cell.Version}
		value, ok := inLive[key]
		delete(inLive, key)
		if !ok {
			name(cell, cell.Value.String(), "no such cell")
		} else if value != cell.Value {
			name(cell, cell.Value.String(), value.String())
		}
	}
	for _, cell := range l.Cells {
		if value, ok := inLive[cellKey{cell.Name, cell.Version}]; ok {
			name(cell, "no such cell", value.String())
		}
	}
	return differences, nil
}

// signedRows yields the rows of the part's chunk, which must have the signed row
// digest: rows are compared by it and by themselves, and both must say the same.
func (c *comparer) signedRows(ctx context.Context, j job, left *int64) iter.Seq2[keyed, error] {
	if j.chunk.Rows == 0 {
		return func(func(keyed, error) bool) {}
	}
	s := c.suppress.without(c.rows, j.table.Table.Name)
	s.LeftOut = func(rows int64) { *left += rows }
	return func(yield func(keyed, error) bool) {
		if s.LeavesOut(j.chunk) {
			s.LeftOut(j.chunk.Rows)
			return
		}
		object := j.object()
		data, err := archive.Fetch(ctx, c.archive.Store, object)
		if err != nil {
			yield(keyed{}, missing(object.Name, err))
			return
		}
		if err := archive.Check(ctx, data, *j.layout, j.chunk); err != nil {
			yield(keyed{}, fmt.Errorf("%s: %w", object.Name, err))
			return
		}
		for r, err := range rows(*j.layout, decoded(ctx, data, j, s)) {
			if !yield(r, err) {
				return
			}
		}
	}
}

// records leaves of batches only their records.
func records(batches iter.Seq2[row.Batch, error]) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for batch, err := range batches {
			if !yield(batch.Record, err) {
				return
			}
		}
	}
}

// rows yields each row of the records in PlainBuffer, in memory of its own.
func rows(layout row.Layout, records iter.Seq2[arrow.RecordBatch, error]) iter.Seq2[keyed, error] {
	return func(yield func(keyed, error) bool) {
		encoder := row.NewEncoder(layout)
		for record, err := range records {
			if err == nil {
				err = encoder.Reset(record)
			}
			if err != nil {
				yield(keyed{}, err)
				return
			}
			for i := range int(record.NumRows()) {
				wire, err := encoder.AppendRow(nil, i)
				if !yield(keyed{key: encoder.AppendKey(nil, i), row: wire}, err) || err != nil {
					return
				}
			}
		}
	}
}
