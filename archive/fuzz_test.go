package archive_test

import (
	"errors"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/otsnap/otsnap/archive"
)

// FuzzRead reads files that have passed every hash. Whatever they are, reading
// ends, with the rows signed or with ErrCorrupt.
func FuzzRead(f *testing.F) {
	l := orders(f)
	all := batches(f, 3, 2)
	compressed, c := write(f, l, all...)
	records := []arrow.RecordBatch{all[0].Record, all[1].Record}
	f.Add(compressed)
	f.Add(forgery{records: records}.make(f))
	f.Add(forgery{records: records, options: []parquet.WriterProperty{parquet.WithDictionaryDefault(true), parquet.WithDataPageVersion(parquet.DataPageV2)}}.make(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		signed := passing(c, data)
		rows := int64(0)
		for rec, err := range archive.Read(t.Context(), data, l, signed) {
			if err == nil {
				rows += rec.NumRows()
			} else if !errors.Is(err, archive.ErrCorrupt) {
				t.Fatalf("got %v, want ErrCorrupt", err)
			}
		}
		if rows > c.Rows {
			t.Fatalf("%d rows, signed are %d", rows, c.Rows)
		}
		if err := archive.Check(t.Context(), data, l, signed); err != nil && !errors.Is(err, archive.ErrCorrupt) {
			t.Fatalf("got %v, want ErrCorrupt", err)
		}
	})
}
