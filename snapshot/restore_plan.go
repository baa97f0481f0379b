package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// Estimate is what some rows take to be written, and then read to be compared,
// when nothing is refused. Indexes take more.
type Estimate struct {
	// Writing costs between these capacity units: every 4 KiB begun of every row, of
	// which only the sum of all is known.
	WriteUnits       int64 `json:"write_units"`
	WriteUnitsAtMost int64 `json:"write_units_at_most"`

	// ReadUnits is what reading costs, but for a unit or so a request.
	ReadUnits int64 `json:"read_units"`

	// The limits of the rate do not let it be done faster than this, in seconds. 0:
	// they do not bound it, and how long it takes only the service could tell. A plan
	// may be carried out at any rate, so they are no part of it.
	WriteSeconds float64 `json:"-"`
	ReadSeconds  float64 `json:"-"`
}

// RestorePlan says what a restore would do, before it does anything. The same
// archive, target and wishes make the same plan, byte for byte, whatever the time.
type RestorePlan struct {
	Format        int64             `json:"format"`
	Archive       manifest.Hash     `json:"archive"`
	Seq           int64             `json:"seq"`
	Snapshot      string            `json:"snapshot"`
	Digest        manifest.Hash     `json:"digest"` // of the manifest's object
	From          manifest.Instance `json:"from"`
	To            manifest.Instance `json:"to"`
	Mode          RestoreMode       `json:"mode"`
	AutoIncrement string            `json:"auto_increment"` // "keep" or "regenerate"
	DeleteExtra   bool              `json:"delete_extra"`
	Rows          *PlanRows         `json:"rows,omitempty"`     // nil: all
	Suppress      []ListSummary     `json:"suppress,omitempty"` // lists of rows that must not come back
	Tables        []TablePlan       `json:"tables"`
	Totals        manifest.Totals   `json:"totals"` // of the chunks that are read
	Estimate      Estimate          `json:"estimate"`
	Warnings      []string          `json:"-"` // of the instance as a whole, as it is now
}

// PlanRows says which rows and cells are restored.
type PlanRows struct {
	From    manifest.Key `json:"from"`
	To      manifest.Key `json:"to"`
	Where   string       `json:"where"`
	Columns []string     `json:"columns"`
}

// TablePlan is a table's part of a plan.
type TablePlan struct {
	Source      string               `json:"source"` // its name as signed
	Target      string               `json:"target"`
	Exists      bool                 `json:"exists"` // in the target, and is not made
	Key         []manifest.KeyColumn `json:"key"`
	Options     manifest.Options     `json:"options"` // in the end
	Throughput  manifest.Throughput  `json:"throughput"`
	Stream      manifest.Stream      `json:"stream"`
	Encryption  manifest.Encryption  `json:"encryption"`
	Indexes     []string             `json:"indexes"` // that are made
	Searches    []string             `json:"search_indexes"`
	Steps       []string             `json:"steps"`        // for people
	Differs     []string             `json:"differs"`      // of a table that exists, from what was signed
	NotSame     []string             `json:"not_same"`     // what will not be as it was where the snapshot was taken
	NotCaptured []string             `json:"not_captured"` // what the export saw, or could not see, and did not keep
	Problems    []string             `json:"problems"`     // why the restore cannot be run
	Totals      manifest.Totals      `json:"totals"`       // of its chunks that are read
	WriteUnits  int64                `json:"write_units"`
	Suppress    int64                `json:"suppress,omitempty"` // entries of lists that are about it
}

// Encode returns the plan as JSON, as it is written to a file.
func (p *RestorePlan) Encode() []byte {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return append(text, '\n')
}

// SHA256 is the digest of the encoded plan.
func (p *RestorePlan) SHA256() manifest.Hash { return manifest.Sum(p.Encode()) }

// Problems are the reasons why the plan cannot be carried out, of all tables.
func (p *RestorePlan) Problems() []string {
	var all []string
	for _, t := range p.Tables {
		for _, problem := range t.Problems {
			all = append(all, fmt.Sprintf("table %s: %s", t.Target, problem))
		}
	}
	return all
}

// ErrPlan is wrapped where a restore is not what its plan was.
var ErrPlan = errors.New("not the plan that was agreed to")

// restored is a table on its way into the target.
type restored struct {
	signed   manifest.TableEntry
	table    manifest.Table  // as it will be in the target, Columns and all
	live     *manifest.Table // as it was there; nil: it was not
	opened   bool            // its options are not its own now
	finished bool            // it has the options it is to have in the end already
	generate bool            // the service chooses the values of its AUTO_INCREMENT column
	jobs     []job
	report   *TableReport

	leftOut int64 // rows on lists that were come upon when writing
	removed int64 // and live ones that were removed
}

// bare are the options a table is filled with that the restore has made.
func bare() manifest.Options {
	return manifest.Options{TTL: -1, MaxVersions: -1, Deviation: MaxDeviation, AllowUpdate: true}
}

// timeToLive returns the seconds that what is in a table lives; 0 or -1: for ever.
func timeToLive(t manifest.Table) int64 { return max(t.Options.TTL, t.Timeseries.TTL) }

// MaxDeviation is the largest deviation the service takes, in seconds: every
// version a cell can have may then be written.
const MaxDeviation = math.MaxInt64 / 1_000_000

// Plan says what Run would do, and changes nothing. What keeps it from being
// carried out is among its problems, and no error.
func (r Restore) Plan(ctx context.Context) (*RestorePlan, error) {
	x := r.begin()
	if err := x.choose(ctx); err != nil {
		return nil, err
	}
	return x.plan(ctx)
}

// plan looks at the target and settles what is done to each table.
func (x *restorer) plan(ctx context.Context) (*RestorePlan, error) {
	m := x.entry.Manifest
	plan := &RestorePlan{
		Format: 1, Archive: m.Archive, Seq: m.Seq, Snapshot: m.Snapshot, Digest: x.entry.Digest,
		From: m.Instance, To: x.To.Instance(), Mode: x.Mode, AutoIncrement: "keep", DeleteExtra: x.DeleteExtra,
		Rows: x.planRows(), Suppress: x.Suppress.Lists(), Tables: []TablePlan{}, Warnings: []string{},
	}
	if x.Generate {
		plan.AutoIncrement = "regenerate"
	}
	for _, t := range x.tables {
		part, err := x.planTable(ctx, t)
		if err != nil {
			return nil, inTable(t.signed.Table, err)
		}
		plan.Tables = append(plan.Tables, part)
		plan.Totals.Add(part.Totals)
	}
	if x.Estimate != nil {
		plan.Estimate = x.Estimate(plan.Totals.Rows, plan.Totals.RawBytes)
	}
	return plan, x.warnOfQuota(ctx, plan)
}

func (x *restorer) planRows() *PlanRows {
	s := x.Rows
	if whole(s) {
		return nil
	}
	rows := &PlanRows{From: s.Within.From, To: s.Within.To, Columns: s.Columns}
	if s.Where != nil {
		rows.Where = s.Where.String()
	}
	return rows
}

// whole reports whether every row and cell is selected.
func whole(s archive.Selection) bool {
	return everyRow(s) && len(s.Columns) == 0 && s.Without.IsEmpty()
}

// everyRow reports whether rows are selected by nothing but their not being on lists.
func everyRow(s archive.Selection) bool {
	return s.Where == nil && len(s.Within.From) == 0 && len(s.Within.To) == 0
}

func (x *restorer) planTable(ctx context.Context, t *restored) (TablePlan, error) {
	part := TablePlan{
		Source: t.signed.Table.Name, Target: t.table.Name, Key: t.table.Key,
		Indexes: []string{}, Searches: []string{}, Steps: []string{}, Differs: []string{}, NotSame: []string{}, Problems: []string{},
		NotCaptured: append([]string{}, t.signed.Table.NotCaptured...),
		Suppress:    x.Suppress.entries(t.signed.Table.Name),
	}
	if err := x.Rows.Check(t.signed.Table.Key); err != nil {
		return part, fmt.Errorf("%w: %w", err, ErrWish)
	}
	var err error
	if t.jobs, err = rangeJobs(ctx, x.From, x.entry, t.signed, x.Rows.Keys(t.signed.Table.Key)); err != nil {
		return part, err
	}
	for _, j := range t.jobs {
		if !x.rowsOf(t).LeavesOut(j.chunk) {
			part.Totals.Add(j.chunk.Totals())
		}
	}
	if x.Mode == Repair {
		t.jobs = parts(x.entry, t.signed, t.jobs)
	}
	if t.live, err = x.before(ctx, t); err != nil {
		return part, err
	}
	part.Exists = t.live != nil
	if err := x.planIndexes(ctx, t, &part); err != nil {
		return part, err
	}
	if part.Exists {
		if err := x.planExisting(ctx, t, &part); err != nil {
			return part, err
		}
	}
	part.Options, part.Throughput, part.Stream, part.Encryption = t.table.Options, t.table.Throughput, t.table.Stream, t.table.Encryption
	for _, i := range t.table.Indexes {
		part.Indexes = append(part.Indexes, i.Name)
	}
	for _, i := range t.table.SearchIndexes {
		part.Searches = append(part.Searches, i.Name)
	}
	x.planIncrement(t, &part)
	x.notSame(t, &part)
	x.steps(t, &part)
	return part, nil
}

// before returns the table as it was in the target before the restore began; nil:
// it was not there. What an earlier run made or changed is seen as it was before.
func (x *restorer) before(ctx context.Context, t *restored) (*manifest.Table, error) {
	live, err := x.Check.Describe(ctx, t.table.Name)
	if isNotExist(err) {
		return nil, x.forget(ctx, t)
	}
	if err != nil {
		return nil, err
	}
	if state := x.Journal.table(t.signed.Table.Name); state.opened != nil {
		return state.opened, x.asOpened(ctx, t, live, state)
	}
	own, err := x.own(ctx, t, live)
	if err != nil || own {
		return nil, err
	}
	return &live, nil
}

// asOpened makes sure that a table is as this restore left it, which was described
// by the journal before its options were changed: nothing the journal says is given
// to a table that does not confirm it.
func (x *restorer) asOpened(ctx context.Context, t *restored, live manifest.Table, state tableState) error {
	was, at := *state.opened, *t
	at.live = &was
	widened, same := live.Options == x.open(&at), live.Options == was.Options
	if !sameKey(live.Key, was.Key) || len(live.Indexes) != len(was.Indexes) || !widened && !same {
		return fmt.Errorf("it is not as the interrupted restore left it: %s, by its state it had %s; if another took its place, remove the state and begin anew: %w",
			optionsText(live.Options), optionsText(was.Options), ErrPlan)
	}
	if x.Mode != FillEmpty || !same || state.configured || len(state.chunks) > 0 {
		return nil
	}
	empty, err := x.empty(ctx, t) // it was not opened yet
	if err == nil && !empty {
		err = fmt.Errorf("it has rows that the interrupted restore has not written; remove its state and begin anew: %w", ErrPlan)
	}
	return err
}

// planExisting holds a table that exists against what is to be done to it. Its
// options and indexes stay its own.
func (x *restorer) planExisting(ctx context.Context, t *restored, part *TablePlan) error {
	problem := func(format string, args ...any) { part.Problems = append(part.Problems, fmt.Sprintf(format, args...)) }
	live := *t.live
	part.Differs = append(part.Differs, tableDifferences(t.table, live)...)
	t.table.Options, t.table.Throughput, t.table.Stream, t.table.Encryption = live.Options, live.Throughput, live.Stream, live.Encryption
	t.table.Timeseries = live.Timeseries
	t.table.Indexes, t.table.SearchIndexes = nil, nil
	switch {
	case x.Mode == CreateTables:
		problem("it exists; another mode writes to tables that do, another name makes a new one")
	case !sameKey(live.Key, t.table.Key):
		problem("its primary key is %s, not %s", formatKeyColumns(live.Key), formatKeyColumns(t.table.Key))
	case x.Mode == Insert && live.Timeseries.Part != "":
		problem("points are written whole over those that exist: mode insert is not for it")
	case live.Options.UpdateFullRow:
		problem("it updates full rows, and the service takes no versions of cells then")
	case slices.ContainsFunc(live.Key, func(k manifest.KeyColumn) bool { return k.AutoIncrement }) && !t.generate:
		problem("it has an AUTO_INCREMENT column, whose values nobody can choose")
	case t.generate && !slices.Equal(live.Key, t.table.Key):
		problem("it has no AUTO_INCREMENT column where values are to be regenerated")
	case x.Mode != FillEmpty && live.Options.MaxVersions > 0 && (t.signed.Table.Options.MaxVersions < 0 || t.signed.Table.Options.MaxVersions > live.Options.MaxVersions):
		problem("it keeps %d versions of a cell, and the signed one %d: raise that, or restore under another name", live.Options.MaxVersions, t.signed.Table.Options.MaxVersions)
	case live.Options.Deviation == MaxDeviation:
		part.Differs = append(part.Differs, "its deviation is the widest there is: if an interrupted restore left it so, go on with that by --resume, or set it back")
	}
	if len(live.Indexes) > 0 {
		problem("it has the secondary index %s, and the service refuses versions of one's own choice while it has one; drop it, restore, and make it again", live.Indexes[0].Name)
	}
	if x.overSource(t) && !x.allowed(t.table.Name) {
		problem("it is in the instance the snapshot was taken of, under the name of one of its tables; to write over it, allow it by its name: --allow-source %s", t.table.Name)
	}
	if x.Mode != FillEmpty || x.Journal.table(t.signed.Table.Name).opened != nil {
		return nil
	}
	empty, err := x.empty(ctx, t)
	if err == nil && !empty {
		problem("it has rows; mode empty fills tables that have none")
	}
	return err
}

// overSource reports whether a table that exists is one the snapshot was taken of.
// An instance may have several endpoints: its name decides.
func (x *restorer) overSource(t *restored) bool {
	return x.To.Instance().Name == x.entry.Manifest.Instance.Name &&
		slices.ContainsFunc(x.entry.Manifest.Tables, func(e manifest.TableEntry) bool { return e.Table.Name == t.table.Name })
}

// allowed reports whether a table may be written over: both parts of a timeseries
// table by its name.
func (x *restorer) allowed(name string) bool {
	return slices.Contains(x.AllowSource, name) || slices.Contains(x.AllowSource, tableOf(name))
}

// empty reports whether a table in the target has no row.
func (x *restorer) empty(ctx context.Context, t *restored) (bool, error) {
	layout := row.Layout{Key: t.signed.Table.Key, Columns: t.signed.Table.Columns}
	for _, err := range x.Check.Scan(ctx, Scan{Table: t.table, Layout: layout, Limit: 1}) {
		return false, err
	}
	return true, nil
}

// planIndexes makes sure that the names of a new table's indexes are free. One that
// this restore has made already has taken its names itself.
func (x *restorer) planIndexes(ctx context.Context, t *restored, part *TablePlan) error {
	if t.live != nil || x.Journal.table(t.signed.Table.Name).created {
		return nil
	}
	for _, index := range t.table.Indexes {
		_, err := x.Check.Describe(ctx, index.Name)
		if err == nil {
			part.Problems = append(part.Problems, fmt.Sprintf("a table or an index called %s is there, as one of its indexes is to be; give that another name: --rename %s=NEW", index.Name, index.Name))
		} else if !isNotExist(err) {
			return err
		}
	}
	return nil
}

func (x *restorer) planIncrement(t *restored, part *TablePlan) {
	for _, k := range t.signed.Table.Key {
		switch {
		case !k.AutoIncrement:
		case t.generate:
			part.NotSame = append(part.NotSame, fmt.Sprintf("%s: the service chooses new values; which became which is told", k.Name))
		default:
			part.NotSame = append(part.NotSame, fmt.Sprintf("%s: a plain INTEGER with the values it had; the service does not take chosen values in an AUTO_INCREMENT column", k.Name))
		}
	}
}

// notSame says what the table will not have as the one had that was exported.
func (x *restorer) notSame(t *restored, part *TablePlan) {
	add := func(format string, args ...any) { part.NotSame = append(part.NotSame, fmt.Sprintf(format, args...)) }
	signed := t.signed.Table
	if e := signed.Encryption; e.Enabled && t.table.Encryption != keyOf(e) {
		add("encryption: with %s, not with %s", encryptionText(t.table.Encryption), encryptionText(e))
	}
	if signed.Options.UpdateFullRow && t.live == nil {
		add("options: updates of full rows are off: with them the service takes no versions of cells, and they cannot be set later")
	}
	if t.live == nil && x.WithoutIndexes && len(signed.Indexes)+len(signed.SearchIndexes) > 0 {
		add("indexes: %d secondary and %d search indexes are not made, as asked", len(signed.Indexes), len(signed.SearchIndexes))
	}
	if signed.Stream.Enabled {
		add("stream: it begins anew; records of before are not restored")
	}
	if ttl := timeToLive(t.table); ttl > 0 {
		add("rows: what is older than %d seconds vanishes once the table has its time to live; it is counted", ttl)
	}
}

func encryptionText(e manifest.Encryption) string {
	switch {
	case !e.Enabled:
		return "none"
	case e.KeyID == "":
		return "the service's own key"
	}
	return fmt.Sprintf("key %s by role %s", e.KeyID, e.RoleARN)
}

// steps says in words what is done to a table, in order.
func (x *restorer) steps(t *restored, part *TablePlan) {
	add := func(format string, args ...any) { part.Steps = append(part.Steps, fmt.Sprintf(format, args...)) }
	switch {
	case t.live == nil:
		add("make the table, without time to live, stream and indexes")
	case t.live.Options != x.open(t):
		add("let it take every version: deviation %d", x.open(t).Deviation)
	}
	rows := fmt.Sprintf("%d rows", part.Totals.Rows)
	if !whole(x.Rows) {
		rows = fmt.Sprintf("what matches of %d rows", part.Totals.Rows)
	}
	if part.Suppress > 0 {
		rows += fmt.Sprintf(" (less those on lists: %d entries)", part.Suppress)
	}
	switch {
	case t.generate:
		add("write %s in order, under keys the service completes", rows)
	case t.live != nil && x.Mode == Insert:
		add("write %s that do not exist", rows)
	case t.live != nil && x.Mode == Repair && x.DeleteExtra:
		add("compare %s, write what differs, remove rows that are not signed", rows)
	case t.live != nil && x.Mode == Repair:
		add("compare %s and write what differs", rows)
	case t.live != nil && x.Mode == Overwrite:
		add("write %s over those that exist", rows)
	default:
		add("write %s", rows)
	}
	add("compare with what was signed")
	if t.live != nil {
		if part.Suppress > 0 && x.Mode != FillEmpty && !x.DeleteExtra {
			add("leave rows that the lists name where they are, and count them")
		}
		if t.live.Options != x.open(t) {
			add("give it back its options")
		}
		return
	}
	if s := t.table.Timeseries; s.Part == "" {
		add("options: %s", optionsText(t.table.Options))
	} else {
		add("options: TTL %d, of series %d, analytical stores: %d, lastpoint indexes: %d", s.TTL, s.MetaTTL, len(s.AnalyticalStores), len(s.LastpointIndexes))
	}
	if t.table.Stream.Enabled {
		add("stream: %d hours", t.table.Stream.Hours)
	}
	for _, i := range t.table.Indexes {
		add("secondary index %s, with the rows that are there", i.Name)
	}
	for _, i := range t.table.SearchIndexes {
		add("search index %s", i.Name)
	}
}

func optionsText(o manifest.Options) string {
	return fmt.Sprintf("TTL %d, %d versions, deviation %d, updates allowed: %t, full-row updates: %t", o.TTL, o.MaxVersions, o.Deviation, o.AllowUpdate, o.UpdateFullRow)
}

// open returns the options an existing table is written to with. Its time to live
// and its number of versions are left alone, unless it is empty: what is hidden
// by them would come back for everybody to see.
func (x *restorer) open(t *restored) manifest.Options {
	if t.live == nil || x.Mode == FillEmpty {
		return bare()
	}
	o := t.live.Options
	o.Deviation, o.AllowUpdate = MaxDeviation, true
	return o
}

// tableDifferences names what is not alike in two descriptions of a table, but for
// what only the service knows.
func tableDifferences(want, got manifest.Table) []string {
	var all []string
	want.Stream.Columns, got.Stream.Columns = append([]string{}, want.Stream.Columns...), append([]string{}, got.Stream.Columns...)
	differ := func(what string, want, got any) {
		w, _ := json.Marshal(want) // they are made of strings and numbers
		g, _ := json.Marshal(got)
		if string(w) != string(g) {
			all = append(all, fmt.Sprintf("%s: signed %s, live %s", what, w, g))
		}
	}
	differ("primary key", want.Key, got.Key)
	differ("predefined columns", sorted(want.Defined, func(c manifest.Column) string { return c.Name }), sorted(got.Defined, func(c manifest.Column) string { return c.Name }))
	differ("options", want.Options, got.Options)
	differ("reserved throughput", want.Throughput, got.Throughput)
	differ("stream", want.Stream, got.Stream)
	differ("encryption", keyOf(want.Encryption), keyOf(got.Encryption))
	differ("timeseries", filled(want.Timeseries), filled(got.Timeseries))
	differ("secondary indexes", sortedIndexes(want.Indexes), sortedIndexes(got.Indexes))
	differ("search indexes", sorted(want.SearchIndexes, func(i manifest.SearchIndex) string { return i.Name }), sorted(got.SearchIndexes, func(i manifest.SearchIndex) string { return i.Name }))
	return all
}

// keyOf leaves out the id of a key that is the service's own, and one of each region.
func keyOf(e manifest.Encryption) manifest.Encryption {
	if e.KeyType == serviceKey {
		e.KeyID, e.RoleARN = "", ""
	}
	return e
}

// sortedIndexes has indexes by name, and their columns, whose order means nothing.
func sortedIndexes(list []manifest.Index) []manifest.Index {
	list = sorted(list, func(i manifest.Index) string { return i.Name })
	for i := range list {
		list[i].Columns = sorted(list[i].Columns, func(c string) string { return c })
	}
	return list
}

// filled has empty lists in place of none: both mean the same.
func filled(t manifest.Timeseries) manifest.Timeseries {
	t.Keys = append([]string{}, t.Keys...)
	t.AnalyticalStores = append([]manifest.AnalyticalStore{}, t.AnalyticalStores...)
	t.LastpointIndexes = append([]string{}, t.LastpointIndexes...)
	return t
}

func sorted[T any](list []T, name func(T) string) []T {
	out := append([]T{}, list...)
	slices.SortFunc(out, func(a, b T) int { return strings.Compare(name(a), name(b)) })
	return out
}

// serviceTables is how many tables and secondary indexes an instance has unless
// more are agreed on with the service.
const serviceTables = 64

// warnOfQuota warns where the instance would have more tables than most may.
func (x *restorer) warnOfQuota(ctx context.Context, plan *RestorePlan) error {
	names, err := x.Check.Tables(ctx)
	if err != nil {
		return err
	}
	more := 0
	for _, t := range plan.Tables {
		if !slices.Contains(names, t.Target) {
			more++
		}
		more += len(t.Indexes)
	}
	if n := len(names) + more; n > serviceTables {
		plan.Warnings = append(plan.Warnings, fmt.Sprintf("the instance would have %d tables and secondary indexes; most may have %d", n, serviceTables))
	}
	return nil
}

// agree stops a restore that has problems, or that is not what was agreed to.
func (x *restorer) agree(plan *RestorePlan) error {
	var taken []string
	var problems []error
	for _, t := range plan.Tables {
		if x.Mode == CreateTables && t.Exists {
			taken = append(taken, t.Target)
			continue
		}
		for _, p := range t.Problems {
			problems = append(problems, fmt.Errorf("snapshot: table %s: %s; nothing was written", t.Target, p))
		}
	}
	if len(taken) > 0 {
		return fmt.Errorf("snapshot: instance %s has %s already; nothing was written: %w", x.To.Instance().Name, enumerate(taken, 10), fs.ErrExist)
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	if digest := plan.SHA256(); !x.PlanDigest.IsZero() && digest != x.PlanDigest {
		return fmt.Errorf("snapshot: the plan has SHA-256 %s now, not %s; nothing was written: %w", digest, x.PlanDigest, ErrPlan)
	}
	return nil
}
