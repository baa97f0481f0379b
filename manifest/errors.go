package manifest

import (
	"errors"
	"fmt"
)

// What is wrong with a document, for [errors.Is].
var (
	// ErrUntrusted says that the signatures are not those the policy asks for, or
	// that the document belongs to another archive.
	ErrUntrusted = errors.New("untrusted")

	// ErrRollback says that the manifests are not the chain that was signed, or
	// that the chain ends before, or differs from, what was seen earlier.
	ErrRollback = errors.New("rollback")

	// ErrFormat says that a newer program wrote the document. It was signed by
	// trusted keys; this program cannot read it.
	ErrFormat = errors.New("format too new")

	// ErrLimit says that a document is over one of the limits of this package.
	ErrLimit = errors.New("over a limit")

	// ErrInvalid says that a document breaks a rule of FORMAT.md.
	ErrInvalid = errors.New("invalid")
)

func invalid(format string, args ...any) error { return because(ErrInvalid, format, args...) }

func overLimit(format string, args ...any) error { return because(ErrLimit, format, args...) }

func untrusted(format string, args ...any) error { return because(ErrUntrusted, format, args...) }

func rollback(format string, args ...any) error { return because(ErrRollback, format, args...) }

func because(sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: %w", sentinel, fmt.Errorf(format, args...))
}
