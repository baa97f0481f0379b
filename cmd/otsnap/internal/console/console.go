// Package console turns values into text for people at a terminal: numbers with
// separators, sizes, aligned columns, and names that cannot move the cursor or
// turn the direction of what follows them.
package console

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Quote returns s as it is if it prints as plain text in one piece, and in Go's
// quotes, with everything else escaped, if it does not.
func Quote(s string) string {
	plain := func(r rune) bool { return unicode.IsPrint(r) && r != ' ' && r != '"' }
	if s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return strconv.Quote(s)
}

// Printable returns s with every character that does not print escaped. Unlike
// Quote it leaves blanks and line ends: it is for whole sentences.
func Printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		i += size
	}
	return b.String()
}

// Count returns n and the noun in its right form: "1 row", "135,233 rows".
func Count[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Number(n) + " " + noun + "s"
}

// Number returns n with a comma every three digits.
func Number[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// Bytes returns a size with three significant digits and a decimal unit.
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		if value /= 1000; value < 999.5 {
			break
		}
	}
	switch {
	case value < 9.995:
		return fmt.Sprintf("%.2f %s", value, unit)
	case value < 99.95:
		return fmt.Sprintf("%.1f %s", value, unit)
	}
	return fmt.Sprintf("%.0f %s", value, unit)
}

// Duration returns d as precisely as one cares: 340ms, 4.2s, 3m20s, 5h10m.
func Duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

// Table is text in columns. A column of numbers and sizes is aligned to the
// right.
type Table struct {
	rows [][]string
}

// Row adds a row. The first one added is the heading.
func (t *Table) Row(cells ...string) { t.rows = append(t.rows, cells) }

// Print writes the rows, each indented by two blanks.
func (t *Table) Print(w io.Writer) {
	widths, right := t.measure()
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if right[i] {
				cell = padding + cell
			} else {
				cell += padding
			}
			line.WriteString("  " + cell)
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

func (t *Table) measure() (widths []int, right []bool) {
	for n, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths, right = append(widths, 0), append(right, true)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			if n > 0 && cell != "" && !numeric(cell) {
				right[i] = false
			}
		}
	}
	return widths, right
}

// numeric reports whether a cell is what Number or Bytes returns.
func numeric(cell string) bool {
	if i := strings.IndexByte(cell, ' '); i >= 0 && strings.HasSuffix(cell, "B") {
		cell = cell[:i]
	}
	return cell != "" && strings.Trim(cell, "0123456789,.") == ""
}
