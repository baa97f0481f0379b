package tablestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// query asks for the rows from a key to another.
type query struct {
	table    string
	columns  []manifest.KeyColumn
	from, to manifest.Key
	limit    int32 // rows of one answer; 0: as many as the service sends
}

// page is the answer to a query.
type page struct {
	from manifest.Key
	rows []byte       // in PlainBuffer, without its header; part of buf
	next manifest.Key // where the next page starts; empty after the last
	buf  *[]byte      // from Instance.answers
}

// page fetches one page.
func (in *Instance) page(ctx context.Context, q query) (page, error) {
	body, err := q.encode()
	if err != nil {
		return page{}, err
	}
	buf, ok := in.answers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	p := page{from: q.from, buf: buf}
	t := in.newTrial("GetRange", q.table)
	r := request{action: t.action, table: t.table, body: body, trial: t}
	err = t.run(ctx, func() error {
		answer, err := in.post(ctx, r, *p.buf)
		if err != nil {
			return err
		}
		*p.buf = answer
		if err := p.read(q, answer); err != nil {
			return r.unreadable(err)
		}
		return nil
	})
	if err != nil {
		in.release(p)
		return page{}, err
	}
	return p, nil
}

func (q query) encode() ([]byte, error) {
	from, err := row.AppendBound(nil, q.columns, q.from, false)
	if err != nil {
		return nil, fmt.Errorf("table %s: lower bound: %w", q.table, err)
	}
	to, err := row.AppendBound(nil, q.columns, q.to, true)
	if err != nil {
		return nil, fmt.Errorf("table %s: upper bound: %w", q.table, err)
	}
	message := &otsprotocol.GetRangeRequest{
		TableName: proto.String(q.table),
		Direction: otsprotocol.Direction_FORWARD.Enum(),
		// Every version and every column: a request that names columns or times
		// hides the rows that have neither.
		MaxVersions:              proto.Int32(math.MaxInt32),
		InclusiveStartPrimaryKey: from,
		ExclusiveEndPrimaryKey:   to,
	}
	if q.limit > 0 {
		message.Limit = proto.Int32(q.limit)
	}
	return proto.Marshal(message)
}

// read finds rows and next key in an answer. A next key at the end of the range
// or behind it ends the range.
func (p *page) read(q query, answer []byte) error {
	rows, next, err := parseRange(answer)
	if err != nil {
		return err
	}
	if len(rows) > 0 {
		if rows, err = row.ParseHeader(rows); err != nil {
			return err
		}
	}
	p.rows, p.next = rows, nil
	if len(next) == 0 {
		return nil
	}
	key, err := row.ParseKey(q.columns, next)
	if err != nil {
		return fmt.Errorf("start of the next page: %w", err)
	}
	if bytes.Compare(key, q.from) <= 0 {
		return fmt.Errorf("the next page starts at %s, not after this one", row.FormatKey(q.columns, key))
	}
	if len(q.to) == 0 || bytes.Compare(key, q.to) < 0 {
		p.next = key
	}
	return nil
}

// release ends the use of a page.
func (in *Instance) release(p page) {
	if p.buf != nil {
		in.answers.Put(p.buf)
	}
}

// fetched is what a fetch under way comes to.
type fetched struct {
	page page
	err  error
}

// pages yields the pages of a range. While one is in use the next is on its way,
// unless the query has a limit, for then the first may well be the last. A page
// may be used until the next is asked for.
func (in *Instance) pages(ctx context.Context, q query) iter.Seq2[page, error] {
	return func(yield func(page, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		ahead := in.ahead(ctx, q)
		defer func() {
			cancel()
			if ahead != nil {
				in.release((<-ahead).page)
			}
		}()
		for more := true; more; {
			f := <-ahead
			ahead = nil
			if f.err != nil {
				yield(page{}, f.err)
				return
			}
			q.from, more = f.page.next, len(f.page.next) > 0
			if more && q.limit == 0 {
				ahead = in.ahead(ctx, q)
			}
			wanted := yield(f.page, nil)
			in.release(f.page)
			if !wanted {
				return
			}
			if more && ahead == nil {
				ahead = in.ahead(ctx, q)
			}
		}
	}
}

func (in *Instance) ahead(ctx context.Context, q query) <-chan fetched {
	out := make(chan fetched, 1)
	go func() {
		p, err := in.page(ctx, q)
		out <- fetched{p, err}
	}()
	return out
}

// Scan yields the rows of a range in key order with every version of every
// cell. The consumer releases the records; a scan for digests yields none. It holds
// two answers of the service, of 4 MB or one larger row each, and one batch in
// memory. An answer of more
// than 64 MiB is an error.
//
// Of a timeseries table it holds up to ten answers, and the list of all series:
// some 50 bytes each beside their names and attributes. The list is shared by the
// scans and splits of the table, and made anew after the table was described or
// written to.
func (in *Instance) Scan(ctx context.Context, scan snapshot.Scan) iter.Seq2[row.Batch, error] {
	return func(yield func(row.Batch, error) bool) {
		err := newScanner(in, scan, yield).run(ctx)
		if err != nil && !errors.Is(err, errStopped) {
			yield(row.Batch{}, fmt.Errorf("tablestore: scan: %w", err))
		}
	}
}

// errStopped says that the consumer of a scan wants no more.
var errStopped = errors.New("stopped")

// maxBatch bounds a batch where the scan does not: an Arrow array holds no more
// than 2 GiB.
const maxBatch = 1 << 30

// scanner is a Scan under way.
type scanner struct {
	in    *Instance
	scan  snapshot.Scan
	yield func(row.Batch, error) bool

	builder builder
	taken   int64        // rows, those in the builder included
	last    manifest.Key // of the row taken last
	key     manifest.Key // memory for the next
	resumed manifest.Key // row to leave out, as it was taken before
}

// builder makes batches of rows: a [row.Builder], or a [row.Digester].
type builder interface {
	Append(wire []byte) (rest []byte, err error)
	AppendKey(dst manifest.Key, wire []byte) manifest.Key
	Rows() int
	Bytes() int64
	Batch() row.Batch
}

func newScanner(in *Instance, scan snapshot.Scan, yield func(row.Batch, error) bool) *scanner {
	if scan.Bytes <= 0 || scan.Bytes > maxBatch {
		scan.Bytes = maxBatch
	}
	s := &scanner{in: in, scan: scan, yield: yield}
	if scan.Digest {
		s.builder = row.NewDigester(scan.Layout)
	} else {
		s.builder = row.NewBuilder(memory.DefaultAllocator, scan.Layout)
	}
	return s
}

// damaged says that a page holds a row that cannot be read, and from where to
// ask again.
type damaged struct {
	from manifest.Key
	err  error
}

func (d *damaged) Error() string { return d.err.Error() }
func (d *damaged) Unwrap() error { return d.err }

// run reads until the range ends. A row that cannot be read although its page
// came as it was sent is asked for again like anything else that got lost.
func (s *scanner) run(ctx context.Context) error {
	if s.scan.Table.Timeseries.Part != "" {
		return s.scanTimeseries(ctx)
	}
	q := query{table: s.scan.Table.Name, columns: s.scan.Table.Key, from: s.scan.From, to: s.scan.To}
	if s.scan.Limit > 0 {
		q.limit = int32(min(s.scan.Limit, math.MaxInt32))
	}
	t := s.in.newTrial("GetRange", q.table)
	for {
		before := s.taken
		err := s.read(ctx, q)
		var bad *damaged
		if !errors.As(err, &bad) {
			return err
		}
		if s.taken > before {
			t.progressed()
		}
		if err := t.again(ctx, bad.err); err != nil {
			return err
		}
		q.from = bad.from
	}
}

// read takes the rows of a range and hands them over.
func (s *scanner) read(ctx context.Context, q query) error {
	for p, err := range s.in.pages(ctx, q) {
		if err != nil {
			return err
		}
		if err := s.takePage(p); err != nil {
			return err
		}
		if s.full() {
			break
		}
	}
	return s.hand()
}

func (s *scanner) full() bool { return s.scan.Limit > 0 && s.taken >= s.scan.Limit }

func (s *scanner) takePage(p page) error {
	before, rows, err := s.leaveOut(p.rows)
	if err != nil {
		return s.damage(p, nil, err)
	}
	for len(rows) > 0 && !s.full() {
		rest, err := s.builder.Append(rows)
		if err != nil {
			return s.damage(p, before, err)
		}
		before, rows = rows[:len(rows)-len(rest)], rest
		if err := s.count(before); err != nil {
			return err
		}
	}
	return nil
}

// count notes a row that the builder took, and hands over what is then a batch.
func (s *scanner) count(wire []byte) error {
	if err := s.check(wire); err != nil {
		return fmt.Errorf("GetRange, table %s: %w", s.scan.Table.Name, err)
	}
	s.taken++
	if s.scan.Rows > 0 && int64(s.builder.Rows()) >= s.scan.Rows || s.builder.Bytes() >= s.scan.Bytes {
		return s.hand()
	}
	return nil
}

// damage says where to go on after a row of a page that cannot be read: at the
// row before it, which is then left out, or else at the start of the page.
func (s *scanner) damage(p page, before []byte, cause error) error {
	r := request{action: "GetRange", table: s.scan.Table.Name}
	d := &damaged{from: p.from, err: r.unreadable(cause)}
	if before != nil {
		key, _, err := s.keyOf(before)
		if err != nil {
			return err
		}
		d.from, s.resumed = key, key
	}
	return d
}

// leaveOut takes the row a scan was resumed at off the head of rows, if it still
// exists.
func (s *scanner) leaveOut(rows []byte) (out, rest []byte, err error) {
	if s.resumed == nil || len(rows) == 0 {
		return nil, rows, nil
	}
	key, rest, err := s.keyOf(rows)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(key, s.resumed) {
		rest = rows
	}
	s.resumed = nil
	if len(rest) == len(rows) {
		return nil, rows, nil
	}
	return rows[:len(rows)-len(rest)], rest, nil
}

// keyOf returns the key of the first of rows and what follows that row.
func (s *scanner) keyOf(rows []byte) (key manifest.Key, rest []byte, err error) {
	d := row.NewDigester(s.scan.Layout)
	if rest, err = d.Append(rows); err != nil {
		return nil, nil, err
	}
	return d.AppendKey(nil, rows), rest, nil
}

// hand gives the rows in the builder to the consumer.
func (s *scanner) hand() error {
	if s.builder.Rows() == 0 {
		return nil
	}
	if !s.yield(s.builder.Batch(), nil) {
		return errStopped
	}
	return nil
}

// check holds the row the builder took last against the promise that rows are in
// key order and in the range.
func (s *scanner) check(wire []byte) error {
	key := s.builder.AppendKey(s.key[:0], wire)
	if bytes.Compare(key, s.last) <= 0 {
		return fmt.Errorf("row %s came after row %s", s.format(key), s.format(s.last))
	}
	if bytes.Compare(key, s.scan.From) < 0 || len(s.scan.To) > 0 && bytes.Compare(key, s.scan.To) >= 0 {
		return fmt.Errorf("row %s is not in the range asked for", s.format(key))
	}
	s.last, s.key = key, s.last
	return nil
}

func (s *scanner) format(key manifest.Key) string { return row.FormatKey(s.scan.Table.Key, key) }
