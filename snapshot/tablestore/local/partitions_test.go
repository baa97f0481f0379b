package local

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

// writesOf shows the seconds in which a table was written as rows/units of each
// partition, and !n after them where n were refused.
func writesOf(s *Server, table string) (seconds []string) {
	for _, second := range s.Writes("demo", table) {
		var parts []string
		for _, p := range second.Partitions {
			text := fmt.Sprintf("%d/%d", p.Rows, p.Units)
			if p.Refused > 0 {
				text += fmt.Sprintf("!%d", p.Refused)
			}
			parts = append(parts, text)
		}
		seconds = append(seconds, strings.Join(parts, " "))
	}
	return seconds
}

func TestWritesAreCountedByPartitionAndSecond(t *testing.T) {
	at := newClock()
	s, c := serve(t, Options{Clock: at.now})
	if err := s.Partition("demo", "t", "m", "m\x00", "t"); err != nil { // before there is one
		t.Fatal(err)
	}
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(tableOf("t")))
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(tableOf("whole")))

	start := at.now()
	batch := &tablestore.BatchWriteRowRequest{}
	for _, k := range []string{"", "a", "lzz", "m", "mm", "s\xff", "t", "z"} {
		batch.AddRowChange(putChange(key(strings.ToValidUTF8(k, "z"), 1)))
	}
	elsewhere := putChange(key("t", 1))
	elsewhere.TableName = "whole"
	batch.AddRowChange(elsewhere)
	must[*tablestore.BatchWriteRowResponse](t)(c.BatchWriteRow(batch))
	at.advance(2 * time.Second)
	if err := put(c, key("z", 2), col{"x", strings.Repeat("v", 8<<10), 0}); err != nil {
		t.Fatal(err)
	}
	if err := remove(c, key("m", 1)); err != nil {
		t.Fatal(err)
	}
	want := []string{"3/3 1/1 2/2 2/2", "0/0 1/1 0/0 1/3"}
	if got := writesOf(s, "t"); !slices.Equal(got, want) {
		t.Errorf("written %q, want %q", got, want)
	}
	if got := writesOf(s, "whole"); !slices.Equal(got, []string{"1/1"}) {
		t.Errorf("written %q to the table that is not cut", got)
	}
	if seconds := s.Writes("demo", "t"); !seconds[0].At.Equal(start) || !seconds[1].At.Equal(start.Add(2*time.Second)) {
		t.Errorf("written at %v and %v, want %v and 2 s later", seconds[0].At, seconds[1].At, start)
	}

	must[*tablestore.DeleteTableResponse](t)(c.DeleteTable(&tablestore.DeleteTableRequest{TableName: "t"}))
	if got := writesOf(s, "t"); len(got) > 0 {
		t.Errorf("%q of a table that is gone", got)
	}
	must[*tablestore.CreateTableResponse](t)(c.CreateTable(tableOf("t")))
	if err := put(c, key("z", 2)); err != nil {
		t.Fatal(err)
	}
	if got := writesOf(s, "t"); !slices.Equal(got, []string{"0/0 0/0 0/0 1/1"}) {
		t.Errorf("written %q to the table made again", got)
	}
}

// TestASortedWriterIsSeen: the same rows in the same time, in the order of their
// keys and across them.
func TestASortedWriterIsSeen(t *testing.T) {
	const parts, rows = 4, 100
	for name, test := range map[string]struct {
		part func(i int) int // that row i is in
		want int64           // rows at most in one partition and second
	}{
		"sorted": {func(i int) int { return i / (rows / parts) }, 10},
		"across": {func(i int) int { return i % parts }, 3},
	} {
		at := newClock()
		s, c := serveTable(t, Options{Clock: at.now})
		if err := s.Partition("demo", "t", "1", "2", "3"); err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			if err := put(c, key(fmt.Sprint(test.part(i)), i)); err != nil {
				t.Fatal(err)
			}
			at.advance(time.Second / 10)
		}
		peak := int64(0)
		for _, second := range s.Writes("demo", "t") {
			for _, p := range second.Partitions {
				peak = max(peak, p.Rows)
			}
		}
		if peak != test.want {
			t.Errorf("%s: %d rows in one partition and second, want %d", name, peak, test.want)
		}
	}
}

func TestTenMinutesOfWritesAreKept(t *testing.T) {
	at := newClock()
	l, start := newLoads(0), at.now()
	ch := &change{table: &definition{Instance: "demo", Name: "t", Key: []keyColumn{{"s", typeString, false}}}, key: append(rowsPrefix(1), "a\x00\x00"...)}
	for range 2 * maxLoadSeconds {
		if err := l.admit(ch, at.millis()); err != nil {
			t.Fatal(err)
		}
		at.advance(time.Second)
	}
	got := l.of(tableName{"demo", "t"})
	if len(got) != maxLoadSeconds || !got[0].At.Equal(start.Add(maxLoadSeconds*time.Second)) {
		t.Errorf("%d seconds are kept from %v on", len(got), got[0].At.Sub(start))
	}
	at.advance(-time.Hour)
	if err := l.admit(ch, at.millis()); err != nil {
		t.Fatal(err)
	}
	if got := l.of(tableName{"demo", "t"}); len(got) != maxLoadSeconds || got[maxLoadSeconds-1].Partitions[0].Rows != 2 {
		t.Errorf("a clock set back: %d seconds, the last %+v", len(got), got[len(got)-1])
	}
}

func TestAHotPartitionThrottles(t *testing.T) {
	at := newClock()
	s, c := serveTable(t, Options{Clock: at.now, PartitionWrites: 10})
	if err := s.Partition("demo", "t", "m"); err != nil {
		t.Fatal(err)
	}
	write := func(n int, k func(i int) string) (busy int) {
		b := &tablestore.BatchWriteRowRequest{}
		for i := range n {
			b.AddRowChange(putChange(key(k(i), i)))
		}
		for _, r := range must[*tablestore.BatchWriteRowResponse](t)(c.BatchWriteRow(b)).TableToRowsResult["t"] {
			if !r.IsSucceed {
				wantCode(t, &tablestore.OtsError{Code: r.Error.Code, Message: r.Error.Message}, "OTSServerBusy")
				busy++
			}
		}
		return busy
	}
	one := func(int) string { return "a" }
	both := func(i int) string { return []string{"a", "z"}[i%2] }
	if busy := write(20, one); busy != 10 {
		t.Errorf("%d rows of 20 in one partition refused, want 10", busy)
	}
	at.advance(time.Second)
	if busy := write(20, both); busy != 0 {
		t.Errorf("%d rows of 20 in two partitions refused, want none", busy)
	}
	wantCode(t, put(c, key("a", 1)), "OTSServerBusy")
	if n := len(scanAll(t, c, everything())); n != 25 { // five rows were written twice
		t.Errorf("%d rows are there, want 25", n)
	}
	if got, want := writesOf(s, "t"), []string{"10/10!10 0/0", "10/10!1 10/10"}; !slices.Equal(got, want) {
		t.Errorf("written %q, want %q", got, want)
	}
	at.advance(time.Second)
	if err := put(c, key("a", 1), col{"x", strings.Repeat("v", 1<<20), 0}); err != nil {
		t.Errorf("a row larger than a partition takes a second: %v", err)
	}
}

func TestPartitionsOfEveryTypeOfKey(t *testing.T) {
	s, c := serve(t, Options{})
	for name, test := range map[string]struct {
		typ   tablestore.PrimaryKeyType
		cuts  []any
		write []any
	}{
		"ints":    {tablestore.PrimaryKeyType_INTEGER, []any{int64(-5), int64(0)}, []any{int64(-6), int64(-5), int64(-1), int64(0), int64(1)}},
		"strings": {tablestore.PrimaryKeyType_STRING, []any{"b", "bb"}, []any{"a", "b", "ba", "bb", "c"}},
		"bytes":   {tablestore.PrimaryKeyType_BINARY, []any{[]byte{0}, []byte{0, 0xff}}, []any{[]byte{}, []byte{0}, []byte{0, 0}, []byte{0, 0xff}, []byte{1}}},
		"other":   {tablestore.PrimaryKeyType_STRING, []any{int64(1)}, []any{"a", "z", "b", "c", "d"}},
	} {
		if err := s.Partition("demo", name, test.cuts...); err != nil {
			t.Fatal(err)
		}
		req := tableOf(name)
		req.TableMeta.SchemaEntry = nil
		req.TableMeta.AddPrimaryKeyColumn("k", test.typ)
		must[*tablestore.CreateTableResponse](t)(c.CreateTable(req))
		for _, v := range test.write {
			pk := &tablestore.PrimaryKey{}
			pk.AddPrimaryKeyColumn("k", v)
			ch := putChange(pk)
			ch.TableName = name
			must[*tablestore.PutRowResponse](t)(c.PutRow(&tablestore.PutRowRequest{PutRowChange: ch}))
		}
		want := []int64{1, 2, 2}
		if name == "other" { // than the key's: the table is not cut
			want = []int64{5, 0}
		}
		got := make([]int64, len(want))
		for _, second := range s.Writes("demo", name) {
			for i, p := range second.Partitions {
				got[i] += p.Rows
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: rows %v, want %v", name, got, want)
		}
	}
}

func TestPartitionsAreRefused(t *testing.T) {
	s, _ := serve(t, Options{})
	many := make([]any, maxPartitions)
	for i := range many {
		many[i] = int64(i)
	}
	if err := s.Partition("demo", "t", many[1:]...); err != nil {
		t.Errorf("%d partitions: %v", maxPartitions, err)
	}
	for says, at := range map[string][]any{
		"is a int":         {1},
		"is a float64":     {"a", 1.5},
		"does not follow":  {"b", "a"},
		"a does not":       {"a", "a"},
		"of one type":      {int64(1), "a"},
		"the limit is 255": many,
	} {
		if err := s.Partition("demo", "t", at...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v, want %q", at[:min(2, len(at))], err, says)
		}
	}
}
