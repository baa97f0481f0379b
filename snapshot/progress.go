package snapshot

import "sync"

// Event tells how far a run has come. Done and Total count units of work: ranges
// in an export, chunks elsewhere. Total is zero while it is not known.
type Event struct {
	Stage       string // plan, export, commit, verify, create, restore, compare, finish, copy, look, ask, thaw
	Table       string // the table the news is about; empty for the whole run
	Done, Total int64
	Rows        int64 // rows so far in this stage
	RawBytes    int64 // their size in PlainBuffer
	StoredBytes int64 // bytes written to or read from the archive
	Message     string
}

// progress adds up what concurrent workers did and tells a listener.
type progress struct {
	mu     sync.Mutex
	listen func(Event)
	now    Event
}

func newProgress(listen func(Event)) *progress {
	if listen == nil {
		listen = func(Event) {}
	}
	return &progress{listen: listen}
}

// begin opens a stage of total units.
func (p *progress) begin(stage string, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = Event{Stage: stage, Total: total}
	p.listen(p.now)
}

// add counts work done on a table.
func (p *progress) add(table string, delta Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Done += delta.Done
	p.now.Rows += delta.Rows
	p.now.RawBytes += delta.RawBytes
	p.now.StoredBytes += delta.StoredBytes
	event := p.now
	event.Table, event.Message = table, delta.Message
	p.listen(event)
}
