package row

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/otsnap/otsnap/manifest"
)

// ParseKeyText returns the key that text names: values of the key's columns with
// commas between, as in US,7. An INTEGER is digits. A STRING is written as it is,
// or in double quotes as in JSON, which it must be if it is empty, has a comma or
// a quote, starts with ( or [, or has blanks at an end. A BINARY is hex:00ff or
// base64:AP8=. Brackets around it are ignored, so that what [FormatKey] writes,
// and an array of JSON, are keys too. Values of columns at the end may be left
// out; the empty text is the empty key. The number of values is returned with it.
func ParseKeyText(cols []manifest.KeyColumn, text string) (manifest.Key, int, error) {
	key, n, _, err := parseKeyText(cols, text, false)
	if err != nil {
		return nil, 0, fmt.Errorf("row: key %q: %w", shorten(text, func(s string) string { return s }), err)
	}
	return key, n, nil
}

// ParseKeyPrefix returns what every key starts with that text is the start of: a
// key whose last columns are left out, and whose last STRING may end in an
// unquoted star, which stands for anything: US, or US,Ber* for a second column.
func ParseKeyPrefix(cols []manifest.KeyColumn, text string) (manifest.Key, error) {
	key, n, star, err := parseKeyText(cols, text, true)
	if err == nil && n == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("row: start of a key %q: %w", shorten(text, func(s string) string { return s }), err)
	}
	if star {
		key = key[:len(key)-2] // the mark of where a string ends
	}
	return key, nil
}

func parseKeyText(cols []manifest.KeyColumn, text string, stars bool) (key manifest.Key, n int, star bool, err error) {
	left := strings.TrimSpace(text)
	if left, err = unbracket(left); err != nil {
		return nil, 0, false, err
	}
	key = manifest.Key{}
	for more := left != ""; more; n++ {
		if n == len(cols) {
			return nil, 0, false, fmt.Errorf("more than the %d values of %s", len(cols), keyNames(cols))
		}
		var token string
		if token, left, more, err = cutToken(left); err != nil {
			return nil, 0, false, err
		}
		if stars && !more && cols[n].Type == manifest.String && !strings.HasPrefix(token, `"`) && strings.HasSuffix(token, "*") {
			token, star = token[:len(token)-1], true
			key = AppendKey(key, StringValue(token))
			continue
		}
		value, err := parseKeyValue(cols[n].Type, token)
		if err != nil {
			return nil, 0, false, fmt.Errorf("column %s: %w", cols[n].Name, err)
		}
		key = AppendKey(key, value)
	}
	return key, n, star, nil
}

func keyNames(cols []manifest.KeyColumn) string {
	var names []string
	for _, c := range cols {
		names = append(names, fmt.Sprintf("%s %s", c.Name, c.Type))
	}
	return "(" + strings.Join(names, ", ") + ")"
}

// unbracket leaves out the brackets around a key.
func unbracket(text string) (string, error) {
	for open, end := range map[string]string{"(": ")", "[": "]"} {
		inside, has := strings.CutPrefix(text, open)
		if !has {
			continue
		}
		inside, has = strings.CutSuffix(inside, end)
		if !has {
			return "", fmt.Errorf("there is %s at its start and no %s at its end; a value that starts with %s needs double quotes", open, end, open)
		}
		return strings.TrimSpace(inside), nil
	}
	return text, nil
}

// cutToken returns the text of the first value, and whether another follows.
func cutToken(text string) (token, rest string, more bool, err error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, `"`) {
		token, rest, more = strings.Cut(text, ",")
		return strings.TrimSpace(token), rest, more, nil
	}
	end := 1
	for end < len(text) && text[end] != '"' {
		if text[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(text) {
		return "", "", false, errors.New("a double quote is not closed")
	}
	rest, more = strings.CutPrefix(strings.TrimSpace(text[end+1:]), ",")
	if !more && rest != "" {
		return "", "", false, fmt.Errorf("%q follows a value in double quotes, want a comma", rest)
	}
	return text[:end+1], rest, more, nil
}

func parseKeyValue(t manifest.Type, token string) (Value, error) {
	switch t {
	case manifest.Integer:
		n, err := strconv.ParseInt(token, 10, 64)
		if err != nil {
			return Value{}, fmt.Errorf("%q is no INTEGER of 64 bits", token)
		}
		return IntegerValue(n), nil
	case manifest.Binary:
		return ParseBinary(token)
	}
	if strings.HasPrefix(token, `"`) {
		return unquote(token)
	}
	if token == "" {
		return Value{}, errors.New("an empty STRING is written as two double quotes")
	}
	if strings.Contains(token, `"`) {
		return Value{}, fmt.Errorf("%s has a double quote: write it in double quotes, as in JSON", token)
	}
	return StringValue(token), nil
}

// ParseBinary returns the BINARY that is written hex:00ff or base64:AP8=.
func ParseBinary(token string) (Value, error) {
	digits, isHex := strings.CutPrefix(token, "hex:")
	if !isHex {
		digits, isHex = strings.CutPrefix(token, "0x")
	}
	if isHex {
		b, err := hex.DecodeString(digits)
		if err != nil {
			return Value{}, fmt.Errorf("%q is not hex: and an even number of hex digits", token)
		}
		return BinaryValue(b), nil
	}
	digits, isBase64 := strings.CutPrefix(token, "base64:")
	if !isBase64 {
		return Value{}, fmt.Errorf("%q: a BINARY is written hex:00ff or base64:AP8=", token)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(digits)
	if err != nil {
		return Value{}, fmt.Errorf("%q is not in base64", token)
	}
	return BinaryValue(b), nil
}

// unquote reads a string in double quotes as JSON has it, or as [FormatKey]
// writes it.
func unquote(token string) (Value, error) {
	if s, err := strconv.Unquote(token); err == nil {
		return StringValue(s), nil
	}
	var s string
	if err := json.Unmarshal([]byte(token), &s); err != nil {
		return Value{}, fmt.Errorf("%s is not a string in double quotes as in JSON", token)
	}
	const replacement = "\ufffd" // what half a pair of surrogates is read as
	if strings.Contains(s, replacement) && !strings.Contains(token, replacement) {
		return Value{}, fmt.Errorf("%s has half a pair of surrogates", token)
	}
	return StringValue(s), nil
}
