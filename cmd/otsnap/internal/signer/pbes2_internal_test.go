package signer

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/manifest"
)

// encryptedBy is a new key, and what openssl pkcs8 -topk8 makes of it.
func encryptedBy(t testing.TB, options ...string) (plain, locked []byte) {
	t.Helper()
	text, _, err := manifest.GenerateKey(manifest.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "openssl", append([]string{"pkcs8", "-topk8", "-in", path, "-passout", "pass:right"}, options...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return decoded(t, text), decoded(t, out)
}

func decoded(t testing.TB, text []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	return block.Bytes
}

func TestOpenReadsOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl")
	}
	for _, options := range []string{
		"", "-v2 aes128", "-v2 aes192", "-v2prf hmacWithSHA1", "-v2prf hmacWithSHA384", "-v2prf hmacWithSHA512", "-iter 100000", "-scrypt", "-scrypt -scrypt_N 4096 -scrypt_r 4 -scrypt_p 2",
	} {
		t.Run(options, func(t *testing.T) {
			plain, locked := encryptedBy(t, strings.Fields(options)...)
			if got, err := open(locked, []byte("right")); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("got %d bytes of %d, %v", len(got), len(plain), err)
			}
			if _, err := open(locked, []byte("wrong")); !errors.Is(err, errPassphrase) {
				t.Errorf("wrong passphrase: got %v", err)
			}
		})
	}
	_, locked := encryptedBy(t, "-v2", "des3")
	if _, err := open(locked, []byte("right")); err == nil || !strings.Contains(err.Error(), "only AES") {
		t.Errorf("triple DES: got %v", err)
	}
}

func TestOpenSSLReadsSeal(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl")
	}
	text, made, err := manifest.GenerateKey(manifest.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := Encrypt(text, []byte("pass phrase"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "openssl", "pkey", "-passin", "pass:pass phrase", "-pubout")
	cmd.Stdin = bytes.NewReader(locked)
	if out, err := cmd.Output(); err != nil || !bytes.Equal(out, made.Key().PEM()) {
		t.Errorf("got %s, %v", out, err)
	}
}

// derivedBy is an encrypted key whose file asks for this derivation.
func derivedBy(t testing.TB, oid asn1.ObjectIdentifier, parameters any) []byte {
	t.Helper()
	made := func(oid asn1.ObjectIdentifier, parameters any) algorithm {
		a, err := newAlgorithm(oid, parameters)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	scheme := made(oidPBES2, pbes2{made(oid, parameters), made(oidAES256, make([]byte, 16))})
	der, err := asn1.Marshal(encryptedKey{scheme, make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestOpenIsBounded sees that no file has this program work or allocate for ever.
func TestOpenIsBounded(t *testing.T) {
	salt := []byte("salt")
	for name, der := range map[string][]byte{
		"EndlessRounds": derivedBy(t, oidPBKDF2, pbkdf2Parameters{Salt: salt, Iterations: maxRounds + 1}),
		"NoRounds":      derivedBy(t, oidPBKDF2, pbkdf2Parameters{Salt: salt, Iterations: -1}),
		"HugeN":         derivedBy(t, oidScrypt, scryptParameters{Salt: salt, N: 1 << 40, R: 8, P: 1}),
		"HugeR":         derivedBy(t, oidScrypt, scryptParameters{Salt: salt, N: 2, R: 1 << 40, P: 1}),
		"HugeP":         derivedBy(t, oidScrypt, scryptParameters{Salt: salt, N: 1 << 14, R: 8, P: 1 << 40}),
		"LongButSlow":   derivedBy(t, oidScrypt, scryptParameters{Salt: salt, N: 1 << 19, R: 8, P: 1 << 10}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := open(der, []byte("right")); err == nil || errors.Is(err, errPassphrase) {
				t.Errorf("got %v, want it refused before the work", err)
			}
		})
	}
}

// FuzzOpen sees that no file makes this program die.
func FuzzOpen(f *testing.F) {
	sealed, err := seal([]byte{0x30, 0x00}, []byte("right"), 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:len(sealed)-1])
	f.Add(derivedBy(f, oidScrypt, scryptParameters{Salt: []byte("salt"), N: 2, R: 1, P: 1}))
	f.Add(derivedBy(f, oidPBKDF2, pbkdf2Parameters{Iterations: 1, KeyLength: 32}))
	f.Fuzz(func(t *testing.T, der []byte) {
		if plain, err := open(der, []byte("right")); err == nil && len(plain) == 0 {
			t.Error("an empty key without an error")
		}
	})
}
