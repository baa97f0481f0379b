package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/snapshot/tablestore"
)

func TestCredentialFiles(t *testing.T) {
	want := map[string]string{"accesskeyid": "id", "accesskeysecret": "se=cret", "securitytoken": "token"}
	for name, text := range map[string]string{
		"Environment":  "TABLESTORE_ACCESS_KEY_ID=id\nTABLESTORE_ACCESS_KEY_SECRET=se=cret\nTABLESTORE_SECURITY_TOKEN=token\n",
		"CloudsOwn":    "export ALIBABA_CLOUD_ACCESS_KEY_ID='id'\nexport ALIBABA_CLOUD_ACCESS_KEY_SECRET=\"se=cret\"\nexport ALIBABA_CLOUD_SECURITY_TOKEN=token",
		"Short":        "# comment\n\naccess_key_id = id\r\naccess_key_secret = se=cret\r\nsecurity_token = token\r\n",
		"TokenService": `{"AccessKeyId": "id", "AccessKeySecret": "se=cret", "SecurityToken": "token"}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseFields([]byte(text))
			if err != nil || !maps.Equal(got, want) {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
		})
	}
}

func TestErrorsNeverHoldASecret(t *testing.T) {
	for _, text := range []string{`{"AccessKeyId": canary}`, `{"AccessKeyId": ["canary"]}`, "canary", "access_key_secret=canary"} {
		path := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := fromFile(new(tablestore.Config), path)
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// TestKeysAreNeverMixed sees that half of one access key is not completed by
// half of another.
func TestKeysAreNeverMixed(t *testing.T) {
	environment := map[string]string{
		"TABLESTORE_ACCESS_KEY_ID":        "ours",
		"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "theirs",
	}
	a := &app{getenv: func(name string) string { return environment[name] }}
	if err := a.credentials(new(tablestore.Config), ""); err == nil {
		t.Error("half an access key of each family was taken")
	}
	environment["TABLESTORE_ACCESS_KEY_SECRET"] = "ours"
	environment["ALIBABA_CLOUD_SECURITY_TOKEN"] = "theirs"
	c := new(tablestore.Config)
	if err := a.credentials(c, ""); err != nil || c.AccessKeySecret != "ours" || c.SecurityToken != "" {
		t.Errorf("got %#v, %v", c, err)
	}
}
