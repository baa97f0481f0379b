package oss_test

import (
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive/oss"
)

func TestAccessKeysAreThoseOfAStore(t *testing.T) {
	t.Setenv("OSS_ACCESS_KEY_ID", "")
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "id")
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret")
	t.Setenv("ALIBABA_CLOUD_SECURITY_TOKEN", "token")
	for _, kind := range []string{"", "env"} {
		keys, err := oss.AccessKeys(kind)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := keys(t.Context()); err != nil || got != (oss.AccessKey{ID: "id", Secret: "secret", Token: "token"}) {
			t.Errorf("kind %q: got %d bytes of id, %v", kind, len(got.ID), err)
		}
	}
	if _, err := oss.AccessKeys("magic"); err == nil || !strings.Contains(err.Error(), "profile:NAME") {
		t.Errorf("kind magic: got %v", err)
	}
}

func TestNoAccessKeysIsAnError(t *testing.T) {
	for _, name := range []string{"OSS_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"} {
		t.Setenv(name, "")
	}
	keys, err := oss.AccessKeys("env")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys(t.Context()); err == nil || !strings.Contains(err.Error(), "no credentials") {
		t.Errorf("got %v", err)
	}
}
