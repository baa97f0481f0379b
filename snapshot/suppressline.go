package snapshot

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"

	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// listed is an entry of a list of rows that must not come back. Errors of its
// functions repeat nothing of it, but for the name of a table.
type listed struct {
	table string
	array []byte // of JSON
	whole bool   // a key, and not the start of some
}

// formOfListed is how entries are written.
const formOfListed = `want {"table":"NAME","key":[VALUES]} or {"table":"NAME","prefix":[VALUES]}`

// parseListed reads an entry strictly: its members are exactly table, and key or
// prefix.
func parseListed(line []byte) (e listed, err error) {
	refuse := func(what string) (listed, error) { return listed{}, errors.New(what + "; " + formOfListed) }
	if err := checkText(line); err != nil {
		return listed{}, err
	}
	if !json.Valid(line) || line[0] != '{' {
		return refuse("it is not one object of JSON, whole and alone on its line")
	}
	for left := line[1:]; ; {
		var name, value []byte
		if name, left = cutJSON(left); name == nil {
			break
		}
		value, left = cutJSON(left)
		switch string(name) {
		case `"table"`:
			if e.table != "" {
				return refuse("table is there twice")
			}
			e.table, err = textOf(value)
			if err != nil || manifest.CheckTableName(tableOf(e.table)) != nil {
				return refuse("its table is no name that a table can have")
			}
		case `"key"`, `"prefix"`:
			if e.array != nil {
				return refuse("key or prefix is there twice, or both are")
			}
			e.array, e.whole = value, string(name) == `"key"`
		default:
			return refuse("it has a member other than table, key and prefix")
		}
	}
	if e.table == "" || e.array == nil {
		return refuse("a member is missing")
	}
	if e.array[0] != '[' {
		return refuse("its " + map[bool]string{true: "key", false: "prefix"}[e.whole] + " is no array")
	}
	return e, nil
}

// cutJSON returns the first value in what is left of an object or an array that is
// valid JSON, and what is left behind it; nil at the end.
func cutJSON(text []byte) (value, rest []byte) {
	text = bytes.TrimLeft(text, " \t\r\n,:")
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return text[:i+1], text[i+1:]
			}
		case '[', '{':
			depth++
		case ']', '}', ',', ' ', '\t', '\r', '\n':
			if depth == 0 && i == 0 {
				return nil, nil
			}
			if depth == 0 {
				return text[:i], text[i:]
			}
			if text[i] != ']' && text[i] != '}' {
				continue
			}
			if depth--; depth == 0 {
				return text[:i+1], text[i+1:]
			}
		}
	}
	return nil, nil
}

// textOf returns a string of JSON.
func textOf(value []byte) (string, error) {
	if value[0] != '"' {
		return "", errors.New("it is no string")
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1]), nil
	}
	var text string
	err := json.Unmarshal(value, &text)
	return text, err
}

// key returns what the keys of an entry start with, and how many values that is.
func (e listed) key(columns []manifest.KeyColumn) (manifest.Key, int, error) {
	key, n := make(manifest.Key, 0, len(e.array)+8*len(columns)), 0
	for value, left := cutJSON(e.array[1:]); value != nil; value, left = cutJSON(left) {
		if n == len(columns) {
			return nil, 0, fmt.Errorf("it has more than the %d values of %s", n, formatKeyColumns(columns))
		}
		v, err := listedValue(columns[n].Type, value)
		if err != nil {
			return nil, 0, fmt.Errorf("column %s is %s: %w", columns[n].Name, columns[n].Type, err)
		}
		key = row.AppendKey(key, v)
		n++
	}
	switch {
	case n == 0:
		return nil, 0, errors.New("the key is empty; a table is left out as a whole by restoring the others alone")
	case e.whole && n < len(columns):
		return nil, 0, fmt.Errorf("the key has %d of the %d values of %s; give all of them, or write prefix in place of key", n, len(columns), formatKeyColumns(columns))
	}
	return bytes.Clone(key), n, nil
}

// listedValue reads a value of a column. An INTEGER is a number in plain digits, a
// STRING a string. A BINARY is a string like "hex:00ff" or "base64:AP8=", or
// {"b64":"AP8="}, as rows are printed.
func listedValue(t manifest.Type, value []byte) (row.Value, error) {
	switch t {
	case manifest.Integer:
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != string(value) {
			return row.Value{}, errors.New("write it in digits, without quotes, fraction and exponent; it has 64 bits")
		}
		return row.IntegerValue(n), nil
	case manifest.Binary:
		if v, ok := listedBinary(value); ok {
			return v, nil
		}
		return row.Value{}, errors.New(`write it as "hex:00ff" or "base64:AP8="`)
	}
	text, err := textOf(value)
	if err != nil {
		return row.Value{}, errors.New("write it in double quotes")
	}
	return row.StringValue(text), nil
}

func listedBinary(value []byte) (row.Value, bool) {
	if value[0] == '{' {
		name, left := cutJSON(value[1:])
		if string(name) != `"b64"` {
			return row.Value{}, false
		}
		text, left := cutJSON(left)
		if more, _ := cutJSON(left); more != nil || text[0] != '"' {
			return row.Value{}, false
		}
		b, err := base64.StdEncoding.Strict().DecodeString(string(text[1 : len(text)-1]))
		return row.BinaryValue(b), err == nil
	}
	text, err := textOf(value)
	if err != nil {
		return row.Value{}, false
	}
	v, err := row.ParseBinary(text)
	return v, err == nil
}

// Escapes of characters beyond 16 bits, and of halves of them, where no backslash
// stands for itself.
var (
	wholePair = regexp.MustCompile(`\\u[dD][89abAB]..\\u[dD][c-fC-F]..`)
	halfPair  = regexp.MustCompile(`\\u[dD][89a-fA-F]`)
)

// checkText refuses what readers of JSON silently replace: bytes that are not UTF-8,
// and escapes of half a pair of surrogates.
func checkText(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("it is not valid UTF-8")
	}
	if bytes.IndexByte(data, '\\') < 0 {
		return nil
	}
	escapes := bytes.ReplaceAll(data, []byte(`\\`), []byte(" "))
	if halfPair.Match(wholePair.ReplaceAll(escapes, []byte(" "))) {
		return errors.New("it has an escape of half a pair of surrogates; write the character itself")
	}
	return nil
}
