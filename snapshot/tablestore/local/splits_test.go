package local

import (
	"fmt"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

func splits(t *testing.T, c *tablestore.TableStoreClient, size, unit int64, limit *int32) []*tablestore.Split {
	t.Helper()
	resp := must[*tablestore.ComputeSplitPointsBySizeResponse](t)(c.ComputeSplitPointsBySize(&tablestore.ComputeSplitPointsBySizeRequest{
		TableName: "t", SplitSize: size, SplitSizeUnitInByte: &unit, SplitPointLimit: limit}))
	return resp.Splits
}

// TestSplitsCoverTheTable: the ranges hold every row once, about as many bytes
// as asked for each, also of rows that are in memory only.
func TestSplitsCoverTheTable(t *testing.T) {
	for where, dir := range map[string]string{"memory": "", "disk": t.TempDir()} {
		t.Run(where, func(t *testing.T) {
			s, c := serveTable(t, Options{Dir: dir})
			fill(t, s, 3000, 1000-27)
			parts := splits(t, c, 3, 100_000, nil)
			if len(parts) != 10 {
				t.Fatalf("%d splits, want 10", len(parts))
			}
			total := 0
			for i, p := range parts {
				n := len(scanAll(t, c, tablestore.RangeRowQueryCriteria{StartPrimaryKey: p.LowerBound, EndPrimaryKey: p.UpperBound}))
				if n != 300 {
					t.Errorf("split %d has %d rows, want 300", i, n)
				}
				total += n
			}
			if total != 3000 {
				t.Errorf("%d rows in all splits", total)
			}
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
			if again := splits(t, c, 3, 100_000, nil); fmt.Sprint(again[5].LowerBound.PrimaryKeys[0].Value) != fmt.Sprint(parts[5].LowerBound.PrimaryKeys[0].Value) {
				t.Error("a flush moves the splits")
			}
		})
	}
}

func TestSplitPointsAreShort(t *testing.T) {
	s, _ := serveTable(t, Options{})
	for _, partition := range []string{"a", "b"} {
		var rows [][]byte
		for i := range 4 {
			rows = append(rows, rowBuffer(keyCells(partition, int64(i))))
		}
		if _, err := write(t, s, false, batchOf("t", rows...)); err != nil {
			t.Fatal(err)
		}
	}
	// A row has 11 bytes: two make a split.
	points := pointsOf(t, s, &otsprotocol.ComputeSplitPointsBySizeRequest{SplitSize: proto.Int64(1), SplitSizeUnitInByte: proto.Int64(20)})
	wantRows(t, points, "a 2", "b", "b 2")
	points = pointsOf(t, s, &otsprotocol.ComputeSplitPointsBySizeRequest{SplitSize: proto.Int64(1), SplitSizeUnitInByte: proto.Int64(20), SplitPointLimit: proto.Int32(1)})
	wantRows(t, points, "b")
	points = pointsOf(t, s, &otsprotocol.ComputeSplitPointsBySizeRequest{SplitSize: proto.Int64(1)}) // of 100 MB
	wantRows(t, points)
}

// pointsOf shows the split points of t.
func pointsOf(t *testing.T, s *Server, req *otsprotocol.ComputeSplitPointsBySizeRequest) (points []string) {
	t.Helper()
	req.TableName = proto.String("t")
	var resp otsprotocol.ComputeSplitPointsBySizeResponse
	if err := ask(t, s, "ComputeSplitPointsBySize", req, &resp); err != nil {
		t.Fatal(err)
	}
	for _, buf := range resp.SplitPoints {
		var r row
		if err := parseBuffer(buf, &r); err != nil {
			t.Fatal(err)
		}
		text := string(r.key[0].value.bytes())
		if len(r.key) > 1 {
			text += fmt.Sprint(" ", r.key[1].value.integer())
		}
		points = append(points, text)
	}
	ranges := int64(len(points) + 1)
	if len(resp.Schema) != 2 || resp.Locations[0].GetRepeat() != ranges || resp.Consumed.CapacityUnit.GetRead() != int32(ranges) {
		t.Errorf("answered %v", &resp)
	}
	return points
}

func TestSplitsAreRefused(t *testing.T) {
	s, _ := serveTable(t, Options{})
	for name, req := range map[string]*otsprotocol.ComputeSplitPointsBySizeRequest{
		"no size":  {SplitSize: proto.Int64(0)},
		"no unit":  {SplitSize: proto.Int64(1), SplitSizeUnitInByte: proto.Int64(0)},
		"overflow": {SplitSize: proto.Int64(1 << 62), SplitSizeUnitInByte: proto.Int64(1 << 62)},
		"no limit": {SplitSize: proto.Int64(1), SplitPointLimit: proto.Int32(0)},
	} {
		req.TableName = proto.String("t")
		err := ask(t, s, "ComputeSplitPointsBySize", req, nil)
		if code(err) != "OTSParameterInvalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	missing := &otsprotocol.ComputeSplitPointsBySizeRequest{TableName: proto.String("missing"), SplitSize: proto.Int64(1)}
	wantCode(t, ask(t, s, "ComputeSplitPointsBySize", missing, nil), "OTSObjectNotExist")
}

func TestPointsAreThinnedEvenly(t *testing.T) {
	var points [][]byte
	for i := range 9 {
		points = append(points, []byte{byte('0' + i)})
	}
	for limit, want := range map[int]string{1: "4", 2: "36", 4: "1357", 9: "012345678", 20: "012345678"} {
		got := ""
		for _, p := range thin(points, limit) {
			got += string(p)
		}
		if got != want {
			t.Errorf("limit %d: points %s, want %s", limit, got, want)
		}
	}
}
