package local

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/search"
	"github.com/golang/protobuf/proto"
)

func field(name string, typ tablestore.FieldType) *tablestore.FieldSchema {
	return &tablestore.FieldSchema{FieldName: &name, FieldType: typ, Index: proto.Bool(true)}
}

func sorted(f *tablestore.FieldSchema) *tablestore.FieldSchema {
	f.EnableSortAndAgg = proto.Bool(true)
	return f
}

func text(name string, a tablestore.Analyzer, parameter any) *tablestore.FieldSchema {
	f := field(name, tablestore.FieldType_TEXT)
	f.Analyzer, f.AnalyzerParameter = &a, parameter
	return f
}

func nestedField(name string, fields ...*tablestore.FieldSchema) *tablestore.FieldSchema {
	return &tablestore.FieldSchema{FieldName: &name, FieldType: tablestore.FieldType_NESTED, FieldSchemas: fields}
}

func jsonField(name string, typ tablestore.JsonType, fields ...*tablestore.FieldSchema) *tablestore.FieldSchema {
	return &tablestore.FieldSchema{FieldName: &name, FieldType: tablestore.FieldType_JSON, JsonType: &typ, FieldSchemas: fields}
}

func vector(name string, dimension int32) *tablestore.FieldSchema {
	f := field(name, tablestore.FieldType_VECTOR)
	f.VectorOptions = &tablestore.VectorOptions{
		VectorDataType:   tablestore.VectorDataType_FLOAT_32.Enum(),
		Dimension:        &dimension,
		VectorMetricType: tablestore.VectorMetricType_COSINE.Enum(),
	}
	return f
}

func schemaOf(fields ...*tablestore.FieldSchema) *tablestore.IndexSchema {
	return &tablestore.IndexSchema{FieldSchemas: fields}
}

// everyField is a schema with all a search index can have but nested fields,
// which do not go with an order of the index.
func everyField() *tablestore.IndexSchema {
	list := sorted(field("numbers", tablestore.FieldType_LONG))
	list.IsArray = proto.Bool(true)
	date := sorted(field("day", tablestore.FieldType_DATE))
	date.DateFormats = []string{"yyyy-MM-dd", "epoch_millis"}
	virtual := sorted(field("age_text", tablestore.FieldType_KEYWORD))
	virtual.IsVirtualField, virtual.SourceFieldNames = proto.Bool(true), []string{"age"}
	options := tablestore.IndexOptions_OFFSETS
	highlighted := text("body", tablestore.Analyzer_SingleWord, tablestore.SingleWordAnalyzerParameter{CaseSensitive: proto.Bool(true), DelimitWord: proto.Bool(false)})
	highlighted.EnableHighlighting, highlighted.IndexOptions, highlighted.Store = proto.Bool(true), &options, proto.Bool(true)
	schema := schemaOf(
		sorted(field("age", tablestore.FieldType_LONG)), field("weight", tablestore.FieldType_DOUBLE), field("paid", tablestore.FieldType_BOOLEAN),
		field("city", tablestore.FieldType_KEYWORD), field("place", tablestore.FieldType_GEO_POINT), field("address", tablestore.FieldType_IP),
		list, date, virtual, highlighted,
		text("csv", tablestore.Analyzer_Split, tablestore.SplitAnalyzerParameter{Delimiter: proto.String(",")}),
		text("fuzzy", tablestore.Analyzer_Fuzzy, tablestore.FuzzyAnalyzerParameter{MinChars: 2, MaxChars: 5}),
		text("words", tablestore.Analyzer_MaxWord, nil), text("few", tablestore.Analyzer_MinWord, nil),
		vector("v", 4096), jsonField("j", tablestore.JsonType_OBJECT, field("inside", tablestore.FieldType_LONG)),
	)
	schema.IndexSetting = &tablestore.IndexSetting{RoutingFields: []string{"s", "i"}}
	schema.IndexSort = &search.Sort{Sorters: []search.Sorter{
		&search.FieldSort{FieldName: "age", Order: search.SortOrder_DESC.Enum()},
		&search.PrimaryKeySort{Order: search.SortOrder_ASC.Enum()},
	}}
	return schema
}

func everyNesting() *tablestore.IndexSchema {
	return schemaOf(
		nestedField("n", field("a", tablestore.FieldType_KEYWORD), nestedField("m", text("b", tablestore.Analyzer_SingleWord, nil))),
		jsonField("o", tablestore.JsonType_NESTED, field("c", tablestore.FieldType_LONG)),
	)
}

func createSearch(c *tablestore.TableStoreClient, name string, schema *tablestore.IndexSchema, edit ...func(*tablestore.CreateSearchIndexRequest)) error {
	req := &tablestore.CreateSearchIndexRequest{TableName: "t", IndexName: name, IndexSchema: schema}
	for _, f := range edit {
		f(req)
	}
	_, err := c.CreateSearchIndex(req)
	return err
}

func describeSearch(t *testing.T, c *tablestore.TableStoreClient, name string) *tablestore.DescribeSearchIndexResponse {
	t.Helper()
	return must[*tablestore.DescribeSearchIndexResponse](t)(c.DescribeSearchIndex(&tablestore.DescribeSearchIndexRequest{TableName: "t", IndexName: name, IncludeSyncStat: proto.Bool(true)}))
}

func updateSearch(c *tablestore.TableStoreClient, name string, edit func(*tablestore.UpdateSearchIndexRequest)) error {
	req := &tablestore.UpdateSearchIndexRequest{TableName: "t", IndexName: name}
	edit(req)
	_, err := c.UpdateSearchIndex(req)
	return err
}

func deleteSearch(c *tablestore.TableStoreClient, name string) error {
	_, err := c.DeleteSearchIndex(&tablestore.DeleteSearchIndexRequest{TableName: "t", IndexName: name})
	return err
}

// schemaText is what a schema is on the wire. The SDK makes an order by nothing
// of no order.
func schemaText(t *testing.T, schema *tablestore.IndexSchema) string {
	t.Helper()
	message := must[*otsprotocol.IndexSchema](t)(tablestore.ConvertToPbSchema(schema))
	if len(message.GetIndexSort().GetSorter()) == 0 {
		message.IndexSort = nil
	}
	return proto.MarshalTextString(message)
}

func TestSearchIndexesAreDescribedAsTheyWereCreated(t *testing.T) {
	dir, at := t.TempDir(), newClock()
	schemas := map[string]func() *tablestore.IndexSchema{"flat": everyField, "nested": everyNesting}
	check := func(t *testing.T, c *tablestore.TableStoreClient) {
		for name, schema := range schemas {
			got := describeSearch(t, c, name)
			want := schemaText(t, schema())
			if text := schemaText(t, got.Schema); text != want {
				t.Errorf("%s is\n%s\nwant\n%s", name, text, want)
			}
			if got.TimeToLive != -1 || got.CreateTime != at.now().Unix() || got.SyncStat.SyncPhase != tablestore.SyncPhase_INCR || len(got.QueryFlowWeights) != 0 {
				t.Errorf("%s is %+v", name, got)
			}
		}
		for _, table := range []string{"t", ""} {
			var names []string
			for _, x := range must[*tablestore.ListSearchIndexResponse](t)(c.ListSearchIndex(&tablestore.ListSearchIndexRequest{TableName: table})).IndexInfo {
				names = append(names, x.TableName+"."+x.IndexName)
			}
			if !slices.Equal(names, []string{"t.flat", "t.nested"}) {
				t.Errorf("search indexes of table %q: %q", table, names)
			}
		}
	}
	t.Run("created", func(t *testing.T) {
		_, c := serveIndexed(t, Options{Dir: dir, Clock: at.now})
		for _, name := range []string{"flat", "nested"} {
			if err := createSearch(c, name, schemas[name]()); err != nil {
				t.Fatal(err)
			}
		}
		check(t, c)
	})
	t.Run("restarted", func(t *testing.T) {
		_, c := serve(t, Options{Dir: dir, Clock: at.now})
		check(t, c)
	})
}

func TestSearchSchemasAreRefused(t *testing.T) {
	_, c := serveIndexed(t, Options{})
	keyword := func(name string) *tablestore.FieldSchema { return field(name, tablestore.FieldType_KEYWORD) }
	edited := func(f *tablestore.FieldSchema, edit func(*tablestore.FieldSchema)) *tablestore.IndexSchema {
		edit(f)
		return schemaOf(f)
	}
	many := func(n int) (fields []*tablestore.FieldSchema) {
		for i := range n {
			fields = append(fields, keyword(fmt.Sprint("f", i)))
		}
		return fields
	}
	vectors := func(n int) (fields []*tablestore.FieldSchema) {
		for i := range n {
			fields = append(fields, vector(fmt.Sprint("v", i), 1))
		}
		return fields
	}
	nested := func(levels int) *tablestore.FieldSchema {
		f := keyword("leaf")
		for range levels {
			f = nestedField("n", f)
		}
		return f
	}
	routed := func(fields ...string) *tablestore.IndexSchema {
		schema := schemaOf(keyword("k"))
		schema.IndexSetting = &tablestore.IndexSetting{RoutingFields: fields}
		return schema
	}
	ordered := func(by search.Sorter, fields ...*tablestore.FieldSchema) *tablestore.IndexSchema {
		schema := schemaOf(fields...)
		schema.IndexSort = &search.Sort{Sorters: []search.Sorter{by}}
		return schema
	}
	fuzzy := func(least, greatest int32) *tablestore.IndexSchema {
		return schemaOf(text("f", tablestore.Analyzer_Fuzzy, tablestore.FuzzyAnalyzerParameter{MinChars: least, MaxChars: greatest}))
	}
	for _, test := range []struct {
		name   string
		schema *tablestore.IndexSchema
		says   string // "": accepted
	}{
		{"no field", schemaOf(), "at least one field"},
		{"a field of no known column", schemaOf(keyword("whatever")), ""},
		{"a field twice", schemaOf(keyword("a"), keyword("a")), "duplicate field name: 'a'"},
		{"a field without a name", schemaOf(keyword("")), "Invalid column name"},
		{"a name of 255 bytes", schemaOf(keyword(strings.Repeat("n", 255))), ""},
		{"a name of 256 bytes", schemaOf(keyword(strings.Repeat("n", 256))), "Invalid column name"},
		{"an unknown type", schemaOf(field("a", 10)), "unknown type: 10"},
		{"1000 fields", schemaOf(many(1000)...), ""},
		{"1001 fields", schemaOf(many(1001)...), "[1, 1000]"},
		{"1001 fields, some inside another", schemaOf(append(many(1000-99), nestedField("n", many(99)...))...), "[1, 1000]"},
		{"100 fields in one", schemaOf(nestedField("n", many(100)...)), ""},
		{"101 fields in one", schemaOf(nestedField("n", many(101)...)), "[1, 100]"},
		{"an empty nested field", schemaOf(nestedField("n")), "[1, 100]"},
		{"five levels", schemaOf(nested(5)), ""},
		{"six levels", schemaOf(nested(6)), "the limit is 5 levels"},
		{"five vectors", schemaOf(vectors(5)...), ""},
		{"six vectors", schemaOf(vectors(6)...), "[0, 5]"},
		{"4097 dimensions", schemaOf(vector("v", 4097)), "[1, 4096]"},
		{"no dimension", schemaOf(vector("v", 0)), "[1, 4096]"},
		{"a vector without options", schemaOf(field("v", tablestore.FieldType_VECTOR)), "needs vector_options"},
		{"vectors in an array", edited(vector("v", 1), func(f *tablestore.FieldSchema) { f.IsArray = proto.Bool(true) }), "cannot be an array"},
		{"vector options of a keyword", edited(keyword("a"), func(f *tablestore.FieldSchema) { f.VectorOptions = vector("v", 1).VectorOptions }), "cannot have vector_options"},
		{"JSON without its type", edited(jsonField("j", tablestore.JsonType_OBJECT, keyword("a")), func(f *tablestore.FieldSchema) { f.JsonType = nil }), "json_type"},
		{"JSON's type of a keyword", edited(keyword("a"), func(f *tablestore.FieldSchema) { f.JsonType = jsonField("j", tablestore.JsonType_OBJECT).JsonType }), "json_type"},
		{"an analyzer of a keyword", edited(keyword("a"), func(f *tablestore.FieldSchema) { f.Analyzer = text("b", "split", nil).Analyzer }), "only TEXT can"},
		{"an unknown analyzer", schemaOf(text("a", "guess", nil)), "unknown analyzer: 'guess'"},
		{"a text without an analyzer", schemaOf(field("a", tablestore.FieldType_TEXT)), ""},
		{"fuzzy of 1 to 7", fuzzy(1, 7), ""},
		{"fuzzy of 1 to 8", fuzzy(1, 8), "at most 6 apart"},
		{"fuzzy of 3 to 2", fuzzy(3, 2), "min_chars 3 and max_chars 2"},
		{"a sorted text", schemaOf(sorted(field("a", tablestore.FieldType_TEXT))), "sort_and_agg"},
		{"a highlighted keyword", edited(keyword("a"), func(f *tablestore.FieldSchema) { f.EnableHighlighting = proto.Bool(true) }), "enable_highlighting"},
		{"date formats of a keyword", edited(keyword("a"), func(f *tablestore.FieldSchema) { f.DateFormats = []string{"yyyy"} }), "date_formats"},
		{"an empty date format", edited(field("a", tablestore.FieldType_DATE), func(f *tablestore.FieldSchema) { f.DateFormats = []string{""} }), "empty date format"},
		{"a virtual field without a source", edited(keyword("a"), func(f *tablestore.FieldSchema) { f.IsVirtualField = proto.Bool(true) }), "needs one source"},
		{"a virtual field of itself", edited(keyword("a"), func(f *tablestore.FieldSchema) {
			f.IsVirtualField, f.SourceFieldNames = proto.Bool(true), []string{"a"}
		}), "its own source"},
		{"a source of a real field", edited(keyword("a"), func(f *tablestore.FieldSchema) { f.SourceFieldNames = []string{"b"} }), "is not virtual"},
		{"an integer column as date", schemaOf(field("age", tablestore.FieldType_DATE)), ""},
		{"an integer column as keyword", schemaOf(keyword("age")), "does not fit its column"},
		{"an integer column as array", edited(field("age", tablestore.FieldType_LONG), func(f *tablestore.FieldSchema) { f.IsArray = proto.Bool(true) }), "does not fit its column"},
		{"a double column as long", schemaOf(field("weight", tablestore.FieldType_LONG)), "does not fit its column"},
		{"a boolean column as long", schemaOf(field("paid", tablestore.FieldType_LONG)), "does not fit its column"},
		{"a binary column as keyword", schemaOf(keyword("raw")), "does not fit its column"},
		{"a key column as double", schemaOf(field("i", tablestore.FieldType_DOUBLE)), "does not fit its column"},
		{"a string column as anything", schemaOf(field("city", tablestore.FieldType_LONG)), ""},
		{"routed by the key", routed("i", "s"), ""},
		{"routed by an attribute", routed("city"), "not a primary key column"},
		{"routed twice by one", routed("s", "s"), "duplicate routing field"},
		{"ordered by a field", ordered(&search.FieldSort{FieldName: "k"}, sorted(keyword("k"))), ""},
		{"ordered by the key", ordered(&search.PrimaryKeySort{}, keyword("k")), ""},
		{"ordered by no field", ordered(&search.FieldSort{FieldName: "x"}, sorted(keyword("k"))), "not a field of the index"},
		{"ordered by what is not sorted", ordered(&search.FieldSort{FieldName: "k"}, keyword("k")), "sort_and_agg is not set"},
		{"ordered by score", ordered(&search.ScoreSort{}, keyword("k")), "index_sort takes"},
		{"ordered with nested fields", ordered(&search.PrimaryKeySort{}, nested(1)), "nested fields"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := createSearch(c, "x", test.schema)
			if test.says == "" {
				wantCode(t, err, "")
				wantCode(t, deleteSearch(c, "x"), "")
				return
			}
			wantCode(t, err, "OTSParameterInvalid", test.says)
		})
	}
}

// What the SDK would not send.
func TestSearchSchemasOnTheWireAreRefused(t *testing.T) {
	s, _ := serveIndexed(t, Options{})
	base := func() *otsprotocol.FieldSchema {
		return &otsprotocol.FieldSchema{FieldName: proto.String("a"), FieldType: otsprotocol.FieldType_TEXT.Enum()}
	}
	for _, test := range []struct {
		says string
		edit func(*otsprotocol.IndexSchema, *otsprotocol.FieldSchema)
	}{
		{"unknown type", func(_ *otsprotocol.IndexSchema, f *otsprotocol.FieldSchema) { f.FieldType = nil }},
		{"no analyzer", func(_ *otsprotocol.IndexSchema, f *otsprotocol.FieldSchema) { f.AnalyzerParameter = []byte{1} }},
		{"has no parameters", func(_ *otsprotocol.IndexSchema, f *otsprotocol.FieldSchema) {
			f.Analyzer, f.AnalyzerParameter = proto.String(analyzerMaxWord), []byte{1}
		}},
		{"Parse PBMessage", func(_ *otsprotocol.IndexSchema, f *otsprotocol.FieldSchema) {
			f.Analyzer, f.AnalyzerParameter = proto.String(analyzerSplit), []byte{0xFF}
		}},
		{"min_chars 0", func(_ *otsprotocol.IndexSchema, f *otsprotocol.FieldSchema) {
			f.Analyzer = proto.String(analyzerFuzzy)
			f.AnalyzerParameter, _ = proto.Marshal(&otsprotocol.FuzzyAnalyzerParameter{MinChars: proto.Int32(0)})
		}},
		{"cannot have field_schemas", func(_ *otsprotocol.IndexSchema, f *otsprotocol.FieldSchema) {
			f.FieldSchemas = []*otsprotocol.FieldSchema{base()}
		}},
		{"number_of_shards", func(s *otsprotocol.IndexSchema, _ *otsprotocol.FieldSchema) {
			s.IndexSetting = &otsprotocol.IndexSetting{NumberOfShards: proto.Int32(2)}
		}},
	} {
		f := base()
		schema := &otsprotocol.IndexSchema{FieldSchemas: []*otsprotocol.FieldSchema{f}}
		test.edit(schema, f)
		err := ask(t, s, "CreateSearchIndex", &otsprotocol.CreateSearchIndexRequest{TableName: proto.String("t"), IndexName: proto.String("x"), Schema: schema}, nil)
		wantCode(t, err, "OTSParameterInvalid", test.says)
	}
	// A schema without settings can be read by the SDK all the same.
	err := ask(t, s, "CreateSearchIndex", &otsprotocol.CreateSearchIndexRequest{TableName: proto.String("t"), IndexName: proto.String("x"), Schema: &otsprotocol.IndexSchema{FieldSchemas: []*otsprotocol.FieldSchema{base()}}}, nil)
	wantCode(t, err, "")
	var got otsprotocol.DescribeSearchIndexResponse
	err = ask(t, s, "DescribeSearchIndex", &otsprotocol.DescribeSearchIndexRequest{TableName: proto.String("t"), IndexName: proto.String("x"), IncludeSyncStat: proto.Bool(false)}, &got)
	if err != nil || got.Schema.IndexSetting == nil || got.SyncStat != nil {
		t.Errorf("described as %+v, %v", &got, err)
	}
}

func TestSearchIndexNames(t *testing.T) {
	_, c := serveIndexed(t, Options{}, global("secondary", "city"))
	schema := schemaOf(field("k", tablestore.FieldType_KEYWORD))
	wantCode(t, createSearch(c, strings.Repeat("x", 255), schema), "")
	wantCode(t, createSearch(c, strings.Repeat("x", 256), schema), "OTSParameterInvalid", "Invalid index name")
	wantCode(t, createSearch(c, "a-b", schema), "OTSParameterInvalid", "'a-b'")
	wantCode(t, createSearch(c, "t", schema), "") // search indexes are no tables
	wantCode(t, createSearch(c, "t", schema), "OTSObjectAlreadyExist", "'t'")
	on := func(table string) func(*tablestore.CreateSearchIndexRequest) {
		return func(r *tablestore.CreateSearchIndexRequest) { r.TableName = table }
	}
	wantCode(t, createSearch(c, "x", schema, on("nowhere")), "OTSObjectNotExist")
	wantCode(t, createSearch(c, "x", schema, on("secondary")), "OTSParameterInvalid", "index table")
	wantCode(t, deleteSearch(c, "nowhere"), "OTSObjectNotExist", "'nowhere'")
	_, err := c.DescribeSearchIndex(&tablestore.DescribeSearchIndexRequest{TableName: "t", IndexName: "nowhere"})
	wantCode(t, err, "OTSObjectNotExist")
	_, err = c.ListSearchIndex(&tablestore.ListSearchIndexRequest{TableName: "nowhere"})
	wantCode(t, err, "OTSObjectNotExist")
	wantCode(t, updateSearch(c, "nowhere", func(r *tablestore.UpdateSearchIndexRequest) { r.TimeToLive = proto.Int32(-1) }), "OTSObjectNotExist")
	wantCode(t, updateSearch(c, "t", func(*tablestore.UpdateSearchIndexRequest) {}), "OTSParameterInvalid", "No parameter")
}

func TestASearchIndexAsksForOptionsOfItsTable(t *testing.T) {
	schema := schemaOf(field("k", tablestore.FieldType_KEYWORD))
	ttl := func(seconds int32) func(*tablestore.CreateSearchIndexRequest) {
		return func(r *tablestore.CreateSearchIndexRequest) { r.TimeToLive = &seconds }
	}
	for _, test := range []struct {
		name     string
		versions int
		table    int    // time to live
		update   string // allow_update and update_full_row
		index    int32  // time to live
		says     string
	}{
		{"for ever", 1, -1, "cells", -1, ""},
		{"several versions", 2, -1, "cells", -1, "MaxVersions must be 1"},
		{"the table's time to live", 1, 86400, "cells", -1, "allow_update false"},
		{"the table's time to live without updates", 1, 86400, "none", -1, ""},
		{"the table's time to live with whole updates", 1, 86400, "rows", -1, ""},
		{"its own", 1, -1, "cells", 86400, "allow_update false or update_full_row true"},
		{"its own without updates", 1, -1, "none", 86400, ""},
		{"its own with whole updates", 1, -1, "rows", 86400, ""},
		{"less than a day", 1, -1, "none", 86399, "not less than 86400"},
		{"none", 1, -1, "none", 0, "not less than 86400"},
		{"as long as the table's", 1, 90000, "none", 90000, ""},
		{"longer than the table's", 1, 90000, "none", 90001, "table ttl is 90000 and search index ttl is [x:90001]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, c := serve(t, Options{})
			req := tableOf("t")
			req.TableOption = &tablestore.TableOption{TimeToAlive: test.table, MaxVersion: test.versions,
				AllowUpdate: proto.Bool(test.update != "none"), UpdateFullRow: proto.Bool(test.update == "rows")}
			must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
			code := "OTSParameterInvalid"
			if test.says == "" {
				code = ""
			}
			wantCode(t, createSearch(c, "x", schema, ttl(test.index)), code, test.says)
			if test.says == "" && describeSearch(t, c, "x").TimeToLive != test.index {
				t.Errorf("described with a time to live of %d", describeSearch(t, c, "x").TimeToLive)
			}
		})
	}
}

func TestATableWithASearchIndexKeepsItsRules(t *testing.T) {
	_, c := serveIndexed(t, Options{})
	if err := createSearch(c, "x", schemaOf(field("k", tablestore.FieldType_KEYWORD))); err != nil {
		t.Fatal(err)
	}
	change := func(ttl, versions int, update bool) error {
		_, err := c.UpdateTable(&tablestore.UpdateTableRequest{TableName: "t", TableOption: &tablestore.TableOption{TimeToAlive: ttl, MaxVersion: versions, AllowUpdate: &update}})
		return err
	}
	setTTL := func(seconds int32) error {
		return updateSearch(c, "x", func(r *tablestore.UpdateSearchIndexRequest) { r.TimeToLive = &seconds })
	}
	wantCode(t, setTTL(86400), "OTSParameterInvalid", "allow_update false")
	wantCode(t, change(-1, 2, true), "OTSParameterInvalid", "MaxVersions must be 1")
	wantCode(t, change(100000, 1, false), "")
	wantCode(t, setTTL(100001), "OTSParameterInvalid", "bigger than or equal")
	wantCode(t, setTTL(86399), "OTSParameterInvalid", "86400")
	wantCode(t, setTTL(100000), "")
	wantCode(t, change(99999, 1, false), "OTSParameterInvalid", "table ttl is 99999 and search index ttl is [x:100000]")
	wantCode(t, change(-1, 1, true), "OTSParameterInvalid", "allow_update false")
	wantCode(t, setTTL(-1), "")
	wantCode(t, change(-1, 1, true), "")
	// Unlike a secondary index it does not mind versions.
	wantCode(t, put(c, key("a", 1), col{"k", "v", time.Now().UnixMilli()}), "")

	_, err := c.DeleteTable(&tablestore.DeleteTableRequest{TableName: "t"})
	wantCode(t, err, "OTSParameterInvalid", "Table[t] who has at least one search index cannot be deleted.")
	wantCode(t, deleteSearch(c, "x"), "")
	_, err = c.DeleteTable(&tablestore.DeleteTableRequest{TableName: "t"})
	wantCode(t, err, "")
}

func TestASearchIndexIsBuilt(t *testing.T) {
	at := newClock()
	_, c := serveIndexed(t, Options{Clock: at.now, IndexBuild: time.Minute})
	schema := schemaOf(field("k", tablestore.FieldType_KEYWORD))
	for i := range maxBuilding {
		wantCode(t, createSearch(c, fmt.Sprint("x", i), schema), "")
	}
	wantCode(t, createSearch(c, "one_more", schema), "OTSParameterInvalid", "limit: 10")
	if stat := describeSearch(t, c, "x0").SyncStat; stat.SyncPhase != tablestore.SyncPhase_FULL || stat.CurrentSyncTimestamp != nil {
		t.Errorf("at first %+v", stat)
	}
	at.advance(time.Minute)
	if stat := describeSearch(t, c, "x0").SyncStat; stat.SyncPhase != tablestore.SyncPhase_INCR || *stat.CurrentSyncTimestamp != at.now().UnixMicro() {
		t.Errorf("then %+v", stat)
	}
	wantCode(t, createSearch(c, "one_more", schema), "")
}

func TestASearchIndexIsReplaced(t *testing.T) {
	_, c := serveIndexed(t, Options{})
	old, next := schemaOf(field("k", tablestore.FieldType_KEYWORD)), schemaOf(field("k", tablestore.FieldType_KEYWORD), field("l", tablestore.FieldType_LONG))
	from := func(source string) func(*tablestore.CreateSearchIndexRequest) {
		return func(r *tablestore.CreateSearchIndexRequest) { r.SourceIndexName = &source }
	}
	switchTo := func(name, other string) error {
		return updateSearch(c, name, func(r *tablestore.UpdateSearchIndexRequest) { r.SwitchIndexName = &other })
	}
	weigh := func(weights ...*tablestore.QueryFlowWeight) error {
		return updateSearch(c, "x", func(r *tablestore.UpdateSearchIndexRequest) { r.QueryFlowWeights = weights })
	}
	wantCode(t, createSearch(c, "x_reindex", next, from("x")), "OTSObjectNotExist")
	wantCode(t, createSearch(c, "x", old), "")
	wantCode(t, createSearch(c, "other", old), "")
	wantCode(t, createSearch(c, "y", next, from("x")), "OTSParameterInvalid", "must be 'x_reindex'")
	wantCode(t, createSearch(c, "x_reindex", next, from("x")), "")

	wantCode(t, weigh(&tablestore.QueryFlowWeight{IndexName: "x", Weight: 80}), "OTSParameterInvalid", "must be 100")
	wantCode(t, weigh(&tablestore.QueryFlowWeight{IndexName: "x", Weight: 101}), "OTSParameterInvalid", "[0, 100]")
	wantCode(t, weigh(&tablestore.QueryFlowWeight{IndexName: "other", Weight: 100}), "OTSParameterInvalid", "'other'")
	wantCode(t, weigh(&tablestore.QueryFlowWeight{IndexName: "x", Weight: 80}, &tablestore.QueryFlowWeight{IndexName: "x_reindex", Weight: 20}), "")
	if w := describeSearch(t, c, "x").QueryFlowWeights; len(w) != 2 || *w[0] != (tablestore.QueryFlowWeight{IndexName: "x", Weight: 80}) || *w[1] != (tablestore.QueryFlowWeight{IndexName: "x_reindex", Weight: 20}) {
		t.Errorf("weights %+v", w)
	}

	wantCode(t, switchTo("x", "nowhere"), "OTSObjectNotExist")
	wantCode(t, switchTo("x", "other"), "OTSParameterInvalid", "cannot be switched")
	wantCode(t, switchTo("x", "x_reindex"), "")
	if got := schemaText(t, describeSearch(t, c, "x").Schema); got != schemaText(t, next) {
		t.Errorf("after the switch x is\n%s", got)
	}
	if got := schemaText(t, describeSearch(t, c, "x_reindex").Schema); got != schemaText(t, old) {
		t.Errorf("after the switch x_reindex is\n%s", got)
	}
	wantCode(t, deleteSearch(c, "x_reindex"), "")
	if w := describeSearch(t, c, "x").QueryFlowWeights; len(w) != 0 {
		t.Errorf("weights %+v when there is nothing to share with", w)
	}
}
