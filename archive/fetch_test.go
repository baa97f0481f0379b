package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
)

var content = []byte("the bytes that were signed")

func signed() manifest.Object {
	return manifest.Object{Name: "object", Size: int64(len(content)), SHA256: manifest.Sum(content)}
}

func storeWith(data []byte) *archivetest.Memory {
	m := new(archivetest.Memory)
	m.Replace("object", data)
	return m
}

func TestFetchReturnsWhatWasSigned(t *testing.T) {
	unsized := signed()
	unsized.Size = -1
	for _, o := range []manifest.Object{signed(), unsized} {
		got, err := archive.Fetch(t.Context(), storeWith(content), o)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("size %d: got %q, %v", o.Size, got, err)
		}
	}
	empty := manifest.Object{Name: "object", SHA256: manifest.Sum(nil)}
	if got, err := archive.Fetch(t.Context(), storeWith(nil), empty); err != nil || len(got) != 0 {
		t.Errorf("empty object: got %q, %v", got, err)
	}
}

func TestFetchRefusesEveryOtherContent(t *testing.T) {
	others := [][]byte{nil, content[:len(content)-1], content[1:], append(bytes.Clone(content), 0)}
	for i := range content {
		flipped := bytes.Clone(content)
		flipped[i] ^= 0x10
		others = append(others, flipped)
	}
	unsized := signed()
	unsized.Size = -1
	for _, other := range others {
		for _, o := range []manifest.Object{signed(), unsized} {
			got, err := archive.Fetch(t.Context(), storeWith(other), o)
			if got != nil || !errors.Is(err, archive.ErrCorrupt) || errors.Is(err, archive.ErrUnavailable) {
				t.Errorf("%q fetched with size %d: got %q, %v; want ErrCorrupt", other, o.Size, got, err)
			}
		}
	}
}

// endless is a store whose objects do not end. It counts the bytes it gave.
type endless struct {
	archive.Store
	given int64
}

func (e *endless) Get(context.Context, string) (io.ReadCloser, error) { return io.NopCloser(e), nil }

func (e *endless) Read(p []byte) (int, error) {
	e.given += int64(len(p))
	return len(p), nil
}

func TestFetchReadsAtMostOneByteTooMany(t *testing.T) {
	for _, size := range []int64{0, 1, 1000, 3 << 20} {
		s := new(endless)
		_, err := archive.Fetch(t.Context(), s, manifest.Object{Name: "object", Size: size})
		if !errors.Is(err, archive.ErrCorrupt) {
			t.Errorf("size %d: got %v, want ErrCorrupt", size, err)
		}
		if s.given > size+1 {
			t.Errorf("size %d: %d bytes were read", size, s.given)
		}
	}
}

func TestSizesNobodyCanHoldAreLimits(t *testing.T) {
	for _, size := range []int64{-2, 1 << 40} {
		s := new(endless)
		_, err := archive.Fetch(t.Context(), s, manifest.Object{Name: "object", Size: size})
		if !errors.Is(err, manifest.ErrLimit) || s.given != 0 {
			t.Errorf("size %d: got %v after %d bytes, want ErrLimit after none", size, err, s.given)
		}
	}
	_, err := archive.Fetch(t.Context(), new(endless), manifest.Object{Name: "object", Size: -1})
	if !errors.Is(err, manifest.ErrLimit) {
		t.Errorf("endless object without a signed size: got %v, want ErrLimit", err)
	}
}

func TestTroubleIsNotCorruption(t *testing.T) {
	for name, s := range map[string]archive.Store{
		"refused":       failing{err: errors.New("403 Forbidden")},
		"before":        &archivetest.Faulty{Store: storeWith(content), Cue: archivetest.OnNth("get", 1, archivetest.Before)},
		"cut off":       &archivetest.Faulty{Store: storeWith(content), Cue: archivetest.OnNth("get", 1, archivetest.Cut)},
		"a store's own": failing{err: fmt.Errorf("decorator: %w", archive.ErrCorrupt)},
	} {
		_, err := archive.Fetch(t.Context(), s, signed())
		if !errors.Is(err, archive.ErrUnavailable) || errors.Is(err, archive.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrUnavailable alone", name, err)
		}
	}
	for name, fault := range map[string]archivetest.Fault{"short": archivetest.Short, "long": archivetest.Long, "flipped": archivetest.Flip} {
		s := &archivetest.Faulty{Store: storeWith(content), Cue: archivetest.OnNth("get", 1, fault)}
		if _, err := archive.Fetch(t.Context(), s, signed()); !errors.Is(err, archive.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
}

// failing is a store whose Get fails.
type failing struct {
	archive.Store
	err error
}

func (f failing) Get(context.Context, string) (io.ReadCloser, error) { return nil, f.err }

func TestMissingIsErrNotExist(t *testing.T) {
	var m archivetest.Memory
	_, fetchErr := archive.Fetch(t.Context(), &m, signed())
	_, readErr := archive.ReadAll(t.Context(), &m, "object", 100)
	for _, err := range []error{fetchErr, readErr} {
		if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, archive.ErrUnavailable) || errors.Is(err, archive.ErrCorrupt) {
			t.Errorf("got %v, want fs.ErrNotExist alone", err)
		}
	}
}

func TestCancelIsNeitherTroubleNorCorruption(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := archive.Fetch(ctx, storeWith(content), signed())
	if !errors.Is(err, context.Canceled) || errors.Is(err, archive.ErrUnavailable) || errors.Is(err, archive.ErrCorrupt) {
		t.Errorf("got %v, want context.Canceled alone", err)
	}
}

func TestReadAllReadsUpToItsLimit(t *testing.T) {
	n := int64(len(content))
	if got, err := archive.ReadAll(t.Context(), storeWith(content), "object", n); err != nil || !bytes.Equal(got, content) {
		t.Errorf("at the limit: got %q, %v", got, err)
	}
	if _, err := archive.ReadAll(t.Context(), storeWith(content), "object", n-1); !errors.Is(err, manifest.ErrLimit) {
		t.Errorf("over the limit: got %v, want ErrLimit", err)
	}
}
