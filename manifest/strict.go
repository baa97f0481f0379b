package manifest

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// decode reads one JSON document into the struct v points to, strictly: every
// reader of the bytes must have read the same document, or none. Every member
// must be there once, under its exact name, and nothing else; there is no null;
// integers are plain and at most 2^53-1 from zero; text is valid Unicode; nothing
// follows the document. A member tagged omitzero is there exactly if its value is
// not the zero value, so that a document still has one spelling. How deep it nests is bounded by the type of v, because
// a member that is not in the type is refused before its value is read.
func decode(data []byte, v any) error {
	if err := checkText(data); err != nil {
		return err
	}
	target := reflect.ValueOf(v).Elem()
	d := decoder{data: data}
	if err := d.value(target, shapeOf(target.Type())); err != nil {
		return err
	}
	if d.next(); d.at < len(data) {
		return errors.New("more follows the end of the document")
	}
	return nil
}

// shape is how values of a type are written.
type shape struct {
	kind    reflect.Kind
	raw     bool     // a [Raw]
	text    bool     // a string that the type itself reads
	element *shape   // of a slice
	members []member // of a struct
}

// member is how a field is written.
type member struct {
	name     string
	optional bool // not written when it has the zero value
	field    int
	shape    *shape
}

var shapes sync.Map // of reflect.Type

func shapeOf(t reflect.Type) *shape {
	if known, ok := shapes.Load(t); ok {
		return known.(*shape)
	}
	s := &shape{
		kind: t.Kind(), raw: t == reflect.TypeFor[Raw](),
		text: reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()),
	}
	switch {
	case s.raw || s.text:
	case s.kind == reflect.Slice:
		s.element = shapeOf(t.Elem())
	case s.kind == reflect.Struct:
		for i := range t.NumField() {
			tag := t.Field(i).Tag.Get("json")
			if tag == "-" || tag == "" {
				continue
			}
			name, optional := strings.CutSuffix(tag, ",omitzero")
			s.members = append(s.members, member{name, optional, i, shapeOf(t.Field(i).Type)})
		}
	}
	shapes.Store(t, s)
	return s
}

// member finds a member by its name, from the one that is expected; -1: there is none.
func (s *shape) member(name []byte, expected int) int {
	for i := range s.members {
		at := expected + i
		if at >= len(s.members) {
			at -= len(s.members)
		}
		if string(name) == s.members[at].name {
			return at
		}
	}
	return -1
}

// decoder reads JSON as RFC 8259 has it.
type decoder struct {
	data []byte
	at   int
}

var errEnds = errors.New("the document ends too early")

// next returns the next byte that is not white space, 0 at the end. It stays there.
func (d *decoder) next() byte {
	for ; d.at < len(d.data); d.at++ {
		switch c := d.data[d.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// syntax is the error of what stands here and cannot.
func (d *decoder) syntax(want string) error {
	if d.at >= len(d.data) {
		return errEnds
	}
	r, _ := utf8.DecodeRune(d.data[d.at:])
	return fmt.Errorf("invalid character %q at byte %d, want %s", r, d.at, want)
}

// take reads one byte that must be c.
func (d *decoder) take(c byte, want string) error {
	if d.next() != c || d.at >= len(d.data) {
		return d.syntax(want)
	}
	d.at++
	return nil
}

func (d *decoder) value(v reflect.Value, s *shape) error {
	switch {
	case s.raw:
		return d.raw(v)
	case s.text:
		text, err := d.text("a string")
		if err != nil {
			return err
		}
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(text)
	}
	switch s.kind {
	case reflect.Struct:
		return d.object(v, s)
	case reflect.Slice:
		return d.array(v, s)
	case reflect.Int64:
		return d.integer(v)
	case reflect.Bool:
		return d.flag(v)
	}
	text, err := d.text("a string")
	if err == nil {
		v.SetString(string(text))
	}
	return err
}

func (d *decoder) object(v reflect.Value, s *shape) error {
	if d.next() != '{' {
		return d.found("an object")
	}
	d.at++
	var seen [64]bool // no document has an object of more members
	for n := 0; ; n++ {
		if d.next() == '}' && n == 0 {
			break
		}
		name, err := d.text("the name of a member")
		if err != nil {
			return err
		}
		i := s.member(name, n)
		if i < 0 {
			return fmt.Errorf("unknown member %q", clip(string(name)))
		}
		m := &s.members[i]
		if seen[i] {
			return fmt.Errorf("member %q is there twice", m.name)
		}
		seen[i] = true
		if err := d.take(':', "a colon"); err != nil {
			return err
		}
		field := v.Field(m.field)
		if err := d.value(field, m.shape); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if m.optional && blank(field) {
			return fmt.Errorf("member %q says nothing, and is then left out", m.name)
		}
		if d.next() != ',' {
			break
		}
		d.at++
	}
	if err := d.take('}', "a comma or the end of an object"); err != nil {
		return err
	}
	for i, m := range s.members {
		if !m.optional && !seen[i] {
			return fmt.Errorf("member %q is missing", m.name)
		}
	}
	return nil
}

func (d *decoder) array(v reflect.Value, s *shape) error {
	if d.next() != '[' {
		return d.found("an array")
	}
	d.at++
	v.SetZero()
	for n := 0; ; n++ {
		if d.next() == ']' && n == 0 {
			break
		}
		v.Grow(1)
		v.SetLen(n + 1)
		if err := d.value(v.Index(n), s.element); err != nil {
			return fmt.Errorf("[%d]: %w", n, err)
		}
		if d.next() != ',' {
			break
		}
		d.at++
	}
	return d.take(']', "a comma or the end of an array")
}

// text reads a string. What it returns is good until the next call.
func (d *decoder) text(want string) ([]byte, error) {
	if d.next() != '"' {
		return nil, d.found(want)
	}
	begin := d.at
	for d.at++; d.at < len(d.data); d.at++ {
		switch c := d.data[d.at]; {
		case c == '"':
			d.at++
			return d.data[begin+1 : d.at-1], nil
		case c == '\\':
			return d.escaped(begin)
		case c < ' ':
			return nil, d.syntax("no control character in a string")
		}
	}
	return nil, errEnds
}

// escaped reads a string with escapes, which begins at begin.
func (d *decoder) escaped(begin int) ([]byte, error) {
	for ; d.at < len(d.data) && d.data[d.at] != '"'; d.at++ {
		if d.data[d.at] == '\\' {
			d.at++
		}
	}
	if d.at >= len(d.data) {
		return nil, errEnds
	}
	d.at++
	var text string
	if err := json.Unmarshal(d.data[begin:d.at], &text); err != nil {
		return nil, err
	}
	return []byte(text), nil
}

func (d *decoder) integer(v reflect.Value) error {
	token := d.token()
	if c := d.next(); c != '-' && (c < '0' || c > '9') {
		return d.found("an integer")
	}
	if !json.Valid(token) {
		return fmt.Errorf("invalid number %s", clip(string(token)))
	}
	n, err := strconv.ParseInt(string(token), 10, 64)
	if err != nil || token[0] == '-' && n == 0 {
		return fmt.Errorf("%s is not a plain integer", clip(string(token)))
	}
	if err := checkInteger(n); err != nil {
		return err
	}
	d.at += len(token)
	v.SetInt(n)
	return nil
}

func (d *decoder) flag(v reflect.Value) error {
	switch token := string(d.token()); token {
	case "true", "false":
		d.at += len(token)
		v.SetBool(token == "true")
		return nil
	}
	return d.found("true or false")
}

// token returns what stands here up to the next white space or punctuation.
func (d *decoder) token() []byte {
	d.next()
	rest := d.data[d.at:]
	if end := bytes.IndexAny(rest[:min(len(rest), 1<<20)], " \t\n\r,:{}[]\""); end >= 0 {
		return rest[:end]
	}
	return rest
}

func (d *decoder) raw(v reflect.Value) error {
	d.next()
	rest := json.NewDecoder(bytes.NewReader(d.data[d.at:]))
	var value json.RawMessage
	if err := rest.Decode(&value); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return errEnds
		}
		return err
	}
	d.at += int(rest.InputOffset())
	v.SetBytes(value)
	return Raw(value).check()
}

// found is the error of a value of another kind than wanted.
func (d *decoder) found(want string) error {
	c := d.next()
	switch {
	case d.at >= len(d.data):
		return errEnds
	case c == '"':
		text, err := d.text(want)
		if err != nil {
			return err
		}
		return fmt.Errorf("found the string %q, want %s", clip(string(text)), want)
	case c == '{', c == '[':
		return fmt.Errorf("found \"%c\", want %s", c, want)
	}
	token := d.token()
	if !json.Valid(token) {
		return d.syntax(want)
	}
	if c == '-' || '0' <= c && c <= '9' {
		return fmt.Errorf("found the number %s, want %s", clip(string(token)), want)
	}
	return fmt.Errorf("found %s, want %s", token, want)
}

func checkInteger(n int64) error {
	if n > maxInteger || n < -maxInteger {
		return fmt.Errorf("%d is further from zero than 2^53-1", n)
	}
	return nil
}

// blank reports whether an optional member of value v is left out.
func blank(v reflect.Value) bool {
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
}

// clip keeps a hostile document from filling an error.
func clip(s string) string {
	if len(s) <= 80 {
		return s
	}
	return s[:80] + "..."
}

// checkText refuses what readers of JSON repair in different ways: bytes that
// are not UTF-8, and escapes of half a surrogate pair.
func checkText(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	for {
		i := bytes.IndexByte(data, '\\')
		if i < 0 || i+1 >= len(data) {
			return nil
		}
		data = data[i:]
		n := 2
		if data[1] == 'u' {
			n = 6
			if r, ok := escapedRune(data); ok && 0xd800 <= r && r < 0xe000 {
				low, ok := escapedRune(data[6:])
				if r >= 0xdc00 || !ok || low < 0xdc00 || low >= 0xe000 {
					return errors.New("escape of half a surrogate pair")
				}
				n = 12
			}
		}
		data = data[min(n, len(data)):]
	}
}

// escapedRune returns the code of the \u and four hex digits data begins with.
func escapedRune(data []byte) (uint64, bool) {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0, false
	}
	r, err := strconv.ParseUint(string(data[2:6]), 16, 16)
	return r, err == nil
}

// encode writes the struct v as compact JSON with its members in the order of
// the type, such that decode reads the same struct again; it refuses what decode
// would. A nil slice is an empty array.
func encode[T any](v T) ([]byte, error) { return appendDocument(nil, &v) }

// appendDocument is encode of the struct v points to, behind what dst holds.
func appendDocument(dst []byte, v any) ([]byte, error) {
	value := reflect.ValueOf(v).Elem()
	return appendValue(dst, value, shapeOf(value.Type()))
}

func appendValue(dst []byte, v reflect.Value, s *shape) ([]byte, error) {
	switch {
	case s.raw:
		return append(dst, v.Bytes()...), Raw(v.Bytes()).check()
	case s.text:
		return appendText(dst, v)
	}
	switch s.kind {
	case reflect.Struct:
		return appendStruct(dst, v, s)
	case reflect.Slice:
		return appendSlice(dst, v, s)
	case reflect.String:
		return appendString(dst, v.String())
	case reflect.Int64:
		return strconv.AppendInt(dst, v.Int(), 10), checkInteger(v.Int())
	case reflect.Bool:
		return strconv.AppendBool(dst, v.Bool()), nil
	}
	return nil, fmt.Errorf("a %s has no form in a document", v.Type())
}

// appendText appends what writes itself as text: digits, letters, and what else
// nothing in a string is escaped for.
func appendText(dst []byte, v reflect.Value) ([]byte, error) {
	dst, err := v.Addr().Interface().(encoding.TextAppender).AppendText(append(dst, '"'))
	return append(dst, '"'), err
}

func appendStruct(dst []byte, v reflect.Value, s *shape) ([]byte, error) {
	separator := byte('{')
	for _, m := range s.members {
		field := v.Field(m.field)
		if m.optional && blank(field) {
			continue
		}
		dst = append(dst, separator, '"')
		dst = append(dst, m.name...)
		dst = append(dst, '"', ':')
		var err error
		if dst, err = appendValue(dst, field, m.shape); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		separator = ','
	}
	if separator == '{' {
		dst = append(dst, separator)
	}
	return append(dst, '}'), nil
}

func appendSlice(dst []byte, v reflect.Value, s *shape) ([]byte, error) {
	dst = append(dst, '[')
	for i := range v.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendValue(dst, v.Index(i), s.element); err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return append(dst, ']'), nil
}

func appendString(dst []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("%q is not valid UTF-8", clip(s))
	}
	if plain(s) {
		return append(append(append(dst, '"'), s...), '"'), nil
	}
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return nil, err
	}
	return append(dst, strings.TrimSuffix(out.String(), "\n")...), nil
}

// plain reports whether s certainly has nothing that is escaped: a quote, a backslash,
// a control character, or U+2028 and U+2029, which begin with e2.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c == 0xe2 {
			return false
		}
	}
	return true
}
