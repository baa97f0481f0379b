package snapshot

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// Sizes an export works with unless told otherwise.
const (
	DefaultWorkers    = 4
	DefaultChunkBytes = 64 << 20
	DefaultSplitBytes = 256 << 20
	MinChunkBytes     = 16 << 10
	MaxChunkBytes     = 1 << 30  // what a reader has to hold in memory, before compression
	groupBytes        = 16 << 20 // a row group; the unit a reader holds in memory
	groupRows         = 128 << 10
)

// Export writes a snapshot of tables of From into archives.
//
// Without Memory it holds, for each worker, up to three row groups as Arrow and up
// to three chunks as Parquet: one of each in every step of scanning, encoding and
// storing.
type Export struct {
	From Source
	// To are the archives to write to, one or more. Every row is read once; each
	// archive gets the same chunks under the same snapshot id, and its own plan,
	// pages and manifest, signed for it. A range that one of them had already when an
	// export is resumed is read again for the others, and its rows may have changed.
	To []*Archive
	// Signers must meet every archive's threshold. Of several archives each takes
	// those of its policy. The first exporter among them signs plan and pages.
	Signers []manifest.Signer
	Tables  []string // their names, at least one
	Workers int      // ranges in work at once; 0: DefaultWorkers

	// Memory is how many bytes the run is to keep to, if it is given that much to
	// itself: fewer chunks are in work at once then. One that takes more by itself
	// still is, alone. 0: no limit but Workers.
	Memory int64

	ChunkBytes int64 // PlainBuffer bytes of a chunk, MinChunkBytes to MaxChunkBytes; 0: DefaultChunkBytes
	SplitBytes int64 // size of a range, as the service estimates it; 0: DefaultSplitBytes

	// Mode and Retain say how firmly, and how long from the start of the export on,
	// every object of the snapshot is retained. What is left open is as the
	// archive's signed default says, and that is the least there is to ask; without
	// one, and with both left open, as the bucket's default does.
	Mode   archive.Mode
	Retain archive.Period

	// Resume is the id of an export to go on with, or "latest" for the last one
	// that was not finished. Its plan then stands in place of Tables, sizes and
	// retention. An archive that has nothing of it yet, as where the first run ended
	// early, gets all of it.
	Resume string

	Tool, Build string // recorded in the manifest
	Now         func() time.Time
	Progress    func(Event)
}

// Exported is a snapshot in one of the archives it was exported to.
type Exported struct {
	Entry
	Warnings []string // what could not be done; the snapshot stands without it
}

// exporter is an Export under way.
type exporter struct {
	Export
	to       []*destination
	plan     *manifest.Plan // but for archive and retention, what the plans of all of them say
	layouts  []row.Layout
	progress *progress
	memory   *budget
}

// Run exports, and returns the snapshot in each archive, in the order of To. The
// snapshot exists in all of them when it returns nil. When it returns an error
// there is none, unless the store's answer to the last write was lost, or one of
// several archives was done before another failed; what an interrupted run wrote is
// taken up by Resume.
//
// A store that cannot give the retention asked for is errors.ErrUnsupported, and one
// that says it does and does not is ErrWeaker.
func (e Export) Run(ctx context.Context) ([]Exported, error) {
	if e.Now == nil {
		e.Now = time.Now
	}
	e.Workers = orDefault(e.Workers, DefaultWorkers)
	e.ChunkBytes = orDefault(e.ChunkBytes, DefaultChunkBytes)
	e.SplitBytes = orDefault(e.SplitBytes, DefaultSplitBytes)
	if e.ChunkBytes < MinChunkBytes || e.ChunkBytes > MaxChunkBytes {
		return nil, fmt.Errorf("snapshot: export: chunks of %d bytes; they can have %d to %d", e.ChunkBytes, MinChunkBytes, MaxChunkBytes)
	}
	to, err := destinations(ctx, e.To, e.Signers, e.Now)
	if err != nil {
		return nil, fmt.Errorf("snapshot: export: %w", err)
	}
	x := &exporter{Export: e, to: to, progress: newProgress(e.Progress), memory: newBudget(e.Memory)}
	if err := x.prepare(ctx); err != nil {
		return nil, err
	}
	if err := x.ranges(ctx); err != nil {
		return nil, err
	}
	return x.commit(ctx)
}

func orDefault[T int | int64](value, fallback T) T {
	if value <= 0 {
		return fallback
	}
	return value
}

// prepare takes up the plan of an earlier run or makes a new one.
func (x *exporter) prepare(ctx context.Context) error {
	if x.Resume != "" {
		return x.takeUp(ctx)
	}
	plan, err := x.newPlan(ctx)
	if err != nil {
		return err
	}
	return x.begin(ctx, plan)
}

// begin starts the plan in the archives that have none yet, once all of them are
// known to take it, and goes by it.
func (x *exporter) begin(ctx context.Context, plan *manifest.Plan) error {
	for _, d := range x.to {
		if d.plan != nil {
			continue
		}
		if err := d.blame(d.begin(ctx, plan, term{x.Mode, x.Retain})); err != nil {
			return err
		}
	}
	for _, d := range x.to {
		if d.sealed == nil {
			continue
		}
		if err := d.blame(d.writePlan(ctx)); err != nil {
			return err
		}
	}
	return x.use(plan)
}

// takeUp reads the plans of the run to go on with, and makes sure that they still
// fit each other and the tables.
func (x *exporter) takeUp(ctx context.Context) error {
	id, err := x.unfinished(ctx)
	if err != nil {
		return err
	}
	var plan *manifest.Plan
	for _, d := range x.to {
		if d.plan == nil {
			continue
		}
		if plan == nil {
			plan = d.plan
		}
		if !samePlan(plan, d.plan) {
			return fmt.Errorf("snapshot: resume %s: its plan in %s is another than in the archives before; resume them one by one", id, d.Archive)
		}
	}
	if plan.Instance != x.From.Instance() {
		return fmt.Errorf("snapshot: resume %s: it is of instance %s at %s, not of %s at %s", id,
			plan.Instance.Name, plan.Instance.Endpoint, x.From.Instance().Name, x.From.Instance().Endpoint)
	}
	for _, t := range plan.Tables {
		now, err := x.From.Describe(ctx, t.Table.Name)
		if err != nil {
			return inTable(t.Table, err)
		}
		if !sameKey(now.Key, t.Table.Key) {
			return fmt.Errorf("snapshot: resume %s: table %s has another primary key now; begin a new export", id, t.Table.Name)
		}
	}
	return x.begin(ctx, plan)
}

// unfinished resolves Resume to the id of a run that has no manifest in one of the
// archives, and takes up what each of them holds of it.
func (x *exporter) unfinished(ctx context.Context) (string, error) {
	var ids []string
	chains := make([][]Entry, len(x.to))
	for i, d := range x.to {
		var err error
		if chains[i], err = d.Chain(ctx); err != nil {
			return "", d.blame(err)
		}
		some, err := d.Archive.unfinished(ctx, chains[i])
		if err != nil {
			return "", d.blame(err)
		}
		ids = append(ids, some...)
	}
	id := x.Resume
	if id == "latest" {
		var err error
		if id, err = lastUnfinished(ids, chains); err != nil {
			return "", err
		}
	}
	if !slices.Contains(ids, id) {
		return "", fmt.Errorf("snapshot: there is no unfinished export %q: %w", id, fs.ErrNotExist)
	}
	for i, d := range x.to {
		if err := d.take(ctx, chains[i], id); err != nil {
			return "", d.blame(err)
		}
	}
	return id, nil
}

// lastUnfinished is the newest of the ids, unless a snapshot that began later is
// there already: the rows of the unfinished one would be older than what a reader
// takes for the newest state.
func lastUnfinished(ids []string, chains [][]Entry) (string, error) {
	if len(ids) == 0 {
		return "", fmt.Errorf("snapshot: there is no unfinished export to resume: %w", fs.ErrNotExist)
	}
	id := slices.Max(ids)
	for _, e := range slices.Concat(chains...) {
		if e.Manifest.Snapshot > id {
			return "", fmt.Errorf("snapshot: the last unfinished export, %s, is older than snapshot %d, %s; begin a new export, or resume it by its id",
				id, e.Manifest.Seq, e.Manifest.Snapshot)
		}
	}
	return id, nil
}

func (x *exporter) use(plan *manifest.Plan) error {
	x.plan = plan
	for _, t := range plan.Tables {
		layout, err := row.NewLayout(t.Table.Key, t.Table.Columns)
		if err != nil {
			return inTable(t.Table, err)
		}
		x.layouts = append(x.layouts, layout)
	}
	return nil
}

// ranges exports every range of the plan.
func (x *exporter) ranges(ctx context.Context) error {
	var total int64
	for _, t := range x.plan.Tables {
		total += int64(len(t.Ranges))
	}
	x.progress.begin("export", total)
	group, ctx := errgroup.WithContext(ctx)
	// One more than can have chunks in work, which waits with its first rows at hand.
	group.SetLimit(min(x.Workers, 1+x.memory.units(chunkMemory(x.plan.ChunkBytes), x.Workers)))
	for i, t := range x.plan.Tables {
		for n := range t.Ranges {
			group.Go(func() error {
				if err := x.exportRange(ctx, i, n); err != nil {
					return fmt.Errorf("snapshot: table %s, range %d: %w", t.Table.Name, n, err)
				}
				return nil
			})
		}
	}
	return group.Wait()
}

// exportRange brings the range's page to the archives that lack it: those that have
// it from an earlier run keep it.
func (x *exporter) exportRange(ctx context.Context, table, n int) error {
	var lacking []*destination
	var had manifest.Totals
	for _, d := range x.to {
		if d.done != nil {
			continue
		}
		err := d.finishedRange(ctx, table, n)
		if isNotExist(err) {
			lacking = append(lacking, d)
			continue
		}
		if err != nil {
			return d.blame(err)
		}
		had = d.results[table][n].ref.Totals
	}
	name := x.plan.Tables[table].Table.Name
	if len(lacking) == 0 {
		x.progress.add(name, Event{Done: 1, Rows: had.Rows, RawBytes: had.RawBytes})
		return nil
	}
	stores, err := x.writeChunks(ctx, table, n, lacking)
	if err != nil {
		return err
	}
	for _, to := range stores {
		if err := to.blame(to.writePage(ctx, table, n, to.chunks)); err != nil {
			return err
		}
	}
	x.progress.add(name, Event{Done: 1})
	return nil
}

// commit makes the results a snapshot in every archive, once all of them have all
// that it is made of.
func (x *exporter) commit(ctx context.Context) ([]Exported, error) {
	x.progress.begin("commit", int64(len(x.to)))
	for _, d := range x.to {
		if d.done != nil {
			continue
		}
		if err := d.blame(d.complete(ctx)); err != nil {
			return nil, err
		}
	}
	exported := make([]Exported, len(x.to))
	for i, d := range x.to {
		if err := d.blame(x.commitTo(ctx, d)); err != nil {
			return nil, err
		}
		d.protect(ctx)
		exported[i] = Exported{Entry: *d.done, Warnings: d.warnings}
		x.progress.add("", Event{Done: 1})
	}
	return exported, nil
}

func (x *exporter) commitTo(ctx context.Context, d *destination) error {
	if d.done != nil {
		return nil
	}
	if err := d.commit(ctx, d.manifest(x.Tool, x.Build)); err != nil {
		return err
	}
	d.sweep(ctx)
	return nil
}

func snapshotPrefix(id string) string {
	return strings.TrimSuffix(manifest.PlanName(id), "plan.dsse.json")
}

// listSizes returns the sizes of the objects under a prefix.
func listSizes(ctx context.Context, store archive.Store, prefix string) (map[string]int64, error) {
	sizes := map[string]int64{}
	for object, err := range store.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("snapshot: list %s: %w", prefix, err)
		}
		sizes[object.Name] = object.Size
	}
	return sizes, nil
}

// newSnapshotID draws an id: the time, and four random bytes.
func newSnapshotID(now time.Time) string {
	var random [4]byte
	rand.Read(random[:]) // never fails
	return manifest.NewSnapshotID(now, random[:])
}
