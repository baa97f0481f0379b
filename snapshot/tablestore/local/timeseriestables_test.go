package local

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// createSeriesTable asks for a table as the SDK may not.
func createSeriesTable(name string, change func(*otsprotocol.CreateTimeseriesTableRequest)) *otsprotocol.CreateTimeseriesTableRequest {
	req := &otsprotocol.CreateTimeseriesTableRequest{TableMeta: &otsprotocol.TimeseriesTableMeta{TableName: proto.String(name)}}
	change(req)
	return req
}

func TestTimeseriesTablesAreChecked(t *testing.T) {
	type request = otsprotocol.CreateTimeseriesTableRequest
	long := strings.Repeat("t", maxSeriesName)
	plain := func(*request) {}
	ttl := func(v int32) func(*request) {
		return func(r *request) {
			r.TableMeta.TableOptions = &otsprotocol.TimeseriesTableOptions{TimeToLive: proto.Int32(v)}
		}
	}
	key := func(names ...string) func(*request) {
		return func(r *request) { r.TableMeta.TimeseriesKeySchema = names }
	}
	fields := func(kind otsprotocol.PrimaryKeyType, names ...string) func(*request) {
		return func(r *request) {
			for _, name := range names {
				r.TableMeta.FieldPrimaryKeySchema = append(r.TableMeta.FieldPrimaryKeySchema, &otsprotocol.PrimaryKeySchema{Name: proto.String(name), Type: kind.Enum()})
			}
		}
	}
	stores := func(ttl int32, names ...string) func(*request) {
		return func(r *request) {
			r.EnableAnalyticalStore = proto.Bool(true)
			for _, name := range names {
				r.AnalyticalStores = append(r.AnalyticalStores, &otsprotocol.TimeseriesAnalyticalStore{StoreName: proto.String(name), TimeToLive: proto.Int32(ttl)})
			}
		}
	}
	metaOptions := func(r *request, update bool, ttl int32) {
		r.TableMeta.XXX_unrecognized = must[[]byte](t)(proto.Marshal(&tableMetaRest{MetaOptions: &metaOptionsMessage{&update, &ttl}}))
	}
	lastpoints := func(n int, name string) func(*request) {
		return func(r *request) {
			for i := range n {
				r.LastpointIndexMetas = append(r.LastpointIndexMetas, &otsprotocol.LastpointIndexMetaForCreate{IndexTableName: proto.String(fmt.Sprint(name, i))})
			}
		}
	}
	integer := otsprotocol.PrimaryKeyType_INTEGER
	const refused = "OTSParameterInvalid"
	for _, test := range []struct {
		what, table string
		change      func(*request)
		code        string
	}{
		{"no options", "t", plain, ""},
		{"the longest name", long, plain, ""},
		{"a name too long", long + "t", plain, refused},
		{"a name with a hyphen", "a-b", plain, refused},
		{"a name that begins with a digit", "1a", plain, refused},
		{"the shortest life", "t", ttl(86400), ""},
		{"a life too short", "t", ttl(86399), refused},
		{"no life", "t", ttl(0), refused},
		{"the most keys", "t", key("_m_name", "_data_source", "_tags", "a", "b", "c"), ""},
		{"too many keys", "t", key("_m_name", "_data_source", "_tags", "a", "b", "c", "d"), refused},
		{"a key twice", "t", key("a", "a"), refused},
		{"a key in upper case", "t", key("A"), refused},
		{"a key of the service", "t", key("_time"), refused},
		{"the most fields in the key", "t", fields(integer, "a", "b", "c", "d"), ""},
		{"too many fields in the key", "t", fields(integer, "a", "b", "c", "d", "e"), refused},
		{"a field twice", "t", fields(integer, "a", "a"), refused},
		{"a field of an unknown type", "t", fields(99, "a"), refused},
		{"a field and a key of one name", "t", func(r *request) { key("a")(r); fields(integer, "a")(r) }, refused},
		{"an analytical store", "t", stores(2592000, "s"), ""},
		{"two analytical stores", "t", stores(-1, "s", "u"), refused},
		{"an analytical store with too short a life", "t", stores(2591999, "s"), refused},
		{"an analytical store badly named", "t", stores(-1, "a-b"), refused},
		{"analytical stores that are not to be", "t", func(r *request) { stores(-1, "s")(r); r.EnableAnalyticalStore = nil }, refused},
		{"the most lastpoint indexes", "t", lastpoints(10, "x"), ""},
		{"too many lastpoint indexes", "t", lastpoints(11, "x"), refused},
		{"too many of both", "t", func(r *request) { stores(-1, "s")(r); lastpoints(10, "x")(r) }, refused},
		{"an index of the table's name", "t0", lastpoints(1, "t"), "OTSObjectAlreadyExist"},
		{"no hash", "t", func(r *request) { r.TableMeta.DisableHashPartitionKey = proto.Bool(true) }, "OTSUnsupportOperation"},
		{"no index of series", "t", func(r *request) { r.TableMeta.DisableTimeseriesMetaIndex = proto.Bool(true) }, "OTSUnsupportOperation"},
		{"the shortest life of metadata", "t", func(r *request) { ttl(604800)(r); metaOptions(r, false, 604800) }, ""},
		{"a life of metadata too short", "t", func(r *request) { ttl(86400)(r); metaOptions(r, false, 604799) }, refused},
		{"metadata that lives less than rows", "t", func(r *request) { ttl(604801)(r); metaOptions(r, false, 604800) }, refused},
		{"metadata that lives less than rows for ever", "t", func(r *request) { metaOptions(r, false, 604800) }, refused},
		{"metadata that changes and expires", "t", func(r *request) { ttl(86400)(r); metaOptions(r, true, 604800) }, refused},
		{"metadata that does neither", "t", func(r *request) { metaOptions(r, false, -1) }, ""},
		{"something of another protocol", "t", func(r *request) { r.TableMeta.XXX_unrecognized = []byte{9<<3 | 0, 1} }, "OTSUnsupportOperation"},
	} {
		t.Run(test.what, func(t *testing.T) {
			s, _ := serve(t, Options{})
			wantCode(t, ask(t, s, "CreateTimeseriesTable", createSeriesTable(test.table, test.change), nil), test.code)
			list := &otsprotocol.ListTimeseriesTableResponse{}
			if err := ask(t, s, "ListTimeseriesTable", &otsprotocol.ListTimeseriesTableRequest{}, list); err != nil {
				t.Fatal(err)
			}
			if made := len(list.TableMetas) == 1; made != (test.code == "") {
				t.Errorf("the table is there: %t", made)
			}
		})
	}
}

func TestTimeseriesTablesAreNoTables(t *testing.T) {
	s, wide, c := serveSeries(t, Options{})
	must[*tablestore.CreateTableResponse](t)(wide.CreateTable(tableOf("w")))
	create := seriesTableOf("t")
	create.SetLastpointIndexNames([]string{"t_last"})
	must[*tablestore.CreateTimeseriesTableResponse](t)(c.CreateTimeseriesTable(create))
	if list := must[*tablestore.ListTableResponse](t)(wide.ListTable()); !slices.Equal(list.TableNames, []string{"w"}) {
		t.Errorf("tables %v, want w", list.TableNames)
	}
	if list := must[*tablestore.ListTimeseriesTableResponse](t)(c.ListTimeseriesTable()); !slices.Equal(list.GetTimeseriesTableNames(), []string{"t"}) {
		t.Errorf("timeseries tables %v, want t", list.GetTimeseriesTableNames())
	}
	for _, taken := range []string{"t", "t_last"} {
		_, err := wide.CreateTable(tableOf(taken))
		wantCode(t, err, "OTSObjectAlreadyExist")
	}
	for _, taken := range []string{"t", "t_last", "w"} {
		_, err := c.CreateTimeseriesTable(seriesTableOf(taken))
		wantCode(t, err, "OTSObjectAlreadyExist")
	}
	_, err := wide.DescribeTable(&tablestore.DescribeTableRequest{TableName: "t"})
	wantCode(t, err, "OTSObjectNotExist")
	_, err = c.DescribeTimeseriesTable(tablestore.NewDescribeTimeseriesTableRequset("w"))
	wantCode(t, err, "OTSObjectNotExist")
	wantCode(t, ask(t, s, "DeleteTable", &otsprotocol.DeleteTableRequest{TableName: proto.String("t_last")}, nil), "OTSParameterInvalid")
}

// A timeseries table counts for two, its stores and indexes for one each.
func TestTimeseriesTablesTakeTheRoomOfTables(t *testing.T) {
	s, wide, c := serveSeries(t, Options{})
	for i := range 29 {
		must[*tablestore.CreateTimeseriesTableResponse](t)(c.CreateTimeseriesTable(seriesTableOf(fmt.Sprint("t", i))))
	}
	create := seriesTableOf("u")
	create.SetEnableAnalyticalStore(true)
	create.SetLastpointIndexNames([]string{"u_last"})
	must[*tablestore.CreateTimeseriesTableResponse](t)(c.CreateTimeseriesTable(create)) // 62 by now
	must[*tablestore.CreateTableResponse](t)(wide.CreateTable(tableOf("w")))
	_, err := c.CreateTimeseriesTable(seriesTableOf("v"))
	wantCode(t, err, "OTSQuotaExhausted")
	must[*tablestore.CreateTableResponse](t)(wide.CreateTable(tableOf("x")))
	_, err = c.CreateTimeseriesAnalyticalStore(tablestore.NewCreateTimeseriesAnalyticalStoreRequest("t0", tablestore.NewTimeseriesAnalyticalStore("s")))
	wantCode(t, err, "OTSQuotaExhausted")
	_, err = c.CreateTimeseriesLastpointIndex(tablestore.NewCreateTimeseriesLastpointIndexRequest("t0", "t0_last", false))
	wantCode(t, err, "OTSQuotaExhausted")
	must[*tablestore.DeleteTimeseriesTableResponse](t)(c.DeleteTimeseriesTable(tablestore.NewDeleteTimeseriesTableRequest("u")))
	if slots := s.seriesSlots("demo") + len(s.tables["demo"]); slots != 60 {
		t.Errorf("%d tables are left, want 60", slots)
	}
}

func TestRowsOfSeriesExpireByTheirTime(t *testing.T) {
	clock := newClock()
	_, wide, c := serveSeries(t, Options{Clock: clock.now})
	create := seriesTableOf("t", func(m *tablestore.TimeseriesTableMeta) {
		m.SetTimeseriesTableOptions(tablestore.NewTimeseriesTableOptions(86400))
	})
	create.SetLastpointIndexNames([]string{"x"})
	must[*tablestore.CreateTimeseriesTableResponse](t)(c.CreateTimeseriesTable(create))
	oldest := clock.at.Add(-24 * time.Hour).UnixMicro()
	key := series("m", "")
	wantRows(t, putSeries(t, c,
		seriesRowOf(key, oldest-1, fields{"x": 1}),
		seriesRowOf(key, oldest, fields{"x": 2}),
	))
	row := fmt.Sprintf("[m ]@%d x=2", oldest)
	wantRows(t, readSeriesRows(t, c, key), row)
	if got := lastpoints(t, wide, "x"); len(got) != 1 {
		t.Errorf("the index has %q, want a row", got)
	}
	clock.advance(time.Millisecond)
	wantRows(t, readSeriesRows(t, c, key))
	wantRows(t, lastpoints(t, wide, "x"))
	wantRows(t, querySeries(t, c, nil, -1), "[m ]")

	update := tablestore.NewUpdateTimeseriesTableRequest("t")
	update.SetTimeseriesTableOptions(tablestore.NewTimeseriesTableOptions(86401))
	must[*tablestore.UpdateTimeseriesTableResponse](t)(c.UpdateTimeseriesTable(update))
	wantRows(t, readSeriesRows(t, c, key)[1:], row)
	update.SetTimeseriesTableOptions(tablestore.NewTimeseriesTableOptions(1))
	_, err := c.UpdateTimeseriesTable(update)
	wantCode(t, err, "OTSParameterInvalid")
}

// lastpoints reads a lastpoint index of a table with the usual identifiers and
// shows its rows without their hashes.
func lastpoints(t *testing.T, c *tablestore.TableStoreClient, index string) (rows []string) {
	t.Helper()
	start, end := &tablestore.PrimaryKey{}, &tablestore.PrimaryKey{}
	for _, name := range append([]string{columnHash}, defaultSeriesKey...) {
		start.AddPrimaryKeyColumnWithMinValue(name)
		end.AddPrimaryKeyColumnWithMaxValue(name)
	}
	for _, line := range scanAll(t, c, tablestore.RangeRowQueryCriteria{TableName: index, StartPrimaryKey: start, EndPrimaryKey: end}) {
		_, rest, _ := strings.Cut(line, " ")
		rows = append(rows, "["+rest)
	}
	slices.Sort(rows)
	return rows
}

func TestLastpointIndexesHaveTheNewestRows(t *testing.T) {
	_, wide, c := serveSeries(t, Options{})
	create := seriesTableOf("t", func(m *tablestore.TimeseriesTableMeta) {
		m.AddFieldPrimaryKey("kind", tablestore.PrimaryKeyType_INTEGER)
	})
	create.SetLastpointIndexNames([]string{"x"})
	must[*tablestore.CreateTimeseriesTableResponse](t)(c.CreateTimeseriesTable(create))
	a, b := series("m", "a"), series("m", "b", "k=v")
	wantRows(t, putSeries(t, c,
		seriesRowOf(a, 1000, fields{"kind": 1, "v": 1}),
		seriesRowOf(a, 3000, fields{"kind": 1, "v": 3, "w": "x"}),
		seriesRowOf(a, 2000, fields{"kind": 1, "v": 2}),
		seriesRowOf(b, 1000, fields{"kind": 7, "v": 9}),
	))
	wantRows(t, putSeries(t, c, seriesRowOf(a, 2999, fields{"kind": 1, "v": 0})))
	want := []string{
		`[m a []] _time@3=3000 kind@3=1 v@3=3 w@3=x`,
		`[m b ["k=v"]] _time@1=1000 kind@1=7 v@1=9`,
	}
	wantRows(t, lastpoints(t, wide, "x"), want...)

	describe := must[*tablestore.DescribeTableResponse](t)(wide.DescribeTable(&tablestore.DescribeTableRequest{TableName: "x"}))
	if len(describe.TableMeta.SchemaEntry) != 4 {
		t.Errorf("the key of the index is %v", describe.TableMeta.SchemaEntry)
	}
	change := putChange(key("a"))
	change.TableName = "x"
	_, err := wide.PutRow(&tablestore.PutRowRequest{PutRowChange: change})
	if code(err) == "" {
		t.Error("the index was written to")
	}

	must[*tablestore.CreateTimeseriesLastpointIndexResponse](t)(c.CreateTimeseriesLastpointIndex(tablestore.NewCreateTimeseriesLastpointIndexRequest("t", "all", true)))
	must[*tablestore.CreateTimeseriesLastpointIndexResponse](t)(c.CreateTimeseriesLastpointIndex(tablestore.NewCreateTimeseriesLastpointIndexRequest("t", "new", false)))
	wantRows(t, lastpoints(t, wide, "all"), want...)
	wantRows(t, lastpoints(t, wide, "new"))
	wantRows(t, putSeries(t, c, seriesRowOf(b, 5000, fields{"kind": 7, "v": 10})))
	wantRows(t, lastpoints(t, wide, "new"), `[m b ["k=v"]] _time@5=5000 kind@5=7 v@5=10`)
	_, err = c.CreateTimeseriesLastpointIndex(tablestore.NewCreateTimeseriesLastpointIndexRequest("t", "all", true))
	wantCode(t, err, "OTSObjectAlreadyExist")

	must[*tablestore.DeleteTimeseriesLastpointIndexResponse](t)(c.DeleteTimeseriesLastpointIndex(tablestore.NewDeleteTimeseriesLastpointIndexRequest("t", "all")))
	_, err = wide.DescribeTable(&tablestore.DescribeTableRequest{TableName: "all"})
	wantCode(t, err, "OTSObjectNotExist")
	_, err = c.DeleteTimeseriesLastpointIndex(tablestore.NewDeleteTimeseriesLastpointIndexRequest("t", "all"))
	wantCode(t, err, "OTSObjectNotExist")
	table := must[*tablestore.DescribeTimeseriesTableResponse](t)(c.DescribeTimeseriesTable(tablestore.NewDescribeTimeseriesTableRequset("t")))
	if got := table.GetLastpointIndexNames(); !slices.Equal(got, []string{"x", "new"}) {
		t.Errorf("the indexes are %v", got)
	}
}

func TestAnalyticalStores(t *testing.T) {
	s, c := serveSeriesTable(t, Options{IndexBuild: time.Hour})
	add := func(name string, ttl int32) error {
		store := tablestore.NewTimeseriesAnalyticalStore(name)
		store.SetTimeToLive(ttl)
		_, err := c.CreateTimeseriesAnalyticalStore(tablestore.NewCreateTimeseriesAnalyticalStoreRequest("t", store))
		return err
	}
	wantCode(t, add("s", 2591999), "OTSParameterInvalid")
	wantCode(t, add("s", -1), "")
	wantCode(t, add("s", -1), "OTSObjectAlreadyExist")
	wantCode(t, add("u", -1), "OTSParameterInvalid", "[0, 1]")
	describe := func() *tablestore.DescribeTimeseriesAnalyticalStoreResponse {
		return must[*tablestore.DescribeTimeseriesAnalyticalStoreResponse](t)(c.DescribeTimeseriesAnalyticalStore(tablestore.NewDescribeTimeseriesAnalyticalStoreRequest("t", "s")))
	}
	if got := describe(); *got.AnalyticalStore.TimeToLive != -1 || got.SyncStat.SyncPhase != tablestore.SYNC_TYPE_FULL {
		t.Errorf("a new store lives %d seconds, in phase %v", *got.AnalyticalStore.TimeToLive, got.SyncStat.SyncPhase)
	}
	update := tablestore.NewTimeseriesAnalyticalStore("s")
	update.SetTimeToLive(2592000)
	must[*tablestore.UpdateTimeseriesAnalyticalStoreResponse](t)(c.UpdateTimeseriesAnalyticalStore(tablestore.NewUpdateTimeseriesAnalyticalStoreRequest("t", update)))
	if got := describe(); *got.AnalyticalStore.TimeToLive != 2592000 {
		t.Errorf("the store lives %d seconds", *got.AnalyticalStore.TimeToLive)
	}
	sync := &otsprotocol.UpdateTimeseriesAnalyticalStoreRequest{TableName: proto.String("t"), AnalyticalStore: &otsprotocol.TimeseriesAnalyticalStore{
		StoreName: proto.String("s"), SyncOption: otsprotocol.AnalyticalStoreSyncType_SYNC_TYPE_INCR.Enum()}}
	wantCode(t, ask(t, s, "UpdateTimeseriesAnalyticalStore", sync, nil), "OTSParameterInvalid")
	must[*tablestore.DeleteTimeseriesAnalyticalStoreResponse](t)(c.DeleteTimeseriesAnalyticalStore(tablestore.NewDeleteTimeseriesAnalyticalStoreRequest("t", "s")))
	_, err := c.DeleteTimeseriesAnalyticalStore(tablestore.NewDeleteTimeseriesAnalyticalStoreRequest("t", "s"))
	wantCode(t, err, "OTSObjectNotExist")
}

func TestDeletedTimeseriesTablesLeaveNothing(t *testing.T) {
	s, wide, c := serveSeries(t, Options{})
	for range 2 {
		create := seriesTableOf("t")
		create.SetLastpointIndexNames([]string{"x"})
		must[*tablestore.CreateTimeseriesTableResponse](t)(c.CreateTimeseriesTable(create))
		wantRows(t, readSeriesRows(t, c, series("m", "")))
		wantRows(t, querySeries(t, c, nil, -1))
		wantRows(t, lastpoints(t, wide, "x"))
		wantRows(t, putSeries(t, c, seriesRowOf(series("m", ""), 1, fields{"x": 1})))
		must[*tablestore.DeleteTimeseriesTableResponse](t)(c.DeleteTimeseriesTable(tablestore.NewDeleteTimeseriesTableRequest("t")))
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		if it.Key()[0] != prefixNextID {
			t.Errorf("key %q is left", it.Key())
		}
	}
}

func TestFaultsMeetSeries(t *testing.T) {
	s, c := serveSeriesTable(t, Options{})
	var rows []*tablestore.TimeseriesRow
	for i := range 10 {
		rows = append(rows, seriesRowOf(series("m", ""), int64(i), fields{"x": "v"}))
	}
	for _, test := range []struct {
		kind    FaultKind
		code    string
		written int
	}{{FaultRows, "OTSServerBusy", 5}, {FaultRowsTimeout, "OTSTimeout", 10}} {
		misbehave(t, s, Fault{Kind: test.kind, Times: 1})
		failed := putSeries(t, c, rows...)
		if len(failed) != 5 || !strings.HasSuffix(failed[0], ": "+test.code) {
			t.Errorf("%s: rows %v fail, want 5 with %s", test.kind, failed, test.code)
		}
		if got := len(readSeriesRows(t, c, series("m", ""))); got != test.written {
			t.Errorf("%s: %d rows are written, want %d", test.kind, got, test.written)
		}
	}
	misbehave(t, s, Fault{Kind: FaultEmptyPage, Times: 3})
	if got := len(readSeriesRows(t, c, series("m", ""))); got != 10 {
		t.Errorf("%d rows after empty pages", got)
	}
	misbehave(t, s, Fault{Kind: FaultEmptyPage, Times: 3})
	wantRows(t, querySeries(t, c, nil, -1), "[m ]")
	for _, kind := range []FaultKind{FaultBusy, FaultTimeout} {
		misbehave(t, s, Fault{Kind: kind, Times: 1})
		req := tablestore.NewPutTimeseriesDataRequest("t")
		req.AddTimeseriesRows(rows...)
		if _, err := c.PutTimeseriesData(req); code(err) == "" {
			t.Errorf("%s: no error", kind)
		}
	}
	get := &otsprotocol.GetTimeseriesDataRequest{TableName: proto.String("t"), TimeSeriesKey: &otsprotocol.TimeseriesKey{Measurement: proto.String("m")}, SpecificTime: proto.Int64(3)}
	rep, err := s.do(request{action: "GetTimeseriesData", instance: "demo", body: must[[]byte](t)(proto.Marshal(get))}, Fault{})
	if err != nil {
		t.Fatal(err)
	}
	body := must[[]byte](t)(s.faults.corrupt("GetTimeseriesData", rep.body))
	resp := &otsprotocol.GetTimeseriesDataResponse{}
	if err := proto.Unmarshal(body, resp); err != nil {
		t.Fatal(err)
	}
	wantCode(t, parseBuffer(resp.RowsData, new(row)), "OTSParameterInvalid", "checksum")
}

// TestAcknowledgedSeriesSurviveAKill kills the server in the middle of writes and
// finds every row it acknowledged, its series and the newest of them.
func TestAcknowledgedSeriesSurviveAKill(t *testing.T) {
	dir := t.TempDir()
	url, kill := childAt(t, dir)
	c := seriesClientOf(url)
	create := seriesTableOf("t")
	create.SetLastpointIndexNames([]string{"x"})
	must[*tablestore.CreateTimeseriesTableResponse](t)(c.CreateTimeseriesTable(create))
	const workers = 4
	acknowledged := [workers]int64{}
	var count atomic.Int64
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i := int64(1); ; i++ {
				req := tablestore.NewPutTimeseriesDataRequest("t")
				req.AddTimeseriesRows(seriesRowOf(series("m", fmt.Sprint(worker)), i*1000, fields{"v": "v"}))
				if _, err := c.PutTimeseriesData(req); err != nil {
					return
				}
				acknowledged[worker] = i
				if count.Add(1) == 200 {
					go kill()
				}
			}
		})
	}
	wg.Wait()
	kill()

	url, _ = childAt(t, dir)
	c = seriesClientOf(url)
	wantRows(t, querySeries(t, c, nil, -1), "[m 0]", "[m 1]", "[m 2]", "[m 3]")
	newest := lastpoints(t, clientOf(url, "demo"), "x")
	for worker, last := range acknowledged {
		rows := readSeriesRows(t, c, series("m", fmt.Sprint(worker)))
		if n := int64(len(rows)); n < last || n > last+1 {
			t.Errorf("%d rows of worker %d, %d were acknowledged", n, worker, last)
		}
		if want := fmt.Sprintf("_time@%d=%d ", len(rows), len(rows)*1000); !strings.Contains(newest[worker], want) {
			t.Errorf("the newest of worker %d is %q, want %q", worker, newest[worker], want)
		}
	}
	if count.Load() < 100 {
		t.Fatalf("only %d writes were acknowledged", count.Load())
	}
}

// The Go SDK has no options of metadata, so they are asked for by hand.
func TestMetadataExpiresAndIsFixed(t *testing.T) {
	clock := newClock()
	s, c := serveSeriesTable(t, Options{Clock: clock.now})
	wantRows(t, putSeries(t, c, seriesRowOf(series("m", ""), 5, fields{"x": 1})))
	update := func(rows *int32, change ...metaOptionsMessage) error {
		req := &otsprotocol.UpdateTimeseriesTableRequest{TableName: proto.String("t")}
		if rows != nil {
			req.TableOptions = &otsprotocol.TimeseriesTableOptions{TimeToLive: rows}
		}
		for _, m := range change {
			req.XXX_unrecognized = must[[]byte](t)(proto.Marshal(&updateTableRest{MetaOptions: &m}))
		}
		return ask(t, s, "UpdateTimeseriesTable", req, nil)
	}
	fixed := metaOptionsMessage{proto.Bool(false), proto.Int32(minMetaLife)}
	wantCode(t, update(nil), "OTSParameterInvalid")
	wantCode(t, update(proto.Int32(86400), fixed), "OTSParameterInvalid")
	wantCode(t, update(nil, fixed), "OTSParameterInvalid", "less than TimeToLive")
	wantCode(t, update(proto.Int32(minMetaLife)), "")
	wantCode(t, update(nil, fixed), "")
	wantCode(t, update(proto.Int32(minMetaLife+1)), "OTSParameterInvalid", "less than TimeToLive")
	wantCode(t, update(nil, metaOptionsMessage{AllowUpdateAttributes: proto.Bool(true)}), "OTSParameterInvalid")

	describe := &otsprotocol.DescribeTimeseriesTableResponse{}
	if err := ask(t, s, "DescribeTimeseriesTable", &otsprotocol.DescribeTimeseriesTableRequest{TableName: proto.String("t")}, describe); err != nil {
		t.Fatal(err)
	}
	if got := must[*metaOptionsMessage](t)(createMetaOptions(describe.TableMeta)); !proto.Equal(got, &fixed) {
		t.Errorf("the options are %v, want %v", got, &fixed)
	}

	attributes := func(text *string) string {
		meta := &otsprotocol.TimeseriesMeta{TimeSeriesKey: &otsprotocol.TimeseriesKey{Measurement: proto.String("n")}, Attributes: text}
		resp := &otsprotocol.UpdateTimeseriesMetaResponse{}
		if err := ask(t, s, "UpdateTimeseriesMeta", &otsprotocol.UpdateTimeseriesMetaRequest{TableName: proto.String("t"), TimeseriesMeta: []*otsprotocol.TimeseriesMeta{meta}}, resp); err != nil {
			t.Fatal(err)
		}
		if len(resp.FailedRows) == 0 {
			return ""
		}
		return resp.FailedRows[0].GetErrorCode()
	}
	if got := attributes(proto.String(`["a=b"]`)); got != "OTSParameterInvalid" {
		t.Errorf("attributes that are fixed change: %q", got)
	}
	clock.advance(time.Second)
	if got := attributes(nil); got != "" {
		t.Errorf("a series cannot be made: %q", got)
	}
	found := func() (names []string) {
		resp := &otsprotocol.QueryTimeseriesMetaResponse{}
		if err := ask(t, s, "QueryTimeseriesMeta", &otsprotocol.QueryTimeseriesMetaRequest{TableName: proto.String("t")}, resp); err != nil {
			t.Fatal(err)
		}
		for _, meta := range resp.TimeseriesMetas {
			names = append(names, meta.TimeSeriesKey.GetMeasurement())
		}
		return names
	}
	wantRows(t, found(), "m", "n")
	clock.advance(minMetaLife * time.Second)
	wantRows(t, found(), "n")
}

func TestTimeseriesTablesAreThereAfterOpening(t *testing.T) {
	dir := t.TempDir()
	s := must[*Server](t)(Open(Options{Dir: dir}))
	create := createSeriesTable("t", func(r *otsprotocol.CreateTimeseriesTableRequest) {
		r.EnableAnalyticalStore = proto.Bool(true)
		r.LastpointIndexMetas = []*otsprotocol.LastpointIndexMetaForCreate{{IndexTableName: proto.String("x")}}
		r.TableMeta.TimeseriesKeySchema = []string{"_m_name", "region"}
		r.TableMeta.TableOptions = &otsprotocol.TimeseriesTableOptions{TimeToLive: proto.Int32(math.MaxInt32)}
	})
	describe := func() string {
		t.Helper()
		resp := &otsprotocol.DescribeTimeseriesTableResponse{}
		if err := ask(t, s, "DescribeTimeseriesTable", &otsprotocol.DescribeTimeseriesTableRequest{TableName: proto.String("t")}, resp); err != nil {
			t.Fatal(err)
		}
		return resp.String()
	}
	if err := ask(t, s, "CreateTimeseriesTable", create, nil); err != nil {
		t.Fatal(err)
	}
	before := describe()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = must[*Server](t)(Open(Options{Dir: dir}))
	defer s.Close()
	if after := describe(); after != before {
		t.Errorf("the table is\n%s\nand was\n%s", after, before)
	}
	if err := ask(t, s, "DescribeTable", &otsprotocol.DescribeTableRequest{TableName: proto.String("x")}, nil); err != nil {
		t.Errorf("its index: %v", err)
	}
}
