package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/s3"
	"github.com/otsnap/otsnap/archive/s3/s3test"
)

// servers are started when a test first needs them and end with the tests.
var servers struct {
	sync.Mutex
	dir     string
	running map[string]*s3test.Server
	failed  map[string]error
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	for _, variable := range new(s3test.Server).Env() {
		name, value, _ := strings.Cut(variable, "=")
		os.Setenv(name, value)
	}
	dir, err := os.MkdirTemp("", "otsnap-s3-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	servers.dir, servers.running, servers.failed = dir, map[string]*s3test.Server{}, map[string]error{}
	defer func() {
		for _, s := range servers.running {
			s.Stop()
		}
	}()
	return m.Run()
}

// server returns the running server of a kind.
func server(t *testing.T, kind string) *s3test.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a real server")
	}
	servers.Lock()
	defer servers.Unlock()
	if servers.running[kind] == nil && servers.failed[kind] == nil {
		dir, err := os.MkdirTemp(servers.dir, kind)
		if err == nil {
			servers.running[kind], err = s3test.Start(context.Background(), kind, dir)
		}
		if err != nil {
			servers.failed[kind] = err
			delete(servers.running, kind)
		}
	}
	err := servers.failed[kind]
	if errors.Is(err, s3test.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := servers.running[kind]
	t.Setenv("AWS_ACCESS_KEY_ID", s.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.SecretKey)
	return s
}

// each runs a test on every server there is to run on.
func each(t *testing.T, test func(t *testing.T, s *s3test.Server)) {
	kinds, err := s3test.Kinds()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) { test(t, server(t, kind)) })
	}
}

var buckets atomic.Int64

// bucket makes a bucket of its own for a test.
func bucket(t *testing.T, s *s3test.Server, opts s3test.BucketOptions) string {
	t.Helper()
	name := fmt.Sprintf("test-%d", buckets.Add(1))
	if err := s.Bucket(t.Context(), name, opts); err != nil {
		t.Fatal(err)
	}
	return name
}

// open opens an archive in a bucket; change may be nil.
func open(t *testing.T, s *s3test.Server, bucket string, change func(*s3.Config)) *s3.Store {
	t.Helper()
	c, err := s3.ParseURL(s.URL(bucket, "an/archive"))
	if err != nil {
		t.Fatal(err)
	}
	c.GiveUpAfter = 30 * time.Second
	c.OnRetry = func(err error) { t.Logf("retry: %v", err) }
	if change != nil {
		change(&c)
	}
	store, err := s3.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func put(t *testing.T, s archive.Store, name, content string, opts archive.PutOptions) {
	t.Helper()
	if err := s.Put(t.Context(), name, strings.NewReader(content), opts); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, s archive.Store, name, content string) {
	t.Helper()
	body, err := s.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != content {
		t.Errorf("%s holds %.60q, want %.60q", name, data, content)
	}
}

// kindsOfBuckets are the buckets an archive has to work in alike.
var kindsOfBuckets = []struct {
	name string
	opts s3test.BucketOptions
}{
	{"Plain", s3test.BucketOptions{}},
	{"Versioned", s3test.BucketOptions{Versioned: true}},
	{"Suspended", s3test.BucketOptions{Suspended: true}},
	{"ObjectLock", s3test.BucketOptions{Lock: true}},
}

func TestStore(t *testing.T) {
	each(t, func(t *testing.T, s *s3test.Server) {
		for _, kind := range kindsOfBuckets {
			t.Run(kind.name, func(t *testing.T) {
				archivetest.TestStore(t, func(t *testing.T) archive.Store {
					return open(t, s, bucket(t, s, kind.opts), nil)
				})
			})
		}
	})
}
