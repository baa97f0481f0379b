package s3_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	ours "github.com/otsnap/otsnap/archive/s3"
	"github.com/otsnap/otsnap/archive/s3/s3test"
)

// slow skips what takes too long for every change: it runs where OTSNAP_S3 names
// servers.
func slow(t *testing.T) {
	if os.Getenv("OTSNAP_S3") == "" {
		t.Skip("takes long; set OTSNAP_S3")
	}
}

func TestLocks(t *testing.T) {
	each(t, func(t *testing.T, s *s3test.Server) {
		archivetest.TestLocks(t, func(t *testing.T) archivetest.LockStore { return open(t, s, bucket(t, s, withLock), nil) })
	})
}

// TestGovernanceBecomesCompliance has the right that it takes, as root does.
func TestGovernanceBecomesCompliance(t *testing.T) {
	each(t, func(t *testing.T, s *s3test.Server) {
		store := open(t, s, bucket(t, s, s3test.BucketOptions{Lock: true}), nil)
		put(t, store, "object", "content", archive.PutOptions{Lock: archive.Lock{Mode: archive.Governance, Until: time.Now().AddDate(0, 0, 2)}})
		firmer := archive.Lock{Mode: archive.Compliance, Until: time.Now().AddDate(0, 0, 1)}
		if err := store.Lock(t.Context(), "object", firmer); err != nil {
			t.Fatal(err)
		}
		info, err := store.Inspect(t.Context(), "object")
		if err != nil || info.Lock.Mode != archive.Compliance || time.Until(info.Lock.Until) < 47*time.Hour {
			t.Errorf("lock %+v, %v; want compliance for as long as it was in governance", info.Lock, err)
		}
	})
}

func TestDefaultLock(t *testing.T) {
	for _, mode := range []archive.Mode{archive.Governance, archive.Compliance} {
		t.Run(mode.String(), func(t *testing.T) {
			each(t, func(t *testing.T, s *s3test.Server) {
				archivetest.TestDefaultLock(t, func(t *testing.T) archivetest.LockStore {
					return open(t, s, bucket(t, s, s3test.BucketOptions{Lock: true, DefaultMode: mode, DefaultDays: 3}), nil)
				})
			})
		})
	}
}

func TestVersions(t *testing.T) {
	each(t, func(t *testing.T, s *s3test.Server) {
		archivetest.TestVersions(t, func(t *testing.T) archivetest.VersionedBucket {
			name := bucket(t, s, withOlder)
			client, key := s.Client(), func(name string) *string { name = "an/archive/" + name; return &name }
			return archivetest.VersionedBucket{
				Store: open(t, s, name, nil),
				Overlay: func(object string, data []byte) error {
					_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &name, Key: key(object), Body: bytes.NewReader(data)})
					return err
				},
				Mark: func(object string) error {
					_, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &name, Key: key(object)})
					return err
				},
			}
		})
	})
}

func TestProbe(t *testing.T) {
	each(t, func(t *testing.T, s *s3test.Server) {
		checksums := archive.Supported
		if s.Kind == s3test.Ceph {
			checksums = archive.Absent // it keeps none
		}
		t.Run("Plain", func(t *testing.T) {
			archivetest.TestProbe(t, func(t *testing.T) archivetest.ProbeStore { return open(t, s, bucket(t, s, plain), nil) }, map[string]archive.State{
				archive.CanCreateOnly: archive.Supported, archive.CanChecksum: checksums, archive.CanVersion: archive.Absent,
				archive.CanLock: archive.Absent, archive.CanHold: archive.Absent, archive.CanBucketLock: archive.Absent,
				archive.CanTier: archive.Unknown, archive.CanEncrypt: archive.Unknown,
			})
		})
		t.Run("ObjectLock", func(t *testing.T) {
			archivetest.TestProbe(t, func(t *testing.T) archivetest.ProbeStore { return open(t, s, bucket(t, s, withLock), nil) }, map[string]archive.State{
				archive.CanCreateOnly: archive.Supported, archive.CanChecksum: checksums, archive.CanVersion: archive.Supported,
				archive.CanLock: archive.Supported, archive.CanHold: archive.Supported,
			})
		})
	})
}

func TestManyObjects(t *testing.T) {
	slow(t)
	each(t, func(t *testing.T, s *s3test.Server) {
		archivetest.TestManyObjects(t, func(t *testing.T) archive.Store { return open(t, s, bucket(t, s, plain), nil) })
	})
}

func TestLargeObject(t *testing.T) {
	slow(t)
	each(t, func(t *testing.T, s *s3test.Server) {
		archivetest.TestLargeObject(t, func(t *testing.T) archive.Store { return open(t, s, bucket(t, s, plain), nil) })
	})
}

// at opens an archive of its own in a bucket whose server is reached at address,
// as the tests of bad networks want it.
func at(t *testing.T, s *s3test.Server, bucket, address string) *ours.Store {
	return open(t, s, bucket, func(c *ours.Config) {
		c.Endpoint = "http://" + address
		c.Prefix = fmt.Sprintf("archive-%d", buckets.Add(1))
		c.GiveUpAfter, c.Idle, c.OnRetry = 10*time.Second, 2*time.Second, nil
	})
}
