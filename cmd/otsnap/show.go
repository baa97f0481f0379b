package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/page"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

func (a *app) showCommand() *cobra.Command {
	var flags archiveFlags
	cmd := &cobra.Command{
		Use:   "show ARCHIVE [SNAPSHOT]",
		Short: "Show an archive's keys and what a snapshot holds",
		Long: `Show an archive's keys and what a snapshot holds, the newest unless another one
is named by its number, its id or the start of it. Signatures and chain are
checked first, and those of notaries. --json prints the whole policy and manifest.`,
		Example: `  otsnap show /backup/shop
  otsnap show /backup/shop 17 --json | jq '.manifest.tables[].table'`,
		Args: arguments([]string{"ARCHIVE"}, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			which := ""
			if len(args) == 2 {
				which = args[1]
			}
			return a.show(cmd.Context(), args[0], which, flags)
		},
	}
	flags.add(cmd)
	return cmd
}

// showResult is what show tells. An archive without a snapshot has no manifest.
type showResult struct {
	Archive  manifest.Hash      `json:"archive"`
	Policy   *manifest.Policy   `json:"policy"`
	Store    *manifest.Store    `json:"store,omitempty"` // what it can do, as found when the archive was made
	Digest   *manifest.Hash     `json:"digest,omitempty"`
	Manifest *manifest.Manifest `json:"manifest,omitempty"`

	Timestamps []string             `json:"timestamps,omitempty"` // names; nobody has checked what is in them
	Notarized  []snapshot.Notarized `json:"notarized,omitempty"`  // of the snapshot: each was checked
	Notes      []string             `json:"notes,omitempty"`      // objects named as notarizations of it that are none
}

func (a *app) show(ctx context.Context, location, which string, flags archiveFlags) error {
	from, err := a.openArchive(ctx, location, flags)
	if err != nil {
		return err
	}
	chain, err := from.Chain(ctx)
	if err != nil {
		return err
	}
	settings, err := from.Settings(ctx)
	if err != nil {
		return err
	}
	result := showResult{Archive: from.Policy.ID(), Policy: from.Policy, Store: settings}
	if len(chain) > 0 || which != "" {
		e, err := from.Find(ctx, which)
		if err != nil {
			return err
		}
		result.Digest, result.Manifest = &e.Digest, e.Manifest
		if result.Timestamps, err = from.Timestamps(ctx, e.Manifest.Seq); err != nil {
			return err
		}
		if result.Notarized, result.Notes, err = from.Notarizations(ctx, e); err != nil {
			return err
		}
	}
	err = a.answer(result, func(w io.Writer) {
		printArchive(w, from, len(chain))
		printSettings(w, settings)
		if result.Manifest != nil {
			fmt.Fprintln(w)
			printManifest(w, snapshot.Entry{Manifest: result.Manifest, Digest: *result.Digest}, result.Notarized)
			for _, name := range result.Timestamps {
				fmt.Fprintf(w, "time stamp  %s, NOT checked; otsnap verify --tsa-ca FILE does\n", name)
			}
			for _, n := range result.Notes {
				fmt.Fprintf(w, "note: %s\n", console.Printable(n))
			}
		}
	})
	if err == nil && len(chain) > 0 {
		from.remember(chain[len(chain)-1])
	}
	return err
}

func printArchive(w io.Writer, o *opened, snapshots int) {
	fmt.Fprintf(w, "archive id  %s\n", o.Policy.ID())
	fmt.Fprintf(w, "made        %s\n", o.Policy.Created.Format(time.RFC3339))
	fmt.Fprintf(w, "snapshots   %s\n", console.Number(snapshots))
	fmt.Fprintf(w, "trust file  %s, %s\n", console.Quote(o.file.path), seen(o.Trust))
	fmt.Fprintf(w, "signed by   %d of %s:\n", o.Policy.Threshold, console.Count(len(o.Policy.Keys), "key"))
	printKeys(w, o.Policy.Keys)
}

// printSettings tells what the store could do when the archive was made in it.
func printSettings(w io.Writer, st *manifest.Store) {
	if st == nil {
		fmt.Fprintln(w, "store       nothing is recorded of it")
		return
	}
	if r := st.Retention; r.Years+r.Days > 0 {
		fmt.Fprintf(w, "retention   %s for %s at least, from the start of each export on\n", r.Mode, archive.Period{Years: int(r.Years), Days: int(r.Days)})
	}
	fmt.Fprintf(w, "store       %s; when the archive was made it could:\n", console.Quote(st.Kind))
	var t console.Table
	for _, c := range st.Capabilities {
		t.Row(console.Printable(c.Name), c.State, console.Printable(c.Detail))
	}
	t.Print(w)
}

// seen is how far this reader had seen the archive before, in words.
func seen(t manifest.Trust) string {
	if t.Seq == 0 {
		return "no snapshot seen yet"
	}
	return fmt.Sprintf("seen up to number %d", t.Seq)
}

func printManifest(w io.Writer, e snapshot.Entry, notarized []snapshot.Notarized) {
	m := e.Manifest
	fmt.Fprintf(w, "snapshot    %s\n", m.Snapshot)
	fmt.Fprintf(w, "number      %d\n", m.Seq)
	fmt.Fprintf(w, "manifest    sha256:%s\n", e.Digest)
	fmt.Fprintf(w, "instance    %s\n", printInstance(m.Instance))
	fmt.Fprintf(w, "window      %s to %s\n", m.Started.Format(time.RFC3339), m.Finished.Format(time.RFC3339))
	fmt.Fprintf(w, "retention   %s\n", page.Retention(m.Retention))
	for _, n := range notarized {
		fmt.Fprintf(w, "notarized   %s\n", console.Printable(n.String()))
	}
	fmt.Fprintf(w, "written by  %s\n", console.Printable(m.Tool+" ("+m.Build+")"))
	fmt.Fprintf(w, "tables      %s, %s, %s\n", console.Number(len(m.Tables)), console.Count(m.Totals.Rows, "row"), console.Count(m.Totals.Cells, "cell"))
	printTables(w, m.Tables)
	for _, t := range m.Tables {
		fmt.Fprintln(w)
		printSchema(w, t.Table)
	}
}

func printSchema(w io.Writer, t manifest.Table) {
	fmt.Fprintf(w, "table %s\n", console.Quote(t.Name))
	var key []string
	for _, k := range t.Key {
		text := fmt.Sprintf("%s %s", console.Quote(k.Name), k.Type)
		if k.AutoIncrement {
			text += " AUTO_INCREMENT"
		}
		key = append(key, text)
	}
	line := func(name string, values []string) {
		if len(values) > 0 {
			fmt.Fprintf(w, "  %-12s  %s\n", name, strings.Join(values, ", "))
		}
	}
	line("primary key", key)
	line("predefined", columns(t.Defined))
	line("columns", columns(t.Columns))
	if s := t.Timeseries; s.Part != "" {
		line("timeseries", timeseries(s))
	} else {
		line("options", []string{"versions " + unlimited(t.Options.MaxVersions), "TTL " + unlimited(t.Options.TTL)})
	}
	for _, i := range t.Indexes {
		line("index", []string{console.Quote(i.Name) + " " + i.Type})
	}
	for _, i := range t.SearchIndexes {
		line("search index", []string{console.Quote(i.Name)})
	}
	for _, property := range t.NotCaptured {
		line("not captured", []string{console.Printable(property)})
	}
}

// timeseries tells what part of a timeseries table a table is, and the options that
// are about it.
func timeseries(s manifest.Timeseries) []string {
	if s.Part == manifest.MetaPart {
		text := []string{"series", "TTL " + unlimited(s.MetaTTL)}
		if !s.UpdateAttributes {
			text = append(text, "attributes are fixed")
		}
		return text
	}
	text := []string{"points", "TTL " + unlimited(s.TTL)}
	for _, store := range s.AnalyticalStores {
		text = append(text, "analytical store "+console.Quote(store.Name))
	}
	for _, index := range s.LastpointIndexes {
		text = append(text, "lastpoint index "+console.Quote(index))
	}
	return text
}

func columns(all []manifest.Column) []string {
	var text []string
	for _, c := range all {
		text = append(text, fmt.Sprintf("%s %s", console.Quote(c.Name), c.Type))
	}
	return text
}

func unlimited(n int64) string {
	if n == -1 {
		return "unlimited"
	}
	return console.Number(n)
}
