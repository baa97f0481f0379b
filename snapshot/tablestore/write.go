package tablestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/snapshot"
	"golang.org/x/sync/errgroup"
)

// The service's limits: 200 rows and 4 MB a request, 1024 cells and 4 MB a row
// in it. What counts as a byte it does not say, so a request here stays below
// 4 MB with all its framing, whichever megabyte is meant.
const (
	maxRows         = 200
	maxCells        = 1024
	maxRequestBytes = 3_900_000
	maxRowBytes     = maxRequestBytes - 4096
)

// Write puts every row of the record, which must be in key order, with its
// versions, and returns how many the service acknowledged. Rows that fail for a
// passing reason are sent again, alone. A row too wide for one request is put
// with its first cells and then updated with the others; it counts when all are
// in. Writing the same rows again changes nothing. A row the service refuses is
// an error that names its key.
//
// With Insert, a row that exists is left as it is and counts as kept. When it
// exists because an attempt whose answer was lost made it, it is equal to the
// one of the record and counts as written. A wide row of which no more is there
// than the first of the requests it takes is what an insert that was cut short
// left, and is completed.
//
// With Generate, one request goes out at a time, and the keys the service chose
// are read from its answers. Rows that agree in the key columns before the
// AUTO_INCREMENT column get values that ascend in the order of the record; values
// of other rows need not, as the service counts by partition. Attempts that are
// known to have made nothing are repeated; rows made behind one that was refused
// for a passing reason are deleted and made again. Rows counts rows at the head
// of the record, in its order. After an error that does not wrap
// [snapshot.ErrUnsure] no other row is there; after one that does, some of the
// next 200 may be, once each, and what to do is for the caller to say. Insert
// means nothing then: the rows are new.
//
// The record is encoded as it goes out: beside it, Config.WriteRequests+1
// requests of up to 4 MB are in memory.
func (in *Instance) Write(ctx context.Context, write snapshot.Write) (snapshot.Written, error) {
	if write.Table.Timeseries.Part != "" {
		written, err := in.writeTimeseries(ctx, write)
		return written, wrap("write", err)
	}
	w := &writer{write: write, encoder: row.NewEncoder(write.Layout)}
	w.sender = sender{in: in, table: write.Table.Name, format: w.format}
	run := w.run
	if write.Generate {
		run = w.generate
	}
	err := run(ctx)
	if err != nil {
		err = fmt.Errorf("tablestore: write: %w", err)
	}
	return snapshot.Written{Rows: w.acknowledged.Load(), Kept: w.kept.Load()}, err
}

// writer is a Write under way.
type writer struct {
	sender
	write   snapshot.Write
	encoder *row.Encoder
	kept    atomic.Int64

	pending *parcel
	scratch []byte
	keys    [2][]byte // of the row at hand and the one before
}

func (w *writer) run(ctx context.Context) error {
	if err := w.encoder.Reset(w.write.Record); err != nil {
		return fmt.Errorf("table %s: %w", w.table, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(w.in.writeRequests)
	send := func(parts ...*parcel) { group.Go(func() error { return w.send(ctx, parts) }) }
	err := w.pack(ctx, send)
	if sendErr := group.Wait(); sendErr != nil {
		return sendErr
	}
	return err
}

// condition is that of the first request for a row.
func (w *writer) condition() string {
	if w.write.Insert {
		return expectAbsence
	}
	return ignoreExistence
}

// pack makes requests of all rows. A row too large for a request of its own
// becomes several, to be sent one after the other.
func (w *writer) pack(ctx context.Context, send func(...*parcel)) error {
	w.pending = newParcel(w.table, w.condition(), maxRows, 0)
	for i := range int(w.write.Record.NumRows()) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.checkOrder(i); err != nil {
			return err
		}
		whole, err := w.encode(i)
		if err != nil {
			return fmt.Errorf("table %s: row %s: %w", w.table, w.format(i), err)
		}
		if !whole {
			parts, err := w.split(i)
			if err != nil {
				return err
			}
			send(parts...)
			continue
		}
		if !w.pending.fits(w.scratch) {
			send(w.pending)
			w.pending = newParcel(w.table, w.condition(), maxRows, len(w.pending.items))
		}
		w.pending.add(otsprotocol.OperationType_PUT, w.scratch, i)
	}
	if len(w.pending.rows) > 0 {
		send(w.pending)
	}
	return nil
}

// checkOrder refuses a row that is not after the one before: the service refuses
// a request with the same row twice, and requests overtake each other.
func (w *writer) checkOrder(i int) error {
	w.keys[0], w.keys[1] = w.encoder.AppendKey(w.keys[1][:0], i), w.keys[0]
	if i > 0 && bytes.Compare(w.keys[0], w.keys[1]) <= 0 {
		return fmt.Errorf("table %s: row %s is not after the one before it", w.table, w.format(i))
	}
	return nil
}

// encode puts row i into w.scratch, unless it is too large for one request.
func (w *writer) encode(i int) (whole bool, err error) {
	if w.encoder.Cells(i) > maxCells {
		return false, nil
	}
	w.scratch, err = w.encoder.AppendRow(row.AppendHeader(w.scratch[:0]), i)
	return len(w.scratch) <= maxRowBytes, err
}

// split makes several requests of row i.
func (w *writer) split(i int) ([]*parcel, error) {
	var parts []*parcel
	operation, condition := otsprotocol.OperationType_PUT, w.condition()
	for next := 0; next < w.encoder.Cells(i); {
		part, after, err := w.part(operation, condition, i, next)
		if err != nil {
			return nil, err
		}
		next, part.cells, part.counts = after, after, after == w.encoder.Cells(i)
		parts = append(parts, part)
		operation = otsprotocol.OperationType_UPDATE
		if w.write.Insert {
			condition = expectExistence
		}
	}
	return parts, nil
}

// part makes a request of row i with as many of its cells from one on as it can
// hold, and returns the number of the next. It does not count.
func (w *writer) part(operation otsprotocol.OperationType, tail string, i, from int) (p *parcel, next int, err error) {
	w.scratch, next, err = w.encoder.AppendCells(row.AppendHeader(w.scratch[:0]), i, from, maxCells, maxRowBytes)
	if err == nil && len(w.scratch) > maxRequestBytes {
		err = fmt.Errorf("a cell makes a request of %d bytes, the limit is %d", len(w.scratch), maxRequestBytes)
	}
	if err != nil {
		return nil, from, fmt.Errorf("table %s: row %s: %w", w.table, w.format(i), err)
	}
	p = newParcel(w.table, tail, 1, len(w.scratch))
	p.add(operation, w.scratch, i)
	p.counts = false
	return p, next, nil
}

// send sends requests one after the other, each until all its rows are in.
func (w *writer) send(ctx context.Context, parts []*parcel) error {
	for _, p := range parts {
		found, err := w.deliver(ctx, p)
		switch {
		case err != nil:
			return err
		case len(found) > 0 && !p.counts:
			return w.complete(ctx, parts, found[0])
		}
		for _, f := range found {
			if err := w.settle(ctx, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// format writes the key of row i for people. It has an encoder of its own, as
// requests fail while others are encoded.
func (w *writer) format(i int) string {
	e := row.NewEncoder(w.write.Layout)
	if err := e.Reset(w.write.Record); err != nil {
		return fmt.Sprintf("%d of the record", i+1)
	}
	return row.FormatKey(w.write.Layout.Key, e.AppendKey(nil, i))
}

// sender sends changes to the rows of a table until they are made.
type sender struct {
	in           *Instance
	table        string
	format       func(row int) string // writes the key of a row for people
	acknowledged atomic.Int64         // rows
}

// found is a row that exists and was not to.
type found struct {
	row    int
	unsure bool // whether an attempt of ours may have made it
}

// deliver sends a request, and then what failed of it, until nothing does. It
// returns the rows that exist and were not to.
func (s *sender) deliver(ctx context.Context, p *parcel) ([]found, error) {
	t := s.in.newTrial("BatchWriteRow", s.table)
	for {
		p.trial = t
		left, err := s.attempt(ctx, p)
		if err == nil {
			return left.found, nil
		}
		if len(left.rows) < len(p.rows) {
			t.progressed()
		}
		p = left
		if err := t.again(ctx, err); err != nil {
			return nil, err
		}
	}
}

// attempt sends a request once and returns what to send again.
func (s *sender) attempt(ctx context.Context, p *parcel) (left *parcel, err error) {
	results, err := s.exchange(ctx, p)
	if refusal := new(Error); errors.As(err, &refusal) && !refusal.passes() {
		return p, s.naming(p.rows, err)
	}
	if err != nil {
		p.doubt(err)
		return p, err
	}
	var failed []int
	for i, result := range results {
		if result.ok {
			s.acknowledge(p)
			continue
		}
		if p.tail == expectAbsence && result.code == codeConditionFailed {
			p.found = append(p.found, found{row: p.rows[i], unsure: p.unsure[i]})
			continue
		}
		refusal := s.refusal(result)
		if !refusal.passes() {
			return p, s.naming(p.rows[i:i+1], refusal)
		}
		p.unsure[i] = p.unsure[i] || mayBeDone(refusal)
		err = refusal
		failed = append(failed, i)
	}
	return p.only(failed), err
}

// exchange sends a request once and returns what became of its rows.
func (s *sender) exchange(ctx context.Context, p *parcel) ([]rowResult, error) {
	r := request{action: "BatchWriteRow", table: s.table, body: p.body(), trial: p.trial}
	answer, err := s.in.post(ctx, r, nil)
	if err != nil {
		return nil, err
	}
	results, err := parseResults(answer, len(p.rows))
	if err != nil {
		return nil, r.unreadable(err)
	}
	return results, nil
}

// refusal is what the service says of one row.
func (s *sender) refusal(result rowResult) *Error {
	return &Error{
		Action:  "BatchWriteRow",
		Table:   s.table,
		Status:  http.StatusOK,
		Code:    result.code,
		Message: result.message,
	}
}

func (s *sender) acknowledge(p *parcel) {
	if p.counts {
		s.acknowledged.Add(1)
	}
}

// naming says which rows an error is about.
func (s *sender) naming(rows []int, err error) error {
	first, last := rows[0], rows[len(rows)-1]
	if first == last {
		return fmt.Errorf("row %s: %w", s.format(first), err)
	}
	return fmt.Errorf("one of the rows from %s to %s: %w", s.format(first), s.format(last), err)
}

// parcel is a BatchWriteRow request under construction. Its rows are written as
// they come, behind room for what has to stand before them and holds their size.
type parcel struct {
	table  string
	tail   string // that follows every row: its condition and what to return of it
	items  []byte // room, then a RowInBatchWriteRowRequest for each row
	ends   []int  // where each ends
	rows   []int  // their numbers in the record
	unsure []bool // whether an attempt whose answer is not known may have made them
	counts bool   // whether its rows are complete with it
	cells  int    // of a part of a wide row: how many the row has with it

	trial   *trial  // to deliver it; nil: it is sent once
	found   []found // of the rows that were sent in it before
	request []byte  // see body
}

// newParcel returns a parcel with memory for so many rows of a table, which take
// about size bytes.
func newParcel(table, tail string, rows, size int) *parcel {
	p := &parcel{table: table, tail: tail, counts: true}
	p.ends, p.rows, p.unsure = make([]int, 0, rows), make([]int, 0, rows), make([]bool, 0, rows)
	p.items = make([]byte, p.room(), p.room()+size+size/8+64)
	return p
}

// room is the most bytes that stand before the rows: two tags, two sizes of at
// most 5 bytes, a size of the name of at most 2, and the name.
func (p *parcel) room() int { return 16 + len(p.table) }

// fits reports whether a row may be added.
func (p *parcel) fits(encoded []byte) bool {
	const framing = 32
	return len(p.rows) < maxRows && len(p.items)+len(encoded)+framing <= maxRequestBytes
}

// add appends a row in PlainBuffer, with the header every row has here.
func (p *parcel) add(operation otsprotocol.OperationType, encoded []byte, number int) {
	item := 2 + sizeOfBytes(len(encoded)) + len(encoded) + len(p.tail)
	p.items = appendSize(p.items, 2, item)
	p.items = append(p.items, 1<<3|wireVarint, byte(operation))
	p.items = appendBytes(p.items, 2, encoded)
	p.items = append(p.items, p.tail...)
	p.ends = append(p.ends, len(p.items))
	p.rows = append(p.rows, number)
	p.unsure = append(p.unsure, false)
}

// doubt notes that all its rows may have been made by an attempt that ended with
// err.
func (p *parcel) doubt(err error) {
	for i := range p.unsure {
		p.unsure[i] = p.unsure[i] || mayBeDone(err)
	}
}

// What follows a row in a RowInBatchWriteRowRequest: the field condition, which
// is whether the row may, must or must not exist, and the field return_content.
const (
	ignoreExistence = "\x1a\x02\x08\x00"
	expectExistence = "\x1a\x02\x08\x01"
	expectAbsence   = "\x1a\x02\x08\x02"
	returnKey       = "\x22\x02\x08\x01"
)

// only returns a parcel of some of its rows.
func (p *parcel) only(rows []int) *parcel {
	out := &parcel{table: p.table, tail: p.tail, counts: p.counts, cells: p.cells, found: p.found}
	out.items = make([]byte, p.room())
	for _, i := range rows {
		start := p.room()
		if i > 0 {
			start = p.ends[i-1]
		}
		out.items = append(out.items, p.items[start:p.ends[i]]...)
		out.ends = append(out.ends, len(out.items))
		out.rows = append(out.rows, p.rows[i])
		out.unsure = append(out.unsure, p.unsure[i])
	}
	return out
}

// body returns the request. It is made once: an attempt given up on may still be
// sending it.
func (p *parcel) body() []byte {
	if p.request == nil {
		name := appendBytes(nil, 1, []byte(p.table))
		head := appendSize(nil, 1, len(name)+len(p.items)-p.room())
		head = append(head, name...)
		p.request = p.items[p.room()-len(head):]
		copy(p.request, head)
	}
	return p.request
}
