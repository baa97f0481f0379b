package local

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

// result is what became of a change.
type result struct {
	read, write int32 // capacity units
	row         []byte
	err         error // the change was not made
}

func (r result) consumed() *otsprotocol.ConsumedCapacity { return consumed(r.read, r.write) }

func consumed(read, write int32) *otsprotocol.ConsumedCapacity {
	return &otsprotocol.ConsumedCapacity{CapacityUnit: &otsprotocol.CapacityUnit{Read: proto.Int32(read), Write: proto.Int32(write)}}
}

// writer makes changes in one batch of the database, at one moment.
type writer struct {
	s       *Server
	batch   *pebble.Batch
	now     int64
	old     row    // of the change at hand
	kept    row    // likewise, with cells that have expired; only of tables with indexes
	written []cell // by the change at hand, dated and added up; only of tables with a stream
	scratch []byte // likewise
	arena   []byte // where cells made for the changes lie
}

// write makes one change in the batch. A change that cannot be made leaves the
// batch alone.
func (w *writer) write(ch *change) result {
	if ch.refused != nil {
		return result{err: ch.refused}
	}
	if ch.generate {
		if err := w.generateKey(ch); err != nil {
			return result{err: err}
		}
	}
	if err := w.s.loads.admit(ch, w.now); err != nil {
		return result{err: err}
	}
	res := result{}
	exists := false
	w.old.cells, w.kept, w.written = w.old.cells[:0], row{}, w.written[:0]
	if !ch.blind() {
		var err error
		if exists, err = w.load(ch); err != nil {
			return result{err: err}
		}
		if ch.expect != otsprotocol.RowExistenceExpectation_IGNORE || ch.condition != nil || ch.whole() {
			res.read = 1
		}
		if !ch.allowed(exists, &w.old) {
			return result{err: errCondition()}
		}
	}
	cells, keep, err := w.after(ch, exists)
	if err != nil {
		return result{err: err}
	}
	if err := w.set(ch, cells, keep); err != nil {
		return result{err: err}
	}
	if err := w.reindex(ch, cells, keep); err != nil {
		return result{err: err}
	}
	if err := w.record(ch, exists); err != nil {
		return result{err: err}
	}
	res.write = units(ch.size())
	res.row = ch.returned(cells)
	return res
}

// load reads the row a change names into w.old. What it yields aliases memory
// of its own.
func (w *writer) load(ch *change) (exists bool, err error) {
	b, closer, err := w.get(ch.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	b = bytes.Clone(b)
	if err := closer.Close(); err != nil {
		return false, err
	}
	s, err := parseStored(b)
	if err != nil {
		return false, err
	}
	if len(ch.table.indexTables) > 0 {
		if _, err := parseRow(s.wire, &w.kept); err != nil {
			return false, errStored()
		}
	}
	return ch.table.retention(w.now).load(s, &w.old)
}

// get reads a row as the changes before it in an atomic batch leave it, and as
// the database has it otherwise.
func (w *writer) get(key []byte) ([]byte, io.Closer, error) {
	if w.batch.Indexed() {
		return w.batch.Get(key)
	}
	return w.s.db.Get(key)
}

// allowed tells whether a change's conditions hold for the row as it is.
func (ch *change) allowed(exists bool, old *row) bool {
	switch {
	case ch.expect == otsprotocol.RowExistenceExpectation_EXPECT_EXIST && !exists:
		return false
	case ch.expect == otsprotocol.RowExistenceExpectation_EXPECT_NOT_EXIST && exists:
		return false
	}
	return ch.condition == nil || exists && ch.condition.matches(ch.row.key, old.cells)
}

// after returns the cells of the row once the change is made, in order, and
// whether there is a row then.
func (w *writer) after(ch *change, exists bool) (cells []cell, keep bool, err error) {
	switch ch.kind {
	case otsprotocol.OperationType_DELETE:
		return nil, false, nil
	case otsprotocol.OperationType_PUT:
		cells = ch.row.cells
		for i := range cells {
			w.date(&cells[i])
		}
		cells = ch.table.retention(w.now).trim(arrange(cells))
		w.wrote(ch, cells...)
		return cells, true, ch.table.checkColumns(cells)
	}
	cells, keep = slices.Clone(w.old.cells), exists
	for i := range ch.row.cells {
		c := ch.row.cells[i]
		switch c.op {
		case opDeleteAll:
			cells = slices.DeleteFunc(cells, func(o cell) bool { return bytes.Equal(o.name, c.name) })
			w.wrote(ch, c)
			continue
		case opDeleteOneVersion:
			cells = slices.DeleteFunc(cells, func(o cell) bool { return bytes.Equal(o.name, c.name) && o.version == c.version })
			w.wrote(ch, c)
			continue
		case opIncrement:
			if c, err = w.increment(cells, c); err != nil {
				return nil, false, err
			}
		}
		w.date(&c)
		w.wrote(ch, c)
		cells, keep = append(cells, c), true
	}
	cells = arrange(cells)
	if ch.whole() {
		cells = arrange(w.renew(ch, cells))
	}
	// Deletions alone do not make a row.
	return ch.table.retention(w.now).trim(cells), keep, ch.table.checkColumns(cells)
}

// whole tells whether a change writes also what it does not name.
func (ch *change) whole() bool {
	return ch.kind == otsprotocol.OperationType_UPDATE && ch.table.Options.UpdateFullRow
}

// renew adds to ordered cells the newest value of each column the change left
// alone, as written now.
func (w *writer) renew(ch *change, cells []cell) []cell {
	for i, c := range cells {
		if first := i == 0 || !bytes.Equal(c.name, cells[i-1].name); first && c.version < w.now {
			c = makeCell(c.name, c.value, w.now, true)
			w.wrote(ch, c)
			cells = append(cells, c)
		}
	}
	return cells
}

// checkColumns refuses a row with more columns, among ordered cells, than the
// table's rows may have.
func (d *definition) checkColumns(cells []cell) error {
	if !d.Options.UpdateFullRow {
		return nil
	}
	n := 0
	for i := range cells {
		if i == 0 || !bytes.Equal(cells[i].name, cells[i-1].name) {
			n++
		}
	}
	if n > maxFullColumns {
		return errColumnCount(d.Name, n)
	}
	return nil
}

// wrote keeps what a change wrote for the table's stream.
func (w *writer) wrote(ch *change, cells ...cell) {
	if ch.table.Stream != nil {
		w.written = append(w.written, cells...)
	}
}

// date gives a cell without a version the server's time.
func (w *writer) date(c *cell) {
	if !c.hasVersion {
		w.arena, *c = appendDated(w.arena, *c, w.now)
	}
}

// increment returns the cell that holds the newest value of a column plus that
// of c. A column without a value counts as zero.
func (w *writer) increment(cells []cell, c cell) (cell, error) {
	sum, version := c.value.integer(), w.now
	newest := -1
	for i := range cells {
		if bytes.Equal(cells[i].name, c.name) && (newest < 0 || cells[i].version >= cells[newest].version) {
			newest = i
		}
	}
	if newest >= 0 {
		old := cells[newest]
		if old.value[0] != typeInteger {
			return c, invalid("Column '%s' holds %s, to which nothing can be added.", c.name, typeName(old.value[0]))
		}
		a, b := old.value.integer(), sum
		if b > 0 && a > math.MaxInt64-b || b < 0 && a < math.MinInt64-b {
			return c, invalid("The sum of column '%s' is out of the range of INTEGER.", c.name)
		}
		sum, version = a+b, max(version, old.version)
	}
	return makeCell(c.name, integerValue(sum), version, true), nil
}

// set puts the row a change leaves into the batch.
func (w *writer) set(ch *change, cells []cell, keep bool) error {
	if !keep {
		return w.batch.Delete(ch.key, nil)
	}
	w.scratch = appendStored(w.scratch[:0], ch.row.key, cells, math.MaxInt64)
	return w.batch.Set(ch.key, w.scratch, nil)
}

// generateKey gives the row a value no row before it had.
func (w *writer) generateKey(ch *change) error {
	i := ch.table.generated()
	v, err := w.s.nextIncrement(w.now * 1000)
	if err != nil {
		return err
	}
	ch.row.key[i] = makeCell(ch.row.key[i].name, integerValue(v), 0, false)
	ch.key, err = ch.table.rowKey(ch.row.key)
	return err
}

// returned is what a change answers with, nil for nothing.
func (ch *change) returned(cells []cell) []byte {
	switch ch.returns {
	case otsprotocol.ReturnType_RT_PK:
		return appendRow(appendHeader(nil), ch.row.key, nil)
	case otsprotocol.ReturnType_RT_AFTER_MODIFY:
		var newest []cell
		for i := range cells {
			first := i == 0 || !bytes.Equal(cells[i].name, cells[i-1].name)
			if first && slices.Contains(ch.columns, string(cells[i].name)) {
				newest = append(newest, cells[i])
			}
		}
		return appendRow(appendHeader(nil), ch.row.key, newest)
	}
	return nil
}

func (s *Server) putRow(c call, req *otsprotocol.PutRowRequest) (proto.Message, error) {
	res, err := s.writeRow(c, req.GetTableName(), req.TransactionId, func() (*change, error) {
		return newChange(otsprotocol.OperationType_PUT, req.GetRow(), req.GetCondition(), req.GetReturnContent())
	})
	return &otsprotocol.PutRowResponse{Consumed: res.consumed(), Row: res.row}, err
}

func (s *Server) updateRow(c call, req *otsprotocol.UpdateRowRequest) (proto.Message, error) {
	res, err := s.writeRow(c, req.GetTableName(), req.TransactionId, func() (*change, error) {
		return newChange(otsprotocol.OperationType_UPDATE, req.GetRowChange(), req.GetCondition(), req.GetReturnContent())
	})
	return &otsprotocol.UpdateRowResponse{Consumed: res.consumed(), Row: res.row}, err
}

func (s *Server) deleteRow(c call, req *otsprotocol.DeleteRowRequest) (proto.Message, error) {
	res, err := s.writeRow(c, req.GetTableName(), req.TransactionId, func() (*change, error) {
		return newChange(otsprotocol.OperationType_DELETE, req.GetPrimaryKey(), req.GetCondition(), req.GetReturnContent())
	})
	return &otsprotocol.DeleteRowResponse{Consumed: res.consumed(), Row: res.row}, err
}

func (s *Server) writeRow(c call, table string, transaction *string, parse func() (*change, error)) (result, error) {
	if err := refuseTransaction(transaction); err != nil {
		return result{}, err
	}
	ch, err := parse()
	if err != nil {
		return result{}, err
	}
	d, err := s.table(c.instance, table)
	if err != nil {
		return result{}, err
	}
	if err := ch.resolve(d, s.now()); err != nil {
		return result{}, err
	}
	results, err := s.writeAll([]*change{ch})
	if err != nil {
		return result{}, err
	}
	return results[0], results[0].err
}

func refuseTransaction(id *string) error {
	if id != nil {
		return invalid("Try to call method using explicit transaction on explicit-transaction-disabled table.")
	}
	return nil
}

// writeAll makes changes, each by itself, and returns when those that could be
// made are durable.
func (s *Server) writeAll(changes []*change) ([]result, error) {
	defer s.rows.lock(changes)()
	defer s.feed.write(changes)()
	w := &writer{s: s, batch: s.db.NewBatch(), now: s.now()}
	defer w.batch.Close()
	results := make([]result, len(changes))
	for i, ch := range changes {
		results[i] = w.write(ch)
	}
	return results, w.batch.Commit(s.durable)
}
