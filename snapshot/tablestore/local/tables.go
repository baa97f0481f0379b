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

// definition is all there is to know of a table but its rows. One is never
// changed: an UpdateTable puts another in its place.
type definition struct {
	ID         uint64        `json:"id"`
	Instance   string        `json:"instance"`
	Name       string        `json:"name"`
	Created    time.Time     `json:"created"`
	Key        []keyColumn   `json:"key"`
	Columns    []typedColumn `json:"columns,omitempty"` // predefined
	Options    options       `json:"options"`
	Throughput throughput    `json:"throughput"`
	Stream     *stream       `json:"stream,omitempty"`     // nil while there is none
	Encryption *encryption   `json:"encryption,omitempty"` // nil: none
	LocalTxn   bool          `json:"local_txn,omitempty"`  // whether it was made for local transactions
	Indexes    []index       `json:"indexes,omitempty"`
	Searches   []searchIndex `json:"searches,omitempty"`

	// These follow from the above, see [catalog.put].
	indexTables []*definition // as Indexes has them
	main        string        // of an index table: the table it belongs to
	built       time.Time     // likewise: when it can be read
	lastpoint   bool          // its main table is a timeseries table
	virtual     int64         // rows that are made when they are read; 0: they are in the database
}

type keyColumn struct {
	Name          string `json:"name"`
	Type          byte   `json:"type"`
	AutoIncrement bool   `json:"auto_increment,omitempty"`
}

type typedColumn struct {
	Name string                        `json:"name"`
	Type otsprotocol.DefinedColumnType `json:"type"`
}

type options struct {
	TimeToLive    int32 `json:"time_to_live"` // seconds, -1: for ever
	MaxVersions   int32 `json:"max_versions"` // -1: all
	Deviation     int64 `json:"deviation"`    // seconds
	AllowUpdate   bool  `json:"allow_update"`
	UpdateFullRow bool  `json:"update_full_row"` // all cells of a row have the version of its last write
}

type throughput struct {
	Read      int32     `json:"read"`
	Write     int32     `json:"write"`
	Increased time.Time `json:"increased"`
	Decreased time.Time `json:"decreased,omitzero"`
	Adjusted  time.Time `json:"adjusted,omitzero"` // by an UpdateTable
}

// catalog holds the tables by instance and name, as the database has them.
type catalog map[string]map[string]*definition

// put adds a table and its index tables in place of those it had before.
func (c catalog) put(d *definition) {
	if c[d.Instance] == nil {
		c[d.Instance] = map[string]*definition{}
	}
	c.remove(d.Instance, d.Name)
	c[d.Instance][d.Name] = d
	d.Stream.count()
	d.indexTables = nil
	for i := range d.Indexes {
		table := d.indexTable(&d.Indexes[i])
		d.indexTables = append(d.indexTables, table)
		c[d.Instance][table.Name] = table
	}
}

// remove takes a table out, and its index tables with it.
func (c catalog) remove(instance, name string) {
	if d := c[instance][name]; d != nil {
		for _, table := range d.indexTables {
			delete(c[instance], table.Name)
		}
	}
	delete(c[instance], name)
}

func loadCatalog(db *pebble.DB) (catalog, error) {
	tables := catalog{}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixTable}, UpperBound: []byte{prefixTable + 1}})
	if err != nil {
		return nil, err
	}
	for it.First(); it.Valid(); it.Next() {
		d := new(definition)
		if err := json.Unmarshal(it.Value(), d); err != nil {
			return nil, errors.Join(fmt.Errorf("definition of table %q: %w", it.Key()[1:], err), it.Close())
		}
		tables.put(d)
	}
	return tables, it.Close()
}

// table finds a table, or the table an index is.
func (s *Server) table(instance, name string) (*definition, error) {
	if err := checkTableName(name); err != nil {
		return nil, err
	}
	if d := s.tables[instance][name]; d != nil {
		return d, nil
	}
	return nil, errTableNotExist()
}

// readable finds a table that can be read: an index table can be once it holds
// the rows it was made with.
func (s *Server) readable(instance, name string) (*definition, error) {
	d, err := s.table(instance, name)
	if err == nil && s.clock().Before(d.built) {
		return nil, errNotReady()
	}
	return d, err
}

// mainTable finds a table that is no index.
func (s *Server) mainTable(instance, name string) (*definition, error) {
	d, err := s.table(instance, name)
	if err == nil && d.main != "" {
		return nil, invalid("'%s' is an index table of '%s'. This cannot be done to an index table.", d.Name, d.main)
	}
	if err == nil {
		err = d.refuseGenerated()
	}
	return d, err
}

// newID returns a number no table or index had before. It is taken for good
// when the batch is committed.
func (s *Server) newID(b *pebble.Batch) (uint64, error) {
	id := s.nextID
	if err := b.Set([]byte{prefixNextID}, encodeCounter(id+1), nil); err != nil {
		return 0, err
	}
	s.nextID++
	return id, nil
}

// store makes a definition durable and the one in force.
func (s *Server) store(b *pebble.Batch, d *definition) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := b.Set(tableKey(d.Instance, d.Name), text, nil); err != nil {
		return err
	}
	if err := b.Commit(s.durable); err != nil {
		return err
	}
	s.tables.put(d)
	return nil
}

func (s *Server) listTable(c call, _ *otsprotocol.ListTableRequest) (proto.Message, error) {
	names := slices.DeleteFunc(s.names(c.instance), func(name string) bool { return s.tables[c.instance][name].lastpoint })
	return &otsprotocol.ListTableResponse{TableNames: names}, nil
}

// names returns the names of the tables and secondary indexes of an instance.
func (s *Server) names(instance string) []string { return slices.Sorted(maps.Keys(s.tables[instance])) }

func (s *Server) createTable(c call, req *otsprotocol.CreateTableRequest) (proto.Message, error) {
	d, err := s.newDefinition(c.instance, req)
	if err != nil {
		return nil, err
	}
	if err := s.checkNew(c.instance, d.names()...); err != nil {
		return nil, err
	}
	b := s.db.NewBatch()
	defer b.Close()
	if d.ID, err = s.newID(b); err != nil {
		return nil, err
	}
	for i := range d.Indexes {
		if d.Indexes[i].ID, err = s.newID(b); err != nil {
			return nil, err
		}
	}
	return &otsprotocol.CreateTableResponse{}, s.store(b, d)
}

// names returns the names a table and its indexes take up in their instance.
func (d *definition) names() []string {
	names := []string{d.Name}
	for i := range d.Indexes {
		names = append(names, d.Indexes[i].Name)
	}
	return names
}

// checkNew tells whether an instance has room for tables with these names.
func (s *Server) checkNew(instance string, names ...string) error {
	return s.checkRoom(instance, len(names), names...)
}

// checkRoom tells whether an instance has room for what counts for so many
// tables and takes up these names.
func (s *Server) checkRoom(instance string, slots int, names ...string) error {
	tables := s.tables[instance]
	for i, name := range names {
		if tables[name] != nil || s.series[instance][name] != nil || slices.Contains(names[:i], name) {
			return errTableExists()
		}
	}
	if len(tables)+s.seriesSlots(instance)+slots > maxTables {
		return errTableQuota()
	}
	return nil
}

// newDefinition checks a CreateTable request and says what it asks for, but the
// table's id.
func (s *Server) newDefinition(instance string, req *otsprotocol.CreateTableRequest) (*definition, error) {
	meta := req.GetTableMeta()
	if err := checkTableName(meta.GetTableName()); err != nil {
		return nil, err
	}
	if len(req.GetPartitions()) > 0 {
		return nil, unsupported("Creating a table with partitions")
	}
	now := s.clock()
	d := &definition{Instance: instance, Name: meta.GetTableName(), Created: now}
	var err error
	if d.Key, err = keySchema(d.Name, meta.GetPrimaryKey()); err != nil {
		return nil, err
	}
	if err = d.addColumns(meta.GetDefinedColumn()); err != nil {
		return nil, err
	}
	if d.Options, err = newOptions(req.GetTableOptions()); err != nil {
		return nil, err
	}
	if d.Encryption, err = newEncryption(req.GetSseSpec()); err != nil {
		return nil, err
	}
	if d.LocalTxn = req.GetEnableLocalTxn(); d.LocalTxn && d.generated() >= 0 {
		return nil, invalid("Local transactions cannot be enabled for a table with an AUTO_INCREMENT primary key, table: %s.", d.Name)
	}
	units := req.GetReservedThroughput().GetCapacityUnit()
	if err := checkUnits(units); err != nil {
		return nil, err
	}
	d.Throughput = throughput{Read: units.GetRead(), Write: units.GetWrite(), Increased: now}
	if d.Stream, err = d.newStream(req.GetStreamSpec(), now); err != nil {
		return nil, err
	}
	for _, meta := range req.GetIndexMetas() {
		if err := d.addIndex(index{Created: now}, meta); err != nil {
			return nil, err
		}
	}
	return d, d.checkIndexOptions()
}

func keySchema(table string, schema []*otsprotocol.PrimaryKeySchema) ([]keyColumn, error) {
	if len(schema) == 0 || len(schema) > maxKeyColumns {
		return nil, invalid("The number of primary key columns must be in range: [1, %d].", maxKeyColumns)
	}
	var key []keyColumn
	generated := 0
	for i, c := range schema {
		column, err := newKeyColumn(c)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(key, func(k keyColumn) bool { return k.Name == column.Name }) {
			return nil, invalid("Duplicated primary key name: '%s'.", column.Name)
		}
		if column.AutoIncrement {
			if generated++; generated > 1 {
				return nil, invalid("AUTO_INCREMENT primary key count must <= 1.")
			}
			if i == 0 {
				return nil, invalid("First primary key can't be auto increment, table: %s.", table)
			}
		}
		key = append(key, column)
	}
	return key, nil
}

func newKeyColumn(c *otsprotocol.PrimaryKeySchema) (keyColumn, error) {
	column := keyColumn{Name: c.GetName(), AutoIncrement: c.Option != nil}
	if !validName(column.Name) {
		return column, errColumnName(column.Name)
	}
	switch c.GetType() {
	case otsprotocol.PrimaryKeyType_INTEGER:
		column.Type = typeInteger
	case otsprotocol.PrimaryKeyType_STRING:
		column.Type = typeString
	case otsprotocol.PrimaryKeyType_BINARY:
		column.Type = typeBinary
	default:
		return column, invalid("Invalid column type, only STRING,INTEGER,BINARY is allowed.")
	}
	if column.AutoIncrement && column.Type != typeInteger {
		return column, invalid("AUTO_INCREMENT primary key must be integer.")
	}
	return column, nil
}

// addColumns adds predefined columns to d, which nobody else sees yet.
func (d *definition) addColumns(columns []*otsprotocol.DefinedColumnSchema) error {
	for _, c := range columns {
		column := typedColumn{Name: c.GetName(), Type: c.GetType()}
		if !validName(column.Name) {
			return errColumnName(column.Name)
		}
		if _, known := otsprotocol.DefinedColumnType_name[int32(column.Type)]; !known {
			return invalid("Invalid column type: %d.", column.Type)
		}
		if d.isKeyColumn(column.Name) {
			return invalid("Duplicated attribute column name with primary key column: '%s'.", column.Name)
		}
		if slices.ContainsFunc(d.Columns, func(o typedColumn) bool { return o.Name == column.Name }) {
			return invalid("Duplicated defined column name: '%s'.", column.Name)
		}
		d.Columns = append(d.Columns, column)
	}
	if len(d.Columns) > maxDefinedColumns {
		return invalid("The number of defined columns must be in range: [0, %d].", maxDefinedColumns)
	}
	return nil
}

func (d *definition) isKeyColumn(name string) bool {
	return slices.ContainsFunc(d.Key, func(k keyColumn) bool { return k.Name == name })
}

// generated returns which column of the primary key is AUTO_INCREMENT, -1 for none.
func (d *definition) generated() int {
	return slices.IndexFunc(d.Key, func(k keyColumn) bool { return k.AutoIncrement })
}

func newOptions(o *otsprotocol.TableOptions) (options, error) {
	switch {
	case o == nil || o.TimeToLive == nil:
		return options{}, invalid("Time-to-live is missing while creating table.")
	case o.MaxVersions == nil:
		return options{}, invalid("MaxVersions is missing while creating table.")
	}
	return options{Deviation: defaultDeviation, AllowUpdate: true, UpdateFullRow: o.GetUpdateFullRow()}.with(o)
}

// with returns the options with those o sets changed.
func (opts options) with(o *otsprotocol.TableOptions) (options, error) {
	if o.BloomFilterType != nil || o.BlockSize != nil {
		return opts, unsupported("Setting a bloom filter or a block size")
	}
	if o.TimeToLive != nil {
		if opts.TimeToLive = o.GetTimeToLive(); opts.TimeToLive == 0 || opts.TimeToLive < -1 {
			return opts, invalid("TimeToLive cannot be 0 or less than -1.")
		}
		if opts.TimeToLive != -1 && opts.TimeToLive < minTimeToLive {
			return opts, invalid("TimeToLive must be -1 or not less than %d.", minTimeToLive)
		}
	}
	if o.MaxVersions != nil {
		if opts.MaxVersions = o.GetMaxVersions(); opts.MaxVersions == 0 || opts.MaxVersions < -1 {
			return opts, invalid("Invalid max versions: %d. Reason: Max versions must be positive.", opts.MaxVersions)
		}
	}
	if o.DeviationCellVersionInSec != nil {
		if opts.Deviation = o.GetDeviationCellVersionInSec(); opts.Deviation < 0 || opts.Deviation > maxDeviation {
			return opts, invalid("The maximum deviation must be in range [0, INT64_MAX/1000000].")
		}
	}
	if o.AllowUpdate != nil {
		opts.AllowUpdate = o.GetAllowUpdate()
	}
	return opts, nil
}

// proto returns the options in the form of a response.
func (opts options) proto() *otsprotocol.TableOptions {
	return &otsprotocol.TableOptions{
		TimeToLive:                proto.Int32(opts.TimeToLive),
		MaxVersions:               proto.Int32(opts.MaxVersions),
		DeviationCellVersionInSec: proto.Int64(opts.Deviation),
		AllowUpdate:               proto.Bool(opts.AllowUpdate),
		UpdateFullRow:             proto.Bool(opts.UpdateFullRow),
	}
}

func checkUnits(units *otsprotocol.CapacityUnit) error {
	for _, v := range []int32{units.GetRead(), units.GetWrite()} {
		if v < 0 {
			return invalid("Invalid Capacity Unit:%d . Capacity Unit must be nonnegative.", v)
		}
		if v > maxReserved {
			return invalid("Invalid Capacity Unit:%d . The maximum is %d.", v, maxReserved)
		}
	}
	return nil
}

func (t throughput) proto() *otsprotocol.ReservedThroughputDetails {
	details := &otsprotocol.ReservedThroughputDetails{
		CapacityUnit:     &otsprotocol.CapacityUnit{Read: proto.Int32(t.Read), Write: proto.Int32(t.Write)},
		LastIncreaseTime: proto.Int64(t.Increased.UnixMicro()),
	}
	if !t.Decreased.IsZero() {
		details.LastDecreaseTime = proto.Int64(t.Decreased.UnixMicro())
	}
	return details
}

func (s *Server) describeTable(c call, req *otsprotocol.DescribeTableRequest) (proto.Message, error) {
	d, err := s.table(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	meta := &otsprotocol.TableMeta{TableName: proto.String(d.Name), PrimaryKey: d.keyProto()}
	for _, c := range d.Columns {
		meta.DefinedColumn = append(meta.DefinedColumn, &otsprotocol.DefinedColumnSchema{Name: proto.String(c.Name), Type: c.Type.Enum()})
	}
	return &otsprotocol.DescribeTableResponse{
		TableMeta:                 meta,
		ReservedThroughputDetails: d.Throughput.proto(),
		TableOptions:              d.Options.proto(),
		TableStatus:               otsprotocol.TableStatus_ACTIVE.Enum(),
		StreamDetails:             d.Stream.proto(),
		SseDetails:                d.Encryption.proto(),
		IndexMetas:                d.indexMetas(s.clock()),
	}, nil
}

func (d *definition) keyProto() []*otsprotocol.PrimaryKeySchema {
	types := map[byte]otsprotocol.PrimaryKeyType{
		typeInteger: otsprotocol.PrimaryKeyType_INTEGER,
		typeString:  otsprotocol.PrimaryKeyType_STRING,
		typeBinary:  otsprotocol.PrimaryKeyType_BINARY,
	}
	var schema []*otsprotocol.PrimaryKeySchema
	for _, k := range d.Key {
		column := &otsprotocol.PrimaryKeySchema{Name: proto.String(k.Name), Type: types[k.Type].Enum()}
		if k.AutoIncrement {
			column.Option = otsprotocol.PrimaryKeyOption_AUTO_INCREMENT.Enum()
		}
		schema = append(schema, column)
	}
	return schema
}

func (s *Server) updateTable(c call, req *otsprotocol.UpdateTableRequest) (proto.Message, error) {
	old, err := s.mainTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	d, err := old.updated(req, s.clock())
	if err != nil {
		return nil, err
	}
	b := s.db.NewBatch()
	defer b.Close()
	if old.Stream != nil && d.Stream == nil {
		if err := deleteRecords(b, d.ID); err != nil {
			return nil, err
		}
	}
	if err := s.store(b, d); err != nil {
		return nil, err
	}
	return &otsprotocol.UpdateTableResponse{
		ReservedThroughputDetails: d.Throughput.proto(),
		TableOptions:              d.Options.proto(),
		StreamDetails:             d.Stream.proto(),
	}, nil
}

// replace stores a changed definition.
func (s *Server) replace(d *definition) error {
	b := s.db.NewBatch()
	defer b.Close()
	return s.store(b, d)
}

// updated returns a copy of d with what an UpdateTable request changes.
func (d *definition) updated(req *otsprotocol.UpdateTableRequest, now time.Time) (*definition, error) {
	if req.ReservedThroughput == nil && req.TableOptions == nil && req.StreamSpec == nil {
		return nil, invalid("No parameter is specified in table options.")
	}
	next := *d
	var err error
	if req.TableOptions != nil {
		if req.TableOptions.UpdateFullRow != nil {
			return nil, invalid("UpdateTable must not contain updateFullRow.")
		}
		if next.Options, err = d.Options.with(req.TableOptions); err != nil {
			return nil, err
		}
	}
	if req.ReservedThroughput != nil {
		if next.Throughput, err = d.Throughput.with(req.ReservedThroughput.GetCapacityUnit(), now); err != nil {
			return nil, err
		}
	}
	if req.StreamSpec != nil {
		if next.Stream, err = d.changedStream(req.StreamSpec, now); err != nil {
			return nil, err
		}
	}
	return &next, next.checkIndexOptions()
}

func (t throughput) with(units *otsprotocol.CapacityUnit, now time.Time) (throughput, error) {
	if err := checkUnits(units); err != nil {
		return t, err
	}
	next := t
	if units.Read != nil {
		next.Read = units.GetRead()
	}
	if units.Write != nil {
		next.Write = units.GetWrite()
	}
	if next == t {
		return t, nil
	}
	if now.Sub(t.Adjusted) < minAdjustment {
		return t, errTooFrequent()
	}
	next.Adjusted = now
	if next.Read > t.Read || next.Write > t.Write {
		next.Increased = now
	}
	if next.Read < t.Read || next.Write < t.Write {
		next.Decreased = now
	}
	return next, nil
}

func (s *Server) deleteTable(c call, req *otsprotocol.DeleteTableRequest) (proto.Message, error) {
	d, err := s.mainTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	if len(d.Searches) > 0 {
		return nil, invalid("Table[%s] who has at least one search index cannot be deleted.", d.Name)
	}
	b := s.db.NewBatch()
	defer b.Close()
	if err := errors.Join(b.Delete(tableKey(c.instance, d.Name), nil), deleteRecords(b, d.ID)); err != nil {
		return nil, err
	}
	for _, table := range append(d.indexTables, d) {
		if err := deleteRows(b, table.ID); err != nil {
			return nil, err
		}
	}
	if err := b.Commit(s.durable); err != nil {
		return nil, err
	}
	s.tables.remove(c.instance, d.Name)
	s.loads.forget(tableName{c.instance, d.Name})
	return &otsprotocol.DeleteTableResponse{}, nil
}

// deleteRows deletes the rows of a table or of an index.
func deleteRows(b *pebble.Batch, id uint64) error {
	rows := rowsPrefix(id)
	return b.DeleteRange(rows, successor(rows), nil)
}

func (s *Server) addDefinedColumn(c call, req *otsprotocol.AddDefinedColumnRequest) (proto.Message, error) {
	old, err := s.mainTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	d := *old
	d.Columns = slices.Clone(old.Columns)
	if err := d.addColumns(req.GetColumns()); err != nil {
		return nil, err
	}
	return &otsprotocol.AddDefinedColumnResponse{}, s.replace(&d)
}

func (s *Server) deleteDefinedColumn(c call, req *otsprotocol.DeleteDefinedColumnRequest) (proto.Message, error) {
	old, err := s.mainTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	d := *old
	d.Columns = slices.Clone(old.Columns)
	for _, name := range req.GetColumns() {
		i := slices.IndexFunc(d.Columns, func(c typedColumn) bool { return c.Name == name })
		if i < 0 {
			return nil, invalid("Column does not exist:'%s'.", name)
		}
		if x := old.indexWith(name); x != "" {
			return nil, invalid("Defined column '%s' is used by index '%s'. Delete the index first.", name, x)
		}
		d.Columns = slices.Delete(d.Columns, i, i+1)
	}
	return &otsprotocol.DeleteDefinedColumnResponse{}, s.replace(&d)
}
