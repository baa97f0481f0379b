package local

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/common"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// signed builds a ListTable request signed by the SDK's own helper, of a given
// date, which edit may change before it is signed.
func signed(t *testing.T, url string, who common.Credentials, date time.Time, edit func(http.Header)) *http.Request {
	t.Helper()
	r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "POST", url+"/ListTable", nil))
	sum := md5.Sum(nil)
	r.Header.Set(headerDate, date.UTC().Format("2006-01-02T15:04:05.000Z"))
	r.Header.Set(headerVersion, apiVersion)
	r.Header.Set(headerKeyID, who.GetAccessKeyID())
	r.Header.Set(headerInstance, "demo")
	r.Header.Set(headerMD5, base64.StdEncoding.EncodeToString(sum[:]))
	tablestore.AddExtraHeader(r, who)
	if edit != nil {
		edit(r.Header)
	}
	sign := must[string](t)(tablestore.GetSignature("/ListTable", "POST", who, r.Header))
	tablestore.AddSignatureHeader(r, who, sign)
	return r
}

func keyPair(id, secret string) common.Credentials {
	return &common.DefaultCredentials{AccessKeyID: id, AccessKeySecret: secret}
}

func v4(id, secret string) common.Credentials {
	return common.CreateByCredentials(keyPair(id, secret), "cn-test")
}

// answerOf sends a request and returns the code it was answered with, OK for
// none.
func answerOf(t *testing.T, r *http.Request) (code, message string) {
	t.Helper()
	resp := must[*http.Response](t)(http.DefaultClient.Do(r))
	defer resp.Body.Close()
	body := must[[]byte](t)(io.ReadAll(resp.Body))
	if resp.StatusCode == http.StatusOK {
		return "OK", ""
	}
	var e otsprotocol.Error
	if err := proto.Unmarshal(body, &e); err != nil {
		t.Fatalf("status %d without an error: %q", resp.StatusCode, body)
	}
	return e.GetCode(), e.GetMessage()
}

func TestAuthentication(t *testing.T) {
	now := time.Now()
	s := must[*Server](t)(Open(Options{Keys: map[string]string{"ak": "secret"}, Clock: func() time.Time { return now }}))
	defer s.Close()
	h := httptest.NewServer(s)
	defer h.Close()
	right := keyPair("ak", "secret")
	set := func(name, value string) func(http.Header) {
		return func(h http.Header) { h.Set(name, value) }
	}
	for _, test := range []struct {
		name    string
		request *http.Request
		after   func(http.Header) // the signature
		code    string
		message string
	}{
		{name: "signature V2", request: signed(t, h.URL, right, now, nil), code: "OK"},
		{name: "signature V4", request: signed(t, h.URL, v4("ak", "secret"), now, nil), code: "OK"},
		{name: "security token", request: signed(t, h.URL, right, now, set("x-ots-ststoken", "token")), code: "OK"},
		{name: "token not signed", request: signed(t, h.URL, right, now, nil), after: set("x-ots-ststoken", "token"), code: "OTSAuthFailed", message: "Signature mismatch."},
		{name: "unknown key", request: signed(t, h.URL, keyPair("other", "secret"), now, nil), code: "OTSAuthFailed", message: "The AccessKeyID does not exist."},
		{name: "wrong secret", request: signed(t, h.URL, keyPair("ak", "guess"), now, nil), code: "OTSAuthFailed", message: "Signature mismatch."},
		{name: "wrong secret, V4", request: signed(t, h.URL, v4("ak", "guess"), now, nil), code: "OTSAuthFailed", message: "Signature mismatch."},
		{name: "another instance than signed", request: signed(t, h.URL, right, now, nil), after: set(headerInstance, "other"), code: "OTSAuthFailed", message: "Signature mismatch."},
		{name: "15 minutes slow", request: signed(t, h.URL, right, now.Add(-14*time.Minute-59*time.Second), nil), code: "OK"},
		{name: "15 minutes fast", request: signed(t, h.URL, right, now.Add(14*time.Minute+59*time.Second), nil), code: "OK"},
		{name: "more than 15 minutes slow", request: signed(t, h.URL, right, now.Add(-15*time.Minute-time.Second), nil), code: "OTSAuthFailed", message: "Mismatch between system time and x-ots-date"},
		{name: "more than 15 minutes fast", request: signed(t, h.URL, right, now.Add(15*time.Minute+time.Second), nil), code: "OTSAuthFailed", message: "Mismatch between system time and x-ots-date"},
		{name: "no fraction", request: signed(t, h.URL, right, now, set(headerDate, now.UTC().Format("2006-01-02T15:04:05Z"))), code: "OK"},
		{name: "six digits", request: signed(t, h.URL, right, now, set(headerDate, now.UTC().Format("2006-01-02T15:04:05.000000Z"))), code: "OK"},
		{name: "no date", request: signed(t, h.URL, right, now, set(headerDate, "today")), code: "OTSParameterInvalid", message: "Invalid date format: today."},
		{name: "V4 of another day", request: signed(t, h.URL, v4("ak", "secret"), now, nil), after: set(headerSignDate, now.AddDate(0, 0, -2).UTC().Format("20060102")), code: "OTSAuthFailed", message: "x-ots-signdate"},
		{name: "another body", request: signed(t, h.URL, right, now, set(headerMD5, "AAAA")), code: "OTSAuthFailed", message: "Mismatch between MD5 value"},
		{name: "another API", request: signed(t, h.URL, right, now, set(headerVersion, "2014-08-08")), code: "OTSParameterInvalid", message: "Invalid API version"},
		{name: "compressed", request: signed(t, h.URL, right, now, set(headerCompress, "deflate")), code: "OTSUnsupportOperation", message: "compressed"},
		{name: "no signature", request: signed(t, h.URL, right, now, nil), after: func(h http.Header) { h.Del(headerSignature) }, code: "OTSParameterInvalid", message: "Missing header: 'x-ots-signature'."},
		{name: "no instance", request: signed(t, h.URL, right, now, nil), after: func(h http.Header) { h.Del(headerInstance) }, code: "OTSParameterInvalid", message: "Missing header: 'x-ots-instancename'."},
		{name: "bad instance", request: signed(t, h.URL, right, now, set(headerInstance, "no_underscore")), code: "OTSParameterInvalid", message: "Invalid instance name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.after != nil {
				test.after(test.request.Header)
			}
			code, message := answerOf(t, test.request)
			if code != test.code || !strings.Contains(message, test.message) {
				t.Errorf("answered %s %q, want %s %q", code, message, test.code, test.message)
			}
		})
	}
}

func TestOnlyPostsOfAReasonableSizeAreRead(t *testing.T) {
	s, _ := serve(t, Options{})
	for _, test := range []struct {
		method string
		size   int
		code   string
	}{
		{"GET", 0, "OTSMethodNotAllowed"},
		{"PUT", 0, "OTSMethodNotAllowed"},
		{"POST", maxBody + 1, "OTSRequestBodyTooLarge"},
		{"POST", maxBody, "OTSParameterInvalid"}, // read, and not signed
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(test.method, "/ListTable", bytes.NewReader(make([]byte, test.size))))
		var e otsprotocol.Error
		if err := proto.Unmarshal(w.Body.Bytes(), &e); err != nil || e.GetCode() != test.code {
			t.Errorf("%s of %d bytes is answered %q (%v), want %s", test.method, test.size, e.GetCode(), err, test.code)
		}
	}
}

// TestAnswersAreSigned: what the stricter SDKs check of an answer.
func TestAnswersAreSigned(t *testing.T) {

	s := must[*Server](t)(Open(Options{}))
	defer s.Close()
	h := httptest.NewServer(s)
	defer h.Close()
	for _, who := range []common.Credentials{keyPair(DefaultAccessKeyID, DefaultAccessKeySecret), v4(DefaultAccessKeyID, DefaultAccessKeySecret)} {
		resp := must[*http.Response](t)(http.DefaultClient.Do(signed(t, h.URL, who, time.Now(), nil)))
		body := must[[]byte](t)(io.ReadAll(resp.Body))
		resp.Body.Close()
		sum := md5.Sum(body)
		if got, want := resp.Header.Get(headerMD5), base64.StdEncoding.EncodeToString(sum[:]); got != want {
			t.Errorf("content MD5 %s, want %s", got, want)
		}
		if len(resp.Header.Get(headerRequestID)) != 32 || resp.Header.Get(headerContentType) != "protocol buffer" {
			t.Errorf("headers %v", resp.Header)
		}
		if _, err := time.Parse("2006-01-02T15:04:05.000Z", resp.Header.Get(headerDate)); err != nil {
			t.Error(err)
		}
		text := headerMD5 + ":" + resp.Header.Get(headerMD5) + "\n" +
			headerContentType + ":protocol buffer\n" +
			headerDate + ":" + resp.Header.Get(headerDate) + "\n" +
			headerRequestID + ":" + resp.Header.Get(headerRequestID) + "\n/ListTable"
		m := common.GetHmac("HmacSHA1", []byte(DefaultAccessKeySecret))
		m.Write([]byte(text))
		want := "OTS " + DefaultAccessKeyID + ":" + base64.StdEncoding.EncodeToString(m.Sum(nil))
		if got := resp.Header.Get("Authorization"); got != want {
			t.Errorf("Authorization %s, want %s", got, want)
		}
	}
}
