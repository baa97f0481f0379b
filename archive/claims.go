package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet/file"
)

// A reader that looks for some rows leaves out what the footer, or the header of a
// page, says they cannot be in. So what these say is held to the values: a bound
// that is too narrow hides rows from selections here, and from every other program.

// claim is what statistics say of the values of a column in some rows.
type claim struct {
	low, high               []byte // nil: not told
	lowest, highest         []byte // the same in the fields Parquet had first; nil: not told
	inexactLow, inexactHigh bool   // said to be wider than need be
	counted                 bool   // how many values are null
	nulls                   int64
}

// statistics are statistics as the library has them, by the names it gives them.
type statistics interface {
	GetMax() []byte
	GetMin() []byte
	IsSetNullCount() bool
	GetNullCount() int64
	IsSetDistinctCount() bool
	GetMaxValue() []byte
	GetMinValue() []byte
	IsSetIsMaxValueExact() bool
	GetIsMaxValueExact() bool
	IsSetIsMinValueExact() bool
	GetIsMinValueExact() bool
	IsSetNanCount() bool
}

// add adds what statistics say. Counts of distinct values and of NaN are refused:
// nothing here writes them.
func (c *claim) add(s statistics) error {
	if s.IsSetDistinctCount() || s.IsSetNanCount() {
		return errors.New("counts distinct values or NaN")
	}
	c.low, c.high, c.lowest, c.highest = s.GetMinValue(), s.GetMaxValue(), s.GetMin(), s.GetMax()
	c.inexactLow = s.IsSetIsMinValueExact() && !s.GetIsMinValueExact()
	c.inexactHigh = s.IsSetIsMaxValueExact() && !s.GetIsMaxValueExact()
	c.counted, c.nulls = s.IsSetNullCount(), s.GetNullCount()
	return nil
}

// check holds a claim to what is true of the values.
func (c claim) check(values arrow.Array, s stretch) error {
	if c.counted && c.nulls != s.entries-s.values {
		return fmt.Errorf("has %d nulls, said are %d", s.entries-s.values, c.nulls)
	}
	if err := c.form(values); err != nil {
		return err
	}
	if s.low == nil {
		return c.nothing(values)
	}
	if c.low != nil && !bytes.Equal(c.low, s.low) && !(c.inexactLow && bytes.Compare(c.low, s.low) < 0) {
		return fmt.Errorf("its smallest value is %s, said is %s", boundText(values, s.low), boundText(values, c.low))
	}
	if c.high != nil && !bytes.Equal(c.high, s.high) && !(c.inexactHigh && bytes.Compare(c.high, s.high) > 0) {
		return fmt.Errorf("its largest value is %s, said is %s", boundText(values, s.high), boundText(values, c.high))
	}
	return nil
}

// form refuses bounds that readers can understand in more than one way. Parquet lets
// those of text and bytes be left out one by one, and be wider than the values, if
// they say so; here the fields it had first, of another order, tell nothing of these.
func (c claim) form(values arrow.Array) error {
	size := sizeOf(values)
	if size == 0 {
		if c.lowest != nil || c.highest != nil {
			return errors.New("has bounds in an order that is not that of bytes")
		}
		return nil
	}
	if (c.low == nil) != (c.high == nil) || c.inexactLow || c.inexactHigh {
		return errors.New("has bounds that are half told or not exact")
	}
	if c.lowest != nil && !bytes.Equal(c.lowest, c.low) || c.highest != nil && !bytes.Equal(c.highest, c.high) {
		return errors.New("has other bounds in older fields")
	}
	if c.low != nil && (len(c.low) != size || len(c.high) != size) {
		return errors.New("has bounds of another size than values")
	}
	return nil
}

// nothing holds bounds of no value, or of NaN alone, to none: they are left out, or
// nothing is between them, as the library writes where lists are empty.
func (c claim) nothing(values arrow.Array) error {
	if c.low == nil && c.high == nil || c.low != nil && c.high != nil && orderOf(values)(c.low, c.high) > 0 {
		return nil
	}
	return fmt.Errorf("has no values, said are some from %s to %s", boundText(values, c.low), boundText(values, c.high))
}

// sizeOf returns how many bytes each value has in statistics; 0: as many as it has.
func sizeOf(values arrow.Array) int {
	switch values.(type) {
	case *array.Int64, *array.Float64:
		return 8
	case *array.Boolean:
		return 1
	}
	return 0
}

// claims are all that a chunk says of its own values.
type claims struct {
	file *file.Reader
	data []byte
}

// footer holds the footer to the format: what tells readers where to look, and all
// that this program does not know or cannot check, is as it must be.
func (c claims) footer(keys int) error {
	meta := c.file.MetaData()
	known, err := meta.Serialize(context.Background())
	if err != nil {
		return err
	}
	const trailer = 8 // length of the footer, and PAR1
	end := len(c.data) - trailer
	if start := end - meta.Size(); start < 0 || !bytes.Equal(c.data[start:end], known) {
		return errors.New("its footer has fields that are not known")
	}
	for i, g := range meta.RowGroups {
		start, stored, unpacked := int64(0), int64(0), int64(0)
		for j := range g.Columns {
			from, length, err := c.column(i, j)
			if err != nil {
				return fmt.Errorf("row group %d: column %s: %w", i, meta.Schema.Column(j).Path(), err)
			}
			if j == 0 {
				start = from
			}
			stored += length
			unpacked += g.Columns[j].MetaData.TotalUncompressedSize
		}
		if g.IsSetFileOffset() && g.GetFileOffset() != start || g.IsSetTotalCompressedSize() && g.GetTotalCompressedSize() != stored ||
			g.TotalByteSize != unpacked || g.IsSetOrdinal() && int(g.GetOrdinal()) != i {
			return fmt.Errorf("row group %d: is said to lie elsewhere", i)
		}
		for j, s := range g.SortingColumns {
			if j >= keys || int(s.ColumnIdx) != j || s.Descending || s.NullsFirst {
				return fmt.Errorf("row group %d: is said to be in another order than that of keys", i)
			}
		}
	}
	return nil
}

// column returns where a column of a row group lies.
func (c claims) column(group, i int) (start, length int64, err error) {
	chunk := c.file.MetaData().RowGroups[group].Columns[i]
	m := chunk.MetaData
	switch {
	case m.IsSetBloomFilterOffset() || m.IsSetBloomFilterLength() || m.IsSetSizeStatistics() || m.IsSetGeospatialStatistics() || m.IsSetKeyValueMetadata():
		return 0, 0, errors.New("has a Bloom filter or other statistics than bounds and nulls")
	case m.IsSetIndexPageOffset():
		return 0, 0, errors.New("has an index page")
	}
	start = m.DataPageOffset
	if m.IsSetDictionaryPageOffset() {
		start = m.GetDictionaryPageOffset()
	}
	if start < 0 || m.TotalCompressedSize < 0 || start > int64(len(c.data))-m.TotalCompressedSize || m.DataPageOffset < start {
		return 0, 0, errors.New("lies outside of the file")
	}
	if chunk.FileOffset != 0 && chunk.FileOffset != start {
		return 0, 0, errors.New("is said to lie elsewhere")
	}
	return start, m.TotalCompressedSize, nil
}

// group holds what is said of a row group to its rows.
func (c claims) group(number int, rec arrow.RecordBatch) error {
	leaf := 0
	for _, column := range rec.Columns() {
		for _, values := range entriesOf(column) {
			if err := c.values(number, leaf, values); err != nil {
				return fmt.Errorf("column %s: %w", c.file.MetaData().Schema.Column(leaf).Path(), err)
			}
			leaf++
		}
	}
	return nil
}

// values holds a column of a row group, and each of its pages, to its values.
func (c claims) values(group, leaf int, e *entries) error {
	m := c.file.MetaData().RowGroups[group].Columns[leaf].MetaData
	start, length, err := c.column(group, leaf)
	if err != nil {
		return err
	}
	pages, err := pagesOf(c.data[start:start+length], m.NumValues)
	if err != nil {
		return err
	}
	dictionary := len(pages) > 0 && pages[0].kind == dictionaryPage
	if dictionary {
		start += pages[0].size
	}
	if dictionary != m.IsSetDictionaryPageOffset() || m.DataPageOffset != start {
		return errors.New("its dictionary is not where it is said to be")
	}
	if err := c.encodings(group, leaf, pages); err != nil {
		return err
	}
	whole, err := e.pages(pages)
	if err != nil || m.Statistics == nil {
		return err
	}
	var said claim
	if err := said.add(m.Statistics); err != nil {
		return err
	}
	return said.check(e.values, whole)
}

// encodings holds what is said of the encodings of pages to the pages: readers learn
// from it whether a dictionary has all values, and go by that.
func (c claims) encodings(group, leaf int, pages []page) error {
	m := c.file.MetaData().RowGroups[group].Columns[leaf].MetaData
	said := map[int64]bool{}
	for _, encoding := range m.Encodings {
		said[int64(encoding)] = true
	}
	count := map[[2]int64]int64{} // of pages of a type and an encoding
	for i, p := range pages {
		if !said[p.encoding] {
			return fmt.Errorf("page %d: is in an encoding that is not said", i)
		}
		count[[2]int64{p.kind, p.encoding}]++
	}
	if !m.IsSetEncodingStats() {
		return nil
	}
	for _, s := range m.EncodingStats {
		count[[2]int64{int64(s.PageType), int64(s.Encoding)}] -= int64(s.Count)
	}
	for _, n := range count {
		if n != 0 {
			return errors.New("has pages of other encodings than are counted")
		}
	}
	return nil
}

// entries are the values of a Parquet column in a row group, with the lists they
// are in.
type entries struct {
	values arrow.Array
	lists  *array.List // nil: there is a value in each row
	left   int         // entries, of which an empty list has one too
	row    int         // of the next entry, in lists
	next   int         // value of the next entry
}

// entriesOf returns the Parquet columns of a column.
func entriesOf(column arrow.Array) []*entries {
	lists, nested := column.(*array.List)
	if !nested {
		return []*entries{{values: column, left: column.Len()}}
	}
	items := lists.ListValues().(*array.Struct)
	first, total := 0, 0
	for i := range lists.Len() {
		from, to := lists.ValueOffsets(i)
		if i == 0 {
			first = int(from)
		}
		total += max(1, int(to-from))
	}
	all := make([]*entries, items.NumField())
	for i := range all {
		all[i] = &entries{values: items.Field(i), lists: lists, left: total, next: first}
	}
	return all
}

// pages holds pages to the values that are in them, and returns what is true of all.
func (e *entries) pages(all []page) (whole stretch, err error) {
	by := orderOf(e.values)
	for i, p := range all {
		if p.kind == dictionaryPage {
			continue
		}
		s, err := e.take(p.values)
		if err == nil {
			err = p.claim.check(e.values, s)
		}
		if err != nil {
			return stretch{}, fmt.Errorf("page %d: %w", i, err)
		}
		whole.join(s, by)
	}
	if e.left > 0 {
		return stretch{}, fmt.Errorf("its pages have %d values, its rows %d", whole.entries, whole.entries+int64(e.left))
	}
	return whole, nil
}

// take returns what is true of the next n entries.
func (e *entries) take(n int64) (stretch, error) {
	if n > int64(e.left) {
		return stretch{}, fmt.Errorf("has %d values, its rows have %d", n, e.left)
	}
	e.left -= int(n)
	from := e.next
	if e.lists == nil {
		e.next += int(n)
	} else {
		e.skip(int(n))
	}
	s, err := extremesOf(e.values, from, e.next)
	s.entries = n
	return s, err
}

// skip goes over n entries in lists.
func (e *entries) skip(n int) {
	if e.left == 0 { // as is most often so: one page has all
		e.row = e.lists.Len()
		if e.row > 0 {
			_, to := e.lists.ValueOffsets(e.row - 1)
			e.next = int(to)
		}
		return
	}
	for ; n > 0; n-- {
		from, to := e.lists.ValueOffsets(e.row)
		if from < to {
			e.next++
		}
		if e.next >= int(to) {
			e.row++
		}
	}
}
