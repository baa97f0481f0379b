package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// notarizeOptions are the flags of notarize.
type notarizeOptions struct {
	archive  archiveFlags
	keys     []string
	snapshot string
	level    string
	dryRun   bool
	workers  int
}

func (a *app) notarizeCommand() *cobra.Command {
	var o notarizeOptions
	cmd := &cobra.Command{
		Use:   "notarize ARCHIVE --key KEY",
		Short: "Read snapshots again, as a notary, and countersign those that are good",
		Long: `Read snapshots again, as a notary, and countersign those in which nothing is wrong.

Whoever owns the exporting machine has its key, and what that signs cannot be told
from a good snapshot. A notary is another machine, with a key and credentials of its
own: it may read everything, and put objects under notarizations/, nothing else (see
dist/aws/notary.json and dist/ram/notary.json). It checks the chain, every signature
and every object as otsnap verify does, and only then signs that it did. It cannot
know whether rows are what they should be, but that what was exported can be read and
is complete, and that it was so before the exporter fell into wrong hands.

The key must be of a notary in the policy: otsnap init --notary FILE takes its public
half, otsnap policy propose --add-key NAME=FILE:notary adds one later. Snapshots of
before may be notarized too. What the notary has notarized as deep already is not
read again, so the command is one for cron; what was finished stays when it is
interrupted. Something wrong with one snapshot does not keep the others from being
notarized, and ends with the exit code of verify.

Readers ask for it by --require notary: otsnap verify, restore, compare and cat then
refuse a snapshot that nobody has notarized.`,
		Example: `  otsnap notarize 's3://BUCKET/shop?region=eu-central-1' --key notary.pem
  otsnap notarize /mnt/backup/shop --key 'awskms:///alias/notary?region=eu-central-1' --snapshot latest
  otsnap notarize /mnt/backup/shop --key notary.pem --dry-run`,
		Args: arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.keys) == 0 {
				return usage(cmd, "--key KEY is missing: the notary's private key")
			}
			return a.notarize(cmd.Context(), args[0], o)
		},
	}
	o.archive.add(cmd)
	cmd.Flags().StringArrayVar(&o.keys, "key", nil, "private `KEY` of a notary: a file, or as in otsnap key --help (repeat for more)")
	a.addPassphraseFlag(cmd)
	addSnapshotFlag(cmd, &o.snapshot, "all that are not notarized yet")
	cmd.Flags().StringVar(&o.level, "level", snapshot.Rows.String(), "how deep to read: hashes or rows")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show which snapshots would be read, and neither read nor write them")
	addWorkersFlag(cmd, &o.workers)
	return cmd
}

func (a *app) notarize(ctx context.Context, location string, o notarizeOptions) error {
	level, err := snapshot.ParseLevel(o.level)
	if err != nil {
		return misused("--level: %w", err)
	}
	signing, err := a.signers(ctx, o.keys, o.archive.giveUpAfter)
	if err != nil {
		return err
	}
	in, err := a.openForWriting(ctx, location, o.archive, "")
	if err != nil {
		return err
	}
	shown := a.reporter()
	defer shown.Close()
	a.resume = "run the same command again: what was notarized stays"
	report, err := snapshot.Notarize{
		Archive: in.Archive, Snapshot: o.snapshot, Level: level, Signers: signing, DryRun: o.dryRun, Workers: o.workers,
		Tool: "otsnap " + version, Build: build().String(), Now: a.now, Progress: shown.Event,
	}.Run(ctx)
	shown.Close()
	var not *snapshot.NotANotaryError
	if errors.As(err, &not) {
		return advise(labelled{err, errKey}, "otsnap policy show %s tells whose keys are which; a notary is added by: otsnap policy propose %s --add-key NAME=KEY:notary --out FILE", quoted(location), quoted(location))
	}
	if report == nil {
		return err
	}
	for i, problem := range report.Problems {
		report.Problems[i] = sentence(problem)
	}
	if err := a.answer(report, func(w io.Writer) { printNotarized(w, report, a.took()) }); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	in.rememberNewest(ctx)
	return nil
}

func printNotarized(w io.Writer, r *snapshot.NotarizeReport, took string) {
	var t console.Table
	t.Row("number", "snapshot", "outcome", "chunks", "rows", "stored", "object")
	count := map[string]int{}
	var read manifest.Totals
	for _, s := range r.Snapshots {
		count[s.State]++
		if s.State == snapshot.NotarizedNow || s.State == snapshot.Due {
			read.Add(s.Totals)
		}
		t.Row(console.Number(s.Seq), s.Snapshot, s.State, console.Number(s.Totals.Chunks), console.Number(s.Totals.Rows),
			console.Bytes(s.Totals.StoredBytes), console.Printable(s.Name))
	}
	if len(r.Snapshots) > 0 {
		t.Print(w)
	}
	if due := count[snapshot.Due]; due > 0 {
		fmt.Fprintf(w, "due: %s\n", console.Count(due, "snapshot"))
	}
	fmt.Fprintf(w, "notarized: %s at level %s, %s before", console.Count(count[snapshot.NotarizedNow], "snapshot"), r.Level, console.Number(count[snapshot.NotarizedBefore]))
	if n := count[snapshot.Refused] + count[snapshot.Unread]; n > 0 {
		fmt.Fprintf(w, "; NOT notarized: %s", console.Number(n))
	}
	fmt.Fprintf(w, "; %s, %s, in %s\n", console.Count(read.Chunks, "chunk"), console.Bytes(read.StoredBytes), took)
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", console.Printable(n))
	}
}
