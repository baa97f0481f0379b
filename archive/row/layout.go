// Package row is the form of a row, twice: as the bytes a row digest is made
// of, which are those of Tablestore's PlainBuffer, and as columns in Arrow,
// which is what chunks store. It turns either into the other without loss, and
// names keys by bytes that sort as the table does.
package row

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/otsnap/otsnap/manifest"
)

// Names of the columns every chunk has beside those of its table.
const (
	VersionColumn  = "__ts"   // BIGINT: the version most of the row's newest cells carry; null for a row without attributes
	VersionsColumn = "__tsx"  // LIST<STRUCT<name, ts>>: newest cells of promoted columns with another version
	MoreColumn     = "__more" // LIST<STRUCT<name, ts, i, d, b, s, x>>: every other cell, by name, newest first
)

// Layout is the columns of a table's rows: its primary key, and the attributes
// that have a column of their own.
type Layout struct {
	Key     []manifest.KeyColumn
	Columns []manifest.Column // by name in byte order
}

// Batch is a run of rows in key order.
type Batch struct {
	Record arrow.RecordBatch
	// Leaves are the RFC 6962 leaf hashes of the rows in PlainBuffer, one a row.
	// They are nil where nobody has computed them.
	Leaves []manifest.Hash
	Cells  int64 // attribute cells, every version counted
	Bytes  int64 // of the rows in PlainBuffer
}

// NewLayout returns the layout of rows with the given primary key and columns.
// Names are those Tablestore allows, and no two of them, nor one of them and a
// name of ours, may be equal when case is ignored, because SQL engines ignore
// it. Columns are in the byte order of their names.
func NewLayout(key []manifest.KeyColumn, columns []manifest.Column) (Layout, error) {
	// The service's limit is 4 primary key columns.
	if len(key) < 1 || len(key) > maxKey {
		return Layout{}, fmt.Errorf("row: layout: %d key columns, want 1 to %d", len(key), maxKey)
	}
	taken := systemNames()
	for _, c := range key {
		if err := checkColumn(taken, c.Name, c.Type, keyKinds); err != nil {
			return Layout{}, fmt.Errorf("row: layout: key column %q: %w", c.Name, err)
		}
	}
	for i, c := range columns {
		if err := checkColumn(taken, c.Name, c.Type, cellKinds); err != nil {
			return Layout{}, fmt.Errorf("row: layout: column %q: %w", c.Name, err)
		}
		if i > 0 && columns[i-1].Name > c.Name {
			return Layout{}, fmt.Errorf("row: layout: column %q stands after %q, want byte order", c.Name, columns[i-1].Name)
		}
	}
	return Layout{Key: slices.Clone(key), Columns: slices.Clone(columns)}, nil
}

// Schema returns the Arrow schema of rows in the layout: the key columns, the
// promoted columns, and the three columns every chunk has.
func (l Layout) Schema() *arrow.Schema {
	fields := make([]arrow.Field, 0, len(l.Key)+len(l.Columns)+3)
	for _, c := range l.Key {
		fields = append(fields, arrow.Field{Name: c.Name, Type: arrowType(c.Type)})
	}
	for _, c := range l.Columns {
		fields = append(fields, arrow.Field{Name: c.Name, Type: arrowType(c.Type), Nullable: true})
	}
	fields = append(fields,
		arrow.Field{Name: VersionColumn, Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: VersionsColumn, Type: listOf(versionFields())},
		arrow.Field{Name: MoreColumn, Type: listOf(moreFields())},
	)
	return arrow.NewSchema(fields, nil)
}

const (
	maxKey  = 4   // primary key columns, the service's limit
	maxName = 255 // bytes of a column name, the service's limit
)

// systemNames returns the folded names no column of a table may have.
func systemNames() map[string]bool {
	return map[string]bool{VersionColumn: true, VersionsColumn: true, MoreColumn: true}
}

// checkColumn checks a column and adds its folded name to taken.
func checkColumn(taken map[string]bool, name string, t manifest.Type, allowed []kind) error {
	if !validName(name) {
		return fmt.Errorf("the name is not 1 to %d letters, digits and underscores with a letter or underscore first", maxName)
	}
	if k, ok := kindOf(t); !ok || !slices.Contains(allowed, k) {
		return fmt.Errorf("type %q is not possible", t)
	}
	folded := strings.ToLower(name)
	if taken[folded] {
		return fmt.Errorf("the name is taken when case is ignored")
	}
	taken[folded] = true
	return nil
}

func validName(name string) bool {
	if name == "" || len(name) > maxName || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// listOf returns the type of a list of structs, neither of them ever null.
func listOf(fields []arrow.Field) *arrow.ListType {
	return arrow.ListOfField(arrow.Field{Name: "element", Type: arrow.StructOf(fields...)})
}

// versionFields are the fields of an entry of the column __tsx.
func versionFields() []arrow.Field {
	return []arrow.Field{
		{Name: "name", Type: arrow.BinaryTypes.String},
		{Name: "ts", Type: arrow.PrimitiveTypes.Int64},
	}
}

// moreFields are the fields of an entry of the column __more. Exactly one of the
// fields after the first two is set: the one for the type of the cell's value.
func moreFields() []arrow.Field {
	fields := versionFields()
	for i, k := range cellKinds {
		name := string("idbsx"[i])
		fields = append(fields, arrow.Field{Name: name, Type: arrowType(k.typ()), Nullable: true})
	}
	return fields
}

func arrowType(t manifest.Type) arrow.DataType {
	switch t {
	case manifest.Integer:
		return arrow.PrimitiveTypes.Int64
	case manifest.Double:
		return arrow.PrimitiveTypes.Float64
	case manifest.Boolean:
		return arrow.FixedWidthTypes.Boolean
	case manifest.String:
		return arrow.BinaryTypes.String
	default:
		return arrow.BinaryTypes.Binary
	}
}
