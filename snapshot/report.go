package snapshot

import (
	"fmt"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// Report says what a verification, a comparison or a restore covered and found.
type Report struct {
	Kind       string             `json:"kind"` // verify, compare or restore
	Archive    manifest.Hash      `json:"archive"`
	Seq        int64              `json:"seq"`      // of the snapshot, or the newest of several
	Snapshot   string             `json:"snapshot"` // likewise
	Digest     manifest.Hash      `json:"digest"`   // of that manifest's object
	Snapshots  int64              `json:"snapshots"`
	Level      string             `json:"level,omitempty"`
	Instance   *manifest.Instance `json:"instance,omitempty"` // the live side of a comparison or a restore
	Started    manifest.Time      `json:"started"`
	Finished   manifest.Time      `json:"finished"`
	Tables     []TableReport      `json:"tables"`
	Totals     manifest.Totals    `json:"totals"`
	Vouched    int64              `json:"vouched,omitempty"`    // chunks not read, for whose digest the store vouches
	Retention  *RetentionReport   `json:"retention,omitempty"`  // where it was looked at
	Notarized  []NotarizedBy      `json:"notarized,omitempty"`  // of a verification: the snapshots that are, by number
	Timestamps *TimestampReport   `json:"timestamps,omitempty"` // of a verification that looked at them
	Coverage   []string           `json:"coverage,omitempty"`   // what a verification looked at, for people
	Plan       *PlanSummary       `json:"plan,omitempty"`       // of a restore
	Pace       any                `json:"pace,omitempty"`       // how the live side was worked, as it tells itself
	Notes      []string           `json:"notes"`
	Problems   []string           `json:"problems"`
}

// after notes what is wrong with the chain after the snapshot.
func (r *Report) after(e Entry) {
	if e.After != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("snapshot %d is as it was signed, and what comes after it is not: %v", e.Manifest.Seq, e.After))
	}
}

// Locks adds up how objects are locked.
type Locks struct {
	Objects    int64          `json:"objects"` // the sum of the next three
	Compliance int64          `json:"compliance"`
	Governance int64          `json:"governance"`
	Unlocked   int64          `json:"unlocked"`
	Held       int64          `json:"held"`               // of all of them: with a legal hold
	Earliest   *manifest.Time `json:"earliest,omitempty"` // when the first of the locks ends; nil: there is none
}

func (l *Locks) add(lock archive.Lock) {
	l.Objects++
	if lock.Hold {
		l.Held++
	}
	switch lock.Mode {
	case archive.Compliance:
		l.Compliance++
	case archive.Governance:
		l.Governance++
	default:
		l.Unlocked++
		return
	}
	if until := manifest.At(lock.Until); l.Earliest == nil || until.Before(l.Earliest.Time) {
		l.Earliest = &until
	}
}

func (l Locks) String() string {
	text := fmt.Sprintf("%d objects: %d in compliance mode, %d in governance mode, %d not locked, %d held",
		l.Objects, l.Compliance, l.Governance, l.Unlocked, l.Held)
	if l.Earliest != nil {
		text += "; the first lock ends " + l.Earliest.String()
	}
	return text
}

// RetentionReport says how the objects of the snapshots verified, and the archive's
// own, are locked.
type RetentionReport struct {
	Locks
	Weaker  int64 `json:"weaker"`  // problems: locked less than signed
	Shadows int64 `json:"shadows"` // newer versions and delete markers over objects
}

func (r *RetentionReport) String() string {
	if r.Weaker == 0 {
		return fmt.Sprintf("retention: %s; none weaker than signed", r.Locks)
	}
	return fmt.Sprintf("retention: %s; %d times weaker than signed", r.Locks, r.Weaker)
}

// covered says in words what a verification looked at.
func (r *Report) covered(level Level, inspected bool) []string {
	var chunks int64
	for _, t := range r.Tables {
		chunks += t.Chunks
	}
	var lines []string
	switch {
	case level == Rows:
		lines = append(lines, fmt.Sprintf("chunks: %d read and hashed, and every row of them rebuilt", chunks))
	case level == Hashes:
		lines = append(lines, fmt.Sprintf("chunks: %d read and hashed", chunks))
	default:
		lines = append(lines, fmt.Sprintf("chunks: none read; for %d the store vouches for the digest it checked when they were put, of %d only existence and size were seen",
			r.Vouched, chunks-r.Vouched))
	}
	switch {
	case r.Retention == nil:
	case !inspected:
		lines = append(lines, "retention: the store does not tell how objects are locked")
	default:
		lines = append(lines, r.Retention.String())
	}
	return lines
}

// TableReport is a table's part of a report. After a restore into new tables the
// four counts of rows are equal, or the restore was not one.
type TableReport struct {
	Name         string       `json:"name"`
	Target       string       `json:"target,omitempty"` // its name in the live instance, where that is another
	Chunks       int64        `json:"chunks"`
	Rows         int64        `json:"rows"`              // signed in the manifest, and asked for
	Decoded      int64        `json:"decoded"`           // read out of chunks
	Acknowledged int64        `json:"acknowledged"`      // accepted by the target
	Kept         int64        `json:"kept,omitempty"`    // there already, and left alone
	Deleted      int64        `json:"deleted,omitempty"` // not signed, and removed
	Compared     bool         `json:"compared"`          // it was looked at as a whole
	Counted      int64        `json:"counted"`           // found in the live table
	RawBytes     int64        `json:"raw_bytes"`
	StoredBytes  int64        `json:"stored_bytes"`
	Missing      int64        `json:"missing"`          // rows signed and not live
	Extra        int64        `json:"extra"`            // rows live and not signed
	Others       bool         `json:"others,omitempty"` // rows that were not signed may be there
	Changed      int64        `json:"changed"`          // rows with another cell
	Expired      *Expiry      `json:"expired,omitempty"`
	Differences  []Difference `json:"differences"`
}

// PlanSummary says which plan a restore went by.
type PlanSummary struct {
	SHA256        manifest.Hash `json:"sha256"`
	Mode          RestoreMode   `json:"mode"`
	AutoIncrement string        `json:"auto_increment"`
	Rows          *PlanRows     `json:"rows,omitempty"` // nil: all
}

// Expiry says what a table's time to live hides of the rows restored.
type Expiry struct {
	TTL      int64 `json:"ttl"`       // seconds
	AllCells int64 `json:"all_cells"` // restored
	AllRows  int64 `json:"all_rows"`
	Cells    int64 `json:"cells"`   // of these, older when the restore began
	Rows     int64 `json:"rows"`    // all of whose cells were
	Visible  int64 `json:"visible"` // rows counted once the table had its time to live
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
