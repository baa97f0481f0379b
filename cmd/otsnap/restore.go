package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// restoreOptions are the flags of restore.
type restoreOptions struct {
	archive  archiveFlags
	instance instanceFlags
	snapshot string
	tables   []string
	workers  int
	resume   bool
	state    string
}

func (a *app) restoreCommand() *cobra.Command {
	var o restoreOptions
	cmd := &cobra.Command{
		Use:   "restore ARCHIVE INSTANCE",
		Short: "Bring tables back and prove that they are what was signed",
		Long: `Bring tables of a snapshot back into an instance that does not have them.

Every signature and every byte is checked before anything is written. Then the
tables are made, filled, and compared cell by cell with what was signed. Tables
that exist are never touched.

How far a restore has come is kept in a state file on this machine, so that
--resume can go on after a crash. The access key is read as for export; it needs
to create, describe, update, write and read tables.`,
		Example: `  otsnap restore /backup/shop https://shop2.cn-beijing.ots.aliyuncs.com
  otsnap restore /backup/shop https://shop2.cn-beijing.ots.aliyuncs.com --snapshot 17 --table orders
  otsnap restore /backup/shop https://shop2.cn-beijing.ots.aliyuncs.com --resume`,
		Args: arguments([]string{"ARCHIVE", "INSTANCE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.restore(cmd.Context(), args[0], args[1], o)
		},
	}
	o.archive.add(cmd)
	o.instance.add(cmd)
	addSnapshotFlag(cmd, &o.snapshot, "the newest")
	addTableFlag(cmd, &o.tables)
	addWorkersFlag(cmd, &o.workers)
	cmd.Flags().BoolVar(&o.resume, "resume", false, "go on with the restore that was interrupted, if one was")
	cmd.Flags().StringVar(&o.state, "state", "", "state `FILE` (default: one for this snapshot, tables and instance in your configuration)")
	return cmd
}

func (a *app) restore(ctx context.Context, location, address string, o restoreOptions) error {
	shown := a.reporter()
	defer shown.Close()
	to, err := a.openInstance(address, o.instance, o.archive.giveUpAfter)
	if err != nil {
		return err
	}
	from, err := a.openArchive(ctx, location, o.archive)
	if err != nil {
		return err
	}
	entry, err := from.Find(ctx, o.snapshot)
	if errors.Is(err, manifest.ErrInvalid) || errors.Is(err, manifest.ErrUntrusted) || errors.Is(err, snapshot.ErrMissing) {
		return advise(err, "if it cannot be put back from another copy: snapshots before it are restored by their number, as in --snapshot 16")
	}
	if err != nil {
		return err
	}
	tables, err := snapshot.Select(tableNames(entry.Manifest), o.tables)
	if err != nil {
		return err
	}
	head := snapshot.JournalHead{Archive: from.Policy.ID(), Snapshot: entry.Manifest.Snapshot, Instance: to.Instance(), Tables: tables}
	state, err := a.statePath(o.state, head)
	if err != nil {
		return err
	}
	journal, err := openJournal(state, head, o.resume)
	if err != nil {
		return err
	}
	a.resume = "go on with the same command and --resume"
	report, err := snapshot.Restore{
		From: from.Archive, Snapshot: entry.Manifest.Snapshot, Tables: tables, To: to, Check: to,
		Journal: journal, Workers: o.workers, Now: a.now, Progress: shown.Event,
	}.Run(ctx)
	shown.Close()
	told := a.conclude(ctx, from, report, err)
	// Last: who is killed before this can resume, and hears the outcome again.
	if err := endJournal(journal, err); err != nil {
		a.warn("warning: state file: %v", err)
	}
	return told
}

func tableNames(m *manifest.Manifest) []string {
	var names []string
	for _, t := range m.Tables {
		names = append(names, t.Table.Name)
	}
	return names
}

// statePath is the file named, or one that belongs to this restore alone.
func (a *app) statePath(named string, head snapshot.JournalHead) (string, error) {
	if named != "" {
		return named, nil
	}
	folder, err := a.configDir()
	if err != nil {
		return "", err
	}
	which := fmt.Sprint(head.Archive, head.Instance.Endpoint, head.Instance.Name, strings.Join(head.Tables, " "))
	return filepath.Join(folder, "restore-"+localName(head.Snapshot, which+"/"+head.Snapshot)+".state"), nil
}

// openJournal begins a state file, or takes up the one there is if the user asked
// to resume. A restore that was interrupted before it had one is begun anew: the
// tables it would touch must not exist in any case.
func openJournal(path string, head snapshot.JournalHead, resume bool) (*snapshot.Journal, error) {
	_, err := os.Stat(path)
	switch {
	case err == nil && !resume:
		return nil, advise(fmt.Errorf("this restore was begun before and not finished: state file %s: %w", path, fs.ErrExist),
			"go on with --resume; or, to begin anew, remove that file and the tables the restore has made")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("state file: %w", err)
	}
	return snapshot.OpenJournal(path, head)
}

// endJournal removes the state of a restore that is done, or that ended before
// it made a table, and keeps it otherwise.
func endJournal(j *snapshot.Journal, outcome error) error {
	if outcome == nil || j.Empty() {
		return j.Remove()
	}
	return j.Close()
}
