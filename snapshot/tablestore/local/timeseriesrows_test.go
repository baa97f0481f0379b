package local

import (
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// FuzzFlatRows: no buffer makes the server panic, or keep more than a request may
// write.
func FuzzFlatRows(f *testing.F) {
	cache := seriesClientOf("http://localhost").GetTimeseriesMetaCache()
	for _, rows := range [][]*tablestore.TimeseriesRow{
		{seriesRowOf(series("m", "s", "k=v"), 5, fields{"a": 1, "b": "text", "c": true, "d": 0.5, "e": []byte{1, 2}})},
		{seriesRowOf(series("m", ""), 1, fields{"a": 1}), seriesRowOf(series("n", ""), 2, nil)},
	} {
		b, err := tablestore.BuildFlatbufferRows(rows, "t", cache)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := decodeFlatRows(b)
		if err != nil {
			return
		}
		size := 0
		for _, r := range rows {
			for _, field := range r.fields {
				if err := field.value.check(); err != nil {
					t.Errorf("field %q: %v", field.name, err)
				}
				size += max(1, field.value.size()/8)
			}
		}
		if size > maxWrite {
			t.Errorf("%d values of 8 bytes in a buffer of %d", size, len(b))
		}
		table := &seriesTable{Name: "t", TimeToLive: -1}
		for i := range rows {
			if p, err := table.newPoint(i, &rows[i]); err == nil {
				again, err := parsePoint(appendRow(nil, p.key, p.cells))
				if err != nil || again.time != p.time || len(again.cells) != len(rows[i].fields) {
					t.Errorf("row %v comes back as %v, %v", p, again, err)
				}
			}
		}
	})
}

// FuzzPairs: tags that are read are written the same, but for their order.
func FuzzPairs(f *testing.F) {
	for _, text := range []string{`[]`, `["a=b"]`, `["b=1","a=2"]`, `["a=b",]`, `["a"]`, `[a=b]`, `["a=b"`, ``} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tags, err := parsePairs(text)
		if err != nil || checkPairs(tags) != nil {
			return
		}
		again, err := parsePairs(pairs(tags))
		if err != nil || len(pairs(tags)) != len(text) || !proto.Equal(&otsprotocol.TimeseriesKey{TagList: tags}, &otsprotocol.TimeseriesKey{TagList: again}) {
			t.Errorf("%s is read as %v and again as %v, %v", text, tags, again, err)
		}
	})
}
