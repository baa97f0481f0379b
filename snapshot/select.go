package snapshot

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/manifest"
)

// Select returns the names that the globs choose, sorted. A glob is in the
// syntax of [path.Match]; one that starts with '!' takes names away again, and
// no glob at all means every name. The parts of a timeseries table stay together: a
// glob that fits one of them, or the name of the table, fits both. A glob that fits
// no name is ErrNoTable, since it is more likely a slip than a wish.
func Select(names, globs []string) ([]string, error) {
	include, exclude := partition(globs)
	if len(include) == 0 {
		include = []string{"*"}
	}
	chosen := map[string]bool{}
	for _, glob := range include {
		matched, err := match(names, glob)
		if err != nil {
			return nil, err
		}
		for _, name := range matched {
			chosen[name] = true
		}
	}
	for _, glob := range exclude {
		matched, err := match(names, glob)
		if err != nil {
			return nil, err
		}
		for _, name := range matched {
			delete(chosen, name)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("snapshot: no table is left to work on: %w", ErrNoTable)
	}
	var selected []string
	for name := range chosen {
		selected = append(selected, name)
	}
	slices.Sort(selected)
	return selected, nil
}

func partition(globs []string) (include, exclude []string) {
	for _, glob := range globs {
		if out, ok := strings.CutPrefix(glob, "!"); ok {
			exclude = append(exclude, out)
			continue
		}
		include = append(include, glob)
	}
	return include, exclude
}

func match(names []string, glob string) ([]string, error) {
	tables := map[string]bool{}
	for _, name := range names {
		ok, err := path.Match(glob, name)
		if err != nil {
			return nil, fmt.Errorf("snapshot: table pattern %q: %w: %w", glob, err, ErrWish)
		}
		if ok {
			tables[tableOf(name)] = true
		}
	}
	var matched []string
	for _, name := range names {
		if tables[tableOf(name)] {
			matched = append(matched, name)
		}
	}
	if matched == nil {
		return nil, fmt.Errorf("snapshot: %q: %w; there are %s", glob, ErrNoTable, enumerate(names, 10))
	}
	return matched, nil
}

// tableOf returns the name of the table that name is of, or of a part of.
func tableOf(name string) string {
	table, _ := manifest.CutMetaName(name)
	return table
}

// enumerate lists at most limit names for a message.
func enumerate(names []string, limit int) string {
	if len(names) == 0 {
		return "no tables"
	}
	if len(names) > limit {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:limit], ", "), len(names)-limit)
	}
	return strings.Join(names, ", ")
}
