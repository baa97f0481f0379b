package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
)

// runSDK does with the official SDK alone what otsnap is measured against, and
// prints how many rows it moved: "scan" reads a whole table by GetRange, "write"
// reads a source table into memory-sized steps and puts them by BatchWriteRow,
// "load" fills the table flights from a file with so many of its rows.
func runSDK(ctx context.Context, args []string) error {
	if len(args) < 4 {
		return errors.New("sdk needs a job, an address, an instance and an argument")
	}
	client := tablestore.NewClient(args[1], args[2], "local", "local")
	rows, err := int64(0), error(nil)
	switch args[0] {
	case "scan":
		rows, err = scan(client, args[3], func([]*tablestore.Row) error { return nil })
	case "write":
		rows, err = rewrite(client, args[3])
	case "load":
		rows, err = load(ctx, client, args[3:])
	default:
		err = fmt.Errorf("no job %q", args[0])
	}
	fmt.Fprintln(os.Stdout, rows)
	return err
}

// load fills the table flights from a file, of which it takes so many rows; 0 is all.
func load(ctx context.Context, client *tablestore.TableStoreClient, args []string) (int64, error) {
	if len(args) != 2 {
		return 0, errors.New("sdk load needs a file and a number of rows")
	}
	limit, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return 0, err
	}
	return sample.LoadFlights(ctx, client, args[0], limit)
}

// scan is the loop people write: every row of a table, newest versions, in one
// goroutine.
func scan(client *tablestore.TableStoreClient, table string, each func([]*tablestore.Row) error) (int64, error) {
	criteria := &tablestore.RangeRowQueryCriteria{
		TableName: table, Direction: tablestore.FORWARD, Limit: 5000, MaxVersion: 1,
		StartPrimaryKey: new(tablestore.PrimaryKey), EndPrimaryKey: new(tablestore.PrimaryKey),
	}
	for _, column := range []string{"origin", "date", "n"} {
		criteria.StartPrimaryKey.AddPrimaryKeyColumnWithMinValue(column)
		criteria.EndPrimaryKey.AddPrimaryKeyColumnWithMaxValue(column)
	}
	var rows int64
	for criteria.StartPrimaryKey != nil {
		response, err := client.GetRange(&tablestore.GetRangeRequest{RangeRowQueryCriteria: criteria})
		if err != nil {
			return rows, err
		}
		rows += int64(len(response.Rows))
		if err := each(response.Rows); err != nil {
			return rows, err
		}
		criteria.StartPrimaryKey = response.NextStartPrimaryKey
	}
	return rows, nil
}

// rewrite copies the table flights to another table of the instance, 200 rows a
// request in one goroutine. Reading is part of its time, as decoding chunks is
// part of a restore's.
func rewrite(client *tablestore.TableStoreClient, table string) (int64, error) {
	if err := create(client, table); err != nil {
		return 0, err
	}
	return scan(client, sample.Flights, func(rows []*tablestore.Row) error {
		for len(rows) > 0 {
			n := min(200, len(rows))
			if err := putAll(client, table, rows[:n]); err != nil {
				return err
			}
			rows = rows[n:]
		}
		return nil
	})
}

func create(client *tablestore.TableStoreClient, table string) error {
	described, err := client.DescribeTable(&tablestore.DescribeTableRequest{TableName: sample.Flights})
	if err != nil {
		return err
	}
	meta := described.TableMeta
	meta.TableName = table
	_, err = client.CreateTable(&tablestore.CreateTableRequest{
		TableMeta: meta, TableOption: described.TableOption, ReservedThroughput: new(tablestore.ReservedThroughput),
	})
	return err
}

func putAll(client *tablestore.TableStoreClient, table string, rows []*tablestore.Row) error {
	request := new(tablestore.BatchWriteRowRequest)
	for _, r := range rows {
		change := &tablestore.PutRowChange{TableName: table, PrimaryKey: r.PrimaryKey}
		for _, column := range r.Columns {
			change.AddColumnWithTimestamp(column.ColumnName, column.Value, column.Timestamp)
		}
		change.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
		request.AddRowChange(change)
	}
	response, err := client.BatchWriteRow(request)
	if err != nil {
		return err
	}
	for _, result := range response.TableToRowsResult[table] {
		if !result.IsSucceed {
			return fmt.Errorf("row %d of a batch: %s", result.Index, result.Error.Message)
		}
	}
	return nil
}
