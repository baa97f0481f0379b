package manifest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// kind is a kind of sealed document.
type kind struct {
	name        string
	payloadType string // signed with the payload, so no kind passes for another
	limit       int64  // of the sealed document, bytes
}

var (
	manifestKind = kind{"manifest", "application/vnd.in-toto+json", MaxManifest}
	pageKind     = kind{"page", "application/vnd.otsnap.page+jsonl", MaxPage}
	planKind     = kind{"plan", "application/vnd.otsnap.plan+json", MaxPlan}
	policyKind   = kind{"policy", "application/vnd.otsnap.policy+json", MaxPolicy}
	storeKind    = kind{"store", "application/vnd.otsnap.store+json", MaxStore}
	receiptKind  = kind{"receipt", "application/vnd.otsnap.receipt+json", MaxReceipt}

	headKind         = kind{"head", "application/vnd.otsnap.head+json", MaxHead}
	notarizationKind = kind{"notarization", "application/vnd.otsnap.notarization+json", MaxNotarization}
)

// envelope is a DSSE envelope. Nothing in it is to be believed.
type envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// opened is an envelope taken apart. Nobody has checked its signatures yet.
type opened struct {
	payload    []byte
	signed     []byte // what the signatures are over
	signatures []signature
	signers    map[PublicKey]bool // whether a key signed it, of those asked about: checking costs most of opening
}

// open takes an envelope of kind k apart.
func (k kind) open(sealed []byte) (opened, error) {
	if int64(len(sealed)) > k.limit {
		return opened{}, overLimit("%d bytes; at most %d are read", len(sealed), k.limit)
	}
	var e envelope
	if err := decode(sealed, &e); err != nil {
		return opened{}, invalid("envelope: %w", err)
	}
	if e.PayloadType != k.payloadType {
		return opened{}, invalid("envelope: holds %q, want %q", clip(e.PayloadType), k.payloadType)
	}
	if len(e.Signatures) > MaxSignatures {
		return opened{}, overLimit("envelope: %d signatures; at most %d are read", len(e.Signatures), MaxSignatures)
	}
	payload, err := decodeBase64(e.Payload)
	if err != nil {
		return opened{}, invalid("envelope: payload: %w", err)
	}
	return opened{
		payload: payload, signed: preAuth(k.payloadType, payload), signatures: e.Signatures, signers: map[PublicKey]bool{},
	}, nil
}

// seal signs payload with every signer and checks each signature before it goes
// into the envelope.
func (k kind) seal(ctx context.Context, payload []byte, signers []Signer) ([]byte, error) {
	if len(signers) == 0 {
		return nil, untrusted("no key to sign with")
	}
	if len(signers) > MaxSignatures {
		return nil, overLimit("%d keys to sign with; at most %d", len(signers), MaxSignatures)
	}
	var signatures []signature
	message := preAuth(k.payloadType, payload)
	used := make(map[PublicKey]bool, len(signers))
	for _, s := range signers {
		if used[s.Key()] {
			return nil, invalid("key sha256:%s is to sign twice", s.Key().ID())
		}
		used[s.Key()] = true
		sig, err := sign(ctx, s, message)
		if err != nil {
			return nil, fmt.Errorf("key sha256:%s: %w", s.Key().ID(), err)
		}
		signatures = append(signatures, sig)
	}
	return k.pack(payload, signatures)
}

// pack puts a payload and its signatures into an envelope.
func (k kind) pack(payload []byte, signatures []signature) ([]byte, error) {
	sealed, err := encode(envelope{PayloadType: k.payloadType, Payload: base64.StdEncoding.EncodeToString(payload), Signatures: signatures})
	if err != nil {
		return nil, err
	}
	if int64(len(sealed)) > k.limit {
		return nil, overLimit("%d bytes; at most %d are written", len(sealed), k.limit)
	}
	return sealed, nil
}

func sign(ctx context.Context, s Signer, message []byte) (signature, error) {
	sig, err := s.Sign(ctx, message)
	if err != nil {
		return signature{}, err
	}
	if !s.Key().Verify(message, sig) {
		return signature{}, untrusted("the signature just made does not verify")
	}
	return signature{KeyID: s.Key().ID().String(), Sig: base64.StdEncoding.EncodeToString(sig)}, nil
}

// by reports whether key signed the document. A signature that cannot be decoded
// or verified counts for nothing and against nothing.
func (o opened) by(key PublicKey) bool {
	signed, known := o.signers[key]
	if !known {
		signed = o.verify(key)
		o.signers[key] = signed
	}
	return signed
}

func (o opened) verify(key PublicKey) bool {
	id := key.ID().String()
	for _, s := range o.signatures {
		if s.KeyID != id {
			continue
		}
		if sig, err := decodeBase64(s.Sig); err == nil && key.Verify(o.signed, sig) {
			return true
		}
	}
	return false
}

// preAuth is DSSE's pre-authentication encoding: the bytes that are signed.
func preAuth(payloadType string, payload []byte) []byte {
	head := fmt.Sprintf("DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload))
	return append([]byte(head), payload...)
}

// decodeBase64 accepts the padded standard encoding in its one canonical
// spelling.
func decodeBase64(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("base64 with a line break")
	}
	return base64.StdEncoding.Strict().DecodeString(text)
}

// parse reads the payload of a document whose signatures are good into v. One that is
// not of this format says so, whatever else is wrong with it.
func parse(payload []byte, v any) error {
	err := decode(payload, v)
	if err == nil {
		return nil
	}
	if other := checkFormat(payload); other != nil {
		return other
	}
	return invalid("%w", err)
}

// checkFormat looks at the format of a document whose signatures are good, before
// the strict parse that only a document of this format can pass.
func checkFormat(payload []byte) error {
	var head struct {
		Format int64 `json:"format"`
	}
	if err := json.Unmarshal(payload, &head); err != nil {
		return nil // the strict parse says what is wrong
	}
	return checkFormatNumber(head.Format)
}

func checkFormatNumber(format int64) error {
	if format > Format {
		return because(ErrFormat, "format %d; this program reads up to %d, use a newer one", format, Format)
	}
	if format < 1 {
		return invalid("format %d", format)
	}
	return nil
}
