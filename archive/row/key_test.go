package row

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/manifest"
)

// keyRow is a primary key and nothing else, in PlainBuffer with its header.
func keyRow(cells ...testCell) []byte {
	return append([]byte{0x75, 0, 0, 0}, testRow{key: cells}.wire()...)
}

func mustParseKey(t *testing.T, cols []manifest.KeyColumn, wire []byte) manifest.Key {
	t.Helper()
	k, err := ParseKey(cols, wire)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// ascendingValues lists values of each type in the order of the table.
var ascendingValues = map[manifest.Type][]any{
	manifest.Integer: {int64(math.MinInt64), int64(math.MinInt64 + 1), int64(-256), int64(-1), int64(0), int64(1), int64(255), int64(256), int64(math.MaxInt64)},
	manifest.String:  {"", "\x00", "\x00\x00", "\x00\x01", "\x00\xff", "\x01", "a", "a\x00", "a\x00b", "a\x01", "ab", "ü", "\xff"},
	manifest.Binary:  {[]byte{}, []byte{0}, []byte{0, 0}, []byte{0, 1}, []byte{0, 255}, []byte{0, 255, 0}, []byte{1}, []byte{1, 0}, []byte{255}, []byte{255, 0}, []byte{255, 255}},
}

func TestKeysSortAsTheTable(t *testing.T) {
	for _, first := range []manifest.Type{manifest.Integer, manifest.String, manifest.Binary} {
		for _, second := range []manifest.Type{manifest.Integer, manifest.String, manifest.Binary} {
			cols := []manifest.KeyColumn{{Name: "a", Type: first}, {Name: "b", Type: second}}
			var keys []manifest.Key
			for _, x := range ascendingValues[first] {
				for _, y := range ascendingValues[second] {
					keys = append(keys, mustParseKey(t, cols, keyRow(testCell{name: "a", value: x}, testCell{name: "b", value: y})))
				}
			}
			for i := range keys {
				for j := range keys {
					if got, want := bytes.Compare(keys[i], keys[j]), cmp.Compare(i, j); got != want {
						t.Fatalf("%s, %s: keys %s and %s compare %d, want %d", first, second, FormatKey(cols, keys[i]), FormatKey(cols, keys[j]), got, want)
					}
				}
			}
		}
	}
}

func TestBoundsComeBack(t *testing.T) {
	min, max := raw{byte(infMin)}, raw{byte(infMax)}
	for _, first := range ascendingValues[manifest.String] {
		cells := []testCell{{name: "country", value: first}, {name: "id", value: int64(-5)}, {name: "part", value: []byte{0, 1, 0}}}
		for n := range len(cells) + 1 {
			k := mustParseKey(t, testKey, keyRow(cells[:n]...))
			want := append([]testCell{}, cells[:n]...)
			for _, c := range testKey[n:] {
				want = append(want, testCell{name: c.Name, value: min})
			}
			for _, end := range []bool{false, true} {
				if end && n == 0 {
					continue
				}
				got, err := AppendBound([]byte("head"), testKey, k, end)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got[4:], keyRow(want...)) {
					t.Fatalf("bound of %s is\n%x, want\n%x", FormatKey(testKey, k), got[4:], keyRow(want...))
				}
				if back := mustParseKey(t, testKey, got[4:]); !bytes.Equal(back, k) {
					t.Fatalf("bound of %s comes back as %s", k, back)
				}
			}
		}
	}
	got, err := AppendBound(nil, testKey, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if want := keyRow(testCell{name: "country", value: max}, testCell{name: "id", value: max}, testCell{name: "part", value: max}); !bytes.Equal(got, want) {
		t.Fatalf("end of the table is\n%x, want\n%x", got, want)
	}
}

func TestAPrefixOfAKeySortsBeforeWhatItStarts(t *testing.T) {
	cells := goodKey()
	for n := range len(cells) {
		short := mustParseKey(t, testKey, keyRow(cells[:n]...))
		long := mustParseKey(t, testKey, keyRow(cells[:n+1]...))
		if !bytes.HasPrefix(long, short) || bytes.Equal(long, short) {
			t.Errorf("%x does not start with %x", long, short)
		}
	}
}

func TestKeysEndBeforeINFMIN(t *testing.T) {
	cells := goodKey()
	want := mustParseKey(t, testKey, keyRow(cells[:1]...))
	cells[1].value = raw{byte(infMin)}
	if got := mustParseKey(t, testKey, keyRow(cells...)); !bytes.Equal(got, want) {
		t.Errorf("key is %s, want %s", got, want)
	}
	if got := mustParseKey(t, testKey, append(keyRow(cells...), 0, 0, 0)); !bytes.Equal(got, want) {
		t.Errorf("key with zeros after it is %s, want %s", got, want)
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	with := func(i int, c testCell) []byte {
		cells := goodKey()
		cells[i] = c
		return keyRow(cells...)
	}
	good := keyRow(goodKey()...)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1]++
	tests := []struct {
		name string
		wire []byte
		want string
	}{
		{"nothing", nil, "row: no PlainBuffer header"},
		{"another header", append([]byte{0x74}, good[1:]...), "row: no PlainBuffer header"},
		{"a header alone", good[:4], "row: key: row does not start with a primary key"},
		{"INF_MAX", with(1, testCell{name: "id", value: raw{byte(infMax)}}), `row: key: column "id": value is not INTEGER`},
		{"AUTO_INCREMENT", with(1, testCell{name: "id", value: raw{byte(auto)}}), `column "id": value is not INTEGER`},
		{"another type", with(0, testCell{name: "country", value: int64(1)}), `column "country": value is not STRING`},
		{"another name", with(0, testCell{name: "Country", value: "US"}), `column 1 is "Country", want "country"`},
		{"too many columns", keyRow(append(goodKey(), testCell{name: "x", value: int64(1)})...), "4 columns, the table has 3"},
		{"far too many columns", keyRow(append(goodKey(), goodKey()...)...), "more than 4 key columns"},
		{"attributes", append(AppendHeader(nil), cellsRow(testCell{"a", int64(1), 1}).wire()...), "carries attributes"},
		{"a wrong checksum", flipped, "row checksum differs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := ParseKey(testKey, tt.wire)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %s, %v, want an error that says %q", k, err, tt.want)
			}
		})
	}
	for n := range good {
		if _, err := ParseKey(testKey, good[:n:n]); err == nil {
			t.Errorf("accepted the first %d bytes of %d", n, len(good))
		}
	}
}

func TestMalformedKeysAreRefused(t *testing.T) {
	for _, hex := range []string{
		"00",                                   // no end of the string
		"5553",                                 // likewise
		"555300",                               // likewise
		"55530100",                             // likewise
		"555300fe0000",                         // a zero byte is followed by fe
		"55530000" + "80000000",                // half an integer
		"55530000" + "8000000000000000" + "01", // no end of the bytes
		"55530000" + "8000000000000000" + "010000" + "00", // too much
	} {
		var k manifest.Key
		if err := k.UnmarshalText([]byte(hex)); err != nil {
			t.Fatal(err)
		}
		out, err := AppendBound([]byte("before"), testKey, k, false)
		if err == nil || !strings.HasPrefix(err.Error(), "row: key") {
			t.Errorf("%s: error is %v", hex, err)
		}
		if string(out) != "before" {
			t.Errorf("%s: dst became %q", hex, out)
		}
		if got, want := FormatKey(testKey, k), "malformed key 0x"+hex; got != want {
			t.Errorf("written as %q, want %q", got, want)
		}
	}
}

func TestKeysForPeople(t *testing.T) {
	tests := []struct {
		cells []testCell
		want  string
	}{
		{nil, "()"},
		{goodKey()[:1], `("US")`},
		{goodKey(), `("US", -7, 0xff00)`},
		{[]testCell{{name: "country", value: "a\"b\x00\n\u202e"}}, `("a\"b\x00\n\u202e")`},
		{[]testCell{{name: "country", value: "東京"}, {name: "id", value: int64(math.MinInt64)}, {name: "part", value: []byte{}}}, `("東京", -9223372036854775808, 0x)`},
	}
	for _, tt := range tests {
		if got := FormatKey(testKey, mustParseKey(t, testKey, keyRow(tt.cells...))); got != tt.want {
			t.Errorf("key is written %s, want %s", got, tt.want)
		}
	}
}

func TestAKeyIsCutBetweenColumns(t *testing.T) {
	cols := []manifest.KeyColumn{{Name: "a", Type: manifest.String}, {Name: "b", Type: manifest.Integer}, {Name: "c", Type: manifest.Binary}}
	parts := []manifest.Key{
		AppendKey(nil, StringValue("x\x00")), AppendKey(nil, IntegerValue(-1)), AppendKey(nil, BinaryValue([]byte{0, 0})),
	}
	whole := slices.Concat(parts...)
	for n := range len(parts) + 1 {
		head, tail, err := CutKey(cols, whole, n)
		if err != nil || !bytes.Equal(head, slices.Concat(parts[:n]...)) || !bytes.Equal(tail, slices.Concat(parts[n:]...)) {
			t.Errorf("after %d columns: %s and %s, %v", n, head, tail, err)
		}
	}
	if _, _, err := CutKey(cols, parts[0], 2); err == nil {
		t.Error("a key of one column is cut after two")
	}
}
