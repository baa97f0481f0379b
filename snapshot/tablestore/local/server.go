// Package local is a Tablestore for one machine: an [http.Handler] that speaks
// the service's protocol well enough for the official SDKs to use unchanged,
// and keeps its tables in Pebble, in a directory or in memory.
//
// It holds to the service's rules, so that what works here works there: limits,
// cell versions and their deviation, time to live, AUTO_INCREMENT columns,
// conditions, secondary indexes, the schemas of search indexes, streams, timeseries
// tables, capacity units, signatures and checksums. What it cannot do it
// refuses with an error of the service's kind. A write that was acknowledged is
// there after a kill at any moment.
//
// It can also be told to misbehave, see [Fault], and tells where its tables were
// written, see [Server.Writes].
package local

import (
	"cmp"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

// DefaultAccessKeyID and DefaultAccessKeySecret are the only access key of a
// server opened without others.
const (
	DefaultAccessKeyID     = "local"
	DefaultAccessKeySecret = "local"
)

// Options is how to open a server. The zero value keeps everything in memory.
type Options struct {
	Dir   string            // where tables are kept; "": in memory, until Close
	Keys  map[string]string // access key secrets by id; nil: the default key
	Clock func() time.Time  // nil: time.Now
	Seed  uint64            // of the dice that say which requests meet a fault

	// IndexBuild is how long an index made for rows that are there already is
	// said to be in its phase FULL, and its table not ready to be read. 0: it
	// is built before CreateIndex is answered.
	IndexBuild time.Duration

	// PartitionWrites is how many write capacity units a partition of a table
	// takes within a second; further rows in that second are answered
	// OTSServerBusy. 0: no limit. A table is one partition until
	// [Server.Partition] cuts it.
	PartitionWrites int64

	// TableOps is how many operations that make, change or delete tables and
	// indexes an instance takes within a second; the service takes 10. 0: no
	// limit.
	TableOps int

	// ShardRecords is how many records a shard of a stream takes before it
	// splits where its rows are halved; 0: 100,000.
	ShardRecords int

	// Generated are tables there are beside those that are kept.
	Generated []Generated
}

const defaultShardRecords = 100_000

// Server is a Tablestore. Instances come to be when they are first named. Its
// methods may be called concurrently.
type Server struct {
	keys    map[string]string
	clock   func() time.Time
	durable *pebble.WriteOptions
	rows    *rowLocks
	faults  *faults
	buffers sync.Pool // *[]byte, for the responses of scans
	build   time.Duration
	feed    *feed
	loads   *loads
	ops     int // see [Options.TableOps]

	// mu is held shared by every operation but those that change tables, which
	// thereby wait for the writes to what they change and have it exclusively.
	mu     sync.RWMutex
	db     *pebble.DB // nil once closed
	tables catalog
	series map[string]map[string]*seriesTable // by instance and name
	nextID uint64
	recent map[string][]time.Time // by instance: when the last of the limited operations began

	increments sync.Mutex
	increment  int64 // the last AUTO_INCREMENT value
	reserved   int64 // values up to here are given out by this process alone
}

// Open opens a server. A directory is made if there is none and can be open in
// one server at a time.
func Open(o Options) (*Server, error) {
	if o.IndexBuild < 0 || o.ShardRecords < 0 || o.PartitionWrites < 0 || o.TableOps < 0 {
		return nil, errors.New("local: open: times and numbers in the options cannot be negative")
	}
	s := &Server{
		keys:    o.Keys,
		clock:   o.Clock,
		durable: pebble.Sync,
		rows:    newRowLocks(),
		build:   o.IndexBuild,
		feed:    &feed{crowd: int64(cmp.Or(o.ShardRecords, defaultShardRecords))},
		loads:   newLoads(o.PartitionWrites),
		ops:     o.TableOps,
		recent:  map[string][]time.Time{},
		buffers: sync.Pool{New: func() any { return new([]byte) }},
	}
	if s.keys == nil {
		s.keys = map[string]string{DefaultAccessKeyID: DefaultAccessKeySecret}
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	s.faults = newFaults(o.Seed, s.clock)
	if o.Dir == "" {
		s.durable = pebble.NoSync
	}
	var err error
	if s.db, err = openDB(o.Dir); err != nil {
		return nil, fmt.Errorf("local: open %s: %w", o.Dir, err)
	}
	if err := errors.Join(s.load(), s.generate(o.Generated)); err != nil {
		return nil, errors.Join(fmt.Errorf("local: open %s: %w", o.Dir, err), s.db.Close())
	}
	return s, nil
}

func (s *Server) load() (err error) {
	if s.tables, err = loadCatalog(s.db); err != nil {
		return err
	}
	if err = s.loadSeriesTables(); err != nil {
		return err
	}
	if s.nextID, err = loadCounter(s.db, prefixNextID); err != nil {
		return err
	}
	reserved, err := loadCounter(s.db, prefixIncrement)
	s.increment, s.reserved = int64(reserved), int64(reserved)
	if err != nil {
		return err
	}
	return s.loadStreams()
}

// Close waits for the requests under way and closes the database. Requests after
// it are answered with an error.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	err := s.db.Close()
	s.db = nil
	if err != nil {
		return fmt.Errorf("local: close: %w", err)
	}
	return nil
}

// now is the version a cell written without one gets: milliseconds since 1970.
func (s *Server) now() int64 { return s.clock().UnixMilli() }

// request is a request past its checks.
type request struct {
	action   string
	instance string
	keyID    string
	secret   string
	body     []byte
}

// reply is the body of an answer. A pooled buffer goes back when it is sent.
type reply struct {
	body   []byte
	pooled *[]byte
}

// ServeHTTP answers one request of the protocol.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, err := s.accept(w, r)
	if err != nil {
		s.sendError(w, req, err)
		return
	}
	s.answer(w, req)
}

// accept reads and authenticates a request. The request it returns with an
// error is good for signing the answer, no more.
func (s *Server) accept(w http.ResponseWriter, r *http.Request) (request, error) {
	req := request{
		action:   strings.TrimPrefix(r.URL.Path, "/"),
		instance: r.Header.Get(headerInstance),
		keyID:    r.Header.Get(headerKeyID),
	}
	if r.Method != http.MethodPost {
		return req, &serviceError{http.StatusMethodNotAllowed, "OTSMethodNotAllowed", "Only POST method for requests is supported."}
	}
	var err error
	if req.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return req, &serviceError{http.StatusRequestEntityTooLarge, "OTSRequestBodyTooLarge", "The size of POST data is too large."}
		}
		return req, &serviceError{http.StatusRequestTimeout, "OTSRequestTimeout", "Request timeout."}
	}
	if req.secret, err = s.authenticate(r, req.body); err != nil {
		return req, err
	}
	return req, checkInstanceName(req.instance)
}

// answer does what a request asks for and sends what came of it, unless it meets
// a fault.
func (s *Server) answer(w http.ResponseWriter, req request) {
	fault := s.faults.next(req.action)
	if fault.Kind == FaultCutBefore {
		cut()
	}
	rep, err := reply{}, fault.refusal()
	if err == nil {
		rep, err = s.do(req, fault)
	}
	if rep.pooled != nil {
		defer s.buffers.Put(rep.pooled)
	}
	if err == nil && fault.Kind == FaultCorrupt {
		rep.body, err = s.faults.corrupt(req.action, rep.body)
	}
	switch fault.Kind {
	case FaultTimeout:
		err = errTimeout()
	case FaultCutAfter:
		cut()
	}
	if err != nil {
		s.sendError(w, req, err)
		return
	}
	s.setHeaders(w.Header(), req, rep.body)
	switch fault.Kind {
	case FaultFlip:
		rep.body = s.faults.flipBit(rep.body)
	case FaultTruncate:
		// The error of a client that has gone is of no use here or below.
		_, _ = w.Write(rep.body[:len(rep.body)/2])
		_ = http.NewResponseController(w).Flush()
		cut()
	}
	_, _ = w.Write(rep.body)
}

func (s *Server) sendError(w http.ResponseWriter, req request, err error) {
	e := asServiceError(err)
	// Marshalling fails for missing fields only, and none is.
	body, _ := proto.Marshal(e.proto())
	s.setHeaders(w.Header(), req, body)
	w.WriteHeader(e.status)
	_, _ = w.Write(body) // a client that has gone is not an error of the server
}

// setHeaders sets what clients check of an answer.
func (s *Server) setHeaders(h http.Header, req request, body []byte) {
	sum := md5.Sum(body)
	h.Set(headerRequestID, requestID())
	h.Set(headerMD5, base64.StdEncoding.EncodeToString(sum[:]))
	h.Set(headerContentType, "protocol buffer")
	h.Set(headerDate, s.clock().UTC().Format("2006-01-02T15:04:05.000Z"))
	if req.secret != "" {
		signResponse(h, req.keyID, req.secret, "/"+req.action)
	}
	h["Content-Type"] = nil
	h.Set("Content-Length", strconv.Itoa(len(body)))
}

func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
