package tablestore

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// wideRow has so many columns, with values of its own.
func wideRow(id int64, columns int, value string) *ots.Row {
	r := &ots.Row{PrimaryKey: key("CH", id, nil)}
	for _, name := range names(columns) {
		r.Columns = append(r.Columns, &ots.AttributeColumn{ColumnName: name, Value: value, Timestamp: 5})
	}
	return r
}

func insert(t *testing.T, in *Instance, rows []*ots.Row) (snapshot.Written, error) {
	t.Helper()
	l := layoutOf(t, orders)
	return in.Write(t.Context(), snapshot.Write{Table: orders, Layout: l, Record: record(t, l, rows), Insert: true})
}

func TestInsertLeavesRowsAlone(t *testing.T) {
	part := func(r *ots.Row, n int) *ots.Row { return &ots.Row{PrimaryKey: r.PrimaryKey, Columns: r.Columns[:n]} }
	ours := []*ots.Row{wideRow(0, 0, ""), wideRow(1, 1, "ours"), wideRow(2, 2500, "ours"), wideRow(3, 1, "ours")}
	for name, test := range map[string]struct {
		there []*ots.Row
		left  []*ots.Row // of those that were there
		want  snapshot.Written
	}{
		"none":                    {nil, nil, snapshot.Written{Rows: 4}},
		"without cells":           {[]*ots.Row{wideRow(0, 1, "theirs")}, []*ots.Row{wideRow(0, 1, "theirs")}, snapshot.Written{Rows: 3, Kept: 1}},
		"narrow":                  {[]*ots.Row{wideRow(1, 2, "theirs")}, []*ots.Row{wideRow(1, 2, "theirs")}, snapshot.Written{Rows: 3, Kept: 1}},
		"wide":                    {[]*ots.Row{wideRow(2, 1024, "theirs")}, []*ots.Row{wideRow(2, 1024, "theirs")}, snapshot.Written{Rows: 3, Kept: 1}},
		"all":                     {ours, ours, snapshot.Written{Kept: 4}},
		"the first part":          {[]*ots.Row{part(ours[2], 1024)}, nil, snapshot.Written{Rows: 4}},
		"two parts":               {[]*ots.Row{part(ours[2], 2048)}, nil, snapshot.Written{Rows: 4}},
		"less than a part":        {[]*ots.Row{part(ours[2], 1023)}, []*ots.Row{part(ours[2], 1023)}, snapshot.Written{Rows: 3, Kept: 1}},
		"more than a part":        {[]*ots.Row{part(ours[2], 1025)}, []*ots.Row{part(ours[2], 1025)}, snapshot.Written{Rows: 3, Kept: 1}},
		"none of a wide one":      {[]*ots.Row{part(ours[2], 0)}, []*ots.Row{part(ours[2], 0)}, snapshot.Written{Rows: 3, Kept: 1}},
		"the second part":         {[]*ots.Row{{PrimaryKey: ours[2].PrimaryKey, Columns: ours[2].Columns[1024:2048]}}, []*ots.Row{{PrimaryKey: ours[2].PrimaryKey, Columns: ours[2].Columns[1024:2048]}}, snapshot.Written{Rows: 3, Kept: 1}},
		"more than ours has":      {[]*ots.Row{wideRow(2, 2501, "ours")}, []*ots.Row{wideRow(2, 2501, "ours")}, snapshot.Written{Rows: 3, Kept: 1}},
		"others that are between": {[]*ots.Row{wideRow(-1, 1, "theirs"), wideRow(4, 1, "theirs")}, []*ots.Row{wideRow(-1, 1, "theirs"), wideRow(4, 1, "theirs")}, snapshot.Written{Rows: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			in := s.open(t)
			mustCreate(t.Context(), t, in, orders)
			mustWrite(t, in, orders, test.there)
			got, err := insert(t, in, ours)
			if got != test.want || err != nil {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
			want := slices.Clone(test.left)
			for _, r := range ours {
				if !slices.ContainsFunc(want, func(x *ots.Row) bool { return compareKeys(x, r) == 0 }) {
					want = append(want, r)
				}
			}
			slices.SortFunc(want, compareKeys)
			compareRows(t, wire(s.read(t, orders)), wire(want))
		})
	}
}

// Whatever happens on the way, rows that were there are left alone, and every row
// of ours is counted as written.
func TestInsertSurvivesFaults(t *testing.T) {
	ours := append(sample(120, 31), wideRow(1_000_000, 2500, "ours"), wideRow(1_000_001, 1500, "ours"))
	slices.SortFunc(ours, compareKeys)
	var there, want []*ots.Row
	for i, r := range ours {
		if i%10 == 3 && len(r.Columns) < 1000 {
			r = &ots.Row{PrimaryKey: r.PrimaryKey, Columns: wideRow(0, 3, "theirs").Columns}
			there = append(there, r)
		}
		want = append(want, r)
	}
	for kind, actions := range faults {
		if !slices.Contains(actions, "BatchWriteRow") {
			continue
		}
		t.Run(string(kind), func(t *testing.T) {
			s := newStage(t)
			in := s.open(t)
			mustCreate(t.Context(), t, in, orders)
			mustWrite(t, in, orders, there)
			err := s.server.Misbehave(
				local.Fault{Action: "BatchWriteRow", Kind: kind, Probability: 0.5, Times: 5},
				local.Fault{Action: "GetRange", Kind: local.FaultEmptyPage, Probability: 0.2},
				local.Fault{Action: "GetRange", Kind: local.FaultCorrupt, Probability: 0.05},
			)
			if err != nil {
				t.Fatal(err)
			}
			got, err := insert(t, in, ours)
			if want := (snapshot.Written{Rows: int64(len(ours) - len(there)), Kept: int64(len(there))}); got != want || err != nil {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
			if err := s.server.Misbehave(); err != nil {
				t.Fatal(err)
			}
			compareRows(t, wire(s.read(t, orders)), wire(want))
		})
	}
}

// What the service says is certain costs no look at the rows.
func TestInsertAsksOnlyWhenInDoubt(t *testing.T) {
	for name, test := range map[string]struct {
		fault local.FaultKind
		asks  bool
	}{
		"refused":    {local.FaultBusy, false},
		"lost":       {local.FaultCutAfter, true},
		"timed out":  {local.FaultTimeout, true},
		"some rows":  {local.FaultRows, false},
		"some, late": {local.FaultRowsTimeout, true},
	} {
		s := newStage(t)
		asked := false
		in := s.open(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(req *http.Request) (*http.Response, error) {
				asked = asked || actionOf(req) == "GetRange"
				return next.RoundTrip(req)
			})
		})
		s.create(t, orders)
		if err := s.server.Misbehave(local.Fault{Action: "BatchWriteRow", Kind: test.fault, Times: 1}); err != nil {
			t.Fatal(err)
		}
		if got, err := insert(t, in, sample(10, 1)); got.Rows != 10 || err != nil || asked != test.asks {
			t.Errorf("%s: got %+v, %v, asked %t", name, got, err, asked)
		}
	}
}

// A row that goes away while the parts of it are written is not made anew from
// its last parts.
func TestInsertOfAWideRowThatGoesAway(t *testing.T) {
	s := newStage(t)
	requests := 0
	in := s.open(t, func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			if actionOf(req) == "BatchWriteRow" {
				if requests++; requests == 2 {
					change := &ots.DeleteRowChange{TableName: orders.Name, PrimaryKey: key("CH", 1, nil)}
					change.SetCondition(ots.RowExistenceExpectation_IGNORE)
					if _, err := s.sdk.DeleteRow(&ots.DeleteRowRequest{DeleteRowChange: change}); err != nil {
						t.Error(err)
					}
				}
			}
			return next.RoundTrip(req)
		})
	})
	mustCreate(t.Context(), t, in, orders)
	got, err := insert(t, in, []*ots.Row{wideRow(1, 2000, "ours")})
	if got != (snapshot.Written{}) || err == nil || !strings.Contains(err.Error(), `row ("CH", 1, 0x)`) || !strings.Contains(err.Error(), "OTSConditionCheckFail") {
		t.Errorf("got %+v, %v", got, err)
	}
	if rows := s.read(t, orders); len(rows) > 0 {
		t.Errorf("%d rows are there", len(rows))
	}
}

func TestInsertNeedsToKnow(t *testing.T) {
	s := newStage(t)
	in := s.open(t, afterwards("BatchWriteRow", 1, io.ErrUnexpectedEOF), func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			if actionOf(req) == "GetRange" {
				return refuse(http.StatusForbidden, codeNoPermission, "")(req)
			}
			return next.RoundTrip(req)
		})
	})
	s.create(t, orders)
	got, err := insert(t, in, sample(2, 1))
	if got.Kept != 0 || !errors.Is(err, ErrCredentials) || !strings.Contains(err.Error(), "which exists") {
		t.Errorf("got %+v, %v", got, err)
	}
}
