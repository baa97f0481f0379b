package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

const (
	// journalLines and journalWait bound what a crash can lose of a journal in an
	// archive: the chunks of so many lines, or of so long, are written again.
	journalLines = 64
	journalWait  = 10 * time.Second

	maxJournalObject = 16 << 20
)

// archiveLog keeps a journal in an archive: numbered objects, each with some
// lines, that are never changed.
type archiveLog struct {
	store   archive.Store
	folder  string
	next    int64
	waiting []byte
	lines   int
	since   time.Time // when the first line that waits was written
	begun   bool      // there is something to resume
}

// OpenArchiveJournal begins a journal in an archive, or takes up the one that is
// there: what machine goes on with the restore does not matter. It is not signed,
// and nothing in it is believed that the target does not confirm.
func OpenArchiveJournal(ctx context.Context, store archive.Store, head JournalHead) (*Journal, error) {
	id, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	log := &archiveLog{store: store, folder: manifest.RestoreFolder(manifest.Sum(id)), next: 1}
	j := &Journal{head: head, tables: map[string]*tableState{}, log: log}
	for ; ; log.next++ {
		lines, err := log.read(ctx, log.next)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err == nil {
			err = j.take(lines, head)
		}
		if err != nil {
			return nil, fmt.Errorf("snapshot: journal %s: %w", log.name(log.next), err)
		}
	}
	log.begun = j.resumed
	if j.resumed {
		return j, nil
	}
	return j, j.write(ctx, head, true)
}

func (l *archiveLog) name(n int64) string { return fmt.Sprintf("%s%08d.jsonl", l.folder, n) }

func (l *archiveLog) read(ctx context.Context, n int64) ([]byte, error) {
	body, err := l.store.Get(ctx, l.name(n))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	lines, err := io.ReadAll(io.LimitReader(body, maxJournalObject+1))
	if err == nil && len(lines) > maxJournalObject {
		err = fmt.Errorf("it has more than %d bytes: it is no state of a restore", maxJournalObject)
	}
	return lines, err
}

func (l *archiveLog) write(ctx context.Context, line []byte, canWait bool) error {
	if l.lines == 0 {
		l.since = time.Now()
	}
	l.waiting = append(l.waiting, line...)
	l.lines++
	if canWait && l.lines < journalLines && time.Since(l.since) < journalWait {
		return nil
	}
	return l.close(ctx)
}

func (l *archiveLog) close(ctx context.Context) error {
	if l.lines == 0 {
		return nil
	}
	name := l.name(l.next)
	err := l.store.Put(ctx, name, bytes.NewReader(l.waiting), archive.PutOptions{SHA256: manifest.Sum(l.waiting)})
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s was written by somebody else: is this restore under way on another machine?", name)
	}
	if err != nil {
		return err
	}
	l.next++
	l.waiting, l.lines, l.begun = nil, 0, true
	return nil
}

// end says so: the objects may be locked, and nobody may be allowed to remove them.
func (l *archiveLog) end(ctx context.Context) error {
	if !l.begun {
		return nil
	}
	line, err := json.Marshal(entry{Step: stepEnd})
	if err != nil {
		return err
	}
	return l.write(ctx, append(line, '\n'), false)
}
