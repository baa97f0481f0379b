package local

import (
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

func TestRowsAreReadBackInPages(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		_, c := serve(t, Options{Dir: dir})
		meta := &tablestore.TableMeta{TableName: "orders"}
		meta.AddPrimaryKeyColumn("country", tablestore.PrimaryKeyType_STRING)
		meta.AddPrimaryKeyColumn("id", tablestore.PrimaryKeyType_INTEGER)
		_, err := c.CreateTable(&tablestore.CreateTableRequest{TableMeta: meta,
			TableOption:        &tablestore.TableOption{TimeToAlive: -1, MaxVersion: 3},
			ReservedThroughput: &tablestore.ReservedThroughput{}})
		if err != nil {
			t.Fatal(err)
		}
		b := &tablestore.BatchWriteRowRequest{}
		for i := range 150 {
			ch := &tablestore.PutRowChange{TableName: "orders", PrimaryKey: &tablestore.PrimaryKey{}}
			ch.PrimaryKey.AddPrimaryKeyColumn("country", []string{"US", "DE", "FR"}[i%3])
			ch.PrimaryKey.AddPrimaryKeyColumn("id", int64(i-75))
			ch.AddColumn("b", "x")
			ch.AddColumn("a", 1.5)
			ch.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
			b.AddRowChange(ch)
		}
		if _, err := c.BatchWriteRow(b); err != nil {
			t.Fatal(err)
		}
		min, max := &tablestore.PrimaryKey{}, &tablestore.PrimaryKey{}
		for _, n := range []string{"country", "id"} {
			min.AddPrimaryKeyColumnWithMinValue(n)
			max.AddPrimaryKeyColumnWithMaxValue(n)
		}
		n := 0
		for start := min; start != nil; {
			r, err := c.GetRange(&tablestore.GetRangeRequest{RangeRowQueryCriteria: &tablestore.RangeRowQueryCriteria{
				TableName: "orders", StartPrimaryKey: start, EndPrimaryKey: max, MaxVersion: 1, Limit: 40}})
			if err != nil {
				t.Fatal(err)
			}
			n += len(r.Rows)
			start = r.NextStartPrimaryKey
		}
		if n != 150 {
			t.Fatal(n)
		}
		unit, limit := int64(1000), int32(100)
		sp, err := c.ComputeSplitPointsBySize(&tablestore.ComputeSplitPointsBySizeRequest{TableName: "orders", SplitSize: 1, SplitSizeUnitInByte: &unit, SplitPointLimit: &limit})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(len(sp.Splits))
	}
}
