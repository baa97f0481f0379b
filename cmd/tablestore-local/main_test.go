package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

// start runs the command and returns a client for the address it prints and
// what stops it as a signal does.
func start(t *testing.T, args ...string) (c *tablestore.TableStoreClient, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, append([]string{"--listen", "127.0.0.1:0"}, args...), w, io.Discard) }()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "tablestore-local: listening on ")
	if !ok {
		t.Fatalf("the first line is %q", line)
	}
	config := tablestore.NewDefaultTableStoreConfig()
	config.RetryTimes = 0
	return tablestore.NewClientWithConfig(url, "demo", "me", "secret", "", config), func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestTablesAreThereAfterARestart(t *testing.T) {
	t.Setenv("TABLESTORE_LOCAL_ACCESS_KEY_ID", "me")
	t.Setenv("TABLESTORE_LOCAL_ACCESS_KEY_SECRET", "secret")
	dir := t.TempDir()
	c, stop := start(t, "--dir", dir)
	meta := &tablestore.TableMeta{TableName: "t"}
	meta.AddPrimaryKeyColumn("k", tablestore.PrimaryKeyType_STRING)
	_, err := c.CreateTable(&tablestore.CreateTableRequest{TableMeta: meta,
		TableOption: &tablestore.TableOption{TimeToAlive: -1, MaxVersion: 1}, ReservedThroughput: &tablestore.ReservedThroughput{}})
	if err != nil {
		t.Fatal(err)
	}
	stop()

	c, stop = start(t, "--dir", dir, "--fault", "DescribeTable:busy")
	defer stop()
	tables, err := c.ListTable()
	if err != nil || len(tables.TableNames) != 1 || tables.TableNames[0] != "t" {
		t.Errorf("tables %v, %v", tables, err)
	}
	if _, err := c.DescribeTable(&tablestore.DescribeTableRequest{TableName: "t"}); err == nil || !strings.Contains(err.Error(), "OTSServerBusy") {
		t.Errorf("a request that was to meet a fault is answered %v", err)
	}
}

func TestIndexesTakeTimeAndShardsSplitAsAsked(t *testing.T) {
	t.Setenv("TABLESTORE_LOCAL_ACCESS_KEY_ID", "me")
	t.Setenv("TABLESTORE_LOCAL_ACCESS_KEY_SECRET", "secret")
	c, stop := start(t, "--index-build", "1h", "--shard-records", "2")
	defer stop()
	meta := &tablestore.TableMeta{TableName: "t"}
	meta.AddPrimaryKeyColumn("k", tablestore.PrimaryKeyType_STRING)
	meta.AddPrimaryKeyColumn("n", tablestore.PrimaryKeyType_INTEGER)
	_, err := c.CreateTable(&tablestore.CreateTableRequest{TableMeta: meta, TableOption: &tablestore.TableOption{TimeToAlive: -1, MaxVersion: 1},
		ReservedThroughput: &tablestore.ReservedThroughput{}, StreamSpec: &tablestore.StreamSpecification{EnableStream: true, ExpirationTime: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"a", "b"} {
		pk := &tablestore.PrimaryKey{}
		pk.AddPrimaryKeyColumn("k", k)
		pk.AddPrimaryKeyColumn("n", int64(1))
		change := &tablestore.PutRowChange{TableName: "t", PrimaryKey: pk}
		change.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
		if _, err := c.PutRow(&tablestore.PutRowRequest{PutRowChange: change}); err != nil {
			t.Fatal(err)
		}
	}
	index := &tablestore.IndexMeta{IndexName: "x", Primarykey: []string{"n"}}
	if _, err := c.CreateIndex(&tablestore.CreateIndexRequest{MainTableName: "t", IndexMeta: index, IncludeBaseData: true}); err != nil {
		t.Fatal(err)
	}
	table, err := c.DescribeTable(&tablestore.DescribeTableRequest{TableName: "t"})
	if err != nil || *table.IndexMetas[0].IndexSyncPhase != tablestore.SyncPhase_FULL {
		t.Errorf("table %+v, %v", table, err)
	}
	stream, err := c.DescribeStream(&tablestore.DescribeStreamRequest{StreamId: table.StreamDetails.StreamId})
	if err != nil || len(stream.Shards) != 3 {
		t.Errorf("stream %+v, %v", stream, err)
	}
}

func TestTheServerIsLimitedAsAsked(t *testing.T) {
	t.Setenv("TABLESTORE_LOCAL_ACCESS_KEY_ID", "me")
	t.Setenv("TABLESTORE_LOCAL_ACCESS_KEY_SECRET", "secret")
	c, stop := start(t, "--table-ops", "1", "--partition-writes", "1", "--fault", "GetRow:busy:for=1h")
	defer stop()
	create := func(name string) error {
		meta := &tablestore.TableMeta{TableName: name}
		meta.AddPrimaryKeyColumn("k", tablestore.PrimaryKeyType_STRING)
		_, err := c.CreateTable(&tablestore.CreateTableRequest{TableMeta: meta,
			TableOption: &tablestore.TableOption{TimeToAlive: -1, MaxVersion: 1}, ReservedThroughput: &tablestore.ReservedThroughput{}})
		return err
	}
	if err := create("t"); err != nil {
		t.Fatal(err)
	}
	if err := create("u"); err == nil || !strings.Contains(err.Error(), "Too frequent table operations") {
		t.Errorf("a second table in a second: %v", err)
	}
	pk := &tablestore.PrimaryKey{}
	pk.AddPrimaryKeyColumn("k", "a")
	change := &tablestore.PutRowChange{TableName: "t", PrimaryKey: pk}
	change.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
	busy := 0
	for range 10 {
		if _, err := c.PutRow(&tablestore.PutRowRequest{PutRowChange: change}); err != nil && strings.Contains(err.Error(), "OTSServerBusy") {
			busy++
		}
	}
	if busy == 0 {
		t.Error("a table of one unit a second takes ten rows at once")
	}
	for range 3 {
		_, err := c.GetRow(&tablestore.GetRowRequest{SingleRowQueryCriteria: &tablestore.SingleRowQueryCriteria{TableName: "t", PrimaryKey: pk, MaxVersion: 1}})
		if err == nil || !strings.Contains(err.Error(), "OTSServerBusy") {
			t.Errorf("a read in an hour of trouble: %v", err)
		}
	}
}

func TestTheServerIsForThisMachine(t *testing.T) {
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		err := run(t.Context(), []string{"--listen", address}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "--allow-remote") {
			t.Errorf("listening on %s: %v", address, err)
		}
	}
	l, err := open("0.0.0.0:0", true)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestBadUsage(t *testing.T) {
	for args, says := range map[string]string{
		"--fault nonsense":      "want action:kind",
		"--fault GetRow:rows":   "does not apply",
		"--no-such-flag":        "not defined",
		"--listen 127.0.0.1:-1": "invalid port",
		"extra":                 `unexpected argument "extra"`,
		"--index-build -1s":     "cannot be negative",
		"--shard-records -1":    "cannot be negative",
		"--partition-writes -1": "cannot be negative",
		"--table-ops -1":        "cannot be negative",
		"--fault *:busy:for=60": "missing unit",
	} {
		var stderr strings.Builder
		err := run(t.Context(), strings.Fields(args), io.Discard, &stderr)
		if err == nil || !strings.Contains(stderr.String()+err.Error(), says) {
			t.Errorf("%s: %v, says %q", args, err, stderr.String())
		}
	}
	if err := run(t.Context(), []string{"--help"}, io.Discard, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("help: %v", err)
	}
}
