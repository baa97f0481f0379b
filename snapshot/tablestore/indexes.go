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

// phaseNotReady is what something is in that cannot be read yet and whose phase
// the service does not tell.
const phaseNotReady = "not ready"

// CreateIndex makes a secondary index with the rows that are there, and returns
// when the service says that it holds them and it can be read. That is waited for
// as long as [Config].ReadyWithin says; an error after that time is
// [snapshot.ErrUnavailable], and calling again waits on.
//
// An index that exists as described is waited for. Whether it was made with the
// rows that were there before it the service does not tell. One that exists
// otherwise is [fs.ErrExist].
func (in *Instance) CreateIndex(ctx context.Context, table manifest.Table, index manifest.Index) error {
	what := "secondary index " + index.Name
	err := in.createIndex(ctx, table, index)
	if err == nil {
		err = in.wait(ctx, table.Name, what, func() (string, error) { return in.indexPhase(ctx, table, index) })
	}
	if err != nil {
		return fmt.Errorf("tablestore: table %s: %s: %w", table.Name, what, err)
	}
	return nil
}

func (in *Instance) createIndex(ctx context.Context, table manifest.Table, index manifest.Index) error {
	meta, err := indexMeta(table, index)
	if err != nil {
		return err
	}
	err = in.ask(ctx, "CreateIndex", table.Name, &otsprotocol.CreateIndexRequest{
		MainTableName:   proto.String(table.Name),
		IndexMeta:       meta,
		IncludeBaseData: proto.Bool(true),
	}, nil)
	if errors.Is(err, fs.ErrExist) {
		return in.mustBeIndex(ctx, table, index, err)
	}
	return err
}

// indexTypes are those of [manifest.Index].
var indexTypes = map[string]otsprotocol.IndexType{
	"GLOBAL": otsprotocol.IndexType_IT_GLOBAL_INDEX,
	"LOCAL":  otsprotocol.IndexType_IT_LOCAL_INDEX,
}

// maxIndexKey is how many columns an index can be asked to begin its key with.
const maxIndexKey = 4

// updateMode is that of an index of a type: a global one follows its table, a
// local one changes with it.
func updateMode(t otsprotocol.IndexType) otsprotocol.IndexUpdateMode {
	if t == otsprotocol.IndexType_IT_LOCAL_INDEX {
		return otsprotocol.IndexUpdateMode_IUM_SYNC_INDEX
	}
	return otsprotocol.IndexUpdateMode_IUM_ASYNC_INDEX
}

// indexMeta is what the service is asked for.
func indexMeta(table manifest.Table, index manifest.Index) (*otsprotocol.IndexMeta, error) {
	kind, known := indexTypes[index.Type]
	if !known {
		return nil, fmt.Errorf("it has type %q", index.Type)
	}
	meta := &otsprotocol.IndexMeta{
		Name:            proto.String(index.Name),
		PrimaryKey:      index.Key,
		DefinedColumn:   index.Columns,
		IndexType:       kind.Enum(),
		IndexUpdateMode: updateMode(kind).Enum(),
	}
	// A key may be described with what the service added, and then be too long.
	if n := maxIndexKey; len(index.Key) > n && slices.Equal(indexKey(table, index.Key[:n]), index.Key) {
		meta.PrimaryKey = index.Key[:n]
	}
	return meta, nil
}

// indexKey returns the whole key of an index: what it was asked to begin with,
// and the columns of the table's key that are not among that.
func indexKey(table manifest.Table, begin []string) []string {
	key := slices.Clone(begin)
	for _, c := range table.Key {
		if !slices.Contains(begin, c.Name) {
			key = append(key, c.Name)
		}
	}
	return key
}

// mustBeIndex returns an error wrapping exists unless the index that exists is the
// one asked for.
func (in *Instance) mustBeIndex(ctx context.Context, table manifest.Table, asked manifest.Index, exists error) error {
	described, err := in.describe(ctx, table.Name)
	if err != nil {
		return err
	}
	i := findIndex(described, asked.Name)
	if i < 0 {
		return fmt.Errorf("%w: it is a table, or an index of another one", exists)
	}
	if differs := indexDifference(table, indexOf(described.IndexMetas[i]), asked); differs != "" {
		return fmt.Errorf("%w: %s", exists, differs)
	}
	return nil
}

func findIndex(d *otsprotocol.DescribeTableResponse, name string) int {
	return slices.IndexFunc(d.IndexMetas, func(m *otsprotocol.IndexMeta) bool { return m.GetName() == name })
}

// indexDifference says in what an index is not as asked for; nothing if it is.
// Keys are compared whole, as one may be described with the columns the service
// added and the other without them. The order of other columns means nothing.
func indexDifference(table manifest.Table, found, asked manifest.Index) string {
	sorted := func(names []string) []string { return slices.Sorted(slices.Values(names)) }
	foundKey, askedKey := indexKey(table, found.Key), indexKey(table, asked.Key)
	switch {
	case found.Type != asked.Type:
		return fmt.Sprintf("its type is %s, not %s", found.Type, asked.Type)
	case !slices.Equal(foundKey, askedKey):
		return fmt.Sprintf("its key is (%s), not (%s)", strings.Join(foundKey, ", "), strings.Join(askedKey, ", "))
	case !slices.Equal(sorted(found.Columns), sorted(asked.Columns)):
		return fmt.Sprintf("its columns are (%s), not (%s)", strings.Join(found.Columns, ", "), strings.Join(asked.Columns, ", "))
	}
	return ""
}

// indexPhase returns how far an index is, nothing when it holds the rows.
func (in *Instance) indexPhase(ctx context.Context, table manifest.Table, index manifest.Index) (string, error) {
	described, err := in.describe(ctx, table.Name)
	if err != nil {
		return "", err
	}
	i := findIndex(described, index.Name)
	if i < 0 {
		return "", fmt.Errorf("it was made and is no longer there: %w", fs.ErrNotExist)
	}
	if described.IndexMetas[i].GetIndexSyncPhase() == otsprotocol.IndexSyncPhase_ISP_FULL {
		return "FULL", nil
	}
	return in.readPhase(ctx, table, index)
}

// readPhase reads a row of an index to see whether it can be read.
func (in *Instance) readPhase(ctx context.Context, table manifest.Table, index manifest.Index) (phase string, err error) {
	q := query{table: index.Name, limit: 1}
	for _, name := range indexKey(table, index.Key) {
		q.columns = append(q.columns, manifest.KeyColumn{Name: name}) // of a range without bounds no type is asked
	}
	body, err := q.encode()
	if err != nil {
		return "", err
	}
	r := request{action: "GetRange", table: index.Name, body: body}
	err = in.retry(ctx, r.action, r.table, func() error {
		_, err := in.post(ctx, r, nil)
		phase = ""
		if refusal := new(Error); errors.As(err, &refusal) && (refusal.Code == codeTableNotReady || refusal.Code == codeObjectNotExist) {
			phase = phaseNotReady
			return nil
		}
		return err
	})
	return phase, err
}
