// Package rfc3161 asks time-stamping authorities (TSAs) for time stamps over
// digests, and checks them: a signed statement that a digest was known at a time.
//
// It parses and verifies by itself, strictly, with crypto/x509: whoever may put
// objects into an archive can put anything where a time stamp is looked for.
package rfc3161

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	_ "crypto/sha1" // which names certificates in signing-certificate, and signs nothing
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

const (
	// MaxSize is the size of a time stamp in bytes; they have some 2 to 8 thousand.
	MaxSize = 64 << 10

	maxCertificates = 16
	maxRSABits      = 8192 // checking a signature by a larger one takes seconds
	maxSerialBits   = 512  // RFC 3161 asks for 160
	maxReason       = 256  // bytes of what a TSA says
)

// Want is what a time stamp must be to be taken for a proof.
type Want struct {
	Digest [32]byte       // SHA-256 of what was stamped
	Nonce  *big.Int       // of the request; nil: it is not compared
	Roots  *x509.CertPool // who vouches for the TSA; nil: its certificate may be anybody's
}

// Stamp is what a time stamp says.
type Stamp struct {
	Time     time.Time     // in UTC; what was stamped existed by then
	Accuracy time.Duration // of Time, either way; 0: the TSA does not say
	TSA      string        // subject of the certificate that signed
	Serial   string        // of the time stamp at the TSA, as 0x and hex digits
	Policy   string        // the TSA's policy it was made under, as numbers with dots
}

// Check returns what the time stamp in der says, a whole TimeStampResp in DER, if it
// keeps the rules of FORMAT.md, section 8.2, and is what was wanted. The chain to Roots
// has to be valid at the time stamped, not now. Whether a certificate was revoked, it
// does not look at. It never panics.
func Check(der []byte, want Want) (stamp *Stamp, err error) {
	defer func() {
		if p := recover(); p != nil { // out of crypto/x509, for which malformed keys have been too much before
			stamp, err = nil, fmt.Errorf("is malformed: %v", p)
		}
	}()
	if len(der) > MaxSize {
		return nil, fmt.Errorf("has more than %d bytes", MaxSize)
	}
	r, err := parseResponse(der)
	if err != nil {
		return nil, err
	}
	if err := r.granted(); err != nil {
		return nil, err
	}
	t, err := parseToken(r.token)
	if err != nil {
		return nil, err
	}
	signer, err := t.verify()
	if err != nil {
		return nil, err
	}
	info, err := parseInfo(t.content)
	if err != nil {
		return nil, err
	}
	if err := info.is(want); err != nil {
		return nil, err
	}
	if err := checkPurpose(signer); err != nil {
		return nil, err
	}
	if want.Roots != nil {
		if err := t.checkChain(signer, want.Roots, info.time); err != nil {
			return nil, err
		}
	}
	return &Stamp{
		Time: info.time, Accuracy: info.accuracy, TSA: clipText(signer.Subject.String()),
		Serial: fmt.Sprintf("0x%X", info.serial), Policy: info.policy.String(),
	}, nil
}

// verify checks everything that is signed but the TSTInfo itself, and returns the
// certificate that signed.
func (t *token) verify() (*x509.Certificate, error) {
	signer, err := t.signerCertificate()
	if err != nil {
		return nil, err
	}
	digest, ok := digests[t.digest.String()]
	if !ok {
		return nil, fmt.Errorf("is signed over a digest by %s; SHA-256, SHA-384 and SHA-512 are taken", t.digest)
	}
	if err := t.checkAttributes(digest, signer); err != nil {
		return nil, err
	}
	algorithm, err := signatureAlgorithm(t.algorithm, digest)
	if err != nil {
		return nil, err
	}
	if err := signer.CheckSignature(algorithm, t.signed, t.signature); err != nil {
		return nil, fmt.Errorf("has a signature that does not verify: %w", err)
	}
	return signer, nil
}

// signerCertificate returns the certificate the signature names.
func (t *token) signerCertificate() (*x509.Certificate, error) {
	for _, c := range t.certificates {
		if t.keyID != nil && bytes.Equal(c.SubjectKeyId, t.keyID) {
			return c, nil
		}
		if t.keyID == nil && c.SerialNumber.Cmp(t.serial) == 0 && bytes.Equal(c.RawIssuer, t.issuer) {
			return c, nil
		}
	}
	return nil, errors.New("does not hold the certificate it is signed by")
}

var (
	oidContentType    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidTSTInfo        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidSigningCert    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 12}
	oidSigningCertV2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
	oidSHA256         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidExtendedUsage  = asn1.ObjectIdentifier{2, 5, 29, 37}
	digests           = map[string]crypto.Hash{oidSHA256.String(): crypto.SHA256, "2.16.840.1.101.3.4.2.2": crypto.SHA384, "2.16.840.1.101.3.4.2.3": crypto.SHA512}
	signingAlgorithms = map[string]map[crypto.Hash]x509.SignatureAlgorithm{
		"1.2.840.113549.1.1.1":  {crypto.SHA256: x509.SHA256WithRSA, crypto.SHA384: x509.SHA384WithRSA, crypto.SHA512: x509.SHA512WithRSA},
		"1.2.840.113549.1.1.11": {crypto.SHA256: x509.SHA256WithRSA},
		"1.2.840.113549.1.1.12": {crypto.SHA384: x509.SHA384WithRSA},
		"1.2.840.113549.1.1.13": {crypto.SHA512: x509.SHA512WithRSA},
		"1.2.840.113549.1.1.10": {crypto.SHA256: x509.SHA256WithRSAPSS, crypto.SHA384: x509.SHA384WithRSAPSS, crypto.SHA512: x509.SHA512WithRSAPSS},
		"1.2.840.10045.2.1":     {crypto.SHA256: x509.ECDSAWithSHA256, crypto.SHA384: x509.ECDSAWithSHA384, crypto.SHA512: x509.ECDSAWithSHA512},
		"1.2.840.10045.4.3.2":   {crypto.SHA256: x509.ECDSAWithSHA256},
		"1.2.840.10045.4.3.3":   {crypto.SHA384: x509.ECDSAWithSHA384},
		"1.2.840.10045.4.3.4":   {crypto.SHA512: x509.ECDSAWithSHA512},
		"1.3.101.112":           {crypto.SHA256: x509.PureEd25519, crypto.SHA384: x509.PureEd25519, crypto.SHA512: x509.PureEd25519},
	}
)

func signatureAlgorithm(algorithm asn1.ObjectIdentifier, digest crypto.Hash) (x509.SignatureAlgorithm, error) {
	found, ok := signingAlgorithms[algorithm.String()][digest]
	if !ok {
		return 0, fmt.Errorf("is signed by %s with %s, which is not taken", algorithm, digest)
	}
	return found, nil
}

// checkAttributes makes sure that what is signed is about this content and this
// certificate.
func (t *token) checkAttributes(digest crypto.Hash, signer *x509.Certificate) error {
	contentType, err := t.attributes.objectIdentifier(oidContentType)
	if err != nil || !contentType.Equal(oidTSTInfo) {
		return errors.New("is not signed as a time stamp")
	}
	signed, err := t.attributes.octets(oidMessageDigest)
	if err != nil || !bytes.Equal(signed, sum(digest, t.content)) {
		return errors.New("has other content than was signed")
	}
	var hashes []certificateHash
	for _, oid := range []asn1.ObjectIdentifier{oidSigningCert, oidSigningCertV2} {
		h, err := t.attributes.signingCertificate(oid)
		if err != nil {
			return err
		}
		hashes = append(hashes, h...)
	}
	if len(hashes) == 0 {
		return errors.New("does not say in what is signed which certificate signs")
	}
	for _, h := range hashes {
		if !bytes.Equal(h.value, sum(h.algorithm, signer.Raw)) {
			return errors.New("is signed for another certificate than the one it holds")
		}
	}
	return nil
}

func sum(algorithm crypto.Hash, data []byte) []byte {
	h := algorithm.New()
	h.Write(data)
	return h.Sum(nil)
}

// is holds what was stamped against what was wanted.
func (i *info) is(want Want) error {
	if !i.imprint.Equal(oidSHA256) {
		return fmt.Errorf("is over a digest by %s, not SHA-256", i.imprint)
	}
	if !bytes.Equal(i.digest, want.Digest[:]) {
		return fmt.Errorf("is over %x, not over %x", clip(i.digest), want.Digest)
	}
	if want.Nonce != nil && (i.nonce == nil || i.nonce.Cmp(want.Nonce) != 0) {
		return errors.New("does not answer this request: it has another nonce")
	}
	return nil
}

// clipText is what is told of a text that others have chosen.
func clipText(text string) string { return text[:min(len(text), maxReason)] }

func clip(digest []byte) []byte { return digest[:min(len(digest), 64)] }

// checkPurpose makes sure that a certificate is for time stamps and nothing else.
func checkPurpose(c *x509.Certificate) error {
	critical := false
	for _, e := range c.Extensions {
		critical = critical || e.Id.Equal(oidExtendedUsage) && e.Critical
	}
	only := slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}) && len(c.UnknownExtKeyUsage) == 0
	if !critical || !only {
		return errors.New("the certificate that signed is not for time stamps and nothing else: it needs the extended key usage timeStamping alone, critical")
	}
	const signs = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	if c.KeyUsage != 0 && (c.KeyUsage&signs == 0 || c.KeyUsage&^signs != 0) {
		return errors.New("the certificate that signed is not for signatures alone, by its key usage")
	}
	return nil
}

// checkChain makes sure that a root vouched for the certificate at that time.
func (t *token) checkChain(signer *x509.Certificate, roots *x509.CertPool, at time.Time) error {
	between := x509.NewCertPool()
	for _, c := range t.certificates {
		between.AddCert(c)
	}
	_, err := signer.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	})
	if err != nil {
		return fmt.Errorf("is by %s, for whom nobody trusted vouched at %s, the time it states: %w", signer.Subject, at.Format(time.RFC3339), err)
	}
	return nil
}

// checkKey refuses keys that take long to check a signature by.
func checkKey(c *x509.Certificate) error {
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
		return fmt.Errorf("holds a certificate with an RSA key of %d bits; at most %d", key.N.BitLen(), maxRSABits)
	}
	return nil
}
