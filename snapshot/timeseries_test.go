package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

func TestSelectKeepsThePartsOfATimeseriesTableTogether(t *testing.T) {
	names := []string{"cpu", "cpu.meta", "cpu_total", "orders"}
	for _, c := range []struct {
		globs []string
		want  []string
	}{
		{nil, names},
		{[]string{"cpu"}, []string{"cpu", "cpu.meta"}},
		{[]string{"cpu.meta"}, []string{"cpu", "cpu.meta"}},
		{[]string{"*.meta"}, []string{"cpu", "cpu.meta"}},
		{[]string{"!cpu"}, []string{"cpu_total", "orders"}},
		{[]string{"!*.meta"}, []string{"cpu_total", "orders"}},
		{[]string{"cpu*", "!cpu_*"}, []string{"cpu", "cpu.meta"}},
	} {
		got, err := snapshot.Select(names, c.globs)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("Select(%q) = %v, %v; want %v", c.globs, got, err, c.want)
		}
	}
}

func (s *service) timeseries(name string) *sdk.TimeseriesClient {
	return sdk.NewTimeseriesClient(s.url, name, "local", "local")
}

// fillSeries makes the timeseries table "cpu" with n points, in series of 40 hosts
// and some that are named oddly, every other series with attributes.
func fillSeries(t testing.TB, s *service, n int) {
	t.Helper()
	c := s.timeseries("source")
	meta := sdk.NewTimeseriesTableMeta("cpu")
	meta.SetTimeseriesTableOptions(sdk.NewTimeseriesTableOptions(86400 * 400))
	for _, key := range []string{"_m_name", "_data_source", "zone", "_tags"} {
		meta.AddTimeseriesKey(key)
	}
	create := sdk.NewCreateTimeseriesTableRequest()
	create.SetTimeseriesTableMeta(meta)
	store := sdk.NewTimeseriesAnalyticalStore("hot")
	store.SetTimeToLive(86400 * 50)
	create.SetAnalyticalStores([]*sdk.TimeseriesAnalyticalStore{store})
	create.SetLastpointIndexNames([]string{"cpu_last"})
	if _, err := c.CreateTimeseriesTable(create); err != nil {
		t.Fatal(err)
	}
	series := oddSeries()
	now := time.Now().UnixMicro()
	var rows []*sdk.TimeseriesRow
	for i := range n {
		r := sdk.NewTimeseriesRow(series[i%len(series)])
		r.SetTimeInus(now + int64(i))
		r.AddField("load", sdk.NewColumnValue(sdk.ColumnType_DOUBLE, math.Copysign(float64(i)/3, -1)))
		r.AddField("up", sdk.NewColumnValue(sdk.ColumnType_BOOLEAN, i%2 == 0))
		if i%3 == 0 {
			r.AddField("note", sdk.NewColumnValue(sdk.ColumnType_STRING, strings.Repeat("日本 \"=,", i%5)))
			r.AddField("raw", sdk.NewColumnValue(sdk.ColumnType_BINARY, []byte{0, byte(i)}))
		}
		if i%7 == 0 {
			r.AddField("load", sdk.NewColumnValue(sdk.ColumnType_INTEGER, int64(math.MinInt64)))
		}
		rows = append(rows, r)
	}
	putPoints(t, c, rows...)
	for i := 0; i < len(series); i += 2 {
		m := sdk.NewTimeseriesMeta(series[i])
		m.AddAttribute("owner", fmt.Sprint("team ", i))
		m.AddAttribute("rack", "日本 ,")
		update := sdk.NewUpdateTimeseriesMetaRequest("cpu")
		update.AddTimeseriesMetas(m)
		if answer, err := c.UpdateTimeseriesMeta(update); err != nil || len(answer.GetFailedRowResults()) > 0 {
			t.Fatal(err, answer)
		}
	}
}

func putPoints(t testing.TB, c *sdk.TimeseriesClient, rows ...*sdk.TimeseriesRow) {
	t.Helper()
	for part := range slices.Chunk(rows, 200) {
		request := sdk.NewPutTimeseriesDataRequest("cpu")
		request.AddTimeseriesRows(part...)
		answer, err := c.PutTimeseriesData(request)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range answer.GetFailedRowResults() {
			t.Fatal(f.Error)
		}
	}
}

func oddSeries() []*sdk.TimeseriesKey {
	var series []*sdk.TimeseriesKey
	add := func(source string, tags map[string]string) {
		k := sdk.NewTimeseriesKey()
		k.SetMeasurementName("cpu")
		k.SetDataSource(source)
		k.AddTags(tags)
		k.AddTag("zone", fmt.Sprint(len(series)%3))
		series = append(series, k)
	}
	for i := range 40 {
		add(fmt.Sprintf("host %02d", i), map[string]string{"rack": fmt.Sprint(i / 8)})
	}
	add("", nil)
	add("", map[string]string{"a": "two words", "b": "x,y"})
	add("日本", map[string]string{"a": "日本\x00", "A": "[]{}\\"})
	return series
}

// oneName is what the instances of two servers have in common.
const oneName = "source"

func TestARestoredTimeseriesTableIsEqual(t *testing.T) {
	s, other := newService(t), newService(t)
	fillSeries(t, s, 6000)
	fillPlain(t, s.client("source"), "plain", 20)
	source := s.instance(t, oneName)
	fixed, err := source.Describe(t.Context(), "cpu.meta")
	if err != nil {
		t.Fatal(err)
	}
	fixed.Timeseries.MetaTTL, fixed.Timeseries.UpdateAttributes = 86400*500, false
	if err := source.Configure(t.Context(), fixed); err != nil {
		t.Fatal(err)
	}
	names, err := source.Tables(t.Context())
	if err != nil || !slices.Equal(names, []string{"cpu", "cpu.meta", "plain"}) {
		t.Fatalf("the tables are %v, %v", names, err)
	}
	a, key := newArchive(t, new(archivetest.Memory))
	e := export(t, s, a, key, names...)
	if n := tableOf(t, e, "cpu").Totals; n.Rows != 6000 || n.Chunks < 5 {
		t.Errorf("exported %+v", n)
	}
	if n := tableOf(t, e, "cpu.meta").Totals; n.Rows != 43 || n.Cells != 22 {
		t.Errorf("exported of its series %+v", n)
	}
	if _, err := (snapshot.Verify{Archive: a, Level: snapshot.Rows}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	target := other.instance(t, oneName)
	if _, err := (snapshot.Restore{From: a, To: target, Check: target}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := (snapshot.Compare{Archive: a, With: target}).Run(t.Context()); err != nil {
		t.Error(err)
	}
	for _, name := range names[:2] {
		want, err := source.Describe(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := target.Describe(t.Context(), name); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is described as\n%+v, want\n%+v, %v", name, got, want, err)
		}
	}
	spoiled := sdk.NewTimeseriesRow(oddSeries()[41])
	spoiled.SetTimeInus(time.Now().UnixMicro())
	spoiled.AddField("load", sdk.NewColumnValue(sdk.ColumnType_DOUBLE, 0.5))
	putPoints(t, other.timeseries(oneName), spoiled)
	report, err := (snapshot.Compare{Archive: a, With: target}).Run(t.Context())
	if !errors.Is(err, snapshot.ErrDiffers) {
		t.Fatalf("got %v", err)
	}
	if d := report.Tables[0].Differences; len(d) != 1 || d[0].Kind != "extra" || !strings.HasPrefix(d[0].Key, `("cpu", "", "[\"a=two words\",\"b=x,y\",\"zone=2\"]", `) {
		t.Errorf("the differences are %+v", d)
	}
}

func TestAChangedPointIsNamed(t *testing.T) {
	s := newService(t)
	fillSeries(t, s, 300)
	source := s.instance(t, oneName)
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "cpu", "cpu.meta")
	c := s.timeseries(oneName)
	get := sdk.NewGetTimeseriesDataRequest("cpu")
	get.SetTimeseriesKey(oddSeries()[42])
	get.SetTimeRange(0, math.MaxInt64)
	answer, err := c.GetTimeseriesData(get)
	if err != nil {
		t.Fatal(err)
	}
	changed := answer.GetRows()[1]
	changed.AddField("load", sdk.NewColumnValue(sdk.ColumnType_DOUBLE, 0.125))
	putPoints(t, c, changed)
	report, err := (snapshot.Compare{Archive: a, With: source}).Run(t.Context())
	if !errors.Is(err, snapshot.ErrDiffers) {
		t.Fatalf("got %v", err)
	}
	d := report.Tables[0].Differences
	if len(d) != 1 || d[0].Kind != "changed" || d[0].Cell != "load@0" || d[0].Live != "0.125" || !strings.Contains(d[0].Key, fmt.Sprint(changed.GetTimeInus())) {
		t.Errorf("the differences are %+v", d)
	}
	if report.Tables[1].Name != manifest.MetaName("cpu") || len(report.Tables[1].Differences) > 0 {
		t.Errorf("the series differ: %+v", report.Tables[1])
	}
}

func TestARenamedTimeseriesTableKeepsItsParts(t *testing.T) {
	s := newService(t)
	fillSeries(t, s, 100)
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "cpu", "cpu.meta")
	run := restoring(t, s, a, oneName) // where the old names are taken
	run.Rename = []snapshot.Rename{{Old: "cpu", New: "again"}, {Old: "cpu_*", New: "again_*"}}
	if _, err := run.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"again", "again.meta"} {
		got, err := s.instance(t, oneName).Describe(t.Context(), name)
		if err != nil || !slices.Equal(got.Timeseries.LastpointIndexes, []string{"again_last"}) {
			t.Errorf("%s is described as %+v, %v", name, got.Timeseries, err)
		}
	}
}

// brokenSink fails from a call on.
type brokenSink struct {
	snapshot.Sink
	creates, writes, configures int // that are let through
}

var errBroken = errors.New("broken")

func (s *brokenSink) Create(ctx context.Context, t manifest.Table) error {
	if s.creates--; s.creates < 0 {
		return errBroken
	}
	return s.Sink.Create(ctx, t)
}

func (s *brokenSink) Write(ctx context.Context, w snapshot.Write) (snapshot.Written, error) {
	if s.writes--; s.writes < 0 {
		return snapshot.Written{}, errBroken
	}
	return s.Sink.Write(ctx, w)
}

func (s *brokenSink) Configure(ctx context.Context, t manifest.Table) error {
	if s.configures--; s.configures < 0 {
		return errBroken
	}
	return s.Sink.Configure(ctx, t)
}

func TestARestoreOfATimeseriesTableGoesOn(t *testing.T) {
	for name, broken := range map[string]brokenSink{
		"between its parts":          {creates: 1},
		"before its rows":            {creates: 2},
		"among its rows":             {creates: 2, writes: 2},
		"before its options":         {creates: 2, writes: 100},
		"between the parts' options": {creates: 2, writes: 100, configures: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			fillSeries(t, s, 500)
			a, key := newArchive(t, new(archivetest.Memory))
			export(t, s, a, key, "cpu", "cpu.meta")
			r := restoring(t, newService(t), a, oneName)
			run, _ := journaled(t, r, "cpu", "cpu.meta")
			interrupted := r
			broken.Sink, interrupted.To, interrupted.Workers = r.To, &broken, 1
			if err := run(interrupted); !errors.Is(err, errBroken) {
				t.Fatalf("got %v, want errBroken", err)
			}
			if err := run(r); err != nil {
				t.Fatal(err)
			}
			if _, err := (snapshot.Compare{Archive: a, With: r.Check}).Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestATimeseriesTableThatExistsKeepsItsOptions(t *testing.T) {
	s := newService(t)
	fillSeries(t, s, 200)
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "cpu", "cpu.meta")
	in := s.instance(t, oneName)
	other, err := in.Describe(t.Context(), "cpu")
	if err != nil {
		t.Fatal(err)
	}
	other.Timeseries.TTL = 86400 * 30
	if err := in.Configure(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	r := restoring(t, s, a, oneName)
	r.Mode, r.AllowSource = snapshot.Insert, []string{"cpu", "cpu.meta"}
	if _, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "mode insert is not for it") {
		t.Errorf("got %v", err)
	}
	for _, mode := range []snapshot.RestoreMode{snapshot.Overwrite, snapshot.Repair} {
		r.Mode = mode
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		if got, err := in.Describe(t.Context(), "cpu"); err != nil || !reflect.DeepEqual(got.Timeseries, other.Timeseries) {
			t.Errorf("%s: described as\n%+v, want\n%+v, %v", mode, got.Timeseries, other.Timeseries, err)
		}
	}
}
