package tablestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// settle says of a row that exists whether an attempt of ours made it.
func (w *writer) settle(ctx context.Context, f found) error {
	if !f.unsure {
		w.kept.Add(1)
		return nil
	}
	live, ours, err := w.both(ctx, f.row)
	if err != nil {
		return err
	}
	w.count(live.are(ours))
	return nil
}

func (w *writer) count(ours bool) {
	if ours {
		w.acknowledged.Add(1)
		return
	}
	w.kept.Add(1)
}

// complete writes the rest of a wide row of which the first parts are there and
// nothing else. Any other row that exists is kept.
func (w *writer) complete(ctx context.Context, parts []*parcel, f found) error {
	live, ours, err := w.both(ctx, f.row)
	if err != nil {
		return err
	}
	written := slices.IndexFunc(parts, func(p *parcel) bool { return live.are(ours[:p.cells]) })
	switch {
	case written < 0:
		w.count(false)
		return nil
	case parts[written].counts:
		w.count(f.unsure)
		return nil
	}
	return w.send(ctx, parts[written+1:])
}

// cells are those of a row in the table, nil if there is no such row.
type cells []row.Cell

func (c cells) are(ours []row.Cell) bool { return c != nil && slices.Equal(c, ours) }

// both returns the cells of row i in the table and in the record.
func (w *writer) both(ctx context.Context, i int) (live cells, ours []row.Cell, err error) {
	e := row.NewEncoder(w.write.Layout)
	if err := e.Reset(w.write.Record); err != nil {
		return nil, nil, err
	}
	var own row.Row
	if err := e.Read(&own, i); err != nil {
		return nil, nil, err
	}
	if live, err = w.live(ctx, e.AppendKey(nil, i)); err != nil {
		return nil, nil, fmt.Errorf("row %s, which exists: %w", w.format(i), err)
	}
	return live, own.Cells, nil
}

// live returns the cells of the row that has a key now.
func (w *writer) live(ctx context.Context, key manifest.Key) (live cells, err error) {
	scan := snapshot.Scan{Table: w.write.Table, Layout: w.write.Layout, From: key, Limit: 1}
	take := func(b row.Batch, _ error) bool {
		defer b.Record.Release()
		e := row.NewEncoder(w.write.Layout)
		if err = e.Reset(b.Record); err != nil || !bytes.Equal(e.AppendKey(nil, 0), key) {
			return false // that is the row after it
		}
		r := row.Row{Cells: cells{}}
		err = e.Read(&r, 0)
		live = r.Cells
		return false
	}
	if failed := newScanner(w.in, scan, take).run(ctx); !errors.Is(failed, errStopped) {
		err = failed
	}
	return live, err
}
