package row

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func TestRecordsNoBuilderMakesAreRefused(t *testing.T) {
	const empty = `"__tsx":[],"__more":[]`
	tests := []struct {
		name, row, want string
	}{
		{"a version without columns", `"__ts":1,` + empty, "__ts is set, but no column is"},
		{"columns without a version", `"count":1,` + empty, `column "count" is set, but __ts is null`},
		{"another version than most have", `"count":1,"title":"t","__ts":3,"__tsx":[{"name":"count","ts":2},{"name":"title","ts":2}],"__more":[]`, "__ts is 3, but the columns' versions make it 2"},
		{"an exception without a column", `"count":1,"__ts":1,"__tsx":[{"name":"title","ts":2}],"__more":[]`, `__tsx: "title" is not the name of a column that is set`},
		{"an exception for no column of the layout", `"count":1,"__ts":1,"__tsx":[{"name":"other","ts":2}],"__more":[]`, `__tsx: "other" is not the name`},
		{"an exception for a key column", `"count":1,"__ts":1,"__tsx":[{"name":"id","ts":2}],"__more":[]`, `__tsx: "id" is not the name`},
		{"an exception in a row without columns", `"__tsx":[{"name":"title","ts":2}],"__more":[]`, `__tsx: "title" is not the name`},
		{"an exception twice", `"count":1,"open":true,"title":"t","__ts":1,"__tsx":[{"name":"count","ts":2},{"name":"count","ts":3}],"__more":[]`, `__tsx: "count" is not the name of a column that is set, or is out of order`},
		{"exceptions out of order", `"count":1,"data":"","open":true,"price":1,"title":"t","__ts":1,"__tsx":[{"name":"title","ts":2},{"name":"count","ts":3}],"__more":[]`, `__tsx: "count" is not the name of a column that is set, or is out of order`},
		{"an exception that is none", `"count":1,"title":"t","__ts":1,"__tsx":[{"name":"count","ts":1}],"__more":[]`, `__tsx: "count" has the version of the row`},
		{"an exception without a name", `"count":1,"title":"t","__ts":1,"__tsx":[{"name":null,"ts":2}],"__more":[]`, "__tsx: entry, its name or its version is null"},
		{"an exception without a version", `"count":1,"title":"t","__ts":1,"__tsx":[{"name":"count","ts":null}],"__more":[]`, "__tsx: entry, its name or its version is null"},
		{"an exception that is null", `"count":1,"title":"t","__ts":1,"__tsx":[null],"__more":[]`, "__tsx: entry, its name or its version is null"},
		{"an exception with an empty name", `"count":1,"title":"t","__ts":1,"__tsx":[{"name":"","ts":2}],"__more":[]`, "__tsx: name is not 1 to 255 bytes long"},

		{"a cell without a value", `"__tsx":[],"__more":[{"name":"a","ts":1}]`, `__more: "a": 0 values, want one`},
		{"a cell with two values", `"__tsx":[],"__more":[{"name":"a","ts":1,"i":1,"s":"1"}]`, `__more: "a": 2 values, want one`},
		{"a cell that is null", `"__tsx":[],"__more":[null]`, "__more: entry, its name or its version is null"},
		{"a cell without a name", `"__tsx":[],"__more":[{"name":null,"ts":1,"i":1}]`, "__more: entry, its name or its version is null"},
		{"a cell without a version", `"__tsx":[],"__more":[{"name":"a","ts":null,"i":1}]`, "__more: entry, its name or its version is null"},
		{"a cell with an empty name", `"__tsx":[],"__more":[{"name":"","ts":1,"i":1}]`, "__more: name is not 1 to 255 bytes long"},
		{"a cell with a long name", `"__tsx":[],"__more":[{"name":"` + strings.Repeat("n", 256) + `","ts":1,"i":1}]`, "__more: name is not 1 to 255 bytes long"},
		{"names out of order", `"__tsx":[],"__more":[{"name":"b","ts":1,"i":1},{"name":"a","ts":1,"i":1}]`, `__more: "a", version 1, is out of order`},
		{"versions out of order", `"__tsx":[],"__more":[{"name":"a","ts":1,"i":1},{"name":"a","ts":2,"i":1}]`, `__more: "a", version 2, is out of order`},
		{"a version twice", `"__tsx":[],"__more":[{"name":"a","ts":1,"i":1},{"name":"a","ts":1,"i":2}]`, `__more: "a", version 1, is out of order`},
		{"a newest version that belongs in its column", `"__tsx":[],"__more":[{"name":"count","ts":1,"i":1}]`, `column "count": the newest version stands in __more`},
		{"a version newer than its column's", `"count":1,"__ts":1,"__tsx":[],"__more":[{"name":"count","ts":2,"i":1}]`, `__more: "count", version 2, is out of order`},
		{"the version of its column", `"count":1,"__ts":1,"__tsx":[],"__more":[{"name":"count","ts":1,"s":"x"}]`, `__more: "count", version 1, is out of order`},
		{"a column's name out of order", `"open":true,"__ts":1,"__tsx":[],"__more":[{"name":"zz","ts":1,"i":1},{"name":"count","ts":1,"s":"x"}]`, `__more: "count", version 1, is out of order`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := NewEncoder(testLayout(t))
			if err := e.Reset(recordOf(t, empty, tt.row)); err != nil {
				t.Fatal(err)
			}
			got, err := e.AppendRow([]byte("before"), 1)
			if err == nil {
				t.Fatalf("accepted as %x", got)
			}
			if !strings.HasPrefix(err.Error(), "row: row 2 of the record: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %q, want it to say %q", err, tt.want)
			}
			if string(got) != "before" {
				t.Errorf("dst became %q", got)
			}
			if cells := e.Cells(1); cells > 0 {
				if _, _, err := e.AppendCells(nil, 1, 0, 0, 0); err == nil {
					t.Error("AppendCells accepts it")
				}
			}
		})
	}
}

// replaced returns the record of two bare rows with one column exchanged.
func replaced(t *testing.T, name string, field arrow.Field, with arrow.Array) arrow.RecordBatch {
	t.Helper()
	rec := recordOf(t, `"__tsx":[],"__more":[]`, `"__tsx":[],"__more":[]`)
	fields, columns := rec.Schema().Fields(), append([]arrow.Array{}, rec.Columns()...)
	at := rec.Schema().FieldIndices(name)[0]
	fields = append([]arrow.Field{}, fields...)
	fields[at], columns[at] = field, with
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, 2)
}

func fromJSON(t *testing.T, typ arrow.DataType, text string) arrow.Array {
	t.Helper()
	a, _, err := array.FromJSON(memory.DefaultAllocator, typ, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestRecordsOfAnotherShapeAreRefused(t *testing.T) {
	l := testLayout(t)
	i64, str := arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String
	more := listOf(moreFields())
	renamed := moreFields()
	renamed[3].Name = "e"
	retyped := moreFields()
	retyped[6].Type = str
	tests := []struct {
		name, column string
		field        arrow.Field
		values, want string
	}{
		{"another name", "count", arrow.Field{Name: "Count", Type: i64}, "[1,2]", `column 5 is "Count", want "count"`},
		{"another type", "count", arrow.Field{Name: "count", Type: arrow.PrimitiveTypes.Int32}, "[1,2]", `column "count": type is int32, want int64`},
		{"text for bytes", "data", arrow.Field{Name: "data", Type: str}, `["",""]`, `column "data": type is utf8, want binary`},
		{"large text", "title", arrow.Field{Name: "title", Type: arrow.BinaryTypes.LargeString}, `["",""]`, `column "title": type is large_utf8, want utf8`},
		{"a null in the key", "id", arrow.Field{Name: "id", Type: i64, Nullable: true}, "[1,null]", `key column "id" has nulls`},
		{"versions that are no integers", "__ts", arrow.Field{Name: "__ts", Type: str}, `["",""]`, `column "__ts": type is utf8`},
		{"no list of cells", "__more", arrow.Field{Name: "__more", Type: i64}, "[1,2]", `column "__more": type is int64, want a list`},
		{"a list of something else", "__more", arrow.Field{Name: "__more", Type: arrow.ListOf(i64)}, "[[1],[2]]", `column "__more": type is list`},
		{"too few fields", "__more", arrow.Field{Name: "__more", Type: listOf(versionFields())}, "[[],[]]", `want a list of structs with 7 fields`},
		{"a field of another name", "__more", arrow.Field{Name: "__more", Type: listOf(renamed)}, "[[],[]]", `column "__more": field 4 is "e", want "d"`},
		{"a field of another type", "__more", arrow.Field{Name: "__more", Type: listOf(retyped)}, "[[],[]]", `column "__more": field "x": type is utf8, want binary`},
		{"a list that is null", "__more", arrow.Field{Name: "__more", Type: more, Nullable: true}, "[[],null]", `column "__more": a list is null`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := replaced(t, tt.column, tt.field, fromJSON(t, tt.field.Type, tt.values))
			err := NewEncoder(l).Reset(rec)
			if err == nil || !strings.HasPrefix(err.Error(), "row: record: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want it to say %q", err, tt.want)
			}
		})
	}
	t.Run("too few columns", func(t *testing.T) {
		key := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "country", Type: str}}, nil), []arrow.Array{fromJSON(t, str, `["a"]`)}, 1)
		if err := NewEncoder(l).Reset(key); err == nil || !strings.Contains(err.Error(), "1 columns, want 12") {
			t.Errorf("error is %v", err)
		}
	})
}

// arrayOf makes an array of raw buffers; nil is a buffer that is not there.
func arrayOf(typ arrow.DataType, n, offset int, buffers ...[]byte) arrow.Array {
	var list []*memory.Buffer
	for _, b := range buffers {
		if b == nil {
			list = append(list, nil)
			continue
		}
		list = append(list, memory.NewBufferBytes(b))
	}
	return array.MakeFromData(array.NewData(typ, n, list, nil, -1, offset))
}

func TestInconsistentArraysAreRefused(t *testing.T) {
	offsets := func(list ...int32) []byte { return arrow.GetBytes(list) }
	str := arrow.BinaryTypes.String
	tests := []struct {
		name  string
		field arrow.Field
		a     arrow.Array
	}{
		{"offsets that fall", arrow.Field{Name: "title", Type: str}, arrayOf(str, 2, 0, nil, offsets(0, 9, 3), make([]byte, 9))},
		{"a negative offset", arrow.Field{Name: "title", Type: str}, arrayOf(str, 2, 0, nil, offsets(-1, 0, 3), make([]byte, 9))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := NewEncoder(testLayout(t)).Reset(replaced(t, tt.field.Name, tt.field, tt.a))
			if err == nil || !strings.Contains(err.Error(), "array is inconsistent") {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestSlicedRecordsAreReadFromTheirOffset(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(17, 18))
	var rows []testRow
	for range 60 {
		rows = append(rows, randomRow(rnd, l))
	}
	b := buildRows(t, l, rows...)
	e := NewEncoder(l)
	for from := 0; from < len(rows); from += 7 {
		slice := b.Record.NewSlice(int64(from), int64(len(rows)))
		if err := e.Reset(slice); err != nil {
			t.Fatal(err)
		}
		for i, r := range rows[from:] {
			if got, err := e.AppendRow(nil, i); err != nil || !bytes.Equal(got, r.wire()) {
				t.Fatalf("slice from %d, row %d: %v\n%x, want\n%x", from, i, err, got, r.wire())
			}
		}
	}
}

func TestRowsOutsideTheRecordAreRefused(t *testing.T) {
	e := NewEncoder(testLayout(t))
	if _, err := e.AppendRow(nil, 0); err == nil {
		t.Error("an Encoder without a record has a row")
	}
	if err := e.Reset(recordOf(t, `"__tsx":[],"__more":[]`)); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{-1, 1} {
		if _, err := e.AppendRow(nil, i); err == nil {
			t.Errorf("a record of one row has row %d", i)
		}
	}
	for _, from := range []int{-1, 1} {
		if _, _, err := e.AppendCells(nil, 0, from, 0, 0); err == nil {
			t.Errorf("a row without cells has cell %d", from)
		}
	}
}

// wideRow has n cells, in columns and in __more, some of several versions.
func wideRow(rnd *rand.Rand, l Layout, n int) testRow {
	r := testRow{key: goodKey()}
	for i := range n {
		r.cells = append(r.cells, testCell{fmt.Sprintf("w%06d", i/3), randomValue(rnd), int64(1000 - i)})
	}
	for _, c := range l.Columns {
		r.cells = append(r.cells, testCell{c.Name, valueOf(rnd, c.Type), 5 + rnd.Int64N(2)}, testCell{c.Name, randomValue(rnd), 3})
	}
	return r
}

func TestWideRowsComeInParts(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(19, 20))
	r := sorted(wideRow(rnd, l, 300))
	e := NewEncoder(l)
	if err := e.Reset(buildRows(t, l, cellsRow(), r).Record); err != nil {
		t.Fatal(err)
	}
	total := len(r.cells)
	if e.Cells(1) != total {
		t.Fatalf("row has %d cells, want %d", e.Cells(1), total)
	}
	for _, limit := range []struct{ cells, bytes int }{{0, 0}, {1, 0}, {7, 0}, {total, 0}, {total + 1, 0}, {0, 1}, {0, 200}, {0, 1000}, {5, 300}, {0, len(r.wire())}, {0, len(r.wire()) - 1}} {
		t.Run(fmt.Sprintf("%d cells, %d bytes", limit.cells, limit.bytes), func(t *testing.T) {
			for from := 0; from < total; {
				part, next, err := e.AppendCells([]byte("head"), 1, from, limit.cells, limit.bytes)
				if err != nil {
					t.Fatal(err)
				}
				if next <= from || next > total {
					t.Fatalf("from cell %d to cell %d", from, next)
				}
				want := testRow{r.key, r.cells[from:next]}.wire()
				if !bytes.Equal(part[4:], want) {
					t.Fatalf("cells %d to %d are\n%x, want\n%x", from, next, part[4:], want)
				}
				checkLimits(t, r, from, next, limit.cells, limit.bytes)
				from = next
			}
		})
	}
}

// checkLimits checks that a part is as large as it may be, and no larger.
func checkLimits(t *testing.T, r testRow, from, next, maxCells, maxBytes int) {
	t.Helper()
	size := func(to int) int { return len(testRow{r.key, r.cells[from:to]}.wire()) }
	fits := func(to int) bool {
		return (maxCells == 0 || to-from <= maxCells) && (maxBytes == 0 || size(to) <= maxBytes)
	}
	if next > from+1 && !fits(next) {
		t.Errorf("cells %d to %d are too many: %d bytes", from, next, size(next))
	}
	if next < len(r.cells) && fits(next+1) {
		t.Errorf("cells %d to %d are too few: %d bytes", from, next, size(next))
	}
}

func TestPartsNeedNotBeConsecutive(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(21, 22))
	a, b := sorted(wideRow(rnd, l, 50)), sorted(wideRow(rnd, l, 60))
	rows := []testRow{a, b}
	e := NewEncoder(l)
	if err := e.Reset(buildRows(t, l, a, b).Record); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		i := rnd.IntN(2)
		from, n := rnd.IntN(len(rows[i].cells)), 1+rnd.IntN(5)
		got, next, err := e.AppendCells(nil, i, from, n, 0)
		if err != nil {
			t.Fatal(err)
		}
		if want := (testRow{rows[i].key, rows[i].cells[from:next]}).wire(); !bytes.Equal(got, want) {
			t.Fatalf("row %d, cells %d to %d are\n%x, want\n%x", i, from, next, got, want)
		}
	}
}

func TestTheLastPartOfARowWithoutCellsIsItsKey(t *testing.T) {
	l := testLayout(t)
	e := NewEncoder(l)
	if err := e.Reset(buildRows(t, l, cellsRow()).Record); err != nil {
		t.Fatal(err)
	}
	got, next, err := e.AppendCells(nil, 0, 0, 1024, 4<<20)
	if err != nil || next != 0 || !bytes.Equal(got, cellsRow().wire()) {
		t.Errorf("got %x, next %d, %v", got, next, err)
	}
}

func TestKeysOfRowsAreThoseOfTheWire(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(23, 24))
	e := NewEncoder(l)
	for range 100 {
		r := randomRow(rnd, l)
		if err := e.Reset(buildRows(t, l, r).Record); err != nil {
			t.Fatal(err)
		}
		want := mustParseKey(t, testKey, keyRow(r.key...))
		if got := e.AppendKey([]byte("head"), 0); !bytes.Equal(got[4:], want) {
			t.Fatalf("key is %x, want %x", got[4:], want)
		}
	}
}

func TestEncodingAllocatesNothing(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(25, 26))
	var rows []testRow
	for range 100 {
		rows = append(rows, randomRow(rnd, l))
	}
	e := NewEncoder(l)
	if err := e.Reset(buildRows(t, l, rows...).Record); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 1<<20)
	allocs := testing.AllocsPerRun(20, func() {
		for i := range rows {
			if _, err := e.AppendRow(buf, i); err != nil {
				t.Fatal(err)
			}
			e.AppendKey(buf, i)
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations for %d rows", allocs, len(rows))
	}
}
