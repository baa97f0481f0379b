// Package tsatest is a time-stamping authority for tests, made with another library
// than the one that is tested.
package tsatest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/digitorus/timestamp"
)

// Policy is the one the TSA states.
var Policy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}

// Identity is a certificate and its key.
type Identity struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

var serial atomic.Int64

// NewRoot makes a certificate that vouches for others, from 2000 to 2099.
func NewRoot(name string) Identity {
	key := NewKey("ecdsa-p256")
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: day(2000), NotAfter: day(2099),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return Identity{sign(c, key.Public(), Identity{c, key}), key}
}

func day(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }

// NewKey makes a key: ecdsa-p256, ecdsa-p384, rsa or ed25519.
func NewKey(kind string) crypto.Signer {
	switch kind {
	case "rsa":
		return must(rsa.GenerateKey(rand.Reader, 2048))
	case "ecdsa-p384":
		return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return must(key, err)
	}
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

// must ends the test: it cannot happen.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// Purpose is the extension that says what a certificate is for.
func Purpose(critical bool, purposes ...asn1.ObjectIdentifier) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: must(asn1.Marshal(purposes))}
}

// What a certificate can be for.
var (
	TimeStamping = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
	ServerAuth   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
)

// NewTSA makes a certificate for time stamps, from 2000 to 2099, that root vouches
// for. Change may be nil.
func (root Identity) NewTSA(key crypto.Signer, change func(*x509.Certificate)) Identity {
	return Identity{root.Vouch(key.Public(), change), key}
}

// Vouch makes such a certificate for any key.
func (root Identity) Vouch(key crypto.PublicKey, change func(*x509.Certificate)) *x509.Certificate {
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: "tsa.test", Organization: []string{"Test"}}, NotBefore: day(2000), NotAfter: day(2099),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{Purpose(true, TimeStamping)},
	}
	if change != nil {
		change(c)
	}
	return sign(c, key, root)
}

// sign makes a certificate for a key, in the name of by.
func sign(c *x509.Certificate, key crypto.PublicKey, by Identity) *x509.Certificate {
	c.SerialNumber = big.NewInt(serial.Add(1))
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, c, by.Certificate, key, by.Key))))
}

// PEM is the certificate in PEM.
func (i Identity) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate.Raw})
}

// KeyPEM is the key, PKCS #8, in PEM.
func (i Identity) KeyPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(i.Key))})
}

// Stamp answers a request as of a time, changed by change, which may be nil.
func (i Identity) Stamp(request *timestamp.Request, at time.Time, change func(*timestamp.Timestamp)) []byte {
	t := timestamp.Timestamp{
		HashAlgorithm: request.HashAlgorithm, HashedMessage: request.HashedMessage, Nonce: request.Nonce,
		Time: at.UTC().Truncate(time.Second), Accuracy: 1500 * time.Millisecond, Policy: Policy, AddTSACertificate: true,
	}
	if change != nil {
		change(&t)
	}
	digest := crypto.SHA256
	if _, ok := i.Key.(ed25519.PrivateKey); ok {
		digest = crypto.SHA512
	}
	return must(t.CreateResponseWithOpts(i.Certificate, i.Key, digest))
}

// Sign makes a time stamp out of a TSTInfo, signed by each with the attributes given.
func Sign(content []byte, kind asn1.ObjectIdentifier, attributes func(Identity) []pkcs7.Attribute, signers ...Identity) []byte {
	data := must(pkcs7.NewSignedData(content))
	data.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	data.SetContentType(kind)
	for _, s := range signers {
		if err := data.AddSigner(s.Certificate, s.Key, pkcs7.SignerInfoConfig{ExtraSignedAttributes: attributes(s)}); err != nil {
			panic(err)
		}
	}
	return must(asn1.Marshal(struct {
		Status struct{ Status int }
		Token  asn1.RawValue
	}{Token: asn1.RawValue{FullBytes: must(data.Finish())}}))
}

// Server is a TSA over HTTP. What it does depends on the path: /reject refuses, /busy
// has no time, /down is never there, /once is there from the second time on, /away and
// /moved send elsewhere, /stranger is signed by somebody else, /other is over another
// digest, /endless never ends, /page is something else, and the rest is good.
type Server struct {
	Root     Identity
	good     Identity
	stranger Identity
	asked    atomic.Int64
	Now      func() time.Time
}

// NewServer makes one with a root of its own.
func NewServer() *Server {
	root := NewRoot("root.test")
	return &Server{Root: root, good: root.NewTSA(NewKey(""), nil), stranger: NewRoot("stranger.test").NewTSA(NewKey(""), nil), Now: time.Now}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.asked.Add(1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	request, err := timestamp.ParseRequest(body)
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/timestamp-query" || !request.Certificates || request.Nonce == nil {
		http.Error(w, fmt.Sprintf("no good request: %v", err), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/timestamp-reply")
	tsa := s.good
	switch r.URL.Path {
	case "/reject":
		_, _ = w.Write(must(timestamp.CreateErrorResponse(timestamp.Rejection, timestamp.UnacceptedPolicy)))
		return
	case "/busy":
		_, _ = w.Write(must(timestamp.CreateErrorResponse(timestamp.Rejection, timestamp.TimeNotAvailable)))
		return
	case "/down":
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	case "/once":
		if n == 1 {
			http.Error(w, "not yet", http.StatusInternalServerError)
			return
		}
	case "/endless":
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
		return
	case "/page":
		fmt.Fprintln(w, "<html>log in first</html>")
		return
	case "/away":
		http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		return
	case "/moved":
		http.Redirect(w, r, "/", http.StatusFound)
		return
	case "/other":
		request.HashedMessage = make([]byte, 32)
	case "/stranger":
		tsa = s.stranger
	}
	_, _ = w.Write(tsa.Stamp(request, s.Now(), nil))
}
