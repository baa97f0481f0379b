package local

import (
	"bytes"
	"errors"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// entry is what an index holds of a row of its table.
type entry struct {
	key   []byte // in the database
	row   row
	since int64 // version of the oldest column in the key, math.MaxInt64 for none
}

// entry returns what an index, whose table t is, holds of a row. It holds nothing
// of one that lacks an indexed column, or has a value in it that is not of the
// predefined type or is too long for a primary key.
func (t *definition) entry(key, cells []cell) (e entry, ok bool) {
	e = entry{key: rowsPrefix(t.ID), since: math.MaxInt64}
	for i := range t.Key {
		c, ok := t.entryKey(&t.Key[i], key, cells)
		if !ok {
			return entry{}, false
		}
		if c.hasVersion {
			e.since = min(e.since, c.version)
			c = makeCell(c.name, c.value, 0, false)
		}
		e.key = appendKeyValue(e.key, c.value)
		e.row.key = append(e.row.key, c)
	}
	for i := range t.Columns {
		if c := newest(cells, t.Columns[i].Name); c != nil && c.value[0] == valueType(t.Columns[i].Type) {
			e.row.cells = append(e.row.cells, *c)
		}
	}
	slices.SortFunc(e.row.cells, compareCells)
	return e, true
}

// entryKey finds the value of a column of an index's key.
func (t *definition) entryKey(column *keyColumn, key, cells []cell) (cell, bool) {
	for i := range key {
		if string(key[i].name) == column.Name {
			return key[i], true
		}
	}
	c := newest(cells, column.Name)
	if c == nil || c.value[0] != column.Type || tooLongForKey(c.value) {
		return cell{}, false
	}
	return *c, true
}

// newest returns the newest cell of a column among ordered cells, nil for none.
func newest(cells []cell, name string) *cell {
	i := slices.IndexFunc(cells, func(c cell) bool { return string(c.name) == name })
	if i < 0 {
		return nil
	}
	return &cells[i]
}

func tooLongForKey(v value) bool {
	return (v[0] == typeString || v[0] == typeBinary) && v.size() > maxKeyValue
}

// checkIndexed refuses a cell that the indexes of the table cannot follow.
func (d *definition) checkIndexed(c *cell) error {
	if len(d.indexTables) == 0 || c.op != opNone {
		return nil
	}
	if c.hasVersion {
		return invalid("Timestamp cannot be given for column '%s': table '%s' has a secondary index.", c.name, d.Name)
	}
	for _, t := range d.indexTables {
		if tooLongForKey(c.value) && t.isKeyColumn(string(c.name)) {
			return invalid("The length of primary key column: '%s' exceeds the MaxLength:%d with CurrentLength:%d.", c.name, maxKeyValue, c.value.size())
		}
	}
	return nil
}

// reindex puts into the batch what a change means for the indexes of its table.
func (w *writer) reindex(ch *change, cells []cell, keep bool) error {
	for _, t := range ch.table.indexTables {
		var before, after entry
		had, has := false, false
		if len(w.kept.key) > 0 {
			before, had = t.entry(w.kept.key, w.kept.cells)
		}
		if keep {
			after, has = t.entry(ch.row.key, cells)
		}
		if had && !bytes.Equal(before.key, after.key) {
			if err := w.batch.Delete(before.key, nil); err != nil {
				return err
			}
		}
		if has {
			if err := after.set(w.batch); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *entry) set(b *pebble.Batch) error {
	return b.Set(e.key, appendStored(nil, e.row.key, e.row.cells, e.since), nil)
}

// durableID returns a number for an index that rows can be written for at once:
// it stays taken when the server is killed before the index is there.
func (s *Server) durableID() (uint64, error) {
	b := s.db.NewBatch()
	defer b.Close()
	id, err := s.newID(b)
	if err != nil {
		return 0, err
	}
	return id, b.Commit(s.durable)
}

// fillBatch is how many bytes of a new index are written at a time.
const fillBatch = 4 << 20

// fill writes the rows of an index of a table that has rows.
func (s *Server) fill(d, t *definition) (err error) {
	rows := rowsPrefix(d.ID)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: rows, UpperBound: successor(rows)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b := s.db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	var r row
	for more := it.First; more(); more = it.Next {
		kept, err := parseStored(it.Value())
		if err != nil {
			return err
		}
		if _, err := parseRow(kept.wire, &r); err != nil {
			return errStored()
		}
		if e, ok := t.entry(r.key, r.cells); ok {
			if err := e.set(b); err != nil {
				return err
			}
		}
		if b.Len() < fillBatch {
			continue
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			return err
		}
		b.Reset()
	}
	return b.Commit(s.durable)
}
