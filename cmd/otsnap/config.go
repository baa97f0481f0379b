package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore"
	"github.com/spf13/cobra"
)

// archiveFlags are those of every command that opens an archive.
type archiveFlags struct {
	trust string
	id    string
	anchorFlags
	retryFlag
}

func (f *archiveFlags) add(cmd *cobra.Command) {
	f.addTrust(cmd)
	f.anchorFlags.add(cmd)
}

// addTrust is add for a command that takes no verdict from the chain as a whole.
func (f *archiveFlags) addTrust(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.trust, "trust", "", "trust `FILE` (default: $OTSNAP_TRUST, or one for the archive in the user's configuration)")
	cmd.Flags().StringVar(&f.id, "archive-id", "", "the archive's `ID`, as written down at init; needed once on a new machine")
	f.retryFlag.add(cmd)
}

// retryFlag is that of every command that speaks to a store or an instance.
type retryFlag struct{ giveUpAfter seconds }

func (f *retryFlag) add(cmd *cobra.Command) {
	cmd.Flags().Var(&f.giveUpAfter, "give-up-after", "how long to repeat a request that is refused for the moment, or not answered (default 5m)")
}

// opened is an archive with the file that says what to trust about it.
type opened struct {
	*snapshot.Archive
	app   *app
	file  trustFile
	place place
	typed string        // the place, as the user wrote it
	kept  []secondPlace // places of --anchor
}

// openArchive opens the archive at location under what the user trusts.
func (a *app) openArchive(ctx context.Context, location string, flags archiveFlags) (*opened, error) {
	return a.openForWriting(ctx, location, flags, "")
}

// openForWriting is openArchive for a command that puts objects.
func (a *app) openForWriting(ctx context.Context, location string, flags archiveFlags, readBack string) (*opened, error) {
	where, err := locate(location)
	if err != nil {
		return nil, err
	}
	expected, err := flags.expected()
	if err != nil {
		return nil, err
	}
	store, err := where.open(ctx, storeOptions{giveUpAfter: flags.giveUpAfter.Duration, readBack: readBack, onRetry: a.retried})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, where.noArchive(location, fmt.Errorf("there is no archive at %s: %w", where.name, err))
	}
	if err != nil {
		return nil, err
	}
	file, err := a.trustFile(where, flags.trust)
	if err != nil {
		return nil, err
	}
	trust, err := file.load(flags.id)
	if errors.Is(err, manifest.ErrUntrusted) && flags.id == "" && !snapshot.Exists(ctx, store) {
		return nil, where.noArchive(location, fmt.Errorf("there is no archive at %s that could be read", where.name))
	}
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", where.name, err)
	}
	opening, err := snapshot.Open(ctx, store, trust)
	switch {
	case errors.Is(err, fs.ErrNotExist) && max(trust.Seq, int64(flags.seq)) > 0:
		return nil, where.archiveGone(max(trust.Seq, int64(flags.seq)), err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, where.noArchive(location, fmt.Errorf("%s: %w", where.name, err))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where.name, err)
	}
	opening.Anchors = expected
	from := &opened{Archive: opening, app: a, file: file, place: where, typed: location}
	if err := from.holdAgainst(ctx, flags); err != nil {
		return nil, err
	}
	return from, nil
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
	pace        paceFlags
	ready       seconds
}

func (f *instanceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.credentials, "credentials", "", "`FILE` with the access key of the instance (default: the environment)")
	f.pace.add(cmd)
}

// waits tells what the service takes its time for.
func (a *app) waits(w tablestore.Waiting) {
	a.shown.Wait(fmt.Sprintf("%s of table %s: phase %s, %s of at most %s", w.What, w.Table, w.Phase,
		console.Duration(time.Since(w.Since)), console.Duration(w.Bound)))
}

// openInstance prepares to speak to an instance. It does not contact it.
func (a *app) openInstance(address string, flags instanceFlags, giveUpAfter seconds) (*tablestore.Instance, error) {
	config, err := tablestore.ParseURL(address)
	if err != nil {
		return nil, misused("%w", err)
	}
	if err := a.credentials(&config, flags.credentials); err != nil {
		return nil, err
	}
	config.GiveUpAfter = giveUpAfter.Duration
	config.Pace = flags.pace.pace()
	config.OnRetry = func(r tablestore.Retry) { a.retried(r.Err) }
	config.ReadyWithin, config.OnWait = flags.ready.Duration, a.waits
	instance, err := tablestore.Open(config)
	if err != nil {
		return nil, misused("%w", err)
	}
	a.instance = instance
	return instance, nil
}
