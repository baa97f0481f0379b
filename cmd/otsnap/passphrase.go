package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// passphraseVariable is where a passphrase may be, of all keys a command opens.
const passphraseVariable = "OTSNAP_KEY_PASSPHRASE"

// addPassphraseFlag is for every command that opens keys.
func (a *app) addPassphraseFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.passphraseFile, "passphrase-file", "", "`FILE` whose first line is the passphrase of the keys (default: $"+passphraseVariable+", or asked for at a terminal)")
}

// passphraseOf finds the passphrase of a key: in the file named, in the
// environment, or by asking.
func (a *app) passphraseOf(key string) ([]byte, error) {
	return a.passphrase(key, "Passphrase of "+console.Quote(key)+": ")
}

func (a *app) passphrase(key, question string) ([]byte, error) {
	given, err := a.givenPassphrase()
	if err != nil || given != nil {
		return given, err
	}
	typed, err := a.ask(question)
	if err != nil {
		return nil, noPassphrase(key, err)
	}
	return typed, nil
}

// givenPassphrase is one that need not be asked for, or nil.
func (a *app) givenPassphrase() ([]byte, error) {
	if a.passphraseFile != "" {
		text, err := os.ReadFile(a.passphraseFile)
		if err == nil {
			err = private(a.passphraseFile)
		}
		if err != nil {
			return nil, labelled{fmt.Errorf("passphrase: %w", err), errKey}
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
			return nil, labelled{fmt.Errorf("passphrase: the first line of %s is empty", a.passphraseFile), errKey}
		}
		return line, nil
	}
	if text := a.getenv(passphraseVariable); text != "" {
		return []byte(text), nil
	}
	return nil, nil
}

// newPassphrase is one for a key to be made, typed twice where it is typed.
func (a *app) newPassphrase(key string) ([]byte, error) {
	first, err := a.passphrase(key, "New passphrase of "+console.Quote(key)+": ")
	if err != nil {
		return nil, err
	}
	if len(first) == 0 {
		return nil, labelled{errors.New("the passphrase is empty"), errKey}
	}
	if given, err := a.givenPassphrase(); err != nil || given != nil {
		return first, err
	}
	second, err := a.ask("The same again: ")
	if err != nil {
		return nil, noPassphrase(key, err)
	}
	if !bytes.Equal(first, second) {
		return nil, labelled{errors.New("the two passphrases are not the same; no key was made"), errKey}
	}
	return first, nil
}

func noPassphrase(key string, err error) error {
	return advise(labelled{fmt.Errorf("key %s has a passphrase: %w", key, err), errKey},
		"set %s, or name a file with --passphrase-file FILE", passphraseVariable)
}

// ask reads a line from the terminal without showing it.
func (a *app) ask(question string) ([]byte, error) {
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		return nil, errors.New("there is no terminal to ask for it")
	}
	fmt.Fprint(a.stderr, question)
	defer fmt.Fprintln(a.stderr)
	return term.ReadPassword(in)
}
