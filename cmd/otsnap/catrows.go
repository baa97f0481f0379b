package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// rowPrinter writes rows in one of the formats of cat.
type rowPrinter interface {
	begin() error // before the first row
	row(r *row.Row) error
}

// jsonRows writes a row a line.
type jsonRows struct {
	w      io.Writer
	chosen *cellChoice
	all    bool // versions
	key    []manifest.KeyColumn
	line   []byte
}

func newJSONRows(w io.Writer, t manifest.Table, chosen *cellChoice, all bool) *jsonRows {
	return &jsonRows{w: w, chosen: chosen, all: all, key: t.Key}
}

func (j *jsonRows) begin() error { return nil }

func (j *jsonRows) row(r *row.Row) error {
	line := appendKeyObject(append(j.line[:0], `{"key":`...), j.key, r.Key)
	line, err := appendCells(append(line, `,"cells":`...), r.Cells, j.all, j.chosen.takes)
	if err != nil {
		return err
	}
	j.line = append(line, '}', '\n')
	_, err = j.w.Write(j.line)
	return err
}

// appendKeyObject appends the key as an object.
func appendKeyObject(dst []byte, columns []manifest.KeyColumn, key []row.Value) []byte {
	dst = append(dst, '{')
	for i, v := range key {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = v.AppendJSON(append(row.AppendJSONString(dst, columns[i].Name), ':'))
	}
	return append(dst, '}')
}

// appendCells appends the chosen cells as an object.
func appendCells(dst []byte, cells []row.Cell, all bool, takes func(name string) bool) ([]byte, error) {
	dst = append(dst, '{')
	empty := true
	for name, versions := range attributes(cells) {
		if !takes(name) {
			continue
		}
		if !utf8.ValidString(name) {
			return nil, fmt.Errorf("the cell name %q is not UTF-8, and JSON cannot say it; leave it out with --columns, or print --format csv --versions all", name)
		}
		if !empty {
			dst = append(dst, ',')
		}
		empty = false
		dst = append(row.AppendJSONString(dst, name), ':')
		if !all {
			dst = versions[0].Value.AppendJSON(dst)
			continue
		}
		for i, c := range versions {
			dst = fmt.Appendf(dst, `%c{"ts":%d,"value":`, "[,"[min(i, 1)], c.Version)
			dst = append(c.Value.AppendJSON(dst), '}')
		}
		dst = append(dst, ']')
	}
	return append(dst, '}'), nil
}

// attributes yields the versions of each attribute, newest first.
func attributes(cells []row.Cell) func(yield func(string, []row.Cell) bool) {
	return func(yield func(string, []row.Cell) bool) {
		for i := 0; i < len(cells); {
			end := i + 1
			for end < len(cells) && cells[end].Name == cells[i].Name {
				end++
			}
			if !yield(cells[i].Name, cells[i:end]) {
				return
			}
			i = end
		}
	}
}

// csvLines writes lines of CSV, field by field.
type csvLines struct {
	w     io.Writer
	line  []byte
	field []byte // room for one
}

// absent adds a field without a value.
func (l *csvLines) absent() { l.line = append(l.line, ',') }

// add adds a field. One that is empty is quoted, to differ from an absent one.
func (l *csvLines) add(field []byte) {
	plain := len(field) > 0 && !bytes.ContainsAny(field, ",\"\r\n") && field[0] != ' ' && field[len(field)-1] != ' '
	if plain {
		l.line = append(append(l.line, field...), ',')
		return
	}
	l.line = append(l.line, '"')
	for _, c := range field {
		if c == '"' {
			l.line = append(l.line, '"')
		}
		l.line = append(l.line, c)
	}
	l.line = append(l.line, '"', ',')
}

func (l *csvLines) addString(s string) { l.add([]byte(s)) }

func (l *csvLines) addValue(v row.Value) {
	l.field = v.AppendText(l.field[:0])
	l.add(l.field)
}

// end ends the line.
func (l *csvLines) end() error {
	l.line[len(l.line)-1] = '\n'
	_, err := l.w.Write(l.line)
	l.line = l.line[:0]
	return err
}

// csvRows writes a row a line, with a column an attribute.
type csvRows struct {
	lines   csvLines
	table   manifest.Table
	chosen  *cellChoice
	columns []manifest.Column // without a type where any is taken
	number  map[string]int    // of a column
	more    bool              // whether there is a last one for what is left

	values []*row.Value // of the row, by column
	left   []row.Cell
}

func newCSVRows(w io.Writer, t manifest.Table, chosen *cellChoice) *csvRows {
	c := &csvRows{lines: csvLines{w: w}, table: t, chosen: chosen, number: map[string]int{}, more: !chosen.exact()}
	if c.more { // else there is no other place for a value, whatever its type
		for _, column := range t.Columns {
			if chosen.takes(column.Name) {
				c.add(column)
			}
		}
	}
	for _, name := range chosen.globs {
		key := slices.ContainsFunc(t.Key, func(k manifest.KeyColumn) bool { return k.Name == name })
		if !key && !isGlob(name) {
			c.add(manifest.Column{Name: name})
		}
	}
	c.values = make([]*row.Value, len(c.columns))
	return c
}

// add adds a column, unless there is one of that name.
func (c *csvRows) add(column manifest.Column) {
	if _, has := c.number[column.Name]; !has {
		c.number[column.Name] = len(c.columns)
		c.columns = append(c.columns, column)
	}
}

func (c *csvRows) begin() error {
	for _, k := range c.table.Key {
		c.lines.addString(k.Name)
	}
	for _, column := range c.columns {
		c.lines.addString(column.Name)
	}
	if c.more {
		c.lines.addString(row.MoreColumn)
	}
	return c.lines.end()
}

func (c *csvRows) row(r *row.Row) error {
	for _, v := range r.Key {
		c.lines.addValue(v)
	}
	clear(c.values)
	c.left = c.left[:0]
	for name, versions := range attributes(r.Cells) {
		if !c.chosen.takes(name) {
			continue
		}
		newest := &versions[0]
		i, has := c.number[name]
		switch {
		case has && (c.columns[i].Type == "" || c.columns[i].Type == newest.Value.Type()):
			c.values[i] = &newest.Value
		case c.more:
			c.left = append(c.left, *newest)
		}
	}
	for _, v := range c.values {
		if v == nil {
			c.lines.absent()
			continue
		}
		c.lines.addValue(*v)
	}
	if c.more {
		if err := c.addLeft(); err != nil {
			return err
		}
	}
	return c.lines.end()
}

func (c *csvRows) addLeft() error {
	left, err := appendCells(nil, c.left, false, c.chosen.takes)
	if err != nil {
		return err
	}
	if len(left) == len("{}") {
		c.lines.absent()
		return nil
	}
	c.lines.add(left)
	return nil
}

// csvCells writes a version of a cell a line, and a row without cells too.
type csvCells struct {
	csvLines
	table  manifest.Table
	chosen *cellChoice
}

func (c *csvCells) begin() error {
	for _, k := range c.table.Key {
		c.addString(k.Name)
	}
	for _, name := range strings.Fields("name ts type value") {
		c.addString(name)
	}
	return c.end()
}

func (c *csvCells) row(r *row.Row) error {
	bare := true
	for _, cell := range r.Cells {
		if !c.chosen.takes(cell.Name) {
			continue
		}
		bare = false
		c.key(r)
		c.addString(cell.Name)
		c.addString(fmt.Sprint(cell.Version))
		c.addString(string(cell.Value.Type()))
		c.addValue(cell.Value)
		if err := c.end(); err != nil {
			return err
		}
	}
	if !bare {
		return nil
	}
	c.key(r)
	for range strings.Fields("name ts type value") {
		c.absent()
	}
	return c.end()
}

func (c *csvCells) key(r *row.Row) {
	for _, v := range r.Key {
		c.addValue(v)
	}
}
