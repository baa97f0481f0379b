package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/snapshot/tablestore"
	"github.com/spf13/cobra"
)

// paceFlags say how hard an instance is worked.
type paceFlags struct {
	preset    preset
	units     perSecond
	bandwidth size
}

func (f *paceFlags) add(cmd *cobra.Command) {
	f.preset = preset(tablestore.Steady)
	cmd.Flags().Var(&f.preset, "pace", "how hard to work the instance: gentle, where users need it meanwhile; steady, which slows down when answers do; or full, which only slows down when refused")
	cmd.Flags().Var(&f.units, "max-cu", "capacity units a second at most, for reading and for writing each (default: no limit)")
	cmd.Flags().Var(&f.bandwidth, "max-bandwidth", "bytes a second at most to and from the instance, as in 20MiB, for reading and for writing each (default: no limit)")
}

func (f *paceFlags) pace() tablestore.Pace {
	return tablestore.Pace{
		Preset:     tablestore.Preset(f.preset),
		ReadUnits:  float64(f.units),
		WriteUnits: float64(f.units),
		Bytes:      float64(f.bandwidth),
	}
}

// preset is a flag for the name of a pace.
type preset tablestore.Preset

func (p *preset) String() string { return string(*p) }

func (p *preset) Set(text string) error {
	pace, err := tablestore.ParsePace(text)
	if err != nil {
		return errors.New("there are gentle, steady and full")
	}
	*p = preset(pace.Preset)
	return nil
}

func (p *preset) Type() string { return "PACE" }

// perSecond is a flag for so many a second.
type perSecond int64

func (n *perSecond) String() string { return strconv.FormatInt(int64(*n), 10) }

func (n *perSecond) Set(text string) error {
	parsed, err := strconv.ParseInt(text, 10, 64)
	if err != nil || parsed < 1 {
		return errors.New("not a whole number above 0")
	}
	*n = perSecond(parsed)
	return nil
}

func (n *perSecond) Type() string { return "NUMBER" }

// tellPace says how the service slowed the command, if it did: also one that
// failed, for this may be why.
func (a *app) tellPace() {
	if a.instance == nil {
		return
	}
	p := a.instance.Paced()
	a.tellLane("writing", p.Writes, console.Number(p.WriteUnits)+" write CU")
	a.tellLane("reading", p.Reads, console.Number(p.ReadUnits)+" read CU")
}

func (a *app) tellLane(doing string, p tablestore.PacedLane, units string) {
	var refused []string
	if p.Throttled > 0 {
		refused = append(refused, console.Count(p.Throttled, "request"))
	}
	if p.RowsThrottled > 0 {
		refused = append(refused, console.Count(p.RowsThrottled, "row"))
	}
	if refused == nil {
		return
	}
	a.warn("%s was throttled: the service refused %s for load; slowed down %s, between %d and %s at once; %s", doing,
		strings.Join(refused, " and "), console.Count(p.Slowed, "time"), p.AtOnce.Lowest, console.Count(p.AtOnce.Highest, "request"), units)
}
