package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

const (
	// nullVersion is the id of what is put where versioning is suspended.
	nullVersion = "null"
	// small is how long a body may be to be kept in memory rather than read again.
	small = 1 << 20
)

// maxObject is the most S3 takes in one PutObject.
const maxObject = 5 << 30

// Put stores body under a name that is still free, and has the server compare
// its SHA-256. A class, an encryption or a lock that was asked for and is not
// there afterwards is [errors.ErrUnsupported].
func (s *Store) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	if err := s.put(ctx, name, body, opts); err != nil {
		return s.failed(ctx, "put", name, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	if err := archive.CheckName(name); err != nil {
		return err
	}
	if strings.ContainsAny(name, "\uFFFE\uFFFF") {
		return fmt.Errorf("the name has a character that XML, in which servers list, does not: %w", fs.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	src, err := newSource(ctx, body, opts.SHA256)
	if err != nil {
		return err
	}
	if src.size > maxObject {
		return fmt.Errorf("%d bytes, and S3 takes at most %d in one request", src.size, int64(maxObject))
	}
	versions, err := s.keepsVersions(ctx)
	if err != nil {
		return err
	}
	bucket, err := s.bucketLocking(ctx)
	if err != nil {
		return err
	}
	p := &putting{store: s, ctx: ctx, key: s.config.key(name), source: src, versions: versions, bucket: bucket, want: s.wanted(opts)}
	if err := p.run(); err != nil {
		return err
	}
	if p.versions {
		s.remember(p.key, p.version)
	}
	return nil
}

// putting is a Put on its way.
type putting struct {
	store    *Store
	ctx      context.Context
	key      string
	source   *source
	versions bool    // the bucket keeps them
	bucket   locking // what it does by itself
	want     wanted

	maybe   bool   // an earlier try may have landed, its answer was lost
	crowded int    // how often the server made way for a neighbour that was going
	version string // under which the object is there
}

func (p *putting) run() error {
	if err := p.vacant(); err != nil {
		return err
	}
	err := p.store.retry.Do(p.ctx, func(int) error {
		if p.maybe {
			// Servers that refuse a large body unread end the connection over it, so
			// that the refusal is lost; and one that does not know If-None-Match
			// would keep a second version.
			if _, err := p.landed(); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return p.send()
	})
	if err != nil {
		return p.store.explain("s3:PutObject", err)
	}
	if p.versions {
		if err := p.first(); denied(err) {
			return fmt.Errorf("stored as version %s, and not known to be the first: %w", p.version, err)
		} else if err != nil {
			return err
		}
	}
	if err := p.confirm(); err != nil {
		return err
	}
	return p.lockByDefault()
}

// vacant fails with fs.ErrExist if there is an object: some servers do not look
// at If-None-Match where there are versions, and none does behind a delete marker.
func (p *putting) vacant() error {
	state, err := p.store.bucketVersioning(p.ctx)
	switch {
	case err != nil:
		return err
	case state == hidden: // there may be versions, which the answer tells
		_, err := p.store.inspect(p.ctx, p.store.config.name(p.key))
		if err == nil {
			return fs.ErrExist
		}
		if errors.Is(err, fs.ErrNotExist) || denied(err) { // who may only write relies on the server
			return nil
		}
		return err
	case !p.versions:
		return nil
	}
	h, err := p.store.history(p.ctx, p.key)
	if err != nil {
		return err
	}
	if _, ok := h.object(); ok {
		return fs.ErrExist
	}
	return nil
}

// maxCrowded is how often a Put is repeated that a server on a file system
// refuses because of a folder: it may be one that is just being removed.
const maxCrowded = 5

// send tries once.
func (p *putting) send() error {
	if err := p.source.rewind(); err != nil {
		return err
	}
	var out *s3.PutObjectOutput
	err := p.store.once(p.ctx, func(o func(*s3.Options)) (err error) {
		out, err = p.store.client.PutObject(p.ctx, p.input(), o, signed(p.source.digest))
		return err
	})
	if broken := p.source.broken(); broken != nil && err != nil {
		return sourceError{broken}
	}
	switch {
	case err == nil:
		p.version = aws.ToString(out.VersionId)
		p.store.learn(out.VersionId)
		if versions, _ := p.store.keepsVersions(p.ctx); versions {
			p.versions = true
		}
		if p.version == "" && p.versions {
			p.version = nullVersion
		}
		p.store.mu.Lock()
		p.store.wrote = true
		p.store.mu.Unlock()
		return nil
	case status(err) == http.StatusPreconditionFailed:
		return p.refused()
	case temporary(err):
		p.maybe = true
		return err
	case p.inTheWay(err) && p.crowded < maxCrowded:
		p.crowded++
		return again{err}
	}
	return p.want.refusal(err)
}

// inTheWay reports whether the server may have met such a folder: versitygw says
// so, MinIO says AccessDenied to who could put until now.
func (p *putting) inTheWay(err error) bool {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return code(err) == "ExistingObjectIsDirectory" || denied(err) && p.store.wrote
}

func (p *putting) input() *s3.PutObjectInput {
	in := &s3.PutObjectInput{
		Bucket: &p.store.config.Bucket, Key: &p.key, Body: p.source, ContentLength: &p.source.size,
		IfNoneMatch:       aws.String("*"),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		ChecksumSHA256:    aws.String(base64.StdEncoding.EncodeToString(p.source.digest[:])),
	}
	p.want.ask(in)
	return in
}

// signed makes the digest part of the signature: where a server takes no notice
// of the checksum, it refuses other bytes for that, also over plain HTTP.
func signed(digest manifest.Hash) func(*s3.Options) {
	hash := fmt.Sprintf("%x", digest[:])
	set := middleware.InitializeMiddlewareFunc("otsnap:PayloadHash", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(v4.SetPayloadHash(ctx, hash), in)
	})
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error { return stack.Initialize.Add(set, middleware.Before) })
	}
}

// refused decides what it means that the server says the name is taken.
func (p *putting) refused() error {
	if !p.maybe && !p.versions {
		return fs.ErrExist
	}
	_, err := p.landed()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	h, err := p.store.history(p.ctx, p.key)
	if err != nil {
		return err
	}
	if len(h.markers) > 0 && len(h.versions) == 0 {
		return fmt.Errorf("the server lets nothing be put over a delete marker under which there is no object; remove version %s of %s, which is the marker", h.markers[0].id, p.key)
	}
	return again{errors.New("the name was taken and is free again")}
}

// landed looks at the object that is there: nil if it is that of an earlier try,
// fs.ErrExist if it is another, fs.ErrNotExist if there is none.
func (p *putting) landed() (version string, err error) {
	name := p.store.config.name(p.key)
	info, err := p.store.inspect(p.ctx, name)
	if err != nil {
		return "", err
	}
	if !p.maybe || info.Size != p.source.size {
		return "", fs.ErrExist
	}
	digest := info.SHA256
	if digest == (manifest.Hash{}) {
		if digest, err = p.store.digest(p.ctx, name); err != nil {
			return "", err
		}
	}
	if digest != p.source.digest {
		return "", fs.ErrExist
	}
	p.version = info.Version
	return info.Version, nil
}

// digest reads an object for its SHA-256.
func (s *Store) digest(ctx context.Context, name string) (digest manifest.Hash, err error) {
	body, err := s.get(ctx, name)
	if err != nil {
		return digest, err
	}
	defer body.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, body); err != nil {
		return digest, err
	}
	return manifest.Hash(hash.Sum(nil)), nil
}

// first makes sure that what was put is the oldest version, and else takes it
// away again.
func (p *putting) first() error {
	h, err := p.store.history(p.ctx, p.key)
	if err != nil {
		return err
	}
	object, ok := h.object()
	if !ok {
		return errors.New("the server took the object and does not list it")
	}
	if object.id == p.version {
		return nil
	}
	mine := p.version
	_, err = p.landed()
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if removeErr := p.store.remove(p.ctx, p.key, mine); removeErr != nil {
		left := fmt.Errorf("version %s, which came too late, stays over the object: %v", mine, removeErr)
		if err == nil {
			return left // what lies under it is ours
		}
		return fmt.Errorf("%v: %w", left, err)
	}
	return err
}

// confirm reads back what was asked for in headers, and removes the object where
// the server dropped it.
func (p *putting) confirm() error {
	if p.want.nothing() {
		return nil
	}
	info, err := p.store.head(p.ctx, p.key, p.version)
	if err != nil {
		return fmt.Errorf("the object is there, and whether the server did what was asked could not be read back: %w", err)
	}
	missing := p.want.missing(info)
	if len(missing) == 0 {
		return nil
	}
	text := strings.Join(missing, "; ")
	if p.maybe {
		return fmt.Errorf("%s: %w; the object was left there", text, errors.ErrUnsupported)
	}
	if err := p.store.remove(p.ctx, p.key, p.version); err != nil {
		return fmt.Errorf("%s: %w; the object is there and could not be removed: %v", text, errors.ErrUnsupported, err)
	}
	return fmt.Errorf("%s: %w", text, errors.ErrUnsupported)
}

// lockByDefault gives an object put without a lock that of its bucket, where the
// server did not: MinIO does not to objects with a legal hold, and versitygw's
// default ends for all objects alike, at a time counted from when it was set.
func (p *putting) lockByDefault() error {
	if p.want.lock.Mode != archive.Unlocked || p.bucket.mode == archive.Unlocked {
		return nil
	}
	info, err := p.store.head(p.ctx, p.key, p.version)
	if denied(err) {
		return nil // it was the bucket's business, and cannot be seen
	}
	if err != nil || info.Lock.Mode != archive.Unlocked {
		return err
	}
	err = p.store.putRetention(p.ctx, p.key, info.Version, archive.Lock{Mode: p.bucket.mode, Until: p.bucket.period.After(time.Now())}, false)
	if err != nil {
		return fmt.Errorf("the object is there, without the lock that its bucket should give it: %w", err)
	}
	return nil
}

// sourceError is an error of the body that is put, not of the store.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

// source is the body of a Put: what lies behind its offset, as often as it is
// needed.
type source struct {
	ctx    context.Context
	body   io.ReadSeeker
	base   int64
	size   int64
	digest manifest.Hash

	mu  sync.Mutex // the transport reads on its own
	pos int64
	err error
}

// newSource measures body, and reads it where its digest is not known.
func newSource(ctx context.Context, body io.ReadSeeker, digest manifest.Hash) (*source, error) {
	base, err := body.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, sourceError{err}
	}
	end, err := body.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, sourceError{err}
	}
	s := &source{ctx: ctx, body: body, base: base, size: max(end-base, 0), digest: digest}
	if digest != (manifest.Hash{}) {
		return s, nil
	}
	if err := s.rewind(); err != nil {
		return nil, err
	}
	var kept bytes.Buffer
	hash := sha256.New()
	to := io.Writer(hash)
	if s.size <= small {
		to = io.MultiWriter(hash, &kept)
	}
	if _, err := io.Copy(to, s); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, sourceError{err}
	}
	s.digest = manifest.Hash(hash.Sum(nil))
	if s.size <= small {
		s.body, s.base = bytes.NewReader(kept.Bytes()), 0
	}
	return s, nil
}

func (s *source) rewind() error {
	if _, err := s.Seek(0, io.SeekStart); err != nil {
		return sourceError{err}
	}
	return nil
}

// broken is the error of the body, if that is what ended a try.
func (s *source) broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Read reads the body up to the size it had at first.
func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	left := s.size - s.pos
	if left <= 0 {
		return 0, io.EOF
	}
	n, err := s.body.Read(p[:min(int64(len(p)), left)])
	s.pos += int64(n)
	if err == io.EOF && s.pos < s.size {
		err = fmt.Errorf("the body ended after %d of %d bytes: %w", s.pos, s.size, io.ErrUnexpectedEOF)
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// Seek counts from where the body was when it was given to Put.
func (s *source) Seek(offset int64, whence int) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += s.pos
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	if offset == s.pos && whence == io.SeekCurrent {
		return offset, nil
	}
	if _, err := s.body.Seek(s.base+offset, io.SeekStart); err != nil {
		s.err = err
		return 0, err
	}
	s.pos = offset
	return offset, nil
}
