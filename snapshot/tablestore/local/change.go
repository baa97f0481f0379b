package local

import (
	"bytes"
	"errors"
	"slices"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
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

// newChange parses and checks a change as far as that needs no table.
func newChange(kind otsprotocol.OperationType, buf []byte, c *otsprotocol.Condition, content *otsprotocol.ReturnContent) (*change, error) {
	ch := &change{kind: kind, expect: c.GetRowExistence(), returns: content.GetReturnType(), columns: content.GetReturnColumnNames()}
	if _, known := otsprotocol.RowExistenceExpectation_name[int32(ch.expect)]; !known {
		return nil, invalid("Invalid row-existence expectation: %d.", ch.expect)
	}
	if _, known := otsprotocol.ReturnType_name[int32(ch.returns)]; !known {
		return nil, invalid("Invalid return type: %d.", ch.returns)
	}
	if b := c.GetColumnCondition(); b != nil {
		var err error
		if ch.condition, err = parseFilter(b); err != nil {
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
	if err := d.refuseGenerated(); err != nil {
		return err
	}
	ch.table = d
	if d.main != "" {
		return invalid("Can't write index table directly.")
	}
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
		if err := errors.Join(d.checkWrite(&ch.row.cells[i], now), d.checkIndexed(&ch.row.cells[i]), d.checkWhole(&ch.row.cells[i])); err != nil {
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
	i := ch.table.generated()
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

// checkWhole refuses a version for a cell of a table with update_full_row: the
// service gives all cells of a row the one it was last written with.
func (d *definition) checkWhole(c *cell) error {
	if d.Options.UpdateFullRow && c.op == opNone && c.hasVersion {
		return invalid("Timestamp cannot be given for column '%s': update_full_row of table '%s' is true.", c.name, d.Name)
	}
	return nil
}

// blind tells whether a change can be made without looking at the row. Where an
// index or a stream follows the table, changes to a row come one after another.
func (ch *change) blind() bool {
	if ch.kind == otsprotocol.OperationType_UPDATE || ch.condition != nil {
		return false
	}
	return ch.generate || ch.expect == otsprotocol.RowExistenceExpectation_IGNORE && len(ch.table.indexTables) == 0 && ch.table.Stream == nil
}
