package rfc3161

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// field is the tag of a field that is told by its number.
func field(n uint8) der.Tag { return der.Tag(n).ContextSpecific() }

// inside is the same around others.
func inside(n uint8) der.Tag { return field(n).Constructed() }

func malformed(what string) error { return fmt.Errorf("is malformed: %s", what) }

// response is a TimeStampResp.
type response struct {
	status  int64
	reasons []string // in the TSA's words
	failure int      // the first bit of the failInfo; -1: it has none
	token   cryptobyte.String
}

func parseResponse(data []byte) (*response, error) {
	in := cryptobyte.String(data)
	var body, status cryptobyte.String
	if !in.ReadASN1(&body, der.SEQUENCE) || !in.Empty() {
		return nil, errors.New("is no time stamp: not one TimeStampResp in DER")
	}
	r := &response{failure: -1}
	if !body.ReadASN1(&status, der.SEQUENCE) || !status.ReadASN1Integer(&r.status) {
		return nil, malformed("status")
	}
	var reasons cryptobyte.String
	if !status.ReadOptionalASN1(&reasons, nil, der.SEQUENCE) {
		return nil, malformed("status text")
	}
	for !reasons.Empty() {
		var reason cryptobyte.String
		if !reasons.ReadASN1(&reason, der.UTF8String) {
			return nil, malformed("status text")
		}
		r.reasons = append(r.reasons, strings.ToValidUTF8(string(reason[:min(len(reason), maxReason)]), "?"))
	}
	if status.PeekASN1Tag(der.BIT_STRING) {
		var bits asn1.BitString
		if !status.ReadASN1BitString(&bits) {
			return nil, malformed("failure")
		}
		for i := range bits.BitLength {
			if bits.At(i) == 1 {
				r.failure = i
				break
			}
		}
	}
	r.token = body
	if !status.Empty() {
		return nil, malformed("status")
	}
	return r, nil
}

// token is a TimeStampToken, taken apart.
type token struct {
	content      []byte // the TSTInfo in DER
	certificates []*x509.Certificate

	issuer []byte // of the certificate that signed, with its serial number
	serial *big.Int
	keyID  []byte // instead of these

	digest     asn1.ObjectIdentifier
	attributes attributes
	signed     []byte // the attributes, as they are signed
	algorithm  asn1.ObjectIdentifier
	signature  []byte
}

var oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}

func parseToken(in cryptobyte.String) (*token, error) {
	var info, explicit, data cryptobyte.String
	var kind asn1.ObjectIdentifier
	if !in.ReadASN1(&info, der.SEQUENCE) || !in.Empty() || !info.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidSignedData) ||
		!info.ReadASN1(&explicit, inside(0)) || !info.Empty() || !explicit.ReadASN1(&data, der.SEQUENCE) || !explicit.Empty() {
		return nil, malformed("it holds no signed data")
	}
	t := new(token)
	var content, octets, certificates, signers, signer cryptobyte.String
	if !data.SkipASN1(der.INTEGER) || !data.SkipASN1(der.SET) || !data.ReadASN1(&content, der.SEQUENCE) {
		return nil, malformed("signed data")
	}
	if !content.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidTSTInfo) || !content.ReadASN1(&octets, inside(0)) || !content.Empty() ||
		!octets.ReadASN1Bytes(&t.content, der.OCTET_STRING) || !octets.Empty() {
		return nil, malformed("what is signed is no TSTInfo")
	}
	if !data.ReadOptionalASN1(&certificates, nil, inside(0)) || !data.SkipOptionalASN1(inside(1)) ||
		!data.ReadASN1(&signers, der.SET) || !data.Empty() {
		return nil, malformed("signed data")
	}
	if !signers.ReadASN1(&signer, der.SEQUENCE) || !signers.Empty() {
		return nil, errors.New("is not signed by one signer")
	}
	if err := t.parseCertificates(certificates); err != nil {
		return nil, err
	}
	return t, t.parseSigner(signer)
}

// parseCertificates keeps those that are certificates; other kinds may stand among
// them.
func (t *token) parseCertificates(in cryptobyte.String) error {
	for n := 0; !in.Empty(); n++ {
		var one cryptobyte.String
		var tag der.Tag
		if n == maxCertificates || !in.ReadAnyASN1Element(&one, &tag) {
			return malformed("certificates, or too many")
		}
		if tag != der.SEQUENCE {
			continue
		}
		c, err := x509.ParseCertificate(one)
		if err != nil {
			continue // of some use to others: what is not understood vouches for nothing
		}
		if err := checkKey(c); err != nil {
			return err
		}
		t.certificates = append(t.certificates, c)
	}
	return nil
}

func (t *token) parseSigner(in cryptobyte.String) error {
	bad := malformed("signer")
	if !in.SkipASN1(der.INTEGER) {
		return bad
	}
	if in.PeekASN1Tag(field(0)) {
		if !in.ReadASN1Bytes(&t.keyID, field(0)) || len(t.keyID) == 0 {
			return bad
		}
	} else if !t.parseName(&in) {
		return bad
	}
	var signed cryptobyte.String
	if !readAlgorithm(&in, &t.digest) || !in.ReadASN1Element(&signed, inside(0)) {
		return bad
	}
	if !readAlgorithm(&in, &t.algorithm) || !in.ReadASN1Bytes(&t.signature, der.OCTET_STRING) ||
		!in.SkipOptionalASN1(inside(1)) || !in.Empty() {
		return bad
	}
	t.signed = append([]byte{byte(der.SET)}, signed[1:]...) // RFC 5652, 5.4
	var err error
	t.attributes, err = parseAttributes(signed)
	return err
}

// parseName reads issuer and serial number.
func (t *token) parseName(in *cryptobyte.String) bool {
	var name, issuer cryptobyte.String
	t.serial = new(big.Int)
	ok := in.ReadASN1(&name, der.SEQUENCE) && name.ReadASN1Element(&issuer, der.SEQUENCE) && name.ReadASN1Integer(t.serial) && name.Empty()
	t.issuer = issuer
	return ok
}

// readAlgorithm reads an AlgorithmIdentifier and leaves its parameters alone.
func readAlgorithm(in *cryptobyte.String, oid *asn1.ObjectIdentifier) bool {
	var algorithm cryptobyte.String
	return in.ReadASN1(&algorithm, der.SEQUENCE) && algorithm.ReadASN1ObjectIdentifier(oid)
}

// attributes are the values of signed attributes by their type. Each type stands
// once.
type attributes map[string]cryptobyte.String

func parseAttributes(element cryptobyte.String) (attributes, error) {
	var in cryptobyte.String
	if !element.ReadASN1(&in, inside(0)) {
		return nil, malformed("signed attributes")
	}
	all := attributes{}
	for !in.Empty() {
		var one, values cryptobyte.String
		var kind asn1.ObjectIdentifier
		if !in.ReadASN1(&one, der.SEQUENCE) || !one.ReadASN1ObjectIdentifier(&kind) || !one.ReadASN1(&values, der.SET) || !one.Empty() {
			return nil, malformed("signed attributes")
		}
		if _, twice := all[kind.String()]; twice {
			return nil, malformed("a signed attribute is there twice")
		}
		all[kind.String()] = values
	}
	return all, nil
}

func (a attributes) objectIdentifier(kind asn1.ObjectIdentifier) (oid asn1.ObjectIdentifier, err error) {
	in := a[kind.String()]
	if !in.ReadASN1ObjectIdentifier(&oid) || !in.Empty() {
		return nil, malformed("signed attribute " + kind.String())
	}
	return oid, nil
}

func (a attributes) octets(kind asn1.ObjectIdentifier) (value []byte, err error) {
	in := a[kind.String()]
	if !in.ReadASN1Bytes(&value, der.OCTET_STRING) || !in.Empty() {
		return nil, malformed("signed attribute " + kind.String())
	}
	return value, nil
}

// certificateHash names a certificate.
type certificateHash struct {
	algorithm crypto.Hash
	value     []byte
}

// signingCertificate reads of a signing-certificate attribute, of either kind, the
// first certificate it names: the one that signs. No such attribute has none.
func (a attributes) signingCertificate(kind asn1.ObjectIdentifier) ([]certificateHash, error) {
	in, ok := a[kind.String()]
	if !ok {
		return nil, nil
	}
	bad := malformed("which certificate signs")
	var attribute, named, first cryptobyte.String
	if !in.ReadASN1(&attribute, der.SEQUENCE) || !in.Empty() || !attribute.ReadASN1(&named, der.SEQUENCE) || !named.ReadASN1(&first, der.SEQUENCE) {
		return nil, bad
	}
	h := certificateHash{algorithm: crypto.SHA1}
	if kind.Equal(oidSigningCertV2) {
		h.algorithm = crypto.SHA256
		if first.PeekASN1Tag(der.SEQUENCE) {
			var oid asn1.ObjectIdentifier
			if !readAlgorithm(&first, &oid) || digests[oid.String()] == 0 {
				return nil, bad
			}
			h.algorithm = digests[oid.String()]
		}
	}
	if !first.ReadASN1Bytes(&h.value, der.OCTET_STRING) {
		return nil, bad
	}
	return []certificateHash{h}, nil
}

// info is a TSTInfo.
type info struct {
	policy   asn1.ObjectIdentifier
	imprint  asn1.ObjectIdentifier
	digest   []byte
	serial   *big.Int
	time     time.Time
	accuracy time.Duration
	nonce    *big.Int // nil: it has none
}

func parseInfo(data []byte) (*info, error) {
	outer := cryptobyte.String(data)
	var in, imprint cryptobyte.String
	var version int
	i := &info{serial: new(big.Int)}
	if !outer.ReadASN1(&in, der.SEQUENCE) || !outer.Empty() || !in.ReadASN1Integer(&version) || version != 1 || !in.ReadASN1ObjectIdentifier(&i.policy) ||
		!in.ReadASN1(&imprint, der.SEQUENCE) || !readAlgorithm(&imprint, &i.imprint) || !imprint.ReadASN1Bytes(&i.digest, der.OCTET_STRING) || !imprint.Empty() ||
		!in.ReadASN1Integer(i.serial) || i.serial.Sign() < 0 || i.serial.BitLen() > maxSerialBits {
		return nil, malformed("TSTInfo")
	}
	var err error
	if i.time, err = readTime(&in); err != nil {
		return nil, err
	}
	if in.PeekASN1Tag(der.SEQUENCE) && !i.readAccuracy(&in) {
		return nil, malformed("accuracy")
	}
	if !in.SkipOptionalASN1(der.BOOLEAN) { // ordering
		return nil, malformed("TSTInfo")
	}
	if in.PeekASN1Tag(der.INTEGER) {
		i.nonce = new(big.Int)
		if !in.ReadASN1Integer(i.nonce) {
			return nil, malformed("nonce")
		}
	}
	var extensions cryptobyte.String
	if !in.SkipOptionalASN1(inside(0)) || !in.ReadOptionalASN1(&extensions, nil, inside(1)) || !in.Empty() {
		return nil, malformed("TSTInfo")
	}
	return i, checkExtensions(extensions)
}

// readTime reads a GeneralizedTime as RFC 3161 has it: in UTC, with parts of a second
// after a point or none.
func readTime(in *cryptobyte.String) (time.Time, error) {
	var text cryptobyte.String
	if !in.ReadASN1(&text, der.GeneralizedTime) {
		return time.Time{}, malformed("time")
	}
	t, err := time.Parse("20060102150405Z", string(text))
	if err != nil || strings.Contains(string(text), ",") || t.Year() < 1970 {
		return time.Time{}, malformed("time")
	}
	return t, nil
}

// readAccuracy adds up seconds, milliseconds and microseconds.
func (i *info) readAccuracy(in *cryptobyte.String) bool {
	var accuracy cryptobyte.String
	if !in.ReadASN1(&accuracy, der.SEQUENCE) {
		return false
	}
	for _, part := range []struct {
		tag  der.Tag
		unit time.Duration
		most int64
	}{{der.INTEGER, time.Second, 1 << 30}, {field(0), time.Millisecond, 999}, {field(1), time.Microsecond, 999}} {
		if !accuracy.PeekASN1Tag(part.tag) {
			continue
		}
		var n int64
		if !accuracy.ReadASN1Int64WithTag(&n, part.tag) || n < 0 || n > part.most {
			return false
		}
		i.accuracy += time.Duration(n) * part.unit
	}
	return accuracy.Empty()
}

// checkExtensions refuses what has to be understood and is not.
func checkExtensions(in cryptobyte.String) error {
	for !in.Empty() {
		var one cryptobyte.String
		var kind asn1.ObjectIdentifier
		if !in.ReadASN1(&one, der.SEQUENCE) || !one.ReadASN1ObjectIdentifier(&kind) {
			return malformed("extensions")
		}
		if one.PeekASN1Tag(der.BOOLEAN) {
			var critical bool
			if !one.ReadASN1Boolean(&critical) {
				return malformed("extensions")
			}
			if critical {
				return fmt.Errorf("has a critical extension that is not known, %s", kind)
			}
		}
	}
	return nil
}
