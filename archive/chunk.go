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
	// pageBytes is when a page is full. Smaller pages take more time and space,
	// larger ones more memory for less than 1 %.
	pageBytes = 1 << 20
	// batchValues is how many values the library writes before it looks how full
	// the page is.
	batchValues = 1024
	// level is zstd's default. Level 1 takes a fifth less time for 4 % more space,
	// level 7 almost half as much again for 1 % less.
	level = 3
)

// properties returns the settings chunks are written with. The paths in
// dictionaries name the columns to be written with a dictionary.
//
// The root is required because some readers refuse the library's default. There
// is no DELTA encoding because this version of the library writes pages of only
// nulls wrongly in it.
func properties(l row.Layout, dictionaries []string) *parquet.WriterProperties {
	options := []parquet.WriterProperty{
		parquet.WithVersion(parquet.V2_LATEST),
		parquet.WithDataPageVersion(parquet.DataPageV1),
		parquet.WithRootName("rows"),
		parquet.WithRootRepetition(parquet.Repetitions.Required),
		parquet.WithCreatedBy(createdBy),
		parquet.WithCompression(compress.Codecs.Zstd),
		parquet.WithCompressionLevel(level),
		parquet.WithDataPageSize(pageBytes),
		parquet.WithBatchSize(batchValues),
		parquet.WithStats(true),
		parquet.WithSortingColumns(sorting(l)),
		parquet.WithDictionaryDefault(false),
	}
	for _, path := range dictionaries {
		options = append(options, parquet.WithDictionaryFor(path, true))
	}
	for _, path := range unbounded(l) {
		options = append(options, parquet.WithStatsFor(path, false))
	}
	return parquet.NewWriterProperties(options...)
}

// unbounded returns the paths of the columns without statistics: items of lists
// that may be null. Where as many levels are written at once as there are items and
// values together, this version of the library leaves those values out of the bounds.
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
	return pqarrow.ToParquet(l.Schema(), properties(l, nil), pqarrow.DefaultWriterProps())
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
