package row

import (
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/otsnap/otsnap/manifest"
)

func TestSchema(t *testing.T) {
	l := mustLayout(t,
		[]manifest.KeyColumn{{Name: "k1", Type: manifest.String}, {Name: "k2", Type: manifest.Integer, AutoIncrement: true}, {Name: "k3", Type: manifest.Binary}},
		manifest.Column{Name: "a", Type: manifest.Boolean}, manifest.Column{Name: "b", Type: manifest.Double},
	)
	want := `schema:
  fields: 8
    - k1: type=utf8
    - k2: type=int64
    - k3: type=binary
    - a: type=bool, nullable
    - b: type=float64, nullable
    - __ts: type=int64, nullable
    - __tsx: type=list<element: struct<name: utf8, ts: int64>>
    - __more: type=list<element: struct<name: utf8, ts: int64, i: int64 nullable, d: float64 nullable, b: bool nullable, s: utf8 nullable, x: binary nullable>>`
	if got := l.Schema().String(); got != want {
		t.Errorf("schema is\n%s\nwant\n%s", got, want)
	}
}

func TestLayoutsThatAreRefused(t *testing.T) {
	key := func(names ...string) (cols []manifest.KeyColumn) {
		for _, n := range names {
			cols = append(cols, manifest.KeyColumn{Name: n, Type: manifest.Integer})
		}
		return cols
	}
	columns := func(names ...string) (cols []manifest.Column) {
		for _, n := range names {
			cols = append(cols, manifest.Column{Name: n, Type: manifest.String})
		}
		return cols
	}
	tests := []struct {
		name    string
		key     []manifest.KeyColumn
		columns []manifest.Column
		want    string
	}{
		{"no key", nil, nil, "0 key columns, want 1 to 4"},
		{"five key columns", key("a", "b", "c", "d", "e"), nil, "5 key columns, want 1 to 4"},
		{"a key column that is a DOUBLE", []manifest.KeyColumn{{Name: "a", Type: manifest.Double}}, nil, `key column "a": type "DOUBLE" is not possible`},
		{"a key column without a type", []manifest.KeyColumn{{Name: "a"}}, nil, `key column "a": type "" is not possible`},
		{"a column of an unknown type", key("a"), []manifest.Column{{Name: "b", Type: "integer"}}, `column "b": type "integer" is not possible`},
		{"an empty name", key(""), nil, `key column ""`},
		{"a name that starts with a digit", key("a"), columns("1b"), `column "1b"`},
		{"a name with a dot", key("a"), columns("b.c"), `column "b.c"`},
		{"a name that is not ASCII", key("a"), columns("é"), `column "é"`},
		{"a name that is too long", key("a"), columns(strings.Repeat("n", 256)), "1 to 255"},
		{"columns out of order", key("a"), columns("c", "b"), `column "b" stands after "c"`},
		{"a column twice", key("a"), columns("b", "b"), `column "b": the name is taken`},
		{"key columns that differ by case", key("a", "A"), nil, `key column "A": the name is taken`},
		{"columns that differ by case", key("a"), columns("B", "b"), `column "b": the name is taken`},
		{"a column called like a key column", key("a"), columns("A"), `column "A": the name is taken`},
		{"a column called like one of ours", key("a"), columns("__MORE"), `column "__MORE": the name is taken`},
		{"a key column called like one of ours", key("__ts"), nil, `key column "__ts": the name is taken`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewLayout(tt.key, tt.columns)
			if err == nil || !strings.HasPrefix(err.Error(), "row: layout: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want it to say %q", err, tt.want)
			}
		})
	}
}

func TestLayoutsKeepTheirColumns(t *testing.T) {
	columns := []manifest.Column{{Name: "B", Type: manifest.String}, {Name: "a", Type: manifest.Integer}, {Name: strings.Repeat("n", 255), Type: manifest.Binary}}
	want := slices.Clone(columns)
	l := mustLayout(t, testKey, columns...)
	columns[0].Name = "changed"
	if !slices.Equal(l.Columns, want) || !slices.Equal(l.Key, testKey) {
		t.Errorf("layout is %v", l)
	}
	if n := l.Schema().NumFields(); n != len(testKey)+len(want)+3 {
		t.Errorf("schema has %d fields", n)
	}
	if f := l.Schema().Field(3); !arrow.TypeEqual(f.Type, arrow.BinaryTypes.String) || !f.Nullable {
		t.Errorf("field of a promoted column is %v", f)
	}
}
