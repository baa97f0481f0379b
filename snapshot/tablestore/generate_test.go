package tablestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// events is a table whose keys the service chooses.
var events = manifest.Table{
	Name: "events",
	Key: []manifest.KeyColumn{
		{Name: "user", Type: manifest.String},
		{Name: "seq", Type: manifest.Integer, AutoIncrement: true},
		{Name: "part", Type: manifest.Integer},
	},
}

// someEvents returns n rows of three users, each of which tells its place among
// them, and of which those named are wide.
func someEvents(n int, wide ...int) (rows []*ots.Row) {
	for i := range n {
		k := new(ots.PrimaryKey)
		k.AddPrimaryKeyColumn("user", fmt.Sprint("u", i*3/n))
		k.AddPrimaryKeyColumn("seq", int64(1000+i))
		k.AddPrimaryKeyColumn("part", int64(i%2))
		columns := 1
		if slices.Contains(wide, i) {
			columns = 2500
		}
		r := &ots.Row{PrimaryKey: k}
		for _, name := range names(columns) {
			r.Columns = append(r.Columns, &ots.AttributeColumn{ColumnName: name, Value: int64(i), Timestamp: 7})
		}
		rows = append(rows, r)
	}
	return rows
}

func generateKeys(ctx context.Context, t *testing.T, in *Instance, table manifest.Table, rows []*ots.Row) (snapshot.Written, error) {
	t.Helper()
	l := layoutOf(t, table)
	return in.Write(ctx, snapshot.Write{Table: table, Layout: l, Record: record(t, l, rows), Generate: true})
}

// madeOf returns what is in the table in the order in which the service chose
// keys, with the keys the rows had before.
func madeOf(t *testing.T, s *stage, table manifest.Table) (rows []*ots.Row) {
	t.Helper()
	rows = s.read(t, table)
	slices.SortFunc(rows, func(x, y *ots.Row) int {
		return cmp.Compare(x.PrimaryKey.PrimaryKeys[1].Value.(int64), y.PrimaryKey.PrimaryKeys[1].Value.(int64))
	})
	for _, r := range rows {
		r.PrimaryKey.PrimaryKeys[1].Value = 1000 + r.Columns[0].Value.(int64)
	}
	return rows
}

func TestGenerateKeepsTheOrder(t *testing.T) {
	for name, test := range map[string]struct {
		rows     []*ots.Row
		requests int
	}{
		"none":        {nil, 0},
		"one":         {someEvents(1), 1},
		"200 and one": {someEvents(201), 2},
		"450":         {someEvents(450), 3},
		"wide first":  {someEvents(5, 0), 4},
		"wide last":   {someEvents(5, 4), 4},
		"wide ones":   {someEvents(10, 3, 4, 7), 3 + 3*3},
		"all wide":    {someEvents(3, 0, 1, 2), 3 * 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			var seen seen
			in := s.open(t, seen.watch)
			mustCreate(t.Context(), t, in, events)
			got, err := generateKeys(t.Context(), t, in, events, test.rows)
			if want := (snapshot.Written{Rows: int64(len(test.rows))}); got != want || err != nil {
				t.Errorf("got %+v, %v", got, err)
			}
			compareRows(t, wire(madeOf(t, s, events)), wire(test.rows))
			if len(seen.rows) != test.requests {
				t.Errorf("%d requests, want %d", len(seen.rows), test.requests)
			}
		})
	}
}

// What was certainly not done is done again, and no row twice.
func TestGenerateSurvivesWhatIsCertain(t *testing.T) {
	rows := someEvents(500, 50, 150, 499)
	for _, kind := range []local.FaultKind{local.FaultRows, local.FaultBusy, local.FaultUnavailable, local.FaultNotReady, local.FaultTooFrequent} {
		for _, share := range []float64{0, 0.01, 1} {
			if kind != local.FaultRows && share > 0 {
				continue
			}
			t.Run(fmt.Sprint(kind, share), func(t *testing.T) {
				s := newStage(t)
				in := s.open(t)
				mustCreate(t.Context(), t, in, events)
				if err := s.server.Misbehave(local.Fault{Action: "BatchWriteRow", Kind: kind, Probability: 0.5, Rows: share, Times: 10}); err != nil {
					t.Fatal(err)
				}
				got, err := generateKeys(t.Context(), t, in, events, rows)
				if got.Rows != 500 || err != nil {
					t.Errorf("got %+v, %v", got, err)
				}
				compareRows(t, wire(madeOf(t, s, events)), wire(rows))
			})
		}
	}
}

// Of what may have been done nothing is tried again, and the rows that count are
// those at the head of the record.
func TestGenerateStopsWhenInDoubt(t *testing.T) {
	rows := someEvents(450)
	for kind, most := range map[local.FaultKind]int{ // rows that are there at most
		local.FaultTimeout:     400,
		local.FaultCutAfter:    400,
		local.FaultTruncate:    400,
		local.FaultFlip:        400,
		local.FaultRowsTimeout: 400,
		local.FaultInternal:    200,
		local.FaultCutBefore:   200,
	} {
		t.Run(string(kind), func(t *testing.T) {
			s := newStage(t)
			var seen seen
			in := s.open(t, seen.watch)
			mustCreate(t.Context(), t, in, events)
			if err := s.server.Misbehave(local.Fault{Action: "BatchWriteRow", Kind: kind, After: 1, Times: 1}); err != nil {
				t.Fatal(err)
			}
			got, err := generateKeys(t.Context(), t, in, events, rows)
			if !errors.Is(err, snapshot.ErrUnsure) || !errors.Is(err, snapshot.ErrUnavailable) || !strings.Contains(err.Error(), `("u`) {
				t.Errorf("got %v", err)
			}
			if len(seen.rows) != 2 {
				t.Errorf("%d requests", len(seen.rows))
			}
			there := madeOf(t, s, events)
			if got.Rows < 200 || int(got.Rows) > len(there) || len(there) != most || kind != local.FaultRowsTimeout && got.Rows != 200 {
				t.Errorf("it counts %d of %d rows", got.Rows, len(there))
			}
			compareRows(t, wire(there[:got.Rows]), wire(rows[:got.Rows]))
		})
	}
}

func TestGenerateTriesAgainWhenNothingWasSent(t *testing.T) {
	s := newStage(t)
	refused := 0
	in := s.open(t, func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			if actionOf(req) == "BatchWriteRow" && refused < 3 {
				refused++
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
			return next.RoundTrip(req)
		})
	})
	mustCreate(t.Context(), t, in, events)
	rows := someEvents(5)
	if got, err := generateKeys(t.Context(), t, in, events, rows); got.Rows != 5 || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	compareRows(t, wire(madeOf(t, s, events)), wire(rows))
}

// A row the service refuses for good ends the write; what was made behind it is
// taken back.
func TestGenerateEndsAtARowThatIsRefused(t *testing.T) {
	s := newStage(t)
	rows := someEvents(10)
	rows[6].Columns[0].Timestamp = 9_000_000_000_000 // too far from the clock
	in := s.open(t)
	mustCreate(t.Context(), t, in, events)
	narrow := events
	narrow.Options = manifest.Options{TTL: -1, MaxVersions: 1, Deviation: 3_000_000_000, AllowUpdate: true}
	if err := in.Configure(t.Context(), narrow); err != nil {
		t.Fatal(err)
	}
	got, err := generateKeys(t.Context(), t, in, events, rows)
	if got.Rows != 6 || err == nil || errors.Is(err, snapshot.ErrUnsure) || !strings.Contains(err.Error(), `row ("u1", 1006, 0): BatchWriteRow, table events: OTSParameterInvalid`) {
		t.Errorf("got %+v, %v", got, err)
	}
	compareRows(t, wire(madeOf(t, s, events)), wire(rows[:6]))
}

// writeOf returns the rows of a BatchWriteRow.
func writeOf(t *testing.T, req *http.Request) []*otsprotocol.RowInBatchWriteRowRequest {
	t.Helper()
	body, err := req.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	m := new(otsprotocol.BatchWriteRowRequest)
	if err = errors.Join(err, proto.Unmarshal(text, m)); err != nil {
		t.Fatal(err)
	}
	return m.Tables[0].Rows
}

// A wide row that cannot be finished is not left behind.
func TestGenerateTakesBackHalfARow(t *testing.T) {
	does := func(operation otsprotocol.OperationType) func(*http.Request) bool {
		return func(req *http.Request) bool {
			return actionOf(req) == "BatchWriteRow" && writeOf(t, req)[0].GetType() == operation
		}
	}
	updates, deletes := does(otsprotocol.OperationType_UPDATE), does(otsprotocol.OperationType_DELETE)
	for name, test := range map[string]struct {
		refused []func(*http.Request) bool
		left    int
	}{
		"it can be deleted": {[]func(*http.Request) bool{updates}, 2},
		"it cannot":         {[]func(*http.Request) bool{updates, deletes}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			in := s.open(t, func(next http.RoundTripper) http.RoundTripper {
				return roundTrip(func(req *http.Request) (*http.Response, error) {
					if slices.ContainsFunc(test.refused, func(f func(*http.Request) bool) bool { return f(req) }) {
						return refuse(http.StatusForbidden, codeNoPermission, "")(req)
					}
					return next.RoundTrip(req)
				})
			})
			mustCreate(t.Context(), t, in, events)
			got, err := generateKeys(t.Context(), t, in, events, someEvents(6, 2))
			if got.Rows != 2 || !errors.Is(err, ErrCredentials) || errors.Is(err, snapshot.ErrUnsure) != (test.left > 2) {
				t.Errorf("got %+v, %v", got, err)
			}
			if left := s.read(t, events); len(left) != test.left {
				t.Errorf("%d rows are left", len(left))
			}
		})
	}
}

// chooser is a service that gives keys to the rows of a request as it likes.
type chooser struct {
	t      *testing.T
	choose func(request, row, rows int) int64 // value, or less than 0 for none
	n      int
	sizes  []int // of the requests that put
	there  map[string]bool
}

func (c *chooser) answer(req *http.Request) (*http.Response, error) {
	rows := writeOf(c.t, req)
	answer := &otsprotocol.TableInBatchWriteRowResponse{TableName: proto.String("events")}
	if rows[0].GetType() == otsprotocol.OperationType_DELETE {
		for _, r := range rows {
			key := string(r.RowChange[:len(r.RowChange)-3]) // without marker and checksum
			if !c.there[key] {
				c.t.Error("a row is deleted that is not there")
			}
			delete(c.there, key)
			answer.Rows = append(answer.Rows, &otsprotocol.RowInBatchWriteRowResponse{IsOk: proto.Bool(true)})
		}
	} else {
		for i := range rows {
			change := &ots.PutRowChange{TableName: "events", PrimaryKey: new(ots.PrimaryKey)}
			change.PrimaryKey.AddPrimaryKeyColumn("user", "u")
			change.PrimaryKey.AddPrimaryKeyColumn("seq", c.choose(c.n, i, len(rows)))
			change.PrimaryKey.AddPrimaryKeyColumn("part", int64(0))
			key := change.Serialize()
			c.there[string(key[:len(key)-2])] = true
			answer.Rows = append(answer.Rows, &otsprotocol.RowInBatchWriteRowResponse{IsOk: proto.Bool(true), Row: key})
		}
		c.n++
		c.sizes = append(c.sizes, len(rows))
	}
	said, _ := proto.Marshal(&otsprotocol.BatchWriteRowResponse{Tables: []*otsprotocol.TableInBatchWriteRowResponse{answer}})
	return respond(http.StatusOK, said)(req)
}

// The order in which the service takes the rows of a request is not documented.
// If it is not ours they are sent one at a time.
func TestGenerateDoesNotTrustRequestsWithManyRows(t *testing.T) {
	for name, test := range map[string]struct {
		choose func(request, row, rows int) int64
		sizes  []int
		want   snapshot.Written
		err    string
	}{
		"in order":  {func(n, i, rows int) int64 { return int64(n*1000 + i) }, []int{6}, snapshot.Written{Rows: 6}, ""},
		"backwards": {func(n, i, rows int) int64 { return int64(n*1000 + rows - i) }, []int{6, 1, 1, 1, 1, 1}, snapshot.Written{Rows: 6}, ""},
		"two swapped": {func(n, i, rows int) int64 {
			if rows > 4 && (i == 2 || i == 3) {
				i = 5 - i
			}
			return int64(n*1000 + i)
		}, []int{6, 1, 1, 1}, snapshot.Written{Rows: 6}, ""},
		"ever less": {func(n, i, rows int) int64 { return int64(100 - n*10 - i) }, []int{6, 1}, snapshot.Written{Rows: 1}, "not after that of the row before"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &chooser{t: t, choose: test.choose, there: make(map[string]bool)}
			in := (&service{answers: []answer{c.answer}}).open(t)
			got, err := generateKeys(t.Context(), t, in, events, someEvents(6))
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %+v, %v", got, err)
			}
			if errors.Is(err, snapshot.ErrUnsure) {
				t.Errorf("it is not sure: %v", err)
			}
			if !reflect.DeepEqual(c.sizes, test.sizes) || test.err == "" && len(c.there) != int(test.want.Rows) {
				t.Errorf("requests of %v rows left %d rows", c.sizes, len(c.there))
			}
		})
	}
}

// A key that was given twice is not deleted: it is that of a row that counts.
func TestGenerateOfKeysThatAreTheSame(t *testing.T) {
	c := &chooser{t: t, choose: func(int, int, int) int64 { return 5 }, there: make(map[string]bool)}
	got, err := generateKeys(t.Context(), t, (&service{answers: []answer{c.answer}}).open(t), events, someEvents(6))
	if got.Rows != 1 || !errors.Is(err, snapshot.ErrUnsure) || len(c.there) != 1 {
		t.Errorf("got %+v, %v, %d rows are there", got, err, len(c.there))
	}
}

func TestGenerateNeedsTheKeysBack(t *testing.T) {
	whole := &ots.PutRowChange{TableName: "events", PrimaryKey: new(ots.PrimaryKey)}
	whole.PrimaryKey.AddPrimaryKeyColumn("user", "u")
	for name, key := range map[string][]byte{
		"nothing":  nil,
		"nonsense": []byte("\x75\x00\x00\x00\x01"),
		"a part":   whole.Serialize(),
	} {
		answered := &otsprotocol.RowInBatchWriteRowResponse{IsOk: proto.Bool(true), Row: key}
		said, _ := proto.Marshal(&otsprotocol.BatchWriteRowResponse{Tables: []*otsprotocol.TableInBatchWriteRowResponse{
			{TableName: proto.String("events"), Rows: []*otsprotocol.RowInBatchWriteRowResponse{answered}},
		}})
		s := &service{answers: []answer{respond(http.StatusOK, said)}}
		got, err := generateKeys(t.Context(), t, s.open(t), events, someEvents(1))
		if got.Rows != 0 || !errors.Is(err, snapshot.ErrUnsure) || len(s.asked) != 1 {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestGenerateEndsWithContext(t *testing.T) {
	rows := someEvents(5)
	synctest.Test(t, func(t *testing.T) {
		hang := func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		in := (&service{answers: []answer{hang}}).open(t)
		got, err := generateKeys(ctx, t, in, events, rows)
		if got.Rows != 0 || !errors.Is(err, snapshot.ErrUnsure) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %+v, %v", got, err)
		}
		if _, err = generateKeys(ctx, t, in, events, rows); errors.Is(err, snapshot.ErrUnsure) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("when nothing was sent: %v", err)
		}
	})
}

func TestGenerateOfATableThatHasItsKeys(t *testing.T) {
	l := layoutOf(t, orders)
	in := (&service{answers: []answer{lose(io.EOF)}}).open(t)
	_, err := in.Write(t.Context(), snapshot.Write{Table: orders, Layout: l, Record: record(t, l, sample(2, 1)), Generate: true})
	if err == nil || !strings.Contains(err.Error(), "table orders has no AUTO_INCREMENT column") {
		t.Errorf("got %v", err)
	}
}
