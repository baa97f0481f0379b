package pages

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
)

// choice is how a column is written. It is made when there are values enough to
// try with, and holds for the rest of the file.
type choice struct {
	made     bool
	encoding parquet.Encoding
	fast     bool // at zstd's fastest level
}

const (
	encodingSample = 32 << 10  // bytes to try an encoding with
	doublesSample  = 128 << 10 // of doubles, whose patterns show late
	levelSample    = 128 << 10 // bytes to try a level of zstd with
	fewValues      = 128       // with which it does not matter
	// A dictionary has at most one entry for 8 values, as a sample tells.
	repeatSample = 4096 // values
	newOneIn     = 8
)

// choose returns how the column is encoded in this row group.
func (c *columnWriter) choose() parquet.Encoding {
	if c.values.n == 0 {
		return parquet.Encodings.Plain
	}
	if !c.choice.made {
		c.decide()
	}
	if c.choice.encoding == parquet.Encodings.RLEDict && !c.number() {
		return parquet.Encodings.Plain
	}
	return c.choice.encoding
}

// number makes the dictionary of the column, unless it would be too large.
func (c *columnWriter) number() bool {
	return c.dictionary.build(&c.values, c.values.n/newOneIn) && c.dictionary.entries.size() <= pageBytes
}

// decide chooses by what becomes of a sample.
func (c *columnWriter) decide() {
	c.choice.encoding = parquet.Encodings.Plain
	if c.values.n < fewValues {
		return
	}
	c.choice.made = true
	least := -1
	for _, e := range c.candidates() {
		if cost := c.cost(e); least < 0 || cost < least {
			least, c.choice.encoding = cost, e
		}
	}
	c.choice.fast = c.fastSuffices()
}

// fastSuffices reports whether zstd's fastest level, which takes a third of the
// time, makes the column at most 1 % larger than the default. Often it does.
func (c *columnWriter) fastSuffices() bool {
	from, to := c.values.sample(levelSample)
	c.page = c.appendValues(c.page[:0], c.choice.encoding, from, to)
	fast := len(c.fast.EncodeAll(c.page, c.packed[:0]))
	if fast > len(c.page)*99/100 {
		return true // noise
	}
	best := len(c.best.EncodeAll(c.page, c.packed[:0]))
	return fast-fast/100 <= best
}

// candidates returns the encodings that may suit the column.
func (c *columnWriter) candidates() []parquet.Encoding {
	all := []parquet.Encoding{parquet.Encodings.Plain}
	switch c.values.kind {
	case arrow.BOOL:
		return all
	case arrow.INT64:
		all = append(all, parquet.Encodings.DeltaBinaryPacked)
	case arrow.FLOAT64:
		all = append(all, parquet.Encodings.ByteStreamSplit)
	default:
		all = append(all, parquet.Encodings.DeltaLengthByteArray)
	}
	if c.repeats() && c.number() {
		all = append(all, parquet.Encodings.RLEDict)
	}
	return all
}

// cost tries an encoding with a sample. What counts is the size, and a little how
// much there is to compress, which takes time.
func (c *columnWriter) cost(e parquet.Encoding) int {
	v := &c.values
	from, to := v.sample(encodingSample)
	if v.kind == arrow.FLOAT64 {
		from, to = v.sample(doublesSample)
	}
	c.page = c.appendValues(c.page[:0], e, from, to)
	c.packed = c.fast.EncodeAll(c.page, c.packed[:0])
	cost := len(c.packed) + len(c.page)/64
	switch e {
	case parquet.Encodings.RLEDict:
		cost += c.dictionary.entries.size() * (to - from) / v.n
	case parquet.Encodings.ByteStreamSplit:
		cost += cost / 20 // not every reader knows it
	}
	return cost
}

// sample returns a run of values of at most so many bytes, from the middle.
func (v *values) sample(size int) (from, to int) {
	n := min(v.n, size/8)
	from = (v.n - n) / 2
	return from, min(from+n, v.fit(from, size))
}

// repeats reports whether values occur often, in a sample spread over the column.
func (c *columnWriter) repeats() bool {
	v, picked := &c.values, &c.picked
	*picked = values{kind: v.kind, data: v.data, fixed: picked.fixed[:0], spans: picked.spans[:0]}
	for i := 0; i < v.n; i += max(1, v.n/repeatSample) {
		if v.isFixed() {
			picked.fixed = append(picked.fixed, v.fixed[i])
		} else {
			picked.spans = append(picked.spans, v.spans[i])
		}
		picked.n++
	}
	return c.dictionary.build(picked, max(1, picked.n/newOneIn))
}
