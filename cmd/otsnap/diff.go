package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// diffOptions are the flags of diff.
type diffOptions struct {
	archive archiveFlags
	with    string
	trust   string // of the other archive
	id      string
	tables  []string
	workers int
	summary bool
}

func (a *app) diffCommand() *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff ARCHIVE A B",
		Short: "Tell how the rows of two snapshots differ, from the archive alone",
		Long: `Tell how the rows of two snapshots, A and B, differ: what was added, removed and
changed from A to B, in the order of keys, down to the version of a cell. Each is
an id, the start of one, a number, or latest. No instance is asked. With --with, B
is in another archive, such as a copy.

Rows are compared, not files: chunks may be cut and laid out in other ways. Where
the signed digests say that the rows of two chunks are the same, neither is read.
The exit code is 14 if anything differs, also in how a table is defined, and 0 if
nothing does. --json prints a line of JSON for each row, with values as cat has
them, and the summary as the last line.`,
		Example: `  otsnap diff /backup/shop 16 17
  otsnap diff /backup/shop 17 latest --table 'orders*' --json | jq -c 'select(.change == "removed")'
  otsnap diff /backup/shop latest latest --with 's3://BUCKET/shop?region=eu-central-1' --summary`,
		Args: arguments([]string{"ARCHIVE", "A", "B"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.with == "" && (o.trust != "" || o.id != "") {
				return usage(cmd, "--with-trust and --with-archive-id are for --with ARCHIVE")
			}
			return a.diff(cmd.Context(), args[0], args[1], args[2], o)
		},
	}
	o.archive.add(cmd)
	addTableFlag(cmd, &o.tables)
	addWorkersFlag(cmd, &o.workers)
	cmd.Flags().StringVar(&o.with, "with", "", "`ARCHIVE` that B is in (default: the same)")
	cmd.Flags().StringVar(&o.trust, "with-trust", "", "trust `FILE` of that archive")
	cmd.Flags().StringVar(&o.id, "with-archive-id", "", "`ID` of that archive (default: the other one's, where nothing else is known of it)")
	cmd.Flags().BoolVar(&o.summary, "summary", false, "count what differs and do not name it, which reads less")
	return cmd
}

// diffSide is a snapshot, and the end of the chain it is in.
type diffSide struct {
	from   *opened
	newest snapshot.Entry
	snapshot.Side
}

func (a *app) diffSide(ctx context.Context, from *opened, which string) (diffSide, error) {
	chain, err := from.Chain(ctx)
	if err != nil {
		return diffSide{}, err
	}
	e, err := snapshot.Choose(chain, which)
	if err != nil {
		return diffSide{}, err
	}
	return diffSide{from, chain[len(chain)-1], snapshot.Side{Archive: from.Archive, Entry: e}}, nil
}

// otherArchive opens the archive B is in. One of which nothing is known yet must
// be a copy: it has the id of the first one.
func (a *app) otherArchive(ctx context.Context, from *opened, o diffOptions) (*opened, error) {
	if o.with == "" {
		return from, nil
	}
	flags := o.archive
	flags.trust, flags.id, flags.anchorFlags = o.trust, o.id, anchorFlags{}
	where, err := locate(o.with)
	if err != nil {
		return nil, err
	}
	file, err := a.trustFile(where, o.trust)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(file.path); errors.Is(err, fs.ErrNotExist) && flags.id == "" {
		flags.id = from.Policy.ID().String()
	}
	return a.openArchive(ctx, o.with, flags)
}

func (a *app) diff(ctx context.Context, location, first, second string, o diffOptions) error {
	from, err := a.openArchive(ctx, location, o.archive)
	if err != nil {
		return err
	}
	other, err := a.otherArchive(ctx, from, o)
	if err != nil {
		return err
	}
	sideA, err := a.diffSide(ctx, from, first)
	if err != nil {
		return err
	}
	sideB, err := a.diffSide(ctx, other, second)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	run := snapshot.Diff{A: sideA.Side, B: sideB.Side, Tables: o.tables, Workers: o.workers, Brief: o.summary || a.quiet && !a.json}
	report, err := run.Run(ctx, func(c snapshot.Change) error {
		if a.json {
			return jsonChange(out, c)
		}
		return printChange(out, c)
	})
	if err != nil {
		return errors.Join(err, out.Flush())
	}
	if err := a.summarize(out, report); err != nil {
		return err
	}
	sideA.from.remember(sideA.newest)
	sideB.from.remember(sideB.newest)
	if !report.Differs() {
		return nil
	}
	return labelled{fmt.Errorf("snapshots %d and %d differ", report.A.Seq, report.B.Seq), snapshot.ErrDiffers}
}

// summarize writes what was counted, and all that was written before.
func (a *app) summarize(out *bufio.Writer, r *snapshot.DiffReport) error {
	switch {
	case a.json:
		a.answered = true
		summary := struct {
			Summary *snapshot.DiffReport `json:"summary"`
			Differs bool                 `json:"differs"`
		}{r, r.Differs()}
		if err := json.NewEncoder(out).Encode(summary); err != nil {
			return err
		}
	case !a.quiet:
		printDiff(out, r, a.took())
	}
	return out.Flush()
}

func printDiff(w io.Writer, r *snapshot.DiffReport, took string) {
	var t console.Table
	t.Row("table", "in A", "in B", "added", "removed", "changed", "result")
	n := console.Number[int64]
	for _, x := range r.Tables {
		t.Row(console.Quote(x.Name), n(x.RowsA), n(x.RowsB), n(x.Added), n(x.Removed), n(x.Changed), diffResult(x))
	}
	t.Print(w)
	for _, x := range r.Tables {
		if len(x.Definition) > 0 {
			fmt.Fprintf(w, "differs: table %s: defined with another %s\n", console.Quote(x.Name), strings.Join(x.Definition, ", "))
		}
	}
	fmt.Fprintf(w, "A is snapshot %d (%s), B is snapshot %d (%s)", r.A.Seq, r.A.Snapshot, r.B.Seq, r.B.Snapshot)
	if r.A.Archive != r.B.Archive {
		fmt.Fprintf(w, " of another archive")
	}
	fmt.Fprintf(w, "; %s read, of %s the signed digests were enough, in %s\n", console.Count(r.Chunks.Read, "chunk"), n(r.Chunks.Skipped), took)
}

func diffResult(t snapshot.DiffTable) string {
	switch {
	case t.Only != "":
		return "ONLY IN " + strings.ToUpper(t.Only)
	case t.Differs():
		return "DIFFERS"
	}
	return "equal"
}

// printChange writes a line for a row, or for each cell of one that changed.
func printChange(w io.Writer, c snapshot.Change) error {
	head := fmt.Sprintf("%s %s", c.Table.Name, row.FormatKey(c.Table.Key, c.Key))
	say := func(format string, args ...any) error {
		_, err := fmt.Fprintln(w, console.Printable(head+": "+fmt.Sprintf(format, args...)))
		return err
	}
	if c.Kind != snapshot.Changed {
		return say("row is %s", c.Kind)
	}
	for _, cell := range c.Cells() {
		var err error
		switch name := fmt.Sprintf("%s@%d", cell.Name, cell.Version); {
		case cell.Before == nil:
			err = say("%s: new, %s", name, cell.After)
		case cell.After == nil:
			err = say("%s: gone, was %s", name, cell.Before)
		default:
			err = say("%s: %s, was %s", name, cell.After, cell.Before)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// jsonChange writes a line of JSON for a row. One that was added or removed has
// all its cells, one that was changed those that differ.
func jsonChange(w io.Writer, c snapshot.Change) error {
	r := c.Before
	if r == nil {
		r = c.After
	}
	line := row.AppendJSONString([]byte(`{"table":`), c.Table.Name)
	line = row.AppendJSONString(append(line, `,"change":`...), string(c.Kind))
	line = appendKeyObject(append(line, `,"key":`...), c.Table.Key, r.Key)
	line = append(line, `,"cells":`...)
	var err error
	if c.Kind == snapshot.Changed {
		line, err = appendCellChanges(line, c.Cells())
	} else {
		line, err = appendCells(line, r.Cells, true, func(string) bool { return true })
	}
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '}', '\n'))
	return err
}

func appendCellChanges(dst []byte, cells []snapshot.CellChange) ([]byte, error) {
	dst = append(dst, '[')
	for i, c := range cells {
		if !utf8.ValidString(c.Name) {
			return nil, fmt.Errorf("the cell name %q is not UTF-8, and JSON cannot say it", c.Name)
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = row.AppendJSONString(append(dst, `{"name":`...), c.Name)
		dst = fmt.Appendf(dst, `,"ts":%d`, c.Version)
		if c.Before != nil {
			dst = c.Before.AppendJSON(append(dst, `,"before":`...))
		}
		if c.After != nil {
			dst = c.After.AppendJSON(append(dst, `,"after":`...))
		}
		dst = append(dst, '}')
	}
	return append(dst, ']'), nil
}
