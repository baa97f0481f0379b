package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// benchGrowth exports tables of 10,000 rows and ten times as many each, up to most, and
// verifies every row of them. The server makes the rows when they are read. What counts
// is the cost of each row more: small tables take as long as starting does.
func benchGrowth(ctx context.Context, dir string, most int64, workers string) error {
	b := &bench{dir: dir, workers: workers}
	for rows := int64(10_000); rows <= most; rows *= 10 {
		b.serve = append(b.serve, "--generate", fmt.Sprintf("source/%s:%d", grownTable(rows), rows))
	}
	defer b.stopServer()
	if err := b.build(ctx); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "rows\tstep\tseconds\tCPU seconds\tus/row\tCPU us/row\tus/row more\tCPU us/row more\tpeak MiB\t")
	before := map[string]step{}
	for rows := int64(10_000); rows <= most; rows *= 10 {
		steps, err := b.grow(ctx, rows)
		if err != nil {
			return err
		}
		for _, s := range steps {
			n, more := float64(rows), float64(rows-before[s.name].rows)
			wall, cpu := s.wall-before[s.name].wall, s.cpu-before[s.name].cpu
			fmt.Fprintf(w, "%d\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%d\t\n", rows, s.name, s.wall.Seconds(), s.cpu.Seconds(),
				micros(s.wall, n), micros(s.cpu, n), micros(wall, more), micros(cpu, more), s.peak>>20)
			before[s.name] = s
		}
	}
	return w.Flush()
}

func grownTable(rows int64) string { return fmt.Sprintf("events_%d", rows) }

func micros(d time.Duration, n float64) float64 { return d.Seconds() * 1e6 / n }

// grow exports and verifies the table of so many rows, in an archive of its own.
func (b *bench) grow(ctx context.Context, rows int64) ([]step, error) {
	b.rows = rows
	archive := filepath.Join(b.dir, grownTable(rows))
	defer os.RemoveAll(archive)
	trust, key := archive+".trust", filepath.Join(b.dir, "key.pem")
	if _, err := b.output(ctx, b.otsnap, "init", archive, "--key", key, "--trust", trust); err != nil {
		return nil, err
	}
	var steps []step
	for _, j := range []job{
		{name: "export", args: []string{"export", b.url + "?instance=source", archive, "--table", grownTable(rows), "--key", key}},
		{name: "verify --level rows", args: []string{"verify", archive, "--level", "rows"}},
	} {
		j.args = append(append([]string{b.otsnap}, j.args...), "--quiet", "--trust", trust, "--workers", b.workers)
		s, err := b.measure(ctx, j)
		if err != nil {
			return nil, fmt.Errorf("%d rows: %s: %w", rows, j.name, err)
		}
		steps = append(steps, s)
	}
	return steps, b.holds(ctx, archive, trust)
}

// holds makes sure that the newest snapshot of an archive has as many rows as were made.
func (b *bench) holds(ctx context.Context, archive, trust string) error {
	m, err := b.shown(ctx, archive, trust)
	if err == nil && m.Totals.Rows != b.rows {
		err = fmt.Errorf("%s has %d rows, want %d", archive, m.Totals.Rows, b.rows)
	}
	return err
}
