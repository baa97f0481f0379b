package snapshot

import (
	"bytes"
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

// Compare holds live tables against a snapshot, cell by cell: every part of the
// key space is scanned, and its rows must have the signed digest. Chunks are
// read only where they have not, to name what differs.
type Compare struct {
	Archive  *Archive
	Snapshot string   // as Find takes it; "": the newest
	Tables   []string // globs as Select takes them; none: all tables
	With     Source
	Workers  int // parts of the key space in work at once; 0: DefaultWorkers
	Limit    int // differences named a table; 0: 20. All are counted
	Now      func() time.Time
	Progress func(Event)
}

// comparer is a comparison under way.
type comparer struct {
	archive  *Archive
	entry    Entry
	with     Source
	workers  int
	limit    int
	progress *progress

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
	names, err := selectTables([]Entry{found}, c.Tables)
	if err != nil {
		return nil, err
	}
	run := &comparer{
		archive: c.Archive, entry: found, with: c.With, progress: newProgress(c.Progress),
		workers: orDefault(c.Workers, DefaultWorkers), limit: orDefault(c.Limit, defaultDifferences),
	}
	report := newReport("compare", c.Archive, found, c.Now)
	report.after(found)
	instance := c.With.Instance()
	report.Instance = &instance
	var problems []error
	run.progress.begin("compare", chunkCount(found.Manifest, names))
	for _, t := range found.Manifest.Tables {
		if !slices.Contains(names, t.Table.Name) {
			continue
		}
		tr, err := run.table(ctx, t)
		if err != nil && !errors.Is(err, ErrDiffers) {
			return nil, err
		}
		if err != nil {
			problems = append(problems, err)
			report.Problems = append(report.Problems, err.Error())
		}
		report.Tables = append(report.Tables, *tr)
		report.Totals.Add(t.Totals)
	}
	report.Finished = stamp(c.Now)
	return report, errors.Join(problems...)
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

// table compares one table. The report is never nil when the error is nil or
// ErrDiffers.
func (c *comparer) table(ctx context.Context, t manifest.TableEntry) (*TableReport, error) {
	report := &TableReport{Name: t.Table.Name, Rows: t.Totals.Rows, Differences: []Difference{}}
	live, err := c.with.Describe(ctx, t.Table.Name)
	if isNotExist(err) {
		report.Missing = t.Totals.Rows
		return report, fmt.Errorf("snapshot: table %s does not exist in instance %s: %w", t.Table.Name, c.with.Instance().Name, ErrDiffers)
	}
	if err != nil {
		return nil, inTable(t.Table, err)
	}
	if !sameKey(live.Key, t.Table.Key) {
		return report, fmt.Errorf("snapshot: table %s has primary key %s, signed was %s: %w",
			t.Table.Name, formatKeyColumns(live.Key), formatKeyColumns(t.Table.Key), ErrDiffers)
	}
	pages, err := tablePages(ctx, c.archive, c.entry, t)
	if err != nil {
		return nil, err
	}
	parts := tableJobs(c.entry, t, pages)
	if len(parts) == 0 {
		layout := &row.Layout{Key: t.Table.Key, Columns: t.Table.Columns}
		parts = []job{{entry: c.entry, table: &t, layout: layout, from: manifest.Key{}, to: manifest.Key{}}}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.workers)
	for _, part := range parts {
		group.Go(func() error { return c.part(ctx, part, report) })
	}
	if err := group.Wait(); err != nil {
		return nil, inTable(t.Table, err)
	}
	if n := report.Missing + report.Extra + report.Changed; n > 0 {
		slices.SortStableFunc(report.Differences, func(a, b Difference) int { return bytes.Compare([]byte(a.Key), []byte(b.Key)) })
		return report, fmt.Errorf("snapshot: table %s: %d rows missing, %d extra, %d changed: %w", t.Table.Name, report.Missing, report.Extra, report.Changed, ErrDiffers)
	}
	if report.Counted != report.Rows {
		return report, fmt.Errorf("snapshot: table %s: %d rows counted, %d signed: %w", t.Table.Name, report.Counted, report.Rows, ErrDiffers)
	}
	return report, nil
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
	var tree manifest.Tree
	var raw int64
	for batch, err := range c.scan(ctx, j) {
		if err != nil {
			return err
		}
		for _, leaf := range batch.Leaves {
			tree.Add(leaf)
		}
		raw += batch.Bytes
		c.progress.add(j.table.Table.Name, Event{Rows: int64(len(batch.Leaves)), RawBytes: batch.Bytes})
	}
	found := TableReport{Counted: tree.Size(), Chunks: min(1, j.chunk.Rows), RawBytes: raw, StoredBytes: j.chunk.Size}
	if tree.Size() != j.chunk.Rows || tree.Root() != signedDigest(j) {
		if err := c.differences(ctx, j, &found); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	report.merge(found, c.limit)
	c.progress.add(j.table.Table.Name, Event{Done: 1})
	return nil
}

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
	t.Counted += o.Counted
	t.RawBytes += o.RawBytes
	t.StoredBytes += o.StoredBytes
	t.Missing += o.Missing
	t.Extra += o.Extra
	t.Changed += o.Changed
	room := max(0, limit-len(t.Differences))
	t.Differences = append(t.Differences, o.Differences[:min(room, len(o.Differences))]...)
}

func (c *comparer) scan(ctx context.Context, j job) iter.Seq2[row.Batch, error] {
	return c.with.Scan(ctx, Scan{
		Table: j.table.Table, Layout: *j.layout, From: j.from, To: j.to, Rows: groupRows, Bytes: groupBytes,
	})
}

// keyed is a row in PlainBuffer with its key.
type keyed struct {
	key manifest.Key
	row []byte
}

// differences reads the chunk and scans its part again, side by side, and notes
// every row that is not in both alike.
func (c *comparer) differences(ctx context.Context, j job, found *TableReport) error {
	signed, stopSigned := iter.Pull2(c.signedRows(ctx, j))
	defer stopSigned()
	live, stopLive := iter.Pull2(rows(*j.layout, records(c.scan(ctx, j))))
	defer stopLive()
	found.Counted = 0
	s, sErr, sOK := signed()
	l, lErr, lOK := live()
	for sOK || lOK {
		if sErr != nil || lErr != nil {
			return errors.Join(sErr, lErr)
		}
		order := 0
		switch {
		case !lOK:
			order = -1
		case !sOK:
			order = 1
		default:
			order = bytes.Compare(s.key, l.key)
		}
		if err := c.note(j, found, order, s, l); err != nil {
			return err
		}
		if order >= 0 {
			found.Counted++
			l, lErr, lOK = live()
		}
		if order <= 0 {
			s, sErr, sOK = signed()
		}
	}
	return nil
}

// note adds the difference between a signed and a live row: order is negative
// where only the signed one has this key, positive where only the live one has.
func (c *comparer) note(j job, found *TableReport, order int, signed, live keyed) error {
	d := Difference{Table: j.table.Table.Name}
	switch {
	case order < 0:
		found.Missing++
		d.Kind, d.Key = "missing", row.FormatKey(j.layout.Key, signed.key)
	case order > 0:
		found.Extra++
		d.Kind, d.Key = "extra", row.FormatKey(j.layout.Key, live.key)
	case bytes.Equal(signed.row, live.row):
		return nil
	default:
		found.Changed++
		d.Kind, d.Key = "changed", row.FormatKey(j.layout.Key, live.key)
		if len(found.Differences) >= c.limit {
			return nil
		}
		cells, err := cellDifferences(d, signed.row, live.row)
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
func (c *comparer) signedRows(ctx context.Context, j job) iter.Seq2[keyed, error] {
	if j.chunk.Rows == 0 {
		return func(func(keyed, error) bool) {}
	}
	return func(yield func(keyed, error) bool) {
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
		for r, err := range rows(*j.layout, archive.Read(ctx, data, *j.layout, j.chunk)) {
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
