package manifest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMLDSAAgreesWithPython signs here and checks there, and the other way round.
func TestMLDSAAgreesWithPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	if err := exec.Command(python, "-c", "from cryptography.hazmat.primitives.asymmetric import mldsa").Run(); err != nil {
		t.Skip("no ML-DSA in Python's cryptography")
	}
	folder := t.TempDir()
	file := func(name string) string { return filepath.Join(folder, name) }
	text, ours, err := GenerateKey(MLDSA65)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("DSSEv1 message")
	for name, data := range map[string][]byte{
		"ours.pem": text, "ours.pub": ours.Key().PEM(), "message": message, "ours.sig": must(ours.Sign(t.Context(), message))(t),
	} {
		if err := os.WriteFile(file(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const script = `
import sys, os
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import mldsa
os.chdir(sys.argv[1])
read = lambda n: open(n, 'rb').read()
public = s.load_pem_public_key(read('ours.pub'))
public.verify(read('ours.sig'), read('message'))
private = s.load_pem_private_key(read('ours.pem'), None)
assert private.public_key().public_bytes_raw() == public.public_bytes_raw()
theirs = mldsa.MLDSA65PrivateKey.generate()
open('theirs.pem', 'wb').write(theirs.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
open('theirs.sig', 'wb').write(theirs.sign(read('message')))
open('small.pub', 'wb').write(mldsa.MLDSA44PrivateKey.generate().public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
`
	if out, err := exec.Command(python, "-c", script, folder).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	theirs := must(ParsePrivateKey(must(os.ReadFile(file("theirs.pem")))(t)))(t)
	if !theirs.Key().Verify(message, must(os.ReadFile(file("theirs.sig")))(t)) {
		t.Error("a signature by Python does not verify")
	}
	if _, err := ParsePublicPEM(must(os.ReadFile(file("small.pub")))(t)); err == nil {
		t.Error("a key of ML-DSA-44 is taken")
	}
}

// TestAPolicyOfTheLargestKeysFits: all the keys there may be, of the largest kind, all of which sign.
func TestAPolicyOfTheLargestKeysFits(t *testing.T) {
	p := NewPolicy(testTime(0).Time, MaxKeys)
	var signers []Signer
	for i := range MaxKeys {
		_, s, err := GenerateKey(MLDSA65)
		if err != nil {
			t.Fatal(err)
		}
		p.Keys = append(p.Keys, NewPolicyKey(fmt.Sprintf("key-%d", i), Exporter, s.Key()))
		signers = append(signers, s)
	}
	sealed := must(SealPolicy(t.Context(), p, signers...))(t)
	id := must(PolicyID(sealed))(t)
	if _, err := OpenPolicy(sealed, id); err != nil {
		t.Errorf("%d bytes: %v", len(sealed), err)
	}
}
