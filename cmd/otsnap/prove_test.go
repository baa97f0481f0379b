package main

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// TestCitiesCanBeProved proves every 5,000th of 135,233 cities, and the last one.
func TestCitiesCanBeProved(t *testing.T) {
	if testing.Short() {
		t.Skip("cities are not loaded with -short")
	}
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() { front.Close(); server.Close() })
	if _, err := sample.Load(t.Context(), sdk.NewClient(front.URL, "shop", local.DefaultAccessKeyID, local.DefaultAccessKeySecret), sample.Cities); err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	path := func(name string) string { return filepath.Join(at, name) }
	env := map[string]string{
		"OTSNAP_TRUST":                 path("trust"),
		"TABLESTORE_ACCESS_KEY_ID":     local.DefaultAccessKeyID,
		"TABLESTORE_ACCESS_KEY_SECRET": local.DefaultAccessKeySecret,
	}
	var said strings.Builder
	a := &app{stdout: &said, stderr: &said, getenv: func(name string) string { return env[name] }, now: time.Now}
	otsnap := func(args ...string) {
		t.Helper()
		said.Reset()
		if code := run(args, a); code != 0 {
			t.Fatalf("otsnap %v ends with %d: %s", args, code, said.String())
		}
	}
	otsnap("key", "gen", "--out", path("key"))
	otsnap("init", path("backup"), "--key", path("key"))
	otsnap("export", front.URL+"?instance=shop", path("backup"), "--key", path("key"), "--chunk-size", "1MiB")
	from, err := a.openTable(t.Context(), path("backup"), "", sample.Cities, archiveFlags{})
	if err != nil {
		t.Fatal(err)
	}
	n, last := 0, int(from.table.Totals.Rows)-1
	for r, err := range (snapshot.Read{Archive: from.from.Archive, Entry: from.entry, Table: from.table}).Rows(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n%5000 == 0 || n == last {
			var key manifest.Key
			for _, v := range r.Key {
				key = row.AppendKey(key, v)
			}
			proof := path(fmt.Sprintf("%d.json", n))
			otsnap("prove", path("backup"), "--table", sample.Cities, "--key", row.FormatKey(from.table.Table.Key, key), "--out", proof)
			otsnap("check-proof", proof)
			for _, c := range r.Cells {
				if c.Name == "population" && !strings.Contains(said.String(), c.Value.String()+"\n") {
					t.Errorf("row %d: the population is %s, proved is\n%s", n, c.Value, said.String())
				}
			}
			if info, err := os.Stat(proof); err != nil || info.Size() > 20<<10 || info.Mode().Perm() != 0o600 {
				t.Errorf("row %d: the proof has %d bytes, %v", n, info.Size(), err)
			}
		}
		n++
	}
	if n != 135_233 {
		t.Errorf("%d rows", n)
	}
}
