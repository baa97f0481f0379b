package manifest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
)

func TestGeneratedKeysSignAndComeBack(t *testing.T) {
	for _, algorithm := range []string{Ed25519, ECDSAP256, MLDSA65} {
		text, s, err := GenerateKey(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		again := must(ParsePrivateKey(text))(t)
		if again.Key() != s.Key() || s.Key().Algorithm() != algorithm {
			t.Errorf("%s: the key read back differs", algorithm)
		}
		sig := must(again.Sign(t.Context(), []byte("message")))(t)
		key := must(ParsePublicPEM(s.Key().PEM()))(t)
		if key != s.Key() {
			t.Errorf("%s: the public key read back differs", algorithm)
		}
		if !key.Verify([]byte("message"), sig) {
			t.Errorf("%s: a good signature does not verify", algorithm)
		}
		if key.Verify([]byte("Message"), sig) || key.Verify([]byte("message"), sig[1:]) || key.Verify([]byte("message"), nil) {
			t.Errorf("%s: a bad signature verifies", algorithm)
		}
		if key.ID() != Sum(key.SPKI()) {
			t.Errorf("%s: the id is not the digest of the SPKI", algorithm)
		}
	}
}

func TestTheZeroKeyVerifiesNothing(t *testing.T) {
	if (PublicKey{}).Verify(nil, nil) {
		t.Error("it does")
	}
}

func TestPublicKeysHaveOneSpelling(t *testing.T) {
	ec, ed := testKey(t, "notary").Key(), testKey(t, "exporter").Key()
	// The same point, compressed, and the lengths that go with it.
	spki := ec.SPKI()
	x, y := spki[27:59], spki[59:]
	compressed := append([]byte{0x30, 0x39}, spki[2:23]...)
	compressed = append(append(compressed, 0x03, 0x22, 0x00, 2+y[31]&1), x...)
	for name, spki := range map[string][]byte{
		"nothing":               nil,
		"bytes that follow":     append(ed.SPKI(), 0),
		"a cut key":             ed.SPKI()[:43],
		"a long length":         append([]byte{0x30, 0x81, 0x2a}, ed.SPKI()[2:]...),
		"a point off the curve": append(spki[:90:90], spki[90]^1),
		"a compressed point":    compressed,
	} {
		if _, err := ParsePublicKey(spki); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
		}
	}
}

func TestOtherKeysAreRefused(t *testing.T) {
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t)
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	for name, private := range map[string]crypto.Signer{"P-384": p384, "rsa": rsaKey} {
		if _, err := NewSigner(private); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
		}
		der := must(x509.MarshalPKCS8PrivateKey(private))(t)
		text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		if _, err := ParsePrivateKey(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s in PEM: got %v, want %v", name, err, ErrInvalid)
		}
		spki := must(x509.MarshalPKIXPublicKey(private.Public()))(t)
		if _, err := ParsePublicKey(spki); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "only Ed25519, ECDSA") &&
			!strings.Contains(err.Error(), "only P-256") {
			t.Errorf("public %s: got %v, want %v", name, err, ErrInvalid)
		}
	}
	if _, _, err := GenerateKey("rsa"); !errors.Is(err, ErrInvalid) {
		t.Errorf("GenerateKey: got %v, want %v", err, ErrInvalid)
	}
}

func TestPrivateKeyFilesThatAreNone(t *testing.T) {
	good, s, err := GenerateKey(Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("secret")}) }
	for _, test := range []struct {
		name string
		text []byte
		says string
	}{
		{"nothing", nil, "no PEM block"},
		{"text", []byte("secret"), "no PEM block"},
		{"a public key", s.Key().PEM(), `"PUBLIC KEY", want "PRIVATE KEY"`},
		{"a key with a passphrase", block("ENCRYPTED PRIVATE KEY"), "passphrase"},
		{"a SEC 1 key", block("EC PRIVATE KEY"), "openssl pkcs8 -topk8"},
		{"bytes that are no key", block("PRIVATE KEY"), "not a PKCS#8 key"},
		{"two keys", append(bytes.Clone(good), good...), "more than one"},
	} {
		_, err := ParsePrivateKey(test.text)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.says)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error holds part of the file: %v", test.name, err)
		}
	}
}
