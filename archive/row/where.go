package row

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/otsnap/otsnap/manifest"
)

// Filter chooses rows by their cells and by their primary key. It is safe for
// concurrent use. A nil Filter, and the zero one, take every row.
//
// It is a condition as in SQL, made of these with and, or, not and parentheses:
//
//	name = LITERAL         also != < <= > >=
//	name in (LITERAL, …)   equal to one of them
//	name like 'a%b_c'      a STRING; % stands for any run of characters, _ for one
//	name prefix 'abc'      a STRING that starts so; a BINARY with x'00ff'
//	exists name            also name is null, name is not null
//
// A name is that of a column of the primary key, or else of an attribute, whose
// newest version counts, whatever older ones are. It stands bare, or in double
// quotes, in which "" is a quote; case matters in names, and in nothing else but
// texts. A LITERAL is one of
//
//	12 -7          an INTEGER
//	1.5 1e3        a DOUBLE
//	'text'         a STRING, in which '' is a quote
//	true false     a BOOLEAN
//	x'00ff'        a BINARY
//
// A condition is true or false, never unknown. Every comparison, != as well, is
// false of a row without that cell, and of a cell of another type; so is in, like
// and prefix. Hence not (name = 1) is true of rows that name != 1 is false of. An
// INTEGER and a DOUBLE are both numbers and compare by their exact value: 12
// equals 12.0, and 9007199254740993 differs from every DOUBLE. -0.0 equals 0.
// What is no number, NaN, compares to nothing. STRING and BINARY compare byte by
// byte, and false is less than true.
type Filter struct {
	root  *condition
	names []string // that conditions are about, each once
}

// operator is what a condition does.
type operator int

const (
	opAnd operator = iota
	opOr
	opNot
	opExists
	opEqual
	opDiffers
	opLess
	opLessEqual
	opGreater
	opGreaterEqual
	opIn
	opLike
	opPrefix
)

// condition is a Filter or a part of one.
type condition struct {
	op       operator
	of       []*condition // of and, or: two at least; of not: one
	name     int          // of the others: number of the name
	literals []literal    // of in: one at least; of exists: none; else one
}

// literal is a value to compare with, in the form of [operand].
type literal struct{ operand }

// operand is a value with its bytes where they are, so that comparing costs no
// copy.
type operand struct {
	kind kind
	num  uint64 // of an INTEGER or a BOOLEAN, or the bits of a DOUBLE
	text []byte // of a STRING or a BINARY
}

func (v Value) operand() operand { return operand{v.kind, v.num, []byte(v.text)} }

func (o operand) value() Value { return Value{o.kind, o.num, string(o.text)} }

// operand returns value i of an array.
func (v *view) operand(i int) operand {
	switch v.kind {
	case integer, double:
		return operand{kind: v.kind, num: uint64(v.fixed[i])}
	case boolean:
		return operand{kind: v.kind, num: uint64(v.bool(i))}
	}
	return operand{kind: v.kind, text: v.text(i)}
}

// values are the newest values of a row by number of the name.
type values interface {
	newest(name int) (operand, bool)
}

// Match reports whether the row is one of those chosen.
func (f *Filter) Match(key []manifest.KeyColumn, r *Row) bool {
	return f.all() || f.root.match(&rowValues{f, key, r})
}

// all reports whether the filter takes every row.
func (f *Filter) all() bool { return f == nil || f.root == nil }

// rowValues are those of a Row.
type rowValues struct {
	filter *Filter
	key    []manifest.KeyColumn
	row    *Row
}

func (v *rowValues) newest(name int) (operand, bool) {
	want := v.filter.names[name]
	if i := keyIndex(v.key, want); i >= 0 {
		return v.row.Key[i].operand(), true
	}
	i := slices.IndexFunc(v.row.Cells, func(c Cell) bool { return c.Name == want })
	if i < 0 {
		return operand{}, false
	}
	return v.row.Cells[i].Value.operand(), true
}

func keyIndex(key []manifest.KeyColumn, name string) int {
	return slices.IndexFunc(key, func(c manifest.KeyColumn) bool { return c.Name == name })
}

func (c *condition) match(v values) bool {
	switch c.op {
	case opAnd:
		return !slices.ContainsFunc(c.of, func(part *condition) bool { return !part.match(v) })
	case opOr:
		return slices.ContainsFunc(c.of, func(part *condition) bool { return part.match(v) })
	case opNot:
		return !c.of[0].match(v)
	}
	o, has := v.newest(c.name)
	return has && (c.op == opExists || c.holds(o))
}

// holds reports whether the condition is true of a value.
func (c *condition) holds(o operand) bool {
	return slices.ContainsFunc(c.literals, func(l literal) bool { return l.holds(c.op, o) })
}

func (l literal) holds(op operator, o operand) bool {
	switch op {
	case opLike:
		return o.kind == text && like(o.text, l.text)
	case opPrefix:
		return o.kind == l.kind && bytes.HasPrefix(o.text, l.text)
	}
	order, ok := compare(o, l.operand)
	return ok && op.allows(order)
}

// allows reports whether a comparison is true of values in that order: -1, 0, 1.
func (op operator) allows(order int) bool {
	switch op {
	case opEqual, opIn:
		return order == 0
	case opDiffers:
		return order != 0
	case opLess:
		return order < 0
	case opLessEqual:
		return order <= 0
	case opGreater:
		return order > 0
	case opGreaterEqual:
		return order >= 0
	}
	return false
}

// compare returns the order of two values; false if they have none.
func compare(a, b operand) (int, bool) {
	switch {
	case a.kind == integer && b.kind == double:
		order, ok := compareNumbers(int64(a.num), math.Float64frombits(b.num))
		return order, ok
	case a.kind == double && b.kind == integer:
		order, ok := compareNumbers(int64(b.num), math.Float64frombits(a.num))
		return -order, ok
	case a.kind != b.kind:
		return 0, false
	}
	switch a.kind {
	case integer:
		return cmp.Compare(int64(a.num), int64(b.num)), true
	case double:
		x, y := math.Float64frombits(a.num), math.Float64frombits(b.num)
		return cmp.Compare(x, y), x == x && y == y
	case boolean:
		return cmp.Compare(a.num, b.num), true
	}
	return bytes.Compare(a.text, b.text), true
}

// compareNumbers compares by the exact values, which a conversion would round.
func compareNumbers(n int64, f float64) (int, bool) {
	const end = 1 << 63 // past every int64
	switch {
	case math.IsNaN(f):
		return 0, false
	case f >= end:
		return -1, true
	case f < -end:
		return 1, true
	}
	whole := math.Trunc(f) // exact as an int64
	if order := cmp.Compare(n, int64(whole)); order != 0 {
		return order, true
	}
	return cmp.Compare(whole, f), true
}

// like reports whether all of a STRING is as the pattern says. It takes time in
// proportion to the product of their lengths at most.
func like(s, pattern []byte) bool {
	var afterRun, retry []byte // where to go on after the last %
	run := false
	for len(s) > 0 || len(pattern) > 0 {
		if len(pattern) > 0 {
			switch c := pattern[0]; {
			case c == '%':
				pattern = pattern[1:]
				run, afterRun, retry = true, pattern, s
				continue
			case c == '_' && len(s) > 0:
				s, pattern = s[characterLen(s):], pattern[1:]
				continue
			case c != '_' && len(s) > 0 && s[0] == c:
				s, pattern = s[1:], pattern[1:]
				continue
			}
		}
		if !run || len(retry) == 0 {
			return false
		}
		retry = retry[characterLen(retry):]
		s, pattern = retry, afterRun
	}
	return true
}

// characterLen returns how many bytes the first character of s has; 1 of what is
// no UTF-8.
func characterLen(s []byte) int {
	_, n := utf8.DecodeRune(s)
	return n
}
