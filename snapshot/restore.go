package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// RestoreMode says what a restore does to tables that exist. Those that do not are
// made in every mode.
type RestoreMode string

// The modes of a restore.
const (
	CreateTables RestoreMode = "create"    // refuses them
	FillEmpty    RestoreMode = "empty"     // writes to those without rows
	Insert       RestoreMode = "insert"    // writes rows that do not exist, and touches no others
	Overwrite    RestoreMode = "overwrite" // writes every row, whole, over what is there
	Repair       RestoreMode = "repair"    // compares first, and writes only rows that differ
)

// EncryptionKey says what key tables are encrypted with in the target that were
// encrypted with the key Old: a key is of one region.
type EncryptionKey struct {
	Old     string // its id as signed; "": any
	New     string // "": the service's own key
	RoleARN string // the role the service uses New by
}

// Restore brings tables of a snapshot back. Nothing is changed before every
// signature and every byte of what will be restored was checked. Tables are made
// bare, filled, and compared with what was signed while they still show every
// version of every cell; after that they get their options, which may hide some,
// their stream and their indexes.
//
// It holds, for each worker, one chunk and two row groups of it as Arrow: the next is
// decoded while one is written.
type Restore struct {
	From     *Archive
	Snapshot string   // as Find takes it; "": the newest
	Tables   []string // globs as Select takes them; none: all tables
	Rename   []Rename // names in the target; the first that fits counts

	// Rows narrows what is restored. Keys are those of one table, and so is then what
	// is restored.
	Rows archive.Selection

	// Suppress is rows that are left out, whatever else is asked for, and must not be
	// in tables that are made or filled. Where rows may be that were not signed, they are
	// counted; with DeleteExtra they are removed. Nil: none.
	Suppress *Suppression

	Mode        RestoreMode // "": CreateTables
	DeleteExtra bool        // with Repair: rows that were not signed are removed
	AllowSource []string    // tables of the snapshot's own instance that may be written to

	// Generate has the service choose values for AUTO_INCREMENT columns, and KeyMap
	// is told which key became which, in the order of the old ones; otherwise the
	// columns become plain INTEGER, and keep their values.
	Generate bool
	KeyMap   func(table manifest.Table, was, is manifest.Key) error

	// Settle is how long the service may still be at a write whose answer was lost, or
	// whose sender was killed: with Generate, only after that it is looked for. 0:
	// DefaultSettle.
	Settle time.Duration

	Encryption     []EncryptionKey // none: tables that were encrypted get the service's own key
	WithoutIndexes bool

	To       Sink
	Check    Source   // the same instance as To, for the comparison
	Journal  *Journal // what an earlier run did; nil: the restore cannot be resumed
	Workers  int      // chunks in work at once; 0: DefaultWorkers
	Memory   int64    // in bytes, as of Export
	Now      func() time.Time
	Progress func(Event)

	// Estimate returns what so many rows and PlainBuffer bytes take at the rate that
	// was asked for. Nil: the plan says nothing of that.
	Estimate func(rows, rawBytes int64) Estimate

	// Require is what the snapshot must have beside its signatures.
	Require []Requirement

	// PlanDigest is that of the plan to carry out, and no other; zero: any.
	PlanDigest manifest.Hash
}

// restorer is a Restore under way.
type restorer struct {
	Restore
	entry    Entry
	tables   []*restored
	report   *Report
	progress *progress
	turns    chan struct{} // has one for each part in work, of all tables
	memory   *budget

	mu sync.Mutex
}

func (r Restore) begin() *restorer {
	if r.Now == nil {
		r.Now = time.Now
	}
	if r.Mode == "" {
		r.Mode = CreateTables
	}
	r.Workers = orDefault(r.Workers, DefaultWorkers)
	r.Settle = cmp.Or(r.Settle, DefaultSettle)
	return &restorer{Restore: r, progress: newProgress(r.Progress), turns: make(chan struct{}, r.Workers), memory: newBudget(r.Memory)}
}

// Run restores. When it returns nil, the rows signed, decoded, acknowledged and
// counted back are the same number and have the signed digests. A table that
// exists, in mode CreateTables, is fs.ErrExist, before anything is written.
func (r Restore) Run(ctx context.Context) (*Report, error) {
	x := r.begin()
	if err := x.choose(ctx); err != nil {
		return nil, err
	}
	plan, err := x.plan(ctx)
	if err != nil {
		return nil, err
	}
	if err := x.agree(plan); err != nil {
		return nil, err
	}
	if err := x.takeUp(ctx, plan); err != nil {
		return nil, err
	}
	x.announce(plan)
	if err := x.verify(ctx); err != nil {
		return nil, err
	}
	if err := x.expiring(ctx); err != nil {
		return nil, err
	}
	if err := x.change(ctx); err != nil {
		return nil, x.giveBack(ctx, err)
	}
	err = x.compare(ctx)
	if err == nil {
		err = x.finish(ctx)
	}
	if err == nil {
		err = x.closed()
	}
	if err != nil {
		err = x.giveBack(ctx, err)
	}
	return x.done(err), err
}

// change makes or opens the tables and writes to them.
func (x *restorer) change(ctx context.Context) error {
	if err := x.prepare(ctx); err != nil {
		return err
	}
	return x.write(ctx)
}

// patience is how long a restore that failed takes to leave tables as they were.
const patience = 30 * time.Second

// giveBack gives the tables that were there their own options again after a restore
// that failed, and says of which it could not.
func (x *restorer) giveBack(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for _, t := range x.tables {
		if !t.opened {
			continue
		}
		if err := x.To.Configure(ctx, optionsOf(t)); err != nil {
			cause = fmt.Errorf("%w\nsnapshot: table %s is left with other options: resume, or give it back what it had: %s: %w",
				cause, t.table.Name, optionsText(t.live.Options), err)
		}
	}
	return cause
}

// choose settles which tables are restored, and what they are in the target.
func (x *restorer) choose(ctx context.Context) error {
	if err := x.checkWishes(); err != nil {
		return err
	}
	var err error
	if x.entry, err = x.From.Find(ctx, x.Snapshot); err != nil {
		return err
	}
	met, err := x.From.require(ctx, x.entry, x.Require)
	if err != nil {
		return fmt.Errorf("snapshot: nothing was written: %w", err)
	}
	if err := x.Suppress.check(x.entry.Manifest); err != nil {
		return err
	}
	names, err := selectTables([]Entry{x.entry}, x.Restore.Tables)
	if err != nil {
		return err
	}
	if len(names) > 1 && len(x.Rows.Within.From)+len(x.Rows.Within.To) > 0 {
		return fmt.Errorf("snapshot: keys choose rows of one table, and %d tables are chosen: %w", len(names), ErrWish)
	}
	x.report = newReport("restore", x.From, x.entry, x.Now)
	x.report.after(x.entry)
	x.report.Notes = append(x.report.Notes, met...)
	x.Suppress.tell(x.report)
	instance := x.To.Instance()
	x.report.Instance = &instance
	x.report.Tables = make([]TableReport, len(names))
	var signed, target []manifest.Table
	for _, t := range x.entry.Manifest.Tables {
		if !slices.Contains(names, t.Table.Name) {
			continue
		}
		r := x.restored(t)
		r.report = &x.report.Tables[len(x.tables)]
		*r.report = TableReport{Name: t.Table.Name, ChunksSigned: t.Totals.Chunks, Differences: []Difference{}}
		if r.table.Name != t.Table.Name {
			r.report.Target = r.table.Name
		}
		x.tables = append(x.tables, r)
		signed, target = append(signed, t.Table), append(target, r.table)
	}
	if err := checkNames(signed, target, x.Rename); err != nil {
		return fmt.Errorf("snapshot: restore: %w", err)
	}
	return nil
}

// checkWishes refuses what cannot be done to any table.
func (x *restorer) checkWishes() error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("snapshot: restore: "+format+": %w", append(args, ErrWish)...)
	}
	writesOver := x.Mode == Overwrite || x.Mode == Repair
	switch {
	case !slices.Contains([]RestoreMode{CreateTables, FillEmpty, Insert, Overwrite, Repair}, x.Mode):
		return refuse("mode %q: there are create, empty, insert, overwrite and repair", x.Mode)
	case !x.Rows.Without.IsEmpty():
		return refuse("rows are left out by Suppress alone")
	case x.DeleteExtra && x.Mode != Repair:
		return refuse("rows are only removed in mode %s", Repair)
	case len(x.Rows.Columns) > 0 && writesOver:
		return refuse("in mode %s a row is written whole, and would lose its other columns; restore the columns into a table of another name", x.Mode)
	case x.Rows.Where != nil && x.DeleteExtra:
		return refuse("a filter does not say which rows of the target are extra; choose rows by their keys")
	case x.Generate && x.Mode != CreateTables && x.Mode != FillEmpty:
		return refuse("keys the service chooses are never those of rows that exist; mode %s is not for them", x.Mode)
	}
	return nil
}

// restored says what a table is to be in the target.
func (x *restorer) restored(t manifest.TableEntry) *restored {
	r := &restored{signed: t, table: inTarget(t.Table, x.Rename)}
	r.table.Key = slices.Clone(t.Table.Key)
	for i, k := range r.table.Key {
		if k.AutoIncrement {
			r.generate = x.Generate
			r.table.Key[i].AutoIncrement = x.Generate
		}
	}
	r.table.Options.UpdateFullRow = false // see notSame
	if t.Table.Encryption.Enabled {
		r.table.Encryption = x.encryption(t.Table.Encryption)
	}
	if x.WithoutIndexes {
		r.table.Indexes, r.table.SearchIndexes = nil, nil
	}
	return r
}

func (x *restorer) encryption(e manifest.Encryption) manifest.Encryption {
	for _, k := range x.Encryption {
		if (k.Old == "" || k.Old == e.KeyID) && k.New != "" {
			return manifest.Encryption{Enabled: true, KeyType: customerKey, KeyID: k.New, RoleARN: k.RoleARN}
		}
	}
	return manifest.Encryption{Enabled: true, KeyType: serviceKey}
}

// The types of keys tables are encrypted with, in the words of the service.
const (
	serviceKey  = "SSE_KMS_SERVICE"
	customerKey = "SSE_BYOK"
)

// own reports whether a table that exists was made by this restore. Where a crash
// fell between the intent and its confirmation, an empty table is. What a journal
// says is believed of a table that still is as the restore left it.
func (x *restorer) own(ctx context.Context, t *restored, live manifest.Table) (bool, error) {
	state := x.Journal.table(t.signed.Table.Name)
	if !state.intended {
		return false, nil
	}
	made, done := live.Options == bare(), live.Options == t.table.Options
	if t.table.Timeseries.Part != "" {
		made, done = live.Timeseries.TTL == -1, live.Timeseries.TTL == t.table.Timeseries.TTL
	}
	if !sameKey(live.Key, t.table.Key) || !made && !(state.compared && done) {
		return false, nil
	}
	t.finished = done && !made
	if state.created {
		return true, nil
	}
	empty, err := x.empty(ctx, t)
	if err != nil || !empty {
		return false, err
	}
	return true, x.Journal.record(ctx, entry{Table: t.signed.Table.Name, Step: stepCreate})
}

// forget voids what the journal says of a table that is not there.
func (x *restorer) forget(ctx context.Context, t *restored) error {
	state := x.Journal.table(t.signed.Table.Name)
	if !state.intended && state.opened == nil {
		return nil
	}
	return x.Journal.record(ctx, entry{Table: t.signed.Table.Name, Step: stepForget})
}

// takeUp holds the plan against that of the run which is resumed.
func (x *restorer) takeUp(ctx context.Context, plan *RestorePlan) error {
	digest := plan.SHA256()
	if x.Journal == nil || x.Journal.plan == digest {
		return nil
	}
	if !x.Journal.Empty() {
		return fmt.Errorf("snapshot: the restore to go on with had another plan: its SHA-256 was %s, now it is %s; give the same flags as then, or begin anew: %w",
			x.Journal.plan, digest, ErrPlan)
	}
	return x.Journal.record(ctx, entry{Step: stepPlan, Plan: digest})
}

// announce records in the report what the plan says.
func (x *restorer) announce(plan *RestorePlan) {
	x.report.Plan = &PlanSummary{SHA256: plan.SHA256(), Mode: plan.Mode, AutoIncrement: plan.AutoIncrement, Rows: plan.Rows}
	x.report.Notes = append(x.report.Notes, plan.Warnings...)
	for _, t := range plan.Tables {
		x.report.Totals.Add(t.Totals)
		for _, what := range t.NotSame {
			x.report.Notes = append(x.report.Notes, fmt.Sprintf("table %s: %s", t.Target, what))
		}
		for _, what := range t.Differs {
			x.report.Notes = append(x.report.Notes, fmt.Sprintf("table %s exists and stays as it is: %s", t.Target, what))
		}
	}
}

// verify checks every byte of what will be restored.
func (x *restorer) verify(ctx context.Context) error {
	names := make([]string, len(x.tables))
	for i, t := range x.tables {
		names[i] = t.signed.Table.Name
	}
	check := Verify{
		Archive: x.From, Snapshot: x.entry.Manifest.Snapshot, Tables: names,
		Level: Hashes, Workers: x.Workers, Memory: x.Memory, Now: x.Now, Progress: x.Restore.Progress, alone: true, rows: x.Rows, suppress: x.Suppress,
	}
	if _, err := check.Run(ctx); err != nil {
		return fmt.Errorf("nothing was written: %w", err)
	}
	return nil
}

// prepare makes the tables that are not there, and opens those that are.
func (x *restorer) prepare(ctx context.Context) error {
	x.progress.begin("create", int64(len(x.tables)))
	for _, t := range x.tables {
		state := x.Journal.table(t.signed.Table.Name)
		var err error
		switch {
		case t.live != nil:
			err = x.openTable(ctx, t)
		case !state.created:
			err = x.createTable(ctx, t)
		}
		if err != nil {
			return inTable(t.table, err)
		}
		x.progress.add(t.table.Name, Event{Done: 1})
	}
	return nil
}

// createTable makes a table. The journal knows of it before it exists, so that a
// crash in between leaves no table it denies, and does not claim one that somebody
// else was first to make.
func (x *restorer) createTable(ctx context.Context, t *restored) error {
	name := t.signed.Table.Name
	if err := x.Journal.record(ctx, entry{Table: name, Step: stepIntend}); err != nil {
		return err
	}
	err := x.To.Create(ctx, t.table)
	if errors.Is(err, fs.ErrExist) {
		return errors.Join(err, x.Journal.record(ctx, entry{Table: name, Step: stepForget}))
	}
	if err != nil {
		return err
	}
	return x.Journal.record(ctx, entry{Table: name, Step: stepCreate})
}

// openTable lets a table that exists take any version. The journal knows what its
// options were before they are changed.
func (x *restorer) openTable(ctx context.Context, t *restored) error {
	state := x.Journal.table(t.signed.Table.Name)
	if state.configured {
		return nil
	}
	if state.opened == nil {
		if err := x.Journal.record(ctx, entry{Table: t.signed.Table.Name, Step: stepOpen, Live: t.live}); err != nil {
			return err
		}
	}
	return x.takeVersions(ctx, t)
}

// takeVersions lets a table that exists take any version.
func (x *restorer) takeVersions(ctx context.Context, t *restored) error {
	open := t.table
	if open.Options = x.open(t); open.Options == t.live.Options {
		return nil
	}
	t.opened = true
	return x.To.Configure(ctx, open)
}

// done ends the report of a restore that ended with err. One that did not end well
// never is without a problem: it may be signed.
func (x *restorer) done(err error) *Report {
	x.report.Finished = stamp(x.Now)
	x.report.proved(x.entry)
	if err != nil && len(x.report.Problems) == 0 {
		x.report.Problems = append(x.report.Problems, err.Error())
	}
	return x.report
}

// closed makes sure that the counts of rows agree.
func (x *restorer) closed() error {
	for i, t := range x.tables {
		r := &x.report.Tables[i]
		written := r.Acknowledged + r.Kept
		if t.live != nil && x.Mode == Repair {
			written = r.Rows // those that differed; the comparison saw them all
		}
		if r.Decoded != r.Rows || written != r.Rows || r.Counted-r.Extra != r.Rows {
			return fmt.Errorf("snapshot: table %s: %d rows signed, %d decoded, %d acknowledged, %d there already, %d counted, of which %d others: %w",
				t.table.Name, r.Rows, r.Decoded, r.Acknowledged, r.Kept, r.Counted, r.Extra, ErrDiffers)
		}
		if s := r.Suppressed; s != nil && (s.Signed != s.Rows+r.Rows || s.Rows != t.leftOut && !t.generate) {
			return fmt.Errorf("snapshot: table %s: %d rows signed, %d left out when written and %d when compared, %d restored: %w",
				t.table.Name, s.Signed, t.leftOut, s.Rows, r.Rows, ErrDiffers)
		}
	}
	var rows, left int64
	for _, t := range x.report.Tables {
		rows += t.Rows
		if t.Suppressed != nil {
			left += t.Suppressed.Rows
		}
	}
	if rows == 0 && left > 0 && !whole(x.Rows) {
		return fmt.Errorf("snapshot: the lists leave out all %d rows that were chosen, and none was written", left)
	}
	if rows == 0 && !whole(x.Rows) {
		return errors.New("snapshot: no row that was signed matches what was chosen, and none was written")
	}
	return nil
}
