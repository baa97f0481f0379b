package tablestore

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
	"golang.org/x/sync/errgroup"
)

// busyService is the local server in the time of a bubble: it does what is asked
// at once, after a time at random around latency.
type busyService struct {
	server  *local.Server
	latency time.Duration
	refuse  func() bool // with OTSServerBusy; nil: never. It may look at what follows

	mu      sync.Mutex
	dice    *rand.Rand
	flying  int
	refused int
}

func newBusyService(t *testing.T) *busyService {
	t.Helper()
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &busyService{server: server, latency: 10 * time.Millisecond, dice: rand.New(rand.NewPCG(1, 2))}
}

func (s *busyService) close(t *testing.T) {
	t.Helper()
	if err := s.server.Close(); err != nil {
		t.Error(err)
	}
}

func (s *busyService) chance(p float64) bool { return s.dice.Float64() < p }

func (s *busyService) RoundTrip(req *http.Request) (*http.Response, error) {
	if !s.admit(actionOf(req)) {
		time.Sleep(time.Millisecond)
		return refuse(503, "OTSServerBusy", "Server is busy.")(req)
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flying--
	}()
	time.Sleep(s.takes())
	answer := httptest.NewRecorder()
	s.server.ServeHTTP(answer, req)
	return answer.Result(), nil
}

func (s *busyService) admit(action string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if (isRead(action) || isWrite(action)) && s.refuse != nil && s.refuse() {
		s.refused++
		return false
	}
	s.flying++
	return true
}

func (s *busyService) takes() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(float64(s.latency) * (0.5 + s.dice.Float64()))
}

func (s *busyService) open(t *testing.T, change ...func(*Config)) *Instance {
	t.Helper()
	c := Config{
		Endpoint:        "http://127.0.0.1:1",
		Instance:        "demo",
		AccessKeyID:     local.DefaultAccessKeyID,
		AccessKeySecret: local.DefaultAccessKeySecret,
		HTTP:            &http.Client{Transport: s},
	}
	for _, f := range change {
		f(&c)
	}
	in, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// workload writes rows a few at a time by many workers, reads them back likewise,
// and returns how long both took.
func workload(t *testing.T, in *Instance, rows []*ots.Row) time.Duration {
	t.Helper()
	const workers, batch = 16, 5
	begun := time.Now()
	layout := layoutOf(t, orders)
	mustCreate(t.Context(), t, in, orders)
	var group errgroup.Group
	group.SetLimit(workers)
	for part := range slices.Chunk(rows, batch) {
		record := record(t, layout, part)
		group.Go(func() error {
			_, err := in.Write(t.Context(), snapshot.Write{Table: orders, Layout: layout, Record: record})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	want := wire(rows)
	got := make([][][]byte, (len(rows)+batch-1)/batch)
	e := row.NewEncoder(layout)
	if err := e.Reset(record(t, layout, rows)); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		ask := snapshot.Scan{Table: orders, Layout: layout, From: e.AppendKey(nil, i*batch)}
		if next := (i + 1) * batch; next < len(rows) {
			ask.To = e.AppendKey(nil, next)
		}
		group.Go(func() error {
			var err error
			got[i], err = scan(t, in, ask)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	compareRows(t, slices.Concat(got...), want)
	return time.Since(begun)
}

// table aligns what tests print.
type table struct {
	text strings.Builder
	w    *tabwriter.Writer
}

func newTable(heading string) *table {
	x := new(table)
	x.w = tabwriter.NewWriter(&x.text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(x.w, "\n"+heading)
	return x
}

func (x *table) add(format string, args ...any) { fmt.Fprintf(x.w, format+"\n", args...) }

func (x *table) log(t *testing.T) {
	x.w.Flush()
	t.Log(x.text.String())
}

// A service that throttles slows a run; the run ends, with every row as it was.
func TestThrottledRunsEndEqual(t *testing.T) {
	rows := sample(2000, 21)
	within := func(from, to time.Duration) func(*busyService, time.Duration) bool {
		return func(_ *busyService, at time.Duration) bool { return at >= from && at < to }
	}
	out := newTable("service\ttime\trequests\trefused\tat once, writing\treading\trequests/s, writing\t")
	for _, test := range []struct {
		name   string
		refuse func(s *busyService, at time.Duration) bool
		faults []local.Fault
		most   time.Duration
		lowest int // at least one direction goes so low; 0: none is slowed
	}{
		{name: "calm", most: 5 * time.Second},
		{name: "1% refused", most: 10 * time.Second, lowest: 15, refuse: func(s *busyService, _ time.Duration) bool { return s.chance(0.01) }},
		{name: "10% refused", most: 20 * time.Second, lowest: 6, refuse: func(s *busyService, _ time.Duration) bool { return s.chance(0.1) }},
		{name: "half the rows of 10%", most: 20 * time.Second, lowest: 10,
			faults: []local.Fault{{Action: "BatchWriteRow", Kind: local.FaultRows, Probability: 0.1}}},
		{name: "not more than 6 at once", most: 20 * time.Second, lowest: 5, refuse: func(s *busyService, _ time.Duration) bool { return s.flying == 6 }},
		{name: "busy for a minute", most: 75 * time.Second, lowest: 1, refuse: within(200*time.Millisecond, 60200*time.Millisecond)},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newBusyService(t)
			defer s.close(t)
			if err := s.server.Misbehave(test.faults...); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			s.refuse = func() bool { return test.refuse != nil && test.refuse(s, time.Since(begun)) }
			in := s.open(t)
			took := workload(t, in, rows)
			p := in.Paced()
			out.add("%s\t%s\t%d\t%d\t%d to %d\t%d to %d\t%.0f to %.0f\t", test.name, took.Round(10*time.Millisecond),
				p.Reads.Requests+p.Writes.Requests, p.Reads.Throttled+p.Writes.Throttled, p.Writes.AtOnce.Lowest, p.Writes.AtOnce.Highest,
				p.Reads.AtOnce.Lowest, p.Reads.AtOnce.Highest, p.Writes.Rate.Lowest, p.Writes.Rate.Highest)
			if took > test.most {
				t.Errorf("%s: took %s", test.name, took)
			}
			if got := p.Reads.Throttled + p.Writes.Throttled; got != int64(s.refused) {
				t.Errorf("%s: %d refusals were told, %d made", test.name, got, s.refused)
			}
			slowed := p.Reads.Slowed+p.Writes.Slowed > 0
			if lowest := min(p.Reads.AtOnce.Lowest, p.Writes.AtOnce.Lowest); slowed != (test.lowest > 0) || slowed && lowest > test.lowest {
				t.Errorf("%s: slowed down %d and %d times, to %d at once", test.name, p.Reads.Slowed, p.Writes.Slowed, lowest)
			}
			if slowed != p.Throttled() {
				t.Errorf("%s: throttled is %t", test.name, p.Throttled())
			}
		})
	}
	out.log(t)
}
