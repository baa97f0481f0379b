package local

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

// The service does not document how many series an answer has. Its SDKs leave the
// number out and rely on a hundred; more than a thousand are never asked for.
const (
	usualSeries  = 100
	maxSeries    = 1000
	maxCondition = 20 // levels of conditions inside others
)

func (s *Server) queryTimeseriesMeta(c call, req *otsprotocol.QueryTimeseriesMetaRequest) (proto.Message, error) {
	t, err := s.seriesTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	if err := t.checkVersion(req.GetSupportedTableVersion()); err != nil {
		return nil, err
	}
	limit, err := checkLimit(req.Limit, usualSeries, maxSeries)
	if err != nil {
		return nil, err
	}
	if c.fault.Kind == FaultEmptyPage {
		limit = 0
	}
	matches := func(*otsprotocol.TimeseriesMeta) bool { return true }
	if req.Condition != nil {
		if matches, err = parseCondition(req.Condition, 1); err != nil {
			return nil, err
		}
	}
	return s.searchSeries(t, req, matches, limit)
}

// searchSeries finds the series a condition holds for, in the order of their
// identifiers. A token is the key of the next.
func (s *Server) searchSeries(t *seriesTable, req *otsprotocol.QueryTimeseriesMetaRequest, matches condition, limit int) (resp *otsprotocol.QueryTimeseriesMetaResponse, err error) {
	prefix := t.prefix(prefixSeries)
	from := append([]byte{prefixSeries}, req.GetToken()...)
	if len(req.GetToken()) > 0 && !bytes.HasPrefix(from, prefix) {
		return nil, invalid("Invalid token.")
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: successor(prefix)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	resp = &otsprotocol.QueryTimeseriesMetaResponse{}
	hits, now := int64(0), s.clock()
	start := func() bool { return it.SeekGE(from) }
	if req.GetGetTotalHit() {
		start = it.First
	}
	for more := start(); more; more = it.Next() {
		meta := &otsprotocol.TimeseriesMeta{}
		if err := proto.Unmarshal(it.Value(), meta); err != nil {
			return nil, err
		}
		if t.expired(meta, now) || !matches(meta) {
			continue
		}
		hits++
		switch {
		case bytes.Compare(it.Key(), from) < 0 || resp.NextToken != nil:
		case len(resp.TimeseriesMetas) < limit:
			resp.TimeseriesMetas = append(resp.TimeseriesMetas, meta)
		default:
			resp.NextToken = bytes.Clone(it.Key()[1:])
		}
		if resp.NextToken != nil && !req.GetGetTotalHit() {
			break
		}
	}
	if req.GetGetTotalHit() {
		resp.TotalHit = proto.Int64(hits)
	}
	return resp, nil
}

// condition tells which series are asked for.
type condition func(*otsprotocol.TimeseriesMeta) bool

// parseCondition reads a condition, which is so many levels deep in others.
func parseCondition(m *otsprotocol.MetaQueryCondition, level int) (condition, error) {
	if level > maxCondition {
		return nil, invalid("Conditions are more than %d levels deep.", maxCondition)
	}
	switch m.GetType() {
	case otsprotocol.MetaQueryConditionType_COMPOSITE_CONDITION:
		return parseComposite(m.GetProtoData(), level)
	case otsprotocol.MetaQueryConditionType_MEASUREMENT_CONDITION:
		var single otsprotocol.MetaQueryMeasurementCondition
		return parseSingle(m, &single, func() (condition, error) {
			return textCondition(single.GetOp(), single.GetValue(), func(meta *otsprotocol.TimeseriesMeta) (string, bool) {
				return meta.GetTimeSeriesKey().GetMeasurement(), true
			})
		})
	case otsprotocol.MetaQueryConditionType_SOURCE_CONDITION:
		var single otsprotocol.MetaQuerySourceCondition
		return parseSingle(m, &single, func() (condition, error) {
			return textCondition(single.GetOp(), single.GetValue(), func(meta *otsprotocol.TimeseriesMeta) (string, bool) {
				return meta.GetTimeSeriesKey().GetSource(), true
			})
		})
	case otsprotocol.MetaQueryConditionType_TAG_CONDITION:
		var single otsprotocol.MetaQueryTagCondition
		return parseSingle(m, &single, func() (condition, error) {
			return textCondition(single.GetOp(), single.GetValue(), func(meta *otsprotocol.TimeseriesMeta) (string, bool) {
				return lookUp(meta.GetTimeSeriesKey().GetTagList(), single.GetTagName())
			})
		})
	case otsprotocol.MetaQueryConditionType_ATTRIBUTE_CONDITION:
		var single otsprotocol.MetaQueryAttributeCondition
		return parseSingle(m, &single, func() (condition, error) {
			return textCondition(single.GetOp(), single.GetValue(), func(meta *otsprotocol.TimeseriesMeta) (string, bool) {
				attributes, err := parsePairs(cmp.Or(meta.GetAttributes(), "[]"))
				found, ok := lookUp(attributes, single.GetAttrName())
				return found, ok && err == nil
			})
		})
	case otsprotocol.MetaQueryConditionType_UPDATE_TIME_CONDITION:
		var single otsprotocol.MetaQueryUpdateTimeCondition
		return parseSingle(m, &single, func() (condition, error) { return timeCondition(&single) })
	}
	return nil, invalid("Unknown type of a condition: %d.", m.GetType())
}

// parseSingle decodes a condition that has none inside it.
func parseSingle(m *otsprotocol.MetaQueryCondition, single proto.Message, build func() (condition, error)) (condition, error) {
	if err := decode(m.GetProtoData(), single); err != nil {
		return nil, err
	}
	return build()
}

func parseComposite(body []byte, level int) (condition, error) {
	var m otsprotocol.MetaQueryCompositeCondition
	if err := decode(body, &m); err != nil {
		return nil, err
	}
	if len(m.SubConditions) == 0 {
		return nil, invalid("A composite condition must have sub conditions.")
	}
	var parts []condition
	for _, sub := range m.SubConditions {
		part, err := parseCondition(sub, level+1)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	holds := func(want bool) condition {
		return func(meta *otsprotocol.TimeseriesMeta) bool {
			return slices.ContainsFunc(parts, func(part condition) bool { return part(meta) == want })
		}
	}
	anyHolds, anyFails := holds(true), holds(false)
	switch m.GetOp() {
	case otsprotocol.MetaQueryCompositeOperator_OP_AND:
		return func(meta *otsprotocol.TimeseriesMeta) bool { return !anyFails(meta) }, nil
	case otsprotocol.MetaQueryCompositeOperator_OP_OR:
		return anyHolds, nil
	case otsprotocol.MetaQueryCompositeOperator_OP_NOT:
		return func(meta *otsprotocol.TimeseriesMeta) bool { return !anyHolds(meta) }, nil
	}
	return nil, invalid("Unknown operator of a composite condition: %d.", m.GetOp())
}

func lookUp(tags []*otsprotocol.TimeseriesTag, name string) (string, bool) {
	for _, tag := range tags {
		if tag.GetName() == name {
			return tag.GetValue(), true
		}
	}
	return "", false
}

// textCondition compares what of a series has with a text. It holds for no series
// that lacks it.
func textCondition(op otsprotocol.MetaQuerySingleOperator, want string, of func(*otsprotocol.TimeseriesMeta) (string, bool)) (condition, error) {
	if op == otsprotocol.MetaQuerySingleOperator_OP_PREFIX {
		return func(meta *otsprotocol.TimeseriesMeta) bool {
			got, has := of(meta)
			return has && strings.HasPrefix(got, want)
		}, nil
	}
	holds, err := holdsFor(op)
	return func(meta *otsprotocol.TimeseriesMeta) bool {
		got, has := of(meta)
		return has && holds(strings.Compare(got, want))
	}, err
}

func timeCondition(m *otsprotocol.MetaQueryUpdateTimeCondition) (condition, error) {
	holds, err := holdsFor(m.GetOp())
	return func(meta *otsprotocol.TimeseriesMeta) bool {
		return holds(cmp.Compare(meta.GetUpdateTime(), m.GetValue()))
	}, err
}

// holdsFor tells what an operator says of how two values compare.
func holdsFor(op otsprotocol.MetaQuerySingleOperator) (func(int) bool, error) {
	switch op {
	case otsprotocol.MetaQuerySingleOperator_OP_EQUAL:
		return func(c int) bool { return c == 0 }, nil
	case otsprotocol.MetaQuerySingleOperator_OP_GREATER_THAN:
		return func(c int) bool { return c > 0 }, nil
	case otsprotocol.MetaQuerySingleOperator_OP_GREATER_EQUAL:
		return func(c int) bool { return c >= 0 }, nil
	case otsprotocol.MetaQuerySingleOperator_OP_LESS_THAN:
		return func(c int) bool { return c < 0 }, nil
	case otsprotocol.MetaQuerySingleOperator_OP_LESS_EQUAL:
		return func(c int) bool { return c <= 0 }, nil
	}
	return nil, invalid("Invalid operator of a condition: %d.", op)
}

// seriesUpdate is a change to the metadata of a series.
type seriesUpdate struct {
	key        []byte
	id         *seriesID
	attributes *string // nil: they stay
}

// newUpdate checks a change.
func (t *seriesTable) newUpdate(meta *otsprotocol.TimeseriesMeta) (*seriesUpdate, error) {
	if meta.UpdateTime != nil {
		return nil, invalid("Update time can not be set.")
	}
	if meta.Attributes != nil && t.Meta.Fixed {
		return nil, invalid("Attributes of table '%s' can not be updated.", t.Name)
	}
	id, err := t.identify(meta.GetTimeSeriesKey())
	if err != nil {
		return nil, err
	}
	u := &seriesUpdate{key: t.seriesKey(prefixSeries, t.columns(id)), id: id}
	if meta.Attributes == nil {
		return u, nil
	}
	attributes, err := parsePairs(cmp.Or(meta.GetAttributes(), "[]"))
	if err != nil {
		return nil, err
	}
	if len(attributes) > 0 {
		u.attributes = proto.String(pairs(attributes))
	} else {
		u.attributes = proto.String("")
	}
	return u, checkPairs(attributes)
}

// apply puts the change into the batch. A series that is not there comes to be.
func (u *seriesUpdate) apply(b *pebble.Batch, t *seriesTable, now time.Time) error {
	meta, err := readSeries(b, u.key)
	if err != nil {
		return err
	}
	if meta == nil || t.expired(meta, now) {
		meta = &otsprotocol.TimeseriesMeta{TimeSeriesKey: u.id.proto()}
	}
	if u.attributes != nil {
		meta.Attributes = u.attributes
	}
	if meta.GetAttributes() == "" {
		meta.Attributes = nil
	}
	return writeSeries(b, u.key, meta, now)
}

func (s *Server) updateTimeseriesMeta(c call, req *otsprotocol.UpdateTimeseriesMetaRequest) (proto.Message, error) {
	t, err := s.changeableSeries(c, req.GetTableName(), req.GetSupportedTableVersion(), len(req.GetTimeseriesMeta()))
	if err != nil {
		return nil, err
	}
	resp := &otsprotocol.UpdateTimeseriesMetaResponse{}
	var updates []*seriesUpdate
	var keys [][]byte
	for i, meta := range req.GetTimeseriesMeta() {
		u, err := t.newUpdate(meta)
		if err != nil {
			resp.FailedRows = append(resp.FailedRows, failedRow(i, err))
			continue
		}
		updates, keys = append(updates, u), append(keys, u.key)
	}
	return resp, s.changeSeries(keys, func(b *pebble.Batch, i int) error { return updates[i].apply(b, t, s.clock()) })
}

// deleteTimeseriesMeta deletes metadata alone: the rows of a series stay, and can
// be read by who knows its identifiers.
func (s *Server) deleteTimeseriesMeta(c call, req *otsprotocol.DeleteTimeseriesMetaRequest) (proto.Message, error) {
	t, err := s.changeableSeries(c, req.GetTableName(), req.GetSupportedTableVersion(), len(req.GetTimeseriesKey()))
	if err != nil {
		return nil, err
	}
	resp := &otsprotocol.DeleteTimeseriesMetaResponse{}
	var keys [][]byte
	for i, k := range req.GetTimeseriesKey() {
		id, err := t.identify(k)
		if err != nil {
			resp.FailedRows = append(resp.FailedRows, failedRow(i, err))
			continue
		}
		keys = append(keys, t.seriesKey(prefixSeries, t.columns(id)))
	}
	return resp, s.changeSeries(keys, func(b *pebble.Batch, i int) error { return b.Delete(keys[i], nil) })
}

// changeableSeries finds the table of a request that changes the metadata of so
// many series.
func (s *Server) changeableSeries(c call, table string, version int64, count int) (*seriesTable, error) {
	t, err := s.seriesTable(c.instance, table)
	if err != nil {
		return nil, err
	}
	if count == 0 || count > maxBatchWrite {
		return nil, invalid("The number of timeseries must be in range: [1, %d], it is %d.", maxBatchWrite, count)
	}
	return t, t.checkVersion(version)
}

// changeSeries makes a change to the metadata of each of the series.
func (s *Server) changeSeries(keys [][]byte, change func(b *pebble.Batch, i int) error) error {
	if len(keys) == 0 {
		return nil
	}
	defer s.rows.lockAll(keys)()
	b := s.db.NewIndexedBatch()
	defer b.Close()
	for i := range keys {
		if err := change(b, i); err != nil {
			return err
		}
	}
	return b.Commit(s.durable)
}
