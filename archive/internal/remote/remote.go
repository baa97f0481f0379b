// Package remote is what stores behind a network have in common: connections
// that do not hang, retries with back-off, and bodies that go on where they broke
// off.
package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/otsnap/otsnap/archive"
)

// Times a store works with unless told otherwise.
const (
	// GiveUpAfter is how long one request is tried.
	GiveUpAfter = 5 * time.Minute
	// Idle is how long a connection may stand still: a server, or a network, that
	// says nothing for so long is taken for gone.
	Idle = time.Minute
)

// Back-off between tries: random up to a bound that doubles.
const (
	firstWait = 100 * time.Millisecond
	maxWait   = 20 * time.Second
)

// Transport returns a transport on whose connections something moves at least
// every idle, or they fail. It takes proxies from the environment.
func Transport(idle time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: min(idle, 15*time.Second), KeepAlive: 30 * time.Second}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &watched{conn, idle}, nil
	}
	t.TLSHandshakeTimeout = min(idle, 15*time.Second)
	t.MaxIdleConnsPerHost = 64
	t.IdleConnTimeout = idle
	// Of HTTP/2, one stream that stands still would look like all of them moving.
	// The clone has taken over that it is offered to servers.
	t.ForceAttemptHTTP2 = false
	t.TLSClientConfig = &tls.Config{NextProtos: []string{"http/1.1"}}
	t.DisableCompression = true // bodies are compressed already, and their sizes count
	return t
}

// maxRefusal is more than the longest answer that is no success, in bytes.
const maxRefusal = 64 << 10

// Bounded cuts answers that are no success after 64 KiB: SDKs read them into
// memory, as long as they are. It masks the credentials of the request in them:
// there are proxies that tell a request back in their page of an error, and errors
// are printed.
type Bounded struct{ http.RoundTripper }

// RoundTrip makes a request.
func (b Bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil || resp.StatusCode/100 == 2 {
		return resp, err
	}
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	rest := io.Reader(bytes.NewReader(masked(said, r.Header)))
	if err != nil {
		rest = io.MultiReader(rest, failed{err})
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{rest, resp.Body}
	return resp, nil
}

// failed is what cannot be read.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }

// masked returns text with asterisks for the credentials in the headers of a
// request. Its length stays what was announced.
func masked(text []byte, h http.Header) []byte {
	for _, name := range []string{"Authorization", "X-Amz-Security-Token", "X-Oss-Security-Token"} {
		secret := h.Get(name)
		if secret == "" {
			continue
		}
		for _, spelling := range []string{secret, html.EscapeString(secret), url.QueryEscape(secret), url.PathEscape(secret)} {
			text = bytes.ReplaceAll(text, []byte(spelling), bytes.Repeat([]byte("*"), len(spelling)))
		}
	}
	return text
}

// watched is a connection that fails when it stands still.
type watched struct {
	net.Conn
	idle time.Duration
}

func (c *watched) Read(p []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *watched) Write(p []byte) (int, error) {
	// While a body is sent, nothing is read: the reply has its time from here on.
	if err := c.Conn.SetDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Retry says how requests are repeated.
type Retry struct {
	GiveUpAfter time.Duration        // since the first try; 0: [GiveUpAfter]
	OnRetry     func(reason error)   // told before each wait; may be nil
	Temporary   func(err error) bool // whether another try may end otherwise
}

// Do calls try until it succeeds, fails for good, or the time is up; the error is
// then that of the last try. try is told which one it is, from 1. When ctx is
// done, the error is its own.
func (r Retry) Do(ctx context.Context, try func(n int) error) error {
	limit := r.limit()
	deadline := time.Now().Add(limit)
	for n := 1; ; n++ {
		err := try(n)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !r.Temporary(err) {
			return err
		}
		wait := time.Duration(rand.Int64N(int64(bound(n)))) + firstWait/4
		if time.Now().Add(wait).After(deadline) {
			return fmt.Errorf("gave up after %d tries in %s: %w", n, limit, err)
		}
		if r.OnRetry != nil {
			r.OnRetry(err)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func (r Retry) limit() time.Duration {
	if r.GiveUpAfter <= 0 {
		return GiveUpAfter
	}
	return r.GiveUpAfter
}

// bound is the longest wait after the n-th try.
func bound(n int) time.Duration { return min(firstWait<<min(n-1, 16), maxWait) }

func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Unavailable marks an error as one of the store, not of the object; nil stays
// nil, and the error of ctx is itself.
func Unavailable(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, archive.ErrUnavailable):
		return err
	}
	return fmt.Errorf("%w: %w", err, archive.ErrUnavailable)
}
