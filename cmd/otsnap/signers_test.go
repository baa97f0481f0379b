package main

import (
	"crypto/elliptic"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/signer/signertest"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// TestKeyServices makes archives with keys of AWS KMS and of Alibaba Cloud KMS, and
// sees what is said when these refuse or are gone. testdata/signers.txtar does it
// with a program.
func TestKeyServices(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the program; package signer tests the services")
	}
	k := newKiller(t, 5)
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() {
		front.Close()
		server.Close()
	})
	if _, err := sample.Load(t.Context(), tablestore.NewClient(front.URL, "shop", "local", "local"), sample.Cities); err != nil {
		t.Fatal(err)
	}
	source := front.URL + "?instance=shop"
	credentials := signertest.Credentials{ID: "id", Secret: "secret-canary", Token: "token-canary"}
	k.env = []string{
		"XDG_CONFIG_HOME=" + filepath.Join(k.dir, "config"), "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "OSS_ACCESS_KEY_ID=",
		"AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret-canary", "AWS_SESSION_TOKEN=token-canary",
		"ALIBABA_CLOUD_ACCESS_KEY_ID=id", "ALIBABA_CLOUD_ACCESS_KEY_SECRET=secret-canary", "ALIBABA_CLOUD_SECURITY_TOKEN=token-canary",
	}
	aws, alibaba := signertest.NewAWS("eu-central-1", credentials), signertest.NewAlibaba("cn-hangzhou", credentials)
	for _, service := range []struct {
		name, id, sign string
		*signertest.Service
		handler   http.Handler
		reference string
	}{
		{"AWS", "alias/exporter", "Sign", &aws.Service, aws, "awskms:///alias/exporter?region=eu-central-1&endpoint="},
		{"Alibaba", "key-1/v1", "AsymmetricSign", &alibaba.Service, alibaba, "alikms:///key-1/v1?region=cn-hangzhou&endpoint="},
	} {
		t.Run(service.name, func(t *testing.T) {
			k.t = t
			if err := service.AddKey(service.id, elliptic.P256()); err != nil {
				t.Fatal(err)
			}
			front := httptest.NewServer(service.handler)
			defer front.Close()
			key, backup := service.reference+front.URL, filepath.Join(k.dir, service.name)
			k.must("key", "show", key)
			k.must("init", backup, "--key", key)
			out := k.must("export", source, backup, "--key", key)
			out += k.must("verify", backup, "--level", "rows")
			if n := service.Asked(service.sign); n < 4 { // policy, plan, page, manifest
				t.Errorf("the service signed %d times", n)
			}

			service.Misbehave(func(string) *signertest.Refusal {
				return &signertest.Refusal{Status: 403, Code: "AccessDeniedException", Message: "secret things"}
			})
			code, refused := exitCode(t, k, "export", source, backup, "--key", key)
			if code != exitKey || !strings.Contains(refused, "hint: ") {
				t.Errorf("refused: exit code %d, %s", code, refused)
			}
			front.Close()
			code, gone := exitCode(t, k, "export", source, backup, "--key", key, "--give-up-after", "200ms")
			if code != exitKey || !strings.Contains(gone, "hint: this is no verdict") {
				t.Errorf("gone: exit code %d, %s", code, gone)
			}
			k.must("verify", backup) // without the service
			if holdsCanary(t, k.dir) || strings.Contains(out+refused+gone, "canary") {
				t.Error("a secret was written")
			}
		})
	}
}

// holdsCanary looks for a secret in all files of a folder but the program.
func holdsCanary(t *testing.T, dir string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Dir(path) == dir {
			return err
		}
		data, err := os.ReadFile(path)
		found = found || strings.Contains(string(data), "canary")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
