package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// catOptions are the flags of cat.
type catOptions struct {
	archive  archiveFlags
	snapshot string
	keys     keyFlags
	where    string
	columns  []string
	versions string
	format   string
	out      string
	limit    int64
	workers  int
	require  requireFlags
}

func (a *app) catCommand() *cobra.Command {
	var o catOptions
	cmd := &cobra.Command{
		Use:   "cat ARCHIVE TABLE",
		Short: "Print rows of a snapshot, from the archive alone",
		Long: `Print rows of a snapshot in the order of their keys, from the archive alone.
Signatures are checked first, and each chunk before it is decoded. Of the whole
archive only the chunks are read that can have rows asked for. What was printed
is all of it only if the exit code is 0.

A KEY is values with commas between, one for each column of the primary key:
  US,7             an INTEGER in digits, a STRING as it is
  "Foo, Inc",7     a STRING in double quotes, as in JSON; that it must be if it
                   is empty, has a comma or a quote, starts with ( or [, or has
                   blanks at an end
  hex:00ff         a BINARY in hex
  base64:AP8=      or in base64
For --from, --to and --prefix values at the end may be left out. The last STRING
of --prefix may be cut short with a star: --prefix 'US,Ber*'.

--where prints only rows of which a CONDITION is true. It is made, with and, or,
not and parentheses, of
  NAME = LITERAL           also != < <= > >=
  NAME in (LITERAL, …)     equal to one of them
  NAME like 'a%b_c'        % is any run of characters, _ is one
  NAME prefix LITERAL      the STRING or BINARY starts so, whatever is in it
  exists NAME              also NAME is null, NAME is not null
NAME is a column of the key or a cell, of which the newest version counts. It
stands in "double quotes" if it is a keyword. LITERAL is 12, an INTEGER; 1.5, a
DOUBLE; 'text', a STRING, in which '' is a quote; true or false; x'00ff', a BINARY.
A comparison, != too, is false of a row without the cell, and of a cell of another
type; not (NAME = 1) is true of it. INTEGER and DOUBLE are both numbers, compared
exactly: 12 equals 12.0. STRING and BINARY compare byte by byte. Conditions on the
first columns of the key, joined by and, save fetching chunks; others save
decoding the parts of chunks that cannot have such rows. What is not decoded is
not checked, but for the signed digest of the whole chunk.

A line of JSON is {"key":{NAME:VALUE…},"cells":{NAME:VALUE…}}, where an INTEGER
has neither point nor exponent, of up to 64 bits; a DOUBLE always has one of them;
a BINARY is {"b64":"…"}. With --versions all a cell is [{"ts":MILLISECONDS,
"value":VALUE}…], newest first.

CSV has a column for each of the key's and for each that the archive has or
--columns names; the last one, __more, has what is left as JSON, unless
--columns has no pattern. An absent cell is empty, an empty STRING is "", a
BINARY is base64. With --versions all there is a line for each version: key,
name, ts, type, value.`,
		Example: `  otsnap cat /backup/shop orders --where "total > 100 and country in ('DE', 'FR')"
  otsnap cat /backup/shop orders --where "not exists paid or note like '%late%'" --columns paid,note
  otsnap cat /backup/shop orders --key US,7 --versions all
  otsnap cat /backup/shop orders --from US --to UT --columns 'total,ship_*' --format csv --out us.csv`,
		Args: arguments([]string{"ARCHIVE", "TABLE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, a.json); err != nil {
				return err
			}
			return a.cat(cmd.Context(), args[0], args[1], o)
		},
	}
	o.archive.add(cmd)
	o.keys.add(cmd)
	addSnapshotFlag(cmd, &o.snapshot, "the newest")
	addWorkersFlag(cmd, &o.workers)
	o.require.add(cmd, forRequired)
	cmd.Flags().StringVar(&o.where, "where", "", "`CONDITION` rows have to meet, as total > 100; see above")
	cmd.Flags().StringSliceVar(&o.columns, "columns", nil, "cells to print, as `NAMES` or globs with commas between (default: all); rows without any are printed too")
	cmd.Flags().StringVar(&o.versions, "versions", "newest", "`WHICH` versions of a cell: newest or all")
	cmd.Flags().StringVar(&o.format, "format", "jsonl", "`FORMAT`: jsonl or csv")
	cmd.Flags().StringVar(&o.out, "out", "", "new `FILE` for the rows, which only you may read; it is there when all of them are in it")
	cmd.Flags().Int64Var(&o.limit, "limit", 0, "`NUMBER` of rows to stop after")
	return cmd
}

func (o *catOptions) check(cmd *cobra.Command, json bool) error {
	switch {
	case o.versions != "newest" && o.versions != "all":
		return usage(cmd, "--versions %s: there are newest and all", o.versions)
	case o.format != "jsonl" && o.format != "csv":
		return usage(cmd, "--format %s: there are jsonl and csv", o.format)
	case o.format == "csv" && json:
		return usage(cmd, "--json and --format csv exclude each other")
	case o.limit < 0 || o.limit == 0 && cmd.Flags().Changed("limit"):
		return usage(cmd, "--limit %d: it is 1 at least", o.limit)
	}
	for _, glob := range o.columns {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return usage(cmd, "--columns %q is no pattern", glob)
		}
	}
	if o.where == "" && cmd.Flags().Changed("where") {
		return usage(cmd, "--where: the condition is empty")
	}
	if _, err := o.filter(); err != nil {
		return err
	}
	if err := o.require.ready(cmd); err != nil {
		return err
	}
	return o.keys.check(cmd)
}

// filter returns the filter of --where, nil if there is none.
func (o *catOptions) filter() (*row.Filter, error) {
	if o.where == "" {
		return nil, nil
	}
	f, err := row.ParseFilter(o.where)
	if err != nil {
		return nil, advise(misused("--where %s: %w", console.Quote(o.where), err), "what a condition is made of: otsnap cat --help")
	}
	return f, nil
}

// read returns what is to be read of a table.
func (o *catOptions) read(from *reading) (snapshot.Read, error) {
	read := snapshot.Read{Archive: from.from.Archive, Entry: from.entry, Table: from.table, Columns: o.columns, Workers: o.workers}
	key := from.table.Table.Key
	var err error
	if read.Within, err = o.keys.within(key); err != nil {
		return read, err
	}
	if read.Where, err = o.filter(); err != nil {
		return read, err
	}
	if err := read.Where.Check(key); err != nil {
		return read, advise(misused("--where: %w", err), "the key is %s", keyText(key))
	}
	return read, nil
}

// keyFlags choose keys of a table.
type keyFlags struct{ from, to, key, prefix string }

func (f *keyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.from, "from", "", "first `KEY`")
	cmd.Flags().StringVar(&f.to, "to", "", "`KEY` to stop before")
	cmd.Flags().StringVar(&f.key, "key", "", "`KEY` of the one row")
	cmd.Flags().StringVar(&f.prefix, "prefix", "", "`KEY` of which the last values are left out, of all the rows")
}

func (f *keyFlags) check(cmd *cobra.Command) error {
	changed := cmd.Flags().Changed
	ranged := changed("from") || changed("to")
	if changed("key") && (changed("prefix") || ranged) || changed("prefix") && ranged {
		return usage(cmd, "--key, --prefix, and --from with --to, exclude each other")
	}
	for _, name := range []string{"from", "to", "key", "prefix"} {
		if changed(name) && strings.TrimSpace(cmd.Flag(name).Value.String()) == "" {
			return usage(cmd, "--%s: the key is empty", name)
		}
	}
	return nil
}

// within returns the range the flags name.
func (f *keyFlags) within(columns []manifest.KeyColumn) (manifest.Range, error) {
	parse := func(flag, text string, whole bool) (manifest.Key, error) {
		key, n, err := row.ParseKeyText(columns, text)
		if err == nil && whole && n < len(columns) {
			err = fmt.Errorf("key %q has %d of %d values; --prefix takes a part of a key", text, n, len(columns))
		}
		if err != nil {
			return nil, advise(misused("--%s: %w", flag, err), "the key is %s; see: otsnap cat --help", keyText(columns))
		}
		return key, nil
	}
	switch {
	case f.key != "":
		key, err := parse("key", f.key, true)
		return manifest.Range{From: key, To: row.Following(key)}, err
	case f.prefix != "":
		key, err := row.ParseKeyPrefix(columns, f.prefix)
		if err != nil {
			return manifest.Range{}, advise(misused("--prefix: %w", err), "the key is %s; see: otsnap cat --help", keyText(columns))
		}
		return manifest.Range{From: key, To: row.Following(key)}, nil
	}
	from, err := parse("from", f.from, false)
	if err != nil {
		return manifest.Range{}, err
	}
	to, err := parse("to", f.to, false)
	return manifest.Range{From: from, To: to}, err
}

func keyText(columns []manifest.KeyColumn) string {
	var text []string
	for _, k := range columns {
		text = append(text, fmt.Sprintf("%s %s", console.Quote(k.Name), k.Type))
	}
	return strings.Join(text, ", ")
}

// reading is a table of a snapshot, and what was read to find it.
type reading struct {
	from    *opened
	newest  snapshot.Entry
	entry   snapshot.Entry
	table   manifest.TableEntry
	counted *countedStore
}

// openTable finds a table of a snapshot.
func (a *app) openTable(ctx context.Context, location, which, table string, flags archiveFlags) (*reading, error) {
	from, err := a.openArchive(ctx, location, flags)
	if err != nil {
		return nil, err
	}
	counted := &countedStore{Store: from.Store}
	from.Store = counted
	chain, err := from.Chain(ctx)
	if err != nil {
		return nil, err
	}
	r := &reading{from: from, counted: counted}
	if r.entry, err = snapshot.Choose(chain, which); err != nil {
		return nil, err
	}
	r.newest = chain[len(chain)-1]
	r.table, err = snapshot.FindTable(r.entry, table)
	return r, err
}

func (a *app) cat(ctx context.Context, location, table string, o catOptions) error {
	from, err := a.openTable(ctx, location, o.snapshot, table, o.archive)
	if err != nil {
		return err
	}
	if err := o.require.check(ctx, from.from, from.entry); err != nil {
		return err
	}
	read, err := o.read(from)
	if err != nil {
		return err
	}
	out, err := a.output(o.out)
	if err != nil {
		return err
	}
	defer out.discard()
	chosen := newCellChoice(o.columns)
	printer := o.printer(out, from.table.Table, chosen)
	n, err := o.print(ctx, read, printer)
	if err != nil {
		return errors.Join(err, out.Flush())
	}
	if err := out.keep(); err != nil {
		return err
	}
	if n == 0 && o.keys.key != "" && read.Where == nil {
		return fmt.Errorf("table %s: no row has the key %s in snapshot %d", table, row.FormatKey(from.table.Table.Key, read.Within.From), from.entry.Manifest.Seq)
	}
	a.warn("%s of %s from snapshot %d (%s): read %s in %s", console.Count(n, "row"), console.Quote(table),
		from.entry.Manifest.Seq, from.entry.Manifest.Snapshot, from.counted, a.took())
	for _, glob := range chosen.unmatched(from.table.Table) {
		a.warn("warning: no row read has a cell %s", console.Quote(glob))
	}
	from.from.remember(from.newest)
	return nil
}

// print prints the rows and returns their number.
func (o *catOptions) print(ctx context.Context, read snapshot.Read, p rowPrinter) (n int64, err error) {
	if o.limit > 0 {
		read.Workers = 1 // what follows is not wanted
	}
	if err := p.begin(); err != nil {
		return 0, err
	}
	for r, err := range read.Rows(ctx) {
		if err == nil {
			err = p.row(r)
		}
		if err != nil {
			return n, err
		}
		if n++; n == o.limit {
			break
		}
	}
	return n, nil
}

func (o *catOptions) printer(w io.Writer, t manifest.Table, chosen *cellChoice) rowPrinter {
	all := o.versions == "all"
	if o.format == "jsonl" {
		return newJSONRows(w, t, chosen, all)
	}
	if all {
		return &csvCells{csvLines: csvLines{w: w}, table: t, chosen: chosen}
	}
	return newCSVRows(w, t, chosen)
}

// cellChoice says which cells to print, and which of its patterns had any.
type cellChoice struct {
	globs []string
	used  []bool
	known map[string]bool // names decided on
}

func newCellChoice(globs []string) *cellChoice {
	return &cellChoice{globs: globs, used: make([]bool, len(globs)), known: map[string]bool{}}
}

// takes reports whether cells of that name are to be printed.
func (c *cellChoice) takes(name string) bool {
	if len(c.globs) == 0 {
		return true
	}
	taken, ok := c.known[name]
	if ok {
		return taken
	}
	for i, glob := range c.globs {
		if match, _ := path.Match(glob, name); match {
			c.used[i], taken = true, true
		}
	}
	const enough = 1 << 16 // of names; a table may have more than memory
	if len(c.known) < enough {
		c.known[name] = taken
	}
	return taken
}

// exact reports whether the choice is of names alone.
func (c *cellChoice) exact() bool {
	return len(c.globs) > 0 && !slices.ContainsFunc(c.globs, isGlob)
}

func isGlob(s string) bool { return strings.ContainsAny(s, `*?[\`) }

// unmatched returns the patterns no cell had, of those that name no column the
// table is known to have.
func (c *cellChoice) unmatched(t manifest.Table) []string {
	for _, k := range t.Key {
		c.takes(k.Name)
	}
	for _, column := range slices.Concat(t.Defined, t.Columns) {
		c.takes(column.Name)
	}
	var left []string
	for i, used := range c.used {
		if !used {
			left = append(left, c.globs[i])
		}
	}
	return left
}

// countedStore counts what is read from a store.
type countedStore struct {
	archive.Store
	mu                       sync.Mutex
	manifests, pages, chunks int64
	bytes                    int64
}

// Get counts the object by its name.
func (s *countedStore) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	body, err := s.Store.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case strings.HasPrefix(name, "manifests/"):
		s.manifests++
	case strings.HasSuffix(name, ".parquet"):
		s.chunks++
	default:
		s.pages++
	}
	return &countedBody{body, s}, nil
}

func (s *countedStore) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%s, %s, %s, %s", console.Count(s.manifests, "manifest"), console.Count(s.pages, "page"), console.Count(s.chunks, "chunk"), console.Bytes(s.bytes))
}

type countedBody struct {
	io.ReadCloser
	store *countedStore
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.store.mu.Lock()
	b.store.bytes += int64(n)
	b.store.mu.Unlock()
	return n, err
}

// output is where rows go: stdout, or a new file that gets its name when it is
// whole.
type output struct {
	*bufio.Writer
	file *os.File // nil: stdout
	path string
}

func (a *app) output(path string) (*output, error) {
	const buffer = 64 << 10
	if path == "" {
		return &output{Writer: bufio.NewWriterSize(a.stdout, buffer)}, nil
	}
	if _, err := os.Lstat(path); err == nil {
		return nil, fileExists(path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, atPath(path, err)
	}
	o := &output{file: file, path: path}
	o.Writer = bufio.NewWriterSize(writerFunc(o.fill), buffer)
	return o, nil
}

// fill writes to the file under the name it is to get.
func (o *output) fill(data []byte) (int, error) {
	n, err := o.file.Write(data)
	return n, atPath(o.path, err)
}

// writerFunc is a function that writes.
type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(data []byte) (int, error) { return w(data) }

// atPath has an error of a file speak of the name it is to get, and not of the one it has
// until it is whole.
func atPath(path string, err error) error {
	var ofFile *fs.PathError
	var ofLink *os.LinkError
	switch {
	case errors.As(err, &ofFile):
		return &fs.PathError{Op: ofFile.Op, Path: path, Err: ofFile.Err}
	case errors.As(err, &ofLink):
		return &fs.PathError{Op: ofLink.Op, Path: path, Err: ofLink.Err}
	}
	return err
}

func fileExists(path string) error {
	return advise(fmt.Errorf("%s is there already: %w", path, fs.ErrExist), "files are never overwritten; choose another name")
}

// keep makes sure that all that was written is where it belongs.
func (o *output) keep() error {
	if err := o.Flush(); err != nil || o.file == nil {
		return err
	}
	if err := o.file.Sync(); err != nil {
		return atPath(o.path, err)
	}
	if err := os.Link(o.file.Name(), o.path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fileExists(o.path)
		}
		return atPath(o.path, err)
	}
	return syncDir(filepath.Dir(o.path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// discard removes the file's first name, and with it the file unless it was kept.
func (o *output) discard() {
	if o.file != nil {
		_ = o.file.Close()
		_ = os.Remove(o.file.Name())
	}
}
