package pages

import (
	"encoding/binary"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"
)

const (
	// pageBytes is how many bytes of values a page has at most, in the encoding
	// PLAIN, unless a single row has more. Smaller pages take more time and space,
	// larger ones more memory for less than 1 %.
	pageBytes = 1 << 20
	// boundBytes is how long a string is at most that becomes a bound in the
	// statistics.
	boundBytes = 4096
)

// columnWriter writes a column of a row group.
type columnWriter struct {
	*room
	to       *output
	leaf     *leaf
	choice   *choice
	rows     int
	bounded  bool // has statistics
	encoding parquet.Encoding
}

// write writes the pages of the column, and what the footer says of them.
func (c *columnWriter) write(meta *metadata.ColumnChunkMetaDataBuilder) error {
	c.values.load(c.leaf.column, c.leaf.valid)
	c.encoding = c.choose()
	start := int64(c.to.size)
	info := metadata.ChunkMetaInfo{IndexPageOffset: -1}
	var used metadata.EncodingStats
	encodings := []parquet.Encoding{c.encoding, parquet.Encodings.RLE}
	from := &c.values // whose bounds are those of the column
	if c.encoding == parquet.Encodings.RLEDict {
		from = &c.dictionary.entries
		info.DictPageOffset = start
		info.UncompressedSize += c.writeDictionary()
		used.DictEncodingStats = map[parquet.Encoding]int32{parquet.Encodings.Plain: 1}
		encodings = append(encodings, parquet.Encodings.Plain)
	}
	info.DataPageOffset = int64(c.to.size)
	pages := int32(0)
	for p := (extent{}); p.to < c.rows; pages++ {
		p = c.next(p)
		levels, size := c.writeData(p)
		info.NumValues += int64(levels)
		info.UncompressedSize += size
	}
	used.DataEncodingStats = map[parquet.Encoding]int32{c.encoding: pages}
	info.CompressedSize = int64(c.to.size) - start
	if c.bounded {
		meta.SetStats(from.statistics(info.NumValues - int64(c.values.n)))
	}
	if err := meta.Finish(info, info.DictPageOffset > 0, false, used); err != nil {
		return err
	}
	setEncodings(&meta.Contents().MetaData.Encodings, encodings)
	return nil
}

// setEncodings replaces a list of which the type has no name outside the library:
// it writes there what is to hold for all row groups.
func setEncodings[E ~int64](list *[]E, encodings []parquet.Encoding) {
	*list = nil
	for _, e := range encodings {
		*list = append(*list, E(e))
	}
}

// extent is what is on a page: rows, and values that are not null.
type extent struct{ from, to, first, last int }

// next returns what is on the page after another. Every page has a value, if the
// column has any: some readers have failed on DELTA pages of only nulls.
func (c *columnWriter) next(before extent) extent {
	p := extent{from: before.to, to: c.rows, first: before.last, last: c.values.fit(before.last, pageBytes)}
	if p.last == c.values.n {
		return p
	}
	start, _ := c.leaf.entries(p.from, p.from)
	least := c.leaf.row(c.leaf.valid.find(start, 0)) + 1
	p.to = max(least, c.leaf.row(c.leaf.valid.find(start, p.last-p.first)))
	p.last = p.first + c.valid(p).ones()
	return p
}

// valid returns which of the entries in the rows of a page are not null.
func (c *columnWriter) valid(p extent) (b bitmap) {
	first, last := c.leaf.entries(p.from, p.to)
	b, c.bits = c.leaf.valid.slice(c.bits, first, last)
	return b
}

func (c *columnWriter) writeData(p extent) (levels int, size int64) {
	c.page, levels = c.leaf.appendLevels(c.page[:0], p.from, p.to, c.valid(p), &c.levels)
	c.page = c.appendValues(c.page, c.encoding, p.first, p.last)
	rle := int32(parquet.Encodings.RLE)
	return levels, c.writePage(pageHeader{kind: dataPage, of: []int32{int32(levels), int32(c.encoding), rle, rle}})
}

func (c *columnWriter) writeDictionary() (size int64) {
	entries := &c.dictionary.entries
	c.page = entries.appendPlain(c.page[:0], 0, entries.n)
	return c.writePage(pageHeader{kind: dictionaryPage, of: []int32{int32(entries.n), int32(parquet.Encodings.Plain)}})
}

func (c *columnWriter) appendValues(dst []byte, encoding parquet.Encoding, from, to int) []byte {
	switch encoding {
	case parquet.Encodings.RLEDict:
		return c.dictionary.appendIndexes(dst, from, to)
	case parquet.Encodings.DeltaBinaryPacked:
		return appendDelta(dst, c.values.fixed[from:to])
	case parquet.Encodings.DeltaLengthByteArray:
		return c.values.appendLengths(dst, from, to)
	case parquet.Encodings.ByteStreamSplit:
		return appendSplit(dst, c.values.fixed[from:to])
	}
	return c.values.appendPlain(dst, from, to)
}

// writePage compresses the page and writes it after its header. It returns how
// large the two are before compression.
func (c *columnWriter) writePage(h pageHeader) int64 {
	e := c.best
	if c.choice.fast {
		e = c.fast
	}
	c.packed = e.EncodeAll(c.page, c.packed[:0])
	header := h.append(make([]byte, 0, 64), len(c.page), len(c.packed))
	c.to.Write(header)
	c.to.Write(c.packed)
	return int64(len(header) + len(c.page))
}

// statistics returns what the footer says of the values, and of so many nulls.
func (v *values) statistics(nulls int64) metadata.EncodedStatistics {
	var s metadata.EncodedStatistics
	s.SetNullCount(nulls)
	s.Signed = v.isFixed() || v.kind == arrow.BOOL
	low, high, ok := v.bounds()
	if ok && len(low) <= boundBytes && len(high) <= boundBytes {
		s.SetMin(slices.Clone(low)).SetMax(slices.Clone(high))
	}
	return s
}

// pageHeader is the header of a page: its kind, and the fields of the structure
// for this kind.
type pageHeader struct {
	kind byte // Parquet's PageType
	of   []int32
}

const (
	dataPage       = 0
	dictionaryPage = 2
)

// append appends the header of a page of size bytes, packed when compressed, in
// Thrift's compact protocol.
func (h pageHeader) append(dst []byte, size, packed int) []byte {
	const i32, structure = 5, 12 // types of fields
	field := func(x int) {
		dst = binary.AppendVarint(append(dst, 1<<4|i32), int64(x)) // the field after the last one
	}
	field(int(h.kind))
	field(size)
	field(packed)
	// Data pages have their structure in field 5, dictionary pages in field 7.
	dst = append(dst, (2+h.kind)<<4|structure)
	for _, x := range h.of {
		field(int(x))
	}
	return append(dst, 0, 0)
}
