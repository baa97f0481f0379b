package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/dir"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/progress"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore"
	"github.com/spf13/cobra"
)

// place is where an archive is or will be.
type place struct {
	name   string // in full, so that it is the same from every directory
	open   func() (archive.Store, error)
	create func() (archive.Store, error)
}

// locate finds the place of an ARCHIVE argument. It is the one switch over URL
// schemes.
func locate(location string) (place, error) {
	scheme, rest, hasScheme := strings.Cut(location, "://")
	switch {
	case location == "":
		return place{}, misused("the archive's address is empty")
	case !hasScheme:
		return directory(location)
	case scheme == "dir":
		return directory(rest)
	case scheme == "s3", scheme == "oss":
		return place{}, advise(misused("%s:// archives come in a later version; this one keeps archives in directories", scheme),
			"export to a directory and copy it to the bucket with the cloud's own tool; every object is write-once, so a copy is never torn")
	case scheme == "http", scheme == "https":
		return place{}, advise(misused("%s is the address of an instance, not of an archive", location),
			"the order is: otsnap export INSTANCE ARCHIVE, otsnap restore ARCHIVE INSTANCE")
	}
	return place{}, misused("no archive can be at %s:// addresses; give the path of a directory", scheme)
}

func directory(path string) (place, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return place{}, misused("archive %q: %w", path, err)
	}
	return place{
		name:   full,
		open:   func() (archive.Store, error) { return store(dir.Open(full)) },
		create: func() (archive.Store, error) { return store(dir.Create(full)) },
	}, nil
}

// store keeps a nil *dir.Store from becoming a Store that is not nil.
func store(s *dir.Store, err error) (archive.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// archiveFlags are those of every command that opens an archive.
type archiveFlags struct {
	trust string
	id    string
}

func (f *archiveFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.trust, "trust", "", "trust `FILE` (default: $OTSNAP_TRUST, or one for the archive in the user's configuration)")
	cmd.Flags().StringVar(&f.id, "archive-id", "", "the archive's `ID`, as written down at init; needed once on a new machine")
}

// opened is an archive with the file that says what to trust about it.
type opened struct {
	*snapshot.Archive
	app  *app
	file trustFile
}

// openArchive opens the archive at location under what the user trusts.
func (a *app) openArchive(ctx context.Context, location string, flags archiveFlags) (*opened, error) {
	where, err := locate(location)
	if err != nil {
		return nil, err
	}
	store, err := where.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, advise(fmt.Errorf("there is no archive at %s: %w", where.name, err), "is the path right, and the disk mounted? A new archive is made by: otsnap init %s --key FILE", location)
	}
	if err != nil {
		return nil, err
	}
	file, err := a.trustFile(where, flags.trust)
	if err != nil {
		return nil, err
	}
	trust, err := file.load(flags.id)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", where.name, err)
	}
	opening, err := snapshot.Open(ctx, store, trust)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, advise(fmt.Errorf("%s: %w", where.name, err), "is the path right, and the disk mounted? A new archive is made by: otsnap init %s --key FILE", location)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where.name, err)
	}
	return &opened{Archive: opening, app: a, file: file}, nil
}

// remember moves the trust file on to the newest entry, so that an archive which
// loses it later is refused. Not being able to is a warning: what was done is
// done.
func (o *opened) remember(newest snapshot.Entry) {
	if err := o.file.advance(o.Anchor(newest)); err != nil {
		o.app.warn("warning: the trust file was not brought up to date, so a later rollback to before snapshot %d would go unnoticed: %v", newest.Manifest.Seq, err)
	}
}

// rememberNewest is remember for a command that has not seen the newest entry
// itself. What it has done is done, also if the chain cannot be read again.
func (o *opened) rememberNewest(ctx context.Context) {
	chain, err := o.Chain(ctx)
	if err != nil {
		o.app.warn("warning: the trust file was not brought up to date: %v", err)
		return
	}
	if len(chain) > 0 {
		o.remember(chain[len(chain)-1])
	}
}

// instanceFlags are those of every command that speaks to an instance.
type instanceFlags struct {
	credentials string
	giveUpAfter seconds
}

func (f *instanceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.credentials, "credentials", "", "`FILE` with the access key (default: the environment)")
	cmd.Flags().Var(&f.giveUpAfter, "give-up-after", "how long to retry a request the service refuses for the moment, or does not answer")
}

// openInstance prepares to speak to an instance. It does not contact it.
func (a *app) openInstance(address string, flags instanceFlags, shown *progress.Reporter) (*tablestore.Instance, error) {
	config, err := tablestore.ParseURL(address)
	if err != nil {
		return nil, misused("%w", err)
	}
	if err := a.credentials(&config, flags.credentials); err != nil {
		return nil, err
	}
	config.GiveUpAfter = flags.giveUpAfter.Duration
	config.OnRetry = func(r tablestore.Retry) { shown.Retry(r.Err.Error()) }
	instance, err := tablestore.Open(config)
	if err != nil {
		return nil, misused("%w", err)
	}
	return instance, nil
}
