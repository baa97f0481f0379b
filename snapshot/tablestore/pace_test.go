package tablestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
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
	queue   chan struct{}          // of those being served; nil: all are
	refuse  func(body []byte) bool // with OTSServerBusy; nil: none. It may look at what follows

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
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	if !s.admit(actionOf(req), body) {
		time.Sleep(time.Millisecond)
		return refuse(503, "OTSServerBusy", "Server is busy.")(req)
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flying--
	}()
	if s.queue != nil {
		s.queue <- struct{}{}
		defer func() { <-s.queue }()
	}
	time.Sleep(s.takes())
	answer := httptest.NewRecorder()
	s.server.ServeHTTP(answer, req)
	return answer.Result(), nil
}

func (s *busyService) admit(action string, body []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if (isRead(action) || isWrite(action)) && s.refuse != nil && s.refuse(body) {
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
	if testing.Short() {
		t.Skip("takes long under the race detector")
	}
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
			s.refuse = func([]byte) bool { return test.refuse != nil && test.refuse(s, time.Since(begun)) }
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

// However long it lasts, what the hard limits allow is what is had.
func TestHardLimitsHold(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector")
	}
	small, large := wideRows(1500, 100), wideRows(600, 10_000)
	out := newTable("limit\trows\ttime\tCU/s\tMB/s\t")
	for _, test := range []struct {
		name string
		rows []*ots.Row
		pace Pace
	}{
		{"100 CU/s", small, Pace{ReadUnits: 100, WriteUnits: 100}},
		{"100 CU/s", large, Pace{ReadUnits: 100, WriteUnits: 100}},
		{"5 CU/s, full", large, Pace{Preset: Full, ReadUnits: 5, WriteUnits: 5}},
		{"20 kB/s", small, Pace{Bytes: 20_000}},
		{"20 kB/s, gentle", large, Pace{Preset: Gentle, Bytes: 20_000}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newBusyService(t)
			defer s.close(t)
			in := s.open(t, func(c *Config) { c.Pace = test.pace })
			mustCreate(t.Context(), t, in, orders)
			check := func(did string, since time.Time, units, bytes int64, unitLimit float64) {
				took := time.Since(since).Seconds()
				perUnit, perByte := float64(units)/took, float64(bytes)/took
				out.add("%s\t%d %s\t%.0fs\t%.1f\t%.3f\t", test.name, len(test.rows), did, took, perUnit, perByte/1e6)
				reached := unitLimit > 0 && perUnit > 0.95*unitLimit || test.pace.Bytes > 0 && perByte > 0.95*test.pace.Bytes
				if unitLimit > 0 && perUnit > 1.03*unitLimit || test.pace.Bytes > 0 && perByte > 1.03*test.pace.Bytes || !reached {
					t.Errorf("%s: %s %d rows with %.1f CU/s and %.0f bytes/s", test.name, did, len(test.rows), perUnit, perByte)
				}
			}
			begun := time.Now()
			var group errgroup.Group
			group.SetLimit(4)
			layout := layoutOf(t, orders)
			for part := range slices.Chunk(test.rows, 15) {
				record := record(t, layout, part)
				group.Go(func() error {
					_, err := in.Write(t.Context(), snapshot.Write{Table: orders, Layout: layout, Record: record})
					return err
				})
			}
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			p := in.Paced()
			check("written", begun, p.WriteUnits, p.Writes.Bytes, test.pace.WriteUnits)
			if p.Throttled() || p.Writes.Waited.Units+p.Writes.Waited.Bytes == 0 {
				t.Errorf("%s: what was waited for is told as %+v", test.name, p.Writes.Waited)
			}

			begun = time.Now()
			in.http.Transport = pageLimit(10)(in.http.Transport)
			if _, err := scan(t, in, snapshot.Scan{Table: orders, Layout: layout}); err != nil {
				t.Fatal(err)
			}
			p = in.Paced()
			check("read", begun, p.ReadUnits, p.Reads.Bytes, test.pace.ReadUnits)
		})
	}
	out.log(t)
}

// wideRows returns rows with one cell of a size.
func wideRows(n, size int) []*ots.Row {
	var rows []*ots.Row
	for i := range n {
		cell := &ots.AttributeColumn{ColumnName: "blob", Value: make([]byte, size), Timestamp: 1_700_000_000_000}
		rows = append(rows, &ots.Row{PrimaryKey: key("DE", int64(i), nil), Columns: []*ots.AttributeColumn{cell}})
	}
	return rows
}

func TestWaitingForTheLimitEndsWithContext(t *testing.T) {
	for name, pace := range map[string]Pace{"units": {WriteUnits: 1}, "bytes": {Bytes: 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newBusyService(t)
				defer s.close(t)
				in := s.open(t, func(c *Config) { c.Pace = pace })
				tired := errors.New("operator is tired")
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(10*time.Second, func() { cancel(tired) })
				mustCreate(ctx, t, in, orders)
				begun := time.Now()
				layout := layoutOf(t, orders)
				_, err := in.Write(ctx, snapshot.Write{Table: orders, Layout: layout, Record: record(t, layout, wideRows(200, 100))})
				if took := time.Since(begun); !errors.Is(err, tired) || took > 10*time.Second {
					t.Errorf("after %s: %v", took, err)
				}
				if in.pacer.writes.flying != 0 {
					t.Errorf("%d places are taken", in.pacer.writes.flying)
				}
				// What was not sent is not paid for.
				if level := max(in.pacer.writes.units.spent(), in.pacer.writes.bytes.spent()); level > 0 {
					t.Errorf("the limit is overdrawn by %v", level)
				}
			})
		})
	}
}

// spent is how much more was taken than the rate allowed until now.
func (b *bucket) spent() float64 {
	if b == nil {
		return 0
	}
	b.spend(0)
	return -b.level
}

// writeParts writes rows, five in a request, by so many workers.
func writeParts(t *testing.T, in *Instance, rows []*ots.Row, workers int) error {
	t.Helper()
	var group errgroup.Group
	group.SetLimit(workers)
	layout := layoutOf(t, orders)
	for part := range slices.Chunk(rows, 5) {
		record := record(t, layout, part)
		group.Go(func() error {
			_, err := in.Write(t.Context(), snapshot.Write{Table: orders, Layout: layout, Record: record})
			return err
		})
	}
	return group.Wait()
}

// A partition that takes two requests a second slows those who write to it, and
// neither the others nor the chances of the run.
func TestHotPartition(t *testing.T) {
	const hot = "ZZ"
	var hotRows []*ots.Row
	for i := range 300 {
		hotRows = append(hotRows, &ots.Row{PrimaryKey: key(hot, int64(i), nil)})
	}
	times := make(map[bool]time.Duration)
	for _, beside := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newBusyService(t)
			defer s.close(t)
			last := time.Now()
			s.refuse = func(body []byte) bool {
				if !bytes.Contains(body, []byte(hot)) {
					return false
				}
				if time.Since(last) < time.Second/2 {
					return true
				}
				last = time.Now()
				return false
			}
			in := s.open(t, func(c *Config) { c.GiveUpAfter = 20 * time.Second })
			mustCreate(t.Context(), t, in, orders)
			var group errgroup.Group
			if beside {
				group.Go(func() error { return writeParts(t, in, hotRows, 4) })
				time.Sleep(5 * time.Second)
			}
			begun := time.Now()
			if err := writeParts(t, in, sample(3000, 22), 12); err != nil {
				t.Error(err)
			}
			times[beside] = time.Since(begun)
			if err := group.Wait(); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); beside && took < 25*time.Second {
				t.Errorf("the hot partition was filled within %s", took)
			}
		})
	}
	t.Logf("the others took %s beside a hot partition, %s without", times[true], times[false])
	if times[true] > times[false]*3/2 {
		t.Error("the others were slowed")
	}
}

// The more a preset asks for, the longer the queue it makes at a service that
// answers four at a time.
func TestPresetsAndLatency(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector")
	}
	out := newTable("pace\ttime\tat once\teased\t")
	var took []time.Duration
	for _, preset := range []Preset{Gentle, Steady, Full} {
		synctest.Test(t, func(t *testing.T) {
			s := newBusyService(t)
			defer s.close(t)
			s.latency, s.queue = 50*time.Millisecond, make(chan struct{}, 4)
			in := s.open(t, func(c *Config) { c.Pace.Preset = preset })
			mustCreate(t.Context(), t, in, orders)
			begun := time.Now()
			if err := writeParts(t, in, sample(4000, 23), 100); err != nil {
				t.Error(err)
			}
			took = append(took, time.Since(begun))
			p := in.Paced().Writes
			out.add("%s\t%s\t%d to %d\t%d\t", preset, time.Since(begun).Round(10*time.Millisecond), p.AtOnce.Lowest, p.AtOnce.Highest, p.Eased)
			most := map[Preset]int{Gentle: 4, Steady: 40, Full: 100}
			if p.AtOnce.Highest > most[preset] || preset == Full && p.AtOnce.Highest < 65 {
				t.Errorf("%s: up to %d at once", preset, p.AtOnce.Highest)
			}
			if (p.Eased > 0) != (preset != Full) || p.Slowed > 0 {
				t.Errorf("%s: eased %d times, slowed %d times", preset, p.Eased, p.Slowed)
			}
		})
	}
	out.log(t)
	if took[1] > took[2]*11/10 {
		t.Error("a shorter queue has made it slower")
	}
}

// What a lane does after one round.
func TestRounds(t *testing.T) {
	good, bad := outcome{answered: true}, outcome{answered: true, share: 1}
	for _, test := range []struct {
		name    string
		preset  Preset
		limit   float64
		wanted  int // requests at once
		answers []outcome
		took    time.Duration // of each, where 10ms were usual
		metered bool
		want    float64
		lowest  int // told, of limits that held something back
	}{
		{name: "good and full", preset: Steady, limit: 4, wanted: 5, answers: []outcome{good, good, good, good}, want: 5},
		{name: "good, not full", preset: Steady, limit: 5, wanted: 4, answers: []outcome{good, good, good, good}, want: 5},
		{name: "good, full, held by a hard limit", preset: Steady, limit: 4, wanted: 5, metered: true, answers: []outcome{good, good, good, good}, want: 4},
		{name: "at the ceiling", preset: Gentle, limit: 4, wanted: 5, answers: []outcome{good, good, good, good}, want: 4},
		{name: "all refused", preset: Steady, limit: 4, wanted: 5, answers: []outcome{bad, bad, bad, bad}, want: 2, lowest: 2},
		{name: "at the floor", preset: Steady, limit: 1, wanted: 5, answers: []outcome{bad}, want: 1, lowest: 1},
		{name: "one of eight refused", preset: Steady, limit: 8, wanted: 9, answers: []outcome{bad, good, good, good, good, good, good, good}, want: 6, lowest: 6},
		{name: "one of eight refused, full", preset: Full, limit: 8, wanted: 9, answers: []outcome{bad, good, good, good, good, good, good, good}, want: 7, lowest: 7},
		{name: "half a batch of eight refused", preset: Steady, limit: 8, wanted: 9,
			answers: []outcome{{answered: true, share: 0.5}, good, good, good, good, good, good, good}, want: 7, lowest: 7},
		{name: "refused below the limit", preset: Steady, limit: 32, wanted: 4, answers: []outcome{bad, bad, good, good}, want: 2, lowest: 2},
		{name: "slow", preset: Steady, limit: 5, wanted: 6, took: 200 * time.Millisecond, answers: []outcome{good, good, good, good, good}, want: 4, lowest: 4},
		{name: "slow for gentle", preset: Gentle, limit: 4, wanted: 6, took: 26 * time.Millisecond, answers: []outcome{good, good, good, good}, want: 2, lowest: 2},
		{name: "not slow for steady", preset: Steady, limit: 4, wanted: 6, took: 26 * time.Millisecond, answers: []outcome{good, good, good, good}, want: 5},
		{name: "slow and full", preset: Full, limit: 4, wanted: 6, took: time.Minute, answers: []outcome{good, good, good, good}, want: 5},
		{name: "not over", preset: Steady, limit: 4, wanted: 4, answers: []outcome{bad, bad, bad}, want: 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLane(tempers[test.preset], 0, 0)
			l.limit = test.limit
			now := time.Now()
			const size = 1000
			l.shortest[bits.Len(size)].note(10*time.Millisecond, now)
			l.round.metered = test.metered
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			for range test.wanted {
				if err := l.enter(ctx); err != nil && !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			}
			for _, o := range test.answers {
				l.judge(o, size, max(test.took, 10*time.Millisecond), now)
			}
			if l.limit != test.want {
				t.Errorf("the limit is %v, want %v", l.limit, test.want)
			}
			if got := l.told.AtOnce.Lowest; got != test.lowest {
				t.Errorf("the lowest limit is told as %d, want %d", got, test.lowest)
			}
		})
	}
}

func TestShortestTimeSlides(t *testing.T) {
	var s shortest
	at := time.Now()
	for _, step := range []struct {
		after, took, want time.Duration
	}{
		{0, 10, 10},
		{time.Second, 5, 5},
		{time.Second, 20, 5},
		{30 * time.Second, 20, 5},
		{29 * time.Second, 30, 5},
		{time.Second, 40, 20},
		{time.Hour, 50, 50},
	} {
		at = at.Add(step.after)
		if got := s.note(step.took, at); got != step.want {
			t.Errorf("%s later: %d is the shortest, want %d", step.after, got, step.want)
		}
	}
}

func TestEstimate(t *testing.T) {
	for _, test := range []struct {
		pace             Pace
		rows, bytes      int64
		write, most      int64
		read             int64
		writing, reading float64
	}{
		{pace: Pace{Preset: Full}, rows: 1000, bytes: 100_000, write: 1000, most: 1024, read: 25},
		{pace: Pace{WriteUnits: 10, ReadUnits: 5}, rows: 1000, bytes: 100_000, write: 1000, most: 1024, read: 25, writing: 100, reading: 5},
		{pace: Pace{WriteUnits: 10, Bytes: 100}, rows: 1000, bytes: 100_000, write: 1000, most: 1024, read: 25, writing: 1000, reading: 1000},
		{pace: Pace{WriteUnits: 1000}, rows: 10, bytes: 10 * 4097, write: 11, most: 20, read: 11, writing: 0.011},
		{rows: 1, bytes: 1, write: 1, most: 1, read: 1},
		{pace: Pace{Bytes: 1}, rows: 1 << 40, bytes: 1 << 60, write: 1 << 48, most: 1<<48 + 1<<40, read: 1 << 48, writing: 1 << 60, reading: 1 << 60},
	} {
		e := test.pace.Estimate(test.rows, test.bytes)
		if want := (snapshot.Estimate{
			WriteUnits: test.write, WriteUnitsAtMost: test.most, ReadUnits: test.read, WriteSeconds: test.writing, ReadSeconds: test.reading,
		}); e != want {
			t.Errorf("%+v: %d rows, %d bytes: got %+v, want %+v", test.pace, test.rows, test.bytes, e, want)
		}
	}
}

func TestPaceIsChecked(t *testing.T) {
	for _, preset := range []Preset{Gentle, Steady, Full} {
		if p, err := ParsePace(string(preset)); err != nil || p != (Pace{Preset: preset}) || p.check() != nil {
			t.Errorf("%s is parsed as %+v, %v", preset, p, err)
		}
	}
	if err := (Pace{}).check(); err != nil {
		t.Errorf("the zero pace: %v", err)
	}
	for _, name := range []string{"", "fast", "Gentle", "full "} {
		if _, err := ParsePace(name); err == nil {
			t.Errorf("%q is a pace", name)
		}
	}
	for _, p := range []Pace{{Preset: "fast"}, {ReadUnits: -1}, {WriteUnits: 0.5}, {Bytes: math.NaN()}, {Bytes: math.Inf(1)}} {
		if p.check() == nil {
			t.Errorf("%+v is taken", p)
		}
	}
}

// What the service counts is what is told.
func TestUnitsAreTold(t *testing.T) {
	s := newStage(t)
	s.create(t, orders)
	in := s.open(t)
	mustWrite(t, in, orders, wideRows(3, 10_000))
	if p := in.Paced(); p.WriteUnits != 9 || p.ReadUnits != 0 || p.Writes.Requests != 1 || p.Throttled() {
		t.Errorf("after writing: %+v", p)
	}
	if _, err := scan(t, in, snapshot.Scan{Table: orders, Layout: layoutOf(t, orders)}); err != nil {
		t.Fatal(err)
	}
	if p := in.Paced(); p.WriteUnits != 9 || p.ReadUnits != 8 || p.Reads.Requests != 1 || p.Reads.AtOnce != (AtOnce{1, 1, 32}) {
		t.Errorf("after reading: %+v", p)
	}
}

// A request is tried for as long as the service lets others through, and given
// up once it has let nothing through for the time allowed.
func TestBusyServiceIsGivenUpWhenNothingGetsThrough(t *testing.T) {
	for _, test := range []struct {
		name   string
		others time.Duration // go on so long
		open   time.Duration // the refused one is let in then
		want   time.Duration // it is given up
	}{
		{name: "nothing gets through", open: time.Hour, want: time.Minute},
		{name: "others do, and it is let in", others: 11 * time.Minute, open: 10 * time.Minute},
		{name: "others do for a while", others: 10 * time.Minute, open: time.Hour, want: 11 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newBusyService(t)
				defer s.close(t)
				begun := time.Now()
				s.refuse = func(body []byte) bool {
					return bytes.Contains(body, []byte("ZZ")) && time.Since(begun) < test.open
				}
				in := s.open(t, func(c *Config) { c.GiveUpAfter = time.Minute })
				mustCreate(t.Context(), t, in, orders)
				var group errgroup.Group
				group.Go(func() error {
					for time.Since(begun) < test.others {
						mustWrite(t, in, orders, wideRows(1, 10))
						time.Sleep(time.Second)
					}
					return nil
				})
				err := writeParts(t, in, []*ots.Row{{PrimaryKey: key("ZZ", 1, nil)}}, 1)
				took := time.Since(begun)
				if err := group.Wait(); err != nil {
					t.Fatal(err)
				}
				if test.want == 0 {
					if err != nil || took < test.open || took > test.open+longWait+time.Second {
						t.Errorf("after %s: %v", took, err)
					}
					return
				}
				if took < test.want-10*time.Second || took > test.want+2*time.Second {
					t.Errorf("ended after %s, want %s", took, test.want)
				}
				told := regexp.MustCompile(`given up after \d+ attempts: for 5\d[.\d]*s the service was too busy to let any BatchWriteRow through: BatchWriteRow, table orders: OTSServerBusy`)
				if !errors.Is(err, snapshot.ErrUnavailable) || !told.MatchString(err.Error()) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// Also when many wait for one another, a service that refuses everything is given
// up when it was to be.
func TestManyAreGivenUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBusyService(t)
		defer s.close(t)
		s.latency = 2 * time.Second
		in := s.open(t, func(c *Config) { c.GiveUpAfter = time.Minute })
		mustCreate(t.Context(), t, in, orders)
		mustWrite(t, in, orders, wideRows(1, 10))
		begun := time.Now()
		s.refuse = func([]byte) bool { return true }
		err := writeParts(t, in, wideRows(16*5, 10), 16)
		if took := time.Since(begun); !errors.Is(err, snapshot.ErrUnavailable) || took < 50*time.Second || took > 2*time.Minute {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

// What is held back by a limit of our own is not thereby failing.
func TestWaitingForTheLimitIsNotTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBusyService(t)
		defer s.close(t)
		in := s.open(t, func(c *Config) { c.GiveUpAfter, c.Pace.WriteUnits = time.Minute, 1 })
		mustCreate(t.Context(), t, in, orders)
		lost := 0
		next := in.http.Transport
		in.http.Transport = roundTrip(func(req *http.Request) (*http.Response, error) {
			if actionOf(req) == "BatchWriteRow" && lost < 2 {
				lost++
				return nil, io.EOF
			}
			return next.RoundTrip(req)
		})
		begun := time.Now()
		mustWrite(t, in, orders, wideRows(200, 10))
		if took := time.Since(begun); lost != 2 || took < 9*time.Minute {
			t.Errorf("lost %d times, in %s", lost, took)
		}
	})
}

// A minute in which the server refuses everything, by the clock on the wall.
func TestBusyForAMinute(t *testing.T) {
	if os.Getenv("OTSNAP_SOAK") == "" {
		t.Skip("takes more than a minute: set OTSNAP_SOAK")
	}
	s := newStage(t)
	in := s.open(t)
	if err := s.server.Misbehave(
		local.Fault{Action: "BatchWriteRow", Kind: local.FaultBusy, After: 50, For: time.Minute},
		local.Fault{Action: "GetRange", Kind: local.FaultBusy, Probability: 0.1},
		local.Fault{Action: "BatchWriteRow", Kind: local.FaultRows, Probability: 0.01},
	); err != nil {
		t.Fatal(err)
	}
	took := workload(t, in, sample(20_000, 24))
	t.Logf("took %s: %+v", took, in.Paced())
	if p := in.Paced().Writes; took < time.Minute || took > 2*time.Minute || p.AtOnce.Lowest != 1 || p.AtOnce.Now < 8 {
		t.Errorf("took %s, and the pace went to %+v", took, p.AtOnce)
	}
}

func TestRate(t *testing.T) {
	var r rate
	now := time.Now()
	answers := func(n int, in time.Duration) {
		for range n {
			now = now.Add(in / time.Duration(n))
			r.count(now)
		}
	}
	r.wake(now)
	answers(5, 500*time.Millisecond)
	if got := r.so(now); got != (Rate{10, 10, 10}) {
		t.Errorf("in the first second: %+v", got)
	}
	answers(5, 500*time.Millisecond)
	answers(100, time.Second)
	answers(20, time.Second)
	now = now.Add(time.Hour) // in which nothing was asked for
	r.wake(now)
	answers(50, time.Second)
	if got := r.so(now); got != (Rate{Lowest: 10, Highest: 100, Last: 50}) {
		t.Errorf("in the end: %+v", got)
	}
}
