// Package row is the form of a row, twice: as the bytes a row digest is made
// of, which are those of Tablestore's PlainBuffer, and as columns in Arrow,
// which is what chunks store. It turns either into the other without loss, and
// names keys by bytes that sort as the table does.
package row

import (
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
