package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// anchorFlags say what to hold an archive against, beside the trust file.
type anchorFlags struct {
	seq    number
	digest digest
	places []string

	recording bool // a place may have no head of the archive yet
}

func (f *anchorFlags) add(cmd *cobra.Command) {
	cmd.Flags().Var(&f.seq, "expect-seq", "refuse an archive that ends before this `NUMBER` of a snapshot")
	cmd.Flags().Var(&f.digest, "expect-sha256", "refuse one whose manifest with that number, or else each of them, has another digest")
	cmd.Flags().StringArrayVar(&f.places, "anchor", nil, "hold it against the signed heads in this `PLACE`, as of: otsnap anchor record (repeat for more)")
}

// expected is what the user typed that the archive has to hold.
func (f *anchorFlags) expected() ([]manifest.Anchor, error) {
	if f.seq == 0 && f.digest.IsZero() {
		return nil, nil
	}
	return []manifest.Anchor{{Source: "command line", Seq: int64(f.seq), Digest: f.digest.Hash}}, nil
}

// number is a flag for the number of a snapshot; 0: not given.
type number int64

func (n *number) String() string {
	if *n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*n), 10)
}

func (n *number) Set(text string) error {
	parsed, err := strconv.ParseInt(text, 10, 64)
	if err != nil || parsed < 1 || parsed > manifest.MaxSeq {
		return fmt.Errorf("snapshots are numbered 1 to %d", manifest.MaxSeq)
	}
	*n = number(parsed)
	return nil
}

func (n *number) Type() string { return "NUMBER" }

// secondPlace is where heads of an archive are kept: elsewhere.
type secondPlace struct {
	place
	location string // as it was typed
	store    archive.Store
}

// openSecond opens a place for heads. One that is made if it is not there is a
// directory.
func (a *app) openSecond(ctx context.Context, location string, giveUpAfter time.Duration, make bool) (secondPlace, error) {
	where, err := locate(location)
	if err != nil {
		return secondPlace{}, err
	}
	open := where.open
	if make {
		open = where.create
	}
	store, err := open(ctx, storeOptions{giveUpAfter: giveUpAfter, onRetry: a.retried})
	if errors.Is(err, fs.ErrNotExist) {
		return secondPlace{}, advise(labelled{fmt.Errorf("anchor: there is no %s: %w", where.name, err), manifest.ErrUntrusted}, "%s It is made by: otsnap anchor record", where.look())
	}
	if err != nil {
		return secondPlace{}, fmt.Errorf("anchor %s: %w", where.name, err)
	}
	return secondPlace{where, location, store}, nil
}

// holdAgainst has the archive held against the heads in the places of --anchor.
func (o *opened) holdAgainst(ctx context.Context, flags archiveFlags) error {
	for _, location := range flags.places {
		second, err := o.app.openSecond(ctx, location, flags.giveUpAfter.Duration, false)
		if err != nil {
			return err
		}
		if err := o.hold(ctx, second, flags.recording); err != nil {
			return err
		}
		o.kept = append(o.kept, second)
	}
	return nil
}

// hold has the archive held against the heads in a place, which may have none yet if
// one is to be recorded there.
func (o *opened) hold(ctx context.Context, second secondPlace, recording bool) error {
	if second.within(o.place) {
		return misused("anchor %s: that is where the archive is: who can change one can change the other", second.name)
	}
	skipped, err := o.HoldAgainst(ctx, second.store, console.Quote(second.name))
	for i, what := range skipped {
		if i == 3 {
			o.app.warn("warning: anchor %s: and %d more", second.name, len(skipped)-i)
			break
		}
		o.app.warn("warning: anchor %s: left out what is no good head of the archive: %s", second.name, sentence(what))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && recording:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return advise(labelled{fmt.Errorf("anchor %s: nothing was anchored there for this archive: %w", second.name, err), manifest.ErrUntrusted},
			"%s A head is recorded by: otsnap anchor record %s %s --key KEY", second.look(), quoted(o.typed), quoted(second.location))
	case errors.Is(err, manifest.ErrUntrusted):
		return advise(fmt.Errorf("anchor %s: %w", second.name, err), "this is about that place, and no verdict on the archive: somebody fills it up; look who may write there, and go by another anchor: number and digest of the last export (--expect-seq, --expect-sha256), or another PLACE")
	case errors.Is(err, archive.ErrUnavailable):
		return advise(fmt.Errorf("anchor %s: %w", second.name, err), "this is no verdict: mend access to that place, or go by another anchor and leave this --anchor out")
	case err != nil:
		return fmt.Errorf("anchor %s: %w", second.name, err)
	}
	return nil
}

// heldNow reads the chain to hold it against what was given, for a command that would
// not read it, or not before it does something.
func (o *opened) heldNow(ctx context.Context) error {
	if len(o.Anchors) == 0 {
		return nil
	}
	_, err := o.Chain(ctx)
	return err
}

// unanchored refuses to take the newest snapshot there is for the newest there was,
// where nothing says how far the archive had come.
func (o *opened) unanchored(which string, e snapshot.Entry) error {
	if which != "" && which != "latest" || o.Trust.Seq > 0 || len(o.Anchors) > 0 {
		return nil
	}
	err := fmt.Errorf("nothing was written: the newest snapshot in %s is number %d, of %s, and nothing says that there was no newer one: this machine has seen none of the archive before, and no anchor was given",
		o.place.name, e.Manifest.Seq, e.Manifest.Started)
	return advise(labelled{err, manifest.ErrUntrusted},
		"give number and digest of the manifest as the last export printed them, --expect-seq NUMBER --expect-sha256 DIGEST, or a place with signed heads, --anchor PLACE; or choose a snapshot by its number, --snapshot NUMBER; or, if there is none of these, take what is there: --accept-unanchored-latest")
}
