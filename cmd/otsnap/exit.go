package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/rfc3161"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore"
	"github.com/spf13/cobra"
)

// The exit codes. Scripts rely on them.
const (
	exitError       = 1
	exitUsage       = 2
	exitUntrusted   = 10
	exitRollback    = 11
	exitMissing     = 12
	exitCorrupt     = 13
	exitDiffers     = 14
	exitLimit       = 15
	exitFormat      = 16
	exitWeaker      = 17
	exitFrozen      = 18
	exitUnavailable = 20
	exitKey         = 21
	exitInterrupted = 130
)

// errUsage is wrapped by errors in what the user typed, errKey by those of a key
// that is not there or cannot be used.
var (
	errUsage = errors.New("usage")
	errKey   = errors.New("key")
)

// labelled is an error that also is a sentinel, without saying so in its text.
type labelled struct {
	error
	sentinel error
}

func (l labelled) Is(target error) bool { return target == l.sentinel }
func (l labelled) Unwrap() error        { return l.error }

// usage is an error in what the user typed after cmd.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return advise(misused(format, args...), "see: %s --help", cmd.CommandPath())
}

// misused is usage for where the command is not at hand.
func misused(format string, args ...any) error {
	return labelled{fmt.Errorf(format, args...), errUsage}
}

// advised is an error with a line that says what to do about it.
type advised struct {
	error
	hint string
}

func (a advised) Unwrap() error { return a.error }

// advise adds a hint to an error. One that is nil stays nil.
func advise(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return advised{err, fmt.Sprintf(format, args...)}
}

// verdict is what an error means to whoever, or whatever, ran the command.
type verdict struct {
	is   error
	exit int
	hint string
}

// verdicts are in order of precedence: an error may be several of them.
func verdicts() []verdict {
	return []verdict{
		{errUsage, exitUsage, ""},
		{snapshot.ErrNoTable, exitUsage, ""},
		{snapshot.ErrWish, exitUsage, ""},
		{errKey, exitKey, ""},
		{manifest.ErrUntrusted, exitUntrusted, "do not use this archive until you know why: compare what is named with another copy of the archive, and the archive's id with the one you wrote down"},
		{manifest.ErrRollback, exitRollback, "somebody may have removed or replaced a snapshot; look for it among older versions of the objects and in other copies"},
		{snapshot.ErrMissing, exitMissing, "look for the object in another copy of the archive, put it back, and verify again; of a copy with some snapshots only, choose one: --snapshot NUMBER"},
		{archive.ErrCorrupt, exitCorrupt, "put the object back from another copy of the archive, and verify again"},
		{manifest.ErrInvalid, exitCorrupt, "put the object back from another copy of the archive, and verify again"},
		{snapshot.ErrShadowed, exitWeaker, "the object itself is there and otsnap reads it; others see what was laid over it: remove that version or marker by its id, and find out whose it is"},
		{snapshot.ErrWeaker, exitWeaker, "lock what is locked less: otsnap lock extend --help; for a bucket of OSS, otsnap lock bucket --help"},
		{snapshot.ErrDiffers, exitDiffers, ""},
		{manifest.ErrLimit, exitLimit, "otsnap writes nothing that is over a limit, and reads nothing that is; if it is an object of the archive, somebody else put it there: put the right one back from another copy"},
		{manifest.ErrFormat, exitFormat, "a newer otsnap wrote this; use that or a later version"},
		{errors.ErrUnsupported, exitError, ""},
		{archive.ErrFrozen, exitFrozen, "ask for the objects to be readable for a while: otsnap thaw --help"},
		{tablestore.ErrCredentials, exitUnavailable, "check the access key, what it may do, and the clock of this machine"},
		{archive.ErrUnavailable, exitUnavailable, "this is no verdict on the data: mend access to the archive and run the same command again"},
		{snapshot.ErrUnavailable, exitUnavailable, "this is no verdict on the data: mend access to the instance and run the same command again"},
		{rfc3161.ErrUnavailable, exitUnavailable, "this is no verdict on the archive, and nothing was put there: run the same command again, or name another authority with --tsa"},
		{fs.ErrPermission, exitError, "check who owns it and who may write there"},
	}
}

// judge returns the verdict on an error that ended a command.
func judge(ctx context.Context, err error) verdict {
	if ctx.Err() != nil {
		return verdict{exit: exitInterrupted}
	}
	v := verdict{exit: exitError}
	for _, candidate := range verdicts() {
		if errors.Is(err, candidate.is) {
			v = candidate
			break
		}
	}
	var a advised
	if errors.As(err, &a) {
		v.hint = a.hint
	}
	return v
}

// finish tells of the error that ended the command, if one did, and returns the
// exit code.
func (a *app) finish(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	v := judge(ctx, err)
	message := err.Error()
	if v.exit == exitInterrupted {
		message, v.hint = "interrupted", a.resume
	}
	for line := range strings.SplitSeq(message, "\n") {
		fmt.Fprintf(a.stderr, "otsnap: %s\n", console.Printable(sentence(line)))
	}
	if v.hint != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", console.Printable(v.hint))
	}
	if a.json && !a.answered {
		_ = json.NewEncoder(a.stdout).Encode(struct {
			Error string `json:"error"`
			Hint  string `json:"hint,omitempty"`
			Exit  int    `json:"exit"`
		}{sentence(message), v.hint, v.exit})
	}
	return v.exit
}

// sentence leaves out of an error the names of packages, which the user called
// none of, and at its end what the library adds for programs to branch on.
func sentence(line string) string {
	for _, sentinel := range []error{fs.ErrExist, fs.ErrNotExist, errors.ErrUnsupported, snapshot.ErrWish} {
		line = strings.TrimSuffix(line, ": "+sentinel.Error())
	}
	parts := strings.Split(line, ": ")
	return strings.Join(slices.DeleteFunc(parts, isPackage), ": ")
}

func isPackage(part string) bool {
	switch part {
	case "snapshot", "tablestore", "manifest", "archive", "dir", "s3", "oss":
		return true
	}
	return false
}
