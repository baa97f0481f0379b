package tablestore

import (
	"context"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// pacer has a lane for each kind of request.
type pacer struct{ reads, writes, control *lane }

func newPacer(p Pace) pacer {
	return pacer{
		reads:   newLane(tempers[p.named()], p.ReadUnits, p.Bytes),
		writes:  newLane(tempers[p.named()], p.WriteUnits, p.Bytes),
		control: newLane(unbounded, 0, 0),
	}
}

func (p pacer) lane(action string) *lane {
	switch {
	case isRead(action):
		return p.reads
	case isWrite(action):
		return p.writes
	}
	return p.control
}

// lane lets requests pass. See [Pace] for how it finds out how many at once.
type lane struct {
	temper       temper
	units, bytes *bucket

	mu       sync.Mutex
	limit    float64         // requests at once
	flying   int             // requests under way, and idle
	idle     int             // places kept empty for a while, see end
	waiting  []chan struct{} // those that want to be, in their order; closed to let one pass
	round    round
	shortest [32]shortest  // time of an answer, by the logarithm of its size
	usual    time.Duration // an answer takes lately, on average
	read     cost          // what reads cost, likewise
	through  time.Time     // when something last got through
	told     PacedLane
	second   rate
}

func newLane(t temper, units, bytes float64) *lane {
	return &lane{temper: t, units: newBucket(units), bytes: newBucket(bytes), limit: t.first}
}

// round is what has been seen of the requests begun since the limit was last
// looked at.
type round struct {
	number  int
	answers int
	refused float64 // of the answers, by the share of their rows
	good    int     // of the answers, with nothing refused
	slow    int     // of the good ones
	peak    int     // most requests at once
	full    bool    // one waited for another to end
	metered bool    // one waited for a hard limit
}

// turn is one request's leave to be sent.
type turn struct {
	lane     *lane
	request  request
	round    int
	begun    time.Time
	expected cost
}

// begin waits until the request may be sent. It returns the cause when ctx ends
// before that.
func (l *lane) begin(ctx context.Context, r request) (*turn, error) {
	asked := time.Now()
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	entered := time.Now()
	t := &turn{lane: l, request: r, expected: l.expect(r)}
	forUnits, forBytes, err := l.pay(ctx, t.expected)
	if r.trial != nil {
		r.trial.queued += entered.Sub(asked)
		r.trial.held += forUnits + forBytes
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told.Waited.Units += forUnits.Seconds()
	l.told.Waited.Bytes += forBytes.Seconds()
	if err != nil {
		l.leave()
		return nil, err
	}
	l.told.Requests++
	l.round.metered = l.round.metered || forUnits+forBytes > 0
	t.begun, t.round = time.Now(), l.round.number
	return t, nil
}

// expect says what a request will cost.
func (l *lane) expect(r request) cost {
	if l.units == nil && l.bytes == nil {
		return cost{}
	}
	if isWrite(r.action) {
		return writeCost(r)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read
}

// pay waits until the cost is within the hard limits.
func (l *lane) pay(ctx context.Context, c cost) (forUnits, forBytes time.Duration, err error) {
	if forUnits, err = l.units.take(ctx, c.units); err != nil {
		return forUnits, 0, err
	}
	if forBytes, err = l.bytes.take(ctx, c.bytes); err != nil {
		l.units.spend(-c.units)
	}
	return forUnits, forBytes, err
}

// enter waits until there is room for one more request.
func (l *lane) enter(ctx context.Context) error {
	l.mu.Lock()
	if len(l.waiting) == 0 && float64(l.flying) < l.limit {
		l.fly()
		l.mu.Unlock()
		return nil
	}
	l.round.full = true
	pass := make(chan struct{})
	l.waiting = append(l.waiting, pass)
	l.mu.Unlock()

	begun := time.Now()
	var err error
	select {
	case <-pass:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told.Waited.Turn += time.Since(begun).Seconds()
	if err == nil {
		return nil
	}
	if i := slices.Index(l.waiting, pass); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	} else {
		l.leave() // it was let pass in the same moment
	}
	return err
}

func (l *lane) fly() {
	if l.flying == 0 {
		l.second.wake(time.Now())
	}
	l.flying++
	l.round.peak = max(l.round.peak, l.flying-l.idle)
	l.told.AtOnce.Highest = max(l.told.AtOnce.Highest, l.flying-l.idle)
}

// leave ends a request and lets those pass that there is room for.
func (l *lane) leave() {
	l.flying--
	for len(l.waiting) > 0 && float64(l.flying) < l.limit {
		close(l.waiting[0])
		l.waiting = l.waiting[1:]
		l.fly()
	}
}

// end tells the lane what came of the request.
func (t *turn) end(answer []byte, err error) {
	l, o := t.lane, outcomeOf(t.request.action, answer, err)
	size := len(t.request.body) + len(answer)
	actual := t.settle(o, size, len(answer))
	now := time.Now()
	took := now.Sub(t.begun)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.told.count(o, size)
	l.second.count(now)
	local := o.share == 1 && t.request.trial.overtaken(l.through)
	if o.answered && o.share < 1 {
		l.through = now
		l.read = l.read.toward(actual)
	}
	if o.answered && t.round == l.round.number && !local {
		l.judge(o, size, took, now)
	}
	if pause := min(l.usual, longWait) - took; o.share == 1 && pause > 0 {
		// Refusals come quickly. If each made room for the next request at once, far
		// more would be refused than answered.
		l.idle++
		time.AfterFunc(pause, l.leaveLate)
		return
	}
	if o.answered {
		l.usual += (took - l.usual) / averaged
	}
	l.leave()
}

func (l *lane) leaveLate() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle--
	l.leave()
}

// settle corrects what was taken out of the buckets, and returns the cost. What
// is not known, because no answer came or it does not tell, stays as expected.
func (t *turn) settle(o outcome, size, received int) cost {
	actual := t.expected
	if o.answered {
		actual.bytes = float64(size)
	}
	switch {
	case !o.answered:
	case o.share == 1:
		actual.units = 0 // a refusal is for free
	case isWrite(t.request.action):
		if o.write > 0 {
			actual.units = o.write
		}
	case o.read > 0:
		actual.units = o.read
	default:
		actual.units = units(received)
	}
	t.lane.units.spend(actual.units - t.expected.units)
	t.lane.bytes.spend(actual.bytes - t.expected.bytes)
	return actual
}

// judge adds an answer to the round, and ends the round when it has as many as
// there were requests at once.
func (l *lane) judge(o outcome, size int, took time.Duration, now time.Time) {
	r := &l.round
	r.answers++
	r.refused += o.share
	if o.share == 0 {
		r.good++
		least := l.shortest[min(bits.Len(uint(size)), len(l.shortest)-1)].note(took, now)
		if p := l.temper.patience; p > 0 && took > time.Duration(p*float64(least))+l.temper.grace {
			r.slow++
		}
	}
	if float64(r.answers) < min(float64(r.peak), l.limit) {
		return
	}
	l.adjust()
	l.round = round{number: r.number + 1, peak: l.flying - l.idle - 1}
}

// adjust sets the limit after a round. What is cut is cut off what was used: a
// limit above that has not been tried.
func (l *lane) adjust() {
	r, before := l.round, l.limit
	cut := func(part float64) {
		used := min(l.limit, float64(r.peak))
		l.limit = max(l.temper.least, used*(1-part))
	}
	switch {
	case r.refused > 0:
		if cut(min(mostCut, l.temper.refused*r.refused/float64(r.answers))); l.limit < before {
			l.told.Slowed++
		}
	case 2*r.slow > r.good:
		if cut(l.temper.slow); l.limit < before {
			l.told.Eased++
		}
	case r.full && !r.metered:
		l.limit = min(l.temper.most, l.limit+1)
	}
	if held := l.limit < before || r.refused > 0; held && (l.told.AtOnce.Lowest == 0 || int(l.limit) < l.told.AtOnce.Lowest) {
		l.told.AtOnce.Lowest = int(l.limit)
	}
}

// lastThrough is when something last got through, the zero time if nothing did.
func (l *lane) lastThrough() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.through
}

// refusedFor notes that a request waits, because it was refused for load.
func (l *lane) refusedFor(wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told.Waited.Refused += wait.Seconds()
}

// shortest is the shortest time in a window of 30 to 60 seconds.
type shortest struct {
	now, before time.Duration // of the half under way and the one before; 0: none
	since       time.Time     // the half is under way
}

const halfWindow = 30 * time.Second

// note adds a time and returns the shortest.
func (s *shortest) note(took time.Duration, now time.Time) time.Duration {
	if age := now.Sub(s.since); age >= halfWindow {
		s.before, s.now, s.since = s.now, 0, now
		if age >= 2*halfWindow {
			s.before = 0
		}
	}
	if s.now == 0 || took < s.now {
		s.now = took
	}
	if s.before > 0 {
		return min(s.now, s.before)
	}
	return s.now
}
