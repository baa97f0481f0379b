package oss_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/oss"
	"github.com/otsnap/otsnap/archive/oss/osstest"
)

// at says whether a request is one for the object called key.
func at(r *http.Request, key string) bool { return strings.HasSuffix(r.URL.Path, "/"+key) }

func TestASuccessThatIsNotOfOSSIsNone(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{ReadBack: oss.ReadBackNone})
	put(t, store, "a", "content")
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "<html>log in to the network")
	})
	_, err := get(t, store, "a")
	wantError(t, err, archive.ErrUnavailable, "not in the words of OSS")
	wantError(t, tryPut(t, store, "b", "content", archive.PutOptions{}), archive.ErrUnavailable, "not in the words of OSS")
	wantError(t, store.Delete(t.Context(), "a"), archive.ErrUnavailable)
	for _, err := range store.List(t.Context(), "") {
		wantError(t, err, archive.ErrUnavailable)
	}
	s.through(nil)
	want(t, store, "a", "content")
}

func TestARefusalWithoutAnEndIsCut(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	var sent atomic.Int64
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		for line := strings.Repeat("x", 64<<10); sent.Load() < 256<<20; sent.Add(int64(len(line))) {
			if _, err := io.WriteString(w, line); err != nil {
				return
			}
		}
	})
	_, err := get(t, s.open(t, oss.Config{}), "a")
	wantError(t, err, archive.ErrUnavailable, "403")
	if sent.Load() > 64<<20 {
		t.Errorf("read %d bytes of a refusal", sent.Load())
	}
}

// A firewall may know no HEAD. What a GET of one byte tells is not the object's
// size.
func TestARefusedHeadTellsNoSize(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{})
	put(t, store, "a", "content")
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
	info, err := store.Inspect(t.Context(), "a")
	wantError(t, err, archive.ErrUnavailable, "405")
	if info != (archive.Info{}) {
		t.Errorf("got %+v beside the error", info)
	}
}
