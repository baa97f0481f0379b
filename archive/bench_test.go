package archive_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

const benchRows = 64 << 10

// events is a table of 2 key columns and 12 attributes, a fifth of them absent,
// and a batch of its rows.
func events(b *testing.B) (row.Layout, row.Batch) {
	b.Helper()
	l, err := row.NewLayout(
		[]manifest.KeyColumn{{Name: "user", Type: manifest.String}, {Name: "time", Type: manifest.Integer}},
		[]manifest.Column{
			{Name: "blob", Type: manifest.Binary},
			{Name: "country", Type: manifest.String},
			{Name: "device", Type: manifest.String},
			{Name: "flag", Type: manifest.Boolean},
			{Name: "price", Type: manifest.Double},
			{Name: "qty", Type: manifest.Integer},
			{Name: "request_id", Type: manifest.String},
			{Name: "rnd", Type: manifest.Integer},
			{Name: "score", Type: manifest.Double},
			{Name: "status", Type: manifest.String},
			{Name: "updated_at", Type: manifest.Integer},
			{Name: "url", Type: manifest.String},
		})
	if err != nil {
		b.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	builder := row.NewBuilder(memory.NewGoAllocator(), l)
	for i := range benchRows {
		if _, err := builder.Append(event(rnd, i)); err != nil {
			b.Fatal(err)
		}
	}
	return l, builder.Batch()
}

func event(rnd *rand.Rand, i int) []byte {
	now := 1763000000000 + int64(i)*17
	var cells []cell
	add := func(name string, value any) {
		if rnd.IntN(5) == 0 {
			return
		}
		version := now
		if rnd.IntN(40) == 0 {
			version += 86400000
		}
		cells = append(cells, cell{name, value, version})
	}
	blob := make([]byte, 32)
	for j := range blob {
		blob[j] = byte(rnd.Uint32())
	}
	add("blob", blob)
	add("country", []string{"US", "CN", "DE", "FR", "BR", "IN", "JP", "NG"}[rnd.IntN(8)])
	add("device", fmt.Sprintf("device-%03d", rnd.IntN(200)))
	add("flag", rnd.IntN(2) == 0)
	add("price", float64(rnd.IntN(100_000))/100)
	add("qty", rnd.Int64N(100))
	add("request_id", fmt.Sprintf("%016x%016x", rnd.Uint64(), rnd.Uint64()))
	add("rnd", rnd.Int64())
	add("score", rnd.NormFloat64())
	add("status", []string{"ok", "ok", "ok", "failed", "pending"}[rnd.IntN(5)])
	add("updated_at", now+rnd.Int64N(1000))
	add("url", fmt.Sprintf("https://example.com/items/%d?session=%08x", rnd.IntN(100_000), rnd.Uint32()))
	return wire([]cell{{name: "user", value: fmt.Sprintf("user#%08d", i/10)}, {name: "time", value: now}}, cells)
}

func perRow(b *testing.B, bytes int64) {
	b.SetBytes(bytes)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
}

func BenchmarkWriter(b *testing.B) {
	l, rows := events(b)
	b.ReportAllocs()
	var size int64
	for b.Loop() {
		_, c := write(b, l, rows)
		size = c.Size
	}
	perRow(b, rows.Bytes)
	b.ReportMetric(float64(size)/benchRows, "B/row")
}

func BenchmarkRead(b *testing.B) {
	l, rows := events(b)
	data, c := write(b, l, rows)
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range archive.Read(b.Context(), data, l, c) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	perRow(b, rows.Bytes)
}

func BenchmarkCheck(b *testing.B) {
	l, rows := events(b)
	data, c := write(b, l, rows)
	b.ReportAllocs()
	for b.Loop() {
		if err := archive.Check(b.Context(), data, l, c); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b, rows.Bytes)
}
