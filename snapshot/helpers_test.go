package snapshot_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// service is a local Tablestore, with ways in for the product and for the SDK.
type service struct {
	*local.Server
	url string
}

func newService(t testing.TB) *service {
	t.Helper()
	return newServiceWith(t, local.Options{})
}

func newServiceWith(t testing.TB, o local.Options) *service {
	t.Helper()
	server, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(server)
	t.Cleanup(func() {
		listener.Close()
		server.Close()
	})
	return &service{Server: server, url: listener.URL}
}

func (s *service) instance(t testing.TB, name string) *tablestore.Instance {
	t.Helper()
	in, err := tablestore.Open(tablestore.Config{
		Endpoint: s.url, Instance: name, AccessKeyID: "local", AccessKeySecret: "local", GiveUpAfter: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func (s *service) client(name string) *sdk.TableStoreClient {
	return sdk.NewClient(s.url, name, "local", "local")
}

// createTable makes a table with the SDK. Columns of its key are name:type.
func createTable(t testing.TB, c *sdk.TableStoreClient, name string, versions int, key ...string) {
	t.Helper()
	meta := &sdk.TableMeta{TableName: name}
	types := map[string]sdk.PrimaryKeyType{
		"INTEGER": sdk.PrimaryKeyType_INTEGER, "STRING": sdk.PrimaryKeyType_STRING, "BINARY": sdk.PrimaryKeyType_BINARY,
	}
	for _, k := range key {
		column, typ, _ := strings.Cut(k, ":")
		meta.AddPrimaryKeyColumn(column, types[typ])
	}
	_, err := c.CreateTable(&sdk.CreateTableRequest{
		TableMeta:          meta,
		TableOption:        &sdk.TableOption{TimeToAlive: -1, MaxVersion: versions, DeviationCellVersionInSec: 864000},
		ReservedThroughput: &sdk.ReservedThroughput{},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// cell is an attribute to write; a zero version leaves the choice to the service.
type cell struct {
	name    string
	value   any
	version int64
}

func putRow(t testing.TB, c *sdk.TableStoreClient, table string, key map[string]any, order []string, cells ...cell) {
	t.Helper()
	change := &sdk.PutRowChange{TableName: table, PrimaryKey: &sdk.PrimaryKey{}}
	for _, name := range order {
		change.PrimaryKey.AddPrimaryKeyColumn(name, key[name])
	}
	for _, x := range cells {
		if x.version == 0 {
			change.AddColumn(x.name, x.value)
			continue
		}
		change.AddColumnWithTimestamp(x.name, x.value, x.version)
	}
	change.SetCondition(sdk.RowExistenceExpectation_IGNORE)
	if _, err := c.PutRow(&sdk.PutRowRequest{PutRowChange: change}); err != nil {
		t.Fatal(err)
	}
}

// fillRagged makes the table "ragged": rows that have every shape a row can.
func fillRagged(t testing.TB, c *sdk.TableStoreClient) {
	t.Helper()
	createTable(t, c, "ragged", 5, "id:INTEGER", "raw:BINARY")
	now := time.Now().UnixMilli()
	order := []string{"id", "raw"}
	put := func(id int64, raw string, cells ...cell) {
		putRow(t, c, "ragged", map[string]any{"id": id, "raw": []byte(raw)}, order, cells...)
	}
	put(math.MinInt64, "", cell{name: "Title", value: "smallest"})
	put(math.MaxInt64, "\x00\x00", cell{name: "Title", value: int64(9)}, cell{name: "Blob", value: []byte{0, 1, 0}})
	put(0, "\x00")
	put(0, "\x00\xff", cell{name: "Empty", value: ""}, cell{name: "Zero", value: int64(0)}, cell{name: "Minus", value: math.Copysign(0, -1)})
	put(1, "a", cell{"Title", "newest", now}, cell{"Title", int64(5), now - 10}, cell{"Title", "older", now - 20})
	put(2, "a", cell{"Title", int64(5), now}, cell{"Title", "older", now - 20}, cell{"title", "lower case", now}, cell{"__ts", true, now})
	put(3, "names", cell{name: "阿里巴巴", value: "in any script"}, cell{name: "a.b", value: int64(1)}, cell{name: " x", value: true})
	for i := range int64(50) {
		put(100+i, fmt.Sprint(i), cell{name: "Title", value: fmt.Sprint("film ", i)}, cell{name: "Gross", value: i * 1000}, cell{name: "Rating", value: float64(i) / 3})
	}
}

// fillPlain makes a table of n rows with a STRING key.
func fillPlain(t testing.TB, c *sdk.TableStoreClient, table string, n int) {
	t.Helper()
	createTable(t, c, table, 1, "k:STRING")
	for begin := 0; begin < n; begin += 200 {
		request := &sdk.BatchWriteRowRequest{}
		for i := begin; i < min(n, begin+200); i++ {
			change := &sdk.PutRowChange{TableName: table, PrimaryKey: &sdk.PrimaryKey{}}
			change.PrimaryKey.AddPrimaryKeyColumn("k", fmt.Sprintf("row-%06d", i))
			change.AddColumn("n", int64(i))
			change.AddColumn("text", strings.Repeat(fmt.Sprint(i, " "), 20))
			change.SetCondition(sdk.RowExistenceExpectation_IGNORE)
			request.AddRowChange(change)
		}
		response, err := c.BatchWriteRow(request)
		if err != nil {
			t.Fatal(err)
		}
		for _, result := range response.TableToRowsResult[table] {
			if !result.IsSucceed {
				t.Fatal(result.Error)
			}
		}
	}
}

func newKey(t testing.TB) manifest.Signer {
	t.Helper()
	_, signer, err := manifest.GenerateKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// policyOf names the keys as exporters, of which threshold must sign.
func policyOf(threshold int64, keys ...manifest.Signer) *manifest.Policy {
	p := manifest.NewPolicy(time.Now(), threshold)
	for i, k := range keys {
		p.Keys = append(p.Keys, manifest.NewPolicyKey(fmt.Sprintf("key-%d", i+1), "exporter", k.Key()))
	}
	return p
}

// newArchive makes an archive in memory that one key may sign.
func newArchive(t testing.TB, store archive.Store) (*snapshot.Archive, manifest.Signer) {
	t.Helper()
	key := newKey(t)
	return open(t, store, initiate(t, store, snapshot.Setup{}, policyOf(1, key), key).Trust), key
}

func initiate(t testing.TB, store archive.Store, setup snapshot.Setup, policy *manifest.Policy, keys ...manifest.Signer) snapshot.Initiated {
	t.Helper()
	if setup.Kind == "" {
		setup.Kind = "memory"
	}
	made, err := snapshot.Init(t.Context(), store, policy, setup, keys...)
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Warnings) > 0 {
		t.Errorf("warnings of a new archive: %q", made.Warnings)
	}
	return made
}

func open(t testing.TB, store archive.Store, trust manifest.Trust) *snapshot.Archive {
	t.Helper()
	a, err := snapshot.Open(t.Context(), store, trust)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// contents returns every object of a store.
func contents(t testing.TB, store archive.Store) map[string][]byte {
	t.Helper()
	objects := map[string][]byte{}
	for object, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		body, err := store.Get(t.Context(), object.Name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(body)
		body.Close()
		if err != nil {
			t.Fatal(err)
		}
		objects[object.Name] = data
	}
	return objects
}

// storeWith is a store in memory with these objects.
func storeWith(t testing.TB, objects map[string][]byte) archive.Store {
	t.Helper()
	store := new(archivetest.Memory)
	for name, data := range objects {
		if err := store.Put(context.Background(), name, bytes.NewReader(data), archive.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return store
}
