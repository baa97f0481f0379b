package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// credentials are those of the SDK's default chain. When the server calls them
// expired the chain is built anew: a file or a variable may hold others by now.
type credentials struct {
	load func(context.Context) (aws.Config, error)

	mu       sync.Mutex
	provider aws.CredentialsProvider
	renewed  time.Time
}

// Retrieve returns the current credentials.
func (c *credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c.mu.Lock()
	provider := c.provider
	c.mu.Unlock()
	if provider == nil {
		return aws.Credentials{}, errors.New("no credentials")
	}
	return provider.Retrieve(ctx)
}

// renewEvery is how often the chain is built anew at most: of many requests that
// meet the same expired token one has to do it.
const renewEvery = time.Second

// renew loads the credentials anew. Requests that are on their way with the old
// ones may fail a little later, and find that it was just done.
func (c *credentials) renew(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.renewed) < renewEvery {
		return
	}
	if cfg, err := c.load(ctx); err == nil {
		c.provider, c.renewed = cfg.Credentials, time.Now()
	}
}

// again marks an error after which something was changed that makes another try
// worth while.
type again struct{ error }

func (a again) Unwrap() error { return a.error }

// foreign is the status of an answer that something else than S3 gave, such as
// the page on which a network wants a login.
type foreign int

func (f foreign) Error() string {
	return fmt.Sprintf("HTTP %d %s without the id that S3 gives to each request; is there a proxy, or a login page?", int(f), http.StatusText(int(f)))
}

// answers refuses those that are not of S3 where they would be believed: the SDK
// takes any page for success, and for a listing of nothing.
type answers struct{ http.RoundTripper }

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.RoundTripper.RoundTrip(r)
	if err != nil || ofS3(resp) {
		return resp, err
	}
	bodiless := r.Method == http.MethodHead && resp.StatusCode == http.StatusNotFound
	if resp.StatusCode/100 == 2 || bodiless {
		resp.Body.Close()
		return nil, foreign(resp.StatusCode)
	}
	return resp, nil
}

// ofS3 takes any header of S3's own for the id, which not all servers give.
func ofS3(resp *http.Response) bool {
	for name := range resp.Header {
		if strings.HasPrefix(name, "X-Amz-") {
			return true
		}
	}
	return false
}

// do makes a request, again where that can help. right is what the credentials
// need for it.
func (s *Store) do(ctx context.Context, right string, try func(func(*s3.Options)) error) error {
	err := s.retry.Do(ctx, func(int) error { return s.once(ctx, try) })
	return s.explain(right, err)
}

// once makes a request once and learns from its error.
func (s *Store) once(ctx context.Context, try func(func(*s3.Options)) error) error {
	s.mu.Lock()
	region := s.region
	s.mu.Unlock()
	err := try(func(o *s3.Options) { o.Region = region })
	if err == nil {
		s.mu.Lock()
		s.seen = true
		s.mu.Unlock()
		return nil
	}
	if there := regionOf(err); there != "" && there != region {
		s.mu.Lock()
		s.region = there
		s.mu.Unlock()
		return again{err}
	}
	if expired(err) {
		s.credentials.renew(ctx)
	}
	return err
}

var expecting = regexp.MustCompile(`expecting '([A-Za-z0-9_-]+)'`)

// regionOf is the region that an answer says the bucket is in, if it does.
func regionOf(err error) string {
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || response.Response == nil || response.Response.Response == nil {
		return ""
	}
	if region := response.Response.Header.Get("X-Amz-Bucket-Region"); regionForm.MatchString(region) {
		return region
	}
	if found := expecting.FindStringSubmatch(err.Error()); found != nil && code(err) == "AuthorizationHeaderMalformed" {
		return found[1]
	}
	return ""
}

var expiredCodes = []string{"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}

func expired(err error) bool { return slices.Contains(expiredCodes, code(err)) }

// code is the S3 error code of err; empty: it has none.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// status is the HTTP status err was told with; 0: none.
func status(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil && response.Response.Response != nil {
		return response.HTTPStatusCode()
	}
	return 0
}

// temporaryCodes are, beside those the SDK knows, what servers say when the same
// request may be answered otherwise a little later.
var temporaryCodes = []string{
	"ConditionalRequestConflict", "OperationAborted", "InternalError", "ServiceUnavailable", "SlowDownRead", "SlowDownWrite", "TemporaryRedirect",
	"XMinioServerNotInitialized", "RequestTimeTooSkewed",
}

// temporary reports whether another try may end otherwise.
func temporary(err error) bool {
	var changed again
	var source sourceError
	switch {
	case errors.As(err, &source):
		return false
	case errors.As(err, &changed):
		return true
	case hopeless(err):
		return false
	case expired(err), slices.Contains(temporaryCodes, code(err)), status(err) == http.StatusTooManyRequests,
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return true
	}
	return retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary
}

// hopeless reports whether err is one of those the SDK would repeat, though they
// do not go away by themselves.
func hopeless(err error) bool {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	var strange foreign
	return errors.As(err, &strange) || errors.As(err, &unknown) || errors.As(err, &invalid) || errors.As(err, &host) || errors.As(err, &verification) || errors.As(err, &record) ||
		errors.As(err, &dns) && dns.IsNotFound ||
		code(err) == "GlacierExpeditedRetrievalNotAvailable" ||
		strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}
