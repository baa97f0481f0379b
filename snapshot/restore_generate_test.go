package snapshot_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// generated are tables with an AUTO_INCREMENT column, id, at each place it can
// have in a key, and columns after it.
var generated = map[string][]string{
	"second": {"g:STRING", "id"},
	"third":  {"g:STRING", "h:BINARY", "id"},
	"fourth": {"g:STRING", "h:INTEGER", "i:STRING", "id"},
	"middle": {"g:STRING", "id", "tail:STRING", "end:INTEGER"},
}

func createGenerated(t testing.TB, c *sdk.TableStoreClient, table string) {
	t.Helper()
	meta := &sdk.TableMeta{TableName: table}
	types := map[string]sdk.PrimaryKeyType{"STRING": sdk.PrimaryKeyType_STRING, "INTEGER": sdk.PrimaryKeyType_INTEGER, "BINARY": sdk.PrimaryKeyType_BINARY}
	for _, k := range generated[table] {
		name, of, plain := strings.Cut(k, ":")
		if !plain {
			meta.AddPrimaryKeyColumnOption(name, sdk.PrimaryKeyType_INTEGER, sdk.AUTO_INCREMENT)
			continue
		}
		meta.AddPrimaryKeyColumn(name, types[of])
	}
	_, err := c.CreateTable(&sdk.CreateTableRequest{
		TableMeta:          meta,
		TableOption:        &sdk.TableOption{TimeToAlive: -1, MaxVersion: 3, DeviationCellVersionInSec: 1e12},
		ReservedThroughput: &sdk.ReservedThroughput{},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fillGenerated makes such a table with groups of perGroup rows, of which many are
// alike in all but their id.
func fillGenerated(t testing.TB, c *sdk.TableStoreClient, table string, groups, perGroup int) {
	t.Helper()
	createGenerated(t, c, table)
	for n := 0; n < groups*perGroup; n += 200 {
		request := &sdk.BatchWriteRowRequest{}
		for i := n; i < min(groups*perGroup, n+200); i++ {
			request.AddRowChange(generatedRow(table, i%groups, i/groups))
		}
		response, err := c.BatchWriteRow(request)
		if err != nil {
			t.Fatal(err)
		}
		for _, result := range response.TableToRowsResult[table] {
			if !result.IsSucceed {
				t.Fatal(result.Error)
			}
		}
	}
}

func generatedRow(table string, group, i int) *sdk.PutRowChange {
	change := &sdk.PutRowChange{TableName: table, PrimaryKey: &sdk.PrimaryKey{}}
	for _, k := range generated[table] {
		name, _, plain := strings.Cut(k, ":")
		switch {
		case !plain:
			change.PrimaryKey.AddPrimaryKeyColumnWithAutoIncrement(name)
		case name == "h" && strings.HasSuffix(k, "BINARY"):
			change.PrimaryKey.AddPrimaryKeyColumn(name, []byte{0, byte(group)})
		case name == "h":
			change.PrimaryKey.AddPrimaryKeyColumn(name, int64(-group))
		case name == "end":
			change.PrimaryKey.AddPrimaryKeyColumn(name, int64(i%2))
		case name == "tail":
			change.PrimaryKey.AddPrimaryKeyColumn(name, fmt.Sprint("tail ", i%5))
		default:
			change.PrimaryKey.AddPrimaryKeyColumn(name, fmt.Sprint("group ", group))
		}
	}
	if i%7 > 0 { // or a row of its key alone
		change.AddColumnWithTimestamp("n", int64(i/3), 1000)
		change.AddColumnWithTimestamp("n", int64(-1), 900)
		change.AddColumnWithTimestamp("text", strings.Repeat("text ", 5+i%3), 1000+int64(i%2))
	}
	change.SetCondition(sdk.RowExistenceExpectation_IGNORE)
	return change
}

// keyMap is what a restore told of keys.
type keyMap struct {
	mu      sync.Mutex
	was, is []manifest.Key
}

func (m *keyMap) add(_ manifest.Table, was, is manifest.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.was, m.is = append(m.was, was), append(m.is, is)
	return nil
}

// blank returns rows by their keys, without the values of the column id.
func blank(t *testing.T, key []manifest.KeyColumn, batches iter.Seq2[row.Batch, error], columns []manifest.Column) map[string]string {
	t.Helper()
	encoder := row.NewEncoder(row.Layout{Key: key, Columns: columns})
	encoder.Replace(slices.IndexFunc(key, func(k manifest.KeyColumn) bool { return k.Name == "id" }), 0)
	found := map[string]string{}
	for batch, err := range batches {
		if err == nil {
			err = encoder.Reset(batch.Record)
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(batch.Record.NumRows()) {
			wire, err := encoder.AppendRow(nil, i)
			if err != nil {
				t.Fatal(err)
			}
			found[string(encoder.AppendKey(nil, i))] = string(wire)
		}
	}
	return found
}

// check holds a restored table against its source: the map leads from each row to
// one that has all but its id in common, and there is no other.
func (m *keyMap) check(t *testing.T, e snapshot.Entry, from, to snapshot.Source) {
	t.Helper()
	table := e.Manifest.Tables[0].Table
	scan := snapshot.Scan{Table: table, Layout: row.Layout{Key: table.Key, Columns: table.Columns}}
	old := blank(t, table.Key, from.Scan(t.Context(), scan), table.Columns)
	live := blank(t, table.Key, to.Scan(t.Context(), scan), table.Columns)
	if len(old) != len(live) || len(old) != len(m.was) {
		t.Fatalf("%d rows before, %d after, %d in the map", len(old), len(live), len(m.was))
	}
	if !slices.IsSortedFunc(m.was, func(a, b manifest.Key) int { return bytes.Compare(a, b) }) {
		t.Error("the map is not in the order of the old keys")
	}
	for i := range m.was {
		was, is := string(m.was[i]), string(m.is[i])
		if signed, ok := old[was]; !ok || live[is] != signed {
			t.Fatalf("%s became %s, which is another row, or was used before", row.FormatKey(table.Key, m.was[i]), row.FormatKey(table.Key, m.is[i]))
		}
		delete(old, was)
		delete(live, is)
	}
}

// memoryInstance is an instance in memory, in which writes can go wrong in ways
// that would need a service broken at the right moment.
type memoryInstance struct {
	mu    sync.Mutex
	table *manifest.Table
	rows  map[string][]byte
	keys  []string // of the rows, in order
	last  int64
	read  int // rows, in all scans

	// meet decides what becomes of a request for some rows: those of which it says so
	// are written.
	meet func(rows int) (written func(i int) bool, err error)
	late time.Duration // rows of a request with an error that are not written then are this much later
}

var (
	_ snapshot.Sink   = (*memoryInstance)(nil)
	_ snapshot.Source = (*memoryInstance)(nil)
)

func (m *memoryInstance) Instance() manifest.Instance { return manifest.Instance{Name: "memory"} }

func (m *memoryInstance) Tables(context.Context) ([]string, error) { return nil, nil }

func (m *memoryInstance) Split(context.Context, manifest.Table, int64) ([]manifest.Key, error) {
	return nil, nil
}

func (m *memoryInstance) Describe(context.Context, string) (manifest.Table, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.table == nil {
		return manifest.Table{}, fs.ErrNotExist
	}
	return *m.table, nil
}

func (m *memoryInstance) Create(_ context.Context, table manifest.Table) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	table.Options = manifest.Options{TTL: -1, MaxVersions: -1, Deviation: snapshot.MaxDeviation, AllowUpdate: true, UpdateFullRow: table.Options.UpdateFullRow}
	m.table, m.rows, m.keys, m.read = &table, map[string][]byte{}, nil, 0
	return nil
}

func (m *memoryInstance) Configure(_ context.Context, table manifest.Table) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.table = &table
	return nil
}

func (m *memoryInstance) Delete(context.Context, manifest.Table, []manifest.Key) error {
	return errors.New("nothing is to be deleted")
}

func (m *memoryInstance) CreateIndex(context.Context, manifest.Table, manifest.Index) error {
	return errors.ErrUnsupported
}

func (m *memoryInstance) CreateSearchIndex(context.Context, manifest.Table, manifest.SearchIndex) error {
	return errors.ErrUnsupported
}

// Write sends requests of 20 rows.
func (m *memoryInstance) Write(ctx context.Context, w snapshot.Write) (snapshot.Written, error) {
	var done snapshot.Written
	if !w.Generate {
		return done, errors.New("keys are to be generated")
	}
	encoder := row.NewEncoder(w.Layout)
	if err := encoder.Reset(w.Record); err != nil {
		return done, err
	}
	column := slices.IndexFunc(w.Table.Key, func(k manifest.KeyColumn) bool { return k.AutoIncrement })
	n := int(w.Record.NumRows())
	for i := 1; i < n; i++ {
		if bytes.Compare(encoder.AppendKey(nil, i-1), encoder.AppendKey(nil, i)) >= 0 {
			return done, errors.New("rows are out of order")
		}
	}
	for begin := 0; begin < n; begin += 20 {
		size := min(20, n-begin)
		written, failed := func(int) bool { return true }, error(nil)
		if m.meet != nil {
			written, failed = m.meet(size)
		}
		for i := range size {
			put := func() { m.put(encoder, column, begin+i) }
			switch {
			case written(i):
				put()
			case m.late > 0:
				w.Record.Retain()
				time.AfterFunc(m.late, put)
			}
		}
		if failed != nil {
			return done, failed
		}
		done.Rows += int64(size)
	}
	return done, ctx.Err()
}

// put writes a row under the next value, not always one more.
func (m *memoryInstance) put(encoder *row.Encoder, column, i int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last += 1 + m.last%3
	encoder.Replace(column, m.last)
	wire, err := encoder.AppendRow(nil, i)
	if err != nil {
		panic(err)
	}
	r, err := row.Parse(wire)
	if err != nil {
		panic(err)
	}
	var key manifest.Key
	for _, v := range r.Key {
		key = row.AppendKey(key, v)
	}
	m.set(string(key), wire)
}

// set puts a row, or removes it if it is nil.
func (m *memoryInstance) set(key string, wire []byte) {
	i, there := slices.BinarySearch(m.keys, key)
	switch {
	case wire == nil && there:
		m.keys = slices.Delete(m.keys, i, i+1)
	case wire != nil && !there:
		m.keys = slices.Insert(m.keys, i, key)
	}
	m.rows[key] = wire
}

// Scan reads pages of 30 rows, each as the table is when it is asked for.
func (m *memoryInstance) Scan(_ context.Context, scan snapshot.Scan) iter.Seq2[row.Batch, error] {
	return func(yield func(row.Batch, error) bool) {
		builder := row.NewBuilder(memory.DefaultAllocator, scan.Layout)
		from, more := string(scan.From), true
		for more {
			m.mu.Lock()
			first, _ := slices.BinarySearch(m.keys, from)
			keys := m.keys[first:min(len(m.keys), first+30)]
			more = len(keys) == 30
			m.read += len(keys)
			for _, k := range keys {
				if _, err := builder.Append(m.rows[k]); err != nil {
					panic(err)
				}
				from = k + "\x00"
			}
			m.mu.Unlock()
			if builder.Rows() > 0 && !yield(builder.Batch(), nil) {
				return
			}
		}
	}
}

// generating restores one table of a new archive into an instance in memory.
func generating(t *testing.T, table string, groups, perGroup int) (r snapshot.Restore, to *memoryInstance, e snapshot.Entry, from snapshot.Source) {
	t.Helper()
	s := newService(t)
	fillGenerated(t, s.client("source"), table, groups, perGroup)
	a, key := newArchive(t, new(archivetest.Memory))
	e = export(t, s, a, key, table)
	to = &memoryInstance{}
	return snapshot.Restore{From: a, To: to, Check: to, Generate: true}, to, e, s.instance(t, "source")
}

func TestTheServiceChoosesKeysAndTheMapTellsWhich(t *testing.T) {
	for table := range generated {
		t.Run(table, func(t *testing.T) {
			r, to, e, from := generating(t, table, 5, 300)
			if e.Manifest.Totals.Chunks < 4 {
				t.Fatalf("%d chunks, want several", e.Manifest.Totals.Chunks)
			}
			told := new(keyMap)
			r.KeyMap = told.add
			report, err := r.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := report.Tables[0]; got.Rows != 1500 || got.Decoded != 1500 || got.Acknowledged != 1500 || got.Counted != 1500 || got.Chunks != e.Manifest.Totals.Chunks {
				t.Errorf("counts do not close: %+v", got)
			}
			told.check(t, e, from, to)
			if !slices.IsSortedFunc(told.is, func(a, b manifest.Key) int { return bytes.Compare(a, b) }) {
				t.Error("the new keys are not in the order of the old ones")
			}
		})
	}
}

// unsurely has requests end unknown, some of their rows written, with the
// probability p.
func unsurely(dice *rand.Rand, p float64) func(int) (func(int) bool, error) {
	return func(int) (func(int) bool, error) {
		if dice.Float64() >= p {
			return func(int) bool { return true }, nil
		}
		share := []float64{0, 0.5, 1}[dice.IntN(3)]
		return func(int) bool { return dice.Float64() < share }, fmt.Errorf("a request: %w", snapshot.ErrUnsure)
	}
}

// seeds is how many dice a test is repeated with.
func seeds(n int) uint64 {
	if testing.Short() {
		return uint64(n) / 8
	}
	return uint64(n)
}

func TestNoRowIsGeneratedTwiceWhateverBecomesOfWrites(t *testing.T) {
	for table := range generated {
		r, to, e, from := generating(t, table, 3, 200)
		for seed := range seeds(8) {
			t.Run(fmt.Sprint(table, " ", seed), func(t *testing.T) {
				told := new(keyMap)
				to.table, to.meet = nil, unsurely(rand.New(rand.NewPCG(seed, 0)), 0.3)
				r.KeyMap = told.add
				synctest.Test(t, func(t *testing.T) {
					if _, err := r.Run(t.Context()); err != nil {
						t.Fatal(err)
					}
				})
				told.check(t, e, from, to)
			})
		}
	}
}

func TestAKilledRestoreOfGeneratedKeysIsResumed(t *testing.T) {
	r, to, e, from := generating(t, "middle", 4, 250)
	head := snapshot.JournalHead{Snapshot: e.Manifest.Snapshot, Tables: []string{"middle"}}
	kills := 0
	for seed := range seeds(30) {
		dice := rand.New(rand.NewPCG(seed, 1))
		path := filepath.Join(t.TempDir(), "journal")
		to.table = nil
		for done := false; !done; {
			ctx, kill := context.WithCancel(t.Context())
			left := dice.IntN(40)
			to.meet = func(rows int) (func(int) bool, error) {
				if left--; left >= 0 {
					return func(int) bool { return true }, nil
				}
				kill()
				kills++
				return func(int) bool { return dice.IntN(2) == 0 }, fmt.Errorf("killed: %w, %w", context.Canceled, snapshot.ErrUnsure)
			}
			journal, err := snapshot.OpenJournal(path, head)
			if err != nil {
				t.Fatal(err)
			}
			told := new(keyMap)
			r.Journal, r.KeyMap, r.Settle = journal, told.add, time.Nanosecond
			report, err := r.Run(ctx)
			kill()
			if done = err == nil; done {
				told.check(t, e, from, to)
				if got := report.Tables[0]; got.Decoded != 1000 || got.Acknowledged != 1000 || got.Counted != 1000 {
					t.Errorf("counts do not close: %+v", got)
				}
			} else if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if err := journal.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if kills < 5 {
		t.Errorf("%d kills, want more", kills)
	}
}

// TestAResumedRestoreWritesNoGeneratedRowAgain resumes after the table got its options.
func TestAResumedRestoreWritesNoGeneratedRowAgain(t *testing.T) {
	r, to, e, _ := generating(t, "second", 2, 100)
	head := snapshot.JournalHead{Snapshot: e.Manifest.Snapshot, Tables: []string{"second"}}
	path := filepath.Join(t.TempDir(), "journal")
	for range 2 {
		journal, err := snapshot.OpenJournal(path, head)
		if err != nil {
			t.Fatal(err)
		}
		r.Journal, r.Settle = journal, time.Nanosecond
		report, err := r.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := report.Tables[0]; got.Rows != 200 || got.Decoded != 200 || got.Acknowledged != 200 || got.Counted != 200 {
			t.Errorf("counts do not close: %+v", got)
		}
		if err := journal.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(to.rows) != 200 {
			t.Errorf("%d rows are there, want 200", len(to.rows))
		}
	}
}

func TestAServiceThatNeverTellsIsGivenUp(t *testing.T) {
	r, to, _, _ := generating(t, "second", 2, 100)
	requests := 0
	to.meet = func(int) (func(int) bool, error) {
		requests++
		return func(int) bool { return false }, fmt.Errorf("no answer: %w, %w", snapshot.ErrUnsure, snapshot.ErrUnavailable)
	}
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		_, err := r.Run(t.Context())
		if !errors.Is(err, snapshot.ErrUnsure) || !errors.Is(err, snapshot.ErrUnavailable) || errors.Is(err, snapshot.ErrDiffers) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begun); requests != 11 || took != 10*snapshot.DefaultSettle {
			t.Errorf("given up after %d requests and %s", requests, took)
		}
	})
}

// onStage has something done when a stage of a restore begins.
func onStage(stage string, do func()) func(snapshot.Event) {
	return func(e snapshot.Event) {
		if e.Stage == stage && do != nil {
			do()
			do = nil
		}
	}
}

// copyAs puts a copy of the i-th row under the id of a key, for the row that has it
// if there is one.
func (m *memoryInstance) copyAs(t *testing.T, i int, key manifest.Key) {
	t.Helper()
	builder := row.NewBuilder(memory.DefaultAllocator, row.Layout{Key: m.table.Key})
	if _, err := builder.Append(m.rows[m.keys[i]]); err != nil {
		t.Fatal(err)
	}
	encoder := row.NewEncoder(row.Layout{Key: m.table.Key})
	if err := encoder.Reset(builder.Batch().Record); err != nil {
		t.Fatal(err)
	}
	_, id, err := row.CutKey(m.table.Key, key, 1)
	if err != nil {
		t.Fatal(err)
	}
	encoder.Replace(1, int64(binary.BigEndian.Uint64(id)^1<<63))
	wire, err := encoder.AppendRow(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.set(string(key), wire)
}

func TestRowsThatAreNotTheOnesGeneratedAreNamed(t *testing.T) {
	r, to, _, _ := generating(t, "second", 3, 100)
	told := new(keyMap)
	r.KeyMap = told.add
	r.Progress = onStage("compare", func() {
		keys := slices.Clone(to.keys) // 100 of each group
		group, _, err := row.CutKey(to.table.Key, manifest.Key(keys[233]), 1)
		if err != nil {
			t.Fatal(err)
		}
		to.copyAs(t, 233, row.AppendKey(slices.Clone(group), row.IntegerValue(1<<40)))
		to.set(keys[133], nil)
		to.copyAs(t, 31, manifest.Key(keys[33]))
	})
	report, err := r.Run(t.Context())
	if !errors.Is(err, snapshot.ErrDiffers) {
		t.Fatalf("got %v, want ErrDiffers", err)
	}
	got := report.Tables[0]
	if got.Missing != 1 || got.Extra != 1 || got.Changed != 1 || got.Rows != 300 || got.Counted != 300 {
		t.Errorf("got %+v", got)
	}
	kinds := map[string]string{}
	for _, d := range got.Differences {
		kinds[d.Kind] = d.Key
	}
	for kind, group := range map[string]string{"changed": "group 0", "missing": "group 1", "extra": "group 2"} {
		if !strings.Contains(kinds[kind], group) {
			t.Errorf("%s is %q, want a row of %s", kind, kinds[kind], group)
		}
	}
	if len(told.was) != 298 {
		t.Errorf("the map has %d rows, want the 298 that are as they were", len(told.was))
	}
}

// TestLookingAgainReadsWhatIsNew has one request in ten end unknown, in a table of
// one group, where every look could read all of it.
func TestLookingAgainReadsWhatIsNew(t *testing.T) {
	r, to, e, from := generating(t, "second", 1, 4000)
	to.meet = unsurely(rand.New(rand.NewPCG(1, 2)), 0.1)
	told, read := new(keyMap), 0
	r.KeyMap, r.Progress = told.add, onStage("compare", func() { read = to.read })
	synctest.Test(t, func(t *testing.T) {
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	told.check(t, e, from, to)
	if read > 6000 {
		t.Errorf("%d rows were read to write 4000", read)
	}
}

// TestRowsOfAnotherTableDoNotFillMemory compares with a table that has 2 MB in
// every row, and none of the rows that were signed.
func TestRowsOfAnotherTableDoNotFillMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("fills 64 MiB")
	}
	r, to, e, from := generating(t, "second", 1, 40)
	table := e.Manifest.Tables[0].Table
	change := generatedRow("second", 0, 0)
	change.AddColumnWithTimestamp("blob", make([]byte, 2_000_000), 1000)
	client := sdk.NewClient(from.Instance().Endpoint, "source", "local", "local")
	if _, err := client.PutRow(&sdk.PutRowRequest{PutRowChange: change}); err != nil {
		t.Fatal(err)
	}
	encoder, last := row.NewEncoder(row.Layout{Key: table.Key}), 0
	for batch, err := range from.Scan(t.Context(), snapshot.Scan{Table: table, Layout: row.Layout{Key: table.Key}}) {
		if err == nil {
			err = encoder.Reset(batch.Record)
		}
		if err != nil {
			t.Fatal(err)
		}
		last = int(batch.Record.NumRows()) - 1
	}
	r.Progress = onStage("compare", func() {
		to.rows, to.keys = map[string][]byte{}, nil
		for range 40 {
			to.put(encoder, 1, last)
		}
	})
	report, err := r.Run(t.Context())
	if !errors.Is(err, snapshot.ErrDiffers) || !strings.Contains(err.Error(), "64 MiB") {
		t.Fatalf("got %v, want ErrDiffers at 64 MiB", err)
	}
	if got := report.Tables[0]; got.Missing != 34 || got.Extra != 34 || len(got.Differences) != 20 {
		t.Errorf("%d missing, %d extra, %d named; want 34 that waited, and 20 named", got.Missing, got.Extra, len(got.Differences))
	}
}

// TestGeneratedKeysSurviveABadService restores through the service as it is when
// it fails.
func TestGeneratedKeysSurviveABadService(t *testing.T) {
	s := newService(t)
	archives := map[string]*snapshot.Archive{}
	entries := map[string]snapshot.Entry{}
	for table := range generated {
		fillGenerated(t, s.client("source"), table, 3, 300)
		a, key := newArchive(t, new(archivetest.Memory))
		archives[table], entries[table] = a, export(t, s, a, key, table)
	}
	tables := slices.Sorted(maps.Keys(generated))
	for i, kind := range []local.FaultKind{local.FaultRows, local.FaultRowsTimeout, local.FaultCutAfter, local.FaultTimeout, local.FaultBusy, local.FaultTruncate, local.FaultFlip, local.FaultEachRow} {
		table := tables[i%len(tables)]
		t.Run(fmt.Sprint(kind, " ", table), func(t *testing.T) {
			target := s.instance(t, "t-"+string(kind))
			told := new(keyMap)
			r := snapshot.Restore{From: archives[table], To: target, Check: target, Generate: true, KeyMap: told.add, Settle: time.Millisecond}
			if err := s.Misbehave(local.Fault{Action: "BatchWriteRow", Kind: kind, Probability: 0.4, Rows: 0.1}); err != nil {
				t.Fatal(err)
			}
			defer s.Misbehave()
			if _, err := r.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			told.check(t, entries[table], s.instance(t, "source"), target)
		})
	}
}

// TestAKilledRestoreOfGeneratedKeysLeavesNoneBehind ends restores at any moment,
// also with a request on its way.
func TestAKilledRestoreOfGeneratedKeysLeavesNoneBehind(t *testing.T) {
	s := newService(t)
	fillGenerated(t, s.client("source"), "third", 4, 500)
	a, key := newArchive(t, new(archivetest.Memory))
	e := export(t, s, a, key, "third")
	dice := rand.New(rand.NewPCG(3, 4))
	kills := 0
	for n := range seeds(30) {
		name := fmt.Sprint("t-", n)
		path := filepath.Join(t.TempDir(), "journal")
		var told *keyMap
		for done := false; !done; {
			ctx, stop := context.WithCancel(t.Context())
			after := dice.IntN(12)
			journal, err := snapshot.OpenJournal(path, snapshot.JournalHead{Tables: []string{"third"}})
			if err != nil {
				t.Fatal(err)
			}
			told = new(keyMap)
			listener := httptest.NewServer(s.Server)
			target := (&service{s.Server, listener.URL}).instance(t, name)
			r := snapshot.Restore{From: a, Check: target, Generate: true, KeyMap: told.add, Journal: journal, Settle: time.Nanosecond}
			r.To = killing{target, func() {
				if after--; after < 0 {
					time.AfterFunc(time.Duration(dice.IntN(3000))*time.Microsecond, stop)
				}
			}}
			_, err = r.Run(ctx)
			stop()
			listener.Close() // when it is done with what was sent
			if done = err == nil; !done {
				kills++
				if !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			}
			if err := journal.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		told.check(t, e, s.instance(t, "source"), s.instance(t, name))
	}
	if kills == 0 {
		t.Error("no restore was killed")
	}
}

// TestWritesThatComeLateAreWaitedFor has the service carry out what it was sent 3
// seconds after the attempt was given up, or its sender killed.
func TestWritesThatComeLateAreWaitedFor(t *testing.T) {
	for _, fail := range []error{snapshot.ErrUnsure, context.Canceled} {
		t.Run(fail.Error(), func(t *testing.T) {
			r, to, e, from := generating(t, "third", 2, 100)
			told, path := new(keyMap), filepath.Join(t.TempDir(), "journal")
			r.KeyMap = told.add
			to.late = 3 * time.Second
			synctest.Test(t, func(t *testing.T) {
				ctx, kill := context.WithCancel(t.Context())
				requests := 0
				to.meet = func(int) (func(int) bool, error) {
					if requests++; requests != 3 {
						return func(int) bool { return true }, nil
					}
					if errors.Is(fail, context.Canceled) {
						kill()
					}
					return func(i int) bool { return i%2 == 0 }, fail
				}
				run := func(ctx context.Context) error {
					journal, err := snapshot.OpenJournal(path, snapshot.JournalHead{Tables: []string{"third"}})
					if err != nil {
						t.Fatal(err)
					}
					defer journal.Close(ctx)
					r.Journal = journal
					_, err = r.Run(ctx)
					return err
				}
				err := run(ctx)
				if errors.Is(err, context.Canceled) {
					err = run(t.Context())
				}
				if err != nil {
					t.Fatal(err)
				}
			})
			told.check(t, e, from, to)
		})
	}
}

// killing does something before each part of a write. Its name does not tell which
// port it has.
type killing struct {
	snapshot.Sink
	before func()
}

func (k killing) Instance() manifest.Instance { return manifest.Instance{Name: "killing"} }

func (k killing) Write(ctx context.Context, w snapshot.Write) (snapshot.Written, error) {
	var all snapshot.Written
	for from := int64(0); from < w.Record.NumRows(); from += 200 {
		k.before()
		part := w
		part.Record = w.Record.NewSlice(from, min(w.Record.NumRows(), from+200))
		n, err := k.Sink.Write(ctx, part)
		all.Rows += n.Rows
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func TestGeneratedKeysAreForTablesWithoutRows(t *testing.T) {
	s := newService(t)
	fillGenerated(t, s.client("source"), "third", 3, 100)
	createGenerated(t, s.client("target"), "third")
	a, key := newArchive(t, new(archivetest.Memory))
	e := export(t, s, a, key, "third")
	target := s.instance(t, "target")
	before, err := target.Describe(t.Context(), "third")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		mode  snapshot.RestoreMode
		wrong string
	}{
		{snapshot.Insert, "mode insert is not for them"},
		{snapshot.Overwrite, "mode overwrite is not for them"},
		{snapshot.Repair, "mode repair is not for them"},
		{snapshot.CreateTables, "nothing was written"},
		{snapshot.FillEmpty, ""},
		{snapshot.FillEmpty, "it has rows"},
	} {
		told := new(keyMap)
		r := snapshot.Restore{From: a, To: target, Check: target, Generate: true, Mode: test.mode, KeyMap: told.add}
		_, err := r.Run(t.Context())
		if test.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("mode %s: got %v, want %q", test.mode, err, test.wrong)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		told.check(t, e, s.instance(t, "source"), target)
	}
	after, err := target.Describe(t.Context(), "third")
	if err != nil || after.Options != before.Options {
		t.Errorf("the table has options %+v, %v, before %+v", after.Options, err, before.Options)
	}
}

func TestSelectedRowsGetGeneratedKeys(t *testing.T) {
	r, to, e, _ := generating(t, "middle", 4, 100)
	table := e.Manifest.Tables[0].Table
	group := row.AppendKey(nil, row.StringValue("group 2"))
	where, err := row.ParseFilter("n >= 10")
	if err != nil {
		t.Fatal(err)
	}
	told := new(keyMap)
	r.KeyMap = told.add
	r.Rows = archive.Selection{Within: manifest.Range{From: group, To: row.Following(group)}, Where: where}
	report, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for i := range 100 {
		if i%7 > 0 && i/3 >= 10 {
			want++
		}
	}
	if got := report.Tables[0]; got.Rows != int64(want) || got.Counted != int64(want) || len(told.was) != want || len(to.keys) != want {
		t.Errorf("%d rows of %s, %d in the map, %d there; want %d", got.Rows, table.Name, len(told.was), len(to.keys), want)
	}
}
