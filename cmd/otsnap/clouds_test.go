package main

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive/oss/osstest"
	"github.com/otsnap/otsnap/archive/s3/s3test"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// clouds are a Tablestore with sample data, and stores of two clouds.
type clouds struct {
	*killer
	source, target string                     // addresses of instances
	s3, oss        func(bucket string) string // make a bucket, return an archive's address in it
	s3Server       *s3test.Server
	alibaba        *osstest.Server
}

// newClouds starts the servers. kind is the S3 server's.
func newClouds(t *testing.T, kind string, tables ...string) *clouds {
	t.Helper()
	c := &clouds{killer: newKiller(t, 3)}
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() {
		front.Close()
		server.Close()
	})
	if _, err := sample.Load(t.Context(), tablestore.NewClient(front.URL, "source", "local", "local"), tables...); err != nil {
		t.Fatal(err)
	}
	c.source, c.target = front.URL+"?instance=source", front.URL+"?instance="

	s3, err := s3test.Start(t.Context(), kind, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s3.Stop)
	c.s3Server = s3
	c.s3 = func(bucket string) string {
		if err := s3.Bucket(t.Context(), bucket, s3test.BucketOptions{Lock: strings.Contains(bucket, "locked")}); err != nil {
			t.Fatal(err)
		}
		return s3.URL(bucket, "shop")
	}

	alibaba, err := osstest.New(osstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.alibaba = alibaba
	ossFront := httptest.NewServer(alibaba)
	t.Cleanup(ossFront.Close)
	c.oss = func(bucket string) string {
		if err := alibaba.CreateBucket(bucket, osstest.BucketOptions{}); err != nil {
			t.Fatal(err)
		}
		return "oss://" + bucket + "/shop?region=cn-hangzhou&path-style=true&endpoint=" + ossFront.URL
	}
	c.env = append(s3.Env(), "XDG_CONFIG_HOME="+filepath.Join(c.dir, "config"),
		"ALIBABA_CLOUD_ACCESS_KEY_ID="+osstest.DefaultAccessKeyID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET="+osstest.DefaultAccessKeySecret)
	return c
}

// head returns the digest of the newest manifest of an archive.
func (c *clouds) head(location string) manifest.Hash {
	c.t.Helper()
	var shown struct{ Digest manifest.Hash }
	if err := json.Unmarshal([]byte(c.must("show", location, "--json")), &shown); err != nil || shown.Digest.IsZero() {
		c.t.Fatalf("show %s: digest %s, %v", location, shown.Digest, err)
	}
	return shown.Digest
}

func s3Kinds(t *testing.T) []string {
	t.Helper()
	kinds, err := s3test.Kinds()
	if err != nil {
		t.Fatal(err)
	}
	return kinds
}

// TestMainJobAcrossClouds exports to one cloud, being killed on the way, copies the
// archive to the other, being killed again, restores from the copy into an empty
// instance and compares.
func TestMainJobAcrossClouds(t *testing.T) {
	if testing.Short() {
		t.Skip("runs servers, and the whole job")
	}
	for _, kind := range s3Kinds(t) {
		t.Run(kind, func(t *testing.T) {
			c := newClouds(t, kind, sample.Cities, sample.Movies, sample.Oddities)
			key := filepath.Join(c.dir, "key.pem")
			c.must("key", "gen", "--out", key)
			for _, way := range []struct{ name, from, to string }{
				{"S3ToOSS", c.s3("first"), c.oss("copy")},
				{"OSSToS3", c.oss("first"), c.s3("copy")},
			} {
				t.Run(way.name, func(t *testing.T) {
					c.t = t
					c.must("init", way.from, "--key", key)
					begin := time.Now()
					kills := c.killedUntilDone("export", c.source, way.from, "--key", key, "--chunk-size", "1MiB", "--split-size", "8MiB")
					exported := time.Since(begin)
					c.must("verify", way.from, "--level", "rows")
					kills += c.killedUntilDone("copy", way.from, way.to)
					c.must("verify", way.to, "--level", "rows")
					if from, to := c.head(way.from), c.head(way.to); from != to {
						t.Errorf("the copy's newest manifest is %s, the original's %s", to, from)
					}
					target := c.target + way.name
					begin = time.Now()
					c.must("restore", way.to, target)
					restored := time.Since(begin)
					c.must("compare", way.to, target)
					c.must("compare", way.from, target)
					t.Logf("%d processes killed; export %.1fs, restore from the copy %.1fs", kills, exported.Seconds(), restored.Seconds())
					if kills < 4 {
						t.Errorf("%d kills prove little", kills)
					}
				})
			}
		})
	}
}

// killedUntilDone runs a command that can be resumed, killing it at growing
// moments until it is done before that.
func (c *clouds) killedUntilDone(args ...string) (kills int) {
	c.t.Helper()
	limit := 40 * time.Millisecond
	for try := 0; ; try++ {
		command := args
		if try > 0 && args[0] == "export" {
			command = append(args[:len(args):len(args)], "--resume")
		}
		out, killed, err := c.start(limit, command...)
		limit += limit / 5
		switch {
		case err == nil:
			return kills
		case killed:
			kills++
		case strings.Contains(out, "no unfinished export"):
			c.must(args...)
			return kills
		default:
			c.t.Fatalf("otsnap %s: %v\n%s", strings.Join(command, " "), err, out)
		}
	}
}

// exitCode runs a command and returns how it ended, and what it printed.
func exitCode(t *testing.T, k *killer, args ...string) (int, string) {
	t.Helper()
	out, _, err := k.start(0, args...)
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		return ended.ExitCode(), out
	case err != nil:
		t.Fatal(err)
	}
	return 0, out
}
