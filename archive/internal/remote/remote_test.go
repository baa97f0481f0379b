package remote_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/internal/remote"
)

var errBusy, errWrong = errors.New("busy"), errors.New("wrong")

func busy(err error) bool { return errors.Is(err, errBusy) }

// failing is a try that is busy n times and then ends with last.
func failing(n int, last error) func(int) error {
	return func(try int) error {
		if try <= n {
			return errBusy
		}
		return last
	}
}

func TestRetry(t *testing.T) {
	tests := []struct {
		name  string
		busy  int
		last  error
		tries int
	}{
		{"Success", 0, nil, 1},
		{"SuccessInTheEnd", 5, nil, 6},
		{"AnErrorForGood", 0, errWrong, 1},
		{"AnErrorForGoodInTheEnd", 3, errWrong, 4},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries, told := 0, 0
				r := remote.Retry{Temporary: busy, OnRetry: func(err error) {
					if told++; err != errBusy {
						t.Errorf("told of %v", err)
					}
				}}
				err := r.Do(t.Context(), func(n int) error {
					if tries++; n != tries {
						t.Errorf("try %d is told it is %d", tries, n)
					}
					return failing(test.busy, test.last)(n)
				})
				if err != test.last || tries != test.tries || told != test.busy {
					t.Errorf("got %v after %d tries, told of %d; want %v, %d, %d", err, tries, told, test.last, test.tries, test.busy)
				}
			})
		})
	}
}

func TestRetryGivesUp(t *testing.T) {
	for _, limit := range []time.Duration{0, time.Minute} {
		t.Run(limit.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				tries := 0
				err := remote.Retry{GiveUpAfter: limit, Temporary: busy}.Do(t.Context(), func(int) error { tries++; return errBusy })
				took, want := time.Since(begin), limit
				if want == 0 {
					want = remote.GiveUpAfter
				}
				if !errors.Is(err, errBusy) || !strings.Contains(err.Error(), fmt.Sprintf("gave up after %d tries", tries)) {
					t.Errorf("got %v, want the last error and the number of tries, %d", err, tries)
				}
				// The longest wait is 20 s, so it may end that much early.
				if took > want || took < want-21*time.Second {
					t.Errorf("gave up after %v, want about %v", took, want)
				}
				if tries < 5 || tries > 200 {
					t.Errorf("%d tries in %v", tries, want)
				}
			})
		})
	}
}

func TestRetryEndsWithItsContext(t *testing.T) {
	t.Run("WhileItWaits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			begin := time.Now()
			err := remote.Retry{Temporary: busy}.Do(ctx, func(int) error { return errBusy })
			if err != context.DeadlineExceeded || time.Since(begin) != 3*time.Second {
				t.Errorf("got %v after %v, want the error of the context at once", err, time.Since(begin))
			}
		})
	})
	t.Run("WhileItTries", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := remote.Retry{Temporary: busy}.Do(ctx, func(int) error { cancel(); return errWrong })
		if err != context.Canceled {
			t.Errorf("got %v, want the error of the context", err)
		}
	})
}

func TestUnavailable(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := remote.Unavailable(t.Context(), nil); err != nil {
		t.Errorf("nil became %v", err)
	}
	if err := remote.Unavailable(done, errWrong); err != context.Canceled {
		t.Errorf("got %v, want the error of the context", err)
	}
	err := remote.Unavailable(t.Context(), errWrong)
	if !errors.Is(err, archive.ErrUnavailable) || !errors.Is(err, errWrong) {
		t.Errorf("got %v, want both errors", err)
	}
	if again := remote.Unavailable(t.Context(), err); again != err {
		t.Errorf("%v became %v, want it left as it is", err, again)
	}
}

const idle = 200 * time.Millisecond

// longIdle is for what has to come in time, on a machine that has other things
// to do.
const longIdle = 2 * time.Second

func client(t *testing.T) *http.Client { return clientOf(t, idle) }

func clientOf(t *testing.T, idle time.Duration) *http.Client {
	transport := remote.Transport(idle)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// silent is a server that takes connections and says nothing but answer, to what
// comes first.
func silent(t *testing.T, answer string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			if answer != "" {
				conn.Read(make([]byte, 1))
				io.WriteString(conn, answer)
			}
		}
	}()
	return "http://" + l.Addr().String()
}

// wantTimeout holds an error to being one of a connection that stood still, and
// to coming soon.
func wantTimeout(t *testing.T, begin time.Time, err error) {
	t.Helper()
	var timeout net.Error
	closed := errors.Is(err, net.ErrClosed) // of the side that writes, when reading timed out
	if !closed && (!errors.As(err, &timeout) || !timeout.Timeout()) {
		t.Errorf("got %v, want a timeout", err)
	}
	if took := time.Since(begin); took > 20*idle {
		t.Errorf("took %v, a connection may stand still for %v", took, idle)
	}
}

func TestASilentServerIsGone(t *testing.T) {
	t.Run("BeforeItAnswers", func(t *testing.T) {
		begin := time.Now()
		_, err := client(t).Get(silent(t, ""))
		wantTimeout(t, begin, err)
	})
	t.Run("InABody", func(t *testing.T) {
		begin := time.Now()
		resp, err := client(t).Get(silent(t, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		wantTimeout(t, begin, err)
		if string(data) != "half" {
			t.Errorf("read %q before", data)
		}
	})
	t.Run("WhileABodyIsSent", func(t *testing.T) {
		begin := time.Now()
		_, err := client(t).Post(silent(t, ""), "", strings.NewReader(strings.Repeat("x", 64<<20)))
		wantTimeout(t, begin, err)
	})
}

// TestASlowServerIsNotGone has a server that takes many times as long as a
// connection may stand still, and always says something in time.
func TestASlowServerIsNotGone(t *testing.T) {
	t.Parallel()
	const parts = 16
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range parts {
			io.WriteString(w, "x")
			http.NewResponseController(w).Flush()
			time.Sleep(longIdle / 10)
		}
	}))
	defer server.Close()
	resp, err := clientOf(t, longIdle).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || len(data) != parts {
		t.Errorf("read %d bytes, error %v; want %d", len(data), err, parts)
	}
}

// TestABodyThatIsSentSlowlyLeavesTimeForTheAnswer has nothing to read for longer
// than a connection may stand still, while it is written to.
func TestABodyThatIsSentSlowlyLeavesTimeForTheAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		time.Sleep(longIdle / 10)
		fmt.Fprint(w, n)
	}))
	defer server.Close()
	body, to := io.Pipe()
	go func() {
		for range 16 {
			to.Write([]byte("x"))
			time.Sleep(longIdle / 10)
		}
		to.Close()
	}()
	resp, err := clientOf(t, longIdle).Post(server.URL, "", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || string(data) != "16" {
		t.Errorf("the server read %s bytes, error %v; want 16", data, err)
	}
}

// TestAServerOfHTTP2IsSpokenToInHTTP1 has a server that speaks both and prefers
// the newer, as most do behind TLS.
func TestAServerOfHTTP2IsSpokenToInHTTP1(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	transport := remote.Transport(idle)
	defer transport.CloseIdleConnections()
	if transport.TLSClientConfig == nil {
		transport.TLSClientConfig = new(tls.Config)
	}
	transport.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	resp, err := (&http.Client{Transport: transport}).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if proto, err := io.ReadAll(resp.Body); err != nil || string(proto) != "HTTP/1.1" {
		t.Errorf("the server was spoken to in %q, error %v; want HTTP/1.1", proto, err)
	}
}

// TestCredentialsInAnAnswerAreMasked as where a proxy tells the request back.
func TestCredentialsInAnAnswerAreMasked(t *testing.T) {
	const token = "canary+/token=="
	cut := errors.New("cut off")
	front := remote.Bounded{RoundTripper: answer(func(r *http.Request) (*http.Response, error) {
		said := "you sent " + r.Header.Get("X-Amz-Security-Token") + " and " + url.QueryEscape(r.Header.Get("Authorization")) + "."
		return &http.Response{StatusCode: 403, Body: io.NopCloser(io.MultiReader(strings.NewReader(said), iotest.ErrReader(cut))), Request: r}, nil
	})}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://s3.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Security-Token", token)
	r.Header.Set("Authorization", token)
	resp, err := front.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(resp.Body)
	if want := "you sent *************** and ***********************."; string(said) != want || !errors.Is(err, cut) {
		t.Errorf("got %q, %v, want %q and that it is cut off", said, err, want)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
}

// answer is an [http.RoundTripper].
type answer func(*http.Request) (*http.Response, error)

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }
