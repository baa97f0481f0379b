package row

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tunnel/protocol"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/manifest"
)

// benchTable is a table the benchmarks are run on.
type benchTable struct {
	name   string
	rows   int
	layout Layout
	wire   []byte // of all rows, with the header
}

// attribute is a column of a table that most rows have.
type attribute struct {
	name    string
	value   func(*rand.Rand) any
	percent int // of the rows that have it
}

func benchTables(b *testing.B) []benchTable {
	return []benchTable{
		newBenchTable(b, "Flights", 8192, flightAttributes()),
		newBenchTable(b, "Wide", 4096, orderAttributes()),
		newBenchTable(b, "Cities", 4096, cityAttributes()),
		newBenchTable(b, "LargeCells", 4, []attribute{{"body", benchBytes(2 << 20), 100}, {"type", benchText(8, 24), 100}}),
		newBenchTable(b, "ManyColumns", 64, manyAttributes()),
	}
}

// flightAttributes are three short cells, two of them integers.
func flightAttributes() []attribute {
	return []attribute{
		{"delay", benchInteger(200), 100},
		{"destination", benchText(3, 3), 100},
		{"distance", benchInteger(3000), 100},
	}
}

// orderAttributes are twelve of all types.
func orderAttributes() (out []attribute) {
	of := []func(*rand.Rand) any{benchText(8, 32), benchInteger(1 << 40), benchText(8, 32), benchDouble, benchBoolean, benchText(8, 32)}
	for i := range 12 {
		out = append(out, attribute{fmt.Sprintf("attribute_%02d", i), of[i%len(of)], 98})
	}
	return out
}

// cityAttributes are texts and doubles, two of them rare.
func cityAttributes() []attribute {
	return []attribute{
		{"adminCode", benchText(0, 3), 100},
		{"altName", benchText(0, 40), 100},
		{"featureCode", benchText(3, 4), 100},
		{"lat", benchDouble, 100},
		{"lon", benchDouble, 100},
		{"muni", benchText(4, 20), 10},
		{"muniSub", benchText(4, 20), 5},
		{"name", benchText(4, 24), 100},
		{"population", benchInteger(1 << 20), 100},
	}
}

// manyAttributes are more than a layout promotes.
func manyAttributes() (out []attribute) {
	for i := range 1000 {
		out = append(out, attribute{fmt.Sprintf("column_%04d", i), benchInteger(1 << 40), 90})
	}
	return out
}

func benchInteger(n int64) func(*rand.Rand) any {
	return func(rnd *rand.Rand) any { return rnd.Int64N(n) }
}

func benchDouble(rnd *rand.Rand) any { return rnd.Float64() * 100 }

func benchBoolean(rnd *rand.Rand) any { return rnd.IntN(2) == 0 }

func benchText(least, most int) func(*rand.Rand) any {
	return func(rnd *rand.Rand) any {
		p := make([]byte, least+rnd.IntN(most-least+1))
		for i := range p {
			p[i] = byte('a' + rnd.IntN(26))
		}
		return string(p)
	}
}

func benchBytes(n int) func(*rand.Rand) any {
	return func(rnd *rand.Rand) any {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		return p
	}
}

// newBenchTable makes rows with two key columns. At most 256 attributes have a
// column of their own, as in a snapshot.
func newBenchTable(b *testing.B, name string, rows int, attributes []attribute) benchTable {
	rnd := rand.New(rand.NewPCG(7, 8))
	wire := AppendHeader(nil)
	for i := range rows {
		r := testRow{key: []testCell{{name: "customer", value: fmt.Sprintf("customer-%08d", i/8)}, {name: "order_id", value: int64(i)}}}
		for _, a := range attributes {
			if rnd.IntN(100) < a.percent {
				r.cells = append(r.cells, testCell{a.name, a.value(rnd), 1763000000000 + int64(i)})
			}
		}
		wire = append(wire, r.wire()...)
	}
	var columns []manifest.Column
	for _, a := range attributes[:min(256, len(attributes))] {
		columns = append(columns, manifest.Column{Name: a.name, Type: newValue(wireKind(a.value(rnd))).Type()})
	}
	key := []manifest.KeyColumn{{Name: "customer", Type: manifest.String}, {Name: "order_id", Type: manifest.Integer}}
	return benchTable{name: name, rows: rows, layout: mustLayout(b, key, columns...), wire: wire}
}

// wireKind returns the type and the bytes of a value on the wire.
func wireKind(v any) (kind, []byte) {
	p := wireValue(v)
	return kind(p[0]), p[1:]
}

// eachTable runs a benchmark of one pass over the rows of every table.
func eachTable(b *testing.B, start func(*testing.B, benchTable) (pass func() error)) {
	for _, t := range benchTables(b) {
		b.Run(t.name, func(b *testing.B) {
			pass := start(b, t)
			b.SetBytes(int64(len(t.wire)))
			b.ReportAllocs()
			used := cpuTime(b)
			for b.Loop() {
				if err := pass(); err != nil {
					b.Fatal(err)
				}
			}
			used = cpuTime(b) - used
			b.ReportMetric(used.Seconds()*1e9/float64(b.N)/float64(t.rows), "cpu-ns/row")
			b.ReportMetric(float64(b.N*len(t.wire))/1e6/used.Seconds(), "MB/s/core")
		})
	}
}

// cpuTime is what this process has used so far. A machine that is busy with
// something else as well changes it less than it does the time that passes.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkBuilder(b *testing.B) {
	eachTable(b, func(b *testing.B, t benchTable) func() error {
		builder := NewBuilder(memory.DefaultAllocator, t.layout)
		return func() error {
			rest, err := ParseHeader(t.wire)
			for len(rest) > 0 && err == nil {
				rest, err = builder.Append(rest)
			}
			builder.Batch().Record.Release()
			return err
		}
	})
}

// BenchmarkBuilderWithoutHash leaves the leaf hashes out.
func BenchmarkBuilderWithoutHash(b *testing.B) {
	eachTable(b, func(b *testing.B, t benchTable) func() error {
		builder := NewBuilder(memory.DefaultAllocator, t.layout)
		return func() error {
			for rest := t.wire[headerSize:]; len(rest) > 0; {
				end, ordered, err := builder.read(rest)
				if err != nil || !ordered {
					return fmt.Errorf("in order %v: %w", ordered, err)
				}
				builder.add(rest[:end])
				rest = rest[end:]
			}
			builder.Batch().Record.Release()
			return nil
		}
	})
}

// BenchmarkSDKDecoder is what the service's own SDK takes for the same bytes. It
// ignores the checksums and builds nothing.
func BenchmarkSDKDecoder(b *testing.B) {
	eachTable(b, func(b *testing.B, t benchTable) func() error {
		return func() error {
			rows, err := protocol.ReadRowsWithHeader(bytes.NewReader(t.wire))
			if err == nil && len(rows) != t.rows {
				err = fmt.Errorf("%d rows", len(rows))
			}
			return err
		}
	})
}

func BenchmarkEncoder(b *testing.B) {
	eachTable(b, func(b *testing.B, t benchTable) func() error {
		builder := NewBuilder(memory.DefaultAllocator, t.layout)
		for rest := t.wire[headerSize:]; len(rest) > 0; {
			var err error
			if rest, err = builder.Append(rest); err != nil {
				b.Fatal(err)
			}
		}
		rec := builder.Batch().Record
		e := NewEncoder(t.layout)
		buf := make([]byte, 0, len(t.wire))
		return func() error {
			err := e.Reset(rec)
			buf = AppendHeader(buf[:0])
			for i := 0; i < t.rows && err == nil; i++ {
				buf, err = e.AppendRow(buf, i)
			}
			if err == nil && len(buf) != len(t.wire) {
				err = fmt.Errorf("%d bytes", len(buf))
			}
			return err
		}
	})
}
