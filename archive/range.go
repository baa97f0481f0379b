package archive

import (
	"bytes"

	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// bounds returns a range no key of a row group is outside of: as narrow as the
// smallest and largest values of the key columns make it. Where they are not
// told it is wider.
func (r *reader) bounds(l row.Layout, group int) (manifest.Range, error) {
	low, high := manifest.Key{}, manifest.Key{}
	meta := r.arrow.ParquetReader().MetaData().RowGroup(group)
	for i := range l.Key {
		column, err := meta.ColumnChunk(i)
		if err != nil {
			return manifest.Range{}, err
		}
		b, err := boundsOf(column, r.rows[group])
		if err != nil {
			return manifest.Range{}, err
		}
		if b.Low == nil || b.High == nil {
			break
		}
		low, high = row.AppendKey(low, *b.Low), row.AppendKey(high, *b.High)
		if *b.Low != *b.High {
			break // the next column starts again and again
		}
	}
	return manifest.Range{From: low, To: row.Following(high)}, nil
}

// boundsOf returns what the footer tells of a column of a row group with that
// many rows.
func boundsOf(c *metadata.ColumnChunkMetaData, rows int64) (row.Bounds, error) {
	stats, err := c.Statistics()
	if err != nil || stats == nil || !stats.HasNullCount() {
		return row.Bounds{}, err
	}
	b := row.Bounds{None: stats.NullCount() == c.NumValues(), Full: stats.NullCount() == 0 && c.NumValues() == rows}
	if stats.HasMinMax() {
		b.Low, b.High = extremes(stats)
	}
	return b, nil
}

// extremes returns a value that none in a column is below and one that none is
// above, nil where that is not told. One too long is left out by who writes, and
// the library then reads it as empty. Of NaN alone the first is above the second,
// and there is indeed no value that anything compares to.
func extremes(stats metadata.TypedStatistics) (low, high *row.Value) {
	switch s := stats.(type) {
	case *metadata.Int64Statistics:
		return both(row.IntegerValue(s.Min()), row.IntegerValue(s.Max()))
	case *metadata.Float64Statistics:
		return both(row.DoubleValue(s.Min()), row.DoubleValue(s.Max()))
	case *metadata.ByteArrayStatistics:
		value := func(p []byte) row.Value { return row.BinaryValue(p) }
		if s.Descr().ConvertedType() == schema.ConvertedTypes.UTF8 {
			value = func(p []byte) row.Value { return row.StringValue(string(p)) }
		}
		least := value(s.Min())
		if len(s.Max()) == 0 {
			return &least, nil
		}
		return both(least, value(s.Max()))
	}
	return nil, nil
}

func both(low, high row.Value) (*row.Value, *row.Value) { return &low, &high }

// Overlap reports whether a key can be in both ranges.
func Overlap(a, b manifest.Range) bool {
	return before(a.From, b.To) && before(b.From, a.To)
}

// Contains reports whether a key is in a range.
func Contains(r manifest.Range, k manifest.Key) bool {
	return bytes.Compare(r.From, k) <= 0 && before(k, r.To)
}

// before reports whether a key is before the end of a range.
func before(k, end manifest.Key) bool { return len(end) == 0 || bytes.Compare(k, end) < 0 }
