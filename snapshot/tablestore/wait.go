package tablestore

import (
	"context"
	"fmt"
	"time"

	"github.com/otsnap/otsnap/snapshot"
)

// Waiting tells of something the service makes by itself and that is waited for.
type Waiting struct {
	Table string        // it belongs to
	What  string        // such as "secondary index by_name"
	Phase string        // how far it is, such as FULL while the rows that were there are taken in
	Since time.Time     // when waiting began
	Bound time.Duration // how long it is waited for in all
}

const (
	// readyWithin is how long is waited where nothing else is configured. The service
	// names no time in which an index is filled, and tells no progress to take one
	// from; an hour is what a command can be left alone with.
	readyWithin = time.Hour

	firstLook = 100 * time.Millisecond
	rareLook  = 10 * time.Second
	quiet     = 3 * time.Second // nobody is told of waits that are shorter
)

// wait looks at intervals that double until there is no phase left to wait for.
func (in *Instance) wait(ctx context.Context, table, what string, look func() (phase string, err error)) error {
	since := time.Now()
	for pause := firstLook; ; pause = min(2*pause, rareLook) {
		phase, err := look()
		if err != nil || phase == "" {
			return err
		}
		waited := time.Since(since)
		if waited >= in.readyWithin {
			return fmt.Errorf("%w: still in phase %s after %s; the service goes on by itself: resume later, or wait longer",
				snapshot.ErrUnavailable, phase, waited.Round(time.Millisecond))
		}
		if waited >= quiet {
			in.onWait(Waiting{Table: table, What: what, Phase: phase, Since: since, Bound: in.readyWithin})
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(pause, in.readyWithin-waited)):
		}
	}
}
