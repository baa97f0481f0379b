package local

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// indexed describes the table t of tableOf as it must be to have indexes, with a
// predefined column of every type.
func indexed() *tablestore.CreateTableRequest {
	req := tableOf("t")
	req.TableOption.MaxVersion = 1
	req.TableMeta.AddDefinedColumn("city", tablestore.DefinedColumn_STRING)
	req.TableMeta.AddDefinedColumn("age", tablestore.DefinedColumn_INTEGER)
	req.TableMeta.AddDefinedColumn("raw", tablestore.DefinedColumn_BINARY)
	req.TableMeta.AddDefinedColumn("weight", tablestore.DefinedColumn_DOUBLE)
	req.TableMeta.AddDefinedColumn("paid", tablestore.DefinedColumn_BOOLEAN)
	return req
}

func global(name string, key ...string) *tablestore.IndexMeta {
	return &tablestore.IndexMeta{IndexName: name, Primarykey: key, IndexType: tablestore.IT_GLOBAL_INDEX}
}

func localIndex(name string, key ...string) *tablestore.IndexMeta {
	return &tablestore.IndexMeta{IndexName: name, Primarykey: key, IndexType: tablestore.IT_LOCAL_INDEX}
}

func with(m *tablestore.IndexMeta, columns ...string) *tablestore.IndexMeta {
	m.DefinedColumns = columns
	return m
}

func serveIndexed(t *testing.T, o Options, indexes ...*tablestore.IndexMeta) (*Server, *tablestore.TableStoreClient) {
	t.Helper()
	s, c := serve(t, o)
	req := indexed()
	req.IndexMetas = indexes
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
	return s, c
}

func createIndex(c *tablestore.TableStoreClient, m *tablestore.IndexMeta, base bool) error {
	_, err := c.CreateIndex(&tablestore.CreateIndexRequest{MainTableName: "t", IndexMeta: m, IncludeBaseData: base})
	return err
}

func dropIndex(c *tablestore.TableStoreClient, name string) error {
	_, err := c.DeleteIndex(&tablestore.DeleteIndexRequest{MainTableName: "t", IndexName: name})
	return err
}

func describe(t *testing.T, c *tablestore.TableStoreClient, table string) *tablestore.DescribeTableResponse {
	t.Helper()
	return must[*tablestore.DescribeTableResponse](t)(c.DescribeTable(&tablestore.DescribeTableRequest{TableName: table}))
}

// rowsOf reads a whole table, whatever its key.
func rowsOf(t *testing.T, c *tablestore.TableStoreClient, table string) []string {
	t.Helper()
	return scanAll(t, c, wholeOf(t, c, table))
}

func wholeOf(t *testing.T, c *tablestore.TableStoreClient, table string) tablestore.RangeRowQueryCriteria {
	t.Helper()
	low, high := &tablestore.PrimaryKey{}, &tablestore.PrimaryKey{}
	for _, k := range describe(t, c, table).TableMeta.SchemaEntry {
		low.AddPrimaryKeyColumnWithMinValue(*k.Name)
		high.AddPrimaryKeyColumnWithMaxValue(*k.Name)
	}
	return tablestore.RangeRowQueryCriteria{TableName: table, StartPrimaryKey: low, EndPrimaryKey: high}
}

func TestIndexesAreDescribed(t *testing.T) {
	dir := t.TempDir()
	check := func(t *testing.T, c *tablestore.TableStoreClient) {
		var got []string
		for _, m := range describe(t, c, "t").IndexMetas {
			got = append(got, fmt.Sprint(m.IndexName, " ", m.IndexType, " ", m.Primarykey, " ", m.DefinedColumns, " ", *m.IndexSyncPhase))
		}
		want := []string{
			fmt.Sprint("by_city ", tablestore.IT_GLOBAL_INDEX, " [city] [age weight] ", tablestore.SyncPhase_INCR),
			fmt.Sprint("by_age ", tablestore.IT_LOCAL_INDEX, " [s age] [] ", tablestore.SyncPhase_INCR),
			fmt.Sprint("late ", tablestore.IT_GLOBAL_INDEX, " [i s] [] ", tablestore.SyncPhase_INCR),
		}
		if !slices.Equal(got, want) {
			t.Errorf("indexes %q, want %q", got, want)
		}
		if names := must[*tablestore.ListTableResponse](t)(c.ListTable()).TableNames; !slices.Equal(names, []string{"by_age", "by_city", "late", "t"}) {
			t.Errorf("tables %q", names)
		}
		table := describe(t, c, "by_city")
		var schema []string
		for _, k := range table.TableMeta.SchemaEntry {
			schema = append(schema, fmt.Sprint(*k.Name, " ", *k.Type))
		}
		for _, k := range table.TableMeta.DefinedColumns {
			schema = append(schema, fmt.Sprint(k.Name, " ", k.ColumnType))
		}
		wantSchema := []string{"city 2", "s 2", "i 1", fmt.Sprint("age ", tablestore.DefinedColumn_INTEGER), fmt.Sprint("weight ", tablestore.DefinedColumn_DOUBLE)}
		if !slices.Equal(schema, wantSchema) || len(table.IndexMetas) != 0 || table.StreamDetails.EnableStream {
			t.Errorf("the index's table is %q, want %q", schema, wantSchema)
		}
	}
	t.Run("created", func(t *testing.T) {
		_, c := serveIndexed(t, Options{Dir: dir}, with(global("by_city", "city"), "age", "weight"), localIndex("by_age", "s", "age"))
		if err := createIndex(c, global("late", "i", "s"), false); err != nil {
			t.Fatal(err)
		}
		check(t, c)
	})
	t.Run("restarted", func(t *testing.T) {
		_, c := serve(t, Options{Dir: dir})
		check(t, c)
		if err := dropIndex(c, "late"); err != nil {
			t.Fatal(err)
		}
		if n := len(describe(t, c, "t").IndexMetas); n != 2 {
			t.Errorf("%d indexes are left", n)
		}
	})
}

func TestEveryWriteReachesTheIndexes(t *testing.T) {
	_, c := serveIndexed(t, Options{}, with(global("by_city", "city"), "age"), localIndex("by_age", "s", "age"), global("by_i", "i"))
	want := func(city, age, i string) {
		t.Helper()
		for table, want := range map[string]string{"by_city": city, "by_age": age, "by_i": i} {
			var got []string
			for _, row := range rowsOf(t, c, table) {
				got = append(got, withoutVersions(row))
			}
			if text := strings.Join(got, "; "); text != want {
				t.Errorf("%s holds %q, want %q", table, text, want)
			}
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(put(c, key("a", 1), col{"city", "Rome", 0}, col{"age", int64(7), 0}))
	want("[Rome a 1] age=7", "[a 7 1]", "[1 a]")
	do(put(c, key("b", 2))) // nothing to index but its key
	want("[Rome a 1] age=7", "[a 7 1]", "[1 a]; [2 b]")
	do(update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.PutColumn("city", "Oslo") }))
	want("[Oslo a 1] age=7", "[a 7 1]", "[1 a]; [2 b]")
	do(update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.IncrementColumn("age", 2) }))
	want("[Oslo a 1] age=9", "[a 9 1]", "[1 a]; [2 b]")
	do(update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.DeleteColumn("age") }))
	want("[Oslo a 1]", "", "[1 a]; [2 b]")
	do(put(c, key("a", 1), col{"age", int64(1), 0})) // overwrites all of the row
	want("", "[a 1 1]", "[1 a]; [2 b]")

	batch := &tablestore.BatchWriteRowRequest{}
	batch.AddRowChange(putChange(key("c", 3), col{"city", "Bern", 0}))
	gone := &tablestore.DeleteRowChange{TableName: "t", PrimaryKey: key("b", 2)}
	gone.SetCondition(tablestore.RowExistenceExpectation_EXPECT_EXIST)
	batch.AddRowChange(gone)
	failing := putChange(key("a", 1), col{"city", "Paris", 0})
	failing.SetCondition(tablestore.RowExistenceExpectation_EXPECT_NOT_EXIST)
	batch.AddRowChange(failing)
	must[*tablestore.BatchWriteRowResponse](t)(c.BatchWriteRow(batch))
	want("[Bern c 3]", "[a 1 1]", "[1 a]; [3 c]")

	atomic := &tablestore.BatchWriteRowRequest{IsAtomic: true}
	atomic.AddRowChange(putChange(key("c", 3), col{"city", "Lima", 0}))
	atomic.AddRowChange(putChange(key("c", 4), col{"city", "Kiev", 0}))
	must[*tablestore.BatchWriteRowResponse](t)(c.BatchWriteRow(atomic))
	want("[Kiev c 4]; [Lima c 3]", "[a 1 1]", "[1 a]; [3 c]; [4 c]")

	for _, k := range []*tablestore.PrimaryKey{key("a", 1), key("c", 3), key("c", 4)} {
		do(remove(c, k))
	}
	want("", "", "")
}

// withoutVersions drops the versions from a row as show writes it.
func withoutVersions(row string) string {
	var out []string
	for _, part := range strings.Fields(row) {
		name, rest, found := strings.Cut(part, "@")
		if _, v, ok := strings.Cut(rest, "="); found && ok {
			part = name + "=" + v
		}
		out = append(out, part)
	}
	return strings.Join(out, " ")
}

func TestARowThatDoesNotFitIsNotInTheIndex(t *testing.T) {
	_, c := serveIndexed(t, Options{}, with(global("by_city", "city"), "age"))
	for name, cols := range map[string][]col{
		"other type in the key":   {{"city", int64(1), 0}},
		"other type as attribute": {{"city", "Rome", 0}, {"age", "seven", 0}},
		"longest key":             {{"city", strings.Repeat("x", maxKeyValue), 0}},
	} {
		if err := put(c, key(name, 1), cols...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantCode(t, put(c, key("too long", 1), col{"city", strings.Repeat("x", maxKeyValue+1), 0}), "OTSParameterInvalid", "MaxLength:1024")
	var got []string
	for _, row := range rowsOf(t, c, "by_city") {
		got = append(got, strings.ReplaceAll(withoutVersions(row), strings.Repeat("x", maxKeyValue), "x..."))
	}
	wantRows(t, got, "[Rome other type as attribute 1]", "[x... longest key 1]")
}

func TestIndexTablesAreReadAsTables(t *testing.T) {
	_, c := serveIndexed(t, Options{}, with(global("by_city", "city"), "age"))
	for i := range 5 {
		if err := put(c, key("r", i), col{"city", "c" + fmt.Sprint(i), 0}, col{"age", int64(i), 0}); err != nil {
			t.Fatal(err)
		}
	}
	pk := func(i int) *tablestore.PrimaryKey {
		k := &tablestore.PrimaryKey{}
		k.AddPrimaryKeyColumn("city", "c"+fmt.Sprint(i))
		k.AddPrimaryKeyColumn("s", "r")
		k.AddPrimaryKeyColumn("i", int64(i))
		return k
	}
	got := get(t, c, pk(3), func(q *tablestore.SingleRowQueryCriteria) { q.TableName = "by_city" })
	if withoutVersions(got) != "[c3 r 3] age=3" {
		t.Errorf("GetRow reads %q", got)
	}
	many := &tablestore.MultiRowQueryCriteria{TableName: "by_city", MaxVersion: 1}
	many.AddRow(pk(1))
	many.AddRow(pk(4))
	batch := must[*tablestore.BatchGetRowResponse](t)(c.BatchGetRow(&tablestore.BatchGetRowRequest{MultiRowQueryCriteria: []*tablestore.MultiRowQueryCriteria{many}}))
	for n, i := range []int64{1, 4} {
		if r := batch.TableToRowsResult["by_city"][n]; !r.IsSucceed || r.Columns[0].Value != i {
			t.Errorf("BatchGetRow reads %+v", r)
		}
	}
	back := wholeOf(t, c, "by_city")
	back.StartPrimaryKey, back.EndPrimaryKey = back.EndPrimaryKey, back.StartPrimaryKey
	back.Direction, back.Limit = tablestore.BACKWARD, 2
	rows := scanAll(t, c, back)
	if len(rows) != 5 || withoutVersions(rows[0]) != "[c4 r 4] age=4" {
		t.Errorf("GetRange reads %q", rows)
	}
}

func TestIndexTablesCannotBeChanged(t *testing.T) {
	s, c := serveIndexed(t, Options{}, global("x", "city"))
	change := putChange(key("a", 1))
	change.TableName = "x"
	_, err := c.PutRow(&tablestore.PutRowRequest{PutRowChange: change})
	wantCode(t, err, "OTSParameterInvalid", "Can't write index table directly.")
	batch := &tablestore.BatchWriteRowRequest{}
	batch.AddRowChange(change)
	resp := must[*tablestore.BatchWriteRowResponse](t)(c.BatchWriteRow(batch))
	if r := resp.TableToRowsResult["x"][0]; r.IsSucceed || r.Error.Code != "OTSParameterInvalid" {
		t.Errorf("a batch answers %+v", r)
	}
	_, err = c.UpdateTable(&tablestore.UpdateTableRequest{TableName: "x", TableOption: &tablestore.TableOption{TimeToAlive: -1, MaxVersion: 1}})
	wantCode(t, err, "OTSParameterInvalid", "index table")
	_, err = c.DeleteTable(&tablestore.DeleteTableRequest{TableName: "x"})
	wantCode(t, err, "OTSParameterInvalid", "index table")
	_, err = c.CreateIndex(&tablestore.CreateIndexRequest{MainTableName: "x", IndexMeta: global("y", "s")})
	wantCode(t, err, "OTSParameterInvalid", "index table")
	_, err = c.DeleteIndex(&tablestore.DeleteIndexRequest{MainTableName: "x", IndexName: "x"})
	wantCode(t, err, "OTSParameterInvalid", "index table")
	add := &tablestore.AddDefinedColumnRequest{TableName: "x"}
	add.AddDefinedColumn("new", tablestore.DefinedColumn_STRING)
	_, err = c.AddDefinedColumn(add)
	wantCode(t, err, "OTSParameterInvalid", "index table")
	wantCode(t, ask(t, s, "DeleteDefinedColumn", &otsprotocol.DeleteDefinedColumnRequest{TableName: proto.String("x"), Columns: []string{"s"}}, nil), "OTSParameterInvalid", "index table")
}

func TestIndexesAreRefused(t *testing.T) {
	wide := func(n int) (columns []string) {
		for i := range n {
			columns = append(columns, fmt.Sprint("d", i))
		}
		return columns
	}
	auto := indexed()
	auto.TableMeta.AddPrimaryKeyColumnOption("x", tablestore.PrimaryKeyType_INTEGER, tablestore.AUTO_INCREMENT)
	for _, test := range []struct {
		name  string
		table *tablestore.CreateTableRequest // nil: indexed()
		edit  func(*tablestore.CreateTableRequest)
		index *tablestore.IndexMeta
		code  string // "": accepted
		says  string
	}{
		{name: "predefined column", index: global("x", "city")},
		{name: "name of 100 bytes", index: global(strings.Repeat("x", 100), "city")},
		{name: "name of 255 bytes", index: global(strings.Repeat("x", 255), "city")},
		{name: "name of 256 bytes", index: global(strings.Repeat("x", 256), "city"), code: "OTSParameterInvalid", says: "Invalid table name"},
		{name: "bad name", index: global("a-b", "city"), code: "OTSParameterInvalid", says: "'a-b'"},
		{name: "name of the table", index: global("t", "city"), code: "OTSObjectAlreadyExist"},
		{name: "one index column", index: global("x", "i")},
		{name: "no index column", index: global("x"), code: "OTSParameterInvalid", says: "[1, 4]"},
		{name: "four index columns", index: global("x", "city", "age", "raw", "i")},
		{name: "five index columns", index: global("x", "city", "age", "raw", "i", "s"), code: "OTSParameterInvalid", says: "[1, 4]"},
		{name: "unknown index column", index: global("x", "street"), code: "OTSParameterInvalid", says: "Column does not exist:'street'."},
		{name: "index column twice", index: global("x", "city", "city"), code: "OTSParameterInvalid", says: "Duplicated primary key name: 'city'."},
		{name: "double as index column", index: global("x", "weight"), code: "OTSParameterInvalid", says: "only STRING,INTEGER,BINARY"},
		{name: "boolean as index column", index: global("x", "paid"), code: "OTSParameterInvalid", says: "only STRING,INTEGER,BINARY"},
		{name: "every type as attribute", index: with(global("x", "i"), "city", "age", "raw", "weight", "paid")},
		{name: "unknown attribute", index: with(global("x", "i"), "street"), code: "OTSParameterInvalid", says: "Column does not exist:'street'."},
		{name: "attribute twice", index: with(global("x", "i"), "city", "city"), code: "OTSParameterInvalid", says: "Duplicated defined column name: 'city'."},
		{name: "attribute that is an index column", index: with(global("x", "city"), "city"), code: "OTSParameterInvalid", says: "'city'"},
		{name: "attribute that is a key column", index: with(global("x", "city"), "s"), code: "OTSParameterInvalid", says: "'s'"},
		{name: "32 attributes", edit: func(r *tablestore.CreateTableRequest) {
			r.TableMeta.DefinedColumns = nil
			for _, d := range wide(32) {
				r.TableMeta.AddDefinedColumn(d, tablestore.DefinedColumn_STRING)
			}
		}, index: with(global("x", "i"), wide(32)...)},
		{name: "33 attributes", index: with(global("x", "i"), wide(33)...), code: "OTSParameterInvalid", says: "[0, 32]"},
		{name: "local by the first key column", index: localIndex("x", "s", "city")},
		{name: "local by another key column", index: localIndex("x", "i", "s"), code: "OTSParameterInvalid", says: "must be 's'"},
		{name: "local by a predefined column", index: localIndex("x", "city"), code: "OTSParameterInvalid", says: "must be 's'"},
		{name: "generated column first", table: auto, index: global("x", "x"), code: "OTSParameterInvalid", says: "First primary key can't be auto increment"},
		{name: "generated column second", table: auto, index: global("x", "city", "x")},
		{name: "two versions", edit: func(r *tablestore.CreateTableRequest) { r.TableOption.MaxVersion = 2 }, index: global("x", "city"), code: "OTSParameterInvalid", says: "MaxVersions must be 1"},
		{name: "all versions", edit: func(r *tablestore.CreateTableRequest) { r.TableOption.MaxVersion = -1 }, index: global("x", "city"), code: "OTSParameterInvalid", says: "MaxVersions must be 1"},
		{name: "time to live", edit: func(r *tablestore.CreateTableRequest) { r.TableOption.TimeToAlive = 86400 }, index: global("x", "city"), code: "OTSParameterInvalid", says: "allow_update false"},
		{name: "time to live with whole updates", edit: func(r *tablestore.CreateTableRequest) {
			r.TableOption.TimeToAlive, r.TableOption.UpdateFullRow = 86400, proto.Bool(true)
		}, index: global("x", "city"), code: "OTSParameterInvalid", says: "allow_update false"},
		{name: "time to live without updates", edit: func(r *tablestore.CreateTableRequest) {
			r.TableOption.TimeToAlive, r.TableOption.AllowUpdate = 86400, proto.Bool(false)
		}, index: global("x", "city")},
	} {
		for _, with := range []string{"CreateTable", "CreateIndex"} {
			t.Run(with+" "+test.name, func(t *testing.T) {
				_, c := serve(t, Options{})
				req := indexed()
				if test.table != nil {
					clone := *test.table
					req = &clone
				}
				if test.edit != nil {
					test.edit(req)
				}
				if with == "CreateTable" {
					req.IndexMetas = []*tablestore.IndexMeta{test.index}
					_, err := c.CreateTable(req)
					wantCode(t, err, test.code, test.says)
					return
				}
				req.IndexMetas = nil
				must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
				wantCode(t, createIndex(c, test.index, true), test.code, test.says)
			})
		}
	}
}

func TestIndexKindsAreChecked(t *testing.T) {
	s, _ := serveIndexed(t, Options{})
	for _, test := range []struct {
		kind otsprotocol.IndexType
		mode otsprotocol.IndexUpdateMode
		says string
	}{
		{otsprotocol.IndexType_IT_GLOBAL_INDEX, otsprotocol.IndexUpdateMode_IUM_SYNC_INDEX, "Invalid index update mode"},
		{otsprotocol.IndexType_IT_LOCAL_INDEX, otsprotocol.IndexUpdateMode_IUM_ASYNC_INDEX, "Invalid index update mode"},
		{2, otsprotocol.IndexUpdateMode_IUM_ASYNC_INDEX, "Invalid index type"},
	} {
		meta := &otsprotocol.IndexMeta{Name: proto.String("x"), PrimaryKey: []string{"s", "city"}, IndexType: &test.kind, IndexUpdateMode: &test.mode}
		err := ask(t, s, "CreateIndex", &otsprotocol.CreateIndexRequest{MainTableName: proto.String("t"), IndexMeta: meta}, nil)
		wantCode(t, err, "OTSParameterInvalid", test.says)
	}
}

func TestATableHasFiveIndexes(t *testing.T) {
	var five []*tablestore.IndexMeta
	for i := range maxIndexes {
		five = append(five, global(fmt.Sprint("x", i), "city"))
	}
	_, c := serveIndexed(t, Options{}, five...)
	wantCode(t, createIndex(c, global("sixth", "city"), true), "OTSParameterInvalid", "[0, 5]")
	req := indexed()
	req.TableMeta.TableName = "u"
	req.IndexMetas = append(five, global("sixth", "city"))
	_, err := c.CreateTable(req)
	wantCode(t, err, "OTSParameterInvalid", "[0, 5]")
	wantCode(t, dropIndex(c, "x0"), "")
	wantCode(t, createIndex(c, global("x4", "city"), true), "OTSObjectAlreadyExist")
	wantCode(t, createIndex(c, global("sixth", "city"), true), "")
	wantCode(t, dropIndex(c, "x0"), "OTSObjectNotExist")
}

func TestIndexesCountAsTables(t *testing.T) {
	_, c := serveIndexed(t, Options{}, global("x0", "city"))
	for i := range maxTables - 3 {
		must[*tablestore.CreateTableResponse](t)(c.CreateTable(tableOf(fmt.Sprint("u", i))))
	}
	two := indexed()
	two.TableMeta.TableName, two.IndexMetas = "v", []*tablestore.IndexMeta{global("x1", "city")}
	_, err := c.CreateTable(two)
	wantCode(t, err, "OTSQuotaExhausted", "Number of tables exceeded the quota.")
	wantCode(t, createIndex(c, global("x1", "city"), true), "")
	wantCode(t, createIndex(c, global("x2", "city"), true), "OTSQuotaExhausted", "Number of tables exceeded the quota.")
	_, err = c.CreateTable(tableOf("x1"))
	wantCode(t, err, "OTSObjectAlreadyExist")
}

func TestATableWithAnIndexKeepsItsRules(t *testing.T) {
	_, c := serveIndexed(t, Options{}, global("x", "city"))
	change := func(ttl, versions int, update bool) error {
		_, err := c.UpdateTable(&tablestore.UpdateTableRequest{TableName: "t", TableOption: &tablestore.TableOption{TimeToAlive: ttl, MaxVersion: versions, AllowUpdate: &update}})
		return err
	}
	wantCode(t, change(-1, 2, true), "OTSParameterInvalid", "MaxVersions must be 1")
	wantCode(t, change(86400, 1, true), "OTSParameterInvalid", "allow_update false")
	wantCode(t, change(86400, 1, false), "")
	if o := describe(t, c, "x").TableOption; o.TimeToAlive != 86400 {
		t.Errorf("the index has a time to live of %d", o.TimeToAlive)
	}
	wantCode(t, change(-1, 1, true), "")

	wantCode(t, put(c, key("a", 1), col{"other", "v", 1}), "OTSParameterInvalid", "Timestamp cannot be given")
	wantCode(t, update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.PutColumnWithTimestamp("other", "v", 1) }), "OTSParameterInvalid", "Timestamp cannot be given")
	twice := &tablestore.BatchWriteRowRequest{IsAtomic: true}
	twice.AddRowChange(putChange(key("a", 1)))
	twice.AddRowChange(putChange(key("a", 1)))
	resp := must[*tablestore.BatchWriteRowResponse](t)(c.BatchWriteRow(twice))
	for _, r := range resp.TableToRowsResult["t"] {
		if r.IsSucceed || !strings.Contains(r.Error.Message, "Duplicate rows") {
			t.Errorf("a row twice in an atomic batch: %+v", r)
		}
	}
	drop := &tablestore.DeleteDefinedColumnRequest{TableName: "t", DefinedColumns: []string{"city"}}
	_, err := c.DeleteDefinedColumn(drop)
	wantCode(t, err, "OTSParameterInvalid", "index 'x'")
	wantCode(t, dropIndex(c, "x"), "")
	_, err = c.DeleteDefinedColumn(drop)
	wantCode(t, err, "")
	wantCode(t, change(-1, 2, true), "")
	wantCode(t, put(c, key("a", 1), col{"other", "v", 1}), "")
}

func TestADeletedTableTakesItsIndexesAlong(t *testing.T) {
	_, c := serveIndexed(t, Options{}, global("x", "city"))
	if err := put(c, key("a", 1), col{"city", "Rome", 0}); err != nil {
		t.Fatal(err)
	}
	must[*tablestore.DeleteTableResponse](t)(c.DeleteTable(&tablestore.DeleteTableRequest{TableName: "t"}))
	if names := must[*tablestore.ListTableResponse](t)(c.ListTable()).TableNames; len(names) != 0 {
		t.Errorf("tables %q", names)
	}
	req := indexed()
	req.IndexMetas = []*tablestore.IndexMeta{global("x", "city")}
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
	wantRows(t, rowsOf(t, c, "x"))
}

func TestAnIndexTakesInTheRowsThatAreThere(t *testing.T) {
	at := newClock()
	dir := t.TempDir()
	t.Run("created", func(t *testing.T) {
		_, c := serveIndexed(t, Options{Dir: dir, Clock: at.now, IndexBuild: time.Minute})
		for i := range 300 {
			cols := []col{{"city", fmt.Sprintf("c%03d", i), 0}, {"raw", make([]byte, 40<<10), 0}} // more than one batch of the index
			if i%3 == 0 {
				cols = nil
			}
			if err := put(c, key("r", i), cols...); err != nil {
				t.Fatal(err)
			}
		}
		if err := createIndex(c, with(global("all", "city"), "raw"), true); err != nil {
			t.Fatal(err)
		}
		if err := createIndex(c, global("new", "city"), false); err != nil {
			t.Fatal(err)
		}
		phases := func() (phases [2]tablestore.SyncPhase) {
			for i, m := range describe(t, c, "t").IndexMetas {
				phases[i] = *m.IndexSyncPhase
			}
			return phases
		}
		if got := phases(); got != [2]tablestore.SyncPhase{tablestore.SyncPhase_FULL, tablestore.SyncPhase_INCR} {
			t.Errorf("phases %v while one is built", got)
		}
		criteria := wholeOf(t, c, "all")
		criteria.MaxVersion = 1
		_, err := c.GetRange(&tablestore.GetRangeRequest{RangeRowQueryCriteria: &criteria})
		wantCode(t, err, "OTSTableNotReady", "The table is not ready.")
		if err := put(c, key("r", 0), col{"city", "c000", 0}); err != nil {
			t.Fatal(err)
		}
		at.advance(time.Minute)
		if got := phases(); got != [2]tablestore.SyncPhase{tablestore.SyncPhase_INCR, tablestore.SyncPhase_INCR} {
			t.Errorf("phases %v when both are built", got)
		}
		if n := len(rowsOf(t, c, "new")); n != 1 {
			t.Errorf("the index without base data holds %d rows", n)
		}
	})
	t.Run("restarted", func(t *testing.T) {
		_, c := serve(t, Options{Dir: dir, Clock: at.now})
		if n := len(rowsOf(t, c, "all")); n != 201 {
			t.Errorf("the index with base data holds %d rows, want 201", n)
		}
	})
}

// rowsAt counts the rows of a table at a time the SDK's requests would not be
// accepted at.
func rowsAt(t *testing.T, s *Server, table string) (rows int) {
	t.Helper()
	var low, high []cell
	for _, k := range s.tables["demo"][table].Key {
		low = append(low, makeCell([]byte(k.Name), value{typeInfMin}, 0, false))
		high = append(high, makeCell([]byte(k.Name), value{typeInfMax}, 0, false))
	}
	var got otsprotocol.GetRangeResponse
	err := ask(t, s, "GetRange", &otsprotocol.GetRangeRequest{
		TableName: &table, Direction: otsprotocol.Direction_FORWARD.Enum(), MaxVersions: proto.Int32(1),
		InclusiveStartPrimaryKey: rowBuffer(low), ExclusiveEndPrimaryKey: rowBuffer(high),
	}, &got)
	if err != nil {
		t.Fatal(err)
	}
	for wire := got.Rows[min(4, len(got.Rows)):]; len(wire) > 0; rows++ {
		if wire, err = parseRow(wire, new(row)); err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

func TestAnIndexExpiresWithItsTable(t *testing.T) {
	at := newClock()
	s, c := serve(t, Options{Clock: at.now})
	req := indexed()
	req.TableOption.TimeToAlive, req.TableOption.AllowUpdate = 86400, proto.Bool(false)
	req.IndexMetas = []*tablestore.IndexMeta{global("bare", "city"), with(global("x", "i"), "age")}
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
	if err := put(c, key("a", 1), col{"city", "Rome", 0}, col{"age", int64(1), 0}); err != nil {
		t.Fatal(err)
	}
	want := func(rows int) {
		t.Helper()
		for _, table := range []string{"t", "bare", "x"} {
			if got := rowsAt(t, s, table); got != rows {
				t.Errorf("%s has %d rows, want %d", table, got, rows)
			}
		}
	}
	want(1)
	at.advance(86400 * time.Second)
	want(1)
	at.advance(time.Millisecond)
	want(0)

	// What has expired and is overwritten does not come back when the time to
	// live is taken away.
	err := ask(t, s, "PutRow", &otsprotocol.PutRowRequest{TableName: proto.String("t"), Row: rowBuffer(keyCells("a", 1), makeCell([]byte("city"), stringValue("Oslo"), 0, false)), Condition: ignore()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = ask(t, s, "UpdateTable", &otsprotocol.UpdateTableRequest{TableName: proto.String("t"), TableOptions: &otsprotocol.TableOptions{TimeToLive: proto.Int32(-1)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want(1)
}

// TestIndexesAgreeWithTheirTable makes changes at random and compares indexes
// with what the table says they hold, indexes made late included.
func TestIndexesAgreeWithTheirTable(t *testing.T) {
	dice := rand.New(rand.NewPCG(3, 4))
	_, c := serveIndexed(t, Options{}, with(global("early", "city"), "age"))
	for n := range 300 {
		k := key(fmt.Sprint("r", dice.IntN(12)), 0)
		var err error
		switch dice.IntN(5) {
		case 0:
			err = remove(c, k)
		case 1:
			err = put(c, k, col{"city", fmt.Sprint("c", dice.IntN(4)), 0})
		default:
			err = update(c, k, func(ch *tablestore.UpdateRowChange) {
				switch dice.IntN(3) {
				case 0:
					ch.DeleteColumn("city")
				case 1:
					ch.PutColumn("city", fmt.Sprint("c", dice.IntN(4)))
				default:
					ch.PutColumn("age", dice.Int64N(9))
				}
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 150 {
			if err := createIndex(c, with(localIndex("late", "s", "city"), "age"), true); err != nil {
				t.Fatal(err)
			}
		}
	}
	var early, late []string
	for _, row := range rowsOf(t, c, "t") {
		name, city, age := row[1:strings.Index(row, " 0]")], "", ""
		for _, part := range strings.Fields(withoutVersions(row)) {
			if v, ok := strings.CutPrefix(part, "city="); ok {
				city = v
			}
			if strings.HasPrefix(part, "age=") {
				age = " " + part
			}
		}
		if city != "" {
			early = append(early, fmt.Sprintf("[%s %s 0]%s", city, name, age))
			late = append(late, fmt.Sprintf("[%s %s 0]%s", name, city, age))
		}
	}
	slices.Sort(early)
	for table, want := range map[string][]string{"early": early, "late": late} {
		var got []string
		for _, row := range rowsOf(t, c, table) {
			got = append(got, withoutVersions(row))
		}
		slices.Sort(got)
		slices.Sort(want)
		wantRows(t, got, want...)
	}
	if len(early) < 3 {
		t.Errorf("only %d rows have a city", len(early))
	}
}
