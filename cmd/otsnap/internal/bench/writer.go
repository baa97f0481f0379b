package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

const writerRounds = 7

// spent is what a piece of work took.
type spent struct{ wall, cpu time.Duration }

// written is what writers make of a table's rows, and what they took in each
// round.
type written struct {
	bytes int64
	spent []spent
}

// writerTable is a table's rows as export passes them to the writer of chunks:
// the batches of each chunk.
type writerTable struct {
	name   string
	files  []string
	layout row.Layout
	rows   int64
	chunks [][]row.Batch
}

// benchWriter writes the rows of every table in an archive in a directory as
// chunks again, from memory into memory, and has DuckDB write the same rows from
// its memory, in turns. DuckDB writes the columns chunks have, and once more those
// without the versions of cells.
func benchWriter(ctx context.Context, at string) error {
	folders, err := filepath.Glob(filepath.Join(at, "snapshots", "*", "*", "r*.parquet"))
	if err != nil || len(folders) == 0 {
		return fmt.Errorf("no chunks in %s: %w", at, cmp.Or(err, os.ErrNotExist))
	}
	for i := range folders {
		folders[i] = filepath.Dir(folders[i])
	}
	duck, err := startDuckDB(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\nwriting chunks, %s, %d cores; medians of %d rounds, ratios above 1 are in favour of otsnap\n\n", runtime.Version(), runtime.NumCPU(), writerRounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "table\trows\twriter\tCPU ns/row\twall ns/row\twall, 2 threads\tB/row\tDuckDB's CPU\twall\twall, 2 threads\tbytes\t")
	for _, folder := range slices.Compact(folders) {
		t, err := readTable(ctx, folder)
		if err != nil {
			return fmt.Errorf("%s: %w", folder, err)
		}
		if err := t.measure(ctx, duck, w); err != nil {
			return fmt.Errorf("%s: %w", folder, err)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return duck.stop()
}

// readTable reads chunks into memory.
func readTable(ctx context.Context, folder string) (*writerTable, error) {
	t := &writerTable{name: filepath.Base(folder)}
	var err error
	if t.files, err = filepath.Glob(filepath.Join(folder, "r*.parquet")); err != nil {
		return nil, err
	}
	for _, name := range t.files {
		batches, err := t.read(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		t.chunks = append(t.chunks, batches)
	}
	return t, nil
}

func (t *writerTable) read(ctx context.Context, name string) ([]row.Batch, error) {
	source, err := file.OpenParquetFile(name, false)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	reader, err := pqarrow.NewFileReader(source, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	var batches []row.Batch
	for group := range source.NumRowGroups() {
		records, err := reader.GetRecordReader(ctx, nil, []int{group})
		if err != nil {
			return nil, err
		}
		rec, err := records.Read()
		if err != nil {
			return nil, err
		}
		if t.layout.Key == nil {
			t.layout = layoutOf(rec.Schema())
		}
		b, err := rebuilt(t.layout, rec)
		if err != nil {
			return nil, err
		}
		batches = append(batches, b)
		t.rows += rec.NumRows()
	}
	return batches, nil
}

// layoutOf returns the layout a chunk's schema comes of: the columns of the key
// are the first, and the only ones without nulls.
func layoutOf(s *arrow.Schema) row.Layout {
	types := map[arrow.Type]manifest.Type{
		arrow.INT64: manifest.Integer, arrow.FLOAT64: manifest.Double, arrow.BOOL: manifest.Boolean,
		arrow.STRING: manifest.String, arrow.BINARY: manifest.Binary,
	}
	var l row.Layout
	for _, f := range s.Fields() {
		switch {
		case f.Name == row.VersionColumn:
			return l
		case f.Nullable:
			l.Columns = append(l.Columns, manifest.Column{Name: f.Name, Type: types[f.Type.ID()]})
		default:
			l.Key = append(l.Key, manifest.KeyColumn{Name: f.Name, Type: types[f.Type.ID()]})
		}
	}
	return l
}

// rebuilt returns a batch of the rows as a scan makes it.
func rebuilt(l row.Layout, rec arrow.RecordBatch) (row.Batch, error) {
	b, e := row.NewBuilder(memory.NewGoAllocator(), l), row.NewEncoder(l)
	if err := e.Reset(rec); err != nil {
		return row.Batch{}, err
	}
	var wire []byte
	for i := range int(rec.NumRows()) {
		var err error
		if wire, err = e.AppendRow(wire[:0], i); err != nil {
			return row.Batch{}, err
		}
		if _, err := b.Append(wire); err != nil {
			return row.Batch{}, err
		}
	}
	return b.Batch(), nil
}

// write writes the chunks, several at once, and returns how large they are.
func (t *writerTable) write(threads int) (spent, int64, error) {
	runtime.GC() // of what was there before
	began, used := time.Now(), cpuTime()
	sizes := make([]int64, len(t.chunks))
	var group errgroup.Group
	group.SetLimit(threads)
	for i, batches := range t.chunks {
		group.Go(func() error {
			data, _, err := writeChunk(t.layout, batches)
			sizes[i] = int64(len(data))
			return err
		})
	}
	err := group.Wait()
	took := spent{time.Since(began), cpuTime() - used}
	var size int64
	for _, n := range sizes {
		size += n
	}
	return took, size, err
}

func writeChunk(l row.Layout, batches []row.Batch) ([]byte, manifest.Chunk, error) {
	w, err := archive.NewWriter(l, archive.Meta{Table: "bench", Snapshot: "20261122T160501Z-1f7a9c04"})
	if err != nil {
		return nil, manifest.Chunk{}, err
	}
	for _, b := range batches {
		if err := w.Write(b); err != nil {
			return nil, manifest.Chunk{}, err
		}
	}
	return w.Close()
}

// measure lets the writers write in turns and prints what they took.
func (t *writerTable) measure(ctx context.Context, duck *duckDB, w *tabwriter.Writer) error {
	dir, err := os.MkdirTemp("", "otsnap-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	all := fmt.Sprintf("create or replace table bench as select * from read_parquet(['%s'])", strings.Join(t.files, "', '"))
	if _, _, err := duck.run(all); err != nil {
		return err
	}
	columns := []string{"*", fmt.Sprintf("* exclude (%s, %s, %s)", row.VersionColumn, row.VersionsColumn, row.MoreColumn)}
	const ours = 0
	names := []string{"otsnap", "DuckDB", "DuckDB, no versions"}
	one, two := make([]written, len(names)), make([]written, len(names))
	for range writerRounds {
		for threads, results := range map[int][]written{1: one, 2: two} {
			if err := ctx.Err(); err != nil {
				return err
			}
			for i := range names {
				var took spent
				var size int64
				if i == ours {
					took, size, err = t.write(threads)
				} else {
					took, size, err = t.copy(duck, threads, columns[i-1], filepath.Join(dir, "out.parquet"))
				}
				if err != nil {
					return err
				}
				results[i].bytes, results[i].spent = size, append(results[i].spent, took)
			}
		}
	}
	t.print(w, names, one, two)
	return nil
}

// copy has DuckDB write the table.
func (t *writerTable) copy(duck *duckDB, threads int, columns, to string) (spent, int64, error) {
	if _, _, err := duck.run(fmt.Sprintf("set threads = %d", threads)); err != nil {
		return spent{}, 0, err
	}
	took, counted, err := duck.run(fmt.Sprintf("copy (select %s from bench) to '%s' (format parquet, compression zstd)", columns, to))
	if err != nil {
		return spent{}, 0, err
	}
	if len(counted) != 1 || counted[0] != fmt.Sprint(t.rows) {
		return spent{}, 0, fmt.Errorf("DuckDB wrote %v rows of %d", counted, t.rows)
	}
	info, err := os.Stat(to)
	if err != nil {
		return spent{}, 0, err
	}
	return took, info.Size(), os.Remove(to)
}

func (t *writerTable) print(w *tabwriter.Writer, names []string, one, two []written) {
	perRow := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(t.rows) }
	wall := func(s spent) time.Duration { return s.wall }
	cpu := func(s spent) time.Duration { return s.cpu }
	for i, name := range names {
		fmt.Fprintf(w, "%s\t%d\t%s\t%.0f\t%.0f\t%.0f\t%.2f\t", t.name, t.rows, name,
			perRow(one[i].median(cpu)), perRow(one[i].median(wall)), perRow(two[i].median(wall)), float64(one[i].bytes)/float64(t.rows))
		if i > 0 {
			fmt.Fprintf(w, "%.2f\t%.2f\t%.2f\t%.2f\t",
				perRow(one[i].median(cpu))/perRow(one[0].median(cpu)), perRow(one[i].median(wall))/perRow(one[0].median(wall)),
				perRow(two[i].median(wall))/perRow(two[0].median(wall)), float64(one[i].bytes)/float64(one[0].bytes))
		}
		fmt.Fprintln(w)
	}
}

func (x written) median(of func(spent) time.Duration) time.Duration {
	var all []time.Duration
	for _, s := range x.spent {
		all = append(all, of(s))
	}
	slices.Sort(all)
	return all[len(all)/2]
}
