package snapshot

import (
	"context"
	"errors"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// ErrUnavailable is wrapped by errors of a Source or a Sink that say nothing
// about data: the service could not be reached, refused the credentials, or
// kept refusing for longer than the caller was willing to wait.
var ErrUnavailable = errors.New("service unavailable")

// Source is an instance rows are read from. Its methods may be called
// concurrently.
type Source interface {
	// Instance names the instance, without credentials.
	Instance() manifest.Instance

	// Tables returns the names of the tables whose rows can be read, sorted. The
	// tables behind secondary indexes are not among them.
	Tables(ctx context.Context) ([]string, error)

	// Describe returns all the instance tells of a table, with Columns nil. A
	// table that does not exist is fs.ErrNotExist.
	Describe(ctx context.Context, table string) (manifest.Table, error)

	// Split returns keys that cut the table into ranges of about size bytes,
	// ascending: none for a small table.
	Split(ctx context.Context, table manifest.Table, size int64) ([]manifest.Key, error)

	// Scan yields the rows of a range in key order with every version of every
	// cell. Where a batch ends depends on the rows alone, never on how the
	// service cut its responses. No batch is empty. The first error is the last
	// element.
	Scan(ctx context.Context, scan Scan) iter.Seq2[row.Batch, error]
}

// Scan asks for the rows from From (inclusive) to To (exclusive).
type Scan struct {
	Table    manifest.Table
	Layout   row.Layout
	From, To manifest.Key // of whole values, of all columns or fewer: see [row.Whole]; empty: no bound
	Rows     int64        // a batch ends after the row that makes it this long; 0: no such limit
	Bytes    int64        // likewise in PlainBuffer bytes; 0: no such limit
	Limit    int64        // rows in all; 0: no limit

	// Digest says that of the rows only hashes and sizes are wanted: batches may
	// come without their records, which takes less time and no memory.
	Digest bool
}

// Sink is an instance rows are written to. Tables are named and described as they
// are to be there. Its methods may be called concurrently for different tables,
// Write and Delete also for one.
type Sink interface {
	// Instance names the instance, without credentials.
	Instance() manifest.Instance

	// Create makes the table with its primary key, predefined columns and
	// encryption, and with options under which every version of every cell can be
	// written: no TTL, no limit of versions, no index, no stream. It returns when
	// the table takes writes. A table that exists is fs.ErrExist.
	Create(ctx context.Context, table manifest.Table) error

	// Write puts the rows of the record with their versions. Unless the service
	// chooses keys, writing the same rows again changes nothing.
	Write(ctx context.Context, write Write) (Written, error)

	// Delete removes the rows that have these keys; one that is not there is not
	// missed.
	Delete(ctx context.Context, table manifest.Table, keys []manifest.Key) error

	// Configure gives the table the options, the stream and the reserved throughput
	// it is described with.
	Configure(ctx context.Context, table manifest.Table) error

	// CreateIndex makes a secondary index of the rows that are there, and returns
	// when it holds them. One that exists as described is waited for; one that
	// exists otherwise is fs.ErrExist.
	CreateIndex(ctx context.Context, table manifest.Table, index manifest.Index) error

	// CreateSearchIndex makes a search index likewise.
	CreateSearchIndex(ctx context.Context, table manifest.Table, index manifest.SearchIndex) error
}

// Write is some rows for a table, in key order.
type Write struct {
	Table  manifest.Table
	Layout row.Layout
	Record arrow.RecordBatch

	// Insert leaves rows alone that exist.
	Insert bool

	// Generate has the service choose the values of the AUTO_INCREMENT column, row
	// after row in the order of the record, so that of two rows that agree in the key
	// columns before it the later one has the larger value. Of others nothing is
	// promised. An error that may have left rows behind wraps ErrUnsure, and what may
	// be there was not written again.
	Generate bool
}

// Written says what became of the rows of a Write.
type Written struct {
	Rows int64 // acknowledged by the service
	Kept int64 // were there already, and left alone
}

// ErrUnsure is wrapped when rows may have been written and may not have been.
var ErrUnsure = errors.New("not known whether rows were written")
