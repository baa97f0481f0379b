package row

import (
	"bytes"
	"slices"
)

// Bounds is what is known of some values without looking at them.
type Bounds struct {
	None bool // there are none
	Full bool // there is one in every row
	// Low and High are a value none is below and one none is above, NaN aside, and
	// are of the type of all values; nil where that is not known.
	Low, High *Value
}

// Extent is what is known of the cells of a run of rows without looking at them:
// see [Layout.Schema] for the columns.
type Extent struct {
	Keys    []Bounds // by column of the primary key
	Columns []Bounds // by promoted column
	Names   Bounds   // the names in __more
}

// Possible reports whether one of the rows may match. It is never false where one
// does.
func (f *Filter) Possible(l Layout, x Extent) bool {
	if f.all() {
		return true
	}
	may, _ := outlook{f, l, x}.of(f.root)
	return may
}

// outlook tells what a filter can be of rows of which only bounds are known.
type outlook struct {
	filter *Filter
	layout Layout
	extent Extent
}

// of reports whether a condition may be true, and whether it may be false, of one
// of the rows.
func (o outlook) of(c *condition) (mayHold, mayFail bool) {
	switch c.op {
	case opAnd:
		mayHold = true
		for _, part := range c.of {
			hold, fail := o.of(part)
			mayHold, mayFail = mayHold && hold, mayFail || fail
		}
		return mayHold, mayFail
	case opOr:
		mayFail = true
		for _, part := range c.of {
			hold, fail := o.of(part)
			mayHold, mayFail = mayHold || hold, mayFail && fail
		}
		return mayHold, mayFail
	case opNot:
		mayFail, mayHold = o.of(c.of[0])
		return mayHold, mayFail
	}
	name := o.filter.names[c.name]
	if i := keyIndex(o.layout.Key, name); i >= 0 {
		return c.within(o.extent.Keys[i])
	}
	return o.attribute(c, name)
}

// attribute is of for a condition on an attribute, which may have its newest
// version in its column and, in rows where that is null, in __more.
func (o outlook) attribute(c *condition, name string) (mayHold, mayFail bool) {
	column := Bounds{None: true}
	for i := range o.layout.Columns {
		if o.layout.Columns[i].Name == name {
			column = o.extent.Columns[i]
		}
	}
	mayHold, mayFail = c.within(column)
	named := condition{op: opEqual, literals: []literal{{StringValue(name).operand()}}}
	if may, _ := named.within(o.extent.Names); column.Full || !may {
		return mayHold, mayFail
	}
	return true, true
}

// within reports whether a condition may be true, and may be false, of rows whose
// values are within the bounds.
func (c *condition) within(b Bounds) (mayHold, mayFail bool) {
	if b.None {
		return false, true
	}
	if c.op == opExists {
		return true, !b.Full
	}
	mayHold = slices.ContainsFunc(c.literals, func(l literal) bool { return l.mayHold(c.op, b) })
	surely := b.Full && slices.ContainsFunc(c.literals, func(l literal) bool { return l.surely(c.op, b) })
	return mayHold, !surely
}

// mayHold reports whether a comparison may be true of a value within the bounds.
func (l literal) mayHold(op operator, b Bounds) bool {
	switch op {
	case opPrefix:
		return b.mayStart(l.kind, l.text)
	case opLike:
		fixed := l.text
		if end := bytes.IndexAny(fixed, "%_"); end >= 0 {
			fixed = fixed[:end]
		}
		return b.mayStart(text, fixed)
	}
	low, high, comparable := l.orders(b)
	for order := low; comparable && order <= high; order++ {
		if op.allows(order) {
			return true
		}
	}
	return false
}

// surely reports whether a comparison is true of every value within the bounds.
// NaN, which bounds say nothing of, may be among DOUBLEs.
func (l literal) surely(op operator, b Bounds) bool {
	low, high, comparable := l.orders(b)
	if !comparable || b.Low == nil || b.Low.kind == double {
		return false
	}
	for order := low; order <= high; order++ {
		if !op.allows(order) {
			return false
		}
	}
	return true
}

// orders returns the orders, from low to high, in which values within the bounds
// may be to the literal; false if they are of a type it has no order to.
func (l literal) orders(b Bounds) (low, high int, comparable bool) {
	low, high, comparable = -1, 1, true
	if b.Low != nil {
		low, comparable = compare(b.Low.operand(), l.operand)
	}
	if b.High != nil && comparable {
		high, comparable = compare(b.High.operand(), l.operand)
	}
	return low, high, comparable
}

// mayStart reports whether a value within the bounds may be of that type and
// start so.
func (b Bounds) mayStart(k kind, start []byte) bool {
	if b.Low != nil {
		low := b.Low.operand()
		if low.kind != k || bytes.Compare(low.text, start) > 0 && !bytes.HasPrefix(low.text, start) {
			return false
		}
	}
	return b.High == nil || b.High.kind == k && bytes.Compare([]byte(b.High.text), start) >= 0
}
