package s3_test

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/s3"
	"github.com/otsnap/otsnap/archive/s3/s3test"
)

// hiding opens an archive through a front that refuses to tell of versioning, and
// unless lists is set to list versions.
func hiding(t *testing.T, s *s3test.Server, bucket string, lists bool) *s3.Store {
	t.Helper()
	p := newFake(t)
	to := strings.TrimPrefix(s.Endpoint, "http://")
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", to, r.In.Host
	}}
	p.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Del("X-Amz-Request-Id")
		query := r.URL.Query()
		if query.Has("versioning") || !lists && query.Has("versions") {
			fail(w, http.StatusForbidden, "AccessDenied")
			return true
		}
		forward.ServeHTTP(w, r)
		return true
	}
	return open(t, s, bucket, func(c *s3.Config) { c.Endpoint = p.URL })
}

// TestVersionsThatMayNotBeAskedFor has credentials without the right
// s3:GetBucketVersioning.
func TestVersionsThatMayNotBeAskedFor(t *testing.T) {
	each(t, func(t *testing.T, s *s3test.Server) {
		for _, kind := range kindsOfBuckets[:2] {
			t.Run(kind.name, func(t *testing.T) {
				name := bucket(t, s, kind.opts)
				plainly := open(t, s, name, nil)
				store := hiding(t, s, name, true)
				put(t, store, "a", "content", archive.PutOptions{})
				want(t, store, "a", "content")
				err := store.Put(t.Context(), "a", strings.NewReader("other"), archive.PutOptions{})
				if !errors.Is(err, fs.ErrExist) {
					t.Errorf("a second Put: got %v, want fs.ErrExist", err)
				}
				if kind.name == "Versioned" {
					if err := (raw{t, s, s.Client(), name}).delete("an/archive/a", "", false); err != nil {
						t.Fatal(err)
					}
				}
				want(t, hiding(t, s, name, true), "a", "content")
				n := 0
				for o, err := range hiding(t, s, name, true).List(t.Context(), "") {
					if n++; err != nil || o.Name != "a" {
						t.Errorf("listed %+v, %v", o, err)
					}
				}
				if n != 1 {
					t.Errorf("listed %d objects, want the one", n)
				}
				if err := store.Delete(t.Context(), "a"); err != nil {
					t.Error(err)
				}
				if _, err := plainly.Inspect(t.Context(), "a"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Inspect after Delete: got %v, want fs.ErrNotExist", err)
				}
			})
		}
		t.Run("Blind", func(t *testing.T) {
			name := bucket(t, s, s3test.BucketOptions{Versioned: true})
			err := hiding(t, s, name, false).Put(t.Context(), "a", strings.NewReader("content"), archive.PutOptions{})
			wantError(t, err, "not known to be the first")
			wantError(t, err, "s3:ListBucketVersions")
			if _, err := open(t, s, name, nil).Inspect(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			err = hiding(t, s, name, false).Delete(t.Context(), "a")
			wantError(t, err, "s3:ListBucketVersions")
			_, err = hiding(t, s, name, false).Get(t.Context(), "a")
			wantError(t, err, "s3:ListBucketVersions")
		})
	})
}

// TestWhoMayOnlyWritePuts has credentials with the right s3:PutObject alone, to
// which a HEAD of what is not there is refused too.
func TestWhoMayOnlyWritePuts(t *testing.T) {
	f := newFake(t)
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			return false
		}
		fail(w, http.StatusForbidden, "AccessDenied")
		return true
	}
	s := f.open(t, nil)
	put(t, s, "a", "content", archive.PutOptions{})
	if err := s.Put(t.Context(), "a", strings.NewReader("other"), archive.PutOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second Put: got %v, want fs.ErrExist", err)
	}
}
