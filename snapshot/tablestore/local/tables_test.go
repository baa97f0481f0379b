package local

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

func TestATableIsDescribedAsItWasCreated(t *testing.T) {
	for where, dir := range map[string]string{"memory": "", "disk": t.TempDir()} {
		t.Run(where, func(t *testing.T) {
			at := newClock()
			_, c := serve(t, Options{Dir: dir, Clock: at.now})
			req := tableOf("t")
			req.TableMeta.AddPrimaryKeyColumn("b", tablestore.PrimaryKeyType_BINARY)
			req.TableMeta.AddPrimaryKeyColumnOption("auto", tablestore.PrimaryKeyType_INTEGER, tablestore.AUTO_INCREMENT)
			req.TableMeta.AddDefinedColumn("name", tablestore.DefinedColumn_STRING)
			req.TableMeta.AddDefinedColumn("price", tablestore.DefinedColumn_DOUBLE)
			req.TableOption = &tablestore.TableOption{TimeToAlive: 86400, MaxVersion: 7, DeviationCellVersionInSec: 99, AllowUpdate: proto.Bool(false), UpdateFullRow: proto.Bool(true)}
			req.ReservedThroughput = &tablestore.ReservedThroughput{Readcap: 3, Writecap: 4}
			req.StreamSpec = &tablestore.StreamSpecification{EnableStream: true, ExpirationTime: 168, OriginColumnsToGet: []string{"name"}}
			must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))

			got := must[*tablestore.DescribeTableResponse](t)(c.DescribeTable(&tablestore.DescribeTableRequest{TableName: "t"}))
			var schema []string
			for _, k := range got.TableMeta.SchemaEntry {
				schema = append(schema, fmt.Sprint(*k.Name, " ", *k.Type, " ", k.Option != nil))
			}
			want := []string{"s 2 false", "i 1 false", "b 3 false", "auto 1 true"}
			if !slices.Equal(schema, want) {
				t.Errorf("primary key %q, want %q", schema, want)
			}
			if d := got.TableMeta.DefinedColumns; len(d) != 2 || d[0].Name != "name" || d[0].ColumnType != tablestore.DefinedColumn_STRING || d[1].Name != "price" || d[1].ColumnType != tablestore.DefinedColumn_DOUBLE {
				t.Errorf("defined columns %+v", d)
			}
			o := got.TableOption
			if o.TimeToAlive != 86400 || o.MaxVersion != 7 || o.DeviationCellVersionInSec != 99 || *o.AllowUpdate || !*o.UpdateFullRow {
				t.Errorf("options %+v", o)
			}
			if got.ReservedThroughput.Readcap != 3 || got.ReservedThroughput.Writecap != 4 {
				t.Errorf("throughput %+v", got.ReservedThroughput)
			}
			st := got.StreamDetails
			if !st.EnableStream || st.ExpirationTime != 168 || st.LastEnableTime != at.now().UnixMicro() || !slices.Equal(st.OriginColumnsToGet, []string{"name"}) {
				t.Errorf("stream %+v", st)
			}
		})
	}
}

func TestOptionsHaveDefaults(t *testing.T) {
	_, c := serve(t, Options{})
	req := tableOf("t")
	req.TableOption = &tablestore.TableOption{TimeToAlive: -1, MaxVersion: 1}
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
	got := must[*tablestore.DescribeTableResponse](t)(c.DescribeTable(&tablestore.DescribeTableRequest{TableName: "t"}))
	if o := got.TableOption; o.DeviationCellVersionInSec != 86400 || !*o.AllowUpdate || *o.UpdateFullRow {
		t.Errorf("options %+v", o)
	}
	if got.StreamDetails.EnableStream || len(got.IndexMetas) != 0 || got.SSEDetails.Enable {
		t.Errorf("described %+v", got)
	}
}

func TestCreateTableIsRefused(t *testing.T) {
	s, _ := serve(t, Options{})
	column := func(name string, typ otsprotocol.PrimaryKeyType) *otsprotocol.PrimaryKeySchema {
		return &otsprotocol.PrimaryKeySchema{Name: &name, Type: &typ}
	}
	auto := func(name string, typ otsprotocol.PrimaryKeyType) *otsprotocol.PrimaryKeySchema {
		k := column(name, typ)
		k.Option = otsprotocol.PrimaryKeyOption_AUTO_INCREMENT.Enum()
		return k
	}
	const integer = otsprotocol.PrimaryKeyType_INTEGER
	defined := func(n int) (columns []*otsprotocol.DefinedColumnSchema) {
		for i := range n {
			columns = append(columns, &otsprotocol.DefinedColumnSchema{Name: proto.String(fmt.Sprint("d", i)), Type: otsprotocol.DefinedColumnType_DCT_STRING.Enum()})
		}
		return columns
	}
	for _, test := range []struct {
		name string
		edit func(*otsprotocol.CreateTableRequest)
		code string // "": accepted
		says string
	}{
		{"as it is", func(r *otsprotocol.CreateTableRequest) {}, "", ""},
		{"name of 255 bytes", func(r *otsprotocol.CreateTableRequest) {
			r.TableMeta.TableName = proto.String(strings.Repeat("a", 255))
		}, "", ""},
		{"name of 256 bytes", func(r *otsprotocol.CreateTableRequest) {
			r.TableMeta.TableName = proto.String(strings.Repeat("a", 256))
		}, "OTSParameterInvalid", "Invalid table name"},
		{"no name", func(r *otsprotocol.CreateTableRequest) { r.TableMeta.TableName = proto.String("") }, "OTSParameterInvalid", "Invalid table name"},
		{"name begins with a digit", func(r *otsprotocol.CreateTableRequest) { r.TableMeta.TableName = proto.String("3t") }, "OTSParameterInvalid", "'3t'"},
		{"name with a hyphen", func(r *otsprotocol.CreateTableRequest) { r.TableMeta.TableName = proto.String("a-b") }, "OTSParameterInvalid", "'a-b'"},
		{"no key", func(r *otsprotocol.CreateTableRequest) { r.TableMeta.PrimaryKey = nil }, "OTSParameterInvalid", "[1, 4]"},
		{"four key columns", func(r *otsprotocol.CreateTableRequest) {
			r.TableMeta.PrimaryKey = []*otsprotocol.PrimaryKeySchema{column("a", integer), column("b", integer), column("c", integer), column("d", integer)}
		}, "", ""},
		{"five key columns", func(r *otsprotocol.CreateTableRequest) {
			r.TableMeta.PrimaryKey = []*otsprotocol.PrimaryKeySchema{column("a", integer), column("b", integer), column("c", integer), column("d", integer), column("e", integer)}
		}, "OTSParameterInvalid", "[1, 4]"},
		{"key column twice", func(r *otsprotocol.CreateTableRequest) {
			r.TableMeta.PrimaryKey = []*otsprotocol.PrimaryKeySchema{column("a", integer), column("a", integer)}
		}, "OTSParameterInvalid", "Duplicated primary key name: 'a'."},
		{"bad key name", func(r *otsprotocol.CreateTableRequest) {
			r.TableMeta.PrimaryKey = []*otsprotocol.PrimaryKeySchema{column("a b", integer)}
		}, "OTSParameterInvalid", "Invalid column name: 'a b'."},
		{"unknown key type", func(r *otsprotocol.CreateTableRequest) {
			r.TableMeta.PrimaryKey = []*otsprotocol.PrimaryKeySchema{column("a", 9)}
		}, "OTSParameterInvalid", "only STRING,INTEGER,BINARY"},
		{"first column generated", func(r *otsprotocol.CreateTableRequest) {
			r.TableMeta.PrimaryKey = []*otsprotocol.PrimaryKeySchema{auto("a", integer)}
		}, "OTSParameterInvalid", "First primary key can't be auto increment"},
		{"two generated columns", func(r *otsprotocol.CreateTableRequest) {
			r.TableMeta.PrimaryKey = []*otsprotocol.PrimaryKeySchema{column("a", integer), auto("b", integer), auto("c", integer)}
		}, "OTSParameterInvalid", "count must <= 1"},
		{"generated string", func(r *otsprotocol.CreateTableRequest) {
			r.TableMeta.PrimaryKey = []*otsprotocol.PrimaryKeySchema{column("a", integer), auto("b", otsprotocol.PrimaryKeyType_STRING)}
		}, "OTSParameterInvalid", "must be integer"},
		{"32 defined columns", func(r *otsprotocol.CreateTableRequest) { r.TableMeta.DefinedColumn = defined(32) }, "", ""},
		{"33 defined columns", func(r *otsprotocol.CreateTableRequest) { r.TableMeta.DefinedColumn = defined(33) }, "OTSParameterInvalid", "[0, 32]"},
		{"defined twice", func(r *otsprotocol.CreateTableRequest) { r.TableMeta.DefinedColumn = append(defined(1), defined(1)...) }, "OTSParameterInvalid", "'d0'"},
		{"defined and key", func(r *otsprotocol.CreateTableRequest) {
			r.TableMeta.DefinedColumn = []*otsprotocol.DefinedColumnSchema{{Name: proto.String("pk"), Type: otsprotocol.DefinedColumnType_DCT_STRING.Enum()}}
		}, "OTSParameterInvalid", "'pk'"},
		{"no time to live", func(r *otsprotocol.CreateTableRequest) { r.TableOptions.TimeToLive = nil }, "OTSParameterInvalid", "Time-to-live is missing"},
		{"no versions", func(r *otsprotocol.CreateTableRequest) { r.TableOptions.MaxVersions = nil }, "OTSParameterInvalid", "MaxVersions is missing"},
		{"time to live of a day", func(r *otsprotocol.CreateTableRequest) { r.TableOptions.TimeToLive = proto.Int32(86400) }, "", ""},
		{"time to live below a day", func(r *otsprotocol.CreateTableRequest) { r.TableOptions.TimeToLive = proto.Int32(86399) }, "OTSParameterInvalid", "86400"},
		{"time to live of zero", func(r *otsprotocol.CreateTableRequest) { r.TableOptions.TimeToLive = proto.Int32(0) }, "OTSParameterInvalid", "cannot be 0"},
		{"no versions kept", func(r *otsprotocol.CreateTableRequest) { r.TableOptions.MaxVersions = proto.Int32(0) }, "OTSParameterInvalid", "must be positive"},
		{"greatest deviation", func(r *otsprotocol.CreateTableRequest) {
			r.TableOptions.DeviationCellVersionInSec = proto.Int64(maxDeviation)
		}, "", ""},
		{"greater deviation", func(r *otsprotocol.CreateTableRequest) {
			r.TableOptions.DeviationCellVersionInSec = proto.Int64(maxDeviation + 1)
		}, "OTSParameterInvalid", "INT64_MAX/1000000"},
		{"block size", func(r *otsprotocol.CreateTableRequest) { r.TableOptions.BlockSize = proto.Int32(1) }, "OTSUnsupportOperation", "block size"},
		{"negative throughput", func(r *otsprotocol.CreateTableRequest) {
			r.ReservedThroughput.CapacityUnit.Read = proto.Int32(-1)
		}, "OTSParameterInvalid", "nonnegative"},
		{"stream of 169 hours", func(r *otsprotocol.CreateTableRequest) {
			r.StreamSpec = &otsprotocol.StreamSpecification{EnableStream: proto.Bool(true), ExpirationTime: proto.Int32(169)}
		}, "OTSParameterInvalid", "[1, 168]"},
		{"encryption without a type of key", func(r *otsprotocol.CreateTableRequest) {
			r.SseSpec = &otsprotocol.SSESpecification{Enable: proto.Bool(true)}
		}, "OTSParameterInvalid", "Key type is required"},
		{"the service's key, and a customer's", func(r *otsprotocol.CreateTableRequest) {
			r.SseSpec = &otsprotocol.SSESpecification{Enable: proto.Bool(true), KeyType: otsprotocol.SSEKeyType_SSE_KMS_SERVICE.Enum(), KeyId: []byte("key")}
		}, "OTSParameterInvalid", "cannot be set when key type is SSE_KMS_SERVICE"},
		{"a customer's key and no role", func(r *otsprotocol.CreateTableRequest) {
			r.SseSpec = &otsprotocol.SSESpecification{Enable: proto.Bool(true), KeyType: otsprotocol.SSEKeyType_SSE_BYOK.Enum(), KeyId: []byte("key")}
		}, "OTSParameterInvalid", "required when key type is SSE_BYOK"},
		{"a role and no key", func(r *otsprotocol.CreateTableRequest) {
			r.SseSpec = &otsprotocol.SSESpecification{Enable: proto.Bool(true), KeyType: otsprotocol.SSEKeyType_SSE_BYOK.Enum(), RoleArn: []byte("role")}
		}, "OTSParameterInvalid", "required when key type is SSE_BYOK"},
		{"another type of key", func(r *otsprotocol.CreateTableRequest) {
			r.SseSpec = &otsprotocol.SSESpecification{Enable: proto.Bool(true), KeyType: otsprotocol.SSEKeyType(9).Enum()}
		}, "OTSParameterInvalid", "Invalid key type: 9"},
		{"a key and no encryption", func(r *otsprotocol.CreateTableRequest) {
			r.SseSpec = &otsprotocol.SSESpecification{Enable: proto.Bool(false), KeyType: otsprotocol.SSEKeyType_SSE_KMS_SERVICE.Enum()}
		}, "OTSParameterInvalid", "encryption is not enabled"},
		{"no encryption", func(r *otsprotocol.CreateTableRequest) {
			r.SseSpec = &otsprotocol.SSESpecification{Enable: proto.Bool(false)}
		}, "", ""},
		{"transactions", func(r *otsprotocol.CreateTableRequest) { r.EnableLocalTxn = proto.Bool(true) }, "", ""},
		{"transactions and a generated column", func(r *otsprotocol.CreateTableRequest) {
			r.EnableLocalTxn = proto.Bool(true)
			r.TableMeta.PrimaryKey = append(r.TableMeta.PrimaryKey, auto("b", integer))
		}, "OTSParameterInvalid", "Local transactions cannot be enabled"},
		{"partitions", func(r *otsprotocol.CreateTableRequest) {
			r.Partitions = []*otsprotocol.PartitionRange{{Begin: []byte{}, End: []byte{}}}
		}, "OTSUnsupportOperation", "partitions"},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := &otsprotocol.CreateTableRequest{
				TableMeta:          &otsprotocol.TableMeta{TableName: proto.String("t"), PrimaryKey: []*otsprotocol.PrimaryKeySchema{column("pk", integer)}},
				ReservedThroughput: &otsprotocol.ReservedThroughput{CapacityUnit: &otsprotocol.CapacityUnit{}},
				TableOptions:       &otsprotocol.TableOptions{TimeToLive: proto.Int32(-1), MaxVersions: proto.Int32(1)},
			}
			test.edit(req)
			err := ask(t, s, "CreateTable", req, nil)
			wantCode(t, err, test.code, test.says)
			if err == nil {
				if err := ask(t, s, "DeleteTable", &otsprotocol.DeleteTableRequest{TableName: req.TableMeta.TableName}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestEncryptionIsDescribed(t *testing.T) {
	dir := t.TempDir()
	service, own := tablestore.SSE_KMS_SERVICE, tablestore.SSE_BYOK
	keyID, role := "key", "acs:ram::1:role/ots"
	for name, test := range map[string]struct {
		asked *tablestore.SSESpecification
		want  tablestore.SSEDetails
	}{
		"none":    {nil, tablestore.SSEDetails{}},
		"not":     {&tablestore.SSESpecification{}, tablestore.SSEDetails{}},
		"service": {&tablestore.SSESpecification{Enable: true, KeyType: &service}, tablestore.SSEDetails{Enable: true, KeyType: service}},
		"own":     {&tablestore.SSESpecification{Enable: true, KeyType: &own, KeyId: &keyID, RoleArn: &role}, tablestore.SSEDetails{Enable: true, KeyType: own, KeyId: keyID, RoleArn: role}},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s restarted %v", name, restarted), func(t *testing.T) {
				_, c := serve(t, Options{Dir: dir})
				if !restarted {
					req := tableOf(name)
					req.SSESpecification = test.asked
					req.EnableLocalTxn = proto.Bool(true)
					must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
				}
				if got := describe(t, c, name).SSEDetails; *got != test.want {
					t.Errorf("described %+v, want %+v", got, test.want)
				}
			})
		}
	}
}

func TestTableOperationsAreLimited(t *testing.T) {
	at := newClock()
	_, c := serve(t, Options{Clock: at.now, TableOps: 3})
	create := func(name string) error {
		_, err := c.CreateTable(tableOf(name))
		return err
	}
	wantCode(t, create("a"), "")
	at.advance(500 * time.Millisecond)
	wantCode(t, create("b"), "")
	_, err := c.DeleteTable(&tablestore.DeleteTableRequest{TableName: "missing"})
	wantCode(t, err, "OTSObjectNotExist") // counts as well
	wantCode(t, create("c"), "OTSQuotaExhausted", "Too frequent table operations.")
	for range 10 { // what changes nothing is not limited
		describe(t, c, "a")
	}
	at.advance(500 * time.Millisecond)
	wantCode(t, create("c"), "") // the first was a second ago
	wantCode(t, create("d"), "OTSQuotaExhausted")
	at.advance(time.Second)
	for _, name := range []string{"d", "e", "f"} {
		wantCode(t, create(name), "")
	}
}

func TestAnInstanceHolds64Tables(t *testing.T) {
	_, c := serve(t, Options{})
	var names []string
	for i := range maxTables {
		names = append(names, fmt.Sprintf("t%02d", i))
		must[*tablestore.CreateTableResponse](t)(c.CreateTable(tableOf(names[i])))
	}
	_, err := c.CreateTable(tableOf("one_more"))
	wantCode(t, err, "OTSQuotaExhausted", "Number of tables exceeded the quota.")
	_, err = c.CreateTable(tableOf("t00"))
	wantCode(t, err, "OTSObjectAlreadyExist")
	if got := must[*tablestore.ListTableResponse](t)(c.ListTable()).TableNames; !slices.Equal(got, names) {
		t.Errorf("tables %q", got)
	}
}

func TestInstancesAreApart(t *testing.T) {
	s := must[*Server](t)(Open(Options{}))
	defer s.Close()
	h := httptest.NewServer(s)
	defer h.Close()
	one, two := clientOf(h.URL, "one"), clientOf(h.URL, "two")
	must[*tablestore.CreateTableResponse](t)(one.CreateTable(tableOf("t")))
	wantCode(t, put(two, key("a", 1)), "OTSObjectNotExist")
	must[*tablestore.CreateTableResponse](t)(two.CreateTable(tableOf("t")))
	if err := put(one, key("a", 1)); err != nil {
		t.Fatal(err)
	}
	wantRows(t, scanAll(t, one, everything()), "[a 1]")
	wantRows(t, scanAll(t, two, everything()))
}

func TestUpdateTable(t *testing.T) {
	at := newClock()
	_, c := serveTable(t, Options{Clock: at.now})
	at.advance(time.Minute)
	got := must[*tablestore.UpdateTableResponse](t)(c.UpdateTable(&tablestore.UpdateTableRequest{
		TableName:          "t",
		TableOption:        &tablestore.TableOption{TimeToAlive: 172800, MaxVersion: 2, DeviationCellVersionInSec: 5, AllowUpdate: proto.Bool(false)},
		ReservedThroughput: &tablestore.ReservedThroughput{Readcap: 1},
		StreamSpec:         &tablestore.StreamSpecification{EnableStream: true, ExpirationTime: 1},
	}))
	if o := got.TableOption; o.TimeToAlive != 172800 || o.MaxVersion != 2 || o.DeviationCellVersionInSec != 5 {
		t.Errorf("options %+v", o)
	}
	if got.ReservedThroughput.Readcap != 1 || !got.StreamDetails.EnableStream {
		t.Errorf("answered %+v", got)
	}
	described := must[*tablestore.DescribeTableResponse](t)(c.DescribeTable(&tablestore.DescribeTableRequest{TableName: "t"}))
	if o := described.TableOption; o.MaxVersion != 2 || *o.AllowUpdate {
		t.Errorf("options %+v", o)
	}
	streams := must[*tablestore.ListStreamResponse](t)(c.ListStream(&tablestore.ListStreamRequest{}))
	if len(streams.Streams) != 1 || *streams.Streams[0].TableName != "t" {
		t.Errorf("streams %+v", streams)
	}
	for _, test := range []struct {
		name string
		req  *tablestore.UpdateTableRequest
		says string
	}{
		{"nothing", &tablestore.UpdateTableRequest{}, "No parameter"},
		{"update_full_row", &tablestore.UpdateTableRequest{TableOption: &tablestore.TableOption{TimeToAlive: -1, MaxVersion: 1, UpdateFullRow: proto.Bool(true)}}, "contain updateFullRow"},
		{"time to live", &tablestore.UpdateTableRequest{TableOption: &tablestore.TableOption{TimeToAlive: 1, MaxVersion: 1}}, "86400"},
		{"stream enabled twice", &tablestore.UpdateTableRequest{StreamSpec: &tablestore.StreamSpecification{EnableStream: true, ExpirationTime: 1}}, "already enabled"},
		{"throughput", &tablestore.UpdateTableRequest{ReservedThroughput: &tablestore.ReservedThroughput{Writecap: -1}}, "nonnegative"},
	} {
		test.req.TableName = "t"
		_, err := c.UpdateTable(test.req)
		wantCode(t, err, "OTSParameterInvalid", test.says)
	}
	must[*tablestore.UpdateTableResponse](t)(c.UpdateTable(&tablestore.UpdateTableRequest{TableName: "t", StreamSpec: &tablestore.StreamSpecification{EnableStream: false}}))
	if streams := must[*tablestore.ListStreamResponse](t)(c.ListStream(&tablestore.ListStreamRequest{})); len(streams.Streams) != 0 {
		t.Errorf("streams %+v", streams)
	}
}

func TestDefinedColumnsComeAndGo(t *testing.T) {
	_, c := serveTable(t, Options{})
	add := &tablestore.AddDefinedColumnRequest{TableName: "t"}
	add.AddDefinedColumn("a", tablestore.DefinedColumn_INTEGER)
	must[*tablestore.AddDefinedColumnResponse](t)(c.AddDefinedColumn(add))
	_, err := c.AddDefinedColumn(add)
	wantCode(t, err, "OTSParameterInvalid", "'a'")
	remove := &tablestore.DeleteDefinedColumnRequest{TableName: "t", DefinedColumns: []string{"a"}}
	must[*tablestore.DeleteDefinedColumnResponse](t)(c.DeleteDefinedColumn(remove))
	_, err = c.DeleteDefinedColumn(remove)
	wantCode(t, err, "OTSParameterInvalid", "Column does not exist:'a'.")
}

func TestADeletedTableTakesItsRowsAlong(t *testing.T) {
	_, c := serveTable(t, Options{})
	if err := put(c, key("a", 1)); err != nil {
		t.Fatal(err)
	}
	must[*tablestore.DeleteTableResponse](t)(c.DeleteTable(&tablestore.DeleteTableRequest{TableName: "t"}))
	_, err := c.DeleteTable(&tablestore.DeleteTableRequest{TableName: "t"})
	wantCode(t, err, "OTSObjectNotExist", "Requested table does not exist.")
	wantCode(t, put(c, key("a", 1)), "OTSObjectNotExist")
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(tableOf("t")))
	wantRows(t, scanAll(t, c, everything()))
}

func TestTablesOutliveTheServer(t *testing.T) {
	dir := t.TempDir()
	open := func() *Server { return must[*Server](t)(Open(Options{Dir: dir})) }
	s := open()
	schema := []*otsprotocol.PrimaryKeySchema{
		{Name: proto.String("s"), Type: otsprotocol.PrimaryKeyType_STRING.Enum()},
		{Name: proto.String("i"), Type: otsprotocol.PrimaryKeyType_INTEGER.Enum()},
	}
	create := func(s *Server, name string) {
		err := ask(t, s, "CreateTable", &otsprotocol.CreateTableRequest{
			TableMeta:          &otsprotocol.TableMeta{TableName: &name, PrimaryKey: schema},
			TableOptions:       &otsprotocol.TableOptions{TimeToLive: proto.Int32(-1), MaxVersions: proto.Int32(1)},
			ReservedThroughput: &otsprotocol.ReservedThroughput{CapacityUnit: &otsprotocol.CapacityUnit{}},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	create(s, "t")
	err := ask(t, s, "PutRow", &otsprotocol.PutRowRequest{TableName: proto.String("t"), Row: rowBuffer(keyCells("a", 1)), Condition: ignore()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); err == nil {
		t.Error("a directory is open in two servers")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	create(s, "u") // with an id of its own
	for table, want := range map[string]bool{"t": true, "u": false} {
		var got otsprotocol.GetRowResponse
		err := ask(t, s, "GetRow", &otsprotocol.GetRowRequest{TableName: &table, PrimaryKey: rowBuffer(keyCells("a", 1)), MaxVersions: proto.Int32(1)}, &got)
		if err != nil || len(got.Row) > 0 != want {
			t.Errorf("table %s: row %x, %v", table, got.Row, err)
		}
	}
}

func TestWhatIsNotSupportedSaysSo(t *testing.T) {
	s, _ := serveTable(t, Options{})
	for _, action := range []string{"StartLocalTransaction", "SQLQuery", "Search", "BulkExport"} {
		wantCode(t, ask(t, s, action, &otsprotocol.ListTableRequest{}, nil), "OTSUnsupportOperation", action)
	}
	wantCode(t, ask(t, s, "Nonsense", &otsprotocol.ListTableRequest{}, nil), "OTSParameterInvalid", "Unsupported operation: 'Nonsense'.")
}

func TestAMessageThatIsNoneIsRefused(t *testing.T) {
	s, _ := serve(t, Options{})
	for action := range operations {
		_, err := s.do(request{action: action, instance: "demo", body: []byte{0xFF}}, Fault{})
		wantCode(t, err, "OTSParameterInvalid", "Parse PBMessage")
	}
}

func TestThroughputChangesEveryTwoMinutesAtMost(t *testing.T) {
	at := newClock()
	_, c := serveTable(t, Options{Clock: at.now})
	adjust := func(read int) error {
		_, err := c.UpdateTable(&tablestore.UpdateTableRequest{TableName: "t", ReservedThroughput: &tablestore.ReservedThroughput{Readcap: read}})
		return err
	}
	wantCode(t, adjust(1), "")
	at.advance(2*time.Minute - time.Second)
	wantCode(t, adjust(2), "OTSTooFrequentReservedThroughputAdjustment")
	wantCode(t, adjust(1), "") // is no change
	at.advance(time.Second)
	wantCode(t, adjust(2), "")
}

func TestAClosedServerSaysSo(t *testing.T) {
	s := must[*Server](t)(Open(Options{}))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for action := range operations {
		_, err := s.do(request{action: action, instance: "demo"}, Fault{})
		wantCode(t, err, "OTSServerUnavailable")
	}
}
