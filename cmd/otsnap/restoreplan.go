package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/snapshot"
)

// planResult is what a restore that is only planned tells.
type planResult struct {
	*snapshot.RestorePlan
	SHA256   string   `json:"sha256"`
	File     string   `json:"file,omitempty"`
	Seconds  rate     `json:"seconds_at_least"` // at the rate given; 0: no limit bounds it
	Warnings []string `json:"warnings"`
}

// rate is how long writing and reading take.
type rate struct {
	Write float64 `json:"write"`
	Read  float64 `json:"read"`
}

// showPlan shows what a restore would do, and writes it to a file if one is named.
func (a *app) showPlan(plan *snapshot.RestorePlan, file string) error {
	result := planResult{plan, plan.SHA256().String(), file, rate{plan.Estimate.WriteSeconds, plan.Estimate.ReadSeconds}, plan.Warnings}
	if file != "" {
		out, err := a.output(file)
		if err != nil {
			return err
		}
		defer out.discard()
		if _, err := out.Write(plan.Encode()); err != nil {
			return err
		}
		if err := out.keep(); err != nil {
			return err
		}
	}
	if err := a.answer(result, result.print); err != nil {
		return err
	}
	if problems := plan.Problems(); len(problems) > 0 {
		return fmt.Errorf("this restore cannot be run: %s", strings.Join(problems, "\n"))
	}
	return nil
}

func (r planResult) print(w io.Writer) {
	fmt.Fprintf(w, "plan: restore snapshot %d (%s)\n  of   %s\n  into %s\n", r.Seq, r.Snapshot, printInstance(r.From), printInstance(r.To))
	fmt.Fprintf(w, "  mode %s, AUTO_INCREMENT columns: %s\n", r.Mode, r.AutoIncrement)
	if r.Rows != nil {
		fmt.Fprintf(w, "  only rows and cells as chosen; the numbers below are of the chunks that are read\n")
	}
	for _, l := range r.Suppress {
		fmt.Fprintf(w, "  without rows on a list of %s, SHA-256 %s\n", entries(l.Entries), l.SHA256)
	}
	for _, t := range r.Tables {
		r.table(w, t)
	}
	fmt.Fprintln(w)
	var t console.Table
	t.Row("table", "as", "rows", "cells", "size", "stored")
	for _, x := range r.Tables {
		t.Row(console.Quote(x.Source), console.Quote(x.Target), console.Number(x.Totals.Rows), console.Number(x.Totals.Cells),
			console.Bytes(x.Totals.RawBytes), console.Bytes(x.Totals.StoredBytes))
	}
	t.Print(w)
	e := r.Estimate
	fmt.Fprintf(w, "estimated: %s to %s write CU, without indexes, %s; %s read CU for the comparison, %s\n",
		console.Number(e.WriteUnits), console.Number(e.WriteUnitsAtMost), atLeast(e.WriteSeconds), console.Number(e.ReadUnits), atLeast(e.ReadSeconds))
	for _, warning := range r.Warnings {
		fmt.Fprintf(w, "warning: %s\n", console.Printable(warning))
	}
	if r.File != "" {
		fmt.Fprintf(w, "written to %s\n", console.Quote(r.File))
	}
	if n := len(r.Problems()); n > 0 {
		fmt.Fprintf(w, "nothing was changed, and nothing can be: %s\n", console.Count(n, "problem"))
		return
	}
	fmt.Fprintf(w, "nothing was changed; to run this plan and no other: --plan-sha256 %s\n", r.SHA256)
}

func atLeast(seconds float64) string {
	if seconds == 0 {
		return "in a time that no limit of yours bounds"
	}
	const century = 100 * 365 * 24 * 3600
	return "in no less than " + console.Duration(time.Duration(min(seconds, century)*float64(time.Second)).Round(time.Second))
}

func (r planResult) table(w io.Writer, t snapshot.TablePlan) {
	fmt.Fprintf(w, "\ntable %s", console.Quote(t.Source))
	if t.Target != t.Source {
		fmt.Fprintf(w, " as %s", console.Quote(t.Target))
	}
	if t.Exists {
		fmt.Fprint(w, ", which exists")
	}
	fmt.Fprintln(w)
	list := func(title string, lines []string) {
		for _, line := range lines {
			fmt.Fprintf(w, "  %s %s\n", title, console.Printable(line))
		}
	}
	for i, step := range t.Steps {
		fmt.Fprintf(w, "  %d. %s\n", i+1, console.Printable(step))
	}
	list("differs now:", t.Differs)
	list("not the same:", t.NotSame)
	list("not captured:", t.NotCaptured)
	list("PROBLEM:", t.Problems)
}
