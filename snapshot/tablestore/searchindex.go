package tablestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/manifest"
)

// CreateSearchIndex makes a search index of the rows that are there, and returns
// when the service says that it has taken them in: its synchronisation is
// incremental. That is waited for, and an index that exists is treated, as by
// [Instance.CreateIndex].
//
// One in which rows have a time to live takes a table whose option AllowUpdate is
// false; the service refuses it otherwise.
func (in *Instance) CreateSearchIndex(ctx context.Context, table manifest.Table, index manifest.SearchIndex) error {
	what := "search index " + index.Name
	schema, err := parseSchema(index.Schema)
	if err == nil {
		err = in.wait(ctx, table.Name, what, func() (string, error) { return in.createSearchIndex(ctx, table.Name, index, schema) })
	}
	if err == nil {
		err = in.wait(ctx, table.Name, what, func() (string, error) { return in.searchPhase(ctx, table.Name, index.Name) })
	}
	if err != nil {
		return fmt.Errorf("tablestore: table %s: %s: %w", table.Name, what, err)
	}
	return nil
}

// phaseQueued is what a search index is in that cannot be made yet.
const phaseQueued = "queued behind those the instance is filling"

// quotaOfFilling is a part of the message with which the service refuses a search index
// while it fills as many others of the instance as it fills at a time.
const quotaOfFilling = "number of index in creating has exceed"

// createSearchIndex asks through a request of our own because the SDK fills in
// what a schema leaves open. It returns what is to be waited for before asking
// again, nothing when the index is made.
func (in *Instance) createSearchIndex(ctx context.Context, table string, index manifest.SearchIndex, schema *otsprotocol.IndexSchema) (phase string, err error) {
	question := &otsprotocol.CreateSearchIndexRequest{
		TableName: proto.String(table),
		IndexName: proto.String(index.Name),
		Schema:    schema,
	}
	if index.TTL > 0 {
		question.TimeToLive = proto.Int32(int32(index.TTL))
	}
	err = in.ask(ctx, "CreateSearchIndex", table, question, nil)
	if refusal := new(Error); errors.As(err, &refusal) && strings.Contains(refusal.Message, quotaOfFilling) {
		return phaseQueued, nil
	}
	if errors.Is(err, fs.ErrExist) {
		return "", in.mustBeSearchIndex(ctx, question, err)
	}
	return "", err
}

// mustBeSearchIndex returns an error wrapping exists unless the index that exists
// is the one asked for.
func (in *Instance) mustBeSearchIndex(ctx context.Context, asked *otsprotocol.CreateSearchIndexRequest, exists error) error {
	found, err := in.searchIndex(ctx, asked.GetTableName(), asked.GetIndexName())
	if err != nil {
		return err
	}
	if differs := searchDifference(found, asked); differs != "" {
		return fmt.Errorf("%w: %s", exists, differs)
	}
	return nil
}

// searchPhase returns how far a search index is, nothing when it has taken in
// the rows.
func (in *Instance) searchPhase(ctx context.Context, table, index string) (string, error) {
	d, err := in.searchIndex(ctx, table, index)
	if err != nil {
		return "", err
	}
	switch stat := d.GetSyncStat(); {
	case stat == nil || stat.SyncPhase == nil:
		return phaseNotReady, nil
	case stat.GetSyncPhase() == otsprotocol.SyncPhase_INCR:
		return "", nil
	default:
		return stat.GetSyncPhase().String(), nil
	}
}

// said is what a schema may leave to the service and the SDK fills in: flags, and
// the parameters of an analyzer, for which it reads an absent one as one that is
// there and says nothing.
type said struct {
	Index, Store      *bool
	AnalyzerParameter any
	FieldSchemas      []said
}

// parseSchema reads a schema in the SDK's JSON. What it leaves to the service it
// leaves to it in the message too.
func parseSchema(text string) (schema *otsprotocol.IndexSchema, err error) {
	var whole said
	var parsed ots.IndexSchema
	if err := json.Unmarshal([]byte(text), &whole); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	err = guard(func() (err error) {
		if err = json.Unmarshal([]byte(text), &parsed); err == nil {
			schema, err = ots.ConvertToPbSchema(&parsed)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	leaveOpen(schema.FieldSchemas, whole.FieldSchemas)
	if len(schema.GetIndexSort().GetSorter()) == 0 {
		schema.IndexSort = nil
	}
	return schema, nil
}

func leaveOpen(fields []*otsprotocol.FieldSchema, as []said) {
	for i, f := range fields {
		if as[i].Index == nil {
			f.Index = nil
		}
		if as[i].Store == nil {
			f.Store = nil
		}
		if as[i].AnalyzerParameter == nil {
			f.AnalyzerParameter = nil
		}
		leaveOpen(f.FieldSchemas, as[i].FieldSchemas)
	}
}

// formatSchema writes a schema in the SDK's JSON.
func formatSchema(schema *otsprotocol.IndexSchema) (string, error) {
	if schema.IndexSetting == nil {
		schema = proto.Clone(schema).(*otsprotocol.IndexSchema)
		schema.IndexSetting = new(otsprotocol.IndexSetting) // the SDK takes it for granted
	}
	var text []byte
	err := guard(func() error {
		parsed, err := ots.ParseFromPbSchema(schema)
		if err == nil {
			text, err = json.Marshal(parsed)
		}
		return err
	})
	return string(text), err
}

// searchDifference says in what a search index is not as asked for; nothing if it
// is. What the question leaves open may be anything.
func searchDifference(found *otsprotocol.DescribeSearchIndexResponse, asked *otsprotocol.CreateSearchIndexRequest) string {
	if a, b := max(0, found.GetTimeToLive()), asked.GetTimeToLive(); a != b {
		return fmt.Sprintf("rows live %d seconds in it, not %d (0: for ever)", a, b)
	}
	if differs := schemaDifference(found.GetSchema(), asked.Schema); len(differs) > 0 {
		return "it has another " + strings.Join(differs, ", ")
	}
	return ""
}

// schemaDifference names the parts in which a schema is not as asked for.
func schemaDifference(found, asked *otsprotocol.IndexSchema) (parts []string) {
	byName := make(map[string]*otsprotocol.FieldSchema)
	for _, f := range found.GetFieldSchemas() {
		byName[f.GetFieldName()] = f
	}
	for _, f := range asked.GetFieldSchemas() {
		if !sameField(byName[f.GetFieldName()], f) {
			parts = append(parts, fmt.Sprintf("field %q", f.GetFieldName()))
		}
		delete(byName, f.GetFieldName())
	}
	for _, f := range found.GetFieldSchemas() {
		if byName[f.GetFieldName()] != nil {
			parts = append(parts, fmt.Sprintf("field %q", f.GetFieldName()))
		}
	}
	if !sameSetting(found.GetIndexSetting(), asked.GetIndexSetting()) {
		parts = append(parts, "routing")
	}
	if !sameSort(found.GetIndexSort(), asked.GetIndexSort()) {
		parts = append(parts, "order of rows")
	}
	return parts
}

// sameField reports whether a field is as asked for, but for what that leaves open.
func sameField(found, asked *otsprotocol.FieldSchema) bool {
	if found == nil || !slices.EqualFunc(found.FieldSchemas, asked.FieldSchemas, sameField) {
		return false
	}
	if !slices.Equal(found.SourceFieldNames, asked.SourceFieldNames) || !slices.Equal(found.DateFormats, asked.DateFormats) {
		return false
	}
	plain := func(f *otsprotocol.FieldSchema) *otsprotocol.FieldSchema {
		f = proto.Clone(f).(*otsprotocol.FieldSchema)
		f.FieldSchemas, f.SourceFieldNames, f.DateFormats = nil, nil, nil
		return f
	}
	both := plain(found)
	proto.Merge(both, plain(asked))
	return proto.Equal(both, plain(found))
}

// sameSetting compares what can be chosen: the number of shards cannot.
func sameSetting(found, asked *otsprotocol.IndexSetting) bool {
	return slices.Equal(found.GetRoutingFields(), asked.GetRoutingFields()) &&
		found.GetRoutingPartitionSize() == asked.GetRoutingPartitionSize()
}

func sameSort(found, asked *otsprotocol.Sort) bool {
	if len(found.GetSorter()) == 0 && len(asked.GetSorter()) == 0 {
		return true
	}
	return found != nil && asked != nil && proto.Equal(found, asked)
}
