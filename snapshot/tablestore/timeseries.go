package tablestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/manifest"
)

// A table of the timeseries model is asked about and written through requests of
// our own, made of the SDK's messages. The SDK's methods refuse tags the service
// may hold, fold the case of names, lose fields and options, and know of no
// contexts. Only the rows of a write are put into their form by the SDK.

// supportedVersion is what a request says that knows of tables with keys of their
// own.
const supportedVersion = 1

// timeseriesTables returns the descriptions of the instance's timeseries tables. An
// instance that does not know the model has none.
func (in *Instance) timeseriesTables(ctx context.Context) ([]*otsprotocol.DescribeTimeseriesTableResponse, error) {
	listed := new(otsprotocol.ListTimeseriesTableResponse)
	err := in.ask(ctx, "ListTimeseriesTable", "", new(otsprotocol.ListTimeseriesTableRequest), listed)
	if refusedWith(err, codeUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var tables []*otsprotocol.DescribeTimeseriesTableResponse
	for _, meta := range listed.TableMetas {
		described, err := in.timeseriesTable(ctx, meta.GetTableName())
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped since it was listed
		}
		if err != nil {
			return nil, err
		}
		tables = append(tables, described)
	}
	return tables, nil
}

// withTimeseries adds the names of the parts of the instance's timeseries tables to
// those of its other tables, and takes those of their lastpoint indexes away.
func (in *Instance) withTimeseries(ctx context.Context, names []string) ([]string, error) {
	tables, err := in.timeseriesTables(ctx)
	if err != nil {
		return nil, err
	}
	not := make(map[string]bool)
	for _, d := range tables {
		not[d.GetTableMeta().GetTableName()] = true
		for _, index := range d.LastpointIndexes {
			not[index.GetIndexTableName()] = true
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return not[name] })
	for _, d := range tables {
		name := d.GetTableMeta().GetTableName()
		names = append(names, name, manifest.MetaName(name))
	}
	return names, nil
}

func (in *Instance) timeseriesTable(ctx context.Context, table string) (*otsprotocol.DescribeTimeseriesTableResponse, error) {
	answer := new(otsprotocol.DescribeTimeseriesTableResponse)
	err := in.ask(ctx, "DescribeTimeseriesTable", table, &otsprotocol.DescribeTimeseriesTableRequest{TableName: proto.String(table)}, answer)
	if refusedWith(err, codeUnsupported) {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return answer, err
}

// refusedWith reports whether the service answered one of the codes.
func refusedWith(err error, codes ...string) bool {
	var refusal *Error
	return errors.As(err, &refusal) && slices.Contains(codes, refusal.Code)
}

// describeTimeseries is Describe of a part of a timeseries table. The series of the
// table are listed anew after it.
func (in *Instance) describeTimeseries(ctx context.Context, name string) (manifest.Table, error) {
	table, meta := manifest.CutMetaName(name)
	in.series.forget(table)
	d, err := in.timeseriesTable(ctx, table)
	if err != nil {
		return manifest.Table{}, err
	}
	if told := d.GetTableMeta().GetTableName(); told != table {
		return manifest.Table{}, fmt.Errorf("asked for table %s, told of %q", table, told)
	}
	part := manifest.DataPart
	if meta {
		part = manifest.MetaPart
	}
	t, err := timeseriesOf(d, part)
	if err != nil {
		return manifest.Table{}, fmt.Errorf("description of table %s: %w", table, err)
	}
	return t, nil
}

// untoldOf is what the parts of a timeseries table may have and no request tells of.
var untoldOf = map[string][]string{
	manifest.DataPart: {
		"points of series whose metadata was deleted: the service does not list them",
		"encryption and tags of the table: the service does not tell them",
		"SQL mapping tables, and what lastpoint indexes have beside their names: not looked for",
	},
	manifest.MetaPart: {
		"when the metadata of each series was last updated: only the service sets it",
	},
}

func timeseriesOf(d *otsprotocol.DescribeTimeseriesTableResponse, part string) (manifest.Table, error) {
	m := d.GetTableMeta()
	t := manifest.Table{
		Name:          m.GetTableName(),
		Key:           manifest.TimeseriesKey(part),
		Defined:       []manifest.Column{},
		Options:       manifest.TimeseriesOptions(),
		Stream:        manifest.Stream{Columns: []string{}},
		Indexes:       []manifest.Index{},
		SearchIndexes: []manifest.SearchIndex{},
		NotCaptured:   slices.Clone(untoldOf[part]),
		// Its lists are nil where there is nothing in them, as they are in a manifest.
		Timeseries: manifest.Timeseries{
			Part:     part,
			TTL:      int64(m.GetTableOptions().GetTimeToLive()),
			Unhashed: m.GetDisableHashPartitionKey(),
			Keys:     append([]string(nil), m.TimeseriesKeySchema...),
		},
	}
	if part == manifest.MetaPart {
		t.Name = manifest.MetaName(t.Name)
	}
	if len(m.FieldPrimaryKeySchema) > 0 {
		return t, fmt.Errorf("it has fields in its primary key (%s), which no archive can hold; leave the table out", fieldNames(m.FieldPrimaryKeySchema))
	}
	if m.GetDisableTimeseriesMetaIndex() {
		return t, errors.New("it has no index of its series, so that nobody can find its points; leave the table out")
	}
	var err error
	if t.Timeseries.MetaTTL, t.Timeseries.UpdateAttributes, err = parseMetaOptions(m.XXX_unrecognized); err != nil {
		return t, fmt.Errorf("options of its series: %w", err)
	}
	for _, store := range d.AnalyticalStores {
		t.Timeseries.AnalyticalStores = append(t.Timeseries.AnalyticalStores, storeOf(store))
	}
	for _, index := range d.LastpointIndexes {
		t.Timeseries.LastpointIndexes = append(t.Timeseries.LastpointIndexes, index.GetIndexTableName())
	}
	return t, nil
}

func fieldNames(schema []*otsprotocol.PrimaryKeySchema) string {
	var names []string
	for _, c := range schema {
		names = append(names, c.GetName())
	}
	return strings.Join(names, ", ")
}

func storeOf(m *otsprotocol.TimeseriesAnalyticalStore) manifest.AnalyticalStore {
	s := manifest.AnalyticalStore{Name: m.GetStoreName(), TTL: int64(m.GetTimeToLive())}
	if m.SyncOption != nil {
		s.Sync = strings.TrimPrefix(m.GetSyncOption().String(), syncPrefix)
	}
	return s
}

// syncPrefix is what the names of the protocol's AnalyticalStoreSyncType begin with.
const syncPrefix = "SYNC_TYPE_"

// The messages of the SDK lack the options of the metadata: field 4 of a
// TimeseriesTableMeta, field 3 of an UpdateTimeseriesTableRequest. In them, 1 says
// whether attributes may be changed and 2 how long a series lives.
const (
	metaOptionsTold  = 4
	metaOptionsAsked = 3
	updateAttributes = 1
	metaTimeToLive   = 2
)

// parseMetaOptions finds the options among the fields the SDK does not know. Those
// that are not there are the service's defaults.
func parseMetaOptions(unknown []byte) (ttl int64, update bool, err error) {
	ttl, update = -1, true
	err = eachMessage(unknown, metaOptionsTold, func(options []byte) error {
		for len(options) > 0 {
			var f field
			var err error
			if f, options, err = nextField(options); err != nil {
				return err
			}
			switch f.number {
			case updateAttributes:
				update = f.value != 0
			case metaTimeToLive:
				ttl = int64(int32(f.value))
			}
		}
		return nil
	})
	return ttl, update, err
}

// wrap says where an error comes from.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("tablestore: %s: %w", what, err)
}
