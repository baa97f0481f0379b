package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// rule is a rule of a document: how to break it, and what happens then.
type rule[T any] struct {
	name  string
	spoil func(T)
	want  error
	says  string
}

// checkRules breaks each rule in a document that fresh makes.
func checkRules[T interface{ Validate() error }](t *testing.T, fresh func() T, rules []rule[T]) {
	t.Helper()
	if err := fresh().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			document := fresh()
			r.spoil(document)
			if err := document.Validate(); !errors.Is(err, r.want) || !strings.Contains(err.Error(), r.says) {
				t.Errorf("got %v, want %v with %q", err, r.want, r.says)
			}
		})
	}
}

func TestTableRules(t *testing.T) {
	long := strings.Repeat("x", MaxName+1)
	table := func() *Table { t := testTable("orders"); return &t }
	checkRules(t, table, []rule[*Table]{
		{"no name", func(t *Table) { t.Name = "" }, ErrInvalid, "table name"},
		{"no key", func(t *Table) { t.Key = nil }, ErrInvalid, "0 primary key columns"},
		{"five key columns", func(t *Table) { t.Key = make([]KeyColumn, 5) }, ErrInvalid, "5 primary key columns"},
		{"key column twice", func(t *Table) { t.Key[1].Name = "id" }, ErrInvalid, `"id" is there twice`},
		{"key column without a name", func(t *Table) { t.Key[0].Name = "" }, ErrInvalid, "column name"},
		{"key column with a long name", func(t *Table) { t.Key[0].Name = long }, ErrInvalid, "256 bytes"},
		{"key column of a double", func(t *Table) { t.Key[0].Type = Double }, ErrInvalid, "DOUBLE"},
		{"key column of no type", func(t *Table) { t.Key[0].Type = "" }, ErrInvalid, `type ""`},
		{"first column counts itself", func(t *Table) { t.Key[0] = KeyColumn{"id", Integer, true} }, ErrInvalid, "auto-increment"},
		{"text counts itself", func(t *Table) { t.Key[1].Type = String }, ErrInvalid, "auto-increment"},
		{"column named as a key column", func(t *Table) { t.Columns[0].Name = "id" }, ErrInvalid, "there twice"},
		{"predefined column named as a key column", func(t *Table) { t.Defined[0].Name = "id" }, ErrInvalid, "there twice"},
		{"columns out of order", func(t *Table) { t.Columns[0], t.Columns[1] = t.Columns[1], t.Columns[0] }, ErrInvalid, "does not sort"},
		{"column twice", func(t *Table) { t.Columns[1].Name = t.Columns[0].Name }, ErrInvalid, "there twice"},
		{"column named as ours", func(t *Table) { t.Columns[0].Name = "__MORE" }, ErrInvalid, "taken when case is ignored"},
		{"column that differs by case", func(t *Table) { t.Columns[0].Name = "ID" }, ErrInvalid, "taken when case is ignored"},
		{"column no engine can name", func(t *Table) { t.Columns[0].Name = "a b" }, ErrInvalid, "letters, digits"},
		{"column of no type", func(t *Table) { t.Columns[0].Type = "TEXT" }, ErrInvalid, `type "TEXT"`},
		{"column that is not UTF-8", func(t *Table) { t.Defined[0].Name = "\xff" }, ErrInvalid, "UTF-8"},
		{"too many columns", func(t *Table) { t.Columns = make([]Column, MaxColumns+1) }, ErrLimit, "4097 promoted columns"},
		{"ttl", func(t *Table) { t.Options.TTL = -2 }, ErrInvalid, "ttl -2"},
		{"versions", func(t *Table) { t.Options.MaxVersions = -2 }, ErrInvalid, "max_versions -2"},
		{"deviation", func(t *Table) { t.Options.Deviation = -1 }, ErrInvalid, "deviation -1"},
		{"throughput", func(t *Table) { t.Throughput.Read = -1 }, ErrInvalid, "throughput"},
		{"hours of no stream", func(t *Table) { t.Stream.Enabled = false }, ErrInvalid, "stream"},
		{"negative hours", func(t *Table) { t.Stream.Hours = -1 }, ErrInvalid, "stream"},
		{"stream column", func(t *Table) { t.Stream.Columns[0] = "" }, ErrInvalid, "stream: "},
		{"index without a name", func(t *Table) { t.Indexes[0].Name = "" }, ErrInvalid, "index"},
		{"index of another type", func(t *Table) { t.Indexes[0].Type = "BITMAP" }, ErrInvalid, "BITMAP"},
		{"index without a key", func(t *Table) { t.Indexes[0].Key = nil }, ErrInvalid, "no key column"},
		{"index with an empty column", func(t *Table) { t.Indexes[0].Columns[0] = "" }, ErrInvalid, "column name"},
		{"index twice", func(t *Table) { t.Indexes = append(t.Indexes, t.Indexes[0]) }, ErrInvalid, "there twice"},
		{"search index without a name", func(t *Table) { t.SearchIndexes[0].Name = "" }, ErrInvalid, "is empty"},
		{"search index twice", func(t *Table) { t.SearchIndexes = append(t.SearchIndexes, t.SearchIndexes[0]) }, ErrInvalid, "there twice"},
		{"nothing not captured", func(t *Table) { t.NotCaptured[0] = "" }, ErrInvalid, "not_captured is empty"},
		{"a terminal's escape", func(t *Table) { t.NotCaptured[0] = "\x1b[2J" }, ErrInvalid, "control"},
		{"a long text", func(t *Table) { t.NotCaptured[0] = strings.Repeat("x", MaxText+1) }, ErrLimit, "4097 bytes"},
		{"a control character in a key id", func(t *Table) { t.Encryption.KeyID = "a\nb" }, ErrInvalid, "encryption"},
	})
}

func TestTimeseriesRules(t *testing.T) {
	data := func() *Table { t, _ := timeseriesTables("cpu"); return &t }
	rules := []rule[*Table]{
		{"no part", func(t *Table) { t.Timeseries.Part = "" }, ErrInvalid, `part ""`},
		{"the other part", func(t *Table) { t.Timeseries.Part = MetaPart }, ErrInvalid, `part "meta"`},
		{"the other name", func(t *Table) { t.Name = "cpu.meta" }, ErrInvalid, "ends with .meta"},
		{"the key of the other part", func(t *Table) { t.Key = TimeseriesKey(MetaPart) }, ErrInvalid, "primary key"},
		{"another key", func(t *Table) { t.Key[0].Name = "m_name" }, ErrInvalid, "primary key"},
		{"ttl", func(t *Table) { t.Timeseries.TTL = -2 }, ErrInvalid, "ttl -2"},
		{"meta ttl", func(t *Table) { t.Timeseries.MetaTTL = -2 }, ErrInvalid, "meta_ttl -2"},
		{"options", func(t *Table) { t.Options.TTL = 86400 }, ErrInvalid, "only others have"},
		{"throughput", func(t *Table) { t.Throughput.Read = 1 }, ErrInvalid, "only others have"},
		{"stream", func(t *Table) { t.Stream = Stream{Enabled: true, Hours: 24} }, ErrInvalid, "only others have"},
		{"encryption", func(t *Table) { t.Encryption.Enabled = true }, ErrInvalid, "only others have"},
		{"predefined column", func(t *Table) { t.Defined = []Column{{"x", Integer}} }, ErrInvalid, "only others have"},
		{"search index", func(t *Table) { t.SearchIndexes = []SearchIndex{{Name: "x"}} }, ErrInvalid, "only others have"},
		{"key twice", func(t *Table) { t.Timeseries.Keys = []string{"a", "a"} }, ErrInvalid, `key "a" is there twice`},
		{"key without a name", func(t *Table) { t.Timeseries.Keys = []string{""} }, ErrInvalid, "key"},
		{"store twice", func(t *Table) { t.Timeseries.AnalyticalStores = make([]AnalyticalStore, 1) }, ErrInvalid, "analytical store"},
		{"ttl of a store", func(t *Table) { t.Timeseries.AnalyticalStores[0].TTL = -2 }, ErrInvalid, "ttl -2"},
		{"index", func(t *Table) { t.Timeseries.LastpointIndexes[0] = "cpu.last" }, ErrInvalid, "lastpoint index"},
	}
	checkRules(t, data, rules)
	checkRules(t, func() *Table { _, t := timeseriesTables("cpu"); return &t }, []rule[*Table]{
		{"the name of the table", func(t *Table) { t.Name = "cpu" }, ErrInvalid, "ends with .meta"},
		{"not of the model", func(t *Table) { t.Timeseries = Timeseries{} }, ErrInvalid, "ends with .meta"},
	})
}

func TestTablesOfAnyNamesAreKept(t *testing.T) {
	table := bareTable("t")
	table.Defined = []Column{{"Country", String}, {"country", String}, {"naïve — ✓", Binary}, {"\ufffd", Boolean}, {"a\x00b", Integer}}
	if err := table.Validate(); err != nil {
		t.Error(err)
	}
}

func TestManifestRules(t *testing.T) {
	f := newFixture(t)
	text := must(f.manifest.payload())(t)
	fresh := func() *Manifest { return must(parseManifest(text))(t) }
	checkRules(t, fresh, []rule[*Manifest]{
		{"format", func(m *Manifest) { m.Format = 2 }, ErrFormat, "format 2"},
		{"no archive", func(m *Manifest) { m.Archive = Hash{} }, ErrInvalid, "zero"},
		{"no policy", func(m *Manifest) { m.Policy = Hash{} }, ErrInvalid, "zero"},
		{"no plan", func(m *Manifest) { m.Plan = Hash{} }, ErrInvalid, "zero"},
		{"large seq", func(m *Manifest) { m.Seq = MaxSeq + 1; m.Prev = Hash{1} }, ErrInvalid, "seq 100000000"},
		{"no tool", func(m *Manifest) { m.Tool = "" }, ErrInvalid, "tool is empty"},
		{"build", func(m *Manifest) { m.Build = "a\nb" }, ErrInvalid, "build"},
		{"no instance", func(m *Manifest) { m.Instance.Name = "" }, ErrInvalid, "instance name is empty"},
		{"no endpoint", func(m *Manifest) { m.Instance.Endpoint = "" }, ErrInvalid, "endpoint is empty"},
		{"query in the endpoint", func(m *Manifest) { m.Instance.Endpoint += "?key=secret" }, ErrInvalid, "bare address"},
		{"no start", func(m *Manifest) { m.Started = Time{} }, ErrInvalid, "started is in the year 1"},
		{"no end", func(m *Manifest) { m.Finished = Time{} }, ErrInvalid, "finished is in the year 1"},
		{"positions", func(m *Manifest) { m.Consistency.Positions = []string{"x"} }, ErrInvalid, "1 positions"},
		{"until without a mode", func(m *Manifest) { m.Retention.Until = "2030-01-01T00:00:00Z" }, ErrInvalid, "retention none"},
		{"another mode", func(m *Manifest) { m.Retention.Mode = "" }, ErrInvalid, `mode ""`},
		{"parent", func(m *Manifest) { m.Parent = "x" }, ErrInvalid, `snapshot "x"`},
		{"no tables", func(m *Manifest) { m.Tables = nil }, ErrInvalid, "no tables"},
		{"too many tables", func(m *Manifest) { m.Tables = grow(m.Tables, MaxTables+1) }, ErrLimit, "1025 tables"},
		{"a table twice", func(m *Manifest) { m.Tables[1] = m.Tables[0] }, ErrInvalid, "does not sort"},
		{"no pages", func(m *Manifest) { m.Tables[0].Pages = nil }, ErrInvalid, "ranges stop"},
		{"too many pages", func(m *Manifest) {
			m.Tables[0].Pages = nil
			for i := range int64(MaxRanges + 1) {
				m.Tables[0].Pages = append(m.Tables[0].Pages, PageRef{Range: i, SHA256: Hash{1}, Size: 1, From: testBound(i), To: testBound(i + 1)})
			}
		}, ErrLimit, "more than 10000 ranges"},
		{"last page gone", func(m *Manifest) { m.Tables[0].Pages = m.Tables[0].Pages[:1] }, ErrInvalid, "ranges stop"},
		{"page after the end", func(m *Manifest) {
			m.Tables[1].Pages = append(m.Tables[1].Pages, m.Tables[1].Pages[0])
			m.Tables[1].Pages[1].Range = 1
		}, ErrInvalid, "follows the end"},
		{"empty range", func(m *Manifest) { m.Tables[0].Pages[0].From = Key{0x80, 0x10} }, ErrInvalid, "is not before"},
		{"long bound", func(m *Manifest) { m.Tables[0].Pages[1].From = longKey(MaxKey + 1) }, ErrLimit, "bound"},
		{"page without a digest", func(m *Manifest) { m.Tables[0].Pages[0].SHA256 = Hash{} }, ErrInvalid, "no digest"},
		{"page without a size", func(m *Manifest) { m.Tables[0].Pages[0].Size = 0 }, ErrInvalid, "no size"},
		{"large page", func(m *Manifest) { m.Tables[0].Pages[0].Size = MaxPage + 1 }, ErrLimit, "at most"},
		{"page of more chunks than rows", func(m *Manifest) { m.Tables[0].Pages[0].Totals.Chunks = 22 }, ErrInvalid, "do not go together"},
		{"rows in no chunks", func(m *Manifest) { m.Tables[1].Pages[0].Totals.Rows = 1 }, ErrInvalid, "no chunks"},
		{"totals of a table", func(m *Manifest) { m.Tables[0].Totals.Cells++ }, ErrInvalid, "totals"},
		{"totals", func(m *Manifest) { m.Totals.StoredBytes++ }, ErrInvalid, "totals"},
		{"a sum over 2^53", func(m *Manifest) {
			m.Tables[0].Pages[0].Totals.StoredBytes = maxInteger
			m.Tables[0].Totals.StoredBytes = maxInteger
			m.Totals.StoredBytes = maxInteger
		}, ErrInvalid, "is not a count"},
		{"a sum over 2^63", func(m *Manifest) {
			m.Tables[0].Pages[0].Totals.StoredBytes = 1<<63 - 1
			m.Tables[0].Totals.StoredBytes = -(1 << 63) + 40
		}, ErrInvalid, "is not a count"},
	})
}

// grow repeats the last of s until there are n.
func grow[T any](s []T, n int) []T {
	for len(s) < n {
		s = append(s, s[len(s)-1])
	}
	return s
}

func longKey(n int) Key { return Key(strings.Repeat("x", n)) }

// testBound returns the bounds of many ranges; that of 0 is the start.
func testBound(i int64) Key {
	if i == 0 {
		return nil
	}
	return Key(fmt.Sprintf("%08d", i))
}

func TestRetentionIsATime(t *testing.T) {
	f := newFixture(t)
	for _, mode := range []string{"governance", "compliance"} {
		f.manifest.Retention = Retention{Mode: mode, Until: "2036-11-22T00:00:00Z"}
		if err := f.manifest.Validate(); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		for _, until := range []string{"", "2036-11-22", "for ever"} {
			f.manifest.Retention.Until = until
			if err := f.manifest.Validate(); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s until %q: got %v, want %v", mode, until, err, ErrInvalid)
			}
		}
	}
}

func TestPageRules(t *testing.T) {
	f := newFixture(t)
	text := must(f.pages[0].payload())(t)
	fresh := func() *Page { return must(parsePage(text))(t) }
	checkRules(t, fresh, []rule[*Page]{
		{"format", func(p *Page) { p.Format = 0 }, ErrInvalid, "format 0"},
		{"no archive", func(p *Page) { p.Archive = Hash{} }, ErrInvalid, "archive is zero"},
		{"snapshot", func(p *Page) { p.Snapshot = "" }, ErrInvalid, "snapshot"},
		{"table", func(p *Page) { p.Table = "" }, ErrInvalid, "table name"},
		{"range", func(p *Page) { p.Range = MaxRanges }, ErrInvalid, "range 10000"},
		{"negative range", func(p *Page) { p.Range = -1 }, ErrInvalid, "range -1"},
		{"chunk before the range", func(p *Page) { p.From = Key{0x20, 0x02} }, ErrInvalid, "before its range"},
		{"chunk after the range", func(p *Page) { p.To = Key{0x40, 0xff} }, ErrInvalid, "after its range"},
		{"chunks touch", func(p *Page) { p.Chunks[1].First = p.Chunks[0].Last }, ErrInvalid, "not after the chunk before"},
		{"chunk twice", func(p *Page) { p.Chunks[1] = p.Chunks[0] }, ErrInvalid, "chunk 0 of range 0, want 1"},
		{"no row digest", func(p *Page) { p.Chunks[0].RowDigest = Hash{} }, ErrInvalid, "digest is zero"},
		{"no size", func(p *Page) { p.Chunks[0].Size = 0 }, ErrInvalid, "size 0"},
		{"negative cells", func(p *Page) { p.Chunks[0].Cells = -1 }, ErrInvalid, "cells -1"},
		{"more cells than bytes", func(p *Page) { p.Chunks[0].Cells = 4097 }, ErrInvalid, "cells 4097"},
		{"more rows than bytes", func(p *Page) { p.Chunks[0].Rows = 4097 }, ErrInvalid, "rows 4097"},
		{"raw size", func(p *Page) { p.Chunks[0].RawBytes = MaxChunkRaw + 1 }, ErrLimit, "raw_bytes 4294967297"},
		{"long key", func(p *Page) { p.Chunks[0].First = longKey(MaxKey + 1) }, ErrLimit, "a key of"},
		{"one row with two keys", func(p *Page) { p.Chunks[0].Rows = 1 }, ErrInvalid, "1 rows from"},
		{"totals", func(p *Page) { p.Totals.Cells++ }, ErrInvalid, "add up"},
	})
}

func TestPlanRules(t *testing.T) {
	f := newFixture(t)
	text := must(f.plan.payload())(t)
	fresh := func() *Plan { return must(parsePlan(text))(t) }
	checkRules(t, fresh, []rule[*Plan]{
		{"format", func(p *Plan) { p.Format = 2 }, ErrFormat, "format 2"},
		{"no archive", func(p *Plan) { p.Archive = Hash{} }, ErrInvalid, "archive is zero"},
		{"snapshot", func(p *Plan) { p.Snapshot = "" }, ErrInvalid, "snapshot"},
		{"no tool", func(p *Plan) { p.Tool = "" }, ErrInvalid, "tool"},
		{"no instance", func(p *Plan) { p.Instance = Instance{} }, ErrInvalid, "instance"},
		{"no start", func(p *Plan) { p.Started = Time{} }, ErrInvalid, "started"},
		{"large chunks", func(p *Plan) { p.ChunkBytes = MaxChunkRaw + 1 }, ErrInvalid, "chunk_bytes"},
		{"no group bytes", func(p *Plan) { p.GroupBytes = 0 }, ErrInvalid, "group_bytes"},
		{"no group rows", func(p *Plan) { p.GroupRows = 0 }, ErrInvalid, "group_rows"},
		{"many group rows", func(p *Plan) { p.GroupRows = MaxChunkRows + 1 }, ErrInvalid, "group_rows"},
		{"no tables", func(p *Plan) { p.Tables = nil }, ErrInvalid, "no tables"},
		{"tables out of order", func(p *Plan) { p.Tables[0], p.Tables[1] = p.Tables[1], p.Tables[0] }, ErrInvalid, "does not sort"},
		{"a table", func(p *Plan) { p.Tables[0].Table.Key = nil }, ErrInvalid, "table orders"},
		{"no ranges", func(p *Plan) { p.Tables[0].Ranges = nil }, ErrInvalid, "table orders: invalid: the ranges stop"},
		{"ranges that overlap", func(p *Plan) { p.Tables[0].Ranges[1].From = Key{0x80} }, ErrInvalid, "range 1 begins at"},
	})
}

func TestMatchesComparesPageAndManifest(t *testing.T) {
	f := newFixture(t)
	entry := f.manifest.Tables[0]
	if err := f.pages[0].Matches(f.manifest, entry, entry.Pages[0]); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Page){
		"archive":  func(p *Page) { p.Archive = Hash{} },
		"snapshot": func(p *Page) { p.Snapshot = "20261123T160501Z-00000002" },
		"table":    func(p *Page) { p.Table = "users" },
		"range":    func(p *Page) { p.Range = 1 },
		"from":     func(p *Page) { p.From = Key{1} },
		"to":       func(p *Page) { p.To = nil },
		"totals":   func(p *Page) { p.Totals.Cells++ },
	} {
		page := *f.pages[0]
		spoil(&page)
		if err := page.Matches(f.manifest, entry, entry.Pages[0]); !errors.Is(err, ErrInvalid) {
			t.Errorf("another %s: got %v, want %v", name, err, ErrInvalid)
		}
	}
}

func TestTimesKeepTheirSpellingInPlainJSON(t *testing.T) {
	at := At(time.Date(2026, 11, 23, 0, 5, 1, 999, time.FixedZone("", 8*3600)))
	text, err := json.Marshal(at)
	if err != nil || string(text) != `"2026-11-22T16:05:01Z"` {
		t.Fatalf("got %s, %v", text, err)
	}
	var back Time
	if err := json.Unmarshal(text, &back); err != nil || back != at {
		t.Errorf("got %v, %v, want %v", back, err, at)
	}
	if err := json.Unmarshal([]byte(`"2026-11-22T16:05:01.5Z"`), &back); err == nil {
		t.Error("a fraction of a second is read")
	}
}

func TestFilesAreBoundByDigest(t *testing.T) {
	files := Files()
	refs := FileRefs(files)
	if len(files) != 2 || files[0].Name != "README.md" || files[1].Name != "verify.sh" {
		t.Fatalf("files are %+v", refs)
	}
	for i, f := range files {
		if refs[i].Name != f.Name || refs[i].SHA256 != Sum(f.Data) || len(f.Data) == 0 {
			t.Errorf("%s: %+v", f.Name, refs[i])
		}
	}
	files[0].Data[0] ^= 1
	if Sum(Files()[0].Data) != refs[0].SHA256 {
		t.Error("a caller can change the files of the next")
	}
}
