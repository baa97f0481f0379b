package tablestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// Tables returns the names of the instance's tables, sorted. The service lists
// the tables behind secondary indexes too; the descriptions of the tables they
// belong to name them. A timeseries table is two: its points under its name, its
// series and their attributes under that of [manifest.MetaName].
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
			indexes[index.GetName()] = true
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return indexes[name] })
	if names, err = in.withTimeseries(ctx, names); err != nil {
		return nil, err
	}
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

// describe asks through a request of our own because the SDK leaves out a part of
// the answer.
func (in *Instance) describe(ctx context.Context, table string) (*otsprotocol.DescribeTableResponse, error) {
	question := &otsprotocol.DescribeTableRequest{TableName: proto.String(table)}
	described := new(otsprotocol.DescribeTableResponse)
	return described, in.ask(ctx, "DescribeTable", table, question, described)
}

// untold is what a table may have and no request tells of.
var untold = []string{
	"local transactions: the service does not tell whether they are enabled",
	"tags: the service does not tell them",
	"tunnels, data delivery tasks, backup plans, triggers and SQL mappings: not looked for",
}

// Describe returns all the instance tells of a table, with Columns nil. A table
// that does not exist is [fs.ErrNotExist].
func (in *Instance) Describe(ctx context.Context, table string) (manifest.Table, error) {
	described, err := in.describeAny(ctx, table)
	if err != nil {
		return manifest.Table{}, fmt.Errorf("tablestore: %w", err)
	}
	return described, nil
}

// describeAny describes a table of either model. What the service has no table of
// the wide-column model for may be of the other.
func (in *Instance) describeAny(ctx context.Context, table string) (manifest.Table, error) {
	if _, meta := manifest.CutMetaName(table); meta {
		return in.describeTimeseries(ctx, table)
	}
	t, err := in.describeWide(ctx, table)
	if !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	t, other := in.describeTimeseries(ctx, table)
	if errors.Is(other, fs.ErrNotExist) || refusedWith(other, codeNoPermission, codeParameterInvalid) { // such as a name too long for one
		return manifest.Table{}, err
	}
	return t, other
}

func (in *Instance) describeWide(ctx context.Context, table string) (manifest.Table, error) {
	described, err := in.describe(ctx, table)
	if err != nil {
		return manifest.Table{}, err
	}
	t, err := tableOf(described)
	if err != nil {
		return manifest.Table{}, fmt.Errorf("description of table %s: %w", table, err)
	}
	if t.Name != table {
		return manifest.Table{}, fmt.Errorf("asked for table %s, told of %q", table, t.Name)
	}
	if err := in.describeSearch(ctx, &t); err != nil {
		return manifest.Table{}, fmt.Errorf("search indexes of table %s: %w", table, err)
	}
	return t, nil
}

// defaultDeviation is what the service documents for a table whose description
// does not name its own.
const defaultDeviation = 86400

func tableOf(d *otsprotocol.DescribeTableResponse) (manifest.Table, error) {
	t := manifest.Table{
		Name:          d.TableMeta.GetTableName(),
		Key:           []manifest.KeyColumn{},
		Defined:       []manifest.Column{},
		Indexes:       []manifest.Index{},
		SearchIndexes: []manifest.SearchIndex{},
		NotCaptured:   slices.Concat(untold, notKept(d)),
		Options:       optionsOf(d.TableOptions),
		Throughput: manifest.Throughput{
			Read:  int64(d.ReservedThroughputDetails.GetCapacityUnit().GetRead()),
			Write: int64(d.ReservedThroughputDetails.GetCapacityUnit().GetWrite()),
		},
		Stream:     streamOf(d.StreamDetails),
		Encryption: encryptionOf(d.SseDetails),
	}
	for _, c := range d.TableMeta.PrimaryKey {
		key, err := keyColumnOf(c)
		if err != nil {
			return t, err
		}
		t.Key = append(t.Key, key)
	}
	for _, c := range d.TableMeta.DefinedColumn {
		typ, ok := definedTypes[c.GetType()]
		if !ok {
			return t, fmt.Errorf("predefined column %q has type %d, which is not known", c.GetName(), c.GetType())
		}
		t.Defined = append(t.Defined, manifest.Column{Name: c.GetName(), Type: typ})
	}
	for _, index := range d.IndexMetas {
		t.Indexes = append(t.Indexes, indexOf(index))
	}
	return t, nil
}

// optionsOf fills in what the service documents where a description is silent.
func optionsOf(o *otsprotocol.TableOptions) manifest.Options {
	options := manifest.Options{
		TTL:           int64(o.GetTimeToLive()),
		MaxVersions:   int64(o.GetMaxVersions()),
		Deviation:     defaultDeviation,
		AllowUpdate:   o.AllowUpdate == nil || o.GetAllowUpdate(),
		UpdateFullRow: o.GetUpdateFullRow(),
	}
	if o.DeviationCellVersionInSec != nil {
		options.Deviation = o.GetDeviationCellVersionInSec()
	}
	return options
}

// notKept names what a description says of a table and [manifest.Table] has no
// place for, if it is not what a table gets that is made anew.
func notKept(d *otsprotocol.DescribeTableResponse) (notes []string) {
	if d.StreamDetails.GetEnableStream() {
		notes = append(notes, "stream: its records; that it is enabled, how long it keeps records and with which columns is kept")
	}
	if n := len(d.ShardSplits); n > 0 {
		notes = append(notes, fmt.Sprintf("partitions: the %d points at which the table is split", n))
	}
	if o := d.TableOptions; o.BloomFilterType != nil || o.BlockSize != nil {
		notes = append(notes, "table options: bloom filter and block size")
	}
	for _, m := range d.IndexMetas {
		if want := updateMode(m.GetIndexType()); m.GetIndexUpdateMode() != want {
			notes = append(notes, fmt.Sprintf("secondary index %s: its update mode %s", m.GetName(), m.GetIndexUpdateMode()))
		}
	}
	return notes
}

var keyTypes = map[otsprotocol.PrimaryKeyType]manifest.Type{
	otsprotocol.PrimaryKeyType_INTEGER: manifest.Integer,
	otsprotocol.PrimaryKeyType_STRING:  manifest.String,
	otsprotocol.PrimaryKeyType_BINARY:  manifest.Binary,
}

var definedTypes = map[otsprotocol.DefinedColumnType]manifest.Type{
	otsprotocol.DefinedColumnType_DCT_INTEGER: manifest.Integer,
	otsprotocol.DefinedColumnType_DCT_DOUBLE:  manifest.Double,
	otsprotocol.DefinedColumnType_DCT_BOOLEAN: manifest.Boolean,
	otsprotocol.DefinedColumnType_DCT_STRING:  manifest.String,
	otsprotocol.DefinedColumnType_DCT_BLOB:    manifest.Binary,
}

func keyColumnOf(c *otsprotocol.PrimaryKeySchema) (manifest.KeyColumn, error) {
	typ, ok := keyTypes[c.GetType()]
	if !ok {
		return manifest.KeyColumn{}, fmt.Errorf("primary key column %q has type %d, which is not known", c.GetName(), c.GetType())
	}
	return manifest.KeyColumn{Name: c.GetName(), Type: typ, AutoIncrement: c.Option != nil}, nil
}

func streamOf(d *otsprotocol.StreamDetails) manifest.Stream {
	if !d.GetEnableStream() {
		return manifest.Stream{Columns: []string{}}
	}
	return manifest.Stream{
		Enabled: true,
		Hours:   int64(d.GetExpirationTime()),
		Columns: append([]string{}, d.ColumnsToGet...),
	}
}

func encryptionOf(d *otsprotocol.SSEDetails) manifest.Encryption {
	if !d.GetEnable() {
		return manifest.Encryption{}
	}
	return manifest.Encryption{
		Enabled: true,
		KeyType: d.GetKeyType().String(),
		KeyID:   string(d.KeyId),
		RoleARN: string(d.RoleArn),
	}
}

func indexOf(m *otsprotocol.IndexMeta) manifest.Index {
	kind := "GLOBAL"
	if m.GetIndexType() == otsprotocol.IndexType_IT_LOCAL_INDEX {
		kind = "LOCAL"
	}
	return manifest.Index{
		Name:    m.GetName(),
		Type:    kind,
		Key:     append([]string{}, m.PrimaryKey...),
		Columns: append([]string{}, m.DefinedColumn...),
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
		schema, err := formatSchema(d.GetSchema())
		if err != nil {
			return fmt.Errorf("schema of %s: %w", name, err)
		}
		t.SearchIndexes = append(t.SearchIndexes, manifest.SearchIndex{Name: name, Schema: schema, TTL: max(0, int64(d.GetTimeToLive()))})
		for _, note := range searchNotKept(d, schema) {
			t.NotCaptured = append(t.NotCaptured, fmt.Sprintf("search index %s: %s", name, note))
		}
	}
	return nil
}

// searchNotKept names what a description says of a search index and a manifest
// has no place for.
func searchNotKept(d *otsprotocol.DescribeSearchIndexResponse, schema string) (notes []string) {
	if len(d.QueryFlowWeight) > 0 {
		notes = append(notes, "its query flow weights")
	}
	if d.BrotherIndexName != nil {
		notes = append(notes, fmt.Sprintf("that it and %s are to take each other's place", d.GetBrotherIndexName()))
	}
	kept, err := parseSchema(schema)
	if err != nil {
		return append(notes, "its schema, which is kept for reading but cannot be made again: "+printable(err.Error(), 512))
	}
	for _, part := range schemaDifference(kept, d.GetSchema()) {
		notes = append(notes, "what the SDK's form of its schema does not hold of "+part)
	}
	return notes
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

// searchIndex asks through a request of our own for the reason describe does.
func (in *Instance) searchIndex(ctx context.Context, table, index string) (*otsprotocol.DescribeSearchIndexResponse, error) {
	question := &otsprotocol.DescribeSearchIndexRequest{
		TableName:       proto.String(table),
		IndexName:       proto.String(index),
		IncludeSyncStat: proto.Bool(true),
	}
	d := new(otsprotocol.DescribeSearchIndexResponse)
	return d, in.ask(ctx, "DescribeSearchIndex", table, question, d)
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
	if table.Timeseries.Part != "" {
		keys, err := in.splitTimeseries(ctx, table, size)
		return keys, wrap("split", err)
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
