// Command bench measures the main job on 3,000,000 real rows, each step in a
// process of its own, beside what the official SDK alone does on the same server:
//
//	go run ./cmd/otsnap/internal/bench [-flights FILE] [-rows N]
//
// and then the writing of chunks beside DuckDB, with -writer alone, of the tables in
// any archive. It prints tables. What counts are its ratios; the times are those of a
// machine that may be busy with something else.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "sdk" {
		return runSDK(ctx, args[1:])
	}
	if len(args) > 0 && args[0] == "export" {
		return runProfiled(ctx, args[1:])
	}
	onlyStores := flag.Bool("stores", false, "measure object storage alone")
	writers := flag.String("writer", "", "measure the writing of chunks alone, with the tables of the archive in this `folder`")
	growth := flag.Int64("growth", 0, "measure tables of 10,000 rows and ten times as many each, up to this `number`, alone")
	flights := flag.String("flights", "", "`file` of flights; by default it is fetched by npm")
	rows := flag.Int64("rows", 0, "`number` of flights to take; 0 is all")
	workers := flag.Int("workers", 2, "workers of every otsnap command")
	if err := flag.CommandLine.Parse(args); err != nil {
		return err
	}
	if *writers != "" {
		return benchWriter(ctx, *writers)
	}
	dir, err := os.MkdirTemp("", "otsnap-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	switch {
	case *onlyStores:
		return benchStores(ctx, dir)
	case *growth > 0:
		return benchGrowth(ctx, dir, *growth, fmt.Sprint(*workers))
	}
	path := *flights
	if path == "" {
		if path, err = sample.FetchFlights(ctx); err != nil {
			return err
		}
	}
	b := &bench{dir: dir, flights: path, limit: fmt.Sprint(*rows), workers: fmt.Sprint(*workers)}
	defer b.stopServer()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	steps, err := b.steps(ctx)
	if err != nil {
		return err
	}
	if err := report(steps, b.rawBytes, b.storedBytes); err != nil {
		return err
	}
	if err := b.shares(ctx, sample.Flights); err != nil {
		return err
	}
	if err := benchWriter(ctx, filepath.Join(dir, "archive")); err != nil {
		return err
	}
	return benchStores(ctx, dir)
}

// step is one measured process.
type step struct {
	name     string
	rows     int64
	wall     time.Duration
	cpu      time.Duration
	peak     int64 // bytes
	baseline string
}

func (b *bench) steps(ctx context.Context) ([]step, error) {
	archive := filepath.Join(b.dir, "archive")
	source, target := b.url+"?instance=source", b.url+"?instance=target"
	otsnap := func(name, baseline string, args ...string) job {
		args = append(args, "--quiet", "--trust", filepath.Join(b.dir, "trust"))
		return job{name: name, baseline: baseline, args: append([]string{b.otsnap}, args...)}
	}
	key := filepath.Join(b.dir, "key.pem")
	jobs := []job{
		{name: "SDK GetRange loop", args: []string{b.self, "sdk", "scan", b.url, "source", sample.Flights}},
		otsnap("export", "SDK GetRange loop", "export", source, archive, "--table", sample.Flights, "--key", key, "--workers", b.workers),
		otsnap("verify --level objects", "", "verify", archive, "--level", "objects", "--workers", b.workers),
		otsnap("verify --level hashes", "", "verify", archive, "--level", "hashes", "--workers", b.workers),
		otsnap("verify --level rows", "", "verify", archive, "--level", "rows", "--workers", b.workers),
		{name: "SDK BatchWriteRow loop", args: []string{b.self, "sdk", "write", b.url, "source", "copy"}},
		otsnap("restore (with compare)", "SDK BatchWriteRow loop", "restore", archive, target, "--workers", b.workers),
		otsnap("compare", "SDK GetRange loop", "compare", archive, target, "--workers", b.workers),
	}
	var steps []step
	for _, j := range jobs {
		s, err := b.measure(ctx, j)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", j.name, err)
		}
		steps = append(steps, s)
		if j.name == "export" {
			if err := b.sizes(ctx, archive); err != nil {
				return nil, err
			}
		}
	}
	return steps, nil
}

// report prints the steps. Ratios above 1 are in favour of otsnap.
func report(steps []step, raw, stored int64) error {
	byName := map[string]step{}
	for _, s := range steps {
		byName[s.name] = s
	}
	rows := steps[0].rows
	fmt.Printf("%d rows, %.0f bytes a row in PlainBuffer, %.1f stored; %s, %d cores\n\n", rows,
		float64(raw)/float64(rows), float64(stored)/float64(rows), runtime.Version(), runtime.NumCPU())
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "step\tseconds\trows/s\tMB/s\tCPU us/row\tMB/s/core\tpeak MiB\twall, times faster\tCPU, times less\t")
	for _, s := range steps {
		wall, cpu := "", ""
		if base, ok := byName[s.baseline]; ok {
			wall = fmt.Sprintf("%.1f", base.wall.Seconds()/s.wall.Seconds())
			cpu = fmt.Sprintf("%.1f", base.cpu.Seconds()/s.cpu.Seconds())
		}
		fmt.Fprintf(w, "%s\t%.1f\t%.0f\t%.0f\t%.2f\t%.0f\t%d\t%s\t%s\t\n", s.name, s.wall.Seconds(),
			float64(rows)/s.wall.Seconds(), float64(raw)/1e6/s.wall.Seconds(),
			s.cpu.Seconds()*1e6/float64(rows), float64(raw)/1e6/s.cpu.Seconds(), s.peak>>20, wall, cpu)
	}
	return w.Flush()
}
