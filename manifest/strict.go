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
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := decodeValue(d, reflect.ValueOf(v).Elem()); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows the end of the document")
	}
	return nil
}

func decodeValue(d *json.Decoder, v reflect.Value) error {
	if raw, ok := v.Addr().Interface().(*Raw); ok {
		return raw.decode(d)
	}
	token, err := d.Token()
	if errors.Is(err, io.EOF) {
		return errors.New("the document ends too early")
	}
	if err != nil {
		return err
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return decodeText(token, u)
	}
	switch v.Kind() {
	case reflect.Struct:
		return decodeStruct(d, token, v)
	case reflect.Slice:
		return decodeSlice(d, token, v)
	case reflect.Int64:
		return decodeInteger(token, v)
	}
	want := reflect.ValueOf(token)
	if !want.IsValid() || want.Kind() != v.Kind() || want.Type() == reflect.TypeFor[json.Number]() {
		return fmt.Errorf("found %s, want a %s", describe(token), v.Kind())
	}
	v.Set(want.Convert(v.Type()))
	return nil
}

func decodeText(token json.Token, u encoding.TextUnmarshaler) error {
	text, ok := token.(string)
	if !ok {
		return fmt.Errorf("found %s, want a string", describe(token))
	}
	return u.UnmarshalText([]byte(text))
}

func decodeStruct(d *json.Decoder, token json.Token, v reflect.Value) error {
	if token != json.Delim('{') {
		return fmt.Errorf("found %s, want an object", describe(token))
	}
	seen := make([]bool, v.NumField())
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		i, m := fieldIndex(v.Type(), name)
		if i < 0 {
			return fmt.Errorf("unknown member %q", name)
		}
		if seen[i] {
			return fmt.Errorf("member %q is there twice", name)
		}
		seen[i] = true
		if err := decodeValue(d, v.Field(i)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if m.optional && blank(v.Field(i)) {
			return fmt.Errorf("member %q says nothing, and is then left out", name)
		}
	}
	for i, ok := range seen {
		if m := memberOf(v.Type().Field(i)); m.name != "" && !m.optional && !ok {
			return fmt.Errorf("member %q is missing", m.name)
		}
	}
	return closing(d)
}

func decodeSlice(d *json.Decoder, token json.Token, v reflect.Value) error {
	if token != json.Delim('[') {
		return fmt.Errorf("found %s, want an array", describe(token))
	}
	v.SetZero()
	for n := 0; d.More(); n++ {
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		if err := decodeValue(d, v.Index(n)); err != nil {
			return fmt.Errorf("[%d]: %w", n, err)
		}
	}
	return closing(d)
}

// closing reads the end of an object or an array.
func closing(d *json.Decoder) error {
	_, err := d.Token()
	if errors.Is(err, io.EOF) {
		return errors.New("the document ends too early")
	}
	return err
}

func decodeInteger(token json.Token, v reflect.Value) error {
	number, ok := token.(json.Number)
	if !ok {
		return fmt.Errorf("found %s, want an integer", describe(token))
	}
	n, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != number.String() {
		return fmt.Errorf("%s is not a plain integer", clip(number.String()))
	}
	if err := checkInteger(n); err != nil {
		return err
	}
	v.SetInt(n)
	return nil
}

func checkInteger(n int64) error {
	if n > maxInteger || n < -maxInteger {
		return fmt.Errorf("%d is further from zero than 2^53-1", n)
	}
	return nil
}

// member is how a field is written; without a name it is not.
type member struct {
	name     string
	optional bool // not written when it has the zero value
}

func memberOf(f reflect.StructField) member {
	tag := f.Tag.Get("json")
	if tag == "-" {
		return member{}
	}
	name, optional := strings.CutSuffix(tag, ",omitzero")
	return member{name, optional}
}

// blank reports whether an optional member of value v is left out.
func blank(v reflect.Value) bool {
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
}

// fieldIndex finds the field of a member; -1: the type has no such member.
func fieldIndex(t reflect.Type, name string) (int, member) {
	for i := range t.NumField() {
		if m := memberOf(t.Field(i)); name != "" && m.name == name {
			return i, m
		}
	}
	return -1, member{}
}

func describe(token json.Token) string {
	switch token := token.(type) {
	case nil:
		return "null"
	case json.Number:
		return "the number " + clip(token.String())
	case string:
		return fmt.Sprintf("the string %q", clip(token))
	case json.Delim:
		return fmt.Sprintf("%q", token.String())
	}
	return fmt.Sprint(token)
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
func encode(v any) ([]byte, error) { return appendValue(nil, reflect.ValueOf(v)) }

func appendValue(dst []byte, v reflect.Value) ([]byte, error) {
	if raw, ok := v.Interface().(Raw); ok {
		return append(dst, raw...), raw.check()
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return nil, err
		}
		return appendString(dst, string(text))
	}
	switch v.Kind() {
	case reflect.Struct:
		return appendStruct(dst, v)
	case reflect.Slice:
		return appendSlice(dst, v)
	case reflect.String:
		return appendString(dst, v.String())
	case reflect.Int64:
		return strconv.AppendInt(dst, v.Int(), 10), checkInteger(v.Int())
	case reflect.Bool:
		return strconv.AppendBool(dst, v.Bool()), nil
	}
	return nil, fmt.Errorf("a %s has no form in a document", v.Type())
}

func appendStruct(dst []byte, v reflect.Value) ([]byte, error) {
	separator := byte('{')
	for i := range v.NumField() {
		m := memberOf(v.Type().Field(i))
		if m.name == "" || m.optional && blank(v.Field(i)) {
			continue
		}
		dst = append(dst, separator, '"')
		dst = append(dst, m.name...)
		dst = append(dst, '"', ':')
		var err error
		if dst, err = appendValue(dst, v.Field(i)); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		separator = ','
	}
	if separator == '{' {
		dst = append(dst, separator)
	}
	return append(dst, '}'), nil
}

func appendSlice(dst []byte, v reflect.Value) ([]byte, error) {
	dst = append(dst, '[')
	for i := range v.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendValue(dst, v.Index(i)); err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return append(dst, ']'), nil
}

func appendString(dst []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("%q is not valid UTF-8", clip(s))
	}
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return nil, err
	}
	return append(dst, strings.TrimSuffix(out.String(), "\n")...), nil
}
