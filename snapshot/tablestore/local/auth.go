package local

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The headers a request is signed with.
const (
	headerDate        = "x-ots-date"
	headerVersion     = "x-ots-apiversion"
	headerKeyID       = "x-ots-accesskeyid"
	headerInstance    = "x-ots-instancename"
	headerMD5         = "x-ots-contentmd5"
	headerSignature   = "x-ots-signature"
	headerSignatureV4 = "x-ots-signaturev4"
	headerSignDate    = "x-ots-signdate"
	headerSignRegion  = "x-ots-signregion"
	headerRequestID   = "x-ots-requestid"
	headerContentType = "x-ots-contenttype"
	headerCompress    = "x-ots-request-compress-type"
)

const (
	apiVersion = "2015-12-31"
	maxSkew    = 15 * time.Minute
)

// authenticate checks that a request was signed by the holder of one of the
// access keys, recently, and over this body. It returns the secret, with which
// the response is signed in turn. A security token is part of what is signed,
// but no token is known here to compare it with.
func (s *Server) authenticate(r *http.Request, body []byte) (secret string, err error) {
	if err := s.checkHeaders(r.Header); err != nil {
		return "", err
	}
	sum := md5.Sum(body)
	if r.Header.Get(headerMD5) != base64.StdEncoding.EncodeToString(sum[:]) {
		return "", authFailed("Mismatch between MD5 value of request body and %s in header.", headerMD5)
	}
	secret, known := s.keys[r.Header.Get(headerKeyID)]
	if !known {
		return "", authFailed("The AccessKeyID does not exist.")
	}
	want, got := s.signature(r, secret)
	if !hmac.Equal([]byte(want), []byte(got)) {
		return "", authFailed("Signature mismatch.")
	}
	return secret, nil
}

func (s *Server) checkHeaders(h http.Header) error {
	required := []string{headerDate, headerVersion, headerKeyID, headerInstance, headerMD5}
	if h.Get(headerSignatureV4) != "" {
		required = append(required, headerSignDate, headerSignRegion)
	} else {
		required = append(required, headerSignature)
	}
	for _, name := range required {
		if h.Get(name) == "" {
			return invalid("Missing header: '%s'.", name)
		}
	}
	if v := h.Get(headerVersion); v != apiVersion {
		return invalid("Invalid API version: '%s'.", v)
	}
	if h.Get(headerCompress) != "" {
		return unsupported("A compressed request body")
	}
	return s.checkDates(h)
}

// checkDates refuses a request of another time. The fraction of a second may
// have any number of digits: the Go SDK writes month, day and hour there.
func (s *Server) checkDates(h http.Header) error {
	now, text := s.clock(), h.Get(headerDate)
	date, err := time.Parse("2006-01-02T15:04:05Z", text)
	if err != nil {
		return invalid("Invalid date format: %s.", text)
	}
	if now.Sub(date).Abs() > maxSkew {
		return authFailed("Mismatch between system time and %s: %s.", headerDate, text)
	}
	if h.Get(headerSignatureV4) == "" {
		return nil
	}
	text = h.Get(headerSignDate)
	day, err := time.Parse("20060102", text)
	if err != nil {
		return invalid("Invalid date format: %s.", text)
	}
	// The day in UTC, with the same skew at its ends.
	if now.Before(day.Add(-maxSkew)) || now.After(day.AddDate(0, 0, 1).Add(maxSkew)) {
		return authFailed("Mismatch between system time and %s: %s.", headerSignDate, text)
	}
	return nil
}

// signature returns what the request's signature should be and what it is.
func (s *Server) signature(r *http.Request, secret string) (want, got string) {
	text := r.URL.Path + "\n" + r.Method + "\n\n" + canonicalHeaders(r.Header)
	if got := r.Header.Get(headerSignatureV4); got != "" {
		key := signingKey(secret, r.Header.Get(headerSignDate), r.Header.Get(headerSignRegion))
		return mac64(sha256.New, []byte(key), text+"ots"), got
	}
	return mac64(sha1.New, []byte(secret), text), r.Header.Get(headerSignature)
}

// signingKey derives the V4 key of a day and a region. Its base64 text, not its
// bytes, is what requests are signed with.
func signingKey(secret, day, region string) string {
	key := mac(sha256.New, []byte("aliyun_v4"+secret), day)
	key = mac(sha256.New, key, region)
	key = mac(sha256.New, key, "ots")
	return mac64(sha256.New, key, "aliyun_v4_request")
}

// canonicalHeaders is every x-ots header with a value but the signatures, by
// name, each on a line.
func canonicalHeaders(h http.Header) string {
	signed := map[string]string{}
	for name, values := range h {
		name = strings.ToLower(name)
		value := strings.TrimSpace(strings.Join(values, ","))
		if strings.HasPrefix(name, "x-ots-") && value != "" && name != headerSignature && name != headerSignatureV4 {
			signed[name] = value
		}
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(signed)) {
		text.WriteString(name + ":" + signed[name] + "\n")
	}
	return text.String()
}

// signResponse says who answered: clients that check compare it with their own.
func signResponse(h http.Header, keyID, secret, path string) {
	text := canonicalHeaders(h) + path
	h.Set("Authorization", "OTS "+keyID+":"+mac64(sha1.New, []byte(secret), text))
}

func mac(algorithm func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(algorithm, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func mac64(algorithm func() hash.Hash, key []byte, text string) string {
	return base64.StdEncoding.EncodeToString(mac(algorithm, key, text))
}
