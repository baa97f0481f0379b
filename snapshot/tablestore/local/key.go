package local

import (
	"bytes"
	"encoding/binary"
)

// Keys of the Pebble database. A table's rows lie together in the order of
// their primary keys, and so do an index's; ids are never used twice, so the
// rows of a dropped table cannot come back in a new one.
//
//	'i'                     the next id of a table or index, 8 bytes
//	'a'                     above every AUTO_INCREMENT value given out, 8 bytes
//	't' instance 00 table   a table's definition and its indexes', JSON
//	'r' id(8) primary key   a row, see stored
//	's' id(8) shard(8) seq(8)
//	                        a record of the table's stream, a StreamRecord
//	'T' instance 00 table   a timeseries table's definition, JSON
//	'm' id(8) identifiers   the metadata of a series, a TimeseriesMeta
//	'p' id(8) identifiers time(8) fields
//	                        a row of a series, PlainBuffer
const (
	prefixNextID    = 'i'
	prefixIncrement = 'a'
	prefixTable     = 't'
	prefixRow       = 'r'
	prefixRecord    = 's'

	prefixSeriesTable = 'T'
	prefixSeries      = 'm'
	prefixPoint       = 'p'
)

func tableKey(instance, table string) []byte {
	key := append([]byte{prefixTable}, instance...)
	key = append(key, 0)
	return append(key, table...)
}

// rowsPrefix is what the keys of a table's rows begin with.
func rowsPrefix(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixRow}, id)
}

// rowsPrefixLen is where in the key of a row its primary key begins.
const rowsPrefixLen = 1 + 8

// successor returns the smallest key after all that begin with prefix. Every
// key here begins with a letter, so there is one.
func successor(prefix []byte) []byte {
	next := bytes.Clone(prefix)
	for i := len(next) - 1; ; i-- {
		if next[i]++; next[i] != 0 {
			return next[:i+1]
		}
	}
}

// appendKeyValue appends one column of a primary key so that bytes.Compare
// orders keys as the service does. No encoding is a prefix of another: an
// integer has a fixed length, and strings end with 00 00, a zero inside being
// written 00 FF.
func appendKeyValue(dst []byte, v value) []byte {
	if v[0] == typeInteger {
		return binary.BigEndian.AppendUint64(dst, uint64(v.integer())^1<<63)
	}
	b := v.bytes()
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			break
		}
		dst = append(append(dst, b[:i]...), 0, 0xFF)
		b = b[i+1:]
	}
	return append(append(dst, b...), 0, 0)
}

// matchKey checks the cells of a primary key against the schema: as many, with
// the same names, of the same types. A cell that is no value of its column is
// allowed where special says so.
func (d *definition) matchKey(cells []cell, special func(column int, t byte) bool) error {
	if len(cells) != len(d.Key) {
		return invalidKey("Validate PK size fail. Input: %d, Meta: %d.", len(cells), len(d.Key))
	}
	for i := range cells {
		c, column := &cells[i], &d.Key[i]
		if string(c.name) != column.Name {
			return invalidKey("Validate PK name fail. Input: %s, Meta: %s.", c.name, column.Name)
		}
		if t := c.value[0]; t != column.Type && !special(i, t) {
			return invalidKey("Validate PK type fail. Input: %s, Meta: %s.", typeName(t), typeName(column.Type))
		}
	}
	return nil
}

// rowKey returns the key of the row a request names with a whole primary key.
func (d *definition) rowKey(cells []cell) ([]byte, error) {
	if err := d.matchKey(cells, func(int, byte) bool { return false }); err != nil {
		return nil, err
	}
	key := rowsPrefix(d.ID)
	for i := range cells {
		key = appendKeyValue(key, cells[i].value)
	}
	return key, nil
}

// position is a place between keys. A bound of a range that names a row stands
// right before it, or right after it when a backward range begins or ends there.
type position []byte

// bound returns the position a range's bound stands for. What follows the first
// INF_MIN or INF_MAX has no meaning.
func (d *definition) bound(cells []cell, after bool) (position, error) {
	infinite := func(_ int, t byte) bool { return t == typeInfMin || t == typeInfMax }
	if err := d.matchKey(cells, infinite); err != nil {
		return nil, err
	}
	key := rowsPrefix(d.ID)
	for i := range cells {
		switch cells[i].value[0] {
		case typeInfMin:
			return key, nil
		case typeInfMax:
			return successor(key), nil
		}
		key = appendKeyValue(key, cells[i].value)
	}
	if after {
		key = append(key, 0)
	}
	return key, nil
}
