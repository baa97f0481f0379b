package archive

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// Check reads a chunk as [Read] does, rebuilds every row to the bytes the service
// sent, and compares their number, their cells, their size and their digest with
// what was signed. What the chunk says of its own values, as in the statistics of
// its footer, it holds to the values. Errors are those of Read.
func Check(ctx context.Context, data []byte, l row.Layout, c manifest.Chunk) error {
	if err := check(ctx, data, l, c); err != nil {
		return fmt.Errorf("archive: chunk %s: %w", c.Name, err)
	}
	return nil
}

func check(ctx context.Context, data []byte, l row.Layout, c manifest.Chunk) error {
	r, err := open(data, l, c)
	if err != nil {
		return err
	}
	said := claims{r.arrow.ParquetReader(), data}
	if err := guard(func() error { return said.footer(len(l.Key)) }); err != nil {
		return corrupt(err)
	}
	t := tally{encoder: row.NewEncoder(l)}
	err = r.each(ctx, func(group int, rec arrow.RecordBatch) error {
		if err := t.add(rec); err != nil {
			return corrupt(err)
		}
		return r.trying(ctx, group, func() error { return said.group(group, rec) })
	})
	if err == nil {
		err = corrupt(t.compare(c))
	}
	return err
}

// tally counts and hashes rows as they are rebuilt.
type tally struct {
	encoder *row.Encoder
	tree    manifest.Tree
	cells   int64
	bytes   int64
	buf     []byte
}

func (t *tally) add(rec arrow.RecordBatch) (err error) {
	if err := t.encoder.Reset(rec); err != nil {
		return err
	}
	for i := range int(rec.NumRows()) {
		if t.buf, err = t.encoder.AppendRow(t.buf[:0], i); err != nil {
			return err
		}
		t.tree.Add(manifest.LeafHash(t.buf))
		t.cells += int64(t.encoder.Cells(i))
		t.bytes += int64(len(t.buf))
	}
	return nil
}

func (t *tally) compare(c manifest.Chunk) error {
	switch {
	case t.tree.Size() != c.Rows:
		return fmt.Errorf("%d rows, signed are %d", t.tree.Size(), c.Rows)
	case t.cells != c.Cells:
		return fmt.Errorf("%d cells, signed are %d", t.cells, c.Cells)
	case t.bytes != c.RawBytes:
		return fmt.Errorf("rows have %d bytes, signed are %d", t.bytes, c.RawBytes)
	case t.tree.Root() != c.RowDigest:
		return fmt.Errorf("rows have digest %s, signed is %s", t.tree.Root(), c.RowDigest)
	}
	return nil
}
