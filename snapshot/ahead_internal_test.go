package snapshot

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// While a record is in use the next is made, and not the one after that. What goes
// wrong with one comes after those before it.
func TestRecordsAreMadeAhead(t *testing.T) {
	broken := errors.New("broken")
	synctest.Test(t, func(t *testing.T) {
		made := 0
		records := func(yield func(arrow.RecordBatch, error) bool) {
			for range 3 {
				made++
				record := array.NewRecordBatch(arrow.NewSchema(nil, nil), nil, int64(made))
				if !yield(record, nil) {
					return
				}
				record.Release()
			}
			yield(nil, broken)
		}
		used := 0
		for record, err := range ahead(context.Background(), records) {
			if err != nil {
				if !errors.Is(err, broken) || used != 3 {
					t.Errorf("after %d records: %v", used, err)
				}
				return
			}
			used++
			synctest.Wait()
			if record.NumRows() != int64(used) || made != min(used+1, 3) {
				t.Errorf("record %d has %d rows, and %d are made", used, record.NumRows(), made)
			}
		}
		t.Error("the error is not passed on")
	})
}
