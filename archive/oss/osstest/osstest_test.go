package osstest_test

import (
	"bytes"
	"errors"
	"hash/crc64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive/oss/osstest"
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	add time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.add)
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add += d
}

// fixture is a server that listens, and its clock.
type fixture struct {
	*osstest.Server
	clock *clock
	url   string
}

// newFixture starts a server with an empty bucket of the name bucket.
func newFixture(t *testing.T, o osstest.Options, bo osstest.BucketOptions) *fixture {
	t.Helper()
	f := &fixture{clock: &clock{}}
	o.Now = f.clock.now
	var err error
	if f.Server, err = osstest.New(o); err != nil {
		t.Fatal(err)
	}
	if err := f.CreateBucket("bucket", bo); err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(f.Server)
	t.Cleanup(listener.Close)
	f.url = listener.URL
	return f
}

// client is the unmodified SDK with the server's default key.
func (f *fixture) client(t *testing.T, options ...oss.ClientOption) *oss.Client {
	t.Helper()
	options = append([]oss.ClientOption{oss.AuthVersion(oss.AuthV4), oss.Region(osstest.DefaultRegion)}, options...)
	c, err := oss.New(f.url, osstest.DefaultAccessKeyID, osstest.DefaultAccessKeySecret, options...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *fixture) bucket(t *testing.T, options ...oss.ClientOption) *oss.Bucket {
	t.Helper()
	b, err := f.client(t, options...).Bucket("bucket")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantCode fails unless err is the server's, with that status and code.
func wantCode(t *testing.T, err error, status int, code string) {
	t.Helper()
	var e oss.ServiceError
	if !errors.As(err, &e) || e.StatusCode != status || e.Code != code {
		t.Errorf("got %v, want status %d and code %s", err, status, code)
	}
}

func get(t *testing.T, b *oss.Bucket, key string, options ...oss.Option) string {
	t.Helper()
	body, err := b.GetObject(key, options...)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	defer body.Close()
	all, err := io.ReadAll(body)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return string(all)
}

func put(t *testing.T, b *oss.Bucket, key, body string, options ...oss.Option) http.Header {
	t.Helper()
	var header http.Header
	if err := b.PutObject(key, strings.NewReader(body), append(options, oss.GetResponseHeader(&header))...); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return header
}

var auths = map[string][]oss.ClientOption{
	"V1":            {oss.AuthVersion(oss.AuthV1)},
	"V4":            {oss.AuthVersion(oss.AuthV4)},
	"V4 additional": {oss.AuthVersion(oss.AuthV4), oss.AdditionalHeaders([]string{"host", "date", "content-length", "user-agent"})},
}

var keys = []string{
	"a", "a/b", "a//b", "a b+c", "%2F%", "..", "./x", "Größe/日本語/😀", "q?x=1&y#z", "*'()!~-_.", strings.Repeat("k", 1023),
	"new\nline", "snapshots/20261122T160501Z-1f7a9c04/orders/r0003-000002.parquet",
}

func TestObjectsComeBackAsTheyWent(t *testing.T) {
	for name, auth := range auths {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
			b := f.bucket(t, auth...)
			for _, key := range keys {
				body := "body of " + key
				h := put(t, b, key, body, oss.Meta("Answer", "42"), oss.ContentType("text/x-test"), oss.CacheControl("no-store"))
				if got, want := h.Get("X-Oss-Hash-Crc64ecma"), crcOf(body); got != want {
					t.Errorf("put %s: crc %s, want %s", key, got, want)
				}
				if got := get(t, b, key); got != body {
					t.Errorf("get %s: %q, want %q", key, got, body)
				}
				head, err := b.GetObjectDetailedMeta(key)
				if err != nil {
					t.Fatal(err)
				}
				for name, want := range map[string]string{
					"X-Oss-Meta-Answer": "42", "Content-Type": "text/x-test", "Cache-Control": "no-store",
					"X-Oss-Hash-Crc64ecma": crcOf(body), "Etag": h.Get("Etag"), "X-Oss-Storage-Class": "Standard",
					"X-Oss-Object-Type": "Normal", "X-Oss-Version-Id": "", "Content-Md5": h.Get("Content-Md5"),
				} {
					if got := head.Get(name); got != want {
						t.Errorf("head %s: %s is %q, want %q", key, name, got, want)
					}
				}
			}
			if err := b.DeleteObject("a"); err != nil {
				t.Fatal(err)
			}
			if err := b.DeleteObject("a"); err != nil {
				t.Errorf("delete of what is gone: %v", err)
			}
			_, err := b.GetObject("a")
			wantCode(t, err, 404, "NoSuchKey")
			_, err = b.GetObjectDetailedMeta("a")
			wantCode(t, err, 404, "NoSuchKey")
			if ok, err := b.IsObjectExist("a"); ok || err != nil {
				t.Errorf("IsObjectExist: %v, %v", ok, err)
			}
		})
	}
}

func crcOf(body string) string {
	return decimal(crc64.Checksum([]byte(body), crc64.MakeTable(crc64.ECMA)))
}

// The check value of CRC-64/XZ in the catalogue of parametrised CRCs.
func TestCRCIsThatOfXZ(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	h := put(t, f.bucket(t), "k", "123456789")
	if got, want := h.Get("X-Oss-Hash-Crc64ecma"), decimal(0x995dc9bbdf1939fa); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEmptyAndLargeObjects(t *testing.T) {
	f := newFixture(t, osstest.Options{Dir: t.TempDir()}, osstest.BucketOptions{})
	b := f.bucket(t)
	put(t, b, "empty", "")
	if got := get(t, b, "empty"); got != "" {
		t.Errorf("got %q", got)
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	if err := b.PutObject("large", bytes.NewReader(large)); err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/large"
	if err := b.GetObjectToFile("large", path); err != nil { // compares CRCs
		t.Fatal(err)
	}
	// A reader of unknown size is sent in chunks.
	if err := b.PutObject("chunked", io.MultiReader(bytes.NewReader(large))); err != nil {
		t.Fatal(err)
	}
	if got := get(t, b, "chunked"); got != string(large) {
		t.Errorf("chunked: %d bytes came back, want %d", len(got), len(large))
	}
}

func TestListsPageInOrder(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	var want []string
	for _, k := range []string{"a", "b/1", "b/2", "b/c/3", "b0", "c d", "日本"} {
		put(t, b, k, k)
		want = append(want, k)
	}
	for _, size := range []int{1, 2, 3, 1000} {
		var v1, v2 []string
		for marker := ""; ; {
			page, err := b.ListObjects(oss.MaxKeys(size), oss.Marker(marker))
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page.Objects {
				v1 = append(v1, o.Key)
			}
			if marker = page.NextMarker; !page.IsTruncated {
				break
			}
		}
		for token := ""; ; {
			page, err := b.ListObjectsV2(oss.MaxKeys(size), oss.ContinuationToken(token))
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page.Objects {
				v2 = append(v2, o.Key)
			}
			if token = page.NextContinuationToken; !page.IsTruncated {
				break
			}
		}
		if got := strings.Join(v1, "|"); got != strings.Join(want, "|") {
			t.Errorf("ListObjects by %d: %s", size, got)
		}
		if got := strings.Join(v2, "|"); got != strings.Join(want, "|") {
			t.Errorf("ListObjectsV2 by %d: %s", size, got)
		}
	}
}

func TestOneOfManyWritersWins(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		f := newFixture(t, osstest.Options{Dir: dir}, osstest.BucketOptions{})
		b := f.bucket(t)
		const writers = 16
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				errs[i] = b.PutObject("one", strings.NewReader(strings.Repeat(decimal(uint64(i)), 10000)), oss.ForbidOverWrite(true))
			})
		}
		wg.Wait()
		winner := -1
		for i, err := range errs {
			if err == nil && winner >= 0 {
				t.Errorf("writers %d and %d both won", winner, i)
			}
			if err == nil {
				winner = i
				continue
			}
			wantCode(t, err, 409, "FileAlreadyExists")
		}
		if winner < 0 {
			t.Fatal("nobody won")
		}
		if got, want := get(t, b, "one"), strings.Repeat(decimal(uint64(winner)), 10000); got != want {
			t.Error("the object is not the winner's")
		}
	}
}
