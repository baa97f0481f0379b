package local

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
)

// scan is a GetRange: a walk over a table's rows between two positions that
// ends with the range, with enough rows, or with enough bytes looked at.
type scan struct {
	table    *definition
	sel      *selection
	keep     retention
	backward bool
	low      position // inclusive
	high     position // exclusive
	limit    int      // rows to return
}

// scanned is what a scan found.
type scanned struct {
	buf  []byte // room for the head of the response, and the rows with a header
	rows int
	next []byte // where to go on, with a header; empty at the end of the range
	size int    // bytes looked at, as the service counts them

	matrix bool // whether the rows are a matrix
}

// headRoom is kept free before the rows for the fields that precede them, whose
// lengths are known last: 12 bytes of consumed capacity and 6 of the rows' tag
// and length at most.
const headRoom = 32

func (s *Server) getRange(c call, req *otsprotocol.GetRangeRequest) (reply, error) {
	sc, start, end, err := parseScan(req)
	if err != nil {
		return reply{}, err
	}
	if sc.table, err = s.readable(c.instance, req.GetTableName()); err != nil {
		return reply{}, err
	}
	if err := sc.setRange(start, end); err != nil {
		return reply{}, err
	}
	sc.keep = sc.table.retention(s.now())
	if c.fault.Kind == FaultEmptyPage {
		sc.limit = 0
	}
	pooled := s.buffers.Get().(*[]byte)
	found, err := sc.run(s.db, append((*pooled)[:0], make([]byte, headRoom)...))
	if err != nil {
		return reply{}, err
	}
	if wantsMatrix(req, sc.sel) && found.rows > 0 {
		if err := found.asMatrix(req.GetReturnEntirePrimaryKeys()); err != nil {
			return reply{}, err
		}
	}
	body := found.response()
	*pooled = found.buf
	return reply{body: body, pooled: pooled}, nil
}

// wantsMatrix tells whether the rows may be sent as a matrix, which has no
// versions: it takes a hint, and a scan that wants one version of each cell.
func wantsMatrix(req *otsprotocol.GetRangeRequest, sel *selection) bool {
	return req.GetDataBlockTypeHint() == otsprotocol.DataBlockType_DBT_SIMPLE_ROW_MATRIX && sel.versions == 1
}

func parseScan(req *otsprotocol.GetRangeRequest) (sc *scan, start, end []cell, err error) {
	if err = refuseTransaction(req.TransactionId); err != nil {
		return nil, nil, nil, err
	}
	if err = refuseToken(req.Token); err != nil {
		return nil, nil, nil, err
	}
	sc = &scan{backward: req.GetDirection() == otsprotocol.Direction_BACKWARD, limit: maxScanRows}
	if req.Limit != nil {
		if sc.limit = int(req.GetLimit()); sc.limit <= 0 {
			return nil, nil, nil, invalid("The limit must be greater than 0.")
		}
	}
	if sc.sel, err = newSelection(req, req.MaxVersions != nil); err != nil {
		return nil, nil, nil, err
	}
	sc.sel.onlyNamed = !req.GetReturnEntirePrimaryKeys()
	if start, err = parseReadKey(req.GetInclusiveStartPrimaryKey(), true); err != nil {
		return nil, nil, nil, err
	}
	if end, err = parseReadKey(req.GetExclusiveEndPrimaryKey(), true); err != nil {
		return nil, nil, nil, err
	}
	return sc, start, end, nil
}

// setRange turns the bounds of the request, the first inclusive and the second
// exclusive, into positions.
func (sc *scan) setRange(start, end []cell) error {
	from, err := sc.table.bound(start, sc.backward)
	if err != nil {
		return err
	}
	to, err := sc.table.bound(end, sc.backward)
	if err != nil {
		return err
	}
	if sc.backward {
		if bytes.Compare(from, to) <= 0 {
			return invalid("Begin key must more than end key in BACKWARD.")
		}
		sc.low, sc.high = to, from
		return nil
	}
	if bytes.Compare(from, to) >= 0 {
		return invalid("Begin key must less than end key in FORWARD.")
	}
	sc.low, sc.high = from, to
	return nil
}

// run walks the range and appends the rows it finds to buf, which begins with
// headRoom bytes to spare.
func (sc *scan) run(db *pebble.DB, buf []byte) (found scanned, err error) {
	it, err := sc.table.rows(db, sc.low, sc.high)
	if err != nil {
		return scanned{}, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()

	step, more := it.Next, it.First
	if sc.backward {
		step, more = it.Prev, it.Last
	}
	found.buf = appendHeader(buf)
	var r row
	for seen := 0; more(); seen++ {
		more = step
		s, err := parseStored(it.Value())
		if err != nil {
			return scanned{}, err
		}
		if found.rows == sc.limit || seen == maxScanRows || found.size >= maxScanBytes {
			found.next, err = rowStart(s, &r)
			return found, err
		}
		found.size += s.size
		var ok bool
		if found.buf, ok, err = sc.sel.appendSelected(found.buf, s, sc.keep, &r); err != nil {
			return scanned{}, err
		}
		if ok {
			found.rows++
		}
	}
	return found, nil
}

// rowStart returns the primary key of a row as a bound to go on from.
func rowStart(s stored, r *row) ([]byte, error) {
	if _, err := parseRow(s.wire, r); err != nil {
		return nil, errStored()
	}
	return appendRow(appendHeader(nil), r.key, nil), nil
}

// response makes the found rows a GetRangeResponse where they lie. It writes
// the message by hand: megabytes of rows are not copied into one.
func (f *scanned) response() []byte {
	const (
		tagConsumed = 1<<3 | 2
		tagRows     = 2<<3 | 2
		tagNext     = 3<<3 | 2
		tagType     = 5<<3 | 0
	)
	if f.rows == 0 {
		f.buf = f.buf[:headRoom]
	}
	var room [headRoom]byte
	capacity := binary.AppendUvarint([]byte{1<<3 | 0}, uint64(units(f.size)))
	capacity = append(capacity, 2<<3|0, 0)
	head := append(room[:0], tagConsumed, byte(len(capacity)+2), 1<<3|2, byte(len(capacity)))
	head = append(head, capacity...)
	head = append(head, tagRows)
	head = binary.AppendUvarint(head, uint64(len(f.buf)-headRoom))
	start := headRoom - len(head)
	copy(f.buf[start:], head)

	if len(f.next) > 0 {
		f.buf = binary.AppendUvarint(append(f.buf, tagNext), uint64(len(f.next)))
		f.buf = append(f.buf, f.next...)
	}
	form := otsprotocol.DataBlockType_DBT_PLAIN_BUFFER
	if f.matrix {
		form = otsprotocol.DataBlockType_DBT_SIMPLE_ROW_MATRIX
	}
	f.buf = append(f.buf, tagType, byte(form))
	return f.buf[start:]
}
