package main

import (
	"math"
	"testing"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "512": 512, "7B": 7, "64MiB": 64 << 20, "1GiB": 1 << 30, "100MB": 100_000_000, "3kB": 3000, "2KiB": 2048,
	} {
		var s size
		if err := s.Set(text); err != nil || int64(s) != want {
			t.Errorf("%s is %d, %v, want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "0", "-1", "1.5GB", "64 MiB", "64mib", "1XB", "9999999TiB", "9223372036854775807GiB"} {
		s := size(math.MaxInt32)
		if err := s.Set(text); err == nil || s != math.MaxInt32 {
			t.Errorf("%q is %d, want an error", text, s)
		}
	}
}

func TestSizesAreShownAsTheyAreTyped(t *testing.T) {
	for bytes, want := range map[size]string{64 << 20: "64MiB", 1 << 30: "1GiB", 1536: "1536", 3 << 10: "3KiB"} {
		if got := bytes.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
