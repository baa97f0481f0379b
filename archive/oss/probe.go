package oss

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"io"
	"net/http"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive"
)

// Probe finds out what the bucket can do. It puts the object called name, which
// is there, once more as it is; where the bucket keeps versions it does not, as
// that would lay another over it.
func (s *Store) Probe(ctx context.Context, name string) ([]archive.Capability, error) {
	key, err := s.key(name)
	if err != nil {
		return nil, err
	}
	var header http.Header
	err = s.found(ctx, key, func(id string) error {
		header, err = s.head(ctx, key, id)
		return err
	})
	if err != nil && !denied(err) {
		return nil, failed(ctx, "probe", name, err)
	}
	state, err := s.state(ctx)
	if err != nil {
		return nil, failed(ctx, "probe", name, err)
	}
	createOnly, err := s.probeCreateOnly(ctx, key, state)
	if err != nil {
		return nil, failed(ctx, "probe", name, err)
	}
	bucketLock, err := s.probeBucketLock(ctx)
	if err != nil {
		return nil, failed(ctx, "probe", name, err)
	}
	return []archive.Capability{
		createOnly,
		{Name: archive.CanChecksum, State: archive.Absent, Detail: "OSS checks MD5 and CRC64, not SHA-256; what is written is read back: " + string(s.config.readBack())},
		capabilityOf(state),
		{Name: archive.CanLock, State: archive.Absent, Detail: "not of single objects; see " + archive.CanBucketLock},
		{Name: archive.CanHold, State: archive.Absent, Detail: "not of single objects"},
		bucketLock,
		{Name: archive.CanTier, State: archive.Supported, Detail: "Archive, ColdArchive, DeepColdArchive"},
		s.probeEncryption(header),
	}, nil
}

func (c Config) readBack() ReadBack {
	if c.ReadBack == "" {
		return ReadBackSample
	}
	return c.ReadBack
}

func capabilityOf(state versioning) archive.Capability {
	switch state {
	case enabled:
		return archive.Capability{Name: archive.CanVersion, State: archive.Supported}
	case suspended:
		return archive.Capability{Name: archive.CanVersion, State: archive.Absent, Detail: "suspended; the versions it has are kept, and nothing can be put"}
	case plain:
		return archive.Capability{Name: archive.CanVersion, State: archive.Absent}
	}
	return archive.Capability{Name: archive.CanVersion, State: archive.Unknown, Detail: "needs the right oss:GetBucketVersioning"}
}

// maxProbe is the longest object that is put once more, in bytes.
const maxProbe = 16 << 20

func (s *Store) probeCreateOnly(ctx context.Context, key string, state versioning) (archive.Capability, error) {
	found := archive.Capability{Name: archive.CanCreateOnly, State: archive.Unknown}
	switch state {
	case enabled:
		found.State = archive.Supported
		found.Detail = "by the order of versions: the oldest is the object, and a later one is taken back"
		return found, nil
	case suspended:
		found.State, found.Detail = archive.Absent, "versioning is suspended, so that a second write replaces the first"
		return found, nil
	}
	content, err := s.content(ctx, key)
	if denied(err) || errors.Is(err, archive.ErrFrozen) || hasCode(err, "InvalidObjectState") {
		found.Detail = "the object to try on cannot be read: " + err.Error()
		return found, nil
	}
	if err != nil {
		return found, err
	}
	if len(content) > maxProbe {
		found.Detail = "the object to try on is too long"
		return found, nil
	}
	err = s.putAgain(ctx, key, content)
	switch {
	case hasCode(err, "FileAlreadyExists"):
		found.State = archive.Supported
	case err == nil:
		found.State, found.Detail = archive.Absent, "the service took a second write of a name that was to be refused"
	case denied(err):
		found.Detail = "needs the right oss:PutObject"
	default:
		return found, err
	}
	return found, nil
}

// content reads an object, up to a byte more than a probe takes.
func (s *Store) content(ctx context.Context, key string) ([]byte, error) {
	body, err := s.open(ctx, key, "")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(io.LimitReader(body, maxProbe+1))
}

// putAgain puts an object that is there with the bytes it has: a service that
// does not refuse that has changed nothing.
func (s *Store) putAgain(ctx context.Context, key string, content []byte) error {
	sum := md5.Sum(content)
	return s.do(ctx, func(int) error {
		resp, err := s.send(ctx, call{method: http.MethodPut, key: key, body: bytes.NewReader(content), right: "oss:PutObject", options: []oss.Option{
			oss.ForbidOverWrite(true),
			oss.ContentMD5(base64.StdEncoding.EncodeToString(sum[:])),
			oss.ContentType("application/octet-stream"),
		}})
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
}

func (s *Store) probeBucketLock(ctx context.Context) (archive.Capability, error) {
	found := archive.Capability{Name: archive.CanBucketLock, State: archive.Supported}
	lock, err := s.askWorm(ctx)
	if denied(err) {
		found.State, found.Detail = archive.Unknown, "needs the right oss:GetBucketWorm"
		return found, nil
	}
	found.Detail = described(lock)
	return found, err
}

// probeEncryption tells whether the object has the encryption that was asked
// for.
func (s *Store) probeEncryption(header http.Header) archive.Capability {
	found := archive.Capability{Name: archive.CanEncrypt}
	has := header.Get(oss.HTTPHeaderOssServerSideEncryption)
	switch {
	case header == nil:
		found.State, found.Detail = archive.Unknown, "needs the right oss:GetObject"
	case s.config.SSE == "" && has == "":
		found.State, found.Detail = archive.Absent, "not asked for, and the bucket does not by itself"
	case s.config.SSE == "" || has == s.config.SSE:
		found.State, found.Detail = archive.Supported, has
	default:
		found.State, found.Detail = archive.Absent, "asked for "+s.config.SSE+", the object to try on has none such"
	}
	return found
}
