package local

import (
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// prefix is what the keys of a table's series, or of their rows, begin with.
func (t *seriesTable) prefix(kind byte) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, t.ID)
}

// seriesID is what identifies a series, checked and in one form.
type seriesID struct {
	measurement string
	source      string
	tags        []*otsprotocol.TimeseriesTag // by name
}

// identify checks the identifiers a request gives against the table.
func (t *seriesTable) identify(k *otsprotocol.TimeseriesKey) (*seriesID, error) {
	id := &seriesID{measurement: k.GetMeasurement(), source: k.GetSource(), tags: slices.Clone(k.GetTagList())}
	if k.GetTags() != "" {
		if len(id.tags) > 0 {
			return nil, invalid("The tags of a timeseries key are given twice.")
		}
		var err error
		if id.tags, err = parsePairs(k.GetTags()); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(id.tags, compareTags)
	if err := checkPairs(id.tags); err != nil {
		return nil, err
	}
	return id, t.checkID(id)
}

// checkID holds the rules for the identifiers of a series: a table has values for
// its own and for no others.
func (t *seriesTable) checkID(id *seriesID) error {
	names := t.identifiers()
	if !slices.Contains(names, columnMeasurement) {
		if id.measurement != "" {
			return invalid("Measurement name is no timeseries key of table '%s'.", t.Name)
		}
	} else if err := checkMeasurement(id.measurement); err != nil {
		return err
	}
	if id.source != "" && !slices.Contains(names, columnSource) {
		return invalid("Data source is no timeseries key of table '%s'.", t.Name)
	}
	if len(id.source) > maxSource || !utf8.ValidString(id.source) {
		return invalid("Invalid data source: it must be UTF-8 of at most %d bytes.", maxSource)
	}
	for _, name := range names {
		if !slices.Contains(defaultSeriesKey, name) && id.tag(name) == nil {
			return invalid("Tag '%s' is a timeseries key of table '%s' and is missing.", name, t.Name)
		}
	}
	rest := pairs(t.otherTags(id))
	if rest != "[]" && !slices.Contains(names, columnTags) {
		return invalid("Tags %s are no timeseries keys of table '%s'.", rest, t.Name)
	}
	if len(rest) > maxKeyValue {
		return invalid("The length of tags exceeds the MaxLength:%d with CurrentLength:%d.", maxKeyValue, len(rest))
	}
	return nil
}

// checkMeasurement holds the rule for the name of a measurement.
func checkMeasurement(s string) error {
	bad := func(r rune) bool { return r == '#' || r == ' ' || !unicode.IsPrint(r) }
	if len(s) == 0 || len(s) > maxSeriesName || !utf8.ValidString(s) || strings.ContainsFunc(s, bad) {
		return invalid("Invalid measurement name: '%s'.", s)
	}
	return nil
}

func (id *seriesID) tag(name string) *otsprotocol.TimeseriesTag {
	for _, tag := range id.tags {
		if tag.GetName() == name {
			return tag
		}
	}
	return nil
}

// otherTags are those that are not identifiers by themselves.
func (t *seriesTable) otherTags(id *seriesID) (rest []*otsprotocol.TimeseriesTag) {
	for _, tag := range id.tags {
		if !slices.Contains(t.Key, tag.GetName()) {
			rest = append(rest, tag)
		}
	}
	return rest
}

// columns are the identifiers of a series as the key of its rows begins with
// them, after the hash of them all.
func (t *seriesTable) columns(id *seriesID) []cell {
	cells := []cell{{}}
	var all []byte
	for _, name := range t.identifiers() {
		var text string
		switch name {
		case columnMeasurement:
			text = id.measurement
		case columnSource:
			text = id.source
		case columnTags:
			text = pairs(t.otherTags(id))
		default:
			text = id.tag(name).GetValue()
		}
		v := bytesValue(typeString, []byte(text))
		all = appendKeyValue(all, v)
		cells = append(cells, makeCell([]byte(name), v, 0, false))
	}
	sum := md5.Sum(all)
	cells[0] = makeCell([]byte(columnHash), bytesValue(typeString, []byte(hex.EncodeToString(sum[:]))), 0, false)
	return cells
}

// seriesKey is the key of a series, or of nothing but what the keys of its rows
// begin with.
func (t *seriesTable) seriesKey(kind byte, columns []cell) []byte {
	key := t.prefix(kind)
	for _, c := range columns[1:] {
		key = appendKeyValue(key, c.value)
	}
	return key
}

// proto returns the identifiers in the form of a response.
func (id *seriesID) proto() *otsprotocol.TimeseriesKey {
	return &otsprotocol.TimeseriesKey{
		Measurement: proto.String(id.measurement),
		Source:      proto.String(id.source),
		TagList:     id.tags,
	}
}

func compareTags(a, b *otsprotocol.TimeseriesTag) int { return cmp.Compare(a.GetName(), b.GetName()) }

// pairs writes tags or attributes as the service keeps them: ["k1=v1","k2=v2"].
func pairs(tags []*otsprotocol.TimeseriesTag) string {
	var parts []string
	for _, tag := range tags {
		parts = append(parts, `"`+tag.GetName()+"="+tag.GetValue()+`"`)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// parsePairs reads what pairs writes, in any order.
func parsePairs(text string) (tags []*otsprotocol.TimeseriesTag, err error) {
	inner, opened := strings.CutPrefix(text, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if !opened || !closed {
		return nil, errPairs(text)
	}
	for rest := inner; rest != ""; {
		body, quoted := strings.CutPrefix(rest, `"`)
		pair, after, ended := strings.Cut(body, `"`)
		name, content, joined := strings.Cut(pair, "=")
		if !quoted || !ended || !joined {
			return nil, errPairs(text)
		}
		tags = append(tags, &otsprotocol.TimeseriesTag{Name: proto.String(name), Value: proto.String(content)})
		next, more := strings.CutPrefix(after, ",")
		if more != (next != "") {
			return nil, errPairs(text)
		}
		rest = next
	}
	slices.SortFunc(tags, compareTags)
	return tags, nil
}

func errPairs(text string) error {
	return invalid(`Invalid tags or attributes: %s. They are written ["k1=v1","k2=v2"].`, text)
}

// checkPairs holds the rules for tags and attributes, which are in order.
func checkPairs(tags []*otsprotocol.TimeseriesTag) error {
	for i, tag := range tags {
		name, content := tag.GetName(), tag.GetValue()
		invisible := func(r rune) bool { return r <= ' ' || r > '~' }
		if name == "" || strings.ContainsAny(name, `"=`) || strings.ContainsFunc(name, invisible) {
			return invalid("Invalid name of a tag or attribute: '%s'.", name)
		}
		if strings.ContainsAny(content, `"=`) || !utf8.ValidString(content) {
			return invalid("Invalid value of tag or attribute '%s': '%s'.", name, content)
		}
		if i > 0 && tags[i-1].GetName() == name {
			return invalid("Duplicated tag or attribute: '%s'.", name)
		}
	}
	return nil
}
