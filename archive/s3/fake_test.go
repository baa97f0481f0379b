package s3_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive/s3"
)

// fake answers as S3 does to what a Store asks of a plain bucket, and as its
// before says where a test needs what no server here does. It checks no
// signatures.
type fake struct {
	*httptest.Server
	// before may answer a request itself. It is asked one request at a time.
	before func(w http.ResponseWriter, r *http.Request) (answered bool)

	mu      sync.Mutex
	objects map[string][]byte
	headers map[string]string // of HEAD and GET
}

func newFake(t *testing.T) *fake {
	f := &fake{objects: map[string][]byte{}, headers: map[string]string{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// newTLSFake has a certificate that nobody trusts.
func newTLSFake(t *testing.T) *fake {
	f := &fake{objects: map[string][]byte{}, headers: map[string]string{}}
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.StartTLS()
	t.Cleanup(f.Close)
	return f
}

// open opens an archive in the fake's one bucket.
func (f *fake) open(t *testing.T, change func(*s3.Config)) *s3.Store {
	t.Helper()
	c := s3.Config{
		Bucket: "bucket", Endpoint: f.URL, PathStyle: true, Region: "us-east-1",
		GiveUpAfter: 5 * time.Second, OnRetry: func(err error) { t.Logf("retry: %v", err) },
	}
	if change != nil {
		change(&c)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	store, err := s3.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

const requestID = "4442587FB7D0A2F9"

// secret must not show up anywhere.
const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("X-Amz-Request-Id", requestID)
	if f.before != nil && f.before(w, r) {
		return
	}
	query := r.URL.Query()
	switch {
	case query.Has("versioning"):
		io.WriteString(w, `<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>`)
	case query.Has("object-lock"):
		fail(w, http.StatusNotFound, "ObjectLockConfigurationNotFoundError")
	case r.Method == http.MethodPut:
		f.put(w, r)
	case r.Method == http.MethodDelete:
		delete(f.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	case query.Has("list-type"):
		f.list(w, "/bucket/"+query.Get("prefix"))
	default:
		f.get(w, r)
	}
}

func (f *fake) put(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	sum := sha256.Sum256(data)
	if _, ok := f.objects[r.URL.Path]; ok && r.Header.Get("If-None-Match") == "*" {
		fail(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	if r.Header.Get("X-Amz-Checksum-Sha256") != base64.StdEncoding.EncodeToString(sum[:]) {
		fail(w, http.StatusBadRequest, "BadDigest")
		return
	}
	f.objects[r.URL.Path] = data
}

func (f *fake) get(w http.ResponseWriter, r *http.Request) {
	data, ok := f.objects[r.URL.Path]
	if !ok {
		fail(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	sum := sha256.Sum256(data)
	w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sum[:16]))
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.Method == http.MethodHead {
		w.Header().Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
	}
	for name, value := range f.headers {
		w.Header().Set(name, value)
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(data)))
}

func (f *fake) list(w http.ResponseWriter, prefix string) {
	io.WriteString(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>`)
	for path, data := range f.objects { // tests here have but one
		if strings.HasPrefix(path, prefix) {
			fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>%d</Size></Contents>", strings.TrimPrefix(path, "/bucket/"), len(data))
		}
	}
	io.WriteString(w, `</ListBucketResult>`)
}

// fail answers with an S3 error.
func fail(w http.ResponseWriter, status int, code string) {
	failWith(w, status, code, "what "+code+" says")
}

func failWith(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("X-Amz-Request-Id", requestID)
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
}

// object reports whether a request is about an object, not the bucket.
func object(r *http.Request) bool { return strings.TrimPrefix(r.URL.Path, "/bucket") > "/" }
