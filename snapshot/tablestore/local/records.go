package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

// feed numbers the records of all streams with their times, in microseconds, no
// two alike. Writes hold mu shared from the numbering of their records until
// they are committed, so that a reader who had it for a moment sees all records
// before the last it sees.
type feed struct {
	mu      sync.RWMutex
	last    atomic.Int64
	crowd   int64       // records a shard takes before it splits
	crowded atomic.Bool // one has taken so many
}

// maxSequence is above every record's number.
const maxSequence = math.MaxInt64

// next returns the number of the next record.
func (f *feed) next(now time.Time) int64 {
	for {
		last := f.last.Load()
		next := max(last+1, now.UnixMicro())
		if f.last.CompareAndSwap(last, next) {
			return next
		}
	}
}

// after makes the numbers to come greater than one.
func (f *feed) after(number int64) { f.last.Store(max(f.last.Load(), number)) }

// write lets changes be recorded and returns what ends that.
func (f *feed) write(changes []*change) (done func()) {
	if !slices.ContainsFunc(changes, func(ch *change) bool { return ch.table != nil && ch.table.Stream != nil }) {
		return func() {}
	}
	f.mu.RLock()
	return f.mu.RUnlock
}

// snapshot returns the database as it is between writes.
func (f *feed) snapshot(db *pebble.DB) *pebble.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return db.NewSnapshot()
}

func recordsPrefix(id uint64) []byte { return binary.BigEndian.AppendUint64([]byte{prefixRecord}, id) }

// recordKey is the key of a record, or of where it would be.
func recordKey(id, shard uint64, number int64) []byte {
	key := binary.BigEndian.AppendUint64(recordsPrefix(id), shard)
	return binary.BigEndian.AppendUint64(key, uint64(max(number, 0)))
}

// recordNumber is the number of the record with a key.
func recordNumber(key []byte) int64 { return int64(binary.BigEndian.Uint64(key[len(key)-8:])) }

// lastRecord returns the number of the last record of a shard before another
// number, 0 if there is none.
func lastRecord(db *pebble.DB, id, shard uint64, before int64) (number int64, err error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: recordKey(id, shard, 0), UpperBound: recordKey(id, shard, before)})
	if err != nil {
		return 0, err
	}
	if it.Last() {
		number = recordNumber(it.Key())
	}
	return number, it.Close()
}

// record puts into the batch what the stream of a table is to tell of a change.
func (w *writer) record(ch *change, existed bool) error {
	st := ch.table.Stream
	if st == nil {
		return nil
	}
	number := w.s.feed.next(w.s.clock())
	record := &otsprotocol.GetStreamRecordResponse_StreamRecord{
		ActionType: actionType(ch.kind).Enum(),
		Record:     appendRecord(appendHeader(nil), ch.row.key, w.written, ch.kind == otsprotocol.OperationType_DELETE, number),
		TableName:  []byte(ch.table.Name),
	}
	if existed && len(st.Columns) > 0 {
		record.OriginRecord = appendRow(appendHeader(nil), ch.row.key, newestOf(w.old.cells, st.Columns))
	}
	body, err := proto.Marshal(record)
	if err != nil {
		return err
	}
	sh := st.shardOf(ch.key[rowsPrefixLen:])
	if sh.records.Add(1) == w.s.feed.crowd {
		w.s.feed.crowded.Store(true)
	}
	return w.batch.Set(recordKey(ch.table.ID, sh.Number, number), body, nil)
}

func actionType(kind otsprotocol.OperationType) otsprotocol.ActionType {
	switch kind {
	case otsprotocol.OperationType_PUT:
		return otsprotocol.ActionType_PUT_ROW
	case otsprotocol.OperationType_UPDATE:
		return otsprotocol.ActionType_UPDATE_ROW
	}
	return otsprotocol.ActionType_DELETE_ROW
}

// newestOf returns the newest cell of each of the columns, in order.
func newestOf(cells []cell, columns []string) (found []cell) {
	for i := range cells {
		first := i == 0 || string(cells[i].name) != string(cells[i-1].name)
		if first && slices.Contains(columns, string(cells[i].name)) {
			found = append(found, cells[i])
		}
	}
	return found
}

// iterator is a place in a shard: before the records from a number on.
type iterator struct {
	stream string
	shard  string
	number int64
}

func (it iterator) String() string { return fmt.Sprintf("%s\t%s\t%d", it.stream, it.shard, it.number) }

func parseIterator(text string) (iterator, error) {
	parts := strings.Split(text, "\t")
	if len(parts) == 3 {
		if number, err := strconv.ParseInt(parts[2], 10, 64); err == nil && number >= 0 {
			return iterator{parts[0], parts[1], number}, nil
		}
	}
	return iterator{}, invalid("Invalid shard iterator.")
}

// shard finds a shard whose records have not all expired.
func (st *stream) shard(id string, now time.Time) (shard, error) {
	shards := st.living(now)
	i := slices.IndexFunc(shards, func(sh shard) bool { return sh.id() == id })
	if i < 0 {
		return shard{}, errTrimmed()
	}
	return shards[i], nil
}

// getShardIterator begins at a time, or with the oldest record there is.
func (s *Server) getShardIterator(c call, req *otsprotocol.GetShardIteratorRequest) (proto.Message, error) {
	if req.Token != nil {
		return nil, invalid("Invalid token: none was given out.")
	}
	if req.GetTimestamp() < 0 {
		return nil, invalid("Invalid timestamp: %d.", req.GetTimestamp())
	}
	d, err := s.streamed(c.instance, req.GetStreamId())
	if err != nil {
		return nil, err
	}
	now := s.clock()
	sh, err := d.Stream.shard(req.GetShardId(), now)
	if err != nil {
		return nil, err
	}
	at := iterator{d.Stream.ID, sh.id(), max(req.GetTimestamp(), d.Stream.horizon(now), 0)}
	return &otsprotocol.GetShardIteratorResponse{ShardIterator: proto.String(at.String())}, nil
}

func (s *Server) getStreamRecord(c call, req *otsprotocol.GetStreamRecordRequest) (proto.Message, error) {
	if err := refuseStreamOptions(req); err != nil {
		return nil, err
	}
	from, err := parseIterator(req.GetShardIterator())
	if err != nil {
		return nil, err
	}
	d, err := s.streamed(c.instance, from.stream)
	if err != nil {
		return nil, err
	}
	if req.TableName != nil && req.GetTableName() != d.Name {
		return nil, invalid("The shard iterator is not of table '%s'.", req.GetTableName())
	}
	sh, err := d.Stream.shard(from.shard, s.clock())
	if err != nil {
		return nil, err
	}
	limit := maxRecords
	if req.Limit != nil {
		limit = min(limit, int(req.GetLimit()))
	}
	return s.readRecords(d, sh, from, limit)
}

// refuseStreamOptions names what cannot be asked of a stream here.
func refuseStreamOptions(req *otsprotocol.GetStreamRecordRequest) error {
	switch {
	case req.Limit != nil && req.GetLimit() <= 0:
		return invalid("The limit must be greater than 0.")
	case req.NewRowReturnPolicy != nil && req.GetNewRowReturnPolicy() != otsprotocol.NewRowReturnPolicy_NO_NEW_ROW:
		return unsupported("Returning new rows from a stream")
	case req.GetReturnSysColumns():
		return unsupported("Returning system columns from a stream")
	}
	return nil
}

// readRecords reads on in a shard. The iterator it answers with is the one it was
// asked with when there is nothing new, and none at the end of a shard that has
// ended.
func (s *Server) readRecords(d *definition, sh shard, from iterator, limit int) (resp *otsprotocol.GetStreamRecordResponse, err error) {
	snapshot := s.feed.snapshot(s.db)
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	end := recordKey(d.ID, sh.Number+1, 0)
	it, err := snapshot.NewIter(&pebble.IterOptions{LowerBound: recordKey(d.ID, sh.Number, from.number), UpperBound: end})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	more := it.First()
	if from.number < sh.Trimmed || more && recordNumber(it.Key()) < d.Stream.horizon(s.clock()) {
		return nil, errTrimmed()
	}
	resp = &otsprotocol.GetStreamRecordResponse{}
	size := 0
	for ; more && len(resp.StreamRecords) < limit && size < maxRecordBytes; more = it.Next() {
		record := new(otsprotocol.GetStreamRecordResponse_StreamRecord)
		if err := proto.Unmarshal(it.Value(), record); err != nil {
			return nil, err
		}
		resp.StreamRecords = append(resp.StreamRecords, record)
		size += len(record.Record) + len(record.OriginRecord)
		from.number = recordNumber(it.Key()) + 1
	}
	resp.Consumed = consumed(units(size), 0)
	resp.MayMoreRecord = proto.Bool(more)
	if more || sh.Ended == 0 {
		resp.NextShardIterator = proto.String(from.String())
	}
	return resp, nil
}
