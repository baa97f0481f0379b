package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

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

// meeting is a Source of which scans wait until so many are under way.
type meeting struct {
	snapshot.Source
	size int

	mu        *sync.Mutex
	now, most *int
	all       chan struct{} // closed when so many were
}

func newMeeting(s snapshot.Source, size int) meeting {
	return meeting{Source: s, size: size, mu: new(sync.Mutex), now: new(int), most: new(int), all: make(chan struct{})}
}

func (m meeting) Scan(ctx context.Context, scan snapshot.Scan) iter.Seq2[row.Batch, error] {
	return func(yield func(row.Batch, error) bool) {
		m.come(1)
		defer m.come(-1)
		select {
		case <-m.all:
		case <-time.After(10 * time.Second):
			yield(row.Batch{}, fmt.Errorf("table %s is scanned alone", scan.Table.Name))
			return
		}
		m.Source.Scan(ctx, scan)(yield)
	}
}

func (m meeting) come(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if *m.now += n; *m.now > *m.most {
		if *m.most = *m.now; *m.most == m.size {
			close(m.all)
		}
	}
}

// Tables of one chunk each keep all workers busy, and no more than those.
func TestSmallTablesAreComparedSideBySide(t *testing.T) {
	s := newService(t)
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		fillPlain(t, s.client("source"), name, 10)
	}
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, names...)

	with := newMeeting(s.instance(t, "source"), 3)
	report, err := snapshot.Compare{Archive: a, With: with, Workers: 3}.Run(t.Context())
	if err != nil || *with.most != 3 {
		t.Fatalf("%d at once, %v", *with.most, err)
	}
	for i, table := range report.Tables {
		if table.Name != names[i] || table.Counted != 10 {
			t.Errorf("table %d is %s with %d rows", i, table.Name, table.Counted)
		}
	}

	r := restoring(t, s, a, "target")
	with = newMeeting(r.Check, 3)
	r.Check, r.Workers = with, 3
	if _, err := r.Run(t.Context()); err != nil || *with.most != 3 {
		t.Errorf("after a restore %d at once, %v", *with.most, err)
	}
}
