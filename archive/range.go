package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sort"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// ReadRange is [Read] for the rows of a chunk whose keys lie in a range, whose
// bounds may be cut anywhere in a value. Row groups that cannot have such rows,
// going by the smallest and largest values their footer names, are not decoded;
// those that are must lie between these. What is not decoded is not checked.
func ReadRange(ctx context.Context, data []byte, l row.Layout, c manifest.Chunk, within manifest.Range) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		r, err := open(data, l, c)
		if err == nil {
			err = r.ranged(ctx, l, within, yield)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("archive: chunk %s: %w", c.Name, err))
		}
	}
}

// errStopped says that no more rows are wanted.
var errStopped = errors.New("stopped")

func (r *reader) ranged(ctx context.Context, l row.Layout, within manifest.Range, yield func(arrow.RecordBatch, error) bool) error {
	for group := range r.groups {
		var of manifest.Range
		err := guard(func() (err error) {
			of, err = r.bounds(l, group)
			return err
		})
		if err != nil {
			return corrupt(fmt.Errorf("row group %d: %w", group, err))
		}
		if !Overlap(of, within) {
			continue
		}
		if group > 0 && r.keys.first == nil {
			r.keys.first = r.chunk.First // of a group that is not decoded
		}
		rec, err := r.read(ctx, group)
		if err != nil {
			return err
		}
		more, err := r.part(rec, of, within, yield)
		rec.Release()
		if err != nil || !more {
			return errors.Join(err, stopped(more))
		}
		if group == r.groups-1 {
			return r.end()
		}
	}
	return nil
}

func stopped(more bool) error {
	if more {
		return nil
	}
	return errStopped
}

// part yields the rows of a decoded group that are within the range.
func (r *reader) part(rec arrow.RecordBatch, of, within manifest.Range, yield func(arrow.RecordBatch, error) bool) (bool, error) {
	n := int(rec.NumRows())
	key := func(i int) manifest.Key { return r.keys.encoder.AppendKey(nil, i) }
	if !Contains(of, key(0)) || !Contains(of, key(n-1)) {
		return true, corrupt(fmt.Errorf("keys %s to %s are not between the values the footer names", r.keys.format(key(0)), r.keys.format(key(n-1))))
	}
	from := sort.Search(n, func(i int) bool { return bytes.Compare(key(i), within.From) >= 0 })
	to := n
	if len(within.To) > 0 {
		to = sort.Search(n, func(i int) bool { return bytes.Compare(key(i), within.To) >= 0 })
	}
	if from >= to {
		return true, nil
	}
	if from == 0 && to == n {
		return yield(rec, nil), nil
	}
	cut := rec.NewSlice(int64(from), int64(to))
	defer cut.Release()
	return yield(cut, nil), nil
}

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
		least, most, ok, err := extremes(column, l.Key[i].Type)
		if err != nil {
			return manifest.Range{}, err
		}
		if !ok {
			break
		}
		low, high = row.AppendKey(low, least), row.AppendKey(high, most)
		if least != most {
			break // the next column starts again and again
		}
	}
	return manifest.Range{From: low, To: row.Following(high)}, nil
}

// extremes returns the smallest and the largest value of a column.
func extremes(c *metadata.ColumnChunkMetaData, t manifest.Type) (least, most row.Value, ok bool, err error) {
	stats, err := c.Statistics()
	if err != nil || stats == nil || !stats.HasMinMax() {
		return row.Value{}, row.Value{}, false, err
	}
	switch s := stats.(type) {
	case *metadata.Int64Statistics:
		return row.IntegerValue(s.Min()), row.IntegerValue(s.Max()), true, nil
	case *metadata.ByteArrayStatistics:
		if t == manifest.String {
			return row.StringValue(string(s.Min())), row.StringValue(string(s.Max())), true, nil
		}
		return row.BinaryValue(s.Min()), row.BinaryValue(s.Max()), true, nil
	}
	return row.Value{}, row.Value{}, false, nil
}

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
