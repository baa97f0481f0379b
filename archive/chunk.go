package archive

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/klauspost/compress/zstd"
	"github.com/otsnap/otsnap/archive/row"
)

// Meta says where a chunk belongs. It is written into the chunk's footer for
// whoever comes upon the file alone; nothing is decided by it.
type Meta struct {
	Table    string
	Snapshot string
}

// The footer's key-value metadata, in this order.
const (
	formatKey   = "otsnap.format"   // version of the chunk format
	tableKey    = "otsnap.table"    // name of the table
	snapshotKey = "otsnap.snapshot" // id of the snapshot
	orderKey    = "otsnap.key"      // names of the columns the rows are sorted by, with commas between
)

const (
	format = "1"
	// createdBy has the shape readers look for. It names no version of the
	// program: the same rows give the same bytes with each.
	createdBy = "otsnap version 1"
)

// properties returns what the footers of chunks say. The root is required because
// some readers refuse the library's default.
func properties(l row.Layout) *parquet.WriterProperties {
	options := []parquet.WriterProperty{
		parquet.WithVersion(parquet.V2_LATEST),
		parquet.WithRootName("rows"),
		parquet.WithRootRepetition(parquet.Repetitions.Required),
		parquet.WithCreatedBy(createdBy),
		parquet.WithCompression(compress.Codecs.Zstd),
		parquet.WithSortingColumns(sorting(l)),
	}
	for _, path := range unbounded(l) {
		options = append(options, parquet.WithStatsFor(path, false))
	}
	return parquet.NewWriterProperties(options...)
}

// unbounded returns the paths of the columns without statistics: items of lists
// that may be null. Chunks that the library wrote bound them too narrowly, so readers
// do not believe them.
func unbounded(l row.Layout) []string {
	var paths []string
	for _, f := range l.Schema().Fields() {
		lists, ok := f.Type.(*arrow.ListType)
		if !ok {
			continue
		}
		for _, item := range lists.Elem().(*arrow.StructType).Fields() {
			if item.Nullable {
				paths = append(paths, f.Name+".list.element."+item.Name)
			}
		}
	}
	return paths
}

func sorting(l row.Layout) []parquet.SortingColumn {
	columns := make([]parquet.SortingColumn, len(l.Key))
	for i := range columns {
		columns[i].ColumnIdx = int32(i)
	}
	return columns
}

// footer returns the key-value metadata of a chunk as keys and values.
func footer(l row.Layout, m Meta) [][2]string {
	names := make([]string, len(l.Key))
	for i, c := range l.Key {
		names[i] = c.Name
	}
	return [][2]string{
		{formatKey, format},
		{tableKey, m.Table},
		{snapshotKey, m.Snapshot},
		{orderKey, strings.Join(names, ",")},
	}
}

// columns returns the Parquet schema of chunks in the layout.
func columns(l row.Layout) (*schema.Schema, error) {
	return pqarrow.ToParquet(l.Schema(), properties(l), pqarrow.DefaultWriterProps())
}

// useZstd makes the Parquet library decompress no more than a page has announced
// to be. Its own codec unpacks what 30 kB can hold into gigabytes. The library
// keeps codecs in a table for the whole process and reads it without a lock, so
// this happens once, before this package reads or writes the first chunk.
var useZstd = sync.OnceValue(func() error {
	library, err := compress.GetCodec(compress.Codecs.Zstd)
	if err != nil {
		return err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderConcurrency(0))
	if err != nil {
		return err
	}
	compress.RegisterCodec(compress.Codecs.Zstd, boundedZstd{library, decoder})
	return nil
})

// boundedZstd is zstd that never decompresses more than its buffer holds.
type boundedZstd struct {
	compress.Codec
	decoder *zstd.Decoder
}

// DecodeWithError decompresses src into dst, which has the announced size.
func (z boundedZstd) DecodeWithError(dst, src []byte) ([]byte, error) {
	return z.decoder.DecodeAll(src, dst[:0])
}

// guard calls f and makes an error of a panic in it: the Parquet library panics
// on files it does not understand.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(err, fmt.Errorf("parquet: %v", p))
		}
	}()
	return f()
}
