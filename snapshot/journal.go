package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"

	"github.com/otsnap/otsnap/manifest"
)

// Journal remembers how far a restore has come, so that it can be resumed after a
// crash: in a file, or in the archive. A step that is not in the journal is done
// again, which changes nothing. One process at a time may have a journal open.
type Journal struct {
	mu      sync.Mutex
	log     journalLog
	failed  error // of the first write that did not succeed; none is tried after it
	head    JournalHead
	resumed bool
	entries int // lines after the head
	plan    manifest.Hash
	tables  map[string]*tableState
}

// journalLog is where the lines of a journal are kept.
type journalLog interface {
	// write keeps a line. One that can wait may be lost in a crash, until one is
	// written that cannot.
	write(ctx context.Context, line []byte, canWait bool) error
	// close keeps what waits.
	close(ctx context.Context) error
	// end is close for a restore that is done or has done nothing.
	end(ctx context.Context) error
}

// tableState is what a journal says of a table.
type tableState struct {
	intended   bool            // it was about to be made
	created    bool            // the restore has made it
	opened     *manifest.Table // it was there, and was this before the restore changed its options
	chunks     map[string]progressed
	compared   bool
	configured bool
	indexes    map[string]bool // that were made
	rows       int64           // counted when it was compared
	left       int64           // on lists, when it was compared
}

// progressed is what became of the rows of a chunk.
type progressed struct{ decoded, acknowledged, kept, left int64 }

// JournalHead says which restore a journal is of.
type JournalHead struct {
	Archive  manifest.Hash     `json:"archive"`
	Snapshot string            `json:"snapshot"`
	Instance manifest.Instance `json:"instance"` // the target
	Tables   []string          `json:"tables"`   // as signed
	Targets  []string          `json:"targets"`  // their names in the target
}

// step is what a line after the head tells of a table.
type step string

const (
	stepPlan      step = "plan"      // goes by this plan
	stepIntend    step = "intend"    // about to make it
	stepCreate    step = "create"    // made it
	stepOpen      step = "open"      // about to write to one that was there
	stepChunk     step = "chunk"     // every row of an object was acknowledged
	stepCompare   step = "compare"   // found it equal
	stepConfigure step = "configure" // about to give it its options
	stepIndex     step = "index"     // made an index
	stepForget    step = "forget"    // it is not there, or not ours: what was said of it is void
	stepEnd       step = "end"       // the restore is done
)

// entry is one line after the head.
type entry struct {
	Table  string          `json:"table,omitempty"` // as signed
	Step   step            `json:"step"`
	Object string          `json:"object,omitempty"` // a chunk's name, or an index's
	Rows   int64           `json:"rows,omitempty"`
	Kept   int64           `json:"kept,omitempty"`
	Read   int64           `json:"read,omitempty"` // rows decoded
	Left   int64           `json:"left,omitempty"` // rows on lists
	Live   *manifest.Table `json:"live,omitempty"`
	Plan   manifest.Hash   `json:"plan,omitzero"`
}

// take takes up the lines an earlier run wrote, the head first.
func (j *Journal) take(lines []byte, head JournalHead) error {
	scanner := bufio.NewScanner(bytes.NewReader(lines))
	scanner.Buffer(nil, 16<<20)
	for n := 1; scanner.Scan(); n++ {
		if !j.resumed {
			var was JournalHead
			if err := json.Unmarshal(scanner.Bytes(), &was); err != nil {
				return fmt.Errorf("line %d is no head: %w", n, err)
			}
			if !reflect.DeepEqual(was, head) {
				return fmt.Errorf("it is of snapshot %s into instance %s, tables %s; remove it, or name another state",
					was.Snapshot, was.Instance.Name, enumerate(was.Targets, 10))
			}
			j.resumed = true
			continue
		}
		var e entry
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		j.remember(e)
	}
	return scanner.Err()
}

func (j *Journal) remember(e entry) {
	switch e.Step {
	case stepPlan:
		j.plan = e.Plan
		return
	case stepForget:
		j.entries++
		delete(j.tables, e.Table)
		return
	case stepEnd:
		j.resumed, j.entries, j.plan = false, 0, manifest.Hash{}
		clear(j.tables)
		return
	}
	j.entries++
	t := j.tables[e.Table]
	if t == nil {
		t = &tableState{chunks: map[string]progressed{}, indexes: map[string]bool{}}
		j.tables[e.Table] = t
	}
	switch e.Step {
	case stepIntend:
		t.intended = true
	case stepCreate:
		t.created = true
	case stepOpen:
		t.opened = e.Live
	case stepChunk:
		t.chunks[e.Object] = progressed{e.Read, e.Rows, e.Kept, e.Left}
	case stepCompare:
		t.compared, t.rows, t.left = true, e.Rows, e.Left
	case stepConfigure:
		t.configured = true
	case stepIndex:
		t.indexes[e.Object] = true
	}
}

// record keeps e. A nil journal remembers nothing.
func (j *Journal) record(ctx context.Context, e entry) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed == nil {
		j.failed = j.write(ctx, e, e.Step == stepChunk)
	}
	if j.failed != nil {
		return fmt.Errorf("snapshot: journal: %w", j.failed)
	}
	j.remember(e)
	return nil
}

func (j *Journal) write(ctx context.Context, line any, canWait bool) error {
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	return j.log.write(ctx, append(data, '\n'), canWait)
}

// table returns what the journal says of a table; of one it does not know, and
// where there is no journal, nothing.
func (j *Journal) table(name string) tableState {
	if j == nil {
		return tableState{}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if t := j.tables[name]; t != nil {
		return *t
	}
	return tableState{}
}

// written returns what became of the rows of an object, if all were written.
func (j *Journal) written(table, object string) (rows progressed, ok bool) {
	if j == nil {
		return progressed{}, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if t := j.tables[table]; t != nil {
		rows, ok = t.chunks[object]
	}
	return rows, ok
}

// distrust forgets that chunks of a table were written. The lines stay: who
// resumes later finds out again.
func (j *Journal) distrust(table string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if t := j.tables[table]; t != nil {
		clear(t.chunks)
	}
}

// Resumed reports whether the journal is that of an earlier run that did not end.
func (j *Journal) Resumed() bool { return j != nil && j.resumed }

// Empty reports whether the restore has not begun to change a table.
func (j *Journal) Empty() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.entries == 0
}

// Made returns the tables, as they are called in the target, that the restore has
// made or was about to make.
func (j *Journal) Made() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var names []string
	for i, name := range j.head.Tables {
		if t := j.tables[name]; t != nil && t.intended && i < len(j.head.Targets) {
			names = append(names, j.head.Targets[i])
		}
	}
	return names
}

// Close keeps the journal for who resumes.
func (j *Journal) Close(ctx context.Context) error { return j.log.close(ctx) }

// End ends the journal of a restore that is done, or that changed nothing: there
// is nothing to resume.
func (j *Journal) End(ctx context.Context) error { return j.log.end(ctx) }
