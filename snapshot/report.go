package snapshot

import (
	"fmt"

	"github.com/otsnap/otsnap/manifest"
)

// Report says what a verification, a comparison or a restore covered and found.
type Report struct {
	Kind      string             `json:"kind"` // verify, compare or restore
	Archive   manifest.Hash      `json:"archive"`
	Seq       int64              `json:"seq"`      // of the snapshot, or the newest of several
	Snapshot  string             `json:"snapshot"` // likewise
	Digest    manifest.Hash      `json:"digest"`   // of that manifest's object
	Snapshots int64              `json:"snapshots"`
	Level     string             `json:"level,omitempty"`
	Instance  *manifest.Instance `json:"instance,omitempty"` // the live side of a comparison or a restore
	Started   manifest.Time      `json:"started"`
	Finished  manifest.Time      `json:"finished"`
	Tables    []TableReport      `json:"tables"`
	Totals    manifest.Totals    `json:"totals"`
	Notes     []string           `json:"notes"`
	Problems  []string           `json:"problems"`
}

// TableReport is a table's part of a report. After a restore the four counts of
// rows are equal, or the restore was not one.
type TableReport struct {
	Name         string       `json:"name"`
	Chunks       int64        `json:"chunks"`
	Rows         int64        `json:"rows"`         // signed in the manifest
	Decoded      int64        `json:"decoded"`      // read out of chunks
	Acknowledged int64        `json:"acknowledged"` // accepted by the target
	Counted      int64        `json:"counted"`      // found in the live table
	RawBytes     int64        `json:"raw_bytes"`
	StoredBytes  int64        `json:"stored_bytes"`
	Missing      int64        `json:"missing"` // rows signed and not live
	Extra        int64        `json:"extra"`   // rows live and not signed
	Changed      int64        `json:"changed"` // rows with another cell
	Differences  []Difference `json:"differences"`
}

// Difference names one way in which a live table is not what was signed.
type Difference struct {
	Table  string `json:"table"`
	Kind   string `json:"kind"` // missing, extra or changed
	Key    string `json:"key"`
	Cell   string `json:"cell,omitempty"` // name and version of the cell of a changed row
	Signed string `json:"signed,omitempty"`
	Live   string `json:"live,omitempty"`
}

func (d Difference) String() string {
	if d.Kind != "changed" {
		return fmt.Sprintf("%s %s: row is %s", d.Table, d.Key, d.Kind)
	}
	return fmt.Sprintf("%s %s: %s: signed %s, live %s", d.Table, d.Key, d.Cell, d.Signed, d.Live)
}
