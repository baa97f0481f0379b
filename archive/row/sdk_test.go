package row

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/manifest"
)

// The service's own SDK is the oracle of these tests.

// sdkRow returns a row as the SDK writes it.
func sdkRow(r testRow) []byte {
	put := &tablestore.PutRowChange{TableName: "t", PrimaryKey: &tablestore.PrimaryKey{}}
	for _, c := range r.key {
		put.PrimaryKey.AddPrimaryKeyColumn(c.name, c.value)
	}
	for _, c := range r.cells {
		put.AddColumnWithTimestamp(c.name, c.value, c.version)
	}
	return put.Serialize()
}

func TestTheSDKWritesTheSameRows(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(29, 30))
	for range 500 {
		r := randomRow(rnd, l)
		for i := range r.cells {
			// The SDK takes a version of 0 for none.
			r.cells[i].version += 10
		}
		b := buildRows(t, l, r)
		if got, want := append(AppendHeader(nil), encodeRow(t, l, b, 0)...), sdkRow(r); !bytes.Equal(got, want) {
			t.Fatalf("row is\n%x, the SDK has\n%x", got, want)
		}
	}
}

func TestTheSDKAsksForKeysTheSameWay(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(33, 34))
	for range 100 {
		r := randomRow(rnd, l)
		for i := range r.cells {
			r.cells[i].version += 10
		}
		e := NewEncoder(l)
		if err := e.Reset(buildRows(t, l, r).Record); err != nil {
			t.Fatal(err)
		}
		encode := func() []byte {
			wire, err := e.AppendRow(AppendHeader(nil), 0)
			if err != nil {
				t.Fatal(err)
			}
			parts := AppendHeader(nil)
			if parts, _, err = e.AppendCells(parts, 0, 0, 0, 0); err != nil || !bytes.Equal(parts, wire) {
				t.Fatalf("in parts it is\n%x, %v, as a whole\n%x", parts, err, wire)
			}
			return wire
		}
		put := &tablestore.PutRowChange{TableName: "t", PrimaryKey: &tablestore.PrimaryKey{}}
		for _, c := range r.key {
			if c.name == "id" {
				put.PrimaryKey.AddPrimaryKeyColumnWithAutoIncrement(c.name)
				continue
			}
			put.PrimaryKey.AddPrimaryKeyColumn(c.name, c.value)
		}
		for _, c := range r.cells {
			put.AddColumnWithTimestamp(c.name, c.value, c.version)
		}
		e.Generate(1)
		if got, want := encode(), put.Serialize(); !bytes.Equal(got, want) {
			t.Fatalf("row is\n%x, the SDK has\n%x", got, want)
		}
		put.PrimaryKey.PrimaryKeys[1] = &tablestore.PrimaryKeyColumn{ColumnName: "id", Value: int64(-7)}
		e.Replace(1, -7)
		if got, want := encode(), put.Serialize(); !bytes.Equal(got, want) {
			t.Fatalf("row is\n%x, the SDK has\n%x", got, want)
		}
	}
}

func TestTheSDKDeletesTheSameWay(t *testing.T) {
	rnd := rand.New(rand.NewPCG(35, 36))
	for range 200 {
		cells := randomKey(rnd)
		change := &tablestore.DeleteRowChange{TableName: "t", PrimaryKey: &tablestore.PrimaryKey{}}
		for _, c := range cells {
			change.PrimaryKey.AddPrimaryKeyColumn(c.name, c.value)
		}
		k := mustParseKey(t, testKey, keyRow(cells...))
		got, err := AppendDeletion(nil, testKey, k)
		if want := change.Serialize(); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("deletion is\n%x, %v, the SDK has\n%x", got, err, want)
		}
		for _, wrong := range []manifest.Key{nil, mustParseKey(t, testKey, keyRow(cells[:2]...)), append(k[:len(k):len(k)], 0)} {
			if _, err := AppendDeletion(nil, testKey, wrong); err == nil {
				t.Fatalf("a deletion of key %s", wrong)
			}
		}
	}
}

func TestTheSDKWritesTheSameBounds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(31, 32))
	for range 200 {
		cells := randomKey(rnd)
		for n := range len(cells) + 1 {
			bound := &tablestore.PrimaryKey{}
			for _, c := range cells[:n] {
				bound.AddPrimaryKeyColumn(c.name, c.value)
			}
			for _, c := range cells[n:] {
				bound.AddPrimaryKeyColumnWithMinValue(c.name)
			}
			k := mustParseKey(t, testKey, keyRow(cells[:n]...))
			got, err := AppendBound(nil, testKey, k, false)
			if err != nil {
				t.Fatal(err)
			}
			if want := bound.Build(false); !bytes.Equal(got, want) {
				t.Fatalf("bound is\n%x, the SDK has\n%x", got, want)
			}
		}
	}
	end := &tablestore.PrimaryKey{}
	for _, c := range testKey {
		end.AddPrimaryKeyColumnWithMaxValue(c.Name)
	}
	got, err := AppendBound(nil, testKey, nil, true)
	if want := end.Build(false); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("end is\n%x, %v, the SDK has\n%x", got, err, want)
	}
}

// canned answers every request with the same body.
type canned []byte

func (c canned) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(c)), Request: req}, nil
}

// sdkRead returns the rows the SDK finds in a PlainBuffer.
func sdkRead(t *testing.T, wire []byte) []*tablestore.Row {
	t.Helper()
	units := &otsprotocol.CapacityUnit{Read: proto.Int32(0), Write: proto.Int32(0)}
	body, err := proto.Marshal(&otsprotocol.GetRangeResponse{
		Consumed: &otsprotocol.ConsumedCapacity{CapacityUnit: units},
		Rows:     wire,
	})
	if err != nil {
		t.Fatal(err)
	}
	config := tablestore.NewDefaultTableStoreConfig()
	config.Transport = canned(body)
	client := tablestore.NewClientWithConfig("http://127.0.0.1:1", "instance", "id", "secret", "", config)
	start, end := &tablestore.PrimaryKey{}, &tablestore.PrimaryKey{}
	for _, c := range testKey {
		start.AddPrimaryKeyColumnWithMinValue(c.Name)
		end.AddPrimaryKeyColumnWithMaxValue(c.Name)
	}
	resp, err := client.GetRange(&tablestore.GetRangeRequest{RangeRowQueryCriteria: &tablestore.RangeRowQueryCriteria{
		TableName: "t", StartPrimaryKey: start, EndPrimaryKey: end, MaxVersion: 1,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Rows
}

func TestTheSDKReadsTheSameRows(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(33, 34))
	var rows []testRow
	for range 500 {
		rows = append(rows, randomRow(rnd, l))
	}
	e := NewEncoder(l)
	if err := e.Reset(buildRows(t, l, rows...).Record); err != nil {
		t.Fatal(err)
	}
	wire := AppendHeader(nil)
	for i := range rows {
		var err error
		if wire, err = e.AppendRow(wire, i); err != nil {
			t.Fatal(err)
		}
	}
	got := sdkRead(t, wire)
	if len(got) != len(rows) {
		t.Fatalf("the SDK reads %d rows, want %d", len(got), len(rows))
	}
	for i := range got {
		checkSDKRow(t, got[i], rows[i])
	}
}

func checkSDKRow(t *testing.T, got *tablestore.Row, want testRow) {
	t.Helper()
	if len(got.PrimaryKey.PrimaryKeys) != len(want.key) || len(got.Columns) != len(want.cells) {
		t.Fatalf("the SDK reads %d key columns and %d cells, want %d and %d", len(got.PrimaryKey.PrimaryKeys), len(got.Columns), len(want.key), len(want.cells))
	}
	for i, c := range got.PrimaryKey.PrimaryKeys {
		if c.ColumnName != want.key[i].name || value(c.Value) != value(want.key[i].value) {
			t.Fatalf("the SDK reads key column %s %v, want %v", c.ColumnName, c.Value, want.key[i])
		}
	}
	for i, c := range got.Columns {
		w := want.cells[i]
		if c.ColumnName != w.name || c.Timestamp != w.version || value(c.Value) != value(w.value) {
			t.Fatalf("the SDK reads cell %s %d %v, want %v", c.ColumnName, c.Timestamp, c.Value, w)
		}
	}
}

// TestRowsTheSDKReadsWithoutCare shows why the checksums are verified here.
func TestRowsTheSDKReadsWithoutCare(t *testing.T) {
	wire := append(AppendHeader(nil), cellsRow(testCell{"count", int64(1), 5}).wire()...)
	wire[len(wire)-2-attributeTail-1] ^= 0x40 // the integer's last byte
	if got := sdkRead(t, wire); len(got) != 1 || got[0].Columns[0].Value == int64(1) {
		t.Fatalf("the SDK reads %v", got)
	}
	if _, err := Parse(wire[headerSize:]); err == nil {
		t.Error("Parse accepts a wrong checksum")
	}
}
