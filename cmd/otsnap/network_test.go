package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/s3/s3test"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
)

// TestMainJobThroughABadNetwork puts a toxiproxy between otsnap and the server of
// either cloud. Every command ends right, or says that the store was not
// available and is right as soon as it is.
func TestMainJobThroughABadNetwork(t *testing.T) {
	if testing.Short() {
		t.Skip("runs servers, and waits")
	}
	const both = archivetest.ToClient
	cases := []struct {
		name   string
		right  bool // nothing is bad enough to give up
		toxics []archivetest.Toxic
		down   bool
	}{
		{"latency 200 ms +- 100", true, []archivetest.Toxic{archivetest.Latency(both, 200*time.Millisecond, 100*time.Millisecond)}, false},
		{"500 kB/s", true, []archivetest.Toxic{archivetest.Bandwidth(archivetest.ToServer, 500), archivetest.Bandwidth(archivetest.ToClient, 500)}, false},
		{"slices of 1 kB", true, []archivetest.Toxic{archivetest.Slicer(archivetest.ToServer, 1000, 10*time.Microsecond), archivetest.Slicer(archivetest.ToClient, 1000, 10*time.Microsecond)}, false},
		{"reset after 40 kB sent", false, []archivetest.Toxic{archivetest.Reset(archivetest.ToServer, 40e3)}, false},
		{"reset after 40 kB of replies", false, []archivetest.Toxic{archivetest.Reset(archivetest.ToClient, 40e3)}, false},
		{"replies end after 200 bytes", false, []archivetest.Toxic{archivetest.Limit(archivetest.ToClient, 200)}, false},
		{"half-open: nothing moves", false, []archivetest.Toxic{archivetest.Stall(archivetest.ToServer, 0), archivetest.Stall(archivetest.ToClient, 0)}, false},
		{"half-open after 40 kB", false, []archivetest.Toxic{archivetest.Stall(archivetest.ToServer, 40e3), archivetest.Stall(archivetest.ToClient, 40e3)}, false},
		{"down", false, nil, true},
	}
	c := newClouds(t, s3test.VersityGW, sample.Movies, sample.Oddities)
	key := filepath.Join(c.dir, "key.pem")
	c.must("key", "gen", "--out", key)
	var mu sync.Mutex
	table := []string{fmt.Sprintf("%-32s  %-10s  %-10s  %-10s  %-10s  %s", "network", "cloud", "export", "verify", "restore", "seconds")}
	t.Run("cases", func(t *testing.T) {
		for i, test := range cases {
			for cloud, bucket := range map[string]func(string) string{"S3": c.s3, "OSS": c.oss} {
				location := bucket(fmt.Sprintf("net-%d", i))
				t.Run(test.name+"/"+cloud, func(t *testing.T) {
					t.Parallel()
					k := *c.killer
					k.t = t
					_, address, _ := strings.Cut(location, "endpoint=")
					address, _, _ = strings.Cut(strings.NewReplacer("%3A", ":", "%2F", "/").Replace(address), "&")
					proxy := archivetest.NewProxy(t, strings.TrimPrefix(address, "http://"))
					location := strings.NewReplacer("%3A", ":", "%2F", "/").Replace(location)
					location = strings.Replace(location, address, "http://"+proxy.Addr(), 1)
					worsen := func() {
						if proxy.Add(test.toxics...); test.down {
							proxy.Down()
						}
					}
					mend := func() {
						proxy.Up()
						proxy.Clear()
					}
					begin := time.Now()
					k.must("init", location, "--key", key)
					outcomes := []any{test.name, cloud}
					target := fmt.Sprintf("%snet-%d-%s", c.target, i, cloud)
					for _, args := range [][]string{
						{"export", c.source, location, "--key", key, "--chunk-size", "128KiB"},
						{"verify", location, "--level", "rows"},
						{"restore", location, target},
					} {
						worsen()
						code, out := exitCode(t, &k, append(args, "--give-up-after", "4s")...)
						mend()
						outcomes = append(outcomes, outcome(code))
						switch {
						case code == 0:
							continue
						case test.right || code != exitUnavailable:
							t.Errorf("%s: exit code %d\n%s", args[0], code, out)
						}
						// As a user would: again, resumed if there is something to resume.
						if code, _ := exitCode(t, &k, args...); code != 0 {
							resumed := append(args[:len(args):len(args)], "--resume")
							if code, out := exitCode(t, &k, resumed...); code != 0 {
								t.Errorf("%s, on a good network again: exit code %d\n%s", args[0], code, out)
							}
						}
					}
					k.must("verify", location, "--level", "rows")
					k.must("compare", location, target)
					mu.Lock()
					defer mu.Unlock()
					table = append(table, fmt.Sprintf("%-32s  %-10s  %-10s  %-10s  %-10s  %.1f", append(outcomes, time.Since(begin).Seconds())...))
				})
			}
		}
	})
	t.Logf("ended by exit code 20, and done at the second try, where it says unavailable\n%s", strings.Join(table, "\n"))
}

func outcome(code int) string {
	switch code {
	case 0:
		return "right"
	case exitUnavailable:
		return "refused"
	}
	return fmt.Sprintf("EXIT %d", code)
}
