package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// DefaultThawDays is how long thawed objects stay readable unless told otherwise.
const DefaultThawDays = 7

// Pauses of Wait between two looks: services thaw in minutes at the fastest and in
// two days at the slowest.
const (
	firstPause = 30 * time.Second
	maxPause   = 10 * time.Minute
)

// Thaw finds out which objects a restore or a verification reads and cannot yet,
// since they are in an archive tier, and asks the store for them. What was asked
// for the store itself remembers: any run takes up where another ended.
type Thaw struct {
	Store     archive.Store
	Trust     manifest.Trust
	Snapshots []string // as Find takes them; none: the newest
	All       bool     // all snapshots, whatever Snapshots says
	Tables    []string // globs as Select takes them; none: all tables
	Days      int      // how long objects are to stay readable; 0: DefaultThawDays
	Tier      string   // one of the store's; "": its usual one

	// Pause waits between two looks of Wait until ctx is done or the time is over;
	// nil: by the clock.
	Pause    func(ctx context.Context, d time.Duration) error
	Now      func() time.Time
	Progress func(Event)
}

// ThawReport says what a restore reads, and what of that can be read.
type ThawReport struct {
	Kind      string        `json:"kind"` // thaw
	Archive   manifest.Hash `json:"archive"`
	Seq       int64         `json:"seq"` // of the snapshot, or the newest of several; 0: not Known
	Snapshot  string        `json:"snapshot"`
	Digest    manifest.Hash `json:"digest"`
	Snapshots int64         `json:"snapshots"`
	Tables    []string      `json:"tables"`
	Started   manifest.Time `json:"started"`
	Finished  manifest.Time `json:"finished"`
	Days      int           `json:"days"`
	Tier      string        `json:"tier"`  // empty: the store's usual one
	Tiers     []string      `json:"tiers"` // that the store has, fastest first; none: nothing needs thawing there

	Objects []ThawObject `json:"objects"` // all that is read, by name
	Classes []ThawClass  `json:"classes"` // the same by storage class
	Total   Count        `json:"total"`
	Frozen  Count        `json:"frozen"`  // and not asked for
	Thawing Count        `json:"thawing"` // frozen, and asked for
	Thawed  Count        `json:"thawed"`  // readable until they freeze again
	Asked   Count        `json:"asked"`   // by this run

	// Until is when the first of the thawed objects freezes again; nil: none was thawed.
	Until *manifest.Time `json:"until,omitempty"`
	// Known says whether Objects are all that is read. They are not while a
	// manifest, or the policy, is frozen.
	Known bool `json:"known"`

	Notes    []string `json:"notes"`
	Problems []string `json:"problems"`
}

// Ready reports whether all that is read can be.
func (r *ThawReport) Ready() bool {
	return r.Known && r.Frozen.Objects == 0 && r.Thawing.Objects == 0
}

// ThawObject is an object that is read.
type ThawObject struct {
	Name  string         `json:"name"`
	Size  int64          `json:"size"`
	Class string         `json:"class"` // as the store calls it; empty: it does not say
	State string         `json:"state"` // readable, frozen, thawing or thawed
	Until *manifest.Time `json:"until,omitempty"`
}

// ThawClass adds up the objects of a storage class.
type ThawClass struct {
	Class   string `json:"class"`
	Total   Count  `json:"total"`
	Frozen  Count  `json:"frozen"`
	Thawing Count  `json:"thawing"`
	Thawed  Count  `json:"thawed"`
}

// thawing is a Thaw under way.
type thawing struct {
	Thaw
	inspector archive.Inspector // nil: the store tells nothing of its objects
	thawer    archive.Thawer    // nil: it has no tiers
	progress  *progress
	report    *ThawReport // what is told once: the snapshot, notes, problems

	needs []manifest.Object // what is read; the size is -1 where it is not known
	known bool              // whether that is all

	mu       sync.Mutex
	infos    map[string]archive.Info // as last seen
	asked    Count
	problems []error         // maxProblems of them
	wrong    map[string]bool // the texts of all
}

// Look lists what is read and in which state it is. It asks for nothing.
func (t Thaw) Look(ctx context.Context) (*ThawReport, error) {
	x, err := t.begin()
	if err != nil {
		return nil, err
	}
	return x.round(ctx, false)
}

// Ask is Look, and asks for every object that is frozen, and for those again that
// were thawed and freeze within half of the days. It does not wait. A store that
// cannot be asked for what is frozen there is errors.ErrUnsupported.
func (t Thaw) Ask(ctx context.Context) (*ThawReport, error) {
	x, err := t.begin()
	if err != nil {
		return nil, err
	}
	return x.round(ctx, true)
}

// Wait is Ask, again and again until all objects can be read. That can take two
// days; when ctx ends it, the store goes on.
func (t Thaw) Wait(ctx context.Context) (*ThawReport, error) {
	x, err := t.begin()
	if err != nil {
		return nil, err
	}
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		report, err := x.round(ctx, true)
		if err != nil || report.Ready() {
			return report, err
		}
		x.progress.begin("thaw", report.Total.Objects)
		x.progress.add("", Event{Done: report.Total.Objects - report.Frozen.Objects - report.Thawing.Objects})
		if err := x.Pause(ctx, pause); err != nil {
			return nil, fmt.Errorf("snapshot: thaw: %w", err)
		}
	}
}

func (t Thaw) begin() (*thawing, error) {
	if t.Now == nil {
		t.Now = time.Now
	}
	if t.Pause == nil {
		t.Pause = pause
	}
	if t.Days == 0 {
		t.Days = DefaultThawDays
	}
	x := &thawing{Thaw: t, progress: newProgress(t.Progress), infos: map[string]archive.Info{}}
	x.inspector, _ = t.Store.(archive.Inspector)
	x.thawer, _ = t.Store.(archive.Thawer)
	x.report = &ThawReport{
		Kind: "thaw", Archive: t.Trust.Archive, Started: stamp(t.Now), Days: t.Days, Tier: t.Tier,
		Tables: []string{}, Tiers: []string{}, Notes: []string{},
	}
	if x.thawer != nil {
		x.report.Tiers = append(x.report.Tiers, x.thawer.Tiers()...)
	}
	if t.Days < 1 {
		return nil, fmt.Errorf("snapshot: thaw for %d days; at least one", t.Days)
	}
	if t.Tier != "" && !slices.Contains(x.report.Tiers, t.Tier) {
		return nil, fmt.Errorf("snapshot: thaw: the store has no tier %q; there are %s", t.Tier, strings.Join(x.report.Tiers, ", "))
	}
	return x, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// round looks once, and asks if it may.
func (x *thawing) round(ctx context.Context, ask bool) (*ThawReport, error) {
	if err := x.need(ctx); err != nil {
		return nil, fmt.Errorf("snapshot: thaw: %w", err)
	}
	x.progress.begin("look", int64(len(x.needs)))
	if err := x.look(ctx, x.needs); err != nil {
		return nil, fmt.Errorf("snapshot: thaw: %w", err)
	}
	if ask {
		if err := x.ask(ctx); err != nil {
			return nil, fmt.Errorf("snapshot: thaw: %w", err)
		}
	}
	return x.told(), errors.Join(x.problems...)
}

// need finds out what is read, as far as that can be read itself.
func (x *thawing) need(ctx context.Context) error {
	if x.known {
		return nil
	}
	x.progress.begin("plan", 0)
	x.needs, x.problems, x.wrong, x.report.Notes = nil, nil, map[string]bool{}, []string{}
	frozen, err := x.head(ctx)
	if err != nil || frozen {
		return err
	}
	a, err := Open(ctx, x.Store, x.Trust)
	if err != nil {
		return err
	}
	entries, err := x.entries(ctx, a)
	if err != nil {
		return err
	}
	names, err := selectTables(entries, x.Thaw.Tables)
	if err != nil {
		return err
	}
	for _, f := range a.Policy.Files {
		x.needs = append(x.needs, manifest.Object{Name: f.Name, Size: -1, SHA256: f.SHA256})
	}
	if err := x.settings(ctx); err != nil {
		return err
	}
	if err := x.saidLater(ctx); err != nil {
		return err
	}
	for _, e := range entries {
		x.needs = append(x.needs, e.Manifest.PlanObject())
		for _, t := range chosen(e, names) {
			if err := x.table(ctx, a, e, t); err != nil {
				return err
			}
		}
	}
	last := entries[len(entries)-1]
	x.report.Seq, x.report.Snapshot, x.report.Digest = last.Manifest.Seq, last.Manifest.Snapshot, last.Digest
	x.report.Snapshots, x.report.Tables = int64(len(entries)), names
	x.known = true
	return nil
}

// entries returns the snapshots chosen, oldest first.
func (x *thawing) entries(ctx context.Context, a *Archive) ([]Entry, error) {
	chain, err := a.Chain(ctx)
	if err != nil {
		return nil, err
	}
	if x.All && len(chain) > 0 {
		return chain, nil
	}
	wanted := x.Snapshots
	if len(wanted) == 0 {
		wanted = []string{"latest"}
	}
	picked := map[int64]bool{}
	for _, which := range wanted {
		e, err := find(chain, which)
		if err != nil {
			return nil, err
		}
		picked[e.Manifest.Seq] = true
	}
	return slices.DeleteFunc(chain, func(e Entry) bool { return !picked[e.Manifest.Seq] }), nil
}

// head adds the policy and the manifests, and reports whether any of them is
// frozen: what else is read cannot be known then.
func (x *thawing) head(ctx context.Context) (frozen bool, err error) {
	head := []manifest.Object{{Name: manifest.PolicyName(1), Size: -1}}
	for _, prefix := range []string{"policy/", "manifests/"} {
		for object, err := range x.Store.List(ctx, prefix) {
			if err != nil {
				return false, err
			}
			_, isManifest := manifest.ParseManifestName(object.Name)
			version, isPolicy := manifest.ParsePolicyName(object.Name)
			if isManifest || isPolicy && version > 1 {
				head = append(head, manifest.Object{Name: object.Name, Size: object.Size})
			}
		}
	}
	x.needs = append(x.needs, head...)
	if err := x.look(ctx, head); err != nil {
		return false, err
	}
	if frozen = x.anyFrozen(head); frozen {
		x.note("manifests, or the policy, are in an archive tier: what else is read is known when they are there")
	}
	return frozen, nil
}

// settings adds the report of the archive's store, which a copy does not have.
func (x *thawing) settings(ctx context.Context) error {
	name := manifest.StoreName(x.Trust.Archive)
	sizes, err := listSizes(ctx, x.Store, name)
	if size, ok := sizes[name]; ok {
		x.needs = append(x.needs, manifest.Object{Name: name, Size: size})
	}
	return err
}

// saidLater adds what was said of snapshots later, and can be asked for.
func (x *thawing) saidLater(ctx context.Context) error {
	for _, kind := range besides() {
		sizes, err := listSizes(ctx, x.Store, kind.folder)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(sizes)) {
			if _, _, ok := kind.parse(name); ok && sizes[name] <= kind.limit {
				x.needs = append(x.needs, manifest.Object{Name: name, Size: sizes[name]})
			}
		}
	}
	return nil
}

// table adds what is read of a table. Where pages are frozen, what is stored
// beside them stands in for what they list, so that nobody has to wait twice.
func (x *thawing) table(ctx context.Context, a *Archive, e Entry, t manifest.TableEntry) error {
	var pages []manifest.Object
	for _, ref := range t.Pages {
		pages = append(pages, e.Manifest.PageObject(t, ref))
	}
	x.needs = append(x.needs, pages...)
	if err := x.look(ctx, pages); err != nil {
		return err
	}
	if x.anyFrozen(pages) {
		return x.stored(ctx, e, t)
	}
	read, err := tablePages(ctx, a, e, t)
	if errors.Is(err, archive.ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	if err != nil {
		x.problem(err)
		return nil
	}
	for _, j := range tableJobs(e, t, read) {
		x.needs = append(x.needs, j.object())
	}
	return nil
}

// stored adds the chunks that are stored for a table.
func (x *thawing) stored(ctx context.Context, e Entry, t manifest.TableEntry) error {
	prefix := snapshotPrefix(e.Manifest.Snapshot) + t.Table.Name + "/"
	for object, err := range x.Store.List(ctx, prefix) {
		if err != nil {
			return err
		}
		if _, _, _, err := manifest.ParseChunkName(strings.TrimPrefix(object.Name, prefix)); err == nil {
			x.needs = append(x.needs, manifest.Object{Name: object.Name, Size: object.Size})
		}
	}
	x.note("table %s: pages are in an archive tier, so all chunks stored for the table are taken to be read", t.Table.Name)
	return nil
}

func (x *thawing) note(format string, args ...any) {
	x.report.Notes = append(x.report.Notes, fmt.Sprintf(format, args...))
}

// problem notes what is wrong with an object, once.
func (x *thawing) problem(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.wrong[err.Error()] {
		return
	}
	x.wrong[err.Error()] = true
	switch n := len(x.problems); {
	case n < maxProblems:
		x.problems = append(x.problems, err)
	case n == maxProblems:
		x.problems = append(x.problems, fmt.Errorf("there are more than %d problems", maxProblems))
	}
}

// look inspects the objects that were not readable when last seen.
func (x *thawing) look(ctx context.Context, objects []manifest.Object) error {
	return x.each(ctx, objects, func(ctx context.Context, o manifest.Object) error {
		x.mu.Lock()
		last, seen := x.infos[o.Name]
		x.mu.Unlock()
		if seen && !last.Frozen && (last.ThawedTo.IsZero() || last.ThawedTo.After(x.Now())) {
			return nil
		}
		return x.inspect(ctx, o)
	})
}

// each does something to every object, some at once.
func (x *thawing) each(ctx context.Context, objects []manifest.Object, do func(context.Context, manifest.Object) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for _, o := range objects {
		group.Go(func() error {
			defer x.progress.add("", Event{Done: 1})
			return do(ctx, o)
		})
	}
	return group.Wait()
}

func (x *thawing) inspect(ctx context.Context, o manifest.Object) error {
	info := archive.Info{Object: archive.Object{Name: o.Name, Size: max(o.Size, 0)}}
	if x.inspector != nil {
		found, err := x.inspector.Inspect(ctx, o.Name)
		if isNotExist(err) {
			x.problem(missing(o.Name, err))
			return nil
		}
		if err != nil {
			return err
		}
		info = found
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.infos[o.Name] = info
	return nil
}

func (x *thawing) anyFrozen(objects []manifest.Object) bool {
	return slices.ContainsFunc(objects, func(o manifest.Object) bool { return x.infos[o.Name].Frozen })
}

// ask asks for what is frozen, or soon will be again, and looks what came of it.
func (x *thawing) ask(ctx context.Context) error {
	enough := x.Now().Add(time.Duration(x.Days) * 12 * time.Hour)
	var wanted []manifest.Object
	for _, o := range x.needs {
		info := x.infos[o.Name]
		short := !info.ThawedTo.IsZero() && info.ThawedTo.Before(enough)
		if info.Frozen && !info.Thawing || !info.Frozen && short {
			wanted = append(wanted, o)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	if x.thawer == nil {
		return fmt.Errorf("%s is frozen, and this kind of store cannot be asked for it: %w", wanted[0].Name, errors.ErrUnsupported)
	}
	x.progress.begin("ask", int64(len(wanted)))
	return x.each(ctx, wanted, func(ctx context.Context, o manifest.Object) error {
		if err := x.thawer.Thaw(ctx, o.Name, x.Days, x.Tier); err != nil {
			return err
		}
		if err := x.inspect(ctx, o); err != nil {
			return err
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.asked.add(x.infos[o.Name].Size)
		return nil
	})
}

// told is the report as things stand.
func (x *thawing) told() *ThawReport {
	r := *x.report
	r.Known, r.Asked, r.Finished = x.known, x.asked, stamp(x.Now)
	r.Objects, r.Classes, r.Problems = []ThawObject{}, []ThawClass{}, []string{}
	classes := map[string]*ThawClass{}
	for _, o := range x.needs {
		info, ok := x.infos[o.Name]
		if !ok {
			continue // missing, and a problem
		}
		class := classes[info.Class]
		if class == nil {
			class = &ThawClass{Class: info.Class}
			classes[info.Class] = class
		}
		r.count(info, class)
	}
	for _, name := range slices.Sorted(maps.Keys(classes)) {
		r.Classes = append(r.Classes, *classes[name])
	}
	slices.SortFunc(r.Objects, func(a, b ThawObject) int { return cmp.Compare(a.Name, b.Name) })
	for _, p := range x.problems {
		r.Problems = append(r.Problems, p.Error())
	}
	if x.thawer == nil && r.Ready() {
		r.Notes = append(slices.Clone(r.Notes), "this kind of store has no archive tiers: everything can be read at once")
	}
	return &r
}

// count adds an object to the report and to its class.
func (r *ThawReport) count(info archive.Info, class *ThawClass) {
	object := ThawObject{Name: info.Name, Size: info.Size, Class: info.Class, State: "readable"}
	counts := []*Count{&r.Total, &class.Total}
	switch {
	case info.Frozen && info.Thawing:
		object.State = "thawing"
		counts = append(counts, &r.Thawing, &class.Thawing)
	case info.Frozen:
		object.State = "frozen"
		counts = append(counts, &r.Frozen, &class.Frozen)
	case !info.ThawedTo.IsZero():
		object.State = "thawed"
		counts = append(counts, &r.Thawed, &class.Thawed)
		until := manifest.At(info.ThawedTo)
		object.Until = &until
		if r.Until == nil || until.Before(r.Until.Time) {
			r.Until = &until
		}
	}
	for _, c := range counts {
		c.add(info.Size)
	}
	r.Objects = append(r.Objects, object)
}
