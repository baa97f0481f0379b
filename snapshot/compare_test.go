package snapshot_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/snapshot"
)

// digestsOnly is a Source of the digests of rows, and of no rows.
type digestsOnly struct{ snapshot.Source }

func (d digestsOnly) Scan(ctx context.Context, scan snapshot.Scan) iter.Seq2[row.Batch, error] {
	if !scan.Digest {
		return func(yield func(row.Batch, error) bool) { yield(row.Batch{}, errors.New("rows were asked for")) }
	}
	return d.Source.Scan(ctx, scan)
}

// Where digests agree, no chunk is fetched and no row made into columns.
func TestCompareOfEqualRowsReadsNoChunk(t *testing.T) {
	s := newService(t)
	fillRagged(t, s.client("source"))
	fillPlain(t, s.client("source"), "plain", 300)
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	export(t, s, a, key, "ragged", "plain")
	removed := 0
	for object, err := range store.List(t.Context(), "snapshots/") {
		if err == nil && strings.HasSuffix(object.Name, ".parquet") {
			removed++
			err = store.Delete(t.Context(), object.Name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if removed == 0 {
		t.Fatal("there was no chunk")
	}
	report, err := snapshot.Compare{Archive: a, With: digestsOnly{s.instance(t, "source")}}.Run(t.Context())
	if err != nil || report.Tables[0].Counted != report.Tables[0].Rows {
		t.Fatal(report, err)
	}
}
