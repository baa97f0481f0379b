package signer

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/otsnap/otsnap/manifest"
)

// encrypted is the kind of PEM block a key with a passphrase is in.
const encrypted = "ENCRYPTED PRIVATE KEY"

func openFile(path string, o Options) (manifest.Signer, error) {
	text, err := os.ReadFile(path)
	var inPath *fs.PathError
	if errors.As(err, &inPath) {
		err = inPath.Err // without the path, which Error tells
	}
	if err != nil {
		return nil, &Error{Name: path, Err: err}
	}
	defer clear(text)
	if text, err = o.decrypt(path, text); err != nil {
		return nil, err
	}
	defer clear(text)
	s, err := manifest.ParsePrivateKey(text)
	if err != nil {
		return nil, &Error{Name: path, Err: err}
	}
	return s, nil
}

// decrypt returns the key in text without its passphrase, if it has one.
func (o Options) decrypt(path string, text []byte) ([]byte, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != encrypted {
		return text, nil
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, &Error{Name: path, Err: errors.New("more than one PEM block")}
	}
	if o.Passphrase == nil {
		return nil, &Error{Name: path, Err: errors.New("it has a passphrase, and nobody to ask for it")}
	}
	passphrase, err := o.Passphrase(path)
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	der, err := open(block.Bytes, passphrase)
	if err != nil {
		return nil, &Error{Name: path, Err: err, Advice: adviceOn(err)}
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func adviceOn(err error) string {
	if errors.Is(err, errPassphrase) {
		return "try again with the right passphrase; without it the key is lost, and another key of the policy has to sign"
	}
	return "write it anew with openssl: openssl pkcs8 -topk8 -v2 aes256 -in OLD -out NEW"
}

// Encrypt puts a passphrase on a key in PEM, in the form that openssl reads and
// [Open] too.
func Encrypt(privatePEM, passphrase []byte) ([]byte, error) {
	block, _ := pem.Decode(privatePEM)
	if block == nil {
		return nil, errors.New("no PEM block found")
	}
	der, err := seal(block.Bytes, passphrase, rounds)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: encrypted, Bytes: der}), nil
}
