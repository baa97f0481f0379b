package sample

import (
	"context"
	"fmt"
	"iter"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// flights streams a Parquet file. The same origin and time occur more than once,
// so the number of the row in the file completes the key.
func flights(ctx context.Context, path string, limit int64) set {
	meta := &tablestore.TableMeta{TableName: Flights}
	meta.AddPrimaryKeyColumn("origin", tablestore.PrimaryKeyType_STRING)
	meta.AddPrimaryKeyColumn("date", tablestore.PrimaryKeyType_INTEGER)
	meta.AddPrimaryKeyColumn("n", tablestore.PrimaryKeyType_INTEGER)
	return set{meta: meta, versions: 1, rows: flightRows(ctx, path, limit)}
}

func flightRows(ctx context.Context, path string, limit int64) iter.Seq2[*tablestore.PutRowChange, error] {
	return func(yield func(*tablestore.PutRowChange, error) bool) {
		if err := readFlights(ctx, path, limit, yield); err != nil {
			yield(nil, err)
		}
	}
}

// readFlights returns an error it has not yielded, and nil after yield has said
// stop.
func readFlights(ctx context.Context, path string, limit int64, yield func(*tablestore.PutRowChange, error) bool) error {
	source, err := file.OpenParquetFile(path, false)
	if err != nil {
		return err
	}
	defer source.Close()
	reader, err := pqarrow.NewFileReader(source, pqarrow.ArrowReadProperties{BatchSize: 1 << 14}, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	records, err := reader.GetRecordReader(ctx, nil, nil)
	if err != nil {
		return err
	}
	defer records.Release()
	var n int64
	for records.Next() {
		columns, err := flightColumns(records.RecordBatch())
		if err != nil {
			return err
		}
		for i := range int(records.RecordBatch().NumRows()) {
			if limit > 0 && n == limit {
				return nil
			}
			if !yield(columns.row(i, n), nil) {
				return nil
			}
			n++
		}
	}
	return records.Err()
}

type flightBatch struct {
	date                *array.Timestamp
	unit                arrow.TimeUnit
	delay, distance     *array.Int64
	origin, destination array.StringLike
}

func flightColumns(record arrow.RecordBatch) (flightBatch, error) {
	var b flightBatch
	date, err := flightColumn[*array.Timestamp](record, "date")
	if err != nil {
		return b, err
	}
	b.date, b.unit = date, date.DataType().(*arrow.TimestampType).Unit
	if b.delay, err = flightColumn[*array.Int64](record, "delay"); err != nil {
		return b, err
	}
	if b.distance, err = flightColumn[*array.Int64](record, "distance"); err != nil {
		return b, err
	}
	if b.origin, err = flightColumn[array.StringLike](record, "origin"); err != nil {
		return b, err
	}
	b.destination, err = flightColumn[array.StringLike](record, "destination")
	return b, err
}

func flightColumn[A arrow.Array](record arrow.RecordBatch, name string) (A, error) {
	var none A
	at := record.Schema().FieldIndices(name)
	if len(at) != 1 {
		return none, fmt.Errorf("the file has no column %s", name)
	}
	column, ok := record.Column(at[0]).(A)
	if !ok {
		return none, fmt.Errorf("column %s is %s", name, record.Column(at[0]).DataType())
	}
	return column, nil
}

func (b flightBatch) row(i int, n int64) *tablestore.PutRowChange {
	r := put(Flights)
	r.PrimaryKey.AddPrimaryKeyColumn("origin", b.origin.Value(i))
	r.PrimaryKey.AddPrimaryKeyColumn("date", b.date.Value(i).ToTime(b.unit).UnixMilli())
	r.PrimaryKey.AddPrimaryKeyColumn("n", n)
	r.AddColumn("delay", b.delay.Value(i))
	r.AddColumn("destination", b.destination.Value(i))
	r.AddColumn("distance", b.distance.Value(i))
	return r
}
