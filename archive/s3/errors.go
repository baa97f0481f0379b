package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/internal/remote"
)

// explained is an error in our words, with the one it was made of behind it.
type explained struct {
	text  string
	cause error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.cause }

// explain says what went wrong and what to do about it. right is what the
// request needs of the credentials. What is explained already stays as it is.
func (s *Store) explain(right string, err error) error {
	var done *explained
	var source sourceError
	if err == nil || errors.As(err, &done) || errors.As(err, &source) {
		return err
	}
	text := brief(err)
	if advice := s.advice(right, err); advice != "" {
		text += ": " + advice
	}
	return &explained{text, err}
}

// brief is err without what the SDK repeats around it.
func brief(err error) string {
	prefix := ""
	if text := err.Error(); strings.HasPrefix(text, "gave up after ") {
		prefix, _, _ = strings.Cut(text, ": ")
		prefix += ": "
	}
	var strange foreign
	if errors.As(err, &strange) {
		return prefix + strange.Error()
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		what := api.ErrorCode()
		if message := strings.TrimSuffix(api.ErrorMessage(), "."); message != "" && message != what {
			what += ": " + message
		}
		var request interface{ ServiceRequestID() string }
		if errors.As(err, &request) && request.ServiceRequestID() != "" {
			return fmt.Sprintf("%s%s (HTTP %d, request %s)", prefix, what, status(err), request.ServiceRequestID())
		}
		return fmt.Sprintf("%s%s (HTTP %d)", prefix, what, status(err))
	}
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		return prefix + strings.TrimPrefix(operation.Err.Error(), "https response error StatusCode: 0, RequestID: , HostID: , ")
	}
	return err.Error()
}

func (s *Store) advice(right string, err error) string {
	where := "bucket " + s.config.Bucket
	if s.config.Endpoint != "" {
		where += " at " + s.config.Endpoint
	}
	switch code(err) {
	case "NoSuchBucket":
		return where + " does not exist; create it, or correct the name, endpoint= or region="
	case "InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException":
		return "the server does not know the access key; check the credentials in use (AWS_ACCESS_KEY_ID, AWS_PROFILE, profile=) and endpoint="
	case "SignatureDoesNotMatch":
		return "the secret key is not that of the access key, or something on the way changes requests"
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken":
		return "the session token has expired or is void; log in again or renew it"
	case "RequestTimeTooSkewed":
		return "the clock of this machine and the server's differ by too much; set it right"
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException":
		return where + " is in another region; say which one with region=, and mind endpoint="
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "EntityTooLarge":
		return "the server has no room for it"
	}
	return s.connectionAdvice(right, where, err)
}

func (s *Store) connectionAdvice(right, where string, err error) string {
	var dns *net.DNSError
	text := err.Error()
	switch {
	case denied(err) && strings.HasPrefix(right, "s3:GetObject"):
		return fmt.Sprintf("the credentials need the rights %s and s3:ListBucket on %s; without the second, what is missing looks like this too", right, where)
	case denied(err) && right != "":
		return fmt.Sprintf("the credentials need the right %s on %s", right, where)
	case denied(err):
		return "the credentials lack a right on " + where
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("there is no host %s; check endpoint=, region= and path-style=", dns.Name)
	case strings.Contains(text, "x509:") || strings.Contains(text, "tls: failed to verify"):
		return "the server's certificate is not trusted here; name the authority's with AWS_CA_BUNDLE, and check endpoint="
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return "the server does not speak TLS; write endpoint=http://..."
	case strings.Contains(text, "get credentials") || strings.Contains(text, "get identity") || strings.Contains(text, "no EC2 IMDS role found"):
		return "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role for this machine"
	case strings.Contains(text, "connection refused"):
		return "nothing listens there; check endpoint="
	}
	return ""
}

// denied reports whether the server refused err's request for lack of rights.
func denied(err error) bool {
	switch code(err) {
	case "AccessDenied", "AllAccessDisabled", "AccountProblem":
		return true
	case "", "Forbidden": // HEAD has no body to say more in
		return status(err) == http.StatusForbidden
	}
	return false
}

// unsupported reports whether the server does not know the request at all.
func unsupported(err error) bool {
	switch code(err) {
	case "NotImplemented", "MethodNotAllowed", "XNotImplemented":
		return true
	}
	return status(err) == http.StatusNotImplemented
}

var missingCodes = regexp.MustCompile(`^(NoSuchKey|NoSuchVersion|NotFound)$`)

// absent makes fs.ErrNotExist of the ways in which S3 says that there is no such
// object, unless it is the bucket that is not there.
func (s *Store) absent(ctx context.Context, right string, err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if missingCodes.MatchString(code(err)) || status(err) == http.StatusNotFound && code(err) == "" {
		if err := s.bucketExists(ctx); err != nil {
			return err
		}
		return fs.ErrNotExist
	}
	return s.explain(right, err)
}

// bucketExists asks whether the bucket is there, unless it has shown itself:
// HEAD says 404 of an object and of a bucket alike.
func (s *Store) bucketExists(ctx context.Context) error {
	s.mu.Lock()
	seen := s.seen
	s.mu.Unlock()
	if seen {
		return nil
	}
	err := s.do(ctx, "s3:ListBucket", func(o func(*s3.Options)) error {
		_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.config.Bucket}, o)
		return err
	})
	switch {
	case err == nil || denied(err):
		return nil
	case status(err) == http.StatusNotFound:
		return &explained{"NoSuchBucket: " + s.advice("", &smithy.GenericAPIError{Code: "NoSuchBucket"}), err}
	}
	return err
}

// failed is the error of a method: which one, of what, and whose fault.
func (s *Store) failed(ctx context.Context, op, name string, err error) error {
	var source sourceError
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.As(err, &source):
		err = source.error
	case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid),
		errors.Is(err, archive.ErrLocked), errors.Is(err, errors.ErrUnsupported):
	default:
		err = remote.Unavailable(ctx, s.explain("", err))
	}
	return fmt.Errorf("s3: %s %s: %w", op, name, err)
}
