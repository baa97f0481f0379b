package archive_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// cell is a cell of a test row: a key column, or a version of an attribute.
type cell struct {
	name    string
	value   any // int64, float64, bool, string or []byte
	version int64
}

// wire returns a row in PlainBuffer with its cells in canonical order.
func wire(key, cells []cell) []byte {
	cells = slices.Clone(cells)
	slices.SortFunc(cells, func(a, b cell) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return int(max(-1, min(1, b.version-a.version)))
	})
	dst := []byte{1}
	var sums []byte
	for _, c := range key {
		dst = c.append(dst, false)
		sums = append(sums, dst[len(dst)-1])
	}
	if len(cells) > 0 {
		dst = append(dst, 2)
	}
	for _, c := range cells {
		dst = c.append(dst, true)
		sums = append(sums, dst[len(dst)-1])
	}
	return append(dst, 9, crc8(append(sums, 0)))
}

func (c cell) append(dst []byte, versioned bool) []byte {
	value := c.bytes()
	sum := append([]byte(c.name), value...)
	dst = binary.LittleEndian.AppendUint32(append(dst, 3, 4), uint32(len(c.name)))
	dst = binary.LittleEndian.AppendUint32(append(append(dst, c.name...), 5), uint32(len(value)))
	dst = append(dst, value...)
	if versioned {
		version := binary.LittleEndian.AppendUint64(nil, uint64(c.version))
		sum = append(sum, version...)
		dst = append(append(dst, 7), version...)
	}
	return append(dst, 10, crc8(sum))
}

func (c cell) bytes() []byte {
	switch v := c.value.(type) {
	case int64:
		return binary.LittleEndian.AppendUint64([]byte{0}, uint64(v))
	case float64:
		return binary.LittleEndian.AppendUint64([]byte{1}, math.Float64bits(v))
	case bool:
		if v {
			return []byte{2, 1}
		}
		return []byte{2, 0}
	case string:
		return append(binary.LittleEndian.AppendUint32([]byte{3}, uint32(len(v))), v...)
	case []byte:
		return append(binary.LittleEndian.AppendUint32([]byte{7}, uint32(len(v))), v...)
	}
	panic(fmt.Sprintf("no such value: %T", c.value))
}

func crc8(p []byte) byte {
	var crc byte
	for _, b := range p {
		crc ^= b
		for range 8 {
			high := crc >> 7
			crc = crc<<1 ^ high*7
		}
	}
	return crc
}

// orders is the layout of most tests: a table of orders.
func orders(t testing.TB) row.Layout {
	t.Helper()
	l, err := row.NewLayout(
		[]manifest.KeyColumn{{Name: "customer", Type: manifest.String}, {Name: "id", Type: manifest.Integer}, {Name: "part", Type: manifest.Binary}},
		[]manifest.Column{
			{Name: "country", Type: manifest.String},
			{Name: "note", Type: manifest.String},
			{Name: "paid", Type: manifest.Boolean},
			{Name: "photo", Type: manifest.Binary},
			{Name: "price", Type: manifest.Double},
			{Name: "quantity", Type: manifest.Integer},
		})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// order returns order number i with whatever an order may have: absent cells,
// older versions, cells of another type, and attributes without a column.
func order(rnd *rand.Rand, i int) []byte {
	key := []cell{
		{name: "customer", value: fmt.Sprintf("customer-%06d", i/7)},
		{name: "id", value: int64(i - 1000)},
		{name: "part", value: []byte{0, byte(i), 0xff}},
	}
	now := 1763000000000 + int64(i)
	var cells []cell
	add := func(chance int, name string, value any) {
		if rnd.IntN(100) < chance {
			cells = append(cells, cell{name, value, now + rnd.Int64N(20)/19})
		}
	}
	add(95, "country", []string{"DE", "US", "", "訂單"}[rnd.IntN(4)])
	add(90, "note", strings.Repeat("n", rnd.IntN(40)))
	add(80, "paid", rnd.IntN(2) == 0)
	add(10, "photo", []byte(strings.Repeat("\xff\x00", rnd.IntN(200))))
	add(90, "price", []float64{1.25, math.Copysign(0, -1), math.NaN(), math.Inf(1)}[rnd.IntN(4)])
	add(90, "quantity", rnd.Int64N(10))
	add(5, "extra", int64(i))
	if rnd.IntN(10) == 0 {
		cells = append(cells, cell{"price", "a string where doubles are", now - 5}, cell{"price", 3.5, now - 9})
	}
	return wire(key, cells)
}

// batch builds a batch of rows in PlainBuffer.
func batch(t testing.TB, l row.Layout, rows ...[]byte) row.Batch {
	t.Helper()
	b := row.NewBuilder(memory.NewGoAllocator(), l)
	for _, r := range rows {
		if rest, err := b.Append(r); err != nil || len(rest) > 0 {
			t.Fatal("cannot build the row: ", err)
		}
	}
	return b.Batch()
}

// batches returns as many batches of orders as sizes are given, in key order.
func batches(t testing.TB, sizes ...int) []row.Batch {
	t.Helper()
	l := orders(t)
	rnd := rand.New(rand.NewPCG(11, 12))
	var all []row.Batch
	next := 0
	for _, size := range sizes {
		var rows [][]byte
		for range size {
			rows = append(rows, order(rnd, next))
			next++
		}
		all = append(all, batch(t, l, rows...))
	}
	return all
}

var testMeta = archive.Meta{Table: "orders", Snapshot: "20261122T160501Z-1f7a9c04"}

// write makes a chunk.
func write(t testing.TB, l row.Layout, all ...row.Batch) ([]byte, manifest.Chunk) {
	t.Helper()
	w, err := archive.NewWriter(l, testMeta)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	data, c, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	c.Name = manifest.ChunkName(0, 0, 0)
	return data, c
}
