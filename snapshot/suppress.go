package snapshot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// Limits on lists of rows that must not come back.
const (
	MaxSuppressed     = 10_000_000 // entries, of all lists together
	MaxSuppressedLine = 64 << 10   // bytes of a line: a key of 4 KiB as escapes, and room
)

// List is a list of rows that must not come back, as those keep it who know of whom
// nothing may: lines of JSON, of which FORMAT.md tells.
type List struct {
	Name string // for errors
	From io.Reader
}

// ListSummary names a list without telling what is on it.
type ListSummary struct {
	SHA256  manifest.Hash `json:"sha256"` // of its bytes
	Entries int64         `json:"entries"`
}

// Suppression is what lists say of one snapshot. It holds 24 bytes and a key for each
// entry. It is safe for concurrent use; a nil Suppression is none.
type Suppression struct {
	snapshot string
	lists    []ListSummary
	tables   map[string]*suppressed
	total    int64
	absent   map[string]bool // tables the snapshot does not have
	others   int64           // entries of these
}

// suppressed is what lists say of a table.
type suppressed struct {
	table   *manifest.Table
	entries int64
	starts  []manifest.Key
	keys    archive.KeySet
}

// TableSuppression says what became of the rows of a table that lists name.
type TableSuppression struct {
	Entries int64 `json:"entries"`           // of the lists, about this table
	Signed  int64 `json:"signed"`            // rows signed and asked for: these, and those compared
	Rows    int64 `json:"rows"`              // of them, rows the lists name: not restored
	Live    int64 `json:"live"`              // rows the lists name that are in the live table
	Deleted int64 `json:"deleted,omitempty"` // rows the lists name that were there, and were removed
}

// ReadSuppression reads lists of rows that must not come back when the snapshot of
// the manifest is restored. Names of tables are those in the snapshot; an entry of
// another table is counted, and means nothing. What is wrong with a list is ErrWish,
// or manifest.ErrLimit, with its name and line; errors repeat no value.
func ReadSuppression(m *manifest.Manifest, lists ...List) (*Suppression, error) {
	s := &Suppression{snapshot: m.Snapshot, tables: map[string]*suppressed{}, absent: map[string]bool{}}
	for i := range m.Tables {
		t := &m.Tables[i].Table
		s.tables[t.Name] = &suppressed{table: t}
	}
	for _, l := range lists {
		if err := s.read(l); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(s.lists, func(a, b ListSummary) int { return bytes.Compare(a.SHA256[:], b.SHA256[:]) })
	for _, t := range s.tables {
		t.keys, t.starts = archive.NewKeySet(t.starts), nil
	}
	return s, nil
}

// read adds the entries of a list.
func (s *Suppression) read(l List) error {
	sum := sha256.New()
	lines := bufio.NewScanner(io.TeeReader(l.From, sum))
	lines.Buffer(nil, MaxSuppressedLine)
	var found ListSummary
	n := 1
	for ; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if err := s.add(line); err != nil {
			return fmt.Errorf("snapshot: %s:%d: %w", l.Name, n, err)
		}
		found.Entries++
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("snapshot: %s:%d: the line has more than %d bytes; an entry stands on a line of its own: %w", l.Name, n, MaxSuppressedLine, manifest.ErrLimit)
	case err != nil:
		return fmt.Errorf("snapshot: %s: %w", l.Name, err)
	case found.Entries == 0:
		return fmt.Errorf("snapshot: %s has no entry: a list that is empty is more likely lost than meant; without a list, name none: %w", l.Name, ErrWish)
	}
	found.SHA256 = manifest.Hash(sum.Sum(nil))
	s.lists = append(s.lists, found)
	return nil
}

// add adds the entry on a line.
func (s *Suppression) add(line []byte) error {
	e, err := parseListed(line)
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrWish)
	}
	if s.total++; s.total > MaxSuppressed {
		return fmt.Errorf("more than %d entries: %w", MaxSuppressed, manifest.ErrLimit)
	}
	t := s.tables[e.table]
	for name := range s.tables {
		if t == nil && strings.EqualFold(name, e.table) {
			return fmt.Errorf("table %s: the snapshot has %s; write its name as it is there: %w", e.table, name, ErrWish)
		}
	}
	if t == nil {
		s.others++
		s.absent[e.table] = true
		return nil
	}
	key, n, err := e.key(t.table.Key)
	if err != nil {
		return fmt.Errorf("table %s: %w: %w", e.table, err, ErrWish)
	}
	t.add(key)
	if other := s.otherPart(t.table); other != nil && n <= len(other.table.Key) {
		other.add(key)
	}
	return nil
}

func (t *suppressed) add(start manifest.Key) {
	t.entries++
	t.starts = append(t.starts, start)
}

// otherPart returns the other part of a timeseries table, nil of other tables. An
// entry that names series, in either part, is about both: points without their series
// would make it again.
func (s *Suppression) otherPart(t *manifest.Table) *suppressed {
	switch t.Timeseries.Part {
	case manifest.DataPart:
		return s.tables[manifest.MetaName(t.Name)]
	case manifest.MetaPart:
		return s.tables[tableOf(t.Name)]
	}
	return nil
}

// of returns the keys of a table that must not come back.
func (s *Suppression) of(table string) archive.KeySet {
	if s == nil || s.tables[table] == nil {
		return archive.KeySet{}
	}
	return s.tables[table].keys
}

// entries returns how many entries are about a table.
func (s *Suppression) entries(table string) int64 {
	if s == nil || s.tables[table] == nil {
		return 0
	}
	return s.tables[table].entries
}

// report begins what is told of a table; nil: there is no list.
func (s *Suppression) report(table string) *TableSuppression {
	if s == nil {
		return nil
	}
	return &TableSuppression{Entries: s.entries(table)}
}

// Lists names the lists, in the order of their digests.
func (s *Suppression) Lists() []ListSummary {
	if s == nil {
		return nil
	}
	return s.lists
}

// check makes sure that the lists were read for this snapshot.
func (s *Suppression) check(m *manifest.Manifest) error {
	if s != nil && s.snapshot != m.Snapshot {
		return fmt.Errorf("snapshot: the lists of rows that must not come back were read for snapshot %s, not for %s: %w", s.snapshot, m.Snapshot, ErrWish)
	}
	return nil
}

// Absent returns the tables the lists name and the snapshot does not have, in order,
// and how many entries do.
func (s *Suppression) Absent() (tables []string, entries int64) {
	return slices.Sorted(maps.Keys(s.absent)), int64(s.others)
}

// tell notes in a report which lists were used.
func (s *Suppression) tell(r *Report) {
	r.Suppress = s.Lists()
	if s != nil && s.others > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("the lists name tables that the snapshot does not have, in %d entries, which mean nothing here: %s", s.others, enumerate(slices.Sorted(maps.Keys(s.absent)), 10)))
	}
}

// without returns a selection less the rows of a table that must not come back.
func (s *Suppression) without(rows archive.Selection, table string) archive.Selection {
	rows.Without = s.of(table)
	return rows
}

// suppressedOf notes how many rows of a table were signed: all of its rows, where
// nothing but lists chooses among them.
func (t *TableReport) suppressedOf(signed manifest.TableEntry, rows archive.Selection) {
	if t.Suppressed == nil {
		return
	}
	t.Suppressed.Signed = t.Rows + t.Suppressed.Rows
	if everyRow(rows) {
		t.Suppressed.Signed = signed.Totals.Rows
	}
}

// left is how many rows were left out.
func (t *TableReport) left() int64 {
	if t.Suppressed == nil {
		return 0
	}
	return t.Suppressed.Rows
}
