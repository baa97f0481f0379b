package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// A table with an AUTO_INCREMENT column is written without the values of that
// column, and the service chooses others, among rows that agree in the columns before
// it the larger the later. Its rows alone then tell which of them are there: a live
// row is the one that was signed with which it has all else in common, key columns,
// cells and versions. As rows are written in
// the order of their keys, both come in the same order, but for those of a request
// that was carried out in part. So one pass over both, side by side, finds what is
// still to be written, and in the end proves that nothing is and which key became
// which.

// DefaultSettle is far more than a request takes. The service names no bound.
const DefaultSettle = 5 * time.Second

// unsureRounds is how many writes of unknown outcome may follow each other, none of
// which has added a row.
const unsureRounds = 10

// generateRows writes every row of a table once. What is there already, from an
// earlier run or from a write of unknown outcome, is found, once it had time to
// settle, and not written again.
// Rows there that were not signed stay, for the comparison to name.
//
// It holds the rows of one write and, where a request was carried out in part,
// those that wait for their likes.
func (x *restorer) generateRows(ctx context.Context, t *restored) error {
	if state := x.Journal.table(t.signed.Table.Name); state.compared {
		// It may have its options since, and not show all it has.
		x.allWritten(t, state.rows)
		x.progress.add(t.table.Name, Event{Done: int64(len(t.jobs))})
		return nil
	}
	if x.Journal.Resumed() {
		if err := pause(ctx, x.Settle); err != nil {
			return err
		}
	}
	var largest int64
	for _, j := range t.jobs {
		largest = max(largest, writeMemory(j.chunk))
	}
	giveBack, err := x.memory.take(ctx, largest)
	if err != nil {
		return err
	}
	defer giveBack()
	f := newFilling(x, t)
	most := int64(-1)
	for idle := 0; ; idle++ {
		err := f.round(ctx)
		if err == nil {
			x.allWritten(t, f.settled)
			return nil
		}
		if ctx.Err() != nil || !errors.Is(err, ErrUnsure) {
			return err
		}
		if f.settled > most {
			most, idle = f.settled, 0
		}
		if idle == unsureRounds {
			return fmt.Errorf("%d times in a row: %w", unsureRounds+1, err)
		}
		if err := pause(ctx, x.Settle); err != nil {
			return err
		}
	}
}

// allWritten reports that all rows of a table are in the target.
func (x *restorer) allWritten(t *restored, rows int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := t.report
	r.Decoded, r.Acknowledged = rows, rows
	for _, j := range t.jobs {
		r.Chunks++
		r.RawBytes += j.chunk.RawBytes
		r.StoredBytes += j.chunk.Size
	}
}

// mark is a place in both tables: all rows signed up to the one key are live, and
// their likes are the live rows up to the other.
type mark struct {
	signed, live manifest.Key
	rows         int64 // signed up to there
}

// filling writes the rows that are missing. Those of a group are written when its
// live rows were seen, so none that it writes is taken for one that was there.
type filling struct {
	*generator
	pairing *pairing
	builder *row.Builder

	from    mark  // where the next round begins
	settled int64 // signed rows that are in the target
	before  int64 // signed rows before the group at hand
	partial bool  // rows of the group at hand were missing
}

func newFilling(x *restorer, t *restored) *filling {
	g := x.generator(t, func(c manifest.Chunk) Event {
		return Event{Done: 1, RawBytes: c.RawBytes, StoredBytes: c.Size}
	})
	return &filling{generator: g, builder: row.NewBuilder(memory.DefaultAllocator, g.layout)}
}

// round goes once over what is not settled.
func (f *filling) round(ctx context.Context) error {
	f.pairing = &pairing{to: f}
	f.pairing.signed.count, f.settled, f.before, f.partial = f.from.rows, f.from.rows, f.from.rows, false
	if err := f.pairUp(ctx, f.pairing, f.from.signed, f.from.live); err != nil {
		return err
	}
	return f.flush(ctx)
}

func (f *filling) pair(_, _ twin) error {
	f.settled++
	return nil
}

func (f *filling) wait(twin) {}

func (f *filling) extra(twin) error { return nil }

func (f *filling) missing(ctx context.Context, s twin) error {
	if _, err := f.builder.Append(s.row); err != nil {
		return err
	}
	f.partial = true
	if f.builder.Rows() < groupRows && f.builder.Bytes() < groupBytes {
		return nil
	}
	if err := f.flush(ctx); err != nil {
		return err
	}
	if bytes.Compare(f.from.signed, s.group) < 0 {
		f.from = mark{s.group, s.group, f.before}
	}
	return nil
}

// even moves on the mark, unless signed rows before are not written, or were
// written behind the live rows of the group.
func (f *filling) even() {
	if s := &f.pairing.signed; f.builder.Rows() == 0 && !f.partial {
		f.from = mark{s.last, f.pairing.live.last, s.count}
	}
}

func (f *filling) end() error {
	f.before, f.partial = f.pairing.signed.count, false
	return nil
}

// flush writes what was gathered.
func (f *filling) flush(ctx context.Context) error {
	if f.builder.Rows() == 0 {
		return nil
	}
	batch := f.builder.Batch()
	defer batch.Record.Release()
	n, err := f.x.To.Write(ctx, Write{Table: f.t.table, Layout: f.layout, Record: batch.Record, Generate: true})
	f.settled += n.Rows
	f.x.progress.add(f.t.table.Name, Event{Rows: n.Rows})
	if rows := batch.Record.NumRows(); err == nil && n.Rows != rows {
		return fmt.Errorf("%d rows to write, %d acknowledged: %w", rows, n.Rows, ErrDiffers)
	}
	return err
}
