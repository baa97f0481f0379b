package pages_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/otsnap/otsnap/archive/pages"
	"golang.org/x/sync/errgroup"
)

// schema has every kind of column there is.
func schema() *arrow.Schema {
	types := []arrow.DataType{arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float64, arrow.FixedWidthTypes.Boolean, arrow.BinaryTypes.String, arrow.BinaryTypes.Binary}
	var fields, inner []arrow.Field
	for i, typ := range types {
		required, optional := fmt.Sprintf("r%d", i), fmt.Sprintf("o%d", i)
		fields = append(fields, arrow.Field{Name: required, Type: typ}, arrow.Field{Name: optional, Type: typ, Nullable: true})
		inner = append(inner, arrow.Field{Name: required, Type: typ}, arrow.Field{Name: optional, Type: typ, Nullable: true})
	}
	fields = append(fields, arrow.Field{Name: "list", Type: arrow.ListOfNonNullable(arrow.StructOf(inner...))})
	return arrow.NewSchema(fields, nil)
}

// a shape is how the values of a column are.
type shape struct {
	distinct int     // values to draw from
	rising   bool    // values in order
	nulls    float64 // share
	runs     bool    // nulls, and values, come in runs
	large    int     // bytes of a string now and then
}

func randomShape(rnd *rand.Rand) shape {
	s := shape{distinct: []int{1, 2, 3, 9, 300, 1 << 30}[rnd.IntN(6)], rising: rnd.IntN(3) == 0, runs: rnd.IntN(3) == 0}
	s.nulls = []float64{0, 0, 0.1, 0.5, 0.99, 0.9999, 1}[rnd.IntN(7)]
	if rnd.IntN(8) == 0 {
		s.large = 1 << rnd.IntN(20)
	}
	return s
}

// filler appends values of a shape to a builder.
type filler struct {
	rnd  *rand.Rand
	of   shape
	last uint64
	null bool
	left int // of a run
}

func (f *filler) append(to array.Builder, nullable bool) {
	if f.left == 0 {
		f.last = f.next()
		f.null = f.rnd.Float64() < f.of.nulls
		if f.left = 1; f.of.runs {
			f.left = 1 + f.rnd.IntN(500)
		}
	}
	f.left--
	if nullable && f.null {
		to.AppendNull()
		return
	}
	f.value(to)
}

func (f *filler) next() uint64 {
	x := uint64(f.rnd.IntN(f.of.distinct))
	switch {
	case f.of.rising:
		return f.last + x
	case f.of.distinct == 1<<30:
		return f.rnd.Uint64()
	}
	return x * 0x9e3779b97f4a7c15
}

func (f *filler) value(to array.Builder) {
	text := fmt.Sprintf("%x", f.last)
	text = text[min(len(text), int(f.last%3)):] // some are empty
	if f.of.large > 0 && f.rnd.IntN(100) == 0 {
		text = strings.Repeat(text, f.of.large/16)
	}
	switch b := to.(type) {
	case *array.Int64Builder:
		b.Append(int64(f.last))
	case *array.Float64Builder:
		if f.last%7 == 0 {
			b.Append([]float64{math.NaN(), math.Copysign(0, -1), 0, math.Inf(1)}[f.last%4])
			return
		}
		b.Append(float64(int64(f.last)) / 100)
	case *array.BooleanBuilder:
		b.Append(f.last%2 == 1)
	case *array.StringBuilder:
		b.Append(text)
	case *array.BinaryBuilder:
		b.Append([]byte(text))
	}
}

// random returns a record, which is a slice of a larger one.
func random(rnd *rand.Rand, rows int) arrow.RecordBatch {
	s := schema()
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	skip := rnd.IntN(20)
	for i, field := range s.Fields() {
		lists, ok := b.Field(i).(*array.ListBuilder)
		if !ok {
			f := filler{rnd: rnd, of: randomShape(rnd)}
			for range skip + rows {
				f.append(b.Field(i), field.Nullable)
			}
			continue
		}
		fillLists(rnd, lists, skip+rows)
	}
	return b.NewRecordBatch().NewSlice(int64(skip), int64(skip+rows))
}

func fillLists(rnd *rand.Rand, lists *array.ListBuilder, rows int) {
	entries := lists.ValueBuilder().(*array.StructBuilder)
	fillers := make([]filler, entries.NumField())
	for i := range fillers {
		fillers[i] = filler{rnd: rnd, of: randomShape(rnd)}
	}
	often, most := []int{1, 2, 50, 1 << 30}[rnd.IntN(4)], 1+rnd.IntN(9)
	for range rows {
		lists.Append(true)
		if rnd.IntN(often) > 0 {
			continue
		}
		for range rnd.IntN(most + 1) {
			entries.Append(true)
			for i := range fillers {
				fillers[i].append(entries.FieldBuilder(i), i%2 == 1)
			}
		}
	}
}

func properties() *parquet.WriterProperties {
	return parquet.NewWriterProperties(parquet.WithRootRepetition(parquet.Repetitions.Required), parquet.WithVersion(parquet.V2_LATEST),
		parquet.WithDictionaryDefault(false), parquet.WithCompression(compress.Codecs.Zstd))
}

func write(t testing.TB, records ...arrow.RecordBatch) []byte {
	t.Helper()
	w, err := pages.NewWriter(records[0].Schema(), properties(), [][2]string{{"made by", "a test"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range records {
		if err := w.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	data, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// byLibrary is what the Parquet library writes.
func byLibrary(t testing.TB, records ...arrow.RecordBatch) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := pqarrow.NewFileWriter(records[0].Schema(), &out, properties(), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range records {
		if err := w.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func open(t testing.TB, data []byte) *file.Reader {
	t.Helper()
	f, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// group reads a row group with the library.
func group(t testing.TB, f *file.Reader, i int) arrow.RecordBatch {
	t.Helper()
	r, err := pqarrow.NewFileReader(f, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	records, err := r.GetRecordReader(t.Context(), nil, []int{i})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := records.Read()
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// equal compares records column by column.
func equal(t *testing.T, got, want arrow.RecordBatch) {
	t.Helper()
	if got.NumRows() != want.NumRows() {
		t.Fatalf("%d rows, want %d", got.NumRows(), want.NumRows())
	}
	for i, column := range want.Columns() {
		if !same(got.Column(i), column) {
			t.Errorf("column %s is not what was written", want.ColumnName(i))
		}
	}
}

// same compares arrays, of doubles every bit.
func same(a, b arrow.Array) bool {
	if a.Len() != b.Len() {
		return false
	}
	switch a := a.(type) {
	case *array.Float64:
		for i := range a.Len() {
			if a.IsNull(i) != b.IsNull(i) || a.IsValid(i) && math.Float64bits(a.Value(i)) != math.Float64bits(b.(*array.Float64).Value(i)) {
				return false
			}
		}
		return true
	case *array.List:
		for i := range a.Len() {
			from, to := a.ValueOffsets(i)
			from2, to2 := b.(*array.List).ValueOffsets(i)
			if !same(array.NewSlice(a.ListValues(), from, to), array.NewSlice(b.(*array.List).ListValues(), from2, to2)) {
				return false
			}
		}
		return true
	case *array.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.(*array.Struct).Field(i)) {
				return false
			}
		}
		return true
	}
	return array.Equal(a, b)
}

func TestRecordsReadBack(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			records := []arrow.RecordBatch{random(rnd, 1+rnd.IntN(40)), random(rnd, 1+rnd.IntN(5000)), random(rnd, 1+rnd.IntN(300))}
			f := open(t, write(t, records...))
			for i, rec := range records {
				equal(t, group(t, f, i), rec)
			}
		})
	}
}

// The library's own writer is what the footer is held to.
func TestTheFooterIsTheLibrarys(t *testing.T) {
	for seed := range uint64(10) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		records := []arrow.RecordBatch{random(rnd, 1000), random(rnd, 1)}
		ours, theirs := open(t, write(t, records...)).MetaData(), open(t, byLibrary(t, records...)).MetaData()
		for i := range records {
			for j := range ours.Schema.NumColumns() {
				got, err := ours.RowGroup(i).ColumnChunk(j)
				want, err2 := theirs.RowGroup(i).ColumnChunk(j)
				if err != nil || err2 != nil {
					t.Fatal(err, err2)
				}
				if got.NumValues() != want.NumValues() || got.Compression() != want.Compression() || got.PathInSchema().String() != want.PathInSchema().String() {
					t.Errorf("seed %d, %s: %d values, want %d", seed, got.PathInSchema(), got.NumValues(), want.NumValues())
				}
				if strings.HasPrefix(got.PathInSchema().String(), "list.list.element.o") {
					continue // the library bounds them too narrowly
				}
				if g, w := statistics(t, got), statistics(t, want); g != w {
					t.Errorf("seed %d, %s: statistics are %s, want %s", seed, got.PathInSchema(), g, w)
				}
			}
		}
	}
}

func statistics(t *testing.T, c *metadata.ColumnChunkMetaData) string {
	t.Helper()
	s, err := c.Statistics()
	if err != nil {
		t.Fatal(err)
	}
	if s == nil {
		return "none"
	}
	text := fmt.Sprintf("%d nulls", s.NullCount())
	if s.HasMinMax() && s.NullCount() < c.NumValues() { // the library names bounds of nothing
		text += fmt.Sprintf(", %x to %x", s.EncodeMin(), s.EncodeMax())
	}
	return text
}

// column returns a record of one column, which is not null.
func column(values arrow.Array) arrow.RecordBatch {
	s := arrow.NewSchema([]arrow.Field{{Name: "c", Type: values.DataType()}}, nil)
	return array.NewRecordBatch(s, []arrow.Array{values}, int64(values.Len()))
}

func integers(n int, f func(i int) int64) arrow.RecordBatch {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	for i := range n {
		b.Append(f(i))
	}
	return column(b.NewArray())
}

func doubles(n int, f func(i int) float64) arrow.RecordBatch {
	b := array.NewFloat64Builder(memory.DefaultAllocator)
	for i := range n {
		b.Append(f(i))
	}
	return column(b.NewArray())
}

func texts(n int, f func(i int) string) arrow.RecordBatch {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	for i := range n {
		b.Append(f(i))
	}
	return column(b.NewArray())
}

// A column is encoded as suits its values, whatever they are called.
func TestEncodingsSuitTheValues(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 9))
	for _, c := range []struct {
		name string
		rec  arrow.RecordBatch
		want parquet.Encoding
	}{
		{"noise", integers(5000, func(int) int64 { return rnd.Int64() }), parquet.Encodings.Plain},
		{"rising integers", integers(5000, func(i int) int64 { return int64(i)*1000 + rnd.Int64N(1000) }), parquet.Encodings.DeltaBinaryPacked},
		{"few integers far apart", integers(5000, func(int) int64 { return rnd.Int64N(50) * 1e15 }), parquet.Encodings.RLEDict},
		{"few texts", texts(5000, func(int) string { return fmt.Sprint("country ", rnd.IntN(50)) }), parquet.Encodings.RLEDict},
		{"texts of noise", texts(5000, func(int) string { return fmt.Sprintf("%x", rnd.Uint64()>>rnd.IntN(32)) }), parquet.Encodings.DeltaLengthByteArray},
		{"prices", doubles(5000, func(int) float64 { return float64(rnd.IntN(100_000)) / 100 }), parquet.Encodings.Plain},
		{"doubles of alike size", doubles(40_000, func(int) float64 { return 1000 + rnd.Float64() }), parquet.Encodings.ByteStreamSplit},
		{"too few to matter", integers(100, func(i int) int64 { return int64(i) }), parquet.Encodings.Plain},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := open(t, write(t, c.rec))
			equal(t, group(t, f, 0), c.rec)
			chunk, err := f.MetaData().RowGroup(0).ColumnChunk(0)
			if err != nil {
				t.Fatal(err)
			}
			if got := chunk.Encodings()[0]; got != c.want {
				t.Errorf("encoded as %s, want %s", got, c.want)
			}
		})
	}
}

// What was chosen for the first row group may not do for the next.
func TestADictionaryThatGrowsTooLargeIsLeft(t *testing.T) {
	few, many := integers(5000, func(i int) int64 { return int64(i*i%50) * 1e15 }), integers(5000, func(i int) int64 { return int64(i) })
	f := open(t, write(t, few, many, few))
	for i, want := range []struct {
		rec  arrow.RecordBatch
		dict bool
	}{{few, true}, {many, false}, {few, true}} {
		equal(t, group(t, f, i), want.rec)
		chunk, err := f.MetaData().RowGroup(i).ColumnChunk(0)
		if err != nil {
			t.Fatal(err)
		}
		if got := chunk.HasDictionaryPage(); got != want.dict {
			t.Errorf("group %d: there is a dictionary: %v, want %v", i, got, want.dict)
		}
	}
}

// Readers hold a page in memory, and some have failed on pages of nulls alone in
// the encodings of differences.
func TestPagesAreSmallAndHaveValues(t *testing.T) {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	for i := range 2_000_000 {
		if i%1_000_000 < 200_000 {
			b.Append(int64(i))
		} else {
			b.AppendNull()
		}
	}
	s := arrow.NewSchema([]arrow.Field{{Name: "c", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	rec := array.NewRecordBatch(s, []arrow.Array{b.NewArray()}, 2_000_000)
	f := open(t, write(t, rec))
	got := group(t, f, 0)
	if !same(got.Column(0), rec.Column(0)) {
		t.Error("the column is not what was written")
	}
	pages, err := f.RowGroup(0).GetColumnPageReader(0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; pages.Next(); n++ {
		page := pages.Page().(file.DataPage)
		if size := page.UncompressedSize(); size > 2<<20 {
			t.Errorf("page %d has %d bytes", n, size)
		}
	}
	if want := (400_000*8 + 1<<20 - 1) / (1 << 20); n != want || pages.Err() != nil { // as many as values fill
		t.Errorf("%d pages, %v; want %d", n, pages.Err(), want)
	}
}

func TestTheSameRecordsGiveTheSameBytes(t *testing.T) {
	make := func() []byte {
		rnd := rand.New(rand.NewPCG(1, 2))
		return write(t, random(rnd, 3000), random(rnd, 50), random(rnd, 3000))
	}
	want := make()
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			if !bytes.Equal(make(), want) {
				return errors.New("other bytes")
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestWriteRefuses(t *testing.T) {
	nulls := array.NewInt64Builder(memory.DefaultAllocator)
	nulls.AppendNull()
	dates := array.NewDate32Builder(memory.DefaultAllocator)
	dates.Append(1)
	for want, rec := range map[string]arrow.RecordBatch{
		`column "c": 1 values are null, and none may be`: column(nulls.NewArray()),
		`column "c": it is date32`:                       column(dates.NewArray()),
	} {
		w, err := pages.NewWriter(rec.Schema(), properties(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(rec); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if _, err := w.Close(); err == nil {
			t.Error("a file of no rows")
		}
	}
}

// TestLargeFilesAreWhole writes more than fits in one piece of memory.
func TestLargeFilesAreWhole(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	rec := integers(400_000, func(int) int64 { return rnd.Int64() })
	f := open(t, write(t, rec, rec))
	for i := range 2 {
		equal(t, group(t, f, i), rec)
	}
}
