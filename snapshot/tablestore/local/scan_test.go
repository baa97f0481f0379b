package local

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// TestKeysHaveAnOrder scans keys that are easily put in another.
func TestKeysHaveAnOrder(t *testing.T) {
	_, c := serveTable(t, Options{})
	ordered := []*tablestore.PrimaryKey{
		key("", math.MinInt64), key("", -1), key("", 0), key("", math.MaxInt64),
		key("\x00", 0), key("\x00\x00", 0), key("\x00\x01", 0), key("\x01", 0),
		key("a", 0), key("a\x00", 0), key("a\x00b", 0), key("aa", 0), key("b", -1), key("é", 0), key("\U0010FFFF", 0),
	}
	var want []string
	for _, pk := range ordered {
		want = append(want, show(pk, nil))
	}
	for i := range ordered { // in an order that is none
		if err := put(c, ordered[(i*7)%len(ordered)]); err != nil {
			t.Fatal(err)
		}
	}
	wantRows(t, scanAll(t, c, everything()), want...)

	backward := tablestore.RangeRowQueryCriteria{StartPrimaryKey: key(highest, highest), EndPrimaryKey: key(lowest, lowest), Direction: tablestore.BACKWARD, Limit: 4}
	slices.Reverse(want)
	wantRows(t, scanAll(t, c, backward), want...)
}

func TestRanges(t *testing.T) {
	_, c := serveTable(t, Options{})
	for _, s := range []string{"a", "b", "c"} {
		for i := range 3 {
			if err := put(c, key(s, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name       string
		start, end *tablestore.PrimaryKey
		backward   bool
		want       string
	}{
		{"start inclusive, end exclusive", key("a", 1), key("b", 1), false, "a1 a2 b0"},
		{"one partition", key("b", lowest), key("b", highest), false, "b0 b1 b2"},
		{"behind a partition", key("a", highest), key("c", lowest), false, "b0 b1 b2"},
		{"what follows an infinite column does not matter", key(lowest, 99), key("a", highest), false, "a0 a1 a2"},
		{"between rows", key("a", 2), key("b", 0), false, "a2"},
		{"keys that are not there", key("aa", 0), key("bb", 0), false, "b0 b1 b2"},
		{"nothing", key("x", 0), key("y", 0), false, ""},
		{"backward, start inclusive, end exclusive", key("b", 1), key("a", 1), true, "b1 b0 a2"},
		{"backward, one partition", key("b", highest), key("b", lowest), true, "b2 b1 b0"},
		{"backward from before a partition", key("c", lowest), key("b", 0), true, "b2 b1"},
		{"backward to behind a partition", key("c", 0), key("a", highest), true, "c0 b2 b1 b0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, limit := range []int32{0, 1, 2} {
				cr := tablestore.RangeRowQueryCriteria{StartPrimaryKey: test.start, EndPrimaryKey: test.end, Limit: limit}
				if test.backward {
					cr.Direction = tablestore.BACKWARD
				}
				got := strings.Join(scanAll(t, c, cr), " ")
				got = strings.NewReplacer("[", "", "]", "").Replace(strings.ReplaceAll(strings.ReplaceAll(got, "] [", "|"), " ", ""))
				if want := strings.ReplaceAll(test.want, " ", "|"); got != want {
					t.Errorf("limit %d: rows %s, want %s", limit, got, want)
				}
			}
		})
	}
}

func TestRangesAreRefused(t *testing.T) {
	s, _ := serveTable(t, Options{})
	bounds := func(start, end *tablestore.PrimaryKey) func(*otsprotocol.GetRangeRequest) {
		return func(r *otsprotocol.GetRangeRequest) {
			r.InclusiveStartPrimaryKey, r.ExclusiveEndPrimaryKey = start.Build(false), end.Build(false)
		}
	}
	backward := func(f func(*otsprotocol.GetRangeRequest)) func(*otsprotocol.GetRangeRequest) {
		return func(r *otsprotocol.GetRangeRequest) {
			f(r)
			r.Direction = otsprotocol.Direction_BACKWARD.Enum()
		}
	}
	for _, test := range []struct {
		name string
		edit func(*otsprotocol.GetRangeRequest)
		code string
		says string
	}{
		{"as it is", func(*otsprotocol.GetRangeRequest) {}, "", ""},
		{"equal", bounds(key("a", 1), key("a", 1)), "OTSParameterInvalid", "Begin key must less than end key in FORWARD"},
		{"the wrong way round", bounds(key("b", 1), key("a", 1)), "OTSParameterInvalid", "Begin key must less than end key in FORWARD"},
		{"backward, equal", backward(bounds(key("a", 1), key("a", 1))), "OTSParameterInvalid", "Begin key must more than end key in BACKWARD"},
		{"backward, the wrong way round", backward(bounds(key("a", 1), key("b", 1))), "OTSParameterInvalid", "Begin key must more than end key in BACKWARD"},
		{"short key", bounds(key("a"), key("b", 1)), "OTSInvalidPK", "Input: 1, Meta: 2"},
		{"generated", bounds(key("a", generated), key("b", 1)), "OTSParameterInvalid", "can't be used for read"},
		{"limit of none", func(r *otsprotocol.GetRangeRequest) { r.Limit = proto.Int32(0) }, "OTSParameterInvalid", "The limit must be greater than 0."},
		{"limit above what is scanned", func(r *otsprotocol.GetRangeRequest) { r.Limit = proto.Int32(1 << 30) }, "", ""},
		{"no versions", func(r *otsprotocol.GetRangeRequest) { r.MaxVersions = nil }, "OTSParameterInvalid", "No version condition"},
		{"token", func(r *otsprotocol.GetRangeRequest) { r.Token = []byte{1} }, "OTSUnsupportOperation", "token"},
		{"no table", func(r *otsprotocol.GetRangeRequest) { r.TableName = proto.String("missing") }, "OTSObjectNotExist", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := &otsprotocol.GetRangeRequest{TableName: proto.String("t"), Direction: otsprotocol.Direction_FORWARD.Enum(), MaxVersions: proto.Int32(1),
				InclusiveStartPrimaryKey: key("a", lowest).Build(false), ExclusiveEndPrimaryKey: key("b", highest).Build(false)}
			test.edit(req)
			var resp otsprotocol.GetRangeResponse
			wantCode(t, ask(t, s, "GetRange", req, &resp), test.code, test.says)
			if test.code == "" && (resp.Rows == nil || len(resp.Rows) > 0 || resp.NextStartPrimaryKey != nil) {
				t.Errorf("an empty range is answered %+v", &resp)
			}
		})
	}
}

// page reads one page of a table and returns how many rows it has, how many
// units it took and whether more follow.
func page(t *testing.T, c *tablestore.TableStoreClient, cr tablestore.RangeRowQueryCriteria) (rows int, units int32, more bool) {
	t.Helper()
	cr.TableName = "t"
	if cr.MaxVersion == 0 {
		cr.MaxVersion = 1
	}
	resp := must[*tablestore.GetRangeResponse](t)(c.GetRange(&tablestore.GetRangeRequest{RangeRowQueryCriteria: &cr}))
	return len(resp.Rows), resp.ConsumedCapacityUnit.Read, resp.NextStartPrimaryKey != nil
}

// fill writes n rows with a value of so many bytes.
func fill(t *testing.T, s *Server, n, size int) {
	t.Helper()
	perBatch := min(maxBatchWrite, maxWrite/(size+32))
	for from := 0; from < n; from += perBatch {
		var rows [][]byte
		for i := from; i < min(n, from+perBatch); i++ {
			rows = append(rows, rowBuffer(keyCells(fmt.Sprintf("%08d", i), 1), makeCell([]byte("x"), binaryValue(strings.Repeat("x", size)), 1, true)))
		}
		if _, err := write(t, s, false, batchOf("t", rows...)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAPageHas5000RowsAtMost(t *testing.T) {
	s, c := serveTable(t, Options{})
	fill(t, s, maxScanRows, 1)
	if rows, _, more := page(t, c, everything()); rows != maxScanRows || more {
		t.Errorf("%d rows, more %v, want all", rows, more)
	}
	if err := put(c, key("last", 1)); err != nil {
		t.Fatal(err)
	}
	if rows, _, more := page(t, c, everything()); rows != maxScanRows || !more {
		t.Errorf("%d rows, more %v, want 5000 and more", rows, more)
	}
	// Rows a filter drops count, so that a page can be empty in mid-range.
	cr := everything()
	cr.Filter = tablestore.NewSingleColumnCondition("s", tablestore.CT_EQUAL, "last")
	if rows, _, more := page(t, c, cr); rows != 0 || !more {
		t.Errorf("%d rows, more %v, want none and more", rows, more)
	}
	wantRows(t, scanAll(t, c, cr), "[last 1]")
}

func TestAPageHas4MBAtMost(t *testing.T) {
	s, c := serveTable(t, Options{})
	// A row is 18 bytes of key, 9 of name and version, and its value.
	fill(t, s, 9, 1<<19-27)
	rows, units, more := page(t, c, everything())
	if rows != 8 || !more || units != 1024 {
		t.Errorf("%d rows for %d units, more %v, want 8 for 1024 and more", rows, units, more)
	}
	if n := len(scanAll(t, c, everything())); n != 9 {
		t.Errorf("%d rows in all, want 9", n)
	}
}

func TestAScanCanLeaveOutTheKey(t *testing.T) {
	_, c := serveTable(t, Options{})
	if err := put(c, key("a", 1), col{"x", "v", 5}); err != nil {
		t.Fatal(err)
	}
	cr := everything()
	cr.ColumnsToGet, cr.ReturnSpecifiedPkOnly = []string{"x", "i"}, true
	wantRows(t, scanAll(t, c, cr), "[1] x@5=v")
	cr.ReturnSpecifiedPkOnly = false
	wantRows(t, scanAll(t, c, cr), "[a 1] x@5=v")
}

// TestRowsOfOneVersionComeAsAMatrixOnRequest: the SDK reads the matrix, which has
// no versions. Where more than one is asked for, rows come as PlainBuffer.
func TestRowsOfOneVersionComeAsAMatrixOnRequest(t *testing.T) {
	_, c := serveTable(t, Options{})
	err := errors.Join(
		put(c, key("a", 1), col{"x", "v", 5}, col{"y", true, 5}, col{"z", []byte{0, 1}, 5}),
		put(c, key("a", 2)),
		put(c, key("b", 1), col{"w", 1.5, 5}, col{"x", int64(7), 5}),
	)
	if err != nil {
		t.Fatal(err)
	}
	cr := everything()
	cr.TableName, cr.MaxVersion, cr.DataBlockType = "t", 1, tablestore.SimpleRowMatrix
	resp := must[*tablestore.GetRangeResponse](t)(c.GetRange(&tablestore.GetRangeRequest{RangeRowQueryCriteria: &cr}))
	if resp.DataBlockType != tablestore.SimpleRowMatrix {
		t.Errorf("rows of one version came in form %v", resp.DataBlockType)
	}
	var got []string
	for _, r := range resp.Rows {
		got = append(got, show(r.PrimaryKey, r.Columns))
	}
	want := []string{"[a 1] x@0=v y@0=true z@0=[0 1]", "[a 2]", "[b 1] w@0=1.5 x@0=7"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	cr.MaxVersion = 2
	resp = must[*tablestore.GetRangeResponse](t)(c.GetRange(&tablestore.GetRangeRequest{RangeRowQueryCriteria: &cr}))
	if resp.DataBlockType != tablestore.PlainBuffer || show(resp.Rows[0].PrimaryKey, resp.Rows[0].Columns) != "[a 1] x@5=v y@5=true z@5=[0 1]" {
		t.Errorf("answered %+v", resp)
	}
}

// TestTheHandWrittenResponseIsTheLibrarys compares the bytes of a scan's
// response with what the protobuf library makes of the same message.
func TestTheHandWrittenResponseIsTheLibrarys(t *testing.T) {
	s, _ := serveTable(t, Options{})
	fill(t, s, 300, 100)
	for _, limit := range []int32{1, 200, 5000} {
		rep, err := s.getRange(call{instance: "demo"}, &otsprotocol.GetRangeRequest{
			TableName: proto.String("t"), Direction: otsprotocol.Direction_FORWARD.Enum(), MaxVersions: proto.Int32(1), Limit: &limit,
			InclusiveStartPrimaryKey: key(lowest, lowest).Build(false), ExclusiveEndPrimaryKey: key(highest, highest).Build(false)})
		if err != nil {
			t.Fatal(err)
		}
		var resp otsprotocol.GetRangeResponse
		if err := proto.Unmarshal(rep.body, &resp); err != nil {
			t.Fatal(err)
		}
		if want := must[[]byte](t)(proto.Marshal(&resp)); !bytes.Equal(rep.body, want) {
			t.Errorf("limit %d: response\n%x\nwant\n%x", limit, rep.body, want)
		}
	}
}
