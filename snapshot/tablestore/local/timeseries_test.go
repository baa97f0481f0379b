package local

import (
	"bytes"
	"fmt"
	"math"
	"net/http/httptest"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// serveSeries opens a server, the SDK's client for it and the one for timeseries.
func serveSeries(t *testing.T, o Options) (*Server, *tablestore.TableStoreClient, *tablestore.TimeseriesClient) {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, clientOf(h.URL, "demo"), seriesClientOf(h.URL)
}

func seriesClientOf(url string) *tablestore.TimeseriesClient {
	config := tablestore.NewDefaultTableStoreConfig()
	config.RetryTimes = 0
	return tablestore.NewTimeseriesClientWithConfig(url, "demo", DefaultAccessKeyID, DefaultAccessKeySecret, "", config, nil)
}

// seriesTableOf describes a timeseries table without an analytical store.
func seriesTableOf(name string, change ...func(*tablestore.TimeseriesTableMeta)) *tablestore.CreateTimeseriesTableRequest {
	meta := tablestore.NewTimeseriesTableMeta(name)
	meta.SetTimeseriesTableOptions(tablestore.NewTimeseriesTableOptions(-1))
	for _, f := range change {
		f(meta)
	}
	req := tablestore.NewCreateTimeseriesTableRequest()
	req.SetTimeseriesTableMeta(meta)
	req.SetEnableAnalyticalStore(false)
	return req
}

// serveSeriesTable is a server with a timeseries table t.
func serveSeriesTable(t *testing.T, o Options, change ...func(*tablestore.TimeseriesTableMeta)) (*Server, *tablestore.TimeseriesClient) {
	t.Helper()
	s, _, c := serveSeries(t, o)
	must[*tablestore.CreateTimeseriesTableResponse](t)(c.CreateTimeseriesTable(seriesTableOf("t", change...)))
	return s, c
}

// series builds the identifiers of a series: a measurement, a source and tags as
// k=v.
func series(measurement, source string, tags ...string) *tablestore.TimeseriesKey {
	key := tablestore.NewTimeseriesKey()
	key.SetMeasurementName(measurement)
	key.SetDataSource(source)
	for _, tag := range tags {
		name, value, _ := strings.Cut(tag, "=")
		key.AddTag(name, value)
	}
	return key
}

// fields are the fields of a row, by name.
type fields map[string]any

func seriesRowOf(key *tablestore.TimeseriesKey, at int64, fields fields) *tablestore.TimeseriesRow {
	row := tablestore.NewTimeseriesRow(key)
	row.SetTimeInus(at)
	for name, v := range fields {
		kind := tablestore.ColumnType_BINARY
		switch x := v.(type) {
		case int:
			kind, v = tablestore.ColumnType_INTEGER, int64(x)
		case int64:
			kind = tablestore.ColumnType_INTEGER
		case string:
			kind = tablestore.ColumnType_STRING
		case bool:
			kind = tablestore.ColumnType_BOOLEAN
		case float64:
			kind = tablestore.ColumnType_DOUBLE
		}
		row.AddField(name, tablestore.NewColumnValue(kind, v))
	}
	return row
}

// putSeries writes rows and returns what became of those that failed, as
// index: code.
func putSeries(t *testing.T, c *tablestore.TimeseriesClient, rows ...*tablestore.TimeseriesRow) (failed []string) {
	t.Helper()
	req := tablestore.NewPutTimeseriesDataRequest("t")
	req.AddTimeseriesRows(rows...)
	resp := must[*tablestore.PutTimeseriesDataResponse](t)(c.PutTimeseriesData(req))
	for _, f := range resp.GetFailedRowResults() {
		failed = append(failed, fmt.Sprintf("%d: %s", f.Index, f.ErrorCode))
	}
	return failed
}

// showSeriesRow writes a row on a line: its series in brackets, its time, its
// fields as name=value.
func showSeriesRow(row *tablestore.TimeseriesRow) string {
	var parts []string
	for name, v := range row.GetFieldsMap() {
		parts = append(parts, fmt.Sprintf("%s=%v", name, v.Value))
	}
	sort.Strings(parts)
	return fmt.Sprintf("%s@%d %s", showSeries(row.GetTimeseriesKey()), row.GetTimeInus(), strings.Join(parts, " "))
}

func showSeries(key *tablestore.TimeseriesKey) string {
	parts := []string{key.GetMeasurementName(), key.GetDataSource()}
	for name, v := range key.GetTags() {
		parts = append(parts, name+"="+v)
	}
	sort.Strings(parts[2:])
	return "[" + strings.Join(parts, " ") + "]"
}

// readSeriesRows reads rows page by page and shows them.
func readSeriesRows(t *testing.T, c *tablestore.TimeseriesClient, key *tablestore.TimeseriesKey, change ...func(*tablestore.GetTimeseriesDataRequest)) (rows []string) {
	t.Helper()
	req := tablestore.NewGetTimeseriesDataRequest("t")
	req.SetTimeseriesKey(key)
	req.SetTimeRange(0, math.MaxInt64)
	for _, f := range change {
		f(req)
	}
	for {
		resp := must[*tablestore.GetTimeseriesDataResponse](t)(c.GetTimeseriesData(req))
		for _, row := range resp.GetRows() {
			rows = append(rows, showSeriesRow(row))
		}
		if len(resp.GetNextToken()) == 0 {
			return rows
		}
		req.SetNextToken(resp.GetNextToken())
	}
}

// querySeries finds series page by page and shows them with their attributes.
func querySeries(t *testing.T, c *tablestore.TimeseriesClient, condition tablestore.MetaQueryCondition, limit int32) (found []string) {
	t.Helper()
	req := tablestore.NewQueryTimeseriesMetaRequest("t")
	req.SetLimit(limit)
	if condition != nil {
		req.SetCondition(condition)
	}
	for {
		resp := must[*tablestore.QueryTimeseriesMetaResponse](t)(c.QueryTimeseriesMeta(req))
		for _, meta := range resp.GetTimeseriesMetas() {
			line := showSeries(meta.GetTimeseriesKey())
			if attributes := meta.GetAttributes(); len(attributes) > 0 {
				line += fmt.Sprint(" ", attributes)
			}
			found = append(found, line)
		}
		if len(resp.GetNextToken()) == 0 {
			return found
		}
		req.SetNextToken(resp.GetNextToken())
	}
}

func TestSeriesRowsComeBackInEveryForm(t *testing.T) {
	defer func(form otsprotocol.RowsSerializeType) { tablestore.RowsSerializeType = form }(tablestore.RowsSerializeType)
	for _, form := range []otsprotocol.RowsSerializeType{otsprotocol.RowsSerializeType_RST_FLAT_BUFFER, otsprotocol.RowsSerializeType_RST_PROTO_BUFFER} {
		tablestore.RowsSerializeType = form
		_, c := serveSeriesTable(t, Options{})
		key := series("cpu", "host 1", "os=Ubuntu 24", "city=杭州")
		failed := putSeries(t, c,
			seriesRowOf(key, 0, fields{"x": 1}),
			seriesRowOf(key, 30, fields{"int": int64(math.MinInt64), "text": "", "flag": true, "Ratio": -0.5, "blob": []byte{0, 255}}),
			seriesRowOf(key, 20, fields{"a": 1, "b": "2"}),
			seriesRowOf(key, 20, fields{"b": "3"}),
			seriesRowOf(series("cpu", "host 1", "os=Ubuntu 24"), 20, fields{"other": 1}),
			seriesRowOf(key, math.MaxInt64-1, fields{"last": false}),
		)
		wantRows(t, failed)
		name := "[cpu host 1 city=杭州 os=Ubuntu 24]"
		want := []string{
			name + "@0 x=1",
			name + "@20 b=3", // the second write is in place of the first
			name + "@30 blob=[0 255] flag=true int=-9223372036854775808 ratio=-0.5 text=",
			name + "@9223372036854775806 last=false",
		}
		wantRows(t, readSeriesRows(t, c, key), want...)
		wantRows(t, readSeriesRows(t, c, series("cpu", "host 1", "os=Ubuntu 24")), "[cpu host 1 os=Ubuntu 24]@20 other=1")
		wantRows(t, readSeriesRows(t, c, series("cpu", "host 1")))
	}
}

func TestSeriesRowsAreReadInRangesAndPages(t *testing.T) {
	s, c := serveSeriesTable(t, Options{})
	key := series("m", "")
	var rows []*tablestore.TimeseriesRow
	var all []string
	for i := range 10 {
		rows = append(rows, seriesRowOf(key, int64(i), fields{"n": i, "s": "x"}))
		all = append(all, fmt.Sprintf("[m ]@%d n=%d s=x", i, i))
	}
	wantRows(t, putSeries(t, c, rows...))
	reversed := slices.Clone(all)
	slices.Reverse(reversed)
	for _, limit := range []int32{1, 3, 9, 10, 11, 5000} {
		paged := func(r *tablestore.GetTimeseriesDataRequest) { r.SetLimit(limit) }
		backward := func(r *tablestore.GetTimeseriesDataRequest) { r.SetBackward(true) }
		some := func(r *tablestore.GetTimeseriesDataRequest) { r.SetTimeRange(2, 7) }
		wantRows(t, readSeriesRows(t, c, key, paged), all...)
		wantRows(t, readSeriesRows(t, c, key, paged, backward), reversed...)
		wantRows(t, readSeriesRows(t, c, key, paged, some), all[2:7]...)
		wantRows(t, readSeriesRows(t, c, key, paged, some, backward), reversed[3:8]...)
	}
	ofType := func(kind tablestore.ColumnType) func(*tablestore.GetTimeseriesDataRequest) {
		return func(r *tablestore.GetTimeseriesDataRequest) {
			r.SetTimeRange(4, 5)
			r.AddFieldToGet(&tablestore.FieldToGet{Name: "n", Type: kind})
		}
	}
	wantRows(t, readSeriesRows(t, c, key, ofType(tablestore.ColumnType_INTEGER)), "[m ]@4 n=4")
	wantRows(t, readSeriesRows(t, c, key, ofType(tablestore.ColumnType_DOUBLE)))

	get := &otsprotocol.GetTimeseriesDataRequest{TableName: proto.String("t"), TimeSeriesKey: &otsprotocol.TimeseriesKey{Measurement: proto.String("m")}, SpecificTime: proto.Int64(6)}
	answer := &otsprotocol.GetTimeseriesDataResponse{}
	if err := ask(t, s, "GetTimeseriesData", get, answer); err != nil {
		t.Fatal(err)
	}
	var r row
	if err := parseBuffer(answer.RowsData, &r); err != nil || r.key[len(r.key)-1].value.integer() != 6 || answer.NextToken != nil {
		t.Errorf("a specific time: row %v, %v, token %q", r, err, answer.NextToken)
	}
}

func TestSeriesPagesEndBelowTheLimitOfAnAnswer(t *testing.T) {
	_, c := serveSeriesTable(t, Options{})
	key, big := series("m", ""), bytes.Repeat([]byte{'x'}, 1<<20)
	for i := range 6 {
		wantRows(t, putSeries(t, c, seriesRowOf(key, int64(i), fields{"big": big})))
	}
	req := tablestore.NewGetTimeseriesDataRequest("t")
	req.SetTimeseriesKey(key)
	req.SetTimeRange(0, 100)
	resp := must[*tablestore.GetTimeseriesDataResponse](t)(c.GetTimeseriesData(req))
	if len(resp.GetRows()) >= 6 || len(resp.GetNextToken()) == 0 {
		t.Errorf("%d rows of 1 MiB in an answer", len(resp.GetRows()))
	}
	if got := len(readSeriesRows(t, c, key)); got != 6 {
		t.Errorf("%d rows in all pages, want 6", got)
	}
}

func TestRowsOfSeriesAreChecked(t *testing.T) {
	_, c := serveSeriesTable(t, Options{})
	long := func(n int) string { return strings.Repeat("x", n) }
	good := series("m", "")
	many := func(n int) fields {
		f := fields{}
		for i := range n {
			f[fmt.Sprint("f", i)] = i
		}
		return f
	}
	for _, test := range []struct {
		name string
		row  *tablestore.TimeseriesRow
		ok   bool
	}{
		{"the longest measurement", seriesRowOf(series(long(128), ""), 1, fields{"x": 1}), true},
		{"a measurement too long", seriesRowOf(series(long(129), ""), 1, fields{"x": 1}), false},
		{"no measurement", seriesRowOf(series("", ""), 1, fields{"x": 1}), false},
		{"a measurement with #", seriesRowOf(series("a#b", ""), 1, fields{"x": 1}), false},
		{"a measurement with a space", seriesRowOf(series("a b", ""), 1, fields{"x": 1}), false},
		{"a measurement in another script", seriesRowOf(series("温度", ""), 1, fields{"x": 1}), true},
		{"the longest source", seriesRowOf(series("m", long(256)), 1, fields{"x": 1}), true},
		{"a source too long", seriesRowOf(series("m", long(257)), 1, fields{"x": 1}), false},
		{"the longest tags", seriesRowOf(series("m", "", "k="+long(1018)), 1, fields{"x": 1}), true},
		{"tags too long", seriesRowOf(series("m", "", "k="+long(1019)), 1, fields{"x": 1}), false},
		{"a tag named with a space", seriesRowOf(series("m", "", "a b=c"), 1, fields{"x": 1}), false},
		{"a tag named in another script", seriesRowOf(series("m", "", "城=c"), 1, fields{"x": 1}), false},
		{"a tag with a quote", seriesRowOf(series("m", "", `k="`), 1, fields{"x": 1}), false},
		{"a tag with =", seriesRowOf(series("m", "", "k=a=b"), 1, fields{"x": 1}), false},
		{"a time before 1970", seriesRowOf(good, -1, fields{"x": 1}), false},
		{"no field", seriesRowOf(good, 1, nil), false},
		{"the most fields", seriesRowOf(good, 1, many(1024)), true},
		{"too many fields", seriesRowOf(good, 1, many(1025)), false},
		{"the longest name of a field", seriesRowOf(good, 1, fields{long(128): 1}), true},
		{"a name of a field too long", seriesRowOf(good, 1, fields{long(129): 1}), false},
		{"a name that begins with a digit", seriesRowOf(good, 1, fields{"1x": 1}), false},
		{"a name with a hyphen", seriesRowOf(good, 1, fields{"a-b": 1}), false},
		{"a name of the service", seriesRowOf(good, 1, fields{"_time": 1}), false},
		{"the longest value", seriesRowOf(good, 1, fields{"x": long(2 << 20)}), true},
		{"a value too long", seriesRowOf(good, 1, fields{"x": long(2<<20 + 1)}), false},
		{"not a number", seriesRowOf(good, 1, fields{"x": math.NaN()}), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			failed := putSeries(t, c, seriesRowOf(good, 0, fields{"x": 1}), test.row)
			want := []string{"1: OTSParameterInvalid"}
			if test.ok {
				want = nil
			}
			wantRows(t, failed, want...)
		})
	}
	wantRows(t, readSeriesRows(t, c, good, func(r *tablestore.GetTimeseriesDataRequest) { r.SetTimeRange(0, 1) }), "[m ]@0 x=1")
}

func TestRequestsOfSeriesAreChecked(t *testing.T) {
	s, c := serveSeriesTable(t, Options{})
	put := func(n int) error {
		req := tablestore.NewPutTimeseriesDataRequest("t")
		for i := range n {
			req.AddTimeseriesRows(seriesRowOf(series("m", ""), int64(i), fields{"x": 1}))
		}
		_, err := c.PutTimeseriesData(req)
		return err
	}
	wantCode(t, put(200), "")
	wantCode(t, put(201), "OTSParameterInvalid", "[1, 200]")

	id := &otsprotocol.TimeseriesKey{Measurement: proto.String("m")}
	rows := func(form otsprotocol.RowsSerializeType, data string, sum *int32) *otsprotocol.PutTimeseriesDataRequest {
		return &otsprotocol.PutTimeseriesDataRequest{TableName: proto.String("t"), RowsData: &otsprotocol.TimeseriesRows{Type: form.Enum(), RowsData: []byte(data), FlatbufferCrc32C: sum}}
	}
	get := func(change func(*otsprotocol.GetTimeseriesDataRequest)) *otsprotocol.GetTimeseriesDataRequest {
		req := &otsprotocol.GetTimeseriesDataRequest{TableName: proto.String("t"), TimeSeriesKey: id, EndTime: proto.Int64(9)}
		change(req)
		return req
	}
	for _, test := range []struct {
		name, action string
		message      proto.Message
		code         string
	}{
		{"rows of no sense", "PutTimeseriesData", rows(otsprotocol.RowsSerializeType_RST_FLAT_BUFFER, "????????", nil), "OTSParameterInvalid"},
		{"no rows", "PutTimeseriesData", rows(otsprotocol.RowsSerializeType_RST_PROTO_BUFFER, "", nil), "OTSParameterInvalid"},
		{"a wrong checksum", "PutTimeseriesData", rows(otsprotocol.RowsSerializeType_RST_PROTO_BUFFER, "", proto.Int32(7)), "OTSParameterInvalid"},
		{"a form not known here", "PutTimeseriesData", rows(otsprotocol.RowsSerializeType_RST_PLAIN_BUFFER, "", nil), "OTSUnsupportOperation"},
		{"too many bytes", "PutTimeseriesData", rows(otsprotocol.RowsSerializeType_RST_PROTO_BUFFER, strings.Repeat("x", 4<<20+1), nil), "OTSParameterInvalid"},
		{"a limit of 0", "GetTimeseriesData", get(func(r *otsprotocol.GetTimeseriesDataRequest) { r.Limit = proto.Int32(0) }), "OTSParameterInvalid"},
		{"a limit too high", "GetTimeseriesData", get(func(r *otsprotocol.GetTimeseriesDataRequest) { r.Limit = proto.Int32(5001) }), "OTSParameterInvalid"},
		{"an empty range", "GetTimeseriesData", get(func(r *otsprotocol.GetTimeseriesDataRequest) { r.BeginTime = proto.Int64(9) }), "OTSParameterInvalid"},
		{"a begin before 1970", "GetTimeseriesData", get(func(r *otsprotocol.GetTimeseriesDataRequest) { r.BeginTime = proto.Int64(-1) }), "OTSParameterInvalid"},
		{"a token of no sense", "GetTimeseriesData", get(func(r *otsprotocol.GetTimeseriesDataRequest) { r.Token = []byte("x") }), "OTSParameterInvalid"},
		{"a field without a type", "GetTimeseriesData", get(func(r *otsprotocol.GetTimeseriesDataRequest) {
			r.FieldsToGet = []*otsprotocol.TimeseriesFieldsToGet{{Name: proto.String("x")}}
		}), "OTSParameterInvalid"},
		{"tags given twice", "GetTimeseriesData", get(func(r *otsprotocol.GetTimeseriesDataRequest) {
			r.TimeSeriesKey = &otsprotocol.TimeseriesKey{Measurement: proto.String("m"), Tags: proto.String(`["a=b"]`),
				TagList: []*otsprotocol.TimeseriesTag{{Name: proto.String("a"), Value: proto.String("b")}}}
		}), "OTSParameterInvalid"},
		{"tags badly written", "GetTimeseriesData", get(func(r *otsprotocol.GetTimeseriesDataRequest) {
			r.TimeSeriesKey = &otsprotocol.TimeseriesKey{Measurement: proto.String("m"), Tags: proto.String(`["a=b",]`)}
		}), "OTSParameterInvalid"},
		{"no such table", "GetTimeseriesData", get(func(r *otsprotocol.GetTimeseriesDataRequest) { r.TableName = proto.String("u") }), "OTSObjectNotExist"},
		{"a query token of no sense", "QueryTimeseriesMeta", &otsprotocol.QueryTimeseriesMetaRequest{TableName: proto.String("t"), Token: []byte("x")}, "OTSParameterInvalid"},
		{"an update of nothing", "UpdateTimeseriesMeta", &otsprotocol.UpdateTimeseriesMetaRequest{TableName: proto.String("t")}, "OTSParameterInvalid"},
		{"a deletion of nothing", "DeleteTimeseriesMeta", &otsprotocol.DeleteTimeseriesMetaRequest{TableName: proto.String("t")}, "OTSParameterInvalid"},
		{"a scan", "ScanTimeseriesData", &otsprotocol.ListTimeseriesTableRequest{}, "OTSUnsupportOperation"},
	} {
		t.Run(test.name, func(t *testing.T) { wantCode(t, ask(t, s, test.action, test.message, nil), test.code) })
	}
}

func TestSeriesAreFoundByWhatTheyAre(t *testing.T) {
	clock := newClock()
	_, c := serveSeriesTable(t, Options{Clock: clock.now})
	wantRows(t, putSeries(t, c,
		seriesRowOf(series("cpu", "a", "os=linux", "city=x"), 1, fields{"f": 1}),
		seriesRowOf(series("cpu", "b", "os=bsd"), 1, fields{"f": 1}),
		seriesRowOf(series("cpu", "b", "os=bsd"), 2, fields{"f": 1}),
		seriesRowOf(series("net", "a"), 1, fields{"f": 1}),
	))
	const linux, bsd, net = "[cpu a city=x os=linux]", "[cpu b os=bsd]", "[net a]"
	for _, limit := range []int32{-1, 1, 2, 3, 1000} {
		wantRows(t, querySeries(t, c, nil, limit), linux, bsd, net)
	}
	before := clock.at.UnixMicro()
	clock.advance(time.Second)
	meta := tablestore.NewTimeseriesMeta(series("net", "a"))
	meta.AddAttribute("owner", "ops")
	update := tablestore.NewUpdateTimeseriesMetaRequest("t")
	update.AddTimeseriesMetas(meta)
	must[*tablestore.UpdateTimeseriesMetaResponse](t)(c.UpdateTimeseriesMeta(update))
	const owned = net + " map[owner:ops]"

	and := func(op tablestore.MetaQueryCompositeOperator, sub ...tablestore.MetaQueryCondition) tablestore.MetaQueryCondition {
		return tablestore.NewCompositeMetaQueryCondition(op, sub...)
	}
	measurement := func(op tablestore.MetaQuerySingleOperator, v string) tablestore.MetaQueryCondition {
		return tablestore.NewMeasurementQueryCondition(op, v)
	}
	for i, test := range []struct {
		condition tablestore.MetaQueryCondition
		want      []string
	}{
		{measurement(tablestore.OP_EQUAL, "cpu"), []string{linux, bsd}},
		{measurement(tablestore.OP_GREATER_THAN, "cpu"), []string{owned}},
		{measurement(tablestore.OP_GREATER_EQUAL, "cpu"), []string{linux, bsd, owned}},
		{measurement(tablestore.OP_LESS_THAN, "net"), []string{linux, bsd}},
		{measurement(tablestore.OP_LESS_EQUAL, "net"), []string{linux, bsd, owned}},
		{measurement(tablestore.OP_PREFIX, "n"), []string{owned}},
		{tablestore.NewDataSourceMetaQueryCondition(tablestore.OP_EQUAL, "a"), []string{linux, owned}},
		{tablestore.NewTagMetaQueryCondition(tablestore.OP_GREATER_EQUAL, "os", ""), []string{linux, bsd}},
		{tablestore.NewTagMetaQueryCondition(tablestore.OP_PREFIX, "os", "lin"), []string{linux}},
		{tablestore.NewAttributeMetaQueryCondition(tablestore.OP_EQUAL, "owner", "ops"), []string{owned}},
		{tablestore.NewUpdateTimeMetaQueryCondition(tablestore.OP_GREATER_THAN, before), []string{owned}},
		{and(tablestore.OP_AND, measurement(tablestore.OP_EQUAL, "cpu"), tablestore.NewDataSourceMetaQueryCondition(tablestore.OP_EQUAL, "a")), []string{linux}},
		{and(tablestore.OP_OR, measurement(tablestore.OP_EQUAL, "net"), tablestore.NewDataSourceMetaQueryCondition(tablestore.OP_EQUAL, "b")), []string{bsd, owned}},
		{and(tablestore.OP_NOT, measurement(tablestore.OP_EQUAL, "cpu")), []string{owned}},
		{and(tablestore.OP_NOT, and(tablestore.OP_OR, measurement(tablestore.OP_EQUAL, "net"), tablestore.NewDataSourceMetaQueryCondition(tablestore.OP_EQUAL, "b"))), []string{linux}},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) { wantRows(t, querySeries(t, c, test.condition, 1), test.want...) })
	}

	req := tablestore.NewQueryTimeseriesMetaRequest("t")
	req.SetTotalHits(true)
	req.SetLimit(1)
	req.SetCondition(measurement(tablestore.OP_EQUAL, "cpu"))
	for range 2 {
		resp := must[*tablestore.QueryTimeseriesMetaResponse](t)(c.QueryTimeseriesMeta(req))
		if resp.GetTotalHits() != 2 || len(resp.GetTimeseriesMetas()) != 1 {
			t.Errorf("%d series of %d, want 1 of 2 on each page", len(resp.GetTimeseriesMetas()), resp.GetTotalHits())
		}
		req.SetNextToken(resp.GetNextToken())
	}
}

func TestAttributesOfSeries(t *testing.T) {
	_, c := serveSeriesTable(t, Options{})
	update := func(change func(*tablestore.TimeseriesMeta)) {
		t.Helper()
		meta := tablestore.NewTimeseriesMeta(series("m", "s"))
		change(meta)
		req := tablestore.NewUpdateTimeseriesMetaRequest("t")
		req.AddTimeseriesMetas(meta)
		resp := must[*tablestore.UpdateTimeseriesMetaResponse](t)(c.UpdateTimeseriesMeta(req))
		if failed := resp.GetFailedRowResults(); len(failed) > 0 {
			t.Fatal(failed[0].Error)
		}
	}
	update(func(m *tablestore.TimeseriesMeta) { m.AddAttributes(map[string]string{"b": "2", "a": "1"}) })
	wantRows(t, querySeries(t, c, nil, -1), "[m s] map[a:1 b:2]")
	update(func(m *tablestore.TimeseriesMeta) { m.AddAttributesWithIgnoreFlag(nil, true) })
	wantRows(t, querySeries(t, c, nil, -1), "[m s] map[a:1 b:2]")
	wantRows(t, putSeries(t, c, seriesRowOf(series("m", "s"), 1, fields{"x": 1})))
	wantRows(t, querySeries(t, c, nil, -1), "[m s] map[a:1 b:2]")
	update(func(m *tablestore.TimeseriesMeta) { m.AddAttributes(map[string]string{"c": "3"}) })
	wantRows(t, querySeries(t, c, nil, -1), "[m s] map[c:3]")
	update(func(m *tablestore.TimeseriesMeta) { m.AddAttributes(nil) })
	wantRows(t, querySeries(t, c, nil, -1), "[m s]")

	// The rows of a series outlive its metadata, and a new one brings it back.
	del := tablestore.NewDeleteTimeseriesMetaRequest("t")
	del.AddTimeseriesKeys(series("m", "s"), series("none", ""))
	must[*tablestore.DeleteTimeseriesMetaResponse](t)(c.DeleteTimeseriesMeta(del))
	wantRows(t, querySeries(t, c, nil, -1))
	wantRows(t, readSeriesRows(t, c, series("m", "s")), "[m s]@1 x=1")
	wantRows(t, putSeries(t, c, seriesRowOf(series("m", "s"), 2, fields{"x": 2})))
	wantRows(t, querySeries(t, c, nil, -1), "[m s]")
}

func TestUpdateTimeOfSeriesIsRefreshedNowAndThen(t *testing.T) {
	clock := newClock()
	s, _ := serveSeriesTable(t, Options{Clock: clock.now})
	updated := func() int64 {
		resp := &otsprotocol.QueryTimeseriesMetaResponse{}
		if err := ask(t, s, "QueryTimeseriesMeta", &otsprotocol.QueryTimeseriesMetaRequest{TableName: proto.String("t")}, resp); err != nil {
			t.Fatal(err)
		}
		return resp.TimeseriesMetas[0].GetUpdateTime()
	}
	first := clock.at.UnixMicro()
	for _, test := range []struct {
		after time.Duration
		want  int64
	}{{0, first}, {refreshSeries - 1, first}, {1, first + refreshSeries.Microseconds()}} {
		clock.advance(test.after)
		if err := ask(t, s, "PutTimeseriesData", rawRow(t, rawField("x")), nil); err != nil {
			t.Fatal(err)
		}
		if got := updated(); got != test.want {
			t.Errorf("update time %d, want %d", got, test.want)
		}
	}
}

// rawRow is a request to write a row at 5, of a series with tags as text.
func rawRow(t *testing.T, fields ...*otsprotocol.TimeseriesField) *otsprotocol.PutTimeseriesDataRequest {
	t.Helper()
	body, err := proto.Marshal(&otsprotocol.TimeseriesPBRows{Rows: []*otsprotocol.TimeseriesRow{{
		TimeseriesKey: &otsprotocol.TimeseriesKey{Measurement: proto.String("m"), Tags: proto.String(`["b=2","a=1"]`)},
		Time:          proto.Int64(5),
		Fields:        fields,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return &otsprotocol.PutTimeseriesDataRequest{
		TableName: proto.String("t"),
		RowsData:  &otsprotocol.TimeseriesRows{Type: otsprotocol.RowsSerializeType_RST_PROTO_BUFFER.Enum(), RowsData: body},
	}
}

func rawField(name string) *otsprotocol.TimeseriesField {
	return &otsprotocol.TimeseriesField{FieldName: proto.String(name), ValueInt: proto.Int64(1)}
}

func TestFieldsTheSDKWouldNotSendAreRefused(t *testing.T) {
	s, _ := serveSeriesTable(t, Options{})
	two := rawField("x")
	two.ValueBool = proto.Bool(true)
	for _, test := range []struct {
		name   string
		fields []*otsprotocol.TimeseriesField
		say    string
	}{
		{"upper case", []*otsprotocol.TimeseriesField{rawField("aB")}, "aB"},
		{"one name twice", []*otsprotocol.TimeseriesField{rawField("x"), rawField("y"), rawField("x")}, "Duplicated field: 'x'"},
		{"no value", []*otsprotocol.TimeseriesField{{FieldName: proto.String("x")}}, "one value"},
		{"two values", []*otsprotocol.TimeseriesField{two}, "one value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp := &otsprotocol.PutTimeseriesDataResponse{}
			if err := ask(t, s, "PutTimeseriesData", rawRow(t, test.fields...), resp); err != nil {
				t.Fatal(err)
			}
			if len(resp.FailedRows) != 1 || !strings.Contains(resp.FailedRows[0].GetErrorMessage(), test.say) {
				t.Errorf("failed rows %v, want one that says %q", resp.FailedRows, test.say)
			}
		})
	}
}

func TestMetadataIsLeftAloneWhenAskedTo(t *testing.T) {
	s, c := serveSeriesTable(t, Options{})
	put := rawRow(t, rawField("x"))
	put.MetaUpdateMode = otsprotocol.MetaUpdateMode_MUM_IGNORE.Enum()
	for _, want := range [][]string{nil, {"[m  a=1 b=2]"}} {
		if err := ask(t, s, "PutTimeseriesData", put, &otsprotocol.PutTimeseriesDataResponse{}); err != nil {
			t.Fatal(err)
		}
		wantRows(t, querySeries(t, c, nil, -1), want...)
		wantRows(t, readSeriesRows(t, c, series("m", "", "a=1", "b=2")), "[m  a=1 b=2]@5 x=1")
		put.MetaUpdateMode = nil
	}
}

func TestSeriesWithKeysOfTheirOwn(t *testing.T) {
	s, c := serveSeriesTable(t, Options{}, func(m *tablestore.TimeseriesTableMeta) {
		m.AddTimeseriesKey("_m_name")
		m.AddTimeseriesKey("region")
		m.AddTimeseriesKey("_tags")
		m.AddFieldPrimaryKey("cores", tablestore.PrimaryKeyType_INTEGER)
		m.AddFieldPrimaryKey("model", tablestore.PrimaryKeyType_STRING)
	})
	key := series("cpu", "", "region=hz", "vendor=x")
	wantRows(t, putSeries(t, c,
		seriesRowOf(key, 1, fields{"cores": 8, "model": "b", "t": 1.5}),
		seriesRowOf(key, 1, fields{"cores": 8, "model": "a", "t": 2.5}),
		seriesRowOf(key, 1, fields{"cores": -1, "model": "z"}),
		seriesRowOf(key, 1, fields{"cores": 8, "model": "b", "t": 3.5}),
		seriesRowOf(key, 1, fields{"cores": 8, "t": 1.5}),
		seriesRowOf(key, 1, fields{"cores": "8", "model": "b"}),
		seriesRowOf(series("cpu", "", "vendor=x"), 1, fields{"cores": 8, "model": "b"}),
		seriesRowOf(series("cpu", "host", "region=hz"), 1, fields{"cores": 8, "model": "b"}),
	), "4: OTSParameterInvalid", "5: OTSInvalidPK", "6: OTSParameterInvalid", "7: OTSParameterInvalid")
	want := []string{
		"[cpu  region=hz vendor=x]@1 cores=-1 model=z",
		"[cpu  region=hz vendor=x]@1 cores=8 model=a t=2.5",
		"[cpu  region=hz vendor=x]@1 cores=8 model=b t=3.5",
	}
	one := func(r *tablestore.GetTimeseriesDataRequest) { r.SetLimit(1) }
	wantRows(t, readSeriesRows(t, c, key, one), want...)
	slices.Reverse(want)
	wantRows(t, readSeriesRows(t, c, key, one, func(r *tablestore.GetTimeseriesDataRequest) { r.SetBackward(true) }), want...)
	wantRows(t, querySeries(t, c, tablestore.NewTagMetaQueryCondition(tablestore.OP_EQUAL, "region", "hz"), -1), "[cpu  region=hz vendor=x]")

	old := &otsprotocol.QueryTimeseriesMetaRequest{TableName: proto.String("t")}
	wantCode(t, ask(t, s, "QueryTimeseriesMeta", old, nil), "OTSParameterInvalid", "supported_table_version")

	describe := must[*tablestore.DescribeTimeseriesTableResponse](t)(c.DescribeTimeseriesTable(tablestore.NewDescribeTimeseriesTableRequset("t")))
	meta := describe.GetTimeseriesTableMeta()
	if got := fmt.Sprint(meta.GetTimeseriesKeys()); got != "[_m_name region _tags]" {
		t.Errorf("keys %s", got)
	}
	if got := meta.GetFieldPrimaryKeys(); len(got) != 2 || *got[0].Name != "cores" || *got[1].Type != tablestore.PrimaryKeyType_STRING {
		t.Errorf("fields in the key %v", got)
	}
}
