package row

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// canonicalNaN is what [math.NaN] returns.
const canonicalNaN = 0x7ff8000000000001

// AppendJSON appends the value as JSON that tells its type and every bit of it:
//
//	INTEGER  a number without point and exponent, of up to 19 digits: 9007199254740993
//	DOUBLE   a number with a point or an exponent, the shortest that reads back
//	         the same: 42.0, -0.0, 1e+300; what is no number, and no service
//	         keeps, is {"double":"NaN"}, "Infinity", "-Infinity" or "0x" and bits
//	BOOLEAN  true, false
//	STRING   a string; one that is not UTF-8 is {"string_b64":"/w=="}
//	BINARY   {"b64":"AAE="}, in base64
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case integer:
		return strconv.AppendInt(dst, int64(v.num), 10)
	case double:
		return appendDouble(dst, v.num)
	case boolean:
		return strconv.AppendBool(dst, v.num == 1)
	case text:
		if utf8.ValidString(v.text) {
			return AppendJSONString(dst, v.text)
		}
		return appendBase64(dst, "string_b64", v.text)
	case blob:
		return appendBase64(dst, "b64", v.text)
	}
	return append(dst, "null"...)
}

func appendBase64(dst []byte, name, s string) []byte {
	dst = append(append(append(dst, `{"`...), name...), `":"`...)
	return append(base64.StdEncoding.AppendEncode(dst, []byte(s)), `"}`...)
}

func appendDouble(dst []byte, num uint64) []byte {
	f := math.Float64frombits(num)
	switch {
	case math.IsInf(f, 1):
		return append(dst, `{"double":"Infinity"}`...)
	case math.IsInf(f, -1):
		return append(dst, `{"double":"-Infinity"}`...)
	case num == canonicalNaN:
		return append(dst, `{"double":"NaN"}`...)
	case math.IsNaN(f):
		return fmt.Appendf(dst, `{"double":"0x%016x"}`, num)
	}
	return append(dst, formatDouble(f)...)
}

// AppendText appends the value as a cell of CSV: a STRING as it is, a BINARY in
// base64, everything else as in JSON, but what is no number as NaN, +Inf, -Inf.
func (v Value) AppendText(dst []byte) []byte {
	switch v.kind {
	case double:
		return append(dst, formatDouble(math.Float64frombits(v.num))...)
	case text:
		return append(dst, v.text...)
	case blob:
		return base64.StdEncoding.AppendEncode(dst, []byte(v.text))
	}
	return v.AppendJSON(dst)
}

// AppendJSONString appends s, which must be UTF-8, as a string of JSON. What does
// not print is escaped, so that no terminal obeys it.
func AppendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	plain := 0 // where what needs no escape starts
	for i, r := range s {
		if r >= ' ' && r <= '~' && r != '"' && r != '\\' || r > '~' && unicode.IsPrint(r) {
			continue
		}
		dst = appendEscaped(append(dst, s[plain:i]...), r)
		plain = i + utf8.RuneLen(r)
	}
	return append(append(dst, s[plain:]...), '"')
}

func appendEscaped(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\n':
		return append(dst, `\n`...)
	case '\t':
		return append(dst, `\t`...)
	}
	if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
		return fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(dst, `\u%04x`, r)
}
