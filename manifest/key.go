package manifest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"fmt"

	// From Go 1.27 on these are the standard library's crypto/mldsa and crypto/x509.
	"filippo.io/mldsa"
	"filippo.io/mldsa/x509"
)

// The algorithms of keys.
const (
	Ed25519   = "ed25519"    // RFC 8032
	ECDSAP256 = "ecdsa-p256" // with SHA-256, signatures in ASN.1 DER
	MLDSA65   = "ml-dsa-65"  // FIPS 204, without a context: for the time after quantum computers
)

// PublicKey is a key that signatures are checked with. Two are equal if and only
// if they are the same key. The zero PublicKey checks nothing.
type PublicKey struct {
	algorithm string
	spki      string
}

// ParsePublicKey reads a SubjectPublicKeyInfo in DER, which must hold a key of one of
// the algorithms in the one spelling it has.
func ParsePublicKey(spki []byte) (PublicKey, error) {
	k, err := parseSPKI(spki)
	if err != nil {
		return PublicKey{}, fmt.Errorf("manifest: public key: %w", err)
	}
	return k, nil
}

// ParsePublicPEM reads a PUBLIC KEY in PEM, as [PublicKey.PEM] and openssl write it.
func ParsePublicPEM(text []byte) (PublicKey, error) {
	der, err := parsePEM(text, "PUBLIC KEY")
	if err != nil {
		return PublicKey{}, fmt.Errorf("manifest: public key: %w", err)
	}
	return ParsePublicKey(der)
}

func parseSPKI(spki []byte) (PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return PublicKey{}, invalid("not a SubjectPublicKeyInfo: %w", err)
	}
	k, err := newPublicKey(key)
	if err != nil {
		return PublicKey{}, err
	}
	if k.spki != string(spki) {
		return PublicKey{}, invalid("not in its canonical encoding")
	}
	return k, nil
}

func newPublicKey(key crypto.PublicKey) (PublicKey, error) {
	algorithm, err := algorithmOf(key)
	if err != nil {
		return PublicKey{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return PublicKey{}, err
	}
	return PublicKey{algorithm: algorithm, spki: string(spki)}, nil
}

func algorithmOf(key crypto.PublicKey) (string, error) {
	switch key := key.(type) {
	case ed25519.PublicKey:
		return Ed25519, nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return ECDSAP256, nil
		}
		return "", invalid("an ECDSA key on %s; only P-256 is supported", key.Curve.Params().Name)
	case *mldsa.PublicKey:
		if key.Parameters() == mldsa.MLDSA65() {
			return MLDSA65, nil
		}
		return "", invalid("a key of %s; only ML-DSA-65 is supported", key.Parameters())
	}
	return "", unsupported(key)
}

// ID returns the SHA-256 of the key's SubjectPublicKeyInfo in DER: its name in
// envelopes, and what people compare.
func (k PublicKey) ID() Hash { return Sum([]byte(k.spki)) }

// SPKI returns the key's SubjectPublicKeyInfo in DER.
func (k PublicKey) SPKI() []byte { return []byte(k.spki) }

// Algorithm returns [Ed25519], [ECDSAP256] or [MLDSA65].
func (k PublicKey) Algorithm() string { return k.algorithm }

// PEM returns the key as openssl reads it.
func (k PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.SPKI()})
}

// Verify reports whether sig is the key's signature of message. The algorithm is
// the key's own; no document has a say in it.
func (k PublicKey) Verify(message, sig []byte) bool {
	key, err := x509.ParsePKIXPublicKey([]byte(k.spki))
	if err != nil {
		return false
	}
	switch key := key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(key, message, sig)
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
		return ecdsa.VerifyASN1(key, digest[:], sig)
	case *mldsa.PublicKey:
		return mldsa.Verify(key, message, sig, nil) == nil
	}
	return false
}

// Signer signs documents. Implementations may keep the key elsewhere.
type Signer interface {
	// Key returns the public half of the key.
	Key() PublicKey

	// Sign returns the key's signature of message, which is short and not yet
	// hashed. That of an ECDSA key is over the SHA-256 and in ASN.1 DER.
	Sign(ctx context.Context, message []byte) ([]byte, error)
}

type signer struct {
	key     PublicKey
	private crypto.Signer
}

// NewSigner returns a Signer of a key in memory: an [ed25519.PrivateKey], an
// [*ecdsa.PrivateKey] on P-256 or an [*mldsa.PrivateKey] of ML-DSA-65. The same message always gets the same signature.
func NewSigner(private crypto.Signer) (Signer, error) {
	switch private.(type) {
	case ed25519.PrivateKey, *ecdsa.PrivateKey, *mldsa.PrivateKey:
	default:
		return nil, fmt.Errorf("manifest: private key: %w", unsupported(private))
	}
	key, err := newPublicKey(private.Public())
	if err != nil {
		return nil, fmt.Errorf("manifest: private key: %w", err)
	}
	return signer{key: key, private: private}, nil
}

func (s signer) Key() PublicKey { return s.key }

func (s signer) Sign(_ context.Context, message []byte) ([]byte, error) {
	if private, ok := s.private.(*mldsa.PrivateKey); ok {
		return private.SignDeterministic(message, nil)
	}
	if s.key.algorithm == Ed25519 {
		return s.private.Sign(nil, message, crypto.Hash(0))
	}
	digest := sha256.Sum256(message)
	// Without a source of randomness the nonce is that of RFC 6979.
	return s.private.Sign(nil, digest[:], crypto.SHA256)
}

// ParsePrivateKey reads an unencrypted PKCS#8 key in PEM. Its errors never hold
// any part of the key.
func ParsePrivateKey(text []byte) (Signer, error) {
	der, err := parsePEM(text, "PRIVATE KEY")
	if err != nil {
		return nil, fmt.Errorf("manifest: private key: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("manifest: private key: %w", invalid("not a PKCS#8 key of a kind that is supported"))
	}
	private, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("manifest: private key: %w", unsupported(key))
	}
	return NewSigner(private)
}

// GenerateKey makes a key and returns it twice: as PKCS#8 in PEM, and ready to
// sign.
func GenerateKey(algorithm string) (privatePEM []byte, s Signer, err error) {
	private, err := generate(algorithm)
	if err != nil {
		return nil, nil, fmt.Errorf("manifest: new key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("manifest: new key: %w", err)
	}
	if s, err = NewSigner(private); err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), s, nil
}

func generate(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case Ed25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case MLDSA65:
		return mldsa.GenerateKey(mldsa.MLDSA65())
	}
	return nil, invalid("algorithm %q; choose %s, %s or %s", algorithm, Ed25519, ECDSAP256, MLDSA65)
}

// parsePEM returns the contents of the one block in text, which must be of the
// kind want.
func parsePEM(text []byte, want string) ([]byte, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, invalid("no PEM block found; want -----BEGIN %s-----", want)
	}
	if block.Type != want {
		return nil, wrongPEM(block.Type, want)
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, invalid("more than one PEM block")
	}
	return block.Bytes, nil
}

func wrongPEM(found, want string) error {
	switch found {
	case "ENCRYPTED PRIVATE KEY":
		return invalid("the key has a passphrase; remove it with openssl pkey, or sign through a key service")
	case "EC PRIVATE KEY", "RSA PRIVATE KEY", "DSA PRIVATE KEY":
		return invalid("found a PEM block %q; turn it into PKCS#8 with openssl pkcs8 -topk8 -nocrypt", found)
	}
	return invalid("found a PEM block %q, want %q", clip(found), want)
}

func unsupported(key any) error {
	return invalid("a key of type %T; only Ed25519, ECDSA on P-256 and ML-DSA-65 are supported", key)
}
