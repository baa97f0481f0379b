package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	s3sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/s3"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
)

// TestComplianceHoldsAgainstRoot attacks an archive whose snapshots are locked in
// compliance mode, with root's key: through otsnap's own store, and with the bare
// SDK. Nothing can be removed, changed or locked for less; what can be hidden is
// read all the same, and found.
func TestComplianceHoldsAgainstRoot(t *testing.T) {
	if testing.Short() {
		t.Skip("runs servers")
	}
	for _, kind := range s3Kinds(t) {
		t.Run(kind, func(t *testing.T) {
			c := newClouds(t, kind, sample.Movies, sample.Oddities)
			for _, setting := range c.s3Server.Env() {
				name, value, _ := strings.Cut(setting, "=")
				t.Setenv(name, value)
			}
			location, key := c.s3("locked"), filepath.Join(c.dir, "key.pem")
			c.must("key", "gen", "--out", key)
			c.must("init", location, "--key", key, "--retain", "2d", "--lock", "compliance")
			c.must("export", c.source, location, "--key", key, "--chunk-size", "128KiB")
			c.must("verify", location, "--level", "rows", "--retention")

			objects := c.versions("locked")
			throughOtsnap(t, location, len(objects))
			for _, o := range objects {
				c.tryToSpoil("locked", o)
			}
			c.must("verify", location, "--level", "rows", "--retention")
			if now := c.versions("locked"); len(now) != len(objects) {
				t.Errorf("%d objects, %d before the attacks", len(now), len(objects))
			}

			c.hide("locked", objects)
			c.must("verify", location, "--level", "rows")
			c.must("list", location)
			c.must("restore", location, c.target+"hidden")
			c.must("compare", location, c.target+"hidden")
			code, out := exitCode(t, c.killer, "verify", location, "--retention")
			if code != exitWeaker || strings.Count(out, "newer version")+strings.Count(out, "delete marker") < len(objects) {
				t.Errorf("verify --retention: exit code %d, want %d and %d findings\n%s", code, exitWeaker, len(objects), out)
			}
		})
	}
}

// throughOtsnap tries to remove and to replace every object as otsnap's own code
// would.
func throughOtsnap(t *testing.T, location string, objects int) {
	t.Helper()
	config, err := s3.ParseURL(location)
	if err != nil {
		t.Fatal(err)
	}
	store, err := s3.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for o, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		found++
		if err := store.Delete(t.Context(), o.Name); !errors.Is(err, archive.ErrLocked) {
			t.Errorf("delete %s: got %v, want ErrLocked", o.Name, err)
		}
		if err := store.Put(t.Context(), o.Name, strings.NewReader("other bytes"), archive.PutOptions{}); err == nil {
			t.Errorf("%s was put again", o.Name)
		}
		less := archive.Lock{Mode: archive.Governance, Until: time.Now().Add(time.Hour)}
		if err := store.Lock(t.Context(), o.Name, less); err != nil {
			t.Errorf("lock %s for less, which changes nothing: %v", o.Name, err)
		}
	}
	if found != objects {
		t.Errorf("%d objects through otsnap, %d in the bucket", found, objects)
	}
}

// versions lists the versions in a bucket.
func (c *clouds) versions(bucket string) []types.ObjectVersion {
	c.t.Helper()
	list, err := c.s3Server.Client().ListObjectVersions(c.t.Context(), &s3sdk.ListObjectVersionsInput{Bucket: aws.String(bucket)})
	if err != nil || aws.ToBool(list.IsTruncated) {
		c.t.Fatalf("list versions: %v", err)
	}
	return list.Versions
}

// tryToSpoil does with the bare SDK all that would destroy a version.
func (c *clouds) tryToSpoil(bucket string, o types.ObjectVersion) {
	c.t.Helper()
	ctx, client, name := c.t.Context(), c.s3Server.Client(), aws.String(bucket)
	for _, bypass := range []bool{false, true} {
		_, err := client.DeleteObject(ctx, &s3sdk.DeleteObjectInput{Bucket: name, Key: o.Key, VersionId: o.VersionId, BypassGovernanceRetention: aws.Bool(bypass)})
		if err == nil {
			c.t.Errorf("%s: root removed it, bypass %v", *o.Key, bypass)
		}
		for _, less := range []types.ObjectLockRetention{
			{Mode: types.ObjectLockRetentionModeCompliance, RetainUntilDate: aws.Time(time.Now().Add(time.Minute))},
			{Mode: types.ObjectLockRetentionModeGovernance, RetainUntilDate: aws.Time(time.Now().AddDate(1, 0, 0))},
		} {
			_, err := client.PutObjectRetention(ctx, &s3sdk.PutObjectRetentionInput{
				Bucket: name, Key: o.Key, VersionId: o.VersionId, BypassGovernanceRetention: aws.Bool(bypass), Retention: &less, ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
			})
			if err == nil {
				c.t.Errorf("%s: root made the lock %s until %s, bypass %v", *o.Key, less.Mode, less.RetainUntilDate, bypass)
			}
		}
	}
}

// hide lays a newer version over every other object and a delete marker over the
// rest, which no lock prevents.
func (c *clouds) hide(bucket string, objects []types.ObjectVersion) {
	c.t.Helper()
	ctx, client, name := c.t.Context(), c.s3Server.Client(), aws.String(bucket)
	for i, o := range objects {
		var err error
		if i%2 == 0 {
			_, err = client.PutObject(ctx, &s3sdk.PutObjectInput{Bucket: name, Key: o.Key, Body: bytes.NewReader([]byte("not what it was"))})
		} else {
			_, err = client.DeleteObject(ctx, &s3sdk.DeleteObjectInput{Bucket: name, Key: o.Key})
		}
		if err != nil {
			c.t.Fatalf("hide %s: %v", *o.Key, err)
		}
	}
}
