package tablestore

import (
	"context"
	"errors"
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
	attempts      int           // that failed
	failing       time.Time     // since when
	held          time.Duration // of that, waited for a hard limit, which is our own doing
	queued        time.Duration // of that, waited for others to end, which may be the service's
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
		t.failSince(time.Now())
	}
	t.attempts++
	bound := t.in.patience(err)
	if bound == 0 {
		return err
	}
	throttled := t.throttled(err)
	wait := backoff(t.attempts)
	tried := time.Since(t.failing) - t.held
	if !throttled {
		tried -= t.queued
	}
	switch {
	case tried+wait <= bound:
	case throttled:
		return fmt.Errorf("given up after %d attempts: for %s the service was too busy to let any %s through: %w",
			t.attempts, tried.Round(time.Millisecond), t.action, err)
	default:
		return fmt.Errorf("given up after %d attempts in %s: %w", t.attempts, tried.Round(time.Millisecond), err)
	}
	if throttled {
		t.in.pacer.lane(t.action).refusedFor(wait)
	}
	t.in.onRetry(Retry{Action: t.action, Table: t.table, Attempt: t.attempts, Wait: wait, Err: err})
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait):
		return nil
	}
}

// throttled reports whether err is a refusal for load. As long as the service
// lets others of its kind through, such a thing has not begun to fail: it is
// slow, which is no reason to give up.
func (t *trial) throttled(err error) bool {
	var refusal *Error
	if !errors.As(err, &refusal) || !refusal.throttles() {
		return false
	}
	if last := t.in.pacer.lane(t.action).lastThrough(); last.After(t.failing) {
		t.failSince(last)
	}
	return true
}

func (t *trial) failSince(at time.Time) { t.failing, t.held, t.queued = at, 0, 0 }

// overtaken reports whether this failed before and others have got through since.
// When it is refused again, that tells of its own partition, not of the service.
func (t *trial) overtaken(through time.Time) bool {
	return t != nil && t.attempts > 0 && through.After(t.failing)
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
	return in.newTrial(action, table).run(ctx, attempt)
}

func (t *trial) run(ctx context.Context, attempt func() error) error {
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
