package tablestore

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// faults are the ways the local server goes wrong, and the actions that must
// survive each.
var faults = map[local.FaultKind][]string{
	local.FaultBusy:        everyAction,
	local.FaultUnavailable: everyAction,
	local.FaultInternal:    everyAction,
	local.FaultNotReady:    everyAction,
	local.FaultTooFrequent: everyAction,
	local.FaultCutBefore:   everyAction,
	local.FaultTimeout:     everyAction,
	local.FaultCutAfter:    everyAction,
	local.FaultTruncate:    everyAction,
	local.FaultFlip:        everyAction,
	local.FaultCorrupt:     {"GetRange"},
	local.FaultRows:        {"BatchWriteRow"},
	local.FaultRowsTimeout: {"BatchWriteRow"},
	local.FaultEmptyPage:   {"GetRange"},
}

var everyAction = []string{
	"ListTable", "CreateTable", "DescribeTable", "UpdateTable", "ComputeSplitPointsBySize", "BatchWriteRow", "GetRange",
}

func TestEveryFaultIsSurvived(t *testing.T) {
	for kind, actions := range faults {
		t.Run(string(kind), func(t *testing.T) {
			s := newStage(t)
			var list []local.Fault
			for _, action := range actions {
				list = append(list, local.Fault{Action: action, Kind: kind, Times: 2})
			}
			if err := s.server.Misbehave(list...); err != nil {
				t.Fatal(err)
			}
			in := s.open(t, pageLimit(100))
			var mu sync.Mutex
			failed := make(map[string]bool)
			in.onRetry = func(r Retry) {
				mu.Lock()
				defer mu.Unlock()
				failed[r.Action] = true
				if !errors.Is(r.Err, snapshot.ErrUnavailable) {
					t.Errorf("%s is said to be %v", kind, r.Err)
				}
			}
			wholeLife(t, in, orders)
			if err := s.server.Misbehave(); err != nil {
				t.Fatal(err)
			}
			compareRows(t, wire(s.read(t, orders)), wire(lifeRows))
			for _, action := range actions {
				if !failed[action] && !harmless(kind, action) {
					t.Errorf("%s never failed", action)
				}
			}
		})
	}
}

// harmless reports whether a fault leaves an answer what it was: one without
// bytes has none to lose, and a page without rows is no fault.
func harmless(kind local.FaultKind, action string) bool {
	return kind == local.FaultEmptyPage ||
		action == "CreateTable" && (kind == local.FaultTruncate || kind == local.FaultFlip)
}

// lifeRows are what is in a table after wholeLife.
var lifeRows = sample(400, 11)

// wholeLife makes a table, fills, finishes, lists, describes, splits and reads it.
func wholeLife(t *testing.T, in *Instance, table manifest.Table) {
	t.Helper()
	table.Options = manifest.Options{TTL: -1, MaxVersions: 1000, Deviation: 1e10, AllowUpdate: true}
	mustCreate(t.Context(), t, in, table)
	mustWrite(t, in, table, lifeRows)
	if err := in.Configure(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	if names, err := in.Tables(t.Context()); err != nil || !slices.Contains(names, table.Name) {
		t.Errorf("tables are %v, %v", names, err)
	}
	described, err := in.Describe(t.Context(), table.Name)
	if err != nil || described.Options != table.Options || !slices.Equal(described.Key, table.Key) {
		t.Errorf("described as %+v, %v", described, err)
	}
	if _, err := in.Split(t.Context(), table, 20_000); err != nil {
		t.Error(err)
	}
	got, err := scan(t, in, snapshot.Scan{Table: table, Layout: layoutOf(t, table), Rows: 64})
	if err != nil {
		t.Fatal(err)
	}
	compareRows(t, got, wire(lifeRows))
}

// lateLife inserts into a table that is full, deletes some of its rows and makes
// indexes of the rest. It returns the names of those.
func lateLife(t *testing.T, in *Instance, table manifest.Table) (secondary, search string) {
	t.Helper()
	l := layoutOf(t, table)
	got, err := in.Write(t.Context(), snapshot.Write{Table: table, Layout: l, Record: record(t, l, lifeRows), Insert: true})
	if want := (snapshot.Written{Kept: int64(len(lifeRows))}); got != want || err != nil {
		t.Errorf("inserted %+v, %v", got, err)
	}
	if err := in.Delete(t.Context(), table, keysOf(t, l, lifeRows[:10])); err != nil {
		t.Error(err)
	}
	table.Options = manifest.Options{TTL: -1, MaxVersions: 1, Deviation: 86400, AllowUpdate: true}
	if err := in.Configure(t.Context(), table); err != nil {
		t.Error(err)
	}
	index := manifest.Index{Name: table.Name + "_by_id", Type: "GLOBAL", Key: []string{"id"}, Columns: []string{"price"}}
	if err := in.CreateIndex(t.Context(), table, index); err != nil {
		t.Error(err)
	}
	words := manifest.SearchIndex{Name: "words", Schema: `{"FieldSchemas":[{"FieldName":"name","FieldType":"TEXT"}]}`}
	if err := in.CreateSearchIndex(t.Context(), table, words); err != nil {
		t.Error(err)
	}
	described, err := in.Describe(t.Context(), table.Name)
	if err != nil || len(described.Indexes) != 1 || indexDifference(table, described.Indexes[0], index) != "" || len(described.SearchIndexes) != 1 {
		t.Errorf("described as %+v, %v", described, err)
	}
	return index.Name, words.Name
}

func TestLateLife(t *testing.T) {
	in := newStage(t).open(t)
	wholeLife(t, in, orders)
	lateLife(t, in, orders)
}

// TestLive runs against a real instance: OTSNAP_TEST_TABLESTORE is its address,
// ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET its key. It
// makes tables and drops them.
func TestLive(t *testing.T) {
	address := os.Getenv("OTSNAP_TEST_TABLESTORE")
	if address == "" {
		t.Skip("OTSNAP_TEST_TABLESTORE names no instance")
	}
	c, err := ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	c.AccessKeyID = os.Getenv("ALIBABA_CLOUD_ACCESS_KEY_ID")
	c.AccessKeySecret = os.Getenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET")
	in, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	table := orders
	table.Name = fmt.Sprintf("otsnap_test_%d", time.Now().UnixNano())
	sdk := ots.NewClient(c.Endpoint, c.Instance, c.AccessKeyID, c.AccessKeySecret)
	t.Cleanup(func() {
		if _, err := sdk.DeleteTable(&ots.DeleteTableRequest{TableName: table.Name}); err != nil {
			t.Error(err)
		}
	})
	s := &stage{sdk: sdk}
	wholeLife(t, in, table)
	compareRows(t, wire(s.read(t, table)), wire(lifeRows))
	secondary, search := lateLife(t, in, table)
	if _, err := sdk.DeleteIndex(&ots.DeleteIndexRequest{MainTableName: table.Name, IndexName: secondary}); err != nil {
		t.Error(err)
	}
	if _, err := sdk.DeleteSearchIndex(&ots.DeleteSearchIndexRequest{TableName: table.Name, IndexName: search}); err != nil {
		t.Error(err)
	}

	chosen := events
	chosen.Name = table.Name + "_events"
	mustCreate(t.Context(), t, in, chosen)
	t.Cleanup(func() {
		if _, err := sdk.DeleteTable(&ots.DeleteTableRequest{TableName: chosen.Name}); err != nil {
			t.Error(err)
		}
	})
	rows := someEvents(250, 100)
	if got, err := generateKeys(t.Context(), t, in, chosen, rows); got.Rows != int64(len(rows)) || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	compareRows(t, wire(madeOf(t, s, chosen)), wire(rows))
}

// A cell whose checksum stays wrong is the service's trouble, not the data's.
func TestCorruptionForEverIsNamed(t *testing.T) {
	s := newStage(t)
	s.create(t, orders)
	s.fill(t, orders, sample(50, 12))
	if err := s.server.Misbehave(local.Fault{Action: "GetRange", Kind: local.FaultCorrupt}); err != nil {
		t.Fatal(err)
	}
	in := s.open(t)
	in.giveUpAfter = time.Second
	_, err := scan(t, in, snapshot.Scan{Table: orders, Layout: layoutOf(t, orders)})
	if !errors.Is(err, snapshot.ErrUnavailable) || !strings.Contains(err.Error(), "table orders") || !strings.Contains(err.Error(), "given up after") {
		t.Errorf("got %v", err)
	}
}
