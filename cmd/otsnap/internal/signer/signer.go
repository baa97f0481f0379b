// Package signer opens the keys that documents are signed with, wherever they
// are kept: in a file, with a passphrase or without, in the key service of AWS or
// of Alibaba Cloud, or behind a program that speaks to a token or a vault.
//
// A key that is elsewhere is asked for its public half once, when it is opened,
// and every signature it makes is checked here before anybody sees it.
package signer

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/otsnap/otsnap/manifest"
)

// Options say how keys are reached.
type Options struct {
	// Passphrase returns that of the key in the file named; it is only called for
	// one that has a passphrase. Nil: such keys are refused.
	Passphrase func(file string) ([]byte, error)

	GiveUpAfter time.Duration // how long one request of a key that is elsewhere is tried; 0: 5 minutes
	OnRetry     func(error)   // told why a request is repeated; may be nil

	Stderr      io.Writer // where a program's own messages go; nil: nowhere
	Environment []string  // of a program; nil: that of this process
}

// Error says why a key cannot be used, and what to do about it. It never holds a
// secret.
type Error struct {
	Name   string // the key, as it may be shown
	Err    error
	Advice string // what to do next; may be empty

	// NoVerdict is whether nobody answered: nothing is known of the key then.
	NoVerdict bool
}

func (e *Error) Error() string { return fmt.Sprintf("key %s: %v", e.Name, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Open makes the key that reference names ready to sign. Reference is one of
//
//	FILE or file:FILE                              a PKCS#8 key in PEM
//	awskms:///KEY?region=&endpoint=&profile=       KEY is an ARN, an id or alias/NAME
//	alikms:///KEY/VERSION?region=&endpoint=&credentials=
//	exec:/PATH/TO/PROGRAM ARGUMENTS                see [ProgramHelp]
//
// All errors are an [Error].
func Open(ctx context.Context, reference string, o Options) (manifest.Signer, error) {
	if o.GiveUpAfter <= 0 {
		o.GiveUpAfter = 5 * time.Minute
	}
	kind, rest := split(reference)
	switch kind {
	case "awskms":
		return openAWS(ctx, rest, o)
	case "alikms":
		return openAlibaba(ctx, rest, o)
	case "exec":
		return openProgram(ctx, rest, o)
	case "file":
		return openFile(rest, o)
	}
	return nil, &Error{Name: kind + "://…", Err: fmt.Errorf("there are no keys of kind %q", kind), Advice: "keys are files, awskms:///…, alikms:///… or exec:/…"}
}

// File returns the path of a key that is in a file.
func File(reference string) (path string, isFile bool) {
	kind, rest := split(reference)
	return rest, kind == "file"
}

// Name is what a key is called after, in a policy: exporter for exporter.pem and
// for awskms:///alias/exporter, the key's id for one of alikms.
func Name(reference string) string {
	kind, rest := split(reference)
	switch kind {
	case "file":
		name := strings.TrimSuffix(filepath.Base(rest), ".pub")
		return strings.TrimSuffix(name, filepath.Ext(name))
	case "exec":
		program, _, _ := strings.Cut(rest, " ")
		return strings.TrimSuffix(filepath.Base(program), filepath.Ext(program))
	}
	key, _, _ := strings.Cut(rest, "?")
	if kind == "alikms" {
		key = path.Dir(key)
	}
	return path.Base(key)
}

// split parts a reference into its kind and what that has to make of it.
func split(reference string) (kind, rest string) {
	for _, kind := range []string{"file", "exec", "awskms", "alikms"} {
		if rest, ok := strings.CutPrefix(reference, kind+":"); ok {
			return kind, rest
		}
	}
	if kind, rest, ok := strings.Cut(reference, "://"); ok {
		return kind, rest
	}
	return "file", reference
}

// elsewhere is a key that another program or service signs with.
type elsewhere struct {
	key  manifest.PublicKey
	name string
	sign func(ctx context.Context, message []byte) ([]byte, error)
}

var _ manifest.Signer = (*elsewhere)(nil)

func (e *elsewhere) Key() manifest.PublicKey { return e.key }

// Sign asks for a signature and checks it.
func (e *elsewhere) Sign(ctx context.Context, message []byte) ([]byte, error) {
	sig, err := e.sign(ctx, message)
	if err != nil {
		return nil, err
	}
	if e.key.Verify(message, sig) {
		return sig, nil
	}
	// Some tokens, and perhaps some services, put the two numbers of an ECDSA
	// signature one after the other.
	if der := joined(sig); der != nil && e.key.Verify(message, der) {
		return der, nil
	}
	return nil, &Error{
		Name:   e.name,
		Err:    fmt.Errorf("what it returned, %d bytes, is not its signature of the message", len(sig)),
		Advice: "nothing was signed: see that the key is still the one it was, of kind " + e.key.Algorithm() + ", and that it signs with SHA-256",
	}
}

// joined turns an ECDSA signature of two numbers of 32 bytes into the ASN.1 all
// others write. It is nil for anything else.
func joined(sig []byte) []byte {
	if len(sig) != 64 {
		return nil
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])})
	if err != nil {
		return nil
	}
	return der
}

// noAnswer is what to do where a service was not reached.
const noAnswer = "this is no verdict on the key or the data: mend access to the key service and run the same command again"

// attempt is how long one request may take; the services answer in milliseconds.
const attempt = 20 * time.Second

// failure is what one request came to.
type failure struct {
	Error
	again bool // another try may succeed
}

// request calls once until it succeeds, fails for good or is out of time.
func request[T any](ctx context.Context, o Options, once func(context.Context) (T, *failure)) (T, error) {
	limit, cancel := context.WithTimeout(ctx, o.GiveUpAfter)
	defer cancel()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		one, done := context.WithTimeout(limit, attempt)
		result, failed := once(one)
		done()
		switch {
		case failed == nil:
			return result, nil
		case ctx.Err() != nil:
			return result, ctx.Err()
		case !failed.again:
			return result, &failed.Error
		}
		if o.OnRetry != nil {
			o.OnRetry(&failed.Error)
		}
		select {
		case <-time.After(wait):
		case <-limit.Done():
			if ctx.Err() != nil {
				return result, ctx.Err()
			}
			failed.Err = fmt.Errorf("gave up after %v: %w", o.GiveUpAfter, failed.Err)
			return result, &failed.Error
		}
	}
}

// public reads the public key a service tells of.
func public(name string, der []byte) (manifest.PublicKey, error) {
	key, err := manifest.ParsePublicKey(der)
	if err == nil && key.Algorithm() != manifest.ECDSAP256 {
		err = errors.New("it is of kind " + key.Algorithm())
	}
	if err != nil {
		return manifest.PublicKey{}, &Error{Name: name, Err: err, Advice: onlyP256}
	}
	return key, nil
}

const onlyP256 = "make a key for signing with ECDSA on P-256 (ECC_NIST_P256 at AWS, EC_P256 at Alibaba Cloud)"
