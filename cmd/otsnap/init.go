package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/signer"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// initOptions are the flags of init.
type initOptions struct {
	keys, public, notaries []string
	threshold              int64
	trust                  string
	lock                   lockFlags
	retryFlag
}

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init ARCHIVE --key KEY",
		Short: "Make a new archive",
		Long: `Make a new archive in a directory or a bucket, with a policy that says who may
sign in it. A bucket has to be there already.

What the store can do is tried and shown, and kept in the archive. A store that
lets an object be overwritten is refused. With --retain every snapshot is locked
so long from its start on, and the archive's own objects with it; S3 does that by
object lock, OSS by its bucket (otsnap lock bucket). An export may ask for more.

Exporters (--key, --public) sign snapshots and their parts; notaries (--notary)
can only countersign a snapshot, later and from another machine (otsnap notarize):
the public half of their key is enough. With --threshold 2 a snapshot needs two of the
keys. The policy itself is signed by the private keys given here, which must be
as many as the threshold. The archive's id is made of it. Keys and threshold can be changed
later: otsnap policy --help.

The id is written to a trust file: the one named by --trust or OTSNAP_TRUST, or
else one of the archive's own under otsnap/ in your configuration directory.`,
		Example: `  otsnap init /backup/shop --key exporter.pem
  otsnap init 's3://BUCKET/shop?region=eu-central-1' --key exporter.pem --retain 7y --lock compliance
  otsnap init 'oss://BUCKET/shop?region=cn-hangzhou' --key exporter.pem
  otsnap init /backup/shop --key exporter.pem --notary notary.pem.pub
  otsnap init /backup/shop --key exporter.pem --notary notary.pem --threshold 2`,
		Args: arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.keys)+len(o.notaries) == 0 {
				return advise(usage(cmd, "--key KEY is missing: an archive needs a key to sign with"), "to make one: otsnap key gen --out exporter.pem")
			}
			if err := o.lock.check(cmd); err != nil {
				return err
			}
			return a.init(cmd.Context(), args[0], o)
		},
	}
	cmd.Flags().StringArrayVar(&o.keys, "key", nil, "private `KEY` of an exporter: a file, or as in otsnap key --help (repeat for more)")
	cmd.Flags().StringArrayVar(&o.public, "public", nil, "public `KEY` of an exporter that signs elsewhere (repeat for more)")
	cmd.Flags().StringArrayVar(&o.notaries, "notary", nil, "private or public `KEY` of a notary (repeat for more)")
	a.addPassphraseFlag(cmd)
	cmd.Flags().Int64Var(&o.threshold, "threshold", 1, "`NUMBER` of keys that must sign a snapshot")
	cmd.Flags().StringVar(&o.trust, "trust", "", "trust `FILE` to write")
	o.lock.add(cmd, "lock every snapshot for at least this `PERIOD`")
	o.retryFlag.add(cmd)
	return cmd
}

// initResult is what init tells.
type initResult struct {
	Archive   string               `json:"archive"`
	ID        manifest.Hash        `json:"id"`
	Trust     string               `json:"trust_file"`
	Threshold int64                `json:"threshold"`
	Keys      []manifest.PolicyKey `json:"keys"`
	Retention string               `json:"retention,omitempty"` // mode and period of every snapshot at least
	Store     []capability         `json:"store"`
	Warnings  []string             `json:"warnings"`
}

// capability is what a store can do, in JSON.
type capability struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Detail string `json:"detail,omitempty"`
}

func (a *app) init(ctx context.Context, location string, o initOptions) error {
	where, err := locate(location)
	if err != nil {
		return err
	}
	policy, signing, err := o.policy(ctx, a)
	if err != nil {
		return err
	}
	file, err := a.trustFile(where, o.trust)
	if err != nil {
		return err
	}
	if err := file.vacant(); err != nil {
		return err
	}
	store, err := where.create(ctx, storeOptions{giveUpAfter: o.giveUpAfter.Duration, onRetry: a.retried})
	if err != nil {
		return err
	}
	// The trust file comes first: whoever is interrupted then has the archive's id.
	setup := snapshot.Setup{Kind: where.kind, Mode: o.lock.mode.Mode, Period: o.lock.retain.Period, Now: a.now, Found: func(t manifest.Trust) error {
		if err := file.begin(t); err != nil {
			return fmt.Errorf("trust file: %w", err)
		}
		return nil
	}}
	made, err := snapshot.Init(ctx, store, policy, setup, signing...)
	if errors.Is(err, fs.ErrExist) && snapshot.Exists(ctx, store) {
		return advise(fmt.Errorf("%s: %w", where.name, err), "to use it from this machine, give its id once: otsnap verify %s --archive-id ID", quoted(location))
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return advise(fmt.Errorf("%s: %w", where.name, err), "%s", o.instead(where.kind))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", where.name, err)
	}
	id := made.Trust.Archive
	result := initResult{Archive: where.name, ID: id, Trust: file.path, Threshold: policy.Threshold, Keys: policy.Keys, Warnings: append([]string{}, made.Warnings...)}
	if !o.lock.retain.IsZero() {
		result.Retention = fmt.Sprintf("%s for %s", o.lock.mode.Mode, o.lock.retain.Period)
	}
	for _, c := range made.Capabilities {
		result.Store = append(result.Store, capability{c.Name, string(c.State), c.Detail})
	}
	for _, warning := range made.Warnings {
		a.warn("warning: %s", sentence(warning))
	}
	return a.answer(result, result.print)
}

// instead says what to do where a store cannot do what an archive needs, or what
// was asked for.
func (o initOptions) instead(kind string) string {
	switch {
	case o.lock.retain.IsZero():
		return "choose another store, or another bucket; see the README on which servers do what"
	case kind == "s3":
		return "object lock has to be enabled for the bucket, on most servers when it is made (aws s3api create-bucket --object-lock-enabled-for-bucket)"
	case kind == "oss":
		return "lock the bucket first, for as many days: otsnap lock bucket --help"
	}
	return "leave out --retain and --lock, or keep the archive in a bucket"
}

func (r initResult) print(w io.Writer) {
	fmt.Fprintf(w, "archive     %s\n", console.Quote(r.Archive))
	fmt.Fprintf(w, "archive id  %s\n", r.ID)
	fmt.Fprintf(w, "trust file  %s\n", console.Quote(r.Trust))
	fmt.Fprintf(w, "signed by   %d of %s:\n", r.Threshold, console.Count(len(r.Keys), "key"))
	printKeys(w, r.Keys)
	if r.Retention != "" {
		fmt.Fprintf(w, "retention   %s, from the start of each export on\n", r.Retention)
	}
	fmt.Fprintln(w, "the store can:")
	var t console.Table
	for _, c := range r.Store {
		t.Row(c.Name, c.State, console.Printable(c.Detail))
	}
	t.Print(w)
	fmt.Fprint(w, `
Write the archive id down, and keep it and a copy of the key away from the archive.
Whoever restores on another machine needs the id (--archive-id) to know that this
archive is yours; everything else is checked from there.
`)
}

// policy is the policy the flags ask for, and the private keys there are to sign
// it.
func (o initOptions) policy(ctx context.Context, a *app) (*manifest.Policy, []manifest.Signer, error) {
	p := manifest.NewPolicy(a.now(), o.threshold)
	var signing []manifest.Signer
	for _, group := range []struct {
		references []string
		role       string
		read       func(context.Context, string, seconds) (manifest.PublicKey, manifest.Signer, error)
	}{
		{o.keys, manifest.Exporter, a.readPrivate},
		{o.public, manifest.Exporter, a.readPublic},
		{o.notaries, manifest.Notary, a.readEither},
	} {
		for _, reference := range group.references {
			key, private, err := group.read(ctx, reference, o.giveUpAfter)
			if err != nil {
				return nil, nil, err
			}
			if private != nil {
				signing = append(signing, private)
			}
			p.Keys = append(p.Keys, manifest.NewPolicyKey(signer.Name(reference), group.role, key))
		}
	}
	if err := p.Validate(); err != nil {
		return nil, nil, misused("policy: %w", err)
	}
	if err := p.Check(signing...); err != nil {
		return nil, nil, advise(misused("%w", err), "give as many private keys as the threshold: the policy is signed by them here and now")
	}
	return p, signing, nil
}

func (a *app) readPrivate(ctx context.Context, reference string, giveUpAfter seconds) (manifest.PublicKey, manifest.Signer, error) {
	all, err := a.signers(ctx, []string{reference}, giveUpAfter)
	if err != nil {
		return manifest.PublicKey{}, nil, err
	}
	return all[0].Key(), all[0], nil
}

func (a *app) readPublic(ctx context.Context, reference string, giveUpAfter seconds) (manifest.PublicKey, manifest.Signer, error) {
	key, err := a.publicKey(ctx, reference, giveUpAfter)
	return key, nil, err
}

// readEither takes the public half where that is all there is.
func (a *app) readEither(ctx context.Context, reference string, giveUpAfter seconds) (manifest.PublicKey, manifest.Signer, error) {
	if _, isFile := signer.File(reference); isFile {
		if key, err := a.publicKey(ctx, reference, giveUpAfter); err == nil {
			return key, nil, nil
		}
	}
	return a.readPrivate(ctx, reference, giveUpAfter)
}
