package archive_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// refooted returns the chunk with another footer.
func refooted(t testing.TB, data []byte, change func(*metadata.FileMetaData)) []byte {
	t.Helper()
	f, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	meta := f.MetaData()
	body := data[:len(data)-8-meta.Size()]
	change(meta)
	footer, err := meta.Serialize(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return closed(body, footer)
}

// closed returns a Parquet file of a body and a footer.
func closed(body, footer []byte) []byte {
	out := append(bytes.Clone(body), footer...)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(footer))), "PAR1"...)
}

// mixed is a chunk of orders with two values, one null at least, and lists of no,
// one and two items, in every column it can be in.
func mixed(t testing.TB) (row.Layout, []byte, manifest.Chunk) {
	t.Helper()
	l := orders(t)
	key := func(i int) []cell {
		return []cell{{name: "customer", value: []string{"a", "b"}[i/2]}, {name: "id", value: int64(i)}, {name: "part", value: []byte{byte(i)}}}
	}
	full := func(i int) []cell {
		v := 5 + 10*int64(i)
		return []cell{
			{"country", []string{"DE", "US"}[i], v + 2},
			{"note", []string{"", "訂單訂單"}[i], v},
			{"paid", i == 1, v},
			{"photo", []byte{byte(1 + i)}, v},
			{"price", []float64{-1.5, math.Inf(1)}[i], v},
			{"quantity", int64(i - 1), v + 4},
			{"u", int64(i), 5}, {"v", float64(i), 6}, {"w", i == 1, 5}, {"x", []string{"s", "t"}[i], 5}, {"y", []byte{byte(i)}, 5},
		}
	}
	data, c := write(t, l, batch(t, l, wire(key(0), full(0)), wire(key(1), nil), wire(key(2), full(1)), wire(key(3), []cell{{"u", int64(0), 5}})))
	return l, data, c
}

// checked returns the error of Check for data, as if it was signed.
func checked(t *testing.T, data []byte, l row.Layout, c manifest.Chunk) error {
	t.Helper()
	err := archive.Check(t.Context(), data, l, passing(c, data))
	if err != nil && !errors.Is(err, archive.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	return err
}

// TestBoundsThatHideAValueAreRefused narrows what the footer says of each column in
// turn. Readers that go by it, selections among them, would leave rows out.
func TestBoundsThatHideAValueAreRefused(t *testing.T) {
	l, data, c := mixed(t)
	// The library can bound items that may be null too, though what is written does not.
	data = refooted(t, data, func(meta *metadata.FileMetaData) {
		items := map[string]metadata.EncodedStatistics{"i": said(9, encodedInt(0), encodedInt(1)), "d": said(10, encoded(math.Copysign(0, -1)), encoded(1)), "b": said(10, []byte{0}, []byte{1}), "s": said(10, []byte("s"), []byte("t")), "x": said(10, []byte{0}, []byte{1})}
		for name, s := range items {
			i := meta.Schema.ColumnIndexByName("__more.list.element." + name)
			meta.RowGroups[0].Columns[i].MetaData.Statistics = s.ToThrift()
		}
	})
	if err := checked(t, data, l, c); err != nil {
		t.Fatal("the tests below would prove nothing: ", err)
	}
	schema := open(t, data).MetaData().Schema
	for i := range schema.NumColumns() {
		path := schema.Column(i).Path()
		for _, lie := range []struct {
			name, reason string
			tell         func(low, high *[]byte, nulls *int64)
		}{
			{"a larger smallest value", "smallest value is", func(low, high *[]byte, _ *int64) { *low = *high }},
			{"a smaller largest value", "largest value is", func(low, high *[]byte, _ *int64) { *high = *low }},
			{"a null more", "nulls, said are", func(_, _ *[]byte, nulls *int64) { *nulls++ }},
			{"a null less", "nulls, said are", func(_, _ *[]byte, nulls *int64) { *nulls-- }},
			{"only nulls", "nulls, said are", func(_, _ *[]byte, nulls *int64) {
				*nulls = open(t, data).MetaData().RowGroups[0].Columns[i].MetaData.NumValues
			}},
		} {
			lied := refooted(t, data, func(meta *metadata.FileMetaData) {
				s := meta.RowGroups[0].Columns[i].MetaData.Statistics
				lie.tell(&s.MinValue, &s.MaxValue, s.NullCount)
				if s.Min != nil {
					s.Min, s.Max = s.MinValue, s.MaxValue
				}
			})
			err := checked(t, lied, l, c)
			if err == nil || !strings.Contains(err.Error(), "column "+path+": ") || !strings.Contains(err.Error(), lie.reason) {
				t.Errorf("%s has %s: got %v, want ErrCorrupt for %q", path, lie.name, err, lie.reason)
			}
		}
	}
}

func encodedInt(v int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(v)) }

func said(nulls int64, low, high []byte) (s metadata.EncodedStatistics) {
	s.SetMin(low).SetMax(high).SetNullCount(nulls)
	return s
}

// TestSelectionsOfAChunkThatLies shows what Check is for.
func TestSelectionsOfAChunkThatLies(t *testing.T) {
	l, data, c := mixed(t)
	lied := refooted(t, data, func(meta *metadata.FileMetaData) {
		i := meta.Schema.ColumnIndexByName("country")
		meta.RowGroups[0].Columns[i].MetaData.Statistics.MaxValue = []byte("DE")
	})
	where := archive.Selection{Where: mustFilter(t, "country = 'US'")}
	honest, err := read(t, data, l, c, where)
	if err != nil || len(honest) != 1 {
		t.Fatalf("%d rows, %v; want one", len(honest), err)
	}
	if rows, err := read(t, lied, l, passing(c, lied), where); err != nil || len(rows) != 0 {
		t.Fatalf("%d rows, %v: selections do not go by the footer, and need no honest one", len(rows), err)
	}
	if checked(t, lied, l, c) == nil {
		t.Error("the chunk was accepted")
	}
}

func TestBoundsAreAsNarrowAsParquetAsks(t *testing.T) {
	l, data, c := mixed(t)
	no, yes := false, true
	zero, minusZero, nan := encoded(0), encoded(math.Copysign(0, -1)), encoded(math.NaN())
	for _, test := range []struct {
		name, column, reason string // "" for none
		tell                 func(s bounds)
	}{
		{"no bounds", "country", "", func(s bounds) { *s.low, *s.high = nil, nil }},
		{"one bound of text", "country", "", func(s bounds) { *s.high = nil }},
		{"one bound of numbers", "quantity", "half told", func(s bounds) { *s.high = nil }},
		{"a prefix that says it is one", "country", "", func(s bounds) { *s.low, *s.exactLow = []byte("D"), &no }},
		{"a prefix that does not", "country", "smallest value is", func(s bounds) { *s.low = []byte("D") }},
		{"a prefix that says it is none", "country", "smallest value is", func(s bounds) { *s.low, *s.exactLow = []byte("D"), &yes }},
		{"a prefix and more that says it is one", "country", "", func(s bounds) { *s.high, *s.exactHigh = []byte("V"), &no }},
		{"a prefix at the other end", "country", "largest value is", func(s bounds) { *s.high, *s.exactHigh = []byte("U"), &no }},
		{"inexact and too narrow", "country", "smallest value is", func(s bounds) { *s.low, *s.exactLow = []byte("E"), &no }},
		{"a wider bound of numbers", "quantity", "smallest value is -1, said is -2", func(s bounds) { *s.low, *s.oldLow = encodedInt(-2), nil }},
		{"an inexact bound of numbers", "quantity", "not exact", func(s bounds) { *s.exactLow = &no }},
		{"a bound of 4 bytes", "quantity", "another size", func(s bounds) { *s.low, *s.oldLow = []byte{0, 0, 0, 0}, nil }},
		{"NaN as a bound", "price", "smallest value is -1.5, said is NaN", func(s bounds) { *s.low, *s.oldLow = nan, nan }},
		{"a bound in the old order of bytes", "country", "in an order", func(s bounds) { *s.oldLow = []byte("DE") }},
		{"another bound in an old field", "quantity", "older fields", func(s bounds) { *s.oldLow = zero }},
		{"an empty largest value", "country", "largest value is", func(s bounds) { *s.high = []byte{} }},
		{"distinct values", "country", "distinct values", func(s bounds) { *s.distinct = new(int64) }},
		{"a count of NaN", "price", "NaN", func(s bounds) { *s.nan = new(int64) }},
		{"no count of nulls", "country", "", func(s bounds) { *s.nulls = nil }},
	} {
		told := refooted(t, data, func(meta *metadata.FileMetaData) { test.tell(boundsOf(meta, test.column)) })
		err := checked(t, told, l, c)
		if (err == nil) != (test.reason == "") || err != nil && !strings.Contains(err.Error(), "column "+test.column+": ") || err != nil && !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.reason)
		}
	}

	rows := func(prices ...float64) ([]byte, manifest.Chunk) {
		var all [][]byte
		for i, p := range prices {
			all = append(all, wire([]cell{{name: "customer", value: "c"}, {name: "id", value: int64(i)}, {name: "part", value: []byte{}}}, []cell{{"price", p, 5}}))
		}
		return write(t, l, batch(t, l, all...))
	}
	for _, test := range []struct {
		name      string
		prices    []float64
		low, high []byte
		reason    string
	}{
		{"zeros", []float64{0, math.Copysign(0, -1)}, minusZero, zero, ""},
		{"0 alone", []float64{0}, minusZero, zero, ""},
		{"-0 alone", []float64{math.Copysign(0, -1)}, minusZero, zero, ""},
		{"0 as the smallest", []float64{math.Copysign(0, -1), 1}, zero, encoded(1), "smallest value is -0, said is 0"},
		{"-0 as the largest", []float64{-1, 0}, encoded(-1), minusZero, "largest value is 0, said is -0"},
		{"NaN beside 1", []float64{math.NaN(), 1}, encoded(1), encoded(1), ""},
		{"NaN alone, no bounds", []float64{math.NaN()}, nil, nil, ""},
		{"NaN alone, bounds of nothing", []float64{math.NaN()}, encoded(math.Inf(1)), encoded(math.Inf(-1)), ""},
		{"NaN alone, bounds", []float64{math.NaN()}, encoded(1), encoded(2), "has no values"},
		{"NaN as bounds of NaN", []float64{math.NaN()}, nan, nan, "has no values"},
	} {
		data, c := rows(test.prices...)
		told := refooted(t, data, func(meta *metadata.FileMetaData) {
			s := boundsOf(meta, "price")
			*s.low, *s.high, *s.oldLow, *s.oldHigh = test.low, test.high, test.low, test.high
		})
		if err := checked(t, told, l, c); (err == nil) != (test.reason == "") || err != nil && !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.reason)
		}
	}
}

func encoded(v float64) []byte { return binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)) }

// bounds are the statistics of a column in the first row group.
type bounds struct {
	low, high, oldLow, oldHigh *[]byte
	exactLow, exactHigh        **bool
	nulls, distinct, nan       **int64
}

func boundsOf(meta *metadata.FileMetaData, column string) bounds {
	s := meta.RowGroups[0].Columns[meta.Schema.ColumnIndexByName(column)].MetaData.Statistics
	return bounds{&s.MinValue, &s.MaxValue, &s.Min, &s.Max, &s.IsMinValueExact, &s.IsMaxValueExact, &s.NullCount, &s.DistinctCount, &s.NanCount}
}

// TestWhereToLookIsAsTheFooterSays changes what leads readers past values.
func TestWhereToLookIsAsTheFooterSays(t *testing.T) {
	l := orders(t)
	data, c := write(t, l, batches(t, 100, 100)...)
	one := int64(1)
	for _, test := range []struct {
		name, reason string
		tell         func(*metadata.FileMetaData)
	}{
		{"a Bloom filter", "Bloom filter", func(m *metadata.FileMetaData) { m.RowGroups[1].Columns[3].MetaData.BloomFilterOffset = &one }},
		{"histograms of levels", "Bloom filter or other", func(m *metadata.FileMetaData) { set(m.RowGroups[1].Columns[3].MetaData, "SizeStatistics") }},
		{"bounds of shapes", "Bloom filter or other", func(m *metadata.FileMetaData) { set(m.RowGroups[1].Columns[3].MetaData, "GeospatialStatistics") }},
		{"an index page", "index page", func(m *metadata.FileMetaData) { m.RowGroups[1].Columns[3].MetaData.IndexPageOffset = &one }},
		{"an index of columns", "indexed", func(m *metadata.FileMetaData) { m.RowGroups[1].Columns[3].ColumnIndexOffset = &one }},
		{"an index of offsets", "indexed", func(m *metadata.FileMetaData) { m.RowGroups[1].Columns[3].OffsetIndexOffset = &one }},
		{"keys in descending order", "another order", func(m *metadata.FileMetaData) { m.RowGroups[0].SortingColumns[1].Descending = true }},
		{"nulls first", "another order", func(m *metadata.FileMetaData) { m.RowGroups[0].SortingColumns[1].NullsFirst = true }},
		{"sorted by an attribute", "another order", func(m *metadata.FileMetaData) { m.RowGroups[0].SortingColumns[1].ColumnIdx = 5 }},
		{"a row group elsewhere", "lie elsewhere", func(m *metadata.FileMetaData) { *m.RowGroups[1].FileOffset += 1 << 40 }},
		{"a row group of another size", "lie elsewhere", func(m *metadata.FileMetaData) { *m.RowGroups[1].TotalCompressedSize = 0 }},
		{"a row group of more bytes", "lie elsewhere", func(m *metadata.FileMetaData) { m.RowGroups[1].TotalByteSize++ }},
		{"a row group of another number", "lie elsewhere", func(m *metadata.FileMetaData) { *m.RowGroups[1].Ordinal = 7 }},
		{"a column elsewhere", "lie elsewhere", func(m *metadata.FileMetaData) { m.RowGroups[1].Columns[3].FileOffset++ }},
		{"pages of another encoding", "other encodings", func(m *metadata.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.EncodingStats[0].Count++ }},
		{"no page without a dictionary", "an encoding that is not said", func(m *metadata.FileMetaData) {
			e := m.RowGroups[0].Columns[0].MetaData
			e.EncodingStats, e.Encodings = nil, e.Encodings[1:]
		}},
		{"a dictionary where there is none", "its dictionary", func(m *metadata.FileMetaData) {
			e := m.RowGroups[0].Columns[0].MetaData
			e.DictionaryPageOffset = &e.DataPageOffset
		}},
	} {
		told := refooted(t, data, test.tell)
		if err := checked(t, told, l, c); err == nil || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: got %v, want ErrCorrupt for %q", test.name, err, test.reason)
		}
	}
}

// set gives a member of a struct that has a type this package cannot name a value.
func set(of any, member string) {
	f := reflect.ValueOf(of).Elem().FieldByName(member)
	f.Set(reflect.New(f.Type().Elem()))
}

// TestAFooterWithAFieldOfItsOwnIsRefused adds fields that this program does not know
// and others may.
func TestAFooterWithAFieldOfItsOwnIsRefused(t *testing.T) {
	l, data, c := mixed(t)
	size := open(t, data).MetaData().Size()
	body, footer := data[:len(data)-8-size], data[len(data)-8-size:len(data)-8]
	if err := checked(t, closed(body, footer), l, c); err != nil {
		t.Fatal("the tests below would prove nothing: ", err)
	}
	for name, end := range map[string][]byte{"a field": {0xd5, 2, 0}, "a byte behind": {0, 0}} {
		told := closed(body, append(bytes.Clone(footer[:size-1]), end...))
		if err := checked(t, told, l, c); err == nil || !strings.Contains(err.Error(), "fields that are not known") {
			t.Errorf("%s: got %v, want ErrCorrupt for fields that are not known", name, err)
		}
	}
}

// TestPagesAreHeldToTheirHeaders changes the bounds in the header of a page, which
// some readers go by, and lets them be as long as they were.
func TestPagesAreHeldToTheirHeaders(t *testing.T) {
	l, data, c := mixed(t)
	var records []arrow.RecordBatch
	for rec, err := range archive.Read(t.Context(), data, l, c) {
		if err != nil {
			t.Fatal(err)
		}
		rec.Retain()
		records = append(records, rec)
	}
	data = forgery{records: records}.make(t) // the library bounds pages; what is written does not
	largest := []byte("訂單訂單")
	at := bytes.Index(data, largest)
	for name, to := range map[string]string{"smaller": "訂單訂", "larger": "訂單訂單"} {
		told := bytes.Clone(data)
		copy(told[at:], to+"\x00\x00\x00"[:len(largest)-len(to)])
		err := checked(t, told, l, c)
		if want := name == "smaller"; want != (err != nil && strings.Contains(err.Error(), "column note: page")) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestWhatIsWrittenHoldsItsOwnBounds writes what is hard to bound: no values, empty
// ones, long ones, NaN, zeros of both signs, in pages of few values, with and
// without dictionaries, in both versions of pages.
func TestWhatIsWrittenHoldsItsOwnBounds(t *testing.T) {
	l := orders(t)
	rnd := rand.New(rand.NewPCG(41, 42))
	value := func(i int) any {
		switch rnd.IntN(9) {
		case 0:
			return []float64{math.NaN(), 0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), rnd.NormFloat64(), math.MaxFloat64}[rnd.IntN(7)]
		case 1, 2:
			return []int64{0, 1, -1, math.MaxInt64, math.MinInt64, rnd.Int64()}[rnd.IntN(6)]
		case 3:
			return rnd.IntN(2) == 0
		case 4, 5:
			return strings.Repeat(string(rune('a'+rnd.IntN(3))), rnd.IntN(12)*rnd.IntN(2))
		case 6:
			return strings.Repeat("long", 1024+rnd.IntN(3)) // a footer has values up to 4096 bytes
		}
		return slices.Repeat([]byte{byte(0x7f + rnd.IntN(3)), 0}, rnd.IntN(6))
	}
	typed := map[string]func(any) bool{
		"country": isA[string], "note": isA[string], "paid": isA[bool], "photo": isA[[]byte], "price": isA[float64], "quantity": isA[int64],
	}
	names := []string{"country", "note", "paid", "photo", "price", "quantity", "extra", "other"}
	for round := range 60 {
		chance := []int{0, 5, 50, 100}[rnd.IntN(4)]
		b := row.NewBuilder(memory.NewGoAllocator(), l)
		for i := range 1 + rnd.IntN(60) {
			var cells []cell
			for _, name := range names {
				for version := range rnd.IntN(3) {
					v := value(i)
					for typed[name] != nil && !typed[name](v) && rnd.IntN(10) > 0 {
						v = value(i)
					}
					if rnd.IntN(100) < chance {
						cells = append(cells, cell{name, v, int64(5 + version)})
					}
				}
			}
			key := []cell{{name: "customer", value: "k" + strings.Repeat("\x00", i/9)}, {name: "id", value: int64(i)}, {name: "part", value: []byte{}}}
			if _, err := b.Append(wire(key, cells)); err != nil {
				t.Fatal(err)
			}
		}
		all := b.Batch()
		data, c := write(t, l, all)
		if err := checked(t, data, l, c); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for n, options := range [][]parquet.WriterProperty{
			{parquet.WithDictionaryDefault(true), parquet.WithDataPageSize(64), parquet.WithBatchSize(3)},
			{parquet.WithDataPageSize(64), parquet.WithBatchSize(5)},
			{parquet.WithDictionaryDefault(true), parquet.WithDictionaryPageSizeLimit(16), parquet.WithDataPageSize(64), parquet.WithBatchSize(3)},
		} {
			data := forgery{records: []arrow.RecordBatch{all.Record}, options: options}.make(t)
			if err := checked(t, data, l, c); err != nil {
				t.Fatalf("round %d, options %d: %v", round, n, err)
			}
		}
	}
}

func isA[T any](v any) bool { _, is := v.(T); return is }

// TestBoundsOfItemsAreNotBelieved has the library bound items of lists that may be
// null: it leaves out the values of 1024 rows, of which every second has an item.
// Chunks written before this was known have such bounds, and selections of them have
// all their rows.
func TestBoundsOfItemsAreNotBelieved(t *testing.T) {
	l := orders(t)
	var rows [][]byte
	for i := range 2048 {
		key := []cell{{name: "customer", value: "c"}, {name: "id", value: int64(i)}, {name: "part", value: []byte{}}}
		switch {
		case i >= 1024:
			rows = append(rows, wire(key, []cell{{"extra", int64(5), 1}}))
		case i%2 == 0:
			rows = append(rows, wire(key, []cell{{"extra", int64(1000 + i), 1}}))
		default:
			rows = append(rows, wire(key, nil))
		}
	}
	all := batch(t, l, rows...)
	data, c := write(t, l, all)
	if err := checked(t, data, l, c); err != nil {
		t.Error(err)
	}
	narrow := forgery{records: []arrow.RecordBatch{all.Record}, options: []parquet.WriterProperty{parquet.WithStatsFor("__more.list.element.i", true)}}.make(t)
	if err := checked(t, narrow, l, c); err == nil || !strings.Contains(err.Error(), "__more.list.element.i: page 0: its largest value is 2022, said is 5") {
		t.Errorf("got %v: the library's bounds are right now, and what is written can have them", err)
	}
	for _, data := range [][]byte{data, narrow} {
		rows, err := read(t, data, l, passing(c, data), archive.Selection{Where: mustFilter(t, "extra > 2000")})
		if err != nil || len(rows) != 11 {
			t.Errorf("%d rows, %v; want 11", len(rows), err)
		}
	}
}
