package local

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// FaultKind is a way to go wrong.
type FaultKind string

// Nothing has been done for a request that meets one of these.
const (
	FaultBusy        FaultKind = "busy"         // 503 OTSServerBusy
	FaultUnavailable FaultKind = "unavailable"  // 503 OTSPartitionUnavailable
	FaultInternal    FaultKind = "internal"     // 500 OTSInternalServerError
	FaultNotReady    FaultKind = "not-ready"    // 404 OTSTableNotReady
	FaultTooFrequent FaultKind = "too-frequent" // 403 OTSQuotaExhausted, as for table operations in a row
	FaultCutBefore   FaultKind = "cut-before"   // the connection is cut
)

// The request has been carried out all the same when one of these meets the
// answer.
const (
	FaultTimeout  FaultKind = "timeout"   // 503 OTSTimeout
	FaultCutAfter FaultKind = "cut-after" // the connection is cut before the answer
	FaultTruncate FaultKind = "truncate"  // the connection is cut in the middle of the answer
	FaultFlip     FaultKind = "flip"      // one bit of the body is wrong; its MD5 header tells
	FaultCorrupt  FaultKind = "corrupt"   // one bit of a cell is wrong; only the checksum in the row tells
)

// These are answers a client must be ready for, of a BatchWriteRow or a
// PutTimeseriesData, or of what reads page by page.
const (
	FaultRows        FaultKind = "rows"         // batches: some rows fail with OTSServerBusy, not written
	FaultRowsTimeout FaultKind = "rows-timeout" // batches: some rows fail with OTSTimeout, written nevertheless
	FaultEachRow     FaultKind = "each-row"     // batches: each row may by itself fail with OTSServerBusy, not written
	FaultEmptyPage   FaultKind = "empty-page"   // pages: no rows, but a key or token to go on from
)

// defaultFaultRows is the share of rows that fail when a fault names none, and
// the probability that one does.
const defaultFaultRows = 0.5

// Fault says which requests go wrong, and how.
type Fault struct {
	Action      string // the operation, such as "GetRange"; "": every one the kind applies to
	Kind        FaultKind
	Probability float64 // that a request meets the fault; 0: each does
	After       int     // so many requests go right first
	Times       int     // so many requests meet the fault; 0: no limit

	// For is how long trouble lasts by the server's clock: from the first request
	// that meets the fault on, every one it applies to does, and none after. 0:
	// each request by itself.
	For time.Duration

	// Rows is the share of a batch's rows that fail, at least one row; of
	// [FaultEachRow] the probability that a row does. 0: a half.
	Rows float64
}

// FaultSyntax is what [ParseFault] reads, for people.
const FaultSyntax = "action:kind[:probability][:times=N][:after=N][:for=TIME][:rows=SHARE]"

// ParseFault reads a fault as a command line gives it: an action or *, a kind,
// and then in any order a probability, times=N, after=N, for=TIME and rows=SHARE,
// between colons, as in BatchWriteRow:busy:0.01:after=10 or *:busy:for=60s.
func ParseFault(text string) (Fault, error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 {
		return Fault{}, fmt.Errorf("local: fault %q: want %s", text, FaultSyntax)
	}
	f := Fault{Action: parts[0], Kind: FaultKind(parts[1])}
	if f.Action == "*" {
		f.Action = ""
	}
	for _, part := range parts[2:] {
		if err := f.set(part); err != nil {
			return Fault{}, fmt.Errorf("local: fault %q: %w", text, err)
		}
	}
	return f, f.check()
}

func (f *Fault) set(part string) (err error) {
	name, text, named := strings.Cut(part, "=")
	switch {
	case !named:
		f.Probability, err = strconv.ParseFloat(part, 64)
	case name == "times":
		f.Times, err = strconv.Atoi(text)
	case name == "after":
		f.After, err = strconv.Atoi(text)
	case name == "for":
		f.For, err = time.ParseDuration(text)
	case name == "rows":
		f.Rows, err = strconv.ParseFloat(text, 64)
	default:
		err = fmt.Errorf("unknown setting %q", name)
	}
	return err
}

// check refuses a fault that could never be met.
func (f Fault) check() error {
	actions, known := faultActions[f.Kind]
	_, served := operations[f.Action]
	switch {
	case !known:
		return fmt.Errorf("local: unknown kind of fault %q", f.Kind)
	case f.Action != "" && !served:
		return fmt.Errorf("local: fault %s: unknown action %q", f.Kind, f.Action)
	case f.Action != "" && actions != nil && !slices.Contains(actions, f.Action):
		return fmt.Errorf("local: fault %s: does not apply to %s", f.Kind, f.Action)
	case !(f.Probability >= 0 && f.Probability <= 1):
		return fmt.Errorf("local: fault %s: probability %v is not between 0 and 1", f.Kind, f.Probability)
	case !(f.Rows >= 0 && f.Rows <= 1):
		return fmt.Errorf("local: fault %s: share of rows %v is not between 0 and 1", f.Kind, f.Rows)
	case f.After < 0 || f.Times < 0:
		return fmt.Errorf("local: fault %s: a negative number of requests", f.Kind)
	case f.For < 0:
		return fmt.Errorf("local: fault %s: a negative time", f.Kind)
	}
	return nil
}

// faultActions are the operations a kind applies to, nil for all.
var faultActions = map[FaultKind][]string{
	FaultBusy:        nil,
	FaultUnavailable: nil,
	FaultInternal:    nil,
	FaultNotReady:    nil,
	FaultTooFrequent: nil,
	FaultCutBefore:   nil,
	FaultTimeout:     nil,
	FaultCutAfter:    nil,
	FaultTruncate:    nil,
	FaultFlip:        nil,
	FaultCorrupt:     {"GetRow", "BatchGetRow", "GetRange", "GetStreamRecord", "GetTimeseriesData"},
	FaultRows:        {"BatchWriteRow", "PutTimeseriesData"},
	FaultRowsTimeout: {"BatchWriteRow", "PutTimeseriesData"},
	FaultEachRow:     {"BatchWriteRow", "PutTimeseriesData"},
	FaultEmptyPage:   {"GetRange", "GetTimeseriesData", "QueryTimeseriesMeta"},
}

func (f Fault) appliesTo(action string) bool {
	if f.Action != "" {
		return f.Action == action
	}
	actions := faultActions[f.Kind]
	return actions == nil || slices.Contains(actions, action)
}

// Misbehave makes the requests that follow meet faults, in place of those set
// before; without any the server behaves again. A request meets at most one
// fault, the first that fires. The same seed and the same requests in the same
// order meet the same faults.
func (s *Server) Misbehave(list ...Fault) error {
	for _, f := range list {
		if err := f.check(); err != nil {
			return err
		}
	}
	s.faults.set(list)
	return nil
}

// faults decides which requests go wrong.
type faults struct {
	clock func() time.Time

	mu   sync.Mutex
	dice *rand.Rand
	list []armedFault
}

type armedFault struct {
	Fault
	seen  int       // requests it applies to
	met   int       // of which it met
	since time.Time // when it met the first
}

func newFaults(seed uint64, clock func() time.Time) *faults {
	return &faults{clock: clock, dice: rand.New(rand.NewPCG(seed, seed))}
}

func (f *faults) set(list []Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
	for _, fault := range list {
		f.list = append(f.list, armedFault{Fault: fault})
	}
}

// next returns the fault a request meets, the zero Fault for none.
func (f *faults) next(action string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.list {
		if a := &f.list[i]; a.appliesTo(action) && a.fires(f.dice, f.clock()) {
			return a.Fault
		}
	}
	return Fault{}
}

func (a *armedFault) fires(dice *rand.Rand, now time.Time) bool {
	if a.seen++; a.seen <= a.After || a.Times > 0 && a.met >= a.Times {
		return false
	}
	switch lasting := a.For > 0 && a.met > 0; {
	case lasting && now.Sub(a.since) >= a.For:
		return false
	case !lasting && a.Probability > 0 && dice.Float64() >= a.Probability:
		return false
	}
	if a.met == 0 {
		a.since = now
	}
	a.met++
	return true
}

// pick returns a number below n.
func (f *faults) pick(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dice.IntN(n)
}

// rows chooses which of n rows a fault makes fail.
func (f *faults) rows(fault Fault, n int) map[int]bool {
	share := cmp.Or(fault.Rows, defaultFaultRows)
	chosen := map[int]bool{}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch fault.Kind {
	case FaultRows, FaultRowsTimeout:
		for _, i := range f.dice.Perm(n)[:min(n, max(1, int(share*float64(n))))] {
			chosen[i] = true
		}
	case FaultEachRow:
		for i := range n {
			if f.dice.Float64() < share {
				chosen[i] = true
			}
		}
	}
	return chosen
}

// refusal is the error a fault answers with in place of doing anything.
func (f Fault) refusal() error {
	switch f.Kind {
	case FaultBusy:
		return &serviceError{http.StatusServiceUnavailable, "OTSServerBusy", "Server is busy."}
	case FaultUnavailable:
		return &serviceError{http.StatusServiceUnavailable, "OTSPartitionUnavailable", "The partition is not available."}
	case FaultInternal:
		return &serviceError{http.StatusInternalServerError, "OTSInternalServerError", "Internal server error."}
	case FaultNotReady:
		return errNotReady()
	case FaultTooFrequent:
		return &serviceError{http.StatusForbidden, "OTSQuotaExhausted", "Too frequent table operations."}
	}
	return nil
}

func errTimeout() error {
	return &serviceError{http.StatusServiceUnavailable, "OTSTimeout", "Operation timeout."}
}

// cut ends the connection. Panicking so is how net/http wants it done.
func cut() { panic(http.ErrAbortHandler) }

// flipBit returns body with one bit wrong.
func (f *faults) flipBit(body []byte) []byte {
	if len(body) == 0 {
		return body
	}
	body = slices.Clone(body)
	i := f.pick(len(body) * 8)
	body[i/8] ^= 1 << (i % 8)
	return body
}

// corrupt returns the body of a read with one bit of one value wrong. A body
// without rows stays as it is.
func (f *faults) corrupt(action string, body []byte) ([]byte, error) {
	var answer proto.Message
	var rows func() [][]byte
	switch action {
	case "GetRow":
		m := new(otsprotocol.GetRowResponse)
		answer, rows = m, func() [][]byte { return [][]byte{m.Row} }
	case "GetRange":
		m := new(otsprotocol.GetRangeResponse)
		answer, rows = m, func() [][]byte { return [][]byte{m.Rows} }
	case "GetStreamRecord":
		m := new(otsprotocol.GetStreamRecordResponse)
		answer, rows = m, func() [][]byte { return recordRows(m) }
	case "GetTimeseriesData":
		m := new(otsprotocol.GetTimeseriesDataResponse)
		answer, rows = m, func() [][]byte { return [][]byte{m.RowsData} }
	default:
		m := new(otsprotocol.BatchGetRowResponse)
		answer, rows = m, func() [][]byte { return batchRows(m) }
	}
	if err := proto.Unmarshal(body, answer); err != nil {
		return nil, err
	}
	if err := f.corruptValue(rows()); err != nil {
		return nil, err
	}
	return proto.Marshal(answer)
}

func batchRows(m *otsprotocol.BatchGetRowResponse) (rows [][]byte) {
	for _, table := range m.Tables {
		for _, r := range table.Rows {
			rows = append(rows, r.Row)
		}
	}
	return rows
}

func recordRows(m *otsprotocol.GetStreamRecordResponse) (rows [][]byte) {
	for _, r := range m.StreamRecords {
		rows = append(rows, r.Record, r.OriginRecord)
	}
	return rows
}

// corruptValue turns, in place, one bit of one of the values in the buffers.
func (f *faults) corruptValue(buffers [][]byte) error {
	var values []value
	for _, buf := range buffers {
		for wire := buf[min(len(buf), 4):]; len(wire) > 0; {
			var r row
			var err error
			if wire, err = parseRow(wire, &r); err != nil {
				return err
			}
			for _, c := range slices.Concat(r.key, r.cells) {
				if n := c.value.size(); n > 0 {
					values = append(values, c.value[len(c.value)-n:])
				}
			}
		}
	}
	if len(values) == 0 {
		return nil
	}
	v := values[f.pick(len(values))]
	i := f.pick(len(v) * 8)
	v[i/8] ^= 1 << (i % 8)
	return nil
}
