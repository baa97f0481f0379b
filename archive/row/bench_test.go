package row

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tunnel/protocol"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/manifest"
)

const benchRows = 4096

// benchTable is a table of orders: 2 key columns and 12 attributes, of which a
// few are absent now and then.
func benchTable(b *testing.B) (Layout, []byte) {
	types := []manifest.Type{manifest.String, manifest.Integer, manifest.String, manifest.Double, manifest.Boolean, manifest.String}
	key := []manifest.KeyColumn{{Name: "customer", Type: manifest.String}, {Name: "order_id", Type: manifest.Integer}}
	var columns []manifest.Column
	for i := range 12 {
		columns = append(columns, manifest.Column{Name: fmt.Sprintf("attribute_%02d", i), Type: types[i%len(types)]})
	}
	rnd := rand.New(rand.NewPCG(7, 8))
	wire := AppendHeader(nil)
	for i := range benchRows {
		r := testRow{key: []testCell{{name: "customer", value: fmt.Sprintf("customer-%08d", i/8)}, {name: "order_id", value: int64(i)}}}
		for _, c := range columns {
			if rnd.IntN(50) > 0 {
				r.cells = append(r.cells, testCell{c.Name, benchValue(rnd, c.Type), 1763000000000 + int64(i)})
			}
		}
		wire = append(wire, r.wire()...)
	}
	return mustLayout(b, key, columns...), wire
}

func benchValue(rnd *rand.Rand, t manifest.Type) any {
	switch t {
	case manifest.Integer:
		return rnd.Int64N(1 << 40)
	case manifest.Double:
		return rnd.Float64() * 100
	case manifest.Boolean:
		return rnd.IntN(2) == 0
	}
	p := make([]byte, 8+rnd.IntN(24))
	for i := range p {
		p[i] = byte('a' + rnd.IntN(26))
	}
	return string(p)
}

func BenchmarkBuilder(b *testing.B) {
	l, wire := benchTable(b)
	builder := NewBuilder(memory.DefaultAllocator, l)
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		rest, err := ParseHeader(wire)
		for len(rest) > 0 && err == nil {
			rest, err = builder.Append(rest)
		}
		if err != nil {
			b.Fatal(err)
		}
		builder.Batch().Record.Release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
}

// BenchmarkBuilderWithoutHash leaves the leaf hashes out.
func BenchmarkBuilderWithoutHash(b *testing.B) {
	l, wire := benchTable(b)
	builder := NewBuilder(memory.DefaultAllocator, l)
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		for rest := wire[headerSize:]; len(rest) > 0; {
			end, ordered, err := builder.read(rest)
			if err != nil || !ordered {
				b.Fatal(ordered, err)
			}
			builder.add(rest[:end])
			rest = rest[end:]
		}
		builder.Batch().Record.Release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
}

// BenchmarkSDKDecoder is what the service's own SDK takes for the same bytes. It
// ignores the checksums and builds nothing.
func BenchmarkSDKDecoder(b *testing.B) {
	_, wire := benchTable(b)
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		rows, err := protocol.ReadRowsWithHeader(bytes.NewReader(wire))
		if err != nil || len(rows) != benchRows {
			b.Fatal(len(rows), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
}

func BenchmarkEncoder(b *testing.B) {
	l, wire := benchTable(b)
	builder := NewBuilder(memory.DefaultAllocator, l)
	for rest := wire[headerSize:]; len(rest) > 0; {
		var err error
		if rest, err = builder.Append(rest); err != nil {
			b.Fatal(err)
		}
	}
	rec := builder.Batch().Record
	e := NewEncoder(l)
	buf := make([]byte, 0, len(wire))
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		err := e.Reset(rec)
		buf = AppendHeader(buf[:0])
		for i := 0; i < benchRows && err == nil; i++ {
			buf, err = e.AppendRow(buf, i)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
	if !bytes.Equal(buf, wire) {
		b.Fatal("rows differ")
	}
}
