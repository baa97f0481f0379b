package archive

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/otsnap/otsnap/archive/pages"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// Writer makes a chunk of batches: each becomes a row group. The same batches
// and the same Meta give the same bytes. The compressed chunk is kept in memory
// until it is closed. A Writer is not safe for concurrent use.
type Writer struct {
	schema *arrow.Schema
	keys   keys
	file   *pages.Writer
	tree   manifest.Tree
	chunk  manifest.Chunk
	err    error // of the first Write that failed
}

// NewWriter returns a Writer of a chunk in the layout.
func NewWriter(l row.Layout, m Meta) (*Writer, error) {
	s := l.Schema()
	file, err := pages.NewWriter(s, properties(l), footer(l, m))
	if err != nil {
		return nil, fmt.Errorf("archive: chunk writer: %w", err)
	}
	return &Writer{schema: s, keys: newKeys(l), file: file}, nil
}

// Write appends the rows of b as a row group. It needs b.Leaves, and rows in
// ascending key order, also after those written before. After an error the
// Writer is of no more use.
func (w *Writer) Write(b row.Batch) error {
	if w.err != nil {
		return w.err
	}
	if err := w.write(b); err != nil {
		w.err = fmt.Errorf("archive: write chunk: %w", err)
	}
	return w.err
}

func (w *Writer) write(b row.Batch) error {
	rows := b.Record.NumRows()
	if rows == 0 {
		return errors.New("empty batch")
	}
	if int64(len(b.Leaves)) != rows {
		return fmt.Errorf("%d leaf hashes for %d rows", len(b.Leaves), rows)
	}
	if !b.Record.Schema().Equal(w.schema) {
		return fmt.Errorf("record has the columns\n%v\nthe layout says\n%v", b.Record.Schema(), w.schema)
	}
	if err := w.keys.add(b.Record); err != nil {
		return err
	}
	if err := w.file.Write(b.Record); err != nil {
		return err
	}
	for _, leaf := range b.Leaves {
		w.tree.Add(leaf)
	}
	w.chunk.Rows += rows
	w.chunk.Cells += b.Cells
	w.chunk.RawBytes += b.Bytes
	return nil
}

// Close returns the chunk and its description, complete but for the Name.
func (w *Writer) Close() (data []byte, c manifest.Chunk, err error) {
	if w.err != nil {
		return nil, manifest.Chunk{}, w.err
	}
	if data, err = w.file.Close(); err != nil {
		return nil, manifest.Chunk{}, fmt.Errorf("archive: close chunk: %w", err)
	}
	c = w.chunk
	c.Size, c.SHA256 = int64(len(data)), manifest.Sum(data)
	c.RowDigest = w.tree.Root()
	c.First, c.Last = w.keys.first, w.keys.last
	return data, c, nil
}
