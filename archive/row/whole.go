package row

import (
	"bytes"
	"encoding/binary"
	"sort"
	"unicode/utf8"

	"github.com/otsnap/otsnap/manifest"
)

// Whole returns the range that has the same keys as r, whose bounds may be cut
// anywhere in a value, with bounds made of whole values, which the service can be
// asked for; false if no key can be in it.
func Whole(cols []manifest.KeyColumn, r manifest.Range) (manifest.Range, bool) {
	from, any := least(cols, r.From)
	if !any {
		return manifest.Range{}, false
	}
	if len(r.To) == 0 {
		return manifest.Range{From: from}, true
	}
	to, any := least(cols, r.To)
	if !any {
		return manifest.Range{From: from}, true
	}
	return manifest.Range{From: from, To: to}, bytes.Compare(from, to) < 0
}

// least returns the smallest key of whole values, of all columns or fewer, that is
// not before k; false if there is none.
func least(cols []manifest.KeyColumn, k manifest.Key) (manifest.Key, bool) {
	out := manifest.Key{}
	for _, c := range cols {
		if len(k) == 0 {
			return out, true
		}
		of, _ := kindOf(c.Type)
		value, rest, any := leastValue(of, k)
		if !any {
			return leastBehind(cols, out)
		}
		out = appendKeyValue(out, of, value)
		if rest == nil {
			return out, true
		}
		k = rest
	}
	if len(k) > 0 {
		return leastBehind(cols, out)
	}
	return out, true
}

// leastBehind returns the smallest key of whole values behind all that start so.
func leastBehind(cols []manifest.KeyColumn, start manifest.Key) (manifest.Key, bool) {
	if start = Following(start); len(start) == 0 {
		return nil, false
	}
	return least(cols, start)
}

// leastValue returns the smallest value, as it stands on the wire, whose key is not
// before k, which is not empty, and what follows it in k: nil if k does not begin
// with that value; false if there is no such value.
func leastValue(of kind, k manifest.Key) (value []byte, rest manifest.Key, any bool) {
	if value, rest, err := cutKeyValue(nil, of, k); err == nil && (of != text || utf8.Valid(value)) {
		return value, rest, true
	}
	if of == integer {
		var whole [8]byte
		copy(whole[:], k)
		return binary.LittleEndian.AppendUint64(nil, binary.BigEndian.Uint64(whole[:])^signBit), nil, true
	}
	for {
		zero := bytes.IndexByte(k, 0)
		if zero < 0 {
			value = append(value, k...)
			break
		}
		value = append(value, k[:zero]...)
		if zero+1 == len(k) || k[zero+1] == 0 {
			break // values that start so are not before it
		}
		value = append(value, 0)
		if k[zero+1] < 0xff {
			break // between the end of the value and one with a zero byte
		}
		k = k[zero+2:]
	}
	if of == text {
		value, any = leastText(value)
		return value, nil, any
	}
	return value, nil, true
}

// leastText returns the smallest text in UTF-8 that is not before s; false if there
// is none.
func leastText(s []byte) ([]byte, bool) {
	good := 0
	for good < len(s) {
		r, n := utf8.DecodeRune(s[good:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		good += n
	}
	if good == len(s) {
		return s, true
	}
	head, bad := s[:good:good], s[good:]
	const surrogates = 0xe000 - 0xd800 // which UTF-8 has not
	character := func(n int) rune {
		if n >= 0xd800 {
			n += surrogates
		}
		return rune(n)
	}
	const all = utf8.MaxRune + 1 - surrogates
	n := sort.Search(all, func(n int) bool { return bytes.Compare(utf8.AppendRune(nil, character(n)), bad) >= 0 })
	if n < all {
		return utf8.AppendRune(head, character(n)), true
	}
	if next := Following(head); len(next) > 0 {
		return leastText(next)
	}
	return nil, false
}
