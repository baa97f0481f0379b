package snapshot_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// simulated is a store of an archive whose chunks are listed and not there: whatever
// reads only what names them does not notice.
type simulated struct {
	archivetest.Memory
	chunks []archive.Object
	reads  atomic.Int64 // of pages
}

func (s *simulated) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		for o, err := range s.Memory.List(ctx, prefix) {
			if !yield(o, err) {
				return
			}
		}
		for _, o := range s.chunks {
			if strings.HasPrefix(o.Name, prefix) && !yield(o, nil) {
				return
			}
		}
	}
}

func (s *simulated) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if strings.Contains(name, "/events/r") {
		s.reads.Add(1)
	}
	return s.Memory.Get(ctx, name)
}

// eventKey is the key of the first row of chunk i: the chunks have ten rows each, whose
// keys have room between them.
func eventKey(i int64) manifest.Key { return integerKey(i * 100) }

// integerKey is the key of a row whose primary key is one integer.
func integerKey(n int64) manifest.Key {
	return binary.BigEndian.AppendUint64(nil, uint64(n)^1<<63)
}

// chunkOf is what a page says of chunk i.
func chunkOf(i, rng, index int64) manifest.Chunk {
	digest := manifest.Sum(binary.AppendVarint(nil, i))
	return manifest.Chunk{
		Name: manifest.ChunkName(rng, 0, index), SHA256: digest, Size: 1000, Rows: 10, Cells: 100, RawBytes: 2000, RowDigest: digest,
		First: eventKey(i), Last: integerKey(i*100 + 90),
	}
}

// perPage is how many chunks a page names.
const perPage = 10_000

// addSnapshot adds a snapshot of a table of so many chunks.
func (s *simulated) addSnapshot(t testing.TB, a *snapshot.Archive, key manifest.Signer, chunks int64) {
	t.Helper()
	started := manifest.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	m := &manifest.Manifest{
		Format: 1, Archive: a.Policy.ID(), Policy: a.Policy.Digest(), Tool: "otsnap test", Build: "go test", Seq: 1,
		Instance: manifest.Instance{Endpoint: "https://shop.example", Name: "shop"}, Started: started, Finished: started,
		Consistency: manifest.Consistency{Kind: "window", Positions: []string{}}, Retention: manifest.Retention{Mode: manifest.NoRetention},
		Snapshot: manifest.NewSnapshotID(started.Time, nil),
	}
	entry := manifest.TableEntry{Table: manifest.Table{
		Name: "events", Key: []manifest.KeyColumn{{Name: "id", Type: manifest.Integer}},
		Options: manifest.Options{TTL: -1, MaxVersions: 1, Deviation: 86400, AllowUpdate: true},
	}}
	plan := &manifest.Plan{
		Format: 1, Archive: m.Archive, Snapshot: m.Snapshot, Tool: m.Tool, Instance: m.Instance, Started: started,
		ChunkBytes: 1 << 20, GroupBytes: 1 << 20, GroupRows: 1000,
		Tables: []manifest.PlanTable{{Table: entry.Table, Ranges: []manifest.Range{{}}}},
	}
	sealed, err := manifest.SealPlan(t.Context(), plan, key)
	if err != nil {
		t.Fatal(err)
	}
	store := func(name string, data []byte) {
		if err := s.Put(t.Context(), name, bytes.NewReader(data), archive.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	m.Plan = manifest.Sum(sealed)
	store(m.PlanObject().Name, sealed)
	var tree manifest.Tree
	for begin := int64(0); begin < chunks; begin += perPage {
		end := min(begin+perPage, chunks)
		page := &manifest.Page{Format: 1, Archive: m.Archive, Snapshot: m.Snapshot, Table: "events", Range: begin / perPage}
		if begin > 0 {
			page.From = eventKey(begin)
		}
		if end < chunks {
			page.To = eventKey(end)
		}
		for i := begin; i < end; i++ {
			c := chunkOf(i, page.Range, i-begin)
			page.Chunks = append(page.Chunks, c)
			page.Totals.Add(c.Totals())
			s.chunks = append(s.chunks, archive.Object{Name: manifest.ChunkObject(m.Snapshot, "events", c).Name, Size: c.Size})
		}
		sealed, err := manifest.SealPage(t.Context(), page, key)
		if err != nil {
			t.Fatal(err)
		}
		ref := page.Ref(sealed)
		store(m.PageObject(entry, ref).Name, sealed)
		entry.Pages = append(entry.Pages, ref)
		entry.Totals.Add(ref.Totals)
		for _, line := range page.Lines() {
			tree.Add(manifest.LeafHash(line))
		}
	}
	entry.Root = tree.Root()
	m.Tables, m.Totals = []manifest.TableEntry{entry}, entry.Totals
	if sealed, err = manifest.Seal(t.Context(), m, key); err != nil {
		t.Fatal(err)
	}
	store(manifest.ManifestName(1), sealed)
}

// simulate makes an archive of a snapshot of as many chunks.
func simulate(t testing.TB, chunks int64) (*simulated, *snapshot.Archive) {
	t.Helper()
	s := new(simulated)
	a, key := newArchive(t, s)
	s.addSnapshot(t, a, key, chunks)
	return s, a
}

// TestOneKeyTakesOnePage: what reads one row of a table of many pages reads the page
// whose range has its key, and a verification finds them all in order.
func TestOneKeyTakesOnePage(t *testing.T) {
	s, a := simulate(t, 2*perPage+100)
	if _, err := (snapshot.Verify{Archive: a, Snapshot: "latest"}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.reads.Swap(0); got != 3 {
		t.Errorf("a verification read %d pages, want all 3", got)
	}
	entry, err := a.Find(t.Context(), "latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := readOne(t.Context(), a, entry, 2*perPage); err != nil {
		t.Fatal(err)
	}
	if got := s.reads.Load(); got != 1 {
		t.Errorf("reading one key read %d pages, want 1", got)
	}
}

// BenchmarkChunks does what reads what names chunks, and none of them, with archives of
// more and more: ns/chunk and B/chunk are to stay as they are.
func BenchmarkChunks(b *testing.B) {
	instance := newService(b).instance(b, "target")
	for _, n := range []int64{10_000, 100_000, 1_000_000} {
		if testing.Short() && n > 10_000 {
			continue
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			measure := func(name string, run func(b *testing.B) error) {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if err := run(b); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/chunk")
				})
			}
			var a *snapshot.Archive
			measure("seal", func(b *testing.B) error { _, a = simulate(b, n); return nil })
			measure("verify", func(b *testing.B) error {
				_, err := snapshot.Verify{Archive: a, Snapshot: "latest"}.Run(b.Context())
				return err
			})
			measure("plan", func(b *testing.B) error {
				_, err := snapshot.Restore{From: a, To: instance, Check: instance}.Plan(b.Context())
				return err
			})
			entry, err := a.Find(b.Context(), "latest")
			if err != nil {
				b.Fatal(err)
			}
			measure("one key", func(b *testing.B) error { return readOne(b.Context(), a, entry, n) })
			measure("diff", func(b *testing.B) error {
				side := snapshot.Side{Archive: a, Entry: entry}
				_, err := snapshot.Diff{A: side, B: side, Brief: true}.Run(b.Context(), nil)
				return err
			})
		})
	}
}

// readOne reads between two rows of the middle chunk of n, where there is none: no chunk
// is needed for that.
func readOne(ctx context.Context, a *snapshot.Archive, e snapshot.Entry, n int64) error {
	table, err := snapshot.FindTable(e, "events")
	if err != nil {
		return err
	}
	within := manifest.Range{From: integerKey(n/2*100 + 95), To: integerKey(n/2*100 + 96)}
	for _, err := range (snapshot.Read{Archive: a, Entry: e, Table: table, Within: within}).Rows(ctx) {
		if err != nil {
			return err
		}
	}
	return nil
}
