package tablestore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// orders is a table with a key of every type.
var orders = manifest.Table{
	Name: "orders",
	Key: []manifest.KeyColumn{
		{Name: "country", Type: manifest.String},
		{Name: "id", Type: manifest.Integer},
		{Name: "part", Type: manifest.Binary},
	},
	Defined: []manifest.Column{{Name: "price", Type: manifest.Double}},
}

// columns are attributes of orders that have a column of their own.
var columns = []manifest.Column{
	{Name: "blob", Type: manifest.Binary},
	{Name: "name", Type: manifest.String},
	{Name: "paid", Type: manifest.Boolean},
	{Name: "price", Type: manifest.Double},
	{Name: "stock", Type: manifest.Integer},
}

func layoutOf(t testing.TB, table manifest.Table) row.Layout {
	t.Helper()
	l, err := row.NewLayout(table.Key, columns)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// stage is a Tablestore in this process.
type stage struct {
	server *local.Server
	url    string
	sdk    *ots.TableStoreClient
}

func newStage(t testing.TB) *stage {
	t.Helper()
	return newStageOf(t, local.Options{})
}

func newStageOf(t testing.TB, o local.Options) *stage {
	t.Helper()
	server, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() {
		front.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return &stage{
		server: server,
		url:    front.URL,
		sdk:    ots.NewClient(front.URL, "demo", local.DefaultAccessKeyID, local.DefaultAccessKeySecret),
	}
}

// open returns the instance, with what is sent and answered passing through wrap.
func (s *stage) open(t testing.TB, wrap ...func(http.RoundTripper) http.RoundTripper) *Instance {
	t.Helper()
	c, err := ParseURL(s.url + "?instance=demo")
	if err != nil {
		t.Fatal(err)
	}
	transport := newTransport(0)
	t.Cleanup(transport.CloseIdleConnections)
	c.HTTP = &http.Client{Transport: transport}
	for _, w := range wrap {
		c.HTTP.Transport = w(c.HTTP.Transport)
	}
	c.AccessKeyID, c.AccessKeySecret = local.DefaultAccessKeyID, local.DefaultAccessKeySecret
	in, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// create makes a table, through the SDK, that takes and keeps every version.
func (s *stage) create(t testing.TB, table manifest.Table) {
	t.Helper()
	meta := &ots.TableMeta{TableName: table.Name}
	for _, c := range table.Key {
		typ := ots.PrimaryKeyType_INTEGER
		switch c.Type {
		case manifest.String:
			typ = ots.PrimaryKeyType_STRING
		case manifest.Binary:
			typ = ots.PrimaryKeyType_BINARY
		}
		meta.AddPrimaryKeyColumn(c.Name, typ)
	}
	_, err := s.sdk.CreateTable(&ots.CreateTableRequest{
		TableMeta:          meta,
		TableOption:        &ots.TableOption{TimeToAlive: -1, MaxVersion: 1000, DeviationCellVersionInSec: math.MaxInt64 / 1_000_000},
		ReservedThroughput: &ots.ReservedThroughput{},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fill writes rows through the SDK.
func (s *stage) fill(t testing.TB, table manifest.Table, rows []*ots.Row) {
	t.Helper()
	for part := range slices.Chunk(rows, 100) {
		batch := &ots.BatchWriteRowRequest{}
		for _, r := range part {
			batch.AddRowChange(change(table, r))
		}
		result, err := s.sdk.BatchWriteRow(batch)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range result.TableToRowsResult[table.Name] {
			if !r.IsSucceed {
				t.Fatal(r.Error)
			}
		}
	}
}

// change writes a row. It is an update where there are cells, as the SDK keeps a
// version of 0 only there.
func change(table manifest.Table, r *ots.Row) ots.RowChange {
	if len(r.Columns) == 0 {
		put := &ots.PutRowChange{TableName: table.Name, PrimaryKey: r.PrimaryKey}
		put.SetCondition(ots.RowExistenceExpectation_IGNORE)
		return put
	}
	update := &ots.UpdateRowChange{TableName: table.Name, PrimaryKey: r.PrimaryKey}
	update.SetCondition(ots.RowExistenceExpectation_IGNORE)
	for _, c := range r.Columns {
		update.PutColumnWithTimestamp(c.ColumnName, c.Value, c.Timestamp)
	}
	return update
}

// wire returns rows in PlainBuffer, as the SDK writes it, without headers.
func wire(rows []*ots.Row) [][]byte {
	var out [][]byte
	for _, r := range rows {
		change := change(orders, r)
		out = append(out, change.Serialize()[4:])
	}
	return out
}

// read reads a table through the SDK.
func (s *stage) read(t testing.TB, table manifest.Table) []*ots.Row {
	t.Helper()
	from, to := new(ots.PrimaryKey), new(ots.PrimaryKey)
	for _, c := range table.Key {
		from.AddPrimaryKeyColumnWithMinValue(c.Name)
		to.AddPrimaryKeyColumnWithMaxValue(c.Name)
	}
	var rows []*ots.Row
	for from != nil {
		answer, err := s.sdk.GetRange(&ots.GetRangeRequest{RangeRowQueryCriteria: &ots.RangeRowQueryCriteria{
			TableName:       table.Name,
			StartPrimaryKey: from,
			EndPrimaryKey:   to,
			MaxVersion:      math.MaxInt32,
			Direction:       ots.FORWARD,
		}})
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, answer.Rows...)
		from = answer.NextStartPrimaryKey
	}
	return rows
}

// scan reads a table through the Source and returns its rows in PlainBuffer.
func scan(t testing.TB, in *Instance, s snapshot.Scan) ([][]byte, error) {
	t.Helper()
	var out [][]byte
	for batch, err := range in.Scan(t.Context(), s) {
		if err != nil {
			return out, err
		}
		if batch.Record.NumRows() == 0 {
			t.Error("a batch is empty")
		}
		rows := encode(t, s.Layout, batch.Record)
		for i, r := range rows {
			if batch.Leaves[i] != manifest.LeafHash(r) {
				t.Errorf("row %d has another leaf", len(out)+i)
			}
		}
		out = append(out, rows...)
		batch.Record.Release()
	}
	return out, nil
}

func encode(t testing.TB, l row.Layout, record arrow.RecordBatch) [][]byte {
	t.Helper()
	e := row.NewEncoder(l)
	if err := e.Reset(record); err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for i := range int(record.NumRows()) {
		r, err := e.AppendRow(nil, i)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// record returns rows as the Sink gets them.
func record(t testing.TB, l row.Layout, rows []*ots.Row) arrow.RecordBatch {
	t.Helper()
	b := row.NewBuilder(memory.DefaultAllocator, l)
	for _, r := range wire(rows) {
		if _, err := b.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	return b.Batch().Record
}

func compareRows(t testing.TB, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d rows, want %d", len(got), len(want))
	}
	for i := range want {
		if bytes.Equal(got[i], want[i]) {
			continue
		}
		g, _ := row.Parse(got[i])
		w, _ := row.Parse(want[i])
		t.Fatalf("row %d is\n%v\nwant\n%v", i, g, w)
	}
}

// key returns a primary key of orders.
func key(country string, id int64, part []byte) *ots.PrimaryKey {
	k := new(ots.PrimaryKey)
	k.AddPrimaryKeyColumn("country", country)
	k.AddPrimaryKeyColumn("id", id)
	k.AddPrimaryKeyColumn("part", part)
	return k
}

// sample returns n rows for orders in key order: keys and values of every type
// and size, several versions, columns whose type changes, rows without cells.
func sample(n int, seed uint64) []*ots.Row {
	r := rand.New(rand.NewPCG(seed, 0))
	rows := make([]*ots.Row, 0, n)
	for i := range n {
		country := []string{"", "AT", "CH", "CH\x00", "DE", "中国"}[i*6/n]
		k := key(country, int64(i-n/2), []byte{byte(r.IntN(3)), 0, byte(i)})
		if i == 0 {
			k = key("", math.MinInt64, []byte{})
		}
		rows = append(rows, &ots.Row{PrimaryKey: k, Columns: sampleCells(r)})
	}
	return rows
}

func sampleCells(r *rand.Rand) []*ots.AttributeColumn {
	if r.IntN(10) == 0 {
		return nil
	}
	now := int64(1_700_000_000_000)
	var cells []*ots.AttributeColumn
	for _, name := range []string{"Price", "blob", "extra", "name", "paid", "price", "stock"} {
		if r.IntN(3) == 0 {
			continue
		}
		version := now
		for range 1 + r.IntN(8)/6*r.IntN(4) {
			cells = append(cells, &ots.AttributeColumn{ColumnName: name, Value: sampleValue(r, name), Timestamp: version})
			version -= 1 + r.Int64N(1000)
		}
		if r.IntN(20) == 0 {
			cells = append(cells, &ots.AttributeColumn{ColumnName: name, Value: sampleValue(r, name), Timestamp: 0})
		}
	}
	return cells
}

func sampleValue(r *rand.Rand, name string) any {
	values := map[string]any{
		"blob":  []byte(strings.Repeat("\x00\xff", r.IntN(50))),
		"name":  strings.Repeat("日本", r.IntN(20)),
		"paid":  r.IntN(2) == 0,
		"price": []float64{r.Float64(), math.Copysign(0, -1), math.MaxFloat64, math.SmallestNonzeroFloat64}[r.IntN(4)],
		"stock": r.Int64() - math.MaxInt64/2,
		"extra": "",
		"Price": int64(math.MinInt64),
	}
	if r.IntN(20) == 0 && name != "price" { // whose type is defined
		name = []string{"blob", "name", "paid", "price", "stock"}[r.IntN(5)]
	}
	return values[name]
}

// compareKeys orders primary keys of orders.
func compareKeys(x, y *ots.Row) int {
	a, b := x.PrimaryKey.PrimaryKeys, y.PrimaryKey.PrimaryKeys
	return cmp.Or(
		strings.Compare(a[0].Value.(string), b[0].Value.(string)),
		cmp.Compare(a[1].Value.(int64), b[1].Value.(int64)),
		bytes.Compare(a[2].Value.([]byte), b[2].Value.([]byte)),
	)
}

// roundTrip makes an [http.RoundTripper] of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func actionOf(req *http.Request) string { return strings.TrimPrefix(req.URL.Path, "/") }

func mustWrite(t testing.TB, in *Instance, table manifest.Table, rows []*ots.Row) {
	t.Helper()
	l := layoutOf(t, table)
	n, err := in.Write(t.Context(), snapshot.Write{Table: table, Layout: l, Record: record(t, l, rows)})
	if err != nil || n.Rows != int64(len(rows)) {
		t.Fatalf("wrote %d of %d rows: %v", n, len(rows), err)
	}
}

func mustCreate(ctx context.Context, t testing.TB, in *Instance, table manifest.Table) {
	t.Helper()
	if err := in.Create(ctx, table); err != nil {
		t.Fatal(err)
	}
}

func names(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("column_%05d", i))
	}
	return out
}
