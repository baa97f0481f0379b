package tablestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// Tables returns the names of the instance's tables, sorted. The service lists
// the tables behind secondary indexes too; the descriptions of the tables they
// belong to name them.
func (in *Instance) Tables(ctx context.Context) ([]string, error) {
	names, err := in.tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("tablestore: list of tables: %w", err)
	}
	return names, nil
}

func (in *Instance) tables(ctx context.Context) ([]string, error) {
	names, err := in.list(ctx)
	if err != nil {
		return nil, err
	}
	indexes := make(map[string]bool)
	for _, name := range names {
		described, err := in.describe(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped since it was listed
		}
		if err != nil {
			return nil, err
		}
		for _, index := range described.IndexMetas {
			indexes[index.IndexName] = true
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return indexes[name] })
	slices.Sort(names)
	return names, nil
}

func (in *Instance) list(ctx context.Context) (names []string, err error) {
	err = in.control(ctx, "ListTable", "", func(sdk *ots.TableStoreClient) error {
		listed, err := sdk.ListTable()
		if err == nil {
			names = listed.TableNames
		}
		return err
	})
	return names, err
}

func (in *Instance) describe(ctx context.Context, table string) (described *ots.DescribeTableResponse, err error) {
	err = in.control(ctx, "DescribeTable", table, func(sdk *ots.TableStoreClient) (err error) {
		described, err = sdk.DescribeTable(&ots.DescribeTableRequest{TableName: table})
		return err
	})
	return described, err
}

// untold is what a table may have and no request tells of.
var untold = []string{
	"local transactions: the service does not tell whether they are enabled",
	"tags: the service does not tell them",
	"tunnels, data delivery tasks and triggers: not looked for",
}

// Describe returns all the instance tells of a table, with Columns nil. A table
// that does not exist is [fs.ErrNotExist].
func (in *Instance) Describe(ctx context.Context, table string) (manifest.Table, error) {
	described, err := in.describe(ctx, table)
	if err != nil {
		return manifest.Table{}, fmt.Errorf("tablestore: %w", err)
	}
	t, err := tableOf(described)
	if err != nil {
		return manifest.Table{}, fmt.Errorf("tablestore: description of table %s: %w", table, err)
	}
	if t.Name != table {
		return manifest.Table{}, fmt.Errorf("tablestore: asked for table %s, told of %q", table, t.Name)
	}
	if err := in.describeSearch(ctx, &t); err != nil {
		return manifest.Table{}, fmt.Errorf("tablestore: search indexes of table %s: %w", table, err)
	}
	return t, nil
}

func tableOf(d *ots.DescribeTableResponse) (manifest.Table, error) {
	t := manifest.Table{
		Name:          d.TableMeta.TableName,
		Key:           []manifest.KeyColumn{},
		Defined:       []manifest.Column{},
		Indexes:       []manifest.Index{},
		SearchIndexes: []manifest.SearchIndex{},
		NotCaptured:   slices.Clone(untold),
		Options: manifest.Options{
			TTL:           int64(d.TableOption.TimeToAlive),
			MaxVersions:   int64(d.TableOption.MaxVersion),
			Deviation:     d.TableOption.DeviationCellVersionInSec,
			AllowUpdate:   *d.TableOption.AllowUpdate,
			UpdateFullRow: *d.TableOption.UpdateFullRow,
		},
		Throughput: manifest.Throughput{
			Read:  int64(d.ReservedThroughput.Readcap),
			Write: int64(d.ReservedThroughput.Writecap),
		},
		Stream:     streamOf(d.StreamDetails),
		Encryption: encryptionOf(d.SSEDetails),
	}
	for _, c := range d.TableMeta.SchemaEntry {
		key, err := keyColumnOf(c)
		if err != nil {
			return t, err
		}
		t.Key = append(t.Key, key)
	}
	for _, c := range d.TableMeta.DefinedColumns {
		typ, ok := definedTypes[c.ColumnType]
		if !ok {
			return t, fmt.Errorf("predefined column %q has type %d, which is not known", c.Name, c.ColumnType)
		}
		t.Defined = append(t.Defined, manifest.Column{Name: c.Name, Type: typ})
	}
	for _, index := range d.IndexMetas {
		t.Indexes = append(t.Indexes, indexOf(index))
	}
	return t, nil
}

var keyTypes = map[ots.PrimaryKeyType]manifest.Type{
	ots.PrimaryKeyType_INTEGER: manifest.Integer,
	ots.PrimaryKeyType_STRING:  manifest.String,
	ots.PrimaryKeyType_BINARY:  manifest.Binary,
}

var definedTypes = map[ots.DefinedColumnType]manifest.Type{
	ots.DefinedColumn_INTEGER: manifest.Integer,
	ots.DefinedColumn_DOUBLE:  manifest.Double,
	ots.DefinedColumn_BOOLEAN: manifest.Boolean,
	ots.DefinedColumn_STRING:  manifest.String,
	ots.DefinedColumn_BINARY:  manifest.Binary,
}

func keyColumnOf(c *ots.PrimaryKeySchema) (manifest.KeyColumn, error) {
	typ, ok := keyTypes[*c.Type]
	if !ok {
		return manifest.KeyColumn{}, fmt.Errorf("primary key column %q has type %d, which is not known", *c.Name, *c.Type)
	}
	return manifest.KeyColumn{
		Name:          *c.Name,
		Type:          typ,
		AutoIncrement: c.Option != nil && *c.Option == ots.AUTO_INCREMENT,
	}, nil
}

func streamOf(d *ots.StreamDetails) manifest.Stream {
	if d == nil || !d.EnableStream {
		return manifest.Stream{Columns: []string{}}
	}
	return manifest.Stream{
		Enabled: true,
		Hours:   int64(d.ExpirationTime),
		Columns: append([]string{}, d.OriginColumnsToGet...),
	}
}

func encryptionOf(d *ots.SSEDetails) manifest.Encryption {
	if d == nil || !d.Enable {
		return manifest.Encryption{}
	}
	return manifest.Encryption{
		Enabled: true,
		KeyType: d.KeyType.String(),
		KeyID:   d.KeyId,
		RoleARN: d.RoleArn,
	}
}

func indexOf(m *ots.IndexMeta) manifest.Index {
	kind := "GLOBAL"
	if m.IndexType == ots.IT_LOCAL_INDEX {
		kind = "LOCAL"
	}
	return manifest.Index{
		Name:    m.IndexName,
		Type:    kind,
		Key:     append([]string{}, m.Primarykey...),
		Columns: append([]string{}, m.DefinedColumns...),
	}
}

// describeSearch adds the table's search indexes. A service without them, or a
// key that may not see them, leaves a note instead: the rows can be archived
// all the same.
func (in *Instance) describeSearch(ctx context.Context, t *manifest.Table) error {
	names, err := in.listSearch(ctx, t.Name)
	var refusal *Error
	if errors.As(err, &refusal) && (refusal.Code == codeUnsupported || refusal.Code == codeNoPermission) {
		t.NotCaptured = append(t.NotCaptured, "search indexes: the service answered "+refusal.Code)
		return nil
	}
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		d, err := in.searchIndex(ctx, t.Name, name)
		if err != nil {
			return err
		}
		schema, err := json.Marshal(d.Schema)
		if err != nil {
			return fmt.Errorf("schema of %s: %w", name, err)
		}
		t.SearchIndexes = append(t.SearchIndexes, manifest.SearchIndex{Name: name, Schema: string(schema), TTL: max(0, int64(d.TimeToLive))})
		if len(d.QueryFlowWeights) > 0 {
			t.NotCaptured = append(t.NotCaptured, fmt.Sprintf("search index %s: its query flow weights", name))
		}
	}
	return nil
}

func (in *Instance) listSearch(ctx context.Context, table string) (names []string, err error) {
	err = in.control(ctx, "ListSearchIndex", table, func(sdk *ots.TableStoreClient) error {
		listed, err := sdk.ListSearchIndex(&ots.ListSearchIndexRequest{TableName: table})
		if err != nil {
			return err
		}
		names = names[:0]
		for _, index := range listed.IndexInfo {
			names = append(names, index.IndexName)
		}
		return nil
	})
	return names, err
}

func (in *Instance) searchIndex(ctx context.Context, table, index string) (d *ots.DescribeSearchIndexResponse, err error) {
	err = in.control(ctx, "DescribeSearchIndex", table, func(sdk *ots.TableStoreClient) (err error) {
		d, err = sdk.DescribeSearchIndex(&ots.DescribeSearchIndexRequest{TableName: table, IndexName: index})
		return err
	})
	return d, err
}

const (
	splitUnit = 1 << 20
	// defaultSplitUnit is what the service counts in unless told otherwise.
	defaultSplitUnit = 100 << 20
)

// Split returns keys that cut the table into ranges of about size bytes,
// ascending: none for a small table.
func (in *Instance) Split(ctx context.Context, table manifest.Table, size int64) ([]manifest.Key, error) {
	if size <= 0 {
		return nil, fmt.Errorf("tablestore: split of table %s into ranges of %d bytes", table.Name, size)
	}
	splits, err := in.splits(ctx, table.Name, size, min(size, splitUnit))
	if refused := new(Error); errors.As(err, &refused) && refused.Code == codeParameterInvalid {
		splits, err = in.splits(ctx, table.Name, size, defaultSplitUnit)
	}
	if err != nil {
		return nil, fmt.Errorf("tablestore: %w", err)
	}
	keys, err := boundaries(table.Key, splits)
	if err != nil {
		return nil, fmt.Errorf("tablestore: split points of table %s: %w", table.Name, err)
	}
	return keys, nil
}

func (in *Instance) splits(ctx context.Context, table string, size, unit int64) (splits []*ots.Split, err error) {
	ask := &ots.ComputeSplitPointsBySizeRequest{
		TableName: table,
		SplitSize: (size + unit - 1) / unit,
	}
	if unit != defaultSplitUnit {
		ask.SplitSizeUnitInByte = &unit
	}
	err = in.control(ctx, "ComputeSplitPointsBySize", table, func(sdk *ots.TableStoreClient) error {
		answer, err := sdk.ComputeSplitPointsBySize(ask)
		if err == nil {
			splits = answer.Splits
		}
		return err
	})
	return splits, err
}

// boundaries returns the inner bounds of splits as keys. It leaves out those
// that cut nothing off, and refuses a list that is out of order.
func boundaries(columns []manifest.KeyColumn, splits []*ots.Split) ([]manifest.Key, error) {
	keys := []manifest.Key{}
	for _, s := range splits[:max(0, len(splits)-1)] {
		key, err := boundary(columns, s.UpperBound)
		if err != nil {
			return nil, err
		}
		if len(key) == 0 {
			continue // from the very start on
		}
		if n := len(keys); n > 0 && slices.Compare(keys[n-1], key) >= 0 {
			return nil, fmt.Errorf("%s is not after %s", row.FormatKey(columns, key), row.FormatKey(columns, keys[n-1]))
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// boundary returns a split point as a key. The SDK knows the columns a split
// point leaves out as MIN, and a MIN the service wrote as no value at all.
func boundary(columns []manifest.KeyColumn, point *ots.PrimaryKey) (manifest.Key, error) {
	bound := new(ots.PrimaryKey)
	open := false
	for _, c := range point.PrimaryKeys {
		open = open || c.Value == nil && c.PrimaryKeyOption != ots.MAX
		if open {
			bound.AddPrimaryKeyColumnWithMinValue(c.ColumnName)
			continue
		}
		bound.PrimaryKeys = append(bound.PrimaryKeys, c)
	}
	var wire []byte
	err := guard(func() error {
		wire = bound.Build(false)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return row.ParseKey(columns, wire)
}
