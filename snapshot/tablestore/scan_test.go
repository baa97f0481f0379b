package tablestore

import (
	"slices"
	"testing"

	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

func TestScanReturnsWhatTheSDKWrote(t *testing.T) {
	s := newStage(t)
	s.create(t, orders)
	rows := sample(12_000, 1)
	s.fill(t, orders, rows)
	in := s.open(t)

	got, err := scan(t, in, snapshot.Scan{Table: orders, Layout: layoutOf(t, orders), Rows: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(rows, compareKeys) {
		t.Fatal("the sample is not in key order")
	}
	compareRows(t, got, wire(rows))
	compareRows(t, got, wire(s.read(t, orders)))
}

func TestWriteIsWhatTheSDKReads(t *testing.T) {
	s := newStage(t)
	in := s.open(t)
	mustCreate(t.Context(), t, in, orders)
	rows := sample(3000, 2)
	for range 2 { // the second time changes nothing
		mustWrite(t, in, orders, rows)
		compareRows(t, wire(s.read(t, orders)), wire(rows))
	}
}

var _ = manifest.Key(nil)
