package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// writeChunks scans a range into chunks. A chunk ends with the row group that
// makes it reach ChunkBytes, so the same rows under the same plan are cut the
// same way. Scanning, encoding, and reading back and storing go on side by side,
// each one step ahead of the next.
func (x *exporter) writeChunks(ctx context.Context, table, n int, to []*destination) ([]*chunkStore, error) {
	w := &chunkWriter{
		exporter: x, table: x.plan.Tables[table].Table, layout: x.layouts[table], rng: int64(n),
		scanned: make(chan scannedBatch), encoded: make(chan encodedChunk),
	}
	for _, d := range to {
		w.to = append(w.to, &chunkStore{destination: d})
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.scan(ctx, x.plan.Tables[table].Ranges[n]) })
	group.Go(func() error { return w.encode(ctx) })
	group.Go(func() error { return w.keep(ctx) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return w.to, nil
}

// chunkWriter cuts the batches of a range into stored chunks.
type chunkWriter struct {
	*exporter
	table   manifest.Table
	layout  row.Layout
	rng     int64
	scanned chan scannedBatch
	encoded chan encodedChunk
	to      []*chunkStore
}

// chunkStore is where the chunks of a range go in one archive. They are the same
// bytes in all; their names may differ.
type chunkStore struct {
	*destination
	attempt int64
	chunks  []manifest.Chunk
}

// scannedBatch is a row group of a chunk.
type scannedBatch struct {
	row.Batch
	last bool   // of its chunk
	done func() // gives the chunk's memory back
}

// encodedChunk is a chunk that is not stored yet.
type encodedChunk struct {
	data  []byte
	chunk manifest.Chunk
	done  func() // gives its memory back
}

// send passes a value on to the next step, unless that has ended.
func send[T any](ctx context.Context, to chan<- T, value T) error {
	select {
	case to <- value:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// received yields what the step before passes on. It ends well only when that
// step has said so by closing the channel; if it failed, ctx is done.
func received[T any](ctx context.Context, from <-chan T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			select {
			case value, ok := <-from:
				if !ok || !yield(value, nil) {
					return
				}
			case <-ctx.Done():
				var none T
				yield(none, ctx.Err())
				return
			}
		}
	}
}

// scan passes on the row groups of a range. Memory for a chunk is taken before its
// first row is asked for, and goes with it.
func (w *chunkWriter) scan(ctx context.Context, r manifest.Range) error {
	done, err := w.memory.take(ctx, chunkMemory(w.plan.ChunkBytes))
	if err != nil {
		return err
	}
	var raw, rows int64
	scan := Scan{Table: w.table, Layout: w.layout, From: r.From, To: r.To, Rows: w.plan.GroupRows, Bytes: w.plan.GroupBytes}
	for batch, err := range w.From.Scan(ctx, scan) {
		if err != nil {
			return err
		}
		w.progress.add(w.table.Name, Event{Rows: int64(len(batch.Leaves)), RawBytes: batch.Bytes})
		raw += batch.Bytes
		rows += int64(len(batch.Leaves))
		last := raw >= w.plan.ChunkBytes || rows+w.plan.GroupRows > manifest.MaxChunkRows
		if err := send(ctx, w.scanned, scannedBatch{batch, last, done}); err != nil {
			return err
		}
		if last {
			raw, rows = 0, 0
			if done, err = w.memory.take(ctx, chunkMemory(w.plan.ChunkBytes)); err != nil {
				return err
			}
		}
	}
	if rows == 0 {
		done()
	}
	close(w.scanned)
	return nil
}

func (w *chunkWriter) encode(ctx context.Context) error {
	var open *archive.Writer
	var done func()
	for batch, err := range received(ctx, w.scanned) {
		if err != nil {
			return err
		}
		if open == nil {
			open, err = archive.NewWriter(w.layout, archive.Meta{Table: w.table.Name, Snapshot: w.plan.Snapshot})
			if err != nil {
				return err
			}
		}
		if err := open.Write(batch.Batch); err != nil {
			return err
		}
		done = batch.done
		if !batch.last {
			continue
		}
		if err := w.pass(ctx, open, done); err != nil {
			return err
		}
		open = nil
	}
	if open != nil {
		if err := w.pass(ctx, open, done); err != nil {
			return err
		}
	}
	close(w.encoded)
	return nil
}

func (w *chunkWriter) pass(ctx context.Context, open *archive.Writer, done func()) error {
	data, chunk, err := open.Close()
	if err != nil {
		return err
	}
	return send(ctx, w.encoded, encodedChunk{data, chunk, done})
}

// keep reads each chunk back, stores it in every archive, and only then counts it.
func (w *chunkWriter) keep(ctx context.Context) error {
	n := 0
	for e, err := range received(ctx, w.encoded) {
		if err != nil {
			return err
		}
		if err := archive.Check(ctx, e.data, w.layout, e.chunk); err != nil {
			return fmt.Errorf("chunk %d does not read back as it was written: %w", n, err)
		}
		n++
		group, ctx := errgroup.WithContext(ctx)
		for _, to := range w.to {
			group.Go(func() error { return to.blame(w.store(ctx, to, e)) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		e.done()
	}
	return nil
}

// store puts a chunk under the next name of the range. Where an earlier run
// left other bytes under that name, as it may when rows changed in between, the
// chunk and those after it get the names of a new attempt: an object may be
// locked, and the page of a rival run may name it.
func (w *chunkWriter) store(ctx context.Context, to *chunkStore, e encodedChunk) error {
	for {
		e.chunk.Name = manifest.ChunkName(w.rng, to.attempt, int64(len(to.chunks)))
		object := manifest.ChunkObject(w.plan.Snapshot, w.table.Name, e.chunk)
		err := to.put(ctx, object.Name, e.data, true)
		if errors.Is(err, fs.ErrExist) {
			to.attempt++
			continue
		}
		if err != nil {
			return err
		}
		to.chunks = append(to.chunks, e.chunk)
		w.progress.add(w.table.Name, Event{StoredBytes: e.chunk.Size})
		return nil
	}
}
