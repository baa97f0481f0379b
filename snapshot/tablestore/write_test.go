package tablestore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/snapshot"
)

func TestWriteIsWhatTheSDKReads(t *testing.T) {
	s := newStage(t)
	in := s.open(t)
	mustCreate(t.Context(), t, in, orders)
	rows := sample(3000, 2)
	for range 2 { // the second time changes nothing
		mustWrite(t, in, orders, rows)
		compareRows(t, wire(s.read(t, orders)), wire(rows))
	}
	got, err := scan(t, in, snapshot.Scan{Table: orders, Layout: layoutOf(t, orders), Rows: 500})
	if err != nil {
		t.Fatal(err)
	}
	compareRows(t, got, wire(rows))
}

// seen is what a Write sends.
type seen struct {
	mu       sync.Mutex
	sizes    []int
	rows     [][]*otsprotocol.RowInBatchWriteRowRequest
	mostRows int
}

func (s *seen) watch(next http.RoundTripper) http.RoundTripper {
	return rewrite(next, "BatchWriteRow", func(body []byte) []byte {
		m := new(otsprotocol.BatchWriteRowRequest)
		if err := proto.Unmarshal(body, m); err != nil || len(m.Tables) != 1 {
			panic("not a request for one table")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sizes = append(s.sizes, len(body))
		s.rows = append(s.rows, m.Tables[0].Rows)
		s.mostRows = max(s.mostRows, len(m.Tables[0].Rows))
		return body
	})
}

func TestWriteStaysWithinTheServicesLimits(t *testing.T) {
	cells := func(columns int, versions int, size int) (out []*ots.AttributeColumn) {
		for _, name := range names(columns) {
			for v := range versions {
				out = append(out, &ots.AttributeColumn{
					ColumnName: name,
					Value:      []byte(strings.Repeat(string(rune('a'+v%26)), size)),
					Timestamp:  int64(1_700_000_000_000 - v),
				})
			}
		}
		return out
	}
	one := func(c []*ots.AttributeColumn) []*ots.Row {
		return []*ots.Row{{PrimaryKey: key("CH", 1, nil), Columns: c}}
	}
	many := func(n int, c []*ots.AttributeColumn) (rows []*ots.Row) {
		for i := range n {
			rows = append(rows, &ots.Row{PrimaryKey: key("CH", int64(i), nil), Columns: c})
		}
		return rows
	}
	for name, test := range map[string]struct {
		rows     []*ots.Row
		requests int
	}{
		"no rows":                {nil, 0},
		"200 rows":               {many(200, cells(1, 1, 1)), 1},
		"201 rows":               {many(201, cells(1, 1, 1)), 2},
		"10 rows of 1 MB":        {many(10, cells(1, 1, 1_000_000)), 4},
		"rows of 2 MB":           {many(3, cells(1, 1, 2<<20)), 3},
		"1024 columns":           {one(cells(1024, 1, 4)), 1},
		"1025 columns":           {one(cells(1025, 1, 4)), 2},
		"2000 columns":           {one(cells(2000, 1, 4)), 2},
		"1500 versions":          {one(cells(1, 1500, 4)), 2},
		"6 MB":                   {one(cells(4, 1, 1_500_000)), 2},
		"cells of 2 MB":          {one(cells(3, 1, 2<<20)), 3},
		"wide rows among narrow": {slices.Concat(many(150, cells(1, 1, 1)), []*ots.Row{{PrimaryKey: key("DE", 0, nil), Columns: cells(3000, 1, 1)}}), 4},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			var seen seen
			in := s.open(t, seen.watch)
			mustCreate(t.Context(), t, in, orders)
			mustWrite(t, in, orders, test.rows)
			compareRows(t, wire(s.read(t, orders)), wire(test.rows))
			if len(seen.sizes) != test.requests {
				t.Errorf("%d requests, want %d", len(seen.sizes), test.requests)
			}
			if len(seen.sizes) > 0 && slices.Max(seen.sizes) >= 4_000_000 || seen.mostRows > 200 {
				t.Errorf("requests have %v bytes and up to %d rows", seen.sizes, seen.mostRows)
			}
			got, err := scan(t, in, snapshot.Scan{Table: orders, Layout: layoutOf(t, orders)})
			if err != nil {
				t.Fatal(err)
			}
			compareRows(t, got, wire(test.rows))
		})
	}
}

// A wide row may replace one with columns it does not have.
func TestWriteReplacesRows(t *testing.T) {
	s := newStage(t)
	in := s.open(t)
	mustCreate(t.Context(), t, in, orders)
	wide := func(prefix string) []*ots.Row {
		r := &ots.Row{PrimaryKey: key("CH", 1, nil)}
		for _, name := range names(2500) {
			r.Columns = append(r.Columns, &ots.AttributeColumn{ColumnName: prefix + name, Value: int64(1), Timestamp: 5})
		}
		return []*ots.Row{r}
	}
	mustWrite(t, in, orders, wide("old"))
	mustWrite(t, in, orders, wide("new"))
	compareRows(t, wire(s.read(t, orders)), wire(wide("new")))
}

// failRows makes the service fail some rows of some requests: verdict returns the
// code for a row of the n-th request, from 0, or nothing.
func failRows(verdict func(request, row int) string) func(http.RoundTripper) http.RoundTripper {
	n := -1
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(req)
			if err != nil || actionOf(req) != "BatchWriteRow" || resp.StatusCode != http.StatusOK {
				return resp, err
			}
			n++
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return nil, err
			}
			m := new(otsprotocol.BatchWriteRowResponse)
			if err := proto.Unmarshal(body, m); err != nil {
				return nil, err
			}
			for i, r := range m.Tables[0].Rows {
				if code := verdict(n, i); code != "" {
					r.IsOk, r.Error = proto.Bool(false), &otsprotocol.Error{Code: proto.String(code), Message: proto.String("by the test")}
				}
			}
			if body, err = proto.Marshal(m); err != nil {
				return nil, err
			}
			return respond(http.StatusOK, body)(req)
		})
	}
}

func TestWriteSendsFailedRowsAgainAlone(t *testing.T) {
	s := newStage(t)
	var seen seen
	in := s.open(t, seen.watch, failRows(func(request, row int) string {
		switch {
		case request == 0 && row%10 == 3:
			return "OTSServerBusy"
		case request == 1 && row == 0:
			return "OTSRowOperationConflict"
		case request > 1 && request < 4 && row == 0:
			return "OTSNotEnoughCapacityUnit"
		}
		return ""
	}))
	mustCreate(t.Context(), t, in, orders)
	rows := sample(100, 3)
	mustWrite(t, in, orders, rows)
	compareRows(t, wire(s.read(t, orders)), wire(rows))
	var sent []int
	for _, r := range seen.rows {
		sent = append(sent, len(r))
	}
	if want := []int{100, 10, 1, 1, 1}; !slices.Equal(sent, want) {
		t.Fatalf("requests have %v rows, want %v", sent, want)
	}
	for i, r := range seen.rows[1] {
		if !bytes.Equal(r.RowChange, seen.rows[0][10*i+3].RowChange) {
			t.Errorf("row %d of the second request was not one that failed", i)
		}
	}
}

func TestWriteNamesTheRowTheServiceRefuses(t *testing.T) {
	s := newStage(t)
	in := s.open(t, failRows(func(request, row int) string {
		if row == 2 {
			return "OTSOutOfRowSizeLimit"
		}
		return ""
	}))
	mustCreate(t.Context(), t, in, orders)
	rows := []*ots.Row{}
	for i := range 5 {
		rows = append(rows, &ots.Row{PrimaryKey: key("CH", int64(i), []byte{0xff})})
	}
	l := layoutOf(t, orders)
	n, err := in.Write(t.Context(), snapshot.Write{Table: orders, Layout: l, Record: record(t, l, rows)})
	if n.Rows != 2 {
		t.Errorf("%d rows acknowledged, want 2", n)
	}
	want := `tablestore: write: row ("CH", 2, 0xff): BatchWriteRow, table orders: OTSOutOfRowSizeLimit (HTTP 200): by the test`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if errors.Is(err, snapshot.ErrUnavailable) {
		t.Error("it is called a failure of the service")
	}
}

func TestWriteOfAMissingTable(t *testing.T) {
	s := newStage(t)
	in := s.open(t)
	l := layoutOf(t, orders)
	n, err := in.Write(t.Context(), snapshot.Write{Table: orders, Layout: l, Record: record(t, l, sample(20, 1))})
	if n.Rows != 0 || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestWriteRefusesRowsOutOfOrder(t *testing.T) {
	s := newStage(t)
	in := s.open(t)
	mustCreate(t.Context(), t, in, orders)
	l := layoutOf(t, orders)
	rows := sample(4, 1)
	for name, wrong := range map[string][]*ots.Row{
		"out of order": {rows[1], rows[0]},
		"twice":        {rows[1], rows[1]},
	} {
		_, err := in.Write(t.Context(), snapshot.Write{Table: orders, Layout: l, Record: record(t, l, wrong)})
		if err == nil || !strings.Contains(err.Error(), "not after the one before") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// afterwards does what was asked and then loses the answer of the n-th request
// for an action.
func afterwards(action string, n int, cause error) func(http.RoundTripper) http.RoundTripper {
	var mu sync.Mutex
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(req)
			if err != nil || actionOf(req) != action {
				return resp, err
			}
			mu.Lock()
			defer mu.Unlock()
			if n--; n == 0 {
				resp.Body.Close()
				return nil, cause
			}
			return resp, nil
		})
	}
}

func TestWriteWhoseAnswerIsLostIsRepeated(t *testing.T) {
	s := newStage(t)
	rows := sample(450, 4)
	in := s.open(t, afterwards("BatchWriteRow", 2, io.ErrUnexpectedEOF))
	mustCreate(t.Context(), t, in, orders)
	mustWrite(t, in, orders, rows)
	compareRows(t, wire(s.read(t, orders)), wire(rows))
}

func TestWriteEndsWithContext(t *testing.T) {
	l := layoutOf(t, orders)
	rec := record(t, l, sample(2000, 4))
	synctest.Test(t, func(t *testing.T) {
		hang := func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		in := (&service{answers: []answer{hang}}).open(t, func(c *Config) { c.WriteRequests = 1 })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		n, err := in.Write(ctx, snapshot.Write{Table: orders, Layout: l, Record: rec})
		if n.Rows != 0 || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("got %d, %v", n, err)
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("ended after %s", took)
		}
	})
}

func TestWriteAnswersThatMakeNoSense(t *testing.T) {
	l := layoutOf(t, orders)
	rec := record(t, l, sample(5, 4))
	results := func(n int) answer {
		table := &otsprotocol.TableInBatchWriteRowResponse{TableName: proto.String("orders")}
		for range n {
			table.Rows = append(table.Rows, &otsprotocol.RowInBatchWriteRowResponse{IsOk: proto.Bool(true)})
		}
		body, _ := proto.Marshal(&otsprotocol.BatchWriteRowResponse{Tables: []*otsprotocol.TableInBatchWriteRowResponse{table}})
		return respond(http.StatusOK, body)
	}
	for name, nonsense := range map[string]answer{
		"nothing":       respond(http.StatusOK, nil),
		"too few rows":  results(4),
		"too many rows": results(6),
		"not protobuf":  respond(http.StatusOK, []byte("\xff")),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := (&service{answers: []answer{nonsense, results(5)}}).open(t)
				n, err := in.Write(t.Context(), snapshot.Write{Table: orders, Layout: l, Record: rec})
				if n.Rows != 5 || err != nil {
					t.Errorf("once: got %d, %v", n, err)
				}
				in = (&service{answers: []answer{nonsense}}).open(t)
				n, err = in.Write(t.Context(), snapshot.Write{Table: orders, Layout: l, Record: rec})
				if n.Rows != 0 || !errors.Is(err, snapshot.ErrUnavailable) {
					t.Errorf("for ever: got %d, %v", n, err)
				}
			})
		})
	}
}

// Any version the service allows can be written to a table Create made.
func TestWriteKeepsTheVersionsThereCanBe(t *testing.T) {
	s := newStage(t)
	in := s.open(t)
	mustCreate(t.Context(), t, in, orders)
	r := &ots.Row{PrimaryKey: key("CH", 1, nil)}
	for _, version := range []int64{math.MaxInt64/1000 - 1, 1_700_000_000_000, 1, 0} {
		r.Columns = append(r.Columns, &ots.AttributeColumn{ColumnName: "name", Value: "x", Timestamp: version})
	}
	mustWrite(t, in, orders, []*ots.Row{r})
	compareRows(t, wire(s.read(t, orders)), wire([]*ots.Row{r}))
}
