package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

func (a *app) listCommand() *cobra.Command {
	var flags archiveFlags
	cmd := &cobra.Command{
		Use:   "list ARCHIVE",
		Short: "List the snapshots of an archive",
		Long: `List the snapshots of an archive, after checking the signatures of all of them and
that none is missing, and the exports that were begun and not finished.`,
		Example: `  otsnap list /backup/shop
  otsnap list /backup/shop --json | jq -r '.snapshots[-1].snapshot'`,
		Args: arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.list(cmd.Context(), args[0], flags)
		},
	}
	flags.add(cmd)
	return cmd
}

// listResult is what list tells.
type listResult struct {
	Archive    manifest.Hash `json:"archive"`
	Snapshots  []entryResult `json:"snapshots"`
	Unfinished []string      `json:"unfinished"`
}

func (a *app) list(ctx context.Context, location string, flags archiveFlags) error {
	from, err := a.openArchive(ctx, location, flags)
	if err != nil {
		return err
	}
	chain, err := from.Chain(ctx)
	if err != nil {
		return err
	}
	unfinished, err := from.Unfinished(ctx)
	if err != nil {
		return err
	}
	result := listResult{Archive: from.Policy.ID(), Snapshots: []entryResult{}, Unfinished: append([]string{}, unfinished...)}
	for _, e := range chain {
		result.Snapshots = append(result.Snapshots, newEntryResult(e))
	}
	if err := a.answer(result, func(w io.Writer) { printChain(w, chain, unfinished) }); err != nil {
		return err
	}
	if len(chain) > 0 {
		from.remember(chain[len(chain)-1])
	}
	return nil
}

func printChain(w io.Writer, chain []snapshot.Entry, unfinished []string) {
	var t console.Table
	t.Row("number", "snapshot", "finished", "took", "instance", "tables", "rows", "stored", "retention")
	for _, e := range chain {
		m := e.Manifest
		t.Row(console.Number(m.Seq), m.Snapshot, m.Finished.Format(time.RFC3339), console.Duration(m.Finished.Sub(m.Started.Time)),
			console.Quote(m.Instance.Name), console.Number(len(m.Tables)), console.Number(m.Totals.Rows), console.Bytes(m.Totals.StoredBytes), printRetention(m.Retention))
	}
	if len(chain) > 0 {
		t.Print(w)
	}
	fmt.Fprintf(w, "%s, chain and signatures checked\n", console.Count(len(chain), "snapshot"))
	for _, id := range unfinished {
		fmt.Fprintf(w, "unfinished: %s (go on with: otsnap export … --resume=%s)\n", console.Quote(id), console.Quote(id))
	}
}
