package snapshot_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// clock is a time that moves when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now().UTC().Truncate(time.Second)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// counting counts what a vault is asked for.
type counting struct {
	*archivetest.Vault
	mu    sync.Mutex
	asked map[string]int
}

func (c *counting) Thaw(ctx context.Context, name string, days int, tier string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked == nil {
		c.asked = map[string]int{}
	}
	c.asked[name]++
	return c.Vault.Thaw(ctx, name, days, tier)
}

// coldCopy is the original in a vault where some objects are frozen and take two
// hours to thaw.
func coldCopy(t *testing.T, o *original, frozen func(name string) bool) (*counting, *clock) {
	t.Helper()
	c := newClock()
	v := &archivetest.Vault{Now: c.Now, ThawTime: 2 * time.Hour}
	return &counting{Vault: frozenVault(t, v, o.objects, frozen)}, c
}

func names(objects []snapshot.ThawObject, states ...string) []string {
	var all []string
	for _, o := range objects {
		if len(states) == 0 || slices.Contains(states, o.State) {
			all = append(all, o.Name)
		}
	}
	return all
}

// TestThawListsExactlyWhatARestoreReads watches a restore to know.
func TestThawListsExactlyWhatARestoreReads(t *testing.T) {
	s := newService(t)
	fillRagged(t, s.client("source"))
	fillPlain(t, s.client("source"), "plain", 500)
	store := new(archivetest.Vault)
	a, key := newArchive(t, store)
	for range 2 {
		export(t, s, a, key, "ragged", "plain")
	}
	for target, tables := range map[string][]string{"t-all": nil, "t-one": {"plain"}} {
		var mu sync.Mutex
		read := map[string]bool{}
		watched := &archivetest.Faulty{Store: store, Cue: func(c archivetest.Call) archivetest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if c.Op == "get" {
				read[c.Name] = true
			}
			return archivetest.None
		}}
		run := restoring(t, s, open(t, watched, a.Trust), target)
		run.Tables, run.Snapshot = tables, "1"
		if _, err := run.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		report, err := snapshot.Thaw{Store: store, Trust: a.Trust, Snapshots: []string{"1"}, Tables: tables}.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, want := names(report.Objects), slices.Sorted(maps.Keys(read))
		if !slices.Equal(got, want) {
			t.Errorf("%s: listed\n %s\nread\n %s", target, strings.Join(got, "\n "), strings.Join(want, "\n "))
		}
		if report.Total.Objects != int64(len(want)) || report.Seq != 1 || !report.Ready() {
			t.Errorf("%s: %d objects of snapshot %d, ready %v", target, report.Total.Objects, report.Seq, report.Ready())
		}
	}
}

func TestWhatIsFrozenIsAskedForOnceAndThenReadable(t *testing.T) {
	o := newOriginal(t)
	v, c := coldCopy(t, o, isChunk)
	run := snapshot.Thaw{Store: v, Trust: o.Trust, Tables: []string{"plain"}, Days: 4, Now: c.Now}
	var cold []string
	var bytes int64
	for _, name := range o.of(3, ".parquet") {
		if strings.Contains(name, "/plain/") {
			cold = append(cold, name)
			bytes += int64(len(o.objects[name]))
		}
	}

	look, err := run.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := names(look.Objects, "frozen"); !slices.Equal(got, cold) || look.Frozen.Bytes != bytes || look.Ready() {
		t.Errorf("frozen are %d bytes in\n %s\nwant %d in\n %s", look.Frozen.Bytes, strings.Join(got, "\n "), bytes, strings.Join(cold, "\n "))
	}
	want := []snapshot.ThawClass{
		{Class: archivetest.ClassArchive, Total: look.Frozen, Frozen: look.Frozen},
		{Class: archivetest.ClassStandard, Total: snapshot.Count{Objects: look.Total.Objects - look.Frozen.Objects, Bytes: look.Total.Bytes - look.Frozen.Bytes}},
	}
	if !slices.Equal(look.Classes, want) {
		t.Errorf("classes %+v, want %+v", look.Classes, want)
	}
	if len(v.asked) > 0 || look.Asked.Objects != 0 {
		t.Error("a look asked for objects")
	}

	for range 2 {
		asked, err := run.Ask(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := names(asked.Objects, "thawing"); !slices.Equal(got, cold) || asked.Ready() || asked.Frozen.Objects != 0 {
			t.Errorf("thawing are %q, want %q", got, cold)
		}
	}
	if got := slices.Sorted(maps.Keys(v.asked)); !slices.Equal(got, cold) {
		t.Errorf("asked for %q, want %q", got, cold)
	}
	for _, name := range cold {
		if v.asked[name] != 1 {
			t.Errorf("asked %d times for %s", v.asked[name], name)
		}
	}

	c.forward(3 * time.Hour)
	thawed, err := run.Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if until := c.Now().Add(-time.Hour).AddDate(0, 0, 4); !thawed.Ready() || thawed.Until == nil || !thawed.Until.Equal(until) {
		t.Errorf("ready %v, until %v, want %v", thawed.Ready(), thawed.Until, until)
	}
	if thawed.Asked.Objects != 0 || thawed.Thawed.Objects != int64(len(cold)) {
		t.Errorf("%d asked for, %d thawed; want 0, %d", thawed.Asked.Objects, thawed.Thawed.Objects, len(cold))
	}
	// What freezes within half of the days is asked for again.
	c.forward(60 * time.Hour)
	if again, err := run.Ask(t.Context()); err != nil || again.Asked.Objects != int64(len(cold)) || again.Until.Before(c.Now().AddDate(0, 0, 4)) {
		t.Errorf("%d asked for again, until %v, %v; want %d", again.Asked.Objects, again.Until, err, len(cold))
	}
	c.forward(5 * 24 * time.Hour)
	if look, err = run.Look(t.Context()); err != nil || look.Frozen.Objects != int64(len(cold)) {
		t.Errorf("after the days %d are frozen, %v; want %d", look.Frozen.Objects, err, len(cold))
	}
}

func TestWaitingEndsWhenAllIsReadable(t *testing.T) {
	o := newOriginal(t)
	for what, frozen := range map[string]func(string) bool{
		"chunks": isChunk,
		"pages":  func(name string) bool { return strings.HasPrefix(name, "snapshots/") },
		"all":    func(string) bool { return true },
	} {
		t.Run(what, func(t *testing.T) {
			v, c := coldCopy(t, o, frozen)
			var pauses []time.Duration
			run := snapshot.Thaw{Store: v, Trust: o.Trust, Now: c.Now, Pause: func(_ context.Context, d time.Duration) error {
				pauses = append(pauses, d)
				c.forward(d)
				return nil
			}}
			report, err := run.Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !report.Ready() || !report.Known || report.Seq != 3 {
				t.Errorf("ready %v, known %v, snapshot %d", report.Ready(), report.Known, report.Seq)
			}
			if pauses[0] != 30*time.Second || pauses[len(pauses)-1] != 10*time.Minute || len(pauses) > 40 {
				t.Errorf("%d pauses from %s to %s", len(pauses), pauses[0], pauses[len(pauses)-1])
			}
			for name, n := range v.asked {
				if n != 1 {
					t.Errorf("asked %d times for %s", n, name)
				}
			}
			a := open(t, v, o.Trust)
			if _, err := (snapshot.Verify{Archive: a, Snapshot: "3", Level: snapshot.Rows}).Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSeveralSnapshotsAreThawedAtOnce(t *testing.T) {
	o := newOriginal(t)
	v, c := coldCopy(t, o, isChunk)
	run := snapshot.Thaw{Store: v, Trust: o.Trust, Now: c.Now}
	for _, wanted := range []struct {
		snapshots []string
		all       bool
		want      []int
	}{
		{[]string{"3", "1"}, false, []int{1, 3}},
		{[]string{"1"}, true, []int{1, 2, 3}},
	} {
		run.Snapshots, run.All = wanted.snapshots, wanted.all
		report, err := run.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, seq := range wanted.want {
			want = append(want, o.of(seq, ".parquet")...)
		}
		if got := names(report.Objects, "frozen"); !slices.Equal(got, slices.Sorted(slices.Values(want))) || report.Snapshots != int64(len(wanted.want)) || report.Seq != 3 {
			t.Errorf("%d frozen in %d snapshots up to %d, want %d", len(got), report.Snapshots, report.Seq, len(want))
		}
	}
}

func TestFrozenPagesDoNotMakeAnyoneWaitTwice(t *testing.T) {
	o := newOriginal(t)
	v, c := coldCopy(t, o, func(name string) bool { return strings.HasPrefix(name, "snapshots/") })
	report, err := snapshot.Thaw{Store: v, Trust: o.Trust, Snapshots: []string{"2"}, Now: c.Now}.Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(report.Objects, "thawing"), o.of(2, ""); !slices.Equal(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
	if len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "table plain: pages are in an archive tier") {
		t.Errorf("notes %q", report.Notes)
	}
}

func TestAWaitThatIsInterruptedIsTakenUp(t *testing.T) {
	o := newOriginal(t)
	v, c := coldCopy(t, o, isChunk)
	run := snapshot.Thaw{Store: v, Trust: o.Trust, Now: c.Now, Pause: func(ctx context.Context, _ time.Duration) error { return context.Canceled }}
	if _, err := run.Wait(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	c.forward(3 * time.Hour)
	report, err := run.Wait(t.Context())
	if err != nil || !report.Ready() || report.Asked.Objects != 0 {
		t.Errorf("%v; ready %v, %d asked for", err, report.Ready(), report.Asked.Objects)
	}
}

func TestARestoreOfFrozenChunksSaysSoAndWorksAfterThawing(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 300)
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	export(t, s, a, key, "plain")
	v := frozenVault(t, new(archivetest.Vault), contents(t, store), isChunk)
	cold := open(t, v, a.Trust)
	if _, err := restoring(t, s, cold, "target").Run(t.Context()); !errors.Is(err, archive.ErrFrozen) || isVerdict(err) {
		t.Fatalf("got %v, want ErrFrozen", err)
	}
	if _, err := (snapshot.Thaw{Store: v, Trust: a.Trust, Tier: "Expedited"}).Ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := restoring(t, s, cold, "target").Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAStoreWithoutTiersNeedsNoThawing(t *testing.T) {
	o := newOriginal(t)
	report, err := snapshot.Thaw{Store: o.store, Trust: o.Trust}.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !report.Ready() || len(report.Tiers) != 0 || len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "no archive tiers") {
		t.Errorf("ready %v, tiers %q, notes %q", report.Ready(), report.Tiers, report.Notes)
	}
	v, c := coldCopy(t, o, isChunk)
	if report, err = (snapshot.Thaw{Store: untiered{v, v}, Trust: o.Trust, Now: c.Now}).Look(t.Context()); err != nil || report.Ready() || len(report.Notes) > 0 {
		t.Errorf("what is frozen where nobody can ask for it: ready %v, notes %q, %v", report.Ready(), report.Notes, err)
	}
}

// TestThawNamesMissingObjectsAndNoEndOfThem.
func TestThawNamesMissingObjectsAndNoEndOfThem(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 12000)
	vault := new(archivetest.Vault)
	a, key := newArchive(t, vault)
	run := exporting(t, s, a, key, "plain")
	run.ChunkBytes = 16 << 10
	e, err := first(run.Run(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	missing := 0
	for _, name := range vault.Names() {
		if !isChunk(name) {
			continue
		}
		vault.Erase(name)
		if missing++; missing != 7 && missing != 110 {
			continue
		}
		report, err := snapshot.Thaw{Store: vault, Trust: a.Trust}.Look(t.Context())
		if !errors.Is(err, snapshot.ErrMissing) || report == nil || len(report.Problems) != min(missing, 101) {
			t.Fatalf("%d objects are missing: got %v, %d problems", missing, err, len(report.Problems))
		}
	}
	if missing != int(e.Manifest.Totals.Chunks) || missing < 110 {
		t.Errorf("%d chunks", missing)
	}
}

func TestThawRefusesWhatCannotBe(t *testing.T) {
	o := newOriginal(t)
	v, c := coldCopy(t, o, isChunk)
	good := snapshot.Thaw{Store: v, Trust: o.Trust, Now: c.Now}
	for what, change := range map[string]func(*snapshot.Thaw){
		"tier":     func(r *snapshot.Thaw) { r.Tier = "Yesterday" },
		"days":     func(r *snapshot.Thaw) { r.Days = -1 },
		"snapshot": func(r *snapshot.Thaw) { r.Snapshots = []string{"9"} },
		"table":    func(r *snapshot.Thaw) { r.Tables = []string{"orders"} },
		"trust":    func(r *snapshot.Thaw) { r.Trust.Archive = manifest.Sum(nil) },
		"tiers":    func(r *snapshot.Thaw) { r.Store = untiered{v, v} },
	} {
		run := good
		change(&run)
		if _, err := run.Ask(t.Context()); err == nil || len(v.asked) > 0 {
			t.Errorf("%s: got %v, %d objects asked for", what, err, len(v.asked))
		}
	}
	name := o.of(3, ".parquet")[0]
	v.Erase(name)
	page := o.of(3, "ragged/r0000.dsse.json")[0]
	v.Erase(page)
	report, err := good.Ask(t.Context())
	if !errors.Is(err, snapshot.ErrMissing) || len(report.Problems) != 2 || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), page) {
		t.Errorf("got %v; problems %q", err, report.Problems)
	}
	if report.Thawing.Objects == 0 {
		t.Error("what is there was not asked for")
	}
}

// untiered is a store that says what is frozen and cannot be asked for it.
type untiered struct {
	archive.Store
	archive.Inspector
}
