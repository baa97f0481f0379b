package row

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/manifest"
)

// Count says in how many rows the newest version of an attribute has a type.
type Count struct {
	Name string
	Type manifest.Type
	Rows int64
}

// Tally counts the attributes of rows, to choose which get a column. The zero
// value is ready for use.
type Tally struct {
	rows map[manifest.Column]*int64
}

// Add counts the rows of a batch in a layout without promoted columns.
func (t *Tally) Add(b Batch) error {
	fields := b.Record.Schema().Fields()
	last := len(fields) - 1
	if last < 2 || fields[last].Name != MoreColumn {
		return fmt.Errorf("row: tally: the last column is not %s", MoreColumn)
	}
	for _, f := range fields[:last-2] {
		if f.Nullable {
			return fmt.Errorf("row: tally: attribute %q has a column of its own", f.Name)
		}
	}
	more, err := newListView(b.Record.Column(last), moreFields())
	if err != nil {
		return fmt.Errorf("row: tally: %s: %w", MoreColumn, err)
	}
	for i := range int(b.Record.NumRows()) {
		if err := t.addRow(&more, i); err != nil {
			return fmt.Errorf("row: tally: row %d: %w", i+1, err)
		}
	}
	return nil
}

// addRow counts the first entry of every name, which is the newest.
func (t *Tally) addRow(more *listView, row int) error {
	var last []byte
	from, to := more.bounds(row)
	for i := from; i < to; i++ {
		name, err := more.name(i)
		if err != nil {
			return err
		}
		if bytes.Equal(name, last) {
			continue
		}
		last = name
		value, err := more.value(i)
		if err != nil {
			return err
		}
		t.count(name, value.kind.typ())
	}
	return nil
}

func (t *Tally) count(name []byte, typ manifest.Type) {
	if n := t.rows[manifest.Column{Name: string(name), Type: typ}]; n != nil {
		*n++
		return
	}
	if t.rows == nil {
		t.rows = make(map[manifest.Column]*int64)
	}
	one := int64(1)
	t.rows[manifest.Column{Name: string(name), Type: typ}] = &one
}

// Counts returns what was counted, by name and type.
func (t *Tally) Counts() []Count {
	counts := make([]Count, 0, len(t.rows))
	for c, n := range t.rows {
		counts = append(counts, Count{c.Name, c.Type, *n})
	}
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(string(a.Type), string(b.Type)))
	})
	return counts
}

// Choose returns the attributes that get a column, at most max: first those the
// table defines, then the most frequent, each with the type it mostly has. Ties go
// to the name or type that sorts first. Names [NewLayout] would not accept beside
// the key and what was chosen before are left out. The result is sorted by name.
func Choose(key []manifest.KeyColumn, defined []manifest.Column, counts []Count, max int) []manifest.Column {
	taken := systemNames()
	for _, c := range key {
		taken[strings.ToLower(c.Name)] = true
	}
	var chosen []manifest.Column
	for _, c := range slices.Concat(defined, byFrequency(counts)) {
		if len(chosen) >= max {
			break
		}
		if checkColumn(taken, c.Name, c.Type, cellKinds) == nil {
			chosen = append(chosen, c)
		}
	}
	slices.SortFunc(chosen, func(a, b manifest.Column) int { return strings.Compare(a.Name, b.Name) })
	return chosen
}

// byFrequency returns each name once with its majority type, the most frequent
// name first.
func byFrequency(counts []Count) []manifest.Column {
	counts = slices.Clone(counts)
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(b.Rows, a.Rows), strings.Compare(string(a.Type), string(b.Type)))
	})
	var names []Count // Rows of all types
	for _, c := range counts {
		if n := len(names); n > 0 && names[n-1].Name == c.Name {
			names[n-1].Rows += c.Rows
			continue
		}
		names = append(names, c)
	}
	slices.SortStableFunc(names, func(a, b Count) int { return cmp.Compare(b.Rows, a.Rows) })
	columns := make([]manifest.Column, 0, len(names))
	for _, c := range names {
		columns = append(columns, manifest.Column{Name: c.Name, Type: c.Type})
	}
	return columns
}
