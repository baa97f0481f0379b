package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// thawOptions are the flags of thaw.
type thawOptions struct {
	archive   archiveFlags
	snapshots []string
	tables    []string
	days      int
	tier      string
	yes, wait bool
}

func (a *app) thawCommand() *cobra.Command {
	var o thawOptions
	cmd := &cobra.Command{
		Use:   "thaw ARCHIVE",
		Short: "Make objects in an archive tier readable for a while",
		Long: `Make objects in an archive tier readable for a while, as a restore or a
verification needs them (S3: GLACIER, DEEP_ARCHIVE; OSS: Archive, ColdArchive,
DeepColdArchive).

First it shows what would be read, what of that is frozen, and for how many days
and how fast it would be asked for; that is all it does without --yes, for thawing
costs money. With --yes it asks for what is frozen, once: what is thawing already,
or stays readable for more than half of the days, is not asked for again. Services
take minutes to two days. --wait waits for that; else come back with the same
command, from any machine. The exit code is 18 until everything can be read.`,
		Example: `  otsnap thaw 's3://BUCKET/shop?region=eu-central-1'
  otsnap thaw 's3://BUCKET/shop?region=eu-central-1' --table orders --days 3 --tier Bulk --yes
  otsnap thaw 's3://BUCKET/shop?region=eu-central-1' --snapshot all --yes --wait`,
		Args: arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.days < 1 {
				return usage(cmd, "--days %d: at least one", o.days)
			}
			if o.wait && !o.yes {
				return usage(cmd, "--wait waits for what --yes asks for: say both")
			}
			return a.thaw(cmd.Context(), args[0], o)
		},
	}
	o.archive.addTrust(cmd)
	cmd.Flags().StringArrayVar(&o.snapshots, "snapshot", nil, "snapshot `ID`, the start of one, its number, latest, or all (repeat for more; default: the newest)")
	addTableFlag(cmd, &o.tables)
	cmd.Flags().IntVar(&o.days, "days", snapshot.DefaultThawDays, "`NUMBER` of days for which objects stay readable")
	cmd.Flags().StringVar(&o.tier, "tier", "", "how fast, in the store's `WORD`: it is shown which there are (default: the store's usual one)")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "ask for what is frozen")
	cmd.Flags().BoolVar(&o.wait, "wait", false, "wait until everything can be read")
	return cmd
}

func (a *app) thaw(ctx context.Context, location string, o thawOptions) error {
	where, err := locate(location)
	if err != nil {
		return err
	}
	run, err := a.thawing(ctx, where, o)
	if errors.Is(err, fs.ErrNotExist) {
		return where.noArchive(location, fmt.Errorf("there is no archive: %w", err))
	}
	if err != nil {
		return err
	}
	report, err := a.watched(ctx, run, snapshot.Thaw.Look)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !snapshot.Exists(ctx, run.Store):
		return where.noArchive(location, err)
	case err != nil && report == nil:
		return fmt.Errorf("%s: %w", where.name, err)
	case err != nil || report.Ready() || !o.yes:
		return a.looked(report, err)
	}
	if !a.json && !a.quiet {
		printThaw(a.stdout, report)
	}
	a.resume = "what was asked for goes on thawing: come back with the same command"
	ask := snapshot.Thaw.Ask
	if o.wait {
		ask = snapshot.Thaw.Wait
	}
	report, err = a.watched(ctx, run, ask)
	if report == nil {
		return fmt.Errorf("%s: %w", where.name, err)
	}
	return a.asked(report, err)
}

// watched lets a step of the run show how far it is.
func (a *app) watched(ctx context.Context, run snapshot.Thaw, step func(snapshot.Thaw, context.Context) (*snapshot.ThawReport, error)) (*snapshot.ThawReport, error) {
	shown := a.reporter()
	defer shown.Close()
	run.Progress = shown.Event
	return step(run, ctx)
}

// thawing is the run the flags ask for. It does not open the archive, whose
// policy may be frozen too.
func (a *app) thawing(ctx context.Context, where place, o thawOptions) (snapshot.Thaw, error) {
	store, err := where.open(ctx, storeOptions{giveUpAfter: o.archive.giveUpAfter.Duration, onRetry: a.retried})
	if err != nil {
		return snapshot.Thaw{}, err
	}
	if err := checkTier(store, o.tier); err != nil {
		return snapshot.Thaw{}, err
	}
	file, err := a.trustFile(where, o.archive.trust)
	if err != nil {
		return snapshot.Thaw{}, err
	}
	trust, err := file.load(o.archive.id)
	if err != nil {
		return snapshot.Thaw{}, fmt.Errorf("archive %s: %w", where.name, err)
	}
	return snapshot.Thaw{
		Store: store, Trust: trust, Snapshots: o.snapshots, All: slices.Contains(o.snapshots, "all"), Tables: o.tables,
		Days: o.days, Tier: o.tier, Now: a.now,
	}, nil
}

func checkTier(store archive.Store, tier string) error {
	if tier == "" {
		return nil
	}
	thawer, ok := store.(archive.Thawer)
	if !ok || len(thawer.Tiers()) == 0 {
		return misused("--tier %s: this kind of store has no archive tiers, and needs no thawing", tier)
	}
	if !slices.Contains(thawer.Tiers(), tier) {
		return misused("--tier %s: the store has %s", tier, strings.Join(thawer.Tiers(), ", "))
	}
	return nil
}

// looked tells what a look has found, and how to go on.
func (a *app) looked(report *snapshot.ThawReport, err error) error {
	told := a.toldThaw(report, err, func(w io.Writer) {
		printThaw(w, report)
		printThawNotes(w, report)
		switch {
		case err != nil:
		case report.Ready():
			fmt.Fprintln(w, "ready: everything can be read now")
		case report.Frozen.Objects > 0:
			fmt.Fprintln(w, "nothing was asked for")
		default:
			fmt.Fprintln(w, "everything was asked for; it is not there yet")
		}
	})
	if told == nil && report.Frozen.Objects > 0 {
		return advise(notReady(report), "to ask for what is frozen, say --yes as well")
	}
	return waiting(told, report)
}

// asked tells what was asked for.
func (a *app) asked(report *snapshot.ThawReport, err error) error {
	return waiting(a.toldThaw(report, err, func(w io.Writer) {
		fmt.Fprintf(w, "asked for: %s, %s, for %s, %s\n", console.Count(report.Asked.Objects, "object"), console.Bytes(report.Asked.Bytes),
			console.Count(report.Days, "day"), atTier(report.Tier))
		fmt.Fprintf(w, "ready: %s of %s\n", console.Number(readable(report)), console.Count(report.Total.Objects, "object"))
		printUntil(w, report)
		printThawNotes(w, report)
	}), report)
}

func readable(r *snapshot.ThawReport) int64 {
	return r.Total.Objects - r.Frozen.Objects - r.Thawing.Objects
}

// notReady is an error while not everything can be read.
func notReady(r *snapshot.ThawReport) error {
	return labelled{fmt.Errorf("%s of %s can be read", console.Number(readable(r)), console.Count(r.Total.Objects, "object")), archive.ErrFrozen}
}

// waiting is the outcome of a run after which nothing is left but to wait.
func waiting(outcome error, r *snapshot.ThawReport) error {
	if outcome != nil || r.Ready() {
		return outcome
	}
	return advise(fmt.Errorf("%w; the others are thawing", notReady(r)), "come back with the same command in a while, or let it --wait: nothing is asked for twice")
}

// toldThaw prints a report as the user wants it, and returns the error of the run.
func (a *app) toldThaw(report *snapshot.ThawReport, outcome error, text func(io.Writer)) error {
	for i, problem := range report.Problems {
		report.Problems[i] = sentence(problem)
	}
	if err := a.answer(report, text); err != nil {
		return err
	}
	return outcome
}

// printThaw shows what is read and what of it is frozen.
func printThaw(w io.Writer, r *snapshot.ThawReport) {
	var t console.Table
	t.Row("class", "objects", "size", "frozen", "size", "thawing", "size", "thawed", "size")
	for _, c := range r.Classes {
		row := []string{className(c.Class)}
		for _, n := range []snapshot.Count{c.Total, c.Frozen, c.Thawing, c.Thawed} {
			row = append(row, console.Number(n.Objects), console.Bytes(n.Bytes))
		}
		t.Row(row...)
	}
	t.Print(w)
	what := "the policy and the manifests are"
	if r.Known {
		what = fmt.Sprintf("a restore of %s up to number %d, %s, reads", console.Count(r.Snapshots, "snapshot"), r.Seq, console.Count(len(r.Tables), "table"))
	}
	fmt.Fprintf(w, "%s %s, %s\n", what, console.Count(r.Total.Objects, "object"), console.Bytes(r.Total.Bytes))
	if r.Frozen.Objects > 0 {
		fmt.Fprintf(w, "to ask for: %s, %s, for %s, %s\n", console.Count(r.Frozen.Objects, "object"), console.Bytes(r.Frozen.Bytes),
			console.Count(r.Days, "day"), atTier(r.Tier))
	}
	if len(r.Tiers) > 0 {
		fmt.Fprintf(w, "tiers: %s, fastest first\n", strings.Join(r.Tiers, ", "))
	}
	if r.Thawing.Objects > 0 {
		fmt.Fprintf(w, "asked for before, and thawing: %s, %s\n", console.Count(r.Thawing.Objects, "object"), console.Bytes(r.Thawing.Bytes))
	}
	printUntil(w, r)
}

func printUntil(w io.Writer, r *snapshot.ThawReport) {
	if r.Until != nil {
		fmt.Fprintf(w, "thawed: %s, until %s at least\n", console.Count(r.Thawed.Objects, "object"), r.Until.Format(time.RFC3339))
	}
}

func printThawNotes(w io.Writer, r *snapshot.ThawReport) {
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", console.Printable(n))
	}
}

func className(class string) string {
	if class == "" {
		return "(not told)"
	}
	return console.Quote(class)
}

func atTier(tier string) string {
	if tier == "" {
		return "at the store's usual speed"
	}
	return "at tier " + tier
}
