package tablestore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// cpu describes the parts of a timeseries table as they are made.
func cpu(part string) manifest.Table {
	t := manifest.Table{
		Name: "cpu", Key: manifest.TimeseriesKey(part), Options: manifest.TimeseriesOptions(),
		Timeseries: manifest.Timeseries{Part: part, TTL: -1, MetaTTL: -1, UpdateAttributes: true},
	}
	if part == manifest.MetaPart {
		t.Name = manifest.MetaName(t.Name)
	}
	return t
}

// partLayout has columns for some of what there is.
func partLayout(t testing.TB, table manifest.Table) row.Layout {
	t.Helper()
	columns := []manifest.Column{{Name: "host", Type: manifest.String}, {Name: "load", Type: manifest.Double}}
	if table.Timeseries.Part == manifest.MetaPart {
		columns = []manifest.Column{{Name: "_attributes", Type: manifest.String}}
	}
	l, err := row.NewLayout(table.Key, columns)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (s *stage) timeseries() *ots.TimeseriesClient {
	return ots.NewTimeseriesClient(s.url, "demo", local.DefaultAccessKeyID, local.DefaultAccessKeySecret)
}

// makeTimeseries makes a timeseries table through the SDK.
func (s *stage) makeTimeseries(t testing.TB, name string, options ...func(*ots.TimeseriesTableMeta, *ots.CreateTimeseriesTableRequest)) {
	t.Helper()
	meta := ots.NewTimeseriesTableMeta(name)
	meta.SetTimeseriesTableOptions(ots.NewTimeseriesTableOptions(-1))
	request := ots.NewCreateTimeseriesTableRequest()
	request.SetEnableAnalyticalStore(false)
	request.SetTimeseriesTableMeta(meta)
	for _, o := range options {
		o(meta, request)
	}
	if _, err := s.timeseries().CreateTimeseriesTable(request); err != nil {
		t.Fatal(err)
	}
}

// tagSets are tags as odd as the service takes them.
var tagSets = []map[string]string{
	{},
	{"host": "a"},
	{"host": "a", "region": "b"},
	{"host": "two words"},
	{"host": "a,b"},
	{"host": `\'[]{}`},
	{"host": "日本語\t✓"},
	{"host": ""},
	{"Host": "A", "host": "a"},
	{"!#$%&'()*+,-./:;<>?@[]^_`{|}~\\": "[]"},
	{"host": "\x00\x01"},
}

func keyWith(measurement, source string, tags map[string]string) *ots.TimeseriesKey {
	k := ots.NewTimeseriesKey()
	k.SetMeasurementName(measurement)
	k.SetDataSource(source)
	k.AddTags(tags)
	return k
}

// fillTimeseries writes points of series of every kind, and attributes for some of
// them, through the SDK. It returns how many points and series there are.
func (s *stage) fillTimeseries(t testing.TB, table string, perSeries int) (points, all int) {
	t.Helper()
	client := s.timeseries()
	var rows []*ots.TimeseriesRow
	for _, measurement := range []string{"cpu", "mem", "温度"} {
		for i, tags := range tagSets {
			source := []string{"", "host a", "0"}[i%3]
			all++
			for n := range perSeries {
				rows = append(rows, pointAt(keyWith(measurement, source, tags), int64(n)*1_000_000, n+i))
			}
		}
	}
	extremes := keyWith("extremes", "", nil)
	all++
	rows = append(rows, pointAt(extremes, 0, 0), pointAt(extremes, math.MaxInt64-1, 1))
	for part := range slices.Chunk(rows, 200) {
		request := ots.NewPutTimeseriesDataRequest(table)
		request.AddTimeseriesRows(part...)
		answer, err := client.PutTimeseriesData(request)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range answer.GetFailedRowResults() {
			t.Fatal(f.Error)
		}
	}
	update := ots.NewUpdateTimeseriesMetaRequest(table)
	for i, tags := range tagSets[1:4] {
		meta := ots.NewTimeseriesMeta(keyWith("cpu", []string{"", "host a", "0"}[(i+1)%3], tags))
		meta.AddAttribute("city", "东京 and more")
		meta.AddAttribute("floor", fmt.Sprint(i))
		update.AddTimeseriesMetas(meta)
	}
	alone := ots.NewTimeseriesMeta(keyWith("without_points", "", nil))
	alone.AddAttribute("a", "b")
	update.AddTimeseriesMetas(alone)
	all++
	answer, err := client.UpdateTimeseriesMeta(update)
	if err != nil || len(answer.GetFailedRowResults()) > 0 {
		t.Fatal(err, answer)
	}
	return len(rows), all
}

// pointAt is a point with fields of every type, or of one.
func pointAt(key *ots.TimeseriesKey, time int64, n int) *ots.TimeseriesRow {
	r := ots.NewTimeseriesRow(key)
	r.SetTimeInus(time)
	if n%5 == 4 {
		r.AddField("load", ots.NewColumnValue(ots.ColumnType_INTEGER, int64(n)))
		return r
	}
	r.AddField("load", ots.NewColumnValue(ots.ColumnType_DOUBLE, []float64{math.Copysign(0, -1), math.MaxFloat64, math.SmallestNonzeroFloat64, 0.1}[n%4]))
	r.AddField("host", ots.NewColumnValue(ots.ColumnType_STRING, []string{"", "日本", "x\x00y", `"=,`}[n%4]))
	r.AddField("up", ots.NewColumnValue(ots.ColumnType_BOOLEAN, n%2 == 0))
	r.AddField("raw", ots.NewColumnValue(ots.ColumnType_BINARY, []byte(strings.Repeat("\x00\xff", n%4))))
	r.AddField("count", ots.NewColumnValue(ots.ColumnType_INTEGER, []int64{math.MinInt64, math.MaxInt64, 0, -1}[n%4]))
	return r
}

func scanPart(t testing.TB, in *Instance, part string) [][]byte {
	t.Helper()
	got, err := scan(t, in, snapshot.Scan{Table: cpu(part), Layout: partLayout(t, cpu(part)), Rows: 64})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// smallPages has the service answer in pages of a few points and series.
func smallPages(next http.RoundTripper) http.RoundTripper {
	next = rewrite(next, "GetTimeseriesData", func(body []byte) []byte {
		m := new(otsprotocol.GetTimeseriesDataRequest)
		return limited(body, m, func() { m.Limit = proto.Int32(min(3, cmp.Or(m.GetLimit(), 3))) })
	})
	return rewrite(next, "QueryTimeseriesMeta", func(body []byte) []byte {
		m := new(otsprotocol.QueryTimeseriesMetaRequest)
		return limited(body, m, func() { m.Limit = proto.Int32(4) })
	})
}

func limited(body []byte, m proto.Message, change func()) []byte {
	if err := proto.Unmarshal(body, m); err != nil {
		panic(err)
	}
	change()
	out, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return out
}

func TestATimeseriesTableIsTwo(t *testing.T) {
	s := newStage(t)
	s.create(t, orders)
	s.makeTimeseries(t, "cpu", func(meta *ots.TimeseriesTableMeta, request *ots.CreateTimeseriesTableRequest) {
		meta.SetTimeseriesTableOptions(ots.NewTimeseriesTableOptions(86400 * 90))
		meta.AddTimeseriesKey("_m_name")
		meta.AddTimeseriesKey("host")
		meta.AddTimeseriesKey("_tags")
		store := ots.NewTimeseriesAnalyticalStore("hot")
		store.SetTimeToLive(86400 * 60)
		store.SetSyncOption(ots.SYNC_TYPE_INCR)
		request.SetEnableAnalyticalStore(true)
		request.SetAnalyticalStores([]*ots.TimeseriesAnalyticalStore{store})
		request.SetLastpointIndexNames([]string{"cpu_last"})
	})
	in := s.open(t)
	if names, err := in.Tables(t.Context()); err != nil || !slices.Equal(names, []string{"cpu", "cpu.meta", "orders"}) {
		t.Fatalf("the tables are %v, %v", names, err)
	}
	data, err := in.Describe(t.Context(), "cpu")
	if err != nil {
		t.Fatal(err)
	}
	want := manifest.Timeseries{
		Part: manifest.DataPart, TTL: 86400 * 90, MetaTTL: -1, UpdateAttributes: true, Keys: []string{"_m_name", "host", "_tags"},
		AnalyticalStores: []manifest.AnalyticalStore{{Name: "hot", TTL: 86400 * 60, Sync: "INCR"}}, LastpointIndexes: []string{"cpu_last"},
	}
	if !reflect.DeepEqual(data.Timeseries, want) {
		t.Errorf("described as\n%+v, want\n%+v", data.Timeseries, want)
	}
	meta, err := in.Describe(t.Context(), "cpu.meta")
	if err != nil {
		t.Fatal(err)
	}
	if want.Part = manifest.MetaPart; !reflect.DeepEqual(meta.Timeseries, want) {
		t.Errorf("its series are described as\n%+v, want\n%+v", meta.Timeseries, want)
	}
	for _, described := range []manifest.Table{data, meta} {
		if err := described.Validate(); err != nil || len(described.NotCaptured) == 0 {
			t.Errorf("%s: %v, not captured: %q", described.Name, err, described.NotCaptured)
		}
	}
	s.makeTimeseries(t, "plain")
	plain, err := in.Describe(t.Context(), "plain")
	if want := cpu(manifest.DataPart).Timeseries; err != nil || !reflect.DeepEqual(plain.Timeseries, want) {
		t.Errorf("described as\n%+v, want\n%+v, %v", plain.Timeseries, want, err)
	}
	for _, missing := range []string{"mem", "mem.meta", "orders.meta"} {
		if _, err := in.Describe(t.Context(), missing); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", missing, err)
		}
	}
}

func TestTimeseriesTablesNoArchiveCanHold(t *testing.T) {
	s := newStage(t)
	s.makeTimeseries(t, "cpu", func(meta *ots.TimeseriesTableMeta, _ *ots.CreateTimeseriesTableRequest) {
		meta.AddFieldPrimaryKey("core", ots.PrimaryKeyType_INTEGER)
	})
	in := s.open(t)
	for _, part := range []string{"cpu", "cpu.meta"} {
		if _, err := in.Describe(t.Context(), part); err == nil || !strings.Contains(err.Error(), "fields in its primary key (core)") {
			t.Errorf("%s: got %v", part, err)
		}
	}
	unseen := s.open(t, answering("DescribeTimeseriesTable", func(m *otsprotocol.DescribeTimeseriesTableResponse) {
		m.TableMeta.FieldPrimaryKeySchema = nil
		m.TableMeta.DisableTimeseriesMetaIndex = proto.Bool(true)
	}))
	if _, err := unseen.Describe(t.Context(), "cpu"); err == nil || !strings.Contains(err.Error(), "no index of its series") {
		t.Errorf("got %v", err)
	}
}

// answering changes the answers to an action.
func answering[M any](action string, change func(*M)) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(req)
			if err != nil || actionOf(req) != action || resp.StatusCode != http.StatusOK {
				return resp, err
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				return nil, err
			}
			m := any(new(M)).(proto.Message)
			if err := proto.Unmarshal(body, m); err != nil {
				return nil, err
			}
			change(any(m).(*M))
			if body, err = proto.Marshal(m); err != nil {
				return nil, err
			}
			resp.Header.Set(headerMD5, digest(body))
			resp.ContentLength, resp.Body = int64(len(body)), io.NopCloser(bytes.NewReader(body))
			return resp, nil
		})
	}
}

func TestScanOfPointsIsWhatTheSDKReads(t *testing.T) {
	s := newStage(t)
	s.makeTimeseries(t, "cpu")
	points, all := s.fillTimeseries(t, "cpu", 12)
	for name, in := range map[string]*Instance{"whole pages": s.open(t), "small pages": s.open(t, smallPages)} {
		data := scanPart(t, in, manifest.DataPart)
		if len(data) != points {
			t.Fatalf("%s: %d points, want %d", name, len(data), points)
		}
		compareRows(t, data, s.readPoints(t, "cpu"))
		if meta := scanPart(t, in, manifest.MetaPart); len(meta) != all {
			t.Errorf("%s: %d series, want %d", name, len(meta), all)
		}
	}
}

// readPoints reads a table through the SDK, and writes each point as a row.
func (s *stage) readPoints(t testing.TB, table string) [][]byte {
	t.Helper()
	client := s.timeseries()
	type keyed struct {
		key manifest.Key
		row []byte
	}
	var rows []keyed
	query := ots.NewQueryTimeseriesMetaRequest(table)
	for more := true; more; {
		listed, err := client.QueryTimeseriesMeta(query)
		if err != nil {
			t.Fatal(err)
		}
		query.SetNextToken(listed.GetNextToken())
		more = len(listed.GetNextToken()) > 0
		for _, meta := range listed.GetTimeseriesMetas() {
			for _, r := range s.pointsOf(t, client, table, meta.GetTimeseriesKey()) {
				key := r.GetTimeseriesKey()
				tags, err := ots.BuildTagString(withoutEmpty(key.GetTags()))
				if err != nil {
					t.Fatal(err)
				}
				tags = strings.ReplaceAll(tags, emptyTag, "")
				cells := []row.Cell{
					{Name: "_m_name", Value: row.StringValue(key.GetMeasurementName())}, {Name: "_data_source", Value: row.StringValue(key.GetDataSource())},
					{Name: "_tags", Value: row.StringValue(tags)}, {Name: "_time", Value: row.IntegerValue(r.GetTimeInus())},
				}
				k := append(keyOfSeries(key.GetMeasurementName(), key.GetDataSource(), tags), row.AppendKey(nil, row.IntegerValue(r.GetTimeInus()))...)
				rows = append(rows, keyed{k, row.Compose(nil, cells, sdkFields(r))})
			}
		}
	}
	slices.SortFunc(rows, func(a, b keyed) int { return bytes.Compare(a.key, b.key) })
	var out [][]byte
	for _, r := range rows {
		out = append(out, r.row)
	}
	return out
}

// emptyTag stands for an empty value, which the SDK reads and does not write.
const emptyTag = "(empty)"

func withoutEmpty(tags map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range tags {
		if v == "" {
			v = emptyTag
		}
		out[k] = v
	}
	return out
}

// pointsOf reads a series, by a request of its own where the SDK refuses its tags.
func (s *stage) pointsOf(t testing.TB, client *ots.TimeseriesClient, table string, key *ots.TimeseriesKey) []*ots.TimeseriesRow {
	t.Helper()
	request := ots.NewGetTimeseriesDataRequest(table)
	request.SetTimeseriesKey(key)
	request.SetTimeRange(0, math.MaxInt64)
	for _, v := range key.GetTags() {
		if v != "" {
			continue
		}
		tags := []*otsprotocol.TimeseriesTag{{Name: proto.String("host"), Value: proto.String("")}}
		answer := new(otsprotocol.GetTimeseriesDataResponse)
		err := s.open(t).ask(t.Context(), "GetTimeseriesData", table, &otsprotocol.GetTimeseriesDataRequest{
			TableName:     proto.String(table),
			TimeSeriesKey: &otsprotocol.TimeseriesKey{Measurement: proto.String(key.GetMeasurementName()), Source: proto.String(key.GetDataSource()), TagList: tags},
		}, answer)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ots.CreateGetTimeseriesDataResponse(answer)
		if err != nil {
			t.Fatal(err)
		}
		return read.GetRows()
	}
	answer, err := client.GetTimeseriesData(request)
	if err != nil {
		t.Fatal(err)
	}
	if answer.GetNextToken() != nil {
		t.Fatal("more than a page")
	}
	return answer.GetRows()
}

func sdkFields(r *ots.TimeseriesRow) []row.Cell {
	var cells []row.Cell
	for name, v := range r.GetFieldsMap() {
		c := row.Cell{Name: name}
		switch value := v.Value.(type) {
		case int64:
			c.Value = row.IntegerValue(value)
		case float64:
			c.Value = row.DoubleValue(value)
		case bool:
			c.Value = row.BooleanValue(value)
		case string:
			c.Value = row.StringValue(value)
		case []byte:
			c.Value = row.BinaryValue(value)
		}
		cells = append(cells, c)
	}
	return cells
}

// keysOfRows returns the keys of rows in PlainBuffer.
func keysOfRows(t testing.TB, wire [][]byte) []manifest.Key {
	t.Helper()
	var keys []manifest.Key
	for _, w := range wire {
		r, err := row.Parse(w)
		if err != nil {
			t.Fatal(err)
		}
		var k manifest.Key
		for _, v := range r.Key {
			k = row.AppendKey(k, v)
		}
		keys = append(keys, k)
	}
	return keys
}

func TestScanOfATimeseriesTableStaysInItsRange(t *testing.T) {
	s := newStage(t)
	s.makeTimeseries(t, "cpu")
	s.fillTimeseries(t, "cpu", 5)
	in := s.open(t)
	for _, part := range []string{manifest.DataPart, manifest.MetaPart} {
		all := scanPart(t, in, part)
		keys := keysOfRows(t, all)
		prefix := keyOfSeries("mem", "", "[]")
		bounds := []manifest.Key{nil, keys[0], keys[1], keys[len(keys)/2], keys[len(keys)-1], prefix, row.Following(prefix), append(slices.Clone(keys[7]), 0), keys[7][:len(keys[7])-3]}
		for _, from := range bounds {
			for _, to := range bounds {
				if len(to) > 0 && bytes.Compare(from, to) >= 0 {
					continue
				}
				got, err := scan(t, in, snapshot.Scan{Table: cpu(part), Layout: partLayout(t, cpu(part)), From: from, To: to})
				if err != nil {
					t.Fatal(err)
				}
				var want [][]byte
				for i, k := range keys {
					if inBounds(k, from, to) {
						want = append(want, all[i])
					}
				}
				compareRows(t, got, want)
			}
		}
		for _, limit := range []int64{1, 7, int64(len(all)) + 1} {
			got, err := scan(t, in, snapshot.Scan{Table: cpu(part), Layout: partLayout(t, cpu(part)), Limit: limit})
			if err != nil {
				t.Fatal(err)
			}
			compareRows(t, got, all[:min(int(limit), len(all))])
		}
	}
}

func TestBatchesOfATimeseriesTableDependOnRowsAlone(t *testing.T) {
	s := newStage(t)
	s.makeTimeseries(t, "cpu")
	s.fillTimeseries(t, "cpu", 9)
	l := partLayout(t, cpu(manifest.DataPart))
	whole, small := s.open(t), s.open(t, smallPages)
	want := scanPart(t, whole, manifest.DataPart)
	for _, c := range []struct{ rows, bytes int64 }{{7, 0}, {0, 900}, {5, 400}} {
		for _, in := range []*Instance{whole, small} {
			start := int64(0)
			for b, err := range in.Scan(t.Context(), snapshot.Scan{Table: cpu(manifest.DataPart), Layout: l, Rows: c.rows, Bytes: c.bytes}) {
				if err != nil {
					t.Fatal(err)
				}
				checkCut(t, l, b, c.rows, c.bytes, start, want)
				start += b.Record.NumRows()
				b.Record.Release()
			}
			if start != int64(len(want)) {
				t.Errorf("%d rows, want %d", start, len(want))
			}
		}
	}
}

func TestSplitsCutBetweenAndWithinSeries(t *testing.T) {
	s := newStage(t)
	s.makeTimeseries(t, "cpu")
	s.fillTimeseries(t, "cpu", 20)
	for name, in := range map[string]*Instance{"whole pages": s.open(t), "small pages": s.open(t, smallPages)} {
		for _, part := range []string{manifest.DataPart, manifest.MetaPart} {
			table := cpu(part)
			all := scanPart(t, in, part)
			var size int
			for _, r := range all {
				size += len(r)
			}
			if keys, err := in.Split(t.Context(), table, int64(10*size)); err != nil || len(keys) > 0 {
				t.Errorf("%s, %s: a small table is cut at %v, %v", name, part, keys, err)
			}
			for _, pieces := range []int{4, 12} {
				keys, err := in.Split(t.Context(), table, int64(size/pieces))
				if err != nil || len(keys) < pieces/3 || len(keys) > 3*pieces {
					t.Fatalf("%s, %s: %d keys, want about %d: %v", name, part, len(keys), pieces, err)
				}
				var got [][]byte
				from := manifest.Key{}
				for _, to := range append(keys, nil) {
					rows, err := scan(t, in, snapshot.Scan{Table: table, Layout: partLayout(t, table), From: from, To: to})
					if err != nil {
						t.Fatal(err)
					}
					got, from = append(got, rows...), to
				}
				compareRows(t, got, all)
			}
		}
	}
	one := newStage(t)
	one.makeTimeseries(t, "cpu")
	request := ots.NewPutTimeseriesDataRequest("cpu")
	for n := range 200 {
		request.AddTimeseriesRows(pointAt(keyWith("cpu", "", nil), 1_700_000_000_000_000+int64(n)*1000, n))
	}
	if _, err := one.timeseries().PutTimeseriesData(request); err != nil {
		t.Fatal(err)
	}
	in := one.open(t, smallPages)
	keys, err := in.Split(t.Context(), cpu(manifest.DataPart), 4000)
	if err != nil || len(keys) < 5 || !slices.IsSortedFunc(keys, func(a, b manifest.Key) int { return bytes.Compare(a, b) }) {
		t.Fatalf("one long series is cut at %v, %v", keys, err)
	}
	if _, err := row.AppendBound(nil, manifest.TimeseriesKey(manifest.DataPart), keys[0], false); err != nil {
		t.Error(err)
	}
	empty := newStage(t)
	empty.makeTimeseries(t, "cpu")
	if keys, err := empty.open(t).Split(t.Context(), cpu(manifest.DataPart), 1); err != nil || len(keys) > 0 {
		t.Errorf("nothing is cut at %v, %v", keys, err)
	}
}

// copyTimeseries makes and fills both parts of a table, in an order.
func copyTimeseries(t testing.TB, from, to *Instance, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err := to.Create(t.Context(), cpu(part)); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range parts {
		l := partLayout(t, cpu(part))
		for b, err := range from.Scan(t.Context(), snapshot.Scan{Table: cpu(part), Layout: l, Rows: 300}) {
			if err != nil {
				t.Fatal(err)
			}
			n, err := to.Write(t.Context(), snapshot.Write{Table: cpu(part), Layout: l, Record: b.Record})
			if err != nil || n.Rows != b.Record.NumRows() || n.Kept != 0 {
				t.Fatalf("wrote %+v of %d rows: %v", n, b.Record.NumRows(), err)
			}
			b.Record.Release()
		}
	}
}

func TestTimeseriesTablesAreWrittenAsTheyWereRead(t *testing.T) {
	for _, parts := range [][]string{{manifest.DataPart, manifest.MetaPart}, {manifest.MetaPart, manifest.DataPart}} {
		from, to := newStage(t), newStage(t)
		from.makeTimeseries(t, "cpu")
		from.fillTimeseries(t, "cpu", 10)
		source, sink := from.open(t), to.open(t)
		copyTimeseries(t, source, sink, parts...)
		for _, part := range parts {
			compareRows(t, scanPart(t, sink, part), scanPart(t, source, part))
		}
		want := cpu(parts[0])
		want.Timeseries.TTL = 86400 * 400
		want.Timeseries.AnalyticalStores = []manifest.AnalyticalStore{{Name: "hot", TTL: -1, Sync: "FULL"}}
		want.Timeseries.LastpointIndexes = []string{"cpu_last"}
		for range 2 {
			if err := sink.Configure(t.Context(), want); err != nil {
				t.Fatal(err)
			}
		}
		got, err := sink.Describe(t.Context(), want.Name)
		if err != nil || !sameTimeseries(got.Timeseries, want.Timeseries) {
			t.Errorf("described as\n%+v, want\n%+v, %v", got.Timeseries, want.Timeseries, err)
		}
		if names, err := sink.Tables(t.Context()); err != nil || !slices.Equal(names, []string{"cpu", "cpu.meta"}) {
			t.Errorf("the tables are %v, %v", names, err)
		}
	}
}

func TestATimeseriesTableThatExistsIsLeftAlone(t *testing.T) {
	s := newStage(t)
	s.makeTimeseries(t, "cpu")
	in := s.open(t)
	if err := in.Create(t.Context(), cpu(manifest.DataPart)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	s.makeTimeseries(t, "mem", func(meta *ots.TimeseriesTableMeta, _ *ots.CreateTimeseriesTableRequest) {
		meta.SetTimeseriesTableOptions(ots.NewTimeseriesTableOptions(86400))
	})
	mem := cpu(manifest.MetaPart)
	mem.Name = manifest.MetaName("mem")
	if err := in.Create(t.Context(), mem); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
}

func TestWritesATimeseriesTableCannotTake(t *testing.T) {
	s := newStage(t)
	s.makeTimeseries(t, "cpu")
	s.fillTimeseries(t, "cpu", 1)
	in := s.open(t)
	l := partLayout(t, cpu(manifest.DataPart))
	rec := somePoints(t, in, l)
	for name, w := range map[string]snapshot.Write{"insert": {Insert: true}, "generate": {Generate: true}} {
		w.Table, w.Layout, w.Record = cpu(manifest.DataPart), l, rec
		if _, err := in.Write(t.Context(), w); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	keys := keysOfRows(t, scanPart(t, in, manifest.DataPart))
	if err := in.Delete(t.Context(), cpu(manifest.DataPart), keys[:1]); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	series := keysOfRows(t, scanPart(t, in, manifest.MetaPart))
	if err := in.Delete(t.Context(), cpu(manifest.MetaPart), series[:3]); err != nil {
		t.Fatal(err)
	}
	if left := keysOfRows(t, scanPart(t, in, manifest.MetaPart)); len(left) != len(series)-3 || !bytes.Equal(left[0], series[3]) {
		t.Errorf("%d series are left of %d", len(left), len(series))
	}
}

// somePoints returns some points as the Sink gets them.
func somePoints(t testing.TB, in *Instance, l row.Layout) arrow.RecordBatch {
	t.Helper()
	for b, err := range in.Scan(t.Context(), snapshot.Scan{Table: cpu(manifest.DataPart), Layout: l, Limit: 300}) {
		if err != nil {
			t.Fatal(err)
		}
		return b.Record
	}
	t.Fatal("no points")
	return nil
}

// refuseRows has the second row of the first requests fail, as the answers say.
func refuseRows(action, code string, times int) func(http.RoundTripper) http.RoundTripper {
	var mu sync.Mutex
	return answering(action, func(m *otsprotocol.PutTimeseriesDataResponse) {
		mu.Lock()
		defer mu.Unlock()
		if times--; times >= 0 {
			m.FailedRows = append(m.FailedRows, &otsprotocol.FailedRowInfo{RowIndex: proto.Int32(1), ErrorCode: proto.String(code), ErrorMessage: proto.String("it is said")})
		}
	})
}

func TestPointsThatFailAreSentAgain(t *testing.T) {
	from, to := newStage(t), newStage(t)
	from.makeTimeseries(t, "cpu")
	from.fillTimeseries(t, "cpu", 10)
	source := from.open(t)
	sink := to.open(t, refuseRows("PutTimeseriesData", "OTSServerBusy", 3), refuseRows("UpdateTimeseriesMeta", "OTSTimeout", 1))
	copyTimeseries(t, source, sink, manifest.DataPart, manifest.MetaPart)
	for _, part := range []string{manifest.DataPart, manifest.MetaPart} {
		compareRows(t, scanPart(t, sink, part), scanPart(t, source, part))
	}
}

func TestAPointTheServiceRefusesIsNamed(t *testing.T) {
	s := newStage(t)
	s.makeTimeseries(t, "cpu")
	s.fillTimeseries(t, "cpu", 3)
	in := s.open(t, refuseRows("PutTimeseriesData", "OTSParameterInvalid", 1))
	l := partLayout(t, cpu(manifest.DataPart))
	n, err := in.Write(t.Context(), snapshot.Write{Table: cpu(manifest.DataPart), Layout: l, Record: somePoints(t, in, l)})
	if refused := new(Error); !errors.As(err, &refused) || refused.Code != "OTSParameterInvalid" || !strings.Contains(err.Error(), `row ("cpu", `) || n.Rows != 0 {
		t.Errorf("wrote %d, got %v", n.Rows, err)
	}
}

func TestEveryFaultOfATimeseriesTableIsSurvived(t *testing.T) {
	from := newStage(t)
	from.makeTimeseries(t, "cpu")
	from.fillTimeseries(t, "cpu", 7)
	source := from.open(t)
	actions := []string{
		"ListTimeseriesTable", "DescribeTimeseriesTable", "CreateTimeseriesTable", "UpdateTimeseriesTable", "QueryTimeseriesMeta", "GetTimeseriesData",
		"PutTimeseriesData", "UpdateTimeseriesMeta", "CreateTimeseriesAnalyticalStore", "CreateTimeseriesLastpointIndex",
	}
	for _, kind := range []local.FaultKind{local.FaultBusy, local.FaultNotReady, local.FaultCutBefore, local.FaultCutAfter, local.FaultTimeout, local.FaultTruncate, local.FaultFlip} {
		t.Run(string(kind), func(t *testing.T) {
			to := newStage(t)
			var list []local.Fault
			for _, action := range actions {
				list = append(list, local.Fault{Action: action, Kind: kind, Times: 2})
			}
			if err := to.server.Misbehave(list...); err != nil {
				t.Fatal(err)
			}
			sink := to.open(t)
			copyTimeseries(t, source, sink, manifest.DataPart, manifest.MetaPart)
			want := cpu(manifest.DataPart)
			want.Timeseries.TTL = 86400 * 400
			want.Timeseries.AnalyticalStores = []manifest.AnalyticalStore{{Name: "hot", TTL: -1, Sync: "FULL"}}
			want.Timeseries.LastpointIndexes = []string{"cpu_last"}
			for _, part := range []string{manifest.DataPart, manifest.MetaPart} {
				compareRows(t, scanPart(t, sink, part), scanPart(t, source, part))
			}
			if err := sink.Configure(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			if _, err := sink.Tables(t.Context()); err != nil {
				t.Fatal(err)
			}
			got, err := sink.Describe(t.Context(), "cpu")
			if err != nil || !sameTimeseries(got.Timeseries, want.Timeseries) {
				t.Errorf("described as %+v, %v", got.Timeseries, err)
			}
		})
	}
}

// TestSeriesAreListedOnceTheyAreShown has the service take its time to list what
// was written.
func TestSeriesAreListedOnceTheyAreShown(t *testing.T) {
	from, to := newStage(t), newStage(t)
	from.makeTimeseries(t, "cpu")
	_, all := from.fillTimeseries(t, "cpu", 2)
	source := from.open(t)
	var mu sync.Mutex
	asked := 0
	sink := to.open(t, answering("QueryTimeseriesMeta", func(m *otsprotocol.QueryTimeseriesMetaResponse) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		switch {
		case len(m.TimeseriesMetas) == 0:
		case asked < 4:
			m.TimeseriesMetas = m.TimeseriesMetas[:1]
		case asked < 7:
			for _, meta := range m.TimeseriesMetas {
				meta.Attributes = nil
			}
		}
	}))
	copyTimeseries(t, source, sink, manifest.DataPart, manifest.MetaPart)
	compareRows(t, scanPart(t, sink, manifest.MetaPart), scanPart(t, source, manifest.MetaPart))
	if asked < 7 {
		t.Errorf("asked %d times", asked)
	}
	before := asked
	if rows := scanPart(t, sink, manifest.MetaPart); len(rows) != all || asked != before {
		t.Errorf("%d series of %d, asked %d times more", len(rows), all, asked-before)
	}
	if _, err := sink.Describe(t.Context(), "cpu"); err != nil {
		t.Fatal(err)
	}
	if scanPart(t, sink, manifest.MetaPart); asked != before+1 {
		t.Errorf("asked %d times after the table was described", asked-before)
	}
}

func TestOptionsOfMetadataAreKept(t *testing.T) {
	s := newStage(t)
	s.makeTimeseries(t, "cpu")
	in := s.open(t)
	want := cpu(manifest.MetaPart)
	want.Timeseries.MetaTTL, want.Timeseries.UpdateAttributes = 604800, false
	if err := in.Configure(t.Context(), want); err == nil {
		t.Error("series live shorter than points")
	}
	want.Timeseries.TTL = 604800
	if err := in.Configure(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"cpu", "cpu.meta"} {
		want.Timeseries.Part = manifest.DataPart
		if part == "cpu.meta" {
			want.Timeseries.Part = manifest.MetaPart
		}
		got, err := in.Describe(t.Context(), part)
		if err != nil || !sameTimeseries(got.Timeseries, want.Timeseries) {
			t.Errorf("%s is described as %+v, %v", part, got.Timeseries, err)
		}
	}
	if ttl, update, err := parseMetaOptions(nil); ttl != -1 || !update || err != nil {
		t.Errorf("options that are not told are %d, %t, %v", ttl, update, err)
	}
	if _, _, err := parseMetaOptions([]byte{metaOptionsTold<<3 | wireBytes, 1, 0x80}); err == nil {
		t.Error("options that stop short are read")
	}
}

func TestAnswersAboutPointsThatMakeNoSense(t *testing.T) {
	s := newStage(t)
	s.makeTimeseries(t, "cpu")
	s.fillTimeseries(t, "cpu", 4)
	column := func(name string, v row.Value) row.Cell { return row.Cell{Name: name, Value: v} }
	text := row.StringValue
	point := func(time int64, cells ...row.Cell) []byte {
		return row.Compose(nil, []row.Cell{column("_m_name", text("cpu")), column("_data_source", text("")), column("_tags", text("[]")), column("_time", row.IntegerValue(time))}, cells)
	}
	other := row.Compose(nil, []row.Cell{column("_m_name", text("cpu")), column("_data_source", text("")), column("_tags", text(`["a=b"]`)), column("_time", row.IntegerValue(1))}, nil)
	untimed := row.Compose(nil, []row.Cell{column("_m_name", text("cpu"))}, nil)
	late := row.Compose(nil, []row.Cell{column("_m_name", text("cpu")), column("_tags", text("[]")), column("_time", text("noon"))}, nil)
	twice := point(1, column("load:double", row.DoubleValue(1)), column("load:long", row.IntegerValue(1)))
	torn := point(1)
	torn[len(torn)-1] ^= 1
	for name, c := range map[string]struct {
		rows        [][]byte
		says        string
		unavailable bool
	}{
		"another series":       {[][]byte{other}, "a point of series", true},
		"order":                {[][]byte{point(2), point(1)}, "time 1 came after 2", true},
		"a point twice":        {[][]byte{point(2), point(2)}, "time 2 came after 2", true},
		"no time":              {[][]byte{untimed}, "without a time", true},
		"a time that is text":  {[][]byte{late}, "does not end with its time", true},
		"checksum":             {[][]byte{torn}, "checksum", true},
		"a field of two types": {[][]byte{twice}, `field "load" has values of two types`, false},
	} {
		in := s.open(t, answering("GetTimeseriesData", func(m *otsprotocol.GetTimeseriesDataResponse) {
			m.RowsData = append(row.AppendHeader(nil), bytes.Join(c.rows, nil)...)
		}))
		in.giveUpAfter = 1
		prefix := keyOfSeries("cpu", "", "[]")
		_, err := scan(t, in, snapshot.Scan{Table: cpu(manifest.DataPart), Layout: partLayout(t, cpu(manifest.DataPart)), From: prefix, To: row.Following(prefix)})
		if err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, snapshot.ErrUnavailable) != c.unavailable {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestTagsAreExact(t *testing.T) {
	tag := func(name, value string) *otsprotocol.TimeseriesTag {
		return &otsprotocol.TimeseriesTag{Name: proto.String(name), Value: proto.String(value)}
	}
	for want, tags := range map[string][]*otsprotocol.TimeseriesTag{
		`[]`:                       nil,
		`["a=b"]`:                  {tag("a", "b")},
		`["a=","b=c"]`:             {tag("b", "c"), tag("a", "")},
		`["A=1","a=1"]`:            {tag("a", "1"), tag("A", "1")},
		`["a=,\[]'"]`:              {tag("a", `,\[]'`)},
		`["a=日本 ✓` + "\x00" + `"]`: {tag("a", "日本 ✓\x00")},
	} {
		if got, err := formatTags(tags); err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
		if sdk, err := ots.BuildTagString(mapOf(tags)); err == nil && sdk != want {
			t.Errorf("the SDK has %s for %s", sdk, want)
		}
	}
	for _, tags := range [][]*otsprotocol.TimeseriesTag{
		{tag("a", `b"`)}, {tag(`a"`, "b")}, {tag("a=b", "c")}, {tag("a", `","b=c`)}, {tag("a", "b"), tag("a", "c")},
	} {
		if got, err := formatTags(tags); err == nil {
			t.Errorf("%v is %s", tags, got)
		}
	}
	for _, text := range []string{`[`, `["`, `[""]`, `["a"]`, `["a=b",]`, `["a=b" ,"c=d"]`, `["a=b"]x`, `a=b`, `["a=b"c"]`, `{"a":"b"}`} {
		if tags, err := parseTags(text); err == nil {
			t.Errorf("%s is %v", text, tags)
		}
	}
}

func mapOf(tags []*otsprotocol.TimeseriesTag) map[string]string {
	m := map[string]string{}
	for _, tag := range tags {
		m[tag.GetName()] = tag.GetValue()
	}
	return m
}

// FuzzTags holds that a text that is read is the one written for what was read, but
// for its order, and that the SDK, where it reads it too, reads the same.
func FuzzTags(f *testing.F) {
	for _, text := range []string{``, `[]`, `["a=b"]`, `["b=","a=\x00"]`, `["=","a==b"]`, `["a=b","a=b"]`, `["a=","=b"]`, `["a=b","]`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tags, err := parseTags(text)
		if err != nil {
			return
		}
		again, err := formatTags(tags)
		if err != nil {
			return // a name twice
		}
		back, err := parseTags(again)
		if err != nil || !reflect.DeepEqual(mapOf(back), mapOf(tags)) || len(back) != len(tags) {
			t.Fatalf("%q is %v, written %q, read %v: %v", text, tags, again, back, err)
		}
		final, err := formatTags(back)
		if err != nil || final != again {
			t.Fatalf("%q is written %q and then %q: %v", text, again, final, err)
		}
	})
}
