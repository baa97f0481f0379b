package archivetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/otsnap/otsnap/archive"
)

// Bounds of [TestNetwork] and [TestFront].
const (
	endsWithin  = 45 * time.Second // each call
	troublesome = 8                // cases at a time: most of their time is waiting
	largeBody   = 8 << 20          // bytes
)

// opener opens a store whose server is reached at address, and whose archive is
// empty and not that of any other call.
type opener = func(t *testing.T, address string) archive.Store

// TestNetwork puts a bad network between a store and its server at upstream
// ("127.0.0.1:9000"). Whatever happens, each call ends within a bound, and either
// right or with an error that wraps archive.ErrUnavailable and says nothing else;
// where the trouble is one a store can get over it has to. When it is over, all
// objects are whole or absent, and everything works.
//
// Stores are opened with 2 s of silence taken for a dead connection and 10 s of
// tries before they give up. With -short only the quick cases run.
func TestNetwork(t *testing.T, open opener, upstream string) {
	always := func(toxics ...Toxic) func(t *testing.T) trouble {
		return func(t *testing.T) trouble {
			p := NewProxy(t, upstream)
			return trouble{address: p.Addr(), begin: func() { p.Add(toxics...) }, end: p.Clear}
		}
	}
	down := func(t *testing.T) trouble {
		p := NewProxy(t, upstream)
		return trouble{address: p.Addr(), begin: p.Down, end: p.Up}
	}
	const ms = time.Millisecond
	face(t, open, []troubleCase{
		{name: "none", quick: true, right: true, make: always()},
		{name: "down for ever", make: down},
		{name: "down for a second", quick: true, right: true, lasts: time.Second, make: down},
		{name: "nothing moves, for ever", make: always(Stall(ToServer, 0), Stall(ToClient, 0))},
		{name: "nothing moves, for 3 s", right: true, lasts: 3 * time.Second, make: always(Stall(ToServer, 0), Stall(ToClient, 0))},
		{name: "no reply comes, for ever", make: always(Stall(ToClient, 0))},
		{name: "no reply comes, for 3 s", right: true, lasts: 3 * time.Second, make: always(Stall(ToClient, 0))},
		{name: "bodies stall after 3 MB", make: always(Stall(ToServer, 3e6), Stall(ToClient, 3e6))},
		{name: "latency 300 ms +- 100", right: true, make: always(Latency(ToServer, 150*ms, 50*ms), Latency(ToClient, 150*ms, 50*ms))},
		{name: "4 MB/s", right: true, make: always(Bandwidth(ToServer, 4000), Bandwidth(ToClient, 4000))},
		{name: "slices of 8 kB", right: true, make: always(Slicer(ToServer, 8000, 20*time.Microsecond), Slicer(ToClient, 8000, 20*time.Microsecond))},
		{name: "reset after 3 MB sent", make: always(Reset(ToServer, 3e6))},
		{name: "reset after 3 MB sent, for 1 s", quick: true, right: true, lasts: time.Second, make: always(Reset(ToServer, 3e6))},
		{name: "reset after 3 MB of replies", make: always(Reset(ToClient, 3e6))},
		{name: "reset after 3 MB of replies, for 1 s", right: true, lasts: time.Second, make: always(Reset(ToClient, 3e6))},
		{name: "reset at once", make: always(Reset(ToServer, 0))},
		{name: "replies reset at once", make: always(Reset(ToClient, 0))},
		{name: "replies reset at once, for 1 s", right: true, lasts: time.Second, make: always(Reset(ToClient, 0))},
		{name: "replies end after 12 bytes", make: always(Limit(ToClient, 12))},
		{name: "replies end after 12 bytes, for 1 s", right: true, lasts: time.Second, make: always(Limit(ToClient, 12))},
		{name: "replies end after 200 bytes", make: always(Limit(ToClient, 200))},
		{name: "replies end after 1 kB, for 1 s", right: true, lasts: time.Second, make: always(Limit(ToClient, 1000))},
		{name: "replies end after 2 MB", make: always(Limit(ToClient, 2e6))},
		{name: "requests end after 1 kB", make: always(Limit(ToServer, 1000))},
	})
}

// TestFront puts a bad front end between a store and its server, as [TestNetwork]
// does a bad network, with the same bounds. A front can do what a network cannot:
// do what was asked and say that it failed.
func TestFront(t *testing.T, open opener, upstream string) {
	cue := func(give func() Cue) func(t *testing.T) trouble {
		return func(t *testing.T) trouble {
			f := NewFront(t, upstream)
			return trouble{address: f.Addr(), begin: func() { f.Set(give()) }, end: func() { f.Set(nil) }}
		}
	}
	first := func(n int, m Mishap, methods ...string) func(t *testing.T) trouble {
		return cue(func() Cue { return First(n, m, methods...) })
	}
	always := func(m Mishap, methods ...string) func(t *testing.T) trouble { return first(-1, m, methods...) }
	busy := Mishap{Status: http.StatusServiceUnavailable}
	page := Mishap{Status: http.StatusBadGateway, Body: "<html><body><h1>502 Bad Gateway</h1><hr>front</body>"}
	face(t, open, []troubleCase{
		{name: "none", quick: true, right: true, make: always(Mishap{})},
		{name: "503 to 8 requests", quick: true, right: true, make: first(8, busy)},
		{name: "503 to all", make: always(busy)},
		{name: "503 to every PUT", make: always(busy, http.MethodPut)},
		{name: "503 to every GET", make: always(busy, http.MethodGet)},
		{name: "503 to every HEAD", make: always(busy, http.MethodHead)},
		{name: "500 to 8 requests", right: true, make: first(8, Mishap{Status: http.StatusInternalServerError})},
		{name: "502 with a page to 8 requests", right: true, make: first(8, page)},
		{name: "502 with a page to all", make: always(page)},
		{name: "504 without a body to 8 requests", right: true, make: first(8, Mishap{Status: http.StatusGatewayTimeout, Body: "\n"})},
		{name: "503 to 4 PUTs that were done", quick: true, right: true, make: first(4, Mishap{PassOn: true, Status: 503}, http.MethodPut)},
		{name: "503 to all, that were done", make: always(Mishap{PassOn: true, Status: 503})},
		{name: "reset of 8 requests", right: true, make: first(8, Mishap{Reset: true})},
		{name: "reset of 4 PUTs that were done", quick: true, right: true, make: first(4, Mishap{PassOn: true, Reset: true}, http.MethodPut)},
		{name: "reset of 8 requests that were done", right: true, make: first(8, Mishap{PassOn: true, Reset: true})},
		{name: "reset of all, that were done", make: always(Mishap{PassOn: true, Reset: true})},
		{name: "8 replies cut before the body", right: true, make: first(8, Mishap{Cut: true})},
		{name: "8 replies cut after 300 bytes", right: true, make: first(8, Mishap{Cut: true, After: 300})},
		{name: "GETs cut after 300 bytes", make: always(Mishap{Cut: true, After: 300}, http.MethodGet)},
		{name: "GETs cut after 3 MB", make: always(Mishap{Cut: true, After: 3e6}, http.MethodGet)},
		{name: "500 ms before each reply", right: true, make: always(Mishap{Delay: 500 * time.Millisecond})},
		{name: "silence of 4 s at 4 requests", right: true, make: first(4, Mishap{Delay: 4 * time.Second})},
	})
	t.Run("APutThatIsOvertakenWhileItTriesIsErrExist", func(t *testing.T) { overtaken(t, open, upstream) })
	t.Run("APutThatLandedUnheardIsNil", func(t *testing.T) { landedUnheard(t, open, upstream) })
}

// overtaken has another's object arrive between the tries of a Put.
func overtaken(t *testing.T, open opener, upstream string) {
	f := NewFront(t, upstream)
	s := open(t, f.Addr())
	begun := make(chan struct{})
	lose := First(1, Mishap{Delay: time.Second, Reset: true}, http.MethodPut)
	f.Set(func(n int, r *http.Request) Mishap {
		m := lose(n, r)
		if m != (Mishap{}) {
			close(begun)
		}
		return m
	})
	rival := make(chan error)
	go func() {
		<-begun
		rival <- tryPut(t, s, "a/object", "others")
	}()
	err := tryPut(t, s, "a/object", "rows")
	if err := <-rival; err != nil {
		t.Fatalf("the other's Put: %v", err)
	}
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("Put whose first try was lost, and whose second met another's object: got %v, want fs.ErrExist", err)
	}
	want(t, s, "a/object", "others")
}

// landedUnheard loses the answers to a Put that was done.
func landedUnheard(t *testing.T, open opener, upstream string) {
	var wg sync.WaitGroup // most of the time is waiting
	for what, m := range map[string]Mishap{
		"reset":    {PassOn: true, Reset: true},
		"503":      {PassOn: true, Status: http.StatusServiceUnavailable},
		"a page":   {PassOn: true, Status: http.StatusBadGateway, Body: "<html>"},
		"no reply": {PassOn: true, Delay: 4 * time.Second, Reset: true},
	} {
		if testing.Short() && m.Delay > 0 {
			continue
		}
		wg.Go(func() {
			t.Run(what, func(t *testing.T) { landedBut(t, open, upstream, m) })
		})
	}
	wg.Wait()
}

func landedBut(t *testing.T, open opener, upstream string, m Mishap) {
	f := NewFront(t, upstream)
	s := open(t, f.Addr())
	for name, content := range map[string]string{"empty": "", "small": "rows", "large": strings.Repeat("rows ", 1<<20)} {
		f.Set(First(1, m, http.MethodPut))
		if err := tryPut(t, s, name, content); err != nil {
			t.Errorf("Put that was done (%s), and whose answer was lost: got %v, want nil: the bytes there are ours", name, err)
		}
		f.Set(nil)
		want(t, s, name, content)
		if err := tryPut(t, s, name, content+"!"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a Put of other bytes later (%s): got %v, want fs.ErrExist", name, err)
		}
	}
	wantList(t, s, "", "empty", "large", "small")
}

// troubleCase is a row of the table.
type troubleCase struct {
	name  string
	quick bool          // also with -short
	right bool          // a store gets over it
	lasts time.Duration // 0: until the calls have ended
	make  func(t *testing.T) trouble
}

// trouble is what is between a store and its server.
type trouble struct {
	address    string
	begin, end func()
}

// face runs cases and logs what came of them as a table.
func face(t *testing.T, open opener, cases []troubleCase) {
	rows := make([][]result, len(cases))
	slots := make(chan struct{}, troublesome)
	if testing.Short() {
		slots = make(chan struct{}, 2) // with the race detector, it is not waiting
	}
	var wg sync.WaitGroup
	for _, long := range []bool{true, false} { // the long ones first: they mostly wait
		for i, c := range cases {
			if long == c.right || testing.Short() && !c.quick {
				continue
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				t.Run(c.name, func(t *testing.T) { rows[i] = c.run(t, open) })
			})
		}
	}
	wg.Wait()
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for i, c := range cases {
		if rows[i] == nil {
			continue
		}
		fmt.Fprint(w, c.name)
		for _, r := range rows[i] {
			fmt.Fprintf(w, "\t%s: %s %.1f s", r.op, r.outcome, r.took.Seconds())
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	t.Logf("what became of each call (right, or refused with archive.ErrUnavailable):\n%s", table.String())
}

// result is what became of one call.
type result struct {
	op      string
	outcome outcome
	took    time.Duration
}

type outcome string

const (
	right   outcome = "right"
	refused outcome = "refused"
	wrong   outcome = "WRONG"
)

// sufferer is a store in trouble, and what was put there before.
type sufferer struct {
	archive.Store
	large, other, small []byte
	names               []string
}

func (c troubleCase) run(t *testing.T, open opener) []result {
	between := c.make(t)
	s := &sufferer{
		Store: open(t, between.address),
		large: randomBytes(1, largeBody), other: randomBytes(2, largeBody), small: []byte("rows"),
	}
	s.seed(t)
	between.begin()
	lift := sync.OnceFunc(between.end)
	if c.lasts > 0 {
		time.AfterFunc(c.lasts, lift)
	}
	results := s.callAll(t, c.right)
	lift()
	s.checkAfter(t, results)
	return results
}

func randomBytes(seed byte, size int) []byte {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// seed puts objects while all is well.
func (s *sufferer) seed(t *testing.T) {
	put(t, s, "old/large", string(s.other))
	put(t, s, "old/taken", "others")
	put(t, s, "gone/soon", "rows")
	s.names = []string{"old/large", "old/taken"}
	for i := range 20 {
		name := fmt.Sprintf("old/x%02d", i)
		put(t, s, name, "rows")
		s.names = append(s.names, name)
	}
}

// calls are what is tried in trouble; each returns nil if all is right.
func (s *sufferer) calls() map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"put 8 MB": func(ctx context.Context) error {
			return s.Put(ctx, "new/large", bytes.NewReader(s.large), archive.PutOptions{SHA256: sha256.Sum256(s.large), Bulk: true})
		},
		"put 4 B": func(ctx context.Context) error {
			return s.Put(ctx, "new/small", bytes.NewReader(s.small), archive.PutOptions{})
		},
		"put over": func(ctx context.Context) error {
			return wantErr(s.Put(ctx, "old/taken", bytes.NewReader(s.small), archive.PutOptions{}), fs.ErrExist)
		},
		"get 8 MB":    func(ctx context.Context) error { return s.same(ctx, "old/large", s.other) },
		"get missing": func(ctx context.Context) error { return wantErr(s.same(ctx, "none", nil), fs.ErrNotExist) },
		"list":        func(ctx context.Context) error { return s.lists(ctx, "old/", s.names) },
		"delete": func(ctx context.Context) error {
			// A second try may find that the first one did it.
			err := s.Delete(ctx, "gone/soon")
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		},
	}
}

// order is that of the table.
var order = []string{"put 8 MB", "get 8 MB", "put 4 B", "put over", "get missing", "list", "delete"}

// wantErr turns the error that is right into nil, and nil into one that is not.
func wantErr(err, right error) error {
	if err == nil {
		return fmt.Errorf("got nil, want %w", right)
	}
	if errors.Is(err, right) && !errors.Is(err, archive.ErrUnavailable) {
		return nil
	}
	return err
}

// same reads an object and compares it.
func (s *sufferer) same(ctx context.Context, name string, content []byte) error {
	body, err := s.Get(ctx, name)
	if err != nil {
		return err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if !bytes.Equal(data, content) {
		return fmt.Errorf("%s: read %d bytes without an error, and not those put (%d)", name, len(data), len(content))
	}
	return nil
}

func (s *sufferer) lists(ctx context.Context, prefix string, names []string) error {
	i := 0
	for o, err := range s.List(ctx, prefix) {
		switch {
		case err != nil:
			return err
		case i == len(names) || o.Name != names[i]:
			return fmt.Errorf("List(%q) has %q where it should not", prefix, o.Name)
		}
		i++
	}
	if i != len(names) {
		return fmt.Errorf("List(%q) ends without an error after %d of %d objects", prefix, i, len(names))
	}
	return nil
}

// callAll makes all calls at once.
func (s *sufferer) callAll(t *testing.T, mustBeRight bool) []result {
	results := make([]result, len(order))
	calls := s.calls()
	var wg sync.WaitGroup
	for i, op := range order {
		wg.Go(func() {
			start := time.Now()
			err := within(t.Context(), calls[op])
			results[i] = result{op, judge(err), time.Since(start)}
			if results[i].outcome == wrong {
				t.Errorf("%s: got %v; want it right, or archive.ErrUnavailable and nothing else", op, err)
			}
			if results[i].outcome == refused && mustBeRight {
				t.Errorf("%s: refused after %s with %v; a store gets over this", op, results[i].took, err)
			}
		})
	}
	wg.Wait()
	return results
}

var errEndless = errors.New("the call did not end within its bound")

// within makes a call, and ends it when it takes too long.
func within(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, endsWithin, errEndless)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- call(ctx) }()
	select {
	case err := <-ended:
		if ctx.Err() != nil {
			return errEndless
		}
		return err
	case <-ctx.Done():
		return errEndless
	}
}

// judge says what an error of a call in trouble is worth.
func judge(err error) outcome {
	if err == nil {
		return right
	}
	if !errors.Is(err, archive.ErrUnavailable) {
		return wrong
	}
	// A failing network says nothing about objects.
	for _, verdict := range []error{
		fs.ErrExist, fs.ErrNotExist, fs.ErrInvalid, archive.ErrCorrupt, archive.ErrLocked, archive.ErrFrozen,
		errors.ErrUnsupported, context.Canceled,
	} {
		if errors.Is(err, verdict) {
			return wrong
		}
	}
	return refused
}

// checkAfter holds a store to whole objects and to working again.
func (s *sufferer) checkAfter(t *testing.T, results []result) {
	t.Helper()
	was := make(map[string]outcome)
	for _, r := range results {
		was[r.op] = r.outcome
	}
	check := func(what string, call func(context.Context) error) {
		t.Helper()
		if err := within(t.Context(), call); err != nil {
			t.Errorf("after the trouble: %s: %v", what, err)
		}
	}
	s.checkPut(t, check, "new/large", s.large, was["put 8 MB"])
	s.checkPut(t, check, "new/small", s.small, was["put 4 B"])
	check("list of the new", func(ctx context.Context) error { return s.lists(ctx, "new/", []string{"new/large", "new/small"}) })
	check("list of the old", func(ctx context.Context) error { return s.lists(ctx, "old/", s.names) })
	check("an object put over", func(ctx context.Context) error { return s.same(ctx, "old/taken", []byte("others")) })
	check("an old object", func(ctx context.Context) error { return s.same(ctx, "old/large", s.other) })
	if was["delete"] != right {
		check("second delete", s.calls()["delete"])
	}
	check("get of what was deleted", func(ctx context.Context) error {
		return wantErr(s.same(ctx, "gone/soon", nil), fs.ErrNotExist)
	})
}

func (s *sufferer) checkPut(t *testing.T, check func(string, func(context.Context) error), name string, content []byte, was outcome) {
	t.Helper()
	check("get of "+name+", which is whole or absent", func(ctx context.Context) error {
		err := s.same(ctx, name, content)
		if was != right && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	check("second put of "+name, func(ctx context.Context) error {
		err := s.Put(ctx, name, bytes.NewReader(content), archive.PutOptions{})
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err // nil is right as well: it may have taken another try, and these are our bytes
	})
	check("get of "+name, func(ctx context.Context) error { return s.same(ctx, name, content) })
}
