package oss_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/oss"
	"github.com/otsnap/otsnap/archive/oss/osstest"
)

const bucketName = "backups"

// service is a server of the OSS protocol that can be got at.
type service struct {
	*osstest.Server
	url string

	mu    sync.Mutex
	front func(next http.Handler, w http.ResponseWriter, r *http.Request)
	log   []string // of requests: method, a space, path, query
}

// serve starts a service with a bucket.
func serve(t *testing.T, o osstest.Options, b osstest.BucketOptions) *service {
	t.Helper()
	server, err := osstest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.CreateBucket(bucketName, b); err != nil {
		t.Fatal(err)
	}
	s := &service{Server: server}
	web := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(web.Close)
	s.url = web.URL
	return s
}

// TestMain leaves the keys of the services in the environment.
func TestMain(m *testing.M) {
	os.Setenv("OSS_ACCESS_KEY_ID", osstest.DefaultAccessKeyID)
	os.Setenv("OSS_ACCESS_KEY_SECRET", osstest.DefaultAccessKeySecret)
	os.Unsetenv("OSS_SESSION_TOKEN")
	os.Exit(m.Run())
}

func (s *service) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.log = append(s.log, r.Method+" "+r.URL.Path+"?"+r.URL.RawQuery)
	front := s.front
	s.mu.Unlock()
	if front == nil {
		s.Server.ServeHTTP(w, r)
		return
	}
	front(s.Server, w, r)
}

// through has requests pass front.
func (s *service) through(front func(next http.Handler, w http.ResponseWriter, r *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.front = front
}

// count forgets the requests so far, calls f and returns how many there were with
// a method since.
func (s *service) count(method string, f func()) int {
	s.mu.Lock()
	s.log = nil
	s.mu.Unlock()
	f()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, line := range s.log {
		if strings.HasPrefix(line, method+" ") {
			n++
		}
	}
	return n
}

// open opens a store on the service.
func (s *service) open(t *testing.T, c oss.Config) *oss.Store {
	t.Helper()
	c.Bucket, c.Endpoint = bucketName, s.url
	if c.Region == "" {
		c.Region = osstest.DefaultRegion
	}
	if c.GiveUpAfter == 0 {
		c.GiveUpAfter = 20 * time.Second
	}
	store, err := oss.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// client is the SDK alone, for what others may do to a bucket.
func (s *service) client(t *testing.T) *sdk.Bucket {
	t.Helper()
	client, err := sdk.New(s.url, osstest.DefaultAccessKeyID, osstest.DefaultAccessKeySecret, sdk.AuthVersion(sdk.AuthV4), sdk.Region(osstest.DefaultRegion))
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := client.Bucket(bucketName)
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

func put(t *testing.T, s archive.Store, name, content string) {
	t.Helper()
	if err := tryPut(t, s, name, content, archive.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func tryPut(t *testing.T, s archive.Store, name, content string, opts archive.PutOptions) error {
	t.Helper()
	return s.Put(t.Context(), name, strings.NewReader(content), opts)
}

func get(t *testing.T, s archive.Store, name string) (string, error) {
	t.Helper()
	body, err := s.Get(t.Context(), name)
	if err != nil {
		return "", err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	return string(data), err
}

func want(t *testing.T, s archive.Store, name, content string) {
	t.Helper()
	if got, err := get(t, s, name); err != nil || got != content {
		t.Errorf("%s holds %.40q, error %v; want %.40q", name, got, err, content)
	}
}

func wantNone(t *testing.T, s archive.Store, name string) {
	t.Helper()
	if _, err := get(t, s, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: got %v, want fs.ErrNotExist", name, err)
	}
}

// wantError checks what an error wraps, and some of what it says.
func wantError(t *testing.T, err, target error, words ...string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("got %v, want %v", err, target)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want it to say %q", err, word)
		}
	}
}

func list(t *testing.T, s archive.Store, prefix string) []string {
	t.Helper()
	var names []string
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, o.Name)
	}
	return names
}

func TestStore(t *testing.T) {
	tests := []struct {
		name   string
		bucket osstest.BucketOptions
		config oss.Config
	}{
		{"Plain", osstest.BucketOptions{}, oss.Config{}},
		{"WithAPrefix", osstest.BucketOptions{}, oss.Config{Prefix: "some/where é"}},
		{"Versioned", osstest.BucketOptions{Versioning: "Enabled"}, oss.Config{Prefix: "p"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			archivetest.TestStore(t, func(t *testing.T) archive.Store {
				s := serve(t, osstest.Options{}, test.bucket)
				if test.config.Prefix != "" { // what is beside the archive is none of its business
					for _, key := range []string{"a/object", test.config.Prefix, test.config.Prefix + "/", test.config.Prefix + "-/x"} {
						if err := s.client(t).PutObject(key, strings.NewReader("of others")); err != nil {
							t.Fatal(err)
						}
					}
				}
				return s.open(t, test.config)
			})
		})
	}
}

func TestASuspendedBucketIsReadAndNotWritten(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	put(t, s.open(t, oss.Config{}), "a", "first")
	put(t, s.open(t, oss.Config{}), "b", "first")
	if err := s.SetVersioning(bucketName, "Suspended"); err != nil {
		t.Fatal(err)
	}
	if err := s.client(t).PutObject("a", strings.NewReader("second")); err != nil {
		t.Fatal(err)
	}
	store := s.open(t, oss.Config{})
	want(t, store, "a", "first")
	if got := list(t, store, ""); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("listed %q, want a and b", got)
	}
	wantError(t, tryPut(t, store, "c", "x", archive.PutOptions{}), errors.ErrUnsupported, "versioning", "suspended", "enable")
	wantNone(t, store, "c")
	if err := store.Delete(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	wantNone(t, store, "a")
}

func TestASuspensionNobodyMayAskForIsFoundByTheAnswer(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Suspended"})
	limit(t, s, "oss:GetBucketVersioning")
	wantError(t, tryPut(t, s.open(t, oss.Config{}), "c", "x", archive.PutOptions{}), errors.ErrUnsupported, "suspended")
}

// limit leaves credentials in the environment that lack rights.
func limit(t *testing.T, s *service, rights ...string) {
	t.Helper()
	id := "without-" + strings.Join(rights, "-")
	s.AddCredentials(osstest.Credentials{AccessKeyID: id, AccessKeySecret: "secret", Allow: func(action, _ string) bool {
		return !slices.Contains(rights, action)
	}})
	t.Setenv("OSS_ACCESS_KEY_ID", id)
	t.Setenv("OSS_ACCESS_KEY_SECRET", "secret")
}

func TestAnObjectIsItsOldestVersion(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	store := s.open(t, oss.Config{Prefix: "p"})
	for _, name := range []string{"a", "a/b", "a-b", "ab"} {
		put(t, store, name, "first "+name)
	}
	bucket := s.client(t)
	for _, content := range []string{"second", "the third"} {
		if err := bucket.PutObject("p/a", strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := bucket.DeleteObject("p/a"); err != nil { // a delete marker
		t.Fatal(err)
	}
	if err := bucket.DeleteObject("p/never"); err != nil {
		t.Fatal(err)
	}

	want(t, store, "a", "first a")
	wantNone(t, store, "never")
	info, err := store.Inspect(t.Context(), "a")
	if err != nil || info.Size != int64(len("first a")) || info.Version == "" {
		t.Errorf("got %+v, error %v; want the size of the first version, and its id", info, err)
	}
	if got := list(t, store, ""); !slices.Equal(got, []string{"a", "a-b", "a/b", "ab"}) {
		t.Errorf("listed %q", got)
	}
	wantError(t, tryPut(t, store, "a", "fourth", archive.PutOptions{}), fs.ErrExist)
	put(t, store, "never", "now")
	want(t, store, "never", "now")

	shadows := shadowsOf(t, store, "")
	wantShadows := []archive.Shadow{{Name: "a", Marker: true}, {Name: "a", Size: 9}, {Name: "a", Size: 6}}
	if !slices.Equal(shadows, wantShadows) {
		t.Errorf("got shadows %+v, want %+v", shadows, wantShadows)
	}

	if err := store.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	wantNone(t, store, "a")
	if got := list(t, store, "a"); !slices.Equal(got, []string{"a-b", "a/b", "ab"}) {
		t.Errorf("after Delete: listed %q", got)
	}
	objects, err := s.Objects(bucketName)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if o.Key == "p/a" {
			t.Errorf("left after Delete: %+v", o)
		}
	}
}

// shadowsOf returns shadows without their ids and times.
func shadowsOf(t *testing.T, s *oss.Store, prefix string) []archive.Shadow {
	t.Helper()
	var all []archive.Shadow
	for shadow, err := range s.Shadows(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		if shadow.Version == "" || shadow.Modified.IsZero() {
			t.Errorf("shadow %+v without id or time", shadow)
		}
		shadow.Version, shadow.Modified = "", time.Time{}
		all = append(all, shadow)
	}
	return all
}

func TestVersionsAreFoundOutFromAnswersWhereNobodyMayAsk(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	put(t, s.open(t, oss.Config{}), "a", "first")
	if err := s.client(t).PutObject("a", strings.NewReader("second")); err != nil {
		t.Fatal(err)
	}
	limit(t, s, "oss:GetBucketVersioning")
	want(t, s.open(t, oss.Config{}), "a", "first")
	wantError(t, tryPut(t, s.open(t, oss.Config{}), "a", "third", archive.PutOptions{}), fs.ErrExist)
	if got := shadowsOf(t, s.open(t, oss.Config{}), ""); len(got) != 1 {
		t.Errorf("got shadows %+v, want the second version alone", got)
	}
	if err := s.client(t).DeleteObject("a"); err != nil {
		t.Fatal(err)
	}
	want(t, s.open(t, oss.Config{}), "a", "first")
	if err := s.open(t, oss.Config{}).Delete(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if objects, _ := s.Objects(bucketName); len(objects) != 0 {
		t.Errorf("left after Delete: %+v", objects)
	}

	put(t, s.open(t, oss.Config{}), "a", "first")
	limit(t, s, "oss:GetBucketVersioning", "oss:ListObjectVersions")
	_, err := s.open(t, oss.Config{}).Get(t.Context(), "a")
	wantError(t, err, archive.ErrUnavailable, "oss:ListObjectVersions")
}

func TestWhoMayNotListVersionsIsTold(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	put(t, s.open(t, oss.Config{}), "a", "first")
	limit(t, s, "oss:ListObjectVersions")
	store := s.open(t, oss.Config{})
	_, err := store.Get(t.Context(), "a")
	wantError(t, err, archive.ErrUnavailable, "oss:ListObjectVersions")
	for _, err := range store.Shadows(t.Context(), "") {
		wantError(t, err, errors.ErrUnsupported, "oss:ListObjectVersions")
	}
}

func TestARightToVersionsIsNamed(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	put(t, s.open(t, oss.Config{}), "a", "first")
	limit(t, s, "oss:GetObjectVersion", "oss:DeleteObjectVersion")
	store := s.open(t, oss.Config{ReadBack: oss.ReadBackNone})
	_, err := store.Get(t.Context(), "a")
	wantError(t, err, archive.ErrUnavailable, "right oss:GetObjectVersion")
	wantError(t, store.Delete(t.Context(), "a"), archive.ErrUnavailable, "right oss:DeleteObjectVersion")
	if err := tryPut(t, store, "b", "content", archive.PutOptions{}); err != nil { // which takes neither
		t.Error(err)
	}
}

func TestALaterVersionIsTakenBack(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	store, bucket := s.open(t, oss.Config{}), s.client(t)
	var once sync.Once
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && r.Header.Get("X-Oss-Forbid-Overwrite") != "" {
			once.Do(func() { // another is first, between the look and the write
				if err := bucket.PutObject("a", strings.NewReader("of another")); err != nil {
					t.Error(err)
				}
			})
		}
		next.ServeHTTP(w, r)
	})
	wantError(t, tryPut(t, store, "a", "ours", archive.PutOptions{}), fs.ErrExist)
	objects, err := s.Objects(bucketName)
	if err != nil || len(objects) != 1 || objects[0].Size != int64(len("of another")) {
		t.Errorf("the bucket has %+v, error %v; want the other's object alone", objects, err)
	}
}

func TestListingsOfOthersAreLeftOut(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	for _, key := range []string{"p/", "p/dir/", "p//x", "p/.hidden", "p/a", "px"} {
		if err := s.client(t).PutObject(key, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(t, s.open(t, oss.Config{Prefix: "p"}), ""); !slices.Equal(got, []string{"a"}) {
		t.Errorf("listed %q, want a alone", got)
	}
}

func TestOpenRefusesWhatCannotBe(t *testing.T) {
	if _, err := oss.Open(t.Context(), oss.Config{Bucket: "backups"}); err == nil || !strings.Contains(err.Error(), "region") {
		t.Errorf("got %v, want a word on the region", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := oss.Open(ctx, oss.Config{Bucket: "backups", Region: "cn-hangzhou"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestReadBack(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	tests := []struct {
		readBack oss.ReadBack
		bulk     bool
		min, max int // GETs for 160 objects
	}{
		{oss.ReadBackAll, true, 160, 160},
		{oss.ReadBackAll, false, 160, 160},
		{"", false, 160, 160},
		{oss.ReadBackSample, true, 1, 40}, // 10 on average; outside of 1 to 40 once in 10^4 at most
		{oss.ReadBackNone, true, 0, 0},
		{oss.ReadBackNone, false, 0, 0},
	}
	for i, test := range tests {
		store := s.open(t, oss.Config{ReadBack: test.readBack, Prefix: fmt.Sprint("p", i)})
		if _, err := store.Inspect(t.Context(), "none"); !errors.Is(err, fs.ErrNotExist) { // asks for versioning
			t.Fatal(err)
		}
		n := s.count(http.MethodGet, func() {
			for j := range 160 {
				if err := tryPut(t, store, fmt.Sprint("o", j), "content", archive.PutOptions{Bulk: test.bulk}); err != nil {
					t.Fatal(err)
				}
			}
		})
		if n < test.min || n > test.max {
			t.Errorf("read-back %q, bulk %t: %d of 160 objects were read, want %d to %d", test.readBack, test.bulk, n, test.min, test.max)
		}
	}
}

func TestAnObjectThatReadsBackOtherwiseIsRemoved(t *testing.T) {
	for _, versioning := range []string{"", "Enabled"} {
		s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: versioning})
		for name, spoil := range map[string]func(key string) error{
			"damaged":     func(key string) error { return s.Corrupt(bucketName, key, func(b []byte) []byte { b[0]++; return b }) },
			"substituted": func(key string) error { return s.Substitute(bucketName, key, []byte("other s")) },
			"cut":         func(key string) error { return s.Substitute(bucketName, key, []byte("conten")) },
		} {
			s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r)
				if r.Method == http.MethodPut {
					if err := spoil(strings.TrimPrefix(r.URL.Path, "/"+bucketName+"/")); err != nil {
						t.Error(err)
					}
				}
			})
			store := s.open(t, oss.Config{})
			err := tryPut(t, store, name, "content", archive.PutOptions{})
			wantError(t, err, archive.ErrUnavailable, "read back", "other bytes")
			if errors.Is(err, fs.ErrExist) {
				t.Errorf("%s: got %v, want no fs.ErrExist", name, err)
			}
			wantNone(t, store, name)
		}
	}
}

func TestWhatWasAskedForIsConfirmed(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{Class: "IA", SSE: "KMS", KMSKey: "key-1"})
	for name, bulk := range map[string]bool{"chunk": true, "manifest": false} {
		if err := tryPut(t, store, name, "content", archive.PutOptions{Bulk: bulk}); err != nil {
			t.Fatal(err)
		}
		info, err := store.Inspect(t.Context(), name)
		wantClass := map[bool]string{true: "IA", false: "Standard"}[bulk]
		if err != nil || info.Class != wantClass || info.Encryption != "KMS" {
			t.Errorf("%s: got %+v, error %v; want class %s and encryption KMS", name, info, err, wantClass)
		}
	}

	for _, header := range []string{"X-Oss-Storage-Class", "X-Oss-Server-Side-Encryption", "X-Oss-Server-Side-Encryption-Key-Id"} {
		s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(without{w, header, r.Method == http.MethodHead}, r)
		})
		wantError(t, tryPut(t, store, "dropped", "content", archive.PutOptions{Bulk: true}), errors.ErrUnsupported)
		s.through(nil)
		wantNone(t, store, "dropped")
	}
}

// without drops a header of an answer.
type without struct {
	http.ResponseWriter
	header string
	drop   bool
}

func (w without) WriteHeader(status int) {
	if w.drop {
		w.Header().Del(w.header)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w without) Write(p []byte) (int, error) {
	if w.drop {
		w.Header().Del(w.header)
	}
	return w.ResponseWriter.Write(p)
}

func TestFrozenObjectsAreThawed(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	for class, tier := range map[string]string{"Archive": "", "ColdArchive": "Bulk", "DeepColdArchive": "Expedited"} {
		s.SetThaw(func(string, string) time.Duration { return time.Hour })
		store := s.open(t, oss.Config{Class: class, ReadBack: oss.ReadBackAll, Prefix: class})
		if err := tryPut(t, store, "chunk", "content", archive.PutOptions{Bulk: true}); err != nil {
			t.Fatal(err)
		}
		_, err := store.Get(t.Context(), "chunk")
		wantError(t, err, archive.ErrFrozen)
		wantError(t, err, archive.ErrUnavailable)
		wantInfo(t, store, "chunk", true, false, false)
		for range 2 { // the second time it is thawing already
			if err := store.Thaw(t.Context(), "chunk", 3, tier); err != nil {
				t.Fatal(err)
			}
		}
		wantInfo(t, store, "chunk", true, true, false)

		s.SetThaw(func(string, string) time.Duration { return 0 })
		if err := tryPut(t, store, "quick", "content", archive.PutOptions{Bulk: true}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time it stays thawed for longer
			if err := store.Thaw(t.Context(), "quick", 3, tier); err != nil {
				t.Fatal(err)
			}
		}
		wantInfo(t, store, "quick", false, false, true)
		want(t, store, "quick", "content")
		wantError(t, store.Thaw(t.Context(), "none", 1, ""), fs.ErrNotExist)
		wantError(t, store.Thaw(t.Context(), "chunk", 1, "Faster"), errors.ErrUnsupported, "Expedited")
		wantError(t, store.Thaw(t.Context(), "chunk", 400, ""), errors.ErrUnsupported, "1 to ")
	}
	deep := s.open(t, oss.Config{Prefix: "DeepColdArchive"})
	wantError(t, deep.Thaw(t.Context(), "chunk", 1, "Bulk"), errors.ErrUnsupported, "Expedited, Standard")
	put(t, deep, "manifest", "content")
	if err := deep.Thaw(t.Context(), "manifest", 1, ""); err != nil {
		t.Errorf("thawing what is readable: %v", err)
	}
}

func wantInfo(t *testing.T, s *oss.Store, name string, frozen, thawing, thawed bool) {
	t.Helper()
	info, err := s.Inspect(t.Context(), name)
	if err != nil || info.Frozen != frozen || info.Thawing != thawing || info.ThawedTo.IsZero() == thawed {
		t.Errorf("%s: got %+v, error %v; want frozen %t, thawing %t, thawed %t", name, info, err, frozen, thawing, thawed)
	}
}

func TestARetriedPutOfAFrozenClassIsKnownByItsSums(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{Class: "Archive"})
	s.through(loseFirstAnswer(nil))
	if err := tryPut(t, store, "chunk", "content", archive.PutOptions{Bulk: true}); err != nil {
		t.Error(err)
	}
	s.through(loseFirstAnswer(func() {
		if err := s.client(t).PutObject("other", strings.NewReader("coNtent"), sdk.ObjectStorageClass(sdk.StorageArchive)); err != nil {
			t.Error(err)
		}
	}))
	wantError(t, tryPut(t, store, "other", "content", archive.PutOptions{Bulk: true}), fs.ErrExist)
}

// loseFirstAnswer has the first PUT of a store stored, and its answer lost. With
// instead, that is done in its place.
func loseFirstAnswer(instead func()) func(http.Handler, http.ResponseWriter, *http.Request) {
	var done atomic.Bool
	return func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || r.Header.Get("X-Oss-Forbid-Overwrite") == "" || done.Swap(true) {
			next.ServeHTTP(w, r)
			return
		}
		if instead != nil {
			instead()
		} else {
			next.ServeHTTP(httptest.NewRecorder(), r)
		}
		panic(http.ErrAbortHandler)
	}
}
