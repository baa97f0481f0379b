package snapshot

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
)

func TestABudgetGivesNoMoreThanItHas(t *testing.T) {
	b := newBudget(800)
	var mu sync.Mutex
	var given, most int64
	add := func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		given += n
		most = max(most, given)
	}
	group, ctx := errgroup.WithContext(t.Context())
	for range 200 {
		group.Go(func() error {
			want := 1 + rand.Int64N(2*b.size) // some want more than there is
			giveBack, err := b.take(ctx, want)
			if err != nil {
				return err
			}
			add(min(want, b.size))
			add(-min(want, b.size))
			giveBack()
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if most > 500 {
		t.Errorf("%d bytes were given out at once, of 500", most)
	}
}

func TestWhoWaitsForMemoryGivesUpWithItsContext(t *testing.T) {
	b := newBudget(800)
	if _, err := b.take(t.Context(), 1000); err != nil {
		t.Fatalf("more than all there is, of a budget nobody draws from: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.take(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the error of the context", err)
	}
}

func TestTheLeastMemoryIsEnoughForAChunk(t *testing.T) {
	for _, size := range []int64{MinChunkBytes, DefaultChunkBytes, MaxChunkBytes} {
		if b := newBudget(ExportMemory(size)); b.size < chunkMemory(size) {
			t.Errorf("chunks of %d bytes take %d, there is %d", size, chunkMemory(size), b.size)
		}
	}
}
