package archive_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

func TestChunksComeBack(t *testing.T) {
	l := orders(t)
	all := batches(t, 1000, 1, 313)
	data, c := write(t, l, all...)
	n := 0
	for rec, err := range archive.Read(t.Context(), data, l, c) {
		if err != nil {
			t.Fatal(err)
		}
		if !rec.Schema().Equal(l.Schema()) {
			t.Fatalf("schema is\n%v\nwant\n%v", rec.Schema(), l.Schema())
		}
		// NaN differs from itself, so records are compared by their text.
		if got, want := fmt.Sprint(rec), fmt.Sprint(all[n].Record); got != want {
			t.Errorf("row group %d is\n%s\nwant\n%s", n, got, want)
		}
		n++
	}
	if n != len(all) {
		t.Errorf("%d row groups, want one for each of %d batches", n, len(all))
	}
	if err := archive.Check(t.Context(), data, l, c); err != nil {
		t.Error(err)
	}
}

func TestTheDescriptionOfAChunkAddsUp(t *testing.T) {
	l := orders(t)
	all := batches(t, 50, 70)
	data, c := write(t, l, all...)
	want := manifest.Chunk{
		Name: c.Name, SHA256: manifest.Sum(data), Size: int64(len(data)),
		Rows: 120, Cells: all[0].Cells + all[1].Cells, RawBytes: all[0].Bytes + all[1].Bytes,
	}
	var tree manifest.Tree
	for _, b := range all {
		for _, leaf := range b.Leaves {
			tree.Add(leaf)
		}
	}
	want.RowDigest = tree.Root()
	e := row.NewEncoder(l)
	if err := e.Reset(all[0].Record); err != nil {
		t.Fatal(err)
	}
	want.First = e.AppendKey(nil, 0)
	if err := e.Reset(all[1].Record); err != nil {
		t.Fatal(err)
	}
	want.Last = e.AppendKey(nil, 69)
	if fmt.Sprint(c) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", c, want)
	}
}

func TestTheSameRowsGiveTheSameBytes(t *testing.T) {
	l := orders(t)
	first, _ := write(t, l, batches(t, 700, 300)...)
	second, _ := write(t, l, batches(t, 700, 300)...)
	if !bytes.Equal(first, second) {
		t.Error("two chunks of the same rows differ")
	}
}

func TestManyChunksAreWrittenAndReadAtOnce(t *testing.T) {
	l := orders(t)
	all := batches(t, 200, 100)
	want, c := write(t, l, all...)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			data, _ := write(t, l, all...)
			if !bytes.Equal(data, want) {
				t.Error("another chunk came out")
			}
			if err := archive.Check(t.Context(), data, l, c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestAWideTableIsReadBack(t *testing.T) {
	var columns []manifest.Column
	for i := range 256 {
		columns = append(columns, manifest.Column{Name: fmt.Sprintf("column_%03d", i), Type: []manifest.Type{manifest.Integer, manifest.String, manifest.Double, manifest.Boolean, manifest.Binary}[i%5]})
	}
	l, err := row.NewLayout([]manifest.KeyColumn{{Name: "id", Type: manifest.Integer}}, columns)
	if err != nil {
		t.Fatal(err)
	}
	values := []any{int64(7), "seven", 7.5, true, []byte{7}}
	var rows [][]byte
	for i := range 300 {
		c := i % 256
		rows = append(rows, wire([]cell{{name: "id", value: int64(i)}}, []cell{{columns[c].Name, values[c%5], int64(i)}}))
	}
	data, c := write(t, l, batch(t, l, rows...))
	if err := archive.Check(t.Context(), data, l, c); err != nil {
		t.Error(err)
	}
}
