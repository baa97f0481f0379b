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
	Anchors    []manifest.Anchor  `json:"anchors"` // what the archive was held against beside its signatures; all of them held
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

	BySnapshot []SnapshotReport `json:"by_snapshot,omitempty"`

	Suppress []ListSummary `json:"suppress,omitempty"` // lists of rows that must not come back
	Coverage []string      `json:"coverage,omitempty"` // what was looked at, and how much of it, for people
	Plan     *PlanSummary  `json:"plan,omitempty"`     // of a restore
	Pace     any           `json:"pace,omitempty"`     // how the live side was worked, as it tells itself
	Notes    []string      `json:"notes"`
	Problems []string      `json:"problems"`
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

// covered says in words what a verification looked at, in an archive of so many
// snapshots whose names are those of all tables.
func (r *Report) covered(level Level, inspected bool, snapshots, tables int) []string {
	var chunks, decoded int64
	for _, t := range r.Tables {
		chunks += t.Chunks
		decoded += t.Decoded
	}
	var lines []string
	if level == Objects {
		lines = append(lines, fmt.Sprintf("chunks: none read, hashed 0 %%; for %d the store vouches for the digest it checked when they were put, of %d only existence and size were seen",
			r.Vouched, chunks-r.Vouched))
	} else {
		lines = append(lines, "chunks read, hashed and good: "+share(chunks, r.Totals.Chunks))
	}
	if level == Rows {
		lines = append(lines, "rows rebuilt from them, hashed and good: "+share(decoded, r.Totals.Rows))
	} else {
		lines = append(lines, "rows rebuilt: none, 0 %")
	}
	lines = append(lines,
		"snapshots looked into: "+share(r.Snapshots, int64(snapshots)),
		"tables of these looked into: "+share(int64(len(r.Tables)), int64(tables)))
	switch {
	case r.Retention == nil:
		lines = append(lines, "locks: not looked at")
	case !inspected:
		lines = append(lines, "retention: the store does not tell how objects are locked")
	default:
		lines = append(lines, r.Retention.String())
	}
	return lines
}

// proved says in words what a comparison or a restore looked at.
func (r *Report) proved(e Entry) {
	var signed, chunks, compared, counted int64
	var decoded, acknowledged, kept, left, listed int64
	for _, t := range r.Tables {
		if s := t.Suppressed; s != nil {
			left += s.Rows
			listed += s.Live
		}
		signed += t.Rows + t.left()
		chunks += t.Chunks
		counted += t.Counted
		decoded += t.Decoded
		acknowledged += t.Acknowledged
		kept += t.Kept
		if t.Compared {
			compared++
		}
	}
	if r.Kind == "restore" {
		r.Coverage = append(r.Coverage,
			"chunks read and hashed before anything was written: all that were chosen, 100 %",
			fmt.Sprintf("rows: %d signed and chosen, %d decoded, %d acknowledged, %d there already, %d counted back", signed, decoded, acknowledged, kept, counted))
	} else {
		r.Coverage = append(r.Coverage, fmt.Sprintf("rows: %d signed, %d counted in the live tables; parts of tables compared: %d", signed, counted, chunks))
	}
	if r.Suppress != nil {
		r.Coverage = append(r.Coverage, fmt.Sprintf("rows of these left out, as lists say that they must not come back: %d; rows on lists found in the live tables: %d", left, listed))
	}
	r.Coverage = append(r.Coverage,
		"tables compared, cell by cell: "+share(compared, int64(len(r.Tables))),
		"tables of the snapshot chosen: "+share(int64(len(r.Tables)), int64(len(e.Manifest.Tables))))
}

// SnapshotReport is a snapshot's part of a report.
type SnapshotReport struct {
	Seq       int64              `json:"seq"`
	Snapshot  string             `json:"snapshot"`
	Digest    manifest.Hash      `json:"digest"`
	Finished  manifest.Time      `json:"finished"`  // its export
	Policy    int64              `json:"policy"`    // the version in force for it
	SignedBy  []string           `json:"signed_by"` // names of keys of that version
	Tables    int64              `json:"tables"`    // in it
	Signed    manifest.Totals    `json:"signed"`    // of all its tables
	Retention manifest.Retention `json:"retention"` // as signed
	Seen      *Seen              `json:"seen,omitempty"`
}

// Seen is what a verification found of a snapshot.
type Seen struct {
	Tables      int64           `json:"tables"`          // looked at
	Expected    manifest.Totals `json:"expected"`        // of these tables, as signed
	Chunks      int64           `json:"chunks"`          // found good
	Read        int64           `json:"read"`            // of these, read and hashed; of the others the size was seen
	Vouched     int64           `json:"vouched"`         // of these others, for whose digest the store vouches
	Rows        int64           `json:"rows"`            // rebuilt and hashed
	StoredBytes int64           `json:"stored_bytes"`    // of the good chunks
	Locks       *Locks          `json:"locks,omitempty"` // of its objects, where they were looked at
}

func newSnapshotReport(a *Archive, e Entry) SnapshotReport {
	m := e.Manifest
	return SnapshotReport{
		Seq: m.Seq, Snapshot: m.Snapshot, Digest: e.Digest, Finished: m.Finished,
		Policy: a.Policy.At(m.Seq).Version, SignedBy: append([]string{}, e.SignedBy...),
		Tables: int64(len(m.Tables)), Signed: m.Totals, Retention: m.Retention,
	}
}

// share says how many of all, in words that claim no more than is so.
func share(n, all int64) string {
	switch {
	case all == 0:
		return "there are none"
	case n == all:
		return fmt.Sprintf("%d of %d, 100 %%", n, all)
	}
	return fmt.Sprintf("%d of %d, %d.%d %%", n, all, n*100/all, n*1000/all%10)
}

// TableReport is a table's part of a report. After a restore into new tables the
// four counts of rows are equal, or the restore was not one.
type TableReport struct {
	Name         string  `json:"name"`
	Target       string  `json:"target,omitempty"` // its name in the live instance, where that is another
	Chunks       int64   `json:"chunks"`
	ChunksSigned int64   `json:"chunks_signed"`
	Rows         int64   `json:"rows"`              // signed in the manifest, asked for, and on no list
	Decoded      int64   `json:"decoded"`           // read out of chunks
	Acknowledged int64   `json:"acknowledged"`      // accepted by the target
	Kept         int64   `json:"kept,omitempty"`    // there already, and left alone
	Deleted      int64   `json:"deleted,omitempty"` // not signed, and removed
	Compared     bool    `json:"compared"`          // it was looked at as a whole
	Counted      int64   `json:"counted"`           // found in the live table
	RawBytes     int64   `json:"raw_bytes"`
	StoredBytes  int64   `json:"stored_bytes"`
	Missing      int64   `json:"missing"`          // rows signed and not live
	Extra        int64   `json:"extra"`            // rows live and not signed
	Others       bool    `json:"others,omitempty"` // rows that were not signed may be there
	Changed      int64   `json:"changed"`          // rows with another cell
	Expired      *Expiry `json:"expired,omitempty"`

	Suppressed *TableSuppression `json:"suppressed,omitempty"` // nil: there is no list

	Differences []Difference `json:"differences"`
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
