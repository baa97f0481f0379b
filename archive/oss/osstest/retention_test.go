package osstest_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive/oss/osstest"
)

const day = 24 * time.Hour

func TestArchivedObjectsAreReadOnceRestored(t *testing.T) {
	for _, test := range []struct {
		class oss.StorageClassType
		tier  string
		takes time.Duration // documented
	}{
		{oss.StorageArchive, "", time.Minute},
		{oss.StorageColdArchive, "Expedited", time.Hour},
		{oss.StorageColdArchive, "Standard", 5 * time.Hour},
		{oss.StorageColdArchive, "Bulk", 12 * time.Hour},
		{oss.StorageDeepColdArchive, "Expedited", 12 * time.Hour},
		{oss.StorageDeepColdArchive, "Standard", 48 * time.Hour},
	} {
		t.Run(string(test.class)+" "+test.tier, func(t *testing.T) {
			f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
			b := f.bucket(t)
			put(t, b, "k", "cold", oss.ObjectStorageClass(test.class))
			frozen := func() {
				t.Helper()
				_, err := b.GetObject("k")
				wantCode(t, err, 403, "InvalidObjectState")
				_, err = b.CopyObject("k", "copy")
				wantCode(t, err, 403, "InvalidObjectState")
			}
			state := func() string {
				t.Helper()
				h, err := b.GetObjectDetailedMeta("k")
				if err != nil || h.Get("X-Oss-Storage-Class") != string(test.class) || h.Get("Content-Length") != "4" {
					t.Errorf("head: %v, %v", h, err)
				}
				page, err := b.ListObjectsV2(oss.Prefix("k"))
				if err != nil || len(page.Objects) != 1 || page.Objects[0].RestoreInfo != h.Get("X-Oss-Restore") {
					t.Errorf("list: %+v, %v", page.Objects, err)
				}
				return h.Get("X-Oss-Restore")
			}
			restore := func() error {
				return b.RestoreObjectDetail("k", oss.RestoreConfiguration{Days: 2, Tier: test.tier})
			}
			frozen()
			if got := state(); got != "" {
				t.Errorf("before: %s", got)
			}
			if err := restore(); err != nil {
				t.Fatal(err)
			}
			wantCode(t, restore(), 409, "RestoreAlreadyInProgress")
			frozen()
			if got := state(); got != `ongoing-request="true"` {
				t.Errorf("on its way: %s", got)
			}
			f.clock.move(test.takes)
			want := f.clock.now().Add(2 * day)
			if got := get(t, b, "k"); got != "cold" {
				t.Errorf("got %q", got)
			}
			got := state()
			text, ok := strings.CutPrefix(got, `ongoing-request="false", expiry-date="`)
			until, err := time.Parse(time.RFC1123, strings.TrimSuffix(text, `"`))
			if !ok || err != nil || until.Sub(want).Abs() > time.Minute {
				t.Errorf("restored: %s, %v, want about %s", got, err, want)
			}
			f.clock.move(day)
			if err := restore(); err != nil { // once more: one day more
				t.Error(err)
			}
			f.clock.move(day + time.Hour)
			if got := get(t, b, "k"); got != "cold" {
				t.Errorf("got %q", got)
			}
			f.clock.move(day)
			frozen()
			if got := state(); got != "" {
				t.Errorf("after: %s", got)
			}
		})
	}
}

func TestRestoresThatOSSRefuses(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{Class: "ColdArchive"})
	b := f.bucket(t)
	put(t, b, "standard", "x", oss.ObjectStorageClass(oss.StorageStandard))
	put(t, b, "ia", "x", oss.ObjectStorageClass(oss.StorageIA))
	put(t, b, "archive", "x", oss.ObjectStorageClass(oss.StorageArchive))
	put(t, b, "deep", "x", oss.ObjectStorageClass(oss.StorageDeepColdArchive))
	put(t, b, "cold", "x") // the bucket's class
	restore := func(key string, days int32, tier string) error {
		return b.RestoreObjectDetail(key, oss.RestoreConfiguration{Days: days, Tier: tier})
	}
	wantCode(t, b.RestoreObject("standard"), 400, "OperationNotSupported")
	wantCode(t, b.RestoreObject("ia"), 400, "OperationNotSupported")
	wantCode(t, b.RestoreObject("missing"), 404, "NoSuchKey")
	wantCode(t, restore("archive", 8, ""), 400, "InvalidArgument")
	wantCode(t, restore("cold", 366, ""), 400, "InvalidArgument")
	wantCode(t, restore("cold", -1, ""), 400, "InvalidArgument")
	wantCode(t, restore("cold", 1, "Fast"), 400, "InvalidArgument")
	wantCode(t, restore("deep", 1, "Bulk"), 400, "InvalidArgument")
	wantCode(t, b.RestoreObjectXML("cold", "<RestoreRequest>"), 400, "MalformedXML")
	wantCode(t, b.RestoreObjectXML("cold", "<Other/>"), 400, "MalformedXML")
	wantCode(t, b.RestoreObjectXML("cold", "<RestoreRequest><Days>x</Days></RestoreRequest>"), 400, "InvalidArgument")

	if err := restore("cold", 1, "Standard"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, restore("cold", 1, "Bulk"), 409, "RestoreAlreadyInProgress")
	if err := restore("cold", 1, "Expedited"); err != nil { // sooner is possible
		t.Fatal(err)
	}
	f.clock.move(time.Hour)
	if got := get(t, b, "cold"); got != "x" {
		t.Errorf("got %q", got)
	}
	if err := b.RestoreObject("archive"); err != nil { // no body: one day
		t.Fatal(err)
	}
}

func TestThawTakesAsLongAsTheTestSays(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{Class: "DeepColdArchive"})
	b := f.bucket(t)
	put(t, b, "k", "x")
	var asked atomic.Value
	f.SetThaw(func(class, tier string) time.Duration {
		asked.Store(class + " " + tier)
		return 0
	})
	if err := b.RestoreObject("k"); err != nil {
		t.Fatal(err)
	}
	if got := get(t, b, "k"); got != "x" {
		t.Errorf("got %q", got)
	}
	if got := asked.Load(); got != "DeepColdArchive Standard" {
		t.Errorf("asked for %v", got)
	}
}

func TestRestoringOneVersion(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{Class: "Archive", Versioning: "Enabled"})
	b := f.bucket(t)
	id := put(t, b, "k", "old").Get("X-Oss-Version-Id")
	put(t, b, "k", "new")
	if err := b.RestoreObject("k", oss.VersionId(id)); err != nil {
		t.Fatal(err)
	}
	f.clock.move(time.Hour)
	if got := get(t, b, "k", oss.VersionId(id)); got != "old" {
		t.Errorf("got %q", got)
	}
	_, err := b.GetObject("k")
	wantCode(t, err, 403, "InvalidObjectState")
}

// retained is a bucket with a policy of so many days.
func retained(t *testing.T, f *fixture, days int, lock bool) (c *oss.Client, id string) {
	t.Helper()
	c = f.client(t)
	id, err := c.InitiateBucketWorm("bucket", days)
	if err != nil {
		t.Fatal(err)
	}
	if lock {
		if err := c.CompleteBucketWorm("bucket", id); err != nil {
			t.Fatal(err)
		}
	}
	return c, id
}

func wantWorm(t *testing.T, c *oss.Client, id, state string, days int) {
	t.Helper()
	w, err := c.GetBucketWorm("bucket")
	if err != nil || w.WormId != id || w.State != state || w.RetentionPeriodInDays != days {
		t.Errorf("got %+v, %v, want %s of %d days", w, err, state, days)
	}
	if _, err := time.Parse("2006-01-02T15:04:05", w.CreationDate); err != nil {
		t.Error(err)
	}
}

func TestBucketRetentionFromCreationToLock(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	c := f.client(t)
	_, err := c.GetBucketWorm("bucket")
	wantCode(t, err, 404, "NoSuchWORMConfiguration")
	wantCode(t, c.AbortBucketWorm("bucket"), 404, "NoSuchWORMConfiguration")
	for _, days := range []int{0, -1, 25551} {
		_, err := c.InitiateBucketWorm("bucket", days)
		wantCode(t, err, 400, "InvalidWORMConfiguration")
	}

	_, id := retained(t, f, 10, false)
	wantWorm(t, c, id, "InProgress", 10)
	_, err = c.InitiateBucketWorm("bucket", 5)
	wantCode(t, err, 400, "InvalidWORMConfiguration")
	wantCode(t, c.ExtendBucketWorm("bucket", 20, id), 400, "InvalidWORMConfiguration")
	wantCode(t, c.CompleteBucketWorm("bucket", "other"), 404, "NoSuchWORMConfiguration")
	if err := c.AbortBucketWorm("bucket"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.CompleteBucketWorm("bucket", id), 404, "NoSuchWORMConfiguration")

	_, id = retained(t, f, 10, true)
	wantWorm(t, c, id, "Locked", 10)
	wantCode(t, c.AbortBucketWorm("bucket"), 403, "WORMConfigurationLocked")
	_, err = c.InitiateBucketWorm("bucket", 50)
	wantCode(t, err, 403, "WORMConfigurationLocked")
	for _, days := range []int{9, 10, 0} {
		wantCode(t, c.ExtendBucketWorm("bucket", days, id), 400, "InvalidWORMConfiguration")
	}
	wantCode(t, c.ExtendBucketWorm("bucket", 20, "other"), 404, "NoSuchWORMConfiguration")
	if err := c.ExtendBucketWorm("bucket", 20, id); err != nil {
		t.Fatal(err)
	}
	f.clock.move(1000 * day)
	wantWorm(t, c, id, "Locked", 20)
}

func TestRetentionThatIsNotLockedIsVoidAfterADay(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	c, id := retained(t, f, 10, false)
	b := f.bucket(t)
	put(t, b, "k", "x")
	f.clock.move(day - time.Hour)
	wantCode(t, b.DeleteObject("k"), 409, "FileImmutable")
	f.clock.move(time.Hour)
	wantWorm(t, c, id, "Expired", 10)
	wantCode(t, c.CompleteBucketWorm("bucket", id), 400, "InvalidWORMConfiguration")
	if err := b.DeleteObject("k"); err != nil {
		t.Fatal(err)
	}
	_, id = retained(t, f, 3, true)
	wantWorm(t, c, id, "Locked", 3)
}

func TestRetainedObjectsStay(t *testing.T) {
	for _, lock := range []bool{false, true} {
		f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
		b := f.bucket(t)
		put(t, b, "k", "retained") // before there is a policy: it counts from here
		put(t, b, "source", "y")
		f.clock.move(12 * time.Hour)
		c, id := retained(t, f, 1, lock)

		upload, err := b.InitiateMultipartUpload("k")
		if err != nil {
			t.Fatal(err)
		}
		list := parts(t, b, upload, []byte("z"))
		refused := func() {
			t.Helper()
			wantCode(t, b.DeleteObject("k"), 409, "FileImmutable")
			wantCode(t, b.DeleteObject("k", oss.VersionId("null")), 409, "FileImmutable")
			wantCode(t, b.PutObject("k", strings.NewReader("x")), 409, "FileImmutable")
			_, err := b.CopyObject("source", "k")
			wantCode(t, err, 409, "FileImmutable")
			wantCode(t, b.SetObjectMeta("k", oss.Meta("a", "b")), 409, "FileImmutable")
			_, err = b.CompleteMultipartUpload(upload, list)
			wantCode(t, err, 409, "FileImmutable")
			_, err = b.DeleteObjects([]string{"missing", "k"})
			wantCode(t, err, 409, "FileImmutable")
			wantCode(t, c.DeleteBucket("bucket"), 409, "BucketNotEmpty")
			if got := get(t, b, "k"); got != "retained" {
				t.Errorf("got %q", got)
			}
		}
		refused()
		put(t, b, "new", "x")
		if lock {
			if err := c.ExtendBucketWorm("bucket", 2, id); err != nil {
				t.Fatal(err)
			}
			f.clock.move(day)
			refused()
		}
		f.clock.move(12 * time.Hour)
		if err := b.DeleteObject("k"); err != nil {
			t.Errorf("after its time: %v", err)
		}
	}
}

func TestRetentionAndVersions(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	b := f.bucket(t)
	id := put(t, b, "k", "one").Get("X-Oss-Version-Id")
	c, _ := retained(t, f, 1, true)
	wantCode(t, b.DeleteObject("k", oss.VersionId(id)), 409, "FileImmutable")
	_, err := b.DeleteObjectVersions([]oss.DeleteObject{{Key: "k", VersionId: id}})
	wantCode(t, err, 409, "FileImmutable")
	// What hides a version does not change it.
	h := put(t, b, "k", "two")
	if err := b.DeleteObject("k", oss.GetResponseHeader(&h)); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteObject("k", oss.VersionId(h.Get("X-Oss-Version-Id"))); err != nil {
		t.Errorf("a delete marker has nothing to retain: %v", err)
	}
	if got := get(t, b, "k", oss.VersionId(id)); got != "one" {
		t.Errorf("got %q", got)
	}
	wantCode(t, c.SetBucketVersioning("bucket", oss.VersioningConfig{Status: "Suspended"}), 409, "InvalidBucketState")

	if err := f.CreateBucket("suspended", osstest.BucketOptions{Versioning: "Suspended"}); err != nil {
		t.Fatal(err)
	}
	_, err = c.InitiateBucketWorm("suspended", 1)
	wantCode(t, err, 400, "InvalidWORMConfiguration")
}

func TestRetentionAsOlderPagesHaveIt(t *testing.T) {
	f := newFixture(t, osstest.Options{WormRefusesVersioning: true}, osstest.BucketOptions{})
	c, _ := retained(t, f, 1, true)
	wantCode(t, c.SetBucketVersioning("bucket", oss.VersioningConfig{Status: "Enabled"}), 409, "InvalidBucketState")
	if err := f.CreateBucket("versioned", osstest.BucketOptions{Versioning: "Enabled"}); err != nil {
		t.Fatal(err)
	}
	_, err := c.InitiateBucketWorm("versioned", 1)
	wantCode(t, err, 400, "InvalidWORMConfiguration")
}
