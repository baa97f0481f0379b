package row

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/manifest"
)

// repair sets the checksums of a row right as far as its structure can be
// followed, so that mutations get past them.
func repair(wire []byte) []byte {
	wire = bytes.Clone(wire)
	var sums []byte
	for at := 0; at < len(wire); {
		switch wire[at] {
		case tagKey, tagCells, tagDeleted:
			at++
		case tagCell:
			next, ok := repairCell(wire, at)
			if !ok {
				return wire
			}
			sums = append(sums, wire[next-1])
			at = next
		case tagRowChecksum:
			if at+1 < len(wire) {
				wire[at+1] = slowChecksum(append(sums, 0))
			}
			return wire
		default:
			return wire
		}
	}
	return wire
}

func repairCell(wire []byte, at int) (next int, ok bool) {
	skip := func(n int) []byte {
		if !ok || n < 0 || n > len(wire)-at {
			ok = false
			return nil
		}
		at += n
		return wire[at-n : at]
	}
	length := func() int {
		if p := skip(4); p != nil {
			return int(binary.LittleEndian.Uint32(p))
		}
		return 0
	}
	tag := func(want byte) bool { return ok && at < len(wire) && wire[at] == want && skip(1) != nil }
	ok = true
	if !tag(tagCell) || !tag(tagName) {
		return 0, false
	}
	sum := bytes.Clone(skip(length()))
	if tag(tagValue) {
		sum = append(sum, skip(length())...)
	}
	var op []byte
	if tag(tagOperation) {
		op = skip(1)
	}
	if tag(tagVersion) {
		sum = append(sum, skip(8)...)
	}
	if !tag(tagCellChecksum) {
		return 0, false
	}
	if crc := skip(1); crc != nil {
		crc[0] = slowChecksum(append(sum, op...))
	}
	return at, ok
}

// seedRows are rows of every kind.
func seedRows() [][]byte {
	return [][]byte{
		cellsRow().wire(),
		cellsRow(testCell{"count", int64(2), 20}, testCell{"count", int64(1), 10}, testCell{"title", "", 20}).wire(),
		cellsRow(testCell{"open", true, 20}, testCell{"price", 1.5, 21}, testCell{"title", []byte("x"), 20}, testCell{"title", "y", 19}).wire(),
		cellsRow(testCell{"zz", "z", 1}, testCell{"a", "a", 1}, testCell{"__ts", int64(-1), -1}).wire(),
		withOperation(3),
	}
}

// FuzzBuilder checks that what is accepted comes back, that the slow path reads
// it alike, and that nothing panics.
func FuzzBuilder(f *testing.F) {
	for _, wire := range seedRows() {
		f.Add(wire, true)
	}
	f.Fuzz(func(t *testing.T, wire []byte, mend bool) {
		if mend {
			wire = repair(wire)
		}
		wire = slices.Clip(wire)
		l := testLayout(t)
		b := NewBuilder(memory.DefaultAllocator, l)
		rest, err := b.Append(wire)
		d := NewDigester(l)
		digested, refused := d.Append(wire)
		if fmt.Sprint(err) != fmt.Sprint(refused) || len(digested) != len(rest) {
			t.Fatalf("a Builder says %v, a Digester %v", err, refused)
		}
		if err != nil {
			return
		}
		wire = wire[:len(wire)-len(rest)]
		want, err := Parse(wire)
		if err != nil {
			t.Fatalf("a Builder accepts it, but %v", err)
		}
		batch := b.Batch()
		got := encodeRow(t, l, batch, 0)
		back, err := Parse(got)
		if err != nil {
			t.Fatalf("encoded: %v", err)
		}
		if !slices.Equal(back.Key, want.Key) || !slices.Equal(back.Cells, want.Cells) {
			t.Fatalf("row is %v, want %v", back, want)
		}
		if batch.Leaves[0] != manifest.LeafHash(got) || batch.Bytes != int64(len(got)) || batch.Cells != int64(len(want.Cells)) {
			t.Error("leaf, size or cells are not those of the row")
		}
		if key := keyOfRecord(t, l, batch); !bytes.Equal(b.AppendKey(nil, wire), key) || !bytes.Equal(d.AppendKey(nil, wire), key) {
			t.Errorf("key is %x, of the record %x", d.AppendKey(nil, wire), key)
		}
		if hashed := d.Batch(); hashed.Leaves[0] != batch.Leaves[0] || hashed.Bytes != batch.Bytes || hashed.Cells != batch.Cells || hashed.Record != nil {
			t.Errorf("a Digester makes %v of it, want %v", hashed, batch)
		}
		if ordered(wire) && !bytes.Equal(got, wire) {
			t.Errorf("row is\n%x, want\n%x", got, wire)
		}
	})
}

// keyOfRecord returns the key of the first row of a batch.
func keyOfRecord(t *testing.T, l Layout, batch Batch) manifest.Key {
	e := NewEncoder(l)
	if err := e.Reset(batch.Record); err != nil {
		t.Fatal(err)
	}
	return e.AppendKey(nil, 0)
}

// ordered reports whether the cells of a row that parses stand in canonical
// order.
func ordered(wire []byte) bool {
	_, at, _, _ := readKeyCells(wire)
	if wire[at] == tagCells && wire[at+1] != tagCell {
		return false
	}
	var last cell
	lastName := []byte{}
	for at++; at < len(wire) && wire[at] == tagCell; {
		name, next, _ := readName(wire, at)
		var c cell
		at, _ = c.readAttribute(wire, next, rest(name))
		order := bytes.Compare(lastName, name)
		if order > 0 || order == 0 && last.version <= c.version {
			return false
		}
		last, lastName = c, name
	}
	return true
}

// FuzzParse checks that a row the slow path reads is read alike by a Builder, if
// its key is that of the layout.
func FuzzParse(f *testing.F) {
	for _, wire := range seedRows() {
		f.Add(wire, true)
	}
	f.Fuzz(func(t *testing.T, wire []byte, mend bool) {
		if mend {
			wire = repair(wire)
		}
		wire = slices.Clip(wire)
		r, err := Parse(wire)
		if err != nil {
			return
		}
		l := layoutOf(t, wire, r)
		b := NewBuilder(memory.DefaultAllocator, l)
		if _, err := b.Append(wire); err != nil {
			t.Fatalf("Parse reads %v, but %v", r, err)
		}
	})
}

// layoutOf returns a layout with the key columns of a row that parses.
func layoutOf(t *testing.T, wire []byte, r Row) Layout {
	cells, _, _, err := readKeyCells(wire)
	if err != nil {
		t.Fatal(err)
	}
	var l Layout
	for i, c := range cells {
		l.Key = append(l.Key, manifest.KeyColumn{Name: string(c.nameOf(wire)), Type: r.Key[i].Type()})
	}
	return l
}

// FuzzKey checks that keys come back from the bounds they make, and that bounds
// come back from the keys they hold.
func FuzzKey(f *testing.F) {
	good := goodKey()
	for n := range len(good) + 1 {
		wire := keyRow(good[:n]...)
		k, err := ParseKey(testKey, wire)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire, []byte(k))
	}
	f.Fuzz(func(t *testing.T, wire, key []byte) {
		if len(wire) > headerSize {
			wire = append(wire[:headerSize:headerSize], repair(wire[headerSize:])...)
		}
		if k, err := ParseKey(testKey, slices.Clip(wire)); err == nil {
			checkBound(t, k)
		}
		if _, err := AppendBound(nil, testKey, key, false); err == nil {
			checkBound(t, key)
		}
		if FormatKey(testKey, key) == "" {
			t.Error("a key is written as nothing")
		}
	})
}

func checkBound(t *testing.T, k manifest.Key) {
	t.Helper()
	wire, err := AppendBound(nil, testKey, k, false)
	if err != nil {
		t.Fatalf("key %s: %v", k, err)
	}
	back, err := ParseKey(testKey, wire)
	if err != nil || !bytes.Equal(back, k) {
		t.Fatalf("key %s comes back as %s, %v", k, back, err)
	}
}

// choices makes decisions out of the bytes of a fuzzer.
type choices []byte

// of returns a number below n.
func (c *choices) of(n int) int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b) % n
}

// maybe appends a value or a null.
func (c *choices) maybe(b array.Builder, add func()) {
	if c.of(4) == 0 {
		b.AppendNull()
		return
	}
	add()
}

// entries fills a list of structs with names, versions and values that collide
// with each other and with columns.
func (c *choices) entries(b *array.ListBuilder) {
	names := []string{"a", "b", "c", "d", "e"}
	b.Append(true)
	entry := b.ValueBuilder().(*array.StructBuilder)
	for range c.of(6) {
		entry.Append(true)
		entry.FieldBuilder(0).(*array.StringBuilder).Append(names[c.of(len(names))])
		entry.FieldBuilder(1).(*array.Int64Builder).Append(int64(c.of(4)))
		set := c.of(5)
		for i := range entry.NumField() - 2 {
			field := entry.FieldBuilder(i + 2)
			if i != set {
				field.AppendNull()
				continue
			}
			if err := field.AppendValueFromString([]string{"1", "1.5", "true", "s", "eA=="}[i]); err != nil {
				panic(err)
			}
		}
	}
}

// hostileLayout is the layout of records out of choices.
func hostileLayout(t testing.TB) Layout {
	return mustLayout(t, []manifest.KeyColumn{{Name: "id", Type: manifest.Integer}},
		manifest.Column{Name: "b", Type: manifest.Integer}, manifest.Column{Name: "d", Type: manifest.String})
}

// checkOnlyOne checks that a record the Encoder accepts is the only one for its
// rows: a Builder makes it again. It reports whether the record was accepted.
func checkOnlyOne(t *testing.T, rec arrow.RecordBatch) bool {
	t.Helper()
	l := hostileLayout(t)
	e, b := NewEncoder(l), NewBuilder(memory.DefaultAllocator, l)
	if err := e.Reset(rec); err != nil {
		t.Fatal(err)
	}
	for i := range int(rec.NumRows()) {
		wire, err := e.AppendRow(nil, i)
		if err != nil {
			return false
		}
		if _, err := b.Append(wire); err != nil {
			t.Fatalf("the Encoder makes a row of\n%v\nthat a Builder refuses: %v", rec, err)
		}
	}
	if got := b.Batch().Record; !array.RecordEqual(got, rec) {
		t.Fatalf("the Encoder accepts\n%v\nbut a Builder makes\n%v", rec, got)
	}
	return true
}

func FuzzEncoder(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		checkOnlyOne(t, hostileRecord(hostileLayout(t), data))
	})
}

func TestAcceptedRecordsAreTheOnlyOnes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(35, 36))
	accepted := 0
	const records = 10_000
	for range records {
		if checkOnlyOne(t, hostileRecord(hostileLayout(t), randomBytes(rnd, 40))) {
			accepted++
		}
	}
	if accepted < records/100 || accepted > records/2 {
		t.Errorf("%d of %d records were accepted: choose otherwise", accepted, records)
	}
}

func hostileRecord(l Layout, c choices) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, l.Schema())
	for range 1 + c.of(2) {
		b.Field(0).(*array.Int64Builder).Append(int64(c.of(3)))
		c.maybe(b.Field(1), func() { b.Field(1).(*array.Int64Builder).Append(1) })
		c.maybe(b.Field(2), func() { b.Field(2).(*array.StringBuilder).Append("s") })
		c.maybe(b.Field(3), func() { b.Field(3).(*array.Int64Builder).Append(int64(c.of(4))) })
		c.entries(b.Field(4).(*array.ListBuilder))
		c.entries(b.Field(5).(*array.ListBuilder))
	}
	return b.NewRecordBatch()
}
