package signer_test

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/signer"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/signer/signertest"
	"github.com/otsnap/otsnap/manifest"
)

// service is a key service and how its keys are named.
type service struct {
	*signertest.Service
	reference, other, unknown string               // a key on P-256, one on P-384, and none
	sign                      string               // the action
	secret                    string               // where this process has the secret
	joined                    func()               // has signatures come as two numbers
	dead                      string               // a reference to where nobody listens
	onTheWay                  *func(*http.Request) // happens to requests
}

var credentials = signertest.Credentials{ID: "id", Secret: "secret-canary", Token: "token-canary"}

func services(t *testing.T) map[string]service {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": credentials.Secret, "AWS_SESSION_TOKEN": credentials.Token,
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_PROFILE": "",
		"OSS_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_ID": "id", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": credentials.Secret, "ALIBABA_CLOUD_SECURITY_TOKEN": credentials.Token,
	} {
		t.Setenv(name, value)
	}
	aws, alibaba := signertest.NewAWS("eu-central-1", credentials), signertest.NewAlibaba("cn-hangzhou", credentials)
	add := func(s *signertest.Service, id string, curve elliptic.Curve) {
		if err := s.AddKey(id, curve); err != nil {
			t.Fatal(err)
		}
	}
	add(&aws.Service, "alias/exporter", elliptic.P256())
	add(&aws.Service, "alias/large", elliptic.P384())
	add(&alibaba.Service, "key-1/v+1", elliptic.P256())
	add(&alibaba.Service, "key-2/v1", elliptic.P384())
	var changed func(*http.Request)
	atAWS, atAlibaba := "?region=eu-central-1&endpoint="+serve(t, aws, &changed), "?endpoint="+serve(t, alibaba, &changed)
	const nobody = "http://127.0.0.1:1"
	return map[string]service{
		"AWS": {
			Service: &aws.Service, onTheWay: &changed, sign: "Sign", secret: "AWS_SECRET_ACCESS_KEY",
			reference: "awskms:///alias/exporter" + atAWS, other: "awskms:///alias/large" + atAWS, unknown: "awskms:///alias/none" + atAWS,
			dead: "awskms:///alias/exporter?region=eu-central-1&endpoint=" + nobody,
		},
		"Alibaba": {
			Service: &alibaba.Service, onTheWay: &changed, sign: "AsymmetricSign", secret: "ALIBABA_CLOUD_ACCESS_KEY_SECRET", joined: func() { alibaba.Joined = true },
			reference: "alikms:///key-1/v%2B1" + atAlibaba, other: "alikms:///key-2/v1" + atAlibaba, unknown: "alikms:///key-1/v2" + atAlibaba,
			dead: "alikms:///key-1/v1?endpoint=" + nobody,
		},
	}
}

func serve(t *testing.T, h http.Handler, changed *func(*http.Request)) string {
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if *changed != nil {
			(*changed)(r)
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL
}

func forServices(t *testing.T, test func(t *testing.T, s service)) {
	t.Helper()
	for name, s := range services(t) {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

func open(t *testing.T, reference string) manifest.Signer {
	t.Helper()
	s, err := signer.Open(t.Context(), reference, signer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refused wants an error with advice, without secrets.
func refused(t *testing.T, err error, says string) *signer.Error {
	t.Helper()
	var e *signer.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, which is no *signer.Error", err)
	}
	if !strings.Contains(err.Error(), says) || e.Advice == "" || strings.Contains(err.Error()+e.Advice, "canary") {
		t.Errorf("got %q, advice %q; want one that says %q", err, e.Advice, says)
	}
	return e
}

func TestServiceSigns(t *testing.T) {
	forServices(t, func(t *testing.T, s service) {
		key := open(t, s.reference)
		for _, message := range [][]byte{{}, []byte("short"), bytes.Repeat([]byte("longer than 4096 bytes"), 1000)} {
			sig, err := key.Sign(t.Context(), message)
			if err != nil {
				t.Fatal(err)
			}
			if !key.Key().Verify(message, sig) {
				t.Errorf("%d bytes: the signature is not good", len(message))
			}
		}
		if n := s.Asked("GetPublicKey"); n != 1 {
			t.Errorf("the public key was asked for %d times", n)
		}
		if s.joined != nil {
			s.joined()
			if sig, err := key.Sign(t.Context(), nil); err != nil || !key.Key().Verify(nil, sig) {
				t.Errorf("of two numbers: %v", err)
			}
		}
	})
}

// TestServiceHasAnotherKey sees that what comes back is checked.
func TestServiceHasAnotherKey(t *testing.T) {
	forServices(t, func(t *testing.T, s service) {
		key := open(t, s.reference)
		for _, id := range []string{"alias/exporter", "key-1/v+1"} {
			if err := s.AddKey(id, elliptic.P256()); err != nil {
				t.Fatal(err)
			}
		}
		_, err := key.Sign(t.Context(), []byte("message"))
		if e := refused(t, err, "is not its signature"); e.NoVerdict {
			t.Error("a wrong signature passes for trouble of the network")
		}
	})
}

func TestServiceRefuses(t *testing.T) {
	forServices(t, func(t *testing.T, s service) {
		_, err := signer.Open(t.Context(), s.unknown, signer.Options{})
		if e := refused(t, err, "(HTTP 40"); e.NoVerdict || !strings.Contains(e.Advice, "no such key") {
			t.Errorf("of an unknown key: advice %q", e.Advice)
		}
		_, err = signer.Open(t.Context(), s.other, signer.Options{})
		refused(t, err, "P")
		code := map[string]string{"Sign": "AccessDeniedException", "AsymmetricSign": "Forbidden.NoPermission"}[s.sign]
		key := open(t, s.reference)
		s.Misbehave(func(string) *signertest.Refusal {
			return &signertest.Refusal{Status: 403, Code: code, Message: "no"}
		})
		_, err = key.Sign(t.Context(), nil)
		if e := refused(t, err, code); !strings.Contains(e.Advice, "kms:"+s.sign) {
			t.Errorf("advice %q does not name the right", e.Advice)
		}
		s.Misbehave(nil)
		t.Setenv(s.secret, "wrong-canary")
		_, err = signer.Open(t.Context(), s.reference, signer.Options{})
		if e := refused(t, err, "(HTTP 400)"); !strings.Contains(e.Advice, "credentials") && !strings.Contains(e.Advice, "access key") {
			t.Errorf("of a wrong secret: advice %q", e.Advice)
		}
	})
}

// TestServiceChecksRequests sees that the services of these tests let nothing pass
// which the real ones would refuse.
func TestServiceChecksRequests(t *testing.T) {
	changes := map[string]func(*http.Request){
		"Body":   func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("{}")) },
		"Query":  func(r *http.Request) { r.URL.RawQuery += "&DryRun=true" },
		"Method": func(r *http.Request) { r.Method = http.MethodPut },
		"Action": func(r *http.Request) {
			r.Header.Set("X-Amz-Target", "TrentService.Sign")
			r.Header.Set("X-Acs-Action", "Sign")
		},
		"Token": func(r *http.Request) {
			r.Header.Set("X-Amz-Security-Token", "x")
			r.Header.Set("X-Acs-Security-Token", "x")
		},
		"Time": func(r *http.Request) {
			r.Header.Set("X-Amz-Date", "20260101T000000Z")
			r.Header.Set("X-Acs-Date", "2026-01-01T00:00:00Z")
		},
		"NotSigned":    func(r *http.Request) { r.Header.Del("Authorization") },
		"ExtraUnnamed": func(r *http.Request) { r.Header.Set("X-Acs-Extra", "1"); r.Host = "elsewhere" },
	}
	forServices(t, func(t *testing.T, s service) {
		for name, change := range changes {
			t.Run(name, func(t *testing.T) {
				*s.onTheWay = change
				_, err := signer.Open(t.Context(), s.reference, signer.Options{})
				refused(t, err, "(HTTP 4")
			})
		}
		if n := s.Asked("GetPublicKey"); n != 0 {
			t.Errorf("%d changed requests were good enough", n)
		}
	})
}

// TestServiceRecovers sees that a request is repeated when that may help.
func TestServiceRecovers(t *testing.T) {
	forServices(t, func(t *testing.T, s service) {
		troubles := []*signertest.Refusal{
			{Status: 500, Code: "InternalFailure"}, {Status: 400, Code: "ThrottlingException"}, {Status: 503, Code: "Throttling.User"}, nil,
		}
		s.Misbehave(func(string) (next *signertest.Refusal) {
			if len(troubles) > 0 {
				next, troubles = troubles[0], troubles[1:]
			}
			return next
		})
		told := 0
		if _, err := signer.Open(t.Context(), s.reference, signer.Options{OnRetry: func(error) { told++ }}); err != nil || told != 3 {
			t.Errorf("told of %d retries, want 3; %v", told, err)
		}
	})
}

func TestServiceDoesNotAnswer(t *testing.T) {
	forServices(t, func(t *testing.T, s service) {
		_, err := signer.Open(t.Context(), s.dead, signer.Options{GiveUpAfter: 150 * time.Millisecond})
		if e := refused(t, err, "connection refused"); !e.NoVerdict || !strings.Contains(e.Advice, "no verdict") || !strings.Contains(err.Error(), "gave up after 150ms") {
			t.Errorf("got %v, no verdict: %v", err, e.NoVerdict)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err = signer.Open(ctx, s.dead, signer.Options{OnRetry: func(error) { cancel() }})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: got %v", err)
		}
	})
}

func TestServiceWithoutCredentials(t *testing.T) {
	forServices(t, func(t *testing.T, s service) {
		for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"} {
			t.Setenv(name, "")
		}
		t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
		reference := s.reference
		if s.sign == "AsymmetricSign" {
			reference += "&credentials=env"
		}
		_, err := signer.Open(t.Context(), reference, signer.Options{GiveUpAfter: time.Second})
		refused(t, err, "credentials")
	})
}

func TestNames(t *testing.T) {
	for reference, want := range map[string]string{
		"exporter.pem": "exporter", "file:/keys/exporter.pem.pub": "exporter", "awskms:///alias/exporter?region=x": "exporter",
		"awskms:///arn:aws:kms:eu-central-1:1:key/0f-1": "0f-1", "alikms:///key-1/v1?region=x": "key-1", "exec:/usr/bin/sign.sh --key 1": "sign",
	} {
		if got := signer.Name(reference); got != want {
			t.Errorf("%s: got %q, want %q", reference, got, want)
		}
	}
}

func TestPlacesThatCannotBe(t *testing.T) {
	for _, reference := range []string{
		"awskms:///", "awskms://host/key?region=x", "awskms:///k?region=x&region=y", "awskms:///k?region=x&endpoint=ftp://h", "awskms:///k?region=",
		"awskms:///k?endpoint=http://user:canary@host&region=x", "awskms:///k%00?region=x", "awskms:key", "alikms:///key-1/v1", "alikms:///key-1/v1?region=a.b/c",
		"alikms:///v1?region=x", "alikms:///key-1/?region=x", "alikms:///key-1/v1?region=x&credentials=magic", "exec:", "exec:ls", "vault://canary@host",
	} {
		var e *signer.Error
		if _, err := signer.Open(t.Context(), reference, signer.Options{}); !errors.As(err, &e) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v", reference, err)
		}
	}
}

func TestEncryptedFile(t *testing.T) {
	plain, made, err := manifest.GenerateKey(manifest.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := signer.Encrypt(plain, []byte("right"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, locked, 0o600); err != nil {
		t.Fatal(err)
	}
	for passphrase, good := range map[string]bool{"right": true, "wrong": false, "": false} {
		s, err := signer.Open(t.Context(), path, signer.Options{Passphrase: func(string) ([]byte, error) { return []byte(passphrase), nil }})
		if good != (err == nil) || good && s.Key() != made.Key() {
			t.Errorf("passphrase %q: got %v", passphrase, err)
		}
	}
	if _, err := signer.Open(t.Context(), path, signer.Options{}); err == nil || !strings.Contains(err.Error(), "has a passphrase") {
		t.Errorf("with nobody to ask: got %v", err)
	}
}
