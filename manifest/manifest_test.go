package manifest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// fixture is a small archive's documents, signed 2 of 2, with one snapshot.
type fixture struct {
	exporter, notary, stranger Signer
	policy                     *Policy
	sealedPolicy               []byte
	snapshotFixture
}

// snapshotFixture is the documents of a snapshot of two tables.
type snapshotFixture struct {
	plan        *Plan
	sealedPlan  []byte
	pages       []*Page
	sealedPages [][]byte
	manifest    *Manifest
	sealed      []byte
}

func newFixture(t testing.TB, files ...File) *fixture {
	t.Helper()
	f := &fixture{exporter: testKey(t, "exporter"), notary: testKey(t, "notary"), stranger: testKey(t, "stranger")}
	p := testPolicy(f.exporter, f.notary)
	if len(files) == 0 {
		files = []File{{Name: "README.md", Data: []byte("How to read this archive.\n")}}
	}
	p.Files = FileRefs(files)
	f.policy, f.sealedPolicy = openTestPolicy(t, p, f.exporter, f.notary)
	f.snapshotFixture = f.snapshot(t, testPlan(f.policy.ID()), nil)
	return f
}

// snapshot makes the documents of a snapshot that follows the manifest before, if
// there is one.
func (f *fixture) snapshot(t testing.TB, pl *Plan, before *snapshotFixture) snapshotFixture {
	t.Helper()
	s := snapshotFixture{plan: pl, sealedPlan: must(SealPlan(t.Context(), pl, f.exporter))(t)}
	for _, pg := range testPages(pl) {
		s.pages = append(s.pages, pg)
		s.sealedPages = append(s.sealedPages, must(SealPage(t.Context(), pg, f.exporter))(t))
	}
	s.manifest = testManifest(&s)
	if before != nil {
		s.manifest.Seq, s.manifest.Prev = before.manifest.Seq+1, Sum(before.sealed)
	}
	s.sealed = must(Seal(t.Context(), s.manifest, f.exporter, f.notary))(t)
	return s
}

// following makes a second snapshot, and its manifest the next.
func (f *fixture) following(t testing.TB) snapshotFixture {
	t.Helper()
	pl := testPlan(f.policy.ID())
	pl.Snapshot = "20261123T160501Z-00000002"
	return f.snapshot(t, pl, &f.snapshotFixture)
}

// must returns a function that ends the test if err is not nil.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func testKey(t testing.TB, name string) Signer {
	t.Helper()
	return must(ParsePrivateKey(must(os.ReadFile(filepath.Join("testdata", "keys", name+".pem")))(t)))(t)
}

func testPolicy(exporter, notary Signer) *Policy {
	return &Policy{
		Format:    1,
		Version:   1,
		Created:   testTime(0),
		Salt:      Sum([]byte("salt")),
		Threshold: 2,
		Keys: []PolicyKey{
			NewPolicyKey("exporter-prod", Exporter, exporter.Key()),
			NewPolicyKey("notary", Notary, notary.Key()),
		},
	}
}

func openTestPolicy(t testing.TB, p *Policy, signers ...Signer) (*Policy, []byte) {
	t.Helper()
	sealed := must(SealPolicy(t.Context(), p, signers...))(t)
	id := must(PolicyID(sealed))(t)
	return must(OpenPolicy(sealed, id))(t), sealed
}

func testTime(seconds int) Time {
	return At(time.Date(2026, 11, 22, 16, 5, 1, 0, time.UTC).Add(time.Duration(seconds) * time.Second))
}

const testSnapshot = "20261122T160501Z-1f7a9c04"

func testPlan(archive Hash) *Plan {
	return &Plan{
		Format:     1,
		Archive:    archive,
		Snapshot:   testSnapshot,
		Tool:       "otsnap 0.1.0",
		Instance:   testInstance(),
		Started:    testTime(0),
		ChunkBytes: 64 << 20,
		GroupBytes: 8 << 20,
		GroupRows:  65536,
		Tables: []PlanTable{
			{Table: testTable("orders"), Ranges: []Range{
				{To: Key{0x80, 0x10}},
				{From: Key{0x80, 0x10}},
			}},
			{Table: bareTable("users"), Ranges: []Range{{}}},
		},
	}
}

func testInstance() Instance {
	return Instance{Endpoint: "https://demo.cn-hangzhou.ots.aliyuncs.com", Name: "demo"}
}

// testTable uses every part of a table's description.
func testTable(name string) Table {
	return Table{
		Name:          name,
		Key:           []KeyColumn{{Name: "id", Type: Binary}, {Name: "n", Type: Integer, AutoIncrement: true}},
		Defined:       []Column{{Name: "country", Type: String}},
		Columns:       []Column{{Name: "country", Type: String}, {Name: "price", Type: Double}},
		Options:       Options{TTL: -1, MaxVersions: 3, Deviation: 86400, AllowUpdate: true, UpdateFullRow: false},
		Throughput:    Throughput{Read: 1, Write: 2},
		Stream:        Stream{Enabled: true, Hours: 24, Columns: []string{"country"}},
		Encryption:    Encryption{Enabled: true, KeyType: "SSE_KMS_SERVICE"},
		Indexes:       []Index{{Name: "by_country", Type: "GLOBAL", Key: []string{"country", "id"}, Columns: []string{"price"}}},
		SearchIndexes: []SearchIndex{{Name: "orders_search", Schema: `{"fields":[{"name":"<country>"}]}`}},
		NotCaptured:   []string{"tags: the service has no call to read them"},
	}
}

func bareTable(name string) Table {
	return Table{Name: name, Key: []KeyColumn{{Name: "id", Type: String}}, Options: Options{TTL: -1, MaxVersions: 1}}
}

// timeseriesTables are the parts of a timeseries table that uses every part of the
// description of one.
func timeseriesTables(name string) (data, meta Table) {
	data = Table{
		Name: name, Key: TimeseriesKey(DataPart), Columns: []Column{{Name: "usage", Type: Double}}, Options: TimeseriesOptions(),
		Timeseries: Timeseries{
			Part: DataPart, TTL: 86400, MetaTTL: 604800, Unhashed: true, Keys: []string{"_m_name", "region"},
			AnalyticalStores: []AnalyticalStore{{Name: "hot", TTL: -1, Sync: "FULL"}}, LastpointIndexes: []string{"cpu_last"},
		},
	}
	meta = data
	meta.Name, meta.Key, meta.Columns = MetaName(name), TimeseriesKey(MetaPart), []Column{{Name: "_attributes", Type: String}}
	meta.Timeseries.Part = MetaPart
	return data, meta
}

func timeseriesPlan(archive Hash) *Plan {
	pl := testPlan(archive)
	pl.Snapshot = "20261124T160501Z-00000003"
	data, meta := timeseriesTables("cpu")
	pl.Tables = []PlanTable{
		{Table: data, Ranges: []Range{{To: Key{0x80, 0x10}}, {From: Key{0x80, 0x10}}}},
		{Table: meta, Ranges: []Range{{}}},
	}
	return pl
}

// testPages makes a page for every range of pl: two chunks each in the first
// table, none in the second.
func testPages(pl *Plan) []*Page {
	var pages []*Page
	for i, table := range pl.Tables {
		for n, r := range table.Ranges {
			pg := &Page{
				Format: 1, Archive: pl.Archive, Snapshot: pl.Snapshot, Table: table.Table.Name,
				Range: int64(n), From: r.From, To: r.To,
			}
			if i == 0 {
				pg.Chunks = []Chunk{testChunk(int64(n), 0), testChunk(int64(n), 1)}
			}
			for _, c := range pg.Chunks {
				pg.Totals.Add(c.Totals())
			}
			pages = append(pages, pg)
		}
	}
	return pages
}

func testChunk(rng, index int64) Chunk {
	body := chunkBody(rng, index)
	first := byte(0x80*rng + 0x20*(index+1))
	return Chunk{
		Name:      ChunkName(rng, 0, index),
		SHA256:    Sum(body),
		Size:      int64(len(body)),
		Rows:      10 + index,
		Cells:     30,
		RawBytes:  4096,
		RowDigest: LeafHash(body),
		First:     Key{first, 0x01},
		Last:      Key{first, 0xff},
	}
}

func chunkBody(rng, index int64) []byte {
	return fmt.Appendf(nil, "chunk %d of range %d stands in for Parquet\n", index, rng)
}

func testManifest(s *snapshotFixture) *Manifest {
	m := &Manifest{
		Format:      1,
		Archive:     s.plan.Archive,
		Seq:         1,
		Policy:      s.plan.Archive,
		Snapshot:    s.plan.Snapshot,
		Tool:        s.plan.Tool,
		Build:       "go1.26.8",
		Instance:    s.plan.Instance,
		Started:     s.plan.Started,
		Finished:    testTime(90),
		Consistency: Consistency{Kind: "window"},
		Plan:        Sum(s.sealedPlan),
		Retention:   Retention{Mode: "none"},
	}
	next := 0
	for _, table := range s.plan.Tables {
		entry := TableEntry{Table: table.Table}
		var tree Tree
		for range table.Ranges {
			ref := s.pages[next].Ref(s.sealedPages[next])
			for _, line := range s.pages[next].Lines() {
				tree.Add(LeafHash(line))
			}
			entry.Pages = append(entry.Pages, ref)
			entry.Totals.Add(ref.Totals)
			next++
		}
		entry.Root = tree.Root()
		m.Totals.Add(entry.Totals)
		m.Tables = append(m.Tables, entry)
	}
	return m
}

func TestDocumentsOpenAsTheyWereSealed(t *testing.T) {
	f := newFixture(t)
	m := must(Open(f.sealed, f.policy))(t)
	if !reflect.DeepEqual(m, f.manifest) {
		t.Errorf("manifest is\n%+v, want\n%+v", m, f.manifest)
	}
	if pl := must(OpenPlan(f.sealedPlan, f.policy))(t); !reflect.DeepEqual(pl, f.plan) {
		t.Errorf("plan is\n%+v, want\n%+v", pl, f.plan)
	}
	for i, sealed := range f.sealedPages {
		if pg := must(OpenPage(sealed, f.policy))(t); !reflect.DeepEqual(pg, f.pages[i]) {
			t.Errorf("page is\n%+v, want\n%+v", pg, f.pages[i])
		}
	}
}

func TestPagesLeadToTheRoot(t *testing.T) {
	f := newFixture(t)
	m, next := must(Open(f.sealed, f.policy))(t), 0
	for _, entry := range m.Tables {
		var tree Tree
		for _, ref := range entry.Pages {
			o := m.PageObject(entry, ref)
			if sealed := f.sealedPages[next]; o.SHA256 != sha256.Sum256(sealed) || o.Size != int64(len(sealed)) {
				t.Errorf("object %+v is not page %d", o, next)
			}
			pg := must(OpenPage(f.sealedPages[next], f.policy))(t)
			if err := pg.Matches(m, entry, ref); err != nil {
				t.Error(err)
			}
			for _, line := range pg.Lines() {
				tree.Add(LeafHash(line))
			}
			next++
		}
		if err := entry.CheckRoot(&tree); err != nil {
			t.Error(err)
		}
		tree.Add(Hash{})
		if err := entry.CheckRoot(&tree); !errors.Is(err, ErrInvalid) {
			t.Errorf("one more leaf: got %v, want %v", err, ErrInvalid)
		}
	}
}
