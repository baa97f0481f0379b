package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/otsnap/otsnap/manifest"
)

// ProgramHelp describes what a program has to do, for its author.
const ProgramHelp = `A program (exec:/PATH/TO/PROGRAM ARGUMENTS) is run without a shell; arguments are
parted by spaces. It reads three lines and answers on standard output:
  1  otsnap/1 key, or otsnap/1 sign
  2  the SHA-256 of the message, in base64: an ECDSA key signs this
  3  the message, in base64: a key of another kind signs this
To key, where lines 2 and 3 are empty, it answers with its public key in PEM; to
sign with one line, the signature in base64. What it says on standard error is
shown. An exit code other than 0 means that it could not. With openssl:
  #!/bin/sh
  read -r request; read -r digest
  case $request in
  'otsnap/1 key') openssl pkey -in "$1" -pubout ;;
  'otsnap/1 sign') echo "$digest" | base64 -d | openssl pkeyutl -sign -inkey "$1" | base64 -w0 ;;
  *) echo "do not know $request" >&2; exit 1 ;;
  esac`

// program is a key behind another program.
type program struct {
	path string
	args []string
	o    Options
	mu   sync.Mutex // a token signs one thing at a time, and may ask a person
}

func openProgram(ctx context.Context, text string, o Options) (manifest.Signer, error) {
	words := strings.Fields(text)
	if len(words) == 0 || !filepath.IsAbs(words[0]) {
		return nil, &Error{Name: "exec:…", Err: errors.New("the program is not named by its whole path"), Advice: "write exec:/PATH/TO/PROGRAM ARGUMENTS"}
	}
	p := &program{path: words[0], args: words[1:], o: o}
	text, err := p.ask(ctx, "key", nil)
	if err != nil {
		return nil, err
	}
	key, err := manifest.ParsePublicPEM([]byte(text))
	if err != nil {
		return nil, p.refused(err, "to the request key a program answers with a public key in PEM; see: otsnap key show --help")
	}
	return &elsewhere{key: key, name: p.String(), sign: p.sign}, nil
}

// String leaves out the arguments, which are not ours to show.
func (p *program) String() string { return "exec:" + p.path }

func (p *program) refused(err error, advice string) error {
	return &Error{Name: p.String(), Err: err, Advice: advice}
}

func (p *program) sign(ctx context.Context, message []byte) ([]byte, error) {
	text, err := p.ask(ctx, "sign", message)
	if err != nil {
		return nil, err
	}
	sig, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(sig) == 0 {
		return nil, p.refused(errors.New("what it answered is no signature in base64"), "see: otsnap key show --help")
	}
	return sig, nil
}

// ask runs the program once.
func (p *program) ask(ctx context.Context, what string, message []byte) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit, cancel := context.WithTimeout(ctx, p.o.GiveUpAfter)
	defer cancel()
	out := &limited{left: maxAnswer}
	cmd := exec.CommandContext(limit, p.path, p.args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = question(what, message), out, p.o.Stderr, p.o.Environment
	cmd.WaitDelay = time.Second // for what it started, and left
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case limit.Err() != nil:
		return "", p.refused(fmt.Errorf("no answer within %v", p.o.GiveUpAfter), "see whether the program waits for something, or give it longer with --give-up-after")
	case err != nil:
		return "", p.refused(err, "see what the program said, and run it by hand; what it has to do: otsnap key show --help")
	}
	return out.String(), nil
}

func question(what string, message []byte) io.Reader {
	lines := []string{"otsnap/1 " + what, "", "", ""}
	if what == "sign" {
		digest := sha256.Sum256(message)
		lines[1] = base64.StdEncoding.EncodeToString(digest[:])
		lines[2] = base64.StdEncoding.EncodeToString(message)
	}
	return strings.NewReader(strings.Join(lines, "\n"))
}

// limited is a buffer that takes so much.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(data []byte) (int, error) {
	if len(data) > l.left {
		return 0, errors.New("answer too long")
	}
	l.left -= len(data)
	return l.Buffer.Write(data)
}
