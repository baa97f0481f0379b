package local

import (
	"slices"
	"strings"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// listStream names the streams tables were given. What is in them is not kept,
// so the operations that would read one are refused.
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
