package oss_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/oss"
	"github.com/otsnap/otsnap/archive/oss/osstest"
)

func TestABucketIsLocked(t *testing.T) {
	for _, versioning := range []string{"", "Enabled"} {
		s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: versioning})
		store := s.open(t, oss.Config{})
		put(t, store, "a", "content")

		lock, err := store.BucketLock(t.Context())
		if err != nil || lock != (archive.BucketLock{}) {
			t.Fatalf("a bucket without a lock has %+v, error %v", lock, err)
		}
		wantError(t, store.CompleteBucketLock(t.Context()), errors.ErrUnsupported, "no lock was started")
		wantError(t, store.AbortBucketLock(t.Context()), errors.ErrUnsupported, "no lock was started")
		wantError(t, store.ExtendBucketLock(t.Context(), 10), errors.ErrUnsupported, "retains nothing")
		for _, days := range []int{0, 25551} {
			_, err := store.StartBucketLock(t.Context(), days)
			wantError(t, err, errors.ErrUnsupported, "1 to 25550")
		}

		lock, err = store.StartBucketLock(t.Context(), 30)
		if err != nil || lock.State != archive.BucketOpen || lock.Days != 30 || lock.ID == "" || lock.Expired ||
			!lock.Deadline.Equal(lock.Created.Add(24*time.Hour)) || time.Since(lock.Created).Abs() > time.Hour {
			t.Fatalf("started %+v, error %v; want one of 30 days that is open for 24 hours", lock, err)
		}
		wantLock(t, store, "a", 0)
		_, err = store.StartBucketLock(t.Context(), 31)
		wantError(t, err, archive.ErrLocked, "complete or abort it")
		wantError(t, store.ExtendBucketLock(t.Context(), 31), errors.ErrUnsupported, "not complete")
		if err := store.AbortBucketLock(t.Context()); err != nil {
			t.Fatal(err)
		}

		if _, err := store.StartBucketLock(t.Context(), 40); err != nil {
			t.Fatal(err)
		}
		for range 2 { // completing one that is complete is no error
			if err := store.CompleteBucketLock(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		wantLock(t, store, "a", 40)
		wantError(t, store.Delete(t.Context(), "a"), archive.ErrLocked, "retains")
		want(t, store, "a", "content")
		wantError(t, store.AbortBucketLock(t.Context()), archive.ErrLocked, "for good")
		wantError(t, store.ExtendBucketLock(t.Context(), 39), archive.ErrLocked, "cannot be shortened")
		_, err = store.StartBucketLock(t.Context(), 50)
		wantError(t, err, archive.ErrLocked, "can be extended")
		for range 2 {
			if err := store.ExtendBucketLock(t.Context(), 50); err != nil {
				t.Fatal(err)
			}
		}
		wantLock(t, store, "a", 50)
	}
}

// wantLock checks the lock of an object, and what the bucket does by itself.
func wantLock(t *testing.T, s *oss.Store, name string, days int) {
	t.Helper()
	info, err := s.Inspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	want := archive.Lock{}
	mode, period := archive.Unlocked, archive.Period{}
	if days > 0 {
		want = archive.Lock{Mode: archive.Compliance, Until: info.Modified.AddDate(0, 0, days)}
		mode, period = archive.Compliance, archive.Period{Days: days}
	}
	if info.Lock != want {
		t.Errorf("%s has lock %+v, want %+v", name, info.Lock, want)
	}
	if gotMode, gotPeriod, err := s.DefaultLock(t.Context()); err != nil || gotMode != mode || gotPeriod != period {
		t.Errorf("default lock %s %s, error %v; want %s %s", gotMode, gotPeriod, err, mode, period)
	}
}

func TestALockThatWasNotCompletedIsVoid(t *testing.T) {
	var ago atomic.Int64
	s := serve(t, osstest.Options{Now: func() time.Time { return time.Now().Add(-time.Duration(ago.Load())) }}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{})
	put(t, store, "a", "content")
	ago.Store(int64(25 * time.Hour))
	if lock, err := store.StartBucketLock(t.Context(), 30); err == nil {
		t.Errorf("started %+v a day ago, want an error", lock)
	}
	lock, err := store.BucketLock(t.Context())
	if err != nil || lock.State != archive.BucketOpen || !lock.Expired || !lock.Deadline.Before(time.Now()) {
		t.Fatalf("got %+v, error %v; want one past its deadline", lock, err)
	}
	wantError(t, store.CompleteBucketLock(t.Context()), errors.ErrUnsupported, "void", "start it again")
	wantLock(t, store, "a", 0)
	err = tryPut(t, store, "b", "x", archive.PutOptions{Lock: archive.Lock{Mode: archive.Compliance, Until: time.Now().AddDate(0, 0, 1)}})
	wantError(t, err, errors.ErrUnsupported, "is void")

	ago.Store(0)
	if lock, err = store.BucketLock(t.Context()); err != nil || lock.State == archive.BucketLocked {
		t.Fatalf("got %+v, error %v", lock, err)
	}
	if _, err := store.StartBucketLock(t.Context(), 30); err != nil {
		t.Errorf("starting another: %v", err)
	}
}

func TestAPutMayAskForWhatTheBucketRetainsAnyway(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{})
	for30 := archive.Lock{Mode: archive.Compliance, Until: time.Now().AddDate(0, 0, 30)}
	err := tryPut(t, store, "a", "content", archive.PutOptions{Lock: for30})
	wantError(t, err, errors.ErrUnsupported, "retains by bucket", "the bucket retains nothing", "otsnap lock bucket", "30 days")
	wantNone(t, store, "a")
	if _, err := store.StartBucketLock(t.Context(), 30); err != nil {
		t.Fatal(err)
	}
	wantError(t, tryPut(t, store, "a", "content", archive.PutOptions{Lock: for30}), errors.ErrUnsupported, "not complete", "void on")
	if err := store.CompleteBucketLock(t.Context()); err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		name string
		lock archive.Lock
		ok   bool
	}{
		{"just", for30, true},
		{"less", archive.Lock{Mode: archive.Governance, Until: time.Now().AddDate(0, 0, 3)}, true},
		{"more", archive.Lock{Mode: archive.Compliance, Until: time.Now().AddDate(0, 0, 31)}, false},
		{"held", archive.Lock{Hold: true}, false},
	}
	for _, test := range tests {
		err := tryPut(t, store, test.name, "content", archive.PutOptions{Lock: test.lock})
		if test.ok != (err == nil) || !test.ok && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: got %v, want success %t", test.name, err, test.ok)
		}
		if !test.ok {
			wantNone(t, store, test.name)
		}
	}
}

// A date that was asked for by a clock which is ahead has to be reached all the
// same: the lock is seen to be shorter later, or not.
func TestAClockThatIsAheadShortensNoLock(t *testing.T) {
	const ahead = 2 * time.Second
	s := serve(t, osstest.Options{Now: func() time.Time { return time.Now().Add(-ahead) }}, osstest.BucketOptions{})
	s.SetSkew(-ahead)
	store := s.open(t, oss.Config{})
	if _, err := store.StartBucketLock(t.Context(), 30); err != nil {
		t.Fatal(err)
	}
	if err := store.CompleteBucketLock(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked := archive.Lock{Mode: archive.Compliance, Until: time.Now().AddDate(0, 0, 30)}
	if err := tryPut(t, store, "a", "content", archive.PutOptions{Lock: asked}); err != nil {
		t.Fatal(err)
	}
	info, err := store.Inspect(t.Context(), "a")
	if err != nil || !info.Lock.Covers(asked) {
		t.Errorf("asked for %+v, got %+v, error %v", asked, info.Lock, err)
	}

	s.SetSkew(-10 * time.Minute)
	asked.Until = time.Now().AddDate(0, 0, 30)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := store.Inspect(ctx, "a"); err != nil { // the service tells its time
		t.Fatal(err)
	}
	err = store.Put(ctx, "b", strings.NewReader("content"), archive.PutOptions{Lock: asked})
	wantError(t, err, errors.ErrUnsupported, "set this machine's clock", "10m")
}

func TestTheBucketsLockIsNotAskedForEachObject(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{})
	put(t, store, "a", "content")
	n := s.count(http.MethodGet, func() {
		for range 10 {
			if _, err := store.Inspect(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
	})
	if n != 1 {
		t.Errorf("%d GETs for 10 objects, want 1", n)
	}
}

func TestWhoMayNotSeeTheLockIsTold(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	put(t, s.open(t, oss.Config{}), "a", "content")
	limit(t, s, "oss:GetBucketWorm")
	_, err := s.open(t, oss.Config{}).Inspect(t.Context(), "a")
	wantError(t, err, archive.ErrUnavailable, "oss:GetBucketWorm")
}

func TestALockWhoseAnswerWasLostIsStarted(t *testing.T) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	store := s.open(t, oss.Config{})
	lose := func() {
		var done atomic.Bool
		s.through(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet || done.Swap(true) {
				next.ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(discard{http.Header{}}, r)
			panic(http.ErrAbortHandler)
		})
	}
	lose()
	if _, err := store.StartBucketLock(t.Context(), 30); err != nil {
		t.Fatal(err)
	}
	lose()
	if err := store.AbortBucketLock(t.Context()); err != nil {
		t.Fatal(err)
	}
	lose()
	if _, err := store.StartBucketLock(t.Context(), 30); err != nil {
		t.Fatal(err)
	}
	lose()
	if err := store.CompleteBucketLock(t.Context()); err != nil {
		t.Fatal(err)
	}
	lose()
	if err := store.ExtendBucketLock(t.Context(), 31); err != nil {
		t.Fatal(err)
	}
}

// discard is an answer nobody gets.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) WriteHeader(int)             {}
func (d discard) Write(p []byte) (int, error) { return len(p), nil }

func TestProbe(t *testing.T) {
	const yes, no, open = archive.Supported, archive.Absent, archive.Unknown
	ignore := func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && r.Header.Get("X-Oss-Forbid-Overwrite") != "" {
			w.Header().Set("X-Oss-Request-Id", "1")
			w.WriteHeader(http.StatusOK) // forbid-overwrite ignored
			return
		}
		next.ServeHTTP(w, r)
	}
	tests := []struct {
		name    string
		bucket  osstest.BucketOptions
		config  oss.Config
		lacking []string
		front   func(http.Handler, http.ResponseWriter, *http.Request)
		want    map[string]archive.State
	}{
		{"plain", osstest.BucketOptions{}, oss.Config{}, nil, nil,
			map[string]archive.State{archive.CanCreateOnly: yes, archive.CanVersion: no, archive.CanBucketLock: yes, archive.CanEncrypt: no}},
		{"versioned", osstest.BucketOptions{Versioning: "Enabled"}, oss.Config{SSE: "AES256"}, nil, nil,
			map[string]archive.State{archive.CanCreateOnly: yes, archive.CanVersion: yes, archive.CanBucketLock: yes, archive.CanEncrypt: yes}},
		{"suspended", osstest.BucketOptions{Versioning: "Suspended"}, oss.Config{}, nil, nil,
			map[string]archive.State{archive.CanCreateOnly: no, archive.CanVersion: no, archive.CanBucketLock: yes, archive.CanEncrypt: no}},
		{"encrypting by itself", osstest.BucketOptions{Encryption: "KMS"}, oss.Config{}, nil, nil,
			map[string]archive.State{archive.CanCreateOnly: yes, archive.CanVersion: no, archive.CanBucketLock: yes, archive.CanEncrypt: yes}},
		{"ignoring forbid-overwrite", osstest.BucketOptions{}, oss.Config{SSE: "AES256"}, nil, ignore,
			map[string]archive.State{archive.CanCreateOnly: no, archive.CanVersion: no, archive.CanBucketLock: yes, archive.CanEncrypt: no}},
		{"without rights", osstest.BucketOptions{}, oss.Config{SSE: "AES256"},
			[]string{"oss:PutObject", "oss:GetBucketVersioning", "oss:GetBucketWorm"}, nil,
			map[string]archive.State{archive.CanCreateOnly: open, archive.CanVersion: open, archive.CanBucketLock: open, archive.CanEncrypt: no}},
		{"without any rights", osstest.BucketOptions{}, oss.Config{},
			[]string{"oss:PutObject", "oss:GetObject", "oss:GetBucketVersioning", "oss:GetBucketWorm"}, nil,
			map[string]archive.State{archive.CanCreateOnly: open, archive.CanVersion: open, archive.CanBucketLock: open, archive.CanEncrypt: open}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, osstest.Options{}, test.bucket)
			if test.bucket.Versioning == "Enabled" && test.config.SSE != "" {
				put(t, s.open(t, test.config), "policy", "content")
			} else if err := s.client(t).PutObject("policy", strings.NewReader("content")); err != nil {
				t.Fatal(err)
			}
			if len(test.lacking) > 0 {
				limit(t, s, test.lacking...)
			}
			s.through(test.front)
			found, err := s.open(t, test.config).Probe(t.Context(), "policy")
			if err != nil {
				t.Fatal(err)
			}
			test.want[archive.CanChecksum], test.want[archive.CanLock], test.want[archive.CanHold], test.want[archive.CanTier] = no, no, no, yes
			if len(found) != len(test.want) {
				t.Errorf("found %d capabilities, want %d", len(found), len(test.want))
			}
			for _, c := range found {
				if c.State != test.want[c.Name] {
					t.Errorf("%s is %s (%s), want %s", c.Name, c.State, c.Detail, test.want[c.Name])
				}
			}
			if objects, err := s.Objects(bucketName); err != nil || len(objects) != 1 || objects[0].Size != int64(len("content")) {
				t.Errorf("after the probe the bucket has %+v, error %v", objects, err)
			}
		})
	}
}
