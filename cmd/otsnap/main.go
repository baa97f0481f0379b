// Otsnap archives Alibaba Cloud Tablestore tables to object storage and proves
// that they can come back. See the README.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/progress"
	"github.com/otsnap/otsnap/snapshot/tablestore"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func main() {
	os.Exit(run(os.Args[1:], &app{
		stdout:   os.Stdout,
		stderr:   os.Stderr,
		terminal: term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb",
		getenv:   os.Getenv,
		now:      time.Now,
	}))
}

// app is what all commands share: where they write, and what the user asked of
// every one of them.
type app struct {
	stdout, stderr io.Writer
	terminal       bool // whether a person watches stderr
	getenv         func(string) string
	now            func() time.Time

	passphraseFile string // of --passphrase-file

	json, quiet bool
	begun       time.Time
	answered    bool   // whether stdout has its JSON document
	resume      string // how to go on if the run is interrupted; empty: it cannot be
	shown       *progress.Reporter
	instance    *tablestore.Instance // the command speaks to; nil: none
}

// run executes one command line and returns the exit code.
func run(args []string, a *app) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	a.begun = a.now()
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	a.tellPace()
	return a.finish(ctx, err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "otsnap",
		Short: "Archive Tablestore tables and prove that they can come back",
		Long: `otsnap archives Alibaba Cloud Tablestore tables as signed snapshots, which
anyone can read and check and nobody can quietly change, and restores them.

An ARCHIVE is a directory, or a folder of a bucket:
  /backup/shop
  oss://BUCKET/PREFIX?region=cn-hangzhou
  s3://BUCKET/PREFIX?region=eu-central-1
An INSTANCE is an address:
  https://INSTANCE.REGION.ots.aliyuncs.com
  http://127.0.0.1:8087?instance=NAME`,
		Example: `  otsnap key gen --out exporter.pem
  otsnap init /backup/shop --key exporter.pem
  otsnap export https://shop.cn-hangzhou.ots.aliyuncs.com /backup/shop --key exporter.pem
  otsnap verify /backup/shop --level rows
  otsnap restore /backup/shop https://shop2.cn-beijing.ots.aliyuncs.com`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},

		SuggestionsMinimumDistance: 2,
		Args:                       knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, "say what to do: a command is missing")
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%w", err) })
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print the result as one JSON document")
	root.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "print errors only, and the result with --json")
	root.AddCommand(a.initCommand(), a.keyCommand(), a.policyCommand(), a.exportCommand(), a.restoreCommand(), a.verifyCommand(), a.notarizeCommand(), a.copyCommand(), a.thawCommand(),
		a.compareCommand(), a.diffCommand(), a.catCommand(), a.listCommand(), a.showCommand(), a.schemaCommand(), a.lockCommand(), a.anchorCommand(), a.timestampCommand(), a.proveCommand(), a.checkProofCommand(), a.receiptsCommand(), a.versionCommand())
	return root
}

// knownCommand refuses a first argument that is no command, and says which one
// may have been meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := usage(cmd, "there is no command %q", args[0])
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		return advise(err, "did you mean %s?", similar[0])
	}
	return err
}

// arguments wants as many as names has, and takes up to optional more.
func arguments(names []string, optional int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usage(cmd, "%s is missing", names[len(args)])
		}
		if extra := len(names) + optional; len(args) > extra {
			return usage(cmd, "do not know what to do with %q", args[extra])
		}
		return nil
	}
}

// answer prints the result of a command: document as JSON, or what text writes.
func (a *app) answer(document any, text func(w io.Writer)) error {
	if !a.json {
		if !a.quiet {
			text(a.stdout)
		}
		return nil
	}
	a.answered = true
	encoder := json.NewEncoder(a.stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

// took is how long the command has run, in words.
func (a *app) took() string { return console.Duration(a.now().Sub(a.begun)) }

// warn tells of something that does not make the command fail.
func (a *app) warn(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, "otsnap: "+format+"\n", args...)
	}
}

// reporter shows progress on stderr. It is nil, which says nothing, when the user
// wants quiet.
func (a *app) reporter() *progress.Reporter {
	if a.quiet {
		return nil
	}
	a.shown = progress.New(a.stderr, a.terminal)
	return a.shown
}
