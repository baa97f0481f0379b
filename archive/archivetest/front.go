package archivetest

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"
)

// Front is a bad front end of an HTTP server: a handler that passes requests on,
// as they are, unless its cue has a mishap for them.
type Front struct {
	proxy  *httputil.ReverseProxy
	server *httptest.Server // nil: none was started

	mu  sync.Mutex
	cue Cue
	n   int // requests since the cue was given
}

// Cue says what happens to a request: the n-th since the cue was given, from 1. It
// is asked one request at a time, and must not read the body.
type Cue func(n int, r *http.Request) Mishap

// Mishap is what happens to a request. The zero Mishap is nothing.
type Mishap struct {
	Delay  time.Duration // before the request is passed on or, with PassOn, before the reply
	PassOn bool          // the request is passed on, and the server's reply thrown away
	Status int           // of the reply, which is the front's own; 0: see Reset and Cut
	Body   string        // of that reply; empty: an error in XML, as S3 and OSS write it
	Reset  bool          // the connection is reset
	Cut    bool          // the server's reply breaks off
	After  int64         // bytes of its body
}

// SlowDown is the reply of a service that has too much to do.
const SlowDown = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
	`<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message><RequestId>0123456789ABCDEF</RequestId><HostId>front</HostId></Error>`

// First has mishap happen to the first n requests with one of these methods, or
// with any if none is named.
func First(n int, mishap Mishap, methods ...string) Cue {
	return func(_ int, r *http.Request) Mishap {
		if n == 0 || len(methods) > 0 && !slices.Contains(methods, r.Method) {
			return Mishap{}
		}
		n--
		return mishap
	}
}

// Always has mishap happen to all requests with one of these methods, or with any
// if none is named.
func Always(mishap Mishap, methods ...string) Cue { return First(-1, mishap, methods...) }

// NewFront starts a front of the server at upstream ("127.0.0.1:9000"). It stops
// with the test.
func NewFront(t testing.TB, upstream string) *Front {
	t.Helper()
	f := &Front{proxy: passOn(upstream)}
	f.server = httptest.NewUnstartedServer(f)
	f.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.server.Start()
	t.Cleanup(func() {
		f.server.CloseClientConnections()
		f.server.Close()
	})
	return f
}

// passOn passes requests on with their host, path and query as they are: all of
// them are signed.
func passOn(upstream string) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", upstream
			r.Out.URL.RawQuery = r.In.URL.RawQuery
			r.Out.Host = r.In.Host
		},
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
	}
}

// Addr is where the front listens.
func (f *Front) Addr() string {
	address, err := url.Parse(f.server.URL)
	if err != nil {
		panic(err)
	}
	return address.Host
}

// Set gives the front a cue; nil: it passes everything on.
func (f *Front) Set(cue Cue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cue, f.n = cue, 0
}

func (f *Front) mishap(r *http.Request) Mishap {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cue == nil {
		return Mishap{}
	}
	f.n++
	return f.cue(f.n, r)
}

// ServeHTTP passes a request on, or lets happen to it what its cue says.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := f.mishap(r)
	if m.PassOn {
		f.proxy.ServeHTTP(httptest.NewRecorder(), r)
	}
	if m.Delay > 0 {
		select {
		case <-time.After(m.Delay):
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case m.Reset:
		reset(w)
	case m.Status != 0:
		m.reply(w)
	case m.Cut:
		f.proxy.ServeHTTP(&cutting{w, m.After}, r)
	case !m.PassOn:
		f.proxy.ServeHTTP(w, r)
	}
}

func (m Mishap) reply(w http.ResponseWriter) {
	if m.Body == "" {
		m.Body = SlowDown
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(m.Status)
	io.WriteString(w, m.Body)
}

func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// cutting is a reply that breaks off.
type cutting struct {
	http.ResponseWriter
	left int64
}

// WriteHeader makes sure that headers come before the cut.
func (c *cutting) WriteHeader(status int) {
	c.ResponseWriter.WriteHeader(status)
	if status >= http.StatusOK && c.left == 0 {
		c.cut()
	}
}

func (c *cutting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(int64(len(p)), c.left)])
	if c.left -= int64(n); c.left == 0 && err == nil {
		c.cut()
	}
	return n, err
}

// cut sends what was written and ends the connection.
func (c *cutting) cut() {
	http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// Unwrap is for [http.ResponseController].
func (c *cutting) Unwrap() http.ResponseWriter { return c.ResponseWriter }
