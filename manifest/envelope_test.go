package manifest

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// oracle makes a Signer what the other implementation of DSSE signs and verifies
// with.
type oracle struct{ Signer }

func (o oracle) KeyID() (string, error)   { return o.Key().ID().String(), nil }
func (o oracle) Public() crypto.PublicKey { return nil }

func (o oracle) Verify(_ context.Context, data, sig []byte) error {
	if !o.Key().Verify(data, sig) {
		return errors.New("bad signature")
	}
	return nil
}

func TestAnotherImplementationVerifiesOurEnvelopes(t *testing.T) {
	f := newFixture(t)
	verifier := must(dsse.NewMultiEnvelopeVerifier(2, oracle{f.exporter}, oracle{f.notary}))(t)
	var e dsse.Envelope
	if err := json.Unmarshal(f.sealed, &e); err != nil {
		t.Fatal(err)
	}
	accepted, err := verifier.Verify(t.Context(), &e)
	if err != nil || len(accepted) != 2 {
		t.Errorf("got %d keys and %v, want 2", len(accepted), err)
	}
}

func TestWeOpenEnvelopesOfAnotherImplementation(t *testing.T) {
	f := newFixture(t)
	signer := must(dsse.NewEnvelopeSigner(oracle{f.notary}, oracle{f.exporter}))(t)
	e := must(signer.SignPayload(t.Context(), manifestKind.payloadType, must(f.manifest.payload())(t)))(t)
	if _, err := Open(must(json.Marshal(e))(t), f.policy); err != nil {
		t.Error(err)
	}
}

func TestPreAuthenticationEncoding(t *testing.T) {
	for _, test := range []struct{ payloadType, payload, want string }{
		{"http://example.com/HelloWorld", "hello world", "DSSEv1 29 http://example.com/HelloWorld 11 hello world"},
		{"", "", "DSSEv1 0  0 "},
		{"é", "\x00\xff", "DSSEv1 2 é 2 \x00\xff"},
	} {
		got := preAuth(test.payloadType, []byte(test.payload))
		if string(got) != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
		if theirs := dsse.PAE(test.payloadType, []byte(test.payload)); !bytes.Equal(got, theirs) {
			t.Errorf("got %q, the other implementation has %q", got, theirs)
		}
	}
}

func FuzzPreAuth(f *testing.F) {
	f.Add("application/vnd.in-toto+json", []byte("{}"))
	f.Fuzz(func(t *testing.T, payloadType string, payload []byte) {
		if got, want := preAuth(payloadType, payload), dsse.PAE(payloadType, payload); !bytes.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// resign changes the envelope of the fixture's manifest, whose first signature is
// the exporter's and the second the notary's.
func resign(t *testing.T, f *fixture, change func(*envelope)) []byte {
	t.Helper()
	var e envelope
	if err := decode(f.sealed, &e); err != nil {
		t.Fatal(err)
	}
	change(&e)
	return must(encode(e))(t)
}

func TestUselessSignaturesDenyNothing(t *testing.T) {
	f := newFixture(t)
	good := resign(t, f, func(*envelope) {})
	if !bytes.Equal(good, f.sealed) {
		t.Fatal("an envelope changes when it is read and written")
	}
	id, sig := f.exporter.Key().ID().String(), "AAAA"
	for name, useless := range map[string]signature{
		"of an unknown key":          {KeyID: f.stranger.Key().ID().String(), Sig: sig},
		"of no key":                  {},
		"of a key id that is no hex": {KeyID: "exporter-prod", Sig: sig},
		"that is not base64":         {KeyID: id, Sig: "*"},
		"that is empty":              {KeyID: id},
		"that is wrong":              {KeyID: id, Sig: sig},
	} {
		for i := range 3 {
			sealed := resign(t, f, func(e *envelope) { e.Signatures = slices.Insert(e.Signatures, i, useless) })
			if _, err := Open(sealed, f.policy); err != nil {
				t.Errorf("a signature %s at %d: %v", name, i, err)
			}
		}
	}
}

func TestThresholdCountsKeys(t *testing.T) {
	f := newFixture(t)
	for name, change := range map[string]func(*envelope){
		"no signature":           func(e *envelope) { e.Signatures = nil },
		"one of two":             func(e *envelope) { e.Signatures = e.Signatures[:1] },
		"the same twice":         func(e *envelope) { e.Signatures[1] = e.Signatures[0] },
		"the same under another": func(e *envelope) { e.Signatures[1].Sig = e.Signatures[0].Sig },
		"each under the other": func(e *envelope) {
			e.Signatures[0].Sig, e.Signatures[1].Sig = e.Signatures[1].Sig, e.Signatures[0].Sig
		},
		"an upper-case key id": func(e *envelope) { e.Signatures[1].KeyID = strings.ToUpper(e.Signatures[1].KeyID) },
		"a stranger's":         func(e *envelope) { e.Signatures[1].KeyID = f.stranger.Key().ID().String() },
	} {
		if _, err := Open(resign(t, f, change), f.policy); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: got %v, want %v", name, err, ErrUntrusted)
		}
	}
}

func TestTheErrorSaysWhoIsMissing(t *testing.T) {
	f := newFixture(t)
	sealed := must(Seal(t.Context(), f.manifest, f.exporter, f.stranger))(t)
	_, err := Open(sealed, f.policy)
	want := "manifest: untrusted: signed by 1 trusted key, 2 needed; ok exporter-prod sha256:" +
		f.exporter.Key().ID().String() + "; missing notary sha256:" + f.notary.Key().ID().String()
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestEnvelopeIsStrict(t *testing.T) {
	f := newFixture(t)
	sealed := string(f.sealed)
	tests := []struct {
		name     string
		old, new string
		want     error
	}{
		{"a second payload", `"payload":`, `"payload":"AAAA","payload":`, ErrInvalid},
		{"a payload in capitals", `"payload":`, `"PAYLOAD":"AAAA","payload":`, ErrInvalid},
		{"another member", `"payload":`, `"more":1,"payload":`, ErrInvalid},
		{"another member in a signature", `"keyid":`, `"alg":"none","keyid":`, ErrInvalid},
		{"no key id", `"keyid":"` + f.exporter.Key().ID().String() + `",`, ``, ErrInvalid},
		{"null signatures", `"signatures":[`, `"signatures":null,"x":[`, ErrInvalid},
		{"a payload with a newline", `"payload":"`, `"payload":"\n`, ErrInvalid},
		{"a payload with a space", `"payload":"`, `"payload":" `, ErrInvalid},
		{"a payload in another alphabet", `"payload":"`, `"payload":"__--`, ErrInvalid},
		{"something after the end", `]}`, `]} {}`, ErrInvalid},
		{"another payload type", `vnd.in-toto+json`, `vnd.otsnap.plan+json`, ErrInvalid},
		{"a longer payload", `"payload":"`, `"payload":"AAAA`, ErrUntrusted},
		{"many signatures", `"signatures":[`, `"signatures":[` + strings.Repeat(`{"keyid":"","sig":""},`, 15), ErrLimit},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(sealed, test.old) {
				t.Fatalf("the envelope has no %q", test.old)
			}
			_, err := Open([]byte(strings.Replace(sealed, test.old, test.new, 1)), f.policy)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	if _, err := Open(make([]byte, MaxManifest+1), f.policy); !errors.Is(err, ErrLimit) {
		t.Errorf("a large one: got %v, want %v", err, ErrLimit)
	}
}

// TestNoByteCanChange holds because an envelope has one spelling and every
// signature in this one is needed.
func TestNoByteCanChange(t *testing.T) {
	f := newFixture(t)
	sealed := bytes.Clone(f.sealed)
	for i := range sealed {
		flip := byte(1) << (i % 8)
		sealed[i] ^= flip
		_, err := Open(sealed, f.policy)
		sealed[i] ^= flip
		if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUntrusted) {
			t.Fatalf("byte %d (%q) with %#x flipped: got %v", i, sealed[i], flip, err)
		}
		if i%7 == 0 {
			if _, err := Open(sealed[:i], f.policy); !errors.Is(err, ErrInvalid) {
				t.Fatalf("cut at %d: got %v, want %v", i, err, ErrInvalid)
			}
		}
	}
}

func TestNoDocumentPassesForAnother(t *testing.T) {
	f := newFixture(t)
	sealed := map[string][]byte{
		"policy": f.sealedPolicy, "plan": f.sealedPlan, "page": f.sealedPages[0], "manifest": f.sealed,
	}
	open := map[string]func([]byte) error{
		"policy":   func(b []byte) error { _, err := OpenPolicy(b, f.policy.ID()); return err },
		"plan":     func(b []byte) error { _, err := OpenPlan(b, f.policy); return err },
		"page":     func(b []byte) error { _, err := OpenPage(b, f.policy); return err },
		"manifest": func(b []byte) error { _, err := Open(b, f.policy); return err },
	}
	for is, data := range sealed {
		for as, open := range open {
			if err := open(data); (is == as) != (err == nil) {
				t.Errorf("%s opened as %s: %v", is, as, err)
			}
		}
	}
}

// faultySigner signs something else.
type faultySigner struct{ Signer }

func (s faultySigner) Sign(ctx context.Context, message []byte) ([]byte, error) {
	return s.Signer.Sign(ctx, append(message, '!'))
}

type brokenSigner struct{ Signer }

func (brokenSigner) Sign(ctx context.Context, _ []byte) ([]byte, error) { return nil, ctx.Err() }

func TestSealChecksItsSigners(t *testing.T) {
	f := newFixture(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		signers []Signer
		want    error
	}{
		"none":                    {nil, ErrUntrusted},
		"one twice":               {[]Signer{f.exporter, f.exporter}, ErrInvalid},
		"one that signs nonsense": {[]Signer{f.exporter, faultySigner{f.notary}}, ErrUntrusted},
		"one that fails":          {[]Signer{brokenSigner{f.notary}}, context.Canceled},
		"seventeen":               {make([]Signer, MaxSignatures+1), ErrLimit},
	} {
		if _, err := Seal(cancelled, f.manifest, test.signers...); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

func TestSealingTwiceGivesTheSameBytes(t *testing.T) {
	a, b := newFixture(t), newFixture(t)
	if !bytes.Equal(a.sealed, b.sealed) || !bytes.Equal(a.sealedPlan, b.sealedPlan) || !bytes.Equal(a.sealedPolicy, b.sealedPolicy) {
		t.Error("the same documents differ when sealed twice")
	}
}
