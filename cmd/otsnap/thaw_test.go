package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive/oss/osstest"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// TestThawOnOSS keeps chunks in the class Archive and lets the server's clock run.
func TestThawOnOSS(t *testing.T) {
	c := newCold(t)
	key := filepath.Join(t.TempDir(), "key.pem")
	mirror := filepath.Join(t.TempDir(), "mirror")
	c.ends(0, "key", "gen", "--out", key)
	c.ends(0, "init", c.archive, "--key", key)
	c.ends(0, "export", c.instance+"shop", c.archive, "--key", key)
	c.ends(0, "verify", c.archive, "--level", "objects")

	c.ends(exitFrozen, "restore", c.archive, c.instance+"rescue")
	c.tells("hint: ask for the objects")
	c.ends(exitFrozen, "copy", c.archive, mirror)
	c.tells("2 objects of the source are in an archive tier", "hint: ask for them, and copy again when they are there: otsnap thaw 'oss://")

	c.ends(exitUsage, "thaw", c.archive, "--tier", "Yesterday")
	c.tells("--tier Yesterday: the store has Expedited, Standard, Bulk")
	for range 2 {
		c.ends(exitFrozen, "thaw", c.archive, "--days", "3")
		c.tells("Archive         2", "to ask for: 2 objects", "for 3 days, at the store's usual speed", "nothing was asked for")
	}
	c.ends(exitFrozen, "thaw", c.archive, "--days", "3", "--yes")
	c.tells("to ask for: 2 objects", "asked for: 2 objects", "can be read; the others are thawing", "hint: come back with the same command")
	c.forward(time.Second)
	c.ends(exitFrozen, "thaw", c.archive, "--days", "3", "--yes")
	c.tells("asked for before, and thawing: 2 objects", "asked for: 0 objects")
	c.ends(exitFrozen, "thaw", c.archive)
	c.tells("everything was asked for; it is not there yet")

	c.forward(2 * time.Hour)
	c.ends(0, "thaw", c.archive, "--yes", "--wait", "--json")
	c.tells(`"state": "thawed"`, `"known": true`)
	c.ends(0, "thaw", c.archive)
	c.tells("thawed: 2 objects, until 2", "ready: everything can be read now")
	c.ends(0, "restore", c.archive, c.instance+"rescue")
	c.ends(0, "copy", c.archive, mirror)
	c.tells("proved: the copy has every snapshot")
	c.forward(4 * 24 * time.Hour)
	c.ends(exitFrozen, "verify", c.archive)
	c.ends(0, "verify", mirror, "--level", "rows")
}

// cold runs commands against an archive on OSS whose chunks have to be thawed.
type cold struct {
	t                 *testing.T
	archive, instance string // instance wants a name behind it
	out               bytes.Buffer

	mu  sync.Mutex
	now time.Time
}

func newCold(t *testing.T) *cold {
	t.Helper()
	c := &cold{t: t, now: time.Now()}
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() {
		front.Close()
		server.Close()
	})
	if _, err := sample.Load(t.Context(), tablestore.NewClient(front.URL, "shop", "local", "local"), sample.Movies, sample.Oddities); err != nil {
		t.Fatal(err)
	}
	alibaba, err := osstest.New(osstest.Options{Now: c.clock})
	if err != nil {
		t.Fatal(err)
	}
	alibaba.SetThaw(func(string, string) time.Duration { return time.Hour })
	if err := alibaba.CreateBucket("cold", osstest.BucketOptions{}); err != nil {
		t.Fatal(err)
	}
	ossFront := httptest.NewServer(alibaba)
	t.Cleanup(ossFront.Close)
	c.instance = front.URL + "?instance="
	c.archive = "oss://cold/shop?region=cn-hangzhou&path-style=true&class=Archive&endpoint=" + ossFront.URL
	for name, value := range map[string]string{
		"XDG_CONFIG_HOME":   t.TempDir(),
		"OSS_ACCESS_KEY_ID": osstest.DefaultAccessKeyID, "OSS_ACCESS_KEY_SECRET": osstest.DefaultAccessKeySecret,
		"TABLESTORE_ACCESS_KEY_ID": "local", "TABLESTORE_ACCESS_KEY_SECRET": "local",
	} {
		t.Setenv(name, value)
	}
	return c
}

func (c *cold) clock() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *cold) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// ends runs a command that must end with an exit code.
func (c *cold) ends(code int, args ...string) {
	c.t.Helper()
	c.out.Reset()
	a := &app{stdout: &c.out, stderr: &c.out, getenv: os.Getenv, now: c.clock}
	if got := run(args, a); got != code {
		c.t.Fatalf("otsnap %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, c.out.String())
	}
}

// tells makes sure that the last command said so.
func (c *cold) tells(texts ...string) {
	c.t.Helper()
	for _, text := range texts {
		if !strings.Contains(c.out.String(), text) {
			c.t.Errorf("no %q in\n%s", text, c.out.String())
		}
	}
}
