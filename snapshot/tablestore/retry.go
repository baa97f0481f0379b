package tablestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	firstWait = 10 * time.Millisecond
	longWait  = 5 * time.Second
)

// Retry tells of an attempt that failed and will be made again.
type Retry struct {
	Action  string        // of the API, such as GetRange
	Table   string        // empty where the action has none
	Attempt int           // the one that failed, from 1
	Wait    time.Duration // until the next
	Err     error         // an *[Error] if the service answered
}

// trial is one thing being tried until it is done or not worth trying.
type trial struct {
	in            *Instance
	action, table string
	attempts      int       // that failed
	failing       time.Time // since when
}

func (in *Instance) newTrial(action, table string) *trial {
	return &trial{in: in, action: action, table: table}
}

// again waits until it is time for another attempt after one that ended with
// err. It returns an error wrapping err when there should be none.
func (t *trial) again(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if t.attempts == 0 {
		t.failing = time.Now()
	}
	t.attempts++
	bound := t.in.patience(err)
	if bound == 0 {
		return err
	}
	wait := backoff(t.attempts)
	if tried := time.Since(t.failing); tried+wait > bound {
		return fmt.Errorf("given up after %d attempts in %s: %w", t.attempts, tried.Round(time.Millisecond), err)
	}
	t.in.onRetry(Retry{Action: t.action, Table: t.table, Attempt: t.attempts, Wait: wait, Err: err})
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait):
		return nil
	}
}

// progressed forgets the attempts that failed.
func (t *trial) progressed() { t.attempts = 0 }

// backoff returns a random wait below a bound that doubles with every attempt,
// so that many workers refused at once do not come back at once.
func backoff(attempts int) time.Duration {
	bound := longWait
	if shift := attempts - 1; shift < 10 {
		bound = min(firstWait<<shift, longWait)
	}
	return rand.N(bound) + time.Millisecond
}

// retry makes attempts until one succeeds, fails for good, or ctx or patience
// ends.
func (in *Instance) retry(ctx context.Context, action, table string, attempt func() error) error {
	t := in.newTrial(action, table)
	for {
		err := attempt()
		if err == nil {
			return nil
		}
		if err := t.again(ctx, err); err != nil {
			return err
		}
	}
}
