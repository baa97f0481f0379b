package main

import (
	"os"
	"strings"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

func addSuppressFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVar(files, "suppress", nil, "`FILE` with a list of rows that must not come back; see otsnap restore --help (repeat for more)")
}

// suppression reads the lists of rows that must not come back; nil: there are none.
// What they name and the snapshot does not have is told before anything is written.
func (a *app) suppression(entry snapshot.Entry, files []string) (*snapshot.Suppression, error) {
	if len(files) == 0 {
		return nil, nil
	}
	var lists []snapshot.List
	for _, path := range files {
		file, err := os.Open(path)
		if err != nil {
			return nil, misused("--suppress: %w", err)
		}
		defer file.Close()
		lists = append(lists, snapshot.List{Name: path, From: file})
	}
	s, err := snapshot.ReadSuppression(entry.Manifest, lists...)
	if err == nil {
		if tables, n := s.Absent(); n > 0 {
			a.warn("the lists name tables that snapshot %d does not have, in %s, which mean nothing for it: %s", entry.Manifest.Seq, entries(n), strings.Join(tables, ", "))
		}
	}
	return s, advise(err, "nothing was read or written but the list: mend it, and give the same command again; how it is written: otsnap restore --help")
}

// entries writes a number of entries of lists.
func entries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return console.Number(n) + " entries"
}
