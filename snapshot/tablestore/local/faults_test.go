package local

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

func misbehave(t *testing.T, s *Server, list ...Fault) {
	t.Helper()
	if err := s.Misbehave(list...); err != nil {
		t.Fatal(err)
	}
}

func TestFaultsThatAnswerAnError(t *testing.T) {
	s, c := serveTable(t, Options{})
	for _, test := range []struct {
		kind    FaultKind
		code    string
		status  int
		written bool
	}{
		{FaultBusy, "OTSServerBusy", 503, false},
		{FaultUnavailable, "OTSPartitionUnavailable", 503, false},
		{FaultInternal, "OTSInternalServerError", 500, false},
		{FaultNotReady, "OTSTableNotReady", 404, false},
		{FaultTooFrequent, "OTSQuotaExhausted", 403, false},
		{FaultTimeout, "OTSTimeout", 503, true},
	} {
		t.Run(string(test.kind), func(t *testing.T) {
			misbehave(t, s, Fault{Action: "PutRow", Kind: test.kind})
			err := put(c, key("a", 1))
			wantCode(t, err, test.code)
			if e := new(tablestore.OtsError); errors.As(err, &e) && e.HttpStatusCode != test.status {
				t.Errorf("status %d, want %d", e.HttpStatusCode, test.status)
			}
			misbehave(t, s)
			if written := get(t, c, key("a", 1)) != ""; written != test.written {
				t.Errorf("written: %v, want %v", written, test.written)
			}
			if err := remove(c, key("a", 1)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFaultsThatCutTheConnection(t *testing.T) {
	s, c := serveTable(t, Options{})
	for _, test := range []struct {
		kind    FaultKind
		written bool
	}{
		{FaultCutBefore, false},
		{FaultCutAfter, true},
		{FaultTruncate, true},
	} {
		t.Run(string(test.kind), func(t *testing.T) {
			misbehave(t, s, Fault{Action: "PutRow", Kind: test.kind})
			if err := put(c, key("a", 1)); err == nil || !strings.Contains(err.Error(), "EOF") {
				t.Errorf("error %v, want the end of the connection", err)
			}
			misbehave(t, s)
			if written := get(t, c, key("a", 1)) != ""; written != test.written {
				t.Errorf("written: %v, want %v", written, test.written)
			}
			if err := remove(c, key("a", 1)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestATruncatedAnswerHasItsFirstHalf: the length says there should be more.
func TestATruncatedAnswerHasItsFirstHalf(t *testing.T) {
	s, h := serveRaw(t)
	fill(t, s, 10, 100)
	_, whole := getRangeRaw(t, h.URL)
	misbehave(t, s, Fault{Kind: FaultTruncate})
	resp := must[*http.Response](t)(http.DefaultClient.Do(rangeRequest(t, h.URL)))
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(got, whole[:len(whole)/2]) || resp.ContentLength != int64(len(whole)) {
		t.Errorf("read %d of %d bytes, announced %d: %v", len(got), len(whole), resp.ContentLength, err)
	}
}

// serveRaw is a server with the table t, for requests built by hand.
func serveRaw(t *testing.T) (*Server, *httptest.Server) {
	t.Helper()
	s := must[*Server](t)(Open(Options{Seed: 3}))
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		h.Close()
		s.Close()
	})
	must[*tablestore.CreateTableResponse](t)(clientOf(h.URL, "demo").CreateTable(tableOf("t")))
	return s, h
}

func rangeRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	body := must[[]byte](t)(proto.Marshal(&otsprotocol.GetRangeRequest{
		TableName: proto.String("t"), Direction: otsprotocol.Direction_FORWARD.Enum(), MaxVersions: proto.Int32(1),
		InclusiveStartPrimaryKey: key(lowest, lowest).Build(false), ExclusiveEndPrimaryKey: key(highest, highest).Build(false)}))
	sum := md5.Sum(body)
	who := keyPair(DefaultAccessKeyID, DefaultAccessKeySecret)
	r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "POST", url+"/GetRange", bytes.NewReader(body)))
	r.Header.Set(headerDate, newClock().at.UTC().Format("2006-01-02T15:04:05.000Z"))
	r.Header.Set(headerVersion, apiVersion)
	r.Header.Set(headerKeyID, who.GetAccessKeyID())
	r.Header.Set(headerInstance, "demo")
	r.Header.Set(headerMD5, base64.StdEncoding.EncodeToString(sum[:]))
	tablestore.AddSignatureHeader(r, who, must[string](t)(tablestore.GetSignature("/GetRange", "POST", who, r.Header)))
	return r
}

// getRangeRaw scans t and returns the answer as it came.
func getRangeRaw(t *testing.T, url string) (intact bool, body []byte) {
	t.Helper()
	resp := must[*http.Response](t)(http.DefaultClient.Do(rangeRequest(t, url)))
	defer resp.Body.Close()
	body = must[[]byte](t)(io.ReadAll(resp.Body))
	sum := md5.Sum(body)
	return resp.Header.Get(headerMD5) == base64.StdEncoding.EncodeToString(sum[:]), body
}

func differingBits(a, b []byte) (n int) {
	if len(a) != len(b) {
		return -1
	}
	for i := range a {
		for x := a[i] ^ b[i]; x != 0; x &= x - 1 {
			n++
		}
	}
	return n
}

func TestAFlippedBitShowsInTheMD5(t *testing.T) {
	s, h := serveRaw(t)
	fill(t, s, 10, 100)
	intact, whole := getRangeRaw(t, h.URL)
	if !intact {
		t.Fatal("an answer without a fault has the wrong MD5")
	}
	misbehave(t, s, Fault{Action: "GetRange", Kind: FaultFlip})
	for range 20 {
		intact, body := getRangeRaw(t, h.URL)
		if n := differingBits(whole, body); n != 1 || intact {
			t.Errorf("%d bits differ, MD5 right: %v", n, intact)
		}
	}
}

func TestACorruptCellShowsInItsChecksumAlone(t *testing.T) {
	s, h := serveRaw(t)
	fill(t, s, 10, 100)
	_, whole := getRangeRaw(t, h.URL)
	misbehave(t, s, Fault{Kind: FaultCorrupt})
	for range 20 {
		intact, body := getRangeRaw(t, h.URL)
		if n := differingBits(whole, body); n != 1 || !intact {
			t.Errorf("%d bits differ, MD5 right: %v", n, intact)
		}
		var resp otsprotocol.GetRangeResponse
		if err := proto.Unmarshal(body, &resp); err != nil {
			t.Fatal(err)
		}
		rest, err := resp.Rows[4:], error(nil)
		for r := new(row); err == nil && len(rest) > 0; {
			rest, err = parseRow(rest, r)
		}
		if err == nil || !strings.Contains(err.Error(), "checksum is mismatch") {
			t.Errorf("the rows parse with %v", err)
		}
	}
}

// TestCorruptRowsOfOtherReads: the Go SDK does not look at checksums, so it can
// show what came.
func TestCorruptRowsOfOtherReads(t *testing.T) {
	s, c := serveTable(t, Options{})
	if err := put(c, key("a", 1), col{"x", int64(0), 5}); err != nil {
		t.Fatal(err)
	}
	right := get(t, c, key("a", 1))
	misbehave(t, s, Fault{Kind: FaultCorrupt})
	if got := get(t, c, key("a", 1)); got == right || got == "" {
		t.Errorf("row %q", got)
	}
	if got := get(t, c, key("none", 1)); got != "" {
		t.Errorf("row %q, want none", got)
	}
	criteria := &tablestore.MultiRowQueryCriteria{TableName: "t", MaxVersion: 1}
	criteria.AddRow(key("a", 1))
	resp := must[*tablestore.BatchGetRowResponse](t)(c.BatchGetRow(&tablestore.BatchGetRowRequest{MultiRowQueryCriteria: []*tablestore.MultiRowQueryCriteria{criteria}}))
	if r := resp.TableToRowsResult["t"][0]; show(&r.PrimaryKey, r.Columns) == right {
		t.Errorf("row %q", right)
	}
}

func TestSomeRowsOfABatchFail(t *testing.T) {
	for kind, test := range map[FaultKind]struct {
		code    string
		written int
	}{
		FaultRows:        {"OTSServerBusy", 15},
		FaultRowsTimeout: {"OTSTimeout", 20},
	} {
		t.Run(string(kind), func(t *testing.T) {
			s, c := serveTable(t, Options{})
			misbehave(t, s, Fault{Kind: kind, Rows: 0.25})
			b := &tablestore.BatchWriteRowRequest{}
			for i := range 20 {
				b.AddRowChange(putChange(key("a", i)))
			}
			resp := must[*tablestore.BatchWriteRowResponse](t)(c.BatchWriteRow(b))
			var codes []string
			for _, r := range resp.TableToRowsResult["t"] {
				if !r.IsSucceed {
					codes = append(codes, r.Error.Code)
				}
			}
			if want := slices.Repeat([]string{test.code}, 5); !slices.Equal(codes, want) {
				t.Errorf("failed %q, want %q", codes, want)
			}
			misbehave(t, s)
			if n := len(scanAll(t, c, everything())); n != test.written {
				t.Errorf("%d rows written, want %d", n, test.written)
			}
		})
	}
}

func TestAnEmptyPageHasAKeyToGoOnFrom(t *testing.T) {
	s, c := serveTable(t, Options{})
	fill(t, s, 10, 1)
	misbehave(t, s, Fault{Kind: FaultEmptyPage, Times: 3})
	if rows, _, more := page(t, c, everything()); rows != 0 || !more {
		t.Errorf("%d rows, more %v", rows, more)
	}
	if n := len(scanAll(t, c, everything())); n != 10 {
		t.Errorf("%d rows in all, want 10", n)
	}
	misbehave(t, s, Fault{Kind: FaultEmptyPage})
	if rows, _, more := page(t, c, tablestore.RangeRowQueryCriteria{StartPrimaryKey: key("x", 0), EndPrimaryKey: key("y", 0)}); rows != 0 || more {
		t.Errorf("%d rows, more %v at the end of a range", rows, more)
	}
}

// outcomes puts n rows and returns which met a fault.
func outcomes(c *tablestore.TableStoreClient, n int) string {
	text := ""
	for i := range n {
		if put(c, key("a", i)) == nil {
			text += "."
		} else {
			text += "x"
		}
	}
	return text
}

func TestWhenFaultsAreMet(t *testing.T) {
	for _, test := range []struct {
		name   string
		faults []Fault
		want   string
	}{
		{"always", []Fault{{Kind: FaultBusy}}, "xxxxxxxx"},
		{"some times", []Fault{{Kind: FaultBusy, Times: 2}}, "xx......"},
		{"after some", []Fault{{Kind: FaultBusy, After: 3}}, "...xxxxx"},
		{"once, in the middle", []Fault{{Kind: FaultBusy, After: 3, Times: 1}}, "...x...."},
		{"one after another", []Fault{{Kind: FaultBusy, Times: 1}, {Kind: FaultInternal, Times: 1}}, "xx......"},
		{"another action", []Fault{{Action: "GetRow", Kind: FaultBusy}}, "........"},
		{"another kind of action", []Fault{{Kind: FaultEmptyPage}}, "........"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, c := serveTable(t, Options{})
			misbehave(t, s, test.faults...)
			if got := outcomes(c, 8); got != test.want {
				t.Errorf("met %s, want %s", got, test.want)
			}
		})
	}
}

func TestTroubleLasts(t *testing.T) {
	at := newClock()
	s, c := serveTable(t, Options{Clock: at.now})
	misbehave(t, s, Fault{Action: "PutRow", Kind: FaultBusy, After: 2, For: time.Minute})
	text := ""
	for range 8 {
		text += outcomes(c, 1)
		at.advance(15 * time.Second)
	}
	if want := "..xxxx.."; text != want { // a row every 15 seconds
		t.Errorf("met %s, want %s", text, want)
	}
	// What begins by chance lasts by itself.
	misbehave(t, s, Fault{Action: "PutRow", Kind: FaultBusy, Probability: 0.2, For: time.Minute})
	text = outcomes(c, 60)
	if first := strings.Index(text, "x"); first < 1 || strings.Contains(text[first:], ".") {
		t.Errorf("met %s", text)
	}
	at.advance(time.Minute)
	if text := outcomes(c, 60); strings.Contains(text, "x") {
		t.Errorf("met %s after a minute", text)
	}
}

// TestRowsAndRequestsThrottleAtOnce: both at random, in one list.
func TestRowsAndRequestsThrottleAtOnce(t *testing.T) {
	for _, chance := range []float64{0.01, 0.1} {
		s, _ := serveTable(t, Options{Seed: 7})
		misbehave(t, s,
			Fault{Action: "BatchWriteRow", Kind: FaultBusy, Probability: chance},
			Fault{Action: "BatchWriteRow", Kind: FaultEachRow, Rows: chance})
		const requests, rows = 300, 20
		var buffers [][]byte
		for i := range rows {
			buffers = append(buffers, rowBuffer(keyCells("a", int64(i))))
		}
		body := must[[]byte](t)(proto.Marshal(&otsprotocol.BatchWriteRowRequest{Tables: []*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", buffers...)}}))
		refused, failed := 0, 0
		for range requests {
			fault := s.faults.next("BatchWriteRow")
			if fault.refusal() != nil {
				refused++
				continue
			}
			var resp otsprotocol.BatchWriteRowResponse
			rep := must[reply](t)(s.do(request{action: "BatchWriteRow", instance: "demo", body: body}, fault))
			if err := proto.Unmarshal(rep.body, &resp); err != nil {
				t.Fatal(err)
			}
			for _, r := range resp.Tables[0].Rows {
				if !r.GetIsOk() {
					wantCode(t, &serviceError{code: r.GetError().GetCode()}, "OTSServerBusy")
					failed++
				}
			}
		}
		near := func(n, of int) bool { share := float64(n) / float64(of); return share > chance/2 && share < chance*2 }
		if !near(refused, requests) || !near(failed, (requests-refused)*rows) {
			t.Errorf("%d of %d requests and %d of %d rows, want %v of each", refused, requests, failed, (requests-refused)*rows, chance)
		}
	}
}

func TestASeedDecides(t *testing.T) {
	met := map[string]bool{}
	for _, seed := range []uint64{1, 1, 2, 3} {
		s, c := serveTable(t, Options{Seed: seed})
		misbehave(t, s, Fault{Kind: FaultBusy, Probability: 0.5})
		met[outcomes(c, 40)] = true
	}
	if len(met) != 3 {
		t.Errorf("three seeds, one of them twice: outcomes %v", met)
	}
}

func TestFaultsOnACommandLine(t *testing.T) {
	for text, want := range map[string]Fault{
		"GetRange:flip":                             {Action: "GetRange", Kind: FaultFlip},
		"*:busy:0.01":                               {Kind: FaultBusy, Probability: 0.01},
		"BatchWriteRow:rows:0.5:rows=0.1":           {Action: "BatchWriteRow", Kind: FaultRows, Probability: 0.5, Rows: 0.1},
		"*:busy:for=60s:0.001:after=3":              {Kind: FaultBusy, Probability: 0.001, After: 3, For: time.Minute},
		"BatchWriteRow:each-row:rows=0.01":          {Action: "BatchWriteRow", Kind: FaultEachRow, Rows: 0.01},
		"PutRow:cut-after:after=10:times=1":         {Action: "PutRow", Kind: FaultCutAfter, After: 10, Times: 1},
		"DescribeTable:not-ready:times=3:1:after=0": {Action: "DescribeTable", Kind: FaultNotReady, Times: 3, Probability: 1},
	} {
		if got, err := ParseFault(text); err != nil || got != want {
			t.Errorf("%s is %+v, %v, want %+v", text, got, err, want)
		}
	}
	for text, says := range map[string]string{
		"busy":                      "want action:kind",
		"GetRange:explode":          `unknown kind of fault "explode"`,
		"Get:busy":                  `unknown action "Get"`,
		"GetRow:rows":               "does not apply to GetRow",
		"GetRow:busy:1.5":           "not between 0 and 1",
		"GetRow:busy:NaN":           "not between 0 and 1",
		"GetRow:busy:often":         "invalid syntax",
		"GetRow:busy:times=-1":      "negative",
		"GetRow:busy:times=x":       "invalid syntax",
		"GetRow:busy:colour=blue":   `unknown setting "colour"`,
		"GetRow:busy:for=60":        "missing unit",
		"GetRow:busy:for=-1s":       "negative time",
		"GetRow:each-row":           "does not apply to GetRow",
		"BatchWriteRow:rows:rows=2": "not between 0 and 1",
	} {
		if _, err := ParseFault(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

func TestFaultsMeetOperationsOnIndexesAndStreams(t *testing.T) {
	s, c := serveIndexed(t, Options{})
	must[*tablestore.UpdateTableResponse](t)(c.UpdateTable(&tablestore.UpdateTableRequest{TableName: "t", StreamSpec: &tablestore.StreamSpecification{EnableStream: true, ExpirationTime: 1}}))
	stream, it, shard := streamID(t, c), begin(t, c, firstShard), tablestore.ShardId(firstShard)
	schema := schemaOf(field("k", tablestore.FieldType_KEYWORD))
	calls := map[string]func() error{
		"CreateIndex":       func() error { return createIndex(c, global("x", "city"), true) },
		"DropIndex":         func() error { return dropIndex(c, "x") },
		"CreateSearchIndex": func() error { return createSearch(c, "y", schema) },
		"DeleteSearchIndex": func() error { return deleteSearch(c, "y") },
		"UpdateSearchIndex": func() error {
			return updateSearch(c, "y", func(r *tablestore.UpdateSearchIndexRequest) { r.TimeToLive = proto.Int32(-1) })
		},
		"ListSearchIndex": func() error {
			_, err := c.ListSearchIndex(&tablestore.ListSearchIndexRequest{TableName: "t"})
			return err
		},
		"DescribeSearchIndex": func() error {
			_, err := c.DescribeSearchIndex(&tablestore.DescribeSearchIndexRequest{TableName: "t", IndexName: "y"})
			return err
		},
		"DescribeStream": func() error {
			_, err := c.DescribeStream(&tablestore.DescribeStreamRequest{StreamId: stream})
			return err
		},
		"GetShardIterator": func() error {
			_, err := c.GetShardIterator(&tablestore.GetShardIteratorRequest{StreamId: stream, ShardId: &shard})
			return err
		},
		"GetStreamRecord": func() error {
			_, err := c.GetStreamRecord(&tablestore.GetStreamRecordRequest{ShardIterator: it})
			return err
		},
	}
	for action, call := range calls {
		if err := s.Misbehave(Fault{Action: action, Kind: FaultBusy}); err != nil {
			t.Fatal(err)
		}
		wantCode(t, call(), "OTSServerBusy")
	}
	// What a timeout hides has been done.
	for _, step := range []struct{ action, again string }{
		{"CreateIndex", "OTSObjectAlreadyExist"}, {"DropIndex", "OTSObjectNotExist"},
		{"CreateSearchIndex", "OTSObjectAlreadyExist"}, {"DeleteSearchIndex", "OTSObjectNotExist"},
	} {
		if err := s.Misbehave(Fault{Action: step.action, Kind: FaultTimeout, Times: 1}); err != nil {
			t.Fatal(err)
		}
		wantCode(t, calls[step.action](), "OTSTimeout")
		wantCode(t, calls[step.action](), step.again)
	}
}
