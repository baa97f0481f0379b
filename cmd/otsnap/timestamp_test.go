package main

import (
	"testing"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/rfc3161"
)

// TestTimesAreRoundedUp: a time that is proven is not told as an earlier one.
func TestTimesAreRoundedUp(t *testing.T) {
	at := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	for fraction, want := range map[time.Duration]time.Time{0: at, time.Nanosecond: at.Add(time.Second), 999 * time.Millisecond: at.Add(time.Second)} {
		got := stampOf(rfc3161.Stamp{Time: at.Add(fraction), Accuracy: 1500 * time.Millisecond})
		if !got.Time.Equal(want) || got.Accuracy != "1.5s" {
			t.Errorf("%s after: got %+v", fraction, got)
		}
	}
}
