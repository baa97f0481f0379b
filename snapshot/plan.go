package snapshot

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

const (
	planners     = 8   // tables described at once; the service allows 10 table calls a second
	samplePlaces = 16  // places across the key space a sample is taken from
	sampleRows   = 256 // rows at each
	maxColumns   = 256 // attributes with a column of their own

	// maxRanges is how many ranges the tables of a snapshot have at most. A
	// manifest of manifest.MaxManifest bytes has room for about 9,000 whose keys
	// are of the usual length.
	maxRanges = 4096
)

// newPlan describes the tables, cuts them into ranges, and settles by a sample
// which attributes have a column of their own. What is each archive's own is left
// open.
func (x *exporter) newPlan(ctx context.Context) (*manifest.Plan, error) {
	names := slices.Clone(x.Tables)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return nil, errors.New("snapshot: an export needs at least one table")
	}
	started := x.Now().UTC().Truncate(time.Second)
	plan := &manifest.Plan{
		Format: manifest.Format, Snapshot: newSnapshotID(started),
		Tool: x.Tool, Instance: x.From.Instance(), Started: manifest.Time{Time: started},
		ChunkBytes: x.ChunkBytes, GroupBytes: min(groupBytes, x.ChunkBytes), GroupRows: groupRows,
		Tables: make([]manifest.PlanTable, len(names)),
	}
	x.progress.begin("plan", int64(len(names)))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(planners)
	for i, name := range names {
		group.Go(func() error {
			var err error
			if plan.Tables[i], err = x.planTable(ctx, name); err != nil {
				return fmt.Errorf("snapshot: table %s: %w", name, err)
			}
			x.progress.add(name, Event{Done: 1})
			return nil
		})
	}
	return plan, group.Wait()
}

func (x *exporter) planTable(ctx context.Context, name string) (manifest.PlanTable, error) {
	table, err := x.From.Describe(ctx, name)
	if err != nil {
		return manifest.PlanTable{}, err
	}
	table.Columns = []manifest.Column{}
	splits, err := x.From.Split(ctx, table, x.SplitBytes)
	if err != nil {
		return manifest.PlanTable{}, err
	}
	ranges := cut(thin(splits, maxRanges/len(x.Tables)-1))
	if table.Columns, err = x.columns(ctx, table, ranges); err != nil {
		return manifest.PlanTable{}, err
	}
	return manifest.PlanTable{Table: table, Ranges: ranges}, nil
}

// thin leaves at most limit boundaries, evenly: the manifest names every range,
// and has a limit.
func thin(boundaries []manifest.Key, limit int) []manifest.Key {
	if len(boundaries) <= limit {
		return boundaries
	}
	kept := make([]manifest.Key, limit)
	for i := range kept {
		kept[i] = boundaries[(i+1)*len(boundaries)/(limit+1)]
	}
	return kept
}

// cut makes the ranges between the inner boundaries of a table.
func cut(boundaries []manifest.Key) []manifest.Range {
	var ranges []manifest.Range
	from := manifest.Key{}
	for _, to := range boundaries {
		ranges = append(ranges, manifest.Range{From: from, To: to})
		from = to
	}
	return append(ranges, manifest.Range{From: from, To: manifest.Key{}})
}

// columns chooses the attributes with a column of their own, from those that
// are predefined and those that are frequent in a sample across the key space.
// The sample is scanned under a layout without columns, so that every cell is
// seen by name.
func (x *exporter) columns(ctx context.Context, table manifest.Table, ranges []manifest.Range) ([]manifest.Column, error) {
	layout, err := row.NewLayout(table.Key, nil)
	if err != nil {
		return nil, err
	}
	var tally row.Tally
	step := (len(ranges) + samplePlaces - 1) / samplePlaces
	for i := 0; i < len(ranges); i += step {
		scan := Scan{Table: table, Layout: layout, From: ranges[i].From, To: ranges[i].To, Bytes: groupBytes, Limit: sampleRows}
		for batch, err := range x.From.Scan(ctx, scan) {
			if err != nil {
				return nil, err
			}
			if err := tally.Add(batch); err != nil {
				return nil, err
			}
		}
	}
	return row.Choose(table.Key, table.Defined, tally.Counts(), maxColumns), nil
}

// samePlan reports whether two plans of a snapshot differ only in what is an
// archive's own.
func samePlan(a, b *manifest.Plan) bool {
	c, d := *a, *b
	c.Archive, c.Retention, c.Tool = d.Archive, d.Retention, d.Tool
	return reflect.DeepEqual(&c, &d)
}

// sameKey reports whether two primary keys hold the same values, whoever chose
// those.
func sameKey(a, b []manifest.KeyColumn) bool {
	return slices.EqualFunc(a, b, func(a, b manifest.KeyColumn) bool {
		return a.Name == b.Name && a.Type == b.Type
	})
}
