package osstest

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithmV4     = "OSS4-HMAC-SHA256"
	terminatorV4    = "aliyun_v4_request"
	productV4       = "oss"
	unsignedPayload = "UNSIGNED-PAYLOAD"
	timeV4          = "20060102T150405Z"
	dayV4           = "20060102"
	maxSkew         = 15 * time.Minute
	maxExpires      = 7 * 24 * time.Hour // of a presigned V4 URL
)

// authorization is what a request says of its signature, in its header or its
// query.
type authorization struct {
	V4                     bool
	KeyID, Signature       string
	Day, Region, Product   string   // V4
	Additional             []string // V4: headers signed beside those that always are
	presigned              bool
	token                  string
	timestamp, contentHash string // V4
	expires                string // of what is presigned: seconds, as written
}

// parseAuthorization reads an Authorization header of V1 or V4.
func parseAuthorization(header string) (authorization, error) {
	scheme, rest, _ := strings.Cut(header, " ")
	switch scheme {
	case "OSS":
		id, signature, ok := strings.Cut(rest, ":")
		if !ok || id == "" || signature == "" || strings.ContainsAny(rest, " ,") {
			return authorization{}, errAuthorization
		}
		return authorization{KeyID: id, Signature: signature}, nil
	case algorithmV4:
		return parseV4(rest)
	}
	return authorization{}, errAuthorization
}

func parseV4(fields string) (authorization, error) {
	values := map[string]string{}
	for field := range strings.SplitSeq(fields, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(field), "=")
		if _, twice := values[name]; !ok || value == "" || twice {
			return authorization{}, errAuthorization
		}
		if name != "Credential" && name != "AdditionalHeaders" && name != "Signature" {
			return authorization{}, errAuthorization
		}
		values[name] = value
	}
	if values["Credential"] == "" || values["Signature"] == "" {
		return authorization{}, errAuthorization
	}
	a := authorization{V4: true, Signature: values["Signature"]}
	if list := values["AdditionalHeaders"]; list != "" {
		a.Additional = strings.Split(list, ";")
	}
	return a, a.scope(values["Credential"])
}

// scope reads KEYID/DAY/REGION/PRODUCT/aliyun_v4_request.
func (a *authorization) scope(credential string) error {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || slices.Contains(parts, "") {
		return errAuthorization
	}
	if _, err := time.Parse(dayV4, parts[1]); err != nil {
		return errSigningDate
	}
	if parts[4] != terminatorV4 {
		return errSigningTerminal
	}
	a.KeyID, a.Day, a.Region, a.Product = parts[0], parts[1], parts[2], parts[3]
	return nil
}

func (a authorization) header() string {
	if !a.V4 {
		return "OSS " + a.KeyID + ":" + a.Signature
	}
	additional := ""
	if len(a.Additional) > 0 {
		additional = ",AdditionalHeaders=" + strings.Join(a.Additional, ";")
	}
	return fmt.Sprintf("%s Credential=%s/%s/%s/%s/%s%s,Signature=%s", algorithmV4,
		a.KeyID, a.Day, a.Region, a.Product, terminatorV4, additional, a.Signature)
}

// authorization finds how the request is signed.
func (c *call) authorization() (authorization, error) {
	if header := c.r.Header.Get("Authorization"); header != "" {
		a, err := parseAuthorization(header)
		a.token = c.r.Header.Get("X-Oss-Security-Token")
		a.contentHash = c.r.Header.Get("X-Oss-Content-Sha256")
		a.timestamp = c.r.Header.Get("X-Oss-Date")
		if a.timestamp == "" {
			a.timestamp = c.r.Header.Get("Date")
		}
		return a, err
	}
	if c.query.has("x-oss-signature") {
		a := authorization{
			V4: true, presigned: true, contentHash: unsignedPayload,
			Signature: c.query.get("x-oss-signature"), token: c.query.get("x-oss-security-token"),
			timestamp: c.query.get("x-oss-date"), expires: c.query.get("x-oss-expires"),
		}
		if c.query.get("x-oss-signature-version") != algorithmV4 {
			return a, argument("x-oss-signature-version", c.query.get("x-oss-signature-version"), "Only "+algorithmV4+" is supported.")
		}
		if list := c.query.get("x-oss-additional-headers"); list != "" {
			a.Additional = strings.Split(list, ";")
		}
		return a, a.scope(c.query.get("x-oss-credential"))
	}
	if c.query.has("Signature") {
		return authorization{
			presigned: true, KeyID: c.query.get("OSSAccessKeyId"), Signature: c.query.get("Signature"),
			expires: c.query.get("Expires"), token: c.query.get("security-token"),
		}, nil
	}
	return authorization{}, errAnonymous
}

// authenticate returns whose request it is. The error says why nobody's.
func (c *call) authenticate() (Credentials, error) {
	a, err := c.authorization()
	if err != nil {
		return Credentials{}, err
	}
	if err := a.checkScope(c.s.options.Region); err != nil {
		return Credentials{}, err
	}
	if err := c.checkTime(a); err != nil {
		return Credentials{}, err
	}
	owner, err := c.s.lookUp(a.KeyID, a.token, c.now)
	if err != nil {
		return Credentials{}, err
	}
	text, signature := c.sign(a, owner.AccessKeySecret)
	if !hmac.Equal([]byte(signature), []byte(a.Signature)) {
		return Credentials{}, errSignature.with("OSSAccessKeyId", a.KeyID).
			with("SignatureProvided", a.Signature).with("StringToSign", text)
	}
	return owner, nil
}

func (a authorization) checkScope(region string) error {
	switch {
	case !a.V4:
		return nil
	case a.Product != productV4:
		return errSigningProduct
	case a.Region != region:
		return errSigningRegion
	case a.contentHash != unsignedPayload:
		return argument("x-oss-content-sha256", a.contentHash, "The x-oss-content-sha256 must be "+unsignedPayload+".")
	}
	return nil
}

func (c *call) checkTime(a authorization) error {
	if a.presigned && !a.V4 {
		at, err := strconv.ParseInt(a.expires, 10, 64)
		if err != nil {
			return argument("Expires", a.expires, "Invalid date (should be seconds since epoch).")
		}
		if c.clock.Unix() > at {
			return errExpiredRequest.with("Expires", time.Unix(at, 0).UTC().Format(xmlTime)).with("ServerTime", c.clock.Format(xmlTime))
		}
		return nil
	}
	at, err := c.signedAt(a)
	if err != nil {
		return err
	}
	if a.V4 && at.Format(dayV4) != a.Day {
		return errSigningDate
	}
	if a.presigned {
		return c.checkExpires(a, at)
	}
	if c.clock.Sub(at).Abs() > maxSkew {
		return c.skewed(at)
	}
	return nil
}

func (c *call) skewed(at time.Time) error {
	return errSkewed.with("MaxAllowedSkewMilliseconds", strconv.FormatInt(maxSkew.Milliseconds(), 10)).
		with("RequestTime", at.Format(xmlTime)).with("ServerTime", c.clock.Format(xmlTime))
}

func (c *call) checkExpires(a authorization, at time.Time) error {
	seconds, err := strconv.ParseInt(a.expires, 10, 64)
	if err != nil || seconds < 1 || seconds > int64(maxExpires/time.Second) {
		return argument("x-oss-expires", a.expires, "Invalid expires: 1 to 604800 seconds.")
	}
	end := at.Add(time.Duration(seconds) * time.Second)
	switch {
	case at.Sub(c.clock) > maxSkew:
		return c.skewed(at)
	case c.clock.After(end):
		return errExpiredRequest.with("Expires", end.Format(xmlTime)).with("ServerTime", c.clock.Format(xmlTime))
	}
	return nil
}

// signedAt is when the request says it was signed.
func (c *call) signedAt(a authorization) (time.Time, error) {
	text := a.timestamp
	if text == "" {
		return time.Time{}, errNoDate
	}
	if at, err := time.Parse(timeV4, text); err == nil {
		return at, nil
	}
	at, err := http.ParseTime(text)
	if err != nil || a.presigned {
		return time.Time{}, errNoDate
	}
	return at.UTC(), nil
}

// lookUp finds a key. One of STS without its token does not exist for OSS, and
// neither does one with a token that needs none.
func (s *Server) lookUp(id, token string, now time.Time) (Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ofSTS := false, false
	for _, c := range s.credentials {
		if c.AccessKeyID != id {
			continue
		}
		known = true
		ofSTS = ofSTS || c.SecurityToken != ""
		if c.SecurityToken != token {
			continue
		}
		if !c.Expires.IsZero() && !now.Before(c.Expires) {
			return Credentials{}, errTokenExpired
		}
		return c, nil
	}
	if known && ofSTS && token != "" {
		return Credentials{}, errBadToken
	}
	return Credentials{}, errBadKeyID.with("OSSAccessKeyId", id)
}

// sign computes what the signature must be, and the text that it covers.
func (c *call) sign(a authorization, secret string) (text, signature string) {
	if a.V4 {
		request := canonicalRequest(c.r.Method, c.resource(), c.query, c.signedHeaders(a.Additional), a)
		sum := sha256.Sum256([]byte(request))
		text = strings.Join([]string{algorithmV4, a.timestamp,
			a.Day + "/" + a.Region + "/" + a.Product + "/" + terminatorV4, hex.EncodeToString(sum[:])}, "\n")
		return text, hex.EncodeToString(mac(sha256.New, keyV4(secret, a), text))
	}
	date := c.r.Header.Get("Date")
	if a.presigned {
		date = a.expires
	}
	text = stringToSignV1(c.r.Method, c.resource(), date, c.query, c.r.Header)
	return text, base64.StdEncoding.EncodeToString(mac(sha1.New, []byte(secret), text))
}

func mac(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func keyV4(secret string, a authorization) []byte {
	key := []byte("aliyun_v4" + secret)
	for _, text := range []string{a.Day, a.Region, a.Product, terminatorV4} {
		key = mac(sha256.New, key, text)
	}
	return key
}

// resource is what a signature names, however it was addressed.
func (c *call) resource() string {
	if c.bucket == "" {
		return "/"
	}
	return "/" + c.bucket + "/" + c.key
}

// signedHeaders returns the headers that V4 covers, by name in lower case.
func (c *call) signedHeaders(additional []string) map[string]string {
	headers := map[string]string{}
	for name, values := range c.r.Header {
		name = strings.ToLower(name)
		if alwaysSigned(name) || slices.Contains(additional, name) {
			headers[name] = joinValues(values)
		}
	}
	// The http package keeps these two elsewhere.
	if slices.Contains(additional, "host") {
		headers["host"] = c.r.Host
	}
	if slices.Contains(additional, "content-length") && c.r.ContentLength >= 0 {
		headers["content-length"] = strconv.FormatInt(c.r.ContentLength, 10)
	}
	return headers
}

func alwaysSigned(name string) bool {
	return name == "content-type" || name == "content-md5" || strings.HasPrefix(name, "x-oss-")
}

func joinValues(values []string) string {
	trimmed := make([]string, len(values))
	for i, v := range values {
		trimmed[i] = strings.TrimSpace(v)
	}
	return strings.Join(trimmed, ",")
}

// canonicalRequest is what V4 hashes: the documented order of method, resource,
// parameters, headers, names of additional headers and the hash of the body.
func canonicalRequest(method, resource string, query params, headers map[string]string, a authorization) string {
	var pairs, lines []string
	for _, p := range query {
		if p.Name == "x-oss-signature" {
			continue
		}
		pair := escape(p.Name)
		if p.Value != "" {
			pair += "=" + escape(p.Value)
		}
		pairs = append(pairs, pair)
	}
	slices.SortFunc(pairs, byName("="))
	for name, value := range headers {
		lines = append(lines, name+":"+value+"\n")
	}
	slices.SortFunc(lines, byName(":"))
	return strings.Join([]string{
		method, strings.ReplaceAll(escape(resource), "%2F", "/"), strings.Join(pairs, "&"), strings.Join(lines, ""),
		strings.Join(a.Additional, ";"), a.contentHash,
	}, "\n")
}

// byName compares what is before the separator: x-oss-a comes before x-oss-a-b,
// though a hyphen comes before a colon.
func byName(separator string) func(a, b string) int {
	return func(a, b string) int {
		nameA, _, _ := strings.Cut(a, separator)
		nameB, _, _ := strings.Cut(b, separator)
		return strings.Compare(nameA, nameB)
	}
}

// escape leaves letters, digits and -_.~ alone, as RFC 3986 does.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// stringToSignV1 is what V1 signs.
func stringToSignV1(method, resource, date string, query params, h http.Header) string {
	var lines, subs []string
	for name, values := range h {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-oss-") {
			lines = append(lines, name+":"+joinValues(values)+"\n")
		}
	}
	slices.SortFunc(lines, byName(":"))
	for _, p := range query {
		if !signedV1(p.Name) {
			continue
		}
		if p.Value != "" {
			p.Name += "=" + p.Value
		}
		subs = append(subs, p.Name)
	}
	slices.SortFunc(subs, byName("="))
	if len(subs) > 0 {
		resource += "?" + strings.Join(subs, "&")
	}
	return strings.Join([]string{method, h.Get("Content-MD5"), h.Get("Content-Type"), date, strings.Join(lines, "") + resource}, "\n")
}

// signedV1 tells the parameters that name a sub-resource or change the reply:
// only they are part of what V1 signs.
func signedV1(name string) bool {
	return subresources[name] || strings.HasPrefix(name, "response-") || strings.HasPrefix(name, "x-oss-") ||
		slices.Contains([]string{"security-token", "continuation-token", "partNumber", "position", "versionId",
			"wormId", "sequential", "startTime", "endTime", "status", "callback", "callback-var"}, name)
}
