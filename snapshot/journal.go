package snapshot

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync"

	"github.com/otsnap/otsnap/manifest"
)

// Journal remembers on local disk how far a restore has come, so that it can be
// resumed after a crash. Every line is on disk before the step after it begins.
// A step that is not in the journal is done again, which changes nothing.
type Journal struct {
	mu       sync.Mutex
	file     *os.File
	resumed  bool
	entries  int // lines after the head
	created  map[string]bool
	chunks   map[string]int64
	compared map[string]int64
	finished map[string]bool
}

// JournalHead says which restore a journal is of.
type JournalHead struct {
	Archive  manifest.Hash     `json:"archive"`
	Snapshot string            `json:"snapshot"`
	Instance manifest.Instance `json:"instance"` // the target
	Tables   []string          `json:"tables"`
}

// entry is one line after the head. Exactly one of the names is set.
type entry struct {
	Create  string `json:"create,omitempty"`  // about to make this table
	Chunk   string `json:"chunk,omitempty"`   // every row of this object was acknowledged
	Compare string `json:"compare,omitempty"` // this table was found equal
	Finish  string `json:"finish,omitempty"`  // this table has its options
	Rows    int64  `json:"rows,omitempty"`
}

// OpenJournal begins a journal at path, or takes up the one that is there. A
// journal of another restore is an error.
func OpenJournal(path string, head JournalHead) (*Journal, error) {
	j := &Journal{created: map[string]bool{}, chunks: map[string]int64{}, compared: map[string]int64{}, finished: map[string]bool{}}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("snapshot: journal: %w", err)
	}
	whole, err := j.replay(old, head)
	if err != nil {
		return nil, fmt.Errorf("snapshot: journal %s: %w", path, err)
	}
	if j.file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("snapshot: journal: %w", err)
	}
	if err := j.start(path, whole, head); err != nil {
		j.file.Close()
		return nil, fmt.Errorf("snapshot: journal: %w", err)
	}
	return j, nil
}

// replay reads what an earlier run wrote and returns the length of its whole
// lines: a line a crash cut short is as if it had never been.
func (j *Journal) replay(old []byte, head JournalHead) (int64, error) {
	end := int64(bytes.LastIndexByte(old, '\n') + 1)
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
	switch {
	case e.Create != "":
		j.created[e.Create] = true
	case e.Chunk != "":
		j.chunks[e.Chunk] = e.Rows
	case e.Compare != "":
		j.compared[e.Compare] = e.Rows
	case e.Finish != "":
		j.finished[e.Finish] = true
	}
}

// start drops a torn line, writes the head of a new journal, and makes both the
// file and its name durable.
func (j *Journal) start(path string, whole int64, head JournalHead) error {
	if err := j.file.Truncate(whole); err != nil {
		return err
	}
	if _, err := j.file.Seek(0, io.SeekEnd); err != nil {
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
	if err := j.write(e); err != nil {
		return fmt.Errorf("snapshot: journal: %w", err)
	}
	j.remember(e)
	return nil
}

func (j *Journal) hasCreated(table string) bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.created[table]
}

func (j *Journal) hasWritten(object string) (rows int64, ok bool) {
	if j == nil {
		return 0, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	rows, ok = j.chunks[object]
	return rows, ok
}

func (j *Journal) hasCompared(table string) (rows int64, ok bool) {
	if j == nil {
		return 0, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	rows, ok = j.compared[table]
	return rows, ok
}

func (j *Journal) hasFinished(table string) bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.finished[table]
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
