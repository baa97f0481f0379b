package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

// The limits of the timeseries model, as the service documents them.
const (
	maxSeriesName    = 128 // bytes: of a table, a field, a measurement
	maxSource        = 256
	maxSeriesKey     = 6  // identifiers of a series
	maxSeriesFields  = 4  // fields that are part of a row's key
	maxStores        = 1  // analytical stores of a table
	maxSeriesIndexes = 10 // analytical stores and lastpoint indexes of a table
	seriesTables     = 2  // tables a timeseries table counts for: its series and their data
	minStoreLife     = 2592000
)

// seriesTable is a timeseries table: all there is to know of it but its series.
// Like a [definition] one is never changed.
type seriesTable struct {
	ID         uint64      `json:"id"`
	Instance   string      `json:"instance"`
	Name       string      `json:"name"`
	TimeToLive int32       `json:"time_to_live"` // seconds since the time of a row, -1: for ever
	Meta       metaOptions `json:"meta,omitzero"`
	Key        []string    `json:"key,omitempty"`    // what identifies a series; none: defaultSeriesKey
	Fields     []keyColumn `json:"fields,omitempty"` // part of a row's key, after its time
	Stores     []store     `json:"stores,omitempty"`
	Lastpoints []lastpoint `json:"lastpoints,omitempty"`

	indexTables []*definition // as Lastpoints has them, see [Server.putSeriesTable]
}

// The columns of a timeseries table that have a meaning of their own.
const (
	columnHash        = "_#h"
	columnMeasurement = "_m_name"
	columnSource      = "_data_source"
	columnTags        = "_tags"
	columnTime        = "_time"
	columnUpdated     = "_meta_update_time"
	columnAttributes  = "_attributes"
)

var defaultSeriesKey = []string{columnMeasurement, columnSource, columnTags}

// identifiers are the columns that identify a series, in order.
func (t *seriesTable) identifiers() []string {
	if len(t.Key) == 0 {
		return defaultSeriesKey
	}
	return t.Key
}

func seriesTableKey(instance, table string) []byte {
	key := tableKey(instance, table)
	key[0] = prefixSeriesTable
	return key
}

// loadSeriesTables reads the timeseries tables, after the others.
func (s *Server) loadSeriesTables() error {
	s.series = map[string]map[string]*seriesTable{}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixSeriesTable}, UpperBound: []byte{prefixSeriesTable + 1}})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		t := new(seriesTable)
		if err := json.Unmarshal(it.Value(), t); err != nil {
			return errors.Join(fmt.Errorf("definition of timeseries table %q: %w", it.Key()[1:], err), it.Close())
		}
		s.putSeriesTable(t)
	}
	return it.Close()
}

// putSeriesTable makes a timeseries table the one in force, and the tables of its
// lastpoint indexes with it.
func (s *Server) putSeriesTable(t *seriesTable) {
	s.removeSeriesTable(t.Instance, t.Name)
	if s.series[t.Instance] == nil {
		s.series[t.Instance] = map[string]*seriesTable{}
	}
	s.series[t.Instance][t.Name] = t
	t.indexTables = nil
	for i := range t.Lastpoints {
		d := t.lastpointTable(&t.Lastpoints[i])
		t.indexTables = append(t.indexTables, d)
		s.tables.put(d)
	}
}

func (s *Server) removeSeriesTable(instance, name string) {
	if t := s.series[instance][name]; t != nil {
		for _, d := range t.indexTables {
			s.tables.remove(instance, d.Name)
		}
	}
	delete(s.series[instance], name)
}

// storeSeriesTable makes a timeseries table durable and the one in force.
func (s *Server) storeSeriesTable(b *pebble.Batch, t *seriesTable) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := b.Set(seriesTableKey(t.Instance, t.Name), text, nil); err != nil {
		return err
	}
	if err := b.Commit(s.durable); err != nil {
		return err
	}
	s.putSeriesTable(t)
	return nil
}

// replaceSeriesTable stores a changed timeseries table.
func (s *Server) replaceSeriesTable(t *seriesTable) error {
	b := s.db.NewBatch()
	defer b.Close()
	return s.storeSeriesTable(b, t)
}

// seriesTable finds a timeseries table.
func (s *Server) seriesTable(instance, name string) (*seriesTable, error) {
	if err := checkSeriesTableName(name); err != nil {
		return nil, err
	}
	if t := s.series[instance][name]; t != nil {
		return t, nil
	}
	return nil, errTableNotExist()
}

// seriesSlots is how many tables the timeseries tables of an instance count for,
// but for their lastpoint indexes, which are tables.
func (s *Server) seriesSlots(instance string) int {
	slots := 0
	for _, t := range s.series[instance] {
		slots += seriesTables + len(t.Stores)
	}
	return slots
}

func checkSeriesTableName(s string) error {
	if !validName(s) || len(s) > maxSeriesName {
		return invalid("Invalid timeseries table name: '%s'.", s)
	}
	return nil
}

// checkFieldName holds the rule for the names of fields and of identifiers.
func checkFieldName(s string) error {
	ok := validName(s) && len(s) <= maxSeriesName
	for i := 0; ok && i < len(s); i++ {
		ok = s[i] < 'A' || s[i] > 'Z'
	}
	switch s {
	case columnMeasurement, columnSource, columnTags, columnTime, columnUpdated, columnAttributes:
		ok = false
	}
	if !ok {
		return invalid("Invalid field name: '%s'. A field name has lowercase letters, digits and underscores, begins with no digit and is none of the names of the service.", s)
	}
	return nil
}

func (s *Server) createTimeseriesTable(c call, req *otsprotocol.CreateTimeseriesTableRequest) (proto.Message, error) {
	t, err := s.newSeriesTable(c.instance, req)
	if err != nil {
		return nil, err
	}
	names := []string{t.Name}
	for _, x := range t.Lastpoints {
		names = append(names, x.Name)
	}
	if err := s.checkRoom(c.instance, seriesTables+len(t.Stores)+len(t.Lastpoints), names...); err != nil {
		return nil, err
	}
	b := s.db.NewBatch()
	defer b.Close()
	if t.ID, err = s.newID(b); err != nil {
		return nil, err
	}
	for i := range t.Lastpoints {
		if t.Lastpoints[i].ID, err = s.newID(b); err != nil {
			return nil, err
		}
	}
	return &otsprotocol.CreateTimeseriesTableResponse{}, s.storeSeriesTable(b, t)
}

// newSeriesTable checks a CreateTimeseriesTable request and says what it asks
// for, but the ids.
func (s *Server) newSeriesTable(instance string, req *otsprotocol.CreateTimeseriesTableRequest) (*seriesTable, error) {
	meta := req.GetTableMeta()
	t := &seriesTable{Instance: instance, Name: meta.GetTableName(), TimeToLive: -1}
	if err := checkSeriesTableName(t.Name); err != nil {
		return nil, err
	}
	switch {
	case meta.GetDisableHashPartitionKey():
		return nil, unsupported("A timeseries table without a hash partition key")
	case meta.GetDisableTimeseriesMetaIndex():
		return nil, unsupported("A timeseries table without an index of its series")
	}
	metaOptions, err := createMetaOptions(meta)
	if err != nil {
		return nil, err
	}
	return t, errors.Join(
		t.setOptions(meta.GetTableOptions()),
		t.setMetaOptions(metaOptions),
		t.checkMetaOptions(),
		t.setKey(meta.GetTimeseriesKeySchema()),
		t.setFields(meta.GetFieldPrimaryKeySchema()),
		t.addStores(req, s.clock()),
		t.addLastpoints(req.GetLastpointIndexMetas(), s.clock()),
	)
}

func (t *seriesTable) setOptions(o *otsprotocol.TimeseriesTableOptions) error {
	if o == nil || o.TimeToLive == nil {
		return nil
	}
	if ttl := o.GetTimeToLive(); ttl != -1 && ttl < minTimeToLive {
		return invalid("TimeToLive must be -1 or not less than %d.", minTimeToLive)
	}
	t.TimeToLive = o.GetTimeToLive()
	return nil
}

func (t *seriesTable) setKey(names []string) error {
	if len(names) > maxSeriesKey {
		return invalid("The number of timeseries keys must be in range: [1, %d].", maxSeriesKey)
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return invalid("Duplicated timeseries key: '%s'.", name)
		}
		if slices.Contains(defaultSeriesKey, name) {
			continue
		}
		if err := checkFieldName(name); err != nil {
			return err
		}
	}
	t.Key = names
	return nil
}

func (t *seriesTable) setFields(schema []*otsprotocol.PrimaryKeySchema) error {
	if len(schema) > maxSeriesFields {
		return invalid("The number of field primary keys must be in range: [0, %d].", maxSeriesFields)
	}
	for _, c := range schema {
		column, err := newKeyColumn(c)
		if err != nil {
			return err
		}
		if err := checkFieldName(column.Name); err != nil {
			return err
		}
		if column.AutoIncrement {
			return invalid("A field primary key can't be auto increment: '%s'.", column.Name)
		}
		if t.fieldColumn(column.Name) >= 0 || slices.Contains(t.Key, column.Name) {
			return invalid("Duplicated primary key name: '%s'.", column.Name)
		}
		t.Fields = append(t.Fields, column)
	}
	return nil
}

// fieldColumn returns which of the fields in a row's key has the name, -1 for none.
func (t *seriesTable) fieldColumn(name string) int {
	return slices.IndexFunc(t.Fields, func(k keyColumn) bool { return k.Name == name })
}

// meta describes a timeseries table.
func (t *seriesTable) meta() *otsprotocol.TimeseriesTableMeta {
	return &otsprotocol.TimeseriesTableMeta{
		TableName:             proto.String(t.Name),
		TableOptions:          &otsprotocol.TimeseriesTableOptions{TimeToLive: proto.Int32(t.TimeToLive)},
		Status:                proto.String("CREATED"),
		TimeseriesKeySchema:   t.Key,
		FieldPrimaryKeySchema: (&definition{Key: t.Fields}).keyProto(),
		XXX_unrecognized:      t.rest(),
	}
}

func (s *Server) listTimeseriesTable(c call, _ *otsprotocol.ListTimeseriesTableRequest) (proto.Message, error) {
	resp := &otsprotocol.ListTimeseriesTableResponse{}
	for _, name := range slices.Sorted(maps.Keys(s.series[c.instance])) {
		resp.TableMetas = append(resp.TableMetas, s.series[c.instance][name].meta())
	}
	return resp, nil
}

func (s *Server) describeTimeseriesTable(c call, req *otsprotocol.DescribeTimeseriesTableRequest) (proto.Message, error) {
	t, err := s.seriesTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	resp := &otsprotocol.DescribeTimeseriesTableResponse{TableMeta: t.meta()}
	for i := range t.Stores {
		resp.AnalyticalStores = append(resp.AnalyticalStores, t.Stores[i].proto())
	}
	for _, x := range t.Lastpoints {
		resp.LastpointIndexes = append(resp.LastpointIndexes, &otsprotocol.TimeseriesLastpointIndex{IndexTableName: proto.String(x.Name)})
	}
	return resp, nil
}

// updateTimeseriesTable changes the options of the rows or those of the metadata:
// the service does not change both at once.
func (s *Server) updateTimeseriesTable(c call, req *otsprotocol.UpdateTimeseriesTableRequest) (proto.Message, error) {
	old, err := s.seriesTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	metaOptions, err := updateMetaOptions(req)
	if err != nil {
		return nil, err
	}
	if (req.TableOptions == nil) == (metaOptions == nil) {
		return nil, invalid("One of table options and meta options must be specified.")
	}
	t := *old
	err = errors.Join(t.setOptions(req.GetTableOptions()), t.setMetaOptions(metaOptions), t.checkMetaOptions())
	if err != nil {
		return nil, err
	}
	return &otsprotocol.UpdateTimeseriesTableResponse{}, s.replaceSeriesTable(&t)
}

func (s *Server) deleteTimeseriesTable(c call, req *otsprotocol.DeleteTimeseriesTableRequest) (proto.Message, error) {
	t, err := s.seriesTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	b := s.db.NewBatch()
	defer b.Close()
	err = b.Delete(seriesTableKey(t.Instance, t.Name), nil)
	for _, prefix := range [][]byte{t.prefix(prefixSeries), t.prefix(prefixPoint)} {
		err = errors.Join(err, b.DeleteRange(prefix, successor(prefix), nil))
	}
	for _, d := range t.indexTables {
		err = errors.Join(err, deleteRows(b, d.ID))
	}
	if err != nil {
		return nil, err
	}
	if err := b.Commit(s.durable); err != nil {
		return nil, err
	}
	s.removeSeriesTable(t.Instance, t.Name)
	return &otsprotocol.DeleteTimeseriesTableResponse{}, nil
}

// checkVersion refuses a client that does not know what the table has.
func (t *seriesTable) checkVersion(supported int64) error {
	if supported < 1 && (len(t.Key) > 0 || len(t.Fields) > 0) {
		return invalid("Table '%s' has custom timeseries keys or field primary keys: supported_table_version must be 1, it is %d.", t.Name, supported)
	}
	return nil
}

// oldest is the time of the oldest row that has not expired, in microseconds.
func (t *seriesTable) oldest(now time.Time) int64 {
	if t.TimeToLive == -1 {
		return 0
	}
	return max(0, now.UnixMicro()-int64(t.TimeToLive)*1_000_000)
}
