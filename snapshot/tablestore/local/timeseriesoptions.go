package local

import (
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// metaOptions are the options of the metadata of a table's series.
type metaOptions struct {
	Fixed      bool  `json:"fixed"`        // attributes cannot be changed
	TimeToLive int32 `json:"time_to_live"` // seconds since the last update, 0: for ever
}

// minMetaLife is the shortest life of metadata, in seconds.
const minMetaLife = 604800

// Messages of the Go SDK lack the options of metadata, which the protocol has, so
// they are read from and put into what a message does not know.
type (
	metaOptionsMessage struct {
		AllowUpdateAttributes *bool  `protobuf:"varint,1,opt,name=allow_update_attributes"`
		MetaTimeToLive        *int32 `protobuf:"varint,2,opt,name=meta_time_to_live"`
	}
	// tableMetaRest is of a TimeseriesTableMeta.
	tableMetaRest struct {
		MetaOptions      *metaOptionsMessage `protobuf:"bytes,4,opt,name=meta_options"`
		XXX_unrecognized []byte
	}
	// updateTableRest is of an UpdateTimeseriesTableRequest.
	updateTableRest struct {
		MetaOptions      *metaOptionsMessage `protobuf:"bytes,3,opt,name=meta_options"`
		XXX_unrecognized []byte
	}
)

func (m *metaOptionsMessage) Reset()         { *m = metaOptionsMessage{} }
func (m *metaOptionsMessage) String() string { return proto.CompactTextString(m) }
func (*metaOptionsMessage) ProtoMessage()    {}
func (m *tableMetaRest) Reset()              { *m = tableMetaRest{} }
func (m *tableMetaRest) String() string      { return proto.CompactTextString(m) }
func (*tableMetaRest) ProtoMessage()         {}
func (m *updateTableRest) Reset()            { *m = updateTableRest{} }
func (m *updateTableRest) String() string    { return proto.CompactTextString(m) }
func (*updateTableRest) ProtoMessage()       {}

// createMetaOptions reads the options of metadata from a table to be made.
func createMetaOptions(meta *otsprotocol.TimeseriesTableMeta) (*metaOptionsMessage, error) {
	var rest tableMetaRest
	if err := decode(meta.XXX_unrecognized, &rest); err != nil {
		return nil, err
	}
	if len(rest.XXX_unrecognized) > 0 {
		return nil, unsupported("What this table is to have")
	}
	return rest.MetaOptions, nil
}

// updateMetaOptions reads the options of metadata from a change to a table.
func updateMetaOptions(req *otsprotocol.UpdateTimeseriesTableRequest) (*metaOptionsMessage, error) {
	var rest updateTableRest
	if err := decode(req.XXX_unrecognized, &rest); err != nil {
		return nil, err
	}
	if len(rest.XXX_unrecognized) > 0 {
		return nil, unsupported("What this table is to have")
	}
	return rest.MetaOptions, nil
}

// setMetaOptions changes what the options given say.
func (t *seriesTable) setMetaOptions(o *metaOptionsMessage) error {
	if o == nil {
		return nil
	}
	if o.AllowUpdateAttributes != nil {
		t.Meta.Fixed = !*o.AllowUpdateAttributes
	}
	if o.MetaTimeToLive != nil {
		ttl := *o.MetaTimeToLive
		if ttl != -1 && ttl < minMetaLife {
			return invalid("MetaTimeToLive must be -1 or not less than %d.", minMetaLife)
		}
		t.Meta.TimeToLive = max(0, ttl)
	}
	return nil
}

// checkMetaOptions holds what the options of a table ask of one another. Metadata
// that can be changed does not expire, and none does before the rows it is of.
func (t *seriesTable) checkMetaOptions() error {
	switch life := t.Meta.TimeToLive; {
	case life == 0:
		return nil
	case !t.Meta.Fixed:
		return invalid("MetaTimeToLive must be -1 when attributes can be updated, table: '%s'.", t.Name)
	case t.TimeToLive == -1 || t.TimeToLive > life:
		return invalid("MetaTimeToLive must not be less than TimeToLive, table: '%s'.", t.Name)
	}
	return nil
}

// rest is what a description of the table has that the SDK does not know.
func (t *seriesTable) rest() []byte {
	life := int32(-1)
	if t.Meta.TimeToLive != 0 {
		life = t.Meta.TimeToLive
	}
	// Marshalling fails for missing fields only, and none is.
	rest, _ := proto.Marshal(&tableMetaRest{MetaOptions: &metaOptionsMessage{
		AllowUpdateAttributes: proto.Bool(!t.Meta.Fixed),
		MetaTimeToLive:        proto.Int32(life),
	}})
	return rest
}

// expired tells whether the metadata of a series is there no more.
func (t *seriesTable) expired(meta *otsprotocol.TimeseriesMeta, now time.Time) bool {
	life := time.Duration(t.Meta.TimeToLive) * time.Second
	return life != 0 && now.Sub(time.UnixMicro(meta.GetUpdateTime())) > life
}
