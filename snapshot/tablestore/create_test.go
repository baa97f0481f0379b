package tablestore

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// full is a table with everything a table can have but indexes.
func full(name string) manifest.Table {
	return manifest.Table{
		Name: name,
		Key: []manifest.KeyColumn{
			{Name: "country", Type: manifest.String},
			{Name: "part", Type: manifest.Binary},
			{Name: "id", Type: manifest.Integer},
			{Name: "seq", Type: manifest.Integer, AutoIncrement: true},
		},
		Defined: []manifest.Column{
			{Name: "blob", Type: manifest.Binary},
			{Name: "name", Type: manifest.String},
			{Name: "paid", Type: manifest.Boolean},
			{Name: "price", Type: manifest.Double},
			{Name: "stock", Type: manifest.Integer},
		},
		Options: manifest.Options{TTL: 864000, MaxVersions: 3, Deviation: 86401, AllowUpdate: true},
		Stream:  manifest.Stream{Enabled: true, Hours: 48, Columns: []string{"name", "price"}},
		Indexes: []manifest.Index{}, SearchIndexes: []manifest.SearchIndex{},
		NotCaptured: append(slices.Clone(untold), untoldOfStreams),
	}
}

const untoldOfStreams = "stream: its records; that it is enabled, how long it keeps records and with which columns is kept"

// createFull makes a table through the SDK.
func createFull(t *testing.T, s *stage, table manifest.Table) {
	t.Helper()
	keyTypes := map[manifest.Type]ots.PrimaryKeyType{
		manifest.Integer: ots.PrimaryKeyType_INTEGER,
		manifest.String:  ots.PrimaryKeyType_STRING,
		manifest.Binary:  ots.PrimaryKeyType_BINARY,
	}
	columnTypes := map[manifest.Type]ots.DefinedColumnType{
		manifest.Integer: ots.DefinedColumn_INTEGER,
		manifest.String:  ots.DefinedColumn_STRING,
		manifest.Binary:  ots.DefinedColumn_BINARY,
		manifest.Double:  ots.DefinedColumn_DOUBLE,
		manifest.Boolean: ots.DefinedColumn_BOOLEAN,
	}
	meta := &ots.TableMeta{TableName: table.Name}
	for _, c := range table.Key {
		if c.AutoIncrement {
			meta.AddPrimaryKeyColumnOption(c.Name, keyTypes[c.Type], ots.AUTO_INCREMENT)
			continue
		}
		meta.AddPrimaryKeyColumn(c.Name, keyTypes[c.Type])
	}
	for _, c := range table.Defined {
		meta.AddDefinedColumn(c.Name, columnTypes[c.Type])
	}
	create := &ots.CreateTableRequest{
		TableMeta: meta,
		TableOption: &ots.TableOption{
			TimeToAlive:               int(table.Options.TTL),
			MaxVersion:                int(table.Options.MaxVersions),
			DeviationCellVersionInSec: table.Options.Deviation,
			AllowUpdate:               &table.Options.AllowUpdate,
			UpdateFullRow:             &table.Options.UpdateFullRow,
		},
		ReservedThroughput: &ots.ReservedThroughput{Readcap: int(table.Throughput.Read), Writecap: int(table.Throughput.Write)},
	}
	if table.Stream.Enabled {
		create.StreamSpec = &ots.StreamSpecification{EnableStream: true, ExpirationTime: int32(table.Stream.Hours), OriginColumnsToGet: table.Stream.Columns}
	}
	if _, err := s.sdk.CreateTable(create); err != nil {
		t.Fatal(err)
	}
}

func TestDescribe(t *testing.T) {
	s := newStage(t)
	want := full("full")
	createFull(t, s, want)
	in := s.open(t)
	got, err := in.Describe(t.Context(), "full")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, name := range []string{"full", "plain"} {
		if name == "plain" {
			s.create(t, manifest.Table{Name: name, Key: orders.Key})
		}
		got, err := in.Describe(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		got.Columns = []manifest.Column{} // which the export chooses
		text, err := json.Marshal(got)
		if err != nil || strings.Contains(string(text), "null") {
			t.Errorf("a list is null: %s, %v", text, err)
		}
	}
	if _, err := in.Describe(t.Context(), "missing"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "table missing") {
		t.Errorf("a missing table gave %v", err)
	}
}

// described answers DescribeTable.
func described(change func(*otsprotocol.DescribeTableResponse)) answer {
	m := &otsprotocol.DescribeTableResponse{
		TableMeta: &otsprotocol.TableMeta{
			TableName:  proto.String("orders"),
			PrimaryKey: []*otsprotocol.PrimaryKeySchema{{Name: proto.String("id"), Type: otsprotocol.PrimaryKeyType_INTEGER.Enum()}},
		},
		ReservedThroughputDetails: &otsprotocol.ReservedThroughputDetails{
			CapacityUnit:     &otsprotocol.CapacityUnit{},
			LastIncreaseTime: proto.Int64(0),
		},
		TableOptions: &otsprotocol.TableOptions{TimeToLive: proto.Int32(-1), MaxVersions: proto.Int32(1)},
		TableStatus:  otsprotocol.TableStatus_ACTIVE.Enum(),
	}
	change(m)
	body, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return respond(http.StatusOK, body)
}

func TestDescribeTellsIndexesAndEncryption(t *testing.T) {
	table := described(func(m *otsprotocol.DescribeTableResponse) {
		m.IndexMetas = []*otsprotocol.IndexMeta{
			{
				Name: proto.String("by_name"), PrimaryKey: []string{"name", "id"}, DefinedColumn: []string{"price"},
				IndexUpdateMode: otsprotocol.IndexUpdateMode_IUM_ASYNC_INDEX.Enum(), IndexType: otsprotocol.IndexType_IT_GLOBAL_INDEX.Enum(),
			},
			{
				Name: proto.String("by_price"), PrimaryKey: []string{"id", "price"},
				IndexUpdateMode: otsprotocol.IndexUpdateMode_IUM_SYNC_INDEX.Enum(), IndexType: otsprotocol.IndexType_IT_LOCAL_INDEX.Enum(),
			},
		}
		m.SseDetails = &otsprotocol.SSEDetails{
			Enable: proto.Bool(true), KeyType: otsprotocol.SSEKeyType_SSE_BYOK.Enum(), KeyId: []byte("key"), RoleArn: []byte("acs:ram::1:role/r"),
		}
	})
	listed, _ := proto.Marshal(&otsprotocol.ListSearchIndexResponse{Indices: []*otsprotocol.IndexInfo{
		{TableName: proto.String("orders"), IndexName: proto.String("search")},
	}})
	index, _ := proto.Marshal(&otsprotocol.DescribeSearchIndexResponse{
		Schema: &otsprotocol.IndexSchema{
			FieldSchemas: []*otsprotocol.FieldSchema{{FieldName: proto.String("name"), FieldType: otsprotocol.FieldType_KEYWORD.Enum(), Index: proto.Bool(true)}},
			IndexSetting: &otsprotocol.IndexSetting{},
		},
		TimeToLive: proto.Int32(86400),
	})
	s := &service{answers: []answer{table, respond(200, listed), respond(200, index)}}
	got, err := s.open(t).Describe(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.SearchIndexes) != 1 || got.SearchIndexes[0].Name != "search" || !strings.Contains(got.SearchIndexes[0].Schema, `"FieldType":"KEYWORD"`) {
		t.Errorf("search indexes are %+v", got.SearchIndexes)
	}
	if ttl := got.SearchIndexes[0].TTL; ttl != 86400 {
		t.Errorf("rows live %d seconds in the search index", ttl)
	}
	got.SearchIndexes = nil
	want := manifest.Table{
		Name:       "orders",
		Key:        []manifest.KeyColumn{{Name: "id", Type: manifest.Integer}},
		Defined:    []manifest.Column{},
		Options:    manifest.Options{TTL: -1, MaxVersions: 1, Deviation: 86400, AllowUpdate: true},
		Stream:     manifest.Stream{Columns: []string{}},
		Encryption: manifest.Encryption{Enabled: true, KeyType: "SSE_BYOK", KeyID: "key", RoleARN: "acs:ram::1:role/r"},
		Indexes: []manifest.Index{
			{Name: "by_name", Type: "GLOBAL", Key: []string{"name", "id"}, Columns: []string{"price"}},
			{Name: "by_price", Type: "LOCAL", Key: []string{"id", "price"}, Columns: []string{}},
		},
		NotCaptured: untold,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestIndexesOfALocalTable(t *testing.T) {
	s := newStage(t)
	meta := &ots.TableMeta{TableName: "orders"}
	meta.AddPrimaryKeyColumn("id", ots.PrimaryKeyType_INTEGER)
	meta.AddDefinedColumn("name", ots.DefinedColumn_STRING)
	meta.AddDefinedColumn("price", ots.DefinedColumn_DOUBLE)
	_, err := s.sdk.CreateTable(&ots.CreateTableRequest{
		TableMeta:          meta,
		TableOption:        &ots.TableOption{TimeToAlive: -1, MaxVersion: 1},
		ReservedThroughput: &ots.ReservedThroughput{},
		IndexMetas:         []*ots.IndexMeta{{IndexName: "by_name", Primarykey: []string{"name"}, DefinedColumns: []string{"price"}, IndexType: ots.IT_GLOBAL_INDEX}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.sdk.CreateSearchIndex(&ots.CreateSearchIndexRequest{TableName: "orders", IndexName: "search", IndexSchema: &ots.IndexSchema{
		FieldSchemas: []*ots.FieldSchema{{FieldName: proto.String("name"), FieldType: ots.FieldType_KEYWORD}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	in := s.open(t)
	got, err := in.Describe(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	want := []manifest.Index{{Name: "by_name", Type: "GLOBAL", Key: []string{"name"}, Columns: []string{"price"}}}
	if !reflect.DeepEqual(got.Indexes, want) {
		t.Errorf("indexes are %+v, want %+v", got.Indexes, want)
	}
	if len(got.SearchIndexes) != 1 || got.SearchIndexes[0].Name != "search" || !strings.Contains(got.SearchIndexes[0].Schema, `"FieldType":"KEYWORD"`) {
		t.Errorf("search indexes are %+v", got.SearchIndexes)
	}
	if !slices.Equal(got.NotCaptured, untold) {
		t.Errorf("not captured: %q", got.NotCaptured)
	}
	if names, err := in.Tables(t.Context()); err != nil || !slices.Equal(names, []string{"orders"}) {
		t.Errorf("tables are %q, %v", names, err)
	}
}

func TestTablesLeavesIndexesOut(t *testing.T) {
	byName := func(req *http.Request) (*http.Response, error) {
		return described(func(m *otsprotocol.DescribeTableResponse) {
			m.IndexMetas = []*otsprotocol.IndexMeta{{
				Name:            proto.String("an_index"),
				IndexUpdateMode: otsprotocol.IndexUpdateMode_IUM_ASYNC_INDEX.Enum(),
				IndexType:       otsprotocol.IndexType_IT_GLOBAL_INDEX.Enum(),
			}}
		})(req)
	}
	plain := described(func(*otsprotocol.DescribeTableResponse) {})
	s := &service{answers: []answer{
		list("users", "orders", "an_index", "dropped"),
		plain, byName, plain, refuse(404, "OTSObjectNotExist", ""),
		refuse(400, "OTSUnsupportOperation", "no timeseries tables"),
	}}
	got, err := s.open(t).Tables(t.Context())
	if want := []string{"dropped", "orders", "users"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestCreateAndConfigure(t *testing.T) {
	s := newStage(t)
	in := s.open(t)
	for _, change := range []func(*manifest.Table){
		func(*manifest.Table) {},
		func(m *manifest.Table) { m.Name = strings.Repeat("n", 255) }, // more than the SDK takes
		func(m *manifest.Table) { m.Name, m.Options.UpdateFullRow = "whole_rows", true },
		func(m *manifest.Table) { m.Name, m.Options.AllowUpdate = "read_only", false },
		func(m *manifest.Table) { m.Name, m.Options.Deviation = "exact", 0 },
		func(m *manifest.Table) { m.Name, m.Stream = "quiet", manifest.Stream{Columns: []string{}} },
		func(m *manifest.Table) { m.Name, m.Options = "bare", bare },
		func(m *manifest.Table) {
			m.Name, m.Encryption = "sealed", manifest.Encryption{Enabled: true, KeyType: "SSE_KMS_SERVICE"}
		},
		func(m *manifest.Table) {
			m.Name, m.Encryption = "owned", manifest.Encryption{Enabled: true, KeyType: "SSE_BYOK", KeyID: "key", RoleARN: "acs:ram::1:role/r"}
		},
		func(m *manifest.Table) { m.Name, m.Throughput = "reserved", manifest.Throughput{Read: 3, Write: 2} },
	} {
		table := full("full")
		change(&table)
		t.Run(table.Name[:4], func(t *testing.T) {
			mustCreate(t.Context(), t, in, table)
			created, err := in.Describe(t.Context(), table.Name)
			if err != nil {
				t.Fatal(err)
			}
			want := table
			want.NotCaptured = untold
			want.Options = manifest.Options{TTL: -1, MaxVersions: -1, Deviation: math.MaxInt64 / 1_000_000, AllowUpdate: true, UpdateFullRow: table.Options.UpdateFullRow}
			want.Stream, want.Throughput = manifest.Stream{Columns: []string{}}, manifest.Throughput{}
			if !reflect.DeepEqual(created, want) {
				t.Errorf("created  %+v\nwant     %+v", created, want)
			}
			if err := in.Create(t.Context(), table); !errors.Is(err, fs.ErrExist) {
				t.Errorf("made twice: %v", err)
			}
			if err := in.Configure(t.Context(), table); err != nil {
				t.Fatal(err)
			}
			finished, err := in.Describe(t.Context(), table.Name)
			if err != nil {
				t.Fatal(err)
			}
			want.Options, want.Stream, want.Throughput = table.Options, table.Stream, table.Throughput
			if want.Stream.Enabled {
				want.NotCaptured = table.NotCaptured
			}
			if !reflect.DeepEqual(finished, want) {
				t.Errorf("finished %+v\nwant     %+v", finished, want)
			}
		})
	}
	if err := in.Configure(t.Context(), full("missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing table gave %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	in := (&service{answers: []answer{lose(io.EOF)}}).open(t)
	for want, table := range map[string]manifest.Table{
		`primary key column "id" has type "DOUBLE"`: {Name: "t", Key: []manifest.KeyColumn{{Name: "id", Type: manifest.Double}}},
		`predefined column "x" has type ""`:         {Name: "t", Key: orders.Key, Defined: []manifest.Column{{Name: "x"}}},
	} {
		if err := in.Create(t.Context(), table); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %s", err, want)
		}
	}
}

func TestCreateWhoseAnswerIsLost(t *testing.T) {
	sealed := orders
	sealed.Encryption = manifest.Encryption{Enabled: true, KeyType: "SSE_KMS_SERVICE"}
	for name, test := range map[string]struct {
		before func(t *testing.T, s *stage) // what is there already
		table  manifest.Table
		want   error
	}{
		"is done":                 {table: orders},
		"is done with encryption": {table: sealed},
		"but another did not encrypt it": {
			before: func(t *testing.T, s *stage) { mustCreate(t.Context(), t, s.open(t), orders) },
			table:  sealed,
			want:   fs.ErrExist,
		},
		"but another made it different": {
			before: func(t *testing.T, s *stage) { s.create(t, orders) },
			table:  orders,
			want:   fs.ErrExist,
		},
		"but another has rows in it": {
			before: func(t *testing.T, s *stage) {
				in := s.open(t)
				mustCreate(t.Context(), t, in, orders)
				mustWrite(t, in, orders, sample(1, 1))
			},
			table: orders,
			want:  fs.ErrExist,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			if test.before != nil {
				test.before(t, s)
			}
			err := s.open(t, afterwards("CreateTable", 1, io.ErrUnexpectedEOF)).Create(t.Context(), test.table)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// A table is not ready for a minute after it was made.
func TestCreateWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := time.Now()
		s := &service{answers: []answer{func(req *http.Request) (*http.Response, error) {
			switch {
			case actionOf(req) == "CreateTable":
				return respond(200, nil)(req)
			case time.Since(made) < time.Minute:
				return refuse(404, "OTSTableNotReady", "The table is not ready.")(req)
			}
			return rangeAnswer(nil)(req)
		}}}
		if err := s.open(t).Create(t.Context(), orders); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(made); took < time.Minute || took > time.Minute+5*time.Second {
			t.Errorf("took %s", took)
		}
		made = time.Now().Add(time.Hour)
		err := s.open(t, func(c *Config) { c.GiveUpAfter = time.Minute }).Create(t.Context(), orders)
		if !errors.Is(err, snapshot.ErrUnavailable) || !strings.Contains(err.Error(), "waiting for table orders") {
			t.Errorf("got %v", err)
		}
	})
}

func TestCreateEncrypts(t *testing.T) {
	for name, test := range map[string]struct {
		encryption manifest.Encryption
		want       *otsprotocol.SSESpecification
	}{
		"not": {},
		"with the service's key": {
			encryption: manifest.Encryption{Enabled: true, KeyType: "SSE_KMS_SERVICE", KeyID: "of the service"},
			want:       &otsprotocol.SSESpecification{Enable: proto.Bool(true), KeyType: otsprotocol.SSEKeyType_SSE_KMS_SERVICE.Enum()},
		},
		"with a customer's key": {
			encryption: manifest.Encryption{Enabled: true, KeyType: "SSE_BYOK", KeyID: "key", RoleARN: "role"},
			want: &otsprotocol.SSESpecification{
				Enable: proto.Bool(true), KeyType: otsprotocol.SSEKeyType_SSE_BYOK.Enum(), KeyId: []byte("key"), RoleArn: []byte("role"),
			},
		},
	} {
		s := &service{answers: []answer{respond(200, nil), rangeAnswer(nil)}}
		table := orders
		table.Encryption = test.encryption
		mustCreate(t.Context(), t, s.open(t), table)
		m := new(otsprotocol.CreateTableRequest)
		if err := proto.Unmarshal(s.bodies[0], m); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(m.SseSpec, test.want) {
			t.Errorf("%s: asked for %v", name, m.SseSpec)
		}
	}
	table := orders
	table.Encryption = manifest.Encryption{Enabled: true, KeyType: "SSE_NEW"}
	err := (&service{answers: []answer{lose(io.EOF)}}).open(t).Create(t.Context(), table)
	if err == nil || !strings.Contains(err.Error(), `encryption has keys of type "SSE_NEW"`) {
		t.Errorf("got %v", err)
	}
}
