package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/page"
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
that none is missing, and the exports that were begun and not finished. Where there
is something under the names of notarizations a column tells: claimed, nobody has
looked at it; at export, a notary signed the manifest itself.`,
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
	Archive    manifest.Hash  `json:"archive"`
	Snapshots  []listedResult `json:"snapshots"`
	Unfinished []string       `json:"unfinished"`
}

// listedResult is a snapshot, and who may have notarized it.
type listedResult struct {
	entryResult
	Notaries []string `json:"notaries,omitempty"`            // that signed the manifest itself
	Claims   int      `json:"notarization_claims,omitempty"` // objects named as notarizations of it; nobody has looked at them
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
	claims, err := from.NotarizationClaims(ctx, int64(len(chain)))
	if err != nil {
		return err
	}
	result := listResult{Archive: from.Policy.ID(), Snapshots: []listedResult{}, Unfinished: append([]string{}, unfinished...)}
	for _, e := range chain {
		result.Snapshots = append(result.Snapshots, listedResult{newEntryResult(e), e.Notaries, claims[e.Manifest.Seq]})
	}
	if err := a.answer(result, func(w io.Writer) { printChain(w, chain, claims, unfinished) }); err != nil {
		return err
	}
	if len(chain) > 0 {
		from.remember(chain[len(chain)-1])
	}
	return nil
}

func printChain(w io.Writer, chain []snapshot.Entry, claims map[int64]int, unfinished []string) {
	notarized := slices.ContainsFunc(chain, func(e snapshot.Entry) bool { return len(e.Notaries)+claims[e.Manifest.Seq] > 0 })
	var t console.Table
	head := []string{"number", "snapshot", "finished", "took", "instance", "tables", "rows", "stored", "retention"}
	if notarized {
		head = append(head, "notarized")
	}
	t.Row(head...)
	for _, e := range chain {
		m := e.Manifest
		row := []string{console.Number(m.Seq), m.Snapshot, m.Finished.Format(time.RFC3339), console.Duration(m.Finished.Sub(m.Started.Time)),
			console.Quote(m.Instance.Name), console.Number(len(m.Tables)), console.Number(m.Totals.Rows), console.Bytes(m.Totals.StoredBytes), page.Retention(m.Retention)}
		if notarized {
			row = append(row, claimText(e, claims[m.Seq]))
		}
		t.Row(row...)
	}
	if len(chain) > 0 {
		t.Print(w)
	}
	fmt.Fprintf(w, "%s, chain and signatures checked\n", console.Count(len(chain), "snapshot"))
	if len(claims) > 0 {
		fmt.Fprintln(w, "notarizations were not looked at; otsnap verify and otsnap show do")
	}
	for _, id := range unfinished {
		fmt.Fprintf(w, "unfinished: %s (go on with: otsnap export … --resume=%s)\n", console.Quote(id), console.Quote(id))
	}
}

// claimText says what is known of a snapshot's notarizations without reading them.
func claimText(e snapshot.Entry, claims int) string {
	switch {
	case len(e.Notaries) > 0:
		return "at export"
	case claims > 0:
		return "claimed"
	}
	return "no"
}
