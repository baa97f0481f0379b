package console

import (
	"strings"
	"testing"
	"time"
)

func TestQuoteLeavesPlainNamesAndDisarmsTheRest(t *testing.T) {
	for in, want := range map[string]string{
		"orders":           "orders",
		"Köln":             "Köln",
		"":                 `""`,
		"two words":        `"two words"`,
		"\x1b[31mred":      `"\x1b[31mred"`,
		"a\u202eb":         `"a\u202eb"`,
		"bad\xffutf8":      `"bad\xffutf8"`,
		"line\nbreak":      `"line\nbreak"`,
		`say "hello"`:      `"say \"hello\""`,
		"\u2066isolated":   `"\u2066isolated"`,
		"zero\u200bwidths": `"zero\u200bwidths"`,
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestPrintableKeepsSentencesAndDisarmsTheRest(t *testing.T) {
	for in, want := range map[string]string{
		"one line\nand another": "one line\nand another",
		"it's 5 °C":             "it's 5 °C",
		"\x1b[2Jgone":           `\x1b[2Jgone`,
		"a\u202eb":              `a\u202eb`,
		"bad\xff":               `bad\xff`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 rows", 1: "1 row", 999: "999 rows", 1000: "1,000 rows", 135233: "135,233 rows",
		-1234567: "-1,234,567 rows",
	} {
		if got := Count(n, "row"); got != want {
			t.Errorf("Count(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.00 kB", 9_999: "10.0 kB", 99_960: "100 kB",
		999_499: "999 kB", 999_500: "1.00 MB", 67_108_864: "67.1 MB", 2_000_000_000_000: "2.00 TB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		340 * time.Millisecond:          "340ms",
		4230 * time.Millisecond:         "4.2s",
		200 * time.Second:               "3m20s",
		5*time.Hour + 10*time.Minute:    "5h10m",
		30*time.Hour + 29*time.Second:   "30h0m",
		1500 * time.Microsecond:         "2ms",
		59*time.Minute + 59*time.Second: "59m59s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%s) = %s, want %s", d, got, want)
		}
	}
}

func TestTableAlignsNumbersToTheRight(t *testing.T) {
	var table Table
	table.Row("table", "rows", "stored", "id")
	table.Row("cities", "135,233", "7.5 MB", "20261122T160501Z")
	table.Row("å", "7", "12 B", "2")
	var out strings.Builder
	table.Print(&out)
	want := "  table      rows  stored  id\n" +
		"  cities  135,233  7.5 MB  20261122T160501Z\n" +
		"  å             7    12 B  2\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
