package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

func (a *app) anchorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "anchor",
		Short: "Record elsewhere how far an archive has come, and show it",
		Long: `Record, in a place elsewhere, how far an archive has come, and show what is recorded.

Who may delete objects can cut off the newest snapshots of an archive, and what is
left is in order. Only who knows from elsewhere how far it had come can tell. A head
says that: number and digest of the newest manifest, signed by a key of the archive.
The PLACE is another archive, in another account or cloud, or a folder of nothing but
heads; of any number of archives. Then --anchor PLACE, of every command that opens
the archive, refuses it if it ends before a head there, or was forked.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, "say what to do: record or show")
		},
	}
	cmd.AddCommand(a.anchorRecordCommand(), a.anchorShowCommand())
	return cmd
}

// recordOptions are the flags of anchor record.
type recordOptions struct {
	archive archiveFlags
	keys    []string
	lock    lockFlags
}

func (a *app) anchorRecordCommand() *cobra.Command {
	var o recordOptions
	cmd := &cobra.Command{
		Use:   "record ARCHIVE PLACE --key KEY",
		Short: "Record in another place how far an archive has come",
		Long: `Record in another place how far an archive has come: its newest snapshot by number
and digest, and the newest version of its policy, signed by any one of its keys.

The archive is checked first, against what the trust file has seen and against the
heads in PLACE, if there are any. A head that is there already is not recorded
again. Otsnap export --anchor does all this of itself.

A head is locked as its snapshot was signed to be, where PLACE can do that; --lock
and --retain ask for something else, and insist on it.`,
		Example: `  otsnap anchor record /backup/shop /mnt/other/anchors --key exporter.pem
  otsnap anchor record 'oss://BUCKET/shop?region=cn-hangzhou' 's3://BUCKET/anchors?region=eu-central-1' --key notary.pem --retain 7y --lock compliance`,
		Args: arguments([]string{"ARCHIVE", "PLACE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.keys) == 0 {
				return usage(cmd, "--key KEY is missing: a head has to be signed")
			}
			if err := o.lock.check(cmd); err != nil {
				return err
			}
			return a.anchorRecord(cmd.Context(), args[0], args[1], o)
		},
	}
	o.archive.add(cmd)
	cmd.Flags().StringArrayVar(&o.keys, "key", nil, "private `KEY` to sign with: a file, or as in otsnap key --help (repeat for more)")
	a.addPassphraseFlag(cmd)
	o.lock.add(cmd, "lock the head for this `PERIOD` from now on (default: as its snapshot, if the place can)")
	return cmd
}

func (a *app) anchorRecord(ctx context.Context, location, place string, o recordOptions) error {
	signing, err := a.signers(ctx, o.keys, o.archive.giveUpAfter)
	if err != nil {
		return err
	}
	from, err := a.openArchive(ctx, location, o.archive)
	if err != nil {
		return err
	}
	second, err := a.openSecond(ctx, place, o.archive.giveUpAfter.Duration, true)
	if err != nil {
		return err
	}
	if err := from.hold(ctx, second, true); err != nil {
		return err
	}
	newest, err := from.Find(ctx, "latest")
	if err != nil {
		return err
	}
	run := snapshot.RecordHead{Archive: from.Archive, Newest: newest, In: second.store, Signers: signing, Tool: "otsnap " + version, Now: a.now}
	if !o.lock.retain.IsZero() {
		run.Lock = archive.Lock{Mode: o.lock.mode.Mode, Until: o.lock.retain.After(a.now())}
	}
	head, err := a.record(ctx, run, second)
	switch {
	case errors.Is(err, manifest.ErrUntrusted):
		return advise(labelled{err, errKey}, "otsnap show %s tells which keys there are", quoted(location))
	case errors.Is(err, errors.ErrUnsupported):
		return advise(err, "%s", initOptions{lock: o.lock}.instead(second.kind))
	case err != nil:
		return err
	}
	from.remember(newest)
	return a.answer(head, head.print)
}

// headResult is a head in JSON.
type headResult struct {
	Place    string        `json:"place"`
	Name     string        `json:"name"`
	Archive  manifest.Hash `json:"archive"`
	Seq      int64         `json:"seq"`
	Digest   manifest.Hash `json:"digest"`
	Policy   int64         `json:"policy"` // version
	Time     manifest.Time `json:"time"`
	SignedBy []string      `json:"signed_by"`
	Before   bool          `json:"before"` // it was there already
	Warnings []string      `json:"warnings,omitempty"`
}

func newHeadResult(where place, h snapshot.SignedHead) headResult {
	return headResult{
		Place: where.name, Name: h.Name, Archive: h.Archive, Seq: h.Seq, Digest: h.Digest,
		Policy: h.Version, Time: h.Time, SignedBy: h.SignedBy,
	}
}

func (r headResult) print(w io.Writer) {
	was := "recorded"
	if r.Before {
		was = "there already, of " + r.Time.String()
	}
	fmt.Fprintf(w, "anchored: number %d in %s, signed by %s; %s\n", r.Seq, console.Quote(r.Place), console.Printable(strings.Join(r.SignedBy, ", ")), was)
}

// record records a head, and tells of what could not be done.
func (a *app) record(ctx context.Context, run snapshot.RecordHead, in secondPlace) (headResult, error) {
	done, err := run.Run(ctx)
	if err != nil {
		return headResult{}, fmt.Errorf("anchor %s: %w", in.name, err)
	}
	result := newHeadResult(in.place, done.SignedHead)
	result.Before = done.Before
	for _, warning := range done.Warnings {
		result.Warnings = append(result.Warnings, sentence(warning))
		a.warn("warning: anchor %s: %s", in.name, sentence(warning))
	}
	return result, nil
}

// anchor records a snapshot that was just exported in the places of --anchor. The
// snapshot is there whatever comes of that.
func (o *opened) anchor(ctx context.Context, e snapshot.Entry, signing []manifest.Signer) (heads []headResult, failed error) {
	for _, second := range o.kept {
		run := snapshot.RecordHead{Archive: o.Archive, Newest: e, In: second.store, Signers: signing, Tool: "otsnap " + version, Now: o.app.now}
		head, err := o.app.record(ctx, run, second)
		if err == nil {
			heads = append(heads, head)
			continue
		}
		err = advise(fmt.Errorf("snapshot %d is in %s, whole and signed, and its head was NOT recorded: %w", e.Manifest.Seq, o.place.name, err),
			"do not export again for this: the next export records its own head there, or now: otsnap anchor record %s %s --key KEY", quoted(o.typed), quoted(second.location))
		failed = errors.Join(failed, err)
	}
	return heads, failed
}

// showAnchors are the flags of anchor show.
type showAnchors struct {
	archive archiveFlags
	of      string
}

func (a *app) anchorShowCommand() *cobra.Command {
	var o showAnchors
	cmd := &cobra.Command{
		Use:   "show PLACE",
		Short: "Show the heads that are recorded in a place",
		Long: `Show the heads that are recorded in a place, the newest first, at most 64 of each
archive.

By itself it shows what objects there are and what they say, for anyone may have put
them there: only the policy of the archive tells whose signatures count. With
--archive ARCHIVE its heads are checked, and the archive is held against all of them.
--archive-id ID chooses one archive, and goes with --archive as elsewhere.`,
		Example: `  otsnap anchor show /mnt/other/anchors
  otsnap anchor show /mnt/other/anchors --archive /backup/shop --json`,
		Args: arguments([]string{"PLACE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.of == "" && o.archive.trust != "" {
				return usage(cmd, "--trust says whom to trust of an archive: name it by --archive")
			}
			return a.anchorShow(cmd.Context(), args[0], o)
		},
	}
	cmd.Flags().StringVar(&o.of, "archive", "", "check the heads of this `ARCHIVE`, and hold it against them")
	o.archive.addTrust(cmd)
	return cmd
}

// shownHeads is what anchor show tells.
type shownHeads struct {
	Place   string      `json:"place"`
	Checked bool        `json:"checked"` // signatures, by the archive's policy
	Heads   []shownHead `json:"heads"`
	More    int         `json:"more"` // objects that were not looked at
}

type shownHead struct {
	Name string `json:"name"`
	*manifest.Head
	SignedBy []string `json:"signed_by,omitempty"` // where that was checked
	Problem  string   `json:"problem,omitempty"`
}

func (a *app) anchorShow(ctx context.Context, location string, o showAnchors) error {
	second, err := a.openSecond(ctx, location, o.archive.giveUpAfter.Duration, false)
	if err != nil {
		return err
	}
	result := shownHeads{Place: second.name, Checked: o.of != "", Heads: []shownHead{}}
	if o.of != "" {
		return a.showChecked(ctx, second, o, result)
	}
	ids, err := o.ids(ctx, second.store)
	if err != nil {
		return fmt.Errorf("anchor %s: %w", second.name, err)
	}
	for _, id := range ids {
		if err := result.add(ctx, second.store, id, snapshot.ReadHead); err != nil {
			return fmt.Errorf("anchor %s: %w", second.name, err)
		}
	}
	return a.answer(result, result.print)
}

// showChecked shows the heads of one archive, and ends with the verdict on it.
func (a *app) showChecked(ctx context.Context, second secondPlace, o showAnchors, result shownHeads) error {
	from, err := a.openArchive(ctx, o.of, o.archive)
	if err != nil {
		return err
	}
	if err := result.add(ctx, second.store, from.Policy.ID(), from.OpenHead); err != nil {
		return fmt.Errorf("anchor %s: %w", second.name, err)
	}
	if err := a.answer(result, result.print); err != nil {
		return err
	}
	if err := from.hold(ctx, second, false); err != nil {
		return err
	}
	newest, err := from.Find(ctx, "latest")
	if err != nil {
		return err
	}
	from.remember(newest)
	if !a.json && !a.quiet {
		fmt.Fprintf(a.stdout, "held: %s ends at number %d, manifest sha256:%s\n", console.Quote(from.place.name), newest.Manifest.Seq, newest.Digest)
	}
	return nil
}

// ids returns the archives that have heads in a place, or the one that was asked for.
func (o showAnchors) ids(ctx context.Context, in archive.Store) ([]manifest.Hash, error) {
	if o.archive.id != "" {
		var id manifest.Hash
		if err := id.UnmarshalText([]byte(o.archive.id)); err != nil {
			return nil, misused("--archive-id: %w", err)
		}
		return []manifest.Hash{id}, nil
	}
	var ids []manifest.Hash
	for object, err := range in.List(ctx, manifest.HeadFolder+"/") {
		if err != nil {
			return nil, err
		}
		part, _, _ := strings.Cut(strings.TrimPrefix(object.Name, manifest.HeadFolder+"/"), "/")
		var id manifest.Hash
		if err := id.UnmarshalText([]byte(part)); err == nil && !slices.Contains(ids[max(len(ids)-1, 0):], id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// add adds the newest heads of an archive, read by open.
func (r *shownHeads) add(ctx context.Context, in archive.Store, id manifest.Hash, open func(context.Context, archive.Store, string) (snapshot.SignedHead, error)) error {
	names, all, err := snapshot.Heads(ctx, in, id)
	if err != nil {
		return err
	}
	r.More += all - len(names)
	for _, name := range names {
		head, err := open(ctx, in, name)
		shown := shownHead{Name: name, Head: head.Head, SignedBy: head.SignedBy}
		switch {
		case errors.Is(err, archive.ErrUnavailable), errors.Is(err, archive.ErrFrozen), ctx.Err() != nil:
			return err
		case errors.Is(err, fs.ErrNotExist):
			continue // removed meanwhile
		case err != nil:
			shown.Problem = sentence(err.Error())
		}
		r.Heads = append(r.Heads, shown)
	}
	return nil
}

func (r shownHeads) print(w io.Writer) {
	var t console.Table
	t.Row("archive", "number", "manifest", "of", "signed by")
	for _, h := range r.Heads {
		by := console.Printable(strings.Join(h.SignedBy, ", "))
		if !r.Checked {
			by = "not checked"
		}
		if h.Head != nil {
			t.Row(h.Archive.String()[:16], console.Number(h.Seq), "sha256:"+h.Digest.String(), h.Time.String(), by)
		}
	}
	if len(r.Heads) > 0 {
		t.Print(w)
	}
	for _, h := range r.Heads {
		if h.Problem != "" {
			fmt.Fprintf(w, "no good head: %s\n", console.Printable(h.Problem))
		}
	}
	fmt.Fprintf(w, "%s in %s", console.Count(len(r.Heads), "object"), console.Quote(r.Place))
	if r.More > 0 {
		fmt.Fprintf(w, ", and %d more that were not looked at", r.More)
	}
	fmt.Fprintln(w)
	if !r.Checked && len(r.Heads) > 0 {
		fmt.Fprintln(w, "NOT CHECKED: this is what the objects say; whose signatures count only the archive's policy tells: --archive ARCHIVE")
	}
}
