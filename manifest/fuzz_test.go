package manifest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// fuzzDocument feeds open two ways: data as it is, which must fail because nobody
// signed it, and data as a payload that trusted keys signed, which is what a
// faulty or hostile exporter can do. What opens must read the same after it is
// written again.
func fuzzDocument[T any](f *testing.F, k kind, open func(*fixture, []byte) (T, error), payload func(T) ([]byte, error)) {
	x := newFixture(f)
	seedDocuments(f, k)
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := open(x, data); err == nil {
			t.Fatal("a payload passes for an envelope")
		}
		sealed, err := k.seal(t.Context(), data, []Signer{x.exporter, x.notary})
		if err != nil {
			return
		}
		document, err := open(x, sealed)
		if err != nil {
			return
		}
		text, err := payload(document)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		sealed, err = k.seal(t.Context(), text, []Signer{x.exporter, x.notary})
		if err != nil {
			t.Fatal(err)
		}
		again, err := open(x, sealed)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if !reflect.DeepEqual(again, document) {
			t.Errorf("read %+v, after writing it %+v", document, again)
		}
	})
}

// seedDocuments adds the payloads of all the documents of kind k in testdata.
func seedDocuments(f *testing.F, k kind) {
	f.Helper()
	for _, pattern := range []string{"v1/" + k.name + "*.dsse.json", "bad/*-" + k.name + "-*"} {
		for _, file := range must(filepath.Glob(filepath.Join("testdata", pattern)))(f) {
			if o, err := k.open(must(os.ReadFile(file))(f)); err == nil {
				f.Add(o.payload)
			}
		}
	}
}

func FuzzOpenManifest(f *testing.F) {
	fuzzDocument(f, manifestKind,
		func(x *fixture, sealed []byte) (*Manifest, error) { return Open(sealed, x.policy) },
		func(m *Manifest) ([]byte, error) { return m.payload() })
}

func FuzzOpenPage(f *testing.F) {
	fuzzDocument(f, pageKind,
		func(x *fixture, sealed []byte) (*Page, error) { return OpenPage(sealed, x.policy) },
		func(p *Page) ([]byte, error) { return p.payload() })
}

func FuzzOpenPlan(f *testing.F) {
	fuzzDocument(f, planKind,
		func(x *fixture, sealed []byte) (*Plan, error) { return OpenPlan(sealed, x.policy) },
		func(p *Plan) ([]byte, error) { return p.payload() })
}

func FuzzOpenStore(f *testing.F) {
	fuzzDocument(f, storeKind,
		func(x *fixture, sealed []byte) (*Store, error) { return OpenStore(sealed, x.policy) },
		func(st *Store) ([]byte, error) { return st.payload() })
}

func FuzzOpenHead(f *testing.F) {
	fuzzDocument(f, headKind,
		func(x *fixture, sealed []byte) (*Head, error) { h, _, err := OpenHead(sealed, x.policy); return h, err },
		func(h *Head) ([]byte, error) { return endorsementPayload(h) })
}

func FuzzOpenNotarization(f *testing.F) {
	fuzzDocument(f, notarizationKind,
		func(x *fixture, sealed []byte) (*Notarization, error) {
			n, _, err := OpenNotarization(sealed, x.policy)
			return n, err
		},
		func(n *Notarization) ([]byte, error) { return endorsementPayload(n) })
}

func FuzzOpenReceipt(f *testing.F) {
	fuzzDocument(f, receiptKind,
		func(x *fixture, sealed []byte) (*Receipt, error) {
			r, _, err := OpenReceipt(sealed, x.policy)
			return r, err
		},
		func(r *Receipt) ([]byte, error) { return endorsementPayload(r) })
}

// FuzzOpenPolicy takes any payload for the policy of the archive it names, as one
// who makes an archive can.
func FuzzOpenPolicy(f *testing.F) {
	fuzzDocument(f, policyKind,
		func(_ *fixture, sealed []byte) (*Policy, error) {
			id, err := PolicyID(sealed)
			if err != nil {
				return nil, err
			}
			p, err := OpenPolicy(sealed, id)
			if err == nil {
				p.id, p.digest = Hash{}, Hash{} // differ with the spelling of the payload
			}
			return p, err
		},
		func(p *Policy) ([]byte, error) { return encode(*p) })
}

// FuzzOpenNextPolicy takes any payload for the version after the fixture's, signed by
// all the keys it may name, and holds that what opens follows it and can sign.
func FuzzOpenNextPolicy(f *testing.F) {
	x := newFixture(f)
	for _, pattern := range []string{"v1/policy-2.dsse.json", "bad/*-next-*"} {
		for _, file := range must(filepath.Glob(filepath.Join("testdata", pattern)))(f) {
			if o, err := policyKind.open(must(os.ReadFile(file))(f)); err == nil {
				f.Add(o.payload)
			}
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		all := []Signer{x.exporter, x.notary, x.stranger}
		sealed, err := policyKind.seal(t.Context(), payload, all)
		if err != nil {
			return
		}
		p, err := OpenNextPolicy(sealed, x.policy)
		if err != nil {
			return
		}
		if p.Version != 2 || p.Prev != x.policy.Digest() || p.ID() != x.policy.ID() || p.At(p.From).Version != 2 || p.From > 1 && p.At(p.From-1).Version != 1 {
			t.Errorf("opened %+v, which does not follow", p)
		}
		if b := p.ballot(p.parsed, p.From, false); int64(len(b.keys)) < p.Threshold {
			t.Errorf("opened %+v, under which nobody can sign manifest %d", p, p.From)
		}
	})
}

// FuzzEnvelope changes a good envelope. Whatever opens must be the manifest that
// was signed.
func FuzzEnvelope(f *testing.F) {
	x := newFixture(f)
	f.Add(x.sealed)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Open(data, x.policy)
		if err == nil && !reflect.DeepEqual(m, x.manifest) {
			t.Errorf("opened %+v, which nobody signed", m)
		}
	})
}

func FuzzTrust(f *testing.F) {
	f.Add(must(os.ReadFile("testdata/v1/trust"))(f))
	f.Add(Trust{Archive: Hash{1}}.Format())
	f.Add(Trust{Archive: Hash{1}, Version: 2, Policy: Hash{3}}.Format())
	f.Add([]byte("archive 00\r\n#\n\nseq 1\nhead 00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		trust, err := ParseTrust(data)
		if err != nil {
			return
		}
		again, err := ParseTrust(trust.Format())
		if err != nil || again != trust {
			t.Errorf("read %+v, after writing it %+v, %v", trust, again, err)
		}
	})
}

// FuzzDecode holds that what the strict decoder reads, encoding/json reads as the same,
// and that it reads it again from its own spelling.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(sampleJSON))
	f.Add(bytes.ReplaceAll([]byte(sampleJSON), []byte(`"a"`), []byte(`"\ud83d\ude00\u2028<"`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var first, second sample
		if decode(data, &first) != nil {
			return
		}
		if err := json.Unmarshal(data, &second); err != nil || !reflect.DeepEqual(first, second) {
			t.Errorf("read %+v, encoding/json %+v, %v", first, second, err)
		}
		second = sample{}
		text, err := encode(first)
		if err != nil {
			t.Fatalf("%+v: %v", first, err)
		}
		if err := decode(text, &second); err != nil || !reflect.DeepEqual(first, second) {
			t.Errorf("read %+v, after writing it %+v, %v", first, second, err)
		}
	})
}
