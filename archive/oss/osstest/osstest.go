// Package osstest is a server of Alibaba's OSS protocol for tests: an
// [http.Handler] that keeps its buckets in memory or in a directory. It checks
// signatures, digests, preconditions and retention as OSS documents them, and
// refuses with OSS's codes. What it does not know it answers with 501
// NotImplemented rather than with a success that means nothing.
//
// It is a part of tests: one mutex guards all of it, nothing is synced to disk,
// and nobody is kept from the bytes behind its back. Methods of [Server] beside
// ServeHTTP are those of an operator, or of an intruder: they ask for no
// signature and heed no retention.
//
// Where the documentation is silent, or two pages of it differ, the server does
// what is harder on its client:
//
//   - A key of STS without its token, and a token with a key that needs none, are
//     InvalidAccessKeyId.
//   - A range that leaves the object is ignored: the whole object is the answer,
//     unless x-oss-range-behavior asks for the standard's rules.
//   - x-oss-forbid-overwrite is looked at before retention: of an object that is
//     both there and retained, FileAlreadyExists is said.
//   - Bucket retention protects versions. Where versioning is enabled, they may be
//     hidden by newer ones and by delete markers, which are not retained.
//   - A policy that was not locked in a day is Expired: it protects nothing, cannot
//     be locked, and another may take its place.
//   - Versioning cannot be suspended under a policy, nor a policy made while it is
//     suspended. See [Options.WormRefusesVersioning] for what else pages differ in.
//   - Of many objects to delete, one that is retained refuses the request, for the
//     reply has no place to say which were not deleted.
//   - An upload that was completed is gone: completing it again is NoSuchUpload.
//   - Tiers mean nothing to Archive, though the SDK sends one.
//   - Unknown parameters and headers are ignored, those that name what OSS has and
//     this server has not are 501 NotImplemented, retention of single objects among
//     them.
package osstest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// What a Server takes for its key and region when [Options] names none.
const (
	DefaultAccessKeyID     = "osstest-access-key-id"
	DefaultAccessKeySecret = "osstest-access-key-secret"
	DefaultRegion          = "cn-hangzhou"
)

// Options says what a [Server] is. The zero value is one in memory with the
// default key and region.
type Options struct {
	AccessKeyID, AccessKeySecret string

	// SecurityToken makes the key one of STS: requests must carry the token.
	SecurityToken string

	// Region is the one V4 signatures must be scoped to, such as cn-hangzhou.
	Region string

	// Dir is where buckets are kept, and found again by another Server. Empty: in
	// memory. Two Servers must not share one at a time.
	Dir string

	// Host is one more name the server goes by, beside IP addresses, localhost and
	// the region's endpoints. Both HOST/bucket/key and bucket.HOST/key reach it.
	Host string

	// Now is the clock of what lasts: modification times, retention, thawing, the
	// expiry of keys. Nil is [time.Now]. Signatures are not checked with it, for who
	// signs has a clock of their own: see [Server.SetSkew].
	Now func() time.Time

	// WormRefusesVersioning refuses bucket retention where versioning is enabled,
	// as older pages of the documentation say, and versioning where there is
	// retention. Newer ones allow it.
	WormRefusesVersioning bool
}

// Credentials is a key the server accepts, see [Server.AddCredentials].
type Credentials struct {
	AccessKeyID, AccessKeySecret string

	SecurityToken string    // of STS; empty for a key that lasts
	Expires       time.Time // zero: never

	// Allow decides what the key may do, as a RAM policy would: action is such as
	// oss:PutObject, resource such as acs:oss:*:*:bucket/key. Nil allows all.
	Allow func(action, resource string) bool
}

// Server speaks OSS's protocol to whoever signs with one of its keys.
type Server struct {
	options Options
	blobs   blobs
	disk    disk

	mu          sync.Mutex
	buckets     map[string]*bucket
	credentials []Credentials
	thaw        func(class, tier string) time.Duration
	before      func(*http.Request) (status int, code string)
	skew        time.Duration
	sequence    uint64 // of the newest version of any object
}

var _ http.Handler = (*Server)(nil)

// New returns a server with the buckets it finds in o.Dir.
func New(o Options) (*Server, error) {
	if o.AccessKeyID == "" {
		o.AccessKeyID = DefaultAccessKeyID
	}
	if o.AccessKeySecret == "" {
		o.AccessKeySecret = DefaultAccessKeySecret
	}
	if o.Region == "" {
		o.Region = DefaultRegion
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{options: o, blobs: newMemory(), buckets: map[string]*bucket{}, thaw: documentedThaw}
	s.AddCredentials(Credentials{AccessKeyID: o.AccessKeyID, AccessKeySecret: o.AccessKeySecret, SecurityToken: o.SecurityToken})
	if o.Dir == "" {
		return s, nil
	}
	s.blobs, s.disk = files(o.Dir), disk(o.Dir)
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("osstest: directory %s: %w", o.Dir, err)
	}
	return s, nil
}

// now is the server's time, to the millisecond as OSS keeps it.
func (s *Server) now() time.Time { return s.options.Now().UTC().Truncate(time.Millisecond) }

// BucketOptions says what a bucket is. The zero value is a Standard one without
// versioning.
type BucketOptions struct {
	Versioning string // "", Enabled or Suspended
	Class      string // of objects that name none: Standard, IA, Archive, ColdArchive, DeepColdArchive

	// Region, if not the server's, makes the bucket one of another region, which
	// requests are sent away to.
	Region string

	// CNAME is a host name bound to this bucket.
	CNAME string

	// Encryption is what objects that name none are encrypted with: AES256 or KMS.
	Encryption, EncryptionKeyID string
}

// CreateBucket makes an empty bucket. It fails if there is one of that name.
func (s *Server) CreateBucket(name string, o BucketOptions) error {
	if o.Class == "" {
		o.Class = classStandard
	}
	if o.Region == "" {
		o.Region = s.options.Region
	}
	switch {
	case !validBucketName(name):
		return fmt.Errorf("osstest: bucket name %q: 3 to 63 lower-case letters, digits and hyphens", name)
	case !slices.Contains(classes, o.Class):
		return fmt.Errorf("osstest: bucket %s: storage class %q: one of %v", name, o.Class, classes)
	case !slices.Contains([]string{"", versioningEnabled, versioningSuspended}, o.Versioning):
		return fmt.Errorf("osstest: bucket %s: versioning %q: empty, Enabled or Suspended", name, o.Versioning)
	case !slices.Contains([]string{"", "AES256", "KMS"}, o.Encryption):
		return fmt.Errorf("osstest: bucket %s: encryption %q: empty, AES256 or KMS", name, o.Encryption)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buckets[name] != nil {
		return fmt.Errorf("osstest: bucket %s exists", name)
	}
	b := newBucket(name, s.now(), o)
	if err := s.disk.saveBucket(b); err != nil {
		return fmt.Errorf("osstest: bucket %s: %w", name, err)
	}
	s.buckets[name] = b
	return nil
}

// SetVersioning sets a bucket's versioning to Enabled or Suspended.
func (s *Server) SetVersioning(name, status string) error {
	return s.with(name, func(b *bucket) error {
		if status != versioningEnabled && status != versioningSuspended {
			return fmt.Errorf("versioning %q: Enabled or Suspended", status)
		}
		b.Versioning = status
		return s.disk.saveBucket(b)
	})
}

// with calls f on a bucket while nobody else can touch it.
func (s *Server) with(name string, f func(*bucket) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[name]
	if b == nil {
		return fmt.Errorf("osstest: there is no bucket %q", name)
	}
	if err := f(b); err != nil {
		return fmt.Errorf("osstest: bucket %s: %w", name, err)
	}
	return nil
}

// AddCredentials makes the server accept one more key.
func (s *Server) AddCredentials(c Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credentials = append(s.credentials, c)
}

// ExpireToken ends a token of STS now: requests that carry it fail with
// SecurityTokenExpired.
func (s *Server) ExpireToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.credentials {
		if s.credentials[i].SecurityToken == token {
			s.credentials[i].Expires = s.now()
		}
	}
}

// SetThaw sets how long a restore takes from now on, by storage class and by
// tier, which is empty for Archive. Nil is what the documentation names: from a
// minute for Archive to 48 hours for DeepColdArchive.
func (s *Server) SetThaw(f func(class, tier string) time.Duration) {
	if f == nil {
		f = documentedThaw
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thaw = f
}

// SetSkew sets how far the clock that signatures are checked with is ahead of the
// machine's. By more than 15 minutes, or less than minus 15, requests fail with
// RequestTimeTooSkewed; ahead of their expiry, presigned URLs end.
func (s *Server) SetSkew(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = d
}

// SetBefore sets what is asked before each request, its signature included. A
// status other than 0 is the answer, with that code. Nil asks nothing.
func (s *Server) SetBefore(f func(*http.Request) (status int, code string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// Object is one version of an object, or a delete marker, as the server keeps it.
type Object struct {
	Key, VersionID string // the id is null where versioning was not enabled
	Latest         bool
	DeleteMarker   bool
	Size           int64 // in bytes
	ETag           string
	CRC64          uint64
	Class          string
	Modified       time.Time
	Header         map[string]string // content headers and x-oss-meta-*, names in lower case
}

// Objects returns all versions in a bucket, by key, the newest first.
func (s *Server) Objects(name string) ([]Object, error) {
	var list []Object
	err := s.with(name, func(b *bucket) error {
		for _, key := range b.keys {
			for i, v := range b.objects[key] {
				list = append(list, Object{
					Key: key, VersionID: v.ID, Latest: i == 0, DeleteMarker: v.Marker, Size: v.Size, ETag: v.ETag,
					CRC64: v.CRC, Class: v.Class, Modified: v.Modified, Header: maps.Clone(v.Header),
				})
			}
		}
		return nil
	})
	return list, err
}

var errNoObject = errors.New("there is no such object, or it is deleted")

// Read returns the bytes of an object's latest version, whatever its class.
func (s *Server) Read(name, key string) ([]byte, error) {
	var body []byte
	err := s.with(name, func(b *bucket) error {
		v := b.latest(key)
		if v == nil {
			return errNoObject
		}
		var err error
		body, err = readBlob(s.blobs, v.Blob)
		return err
	})
	return body, err
}

// Corrupt replaces the bytes of an object's latest version by what f makes of
// them and leaves all the server knows of it as it was, as a failing disk does.
// The size is kept: a shorter result is filled up with zeros, a longer one cut.
func (s *Server) Corrupt(name, key string, f func([]byte) []byte) error {
	return s.with(name, func(b *bucket) error {
		v := b.latest(key)
		if v == nil {
			return errNoObject
		}
		old, err := readBlob(s.blobs, v.Blob)
		if err != nil {
			return err
		}
		body := make([]byte, v.Size)
		copy(body, f(old))
		return s.swap(b, v, body, func(*version, received) {})
	})
}

// Substitute replaces the bytes of an object's latest version along with its
// size, ETag and checksum, as one who owns the store could: no reply betrays it.
func (s *Server) Substitute(name, key string, body []byte) error {
	return s.with(name, func(b *bucket) error {
		v := b.latest(key)
		if v == nil {
			return errNoObject
		}
		return s.swap(b, v, body, func(v *version, got received) { v.take(got) })
	})
}

// Remove drops all versions of an object, retained or not.
func (s *Server) Remove(name, key string) error {
	return s.with(name, func(b *bucket) error {
		if b.objects[key] == nil {
			return errNoObject
		}
		return s.replace(b, key, nil)
	})
}
