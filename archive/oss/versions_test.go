package oss_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/oss"
	"github.com/otsnap/otsnap/archive/oss/osstest"
)

// bare drops what an answer tells of its end.
type bare struct{ http.ResponseWriter }

func (b bare) WriteHeader(status int) {
	b.Header().Del("X-Oss-Hash-Crc64ecma")
	b.Header().Del("Content-Length")
	b.ResponseWriter.WriteHeader(status)
	b.ResponseWriter.(http.Flusher).Flush()
}

func TestAnAnswerThatCouldEndAnywhereIsNoObject(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{})
	put(t, store, "a", "content")
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if at(r, "a") {
			w = bare{w}
		}
		next.ServeHTTP(w, r)
	})
	_, err := get(t, store, "a")
	wantError(t, err, archive.ErrUnavailable, "neither length nor CRC64")
}

func TestAListingThatGoesInCirclesEnds(t *testing.T) {
	for _, versioning := range []string{"", "Enabled"} {
		s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: versioning})
		pages := 0
		s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			query := r.URL.Query()
			if !query.Has("prefix") {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("X-Oss-Request-Id", "1")
			if pages++; pages > 100 {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			if query.Has("versions") {
				fmt.Fprintf(w, `<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>%d</NextKeyMarker>
					<Version><Key>a</Key><VersionId>1</VersionId></Version><Version><Key>b</Key><VersionId>2</VersionId></Version></ListVersionsResult>`, pages)
				return
			}
			io.WriteString(w, `<ListBucketResult><IsTruncated>true</IsTruncated>
				<Contents><Key>a</Key></Contents><Contents><Key>b</Key></Contents></ListBucketResult>`)
		})
		var err error
		for _, err = range s.open(t, oss.Config{}).List(t.Context(), "") {
		}
		wantError(t, err, archive.ErrUnavailable, "not in the order")
		if pages > 3 {
			t.Errorf("versioning %q: asked for %d pages", versioning, pages)
		}
	}
}

func TestAListingSeesVersionsThatBeganInMidRun(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{})
	put(t, store, "a", "content")
	if err := s.SetVersioning(bucketName, "Enabled"); err != nil {
		t.Fatal(err)
	}
	if err := s.client(t).DeleteObject("a"); err != nil { // a marker
		t.Fatal(err)
	}
	if got := list(t, store, ""); len(got) != 1 {
		t.Errorf("listed %q, want a, which a marker hides", got)
	}
	if got := shadowsOf(t, store, ""); len(got) != 1 {
		t.Errorf("got shadows %+v, want the marker", got)
	}
}

func TestAListingOfWhoMayNotAskForVersioningSeesVersions(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	put(t, s.open(t, oss.Config{}), "a", "content")
	if err := s.client(t).DeleteObject("a"); err != nil {
		t.Fatal(err)
	}
	limit(t, s, "oss:GetBucketVersioning")
	if got := list(t, s.open(t, oss.Config{}), ""); len(got) != 1 {
		t.Errorf("listed %q, want a, which a marker hides", got)
	}
}

func TestAThawedObjectIsReadableByTheClockOfTheService(t *testing.T) {
	early := func() time.Time { return time.Now().AddDate(0, 0, -30) }
	s := serve(t, osstest.Options{Now: early}, osstest.BucketOptions{})
	s.SetThaw(func(string, string) time.Duration { return 0 })
	if err := s.client(t).PutObject("a", strings.NewReader("content"), sdk.ObjectStorageClass(sdk.StorageArchive)); err != nil {
		t.Fatal(err)
	}
	s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) { next.ServeHTTP(dated{w, early()}, r) })
	store := s.open(t, oss.Config{})
	if err := store.Thaw(t.Context(), "a", 3, ""); err != nil {
		t.Fatal(err)
	}
	wantInfo(t, store, "a", false, false, true)
}

// dated has an answer of another time.
type dated struct {
	http.ResponseWriter
	at time.Time
}

func (w dated) WriteHeader(status int) {
	w.Header().Set("Date", w.at.UTC().Format(http.TimeFormat))
	w.ResponseWriter.WriteHeader(status)
}

// The service's times are of seconds: a marker that was there before the object
// may be of the same one.
func TestAMarkerUnderAnObjectHidesNothing(t *testing.T) {
	at := time.Now()
	s := serve(t, osstest.Options{Now: func() time.Time { return at }}, osstest.BucketOptions{Versioning: "Enabled"})
	if err := s.client(t).DeleteObject("a"); err != nil {
		t.Fatal(err)
	}
	store := s.open(t, oss.Config{})
	put(t, store, "a", "content")
	if got := shadowsOf(t, store, ""); len(got) != 0 {
		t.Errorf("got shadows %+v, want none", got)
	}
}
