package row

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/manifest"
)

// whereKey and whereRow are what the filters of these tests are about.
var whereKey = []manifest.KeyColumn{{Name: "id", Type: manifest.Integer}, {Name: "Kind", Type: manifest.String}, {Name: "raw", Type: manifest.Binary}}

func whereRow() *Row {
	cell := func(name string, v Value) Cell { return Cell{Name: name, Version: 7, Value: v} }
	return &Row{
		Key: []Value{IntegerValue(7), StringValue("it's"), BinaryValue([]byte{0, 0xff})},
		Cells: []Cell{
			cell("big", IntegerValue(1<<53+1)), cell("blob", BinaryValue([]byte{1, 2, 3})), cell("empty", StringValue("")),
			cell("half", DoubleValue(0.5)), cell("huge", DoubleValue(1e19)), cell("id", StringValue("hidden by the key")),
			cell("last", IntegerValue(math.MaxInt64)), cell("name", StringValue("München 100%")),
			cell("nan", DoubleValue(math.NaN())), cell("not", IntegerValue(1)), cell(`odd "name"`, IntegerValue(2)),
			cell("off", Value{kind: boolean}), cell("on", Value{kind: boolean, num: 1}),
			cell("price", IntegerValue(12)), {Name: "price", Version: 6, Value: StringValue("older")},
			cell("text", StringValue("abc")), cell("two", DoubleValue(2)), cell("zero", DoubleValue(math.Copysign(0, -1))),
		},
	}
}

func TestFiltersMatch(t *testing.T) {
	for text, want := range map[string]bool{
		// Numbers, whichever type they have.
		"price = 12": true, "price = 12.0": true, "price = 1.2e1": true, "price <> 12": false, "price != 13": true,
		"price < 12.5": true, "price > 11.5": true, "price >= 12": true, "price <= 11.999": false,
		"two = 2": true, "half > 0": true, "half < 1": true, "half = 0": false, "half >= -1": true,
		"big = 9007199254740993": true, "big = 9007199254740992.0": false, "big > 9007199254740992.0": true,
		"huge > 9223372036854775807": true, "huge > -9223372036854775808": true,
		"last < 9223372036854775807.0": true, "last = 9223372036854775807.0": false, "last = +9223372036854775807": true,
		"zero = 0": true, "zero = 0.0": true, "zero < 0": false,
		"nan = 0": false, "nan != 0": false, "nan < 1e308": false, "nan >= 0": false, "exists nan": true,
		// Other types.
		"text = 'abc'": true, "text < 'abd'": true, "text > 'ab'": true, "text = 'ABC'": false, "empty = ''": true,
		"text = x'616263'": false, "text != x'616263'": false, "blob = x'010203'": true, "blob = X'010203'": true, "blob > x'01'": true,
		"on = true": true, "on = 1": false, "off < TRUE": true, "off = false": true, "text != 12": false,
		// The newest version, and cells that are absent.
		"price = 'older'": false, "exists price": true, "exists none": false, "none = 1": false, "none != 1": false,
		"not (none = 1)": true, "none is null": true, "price is null": false, "price is not null": true,
		// Keys come first.
		"id = 7": true, "id = 7.0": true, "id is null": false, "Kind = 'it''s'": true, "kind = 'it''s'": false, "raw prefix x'00'": true,
		// in, like, prefix.
		"price in (1, 12)": true, "price in (11.0, 12.0)": true, "price in ('12')": false, "price in (1)": false,
		"name like 'M_nchen%'": true, "name like 'M__nchen%'": false, "name like '%100%'": true, "name like 'München'": false,
		"name like '%'": true, "price like '%'": false, "empty like ''": true, "empty like '_'": false,
		"text like '%b_'": true, "text like '_b'": false, "text like '%%c'": true, "text like '%_%_%_%_%'": false,
		"name like '%_ü%'": true, "name like '_%_%ü%'": false, "text like 'ab'": false,
		"name prefix 'M_'": false, "text prefix 'ab'": true, "text prefix ''": true, "text prefix 'bc'": false,
		"blob prefix x'0102'": true, "blob prefix '\x01'": false, "text prefix x'61'": false,
		// and before or, not before both.
		"price = 1 and price = 2 or price = 12": true, "price = 12 or price = 1 and price = 2": true,
		"(price = 12 or price = 1) and price = 2": false, "not price = 1 and price = 12": true,
		"not (price = 1 or price = 12)": false, "not not price = 12": true, "NOT EXISTS none AND Exists text": true,
		// Names in quotes.
		`"odd ""name""" = 2`: true, `"not" = 1`: true, `"price"=12`: true,
	} {
		f, err := ParseFilter(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := f.Match(whereKey, whereRow()); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestNoFilterTakesAll(t *testing.T) {
	var none *Filter
	if !none.Match(whereKey, whereRow()) || !new(Filter).Match(whereKey, whereRow()) || none.String() != "" || none.Check(whereKey) != nil {
		t.Error("a filter that is none refuses a row")
	}
	if r := none.Keys(whereKey); r.From != nil || r.To != nil {
		t.Errorf("its keys are %v", r)
	}
}

func TestFiltersThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "character 1: want a name, not the end",
		"price":                           "character 6: want = != < <= > >= in like prefix or is, not the end",
		"price =":                         "character 8: want a literal: 12, 1.5, 'text', true, x'00ff', not the end",
		"price = = 3":                     `character 9: want a literal: 12, 1.5, 'text', true, x'00ff', not "="`,
		"price == 3":                      `character 8: want a literal`,
		"price = null":                    "character 9: nothing equals null; want name is null, or a literal",
		"price = other":                   `character 9: want a literal: 12, 1.5, 'text', true, x'00ff', not "other"`,
		`price = "12"`:                    `character 9: want a literal: 12, 1.5, 'text', true, x'00ff', not "12"`,
		"12 = price":                      `character 1: want a name, not "12"`,
		"price = 12 price = 13":           `character 12: want and, or, or the end, not "price"`,
		"(price = 12":                     "character 12: want ), not the end",
		"price = 12)":                     `character 11: want and, or, or the end, not ")"`,
		"price in 12":                     `character 10: want (, not "12"`,
		"price in ()":                     `character 11: want a literal`,
		"price in (1, 2":                  "character 15: want ), not the end",
		"price not in (1)":                "character 7: want not in front of the name",
		"price is 12":                     `character 10: want null, not "12"`,
		"price like 12":                   `character 12: want a 'text' with % and _, not "12"`,
		"price prefix true":               `character 14: want 'text' or x'00ff', not "true"`,
		"name = 'Müller":                  "character 8: the quote ' is not closed",
		"name = 'Mü' and x":               "character 18: want =",
		`"" = 3`:                          "character 1: the name has 0 bytes, want 1 to 255",
		"price = x'0'":                    "character 9: want an even number of hex digits",
		"price = 9223372036854775808":     "character 9: 9223372036854775808 is no INTEGER of 64 bits",
		"price = 1e999":                   "character 9: 1e999 is no DOUBLE",
		"price = 1.2.3":                   "character 9: 1.2.3 is no DOUBLE",
		"price = -":                       "character 9: - is no INTEGER",
		"a ; b":                           `character 3: ';' is nothing a condition has`,
		"a.b = 1":                         `character 2: `,
		"not":                             "character 4: want a name, not the end",
		"and = 3":                         `character 1: want a name, not "and"`,
		strings.Repeat("(", 200):          "character 102: more than 100 conditions are nested",
		strings.Repeat("not ", 200):       "more than 100 conditions are nested",
		"a = 'x' or b = 'y' and c = \x00": `'\x00' is nothing`,
	} {
		if f, err := ParseFilter(text); err == nil || !strings.HasPrefix(err.Error(), "row: filter: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %s", text, f, err, want)
		}
	}
}

func TestFiltersAreWrittenInOneWay(t *testing.T) {
	for text, want := range map[string]string{
		"a=1AND(b<>2)":                "a = 1 and b != 2",
		"((a = 1 and b = 2) and c=3)": "a = 1 and b = 2 and c = 3",
		"a=1 or b=2 and c=3":          "a = 1 or b = 2 and c = 3",
		"(a=1 or b=2) and c=3":        "(a = 1 or b = 2) and c = 3",
		"not (a=1)":                   "not a = 1",
		"not(a=1 or a=2)":             "not (a = 1 or a = 2)",
		"a is null or a is not null":  "not exists a or exists a",
		`"a" = 1 or "in" = 1.0`:       `a = 1 or "in" = 1.0`,
		`"a ""b""" > 'it''s'`:         `"a ""b""" > 'it''s'`,
		"a in(1,'x',X'FF',TRUE)":      "a in (1, 'x', x'ff', true)",
		"a > -0.0 and a < 1E+300":     "a > -0.0 and a < 1e+300",
		"a > .5 and a < 5.":           "a > 0.5 and a < 5.0",
		"a like '%' or a prefix ''":   "a like '%' or a prefix ''",
	} {
		f, err := ParseFilter(text)
		if err != nil || f.String() != want {
			t.Errorf("%s is written %v, %v; want %s", text, f, err, want)
		}
	}
}

func TestKeysOfFilters(t *testing.T) {
	id := func(n int64) manifest.Key { return AppendKey(nil, IntegerValue(n)) }
	kind := func(k manifest.Key, s string) manifest.Key { return AppendKey(slices.Clone(k), StringValue(s)) }
	all := manifest.Range{}
	one := func(k manifest.Key) manifest.Range { return manifest.Range{From: k, To: Following(k)} }
	for text, want := range map[string]manifest.Range{
		"id = 7":                                one(id(7)),
		"id = 7 and price = 3":                  one(id(7)),
		"id = 7 or price = 3":                   all,
		"not id = 7":                            all,
		"id = 7.0":                              all,
		"id != 7":                               all,
		"exists id":                             all,
		"Kind = 'a'":                            all,
		"id >= 3 and id < 9":                    {From: id(3), To: id(9)},
		"id > 3 and id <= 9":                    {From: id(3), To: id(10)},
		"id in (9, 3, 5)":                       {From: id(3), To: id(10)},
		"id = 9 or (id = 3 and price = 1)":      {From: id(3), To: id(10)},
		"id = 7 and Kind = 'a'":                 one(kind(id(7), "a")),
		"Kind = 'a' and id = 7 and raw > x'05'": {From: AppendKey(kind(id(7), "a"), BinaryValue([]byte{5})), To: Following(kind(id(7), "a"))},
		"id = 7 and Kind >= 'a' and Kind < 'b'": {From: kind(id(7), "a"), To: kind(id(7), "b")},
		"id = 7 and Kind prefix 'ab'":           {From: append(id(7), "ab"...), To: append(id(7), "ac"...)},
		"id = 7 and Kind like 'ab%_'":           {From: append(id(7), "ab"...), To: append(id(7), "ac"...)},
		"id = 7 and Kind like 'ab'":             one(kind(id(7), "ab")),
		"id = 7 and Kind like '%ab'":            one(id(7)),
		"id = 7 and Kind = 'a' and raw = x'00'": one(AppendKey(kind(id(7), "a"), BinaryValue([]byte{0}))),
	} {
		f, err := ParseFilter(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Keys(whereKey); !slices.Equal(got.From, want.From) || !slices.Equal(got.To, want.To) {
			t.Errorf("%s: keys from %v to %v, want %v to %v", text, got.From, got.To, want.From, want.To)
		}
	}
	f, err := ParseFilter("id > 9 and id < 3")
	if r := f.Keys(whereKey); err != nil || slices.Compare(r.From, r.To) < 0 {
		t.Errorf("%v: keys from %v to %v, want none", f, r.From, r.To)
	}
}

func TestFiltersAgainstTheKeysTypes(t *testing.T) {
	for text, want := range map[string]string{
		"id = 7.5 or Kind like '%' and raw prefix x'' or name = 3": "",
		"id in (1, 'x')":               "the key column id is INTEGER, and 'x' is STRING",
		"not (price = 3 and raw = '')": "the key column raw is BINARY, and '' is STRING",
		"Kind > 12":                    "the key column Kind is STRING, and 12 is INTEGER",
	} {
		f, err := ParseFilter(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Check(whereKey); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// FuzzParseFilter parses anything. What is a filter is written so that it reads
// the same again, and decides the same.
func FuzzParseFilter(f *testing.F) {
	for _, text := range []string{
		"a = 1 and not (b <> 'it''s' or c in (1.5, x'00ff', true)) or exists d",
		`"odd ""name""" like '%a_' and id >= -7 and Kind prefix 'it' or raw is null`,
		"not not a is not null", "price = 12", "(((a=1)))", "a < 1e300 or a > -.5",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, err := ParseFilter(text)
		if err != nil {
			return
		}
		again, err := ParseFilter(first.String())
		if err != nil {
			t.Fatalf("%q is written %q: %v", text, first, err)
		}
		if first.String() != again.String() {
			t.Fatalf("%q is written %q, and that %q", text, first, again)
		}
		r := whereRow()
		match := first.Match(whereKey, r)
		if again.Match(whereKey, r) != match {
			t.Fatalf("%q and %q decide differently", text, again)
		}
		var key manifest.Key
		for _, v := range r.Key {
			key = AppendKey(key, v)
		}
		within := first.Keys(whereKey)
		if inside := slices.Compare(within.From, key) <= 0 && (len(within.To) == 0 || slices.Compare(key, within.To) < 0); match && !inside {
			t.Fatalf("%q matches a key outside of %v to %v", text, within.From, within.To)
		}
	})
}
