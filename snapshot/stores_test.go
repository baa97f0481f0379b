package snapshot_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/snapshot"
)

// dying is a Vault that answers no more from some call on, as to a process that is
// killed. It counts the calls of all its methods.
type dying struct {
	*archivetest.Vault
	at    int  // the first call that fails
	after bool // that call is done, and the answer lost

	mu    sync.Mutex
	calls int
	dead  bool
}

var errDead = fmt.Errorf("the store answers no more: %w", archive.ErrUnavailable)

func (d *dying) do(call func() error) error {
	d.mu.Lock()
	d.calls++
	now := d.calls
	d.dead = d.dead || now >= d.at
	d.mu.Unlock()
	if now > d.at || now == d.at && !d.after {
		return errDead
	}
	err := call()
	if now == d.at {
		return errDead
	}
	return err
}

func (d *dying) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	return d.do(func() error { return d.Vault.Put(ctx, name, body, opts) })
}

func (d *dying) Get(ctx context.Context, name string) (body io.ReadCloser, err error) {
	err = d.do(func() error {
		body, err = d.Vault.Get(ctx, name)
		return err
	})
	return body, err
}

func (d *dying) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	if err := d.do(func() error { return nil }); err != nil {
		return func(yield func(archive.Object, error) bool) { yield(archive.Object{}, err) }
	}
	return d.Vault.List(ctx, prefix)
}

func (d *dying) Delete(ctx context.Context, name string) error {
	return d.do(func() error { return d.Vault.Delete(ctx, name) })
}

func (d *dying) Inspect(ctx context.Context, name string) (info archive.Info, err error) {
	err = d.do(func() error {
		info, err = d.Vault.Inspect(ctx, name)
		return err
	})
	return info, err
}

func (d *dying) DefaultLock(ctx context.Context) (mode archive.Mode, period archive.Period, err error) {
	err = d.do(func() error {
		mode, period, err = d.Vault.DefaultLock(ctx)
		return err
	})
	return mode, period, err
}

func (d *dying) Lock(ctx context.Context, name string, lock archive.Lock) error {
	return d.do(func() error { return d.Vault.Lock(ctx, name, lock) })
}

func (d *dying) Hold(ctx context.Context, name string, on bool) error {
	return d.do(func() error { return d.Vault.Hold(ctx, name, on) })
}

func (d *dying) Shadows(ctx context.Context, prefix string) iter.Seq2[archive.Shadow, error] {
	if err := d.do(func() error { return nil }); err != nil {
		return func(yield func(archive.Shadow, error) bool) { yield(archive.Shadow{}, err) }
	}
	return d.Vault.Shadows(ctx, prefix)
}

func (d *dying) Probe(ctx context.Context, name string) (found []archive.Capability, err error) {
	err = d.do(func() error {
		found, err = d.Vault.Probe(ctx, name)
		return err
	})
	return found, err
}

// guard is for what test stores write down.
var guard sync.Mutex

// scanCounter is a service of which the scans of whole ranges are counted.
type scanCounter struct {
	service *service
	seen    map[string]int
}

func newScanCounter(s *service) *scanCounter { return &scanCounter{service: s, seen: map[string]int{}} }

func (c *scanCounter) source(t testing.TB) snapshot.Source {
	return countedSource{c.service.instance(t, "source"), c}
}

func (c *scanCounter) reset() { clear(c.seen) }

func (c *scanCounter) scans() (n int) {
	for _, times := range c.seen {
		n += times
	}
	return n
}

// again returns the ranges that were scanned more than once.
func (c *scanCounter) again() (ranges []string) {
	for scan, times := range c.seen {
		if times > 1 {
			ranges = append(ranges, scan)
		}
	}
	return ranges
}

type countedSource struct {
	snapshot.Source
	*scanCounter
}

func (c countedSource) Scan(ctx context.Context, scan snapshot.Scan) iter.Seq2[row.Batch, error] {
	if scan.Limit == 0 {
		guard.Lock()
		c.seen[fmt.Sprint(scan.Table.Name, " ", scan.From)]++
		guard.Unlock()
	}
	return c.Source.Scan(ctx, scan)
}
