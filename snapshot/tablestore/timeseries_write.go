package tablestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net/http"
	"slices"
	"sync/atomic"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"golang.org/x/sync/errgroup"
)

// createTimeseries is Create of a part of a timeseries table. Whichever part comes
// first makes the table: with its keys, without a time to live, and without stores
// and indexes. The other part then finds it, and takes it if it is as it was made.
func (in *Instance) createTimeseries(ctx context.Context, t manifest.Table) error {
	table, meta := manifest.CutMetaName(t.Name)
	err := in.makeTimeseries(ctx, table, t)
	switch {
	case err == nil:
		in.series.made(table, meta)
	case errors.Is(err, fs.ErrExist) && (meta || in.series.madeForMeta(table)):
		err = in.mustBeBare(ctx, t, err)
	}
	if err != nil {
		return err
	}
	// It returns when the table takes reads.
	_, err = in.listSeries(ctx, table)
	return err
}

func (in *Instance) makeTimeseries(ctx context.Context, table string, t manifest.Table) error {
	meta := &otsprotocol.TimeseriesTableMeta{
		TableName:           proto.String(table),
		TableOptions:        &otsprotocol.TimeseriesTableOptions{TimeToLive: proto.Int32(-1)},
		TimeseriesKeySchema: t.Timeseries.Keys,
	}
	if t.Timeseries.Unhashed {
		meta.DisableHashPartitionKey = proto.Bool(true)
	}
	question := &otsprotocol.CreateTimeseriesTableRequest{TableMeta: meta, EnableAnalyticalStore: proto.Bool(false)}
	body, err := proto.Marshal(question)
	if err != nil {
		return err
	}
	r := request{action: "CreateTimeseriesTable", table: table, body: body}
	first := true
	return in.retry(ctx, r.action, r.table, func() error {
		_, err := in.post(ctx, r, nil)
		again := !first
		first = false
		if !again || !errors.Is(err, fs.ErrExist) {
			return err
		}
		// The answer to an earlier attempt may be what got lost.
		if err := in.mustBeBare(ctx, t, err); err != nil {
			return err
		}
		list, listErr := in.listSeries(ctx, table)
		if listErr != nil || len(list) == 0 {
			return listErr
		}
		return err
	})
}

// mustBeBare returns exists unless the table that exists is as it is made.
func (in *Instance) mustBeBare(ctx context.Context, asked manifest.Table, exists error) error {
	found, err := in.describeTimeseries(ctx, asked.Name)
	if err != nil {
		return err
	}
	want := manifest.Timeseries{
		Part: asked.Timeseries.Part, TTL: -1, MetaTTL: -1, UpdateAttributes: true, Unhashed: asked.Timeseries.Unhashed, Keys: asked.Timeseries.Keys,
	}
	if !sameTimeseries(found.Timeseries, want) {
		return exists
	}
	return nil
}

func sameTimeseries(a, b manifest.Timeseries) bool {
	return a.Part == b.Part && a.TTL == b.TTL && a.MetaTTL == b.MetaTTL && a.UpdateAttributes == b.UpdateAttributes && a.Unhashed == b.Unhashed &&
		slices.Equal(a.Keys, b.Keys) && slices.Equal(a.AnalyticalStores, b.AnalyticalStores) && slices.Equal(a.LastpointIndexes, b.LastpointIndexes)
}

// configureTimeseries is Configure of a part of a timeseries table. Each part does
// all there is to do for both.
func (in *Instance) configureTimeseries(ctx context.Context, t manifest.Table) error {
	table, _ := manifest.CutMetaName(t.Name)
	found, err := in.describeTimeseries(ctx, t.Name)
	if err != nil {
		return err
	}
	if err := in.updateTimeseries(ctx, table, found.Timeseries, t.Timeseries); err != nil {
		return err
	}
	for _, store := range t.Timeseries.AnalyticalStores {
		if slices.ContainsFunc(found.Timeseries.AnalyticalStores, func(s manifest.AnalyticalStore) bool { return s.Name == store.Name }) {
			continue
		}
		question := &otsprotocol.CreateTimeseriesAnalyticalStoreRequest{TableName: proto.String(table), AnalyticalStore: protocolStore(store)}
		if err := in.askOnce(ctx, "CreateTimeseriesAnalyticalStore", table, question); err != nil {
			return fmt.Errorf("analytical store %s: %w", store.Name, err)
		}
	}
	for _, index := range t.Timeseries.LastpointIndexes {
		if slices.Contains(found.Timeseries.LastpointIndexes, index) {
			continue
		}
		question := &otsprotocol.CreateTimeseriesLastpointIndexRequest{
			MainTableName: proto.String(table), IndexTableName: proto.String(index), IncludeBaseData: proto.Bool(true),
		}
		if err := in.askOnce(ctx, "CreateTimeseriesLastpointIndex", table, question); err != nil {
			return fmt.Errorf("lastpoint index %s: %w", index, err)
		}
	}
	return nil
}

// askOnce asks for something to be made that was not there before: that it exists,
// when it was asked for again, is the answer to an attempt before.
func (in *Instance) askOnce(ctx context.Context, action, table string, question proto.Message) error {
	body, err := proto.Marshal(question)
	if err != nil {
		return err
	}
	r := request{action: action, table: table, body: body}
	first := true
	return in.retry(ctx, action, table, func() error {
		_, err := in.post(ctx, r, nil)
		if !first && errors.Is(err, fs.ErrExist) {
			return nil
		}
		first = false
		return err
	})
}

func protocolStore(s manifest.AnalyticalStore) *otsprotocol.TimeseriesAnalyticalStore {
	m := &otsprotocol.TimeseriesAnalyticalStore{StoreName: proto.String(s.Name)}
	if s.TTL != 0 {
		m.TimeToLive = proto.Int32(int32(s.TTL))
	}
	if s.Sync != "" {
		m.SyncOption = otsprotocol.AnalyticalStoreSyncType(otsprotocol.AnalyticalStoreSyncType_value[syncPrefix+s.Sync]).Enum()
	}
	return m
}

// updateTimeseries changes the options that are not as they should be. The service
// takes those of points and those of metadata in requests of their own.
func (in *Instance) updateTimeseries(ctx context.Context, table string, found, want manifest.Timeseries) error {
	if found.TTL != want.TTL {
		question := &otsprotocol.UpdateTimeseriesTableRequest{
			TableName:    proto.String(table),
			TableOptions: &otsprotocol.TimeseriesTableOptions{TimeToLive: proto.Int32(int32(want.TTL))},
		}
		if err := in.ask(ctx, "UpdateTimeseriesTable", table, question, nil); err != nil {
			return err
		}
	}
	if found.MetaTTL == want.MetaTTL && found.UpdateAttributes == want.UpdateAttributes {
		return nil
	}
	question := &otsprotocol.UpdateTimeseriesTableRequest{
		TableName:        proto.String(table),
		XXX_unrecognized: appendMetaOptions(nil, want.MetaTTL, want.UpdateAttributes),
	}
	return in.ask(ctx, "UpdateTimeseriesTable", table, question, nil)
}

// appendMetaOptions appends the options of metadata to a request to set them.
func appendMetaOptions(dst []byte, ttl int64, update bool) []byte {
	options := []byte{updateAttributes<<3 | wireVarint, 0}
	if update {
		options[1] = 1
	}
	options = append(options, metaTimeToLive<<3|wireVarint)
	options = binary.AppendUvarint(options, uint64(ttl))
	return appendBytes(dst, metaOptionsAsked, options)
}

// The service's limits for requests to write points and metadata. What counts as a
// byte of a point it does not say: those of their rows here are more than the ones
// that are sent.
const (
	maxPointsWritten = 200
	maxSeriesWritten = 100
)

// timeseriesWriter is a Write to a part of a timeseries table under way.
type timeseriesWriter struct {
	in           *Instance
	write        snapshot.Write
	table        string
	meta         bool
	client       *ots.TimeseriesClient // for its cache, see pointsBody
	acknowledged atomic.Int64
}

// writeTimeseries is Write to a part of a timeseries table. A point, and the
// attributes of a series, replace what was there.
func (in *Instance) writeTimeseries(ctx context.Context, write snapshot.Write) (snapshot.Written, error) {
	w := &timeseriesWriter{in: in, write: write, client: ots.NewTimeseriesClient("", "", "", "")}
	w.table, w.meta = manifest.CutMetaName(write.Table.Name)
	if write.Insert || write.Generate {
		return snapshot.Written{}, fmt.Errorf("table %s: a timeseries table takes rows only in place of those there are: %w", write.Table.Name, errors.ErrUnsupported)
	}
	err := w.run(ctx)
	return snapshot.Written{Rows: w.acknowledged.Load()}, err
}

func (w *timeseriesWriter) run(ctx context.Context) error {
	e := row.NewEncoder(w.write.Layout)
	if err := e.Reset(w.write.Record); err != nil {
		return fmt.Errorf("table %s: %w", w.write.Table.Name, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(w.in.writeRequests)
	err := w.pack(ctx, e, func(rows []row.Row) { group.Go(func() error { return w.deliver(ctx, rows) }) })
	if sendErr := group.Wait(); sendErr != nil {
		return sendErr
	}
	return err
}

// pack makes groups of the rows that go into one request each.
func (w *timeseriesWriter) pack(ctx context.Context, e *row.Encoder, send func([]row.Row)) error {
	most := maxPointsWritten
	if w.meta {
		most = maxSeriesWritten
	}
	var rows []row.Row
	var size int
	var wire []byte
	for i := range int(w.write.Record.NumRows()) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var err error
		if wire, err = e.AppendRow(wire[:0], i); err != nil {
			return err
		}
		if len(rows) == most || len(rows) > 0 && size+len(wire) > maxRequestBytes {
			send(rows)
			rows, size = nil, 0
		}
		var r row.Row
		if err := e.Read(&r, i); err != nil {
			return err
		}
		rows, size = append(rows, r), size+len(wire)
	}
	if len(rows) > 0 {
		send(rows)
	}
	return nil
}

// deliver sends rows, and then those that failed, until none does.
func (w *timeseriesWriter) deliver(ctx context.Context, rows []row.Row) error {
	all := rows
	t := w.in.newTrial(w.action(), w.table)
	for {
		left, err := w.attempt(ctx, t, rows)
		if err == nil {
			w.note(all)
			return nil
		}
		if len(left) < len(rows) {
			t.progressed()
		}
		rows = left
		if err := t.again(ctx, err); err != nil {
			w.in.series.forget(w.table)
			return err
		}
	}
}

// note has the list of series show those of the rows.
func (w *timeseriesWriter) note(rows []row.Row) {
	for _, r := range rows {
		key := keyOfSeries(r.Key[0].Text(), r.Key[1].Text(), r.Key[2].Text())
		if !w.meta {
			w.in.series.wrote(w.table, key, nil)
			continue
		}
		attributes := attributesOf(r)
		w.in.series.wrote(w.table, key, &attributes)
	}
}

func attributesOf(r row.Row) string {
	if len(r.Cells) == 0 {
		return ""
	}
	return r.Cells[0].Value.Text()
}

func (w *timeseriesWriter) action() string {
	if w.meta {
		return "UpdateTimeseriesMeta"
	}
	return "PutTimeseriesData"
}

// attempt sends rows once and returns which to send again.
func (w *timeseriesWriter) attempt(ctx context.Context, t *trial, rows []row.Row) (left []row.Row, err error) {
	body, err := w.body(rows)
	if err != nil {
		return rows, fmt.Errorf("%s, table %s: rows from %s on: %w", w.action(), w.write.Table.Name, w.format(rows[0]), err)
	}
	r := request{action: t.action, table: t.table, body: body, trial: t}
	said, err := w.in.post(ctx, r, nil)
	if refusal := new(Error); errors.As(err, &refusal) && !refusal.passes() {
		return rows, fmt.Errorf("one of the rows from %s to %s: %w", w.format(rows[0]), w.format(rows[len(rows)-1]), err)
	}
	if err != nil {
		return rows, err
	}
	// The answers of both actions name rows that failed in the same field.
	answer := new(otsprotocol.UpdateTimeseriesMetaResponse)
	if err := proto.Unmarshal(said, answer); err != nil {
		return rows, r.unreadable(err)
	}
	return w.failed(r, rows, answer.FailedRows)
}

// failed returns the rows that an answer says have failed, and why.
func (w *timeseriesWriter) failed(r request, rows []row.Row, named []*otsprotocol.FailedRowInfo) (left []row.Row, err error) {
	seen := make(map[int32]bool, len(named))
	for _, f := range named {
		i := f.GetRowIndex()
		if i < 0 || int(i) >= len(rows) || seen[i] {
			return rows, r.unreadable(fmt.Errorf("it is about row %d of %d", i+1, len(rows)))
		}
		seen[i] = true
		refusal := &Error{Action: r.action, Table: r.table, Status: http.StatusOK, Code: f.GetErrorCode(), Message: f.GetErrorMessage()}
		if !refusal.passes() {
			return rows, fmt.Errorf("row %s: %w", w.format(rows[i]), refusal)
		}
		left, err = append(left, rows[i]), refusal
	}
	w.acknowledged.Add(int64(len(rows) - len(left)))
	return left, err
}

// format writes the key of a row for people.
func (w *timeseriesWriter) format(r row.Row) string {
	var key manifest.Key
	for _, v := range r.Key {
		key = row.AppendKey(key, v)
	}
	return row.FormatKey(w.write.Layout.Key, key)
}

func (w *timeseriesWriter) body(rows []row.Row) ([]byte, error) {
	if w.meta {
		return w.metaBody(rows)
	}
	return w.pointsBody(rows)
}

func (w *timeseriesWriter) metaBody(rows []row.Row) ([]byte, error) {
	question := &otsprotocol.UpdateTimeseriesMetaRequest{TableName: proto.String(w.table), SupportedTableVersion: proto.Int64(supportedVersion)}
	for _, r := range rows {
		id, err := identify(r.Key[0], r.Key[1], r.Key[2])
		if err != nil {
			return nil, err
		}
		attributes := attributesOf(r)
		if attributes == "" {
			attributes = "[]" // those that are there go
		}
		question.TimeseriesMeta = append(question.TimeseriesMeta, &otsprotocol.TimeseriesMeta{TimeSeriesKey: id, Attributes: proto.String(attributes)})
	}
	return proto.Marshal(question)
}

// pointsBody has the SDK put the points into the form the service reads.
func (w *timeseriesWriter) pointsBody(rows []row.Row) (body []byte, err error) {
	points := make([]*ots.TimeseriesRow, len(rows))
	for i, r := range rows {
		if points[i], err = pointOf(r); err != nil {
			return nil, err
		}
	}
	var flat []byte
	err = guard(func() (err error) {
		// The cache says when metadata was last updated, so that the service need not
		// look; as it stays empty, it looks.
		flat, err = ots.BuildFlatbufferRows(points, w.table, w.client.GetTimeseriesMetaCache())
		return err
	})
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&otsprotocol.PutTimeseriesDataRequest{
		TableName:             proto.String(w.table),
		SupportedTableVersion: proto.Int64(supportedVersion),
		RowsData: &otsprotocol.TimeseriesRows{
			Type:             otsprotocol.RowsSerializeType_RST_FLAT_BUFFER.Enum(),
			RowsData:         flat,
			FlatbufferCrc32C: proto.Int32(int32(crc32.Checksum(flat, castagnoli))),
		},
	})
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func pointOf(r row.Row) (*ots.TimeseriesRow, error) {
	tags, err := parseTags(r.Key[2].Text())
	if err != nil {
		return nil, err
	}
	key := ots.NewTimeseriesKey()
	key.SetMeasurementName(r.Key[0].Text())
	key.SetDataSource(r.Key[1].Text())
	for _, tag := range tags {
		key.AddTag(tag.GetName(), tag.GetValue())
	}
	point := ots.NewTimeseriesRow(key)
	point.SetTimeInus(r.Key[3].Integer())
	// Not by AddField, which folds the case of names.
	fields := point.GetFieldsMap()
	for _, c := range r.Cells {
		if _, twice := fields[c.Name]; twice || c.Version != 0 {
			return nil, fmt.Errorf("field %q has a version, which a point has not", c.Name)
		}
		fields[c.Name] = fieldValue(c.Value)
	}
	return point, nil
}

func fieldValue(v row.Value) *ots.ColumnValue {
	switch v.Type() {
	case manifest.Integer:
		return ots.NewColumnValue(ots.ColumnType_INTEGER, v.Integer())
	case manifest.Double:
		return ots.NewColumnValue(ots.ColumnType_DOUBLE, v.Double())
	case manifest.Boolean:
		return ots.NewColumnValue(ots.ColumnType_BOOLEAN, v.Boolean())
	case manifest.String:
		return ots.NewColumnValue(ots.ColumnType_STRING, v.Text())
	}
	return ots.NewColumnValue(ots.ColumnType_BINARY, []byte(v.Text()))
}

// deleteSeries is Delete in the part of metadata of a timeseries table.
func (in *Instance) deleteSeries(ctx context.Context, t manifest.Table, keys []manifest.Key) error {
	table, meta := manifest.CutMetaName(t.Name)
	if !meta {
		return fmt.Errorf("table %s: the service deletes no points: %w", table, errors.ErrUnsupported)
	}
	defer in.series.forget(table)
	for part := range slices.Chunk(keys, maxSeriesWritten) {
		question := &otsprotocol.DeleteTimeseriesMetaRequest{TableName: proto.String(table), SupportedTableVersion: proto.Int64(supportedVersion)}
		for _, key := range part {
			columns, err := series{key: key}.cells()
			if err != nil {
				return err
			}
			id, err := identify(columns[0].Value, columns[1].Value, columns[2].Value)
			if err != nil {
				return err
			}
			question.TimeseriesKey = append(question.TimeseriesKey, id)
		}
		if err := in.removeSeries(ctx, question); err != nil {
			return err
		}
	}
	return nil
}

// removeSeries asks until all series are removed: one that is not there is not
// missed.
func (in *Instance) removeSeries(ctx context.Context, question *otsprotocol.DeleteTimeseriesMetaRequest) error {
	body, err := proto.Marshal(question)
	if err != nil {
		return err
	}
	t := in.newTrial("DeleteTimeseriesMeta", question.GetTableName())
	r := request{action: t.action, table: t.table, body: body, trial: t}
	return t.run(ctx, func() error {
		said, err := in.post(ctx, r, nil)
		if err != nil {
			return err
		}
		answer := new(otsprotocol.DeleteTimeseriesMetaResponse)
		if err := proto.Unmarshal(said, answer); err != nil {
			return r.unreadable(err)
		}
		if len(answer.FailedRows) > 0 {
			f := answer.FailedRows[0]
			return &Error{Action: r.action, Table: r.table, Status: http.StatusOK, Code: f.GetErrorCode(), Message: f.GetErrorMessage()}
		}
		return nil
	})
}
