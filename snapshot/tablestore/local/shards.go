package local

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

// shard holds the records of the rows of a range. A shard that splits takes no
// more; its two children do, and are to be read after it.
type shard struct {
	Number  uint64  `json:"number"`
	Parent  *uint64 `json:"parent,omitempty"`
	From    []byte  `json:"from,omitempty"`    // primary key, inclusive; nil: the first
	To      []byte  `json:"to,omitempty"`      // primary key, exclusive; nil: none
	Ended   int64   `json:"ended,omitempty"`   // after its last record; 0: not yet
	Trimmed int64   `json:"trimmed,omitempty"` // records before are deleted; 0: none are

	records *atomic.Int64 // taken since the server was opened
}

func (sh shard) id() string { return shardID(sh.Number) }

func shardID(number uint64) string { return fmt.Sprintf("shard-%06d", number) }

func (sh shard) proto() *otsprotocol.StreamShard {
	p := &otsprotocol.StreamShard{ShardId: proto.String(sh.id())}
	if sh.Parent != nil {
		p.ParentId = proto.String(shardID(*sh.Parent))
	}
	return p
}

// holds tells whether the shard takes records of a row.
func (sh shard) holds(key []byte) bool {
	return sh.Ended == 0 && bytes.Compare(sh.From, key) <= 0 && (sh.To == nil || bytes.Compare(key, sh.To) < 0)
}

// begin gives a stream without shards the one that holds every row.
func (st *stream) begin() {
	if len(st.Shards) == 0 {
		st.Shards, st.NextShard = []shard{{}}, 1
	}
}

// count makes the shards ready to count records. A table may have no stream.
func (st *stream) count() {
	if st == nil {
		return
	}
	for i := range st.Shards {
		if st.Shards[i].records == nil {
			st.Shards[i].records = new(atomic.Int64)
		}
	}
}

// shardOf returns the shard that takes the records of a row.
func (st *stream) shardOf(key []byte) *shard {
	return &st.Shards[slices.IndexFunc(st.Shards, func(sh shard) bool { return sh.holds(key) })]
}

// living returns the shards some of whose records may not have expired.
func (st *stream) living(now time.Time) (shards []shard) {
	horizon := st.horizon(now)
	for _, sh := range st.Shards {
		if sh.Ended == 0 || sh.Ended > horizon {
			shards = append(shards, sh)
		}
	}
	return shards
}

// SplitStream splits each open shard of a table's stream in two, at the row in
// the middle of its range. It is an error if none can be: a shard needs rows
// that differ in the first column of the primary key.
func (s *Server) SplitStream(instance, table string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return fmt.Errorf("local: split the stream of %s: the server is closed", table)
	}
	d := s.tables[instance][table]
	if d == nil || d.Stream == nil {
		return fmt.Errorf("local: split the stream of %s: instance %s has no table of this name with a stream", table, instance)
	}
	next, err := s.split(d, func(sh shard) bool { return sh.Ended == 0 })
	if err != nil {
		return fmt.Errorf("local: split the stream of %s: %w", table, err)
	}
	if next == d {
		return fmt.Errorf("local: split the stream of %s: no shard has rows that differ in the first column of the primary key", table)
	}
	if err := s.replace(next); err != nil {
		return fmt.Errorf("local: split the stream of %s: %w", table, err)
	}
	return nil
}

// splitCrowded splits the shards that have taken too many records and deletes
// the records that have expired. A shard that cannot be split stays until it has
// taken as many again.
func (s *Server) splitCrowded() {
	if !s.feed.crowded.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil || !s.feed.crowded.Swap(false) {
		return
	}
	for _, d := range s.streamTables() {
		_ = s.relieve(d) // what Pebble has against it, it tells the next write
	}
}

// streamTables returns the tables that have streams.
func (s *Server) streamTables() (list []*definition) {
	for _, tables := range s.tables {
		for _, d := range tables {
			if d.Stream != nil {
				list = append(list, d)
			}
		}
	}
	return list
}

func (s *Server) relieve(d *definition) error {
	next, err := s.split(d, func(sh shard) bool {
		return sh.Ended == 0 && sh.records.Load() >= s.feed.crowd
	})
	if err != nil {
		return err
	}
	for i := range next.Stream.Shards {
		if sh := &next.Stream.Shards[i]; sh.records != nil && sh.records.Load() >= s.feed.crowd {
			sh.records.Store(0)
		}
	}
	return s.trim(next)
}

// split returns the table with the shards that are wanted split, as far as they
// can be; the table itself if none can.
func (s *Server) split(d *definition, wanted func(shard) bool) (*definition, error) {
	st := *d.Stream
	st.Shards = slices.Clone(st.Shards)
	for i, sh := range d.Stream.Shards {
		if !wanted(sh) {
			continue
		}
		middle, err := s.middle(d, sh)
		if err != nil {
			return nil, err
		}
		if middle == nil {
			continue
		}
		st.Shards[i].Ended = s.feed.next(s.clock())
		st.Shards = append(st.Shards,
			shard{Number: st.NextShard, Parent: &sh.Number, From: sh.From, To: middle},
			shard{Number: st.NextShard + 1, Parent: &sh.Number, From: middle, To: sh.To})
		st.NextShard += 2
	}
	if len(st.Shards) == len(d.Stream.Shards) {
		return d, nil
	}
	next := *d
	next.Stream = &st
	return &next, nil
}

// middle returns a primary key that halves the rows of a shard, as far as rows
// alike in the first column stay together; nil if there is none.
func (s *Server) middle(d *definition, sh shard) (point []byte, err error) {
	rows := rowsPrefix(d.ID)
	low, high := append(slices.Clone(rows), sh.From...), successor(rows)
	if sh.To != nil {
		high = append(slices.Clone(rows), sh.To...)
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: high})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	total := 0
	for more := it.First; more(); more = it.Next {
		total++
	}
	var first []byte
	var r row
	n := 0
	for more := it.First; more(); more = it.Next {
		kept, err := parseStored(it.Value())
		if err != nil {
			return nil, err
		}
		if _, err := parseRow(kept.wire, &r); err != nil {
			return nil, errStored()
		}
		partition := appendKeyValue(nil, r.key[0].value)
		if n == 0 {
			first = partition
		}
		if n >= total/2 && !bytes.Equal(partition, first) {
			return partition, nil
		}
		n++
	}
	return nil, nil
}

// trim deletes what has expired of a table's stream and stores the table.
func (s *Server) trim(d *definition) error {
	b := s.db.NewBatch()
	defer b.Close()
	now := s.clock()
	horizon := d.Stream.horizon(now)
	st := *d.Stream
	st.Shards = slices.Clone(st.Shards)
	for i := range st.Shards {
		sh := &st.Shards[i]
		last, err := lastRecord(s.db, d.ID, sh.Number, horizon)
		if err != nil {
			return err
		}
		if last == 0 {
			continue
		}
		sh.Trimmed = last + 1
		if err := b.DeleteRange(recordKey(d.ID, sh.Number, 0), recordKey(d.ID, sh.Number, horizon), nil); err != nil {
			return err
		}
	}
	st.Shards = st.living(now)
	next := *d
	next.Stream = &st
	return s.store(b, &next)
}

// loadStreams makes the streams of an opened database go on after their last
// records, and deletes what has expired of them.
func (s *Server) loadStreams() error {
	for _, d := range s.streamTables() {
		d.Stream.begin() // one made before there were records
		for _, sh := range d.Stream.Shards {
			last, err := lastRecord(s.db, d.ID, sh.Number, maxSequence)
			if err != nil {
				return err
			}
			s.feed.after(max(last, sh.Ended))
		}
		if err := s.trim(d); err != nil {
			return err
		}
	}
	return nil
}
