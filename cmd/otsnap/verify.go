package main

import (
	"context"
	"errors"
	"io"

	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// verifyOptions are the flags of verify.
type verifyOptions struct {
	archive  archiveFlags
	snapshot string
	tables   []string
	level    string
	require  requireFlags
	workers  int
	memory   memoryFlag

	retention bool
	receipt   receiptFlags
}

func (a *app) verifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify ARCHIVE",
		Short: "Check an archive against its signatures",
		Long: `Check an archive against its signatures. Every level checks the chain of
manifests, all signatures, plans and pages, and that the archive still holds what
the trust file has seen. In addition,
  --level objects  every object is there and has the signed size,
  --level hashes   every byte of it is what was signed,
  --level rows     every row is rebuilt from Parquet and has the signed digest.
Where the store keeps a SHA-256 it has checked, level objects compares that too.

Who has notarized the snapshots is told. With --require notary one that nobody has is
a problem (exit code 10); see otsnap notarize --help.

With --retention the lock of every object, as the store tells, is compared with
the signed one, and what was laid over an object, a newer version or a delete
marker, is a finding: the exit code is 17. Without it such things are notes. That
covers what was said about snapshots later: notarizations, time stamps, receipts.

With --tsa-ca time stamps (otsnap timestamp) are checked, and for each snapshot the
earliest time is told at which it was there, by a time stamp over it or over a later
one. A time stamp that is no good is a note: anybody may have put it. With --require
timestamp a snapshot without a proven time is a problem (exit code 10).

With --receipt and --record the run leaves a signed receipt of what it covered and
found, also if it found problems; see otsnap receipts --help.`,
		Example: `  otsnap verify /backup/shop
  otsnap verify /backup/shop --level rows --snapshot latest
  otsnap verify /backup/shop --snapshot latest --require notary
  otsnap verify 's3://BUCKET/shop?region=eu-central-1' --retention
  otsnap verify /backup/shop --tsa-ca tsa-ca.pem
  otsnap verify /mnt/copy --archive-id 6b56…4577 --json > report.json
  otsnap verify /backup/shop --level rows --receipt audit.json --receipt-key auditor.pem --record`,
		Args: arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.receipt.check(cmd); err != nil {
				return err
			}
			if err := o.require.ready(cmd); err != nil {
				return err
			}
			if err := o.memory.limit(cmd, o.workers, snapshot.MinMemory); err != nil {
				return err
			}
			return a.verify(cmd.Context(), args[0], o)
		},
	}
	o.archive.add(cmd)
	addSnapshotFlag(cmd, &o.snapshot, "all of them")
	addTableFlag(cmd, &o.tables)
	addWorkersFlag(cmd, &o.workers)
	o.memory.add(cmd)
	o.require.add(cmd, "time stamps have to lead to; they are checked then")
	cmd.Flags().StringVar(&o.level, "level", snapshot.Hashes.String(), "how deep: objects, hashes or rows")
	o.receipt.add(a, cmd)
	cmd.Flags().BoolVar(&o.retention, "retention", false, "compare the locks of all objects with the signed ones")
	return cmd
}

func addSnapshotFlag(cmd *cobra.Command, which *string, fallback string) {
	cmd.Flags().StringVar(which, "snapshot", "", "snapshot `ID`, the start of one, its number, or latest (default: "+fallback+")")
}

func (a *app) verify(ctx context.Context, location string, o verifyOptions) error {
	level, err := snapshot.ParseLevel(o.level)
	if err != nil {
		return misused("--level: %w", err)
	}
	signing, err := a.signers(ctx, o.receipt.keys, o.archive.giveUpAfter)
	if err != nil {
		return err
	}
	from, err := a.openArchive(ctx, location, o.archive)
	if err != nil {
		return err
	}
	receipt, err := a.newReceipt(ctx, "verify", from, o.receipt, signing)
	if err != nil {
		return err
	}
	defer receipt.discard()
	shown := a.reporter()
	defer shown.Close()
	report, err := snapshot.Verify{
		Archive: from.Archive, Snapshot: o.snapshot, Tables: o.tables, Level: level, Retention: o.retention, Require: o.require.all(),
		Stamps: stampCheck(o.require.roots), Workers: o.workers, Memory: o.memory.granted, Now: a.now, Progress: shown.Event,
	}.Run(ctx)
	shown.Close()
	return a.conclude(ctx, from, report, receipt.keep(ctx, report, err))
}

// conclude prints the report of a run, also of one that found something, and
// brings the trust file up to date after one that did not.
func (a *app) conclude(ctx context.Context, archive *opened, report *snapshot.Report, err error) error {
	if report != nil {
		for i, problem := range report.Problems {
			report.Problems[i] = sentence(problem)
		}
		if len(report.Anchors) == 0 {
			report.Notes = append(report.Notes, "this machine had seen no snapshot of the archive before, and no anchor was given, so it cannot tell whether newer ones are hidden; compare number and manifest with what was noted at the export, as by --expect-seq and --expect-sha256")
		}
		if err := a.answer(report, func(w io.Writer) { printReport(w, report, a.took()) }); err != nil {
			return err
		}
	}
	// Who can spoil a receipt is not to keep this machine from remembering what it saw.
	var only unreceipted
	if err == nil || errors.As(err, &only) {
		archive.rememberNewest(ctx)
	}
	return archive.explainRequired(ctx, err)
}
