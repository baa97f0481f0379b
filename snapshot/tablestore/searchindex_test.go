package tablestore

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/search"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
	"golang.org/x/sync/errgroup"
)

// schemas hold between them everything a schema can say.
var schemas = map[string]*ots.IndexSchema{
	"every type": {FieldSchemas: []*ots.FieldSchema{
		ofType("id", ots.FieldType_LONG),
		ofType("price", ots.FieldType_DOUBLE),
		ofType("paid", ots.FieldType_BOOLEAN),
		ofType("name", ots.FieldType_KEYWORD),
		ofType("words", ots.FieldType_TEXT),
		ofType("place", ots.FieldType_GEO_POINT),
		ofType("address", ots.FieldType_IP),
	}},
	"flags": {FieldSchemas: []*ots.FieldSchema{
		ofType("a", ots.FieldType_KEYWORD, func(f *ots.FieldSchema) {
			f.Index, f.EnableSortAndAgg, f.Store = proto.Bool(false), proto.Bool(true), proto.Bool(false)
		}),
		ofType("b", ots.FieldType_KEYWORD, func(f *ots.FieldSchema) {
			f.Index, f.EnableSortAndAgg, f.Store = proto.Bool(true), proto.Bool(false), proto.Bool(true)
		}),
		ofType("c", ots.FieldType_LONG, func(f *ots.FieldSchema) { f.IsArray = proto.Bool(true) }),
		ofType("d", ots.FieldType_LONG, func(f *ots.FieldSchema) { f.IsArray = proto.Bool(false) }),
		ofType("e", ots.FieldType_TEXT, func(f *ots.FieldSchema) { f.EnableHighlighting, f.Store = proto.Bool(true), proto.Bool(true) }),
		ofType("f", ots.FieldType_TEXT, func(f *ots.FieldSchema) { f.EnableHighlighting = proto.Bool(false) }),
		ofType("g", ots.FieldType_TEXT, func(f *ots.FieldSchema) { o := ots.IndexOptions_OFFSETS; f.IndexOptions = &o }),
		ofType("h", ots.FieldType_KEYWORD, func(f *ots.FieldSchema) { o := ots.IndexOptions_DOCS; f.IndexOptions = &o }),
	}},
	"analyzers": {FieldSchemas: []*ots.FieldSchema{
		text("single", ots.Analyzer_SingleWord, nil),
		text("single_empty", ots.Analyzer_SingleWord, ots.SingleWordAnalyzerParameter{}),
		text("single_case", ots.Analyzer_SingleWord, ots.SingleWordAnalyzerParameter{CaseSensitive: proto.Bool(true)}),
		text("single_delimit", ots.Analyzer_SingleWord, ots.SingleWordAnalyzerParameter{CaseSensitive: proto.Bool(false), DelimitWord: proto.Bool(true)}),
		text("max", ots.Analyzer_MaxWord, nil),
		text("min", ots.Analyzer_MinWord, nil),
		text("split", ots.Analyzer_Split, nil),
		text("split_empty", ots.Analyzer_Split, ots.SplitAnalyzerParameter{}),
		text("split_by", ots.Analyzer_Split, ots.SplitAnalyzerParameter{Delimiter: proto.String("-<>\u2028\\")}),
		text("fuzzy", ots.Analyzer_Fuzzy, nil),
		text("fuzzy_min", ots.Analyzer_Fuzzy, ots.FuzzyAnalyzerParameter{MinChars: 2}),
		text("fuzzy_both", ots.Analyzer_Fuzzy, ots.FuzzyAnalyzerParameter{MinChars: 1, MaxChars: 5}),
	}},
	"nested": {FieldSchemas: []*ots.FieldSchema{
		ofType("tags", ots.FieldType_NESTED, func(f *ots.FieldSchema) {
			f.FieldSchemas = []*ots.FieldSchema{
				ofType("name", ots.FieldType_KEYWORD, func(f *ots.FieldSchema) { f.Index, f.EnableSortAndAgg = proto.Bool(true), proto.Bool(true) }),
				text("note", ots.Analyzer_SingleWord, nil),
				ofType("inner", ots.FieldType_NESTED, func(f *ots.FieldSchema) {
					f.FieldSchemas = []*ots.FieldSchema{ofType("n", ots.FieldType_LONG, func(f *ots.FieldSchema) { f.Store = proto.Bool(false) })}
				}),
			}
		}),
	}},
	"JSON": {FieldSchemas: []*ots.FieldSchema{
		ofType("object", ots.FieldType_JSON, func(f *ots.FieldSchema) {
			f.JsonType, f.FieldSchemas = ots.JsonType_OBJECT.Enum(), []*ots.FieldSchema{ofType("n", ots.FieldType_LONG)}
		}),
		ofType("nested", ots.FieldType_JSON, func(f *ots.FieldSchema) {
			f.JsonType, f.FieldSchemas = ots.JsonType_NESTED.Enum(), []*ots.FieldSchema{ofType("n", ots.FieldType_KEYWORD)}
		}),
	}},
	"vectors": {FieldSchemas: []*ots.FieldSchema{
		vector("euclidean", ots.VectorMetricType_EUCLIDEAN, 4),
		vector("cosine", ots.VectorMetricType_COSINE, 4096),
		vector("dot", ots.VectorMetricType_DOT_PRODUCT, 1),
	}},
	"dates": {FieldSchemas: []*ots.FieldSchema{
		ofType("day", ots.FieldType_DATE, func(f *ots.FieldSchema) { f.DateFormats = []string{"yyyy-MM-dd", "epoch_millis"} }),
		ofType("moment", ots.FieldType_DATE),
	}},
	"virtual fields": {FieldSchemas: []*ots.FieldSchema{
		ofType("name", ots.FieldType_KEYWORD, func(f *ots.FieldSchema) { f.IsVirtualField = proto.Bool(false) }),
		text("name_words", ots.Analyzer_MaxWord, nil, func(f *ots.FieldSchema) {
			f.IsVirtualField, f.SourceFieldNames = proto.Bool(true), []string{"name"}
		}),
	}},
	"routing": {
		IndexSetting: &ots.IndexSetting{RoutingFields: []string{"id", "country"}},
		FieldSchemas: []*ots.FieldSchema{ofType("name", ots.FieldType_KEYWORD)},
	},
	"order of the key": {
		FieldSchemas: []*ots.FieldSchema{ofType("name", ots.FieldType_KEYWORD)},
		IndexSort:    &search.Sort{Sorters: []search.Sorter{&search.PrimaryKeySort{Order: search.SortOrder_DESC.Enum()}}},
	},
	"order of fields": {
		FieldSchemas: []*ots.FieldSchema{ofType("name", ots.FieldType_KEYWORD, sortable), ofType("id", ots.FieldType_LONG, sortable)},
		IndexSort:    &search.Sort{Sorters: []search.Sorter{search.NewFieldSort("name", search.SortOrder_ASC), search.NewFieldSort("id", search.SortOrder_DESC)}},
	},
}

func ofType(name string, typ ots.FieldType, change ...func(*ots.FieldSchema)) *ots.FieldSchema {
	f := &ots.FieldSchema{FieldName: proto.String(name), FieldType: typ}
	for _, c := range change {
		c(f)
	}
	return f
}

func sortable(f *ots.FieldSchema) { f.EnableSortAndAgg = proto.Bool(true) }

func text(name string, analyzer ots.Analyzer, parameter any, change ...func(*ots.FieldSchema)) *ots.FieldSchema {
	return ofType(name, ots.FieldType_TEXT, append(change, func(f *ots.FieldSchema) { f.Analyzer, f.AnalyzerParameter = &analyzer, parameter })...)
}

func vector(name string, metric ots.VectorMetricType, dimension int32) *ots.FieldSchema {
	return ofType(name, ots.FieldType_VECTOR, func(f *ots.FieldSchema) {
		f.VectorOptions = &ots.VectorOptions{VectorDataType: ots.VectorDataType_FLOAT_32.Enum(), VectorMetricType: metric.Enum(), Dimension: proto.Int32(dimension)}
	})
}

// searchable is a table that can have search indexes with a time to live.
func searchable(name string) manifest.Table {
	table := manifest.Table{Name: name, Key: orders.Key, Options: catalogue.Options}
	table.Options.AllowUpdate = false
	return table
}

// makeSearchable makes two tables, one to make indexes of through the SDK and one
// to make them again.
func makeSearchable(t *testing.T, in *Instance) (from, to manifest.Table) {
	t.Helper()
	from, to = searchable("made"), searchable("made_again")
	for _, table := range []manifest.Table{from, to} {
		mustCreate(t.Context(), t, in, table)
		if err := in.Configure(t.Context(), table); err != nil {
			t.Fatal(err)
		}
	}
	return from, to
}

// onlySearchIndex returns the one search index of a table.
func onlySearchIndex(t *testing.T, in *Instance, table manifest.Table) manifest.SearchIndex {
	t.Helper()
	got, err := in.Describe(t.Context(), table.Name)
	if err != nil || len(got.SearchIndexes) != 1 {
		t.Fatalf("described with %d search indexes, %v", len(got.SearchIndexes), err)
	}
	if !slices.Equal(got.NotCaptured, untold) {
		t.Errorf("not captured: %q", got.NotCaptured)
	}
	return got.SearchIndexes[0]
}

// Whatever the SDK can say in a schema comes back the same.
func TestSearchIndexesAreMadeAgain(t *testing.T) {
	for name, schema := range schemas {
		for _, ttl := range []int32{-1, 86400} {
			t.Run(name, func(t *testing.T) {
				s := newStage(t)
				in := s.open(t)
				from, to := makeSearchable(t, in)
				_, err := s.sdk.CreateSearchIndex(&ots.CreateSearchIndexRequest{TableName: from.Name, IndexName: "x", IndexSchema: schema, TimeToLive: &ttl})
				if err != nil {
					t.Fatal(err)
				}
				index := onlySearchIndex(t, in, from)
				for range 2 { // the second time it is there
					if err := in.CreateSearchIndex(t.Context(), to, index); err != nil {
						t.Fatal(err)
					}
				}
				if again := onlySearchIndex(t, in, to); again != index {
					t.Errorf("got  %+v\nwant %+v", again, index)
				}
				want, got := describeSearch(t, s, from), describeSearch(t, s, to)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("the SDK describes it as\n%+v\nwant\n%+v", got.Schema, want.Schema)
				}
			})
		}
	}
}

// describeSearch returns the SDK's description of a table's index but for what is
// of the moment.
func describeSearch(t *testing.T, s *stage, table manifest.Table) *ots.DescribeSearchIndexResponse {
	t.Helper()
	d, err := s.sdk.DescribeSearchIndex(&ots.DescribeSearchIndexRequest{TableName: table.Name, IndexName: "x"})
	if err != nil {
		t.Fatal(err)
	}
	d.CreateTime, d.SyncStat, d.ResponseInfo = 0, nil, ots.ResponseInfo{}
	return d
}

func TestSearchIndexesThatExistOtherwise(t *testing.T) {
	schema := func(fields string) string { return `{"FieldSchemas":[` + fields + `]}` }
	plain := manifest.SearchIndex{Name: "x", Schema: schema(`{"FieldName":"name","FieldType":"KEYWORD","Store":true}`)}
	for want, change := range map[string]func(*manifest.SearchIndex){
		"":                     func(*manifest.SearchIndex) {},
		`another field "name"`: func(x *manifest.SearchIndex) { x.Schema = schema(`{"FieldName":"name","FieldType":"TEXT"}`) },
		`another field "more"`: func(x *manifest.SearchIndex) {
			x.Schema = schema(`{"FieldName":"name","FieldType":"KEYWORD"},{"FieldName":"more","FieldType":"LONG"}`)
		},
		`another field "other", field "name"`: func(x *manifest.SearchIndex) { x.Schema = schema(`{"FieldName":"other","FieldType":"KEYWORD"}`) },
		`another routing`: func(x *manifest.SearchIndex) {
			x.Schema = strings.Replace(x.Schema, "{", `{"IndexSetting":{"RoutingFields":["id"]},`, 1)
		},
		`another order of rows`: func(x *manifest.SearchIndex) {
			x.Schema = strings.Replace(x.Schema, "{", `{"IndexSort":{"Sorters":[{"Name":"PrimaryKeySort","Sorter":{"Order":"ASC"}}]},`, 1)
		},
		"rows live 0 seconds in it, not 90000 ": func(x *manifest.SearchIndex) { x.TTL = 90000 },
	} {
		t.Run(want, func(t *testing.T) {
			in := newStage(t).open(t)
			_, to := makeSearchable(t, in)
			if err := in.CreateSearchIndex(t.Context(), to, plain); err != nil {
				t.Fatal(err)
			}
			asked := plain
			change(&asked)
			err := in.CreateSearchIndex(t.Context(), to, asked)
			if want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "table made_again: search index x: ") || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// An instance fills only so many search indexes at a time.
func TestSearchIndexesQueue(t *testing.T) {
	in := newStageOf(t, local.Options{IndexBuild: 200 * time.Millisecond}).open(t)
	_, to := makeSearchable(t, in)
	group, ctx := errgroup.WithContext(t.Context())
	for i := range 12 {
		group.Go(func() error {
			return in.CreateSearchIndex(ctx, to, manifest.SearchIndex{Name: fmt.Sprint("x", i), Schema: `{"FieldSchemas":[{"FieldName":"name","FieldType":"KEYWORD"}]}`})
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	synctest.Test(t, func(t *testing.T) {
		refused := refuse(400, codeParameterInvalid, "the number of index in creating has exceed the instance quota, limit: 10")
		in := (&service{answers: []answer{refused}}).open(t, func(c *Config) { c.ReadyWithin = time.Minute })
		err := in.CreateSearchIndex(t.Context(), to, manifest.SearchIndex{Name: "x", Schema: "{}"})
		if !errors.Is(err, snapshot.ErrUnavailable) || !strings.Contains(err.Error(), "still in phase queued behind those the instance is filling after 1m0s") {
			t.Errorf("for ever: %v", err)
		}
	})
}

func TestCreateSearchIndexRefuses(t *testing.T) {
	in := newStage(t).open(t)
	_, to := makeSearchable(t, in)
	for want, schema := range map[string]string{
		"schema: ":            `{`,
		"Invalid field type":  `{"FieldSchemas":[{"FieldName":"a","FieldType":"CUBE"}]}`,
		"the SDK cannot read": `{"FieldSchemas":[null]}`,
		"OTSParameterInvalid": `{}`,
	} {
		err := in.CreateSearchIndex(t.Context(), to, manifest.SearchIndex{Name: "x", Schema: schema})
		if err == nil || !strings.Contains(err.Error(), "table made_again: search index x: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gave %v", schema, err)
		}
	}
}

// What a description says and a manifest cannot is on the ledger.
func TestDescribeNamesWhatItCannotKeep(t *testing.T) {
	table := described(func(m *otsprotocol.DescribeTableResponse) {
		m.ShardSplits = [][]byte{{1}, {2}}
		m.TableOptions.BlockSize = proto.Int32(1)
		m.IndexMetas = []*otsprotocol.IndexMeta{
			{
				Name: proto.String("odd"), PrimaryKey: []string{"name"},
				IndexUpdateMode: otsprotocol.IndexUpdateMode_IUM_SYNC_INDEX.Enum(), IndexType: otsprotocol.IndexType_IT_GLOBAL_INDEX.Enum(),
			},
		}
	})
	listed, _ := proto.Marshal(&otsprotocol.ListSearchIndexResponse{Indices: []*otsprotocol.IndexInfo{
		{TableName: proto.String("orders"), IndexName: proto.String("a")}, {TableName: proto.String("orders"), IndexName: proto.String("b")},
	}})
	keyword := func(name string) *otsprotocol.FieldSchema {
		return &otsprotocol.FieldSchema{FieldName: proto.String(name), FieldType: otsprotocol.FieldType_KEYWORD.Enum()}
	}
	odd := keyword("odd")
	odd.Analyzer, odd.AnalyzerParameter = proto.String("newer"), []byte{8, 1}
	a, _ := proto.Marshal(&otsprotocol.DescribeSearchIndexResponse{
		Schema: &otsprotocol.IndexSchema{
			FieldSchemas: []*otsprotocol.FieldSchema{keyword("plain"), odd},
			IndexSetting: &otsprotocol.IndexSetting{NumberOfShards: proto.Int32(3), RoutingPartitionSize: proto.Int32(2)},
			IndexSort:    &otsprotocol.Sort{Sorter: []*otsprotocol.Sorter{{PkSort: &otsprotocol.PrimaryKeySort{}}}, DisableDefaultPkSorter: proto.Bool(true)},
		},
		BrotherIndexName: proto.String("b"),
		QueryFlowWeight:  []*otsprotocol.QueryFlowWeight{{IndexName: proto.String("a"), Weight: proto.Int32(100)}},
	})
	strange := keyword("strange")
	strange.FieldType = otsprotocol.FieldType(10).Enum() // which the SDK would call a line break
	b, _ := proto.Marshal(&otsprotocol.DescribeSearchIndexResponse{Schema: &otsprotocol.IndexSchema{FieldSchemas: []*otsprotocol.FieldSchema{strange}}})
	got, err := (&service{answers: []answer{table, respond(200, listed), respond(200, a), respond(200, b)}}).open(t).Describe(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(untold),
		"partitions: the 2 points at which the table is split",
		"table options: bloom filter and block size",
		"secondary index odd: its update mode IUM_SYNC_INDEX",
		"search index a: its query flow weights",
		"search index a: that it and b are to take each other's place",
		`search index a: what the SDK's form of its schema does not hold of field "odd"`,
		"search index a: what the SDK's form of its schema does not hold of routing",
		"search index a: what the SDK's form of its schema does not hold of order of rows",
		"search index b: its schema, which is kept for reading but cannot be made again: schema: Invalid field type:  ",
	)
	if !slices.Equal(got.NotCaptured, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got.NotCaptured, "\n"), strings.Join(want, "\n"))
	}
}
