package local

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

// defaultStore is the analytical store a timeseries table is made with when it
// is to have one and none is named.
const defaultStore = "default_analytical_store"

// store is an analytical store of a timeseries table. Only SQL reads one, so all
// there is of it here is its definition.
type store struct {
	Name       string                              `json:"name"`
	TimeToLive int32                               `json:"time_to_live"` // seconds, -1: for ever
	Sync       otsprotocol.AnalyticalStoreSyncType `json:"sync"`
	Built      time.Time                           `json:"built,omitzero"` // before, its phase is FULL
}

func newStore(m *otsprotocol.TimeseriesAnalyticalStore) (store, error) {
	x := store{Name: m.GetStoreName(), TimeToLive: -1, Sync: otsprotocol.AnalyticalStoreSyncType_SYNC_TYPE_FULL}
	if !validName(x.Name) || len(x.Name) > maxSeriesName {
		return x, invalid("Invalid analytical store name: '%s'.", x.Name)
	}
	if m.SyncOption != nil {
		x.Sync = m.GetSyncOption()
	}
	if _, known := otsprotocol.AnalyticalStoreSyncType_name[int32(x.Sync)]; !known {
		return x, invalid("Invalid sync option of analytical store '%s': %d.", x.Name, x.Sync)
	}
	return x, x.setTimeToLive(m)
}

func (x *store) setTimeToLive(m *otsprotocol.TimeseriesAnalyticalStore) error {
	if m.TimeToLive == nil {
		return nil
	}
	if ttl := m.GetTimeToLive(); ttl != -1 && ttl < minStoreLife {
		return invalid("TimeToLive of analytical store '%s' must be -1 or not less than %d.", x.Name, minStoreLife)
	}
	x.TimeToLive = m.GetTimeToLive()
	return nil
}

func (x *store) proto() *otsprotocol.TimeseriesAnalyticalStore {
	return &otsprotocol.TimeseriesAnalyticalStore{
		StoreName:  proto.String(x.Name),
		TimeToLive: proto.Int32(x.TimeToLive),
		SyncOption: x.Sync.Enum(),
	}
}

// addStore adds an analytical store to t, which nobody else sees yet.
func (t *seriesTable) addStore(x store) error {
	if t.storeNamed(x.Name) >= 0 {
		return errIndexExists(x.Name)
	}
	if len(t.Stores) >= maxStores {
		return invalid("The number of analytical stores of table '%s' must be in range: [0, %d].", t.Name, maxStores)
	}
	t.Stores = append(slices.Clone(t.Stores), x)
	return t.checkIndexCount()
}

func (t *seriesTable) storeNamed(name string) int {
	return slices.IndexFunc(t.Stores, func(x store) bool { return x.Name == name })
}

func (t *seriesTable) checkIndexCount() error {
	if n := len(t.Stores) + len(t.Lastpoints); n > maxSeriesIndexes {
		return invalid("The number of analytical stores and lastpoint indexes of table '%s' must be in range: [0, %d], it is %d.", t.Name, maxSeriesIndexes, n)
	}
	return nil
}

// addStores adds the analytical stores a table is created with, which have no
// rows to catch up with.
func (t *seriesTable) addStores(req *otsprotocol.CreateTimeseriesTableRequest, now time.Time) error {
	stores := req.GetAnalyticalStores()
	if !req.GetEnableAnalyticalStore() {
		if len(stores) > 0 {
			return invalid("Analytical stores are given for table '%s', but are not enabled.", t.Name)
		}
		return nil
	}
	if len(stores) == 0 {
		stores = append(stores, &otsprotocol.TimeseriesAnalyticalStore{StoreName: proto.String(defaultStore)})
	}
	for _, m := range stores {
		x, err := newStore(m)
		if err != nil {
			return err
		}
		x.Built = now
		if err := t.addStore(x); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) createTimeseriesAnalyticalStore(c call, req *otsprotocol.CreateTimeseriesAnalyticalStoreRequest) (proto.Message, error) {
	old, err := s.seriesTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	x, err := newStore(req.GetAnalyticalStore())
	if err != nil {
		return nil, err
	}
	if x.Sync == otsprotocol.AnalyticalStoreSyncType_SYNC_TYPE_FULL {
		x.Built = s.clock().Add(s.build)
	}
	t := *old
	if err := errors.Join(t.addStore(x), s.checkRoom(c.instance, 1)); err != nil {
		return nil, err
	}
	return &otsprotocol.CreateTimeseriesAnalyticalStoreResponse{}, s.replaceSeriesTable(&t)
}

// analyticalStore finds an analytical store of a table by its place in it.
func (s *Server) analyticalStore(instance, table, name string) (t seriesTable, i int, err error) {
	found, err := s.seriesTable(instance, table)
	if err != nil {
		return t, 0, err
	}
	if i = found.storeNamed(name); i < 0 {
		return t, 0, errIndexNotExist(name)
	}
	t = *found
	t.Stores = slices.Clone(found.Stores)
	return t, i, nil
}

// deleteTimeseriesAnalyticalStore finds no table of SQL that hangs on the store,
// for there are none here.
func (s *Server) deleteTimeseriesAnalyticalStore(c call, req *otsprotocol.DeleteTimeseriesAnalyticalStoreRequest) (proto.Message, error) {
	t, i, err := s.analyticalStore(c.instance, req.GetTableName(), req.GetStoreName())
	if err != nil {
		return nil, err
	}
	t.Stores = slices.Delete(t.Stores, i, i+1)
	return &otsprotocol.DeleteTimeseriesAnalyticalStoreResponse{}, s.replaceSeriesTable(&t)
}

func (s *Server) describeTimeseriesAnalyticalStore(c call, req *otsprotocol.DescribeTimeseriesAnalyticalStoreRequest) (proto.Message, error) {
	t, i, err := s.analyticalStore(c.instance, req.GetTableName(), req.GetStoreName())
	if err != nil {
		return nil, err
	}
	phase := otsprotocol.AnalyticalStoreSyncType_SYNC_TYPE_INCR
	if s.clock().Before(t.Stores[i].Built) {
		phase = otsprotocol.AnalyticalStoreSyncType_SYNC_TYPE_FULL
	}
	return &otsprotocol.DescribeTimeseriesAnalyticalStoreResponse{
		AnalyticalStore: t.Stores[i].proto(),
		SyncStat:        &otsprotocol.AnalyticalStoreSyncStat{SyncPhase: phase.Enum(), CurrentSyncTimestamp: proto.Int64(0)},
	}, nil
}

func (s *Server) updateTimeseriesAnalyticalStore(c call, req *otsprotocol.UpdateTimeseriesAnalyticalStoreRequest) (proto.Message, error) {
	asked := req.GetAnalyticalStore()
	t, i, err := s.analyticalStore(c.instance, req.GetTableName(), asked.GetStoreName())
	if err != nil {
		return nil, err
	}
	x := &t.Stores[i]
	if asked.SyncOption != nil && asked.GetSyncOption() != x.Sync {
		return nil, invalid("The sync option of analytical store '%s' cannot be changed.", x.Name)
	}
	if err := x.setTimeToLive(asked); err != nil {
		return nil, err
	}
	return &otsprotocol.UpdateTimeseriesAnalyticalStoreResponse{}, s.replaceSeriesTable(&t)
}

// lastpoint is a lastpoint index of a timeseries table: a table that has the
// newest row of each series and that the wide-column model reads.
type lastpoint struct {
	ID      uint64    `json:"id"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Built   time.Time `json:"built,omitzero"` // before, it is not ready
}

// lastpointTable returns the table a lastpoint index is.
func (t *seriesTable) lastpointTable(x *lastpoint) *definition {
	d := &definition{
		ID:         x.ID,
		Instance:   t.Instance,
		Name:       x.Name,
		Created:    x.Created,
		Key:        []keyColumn{{Name: columnHash, Type: typeString}},
		Options:    options{TimeToLive: t.TimeToLive, MaxVersions: 1, Deviation: defaultDeviation},
		Throughput: throughput{Increased: x.Created},
		main:       t.Name,
		lastpoint:  true,
		built:      x.Built,
	}
	for _, name := range t.identifiers() {
		d.Key = append(d.Key, keyColumn{Name: name, Type: typeString})
	}
	return d
}

// addLastpoint adds a lastpoint index to t, which nobody else sees yet.
func (t *seriesTable) addLastpoint(x lastpoint) error {
	if err := checkSeriesTableName(x.Name); err != nil {
		return err
	}
	t.Lastpoints = append(slices.Clone(t.Lastpoints), x)
	return t.checkIndexCount()
}

func (t *seriesTable) addLastpoints(metas []*otsprotocol.LastpointIndexMetaForCreate, now time.Time) error {
	for _, m := range metas {
		if err := t.addLastpoint(lastpoint{Name: m.GetIndexTableName(), Created: now}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) createTimeseriesLastpointIndex(c call, req *otsprotocol.CreateTimeseriesLastpointIndexRequest) (proto.Message, error) {
	old, err := s.seriesTable(c.instance, req.GetMainTableName())
	if err != nil {
		return nil, err
	}
	if req.GetCreateOnWideColumnTable() || len(req.GetIndexPrimaryKeyNames()) > 0 {
		return nil, unsupported("A lastpoint index of a wide-column table or with a key of its own")
	}
	t, x := *old, lastpoint{Name: req.GetIndexTableName(), Created: s.clock()}
	if req.GetIncludeBaseData() {
		x.Built = x.Created.Add(s.build)
	}
	if err := errors.Join(t.addLastpoint(x), s.checkRoom(c.instance, 1, x.Name)); err != nil {
		return nil, err
	}
	added := &t.Lastpoints[len(t.Lastpoints)-1]
	if added.ID, err = s.durableID(); err != nil {
		return nil, err
	}
	if req.GetIncludeBaseData() {
		if err := s.fillLastpoint(&t, t.lastpointTable(added)); err != nil {
			return nil, err
		}
	}
	return &otsprotocol.CreateTimeseriesLastpointIndexResponse{}, s.replaceSeriesTable(&t)
}

func (s *Server) deleteTimeseriesLastpointIndex(c call, req *otsprotocol.DeleteTimeseriesLastpointIndexRequest) (proto.Message, error) {
	old, err := s.seriesTable(c.instance, req.GetMainTableName())
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(old.Lastpoints, func(x lastpoint) bool { return x.Name == req.GetIndexTableName() })
	if i < 0 {
		return nil, errTableNotExist()
	}
	b := s.db.NewBatch()
	defer b.Close()
	if err := deleteRows(b, old.Lastpoints[i].ID); err != nil {
		return nil, err
	}
	t := *old
	t.Lastpoints = slices.Delete(slices.Clone(old.Lastpoints), i, i+1)
	return &otsprotocol.DeleteTimeseriesLastpointIndexResponse{}, s.storeSeriesTable(b, &t)
}

// follow puts into the batch a row of a series as the newest in an index, unless
// the index has a newer one. Batches are indexed, so that of two rows of a series
// in one batch the newer stays.
func (p *point) follow(b *pebble.Batch, d *definition) error {
	key := rowsPrefix(d.ID)
	for i := range d.Key {
		key = appendKeyValue(key, p.key[i].value)
	}
	at := slices.IndexFunc(p.key, func(c cell) bool { return string(c.name) == columnTime })
	old, closer, err := b.Get(key)
	if err == nil {
		var r row
		kept, err := parseStored(old)
		if err == nil {
			_, err = parseRow(kept.wire, &r)
		}
		err = errors.Join(err, closer.Close())
		if err != nil {
			return err
		}
		if last := newest(r.cells, columnTime); last != nil && last.value.integer() > p.time {
			return nil
		}
	} else if !errors.Is(err, pebble.ErrNotFound) {
		return err
	}
	var cells []cell
	for _, c := range append(slices.Clone(p.key[at:]), p.cells...) {
		name, _, _ := bytes.Cut(c.name, []byte{':'})
		cells = append(cells, makeCell(name, c.value, p.time/1000, true))
	}
	return b.Set(key, appendStored(nil, p.key[:len(d.Key)], arrange(cells), math.MaxInt64), nil)
}

// fillLastpoint writes the rows of a lastpoint index of a table that has rows.
func (s *Server) fillLastpoint(t *seriesTable, d *definition) (err error) {
	rows := t.prefix(prefixPoint)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: rows, UpperBound: successor(rows)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b := s.db.NewIndexedBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	for more := it.First; more(); more = it.Next {
		p, err := parsePoint(it.Value())
		if err != nil {
			return err
		}
		if err := p.follow(b, d); err != nil {
			return err
		}
		if b.Len() < fillBatch {
			continue
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			return err
		}
		b.Reset()
	}
	return b.Commit(s.durable)
}
