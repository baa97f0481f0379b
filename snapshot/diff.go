package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// Side is one of two snapshots held against each other.
type Side struct {
	Archive *Archive
	Entry   Entry // as Find returns it
}

// Diff tells how the rows of two snapshots differ, from their archives alone.
// They may be cut into chunks, and laid out in columns, in different ways.
type Diff struct {
	A, B    Side
	Tables  []string // globs as Select takes them, of tables in either; none: all tables
	Workers int      // parts in work at once, each a chunk of either side in memory; 0: DefaultWorkers
	// Brief counts what differs without asking for it: rows that only one side can
	// have are then not read, as their number is signed.
	Brief bool
}

// ChangeKind is what has become of a row from A to B.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// Change is a row that is not the same in both snapshots.
type Change struct {
	Table  *manifest.Table // in A
	Kind   ChangeKind
	Key    manifest.Key
	Before *row.Row // in A; nil: it is added
	After  *row.Row // in B; nil: it is removed
}

// DiffReport counts what a Diff found.
type DiffReport struct {
	A      DiffSide    `json:"a"`
	B      DiffSide    `json:"b"`
	Tables []DiffTable `json:"tables"`
	Chunks DiffChunks  `json:"chunks"`
}

// DiffSide names one of the two snapshots.
type DiffSide struct {
	Archive  manifest.Hash `json:"archive"`
	Seq      int64         `json:"seq"`
	Snapshot string        `json:"snapshot"`
	Digest   manifest.Hash `json:"digest"` // of the manifest's object
}

// DiffTable is a table's part of a report. Rows of a table that only one side
// has are counted as added or removed.
type DiffTable struct {
	Name       string   `json:"name"`
	Only       string   `json:"only,omitempty"` // a or b, where the other side does not have the table
	RowsA      int64    `json:"rows_a"`
	RowsB      int64    `json:"rows_b"`
	Added      int64    `json:"added"`
	Removed    int64    `json:"removed"`
	Changed    int64    `json:"changed"`
	Definition []string `json:"definition"` // properties of the table that differ
}

// DiffChunks says of how many chunks the signed digests were enough.
type DiffChunks struct {
	Skipped int64 `json:"skipped"`
	Read    int64 `json:"read"`
}

// Differs reports whether anything differs in a table.
func (t DiffTable) Differs() bool {
	return t.Only != "" || t.Added+t.Removed+t.Changed > 0 || len(t.Definition) > 0
}

// Differs reports whether anything differs.
func (r *DiffReport) Differs() bool { return slices.ContainsFunc(r.Tables, DiffTable.Differs) }

// Run compares. It calls each for every row that differs, table by table, in the
// order of keys; not with Brief, where each may be nil. Tables of only one side,
// and tables whose primary keys differ so that no key can be in both, are counted
// and their rows not named.
func (d Diff) Run(ctx context.Context, each func(Change) error) (*DiffReport, error) {
	names, err := selectTables([]Entry{d.A.Entry, d.B.Entry}, d.Tables)
	if err != nil {
		return nil, err
	}
	r := &DiffReport{A: d.A.named(), B: d.B.named(), Tables: []DiffTable{}}
	for _, name := range names {
		a, errA := FindTable(d.A.Entry, name)
		b, errB := FindTable(d.B.Entry, name)
		t := DiffTable{Name: name, RowsA: a.Totals.Rows, RowsB: b.Totals.Rows, Definition: []string{}}
		switch {
		case errA != nil:
			t.Only, t.Added = "b", t.RowsB
		case errB != nil:
			t.Only, t.Removed = "a", t.RowsA
		default:
			t.Definition = definition(a.Table, b.Table)
			if !sameKey(a.Table.Key, b.Table.Key) {
				t.Added, t.Removed = t.RowsB, t.RowsA
				break
			}
			if err := d.table(ctx, a, b, &t, &r.Chunks, each); err != nil {
				return nil, err
			}
		}
		r.Tables = append(r.Tables, t)
	}
	return r, nil
}

func (s Side) named() DiffSide {
	m := s.Entry.Manifest
	return DiffSide{Archive: s.Archive.Policy.ID(), Seq: m.Seq, Snapshot: m.Snapshot, Digest: s.Entry.Digest}
}

// definition names the properties of a table that are not the same. Columns of
// chunks and notes of exports are none.
func definition(a, b manifest.Table) []string {
	differ := []string{}
	for _, p := range []struct {
		name string
		a, b any
	}{
		{"primary key", a.Key, b.Key},
		{"predefined columns", a.Defined, b.Defined},
		{"options", a.Options, b.Options},
		{"reserved throughput", a.Throughput, b.Throughput},
		{"stream", a.Stream, b.Stream},
		{"encryption", a.Encryption, b.Encryption},
		{"secondary indexes", a.Indexes, b.Indexes},
		{"search indexes", a.SearchIndexes, b.SearchIndexes},
		{"timeseries", a.Timeseries, b.Timeseries},
	} {
		if !reflect.DeepEqual(p.a, p.b) {
			differ = append(differ, p.name)
		}
	}
	return differ
}

// table compares the rows of one table.
func (d Diff) table(ctx context.Context, a, b manifest.TableEntry, t *DiffTable, chunks *DiffChunks, each func(Change) error) error {
	jobsA, err := rangeJobs(ctx, d.A.Archive, d.A.Entry, a, manifest.Range{})
	if err != nil {
		return err
	}
	jobsB, err := rangeJobs(ctx, d.B.Archive, d.B.Entry, b, manifest.Range{})
	if err != nil {
		return err
	}
	var parts []stretch
	for _, s := range stretches(jobsA, jobsB) {
		switch {
		case s.equal():
		case d.Brief && len(s.b) == 0:
			t.Removed += rowsOf(s.a)
		case d.Brief && len(s.a) == 0:
			t.Added += rowsOf(s.b)
		default:
			parts = append(parts, s)
			chunks.Read += int64(len(s.a) + len(s.b))
			continue
		}
		chunks.Skipped += int64(len(s.a) + len(s.b))
	}
	produce := func(ctx context.Context, n int, send func(Change) error) error {
		return d.stretch(ctx, parts[n], send)
	}
	for c, err := range ordered(ctx, len(parts), orDefault(d.Workers, DefaultWorkers), produce) {
		if err != nil {
			return inTable(a.Table, err)
		}
		t.count(c.Kind)
		if d.Brief {
			continue
		}
		if err := each(c); err != nil {
			return err
		}
	}
	return nil
}

func (t *DiffTable) count(kind ChangeKind) {
	switch kind {
	case Added:
		t.Added++
	case Removed:
		t.Removed++
	case Changed:
		t.Changed++
	}
}

// stretch is a part of the key space, and the chunks of both sides in it: no
// chunk of another stretch has a key between theirs.
type stretch struct{ a, b []job }

// equal reports whether the signed digests say that the rows are the same.
func (s stretch) equal() bool {
	if len(s.a) != 1 || len(s.b) != 1 {
		return false
	}
	a, b := s.a[0].chunk, s.b[0].chunk
	return a.Rows == b.Rows && a.RowDigest == b.RowDigest && bytes.Equal(a.First, b.First) && bytes.Equal(a.Last, b.Last)
}

// stretches cuts the key space where no chunk of either side goes across. Chunks
// are given in key order, and so are stretches.
func stretches(a, b []job) []stretch {
	var all []stretch
	for len(a) > 0 || len(b) > 0 {
		var takenA, takenB int
		var end manifest.Key // of the last key in it
		take := func(from []job, taken *int) bool {
			if *taken == len(from) || takenA+takenB > 0 && bytes.Compare(from[*taken].chunk.First, end) > 0 {
				return false
			}
			if last := from[*taken].chunk.Last; bytes.Compare(last, end) > 0 {
				end = last
			}
			*taken++
			return true
		}
		if len(b) == 0 || len(a) > 0 && bytes.Compare(a[0].chunk.First, b[0].chunk.First) <= 0 {
			take(a, &takenA)
		} else {
			take(b, &takenB)
		}
		for take(a, &takenA) || take(b, &takenB) {
		}
		all = append(all, stretch{a[:takenA], b[:takenB]})
		a, b = a[takenA:], b[takenB:]
	}
	return all
}

func rowsOf(jobs []job) (n int64) {
	for _, j := range jobs {
		n += j.chunk.Rows
	}
	return n
}

// stretch merges the rows of both sides and sends those that differ.
func (d Diff) stretch(ctx context.Context, s stretch, send func(Change) error) error {
	nextA, stopA := iter.Pull2(jobRows(ctx, d.A.Archive, s.a))
	defer stopA()
	nextB, stopB := iter.Pull2(jobRows(ctx, d.B.Archive, s.b))
	defer stopB()
	table := &slices.Concat(s.a, s.b)[0].table.Table
	a, errA, hasA := nextA()
	b, errB, hasB := nextB()
	for hasA || hasB {
		if errA != nil || errB != nil {
			return errors.Join(errA, errB)
		}
		order := 0
		switch {
		case !hasB:
			order = -1
		case !hasA:
			order = 1
		default:
			order = bytes.Compare(a.key, b.key)
		}
		c := Change{Table: table}
		switch {
		case order < 0:
			c.Kind, c.Key = Removed, a.key
		case order > 0:
			c.Kind, c.Key = Added, b.key
		case !bytes.Equal(a.row, b.row):
			c.Kind, c.Key = Changed, a.key
		}
		if c.Kind != "" {
			if err := d.fill(&c, a.row, b.row); err != nil {
				return err
			}
			if err := send(c); err != nil {
				return err
			}
		}
		if order <= 0 {
			a, errA, hasA = nextA()
		}
		if order >= 0 {
			b, errB, hasB = nextB()
		}
	}
	return nil
}

// fill takes apart the rows a change is about.
func (d Diff) fill(c *Change, a, b []byte) error {
	if d.Brief {
		return nil
	}
	parse := func(wire []byte) (*row.Row, error) {
		r, err := row.Parse(wire)
		return &r, err
	}
	var errA, errB error
	if c.Kind != Added {
		c.Before, errA = parse(a)
	}
	if c.Kind != Removed {
		c.After, errB = parse(b)
	}
	return errors.Join(errA, errB)
}

// jobRows yields the rows of chunks, one chunk in memory at a time.
func jobRows(ctx context.Context, a *Archive, jobs []job) iter.Seq2[keyed, error] {
	return func(yield func(keyed, error) bool) {
		for _, j := range jobs {
			object := j.object()
			data, err := archive.Fetch(ctx, a.Store, object)
			if err != nil {
				yield(keyed{}, fmt.Errorf("%s: %w", a, missing(object.Name, err)))
				return
			}
			for r, err := range rows(*j.layout, archive.Read(ctx, data, *j.layout, j.chunk)) {
				if err != nil {
					err = fmt.Errorf("%s: %s: %w", a, object.Name, err)
				}
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

// CellChange is a version of a cell that is not the same in both rows.
type CellChange struct {
	Name    string
	Version int64      // milliseconds since 1970
	Before  *row.Value // nil: there was none
	After   *row.Value // nil: there is none
}

// Cells returns the cells in which a changed row differs, by name and newest
// first.
func (c Change) Cells() []CellChange {
	if c.Before == nil || c.After == nil {
		return nil
	}
	var changes []CellChange
	before, after := c.Before.Cells, c.After.Cells
	for len(before) > 0 || len(after) > 0 {
		switch order := cellOrder(before, after); {
		case order < 0:
			changes = append(changes, CellChange{before[0].Name, before[0].Version, &before[0].Value, nil})
			before = before[1:]
		case order > 0:
			changes = append(changes, CellChange{after[0].Name, after[0].Version, nil, &after[0].Value})
			after = after[1:]
		default:
			if before[0].Value != after[0].Value {
				changes = append(changes, CellChange{before[0].Name, before[0].Version, &before[0].Value, &after[0].Value})
			}
			before, after = before[1:], after[1:]
		}
	}
	return changes
}

// cellOrder compares the first cells of two rows; one that is not there is last.
func cellOrder(a, b []row.Cell) int {
	switch {
	case len(b) == 0:
		return -1
	case len(a) == 0:
		return 1
	}
	return cmp.Or(cmp.Compare(a[0].Name, b[0].Name), cmp.Compare(b[0].Version, a[0].Version))
}
