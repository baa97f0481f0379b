package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// requireFlags say what every snapshot that is read must have beside its signatures.
type requireFlags struct {
	what  requirements
	ca    caFlag
	roots *x509.CertPool // the certificates of ca, once ready
}

// requirements is the value of --require.
type requirements []string

func (r *requirements) String() string { return strings.Join(*r, ",") }

func (r *requirements) Set(text string) error {
	for what := range strings.SplitSeq(text, ",") {
		if what != "notary" && what != "timestamp" {
			return fmt.Errorf("there is no %q to require; there are notary and timestamp", what)
		}
		*r = append(*r, what)
	}
	return nil
}

func (r *requirements) Type() string { return "WHAT" }

// add adds --require, and --tsa-ca with what its certificates are for.
func (f *requireFlags) add(cmd *cobra.Command, which string) {
	cmd.Flags().Var(&f.what, "require", "what each snapshot that is read must have: notary, that a notary has countersigned it (see: otsnap notarize --help); timestamp, that a time stamp proves when it was there (needs --tsa-ca; see: otsnap timestamp --help)")
	f.ca.add(cmd, which)
}

// forRequired is what --tsa-ca is for where time stamps are not looked at otherwise.
const forRequired = "the time stamps have to lead to that --require timestamp asks for"

// ready reads the certificates, and refuses to require what cannot be checked.
func (f *requireFlags) ready(cmd *cobra.Command) (err error) {
	if f.ca == "" && slices.Contains(f.what, "timestamp") {
		return usage(cmd, "--require timestamp needs --tsa-ca FILE: who vouches for the time-stamping authority")
	}
	f.roots, err = f.ca.roots()
	return err
}

// all returns what is required.
func (f *requireFlags) all() []snapshot.Requirement {
	var all []snapshot.Requirement
	if slices.Contains(f.what, "notary") {
		all = append(all, snapshot.RequireNotary)
	}
	if slices.Contains(f.what, "timestamp") {
		all = append(all, snapshot.RequireTimestamp(stampCheck(f.roots)))
	}
	return all
}

// check looks whether a snapshot has what is required.
func (f *requireFlags) check(ctx context.Context, from *opened, e snapshot.Entry) error {
	for _, required := range f.all() {
		if _, err := required(ctx, from.Archive, e); err != nil {
			return from.explainRequired(ctx, err)
		}
	}
	return nil
}

// explainRequired says what to do about a snapshot that does not have what is required.
func (o *opened) explainRequired(ctx context.Context, err error) error {
	if judge(ctx, err).exit != exitUntrusted {
		return err
	}
	var noTime *snapshot.NoTimeError
	if errors.As(err, &noTime) {
		stamp := "have the newest snapshot stamped, which covers those before it: otsnap timestamp ARCHIVE --tsa URL --tsa-ca FILE"
		if noTime.Proven > 0 {
			stamp += fmt.Sprintf("; or take snapshot %d, the newest before it with a proven time: --snapshot %d", noTime.Proven, noTime.Proven)
		}
		err = advise(err, "%s", stamp)
	}
	var missing *snapshot.NotNotarizedError
	if !errors.As(err, &missing) {
		return err
	}
	notarize := fmt.Sprintf("have a notary read and countersign it: otsnap notarize ARCHIVE --snapshot %d --key KEY", missing.Seq)
	if len(o.Policy.Notaries(missing.Seq)) == 0 {
		notarize = fmt.Sprintf("give the policy a notary, otsnap policy propose ARCHIVE --add-key NAME=FILE:notary, and have that read and countersign it: otsnap notarize ARCHIVE --snapshot %d --key KEY", missing.Seq)
	}
	newest, failed := o.NewestNotarized(ctx, missing.Seq)
	switch {
	case failed != nil:
		return advise(err, "%s", notarize)
	case newest == nil:
		return advise(err, "%s; no snapshot before it is notarized either", notarize)
	}
	return advise(err, "%s; or take snapshot %d, the newest before it that is notarized: --snapshot %d", notarize, newest.Manifest.Seq, newest.Manifest.Seq)
}
