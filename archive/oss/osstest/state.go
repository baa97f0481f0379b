package osstest

import (
	"cmp"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc64"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Storage classes.
const (
	classStandard        = "Standard"
	classIA              = "IA"
	classArchive         = "Archive"
	classColdArchive     = "ColdArchive"
	classDeepColdArchive = "DeepColdArchive"
)

var classes = []string{classStandard, classIA, classArchive, classColdArchive, classDeepColdArchive}

// Versioning of a bucket; empty is never.
const (
	versioningEnabled   = "Enabled"
	versioningSuspended = "Suspended"
)

// nullVersion is the id of what was written while versioning was not enabled.
const nullVersion = "null"

// bucket is what the server knows of one. It is saved as JSON, the objects and
// uploads beside it.
type bucket struct {
	Name       string
	Created    time.Time
	Region     string
	Class      string
	Versioning string
	CNAME      string
	Encryption encryption
	Worm       *worm `json:",omitempty"`

	keys    []string // of objects, in order
	objects map[string][]*version
	uploads map[string]*upload
}

type encryption struct{ Algorithm, KeyID string }

func newBucket(name string, now time.Time, o BucketOptions) *bucket {
	return &bucket{
		Name: name, Created: now, Region: o.Region, Class: o.Class, Versioning: o.Versioning,
		CNAME: strings.ToLower(o.CNAME), Encryption: encryption{o.Encryption, o.EncryptionKeyID},
		objects: map[string][]*version{}, uploads: map[string]*upload{},
	}
}

// version is one version of an object, or a delete marker. Only its Restore
// changes once it is stored.
type version struct {
	Key, ID    string
	Sequence   uint64 // a newer version has a higher one
	Marker     bool   `json:",omitempty"`
	Modified   time.Time
	Blob       string `json:",omitempty"`
	Size       int64
	ETag       string // without quotes
	MD5        string `json:",omitempty"` // base64; of one that was put in one piece
	CRC        uint64 `json:",string"`
	Type       string
	Class      string
	Header     map[string]string `json:",omitempty"`
	Encryption encryption
	Restore    *thawed `json:",omitempty"`
}

// take makes got the content of v.
func (v *version) take(got received) {
	v.Blob, v.Size, v.CRC = got.Blob, got.Size, got.CRC
	v.ETag = strings.ToUpper(hex.EncodeToString(got.MD5[:]))
	v.MD5 = base64.StdEncoding.EncodeToString(got.MD5[:])
}

// latest is the version a request gets that names none: nil where there is none
// or it is a delete marker.
func (b *bucket) latest(key string) *version {
	if all := b.objects[key]; len(all) > 0 && !all[0].Marker {
		return all[0]
	}
	return nil
}

// find is the version that a request names; an empty id is the latest. It may be
// a delete marker.
func (b *bucket) find(key, id string) (*version, error) {
	all := b.objects[key]
	if id == "" {
		if len(all) == 0 {
			return nil, errNoKey
		}
		return all[0], nil
	}
	for _, v := range all {
		if v.ID == id {
			return v, nil
		}
	}
	return nil, errNoVersion.with("VersionId", id)
}

// readable is find for requests that need the object itself.
func (b *bucket) readable(key, id string) (*version, error) {
	v, err := b.find(key, id)
	if err != nil || !v.Marker {
		return v, err
	}
	f := *errNoKey
	if id != "" {
		f = *errMethod
	}
	f.Header = map[string]string{"X-Oss-Delete-Marker": "true", "X-Oss-Version-Id": v.ID}
	return nil, &f
}

// retains tells whether the bucket's retention still protects v.
func (b *bucket) retains(v *version, now time.Time) bool {
	return !v.Marker && b.Worm.holds(now) && now.Before(v.Modified.AddDate(0, 0, b.Worm.Days))
}

// forbid is how a request wants an object of its name to be treated.
type forbid bool

// add makes v the latest version of its key, if the bucket's state allows.
func (s *Server) add(b *bucket, v *version, forbidOverwrite forbid, now time.Time) error {
	all := b.objects[v.Key]
	s.sequence++
	v.Sequence, v.Modified, v.ID = s.sequence, now, nullVersion
	switch b.Versioning {
	case versioningEnabled:
		// The header has no effect where there are versions, nor where there were.
		v.ID = fmt.Sprintf("CAEQ%016X%s", v.Sequence, randomID(8))
		return s.replace(b, v.Key, slices.Insert(slices.Clone(all), 0, v))
	case "":
		if bool(forbidOverwrite) && len(all) > 0 {
			return errExists
		}
	}
	kept := []*version{v}
	for _, old := range all {
		if old.ID != nullVersion {
			kept = append(kept, old)
			continue
		}
		if b.retains(old, now) {
			return errImmutable
		}
	}
	return s.replace(b, v.Key, kept)
}

// drop deletes what the request names: a version, or with no id whatever
// versioning makes of it. It returns the version dropped or the marker made.
func (s *Server) drop(b *bucket, key, id string, now time.Time) (dropped, marker *version, err error) {
	if id == "" && b.Versioning != "" {
		marker := &version{Key: key, Marker: true}
		return nil, marker, s.add(b, marker, false, now)
	}
	v, err := b.find(key, id)
	if err != nil {
		return nil, nil, nil // what is not there is deleted already
	}
	if b.retains(v, now) {
		return nil, nil, errImmutable
	}
	kept := slices.DeleteFunc(slices.Clone(b.objects[key]), func(o *version) bool { return o == v })
	return v, nil, s.replace(b, key, kept)
}

// replace makes kept all there is of a key, on disk first, and removes the bytes
// of what is gone.
func (s *Server) replace(b *bucket, key string, kept []*version) error {
	if err := s.disk.saveObject(b, key, kept); err != nil {
		return err
	}
	gone := b.objects[key]
	at, known := slices.BinarySearch(b.keys, key)
	switch {
	case len(kept) == 0 && known:
		b.keys = slices.Delete(b.keys, at, at+1)
		delete(b.objects, key)
	case len(kept) > 0:
		if !known {
			b.keys = slices.Insert(b.keys, at, key)
		}
		b.objects[key] = kept
	}
	for _, v := range gone {
		if !slices.Contains(kept, v) {
			s.blobs.remove(v.Blob)
		}
	}
	return nil
}

// swap gives a version another content. settle says what else changes of it.
func (s *Server) swap(b *bucket, v *version, body []byte, settle func(*version, received)) error {
	got, err := s.receive(strings.NewReader(string(body)), int64(len(body)))
	if err != nil {
		return err
	}
	changed := *v
	changed.Blob = got.Blob
	settle(&changed, got)
	all := slices.Clone(b.objects[v.Key])
	all[slices.Index(all, v)] = &changed
	return s.replace(b, v.Key, all)
}

// received is a body that is stored but nobody's yet.
type received struct {
	Blob string
	Size int64
	MD5  [md5.Size]byte
	CRC  uint64
}

// crcTable is of the ECMA-182 polynomial, reflected: CRC-64/XZ, which OSS
// returns as x-oss-hash-crc64ecma.
var crcTable = crc64.MakeTable(crc64.ECMA)

// receive stores all of body. size is a hint; -1 is unknown.
func (s *Server) receive(body io.Reader, size int64) (received, error) {
	w, err := s.blobs.create(size)
	if err != nil {
		return received{}, err
	}
	sum, crc := md5.New(), crc64.New(crcTable)
	n, err := io.Copy(io.MultiWriter(w, sum, crc), body)
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		s.blobs.remove(w.Name())
		return received{}, err
	}
	return received{Blob: w.Name(), Size: n, MD5: [md5.Size]byte(sum.Sum(nil)), CRC: crc.Sum64()}, nil
}

// maxPut is the most a PutObject or a part may have.
const maxPut = 5 << 30

// body stores the body of a request and checks its digest.
func (c *call) body() (received, error) {
	switch {
	case c.r.ContentLength > maxPut:
		return received{}, errTooLarge
	case c.r.ContentLength <= 0 && c.r.Header.Get("Content-Length") == "" && len(c.r.TransferEncoding) == 0:
		return received{}, errLength
	}
	if err := digestForm(c.r.Header); err != nil {
		return received{}, err
	}
	in := &source{r: io.LimitReader(c.r.Body, maxPut+1)}
	got, err := c.s.receive(in, c.r.ContentLength)
	switch {
	case in.err != nil:
		return received{}, errBody
	case err != nil:
		return received{}, err
	case got.Size > maxPut:
		err = errTooLarge
	default:
		err = matchDigest(c.r.Header, got.MD5)
	}
	if err != nil {
		c.s.blobs.remove(got.Blob)
	}
	return got, err
}

// source remembers that it was the reading that failed, not the storing.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func digestForm(h http.Header) error {
	text := h.Get("Content-MD5")
	if text == "" {
		return nil
	}
	if sum, err := base64.StdEncoding.DecodeString(text); err != nil || len(sum) != md5.Size {
		return errMD5Form
	}
	return nil
}

func matchDigest(h http.Header, sum [md5.Size]byte) error {
	text, want := h.Get("Content-MD5"), base64.StdEncoding.EncodeToString(sum[:])
	if text == "" || text == want {
		return nil
	}
	return errMD5.with("ExpectedDigest", text).with("CalculatedDigest", want)
}

func checkDigest(h http.Header, body []byte) error {
	return cmp.Or(digestForm(h), matchDigest(h, md5.Sum(body)))
}

func formatCRC(crc uint64) string { return strconv.FormatUint(crc, 10) }
