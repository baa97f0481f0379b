// Package pages makes Parquet files of Arrow records. It builds the pages itself,
// straight from the buffers of the arrays, and finds out by a sample how each
// column is best encoded; the Parquet library writes the footer. The same records
// give the same bytes.
package pages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/klauspost/compress/zstd"
)

const magic = "PAR1"

// Writer makes a file in memory, a row group of each record. Columns are integers
// of 64 bits, doubles, booleans, strings, binaries, and lists of structs of them;
// neither a list nor a struct is null. A Writer is not safe for concurrent use.
type Writer struct {
	schema  *schema.Schema
	props   *parquet.WriterProperties
	meta    *metadata.FileMetaDataBuilder
	out     output
	groups  int
	choices []choice // by leaf
}

// NewWriter returns a Writer of records of a schema. Of props it heeds what
// concerns the footer, such as which columns have statistics; entries are the
// footer's keys and values. Pages are compressed by zstd, as props must say.
func NewWriter(s *arrow.Schema, props *parquet.WriterProperties, entries [][2]string) (*Writer, error) {
	columns, err := pqarrow.ToParquet(s, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return nil, err
	}
	w := &Writer{
		schema:  columns,
		props:   props,
		meta:    metadata.NewFileMetadataBuilder(columns, props, nil),
		choices: make([]choice, columns.NumColumns()),
	}
	for _, entry := range entries {
		if err := w.meta.AppendKeyValueMetadata(entry[0], entry[1]); err != nil {
			return nil, err
		}
	}
	w.out.Write([]byte(magic))
	return w, nil
}

// Write appends a row group. After an error the Writer is of no more use.
func (w *Writer) Write(rec arrow.RecordBatch) error {
	if w.groups == math.MaxInt16 {
		return fmt.Errorf("more than %d row groups", w.groups)
	}
	leaves, err := leavesOf(rec)
	if err != nil {
		return err
	}
	defer release(leaves)
	if len(leaves) != w.schema.NumColumns() {
		return fmt.Errorf("%d columns, want %d", len(leaves), w.schema.NumColumns())
	}
	group := w.meta.AppendRowGroup()
	group.SetNumRows(int(rec.NumRows()))
	own := rooms.Get().(*room)
	defer own.leave()
	for i := range leaves {
		c := columnWriter{room: own, to: &w.out, leaf: &leaves[i], choice: &w.choices[i], rows: int(rec.NumRows())}
		c.bounded = w.props.StatisticsEnabledFor(w.schema.Column(i).Path())
		if err := c.write(group.NextColumnChunk()); err != nil {
			return err
		}
	}
	w.groups++
	return group.Finish(0, int16(w.groups-1))
}

// Close returns the file.
func (w *Writer) Close() ([]byte, error) {
	if w.groups == 0 {
		return nil, errors.New("nothing was written")
	}
	footer, err := w.meta.Finish()
	if err != nil {
		return nil, err
	}
	n, err := footer.WriteTo(&w.out, nil)
	if err != nil {
		return nil, err
	}
	w.out.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
	w.out.Write([]byte(magic))
	return w.out.take(), nil
}

// room is memory that is used again: at most 30 bytes for each row, or entry of a
// list, of the largest row group, the largest page twice, the largest dictionary,
// and 5 MB for the encoders. There is one for each Write that is running; what is
// over goes with the next garbage collections.
type room struct {
	values     values
	dictionary dictionary
	picked     values // a sample
	levels     []uint32
	bits       []byte
	page       []byte
	packed     []byte
	fast, best *zstd.Encoder
}

var rooms = sync.Pool{New: func() any {
	return &room{fast: newEncoder(zstd.SpeedFastest), best: newEncoder(zstd.SpeedDefault)}
}}

// leave lets others have the room, without the record that was in it.
func (r *room) leave() {
	r.values.data, r.picked.data, r.dictionary.entries.data = nil, nil, nil
	rooms.Put(r)
}

func newEncoder(level zstd.EncoderLevel) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1),
		zstd.WithZeroFrames(true), zstd.WithAllLitEntropyCompression(true),
		zstd.WithWindowSize(pageBytes), zstd.WithLowerEncoderMem(true)) // a fifth of the memory, and no larger
	if err != nil {
		panic(err) // options the library does not know
	}
	return e
}
