package rfc3161

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// ErrUnavailable is wrapped when no TSA answered: it says nothing about what was to
// be stamped.
var ErrUnavailable = errors.New("time-stamping authority unavailable")

const (
	giveUpAfter = 5 * time.Minute
	oneTry      = 30 * time.Second
	firstPause  = 200 * time.Millisecond
	longPause   = 10 * time.Second
	redirects   = 5
)

// Client asks TSAs over HTTP.
type Client struct {
	Roots       *x509.CertPool // as in Want
	GiveUpAfter time.Duration  // since the first try, when all that can be asked again were busy or away; 0: 5 minutes
	OnRetry     func(error)    // told why it asks again; may be nil
}

// Answer is a good time stamp.
type Answer struct {
	Stamp
	URL  string // of the TSA, without a query
	Data []byte // the whole answer in DER
}

// CheckURL refuses what is no address of a TSA: http and https are, without a user's
// name or password.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no address", address)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%q is no address of a TSA; they begin with http:// or https://", address)
	case u.User != nil:
		return fmt.Errorf("the address of a TSA with a user or a password in it: others on this machine could read it")
	}
	return nil
}

// name is an address without what may be secret in it.
func name(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "a TSA"
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// Stamp asks the TSAs in turn for a time stamp over a SHA-256, until one answers with
// a good one. A TSA that refuses, or answers something else, is not asked again; one
// that is busy or away is, after the others, until GiveUpAfter. No answer at all is
// ErrUnavailable, or the error of ctx.
func (c Client) Stamp(ctx context.Context, digest [32]byte, addresses ...string) (*Answer, error) {
	if c.GiveUpAfter <= 0 {
		c.GiveUpAfter = giveUpAfter
	}
	within, stop := context.WithTimeout(ctx, c.GiveUpAfter)
	defer stop()
	client := newHTTP()
	defer client.CloseIdleConnections()
	var refusals []error
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		var again []string
		var away []error
		for _, address := range addresses {
			answer, err := c.ask(within, client, address, digest)
			switch {
			case err == nil:
				return answer, nil
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case errors.Is(err, ErrUnavailable):
				again, away = append(again, address), append(away, err)
			default:
				refusals = append(refusals, err)
			}
		}
		if len(again) == 0 {
			return nil, errors.Join(refusals...)
		}
		addresses = again
		if !c.rest(within, pause, away) {
			return nil, errors.Join(append(refusals, away...)...)
		}
	}
}

// rest waits before asking again, and reports false if there is no time for it.
func (c Client) rest(ctx context.Context, pause time.Duration, reasons []error) bool {
	if end, ok := ctx.Deadline(); !ok || time.Until(end) <= pause {
		return false
	}
	for _, reason := range reasons {
		if c.OnRetry != nil {
			c.OnRetry(reason)
		}
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

func newHTTP() *http.Client {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableCompression: true, MaxResponseHeaderBytes: MaxSize, TLSHandshakeTimeout: oneTry,
	}
	follow := func(r *http.Request, via []*http.Request) error {
		if len(via) > redirects || r.Method != http.MethodPost { // 301 and 302 turn it into a GET
			return http.ErrUseLastResponse
		}
		return nil
	}
	return &http.Client{Transport: transport, CheckRedirect: follow, Timeout: oneTry}
}

// ask asks one TSA once.
func (c Client) ask(ctx context.Context, client *http.Client, address string, digest [32]byte) (*Answer, error) {
	nonce := newNonce()
	data, err := post(ctx, client, address, request(digest, nonce))
	if err == nil {
		var stamp *Stamp
		if stamp, err = Check(data, Want{Digest: digest, Nonce: nonce, Roots: c.Roots}); err == nil {
			return &Answer{Stamp: *stamp, URL: name(address), Data: data}, nil
		}
		var refused *refusal
		if !errors.As(err, &refused) {
			err = fmt.Errorf("its answer %w", err)
		}
	}
	return nil, fmt.Errorf("TSA %s: %w", name(address), err)
}

// newNonce has 64 bits, which every TSA takes.
func newNonce() *big.Int {
	var random [8]byte
	_, _ = rand.Read(random[:]) // it never fails
	return new(big.Int).SetUint64(binary.BigEndian.Uint64(random[:]))
}

// request is a TimeStampReq that wants the TSA's certificates in the answer.
func request(digest [32]byte, nonce *big.Int) []byte {
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidSHA256)
				b.AddASN1NULL()
			})
			b.AddASN1OctetString(digest[:])
		})
		b.AddASN1BigInt(nonce)
		b.AddASN1Boolean(true)
	})
	return b.BytesOrPanic()
}

func post(ctx context.Context, client *http.Client, address string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/timestamp-query")
	r.Header.Set("Accept", "application/timestamp-reply")
	r.Header.Set("User-Agent", "otsnap")
	response, err := client.Do(r)
	if err != nil {
		return nil, away(err)
	}
	defer response.Body.Close()
	switch code := response.StatusCode; {
	case code == http.StatusOK:
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return nil, fmt.Errorf("it answers %q: %w", clipText(response.Status), ErrUnavailable)
	default:
		return nil, fmt.Errorf("it answers %q", clipText(response.Status))
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, MaxSize+1))
	if err != nil {
		return nil, away(err)
	}
	return data, nil
}

// away is the error of a TSA that could not be spoken to.
func away(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // without the address
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return err // which no waiting helps
	}
	return fmt.Errorf("%w: %w", err, ErrUnavailable)
}

// refusal is what a TSA says instead of a time stamp.
type refusal struct {
	text string
	busy bool
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) Unwrap() error {
	if r.busy {
		return ErrUnavailable
	}
	return nil
}

// failures are the bits of a failInfo, RFC 3161, 2.4.2.
var failures = map[int]string{
	0: "it does not know SHA-256", 2: "the request is not permitted", 5: "the request has the wrong format",
	14: timeless, 15: "the policy is not supported", 16: "an extension is not supported",
	17: "the information asked for is not available", 25: failed,
}

const (
	timeless = "its source of time is not available"
	failed   = "it has failed"
)

// granted returns why there is no token; nil: there is one.
func (r *response) granted() error {
	if r.status == 0 || r.status == 1 {
		return nil
	}
	var words []string
	reason, known := failures[r.failure]
	if known {
		words = append(words, reason)
	}
	for _, reason := range r.reasons {
		words = append(words, fmt.Sprintf("it says %q", reason))
	}
	if len(words) == 0 {
		words = []string{"it does not say why"}
	}
	text := fmt.Sprintf("refused, status %d: %s", r.status, strings.Join(words, "; "))
	return &refusal{text: text, busy: reason == timeless || reason == failed}
}

// ReadRoots reads the certificates in a PEM file.
func ReadRoots(pem []byte) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("holds no certificate in PEM")
	}
	return roots, nil
}
