package archive

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// Read yields the rows of a chunk, a record per row group. A record is valid
// until the next one is asked for; who wants it for longer retains it. The first
// error is the last element: it wraps [ErrCorrupt], or is the error of ctx.
//
// Data is to come from [Fetch]: Parquet protects nothing. Yet Read trusts it no
// further than c, and holds it to what was signed: columns, row count, key order
// and key range. What it allocates is in proportion to the signed counts. It
// does not recompute the row digest; [Check] does.
func Read(ctx context.Context, data []byte, l row.Layout, c manifest.Chunk) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		r, err := open(data, l, c)
		if err == nil {
			err = r.each(ctx, func(_ int, rec arrow.RecordBatch) error {
				if !yield(rec, nil) {
					return errStopped
				}
				return nil
			})
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("archive: chunk %s: %w", c.Name, err))
		}
	}
}

// reader reads one chunk.
type reader struct {
	chunk  manifest.Chunk
	schema *arrow.Schema
	arrow  *pqarrow.FileReader
	rows   []int64 // in each row group
	groups int
	keys   keys
}

// open reads the footer and refuses chunks that cannot be what was signed,
// before it decodes any of their rows.
func open(data []byte, l row.Layout, c manifest.Chunk) (*reader, error) {
	if err := useZstd(); err != nil {
		return nil, err
	}
	want, err := columns(l)
	if err != nil {
		return nil, err
	}
	r := &reader{chunk: c, schema: l.Schema(), keys: newKeys(l)}
	err = guard(func() error { return r.open(data, footer(l, Meta{}), want) })
	return r, corrupt(err)
}

func (r *reader) open(data []byte, entries [][2]string, want *schema.Schema) error {
	if int64(len(data)) != r.chunk.Size {
		return fmt.Errorf("%d bytes, signed are %d", len(data), r.chunk.Size)
	}
	mem := r.memory()
	props := parquet.NewReaderProperties(mem)
	props.BufferedStreamEnabled = true // or it would copy data first
	props.MaxCompressedPageSize = int64(len(data))
	props.MaxUncompressedPageSize = min(mem.limit, math.MaxInt32)
	parquetFile, err := file.NewParquetReader(bytes.NewReader(data), file.WithReadProps(props))
	if err != nil {
		return err
	}
	p := preflight{parquetFile, r.chunk, int64(len(data))}
	if r.rows, err = p.check(entries, want); err != nil {
		return err
	}
	r.groups = len(r.rows)
	r.arrow, err = pqarrow.NewFileReader(parquetFile, pqarrow.ArrowReadProperties{PreAllocBinaryData: true}, mem)
	return err
}

// memory returns an allocator that gives no more at once than any one buffer needs
// for the signed rows: all their bytes in one column, offsets and levels, and what
// buffers grow by. Small chunks get room for the library's fixed needs.
func (r *reader) memory() ceiling {
	c := r.chunk
	return ceiling{memory.NewGoAllocator(), 4*c.RawBytes + 64*(c.Rows+c.Cells) + 1<<20}
}

// each calls f with the rows of each row group, until an error.
func (r *reader) each(ctx context.Context, f func(group int, rec arrow.RecordBatch) error) error {
	for group := range r.groups {
		rec, err := r.read(ctx, group)
		if err != nil {
			return err
		}
		err = f(group, rec)
		rec.Release()
		if err != nil {
			return err
		}
	}
	return r.end()
}

// read decodes a row group.
func (r *reader) read(ctx context.Context, group int) (rec arrow.RecordBatch, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = r.trying(ctx, group, func() (err error) {
		rec, err = r.decode(ctx, group)
		return err
	})
	return rec, err
}

// trying calls f, which decodes, and says what its error is.
func (r *reader) trying(ctx context.Context, group int, f func() error) error {
	err := guard(f)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return corrupt(fmt.Errorf("row group %d: %w", group, err))
	}
	return nil
}

func (r *reader) decode(ctx context.Context, group int) (arrow.RecordBatch, error) {
	columns, err := readColumns(ctx, r.arrow, group, nil)
	if err != nil {
		return nil, err
	}
	defer release(columns)
	if n := int64(columns[0].Len()); n != r.rows[group] {
		return nil, fmt.Errorf("%d rows, its footer says %d", n, r.rows[group])
	}
	rec := array.NewRecordBatch(r.schema, columns, r.rows[group])
	return rec, r.order(rec)
}

// readColumns decodes the Parquet columns of those numbers, nil for all, up to the
// reader's batch size, and returns the columns they make.
func readColumns(ctx context.Context, from *pqarrow.FileReader, group int, leaves []int) ([]arrow.Array, error) {
	records, err := from.GetRecordReader(ctx, leaves, []int{group})
	if err != nil {
		return nil, err
	}
	defer records.Release()
	if !records.Next() {
		return nil, cmp.Or(records.Err(), errors.New("no rows"))
	}
	columns := slices.Clone(records.RecordBatch().Columns())
	for _, c := range columns {
		c.Retain()
	}
	return columns, nil
}

func release(columns []arrow.Array) {
	for _, c := range columns {
		if c != nil {
			c.Release()
		}
	}
}

// order holds the keys of the next record to ascending order and the signed
// range.
func (r *reader) order(rec arrow.RecordBatch) error {
	if err := r.keys.add(rec); err != nil {
		return err
	}
	return r.signed()
}

// signed holds the keys so far to the signed range.
func (r *reader) signed() error {
	if !bytes.Equal(r.keys.first, r.chunk.First) {
		return fmt.Errorf("first key is %s, signed is %s", r.keys.format(r.keys.first), r.keys.format(r.chunk.First))
	}
	if bytes.Compare(r.keys.last, r.chunk.Last) > 0 {
		return fmt.Errorf("key %s is past the last one signed, %s", r.keys.format(r.keys.last), r.keys.format(r.chunk.Last))
	}
	return nil
}

func (r *reader) end() error {
	if !bytes.Equal(r.keys.last, r.chunk.Last) {
		return corrupt(fmt.Errorf("last key is %s, signed is %s", r.keys.format(r.keys.last), r.keys.format(r.chunk.Last)))
	}
	return nil
}

// preflight compares a footer with what was signed.
type preflight struct {
	file  *file.Reader
	chunk manifest.Chunk
	size  int64
}

// check returns how many rows the row groups have.
func (p preflight) check(entries [][2]string, want *schema.Schema) ([]int64, error) {
	meta := p.file.MetaData()
	if err := checkEntries(meta.KeyValueMetadata(), entries); err != nil {
		return nil, err
	}
	if !meta.Schema.Root().Equals(want.Root()) {
		return nil, fmt.Errorf("has the columns\n%v\nthe table has\n%v", meta.Schema, want)
	}
	if meta.NumRows != p.chunk.Rows {
		return nil, fmt.Errorf("%d rows, signed are %d", meta.NumRows, p.chunk.Rows)
	}
	var rows []int64
	left := p.chunk.Rows
	for group := range meta.NumRowGroups() {
		n, err := p.group(group)
		if err == nil && (n < 1 || n > left) {
			err = fmt.Errorf("%d rows, of those signed %d are left", n, left)
		}
		if err != nil {
			return nil, fmt.Errorf("row group %d: %w", group, err)
		}
		left -= n
		rows = append(rows, n)
	}
	if left != 0 {
		return nil, fmt.Errorf("%d of the %d rows signed are missing", left, p.chunk.Rows)
	}
	return rows, nil
}

// checkEntries holds the key-value metadata to the keys, and to the values that
// are the same in all chunks of a table. Other entries could tell the library to
// read the file in another way.
func checkEntries(got metadata.KeyValueMetadata, want [][2]string) error {
	if got.Len() != len(want) {
		return fmt.Errorf("%d entries of metadata, want %d", got.Len(), len(want))
	}
	for i, entry := range want {
		key, value := entry[0], entry[1]
		if got[i].Key != key || value != "" && got[i].GetValue() != value {
			return fmt.Errorf("metadata %q is %q, want %q with %q", got[i].Key, got[i].GetValue(), key, value)
		}
	}
	return nil
}

func (p preflight) group(group int) (rows int64, err error) {
	g := p.file.RowGroup(group)
	if g.NumColumns() != p.file.MetaData().Schema.NumColumns() {
		return 0, fmt.Errorf("%d columns, want %d", g.NumColumns(), p.file.MetaData().Schema.NumColumns())
	}
	for i := range g.NumColumns() {
		if err := p.column(g, i); err != nil {
			return 0, fmt.Errorf("column %s: %w", p.file.MetaData().Schema.Column(i).Path(), err)
		}
	}
	return g.NumRows(), nil
}

// column looks at a column of a row group. Of a nested column it takes the first
// step of decoding too, because the library takes that one in a goroutine of its
// own, where a panic could not be caught.
func (p preflight) column(g *file.RowGroupReader, i int) error {
	c, err := g.MetaData().ColumnChunk(i)
	if err != nil {
		return err
	}
	if path := p.file.MetaData().Schema.Column(i).Path(); c.PathInSchema().String() != path {
		return fmt.Errorf("is called %s", c.PathInSchema())
	}
	if codec := c.Compression(); codec != compress.Codecs.Zstd && codec != compress.Codecs.Uncompressed {
		return fmt.Errorf("compressed with %s", codec)
	}
	if c.CryptoMetadata() != nil || c.FilePath() != "" || c.GetColumnIndexLocation() != nil || c.GetOffsetIndexLocation() != nil {
		return errors.New("is encrypted, indexed or in another file")
	}
	if err := p.extent(c); err != nil {
		return err
	}
	if err := p.values(g, c, i); err != nil || !p.nested(i) {
		return err
	}
	pages, err := g.GetColumnPageReader(i)
	if err != nil {
		return err
	}
	return pages.Close()
}

func (p preflight) nested(i int) bool {
	return p.file.MetaData().Schema.Column(i).MaxRepetitionLevel() > 0
}

// extent holds a column to the bytes of the file.
func (p preflight) extent(c *metadata.ColumnChunkMetaData) error {
	start, length := c.DataPageOffset(), c.TotalCompressedSize()
	if c.HasDictionaryPage() {
		start = min(start, c.DictionaryPageOffset())
	}
	if start < 4 || length < 0 || c.DataPageOffset() > p.size || start > p.size-length {
		return fmt.Errorf("lies at %d with %d bytes, the file has %d", start, length, p.size)
	}
	return nil
}

// values holds a column to the signed numbers of rows and cells: a list has an
// entry at most for each cell, and one for each row without any.
func (p preflight) values(g *file.RowGroupReader, c *metadata.ColumnChunkMetaData, i int) error {
	least, most := g.NumRows(), g.NumRows()
	if p.nested(i) {
		most += p.chunk.Cells
	}
	if n := c.NumValues(); n < least || n > most {
		return fmt.Errorf("%d values, want %d to %d", n, least, most)
	}
	return nil
}

// ceiling is an allocator that refuses absurd sizes. It panics, since it has no
// other way to; the sizes at which the library allocates outside of guard are
// far below any limit.
type ceiling struct {
	memory.Allocator
	limit int64
}

func (c ceiling) Allocate(size int) []byte {
	c.refuse(size)
	return c.Allocator.Allocate(size)
}

func (c ceiling) Reallocate(size int, b []byte) []byte {
	c.refuse(size)
	return c.Allocator.Reallocate(size, b)
}

func (c ceiling) refuse(size int) {
	if int64(size) > c.limit {
		panic(fmt.Sprintf("needs %d bytes at once, more than the rows signed can", size))
	}
}

// corrupt makes an error a verdict on the object.
func corrupt(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", err, ErrCorrupt)
}
