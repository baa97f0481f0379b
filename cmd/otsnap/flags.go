package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/spf13/cobra"
)

// size is a flag for a number of bytes: 1048576, 64MiB, 100MB, 1GiB.
type size int64

func (s *size) String() string {
	for _, u := range []struct {
		name  string
		bytes size
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if *s >= u.bytes && *s%u.bytes == 0 {
			return fmt.Sprintf("%d%s", *s/u.bytes, u.name)
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

func (s *size) Set(text string) error {
	digits := strings.TrimRight(text, "kKMGTiB")
	units := map[string]int64{
		"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}
	unit, ok := units[text[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !ok {
		return errors.New("not a size like 64MiB or 1GB")
	}
	if n < 1 || n > 1<<50/unit {
		return errors.New("out of range")
	}
	*s = size(n * unit)
	return nil
}

func (s *size) Type() string { return "SIZE" }

// seconds is a flag for a duration, shown the way it is typed.
type seconds struct{ time.Duration }

func (s *seconds) String() string {
	if s.Duration == 0 {
		return ""
	}
	return console.Duration(s.Duration)
}

func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return errors.New("not a duration like 90s or 5m")
	}
	if d <= 0 {
		return errors.New("not positive")
	}
	s.Duration = d
	return nil
}

func (s *seconds) Type() string { return "DURATION" }

// period is a flag for a length of time in years and days.
type period struct{ archive.Period }

func (p *period) String() string {
	if p.IsZero() {
		return ""
	}
	return p.Period.String()
}

func (p *period) Set(text string) error {
	parsed, err := archive.ParsePeriod(text)
	if err != nil {
		return errors.New("not a period like 7y, 90d or 1y30d")
	}
	p.Period = parsed
	return nil
}

func (p *period) Type() string { return "PERIOD" }

// lockMode is a flag for how firmly objects are locked.
type lockMode struct{ archive.Mode }

func (m *lockMode) String() string { return string(m.Mode) }

func (m *lockMode) Set(text string) error {
	parsed, err := archive.ParseMode(text)
	if err != nil {
		return errors.New("neither governance nor compliance")
	}
	m.Mode = parsed
	return nil
}

func (m *lockMode) Type() string { return "MODE" }

// lockFlags say how objects are to be retained.
type lockFlags struct {
	retain period
	mode   lockMode
}

func (f *lockFlags) add(cmd *cobra.Command, what string) {
	cmd.Flags().Var(&f.retain, "retain", what+", as in 7y or 90d; with --lock")
	cmd.Flags().Var(&f.mode, "lock", "how firmly: governance can be lifted by those with a special right, compliance by nobody")
}

// check wants both or none: compliance cannot be undone, and is nobody's default.
func (f lockFlags) check(cmd *cobra.Command) error {
	switch {
	case f.retain.IsZero() && f.mode.Mode != archive.Unlocked:
		return usage(cmd, "--lock %s: for how long? Say --retain, as in --retain 7y", f.mode.Mode)
	case !f.retain.IsZero() && f.mode.Mode == archive.Unlocked:
		return usage(cmd, "--retain %s: how firmly? Say --lock governance or --lock compliance; nobody can undo the latter", f.retain.Period)
	}
	return nil
}
