package row

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestComposedRowsAreTheSameBytes(t *testing.T) {
	l := testLayout(t)
	rnd := rand.New(rand.NewPCG(71, 72))
	for range 300 {
		r := randomRow(rnd, l)
		wire := r.wire()
		key, cells, rest, err := Take(append(slices.Clone(wire), "next"...))
		if err != nil || string(rest) != "next" {
			t.Fatalf("Take left %q: %v", rest, err)
		}
		rnd.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
		if got := Compose([]byte("head"), key, cells); !bytes.Equal(got[4:], wire) {
			t.Fatalf("the row is\n%x, want\n%x", got[4:], wire)
		}
	}
}

func TestTakeReadsWhatNoTableHas(t *testing.T) {
	key := []testCell{{name: "_#h", value: "ff"}, {name: "_m_name", value: "cpu"}, {name: "_data_source", value: ""}, {name: "_tags", value: "[]"}, {name: "_time", value: int64(7)}}
	wire := testRow{key: key, cells: []testCell{{name: "load:double", value: 1.5, version: 3}}}.wire()
	got, cells, rest, err := Take(wire)
	if err != nil || len(rest) > 0 || len(got) != 5 || len(cells) != 1 {
		t.Fatalf("%v, %v, %d bytes left: %v", got, cells, len(rest), err)
	}
	if got[4] != (Cell{"_time", 0, IntegerValue(7)}) || cells[0] != (Cell{"load:double", 3, DoubleValue(1.5)}) {
		t.Errorf("time %v, cell %v", got[4], cells[0])
	}
	bare := []byte{1}
	var sums []byte
	for _, c := range []testCell{{name: "_time", value: int64(7)}} {
		bare = wireCell(bare, c, false)
		sums = append(sums, bare[len(bare)-1])
	}
	bare = wireCell(append(bare, 2), testCell{name: "up:boolean", value: true}, false)
	sums = append(sums, bare[len(bare)-1])
	bare = append(bare, 9, slowChecksum(append(sums, 0)))
	if _, cells, _, err := Take(bare); err != nil || !slices.Equal(cells, []Cell{{"up:boolean", 0, BooleanValue(true)}}) {
		t.Errorf("a cell without a version is %v: %v", cells, err)
	}
}

func TestTakeRefusesEveryChangedBitAndEveryEnd(t *testing.T) {
	wire := testRow{key: []testCell{{name: "id", value: int64(7)}}, cells: []testCell{{name: "a", value: "text", version: 9}}}.wire()
	for n := range wire {
		if _, _, _, err := Take(wire[:n]); err == nil {
			t.Errorf("the first %d bytes are a row", n)
		}
	}
	for bit := range 8 * len(wire) {
		changed := slices.Clone(wire)
		changed[bit/8] ^= 1 << (bit % 8)
		if _, _, _, err := Take(changed); err == nil {
			t.Errorf("bit %d is not missed", bit)
		}
	}
	null := testRow{key: []testCell{{name: "id", value: raw{6}}}}.wire()
	if _, _, _, err := Take(null); !errors.Is(err, errNull) {
		t.Errorf("a key without a value: got %v", err)
	}
}

func TestValuesGiveWhatTheyHold(t *testing.T) {
	if v := IntegerValue(-7).Integer(); v != -7 {
		t.Error(v)
	}
	if v := DoubleValue(-0.5).Double(); v != -0.5 {
		t.Error(v)
	}
	if !BooleanValue(true).Boolean() || BooleanValue(false).Boolean() {
		t.Error("booleans")
	}
	if StringValue("ü").Text() != "ü" || BinaryValue([]byte{0, 1}).Text() != "\x00\x01" {
		t.Error("texts")
	}
}
