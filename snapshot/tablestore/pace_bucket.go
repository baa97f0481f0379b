package tablestore

import (
	"context"
	"math"
	"sync"
	"time"
)

// burst is how many seconds' worth a bucket saves up while nothing is spent.
const burst = 0.1

// bucket lets so much a second through. The nil bucket lets everything. What is
// spent is waited for first, so that over any time no more is let through than
// the rate allows, but for what turns out afterwards to have cost more: that is
// waited for by those who come next.
type bucket struct {
	mu    sync.Mutex
	rate  float64 // a second
	level float64 // below 0: promised already
	at    time.Time
}

// newBucket returns nil for a rate of 0.
func newBucket(rate float64) *bucket {
	if rate == 0 {
		return nil
	}
	return &bucket{rate: rate, level: rate * burst, at: time.Now()}
}

// take waits until n may be spent, and says how long that was.
func (b *bucket) take(ctx context.Context, n float64) (time.Duration, error) {
	if b == nil {
		return 0, nil
	}
	wait := b.spend(n)
	if wait == 0 {
		return 0, nil
	}
	begun, timer := time.Now(), time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return time.Since(begun), nil
	case <-ctx.Done():
		b.spend(-n)
		return time.Since(begun), context.Cause(ctx)
	}
}

// spend takes n out of the bucket, or puts it back, and returns when it will
// have been there.
func (b *bucket) spend(n float64) time.Duration {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.level = min(b.level+b.rate*now.Sub(b.at).Seconds(), b.rate*burst) - n
	b.at = now
	if b.level >= 0 {
		return 0
	}
	return time.Duration(min(-b.level/b.rate*float64(time.Second), math.MaxInt64/2))
}
