package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// proveOptions are the flags of prove.
type proveOptions struct {
	archive  archiveFlags
	snapshot string
	table    string
	keys     keyFlags
	absence  bool
	out      string
}

func (a *app) proveCommand() *cobra.Command {
	var o proveOptions
	cmd := &cobra.Command{
		Use:   "prove ARCHIVE --table TABLE --key KEY --out FILE",
		Short: "Write a small file that proves one row to somebody without the archive",
		Long: `Write a small file that proves one row of a snapshot: what it holds, in which
table of which instance, and when. Whoever has the id of the archive can check it
with otsnap check-proof, or by hand (FORMAT.md, 4.9), without the archive and
without a network. A KEY is written as for otsnap cat.

What the file tells whoever gets it: the row, with all its versions; the chunk it
is in, by digests and counts, with the first and the last key in it; digests of
other rows and chunks, which tell whether somebody who can guess a whole row, every
version to the millisecond, guessed right; and the whole manifest, that is the
tables of the snapshot with their columns, settings and sizes, and the keys at
which they were split; and the policy, that is who may sign.

A row that is not there is an error. With --absence it is proved instead: by the
two rows its place is between, which are in the file whole, or, where that place is
between two chunks, before the first or after the last, by the chunks alone. What
it rests on, beside the signatures, is that the rows signed are in the order of
their keys; otsnap never writes others, and otsnap verify --level rows checks it.`,
		Example: `  otsnap prove /backup/shop --table orders --key US,7 --out row.proof.json
  otsnap prove /backup/shop --table orders --key US,8 --absence --snapshot 17 --out none.proof.json`,
		Args: arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, needed := range []string{"table", "key", "out"} {
				if cmd.Flag(needed).Value.String() == "" {
					return usage(cmd, "--%s is missing", needed)
				}
			}
			return a.prove(cmd.Context(), args[0], o)
		},
	}
	o.archive.add(cmd)
	addSnapshotFlag(cmd, &o.snapshot, "the newest")
	cmd.Flags().StringVar(&o.table, "table", "", "`NAME` of the table")
	cmd.Flags().StringVar(&o.keys.key, "key", "", "`KEY` of the row, as for otsnap cat")
	cmd.Flags().BoolVar(&o.absence, "absence", false, "prove that there is no such row, if there is none; this may show the two rows beside its place")
	cmd.Flags().StringVar(&o.out, "out", "", "new `FILE` for the proof, which only you may read")
	return cmd
}

// provenResult is what a proof shows.
type provenResult struct {
	File     string        `json:"file"`
	Bytes    int           `json:"bytes"`
	Archive  manifest.Hash `json:"archive"`
	Seq      int64         `json:"seq"`
	Snapshot string        `json:"snapshot"`
	Digest   manifest.Hash `json:"digest"` // of the manifest's object

	Instance manifest.Instance `json:"instance"`
	Started  manifest.Time     `json:"started"`
	Finished manifest.Time     `json:"finished"`
	SignedBy []string          `json:"signed_by"`
	Table    string            `json:"table"`
	Key      manifest.Key      `json:"key"`
	Present  bool              `json:"present"`
	Rows     []provenRow       `json:"rows"` // the row, or those beside its place
}

type provenRow struct {
	Key   []manifest.ProofCell `json:"key"`
	Cells []manifest.ProofCell `json:"cells"`
}

func newProvenResult(file string, size int, p *snapshot.Proven) provenResult {
	m := p.Manifest
	r := provenResult{
		File: file, Bytes: size, Archive: m.Archive, Seq: m.Seq, Snapshot: m.Snapshot, Digest: p.Digest,
		Instance: m.Instance, Started: m.Started, Finished: m.Finished,
		Table: p.Table.Table.Name, Key: p.Key, Present: p.Present, Rows: []provenRow{},
	}
	for _, k := range p.Signers {
		r.SignedBy = append(r.SignedBy, k.Name)
	}
	for _, c := range p.Chunks {
		for _, row := range c.Rows {
			r.Rows = append(r.Rows, provenRow{row.Key, row.Cells})
		}
	}
	return r
}

func (a *app) prove(ctx context.Context, location string, o proveOptions) error {
	from, err := a.openTable(ctx, location, o.snapshot, o.table, o.archive)
	if err != nil {
		return err
	}
	table := from.table.Table
	one, err := o.keys.within(table.Key)
	if err != nil {
		return err
	}
	out, err := a.output(o.out)
	if err != nil {
		return err
	}
	defer out.discard()
	data, err := snapshot.Prove{Archive: from.from.Archive, Entry: from.entry, Table: from.table, Key: one.From, Absence: o.absence}.Run(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return advise(err, "--absence writes a proof of that; where the key's place is inside a chunk, it shows the two rows beside it")
	}
	if err != nil {
		return err
	}
	proven, err := snapshot.CheckProof(data, from.from.Trust)
	if err != nil {
		return err
	}
	if _, err := out.Write(data); err != nil {
		return err
	}
	if err := out.keep(); err != nil {
		return err
	}
	from.from.remember(from.newest)
	result := newProvenResult(o.out, len(data), proven)
	return a.answer(result, func(w io.Writer) {
		fmt.Fprintf(w, "proof       %s, %s, read %s\n", console.Quote(o.out), console.Bytes(int64(len(data))), from.counted)
		printProven(w, proven)
		fmt.Fprintf(w, "check it:   otsnap check-proof %s --archive-id %s\n", quoted(o.out), from.from.Policy.ID())
	})
}

// printProven tells what a proof shows, but for the row.
func printProven(w io.Writer, p *snapshot.Proven) {
	m := p.Manifest
	key := row.FormatKey(p.Table.Table.Key, p.Key)
	fmt.Fprintf(w, "table       %s\n", console.Quote(p.Table.Table.Name))
	fmt.Fprintf(w, "key         %s: %s\n", console.Printable(key), map[bool]string{true: "the row is there", false: "there is NO such row"}[p.Present])
	if !p.Present {
		fmt.Fprintf(w, "its place   %s\n", console.Printable(placeOf(p)))
	}
	fmt.Fprintf(w, "snapshot    %d (%s)\n", m.Seq, m.Snapshot)
	fmt.Fprintf(w, "instance    %s\n", printInstance(m.Instance))
	fmt.Fprintf(w, "window      %s to %s\n", m.Started.Format(time.RFC3339), m.Finished.Format(time.RFC3339))
	fmt.Fprintf(w, "archive id  %s\n", m.Archive)
	fmt.Fprintf(w, "manifest    sha256:%s\n", p.Digest)
	var signers []string
	for _, k := range p.Signers {
		signers = append(signers, fmt.Sprintf("%s (%s)", console.Quote(k.Name), k.Role))
	}
	fmt.Fprintf(w, "signed by   %s\n", strings.Join(signers, ", "))
}

// placeOf says where a row that is not there would be.
func placeOf(p *snapshot.Proven) string {
	format := func(k manifest.Key) string { return row.FormatKey(p.Table.Table.Key, k) }
	if len(p.Rows) == 2 {
		var keys [2]manifest.Key
		for i, r := range p.Rows {
			for _, v := range r.Key {
				keys[i] = row.AppendKey(keys[i], v)
			}
		}
		return fmt.Sprintf("between the neighbours %s and %s", format(keys[0]), format(keys[1]))
	}
	switch c := p.Chunks; {
	case len(c) == 0:
		return "in a table without rows"
	case len(c) == 2:
		return fmt.Sprintf("between the chunks that end at %s and begin at %s", format(c[0].Chunk.Last), format(c[1].Chunk.First))
	case string(p.Key) < string(c[0].Chunk.First):
		return "before the first row, " + format(c[0].Chunk.First)
	default:
		return "after the last row, " + format(c[0].Chunk.Last)
	}
}

func (a *app) checkProofCommand() *cobra.Command {
	var trust, id string
	cmd := &cobra.Command{
		Use:   "check-proof FILE --archive-id ID",
		Short: "Check a proof of a row, without the archive",
		Long: `Check a proof that otsnap prove wrote, without the archive and without a network,
and print the row. What it takes is the id of the archive, from elsewhere than the
file: from a contract, or from a trust file.

Checked are: the policy against the id; the signatures of the manifest, as many as
the policy asks for; the way from the row up to the manifest's digest of the table;
the row itself, that it has the key asked for, and that what the file says of it in
words is what its bytes say. A trust file that has seen the same number in the chain
with another digest makes it a fork: the exit code is 11.

What a proof cannot show is what came later: that the archive still has the
snapshot, and whether a newer one holds another row.`,
		Example: `  otsnap check-proof row.proof.json --archive-id 6b56…4577
  otsnap check-proof row.proof.json --trust shop.trust --json`,
		Args: arguments([]string{"FILE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if trust == "" {
				trust = a.getenv("OTSNAP_TRUST")
			}
			if trust == "" && id == "" {
				return usage(cmd, "--archive-id is missing: a proof shows nothing to who has not the archive's id from elsewhere")
			}
			return a.checkProof(args[0], trust, id)
		},
	}
	cmd.Flags().StringVar(&trust, "trust", "", "trust `FILE` (default: $OTSNAP_TRUST)")
	cmd.Flags().StringVar(&id, "archive-id", "", "the archive's `ID`, as written down at init")
	return cmd
}

func (a *app) checkProof(path, trustPath, id string) error {
	var trust manifest.Trust
	var err error
	if trustPath != "" {
		trust, err = trustFile{path: trustPath}.load(id)
	} else if err = trust.Archive.UnmarshalText([]byte(id)); err != nil {
		err = misused("--archive-id: %w", err)
	}
	if err != nil {
		return err
	}
	data, err := readProof(path)
	if err != nil {
		return err
	}
	proven, err := snapshot.CheckProof(data, trust)
	if err != nil {
		return advise(fmt.Errorf("%s: %w", path, err), "this file proves nothing; is the id the right one, and the file all that was sent? Ask for another: otsnap prove --help")
	}
	result := newProvenResult(path, len(data), proven)
	return a.answer(result, func(w io.Writer) {
		printProven(w, proven)
		for _, r := range result.Rows {
			printProvenRow(w, r, proven.Present)
		}
		fmt.Fprintln(w, meaningOfProof(proven))
	})
}

// readProof reads no more than a proof can have.
func readProof(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, manifest.MaxProof+1))
}

// printProvenRow prints a row, a cell a line.
func printProvenRow(w io.Writer, r provenRow, asked bool) {
	if asked {
		fmt.Fprintln(w, "row:")
	} else {
		fmt.Fprintln(w, "row beside its place:")
	}
	var t console.Table
	t.Row("name", "version", "type", "value")
	for _, c := range append(r.Key, r.Cells...) {
		version := c.Version
		if version == "" {
			version = "key"
		}
		t.Row(console.Quote(c.Name), version, string(c.Type), shown(c))
	}
	t.Print(w)
}

// shown is a value on one line that cannot be taken for another.
func shown(c manifest.ProofCell) string {
	const enough = 256
	value, left := c.Value, ""
	if len(value) > enough {
		value, left = value[:enough], fmt.Sprintf("… (%s; --json prints all)", console.Bytes(int64(len(value))))
	}
	if c.Type == manifest.String {
		return console.Quote(value) + left
	}
	return value + left
}

// meaningOfProof says in a sentence what was shown.
func meaningOfProof(p *snapshot.Proven) string {
	if p.Present {
		return "proved: those who signed state that the table had this row, with these cells, types and versions, at a moment of the window."
	}
	return "proved: those who signed state that the export met no such row in the window, and that the rows are in the order of their keys."
}
