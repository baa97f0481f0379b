package archive

import (
	"testing"
	"time"
)

func TestParsePeriod(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, end := range map[string]string{
		"7y":    "2033-11-22",
		"90d":   "2027-02-20",
		"1y30d": "2027-12-22",
		"1d":    "2026-11-23",
		"100y":  "2126-11-22",
	} {
		p, err := ParsePeriod(text)
		if err != nil || p.String() != text || p.After(start).Format(time.DateOnly) != end {
			t.Errorf("%s: got %v, which ends %v, and %v; want %s", text, p, p.After(start), err, end)
		}
	}
	for _, text := range []string{"", "y", "d", "0d", "0y0d", "7", "7 y", "-1d", "101y", "1d1y", "1.5y", "7Y", "99999d", "1000y", "10w"} {
		if p, err := ParsePeriod(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, p)
		}
	}
}

func TestLockCovers(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }
	none := Lock{}
	governance, compliance := Lock{Mode: Governance, Until: day(10)}, Lock{Mode: Compliance, Until: day(10)}
	tests := []struct {
		name      string
		has, asks Lock
		want      bool
	}{
		{"nothing asked", none, none, true},
		{"more than nothing", governance, none, true},
		{"not locked", none, governance, false},
		{"the same", governance, governance, true},
		{"firmer", compliance, governance, true},
		{"weaker", governance, compliance, false},
		{"longer", Lock{Mode: Compliance, Until: day(11)}, compliance, true},
		{"shorter", Lock{Mode: Compliance, Until: day(9)}, compliance, false},
		{"shorter by less than a second", Lock{Mode: Compliance, Until: day(10)}, Lock{Mode: Compliance, Until: day(10).Add(time.Millisecond)}, true},
		{"a hold is not a date", Lock{Hold: true}, governance, false},
		{"hold asked", governance, Lock{Mode: Governance, Until: day(10), Hold: true}, false},
	}
	for _, test := range tests {
		if got := test.has.Covers(test.asks); got != test.want {
			t.Errorf("%s: %v covers %v: %v", test.name, test.has, test.asks, got)
		}
	}
}
