package local

import (
	"errors"
	"slices"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// index is a secondary index as it was asked for. Its table has the definition
// [definition.indexTable] makes of it.
type index struct {
	ID      uint64    `json:"id"`
	Name    string    `json:"name"`
	Local   bool      `json:"local,omitempty"`
	Key     []string  `json:"key"`
	Columns []string  `json:"columns,omitempty"`
	Created time.Time `json:"created"`
	Built   time.Time `json:"built,omitzero"` // before, its phase is FULL
}

// indexTable returns the table an index is. Its primary key ends with the
// columns of the main table's that the index was not asked to begin with.
func (d *definition) indexTable(x *index) *definition {
	table := &definition{
		ID:         x.ID,
		Instance:   d.Instance,
		Name:       x.Name,
		Created:    x.Created,
		Options:    d.Options,
		Encryption: d.Encryption,
		Throughput: throughput{Increased: x.Created},
		main:       d.Name,
		built:      x.Built,
	}
	key := slices.Clone(x.Key)
	for _, k := range d.Key {
		if !slices.Contains(key, k.Name) {
			key = append(key, k.Name)
		}
	}
	for _, name := range key {
		table.Key = append(table.Key, d.indexKeyColumn(name))
	}
	for _, name := range x.Columns {
		table.Columns = append(table.Columns, d.Columns[d.definedColumn(name)])
	}
	return table
}

// indexKeyColumn returns a column of the table as the key of an index has it.
// Its type is typeNull if it is none or cannot be.
func (d *definition) indexKeyColumn(name string) keyColumn {
	for _, k := range d.Key {
		if k.Name == name {
			return keyColumn{Name: name, Type: k.Type}
		}
	}
	if i := d.definedColumn(name); i >= 0 {
		switch t := valueType(d.Columns[i].Type); t {
		case typeInteger, typeString, typeBinary:
			return keyColumn{Name: name, Type: t}
		}
	}
	return keyColumn{Name: name, Type: typeNull}
}

// definedColumn returns which of the predefined columns has the name, -1 for none.
func (d *definition) definedColumn(name string) int {
	return slices.IndexFunc(d.Columns, func(c typedColumn) bool { return c.Name == name })
}

// valueType is the type of the values of a predefined column.
func valueType(t otsprotocol.DefinedColumnType) byte {
	switch t {
	case otsprotocol.DefinedColumnType_DCT_INTEGER:
		return typeInteger
	case otsprotocol.DefinedColumnType_DCT_DOUBLE:
		return typeDouble
	case otsprotocol.DefinedColumnType_DCT_BOOLEAN:
		return typeBoolean
	case otsprotocol.DefinedColumnType_DCT_STRING:
		return typeString
	}
	return typeBinary
}

// indexWith names an index that uses a column, "" for none.
func (d *definition) indexWith(column string) string {
	for _, x := range d.Indexes {
		if slices.Contains(x.Key, column) || slices.Contains(x.Columns, column) {
			return x.Name
		}
	}
	return ""
}

// addIndex adds to d, which nobody else sees yet, the index a request describes;
// x is what of it the request does not say.
func (d *definition) addIndex(x index, meta *otsprotocol.IndexMeta) error {
	x.Name, x.Key, x.Columns = meta.GetName(), meta.GetPrimaryKey(), meta.GetDefinedColumn()
	x.Local = meta.GetIndexType() == otsprotocol.IndexType_IT_LOCAL_INDEX
	if err := checkTableName(x.Name); err != nil {
		return err
	}
	if len(d.Indexes) >= maxIndexes {
		return invalid("The number of indexes of table '%s' must be in range: [0, %d].", d.Name, maxIndexes)
	}
	if err := errors.Join(checkIndexKind(meta), d.checkIndexKey(&x), d.checkIndexColumns(&x)); err != nil {
		return err
	}
	d.Indexes = append(d.Indexes, x)
	return nil
}

// checkIndexKind refuses a mode of updating that does not go with the type: a
// global index follows its table, a local one changes with it.
func checkIndexKind(meta *otsprotocol.IndexMeta) error {
	mode := otsprotocol.IndexUpdateMode_IUM_ASYNC_INDEX
	switch meta.GetIndexType() {
	case otsprotocol.IndexType_IT_GLOBAL_INDEX:
	case otsprotocol.IndexType_IT_LOCAL_INDEX:
		mode = otsprotocol.IndexUpdateMode_IUM_SYNC_INDEX
	default:
		return invalid("Invalid index type: %d.", meta.GetIndexType())
	}
	if meta.GetIndexUpdateMode() != mode {
		return invalid("Invalid index update mode: %s for index type: %s.", meta.GetIndexUpdateMode(), meta.GetIndexType())
	}
	return nil
}

func (d *definition) checkIndexKey(x *index) error {
	if len(x.Key) == 0 || len(x.Key) > maxIndexKey {
		return invalid("The number of index columns must be in range: [1, %d], index: '%s'.", maxIndexKey, x.Name)
	}
	for i, name := range x.Key {
		if slices.Contains(x.Key[:i], name) {
			return invalid("Duplicated primary key name: '%s'.", name)
		}
		if !d.isKeyColumn(name) && d.definedColumn(name) < 0 {
			return invalid("Column does not exist:'%s'. An index has primary key columns and predefined columns of its table.", name)
		}
		if d.indexKeyColumn(name).Type == typeNull {
			return invalid("Invalid column type, only STRING,INTEGER,BINARY is allowed. Index column: '%s'.", name)
		}
	}
	if x.Local && x.Key[0] != d.Key[0].Name {
		return invalid("The first primary key of local index '%s' must be '%s', as that of table '%s'.", x.Name, d.Key[0].Name, d.Name)
	}
	if slices.ContainsFunc(d.Key, func(k keyColumn) bool { return k.AutoIncrement && k.Name == x.Key[0] }) {
		return invalid("First primary key can't be auto increment, table: %s.", x.Name)
	}
	return nil
}

func (d *definition) checkIndexColumns(x *index) error {
	if len(x.Columns) > maxIndexColumns {
		return invalid("The number of defined columns must be in range: [0, %d].", maxIndexColumns)
	}
	for i, name := range x.Columns {
		switch {
		case d.isKeyColumn(name) || slices.Contains(x.Key, name):
			return invalid("Duplicated attribute column name with primary key column: '%s'.", name)
		case slices.Contains(x.Columns[:i], name):
			return invalid("Duplicated defined column name: '%s'.", name)
		case d.definedColumn(name) < 0:
			return invalid("Column does not exist:'%s'. The attributes of an index are predefined columns of its table.", name)
		}
	}
	return nil
}

// checkIndexOptions holds what indexes of both kinds ask of the options of their
// table. A row of an index is one version of the row it stands for, and expires
// as a whole.
func (d *definition) checkIndexOptions() error {
	if len(d.Indexes) == 0 && len(d.Searches) == 0 {
		return nil
	}
	if d.Options.MaxVersions != 1 {
		return invalid("MaxVersions must be 1 for a table with an index, table: '%s', MaxVersions: %d.", d.Name, d.Options.MaxVersions)
	}
	// Only to search indexes the service documents update_full_row to be as good.
	if d.Options.TimeToLive != -1 && (d.Options.partial() || d.Options.AllowUpdate && len(d.Indexes) > 0) {
		return invalid("TimeToLive must be -1 or allow_update false for a table with an index, table: '%s', TimeToLive: %d.", d.Name, d.Options.TimeToLive)
	}
	return d.checkSearchOptions()
}

// indexMetas describes the indexes of a table.
func (d *definition) indexMetas(now time.Time) (metas []*otsprotocol.IndexMeta) {
	for i := range d.Indexes {
		x := &d.Indexes[i]
		meta := &otsprotocol.IndexMeta{
			Name:            proto.String(x.Name),
			PrimaryKey:      x.Key,
			DefinedColumn:   x.Columns,
			IndexType:       otsprotocol.IndexType_IT_GLOBAL_INDEX.Enum(),
			IndexUpdateMode: otsprotocol.IndexUpdateMode_IUM_ASYNC_INDEX.Enum(),
			IndexSyncPhase:  otsprotocol.IndexSyncPhase_ISP_INCR.Enum(),
		}
		if x.Local {
			meta.IndexType = otsprotocol.IndexType_IT_LOCAL_INDEX.Enum()
			meta.IndexUpdateMode = otsprotocol.IndexUpdateMode_IUM_SYNC_INDEX.Enum()
		}
		if now.Before(x.Built) {
			meta.IndexSyncPhase = otsprotocol.IndexSyncPhase_ISP_FULL.Enum()
		}
		metas = append(metas, meta)
	}
	return metas
}

func (s *Server) createIndex(c call, req *otsprotocol.CreateIndexRequest) (proto.Message, error) {
	old, err := s.mainTable(c.instance, req.GetMainTableName())
	if err != nil {
		return nil, err
	}
	d, x := *old, index{Created: s.clock()}
	if req.GetIncludeBaseData() {
		x.Built = x.Created.Add(s.build)
	}
	d.Indexes = slices.Clone(old.Indexes)
	if err := d.addIndex(x, req.GetIndexMeta()); err != nil {
		return nil, err
	}
	if err := errors.Join(d.checkIndexOptions(), s.checkNew(c.instance, req.GetIndexMeta().GetName())); err != nil {
		return nil, err
	}
	added := &d.Indexes[len(d.Indexes)-1]
	if added.ID, err = s.durableID(); err != nil {
		return nil, err
	}
	if req.GetIncludeBaseData() {
		if err := s.fill(&d, d.indexTable(added)); err != nil {
			return nil, err
		}
	}
	return &otsprotocol.CreateIndexResponse{}, s.replace(&d)
}

func (s *Server) dropIndex(c call, req *otsprotocol.DropIndexRequest) (proto.Message, error) {
	old, err := s.mainTable(c.instance, req.GetMainTableName())
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(old.Indexes, func(x index) bool { return x.Name == req.GetIndexName() })
	if i < 0 {
		return nil, errTableNotExist()
	}
	b := s.db.NewBatch()
	defer b.Close()
	if err := deleteRows(b, old.Indexes[i].ID); err != nil {
		return nil, err
	}
	d := *old
	d.Indexes = slices.Delete(slices.Clone(old.Indexes), i, i+1)
	return &otsprotocol.DropIndexResponse{}, s.store(b, &d)
}
