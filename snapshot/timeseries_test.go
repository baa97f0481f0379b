package snapshot_test

import (
	"slices"
	"testing"

	"github.com/otsnap/otsnap/snapshot"
)

func TestSelectKeepsThePartsOfATimeseriesTableTogether(t *testing.T) {
	names := []string{"cpu", "cpu.meta", "cpu_total", "orders"}
	for _, c := range []struct {
		globs []string
		want  []string
	}{
		{nil, names},
		{[]string{"cpu"}, []string{"cpu", "cpu.meta"}},
		{[]string{"cpu.meta"}, []string{"cpu", "cpu.meta"}},
		{[]string{"*.meta"}, []string{"cpu", "cpu.meta"}},
		{[]string{"!cpu"}, []string{"cpu_total", "orders"}},
		{[]string{"!*.meta"}, []string{"cpu_total", "orders"}},
		{[]string{"cpu*", "!cpu_*"}, []string{"cpu", "cpu.meta"}},
	} {
		got, err := snapshot.Select(names, c.globs)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("Select(%q) = %v, %v; want %v", c.globs, got, err, c.want)
		}
	}
}
