package local

import (
	"bytes"
	"errors"
	"math"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

// defaultSplitUnit is what a split size counts in when the request names no
// unit.
const defaultSplitUnit = 100 << 20

func (s *Server) computeSplitPointsBySize(c call, req *otsprotocol.ComputeSplitPointsBySizeRequest) (proto.Message, error) {
	unit := int64(defaultSplitUnit)
	if req.SplitSizeUnitInByte != nil {
		unit = req.GetSplitSizeUnitInByte()
	}
	if unit <= 0 || req.GetSplitSize() <= 0 || req.GetSplitSize() > math.MaxInt64/unit {
		return nil, invalid("Invalid split size: %d units of %d bytes.", req.GetSplitSize(), unit)
	}
	if req.SplitPointLimit != nil && req.GetSplitPointLimit() <= 0 {
		return nil, invalid("Invalid split point limit: %d.", req.GetSplitPointLimit())
	}
	d, err := s.readable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	points, err := d.splitPoints(s.db, req.GetSplitSize()*unit)
	if err != nil {
		return nil, err
	}
	if req.SplitPointLimit != nil {
		points = thin(points, int(req.GetSplitPointLimit()))
	}
	ranges := len(points) + 1
	return &otsprotocol.ComputeSplitPointsBySizeResponse{
		Consumed:    consumed(int32(ranges), 0),
		Schema:      d.keyProto(),
		SplitPoints: points,
		Locations: []*otsprotocol.ComputeSplitPointsBySizeResponse_SplitLocation{
			{Location: proto.String(""), Repeat: proto.Int64(int64(ranges))},
		},
	}, nil
}

// splitPoints walks a table and returns a point before the row with which each
// size bytes begin. Nothing is estimated: rows not yet flushed count as well,
// and the same rows have the same points. A point has no more columns than it
// takes to lie behind the row before it.
func (d *definition) splitPoints(db *pebble.DB, size int64) (points [][]byte, err error) {
	if d.virtual > 0 {
		return d.generatedPoints(size)
	}
	rows := rowsPrefix(d.ID)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: rows, UpperBound: successor(rows)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()

	var r row
	var before []byte // the wire form of the last row seen
	sum := int64(0)
	for more := it.First; more(); more = it.Next {
		s, err := parseStored(it.Value())
		if err != nil {
			return nil, err
		}
		if sum >= size {
			point, err := splitPoint(before, s.wire, &r)
			if err != nil {
				return nil, err
			}
			points, sum = append(points, point), 0
		}
		if sum += int64(s.size); sum >= size {
			before = append(before[:0], s.wire...)
		}
	}
	return points, nil
}

// splitPoint returns a point that lies behind one row and not behind the next.
func splitPoint(before, next []byte, r *row) ([]byte, error) {
	var last row
	if _, err := parseRow(before, &last); err != nil {
		return nil, errStored()
	}
	if _, err := parseRow(next, r); err != nil {
		return nil, errStored()
	}
	n := 0
	for n < len(r.key)-1 && bytes.Equal(last.key[n].value, r.key[n].value) {
		n++
	}
	return appendRow(appendHeader(nil), r.key[:n+1], nil), nil
}

// thin leaves at most limit of the points, evenly apart.
func thin(points [][]byte, limit int) [][]byte {
	if len(points) <= limit {
		return points
	}
	kept := make([][]byte, limit)
	for i := range kept {
		kept[i] = points[(i+1)*len(points)/(limit+1)]
	}
	return kept
}
