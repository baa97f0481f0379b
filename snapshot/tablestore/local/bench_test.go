package local

import (
	"fmt"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// benchRows is how many rows the benchmarks write and scan: several responses,
// and more than a memtable holds.
const benchRows = 100_000

// BenchmarkBatchWriteRow writes rows of two key columns and ten attributes, 200
// a request, past the HTTP server and the signature.
func BenchmarkBatchWriteRow(b *testing.B) {
	for _, where := range []string{"memory", "disk"} {
		b.Run(where, func(b *testing.B) {
			bodies := batchBodies(b)
			dir := ""
			if where == "disk" {
				dir = b.TempDir()
			}
			s := benchServer(b, dir)
			b.ReportAllocs()
			rows := 0
			for i := 0; b.Loop(); i++ {
				mustDo(b, s, "BatchWriteRow", bodies[i%len(bodies)])
				rows += maxBatchWrite
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkGetRange scans them, 5,000 a response.
func BenchmarkGetRange(b *testing.B) {
	s := benchServer(b, "")
	for _, body := range batchBodies(b) {
		mustDo(b, s, "BatchWriteRow", body)
	}
	last := infinite(typeInfMax)
	start := infinite(typeInfMin)
	b.ReportAllocs()
	rows, size := 0, 0
	for b.Loop() {
		rep := mustDo(b, s, "GetRange", rangeBody(b, start, last))
		var resp otsprotocol.GetRangeResponse
		if err := proto.Unmarshal(rep.body, &resp); err != nil {
			b.Fatal(err)
		}
		rows, size = rows+maxScanRows, size+len(resp.Rows)
		if start = resp.NextStartPrimaryKey; start == nil {
			start = infinite(typeInfMin)
		}
		s.buffers.Put(rep.pooled)
	}
	b.SetBytes(int64(size / b.N))
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

func benchServer(b *testing.B, dir string) *Server {
	b.Helper()
	s, err := Open(Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	mustDo(b, s, "CreateTable", mustMarshal(b, &otsprotocol.CreateTableRequest{
		TableMeta: &otsprotocol.TableMeta{TableName: proto.String("bench"), PrimaryKey: []*otsprotocol.PrimaryKeySchema{
			{Name: proto.String("country"), Type: otsprotocol.PrimaryKeyType_STRING.Enum()},
			{Name: proto.String("id"), Type: otsprotocol.PrimaryKeyType_INTEGER.Enum()},
		}},
		ReservedThroughput: &otsprotocol.ReservedThroughput{CapacityUnit: &otsprotocol.CapacityUnit{}},
		TableOptions:       &otsprotocol.TableOptions{TimeToLive: proto.Int32(-1), MaxVersions: proto.Int32(1)},
	}))
	return s
}

func mustDo(b *testing.B, s *Server, action string, body []byte) reply {
	b.Helper()
	rep, err := s.do(request{action: action, instance: "demo", body: body}, Fault{})
	if err != nil {
		b.Fatal(err)
	}
	return rep
}

func mustMarshal(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

func stringValue(s string) value { return bytesValue(typeString, []byte(s)) }

func infinite(t byte) []byte {
	return appendRow(appendHeader(nil), []cell{
		makeCell([]byte("country"), value{t}, 0, false), makeCell([]byte("id"), value{t}, 0, false)}, nil)
}

func rangeBody(tb testing.TB, start, end []byte) []byte {
	return mustMarshal(tb, &otsprotocol.GetRangeRequest{
		TableName: proto.String("bench"), Direction: otsprotocol.Direction_FORWARD.Enum(), MaxVersions: proto.Int32(1),
		InclusiveStartPrimaryKey: start, ExclusiveEndPrimaryKey: end})
}

func batchBodies(tb testing.TB) (bodies [][]byte) {
	for from := 0; from < benchRows; from += maxBatchWrite {
		table := &otsprotocol.TableInBatchWriteRowRequest{TableName: proto.String("bench")}
		for i := from; i < from+maxBatchWrite; i++ {
			key := []cell{
				makeCell([]byte("country"), stringValue(fmt.Sprintf("country-%02d", i%50)), 0, false),
				makeCell([]byte("id"), integerValue(int64(i)), 0, false),
			}
			var cells []cell
			for j := range 10 {
				v := integerValue(int64(i * j))
				if j%2 == 0 {
					v = stringValue(fmt.Sprintf("value %d of column %d", i, j))
				}
				cells = append(cells, makeCell(fmt.Appendf(nil, "column_%02d", j), v, 0, false))
			}
			table.Rows = append(table.Rows, &otsprotocol.RowInBatchWriteRowRequest{
				Type:      otsprotocol.OperationType_PUT.Enum(),
				RowChange: appendRow(appendHeader(nil), key, cells),
				Condition: &otsprotocol.Condition{RowExistence: otsprotocol.RowExistenceExpectation_IGNORE.Enum()},
			})
		}
		bodies = append(bodies, mustMarshal(tb, &otsprotocol.BatchWriteRowRequest{Tables: []*otsprotocol.TableInBatchWriteRowRequest{table}}))
	}
	return bodies
}
