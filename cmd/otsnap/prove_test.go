package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// TestCitiesCanBeProved proves every 5,000th of 135,233 cities, and the last one.
func TestCitiesCanBeProved(t *testing.T) {
	if testing.Short() {
		t.Skip("cities are not loaded with -short")
	}
	c := exportCities(t, "--chunk-size", "1MiB")
	from, err := c.app.openTable(t.Context(), c.path("backup"), "", sample.Cities, archiveFlags{})
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
			proof := c.path(fmt.Sprintf("%d.json", n))
			c.otsnap("prove", c.path("backup"), "--table", sample.Cities, "--key", row.FormatKey(from.table.Table.Key, key), "--out", proof)
			c.otsnap("check-proof", proof)
			for _, cell := range r.Cells {
				if cell.Name == "population" && !strings.Contains(c.said.String(), cell.Value.String()+"\n") {
					t.Errorf("row %d: the population is %s, proved is\n%s", n, cell.Value, c.said.String())
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
