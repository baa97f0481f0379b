package main

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"strings"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

// instance is a served instance, and a client of the official SDK to it.
type instance struct {
	address string
	name    string
	url     string // as otsnap takes it
	client  *tablestore.TableStoreClient
}

func newInstance(address, name string) instance {
	return instance{
		address: address,
		name:    name,
		url:     address + "?instance=" + url.QueryEscape(name),
		client:  tablestore.NewClient(address, name, "local", "local"),
	}
}

// sibling is another instance, an empty one, on the same server.
func (i instance) sibling(name string) instance { return newInstance(i.address, name) }

// rename gives a film another title.
func (i instance) rename(id int64, title string) error {
	change := &tablestore.UpdateRowChange{TableName: "movies", PrimaryKey: new(tablestore.PrimaryKey)}
	change.PrimaryKey.AddPrimaryKeyColumn("id", id)
	change.SetCondition(tablestore.RowExistenceExpectation_EXPECT_EXIST)
	change.PutColumn("Title", title)
	_, err := i.client.UpdateRow(&tablestore.UpdateRowRequest{UpdateRowChange: change})
	return err
}

// sameRows reads a table of two instances side by side and returns the number of
// rows, or an error that names the first that differ.
func sameRows(ctx context.Context, a, b instance, table string) (int64, error) {
	ra, err := newReader(a, table)
	if err != nil {
		return 0, err
	}
	rb, err := newReader(b, table)
	if err != nil {
		return 0, err
	}
	for n := int64(0); ; n++ {
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		x, err := ra.next()
		if err != nil {
			return n, err
		}
		y, err := rb.next()
		if err != nil {
			return n, err
		}
		if x != y {
			return n, fmt.Errorf("row %d of table %s differs:\n%s: %q\n%s: %q", n, table, a.name, x, b.name, y)
		}
		if x == "" {
			return n, nil
		}
	}
}

// reader yields the rows of a table, each as a text of all there is to it.
type reader struct {
	from  instance
	query *tablestore.RangeRowQueryCriteria
	page  []*tablestore.Row
}

func newReader(from instance, table string) (*reader, error) {
	described, err := from.client.DescribeTable(&tablestore.DescribeTableRequest{TableName: table})
	if err != nil {
		return nil, err
	}
	start, end := new(tablestore.PrimaryKey), new(tablestore.PrimaryKey)
	for _, column := range described.TableMeta.SchemaEntry {
		start.AddPrimaryKeyColumnWithMinValue(*column.Name)
		end.AddPrimaryKeyColumnWithMaxValue(*column.Name)
	}
	return &reader{from: from, query: &tablestore.RangeRowQueryCriteria{
		TableName: table, StartPrimaryKey: start, EndPrimaryKey: end,
		Direction: tablestore.FORWARD, MaxVersion: math.MaxInt32, Limit: 5000,
	}}, nil
}

// next returns the next row, empty after the last.
func (r *reader) next() (string, error) {
	for len(r.page) == 0 {
		if r.query.StartPrimaryKey == nil {
			return "", nil
		}
		response, err := r.from.client.GetRange(&tablestore.GetRangeRequest{RangeRowQueryCriteria: r.query})
		if err != nil {
			return "", err
		}
		r.page, r.query.StartPrimaryKey = response.Rows, response.NextStartPrimaryKey
	}
	row := r.page[0]
	r.page = r.page[1:]
	return describe(row), nil
}

func describe(row *tablestore.Row) string {
	var b strings.Builder
	for _, c := range row.PrimaryKey.PrimaryKeys {
		fmt.Fprintf(&b, "%s %T %q; ", c.ColumnName, c.Value, c.Value)
	}
	for _, c := range row.Columns {
		value := c.Value
		if f, ok := value.(float64); ok { // every bit of it, also of NaN and -0
			value = math.Float64bits(f)
		}
		fmt.Fprintf(&b, "%s@%d %T %q; ", c.ColumnName, c.Timestamp, c.Value, fmt.Sprint(value))
	}
	return b.String()
}
