package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// restoreOptions are the flags of restore.
type restoreOptions struct {
	archive   archiveFlags
	instance  instanceFlags
	snapshot  string
	tables    []string
	require   requireFlags
	rename    renames
	keys      keyFlags
	where     string
	columns   []string
	suppress  []string
	mode      string
	extra     bool
	over      []string
	increment string
	receipt   receiptFlags
	encrypt   encryptionKeys
	role      string
	noIndexes bool
	dryRun    bool
	newest    bool
	plan      string
	digest    digest
	workers   int
	memory    memoryFlag
	resume    bool
	state     string
}

func (a *app) restoreCommand() *cobra.Command {
	var o restoreOptions
	cmd := &cobra.Command{
		Use:   "restore ARCHIVE INSTANCE",
		Short: "Bring tables back and prove that they are what was signed",
		Long: `Bring tables of a snapshot back into an instance, in any region.

Every signature and every byte is checked before anything is written. Then the
tables are made, filled, and compared cell by cell with what was signed. After
that they get their options, their streams and their indexes. Tables that exist
are not touched, unless --mode says so:
  create     tables must not exist (the default)
  empty      tables that exist must have no rows
  insert     rows that exist are left as they are
  overwrite  rows are written whole over those that exist
  repair     tables are compared first, and only rows that differ are written
Tables that do not exist are made in every mode; those that do keep their own
options and indexes.

--dry-run shows what would be done and changes nothing; --plan writes that to a
file, and --plan-sha256 carries out a plan with that digest and no other.

Parts of tables are chosen by --where and by --columns, and of one table, named
by --table, by its keys; how these are written otsnap cat --help tells.

--suppress names a list of rows that must not come back, as of people who had
the right to be erased after the snapshot was taken. It is lines of JSON:
  {"table":"orders","key":["US",7]}     one row, by all values of its key
  {"table":"orders","prefix":["US"]}    all rows whose keys begin so
TABLE is the name in the snapshot, before --rename. An INTEGER is written in
digits, a STRING in double quotes, a BINARY as "hex:00ff" or "base64:AP8=". Of a
timeseries table a prefix that names series leaves out their points and the series
themselves. Rows on a list are not written, and counted; in a table that is made or
was empty none may be found. Tables that had rows keep those on a list, unless
--mode repair --delete-extra removes them; they are counted. What is told and
kept of a list is its SHA-256 and numbers, never a key. The archive stays as it
was signed: cat and others still show the rows; keep the list as long as it.

How far a restore has come is kept in a state file on this machine, or in the
archive, so that --resume can go on after a crash. The access key is read as for
export; it needs to create, describe, update, write and read tables.`,
		Example: `  otsnap restore /backup/shop https://shop2.cn-beijing.ots.aliyuncs.com
  otsnap restore /backup/shop https://shop2.cn-beijing.ots.aliyuncs.com --dry-run
  otsnap restore /backup/shop https://shop2.cn-beijing.ots.aliyuncs.com --snapshot 17 --table orders
  otsnap restore /backup/shop https://shop.cn-hangzhou.ots.aliyuncs.com --table orders --rename orders=orders_17
  otsnap restore /backup/shop https://shop.cn-hangzhou.ots.aliyuncs.com --table orders --key US,7 \
      --mode insert --allow-source orders
  otsnap restore /backup/shop https://shop2.cn-beijing.ots.aliyuncs.com --suppress erased.jsonl
  otsnap restore /backup/shop https://shop2.cn-beijing.ots.aliyuncs.com --resume`,
		Args: arguments([]string{"ARCHIVE", "INSTANCE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			if err := o.memory.limit(cmd, o.workers, snapshot.MinMemory); err != nil {
				return err
			}
			return a.restore(cmd.Context(), args[0], args[1], o)
		},
	}
	o.archive.add(cmd)
	o.instance.add(cmd)
	addSnapshotFlag(cmd, &o.snapshot, "the newest")
	addTableFlag(cmd, &o.tables)
	addRenameFlag(cmd, &o.rename)
	o.require.add(cmd, forRequired)
	o.keys.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.where, "where", "", "only rows of which this `CONDITION` is true; see: otsnap cat --help")
	f.StringSliceVar(&o.columns, "columns", nil, "only cells with these `NAMES` or globs; rows without any are restored too")
	addSuppressFlag(cmd, &o.suppress)
	f.StringVar(&o.mode, "mode", string(snapshot.CreateTables), "what to do with tables that exist: create, empty, insert, overwrite or repair")
	f.BoolVar(&o.extra, "delete-extra", false, "with --mode repair: remove rows that were not signed")
	f.StringSliceVar(&o.over, "allow-source", nil, "write over this `TABLE` though the snapshot was taken of it")
	f.StringVar(&o.increment, "auto-increment", "keep", "AUTO_INCREMENT columns: keep their values, as plain INTEGER; or regenerate them, with --receipt, beside which goes a file of the new keys")
	o.receipt.add(a, cmd)
	f.Var(&o.encrypt, "sse-key", "encrypt with the key `[OLD=]NEW`, which is of the target's region, what was encrypted (with OLD); with --sse-role (default: the service's own key)")
	f.StringVar(&o.role, "sse-role", "", "`ARN` of the role by which the service uses that key")
	f.BoolVar(&o.noIndexes, "no-indexes", false, "make no secondary and no search indexes")
	f.Var(&o.instance.ready, "ready-within", "how long to wait for each index to be filled; the service goes on by itself, and so can --resume (default 1h)")
	f.BoolVar(&o.newest, "accept-unanchored-latest", false, "restore the newest snapshot there is though nothing says that there was no newer one")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be done, and change nothing")
	f.StringVar(&o.plan, "plan", "", "new `FILE` for what would be done; nothing is changed")
	f.Var(&o.digest, "plan-sha256", "restore only if this is the SHA-256 of what will be done, as of a --plan file")
	f.BoolVar(&o.resume, "resume", false, "go on with the restore that was interrupted, if one was")
	f.StringVar(&o.state, "state", "", "state `FILE`, or the address of an archive to keep it in (default: a file for this snapshot, tables and instance in your configuration)")
	addWorkersFlag(cmd, &o.workers)
	o.memory.add(cmd)
	return cmd
}

// check refuses flags that no restore could follow.
func (o *restoreOptions) check(cmd *cobra.Command) error {
	changed := cmd.Flags().Changed
	switch {
	case o.increment != "keep" && o.increment != "regenerate":
		return usage(cmd, "--auto-increment %s: there are keep and regenerate", o.increment)
	case o.increment == "regenerate" && o.receipt.file == "" && !o.planning():
		return usage(cmd, "--auto-increment regenerate: give --receipt FILE and --receipt-key, for the new keys to be told of")
	case o.planning() && (o.resume || changed("plan-sha256") || len(o.receipt.keys) > 0):
		return usage(cmd, "--dry-run and --plan change nothing: they do not go with --resume, --plan-sha256 and --receipt")
	case len(o.encrypt) > 0 && o.role == "":
		return usage(cmd, "--sse-key: give --sse-role too, the role by which the service uses the key")
	}
	for _, glob := range o.columns {
		if _, err := filepath.Match(glob, ""); err != nil || glob == "" {
			return usage(cmd, "--columns %q is no pattern", glob)
		}
	}
	if err := o.receipt.check(cmd); err != nil {
		return err
	}
	if err := o.require.ready(cmd); err != nil {
		return err
	}
	return o.keys.check(cmd)
}

func (o *restoreOptions) planning() bool { return o.dryRun || o.plan != "" }

func (a *app) restore(ctx context.Context, location, address string, o restoreOptions) error {
	signing, err := a.signers(ctx, o.receipt.keys, o.archive.giveUpAfter)
	if err != nil {
		return err
	}
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
	run, head, err := o.run(ctx, from)
	if err != nil {
		return err
	}
	head.Instance = to.Instance()
	run.To, run.Check, run.Now, run.Progress = to, to, a.now, shown.Event
	run.Estimate = o.instance.pace.pace().Estimate
	if o.planning() {
		plan, err := run.Plan(ctx)
		shown.Close()
		if err != nil {
			return err
		}
		return a.showPlan(plan, o.plan)
	}
	run.Journal, err = a.openJournal(ctx, o, head)
	if err != nil {
		return err
	}
	receipt, err := a.newReceipt(ctx, "restore", from, o.receipt, signing)
	if err == nil && run.Generate {
		err = receipt.choosesKeys(o.receipt.file)
	}
	if err != nil {
		receipt.discard()
		return errors.Join(err, endJournal(ctx, run.Journal, err))
	}
	defer receipt.discard()
	if run.Generate {
		run.KeyMap = receipt.keyMap
	}
	a.resume = "go on with the same command and --resume"
	report, err := run.Run(ctx)
	shown.Close()
	if report != nil {
		report.Pace = to.Paced()
	}
	err = receipt.keep(ctx, report, err)
	told := a.conclude(ctx, from, report, o.explain(err, run.Journal))
	// Last: who is killed before this can resume, and hears the outcome again.
	if err := endJournal(ctx, run.Journal, err); err != nil {
		a.warn("warning: state of the restore: %v", err)
	}
	return told
}

// run returns the restore that was asked for, and what its state is known by.
func (o *restoreOptions) run(ctx context.Context, from *opened) (snapshot.Restore, snapshot.JournalHead, error) {
	var head snapshot.JournalHead
	entry, err := from.Find(ctx, o.snapshot)
	if errors.Is(err, manifest.ErrInvalid) || errors.Is(err, manifest.ErrUntrusted) || errors.Is(err, snapshot.ErrMissing) {
		err = advise(err, "if it cannot be put back from another copy: snapshots before it are restored by their number, as in --snapshot 16")
	}
	if err == nil {
		err = o.require.check(ctx, from, entry)
	}
	if err != nil {
		if !o.resume { // else there was a run before
			err = fmt.Errorf("nothing was written: %w", err)
		}
		return snapshot.Restore{}, head, err
	}
	if err := from.unanchored(o.snapshot, entry); err != nil && !o.newest {
		if !o.planning() {
			return snapshot.Restore{}, head, err
		}
		from.app.warn("warning: a restore would end here: %v", err)
	}
	tables, err := snapshot.Select(tableNames(entry.Manifest), o.tables)
	if err != nil {
		return snapshot.Restore{}, head, err
	}
	rows, err := o.selection(entry, tables)
	if err != nil {
		return snapshot.Restore{}, head, err
	}
	suppress, err := from.app.suppression(entry, o.suppress)
	if err != nil {
		return snapshot.Restore{}, head, err
	}
	r := snapshot.Restore{
		From: from.Archive, Snapshot: entry.Manifest.Snapshot, Tables: tables, Rename: o.rename, Rows: rows, Suppress: suppress,
		Mode: snapshot.RestoreMode(o.mode), DeleteExtra: o.extra, AllowSource: o.over,
		Generate: o.increment == "regenerate", Encryption: o.encrypt.by(o.role), WithoutIndexes: o.noIndexes,
		Require: o.require.all(), PlanDigest: o.digest.Hash, Workers: o.workers, Memory: o.memory.granted,
	}
	head = snapshot.JournalHead{Archive: from.Policy.ID(), Snapshot: entry.Manifest.Snapshot, Tables: tables, Targets: r.Targets(tables)}
	return r, head, nil
}

// selection returns the rows and cells that were asked for.
func (o *restoreOptions) selection(entry snapshot.Entry, tables []string) (archive.Selection, error) {
	s := archive.Selection{Columns: o.columns}
	var err error
	if o.where != "" {
		if s.Where, err = row.ParseFilter(o.where); err != nil {
			return s, advise(misused("--where: %w", err), "see: otsnap cat --help")
		}
	}
	if o.keys == (keyFlags{}) {
		return s, nil
	}
	if len(tables) > 1 {
		return s, misused("keys choose rows of one table; name it: --table TABLE")
	}
	table, err := snapshot.FindTable(entry, tables[0])
	if err == nil {
		s.Within, err = o.keys.within(table.Table.Key)
	}
	return s, err
}

// explain says what to do about an error of a restore.
func (o *restoreOptions) explain(err error, journal *snapshot.Journal) error {
	switch {
	case errors.Is(err, snapshot.ErrUnavailable) && !journal.Empty():
		return advise(err, "this is no verdict on the data: when the instance can do it, go on with the same command and --resume")
	case errors.Is(err, fs.ErrExist) && o.mode == string(snapshot.CreateTables):
		return advise(err, "restore under another name, as in --rename 'orders=orders_restored' or --rename '*=*_restored', into another instance, or see --mode")
	case errors.Is(err, snapshot.ErrPlan):
		return advise(err, "look at it again with --plan FILE, and give its digest")
	}
	return err
}

func tableNames(m *manifest.Manifest) []string {
	var names []string
	for _, t := range m.Tables {
		names = append(names, t.Table.Name)
	}
	return names
}

// openJournal begins the state of a restore, or takes up the one there is if the
// user asked to resume. A restore that was interrupted before it had one is begun
// anew.
func (a *app) openJournal(ctx context.Context, o restoreOptions, head snapshot.JournalHead) (*snapshot.Journal, error) {
	journal, where, err := a.journal(ctx, o, head)
	if err != nil {
		return nil, err
	}
	if journal.Resumed() && !o.resume {
		err := advise(fmt.Errorf("this restore was begun before and not finished: its state is in %s: %w", where, fs.ErrExist),
			"go on with --resume; or, to begin anew, remove that state%s", made(journal))
		return nil, errors.Join(err, journal.Close(ctx))
	}
	return journal, nil
}

// made names the tables that have to go for a restore to begin anew.
func made(j *snapshot.Journal) string {
	if tables := j.Made(); len(tables) > 0 {
		return ", and of the tables in the instance these, which the restore has made: " + strings.Join(tables, ", ")
	}
	return "; the restore has made no table"
}

func (a *app) journal(ctx context.Context, o restoreOptions, head snapshot.JournalHead) (*snapshot.Journal, string, error) {
	if strings.Contains(o.state, "://") {
		where, err := locate(o.state)
		if err != nil {
			return nil, "", err
		}
		store, err := where.open(ctx, storeOptions{giveUpAfter: o.archive.giveUpAfter.Duration, onRetry: a.retried})
		if err != nil {
			return nil, "", err
		}
		journal, err := snapshot.OpenArchiveJournal(ctx, store, head)
		return journal, where.name, err
	}
	path, err := a.statePath(o.state, head)
	if err != nil {
		return nil, "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, "", fmt.Errorf("state file: %w", err)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, "", misused("--state %s: it is no file; an archive is named by its address, as in dir:///backup/shop", path)
	}
	journal, err := snapshot.OpenJournal(path, head)
	return journal, path, err
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
	which := fmt.Sprint(head.Archive, head.Instance.Endpoint, head.Instance.Name, strings.Join(slices.Concat(head.Tables, head.Targets), " "))
	return filepath.Join(folder, "restore-"+localName(head.Snapshot, which+"/"+head.Snapshot)+".state"), nil
}

// endJournal ends the state of a restore that is done, or that ended before it
// changed a table, and keeps it otherwise: also of one that was interrupted.
func endJournal(ctx context.Context, j *snapshot.Journal, outcome error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if outcome == nil || j.Empty() {
		return j.End(ctx)
	}
	return j.Close(ctx)
}

// renames is a flag for names in the target.
type renames []snapshot.Rename

func (r *renames) String() string { return "" }

func (r *renames) Set(text string) error {
	parsed, err := snapshot.ParseRename(text)
	if err == nil {
		*r = append(*r, parsed)
	}
	return err
}

func (r *renames) Type() string { return "OLD=NEW" }

func addRenameFlag(cmd *cobra.Command, r *renames) {
	cmd.Flags().Var(r, "rename", "another name in the instance for a table or a secondary index; one * on each side stands for any text (repeat for more; the first that fits counts)")
}

// encryptionKeys is a flag for keys in the target, by those they stand for.
type encryptionKeys []snapshot.EncryptionKey

func (k *encryptionKeys) String() string { return "" }

func (k *encryptionKeys) Set(text string) error {
	old, name, ok := strings.Cut(text, "=")
	if !ok {
		old, name = "", text
	}
	if name == "" {
		return errors.New("names no key")
	}
	*k = append(*k, snapshot.EncryptionKey{Old: old, New: name})
	return nil
}

func (k *encryptionKeys) Type() string { return "KEY" }

// by returns the keys as the role uses them.
func (k encryptionKeys) by(role string) []snapshot.EncryptionKey {
	keys := slices.Clone(k)
	for i := range keys {
		keys[i].RoleARN = role
	}
	return keys
}

// digest is a flag for a SHA-256.
type digest struct{ manifest.Hash }

func (d *digest) String() string {
	if d.IsZero() {
		return ""
	}
	return d.Hash.String()
}

func (d *digest) Set(text string) error {
	if err := d.UnmarshalText([]byte(strings.TrimPrefix(text, "sha256:"))); err != nil || d.IsZero() {
		return errors.New("not a SHA-256 of 64 lower-case hex digits")
	}
	return nil
}

func (d *digest) Type() string { return "SHA256" }
