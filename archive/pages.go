package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// page is what the header of a page says of it.
type page struct {
	kind     int64
	encoding int64
	values   int64 // nulls and empty lists counted
	size     int64 // as stored, the header included
	claim    claim
}

// Types of pages. Those of version 2 count nulls, which the library does wrongly,
// and are not written.
const (
	dataPage       = 0
	dictionaryPage = 2
)

// pagesOf reads the headers of pages that lie in data one behind the other and have
// that many values. There is a value in each, so there are no more pages than values.
func pagesOf(data []byte, values int64) ([]page, error) {
	var all []page
	for len(data) > 0 {
		p, err := pageOf(data)
		if err == nil && p.kind == dataPage {
			if values -= p.values; p.values < 1 || values < 0 {
				err = errors.New("has no values, or more than are said")
			}
		}
		if err == nil && p.kind == dictionaryPage && len(all) > 0 {
			err = errors.New("is a dictionary behind other pages")
		}
		if err != nil {
			return nil, fmt.Errorf("page %d: %w", len(all), err)
		}
		all = append(all, p)
		data = data[p.size:]
	}
	if values > 0 {
		return nil, fmt.Errorf("its pages have %d values less than are said", values)
	}
	return all, nil
}

// Fields of the structs that a page header has, by number, with their types.
var (
	headerFields     = map[int64]byte{1: thriftInt32, 2: thriftInt32, 3: thriftInt32, 4: thriftInt32, 5: thriftStruct, 7: thriftStruct}
	dataFields       = map[int64]byte{1: thriftInt32, 2: thriftInt32, 3: thriftInt32, 4: thriftInt32, 5: thriftStruct}
	dictionaryFields = map[int64]byte{1: thriftInt32, 2: thriftInt32, 3: thriftTrue}
	statisticsFields = map[int64]byte{1: thriftBinary, 2: thriftBinary, 3: thriftInt64, 4: thriftInt64, 5: thriftBinary, 6: thriftBinary, 7: thriftTrue, 8: thriftTrue, 9: thriftInt64}
)

func pageOf(data []byte) (page, error) {
	rest := thrift(data)
	header, err := rest.fields(0)
	if err == nil {
		err = header.only(headerFields)
	}
	if err != nil {
		return page{}, err
	}
	p := page{kind: header[1].number}
	stored := header[3].number
	if stored < 0 || stored > int64(len(rest)) {
		return page{}, fmt.Errorf("has %d bytes, its column has %d left", stored, len(rest))
	}
	p.size = int64(len(data)-len(rest)) + stored
	return p, p.of(header)
}

// of reads the part of a header that is for one kind of page.
func (p *page) of(header fields) error {
	h, known := header[5].fields, dataFields
	switch p.kind {
	case dataPage:
	case dictionaryPage:
		h, known = header[7].fields, dictionaryFields
	default:
		return fmt.Errorf("is of type %d", p.kind)
	}
	if err := h.only(known); err != nil {
		return err
	}
	p.values, p.encoding = h[1].number, h[2].number
	if p.kind == dictionaryPage {
		if h[3].kind == thriftTrue {
			return errors.New("says that a dictionary is sorted")
		}
		return nil
	}
	s, told := h[5]
	if !told {
		return nil
	}
	if err := s.fields.only(statisticsFields); err != nil {
		return err
	}
	return p.claim.add(thriftStatistics(s.fields))
}

// thriftStatistics are statistics as a header has them.
type thriftStatistics fields

func (s thriftStatistics) bytes(number int64) []byte { return s[number].bytes }
func (s thriftStatistics) has(number int64) bool     { _, has := s[number]; return has }

func (s thriftStatistics) GetMax() []byte             { return s.bytes(1) }
func (s thriftStatistics) GetMin() []byte             { return s.bytes(2) }
func (s thriftStatistics) IsSetNullCount() bool       { return s.has(3) }
func (s thriftStatistics) GetNullCount() int64        { return s[3].number }
func (s thriftStatistics) IsSetDistinctCount() bool   { return s.has(4) }
func (s thriftStatistics) GetMaxValue() []byte        { return s.bytes(5) }
func (s thriftStatistics) GetMinValue() []byte        { return s.bytes(6) }
func (s thriftStatistics) IsSetIsMaxValueExact() bool { return s.has(7) }
func (s thriftStatistics) GetIsMaxValueExact() bool   { return s[7].kind == thriftTrue }
func (s thriftStatistics) IsSetIsMinValueExact() bool { return s.has(8) }
func (s thriftStatistics) GetIsMinValueExact() bool   { return s[8].kind == thriftTrue }
func (s thriftStatistics) IsSetNanCount() bool        { return s.has(9) }

// Types of fields in Thrift's compact protocol, of those that page headers have.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftInt32  = 5
	thriftInt64  = 6
	thriftBinary = 8
	thriftStruct = 12
)

// field is a value in Thrift's compact protocol.
type field struct {
	kind   byte
	number int64
	bytes  []byte // not nil, of binaries
	fields fields
}

// fields is a struct: its fields by number.
type fields map[int64]field

// only refuses fields that are not known, or of another type: another reader may
// know what they mean.
func (f fields) only(known map[int64]byte) error {
	for number, v := range f {
		kind := v.kind
		if kind == thriftFalse {
			kind = thriftTrue
		}
		if want, ok := known[number]; !ok || kind != want {
			return fmt.Errorf("its header has a field %d of type %d", number, v.kind)
		}
	}
	return nil
}

// thrift is bytes in Thrift's compact protocol, of which those read are taken
// away. The library that decodes pages keeps what it reads of their headers to
// itself, or unpacks them first.
type thrift []byte

var errHeader = errors.New("its header is cut short or is none")

func (t *thrift) fields(depth int) (fields, error) {
	const deepest = 2 // statistics in the part for a kind of page
	if depth > deepest {
		return nil, errHeader
	}
	all := fields{}
	for number := int64(0); ; {
		head, err := t.take(1)
		if err != nil || head[0] == 0 {
			return all, err
		}
		if step := head[0] >> 4; step > 0 {
			number += int64(step)
		} else if number, err = t.int(math.MinInt16, math.MaxInt16); err != nil {
			return nil, err
		}
		v, err := t.field(head[0]&15, depth)
		if err != nil {
			return nil, err
		}
		if _, twice := all[number]; twice {
			return nil, fmt.Errorf("its header has field %d twice", number)
		}
		all[number] = v
	}
}

func (t *thrift) field(kind byte, depth int) (v field, err error) {
	v.kind = kind
	switch kind {
	case thriftTrue, thriftFalse:
	case thriftInt32:
		v.number, err = t.int(math.MinInt32, math.MaxInt32)
	case thriftInt64:
		v.number, err = t.int(math.MinInt64, math.MaxInt64)
	case thriftBinary:
		var size uint64
		if size, err = t.uint(); err == nil {
			v.bytes, err = t.take(size)
		}
	case thriftStruct:
		v.fields, err = t.fields(depth + 1)
	default:
		err = fmt.Errorf("its header has a field of type %d", kind)
	}
	return v, err
}

func (t *thrift) take(n uint64) ([]byte, error) {
	if n > uint64(len(*t)) {
		return nil, errHeader
	}
	taken := (*t)[:n:n]
	*t = (*t)[n:]
	return taken, nil
}

func (t *thrift) uint() (uint64, error) {
	v, n := binary.Uvarint(*t)
	if n <= 0 {
		return 0, errHeader
	}
	*t = (*t)[n:]
	return v, nil
}

func (t *thrift) int(least, most int64) (int64, error) {
	u, err := t.uint()
	v := int64(u>>1) ^ -int64(u&1)
	if err == nil && (v < least || v > most) {
		err = errHeader
	}
	return v, err
}
