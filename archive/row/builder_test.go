package row

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/otsnap/otsnap/manifest"
)

// goodKey is a primary key testLayout accepts.
func goodKey() []testCell {
	return []testCell{{name: "country", value: "US"}, {name: "id", value: int64(-7)}, {name: "part", value: []byte{0xff, 0}}}
}

// cellsRow returns a row with cells that stand as given.
func cellsRow(cells ...testCell) testRow { return testRow{goodKey(), cells} }

// recordOf returns a record in testLayout whose rows all have goodKey and are
// otherwise as the JSON says. What a row does not name is null.
func recordOf(t *testing.T, rows ...string) arrow.RecordBatch {
	t.Helper()
	for i, r := range rows {
		rows[i] = `{"country":"US","id":-7,"part":"/wA=",` + r + "}"
	}
	text := "[" + strings.Join(rows, ",") + "]"
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, testLayout(t).Schema(), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestWhereCellsGo(t *testing.T) {
	tests := []struct {
		name  string
		cells []testCell
		want  string
	}{
		{
			"ARowMayHaveNothingButAKey",
			nil,
			`"__tsx":[],"__more":[]`,
		}, {
			"TheNewestVersionGoesToItsColumn",
			[]testCell{{"count", int64(2), 20}, {"count", int64(1), 10}, {"title", "", 20}},
			`"count":2,"title":"","__ts":20,"__tsx":[],"__more":[{"name":"count","ts":10,"i":1}]`,
		}, {
			"ANewestVersionOfAnotherTypeTakesAllToMore",
			[]testCell{{"count", 1.5, 20}, {"count", int64(1), 10}},
			`"__tsx":[],"__more":[{"name":"count","ts":20,"d":1.5},{"name":"count","ts":10,"i":1}]`,
		}, {
			"AnOlderVersionOfAnotherTypeDoesNot",
			[]testCell{{"count", int64(1), 20}, {"count", true, 10}},
			`"count":1,"__ts":20,"__tsx":[],"__more":[{"name":"count","ts":10,"b":true}]`,
		}, {
			"NamesThatDifferByCaseAreOthers",
			[]testCell{{"COUNT", int64(1), 20}, {"count", int64(2), 20}},
			`"count":2,"__ts":20,"__tsx":[],"__more":[{"name":"COUNT","ts":20,"i":1}]`,
		}, {
			"AttributesMayBeCalledLikeColumnsOfOurs",
			[]testCell{{"__more", "m", 20}, {"__ts", []byte("t"), 20}, {"id", int64(1), 20}},
			`"__tsx":[],"__more":[{"name":"__more","ts":20,"s":"m"},{"name":"__ts","ts":20,"x":"dA=="},{"name":"id","ts":20,"i":1}]`,
		}, {
			"VersionsThatDifferFromMostAreNamed",
			[]testCell{{"Zip", "z", 21}, {"count", int64(1), 20}, {"open", true, 20}, {"price", 0.5, 20}, {"title", "t", 19}},
			`"Zip":"z","count":1,"open":true,"price":0.5,"title":"t","__ts":20,"__tsx":[{"name":"Zip","ts":21},{"name":"title","ts":19}],"__more":[]`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := testLayout(t)
			b := buildRows(t, l, cellsRow(tt.cells...))
			if want := recordOf(t, tt.want); !array.RecordEqual(b.Record, want) {
				t.Errorf("record is\n%v, want\n%v", b.Record, want)
			}
			if wire := cellsRow(tt.cells...).wire(); !bytes.Equal(encodeRow(t, l, b, 0), wire) {
				t.Error("the row does not come back")
			}
		})
	}
}

func TestCellsOutOfOrderArePutInOrder(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(9, 10))
	for range 500 {
		r := testRow{key: randomKey(rnd), cells: randomCells(rnd)}
		rnd.Shuffle(len(r.cells), func(i, j int) { r.cells[i], r.cells[j] = r.cells[j], r.cells[i] })
		b := buildRows(t, l, r)
		if got, want := encodeRow(t, l, b, 0), r.canonical(); !bytes.Equal(got, want) {
			t.Fatalf("row is\n%x, want\n%x", got, want)
		}
		if b.Leaves[0] != leafHash(r.canonical()) {
			t.Fatal("leaf hash is not that of the row in order")
		}
		if b.Bytes != int64(len(r.canonical())) {
			t.Fatalf("%d bytes, want %d", b.Bytes, len(r.canonical()))
		}
	}
}

func TestATagWithoutCellsIsLeftOut(t *testing.T) {
	l := testLayout(t)
	plain := cellsRow().wire()
	tagged := append(plain[:len(plain)-2:len(plain)-2], tagCells)
	tagged = append(tagged, plain[len(plain)-2:]...)
	b := NewBuilder(memory.DefaultAllocator, l)
	if _, err := b.Append(tagged); err != nil {
		t.Fatal(err)
	}
	batch := b.Batch()
	if got := encodeRow(t, l, batch, 0); !bytes.Equal(got, plain) {
		t.Errorf("row is %x, want %x", got, plain)
	}
	if batch.Leaves[0] != leafHash(plain) || batch.Bytes != int64(len(plain)) {
		t.Error("hash and size are not those of the row without the tag")
	}
}

// withOperation returns a row whose one cell carries an operation.
func withOperation(op byte) []byte {
	wire := cellsRow(testCell{"count", int64(1), 5}).wire()
	end := len(wire) - 2      // of the cell
	at := end - attributeTail // of the version
	sum := append([]byte("count"), wireValue(int64(1))...)
	sum = append(sum, wire[at+1:at+9]...)
	crc := slowChecksum(append(sum, op))
	out := append(append(wire[:at:at], tagOperation, op), wire[at:end-1]...)
	return append(out, crc, tagRowChecksum, rowChecksum(crc))
}

// rowChecksum is the checksum of a row with goodKey and cells that have the given
// ones.
func rowChecksum(cells ...byte) byte {
	var sums []byte
	for _, c := range goodKey() {
		cell := wireCell(nil, c, false)
		sums = append(sums, cell[len(cell)-1])
	}
	return slowChecksum(append(append(sums, cells...), 0))
}

func TestRowsThatAreRefused(t *testing.T) {
	key := goodKey()
	other := func(i int, c testCell) testRow {
		cells := goodKey()
		cells[i] = c
		return testRow{key: cells}
	}
	unversioned := wireCell(nil, testCell{name: "count", value: int64(1)}, false)
	nothing := []byte{3, 4, 1, 0, 0, 0, 'a', 7, 1, 0, 0, 0, 0, 0, 0, 0}
	nothing = append(nothing, 10, slowChecksum([]byte{'a', 1, 0, 0, 0, 0, 0, 0, 0}))
	head := cellsRow().wire()
	head = append(head[:len(head)-2], tagCells)
	row := func(cell []byte) []byte {
		return append(append(bytes.Clone(head), cell...), tagRowChecksum, rowChecksum(cell[len(cell)-1]))
	}
	deleted := cellsRow().wire()
	deleted = append(deleted[:len(deleted)-2], tagDeleted, tagRowChecksum, 0)
	versionedKey := testRow{key: key}.wire()
	versionedKey = append(append([]byte{1}, wireCell(nil, key[0], true)...), versionedKey...)

	tests := []struct {
		name string
		wire []byte
		want string
	}{
		{"nothing at all", nil, "row 1: row does not start with a primary key"},
		{"a buffer's header", AppendHeader(nil), "row does not start with a primary key"},
		{"no key columns", testRow{}.wire(), `key column 1 is not "country"`},
		{"too few key columns", testRow{key: key[:2]}.wire(), `key column 3 is not "part"`},
		{"too many key columns", testRow{key: append(goodKey(), testCell{name: "more", value: int64(1)})}.wire(), "more than 3 key columns"},
		{"key columns in another order", testRow{key: []testCell{key[1], key[0], key[2]}}.wire(), `key column 1 is not "country"`},
		{"a key column of another name", other(1, testCell{name: "ID", value: int64(1)}).wire(), `key column 2 is not "id"`},
		{"a key column of another type", other(1, testCell{name: "id", value: "1"}).wire(), `key column "id": value is not INTEGER`},
		{"a key column that is INF_MIN", other(1, testCell{name: "id", value: raw{byte(infMin)}}).wire(), `key column "id": value is not INTEGER`},
		{"a key column with a version", versionedKey, `key column "country": key column with a version`},
		{"a null", cellsRow(testCell{"a", raw{byte(null)}, 1}).wire(), `attribute "a": no value`},
		{"INF_MAX", cellsRow(testCell{"a", raw{byte(infMax)}, 1}).wire(), `attribute "a": no value`},
		{"no value", row(nothing), `attribute "a": no value`},
		{"no version", row(unversioned), `attribute "count": no version`},
		{"an unknown type", cellsRow(testCell{"a", raw{4}, 1}).wire(), `attribute "a": unknown type of value`},
		{"a boolean of 2", cellsRow(testCell{"a", raw{2, 2}, 1}).wire(), `attribute "a": boolean is neither`},
		{"a short integer", cellsRow(testCell{"a", raw{0, 1, 2, 3, 4}, 1}).wire(), `attribute "a": length does not fit`},
		{"a long boolean", cellsRow(testCell{"a", raw{2, 1, 1}, 1}).wire(), `attribute "a": length does not fit`},
		{"a string longer than its value", cellsRow(testCell{"a", raw{3, 2, 0, 0, 0, 'x'}, 1}).wire(), `attribute "a": length does not fit`},
		{"a string shorter than its value", cellsRow(testCell{"a", raw{3, 0, 0, 0, 0, 'x'}, 1}).wire(), `attribute "a": length does not fit`},
		{"an empty name", cellsRow(testCell{"", int64(1), 1}).wire(), "cell 1: name is not 1 to 255 bytes long"},
		{"a name of 256 bytes", cellsRow(testCell{strings.Repeat("n", 256), int64(1), 1}).wire(), "cell 1: name is not 1 to 255 bytes long"},
		{"a version twice", cellsRow(testCell{"a", int64(1), 1}, testCell{"a", "x", 1}).wire(), `attribute "a": version 1: version stands twice`},
		{"a version twice, apart", cellsRow(testCell{"a", int64(1), 1}, testCell{"b", "x", 1}, testCell{"a", int64(1), 1}).wire(), `attribute "a": version 1: version stands twice`},
		{"deleting one version", withOperation(3), `attribute "count": carries an operation`},
		{"deleting all versions", withOperation(1), `attribute "count": carries an operation`},
		{"an increment", withOperation(4), `attribute "count": carries an operation`},
		{"a delete marker", deleted, "carries a delete marker"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBuilder(memory.DefaultAllocator, testLayout(t))
			rest, err := b.Append(tt.wire)
			if err == nil {
				t.Fatalf("accepted, %d bytes left", len(rest))
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %q, want it to say %q", err, tt.want)
			}
		})
	}
}

func TestErrorsNameTheRow(t *testing.T) {
	b := NewBuilder(memory.DefaultAllocator, testLayout(t))
	_, err := b.Append(cellsRow(testCell{"a", raw{4}, 1}).wire())
	if want := `row: key ("US", -7, 0xff00): attribute "a": unknown type of value`; err == nil || err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	l := testLayout(t)
	wire := cellsRow(
		testCell{"count", int64(1), 20}, testCell{"count", 1.5, 10}, testCell{"open", true, 20},
		testCell{"title", "a title of some length", 20}, testCell{"x", []byte{1, 2}, 20},
	).wire()
	b := NewBuilder(memory.DefaultAllocator, l)
	for bit := range len(wire) * 8 {
		wire[bit/8] ^= 1 << (bit % 8)
		if _, err := b.Append(wire); err == nil {
			t.Errorf("bit %d of byte %d (%#x) flipped unnoticed", bit%8, bit/8, wire[bit/8])
		}
		wire[bit/8] ^= 1 << (bit % 8)
	}
}

func TestRowsCutShortAreRefused(t *testing.T) {
	l := testLayout(t)
	wire := cellsRow(testCell{"count", int64(1), 20}, testCell{"open", true, 20}, testCell{"title", "a title", 20}).wire()
	b := NewBuilder(memory.DefaultAllocator, l)
	for n := range wire {
		// The capacity is cut too, so that reading on would be noticed.
		if _, err := b.Append(wire[:n:n]); err == nil {
			t.Errorf("accepted the first %d bytes of %d", n, len(wire))
		}
	}
}

func TestAFailedAppendChangesNothing(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(11, 12))
	clean, tried := NewBuilder(memory.DefaultAllocator, l), NewBuilder(memory.DefaultAllocator, l)
	for range 200 {
		wire := randomRow(rnd, l).wire()
		broken := bytes.Clone(wire)
		broken[len(broken)-1]++
		if _, err := tried.Append(broken); err == nil {
			t.Fatal("accepted a wrong checksum")
		}
		for _, b := range []*Builder{clean, tried} {
			if _, err := b.Append(wire); err != nil {
				t.Fatal(err)
			}
		}
	}
	want, got := clean.Batch(), tried.Batch()
	if fmt.Sprint(want.Record) != fmt.Sprint(got.Record) {
		t.Error("records differ")
	}
	if fmt.Sprint(want.Leaves, want.Cells, want.Bytes) != fmt.Sprint(got.Leaves, got.Cells, got.Bytes) {
		t.Error("leaves, cells or bytes differ")
	}
}

func TestBatchesShareNothingWithTheWire(t *testing.T) {
	l := testLayout(t)
	r := cellsRow(testCell{"title", "a title", 20}, testCell{"x", []byte("bytes"), 20})
	wire := r.wire()
	b := NewBuilder(memory.DefaultAllocator, l)
	if _, err := b.Append(wire); err != nil {
		t.Fatal(err)
	}
	clear(wire)
	batch := b.Batch()
	if got := encodeRow(t, l, batch, 0); !bytes.Equal(got, r.wire()) {
		t.Error("the batch changed with the bytes it was made of")
	}
	// Nor does it change with the next batch.
	if _, err := b.Append(cellsRow(testCell{"title", "another", 21}).wire()); err != nil {
		t.Fatal(err)
	}
	if got := encodeRow(t, l, batch, 0); !bytes.Equal(got, r.wire()) {
		t.Error("the batch changed with the next one")
	}
}

func TestABatchIsNeverLargerThanItsOffsets(t *testing.T) {
	wire := cellsRow(testCell{"title", "t", 1}).wire()
	b := NewBuilder(memory.DefaultAllocator, testLayout(t))
	b.bytes = maxBatch - int64(len(wire))
	if _, err := b.Append(wire); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Append(wire); err == nil || !strings.Contains(err.Error(), "larger than 2 GiB") {
		t.Fatalf("error is %v", err)
	}
	b.Batch()
	if _, err := b.Append(wire); err != nil {
		t.Errorf("after the batch: %v", err)
	}
}

func TestMemoryIsGivenBack(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(13, 14))
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	b := NewBuilder(mem, l)
	for range 3 {
		for range 100 {
			if _, err := b.Append(randomRow(rnd, l).wire()); err != nil {
				t.Fatal(err)
			}
		}
		b.Batch().Record.Release()
	}
	b.Batch().Record.Release()
}

func TestABatchMayBeEmpty(t *testing.T) {
	l := testLayout(t)
	batch := NewBuilder(memory.DefaultAllocator, l).Batch()
	if batch.Record.NumRows() != 0 || !batch.Record.Schema().Equal(l.Schema()) {
		t.Errorf("record is %v", batch.Record)
	}
	if err := NewEncoder(l).Reset(batch.Record); err != nil {
		t.Error(err)
	}
}

func TestATableMayHaveAnyNumberOfNames(t *testing.T) {
	l := testLayout(t)
	b, e := NewBuilder(memory.DefaultAllocator, l), NewEncoder(l)
	for i := range 2*maxNames/1000 + 2 {
		r := cellsRow()
		for j := range 1000 {
			r.cells = append(r.cells, testCell{fmt.Sprintf("n%08d", i*1000+j), int64(j), 5})
		}
		r.cells = append(r.cells, testCell{"title", "t", 5})
		if _, err := b.Append(r.wire()); err != nil {
			t.Fatal(err)
		}
		if len(b.names.list) > maxNames+1001+len(l.Columns) {
			t.Fatalf("%d names are remembered", len(b.names.list))
		}
		batch := b.Batch()
		if err := e.Reset(batch.Record); err != nil {
			t.Fatal(err)
		}
		if got, err := e.AppendRow(nil, 0); err != nil || !bytes.Equal(got, r.wire()) {
			t.Fatalf("row %d does not come back: %v", i, err)
		}
	}
}

func TestLargeCells(t *testing.T) {
	l := testLayout(t)
	r := cellsRow(
		testCell{"data", bytes.Repeat([]byte{1, 0, 2}, 700_000), 20},
		testCell{"data", bytes.Repeat([]byte{3}, 2<<20), 10},
		testCell{"title", strings.Repeat("é", 1<<20), 20},
	)
	b := buildRows(t, l, r, r)
	if got := encodeRow(t, l, b, 1); !bytes.Equal(got, r.wire()) {
		t.Error("the row does not come back")
	}
}

// TestAppendAllocatesNothing counts what Append does for a row beyond its leaf
// hash.
func TestAppendAllocatesNothing(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(15, 16))
	b := NewBuilder(memory.DefaultAllocator, l)
	var rows [][]byte
	for range 100 {
		r := randomRow(rnd, l)
		rows = append(rows, r.wire())
		rnd.Shuffle(len(r.cells), func(i, j int) { r.cells[i], r.cells[j] = r.cells[j], r.cells[i] })
		rows = append(rows, r.wire())
	}
	const rounds = 20
	round := func() {
		for _, wire := range rows {
			if _, err := b.Append(wire); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2*rounds + 2 {
		round()
	}
	b.Batch()
	round()
	hash := testing.AllocsPerRun(100, func() { manifest.LeafHash(rows[0]) })
	got := testing.AllocsPerRun(rounds, round) / float64(len(rows))
	if got > hash {
		t.Errorf("%v allocations a row, want %v", got, hash)
	}
}
