package archive_test

import (
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/row"
)

// chunkFiles writes each group of batches as a chunk and returns a pattern that
// matches the files.
func chunkFiles(t *testing.T, groups ...[]row.Batch) string {
	t.Helper()
	at := t.TempDir()
	for i, group := range groups {
		data, _ := write(t, orders(t), group...)
		if err := os.WriteFile(filepath.Join(at, fmt.Sprintf("r0000-%06d.parquet", i)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(at, "*.parquet")
}

func TestDuckDBReadsEveryValue(t *testing.T) {
	all := batches(t, 900, 300, 700)
	pattern := chunkFiles(t, all[:2], all[2:])
	got := archivetest.DuckDB(t, fmt.Sprintf(`
		select customer, id, hex(part), country, note, paid, hex(photo), price, quantity, __ts,
			list_transform(__tsx, lambda e: e.name || '@' || e.ts),
			list_transform(__more, lambda e: e.name || '@' || e.ts || '=' || coalesce(e.i::varchar, e.d::varchar, e.b::varchar, e.s, hex(e.x)))
		from '%s' order by id`, pattern))
	n := 0
	for _, b := range all {
		for i := range int(b.Record.NumRows()) {
			want := strings.Join(printed(b.Record, i), " | ")
			if n >= len(got) || strings.Join(got[n], " | ") != want {
				t.Fatalf("row %d is\n%v\nwant\n%v", n, got[n:min(n+1, len(got))], want)
			}
			n++
		}
	}
	if n != len(got) {
		t.Errorf("DuckDB sees %d rows, want %d", len(got), n)
	}
}

// printed returns row i as DuckDB prints it.
func printed(rec arrow.RecordBatch, i int) []string {
	var texts []string
	for _, column := range rec.Columns() {
		texts = append(texts, printedValue(column, i))
	}
	return texts
}

func printedValue(column arrow.Array, i int) string {
	if column.IsNull(i) {
		return "NULL"
	}
	switch a := column.(type) {
	case *array.String:
		return a.Value(i)
	case *array.Binary:
		return strings.ToUpper(hex.EncodeToString(a.Value(i)))
	case *array.Float64:
		return printedDouble(a.Value(i))
	case *array.List:
		return printedList(a, i)
	}
	return column.ValueStr(i)
}

func printedDouble(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case f == 0:
		return "0" // as JavaScript prints -0
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// printedList returns the entries of __tsx as 'name@ts', and those of __more as
// 'name@ts=value'.
func printedList(list *array.List, i int) string {
	entries := list.ListValues().(*array.Struct)
	from, to := list.ValueOffsets(i)
	var texts []string
	for j := int(from); j < int(to); j++ {
		text := entries.Field(0).ValueStr(j) + "@" + entries.Field(1).ValueStr(j)
		for f := 2; f < entries.NumField(); f++ {
			if value := entries.Field(f); !value.IsNull(j) {
				text += "=" + printedValue(value, j)
			}
		}
		texts = append(texts, "'"+text+"'")
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

func TestDuckDBAnswersQuestions(t *testing.T) {
	all := batches(t, 5000, 5000)
	pattern := chunkFiles(t, all[:1], all[1:])
	perCountry := map[string]int64{}
	var quantity, cells int64
	for _, b := range all {
		countries, quantities := b.Record.Column(3).(*array.String), b.Record.Column(8).(*array.Int64)
		for i := range int(b.Record.NumRows()) {
			if countries.IsValid(i) {
				perCountry[countries.Value(i)]++
			}
			if quantities.IsValid(i) {
				quantity += quantities.Value(i)
			}
			for c := 3; c < 9; c++ {
				if b.Record.Column(c).IsValid(i) {
					cells++
				}
			}
		}
	}
	var want [][]string
	for country, n := range perCountry {
		want = append(want, []string{country, strconv.FormatInt(n, 10)})
	}
	slices.SortFunc(want, slices.Compare)
	got := archivetest.DuckDB(t, "select country, count(*) from '"+pattern+"' where country is not null group by all order by country")
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("countries are %v, want %v", got, want)
	}
	got = archivetest.DuckDB(t, `select count(*), sum(quantity), count(country)+count(note)+count(paid)+count(photo)+count(price)+count(quantity) from '`+pattern+`'`)
	if want := [][]string{{"10000", fmt.Sprint(quantity), fmt.Sprint(cells)}}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("rows, quantity and cells are %v, want %v", got, want)
	}
	// Statistics must not hide a row that is there, nor show one that is not.
	var lookups []string
	for _, id := range []int{-1001, -1000, 0, 3999, 4000, 8999, 9000} {
		lookups = append(lookups, fmt.Sprintf("select %d, (select count(*) from '%s' where customer = 'customer-%06d' and id = %d)", id, pattern, (id+1000)/7, id))
	}
	got = archivetest.DuckDB(t, strings.Join(lookups, " union all ")+" order by 1")
	if want := "[[-1001 0] [-1000 1] [0 1] [3999 1] [4000 1] [8999 1] [9000 0]]"; fmt.Sprint(got) != want {
		t.Errorf("orders are found %v times, want %s", got, want)
	}
}

func TestDuckDBTellsZeroFromMinusZero(t *testing.T) {
	var rows [][]byte
	for i, v := range []float64{math.Copysign(0, -1), 0} {
		key := []cell{{name: "customer", value: "c"}, {name: "id", value: int64(i)}, {name: "part", value: []byte{}}}
		rows = append(rows, wire(key, []cell{{"price", v, 1}}))
	}
	pattern := chunkFiles(t, []row.Batch{batch(t, orders(t), rows...)})
	got := archivetest.DuckDB(t, "select id, price, signbit(price) from '"+pattern+"' order by id")
	if want := "[[0 0 true] [1 0 false]]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestDuckDBSeesTheFooter(t *testing.T) {
	pattern := chunkFiles(t, batches(t, 10, 10))
	got := archivetest.DuckDB(t, "select decode(key), decode(value) from parquet_kv_metadata('"+pattern+"')")
	want := [][]string{
		{"otsnap.format", "1"}, {"otsnap.table", "orders"}, {"otsnap.snapshot", testMeta.Snapshot}, {"otsnap.key", "customer,id,part"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("metadata is %v, want %v", got, want)
	}
	got = archivetest.DuckDB(t, "select created_by, num_rows, num_row_groups, format_version from parquet_file_metadata('"+pattern+"')")
	if want := "[[otsnap version 1 20 2 2]]"; fmt.Sprint(got) != want {
		t.Errorf("file metadata is %v, want %v", got, want)
	}
}
