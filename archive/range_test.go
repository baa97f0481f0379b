package archive_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// keysIn returns the keys of the rows ReadSelection yields for a range.
func keysIn(t testing.TB, data []byte, l row.Layout, c manifest.Chunk, within manifest.Range) ([]string, error) {
	t.Helper()
	var keys []string
	e := row.NewEncoder(l)
	for rec, err := range archive.ReadSelection(t.Context(), data, l, c, archive.Selection{Within: within}) {
		if err != nil {
			return keys, err
		}
		if err := e.Reset(rec); err != nil {
			t.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			if _, err := e.AppendRow(nil, i); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, string(e.AppendKey(nil, i)))
		}
	}
	return keys, nil
}

func TestARangeHasTheRowsWithinIt(t *testing.T) {
	l := orders(t)
	data, c := write(t, l, batches(t, 10, 1, 30, 20)...)
	all, err := keysIn(t, data, l, c, manifest.Range{})
	if err != nil || len(all) != 61 {
		t.Fatalf("%d rows, %v", len(all), err)
	}
	bounds := []manifest.Key{nil, {0}, {0xff}}
	for _, i := range []int{0, 1, 9, 10, 11, 40, 41, 60} { // at the edges of row groups, and within
		k := manifest.Key(all[i])
		bounds = append(bounds, k, row.Following(k), k[:len(k)/2])
	}
	for _, from := range bounds {
		for _, to := range bounds {
			within := manifest.Range{From: from, To: to}
			var want []string
			for _, key := range all {
				if archive.Contains(within, manifest.Key(key)) {
					want = append(want, key)
				}
			}
			got, err := keysIn(t, data, l, c, within)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("from %x to %x there are %d rows, %v; want %d", []byte(from), []byte(to), len(got), err, len(want))
			}
		}
	}
}

// TestOnlyGroupsThatCanMatchAreDecoded breaks the row groups but one, in a way
// that only decoding can notice.
func TestOnlyGroupsThatCanMatchAreDecoded(t *testing.T) {
	l := orders(t)
	all := batches(t, 100, 100, 100)
	good, _ := write(t, l, all...)
	one, _ := write(t, l, all[0])
	data, c := write(t, l, all...)
	keys, err := keysIn(t, data, l, c, manifest.Range{})
	if err != nil {
		t.Fatal(err)
	}
	shared := 0 // the same first row group in both files
	for shared < len(one) && one[shared] == good[shared] {
		shared++
	}
	for i := 4; i < shared; i++ {
		data[i] ^= 0xff
	}
	c = passing(c, data)
	last := manifest.Key(keys[250])
	got, err := keysIn(t, data, l, c, manifest.Range{From: last, To: row.Following(last)})
	if err != nil || len(got) != 1 || !bytes.Equal([]byte(got[0]), last) {
		t.Errorf("one row of the last group: %d rows, %v", len(got), err)
	}
	first := manifest.Key(keys[50])
	if _, err := keysIn(t, data, l, c, manifest.Range{From: first, To: row.Following(first)}); !errors.Is(err, archive.ErrCorrupt) {
		t.Errorf("one row of the broken group: %v, want ErrCorrupt", err)
	}
	if _, err := keysIn(t, data, l, c, manifest.Range{}); !errors.Is(err, archive.ErrCorrupt) {
		t.Errorf("all rows: %v, want ErrCorrupt", err)
	}
}

// TestRangesAreHeldToWhatWasSigned reads chunks whose description says otherwise.
func TestRangesAreHeldToWhatWasSigned(t *testing.T) {
	l := orders(t)
	data, c := write(t, l, batches(t, 5, 5)...)
	for name, change := range map[string]func(*manifest.Chunk){
		"Rows":  func(c *manifest.Chunk) { c.Rows-- },
		"Size":  func(c *manifest.Chunk) { c.Size++ },
		"First": func(c *manifest.Chunk) { c.First = append(bytes.Clone(c.First), 0) },
		"Last":  func(c *manifest.Chunk) { c.Last = append(bytes.Clone(c.Last), 0) },
	} {
		lie := c
		change(&lie)
		if _, err := keysIn(t, data, l, lie, manifest.Range{}); !errors.Is(err, archive.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
}

func TestStoppingARangeIsNoError(t *testing.T) {
	l := orders(t)
	data, c := write(t, l, batches(t, 5, 5)...)
	for _, err := range archive.ReadSelection(t.Context(), data, l, c, archive.Selection{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
}

func TestRangesOverlap(t *testing.T) {
	key := func(b byte) manifest.Key { return manifest.Key{b} }
	for _, c := range []struct {
		a, b manifest.Range
		want bool
	}{
		{manifest.Range{}, manifest.Range{}, true},
		{manifest.Range{From: key(3)}, manifest.Range{To: key(3)}, false},
		{manifest.Range{From: key(3)}, manifest.Range{To: key(4)}, true},
		{manifest.Range{From: key(1), To: key(2)}, manifest.Range{From: key(2), To: key(3)}, false},
		{manifest.Range{From: key(1), To: key(3)}, manifest.Range{From: key(2), To: key(4)}, true},
	} {
		if archive.Overlap(c.a, c.b) != c.want || archive.Overlap(c.b, c.a) != c.want {
			t.Errorf("%v and %v: want %v", c.a, c.b, c.want)
		}
	}
}
