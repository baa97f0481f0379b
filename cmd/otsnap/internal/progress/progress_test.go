package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/snapshot"
)

// clock is a time that goes on when told.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newTestReporter() (*Reporter, *clock, *bytes.Buffer) {
	c := &clock{at: time.Unix(0, 0)}
	var out bytes.Buffer
	return &Reporter{view: newLines(&out, c.now), now: c.now}, c, &out
}

func TestAShortRunLogsNothing(t *testing.T) {
	r, c, out := newTestReporter()
	for range 4 {
		r.Event(snapshot.Event{Stage: "export", Total: 4})
		c.at = c.at.Add(time.Second)
	}
	r.Close()
	if out.Len() > 0 {
		t.Errorf("logged %q", out)
	}
}

func TestALongRunLogsRateAndTimeLeft(t *testing.T) {
	r, c, out := newTestReporter()
	r.Event(snapshot.Event{Stage: "export", Total: 4})
	c.at = c.at.Add(10 * time.Second)
	r.Event(snapshot.Event{Stage: "export", Table: "orders", Done: 1, Total: 4, Rows: 12345, RawBytes: 50_000_000})
	c.at = c.at.Add(time.Second)
	r.Event(snapshot.Event{Stage: "export", Done: 2, Total: 4})
	want := `level=INFO msg=export table=orders done=1/4 rows=12,345 rate="5.00 MB/s" left=30.0s` + "\n"
	if got := out.String(); !strings.HasSuffix(got, want) || strings.Count(got, "\n") != 1 {
		t.Errorf("got %q, want one line ending in %q", got, want)
	}
}

func TestANewStageStartsItsOwnClock(t *testing.T) {
	r, c, out := newTestReporter()
	r.Event(snapshot.Event{Stage: "verify", Total: 1})
	c.at = c.at.Add(time.Hour)
	r.Event(snapshot.Event{Stage: "restore", Total: 2})
	c.at = c.at.Add(10 * time.Second)
	r.Event(snapshot.Event{Stage: "restore", Done: 1, Total: 2})
	if !strings.Contains(out.String(), "left=10.0s") {
		t.Errorf("got %q, want 10 s left", out)
	}
}

func TestRetriesAreLoggedOnceInAnInterval(t *testing.T) {
	r, c, out := newTestReporter()
	for range 12 {
		r.Retry("server busy")
		c.at = c.at.Add(time.Second)
	}
	if got := strings.Count(out.String(), "msg=retry"); got != 3 {
		t.Errorf("logged %d lines for 12 s of retries, want 3:\n%s", got, out)
	}
	if !strings.Contains(out.String(), `n=11 why="server busy"`) {
		t.Errorf("the last line does not count the retries:\n%s", out)
	}
}

func TestTheNilReporterIsSilent(t *testing.T) {
	var r *Reporter
	r.Event(snapshot.Event{Stage: "export"})
	r.Retry("server busy")
	r.Close()
}

// TestTheBarShowsTheStage draws into a buffer as it would on a terminal.
func TestTheBarShowsTheStage(t *testing.T) {
	var out bytes.Buffer
	r := New(&out, true)
	r.Event(snapshot.Event{Stage: "export", Total: 4})
	r.Event(snapshot.Event{Stage: "export", Done: 1, Total: 4, Rows: 12345})
	r.Retry("server busy")
	r.Event(snapshot.Event{Stage: "commit", Total: 1})
	r.Event(snapshot.Event{Stage: "commit", Done: 1, Total: 1})
	r.Event(snapshot.Event{Stage: "commit", Done: 1, Total: 1}) // after its bar is complete
	r.Close()
	r.Close()
	if !strings.Contains(out.String(), "commit") {
		t.Errorf("drew %q, want the last stage in it", out.String())
	}
}

func TestTextBesideTheBar(t *testing.T) {
	b := newBar(new(bytes.Buffer))
	defer b.close()
	b.latest.Store(&sample{
		Event:   snapshot.Event{Done: 3, Total: 4, Rows: 1000, StoredBytes: 2_000_000},
		elapsed: 6 * time.Second,
	})
	b.retry(retry{n: 2, why: "server busy"})
	want := "3/4  1,000 rows  333 kB/s  2.0s left  2 retries, last: server busy"
	if got := b.text(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
