package archive

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// header returns the header of a page of 2 bytes with 3 values, in Thrift's compact
// protocol, with fields behind those it needs, and the page.
func header(more ...byte) []byte {
	h := []byte{
		0x15, 0, 0x15, 4, 0x15, 4, // type, sizes
		0x2c, 0x15, 6, 0x15, 0, 0x15, 6, 0x15, 6, 0, // data page: values, encodings
	}
	return append(append(append(h, more...), 0), 0xaa, 0xbb)
}

func TestPageHeadersAreRead(t *testing.T) {
	all, err := pagesOf(slices.Concat(header(), header()), 6)
	if err != nil || len(all) != 2 || all[1].values != 3 || all[1].size != int64(len(header())) {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestPageHeadersThatHideSomethingAreRefused(t *testing.T) {
	for _, test := range []struct {
		name, reason string
		data         []byte
		values       int64
	}{
		{"a page too many", "more than are said", header(), 2},
		{"a page too few", "less than are said", header(), 4},
		{"no page", "less than are said", nil, 1},
		{"a field that is not known", "a field 9 of type 5", header(0x45, 2), 3},
		{"a field of another type", "a field 4 of type 6", bytes.Replace(header(), []byte{0x15, 4, 0x2c}, []byte{0x15, 4, 0x16, 2, 0x1c}, 1), 3},
		{"a field twice", "field 5 twice", header(0x0c, 10, 0), 3},
		{"a list", "a field of type 9", header(0x49, 0), 3},
		{"a header without end", "cut short", header()[:15], 3},
		{"an integer of more than 32 bits", "cut short", bytes.Replace(header(), []byte{0x15, 0, 0x15}, []byte{0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0x15}, 1), 3},
		{"an integer without end", "cut short", append([]byte{0x15}, bytes.Repeat([]byte{0xff}, 20)...), 3},
		{"structs without end", "cut short", bytes.Repeat([]byte{0x1c}, 1000), 3},
		{"a page past the end", "has 2 bytes, its column has 1 left", header()[:len(header())-1], 3},
		{"a page of another type", "is of type 3", bytes.Replace(header(), []byte{0x15, 0}, []byte{0x15, 6}, 1), 3},
		{"zeros behind the pages", "has no values", append(header(), 0, 0, 0, 0), 3},
		{"a dictionary behind a page", "behind other pages", append(header(), 0x15, 4, 0x15, 0, 0x15, 0, 0x4c, 0x15, 2, 0x15, 0, 0, 0), 3},
		{"a sorted dictionary", "dictionary is sorted", []byte{0x15, 4, 0x15, 0, 0x15, 0, 0x4c, 0x15, 2, 0x15, 0, 0x11, 0, 0}, 3},
	} {
		if _, err := pagesOf(test.data, test.values); err == nil || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.reason)
		}
	}
}

func FuzzPageHeaders(f *testing.F) {
	f.Add(header(), int64(3))
	f.Add(slices.Concat(header(), header()), int64(6))
	f.Fuzz(func(t *testing.T, data []byte, values int64) {
		all, err := pagesOf(data, values)
		if err != nil {
			return
		}
		size, sum := int64(0), int64(0)
		for _, p := range all {
			size += p.size
			if p.kind == dataPage {
				sum += p.values
			}
		}
		if size != int64(len(data)) || sum != max(values, 0) {
			t.Errorf("%d bytes and %d values of %d and %d", size, sum, len(data), values)
		}
	})
}
