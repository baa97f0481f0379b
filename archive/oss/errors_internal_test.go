package oss

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

func TestWordsOfAServerAreShortAndPlain(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	resp := &oss.Response{StatusCode: 403, Headers: http.Header{"X-Oss-Request-Id": {"id\x1b[2J" + long}}}
	err := newRefusal("oss:GetObject", resp, oss.ServiceError{Code: "AccessDenied" + long, Message: "no\u009b2J\n" + long + "\u00e9", Endpoint: long})
	text := err.Error()
	if len(text) > 1000 || strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text) {
		t.Errorf("got %d bytes: %.600q", len(text), text)
	}
}

func TestWhichErrorsMayPass(t *testing.T) {
	request := func(err error) error { return &url.Error{Op: "Put", URL: "http://b.oss.invalid/a", Err: err} }
	tests := []struct {
		err  error
		want bool
	}{
		{request(io.EOF), true},
		{request(&net.OpError{Op: "read", Err: syscall.ECONNRESET}), true},
		{request(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), true},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		{io.ErrUnexpectedEOF, true},
		{again{errors.New("once more")}, true},
		{request(&net.DNSError{IsTemporary: true}), true},
		{request(&net.DNSError{IsNotFound: true}), false},
		{request(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), false},
		{request(x509.HostnameError{Certificate: new(x509.Certificate)}), false},
		{request(context.Canceled), false},
		{request(&bodyError{errors.New("the disk broke")}), false},
		{errors.New("an answer that cannot be read"), false},
		{fs.ErrExist, false},
		{&credentialError{errors.New("none"), false}, false},
		{&credentialError{errors.New("away"), true}, true},
		{&refusal{status: 501, code: "NotImplemented"}, false},
		{&refusal{status: 503}, true},
		{&refusal{status: 409, code: "FileAlreadyExists"}, false},
		{&refusal{status: 404, code: "NoSuchKey"}, false},
		{fmt.Errorf("wrapped: %w", &refusal{status: 500, code: "InternalError"}), true},
	}
	s := &Store{}
	for _, test := range tests {
		if got := s.temporary(test.err); got != test.want {
			t.Errorf("%v: got %t, want %t", test.err, got, test.want)
		}
	}
	// A name that was found before is looked for again.
	s.reached.Store(true)
	if !s.temporary(request(&net.DNSError{IsNotFound: true})) {
		t.Error("a host that answered before is not looked for again")
	}
}
