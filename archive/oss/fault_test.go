package oss_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/oss"
	"github.com/otsnap/otsnap/archive/oss/osstest"
	"github.com/otsnap/otsnap/manifest"
)

func TestRefusalsThatPassAreRetried(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	answers := []struct {
		status int
		code   string
	}{{503, "ServiceUnavailable"}, {503, "Throttling"}, {500, "InternalError"}, {429, "QpsLimitExceeded"}, {400, "RequestTimeout"}, {403, "Throttling.User"}, {400, "TrafficRateLimitExceeded"}, {502, ""}}
	for _, answer := range answers {
		seen := map[string]bool{}
		var mu sync.Mutex
		s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			first := !seen[r.Method+r.URL.String()]
			seen[r.Method+r.URL.String()] = true
			mu.Unlock()
			switch {
			case !first:
				next.ServeHTTP(w, r)
			case answer.code == "":
				http.Error(w, "<html>a proxy's page", answer.status)
			default:
				refuse(w, answer.status, answer.code)
			}
		})
		var retries atomic.Int32
		store := s.open(t, oss.Config{Prefix: "p" + answer.code, OnRetry: func(error) { retries.Add(1) }})
		put(t, store, "a", "content")
		want(t, store, "a", "content")
		if got := list(t, store, ""); len(got) != 1 {
			t.Errorf("%v: listed %q", answer, got)
		}
		if err := store.Delete(t.Context(), "a"); err != nil {
			t.Errorf("%v: %v", answer, err)
		}
		if retries.Load() < 5 {
			t.Errorf("%v: told of %d retries, want one for each kind of request", answer, retries.Load())
		}
	}
}

// refuse answers as OSS does, for a HEAD in the header it has for that.
func refuse(w http.ResponseWriter, status int, code string) {
	said := "<Error><Code>" + code + "</Code><Message>m</Message></Error>"
	w.Header().Set("X-Oss-Err", base64.StdEncoding.EncodeToString([]byte(said)))
	w.WriteHeader(status)
	io.WriteString(w, said)
}

func TestRefusalsForGoodAreNotRetried(t *testing.T) {
	tests := []struct {
		status     int
		code, says string
	}{
		{403, "AccessDenied", "the credentials need the right oss:GetBucketVersioning"},
		{403, "InvalidAccessKeyId", "does not exist, is disabled"},
		{403, "SignatureDoesNotMatch", "the secret is not"},
		{403, "RequestTimeTooSkewed", "clock"},
		{403, "UserDisable", "UserDisable"},
		{404, "NoSuchBucket", "create the bucket"},
		{400, "InvalidArgument", "InvalidArgument"},
		{405, "", "405"},
	}
	for _, test := range tests {
		s := serve(t, osstest.Options{}, osstest.BucketOptions{})
		store := s.open(t, oss.Config{})
		s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			if _, bucket := r.URL.Query()["versioning"]; test.code == "AccessDenied" && bucket {
				next.ServeHTTP(w, r) // a denial there is no error
				return
			}
			w.Header().Set("X-Oss-Request-Id", "5FF16B65F05BC932307A3C3C")
			if test.code == "" {
				w.WriteHeader(test.status)
				return
			}
			refuse(w, test.status, test.code)
		})
		says := strings.Replace(test.says, "oss:GetBucketVersioning", "oss:GetObject", 1)
		var err error
		n := s.count(http.MethodGet, func() { _, err = store.Get(t.Context(), "a") })
		wantError(t, err, archive.ErrUnavailable, says, "5FF16B65F05BC932307A3C3C", "oss: get a")
		if errors.Is(err, fs.ErrNotExist) || n > 2 {
			t.Errorf("%s: got %v after %d requests", test.code, err, n)
		}
	}
}

func TestAMissingBucketIsNotAMissingObject(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store, err := oss.Open(t.Context(), oss.Config{Bucket: "nowhere", Endpoint: s.url, Region: osstest.DefaultRegion})
	if err != nil {
		t.Fatal(err)
	}
	check := func(op string, err error) {
		t.Helper()
		if errors.Is(err, fs.ErrNotExist) || !errors.Is(err, archive.ErrUnavailable) || !strings.Contains(err.Error(), "NoSuchBucket") {
			t.Errorf("%s: got %v, want NoSuchBucket and not fs.ErrNotExist", op, err)
		}
	}
	_, err = store.Get(t.Context(), "a")
	check("Get", err)
	_, err = store.Inspect(t.Context(), "a")
	check("Inspect", err)
	check("Delete", store.Delete(t.Context(), "a"))
	check("Put", tryPut(t, store, "a", "x", archive.PutOptions{}))
	for _, err := range store.List(t.Context(), "") {
		check("List", err)
	}
}

func TestABucketThatVanishesIsNotAMissingObject(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{})
	wantNone(t, store, "a")
	// A HEAD has no body, and older servers say no code in its header either.
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(404)
		if r.Method != http.MethodHead {
			io.WriteString(w, "<Error><Code>NoSuchBucket</Code><Message>m</Message></Error>")
		}
	})
	_, err := store.Inspect(t.Context(), "a")
	wantError(t, err, archive.ErrUnavailable, "NoSuchBucket")
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want no fs.ErrNotExist", err)
	}
}

func TestAPutWhoseAnswerWasLost(t *testing.T) {
	for _, versioning := range []string{"", "Enabled"} {
		s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: versioning})
		store := s.open(t, oss.Config{ReadBack: oss.ReadBackNone})

		s.through(loseFirstAnswer(nil))
		if err := tryPut(t, store, "ours", "content", archive.PutOptions{}); err != nil {
			t.Errorf("versioning %q: got %v, want nil: what is there is ours", versioning, err)
		}
		want(t, store, "ours", "content")

		for name, content := range map[string]string{"theirs": "contenT", "longer": "contents", "empty": ""} {
			s.through(loseFirstAnswer(func() {
				if err := s.client(t).PutObject(name, strings.NewReader(content)); err != nil {
					t.Error(err)
				}
			}))
			wantError(t, tryPut(t, store, name, "content", archive.PutOptions{}), fs.ErrExist)
			want(t, store, name, content)
		}

		s.through(loseFirstAnswer(func() {}))
		if err := tryPut(t, store, "lost", "content", archive.PutOptions{}); err != nil {
			t.Errorf("versioning %q: got %v, want nil: it was stored at the second try", versioning, err)
		}
		if objects, err := s.Objects(bucketName); err != nil || len(objects) != 5 {
			t.Errorf("versioning %q: %d versions of 5 objects, error %v", versioning, len(objects), err)
		}
	}
}

// A first try may be given up and land after the second has looked: what it
// stored is then the oldest version, and ours.
func TestATryThatLandsLate(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	store := s.open(t, oss.Config{})
	var n atomic.Int32
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || r.Header.Get("X-Oss-Forbid-Overwrite") == "" {
			next.ServeHTTP(w, r)
			return
		}
		switch n.Add(1) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			if err := s.client(t).PutObject("a", strings.NewReader("content")); err != nil {
				t.Error(err)
			}
		}
		next.ServeHTTP(w, r)
	})
	put(t, store, "a", "content")
	want(t, store, "a", "content")
	if objects, err := s.Objects(bucketName); err != nil || len(objects) != 1 {
		t.Errorf("the bucket has %+v, error %v; want one version", objects, err)
	}
}

func TestABodyThatIsCutGoesOn(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 40_000)
	for _, versioning := range []string{"", "Enabled"} {
		s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: versioning})
		var retries atomic.Int32
		store := s.open(t, oss.Config{OnRetry: func(error) { retries.Add(1) }})
		put(t, store, "a", content)
		if err := s.client(t).PutObject("b", strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		var cuts atomic.Int32
		s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/a") {
				next.ServeHTTP(w, r)
				return
			}
			if n := cuts.Add(1); n > 1 && (r.Header.Get("X-Oss-Range-Behavior") != "standard" || r.Header.Get("If-Match") == "") {
				t.Errorf("request %d: range behaviour %q, If-Match %q", n, r.Header.Get("X-Oss-Range-Behavior"), r.Header.Get("If-Match"))
			}
			next.ServeHTTP(&cut{ResponseWriter: w, left: 150_000}, r)
		})
		want(t, store, "a", content)
		if cuts.Load() < 4 || retries.Load() < 4 {
			t.Errorf("%d requests, told of %d retries; want 5 or so", cuts.Load(), retries.Load())
		}
	}
}

// cut breaks the connection off after some bytes of an answer.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) > c.left {
		c.ResponseWriter.Write(p[:c.left])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func TestABodyThatChangesInTheMiddleFails(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 40_000)
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{})
	put(t, store, "a", content)
	var once sync.Once
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			once.Do(func() {
				if err := s.Substitute(bucketName, "a", []byte(strings.ToUpper(content))); err != nil {
					t.Error(err)
				}
			})
		}
		next.ServeHTTP(&cut{ResponseWriter: w, left: 150_000}, r)
	})
	_, err := get(t, store, "a")
	wantError(t, err, archive.ErrUnavailable, "PreconditionFailed")
}

func TestABodyDamagedOnTheWayIsNoCorruption(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{})
	put(t, store, "a", "content")
	for name, second := range map[string]string{"a": "other", "b": "gone", "c": "another CRC64"} {
		if name != "a" {
			s.through(nil)
			put(t, store, name, "content")
		}
		gets := 0
		s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			if gets++; gets == 1 {
				next.ServeHTTP(crc{&flipped{w}, "1"}, r)
				return
			}
			switch second {
			case "other":
				next.ServeHTTP(crc{w, "1"}, r)
			case "gone":
				w.WriteHeader(http.StatusNotFound)
			default:
				next.ServeHTTP(&flipped{w}, r)
			}
		})
		_, err := get(t, store, name)
		wantError(t, err, archive.ErrUnavailable, "damaged on the way", "oss: get "+name)
		if errors.Is(err, archive.ErrCorrupt) || errors.Is(err, fs.ErrNotExist) || gets != 2 {
			t.Errorf("%s: got %v after %d requests, want archive.ErrUnavailable alone after two", name, err, gets)
		}
	}
	for _, told := range []string{"", "no number"} { // digests decide then
		s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(crc{w, told}, r)
		})
		want(t, store, "a", "content")
	}
}

// flipped changes the first byte of each write.
type flipped struct{ http.ResponseWriter }

func (f *flipped) Write(p []byte) (int, error) {
	other := bytes.Clone(p)
	other[0]++
	return f.ResponseWriter.Write(other)
}

// A damaged disk does not change what the service knows of an object, nor does
// reading it again help.
func TestAnObjectDamagedAtRestIsCorrupt(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{})
	content := strings.Repeat("content", 100_000)
	put(t, store, "a", content)
	if err := s.Corrupt(bucketName, "a", func(b []byte) []byte { b[0]++; return b }); err != nil {
		t.Fatal(err)
	}
	want(t, store, "a", "d"+content[1:])
	_, err := archive.Fetch(t.Context(), store, manifest.Object{Name: "a", Size: int64(len(content)), SHA256: manifest.Sum([]byte(content))})
	if !errors.Is(err, archive.ErrCorrupt) || errors.Is(err, archive.ErrUnavailable) {
		t.Errorf("Fetch: got %v, want archive.ErrCorrupt", err)
	}
}

// crc has an answer tell another CRC64; empty: none.
type crc struct {
	http.ResponseWriter
	told string
}

func (c crc) WriteHeader(status int) {
	c.Header().Del("X-Oss-Hash-Crc64ecma")
	if c.told != "" {
		c.Header().Set("X-Oss-Hash-Crc64ecma", c.told)
	}
	c.ResponseWriter.WriteHeader(status)
}

func TestAPutComparesTheCRC(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{ReadBack: oss.ReadBackNone})
	onPut := func(told string) {
		s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				w = crc{w, told}
			}
			next.ServeHTTP(w, r)
		})
	}
	onPut("12345")
	wantError(t, tryPut(t, store, "a", "content", archive.PutOptions{}), archive.ErrUnavailable, "damaged on the way")
	wantNone(t, store, "a")

	onPut("") // then it is read back whatever was said
	n := s.count(http.MethodGet, func() { put(t, store, "b", "content") })
	if n != 1 {
		t.Errorf("%d GETs after a PUT without a CRC64, want 1", n)
	}
}

func TestABodyDamagedOnItsWayThereIsSentAgain(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{})
	var n atomic.Int32
	damage := func(times int32) {
		n.Store(0)
		s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && n.Add(1) <= times {
				r.Body = io.NopCloser(strings.NewReader("cOntent"))
			}
			next.ServeHTTP(w, r)
		})
	}
	damage(2)
	put(t, store, "a", "content")
	want(t, store, "a", "content")
	damage(100)
	wantError(t, tryPut(t, store, "b", "content", archive.PutOptions{}), archive.ErrUnavailable, "InvalidDigest")
	if n.Load() != 3 {
		t.Errorf("sent %d times, want 3", n.Load())
	}
	wantNone(t, store, "b")
}

func TestATokenThatExpiresInMidRunIsRenewed(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	var n atomic.Int32
	issue := func(i int32) {
		s.AddCredentials(osstest.Credentials{AccessKeyID: fmt.Sprint("sts", i), AccessKeySecret: "secret", SecurityToken: fmt.Sprint("token", i)})
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := n.Add(1)
		issue(i)
		fmt.Fprintf(w, `{"AccessKeyId":"sts%d","AccessKeySecret":"secret","SecurityToken":"token%d","Expiration":%q}`,
			i, i, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(issuer.Close)
	t.Setenv("ALIBABA_CLOUD_CREDENTIALS_URI", issuer.URL)
	store := s.open(t, oss.Config{Credentials: "uri"})

	content := strings.Repeat("0123456789abcdef", 40_000)
	put(t, store, "a", content)
	s.ExpireToken("token1")
	put(t, store, "b", content)
	s.ExpireToken("token2")
	want(t, store, "a", content)

	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&cut{ResponseWriter: w, left: 400_000}, r)
		s.ExpireToken("token3") // and in the middle of a body
	})
	body, err := store.Get(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	s.ExpireToken("token3")
	if got, err := io.ReadAll(body); err != nil || string(got) != content {
		t.Errorf("read %d bytes, error %v; want %d", len(got), err, len(content))
	}
	if n.Load() != 4 {
		t.Errorf("asked for keys %d times, want 4", n.Load())
	}
}

func TestATokenThatStaysExpiredIsSaid(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	s.AddCredentials(osstest.Credentials{AccessKeyID: "sts", AccessKeySecret: "hunter2", SecurityToken: "hunter3"})
	t.Setenv("OSS_ACCESS_KEY_ID", "sts")
	t.Setenv("OSS_ACCESS_KEY_SECRET", "hunter2")
	t.Setenv("OSS_SESSION_TOKEN", "hunter3")
	store := s.open(t, oss.Config{})
	put(t, store, "a", "content")
	s.ExpireToken("hunter3")
	n := s.count(http.MethodGet, func() {
		_, err := store.Get(t.Context(), "a")
		wantError(t, err, archive.ErrUnavailable, "SecurityTokenExpired", "get a new one")
		if strings.Contains(err.Error(), "hunter") {
			t.Errorf("got %v, with a secret", err)
		}
	})
	if n != 2 {
		t.Errorf("asked %d times, want once more after the refusal", n)
	}
}

func TestKeysThatDoNotWork(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	t.Setenv("OSS_ACCESS_KEY_SECRET", "hunter2")
	_, err := s.open(t, oss.Config{}).Get(t.Context(), "a")
	wantError(t, err, archive.ErrUnavailable, "SignatureDoesNotMatch", "secret")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, with the secret", err)
	}
	t.Setenv("OSS_ACCESS_KEY_ID", "nobody")
	_, err = s.open(t, oss.Config{}).Get(t.Context(), "a")
	wantError(t, err, archive.ErrUnavailable, "InvalidAccessKeyId")
	t.Setenv("OSS_ACCESS_KEY_ID", "")
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "")
	_, err = s.open(t, oss.Config{Credentials: "env"}).Get(t.Context(), "a")
	wantError(t, err, archive.ErrUnavailable, "no credentials", "OSS_ACCESS_KEY_ID")
}

func TestARightThatIsMissingIsNamed(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	put(t, s.open(t, oss.Config{}), "a", "content")
	limit(t, s, "oss:PutObject", "oss:GetObject", "oss:DeleteObject", "oss:ListObjects", "oss:GetBucketWorm", "oss:InitiateBucketWorm")
	store := s.open(t, oss.Config{})
	_, err := store.Get(t.Context(), "a")
	wantError(t, err, archive.ErrUnavailable, "AccessDenied", "oss:GetObject")
	wantError(t, tryPut(t, store, "b", "x", archive.PutOptions{}), archive.ErrUnavailable, "AccessDenied", "oss:PutObject")
	for _, err := range store.List(t.Context(), "") {
		wantError(t, err, archive.ErrUnavailable, "AccessDenied", "oss:ListObjects")
	}
	_, err = store.BucketLock(t.Context())
	wantError(t, err, archive.ErrUnavailable, "AccessDenied", "oss:GetBucketWorm")
}

func TestAClockThatIsOffIsSaid(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	for _, skew := range []time.Duration{time.Hour, -time.Hour} {
		s.SetSkew(skew)
		err := tryPut(t, s.open(t, oss.Config{}), "a", "x", archive.PutOptions{})
		wantError(t, err, archive.ErrUnavailable, "RequestTimeTooSkewed", "clock is off by", "set it")
	}
}

func TestTheWrongRegionIsSaid(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Region: "cn-beijing"})
	err := tryPut(t, s.open(t, oss.Config{}), "a", "x", archive.PutOptions{})
	wantError(t, err, archive.ErrUnavailable, "specified endpoint", "oss-cn-beijing", "region=cn-beijing")

	s = serve(t, osstest.Options{}, osstest.BucketOptions{})
	err = tryPut(t, s.open(t, oss.Config{Region: "cn-shanghai"}), "a", "x", archive.PutOptions{})
	wantError(t, err, archive.ErrUnavailable, "signing region", "correct it")
}

func TestARedirectIsNotFollowed(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	for _, status := range []int{301, 307, 308} {
		s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, status)
		})
		_, err := s.open(t, oss.Config{}).Get(t.Context(), "a")
		wantError(t, err, archive.ErrUnavailable, fmt.Sprint(status), "endpoint")
	}
	if elsewhere.Load() > 0 {
		t.Error("requests, which are signed, went to another host")
	}
}

func TestAServerThatSaysNothingIsGivenUp(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store, err := oss.Open(t.Context(), oss.Config{
		Bucket: bucketName, Region: osstest.DefaultRegion, Endpoint: "http://" + silent.Addr().String(),
		Idle: 100 * time.Millisecond, GiveUpAfter: 500 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	wantError(t, tryPut(t, store, "a", "x", archive.PutOptions{}), archive.ErrUnavailable, "gave up after")
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %s", took)
	}

	// And one that stops in the middle of a body.
	put(t, s.open(t, oss.Config{}), "a", strings.Repeat("content ", 100_000))
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/a") {
			next.ServeHTTP(&stall{cut{ResponseWriter: w, left: 1000}, stop}, r)
			return
		}
		next.ServeHTTP(w, r)
	})
	body, err := s.open(t, oss.Config{Idle: 100 * time.Millisecond, GiveUpAfter: 20 * time.Second}).Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	done := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, body, 5000)
		done <- err
	}()
	select {
	case err := <-done: // each try has a thousand bytes more
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("still reading after 20 s")
	}
}

// stall stops in an answer and keeps the connection.
type stall struct {
	cut
	until chan struct{}
}

func (s *stall) Write(p []byte) (int, error) {
	if len(p) > s.left {
		s.ResponseWriter.Write(p[:s.left])
		s.ResponseWriter.(http.Flusher).Flush()
		<-s.until
		panic(http.ErrAbortHandler)
	}
	s.left -= len(p)
	return s.ResponseWriter.Write(p)
}

func TestWhoIsCancelledDoesNotWait(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	s.through(func(http.Handler, http.ResponseWriter, *http.Request) { <-stop })
	store := s.open(t, oss.Config{})
	calls := map[string]func(context.Context) error{
		"Put": func(ctx context.Context) error {
			return store.Put(ctx, "a", strings.NewReader("x"), archive.PutOptions{})
		},
		"Get":        func(ctx context.Context) error { _, err := store.Get(ctx, "a"); return err },
		"BucketLock": func(ctx context.Context) error { _, err := store.BucketLock(ctx); return err },
		"Inspect":    func(ctx context.Context) error { _, err := store.Inspect(ctx, "a"); return err },
		"Delete":     func(ctx context.Context) error { return store.Delete(ctx, "a") },
	}
	for name, call := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begun := time.Now()
		err := call(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 5*time.Second {
			t.Errorf("%s: got %v after %s, want the context's error soon", name, err, time.Since(begun))
		}
	}
}

func TestWhoIsCancelledDoesNotWaitForKeys(t *testing.T) {
	stop := make(chan struct{})
	issuer := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	t.Cleanup(issuer.Close)
	t.Cleanup(func() { close(stop) })
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	t.Setenv("ALIBABA_CLOUD_CREDENTIALS_URI", issuer.URL)
	store := s.open(t, oss.Config{Credentials: "uri"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := store.Get(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 5*time.Second {
		t.Errorf("got %v after %s, want context.DeadlineExceeded soon", err, time.Since(begun))
	}
}

// Go reads the variables of proxies once in a process, so this takes another.
func TestAProxyIsUsed(t *testing.T) {
	const variable = "OSS_TEST_THROUGH_PROXY"
	if os.Getenv(variable) != "" {
		throughProxy(t)
		return
	}
	server := serve(t, osstest.Options{Host: "oss.invalid"}, osstest.BucketOptions{})
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != bucketName+".oss.invalid" || !r.URL.IsAbs() {
			http.Error(w, "no host "+r.Host, http.StatusBadGateway)
			return
		}
		asked.Add(1)
		r.URL.Scheme, r.URL.Host = "", ""
		server.serve(w, r)
	}))
	t.Cleanup(proxy.Close)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAProxyIsUsed$", "-test.count=1")
	cmd.Env = append(os.Environ(), variable+"=1", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if asked.Load() == 0 {
		t.Error("nothing went through the proxy")
	}
}

func throughProxy(t *testing.T) {
	store, err := oss.Open(t.Context(), oss.Config{
		Bucket: bucketName, Endpoint: "http://oss.invalid", Region: osstest.DefaultRegion, GiveUpAfter: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, store, "a/ü", "content")
	want(t, store, "a/ü", "content")
}

func TestAReadBackDamagedOnTheWayIsDoneAgain(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	var n atomic.Int32
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/a") && n.Add(1) == 1 {
			w = crc{w, "12345"}
		}
		next.ServeHTTP(w, r)
	})
	store := s.open(t, oss.Config{})
	put(t, store, "a", "content")
	if n.Load() != 2 {
		t.Errorf("read back %d times, want 2", n.Load())
	}
	want(t, store, "a", "content")
}
