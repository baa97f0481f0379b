package oss_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/oss"
	"github.com/otsnap/otsnap/archive/oss/osstest"
)

func TestManyObjects(t *testing.T) {
	t.Parallel()
	for name, bucket := range map[string]osstest.BucketOptions{"Plain": {}, "Versioned": {Versioning: "Enabled"}} {
		t.Run(name, func(t *testing.T) {
			archivetest.TestManyObjects(t, func(t *testing.T) archive.Store {
				return serve(t, osstest.Options{}, bucket).open(t, oss.Config{Prefix: "p", ReadBack: oss.ReadBackNone})
			})
		})
	}
}

func TestLargeObject(t *testing.T) {
	t.Parallel()
	archivetest.TestLargeObject(t, func(t *testing.T) archive.Store {
		return serve(t, osstest.Options{Dir: t.TempDir()}, osstest.BucketOptions{}).open(t, oss.Config{ReadBack: oss.ReadBackAll})
	})
}

// TestModel has two stores of one archive, as two processes would. The bucket keeps
// no versions: OSS tells everyone who removes a version by its id that it is gone,
// also who came second.
func TestModel(t *testing.T) {
	t.Parallel()
	archivetest.TestModel(t, func(t *testing.T) []archive.Store {
		s := serve(t, osstest.Options{}, osstest.BucketOptions{})
		return []archive.Store{s.open(t, oss.Config{Prefix: "p"}), s.open(t, oss.Config{Prefix: "p"})}
	})
}

func TestVersions(t *testing.T) {
	t.Parallel()
	archivetest.TestVersions(t, func(t *testing.T) archivetest.VersionedBucket {
		s := serve(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
		bucket := s.client(t)
		return archivetest.VersionedBucket{
			Store:   s.open(t, oss.Config{Prefix: "p"}),
			Overlay: func(name string, data []byte) error { return bucket.PutObject("p/"+name, bytes.NewReader(data)) },
			Mark:    func(name string) error { return bucket.DeleteObject("p/" + name) },
		}
	})
}

func TestBucketLock(t *testing.T) {
	for name, bucket := range map[string]osstest.BucketOptions{"Plain": {}, "Versioned": {Versioning: "Enabled"}} {
		t.Run(name, func(t *testing.T) {
			archivetest.TestBucketLock(t, func(t *testing.T) archivetest.BucketLockStore {
				return serve(t, osstest.Options{}, bucket).open(t, oss.Config{})
			})
		})
	}
}

func TestThaw(t *testing.T) {
	for _, class := range []string{"Archive", "ColdArchive"} {
		t.Run(class, func(t *testing.T) {
			archivetest.TestThaw(t, func(t *testing.T) archivetest.FrozenBucket {
				var later atomic.Int64
				s := serve(t, osstest.Options{Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }}, osstest.BucketOptions{})
				return archivetest.FrozenBucket{
					Store:  s.open(t, oss.Config{Class: class}),
					Finish: func() { later.Add(int64(13 * time.Hour)) }, // Bulk takes up to 12
				}
			})
		})
	}
}

func TestProbeOfABucket(t *testing.T) {
	for name, bucket := range map[string]osstest.BucketOptions{"Plain": {}, "Versioned": {Versioning: "Enabled"}} {
		t.Run(name, func(t *testing.T) {
			archivetest.TestProbe(t, func(t *testing.T) archivetest.ProbeStore {
				return serve(t, osstest.Options{}, bucket).open(t, oss.Config{SSE: "KMS"})
			}, map[string]archive.State{
				archive.CanCreateOnly: archive.Supported, archive.CanEncrypt: archive.Supported, archive.CanLock: archive.Absent,
			})
		})
	}
}

// onTheWay opens archives of one service whose address is another's.
func onTheWay(t *testing.T) (open func(t *testing.T, address string) archive.Store, upstream string) {
	s := serve(t, osstest.Options{}, osstest.BucketOptions{})
	var n atomic.Int32
	return func(t *testing.T, address string) archive.Store {
		store, err := oss.Open(t.Context(), oss.Config{
			Bucket: bucketName, Prefix: fmt.Sprint("archive", n.Add(1)), Region: osstest.DefaultRegion, Endpoint: "http://" + address,
			Idle: 2 * time.Second, GiveUpAfter: 10 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}, strings.TrimPrefix(s.url, "http://")
}

func TestNetwork(t *testing.T) {
	t.Parallel() // most of its time is waiting
	open, upstream := onTheWay(t)
	archivetest.TestNetwork(t, open, upstream)
}

func TestFront(t *testing.T) {
	t.Parallel() // most of its time is waiting
	open, upstream := onTheWay(t)
	archivetest.TestFront(t, open, upstream)
}
