package local

import (
	"errors"
	"math"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

// selection is which cells of a row a read wants.
type selection struct {
	columns   map[string]bool // nil: all
	from, to  string          // column names, to exclusive; "": open
	oldest    int64
	before    int64 // exclusive
	versions  int
	filter    *filter
	onlyNamed bool // of the primary key, too, only the columns named
}

// criteria is what the reads' requests have in common.
type criteria interface {
	GetColumnsToGet() []string
	GetTimeRange() *otsprotocol.TimeRange
	GetMaxVersions() int32
	GetFilter() []byte
	GetStartColumn() string
	GetEndColumn() string
}

// newSelection checks what a read asks for. limited tells whether it says how
// many versions it wants.
func newSelection(c criteria, limited bool) (*selection, error) {
	sel := &selection{from: c.GetStartColumn(), to: c.GetEndColumn(), oldest: math.MinInt64, before: math.MaxInt64, versions: math.MaxInt}
	if err := sel.setVersions(c, limited); err != nil {
		return nil, err
	}
	if n := len(c.GetColumnsToGet()); n > 0 {
		sel.columns = make(map[string]bool, n)
	}
	for _, name := range c.GetColumnsToGet() {
		if err := checkColumnName(name); err != nil {
			return nil, err
		}
		sel.columns[name] = true
	}
	// Names given twice count once: the SDK's own tests repeat one for each row.
	if n := len(sel.columns); n > maxColumnsToGet {
		return nil, invalid("The number of columns from the request exceeds the limit, limit count: %d, column count: %d.", maxColumnsToGet, n)
	}
	if len(c.GetFilter()) > 0 {
		var err error
		if sel.filter, err = parseFilter(c.GetFilter()); err != nil {
			return nil, err
		}
	}
	return sel, nil
}

// setVersions takes over the versions a read wants: a number of them, a range
// of times, both, or one time.
func (sel *selection) setVersions(c criteria, limited bool) error {
	t := c.GetTimeRange()
	if t == nil && !limited {
		return invalid("No version condition is specified while querying row.")
	}
	if limited {
		if c.GetMaxVersions() <= 0 {
			return invalid("Invalid max versions: %d. Reason: Max versions must be positive.", c.GetMaxVersions())
		}
		sel.versions = int(c.GetMaxVersions())
	}
	if t == nil {
		return nil
	}
	if t.SpecificTime != nil {
		switch {
		case limited:
			return invalid("Specific tiemstamp and max versions cannot be given at the same time.")
		case t.StartTime != nil || t.EndTime != nil:
			return invalid("Specific tiemstamp and time range cannot be given at the same time.")
		case t.GetSpecificTime() < 0:
			return invalid("Specific timestamp cannot be less than 0.")
		}
		sel.oldest, sel.before = t.GetSpecificTime(), t.GetSpecificTime()
		if sel.before < math.MaxInt64 {
			sel.before++
		}
		return nil
	}
	if t.StartTime == nil || t.EndTime == nil {
		return invalid("Start and end time must be given at the same time.")
	}
	if t.GetStartTime() < 0 || t.GetEndTime() < t.GetStartTime() {
		return invalid("Invalid time range: [%d, %d).", t.GetStartTime(), t.GetEndTime())
	}
	sel.oldest, sel.before = t.GetStartTime(), t.GetEndTime()
	return nil
}

// whole tells whether the selection takes every cell of s.
func (sel *selection) whole(s stored) bool {
	return sel.columns == nil && sel.filter == nil && !sel.onlyNamed && sel.from == "" && sel.to == "" &&
		sel.oldest == math.MinInt64 && sel.before == math.MaxInt64 && s.versions <= sel.versions
}

// appendSelected appends what is selected of a stored row, if anything is. With
// columns named, a row is there only if it has one of them.
func (sel *selection) appendSelected(dst []byte, s stored, keep retention, r *row) (out []byte, ok bool, err error) {
	if sel.whole(s) && keep.holds(s) {
		return append(dst, s.wire...), true, nil
	}
	exists, err := keep.load(s, r)
	if !exists || err != nil {
		return dst, false, err
	}
	cells := sel.choose(r.cells)
	switch {
	case sel.filter.pages():
		cells = sel.filter.cut(cells)
	case sel.filter != nil && !sel.filter.matches(r.key, cells):
		return dst, false, nil
	}
	if sel.columns != nil && len(cells) == 0 && !sel.namesKey(r.key) {
		return dst, false, nil
	}
	return appendRow(dst, sel.chooseKey(r.key), cells), true, nil
}

// choose keeps, in place, the cells selected by name and version.
func (sel *selection) choose(cells []cell) []cell {
	kept, run := cells[:0], 0
	name := ""
	for i := range cells {
		if i == 0 || string(cells[i].name) != name {
			name, run = string(cells[i].name), 0
		}
		if !sel.wants(name) || cells[i].version < sel.oldest || cells[i].version >= sel.before {
			continue
		}
		if run++; run <= sel.versions {
			kept = append(kept, cells[i])
		}
	}
	return kept
}

func (sel *selection) wants(name string) bool {
	if sel.columns != nil && !sel.columns[name] {
		return false
	}
	return name >= sel.from && (sel.to == "" || name < sel.to)
}

func (sel *selection) namesKey(key []cell) bool {
	for i := range key {
		if sel.columns[string(key[i].name)] {
			return true
		}
	}
	return false
}

func (sel *selection) chooseKey(key []cell) []cell {
	if !sel.onlyNamed || sel.columns == nil {
		return key
	}
	kept := key[:0]
	for i := range key {
		if sel.columns[string(key[i].name)] {
			kept = append(kept, key[i])
		}
	}
	return kept
}

// parseReadKey parses the primary key a read names, or the bound of a range.
func parseReadKey(buf []byte, bound bool) ([]cell, error) {
	var r row
	if err := parseBuffer(buf, &r); err != nil {
		return nil, err
	}
	if len(r.cells) > 0 {
		return nil, invalid("Attribute column cannot be given while reading data.")
	}
	if r.deleted {
		return nil, invalid("Delete marker cannot be given.")
	}
	for i := range r.key {
		if err := checkKeyCell(&r.key[i], bound); err != nil {
			return nil, err
		}
		if r.key[i].value[0] == typeAutoIncrement {
			return nil, invalid("PKAutoIncr can't be used for read operations.")
		}
	}
	return r.key, nil
}

func (s *Server) getRow(c call, req *otsprotocol.GetRowRequest) (proto.Message, error) {
	if err := errors.Join(refuseTransaction(req.TransactionId), refuseToken(req.Token)); err != nil {
		return nil, err
	}
	sel, err := newSelection(req, req.MaxVersions != nil)
	if err != nil {
		return nil, err
	}
	key, err := parseReadKey(req.GetPrimaryKey(), false)
	if err != nil {
		return nil, err
	}
	d, err := s.readable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	found, read, err := s.readRow(d, key, sel)
	if err != nil {
		return nil, err
	}
	return &otsprotocol.GetRowResponse{Consumed: consumed(read, 0), Row: found}, nil
}

// refuseToken refuses to go on inside a row where an earlier answer stopped:
// no answer here does.
func refuseToken(token []byte) error {
	if len(token) > 0 {
		return unsupported("Reading on from a token")
	}
	return nil
}

// readRow returns what is selected of a row, with a header, or nothing, and the
// capacity units it took.
func (s *Server) readRow(d *definition, cells []cell, sel *selection) (found []byte, read int32, err error) {
	key, err := d.rowKey(cells)
	if err != nil {
		return nil, 0, err
	}
	b, closer, err := d.storedRow(s.db, key)
	if errors.Is(err, pebble.ErrNotFound) {
		return []byte{}, 1, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer closer.Close()
	kept, err := parseStored(b)
	if err != nil {
		return nil, 0, err
	}
	var r row
	found, ok, err := sel.appendSelected(appendHeader(nil), kept, d.retention(s.now()), &r)
	if !ok {
		found = []byte{}
	}
	return found, units(kept.size), err
}

func (s *Server) batchGetRow(c call, req *otsprotocol.BatchGetRowRequest) (proto.Message, error) {
	reads, err := parseBatchGet(req)
	if err != nil {
		return nil, err
	}
	resp := &otsprotocol.BatchGetRowResponse{}
	for i, table := range req.GetTables() {
		answers := &otsprotocol.TableInBatchGetRowResponse{TableName: table.TableName}
		for _, key := range reads[i].keys {
			answers.Rows = append(answers.Rows, s.readInBatch(c, table.GetTableName(), key, reads[i].sel))
		}
		resp.Tables = append(resp.Tables, answers)
	}
	return resp, nil
}

// readInBatch reads a row and answers for it alone, also when its table does not
// exist.
func (s *Server) readInBatch(c call, table string, key []cell, sel *selection) *otsprotocol.RowInBatchGetRowResponse {
	var found []byte
	var read int32
	d, err := s.readable(c.instance, table)
	if err == nil {
		found, read, err = s.readRow(d, key, sel)
	}
	if err != nil {
		return &otsprotocol.RowInBatchGetRowResponse{IsOk: proto.Bool(false), Error: asServiceError(err).proto()}
	}
	return &otsprotocol.RowInBatchGetRowResponse{IsOk: proto.Bool(true), Consumed: consumed(read, 0), Row: found}
}

// tableRead is what a BatchGetRow wants of one table.
type tableRead struct {
	sel  *selection
	keys [][]cell
}

func parseBatchGet(req *otsprotocol.BatchGetRowRequest) ([]tableRead, error) {
	names := map[string]bool{}
	count := 0
	var reads []tableRead
	for _, table := range req.GetTables() {
		name := table.GetTableName()
		if err := checkTableName(name); err != nil {
			return nil, err
		}
		if names[name] {
			return nil, invalid("Duplicated table name: '%s'.", name)
		}
		names[name] = true
		for _, token := range table.GetToken() {
			if err := refuseToken(token); err != nil {
				return nil, err
			}
		}
		sel, err := newSelection(table, table.MaxVersions != nil)
		if err != nil {
			return nil, err
		}
		if count += len(table.GetPrimaryKey()); count > maxBatchGet {
			return nil, invalid("Rows count exceeds the upper limit: %d.", maxBatchGet)
		}
		read := tableRead{sel: sel}
		for _, buf := range table.GetPrimaryKey() {
			key, err := parseReadKey(buf, false)
			if err != nil {
				return nil, err
			}
			read.keys = append(read.keys, key)
		}
		if len(read.keys) == 0 {
			return nil, invalid("No row specified in table: '%s'.", name)
		}
		reads = append(reads, read)
	}
	if count == 0 {
		return nil, invalid("No row specified in the request of BatchGetRow.")
	}
	return reads, nil
}
