package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// gets counts the objects read from a store, by what they are.
type gets struct {
	archive.Store
	mu                              sync.Mutex
	manifests, pages, chunks, other int
}

func (g *gets) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case strings.HasPrefix(name, "manifests/"):
		g.manifests++
	case strings.HasSuffix(name, ".parquet"):
		g.chunks++
	case strings.HasPrefix(name, "snapshots/"):
		g.pages++
	default:
		g.other++
	}
	return g.Store.Get(ctx, name)
}

// TestOneRowTakesTwoObjects reads single rows of 135,233 cities, from a directory
// and from S3: beyond manifest and page, the policy and one chunk.
func TestOneRowTakesTwoObjects(t *testing.T) {
	if testing.Short() {
		t.Skip("runs servers, and exports twice")
	}
	c := newClouds(t, s3Kinds(t)[0], sample.Cities)
	for _, entry := range c.env { // our own process opens the stores too
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	key := filepath.Join(c.dir, "key.pem")
	c.must("key", "gen", "--out", key)
	for kind, location := range map[string]string{"dir": filepath.Join(c.dir, "archive"), "s3": c.s3("rows")} {
		trust := filepath.Join(c.dir, kind+".trust")
		c.must("init", location, "--key", key, "--trust", trust)
		c.must("export", c.source, location, "--key", key, "--trust", trust, "--chunk-size", "1MiB", "--split-size", "8MiB")
		for country, id := range map[string]int64{"AD": 3039154, "DE": 2950159, "ZW": 895417} {
			one := row.AppendKey(row.AppendKey(nil, row.StringValue(country)), row.IntegerValue(id))
			byKey := snapshot.Read{Within: manifest.Range{From: one, To: row.Following(one)}}
			where, err := row.ParseFilter("cityId = " + row.IntegerValue(id).String() + " and country = '" + country + "'")
			if err != nil {
				t.Fatal(err)
			}
			byWhere := snapshot.Read{Where: where}
			for _, read := range []snapshot.Read{byKey, byWhere} {
				rows, g := countGets(t, location, trust, read)
				if rows != 1 || g.manifests != 1 || g.pages != 1 || g.chunks != 1 || g.chunks+g.other > 2 {
					t.Errorf("%s, %s,%d: %d rows out of %d manifests, %d pages, %d chunks, %d other objects", kind, country, id, rows, g.manifests, g.pages, g.chunks, g.other)
				}
			}
		}
	}
}

// countGets reads rows of cities and counts what that reads, from opening the
// archive on.
func countGets(t *testing.T, location, trustFile string, read snapshot.Read) (rows int, g *gets) {
	t.Helper()
	g = new(gets)
	table := tableIn(t, location, trustFile, sample.Cities, g)
	read.Archive, read.Entry, read.Table = table.Archive, table.Entry, table.Table
	if n := read.Table.Totals.Chunks; n < 5 || len(read.Table.Pages) < 2 {
		t.Fatalf("%d chunks in %d pages are too few to show anything", n, len(read.Table.Pages))
	}
	return len(rowsOf(t, read)), g
}

// tableIn opens an archive, through g, and returns the table in its newest
// snapshot.
func tableIn(t testing.TB, location, trustFile, table string, g *gets) snapshot.Read {
	t.Helper()
	where, err := locate(location)
	if err != nil {
		t.Fatal(err)
	}
	if g.Store, err = where.open(t.Context(), storeOptions{}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(trustFile)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := manifest.ParseTrust(data)
	if err != nil {
		t.Fatal(err)
	}
	var read snapshot.Read
	if read.Archive, err = snapshot.Open(t.Context(), g, trust); err != nil {
		t.Fatal(err)
	}
	if read.Entry, err = read.Archive.Find(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if read.Table, err = snapshot.FindTable(read.Entry, table); err != nil {
		t.Fatal(err)
	}
	return read
}

func rowsOf(t testing.TB, read snapshot.Read) []row.Row {
	t.Helper()
	var rows []row.Row
	for r, err := range read.Rows(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row.Row{Key: slices.Clone(r.Key), Cells: slices.Clone(r.Cells)})
	}
	return rows
}
