package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// requireFlag is a flag for what every snapshot that is read must have beside its
// signatures.
type requireFlag []string

func (f *requireFlag) String() string { return strings.Join(*f, ",") }

func (f *requireFlag) Set(text string) error {
	for what := range strings.SplitSeq(text, ",") {
		if what != "notary" {
			return fmt.Errorf("there is no %q to require; there is notary", what)
		}
		*f = append(*f, what)
	}
	return nil
}

func (f *requireFlag) Type() string { return "WHAT" }

func (f *requireFlag) add(cmd *cobra.Command) {
	cmd.Flags().Var(f, "require", "what each snapshot that is read must have: notary, that a notary has countersigned it (see: otsnap notarize --help)")
}

// all returns what is required.
func (f requireFlag) all() []snapshot.Requirement {
	var all []snapshot.Requirement
	for range f {
		all = append(all, snapshot.RequireNotary)
	}
	return all
}

// check looks whether a snapshot has what is required.
func (f requireFlag) check(ctx context.Context, from *opened, e snapshot.Entry) error {
	for _, required := range f.all() {
		if _, err := required(ctx, from.Archive, e); err != nil {
			return from.explainRequired(ctx, err)
		}
	}
	return nil
}

// explainRequired says what to do about a snapshot that does not have what is required.
func (o *opened) explainRequired(ctx context.Context, err error) error {
	var missing *snapshot.NotNotarizedError
	if !errors.As(err, &missing) || judge(ctx, err).exit != exitUntrusted {
		return err
	}
	notarize := fmt.Sprintf("have a notary read and countersign it: otsnap notarize ARCHIVE --snapshot %d --key KEY", missing.Seq)
	newest, failed := o.NewestNotarized(ctx, missing.Seq)
	switch {
	case failed != nil:
		return advise(err, "%s", notarize)
	case newest == nil:
		return advise(err, "%s; no snapshot before it is notarized either", notarize)
	}
	return advise(err, "%s; or take snapshot %d, the newest before it that is notarized: --snapshot %d", notarize, newest.Manifest.Seq, newest.Manifest.Seq)
}
