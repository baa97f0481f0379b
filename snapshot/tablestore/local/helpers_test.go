package local

import (
	"errors"
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

// serve opens a server and the official SDK's client for it.
func serve(t *testing.T, o Options) (*Server, *tablestore.TableStoreClient) {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, clientOf(h.URL, "demo")
}

// clientOf returns a client that gives up at the first error.
func clientOf(url, instance string) *tablestore.TableStoreClient {
	config := tablestore.NewDefaultTableStoreConfig()
	config.RetryTimes = 0
	return tablestore.NewClientWithConfig(url, instance, DefaultAccessKeyID, DefaultAccessKeySecret, "", config)
}

// clock is a clock that stands still until it is told. It begins near the true
// time, which is what the SDK signs requests with.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{at: time.Now().Truncate(time.Second)} }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }
func (c *clock) millis() int64           { return c.at.UnixMilli() }

// ask has a server carry out a message the SDK would not send, and decodes the
// answer into one.
func ask(t *testing.T, s *Server, action string, message, answer proto.Message) error {
	t.Helper()
	body, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := s.do(request{action: action, instance: "demo", body: body}, Fault{})
	if err != nil || answer == nil {
		return err
	}
	if err := proto.Unmarshal(rep.body, answer); err != nil {
		t.Fatal(err)
	}
	return nil
}

// code is the code of a service's error, "" for none.
func code(err error) string {
	var sdk *tablestore.OtsError
	var own *serviceError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &sdk):
		return sdk.Code
	case errors.As(err, &own):
		return own.code
	}
	return "not a service error: " + err.Error()
}

// wantCode fails the test unless err has the code and its message contains all
// of the parts.
func wantCode(t *testing.T, err error, want string, parts ...string) {
	t.Helper()
	if got := code(err); got != want {
		t.Errorf("error %v, want code %q", err, want)
		return
	}
	if err == nil {
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// tableOf describes a table with a string and an integer key column, all
// versions of a cell and no bound on what they may be.
func tableOf(name string) *tablestore.CreateTableRequest {
	meta := &tablestore.TableMeta{TableName: name}
	meta.AddPrimaryKeyColumn("s", tablestore.PrimaryKeyType_STRING)
	meta.AddPrimaryKeyColumn("i", tablestore.PrimaryKeyType_INTEGER)
	return &tablestore.CreateTableRequest{
		TableMeta:          meta,
		TableOption:        &tablestore.TableOption{TimeToAlive: -1, MaxVersion: -1, DeviationCellVersionInSec: maxDeviation},
		ReservedThroughput: &tablestore.ReservedThroughput{},
	}
}

// serveTable is a server with the table t of tableOf.
func serveTable(t *testing.T, o Options) (*Server, *tablestore.TableStoreClient) {
	t.Helper()
	s, c := serve(t, o)
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(tableOf("t")))
	return s, c
}

type special string

const (
	lowest    special = "-inf"
	highest   special = "+inf"
	generated special = "auto"
)

// key builds a primary key of the columns s and i.
func key(values ...any) *tablestore.PrimaryKey {
	pk := &tablestore.PrimaryKey{}
	for n, v := range values {
		name := []string{"s", "i", "x", "y", "z"}[n]
		switch v {
		case lowest:
			pk.AddPrimaryKeyColumnWithMinValue(name)
		case highest:
			pk.AddPrimaryKeyColumnWithMaxValue(name)
		case generated:
			pk.AddPrimaryKeyColumnWithAutoIncrement(name)
		default:
			if n, ok := v.(int); ok {
				v = int64(n)
			}
			pk.AddPrimaryKeyColumn(name, v)
		}
	}
	return pk
}

// col is a cell to write; without a version the server gives it one.
type col struct {
	name    string
	value   any
	version int64
}

func putChange(pk *tablestore.PrimaryKey, cols ...col) *tablestore.PutRowChange {
	ch := &tablestore.PutRowChange{TableName: "t", PrimaryKey: pk}
	for _, c := range cols {
		ch.AddColumnWithTimestamp(c.name, c.value, c.version)
	}
	ch.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
	return ch
}

func put(c *tablestore.TableStoreClient, pk *tablestore.PrimaryKey, cols ...col) error {
	_, err := c.PutRow(&tablestore.PutRowRequest{PutRowChange: putChange(pk, cols...)})
	return err
}

func update(c *tablestore.TableStoreClient, pk *tablestore.PrimaryKey, change func(*tablestore.UpdateRowChange)) error {
	ch := &tablestore.UpdateRowChange{TableName: "t", PrimaryKey: pk}
	ch.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
	change(ch)
	_, err := c.UpdateRow(&tablestore.UpdateRowRequest{UpdateRowChange: ch})
	return err
}

func remove(c *tablestore.TableStoreClient, pk *tablestore.PrimaryKey) error {
	ch := &tablestore.DeleteRowChange{TableName: "t", PrimaryKey: pk}
	ch.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
	_, err := c.DeleteRow(&tablestore.DeleteRowRequest{DeleteRowChange: ch})
	return err
}

// get reads a row with all versions, unless the criteria are changed, and shows
// it.
func get(t *testing.T, c *tablestore.TableStoreClient, pk *tablestore.PrimaryKey, change ...func(*tablestore.SingleRowQueryCriteria)) string {
	t.Helper()
	criteria := &tablestore.SingleRowQueryCriteria{TableName: "t", PrimaryKey: pk, MaxVersion: 1 << 30}
	for _, f := range change {
		f(criteria)
	}
	resp := must[*tablestore.GetRowResponse](t)(c.GetRow(&tablestore.GetRowRequest{SingleRowQueryCriteria: criteria}))
	return show(&resp.PrimaryKey, resp.Columns)
}

// show writes a row on a line: its key in brackets, its cells as name@version=value.
// A row that is not there is "".
func show(pk *tablestore.PrimaryKey, columns []*tablestore.AttributeColumn) string {
	if len(pk.PrimaryKeys) == 0 && len(columns) == 0 {
		return ""
	}
	var parts []string
	for _, k := range pk.PrimaryKeys {
		parts = append(parts, fmt.Sprint(k.Value))
	}
	text := "[" + strings.Join(parts, " ") + "]"
	for _, c := range columns {
		text += fmt.Sprintf(" %s@%d=%v", c.ColumnName, c.Timestamp, c.Value)
	}
	return text
}

// scanAll reads a range page by page and shows its rows.
func scanAll(t *testing.T, c *tablestore.TableStoreClient, criteria tablestore.RangeRowQueryCriteria) []string {
	t.Helper()
	if criteria.TableName == "" {
		criteria.TableName = "t"
	}
	if criteria.MaxVersion == 0 && criteria.TimeRange == nil {
		criteria.MaxVersion = 1 << 30
	}
	var rows []string
	for criteria.StartPrimaryKey != nil {
		resp := must[*tablestore.GetRangeResponse](t)(c.GetRange(&tablestore.GetRangeRequest{RangeRowQueryCriteria: &criteria}))
		for _, r := range resp.Rows {
			rows = append(rows, show(r.PrimaryKey, r.Columns))
		}
		criteria.StartPrimaryKey = resp.NextStartPrimaryKey
	}
	return rows
}

// everything is the range of all rows of t.
func everything() tablestore.RangeRowQueryCriteria {
	return tablestore.RangeRowQueryCriteria{StartPrimaryKey: key(lowest, lowest), EndPrimaryKey: key(highest, highest)}
}

func wantRows(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// rowBuffer is a row as a request carries it, of cells built by hand.
func rowBuffer(pk []cell, cells ...cell) []byte { return appendRow(appendHeader(nil), pk, cells) }

func keyCells(s string, i int64) []cell {
	return []cell{makeCell([]byte("s"), stringValue(s), 0, false), makeCell([]byte("i"), integerValue(i), 0, false)}
}

func ignore() *otsprotocol.Condition {
	return &otsprotocol.Condition{RowExistence: otsprotocol.RowExistenceExpectation_IGNORE.Enum()}
}
