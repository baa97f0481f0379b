package rfc3161_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/rfc3161"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/rfc3161/tsatest"
)

// openssl runs it in a folder, and returns what it says.
func openssl(ctx context.Context, folder string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "openssl", args...)
	cmd.Dir = folder
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func needOpenSSL(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
}

func write(t *testing.T, folder, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOpenSSLAgrees on time stamps that are good and on some that are not.
func TestOpenSSLAgrees(t *testing.T) {
	needOpenSSL(t)
	folder := t.TempDir()
	write(t, folder, "data", []byte("a manifest"))
	write(t, folder, "ca.pem", root.PEM())
	long := at.AddDate(-6, 0, 0)
	old := root.NewTSA(tsatest.NewKey(""), func(c *x509.Certificate) { c.NotAfter = at.AddDate(-5, 0, 0) })
	for name, test := range map[string]struct {
		data []byte
		good bool
		at   time.Time
	}{
		"ecdsa":         {root.NewTSA(tsatest.NewKey(""), nil).Stamp(asked(), at, nil), true, time.Time{}},
		"rsa":           {root.NewTSA(tsatest.NewKey("rsa"), nil).Stamp(asked(), at, nil), true, time.Time{}},
		"by a stranger": {tsatest.NewRoot("root.test").NewTSA(tsatest.NewKey(""), nil).Stamp(asked(), at, nil), false, time.Time{}},
		"long ago":      {old.Stamp(asked(), long, nil), true, long},
	} {
		write(t, folder, "stamp.tsr", test.data)
		args := []string{"ts", "-verify", "-data", "data", "-in", "stamp.tsr", "-CAfile", "ca.pem"}
		if !test.at.IsZero() {
			args = append(args, "-attime", strconv.FormatInt(test.at.Unix(), 10))
		}
		out, err := openssl(t.Context(), folder, args...)
		if (err == nil) != test.good {
			t.Errorf("%s: openssl says %v: %s", name, err, out)
		}
		if _, err := rfc3161.Check(test.data, rfc3161.Want{Digest: digest, Roots: pool(root)}); (err == nil) != test.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const opensslTSA = `
[tsa]
default_tsa = one
[one]
serial = serial
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256
accuracy = secs:1
ess_cert_id_chain = no
ess_cert_id_alg = %
`

// TestOpenSSLIsATSA has openssl answer requests.
func TestOpenSSLIsATSA(t *testing.T) {
	needOpenSSL(t)
	folder := t.TempDir()
	write(t, folder, "serial", []byte("10\n"))
	write(t, folder, "ca.pem", root.PEM())
	tsa := root.NewTSA(tsatest.NewKey("rsa"), nil)
	write(t, folder, "tsa.pem", tsa.PEM())
	write(t, folder, "key.pem", tsa.KeyPEM())
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		write(t, folder, "request.tsq", body)
		out, err := openssl(t.Context(), folder, "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "request.tsq", "-signer", "tsa.pem", "-inkey", "key.pem", "-out", "reply.tsr")
		if err != nil {
			t.Errorf("openssl: %v: %s", err, out)
		}
		http.ServeFile(w, r, filepath.Join(folder, "reply.tsr"))
	}))
	defer front.Close()
	for _, hash := range []string{"sha1", "sha256", "sha512"} {
		write(t, folder, "tsa.cnf", []byte(strings.ReplaceAll(opensslTSA, "%", hash)))
		answer, err := rfc3161.Client{Roots: pool(root)}.Stamp(t.Context(), digest, front.URL)
		if err != nil {
			t.Errorf("%s: %v", hash, err)
			continue
		}
		if since := time.Since(answer.Time); since < -time.Minute || since > time.Minute || answer.Accuracy != time.Second {
			t.Errorf("%s: got %+v", hash, answer.Stamp)
		}
		over := sha256.Sum256([]byte("another manifest"))
		if _, err := rfc3161.Check(answer.Data, rfc3161.Want{Digest: over, Roots: pool(root)}); err == nil {
			t.Errorf("%s: is taken for another manifest's", hash)
		}
	}
}
