package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// fileLog keeps a journal in a file. Every line is on disk before the step after
// it begins.
type fileLog struct{ file *os.File }

// OpenJournal begins a journal in a file, or takes up the one that is there. A
// journal of another restore is an error.
func OpenJournal(path string, head JournalHead) (*Journal, error) {
	j := &Journal{head: head, tables: map[string]*tableState{}}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("snapshot: journal: %w", err)
	}
	whole, err := wholeLines(old, head)
	if err == nil {
		err = j.take(old[:whole], head)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot: journal %s: %w", path, err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("snapshot: journal: %w", err)
	}
	j.log = fileLog{file}
	if err := j.start(file, whole, head); err != nil {
		file.Close()
		return nil, fmt.Errorf("snapshot: journal: %w", err)
	}
	return j, nil
}

// wholeLines returns the length of the whole lines: a line a crash cut short is as
// if it had never been. A file that is something else is left alone.
func wholeLines(old []byte, head JournalHead) (int64, error) {
	if end := bytes.LastIndexByte(old, '\n') + 1; end > 0 {
		return int64(end), nil
	}
	first, err := json.Marshal(head)
	if err == nil && !bytes.HasPrefix(first, old) {
		err = errors.New("it is no state file of a restore; name another")
	}
	return 0, err
}

// start drops a torn line, writes the head of a new journal, and makes both the
// file and its name durable.
func (j *Journal) start(file *os.File, whole int64, head JournalHead) error {
	if err := file.Truncate(whole); err != nil {
		return err
	}
	if j.resumed {
		return nil
	}
	if err := j.write(context.Background(), head, false); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(file.Name()))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

func (f fileLog) write(_ context.Context, line []byte, _ bool) error {
	if _, err := f.file.Write(line); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f fileLog) close(context.Context) error { return f.file.Close() }

func (f fileLog) end(context.Context) error {
	return errors.Join(f.file.Close(), os.Remove(f.file.Name()))
}
