package oss

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/internal/remote"
)

// refusal is an answer of the service that is no success.
type refusal struct {
	status   int // of HTTP
	code     string
	message  string
	request  string // its id, which Alibaba's support asks for
	endpoint string // where the bucket is, if it is elsewhere
	right    string // the RAM action the request needs
	skew     time.Duration
}

// newRefusal makes one of what the SDK made of an answer. It has several kinds
// of errors for them, one without a type.
func newRefusal(right string, resp *oss.Response, err error) *refusal {
	r := &refusal{status: resp.StatusCode, request: words(resp.Headers.Get(oss.HTTPHeaderOssRequestID), 64), right: right}
	var told oss.ServiceError
	if errors.As(err, &told) {
		r.code, r.message, r.endpoint = words(told.Code, 64), words(told.Message, 300), words(told.Endpoint, 255)
		r.skew = skew(told.RawMessage)
	}
	if r.code == "" {
		r.message = http.StatusText(r.status) + ", not in the words of OSS"
		if to := resp.Headers.Get("Location"); to != "" && r.status < 400 {
			r.message = "redirected to another address"
		}
	}
	return r
}

// words are those of a server as they are shown to people: no more than so many
// bytes, and none that a terminal obeys.
func words(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text[:min(len(text), most)])
	return strings.ToValidUTF8(text, "")
}

var serverTime = regexp.MustCompile(`<ServerTime>([^<]+)</ServerTime>`)

// skew is how far the server's clock is ahead of this one, if its answer has it.
func skew(answer string) time.Duration {
	found := serverTime.FindStringSubmatch(answer)
	if found == nil {
		return 0
	}
	at, err := time.Parse(time.RFC3339, found[1])
	if err != nil {
		return 0
	}
	return time.Until(at).Round(time.Second)
}

func (r *refusal) Error() string {
	text := r.code
	if text == "" {
		text = strconv.Itoa(r.status)
	}
	text += ": " + strings.TrimRight(r.message, ". ")
	if hint := r.hint(); hint != "" {
		text += "; " + hint
	}
	if r.request != "" {
		text += " (request id " + r.request + ")"
	}
	return text
}

// hint says what to do next.
func (r *refusal) hint() string {
	switch r.code {
	case "NoSuchBucket":
		return "create the bucket, or correct its name"
	case "AccessDenied":
		if r.endpoint != "" {
			return "the bucket is at endpoint " + r.endpoint + ": correct the region" + regionOf(r.endpoint)
		}
		return "the credentials need the right " + r.right
	case "InvalidAccessKeyId":
		return "the access key does not exist, is disabled, or is a temporary one without its security token"
	case "SignatureDoesNotMatch":
		return "the secret is not that of the access key, or a proxy changed the request"
	case "RequestTimeTooSkewed":
		if r.skew != 0 {
			return "this machine's clock is off by " + r.skew.Abs().String() + ": set it"
		}
		return "this machine's clock is wrong: set it"
	case "SecurityTokenExpired", "InvalidSecurityToken", "SecurityTokenNotSupported":
		return "the security token is no longer valid: get a new one, or use a role, whose tokens are refreshed"
	case "InvalidArgument":
		if strings.Contains(r.message, "signing region") {
			return "the region is not the bucket's: correct it"
		}
	case "SecondLevelDomainForbidden":
		return "leave out path-style"
	case "":
		if r.status < 400 {
			return "the endpoint is not that of the bucket: correct region or endpoint"
		}
	}
	return ""
}

func regionOf(endpoint string) string {
	if own := ownEndpoint.FindStringSubmatch(endpoint); own != nil {
		return " (region=" + own[1] + ")"
	}
	return ""
}

// hasCode reports whether err is a refusal with one of codes.
func hasCode(err error, codes ...string) bool {
	var r *refusal
	if !errors.As(err, &r) {
		return false
	}
	for _, code := range codes {
		if r.code == code {
			return true
		}
	}
	return false
}

// denied reports whether err says that the credentials lack a right.
func denied(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.code == "AccessDenied" && r.endpoint == ""
}

// missing reports whether err says that there is no such object, or no such
// version of it. A bucket that is missing is something else.
func missing(err error) bool { return hasCode(err, "NoSuchKey", "NoSuchVersion") }

// again marks an error after which another try is due.
type again struct{ error }

func (e again) Unwrap() error { return e.error }

// temporary reports whether another try may end otherwise.
func temporary(err error) bool {
	var (
		marked     again
		credential *credentialError
		refused    *refusal
	)
	switch {
	case errors.As(err, &marked):
		return true
	case errors.As(err, &credential):
		return credential.temporary
	case errors.As(err, &refused):
		return refused.temporary()
	}
	return broken(err)
}

// temporary is that of the package, but for names of hosts that are not found: if
// one was before, it will be again.
func (s *Store) temporary(err error) bool {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return s.reached.Load()
	}
	return temporary(err)
}

func (r *refusal) temporary() bool {
	switch {
	case r.status == http.StatusNotImplemented:
		return false
	case r.status >= 500, r.status == http.StatusTooManyRequests, r.status == http.StatusRequestTimeout:
		return true
	case r.code == "RequestTimeout", r.code == "TooManyRequests", r.code == "IncompleteBody":
		return true
	}
	return strings.Contains(r.code, "Throttling") || strings.HasSuffix(r.code, "LimitExceeded")
}

// broken reports whether err is of a connection, and not one that stays so.
func broken(err error) bool {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		body      *bodyError
		request   *url.Error
		network   net.Error
	)
	switch {
	case errors.As(err, &authority), errors.As(err, &hostname), errors.As(err, &invalid), errors.As(err, &verify), errors.As(err, &record):
		return false
	case errors.As(err, &body), errors.Is(err, context.Canceled):
		return false
	}
	return errors.As(err, &request) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// bodyError is an error of the body of a Put.
type bodyError struct{ error }

func (e *bodyError) Unwrap() error { return e.error }

// failed names what failed and says what it means to a caller.
func failed(ctx context.Context, op, name string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	said := fmt.Errorf("oss: %s %s: %w", op, name, err)
	var body *bodyError
	switch {
	case errors.As(err, &body):
		return said
	case missing(err):
		return fmt.Errorf("%w: %w", said, fs.ErrNotExist)
	case hasCode(err, "FileImmutable"):
		return fmt.Errorf("%w: the bucket's WORM policy retains it: %w", said, archive.ErrLocked)
	case hasCode(err, "InvalidObjectState"):
		return fmt.Errorf("%w: %w: %w", said, archive.ErrFrozen, archive.ErrUnavailable)
	case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid),
		errors.Is(err, archive.ErrLocked), errors.Is(err, errors.ErrUnsupported):
		return said
	}
	return remote.Unavailable(ctx, said)
}
