package tablestore

import (
	"io"
	"slices"
	"strings"
	"testing"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

func TestDelete(t *testing.T) {
	rows := sample(650, 21)
	keys := keysOf(t, layoutOf(t, orders), rows)
	backwards := slices.Clone(keys)
	slices.Reverse(backwards)
	for name, test := range map[string]struct {
		keys []manifest.Key
		left []*ots.Row
	}{
		"none":            {nil, rows},
		"one":             {keys[7:8], slices.Delete(slices.Clone(rows), 7, 8)},
		"twice":           {slices.Concat(keys[7:9], keys[8:9]), slices.Delete(slices.Clone(rows), 7, 9)},
		"200 and one":     {keys[:201], rows[201:]},
		"all, backwards":  {backwards, nil},
		"what is no more": {keysOf(t, layoutOf(t, orders), []*ots.Row{{PrimaryKey: key("XX", 1, nil)}}), rows},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.create(t, orders)
			s.fill(t, orders, rows)
			if err := s.open(t).Delete(t.Context(), orders, test.keys); err != nil {
				t.Fatal(err)
			}
			compareRows(t, wire(s.read(t, orders)), wire(test.left))
		})
	}
}

func TestDeleteSurvivesFaults(t *testing.T) {
	rows := sample(250, 22)
	for _, kind := range []local.FaultKind{local.FaultRows, local.FaultRowsTimeout, local.FaultCutAfter, local.FaultBusy} {
		s := newStage(t)
		s.create(t, orders)
		s.fill(t, orders, rows)
		if err := s.server.Misbehave(local.Fault{Action: "BatchWriteRow", Kind: kind, Times: 3}); err != nil {
			t.Fatal(err)
		}
		if err := s.open(t).Delete(t.Context(), orders, keysOf(t, layoutOf(t, orders), rows[:240])); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		compareRows(t, wire(s.read(t, orders)), wire(rows[240:]))
	}
}

func TestDeleteNamesWhatItIsRefused(t *testing.T) {
	in := newStage(t).open(t)
	rows := sample(3, 1)
	err := in.Delete(t.Context(), orders, keysOf(t, layoutOf(t, orders), rows))
	if err == nil || !strings.Contains(err.Error(), "tablestore: delete: ") || !strings.Contains(err.Error(), "table orders: OTSObjectNotExist") {
		t.Errorf("a missing table gave %v", err)
	}
	in = (&service{answers: []answer{lose(io.EOF)}}).open(t)
	err = in.Delete(t.Context(), orders, []manifest.Key{keysOf(t, layoutOf(t, orders), rows)[1][:4]})
	if err == nil || !strings.Contains(err.Error(), "table orders") {
		t.Errorf("a key that is not whole gave %v", err)
	}
}
