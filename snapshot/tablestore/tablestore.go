// Package tablestore reads and writes the tables of an Alibaba Cloud
// Tablestore instance: it is a [snapshot.Source] and a [snapshot.Sink].
//
// What is asked about tables (their names and split points) goes through the
// service's own SDK. What reads and writes rows goes through requests of our own,
// made of the SDK's messages and signed by its helpers, because the SDK takes no
// contexts, ignores every checksum and makes an object of every cell. So do
// describing, making and altering tables and their indexes, where it refuses or
// leaves out what the service takes and tells. Both travel through one function
// that signs, sends and checks, and one that tries again.
//
// A row is never called damaged because of how it travelled: a digest that does
// not match, an answer that stops short or a cell whose checksum is wrong is
// asked for again, and in the end is [snapshot.ErrUnavailable].
package tablestore

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// Config says where an instance is and how to speak to it. Printed or logged it
// keeps its secrets.
type Config struct {
	Endpoint string // https://demo.cn-hangzhou.ots.aliyuncs.com, without a path
	Instance string // name of the instance
	Region   string // such as cn-hangzhou. Requests are signed with V4 for it; empty: with V2

	AccessKeyID     string
	AccessKeySecret string
	SecurityToken   string // of temporary credentials, else empty

	// Insecure allows plain HTTP to a host that is not this one. Anyone on the
	// way then reads the rows.
	Insecure bool

	// HTTP sends the requests. Nil: a client with limits suited to the service,
	// which knows of no proxy.
	HTTP *http.Client

	// GiveUpAfter is how long one request is tried. One that is refused for load is
	// tried on for as long as the service lets others of its kind through. 0: five
	// minutes.
	GiveUpAfter time.Duration

	// Pace says how hard the instance is worked.
	Pace Pace

	// WriteRequests is how many requests one Write has under way. 0: four.
	WriteRequests int

	// ReadyWithin is how long is waited for the service to fill one index. 0: one
	// hour. The service names no time, which grows with the table; it goes on when
	// nobody waits.
	ReadyWithin time.Duration

	// OnWait is told while that is waited for: after a few seconds, then about
	// every ten. It may be called from several goroutines at once. Nil: nobody is
	// told.
	OnWait func(Waiting)

	// OnRetry is told of every attempt that failed and will be made again. It may
	// be called from several goroutines at once. Nil: nobody is told.
	OnRetry func(Retry)
}

// String names the instance and leaves out what is secret.
func (c Config) String() string {
	return fmt.Sprintf("tablestore.Config{Endpoint: %q, Instance: %q, Region: %q, AccessKeyID: %q, AccessKeySecret: %s, SecurityToken: %s}",
		c.Endpoint, c.Instance, c.Region, c.AccessKeyID, redact(c.AccessKeySecret), redact(c.SecurityToken))
}

// GoString is String.
func (c Config) GoString() string { return c.String() }

// LogValue is String.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

func redact(secret string) string {
	if secret == "" {
		return "none"
	}
	return "redacted"
}

// Instance is a Tablestore instance. Its methods may be called concurrently.
type Instance struct {
	endpoint, name string
	sign           signer
	http           *http.Client
	giveUpAfter    time.Duration
	writeRequests  int
	onRetry        func(Retry)
	readyWithin    time.Duration
	onWait         func(Waiting)
	preset         Preset
	pacer          pacer
	answers        sync.Pool   // *[]byte, see page
	series         listings    // of timeseries tables
	reached        atomic.Bool // whether anything ever answered
}

var (
	_ snapshot.Source = (*Instance)(nil)
	_ snapshot.Sink   = (*Instance)(nil)
)

// Open returns the instance c describes. It does not contact it.
func Open(c Config) (*Instance, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("tablestore: %w", err)
	}
	in := &Instance{
		endpoint:      strings.TrimSuffix(c.Endpoint, "/"),
		name:          c.Instance,
		sign:          newSigner(c),
		http:          httpClient(c.HTTP, c.GiveUpAfter),
		giveUpAfter:   c.GiveUpAfter,
		writeRequests: c.WriteRequests,
		onRetry:       c.OnRetry,
		readyWithin:   c.ReadyWithin,
		onWait:        c.OnWait,
		preset:        c.Pace.named(),
		pacer:         newPacer(c.Pace),
	}
	if in.giveUpAfter == 0 {
		in.giveUpAfter = 5 * time.Minute
	}
	if in.writeRequests == 0 {
		in.writeRequests = 4
	}
	if in.readyWithin == 0 {
		in.readyWithin = readyWithin
	}
	if in.onWait == nil {
		in.onWait = func(Waiting) {}
	}
	if in.onRetry == nil {
		in.onRetry = func(Retry) {}
	}
	return in, nil
}

// Instance names the instance, without credentials.
func (in *Instance) Instance() manifest.Instance {
	return manifest.Instance{Endpoint: in.endpoint, Name: in.name}
}

// String names the instance, without credentials.
func (in *Instance) String() string { return "tablestore instance " + in.name + " at " + in.endpoint }

// GoString is String.
func (in *Instance) GoString() string { return in.String() }

func (c Config) check() error {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" {
		return errors.New("the endpoint is not an address like https://demo.cn-hangzhou.ots.aliyuncs.com")
	}
	if u.User != nil {
		return errors.New("the endpoint holds credentials; they belong in the settings of the access key")
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("endpoint %s://%s has something after the host", u.Scheme, u.Host)
	}
	if err := checkScheme(u, c.Insecure); err != nil {
		return err
	}
	switch {
	case c.Instance == "":
		return errors.New("no instance is named")
	case c.AccessKeyID == "":
		return errors.New("no access key id is given")
	case c.AccessKeySecret == "":
		return errors.New("no access key secret is given")
	case !headerSafe(c.Instance, c.Region, c.AccessKeyID, c.SecurityToken):
		return errors.New("the instance, the region or a credential has a character that cannot be sent; is there a line break at its end?")
	case c.GiveUpAfter < 0 || c.WriteRequests < 0 || c.ReadyWithin < 0:
		return errors.New("a limit is negative")
	}
	return c.Pace.check()
}

func checkScheme(u *url.URL, insecure bool) error {
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		if insecure || loopback(u.Hostname()) {
			return nil
		}
		return fmt.Errorf("http to %s would send every row in the clear; use https, or allow it with insecure=true", u.Hostname())
	}
	return fmt.Errorf("scheme %q is neither https nor http", u.Scheme)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func headerSafe(values ...string) bool {
	for _, v := range values {
		for _, b := range []byte(v) {
			if b <= ' ' || b > '~' {
				return false
			}
		}
	}
	return true
}

func httpClient(given *http.Client, giveUpAfter time.Duration) *http.Client {
	client := &http.Client{Transport: newTransport(giveUpAfter)}
	if given != nil {
		copied := *given
		client = &copied
	}
	// A signature is for one host; it does not follow a redirect to another.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client
}

// newTransport returns one that waits for an answer no longer than a request is
// tried; 0: a minute.
func newTransport(giveUpAfter time.Duration) *http.Transport {
	silence := time.Minute
	if giveUpAfter > 0 {
		silence = min(silence, giveUpAfter)
	}
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: silence,
		IdleConnTimeout:       25 * time.Second, // the SDK's own choice for this service
		MaxIdleConnsPerHost:   256,
		DisableCompression:    true,
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
	}
}
