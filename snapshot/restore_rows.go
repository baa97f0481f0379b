package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// task is a chunk on its way into a table.
type task struct {
	job
	to *restored
}

// write puts the rows of all chunks. The order goes to and fro over the key
// space of each table, and over the tables, so that no partition gets all the
// writes of its moment. Tables whose keys the service completes are written in
// the order of their keys, each by one worker.
func (x *restorer) write(ctx context.Context) error {
	order := interleave(x.tables)
	total := len(order)
	for _, t := range x.tables {
		if t.generate {
			total += len(t.jobs)
		}
	}
	x.progress.begin("restore", int64(total))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(x.Workers)
	for _, t := range x.tables {
		if t.generate {
			group.Go(func() error {
				if err := x.generateRows(ctx, t); err != nil {
					return inTable(t.table, err)
				}
				return nil
			})
		}
	}
	for _, w := range order {
		group.Go(func() error {
			if err := x.chunk(ctx, w); err != nil {
				return fmt.Errorf("snapshot: table %s, %s: %w", w.to.table.Name, w.chunk.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// interleave takes one chunk of each table in turn, and each table's in the order
// of their bit-reversed positions: 0, 4, 2, 6, 1, 5, 3, 7.
func interleave(tables []*restored) []task {
	var order []task
	spread := make([][]job, len(tables))
	longest := 0
	for i, t := range tables {
		if t.generate {
			continue
		}
		spread[i] = bitReversed(t.jobs)
		longest = max(longest, len(t.jobs))
	}
	for n := range longest {
		for i, jobs := range spread {
			if n < len(jobs) {
				order = append(order, task{jobs[n], tables[i]})
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
func (x *restorer) chunk(ctx context.Context, w task) error {
	object := w.object().Name
	done, ok := x.Journal.written(w.to.signed.Table.Name, object)
	if !ok {
		var err error
		if w.to.live != nil && x.Mode == Repair {
			done, err = x.repair(ctx, w)
		} else {
			done, err = x.copyRows(ctx, w)
		}
		if err != nil {
			return err
		}
		err = x.Journal.record(ctx, entry{
			Table: w.to.signed.Table.Name, Step: stepChunk, Object: object, Read: done.decoded, Rows: done.acknowledged, Kept: done.kept, Left: done.left,
		})
		if err != nil {
			return err
		}
		x.progress.add(w.to.table.Name, Event{RawBytes: w.job.chunk.RawBytes, StoredBytes: w.job.chunk.Size})
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	r := w.to.report
	r.Chunks++
	r.Decoded += done.decoded
	r.Acknowledged += done.acknowledged
	r.Kept += done.kept
	w.to.leftOut += done.left
	r.RawBytes += w.job.chunk.RawBytes
	r.StoredBytes += w.job.chunk.Size
	x.progress.add(w.to.table.Name, Event{Done: 1})
	return nil
}

// copyRows writes the rows of a chunk that are selected.
func (x *restorer) copyRows(ctx context.Context, w task) (progressed, error) {
	var done progressed
	giveBack, err := x.memory.take(ctx, writeMemory(w.job.chunk))
	if err != nil {
		return done, err
	}
	defer giveBack()
	var left int64 // counted ahead: known at the end
	insert := w.to.live != nil && x.Mode == Insert
	for record, err := range ahead(ctx, x.selected(ctx, w.to, w.job, &left)) {
		if err != nil {
			return done, err
		}
		done.decoded += record.NumRows()
		n, err := x.To.Write(ctx, Write{Table: w.to.table, Layout: *w.layout, Record: record, Insert: insert})
		done.acknowledged += n.Rows
		done.kept += n.Kept
		if err != nil {
			return done, err
		}
		x.progress.add(w.to.table.Name, Event{Rows: n.Rows})
	}
	done.left = left
	if whole(x.Rows) && done.decoded+done.left != w.job.chunk.Rows || done.acknowledged+done.kept != done.decoded {
		return done, fmt.Errorf("%d rows signed, %d left out, %d decoded, %d acknowledged, %d there already: %w",
			w.job.chunk.Rows, done.left, done.decoded, done.acknowledged, done.kept, ErrDiffers)
	}
	return done, nil
}

// ahead yields the records, each while the next is being made.
func ahead(ctx context.Context, records iter.Seq2[arrow.RecordBatch, error]) iter.Seq2[arrow.RecordBatch, error] {
	return ordered(ctx, 1, 1, func(_ context.Context, _ int, send func(arrow.RecordBatch) error) error {
		for record, err := range records {
			if err != nil {
				return err
			}
			record.Retain() // its memory is that of the heap, and goes with the last who holds it
			if err := send(record); err != nil {
				return err
			}
		}
		return nil
	})
}

// selected yields the rows of a chunk that are to be restored, and adds to left how
// many lists leave out.
func (x *restorer) selected(ctx context.Context, t *restored, j job, left *int64) iter.Seq2[arrow.RecordBatch, error] {
	s := x.rowsOf(t)
	s.LeftOut = func(rows int64) { *left += rows }
	return selectedRows(ctx, x.From, j, s)
}

// rowsOf returns what is to be restored of a table.
func (x *restorer) rowsOf(t *restored) archive.Selection {
	return x.Suppress.without(x.Rows, t.signed.Table.Name)
}

// selectedRows yields the selected rows of a chunk, after it was held to its signed
// size and digest. A part without a chunk has none, and a chunk of which all rows are
// left out is not read.
func selectedRows(ctx context.Context, a *Archive, j job, s archive.Selection) iter.Seq2[arrow.RecordBatch, error] {
	if j.chunk.Rows == 0 {
		return func(func(arrow.RecordBatch, error) bool) {}
	}
	return func(yield func(arrow.RecordBatch, error) bool) {
		if s.LeavesOut(j.chunk) {
			s.LeftOut(j.chunk.Rows)
			return
		}
		object := j.object()
		data, err := archive.Fetch(ctx, a.Store, object)
		if err != nil {
			yield(nil, missing(object.Name, err))
			return
		}
		for record, err := range decoded(ctx, data, j, s) {
			if !yield(record, err) {
				return
			}
		}
	}
}

// decoded yields the selected rows of a chunk that was fetched.
func decoded(ctx context.Context, data []byte, j job, s archive.Selection) iter.Seq2[arrow.RecordBatch, error] {
	if !s.Without.Touches(j.chunk.First, j.chunk.Last) {
		s.Without = archive.KeySet{}
	}
	if whole(s) {
		return archive.Read(ctx, data, *j.layout, j.chunk)
	}
	return archive.ReadSelection(ctx, data, *j.layout, j.chunk, s)
}

// deletions is how many keys are removed at once.
const deletions = 200

// repair makes the target's part of a chunk what was signed, by writing only the
// rows that are not.
func (x *restorer) repair(ctx context.Context, w task) (progressed, error) {
	run := x.comparer()
	run.within = true
	part, differs, err := run.sum(ctx, w.job)
	if err != nil || !differs {
		return progressed{decoded: part.Rows}, err
	}
	giveBack, err := x.memory.take(ctx, writeMemory(w.job.chunk))
	if err != nil {
		return progressed{}, err
	}
	defer giveBack()
	r := &repairer{x: x, to: w, builder: row.NewBuilder(memory.DefaultAllocator, *w.layout)}
	for p, err := range run.pairs(ctx, w.job, &r.done.left) {
		if err == nil {
			err = r.take(ctx, p)
		}
		if err != nil {
			return r.done, err
		}
	}
	return r.done, r.flush(ctx)
}

// repairer is a repair under way.
type repairer struct {
	x       *restorer
	to      task
	builder *row.Builder
	extra   []manifest.Key
	listed  int64 // of extra, keys that lists name
	done    progressed
}

func (r *repairer) take(ctx context.Context, p pair) error {
	if p.order <= 0 {
		r.done.decoded++
	}
	switch {
	case p.order > 0:
		if r.x.DeleteExtra {
			r.extra = append(r.extra, p.live.key)
			if r.x.rowsOf(r.to.to).Without.Has(p.live.key) {
				r.listed++
			}
		}
	case p.order < 0, !bytes.Equal(p.signed.row, p.live.row):
		if _, err := r.builder.Append(p.signed.row); err != nil {
			return err
		}
	}
	if r.builder.Rows() < groupRows && r.builder.Bytes() < groupBytes && len(r.extra) < deletions {
		return nil
	}
	return r.flush(ctx)
}

// flush writes and removes what was gathered.
func (r *repairer) flush(ctx context.Context) error {
	if len(r.extra) > 0 {
		if err := r.x.To.Delete(ctx, r.to.to.table, r.extra); err != nil {
			return err
		}
		r.x.deleted(r.to.to, int64(len(r.extra)), r.listed)
		r.extra, r.listed = nil, 0
	}
	if r.builder.Rows() == 0 {
		return nil
	}
	batch := r.builder.Batch()
	defer batch.Record.Release()
	n, err := r.x.To.Write(ctx, Write{Table: r.to.to.table, Layout: *r.to.layout, Record: batch.Record})
	r.done.acknowledged += n.Rows
	r.x.progress.add(r.to.to.table.Name, Event{Rows: n.Rows})
	return err
}

func (x *restorer) deleted(t *restored, rows, listed int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	t.report.Deleted += rows
	t.removed += listed
}
