package manifest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// The parts of a table of the timeseries model.
const (
	DataPart = "data" // its points, under the name of the table
	MetaPart = "meta" // its series and their attributes, under [MetaName]
)

// Timeseries is what a table of the timeseries model has in common with no other.
// Such a table is two in a snapshot, its points and its series, which say the same
// here but for Part. FORMAT.md tells how their rows are made.
type Timeseries struct {
	Part             string            `json:"part"`              // [DataPart] or [MetaPart]
	TTL              int64             `json:"ttl"`               // seconds a point lives; -1: for ever
	MetaTTL          int64             `json:"meta_ttl"`          // seconds a series lives that nothing is written to; -1: for ever
	UpdateAttributes bool              `json:"update_attributes"` // whether attributes of a series may be changed
	Unhashed         bool              `json:"unhashed"`          // whether the table was made without the hash the service puts before its keys
	Keys             []string          `json:"keys"`              // names of what identifies a series; none: the service's own three
	AnalyticalStores []AnalyticalStore `json:"analytical_stores"`
	LastpointIndexes []string          `json:"lastpoint_indexes"` // names
}

// AnalyticalStore is an analytical store of a table of the timeseries model.
type AnalyticalStore struct {
	Name string `json:"name"`
	TTL  int64  `json:"ttl"`  // seconds a point lives in it; -1: for ever, 0: the service did not say
	Sync string `json:"sync"` // how it is filled: FULL, INCR, or empty: the service did not say
}

// TimeseriesKey returns the primary key that the rows of a part have.
func TimeseriesKey(part string) []KeyColumn {
	key := []KeyColumn{{Name: "_m_name", Type: String}, {Name: "_data_source", Type: String}, {Name: "_tags", Type: String}}
	if part == MetaPart {
		return key
	}
	return append(key, KeyColumn{Name: "_time", Type: Integer})
}

// TimeseriesOptions are the options of both parts: every point is one version, and
// how long it lives stands in [Timeseries].
func TimeseriesOptions() Options { return Options{TTL: -1, MaxVersions: 1, AllowUpdate: true} }

// metaSuffix is what no name of a table ends with.
const metaSuffix = ".meta"

// MetaName returns the name that the series of a table of the timeseries model
// have in a snapshot.
func MetaName(table string) string { return table + metaSuffix }

// CutMetaName returns the name of the table that [MetaName] made name of, and
// false for the name of a table.
func CutMetaName(name string) (table string, ok bool) { return strings.CutSuffix(name, metaSuffix) }

// checkEntryName refuses what is neither the name of a table nor one that
// [MetaName] makes. Both are safe as a part of an object's name.
func checkEntryName(name string) error {
	table, _ := CutMetaName(name)
	return CheckTableName(table)
}

// validateTimeseries checks that a table has the name and the key of its part, and
// nothing the timeseries model does not know.
func (t Table) validateTimeseries() error {
	s := t.Timeseries
	_, meta := CutMetaName(t.Name)
	if reflect.ValueOf(s).IsZero() && !meta {
		return nil
	}
	if s.Part != DataPart && s.Part != MetaPart || meta != (s.Part == MetaPart) {
		return invalid("timeseries part %q; %s, or %s for a name that ends with %s", clip(s.Part), DataPart, MetaPart, metaSuffix)
	}
	if !slices.Equal(t.Key, TimeseriesKey(s.Part)) {
		return invalid("the primary key is not that of a timeseries part %s", s.Part)
	}
	if t.Options != TimeseriesOptions() || t.Throughput != (Throughput{}) || t.Stream.Enabled || t.Encryption.Enabled ||
		len(t.Defined)+len(t.Indexes)+len(t.SearchIndexes) > 0 {
		return invalid("a timeseries table has options, columns or indexes that only others have")
	}
	if err := s.validate(); err != nil {
		return fmt.Errorf("timeseries: %w", err)
	}
	return nil
}

func (s Timeseries) validate() error {
	if s.TTL < -1 || s.MetaTTL < -1 {
		return invalid("ttl %d, meta_ttl %d", s.TTL, s.MetaTTL)
	}
	stores := make([]string, len(s.AnalyticalStores))
	for i, a := range s.AnalyticalStores {
		stores[i] = a.Name
		if a.TTL < -1 || a.Sync != "" && a.Sync != "FULL" && a.Sync != "INCR" {
			return invalid("analytical store %q: ttl %d, sync %q", clip(a.Name), a.TTL, clip(a.Sync))
		}
	}
	if err := checkNames("key", s.Keys); err != nil {
		return err
	}
	if err := checkNames("analytical store", stores); err != nil {
		return err
	}
	return checkNames("lastpoint index", s.LastpointIndexes)
}

// checkNames checks names that are like those of tables, and different.
func checkNames(what string, names []string) error {
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if err := checkIdentifier(what, name); err != nil {
			return err
		}
		if seen[name] {
			return invalid("%s %q is there twice", what, name)
		}
		seen[name] = true
	}
	return nil
}
