package tablestore

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// Delete removes the rows that have these keys, in requests of 200 one after the
// other. A row that is not there is not missed, and a key may stand twice. When
// it returns nil none of the rows is there; after an error some may be.
func (in *Instance) Delete(ctx context.Context, table manifest.Table, keys []manifest.Key) error {
	if table.Timeseries.Part != "" {
		return wrap("delete", in.deleteSeries(ctx, table, keys))
	}
	sorted := slices.SortedFunc(slices.Values(keys), func(x, y manifest.Key) int { return bytes.Compare(x, y) })
	// The service refuses a request that names a row twice.
	unique := slices.CompactFunc(sorted, func(x, y manifest.Key) bool { return bytes.Equal(x, y) })
	if err := in.delete(ctx, table, unique); err != nil {
		return fmt.Errorf("tablestore: delete: %w", err)
	}
	return nil
}

func (in *Instance) delete(ctx context.Context, table manifest.Table, keys []manifest.Key) error {
	for part := range slices.Chunk(keys, maxRows) {
		s := &sender{in: in, table: table.Name, format: func(i int) string { return row.FormatKey(table.Key, part[i]) }}
		p := newParcel(table.Name, ignoreExistence, maxRows, 0)
		var wire []byte
		for i, key := range part {
			var err error
			if wire, err = row.AppendDeletion(wire[:0], table.Key, key); err != nil {
				return fmt.Errorf("table %s: %w", table.Name, err)
			}
			p.add(otsprotocol.OperationType_DELETE, wire, i)
		}
		if _, err := s.deliver(ctx, p); err != nil {
			return err
		}
	}
	return nil
}
