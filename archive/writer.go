package archive

import (
	"bytes"
	"errors"
	"fmt"
	"sort"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// Writer makes a chunk of batches: each becomes a row group. The same batches
// and the same Meta give the same bytes. The compressed chunk is kept in memory
// until it is closed. A Writer is not safe for concurrent use.
type Writer struct {
	layout row.Layout
	meta   Meta
	schema *arrow.Schema
	keys   keys
	out    bytes.Buffer
	file   *pqarrow.FileWriter // nil until the first batch has shown what to encode how
	tree   manifest.Tree
	chunk  manifest.Chunk
	err    error // of the first Write that failed
}

// NewWriter returns a Writer of a chunk in the layout.
func NewWriter(l row.Layout, m Meta) (*Writer, error) {
	if err := useZstd(); err != nil {
		return nil, fmt.Errorf("archive: chunk writer: %w", err)
	}
	return &Writer{layout: l, meta: m, schema: l.Schema(), keys: newKeys(l)}, nil
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
	if err := guard(func() error { return w.writeGroup(b.Record) }); err != nil {
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

func (w *Writer) writeGroup(rec arrow.RecordBatch) error {
	if w.file == nil {
		if err := w.begin(rec); err != nil {
			return err
		}
	}
	if err := w.file.NewRowGroupChecked(); err != nil {
		return err
	}
	for i, column := range rec.Columns() {
		if err := w.writeColumn(column); err != nil {
			return fmt.Errorf("column %q: %w", rec.ColumnName(i), err)
		}
	}
	return nil
}

// begin starts the file with the encodings that suit the record.
func (w *Writer) begin(rec arrow.RecordBatch) (err error) {
	props := properties(w.layout, repetitive(rec))
	if w.file, err = pqarrow.NewFileWriter(w.schema, &w.out, props, pqarrow.DefaultWriterProps()); err != nil {
		return err
	}
	for _, entry := range footer(w.layout, w.meta) {
		if err := w.file.AppendKeyValueMetadata(entry[0], entry[1]); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) writeColumn(column arrow.Array) error {
	pieces := cut(column)
	chunked := arrow.NewChunked(column.DataType(), pieces)
	defer chunked.Release()
	for _, piece := range pieces {
		piece.Release() // chunked has its own hold on them
	}
	return w.file.WriteColumnChunked(chunked, 0, int64(column.Len()))
}

// Close returns the chunk and its description, complete but for the Name.
func (w *Writer) Close() (data []byte, c manifest.Chunk, err error) {
	if w.err != nil {
		return nil, manifest.Chunk{}, w.err
	}
	if w.file == nil {
		return nil, manifest.Chunk{}, errors.New("archive: close chunk: nothing was written")
	}
	if err := guard(w.file.Close); err != nil {
		return nil, manifest.Chunk{}, fmt.Errorf("archive: close chunk: %w", err)
	}
	data, c = w.out.Bytes(), w.chunk
	c.Size, c.SHA256 = int64(len(data)), manifest.Sum(data)
	c.RowDigest = w.tree.Root()
	c.First, c.Last = w.keys.first, w.keys.last
	return data, c, nil
}

// cut cuts a column into pieces of at most pageBytes, or of one row. The library
// looks how full a page is only after every batchValues values, or at the end of
// a piece: with the largest cells, a page of an uncut column would have 2 GiB.
func cut(column arrow.Array) []arrow.Array {
	var pieces []arrow.Array
	n := column.Len()
	for from := 0; from < n; {
		fit := sort.Search(n-from, func(rows int) bool {
			return variable(column, from, from+rows+1) > pageBytes
		})
		to := from + max(1, fit)
		pieces = append(pieces, array.NewSlice(column, int64(from), int64(to)))
		from = to
	}
	return pieces
}

// variable returns how many bytes rows from to to-1 of a column have in strings
// and binaries.
func variable(column arrow.Array, from, to int) int64 {
	switch a := column.(type) {
	case *array.String:
		offsets := a.ValueOffsets()
		return int64(offsets[to] - offsets[from])
	case *array.Binary:
		offsets := a.ValueOffsets()
		return int64(offsets[to] - offsets[from])
	case *array.List:
		start, _ := a.ValueOffsets(from)
		_, end := a.ValueOffsets(to - 1)
		return variable(a.ListValues(), int(start), int(end))
	case *array.Struct:
		var sum int64
		for i := range a.NumField() {
			sum += variable(a.Field(i), from, to)
		}
		return sum
	}
	return 0
}
