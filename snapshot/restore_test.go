package snapshot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// altered restores the table "plain" of 600 rows into target and changes it there:
// row 10 is gone, row 20 has another cell, and there is one row more.
func altered(t *testing.T) (*service, *snapshot.Archive) {
	t.Helper()
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 600)
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "plain")
	if _, err := restoring(t, s, a, "target").Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := s.client("target")
	deleteRow(t, c, "plain", "k", "row-000010")
	putRow(t, c, "plain", map[string]any{"k": "row-000020"}, []string{"k"}, cell{name: "n", value: int64(-1)})
	putRow(t, c, "plain", map[string]any{"k": "zzz"}, []string{"k"}, cell{name: "n", value: int64(1)})
	return s, a
}

func TestModesOfARestore(t *testing.T) {
	for _, test := range []struct {
		mode                               snapshot.RestoreMode
		deleteExtra                        bool
		wrong                              string // what the error says; else none
		written, kept, deleted             int64
		missing, extra, changed, remaining int64 // of a comparison afterwards
	}{
		{mode: snapshot.CreateTables, wrong: "instance target has plain already; nothing was written", missing: 1, extra: 1, changed: 1},
		{mode: snapshot.FillEmpty, wrong: "table plain: it has rows", missing: 1, extra: 1, changed: 1},
		{mode: "replace", wrong: `mode "replace"`, missing: 1, extra: 1, changed: 1},
		{mode: snapshot.Insert, written: 1, kept: 599, extra: 1, changed: 1},
		{mode: snapshot.Overwrite, written: 600, extra: 1},
		{mode: snapshot.Repair, written: 2, extra: 1},
		{mode: snapshot.Repair, deleteExtra: true, written: 2, deleted: 1},
		{mode: snapshot.Insert, deleteExtra: true, wrong: "only removed in mode repair", missing: 1, extra: 1, changed: 1},
	} {
		name := string(test.mode)
		if test.deleteExtra {
			name += " deleting"
		}
		t.Run(name, func(t *testing.T) {
			s, a := altered(t)
			target := s.instance(t, "target")
			before, err := target.Describe(t.Context(), "plain")
			if err != nil {
				t.Fatal(err)
			}
			r := restoring(t, s, a, "target")
			r.Mode, r.DeleteExtra = test.mode, test.deleteExtra
			report, err := r.Run(t.Context())
			if test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)) {
				t.Errorf("got %v, want %q", err, test.wrong)
			}
			if test.wrong == "" {
				if err != nil {
					t.Fatal(err)
				}
				got := report.Tables[0]
				if got.Acknowledged != test.written || got.Kept != test.kept || got.Deleted != test.deleted || got.Rows != 600 {
					t.Errorf("report %+v", got)
				}
			}
			after, err := target.Describe(t.Context(), "plain")
			if err != nil || after.Options != before.Options {
				t.Errorf("options %+v, %v; before %+v", after.Options, err, before.Options)
			}
			found, err := snapshot.Compare{Archive: a, With: target}.Run(t.Context())
			if differs := test.missing+test.extra+test.changed > 0; errors.Is(err, snapshot.ErrDiffers) != differs {
				t.Error(err)
			}
			if x := found.Tables[0]; x.Missing != test.missing || x.Extra != test.extra || x.Changed != test.changed {
				t.Errorf("afterwards %d missing, %d extra, %d changed", x.Missing, x.Extra, x.Changed)
			}
		})
	}
}

func TestAnEmptyTableIsFilled(t *testing.T) {
	s := newService(t)
	fillRagged(t, s.client("source"))
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "ragged")
	createTable(t, s.client("target"), "ragged", 9, "id:INTEGER", "raw:BINARY")
	r := restoring(t, s, a, "target")
	r.Mode = snapshot.FillEmpty
	if _, err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	live, err := r.Check.Describe(t.Context(), "ragged")
	if err != nil || live.Options.MaxVersions != 9 {
		t.Errorf("options %+v, %v; want the table's own", live.Options, err)
	}
	if _, err := (snapshot.Compare{Archive: a, With: r.Check}).Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRowsAndCellsOfARestoreAreChosen(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 600)
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "plain")
	filter, err := row.ParseFilter("n >= 590 or n = 7")
	if err != nil {
		t.Fatal(err)
	}
	one, _, err := row.ParseKeyText([]manifest.KeyColumn{{Name: "k", Type: manifest.String}}, "row-000123")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		rows  archive.Selection
		n     int64
		cells int64
	}{
		"one row": {archive.Selection{Within: manifest.Range{From: one, To: row.Following(one)}}, 1, 2},
		"from":    {archive.Selection{Within: manifest.Range{From: one}}, 600 - 123, 2},
		"filter":  {archive.Selection{Where: filter}, 11, 2},
		"columns": {archive.Selection{Columns: []string{"n"}}, 600, 1},
		"nothing": {archive.Selection{Columns: []string{"none"}, Where: filter}, 11, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := restoring(t, s, a, "chosen-"+name[:3])
			r.Rows = test.rows
			report, err := r.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if x := report.Tables[0]; x.Rows != test.n || x.Decoded != test.n || x.Acknowledged != test.n || x.Counted != test.n {
				t.Errorf("report %+v, want %d rows", x, test.n)
			}
			var live int64
			layout := row.Layout{Key: []manifest.KeyColumn{{Name: "k", Type: manifest.String}}}
			table := manifest.Table{Name: "plain", Key: layout.Key}
			for batch, err := range r.Check.Scan(t.Context(), snapshot.Scan{Table: table, Layout: layout}) {
				if err != nil {
					t.Fatal(err)
				}
				live += batch.Record.NumRows()
				if batch.Cells != test.cells*batch.Record.NumRows() {
					t.Errorf("%d cells in %d rows", batch.Cells, batch.Record.NumRows())
				}
			}
			if live != test.n {
				t.Errorf("%d rows are there, want %d", live, test.n)
			}
		})
	}
}

// TestChosenRowsRepairTheirPartAlone repairs some keys of a table whose others
// differ as well.
func TestChosenRowsRepairTheirPartAlone(t *testing.T) {
	s, a := altered(t)
	key := []manifest.KeyColumn{{Name: "k", Type: manifest.String}}
	to, _, err := row.ParseKeyText(key, "row-000015")
	if err != nil {
		t.Fatal(err)
	}
	r := restoring(t, s, a, "target")
	r.Mode, r.DeleteExtra, r.Rows.Within.To = snapshot.Repair, true, to
	report, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if x := report.Tables[0]; x.Rows != 15 || x.Acknowledged != 1 || x.Deleted != 0 {
		t.Errorf("report %+v", x)
	}
	found, _ := snapshot.Compare{Archive: a, With: r.Check}.Run(t.Context())
	if x := found.Tables[0]; x.Missing != 0 || x.Extra != 1 || x.Changed != 1 {
		t.Errorf("afterwards %+v", x)
	}
	r.Rows = archive.Selection{Columns: []string{"n"}}
	r.DeleteExtra = false
	if _, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "would lose its other columns") {
		t.Errorf("columns over rows that exist: %v", err)
	}
}

func TestRestoreUnderAnotherName(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 30)
	fillPlain(t, s.client("source"), "other", 20)
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "plain", "other")
	r := restoring(t, s, a, "source")
	r.Rename = []snapshot.Rename{{Old: "plain", New: "first"}, {Old: "*", New: "*_restored"}}
	report, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := []string{report.Tables[0].Target, report.Tables[1].Target}; !slices.Equal(got, []string{"other_restored", "first"}) {
		t.Errorf("restored as %q", got)
	}
	if _, err := (snapshot.Compare{Archive: a, With: r.Check, Rename: r.Rename}).Run(t.Context()); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"plain=other": "both", "nobody=somebody": "no such table", "plain=9": `becomes "9"`,
	} {
		rename, err := snapshot.ParseRename(text)
		if err != nil {
			t.Fatal(err)
		}
		r.Rename = []snapshot.Rename{rename}
		if _, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"", "a", "=b", "a=", "a*=b", "a=b*", "a**=b*"} {
		if r, err := snapshot.ParseRename(text); err == nil {
			t.Errorf("%q is read as %v", text, r)
		}
	}
}

func TestTheSourceIsNotWrittenOverByAccident(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 30)
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "plain")
	r := restoring(t, s, a, "source")
	r.Mode = snapshot.Overwrite
	if _, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "allow it by its name: --allow-source plain") {
		t.Errorf("got %v", err)
	}
	r.AllowSource = []string{"plain"}
	if _, err := r.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAPlanIsWhatIsDone(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 300)
	fillRagged(t, s.client("source"))
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "plain", "ragged")
	r := restoring(t, s, a, "target")
	plan, err := r.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.Plan(t.Context())
	if err != nil || !bytes.Equal(plan.Encode(), again.Encode()) {
		t.Errorf("two plans differ: %v", err)
	}
	if plan.Totals.Rows != 357 || len(plan.Problems()) > 0 {
		t.Errorf("plan %s", plan.Encode())
	}
	if names, err := r.Check.Tables(t.Context()); err != nil || len(names) > 0 {
		t.Errorf("planning has made %v, %v", names, err)
	}

	r.PlanDigest = manifest.Sum([]byte("another"))
	if _, err := r.Run(t.Context()); !errors.Is(err, snapshot.ErrPlan) {
		t.Errorf("got %v, want ErrPlan", err)
	}
	r.PlanDigest = plan.SHA256()
	run, _ := journaled(t, r, "plain", "ragged")
	refused := errors.New("refused")
	interrupted := r
	interrupted.To = sinkWith{Sink: r.To, finish: func() error { return refused }}
	if err := run(interrupted); !errors.Is(err, refused) {
		t.Fatalf("got %v, want the refusal", err)
	}
	other := r
	other.PlanDigest, other.WithoutIndexes, other.Mode = manifest.Hash{}, true, snapshot.Overwrite
	if err := run(other); !errors.Is(err, snapshot.ErrPlan) {
		t.Errorf("resumed with other wishes: %v", err)
	}
	if err := run(r); err != nil {
		t.Errorf("resumed by the same plan: %v", err)
	}
	if _, err := (snapshot.Compare{Archive: a, With: r.Check}).Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAJournalInAnArchive(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 600)
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	e := export(t, s, a, key, "plain")
	r := restoring(t, s, a, "target")
	head := snapshot.JournalHead{Archive: a.Policy.ID(), Snapshot: e.Manifest.Snapshot, Instance: r.To.Instance(), Tables: []string{"plain"}}
	openJournal := func() *snapshot.Journal {
		t.Helper()
		j, err := snapshot.OpenArchiveJournal(t.Context(), store, head)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	unused := openJournal()
	if unused.Resumed() || unused.End(t.Context()) != nil || len(journals(t, store)) > 0 {
		t.Errorf("a journal of nothing leaves %v", journals(t, store))
	}
	refused := errors.New("refused")
	first, rival := openJournal(), openJournal()
	run := r
	run.Journal, run.To = first, sinkWith{Sink: r.To, finish: func() error { return refused }}
	if _, err := run.Run(t.Context()); !errors.Is(err, refused) {
		t.Fatalf("got %v, want the refusal", err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := rival.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "on another machine") {
		t.Errorf("a second run beside the first: %v", err)
	}
	second := openJournal()
	if !second.Resumed() {
		t.Error("there is nothing to resume")
	}
	run = r
	run.Journal = second
	if _, err := run.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	if third := openJournal(); third.Resumed() || !third.Empty() {
		t.Error("a restore that is done is resumed")
	}
	if _, err := (snapshot.Verify{Archive: a, Level: snapshot.Rows}).Run(t.Context()); err != nil {
		t.Errorf("the archive with the journal in it: %v", err)
	}
}

// TestAForgedJournalDoesNotOpenATable puts into the archive, as who may write there
// could, a journal that claims a table which somebody else has made.
func TestAForgedJournalDoesNotOpenATable(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 60)
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	e := export(t, s, a, key, "plain")
	fillPlain(t, s.client("target"), "plain", 1)
	r := restoring(t, s, a, "target")
	head := snapshot.JournalHead{Archive: a.Policy.ID(), Snapshot: e.Manifest.Snapshot, Instance: r.To.Instance(), Tables: []string{"plain"}}
	line, err := json.Marshal(head)
	if err != nil {
		t.Fatal(err)
	}
	forged := string(line) + "\n" + `{"table":"plain","step":"intend"}` + "\n" + `{"table":"plain","step":"create"}` + "\n"
	name := manifest.RestoreFolder(manifest.Sum(line)) + "00000001.jsonl"
	if err := store.Put(t.Context(), name, strings.NewReader(forged), archive.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if r.Journal, err = snapshot.OpenArchiveJournal(t.Context(), store, head); err != nil || !r.Journal.Resumed() {
		t.Fatal("the forged journal is not seen", err)
	}
	if _, err := r.Run(t.Context()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
}

func journals(t *testing.T, store archive.Store) (names []string) {
	t.Helper()
	for o, err := range store.List(context.Background(), "restores/") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, o.Name)
	}
	return names
}

// TestWhatATimeToLiveWillHideIsCounted restores by a clock that is two days ahead
// of the service's.
func TestWhatATimeToLiveWillHideIsCounted(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 50)
	options := &sdk.TableOption{TimeToAlive: 86400, MaxVersion: 1, DeviationCellVersionInSec: 86400}
	if _, err := s.client("source").UpdateTable(&sdk.UpdateTableRequest{TableName: "plain", TableOption: options}); err != nil {
		t.Fatal(err)
	}
	series := s.timeseries("source")
	meta := sdk.NewTimeseriesTableMeta("cpu")
	meta.SetTimeseriesTableOptions(sdk.NewTimeseriesTableOptions(86400))
	create := sdk.NewCreateTimeseriesTableRequest()
	create.SetTimeseriesTableMeta(meta)
	if _, err := series.CreateTimeseriesTable(create); err != nil {
		t.Fatal(err)
	}
	key := sdk.NewTimeseriesKey()
	key.SetMeasurementName("load")
	put := sdk.NewPutTimeseriesDataRequest("cpu")
	for i := range int64(10) {
		point := sdk.NewTimeseriesRow(key)
		point.SetTimeInus(time.Now().UnixMicro() - i*1000)
		point.AddField("value", sdk.NewColumnValue(sdk.ColumnType_INTEGER, i))
		put.AddTimeseriesRows(point)
	}
	if _, err := series.PutTimeseriesData(put); err != nil {
		t.Fatal(err)
	}
	a, signer := newArchive(t, new(archivetest.Memory))
	export(t, s, a, signer, "plain", "cpu", "cpu.meta")
	r := restoring(t, s, a, "target")
	r.Now = func() time.Time { return time.Now().Add(48 * time.Hour) }
	report, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]*snapshot.Expiry{
		"plain": {TTL: 86400, AllCells: 100, AllRows: 50, Cells: 100, Rows: 50, Visible: 50},
		"cpu":   {TTL: 86400, AllCells: 10, AllRows: 10, Cells: 10, Rows: 10, Visible: 10},
	}
	for _, table := range report.Tables {
		if got := table.Expired; !reflect.DeepEqual(got, want[table.Name]) {
			t.Errorf("table %s: %+v, want %+v", table.Name, got, want[table.Name])
		}
	}
	said := strings.Join(report.Notes, "\n")
	for _, note := range []string{"table plain: 100 of 100 cells, and with them 50 of 50 rows, are older", "table cpu: with its time to live it shows 10 of the 10 rows restored"} {
		if !strings.Contains(said, note) {
			t.Errorf("nothing says %q:\n%s", note, said)
		}
	}
}

// journaled returns what runs restores of the tables by one journal, each going on
// where the one before ended, and where that journal is.
func journaled(t *testing.T, r snapshot.Restore, tables ...string) (run func(snapshot.Restore) error, path string) {
	t.Helper()
	entry, err := r.From.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "journal")
	head := snapshot.JournalHead{Archive: r.From.Policy.ID(), Snapshot: entry.Manifest.Snapshot, Instance: r.To.Instance(), Tables: tables}
	return func(r snapshot.Restore) error {
		t.Helper()
		journal, err := snapshot.OpenJournal(path, head)
		if err != nil {
			t.Fatal(err)
		}
		defer journal.Close(t.Context())
		r.Journal = journal
		_, err = r.Run(t.Context())
		return err
	}, path
}

// resumable is journaled for the table "plain" through one sink after the other.
func resumable(t *testing.T, r snapshot.Restore) func(snapshot.Sink) error {
	t.Helper()
	run, _ := journaled(t, r, "plain")
	return func(to snapshot.Sink) error {
		r := r
		r.To = to
		return run(r)
	}
}

// TestAnInterruptedRestoreIntoATableGivesItsOptionsBack fails once the table takes
// every version, and goes on.
func TestAnInterruptedRestoreIntoATableGivesItsOptionsBack(t *testing.T) {
	s, a := altered(t)
	r := restoring(t, s, a, "target")
	r.Mode = snapshot.Overwrite
	before, err := r.Check.Describe(t.Context(), "plain")
	if err != nil {
		t.Fatal(err)
	}
	run := resumable(t, r)
	refused := errors.New("refused")
	options := func() manifest.Options {
		t.Helper()
		live, err := r.Check.Describe(t.Context(), "plain")
		if err != nil {
			t.Fatal(err)
		}
		return live.Options
	}
	if err := run(sinkWith{Sink: r.To, write: func() error { return refused }}); !errors.Is(err, refused) {
		t.Fatalf("got %v, want the refusal", err)
	}
	if now := options(); now != before.Options {
		t.Errorf("after a failure the options are %+v, before %+v", now, before.Options)
	}
	once := &configuredOnce{Sink: sinkWith{Sink: r.To, write: func() error { return refused }}}
	if err := run(once); !errors.Is(err, refused) || !strings.Contains(err.Error(), "is left with other options: resume, or give it back what it had: TTL -1, 1 versions, deviation 864000") {
		t.Errorf("got %v, want to be told", err)
	}
	if now := options(); now.Deviation != snapshot.MaxDeviation {
		t.Errorf("as after a kill the options are to be %+v", now)
	}
	if err := run(r.To); err != nil {
		t.Fatal(err)
	}
	if after, err := r.Check.Describe(t.Context(), "plain"); err != nil || after.Options != before.Options {
		t.Errorf("options %+v, %v; before %+v", after.Options, err, before.Options)
	}
}

// TestTablesWithoutRowsAreRepaired has no chunk to go by: of a table that is not
// there, of one that is, and of rows that were never signed.
func TestTablesWithoutRowsAreRepaired(t *testing.T) {
	s := newService(t)
	for name, ttl := range map[string]int{"lasting": -1, "vanishing": 86400} {
		createTable(t, s.client("source"), name, 1, "k:STRING")
		options := &sdk.TableOption{TimeToAlive: ttl, MaxVersion: 1, DeviationCellVersionInSec: 86400}
		if _, err := s.client("source").UpdateTable(&sdk.UpdateTableRequest{TableName: name, TableOption: options}); err != nil {
			t.Fatal(err)
		}
	}
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "lasting", "vanishing")
	r := restoring(t, s, a, "target")
	r.Mode, r.DeleteExtra = snapshot.Repair, true
	if _, err := r.Run(t.Context()); err != nil {
		t.Fatalf("tables that are not there: %v", err)
	}
	putRow(t, s.client("target"), "vanishing", map[string]any{"k": "stray"}, []string{"k"}, cell{name: "n", value: int64(1)})
	report, err := r.Run(t.Context())
	if err != nil {
		t.Fatalf("tables that are there: %v", err)
	}
	if x := report.Tables[1]; x.Deleted != 1 || x.Counted != 0 {
		t.Errorf("report %+v", x)
	}
}

// TestChosenRowsGoIntoATableThatExists chooses by bounds that are no whole keys, as
// one row and a prefix are.
func TestChosenRowsGoIntoATableThatExists(t *testing.T) {
	at := func(text string) manifest.Key {
		key, _, err := row.ParseKeyText([]manifest.KeyColumn{{Name: "k", Type: manifest.String}}, text)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	one, part := at("row-000010"), at("row-00001")
	part = part[:len(part)-2] // without its end
	like, err := row.ParseFilter("k like 'row-00001%'")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		rows archive.Selection
		n    int64
	}{
		"one row":   {archive.Selection{Within: manifest.Range{From: one, To: row.Following(one)}}, 1},
		"a prefix":  {archive.Selection{Within: manifest.Range{From: part, To: row.Following(part)}}, 10},
		"a filter":  {archive.Selection{Where: like}, 10},
		"no row":    {archive.Selection{Within: manifest.Range{From: at("s"), To: row.Following(at("s"))}}, 0},
		"other row": {archive.Selection{Within: manifest.Range{From: at("zzz"), To: row.Following(at("zzz"))}}, 0},
	} {
		for _, mode := range []snapshot.RestoreMode{snapshot.Insert, snapshot.Overwrite, snapshot.Repair} {
			t.Run(name+", "+string(mode), func(t *testing.T) {
				s, a := altered(t)
				r := restoring(t, s, a, "target")
				r.Mode, r.Rows = mode, test.rows
				report, err := r.Run(t.Context())
				if nothing := err != nil && strings.Contains(err.Error(), "no row that was signed matches"); nothing != (test.n == 0) || report == nil {
					t.Fatal(err)
				}
				if x := report.Tables[0]; x.Rows != test.n || x.Counted-x.Extra != test.n {
					t.Errorf("report %+v, want %d rows", x, test.n)
				}
			})
		}
	}
}

// TestAReportOfARestoreThatFailedSaysSo fails where all rows are in, and once they
// were compared.
func TestAReportOfARestoreThatFailedSaysSo(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 10)
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "plain")
	r := restoring(t, s, a, "target")
	refused := errors.New("refused")
	r.To = sinkWith{Sink: r.To, finish: func() error { return refused }}
	report, err := r.Run(t.Context())
	if !errors.Is(err, refused) || report == nil || len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "refused") {
		t.Errorf("got %v and report %+v", err, report)
	}
}

// described is an instance that describes one of its tables otherwise.
type described struct {
	snapshot.Source
	table string
	as    func(*manifest.Table)
}

func (d described) Describe(ctx context.Context, table string) (manifest.Table, error) {
	t, err := d.Source.Describe(ctx, table)
	if err == nil && table == d.table {
		d.as(&t)
	}
	return t, err
}

func TestATableThatIsNotAsPlannedKeepsNoOtherFromItsOptions(t *testing.T) {
	s := newService(t)
	for _, name := range []string{"a", "b"} {
		createTable(t, s.client("source"), name, 3, "k:STRING")
	}
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "a", "b")
	r := restoring(t, s, a, "target")
	r.Check = described{r.Check, "a", func(t *manifest.Table) { t.Throughput.Read = 7 }}
	report, err := r.Run(t.Context())
	if !errors.Is(err, snapshot.ErrDiffers) || len(report.Problems) != 1 {
		t.Errorf("got %v and report %+v", err, report)
	}
	if b, err := r.Check.Describe(t.Context(), "b"); err != nil || b.Options.MaxVersions != 3 {
		t.Errorf("options %+v, %v; want those signed", b.Options, err)
	}
}

// TestATableThatHasItsOptionsBackIsOpenedAgain interrupts a restore once the table
// has its own options again, and takes a row away before it goes on.
func TestATableThatHasItsOptionsBackIsOpenedAgain(t *testing.T) {
	s, a := altered(t)
	r := restoring(t, s, a, "target")
	r.Mode = snapshot.Overwrite
	run := resumable(t, r)
	interrupted := errors.New("interrupted")
	if err := run(&interruptedSink{Sink: r.To, err: interrupted}); !errors.Is(err, interrupted) {
		t.Fatalf("got %v, want the interruption", err)
	}
	deleteRow(t, s.client("target"), "plain", "k", "row-000050")
	closed := errors.New("the table takes no versions")
	check := &interruptedSink{Sink: r.To, write: func(w snapshot.Write) error {
		if live, err := r.Check.Describe(t.Context(), w.Table.Name); err != nil || live.Options.Deviation != snapshot.MaxDeviation {
			return errors.Join(closed, err)
		}
		return nil
	}}
	if err := run(check); err != nil {
		t.Fatal(err)
	}
	found, err := snapshot.Compare{Archive: a, With: r.Check}.Run(t.Context())
	if found == nil || found.Tables[0].Missing != 0 {
		t.Errorf("afterwards %v", err)
	}
}

// interruptedSink is an instance that fails once it has taken options for the second
// time, if err is not nil.
type interruptedSink struct {
	snapshot.Sink
	err   error
	write func(snapshot.Write) error // before Write
	taken int
}

func (s *interruptedSink) Configure(ctx context.Context, t manifest.Table) error {
	if err := s.Sink.Configure(ctx, t); err != nil {
		return err
	}
	if s.taken++; s.taken == 2 {
		return s.err
	}
	return nil
}

func (s *interruptedSink) Write(ctx context.Context, w snapshot.Write) (snapshot.Written, error) {
	if s.write != nil {
		if err := s.write(w); err != nil {
			return snapshot.Written{}, err
		}
	}
	return s.Sink.Write(ctx, w)
}

// configuredOnce is an instance that is gone once a table was configured.
type configuredOnce struct {
	snapshot.Sink
	done bool
}

func (c *configuredOnce) Configure(ctx context.Context, t manifest.Table) error {
	if c.done {
		return errors.New("gone")
	}
	c.done = true
	return c.Sink.Configure(ctx, t)
}

// TestAJournalIsNotBelievedOfATableThatSaysOtherwise interrupts a restore into an
// empty table, puts another in its place, and forges what a table had.
func TestAJournalIsNotBelievedOfATableThatSaysOtherwise(t *testing.T) {
	s, a := altered(t)
	r := restoring(t, s, a, "target")
	goOn, path := journaled(t, r, "plain")
	run := func(mode snapshot.RestoreMode, to snapshot.Sink) error {
		t.Helper()
		r := r
		r.Mode, r.To = mode, to
		return goOn(r)
	}
	refused := errors.New("refused")
	gone := func() snapshot.Sink {
		return &configuredOnce{Sink: sinkWith{Sink: r.To, write: func() error { return refused }}}
	}
	if err := run(snapshot.Overwrite, gone()); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	state, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, forged := range map[string]string{
		"another time to live": strings.Replace(string(state), `"ttl":-1`, `"ttl":1`, 1),
		"no plan":              regexp.MustCompile(`(?m)^.*"step":"plan".*\n`).ReplaceAllString(string(state), ""),
	} {
		if err := os.WriteFile(path, []byte(forged), 0o600); err != nil || forged == string(state) {
			t.Fatal(name, err)
		}
		if err := run(snapshot.Overwrite, r.To); !errors.Is(err, snapshot.ErrPlan) {
			t.Errorf("%s: got %v, want ErrPlan", name, err)
		}
	}
	if err := os.WriteFile(path, state, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(snapshot.Overwrite, r.To); err != nil {
		t.Errorf("as it was: %v", err)
	}

	c := s.client("target")
	recreate := func() {
		t.Helper()
		if _, err := c.DeleteTable(&sdk.DeleteTableRequest{TableName: "plain"}); err != nil {
			t.Fatal(err)
		}
		createTable(t, c, "plain", 1, "k:STRING")
	}
	recreate()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := run(snapshot.FillEmpty, gone()); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	recreate()
	putRow(t, c, "plain", map[string]any{"k": "precious"}, []string{"k"}, cell{name: "n", value: int64(1)})
	if err := run(snapshot.FillEmpty, r.To); !errors.Is(err, snapshot.ErrPlan) || !strings.Contains(err.Error(), "it has rows") {
		t.Errorf("another table in its place: %v", err)
	}
}

// TestWhatATableCannotTakeIsFoundBefore plans restores into tables that keep less.
func TestWhatATableCannotTakeIsFoundBefore(t *testing.T) {
	s := newService(t)
	fillRagged(t, s.client("source"))
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "ragged")
	c := s.client("target")
	createTable(t, c, "ragged", 1, "id:INTEGER", "raw:BINARY")
	r := restoring(t, s, a, "target")
	r.Mode = snapshot.Overwrite
	if _, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "it keeps 1 versions of a cell, and the signed one 5") {
		t.Errorf("fewer versions: %v", err)
	}
	options := &sdk.TableOption{TimeToAlive: 86400, MaxVersion: 5, DeviationCellVersionInSec: 86400}
	if _, err := c.UpdateTable(&sdk.UpdateTableRequest{TableName: "ragged", TableOption: options}); err != nil {
		t.Fatal(err)
	}
	r.Now = func() time.Time { return time.Now().Add(48 * time.Hour) }
	if _, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "cells to be written are older") {
		t.Errorf("a time to live: %v", err)
	}
	if empty, err := r.Check.Describe(t.Context(), "ragged"); err != nil || empty.Options.Deviation != 86400 {
		t.Errorf("options %+v, %v", empty.Options, err)
	}
}
