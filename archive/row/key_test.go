package row

import (
	"bytes"
	"cmp"
	"math"
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
