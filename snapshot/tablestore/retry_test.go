package tablestore

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/snapshot"
)

// answer is what a scripted service does with one request.
type answer func(*http.Request) (*http.Response, error)

// service is a scripted service: one answer a request, the last one for ever.
type service struct {
	answers []answer
	asked   []*http.Request
	bodies  [][]byte
}

func (s *service) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	s.asked = append(s.asked, req)
	s.bodies = append(s.bodies, body)
	return s.answers[min(len(s.asked), len(s.answers))-1](req)
}

// open returns an instance whose requests the script answers.
func (s *service) open(t *testing.T, change ...func(*Config)) *Instance {
	t.Helper()
	c := Config{
		Endpoint:        "http://127.0.0.1:1",
		Instance:        "demo",
		AccessKeyID:     "id",
		AccessKeySecret: "secret",
		HTTP:            &http.Client{Transport: s},
	}
	for _, f := range change {
		f(&c)
	}
	in, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func respond(status int, body []byte) answer {
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode:    status,
			Header:        http.Header{"X-Ots-Contentmd5": {digest(body)}, "X-Ots-Requestid": {"0005-a"}},
			Body:          io.NopCloser(bytes.NewReader(body)),
			ContentLength: int64(len(body)),
			Request:       req,
		}, nil
	}
}

func refuse(status int, code, message string) answer {
	body, _ := proto.Marshal(&otsprotocol.Error{Code: &code, Message: &message})
	return respond(status, body)
}

func list(names ...string) answer {
	body, _ := proto.Marshal(&otsprotocol.ListTableResponse{TableNames: names})
	return respond(http.StatusOK, body)
}

func lose(err error) answer {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// alter changes a response on its way.
func alter(a answer, change func(*http.Response)) answer {
	return func(req *http.Request) (*http.Response, error) {
		resp, err := a(req)
		change(resp)
		return resp, err
	}
}

func cutBody(resp *http.Response) {
	resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, 3), failing{}))
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func flipBit(resp *http.Response) {
	body, _ := io.ReadAll(resp.Body)
	body[len(body)/2] ^= 0x10
	resp.Body = io.NopCloser(bytes.NewReader(body))
}

func TestRetry(t *testing.T) {
	const ok = "ok"
	for name, test := range map[string]struct {
		first answer
		// want is ok if the request is made again and succeeds, else a part of the error.
		want string
		// what errors.Is finds when it is final
		is []error
	}{
		"server busy":           {first: refuse(503, "OTSServerBusy", "Server is busy."), want: ok},
		"partition moves":       {first: refuse(503, "OTSPartitionUnavailable", ""), want: ok},
		"result undefined":      {first: refuse(503, "OTSTimeout", ""), want: ok},
		"server unavailable":    {first: refuse(503, "OTSServerUnavailable", ""), want: ok},
		"internal error":        {first: refuse(500, "OTSInternalServerError", ""), want: ok},
		"unknown code, 5xx":     {first: refuse(502, "OTSSomethingNew", ""), want: ok},
		"conflict":              {first: refuse(409, "OTSRowOperationConflict", ""), want: ok},
		"table not ready":       {first: refuse(404, "OTSTableNotReady", ""), want: ok},
		"throttled":             {first: refuse(403, "OTSNotEnoughCapacityUnit", ""), want: ok},
		"too frequent":          {first: refuse(403, "OTSQuotaExhausted", "Too frequent table operations."), want: ok},
		"adjusted too often":    {first: refuse(403, "OTSTooFrequentReservedThroughputAdjustment", ""), want: ok},
		"request timeout":       {first: refuse(408, "OTSRequestTimeout", ""), want: ok},
		"a proxy's error":       {first: respond(502, []byte("<html>Bad Gateway</html>")), want: ok},
		"connection refused":    {first: lose(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), want: ok},
		"connection lost":       {first: lose(io.EOF), want: ok},
		"name server away":      {first: lose(&net.DNSError{IsTemporary: true}), want: ok},
		"name not found, once":  {first: lose(&net.DNSError{IsNotFound: true}), want: ok},
		"answer cut":            {first: alter(list("orders"), cutBody), want: ok},
		"answer changed":        {first: alter(list("orders"), flipBit), want: ok},
		"answer without digest": {first: alter(list("orders"), func(r *http.Response) { r.Header = http.Header{} }), want: ok},
		"answer makes no sense": {first: respond(200, []byte("\xff\xff")), want: ok},
		"answer too long":       {first: alter(list("orders"), func(r *http.Response) { r.ContentLength = 1 << 40 }), want: ok},

		"wrong key":       {first: refuse(403, "OTSAuthFailed", "Signature mismatch."), want: "OTSAuthFailed (HTTP 403, request 0005-a): Signature mismatch.", is: []error{ErrCredentials, snapshot.ErrUnavailable}},
		"no permission":   {first: refuse(403, "OTSNoPermissionAccess", ""), want: "OTSNoPermissionAccess", is: []error{ErrCredentials, snapshot.ErrUnavailable}},
		"no such table":   {first: refuse(404, "OTSObjectNotExist", ""), want: "OTSObjectNotExist", is: []error{fs.ErrNotExist}},
		"table exists":    {first: refuse(409, "OTSObjectAlreadyExist", ""), want: "OTSObjectAlreadyExist", is: []error{fs.ErrExist}},
		"bad parameter":   {first: refuse(400, "OTSParameterInvalid", "x"), want: "OTSParameterInvalid"},
		"too many tables": {first: refuse(403, "OTSQuotaExhausted", "Number of tables exceeded the quota."), want: "exceeded the quota"},
		"a web page":      {first: respond(404, []byte("<html>\x1b[31mNot Found")), want: "(HTTP 404, request 0005-a): the answer is not Tablestore's: <html> [31mNot Found"},
		"a redirect":      {first: alter(respond(307, nil), func(r *http.Response) { r.Header.Set("Location", "https://elsewhere.example") }), want: "HTTP 307"},
		"not HTTPS":       {first: lose(http.ErrSchemeMismatch), want: "HTTP response to HTTPS client", is: []error{snapshot.ErrUnavailable}},
		"not TLS":         {first: lose(tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}), want: "TLS handshake", is: []error{snapshot.ErrUnavailable}},
		"bad certificate": {first: lose(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), want: "unknown authority", is: []error{snapshot.ErrUnavailable}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &service{answers: []answer{test.first, list("orders")}}
				var told []Retry
				in := s.open(t, func(c *Config) { c.OnRetry = func(r Retry) { told = append(told, r) } })
				names, err := in.list(t.Context())
				if test.want == ok {
					if err != nil || len(names) != 1 {
						t.Fatalf("got %v, %v", names, err)
					}
					if len(told) != 1 || told[0].Attempt != 1 || told[0].Action != "ListTable" || !errors.Is(told[0].Err, snapshot.ErrUnavailable) {
						t.Errorf("the observer was told %+v", told)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("got %v, want an error with %q", err, test.want)
				}
				if len(s.asked) != 1 {
					t.Errorf("asked %d times, want once", len(s.asked))
				}
				for _, sentinel := range []error{ErrCredentials, snapshot.ErrUnavailable, fs.ErrNotExist, fs.ErrExist} {
					want := false
					for _, is := range test.is {
						want = want || is == sentinel
					}
					if errors.Is(err, sentinel) != want {
						t.Errorf("errors.Is(%v, %v) = %t", err, sentinel, !want)
					}
				}
			})
		})
	}
}

func TestRetryGivesUp(t *testing.T) {
	for name, test := range map[string]struct {
		always   answer
		before   []answer
		atLeast  time.Duration
		atMost   time.Duration
		attempts int // at least
	}{
		"busy for ever": {
			always: refuse(503, "OTSServerBusy", ""), atLeast: 4 * time.Minute, atMost: 5 * time.Minute, attempts: 60,
		},
		"connections lost": {
			always: lose(io.EOF), atLeast: 4 * time.Minute, atMost: 5 * time.Minute, attempts: 60,
		},
		"no such host": {
			always: lose(&net.DNSError{IsNotFound: true}), atLeast: 2 * time.Second, atMost: 10 * time.Second, attempts: 5,
		},
		"nobody there": {
			always: lose(syscall.ECONNREFUSED), atLeast: 2 * time.Second, atMost: 10 * time.Second, attempts: 5,
		},
		"nobody there any more": {
			before: []answer{refuse(503, "OTSServerBusy", "")},
			always: lose(syscall.ECONNREFUSED), atLeast: 4 * time.Minute, atMost: 5 * time.Minute, attempts: 60,
		},
		"gibberish": {
			always: respond(200, []byte("\xff")), atLeast: 2 * time.Second, atMost: 10 * time.Second, attempts: 5,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &service{answers: append(test.before, test.always)}
				begun := time.Now()
				_, err := s.open(t).Tables(t.Context())
				if !errors.Is(err, snapshot.ErrUnavailable) || errors.Is(err, ErrCredentials) {
					t.Errorf("got %v, want ErrUnavailable", err)
				}
				if !strings.Contains(err.Error(), "given up after") {
					t.Errorf("the error does not say that it was tried: %v", err)
				}
				if took := time.Since(begun); took < test.atLeast || took > test.atMost {
					t.Errorf("gave up after %s", took)
				}
				if len(s.asked) < test.attempts {
					t.Errorf("made %d attempts", len(s.asked))
				}
			})
		})
	}
}

func TestRetryEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{answers: []answer{refuse(503, "OTSServerBusy", "")}}
		cause := errors.New("operator is tired")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(cause) })
		begun := time.Now()
		_, err := s.open(t).Tables(ctx)
		if !errors.Is(err, cause) || errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("got %v, want the cause and nothing of the service", err)
		}
		if took := time.Since(begun); took != time.Minute {
			t.Errorf("ended after %s", took)
		}
	})
}

func TestAttemptThatHangsIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		s := &service{answers: []answer{hang, list("orders")}}
		names, err := s.open(t).list(t.Context())
		if err != nil || len(names) != 1 {
			t.Errorf("got %v, %v", names, err)
		}
		s = &service{answers: []answer{hang}}
		_, err = s.open(t).list(t.Context())
		if !errors.Is(err, snapshot.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("for ever: got %v", err)
		}
	})
}

func TestBackoff(t *testing.T) {
	for attempts, bound := range map[int]time.Duration{
		1:    10 * time.Millisecond,
		2:    20 * time.Millisecond,
		9:    2560 * time.Millisecond,
		10:   5 * time.Second,
		11:   5 * time.Second,
		1000: 5 * time.Second,
	} {
		var longest time.Duration
		for range 2000 {
			longest = max(longest, backoff(attempts))
		}
		if longest > bound+time.Millisecond || longest < bound*9/10 {
			t.Errorf("attempt %d waits up to %s, want %s", attempts, longest, bound)
		}
	}
}

func TestSDKPanicIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Required by the SDK, optional in the protocol.
		body, err := proto.Marshal(&otsprotocol.ComputeSplitPointsBySizeResponse{
			Consumed:  &otsprotocol.ConsumedCapacity{CapacityUnit: &otsprotocol.CapacityUnit{}},
			Locations: []*otsprotocol.ComputeSplitPointsBySizeResponse_SplitLocation{{Location: proto.String("x"), Repeat: proto.Int64(9)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		s := &service{answers: []answer{respond(200, body)}}
		_, err = s.open(t).Split(t.Context(), orders, 1<<20)
		if !errors.Is(err, snapshot.ErrUnavailable) || !strings.Contains(err.Error(), "the SDK cannot read it") {
			t.Errorf("got %v", err)
		}
	})
}

func TestSigning(t *testing.T) {
	for name, region := range map[string]string{"V2": "", "V4": "cn-hangzhou"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &service{answers: []answer{list()}}
				in := s.open(t, func(c *Config) { c.Region, c.SecurityToken = region, "token" })
				// Two requests around midnight: each is of its own day.
				for range 2 {
					if _, err := in.list(t.Context()); err != nil {
						t.Fatal(err)
					}
					time.Sleep(24 * time.Hour)
				}
				for _, req := range s.asked {
					checkSignedHeaders(t, req.Header, region)
				}
				first, second := s.asked[0].Header, s.asked[1].Header
				if region != "" && first.Get("x-ots-signdate") == second.Get("x-ots-signdate") {
					t.Error("both are signed for the same day")
				}
			})
		})
	}
}

func checkSignedHeaders(t *testing.T, h http.Header, region string) {
	t.Helper()
	date, err := time.Parse("2006-01-02T15:04:05.000Z", h.Get("x-ots-date"))
	if err != nil {
		t.Errorf("date: %v", err)
	}
	if h.Get("x-ots-ststoken") != "token" || h.Get("x-ots-accesskeyid") != "id" || h.Get("x-ots-instancename") != "demo" {
		t.Errorf("headers are %v", h)
	}
	if region == "" {
		if h.Get("x-ots-signature") == "" || h.Get("x-ots-signaturev4") != "" {
			t.Errorf("signed with V4: %v", h)
		}
		return
	}
	if h.Get("x-ots-signaturev4") == "" || h.Get("x-ots-signature") != "" || h.Get("x-ots-signregion") != region {
		t.Errorf("not signed with V4 for %s: %v", region, h)
	}
	if h.Get("x-ots-signdate") != date.Format("20060102") {
		t.Errorf("signed for %s, sent %s", h.Get("x-ots-signdate"), date)
	}
	if h.Get("x-ots-accesskeysecret") != "" {
		t.Error("the secret is sent")
	}
}
