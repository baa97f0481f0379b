package osstest

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kept are the headers OSS stores with an object and returns with it, beside
// x-oss-meta-*.
var kept = []string{"content-type", "content-encoding", "content-language", "content-disposition", "cache-control", "expires"}

const (
	metaPrefix = "x-oss-meta-"
	maxMeta    = 8 << 10 // bytes of user metadata, names and values
)

// refusedHeaders change what OSS does with an object in ways this server does
// not know.
var refusedHeaders = []string{
	"x-oss-tagging", "x-oss-callback", "x-oss-symlink-target", "x-oss-traffic-limit", "x-oss-request-payer",
	"x-oss-server-side-data-encryption", "x-oss-server-side-encryption-customer-algorithm",
	"x-oss-server-side-encryption-customer-key", "x-oss-server-side-encryption-customer-key-md5",
	"x-oss-object-worm-mode", "x-oss-object-worm-retain-until-date", "x-oss-object-worm-legal-hold",
}

// newVersion is the object that a request's headers describe, without content.
func (c *call) newVersion() (*version, error) {
	v := &version{Key: c.key, Type: "Normal", Header: map[string]string{}}
	if err := c.headers(v); err != nil {
		return nil, err
	}
	if err := c.class(v); err != nil {
		return nil, err
	}
	return v, c.encryption(v)
}

func (c *call) headers(v *version) error {
	meta := 0
	for name, values := range c.r.Header {
		name, value := strings.ToLower(name), joinValues(values)
		if slices.Contains(refusedHeaders, name) {
			return unsupported(name)
		}
		if strings.HasPrefix(name, metaPrefix) {
			meta += len(name) - len(metaPrefix) + len(value)
			v.Header[name] = value
		}
		if slices.Contains(kept, name) {
			v.Header[name] = value
		}
	}
	if meta > maxMeta {
		return argument("x-oss-meta", strconv.Itoa(meta), "The total size of the user metadata exceeds 8 KB.")
	}
	if acl := c.r.Header.Get("X-Oss-Object-Acl"); acl != "" && acl != "default" && acl != "private" {
		return unsupported("x-oss-object-acl")
	}
	return nil
}

// class sets the storage class; an empty one is the bucket's, known when the
// object is added.
func (c *call) class(v *version) error {
	v.Class = c.r.Header.Get("X-Oss-Storage-Class")
	if v.Class != "" && !slices.Contains(classes, v.Class) {
		return argument("x-oss-storage-class", v.Class, "The storage class is not valid.")
	}
	return nil
}

func (c *call) encryption(v *version) error {
	v.Encryption = encryption{
		c.r.Header.Get("X-Oss-Server-Side-Encryption"),
		c.r.Header.Get("X-Oss-Server-Side-Encryption-Key-Id"),
	}
	switch {
	case v.Encryption.Algorithm == "KMS", v.Encryption == encryption{"AES256", ""}, v.Encryption == encryption{}:
		return nil
	case v.Encryption.KeyID != "" && v.Encryption.Algorithm != "":
		return argument("x-oss-server-side-encryption-key-id", v.Encryption.KeyID, "The key id is of KMS alone.")
	}
	return errEncryption
}

// settle fills in what the bucket decides for objects that do not say.
func (b *bucket) settle(v *version) {
	if v.Class == "" {
		v.Class = b.Class
	}
	if v.Encryption.Algorithm == "" {
		v.Encryption = b.Encryption
	}
}

func (c *call) forbidOverwrite() (forbid, error) {
	switch value := c.r.Header.Get("X-Oss-Forbid-Overwrite"); value {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, argument("x-oss-forbid-overwrite", value, "The x-oss-forbid-overwrite must be true or false.")
	}
}

func (c *call) putObject() error {
	if c.r.Header.Get("X-Oss-Copy-Source") != "" {
		return c.copyObject()
	}
	v, err := c.newVersion()
	if err != nil {
		return err
	}
	forbidOverwrite, err := c.forbidOverwrite()
	if err != nil {
		return err
	}
	got, err := c.body()
	if err != nil {
		return err
	}
	v.take(got)
	if err := c.commit(v, forbidOverwrite); err != nil {
		return err
	}
	c.w.Header().Set("Content-MD5", v.MD5)
	return c.done(http.StatusOK)
}

// commit adds v to the bucket and puts in the reply what says so. The bytes of
// what is refused are removed.
func (c *call) commit(v *version, forbidOverwrite forbid) error {
	err := c.change(func(b *bucket) error {
		b.settle(v)
		if err := c.s.add(b, v, forbidOverwrite, c.s.now()); err != nil {
			return err
		}
		c.setVersion(b, v)
		return nil
	})
	if err != nil {
		c.s.blobs.remove(v.Blob)
		return err
	}
	c.setDigests(v)
	c.setEncryption(v)
	return nil
}

func (c *call) setVersion(b *bucket, v *version) {
	if b.Versioning != "" {
		c.w.Header().Set("X-Oss-Version-Id", v.ID)
	}
}

func (c *call) setDigests(v *version) {
	c.w.Header().Set("ETag", quote(v.ETag))
	c.w.Header().Set("X-Oss-Hash-Crc64ecma", formatCRC(v.CRC))
}

func (c *call) setEncryption(v *version) {
	if v.Encryption.Algorithm != "" {
		c.w.Header().Set("X-Oss-Server-Side-Encryption", v.Encryption.Algorithm)
	}
	if v.Encryption.KeyID != "" {
		c.w.Header().Set("X-Oss-Server-Side-Encryption-Key-Id", v.Encryption.KeyID)
	}
}

func quote(etag string) string { return `"` + etag + `"` }

// look finds the version a request names and puts all that is known of it in the
// reply.
func (c *call) look(then func(b *bucket, v *version) error) error {
	return c.change(func(b *bucket) error {
		v, err := b.readable(c.key, c.query.get("versionId"))
		if err != nil {
			return err
		}
		if err := preconditions(v, c.r.Header, ""); err != nil {
			return err
		}
		if err := then(b, v); err != nil {
			return err
		}
		c.setVersion(b, v)
		c.setDigests(v)
		c.w.Header().Set("Last-Modified", v.Modified.Format(http.TimeFormat))
		return nil
	})
}

// setAll puts in the reply what a GET or a HEAD says beside look.
func (c *call) setAll(v *version) {
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	for name, value := range v.Header {
		h.Set(name, value)
	}
	for _, p := range c.query {
		if name, ok := strings.CutPrefix(p.Name, "response-"); ok && slices.Contains(kept, name) {
			h.Set(name, p.Value)
		}
	}
	h.Set("Accept-Ranges", "bytes")
	h.Set("X-Oss-Object-Type", v.Type)
	h.Set("X-Oss-Storage-Class", v.Class)
	if v.MD5 != "" {
		h.Set("Content-MD5", v.MD5)
	}
	if state := v.Restore.describe(c.now); state != "" {
		h.Set("X-Oss-Restore", state)
	}
	c.setEncryption(v)
}

func (c *call) headObject() error {
	err := c.look(func(_ *bucket, v *version) error {
		c.setAll(v)
		c.w.Header().Set("Content-Length", strconv.FormatInt(v.Size, 10))
		return nil
	})
	if err != nil {
		return err
	}
	return c.done(http.StatusOK)
}

func (c *call) objectMeta() error {
	err := c.look(func(_ *bucket, v *version) error {
		c.w.Header().Set("Content-Length", strconv.FormatInt(v.Size, 10))
		return nil
	})
	if err != nil {
		return err
	}
	return c.done(http.StatusOK)
}

func (c *call) getObject() error {
	var body io.ReadSeekCloser
	var part span
	var size int64
	err := c.look(func(_ *bucket, v *version) error {
		if v.frozen(c.now) {
			return errFrozen
		}
		var err error
		if part, err = rangeOf(c.r.Header, v.Size); err != nil {
			return err
		}
		if body, err = c.s.blobs.open(v.Blob); err != nil {
			return err
		}
		size = v.Size
		c.setAll(v)
		return nil
	})
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := body.Seek(part.From, io.SeekStart); err != nil {
		return err
	}
	status := http.StatusOK
	if part.Partial {
		status = http.StatusPartialContent
		c.w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.From, part.From+part.Size-1, size))
	}
	c.w.Header().Set("Content-Length", strconv.FormatInt(part.Size, 10))
	c.w.WriteHeader(status)
	if n, err := io.CopyN(c.w, body, part.Size); err != nil && n < part.Size {
		panic(http.ErrAbortHandler) // the reply is under way: break it off, as a server that dies
	}
	return nil
}

// span is the part of an object that a request asks for.
type span struct {
	From, Size int64
	Partial    bool
}

// rangeOf reads the Range header as OSS does: of several the first counts, and
// one that is malformed or leaves the object is as none, unless
// x-oss-range-behavior asks for the standard's rules.
func rangeOf(h http.Header, size int64) (span, error) {
	whole := span{Size: size}
	text, ok := strings.CutPrefix(h.Get("Range"), "bytes=")
	if !ok {
		return whole, nil
	}
	text, _, _ = strings.Cut(text, ",")
	standard := h.Get("X-Oss-Range-Behavior") == "standard"
	first, last, ok := strings.Cut(strings.TrimSpace(text), "-")
	from, errFrom := strconv.ParseInt(first, 10, 64)
	to, errTo := strconv.ParseInt(last, 10, 64)
	if last == "" && errFrom == nil {
		to, errTo = max(size-1, from), nil
	}
	switch {
	case !ok:
		return whole, nil
	case first == "" && errTo == nil && to > 0: // the last bytes
		if to > size && !standard {
			return whole, nil
		}
		from, to = max(size-to, 0), size-1
	case errFrom != nil || errTo != nil || from < 0 || to < from:
		return whole, nil
	case to >= size && from < size && standard:
		to = size - 1
	}
	if from >= size || to >= size {
		if standard {
			return span{}, &fault{Status: errRange.Status, Code: errRange.Code, Message: errRange.Message,
				Header: map[string]string{"Content-Range": fmt.Sprintf("bytes */%d", size)}}
		}
		return whole, nil
	}
	return span{From: from, Size: to - from + 1, Partial: true}, nil
}

// preconditions checks the If- headers, whose names may have a prefix.
func preconditions(v *version, h http.Header, prefix string) error {
	etag := func(name string) (string, bool) {
		value := h.Get(prefix + name)
		return strings.Trim(value, `"`), value != ""
	}
	since := func(name string) (time.Time, bool) {
		at, err := http.ParseTime(h.Get(prefix + name))
		return at, err == nil
	}
	modified := v.Modified.Truncate(time.Second) // as the header says it
	if want, ok := etag("If-Match"); ok && want != v.ETag && want != "*" {
		return errPrecondition.with("Condition", prefix+"If-Match")
	}
	if at, ok := since("If-Unmodified-Since"); ok && modified.After(at) {
		return errPrecondition.with("Condition", prefix+"If-Unmodified-Since")
	}
	unchanged := false
	if other, ok := etag("If-None-Match"); ok {
		unchanged = other == v.ETag || other == "*"
	}
	if at, ok := since("If-Modified-Since"); ok {
		unchanged = unchanged || !modified.After(at)
	}
	if !unchanged {
		return nil
	}
	f := *errNotModified
	f.Header = map[string]string{"ETag": quote(v.ETag), "Last-Modified": v.Modified.Format(http.TimeFormat)}
	return &f
}

func (c *call) deleteObject() error {
	return c.change(func(b *bucket) error {
		dropped, marker, err := c.s.drop(b, c.key, c.query.get("versionId"), c.s.now())
		if err != nil {
			return err
		}
		if id := c.query.get("versionId"); id != "" {
			c.w.Header().Set("X-Oss-Version-Id", id)
		}
		if marker != nil {
			c.w.Header().Set("X-Oss-Version-Id", marker.ID)
		}
		if marker != nil || dropped != nil && dropped.Marker {
			c.w.Header().Set("X-Oss-Delete-Marker", "true")
		}
		return c.done(http.StatusNoContent)
	})
}

// deleteRequest is the body of a DeleteMultipleObjects.
type deleteRequest struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool     `xml:"Quiet"`
	Objects []struct {
		Key       string `xml:"Key"`
		VersionID string `xml:"VersionId"`
	} `xml:"Object"`
}

type deleteReply struct {
	XMLName      xml.Name      `xml:"DeleteResult"`
	EncodingType string        `xml:"EncodingType,omitempty"`
	Deleted      []deletedItem `xml:"Deleted"`
}

type deletedItem struct {
	Key             string
	VersionID       string `xml:"VersionId,omitempty"`
	DeleteMarker    bool   `xml:",omitempty"`
	MarkerVersionID string `xml:"DeleteMarkerVersionId,omitempty"`
}

// maxDelete is how many objects one request may delete.
const maxDelete = 1000

// deleteObjects deletes all or, where one of them is retained, none: the reply
// has no place for what failed.
func (c *call) deleteObjects() error {
	encode, err := c.encoding()
	if err != nil {
		return err
	}
	var request deleteRequest
	if err := c.readXML(&request); err != nil {
		return err
	}
	if n := len(request.Objects); n == 0 || n > maxDelete {
		return errXML
	}
	for _, o := range request.Objects {
		if err := validKey(o.Key); err != nil {
			return err
		}
	}
	reply := deleteReply{EncodingType: c.query.get("encoding-type")}
	return c.change(func(b *bucket) error {
		now := c.s.now()
		for _, o := range request.Objects {
			v, err := b.find(o.Key, o.VersionID)
			if err == nil && (o.VersionID != "" || b.Versioning == "") && b.retains(v, now) {
				return errImmutable.with("Key", o.Key)
			}
		}
		for _, o := range request.Objects {
			dropped, marker, err := c.s.drop(b, o.Key, o.VersionID, now)
			if err != nil {
				return err
			}
			item := deletedItem{Key: encode(o.Key), VersionID: o.VersionID}
			switch {
			case marker != nil:
				item.DeleteMarker, item.MarkerVersionID = true, marker.ID
			case dropped != nil && dropped.Marker:
				item.DeleteMarker, item.MarkerVersionID = true, dropped.ID
			}
			reply.Deleted = append(reply.Deleted, item)
		}
		if request.Quiet {
			return c.done(http.StatusOK)
		}
		return c.reply(http.StatusOK, reply)
	})
}

// copySource opens the object that x-oss-copy-source names.
func (c *call) copySource() (*version, io.ReadSeekCloser, error) {
	header := c.r.Header.Get("X-Oss-Copy-Source")
	path, query, _ := strings.Cut(header, "?")
	path, err := url.QueryUnescape(path) // the SDKs write a space as +
	if err != nil {
		return nil, nil, argument("x-oss-copy-source", header, "The copy source is not valid.")
	}
	q, err := parseParams(query)
	name, key, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if err != nil || !ok || validKey(key) != nil {
		return nil, nil, argument("x-oss-copy-source", header, "The copy source is not valid.")
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	b := c.s.buckets[name]
	if b == nil {
		return nil, nil, errNoBucket
	}
	v, err := b.readable(key, q.get("versionId"))
	if err != nil {
		return nil, nil, err
	}
	if err := preconditions(v, c.r.Header, "X-Oss-Copy-Source-"); err != nil {
		return nil, nil, err
	}
	if v.frozen(c.now) {
		return nil, nil, errFrozen
	}
	if b.Versioning != "" {
		c.w.Header().Set("X-Oss-Copy-Source-Version-Id", v.ID)
	}
	body, err := c.s.blobs.open(v.Blob)
	return v, body, err
}

type copyReply struct {
	XMLName      xml.Name
	LastModified string
	ETag         string
}

func (c *call) copyObject() error {
	v, err := c.newVersion()
	if err != nil {
		return err
	}
	forbidOverwrite, err := c.forbidOverwrite()
	if err != nil {
		return err
	}
	source, body, err := c.copySource()
	if err != nil {
		return err
	}
	defer body.Close()
	switch directive := c.r.Header.Get("X-Oss-Metadata-Directive"); directive {
	case "", "COPY":
		v.Header = source.Header
	case "REPLACE":
	default:
		return argument("x-oss-metadata-directive", directive, "The directive must be COPY or REPLACE.")
	}
	got, err := c.s.receive(body, source.Size)
	if err != nil {
		return err
	}
	v.take(got)
	if err := c.commit(v, forbidOverwrite); err != nil {
		return err
	}
	return c.reply(http.StatusOK, copyReply{xml.Name{Local: "CopyObjectResult"}, v.Modified.Format(xmlTime), quote(v.ETag)})
}
