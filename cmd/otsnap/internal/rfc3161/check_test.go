package rfc3161_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/digitorus/timestamp"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/rfc3161"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/rfc3161/tsatest"
)

var (
	digest = sha256.Sum256([]byte("a manifest"))
	at     = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	root   = tsatest.NewRoot("root.test")
)

func asked() *timestamp.Request {
	return &timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: digest[:], Nonce: big.NewInt(7)}
}

func pool(of ...tsatest.Identity) *x509.CertPool {
	p := x509.NewCertPool()
	for _, i := range of {
		p.AddCert(i.Certificate)
	}
	return p
}

// content is the TSTInfo in a time stamp.
func content(t testing.TB, data []byte) []byte {
	t.Helper()
	parsed, err := timestamp.ParseResponse(data)
	if err != nil {
		t.Fatal(err)
	}
	token, err := pkcs7.Parse(parsed.RawToken)
	if err != nil {
		t.Fatal(err)
	}
	return token.Content
}

var tstInfo = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}

// named is the attribute that names the certificate that signs.
func named(s tsatest.Identity) []pkcs7.Attribute {
	hash := sha256.Sum256(s.Certificate.Raw)
	type one struct{ Hash []byte }
	return []pkcs7.Attribute{{
		Type:  asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47},
		Value: struct{ Certs []one }{[]one{{hash[:]}}},
	}}
}

func TestGoodStampsAreAccepted(t *testing.T) {
	between := root.NewTSA(tsatest.NewKey(""), func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtraExtensions = true, true, x509.KeyUsageCertSign, nil
	})
	tests := []struct {
		name   string
		tsa    tsatest.Identity
		change func(*timestamp.Timestamp)
	}{
		{"ecdsa-p256", root.NewTSA(tsatest.NewKey(""), nil), nil},
		{"ecdsa-p384", root.NewTSA(tsatest.NewKey("ecdsa-p384"), nil), nil},
		{"rsa", root.NewTSA(tsatest.NewKey("rsa"), nil), nil},
		{"ed25519", root.NewTSA(tsatest.NewKey("ed25519"), nil), nil},
		{"by way of another", between.NewTSA(tsatest.NewKey(""), nil), func(t *timestamp.Timestamp) { t.Certificates = []*x509.Certificate{between.Certificate} }},
		{"qualified", root.NewTSA(tsatest.NewKey(""), nil), func(t *timestamp.Timestamp) { t.Qualified = true }},
		{"no nonce", root.NewTSA(tsatest.NewKey(""), nil), func(t *timestamp.Timestamp) { t.Nonce = nil }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			data := test.tsa.Stamp(asked(), at, test.change)
			want := rfc3161.Want{Digest: digest, Roots: pool(root)}
			got, err := rfc3161.Check(data, want)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Time.Equal(at) || got.Accuracy != 1500*time.Millisecond || got.TSA != "CN=tsa.test,O=Test" || got.Policy != tsatest.Policy.String() {
				t.Errorf("got %+v", got)
			}
			oracle, err := timestamp.ParseResponse(data)
			if err != nil {
				t.Fatal(err)
			}
			if serial := "0x" + strings.ToUpper(oracle.SerialNumber.Text(16)); serial != got.Serial || !oracle.Time.Equal(got.Time) || oracle.Accuracy != got.Accuracy {
				t.Errorf("got %+v, another library reads %s, %s, %s", got, serial, oracle.Time, oracle.Accuracy)
			}
			want.Nonce = big.NewInt(7)
			if _, err := rfc3161.Check(data, want); (err == nil) != (oracle.Nonce != nil) {
				t.Errorf("with the nonce asked for: %v", err)
			}
		})
	}
}

func TestBadStampsAreRefused(t *testing.T) {
	tsa := root.NewTSA(tsatest.NewKey(""), nil)
	second := root.NewTSA(tsatest.NewKey(""), nil)
	good := tsa.Stamp(asked(), at, nil)
	info := content(t, good)
	with := func(change func(*x509.Certificate)) []byte {
		return root.NewTSA(tsatest.NewKey(""), change).Stamp(asked(), at, nil)
	}
	purpose := func(critical bool, of ...asn1.ObjectIdentifier) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{tsatest.Purpose(critical, of...)} }
	}
	none := func(tsatest.Identity) []pkcs7.Attribute { return nil }
	rejected, err := timestamp.CreateErrorResponse(timestamp.Rejection, timestamp.UnacceptedPolicy)
	if err != nil {
		t.Fatal(err)
	}
	slow := tsatest.Identity{Key: tsa.Key, Certificate: root.Vouch(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 9000, 1), E: 65537}, nil)}
	flipped := bytes.Replace(bytes.Clone(good), []byte("20261123030000Z"), []byte("20251123030000Z"), 1)
	tests := []struct {
		name string
		data []byte
		says string
	}{
		{"nothing", nil, "no time stamp"},
		{"text", []byte("<html>"), "no time stamp"},
		{"no token", []byte{0x30, 0x05, 0x30, 0x03, 0x02, 0x01, 0x00}, "no signed data"},
		{"over another digest", tsa.Stamp(&timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: make([]byte, 32)}, at, nil), "is over 0000"},
		{"over a SHA-512", tsa.Stamp(&timestamp.Request{HashAlgorithm: crypto.SHA512, HashedMessage: digest[:]}, at, nil), "not SHA-256"},
		{"another nonce", tsa.Stamp(&timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: digest[:], Nonce: big.NewInt(8)}, at, nil), "another nonce"},
		{"no nonce", tsa.Stamp(&timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: digest[:]}, at, nil), "another nonce"},
		{"rejected in its own words", []byte("\x30\x0e\x30\x0c\x02\x01\x02\x30\x07\x0c\x05no\n\x1b["), `refused, status 2: it says "no\n\x1b["`},
		{"a status below zero", []byte("\x30\x05\x30\x03\x02\x01\xff"), "refused, status -1: it does not say why"},
		{"rejected", rejected, "refused, status 2: the policy is not supported"},
		{"another time than was signed", flipped, "other content than was signed"},
		{"trailing junk", append(bytes.Clone(good), 0), "no time stamp"},
		{"cut off", good[:len(good)-1], "no time stamp"},
		{"too large", append(bytes.Clone(good), make([]byte, rfc3161.MaxSize)...), "more than 65536 bytes"},
		{"no purpose", with(func(c *x509.Certificate) { c.ExtraExtensions = nil }), "not for time stamps"},
		{"another purpose", with(purpose(true, tsatest.ServerAuth)), "not for time stamps"},
		{"one purpose more", with(purpose(true, tsatest.TimeStamping, tsatest.ServerAuth)), "not for time stamps"},
		{"one unknown purpose more", with(purpose(true, tsatest.TimeStamping, asn1.ObjectIdentifier{1, 2, 3})), "not for time stamps"},
		{"purpose not critical", with(purpose(false, tsatest.TimeStamping)), "not for time stamps"},
		{"a certificate that signs certificates", with(func(c *x509.Certificate) {
			c.KeyUsage |= x509.KeyUsageCertSign
			c.IsCA, c.BasicConstraintsValid = true, true
		}), "not for signatures alone"},
		{"expired then", with(func(c *x509.Certificate) { c.NotAfter = at.AddDate(0, 0, -1) }), "nobody trusted vouched at 2026-11-23T03:00:00Z"},
		{"not yet valid then", with(func(c *x509.Certificate) { c.NotBefore = at.AddDate(0, 0, 1) }), "nobody trusted vouched at 2026-11-23T03:00:00Z"},
		{"a stranger", tsatest.NewRoot("root.test").NewTSA(tsatest.NewKey(""), nil).Stamp(asked(), at, nil), "nobody trusted vouched"},
		{"no certificate", tsa.Stamp(asked(), at, func(t *timestamp.Timestamp) { t.AddTSACertificate = false }), "does not hold the certificate"},
		{"two signers", tsatest.Sign(info, tstInfo, named, tsa, second), "not signed by one signer"},
		{"one signer twice", tsatest.Sign(info, tstInfo, named, tsa, tsa), "not signed by one signer"},
		{"no signer", tsatest.Sign(info, tstInfo, named), "not signed by one signer"},
		{"signed as data", tsatest.Sign(info, pkcs7.OIDData, named, tsa), "no TSTInfo"},
		{"certificate not named", tsatest.Sign(info, tstInfo, none, tsa), "which certificate signs"},
		{"another certificate named", tsatest.Sign(info, tstInfo, func(tsatest.Identity) []pkcs7.Attribute { return named(second) }, tsa), "signed for another certificate"},
		{"named twice", tsatest.Sign(info, tstInfo, func(i tsatest.Identity) []pkcs7.Attribute { return append(named(i), named(i)...) }, tsa), "there twice"},
		{"signed by SHA-1", signedBySHA1(t, info, tsa), "1.3.14.3.2.26"},
		{"a certificate whose key takes seconds", tsatest.Sign(info, tstInfo, named, slow), "RSA key of 9001 bits"},
		{"a critical extension", tsa.Stamp(asked(), at, func(t *timestamp.Timestamp) {
			t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), "critical extension"},
		{"a time in 1969", tsatest.Sign(bytes.Replace(info, []byte("20261123030000Z"), []byte("19691123030000Z"), 1), tstInfo, named, tsa), "malformed: time"},
		{"a time elsewhere", tsatest.Sign(bytes.Replace(info, []byte("20261123030000Z"), []byte("2026112303+0100"), 1), tstInfo, named, tsa), "malformed: time"},
		{"another version", tsatest.Sign(bytes.Replace(info, []byte{2, 1, 1, 6}, []byte{2, 1, 2, 6}, 1), tstInfo, named, tsa), "malformed: TSTInfo"},
	}
	if _, err := rfc3161.Check(tsatest.Sign(info, tstInfo, named, tsa), rfc3161.Want{Digest: digest, Nonce: big.NewInt(7), Roots: pool(root)}); err != nil {
		t.Fatalf("a time stamp put together like the bad ones: %v", err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := rfc3161.Check(test.data, rfc3161.Want{Digest: digest, Nonce: big.NewInt(7), Roots: pool(root)})
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %+v, %v; want %q", got, err, test.says)
			}
		})
	}
}

func signedBySHA1(t *testing.T, info []byte, by tsatest.Identity) []byte {
	t.Helper()
	data := tsatest.Sign(info, tstInfo, named, by)
	sha256, err := asn1.Marshal(pkcs7.OIDDigestAlgorithmSHA256)
	if err != nil {
		t.Fatal(err)
	}
	sha1, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26})
	if err != nil {
		t.Fatal(err)
	}
	// Padded, so that all lengths around it stay: what is looked at comes first.
	end := bytes.LastIndex(data, sha256)
	short := append(bytes.Clone(data[:end]), sha1...)
	short = append(short, make([]byte, len(sha256)-len(sha1))...)
	return append(short, data[end+len(sha256):]...)
}

// TestWhatHasExpiredSinceIsAsGood: what counts is the time stamped. The other library
// is no oracle here, it goes by the clock of the signer as well.
func TestWhatHasExpiredSinceIsAsGood(t *testing.T) {
	tsa := root.NewTSA(tsatest.NewKey(""), func(c *x509.Certificate) { c.NotAfter = at.AddDate(-5, 0, 0) })
	then := at.AddDate(-6, 0, 0)
	got, err := rfc3161.Check(tsa.Stamp(asked(), then, nil), rfc3161.Want{Digest: digest, Roots: pool(root)})
	if err != nil || !got.Time.Equal(then) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestWithoutRootsAnyCertificateWillDo, which is what to do when nobody is trusted;
// it still has to be for time stamps.
func TestWithoutRootsAnyCertificateWillDo(t *testing.T) {
	own := tsatest.NewRoot("stranger.test").NewTSA(tsatest.NewKey(""), nil)
	if _, err := rfc3161.Check(own.Stamp(asked(), at, nil), rfc3161.Want{Digest: digest}); err != nil {
		t.Error(err)
	}
}

// TestAnotherKeyOfTheSameName is refused: what is signed names the certificate.
func TestAnotherKeyOfTheSameName(t *testing.T) {
	tsa := root.NewTSA(tsatest.NewKey(""), nil)
	twin := tsatest.Identity{Certificate: tsa.Certificate, Key: tsatest.NewKey("")}
	if _, err := rfc3161.Check(twin.Stamp(asked(), at, nil), rfc3161.Want{Digest: digest, Roots: pool(root)}); err == nil || !strings.Contains(err.Error(), "signature that does not verify") {
		t.Errorf("got %v", err)
	}
}

// TestEveryByteCounts flips every byte of a time stamp. What is accepted all the same
// says the same: it is in parts nobody signed.
func TestEveryByteCounts(t *testing.T) {
	good := root.NewTSA(tsatest.NewKey(""), nil).Stamp(asked(), at, nil)
	want := rfc3161.Want{Digest: digest, Nonce: big.NewInt(7), Roots: pool(root)}
	said, err := rfc3161.Check(good, want)
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if got, err := rfc3161.Check(bad, want); err == nil {
			accepted++
			if *got != *said {
				t.Errorf("byte %d: got %+v", i, got)
			}
		}
	}
	if accepted > len(good)/20 {
		t.Errorf("%d of %d flipped bytes were accepted", accepted, len(good))
	}
}

// TestStoredStampsStayGood reads time stamps that were made by openssl 3.0 with RSA
// and ECDSA, in November 2026.
func TestStoredStampsStayGood(t *testing.T) {
	pem := read(t, "testdata/ca.pem")
	roots, err := rfc3161.ReadRoots(pem)
	if err != nil {
		t.Fatal(err)
	}
	over := sha256.Sum256(read(t, "testdata/stamped.txt"))
	for _, name := range []string{"ecdsa", "rsa"} {
		got, err := rfc3161.Check(read(t, "testdata/"+name+".tsr"), rfc3161.Want{Digest: over, Roots: roots})
		if err != nil {
			t.Fatal(name, err)
		}
		if got.Time.Year() != 2026 || got.TSA != "CN=TSA "+name || got.Policy != "1.3.6.1.4.1.99999.1" || got.Accuracy != time.Second {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// FuzzCheck never panics, and accepts nothing that does not say what was stamped.
func FuzzCheck(f *testing.F) {
	for _, name := range []string{"ecdsa", "rsa"} {
		f.Add(read(f, "testdata/"+name+".tsr"))
	}
	rejected, err := timestamp.CreateErrorResponse(timestamp.Rejection, timestamp.BadAlgorithm)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rejected)
	roots, err := rfc3161.ReadRoots(read(f, "testdata/ca.pem"))
	if err != nil {
		f.Fatal(err)
	}
	over := sha256.Sum256(read(f, "testdata/stamped.txt"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = rfc3161.Check(data, rfc3161.Want{Digest: over})
		got, err := rfc3161.Check(data, rfc3161.Want{Digest: over, Roots: roots})
		if err == nil && !strings.HasPrefix(got.TSA, "CN=TSA ") {
			t.Errorf("got %+v", got)
		}
	})
}
