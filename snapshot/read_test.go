package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// watched notes which objects are read.
type watched struct {
	archive.Store
	mu    sync.Mutex
	names []string
}

func (w *watched) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	w.mu.Lock()
	w.names = append(w.names, name)
	w.mu.Unlock()
	return w.Store.Get(ctx, name)
}

// reset returns how many objects of the snapshots were read since the last call.
func (w *watched) reset() (pages, chunks int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.names {
		switch {
		case strings.HasSuffix(name, ".parquet"):
			chunks++
		case strings.HasPrefix(name, "snapshots/"):
			pages++
		}
	}
	w.names = nil
	return pages, chunks
}

// exported makes an archive with one snapshot of the tables fill makes.
func exported(t testing.TB, s *service, tables ...string) (*snapshot.Archive, *watched, snapshot.Entry) {
	t.Helper()
	store := &watched{Store: new(archivetest.Memory)}
	a, key := newArchive(t, store)
	if _, err := exporting(t, s, a, key, tables...).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	entry, err := a.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	store.reset()
	return a, store, entry
}

func tableOf(t testing.TB, e snapshot.Entry, name string) manifest.TableEntry {
	t.Helper()
	table, err := snapshot.FindTable(e, name)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// text writes a row in a way the SDK's rows can be written too.
func text(r *row.Row) string {
	var b strings.Builder
	for _, v := range r.Key {
		fmt.Fprintf(&b, "%s,", v.AppendJSON(nil))
	}
	for _, c := range r.Cells {
		fmt.Fprintf(&b, " %q@%d=%s", c.Name, c.Version, c.Value.AppendJSON(nil))
	}
	return b.String()
}

func textOf(r *sdk.Row) string {
	var x row.Row
	value := func(v any) row.Value {
		switch v := v.(type) {
		case int64:
			return row.IntegerValue(v)
		case string:
			return row.StringValue(v)
		case []byte:
			return row.BinaryValue(v)
		}
		panic(fmt.Sprintf("%T", v))
	}
	for _, k := range r.PrimaryKey.PrimaryKeys {
		x.Key = append(x.Key, value(k.Value))
	}
	var b strings.Builder
	b.WriteString(text(&x))
	for _, c := range r.Columns {
		var of []byte
		switch v := c.Value.(type) {
		case float64:
			of = fmt.Appendf(nil, "%v", v)
			if !strings.ContainsAny(string(of), ".e") {
				of = append(of, ".0"...)
			}
		case bool:
			of = fmt.Append(nil, v)
		default:
			of = value(v).AppendJSON(nil)
		}
		fmt.Fprintf(&b, " %q@%d=%s", c.ColumnName, c.Timestamp, of)
	}
	return b.String()
}

// scan reads a table with the SDK, from the first key to the last.
func scan(t testing.TB, c *sdk.TableStoreClient, table string, key ...string) []string {
	t.Helper()
	q := &sdk.RangeRowQueryCriteria{TableName: table, MaxVersion: 1000, Direction: sdk.FORWARD,
		StartPrimaryKey: new(sdk.PrimaryKey), EndPrimaryKey: new(sdk.PrimaryKey)}
	for _, name := range key {
		q.StartPrimaryKey.AddPrimaryKeyColumnWithMinValue(name)
		q.EndPrimaryKey.AddPrimaryKeyColumnWithMaxValue(name)
	}
	var rows []string
	for q.StartPrimaryKey != nil {
		page, err := c.GetRange(&sdk.GetRangeRequest{RangeRowQueryCriteria: q})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Rows {
			rows = append(rows, textOf(r))
		}
		q.StartPrimaryKey = page.NextStartPrimaryKey
	}
	return rows
}

func readAll(t testing.TB, r snapshot.Read) []string {
	t.Helper()
	var rows []string
	for r, err := range r.Rows(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, text(r))
	}
	return rows
}

func TestReadGivesWhatTheServiceGave(t *testing.T) {
	s := newService(t)
	fillRagged(t, s.client("source"))
	fillPlain(t, s.client("source"), "plain", 4000)
	a, _, entry := exported(t, s, "ragged", "plain")
	for table, key := range map[string][]string{"ragged": {"id", "raw"}, "plain": {"k"}} {
		want := scan(t, s.client("source"), table, key...)
		for _, workers := range []int{1, 3} {
			got := readAll(t, snapshot.Read{Archive: a, Entry: entry, Table: tableOf(t, entry, table), Workers: workers})
			if !slices.Equal(got, want) {
				t.Errorf("table %s, %d workers: %d rows, not the %d the service has", table, workers, len(got), len(want))
			}
		}
	}
}

func TestReadFetchesOnlyWhatCanMatch(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 6000)
	a, store, entry := exported(t, s, "plain")
	table := tableOf(t, entry, "plain")
	if len(table.Pages) < 3 || table.Totals.Chunks < 6 {
		t.Fatalf("%d pages and %d chunks are too few to show anything", len(table.Pages), table.Totals.Chunks)
	}
	read := func(within manifest.Range) (rows, pages, chunks int) {
		rows = len(readAll(t, snapshot.Read{Archive: a, Entry: entry, Table: table, Within: within}))
		pages, chunks = store.reset()
		return rows, pages, chunks
	}
	for _, i := range []int{0, 1, 2999, 3000, 5999} {
		key := row.AppendKey(nil, row.StringValue(fmt.Sprintf("row-%06d", i)))
		if rows, pages, chunks := read(manifest.Range{From: key, To: row.Following(key)}); rows != 1 || pages != 1 || chunks != 1 {
			t.Errorf("row %d: %d rows out of %d pages and %d chunks", i, rows, pages, chunks)
		}
	}
	none := row.AppendKey(nil, row.StringValue("s"))
	if rows, pages, chunks := read(manifest.Range{From: none, To: row.Following(none)}); rows != 0 || pages != 1 || chunks != 0 {
		t.Errorf("no row: %d rows out of %d pages and %d chunks", rows, pages, chunks)
	}
	start, err := row.ParseKeyPrefix(table.Table.Key, "row-0001*")
	if err != nil {
		t.Fatal(err)
	}
	if rows, _, chunks := read(manifest.Range{From: start, To: row.Following(start)}); rows != 100 || chunks > 2 {
		t.Errorf("row-0001*: %d rows out of %d chunks", rows, chunks)
	}
	for text, want := range map[string]int{"k = 'row-003000'": 1, "k prefix 'row-0030' and k > 'row-003097'": 2, "k < 'row'": 0, "k in ('row-003001', 'row-003000') and not exists k": 0} {
		where, err := row.ParseFilter(text)
		if err != nil {
			t.Fatal(err)
		}
		rows := len(readAll(t, snapshot.Read{Archive: a, Entry: entry, Table: table, Where: where}))
		if pages, chunks := store.reset(); rows != want || pages > 1 || chunks > 2 || rows == 1 && chunks != 1 {
			t.Errorf("where %s: %d rows out of %d pages and %d chunks, want %d", text, rows, pages, chunks, want)
		}
	}
	rows, pages, chunks := read(manifest.Range{})
	if rows != 6000 || pages != len(table.Pages) || int64(chunks) != table.Totals.Chunks {
		t.Errorf("all rows: %d out of %d pages and %d chunks", rows, pages, chunks)
	}
}

// TestReadOfSomeCells leaves cells out, never rows.
func TestReadOfSomeCells(t *testing.T) {
	s := newService(t)
	fillRagged(t, s.client("source"))
	a, _, entry := exported(t, s, "ragged")
	table := tableOf(t, entry, "ragged")
	all := snapshot.Read{Archive: a, Entry: entry, Table: table}
	var want []string
	for r, err := range all.Rows(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		r.Cells = slices.DeleteFunc(r.Cells, func(c row.Cell) bool { return !strings.HasPrefix(c.Name, "T") && c.Name != "title" })
		want = append(want, text(r))
	}
	all.Columns = []string{"T*", "title"}
	if got := readAll(t, all); !slices.Equal(got, want) {
		t.Errorf("rows are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	all.Columns = []string{"[a"}
	for _, err := range all.Rows(t.Context()) {
		if err == nil || !strings.Contains(err.Error(), "is no pattern of names") {
			t.Errorf("a pattern that is none: %v", err)
		}
	}
}

func TestReadStopsWithItsReader(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 6000)
	a, store, entry := exported(t, s, "plain")
	for _, err := range (snapshot.Read{Archive: a, Entry: entry, Table: tableOf(t, entry, "plain"), Workers: 1}).Rows(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if _, chunks := store.reset(); chunks > 2 { // the next one may be on its way
		t.Errorf("one row took %d chunks", chunks)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var last error
	for _, last = range (snapshot.Read{Archive: a, Entry: entry, Table: tableOf(t, entry, "plain")}).Rows(ctx) {
		cancel()
	}
	cancel()
	if !errors.Is(last, context.Canceled) {
		t.Errorf("a read that is called off ends with %v", last)
	}
}

// TestReadSaysWhatIsWrong reads every row of archives in which one object is not
// what was signed.
func TestReadSaysWhatIsWrong(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 6000)
	a, store, entry := exported(t, s, "plain")
	table := tableOf(t, entry, "plain")
	objects := contents(t, store)
	last := func(suffix string) string {
		var found string
		for name := range objects {
			if strings.HasPrefix(name, "snapshots/") && strings.HasSuffix(name, suffix) && !strings.Contains(name, "/plan.") {
				found = max(found, name)
			}
		}
		return found
	}
	for _, suffix := range []string{".parquet", ".dsse.json"} {
		name := last(suffix)
		for want, change := range map[error]func(map[string][]byte){
			archive.ErrCorrupt:  func(o map[string][]byte) { o[name] = append(slices.Clone(o[name]), 0) },
			snapshot.ErrMissing: func(o map[string][]byte) { delete(o, name) },
		} {
			changed := map[string][]byte{}
			for n, data := range objects {
				changed[n] = data
			}
			change(changed)
			other := &snapshot.Archive{Store: storeWith(t, changed), Policy: a.Policy, Trust: a.Trust}
			var got error
			for _, got = range (snapshot.Read{Archive: other, Entry: entry, Table: table}).Rows(t.Context()) {
			}
			if !errors.Is(got, want) || !strings.Contains(got.Error(), name) {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
	}
}

func TestNoSuchTable(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 10)
	_, _, entry := exported(t, s, "plain")
	if _, err := snapshot.FindTable(entry, "plein"); !errors.Is(err, snapshot.ErrNoTable) || !strings.Contains(err.Error(), "there are plain") {
		t.Errorf("got %v", err)
	}
}
