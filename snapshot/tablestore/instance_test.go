package tablestore

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

func TestInstanceNamesNoCredential(t *testing.T) {
	in := newStage(t).open(t)
	got := in.Instance()
	if got.Name != "demo" || !strings.HasPrefix(got.Endpoint, "http://127.0.0.1:") {
		t.Errorf("got %+v", got)
	}
}

// The local server checks signatures as the service does.
func TestSignaturesAreAccepted(t *testing.T) {
	s := newStage(t)
	for name, region := range map[string]string{"V2": "", "V4": "cn-hangzhou"} {
		t.Run(name, func(t *testing.T) {
			c := Config{
				Endpoint:        s.url,
				Instance:        "demo",
				Region:          region,
				AccessKeyID:     local.DefaultAccessKeyID,
				AccessKeySecret: local.DefaultAccessKeySecret,
				SecurityToken:   "a-token",
			}
			in, err := Open(c)
			if err != nil {
				t.Fatal(err)
			}
			table := orders
			table.Name += name
			mustCreate(t.Context(), t, in, table)
			mustWrite(t, in, table, sample(10, 1))
			if tables, err := in.Tables(t.Context()); err != nil || len(tables) == 0 {
				t.Errorf("got %v, %v", tables, err)
			}
			in.http.CloseIdleConnections()

			for what, spoil := range map[string]func(*Config){
				"wrong secret": func(c *Config) { c.AccessKeySecret = "guessed" },
				"unknown key":  func(c *Config) { c.AccessKeyID = "nobody" },
			} {
				wrong := c
				spoil(&wrong)
				wrong.OnRetry = func(r Retry) { t.Errorf("%s is tried again: %v", what, r.Err) }
				wrong.HTTP = &http.Client{}
				in, err := Open(wrong)
				if err != nil {
					t.Fatal(err)
				}
				_, err = in.Tables(t.Context())
				if !errors.Is(err, ErrCredentials) || !errors.Is(err, snapshot.ErrUnavailable) {
					t.Errorf("%s: got %v", what, err)
				}
				var refusal *Error
				if !errors.As(err, &refusal) || refusal.Action != "ListTable" || refusal.RequestID == "" {
					t.Errorf("%s: got %#v", what, refusal)
				}
			}
		})
	}
	http.DefaultClient.CloseIdleConnections()
}

// A redirect would take the signature and the rows to another host.
func TestRedirectsAreNotFollowed(t *testing.T) {
	s := newStage(t)
	in := s.open(t, func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host != strings.TrimPrefix(s.url, "http://") {
				t.Errorf("a request went to %s", req.URL.Host)
			}
			return alter(respond(http.StatusTemporaryRedirect, nil), func(r *http.Response) {
				r.Header.Set("Location", "http://elsewhere.example/ListTable")
			})(req)
		})
	})
	_, err := in.Tables(t.Context())
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Status != http.StatusTemporaryRedirect {
		t.Errorf("got %v", err)
	}
}

// TestAServiceThatNeverAnswersIsGivenUp waits no longer for one answer than a
// request is tried.
func TestAServiceThatNeverAnswersIsGivenUp(t *testing.T) {
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	defer server.Close()
	defer close(done)
	in, err := Open(Config{Endpoint: server.URL, Instance: "shop", AccessKeyID: "local", AccessKeySecret: "local", GiveUpAfter: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for name, ask := range map[string]func() error{
		"control": func() error { _, err := in.Tables(t.Context()); return err },
		"rows": func() error {
			_, err := in.empty(t.Context(), orders)
			return err
		},
	} {
		if err := ask(); !errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("given up after %s", took)
	}
}
