package local

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// streaming describes the table t of tableOf with a stream of a day.
func streaming(columns ...string) *tablestore.CreateTableRequest {
	req := tableOf("t")
	req.StreamSpec = &tablestore.StreamSpecification{EnableStream: true, ExpirationTime: 24, OriginColumnsToGet: columns}
	return req
}

func serveStream(t *testing.T, o Options, columns ...string) (*Server, *tablestore.TableStoreClient) {
	t.Helper()
	s, c := serve(t, o)
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(streaming(columns...)))
	return s, c
}

func streamID(t *testing.T, c *tablestore.TableStoreClient) *tablestore.StreamId {
	t.Helper()
	list := must[*tablestore.ListStreamResponse](t)(c.ListStream(&tablestore.ListStreamRequest{TableName: proto.String("t")}))
	if len(list.Streams) != 1 {
		t.Fatalf("streams %+v", list.Streams)
	}
	return list.Streams[0].Id
}

// shardsOf shows the shards of t's stream as id<parent.
func shardsOf(t *testing.T, c *tablestore.TableStoreClient) (shown []string) {
	t.Helper()
	described := must[*tablestore.DescribeStreamResponse](t)(c.DescribeStream(&tablestore.DescribeStreamRequest{StreamId: streamID(t, c)}))
	for _, sh := range described.Shards {
		text := string(*sh.SelfShard)
		if sh.FatherShard != nil {
			text += "<" + string(*sh.FatherShard)
		}
		if sh.MotherShard != nil {
			t.Errorf("shard %s has a second parent", text)
		}
		shown = append(shown, text)
	}
	return shown
}

func begin(t *testing.T, c *tablestore.TableStoreClient, shard string, at ...int64) *tablestore.ShardIterator {
	t.Helper()
	id := tablestore.ShardId(shard)
	req := &tablestore.GetShardIteratorRequest{StreamId: streamID(t, c), ShardId: &id}
	if len(at) > 0 {
		req.Timestamp = &at[0]
	}
	return must[*tablestore.GetShardIteratorResponse](t)(c.GetShardIterator(req)).ShardIterator
}

// readOn reads until there is nothing new and shows the records; next is nil at
// the end of the shard.
func readOn(t *testing.T, c *tablestore.TableStoreClient, from *tablestore.ShardIterator, limit int32) (records []string, next *tablestore.ShardIterator) {
	t.Helper()
	for from != nil {
		req := &tablestore.GetStreamRecordRequest{ShardIterator: from}
		if limit > 0 {
			req.Limit = &limit
		}
		resp := must[*tablestore.GetStreamRecordResponse](t)(c.GetStreamRecord(req))
		if limit > 0 && len(resp.Records) > int(limit) {
			t.Errorf("%d records, want %d at most", len(resp.Records), limit)
		}
		for _, r := range resp.Records {
			records = append(records, showRecord(r))
		}
		if resp.NextShardIterator != nil && *resp.NextShardIterator == *from {
			if len(resp.Records) > 0 || *resp.MayMoreRecord {
				t.Errorf("the iterator stays for %d records", len(resp.Records))
			}
			return records, from
		}
		from = resp.NextShardIterator
	}
	return records, nil
}

// showRecord writes a record on a line, without times.
func showRecord(r *tablestore.StreamRecord) string {
	text := map[tablestore.ActionType]string{tablestore.AT_Put: "put", tablestore.AT_Update: "update", tablestore.AT_Delete: "delete"}[r.Type]
	for _, k := range r.PrimaryKey.PrimaryKeys {
		text += fmt.Sprint(" ", k.Value)
	}
	text += ":" + showColumns(r.Columns)
	if r.OriginColumns != nil {
		text += " was" + showColumns(r.OriginColumns)
	}
	return text
}

func showColumns(columns []*tablestore.RecordColumn) (text string) {
	for _, c := range columns {
		switch c.Type {
		case tablestore.RCT_Put:
			text += fmt.Sprintf(" %s=%v", *c.Name, c.Value)
		case tablestore.RCT_DeleteOneVersion:
			text += fmt.Sprintf(" %s@%d!", *c.Name, *c.Timestamp)
		default:
			text += fmt.Sprintf(" %s!", *c.Name)
		}
	}
	return text
}

const firstShard = "shard-000000"

func TestAStreamTellsEveryWrite(t *testing.T) {
	dir := t.TempDir()
	want := []string{
		"put a 1: x=1 y=one",
		"update a 1: x=2 y@7! z! n=5",
		"update a 1: n=8",
		"put a 1: x=3",
		"delete a 1:",
		"delete nobody 1:",
		"put b 1:",
		"put b 2: x=1",
		"put c 1: x=1",
		"put c 2: x=2",
	}
	t.Run("written", func(t *testing.T) {
		_, c := serveStream(t, Options{Dir: dir})
		it := begin(t, c, firstShard)
		if records, next := readOn(t, c, it, 0); len(records) != 0 || *next != *it {
			t.Errorf("a new stream has records %q", records)
		}
		for _, err := range []error{
			put(c, key("a", 1), col{"y", "one", 7}, col{"x", int64(1), 0}),
			update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) {
				ch.PutColumn("x", int64(2))
				ch.DeleteColumnWithTimestamp("y", 7)
				ch.DeleteColumn("z")
				ch.PutColumn("n", int64(5))
			}),
			update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.IncrementColumn("n", 3) }),
			put(c, key("a", 1), col{"x", int64(3), 0}),
			remove(c, key("a", 1)),
			remove(c, key("nobody", 1)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		refused := putChange(key("nobody", 1))
		refused.SetCondition(tablestore.RowExistenceExpectation_EXPECT_EXIST)
		_, err := c.PutRow(&tablestore.PutRowRequest{PutRowChange: refused})
		wantCode(t, err, "OTSConditionCheckFail")
		batch := &tablestore.BatchWriteRowRequest{}
		batch.AddRowChange(putChange(key("b", 1)))
		batch.AddRowChange(putChange(key("b", 2), col{"x", int64(1), 0}))
		batch.AddRowChange(refused)
		must[*tablestore.BatchWriteRowResponse](t)(c.BatchWriteRow(batch))
		atomic := &tablestore.BatchWriteRowRequest{IsAtomic: true}
		atomic.AddRowChange(putChange(key("c", 1), col{"x", int64(1), 0}))
		atomic.AddRowChange(putChange(key("c", 2), col{"x", int64(2), 0}))
		must[*tablestore.BatchWriteRowResponse](t)(c.BatchWriteRow(atomic))
		failed := &tablestore.BatchWriteRowRequest{IsAtomic: true}
		failed.AddRowChange(putChange(key("nobody", 2)))
		failed.AddRowChange(refused)
		must[*tablestore.BatchWriteRowResponse](t)(c.BatchWriteRow(failed))
		got, _ := readOn(t, c, it, 0)
		wantRows(t, got, want...)
	})
	t.Run("restarted", func(t *testing.T) {
		_, c := serve(t, Options{Dir: dir})
		got, next := readOn(t, c, begin(t, c, firstShard), 3)
		wantRows(t, got, want...)
		if err := put(c, key("d", 1)); err != nil {
			t.Fatal(err)
		}
		got, _ = readOn(t, c, next, 0)
		wantRows(t, got, "put d 1:")
	})
}

func TestRecordsHaveTheOldValuesAskedFor(t *testing.T) {
	_, c := serveStream(t, Options{}, "x", "y")
	for _, err := range []error{
		put(c, key("a", 1), col{"x", int64(1), 5}, col{"x", int64(2), 6}, col{"z", int64(9), 5}),
		update(c, key("a", 1), func(ch *tablestore.UpdateRowChange) { ch.PutColumnWithTimestamp("y", "new", 5) }),
		put(c, key("a", 1)),
		remove(c, key("a", 1)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got, _ := readOn(t, c, begin(t, c, firstShard), 0)
	wantRows(t, got, "put a 1: x=2 x=1 z=9", "update a 1: y=new was x=2", "put a 1: was x=2 y=new", "delete a 1: was")
}

func TestRecordsAreNumberedAndChecked(t *testing.T) {
	at := newClock()
	s, c := serveStream(t, Options{Clock: at.now})
	for i := range 3 {
		if err := put(c, key("a", i), col{"x", int64(i), 0}); err != nil {
			t.Fatal(err)
		}
	}
	if err := remove(c, key("a", 1)); err != nil {
		t.Fatal(err)
	}
	it := begin(t, c, firstShard)
	resp := must[*tablestore.GetStreamRecordResponse](t)(c.GetStreamRecord(&tablestore.GetStreamRecordRequest{ShardIterator: it, TableName: proto.String("t")}))
	for i, r := range resp.Records {
		if r.Info.Timestamp != at.now().UnixMicro()+int64(i) || r.Info.Epoch != 0 || r.Info.RowIndex != 0 || r.TableName != "t" {
			t.Errorf("record %d is %+v of table %s", i, r.Info, r.TableName)
		}
	}
	var raw otsprotocol.GetStreamRecordResponse
	if err := ask(t, s, "GetStreamRecord", &otsprotocol.GetStreamRecordRequest{ShardIterator: (*string)(it)}, &raw); err != nil {
		t.Fatal(err)
	}
	for i, r := range raw.StreamRecords {
		var parsed row
		if err := parseBuffer(r.Record, &parsed); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
		if parsed.deleted != (i == 3) {
			t.Errorf("record %d has a delete marker: %t", i, parsed.deleted)
		}
	}
	if err := s.Misbehave(Fault{Action: "GetStreamRecord", Kind: FaultCorrupt}); err != nil {
		t.Fatal(err)
	}
	rep, err := s.do(request{action: "GetStreamRecord", instance: "demo", body: must[[]byte](t)(proto.Marshal(&otsprotocol.GetStreamRecordRequest{ShardIterator: (*string)(it)}))}, Fault{})
	if err != nil {
		t.Fatal(err)
	}
	damaged := must[[]byte](t)(s.faults.corrupt("GetStreamRecord", rep.body))
	if err := proto.Unmarshal(damaged, &raw); err != nil {
		t.Fatal(err)
	}
	broken := 0
	for _, r := range raw.StreamRecords {
		if parseBuffer(r.Record, new(row)) != nil {
			broken++
		}
	}
	if broken != 1 {
		t.Errorf("%d records are broken by a fault, want 1", broken)
	}
}

func TestAnIteratorBeginsAtATime(t *testing.T) {
	at := newClock()
	_, c := serveStream(t, Options{Clock: at.now})
	for i := range 4 {
		if err := put(c, key("a", i)); err != nil {
			t.Fatal(err)
		}
		at.advance(time.Minute)
	}
	start := at.now().Add(-4 * time.Minute).UnixMicro()
	for _, test := range []struct {
		at   int64
		want int
	}{
		{0, 4}, {start, 4}, {start + 1, 3}, {start + 2*60e6, 2}, {start + 3*60e6 + 1, 0}, {at.now().UnixMicro() + 3600e6, 0},
	} {
		if got, _ := readOn(t, c, begin(t, c, firstShard, test.at), 0); len(got) != test.want {
			t.Errorf("from %d on there are %q, want %d", test.at-start, got, test.want)
		}
	}
}

func TestShardsSplit(t *testing.T) {
	dir := t.TempDir()
	shards := []string{firstShard, "shard-000001<" + firstShard, "shard-000002<" + firstShard}
	t.Run("asked for", func(t *testing.T) {
		s, c := serveStream(t, Options{Dir: dir})
		if err := s.SplitStream("demo", "t"); err == nil || !strings.Contains(err.Error(), "no shard has rows") {
			t.Errorf("an empty table: %v", err)
		}
		for _, k := range "abcd" {
			if err := put(c, key(string(k), 1)); err != nil {
				t.Fatal(err)
			}
		}
		it := begin(t, c, firstShard)
		if err := s.SplitStream("demo", "t"); err != nil {
			t.Fatal(err)
		}
		if got := shardsOf(t, c); !slices.Equal(got, shards) {
			t.Errorf("shards %q, want %q", got, shards)
		}
		for _, k := range "abcde" {
			if err := remove(c, key(string(k), 1)); err != nil {
				t.Fatal(err)
			}
		}
		got, end := readOn(t, c, it, 2)
		wantRows(t, got, "put a 1:", "put b 1:", "put c 1:", "put d 1:")
		if end != nil {
			t.Errorf("the first shard goes on at %q", *end)
		}
	})
	t.Run("restarted", func(t *testing.T) {
		_, c := serve(t, Options{Dir: dir})
		if got := shardsOf(t, c); !slices.Equal(got, shards) {
			t.Errorf("shards %q, want %q", got, shards)
		}
		low, next := readOn(t, c, begin(t, c, "shard-000001"), 0)
		wantRows(t, low, "delete a 1:", "delete b 1:")
		if next == nil {
			t.Error("an open shard has ended")
		}
		high, _ := readOn(t, c, begin(t, c, "shard-000002"), 0)
		wantRows(t, high, "delete c 1:", "delete d 1:", "delete e 1:")

		id := tablestore.ShardId(firstShard)
		var pages []string
		for start := &id; start != nil; {
			limit := int32(2)
			page := must[*tablestore.DescribeStreamResponse](t)(c.DescribeStream(&tablestore.DescribeStreamRequest{StreamId: streamID(t, c), InclusiveStartShardId: start, ShardLimit: &limit}))
			pages = append(pages, fmt.Sprint(len(page.Shards)))
			start = page.NextShardId
		}
		wantRows(t, pages, "2", "1")
	})
}

func TestRowsOfOnePartitionStayInOneShard(t *testing.T) {
	s, c := serveStream(t, Options{})
	for i := range 10 {
		if err := put(c, key("a", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SplitStream("demo", "t"); err == nil {
		t.Error("rows with one partition key were parted")
	}
	if err := put(c, key("b", 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.SplitStream("demo", "t"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"nowhere", "u"} {
		if name == "u" {
			must[*tablestore.CreateTableResponse](t)(c.CreateTable(tableOf("u")))
		}
		if err := s.SplitStream("demo", name); err == nil || !strings.Contains(err.Error(), "with a stream") {
			t.Errorf("table %s: %v", name, err)
		}
	}
}

// TestAGrowingStreamSplits writes from several sides while the shards split, and
// reads all of them, parents first, as they are written.
func TestAGrowingStreamSplits(t *testing.T) {
	_, c := serveStream(t, Options{ShardRecords: 60})
	const writers, rows = 4, 100
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rows {
				if err := put(c, key(fmt.Sprintf("%02d-%d", i%25, w), 0), col{"x", int64(i), 0}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()

	ended, at := map[string]bool{}, map[string]*tablestore.ShardIterator{}
	last, seen := map[string]int{}, 0
	read := func() (ends bool) {
		for _, shard := range shardsOf(t, c) {
			id, parent, _ := strings.Cut(shard, "<")
			if ended[id] || parent != "" && !ended[parent] {
				continue
			}
			if at[id] == nil {
				at[id] = begin(t, c, id)
			}
			var records []string
			if records, at[id] = readOn(t, c, at[id], 7); at[id] == nil {
				ended[id], ends = true, true
			}
			for _, r := range records {
				seen++
				name, x, _ := strings.Cut(strings.TrimPrefix(r, "put "), " 0: x=")
				var n int
				fmt.Sscan(x, &n)
				if before, again := last[name]; again && n <= before {
					t.Errorf("row %s has %d after %d", name, n, before)
				}
				last[name] = n
			}
		}
		return ends
	}
	for writing := true; writing; {
		select {
		case <-done:
			writing = false
		default:
		}
		read()
	}
	for read() {
	}
	if seen != writers*rows {
		t.Errorf("%d records were read of %d written", seen, writers*rows)
	}
	if len(ended) < 2 {
		t.Errorf("only shards %v have split", slices.Collect(maps.Keys(ended)))
	}
}

func TestRecordsExpire(t *testing.T) {
	at, dir := newClock(), t.TempDir()
	putAt := func(s *Server, name string) {
		t.Helper()
		err := ask(t, s, "PutRow", &otsprotocol.PutRowRequest{TableName: proto.String("t"), Row: rowBuffer(keyCells(name, 1)), Condition: ignore()}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(s *Server, it string) (n int, next string, err error) {
		var got otsprotocol.GetStreamRecordResponse
		err = ask(t, s, "GetStreamRecord", &otsprotocol.GetStreamRecordRequest{ShardIterator: &it}, &got)
		return len(got.StreamRecords), got.GetNextShardIterator(), err
	}
	first := func(s *Server, id, shard string) (string, error) {
		var got otsprotocol.GetShardIteratorResponse
		err := ask(t, s, "GetShardIterator", &otsprotocol.GetShardIteratorRequest{StreamId: &id, ShardId: &shard}, &got)
		return got.GetShardIterator(), err
	}
	var id, oldest, drained string
	t.Run("by the clock", func(t *testing.T) {
		s, c := serveStream(t, Options{Dir: dir, Clock: at.now})
		id = string(*streamID(t, c))
		oldest = string(*begin(t, c, firstShard))
		putAt(s, "a")
		_, drained, _ = read(s, oldest)
		at.advance(time.Hour)
		putAt(s, "b")
		at.advance(23 * time.Hour)
		if n, _, err := read(s, oldest); n != 2 || err != nil {
			t.Errorf("on the hour %d records, %v", n, err)
		}
		at.advance(time.Microsecond)
		_, _, err := read(s, oldest)
		wantCode(t, err, "OTSTrimmedDataAccess", "already trimmed")
		if n, _, err := read(s, drained); n != 1 || err != nil {
			t.Errorf("behind what has expired are %d records, %v", n, err)
		}
		it, err := first(s, id, firstShard)
		if err != nil {
			t.Fatal(err)
		}
		if n, _, err := read(s, it); n != 1 || err != nil {
			t.Errorf("a new iterator reads %d records, %v", n, err)
		}
	})
	t.Run("restarted", func(t *testing.T) {
		s := must[*Server](t)(Open(Options{Dir: dir, Clock: at.now}))
		defer s.Close()
		_, _, err := read(s, oldest)
		wantCode(t, err, "OTSTrimmedDataAccess")
		if n, _, err := read(s, drained); n != 1 || err != nil {
			t.Errorf("behind what is deleted are %d records, %v", n, err)
		}
		if err := s.SplitStream("demo", "t"); err != nil {
			t.Fatal(err)
		}
		at.advance(24*time.Hour - time.Microsecond)
		if _, err := first(s, id, firstShard); err != nil {
			t.Errorf("a shard that ended less than a day ago: %v", err)
		}
		at.advance(time.Microsecond)
		_, err = first(s, id, firstShard)
		wantCode(t, err, "OTSTrimmedDataAccess")
		var got otsprotocol.DescribeStreamResponse
		if err := ask(t, s, "DescribeStream", &otsprotocol.DescribeStreamRequest{StreamId: &id}, &got); err != nil || len(got.Shards) != 2 {
			t.Errorf("shards %v, %v", got.Shards, err)
		}
	})
}

func TestADisabledStreamIsGone(t *testing.T) {
	at := newClock()
	s, c := serveStream(t, Options{Clock: at.now})
	if err := put(c, key("a", 1)); err != nil {
		t.Fatal(err)
	}
	id, it := streamID(t, c), begin(t, c, firstShard)
	set := func(spec tablestore.StreamSpecification) {
		t.Helper()
		must[*tablestore.UpdateTableResponse](t)(c.UpdateTable(&tablestore.UpdateTableRequest{TableName: "t", StreamSpec: &spec}))
	}
	set(tablestore.StreamSpecification{})
	_, err := c.GetStreamRecord(&tablestore.GetStreamRecordRequest{ShardIterator: it})
	wantCode(t, err, "OTSObjectNotExist", "Requested stream does not exist.")
	_, err = c.DescribeStream(&tablestore.DescribeStreamRequest{StreamId: id})
	wantCode(t, err, "OTSObjectNotExist")
	if err := put(c, key("b", 1)); err != nil {
		t.Fatal(err)
	}
	at.advance(time.Second)
	set(tablestore.StreamSpecification{EnableStream: true, ExpirationTime: 168})
	if err := put(c, key("c", 1)); err != nil {
		t.Fatal(err)
	}
	got, _ := readOn(t, c, begin(t, c, firstShard), 0)
	wantRows(t, got, "put c 1:")
	must[*tablestore.DeleteTableResponse](t)(c.DeleteTable(&tablestore.DeleteTableRequest{TableName: "t"}))
	if list := must[*tablestore.ListStreamResponse](t)(c.ListStream(&tablestore.ListStreamRequest{})); len(list.Streams) != 0 {
		t.Errorf("streams %+v", list.Streams)
	}
	iter, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer iter.Close()
	if iter.SeekGE([]byte{prefixRecord}) && iter.Key()[0] == prefixRecord {
		t.Error("records outlive their table")
	}
}

func TestStreamRequestsAreRefused(t *testing.T) {
	s, c := serveStream(t, Options{})
	id, it := (*string)(streamID(t, c)), (*string)(begin(t, c, firstShard))
	for _, test := range []struct {
		action  string
		message proto.Message
		code    string
		says    string
	}{
		{"DescribeStream", &otsprotocol.DescribeStreamRequest{StreamId: proto.String("none")}, "OTSObjectNotExist", "Requested stream"},
		{"DescribeStream", &otsprotocol.DescribeStreamRequest{StreamId: id, ShardLimit: proto.Int32(0)}, "OTSParameterInvalid", "shard limit: 0"},
		{"DescribeStream", &otsprotocol.DescribeStreamRequest{StreamId: id, InclusiveStartShardId: proto.String("none")}, "OTSTrimmedDataAccess", "does not exist"},
		{"GetShardIterator", &otsprotocol.GetShardIteratorRequest{StreamId: proto.String("none"), ShardId: proto.String(firstShard)}, "OTSObjectNotExist", "Requested stream"},
		{"GetShardIterator", &otsprotocol.GetShardIteratorRequest{StreamId: id, ShardId: proto.String("none")}, "OTSTrimmedDataAccess", "does not exist"},
		{"GetShardIterator", &otsprotocol.GetShardIteratorRequest{StreamId: id, ShardId: proto.String(firstShard), Timestamp: proto.Int64(-1)}, "OTSParameterInvalid", "timestamp: -1"},
		{"GetShardIterator", &otsprotocol.GetShardIteratorRequest{StreamId: id, ShardId: proto.String(firstShard), Token: proto.String("t")}, "OTSParameterInvalid", "token"},
		{"GetStreamRecord", &otsprotocol.GetStreamRecordRequest{ShardIterator: proto.String("none")}, "OTSParameterInvalid", "Invalid shard iterator"},
		{"GetStreamRecord", &otsprotocol.GetStreamRecordRequest{ShardIterator: proto.String("a\tb\t-1")}, "OTSParameterInvalid", "Invalid shard iterator"},
		{"GetStreamRecord", &otsprotocol.GetStreamRecordRequest{ShardIterator: it, Limit: proto.Int32(0)}, "OTSParameterInvalid", "greater than 0"},
		{"GetStreamRecord", &otsprotocol.GetStreamRecordRequest{ShardIterator: it, TableName: proto.String("u")}, "OTSParameterInvalid", "'u'"},
		{"GetStreamRecord", &otsprotocol.GetStreamRecordRequest{ShardIterator: it, ReturnSysColumns: proto.Bool(true)}, "OTSUnsupportOperation", "system columns"},
		{"GetStreamRecord", &otsprotocol.GetStreamRecordRequest{ShardIterator: it, NewRowReturnPolicy: otsprotocol.NewRowReturnPolicy_WITH_NEW_ROW.Enum()}, "OTSUnsupportOperation", "new rows"},
	} {
		wantCode(t, ask(t, s, test.action, test.message, nil), test.code, test.says)
	}
}

func TestAnAnswerHasSoManyRecords(t *testing.T) {
	s, c := serveStream(t, Options{})
	it := begin(t, c, firstShard)
	for i := range maxRecords / maxBatchWrite {
		putMany(t, s, i*maxBatchWrite, maxBatchWrite, 0)
	}
	putMany(t, s, maxRecords, 1, 0)
	read := func(it *tablestore.ShardIterator) *tablestore.GetStreamRecordResponse {
		return must[*tablestore.GetStreamRecordResponse](t)(c.GetStreamRecord(&tablestore.GetStreamRecordRequest{ShardIterator: it, Limit: proto.Int32(maxRecords + 1)}))
	}
	resp := read(it)
	if len(resp.Records) != maxRecords || !*resp.MayMoreRecord {
		t.Errorf("%d records, more %t", len(resp.Records), *resp.MayMoreRecord)
	}
	if resp = read(resp.NextShardIterator); len(resp.Records) != 1 || *resp.MayMoreRecord || resp.CapacityUnit.Read != 1 {
		t.Errorf("then %d records, more %t, for %d units", len(resp.Records), *resp.MayMoreRecord, resp.CapacityUnit.Read)
	}
	putMany(t, s, 0, 3, 2<<20)
	if resp = read(resp.NextShardIterator); len(resp.Records) != 2 || !*resp.MayMoreRecord {
		t.Errorf("%d records of 2 MiB at a time, more %t", len(resp.Records), *resp.MayMoreRecord)
	}
}

// putMany writes rows from a number on, each with a value of so many bytes.
func putMany(t *testing.T, s *Server, from, n, size int) {
	t.Helper()
	var rows [][]byte
	for i := range n {
		var cells []cell
		if size > 0 {
			cells = []cell{makeCell([]byte("x"), stringValue(strings.Repeat("x", size)), 0, false)}
		}
		rows = append(rows, rowBuffer(keyCells("r", int64(from+i)), cells...))
	}
	for len(rows) > 0 {
		count := len(rows)
		if size > 0 {
			count = 1
		}
		req := &otsprotocol.BatchWriteRowRequest{Tables: []*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", rows[:count]...)}}
		if err := ask(t, s, "BatchWriteRow", req, nil); err != nil {
			t.Fatal(err)
		}
		rows = rows[count:]
	}
}
