package archive_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/metrics"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// mutants is how many mutated chunks are read; with OTSNAP_SOAK, all of those that
// were promised.
func mutants() int {
	switch {
	case os.Getenv("OTSNAP_SOAK") != "":
		return 100_000
	case testing.Short():
		return 100
	}
	return 1_000
}

// What one reading of a mutant may take, all that it frees meanwhile included. Its
// rows have 20 kB: most is the library looking for the end of the header of a page,
// which it does in buffers up to 16 MiB, each of twice the size of the last.
const (
	mutantMemory = 96 << 20
	mutantTime   = 2 * time.Minute
)

// TestMutatedChunksAsIfSigned reads damaged chunks whose size and digest are those
// signed, as a hostile or broken exporter can make them. Whatever they are, reading
// ends, in bounded memory, and what Check accepts has the rows that were signed, and
// gives as many of them for each selection.
func TestMutatedChunksAsIfSigned(t *testing.T) {
	l := orders(t)
	chunks, c := kindsOfChunks(t, l)
	want := rebuilt(t, chunks[0], l, c)
	selections := []archive.Selection{
		{},
		{Where: mustFilter(t, "price > 1 or extra is not null or note like 'nn%'")},
		{Where: mustFilter(t, "id >= -985"), Columns: []string{"p*", "note"}},
		{Within: manifest.Range{From: c.First, To: c.Last}, Columns: []string{"quantity"}},
	}
	selectedRows := make([][]row.Row, len(selections))
	for n, s := range selections {
		var err error
		if selectedRows[n], err = read(t, chunks[0], l, c, s); err != nil {
			t.Fatal(err)
		}
	}
	rnd := rand.New(rand.NewPCG(31, 32))
	accepted := 0
	for i := range mutants() {
		data := archivetest.Mutate(rnd, chunks[i%len(chunks)], chunks[rnd.IntN(len(chunks))])
		m := mutant{t: t, number: i, data: data, layout: l, chunk: passing(c, data)}
		if m.checked() {
			accepted++
			if !slices.Equal(rebuilt(t, data, l, m.chunk), want) {
				t.Fatalf("mutant %d: rows that were not signed are accepted", i)
			}
			for n, s := range selections {
				if rows, err := read(t, data, l, m.chunk, s); err != nil || !equalRows(rows, selectedRows[n]) {
					t.Fatalf("mutant %d, selection %d: %d rows, %v; want %d", i, n, len(rows), err, len(selectedRows[n]))
				}
			}
		}
		m.read(selections[i%len(selections)])
	}
	t.Logf("%d of %d mutants have the signed rows still", accepted, mutants())
	if accepted > mutants()/2 {
		t.Errorf("%d of %d mutants are accepted", accepted, mutants())
	}
}

// kindsOfChunks returns the same rows as chunks of several makes.
func kindsOfChunks(t *testing.T, l row.Layout) ([][]byte, manifest.Chunk) {
	t.Helper()
	all := batches(t, 25, 35)
	compressed, c := write(t, l, all...)
	records := []arrow.RecordBatch{all[0].Record, all[1].Record}
	made := func(options ...parquet.WriterProperty) []byte {
		return forgery{records: records, options: options}.make(t)
	}
	return [][]byte{
		compressed,
		made(),
		made(parquet.WithDictionaryDefault(true), parquet.WithDataPageVersion(parquet.DataPageV2)),
		made(parquet.WithDictionaryDefault(true), parquet.WithCompression(compress.Codecs.Zstd), parquet.WithDataPageSize(256)),
	}, c
}

// mutant is a damaged chunk, and what is signed of it.
type mutant struct {
	t      *testing.T
	number int
	data   []byte
	layout row.Layout
	chunk  manifest.Chunk
}

// checked reports whether Check accepts the mutant.
func (m mutant) checked() bool {
	var err error
	m.bounded(func() { err = archive.Check(m.t.Context(), m.data, m.layout, m.chunk) })
	m.fine(err)
	return err == nil
}

// read reads the mutant, and of it a selection.
func (m mutant) read(s archive.Selection) {
	for _, rows := range []func(func(arrow.RecordBatch, error) bool){
		archive.Read(m.t.Context(), m.data, m.layout, m.chunk),
		archive.ReadSelection(m.t.Context(), m.data, m.layout, m.chunk, s),
	} {
		m.bounded(func() {
			var n int64
			e := row.NewEncoder(m.layout)
			for rec, err := range rows {
				if m.fine(err); err != nil {
					break
				}
				n += rec.NumRows()
				if e.Reset(rec) != nil {
					continue // what does not depend on the values is not looked at
				}
				for i := range int(rec.NumRows()) {
					_, _ = e.AppendRow(nil, i)
				}
			}
			if n > m.chunk.Rows {
				m.t.Fatalf("mutant %d: %d rows, signed are %d", m.number, n, m.chunk.Rows)
			}
		})
	}
}

func (m mutant) fine(err error) {
	m.t.Helper()
	if err != nil && !errors.Is(err, archive.ErrCorrupt) {
		m.t.Fatalf("mutant %d: got %v, want ErrCorrupt", m.number, err)
	}
}

// bounded makes sure that f ends in time and has not allocated more than it may,
// what was freed again included.
func (m mutant) bounded(f func()) {
	m.t.Helper()
	late := time.AfterFunc(mutantTime, func() { panic(fmt.Sprintf("mutant %d is read without end", m.number)) })
	defer late.Stop()
	before := allocated()
	f()
	if n := allocated() - before; n > mutantMemory {
		m.t.Errorf("mutant %d: reading %d bytes allocated %d", m.number, len(m.data), n)
	}
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
