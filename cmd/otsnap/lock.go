package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/page"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

func (a *app) lockCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lock",
		Short: "Show, extend and hold what keeps an archive from being changed or removed",
		Args:  knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, "say what to do: show, extend, hold or bucket")
		},
	}
	cmd.AddCommand(a.lockShowCommand(), a.lockExtendCommand(), a.lockHoldCommand(), a.bucketLockCommand())
	return cmd
}

// lockOptions are the flags of show, extend and hold.
type lockOptions struct {
	archive  archiveFlags
	snapshot string
	lock     lockFlags
	until    string
	off      bool
}

func (o *lockOptions) add(cmd *cobra.Command) {
	o.archive.add(cmd)
	addSnapshotFlag(cmd, &o.snapshot, "all of them")
}

func (a *app) lockShowCommand() *cobra.Command {
	var o lockOptions
	cmd := &cobra.Command{
		Use:   "show ARCHIVE",
		Short: "Show how snapshots are locked, and how they were signed to be",
		Long: `Show how the objects of each snapshot are locked, as the store tells, and how they
were signed to be. For a verdict with an exit code: otsnap verify --retention.`,
		Example: `  otsnap lock show 's3://BUCKET/shop?region=eu-central-1'
  otsnap lock show 's3://BUCKET/shop?region=eu-central-1' --snapshot latest --json`,
		Args: arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.locks(cmd.Context(), args[0], o, snapshot.Retention.Show)
		},
	}
	o.add(cmd)
	return cmd
}

func (a *app) lockExtendCommand() *cobra.Command {
	var o lockOptions
	cmd := &cobra.Command{
		Use:   "extend ARCHIVE --until DATE|--retain PERIOD --lock MODE",
		Short: "Lock snapshots longer, or more firmly",
		Long: `Lock snapshots longer, or more firmly: their own objects, and all they need to be
read, which are the archive's own and every manifest before theirs, and what was said
about them later: notarizations, time stamps, receipts. A lock is never made shorter
or weaker. What an interrupted run has done is not done again. Nobody
can undo a compliance lock.

The signed manifests keep what was asked at the export. In OSS the bucket is locked
as a whole: otsnap lock bucket.`,
		Example: `  otsnap lock extend 's3://BUCKET/shop?region=eu-central-1' --until 2036-12-31 --lock compliance
  otsnap lock extend 's3://BUCKET/shop?region=eu-central-1' --snapshot 17 --retain 1y --lock governance`,
		Args: arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			until, err := o.end(cmd, a.now())
			if err != nil {
				return err
			}
			return a.locks(cmd.Context(), args[0], o, func(r snapshot.Retention, ctx context.Context) (*snapshot.LockReport, error) {
				return r.Extend(ctx, o.lock.mode.Mode, until)
			})
		},
	}
	o.add(cmd)
	o.lock.add(cmd, "lock for this `PERIOD` from now on")
	cmd.Flags().StringVar(&o.until, "until", "", "lock up to this `DATE`, as in 2036-12-31 (its end, UTC) or 2036-12-31T12:00:00Z")
	return cmd
}

// end is when the lock asked for ends.
func (o lockOptions) end(cmd *cobra.Command, now time.Time) (time.Time, error) {
	if o.until == "" && o.lock.retain.IsZero() {
		return time.Time{}, usage(cmd, "until when? Say --until DATE or --retain PERIOD")
	}
	if o.until != "" && !o.lock.retain.IsZero() {
		return time.Time{}, usage(cmd, "--until and --retain both say when it ends: give one")
	}
	if o.lock.mode.Mode == archive.Unlocked {
		return time.Time{}, usage(cmd, "how firmly? Say --lock governance or --lock compliance; nobody can undo the latter")
	}
	if o.until == "" {
		return o.lock.retain.After(now), nil
	}
	until, err := time.Parse(time.RFC3339, o.until)
	if day, dayErr := time.Parse(time.DateOnly, o.until); dayErr == nil {
		until, err = day.AddDate(0, 0, 1).Add(-time.Second), nil
	}
	switch {
	case err != nil:
		return time.Time{}, usage(cmd, "--until %q is no date like 2036-12-31", o.until)
	case !until.After(now):
		return time.Time{}, usage(cmd, "--until %s is not in the future", o.until)
	case until.After(now.AddDate(100, 0, 0)):
		return time.Time{}, usage(cmd, "--until %s: at most 100 years from now", o.until)
	}
	return until, nil
}

func (a *app) lockHoldCommand() *cobra.Command {
	var o lockOptions
	cmd := &cobra.Command{
		Use:   "hold ARCHIVE",
		Short: "Put a legal hold on snapshots, or take it off",
		Long: `Put a legal hold on snapshots, all they need to be read and what was said about
them later, or take it off with --off. A hold keeps objects beyond the date of their
lock, for as long as it is on.`,
		Example: `  otsnap lock hold 's3://BUCKET/shop?region=eu-central-1' --snapshot 17
  otsnap lock hold 's3://BUCKET/shop?region=eu-central-1' --snapshot 17 --off`,
		Args: arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.locks(cmd.Context(), args[0], o, func(r snapshot.Retention, ctx context.Context) (*snapshot.LockReport, error) {
				return r.Hold(ctx, !o.off)
			})
		},
	}
	o.add(cmd)
	cmd.Flags().BoolVar(&o.off, "off", false, "take the hold off")
	return cmd
}

// locks opens an archive and does something about its locks.
func (a *app) locks(ctx context.Context, location string, o lockOptions, run func(snapshot.Retention, context.Context) (*snapshot.LockReport, error)) error {
	of, err := a.openArchive(ctx, location, o.archive)
	if err != nil {
		return err
	}
	a.resume = "go on with the same command: what is locked already stays so"
	shown := a.reporter()
	defer shown.Close()
	report, err := run(snapshot.Retention{Archive: of.Archive, Snapshot: o.snapshot, Now: a.now, Progress: shown.Event}, ctx)
	shown.Close()
	if err != nil {
		return fmt.Errorf("%s: %w", of.place.name, err)
	}
	if err := a.answer(report, func(w io.Writer) { printLocks(w, report) }); err != nil {
		return err
	}
	of.rememberNewest(ctx)
	return nil
}

func printLocks(w io.Writer, r *snapshot.LockReport) {
	var t console.Table
	t.Row("number", "snapshot", "signed", "objects", "compliance", "governance", "not locked", "held", "first lock ends")
	n := console.Number[int64]
	for _, s := range r.Snapshots {
		t.Row(n(s.Seq), s.Snapshot, page.Retention(s.Signed), n(s.Objects), n(s.Compliance), n(s.Governance), n(s.Unlocked), n(s.Held), dash(s.Earliest))
	}
	for _, other := range []struct {
		what string
		snapshot.Locks
	}{{"needed by them", r.Needed}, {"said of them later", r.Said}} {
		if x := other.Locks; x.Objects > 0 {
			t.Row("", other.what, "", n(x.Objects), n(x.Compliance), n(x.Governance), n(x.Unlocked), n(x.Held), dash(x.Earliest))
		}
	}
	t.Print(w)
	switch r.Kind {
	case "extend":
		fmt.Fprintf(w, "locked longer or more firmly: %s\n", console.Count(r.Changed, "object"))
	case "hold":
		fmt.Fprintf(w, "held now, and not before: %s\n", console.Count(r.Changed, "object"))
	case "release":
		fmt.Fprintf(w, "not held any more: %s\n", console.Count(r.Changed, "object"))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", console.Printable(note))
	}
}

func dash(t *manifest.Time) string {
	if t == nil {
		return "-"
	}
	return t.String()
}
