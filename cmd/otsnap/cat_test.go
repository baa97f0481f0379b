package main

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// cities are 135,233 of them in an archive called backup, and a program to use on it.
type cities struct {
	t    *testing.T
	app  *app
	dir  string
	said strings.Builder // by the last command
}

func exportCities(t *testing.T, flags ...string) *cities {
	t.Helper()
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() { front.Close(); server.Close() })
	if _, err := sample.Load(t.Context(), sdk.NewClient(front.URL, "shop", local.DefaultAccessKeyID, local.DefaultAccessKeySecret), sample.Cities); err != nil {
		t.Fatal(err)
	}
	c := &cities{t: t, dir: t.TempDir()}
	env := map[string]string{
		"OTSNAP_TRUST":                 c.path("trust"),
		"TABLESTORE_ACCESS_KEY_ID":     local.DefaultAccessKeyID,
		"TABLESTORE_ACCESS_KEY_SECRET": local.DefaultAccessKeySecret,
	}
	c.app = &app{stdout: &c.said, stderr: &c.said, getenv: func(name string) string { return env[name] }, now: time.Now}
	c.otsnap("key", "gen", "--out", c.path("key"))
	c.otsnap("init", c.path("backup"), "--key", c.path("key"))
	c.otsnap(append([]string{"export", front.URL + "?instance=shop", c.path("backup"), "--key", c.path("key")}, flags...)...)
	return c
}

func (c *cities) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cities) otsnap(args ...string) {
	c.t.Helper()
	c.said.Reset()
	if code := run(args, c.app); code != 0 {
		c.t.Fatalf("otsnap %v ends with %d: %s", args, code, c.said.String())
	}
}

// TestDuckDBReadsTheSameOutOfCatAndChunks adds up 135,233 cities three times, with
// code that shares nothing with ours: out of the lines of JSON, out of the CSV,
// and out of the chunks themselves.
func TestDuckDBReadsTheSameOutOfCatAndChunks(t *testing.T) {
	if testing.Short() {
		t.Skip("DuckDB is not run with -short")
	}
	c := exportCities(t)
	otsnap, path := c.otsnap, c.path
	otsnap("cat", path("backup"), "cities", "--out", path("rows.jsonl"))
	otsnap("cat", path("backup"), "cities", "--out", path("rows.csv"), "--format", "csv", "--columns", "population,lat,name,altName")
	if info, err := os.Stat(path("rows.csv")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v; want 600", info.Mode(), err)
	}

	const sums = `select count(*), sum(population), count(population), sum(lat)::decimal(18,4), md5(string_agg(name, '|' order by country, id)),
		count(altName), count(*) filter (altName = '') from (%s)`
	chunks := archivetest.DuckDB(t, fmt.Sprintf(sums, fmt.Sprintf(`select country, cityId as id, population, lat, name, altName
		from '%s/snapshots/*/cities/*.parquet'`, path("backup"))))
	for from, query := range map[string]string{
		"JSON": fmt.Sprintf(`select key.country as country, key.cityId as id, cells.population as population, cells.lat as lat, cells.name as name, cells.altName as altName
			from read_json('%s', format='newline_delimited', sample_size=-1)`, path("rows.jsonl")),
		"CSV": fmt.Sprintf(`select country, cityId as id, population, lat, name, altName
			from read_csv('%s', header=true, nullstr='', allow_quoted_nulls=false, sample_size=-1, quote='"', escape='"')`, path("rows.csv")),
	} {
		if got := archivetest.DuckDB(t, fmt.Sprintf(sums, query)); !slices.EqualFunc(got, chunks, slices.Equal) {
			t.Errorf("out of %s DuckDB reads %v, out of the chunks %v", from, got, chunks)
		}
	}
	if chunks[0][0] != "135233" {
		t.Errorf("there are %s rows", chunks[0][0])
	}
}
