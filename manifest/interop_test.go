package manifest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A tool is another program that signs documents and checks them. It works in a
// folder that has what is signed as pae, its payload as body and the key pairs
// NAME.pem and NAME.pub.
type tool struct {
	name   string
	have   func(t *testing.T) // skips the test where the tool is missing
	verify func(algorithm, key string) string
	sign   func(algorithm, key string) string // which prints the signature in base64
}

// The lines are those a user types, but for the names of files; sig is the
// signature, bundle.json the envelope with it alone as cosign wants it.
var tools = []tool{
	{
		name: "openssl",
		have: needs("openssl version", "base64"),
		verify: byAlgorithm(
			`openssl pkeyutl -verify -pubin -inkey "$KEY.pub" -rawin -in pae -sigfile sig`,
			`openssl dgst -sha256 -verify "$KEY.pub" -signature sig pae`),
		sign: byAlgorithm(
			`openssl pkeyutl -sign -inkey "$KEY.pem" -rawin -in pae | base64`,
			`openssl dgst -sha256 -sign "$KEY.pem" pae | base64`),
	},
	{
		name: "python",
		have: needs("python3 -c 'import cryptography'"),
		verify: func(string, string) string {
			return `python3 -c '
import sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = serialization.load_pem_public_key(open(sys.argv[1] + ".pub", "rb").read())
how = [ec.ECDSA(hashes.SHA256())] if isinstance(key, ec.EllipticCurvePublicKey) else []
key.verify(open("sig", "rb").read(), open("pae", "rb").read(), *how)' "$KEY"`
		},
		sign: func(string, string) string {
			return `python3 -c '
import base64, sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = serialization.load_pem_private_key(open(sys.argv[1] + ".pem", "rb").read(), None)
how = [ec.ECDSA(hashes.SHA256())] if isinstance(key, ec.EllipticCurvePrivateKey) else []
print(base64.b64encode(key.sign(open("pae", "rb").read(), *how)).decode())' "$KEY"`
		},
	},
	{
		name: "cosign",
		have: needsCosign,
		verify: func(string, string) string {
			return `cosign verify-blob-attestation --key "$KEY.pub" --bundle bundle.json \
				--type https://github.com/otsnap/otsnap/manifest/v1 --insecure-ignore-tlog=true page`
		},
		sign: func(string, string) string {
			// Not attest-blob: it prehashes for Ed25519, and cosign itself refuses that.
			return `rm -f imported.* && cosign import-key-pair --key "$KEY.pem" --output-key-prefix imported --yes >&2 &&
				cosign sign-blob --key imported.key --bundle made.json --tlog-upload=false --use-signing-config=false --yes pae >&2 &&
				jq -r .messageSignature.signature made.json`
		},
	},
}

func byAlgorithm(ed25519, ecdsa string) func(algorithm, key string) string {
	return func(algorithm, _ string) string {
		return map[string]string{Ed25519: ed25519, ECDSAP256: ecdsa}[algorithm]
	}
}

// needs returns a function that skips a test unless each command can be run.
func needs(commands ...string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		for _, c := range commands {
			if exec.CommandContext(t.Context(), "bash", "-c", c+" </dev/null").Run() != nil {
				t.Skipf("%s does not work here", c)
			}
		}
	}
}

const cosignVersion = "v3.1.2"

// needsCosign builds cosign, once, which takes minutes and downloads 200 modules.
func needsCosign(t *testing.T) {
	t.Helper()
	needs("jq --version")(t)
	if os.Getenv("OTSNAP_COSIGN") == "" {
		t.Skip("OTSNAP_COSIGN=1 builds cosign and asks it")
	}
	folder := filepath.Join(must(os.UserCacheDir())(t), "otsnap-test", "bin", "cosign@"+cosignVersion)
	if _, err := os.Stat(filepath.Join(folder, "cosign")); err != nil {
		cmd := exec.CommandContext(t.Context(), "go", "install", "github.com/sigstore/cosign/v3/cmd/cosign@"+cosignVersion)
		cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "GOBIN="+folder, "GOFLAGS=", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("cosign cannot be built: %v\n%s", err, out)
		}
	}
	t.Setenv("PATH", folder+string(filepath.ListSeparator)+os.Getenv("PATH"))
	t.Setenv("COSIGN_PASSWORD", "")
}

// run runs a line of a tool in a folder with a key.
func run(ctx context.Context, dir, key, line string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -o pipefail; "+line)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "KEY="+key)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = errors.New(string(exit.Stderr))
	}
	return string(out), err
}

// interop is a folder for a tool, with a manifest signed 2 of 2.
type interop struct {
	*fixture
	dir      string
	envelope wireEnvelope
}

// wireEnvelope is an envelope as others see it.
type wireEnvelope struct {
	PayloadType string          `json:"payloadType"`
	Payload     []byte          `json:"payload"`
	Signatures  []wireSignature `json:"signatures"`
}

type wireSignature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

func newInterop(t *testing.T) *interop {
	t.Helper()
	i := &interop{fixture: newFixture(t), dir: t.TempDir()}
	if err := json.Unmarshal(i.sealed, &i.envelope); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"exporter", "notary"} {
		writeObject(t, i.dir, name+".pem", must(os.ReadFile(filepath.Join("testdata", "keys", name+".pem")))(t))
		writeObject(t, i.dir, name+".pub", testKey(t, name).Key().PEM())
	}
	writeObject(t, i.dir, "page", i.sealedPages[0])
	i.put(t, i.envelope.Payload)
	return i
}

// put makes a payload what is signed.
func (i *interop) put(t *testing.T, payload []byte) {
	t.Helper()
	writeObject(t, i.dir, "body", payload)
	writeObject(t, i.dir, "pae", preAuth(i.envelope.PayloadType, payload))
}

// putSignature makes a signature the one to check.
func (i *interop) putSignature(t *testing.T, sig []byte, payload []byte) {
	t.Helper()
	writeObject(t, i.dir, "sig", sig)
	bundle := map[string]any{
		"mediaType":            "application/vnd.dev.sigstore.bundle.v0.3+json",
		"verificationMaterial": map[string]any{"publicKey": map[string]string{"hint": ""}},
		"dsseEnvelope": map[string]any{
			"payloadType": i.envelope.PayloadType, "payload": payload, "signatures": []map[string][]byte{{"sig": sig}},
		},
	}
	writeObject(t, i.dir, "bundle.json", must(json.Marshal(bundle))(t))
}

// TestOtherToolsCheckWhatIsSignedHere has each tool check the signatures of a manifest
// by an Ed25519 and an ECDSA key, and refuse them under the other key and over a
// payload with one bit changed.
func TestOtherToolsCheckWhatIsSignedHere(t *testing.T) {
	for _, tool := range tools {
		t.Run(tool.name, func(t *testing.T) {
			tool.have(t)
			i := newInterop(t)
			changed := append([]byte(nil), i.envelope.Payload...)
			changed[len(changed)/2] ^= 1
			for n, name := range []string{"exporter", "notary"} {
				key := testKey(t, name).Key()
				sig := i.envelope.Signatures[n]
				if sig.KeyID != key.ID().String() {
					t.Fatalf("signature %d is by %s, want %s", n, sig.KeyID, name)
				}
				check := func(key string, payload []byte, want bool) {
					t.Helper()
					i.put(t, payload)
					i.putSignature(t, sig.Sig, payload)
					out, err := run(t.Context(), i.dir, key, tool.verify(testKey(t, key).Key().Algorithm(), key))
					if (err == nil) != want {
						t.Errorf("signed by %s, checked with %s: %s%v, want %t", name, key, out, err, want)
					}
				}
				check(name, i.envelope.Payload, true)
				check(name, changed, false)
				check(map[string]string{"exporter": "notary", "notary": "exporter"}[name], i.envelope.Payload, false)
			}
		})
	}
}

// TestWhatOtherToolsSignIsAccepted has each tool sign a manifest by both keys: it opens
// under a policy that wants both.
func TestWhatOtherToolsSignIsAccepted(t *testing.T) {
	for _, tool := range tools {
		t.Run(tool.name, func(t *testing.T) {
			tool.have(t)
			i := newInterop(t)
			envelope := i.envelope
			envelope.Signatures = []wireSignature{}
			for _, name := range []string{"exporter", "notary"} {
				key := testKey(t, name).Key()
				out, err := run(t.Context(), i.dir, name, tool.sign(key.Algorithm(), name)+" | tr -d '\\n'")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := Open(must(json.Marshal(envelope))(t), i.policy); !errors.Is(err, ErrUntrusted) {
					t.Errorf("with %d signatures: got %v, want ErrUntrusted", len(envelope.Signatures), err)
				}
				envelope.Signatures = append(envelope.Signatures, wireSignature{key.ID().String(), must(base64.StdEncoding.DecodeString(out))(t)})
			}
			if _, err := Open(must(json.Marshal(envelope))(t), i.policy); err != nil {
				t.Error(err)
			}
		})
	}
}
