package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
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

func (s *seconds) String() string { return console.Duration(s.Duration) }

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
