package snapshot_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/snapshot"
)

// crowd counts how many chunks are being read at once.
type crowd struct {
	archive.Store
	mu        sync.Mutex
	now, most int
}

func (c *crowd) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += n
	c.most = max(c.most, c.now)
}

func (c *crowd) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	body, err := c.Store.Get(ctx, name)
	if err != nil || !strings.HasSuffix(name, ".parquet") {
		return body, err
	}
	c.add(1)
	time.Sleep(time.Millisecond) // for others to come, if any can
	return &guest{body, c}, nil
}

// guest is the body of a chunk that is being read.
type guest struct {
	io.ReadCloser
	of *crowd
}

func (g *guest) Close() error {
	g.of.add(-1)
	return g.ReadCloser.Close()
}

func TestWithLittleMemoryOneChunkIsInWorkAtOnce(t *testing.T) {
	s := newService(t)
	fillRagged(t, s.client("source"))
	fillPlain(t, s.client("source"), "plain", 3000)
	fillPlain(t, s.client("other"), "plain", 3000)
	a, key := newArchive(t, new(archivetest.Memory))
	roomy := export(t, s, a, key, "ragged", "plain")
	tight := exporting(t, s, a, key, "ragged", "plain")
	tight.Memory, tight.Workers = 1, 16
	second, err := first(tight.Run(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if second.Manifest.Totals != roomy.Manifest.Totals {
		t.Errorf("with little memory the snapshot has %+v, with much %+v", second.Manifest.Totals, roomy.Manifest.Totals)
	}

	c := &crowd{Store: a.Store}
	watched := *a
	watched.Store = c
	if _, err := (snapshot.Verify{Archive: &watched, Level: snapshot.Rows, Workers: 16, Memory: 1}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.most != 1 {
		t.Errorf("%d chunks are read at once, want 1", c.most)
	}

	r := restoring(t, s, a, "target")
	r.Memory, r.Workers = 1, 16
	if _, err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	fix := restoring(t, s, a, "other")
	fix.Memory, fix.Mode, fix.DeleteExtra = 1, snapshot.Repair, true
	if _, err := fix.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	compare := snapshot.Compare{Archive: a, With: s.instance(t, "target"), Memory: 1, Workers: 16}
	if _, err := compare.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Where rows differ, chunks are read as well.
	compare.With = s.instance(t, "wrong")
	fillPlain(t, s.client("wrong"), "plain", 1500)
	fillRagged(t, s.client("wrong"))
	if _, err := compare.Run(t.Context()); !errors.Is(err, snapshot.ErrDiffers) {
		t.Fatalf("got %v, want ErrDiffers", err)
	}
}
