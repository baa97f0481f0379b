package snapshot_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// listing is a manifest with tables of every kind, for lists to be about.
func listing() *manifest.Manifest {
	table := func(name string, key ...manifest.KeyColumn) manifest.TableEntry {
		return manifest.TableEntry{Table: manifest.Table{Name: name, Key: key}}
	}
	part := func(name, part string) manifest.TableEntry {
		t := table(name, manifest.TimeseriesKey(part)...)
		t.Table.Timeseries.Part = part
		return t
	}
	return &manifest.Manifest{Snapshot: "20261122T160501Z-1f7a9c04", Tables: []manifest.TableEntry{
		table("blobs", manifest.KeyColumn{Name: "b", Type: manifest.Binary}),
		part("cpu", manifest.DataPart), part("cpu.meta", manifest.MetaPart),
		table("orders", manifest.KeyColumn{Name: "country", Type: manifest.String}, manifest.KeyColumn{Name: "id", Type: manifest.Integer}),
	}}
}

// suppressing reads a list for a snapshot.
func suppressing(t testing.TB, m *manifest.Manifest, list string) *snapshot.Suppression {
	t.Helper()
	s, err := snapshot.ReadSuppression(m, snapshot.List{Name: "erased.jsonl", From: strings.NewReader(list)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestListsAreRead(t *testing.T) {
	one := `{"table":"orders","key":["US",7]}` + "\r\n\n" + ` { "prefix" : ["DE"] , "table" : "orders" } ` + "\n"
	two := `{"table":"blobs","key":["hex:00ff"]}` + "\n" + `{"table":"gone","key":["whatever",true]}`
	s, err := snapshot.ReadSuppression(listing(), snapshot.List{Name: "one", From: strings.NewReader(one)}, snapshot.List{Name: "two", From: strings.NewReader(two)})
	if err != nil {
		t.Fatal(err)
	}
	want := []snapshot.ListSummary{{SHA256: manifest.Sum([]byte(one)), Entries: 2}, {SHA256: manifest.Sum([]byte(two)), Entries: 2}}
	slices.SortFunc(want, func(a, b snapshot.ListSummary) int { return bytes.Compare(a.SHA256[:], b.SHA256[:]) })
	if got := s.Lists(); !slices.Equal(got, want) {
		t.Errorf("lists %v, want %v", got, want)
	}
	if lists := (*snapshot.Suppression)(nil).Lists(); lists != nil {
		t.Errorf("no list is %v", lists)
	}
}

// TestListsThatAreWrong makes sure as well that no error repeats what is on a list.
func TestListsThatAreWrong(t *testing.T) {
	const good = `{"table":"orders","key":["US",7]}`
	for name, test := range map[string]struct{ list, want string }{
		"empty":                   {"", "has no entry"},
		"blank lines":             {"\n \n", "has no entry"},
		"no JSON":                 {"canary", "list:1: it is not one object of JSON, whole and alone on its line; want {"},
		"a comment":               {"# canary\n" + good, "list:1: it is not one object of JSON"},
		"a byte order mark":       {"\ufeff" + good, "list:1: it is not one object of JSON"},
		"CSV":                     {good + "\norders,canary,4711", "list:2: it is not one object of JSON"},
		"an array":                {`["orders","canary"]`, "list:1: it is not one object of JSON"},
		"one array of all":        {"[\n" + good + "\n]", "list:1: it is not one object of JSON"},
		"two on a line":           {good + good, "list:1: it is not one object of JSON, whole and alone"},
		"a comma at the end":      {good + ",", "list:1: it is not one object of JSON"},
		"cut short":               {good + "\n" + `{"table":"orders","key":["canary"`, "list:2: it is not one object of JSON"},
		"cut before its end":      {`{"table":"orders","key":["canary",4711]`, "list:1: it is not one object of JSON"},
		"over two lines":          {`{"table":"orders",` + "\n" + `"key":["canary",4711]}`, "list:1: it is not one object of JSON"},
		"no member":               {`{}`, "a member is missing"},
		"an unknown member":       {`{"table":"orders","key":["US",7],"canary":1}`, "list:1: it has a member other than table, key and prefix"},
		"a member in capitals":    {`{"Table":"orders","key":["canary",7]}`, "a member other than"},
		"a member by escapes":     {`{"t\u0061ble":"orders","key":["canary",7]}`, "a member other than"},
		"a table twice":           {`{"table":"orders","table":"canary","key":["US",7]}`, "table is there twice"},
		"a key twice":             {`{"table":"orders","key":["US",7],"key":["canary",7]}`, "key or prefix is there twice"},
		"key and prefix":          {`{"table":"orders","key":["US",7],"prefix":["canary"]}`, "or both are"},
		"no table":                {`{"key":["canary",4711]}`, "a member is missing"},
		"no key":                  {`{"table":"orders"}`, "a member is missing"},
		"no table's name":         {`{"table":"canary@example.com","key":[4711]}`, "its table is no name that a table can have"},
		"a number as table":       {`{"table":4711,"key":["canary"]}`, "its table is no name that a table can have"},
		"null as table":           {`{"table":null,"key":["canary"]}`, "its table is no name that a table can have"},
		"null as key":             {`{"table":"orders","key":null}`, "list:1: its key is no array"},
		"a string as key":         {`{"table":"orders","prefix":"canary"}`, "list:1: its prefix is no array"},
		"an object as key":        {`{"table":"orders","key":{"country":"canary"}}`, "its key is no array"},
		"a part of a key":         {good + "\n" + `{"table":"orders","key":["canary"]}`, "list:2: table orders: the key has 1 of the 2 values of (country STRING, id INTEGER); give all of them, or write prefix"},
		"too many values":         {`{"table":"orders","prefix":["canary",4711,1]}`, "it has more than the 2 values of (country STRING, id INTEGER)"},
		"a prefix of nothing":     {`{"table":"orders","prefix":[]}`, "the key is empty"},
		"text for a number":       {`{"table":"orders","key":["canary","4711"]}`, "column id is INTEGER: write it in digits, without quotes"},
		"a boolean for a number":  {`{"table":"orders","key":["canary",true]}`, "column id is INTEGER: write it in digits, without quotes"},
		"a number for text":       {`{"table":"orders","prefix":[4711]}`, "column country is STRING: write it in double quotes"},
		"null for text":           {`{"table":"orders","prefix":[null]}`, "column country is STRING: write it in double quotes"},
		"an array for text":       {`{"table":"orders","prefix":[["canary"]]}`, "column country is STRING: write it in double quotes"},
		"a fraction":              {`{"table":"orders","key":["canary",4711.0]}`, "without quotes, fraction and exponent"},
		"an exponent":             {`{"table":"orders","key":["canary",4711e0]}`, "without quotes, fraction and exponent"},
		"a zero below zero":       {`{"table":"orders","key":["canary",-0]}`, "without quotes, fraction and exponent"},
		"65 bits":                 {`{"table":"orders","key":["canary",9223372036854775808]}`, "it has 64 bits"},
		"text for bytes":          {`{"table":"blobs","key":["canary"]}`, `column b is BINARY: write it as "hex:00ff"`},
		"half a byte":             {`{"table":"blobs","key":["hex:47110"]}`, `column b is BINARY: write it as "hex:00ff"`},
		"no base64":               {`{"table":"blobs","key":[{"b64":"canary"}]}`, `column b is BINARY: write it as "hex:00ff"`},
		"another object":          {`{"table":"blobs","key":[{"canary":"AP8="}]}`, `column b is BINARY: write it as "hex:00ff"`},
		"an object of two":        {`{"table":"blobs","key":[{"b64":"AP8=","b64":"AP8="}]}`, `column b is BINARY: write it as "hex:00ff"`},
		"an empty object":         {`{"table":"blobs","key":[{}]}`, `column b is BINARY: write it as "hex:00ff"`},
		"half a character":        {`{"table":"orders","prefix":["canary\ud800"]}`, "half a pair of surrogates"},
		"halves in disorder":      {`{"table":"orders","prefix":["canary\udc00\ud800"]}`, "half a pair of surrogates"},
		"halves apart":            {`{"table":"orders","prefix":["canary\ud83d\\\ude00"]}`, "half a pair of surrogates"},
		"not UTF-8":               {"{\"table\":\"orders\",\"prefix\":[\"canary\xff\"]}", "not valid UTF-8"},
		"a time for a series":     {`{"table":"cpu.meta","key":["canary","","[]",4711]}`, "it has more than the 3 values"},
		"a point without a time":  {`{"table":"cpu","key":["canary","","[]"]}`, "the key has 3 of the 4 values"},
		"a line that is too long": {good + "\n" + `{"table":"orders","prefix":["` + strings.Repeat("canary", 20_000) + `"]}`, "list:2: the line has more than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := snapshot.ReadSuppression(listing(), snapshot.List{Name: "list", From: strings.NewReader(test.list)})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if !errors.Is(err, snapshot.ErrWish) && !errors.Is(err, manifest.ErrLimit) {
				t.Errorf("%v is neither ErrWish nor ErrLimit", err)
			}
			for _, secret := range []string{"canary", "4711"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error repeats what is on the list: %v", err)
				}
			}
		})
	}
}

func TestAListThatCannotBeReadIsNotOneThatIsWrong(t *testing.T) {
	broken := errors.New("broken")
	_, err := snapshot.ReadSuppression(listing(), snapshot.List{Name: "list", From: failingReader{broken}})
	if !errors.Is(err, broken) || errors.Is(err, snapshot.ErrWish) {
		t.Errorf("got %v", err)
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// FuzzReadSuppression makes sure that no list does more harm than being refused.
func FuzzReadSuppression(f *testing.F) {
	f.Add([]byte(`{"table":"orders","key":["US",7]}`))
	f.Add([]byte(`{"table":"blobs","prefix":[{"b64":"AP8="}]}` + "\n" + `{"prefix":["cpu"],"table":"cpu.meta"}`))
	f.Add([]byte(`{"table":"gone","key":{"a":[null]}}`))
	f.Add([]byte(`{"table":"orders","prefix":["\ud83d\ude00"]}`))
	f.Fuzz(func(t *testing.T, list []byte) {
		s, err := snapshot.ReadSuppression(listing(), snapshot.List{Name: "list", From: bytes.NewReader(list)})
		if err != nil {
			return
		}
		if lists := s.Lists(); len(lists) != 1 || lists[0].SHA256 != manifest.Sum(list) || lists[0].Entries < 1 {
			t.Errorf("%q is %+v", list, lists)
		}
	})
}

// BenchmarkReadSuppression reads a million entries.
func BenchmarkReadSuppression(b *testing.B) {
	var list bytes.Buffer
	for i := range 1_000_000 {
		fmt.Fprintf(&list, `{"table":"orders","key":["customer-%07d",%d]}`+"\n", i*7919%1_000_000, i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := snapshot.ReadSuppression(listing(), snapshot.List{Name: "list", From: bytes.NewReader(list.Bytes())}); err != nil {
			b.Fatal(err)
		}
	}
}

// erasing has an archive of the table "plain" of 600 rows in several chunks, of which
// people were erased since.
type erasing struct {
	*service
	archive *snapshot.Archive
	entry   snapshot.Entry
	chunks  []manifest.Chunk
}

func newErasing(t *testing.T) *erasing {
	t.Helper()
	e := &erasing{service: newService(t)}
	fillPlain(t, e.client("source"), "plain", 600)
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	e.archive, e.entry = a, export(t, e.service, a, key, "plain")
	for _, ref := range e.entry.Manifest.Tables[0].Pages {
		sealed := contents(t, store)[manifest.PageName(e.entry.Manifest.Snapshot, "plain", ref.Range)]
		page, err := manifest.OpenPage(sealed, a.Policy)
		if err != nil {
			t.Fatal(err)
		}
		e.chunks = append(e.chunks, page.Chunks...)
	}
	if len(e.chunks) < 3 {
		t.Fatalf("%d chunks, want several", len(e.chunks))
	}
	return e
}

// rowsOf returns the names of the rows from the one at an end of a chunk to the other.
func (e *erasing) rowsOf(chunk int) []string {
	layout := []manifest.KeyColumn{{Name: "k", Type: manifest.String}}
	var names []string
	for i := range 600 {
		name := fmt.Sprintf("row-%06d", i)
		key := row.AppendKey(nil, row.StringValue(name))
		if archive.Contains(manifest.Range{From: e.chunks[chunk].First, To: row.Following(e.chunks[chunk].Last)}, key) {
			names = append(names, name)
		}
	}
	if row.FormatKey(layout, e.chunks[chunk].First) != fmt.Sprintf("(%q)", names[0]) {
		panic("not the rows of the chunk")
	}
	return names
}

// instanceOf is the name of an instance for a case of a test: of 16 letters at most.
func instanceOf(name string) string {
	return "to-" + manifest.Sum([]byte(name)).String()[:12]
}

// list is one of those rows of the table.
func list(rows ...string) string {
	var b strings.Builder
	for _, name := range rows {
		fmt.Fprintf(&b, `{"table":"plain","key":[%q]}`+"\n", name)
	}
	return b.String()
}

// live returns the names of the rows a table has.
func live(t *testing.T, from snapshot.Source, table string) []string {
	t.Helper()
	layout := row.Layout{Key: []manifest.KeyColumn{{Name: "k", Type: manifest.String}}}
	var names []string
	encoder := row.NewEncoder(layout)
	for batch, err := range from.Scan(t.Context(), snapshot.Scan{Table: manifest.Table{Name: table, Key: layout.Key}, Layout: layout}) {
		if err == nil {
			err = encoder.Reset(batch.Record)
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(batch.Record.NumRows()) {
			var r row.Row
			if err := encoder.Read(&r, i); err != nil {
				t.Fatal(err)
			}
			names = append(names, string(r.Key[0].AppendText(nil)))
		}
	}
	return names
}

// TestErasedPeopleDoNotComeBack erases people, restores an older snapshot with a list
// of them, and looks whether they are there.
func TestErasedPeopleDoNotComeBack(t *testing.T) {
	e := newErasing(t)
	first, last := e.rowsOf(0), e.rowsOf(len(e.chunks)-1)
	middle := e.rowsOf(1)
	everybody := live(t, e.instance(t, "source"), "plain")
	for name, test := range map[string]struct {
		list string
		out  []string
	}{
		"the first row":            {list(first[0]), first[:1]},
		"the last row":             {list(last[len(last)-1]), last[len(last)-1:]},
		"both ends of a chunk":     {list(middle[0], middle[len(middle)-1]), []string{middle[0], middle[len(middle)-1]}},
		"a chunk row by row":       {list(middle...), middle},
		"every other row":          {list("row-000100", "row-000102", "row-000104"), []string{"row-000100", "row-000102", "row-000104"}},
		"whoever is listed twice":  {list("row-000100", "row-000100"), []string{"row-000100"}},
		"all rows":                 {list(everybody...), everybody},
		"who was never there":      {list("nobody", "row-0001000", "row-00010", "zzz"), nil},
		"somebody in another list": {`{"table":"other","key":["row-000100"]}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := restoring(t, e.service, e.archive, instanceOf(name))
			r.Suppress = suppressing(t, e.entry.Manifest, test.list)
			report, err := r.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			out := int64(len(test.out))
			got, s := report.Tables[0], report.Tables[0].Suppressed
			if s == nil || s.Signed != 600 || s.Rows != out || s.Live != 0 || got.Rows != 600-out || got.Decoded != got.Rows || got.Acknowledged != got.Rows || got.Counted != got.Rows {
				t.Errorf("counts do not close: %+v, %+v", got, s)
			}
			want := slices.DeleteFunc(slices.Clone(everybody), func(name string) bool { return slices.Contains(test.out, name) })
			if said := fmt.Sprintf("must not come back: %d; rows on lists found in the live tables: 0", out); !strings.Contains(strings.Join(report.Coverage, "\n"), said) {
				t.Errorf("coverage %q", report.Coverage)
			}
			if there := live(t, r.Check, "plain"); !slices.Equal(there, want) {
				t.Errorf("%d rows are there, want %d", len(there), len(want))
			}
			compare := snapshot.Compare{Archive: e.archive, With: r.Check}
			if _, err := compare.Run(t.Context()); errors.Is(err, snapshot.ErrDiffers) != (out > 0) {
				t.Errorf("without the list: %v", err)
			}
			compare.Suppress = r.Suppress
			found, err := compare.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if x := found.Tables[0]; x.Rows != 600-out || x.Suppressed.Rows != out || x.Suppressed.Signed != 600 || x.Counted != x.Rows {
				t.Errorf("compared %+v, %+v", x, x.Suppressed)
			}
		})
	}
}

// TestAChunkOfErasedPeopleNeedNotBeThere leaves out the rows of a chunk that was lost.
func TestAChunkOfErasedPeopleNeedNotBeThere(t *testing.T) {
	s := newService(t)
	c := s.client("source")
	createTable(t, c, "people", 1, "who:STRING", "n:INTEGER")
	for _, who := range []string{"ann", "bob", "cay"} {
		for i := range int64(60) {
			putRow(t, c, "people", map[string]any{"who": who, "n": i}, []string{"who", "n"}, cell{name: "text", value: strings.Repeat(who, 400)})
		}
	}
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	e := export(t, s, a, key, "people")
	bob := row.AppendKey(nil, row.StringValue("bob"))
	objects, lost := contents(t, store), 0
	for _, ref := range e.Manifest.Tables[0].Pages {
		page, err := manifest.OpenPage(objects[manifest.PageName(e.Manifest.Snapshot, "people", ref.Range)], a.Policy)
		if err != nil {
			t.Fatal(err)
		}
		for _, chunk := range page.Chunks {
			if bytes.HasPrefix(chunk.First, bob) && bytes.HasPrefix(chunk.Last, bob) {
				delete(objects, manifest.ChunkObject(e.Manifest.Snapshot, "people", chunk).Name)
				lost++
			}
		}
	}
	if lost == 0 {
		t.Fatal("no chunk is of one person alone")
	}
	r := restoring(t, s, open(t, storeWith(t, objects), a.Trust), "target")
	if _, err := r.Run(t.Context()); !errors.Is(err, snapshot.ErrMissing) {
		t.Fatalf("without a list: %v, want ErrMissing", err)
	}
	r.Suppress = suppressing(t, e.Manifest, `{"table":"people","prefix":["bob"]}`)
	report, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if x := report.Tables[0]; x.Rows != 120 || x.Counted != 120 || x.Suppressed.Rows != 60 || x.Suppressed.Signed != 180 {
		t.Errorf("report %+v, %+v", x, x.Suppressed)
	}

	// What stands where the lost chunk was is looked for all the same.
	putRow(t, s.client("target"), "people", map[string]any{"who": "bob", "n": int64(7)}, []string{"who", "n"}, cell{name: "text", value: "back"})
	_, err = snapshot.Compare{Archive: r.From, With: r.Check, Suppress: r.Suppress}.Run(t.Context())
	if !errors.Is(err, snapshot.ErrDiffers) || !strings.Contains(err.Error(), "1 rows on the lists") {
		t.Errorf("somebody who came back: %v", err)
	}
}

// TestErasedPeopleInTheTarget restores in every mode into a table where two of the
// erased are.
func TestErasedPeopleInTheTarget(t *testing.T) {
	const back, changed = "row-000100", "row-000101"
	for _, test := range []struct {
		mode        snapshot.RestoreMode
		deleteExtra bool
		note        string
		live        int64
		removed     int64
	}{
		{snapshot.Insert, false, "2 rows on the lists of rows that must not come back are in it, and are left there", 2, 0},
		{snapshot.Overwrite, false, "2 rows on the lists of rows that must not come back are in it, and are left there", 2, 0},
		{snapshot.Repair, false, "2 rows on the lists of rows that must not come back are in it, and are left there", 2, 0},
		{snapshot.Repair, true, "2 of the rows removed are on the lists", 0, 2},
	} {
		name := string(test.mode)
		if test.deleteExtra {
			name += " deleting"
		}
		t.Run(name, func(t *testing.T) {
			s, a := altered(t) // row 10 is missing, row 20 is changed, one is extra
			entry, err := a.Find(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			putRow(t, s.client("target"), "plain", map[string]any{"k": changed}, []string{"k"}, cell{name: "n", value: int64(-9)})
			r := restoring(t, s, a, "target")
			r.Mode, r.DeleteExtra = test.mode, test.deleteExtra
			r.Suppress = suppressing(t, entry.Manifest, list(back, changed, "row-000010"))
			report, err := r.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			x := report.Tables[0]
			if l := x.Suppressed; l.Signed != 600 || l.Rows != 3 || l.Live != test.live || l.Deleted != test.removed || x.Rows != 597 {
				t.Errorf("report %+v, %+v", x, l)
			}
			if !slices.ContainsFunc(report.Notes, func(n string) bool { return strings.Contains(n, test.note) }) {
				t.Errorf("notes %q, want %q", report.Notes, test.note)
			}
			there := live(t, r.Check, "plain")
			if slices.Contains(there, "row-000010") {
				t.Error("somebody who was not there has come back")
			}
			if n := slices.Contains(there, back); n != (test.live > 0) {
				t.Errorf("who was there is there now: %t", n)
			}
			found, err := snapshot.Compare{Archive: a, With: r.Check, Suppress: r.Suppress}.Run(t.Context())
			if (test.live > 0) != errors.Is(err, snapshot.ErrDiffers) && test.mode != snapshot.Insert {
				t.Errorf("compared: %v", err)
			}
			if l := found.Tables[0].Suppressed; l.Live != test.live {
				t.Errorf("%d erased people are in the table, want %d", l.Live, test.live)
			}
		})
	}
}

// TestSomebodyWhoComesBackWhileRestoringIsADifference has another writer put an erased
// row into a new table before it is compared.
func TestSomebodyWhoComesBackWhileRestoringIsADifference(t *testing.T) {
	e := newErasing(t)
	r := restoring(t, e.service, e.archive, "target")
	r.Suppress = suppressing(t, e.entry.Manifest, list("row-000100"))
	r.Progress = onStage("compare", func() {
		putRow(t, e.client("target"), "plain", map[string]any{"k": "row-000100"}, []string{"k"}, cell{name: "n", value: int64(100)})
	})
	report, err := r.Run(t.Context())
	if !errors.Is(err, snapshot.ErrDiffers) || !strings.Contains(err.Error(), "1 rows on the lists of rows that must not come back are in it") {
		t.Fatalf("got %v", err)
	}
	if x := report.Tables[0]; x.Extra != 1 || x.Suppressed.Live != 1 || len(x.Differences) != 0 {
		t.Errorf("report %+v, %+v", x, x.Suppressed)
	}
}

func TestListsGoWithOtherChoices(t *testing.T) {
	e := newErasing(t)
	where, err := row.ParseFilter("n >= 100 and n < 110")
	if err != nil {
		t.Fatal(err)
	}
	key := func(name string) manifest.Key { return row.AppendKey(nil, row.StringValue(name)) }
	erased := suppressing(t, e.entry.Manifest, list("row-000100", "row-000105", "row-000300"))
	for name, test := range map[string]struct {
		rows          archive.Selection
		restored, out int64
		wrong         string
	}{
		"where":       {rows: archive.Selection{Where: where}, restored: 8, out: 2},
		"keys":        {rows: archive.Selection{Within: manifest.Range{From: key("row-000100"), To: key("row-000104")}}, restored: 3, out: 1},
		"columns":     {rows: archive.Selection{Columns: []string{"n"}}, restored: 597, out: 3},
		"nobody else": {rows: archive.Selection{Within: manifest.Range{From: key("row-000100"), To: key("row-000101")}}, wrong: "the lists leave out all 1 rows that were chosen"},
		"by itself":   {rows: archive.Selection{Without: archive.NewKeySet([]manifest.Key{key("row-000100")})}, wrong: "by Suppress alone"},
	} {
		t.Run(name, func(t *testing.T) {
			r := restoring(t, e.service, e.archive, instanceOf(name))
			r.Rows, r.Suppress = test.rows, erased
			report, err := r.Run(t.Context())
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("got %v, want %q", err, test.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if x, s := report.Tables[0], report.Tables[0].Suppressed; x.Rows != test.restored || x.Counted != test.restored || s.Rows != test.out || s.Signed != test.restored+test.out {
				t.Errorf("report %+v, %+v", x, s)
			}
		})
	}
}

// TestAPlanCoversItsLists plans, and resumes, with other lists.
func TestAPlanCoversItsLists(t *testing.T) {
	e := newErasing(t)
	r := restoring(t, e.service, e.archive, "target")
	bare, err := r.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(bare.Encode(), []byte("suppress")) {
		t.Error("a plan without a list speaks of lists")
	}
	text := list("row-000100", "row-000101")
	r.Suppress = suppressing(t, e.entry.Manifest, text)
	plan, err := r.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if plan.Tables[0].Suppress != 2 || !slices.Equal(plan.Suppress, []snapshot.ListSummary{{SHA256: manifest.Sum([]byte(text)), Entries: 2}}) || plan.SHA256() == bare.SHA256() {
		t.Errorf("plan %s", plan.Encode())
	}
	other := r
	other.Suppress = suppressing(t, e.entry.Manifest, list("row-000100", "row-000102"))
	other.PlanDigest = plan.SHA256()
	if _, err := other.Run(t.Context()); !errors.Is(err, snapshot.ErrPlan) {
		t.Errorf("the plan with another list: %v", err)
	}
	run, path := journaled(t, r, "plain")
	refused := errors.New("refused")
	interrupted := r
	interrupted.To = sinkWith{Sink: r.To, finish: func() error { return refused }}
	if err := run(interrupted); !errors.Is(err, refused) {
		t.Fatalf("got %v, want the refusal", err)
	}
	other.PlanDigest = manifest.Hash{}
	for name, s := range map[string]*snapshot.Suppression{"another list": other.Suppress, "no list": nil} {
		other.Suppress = s
		if err := run(other); !errors.Is(err, snapshot.ErrPlan) {
			t.Errorf("resumed with %s: %v", name, err)
		}
	}
	if journal, err := os.ReadFile(path); err != nil || bytes.Contains(journal, []byte("row-000100")) {
		t.Errorf("the journal names who is on the list, or cannot be read: %v", err)
	}
	if err := run(r); err != nil {
		t.Errorf("resumed with the same list: %v", err)
	}

}

// TestAListIsOfOneSnapshot refuses a list that was read for the tables of another.
func TestAListIsOfOneSnapshot(t *testing.T) {
	e := newErasing(t)
	r := restoring(t, e.service, e.archive, "target")
	r.Suppress = suppressing(t, listing(), list("row-000100"))
	if _, err := r.Run(t.Context()); !errors.Is(err, snapshot.ErrWish) {
		t.Errorf("restore: %v", err)
	}
	if _, err := (snapshot.Compare{Archive: e.archive, With: r.Check, Suppress: r.Suppress}).Run(t.Context()); !errors.Is(err, snapshot.ErrWish) {
		t.Errorf("compare: %v", err)
	}
}

// TestErasedSeriesDoNotComeBack leaves out series of a timeseries table, named in
// either of its parts, and single points.
func TestErasedSeriesDoNotComeBack(t *testing.T) {
	s, other := newService(t), newService(t)
	fillSeries(t, s, 1000)
	a, key := newArchive(t, new(archivetest.Memory))
	e := export(t, s, a, key, "cpu", "cpu.meta")
	series := int64(len(oddSeries()))
	points := func(n int64) int64 { return 1000/series + min(1, max(0, 1000%series-n)) } // of series n
	one := func(part string) row.Row {
		t.Helper()
		table, err := snapshot.FindTable(e, part)
		if err != nil {
			t.Fatal(err)
		}
		for r, err := range (snapshot.Read{Archive: a, Entry: e, Table: table}).Rows(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Key[1].AppendText(nil)) == "host 03" {
				return row.Row{Key: slices.Clone(r.Key)}
			}
		}
		t.Fatal("no such series")
		return row.Row{}
	}
	text := func(r row.Row) string {
		line := "["
		for i, v := range r.Key {
			line += map[bool]string{true: ",", false: ""}[i > 0] + string(v.AppendJSON(nil))
		}
		return line + "]"
	}
	for name, test := range map[string]struct {
		list         string
		data, series int64 // that are left out
	}{
		"by points":   {`{"table":"cpu","prefix":["cpu","host 03"]}`, points(3), 1},
		"by series":   {`{"table":"cpu.meta","key":` + text(one("cpu.meta")) + `}`, points(3), 1},
		"one point":   {`{"table":"cpu","key":` + text(one("cpu")) + `}`, 1, 0},
		"all of them": {`{"table":"cpu","prefix":["cpu"]}`, 1000, series},
	} {
		t.Run(name, func(t *testing.T) {
			r := restoring(t, other, a, instanceOf(name))
			r.Suppress = suppressing(t, e.Manifest, test.list)
			report, err := r.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			left := map[string]int64{}
			for _, x := range report.Tables {
				left[x.Name] = x.Suppressed.Rows
				if x.Suppressed.Signed != x.Suppressed.Rows+x.Rows || x.Counted != x.Rows {
					t.Errorf("%s: %+v, %+v", x.Name, x, x.Suppressed)
				}
			}
			if left["cpu"] != test.data || left["cpu.meta"] != test.series {
				t.Errorf("left out %v, want %d points and %d series", left, test.data, test.series)
			}
		})
	}
}

// TestErasedPeopleGetNoNewKeys leaves out rows of a table whose keys the service
// completes, by old keys and by what stands before them.
func TestErasedPeopleGetNoNewKeys(t *testing.T) {
	r, to, e, _ := generating(t, "second", 3, 100)
	var old manifest.Key
	for row, err := range (snapshot.Read{Archive: r.From, Entry: e, Table: e.Manifest.Tables[0]}).Rows(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		old = keyOf(*row)
		break
	}
	columns := e.Manifest.Tables[0].Table.Key
	one := strings.NewReplacer("(", "[", ")", "]").Replace(row.FormatKey(columns, old))
	r.Suppress = suppressing(t, e.Manifest, `{"table":"second","prefix":["group 1"]}`+"\n"+`{"table":"second","prefix":`+one+`}`)
	told := new(keyMap)
	r.KeyMap = told.add
	restore := func() *snapshot.Report {
		t.Helper()
		report, err := r.Run(t.Context())
		if err != nil && !errors.Is(err, snapshot.ErrDiffers) {
			t.Fatal(err)
		}
		return report
	}
	x := restore().Tables[0]
	if s := x.Suppressed; s.Rows != 101 || s.Signed != 300 || s.Live != 0 || x.Rows != 199 || x.Counted != 199 || len(told.was) != 199 || len(to.keys) != 199 {
		t.Errorf("%+v, %+v; %d keys told of", x, s, len(told.was))
	}
	if slices.ContainsFunc(told.was, func(k manifest.Key) bool { return bytes.Equal(k, old) }) {
		t.Error("a new key is told of for a row that is not there")
	}

	// Somebody else writes a row of the erased, and one beside a single one of them.
	all, full := &memoryInstance{}, r
	full.To, full.Check, full.Suppress, full.KeyMap = all, all, nil, nil
	if _, err := full.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	*to = memoryInstance{}
	r.Progress = onStage("compare", func() {
		to.set(all.keys[150], all.rows[all.keys[150]]) // of group 1, between 100 of each of the others
		to.copyAs(t, 0, row.AppendKey(row.AppendKey(nil, row.StringValue("group 0")), row.IntegerValue(1<<40)))
	})
	report := restore()
	x = report.Tables[0]
	if x.Extra != 2 || x.Suppressed.Live != 1 || len(x.Differences) != 0 {
		t.Errorf("%+v, %+v", x, x.Suppressed)
	}
}

// TestNoListIsWrittenAnywhere looks for what is on a list in all that a restore tells.
func TestNoListIsWrittenAnywhere(t *testing.T) {
	e := newErasing(t)
	r := restoring(t, e.service, e.archive, "target")
	const canary = "row-000123"
	r.Suppress = suppressing(t, e.entry.Manifest, list(canary))
	var told bytes.Buffer
	put := onStage("compare", func() {
		putRow(t, e.client("target"), "plain", map[string]any{"k": canary}, []string{"k"}, cell{name: "n", value: int64(1)})
	})
	r.Progress = func(event snapshot.Event) {
		fmt.Fprintln(&told, event)
		put(event)
	}
	plan, err := r.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	told.Write(plan.Encode())
	report, err := r.Run(t.Context())
	fmt.Fprintln(&told, err)
	text, encodeErr := json.Marshal(report)
	if encodeErr != nil {
		t.Fatal(encodeErr)
	}
	told.Write(text)
	report, err = snapshot.Compare{Archive: e.archive, With: r.Check, Suppress: r.Suppress}.Run(t.Context())
	fmt.Fprintln(&told, err)
	if text, encodeErr = json.Marshal(report); encodeErr != nil {
		t.Fatal(encodeErr)
	}
	told.Write(text)
	if !strings.Contains(told.String(), `"live":1`) {
		t.Error("who has come back was not found")
	}
	if key := row.AppendKey(nil, row.StringValue(canary)); strings.Contains(told.String(), canary) || strings.Contains(told.String(), manifest.Key(key).String()) {
		t.Errorf("somebody on the list is named: %s", &told)
	}
}
