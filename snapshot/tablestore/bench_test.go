package tablestore

import (
	"fmt"
	"testing"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/snapshot"
)

// benchRows are rows with two key columns and ten cells, some 600 bytes each.
func benchRows(n int) []*ots.Row {
	rows := make([]*ots.Row, n)
	for i := range rows {
		k := key("DE", int64(i), []byte("part"))
		r := &ots.Row{PrimaryKey: k}
		add := func(name string, v any) {
			r.Columns = append(r.Columns, &ots.AttributeColumn{ColumnName: name, Value: v, Timestamp: 1_700_000_000_000})
		}
		add("blob", []byte("0123456789abcdef0123456789abcdef"))
		add("extra1", fmt.Sprintf("value %d", i))
		add("extra2", int64(i))
		add("name", fmt.Sprintf("customer number %d", i))
		add("paid", i%2 == 0)
		add("price", float64(i)/7)
		add("stock", int64(i)*1_000_003)
		for c := range 3 {
			add(fmt.Sprintf("x%d", c), "some text of a usual length")
		}
		rows[i] = r
	}
	return rows
}

const benchSize = 50_000

func benchStage(b *testing.B) (*stage, int64) {
	b.Helper()
	s := newStage(b)
	s.create(b, orders)
	rows := benchRows(benchSize)
	s.fill(b, orders, rows)
	var size int64
	for _, r := range wire(rows) {
		size += int64(len(r))
	}
	return s, size
}

func report(b *testing.B, rows int, size int64) {
	b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
	b.SetBytes(size)
}

func BenchmarkScan(b *testing.B) {
	s, size := benchStage(b)
	b.Run("Source", func(b *testing.B) {
		in, l := s.open(b), layoutOf(b, orders)
		b.ReportAllocs()
		for b.Loop() {
			rows := int64(0)
			for batch, err := range in.Scan(b.Context(), snapshot.Scan{Table: orders, Layout: l, Rows: 64 << 10, Bytes: 8 << 20}) {
				if err != nil {
					b.Fatal(err)
				}
				rows += batch.Record.NumRows()
				batch.Record.Release()
			}
			if rows != benchSize {
				b.Fatalf("%d rows", rows)
			}
		}
		report(b, benchSize, size)
	})
	b.Run("SDK", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if rows := s.read(b, orders); len(rows) != benchSize {
				b.Fatalf("%d rows", len(rows))
			}
		}
		report(b, benchSize, size)
	})
}

func BenchmarkWrite(b *testing.B) {
	const n = 10_000
	rows := benchRows(n)
	var size int64
	for _, r := range wire(rows) {
		size += int64(len(r))
	}
	b.Run("Sink", func(b *testing.B) {
		s := newStage(b)
		s.create(b, orders)
		in, l := s.open(b), layoutOf(b, orders)
		rec := record(b, l, rows)
		b.ReportAllocs()
		for b.Loop() {
			if done, err := in.Write(b.Context(), snapshot.Write{Table: orders, Layout: l, Record: rec}); err != nil || done.Rows != n {
				b.Fatal(done, err)
			}
		}
		report(b, n, size)
	})
	b.Run("SDK", func(b *testing.B) {
		s := newStage(b)
		s.create(b, orders)
		b.ReportAllocs()
		for b.Loop() {
			s.fill(b, orders, rows)
		}
		report(b, n, size)
	})
}
