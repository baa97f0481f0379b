package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/otsnap/otsnap/manifest"
)

const (
	// maxObject is the largest object Fetch takes into memory. Exports cut
	// chunks far below it.
	maxObject = 4 << 30
	// maxUnsized is the largest object of which only the digest is signed: a
	// policy, a plan, a page, a text.
	maxUnsized = 64 << 20
	// eager is how much memory a size alone is worth, before bytes arrive.
	eager = 256 << 20
)

// Fetch reads the object o and returns its bytes once their size and digest are
// those signed. It is the only way bytes of an archive are read that do not
// carry a signature themselves. It never reads more than a byte past the size.
//
// Bytes that differ are [ErrCorrupt], a missing object is [fs.ErrNotExist], an
// object larger than a reader can hold is [manifest.ErrLimit]. Everything else
// that goes wrong wraps [ErrUnavailable] and is no verdict on the object, or is
// the error of ctx.
func Fetch(ctx context.Context, s Store, o manifest.Object) ([]byte, error) {
	data, err := fetch(ctx, s, o)
	if err != nil {
		return nil, fmt.Errorf("archive: fetch %s: %w", o.Name, err)
	}
	return data, nil
}

func fetch(ctx context.Context, s Store, o manifest.Object) ([]byte, error) {
	limit, expect := o.Size, o.Size
	if o.Size == -1 {
		limit, expect = maxUnsized, 0
	}
	if limit < 0 || limit > maxObject {
		return nil, fmt.Errorf("size %d, a reader takes up to %d: %w", o.Size, int64(maxObject), manifest.ErrLimit)
	}
	data, err := read(ctx, s, o.Name, limit, expect)
	if err != nil {
		return nil, err
	}
	if err := checkSize(data, o.Size); err != nil {
		return nil, err
	}
	if got := manifest.Sum(data); got != o.SHA256 {
		return nil, fmt.Errorf("has digest %s, signed is %s: %w", got, o.SHA256, ErrCorrupt)
	}
	return data, nil
}

func checkSize(data []byte, size int64) error {
	switch n := int64(len(data)); {
	case size == -1 && n > maxUnsized:
		return fmt.Errorf("has more than %d bytes: %w", maxUnsized, manifest.ErrLimit)
	case size == -1 || n == size:
		return nil
	case n > size:
		return fmt.Errorf("has more than the %d bytes signed: %w", size, ErrCorrupt)
	default:
		return fmt.Errorf("has %d bytes, signed are %d: %w", n, size, ErrCorrupt)
	}
}

// ReadAll reads an object of at most limit bytes that proves itself by the
// signatures in it: a policy, a manifest, a page, a plan. Errors are those of
// [Fetch], except that a larger object is [manifest.ErrLimit].
func ReadAll(ctx context.Context, s Store, name string, limit int64) ([]byte, error) {
	data, err := read(ctx, s, name, limit, 0)
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("has more than %d bytes: %w", limit, manifest.ErrLimit)
	}
	if err != nil {
		return nil, fmt.Errorf("archive: read %s: %w", name, err)
	}
	return data, nil
}

// read returns the object called name, or of a larger one the first limit+1
// bytes. It makes room for as many as it is told to expect.
func read(ctx context.Context, s Store, name string, limit, expect int64) ([]byte, error) {
	body, err := s.Get(ctx, name)
	if err != nil {
		return nil, blameStore(ctx, err)
	}
	defer body.Close()

	var buf bytes.Buffer
	buf.Grow(int(min(expect, eager)) + bytes.MinRead)
	if _, err := buf.ReadFrom(io.LimitReader(body, limit+1)); err != nil {
		return nil, blameStore(ctx, fmt.Errorf("after %d bytes: %w", buf.Len(), err))
	}
	return buf.Bytes(), nil
}

// blameStore makes sure that an error of a store is never taken for one of the
// object.
func blameStore(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrCorrupt):
		return fmt.Errorf("%v: %w", err, ErrUnavailable)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid), errors.Is(err, ErrUnavailable):
		return err
	}
	return fmt.Errorf("%w: %w", err, ErrUnavailable)
}
