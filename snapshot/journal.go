package snapshot

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync"

	"github.com/otsnap/otsnap/manifest"
)

// Journal remembers on local disk how far a restore has come, so that it can be
// resumed after a crash. Every line is on disk before the step after it begins.
// A step that is not in the journal is done again, which changes nothing. One
// process at a time may have a journal open.
type Journal struct {
	mu      sync.Mutex
	file    *os.File
	failed  error // of the first write that did not succeed; none is tried after it
	resumed bool
	entries int // lines after the head
	tables  map[string]*tableState
}

// tableState is what a journal says of a table.
type tableState struct {
	intended bool // it was about to be made
	created  bool // the restore has made it
	chunks   map[string]int64
	compared bool
	finished bool
	rows     int64 // counted when it was compared
}

// JournalHead says which restore a journal is of.
type JournalHead struct {
	Archive  manifest.Hash     `json:"archive"`
	Snapshot string            `json:"snapshot"`
	Instance manifest.Instance `json:"instance"` // the target
	Tables   []string          `json:"tables"`
}

// step is what a line after the head tells of a table.
type step string

const (
	stepIntend  step = "intend"  // about to make it
	stepCreate  step = "create"  // made it
	stepChunk   step = "chunk"   // every row of an object was acknowledged
	stepCompare step = "compare" // found it equal
	stepFinish  step = "finish"  // gave it its options
	stepForget  step = "forget"  // it is not there, or not ours: what was said of it is void
)

// entry is one line after the head.
type entry struct {
	Table  string `json:"table"`
	Step   step   `json:"step"`
	Object string `json:"object,omitempty"`
	Rows   int64  `json:"rows,omitempty"`
}

// OpenJournal begins a journal at path, or takes up the one that is there. A
// journal of another restore is an error.
func OpenJournal(path string, head JournalHead) (*Journal, error) {
	j := &Journal{tables: map[string]*tableState{}}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("snapshot: journal: %w", err)
	}
	whole, err := j.replay(old, head)
	if err != nil {
		return nil, fmt.Errorf("snapshot: journal %s: %w", path, err)
	}
	if j.file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, fmt.Errorf("snapshot: journal: %w", err)
	}
	if err := j.start(path, whole, head); err != nil {
		j.file.Close()
		return nil, fmt.Errorf("snapshot: journal: %w", err)
	}
	return j, nil
}

// replay reads what an earlier run wrote and returns the length of its whole
// lines: a line a crash cut short is as if it had never been. A file that is
// something else is left alone.
func (j *Journal) replay(old []byte, head JournalHead) (int64, error) {
	end := int64(bytes.LastIndexByte(old, '\n') + 1)
	if end == 0 {
		first, err := json.Marshal(head)
		if err == nil && !bytes.HasPrefix(first, old) {
			err = errors.New("it is no state file of a restore; name another")
		}
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(old[:end]))
	lines.Buffer(nil, 1<<20)
	for n := 0; lines.Scan(); n++ {
		if n == 0 {
			var was JournalHead
			if err := json.Unmarshal(lines.Bytes(), &was); err != nil {
				return 0, fmt.Errorf("line 1 is no head: %w", err)
			}
			if !reflect.DeepEqual(was, head) {
				return 0, fmt.Errorf("it is of snapshot %s into instance %s, tables %s; remove it, or name another state file",
					was.Snapshot, was.Instance.Name, enumerate(was.Tables, 10))
			}
			j.resumed = true
			continue
		}
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return 0, fmt.Errorf("line %d: %w", n+1, err)
		}
		j.remember(e)
	}
	return end, lines.Err()
}

func (j *Journal) remember(e entry) {
	j.entries++
	t := j.tables[e.Table]
	if t == nil {
		t = &tableState{chunks: map[string]int64{}}
		j.tables[e.Table] = t
	}
	switch e.Step {
	case stepIntend:
		t.intended = true
	case stepCreate:
		t.created = true
	case stepChunk:
		t.chunks[e.Object] = e.Rows
	case stepCompare:
		t.compared, t.rows = true, e.Rows
	case stepFinish:
		t.finished = true
	case stepForget:
		delete(j.tables, e.Table)
	}
}

// start drops a torn line, writes the head of a new journal, and makes both the
// file and its name durable.
func (j *Journal) start(path string, whole int64, head JournalHead) error {
	if err := j.file.Truncate(whole); err != nil {
		return err
	}
	if j.resumed {
		return nil
	}
	if err := j.write(head); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

func (j *Journal) write(line any) error {
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(data, '\n')); err != nil {
		return err
	}
	return j.file.Sync()
}

// record makes e durable. A nil journal remembers nothing.
func (j *Journal) record(e entry) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed == nil {
		j.failed = j.write(e)
	}
	if j.failed != nil {
		return fmt.Errorf("snapshot: journal: %w", j.failed)
	}
	j.remember(e)
	return nil
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

// written returns how many rows of an object were acknowledged, if all were.
func (j *Journal) written(table, object string) (rows int64, ok bool) {
	if j == nil {
		return 0, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if t := j.tables[table]; t != nil {
		rows, ok = t.chunks[object]
	}
	return rows, ok
}

// Resumed reports whether the journal is that of an earlier run.
func (j *Journal) Resumed() bool { return j.resumed }

// Empty reports whether the restore has not begun to make a table.
func (j *Journal) Empty() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.entries == 0
}

// Close closes the journal's file and leaves it in place.
func (j *Journal) Close() error { return j.file.Close() }

// Remove removes the journal of a restore that is done.
func (j *Journal) Remove() error { return errors.Join(j.file.Close(), os.Remove(j.file.Name())) }
