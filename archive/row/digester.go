package row

import (
	"errors"
	"fmt"
	"math"

	"github.com/otsnap/otsnap/manifest"
)

// Digester reads rows on the wire as a [Builder] does, with every checksum, and
// makes nothing of them but their leaf hashes. It is not safe for concurrent use.
type Digester struct{ hasher }

// NewDigester returns a Digester of rows in a layout made by [NewLayout]. Which
// columns that has beside the key makes no difference.
func NewDigester(l Layout) *Digester { return &Digester{hasher{reader: newReader(l)}} }

// Append is that of a [Builder].
func (d *Digester) Append(wire []byte) (rest []byte, err error) {
	row, rest, err := d.take(wire)
	if err != nil {
		return nil, err
	}
	d.note(row)
	return rest, nil
}

// Batch hands over the leaf hashes and the counts of the rows appended since the
// last batch, without a record, and starts anew.
func (d *Digester) Batch() Batch { return d.hand() }

// hasher reads, hashes and counts rows.
type hasher struct {
	reader

	rows   int
	bytes  int64
	count  int64 // cells
	leaves []manifest.Hash
}

// maxBatch is how large a batch can be in PlainBuffer, because the offsets of an
// array have 32 bits.
const maxBatch = math.MaxInt32

// Rows returns the number of rows appended since the last batch.
func (h *hasher) Rows() int { return h.rows }

// Bytes returns their size in PlainBuffer.
func (h *hasher) Bytes() int64 { return h.bytes }

// AppendKey appends the key of the row at the head of wire, which must be the one
// that Append took last.
func (h *hasher) AppendKey(dst manifest.Key, wire []byte) manifest.Key { return h.appendKey(dst, wire) }

// take reads the row at the head of wire and hashes it. It returns the row in
// canonical order, valid until the next is taken.
func (h *hasher) take(wire []byte) (row, rest []byte, err error) {
	end, ordered, err := h.read(wire)
	if err != nil {
		return nil, nil, h.explain(wire, err)
	}
	row = wire[:end]
	if !ordered {
		if row, err = h.reorder(row); err != nil {
			return nil, nil, h.explain(wire, err)
		}
	}
	if h.bytes+int64(len(row)) > maxBatch {
		return nil, nil, h.explain(wire, errors.New("the batch would be larger than 2 GiB"))
	}
	h.leaves = append(h.leaves, manifest.LeafHash(row))
	return row, wire[end:], nil
}

// note counts the row that was taken.
func (h *hasher) note(row []byte) {
	h.rows++
	h.bytes += int64(len(row))
	h.count += int64(len(h.cells))
}

// explain says which row of the batch an error is about, by its key where that
// was read.
func (h *hasher) explain(wire []byte, err error) error {
	if len(h.key) < len(h.keyHeads) {
		return fmt.Errorf("row: row %d: %w", h.rows+1, err)
	}
	return fmt.Errorf("row: key %s: %w", FormatKey(h.layout.Key, h.appendKey(nil, wire)), err)
}

// hand hands over what is known of the rows without their columns.
func (h *hasher) hand() Batch {
	batch := Batch{Leaves: h.leaves, Cells: h.count, Bytes: h.bytes}
	h.leaves = make([]manifest.Hash, 0, h.rows)
	h.rows, h.bytes, h.count = 0, 0, 0
	return batch
}
