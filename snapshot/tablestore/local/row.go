package local

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// stored is a row as Pebble keeps it: what decides whether a read must look
// into the row, and then the row as it goes to a client, cells by name and then
// newest version first. A read that wants all of it copies it.
type stored struct {
	size     int    // bytes as the service counts them
	versions int    // of the column that has the most
	oldest   int64  // version of the oldest cell, math.MaxInt64 without cells; see entry for rows of an index
	wire     []byte // PlainBuffer, without the header
}

func parseStored(b []byte) (stored, error) {
	var s stored
	size, n := binary.Uvarint(b)
	if n <= 0 {
		return s, errStored()
	}
	versions, m := binary.Uvarint(b[n:])
	if m <= 0 || len(b) < n+m+8 {
		return s, errStored()
	}
	b = b[n+m:]
	return stored{
		size:     int(size),
		versions: int(versions),
		oldest:   int64(binary.LittleEndian.Uint64(b)),
		wire:     b[8:],
	}, nil
}

func errStored() error { return fmt.Errorf("a stored row is damaged") }

// appendStored appends the stored form of a row whose cells are in order, all of
// it as old as the oldest of its cells and since.
func appendStored(dst []byte, key, cells []cell, since int64) []byte {
	s := stored{size: dataSize(key, cells), oldest: since}
	run := 0
	for i := range cells {
		if run++; i > 0 && !bytes.Equal(cells[i].name, cells[i-1].name) {
			run = 1
		}
		s.versions = max(s.versions, run)
		s.oldest = min(s.oldest, cells[i].version)
	}
	dst = binary.AppendUvarint(dst, uint64(s.size))
	dst = binary.AppendUvarint(dst, uint64(s.versions))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.oldest))
	return appendRow(dst, key, cells)
}

// dataSize is the size of cells as the service counts it: names and values, and
// eight bytes for the version of each attribute.
func dataSize(key, cells []cell) int {
	n := 0
	for i := range key {
		n += len(key[i].name) + key[i].value.size()
	}
	for i := range cells {
		n += len(cells[i].name) + 8
		if cells[i].value != nil {
			n += cells[i].value.size()
		}
	}
	return n
}

// units is the number of capacity units bytes count for. No operation is free.
func units(size int) int32 { return int32(max(1, (size+capacityUnit-1)/capacityUnit)) }

// compareCells is the order of the cells of a row: by name, newest first.
func compareCells(a, b cell) int {
	return cmp.Or(bytes.Compare(a.name, b.name), cmp.Compare(b.version, a.version))
}

// arrange puts cells in order. Of cells with one name and one version the last
// given stays.
func arrange(cells []cell) []cell {
	ordered := true
	for i := 1; ordered && i < len(cells); i++ {
		ordered = compareCells(cells[i-1], cells[i]) < 0
	}
	if ordered {
		return cells
	}
	slices.Reverse(cells)
	slices.SortStableFunc(cells, compareCells)
	return slices.CompactFunc(cells, func(a, b cell) bool { return compareCells(a, b) == 0 })
}

// retention is which cells of a table are still there at a moment.
type retention struct {
	versions int   // newest versions of a column that stay
	oldest   int64 // versions below have expired
	whole    bool  // a row goes with its oldest cell: that of an index
}

func (d *definition) retention(now int64) retention {
	keep := retention{versions: math.MaxInt, oldest: math.MinInt64, whole: d.main != ""}
	if d.Options.MaxVersions != -1 {
		keep.versions = int(d.Options.MaxVersions)
	}
	if d.Options.TimeToLive != -1 {
		keep.oldest = now - int64(d.Options.TimeToLive)*1000
	}
	return keep
}

// holds tells whether every cell of a row is still there.
func (k retention) holds(s stored) bool { return s.versions <= k.versions && s.oldest >= k.oldest }

// trim drops from ordered cells, in place, those no longer there.
func (k retention) trim(cells []cell) []cell {
	kept, run := cells[:0], 0
	for i := range cells {
		if i == 0 || !bytes.Equal(cells[i].name, cells[i-1].name) {
			run = 0
		}
		run++
		if run <= k.versions && cells[i].version >= k.oldest {
			kept = append(kept, cells[i])
		}
	}
	return kept
}

// load parses the cells of a stored row that are still there into r. A row that
// had cells and has lost all to age is gone.
func (k retention) load(s stored, r *row) (exists bool, err error) {
	if _, err := parseRow(s.wire, r); err != nil {
		return false, errStored()
	}
	if k.holds(s) {
		return true, nil
	}
	if k.whole {
		return false, nil
	}
	had := len(r.cells)
	r.cells = k.trim(r.cells)
	return had == 0 || len(r.cells) > 0, nil
}
