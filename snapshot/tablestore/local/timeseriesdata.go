package local

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/timeseries/flatbuffer"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

// point is a row of a series as it is kept.
type point struct {
	index int // in the request
	id    *seriesID
	time  int64
	key   []cell // hash, identifiers, time, fields that belong to the key
	cells []cell // the other fields, named field:type
}

// newPoint checks a row of a request.
func (t *seriesTable) newPoint(index int, r *seriesRow) (*point, error) {
	p := &point{index: index, time: r.time}
	if r.time < 0 {
		return nil, invalid("Invalid time: %d. It must not be less than 0.", r.time)
	}
	if len(r.fields) == 0 {
		return nil, invalid("A row must have a field.")
	}
	if len(r.fields) > maxColumns {
		return nil, invalid("The number of attribute columns exceeds the limit, limit count: %d, column count: %d.", maxColumns, len(r.fields))
	}
	var err error
	if p.id, err = t.identify(r.id); err != nil {
		return nil, err
	}
	fields := make([]cell, len(t.Fields))
	for i := range r.fields {
		if err := t.place(p, fields, &r.fields[i]); err != nil {
			return nil, err
		}
	}
	for i := range fields {
		if fields[i].value == nil {
			return nil, invalid("Field '%s' is a primary key of table '%s' and is missing.", t.Fields[i].Name, t.Name)
		}
	}
	slices.SortFunc(p.cells, compareCells)
	p.key = append(t.columns(p.id), makeCell([]byte(columnTime), integerValue(p.time), 0, false))
	p.key = append(p.key, fields...)
	return p, p.checkDuplicates()
}

// place puts a field where it belongs: into the key or among the cells.
func (t *seriesTable) place(p *point, key []cell, f *seriesField) error {
	if err := checkFieldName(f.name); err != nil {
		return err
	}
	if f.value == nil {
		return invalid("Field '%s' must have one value.", f.name)
	}
	c := cell{name: []byte(f.name), value: f.value}
	if err := checkAttributeValue(&c); err != nil {
		return err
	}
	i := t.fieldColumn(f.name)
	if i < 0 {
		full := fmt.Appendf(nil, "%s:%s", f.name, strings.ToLower(seriesType(f.value[0]).String()))
		p.cells = append(p.cells, makeCell(full, f.value, p.time/1000, true))
		return nil
	}
	if f.value[0] != t.Fields[i].Type {
		return invalidKey("Validate PK type fail. Input: %s, Meta: %s.", typeName(f.value[0]), typeName(t.Fields[i].Type))
	}
	if key[i].value != nil {
		return invalid("Duplicated field: '%s'.", f.name)
	}
	key[i] = makeCell(c.name, c.value, 0, false)
	return checkKeyCell(&key[i], false)
}

func (p *point) checkDuplicates() error {
	for i := 1; i < len(p.cells); i++ {
		if name := fieldName(&p.cells[i]); bytes.Equal(name, fieldName(&p.cells[i-1])) {
			return invalid("Duplicated field: '%s'.", name)
		}
	}
	return nil
}

// fieldName is the name of the field a cell is of.
func fieldName(c *cell) []byte {
	name, _, _ := bytes.Cut(c.name, []byte{':'})
	return name
}

// dbKey is the key of the row.
func (p *point) dbKey(t *seriesTable) []byte {
	key := t.prefix(prefixPoint)
	for _, c := range p.key[1:] {
		key = appendKeyValue(key, c.value)
	}
	return key
}

// parsePoint reads a row as it is kept.
func parsePoint(stored []byte) (*point, error) {
	var r row
	if _, err := parseRow(stored, &r); err != nil {
		return nil, errStored()
	}
	i := slices.IndexFunc(r.key, func(c cell) bool { return string(c.name) == columnTime })
	if i < 0 {
		return nil, errStored()
	}
	return &point{key: r.key, cells: r.cells, time: r.key[i].value.integer()}, nil
}

// lockAll takes what the keys share locks with for one change alone.
func (l *rowLocks) lockAll(keys [][]byte) (unlock func()) {
	var set lockSet
	for _, key := range keys {
		set.add(maphash.Bytes(l.seed, key) % lockCount)
	}
	set.each(func(i uint64) { l.locks[i].Lock() })
	return func() { set.each(func(i uint64) { l.locks[i].Unlock() }) }
}

func (s *Server) putTimeseriesData(c call, req *otsprotocol.PutTimeseriesDataRequest) (proto.Message, error) {
	t, err := s.seriesTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	if err := t.checkVersion(req.GetSupportedTableVersion()); err != nil {
		return nil, err
	}
	rows, err := decodeRows(req.GetRowsData())
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || len(rows) > maxBatchWrite {
		return nil, invalid("The number of rows must be in range: [1, %d], it is %d.", maxBatchWrite, len(rows))
	}
	resp := &otsprotocol.PutTimeseriesDataResponse{}
	failing := s.faults.rows(c.fault, len(rows))
	var points []*point
	for i := range rows {
		p, err := t.newPoint(i, &rows[i])
		write := err == nil
		if write && failing[i] {
			write, err = c.fault.Kind == FaultRowsTimeout, c.fault.rowError()
		}
		if write {
			points = append(points, p)
		}
		if err != nil {
			resp.FailedRows = append(resp.FailedRows, failedRow(i, err))
		}
	}
	known := req.GetMetaUpdateMode() == otsprotocol.MetaUpdateMode_MUM_IGNORE
	resp.MetaUpdateStatus, err = s.writePoints(t, points, known)
	return resp, err
}

// rowError is what a fault that makes rows fail answers for one.
func (f Fault) rowError() error {
	if f.Kind == FaultRowsTimeout {
		return errTimeout()
	}
	return Fault{Kind: FaultBusy}.refusal()
}

func failedRow(index int, err error) *otsprotocol.FailedRowInfo {
	e := asServiceError(err)
	return &otsprotocol.FailedRowInfo{RowIndex: proto.Int32(int32(index)), ErrorCode: proto.String(e.code), ErrorMessage: proto.String(e.message)}
}

// writePoints writes rows in place of those with the same keys, and the metadata
// of series that have none, unless they are said to be known. It returns which it
// wrote.
func (s *Server) writePoints(t *seriesTable, points []*point, known bool) (*otsprotocol.MetaUpdateStatus, error) {
	if len(points) == 0 {
		return nil, nil
	}
	keys := make([][]byte, len(points))
	for i, p := range points {
		keys[i] = t.seriesKey(prefixSeries, p.key[:1+len(t.identifiers())])
	}
	defer s.rows.lockAll(keys)()
	b := s.db.NewIndexedBatch()
	defer b.Close()
	status := &otsprotocol.MetaUpdateStatus{}
	for i, p := range points {
		if err := b.Set(p.dbKey(t), appendRow(nil, p.key, p.cells), nil); err != nil {
			return nil, err
		}
		for _, d := range t.indexTables {
			if err := p.follow(b, d); err != nil {
				return nil, err
			}
		}
		if known {
			continue
		}
		updated, err := t.touchSeries(b, keys[i], p.id, s.clock())
		if err != nil {
			return nil, err
		}
		if updated != 0 {
			status.RowIds = append(status.RowIds, uint32(p.index))
			status.MetaUpdateTimes = append(status.MetaUpdateTimes, updated)
		}
	}
	return status, b.Commit(s.durable)
}

// refreshSeries is how old the update time of a series gets while rows are
// written to it. The service refreshes it from time to time as well, and does
// not say when.
const refreshSeries = time.Hour

// touchSeries puts the metadata of a series into the batch when there is none or
// it is old, and returns its update time, in seconds, 0 when it was left alone.
func (t *seriesTable) touchSeries(b *pebble.Batch, key []byte, id *seriesID, now time.Time) (updated uint32, err error) {
	meta, err := readSeries(b, key)
	if err != nil {
		return 0, err
	}
	if meta == nil || t.expired(meta, now) {
		meta = &otsprotocol.TimeseriesMeta{TimeSeriesKey: id.proto()}
	} else if now.Sub(time.UnixMicro(meta.GetUpdateTime())) < refreshSeries {
		return 0, nil
	}
	return uint32(now.Unix()), writeSeries(b, key, meta, now)
}

// readSeries reads the metadata of a series, nil if there is none.
func readSeries(db pebble.Reader, key []byte) (*otsprotocol.TimeseriesMeta, error) {
	kept, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	meta := &otsprotocol.TimeseriesMeta{}
	return meta, errors.Join(proto.Unmarshal(kept, meta), closer.Close())
}

// writeSeries puts the metadata of a series into the batch as updated now.
func writeSeries(b *pebble.Batch, key []byte, meta *otsprotocol.TimeseriesMeta, now time.Time) error {
	meta.UpdateTime = proto.Int64(now.UnixMicro())
	kept, err := proto.Marshal(meta)
	if err != nil {
		return err
	}
	return b.Set(key, kept, nil)
}

func (s *Server) getTimeseriesData(c call, req *otsprotocol.GetTimeseriesDataRequest) (proto.Message, error) {
	t, err := s.seriesTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	if err := t.checkVersion(req.GetSupportedTableVersion()); err != nil {
		return nil, err
	}
	id, err := t.identify(req.GetTimeSeriesKey())
	if err != nil {
		return nil, err
	}
	limit, err := checkLimit(req.Limit, maxScanRows, maxScanRows)
	if err != nil {
		return nil, err
	}
	if c.fault.Kind == FaultEmptyPage {
		limit = 0
	}
	fields, err := fieldsToGet(req.GetFieldsToGet())
	if err != nil {
		return nil, err
	}
	series := t.seriesKey(prefixPoint, t.columns(id))
	span, err := t.timeSpan(series, req, s.clock())
	if err != nil {
		return nil, err
	}
	return s.readPoints(span, series, fields, limit)
}

// checkLimit returns how many an answer has at most: what is asked for, up to
// most, or the usual number.
func checkLimit(asked *int32, usual, most int) (int, error) {
	if asked == nil {
		return usual, nil
	}
	if n := int(*asked); n <= 0 || n > most {
		return 0, invalid("The limit must be in range: [1, %d], it is %d.", most, n)
	}
	return int(*asked), nil
}

// span is a range of rows to read in one direction.
type span struct {
	lower, upper []byte // in the database, upper exclusive
	backward     bool
}

// timeSpan is the range of rows of a series a request asks for, but those that
// have expired.
func (t *seriesTable) timeSpan(series []byte, req *otsprotocol.GetTimeseriesDataRequest, now time.Time) (span, error) {
	at := func(time int64) []byte { return appendKeyValue(bytes.Clone(series), integerValue(time)) }
	begin, end := req.GetBeginTime(), req.GetEndTime()
	r := span{upper: successor(series), backward: req.GetBackward()}
	switch {
	case req.SpecificTime != nil:
		begin = req.GetSpecificTime()
		r.upper = successor(at(begin))
	case req.EndTime != nil:
		r.upper = at(end)
	}
	if begin < 0 || req.SpecificTime == nil && req.EndTime != nil && end <= begin {
		return r, invalid("Invalid time range: [%d, %d).", begin, end)
	}
	r.lower = at(max(begin, t.oldest(now)))
	return r, r.resume(req.GetToken(), series)
}

// resume goes on from where a token says, which is the key of a row.
func (r *span) resume(token, series []byte) error {
	if len(token) == 0 {
		return nil
	}
	key := append([]byte{series[0]}, token...)
	if !bytes.HasPrefix(key, series) || len(key) == len(series) {
		return invalid("Invalid token.")
	}
	if r.backward {
		r.upper = slices.MinFunc([][]byte{r.upper, append(key, 0)}, bytes.Compare)
	} else {
		r.lower = slices.MaxFunc([][]byte{r.lower, key}, bytes.Compare)
	}
	return nil
}

// readPoints reads the rows of a span, as many as go into one answer.
func (s *Server) readPoints(r span, series []byte, fields fieldSet, limit int) (resp *otsprotocol.GetTimeseriesDataResponse, err error) {
	resp = &otsprotocol.GetTimeseriesDataResponse{RowsData: []byte{}}
	if bytes.Compare(r.lower, r.upper) >= 0 {
		return resp, nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: r.lower, UpperBound: r.upper})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	first, next := it.First, it.Next
	if r.backward {
		first, next = it.Last, it.Prev
	}
	more := first()
	for size, rows := 0, 0; more && rows < limit && size < maxScanBytes; more = next() {
		size += len(it.Value())
		wire, err := fields.pick(it.Value())
		if err != nil {
			return nil, err
		}
		if wire == nil {
			continue
		}
		if rows++; rows == 1 {
			resp.RowsData = appendHeader(resp.RowsData)
		}
		resp.RowsData = append(resp.RowsData, wire...)
	}
	if more {
		resp.NextToken = bytes.Clone(it.Key()[1:])
	}
	return resp, nil
}

// fieldSet are the fields to read, by name and type; nil for all.
type fieldSet map[string]flatbuffer.DataType

func fieldsToGet(asked []*otsprotocol.TimeseriesFieldsToGet) (fieldSet, error) {
	if len(asked) == 0 {
		return nil, nil
	}
	fields := fieldSet{}
	for _, f := range asked {
		if f.GetName() == "" || f.GetType() <= int32(flatbuffer.DataTypeNONE) || f.GetType() > int32(flatbuffer.DataTypeBINARY) {
			return nil, invalid("Invalid field to get: '%s' of type %d.", f.GetName(), f.GetType())
		}
		fields[f.GetName()] = flatbuffer.DataType(f.GetType())
	}
	return fields, nil
}

// pick returns a kept row with the fields asked for, nil for a row that has none
// of them. A field of another type than is asked for is not one of them.
func (fields fieldSet) pick(kept []byte) ([]byte, error) {
	if fields == nil {
		return kept, nil
	}
	var r row
	if _, err := parseRow(kept, &r); err != nil {
		return nil, errStored()
	}
	var cells []cell
	for i := range r.cells {
		if kind, asked := fields[string(fieldName(&r.cells[i]))]; asked && kind == seriesType(r.cells[i].value[0]) {
			cells = append(cells, r.cells[i])
		}
	}
	if len(cells) == 0 {
		return nil, nil
	}
	return appendRow(nil, r.key, cells), nil
}
