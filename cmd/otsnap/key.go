package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/manifest"
	"github.com/spf13/cobra"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make and show signing keys",
		Args:  knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, "say what to do: gen or show")
		},
	}
	cmd.AddCommand(a.keyGenCommand(), a.keyShowCommand())
	return cmd
}

func (a *app) keyGenCommand() *cobra.Command {
	var out, algorithm string
	cmd := &cobra.Command{
		Use:   "gen --out FILE",
		Short: "Make a signing key",
		Long: `Make a signing key. The private half goes to FILE, which only you may read, and
the public half to FILE.pub. Neither file is ever overwritten. The key has no
passphrase: keep it where only the exporting machine can read it.`,
		Example: `  otsnap key gen --out exporter.pem
  otsnap key gen --out notary.pem --type ecdsa-p256`,
		Args: arguments(nil, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usage(cmd, "--out FILE is missing")
			}
			return a.keyGen(out, algorithm)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`FILE` for the private key")
	cmd.Flags().StringVar(&algorithm, "type", manifest.Ed25519, "`TYPE` of key: ed25519, or ecdsa-p256 as key services have it")
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

func (a *app) keyGen(out, algorithm string) error {
	private, signer, err := manifest.GenerateKey(algorithm)
	if err != nil {
		return misused("%w", err)
	}
	if err := newFile(out, private, 0o600); err != nil {
		return keyExists(err)
	}
	public := out + ".pub"
	if err := newFile(public, signer.Key().PEM(), 0o644); err != nil {
		// Nobody has seen the new private key, so nothing is lost with it.
		return errors.Join(keyExists(err), os.Remove(out))
	}
	info := newKeyInfo(signer.Key())
	info.Private, info.Public = out, public
	return a.answer(info, func(w io.Writer) {
		fmt.Fprintf(w, "private key  %s (keep it secret, and keep a copy)\n", console.Quote(out))
		fmt.Fprintf(w, "public key   %s\n", console.Quote(public))
		fmt.Fprintf(w, "key id       sha256:%s (%s)\n", info.ID, info.Algorithm)
	})
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
	return &cobra.Command{
		Use:     "show FILE",
		Short:   "Show the public side of a key, private or public",
		Example: `  otsnap key show exporter.pem`,
		Args:    arguments([]string{"FILE"}, 0),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := anyKey(args[0])
			if err != nil {
				return err
			}
			info := newKeyInfo(key)
			return a.answer(info, func(w io.Writer) {
				fmt.Fprintf(w, "key id  sha256:%s (%s)\n%s", info.ID, info.Algorithm, info.PEM)
			})
		},
	}
}

// anyKey returns the public half of the key in a file, which may hold either.
func anyKey(path string) (manifest.PublicKey, error) {
	key, err := publicKey(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	private, err := signers([]string{path})
	if err != nil {
		return manifest.PublicKey{}, err
	}
	return private[0].Key(), nil
}
