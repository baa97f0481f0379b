package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// copyOptions are the flags of copy.
type copyOptions struct {
	archive   archiveFlags
	snapshots []string
	workers   int
	lock      lockFlags
	readBack  string
}

func (a *app) copyCommand() *cobra.Command {
	var o copyOptions
	cmd := &cobra.Command{
		Use:   "copy ARCHIVE TARGET",
		Short: "Copy an archive, or some of its snapshots, to another place",
		Long: `Copy an archive, or some of its snapshots, to another place: another bucket,
another cloud, a directory.

The copy is the same archive, object for object: it has the same id, is checked
with the same keys, and can be verified and restored from like the original.
Every object is checked against what was signed before it is written. Nothing in
the target is overwritten; what is there already is compared. A snapshot appears
in the copy once all of it is there, so an interrupted copy is never wrong: run
the same command again to go on, or later to bring a copy up to date. With
--snapshot that reads those snapshots alone, and the copy says which it lacks.

Objects are locked in the copy as their snapshot was signed to be, as far as the
target can; --retain and --lock ask for more. The target gets a trust file of its
own on this machine. Not copied are unfinished exports, objects no snapshot names,
and the report of what the original's storage can do.`,
		Example: `  otsnap copy /backup/shop /mnt/offsite/shop
  otsnap copy 'oss://BUCKET/shop?region=cn-hangzhou' 's3://BUCKET/shop?region=eu-central-1'
  otsnap copy /backup/shop 's3://BUCKET/shop?region=eu-central-1' --snapshot latest --retain 7y --lock compliance`,
		Args: arguments([]string{"ARCHIVE", "TARGET"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.lock.check(cmd); err != nil {
				return err
			}
			return a.copy(cmd.Context(), args[0], args[1], o)
		},
	}
	o.archive.add(cmd)
	cmd.Flags().StringArrayVar(&o.snapshots, "snapshot", nil, "snapshot `ID`, the start of one, its number, or latest (repeat for more; default: all of them)")
	addWorkersFlag(cmd, &o.workers)
	o.lock.add(cmd, "lock everything in the copy for at least this `PERIOD` from now on (default: as was signed)")
	addReadBackFlag(cmd, &o.readBack)
	return cmd
}

// copyResult is what copy tells.
type copyResult struct {
	*snapshot.CopyReport
	From  string `json:"from"`
	To    string `json:"to"`
	Trust string `json:"trust_file"`
}

func (a *app) copy(ctx context.Context, location, target string, o copyOptions) error {
	where, err := locate(target)
	if err != nil {
		return err
	}
	from, err := a.openArchive(ctx, location, o.archive)
	if err != nil {
		return err
	}
	if where.is(from.place) {
		return misused("archive and target are the same place, %s", where.name)
	}
	file, seen, err := a.seenIn(where, from)
	if err != nil {
		return err
	}
	to, err := where.create(ctx, storeOptions{giveUpAfter: o.archive.giveUpAfter.Duration, readBack: o.readBack, onRetry: a.retried})
	if err != nil {
		return err
	}
	run := snapshot.Copy{
		From: from.Archive, To: to, Snapshots: o.snapshots, Workers: o.workers, Seen: seen, Now: a.now,
	}
	if !o.lock.retain.IsZero() {
		run.Lock = archive.Lock{Mode: o.lock.mode.Mode, Until: o.lock.retain.After(a.now())}
	}
	a.resume = "go on with the same command: what was copied stays, and is compared"
	shown := a.reporter()
	defer shown.Close()
	run.Progress = shown.Event
	report, err := run.Run(ctx)
	shown.Close()
	if report == nil {
		return o.explain(fmt.Errorf("%s to %s: %w", from.place.name, where.name, err), location, where)
	}
	if err == nil || report.Seq > 0 {
		a.trustCopy(file, seen, report)
	}
	if report.Copied.Objects == 0 && where.path == from.place.path {
		a.warn("warning: nothing was copied, and both addresses end in %s: are they two names of one place? Then this is no copy", where.path)
	}
	for i, problem := range report.Problems {
		report.Problems[i] = sentence(problem)
	}
	result := copyResult{report, from.place.name, where.name, file.path}
	if err := a.answer(result, func(w io.Writer) { result.print(w, a.took()) }); err != nil {
		return err
	}
	if err != nil {
		return o.explain(err, location, where)
	}
	from.rememberNewest(ctx)
	return nil
}

// seenIn returns the trust file of the target, and what it says: nothing yet where
// there is none.
func (a *app) seenIn(where place, from *opened) (trustFile, manifest.Trust, error) {
	file, err := a.trustFile(where, "")
	if err != nil {
		return trustFile{}, manifest.Trust{}, err
	}
	seen, err := file.load(from.Policy.ID().String())
	if errors.Is(err, manifest.ErrUntrusted) {
		err = advise(fmt.Errorf("target %s: %w", where.name, err), "choose another place; or, if that archive is there no more, move its trust file away")
	}
	return file, seen, err
}

// trustCopy notes in the target's trust file what the copy holds.
func (a *app) trustCopy(file trustFile, seen manifest.Trust, r *snapshot.CopyReport) {
	if r.Seq < seen.Seq {
		a.warn("warning: the trust file %s has seen snapshot %d and the copy ends with number %d: it will be refused as cut short; give it a trust file of its own",
			file.path, seen.Seq, r.Seq)
		return
	}
	if err := file.advance(manifest.Trust{Archive: r.Archive, Seq: r.Seq, Head: r.Digest}); err != nil {
		a.warn("warning: the trust file of the copy was not written; give the archive's id once, with --archive-id %s: %v", r.Archive, err)
	}
}

// explain says what to do about an error of a copy.
func (o copyOptions) explain(err error, location string, to place) error {
	switch {
	case errors.Is(err, fs.ErrExist):
		return advise(err, "nothing was written; choose a place with nothing in it, or where a copy of this archive is")
	case errors.Is(err, errors.ErrUnsupported):
		return advise(err, "%s", initOptions{lock: o.lock}.instead(to.kind))
	case errors.Is(err, archive.ErrFrozen) && judge(context.Background(), err).exit == exitFrozen:
		return advise(err, "ask for them, and copy again when they are there: otsnap thaw %s --snapshot all", quoted(location))
	}
	return err
}

func (r copyResult) print(w io.Writer, took string) {
	var t console.Table
	t.Row("number", "snapshot", "in the copy", "copied", "size", "there before", "size")
	for _, s := range r.Snapshots {
		t.Row(console.Number(s.Seq), s.Snapshot, s.State, console.Number(s.Copied.Objects), console.Bytes(s.Copied.Bytes),
			console.Number(s.Present.Objects), console.Bytes(s.Present.Bytes))
	}
	if len(r.Snapshots) > 0 {
		t.Print(w)
	}
	verb := "copied"
	if len(r.Problems) > 0 {
		verb = "NOT all copied: " + console.Count(len(r.Problems), "problem")
	}
	fmt.Fprintf(w, "%s: %s, %s; there before: %s, %s; in %s\n", verb, console.Count(r.Copied.Objects, "object"), console.Bytes(r.Copied.Bytes),
		console.Count(r.Present.Objects, "object"), console.Bytes(r.Present.Bytes), took)
	if r.Relocked > 0 {
		fmt.Fprintf(w, "locked longer or more firmly than before: %s\n", console.Count(r.Relocked, "object"))
	}
	fmt.Fprintf(w, "copy: archive %s in %s\n", r.Archive, console.Quote(r.To))
	if r.Seq > 0 {
		fmt.Fprintf(w, "it ends with snapshot number %d, manifest sha256:%s\n", r.Seq, r.Digest)
	}
	if len(r.Lacking())+len(r.Problems) == 0 {
		fmt.Fprintln(w, r.proof())
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", console.Printable(n))
	}
}

// proof says in a sentence what a copy without a gap has shown.
func (r copyResult) proof() string {
	const whole = "proved: the copy has every snapshot of the source; "
	switch {
	case slices.ContainsFunc(r.Snapshots, func(s snapshot.CopiedSnapshot) bool { return !s.Chosen }):
		return whole + "every object of those chosen has the bytes that were signed, every other the size."
	case r.Unconfirmed > 0:
		return whole + "every object in it that can be read has the bytes that were signed."
	}
	return whole + "every object in it has the bytes that were signed."
}
