package archive_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// read returns the rows of a selection. Each must be one a Builder would make.
func read(t testing.TB, data []byte, l row.Layout, c manifest.Chunk, s archive.Selection) ([]row.Row, error) {
	t.Helper()
	var rows []row.Row
	e := row.NewEncoder(l)
	for rec, err := range archive.ReadSelection(t.Context(), data, l, c, s) {
		if err != nil {
			return rows, err
		}
		if !rec.Schema().Equal(l.Schema()) {
			t.Fatalf("schema is\n%v\nwant\n%v", rec.Schema(), l.Schema())
		}
		if err := e.Reset(rec); err != nil {
			t.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			var r row.Row
			if err := e.Read(&r, i); err != nil {
				t.Fatal(err)
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// keyOf returns the key of a row.
func keyOf(r row.Row) manifest.Key {
	key := manifest.Key{}
	for _, v := range r.Key {
		key = row.AppendKey(key, v)
	}
	return key
}

// selected returns what a selection is to have, by going through all rows, and tells
// LeftOut of each row that is left out.
func selected(l row.Layout, all []row.Row, s archive.Selection) []row.Row {
	var rows []row.Row
	for _, r := range all {
		key := keyOf(r)
		if !archive.Contains(s.Within, key) || !s.Where.Match(l.Key, &r) {
			continue
		}
		if s.Without.Has(key) {
			s.LeftOut(1)
			continue
		}
		cells := slices.Clone(r.Cells)
		if len(s.Columns) > 0 {
			cells = slices.DeleteFunc(cells, func(c row.Cell) bool {
				return !slices.ContainsFunc(s.Columns, func(glob string) bool {
					match, _ := path.Match(glob, c.Name)
					return match
				})
			})
		}
		rows = append(rows, row.Row{Key: r.Key, Cells: cells})
	}
	return rows
}

func equalRows(a, b []row.Row) bool {
	return slices.EqualFunc(a, b, func(x, y row.Row) bool {
		return slices.Equal(x.Key, y.Key) && slices.Equal(x.Cells, y.Cells)
	})
}

// randomFilter returns a filter on the table of orders whose literals are often
// values there are.
func randomFilter(rnd *rand.Rand, all []row.Row, depth int) string {
	if depth > 0 && rnd.IntN(2) == 0 {
		part := func() string { return "(" + randomFilter(rnd, all, depth-1) + ")" }
		switch rnd.IntN(3) {
		case 0:
			return part() + " and " + part()
		case 1:
			return part() + " or " + part()
		default:
			return "not " + part()
		}
	}
	name := pick(rnd, "customer", "id", "part", "country", "note", "paid", "photo", "price", "quantity", "extra", "never")
	literal := func() string {
		r := all[rnd.IntN(len(all))]
		if i := slices.Index([]string{"customer", "id", "part"}, name); i >= 0 && rnd.IntN(4) > 0 {
			return literalOf(r.Key[i])
		}
		if i := slices.IndexFunc(r.Cells, func(c row.Cell) bool { return c.Name == name }); i >= 0 && rnd.IntN(4) > 0 {
			return literalOf(r.Cells[i].Value)
		}
		return pick(rnd, "0", "-3", "1.25", "4.5", "9", "1e300", "'customer-000002'", "'n'", "'DE'", "''", "true", "false", "x''", "x'00'", "x'ff00ff00'", "'a string where doubles are'")
	}
	switch rnd.IntN(6) {
	case 0:
		return name + " in (" + literal() + ", " + literal() + ")"
	case 1:
		return name + " like '" + pick(rnd, "customer-00000%", "%1", "n_n%", "D_", "DE", "%", "", "a string%") + "'"
	case 2:
		return name + " prefix " + pick(rnd, "'customer-00000'", "'n'", "x'ff'", "x'0003'", "''", "x''", "'U'")
	case 3:
		return pick(rnd, "exists "+name, name+" is null", name+" is not null")
	default:
		return name + " " + pick(rnd, "=", "!=", "<", "<=", ">", ">=", "<>") + " " + literal()
	}
}

func pick(rnd *rand.Rand, of ...string) string { return of[rnd.IntN(len(of))] }

// literalOf writes a value as a filter has it.
func literalOf(v row.Value) string {
	text := string(v.AppendText(nil))
	switch v.Type() {
	case manifest.String:
		return "'" + strings.ReplaceAll(text, "'", "''") + "'"
	case manifest.Binary:
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			panic(err)
		}
		return fmt.Sprintf("x'%x'", raw)
	case manifest.Double:
		if strings.ContainsAny(text, "IN") {
			return "1e308"
		}
	}
	return text
}

// TestSelectionsAreWhatGoingThroughAllRowsGives compares, for many selections,
// what is read with what is left of all rows. Row groups are small, so that many
// are ruled out by what the footer tells.
func TestSelectionsAreWhatGoingThroughAllRowsGives(t *testing.T) {
	l := orders(t)
	sizes := []int{1, 2, 1, 5, 9, 1, 1, 20, 60, 3, 1, 2}
	data, c := write(t, l, batches(t, sizes...)...)
	all, err := read(t, data, l, c, archive.Selection{})
	if err != nil || len(all) != 106 {
		t.Fatalf("%d rows, %v", len(all), err)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	filters := 800
	if testing.Short() {
		filters = 150
	}
	some := 0
	for range filters {
		s := randomSelection(t, rnd, l, all)
		var left, leftOut int64
		s.LeftOut = func(rows int64) { left += rows }
		want := selected(l, all, s)
		s.LeftOut = func(rows int64) { leftOut += rows }
		got, err := read(t, data, l, c, s)
		if left != leftOut {
			t.Fatalf("where %v, within %x to %x: %d rows left out, want %d", s.Where, []byte(s.Within.From), []byte(s.Within.To), leftOut, left)
		}
		if err != nil || !equalRows(got, want) {
			t.Fatalf("where %v, columns %q, within %x to %x: %d rows, %v; want %d\n%v\n%v", s.Where, s.Columns, []byte(s.Within.From), []byte(s.Within.To), len(got), err, len(want), got, want)
		}
		if len(got) > 0 && len(got) < len(all) {
			some++
		}
	}
	if some < filters/4 {
		t.Errorf("only %d of %d selections tell anything", some, filters)
	}
}

func randomSelection(t testing.TB, rnd *rand.Rand, l row.Layout, all []row.Row) archive.Selection {
	t.Helper()
	var s archive.Selection
	if rnd.IntN(8) > 0 {
		text := randomFilter(rnd, all, 3)
		var err error
		if s.Where, err = row.ParseFilter(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if s.Where.Check(l.Key) != nil {
			s.Where = nil
		}
	}
	if rnd.IntN(3) == 0 {
		s.Columns = [][]string{{"p*"}, {"price"}, {"country", "extra"}, {"never"}, {"*e*"}, {"quantity", "note", "paid"}}[rnd.IntN(6)]
	}
	if rnd.IntN(3) == 0 {
		bound := func() manifest.Key {
			var key manifest.Key
			for _, v := range all[rnd.IntN(len(all))].Key {
				key = row.AppendKey(key, v)
			}
			return key[:rnd.IntN(len(key)+1)]
		}
		s.Within = manifest.Range{From: bound(), To: bound()}
	}
	if rnd.IntN(3) == 0 {
		var starts []manifest.Key
		for range rnd.IntN(20) {
			key := keyOf(all[rnd.IntN(len(all))])
			starts = append(starts, key[:len(key)-rnd.IntN(2)*rnd.IntN(len(key))])
		}
		s.Without = archive.NewKeySet(starts)
	}
	return s
}

// TestWhatCannotMatchIsNotDecoded breaks parts of a chunk in a way that only
// decoding them can notice.
func TestWhatCannotMatchIsNotDecoded(t *testing.T) {
	l := orders(t)
	var all []row.Batch
	for i := range 3 {
		all = append(all, batch(t, l, wire(
			[]cell{{name: "customer", value: "c"}, {name: "id", value: int64(i)}, {name: "part", value: []byte{}}},
			[]cell{{"country", "DE", 5}, {"quantity", int64(10 * i), 5}, {"quantity", int64(99), 4}, {"note", strings.Repeat("n", 100) + fmt.Sprint(i), 5}, {"question", fmt.Sprint(i), 5}},
		)))
	}
	data, c := write(t, l, all...)
	for _, tt := range []struct {
		where, columns string
		group          int    // the one broken
		column         string // of it
		read           bool   // whether that is noticed
	}{
		{"quantity = 20", "", 0, "country", false},
		{"quantity = 20", "", 0, "quantity", false},
		{"quantity = 20", "", 2, "country", true},
		{"quantity < 5.5", "", 1, "country", false},
		{"not (quantity >= 10)", "", 2, "customer", false},
		{"quantity = 10 or country = 'FR'", "", 0, "customer", false},
		{"quantity = 99", "", 0, "customer", false}, // an older version
		{"question = '1'", "", 0, "customer", true}, // in __more, whose values have no bounds
		{"zz = '1'", "", 0, "customer", false},      // no cell there has the name
		{"id = 1", "", 0, "customer", false},
		{"id in (0, 2)", "", 1, "customer", false},
		{"exists paid", "", 0, "customer", false},
		{"exists paid", "", 0, "note", false},
		{"quantity = 5 and note != 'x'", "", 0, "customer", false},
		{"note like '%2'", "", 0, "country", false}, // decoded to decide, and no more
		{"note like '%2'", "", 0, "note", true},
		{"note = 'o'", "", 0, "customer", false},
		{"country = 'DE'", "note", 0, "quantity", false},
		{"country = 'DE'", "note", 0, "note", true},
		{"", "note", 1, "country", false},
	} {
		var where *row.Filter
		if tt.where != "" {
			var err error
			if where, err = row.ParseFilter(tt.where); err != nil {
				t.Fatal(err)
			}
		}
		s := archive.Selection{Where: where}
		if tt.columns != "" {
			s.Columns = strings.Split(tt.columns, ",")
		}
		broken := breakColumn(t, data, tt.group, tt.column)
		_, err := read(t, broken, l, passing(c, broken), s)
		if errors.Is(err, archive.ErrCorrupt) != tt.read || err != nil && !tt.read {
			t.Errorf("where %s, columns %s, with %s of group %d broken: %v", tt.where, tt.columns, tt.column, tt.group, err)
		}
	}
}

// TestWhatFootersDoNotTell reads rows of values that the bounds in a footer leave
// out.
func TestWhatFootersDoNotTell(t *testing.T) {
	l := orders(t)
	key := []cell{{name: "customer", value: "c"}, {name: "id", value: int64(1)}, {name: "part", value: []byte{}}}
	long := strings.Repeat("n", 5000) // a footer names values up to 4096 bytes
	for where, cells := range map[string][]cell{
		"not price < 5":                  {{"price", math.NaN(), 5}},
		"not price >= -5":                {{"price", math.NaN(), 5}},
		"price is not null":              {{"price", math.NaN(), 5}},
		"note > 'a'":                     {{"note", long, 5}},
		"note like 'nn%'":                {{"note", long, 5}},
		"photo prefix x'6e6e'":           {{"photo", []byte(long), 5}},
		"more prefix 'nn'":               {{"more", long, 5}},
		"price = 0 and price >= 0":       {{"price", math.Copysign(0, -1), 5}},
		"price <= -1e308":                {{"price", math.Inf(-1), 5}},
		"price > 1.7976931348623157e308": {{"price", math.Inf(1), 5}},
		"price = 7":                      {{"price", int64(7), 5}, {"price", 1.5, 4}},
		"quantity = 'x'":                 {{"quantity", "x", 5}},
		"note = ''":                      {{"note", "", 5}},
	} {
		data, c := write(t, l, batch(t, l, wire(key, cells)))
		rows, err := read(t, data, l, c, archive.Selection{Where: mustFilter(t, where)})
		if err != nil || len(rows) != 1 {
			t.Errorf("%s: %d rows, %v", where, len(rows), err)
		}
	}
}

// breakColumn returns the chunk with all bytes of one column of a group changed.
func breakColumn(t testing.TB, data []byte, group int, column string) []byte {
	t.Helper()
	f, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	i := f.MetaData().Schema.ColumnIndexByName(column)
	c, err := f.MetaData().RowGroup(group).ColumnChunk(i)
	if err != nil {
		t.Fatal(err)
	}
	start := c.DataPageOffset()
	if c.HasDictionaryPage() {
		start = c.DictionaryPageOffset()
	}
	broken := bytes.Clone(data)
	for i := range c.TotalCompressedSize() {
		broken[start+i] ^= 0xff
	}
	return broken
}

// TestOneRowTakesOneGroup reads each row by its key out of groups that share
// values of the first key columns, and breaks all groups but the one it is in.
func TestOneRowTakesOneGroup(t *testing.T) {
	l := orders(t)
	data, c := write(t, l, batches(t, 3, 4, 5, 2, 1, 9, 6)...) // 7 rows have the same customer
	all, err := read(t, data, l, c, archive.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	broken := map[int][]byte{} // by the group that is whole
	group, left := 0, 3
	sizes := []int{3, 4, 5, 2, 1, 9, 6}
	for _, want := range all {
		if left == 0 {
			group++
			left = sizes[group]
		}
		left--
		if broken[group] == nil {
			broken[group] = data
			for other := range sizes {
				if other < group || other > group+1 { // of the one behind, the first key may be looked at
					broken[group] = breakColumn(t, broken[group], other, "customer")
				}
			}
		}
		var key manifest.Key
		for _, v := range want.Key {
			key = row.AppendKey(key, v)
		}
		got, err := read(t, broken[group], l, passing(c, broken[group]), archive.Selection{Within: manifest.Range{From: key, To: row.Following(key)}})
		if err != nil || !equalRows(got, []row.Row{want}) {
			t.Errorf("key %v of group %d: %d rows, %v", want.Key, group, len(got), err)
		}
	}
}

func TestSelectionsThatAreNoneAreRefused(t *testing.T) {
	l := orders(t)
	data, c := write(t, l, batches(t, 5)...)
	for _, s := range []archive.Selection{
		{Columns: []string{"[a"}},
		{Columns: []string{""}},
		{Where: mustFilter(t, "id = 'text'")},
		{Where: mustFilter(t, "not (exists note or customer prefix x'00')")},
	} {
		if _, err := read(t, data, l, c, s); err == nil || errors.Is(err, archive.ErrCorrupt) {
			t.Errorf("where %v, columns %q: %v", s.Where, s.Columns, err)
		}
	}
}

func mustFilter(t testing.TB, text string) *row.Filter {
	t.Helper()
	f, err := row.ParseFilter(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestSelectedBytesAreThose compares rows byte by byte.
func TestSelectedBytesAreThose(t *testing.T) {
	l := orders(t)
	data, c := write(t, l, batches(t, 40, 40)...)
	all := rebuilt(t, data, l, c)
	want := slices.DeleteFunc(slices.Clone(all), func(wire string) bool { return !strings.Contains(wire, "6578747261") }) // extra
	var got []string
	e := row.NewEncoder(l)
	for rec, err := range archive.ReadSelection(t.Context(), data, l, c, archive.Selection{Where: mustFilter(t, "exists extra")}) {
		if err == nil {
			err = e.Reset(rec)
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			wire, err := e.AppendRow(nil, i)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%x", wire))
		}
	}
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("rows are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// FuzzReadSelection reads parts of files that have passed every hash. Whatever
// they are, reading ends, with rows that can be read or with ErrCorrupt.
func FuzzReadSelection(f *testing.F) {
	l := orders(f)
	all := batches(f, 3, 2)
	compressed, c := write(f, l, all...)
	plain := forgery{records: []arrow.RecordBatch{all[0].Record, all[1].Record}}.make(f)
	for _, data := range [][]byte{compressed, plain} {
		f.Add(data, "quantity > 3 or extra is null", "", []byte(nil), []byte(nil))
		f.Add(data, "price = 3.5 and not (id < -997)", "p*", []byte(c.First), []byte(nil))
		f.Add(data, "", "note", []byte("customer-000000"), []byte(c.Last))
	}
	f.Fuzz(func(t *testing.T, data []byte, where, column string, from, to []byte) {
		s := archive.Selection{Within: manifest.Range{From: from, To: to}}
		if s.Where, _ = row.ParseFilter(where); column != "" {
			s.Columns = []string{column}
		}
		if s.Check(l.Key) != nil {
			return
		}
		rows := int64(0)
		e := row.NewEncoder(l)
		var r row.Row
		for rec, err := range archive.ReadSelection(t.Context(), data, l, passing(c, data), s) {
			if err != nil {
				if !errors.Is(err, archive.ErrCorrupt) {
					t.Fatalf("got %v, want ErrCorrupt", err)
				}
				return
			}
			rows += rec.NumRows()
			for i := range int(rec.NumRows()) {
				if e.Reset(rec) == nil { // what is whole is handed on as it is
					_ = e.Read(&r, i)
				}
			}
		}
		if rows > c.Rows {
			t.Fatalf("%d rows, signed are %d", rows, c.Rows)
		}
	})
}

// TestRowsAreLeftOut leaves out rows at the ends of a chunk and of its row groups, and
// whole ones.
func TestRowsAreLeftOut(t *testing.T) {
	l := orders(t)
	data, c := write(t, l, batches(t, 3, 4, 5)...)
	all, err := read(t, data, l, c, archive.Selection{})
	if err != nil || len(all) != 12 {
		t.Fatalf("%d rows, %v", len(all), err)
	}
	for name, out := range map[string][]int{
		"the first": {0}, "the last": {11}, "both": {0, 11}, "where groups meet": {2, 3, 6, 7}, "a group": {3, 4, 5, 6},
		"every other": {0, 2, 4, 6, 8, 10}, "all but the first": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, "all": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11},
	} {
		t.Run(name, func(t *testing.T) {
			var starts []manifest.Key
			for _, i := range out {
				starts = append(starts, keyOf(all[i]))
			}
			left := int64(0)
			s := archive.Selection{Without: archive.NewKeySet(starts), LeftOut: func(rows int64) { left += rows }}
			if s.LeavesOut(c) {
				t.Error("single rows are taken for all there are")
			}
			var want []row.Row
			for i, r := range all {
				if !slices.Contains(out, i) {
					want = append(want, r)
				}
			}
			got, err := read(t, data, l, c, s)
			if err != nil || !equalRows(got, want) || left != int64(len(out)) {
				t.Errorf("%d rows, %d left out, %v", len(got), left, err)
			}
		})
	}
}

func TestAChunkIsLeftOutAsAWhole(t *testing.T) {
	at := func(first, last string) manifest.Chunk {
		return manifest.Chunk{First: manifest.Key(first), Last: manifest.Key(last)}
	}
	where, err := row.ParseFilter("a = 1")
	if err != nil {
		t.Fatal(err)
	}
	s := archive.Selection{Without: setOf("b")}
	for name, test := range map[string]struct {
		selection archive.Selection
		chunk     manifest.Chunk
		want      bool
	}{
		"inside":              {s, at("ba", "bz"), true},
		"one row":             {s, at("b", "b"), true},
		"begins before":       {s, at("a", "bz"), false},
		"ends behind":         {s, at("ba", "c"), false},
		"cells are chosen":    {archive.Selection{Without: setOf("b"), Columns: []string{"a"}}, at("ba", "bz"), true},
		"rows are chosen":     {archive.Selection{Without: setOf("b"), Where: where}, at("ba", "bz"), false},
		"keys are chosen":     {archive.Selection{Without: setOf("b"), Within: manifest.Range{From: manifest.Key("bb")}}, at("ba", "bz"), false},
		"keys around":         {archive.Selection{Without: setOf("b"), Within: manifest.Range{From: manifest.Key("b"), To: manifest.Key("c")}}, at("ba", "bz"), true},
		"nothing is left out": {archive.Selection{}, at("ba", "bz"), false},
	} {
		if got := test.selection.LeavesOut(test.chunk); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
