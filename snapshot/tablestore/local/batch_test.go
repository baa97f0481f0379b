package local

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// batchOf asks for puts of rows, in one table after another.
func batchOf(table string, rows ...[]byte) *otsprotocol.TableInBatchWriteRowRequest {
	t := &otsprotocol.TableInBatchWriteRowRequest{TableName: &table}
	for _, r := range rows {
		t.Rows = append(t.Rows, &otsprotocol.RowInBatchWriteRowRequest{Type: otsprotocol.OperationType_PUT.Enum(), RowChange: r, Condition: ignore()})
	}
	return t
}

// write sends a batch and returns what became of its rows: "ok" or a code.
func write(t *testing.T, s *Server, atomic bool, tables ...*otsprotocol.TableInBatchWriteRowRequest) ([]string, error) {
	t.Helper()
	var resp otsprotocol.BatchWriteRowResponse
	err := ask(t, s, "BatchWriteRow", &otsprotocol.BatchWriteRowRequest{Tables: tables, IsAtomic: &atomic}, &resp)
	var results []string
	for _, table := range resp.Tables {
		for _, r := range table.Rows {
			switch {
			case r.GetIsOk():
				results = append(results, "ok")
			default:
				results = append(results, r.GetError().GetCode())
			}
		}
	}
	return results, err
}

func TestABatchWritesWhatItCan(t *testing.T) {
	s, c := serveTable(t, Options{})
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(tableOf("u")))
	if err := put(c, key("there", 1)); err != nil {
		t.Fatal(err)
	}
	b := &tablestore.BatchWriteRowRequest{}
	b.AddRowChange(putChange(key("new", 1), col{"x", "v", 5}))
	mustNot := putChange(key("there", 1), col{"x", "not written", 5})
	mustNot.SetCondition(tablestore.RowExistenceExpectation_EXPECT_NOT_EXIST)
	b.AddRowChange(mustNot)
	b.AddRowChange(putChange(key("wrong key")))
	other := putChange(key("other", 1), col{"x", "v", 6})
	other.TableName = "u"
	b.AddRowChange(other)
	resp := must[*tablestore.BatchWriteRowResponse](t)(c.BatchWriteRow(b))
	var codes []string
	for _, r := range resp.TableToRowsResult["t"] {
		codes = append(codes, r.Error.Code)
	}
	if want := []string{"", "OTSConditionCheckFail", "OTSInvalidPK"}; !slices.Equal(codes, want) {
		t.Errorf("results %q, want %q", codes, want)
	}
	if r := resp.TableToRowsResult["u"]; len(r) != 1 || !r[0].IsSucceed || r[0].ConsumedCapacityUnit.Write != 1 {
		t.Errorf("results %+v", r)
	}
	wantRows(t, scanAll(t, c, everything()), "[new 1] x@5=v", "[there 1]")

	results, err := write(t, s, false, batchOf("missing", rowBuffer(keyCells("a", 1))), batchOf("t", rowBuffer(keyCells("b", 1))))
	if err != nil || !slices.Equal(results, []string{"OTSObjectNotExist", "ok"}) {
		t.Errorf("results %q, %v", results, err)
	}
}

func TestBatchesAreRefusedAsAWhole(t *testing.T) {
	s, c := serveTable(t, Options{})
	rows := func(n int) (rows [][]byte) {
		for i := range n {
			rows = append(rows, rowBuffer(keyCells("a", int64(i))))
		}
		return rows
	}
	big := func(i int64, n int) []byte {
		return rowBuffer(keyCells("a", i), makeCell([]byte("x"), binaryValue(strings.Repeat("x", n)), 0, false))
	}
	for _, test := range []struct {
		name   string
		tables []*otsprotocol.TableInBatchWriteRowRequest
		says   string // "": accepted
	}{
		{"200 rows", []*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", rows(200)...)}, ""},
		{"201 rows", []*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", rows(201)...)}, "Rows count exceeds the upper limit: 200."},
		{"no table", nil, "No row is specified in BatchWriteRow."},
		{"no row", []*otsprotocol.TableInBatchWriteRowRequest{batchOf("t")}, "No operation is specified for table:'t'."},
		{"table twice", []*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", rows(1)...), batchOf("t", rows(1)...)}, "Duplicated table name: 't'."},
		{"bad table", []*otsprotocol.TableInBatchWriteRowRequest{batchOf("-", rows(1)...)}, "Invalid table name: '-'."},
		{"row twice", []*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", rows(1)[0], rows(1)[0])}, "Duplicate rows"},
		// A row is 11 bytes of key, 9 of name and version, and its value.
		{"4 MB", []*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", big(1, 2<<20-20), big(2, 2<<20-20))}, ""},
		{"above 4 MB", []*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", big(1, 2<<20-20), big(2, 2<<20-19))}, "limit size: 4194304, data size: 4194305"},
		{"bad value", []*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", rows(1)[0], big(1, 2<<20+1))}, "MaxLength:2097152"},
		{"broken row", []*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", rows(2)[1], []byte("not a row"))}, "mismatch header"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := write(t, s, false, test.tables...)
			if test.says == "" {
				wantCode(t, err, "")
				return
			}
			wantCode(t, err, "OTSParameterInvalid", test.says)
		})
	}
	if n := len(scanAll(t, c, everything())); n != 200 {
		t.Errorf("%d rows, want the 200 of the batches accepted", n)
	}
}

func TestAnAtomicBatchIsAllOrNothing(t *testing.T) {
	s, c := serveTable(t, Options{})
	// Changes to one row are made in turn.
	first := rowBuffer(keyCells("p", 1), makeCell([]byte("x"), integerValue(1), 5, true))
	b := batchOf("t", first)
	b.Rows = append(b.Rows, &otsprotocol.RowInBatchWriteRowRequest{
		Type:      otsprotocol.OperationType_UPDATE.Enum(),
		RowChange: rowBuffer(keyCells("p", 1), cellOp("x", opIncrement, integerValue(41), -1)),
		Condition: &otsprotocol.Condition{RowExistence: otsprotocol.RowExistenceExpectation_EXPECT_EXIST.Enum()},
	})
	results, err := write(t, s, true, b)
	if err != nil || !slices.Equal(results, []string{"ok", "ok"}) {
		t.Fatalf("results %q, %v", results, err)
	}
	newest := everything()
	newest.MaxVersion = 1
	if rows := scanAll(t, c, newest); len(rows) != 1 || !strings.HasSuffix(rows[0], "=42") {
		t.Errorf("rows %q", rows)
	}
	failing := batchOf("t", rowBuffer(keyCells("p", 2)), rowBuffer(keyCells("p", 3)))
	failing.Rows[1].Condition.RowExistence = otsprotocol.RowExistenceExpectation_EXPECT_EXIST.Enum()
	for name, test := range map[string]struct {
		tables []*otsprotocol.TableInBatchWriteRowRequest
		want   string
	}{
		"condition":  {[]*otsprotocol.TableInBatchWriteRowRequest{failing}, "OTSConditionCheckFail"},
		"partitions": {[]*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", rowBuffer(keyCells("p", 2)), rowBuffer(keyCells("q", 2)))}, "OTSParameterInvalid"},
		"key":        {[]*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", rowBuffer(keyCells("p", 2)), rowBuffer(keyCells("p", 2)[:1]))}, "OTSInvalidPK"},
	} {
		results, err := write(t, s, true, test.tables...)
		if err != nil || !slices.Equal(results, []string{test.want, test.want}) {
			t.Errorf("%s: results %q, %v", name, results, err)
		}
	}
	if n := len(scanAll(t, c, everything())); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

func TestBatchGetRow(t *testing.T) {
	s, c := serveTable(t, Options{})
	for i := range 3 {
		if err := put(c, key("a", i), col{"x", int64(i), 1}); err != nil {
			t.Fatal(err)
		}
	}
	criteria := &tablestore.MultiRowQueryCriteria{TableName: "t", MaxVersion: 1}
	for _, pk := range []*tablestore.PrimaryKey{key("a", 2), key("none", 0), key("a"), key("a", 0)} {
		criteria.AddRow(pk)
	}
	resp := must[*tablestore.BatchGetRowResponse](t)(c.BatchGetRow(&tablestore.BatchGetRowRequest{MultiRowQueryCriteria: []*tablestore.MultiRowQueryCriteria{criteria}}))
	var got []string
	for _, r := range resp.TableToRowsResult["t"] {
		got = append(got, show(&r.PrimaryKey, r.Columns)+r.Error.Code)
	}
	wantRows(t, got, "[a 2] x@1=2", "", "OTSInvalidPK", "[a 0] x@1=0")

	ofTable := func(name string, n int) *otsprotocol.TableInBatchGetRowRequest {
		table := &otsprotocol.TableInBatchGetRowRequest{TableName: &name, MaxVersions: proto.Int32(1)}
		for i := range n {
			table.PrimaryKey = append(table.PrimaryKey, rowBuffer(keyCells("a", int64(i))))
		}
		return table
	}
	for name, test := range map[string]struct {
		tables []*otsprotocol.TableInBatchGetRowRequest
		says   string
	}{
		"100 rows":      {[]*otsprotocol.TableInBatchGetRowRequest{ofTable("t", 100)}, ""},
		"101 rows":      {[]*otsprotocol.TableInBatchGetRowRequest{ofTable("t", 100), ofTable("u", 1)}, "Rows count exceeds the upper limit: 100."},
		"no table":      {nil, "No row specified"},
		"no row":        {[]*otsprotocol.TableInBatchGetRowRequest{ofTable("t", 0)}, "No row specified"},
		"table twice":   {[]*otsprotocol.TableInBatchGetRowRequest{ofTable("t", 1), ofTable("t", 1)}, "Duplicated table name"},
		"no version":    {[]*otsprotocol.TableInBatchGetRowRequest{{TableName: proto.String("t"), PrimaryKey: ofTable("t", 1).PrimaryKey}}, "No version condition"},
		"missing table": {[]*otsprotocol.TableInBatchGetRowRequest{ofTable("missing", 1)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var resp otsprotocol.BatchGetRowResponse
			err := ask(t, s, "BatchGetRow", &otsprotocol.BatchGetRowRequest{Tables: test.tables}, &resp)
			if test.says != "" {
				wantCode(t, err, "OTSParameterInvalid", test.says)
				return
			}
			wantCode(t, err, "")
			if name == "missing table" && resp.Tables[0].Rows[0].GetError().GetCode() != "OTSObjectNotExist" {
				t.Errorf("answered %v", fmt.Sprint(&resp))
			}
		})
	}
}
