package manifest_test

import (
	"errors"
	"testing"

	"github.com/otsnap/otsnap/manifest"
)

func TestReceiptIsOpenedByWhoSignedIt(t *testing.T) {
	_, signer, err := manifest.GenerateKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := manifest.GenerateKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := manifest.SealReceipt(t.Context(), []byte(`{"kind":"restore"}`), signer)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := manifest.OpenReceipt(sealed, signer.Key()); err != nil || string(got) != `{"kind":"restore"}` {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := manifest.OpenReceipt(sealed, other.Key()); !errors.Is(err, manifest.ErrUntrusted) {
		t.Errorf("by another key: %v", err)
	}
	if _, err := manifest.SealReceipt(t.Context(), []byte("text"), signer); !errors.Is(err, manifest.ErrInvalid) {
		t.Errorf("what is no JSON: %v", err)
	}
}
