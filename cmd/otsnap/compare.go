package main

import (
	"context"

	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// compareOptions are the flags of compare.
type compareOptions struct {
	archive     archiveFlags
	instance    instanceFlags
	snapshot    string
	tables      []string
	rename      renames
	require     requireFlags
	suppress    []string
	workers     int
	memory      memoryFlag
	receipt     receiptFlags
	differences int
}

func (a *app) compareCommand() *cobra.Command {
	var o compareOptions
	cmd := &cobra.Command{
		Use:   "compare ARCHIVE INSTANCE",
		Short: "Compare live tables with a snapshot, cell by cell",
		Long: `Compare live tables with a snapshot, cell by cell, and name what differs: table,
key, cell. The tables are read in full. Rows written since the snapshot differ.

With --suppress, rows on a list are not expected, as after a restore with the same
list (see: otsnap restore --help); any that is there differs, and is not named.`,
		Example: `  otsnap compare /backup/shop https://shop2.cn-beijing.ots.aliyuncs.com
  otsnap compare /backup/shop https://shop2.cn-beijing.ots.aliyuncs.com --table orders --differences 500
  otsnap compare /backup/shop https://shop2.cn-beijing.ots.aliyuncs.com --suppress erased.jsonl`,
		Args: arguments([]string{"ARCHIVE", "INSTANCE"}, 0),
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
			return a.compare(cmd.Context(), args[0], args[1], o)
		},
	}
	o.archive.add(cmd)
	o.instance.add(cmd)
	addSnapshotFlag(cmd, &o.snapshot, "the newest")
	addTableFlag(cmd, &o.tables)
	addRenameFlag(cmd, &o.rename)
	o.require.add(cmd, forRequired)
	addSuppressFlag(cmd, &o.suppress)
	addWorkersFlag(cmd, &o.workers)
	o.memory.add(cmd)
	o.receipt.add(a, cmd)
	cmd.Flags().IntVar(&o.differences, "differences", 20, "`NUMBER` of differences to name for each table; all are counted")
	return cmd
}

func (a *app) compare(ctx context.Context, location, address string, o compareOptions) error {
	signing, err := a.signers(ctx, o.receipt.keys, o.archive.giveUpAfter)
	if err != nil {
		return err
	}
	shown := a.reporter()
	defer shown.Close()
	with, err := a.openInstance(address, o.instance, o.archive.giveUpAfter)
	if err != nil {
		return err
	}
	from, err := a.openArchive(ctx, location, o.archive)
	if err != nil {
		return err
	}
	receipt, err := a.newReceipt(ctx, "compare", from, o.receipt, signing)
	if err != nil {
		return err
	}
	defer receipt.discard()
	run := snapshot.Compare{
		Archive: from.Archive, Snapshot: o.snapshot, Tables: o.tables, Rename: o.rename, Require: o.require.all(), With: with,
		Workers: o.workers, Memory: o.memory.granted, Limit: o.differences, Now: a.now, Progress: shown.Event,
	}
	if len(o.suppress) > 0 {
		entry, err := from.Find(ctx, o.snapshot)
		if err != nil {
			return err
		}
		run.Snapshot = entry.Manifest.Snapshot
		if run.Suppress, err = a.suppression(entry, o.suppress); err != nil {
			return err
		}
	}
	report, err := run.Run(ctx)
	shown.Close()
	if report != nil {
		report.Pace = with.Paced()
	}
	return a.conclude(ctx, from, report, receipt.keep(ctx, report, err))
}
