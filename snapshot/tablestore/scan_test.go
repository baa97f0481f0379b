package tablestore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

func TestScanReturnsWhatTheSDKWrote(t *testing.T) {
	s := newStage(t)
	s.create(t, orders)
	rows := sample(12_000, 1)
	if !slices.IsSortedFunc(rows, compareKeys) {
		t.Fatal("the sample is not in key order")
	}
	s.fill(t, orders, rows)

	got, err := scan(t, s.open(t), snapshot.Scan{Table: orders, Layout: layoutOf(t, orders), Rows: 1000})
	if err != nil {
		t.Fatal(err)
	}
	compareRows(t, got, wire(rows))
	compareRows(t, got, wire(s.read(t, orders)))
}

func TestScanOfNothing(t *testing.T) {
	s := newStage(t)
	s.create(t, orders)
	in := s.open(t)
	got, err := scan(t, in, snapshot.Scan{Table: orders, Layout: layoutOf(t, orders)})
	if err != nil || len(got) != 0 {
		t.Errorf("an empty table gave %d rows, %v", len(got), err)
	}
	missing := orders
	missing.Name = "missing"
	_, err = scan(t, in, snapshot.Scan{Table: missing, Layout: layoutOf(t, orders)})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "table missing") {
		t.Errorf("a missing table gave %v", err)
	}
}

// pageLimit makes the service stop after n rows at the latest.
func pageLimit(n int32) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return rewrite(next, "GetRange", func(body []byte) []byte {
			m := new(otsprotocol.GetRangeRequest)
			if err := proto.Unmarshal(body, m); err != nil {
				panic(err)
			}
			m.Limit = proto.Int32(n)
			out, err := proto.Marshal(m)
			if err != nil {
				panic(err)
			}
			return out
		})
	}
}

// rewrite changes the requests for an action and signs them again.
func rewrite(next http.RoundTripper, action string, change func([]byte) []byte) http.RoundTripper {
	in := &Instance{name: "demo", sign: newSigner(Config{AccessKeyID: "local", AccessKeySecret: "local"})}
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		if actionOf(req) != action {
			return next.RoundTrip(req)
		}
		body, err := io.ReadAll(req.Body)
		req.Body.Close()
		if err != nil {
			return nil, err
		}
		body = change(body)
		again, err := http.NewRequestWithContext(req.Context(), req.Method, req.URL.String(), bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		if err := in.setHeaders(again, action, body); err != nil {
			return nil, err
		}
		return next.RoundTrip(again)
	})
}

func TestBatchesDependOnRowsAlone(t *testing.T) {
	s := newStage(t)
	s.create(t, orders)
	rows := sample(700, 3)
	s.fill(t, orders, rows)
	l, all := layoutOf(t, orders), wire(rows)

	type cut struct {
		rows  int64
		bytes int64
		limit int64
	}
	for _, c := range []cut{{rows: 1}, {rows: 64}, {bytes: 1}, {bytes: 5000}, {rows: 50, bytes: 4000}, {}, {rows: 64, limit: 130}, {limit: 1}, {limit: 700}, {limit: 5000}} {
		var first []int64
		for _, n := range []int32{5000, 1, 7, 64} {
			var lengths []int64
			var total int64
			for b, err := range s.open(t, pageLimit(n)).Scan(t.Context(), snapshot.Scan{
				Table: orders, Layout: l, Rows: c.rows, Bytes: c.bytes, Limit: c.limit,
			}) {
				if err != nil {
					t.Fatal(err)
				}
				checkCut(t, l, b, c.rows, c.bytes, total, all)
				total += b.Record.NumRows()
				lengths = append(lengths, b.Record.NumRows())
			}
			want := int64(len(rows))
			if c.limit > 0 {
				want = min(want, c.limit)
			}
			if total != want {
				t.Errorf("%+v: %d rows in pages of %d, want %d", c, total, n, want)
			}
			if first == nil {
				first = lengths
			}
			if !slices.Equal(first, lengths) {
				t.Errorf("%+v: batches of %v in pages of %d, of %v in pages of 5000", c, lengths, n, first)
			}
		}
	}
}

// checkCut holds a batch that starts with the given row against the rule that it
// ends with the row that reaches a limit.
func checkCut(t *testing.T, l row.Layout, b row.Batch, rows, bytes, start int64, want [][]byte) {
	t.Helper()
	n := b.Record.NumRows()
	compareRows(t, encode(t, l, b.Record), want[start:start+n])
	var size int64
	for _, r := range want[start : start+n-1] {
		size += int64(len(r))
	}
	if bytes > 0 && size >= bytes || rows > 0 && n > rows {
		t.Errorf("batch of %d rows goes beyond its limit", n)
	}
	size += int64(len(want[start+n-1]))
	if size != b.Bytes {
		t.Errorf("batch says %d bytes, has %d", b.Bytes, size)
	}
}

func TestScanStaysInItsRange(t *testing.T) {
	s := newStage(t)
	s.create(t, orders)
	rows := sample(600, 4)
	s.fill(t, orders, rows)
	l, in := layoutOf(t, orders), s.open(t, pageLimit(50))

	keys := keysOf(t, l, rows)
	bounds := []manifest.Key{nil, keys[0], keys[1], keys[299], keys[599], []byte("DE\x00\x00")} // the last: a country
	for _, from := range bounds {
		for _, to := range bounds {
			if len(to) > 0 && bytes.Compare(from, to) >= 0 {
				continue
			}
			var want [][]byte
			for i, r := range wire(rows) {
				if bytes.Compare(keys[i], from) >= 0 && (len(to) == 0 || bytes.Compare(keys[i], to) < 0) {
					want = append(want, r)
				}
			}
			got, err := scan(t, in, snapshot.Scan{Table: orders, Layout: l, From: from, To: to})
			if err != nil {
				t.Fatal(err)
			}
			compareRows(t, got, want)
		}
	}
}

func keysOf(t testing.TB, l row.Layout, rows []*ots.Row) []manifest.Key {
	t.Helper()
	rec := record(t, l, rows)
	e := row.NewEncoder(l)
	if err := e.Reset(rec); err != nil {
		t.Fatal(err)
	}
	var keys []manifest.Key
	for i := range rows {
		keys = append(keys, e.AppendKey(nil, i))
	}
	return keys
}

func TestSplitsCoverTheTable(t *testing.T) {
	s := newStage(t)
	s.create(t, orders)
	rows := sample(3000, 5)
	s.fill(t, orders, rows)
	l, in := layoutOf(t, orders), s.open(t)

	keys, err := in.Split(t.Context(), orders, 40_000)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) < 5 {
		t.Fatalf("%d split points", len(keys))
	}
	var got [][]byte
	var from manifest.Key
	for _, to := range append(keys, nil) {
		part, err := scan(t, in, snapshot.Scan{Table: orders, Layout: l, From: from, To: to})
		if err != nil {
			t.Fatal(err)
		}
		if len(part) == 0 {
			t.Errorf("the range to %s is empty", row.FormatKey(orders.Key, to))
		}
		got, from = append(got, part...), to
	}
	compareRows(t, got, wire(rows))

	if keys, err := in.Split(t.Context(), orders, 1<<40); err != nil || len(keys) != 0 {
		t.Errorf("a small table is split at %v, %v", keys, err)
	}
	if _, err := in.Split(t.Context(), orders, 0); err == nil {
		t.Error("ranges of no size are accepted")
	}
	missing := manifest.Table{Name: "missing", Key: orders.Key}
	if _, err := in.Split(t.Context(), missing, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing table gave %v", err)
	}
}

func splitAnswer(points ...[]byte) answer {
	integer := otsprotocol.PrimaryKeyType_INTEGER.Enum()
	body, err := proto.Marshal(&otsprotocol.ComputeSplitPointsBySizeResponse{
		Consumed: &otsprotocol.ConsumedCapacity{CapacityUnit: &otsprotocol.CapacityUnit{}},
		Schema: []*otsprotocol.PrimaryKeySchema{
			{Name: proto.String("country"), Type: otsprotocol.PrimaryKeyType_STRING.Enum()},
			{Name: proto.String("id"), Type: integer},
			{Name: proto.String("part"), Type: otsprotocol.PrimaryKeyType_BINARY.Enum()},
		},
		SplitPoints: points,
	})
	if err != nil {
		panic(err)
	}
	return respond(http.StatusOK, body)
}

func TestSplitPoints(t *testing.T) {
	point := func(build func(*ots.PrimaryKey)) []byte {
		k := new(ots.PrimaryKey)
		build(k)
		return k.Build(false)
	}
	country := func(name string) []byte {
		return point(func(k *ots.PrimaryKey) { k.AddPrimaryKeyColumn("country", name) })
	}
	// A MIN that is spelt out, which the SDK reads as a column without a value.
	spelt := point(func(k *ots.PrimaryKey) {
		k.AddPrimaryKeyColumn("country", "CH")
		k.AddPrimaryKeyColumnWithMinValue("id")
		k.AddPrimaryKeyColumnWithMinValue("part")
	})
	start := point(func(k *ots.PrimaryKey) { k.AddPrimaryKeyColumnWithMinValue("country") })
	for name, test := range map[string]struct {
		points [][]byte
		want   []string
		err    string
	}{
		"short":        {points: [][]byte{country("AT"), country("CH")}, want: []string{`("AT")`, `("CH")`}},
		"spelt out":    {points: [][]byte{country("AT"), spelt}, want: []string{`("AT")`, `("CH")`}},
		"at the start": {points: [][]byte{start, country("CH")}, want: []string{`("CH")`}},
		"out of order": {points: [][]byte{country("CH"), country("AT")}, err: `("AT") is not after ("CH")`},
		"twice":        {points: [][]byte{country("CH"), country("CH")}, err: "is not after"},
		"other type":   {points: [][]byte{point(func(k *ots.PrimaryKey) { k.AddPrimaryKeyColumn("country", int64(1)) })}, err: "country"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &service{answers: []answer{splitAnswer(test.points...)}}
			keys, err := s.open(t).Split(t.Context(), orders, 1<<30)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want an error with %q", err, test.err)
				}
				return
			}
			var got []string
			for _, k := range keys {
				got = append(got, row.FormatKey(orders.Key, k))
			}
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestSplitFallsBackToTheServicesUnit(t *testing.T) {
	s := &service{answers: []answer{refuse(400, "OTSParameterInvalid", "Invalid unit."), splitAnswer()}}
	if _, err := s.open(t).Split(t.Context(), orders, 150<<20); err != nil {
		t.Fatal(err)
	}
	var sizes []int64
	for _, body := range s.bodies {
		m := new(otsprotocol.ComputeSplitPointsBySizeRequest)
		if err := proto.Unmarshal(body, m); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, m.GetSplitSize(), m.GetSplitSizeUnitInByte())
	}
	if want := []int64{150, 1 << 20, 2, 0}; !slices.Equal(sizes, want) {
		t.Errorf("asked for %v, want %v", sizes, want)
	}
}

// rangeAnswer answers GetRange.
func rangeAnswer(next *ots.PrimaryKey, rows ...[]byte) answer {
	m := &otsprotocol.GetRangeResponse{
		Consumed: &otsprotocol.ConsumedCapacity{CapacityUnit: &otsprotocol.CapacityUnit{}},
		Rows:     []byte{},
	}
	if len(rows) > 0 {
		m.Rows = append(row.AppendHeader(nil), bytes.Join(rows, nil)...)
	}
	if next != nil {
		m.NextStartPrimaryKey = next.Build(false)
	}
	body, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return respond(http.StatusOK, body)
}

// damagedRow returns a row with one bit wrong.
func damagedRow(r []byte) []byte {
	r = bytes.Clone(r)
	r[len(r)/2] ^= 1
	return r
}

func TestScanOfScriptedPages(t *testing.T) {
	rows := sample(6, 6)
	r := wire(rows)
	at := func(i int) *ots.PrimaryKey { return rows[i].PrimaryKey }
	all := []int{0, 1, 2, 3, 4, 5}
	for name, test := range map[string]struct {
		answers []answer
		want    []int // rows
		starts  []string
		err     string
		final   bool // error is about data, not about the service
	}{
		"pages without rows": {
			answers: []answer{rangeAnswer(at(0)), rangeAnswer(at(2), r[0], r[1]), rangeAnswer(at(3)), rangeAnswer(at(4)), rangeAnswer(nil, r[4])},
			want:    []int{0, 1, 4},
		},
		"a row damaged once": {
			answers: []answer{rangeAnswer(nil, r[0], r[1], damagedRow(r[2]), r[3]), rangeAnswer(at(4), r[1], r[2], r[3]), rangeAnswer(nil, r[4], r[5])},
			want:    all,
		},
		"the first row of a page damaged": {
			answers: []answer{rangeAnswer(at(2), r[0], r[1]), rangeAnswer(nil, damagedRow(r[2]), r[3]), rangeAnswer(nil, r[2:]...)},
			want:    all,
		},
		"the row to resume at is gone": {
			answers: []answer{rangeAnswer(nil, r[0], damagedRow(r[1])), rangeAnswer(nil, r[2:]...)},
			want:    []int{0, 2, 3, 4, 5},
		},
		"the row to resume at is damaged": {
			answers: []answer{rangeAnswer(nil, r[0], damagedRow(r[1])), rangeAnswer(nil, damagedRow(r[0])), rangeAnswer(nil, r...)},
			want:    all,
		},
		"damaged again behind the row resumed at": {
			answers: []answer{rangeAnswer(nil, r[0], damagedRow(r[1])), rangeAnswer(nil, r[0], damagedRow(r[1])), rangeAnswer(nil, r...)},
			want:    all,
		},
		"damaged for ever": {
			answers: []answer{rangeAnswer(nil, r[0], damagedRow(r[1]))},
			want:    []int{},
			err:     "table orders: the answer cannot be read: row",
		},
		"cut within a row": {
			answers: []answer{rangeAnswer(nil, r[0], r[1][:len(r[1])-2]), rangeAnswer(nil, r...)},
			want:    all,
		},
		"rows out of order": {
			answers: []answer{rangeAnswer(nil, r[1], r[0])},
			err:     "came after row",
			final:   true,
		},
		"a row twice": {
			answers: []answer{rangeAnswer(at(2), r[0], r[1]), rangeAnswer(nil, r[1], r[2])},
			err:     "came after row",
			final:   true,
		},
		"the next page is this one": {
			answers: []answer{rangeAnswer(at(2), r[0], r[1]), rangeAnswer(at(2), r[2])},
			want:    []int{},
			err:     "not after this one",
		},
		"no rows field": {
			answers: []answer{respond(200, nil), rangeAnswer(nil, r...)},
			want:    all,
		},
		"another form of rows": {
			answers: []answer{respond(200, []byte("\x0a\x02\x0a\x00\x12\x00\x28\x01"))},
			want:    []int{},
			err:     "not asked for",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &service{answers: test.answers}
				ask := snapshot.Scan{Table: orders, Layout: layoutOf(t, orders)}
				got, err := scan(t, s.open(t), ask)
				leaves, again := digests(t, (&service{answers: test.answers}).open(t), ask)
				if (again == nil) != (err == nil) || again != nil && !strings.Contains(again.Error(), test.err) {
					t.Errorf("for digests alone: %v, want %v", again, err)
				}
				if test.err == "" {
					var want [][]byte
					var hashes []manifest.Hash
					for _, i := range test.want {
						want = append(want, r[i])
						hashes = append(hashes, manifest.LeafHash(r[i]))
					}
					if err != nil {
						t.Fatal(err)
					}
					compareRows(t, got, want)
					if !slices.Equal(leaves, hashes) {
						t.Errorf("%d digests, not those of the %d rows", len(leaves), len(want))
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %v, want an error with %q", err, test.err)
				}
				if errors.Is(err, snapshot.ErrUnavailable) == test.final {
					t.Errorf("errors.Is(%v, ErrUnavailable) = %t", err, test.final)
				}
			})
		})
	}
}

// digests returns the leaf hashes of the rows a scan is about, scanned for nothing
// else.
func digests(t *testing.T, in *Instance, s snapshot.Scan) (leaves []manifest.Hash, err error) {
	t.Helper()
	s.Digest = true
	for batch, err := range in.Scan(t.Context(), s) {
		if err != nil {
			return leaves, err
		}
		if batch.Record != nil {
			t.Error("a batch has a record")
		}
		leaves = append(leaves, batch.Leaves...)
	}
	return leaves, nil
}

func TestScanRefusesRowsOutsideItsRange(t *testing.T) {
	rows := sample(3, 7)
	l := layoutOf(t, orders)
	keys := keysOf(t, l, rows)
	for name, s := range map[string]snapshot.Scan{
		"before": {From: keys[1]},
		"after":  {To: keys[2]},
	} {
		t.Run(name, func(t *testing.T) {
			s.Table, s.Layout = orders, l
			service := &service{answers: []answer{rangeAnswer(nil, wire(rows)...)}}
			_, err := scan(t, service.open(t), s)
			if err == nil || !strings.Contains(err.Error(), "not in the range") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestScanSurvivesABadLine(t *testing.T) {
	s := newStage(t)
	s.create(t, orders)
	rows := sample(2000, 8)
	s.fill(t, orders, rows)
	r := rand.New(rand.NewPCG(8, 8))
	in := s.open(t, pageLimit(100), func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			if r.IntN(8) == 0 {
				return nil, io.ErrUnexpectedEOF
			}
			resp, err := next.RoundTrip(req)
			if err != nil || resp.StatusCode != http.StatusOK {
				return resp, err
			}
			switch r.IntN(8) {
			case 0:
				flipBit(resp)
			case 1:
				cutBody(resp)
			case 2:
				resp.Body.Close()
				return refuse(503, "OTSServerBusy", "")(req)
			}
			return resp, nil
		})
	})
	// Its randomness is for one request at a time, which is what one scan makes.
	got, err := scan(t, in, snapshot.Scan{Table: orders, Layout: layoutOf(t, orders), Rows: 64})
	if err != nil {
		t.Fatal(err)
	}
	compareRows(t, got, wire(rows))
}

// TestScanStops runs where goroutines left behind fail the test.
func TestScanStops(t *testing.T) {
	rows := sample(3, 9)
	r := wire(rows)
	hang := func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	pages := []answer{rangeAnswer(rows[1].PrimaryKey, r[0]), hang}
	layout := layoutOf(t, orders)
	for name, stop := range map[string]func(t *testing.T, in *Instance, s snapshot.Scan){
		"with its consumer": func(t *testing.T, in *Instance, s snapshot.Scan) {
			for _, err := range in.Scan(t.Context(), s) {
				if err != nil {
					t.Error(err)
				}
				break
			}
		},
		"when its consumer panics": func(t *testing.T, in *Instance, s snapshot.Scan) {
			defer func() { recover() }()
			for range in.Scan(t.Context(), s) {
				panic("consumer")
			}
		},
		"with its context": func(t *testing.T, in *Instance, s snapshot.Scan) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			begun := time.Now()
			var last error
			for _, err := range in.Scan(ctx, s) {
				last = err
			}
			if !errors.Is(last, context.Canceled) || errors.Is(last, snapshot.ErrUnavailable) {
				t.Errorf("got %v", last)
			}
			if took := time.Since(begun); took != time.Second {
				t.Errorf("ended after %s", took)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stop(t, (&service{answers: pages}).open(t), snapshot.Scan{Table: orders, Layout: layout, Rows: 1})
			})
		})
	}
}

// A scan with a limit is a sample: it must not read ahead.
func TestScanWithLimitAsksOnlyForThat(t *testing.T) {
	rows := sample(3, 9)
	s := &service{answers: []answer{rangeAnswer(rows[2].PrimaryKey, wire(rows)[:2]...)}}
	got, err := scan(t, s.open(t), snapshot.Scan{Table: orders, Layout: layoutOf(t, orders), Limit: 2})
	if err != nil || len(got) != 2 || len(s.asked) != 1 {
		t.Errorf("%d requests for %d rows, %v", len(s.asked), len(got), err)
	}
	m := new(otsprotocol.GetRangeRequest)
	if err := proto.Unmarshal(s.bodies[0], m); err != nil || m.GetLimit() != 2 {
		t.Errorf("asked for %v, %v", m, err)
	}
}
