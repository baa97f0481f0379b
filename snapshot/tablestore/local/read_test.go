package local

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// serveRow is a server with one row of several versions.
func serveRow(t *testing.T) (*Server, *tablestore.TableStoreClient) {
	t.Helper()
	s, c := serveTable(t, Options{})
	err := put(c, key("a", 1),
		col{"a", int64(3), 30}, col{"a", int64(2), 20}, col{"a", int64(1), 10},
		col{"b", "two", 20}, col{"b", "one", 10},
		col{"c", 0.5, 10},
		col{"d", true, 40})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func TestAReadChoosesCells(t *testing.T) {
	_, c := serveRow(t)
	type criteria = tablestore.SingleRowQueryCriteria
	text := func(s string) *string { return &s }
	for _, test := range []struct {
		name string
		edit func(*criteria)
		want string
	}{
		{"all", func(*criteria) {}, "[a 1] a@30=3 a@20=2 a@10=1 b@20=two b@10=one c@10=0.5 d@40=true"},
		{"newest", func(cr *criteria) { cr.MaxVersion = 1 }, "[a 1] a@30=3 b@20=two c@10=0.5 d@40=true"},
		{"two versions", func(cr *criteria) { cr.MaxVersion = 2 }, "[a 1] a@30=3 a@20=2 b@20=two b@10=one c@10=0.5 d@40=true"},
		{"columns", func(cr *criteria) { cr.ColumnsToGet = []string{"d", "a"} }, "[a 1] a@30=3 a@20=2 a@10=1 d@40=true"},
		{"no such column", func(cr *criteria) { cr.ColumnsToGet = []string{"z"} }, ""},
		{"a column of the key", func(cr *criteria) { cr.ColumnsToGet = []string{"z", "s"} }, "[a 1]"},
		{"times, the end exclusive", func(cr *criteria) { cr.TimeRange = &tablestore.TimeRange{Start: 10, End: 20} }, "[a 1] a@10=1 b@10=one c@10=0.5"},
		{"times and versions", func(cr *criteria) { cr.MaxVersion, cr.TimeRange = 1, &tablestore.TimeRange{Start: 10, End: 30} }, "[a 1] a@20=2 b@20=two c@10=0.5"},
		{"one time", func(cr *criteria) { cr.MaxVersion, cr.TimeRange = 0, &tablestore.TimeRange{Specific: 20} }, "[a 1] a@20=2 b@20=two"},
		{"times of no cell", func(cr *criteria) { cr.TimeRange = &tablestore.TimeRange{Start: 50, End: 60} }, "[a 1]"},
		{"times of no cell, columns", func(cr *criteria) {
			cr.ColumnsToGet, cr.TimeRange = []string{"a"}, &tablestore.TimeRange{Start: 50, End: 60}
		}, ""},
		{"from a column", func(cr *criteria) { cr.StartColumn = text("b") }, "[a 1] b@20=two b@10=one c@10=0.5 d@40=true"},
		{"to a column, exclusive", func(cr *criteria) { cr.EndColumn = text("b") }, "[a 1] a@30=3 a@20=2 a@10=1"},
		{"between columns", func(cr *criteria) { cr.StartColumn, cr.EndColumn = text("aa"), text("c") }, "[a 1] b@20=two b@10=one"},
		{"no column between", func(cr *criteria) { cr.StartColumn = text("x") }, "[a 1]"},
		{"page of columns", func(cr *criteria) { cr.SetFilter(&tablestore.PaginationFilter{Offset: 1, Limit: 2}) }, "[a 1] b@20=two b@10=one c@10=0.5"},
		{"last page", func(cr *criteria) { cr.SetFilter(&tablestore.PaginationFilter{Offset: 3, Limit: 5}) }, "[a 1] d@40=true"},
		{"beyond the last page", func(cr *criteria) { cr.SetFilter(&tablestore.PaginationFilter{Offset: 4, Limit: 5}) }, "[a 1]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := get(t, c, key("a", 1), test.edit); got != test.want {
				t.Errorf("row\n%s\nwant\n%s", got, test.want)
			}
			// A scan of the row alone chooses alike.
			cr := &criteria{MaxVersion: 1 << 30}
			test.edit(cr)
			scan := everything()
			scan.ColumnsToGet, scan.MaxVersion, scan.TimeRange = cr.ColumnsToGet, int32(cr.MaxVersion), cr.TimeRange
			scan.StartColumn, scan.EndColumn, scan.Filter = cr.StartColumn, cr.EndColumn, cr.Filter
			if got := strings.Join(scanAll(t, c, scan), "|"); got != test.want {
				t.Errorf("scan\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestReadsAreRefused(t *testing.T) {
	s, _ := serveRow(t)
	names := func(n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprint("c", i))
		}
		return names
	}
	for _, test := range []struct {
		name string
		edit func(*otsprotocol.GetRowRequest)
		code string
		says string
	}{
		{"as it is", func(*otsprotocol.GetRowRequest) {}, "", ""},
		{"no versions", func(r *otsprotocol.GetRowRequest) { r.MaxVersions = nil }, "OTSParameterInvalid", "No version condition"},
		{"zero versions", func(r *otsprotocol.GetRowRequest) { r.MaxVersions = proto.Int32(0) }, "OTSParameterInvalid", "must be positive"},
		{"time and versions", func(r *otsprotocol.GetRowRequest) {
			r.TimeRange = &otsprotocol.TimeRange{SpecificTime: proto.Int64(1)}
		}, "OTSParameterInvalid", "max versions cannot be given"},
		{"time and times", func(r *otsprotocol.GetRowRequest) {
			r.MaxVersions = nil
			r.TimeRange = &otsprotocol.TimeRange{SpecificTime: proto.Int64(1), StartTime: proto.Int64(1), EndTime: proto.Int64(2)}
		}, "OTSParameterInvalid", "time range cannot be given"},
		{"time zero", func(r *otsprotocol.GetRowRequest) {
			r.MaxVersions, r.TimeRange = nil, &otsprotocol.TimeRange{SpecificTime: proto.Int64(0)}
		}, "", ""},
		{"negative time", func(r *otsprotocol.GetRowRequest) {
			r.MaxVersions, r.TimeRange = nil, &otsprotocol.TimeRange{SpecificTime: proto.Int64(-1)}
		}, "OTSParameterInvalid", "cannot be less than 0"},
		{"start alone", func(r *otsprotocol.GetRowRequest) { r.TimeRange = &otsprotocol.TimeRange{StartTime: proto.Int64(1)} }, "OTSParameterInvalid", "at the same time"},
		{"end before start", func(r *otsprotocol.GetRowRequest) {
			r.TimeRange = &otsprotocol.TimeRange{StartTime: proto.Int64(2), EndTime: proto.Int64(1)}
		}, "OTSParameterInvalid", "Invalid time range"},
		{"128 columns", func(r *otsprotocol.GetRowRequest) { r.ColumnsToGet = names(128) }, "", ""},
		{"129 columns", func(r *otsprotocol.GetRowRequest) { r.ColumnsToGet = names(129) }, "OTSParameterInvalid", "limit count: 128, column count: 129"},
		{"column twice", func(r *otsprotocol.GetRowRequest) { r.ColumnsToGet = append(names(128), names(10)...) }, "", ""},
		{"bad column", func(r *otsprotocol.GetRowRequest) { r.ColumnsToGet = []string{"#"} }, "OTSParameterInvalid", "Invalid column name: '#'."},
		{"token", func(r *otsprotocol.GetRowRequest) { r.Token = []byte{1} }, "OTSUnsupportOperation", "token"},
		{"transaction", func(r *otsprotocol.GetRowRequest) { r.TransactionId = proto.String("x") }, "OTSParameterInvalid", "transaction"},
		{"cells", func(r *otsprotocol.GetRowRequest) {
			r.PrimaryKey = rowBuffer(keyCells("a", 1), makeCell([]byte("x"), integerValue(1), 0, false))
		}, "OTSParameterInvalid", "Attribute column cannot be given"},
		{"marker", func(r *otsprotocol.GetRowRequest) { r.PrimaryKey = key("a", 1).Build(true) }, "OTSParameterInvalid", "Delete marker"},
		{"no table", func(r *otsprotocol.GetRowRequest) { r.TableName = proto.String("missing") }, "OTSObjectNotExist", ""},
		{"no filter", func(r *otsprotocol.GetRowRequest) { r.Filter = []byte("not a filter") }, "OTSParameterInvalid", "Deserialize filter failed."},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := &otsprotocol.GetRowRequest{TableName: proto.String("t"), PrimaryKey: rowBuffer(keyCells("a", 1)), MaxVersions: proto.Int32(1)}
			test.edit(req)
			wantCode(t, ask(t, s, "GetRow", req, nil), test.code, test.says)
		})
	}
}

func TestCapacityUnitsOfReads(t *testing.T) {
	_, c := serveTable(t, Options{})
	if err := put(c, key("a", 1), col{"x", strings.Repeat("v", 10_000), 0}); err != nil {
		t.Fatal(err)
	}
	for row, want := range map[string]int32{"a": 3, "none": 1} {
		resp := must[*tablestore.GetRowResponse](t)(c.GetRow(&tablestore.GetRowRequest{SingleRowQueryCriteria: &tablestore.SingleRowQueryCriteria{TableName: "t", PrimaryKey: key(row, 1), MaxVersion: 1}}))
		if got := resp.ConsumedCapacityUnit.Read; got != want {
			t.Errorf("row %s: %d units, want %d", row, got, want)
		}
	}
}

func TestFilters(t *testing.T) {
	_, c := serveRow(t)
	const (
		and, or, not   = tablestore.LO_AND, tablestore.LO_OR, tablestore.LO_NOT
		eq, ne, lt, le = tablestore.CT_EQUAL, tablestore.CT_NOT_EQUAL, tablestore.CT_LESS_THAN, tablestore.CT_LESS_EQUAL
		gt, ge         = tablestore.CT_GREATER_THAN, tablestore.CT_GREATER_EQUAL
	)
	is := func(column string, op tablestore.ComparatorType, v any) *tablestore.SingleColumnCondition {
		f := tablestore.NewSingleColumnCondition(column, op, v)
		f.LatestVersionOnly = true
		return f
	}
	all := func(op tablestore.LogicalOperator, parts ...tablestore.ColumnFilter) tablestore.ColumnFilter {
		f := tablestore.NewCompositeColumnCondition(op)
		for _, p := range parts {
			f.AddFilter(p)
		}
		return f
	}
	anyVersion := func(f *tablestore.SingleColumnCondition) *tablestore.SingleColumnCondition {
		f.LatestVersionOnly = false
		return f
	}
	dropMissing := func(f *tablestore.SingleColumnCondition) *tablestore.SingleColumnCondition {
		f.FilterIfMissing = true
		return f
	}
	rule := func(column, regex string, cast tablestore.VariantType, op tablestore.ComparatorType, v any) tablestore.ColumnFilter {
		return tablestore.NewSingleColumnValueRegexFilter(column, op, tablestore.NewValueTransferRule(regex, cast), v)
	}
	yes, no := is("d", eq, true), is("d", eq, false)
	for _, test := range []struct {
		name   string
		filter tablestore.ColumnFilter
		passes bool
	}{
		{"integer =", is("a", eq, int64(3)), true},
		{"integer = an older version", is("a", eq, int64(2)), false},
		{"integer = any version", anyVersion(is("a", eq, int64(2))), true},
		{"integer <>", is("a", ne, int64(3)), false},
		{"integer >", is("a", gt, int64(2)), true},
		{"integer > itself", is("a", gt, int64(3)), false},
		{"integer >= itself", is("a", ge, int64(3)), true},
		{"integer <", is("a", lt, int64(-4)), false},
		{"integer <= itself", is("a", le, int64(3)), true},
		{"string >", is("b", gt, "tw"), true},
		{"string <", is("b", lt, "tw"), false},
		{"double <", is("c", lt, 0.6), true},
		{"boolean =", yes, true},
		{"another type is not equal", is("a", eq, "3"), false},
		{"another type differs", is("a", ne, "3"), true},
		{"another type has no order", is("a", gt, ""), false},
		{"a column of the key", is("s", eq, "a"), true},
		{"another key", is("s", eq, "b"), false},
		{"a missing column passes", is("z", eq, "v"), true},
		{"a missing column drops", dropMissing(is("z", eq, "v")), false},
		{"and", all(and, yes, is("a", eq, int64(3))), true},
		{"and, one fails", all(and, yes, no, yes), false},
		{"or", all(or, no, no, yes), true},
		{"or, all fail", all(or, no, no), false},
		{"not", all(not, no), true},
		{"nested", all(and, yes, all(or, no, all(not, no))), true},
		{"rule", rule("b", "^(t)", tablestore.Variant_STRING, eq, "t"), true},
		{"rule, other text", rule("b", "^t(.*)$", tablestore.Variant_STRING, eq, "w"), false},
		{"rule on no string counts as missing", rule("a", "3", tablestore.Variant_INTEGER, eq, int64(4)), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := get(t, c, key("a", 1), func(cr *tablestore.SingleRowQueryCriteria) { cr.SetFilter(test.filter) })
			if passes := got != ""; passes != test.passes {
				t.Errorf("passes: %v, want %v", passes, test.passes)
			}
		})
	}
	many := func(n int) tablestore.ColumnFilter {
		var parts []tablestore.ColumnFilter
		for range n {
			parts = append(parts, yes)
		}
		return all(and, parts...)
	}
	deep := func(n int) tablestore.ColumnFilter {
		f := tablestore.ColumnFilter(yes)
		for range n {
			f = all(not, f)
		}
		return f
	}
	bad := is("x", eq, "v")
	bad.ColumnName = proto.String("#")
	unmatched := rule("b", "(", tablestore.Variant_STRING, eq, "t")
	for _, test := range []struct {
		name   string
		filter tablestore.ColumnFilter
		says   string
	}{
		{"10 comparisons", many(10), ""},
		{"11 comparisons", many(11), "The count of filter exceeds the max:10."},
		{"and of one", many(1), "number of sub-filters must be 2"},
		{"not of two", all(not, yes, no), "number of sub-filters must be 1"},
		{"20 levels", deep(19), ""},
		{"21 levels", deep(20), "more than 20 within each other"},
		{"page inside", all(and, yes, &tablestore.PaginationFilter{Limit: 1}), "Invalid type of sub-filter"},
		{"page of none", &tablestore.PaginationFilter{Limit: 0}, "Limit in ColumnPaginationFilter"},
		{"page before the first", &tablestore.PaginationFilter{Offset: -1, Limit: 1}, "Offset in ColumnPaginationFilter"},
		{"bad column", bad, "Invalid column name: '#'."},
		{"bad rule", unmatched, "Invalid regex"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := c.GetRow(&tablestore.GetRowRequest{SingleRowQueryCriteria: &tablestore.SingleRowQueryCriteria{TableName: "t", PrimaryKey: key("a", 1), MaxVersion: 1, Filter: test.filter}})
			if test.says == "" {
				wantCode(t, err, "")
				return
			}
			wantCode(t, err, "OTSParameterInvalid", test.says)
		})
	}
	page := putChange(key("a", 1))
	page.SetColumnCondition(&tablestore.PaginationFilter{Limit: 1})
	_, err := c.PutRow(&tablestore.PutRowRequest{PutRowChange: page})
	wantCode(t, err, "OTSParameterInvalid", "pagination")
}
