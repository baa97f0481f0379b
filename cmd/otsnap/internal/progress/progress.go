// Package progress shows how far a run has come: as a bar where a person
// watches, and as a log line every few seconds where a file is written.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/snapshot"
)

// Reporter tells of a run as it goes. Its methods may be called concurrently.
// The nil Reporter says nothing.
type Reporter struct {
	mu      sync.Mutex
	view    view
	now     func() time.Time
	stage   string
	begun   time.Time
	retries int64
	closed  bool
}

// view draws what a Reporter has worked out.
type view interface {
	begin(total int64)
	show(sample)
	retry(r retry)
	wait(what string)
	close()
}

// sample is the state of a stage at one moment.
type sample struct {
	snapshot.Event
	elapsed time.Duration
}

type retry struct {
	n   int64 // of this run, from 1
	why string
}

// New returns a Reporter that draws a bar on w if that is a terminal, and logs
// lines to it if not.
func New(w io.Writer, terminal bool) *Reporter {
	if terminal {
		return &Reporter{view: newBar(w), now: time.Now}
	}
	return &Reporter{view: newLines(w, time.Now), now: time.Now}
}

// Event shows the event.
func (r *Reporter) Event(e snapshot.Event) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Stage != r.stage {
		r.stage, r.begun = e.Stage, r.now()
		r.view.begin(e.Total)
	}
	r.view.show(sample{Event: e, elapsed: r.now().Sub(r.begun)})
}

// Retry shows that a request was refused or lost and will be made again.
func (r *Reporter) Retry(why string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.retries++
	r.view.retry(retry{n: r.retries, why: why})
}

// Wait shows what is waited for.
func (r *Reporter) Wait(what string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.view.wait(what)
	}
}

// Close removes what was drawn and should not stay. Only retries may be reported
// after it, and are not shown.
func (r *Reporter) Close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.view.close()
}

// rate is the speed of the stage so far, or empty while there is none to tell.
func (s sample) rate() string {
	bytes := max(s.RawBytes, s.StoredBytes)
	if bytes == 0 || s.elapsed < 100*time.Millisecond {
		return ""
	}
	return console.Bytes(int64(float64(bytes)/s.elapsed.Seconds())) + "/s"
}

// left is how long the stage will take from here if it goes on as it went.
func (s sample) left() (time.Duration, bool) {
	if s.Done == 0 || s.Total <= s.Done || s.elapsed < time.Second {
		return 0, false
	}
	return s.elapsed * time.Duration(s.Total-s.Done) / time.Duration(s.Done), true
}

func (s sample) units() string {
	if s.Total == 0 {
		return ""
	}
	return fmt.Sprintf("%s/%s", console.Number(s.Done), console.Number(s.Total))
}
