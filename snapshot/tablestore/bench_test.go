package tablestore

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
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

// benchLayout gives every cell of benchRows a column of its own.
func benchLayout(b *testing.B) row.Layout {
	b.Helper()
	all := slices.Clone(columns)
	for _, name := range []string{"extra1", "x0", "x1", "x2"} {
		all = append(all, manifest.Column{Name: name, Type: manifest.String})
	}
	all = append(all, manifest.Column{Name: "extra2", Type: manifest.Integer})
	slices.SortFunc(all, func(a, b manifest.Column) int { return strings.Compare(a.Name, b.Name) })
	l, err := row.NewLayout(orders.Key, all)
	if err != nil {
		b.Fatal(err)
	}
	return l
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

// BenchmarkRequests makes BatchWriteRow requests of rows and sends none of them.
func BenchmarkRequests(b *testing.B) {
	const n = 10_000
	rows := benchRows(n)
	size := 0
	for _, r := range wire(rows) {
		size += len(r)
	}
	rec := record(b, benchLayout(b), rows)
	changes := make([]ots.RowChange, n)
	for i, r := range rows {
		changes[i] = change(orders, r)
	}
	b.Run("Sink", func(b *testing.B) {
		perCore(b, n, size, func() error {
			w := &writer{write: snapshot.Write{Table: orders, Record: rec}, encoder: row.NewEncoder(benchLayout(b))}
			w.table = orders.Name
			made := 0
			send := func(parts ...*parcel) {
				for _, p := range parts {
					made += len(p.body())
				}
			}
			err := w.encoder.Reset(rec)
			if err == nil {
				err = w.pack(b.Context(), send)
			}
			if err == nil && made < size {
				err = fmt.Errorf("%d bytes", made)
			}
			return err
		})
	})
	b.Run("SDK", func(b *testing.B) {
		perCore(b, n, size, func() error {
			for part := range slices.Chunk(changes, maxRows) {
				table := &otsprotocol.TableInBatchWriteRowRequest{TableName: proto.String(orders.Name)}
				for _, c := range part {
					table.Rows = append(table.Rows, &otsprotocol.RowInBatchWriteRowRequest{
						Type: otsprotocol.OperationType_PUT.Enum(), RowChange: c.Serialize(),
						Condition: &otsprotocol.Condition{RowExistence: otsprotocol.RowExistenceExpectation_IGNORE.Enum()},
					})
				}
				request := &otsprotocol.BatchWriteRowRequest{Tables: []*otsprotocol.TableInBatchWriteRowRequest{table}}
				if _, err := proto.Marshal(request); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// perCore measures a pass over rows by the CPU time of the process, which a machine
// that is busy with something else as well changes less than the time that passes.
func perCore(b *testing.B, rows, size int, pass func() error) {
	b.Helper()
	b.ReportAllocs()
	used := cpuTime(b)
	for b.Loop() {
		if err := pass(); err != nil {
			b.Fatal(err)
		}
	}
	used = cpuTime(b) - used
	b.ReportMetric(used.Seconds()*1e9/float64(b.N)/float64(rows), "cpu-ns/row")
	b.ReportMetric(float64(b.N)*float64(size)/1e6/used.Seconds(), "MB/s/core")
	b.SetBytes(int64(size))
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
