package row

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/otsnap/otsnap/manifest"
)

// Check refuses a filter that compares a column of the primary key with a
// literal of a type that is not the column's, which no row could match.
func (f *Filter) Check(key []manifest.KeyColumn) error {
	if f.all() {
		return nil
	}
	return f.check(key, f.root)
}

func (f *Filter) check(key []manifest.KeyColumn, c *condition) error {
	for _, part := range c.of {
		if err := f.check(key, part); err != nil {
			return err
		}
	}
	i := -1
	if len(c.literals) > 0 {
		i = keyIndex(key, f.names[c.name])
	}
	if i < 0 {
		return nil
	}
	of, _ := kindOf(key[i].Type)
	for _, l := range c.literals {
		if l.kind != of && (of != integer || l.kind != double) {
			return fmt.Errorf("row: filter: the key column %s is %s, and %s is %s", key[i].Name, key[i].Type, appendLiteral(nil, l), l.value().Type())
		}
	}
	return nil
}

// Keys returns a range no key of a row that matches is outside of, as far as the
// conditions on the first columns of the key tell. It is a range without keys if
// no row can match.
func (f *Filter) Keys(key []manifest.KeyColumn) manifest.Range {
	var start manifest.Key
	if f.all() {
		return manifest.Range{}
	}
	for i := range key {
		of, _ := kindOf(key[i].Type)
		r, known := f.span(f.root, key[i].Name, of)
		if !known {
			break
		}
		if !isOne(r, of) {
			return under(start, r)
		}
		start = append(start, r.From...)
	}
	return manifest.Range{From: start, To: Following(start)}
}

// under puts the bounds of a range after a start all its keys have.
func under(start manifest.Key, r manifest.Range) manifest.Range {
	from := slices.Concat(start, r.From)
	if len(r.To) == 0 {
		return manifest.Range{From: from, To: Following(start)}
	}
	return manifest.Range{From: from, To: slices.Concat(start, r.To)}
}

// isOne reports whether a range has the keys that start with one value, and no
// others.
func isOne(r manifest.Range, k kind) bool {
	_, rest, err := cutKeyValue(nil, k, r.From)
	return err == nil && len(rest) == 0 && bytes.Equal(r.To, Following(r.From))
}

// span returns a range no value of a key column is outside of where the
// condition is true; false if that may be any value.
func (f *Filter) span(c *condition, name string, of kind) (manifest.Range, bool) {
	switch c.op {
	case opAnd:
		return f.spanAll(c.of, name, of)
	case opOr:
		return f.spanAny(c.of, name, of)
	case opNot, opExists, opDiffers:
		return manifest.Range{}, false
	}
	if f.names[c.name] != name {
		return manifest.Range{}, false
	}
	var all manifest.Range
	for i, l := range c.literals {
		r, known := l.span(c.op, of)
		if !known {
			return manifest.Range{}, false
		}
		if i == 0 {
			all = r
		}
		all = hull(all, r)
	}
	return all, true
}

// spanAll intersects what the parts say.
func (f *Filter) spanAll(parts []*condition, name string, of kind) (all manifest.Range, known bool) {
	for _, part := range parts {
		if r, has := f.span(part, name, of); has {
			all, known = Intersect(all, r), true
		}
	}
	return all, known
}

// spanAny joins what the parts say, if each says something.
func (f *Filter) spanAny(parts []*condition, name string, of kind) (all manifest.Range, known bool) {
	for i, part := range parts {
		r, has := f.span(part, name, of)
		if !has {
			return manifest.Range{}, false
		}
		if i == 0 {
			all = r
		}
		all = hull(all, r)
	}
	return all, true
}

// span is [Filter.span] of a comparison with one literal.
func (l literal) span(op operator, of kind) (manifest.Range, bool) {
	if l.kind != of {
		return manifest.Range{}, false // never true, or of a DOUBLE
	}
	at := AppendKey(nil, l.value())
	switch op {
	case opEqual, opIn:
		return manifest.Range{From: at, To: Following(at)}, true
	case opLess:
		return manifest.Range{To: at}, true
	case opLessEqual:
		return manifest.Range{To: Following(at)}, true
	case opGreater, opGreaterEqual:
		return manifest.Range{From: at}, true
	case opPrefix:
		return startsWith(l.text, of), true
	case opLike:
		fixed := bytes.IndexAny(l.text, "%_")
		if fixed < 0 {
			return manifest.Range{From: at, To: Following(at)}, true
		}
		return startsWith(l.text[:fixed], of), true
	}
	return manifest.Range{}, false
}

// startsWith returns the range of the values that start so.
func startsWith(start []byte, of kind) manifest.Range {
	at := appendKeyValue(nil, of, start)
	at = at[:len(at)-2] // the mark of where the value ends
	return manifest.Range{From: at, To: Following(at)}
}

// hull returns a range that has all keys of both.
func hull(a, b manifest.Range) manifest.Range {
	if bytes.Compare(b.From, a.From) < 0 {
		a.From = b.From
	}
	if len(b.To) == 0 || len(a.To) > 0 && bytes.Compare(b.To, a.To) > 0 {
		a.To = b.To
	}
	return a
}

// Intersect returns the range of the keys both have. If they have none, its end
// is not after its start.
func Intersect(a, b manifest.Range) manifest.Range {
	if bytes.Compare(b.From, a.From) > 0 {
		a.From = b.From
	}
	if len(a.To) == 0 || len(b.To) > 0 && bytes.Compare(b.To, a.To) < 0 {
		a.To = b.To
	}
	return a
}
