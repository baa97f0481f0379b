package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// Read reads rows of one table out of a snapshot, from the archive alone.
type Read struct {
	Archive *Archive
	Entry   Entry               // the snapshot, as Find returns it
	Table   manifest.TableEntry // the table, as FindTable returns it
	Within  manifest.Range      // keys to read; the zero Range is the whole table
	Where   *row.Filter         // rows to read; nil: all
	Columns []string            // patterns, as of path.Match, of the names of the cells to read; none: all
	Workers int                 // chunks in work at once, each held in memory; 0: DefaultWorkers
}

// Choose returns one snapshot of a chain, as [Archive.Find] does, for who has read
// the chain already.
func Choose(chain []Entry, which string) (Entry, error) { return find(chain, which) }

// FindTable returns the table of that name in a snapshot. No such table is
// ErrNoTable.
func FindTable(e Entry, name string) (manifest.TableEntry, error) {
	var names []string
	for _, t := range e.Manifest.Tables {
		if t.Table.Name == name {
			return t, nil
		}
		names = append(names, t.Table.Name)
	}
	return manifest.TableEntry{}, fmt.Errorf("snapshot: %q: %w in snapshot %d; there are %s", name, ErrNoTable, e.Manifest.Seq, enumerate(names, 10))
}

// Rows yields the rows in the order of their keys. A row is valid until the next
// one is asked for. The first error is the last element: ErrMissing,
// archive.ErrCorrupt, manifest.ErrUntrusted and ErrInvalid are verdicts on the
// archive, archive.ErrUnavailable is none.
//
// Only the pages and chunks are read that can have such rows, going by Within and
// by what Where says of keys, and each is held to its signed size and digest
// first. Of chunks only what is needed is decoded: see [archive.ReadSelection]. It
// stops reading when the caller does.
func (r Read) Rows(ctx context.Context) iter.Seq2[*row.Row, error] {
	return func(yield func(*row.Row, error) bool) {
		layout := row.Layout{Key: r.Table.Table.Key, Columns: r.Table.Table.Columns}
		encoder := row.NewEncoder(layout)
		var current row.Row
		for rec, err := range r.records(ctx) {
			if err == nil {
				err = encoder.Reset(rec)
			}
			for i := 0; err == nil && i < int(rec.NumRows()); i++ {
				if err = encoder.Read(&current, i); err == nil && !yield(&current, nil) {
					return
				}
			}
			if err != nil {
				yield(nil, inTable(r.Table.Table, err))
				return
			}
		}
	}
}

// records yields the records of the chunks in key order, several chunks being in
// work at once.
func (r Read) records(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		selection := archive.Selection{Within: r.Within, Where: r.Where, Columns: r.Columns}
		if err := selection.Check(r.Table.Table.Key); err != nil {
			yield(nil, err)
			return
		}
		jobs, err := rangeJobs(ctx, r.Archive, r.Entry, r.Table, selection.Keys(r.Table.Table.Key))
		if err != nil {
			yield(nil, err)
			return
		}
		produce := func(ctx context.Context, n int, send func(arrow.RecordBatch) error) error {
			return r.chunk(ctx, jobs[n], selection, send)
		}
		for rec, err := range ordered(ctx, len(jobs), orDefault(r.Workers, DefaultWorkers), produce) {
			if !yield(rec, err) {
				return
			}
		}
	}
}

// chunk sends the selected rows of one chunk on.
func (r Read) chunk(ctx context.Context, j job, s archive.Selection, send func(arrow.RecordBatch) error) error {
	object := j.object()
	data, err := archive.Fetch(ctx, r.Archive.Store, object)
	if err != nil {
		return missing(object.Name, err)
	}
	for rec, err := range archive.ReadSelection(ctx, data, *j.layout, j.chunk, s) {
		if err != nil {
			return fmt.Errorf("%s: %w", object.Name, err)
		}
		rec.Retain() // its memory is that of the heap, and goes with the last who holds it
		if err := send(rec); err != nil {
			return err
		}
	}
	return nil
}

// rangeJobs lists the chunks of a table that can have rows within a range, in key
// order, after reading the pages that can name such chunks. The manifest signs
// the digest of each page, so that no other page is needed to trust one; where
// all are read, the root over their lines is checked as well.
func rangeJobs(ctx context.Context, a *Archive, e Entry, t manifest.TableEntry, within manifest.Range) ([]job, error) {
	part := t
	part.Pages = nil
	for _, ref := range t.Pages {
		if archive.Overlap(within, manifest.Range{From: ref.From, To: ref.To}) {
			part.Pages = append(part.Pages, ref)
		}
	}
	var pages []*manifest.Page
	var err error
	if len(part.Pages) == len(t.Pages) {
		pages, err = tablePages(ctx, a, e, t)
	} else {
		pages, err = somePages(ctx, a, e, part)
	}
	if err != nil {
		return nil, err
	}
	jobs := tableJobs(e, part, pages)
	if len(within.From) == 0 && len(within.To) == 0 {
		return jobs, nil
	}
	return slices.DeleteFunc(jobs, func(j job) bool { return !archive.Overlap(within, bounds(j.chunk)) }), nil
}

// bounds returns the range from a chunk's first key to its last.
func bounds(c manifest.Chunk) manifest.Range {
	return manifest.Range{From: c.First, To: row.Following(c.Last)}
}

// somePages reads the pages t names and checks each against the manifest.
func somePages(ctx context.Context, a *Archive, e Entry, t manifest.TableEntry) ([]*manifest.Page, error) {
	pages := make([]*manifest.Page, len(t.Pages))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for i, ref := range t.Pages {
		group.Go(func() error {
			object := e.Manifest.PageObject(t, ref)
			sealed, err := archive.Fetch(ctx, a.Store, object)
			if err != nil {
				return missing(object.Name, err)
			}
			if pages[i], err = manifest.OpenPage(sealed, a.Policy.At(e.Manifest.Seq)); err == nil {
				err = pages[i].Matches(e.Manifest, t, ref)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", object.Name, err)
			}
			return nil
		})
	}
	return pages, group.Wait()
}

// ordered runs produce for parts 0 to n-1, at most workers of them at once, and
// yields what they send in the order of the parts. One that is ahead waits to be
// rid of what it has. The first error is the last element; when the caller stops,
// so do they.
func ordered[T any](ctx context.Context, n, workers int, produce func(ctx context.Context, part int, send func(T) error) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(workers + 1) // and who starts them
		queue := make(chan chan T, workers)
		group.Go(func() error {
			for part := range n {
				out := make(chan T)
				if err := send(ctx, queue, out); err != nil {
					return err
				}
				group.Go(func() error {
					err := produce(ctx, part, func(value T) error { return send(ctx, out, value) })
					if err == nil {
						close(out)
					}
					return err
				})
			}
			close(queue)
			return nil
		})
		err := drain(ctx, queue, func(value T) bool { return yield(value, nil) })
		if errors.Is(err, errStopped) {
			cancel()
		}
		failed := group.Wait() // the reason, where err is only that ctx is done
		if err != nil && !errors.Is(err, errStopped) {
			var none T
			yield(none, cmp.Or(failed, err))
		}
	}
}

// errStopped says that the caller wants no more.
var errStopped = errors.New("stopped")

// drain passes on what comes through the channels, one channel after the other.
func drain[T any](ctx context.Context, queue chan chan T, yield func(T) bool) error {
	for out, err := range received(ctx, queue) {
		if err != nil {
			return err
		}
		for value, err := range received(ctx, out) {
			if err != nil {
				return err
			}
			if !yield(value) {
				return errStopped
			}
		}
	}
	return nil
}
