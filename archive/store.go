// Package archive is where a snapshot is kept and how its rows are stored:
// Store is what otsnap needs of object storage, Fetch the one way to read what
// was signed, and a chunk is Arrow record batches as a zstd Parquet object.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/otsnap/otsnap/manifest"
)

// Errors callers branch on, with [fs.ErrExist] and [fs.ErrNotExist].
var (
	// ErrCorrupt is wrapped by errors that say an object is there and is not
	// what was signed.
	ErrCorrupt = errors.New("corrupt")
	// ErrUnavailable is wrapped by errors that say nothing about the data: the
	// store could not be reached, refused the credentials, is full, or broke off
	// in the middle of an object.
	ErrUnavailable = errors.New("storage unavailable")
)

// NotObjectError says what stands where an object is to be and is none: in a
// directory, a link or a device. There is no object of that name then,
// [fs.ErrNotExist].
type NotObjectError struct{ Name, What string }

func (e *NotObjectError) Error() string { return e.Name + " is " + e.What + ", and no object" }

// Is reports whether target is fs.ErrNotExist.
func (e *NotObjectError) Is(target error) bool { return target == fs.ErrNotExist }

// Store keeps write-once objects under slash-separated names. It is all otsnap
// asks of object storage, and package archivetest holds every implementation to
// it.
//
// Methods may be called concurrently, also for the same name and also from
// other processes. Each checks names with [CheckName] before it does anything.
// Once ctx is done they return its error soon, and so does reading a body from
// Get. Every other error, except those named here and those of Put's body,
// wraps [ErrUnavailable].
//
// In a bucket that keeps versions an object is its oldest version: what is laid
// over it later hides it from nobody who reads through a Store.
//
// A name that continues another after a slash ("a/b" beside "a") may be refused,
// since in a directory one of the two would have to be a folder.
type Store interface {
	// Put stores body from its present offset to its end under name. When it
	// returns nil the object is durable and readable, whole, by everyone. If
	// there is an object of that name already, Put leaves it alone and returns
	// an error wrapping [fs.ErrExist]: of several callers racing for a name one
	// gets nil. Any other error leaves either no object or, where the store's
	// answer was lost, the whole of it; never a part. Put may seek back and read
	// body again. A store that had to repeat a request may so meet the object of
	// its own first attempt: it returns nil if the bytes there are those of body,
	// and fs.ErrExist if they are not. What opts ask for and the store or its
	// bucket cannot do is [errors.ErrUnsupported]; then there is no object, or one
	// without it.
	Put(ctx context.Context, name string, body io.ReadSeeker, opts PutOptions) error

	// Get opens the object called name. If there is none, its error wraps
	// [fs.ErrNotExist]. A body that ends without an error is the whole object,
	// also when the object is deleted meanwhile. The caller closes it.
	Get(ctx context.Context, name string) (io.ReadCloser, error)

	// List yields the objects whose names begin with prefix, which need not end
	// at a slash, in the byte order of their whole names. Objects that appear or
	// vanish during the iteration may or may not be among them; objects that are
	// still being stored never are. An error is the last element.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]

	// Delete removes the object called name. If there is none, its error wraps
	// [fs.ErrNotExist], if it may not be removed, [ErrLocked]. When it returns nil
	// the name is free.
	Delete(ctx context.Context, name string) error
}

// PutOptions are what a caller asks of the store for one object.
type PutOptions struct {
	// SHA256 is the digest of what is put, if the caller knows it: a store that
	// can then has the server check it. Zero: not known.
	SHA256 manifest.Hash
	// Lock is how the object is to be retained; the zero Lock leaves that to the
	// bucket. A store without locks refuses any other.
	Lock Lock
	// Bulk marks an object that only a restore or a verification of contents
	// reads. A store may keep it in the storage class it is configured with; all
	// others stay readable at once.
	Bulk bool
}

// Object is an object as the store lists it.
type Object struct {
	Name string
	Size int64 // bytes
}

// Limits of names. OSS takes 1023 bytes and most file systems 255 a part; the
// rest is left for the prefix a store puts in front.
const (
	maxName = 512
	maxPart = 255
)

// CheckName reports why name cannot be the name of an object, wrapping
// [fs.ErrInvalid]. Names are UTF-8 without control characters and backslashes,
// at most 512 bytes, in parts separated by single slashes. No part begins with
// a dot: that leaves no ".." and lets a directory keep files of its own.
func CheckName(name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("object name %.600q: %w: %w", name, err, fs.ErrInvalid)
	}
	return nil
}

func checkName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("%d bytes, at most %d are allowed", len(name), maxName)
	}
	if !utf8.ValidString(name) {
		return errors.New("not UTF-8")
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return errors.New("control character")
	}
	if strings.Contains(name, `\`) {
		return errors.New("backslash")
	}
	for part := range strings.SplitSeq(name, "/") {
		if err := checkPart(part); err != nil {
			return err
		}
	}
	return nil
}

func checkPart(part string) error {
	switch {
	case part == "":
		return errors.New("empty part")
	case part[0] == '.':
		return fmt.Errorf("part %q begins with a dot", part)
	case len(part) > maxPart:
		return fmt.Errorf("part of %d bytes, at most %d are allowed", len(part), maxPart)
	}
	return nil
}
