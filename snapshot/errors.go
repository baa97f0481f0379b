package snapshot

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

var (
	// ErrMissing is wrapped when an object that a signed document names, or a
	// link of the chain, is not in the store.
	ErrMissing = errors.New("object is missing")

	// ErrNoTable is wrapped when the tables asked for are not there to choose.
	ErrNoTable = errors.New("no such table")

	// ErrWish is wrapped when what is asked for contradicts itself.
	ErrWish = errors.New("cannot be asked for")

	// ErrWeaker is wrapped when an object is not retained as was signed, or as was
	// asked.
	ErrWeaker = errors.New("retention is weaker than signed")

	// ErrShadowed is wrapped when something is laid over an object: a newer version
	// or a delete marker.
	ErrShadowed = errors.New("object is shadowed")

	// ErrDiffers is wrapped when a live table is not what was signed.
	ErrDiffers = errors.New("differs from what was signed")
)

// missing turns the absence of a named object into ErrMissing, and leaves any
// other error as it is.
func missing(object string, err error) error {
	var other *archive.NotObjectError
	if errors.As(err, &other) {
		return fmt.Errorf("%s: %w: %w", object, ErrMissing, other)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", object, ErrMissing)
	}
	return err
}

// inTable wraps err with the table it is about.
func inTable(t manifest.Table, err error) error {
	return fmt.Errorf("snapshot: table %s: %w", t.Name, err)
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
