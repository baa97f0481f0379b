package osstest_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive/oss/osstest"
)

// at is a client that takes every host name for the server's.
func (f *fixture) at(t *testing.T, endpoint string, options ...oss.ClientOption) *oss.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(f.url, "http://"))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	options = append([]oss.ClientOption{
		oss.AuthVersion(oss.AuthV4), oss.Region(osstest.DefaultRegion), oss.HTTPClient(&http.Client{Transport: transport}),
	}, options...)
	c, err := oss.New(endpoint, osstest.DefaultAccessKeyID, osstest.DefaultAccessKeySecret, options...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAddresses(t *testing.T) {
	f := newFixture(t, osstest.Options{Host: "oss.test"}, osstest.BucketOptions{CNAME: "Files.Example.com"})
	if err := f.CreateBucket("elsewhere", osstest.BucketOptions{Region: "cn-beijing"}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, endpoint, bucket string
		options                []oss.ClientOption
		status                 int // 0 is success
		code                   string
	}{
		{"IP", "http://127.0.0.1", "bucket", nil, 0, ""},
		{"IPv6", "http://[::1]:80", "bucket", nil, 0, ""},
		{"public", "http://oss-cn-hangzhou.aliyuncs.com", "bucket", nil, 0, ""},
		{"internal", "http://oss-cn-hangzhou-internal.aliyuncs.com", "bucket", nil, 0, ""},
		{"accelerate", "http://oss-accelerate.aliyuncs.com", "bucket", nil, 0, ""},
		{"localhost", "http://localhost:8080", "bucket", nil, 0, ""},
		{"localhost, path", "http://localhost", "bucket", []oss.ClientOption{oss.ForcePathStyle(true)}, 0, ""},
		{"own host", "http://oss.test", "bucket", nil, 0, ""},
		{"own host, path", "http://oss.test", "bucket", []oss.ClientOption{oss.ForcePathStyle(true)}, 0, ""},
		{"cname", "http://files.example.com", "bucket", []oss.ClientOption{oss.UseCname(true)}, 0, ""},
		{"public, path", "http://oss-cn-hangzhou.aliyuncs.com", "bucket", []oss.ClientOption{oss.ForcePathStyle(true)}, 403, "SecondLevelDomainForbidden"},
		{"unknown host", "http://example.net", "bucket", nil, 403, "NonStandardHostForbidden"},
		{"other region's endpoint", "http://oss-cn-beijing.aliyuncs.com", "bucket", nil, 403, "AccessDenied"},
		{"other region's bucket", "http://127.0.0.1", "elsewhere", nil, 403, "AccessDenied"},
		{"no bucket", "http://127.0.0.1", "missing", nil, 404, "NoSuchBucket"},
	} {
		for auth, options := range auths {
			t.Run(test.name+" "+auth, func(t *testing.T) {
				b, err := f.at(t, test.endpoint, append(options, test.options...)...).Bucket(test.bucket)
				if err != nil {
					t.Fatal(err)
				}
				err = b.PutObject("a/b c", strings.NewReader(test.name))
				if test.status != 0 {
					wantCode(t, err, test.status, test.code)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got, err := f.Read("bucket", "a/b c"); err != nil || string(got) != test.name {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
	}
	b, err := f.client(t).Bucket("elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.GetObject("k")
	if e, ok := err.(oss.ServiceError); !ok || e.Endpoint != "oss-cn-beijing.aliyuncs.com" {
		t.Errorf("the error does not name the right endpoint: %v", err)
	}
}

func TestBuckets(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	c := f.client(t)
	if err := c.CreateBucket("archived", oss.StorageClass(oss.StorageArchive)); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateBucket("archived", oss.StorageClass(oss.StorageArchive)); err != nil {
		t.Errorf("once more: %v", err)
	}
	wantCode(t, c.CreateBucket("archived", oss.StorageClass(oss.StorageStandard)), 409, "BucketAlreadyExists")
	info, err := c.GetBucketInfo("archived")
	if err != nil || info.BucketInfo.StorageClass != "Archive" || info.BucketInfo.Location != "oss-cn-hangzhou" || info.BucketInfo.Versioning != "" || info.BucketInfo.ACL != "private" {
		t.Errorf("got %+v, %v", info, err)
	}
	if err := c.SetBucketVersioning("archived", oss.VersioningConfig{Status: "Enabled"}); err != nil {
		t.Fatal(err)
	}
	if info, err := c.GetBucketInfo("archived"); err != nil || info.BucketInfo.Versioning != "Enabled" {
		t.Errorf("got %+v, %v", info, err)
	}
	if location, err := c.GetBucketLocation("archived"); err != nil || location != "oss-cn-hangzhou" {
		t.Errorf("got %q, %v", location, err)
	}
	if ok, err := c.IsBucketExist("archived"); !ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	list, err := c.ListBuckets(oss.MaxKeys(1))
	if err != nil || len(list.Buckets) != 1 || list.Buckets[0].Name != "archived" || !list.IsTruncated || list.NextMarker != "archived" {
		t.Errorf("got %+v, %v", list, err)
	}
	if list, err = c.ListBuckets(oss.Marker("archived")); err != nil || len(list.Buckets) != 1 || list.Buckets[0].Name != "bucket" {
		t.Errorf("got %+v, %v", list, err)
	}
	if err := c.DeleteBucket("archived"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.DeleteBucket("archived"), 404, "NoSuchBucket")
	_, err = c.GetBucketInfo("archived")
	wantCode(t, err, 404, "NoSuchBucket")
	for _, name := range []string{"no", "Upper", "-x-", "under_score", strings.Repeat("b", 64)} {
		if err := f.CreateBucket(name, osstest.BucketOptions{}); err == nil {
			t.Errorf("bucket %q was made", name)
		}
	}
	if err := f.CreateBucket("bucket", osstest.BucketOptions{}); err == nil {
		t.Error("bucket was made twice")
	}
	if err := f.CreateBucket("other", osstest.BucketOptions{Class: "BOGUS"}); err == nil {
		t.Error("a bucket of no class was made")
	}
}

func TestAllIsPrivate(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	if acl, err := f.client(t).GetBucketACL("bucket"); err != nil || acl.ACL != "private" {
		t.Errorf("got %+v, %v", acl, err)
	}
	put(t, b, "k", "x")
	if acl, err := b.GetObjectACL("k"); err != nil || acl.ACL != "default" {
		t.Errorf("got %+v, %v", acl, err)
	}
	_, err := b.GetObjectACL("missing")
	wantCode(t, err, 404, "NoSuchKey")
	wantCode(t, f.client(t).SetBucketACL("bucket", oss.ACLPublicRead), 501, "NotImplemented")
}

func TestADirectoryIsFoundAgain(t *testing.T) {
	dir := t.TempDir()
	first := newFixture(t, osstest.Options{Dir: dir}, osstest.BucketOptions{Versioning: "Enabled", Class: "Archive"})
	b := first.bucket(t)
	old := put(t, b, "k/ü", "old", oss.Meta("a", "1")).Get("X-Oss-Version-Id")
	put(t, b, "k/ü", "new", oss.ServerSideEncryption("AES256"))
	put(t, b, "gone", "x")
	if err := first.Remove("bucket", "gone"); err != nil {
		t.Fatal(err)
	}
	if err := b.RestoreObject("k/ü", oss.VersionId(old)); err != nil {
		t.Fatal(err)
	}
	upload, err := b.InitiateMultipartUpload("m")
	if err != nil {
		t.Fatal(err)
	}
	list := parts(t, b, upload, []byte("part"))
	_, worm := retained(t, first, 7, true)
	want, err := first.Objects("bucket")
	if err != nil {
		t.Fatal(err)
	}

	second := &fixture{clock: &clock{}}
	if second.Server, err = osstest.New(osstest.Options{Dir: dir, Now: second.clock.now}); err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(second.Server)
	defer listener.Close()
	second.url = listener.URL
	got, err := second.Objects("bucket")
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %v, %v, want %v", got, err, want)
	}
	for i := range got {
		if got[i].VersionID != want[i].VersionID || got[i].CRC64 != want[i].CRC64 || !got[i].Modified.Equal(want[i].Modified) || got[i].Header["x-oss-meta-a"] != want[i].Header["x-oss-meta-a"] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
	b = second.bucket(t)
	second.clock.move(time.Hour)
	if got := get(t, b, "k/ü", oss.VersionId(old)); got != "old" {
		t.Errorf("got %q", got)
	}
	_, err = b.GetObject("k/ü")
	wantCode(t, err, 403, "InvalidObjectState")
	if _, err := b.CompleteMultipartUpload(upload, list); err != nil {
		t.Error(err)
	}
	wantWorm(t, second.client(t), worm, "Locked", 7)
	wantCode(t, b.DeleteObject("k/ü", oss.VersionId(old)), 409, "FileImmutable")
	newest := put(t, b, "k/ü", "newest").Get("X-Oss-Version-Id")
	if all, err := second.Objects("bucket"); err != nil || all[0].VersionID != newest {
		t.Errorf("the newest version is not the first: %+v, %v", all, err)
	}
	page, err := b.ListObjectVersions(oss.MaxKeys(10), oss.KeyMarker("k/ü"), oss.VersionIdMarker(newest))
	if err != nil || len(page.ObjectVersions) != 3 { // two older ones, and m
		t.Errorf("behind the newest version: %+v, %v", page.ObjectVersions, err)
	}
}

func TestADirectoryKeepsNoBytesOfWhatIsGone(t *testing.T) {
	dir := t.TempDir()
	f := newFixture(t, osstest.Options{Dir: dir}, osstest.BucketOptions{})
	b := f.bucket(t)
	put(t, b, "k", "one")
	put(t, b, "k", "two")
	wantCode(t, b.PutObject("k", strings.NewReader("three"), oss.ForbidOverWrite(true)), 409, "FileAlreadyExists")
	wantCode(t, b.PutObject("other", strings.NewReader("x"), oss.ContentMD5("AAAAAAAAAAAAAAAAAAAAAA==")), 400, "InvalidDigest")
	upload, err := b.InitiateMultipartUpload("m")
	if err != nil {
		t.Fatal(err)
	}
	parts(t, b, upload, []byte("part"))
	if err := b.AbortMultipartUpload(upload); err != nil {
		t.Fatal(err)
	}
	if err := f.Corrupt("bucket", "k", bytes.ToUpper); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir + "/blobs"); err != nil || len(left) != 1 {
		t.Errorf("%d files, %v, want 1", len(left), err)
	}
	if err := b.DeleteObject("k"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir + "/blobs"); err != nil || len(left) != 0 {
		t.Errorf("%d files, %v, want none", len(left), err)
	}
}

func TestWhatHappensBehindTheProtocolsBack(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		f := newFixture(t, osstest.Options{Dir: dir}, osstest.BucketOptions{})
		b := f.bucket(t)
		h := put(t, b, "k", "right")
		retained(t, f, 10, true)
		if err := f.Corrupt("bucket", "k", func(body []byte) []byte { body[0] ^= 1; return body }); err != nil {
			t.Fatal(err)
		}
		if got := get(t, b, "k"); got != "sight" {
			t.Errorf("got %q", got)
		}
		head, err := b.GetObjectDetailedMeta("k")
		if err != nil || head.Get("Etag") != h.Get("Etag") || head.Get("X-Oss-Hash-Crc64ecma") != crcOf("right") {
			t.Errorf("the corruption shows: %v, %v", head, err)
		}
		if err := b.GetObjectToFile("k", t.TempDir()+"/k"); err == nil {
			t.Error("the SDK did not see the corruption")
		}
		if err := f.Corrupt("bucket", "k", func([]byte) []byte { return nil }); err != nil {
			t.Fatal(err)
		}
		if got := get(t, b, "k"); got != "\x00\x00\x00\x00\x00" {
			t.Errorf("got %q", got)
		}
		if err := f.Substitute("bucket", "k", []byte("another")); err != nil {
			t.Fatal(err)
		}
		if err := b.GetObjectToFile("k", t.TempDir()+"/k"); err != nil {
			t.Errorf("the substitution shows: %v", err)
		}
		if err := f.Remove("bucket", "k"); err != nil {
			t.Fatal(err)
		}
		_, err = b.GetObject("k")
		wantCode(t, err, 404, "NoSuchKey")
		for _, err := range []error{
			f.Remove("bucket", "k"), f.Remove("missing", "k"), f.Substitute("bucket", "k", nil),
			f.Corrupt("bucket", "k", bytes.ToUpper), f.SetVersioning("bucket", ""),
		} {
			if err == nil {
				t.Error("what is not there was changed")
			}
		}
	}
}

func TestBeforeAnswersFirst(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	f.SetBefore(func(r *http.Request) (int, string) {
		if r.Method == "PUT" {
			return 503, "SlowDown"
		}
		return 0, ""
	})
	wantCode(t, b.PutObject("k", bytes.NewReader(make([]byte, 8<<20))), 503, "SlowDown")
	_, err := b.GetObject("k")
	wantCode(t, err, 404, "NoSuchKey")
	f.SetBefore(nil)
	put(t, b, "k", "x")
}

// slowReader takes a reply only when it may.
type slowReader struct {
	http.ResponseWriter
	reached, may chan struct{}
}

func (s slowReader) Write(p []byte) (int, error) {
	close(s.reached)
	<-s.may
	return s.ResponseWriter.Write(p)
}

func TestASlowReaderKeepsNobodyWaiting(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	reached, may := make(chan struct{}), make(chan struct{})
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("list-type") {
			w = slowReader{w, reached, may}
		}
		f.ServeHTTP(w, r)
	}))
	defer listener.Close()
	f.url = listener.URL
	b := f.bucket(t)
	listed := make(chan error)
	go func() {
		_, err := b.ListObjectsV2()
		listed <- err
	}()
	<-reached
	put(t, b, "k", "x")
	close(may)
	if err := <-listed; err != nil {
		t.Error(err)
	}
}

func TestTenThousandObjectsInOrder(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 objects")
	}
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	const n = 10000
	for i := range n {
		key := decimal(uint64(i*7919%n) + n)
		if err := b.PutObject(key, strings.NewReader(key)); err != nil {
			t.Fatal(err)
		}
	}
	i, token := 0, ""
	for {
		page, err := b.ListObjectsV2(oss.MaxKeys(1000), oss.ContinuationToken(token))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Objects {
			if o.Key != decimal(uint64(i)+n) {
				t.Fatalf("object %d is %s", i, o.Key)
			}
			i++
		}
		if token = page.NextContinuationToken; !page.IsTruncated {
			break
		}
	}
	if i != n {
		t.Errorf("%d objects", i)
	}
}

func TestAReaderHasWhatItOpened(t *testing.T) {
	f := newFixture(t, osstest.Options{Dir: t.TempDir()}, osstest.BucketOptions{})
	b := f.bucket(t)
	old := strings.Repeat("old", 4<<20)
	put(t, b, "k", old)
	body, err := b.GetObject("k")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	put(t, b, "k", "new")
	got, err := io.ReadAll(body)
	if err != nil || string(got) != old {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
