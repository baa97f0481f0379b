package rfc3161_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/rfc3161"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/rfc3161/tsatest"
)

func TestAsking(t *testing.T) {
	server := tsatest.NewServer()
	front := httptest.NewServer(server)
	defer front.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	tests := []struct {
		name  string
		paths []string
		from  string // which answered; empty: none
		says  string
		away  bool
	}{
		{"good", []string{"/"}, "/", "", false},
		{"refuses", []string{"/reject"}, "", "refused, status 2: the policy is not supported", false},
		{"is busy", []string{"/busy"}, "", "its source of time is not available", true},
		{"is down", []string{"/down"}, "", `it answers "503 Service Unavailable"`, true},
		{"is gone", []string{"gone"}, "", "connection refused", true},
		{"answers for another digest", []string{"/other"}, "", "its answer is over 0000", false},
		{"is nobody's", []string{"/stranger"}, "", "its answer is by CN=tsa.test,O=Test, for whom nobody trusted vouched", false},
		{"does not end", []string{"/endless"}, "", "more than 65536 bytes", false},
		{"is a page", []string{"/page"}, "", "is no time stamp", false},
		{"is elsewhere", []string{"/away"}, "/away", "", false},
		{"has moved", []string{"/moved"}, "", `it answers "302 Found"`, false},
		{"is the third", []string{"/down", "/reject", "/", "/stranger"}, "/", "", false},
		{"one is down, one refuses", []string{"/down", "/reject"}, "", "refused", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var addresses []string
			for _, path := range test.paths {
				addresses = append(addresses, front.URL+path)
				if path == "gone" {
					addresses = []string{gone.URL}
				}
			}
			c := rfc3161.Client{Roots: pool(server.Root), GiveUpAfter: 300 * time.Millisecond}
			answer, err := c.Stamp(t.Context(), digest, addresses...)
			if test.from != "" {
				if err != nil || answer.URL != front.URL+test.from {
					t.Errorf("got %+v, %v", answer, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.says) || errors.Is(err, rfc3161.ErrUnavailable) != test.away {
				t.Errorf("got %+v, %v; want %q, unavailable %t", answer, err, test.says, test.away)
			}
		})
	}
}

func TestAskingAgain(t *testing.T) {
	server := tsatest.NewServer()
	front := httptest.NewServer(server)
	defer front.Close()
	var told []error
	answer, err := rfc3161.Client{Roots: pool(server.Root), OnRetry: func(err error) { told = append(told, err) }}.Stamp(t.Context(), digest, front.URL+"/once?secret")
	if err != nil || len(told) != 1 || !strings.Contains(told[0].Error(), "500") || strings.Contains(told[0].Error(), "secret") {
		t.Errorf("got %+v, %v, told %v", answer, err, told)
	}
}

func TestAskingEndsWithItsContext(t *testing.T) {
	front := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that nobody waits
		<-r.Context().Done()
	}))
	defer front.Close()
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := (rfc3161.Client{}).Stamp(ctx, digest, front.URL); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, rfc3161.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := (rfc3161.Client{GiveUpAfter: 50 * time.Millisecond}).Stamp(t.Context(), digest, front.URL); !errors.Is(err, rfc3161.ErrUnavailable) {
		t.Errorf("a TSA that does not answer: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	for _, good := range []string{"http://tsa.test", "https://tsa.test/tsr?x=1", "http://127.0.0.1:318/"} {
		if err := rfc3161.CheckURL(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "tsa.test", "ftp://tsa.test", "http://", "http:/x", "https://user:hunter2@tsa.test", "http://\x00"} {
		if err := rfc3161.CheckURL(bad); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
