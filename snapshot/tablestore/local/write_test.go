package local

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

func TestAPutReplacesTheRow(t *testing.T) {
	at := newClock()
	_, c := serveTable(t, Options{Clock: at.now})
	now := at.millis()
	if err := put(c, key("a", 1), col{"b", "old", 5}, col{"a", int64(1), 0}); err != nil {
		t.Fatal(err)
	}
	if got, want := get(t, c, key("a", 1)), fmt.Sprintf("[a 1] a@%d=1 b@5=old", now); got != want {
		t.Errorf("row %q, want %q", got, want)
	}
	// Every type, several versions of a column, in any order.
	err := put(c, key("a", 1), col{"x", []byte{1, 2}, 3}, col{"v", 0.5, 1}, col{"v", true, 9}, col{"v", "", 4}, col{"n", int64(math.MinInt64), 2})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := get(t, c, key("a", 1)), "[a 1] n@2=-9223372036854775808 v@9=true v@4= v@1=0.5 x@3=[1 2]"; got != want {
		t.Errorf("row %q, want %q", got, want)
	}
	if err := put(c, key("a", 1)); err != nil {
		t.Fatal(err)
	}
	if got := get(t, c, key("a", 1)); got != "[a 1]" {
		t.Errorf("row %q, want its key alone", got)
	}
}

func TestAnUpdateChangesCells(t *testing.T) {
	at := newClock()
	_, c := serveTable(t, Options{Clock: at.now})
	now := at.millis()
	if err := put(c, key("a", 1), col{"all", "1", 1}, col{"all", "2", 2}, col{"one", "1", 1}, col{"one", "2", 2}, col{"stay", "s", 1}, col{"sum", int64(40), 7}); err != nil {
		t.Fatal(err)
	}
	err := update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) {
		ch.DeleteColumn("all")
		ch.DeleteColumnWithTimestamp("one", 2)
		ch.DeleteColumnWithTimestamp("one", 99)
		ch.PutColumnWithTimestamp("stay", "same version", 1)
		ch.PutColumnWithTimestamp("zero", "z", 0)
		ch.PutColumn("undated", "u")
		ch.IncrementColumn("sum", 2)
		ch.IncrementColumn("fresh", -1)
	})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("[a 1] fresh@%[1]d=-1 one@1=1 stay@1=same version sum@%[1]d=42 sum@7=40 undated@%[1]d=u zero@0=z", now)
	if got := get(t, c, key("a", 1)); got != want {
		t.Errorf("row\n%q, want\n%q", got, want)
	}
}

func TestDeletionsAloneMakeNoRow(t *testing.T) {
	_, c := serveTable(t, Options{})
	if err := update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.DeleteColumn("x") }); err != nil {
		t.Fatal(err)
	}
	if got := get(t, c, key("a", 1)); got != "" {
		t.Errorf("row %q, want none", got)
	}
	// But a row that loses its last cell stays.
	if err := put(c, key("a", 1), col{"x", "v", 0}); err != nil {
		t.Fatal(err)
	}
	if err := update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.DeleteColumn("x") }); err != nil {
		t.Fatal(err)
	}
	if got := get(t, c, key("a", 1)); got != "[a 1]" {
		t.Errorf("row %q, want its key", got)
	}
	if err := remove(c, key("a", 1)); err != nil {
		t.Fatal(err)
	}
	if got := get(t, c, key("a", 1)); got != "" {
		t.Errorf("row %q, want none", got)
	}
}

func TestIncrements(t *testing.T) {
	_, c := serveTable(t, Options{})
	future := time.Now().Add(time.Hour).UnixMilli()
	if err := put(c, key("a", 1), col{"text", "t", 0}, col{"max", int64(math.MaxInt64), 1}, col{"future", int64(1), future}); err != nil {
		t.Fatal(err)
	}
	add := func(name string, n int64) error {
		return update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.IncrementColumn(name, n) })
	}
	wantCode(t, add("text", 1), "OTSParameterInvalid", "VT_STRING")
	wantCode(t, add("max", 1), "OTSParameterInvalid", "out of the range")
	// The sum is the newest version even if the clock is behind.
	if err := add("future", 1); err != nil {
		t.Fatal(err)
	}
	newest := func(cr *tablestore.SingleRowQueryCriteria) { cr.MaxVersion, cr.ColumnsToGet = 1, []string{"future"} }
	if got, want := get(t, c, key("a", 1), newest), fmt.Sprintf("[a 1] future@%d=2", future); got != want {
		t.Errorf("row %q, want %q", got, want)
	}
	ch := &tablestore.UpdateRowChange{TableName: "t", PrimaryKey: key("a", 1)}
	ch.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
	ch.IncrementColumn("future", 40)
	ch.SetReturnIncrementValue()
	ch.AppendIncrementColumnToReturn("future")
	resp := must[*tablestore.UpdateRowResponse](t)(c.UpdateRow(&tablestore.UpdateRowRequest{UpdateRowChange: ch}))
	if len(resp.Columns) != 1 || resp.Columns[0].Value != int64(42) {
		t.Errorf("returned %+v", resp.Columns)
	}
}

func TestConcurrentIncrementsAllCount(t *testing.T) {
	_, c := serveTable(t, Options{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.IncrementColumn("n", 1) }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	newest := func(cr *tablestore.SingleRowQueryCriteria) { cr.MaxVersion = 1 }
	if got := get(t, c, key("a", 1), newest); !strings.HasSuffix(got, "=400") {
		t.Errorf("row %q, want a sum of 400", got)
	}
}

func TestConditions(t *testing.T) {
	_, c := serveTable(t, Options{})
	if err := put(c, key("there", 1), col{"n", int64(5), 0}); err != nil {
		t.Fatal(err)
	}
	const (
		exist    = tablestore.RowExistenceExpectation_EXPECT_EXIST
		notExist = tablestore.RowExistenceExpectation_EXPECT_NOT_EXIST
		any      = tablestore.RowExistenceExpectation_IGNORE
	)
	five := tablestore.NewSingleColumnCondition("n", tablestore.CT_EQUAL, int64(5))
	six := tablestore.NewSingleColumnCondition("n", tablestore.CT_EQUAL, int64(6))
	for _, test := range []struct {
		name   string
		row    string
		expect tablestore.RowExistenceExpectation
		column tablestore.ColumnFilter
		code   string
	}{
		{"exists", "there", exist, nil, ""},
		{"does not exist", "not", exist, nil, "OTSConditionCheckFail"},
		{"must not exist and does not", "not", notExist, nil, ""},
		{"must not exist and does", "there", notExist, nil, "OTSConditionCheckFail"},
		{"column holds", "there", any, five, ""},
		{"column does not hold", "there", any, six, "OTSConditionCheckFail"},
		{"column of no row", "not", any, six, "OTSConditionCheckFail"},
	} {
		for _, operation := range []string{"put", "update", "delete"} {
			t.Run(test.name+" "+operation, func(t *testing.T) {
				condition := &tablestore.RowCondition{RowExistenceExpectation: test.expect, ColumnCondition: test.column}
				var err error
				switch pk := key(test.row, 1); operation {
				case "put":
					ch := putChange(pk, col{"n", int64(5), 0})
					ch.Condition = condition
					_, err = c.PutRow(&tablestore.PutRowRequest{PutRowChange: ch})
				case "update":
					ch := &tablestore.UpdateRowChange{TableName: "t", PrimaryKey: pk, Condition: condition}
					ch.PutColumn("n", int64(5))
					_, err = c.UpdateRow(&tablestore.UpdateRowRequest{UpdateRowChange: ch})
				case "delete":
					_, err = c.DeleteRow(&tablestore.DeleteRowRequest{DeleteRowChange: &tablestore.DeleteRowChange{TableName: "t", PrimaryKey: pk, Condition: condition}})
				}
				wantCode(t, err, test.code)
				if err := remove(c, key("not", 1)); err != nil {
					t.Fatal(err)
				}
				if err := put(c, key("there", 1), col{"n", int64(5), 0}); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

func TestVersionsStayNearTheClock(t *testing.T) {
	at := newClock()
	_, c := serve(t, Options{Clock: at.now})
	req := tableOf("t")
	req.TableOption.DeviationCellVersionInSec = 100
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
	now := at.millis()
	for _, test := range []struct {
		version int64
		ok      bool
	}{
		{now - 100_000, true}, {now - 100_001, false},
		{now + 99_999, true}, {now + 100_000, false},
	} {
		err := put(c, key("a", 1), col{"x", "v", test.version})
		if test.ok != (err == nil) {
			t.Errorf("version %+d: %v", test.version-now, err)
		}
		if err != nil {
			wantCode(t, err, "OTSParameterInvalid", "Invalid timestamp")
		}
	}
	// What is deleted may be of any time.
	if err := update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.DeleteColumnWithTimestamp("x", 1) }); err != nil {
		t.Error(err)
	}
}

func TestTimeToLive(t *testing.T) {
	at := newClock()
	_, c := serve(t, Options{Clock: at.now})
	req := tableOf("t")
	req.TableOption.TimeToAlive = 86400
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
	now := at.millis()
	day := int64(86_400_000)

	wantCode(t, put(c, key("a", 1), col{"x", "v", now - day - 1000}), "OTSParameterInvalid", "Invalid timestamp")
	if err := put(c, key("a", 1), col{"x", "old", now - day + 5000}, col{"y", "new", now}); err != nil {
		t.Fatal(err)
	}
	if err := put(c, key("key alone", 1)); err != nil {
		t.Fatal(err)
	}
	wantRows(t, scanAll(t, c, everything()), fmt.Sprintf("[a 1] x@%d=old y@%d=new", now-day+5000, now), "[key alone 1]")
	at.advance(5 * time.Second)
	wantRows(t, scanAll(t, c, everything()), fmt.Sprintf("[a 1] x@%d=old y@%d=new", now-day+5000, now), "[key alone 1]")
	at.advance(time.Millisecond)
	wantRows(t, scanAll(t, c, everything()), fmt.Sprintf("[a 1] y@%d=new", now), "[key alone 1]")
	if got, want := get(t, c, key("a", 1)), fmt.Sprintf("[a 1] y@%d=new", now); got != want {
		t.Errorf("row %q, want %q", got, want)
	}
	// A longer life brings back what has not been written over.
	must[*tablestore.UpdateTableResponse](t)(c.UpdateTable(&tablestore.UpdateTableRequest{TableName: "t", TableOption: &tablestore.TableOption{TimeToAlive: -1, MaxVersion: 5}}))
	wantRows(t, scanAll(t, c, everything()), fmt.Sprintf("[a 1] x@%d=old y@%d=new", now-day+5000, now), "[key alone 1]")
}

// TestAnExpiredRowDoesNotExist needs a clock that leaves the SDK's behind, so
// it goes past the signature.
func TestAnExpiredRowDoesNotExist(t *testing.T) {
	at := newClock()
	s, c := serve(t, Options{Clock: at.now})
	req := tableOf("t")
	req.TableOption.TimeToAlive = 86400
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
	if err := put(c, key("a", 1), col{"x", "v", 0}); err != nil {
		t.Fatal(err)
	}
	exists := func() error {
		return ask(t, s, "PutRow", &otsprotocol.PutRowRequest{TableName: proto.String("t"), Row: rowBuffer(keyCells("a", 1), makeCell([]byte("x"), stringValue("v"), 0, false)),
			Condition: &otsprotocol.Condition{RowExistence: otsprotocol.RowExistenceExpectation_EXPECT_EXIST.Enum()}}, nil)
	}
	at.advance(24 * time.Hour)
	if err := exists(); err != nil {
		t.Fatal(err)
	}
	at.advance(24*time.Hour + time.Millisecond)
	wantCode(t, exists(), "OTSConditionCheckFail")
}

func TestMaxVersions(t *testing.T) {
	_, c := serve(t, Options{})
	req := tableOf("t")
	req.TableOption.MaxVersion = 2
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
	if err := put(c, key("a", 1), col{"x", "1", 1}, col{"x", "2", 2}, col{"x", "3", 3}, col{"y", "1", 1}); err != nil {
		t.Fatal(err)
	}
	if got, want := get(t, c, key("a", 1)), "[a 1] x@3=3 x@2=2 y@1=1"; got != want {
		t.Errorf("row %q, want %q", got, want)
	}
	if err := update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) {
		ch.PutColumnWithTimestamp("x", "4", 4)
		ch.PutColumnWithTimestamp("y", "0", 0)
	}); err != nil {
		t.Fatal(err)
	}
	if got, want := get(t, c, key("a", 1)), "[a 1] x@4=4 x@3=3 y@1=1 y@0=0"; got != want {
		t.Errorf("row %q, want %q", got, want)
	}
	must[*tablestore.UpdateTableResponse](t)(c.UpdateTable(&tablestore.UpdateTableRequest{TableName: "t", TableOption: &tablestore.TableOption{TimeToAlive: -1, MaxVersion: 1}}))
	if got, want := get(t, c, key("a", 1)), "[a 1] x@4=4 y@1=1"; got != want {
		t.Errorf("row %q, want %q", got, want)
	}
	wantRows(t, scanAll(t, c, everything()), "[a 1] x@4=4 y@1=1")
}

// serveWhole is a server with the table t of tableOf, whose rows are updated as a
// whole.
func serveWhole(t *testing.T, o Options) (*Server, *tablestore.TableStoreClient) {
	t.Helper()
	s, c := serve(t, o)
	req := tableOf("t")
	req.TableOption.UpdateFullRow = proto.Bool(true)
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
	return s, c
}

func TestAnUpdateOfAFullRow(t *testing.T) {
	at := newClock()
	_, c := serveWhole(t, Options{Clock: at.now})
	first := at.millis()
	if err := put(c, key("a", 1), col{"gone", "g", 0}, col{"stay", "s", 0}, col{"sum", int64(40), 0}); err != nil {
		t.Fatal(err)
	}
	at.advance(time.Second)
	ch := &tablestore.UpdateRowChange{TableName: "t", PrimaryKey: key("a", 1)}
	ch.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
	ch.PutColumn("new", "n")
	ch.DeleteColumn("gone")
	ch.IncrementColumn("sum", 2)
	resp := must[*tablestore.UpdateRowResponse](t)(c.UpdateRow(&tablestore.UpdateRowRequest{UpdateRowChange: ch}))
	if cu := resp.ConsumedCapacityUnit; cu.Read != 1 || cu.Write != 1 {
		t.Errorf("consumed %+v, want the row to be read", cu)
	}
	want := fmt.Sprintf("[a 1] new@%[2]d=n stay@%[2]d=s stay@%[1]d=s sum@%[2]d=42 sum@%[1]d=40", first, at.millis())
	if got := get(t, c, key("a", 1)); got != want {
		t.Errorf("row\n%q, want\n%q", got, want)
	}
	wantCode(t, put(c, key("a", 1), col{"x", "v", first}), "OTSParameterInvalid", "update_full_row")
	wantCode(t, update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.PutColumnWithTimestamp("x", "v", first) }), "OTSParameterInvalid", "update_full_row")
}

func TestAFullRowHas256Columns(t *testing.T) {
	_, c := serveWhole(t, Options{})
	var cols []col
	for i := range maxFullColumns + 1 {
		cols = append(cols, col{fmt.Sprintf("c%03d", i), "v", 0})
	}
	wantCode(t, put(c, key("a", 1), cols...), "OTSOutOfColumnCountLimit", "limit count: 256, column count: 257")
	if err := put(c, key("a", 1), cols[:maxFullColumns]...); err != nil {
		t.Fatal(err)
	}
	wantCode(t, update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.PutColumn("more", "v") }), "OTSOutOfColumnCountLimit")
	wantCode(t, update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) {
		ch.DeleteColumn("c000")
		ch.PutColumn("more", "v")
	}), "")
}

func TestAutoIncrement(t *testing.T) {
	dir := t.TempDir()
	at := newClock()
	_, c := serve(t, Options{Dir: dir, Clock: at.now})
	req := tableOf("t")
	req.TableMeta.SchemaEntry = nil
	req.TableMeta.AddPrimaryKeyColumn("s", tablestore.PrimaryKeyType_STRING)
	req.TableMeta.AddPrimaryKeyColumnOption("i", tablestore.PrimaryKeyType_INTEGER, tablestore.AUTO_INCREMENT)
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))

	var last int64
	for range 3 {
		ch := putChange(key("a", generated), col{"x", "v", 1})
		ch.SetReturnPk()
		resp := must[*tablestore.PutRowResponse](t)(c.PutRow(&tablestore.PutRowRequest{PutRowChange: ch}))
		value := resp.PrimaryKey.PrimaryKeys[1].Value.(int64)
		if value <= last {
			t.Errorf("value %d after %d", value, last)
		}
		last = value
	}
	if rows := scanAll(t, c, everything()); len(rows) != 3 {
		t.Errorf("rows %q", rows)
	}
	condition := func(e tablestore.RowExistenceExpectation, pk *tablestore.PrimaryKey) error {
		ch := putChange(pk, col{"x", "changed", 1})
		ch.SetCondition(e)
		_, err := c.PutRow(&tablestore.PutRowRequest{PutRowChange: ch})
		return err
	}
	const (
		exist    = tablestore.RowExistenceExpectation_EXPECT_EXIST
		notExist = tablestore.RowExistenceExpectation_EXPECT_NOT_EXIST
		any      = tablestore.RowExistenceExpectation_IGNORE
	)
	wantCode(t, condition(exist, key("a", int(last))), "")
	wantCode(t, condition(any, key("a", int(last))), "OTSParameterInvalid", "Invalid expect", "specific row")
	wantCode(t, condition(notExist, key("a", 77)), "OTSParameterInvalid", "Invalid expect")
	wantCode(t, condition(exist, key("a", 77)), "OTSConditionCheckFail")
	wantCode(t, condition(notExist, key("a", generated)), "OTSParameterInvalid", "Invalid expect")
	wantCode(t, remove(c, key("a", generated)), "OTSParameterInvalid", "Invalid row to delete")
	_, err := c.GetRow(&tablestore.GetRowRequest{SingleRowQueryCriteria: &tablestore.SingleRowQueryCriteria{TableName: "t", PrimaryKey: key("a", generated), MaxVersion: 1}})
	wantCode(t, err, "OTSParameterInvalid", "can't be used for read")
	if err := remove(c, key("a", int(last))); err != nil {
		t.Error(err)
	}
}

func TestAutoIncrementNeverRepeats(t *testing.T) {
	dir, at := t.TempDir(), newClock()
	values := map[int64]bool{}
	for range 3 {
		s := must[*Server](t)(Open(Options{Dir: dir, Clock: at.now}))
		if s.tables["demo"]["t"] == nil {
			err := ask(t, s, "CreateTable", &otsprotocol.CreateTableRequest{
				TableMeta: &otsprotocol.TableMeta{TableName: proto.String("t"), PrimaryKey: []*otsprotocol.PrimaryKeySchema{
					{Name: proto.String("s"), Type: otsprotocol.PrimaryKeyType_STRING.Enum()},
					{Name: proto.String("i"), Type: otsprotocol.PrimaryKeyType_INTEGER.Enum(), Option: otsprotocol.PrimaryKeyOption_AUTO_INCREMENT.Enum()},
				}},
				TableOptions:       &otsprotocol.TableOptions{TimeToLive: proto.Int32(-1), MaxVersions: proto.Int32(1)},
				ReservedThroughput: &otsprotocol.ReservedThroughput{CapacityUnit: &otsprotocol.CapacityUnit{}},
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			auto := []cell{keyCells("a", 0)[0], makeCell([]byte("i"), value{typeAutoIncrement}, 0, false)}
			var resp otsprotocol.PutRowResponse
			err := ask(t, s, "PutRow", &otsprotocol.PutRowRequest{TableName: proto.String("t"), Row: rowBuffer(auto), Condition: ignore(),
				ReturnContent: &otsprotocol.ReturnContent{ReturnType: otsprotocol.ReturnType_RT_PK.Enum()}}, &resp)
			if err != nil {
				t.Fatal(err)
			}
			var r row
			if err := parseBuffer(resp.Row, &r); err != nil {
				t.Fatal(err)
			}
			if v := r.key[1].value.integer(); values[v] {
				t.Errorf("value %d given twice", v)
			} else {
				values[v] = true
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		at.advance(-time.Hour) // the clock turns back between two starts
	}
}

func TestTheKeyMustBeTheTables(t *testing.T) {
	_, c := serveTable(t, Options{})
	named := func(first, second string, values ...any) *tablestore.PrimaryKey {
		pk := &tablestore.PrimaryKey{}
		pk.AddPrimaryKeyColumn(first, values[0])
		pk.AddPrimaryKeyColumn(second, values[1])
		return pk
	}
	for _, test := range []struct {
		name string
		pk   *tablestore.PrimaryKey
		code string
		says string
	}{
		{"too few", key("a"), "OTSInvalidPK", "Validate PK size fail. Input: 1, Meta: 2."},
		{"too many", key("a", 1, "x"), "OTSInvalidPK", "Validate PK size fail. Input: 3, Meta: 2."},
		{"names", named("s", "other", "a", int64(1)), "OTSInvalidPK", "Validate PK name fail. Input: other, Meta: i."},
		{"order", named("i", "s", int64(1), "a"), "OTSInvalidPK", "Validate PK name fail. Input: i, Meta: s."},
		{"types", key("a", []byte("b")), "OTSInvalidPK", "Validate PK type fail. Input: VT_BLOB, Meta: VT_INTEGER."},
		{"infinite", key("a", lowest), "OTSParameterInvalid", "VT_INF_MIN is an invalid type for the primary key."},
		{"generated", key("a", generated), "OTSInvalidPK", "VT_AUTO_INCREMENT"},
		{"1024 bytes", key(strings.Repeat("k", 1024), 1), "", ""},
		{"1025 bytes", key(strings.Repeat("k", 1025), 1), "OTSParameterInvalid", "MaxLength:1024 with CurrentLength:1025"},
		{"empty", key("", 1), "", ""},
		{"not UTF-8", key("\xff", 1), "OTSParameterInvalid", "must be UTF8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, read := c.GetRow(&tablestore.GetRowRequest{SingleRowQueryCriteria: &tablestore.SingleRowQueryCriteria{TableName: "t", PrimaryKey: test.pk, MaxVersion: 1}})
			for operation, err := range map[string]error{
				"put":    put(c, test.pk),
				"update": update(c, test.pk, func(ch *tablestore.UpdateRowChange) { ch.PutColumn("c", "v") }),
				"delete": remove(c, test.pk),
				"get":    read,
			} {
				if test.name == "generated" && operation == "get" {
					continue // refused before the key is compared
				}
				if test.name == "infinite" && (operation == "put" || operation == "update") {
					continue // the SDK sends AUTO_INCREMENT
				}
				t.Log(operation)
				wantCode(t, err, test.code, test.says)
			}
		})
	}
}

func TestCellsAreRefused(t *testing.T) {
	s, _ := serveTable(t, Options{})
	columns := func(n int) (cells []cell) {
		for i := range n {
			cells = append(cells, makeCell(fmt.Appendf(nil, "c%04d", i), integerValue(1), 0, false))
		}
		return cells
	}
	named := func(name string) []cell { return []cell{makeCell([]byte(name), stringValue(""), 0, false)} }
	valued := func(v value) []cell { return []cell{makeCell([]byte("x"), v, 0, false)} }
	dated := func(version int64) []cell { return []cell{makeCell([]byte("x"), stringValue(""), version, true)} }
	large := func(name string, n int) cell {
		return makeCell([]byte(name), binaryValue(strings.Repeat("x", n)), 0, false)
	}
	for _, test := range []struct {
		name  string
		cells []cell
		says  string // "": accepted
	}{
		{"1024 columns", columns(1024), ""},
		{"1025 columns", columns(1025), "limit count: 1024, column count: 1025"},
		{"name of 255 bytes", named(strings.Repeat("n", 255)), ""},
		{"name of 256 bytes", named(strings.Repeat("n", 256)), "Invalid column name"},
		{"no name", named(""), "Invalid column name: ''."},
		{"name in another script", named("城市"), ""},
		{"name with punctuation", named(" a.b:c\n"), ""},
		{"name with a hash", named("#a"), "Invalid column name: '#a'."},
		{"name not UTF-8", named("\xff"), "Invalid column name"},
		{"name of a key column", named("s"), "Duplicated attribute column name with primary key column: 's'."},
		{"value of 2 MB", []cell{large("x", 2<<20)}, ""},
		{"value above 2 MB", []cell{large("x", 2<<20+1)}, "MaxLength:2097152 with CurrentLength:2097153"},
		// Key: s, i and their values "a" and 8 bytes; a column: its name, value and version.
		{"4 MB in all", []cell{large("x", 2<<20), large("y", 2<<20-11-9-9)}, ""},
		{"more than 4 MB in all", []cell{large("x", 2<<20), large("y", 2<<20-11-9-9+1)}, "limit size: 4194304, data size: 4194305"},
		{"not a number", valued(doubleValue(math.NaN())), "NaN can't be set to double value."},
		{"infinity", valued(doubleValue(math.Inf(-1))), "Infinity can't be set to double value."},
		{"negative zero", valued(doubleValue(math.Copysign(0, -1))), ""},
		{"not UTF-8", valued(stringValue("\xff")), "must be UTF8"},
		{"infinite", valued(value{typeInfMax}), "VT_INF_MAX is an invalid type for the attribute column."},
		{"null", valued(value{typeNull}), "VT_NULL is an invalid type"},
		{"version 0", dated(0), ""},
		{"greatest version", dated(maxVersion - 1), ""},
		{"version too great", dated(maxVersion), "Timestamp must be in range"},
		{"negative version", dated(-1), "Timestamp must be in range"},
	} {
		t.Run(test.name, func(t *testing.T) {
			buf := rowBuffer(keyCells("a", 1), test.cells...)
			for action, err := range map[string]error{
				"PutRow":    ask(t, s, "PutRow", &otsprotocol.PutRowRequest{TableName: proto.String("t"), Row: buf, Condition: ignore()}, nil),
				"UpdateRow": ask(t, s, "UpdateRow", &otsprotocol.UpdateRowRequest{TableName: proto.String("t"), RowChange: buf, Condition: ignore()}, nil),
			} {
				t.Log(action)
				if test.says == "" {
					wantCode(t, err, "")
				} else {
					wantCode(t, err, "OTSParameterInvalid", test.says)
				}
			}
		})
	}
}

// cellOp builds a cell with an operation, which makeCell does not.
func cellOp(name string, op byte, v value, version int64) cell {
	raw := append([]byte{tagCell, tagName, byte(len(name)), 0, 0, 0}, name...)
	sum := crc8(0, []byte(name))
	if v != nil {
		raw = append(append(raw, tagValue, byte(len(v)), 0, 0, 0), v...)
		sum = crc8(sum, v)
	}
	raw = append(raw, tagOp, op)
	if version >= 0 {
		text := integerValue(version)[1:]
		raw = append(append(raw, tagVersion), text...)
		sum = crc8(sum, text)
	}
	sum = crc8Byte(sum, op)
	return cell{raw: append(raw, tagCellSum, sum), sum: sum}
}

func TestOperationsAreRefused(t *testing.T) {
	s, c := serveTable(t, Options{})
	putRow := func(buf []byte) error {
		return ask(t, s, "PutRow", &otsprotocol.PutRowRequest{TableName: proto.String("t"), Row: buf, Condition: ignore()}, nil)
	}
	updateRow := func(buf []byte) error {
		return ask(t, s, "UpdateRow", &otsprotocol.UpdateRowRequest{TableName: proto.String("t"), RowChange: buf, Condition: ignore()}, nil)
	}
	deleteRow := func(buf []byte) error {
		return ask(t, s, "DeleteRow", &otsprotocol.DeleteRowRequest{TableName: proto.String("t"), PrimaryKey: buf, Condition: ignore()}, nil)
	}
	pk := keyCells("a", 1)
	marked := key("a", 1).Build(true)
	versioned := []cell{pk[0], makeCell([]byte("i"), integerValue(1), 5, true)}
	for _, test := range []struct {
		name string
		err  error
		says string
	}{
		{"operation in a put", putRow(rowBuffer(pk, cellOp("x", opDeleteAll, nil, -1))), "in PutRow"},
		{"marker in a put", putRow(marked), "unexpected RowDeleteMarker"},
		{"no marker in a deletion", deleteRow(rowBuffer(pk)), "missing RowDeleteMarker"},
		{"update of nothing", updateRow(rowBuffer(pk)), "missing cells"},
		{"value of what is deleted", updateRow(rowBuffer(pk, cellOp("x", opDeleteAll, integerValue(1), -1))), "Column value cannot be given"},
		{"all versions and one", updateRow(rowBuffer(pk, cellOp("x", opDeleteAll, nil, 3))), "Timestamp cannot be given when type is DELETE_ALL_VERSION"},
		{"one version and none", updateRow(rowBuffer(pk, cellOp("x", opDeleteOneVersion, nil, -1))), "Timestamp must be given"},
		{"text added", updateRow(rowBuffer(pk, cellOp("x", opIncrement, stringValue("1"), -1))), "Only an INTEGER"},
		{"version of a sum", updateRow(rowBuffer(pk, cellOp("x", opIncrement, integerValue(1), 3))), "Timestamp cannot be given"},
		{"unknown operation", updateRow(rowBuffer(pk, cellOp("x", 9, integerValue(1), -1))), "Invalid op type of cell: 9."},
		{"version of a key", putRow(rowBuffer(versioned)), "Timestamp cannot be given for primary key name:'i'."},
		{"operation on a key", putRow(rowBuffer([]cell{pk[0], cellOp("i", opIncrement, integerValue(1), -1)})), "OpType cannot be given"},
	} {
		t.Run(test.name, func(t *testing.T) { wantCode(t, test.err, "OTSParameterInvalid", test.says) })
	}
	id := "transaction"
	wantCode(t, ask(t, s, "PutRow", &otsprotocol.PutRowRequest{TableName: proto.String("t"), Row: rowBuffer(pk), Condition: ignore(), TransactionId: &id}, nil), "OTSParameterInvalid", "explicit-transaction-disabled")
	must[*tablestore.UpdateTableResponse](t)(c.UpdateTable(&tablestore.UpdateTableRequest{TableName: "t", TableOption: &tablestore.TableOption{TimeToAlive: -1, MaxVersion: 1, AllowUpdate: proto.Bool(false)}}))
	wantCode(t, updateRow(rowBuffer(pk, makeCell([]byte("x"), integerValue(1), 0, false))), "OTSParameterInvalid", "allow_update")
	wantCode(t, putRow(rowBuffer(pk, makeCell([]byte("x"), integerValue(1), 0, false))), "")
}

func TestCapacityUnitsOfWrites(t *testing.T) {
	_, c := serveTable(t, Options{})
	consumed := func(size int, expect tablestore.RowExistenceExpectation) string {
		ch := putChange(key("a", 1), col{"x", strings.Repeat("v", size), 0})
		ch.SetCondition(expect)
		resp := must[*tablestore.PutRowResponse](t)(c.PutRow(&tablestore.PutRowRequest{PutRowChange: ch}))
		return fmt.Sprint(resp.ConsumedCapacityUnit.Read, " ", resp.ConsumedCapacityUnit.Write)
	}
	// 11 bytes of key and 9 of name and version come on top of the value.
	for _, test := range []struct {
		size   int
		expect tablestore.RowExistenceExpectation
		want   string
	}{
		{1, tablestore.RowExistenceExpectation_IGNORE, "0 1"},
		{4096 - 20, tablestore.RowExistenceExpectation_IGNORE, "0 1"},
		{4096 - 19, tablestore.RowExistenceExpectation_IGNORE, "0 2"},
		{1, tablestore.RowExistenceExpectation_EXPECT_EXIST, "1 1"},
	} {
		if got := consumed(test.size, test.expect); got != test.want {
			t.Errorf("%d bytes: consumed %s, want %s", test.size, got, test.want)
		}
	}
}
