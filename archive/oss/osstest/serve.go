package osstest

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// xmlTime is how OSS writes times in its replies.
const xmlTime = "2006-01-02T15:04:05.000Z"

// params are a request's parameters in the order they came.
type params []param

type param struct{ Name, Value string }

func parseParams(raw string) (params, error) {
	var list params
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, errURI
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, errURI
		}
		list = append(list, param{name, value})
	}
	return list, nil
}

func (p params) has(name string) bool {
	for _, q := range p {
		if q.Name == name {
			return true
		}
	}
	return false
}

func (p params) get(name string) string {
	for _, q := range p {
		if q.Name == name {
			return q.Value
		}
	}
	return ""
}

// call is one request on its way.
type call struct {
	s           *Server
	w           http.ResponseWriter
	r           *http.Request
	id          string
	now         time.Time // of objects
	clock       time.Time // of signatures
	bucket, key string
	query       params

	status int // of the reply, written when no lock is held; 0: it is written
	answer []byte
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{s: s, w: w, r: r, id: randomID(12), now: s.now()}
	s.mu.Lock()
	before := s.before
	c.clock = time.Now().UTC().Add(s.skew)
	s.mu.Unlock()
	w.Header().Set("Server", "AliyunOSS")
	w.Header().Set("X-Oss-Request-Id", c.id)
	w.Header().Set("Date", c.clock.Format(http.TimeFormat))
	err := c.serve(before)
	if err == nil {
		c.finish()
		return
	}
	f := errInternal
	if !errors.As(err, &f) {
		f = errInternal.with("Cause", err.Error())
	}
	if f != errTooLarge {
		// Who still sends a body would see a broken connection instead of the answer.
		io.Copy(io.Discard, r.Body)
	} else {
		w.Header().Set("Connection", "close")
	}
	c.fail(f)
}

func randomID(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return strings.ToUpper(hex.EncodeToString(b))
}

func (c *call) serve(before func(*http.Request) (int, string)) error {
	if before != nil {
		if status, code := before(c.r); status != 0 {
			return &fault{Status: status, Code: code, Message: "Injected by the test."}
		}
	}
	var err error
	if c.query, err = parseParams(c.r.URL.RawQuery); err != nil {
		return err
	}
	if err := c.address(); err != nil {
		return err
	}
	owner, err := c.authenticate()
	if err != nil {
		return err
	}
	action, handle, err := c.route()
	if err != nil {
		return err
	}
	if owner.Allow != nil && !owner.Allow(action, c.arn()) {
		return errForbidden
	}
	if err := c.checkNames(action); err != nil {
		return err
	}
	return handle()
}

// arn is how a RAM policy names what the request is about.
func (c *call) arn() string {
	name := "acs:oss:*:*:" + c.bucket
	if c.key != "" {
		name += "/" + c.key
	}
	return name
}

// address finds bucket and key in host and path.
func (c *call) address() error {
	path := c.r.URL.EscapedPath()
	if !strings.HasPrefix(path, "/") {
		return errURI
	}
	bucket, pathStyle, err := c.s.host(c.r.Host)
	if err != nil {
		return err
	}
	rest := path[1:]
	if bucket == "" {
		if !pathStyle && rest != "" {
			return errSecondLevel
		}
		bucket, rest, _ = strings.Cut(rest, "/")
	}
	if c.bucket, err = url.PathUnescape(bucket); err != nil {
		return errURI
	}
	if c.key, err = url.PathUnescape(rest); err != nil {
		return errURI
	}
	return nil
}

// host tells which bucket a host name stands for, if any, and if not, whether
// the path may name it. OSS allows that at IP addresses alone; here also at
// localhost and [Options.Host].
func (s *Server) host(name string) (bucket string, pathStyle bool, err error) {
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	if net.ParseIP(name) != nil {
		return "", true, nil
	}
	if bucket := s.bound(name); bucket != "" {
		return bucket, false, nil
	}
	for _, own := range []string{"localhost", s.options.Host} {
		if own != "" && name == own {
			return "", true, nil
		}
		if bucket, ok := strings.CutSuffix(name, "."+own); ok && own != "" {
			return bucket, false, nil
		}
	}
	if !strings.HasSuffix(name, ".aliyuncs.com") {
		return "", false, errHost
	}
	endpoint := name
	if first, rest, _ := strings.Cut(name, "."); rest != "aliyuncs.com" {
		bucket, endpoint = first, rest
	}
	switch strings.TrimSuffix(endpoint, ".aliyuncs.com") {
	case "oss-" + s.options.Region, "oss-" + s.options.Region + "-internal", "oss-accelerate", "oss-accelerate-overseas":
		return bucket, false, nil
	}
	return "", false, wrongEndpoint(s.options.Region)
}

func wrongEndpoint(region string) error {
	return (&fault{
		Status: 403, Code: "AccessDenied",
		Message: "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.",
	}).with("Endpoint", "oss-"+region+".aliyuncs.com")
}

// bound is the bucket that has name as its CNAME.
func (s *Server) bound(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.buckets {
		if b.CNAME != "" && b.CNAME == name {
			return b.Name
		}
	}
	return ""
}

// subresources are the parameters that make a request one about something else
// than the bucket or the object itself. True ones are V1's to sign.
var subresources = func() map[string]bool {
	names := map[string]bool{}
	for name := range strings.FieldsSeq(`acl uploads uploadId location delete append tagging objectMeta restore versions
		versioning encryption bucketInfo stat worm wormExtend symlink cors logging website referer lifecycle policy
		replication replicationProgress replicationLocation cname comp qos qosInfo live vod img style styleName
		inventory inventoryId requestPayment transferAcceleration resourceGroup metaQuery asyncFetch regionList
		cloudboxes rtc responseHeader accessmonitor udf udfName udfImage udfId udfImageDesc udfApplication
		udfApplicationLog withHashContext
		objectWorm retention legalHold overwriteConfig bucketArchiveDirectRead publicAccessBlock httpsConfig
		cleanRestoredObject seal redundancyTransition accessPoint accessPointPolicy`) {
		names[name] = true
	}
	return names
}()

type handler func() error

// route picks what answers, and what RAM calls the action.
func (c *call) route() (action string, h handler, err error) {
	var table map[string]map[string]route
	switch {
	case c.bucket == "":
		table = serviceRoutes
	case c.key == "":
		table = bucketRoutes
	default:
		table = objectRoutes
	}
	methods, ok := table[c.r.Method]
	if !ok {
		return "", nil, errMethod
	}
	about := ""
	for _, p := range c.query {
		if _, ok := methods[p.Name]; ok && p.Name != "" {
			if about == "" || p.Name == "wormExtend" {
				about = p.Name // wormId comes with it
			}
			continue
		}
		if subresources[p.Name] || p.Name == "x-oss-process" || p.Name == "x-oss-async-process" {
			return "", nil, unsupported(p.Name)
		}
	}
	r, ok := methods[about]
	if !ok {
		return "", nil, errMethod
	}
	action = "oss:" + r.action
	switch r.action {
	case "GetObject", "DeleteObject", "RestoreObject":
		if c.query.has("versionId") {
			action += "Version" // a right of its own
		}
	}
	return action, func() error { return r.handle(c) }, nil
}

type route struct {
	action string
	handle func(*call) error
}

// Routes by method and by the parameter that decides.
var (
	serviceRoutes = map[string]map[string]route{
		"GET": {"": {"ListBuckets", (*call).listBuckets}},
	}
	bucketRoutes = map[string]map[string]route{
		"GET": {
			"":           {"ListObjects", (*call).listObjects},
			"versions":   {"ListObjectVersions", (*call).listVersions},
			"uploads":    {"ListMultipartUploads", (*call).listUploads},
			"bucketInfo": {"GetBucketInfo", (*call).bucketInfo},
			"location":   {"GetBucketLocation", (*call).bucketLocation},
			"versioning": {"GetBucketVersioning", (*call).getVersioning},
			"encryption": {"GetBucketEncryption", (*call).getEncryption},
			"acl":        {"GetBucketAcl", (*call).getACL},
			"worm":       {"GetBucketWorm", (*call).getWorm},
		},
		"PUT": {
			"":           {"PutBucket", (*call).createBucket},
			"versioning": {"PutBucketVersioning", (*call).putVersioning},
		},
		"POST": {
			"delete":     {"DeleteObject", (*call).deleteObjects},
			"worm":       {"InitiateBucketWorm", (*call).initiateWorm},
			"wormId":     {"CompleteBucketWorm", (*call).completeWorm},
			"wormExtend": {"ExtendBucketWorm", (*call).extendWorm},
		},
		"DELETE": {
			"":     {"DeleteBucket", (*call).deleteBucket},
			"worm": {"AbortBucketWorm", (*call).abortWorm},
		},
	}
	objectRoutes = map[string]map[string]route{
		"GET": {
			"":         {"GetObject", (*call).getObject},
			"uploadId": {"ListParts", (*call).listParts},
			"acl":      {"GetObjectAcl", (*call).getACL},
		},
		"HEAD": {
			"":           {"GetObject", (*call).headObject},
			"objectMeta": {"GetObject", (*call).objectMeta},
		},
		"PUT": {
			"":         {"PutObject", (*call).putObject},
			"uploadId": {"PutObject", (*call).uploadPart},
		},
		"POST": {
			"uploads":  {"PutObject", (*call).initiateUpload},
			"uploadId": {"PutObject", (*call).completeUpload},
			"restore":  {"RestoreObject", (*call).restoreObject},
		},
		"DELETE": {
			"":         {"DeleteObject", (*call).deleteObject},
			"uploadId": {"AbortMultipartUpload", (*call).abortUpload},
		},
	}
)

// checkNames refuses what cannot be a bucket or a key, and what is elsewhere.
func (c *call) checkNames(action string) error {
	if c.bucket == "" {
		return nil
	}
	if !validBucketName(c.bucket) {
		return errBucketName
	}
	if err := validKey(c.key); c.key != "" && err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	b := c.s.buckets[c.bucket]
	if b == nil && action != "oss:PutBucket" {
		return errNoBucket
	}
	if b != nil && b.Region != c.s.options.Region {
		return wrongEndpoint(b.Region)
	}
	return nil
}

func validBucketName(name string) bool {
	if len(name) < 3 || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func validKey(key string) error {
	switch {
	case len(key) > 1023:
		return errKeyLength
	case key == "" || key[0] == '/' || key[0] == '\\' || !utf8.ValidString(key):
		return errKeyName
	}
	return nil
}

// change calls f on the bucket while no other request can touch it.
func (c *call) change(f func(*bucket) error) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	b := c.s.buckets[c.bucket]
	if b == nil {
		return errNoBucket
	}
	return f(b)
}

// maxXML is more than a request of 1000 keys or 10000 parts needs.
const maxXML = 4 << 20

// readXML reads a body that must be one element of v's name and nothing else. A
// digest, if sent, must be right.
func (c *call) readXML(v any) error {
	body, err := io.ReadAll(io.LimitReader(c.r.Body, maxXML+1))
	if err != nil {
		return errBody
	}
	if err := checkDigest(c.r.Header, body); err != nil {
		return err
	}
	return decodeXML(body, v)
}

func decodeXML(body []byte, v any) error {
	if len(body) > maxXML {
		return errXML
	}
	d := xml.NewDecoder(strings.NewReader(string(body)))
	if err := d.Decode(v); err != nil {
		return errXML
	}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errXML
		}
		switch token := token.(type) {
		case xml.CharData:
			if strings.TrimSpace(string(token)) != "" {
				return errXML
			}
		case xml.Comment, xml.ProcInst:
		default:
			return errXML
		}
	}
}

// reply answers with an element, once the handler is through.
func (c *call) reply(status int, v any) error {
	c.answer = encodeXML(v)
	c.w.Header().Set("Content-Type", "application/xml")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(c.answer)))
	return c.done(status)
}

// done answers without a body, once the handler is through.
func (c *call) done(status int) error {
	c.status = status
	return nil
}

// finish writes the answer. Who reads it slowly keeps nobody else waiting.
func (c *call) finish() {
	if c.status == 0 {
		return
	}
	c.w.WriteHeader(c.status)
	c.w.Write(c.answer)
}
