package snapshot_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// TestARestoreSpreadsItsWrites counts what a table of eight partitions gets while
// it is restored, and while the same rows are written in the order of their keys.
func TestARestoreSpreadsItsWrites(t *testing.T) {
	if testing.Short() {
		t.Skip("its clock runs ahead, too far for a slow run")
	}
	const rows, partitions = 24_000, 8
	begun := time.Now()
	s := newServiceWith(t, local.Options{Clock: func() time.Time { return begun.Add(25 * time.Since(begun)) }}) // a second is 40 ms
	var bounds []any
	for i := 1; i < partitions; i++ {
		bounds = append(bounds, fmt.Sprintf("row-%06d", i*rows/partitions))
	}
	for _, instance := range []string{"source", "target"} {
		if err := s.Partition(instance, "plain", bounds...); err != nil {
			t.Fatal(err)
		}
	}
	fillPlain(t, s.client("source"), "plain", rows)
	a, key := newArchive(t, new(archivetest.Memory))
	export(t, s, a, key, "plain")
	if _, err := restoring(t, s, a, "target").Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	inOrder, restored := hottest(t, s, "source", rows), hottest(t, s, "target", rows)
	t.Logf("of the rows of a second, the partition with most had %.0f %% when written in order, %.0f %% in the restore; evenly it is %.0f %%",
		100*inOrder, 100*restored, 100.0/partitions)
	if restored > inOrder*2/3 {
		t.Errorf("the restore's writes are not spread")
	}
}

// hottest returns which share of the rows of a second went to the partition that
// had most, on average over all rows.
func hottest(t *testing.T, s *service, instance string, rows int64) float64 {
	t.Helper()
	var most, all int64
	for _, second := range s.Writes(instance, "plain") {
		var busiest int64
		for _, p := range second.Partitions {
			busiest = max(busiest, p.Rows)
			all += p.Rows
		}
		most += busiest
	}
	if all != rows {
		t.Fatalf("%d rows were written to %s, want %d", all, instance, rows)
	}
	return float64(most) / float64(all)
}
