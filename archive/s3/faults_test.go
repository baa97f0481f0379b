package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/s3"
	"github.com/otsnap/otsnap/archive/s3/s3test"
)

func TestNetwork(t *testing.T) {
	slow(t)
	each(t, func(t *testing.T, s *s3test.Server) {
		name := bucket(t, s, plain)
		archivetest.TestNetwork(t, func(t *testing.T, address string) archive.Store { return at(t, s, name, address) }, strings.TrimPrefix(s.Endpoint, "http://"))
	})
}

func TestFront(t *testing.T) {
	slow(t)
	for _, kind := range kindsOfBuckets[:2] {
		t.Run(kind.name, func(t *testing.T) {
			each(t, func(t *testing.T, s *s3test.Server) {
				name := bucket(t, s, kind.opts)
				archivetest.TestFront(t, func(t *testing.T, address string) archive.Store { return at(t, s, name, address) }, strings.TrimPrefix(s.Endpoint, "http://"))
			})
		})
	}
}

func TestTheRegionOfTheBucketIsFound(t *testing.T) {
	signedFor := func(r *http.Request) string { return strings.Split(r.Header.Get("Authorization"), "/")[2] }
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"301": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Amz-Bucket-Region", "eu-north-1")
			w.Header().Set("Location", "http://127.0.0.1:1/")
			fail(w, http.StatusMovedPermanently, "PermanentRedirect")
		},
		"400": func(w http.ResponseWriter, r *http.Request) {
			failWith(w, http.StatusBadRequest, "AuthorizationHeaderMalformed", "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-north-1'")
		},
		"307": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Amz-Bucket-Region", "eu-north-1")
			w.Header().Set("Location", "http://127.0.0.1:1/")
			fail(w, http.StatusTemporaryRedirect, "TemporaryRedirect")
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			wrong := 0
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				if signedFor(r) == "eu-north-1" {
					return false
				}
				wrong++
				answer(w, r)
				return true
			}
			s := f.open(t, nil)
			put(t, s, "a", "content", archive.PutOptions{})
			want(t, s, "a", "content")
			if wrong != 1 {
				t.Errorf("%d requests were signed for the wrong region, want the first alone", wrong)
			}
		})
	}
}

func TestARegionThatIsNotToldIsAsked(t *testing.T) {
	f := newFake(t)
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		fail(w, http.StatusMovedPermanently, "PermanentRedirect")
		return true
	}
	_, err := f.open(t, nil).Get(t.Context(), "a")
	wantError(t, err, "is in another region; say which one with region=")
}

func TestExpiredCredentialsAreReadAnew(t *testing.T) {
	f := newFake(t)
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(key string) {
		content := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = token\n", key, secret)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("AKIDOLD")
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || strings.Contains(r.Header.Get("Authorization"), "AKIDNEW") {
			return false
		}
		write("AKIDNEW") // somebody logs in again
		fail(w, http.StatusBadRequest, "ExpiredToken")
		return true
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	s, err := s3.Open(t.Context(), s3.Config{Bucket: "bucket", Endpoint: f.URL, PathStyle: true, GiveUpAfter: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(t, s, "a", "content", archive.PutOptions{})
	want(t, s, "a", "content")
}

func TestCredentialsThatStayExpiredAreAnError(t *testing.T) {
	f := newFake(t)
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		fail(w, http.StatusBadRequest, "ExpiredToken")
		return true
	}
	_, err := f.open(t, func(c *s3.Config) { c.GiveUpAfter = time.Second }).Get(t.Context(), "a")
	wantError(t, err, "has expired or is void; log in again")
}

// TestAClockThatIsWrongIsMadeUpFor has a server an hour ahead.
func TestAClockThatIsWrongIsMadeUpFor(t *testing.T) {
	f := newFake(t)
	refused := 0
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		now := time.Now().Add(time.Hour)
		w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err == nil && now.Sub(signed).Abs() < 5*time.Minute {
			return false
		}
		refused++
		fail(w, http.StatusForbidden, "RequestTimeTooSkewed")
		return true
	}
	s := f.open(t, nil)
	put(t, s, "a", "content", archive.PutOptions{})
	want(t, s, "a", "content")
	if refused != 1 {
		t.Errorf("%d requests had a wrong time, want the first alone", refused)
	}
}

func TestAPutThatMeetsItself(t *testing.T) {
	tests := []struct {
		name  string
		there string // in place of what the first try put
		want  error
	}{
		{"OursIsSuccess", "content", nil},
		{"AnothersIsErrExist", "CONTENT", fs.ErrExist},
		{"AnothersOfAnotherSizeIsErrExist", "other content", fs.ErrExist},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			puts := 0
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut {
					return false
				}
				if puts++; puts > 1 {
					return false
				}
				io.Copy(io.Discard, r.Body)
				f.objects[r.URL.Path] = []byte(test.there)
				panic(http.ErrAbortHandler) // the answer is lost
			}
			err := f.open(t, nil).Put(t.Context(), "a", strings.NewReader("content"), archive.PutOptions{})
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestAConflictIsTriedAgain(t *testing.T) {
	f := newFake(t)
	conflicts := 2
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || conflicts == 0 {
			return false
		}
		conflicts--
		fail(w, http.StatusConflict, "ConditionalRequestConflict")
		return true
	}
	s := f.open(t, nil)
	put(t, s, "a", "content", archive.PutOptions{})
	want(t, s, "a", "content")
}

func TestABodyThatIsCutGoesOn(t *testing.T) {
	f := newFake(t)
	content := strings.Repeat("0123456789", 100_000)
	var ranges []string
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !object(r) {
			return false
		}
		ranges = append(ranges, r.Header.Get("Range"))
		if len(ranges) > 3 {
			return false
		}
		recorder := &cutter{ResponseWriter: w, left: 300_000}
		f.get(recorder, r)
		return true
	}
	s := f.open(t, nil)
	put(t, s, "a", content, archive.PutOptions{})
	want(t, s, "a", content)
	if len(ranges) < 4 || ranges[0] != "" || !strings.HasPrefix(ranges[1], "bytes=") {
		t.Errorf("asked for the ranges %q, want all of it and then what was missing", ranges)
	}
}

// cutter breaks off after some bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	if c.left -= n; c.left == 0 {
		http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// TestAnObjectReplacedWhileItIsReadIsAnError has another object appear under the
// name in the middle of a body.
func TestAnObjectReplacedWhileItIsReadIsAnError(t *testing.T) {
	f := newFake(t)
	gets := 0
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !object(r) {
			return false
		}
		if gets++; gets > 1 {
			return false
		}
		defer func() { f.objects[r.URL.Path] = bytes.Repeat([]byte("x"), 1_000_000) }()
		f.get(&cutter{ResponseWriter: w, left: 300_000}, r)
		return true
	}
	s := f.open(t, func(c *s3.Config) { c.GiveUpAfter = time.Second })
	put(t, s, "a", strings.Repeat("0123456789", 100_000), archive.PutOptions{})
	body, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if !errors.Is(err, archive.ErrUnavailable) || len(data) >= 1_000_000 {
		t.Errorf("read %d bytes of two objects, error %v; want archive.ErrUnavailable", len(data), err)
	}
}

// TestErrorsSayWhatToDo has a server answer every request alike.
func TestErrorsSayWhatToDo(t *testing.T) {
	tests := []struct {
		status int
		code   string
		want   []string
	}{
		{404, "NoSuchBucket", []string{"bucket bucket at http://127.0.0.1", "does not exist; create it"}},
		{403, "AccessDenied", []string{"the credentials need the right", "s3:", "bucket"}},
		{403, "InvalidAccessKeyId", []string{"the server does not know the access key", "profile="}},
		{403, "SignatureDoesNotMatch", []string{"the secret key is not that of the access key"}},
		{400, "InvalidToken", []string{"expired or is void"}},
		{507, "XMinioStorageFull", []string{"no room"}},
		{418, "Teapot", []string{"Teapot", "HTTP 418", "4442587FB7D0A2F9"}},
	}
	for _, test := range tests {
		t.Run(test.code, func(t *testing.T) {
			f := newFake(t)
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				fail(w, test.status, test.code)
				return true
			}
			s := f.open(t, func(c *s3.Config) { c.GiveUpAfter = time.Second })
			_, getErr := s.Get(t.Context(), "a")
			var listErr error
			for _, err := range s.List(t.Context(), "") {
				listErr = err
			}
			for op, err := range map[string]error{
				"put":    s.Put(t.Context(), "a", strings.NewReader("content"), archive.PutOptions{}),
				"get":    getErr,
				"list":   listErr,
				"delete": s.Delete(t.Context(), "a"),
			} {
				if op == "delete" && test.status != 403 && test.status != 404 {
					continue // a HEAD's answer says no more than the status
				}
				if !errors.Is(err, archive.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, archive.ErrLocked) {
					t.Errorf("%s: got %v, want archive.ErrUnavailable alone", op, err)
				}
				if op == "delete" {
					continue
				}
				for _, part := range append(test.want, "s3: "+op) {
					wantError(t, err, part)
				}
			}
		})
	}
}

// TestARefusedDeleteIsLockedOnlyIfItIs has a server refuse it for lack of rights,
// and for a lock.
func TestARefusedDeleteIsLockedOnlyIfItIs(t *testing.T) {
	f := newFake(t)
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete {
			return false
		}
		fail(w, http.StatusForbidden, "AccessDenied")
		return true
	}
	s := f.open(t, nil)
	put(t, s, "a", "content", archive.PutOptions{})
	err := s.Delete(t.Context(), "a")
	wantError(t, err, "the credentials need the right s3:DeleteObject")
	if errors.Is(err, archive.ErrLocked) {
		t.Errorf("without a right: got %v, want no archive.ErrLocked", err)
	}
	f.headers = map[string]string{"X-Amz-Object-Lock-Mode": "GOVERNANCE", "X-Amz-Object-Lock-Retain-Until-Date": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}
	if err := s.Delete(t.Context(), "a"); !errors.Is(err, archive.ErrLocked) || errors.Is(err, archive.ErrUnavailable) {
		t.Errorf("with a lock: got %v, want archive.ErrLocked", err)
	}
}

// TestRightsThatOnlyAskAreNotNeeded has credentials that may read and write
// objects, and ask nothing of the bucket.
func TestRightsThatOnlyAskAreNotNeeded(t *testing.T) {
	f := newFake(t)
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if object(r) || r.URL.Query().Has("list-type") {
			return false
		}
		fail(w, http.StatusForbidden, "AccessDenied")
		return true
	}
	s := f.open(t, nil)
	put(t, s, "a", "content", archive.PutOptions{})
	want(t, s, "a", "content")
	found := probe(t, s, "a")
	for name, state := range map[string]archive.State{archive.CanCreateOnly: archive.Supported, archive.CanVersion: archive.Unknown, archive.CanLock: archive.Unknown, archive.CanHold: archive.Unknown} {
		if found[name].State != state {
			t.Errorf("the probe says %s is %s (%s), want %s", name, found[name].State, found[name].Detail, state)
		}
	}
	if detail := found[archive.CanCreateOnly].Detail; !strings.Contains(detail, "s3:GetBucketVersioning") {
		t.Errorf("the probe says of create-only %q, and not that versions could not be seen", detail)
	}
	var err error
	for _, e := range s.Shadows(t.Context(), "") {
		err = e
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Shadows: got %v, want errors.ErrUnsupported", err)
	}
	if _, _, err := s.DefaultLock(t.Context()); !errors.Is(err, archive.ErrUnavailable) {
		t.Errorf("DefaultLock: got %v, want archive.ErrUnavailable", err)
	}
}

func TestServersThatCannotBeReachedAreNamed(t *testing.T) {
	short := func(c *s3.Config) { c.GiveUpAfter, c.OnRetry = time.Second, nil }
	t.Run("Certificate", func(t *testing.T) {
		_, err := newTLSFake(t).open(t, short).Get(t.Context(), "a")
		wantError(t, err, "AWS_CA_BUNDLE")
	})
	t.Run("NoTLS", func(t *testing.T) {
		f := newFake(t)
		_, err := f.open(t, func(c *s3.Config) { short(c); c.Endpoint = strings.Replace(f.URL, "http", "https", 1) }).Get(t.Context(), "a")
		wantError(t, err, "does not speak TLS; write endpoint=http://")
	})
	t.Run("Nobody", func(t *testing.T) {
		f := newFake(t)
		f.Close()
		_, err := f.open(t, short).Get(t.Context(), "a")
		wantError(t, err, "nothing listens there; check endpoint=")
	})
	t.Run("NoCredentials", func(t *testing.T) {
		f := newFake(t)
		t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		s, err := s3.Open(t.Context(), s3.Config{Bucket: "bucket", Endpoint: f.URL, PathStyle: true, GiveUpAfter: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		_, err = s.Get(t.Context(), "a")
		wantError(t, err, "no credentials were found; set AWS_ACCESS_KEY_ID")
	})
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("got error %v, want one that says %q", err, part)
		return
	}
	if !errors.Is(err, archive.ErrUnavailable) {
		t.Errorf("%v: want archive.ErrUnavailable", err)
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("the error shows the secret key: %v", err)
	}
}

// TestProxy goes to a host that does not exist through a proxy that knows it, in
// a process of its own: Go reads the proxy's variables once.
func TestProxy(t *testing.T) {
	if endpoint := os.Getenv("OTSNAP_TEST_BEHIND_PROXY"); endpoint != "" {
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
		t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
		s, err := s3.Open(t.Context(), s3.Config{Bucket: "bucket", Endpoint: endpoint, PathStyle: true, GiveUpAfter: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		put(t, s, "a", "content", archive.PutOptions{})
		want(t, s, "a", "content")
		return
	}
	f := newFake(t)
	proxy := newProxy(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestProxy$", "-test.v")
	cmd.Env = append(os.Environ(), "HTTP_PROXY="+proxy.URL, "NO_PROXY=", "OTSNAP_TEST_BEHIND_PROXY=http://s3.example.invalid:9000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if string(f.objects["/bucket/a"]) != "content" {
		t.Error("nothing came through the proxy")
	}
}

// newProxy is an HTTP proxy that takes the fake for every host.
func newProxy(t *testing.T, f *fake) *httptest.Server {
	to := strings.TrimPrefix(f.URL, "http://")
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", to, r.In.Host
	}}
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "s3.example.invalid:9000" {
			t.Errorf("the proxy was asked for %s", r.Host)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}
