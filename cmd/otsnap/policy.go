package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Show and change who may sign",
		Long: `Show and change who may sign in an archive. A policy is changed by a next version
of it, in four steps: propose makes a draft, a file; sign adds a signature to it,
anywhere, once for each key that is needed; apply checks it and puts it into the
archive. It has to be signed as the version before it asks, and as it asks itself.

A version is in force from a snapshot on, by number: from there on no other version
has a say, so a key that was revoked signs nothing any more, and what it signed
before stays good. A revoked key is not taken back.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, "say what to do: show, propose, sign or apply")
		},
	}
	cmd.AddCommand(a.policyShowCommand(), a.policyProposeCommand(), a.policySignCommand(), a.policyApplyCommand())
	return cmd
}

func (a *app) policyShowCommand() *cobra.Command {
	var flags archiveFlags
	cmd := &cobra.Command{
		Use:     "show ARCHIVE",
		Short:   "Show all versions of the policy",
		Example: `  otsnap policy show /backup/shop`,
		Args:    arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.policyShow(cmd.Context(), args[0], flags)
		},
	}
	flags.add(cmd)
	return cmd
}

// policyVersion is a version of a policy in JSON.
type policyVersion struct {
	Digest manifest.Hash `json:"digest"`
	*manifest.Policy
}

// policyResult is what policy show tells.
type policyResult struct {
	Archive  manifest.Hash   `json:"archive"`
	Next     int64           `json:"next"`     // number of the next snapshot
	InForce  int64           `json:"in_force"` // version it is signed by
	Versions []policyVersion `json:"versions"`
}

func (a *app) policyShow(ctx context.Context, location string, flags archiveFlags) error {
	from, err := a.openArchive(ctx, location, flags)
	if err != nil {
		return err
	}
	if err := from.heldNow(ctx); err != nil {
		return err
	}
	inForce, next, err := from.InForce(ctx)
	if err != nil {
		return err
	}
	result := policyResult{Archive: from.Policy.ID(), Next: next, InForce: inForce.Version}
	for _, v := range from.Policy.Versions() {
		result.Versions = append(result.Versions, policyVersion{v.Digest(), v})
	}
	from.rememberPolicy()
	return a.answer(result, func(w io.Writer) {
		fmt.Fprintf(w, "archive id  %s\n", result.Archive)
		fmt.Fprintf(w, "in force    version %d, for snapshot %d, the next\n", result.InForce, result.Next)
		for _, v := range slices.Backward(result.Versions) {
			fmt.Fprintln(w)
			printPolicy(w, v.Policy, v.Digest)
		}
	})
}

// printPolicy tells what a version of a policy says.
func printPolicy(w io.Writer, p *manifest.Policy, digest manifest.Hash) {
	fmt.Fprintf(w, "version     %d, from snapshot %d on\n", p.Version, max(p.From, 1))
	fmt.Fprintf(w, "digest      %s\n", digest)
	if p.Version > 1 {
		fmt.Fprintf(w, "follows     %s\n", p.Prev)
	}
	fmt.Fprintf(w, "made        %s\n", p.Created.Format(time.RFC3339))
	fmt.Fprintf(w, "signed by   %d of %s:\n", p.Threshold, console.Count(len(p.Keys), "key"))
	printKeys(w, p.Keys)
	for _, g := range p.Groups {
		fmt.Fprintf(w, "and by      %d of group %s\n", g.Threshold, console.Quote(g.Name))
	}
	for _, k := range p.Keys {
		var says []string
		if k.Group != "" {
			says = append(says, "is of group "+console.Quote(k.Group))
		}
		if k.From != 0 {
			says = append(says, fmt.Sprintf("counts from snapshot %d on", k.From))
		}
		if k.Revoked != 0 {
			says = append(says, fmt.Sprintf("is revoked from snapshot %d on", k.Revoked))
		}
		if len(says) > 0 {
			fmt.Fprintf(w, "key %s %s\n", console.Quote(k.Name), strings.Join(says, ", "))
		}
	}
}

// proposal are the flags of policy propose.
type proposal struct {
	archive                                 archiveFlags
	add, revoke, forget, groups, membership []string
	threshold, from                         int64
	out                                     string
}

func (a *app) policyProposeCommand() *cobra.Command {
	var o proposal
	cmd := &cobra.Command{
		Use:   "propose ARCHIVE --out FILE",
		Short: "Draft the next version of the policy",
		Long: `Draft the next version of the policy: the newest one, with the changes asked for.
Nothing is written to the archive. The draft goes to FILE, without any signature.

The version is in force from the next snapshot on, or from --from. A draft whose
signatures take days is best made for a later number: one that is not applied
before snapshot --from is there has to be made anew.

An exporter signs snapshots and their parts; a notary countersigns snapshots; an
officer signs policies alone. Keys of a group: --group and --join say that so many
of these have to be among the signatures, as "one classical and one post-quantum".`,
		Example: `  otsnap policy propose /backup/shop --add-key new=new.pem.pub:exporter --revoke exporter --out next.json
  otsnap policy propose /backup/shop --threshold 2 --out next.json
  otsnap policy propose /backup/shop --revoke stolen:17 --from 21 --out next.json
  otsnap policy propose /backup/shop --group hsm=1 --join exporter-2=hsm --out next.json`,
		Args: arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.out == "" {
				return usage(cmd, "--out FILE is missing")
			}
			return a.policyPropose(cmd.Context(), args[0], o)
		},
	}
	o.archive.add(cmd)
	cmd.Flags().StringArrayVar(&o.add, "add-key", nil, "a public key, as `NAME=KEY:ROLE` (repeat for more)")
	cmd.Flags().StringArrayVar(&o.revoke, "revoke", nil, "`NAME[:NUMBER]` of a key that counts for nothing from that snapshot on (default: from the first of this version; repeat for more)")
	cmd.Flags().StringArrayVar(&o.forget, "forget", nil, "`NAME` of a key to leave out that was revoked earlier (repeat for more)")
	cmd.Flags().StringArrayVar(&o.groups, "group", nil, "`NAME=NUMBER` of signatures asked of a group; 0 removes it (repeat for more)")
	cmd.Flags().StringArrayVar(&o.membership, "join", nil, "put a key into a group, as `NAME=GROUP`, or out of it, as NAME= (repeat for more)")
	cmd.Flags().Int64Var(&o.threshold, "threshold", 0, "`NUMBER` of keys that must sign a snapshot")
	cmd.Flags().Int64Var(&o.from, "from", 0, "`NUMBER` of the first snapshot it is in force for (default: the next)")
	cmd.Flags().StringVar(&o.out, "out", "", "`FILE` for the draft")
	a.addPassphraseFlag(cmd)
	return cmd
}

func (a *app) policyPropose(ctx context.Context, location string, o proposal) error {
	from, err := a.openArchive(ctx, location, o.archive)
	if err != nil {
		return err
	}
	if err := from.heldNow(ctx); err != nil {
		return err
	}
	_, seq, err := from.InForce(ctx)
	if err != nil {
		return err
	}
	if o.from == 0 {
		o.from = max(seq, from.Policy.From)
	}
	if o.from < seq {
		return misused("--from %d: there are %s already", o.from, console.Count(int(seq-1), "snapshot"))
	}
	next := from.Policy.Next(a.now(), o.from)
	if err := a.change(ctx, next, o); err != nil {
		return err
	}
	draft, err := manifest.DraftPolicy(next, from.Policy)
	if err != nil {
		return misused("%w", err)
	}
	if err := newFile(o.out, draft, 0o644); err != nil {
		return advise(err, "a draft is not overwritten; choose another name, or remove it")
	}
	return a.answerDraft(o.out, draft, fmt.Sprintf("Nothing is changed yet. It has to be signed as version %d asks, and as it asks itself:\n  otsnap policy sign %s --key KEY\nand then put into the archive:\n  otsnap policy apply %s %s\n",
		from.Policy.Version, quoted(o.out), quoted(location), quoted(o.out)))
}

// change makes the changes asked for.
func (a *app) change(ctx context.Context, p *manifest.Policy, o proposal) error {
	for _, arg := range o.add {
		name, rest, ok := strings.Cut(arg, "=")
		i := strings.LastIndex(rest, ":")
		if !ok || i < 0 {
			return misused("--add-key %s: want NAME=KEY:ROLE", arg)
		}
		key, err := a.anyKey(ctx, rest[:i], o.archive.giveUpAfter)
		if err != nil {
			return err
		}
		p.Keys = append(p.Keys, manifest.NewPolicyKey(name, rest[i+1:], key))
	}
	for _, arg := range o.revoke {
		if err := revoke(p, arg); err != nil {
			return err
		}
	}
	for _, arg := range o.groups {
		if err := setGroup(p, arg); err != nil {
			return err
		}
	}
	for _, arg := range o.membership {
		name, group, _ := strings.Cut(arg, "=")
		k, err := keyNamed(p, name)
		if err != nil {
			return err
		}
		k.Group = group
	}
	for _, name := range o.forget {
		k, err := keyNamed(p, name)
		if err != nil {
			return err
		}
		if k.Revoked == 0 || k.Revoked > p.From {
			return misused("--forget %s: it is not revoked; --revoke it first", name)
		}
		p.Keys = slices.DeleteFunc(p.Keys, func(k manifest.PolicyKey) bool { return k.Name == name })
	}
	if o.threshold != 0 {
		p.Threshold = o.threshold
	}
	return nil
}

func keyNamed(p *manifest.Policy, name string) (*manifest.PolicyKey, error) {
	var names []string
	for i := range p.Keys {
		if p.Keys[i].Name == name {
			return &p.Keys[i], nil
		}
		names = append(names, p.Keys[i].Name)
	}
	return nil, misused("the policy has no key named %q; there are %s", name, strings.Join(names, ", "))
}

func revoke(p *manifest.Policy, arg string) error {
	name, number, numbered := strings.Cut(arg, ":")
	k, err := keyNamed(p, name)
	if err != nil {
		return err
	}
	k.Revoked = p.From
	if !numbered {
		return nil
	}
	if k.Revoked, err = strconv.ParseInt(number, 10, 64); err != nil || k.Revoked < 1 {
		return misused("--revoke %s: want NAME or NAME:NUMBER", arg)
	}
	return nil
}

func setGroup(p *manifest.Policy, arg string) error {
	name, number, _ := strings.Cut(arg, "=")
	threshold, err := strconv.ParseInt(number, 10, 64)
	if err != nil || threshold < 0 {
		return misused("--group %s: want NAME=NUMBER", arg)
	}
	p.Groups = slices.DeleteFunc(p.Groups, func(g manifest.PolicyGroup) bool { return g.Name == name })
	if threshold > 0 {
		p.Groups = append(p.Groups, manifest.PolicyGroup{Name: name, Threshold: threshold})
	}
	return nil
}

func (a *app) policySignCommand() *cobra.Command {
	var keys []string
	var retry retryFlag
	cmd := &cobra.Command{
		Use:   "sign FILE --key KEY",
		Short: "Sign a draft of a policy",
		Long: `Add a signature to a draft of a policy, and show what it says. No archive is
needed: the file can be sent to whoever holds a key.`,
		Example: `  otsnap policy sign next.json --key exporter.pem`,
		Args:    arguments([]string{"FILE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(keys) == 0 {
				return usage(cmd, "--key KEY is missing")
			}
			return a.policySign(cmd.Context(), args[0], keys, retry)
		},
	}
	cmd.Flags().StringArrayVar(&keys, "key", nil, "`KEY` to sign with (repeat for more)")
	a.addPassphraseFlag(cmd)
	retry.add(cmd)
	return cmd
}

// readDraft reads the file of a draft.
func readDraft(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, misused("draft: %w", err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, manifest.MaxPolicy+1))
}

func (a *app) policySign(ctx context.Context, path string, keys []string, retry retryFlag) error {
	draft, err := readDraft(path)
	if err != nil {
		return err
	}
	if _, err := manifest.ReadDraft(draft); err != nil {
		return misused("%s is no draft of a policy: %w", path, err)
	}
	signing, err := a.signers(ctx, keys, retry.giveUpAfter)
	if err != nil {
		return err
	}
	signed, err := manifest.SignPolicy(ctx, draft, signing...)
	if err != nil {
		return err
	}
	if err := replaceFile(path, signed); err != nil {
		return err
	}
	return a.answerDraft(path, signed, "")
}

// draftResult is what propose and sign tell.
type draftResult struct {
	File   string   `json:"file"`
	Signed []string `json:"signed"` // ids of keys
	policyVersion
}

func (a *app) answerDraft(path string, draft []byte, then string) error {
	d, err := manifest.ReadDraft(draft)
	if err != nil {
		return err
	}
	return a.answer(draftResult{path, d.Keys, policyVersion{d.Digest, d.Policy}}, func(w io.Writer) {
		fmt.Fprintf(w, "draft       %s\n", console.Quote(path))
		printPolicy(w, d.Policy, d.Digest)
		fmt.Fprintf(w, "signatures  %d\n", len(d.Keys))
		for _, id := range d.Keys {
			fmt.Fprintf(w, "  sha256:%s\n", console.Printable(id))
		}
		fmt.Fprint(w, then)
	})
}

func (a *app) policyApplyCommand() *cobra.Command {
	var flags archiveFlags
	cmd := &cobra.Command{
		Use:   "apply ARCHIVE FILE",
		Short: "Put a signed draft into the archive as the next version of the policy",
		Long: `Put a signed draft into the archive as the next version of the policy. One that is
not signed as the version before asks, and as it asks itself, is refused; so is one
that would be in force for a snapshot that is there. What was put stays.

No export should be under way: one that ends in the same moment under the version
before is refused from then on. An export that is under way longer notices, and says
how to go on.`,
		Example: `  otsnap policy apply /backup/shop next.json`,
		Args:    arguments([]string{"ARCHIVE", "FILE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.policyApply(cmd.Context(), args[0], args[1], flags)
		},
	}
	flags.add(cmd)
	return cmd
}

func (a *app) policyApply(ctx context.Context, location, path string, flags archiveFlags) error {
	sealed, err := readDraft(path)
	if err != nil {
		return err
	}
	to, err := a.openArchive(ctx, location, flags)
	if err != nil {
		return err
	}
	if err := to.heldNow(ctx); err != nil {
		return err
	}
	before := to.Policy.Version
	err = to.ApplyPolicy(ctx, sealed, a.now())
	switch {
	case err != nil && to.Policy.Version > before:
		return advise(fmt.Errorf("version %d of the policy is in the archive, and then: %w", to.Policy.Version, err), "find out with otsnap verify %s", quoted(location))
	case errors.Is(err, manifest.ErrUntrusted):
		return advise(err, "the archive is as it was; have the keys that are missing sign it: otsnap policy sign %s --key KEY", quoted(path))
	case errors.Is(err, snapshot.ErrWish), errors.Is(err, fs.ErrExist), errors.Is(err, manifest.ErrRollback):
		return advise(err, "the archive is as it was; make the draft anew: otsnap policy propose %s --out FILE", quoted(location))
	case err != nil:
		return err
	}
	to.rememberPolicy()
	result := policyVersion{to.Policy.Digest(), to.Policy}
	return a.answer(result, func(w io.Writer) {
		fmt.Fprintf(w, "version %d of the policy is in the archive, in force from snapshot %d on\n", result.Version, result.From)
		fmt.Fprintf(w, "digest  %s\n", result.Digest)
	})
}

// rememberPolicy has the trust file know the newest version of the policy.
func (o *opened) rememberPolicy() {
	if err := o.file.advance(o.Anchor(snapshot.Entry{})); err != nil {
		o.app.warn("warning: the trust file was not brought up to date, so version %d of the policy could be hidden unnoticed: %v", o.Policy.Version, err)
	}
}
