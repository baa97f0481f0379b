package local

import (
	"fmt"
	"slices"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

func idKey(id any) *tablestore.PrimaryKey {
	k := &tablestore.PrimaryKey{}
	switch id {
	case "min":
		k.AddPrimaryKeyColumnWithMinValue("id")
	case "max":
		k.AddPrimaryKeyColumnWithMaxValue("id")
	default:
		k.AddPrimaryKeyColumn("id", id)
	}
	return k
}

// scanIDs reads a range of the table events page by page, and shows its rows.
func scanIDs(t *testing.T, c *tablestore.TableStoreClient, from, to *tablestore.PrimaryKey, direction tablestore.Direction) (rows []string) {
	t.Helper()
	for from != nil {
		resp := must[*tablestore.GetRangeResponse](t)(c.GetRange(&tablestore.GetRangeRequest{RangeRowQueryCriteria: &tablestore.RangeRowQueryCriteria{
			TableName: "events", StartPrimaryKey: from, EndPrimaryKey: to, Direction: direction, MaxVersion: 1, Limit: 70,
		}}))
		for _, r := range resp.Rows {
			rows = append(rows, show(r.PrimaryKey, r.Columns))
		}
		from = resp.NextStartPrimaryKey
	}
	return rows
}

// TestGeneratedRowsAreReadLikeOthers: whole, in parts, backward and one by one, they
// are the same rows.
func TestGeneratedRowsAreReadLikeOthers(t *testing.T) {
	_, c := serve(t, Options{Generated: []Generated{{"demo", "events", 1000}}})
	all := scanIDs(t, c, idKey("min"), idKey("max"), tablestore.FORWARD)
	if len(all) != 1000 || all[3] == all[4] {
		t.Fatalf("%d rows, want 1000: %q...", len(all), all[:5])
	}
	for _, test := range []struct{ from, to, first, last int64 }{{0, 10, 0, 9}, {-5, 3, 0, 2}, {990, 2000, 990, 999}, {123, 124, 123, 123}} {
		got := scanIDs(t, c, idKey(test.from), idKey(test.to), tablestore.FORWARD)
		if want := all[test.first : test.last+1]; !slices.Equal(got, want) {
			t.Errorf("%d to %d: %d rows from %q, want %d", test.from, test.to, len(got), got[:1], len(want))
		}
	}
	back := scanIDs(t, c, idKey("max"), idKey("min"), tablestore.BACKWARD)
	slices.Reverse(back)
	if !slices.Equal(back, all) {
		t.Error("backward there are other rows")
	}
	for id, want := range map[int64]string{7: all[7], 999: all[999], 1000: "", -1: ""} {
		resp := must[*tablestore.GetRowResponse](t)(c.GetRow(&tablestore.GetRowRequest{SingleRowQueryCriteria: &tablestore.SingleRowQueryCriteria{
			TableName: "events", PrimaryKey: idKey(id), MaxVersion: 1,
		}}))
		got := ""
		if len(resp.PrimaryKey.PrimaryKeys) > 0 {
			got = show(&resp.PrimaryKey, resp.Columns)
		}
		if got != want {
			t.Errorf("row %d is %q, want %q", id, got, want)
		}
	}
	unit := int64(1)
	parts := must[*tablestore.ComputeSplitPointsBySizeResponse](t)(c.ComputeSplitPointsBySize(&tablestore.ComputeSplitPointsBySizeRequest{
		TableName: "events", SplitSize: 20_000, SplitSizeUnitInByte: &unit,
	})).Splits
	var joined []string
	for _, p := range parts {
		joined = append(joined, scanIDs(t, c, p.LowerBound, p.UpperBound, tablestore.FORWARD)...)
	}
	if len(parts) < 3 || !slices.Equal(joined, all) {
		t.Errorf("%d splits have %d rows, want 3 or more and the same rows", len(parts), len(joined))
	}
}

func TestGeneratedTablesAreNotChanged(t *testing.T) {
	_, c := serve(t, Options{Generated: []Generated{{"demo", "events", 10}}})
	change := &tablestore.PutRowChange{TableName: "events", PrimaryKey: idKey(int64(3))}
	change.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
	_, put := c.PutRow(&tablestore.PutRowRequest{PutRowChange: change})
	_, drop := c.DeleteTable(&tablestore.DeleteTableRequest{TableName: "events"})
	for what, err := range map[string]error{"put": put, "delete the table": drop} {
		if code(err) != "OTSUnsupportOperation" {
			t.Errorf("%s: %v, want OTSUnsupportOperation", what, err)
		}
	}
}

func TestWhatIsGeneratedIsWrittenOneWay(t *testing.T) {
	got, err := ParseGenerated("source/events:1000000")
	if want := (Generated{"source", "events", 1_000_000}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "events:10", "source/events", "source/events:0", "source/events:-1", "source/events:ten", "/events:10"} {
		if _, err := ParseGenerated(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	for _, bad := range [][]Generated{{{"source", "no-name", 1}}, {{"source", "a", 1}, {"source", "a", 2}}} {
		if s, err := Open(Options{Generated: bad}); err == nil {
			s.Close()
			t.Errorf("%s is opened", fmt.Sprint(bad))
		}
	}
}
