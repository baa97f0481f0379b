package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// exportedAs makes one more snapshot in an archive of its own, in chunks of about
// that many bytes.
func exportedAs(t testing.TB, s *service, chunkBytes int64, tables ...string) (snapshot.Side, *watched) {
	t.Helper()
	store := &watched{Store: new(archivetest.Memory)}
	a, key := newArchive(t, store)
	run := exporting(t, s, a, key, tables...)
	run.ChunkBytes, run.SplitBytes = chunkBytes, 4*chunkBytes
	if _, err := run.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	entry, err := a.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	store.reset()
	return snapshot.Side{Archive: a, Entry: entry}, store
}

// rowsByKey is what the SDK says of a table, and keyText a key in the same way.
func rowsByKey(t testing.TB, c *sdk.TableStoreClient, table string, key ...string) map[string]string {
	rows := map[string]string{}
	for _, r := range scan(t, c, table, key...) {
		k, _, _ := strings.Cut(r, ", ")
		rows[strings.TrimSuffix(k, ",")] = r
	}
	return rows
}

func keyText(c snapshot.Change) string {
	r := c.Before
	if r == nil {
		r = c.After
	}
	var parts []string
	for _, v := range r.Key {
		parts = append(parts, string(v.AppendJSON(nil)))
	}
	return strings.Join(parts, ",")
}

// changesOf is what became of each row, from what the SDK said before and after.
func changesOf(before, after map[string]string) map[string]snapshot.ChangeKind {
	changes := map[string]snapshot.ChangeKind{}
	for key, row := range before {
		now, ok := after[key]
		if !ok {
			changes[key] = snapshot.Removed
		} else if now != row {
			changes[key] = snapshot.Changed
		}
	}
	for key := range after {
		if _, ok := before[key]; !ok {
			changes[key] = snapshot.Added
		}
	}
	return changes
}

// mangle changes rows of a plain table: some go, some get other cells, one that
// none had among them, and some come.
func mangle(t testing.TB, c *sdk.TableStoreClient, table string, rnd *rand.Rand, n, times int) {
	t.Helper()
	for i := range times {
		k := fmt.Sprintf("row-%06d", rnd.IntN(n))
		key := &sdk.PrimaryKey{}
		switch i % 4 {
		case 0:
			key.AddPrimaryKeyColumn("k", k)
			gone := &sdk.DeleteRowChange{TableName: table, PrimaryKey: key}
			gone.SetCondition(sdk.RowExistenceExpectation_IGNORE)
			if _, err := c.DeleteRow(&sdk.DeleteRowRequest{DeleteRowChange: gone}); err != nil {
				t.Fatal(err)
			}
		case 1:
			putRow(t, c, table, map[string]any{"k": k + "+"}, []string{"k"}, cell{name: "n", value: int64(i)})
		case 2:
			putRow(t, c, table, map[string]any{"k": k}, []string{"k"}, cell{name: "n", value: "text"}, cell{name: "fresh", value: true})
		case 3:
			putRow(t, c, table, map[string]any{"k": k}, []string{"k"})
		}
	}
}

func TestDiffFindsWhatTheSDKSays(t *testing.T) {
	rnd := rand.New(rand.NewPCG(61, 62))
	s := newService(t)
	c := s.client("source")
	fillPlain(t, c, "plain", 3000)
	for round, times := range []int{0, 3, 40, 2000} {
		a, _ := exportedAs(t, s, 24<<10, "plain")
		before := rowsByKey(t, c, "plain", "k")
		mangle(t, c, "plain", rnd, 3000, times)
		b, _ := exportedAs(t, s, []int64{24 << 10, 24 << 10, 100 << 10, 16 << 10}[round], "plain")
		after := rowsByKey(t, c, "plain", "k")
		want := changesOf(before, after)
		var last manifest.Key
		got := map[string]snapshot.ChangeKind{}
		report, err := snapshot.Diff{A: a, B: b, Workers: 3}.Run(t.Context(), func(change snapshot.Change) error {
			if slices.Compare(last, change.Key) >= 0 {
				t.Errorf("key %s follows %s", change.Key, last)
			}
			last = change.Key
			key := keyText(change)
			got[key] = change.Kind
			if change.Before != nil && text(change.Before) != before[key] || change.After != nil && text(change.After) != after[key] {
				t.Errorf("%s: rows are not those the service had", key)
			}
			if (change.Kind == snapshot.Changed) != (len(change.Cells()) > 0) {
				t.Errorf("%s: %s, but %d cells differ", key, change.Kind, len(change.Cells()))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d changes, want %d", len(got), len(want))
		}
		counts := report.Tables[0]
		if counts.Added+counts.Removed+counts.Changed != int64(len(want)) || counts.RowsA != int64(len(before)) || counts.RowsB != int64(len(after)) || report.Differs() != (times > 0) {
			t.Errorf("the report says %+v of %d changes", counts, len(want))
		}
		brief, err := snapshot.Diff{A: a, B: b, Brief: true}.Run(t.Context(), nil)
		if err != nil || !reflect.DeepEqual(brief.Tables, report.Tables) {
			t.Errorf("in brief: %+v, %v; want %+v", brief, err, report.Tables)
		}
		back, err := snapshot.Diff{A: b, B: a, Brief: true}.Run(t.Context(), nil)
		if err != nil || back.Tables[0].Added != counts.Removed || back.Tables[0].Removed != counts.Added || back.Tables[0].Changed != counts.Changed {
			t.Errorf("the other way round: %+v, %v; want the reverse of %+v", back, err, counts)
		}
	}
}

// TestDiffReadsOnlyWhatDiffers has one row of thousands changed, under a layout
// with another column.
func TestDiffReadsOnlyWhatDiffers(t *testing.T) {
	s := newService(t)
	c := s.client("source")
	fillPlain(t, c, "plain", 6000)
	a, storeA := exportedAs(t, s, 32<<10, "plain")
	putRow(t, c, "plain", map[string]any{"k": "row-000000"}, []string{"k"}, cell{name: "n", value: int64(0)},
		cell{name: "text", value: strings.Repeat("0 ", 20)}, cell{name: "fresh", value: true})
	b, storeB := exportedAs(t, s, 32<<10, "plain")
	if reflect.DeepEqual(tableOf(t, a.Entry, "plain").Table.Columns, tableOf(t, b.Entry, "plain").Table.Columns) {
		t.Fatal("the layouts are the same")
	}
	report, err := snapshot.Diff{A: a, B: b}.Run(t.Context(), func(snapshot.Change) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	_, chunksA := storeA.reset()
	_, chunksB := storeB.reset()
	total := tableOf(t, a.Entry, "plain").Totals.Chunks + tableOf(t, b.Entry, "plain").Totals.Chunks
	if report.Tables[0].Changed != 1 || report.Chunks.Read != int64(chunksA+chunksB) || report.Chunks.Read+report.Chunks.Skipped != total {
		t.Errorf("%+v, and %d and %d chunks were read of %d", report, chunksA, chunksB, total)
	}
	if int64(chunksA+chunksB) > total/2 {
		t.Errorf("%d and %d chunks were read of %d for one row", chunksA, chunksB, total)
	}
}

func TestDiffOfRowsOfEveryShape(t *testing.T) {
	s := newService(t)
	c := s.client("source")
	fillRagged(t, c)
	a, _ := exportedAs(t, s, 32<<20, "ragged")
	putRow(t, c, "ragged", map[string]any{"id": int64(-5), "raw": []byte{0}}, []string{"id", "raw"})
	b, store := exportedAs(t, s, 32<<20, "ragged")
	var added []string
	report, err := snapshot.Diff{A: a, B: b}.Run(t.Context(), func(c snapshot.Change) error {
		added = append(added, string(c.Kind)+" "+keyText(c))
		return nil
	})
	if _, chunks := store.reset(); err != nil || chunks != 1 || report.Chunks.Skipped != 0 {
		t.Errorf("%+v, %v; %d chunks were read", report, err, chunks)
	}
	if want := []string{`added -5,{"b64":"AA=="}`}; !slices.Equal(added, want) {
		t.Errorf("got %q, want %q", added, want)
	}
}

func TestDiffNamesWhatOneSideLacks(t *testing.T) {
	s := newService(t)
	c := s.client("source")
	fillPlain(t, c, "plain", 100)
	fillPlain(t, c, "other", 10)
	createTable(t, c, "empty", 1, "k:STRING")
	a, _ := exportedAs(t, s, 32<<10, "plain", "empty")
	if _, err := c.UpdateTable(&sdk.UpdateTableRequest{TableName: "empty", TableOption: &sdk.TableOption{TimeToAlive: 86400, MaxVersion: 1}}); err != nil {
		t.Fatal(err)
	}
	b, _ := exportedAs(t, s, 32<<10, "other", "empty")
	report, err := snapshot.Diff{A: a, B: b}.Run(t.Context(), func(c snapshot.Change) error {
		t.Errorf("%s of %s: %s", keyText(c), c.Table.Name, c.Kind)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []snapshot.DiffTable{
		{Name: "empty", Definition: []string{"options"}},
		{Name: "other", Only: "b", RowsB: 10, Added: 10, Definition: []string{}},
		{Name: "plain", Only: "a", RowsA: 100, Removed: 100, Definition: []string{}},
	}
	if !reflect.DeepEqual(report.Tables, want) || !report.Differs() {
		t.Errorf("got %+v, want %+v", report.Tables, want)
	}
}

func TestDiffOfTablesWithAnotherKey(t *testing.T) {
	s := newService(t)
	c := s.client("source")
	fillPlain(t, c, "plain", 100)
	a, _ := exportedAs(t, s, 32<<10, "plain")
	if _, err := c.DeleteTable(&sdk.DeleteTableRequest{TableName: "plain"}); err != nil {
		t.Fatal(err)
	}
	createTable(t, c, "plain", 1, "k:BINARY")
	putRow(t, c, "plain", map[string]any{"k": []byte("row-000001")}, []string{"k"})
	b, _ := exportedAs(t, s, 32<<10, "plain")
	report, err := snapshot.Diff{A: a, B: b}.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := report.Tables[0]; got.Added != 1 || got.Removed != 100 || !slices.Equal(got.Definition, []string{"primary key"}) {
		t.Errorf("got %+v", got)
	}
}

// TestDiffEndsWithItsCause ends by what the archive has, and by what the caller
// says.
func TestDiffEndsWithItsCause(t *testing.T) {
	s := newService(t)
	c := s.client("source")
	fillPlain(t, c, "plain", 3000)
	a, storeA := exportedAs(t, s, 24<<10, "plain")
	mangle(t, c, "plain", rand.New(rand.NewPCG(63, 64)), 3000, 100)
	b, _ := exportedAs(t, s, 24<<10, "plain")
	enough := errors.New("enough")
	if _, err := (snapshot.Diff{A: a, B: b}).Run(t.Context(), func(snapshot.Change) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v, want the caller's error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := (snapshot.Diff{A: a, B: b}).Run(ctx, func(snapshot.Change) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	cancel()
	objects := contents(t, storeA)
	for name, data := range objects {
		if strings.HasSuffix(name, ".parquet") {
			objects[name] = append(slices.Clone(data), 0)
		}
	}
	a.Archive = &snapshot.Archive{Store: storeWith(t, objects), Policy: a.Archive.Policy, Trust: a.Archive.Trust}
	if _, err := (snapshot.Diff{A: a, B: b}).Run(t.Context(), func(snapshot.Change) error { return nil }); !errors.Is(err, archive.ErrCorrupt) {
		t.Errorf("got %v, want %v", err, archive.ErrCorrupt)
	}
}
