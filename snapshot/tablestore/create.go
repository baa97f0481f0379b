package tablestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// bare are the options under which every version of every cell can be written.
var bare = manifest.Options{
	TTL:         -1,
	MaxVersions: -1,
	// The service's limit. It lets every version a cell can have differ from the clock.
	Deviation:   snapshot.MaxDeviation,
	AllowUpdate: true,
}

// Create makes the table with its primary key and predefined columns and with
// options under which every version of every cell can be written: no TTL, no
// limit of versions, no index, no stream. What can be set only now is set now:
// AUTO_INCREMENT columns, for which the service will choose values, whether an
// update must write a whole row (to such a table the service lets nobody write
// versions, so [Instance.Write] cannot), and encryption as the table is described
// with it. A customer's key is of one region: a table for another region has to
// name a key of that one.
//
// It returns when the table takes reads; writes may be told to wait a little
// longer, and [Instance.Write] does. A table that exists is [fs.ErrExist], unless
// an earlier attempt of this very call may have made it: it then has to be as
// asked for, and empty.
func (in *Instance) Create(ctx context.Context, table manifest.Table) error {
	if table.Timeseries.Part != "" {
		return wrap("create", in.createTimeseries(ctx, table))
	}
	if err := in.create(ctx, table); err != nil {
		return fmt.Errorf("tablestore: %w", err)
	}
	if _, err := in.empty(ctx, table); err != nil {
		return fmt.Errorf("tablestore: waiting for table %s: %w", table.Name, err)
	}
	return nil
}

// create asks through a request of our own because the SDK refuses names longer
// than 100 bytes, where the service takes 255.
func (in *Instance) create(ctx context.Context, table manifest.Table) error {
	question, err := creation(table)
	if err != nil {
		return fmt.Errorf("CreateTable, table %s: %w", table.Name, err)
	}
	body, err := proto.Marshal(question)
	if err != nil {
		return err
	}
	r := request{action: "CreateTable", table: table.Name, body: body}
	first := true
	return in.retry(ctx, r.action, r.table, func() error {
		_, err := in.post(ctx, r, nil)
		again := !first
		first = false
		if again && errors.Is(err, fs.ErrExist) {
			return in.mustBeOurs(ctx, table, err)
		}
		return err
	})
}

func creation(table manifest.Table) (*otsprotocol.CreateTableRequest, error) {
	meta := &otsprotocol.TableMeta{TableName: proto.String(table.Name)}
	for _, c := range table.Key {
		typ, err := protocolKeyType(c)
		if err != nil {
			return nil, err
		}
		schema := &otsprotocol.PrimaryKeySchema{Name: proto.String(c.Name), Type: typ.Enum()}
		if c.AutoIncrement {
			schema.Option = otsprotocol.PrimaryKeyOption_AUTO_INCREMENT.Enum()
		}
		meta.PrimaryKey = append(meta.PrimaryKey, schema)
	}
	for _, c := range table.Defined {
		typ, err := protocolDefinedType(c)
		if err != nil {
			return nil, err
		}
		meta.DefinedColumn = append(meta.DefinedColumn, &otsprotocol.DefinedColumnSchema{
			Name: proto.String(c.Name),
			Type: typ.Enum(),
		})
	}
	request := &otsprotocol.CreateTableRequest{
		TableMeta:          meta,
		ReservedThroughput: throughput(manifest.Throughput{}),
		TableOptions:       options(bare),
	}
	if table.Options.UpdateFullRow {
		request.TableOptions.UpdateFullRow = proto.Bool(true)
	}
	var err error
	request.SseSpec, err = encryption(table.Encryption)
	return request, err
}

// encryption returns nil for none. Key and role go with a customer's key alone,
// although the service may describe its own by an id too.
func encryption(e manifest.Encryption) (*otsprotocol.SSESpecification, error) {
	if !e.Enabled {
		return nil, nil
	}
	kind, known := otsprotocol.SSEKeyType_value[e.KeyType]
	if !known {
		return nil, fmt.Errorf("encryption has keys of type %q", e.KeyType)
	}
	spec := &otsprotocol.SSESpecification{Enable: proto.Bool(true), KeyType: otsprotocol.SSEKeyType(kind).Enum()}
	if spec.GetKeyType() == otsprotocol.SSEKeyType_SSE_BYOK {
		spec.KeyId, spec.RoleArn = []byte(e.KeyID), []byte(e.RoleARN)
	}
	return spec, nil
}

func protocolKeyType(c manifest.KeyColumn) (otsprotocol.PrimaryKeyType, error) {
	switch c.Type {
	case manifest.Integer:
		return otsprotocol.PrimaryKeyType_INTEGER, nil
	case manifest.String:
		return otsprotocol.PrimaryKeyType_STRING, nil
	case manifest.Binary:
		return otsprotocol.PrimaryKeyType_BINARY, nil
	}
	return 0, fmt.Errorf("primary key column %q has type %q", c.Name, c.Type)
}

func protocolDefinedType(c manifest.Column) (otsprotocol.DefinedColumnType, error) {
	switch c.Type {
	case manifest.Integer:
		return otsprotocol.DefinedColumnType_DCT_INTEGER, nil
	case manifest.Double:
		return otsprotocol.DefinedColumnType_DCT_DOUBLE, nil
	case manifest.Boolean:
		return otsprotocol.DefinedColumnType_DCT_BOOLEAN, nil
	case manifest.String:
		return otsprotocol.DefinedColumnType_DCT_STRING, nil
	case manifest.Binary:
		return otsprotocol.DefinedColumnType_DCT_BLOB, nil
	}
	return 0, fmt.Errorf("predefined column %q has type %q", c.Name, c.Type)
}

// mustBeOurs returns exists unless the table that exists could have been made by
// the attempt whose answer was lost.
func (in *Instance) mustBeOurs(ctx context.Context, asked manifest.Table, exists error) error {
	found, err := in.live(ctx, asked.Name)
	if err != nil {
		return err
	}
	if !asAsked(found, asked) {
		return exists
	}
	empty, err := in.empty(ctx, asked)
	if err == nil && !empty {
		return exists
	}
	return err
}

// asAsked reports whether found is what creation asks for.
func asAsked(found, asked manifest.Table) bool {
	want := bare
	want.UpdateFullRow = asked.Options.UpdateFullRow
	return found.Name == asked.Name &&
		slices.Equal(found.Key, asked.Key) &&
		slices.Equal(found.Defined, asked.Defined) &&
		found.Options == want &&
		found.Encryption.Enabled == asked.Encryption.Enabled &&
		found.Encryption.KeyType == asked.Encryption.KeyType &&
		!found.Stream.Enabled &&
		len(found.Indexes) == 0
}

// empty reports whether the table has no rows, when it is ready to tell.
func (in *Instance) empty(ctx context.Context, table manifest.Table) (bool, error) {
	p, err := in.page(ctx, query{table: table.Name, columns: table.Key, limit: 1})
	if err != nil {
		return false, err
	}
	defer in.release(p)
	return len(p.rows) == 0 && len(p.next) == 0, nil
}

// Configure gives the table the options, the stream and the reserved throughput it
// is described with.
func (in *Instance) Configure(ctx context.Context, table manifest.Table) error {
	if table.Timeseries.Part != "" {
		return wrap("configure", in.configureTimeseries(ctx, table))
	}
	if err := in.settle(ctx, table, settings); err != nil {
		return fmt.Errorf("tablestore: options: %w", err)
	}
	// A request of its own: the service allows this change once in two minutes.
	if err := in.settle(ctx, table, reservation); err != nil {
		return fmt.Errorf("tablestore: reserved throughput: %w", err)
	}
	return nil
}

// settle asks for what a table has not yet, which change returns; nil: it has all.
// The service refuses to be asked for some of it twice, and an earlier attempt, or
// an earlier run, may have been done though its answer was lost.
func (in *Instance) settle(ctx context.Context, table manifest.Table, change func(live, asked manifest.Table) *otsprotocol.UpdateTableRequest) error {
	open := func() (*otsprotocol.UpdateTableRequest, error) {
		live, err := in.live(ctx, table.Name)
		return change(live, table), err
	}
	request, err := open()
	if err != nil || request == nil {
		return err
	}
	refused := in.update(ctx, request)
	var refusal *Error
	if refused == nil || !errors.As(refused, &refusal) {
		return refused
	}
	if request, err = open(); err == nil && request == nil {
		return nil
	}
	return refused
}

// live describes a table without its search indexes.
func (in *Instance) live(ctx context.Context, name string) (manifest.Table, error) {
	described, err := in.describe(ctx, name)
	if err != nil {
		return manifest.Table{}, err
	}
	return tableOf(described)
}

func settings(live, asked manifest.Table) *otsprotocol.UpdateTableRequest {
	request := &otsprotocol.UpdateTableRequest{TableName: proto.String(asked.Name)}
	if live.Options != asked.Options {
		request.TableOptions = options(asked.Options)
	}
	if s := asked.Stream; s.Enabled && !(live.Stream.Enabled && live.Stream.Hours == s.Hours && slices.Equal(live.Stream.Columns, s.Columns)) {
		request.StreamSpec = &otsprotocol.StreamSpecification{
			EnableStream:   proto.Bool(true),
			ExpirationTime: proto.Int32(int32(s.Hours)),
			ColumnsToGet:   s.Columns,
		}
	}
	if request.TableOptions == nil && request.StreamSpec == nil {
		return nil
	}
	return request
}

func reservation(live, asked manifest.Table) *otsprotocol.UpdateTableRequest {
	if asked.Throughput == (manifest.Throughput{}) || live.Throughput == asked.Throughput {
		return nil
	}
	return &otsprotocol.UpdateTableRequest{TableName: proto.String(asked.Name), ReservedThroughput: throughput(asked.Throughput)}
}

// update asks through a request of our own because the SDK leaves out a
// deviation of 0, which would leave the one of [bare], and panics when the
// answer says nothing of the stream.
func (in *Instance) update(ctx context.Context, u *otsprotocol.UpdateTableRequest) error {
	return in.ask(ctx, "UpdateTable", u.GetTableName(), u, nil)
}

// ask sends a message and reads the answer, unless what it says does not matter:
// nil.
func (in *Instance) ask(ctx context.Context, action, table string, question, answer proto.Message) error {
	body, err := proto.Marshal(question)
	if err != nil {
		return fmt.Errorf("%s: %w", request{action: action, table: table}, err)
	}
	t := in.newTrial(action, table)
	r := request{action: action, table: table, body: body, trial: t}
	return t.run(ctx, func() error {
		said, err := in.post(ctx, r, nil)
		if err != nil || answer == nil {
			return err
		}
		if err := proto.Unmarshal(said, answer); err != nil {
			return r.unreadable(err)
		}
		return nil
	})
}

// options returns those that can be changed at any time.
func options(o manifest.Options) *otsprotocol.TableOptions {
	return &otsprotocol.TableOptions{
		TimeToLive:                proto.Int32(int32(o.TTL)),
		MaxVersions:               proto.Int32(int32(o.MaxVersions)),
		DeviationCellVersionInSec: proto.Int64(o.Deviation),
		AllowUpdate:               proto.Bool(o.AllowUpdate),
	}
}

func throughput(t manifest.Throughput) *otsprotocol.ReservedThroughput {
	return &otsprotocol.ReservedThroughput{CapacityUnit: &otsprotocol.CapacityUnit{
		Read:  proto.Int32(int32(t.Read)),
		Write: proto.Int32(int32(t.Write)),
	}}
}
