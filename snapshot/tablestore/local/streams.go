package local

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

// stream is what a table's stream was asked to be, and the shards its records
// are in. Like the definition it belongs to, one is never changed.
type stream struct {
	ID         string    `json:"id"`
	Expiration int32     `json:"expiration"`        // hours
	Columns    []string  `json:"columns,omitempty"` // whose old values records have
	Enabled    time.Time `json:"enabled"`
	Shards     []shard   `json:"shards,omitempty"` // by number
	NextShard  uint64    `json:"next_shard,omitempty"`
}

// newStream returns the stream a specification asks for, nil for none.
func (d *definition) newStream(spec *otsprotocol.StreamSpecification, now time.Time) (*stream, error) {
	if !spec.GetEnableStream() {
		return nil, nil
	}
	if h := spec.GetExpirationTime(); h < 1 || h > maxStreamHours {
		return nil, invalid("Stream expiration time must be in range [1, %d] hours.", maxStreamHours)
	}
	for _, name := range spec.GetColumnsToGet() {
		if err := checkColumnName(name); err != nil {
			return nil, err
		}
	}
	st := &stream{
		ID:         fmt.Sprintf("%s_%d", d.Name, now.UnixMicro()),
		Expiration: spec.GetExpirationTime(),
		Columns:    spec.GetColumnsToGet(),
		Enabled:    now,
	}
	st.begin()
	return st, nil
}

func (d *definition) changedStream(spec *otsprotocol.StreamSpecification, now time.Time) (*stream, error) {
	if spec.GetEnableStream() && d.Stream != nil {
		return nil, invalid("Stream of table '%s' is already enabled.", d.Name)
	}
	if !spec.GetEnableStream() && d.Stream == nil {
		return nil, invalid("Stream of table '%s' is not enabled.", d.Name)
	}
	return d.newStream(spec, now)
}

func (st *stream) proto() *otsprotocol.StreamDetails {
	if st == nil {
		return &otsprotocol.StreamDetails{EnableStream: proto.Bool(false)}
	}
	return &otsprotocol.StreamDetails{
		EnableStream:   proto.Bool(true),
		StreamId:       proto.String(st.ID),
		ExpirationTime: proto.Int32(st.Expiration),
		LastEnableTime: proto.Int64(st.Enabled.UnixMicro()),
		ColumnsToGet:   st.Columns,
	}
}

// horizon is the time, in microseconds, before which records have expired.
func (st *stream) horizon(now time.Time) int64 {
	return now.Add(-time.Duration(st.Expiration) * time.Hour).UnixMicro()
}

// deleteRecords deletes all the records of a table's stream.
func deleteRecords(b *pebble.Batch, id uint64) error {
	records := recordsPrefix(id)
	return b.DeleteRange(records, successor(records), nil)
}

// listStream names the streams of an instance, or of one table.
func (s *Server) listStream(c call, req *otsprotocol.ListStreamRequest) (proto.Message, error) {
	resp := &otsprotocol.ListStreamResponse{}
	for _, d := range s.tables[c.instance] {
		if d.Stream == nil || req.TableName != nil && req.GetTableName() != d.Name {
			continue
		}
		resp.Streams = append(resp.Streams, &otsprotocol.Stream{
			StreamId:     proto.String(d.Stream.ID),
			TableName:    proto.String(d.Name),
			CreationTime: proto.Int64(d.Stream.Enabled.UnixMicro()),
		})
	}
	slices.SortFunc(resp.Streams, func(a, b *otsprotocol.Stream) int {
		return strings.Compare(a.GetTableName(), b.GetTableName())
	})
	return resp, nil
}

// streamed finds the table that has a stream.
func (s *Server) streamed(instance, id string) (*definition, error) {
	for _, d := range s.tables[instance] {
		if d.Stream != nil && d.Stream.ID == id {
			return d, nil
		}
	}
	return nil, errStreamNotExist()
}

// describeStream tells the shards whose records have not all expired, parents
// before their children.
func (s *Server) describeStream(c call, req *otsprotocol.DescribeStreamRequest) (proto.Message, error) {
	if req.ShardLimit != nil && req.GetShardLimit() <= 0 {
		return nil, invalid("Invalid shard limit: %d.", req.GetShardLimit())
	}
	d, err := s.streamed(c.instance, req.GetStreamId())
	if err != nil {
		return nil, err
	}
	st := d.Stream
	shards := st.living(s.clock())
	if req.InclusiveStartShardId != nil {
		i := slices.IndexFunc(shards, func(sh shard) bool { return sh.id() == req.GetInclusiveStartShardId() })
		if i < 0 {
			return nil, errTrimmed()
		}
		shards = shards[i:]
	}
	resp := &otsprotocol.DescribeStreamResponse{
		StreamId:       proto.String(st.ID),
		TableName:      proto.String(d.Name),
		CreationTime:   proto.Int64(st.Enabled.UnixMicro()),
		ExpirationTime: proto.Int32(st.Expiration),
		StreamStatus:   otsprotocol.StreamStatus_STREAM_ACTIVE.Enum(),
	}
	if limit := int(req.GetShardLimit()); req.ShardLimit != nil && len(shards) > limit {
		resp.NextShardId = proto.String(shards[limit].id())
		shards = shards[:limit]
	}
	for _, sh := range shards {
		resp.Shards = append(resp.Shards, sh.proto())
	}
	return resp, nil
}
