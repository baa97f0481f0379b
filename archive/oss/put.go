package oss

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// maxObject is the most one request may store, in bytes.
const maxObject = 5 << 30

// Put stores body under name. OSS checks its MD5 and CRC64; opts.SHA256, if it is
// known, is what has to be read back.
func (s *Store) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	key, err := s.key(name)
	if err != nil {
		return err
	}
	if err := s.put(ctx, key, body, opts); err != nil {
		return failed(ctx, "put", name, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, key string, body io.ReadSeeker, opts archive.PutOptions) error {
	if err := s.allow(ctx, opts.Lock); err != nil {
		return err
	}
	if _, err := s.state(ctx); err != nil {
		return err
	}
	p := &put{Store: s, key: key, bulk: opts.Bulk, body: body, sha256: opts.SHA256}
	if err := p.measure(ctx); err != nil {
		return err
	}
	if err := s.do(ctx, func(n int) error { return p.try(ctx, n) }); err != nil {
		return err
	}
	if err := p.first(ctx); err != nil {
		return err
	}
	return p.confirm(ctx)
}

// put is one object on its way.
type put struct {
	*Store
	key  string
	bulk bool

	body   io.ReadSeeker
	start  int64 // where in body the object begins
	size   int64
	sha256 manifest.Hash
	md5    []byte
	crc    uint64

	version string // of the object; empty: the bucket keeps none
	mine    bool   // it was stored by a request that was answered
	tries   int    // until then
	blind   bool   // the service did not say what CRC64 it has
	read    bool   // it was compared with body already
}

// measure reads the body once for what the service is to check.
func (p *put) measure(ctx context.Context) error {
	var err error
	if p.start, err = p.body.Seek(0, io.SeekCurrent); err != nil {
		return &bodyError{err}
	}
	sums, crc, sha := md5.New(), crc64.New(crcTable), sha256.New()
	all := []io.Writer{sums, crc}
	known := p.sha256 != manifest.Hash{}
	if !known {
		all = append(all, sha)
	}
	p.size, err = io.Copy(io.MultiWriter(all...), stopping{ctx, p.body})
	if err != nil {
		return &bodyError{err}
	}
	if p.size > maxObject {
		return fmt.Errorf("%d bytes: OSS takes at most 5 GiB in one request: %w", p.size, errors.ErrUnsupported)
	}
	p.md5, p.crc = sums.Sum(nil), crc.Sum64()
	if !known {
		p.sha256 = manifest.Hash(sha.Sum(nil))
	}
	return nil
}

// stopping is a reader that ends when its context does.
type stopping struct {
	ctx context.Context
	io.Reader
}

func (s stopping) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.Reader.Read(b)
}

// try is the n-th try to store the object. One whose answer was lost may have
// stored it, so from the second on what is there is compared.
func (p *put) try(ctx context.Context, n int) error {
	state, err := p.state(ctx)
	switch {
	case err != nil:
		return err
	case state == suspended:
		return errSuspended
	case state != plain: // what forbids overwriting may not be heeded
		id, err := p.there(ctx)
		if err == nil {
			return p.settle(ctx, id, n)
		}
		if !missing(err) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	header, err := p.send(ctx)
	if hasCode(err, "FileAlreadyExists", "FileImmutable") {
		return p.settle(ctx, "", n)
	}
	if hasCode(err, "InvalidDigest", "BadDigest") && n < maxDamaged {
		return again{err}
	}
	if err != nil {
		return err
	}
	p.version, p.mine, p.tries = oss.GetVersionId(header), true, n
	if p.version == oss.NullVersion {
		p.suspend()
		return p.undo(ctx, errSuspended)
	}
	if p.version == "" && state == enabled {
		return errors.New("stored, but the service does not say as which version, so that it is not known to be the first")
	}
	crc, told := crcOf(header)
	p.blind = !told
	if told && crc != p.crc {
		return p.undo(ctx, fmt.Errorf("%w: its CRC64 was %d, the service has %d; try again", errDamaged, p.crc, crc))
	}
	return nil
}

// maxDamaged is how often a body whose MD5 came out otherwise is sent.
const maxDamaged = 3

var errSuspended = fmt.Errorf("versioning of the bucket is suspended, so that a second write of a name replaces the first, whatever is asked: enable versioning, or use another bucket: %w", errors.ErrUnsupported)

// there returns the version that is the object already. Of a bucket that may or
// may not keep versions it looks at the object.
func (p *put) there(ctx context.Context) (version string, err error) {
	err = p.found(ctx, p.key, func(id string) error {
		if version = id; id != "" {
			return nil
		}
		_, err := p.head(ctx, p.key, "")
		return err
	})
	return version, err
}

// settle decides what it means that there is an object already: if a try before
// the n-th may have stored it, it is ours if it has our bytes.
func (p *put) settle(ctx context.Context, version string, n int) error {
	if n == 1 {
		return fs.ErrExist
	}
	same, err := p.same(ctx, version)
	if err != nil {
		return uncompared(err)
	}
	if !same {
		return fs.ErrExist
	}
	p.version, p.read = version, true
	return nil
}

// uncompared says that an object which may be of a try before could not be
// compared, which makes it neither ours nor another's.
func uncompared(err error) error {
	if missing(err) {
		return again{errors.New("an object was there, and is gone again")}
	}
	return fmt.Errorf("an object is there, perhaps of a try before, and cannot be compared: %w", err)
}

// send sends the object once.
func (p *put) send(ctx context.Context) (http.Header, error) {
	options := []oss.Option{
		oss.ForbidOverWrite(true),
		oss.ContentMD5(base64.StdEncoding.EncodeToString(p.md5)),
		oss.ContentType("application/octet-stream"),
	}
	if p.class() != "" {
		options = append(options, oss.ObjectStorageClass(oss.StorageClassType(p.class())))
	}
	if p.config.SSE != "" {
		options = append(options, oss.ServerSideEncryption(p.config.SSE))
	}
	if p.config.KMSKey != "" {
		options = append(options, oss.ServerSideEncryptionKeyID(p.config.KMSKey))
	}
	c := call{method: http.MethodPut, key: p.key, options: options, right: "oss:PutObject"}
	from := &upload{body: p.body, left: p.size}
	if p.size > 0 {
		if _, err := p.body.Seek(p.start, io.SeekStart); err != nil {
			return nil, &bodyError{err}
		}
		c.body = from
	}
	resp, err := p.Store.send(ctx, c)
	if broke := from.end(); broke != nil && err != nil {
		return nil, &bodyError{broke}
	}
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	return resp.Headers, nil
}

// class is the storage class asked for.
func (p *put) class() string {
	if !p.bulk {
		return ""
	}
	return p.config.Class
}

// upload is the body of a request. A request that failed may go on reading it in
// the background, so its end is waited for before the body is read again.
type upload struct {
	mu   sync.Mutex
	body io.Reader
	left int64
	err  error // of body
	done bool
}

var errEnded = errors.New("the request has ended")

// Len is the number of bytes to come, which the SDK announces.
func (u *upload) Len() int { return int(u.left) }

func (u *upload) Read(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.done {
		return 0, errEnded
	}
	if u.left == 0 {
		return 0, io.EOF
	}
	n, err := u.body.Read(b[:min(int64(len(b)), u.left)])
	u.left -= int64(n)
	if err == io.EOF && u.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		u.err = err
	}
	return n, err
}

// end stops reading, and returns the error of the body, if it had one.
func (u *upload) end() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.done = true
	return u.err
}

// first makes sure that what was stored is the object: in a bucket that keeps
// versions, another may have been stored just before.
func (p *put) first(ctx context.Context) error {
	if !p.mine || p.version == "" {
		return nil
	}
	id, err := p.find(ctx, p.key)
	if err != nil {
		return unconfirmed("known to be the first", err)
	}
	if id == p.version {
		return nil
	}
	if p.tries == 1 {
		return p.undo(ctx, fs.ErrExist)
	}
	// It may be of a try before, which was given up and went on all the same.
	same, err := p.same(ctx, id)
	if err != nil {
		return p.undo(ctx, uncompared(err))
	}
	if !same {
		return p.undo(ctx, fs.ErrExist)
	}
	if err := p.undo(ctx, nil); err != nil {
		return err
	}
	p.version, p.mine, p.read = id, false, true
	return nil
}

// undo removes what was stored, since reason says that it must not stay.
func (p *put) undo(ctx context.Context, reason error) error {
	if !p.mine {
		return reason
	}
	err := p.remove(ctx, p.key, p.version)
	if err == nil {
		return reason
	}
	left := fmt.Errorf("what was stored as version %q could not be removed and is still there: %v", p.version, err)
	if reason == nil {
		return left
	}
	return fmt.Errorf("%w; %w", reason, left)
}

// confirm finds out whether the object is there as it was to be.
func (p *put) confirm(ctx context.Context) error {
	if p.class() != "" || p.config.SSE != "" {
		header, err := p.head(ctx, p.key, p.version)
		if err != nil {
			return unconfirmed("confirmed", err)
		}
		if err := p.granted(header); err != nil {
			return p.undo(ctx, err)
		}
	}
	if !p.reads() {
		return nil
	}
	same, err := p.same(ctx, p.version)
	if err != nil && !errors.Is(err, errDamaged) {
		return unconfirmed("read back", err)
	}
	if !same {
		return p.undo(ctx, errors.New("read back, it has other bytes than were put"))
	}
	return nil
}

// unconfirmed says that what was stored could not be looked at. That somebody has
// removed it in between is no answer to a Put.
func unconfirmed(what string, err error) error {
	if missing(err) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stored, but gone before it was %s: %v: %w", what, err, archive.ErrUnavailable)
	}
	return fmt.Errorf("stored, but not %s: %w", what, err)
}

// granted reports what of the headers the service dropped.
func (p *put) granted(header http.Header) error {
	if p.class() != "" {
		got := header.Get(oss.HTTPHeaderOssStorageClass)
		if got == "" {
			got = "Standard"
		}
		if got != p.class() {
			return fmt.Errorf("asked for storage class %s, the service stored it as %s: %w", p.class(), got, errors.ErrUnsupported)
		}
	}
	if got := header.Get(oss.HTTPHeaderOssServerSideEncryption); p.config.SSE != "" && got != p.config.SSE {
		return fmt.Errorf("asked for encryption %s, the service says %q: %w", p.config.SSE, got, errors.ErrUnsupported)
	}
	if got := header.Get(oss.HTTPHeaderOssServerSideEncryptionKeyID); p.config.KMSKey != "" && got != p.config.KMSKey {
		return fmt.Errorf("asked for KMS key %s, the service says %q: %w", p.config.KMSKey, got, errors.ErrUnsupported)
	}
	return nil
}

// sampled is how many bulk objects there are to one that is read back.
const sampled = 16

// reads decides whether the object is read back.
func (p *put) reads() bool {
	if p.read {
		return false
	}
	switch p.config.ReadBack {
	case ReadBackAll:
		return true
	case ReadBackNone:
		return p.blind
	}
	return p.blind || !p.bulk || rand.IntN(sampled) == 0
}

// same reports whether a version of the object has the bytes of the body. An
// object that is frozen cannot be read; its size and CRC64 stand for it.
func (p *put) same(ctx context.Context, version string) (bool, error) {
	header, err := p.head(ctx, p.key, version)
	if err != nil {
		return false, err
	}
	info, err := infoOf(header)
	switch {
	case err != nil:
		return false, err
	case info.Size != p.size:
		return false, nil
	case info.Frozen:
		return p.alike(header)
	}
	same, err := p.compare(ctx, version)
	if err == nil && !same || errors.Is(err, errDamaged) { // twice, as it may be the way
		same, err = p.compare(ctx, version)
	}
	return same, err
}

// alike compares what the service says of an object with the body. An ETag that
// is not the MD5 says nothing: OSS promises no more than that it changes.
func (p *put) alike(header http.Header) (bool, error) {
	crc, told := crcOf(header)
	if told {
		return crc == p.crc, nil
	}
	if strings.EqualFold(strings.Trim(header.Get("ETag"), `"`), hex.EncodeToString(p.md5)) {
		return true, nil
	}
	return false, errors.New("it is frozen, and the service tells no CRC64 of it")
}

// compare reads a version of the object and compares it with the body.
func (p *put) compare(ctx context.Context, version string) (bool, error) {
	stored, err := p.open(ctx, p.key, version)
	if err != nil {
		return false, err
	}
	defer stored.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, stored)
	return err == nil && n == p.size && manifest.Hash(sum.Sum(nil)) == p.sha256, err
}
