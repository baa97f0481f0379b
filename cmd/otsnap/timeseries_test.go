package main

import (
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot/tablestore"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// seriesTables are the parts of a timeseries table that has all the SDK can ask for.
func seriesTables() []manifest.Table {
	data := manifest.Table{
		Name: "cpu", Key: manifest.TimeseriesKey(manifest.DataPart), Options: manifest.TimeseriesOptions(),
		Timeseries: manifest.Timeseries{
			Part: manifest.DataPart, TTL: 864000, MetaTTL: -1, UpdateAttributes: true, Keys: []string{"_m_name", "zone", "_tags"},
			AnalyticalStores: []manifest.AnalyticalStore{{Name: "hot", TTL: 86400 * 60, Sync: "INCR"}}, LastpointIndexes: []string{"cpu_last"},
		},
	}
	meta := data
	meta.Name, meta.Key, meta.Timeseries.Part = manifest.MetaName("cpu"), manifest.TimeseriesKey(manifest.MetaPart), manifest.MetaPart
	return []manifest.Table{data, meta}
}

func TestTheProgramMakesATimeseriesTableAgain(t *testing.T) {
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() { front.Close(); server.Close() })
	source, err := goProgram(schemaResult{Seq: 1, Snapshot: "s", Instance: manifest.Instance{Name: "shop"}, Tables: seriesTables()})
	if err != nil {
		t.Fatal(err)
	}
	runProgram(t, source, front.URL, "first")
	in, err := tablestore.Open(tablestore.Config{Endpoint: front.URL, Instance: "first",
		AccessKeyID: local.DefaultAccessKeyID, AccessKeySecret: local.DefaultAccessKeySecret})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range seriesTables() {
		got, err := in.Describe(t.Context(), want.Name)
		if err != nil || !reflect.DeepEqual(got.Timeseries, want.Timeseries) {
			t.Errorf("%s is\n%+v, want\n%+v, %v", want.Name, got.Timeseries, want.Timeseries, err)
		}
	}
}

func TestTheProgramSaysWhatTheSDKCannotAskFor(t *testing.T) {
	tables := seriesTables()
	tables[0].Timeseries.MetaTTL, tables[0].Timeseries.UpdateAttributes, tables[0].Timeseries.Unhashed = 604800, false, true
	source, err := goProgram(schemaResult{Seq: 1, Snapshot: "s", Instance: manifest.Instance{Name: "shop"}, Tables: tables})
	if err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{"604800 seconds", "can be changed (false)", "without"} {
		if !strings.Contains(string(source), says) {
			t.Errorf("the program does not say %q", says)
		}
	}
	if alone, err := goProgram(schemaResult{Tables: tables[1:]}); err != nil || strings.Contains(string(alone), "func table") {
		t.Errorf("the series alone: %v\n%s", err, alone)
	}
}

func TestShowTellsPointsFromSeries(t *testing.T) {
	tables := seriesTables()
	tables[1].Timeseries.MetaTTL, tables[1].Timeseries.UpdateAttributes = 604800, false
	for i, want := range []string{
		"timeseries    points, TTL 864,000, analytical store hot, lastpoint index cpu_last\n",
		"timeseries    series, TTL 604,800, attributes are fixed\n",
	} {
		var out strings.Builder
		if printSchema(&out, tables[i]); !strings.Contains(out.String(), want) || strings.Contains(out.String(), "options") {
			t.Errorf("%s is shown as\n%s", tables[i].Name, out.String())
		}
	}
}
