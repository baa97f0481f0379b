package tablestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// Names of the cells of rows in both parts.
const (
	attributesCell = "_attributes"
	timeCell       = "_time"
)

// within returns the part of a sorted list that rows between two keys can be of.
func within(list []series, from, to manifest.Key) []series {
	first := sort.Search(len(list), func(i int) bool {
		end := row.Following(list[i].key)
		return end == nil || bytes.Compare(end, from) > 0
	})
	last := len(list)
	if len(to) > 0 {
		last = sort.Search(len(list), func(i int) bool { return bytes.Compare(list[i].key, to) >= 0 })
	}
	return list[first:max(first, last)]
}

// scanTimeseries is Scan of a part of a timeseries table.
func (s *scanner) scanTimeseries(ctx context.Context) error {
	table, meta := manifest.CutMetaName(s.scan.Table.Name)
	list, err := s.in.allSeries(ctx, table)
	if err != nil {
		return err
	}
	list = within(list, s.scan.From, s.scan.To)
	rows := s.in.pointRows(ctx, table, list, s.scan)
	if meta {
		rows = metaRows(list, s.scan.From, s.scan.To)
	}
	for wire, err := range rows {
		if err != nil {
			return err
		}
		for len(wire) > 0 && !s.full() {
			rest, err := s.builder.Append(wire)
			if err != nil {
				return fmt.Errorf("table %s: %w", s.scan.Table.Name, err)
			}
			if err := s.count(wire); err != nil {
				return err
			}
			wire = rest
		}
		if s.full() {
			break
		}
	}
	return s.hand()
}

// metaRows yields the rows of the part of metadata.
func metaRows(list []series, from, to manifest.Key) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, s := range list {
			if !inBounds(s.key, from, to) {
				continue
			}
			key, err := s.cells()
			var cells []row.Cell
			if s.attributes != "" {
				cells = []row.Cell{{Name: attributesCell, Value: row.StringValue(s.attributes)}}
			}
			if !yield(row.Compose(nil, key, cells), err) {
				return
			}
		}
	}
}

func inBounds(key, from, to manifest.Key) bool {
	return bytes.Compare(key, from) >= 0 && (len(to) == 0 || bytes.Compare(key, to) < 0)
}

// seriesAhead is how many series of a scan are asked for at once: many are so short
// that the time is spent on waiting.
const seriesAhead = 8

// pointRows yields the rows of the part of points, those of one answer at a time.
// While they are used the next answer of the series is on its way, and the first
// ones of the series that follow; unless the scan has a limit, as then nothing may
// be wanted of those.
func (in *Instance) pointRows(ctx context.Context, table string, list []series, scan snapshot.Scan) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var flying sync.WaitGroup
		defer flying.Wait()
		defer cancel()
		ask := func(q pointQuery) <-chan points {
			out := make(chan points, 1)
			flying.Go(func() { out <- in.points(ctx, q) })
			return out
		}
		ahead := seriesAhead
		if scan.Limit > 0 {
			ahead = 1
		}
		var queue []<-chan points
		for started := 0; started < len(list) || len(queue) > 0; {
			for ; started < len(list) && len(queue) < ahead; started++ {
				queue = append(queue, ask(pointQuery{table: table, series: list[started], from: scan.From, to: scan.To, limit: scan.Limit}))
			}
			answer := <-queue[0]
			queue = queue[1:]
			if answer.err != nil {
				yield(nil, answer.err)
				return
			}
			if len(answer.next.token) > 0 {
				queue = slices.Insert(queue, 0, ask(answer.next))
			}
			if len(answer.rows) > 0 && !yield(answer.rows, nil) {
				return
			}
		}
	}
}

// pointQuery asks for the points of a series between two keys.
type pointQuery struct {
	table    string
	series   series
	from, to manifest.Key
	token    []byte // of the answer before
	limit    int64  // of one answer; 0: as many as the service sends
	backward bool

	after int64 // time of the last point of the answer before, valid with a token
}

// points is the answer to a pointQuery, or why there is none.
type points struct {
	rows        []byte // in PlainBuffer, without a header
	count       int64
	first, last int64 // times
	next        pointQuery
	err         error
}

// times returns the part of the series' time a query is about: begin inclusive,
// end exclusive. The service knows no time before 0.
func (q *pointQuery) times() (begin, end int64) {
	begin, end = 0, math.MaxInt64
	if t, ok := q.timeIn(q.from); ok {
		begin = max(0, t)
	}
	if t, ok := q.timeIn(q.to); ok {
		end = t
	}
	return begin, end
}

// timeIn returns the time in the key of a point of the series.
func (q *pointQuery) timeIn(key manifest.Key) (int64, bool) {
	tail, ok := bytes.CutPrefix(key, q.series.key)
	if !ok || len(tail) != timeBytes {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(tail) ^ 1<<63), true
}

// points fetches one answer.
func (in *Instance) points(ctx context.Context, q pointQuery) points {
	begin, end := q.times()
	if begin >= end {
		return points{}
	}
	key, err := q.series.cells()
	if err != nil {
		return points{err: err}
	}
	question := &otsprotocol.GetTimeseriesDataRequest{
		TableName:             proto.String(q.table),
		BeginTime:             proto.Int64(begin),
		EndTime:               proto.Int64(end),
		Token:                 q.token,
		SupportedTableVersion: proto.Int64(supportedVersion),
	}
	if question.TimeSeriesKey, err = identify(key[0].Value, key[1].Value, key[2].Value); err != nil {
		return points{err: err}
	}
	if q.limit > 0 {
		question.Limit = proto.Int32(int32(min(q.limit, maxPoints)))
	}
	if q.backward {
		question.Backward = proto.Bool(true)
	}
	body, err := proto.Marshal(question)
	if err != nil {
		return points{err: err}
	}
	t := in.newTrial("GetTimeseriesData", q.table)
	r := request{action: t.action, table: q.table, body: body, trial: t}
	var found points
	err = t.run(ctx, func() error {
		said, err := in.post(ctx, r, nil)
		if err != nil {
			return err
		}
		answer := new(otsprotocol.GetTimeseriesDataResponse)
		if err := proto.Unmarshal(said, answer); err != nil {
			return r.unreadable(err)
		}
		if found, err = q.read(key, answer); err != nil {
			return r.unreadable(fmt.Errorf("series %s: %w", q.series, err))
		}
		return nil
	})
	if err != nil {
		return points{err: err}
	}
	return found
}

// maxPoints is how many points the service gives at once.
const maxPoints = 5000

// read makes rows of an answer, which must be points of the series that were asked
// for, in the order of their times.
func (q *pointQuery) read(key []row.Cell, answer *otsprotocol.GetTimeseriesDataResponse) (points, error) {
	p := points{next: *q}
	p.next.token = answer.NextToken
	rest := answer.RowsData
	if len(rest) > 0 {
		var err error
		if rest, err = row.ParseHeader(rest); err != nil {
			return points{}, err
		}
	}
	key = append(slices.Clone(key), row.Cell{Name: timeCell})
	for len(rest) > 0 {
		var columns, cells []row.Cell
		var err error
		if columns, cells, rest, err = row.Take(rest); err != nil {
			return points{}, err
		}
		time, err := q.check(columns)
		if err != nil {
			return points{}, err
		}
		if (p.count > 0 || len(q.token) > 0) && (time <= p.next.after) != q.backward {
			return points{}, fmt.Errorf("time %d came after %d", time, p.next.after)
		}
		if p.count++; p.count == 1 {
			p.first = time
		}
		p.next.after, p.last = time, time
		if whole := row.AppendKey(q.series.key[:len(q.series.key):len(q.series.key)], row.IntegerValue(time)); !inBounds(whole, q.from, q.to) {
			continue
		}
		if cells, err = fieldsOf(cells); err != nil {
			return points{err: fmt.Errorf("table %s, series %s, time %d: %w", q.table, q.series, time, err)}, nil
		}
		key[3].Value = row.IntegerValue(time)
		p.rows = row.Compose(p.rows, key, cells)
	}
	if p.count == 0 && len(p.next.token) > 0 && bytes.Equal(p.next.token, q.token) {
		return points{}, fmt.Errorf("no points and the same place to read on")
	}
	return p, nil
}

// check returns the time in the key of a row, which must be of the series. What
// identifies a series stands before the time; what is none of the service's own
// columns is a tag.
func (q *pointQuery) check(columns []row.Cell) (int64, error) {
	var measurement, source string
	var tags []*otsprotocol.TimeseriesTag
	for i, c := range columns {
		switch c.Name {
		case "_#h": // the hash of the others
		case "_m_name":
			measurement = c.Value.Text()
		case "_data_source":
			source = c.Value.Text()
		case "_tags":
			more, err := parseTags(c.Value.Text())
			if err != nil {
				return 0, err
			}
			tags = append(tags, more...)
		case timeCell:
			text, err := formatTags(tags)
			if err != nil {
				return 0, err
			}
			if i != len(columns)-1 || c.Value.Type() != manifest.Integer {
				return 0, fmt.Errorf("the key of a point does not end with its time")
			}
			if key := keyOfSeries(measurement, source, text); !bytes.Equal(key, q.series.key) {
				return 0, fmt.Errorf("a point of series %s came", series{key: key})
			}
			return c.Value.Integer(), nil
		default:
			tags = append(tags, &otsprotocol.TimeseriesTag{Name: proto.String(c.Name), Value: proto.String(c.Value.Text())})
		}
	}
	return 0, fmt.Errorf("a point without a time came")
}

// fieldsOf makes cells of version 0 out of fields, whose names the service ends
// with their types: load:double.
func fieldsOf(cells []row.Cell) ([]row.Cell, error) {
	seen := make(map[string]bool, len(cells))
	for i, c := range cells {
		if colon := strings.LastIndexByte(c.Name, ':'); colon > 0 {
			c.Name = c.Name[:colon]
		}
		if seen[c.Name] {
			return nil, fmt.Errorf("field %q has values of two types", c.Name)
		}
		seen[c.Name] = true
		c.Version = 0
		cells[i] = c
	}
	return cells, nil
}

const (
	splitSamples = 16 // series whose size is estimated to know that of all
	timeBytes    = 8  // of the time in a key
)

// splitTimeseries is Split of a part of a timeseries table. The service tells no
// sizes: those of some series are estimated from their first points and the times of
// their first and last, and stand for the others. Rows of metadata are weighed.
func (in *Instance) splitTimeseries(ctx context.Context, t manifest.Table, size int64) ([]manifest.Key, error) {
	table, meta := manifest.CutMetaName(t.Name)
	list, err := in.allSeries(ctx, table)
	if err != nil {
		return nil, err
	}
	if meta {
		return cut(list, size, weighMeta), nil
	}
	known := make(map[int]extent)
	var sum int64
	step := (len(list) + splitSamples - 1) / splitSamples
	for i := 0; i < len(list); i += step {
		if known[i], err = in.extent(ctx, table, list[i]); err != nil {
			return nil, err
		}
		sum += known[i].bytes
	}
	return cut(list, size, func(i int, _ series) extent {
		if e, ok := known[i]; ok {
			return e
		}
		return extent{bytes: sum / int64(len(known))}
	}), nil
}

// extent is how many bytes the rows of a series take in PlainBuffer, about, and
// from when to when it has points: 0 to 0 if that is not known.
type extent struct{ bytes, first, last int64 }

func weighMeta(_ int, s series) extent {
	const framing = 100
	return extent{bytes: framing + int64(len(s.key)+len(s.attributes))}
}

func (in *Instance) extent(ctx context.Context, table string, s series) (extent, error) {
	head := in.points(ctx, pointQuery{table: table, series: s})
	if head.err != nil || head.count == 0 {
		return extent{}, head.err
	}
	e := extent{bytes: int64(len(head.rows)), first: head.first, last: head.last}
	if len(head.next.token) == 0 || head.last == head.first {
		return e, nil
	}
	tail := in.points(ctx, pointQuery{table: table, series: s, backward: true, limit: 1})
	if tail.err != nil {
		return extent{}, tail.err
	}
	e.last = max(e.last, tail.first)
	gap := float64(head.last-head.first) / float64(head.count-1)
	e.bytes = int64(float64(e.bytes) / float64(head.count) * (1 + float64(e.last-e.first)/gap))
	return e, nil
}

// cut returns keys between parts of about size bytes: starts of series, and times
// within a series that is larger by itself.
func cut(list []series, size int64, weigh func(int, series) extent) []manifest.Key {
	keys := []manifest.Key{}
	var part int64
	for i, s := range list {
		e := weigh(i, s)
		if part > 0 && part+e.bytes > size {
			keys = append(keys, s.key)
			part = 0
		}
		part += e.bytes
		if e.bytes <= size || e.last <= e.first {
			continue
		}
		pieces := min((e.bytes+size-1)/size, e.last-e.first)
		for n := int64(1); n < pieces; n++ {
			time := e.first + int64(float64(e.last-e.first)*float64(n)/float64(pieces))
			keys = append(keys, row.AppendKey(slices.Clone(s.key), row.IntegerValue(time)))
		}
		part = e.bytes / pieces
	}
	return slices.CompactFunc(keys, func(a, b manifest.Key) bool { return bytes.Equal(a, b) })
}
