package tablestore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// formatTags writes tags as the service does in the column _tags: ["k=v","k2=v2"],
// by name. There are no escapes, so what would be read as something else is
// refused, as the service does.
func formatTags(tags []*otsprotocol.TimeseriesTag) (string, error) {
	tags = slices.SortedFunc(slices.Values(tags), func(a, b *otsprotocol.TimeseriesTag) int {
		return cmp.Compare(a.GetName(), b.GetName())
	})
	var out strings.Builder
	out.WriteByte('[')
	for i, tag := range tags {
		name, value := tag.GetName(), tag.GetValue()
		if strings.ContainsAny(name, `"=`) || strings.Contains(value, `"`) {
			return "", fmt.Errorf("tag %q with value %q has a character that tags cannot have", name, value)
		}
		if i > 0 {
			if tags[i-1].GetName() == name {
				return "", fmt.Errorf("tag %q is there twice", name)
			}
			out.WriteByte(',')
		}
		out.WriteString(`"` + name + "=" + value + `"`)
	}
	out.WriteByte(']')
	return out.String(), nil
}

// parseTags reads what formatTags writes, in any order; no text at all is no tags.
func parseTags(text string) ([]*otsprotocol.TimeseriesTag, error) {
	if text == "" || text == "[]" {
		return nil, nil
	}
	inner, opened := strings.CutPrefix(text, `["`)
	inner, closed := strings.CutSuffix(inner, `"]`)
	if !opened || !closed {
		return nil, fmt.Errorf("%q is not a list of tags", text)
	}
	var tags []*otsprotocol.TimeseriesTag
	for _, pair := range strings.Split(inner, `","`) {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || strings.Contains(pair, `"`) {
			return nil, fmt.Errorf("%q is not a list of tags", text)
		}
		tags = append(tags, &otsprotocol.TimeseriesTag{Name: proto.String(name), Value: proto.String(value)})
	}
	return tags, nil
}

// series is one series of a table: the key of its row in the part of metadata, with
// which the keys of its points begin, and its attributes in the form of tags, empty
// where it has none.
type series struct {
	key        manifest.Key
	attributes string
}

// seriesOf reads a series out of an answer.
func seriesOf(meta *otsprotocol.TimeseriesMeta) (series, error) {
	id := meta.GetTimeSeriesKey()
	tags, err := parseTags(id.GetTags())
	if err != nil {
		return series{}, err
	}
	text, err := formatTags(append(tags, id.TagList...))
	if err != nil {
		return series{}, err
	}
	s := series{key: keyOfSeries(id.GetMeasurement(), id.GetSource(), text), attributes: meta.GetAttributes()}
	if s.attributes == "[]" {
		s.attributes = ""
	}
	return s, nil
}

func keyOfSeries(measurement, source, tags string) manifest.Key {
	key := row.AppendKey(nil, row.StringValue(measurement))
	key = row.AppendKey(key, row.StringValue(source))
	return row.AppendKey(key, row.StringValue(tags))
}

// cells returns the columns of the key.
func (s series) cells() ([]row.Cell, error) {
	wire, err := row.AppendBound(nil, manifest.TimeseriesKey(manifest.MetaPart), s.key, false)
	if err != nil {
		return nil, err
	}
	if wire, err = row.ParseHeader(wire); err != nil {
		return nil, err
	}
	key, _, _, err := row.Take(wire)
	return key, err
}

// identify writes the first columns of a key as requests name a series.
func identify(measurement, source, tags row.Value) (*otsprotocol.TimeseriesKey, error) {
	list, err := parseTags(tags.Text())
	if err != nil {
		return nil, err
	}
	return &otsprotocol.TimeseriesKey{Measurement: proto.String(measurement.Text()), Source: proto.String(source.Text()), TagList: list}, nil
}

// String names the series for people.
func (s series) String() string {
	return row.FormatKey(manifest.TimeseriesKey(manifest.MetaPart), s.key)
}

// indexTime is how long after they are written series may be missing from the list:
// the service documents some seconds.
const indexTime = time.Minute

// listings are the series of tables, as far as they were listed. Every scan and
// split of a table needs all of them, and the service gives them in no order. They
// take some 50 bytes a series, and its name and attributes.
type listings struct {
	mu sync.Mutex
	of map[string]*listing // by table
}

// listing is the series of one table.
type listing struct {
	turn    chan struct{} // held by who asks the service
	version int           // counts what makes the list void
	listed  []series      // nil: nothing in force
	// written are series the list has to show: their attributes, by a hash of their
	// keys; the hash of none where only points were written.
	written map[uint64]uint64
	// forMeta says that the table was made here for the part of metadata.
	forMeta bool
}

func (ls *listings) table(name string) *listing {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.of == nil {
		ls.of = make(map[string]*listing)
	}
	if ls.of[name] == nil {
		ls.of[name] = &listing{turn: make(chan struct{}, 1), written: make(map[uint64]uint64)}
	}
	return ls.of[name]
}

// forget voids the list of a table.
func (ls *listings) forget(table string) {
	l := ls.table(table)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.version++
	l.listed = nil
}

// wrote voids the list of a table in favour of one that shows these series.
// Attributes are nil where only points were written.
func (ls *listings) wrote(table string, key manifest.Key, attributes *string) {
	l := ls.table(table)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.version++
	l.listed = nil
	id := hashOf(string(key))
	if attributes != nil {
		l.written[id] = hashOf(*attributes)
	} else if _, known := l.written[id]; !known {
		l.written[id] = 0
	}
}

// made notes that a table was made, and for which part.
func (ls *listings) made(table string, meta bool) {
	l := ls.table(table)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.version++
	l.listed, l.forMeta = nil, meta
	clear(l.written)
}

// madeForMeta reports whether it was the part of metadata the table was made for.
func (ls *listings) madeForMeta(table string) bool {
	l := ls.table(table)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return l.forMeta
}

func hashOf(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// current returns the list in force, if there is one, and its version.
func (ls *listings) current(l *listing) ([]series, int) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return l.listed, l.version
}

// shows reports whether the list shows what was written.
func (ls *listings) shows(l *listing, listed []series) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if len(l.written) == 0 {
		return true
	}
	found := 0
	for _, s := range listed {
		attributes, ok := l.written[hashOf(string(s.key))]
		if ok && (attributes == 0 || attributes == hashOf(s.attributes)) {
			found++
		}
	}
	return found == len(l.written)
}

// store puts a list in force unless something made it void meanwhile.
func (ls *listings) store(l *listing, listed []series, version int) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l.version == version {
		l.listed = listed
		clear(l.written)
	}
}

// allSeries returns the series of a table by key. They are listed once, until the
// table is described or written to. After a write the list is asked for again until
// it shows what was written, for up to indexTime.
func (in *Instance) allSeries(ctx context.Context, table string) ([]series, error) {
	l := in.series.table(table)
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	listed, version := in.series.current(l)
	if listed != nil {
		return listed, nil
	}
	late := time.Now().Add(min(indexTime, in.giveUpAfter))
	for attempt := 1; ; attempt++ {
		listed, err := in.listSeries(ctx, table)
		if err != nil {
			return nil, err
		}
		if in.series.shows(l, listed) || time.Now().After(late) {
			in.series.store(l, listed, version)
			return listed, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(backoff(attempt)):
		}
	}
}

// seriesPage is how many series an answer is to have. A service that takes no such
// number gives as many as it likes.
const seriesPage = 1000

// listSeries asks for the series of a table, and sorts them by key.
func (in *Instance) listSeries(ctx context.Context, table string) ([]series, error) {
	question := &otsprotocol.QueryTimeseriesMetaRequest{
		TableName:             proto.String(table),
		Limit:                 proto.Int32(seriesPage),
		SupportedTableVersion: proto.Int64(supportedVersion),
	}
	listed := []series{}
	for {
		answer := new(otsprotocol.QueryTimeseriesMetaResponse)
		err := in.ask(ctx, "QueryTimeseriesMeta", table, question, answer)
		if question.Limit != nil && refusedWith(err, codeParameterInvalid) {
			question.Limit = nil
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, meta := range answer.TimeseriesMetas {
			s, err := seriesOf(meta)
			if err != nil {
				return nil, fmt.Errorf("QueryTimeseriesMeta, table %s: %w", table, err)
			}
			listed = append(listed, s)
		}
		if len(answer.NextToken) == 0 {
			break
		}
		if bytes.Equal(answer.NextToken, question.Token) {
			return nil, fmt.Errorf("QueryTimeseriesMeta, table %s: %w", table, errors.New("the list of series does not go on"))
		}
		question.Token = answer.NextToken
	}
	slices.SortFunc(listed, func(a, b series) int { return bytes.Compare(a.key, b.key) })
	// A series updated between two pages may be in both.
	return slices.CompactFunc(listed, func(a, b series) bool { return bytes.Equal(a.key, b.key) }), nil
}
