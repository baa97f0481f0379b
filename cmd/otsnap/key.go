package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/signer"
	"github.com/otsnap/otsnap/manifest"
	"github.com/spf13/cobra"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make and show signing keys",
		Long:  "Make and show signing keys. " + keyForms,
		Args:  knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, "say what to do: gen or show")
		},
	}
	cmd.AddCommand(a.keyGenCommand(), a.keyShowCommand())
	return cmd
}

// keyForms tells what a KEY is, for all commands that take one.
const keyForms = `Where a command takes a KEY, that is one of
  exporter.pem                            a file (PKCS#8 in PEM), with a passphrase or without
  awskms:///KEY?region=REGION             a key of AWS KMS: its ARN, its id or alias/NAME
  alikms:///KEY/VERSION?region=REGION     a version of a key of Alibaba Cloud KMS
  exec:/PATH/TO/PROGRAM ARGUMENTS         a program that signs, with a token or a vault
A key of a key service is for signing with ECDSA on P-256 and SHA-256. Only hashes
go there, and every signature that comes back is checked before it is used.

The passphrase of a file is read from the file of --passphrase-file, from
$OTSNAP_KEY_PASSPHRASE, or asked for at a terminal. AWS credentials are those
that other AWS tools would use (parameter profile for another profile), and those
of Alibaba Cloud are found as for oss:// (parameter credentials). With the
parameter endpoint requests go to another address.

` + signer.ProgramHelp

func (a *app) keyGenCommand() *cobra.Command {
	var out, algorithm string
	var passphrase bool
	cmd := &cobra.Command{
		Use:   "gen --out FILE",
		Short: "Make a signing key",
		Long: `Make a signing key. The private half goes to FILE, which only you may read, and
the public half to FILE.pub. Neither file is ever overwritten. Without --passphrase
whoever reads the file can sign: keep it where only the exporting machine can.`,
		Example: `  otsnap key gen --out exporter.pem
  otsnap key gen --out notary.pem --type ecdsa-p256 --passphrase`,
		Args: arguments(nil, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usage(cmd, "--out FILE is missing")
			}
			return a.keyGen(out, algorithm, passphrase || a.passphraseFile != "")
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`FILE` for the private key")
	cmd.Flags().StringVar(&algorithm, "type", manifest.Ed25519, "`TYPE` of key: ed25519, ecdsa-p256 as key services have it, or ml-dsa-65 against quantum computers")
	cmd.Flags().BoolVar(&passphrase, "passphrase", false, "put a passphrase on the key, asked for twice at a terminal")
	a.addPassphraseFlag(cmd)
	return cmd
}

// keyInfo is the public side of a key.
type keyInfo struct {
	ID        manifest.Hash `json:"id"`
	Algorithm string        `json:"algorithm"`
	Private   string        `json:"private_file,omitempty"`
	Public    string        `json:"public_file,omitempty"`
	PEM       string        `json:"public_pem"`
}

func newKeyInfo(key manifest.PublicKey) keyInfo {
	return keyInfo{ID: key.ID(), Algorithm: key.Algorithm(), PEM: string(key.PEM())}
}

func (a *app) keyGen(out, algorithm string, locked bool) error {
	private, made, err := manifest.GenerateKey(algorithm)
	if err != nil {
		return misused("%w", err)
	}
	if locked {
		if private, err = a.encrypt(out, private); err != nil {
			return err
		}
	}
	if err := newFile(out, private, 0o600); err != nil {
		return keyExists(err)
	}
	public := out + ".pub"
	if err := newFile(public, made.Key().PEM(), 0o644); err != nil {
		// Nobody has seen the new private key, so nothing is lost with it.
		return errors.Join(keyExists(err), os.Remove(out))
	}
	info := newKeyInfo(made.Key())
	info.Private, info.Public = out, public
	also := ""
	if locked {
		also = "; without its passphrase it is lost"
	}
	return a.answer(info, func(w io.Writer) {
		fmt.Fprintf(w, "private key  %s (keep it secret, and keep a copy%s)\n", console.Quote(out), also)
		fmt.Fprintf(w, "public key   %s\n", console.Quote(public))
		fmt.Fprintf(w, "key id       sha256:%s (%s)\n", info.ID, info.Algorithm)
	})
}

// encrypt puts a passphrase on a new key.
func (a *app) encrypt(out string, private []byte) ([]byte, error) {
	passphrase, err := a.newPassphrase(out)
	if err != nil {
		return nil, err
	}
	return signer.Encrypt(private, passphrase)
}

func keyExists(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return advise(err, "keys are never overwritten; choose another name")
	}
	return err
}

// newFile writes a file that must not exist yet. One that is there is whole, also
// after a crash.
func newFile(path string, data []byte, mode fs.FileMode) error {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: syscall.EEXIST}
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".otsnap-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	if err := writeDurably(temporary, data, mode); err != nil {
		return err
	}
	return os.Link(temporary.Name(), path)
}

func (a *app) keyShowCommand() *cobra.Command {
	var retry retryFlag
	cmd := &cobra.Command{
		Use:   "show KEY",
		Short: "Show the public side of a key, private or public",
		Long:  "Show the public side of a key, private or public, in a file or elsewhere.\n\n" + keyForms,
		Example: `  otsnap key show exporter.pem
  otsnap key show 'awskms:///alias/exporter?region=eu-central-1' > exporter.pub
  otsnap key show 'exec:/usr/local/bin/sign-with-token 1'`,
		Args: arguments([]string{"KEY"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := a.anyKey(cmd.Context(), args[0], retry.giveUpAfter)
			if err != nil {
				return err
			}
			info := newKeyInfo(key)
			return a.answer(info, func(w io.Writer) {
				fmt.Fprintf(w, "key id  sha256:%s (%s)\n%s", info.ID, info.Algorithm, info.PEM)
			})
		},
	}
	a.addPassphraseFlag(cmd)
	retry.add(cmd)
	return cmd
}

// anyKey returns the public half of a key, of which a file may hold either.
func (a *app) anyKey(ctx context.Context, reference string, giveUpAfter seconds) (manifest.PublicKey, error) {
	key, err := a.publicKey(ctx, reference, giveUpAfter)
	if _, isFile := signer.File(reference); err == nil || !isFile || errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	private, err := a.signers(ctx, []string{reference}, giveUpAfter)
	if err != nil {
		return manifest.PublicKey{}, err
	}
	return private[0].Key(), nil
}
