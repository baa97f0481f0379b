package archive_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

func TestWriterRefuses(t *testing.T) {
	good := batches(t, 5, 5)
	without := good[0]
	without.Leaves = nil
	few := good[0]
	few.Leaves = few.Leaves[1:]
	empty := good[0]
	empty.Record, empty.Leaves = empty.Record.NewSlice(0, 0), nil
	other, err := row.NewLayout([]manifest.KeyColumn{{Name: "customer", Type: manifest.String}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign := batch(t, other, wire([]cell{{name: "customer", value: "c"}}, nil))
	tests := []struct {
		name    string
		batches []row.Batch
		want    string
	}{
		{"no batch", nil, "nothing was written"},
		{"a batch without leaves", []row.Batch{without}, "0 leaf hashes for 5 rows"},
		{"a batch with too few leaves", []row.Batch{good[0], few}, "4 leaf hashes for 5 rows"},
		{"an empty batch", []row.Batch{good[0], empty}, "empty batch"},
		{"a batch of another table", []row.Batch{foreign}, "the layout says"},
		{"the same rows again", []row.Batch{good[0], good[0]}, `key ("customer-000000", -1000, 0x0000ff) follows ("customer-000000", -996, 0x0004ff)`},
		{"batches out of order", []row.Batch{good[1], good[0]}, "follows"},
		{"more after a refusal", []row.Batch{without, good[0]}, "0 leaf hashes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w, err := archive.NewWriter(orders(t), testMeta)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range test.batches {
				w.Write(b)
			}
			if _, _, err := w.Close(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func open(t *testing.T, data []byte) *file.Reader {
	t.Helper()
	f, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRootIsRequired(t *testing.T) {
	data, _ := write(t, orders(t), batches(t, 3)...)
	if got := open(t, data).MetaData().Schema.Root().RepetitionType(); got != parquet.Repetitions.Required {
		t.Errorf("root is %v; some readers take only REQUIRED", got)
	}
}

func TestRowGroupsSayHowTheyAreSorted(t *testing.T) {
	data, _ := write(t, orders(t), batches(t, 3)...)
	got := open(t, data).MetaData().RowGroup(0).SortingColumns()
	if len(got) != 3 || got[0].ColumnIdx != 0 || got[2].ColumnIdx != 2 || got[0].Descending {
		t.Errorf("sorted by %v, want the three key columns", got)
	}
}

// The largest cells the service allows must not make pages that other readers
// refuse: left to itself, the library would make one of 250 MiB here.
func TestLargeCellsMakeSmallPages(t *testing.T) {
	l := orders(t)
	large := strings.Repeat("0123456789abcdef", 2<<20/16)
	var rows [][]byte
	for i := range 40 {
		key := []cell{{name: "customer", value: "c"}, {name: "id", value: int64(i)}, {name: "part", value: []byte{}}}
		cells := []cell{{"country", "DE", 2}}
		switch i % 3 {
		case 0:
			cells = append(cells, cell{"photo", []byte(large), 2})
		case 1:
			cells = append(cells, cell{"note", large, 2}, cell{"note", large[1:], 1})
		}
		rows = append(rows, wire(key, cells))
	}
	data, c := write(t, l, batch(t, l, rows...))
	f := open(t, data)
	for i := range f.MetaData().Schema.NumColumns() {
		pages, err := f.RowGroup(0).GetColumnPageReader(i)
		if err != nil {
			t.Fatal(err)
		}
		for pages.Next() {
			if n := len(pages.Page().Data()); n > 4<<20 {
				t.Errorf("column %s has a page of %d bytes", f.MetaData().Schema.Column(i).Path(), n)
			}
		}
		if err := pages.Err(); err != nil {
			t.Error(err)
		}
	}
	if err := archive.Check(t.Context(), data, l, c); err != nil {
		t.Error(err)
	}
}
