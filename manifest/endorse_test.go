package manifest

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func testHead(f *fixture) *Head {
	return &Head{
		Format: 1, Archive: f.policy.ID(), Seq: 1, Digest: Sum(f.sealed), Version: 1, Policy: f.policy.Digest(),
		Time: testTime(60), Tool: "otsnap 0.1.0",
	}
}

func testNotarization(f *fixture) *Notarization {
	return &Notarization{
		Format: 1, Archive: f.policy.ID(), Seq: 1, Digest: Sum(f.sealed), Snapshot: testSnapshot, Level: NotarizedRows,
		Totals: f.manifest.Totals, Started: testTime(60), Finished: testTime(90), Tool: "otsnap 0.1.0", Build: "go1.26.8",
	}
}

func testReceipt(f *fixture) *Receipt {
	return &Receipt{
		Format: 1, Archive: f.policy.ID(), Number: 3, Before: 2, Prev: Hash{2}, Kind: "verify", Seq: 1, Digest: Sum(f.sealed),
		Version: 1, Policy: f.policy.Digest(), Anchors: []Anchor{{Source: "trust file", Seq: 1, Digest: Sum(f.sealed)}},
		Started: testTime(60), Finished: testTime(90), Host: "auditor", User: "alice", Tool: "otsnap 0.1.0", Build: "go1.26.8",
		Program: Hash{7}, Report: Raw(`{"level":"rows","rate":1.5,"notes":[],"problems":null}`),
	}
}

// endorsements are the documents of each kind, and how they are opened.
func endorsements(f *fixture) map[*kind]struct {
	document endorsement
	open     func([]byte, *Policy) (endorsement, []string, error)
} {
	type row = struct {
		document endorsement
		open     func([]byte, *Policy) (endorsement, []string, error)
	}
	return map[*kind]row{
		&headKind:         {testHead(f), func(b []byte, p *Policy) (endorsement, []string, error) { return OpenHead(b, p) }},
		&notarizationKind: {testNotarization(f), func(b []byte, p *Policy) (endorsement, []string, error) { return OpenNotarization(b, p) }},
		&receiptKind:      {testReceipt(f), func(b []byte, p *Policy) (endorsement, []string, error) { return OpenReceipt(b, p) }},
	}
}

func TestEndorsementsSayWhoSigned(t *testing.T) {
	f := newFixture(t)
	for k, e := range endorsements(f) {
		sealed := must(sealEndorsement(t.Context(), *k, e.document, []Signer{f.stranger, f.notary}))(t)
		got, names, err := e.open(sealed, f.policy)
		if err != nil || !reflect.DeepEqual(got, e.document) || !reflect.DeepEqual(names, []string{"notary"}) {
			t.Errorf("%s: got %+v by %q, %v", k.name, got, names, err)
		}
		sealed = must(sealEndorsement(t.Context(), *k, e.document, []Signer{f.stranger}))(t)
		if _, _, err := e.open(sealed, f.policy); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s of a stranger: %v", k.name, err)
		}
		sealed = must(sealEndorsement(t.Context(), *k, e.document, []Signer{f.exporter}))(t)
		if _, _, err := e.open(sealed, f.policy); (err == nil) != (k != &notarizationKind) {
			t.Errorf("%s of an exporter: %v", k.name, err)
		}
		for other := range endorsements(f) {
			if _, err := other.open(sealed); (err == nil) != (other == k) {
				t.Errorf("%s passes for %s", k.name, other.name)
			}
		}
	}
}

// A key speaks of manifests before it was revoked, and one that came later of earlier ones.
func TestEndorsementsGoByTheNumberOfTheirManifest(t *testing.T) {
	f := newFixture(t)
	next := f.policy.Next(testTime(0).Time, 5)
	next.Keys[1].Revoked = 5 // the notary
	next.Keys = append(next.Keys, NewPolicyKey("later", Notary, f.stranger.Key()))
	next.Threshold = 1
	p := must(OpenNextPolicy(f.sealNext(t, next, f.exporter, f.notary), f.policy))(t)
	for _, test := range []struct {
		by   Signer
		seq  int64
		want bool
	}{
		{f.notary, 1, true}, {f.notary, 4, true}, {f.notary, 5, false}, {f.notary, 6, false},
		{f.stranger, 1, true}, {f.stranger, 5, true}, {f.exporter, 5, false},
	} {
		n := testNotarization(f)
		n.Seq = test.seq
		_, _, err := OpenNotarization(must(SealNotarization(t.Context(), n, test.by))(t), p)
		if (err == nil) != test.want || err != nil && !errors.Is(err, ErrUntrusted) {
			t.Errorf("manifest %d: %v, want it to be taken: %t", test.seq, err, test.want)
		}
	}
}

func TestANotarizationIsOfOneManifest(t *testing.T) {
	f := newFixture(t)
	if err := testNotarization(f).Of(f.manifest, Sum(f.sealed)); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Notarization){
		"another digest":   func(n *Notarization) { n.Digest = Hash{9} },
		"another number":   func(n *Notarization) { n.Seq++ },
		"another snapshot": func(n *Notarization) { n.Snapshot = "20261122T160501Z-00000000" },
		"a part":           func(n *Notarization) { n.Totals.Rows-- },
	} {
		n := testNotarization(f)
		change(n)
		if err := n.Of(f.manifest, Sum(f.sealed)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAnAnchorNamesAManifest(t *testing.T) {
	f := newFixture(t)
	for _, test := range []struct {
		anchor Anchor
		want   error
	}{
		{Anchor{Source: "--expect-seq", Seq: 7}, nil},
		{Anchor{Source: "--expect-sha256", Digest: Hash{7}}, nil},
		{Anchor{Source: "--anchor", Seq: 7, Digest: Hash{7}}, nil},
		{Anchor{Source: "nothing"}, ErrInvalid},
		{Anchor{Seq: 7}, ErrInvalid},
		{Anchor{Source: "trust file", Seq: -1, Digest: Hash{7}}, ErrInvalid},
	} {
		r := testReceipt(f)
		r.Anchors = []Anchor{test.anchor}
		if err := r.Validate(); !errors.Is(err, test.want) {
			t.Errorf("%+v: %v, want %v", test.anchor, err, test.want)
		}
	}
}

func TestReceiptsOfAuditors(t *testing.T) {
	f := newFixture(t)
	r := testReceipt(f)
	r.Number, r.Before, r.Prev = 0, 0, Hash{}
	sealed := must(SealReceipt(t.Context(), r, f.stranger))(t)
	if got, err := OpenReceiptBy(sealed, f.stranger.Key()); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := OpenReceiptBy(sealed, f.notary.Key()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("by another key: %v", err)
	}
}

func TestRaw(t *testing.T) {
	for text, want := range map[string]error{
		`{}`:                                nil,
		`{"a":[1.5e3,{"a":null}],"b":true}`: nil,
		``:                                  ErrInvalid,
		`[]`:                                ErrInvalid,
		`{"a":1,"a":2}`:                     ErrInvalid,
		`{"b":{"a":1,"\u0061":2}}`:          ErrInvalid,
		`{ }`:                               ErrInvalid,
		`{"a":1}{}`:                         ErrInvalid,
		`{"a":`:                             ErrInvalid,
		`{"a":"\ud800"}`:                    errAny,
		"{\"a\":\"\xff\"}":                  errAny,
		strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40): ErrInvalid,
	} {
		err := Raw(text).check()
		if want == errAny && err != nil {
			continue
		}
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%.40s: %v, want %v", text, err, want)
		}
	}
}

var errAny = errors.New("any error")

func TestNamesOfEndorsements(t *testing.T) {
	id := Hash{0xab}
	for name, want := range map[string][2]int64{
		NotarizationName(17, 1):               {17, 1},
		NotarizationName(MaxSeq, 64):          {MaxSeq, 64},
		"notarizations/00000017-01.dsse.json": {}, "notarizations/00000017.dsse.json": {}, "notarizations/17-1.dsse.json": {},
		"notarizations/00000000-1.dsse.json": {}, "notarizations/00000017-0.dsse.json": {}, "notarizations/00000017-1-1.dsse.json": {},
		"receipts/00000017-1.dsse.json": {},
	} {
		if seq, n, ok := ParseNotarizationName(name); [2]int64{seq, n} != want || ok != (seq != 0) {
			t.Errorf("%s: %d, %d, %t", name, seq, n, ok)
		}
	}
	if seq, n, ok := ParseHeadName(id, HeadName(id, 3, 2)); !ok || seq != 3 || n != 2 {
		t.Errorf("%s: %d, %d, %t", HeadName(id, 3, 2), seq, n, ok)
	}
	if _, _, ok := ParseHeadName(Hash{1}, HeadName(id, 3, 2)); ok {
		t.Error("the head of another archive passes")
	}
	if n, ok := ParseReceiptName(ReceiptName(17)); !ok || n != 17 || ReceiptName(17) != "receipts/00000017.dsse.json" {
		t.Errorf("%s: %d, %t", ReceiptName(17), n, ok)
	}
}

// TestReadHeadShowsWhatNobodyVouchesFor, and nothing that is no head.
func TestReadHeadShowsWhatNobodyVouchesFor(t *testing.T) {
	_, stranger, err := GenerateKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	want := Head{
		Format: Format, Archive: Sum([]byte("archive")), Seq: 17, Digest: Sum([]byte("manifest")),
		Version: 1, Policy: Sum([]byte("policy")), Time: testTime(60), Tool: "otsnap test",
	}
	sealed, err := SealHead(t.Context(), &want, stranger)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadHead(sealed); err != nil || *got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for what, text := range map[string]string{
		"no envelope":   "junk",
		"another kind":  strings.Replace(string(sealed), "vnd.otsnap.head", "vnd.otsnap.receipt", 1),
		"over the size": string(sealed) + strings.Repeat(" ", MaxHead),
	} {
		if got, err := ReadHead([]byte(text)); err == nil {
			t.Errorf("%s is read as %+v", what, got)
		}
	}
}
