package main

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// TestKilledCopiesClaimNothingAndGoOn kills copies by SIGKILL at random moments.
// After each the target is no archive yet, or one that verifies.
func TestKilledCopiesClaimNothingAndGoOn(t *testing.T) {
	if testing.Short() {
		t.Skip("kills many processes")
	}
	k := newKiller(t, 2)
	k.env = []string{"XDG_CONFIG_HOME=" + filepath.Join(k.dir, "config")}
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(server)
	defer server.Close()
	defer listener.Close()
	if _, err := sample.Load(t.Context(), tablestore.NewClient(listener.URL, "source", "local", "local"), sample.Movies, sample.Oddities); err != nil {
		t.Fatal(err)
	}
	key, source := filepath.Join(k.dir, "key.pem"), filepath.Join(k.dir, "source")
	k.must("key", "gen", "--out", key)
	k.must("init", source, "--key", key)
	for range 2 {
		k.must("export", listener.URL+"?instance=source", source, "--key", key, "--chunk-size", "32KiB", "--split-size", "128KiB")
	}
	id := archiveID(t, source)
	begin := time.Now()
	k.must("copy", source, filepath.Join(k.dir, "undisturbed"))
	whole := time.Since(begin)
	kills, claims := 0, 0
	for n := 0; kills < 5 && n < 40; n++ {
		target := filepath.Join(k.dir, fmt.Sprint("target", n))
		for range 3 {
			_, killed, err := k.start(time.Millisecond+time.Duration(k.random.Int64N(int64(whole))), "copy", source, target)
			if err == nil {
				break
			}
			if !killed {
				t.Fatal(err)
			}
			kills++
			if _, err := os.Stat(filepath.Join(target, manifest.PolicyName(1))); err == nil {
				claims++
				k.must("verify", target, "--archive-id", id)
			}
		}
		k.must("copy", source, target)
		k.must("verify", target)
	}
	t.Logf("%d processes killed, %d of them with an archive in the target; a copy takes %s", kills, claims, whole)
	if kills < 5 || claims == 0 {
		t.Errorf("%d kills prove little", kills)
	}
}

// archiveID reads the id of an archive in a directory.
func archiveID(t *testing.T, path string) string {
	t.Helper()
	sealed, err := os.ReadFile(filepath.Join(path, manifest.PolicyName(1)))
	if err != nil {
		t.Fatal(err)
	}
	id, err := manifest.PolicyID(sealed)
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}
