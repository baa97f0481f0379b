package oss_test

import (
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/oss"
	"github.com/otsnap/otsnap/archive/oss/osstest"
)

// Where versioning is suspended OSS does not heed what forbids overwriting, and
// who may not ask for that must not find out by replacing an object.
func TestWhoCannotKnowOfASuspensionReplacesNothing(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Suspended"})
	if err := s.client(t).PutObject("a", strings.NewReader("first")); err != nil {
		t.Fatal(err)
	}
	limit(t, s, "oss:GetBucketVersioning")
	store := s.open(t, oss.Config{})
	wantError(t, tryPut(t, store, "a", "second", archive.PutOptions{}), fs.ErrExist)
	want(t, store, "a", "first")
	wantError(t, tryPut(t, store, "b", "content", archive.PutOptions{}), errors.ErrUnsupported, "suspended")
	wantNone(t, store, "b")
	if n := s.count(http.MethodPut, func() {
		wantError(t, tryPut(t, store, "c", "content", archive.PutOptions{}), errors.ErrUnsupported, "suspended")
	}); n != 0 {
		t.Errorf("%d PUTs to a bucket known to be suspended", n)
	}
}

// An object that cannot be compared is neither ours nor another's.
func TestAnObjectThatCannotBeComparedIsNoVerdict(t *testing.T) {
	damage := func(s *service, next http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && at(r, "a") {
			w = crc{w, "12345"}
		}
		next.ServeHTTP(w, r)
	}
	refused := func(s *service, next http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			refuse(w, http.StatusForbidden, "AccessDenied")
			return
		}
		next.ServeHTTP(w, r)
	}
	for name, then := range map[string]func(*service, http.Handler, http.ResponseWriter, *http.Request){"damaged": damage, "refused": refused} {
		s := serve(t, osstest.Options{}, osstest.BucketOptions{})
		lose := loseFirstAnswer(nil)
		s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			lose(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { then(s, next, w, r) }), w, r)
		})
		err := tryPut(t, s.open(t, oss.Config{}), "a", "content", archive.PutOptions{})
		wantError(t, err, archive.ErrUnavailable, "cannot be compared")
		if errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: got %v, want no fs.ErrExist: the object is ours", name, err)
		}
		s.through(nil)
		want(t, s.open(t, oss.Config{}), "a", "content")
	}
}

func TestAnEarlierVersionThatCannotBeComparedIsNoVerdict(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	store := s.open(t, oss.Config{})
	var puts atomic.Int32
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodHead:
			refuse(w, http.StatusForbidden, "AccessDenied")
			return
		case r.Method != http.MethodPut || r.Header.Get("X-Oss-Forbid-Overwrite") == "":
		case puts.Add(1) == 1:
			panic(http.ErrAbortHandler)
		default: // the first try lands late
			if err := s.client(t).PutObject("a", strings.NewReader("content")); err != nil {
				t.Error(err)
			}
		}
		next.ServeHTTP(w, r)
	})
	err := tryPut(t, store, "a", "content", archive.PutOptions{})
	wantError(t, err, archive.ErrUnavailable, "cannot be compared")
	if errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want no fs.ErrExist: the object is ours", err)
	}
}

func TestAnObjectThatGoesBeforeItIsComparedIsPutAgain(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	lose := loseFirstAnswer(func() {
		if err := s.client(t).PutObject("a", strings.NewReader("theirs!")); err != nil {
			t.Error(err)
		}
	})
	var heads atomic.Int32
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead && heads.Add(1) == 1 {
			if err := s.client(t).DeleteObject("a"); err != nil {
				t.Error(err)
			}
		}
		lose(next, w, r)
	})
	store := s.open(t, oss.Config{})
	put(t, store, "a", "content")
	want(t, store, "a", "content")
}

// A bucket that retains its objects may refuse to replace one in those words.
func TestAnObjectThatIsRetainedIsThere(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			refuse(w, http.StatusConflict, "FileImmutable")
			return
		}
		next.ServeHTTP(w, r)
	})
	err := tryPut(t, s.open(t, oss.Config{}), "a", "content", archive.PutOptions{})
	wantError(t, err, fs.ErrExist)
	if errors.Is(err, archive.ErrLocked) {
		t.Errorf("got %v, want no archive.ErrLocked", err)
	}
}

func TestAPutWithoutAVersionIsNotKnownToBeTheFirst(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(without{w, "X-Oss-Version-Id", r.Method == http.MethodPut}, r)
	})
	wantError(t, tryPut(t, s.open(t, oss.Config{}), "a", "content", archive.PutOptions{}), archive.ErrUnavailable, "which version")
}

// OSS promises of an ETag only that it changes: it need not be the MD5.
func TestAFrozenObjectWhoseETagIsNoMD5IsKnownByItsCRC(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(tagged{w}, r)
	})
	store := s.open(t, oss.Config{Class: "Archive", ReadBack: oss.ReadBackAll})
	if err := tryPut(t, store, "a", "content", archive.PutOptions{Bulk: true}); err != nil {
		t.Error(err)
	}
}

// tagged has another ETag.
type tagged struct{ http.ResponseWriter }

func (w tagged) WriteHeader(status int) {
	w.Header().Set("ETag", `"00000000000000000000000000000000"`)
	w.ResponseWriter.WriteHeader(status)
}
