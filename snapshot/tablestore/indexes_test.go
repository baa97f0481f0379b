package tablestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// catalogue is a table that can have indexes.
var catalogue = manifest.Table{
	Name:    "catalogue",
	Key:     orders.Key,
	Defined: []manifest.Column{{Name: "name", Type: manifest.String}, {Name: "price", Type: manifest.Double}, {Name: "stock", Type: manifest.Integer}},
	Options: manifest.Options{TTL: -1, MaxVersions: 1, Deviation: 86400, AllowUpdate: true},
}

// fillIndexed makes the table with rows and its options, as a restore does before
// it makes indexes.
func fillIndexed(t *testing.T, in *Instance, rows int) {
	t.Helper()
	mustCreate(t.Context(), t, in, catalogue)
	var list []*ots.Row
	for i := range rows {
		list = append(list, &ots.Row{PrimaryKey: key("CH", int64(i), nil), Columns: []*ots.AttributeColumn{
			{ColumnName: "name", Value: fmt.Sprint("n", i%7), Timestamp: 5},
			{ColumnName: "stock", Value: int64(i), Timestamp: 5},
		}})
	}
	mustWrite(t, in, catalogue, list)
	if err := in.Configure(t.Context(), catalogue); err != nil {
		t.Fatal(err)
	}
}

// indexes are of every kind.
var indexes = []manifest.Index{
	{Name: "by_name", Type: "GLOBAL", Key: []string{"name"}, Columns: []string{"price", "stock"}},
	{Name: "by_name_whole", Type: "GLOBAL", Key: []string{"name", "country", "id", "part"}, Columns: []string{}},
	{Name: "by_stock", Type: "GLOBAL", Key: []string{"stock", "name", "id"}, Columns: []string{"price"}},
	{Name: "local_name", Type: "LOCAL", Key: []string{"country", "name"}, Columns: []string{"stock"}},
}

func TestCreateIndexHoldsTheRows(t *testing.T) {
	s := newStageOf(t, local.Options{IndexBuild: 150 * time.Millisecond})
	in := s.open(t)
	fillIndexed(t, in, 50)
	for _, index := range indexes {
		t.Run(index.Name, func(t *testing.T) {
			for range 2 { // the second time it is there
				if err := in.CreateIndex(t.Context(), catalogue, index); err != nil {
					t.Fatal(err)
				}
			}
			of := manifest.Table{Name: index.Name}
			for _, name := range indexKey(catalogue, index.Key) {
				of.Key = append(of.Key, manifest.KeyColumn{Name: name})
			}
			if rows := s.read(t, of); len(rows) != 50 {
				t.Errorf("it holds %d rows", len(rows))
			}
		})
	}
	got, err := in.Describe(t.Context(), catalogue.Name)
	if err != nil || !reflect.DeepEqual(got.Indexes, indexes) {
		t.Errorf("described as %+v, %v", got.Indexes, err)
	}
	if names, err := in.Tables(t.Context()); err != nil || !slices.Equal(names, []string{"catalogue"}) {
		t.Errorf("tables are %q, %v", names, err)
	}
}

// The service describes the key of an index with or without what it added to it.
func TestIndexesAreComparedByTheirWholeKey(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*manifest.Index)
		want   string // a part of the error, nothing for none
	}{
		"as it is":             {func(*manifest.Index) {}, ""},
		"with the added key":   {func(x *manifest.Index) { x.Key = []string{"name", "country", "id", "part"} }, ""},
		"with a part of it":    {func(x *manifest.Index) { x.Key = []string{"name", "country"} }, ""},
		"columns reordered":    {func(x *manifest.Index) { x.Columns = []string{"stock", "price"} }, ""},
		"another order of key": {func(x *manifest.Index) { x.Key = []string{"name", "id"} }, "its key is (name, country, id, part), not (name, id, country, part)"},
		"another column":       {func(x *manifest.Index) { x.Columns = []string{"price"} }, "its columns are (price, stock), not (price)"},
		"another type":         {func(x *manifest.Index) { x.Type, x.Key = "LOCAL", []string{"country", "name"} }, "its type is GLOBAL, not LOCAL"},
		"that of a table":      {func(x *manifest.Index) { x.Name = "orders" }, "it is a table, or an index of another one"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			in := s.open(t)
			s.create(t, orders)
			fillIndexed(t, in, 0)
			if err := in.CreateIndex(t.Context(), catalogue, indexes[0]); err != nil {
				t.Fatal(err)
			}
			index := indexes[0]
			test.change(&index)
			err := in.CreateIndex(t.Context(), catalogue, index)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "table catalogue: secondary index "+index.Name+": ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A key that is described with all the service added may be longer than one can
// be asked for.
func TestIndexKeysAreAskedForAsTheyCan(t *testing.T) {
	table := manifest.Table{Name: "t"}
	for _, name := range []string{"a", "b", "c", "d"} {
		table.Key = append(table.Key, manifest.KeyColumn{Name: name, Type: manifest.Integer})
	}
	for _, test := range []struct{ described, asked string }{
		{"x", "x"},
		{"x a b c", "x a b c"},
		{"x a b c d", "x a b c"},
		{"x y a b c d", "x y a b"},
		{"x d c b a", "x d c b"},
		{"x y d a b c", "x y d a"},
		{"x y d c b a", "x y d c b a"}, // which the service refuses, in its own words
	} {
		meta, err := indexMeta(table, manifest.Index{Type: "GLOBAL", Key: strings.Fields(test.described)})
		if got := strings.Join(meta.GetPrimaryKey(), " "); got != test.asked || err != nil {
			t.Errorf("%s is asked for as %s, %v, want %s", test.described, got, err, test.asked)
		}
	}
}

func TestCreateIndexRefuses(t *testing.T) {
	in := newStage(t).open(t)
	index := indexes[0]
	if err := in.CreateIndex(t.Context(), catalogue, index); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing table gave %v", err)
	}
	index.Type = "ROUND"
	if err := in.CreateIndex(t.Context(), catalogue, index); err == nil || !strings.Contains(err.Error(), `it has type "ROUND"`) {
		t.Errorf("got %v", err)
	}
}

func TestIndexFaultsAreSurvived(t *testing.T) {
	search := manifest.SearchIndex{Name: "search", Schema: `{"FieldSchemas":[{"FieldName":"name","FieldType":"KEYWORD"}]}`}
	for kind, actions := range faults {
		if !slices.Contains(actions, "CreateTable") {
			continue
		}
		t.Run(string(kind), func(t *testing.T) {
			s := newStage(t)
			in := s.open(t)
			fillIndexed(t, in, 3)
			var list []local.Fault
			for _, action := range []string{"CreateIndex", "CreateSearchIndex", "DescribeTable", "DescribeSearchIndex", "ListSearchIndex", "GetRange"} {
				list = append(list, local.Fault{Action: action, Kind: kind, Times: 2})
			}
			if err := s.server.Misbehave(list...); err != nil {
				t.Fatal(err)
			}
			if err := in.CreateIndex(t.Context(), catalogue, indexes[0]); err != nil {
				t.Error(err)
			}
			if err := in.CreateSearchIndex(t.Context(), catalogue, search); err != nil {
				t.Error(err)
			}
			got, err := in.Describe(t.Context(), catalogue.Name)
			if err != nil || len(got.Indexes) != 1 || len(got.SearchIndexes) != 1 {
				t.Errorf("described as %+v, %v", got, err)
			}
		})
	}
}

// building is a service that takes its time to fill an index.
func building(full, unready time.Duration) *service {
	made := time.Now()
	return &service{answers: []answer{func(req *http.Request) (*http.Response, error) {
		since := time.Since(made)
		switch actionOf(req) {
		case "CreateIndex", "CreateSearchIndex":
			return respond(200, nil)(req)
		case "DescribeTable":
			return described(func(m *otsprotocol.DescribeTableResponse) {
				meta, _ := indexMeta(catalogue, indexes[0])
				meta.IndexSyncPhase = otsprotocol.IndexSyncPhase_ISP_INCR.Enum()
				if since < full {
					meta.IndexSyncPhase = otsprotocol.IndexSyncPhase_ISP_FULL.Enum()
				}
				m.IndexMetas = append(m.IndexMetas, meta)
			})(req)
		case "DescribeSearchIndex":
			m := &otsprotocol.DescribeSearchIndexResponse{SyncStat: &otsprotocol.SyncStat{SyncPhase: otsprotocol.SyncPhase_INCR.Enum()}}
			switch {
			case since < full:
				m.SyncStat.SyncPhase = otsprotocol.SyncPhase_FULL.Enum()
			case since < full+unready:
				m.SyncStat = nil
			}
			body, _ := proto.Marshal(m)
			return respond(200, body)(req)
		case "GetRange":
			if since < full+unready {
				return refuse(404, "OTSTableNotReady", "The table is not ready.")(req)
			}
			return rangeAnswer(nil)(req)
		}
		return nil, io.ErrUnexpectedEOF
	}}}
}

func TestIndexesAreWaitedFor(t *testing.T) {
	for what, create := range map[string]func(*testing.T, *Instance) error{
		"secondary index by_name": func(t *testing.T, in *Instance) error { return in.CreateIndex(t.Context(), catalogue, indexes[0]) },
		"search index words": func(t *testing.T, in *Instance) error {
			return in.CreateSearchIndex(t.Context(), catalogue, manifest.SearchIndex{Name: "words", Schema: "{}"})
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				var told []Waiting
				in := building(time.Minute, 30*time.Second).open(t, func(c *Config) {
					c.OnWait = func(w Waiting) {
						if w.Table != "catalogue" || w.What != what || !w.Since.Equal(begun) || w.Bound != time.Hour {
							t.Errorf("told %+v", w)
						}
						told = append(told, w)
						if len(told) > 1 && time.Since(begun) > time.Duration(len(told))*10*time.Second {
							t.Errorf("told for the %d. time after %s", len(told), time.Since(begun))
						}
					}
				})
				if err := create(t, in); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took < 90*time.Second || took > 100*time.Second {
					t.Errorf("took %s", took)
				}
				phases := make(map[string]int)
				for _, w := range told {
					phases[w.Phase]++
				}
				if phases["FULL"] < 5 || phases["not ready"] < 2 || len(phases) != 2 {
					t.Errorf("told of phases %v", phases)
				}
			})
		})
		t.Run(what+", in vain", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				err := create(t, building(time.Hour, 0).open(t, func(c *Config) { c.ReadyWithin = time.Minute }))
				want := "tablestore: table catalogue: " + what + ": service unavailable: still in phase FULL after 1m0s; the service goes on by itself: resume later, or wait longer"
				if !errors.Is(err, snapshot.ErrUnavailable) || err.Error() != want {
					t.Errorf("got  %v\nwant %s", err, want)
				}
				if took := time.Since(begun); took != time.Minute {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

// An index that is dropped while it is waited for is not there.
func TestAnIndexThatGoesAway(t *testing.T) {
	s := &service{answers: []answer{respond(200, nil), described(func(*otsprotocol.DescribeTableResponse) {})}}
	err := s.open(t).CreateIndex(t.Context(), catalogue, indexes[0])
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no longer there") {
		t.Errorf("got %v", err)
	}
}
