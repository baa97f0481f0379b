package tablestore

import (
	"bytes"
	"math"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// FuzzParseRange holds what is read by hand against the generated code.
func FuzzParseRange(f *testing.F) {
	capacity := &otsprotocol.ConsumedCapacity{CapacityUnit: &otsprotocol.CapacityUnit{Read: proto.Int32(1)}}
	for _, m := range []*otsprotocol.GetRangeResponse{
		{Consumed: capacity, Rows: []byte{}},
		{Consumed: capacity, Rows: []byte("rows"), NextStartPrimaryKey: []byte("next")},
		{Consumed: capacity, Rows: bytes.Repeat([]byte("r"), 1000), NextToken: []byte("t"), DataBlockType: otsprotocol.DataBlockType_DBT_PLAIN_BUFFER.Enum()},
		{Consumed: capacity, Rows: []byte("rows"), CompressType: otsprotocol.CompressType_CPT_NONE.Enum()},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\x12\x00\x4d1234\x49123456781"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		rows, next, err := parseRange(answer)
		m := new(otsprotocol.GetRangeResponse)
		if err != nil || proto.Unmarshal(answer, m) != nil {
			return
		}
		if !bytes.Equal(rows, m.Rows) || !bytes.Equal(next, m.NextStartPrimaryKey) {
			t.Errorf("got %q, %q, want %q, %q", rows, next, m.Rows, m.NextStartPrimaryKey)
		}
	})
}

// FuzzParseResults does the same for the results of a BatchWriteRow.
func FuzzParseResults(f *testing.F) {
	capacity := &otsprotocol.ConsumedCapacity{CapacityUnit: &otsprotocol.CapacityUnit{Write: proto.Int32(1)}}
	b, err := proto.Marshal(&otsprotocol.BatchWriteRowResponse{Tables: []*otsprotocol.TableInBatchWriteRowResponse{{
		TableName: proto.String("orders"),
		Rows: []*otsprotocol.RowInBatchWriteRowResponse{
			{IsOk: proto.Bool(true), Consumed: capacity},
			{IsOk: proto.Bool(true), Consumed: capacity},
			{IsOk: proto.Bool(false), Error: &otsprotocol.Error{Code: proto.String("OTSServerBusy"), Message: proto.String("busy")}},
			{IsOk: proto.Bool(true), Row: []byte("row")},
		},
	}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("\x0a\x00"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		m := new(otsprotocol.BatchWriteRowResponse)
		if proto.Unmarshal(answer, m) != nil || len(m.Tables) != 1 {
			_, _ = parseResults(answer, 1)
			return
		}
		want := m.Tables[0].Rows
		got, err := parseResults(answer, len(want))
		if err != nil {
			return // stricter where a field stands twice
		}
		for i, r := range got {
			if r.ok != want[i].GetIsOk() || want[i].Error != nil && r.code != want[i].Error.GetCode() {
				t.Errorf("row %d is %+v, want %v", i, r, want[i])
			}
		}
	})
}

func TestSizeOfBytes(t *testing.T) {
	for _, size := range []int{0, 1, 127, 128, 16383, 16384, 1<<21 - 1, 1 << 21, math.MaxInt32} {
		if got, want := sizeOfBytes(size), len(appendSize(nil, 2, size)); got != want {
			t.Errorf("sizeOfBytes(%d) = %d, want %d", size, got, want)
		}
	}
}
