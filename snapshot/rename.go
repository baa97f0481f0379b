package snapshot

import (
	"errors"
	"fmt"
	"strings"

	"github.com/otsnap/otsnap/manifest"
)

// Rename gives a table or a secondary index another name in the target. Old may
// have one star, which stands for any text, and New then one too, which stands for
// that text.
type Rename struct{ Old, New string }

// ParseRename reads OLD=NEW.
func ParseRename(text string) (Rename, error) {
	before, after, ok := strings.Cut(text, "=")
	r := Rename{before, after}
	switch {
	case !ok || r.Old == "" || r.New == "":
		return r, errors.New("want OLD=NEW, as in orders=orders_restored or '*=*_restored'")
	case strings.Count(r.Old, "*") > 1 || strings.Count(r.New, "*") != strings.Count(r.Old, "*"):
		return r, errors.New("want one * on both sides, or none")
	}
	return r, nil
}

func (r Rename) String() string { return r.Old + "=" + r.New }

// apply returns the new name of what is called name, if the rename is about it.
func (r Rename) apply(name string) (string, bool) {
	head, tail, star := strings.Cut(r.Old, "*")
	if !star {
		return r.New, name == r.Old
	}
	if len(name) < len(head)+len(tail) || !strings.HasPrefix(name, head) || !strings.HasSuffix(name, tail) {
		return "", false
	}
	return strings.Replace(r.New, "*", name[len(head):len(name)-len(tail)], 1), true
}

// rename returns the name in the target, by the first of the renames that is about
// it; without one, the same name. The parts of a timeseries table are called after
// the table.
func rename(renames []Rename, name string) string {
	table, meta := manifest.CutMetaName(name)
	for _, r := range renames {
		to, ok := r.apply(table)
		switch {
		case ok && meta:
			return manifest.MetaName(to)
		case ok:
			return to
		}
	}
	return name
}

// inTarget returns a table as it is to be in the target: under its new name, with
// indexes under theirs.
func inTarget(t manifest.Table, renames []Rename) manifest.Table {
	t.Name = rename(renames, t.Name)
	indexes := make([]manifest.Index, len(t.Indexes))
	for i, index := range t.Indexes {
		index.Name = rename(renames, index.Name)
		indexes[i] = index
	}
	t.Indexes = indexes
	if lastpoints := t.Timeseries.LastpointIndexes; len(lastpoints) > 0 {
		t.Timeseries.LastpointIndexes = make([]string, len(lastpoints))
		for i, name := range lastpoints {
			t.Timeseries.LastpointIndexes[i] = rename(renames, name)
		}
	}
	return t
}

// checkNames makes sure that no two tables or indexes get one name, and that every
// rename is about something.
func checkNames(signed, target []manifest.Table, renames []Rename) error {
	taken := map[string]string{}
	take := func(name, old string) error {
		if err := manifest.CheckTableName(tableOf(name)); err != nil {
			return fmt.Errorf("%s becomes %q: %v: %w", old, name, err, ErrWish)
		}
		if other, ok := taken[name]; ok {
			return fmt.Errorf("both %s and %s become %s: %w", other, old, name, ErrWish)
		}
		taken[name] = old
		return nil
	}
	used := make([]bool, len(renames))
	use := func(name string) {
		for i, r := range renames {
			if _, ok := r.apply(tableOf(name)); ok {
				used[i] = true
			}
		}
	}
	for i, t := range target {
		use(signed[i].Name)
		if err := take(t.Name, signed[i].Name); err != nil {
			return err
		}
		for k, index := range t.Indexes {
			use(signed[i].Indexes[k].Name)
			if err := take(index.Name, signed[i].Indexes[k].Name); err != nil {
				return err
			}
		}
		if t.Timeseries.Part != manifest.DataPart {
			continue // whose indexes both parts name
		}
		for k, index := range t.Timeseries.LastpointIndexes {
			use(signed[i].Timeseries.LastpointIndexes[k])
			if err := take(index, signed[i].Timeseries.LastpointIndexes[k]); err != nil {
				return err
			}
		}
	}
	for i, ok := range used {
		if !ok {
			return fmt.Errorf("rename %s: %w called %s among those restored", renames[i], ErrNoTable, renames[i].Old)
		}
	}
	return nil
}

// Targets returns the names that tables have in the target.
func (r Restore) Targets(tables []string) []string {
	names := make([]string, len(tables))
	for i, name := range tables {
		names[i] = rename(r.Rename, name)
	}
	return names
}
