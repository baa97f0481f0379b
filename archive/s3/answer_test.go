package s3_test

import (
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/s3"
)

// TestAServerOfHTTP2IsSpokenToInHTTP1 has a server that speaks both and prefers
// the newer, as most do behind TLS.
func TestAServerOfHTTP2IsSpokenToInHTTP1(t *testing.T) {
	f := &fake{objects: map[string][]byte{}, headers: map[string]string{}}
	f.Server = httptest.NewUnstartedServer(f)
	f.EnableHTTP2 = true
	f.StartTLS()
	t.Cleanup(f.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", file)
	s := f.open(t, func(c *s3.Config) { c.GiveUpAfter = time.Second })
	put(t, s, "a", "content", archive.PutOptions{})
	want(t, s, "a", "content")
}

func TestASuccessThatIsNotOfS3IsNone(t *testing.T) {
	f := newFake(t)
	s := f.open(t, func(c *s3.Config) { c.GiveUpAfter = time.Second })
	put(t, s, "a", "content", archive.PutOptions{})
	const says = "is there a proxy, or a login page?"
	for _, page := range []string{"<html>log in to the network</html>", ""} {
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Del("X-Amz-Request-Id")
			io.WriteString(w, page)
			return true
		}
		_, err := s.Get(t.Context(), "a")
		wantError(t, err, says)
		wantError(t, s.Put(t.Context(), "b", strings.NewReader("content"), archive.PutOptions{}), says)
		wantError(t, s.Delete(t.Context(), "a"), says)
		_, err = s.Inspect(t.Context(), "a")
		wantError(t, err, says)
		err = nil
		for _, e := range s.List(t.Context(), "") {
			err = e
		}
		wantError(t, err, says)
	}
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Del("X-Amz-Request-Id")
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	_, err := s.Inspect(t.Context(), "a")
	wantError(t, err, says)
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Inspect: got %v, want no fs.ErrNotExist", err)
	}
	f.before = nil
	want(t, s, "a", "content")
}

// TestAnAnswerWithoutALengthIsRefused has a proxy that sends on in chunks.
func TestAnAnswerWithoutALengthIsRefused(t *testing.T) {
	f := newFake(t)
	s := f.open(t, func(c *s3.Config) { c.GiveUpAfter = time.Second })
	put(t, s, "a", "content", archive.PutOptions{})
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		http.NewResponseController(w).Flush()
		io.WriteString(w, "cont")
		return true
	}
	_, err := s.Get(t.Context(), "a")
	wantError(t, err, "does not tell its length")
	info, err := s.Inspect(t.Context(), "a")
	wantError(t, err, "does not say how long it is")
	if info != (archive.Info{}) {
		t.Errorf("got %+v beside the error", info)
	}
}

func TestARefusalWithoutAnEndIsCut(t *testing.T) {
	f := newFake(t)
	var sent atomic.Int64
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		for line := strings.Repeat("x", 64<<10); sent.Load() < 256<<20; sent.Add(int64(len(line))) {
			if _, err := io.WriteString(w, line); err != nil {
				break
			}
		}
		return true
	}
	_, err := f.open(t, nil).Get(t.Context(), "a")
	wantError(t, err, "403")
	if sent.Load() > 64<<20 {
		t.Errorf("read %d bytes of refusals", sent.Load())
	}
}
