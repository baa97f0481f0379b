package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// Probe finds out what the server can do. It puts the object called name a
// second time, with the bytes it has, so that a server that takes it destroys
// nothing, and tries a wrong checksum and a legal hold on objects of its own,
// which no List shows and which it removes. What cannot be told without paying
// for it is Unknown.
func (s *Store) Probe(ctx context.Context, name string) ([]archive.Capability, error) {
	capabilities, err := s.probe(ctx, name)
	if err != nil {
		return nil, s.failed(ctx, "probe with", name, err)
	}
	return capabilities, nil
}

func (s *Store) probe(ctx context.Context, name string) ([]archive.Capability, error) {
	info, err := s.inspect(ctx, name)
	if err != nil {
		return nil, err
	}
	p := &probing{store: s, ctx: ctx, name: name, info: info}
	var capabilities []archive.Capability
	for _, try := range []struct {
		name string
		try  func() (archive.State, string, error)
	}{
		{archive.CanCreateOnly, p.createOnly},
		{archive.CanChecksum, p.checksum},
		{archive.CanVersion, p.versions},
		{archive.CanLock, p.lock},
		{archive.CanHold, p.hold},
		{archive.CanBucketLock, p.bucketLock},
		{archive.CanTier, p.tiers},
		{archive.CanEncrypt, p.encryption},
	} {
		state, detail, err := try.try()
		if denied(err) {
			state, detail, err = archive.Unknown, err.Error(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", try.name, err)
		}
		capabilities = append(capabilities, archive.Capability{Name: try.name, State: state, Detail: detail})
	}
	return capabilities, nil
}

type probing struct {
	store *Store
	ctx   context.Context
	name  string
	info  archive.Info
}

// maxProbe is the longest object that is put a second time.
const maxProbe = 8 << 20

// createOnly puts the object again as it is.
func (p *probing) createOnly() (archive.State, string, error) {
	if p.info.Size > maxProbe {
		return archive.Unknown, fmt.Sprintf("not tried: %s has %d bytes", p.name, p.info.Size), nil
	}
	content, err := p.content()
	if err != nil {
		return "", "", err
	}
	version, err := p.put(p.store.config.key(p.name), content, func(in *s3.PutObjectInput) { in.IfNoneMatch = aws.String("*") })
	switch {
	case status(err) == http.StatusPreconditionFailed:
		return p.refused(content)
	case unsupported(err):
		return archive.Absent, "the server does not know If-None-Match", nil
	case err != nil:
		return "", "", err
	}
	state, err := p.store.bucketVersioning(p.ctx)
	if err != nil {
		return "", "", err
	}
	if state != versioned && state != listed || version == "" || version == nullVersion {
		return archive.Absent, "the server ignores If-None-Match: two writers of one name would both believe they won", nil
	}
	if err := p.store.remove(p.ctx, p.store.config.key(p.name), version); err != nil {
		return archive.Absent, fmt.Sprintf("the server ignores If-None-Match, and the version that the attempt left cannot be removed: %v", err), nil
	}
	return p.guarded(content, "the server ignores If-None-Match in a bucket that keeps versions; the oldest version counts, and a later one is removed")
}

// refused adds what versions change.
func (p *probing) refused(content []byte) (archive.State, string, error) {
	state, err := p.store.bucketVersioning(p.ctx)
	switch {
	case err != nil:
		return "", "", err
	case state == hidden:
		return archive.Supported, "whether the bucket keeps versions could not be seen (s3:GetBucketVersioning): if it does, a delete marker frees a name", nil
	case state == unversioned:
		return archive.Supported, "", nil
	}
	return p.guarded(content, "the oldest version counts, also under a delete marker")
}

// guarded tries our own Put, which looks for older versions.
func (p *probing) guarded(content []byte, detail string) (archive.State, string, error) {
	err := p.store.put(p.ctx, p.name, bytes.NewReader(content), archive.PutOptions{})
	if errors.Is(err, fs.ErrExist) {
		return archive.Supported, detail, nil
	}
	if err == nil {
		err = errors.New("an object could be put twice")
	}
	return archive.Absent, err.Error(), nil
}

func (p *probing) content() ([]byte, error) {
	body, err := p.store.get(p.ctx, p.name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	content, err := io.ReadAll(body)
	return content, p.store.explain("s3:GetObject", err)
}

// put makes one plain PUT, so that what the server does is seen.
func (p *probing) put(key string, content []byte, change func(*s3.PutObjectInput)) (version string, err error) {
	digest := manifest.Hash(sha256.Sum256(content))
	err = p.store.do(p.ctx, "s3:PutObject", func(o func(*s3.Options)) error {
		in := &s3.PutObjectInput{
			Bucket: &p.store.config.Bucket, Key: &key, Body: bytes.NewReader(content),
			ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(digest[:])),
		}
		if change != nil {
			change(in)
		}
		out, err := p.store.client.PutObject(p.ctx, in, o, signed(digest))
		if err == nil {
			version = aws.ToString(out.VersionId)
		}
		return err
	})
	return version, err
}

// own is the key of an object of the probe's. No object of an archive is called
// so.
func (p *probing) own() string { return p.store.config.key(".otsnap-probe-" + rand.Text()) }

// checksum puts an object with a wrong x-amz-checksum-sha256.
func (p *probing) checksum() (archive.State, string, error) {
	key := p.own()
	wrong := sha256.Sum256([]byte("something else"))
	version, err := p.put(key, []byte("probe"), func(in *s3.PutObjectInput) {
		in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(wrong[:]))
	})
	switch {
	case err == nil:
		detail := "the server takes an object with a wrong x-amz-checksum-sha256"
		if err := p.store.remove(p.ctx, key, version); err != nil {
			detail += fmt.Sprintf("; %s, with which that was tried, could not be removed: %v", key, err)
		}
		return archive.Absent, detail, nil
	case status(err) != http.StatusBadRequest:
		return "", "", err
	case p.info.SHA256 == manifest.Hash{}:
		return archive.Absent, "the server checks SHA-256 and does not keep it", nil
	}
	return archive.Supported, "", nil
}

func (p *probing) versions() (archive.State, string, error) {
	state, err := p.store.bucketVersioning(p.ctx)
	switch state {
	case versioned:
		return archive.Supported, "", err
	case suspended:
		return archive.Absent, "suspended: the bucket keeps the versions it has and makes no new ones", err
	case hidden, listed:
		return archive.Unknown, "the credentials lack the right s3:GetBucketVersioning", err
	}
	return archive.Absent, "", err
}

func (p *probing) lock() (archive.State, string, error) {
	l, err := p.store.bucketLocking(p.ctx)
	if err != nil {
		return "", "", err
	}
	switch {
	case l.state == archive.Absent:
		return l.state, "the bucket was made without it", nil
	case l.state == archive.Unknown:
		return l.state, "the server does not tell; if it has locks, the credentials need the right s3:GetBucketObjectLockConfiguration", nil
	case l.mode == archive.Unlocked:
		return l.state, "the bucket locks nothing by default", nil
	}
	return l.state, fmt.Sprintf("by default %s for %s", l.mode, l.period), nil
}

// hold puts an object with a legal hold and tries to remove it.
func (p *probing) hold() (archive.State, string, error) {
	l, err := p.store.bucketLocking(p.ctx)
	switch {
	case err != nil:
		return "", "", err
	case l.state == archive.Absent:
		return archive.Absent, "", nil
	case l.state == archive.Unknown:
		return archive.Unknown, "not tried: it could not be seen whether the bucket has object lock", nil
	case l.mode != archive.Unlocked:
		return archive.Unknown, "not tried: by the bucket's default, what is tried with would stay", nil
	}
	key := p.own()
	version, err := p.put(key, []byte("probe"), func(in *s3.PutObjectInput) { in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn })
	if unsupported(err) {
		return archive.Absent, "", nil
	}
	if err != nil {
		return "", "", err
	}
	if err := p.store.remove(p.ctx, key, version); err == nil {
		return archive.Absent, "the server takes a legal hold and lets the object be removed", nil
	} else if !errors.Is(err, archive.ErrLocked) && !denied(err) {
		return "", "", err
	}
	err = p.store.putHold(p.ctx, key, version, false)
	if err == nil {
		err = p.store.remove(p.ctx, key, version)
	}
	if err != nil {
		return archive.Supported, fmt.Sprintf("%s, with which it was tried, stays: %v", key, err), nil
	}
	return archive.Supported, "", nil
}

func (p *probing) bucketLock() (archive.State, string, error) { return archive.Absent, "", nil }

// tiers cannot be tried for nothing.
func (p *probing) tiers() (archive.State, string, error) {
	if p.store.config.Endpoint == "" {
		return archive.Supported, "as Amazon documents; not tried", nil
	}
	detail := "not tried"
	if class := p.store.config.Class; class != "" {
		detail += fmt.Sprintf("; that an object went into %s is read back each time", class)
	}
	return archive.Unknown, detail, nil
}

// encryption looks at the object, which was put with what is asked for.
func (p *probing) encryption() (archive.State, string, error) {
	found := p.info.Encryption
	asked := wanted{sse: p.store.config.SSE, kmsKey: p.store.config.KMSKey}
	switch {
	case asked.nothing() && found == "":
		return archive.Unknown, "not asked for, and not done by default", nil
	case asked.nothing():
		return archive.Supported, found + ", by default", nil
	case asked.encrypted(found):
		return archive.Supported, found, nil
	}
	return archive.Absent, strings.Join(asked.missing(p.info), ""), nil
}
