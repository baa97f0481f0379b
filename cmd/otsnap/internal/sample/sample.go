// Package sample fills an instance with tables for demonstrations, tests and
// benchmarks: real data that is awkward in the ways real data is, one table made
// up of everything the service allows and few people try, and one for measuring. It writes through
// the official SDK, so what otsnap exports was put there by somebody else.
package sample

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"golang.org/x/sync/errgroup"
)

// Names of the tables that come with the package. Flights is not among them: its
// rows are read from a file.
const (
	Cities   = "cities"
	Movies   = "movies"
	Oddities = "oddities"
	Wide     = "wide"
	Flights  = "flights"
)

// A set is a table and its rows.
type set struct {
	meta *tablestore.TableMeta
	// versions of a cell the table keeps
	versions int
	rows     iter.Seq2[*tablestore.PutRowChange, error]
}

// Load creates the tables named and fills them. It returns how many rows it put
// into each, in the order of names. A table that exists is an error.
func Load(ctx context.Context, client *tablestore.TableStoreClient, names ...string) ([]int64, error) {
	counts := make([]int64, len(names))
	for i, name := range names {
		s, err := find(name)
		if err != nil {
			return nil, err
		}
		if counts[i], err = s.load(ctx, client); err != nil {
			return nil, fmt.Errorf("sample: table %s: %w", name, err)
		}
	}
	return counts, nil
}

// LoadFlights creates the table flights and fills it from a Parquet file with
// the columns date, delay, distance, origin and destination. limit 0 means every
// row of the file. It returns how many rows it put.
func LoadFlights(ctx context.Context, client *tablestore.TableStoreClient, path string, limit int64) (int64, error) {
	n, err := flights(ctx, path, limit).load(ctx, client)
	if err != nil {
		return n, fmt.Errorf("sample: table %s: %w", Flights, err)
	}
	return n, nil
}

func find(name string) (set, error) {
	switch name {
	case Cities:
		return cities(), nil
	case Movies:
		return movies(), nil
	case Oddities:
		return oddities(), nil
	case Wide:
		return wide(), nil
	}
	return set{}, fmt.Errorf("sample: there is no table %q, only %s, %s, %s and %s", name, Cities, Movies, Oddities, Wide)
}

func (s set) load(ctx context.Context, client *tablestore.TableStoreClient) (int64, error) {
	if err := s.create(client); err != nil {
		return 0, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	var n int64
	for batch, err := range batches(s.rows) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return n, firstError(g.Wait(), err)
		}
		n += int64(len(batch.rows))
		g.Go(func() error { return batch.send(client) })
	}
	return n, g.Wait()
}

func firstError(errs ...error) error {
	return errs[slices.IndexFunc(errs, func(err error) bool { return err != nil })]
}

func (s set) create(client *tablestore.TableStoreClient) error {
	options := tablestore.NewTableOptionWithMaxVersion(s.versions)
	options.DeviationCellVersionInSec = 86400
	_, err := client.CreateTable(&tablestore.CreateTableRequest{
		TableMeta:          s.meta,
		TableOption:        options,
		ReservedThroughput: &tablestore.ReservedThroughput{},
	})
	return err
}

// The service's limits of one BatchWriteRow, the second with some room for what
// surrounds the values.
const (
	batchRows  = 200
	batchBytes = 3 << 20
)

// A batch is what one BatchWriteRow carries.
type batch struct {
	rows  []*tablestore.PutRowChange
	bytes int
}

// batches cuts rows into batches, the last of them shorter.
func batches(rows iter.Seq2[*tablestore.PutRowChange, error]) iter.Seq2[batch, error] {
	return func(yield func(batch, error) bool) {
		var b batch
		for r, err := range rows {
			if err != nil {
				yield(batch{}, err)
				return
			}
			size := sizeOf(r)
			if len(b.rows) == batchRows || b.bytes+size > batchBytes {
				if !yield(b, nil) {
					return
				}
				b = batch{}
			}
			b.rows = append(b.rows, r)
			b.bytes += size
		}
		if len(b.rows) > 0 {
			yield(b, nil)
		}
	}
}

func sizeOf(r *tablestore.PutRowChange) int {
	size := 0
	for _, c := range r.PrimaryKey.PrimaryKeys {
		size += len(c.ColumnName) + valueSize(c.Value)
	}
	for _, c := range r.Columns {
		size += len(c.ColumnName) + valueSize(c.Value)
	}
	return size
}

func valueSize(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	}
	return 8
}

func (b batch) send(client *tablestore.TableStoreClient) error {
	request := new(tablestore.BatchWriteRowRequest)
	for _, r := range b.rows {
		request.AddRowChange(r)
	}
	response, err := client.BatchWriteRow(request)
	if err != nil {
		return err
	}
	for _, results := range response.TableToRowsResult {
		for _, r := range results {
			if !r.IsSucceed {
				return fmt.Errorf("row %d of a batch: %s: %s", r.Index, r.Error.Code, r.Error.Message)
			}
		}
	}
	return nil
}

// put begins a row of the table.
func put(table string) *tablestore.PutRowChange {
	r := &tablestore.PutRowChange{TableName: table, PrimaryKey: new(tablestore.PrimaryKey)}
	r.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
	return r
}
