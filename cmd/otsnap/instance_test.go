package main

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// shop is an instance with as many tables as the service allows: 64, of which an
// index is one, a timeseries table two, and an analytical store one.
type shop struct {
	t      *testing.T
	client *tablestore.TableStoreClient
	series *tablestore.TimeseriesClient
	tables []string // of the wide-column model
	others []string // of the timeseries model
}

// startServer starts a Tablestore. The function it returns wipes it out.
func startServer(t *testing.T) (url string, wipe func()) {
	t.Helper()
	server, err := local.Open(local.Options{IndexBuild: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	wipe = func() {
		front.Close()
		server.Close()
	}
	t.Cleanup(wipe)
	return front.URL, wipe
}

func newShop(t *testing.T, url, instance string) *shop {
	return &shop{
		t:      t,
		client: tablestore.NewClient(url, instance, "local", "local"),
		series: tablestore.NewTimeseriesClient(url, instance, "local", "local"),
	}
}

// wideTable is a table to make. What is not set is as it usually is.
type wideTable struct {
	key      []tablestore.PrimaryKeyType
	counted  bool // the last column of the key is AUTO_INCREMENT
	options  tablestore.TableOption
	stream   *tablestore.StreamSpecification
	indexes  []*tablestore.IndexMeta
	searches []*tablestore.CreateSearchIndexRequest
	sse      *tablestore.SSESpecification
}

var keyNames = []string{"k1", "k2", "k3", "k4"}

// wideTables are the kinds of tables there are, by what is special about them.
func wideTables() map[string]wideTable {
	const integer, text, binary = tablestore.PrimaryKeyType_INTEGER, tablestore.PrimaryKeyType_STRING, tablestore.PrimaryKeyType_BINARY
	options := func(ttl, versions int, update bool) tablestore.TableOption {
		return tablestore.TableOption{TimeToAlive: ttl, MaxVersion: versions, DeviationCellVersionInSec: 86400, AllowUpdate: &update}
	}
	service, customer := new(tablestore.SSESpecification), new(tablestore.SSESpecification)
	service.SetEnable(true)
	service.SetKeyType(tablestore.SSE_KMS_SERVICE)
	customer.SetEnable(true)
	customer.SetKeyType(tablestore.SSE_BYOK)
	customer.SetKeyId("key-of-hangzhou")
	customer.SetRoleArn("acs:ram::1:role/old")
	index := func(kind tablestore.IndexType, key ...string) *tablestore.IndexMeta {
		return &tablestore.IndexMeta{Primarykey: key, DefinedColumns: []string{"price", "paid"}, IndexType: kind}
	}
	field := func(name string, kind tablestore.FieldType) *tablestore.FieldSchema {
		return &tablestore.FieldSchema{FieldName: &name, FieldType: kind, Index: proto.Bool(true), EnableSortAndAgg: proto.Bool(true)}
	}
	words := field("name", tablestore.FieldType_TEXT)
	words.EnableSortAndAgg = proto.Bool(false)
	split := tablestore.Analyzer_Split
	words.Analyzer, words.AnalyzerParameter = &split, tablestore.SplitAnalyzerParameter{Delimiter: proto.String(",")}
	nested := &tablestore.FieldSchema{FieldName: proto.String("lines"), FieldType: tablestore.FieldType_NESTED, FieldSchemas: []*tablestore.FieldSchema{field("sku", tablestore.FieldType_KEYWORD)}}
	vector := &tablestore.FieldSchema{FieldName: proto.String("v"), FieldType: tablestore.FieldType_VECTOR, VectorOptions: &tablestore.VectorOptions{
		VectorDataType: tablestore.VectorDataType_FLOAT_32.Enum(), Dimension: proto.Int32(4), VectorMetricType: tablestore.VectorMetricType_COSINE.Enum(),
	}}
	ttl := int32(864000)
	return map[string]wideTable{
		"plain":    {key: []tablestore.PrimaryKeyType{text}},
		"versions": {key: []tablestore.PrimaryKeyType{integer, text}, options: options(-1, 5, true)},
		"whole":    {key: []tablestore.PrimaryKeyType{binary, integer, text, binary}, options: options(-1, 1, false)},
		"brief":    {key: []tablestore.PrimaryKeyType{text}, options: options(864000, 2, true)},
		"stream":   {key: []tablestore.PrimaryKeyType{text, integer}, stream: &tablestore.StreamSpecification{EnableStream: true, ExpirationTime: 24}},
		"counted":  {key: []tablestore.PrimaryKeyType{text, integer}, counted: true},
		"safe":     {key: []tablestore.PrimaryKeyType{text}, sse: service},
		"safer":    {key: []tablestore.PrimaryKeyType{text}, sse: customer},
		"global": {key: []tablestore.PrimaryKeyType{text, integer}, indexes: []*tablestore.IndexMeta{
			index(tablestore.IT_GLOBAL_INDEX, "name"), {Primarykey: []string{"name", "k2"}, IndexType: tablestore.IT_GLOBAL_INDEX}, // of keys alone
		}},
		"local": {key: []tablestore.PrimaryKeyType{text, integer}, indexes: []*tablestore.IndexMeta{index(tablestore.IT_LOCAL_INDEX, "k1", "name")}},
		"indexed": {key: []tablestore.PrimaryKeyType{text}, options: options(864000, 1, false), indexes: []*tablestore.IndexMeta{index(tablestore.IT_GLOBAL_INDEX, "name")},
			searches: []*tablestore.CreateSearchIndexRequest{
				{IndexSchema: &tablestore.IndexSchema{FieldSchemas: []*tablestore.FieldSchema{field("price", tablestore.FieldType_DOUBLE), words}}, TimeToLive: &ttl},
			}},
		"search": {key: []tablestore.PrimaryKeyType{text}, searches: []*tablestore.CreateSearchIndexRequest{
			{IndexSchema: &tablestore.IndexSchema{FieldSchemas: []*tablestore.FieldSchema{nested, vector, field("name", tablestore.FieldType_KEYWORD)},
				IndexSetting: &tablestore.IndexSetting{RoutingFields: []string{"k1"}}}},
			{IndexSchema: &tablestore.IndexSchema{FieldSchemas: []*tablestore.FieldSchema{field("place", tablestore.FieldType_GEO_POINT)}}},
		}},
	}
}

// fill makes tables of every kind until there are as many as may be.
func (s *shop) fill() {
	kinds := wideTables()
	names := []string{"plain", "versions", "whole", "brief", "stream", "counted", "safe", "safer", "global", "local", "indexed", "search"}
	const series, stores = 3, 1
	room := 64 - 2*series - stores
	for n := 0; room > 0; n++ {
		kind := names[n%len(names)]
		if 1+len(kinds[kind].indexes) > room {
			kind = "plain"
		}
		room -= 1 + len(kinds[kind].indexes)
		name := fmt.Sprintf("%s_%02d", kind, n)
		s.make(name, kinds[kind])
		s.tables = append(s.tables, name)
	}
	for n := range series {
		s.others = append(s.others, s.timeseries(n))
	}
}

func (s *shop) make(name string, w wideTable) {
	s.t.Helper()
	meta := &tablestore.TableMeta{TableName: name}
	for i, typ := range w.key {
		if w.counted && i == len(w.key)-1 {
			meta.AddPrimaryKeyColumnOption(keyNames[i], typ, tablestore.AUTO_INCREMENT)
			continue
		}
		meta.AddPrimaryKeyColumn(keyNames[i], typ)
	}
	meta.AddDefinedColumn("name", tablestore.DefinedColumn_STRING)
	meta.AddDefinedColumn("price", tablestore.DefinedColumn_DOUBLE)
	meta.AddDefinedColumn("paid", tablestore.DefinedColumn_BOOLEAN)
	if w.options.MaxVersion == 0 {
		w.options = tablestore.TableOption{TimeToAlive: -1, MaxVersion: 1, DeviationCellVersionInSec: 86400}
	}
	request := &tablestore.CreateTableRequest{TableMeta: meta, TableOption: &w.options, ReservedThroughput: &tablestore.ReservedThroughput{}, StreamSpec: w.stream, SSESpecification: w.sse}
	for i, index := range w.indexes {
		index.IndexName = fmt.Sprintf("%s_by_%d", name, i)
		request.IndexMetas = append(request.IndexMetas, index)
	}
	if _, err := s.client.CreateTable(request); err != nil {
		s.t.Fatalf("table %s: %v", name, err)
	}
	for i, search := range w.searches {
		search.TableName, search.IndexName = name, fmt.Sprintf("search_%d", i)
		if _, err := s.client.CreateSearchIndex(search); err != nil {
			s.t.Fatalf("table %s: %s: %v", name, search.IndexName, err)
		}
	}
	for n := range 30 {
		s.put(name, w, n)
	}
}

func (s *shop) put(name string, w wideTable, n int) {
	s.t.Helper()
	change := &tablestore.PutRowChange{TableName: name, PrimaryKey: &tablestore.PrimaryKey{}}
	for i, typ := range w.key {
		switch {
		case w.counted && i == len(w.key)-1:
			change.PrimaryKey.AddPrimaryKeyColumnWithAutoIncrement(keyNames[i])
		case typ == tablestore.PrimaryKeyType_INTEGER:
			change.PrimaryKey.AddPrimaryKeyColumn(keyNames[i], int64(n-15))
		case typ == tablestore.PrimaryKeyType_BINARY:
			change.PrimaryKey.AddPrimaryKeyColumn(keyNames[i], []byte{byte(n), 0, 0xff}[:n%4])
		default:
			change.PrimaryKey.AddPrimaryKeyColumn(keyNames[i], fmt.Sprintf("key %02d", n))
		}
	}
	if n%10 > 0 { // others have a key alone
		change.AddColumn("name", fmt.Sprintf("name, %d", n))
		change.AddColumn("price", float64(n)/3)
		change.AddColumn("paid", n%2 == 0)
		change.AddColumn(fmt.Sprintf("other_%d", n%5), []byte{0, byte(n)})
	}
	change.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
	if _, err := s.client.PutRow(&tablestore.PutRowRequest{PutRowChange: change}); err != nil {
		s.t.Fatalf("table %s: %v", name, err)
	}
	if w.options.MaxVersion == 5 && n%10 > 0 {
		update := &tablestore.UpdateRowChange{TableName: name, PrimaryKey: change.PrimaryKey}
		for v := range int64(3) {
			update.PutColumnWithTimestamp("name", fmt.Sprint("version ", v), time.Now().Add(-time.Hour).UnixMilli()+v)
		}
		update.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
		if _, err := s.client.UpdateRow(&tablestore.UpdateRowRequest{UpdateRowChange: update}); err != nil {
			s.t.Fatalf("table %s: %v", name, err)
		}
	}
}

// timeseries makes a timeseries table with points of several series.
func (s *shop) timeseries(n int) string {
	s.t.Helper()
	name := fmt.Sprintf("series_%d", n)
	meta := tablestore.NewTimeseriesTableMeta(name)
	meta.SetTimeseriesTableOptions(tablestore.NewTimeseriesTableOptions([]int64{-1, 86400 * 400, -1}[n]))
	request := tablestore.NewCreateTimeseriesTableRequest()
	request.SetTimeseriesTableMeta(meta)
	request.SetEnableAnalyticalStore(n == 1)
	if _, err := s.series.CreateTimeseriesTable(request); err != nil {
		s.t.Fatalf("timeseries table %s: %v", name, err)
	}
	put := tablestore.NewPutTimeseriesDataRequest(name)
	for i := range 60 {
		key := tablestore.NewTimeseriesKey()
		key.SetMeasurementName([]string{"cpu", "memory"}[i%2])
		key.SetDataSource(fmt.Sprintf("host %d", i%3))
		key.AddTag("region", "cn-hangzhou")
		row := tablestore.NewTimeseriesRow(key)
		row.SetTimeInus(time.Now().UnixMicro() - int64(i)*1_000_000)
		row.AddField("used", tablestore.NewColumnValue(tablestore.ColumnType_DOUBLE, float64(i)/7))
		row.AddField("busy", tablestore.NewColumnValue(tablestore.ColumnType_BOOLEAN, i%2 == 0))
		put.AddTimeseriesRows(row)
	}
	if response, err := s.series.PutTimeseriesData(put); err != nil || len(response.GetFailedRowResults()) > 0 {
		s.t.Fatalf("timeseries table %s: %v", name, err)
	}
	return name
}

// describe returns all the SDK tells of a table, of its search indexes too, but
// when it was made and how far its indexes are.
func (s *shop) describe(table string) map[string]any {
	s.t.Helper()
	d, err := s.client.DescribeTable(&tablestore.DescribeTableRequest{TableName: table})
	if err != nil {
		s.t.Fatalf("describe %s: %v", table, err)
	}
	told := map[string]any{"key": d.TableMeta.SchemaEntry, "columns": d.TableMeta.DefinedColumns, "options": d.TableOption, "throughput": d.ReservedThroughput, "encryption": d.SSEDetails}
	if d.StreamDetails != nil {
		told["stream"] = []any{d.StreamDetails.EnableStream, d.StreamDetails.ExpirationTime, d.StreamDetails.OriginColumnsToGet}
	}
	for _, index := range d.IndexMetas {
		index.IndexSyncPhase = nil
		told["index "+index.IndexName] = index
	}
	searches, err := s.client.ListSearchIndex(&tablestore.ListSearchIndexRequest{TableName: table})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, index := range searches.IndexInfo {
		search, err := s.client.DescribeSearchIndex(&tablestore.DescribeSearchIndexRequest{TableName: table, IndexName: index.IndexName})
		if err != nil {
			s.t.Fatal(err)
		}
		told["search "+index.IndexName] = []any{search.Schema, search.TimeToLive}
	}
	return told
}

// differences names what two descriptions tell otherwise.
func descriptionDifferences(t *testing.T, a, b map[string]any) (names []string) {
	t.Helper()
	for name := range a {
		if _, ok := b[name]; !ok {
			names = append(names, name+" is missing")
		}
	}
	for name := range b {
		x, err := json.Marshal(a[name])
		if err != nil {
			t.Fatal(err)
		}
		y, err := json.Marshal(b[name])
		if err != nil {
			t.Fatal(err)
		}
		if string(x) != string(y) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// TestAWholeInstanceComesBack exports an instance full to its limit, wipes out its
// server, and restores it under another name on another.
func TestAWholeInstanceComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 64 tables twice")
	}
	url, wipe := startServer(t)
	source := newShop(t, url, "shop")
	source.fill()
	before := map[string]map[string]any{}
	for _, table := range source.tables {
		before[table] = source.describe(table)
	}
	k := newKiller(t, 4)
	k.env = []string{"XDG_CONFIG_HOME=" + filepath.Join(k.dir, "config")}
	key, archive := filepath.Join(k.dir, "key.pem"), filepath.Join(k.dir, "backup")
	k.must("key", "gen", "--out", key)
	k.must("init", archive, "--key", key)
	k.must("export", url+"?instance=shop", archive, "--key", key)
	k.must("verify", archive, "--level", "rows")
	wipe()

	url, _ = startServer(t)
	var plan snapshot.RestorePlan
	if err := json.Unmarshal([]byte(k.must("restore", archive, url+"?instance=rescue", "--dry-run", "--json", "--sse-key", "key-of-hangzhou=key-of-beijing", "--sse-role", "acs:ram::1:role/new")), &plan); err != nil {
		t.Fatal(err)
	}
	k.must("restore", archive, url+"?instance=rescue", "--sse-key", "key-of-hangzhou=key-of-beijing", "--sse-role", "acs:ram::1:role/new")
	k.must("compare", archive, url+"?instance=rescue")

	target := newShop(t, url, "rescue")
	listed, err := target.client.ListTable()
	if err != nil {
		t.Fatal(err)
	}
	indexes := 0
	for _, p := range plan.Tables {
		indexes += len(p.Indexes)
	}
	t.Logf("%d tables, %d secondary indexes, %d timeseries tables", len(source.tables), indexes, len(source.others))
	if n := len(listed.TableNames) + 2*len(source.others) + 1; n != 64 || len(plan.Tables) != len(source.tables)+2*len(source.others) {
		t.Errorf("%d tables came back, %d were planned", n, len(plan.Tables))
	}
	for _, p := range plan.Tables {
		if !slices.Contains(source.tables, p.Source) {
			continue
		}
		differs := descriptionDifferences(t, before[p.Source], target.describe(p.Target))
		announced := map[string][]string{"counted": {"key"}, "safer": {"encryption"}}[strings.Split(p.Source, "_")[0]]
		if !reflect.DeepEqual(differs, announced) {
			t.Errorf("%s: %q came back otherwise; announced was %q (%q)", p.Source, differs, announced, p.NotSame)
		}
		for _, what := range announced {
			word := map[string]string{"key": "k2: a plain INTEGER", "encryption": "key-of-beijing"}[what]
			if !slices.ContainsFunc(p.NotSame, func(s string) bool { return strings.Contains(s, word) }) {
				t.Errorf("%s: the plan does not say %q: %q", p.Source, word, p.NotSame)
			}
		}
	}
	series, err := target.series.ListTimeseriesTable()
	if err != nil || len(series.GetTimeseriesTableMeta()) != len(source.others) {
		t.Errorf("timeseries tables %v, %v", series, err)
	}
}
