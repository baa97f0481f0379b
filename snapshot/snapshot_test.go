package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// export makes a snapshot of tables of the instance called source, in chunks
// small enough to be many.
func export(t testing.TB, s *service, to *snapshot.Archive, key manifest.Signer, tables ...string) snapshot.Entry {
	t.Helper()
	e, err := exporting(t, s, to, key, tables...).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(e) != 1 || len(e[0].Warnings) > 0 {
		t.Errorf("exported %d snapshots with warnings: %+v", len(e), e)
	}
	return e[0].Entry
}

// first is what an export to one archive returns.
func first(e []snapshot.Exported, err error) (snapshot.Entry, error) {
	if err != nil {
		return snapshot.Entry{}, err
	}
	return e[0].Entry, nil
}

func exporting(t testing.TB, s *service, to *snapshot.Archive, key manifest.Signer, tables ...string) snapshot.Export {
	return snapshot.Export{
		From: s.instance(t, "source"), To: []*snapshot.Archive{to}, Signers: []manifest.Signer{key}, Tables: tables,
		ChunkBytes: 32 << 10, SplitBytes: 128 << 10, Tool: "otsnap test", Build: "go test",
	}
}

func restoring(t testing.TB, s *service, from *snapshot.Archive, name string) snapshot.Restore {
	in := s.instance(t, name)
	return snapshot.Restore{From: from, To: in, Check: in}
}

func TestARestoredTableHasEveryCellThatWasExported(t *testing.T) {
	s := newService(t)
	fillRagged(t, s.client("source"))
	fillPlain(t, s.client("source"), "plain", 3000)
	createTable(t, s.client("source"), "empty", 1, "k:STRING")
	a, key := newArchive(t, new(archivetest.Memory))
	e := export(t, s, a, key, "ragged", "plain", "empty")
	if e.Manifest.Seq != 1 || len(e.Manifest.Tables) != 3 {
		t.Fatalf("manifest %d holds %d tables, want manifest 1 with 3", e.Manifest.Seq, len(e.Manifest.Tables))
	}
	if got := e.Manifest.Totals.Rows; got != 3057 {
		t.Errorf("%d rows in the manifest, want 3057", got)
	}
	if got := e.Manifest.Totals.Chunks; got < 10 {
		t.Errorf("%d chunks, want many", got)
	}
	report, err := snapshot.Verify{Archive: a, Level: snapshot.Rows}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Notes) != 0 {
		t.Errorf("notes: %q", report.Notes)
	}
	report, err = restoring(t, s, a, "target").Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range report.Tables {
		if table.Rows != table.Counted || table.Decoded != table.Acknowledged || table.Rows != table.Decoded {
			t.Errorf("counts do not close: %+v", table)
		}
	}
	if _, err := (snapshot.Compare{Archive: a, With: s.instance(t, "target")}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The snapshot of the copy has the rows of the first, chunk for chunk.
	b, keyB := newArchive(t, new(archivetest.Memory))
	again := exporting(t, s, b, keyB, "ragged", "plain", "empty")
	again.From = s.instance(t, "target")
	second, err := first(again.Run(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for i, table := range second.Manifest.Tables {
		if table.Totals != e.Manifest.Tables[i].Totals && table.Totals.Rows != e.Manifest.Tables[i].Totals.Rows {
			t.Errorf("table %s: totals %+v, of the first %+v", table.Table.Name, table.Totals, e.Manifest.Tables[i].Totals)
		}
		if table.Table.Options != e.Manifest.Tables[i].Table.Options {
			t.Errorf("table %s: options %+v, of the first %+v", table.Table.Name, table.Table.Options, e.Manifest.Tables[i].Table.Options)
		}
	}
}

func TestTheSameRowsUnderTheSamePlanGiveTheSameChunks(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 1000)
	a, key := newArchive(t, new(archivetest.Memory))
	first := export(t, s, a, key, "plain")
	second := export(t, s, a, key, "plain")
	if first.Manifest.Tables[0].Totals != second.Manifest.Tables[0].Totals {
		t.Errorf("totals %+v and %+v", first.Manifest.Tables[0].Totals, second.Manifest.Tables[0].Totals)
	}
	objects := contents(t, a.Store)
	for name, data := range objects {
		rest, ok := strings.CutPrefix(name, "snapshots/"+first.Manifest.Snapshot+"/")
		if !ok || !strings.HasSuffix(name, ".parquet") {
			continue
		}
		other := objects["snapshots/"+second.Manifest.Snapshot+"/"+rest]
		// The footer names the snapshot; the pages before it are the same.
		same := bytes.ReplaceAll(other, []byte(second.Manifest.Snapshot), []byte(first.Manifest.Snapshot))
		if !bytes.Equal(data, same) {
			t.Errorf("chunk %s differs between two exports of the same rows", rest)
		}
	}
}

func TestCompareNamesEveryDifference(t *testing.T) {
	s := newService(t)
	c := s.client("source")
	fillPlain(t, c, "plain", 1000)
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "plain")
	order := []string{"k"}
	putRow(t, c, "plain", map[string]any{"k": "row-000500x"}, order, cell{name: "n", value: int64(1)})
	putRow(t, c, "plain", map[string]any{"k": "a first row"}, order)
	putRow(t, c, "plain", map[string]any{"k": "z last row"}, order)
	deleteRow(t, c, "plain", "k", "row-000700")
	update := &sdk.UpdateRowChange{TableName: "plain", PrimaryKey: &sdk.PrimaryKey{}}
	update.PrimaryKey.AddPrimaryKeyColumn("k", "row-000100")
	update.PutColumn("n", int64(-100))
	update.SetCondition(sdk.RowExistenceExpectation_IGNORE)
	if _, err := c.UpdateRow(&sdk.UpdateRowRequest{UpdateRowChange: update}); err != nil {
		t.Fatal(err)
	}
	report, err := snapshot.Compare{Archive: a, With: s.instance(t, "source")}.Run(t.Context())
	if !errors.Is(err, snapshot.ErrDiffers) {
		t.Fatalf("got %v, want ErrDiffers", err)
	}
	got := report.Tables[0]
	if got.Extra != 3 || got.Missing != 1 || got.Changed != 1 {
		t.Errorf("%d extra, %d missing, %d changed; want 3, 1, 1", got.Extra, got.Missing, got.Changed)
	}
	if got.Counted != 1002 {
		t.Errorf("counted %d rows, want 1002", got.Counted)
	}
	var all []string
	for _, d := range got.Differences {
		all = append(all, d.String())
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{`"row-000500x"): row is extra`, `"a first row"): row is extra`, `"z last row"): row is extra`, `"row-000700"): row is missing`, "signed 100", "-100"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q among the differences:\n%s", want, text)
		}
	}
}

func deleteRow(t testing.TB, c *sdk.TableStoreClient, table, column string, value any) {
	t.Helper()
	change := &sdk.DeleteRowChange{TableName: table, PrimaryKey: &sdk.PrimaryKey{}}
	change.PrimaryKey.AddPrimaryKeyColumn(column, value)
	change.SetCondition(sdk.RowExistenceExpectation_IGNORE)
	if _, err := c.DeleteRow(&sdk.DeleteRowRequest{DeleteRowChange: change}); err != nil {
		t.Fatal(err)
	}
}

func TestATableThatIsGoneDiffers(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 10)
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "plain")
	_, err := snapshot.Compare{Archive: a, With: s.instance(t, "elsewhere")}.Run(t.Context())
	if !errors.Is(err, snapshot.ErrDiffers) {
		t.Errorf("got %v, want ErrDiffers", err)
	}
}

func TestRestoreLeavesATableThatExistsAlone(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 100)
	fillRagged(t, s.client("source"))
	createTable(t, s.client("target"), "plain", 1, "k:STRING")
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "plain", "ragged")
	_, err := restoring(t, s, a, "target").Run(t.Context())
	if !errors.Is(err, fs.ErrExist) {
		t.Fatalf("got %v, want fs.ErrExist", err)
	}
	names, err := s.instance(t, "target").Tables(t.Context())
	if err != nil || !slices.Equal(names, []string{"plain"}) {
		t.Errorf("the target has tables %v, %v; want only the one it had", names, err)
	}
}

func TestTwoExportersOfOneArchiveBothCommit(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 500)
	a, key := newArchive(t, new(archivetest.Memory))
	done := make(chan error, 4)
	for range cap(done) {
		go func() {
			_, err := exporting(t, s, a, key, "plain").Run(t.Context())
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	chain, err := a.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != cap(done) {
		t.Errorf("%d manifests, want %d", len(chain), cap(done))
	}
	if _, err := (snapshot.Verify{Archive: a, Level: snapshot.Rows}).Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnInterruptedExportIsResumedToTheSameState(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 600)
	fillRagged(t, s.client("source"))
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	undisturbed := export(t, s, a, key, "plain", "ragged")
	count := 0
	for _, fault := range []archivetest.Fault{archivetest.Before, archivetest.After} {
		for n := 1; ; n++ {
			fresh := new(archivetest.Memory)
			b, keyB := newArchive(t, fresh)
			faulty := &archivetest.Faulty{Store: fresh, Cue: archivetest.OnNth("put", n, fault)}
			broken := exporting(t, s, &snapshot.Archive{Store: faulty, Policy: b.Policy, Trust: b.Trust}, keyB, "plain", "ragged")
			broken.Workers = 1
			if _, err := broken.Run(t.Context()); err == nil {
				break // the fault came too late to matter
			}
			count++
			if _, err := (snapshot.Verify{Archive: b}).Run(t.Context()); err != nil {
				t.Fatalf("put %d: what a broken export left does not verify: %v", n, err)
			}
			resumed := exporting(t, s, b, keyB)
			resumed.Resume = "latest"
			ids, err := b.Unfinished(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(ids) == 0 {
				// Broken before the plan, or after the manifest.
				if chain, _ := b.Chain(t.Context()); len(chain) == 0 {
					resumed.Resume, resumed.Tables = "", []string{"plain", "ragged"}
				} else {
					continue
				}
			}
			e, err := first(resumed.Run(t.Context()))
			if err != nil {
				t.Fatalf("put %d: resume: %v", n, err)
			}
			if e.Manifest.Totals != undisturbed.Manifest.Totals {
				t.Errorf("put %d: resumed %+v, undisturbed %+v", n, e.Manifest.Totals, undisturbed.Manifest.Totals)
			}
			if got, want := shape(fresh, e), shape(store, undisturbed); !slices.Equal(got, want) {
				t.Errorf("put %d: objects %v, undisturbed %v", n, got, want)
			}
			report, err := snapshot.Verify{Archive: b, Level: snapshot.Rows}.Run(t.Context())
			if err != nil || len(report.Notes) > 0 {
				t.Errorf("put %d: verify: %v, notes %v", n, err, report.Notes)
			}
		}
	}
	if count < 16 {
		t.Errorf("%d interruptions, want more to have been tried", count)
	}
}

// shape is the names of a snapshot's objects without its id.
func shape(store *archivetest.Memory, e snapshot.Entry) []string {
	var names []string
	for _, name := range store.Names() {
		if rest, ok := strings.CutPrefix(name, "snapshots/"+e.Manifest.Snapshot); ok {
			names = append(names, rest)
		}
	}
	return names
}

func TestRowsThatChangeBetweenTwoTriesOfARangeAreNotMixed(t *testing.T) {
	s := newService(t)
	c := s.client("source")
	fillPlain(t, c, "plain", 600)
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	faulty := &archivetest.Faulty{Store: store, Cue: func(call archivetest.Call) archivetest.Fault {
		if call.Op == "put" && strings.HasSuffix(call.Name, ".dsse.json") && strings.Contains(call.Name, "/plain/") {
			return archivetest.Before // no page is ever stored
		}
		return archivetest.None
	}}
	broken := exporting(t, s, &snapshot.Archive{Store: faulty, Policy: a.Policy, Trust: a.Trust}, key, "plain")
	if _, err := broken.Run(t.Context()); err == nil {
		t.Fatal("the export should have broken")
	}
	putRow(t, c, "plain", map[string]any{"k": "row-000300"}, []string{"k"}, cell{name: "n", value: int64(-1)})
	resumed := exporting(t, s, a, key)
	resumed.Resume = "latest"
	e, err := first(resumed.Run(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	report, err := snapshot.Verify{Archive: a, Level: snapshot.Rows}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Notes) > 0 {
		t.Errorf("left over: %v", report.Notes)
	}
	if _, err := (snapshot.Compare{Archive: a, With: s.instance(t, "source")}).Run(t.Context()); err != nil {
		t.Errorf("snapshot %s: %v", e.Manifest.Snapshot, err)
	}
}

func TestAnInterruptedRestoreIsResumedToTheSameState(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 600)
	fillRagged(t, s.client("source"))
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	e := export(t, s, a, key, "plain", "ragged")
	count := 0
	for n := 1; ; n += 2 {
		name := "target" + string(rune('a'+n/26%26)) + string(rune('a'+n%26))
		path := filepath.Join(t.TempDir(), "journal")
		head := snapshot.JournalHead{Archive: a.Policy.ID(), Snapshot: e.Manifest.Snapshot, Instance: s.instance(t, name).Instance(), Tables: []string{"plain", "ragged"}}
		run := func(from *snapshot.Archive) (*snapshot.Report, error) {
			journal, err := snapshot.OpenJournal(path, head)
			if err != nil {
				t.Fatal(err)
			}
			defer journal.Close(t.Context())
			r := restoring(t, s, from, name)
			r.Journal, r.Workers = journal, 1
			return r.Run(t.Context())
		}
		faulty := &archivetest.Faulty{Store: store, Cue: archivetest.OnNth("get", n, archivetest.Cut)}
		if _, err := run(&snapshot.Archive{Store: faulty, Policy: a.Policy, Trust: a.Trust}); err == nil {
			break
		} else if !errors.Is(err, archive.ErrUnavailable) {
			t.Fatalf("get %d: got %v, want ErrUnavailable", n, err)
		}
		count++
		report, err := run(a)
		if err != nil {
			t.Fatalf("get %d: resume: %v", n, err)
		}
		for _, table := range report.Tables {
			if table.Counted != table.Rows || table.Decoded != table.Rows || table.Acknowledged != table.Rows {
				t.Errorf("get %d: counts do not close: %+v", n, table)
			}
		}
		if _, err := (snapshot.Compare{Archive: a, With: s.instance(t, name)}).Run(t.Context()); err != nil {
			t.Errorf("get %d: %v", n, err)
		}
	}
	if count < 10 {
		t.Errorf("%d interruptions, want more to have been tried", count)
	}
}

func TestAJournalOfAnotherRestoreIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	head := snapshot.JournalHead{Snapshot: "one", Tables: []string{"a"}}
	j, err := snapshot.OpenJournal(path, head)
	if err != nil {
		t.Fatal(err)
	}
	if j.Resumed() {
		t.Error("a new journal says it was resumed")
	}
	j.Close(t.Context())
	if _, err := snapshot.OpenJournal(path, snapshot.JournalHead{Snapshot: "two", Tables: []string{"a"}}); err == nil {
		t.Error("a journal of another snapshot was taken up")
	}
	j, err = snapshot.OpenJournal(path, head)
	if err != nil {
		t.Fatal(err)
	}
	if !j.Resumed() {
		t.Error("a journal that was there says it is new")
	}
	if err := j.End(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSelectChoosesByGlob(t *testing.T) {
	names := []string{"orders", "order_lines", "users", "log_1", "log_2"}
	for _, c := range []struct {
		globs []string
		want  []string
	}{
		{nil, []string{"log_1", "log_2", "order_lines", "orders", "users"}},
		{[]string{"order*"}, []string{"order_lines", "orders"}},
		{[]string{"users", "log_?"}, []string{"log_1", "log_2", "users"}},
		{[]string{"!log_*"}, []string{"order_lines", "orders", "users"}},
		{[]string{"order*", "!orders"}, []string{"order_lines"}},
	} {
		got, err := snapshot.Select(names, c.globs)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("Select(%q) = %v, %v; want %v", c.globs, got, err, c.want)
		}
	}
	for _, globs := range [][]string{{"nothing"}, {"users", "!users"}, {"[a"}, {"!typo"}} {
		if got, err := snapshot.Select(names, globs); err == nil {
			t.Errorf("Select(%q) = %v, want an error", globs, got)
		}
	}
}

func TestFindTakesNumbersIDsAndTheirStarts(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 10)
	a, key := newArchive(t, new(archivetest.Memory))
	if _, err := a.Find(t.Context(), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty archive: got %v, want fs.ErrNotExist", err)
	}
	first := export(t, s, a, key, "plain")
	second := export(t, s, a, key, "plain")
	for which, want := range map[string]int64{"": 2, "latest": 2, "1": 1, "2": 2, first.Manifest.Snapshot: 1, second.Manifest.Snapshot: 2} {
		got, err := a.Find(t.Context(), which)
		if err != nil || got.Manifest.Seq != want {
			t.Errorf("Find(%q) = %v, %v; want manifest %d", which, got.Manifest, err, want)
		}
	}
	for _, which := range []string{"0", "-1", "3", "20", "nothing", "2026"} {
		if _, err := a.Find(t.Context(), which); err == nil {
			t.Errorf("Find(%q) found something", which)
		}
	}
}

// TestValuesSurviveWithEveryBit reads back by the SDK what was restored.
func TestValuesSurviveWithEveryBit(t *testing.T) {
	s := newService(t)
	fillRagged(t, s.client("source"))
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "ragged")
	if _, err := restoring(t, s, a, "target").Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	request := &sdk.GetRowRequest{SingleRowQueryCriteria: &sdk.SingleRowQueryCriteria{TableName: "ragged", MaxVersion: 10, PrimaryKey: &sdk.PrimaryKey{}}}
	request.SingleRowQueryCriteria.PrimaryKey.AddPrimaryKeyColumn("id", int64(0))
	request.SingleRowQueryCriteria.PrimaryKey.AddPrimaryKeyColumn("raw", []byte("\x00\xff"))
	response, err := s.client("target").GetRow(request)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for _, column := range response.Columns {
		got[column.ColumnName] = column.Value
	}
	want := map[string]any{"Empty": "", "Zero": int64(0), "Minus": math.Copysign(0, -1)}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if minus, ok := got["Minus"].(float64); !ok || !math.Signbit(minus) {
		t.Errorf("-0 came back as %v", got["Minus"])
	}
}

// TestCellsPastTheirTimeToLiveAreRestoredBeforeTheyVanish restores a table whose
// cells had five minutes to live when they were exported, ten minutes later. The
// service accepts requests from clocks that differ by a quarter of an hour.
func TestCellsPastTheirTimeToLiveAreRestoredBeforeTheyVanish(t *testing.T) {
	var late atomic.Int64
	s := newServiceWith(t, local.Options{Clock: func() time.Time { return time.Now().Add(time.Duration(late.Load())) }})
	c := s.client("source")
	createTable(t, c, "brief", 1, "k:STRING")
	old := time.Now().Add(5*time.Minute - 24*time.Hour).UnixMilli()
	putRow(t, c, "brief", map[string]any{"k": "row"}, []string{"k"}, cell{"n", int64(1), old})
	options := &sdk.TableOption{TimeToAlive: 86400, MaxVersion: 1, DeviationCellVersionInSec: 90000}
	if _, err := c.UpdateTable(&sdk.UpdateTableRequest{TableName: "brief", TableOption: options}); err != nil {
		t.Fatal(err)
	}
	a, key := newArchive(t, new(archivetest.Memory))
	e := export(t, s, a, key, "brief")
	if got := e.Manifest.Totals.Cells; got != 1 {
		t.Fatalf("%d cells exported, want 1", got)
	}
	late.Store(int64(10 * time.Minute))
	report, err := restoring(t, s, a, "target").Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := snapshot.Expiry{TTL: 86400, AllCells: 1, AllRows: 1}
	if got := report.Tables[0].Expired; got == nil || *got != want {
		t.Errorf("expiry %+v, want %+v: this machine's clock says that nothing is old", got, want)
	}
	live, err := s.instance(t, "target").Describe(t.Context(), "brief")
	if err != nil || live.Options.TTL != 86400 || live.Options.Deviation != 90000 {
		t.Errorf("options %+v, %v; want those of the source", live.Options, err)
	}
	_, err = snapshot.Compare{Archive: a, With: s.instance(t, "target")}.Run(t.Context())
	if !errors.Is(err, snapshot.ErrDiffers) {
		t.Errorf("compare after the cell expired: got %v, want ErrDiffers", err)
	}
}

func TestAnAutoIncrementColumnComesBackAsPlainInteger(t *testing.T) {
	s := newService(t)
	c := s.client("source")
	meta := &sdk.TableMeta{TableName: "counted"}
	meta.AddPrimaryKeyColumn("k", sdk.PrimaryKeyType_STRING)
	meta.AddPrimaryKeyColumnOption("id", sdk.PrimaryKeyType_INTEGER, sdk.AUTO_INCREMENT)
	_, err := c.CreateTable(&sdk.CreateTableRequest{TableMeta: meta, TableOption: sdk.NewTableOptionWithMaxVersion(1), ReservedThroughput: &sdk.ReservedThroughput{}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		change := &sdk.PutRowChange{TableName: "counted", PrimaryKey: &sdk.PrimaryKey{}}
		change.PrimaryKey.AddPrimaryKeyColumn("k", "a")
		change.PrimaryKey.AddPrimaryKeyColumnWithAutoIncrement("id")
		change.AddColumn("n", int64(1))
		change.SetCondition(sdk.RowExistenceExpectation_IGNORE)
		if _, err := c.PutRow(&sdk.PutRowRequest{PutRowChange: change}); err != nil {
			t.Fatal(err)
		}
	}
	a, key := newArchive(t, new(archivetest.Memory))
	e := export(t, s, a, key, "counted")
	if !e.Manifest.Tables[0].Table.Key[1].AutoIncrement || e.Manifest.Totals.Rows != 3 {
		t.Errorf("the manifest says %+v, %d rows", e.Manifest.Tables[0].Table.Key, e.Manifest.Totals.Rows)
	}
	report, err := restoring(t, s, a, "target").Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "AUTO_INCREMENT") {
		t.Errorf("notes %q, want one about AUTO_INCREMENT", report.Notes)
	}
}

// sinkWith is an instance of which one method can be made to fail.
type sinkWith struct {
	snapshot.Sink
	create func() error // before Create
	write  func() error // in place of Write
	finish func() error // in place of Configure
}

func (s sinkWith) Write(ctx context.Context, w snapshot.Write) (snapshot.Written, error) {
	if s.write != nil {
		return snapshot.Written{}, s.write()
	}
	return s.Sink.Write(ctx, w)
}

func (s sinkWith) Create(ctx context.Context, t manifest.Table) error {
	if s.create != nil {
		if err := s.create(); err != nil {
			return err
		}
	}
	return s.Sink.Create(ctx, t)
}

func (s sinkWith) Configure(ctx context.Context, t manifest.Table) error {
	if s.finish != nil {
		return s.finish()
	}
	return s.Sink.Configure(ctx, t)
}

func TestAResumedRestoreDoesNotTrustItsJournalOverTheTarget(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 100)
	a, key := newArchive(t, new(archivetest.Memory))
	e := export(t, s, a, key, "plain")
	target := s.instance(t, "target")
	path := filepath.Join(t.TempDir(), "journal")
	run := func(sink snapshot.Sink) (*snapshot.Report, error) {
		journal, err := snapshot.OpenJournal(path, snapshot.JournalHead{Archive: a.Policy.ID(), Snapshot: e.Manifest.Snapshot, Instance: target.Instance(), Tables: []string{"plain"}})
		if err != nil {
			t.Fatal(err)
		}
		defer journal.Close(t.Context())
		return snapshot.Restore{From: a, To: sink, Check: target, Journal: journal}.Run(t.Context())
	}
	refused := errors.New("refused")
	if _, err := run(sinkWith{Sink: target, finish: func() error { return refused }}); !errors.Is(err, refused) {
		t.Fatalf("got %v, want the refusal", err)
	}

	t.Run("rows changed in between", func(t *testing.T) {
		deleteRow(t, s.client("target"), "plain", "k", "row-000050")
		report, err := run(sinkWith{Sink: target, finish: func() error { return refused }})
		if !errors.Is(err, refused) || report == nil || !slices.ContainsFunc(report.Notes, func(n string) bool { return strings.Contains(n, "written again") }) {
			t.Errorf("got %v and notes %q, want the row put back, and said so", err, report.Notes)
		}
		if _, err := (snapshot.Compare{Archive: a, With: target}).Run(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("the table was dropped", func(t *testing.T) {
		if _, err := s.client("target").DeleteTable(&sdk.DeleteTableRequest{TableName: "plain"}); err != nil {
			t.Fatal(err)
		}
		if _, err := run(target); err != nil {
			t.Fatal(err)
		}
		if _, err := (snapshot.Compare{Archive: a, With: target}).Run(t.Context()); err != nil {
			t.Errorf("after the resumed restore: %v", err)
		}
	})
}

func TestATableMadeByAnotherIsNotClaimed(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 100)
	a, key := newArchive(t, new(archivetest.Memory))
	e := export(t, s, a, key, "plain")
	target := s.instance(t, "target")
	path := filepath.Join(t.TempDir(), "journal")
	rival := sinkWith{Sink: target, create: func() error {
		fillPlain(t, s.client("target"), "plain", 1)
		return nil
	}}
	for i, sink := range []snapshot.Sink{rival, target} {
		journal, err := snapshot.OpenJournal(path, snapshot.JournalHead{Archive: a.Policy.ID(), Snapshot: e.Manifest.Snapshot, Instance: target.Instance(), Tables: []string{"plain"}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = snapshot.Restore{From: a, To: sink, Check: target, Journal: journal}.Run(t.Context())
		journal.Close(t.Context())
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("run %d: got %v, want fs.ErrExist", i+1, err)
		}
	}
	report, err := snapshot.Compare{Archive: a, With: target}.Run(t.Context())
	if !errors.Is(err, snapshot.ErrDiffers) || report.Tables[0].Counted != 1 {
		t.Errorf("the other's table has %d rows, %v; want its one", report.Tables[0].Counted, err)
	}
}

func TestAFileThatIsNoJournalIsLeftAlone(t *testing.T) {
	for _, text := range []string{"mytoken", `{"a":1}`, "\x00\x00", "a line\n"} {
		path := filepath.Join(t.TempDir(), "victim")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := snapshot.OpenJournal(path, snapshot.JournalHead{Snapshot: "one"}); err == nil {
			t.Errorf("%q was taken for a journal", text)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != text {
			t.Errorf("%q is %q now, %v", text, data, err)
		}
	}
}

func TestAManifestNumberNobodyReachedCostsNothing(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 10)
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	export(t, s, a, key, "plain")
	store.Replace(manifest.ManifestName(99_999_999), []byte("x"))
	reads := 0
	watched := &archivetest.Faulty{Store: store, Cue: func(c archivetest.Call) archivetest.Fault {
		if c.Op == "get" {
			reads++
		}
		return archivetest.None
	}}
	b := &snapshot.Archive{Store: watched, Policy: a.Policy, Trust: a.Trust}
	if _, err := b.Chain(t.Context()); !errors.Is(err, snapshot.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
	if reads > 0 {
		t.Errorf("%d objects were read", reads)
	}
}

func TestAnOldUnfinishedExportIsOnlyResumedByName(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 100)
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	at := time.Now()
	run := exporting(t, s, a, key, "plain")
	run.Now = func() time.Time { return at }
	run.To = []*snapshot.Archive{{Policy: a.Policy, Store: &archivetest.Faulty{Store: store, Cue: archivetest.OnNth("put", 2, archivetest.Before)}}}
	if _, err := run.Run(t.Context()); err == nil {
		t.Fatal("the export should have broken")
	}
	at, run.To = at.Add(time.Hour), []*snapshot.Archive{a}
	if _, err := run.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	run.Resume = "latest"
	if _, err := run.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "older than snapshot 1") {
		t.Errorf("resumed without being named: %v", err)
	}
	ids, err := a.Unfinished(t.Context())
	if err != nil || len(ids) != 1 {
		t.Fatalf("unfinished %v, %v", ids, err)
	}
	run.Resume = ids[0]
	if _, err := run.Run(t.Context()); err != nil {
		t.Errorf("resumed by name: %v", err)
	}
}
