package row

import (
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/manifest"
)

func TestTallyCountsNewestVersions(t *testing.T) {
	bare := mustLayout(t, testKey)
	var tally Tally
	for range 2 {
		b := buildRows(t, bare,
			cellsRow(testCell{"a", int64(1), 9}, testCell{"a", "old", 8}, testCell{"b", true, 9}),
			cellsRow(testCell{"a", "x", 9}, testCell{"a", int64(1), 8}),
			cellsRow(testCell{"a", int64(1), 9}, testCell{"id", 1.5, 9}, testCell{"z", []byte{}, 9}),
			cellsRow(),
		)
		if err := tally.Add(b); err != nil {
			t.Fatal(err)
		}
	}
	want := []Count{
		{"a", manifest.Integer, 4}, {"a", manifest.String, 2}, {"b", manifest.Boolean, 2},
		{"id", manifest.Double, 2}, {"z", manifest.Binary, 2},
	}
	if got := tally.Counts(); !slices.Equal(got, want) {
		t.Errorf("counts are %v, want %v", got, want)
	}
}

func TestTallyRefusesPromotedColumns(t *testing.T) {
	var tally Tally
	err := tally.Add(NewBuilder(memory.DefaultAllocator, testLayout(t)).Batch())
	if err == nil || !strings.Contains(err.Error(), "row: tally") {
		t.Errorf("error is %v", err)
	}
}

func TestChoose(t *testing.T) {
	key := []manifest.KeyColumn{{Name: "id", Type: manifest.Integer}}
	counts := []Count{
		{"rare", manifest.String, 1},
		{"often", manifest.Integer, 60}, {"often", manifest.String, 40},
		{"tie", manifest.String, 5}, {"tie", manifest.Boolean, 5},
		{"also", manifest.Integer, 10},
		{"Often", manifest.Integer, 99},
		{"ID", manifest.Integer, 1000}, {"__Ts", manifest.Integer, 1000}, {"no.name", manifest.Integer, 1000},
		{"DEF", manifest.String, 1000},
	}
	defined := []manifest.Column{{Name: "def", Type: manifest.Double}, {Name: "id", Type: manifest.Integer}}
	all := []manifest.Column{
		{Name: "also", Type: manifest.Integer}, {Name: "def", Type: manifest.Double}, {Name: "often", Type: manifest.Integer},
		{Name: "rare", Type: manifest.String}, {Name: "tie", Type: manifest.Boolean},
	}
	tests := []struct {
		max  int
		want []manifest.Column
	}{
		{256, all},
		{5, all},
		{4, []manifest.Column{all[0], all[1], all[2], all[4]}},
		{3, []manifest.Column{all[0], all[1], all[2]}},
		{2, []manifest.Column{all[1], all[2]}},
		{1, []manifest.Column{all[1]}},
		{0, nil},
	}
	for _, tt := range tests {
		got := Choose(key, defined, counts, tt.max)
		if !slices.Equal(got, tt.want) {
			t.Errorf("at most %d: chosen are %v, want %v", tt.max, got, tt.want)
		}
		if _, err := NewLayout(key, got); err != nil {
			t.Errorf("at most %d: %v", tt.max, err)
		}
	}
	reversed := slices.Clone(counts)
	slices.Reverse(reversed)
	if got := Choose(key, defined, reversed, 256); !slices.Equal(got, all) {
		t.Errorf("chosen from reversed counts are %v, want %v", got, all)
	}
}
