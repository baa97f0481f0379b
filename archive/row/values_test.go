package row

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/manifest"
)

func TestReadGivesWhatTheWireSays(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(51, 52))
	var rows []testRow
	for range 500 {
		rows = append(rows, randomRow(rnd, l))
	}
	e := NewEncoder(l)
	if err := e.Reset(buildRows(t, l, rows...).Record); err != nil {
		t.Fatal(err)
	}
	var got Row
	for i, r := range rows {
		want, err := Parse(r.canonical())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Read(&got, i); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Key, want.Key) || !slices.Equal(got.Cells, want.Cells) {
			t.Fatalf("row %d is\n%v, want\n%v", i, got, want)
		}
	}
	if err := e.Read(&got, len(rows)); err == nil {
		t.Error("a row past the last one is read")
	}
}

func TestReadRefusesWhatNoBuilderMakes(t *testing.T) {
	e := NewEncoder(testLayout(t))
	if err := e.Reset(recordOf(t, `"count":1,"__tsx":[],"__more":[]`)); err != nil {
		t.Fatal(err)
	}
	if err := e.Read(new(Row), 0); err == nil {
		t.Error("a cell without a version is read")
	}
}

func doubleValue(bits uint64) Value { return Value{kind: double, num: bits} }
func boolValue(b uint64) Value      { return Value{kind: boolean, num: b} }

// fromJSON is the inverse of AppendJSON, as a reader with the documentation
// alone would write it.
func fromJSONValue(t testing.TB, text string) Value {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	switch v := v.(type) {
	case bool:
		if v {
			return boolValue(1)
		}
		return boolValue(0)
	case string:
		return StringValue(v)
	case json.Number:
		if !strings.ContainsAny(v.String(), ".e") {
			n, err := strconv.ParseInt(v.String(), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return IntegerValue(n)
		}
		f, err := strconv.ParseFloat(v.String(), 64)
		if err != nil {
			t.Fatal(err)
		}
		return doubleValue(math.Float64bits(f))
	case map[string]any:
		for name, inner := range v {
			return fromObject(t, name, inner.(string))
		}
	}
	t.Fatalf("%s is no value", text)
	return Value{}
}

func fromObject(t testing.TB, name, text string) Value {
	t.Helper()
	if name == "double" {
		if digits, ok := strings.CutPrefix(text, "0x"); ok {
			bits, err := strconv.ParseUint(digits, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return doubleValue(bits)
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		return doubleValue(math.Float64bits(f))
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	if name == "string_b64" {
		return StringValue(string(b))
	}
	return BinaryValue(b)
}

func TestJSONTellsTypeAndEveryBit(t *testing.T) {
	for want, v := range map[string]Value{
		"0":                               IntegerValue(0),
		"9007199254740993":                IntegerValue(1<<53 + 1),
		"-9223372036854775808":            IntegerValue(math.MinInt64),
		"42.0":                            doubleValue(math.Float64bits(42)),
		"-0.0":                            doubleValue(1 << 63),
		"1e+300":                          doubleValue(math.Float64bits(1e300)),
		"5e-324":                          doubleValue(1),
		`{"double":"NaN"}`:                doubleValue(math.Float64bits(math.NaN())),
		`{"double":"Infinity"}`:           doubleValue(math.Float64bits(math.Inf(1))),
		`{"double":"-Infinity"}`:          doubleValue(math.Float64bits(math.Inf(-1))),
		`{"double":"0x7ff0000000000007"}`: doubleValue(0x7ff0000000000007),
		"true":                            boolValue(1),
		"false":                           boolValue(0),
		`""`:                              StringValue(""),
		`"\u0000\u001b\"\\\n\t\u007f\u0085\u202e\u2028é中🧭\udb40\udc01"`: StringValue("\x00\x1b\"\\\n\t\x7f\u0085\u202e\u2028é中🧭\U000e0001"),
		`{"string_b64":"/w=="}`: StringValue("\xff"),
		`{"b64":""}`:            BinaryValue(nil),
		`{"b64":"AP8="}`:        BinaryValue([]byte{0, 0xff}),
	} {
		if got := string(v.AppendJSON(nil)); got != want {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
		if got := fromJSONValue(t, want); got != v {
			t.Errorf("%s comes back as %v", want, got)
		}
	}
}

func FuzzJSON(f *testing.F) {
	f.Add(uint8(0), uint64(1<<63), "")
	f.Add(uint8(1), uint64(0x7ff0000000000001), "")
	f.Add(uint8(3), uint64(0), "\x00\xff\u2028\"")
	f.Fuzz(func(t *testing.T, which uint8, num uint64, s string) {
		v := Value{kind: cellKinds[int(which)%len(cellKinds)]}
		switch v.kind {
		case boolean:
			v.num = num & 1
		case integer, double:
			v.num = num
		default:
			v.text = s
		}
		if got := fromJSONValue(t, string(v.AppendJSON(nil))); got != v {
			t.Fatalf("%v comes back as %v", v, got)
		}
	})
}

func TestTextIsWhatSpreadsheetsRead(t *testing.T) {
	for want, v := range map[string]Value{
		"-7":    IntegerValue(-7),
		"1.5":   doubleValue(math.Float64bits(1.5)),
		"+Inf":  doubleValue(math.Float64bits(math.Inf(1))),
		"true":  boolValue(1),
		"a \"b": StringValue("a \"b"),
		"AP8=":  BinaryValue([]byte{0, 0xff}),
	} {
		if got := string(v.AppendText(nil)); got != want {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
	}
}

// keyOf is a key in the columns of testKey: STRING, INTEGER, BINARY.
func keyOf(values ...Value) manifest.Key {
	key := manifest.Key{}
	for _, v := range values {
		key = AppendKey(key, v)
	}
	return key
}

func TestKeysAreTyped(t *testing.T) {
	us, seven, blob := StringValue("US"), IntegerValue(7), BinaryValue([]byte{0, 0xff})
	for text, want := range map[string]manifest.Key{
		"":                             keyOf(),
		"US":                           keyOf(us),
		"US,7":                         keyOf(us, seven),
		" US , 7 , hex:00ff ":          keyOf(us, seven, blob),
		"US,7,base64:AP8=":             keyOf(us, seven, blob),
		`("US", 7, 0x00ff)`:            keyOf(us, seven, blob),
		`["US",7,"hex"`:                nil,
		`["US",7]`:                     keyOf(us, seven),
		`"US",7`:                       keyOf(us, seven),
		`"",-9223372036854775808,hex:`: keyOf(StringValue(""), IntegerValue(math.MinInt64), BinaryValue(nil)),
		`"Foo, \"Inc\"\u00e9\/",7`:     keyOf(StringValue("Foo, \"Inc\"é/"), seven),
		`"\ud83e\udded"`:               keyOf(StringValue("🧭")),
		`"\ud83e"`:                     nil,
		`"\x00\xff"`:                   keyOf(StringValue("\x00\xff")), // as FormatKey writes it
		"two words,7":                  keyOf(StringValue("two words"), seven),
		"*":                            keyOf(StringValue("*")),
		",7":                           nil,
		"US,":                          nil,
		"US,seven":                     nil,
		"US,7.0":                       nil,
		`US,"7"`:                       nil,
		"US,9223372036854775808":       nil,
		"US,7,00ff":                    nil,
		"US,7,hex:0":                   nil,
		"US,7,base64:AP8":              nil,
		"US,7,hex:00,8":                nil,
		`"US`:                          nil,
		`"US"7`:                        nil,
		`"US\`:                         nil,
		`U"S`:                          nil,
		"(US,7":                        nil,
	} {
		got, _, err := ParseKeyText(testKey, text)
		switch {
		case want == nil && err == nil:
			t.Errorf("%s is taken for %s", text, FormatKey(testKey, got))
		case want != nil && (err != nil || !bytes.Equal(got, want)):
			t.Errorf("%s is %s, %v; want %s", text, FormatKey(testKey, got), err, FormatKey(testKey, want))
		}
	}
}

func TestStartsOfKeysAreTyped(t *testing.T) {
	for text, want := range map[string]manifest.Key{
		"US":    keyOf(StringValue("US")),
		"US*":   manifest.Key("US"),
		"*":     {},
		`"US*"`: keyOf(StringValue("US*")),
		"US*,7": keyOf(StringValue("US*"), IntegerValue(7)),
		"US,7":  keyOf(StringValue("US"), IntegerValue(7)),
		"":      nil,
		"US,7*": nil,
		`"U"S*`: nil,
	} {
		got, err := ParseKeyPrefix(testKey, text)
		if (err != nil) != (want == nil) || !bytes.Equal(got, want) {
			t.Errorf("%s is %q, %v; want %q", text, []byte(got), err, []byte(want))
		}
	}
}

func TestFollowingEndsWhatStartsWithAKey(t *testing.T) {
	for _, c := range []struct{ key, want manifest.Key }{
		{manifest.Key{}, nil},
		{manifest.Key{1}, manifest.Key{2}},
		{manifest.Key{1, 0xff}, manifest.Key{2}},
		{manifest.Key{0xff, 0xff}, nil},
		{manifest.Key{0xff, 0, 0}, manifest.Key{0xff, 0, 1}},
	} {
		before := bytes.Clone(c.key)
		if got := Following(c.key); !reflect.DeepEqual(got, c.want) || !bytes.Equal(before, c.key) {
			t.Errorf("%x is followed by %x, want %x", []byte(c.key), []byte(got), []byte(c.want))
		}
	}
}

func TestKeysAreReadAsTheyAreWritten(t *testing.T) {
	rnd := rand.New(rand.NewPCG(53, 54))
	for range 2000 {
		var values []Value
		for _, c := range randomKey(rnd) {
			switch v := c.value.(type) {
			case int64:
				values = append(values, IntegerValue(v))
			case string:
				values = append(values, StringValue(v))
			case []byte:
				values = append(values, BinaryValue(v))
			}
		}
		key := keyOf(values...)
		text := FormatKey(testKey, key)
		if strings.Contains(text, "…") {
			continue // cut for people
		}
		got, n, err := ParseKeyText(testKey, text)
		if err != nil || n != len(testKey) || !bytes.Equal(got, key) {
			t.Fatalf("%s is read as %s, %v", text, FormatKey(testKey, got), err)
		}
	}
}

func FuzzKeyText(f *testing.F) {
	f.Add(`("US", 7, 0x00ff)`)
	f.Add(`"a,b\"",-1,base64:AP8=`)
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = ParseKeyPrefix(testKey, text)
		key, _, err := ParseKeyText(testKey, text)
		if err != nil {
			return
		}
		again, _, err := ParseKeyText(testKey, FormatKey(testKey, key))
		if !strings.Contains(FormatKey(testKey, key), "…") && (err != nil || !bytes.Equal(again, key)) {
			t.Fatalf("%s is %s, which is %s, %v", text, FormatKey(testKey, key), FormatKey(testKey, again), err)
		}
	})
}
