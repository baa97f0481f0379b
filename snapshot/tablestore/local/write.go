package local

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

// change is one row a request wants written.
type change struct {
	table     *definition
	kind      otsprotocol.OperationType
	row       row
	expect    otsprotocol.RowExistenceExpectation
	condition *filter // nil: none
	returns   otsprotocol.ReturnType
	columns   []string // RT_AFTER_MODIFY: the columns to return

	refused  error  // why the change cannot be made at all; nil: it may be
	generate bool   // the server fills in the AUTO_INCREMENT column
	key      []byte // of the row in the database, once known
}

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

// newChange parses and checks a change as far as that needs no table.
func newChange(kind otsprotocol.OperationType, buf []byte, c *otsprotocol.Condition, content *otsprotocol.ReturnContent) (*change, error) {
	ch := &change{kind: kind, expect: c.GetRowExistence(), returns: content.GetReturnType(), columns: content.GetReturnColumnNames()}
	if _, known := otsprotocol.RowExistenceExpectation_name[int32(ch.expect)]; !known {
		return nil, invalid("Invalid row-existence expectation: %d.", ch.expect)
	}
	if _, known := otsprotocol.ReturnType_name[int32(ch.returns)]; !known {
		return nil, invalid("Invalid return type: %d.", ch.returns)
	}
	if c.ColumnCondition != nil {
		var err error
		if ch.condition, err = parseFilter(c.ColumnCondition); err != nil {
			return nil, err
		}
		if ch.condition.pages() {
			return nil, invalid("Invalid condition: a column pagination filter cannot be a condition.")
		}
	}
	ch.row = row{key: make([]cell, 0, maxKeyColumns), cells: make([]cell, 0, 16)} // most rows fit
	if err := parseBuffer(buf, &ch.row); err != nil {
		return nil, err
	}
	return ch, ch.check()
}

// check holds the rules for the cells of a change.
func (ch *change) check() error {
	for i := range ch.row.key {
		if err := checkKeyCell(&ch.row.key[i], false); err != nil {
			return err
		}
	}
	if n := len(ch.row.cells); n > maxColumns {
		return invalid("The number of attribute columns exceeds the limit, limit count: %d, column count: %d.", maxColumns, n)
	}
	switch ch.kind {
	case otsprotocol.OperationType_DELETE:
		if !ch.row.deleted {
			return invalid("Invalid request of delete row: missing RowDeleteMarker in request.")
		}
		if len(ch.row.cells) > 0 {
			return invalid("Invalid delete row request: unexpected cells in request.")
		}
		return nil
	case otsprotocol.OperationType_PUT, otsprotocol.OperationType_UPDATE:
		if ch.row.deleted {
			return invalid("Invalid request of put/update row: unexpected RowDeleteMarker in request.")
		}
	default:
		return invalid("The type of row in batch write operation is invalid.")
	}
	if ch.kind == otsprotocol.OperationType_UPDATE && len(ch.row.cells) == 0 {
		return invalid("Invalid update row request: missing cells in request.")
	}
	for i := range ch.row.cells {
		if err := ch.checkCell(&ch.row.cells[i]); err != nil {
			return err
		}
	}
	return ch.checkSize()
}

func (ch *change) checkSize() error {
	name := "PutRow"
	if ch.kind == otsprotocol.OperationType_UPDATE {
		name = "UpdateRow"
	}
	if n := ch.size(); n > maxWrite {
		return invalid("The total data size of %s request exceeds the limit, limit size: %d, data size: %d.", name, maxWrite, n)
	}
	return nil
}

func (ch *change) size() int { return dataSize(ch.row.key, ch.row.cells) }

// checkCell holds the rules for an attribute in a change.
func (ch *change) checkCell(c *cell) error {
	if err := checkColumnName(c.name); err != nil {
		return err
	}
	if slices.ContainsFunc(ch.row.key, func(k cell) bool { return bytes.Equal(k.name, c.name) }) {
		return invalid("Duplicated attribute column name with primary key column: '%s'.", c.name)
	}
	if c.hasVersion {
		if err := checkVersion(c.version); err != nil {
			return err
		}
	}
	if c.op != opNone && ch.kind == otsprotocol.OperationType_PUT {
		return invalid("OpType cannot be given for column name:'%s' in PutRow.", c.name)
	}
	switch c.op {
	case opNone:
		if c.value == nil {
			return invalid("Cell data broken, attr has no value, name:'%s'.", c.name)
		}
		return checkAttributeValue(c)
	case opDeleteAll, opDeleteOneVersion:
		return checkDeletion(c)
	case opIncrement:
		return checkIncrement(c)
	}
	return invalid("Invalid op type of cell: %d.", c.op)
}

func checkDeletion(c *cell) error {
	switch {
	case c.value != nil:
		return invalid("Column value cannot be given when type is DELETE_ONE_VERSION,DELETE_ALL_VERSION.")
	case c.op == opDeleteAll && c.hasVersion:
		return invalid("Timestamp cannot be given when type is DELETE_ALL_VERSION.")
	case c.op == opDeleteOneVersion && !c.hasVersion:
		return invalid("Timestamp must be given when type is DELETE_ONE_VERSION.")
	}
	return nil
}

func checkIncrement(c *cell) error {
	switch {
	case c.value == nil || c.value[0] != typeInteger:
		return invalid("Only an INTEGER can be added to column '%s'.", c.name)
	case c.hasVersion:
		return invalid("Timestamp cannot be given when type is INCREMENT.")
	}
	return nil
}

// resolve checks a change against its table and finds the row it names.
func (ch *change) resolve(d *definition, now int64) error {
	ch.table = d
	generated := func(i int, t byte) bool { return d.Key[i].AutoIncrement && t == typeAutoIncrement }
	if err := d.matchKey(ch.row.key, generated); err != nil {
		return err
	}
	if ch.kind == otsprotocol.OperationType_UPDATE && !d.Options.AllowUpdate {
		return invalid("UpdateRow is not allowed for table '%s': its option allow_update is false.", d.Name)
	}
	if err := ch.checkGenerated(); err != nil {
		return err
	}
	for i := range ch.row.cells {
		if err := d.checkWrite(&ch.row.cells[i], now); err != nil {
			return err
		}
	}
	if !ch.generate {
		var err error
		ch.key, err = d.rowKey(ch.row.key)
		return err
	}
	return nil
}

// checkGenerated holds the rules of a table with an AUTO_INCREMENT column: the
// server makes new rows, a client can only change those that are there.
func (ch *change) checkGenerated() error {
	i := slices.IndexFunc(ch.table.Key, func(k keyColumn) bool { return k.AutoIncrement })
	if i < 0 {
		return nil
	}
	ch.generate = ch.row.key[i].value[0] == typeAutoIncrement
	switch {
	case ch.kind == otsprotocol.OperationType_DELETE:
		if ch.generate {
			return invalid("Invalid row to delete which with pk auto increment.")
		}
	case ch.generate && ch.condition != nil:
		return invalid("Can't set condition when modify row with pk auto increment.")
	case ch.generate && ch.expect != otsprotocol.RowExistenceExpectation_IGNORE:
		return invalid("Invalid expect: %s when modify row with pk auto increment.", ch.expect)
	case !ch.generate && ch.expect != otsprotocol.RowExistenceExpectation_EXPECT_EXIST:
		return invalid("Invalid expect: %s when modify a specific row for table with pk auto increment.", ch.expect)
	}
	return nil
}

// checkWrite refuses a version too far from the server's clock, or one that has
// outlived the table's time to live already.
func (d *definition) checkWrite(c *cell, now int64) error {
	if c.op != opNone || !c.hasVersion {
		return nil
	}
	seconds, at := now/1000, c.version/1000
	oldest := seconds - d.Options.Deviation
	if ttl := int64(d.Options.TimeToLive); ttl != -1 {
		oldest = max(oldest, seconds-ttl)
	}
	if at < oldest || at >= seconds+d.Options.Deviation {
		return invalid("Invalid timestamp. Cell:'%s', timestamp: %d.", c.name, c.version)
	}
	return nil
}

// blind tells whether a change can be made without looking at the row.
func (ch *change) blind() bool {
	return ch.kind != otsprotocol.OperationType_UPDATE && ch.condition == nil && (ch.generate || ch.expect == otsprotocol.RowExistenceExpectation_IGNORE)
}

// writer makes changes in one batch of the database, at one moment.
type writer struct {
	s       *Server
	batch   *pebble.Batch
	now     int64
	old     row    // of the change at hand
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
	res := result{}
	exists := false
	w.old.cells = w.old.cells[:0]
	if !ch.blind() {
		var err error
		if exists, err = w.load(ch); err != nil {
			return result{err: err}
		}
		if ch.expect != otsprotocol.RowExistenceExpectation_IGNORE || ch.condition != nil {
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
	return ch.table.retention(w.now).load(s, &w.old)
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
		return ch.table.retention(w.now).trim(arrange(cells)), true, nil
	}
	cells, keep = slices.Clone(w.old.cells), exists
	for i := range ch.row.cells {
		c := ch.row.cells[i]
		switch c.op {
		case opDeleteAll:
			cells = slices.DeleteFunc(cells, func(o cell) bool { return bytes.Equal(o.name, c.name) })
			continue
		case opDeleteOneVersion:
			cells = slices.DeleteFunc(cells, func(o cell) bool { return bytes.Equal(o.name, c.name) && o.version == c.version })
			continue
		case opIncrement:
			if c, err = w.increment(cells, c); err != nil {
				return nil, false, err
			}
		}
		w.date(&c)
		cells, keep = append(cells, c), true
	}
	// Deletions alone do not make a row.
	return ch.table.retention(w.now).trim(arrange(cells)), keep, nil
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
	w.scratch = appendStored(w.scratch[:0], ch.row.key, cells)
	return w.batch.Set(ch.key, w.scratch, nil)
}

// generateKey gives the row a value no row before it had. It follows the clock,
// and is kept with the row in case the clock turns back.
func (w *writer) generateKey(ch *change) error {
	i := slices.IndexFunc(ch.table.Key, func(k keyColumn) bool { return k.AutoIncrement })
	v := w.s.nextIncrement(w.now * 1000)
	ch.row.key[i] = makeCell(ch.row.key[i].name, integerValue(v), 0, false)
	var err error
	if ch.key, err = ch.table.rowKey(ch.row.key); err != nil {
		return err
	}
	return w.batch.Set([]byte{prefixIncrement}, binary.BigEndian.AppendUint64(nil, uint64(v)), nil)
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
	s.mu.RLock()
	defer s.mu.RUnlock()
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
// made are durable. s.mu is held.
func (s *Server) writeAll(changes []*change) ([]result, error) {
	defer s.rows.lock(changes)()
	w := &writer{s: s, batch: s.db.NewBatch(), now: s.now()}
	defer w.batch.Close()
	results := make([]result, len(changes))
	for i, ch := range changes {
		results[i] = w.write(ch)
	}
	return results, w.batch.Commit(s.durable)
}

// get reads a row as the changes before it in an atomic batch leave it, and as
// the database has it otherwise.
func (w *writer) get(key []byte) ([]byte, io.Closer, error) {
	if w.batch.Indexed() {
		return w.batch.Get(key)
	}
	return w.s.db.Get(key)
}
