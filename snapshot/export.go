package snapshot

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"iter"
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

// Export writes a snapshot of tables of From into the archive To.
//
// It holds, for each worker, up to three row groups as Arrow and up to three
// chunks as Parquet: one of each in every step of scanning, encoding and storing.
type Export struct {
	From    Source
	To      *Archive
	Signers []manifest.Signer // must meet the archive's threshold; the first signs plan and pages
	Tables  []string          // their names, at least one
	Workers int               // ranges in work at once; 0: DefaultWorkers

	ChunkBytes int64 // PlainBuffer bytes of a chunk, MinChunkBytes to MaxChunkBytes; 0: DefaultChunkBytes
	SplitBytes int64 // size of a range, as the service estimates it; 0: DefaultSplitBytes

	// Resume is the id of an export to go on with, or "latest" for the last one
	// that was not finished. Its plan then stands in place of Tables and sizes.
	Resume string

	Tool, Build string // recorded in the manifest
	Now         func() time.Time
	Progress    func(Event)
}

// exporter is an Export under way.
type exporter struct {
	Export
	plan     *manifest.Plan
	planHash manifest.Hash
	layouts  []row.Layout
	progress *progress
}

// rangeResult is a finished range: its page, and what the manifest says of it.
type rangeResult struct {
	ref  manifest.PageRef
	page *manifest.Page
}

// Run exports. The snapshot exists when it returns nil. When it returns an error
// there is none, unless the store's answer to the last write was lost; what an
// interrupted run wrote is taken up by Resume.
func (e Export) Run(ctx context.Context) (Entry, error) {
	if e.Now == nil {
		e.Now = time.Now
	}
	e.Workers = orDefault(e.Workers, DefaultWorkers)
	e.ChunkBytes = orDefault(e.ChunkBytes, DefaultChunkBytes)
	e.SplitBytes = orDefault(e.SplitBytes, DefaultSplitBytes)
	if e.ChunkBytes < MinChunkBytes || e.ChunkBytes > MaxChunkBytes {
		return Entry{}, fmt.Errorf("snapshot: export: chunks of %d bytes; they can have %d to %d", e.ChunkBytes, MinChunkBytes, MaxChunkBytes)
	}
	if err := e.To.Policy.Check(e.Signers...); err != nil {
		return Entry{}, fmt.Errorf("snapshot: export: %w", err)
	}
	x := &exporter{Export: e, progress: newProgress(e.Progress)}
	if err := x.prepare(ctx); err != nil {
		return Entry{}, err
	}
	results, err := x.ranges(ctx)
	if err != nil {
		return Entry{}, err
	}
	entry, err := x.commit(ctx, results)
	if err != nil {
		return Entry{}, err
	}
	x.sweep(ctx, results)
	return entry, nil
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
	sealed, err := manifest.SealPlan(ctx, plan, x.Signers[0])
	if err != nil {
		return fmt.Errorf("snapshot: plan: %v", err)
	}
	err = x.To.Store.Put(ctx, manifest.PlanName(plan.Snapshot), bytes.NewReader(sealed), archive.PutOptions{})
	if err != nil {
		return fmt.Errorf("snapshot: plan: %w", err)
	}
	return x.use(plan, manifest.Sum(sealed))
}

// takeUp reads the plan of the run to go on with, and makes sure that it still
// fits the tables.
func (x *exporter) takeUp(ctx context.Context) error {
	id, err := x.unfinished(ctx)
	if err != nil {
		return err
	}
	sealed, err := archive.ReadAll(ctx, x.To.Store, manifest.PlanName(id), manifest.MaxPlan)
	if err != nil {
		return fmt.Errorf("snapshot: resume %s: %w", id, err)
	}
	plan, err := manifest.OpenPlan(sealed, x.To.Policy)
	if err != nil {
		return fmt.Errorf("snapshot: resume %s: %w", id, err)
	}
	if plan.Snapshot != id {
		return fmt.Errorf("snapshot: resume %s: its plan is of %s: %w", id, plan.Snapshot, manifest.ErrInvalid)
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
	return x.use(plan, manifest.Sum(sealed))
}

// unfinished resolves Resume to the id of a run without a manifest.
func (x *exporter) unfinished(ctx context.Context) (string, error) {
	ids, err := x.To.Unfinished(ctx)
	if err != nil {
		return "", err
	}
	if x.Resume == "latest" {
		return x.lastUnfinished(ctx, ids)
	}
	if !slices.Contains(ids, x.Resume) {
		return "", fmt.Errorf("snapshot: there is no unfinished export %q: %w", x.Resume, fs.ErrNotExist)
	}
	return x.Resume, nil
}

// lastUnfinished is the newest of the ids, unless a snapshot that began later is
// there already: the rows of the unfinished one would be older than what a reader
// takes for the newest state.
func (x *exporter) lastUnfinished(ctx context.Context, ids []string) (string, error) {
	if len(ids) == 0 {
		return "", fmt.Errorf("snapshot: there is no unfinished export to resume: %w", fs.ErrNotExist)
	}
	id := ids[len(ids)-1]
	chain, err := x.To.Chain(ctx)
	if err != nil {
		return "", err
	}
	for _, e := range chain {
		if e.Manifest.Snapshot > id {
			return "", fmt.Errorf("snapshot: the last unfinished export, %s, is older than snapshot %d, %s; begin a new export, or resume it by its id",
				id, e.Manifest.Seq, e.Manifest.Snapshot)
		}
	}
	return id, nil
}

func (x *exporter) use(plan *manifest.Plan, digest manifest.Hash) error {
	x.plan, x.planHash = plan, digest
	for _, t := range plan.Tables {
		layout, err := row.NewLayout(t.Table.Key, t.Table.Columns)
		if err != nil {
			return inTable(t.Table, err)
		}
		x.layouts = append(x.layouts, layout)
	}
	return nil
}

// ranges exports every range of the plan. The results are by table and range.
func (x *exporter) ranges(ctx context.Context) ([][]rangeResult, error) {
	var total int64
	results := make([][]rangeResult, len(x.plan.Tables))
	for i, t := range x.plan.Tables {
		results[i] = make([]rangeResult, len(t.Ranges))
		total += int64(len(t.Ranges))
	}
	x.progress.begin("export", total)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(x.Workers)
	for i, t := range x.plan.Tables {
		for n := range t.Ranges {
			group.Go(func() error {
				var err error
				if results[i][n], err = x.exportRange(ctx, i, n); err != nil {
					return fmt.Errorf("snapshot: table %s, range %d: %w", t.Table.Name, n, err)
				}
				return nil
			})
		}
	}
	return results, group.Wait()
}

// exportRange returns the range's page, from an earlier run if there is one.
func (x *exporter) exportRange(ctx context.Context, table, n int) (rangeResult, error) {
	result, err := x.finishedRange(ctx, table, n)
	if !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			x.progress.add(x.plan.Tables[table].Table.Name, Event{Done: 1, Rows: result.ref.Totals.Rows, RawBytes: result.ref.Totals.RawBytes})
		}
		return result, err
	}
	chunks, err := x.writeChunks(ctx, table, n)
	if err != nil {
		return rangeResult{}, err
	}
	if err := x.writePage(ctx, table, n, chunks); err != nil && !errors.Is(err, fs.ErrExist) {
		return rangeResult{}, err
	}
	x.progress.add(x.plan.Tables[table].Table.Name, Event{Done: 1})
	// What is stored counts, also where another run of this export was first.
	return x.finishedRange(ctx, table, n)
}

// finishedRange reads the page of a range. None is fs.ErrNotExist.
func (x *exporter) finishedRange(ctx context.Context, table, n int) (rangeResult, error) {
	t := x.plan.Tables[table]
	name := manifest.PageName(x.plan.Snapshot, t.Table.Name, int64(n))
	sealed, err := archive.ReadAll(ctx, x.To.Store, name, manifest.MaxPage)
	if err != nil {
		return rangeResult{}, err
	}
	page, err := manifest.OpenPage(sealed, x.To.Policy)
	if err != nil {
		return rangeResult{}, fmt.Errorf("%s: %w", name, err)
	}
	ref := page.Ref(sealed)
	ref.Range, ref.From, ref.To = int64(n), t.Ranges[n].From, t.Ranges[n].To
	m := &manifest.Manifest{Archive: x.To.Policy.ID(), Snapshot: x.plan.Snapshot}
	if err := page.Matches(m, manifest.TableEntry{Table: t.Table}, ref); err != nil {
		return rangeResult{}, fmt.Errorf("%s: %w", name, err)
	}
	return rangeResult{ref: ref, page: page}, nil
}

func (x *exporter) writePage(ctx context.Context, table, n int, chunks []manifest.Chunk) error {
	t := x.plan.Tables[table]
	page := &manifest.Page{
		Format: x.plan.Format, Archive: x.To.Policy.ID(), Snapshot: x.plan.Snapshot,
		Table: t.Table.Name, Range: int64(n), From: t.Ranges[n].From, To: t.Ranges[n].To, Chunks: chunks,
	}
	for _, c := range chunks {
		page.Totals.Add(c.Totals())
	}
	sealed, err := manifest.SealPage(ctx, page, x.Signers[0])
	if err != nil {
		return fmt.Errorf("page: %v", err)
	}
	return x.To.Store.Put(ctx, manifest.PageName(x.plan.Snapshot, t.Table.Name, int64(n)), bytes.NewReader(sealed), archive.PutOptions{})
}

// writeChunks scans a range into chunks. A chunk ends with the row group that
// makes it reach ChunkBytes, so the same rows under the same plan are cut the
// same way. Scanning, encoding, and reading back and storing go on side by side,
// each one step ahead of the next.
func (x *exporter) writeChunks(ctx context.Context, table, n int) ([]manifest.Chunk, error) {
	w := &chunkWriter{
		exporter: x, table: x.plan.Tables[table].Table, layout: x.layouts[table], rng: int64(n),
		scanned: make(chan row.Batch), encoded: make(chan encodedChunk),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.scan(ctx, x.plan.Tables[table].Ranges[n]) })
	group.Go(func() error { return w.encode(ctx) })
	group.Go(func() error { return w.keep(ctx) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return w.chunks, nil
}

// chunkWriter cuts the batches of a range into stored chunks.
type chunkWriter struct {
	*exporter
	table   manifest.Table
	layout  row.Layout
	rng     int64
	scanned chan row.Batch
	encoded chan encodedChunk

	attempt int64
	chunks  []manifest.Chunk
}

// encodedChunk is a chunk that is not stored yet.
type encodedChunk struct {
	data  []byte
	chunk manifest.Chunk
}

// send passes a value on to the next step, unless that has ended.
func send[T any](ctx context.Context, to chan<- T, value T) error {
	select {
	case to <- value:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// received yields what the step before passes on. It ends well only when that
// step has said so by closing the channel; if it failed, ctx is done.
func received[T any](ctx context.Context, from <-chan T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			select {
			case value, ok := <-from:
				if !ok || !yield(value, nil) {
					return
				}
			case <-ctx.Done():
				var none T
				yield(none, ctx.Err())
				return
			}
		}
	}
}

func (w *chunkWriter) scan(ctx context.Context, r manifest.Range) error {
	scan := Scan{Table: w.table, Layout: w.layout, From: r.From, To: r.To, Rows: w.plan.GroupRows, Bytes: w.plan.GroupBytes}
	for batch, err := range w.From.Scan(ctx, scan) {
		if err != nil {
			return err
		}
		w.progress.add(w.table.Name, Event{Rows: int64(len(batch.Leaves)), RawBytes: batch.Bytes})
		if err := send(ctx, w.scanned, batch); err != nil {
			return err
		}
	}
	close(w.scanned)
	return nil
}

func (w *chunkWriter) encode(ctx context.Context) error {
	var open *archive.Writer
	var raw, rows int64
	for batch, err := range received(ctx, w.scanned) {
		if err != nil {
			return err
		}
		if open == nil {
			open, err = archive.NewWriter(w.layout, archive.Meta{Table: w.table.Name, Snapshot: w.plan.Snapshot})
			if err != nil {
				return err
			}
		}
		if err := open.Write(batch); err != nil {
			return err
		}
		raw += batch.Bytes
		rows += int64(len(batch.Leaves))
		if raw < w.plan.ChunkBytes && rows+w.plan.GroupRows <= manifest.MaxChunkRows {
			continue
		}
		if err := w.pass(ctx, open); err != nil {
			return err
		}
		open, raw, rows = nil, 0, 0
	}
	if open != nil {
		if err := w.pass(ctx, open); err != nil {
			return err
		}
	}
	close(w.encoded)
	return nil
}

func (w *chunkWriter) pass(ctx context.Context, open *archive.Writer) error {
	data, chunk, err := open.Close()
	if err != nil {
		return err
	}
	return send(ctx, w.encoded, encodedChunk{data, chunk})
}

// keep reads each chunk back, stores it, and only then counts it.
func (w *chunkWriter) keep(ctx context.Context) error {
	for e, err := range received(ctx, w.encoded) {
		if err != nil {
			return err
		}
		if err := archive.Check(ctx, e.data, w.layout, e.chunk); err != nil {
			return fmt.Errorf("chunk %d does not read back as it was written: %w", len(w.chunks), err)
		}
		if e.chunk.Name, err = w.store(ctx, e.data); err != nil {
			return err
		}
		w.chunks = append(w.chunks, e.chunk)
		w.progress.add(w.table.Name, Event{StoredBytes: e.chunk.Size})
	}
	return nil
}

// store puts a chunk under the next name of the range. Where an earlier run
// left other bytes under that name, as it may when rows changed in between, the
// chunk and those after it get the names of a new attempt: an object may be
// locked, and the page of a rival run may name it.
func (w *chunkWriter) store(ctx context.Context, data []byte) (string, error) {
	for {
		name := manifest.ChunkName(w.rng, w.attempt, int64(len(w.chunks)))
		object := manifest.ChunkObject(w.plan.Snapshot, w.table.Name, manifest.Chunk{Name: name}).Name
		err := put(ctx, w.To.Store, object, data)
		if !errors.Is(err, fs.ErrExist) {
			return name, err
		}
		w.attempt++
	}
}

// commit makes the results a snapshot, unless a rival run of the same export
// has done so.
func (x *exporter) commit(ctx context.Context, results [][]rangeResult) (Entry, error) {
	x.progress.begin("commit", 1)
	if err := x.complete(ctx, results); err != nil {
		return Entry{}, err
	}
	m := x.manifest(results)
	for {
		chain, err := x.To.Chain(ctx)
		if err != nil {
			return Entry{}, err
		}
		for _, e := range chain {
			if e.Manifest.Snapshot == m.Snapshot {
				return e, nil
			}
		}
		m.Seq, m.Prev = int64(len(chain))+1, manifest.Hash{}
		if len(chain) > 0 {
			m.Prev = chain[len(chain)-1].Digest
		}
		m.Finished = stamp(x.Now)
		if m.Finished.Before(m.Started.Time) {
			m.Finished = m.Started // the clock was set back, or is another host's
		}
		sealed, err := manifest.Seal(ctx, m, x.Signers...)
		if err != nil {
			// Not %w: what this program cannot seal is no damage to the archive.
			return Entry{}, fmt.Errorf("snapshot: seal manifest %d: %v", m.Seq, err)
		}
		err = put(ctx, x.To.Store, manifest.ManifestName(m.Seq), sealed)
		if errors.Is(err, fs.ErrExist) {
			continue // another exporter took this number
		}
		if err != nil {
			return Entry{}, fmt.Errorf("snapshot: store manifest %d: %w", m.Seq, err)
		}
		x.progress.add("", Event{Done: 1})
		return Entry{Manifest: m, Digest: manifest.Sum(sealed), Size: int64(len(sealed))}, nil
	}
}

// complete makes sure that every object the manifest will stand for is there.
func (x *exporter) complete(ctx context.Context, results [][]rangeResult) error {
	sizes, err := listSizes(ctx, x.To.Store, snapshotPrefix(x.plan.Snapshot))
	if err != nil {
		return err
	}
	for _, object := range x.objects(results) {
		size, ok := sizes[object.Name]
		if !ok {
			return fmt.Errorf("snapshot: commit: %s: %w", object.Name, ErrMissing)
		}
		if object.Size >= 0 && size != object.Size {
			return fmt.Errorf("snapshot: commit: %s has %d bytes, not %d: %w", object.Name, size, object.Size, archive.ErrCorrupt)
		}
	}
	return nil
}

// objects lists what the snapshot is made of, its manifest aside.
func (x *exporter) objects(results [][]rangeResult) []manifest.Object {
	planned := manifest.Manifest{Snapshot: x.plan.Snapshot, Plan: x.planHash}
	objects := []manifest.Object{planned.PlanObject()}
	for i, ranges := range results {
		name := x.plan.Tables[i].Table.Name
		for n, r := range ranges {
			objects = append(objects, manifest.Object{
				Name: manifest.PageName(x.plan.Snapshot, name, int64(n)), Size: r.ref.Size, SHA256: r.ref.SHA256,
			})
			for _, c := range r.page.Chunks {
				objects = append(objects, manifest.ChunkObject(x.plan.Snapshot, name, c))
			}
		}
	}
	return objects
}

// manifest states the results, with the place in the chain left open.
func (x *exporter) manifest(results [][]rangeResult) *manifest.Manifest {
	m := &manifest.Manifest{
		Format:      x.plan.Format,
		Archive:     x.To.Policy.ID(),
		Policy:      x.To.Policy.ID(),
		Snapshot:    x.plan.Snapshot,
		Tool:        x.Tool,
		Build:       x.Build,
		Instance:    x.plan.Instance,
		Started:     x.plan.Started,
		Consistency: manifest.Consistency{Kind: "window", Positions: []string{}},
		Plan:        x.planHash,
		Retention:   manifest.Retention{Mode: "none"},
	}
	for i, ranges := range results {
		entry := manifest.TableEntry{Table: x.plan.Tables[i].Table}
		var tree manifest.Tree
		for _, r := range ranges {
			entry.Pages = append(entry.Pages, r.ref)
			entry.Totals.Add(r.ref.Totals)
			for _, line := range r.page.Lines() {
				tree.Add(manifest.LeafHash(line))
			}
		}
		entry.Root = tree.Root()
		m.Tables = append(m.Tables, entry)
		m.Totals.Add(entry.Totals)
	}
	return m
}

// sweep removes what dead runs of this export left behind: with the snapshot
// committed, no page can name those objects any more. Objects that are retained
// stay, and so does everything if the store fails: the snapshot stands without
// this, and verify names what is left over.
func (x *exporter) sweep(ctx context.Context, results [][]rangeResult) {
	named := map[string]bool{}
	for _, object := range x.objects(results) {
		named[object.Name] = true
	}
	for object, err := range x.To.Store.List(ctx, snapshotPrefix(x.plan.Snapshot)) {
		if err != nil {
			return
		}
		if !named[object.Name] && strings.HasSuffix(object.Name, ".parquet") {
			_ = x.To.Store.Delete(ctx, object.Name)
		}
	}
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
