package row

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/manifest"
)

// value returns a value as Parse reads it.
func value(v any) Value {
	wire := wireValue(v)
	k := kind(wire[0])
	if k.hasLength() {
		return newValue(k, wire[5:])
	}
	return newValue(k, wire[1:])
}

func TestParse(t *testing.T) {
	wire := cellsRow(testCell{"b", "x", 7}, testCell{"a", int64(1), 5}, testCell{"a", 1.5, 6}).wire()
	r, err := Parse(wire)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Value{value("US"), value(int64(-7)), value([]byte{0xff, 0})} {
		if r.Key[i] != want {
			t.Errorf("key column %d is %v, want %v", i, r.Key[i], want)
		}
	}
	for i, want := range []Cell{{"a", 6, value(1.5)}, {"a", 5, value(int64(1))}, {"b", 7, value("x")}} {
		if r.Cells[i] != want {
			t.Errorf("cell %d is %v, want %v", i, r.Cells[i], want)
		}
	}
	if len(r.Key) != 3 || len(r.Cells) != 3 {
		t.Errorf("row is %v", r)
	}
}

func TestParseReadsWhatBuildersAccept(t *testing.T) {
	rnd := rand.New(rand.NewPCG(27, 28))
	l := testLayout(t)
	for range 300 {
		r := randomRow(rnd, l)
		got, err := Parse(r.wire())
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range r.cells {
			if want := (Cell{c.name, c.version, value(c.value)}); got.Cells[i] != want {
				t.Fatalf("cell %d is %v, want %v", i, got.Cells[i], want)
			}
		}
		if len(got.Cells) != len(r.cells) {
			t.Fatalf("%d cells, want %d", len(got.Cells), len(r.cells))
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := cellsRow(testCell{"a", int64(1), 5}).wire()
	tests := []struct {
		name string
		wire []byte
		want string
	}{
		{"no key", testRow{}.wire(), "row: no primary key"},
		{"five key columns", testRow{key: append(goodKey(), goodKey()...)}.wire(), "more than 4 key columns"},
		{"a key column that is a DOUBLE", testRow{key: []testCell{{name: "a", value: 1.5}}}.wire(), `key column "a": unknown type of value`},
		{"bytes after the row", append(bytes.Clone(good), 0), "1 bytes follow the row"},
		{"a version twice", cellsRow(testCell{"a", int64(1), 5}, testCell{"b", "", 5}, testCell{"a", "", 5}).wire(), `attribute "a": version 5: version stands twice`},
		{"a null", cellsRow(testCell{"a", raw{byte(null)}, 1}).wire(), `attribute "a": no value`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Parse(tt.wire)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v, want an error that says %q", r, err, tt.want)
			}
		})
	}
	for n := range good {
		if _, err := Parse(good[:n:n]); err == nil {
			t.Errorf("accepted the first %d bytes of %d", n, len(good))
		}
	}
}

func TestValuesForPeople(t *testing.T) {
	tests := []struct {
		value any
		typ   manifest.Type
		want  string
	}{
		{int64(math.MinInt64), manifest.Integer, "-9223372036854775808"},
		{1.5, manifest.Double, "1.5"},
		{float64(3), manifest.Double, "3.0"},
		{math.Copysign(0, -1), manifest.Double, "-0.0"},
		{1e300, manifest.Double, "1e+300"},
		{math.Inf(-1), manifest.Double, "-Inf"},
		{math.NaN(), manifest.Double, "NaN"},
		{true, manifest.Boolean, "true"},
		{false, manifest.Boolean, "false"},
		{"", manifest.String, `""`},
		{"a\"\x1b[0m\u202e\xff", manifest.String, `"a\"\x1b[0m\u202e\xff"`},
		{[]byte{}, manifest.Binary, "0x"},
		{[]byte{0xff, 0}, manifest.Binary, "0xff00"},
		{strings.Repeat("a", 300), manifest.String, `"` + strings.Repeat("a", 256) + `"… (300 bytes)`},
	}
	for _, tt := range tests {
		v := value(tt.value)
		if v.String() != tt.want || v.Type() != tt.typ {
			t.Errorf("%v is written %s %s, want %s %s", tt.value, v.Type(), v, tt.typ, tt.want)
		}
	}
}

func TestValuesAreEqualToTheBit(t *testing.T) {
	different := []any{int64(0), 0.0, math.Copysign(0, -1), false, "", []byte{}, int64(1), math.Float64frombits(1), true, "\x01", []byte{1}}
	for i, x := range different {
		for j, y := range different {
			if (value(x) == value(y)) != (i == j) {
				t.Errorf("%T %v == %T %v is %t", x, x, y, y, i != j)
			}
		}
	}
	if x, y := value(math.NaN()), value(math.NaN()); x != y {
		t.Error("a NaN differs from itself")
	}
}
