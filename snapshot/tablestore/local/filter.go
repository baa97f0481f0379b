package local

import (
	"bytes"
	"cmp"
	"math"
	"regexp"
	"strconv"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// filter is what a read or a condition asks of a row: one comparison, several
// combined, or a page of columns.
type filter struct {
	single    *comparison
	combine   otsprotocol.LogicalOperator
	parts     []*filter
	page      bool
	skip, max int // of a page, in columns
}

// comparison compares one column with a value.
type comparison struct {
	column        string
	operator      otsprotocol.ComparatorType
	value         value
	passIfMissing bool
	newestOnly    bool
	extract       *regexp.Regexp // nil: the column's value as it is
	cast          byte
}

func parseFilter(b []byte) (*filter, error) {
	count := 0
	f, err := decodeFilter(b, &count, 1)
	if err != nil {
		return nil, err
	}
	if count > maxFilters {
		return nil, invalid("The count of filter exceeds the max:%d.", maxFilters)
	}
	return f, nil
}

// decodeFilter decodes a filter and adds its comparisons to count. The depth is
// limited because each level is decoded once more for every level above it.
func decodeFilter(b []byte, count *int, depth int) (*filter, error) {
	if depth > 2*maxFilters {
		return nil, invalid("Invalid filter: more than %d within each other.", 2*maxFilters)
	}
	var f otsprotocol.Filter
	if err := proto.Unmarshal(b, &f); err != nil {
		return nil, invalid("Deserialize filter failed.")
	}
	switch f.GetType() {
	case otsprotocol.FilterType_FT_SINGLE_COLUMN_VALUE:
		*count++
		return decodeComparison(f.GetFilter())
	case otsprotocol.FilterType_FT_COMPOSITE_COLUMN_VALUE:
		return decodeComposite(f.GetFilter(), count, depth)
	case otsprotocol.FilterType_FT_COLUMN_PAGINATION:
		*count++
		return decodePage(f.GetFilter())
	}
	return nil, invalid("Invalid type of filter: %d.", f.GetType())
}

func decodeComparison(b []byte) (*filter, error) {
	var f otsprotocol.SingleColumnValueFilter
	if err := proto.Unmarshal(b, &f); err != nil {
		return nil, invalid("Deserialize relation filter failed.")
	}
	c := &comparison{
		column:        f.GetColumnName(),
		operator:      f.GetComparator(),
		value:         f.GetColumnValue(),
		passIfMissing: !f.GetFilterIfMissing(),
		newestOnly:    f.GetLatestVersionOnly(),
	}
	if _, known := otsprotocol.ComparatorType_name[int32(c.operator)]; !known {
		return nil, invalid("Invalid relation operator: %d.", c.operator)
	}
	if err := checkColumnName(c.column); err != nil {
		return nil, err
	}
	if err := c.value.check(); err != nil {
		return nil, err
	}
	if err := checkAttributeValue(&cell{name: []byte(c.column), value: c.value}); err != nil {
		return nil, err
	}
	return &filter{single: c}, c.setRule(f.GetValueTransRule())
}

// setRule has the comparison take its operand out of a string column.
func (c *comparison) setRule(rule *otsprotocol.ValueTransferRule) error {
	if rule == nil {
		return nil
	}
	var err error
	if c.extract, err = regexp.Compile(rule.GetRegex()); err != nil {
		return invalid("Invalid regex of value transfer rule: %v.", err)
	}
	switch rule.GetCastType() {
	case otsprotocol.VariantType_VT_INTEGER:
		c.cast = typeInteger
	case otsprotocol.VariantType_VT_DOUBLE:
		c.cast = typeDouble
	case otsprotocol.VariantType_VT_STRING:
		c.cast = typeString
	default:
		return invalid("Invalid cast type of value transfer rule: %d.", rule.GetCastType())
	}
	return nil
}

func decodeComposite(b []byte, count *int, depth int) (*filter, error) {
	var f otsprotocol.CompositeColumnValueFilter
	if err := proto.Unmarshal(b, &f); err != nil {
		return nil, invalid("Deserialize composite filter failed.")
	}
	n := len(f.GetSubFilters())
	switch f.GetCombinator() {
	case otsprotocol.LogicalOperator_LO_NOT:
		if n != 1 {
			return nil, invalid("Invalid NOT operator: the number of sub-filters must be 1.")
		}
	case otsprotocol.LogicalOperator_LO_AND, otsprotocol.LogicalOperator_LO_OR:
		if n < 2 {
			return nil, invalid("Invalid AND/OR operator: the number of sub-filters must be 2.")
		}
	default:
		return nil, invalid("Invalid logical operator: %d.", f.GetCombinator())
	}
	composite := &filter{combine: f.GetCombinator()}
	for _, sub := range f.GetSubFilters() {
		if sub.GetType() == otsprotocol.FilterType_FT_COLUMN_PAGINATION {
			return nil, invalid("Invalid type of sub-filter: %s.", sub.GetType())
		}
		text, err := proto.Marshal(sub)
		if err != nil {
			return nil, invalid("Deserialize composite filter failed.")
		}
		part, err := decodeFilter(text, count, depth+1)
		if err != nil {
			return nil, err
		}
		composite.parts = append(composite.parts, part)
	}
	return composite, nil
}

func decodePage(b []byte) (*filter, error) {
	var f otsprotocol.ColumnPaginationFilter
	if err := proto.Unmarshal(b, &f); err != nil {
		return nil, invalid("Deserialize column pagination filter failed.")
	}
	if f.GetOffset() < 0 {
		return nil, invalid("Offset in ColumnPaginationFilter must be greater than or equal to 0.")
	}
	if f.GetLimit() <= 0 {
		return nil, invalid("Limit in ColumnPaginationFilter must be greater than 0.")
	}
	return &filter{page: true, skip: int(f.GetOffset()), max: int(f.GetLimit())}, nil
}

// pages tells whether a filter chooses columns rather than rows.
func (f *filter) pages() bool { return f != nil && f.page }

// cut keeps the columns of the page, with all their versions.
func (f *filter) cut(cells []cell) []cell {
	column, from, to := -1, len(cells), len(cells)
	for i := range cells {
		if i > 0 && bytes.Equal(cells[i].name, cells[i-1].name) {
			continue
		}
		switch column++; column {
		case f.skip:
			from = i
		case f.skip + f.max:
			to = i
		}
	}
	return cells[min(from, to):to]
}

// matches tells whether a row passes. Cells are in order.
func (f *filter) matches(key, cells []cell) bool {
	if f.single != nil {
		return f.single.matches(key, cells)
	}
	switch f.combine {
	case otsprotocol.LogicalOperator_LO_NOT:
		return !f.parts[0].matches(key, cells)
	case otsprotocol.LogicalOperator_LO_AND:
		for _, part := range f.parts {
			if !part.matches(key, cells) {
				return false
			}
		}
		return true
	}
	for _, part := range f.parts {
		if part.matches(key, cells) {
			return true
		}
	}
	return false
}

func (c *comparison) matches(key, cells []cell) bool {
	missing := true
	for _, group := range [][]cell{key, cells} {
		for i := range group {
			if string(group[i].name) != c.column {
				continue
			}
			v, ok := c.operand(group[i].value)
			if !ok {
				continue
			}
			missing = false
			if c.holds(v) {
				return true
			}
			if c.newestOnly {
				return false
			}
		}
	}
	return missing && c.passIfMissing
}

// operand is what is compared of a column's value.
func (c *comparison) operand(v value) (value, bool) {
	if c.extract == nil {
		return v, true
	}
	if v[0] != typeString {
		return nil, false
	}
	found := c.extract.FindSubmatch(v.bytes())
	if found == nil {
		return nil, false
	}
	return castText(found[len(found)-1], c.cast)
}

// castText reads a value of a type out of text.
func castText(text []byte, to byte) (value, bool) {
	switch to {
	case typeInteger:
		n, err := strconv.ParseInt(string(text), 10, 64)
		return integerValue(n), err == nil
	case typeDouble:
		x, err := strconv.ParseFloat(string(text), 64)
		v := integerValue(int64(math.Float64bits(x)))
		v[0] = typeDouble
		return v, err == nil
	}
	v := value{typeString, byte(len(text)), byte(len(text) >> 8), byte(len(text) >> 16), byte(len(text) >> 24)}
	return append(v, text...), true
}

// holds compares v with the comparison's value. Values of different types are
// different and have no order.
func (c *comparison) holds(v value) bool {
	if v[0] != c.value[0] {
		return c.operator == otsprotocol.ComparatorType_CT_NOT_EQUAL
	}
	order := compareValues(v, c.value)
	switch c.operator {
	case otsprotocol.ComparatorType_CT_EQUAL:
		return order == 0
	case otsprotocol.ComparatorType_CT_NOT_EQUAL:
		return order != 0
	case otsprotocol.ComparatorType_CT_GREATER_THAN:
		return order > 0
	case otsprotocol.ComparatorType_CT_GREATER_EQUAL:
		return order >= 0
	case otsprotocol.ComparatorType_CT_LESS_THAN:
		return order < 0
	}
	return order <= 0
}

// compareValues orders two values of one type.
func compareValues(a, b value) int {
	switch a[0] {
	case typeInteger:
		return cmp.Compare(a.integer(), b.integer())
	case typeDouble:
		return cmp.Compare(a.double(), b.double())
	case typeBoolean:
		return cmp.Compare(a[1], b[1])
	}
	return bytes.Compare(a.bytes(), b.bytes())
}
