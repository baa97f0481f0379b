package tablestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// The messages that carry rows are read and written by hand: the generated code
// copies what they carry.

const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

var errProtobuf = errors.New("malformed protobuf")

// field is one field of a message: its value if it is a varint, its data if it
// has a length.
type field struct {
	number, wire int
	value        uint64
	data         []byte
}

// nextField cuts the first field off a message. Its data aliases the message.
func nextField(message []byte) (f field, rest []byte, err error) {
	tag, n := binary.Uvarint(message)
	if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return field{}, nil, errProtobuf
	}
	f, rest = field{number: int(tag >> 3), wire: int(tag & 7)}, message[n:]
	switch f.wire {
	case wireVarint:
		if f.value, n = binary.Uvarint(rest); n <= 0 {
			return field{}, nil, errProtobuf
		}
		return f, rest[n:], nil
	case wireBytes:
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return field{}, nil, errProtobuf
		}
		rest = rest[n:]
		f.data = rest[:size:size]
		return f, rest[size:], nil
	case wireFixed64, wireFixed32:
		size := 8
		if f.wire == wireFixed32 {
			size = 4
		}
		if len(rest) < size {
			return field{}, nil, errProtobuf
		}
		return f, rest[size:], nil
	}
	return field{}, nil, errProtobuf
}

// parseRange reads a GetRangeResponse: the rows in PlainBuffer with its header,
// empty if there are none, and the key the next page starts at, empty after the
// last. Both alias the answer.
func parseRange(answer []byte) (rows, next []byte, err error) {
	seen := false
	for len(answer) > 0 {
		var f field
		if f, answer, err = nextField(answer); err != nil {
			return nil, nil, err
		}
		switch {
		case f.number == 2 && f.wire == wireBytes:
			rows, seen = f.data, true
		case f.number == 3 && f.wire == wireBytes:
			next = f.data
		case f.number == 5 && f.value != uint64(otsprotocol.DataBlockType_DBT_PLAIN_BUFFER),
			f.number == 6 && f.value != uint64(otsprotocol.CompressType_CPT_NONE):
			return nil, nil, fmt.Errorf("the rows come in form %d.%d, which was not asked for", f.number, f.value)
		}
	}
	if !seen {
		return nil, nil, errors.New("no field of rows")
	}
	return rows, next, nil
}

// rowResult is what became of one row of a BatchWriteRow.
type rowResult struct {
	ok            bool
	code, message string
	row           []byte  // in PlainBuffer, what was to be returned of it; part of the answer
	read, write   float64 // capacity units
}

// parseResults reads a BatchWriteRowResponse that must be about the given number
// of rows of one table.
func parseResults(answer []byte, rows int) ([]rowResult, error) {
	results := make([]rowResult, 0, rows)
	tables := 0
	var before []byte
	err := eachMessage(answer, 1, func(table []byte) error {
		tables++
		return eachMessage(table, 2, func(row []byte) error {
			// Nearly always the same became of a row as of the one before.
			if before != nil && bytes.Equal(row, before) {
				results = append(results, results[len(results)-1])
				return nil
			}
			r, err := parseResult(row)
			results, before = append(results, r), row
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if tables != 1 || len(results) != rows {
		return nil, fmt.Errorf("it is about %d tables and %d rows, not one and %d", tables, len(results), rows)
	}
	return results, nil
}

func parseResult(row []byte) (r rowResult, err error) {
	for len(row) > 0 {
		var f field
		if f, row, err = nextField(row); err != nil {
			return rowResult{}, err
		}
		switch {
		case f.number == 1 && f.wire == wireVarint:
			r.ok = f.value != 0
		case f.number == 2 && f.wire == wireBytes:
			said := new(otsprotocol.Error)
			if err := proto.Unmarshal(f.data, said); err != nil {
				return rowResult{}, err
			}
			r.code, r.message = said.GetCode(), said.GetMessage()
		case f.number == 4 && f.wire == wireBytes:
			r.row = f.data
		case f.number == 3 && f.wire == wireBytes:
			r.read, r.write = consumed(f.data)
		}
	}
	return r, nil
}

// eachMessage calls f for every message in a repeated field.
func eachMessage(message []byte, number int, f func([]byte) error) error {
	for len(message) > 0 {
		next, rest, err := nextField(message)
		if err != nil {
			return err
		}
		message = rest
		if next.number != number || next.wire != wireBytes {
			continue
		}
		if err := f(next.data); err != nil {
			return err
		}
	}
	return nil
}

// appendBytes appends a field with a length.
func appendBytes(dst []byte, number int, data []byte) []byte {
	dst = appendSize(dst, number, len(data))
	return append(dst, data...)
}

// appendSize appends what comes before the data of a field with a length.
func appendSize(dst []byte, number, size int) []byte {
	dst = binary.AppendUvarint(dst, uint64(number)<<3|wireBytes)
	return binary.AppendUvarint(dst, uint64(size))
}

// sizeOfBytes returns how many bytes appendSize appends, for a field numbered
// below 16.
func sizeOfBytes(size int) int {
	n := 2
	for ; size >= 0x80; size >>= 7 {
		n++
	}
	return n
}
