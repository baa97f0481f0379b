package local

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

func doubleValue(v float64) value {
	d := integerValue(int64(math.Float64bits(v)))
	d[0] = typeDouble
	return d
}

func binaryValue(b string) value { return bytesValue(typeBinary, []byte(b)) }

// TestEncodingIsTheSDKs holds our bytes against those the SDK makes of the same
// row.
func TestEncodingIsTheSDKs(t *testing.T) {
	pk := key("käse", -7)
	pk.AddPrimaryKeyColumn("b", []byte{0, 255, 0})
	own := append(keyCells("käse", -7), makeCell([]byte("b"), binaryValue("\x00\xff\x00"), 0, false))

	if got, want := rowBuffer(own), pk.Build(false); !bytes.Equal(got, want) {
		t.Errorf("primary key\n%x\nwant\n%x", got, want)
	}
	change := &tablestore.PutRowChange{TableName: "t", PrimaryKey: pk}
	change.AddColumnWithTimestamp("bool", true, 1)
	change.AddColumnWithTimestamp("double", -0.1, 2)
	change.AddColumnWithTimestamp("empty", "", 3)
	change.AddColumnWithTimestamp("integer", int64(math.MinInt64), 4)
	change.AddColumnWithTimestamp("blob", []byte("b"), 5)
	change.AddColumn("undated", "x")
	cells := []cell{
		makeCell([]byte("bool"), value{typeBoolean, 1}, 1, true),
		makeCell([]byte("double"), doubleValue(-0.1), 2, true),
		makeCell([]byte("empty"), stringValue(""), 3, true),
		makeCell([]byte("integer"), integerValue(math.MinInt64), 4, true),
		makeCell([]byte("blob"), binaryValue("b"), 5, true),
		makeCell([]byte("undated"), stringValue("x"), 0, false),
	}
	if got, want := rowBuffer(own, cells...), change.Serialize(); !bytes.Equal(got, want) {
		t.Errorf("put\n%x\nwant\n%x", got, want)
	}
}

// TestRequestsOfTheSDKAreParsed parses what the SDK makes of every kind of
// change, among them operations, whose place differs on the wire and in the
// checksum.
func TestRequestsOfTheSDKAreParsed(t *testing.T) {
	change := &tablestore.UpdateRowChange{TableName: "t", PrimaryKey: key("a", 1)}
	change.PutColumnWithTimestamp("put", "v", 0)
	change.DeleteColumn("all")
	change.DeleteColumnWithTimestamp("one", 9)
	change.IncrementColumn("add", 3)
	var r row
	if err := parseBuffer(change.Serialize(), &r); err != nil {
		t.Fatal(err)
	}
	want := []cell{
		{name: []byte("put"), hasVersion: true},
		{name: []byte("all"), op: opDeleteAll},
		{name: []byte("one"), op: opDeleteOneVersion, hasVersion: true, version: 9},
		{name: []byte("add"), op: opIncrement},
	}
	if len(r.cells) != len(want) {
		t.Fatalf("%d cells, want %d", len(r.cells), len(want))
	}
	for i, w := range want {
		got := r.cells[i]
		if !bytes.Equal(got.name, w.name) || got.op != w.op || got.hasVersion != w.hasVersion || got.version != w.version {
			t.Errorf("cell %d is %+v, want %+v", i, got, w)
		}
	}
	if err := parseBuffer(key("a", 1).Build(true), &r); err != nil || !r.deleted {
		t.Errorf("a deletion parses as %+v, %v", r, err)
	}
}

func TestTheTailOfABoundIsIgnored(t *testing.T) {
	var r row
	// The Node.js SDK leaves a zero byte behind for each infinite column.
	if err := parseBuffer(append(key(lowest, highest).Build(false), 0, 0), &r); err != nil {
		t.Fatal(err)
	}
	if r.key[0].value[0] != typeInfMin || r.key[1].value[0] != typeInfMax {
		t.Errorf("parsed %+v", r.key)
	}
}

// TestNoFlippedBitIsAccepted is what the checksums are for.
func TestNoFlippedBitIsAccepted(t *testing.T) {
	buf := rowBuffer(keyCells("key", 5), makeCell([]byte("a"), stringValue("value"), 77, true), makeCell([]byte("b"), doubleValue(2), 78, true))
	var r row
	for i := range len(buf) * 8 {
		bad := bytes.Clone(buf)
		bad[i/8] ^= 1 << (i % 8)
		if err := parseBuffer(bad, &r); err == nil {
			t.Errorf("bit %d of byte %d flipped: accepted", i%8, i/8)
		}
	}
	for n := range buf {
		if err := parseBuffer(buf[:n], &r); err == nil {
			t.Errorf("cut to %d bytes: accepted", n)
		}
	}
}

// FuzzParseRow: whatever comes in, parsing returns, and what it accepts without
// operations encodes to the bytes it came from.
func FuzzParseRow(f *testing.F) {
	f.Add(rowBuffer(keyCells("key", 5))[4:])
	f.Add(rowBuffer(keyCells("", -1), makeCell([]byte("a"), doubleValue(1), 3, true))[4:])
	update := &tablestore.UpdateRowChange{PrimaryKey: key("a", 1)}
	update.DeleteColumnWithTimestamp("one", 9)
	update.IncrementColumn("add", 3)
	f.Add(update.Serialize()[4:])
	f.Add(key(lowest, highest).Build(true)[4:])
	f.Fuzz(func(t *testing.T, wire []byte) {
		var r row
		rest, err := parseRow(wire, &r)
		if err != nil || r.deleted {
			return
		}
		for _, c := range append(r.key, r.cells...) {
			if c.op != opNone || c.value == nil {
				return
			}
			if made := makeCell(c.name, c.value, c.version, c.hasVersion); !bytes.Equal(made.raw, c.raw) {
				t.Fatalf("cell %x encodes to %x", c.raw, made.raw)
			}
		}
		if got, want := appendRow(nil, r.key, r.cells), wire[:len(wire)-len(rest)]; !bytes.Equal(got, want) {
			t.Fatalf("row %x encodes to %x", want, got)
		}
	})
}

// FuzzRowRoundTrip: a row of anything comes back as it went in.
func FuzzRowRoundTrip(f *testing.F) {
	f.Add("pk", "a", "text", []byte{0, 1}, int64(-1), 0.5, true, int64(7))
	f.Fuzz(func(t *testing.T, pk, name, text string, blob []byte, n int64, x float64, yes bool, version int64) {
		flag := value{typeBoolean, 0}
		if yes {
			flag[1] = 1
		}
		in := row{key: []cell{makeCell([]byte(pk), stringValue(text), 0, false)}}
		for i, v := range []value{stringValue(text), binaryValue(string(blob)), integerValue(n), doubleValue(x), flag} {
			in.cells = append(in.cells, makeCell([]byte(name), v, version, i%2 == 0))
		}
		var out row
		if err := parseBuffer(rowBuffer(in.key, in.cells...), &out); err != nil {
			t.Fatal(err)
		}
		for i, want := range append(in.key, in.cells...) {
			got := append(out.key, out.cells...)[i]
			if !bytes.Equal(got.name, want.name) || !bytes.Equal(got.value, want.value) || got.sum != want.sum ||
				got.hasVersion != want.hasVersion || want.hasVersion && got.version != want.version {
				t.Errorf("cell %d is %+v, was %+v", i, got, want)
			}
		}
	})
}

// FuzzParseFilter: whatever comes in, parsing returns.
func FuzzParseFilter(f *testing.F) {
	single := tablestore.NewSingleColumnCondition("a", tablestore.CT_LESS_THAN, int64(3))
	both := tablestore.NewCompositeColumnCondition(tablestore.LO_AND)
	both.AddFilter(single)
	both.AddFilter(tablestore.NewSingleColumnCondition("b", tablestore.CT_EQUAL, "x"))
	f.Add(single.Serialize())
	f.Add(both.Serialize())
	f.Add((&tablestore.PaginationFilter{Offset: 1, Limit: 2}).Serialize())
	cells := []cell{makeCell([]byte("a"), integerValue(1), 1, true)}
	f.Fuzz(func(t *testing.T, b []byte) {
		parsed, err := parseFilter(b)
		if err != nil {
			return
		}
		if parsed.pages() {
			parsed.cut(cells)
			return
		}
		parsed.matches(nil, cells)
	})
}

// FuzzRequest: whatever body an operation gets, it answers.
func FuzzRequest(f *testing.F) {
	actions := slices.Sorted(maps.Keys(operations))
	for i := range actions {
		f.Add(uint8(i), []byte("\n\x01t"))
	}
	s, err := Open(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	get := &otsprotocol.GetRangeRequest{TableName: proto.String("t"), Direction: otsprotocol.Direction_FORWARD.Enum(), MaxVersions: proto.Int32(1),
		InclusiveStartPrimaryKey: key(lowest, lowest).Build(false), ExclusiveEndPrimaryKey: key(highest, highest).Build(false)}
	create := &otsprotocol.CreateTableRequest{
		TableMeta: &otsprotocol.TableMeta{TableName: proto.String("t"), PrimaryKey: []*otsprotocol.PrimaryKeySchema{
			{Name: proto.String("s"), Type: otsprotocol.PrimaryKeyType_STRING.Enum()},
			{Name: proto.String("i"), Type: otsprotocol.PrimaryKeyType_INTEGER.Enum()},
		}},
		TableOptions:       &otsprotocol.TableOptions{TimeToLive: proto.Int32(-1), MaxVersions: proto.Int32(1)},
		ReservedThroughput: &otsprotocol.ReservedThroughput{CapacityUnit: &otsprotocol.CapacityUnit{}},
	}
	for action, message := range map[string]proto.Message{
		"CreateTable":   create,
		"GetRange":      get,
		"PutRow":        &otsprotocol.PutRowRequest{TableName: proto.String("t"), Row: rowBuffer(keyCells("a", 1)), Condition: ignore()},
		"BatchWriteRow": &otsprotocol.BatchWriteRowRequest{Tables: []*otsprotocol.TableInBatchWriteRowRequest{batchOf("t", rowBuffer(keyCells("a", 1)))}},
	} {
		body, err := proto.Marshal(message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(slices.Index(actions, action)), body)
	}
	f.Fuzz(func(t *testing.T, i uint8, body []byte) {
		action := actions[int(i)%len(actions)]
		if _, err := s.do(request{action: action, instance: "demo", body: body}, Fault{}); err != nil && asServiceError(err).status >= 500 {
			t.Errorf("%s: %v", action, err)
		}
	})
}
