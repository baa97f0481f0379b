package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/otsnap/otsnap/archive"
)

// once is something found out at the first use that succeeds.
type once[T any] struct {
	mu    sync.Mutex
	known bool
	value T
}

func (o *once[T]) get(find func() (T, error)) (T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known {
		return o.value, nil
	}
	value, err := find()
	if err == nil {
		o.known, o.value = true, value
	}
	return value, err
}

// versioning is what a bucket does with versions.
type versioning string

const (
	unversioned versioning = "never"
	versioned   versioning = "enabled"
	suspended   versioning = "suspended" // and keeps those it has
	listed      versioning = "listed"    // these credentials may not ask, and list versions, if there are
	hidden      versioning = "hidden"    // nor that; an answer with a version id tells
)

// keepsVersions reports whether objects have to be read by version. Where that
// cannot be known yet, they are read without.
func (s *Store) keepsVersions(ctx context.Context) (bool, error) {
	v, err := s.bucketVersioning(ctx)
	return v == versioned || v == suspended || v == listed, err
}

// learn notes from an answer about an object that the bucket keeps versions,
// where that could not be seen.
func (s *Store) learn(version *string) {
	if aws.ToString(version) == "" {
		return
	}
	s.versioning.mu.Lock()
	defer s.versioning.mu.Unlock()
	if s.versioning.value == hidden {
		s.versioning.value = versioned
	}
}

func (s *Store) bucketVersioning(ctx context.Context) (versioning, error) {
	return s.versioning.get(func() (versioning, error) {
		var out *s3.GetBucketVersioningOutput
		err := s.do(ctx, "s3:GetBucketVersioning", func(o func(*s3.Options)) (err error) {
			out, err = s.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &s.config.Bucket}, o)
			return err
		})
		switch {
		case denied(err):
			return s.listsVersions(ctx)
		case err != nil && (unsupported(err) || code(err) == "VersioningNotConfigured"):
			return unversioned, nil
		case err != nil:
			return "", err
		case out.Status == types.BucketVersioningStatusEnabled:
			return versioned, nil
		case out.Status == types.BucketVersioningStatusSuspended:
			return suspended, nil
		}
		return unversioned, nil
	})
}

// listsVersions tries whether versions can be listed, which is another right.
func (s *Store) listsVersions(ctx context.Context) (versioning, error) {
	prefix := s.config.key("")
	err := s.do(ctx, "s3:ListBucketVersions", func(o func(*s3.Options)) error {
		_, err := s.client.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &s.config.Bucket, Prefix: &prefix, MaxKeys: aws.Int32(1)}, o)
		return err
	})
	if err == nil {
		return listed, nil
	}
	if denied(err) || unsupported(err) {
		return hidden, nil
	}
	return "", err
}

// version is one version of an object, or a delete marker.
type version struct {
	key, id  string
	size     int64
	modified time.Time
	latest   bool
}

// history is all that a bucket keeps under one key.
type history struct {
	key      string
	versions []version // newest first
	markers  []version
}

// object is the version that counts: the oldest.
func (h history) object() (version, bool) {
	if len(h.versions) == 0 {
		return version{}, false
	}
	return h.versions[len(h.versions)-1], true
}

// histories lists versions, key by key in byte order, size entries at a time.
func (s *Store) histories(ctx context.Context, prefix string, size int32) iter.Seq2[history, error] {
	return func(yield func(history, error) bool) {
		in := &s3.ListObjectVersionsInput{Bucket: &s.config.Bucket, Prefix: &prefix, EncodingType: "url", MaxKeys: &size}
		var open history // the key a page may have ended in
		for {
			var out *s3.ListObjectVersionsOutput
			err := s.do(ctx, "s3:ListBucketVersions", func(o func(*s3.Options)) (err error) {
				out, err = s.client.ListObjectVersions(ctx, in, o)
				return err
			})
			if err != nil {
				yield(history{}, err)
				return
			}
			page, err := entries(out)
			if err != nil {
				yield(history{}, err)
				return
			}
			for _, h := range page {
				if h.key == open.key {
					open.versions, open.markers = append(open.versions, h.versions...), append(open.markers, h.markers...)
					continue
				}
				if h.key < open.key {
					yield(history{}, fmt.Errorf("the server lists versions of %q after those of %q, which is not the order of keys, and may not end", h.key, open.key))
					return
				}
				if open.key != "" && !yield(open, nil) {
					return
				}
				open = h
			}
			if !aws.ToBool(out.IsTruncated) {
				break
			}
			if err := next(in, out); err != nil {
				yield(history{}, err)
				return
			}
		}
		if open.key != "" {
			yield(open, nil)
		}
	}
}

// next moves in on to the page behind out.
func next(in *s3.ListObjectVersionsInput, out *s3.ListObjectVersionsOutput) error {
	key, err := decodeKey(string(out.EncodingType), aws.ToString(out.NextKeyMarker))
	if err != nil {
		return err
	}
	id := out.NextVersionIdMarker
	if key == "" || key == aws.ToString(in.KeyMarker) && aws.ToString(id) == aws.ToString(in.VersionIdMarker) {
		return errors.New("the server says there are more versions and not where")
	}
	in.KeyMarker, in.VersionIdMarker = &key, id
	return nil
}

// entries merges the versions and the delete markers of a page, which come
// apart, each in the order of keys.
func entries(out *s3.ListObjectVersionsOutput) ([]history, error) {
	var versions, markers []version
	for _, v := range out.Versions {
		key, err := decodeKey(string(out.EncodingType), aws.ToString(v.Key))
		if err != nil {
			return nil, err
		}
		versions = append(versions, version{key, aws.ToString(v.VersionId), aws.ToInt64(v.Size), aws.ToTime(v.LastModified).UTC(), aws.ToBool(v.IsLatest)})
	}
	for _, m := range out.DeleteMarkers {
		key, err := decodeKey(string(out.EncodingType), aws.ToString(m.Key))
		if err != nil {
			return nil, err
		}
		markers = append(markers, version{key, aws.ToString(m.VersionId), 0, aws.ToTime(m.LastModified).UTC(), aws.ToBool(m.IsLatest)})
	}
	var page []history
	for len(versions) > 0 || len(markers) > 0 {
		key := ""
		if len(versions) > 0 {
			key = versions[0].key
		}
		if len(markers) > 0 && (key == "" || markers[0].key < key) {
			key = markers[0].key
		}
		h := history{key: key}
		h.versions, versions = leading(versions, key)
		h.markers, markers = leading(markers, key)
		page = append(page, h)
	}
	return page, nil
}

// leading cuts off those at the beginning of list that have the key.
func leading(list []version, key string) (first, rest []version) {
	n := 0
	for n < len(list) && list[n].key == key {
		n++
	}
	return list[:n:n], list[n:]
}

// decodeKey is a key as listed: percent-encoded if the answer says so, since XML
// cannot hold all characters.
func decodeKey(encoding, key string) (string, error) {
	if encoding != string(types.EncodingTypeUrl) {
		return key, nil
	}
	decoded, err := url.QueryUnescape(key)
	if err != nil {
		return "", fmt.Errorf("the server lists a key in a wrong encoding: %w", err)
	}
	return decoded, nil
}

// page is how many entries S3 lists at once at most.
const page = 1000

// oldestVersions lists the objects of a bucket that keeps versions.
func (s *Store) oldestVersions(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		for h, err := range s.histories(ctx, prefix, page) {
			if err != nil {
				yield(archive.Object{}, err)
				return
			}
			object, ok := h.object()
			if !ok {
				continue
			}
			s.remember(h.key, object.id)
			if !yield(archive.Object{Name: s.config.name(h.key), Size: object.size}, nil) {
				return
			}
		}
	}
}

// history lists what the bucket keeps under key and nothing beside it. The keys
// that continue it sort behind.
func (s *Store) history(ctx context.Context, key string) (history, error) {
	const few = 10
	for h, err := range s.histories(ctx, key, few) {
		if err != nil || h.key == key {
			return h, err
		}
		break
	}
	return history{key: key}, nil
}

// cached is how many version ids are kept at most; they save a request each.
const cached = 1 << 16

func (s *Store) remember(key, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.oldest) >= cached {
		for other := range s.oldest {
			delete(s.oldest, other)
			break
		}
	}
	s.oldest[key] = id
}

func (s *Store) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.oldest, key)
}

// current calls use with the version of the object called name that counts, or
// without one where the bucket keeps none.
func (s *Store) current(ctx context.Context, name string, use func(version string) error) error {
	versions, err := s.keepsVersions(ctx)
	if err != nil {
		return err
	}
	if !versions {
		err := use("")
		if versions, _ := s.keepsVersions(ctx); !versions {
			return err
		}
		// The answer told that there are versions.
	}
	key := s.config.key(name)
	s.mu.Lock()
	id, ok := s.oldest[key]
	s.mu.Unlock()
	if ok {
		err := use(id)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.forget(key) // removed by someone else, who may have put another
	}
	h, err := s.history(ctx, key)
	if err != nil {
		return err
	}
	object, ok := h.object()
	if !ok {
		return fs.ErrNotExist
	}
	if err := use(object.id); err != nil {
		return err
	}
	s.remember(key, object.id)
	return nil
}

// deleteVersions removes all that the bucket keeps under key. The object itself
// goes last: until then it stays what is read.
func (s *Store) deleteVersions(ctx context.Context, key string) error {
	h, err := s.history(ctx, key)
	if err != nil {
		return err
	}
	object, ok := h.object()
	if !ok {
		return fs.ErrNotExist
	}
	if info, err := s.head(ctx, key, object.id); err == nil && retains(info.Lock) {
		return lockedError(info.Lock)
	}
	for _, v := range append(h.markers, h.versions...) {
		if err := s.remove(ctx, key, v.id); err != nil {
			return err
		}
	}
	return nil
}

// Shadows yields the newer versions of objects, and the delete markers over
// them.
func (s *Store) Shadows(ctx context.Context, prefix string) iter.Seq2[archive.Shadow, error] {
	return func(yield func(archive.Shadow, error) bool) {
		err := s.shadows(ctx, prefix, func(shadow archive.Shadow) bool { return yield(shadow, nil) })
		if err != nil {
			yield(archive.Shadow{}, s.failed(ctx, "list what hides", fmt.Sprintf("%q", prefix), err))
		}
	}
}

func (s *Store) shadows(ctx context.Context, prefix string, yield func(archive.Shadow) bool) error {
	asked, ok := listable(prefix)
	if !ok {
		return ctx.Err()
	}
	state, err := s.bucketVersioning(ctx)
	switch {
	case err != nil:
		return err
	case state == unversioned:
		return nil
	case state == hidden:
		return fmt.Errorf("these credentials may not see whether bucket %s keeps versions (s3:GetBucketVersioning): %w", s.config.Bucket, errors.ErrUnsupported)
	}
	for h, err := range s.histories(ctx, s.config.key(asked), page) {
		if denied(err) {
			return fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
		}
		if err != nil {
			return err
		}
		name := s.config.name(h.key)
		if len(name) < len(prefix) || name[:len(prefix)] != prefix || archive.CheckName(name) != nil {
			continue
		}
		for _, v := range h.shadows() {
			v.Name = name
			if !yield(v) {
				return nil
			}
		}
	}
	return nil
}

// shadows are what was laid over the object since it was put, newest first.
func (h history) shadows() []archive.Shadow {
	object, ok := h.object()
	if !ok {
		return nil
	}
	var shadows []archive.Shadow
	add := func(v version, marker bool) {
		shadows = append(shadows, archive.Shadow{Version: v.id, Marker: marker, Size: v.size, Modified: v.modified})
	}
	newer := h.versions[:len(h.versions)-1]
	for _, m := range h.markers {
		for len(newer) > 0 && !m.latest && newer[0].modified.After(m.modified) {
			add(newer[0], false)
			newer = newer[1:]
		}
		// Times are in whole seconds: of one of the object's own it is not known
		// whether it was there before, unless it is the latest.
		if m.latest || m.modified.After(object.modified) {
			add(m, true)
		}
	}
	for _, v := range newer {
		add(v, false)
	}
	return shadows
}
