package row

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/manifest"
)

// The rows of these tests are written by the encoder below, which is as plain as
// can be and shares nothing with the package but the names of types.

type testCell struct {
	name    string
	value   any // int64, float64, bool, string, []byte, or raw bytes of a value
	version int64
}

type testRow struct {
	key   []testCell
	cells []testCell
}

// raw is a value in wire form, for values that should be refused.
type raw []byte

func wireValue(v any) []byte {
	switch v := v.(type) {
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
	case raw:
		return v
	}
	panic(fmt.Sprintf("no such value: %T", v))
}

func wireCell(dst []byte, c testCell, versioned bool) []byte {
	dst = append(dst, 3, 4)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(c.name)))
	dst = append(dst, c.name...)
	value := wireValue(c.value)
	sum := append([]byte(c.name), value...)
	dst = append(dst, 5)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(value)))
	dst = append(dst, value...)
	if versioned {
		version := binary.LittleEndian.AppendUint64(nil, uint64(c.version))
		sum = append(sum, version...)
		dst = append(append(dst, 7), version...)
	}
	return append(dst, 10, slowChecksum(sum))
}

// wire returns the row with its cells as they stand.
func (r testRow) wire() []byte {
	dst := []byte{1}
	var sums []byte
	for _, c := range r.key {
		dst = wireCell(dst, c, false)
		sums = append(sums, dst[len(dst)-1])
	}
	if len(r.cells) > 0 {
		dst = append(dst, 2)
	}
	for _, c := range r.cells {
		dst = wireCell(dst, c, true)
		sums = append(sums, dst[len(dst)-1])
	}
	return append(dst, 9, slowChecksum(append(sums, 0)))
}

// canonical returns the row with its cells in order.
func (r testRow) canonical() []byte { return sorted(r).wire() }

// sorted returns the row with its cells by name, newest first.
func sorted(r testRow) testRow {
	cells := slices.Clone(r.cells)
	slices.SortFunc(cells, func(a, b testCell) int {
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(b.version, a.version))
	})
	return testRow{r.key, cells}
}

func mustLayout(t testing.TB, key []manifest.KeyColumn, columns ...manifest.Column) Layout {
	t.Helper()
	l, err := NewLayout(key, columns)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var testKey = []manifest.KeyColumn{
	{Name: "country", Type: manifest.String},
	{Name: "id", Type: manifest.Integer},
	{Name: "part", Type: manifest.Binary},
}

func testLayout(t testing.TB) Layout {
	return mustLayout(t, testKey,
		manifest.Column{Name: "Zip", Type: manifest.String},
		manifest.Column{Name: "count", Type: manifest.Integer},
		manifest.Column{Name: "data", Type: manifest.Binary},
		manifest.Column{Name: "open", Type: manifest.Boolean},
		manifest.Column{Name: "price", Type: manifest.Double},
		manifest.Column{Name: "title", Type: manifest.String},
	)
}

// randomNames are attributes with and without columns, some that differ by case
// alone, and some that are called like columns of ours or of the key.
var randomNames = []string{
	"Zip", "count", "data", "open", "price", "title",
	"zip", "COUNT", "Title", "__ts", "__tsx", "__more", "id", "a", "zz", "extra_attribute_with_a_long_name",
}

func randomValue(rnd *rand.Rand) any {
	ints := []int64{0, 1, -1, math.MinInt64, math.MaxInt64, rnd.Int64()}
	doubles := []float64{0, math.Copysign(0, -1), 1.5, math.MaxFloat64, math.SmallestNonzeroFloat64, rnd.NormFloat64()}
	switch rnd.IntN(5) {
	case 0:
		return ints[rnd.IntN(len(ints))]
	case 1:
		return doubles[rnd.IntN(len(doubles))]
	case 2:
		return rnd.IntN(2) == 1
	case 3:
		return strings.Repeat("ü", rnd.IntN(40))
	}
	return randomBytes(rnd, rnd.IntN(60))
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rnd.IntN(3) * rnd.IntN(256)) // many zeros
	}
	return p
}

// valueOf returns a random value of a type.
func valueOf(rnd *rand.Rand, t manifest.Type) any {
	for {
		v := randomValue(rnd)
		if newValue(kind(wireValue(v)[0]), make([]byte, 8)).Type() == t {
			return v
		}
	}
}

func randomKey(rnd *rand.Rand) []testCell {
	return []testCell{
		{name: "country", value: string(randomBytes(rnd, rnd.IntN(4)))},
		{name: "id", value: valueOf(rnd, manifest.Integer)},
		{name: "part", value: randomBytes(rnd, rnd.IntN(20))},
	}
}

// randomRow returns a row in canonical order: often all alike and of one version,
// sometimes anything.
func randomRow(rnd *rand.Rand, l Layout) testRow {
	r := testRow{key: randomKey(rnd)}
	version := 1763000000000 + rnd.Int64N(1000)
	for _, c := range l.Columns {
		if rnd.IntN(8) > 0 {
			r.cells = append(r.cells, testCell{c.Name, valueOf(rnd, c.Type), version})
		}
	}
	switch rnd.IntN(4) {
	case 0:
		r.cells = nil
	case 1:
		r.cells = randomCells(rnd)
	case 2:
		for i := range r.cells {
			r.cells[i].version += rnd.Int64N(2)
		}
	}
	return r
}

func randomCells(rnd *rand.Rand) []testCell {
	seen := map[string]bool{}
	var cells []testCell
	for range rnd.IntN(20) {
		c := testCell{randomNames[rnd.IntN(len(randomNames))], randomValue(rnd), rnd.Int64N(8) - 2}
		if id := fmt.Sprint(c.name, " ", c.version); !seen[id] {
			seen[id] = true
			cells = append(cells, c)
		}
	}
	return sorted(testRow{cells: cells}).cells
}

func leafHash(row []byte) manifest.Hash {
	return sha256.Sum256(append([]byte{0}, row...))
}

// buildRows appends rows to a new Builder and returns the batch.
func buildRows(t testing.TB, l Layout, rows ...testRow) Batch {
	t.Helper()
	b := NewBuilder(memory.DefaultAllocator, l)
	for i, r := range rows {
		rest, err := b.Append(append(r.wire(), "next"...))
		if err != nil {
			t.Fatalf("row %d: %v", i, err)
		}
		if string(rest) != "next" {
			t.Fatalf("row %d: Append left %q", i, rest)
		}
	}
	return b.Batch()
}

func encodeRow(t testing.TB, l Layout, b Batch, i int) []byte {
	t.Helper()
	e := NewEncoder(l)
	if err := e.Reset(b.Record); err != nil {
		t.Fatal(err)
	}
	got, err := e.AppendRow(nil, i)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRowsComeBackToTheByte(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(5, 6))
	b := NewBuilder(memory.DefaultAllocator, l)
	e := NewEncoder(l)
	for n := range 200 {
		var rows []testRow
		var cells, size int64
		for range rnd.IntN(50) {
			r := randomRow(rnd, l)
			rows = append(rows, r)
			wire := r.wire()
			cells += int64(len(r.cells))
			size += int64(len(wire))
			rest, err := b.Append(wire)
			if err != nil || len(rest) != 0 {
				t.Fatalf("Append: %d bytes left, %v", len(rest), err)
			}
		}
		if b.Rows() != len(rows) || b.Bytes() != size {
			t.Fatalf("Builder has %d rows, %d bytes, want %d, %d", b.Rows(), b.Bytes(), len(rows), size)
		}
		batch := b.Batch()
		if batch.Cells != cells || batch.Bytes != size || len(batch.Leaves) != len(rows) {
			t.Fatalf("batch has %d cells, %d bytes, %d leaves, want %d, %d, %d", batch.Cells, batch.Bytes, len(batch.Leaves), cells, size, len(rows))
		}
		if err := e.Reset(batch.Record); err != nil {
			t.Fatal(err)
		}
		for i, r := range rows {
			want := r.wire()
			got, err := e.AppendRow([]byte("head"), i)
			if err != nil {
				t.Fatalf("batch %d: %v", n, err)
			}
			if !bytes.Equal(got[4:], want) {
				t.Fatalf("batch %d, row %d is\n%x, want\n%x", n, i, got[4:], want)
			}
			if batch.Leaves[i] != leafHash(want) {
				t.Fatalf("batch %d, row %d: leaf hash differs", n, i)
			}
			if e.Cells(i) != len(r.cells) {
				t.Fatalf("batch %d, row %d has %d cells, want %d", n, i, e.Cells(i), len(r.cells))
			}
		}
		batch.Record.Release()
	}
}
