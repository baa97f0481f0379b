package osstest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive/oss/osstest"
)

func TestVersions(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b, c := f.bucket(t), f.client(t)
	if h := put(t, b, "k", "before"); h.Get("X-Oss-Version-Id") != "" {
		t.Errorf("a version id without versioning: %v", h)
	}
	if got, err := c.GetBucketVersioning("bucket"); err != nil || got.Status != "" {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := c.SetBucketVersioning("bucket", oss.VersioningConfig{Status: "Enabled"}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.GetBucketVersioning("bucket"); err != nil || got.Status != "Enabled" {
		t.Errorf("got %+v, %v", got, err)
	}
	one := put(t, b, "k", "one").Get("X-Oss-Version-Id")
	two := put(t, b, "k", "two").Get("X-Oss-Version-Id")
	if one == "" || one == two {
		t.Fatalf("version ids %q and %q", one, two)
	}
	for id, want := range map[string]string{"null": "before", one: "one", two: "two"} {
		if got := get(t, b, "k", oss.VersionId(id)); got != want {
			t.Errorf("version %s: %q, want %q", id, got, want)
		}
		h, err := b.GetObjectDetailedMeta("k", oss.VersionId(id))
		if err != nil || h.Get("X-Oss-Version-Id") != id {
			t.Errorf("version %s: %v, %v", id, h, err)
		}
	}
	_, err := b.GetObject("k", oss.VersionId("CAEQ-none"))
	wantCode(t, err, 404, "NoSuchVersion")

	var h = put(t, b, "other", "x")
	if err := b.DeleteObject("k", oss.GetResponseHeader(&h)); err != nil {
		t.Fatal(err)
	}
	marker := h.Get("X-Oss-Version-Id")
	if h.Get("X-Oss-Delete-Marker") != "true" || marker == "" {
		t.Errorf("delete: %v", h)
	}
	_, err = b.GetObject("k")
	wantCode(t, err, 404, "NoSuchKey")
	_, err = b.GetObjectDetailedMeta("k")
	wantCode(t, err, 404, "NoSuchKey")
	_, err = b.GetObject("k", oss.VersionId(marker))
	wantCode(t, err, 405, "MethodNotAllowed")
	if got := get(t, b, "k", oss.VersionId(two)); got != "two" {
		t.Errorf("got %q", got)
	}
	if page, err := b.ListObjectsV2(); err != nil || len(page.Objects) != 1 || page.Objects[0].Key != "other" {
		t.Errorf("listed %+v, %v", page.Objects, err)
	}

	// Without its marker, the object is back.
	if err := b.DeleteObject("k", oss.VersionId(marker), oss.GetResponseHeader(&h)); err != nil {
		t.Fatal(err)
	}
	if h.Get("X-Oss-Delete-Marker") != "true" || h.Get("X-Oss-Version-Id") != marker {
		t.Errorf("delete of the marker: %v", h)
	}
	if got := get(t, b, "k"); got != "two" {
		t.Errorf("got %q", got)
	}
	if err := b.DeleteObject("k", oss.VersionId(two)); err != nil {
		t.Fatal(err)
	}
	if got := get(t, b, "k"); got != "one" {
		t.Errorf("got %q", got)
	}
}

func TestSuspendedVersioningKeepsOneNullVersion(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	b := f.bucket(t)
	kept := put(t, b, "k", "kept").Get("X-Oss-Version-Id")
	if err := f.client(t).SetBucketVersioning("bucket", oss.VersioningConfig{Status: "Suspended"}); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"a", "b"} {
		if h := put(t, b, "k", body); h.Get("X-Oss-Version-Id") != "null" {
			t.Errorf("got %v", h)
		}
	}
	all, err := f.Objects("bucket")
	if err != nil || len(all) != 2 || all[0].VersionID != "null" || all[1].VersionID != kept {
		t.Errorf("got %+v, %v", all, err)
	}
	if err := b.DeleteObject("k"); err != nil {
		t.Fatal(err)
	}
	all, err = f.Objects("bucket")
	if err != nil || len(all) != 2 || !all[0].DeleteMarker || all[0].VersionID != "null" || all[1].VersionID != kept {
		t.Errorf("got %+v, %v", all, err)
	}
	if got := get(t, b, "k", oss.VersionId(kept)); got != "kept" {
		t.Errorf("got %q", got)
	}
}

func TestVersionsAreListedByKeyNewestFirst(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	b := f.bucket(t)
	var want []string
	for _, key := range []string{"a", "b ü", "c"} {
		var ids []string
		for i := range 4 {
			ids = append([]string{put(t, b, key, fmt.Sprint(i)).Get("X-Oss-Version-Id")}, ids...)
		}
		for _, id := range ids {
			want = append(want, key+" "+id)
		}
	}
	if err := b.DeleteObject("c"); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 3, 5, 1000} {
		var got []string
		markers, latest := 0, 0
		for key, id := "", ""; ; {
			page, err := b.ListObjectVersions(oss.MaxKeys(size), oss.KeyMarker(key), oss.VersionIdMarker(id))
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range page.ObjectVersions {
				got = append(got, v.Key+" "+v.VersionId)
				if v.IsLatest {
					latest++
				}
			}
			for _, m := range page.ObjectDeleteMarkers {
				if markers++; m.Key != "c" || !m.IsLatest {
					t.Errorf("marker %+v", m)
				}
			}
			if key, id = page.NextKeyMarker, page.NextVersionIdMarker; !page.IsTruncated {
				break
			}
		}
		if strings.Join(got, "|") != strings.Join(want, "|") || markers != 1 || latest != 2 {
			t.Errorf("by %d: %d markers, %d latest, %q, want %q", size, markers, latest, got, want)
		}
	}
	// A version that is deleted while it is the marker does not hide older ones.
	page, err := b.ListObjectVersions(oss.MaxKeys(2))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteObject("a", oss.VersionId(page.NextVersionIdMarker)); err != nil {
		t.Fatal(err)
	}
	next, err := b.ListObjectVersions(oss.MaxKeys(1), oss.KeyMarker(page.NextKeyMarker), oss.VersionIdMarker(page.NextVersionIdMarker))
	if err != nil || len(next.ObjectVersions) != 1 || "a "+next.ObjectVersions[0].VersionId != want[2] {
		t.Errorf("got %+v, %v, want %s", next.ObjectVersions, err, want[2])
	}
	_, err = b.ListObjectVersions(oss.VersionIdMarker("x"))
	wantCode(t, err, 400, "InvalidArgument")
	if page, err := b.ListObjectVersions(oss.Prefix("b"), oss.KeyMarker("a"), oss.VersionIdMarker("null")); err != nil || len(page.ObjectVersions) != 4 {
		t.Errorf("got %d versions, %v", len(page.ObjectVersions), err)
	}
}

func TestDeletingManyVersions(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	b := f.bucket(t)
	id := put(t, b, "a", "x").Get("X-Oss-Version-Id")
	put(t, b, "b", "x")
	result, err := b.DeleteObjectVersions([]oss.DeleteObject{{Key: "a", VersionId: id}, {Key: "b"}})
	if err != nil || len(result.DeletedObjectsDetail) != 2 {
		t.Fatalf("got %+v, %v", result, err)
	}
	for _, d := range result.DeletedObjectsDetail {
		switch {
		case d.Key == "a" && (d.DeleteMarker || d.VersionId != id), d.Key == "b" && (!d.DeleteMarker || d.DeleteMarkerVersionId == ""):
			t.Errorf("got %+v", d)
		}
	}
	all, err := f.Objects("bucket")
	if err != nil || len(all) != 2 || all[0].Key != "b" || !all[0].DeleteMarker || all[1].DeleteMarker {
		t.Errorf("left: %+v, %v", all, err)
	}
	wantCode(t, f.client(t).DeleteBucket("bucket"), 409, "BucketNotEmpty")
}

func TestVersionsAreCopied(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	b := f.bucket(t)
	id := put(t, b, "k", "old").Get("X-Oss-Version-Id")
	put(t, b, "k", "new")
	h := put(t, b, "other", "x")
	if _, err := b.CopyObject("k", "to", oss.VersionId(id), oss.GetResponseHeader(&h)); err != nil {
		t.Fatal(err)
	}
	if got := get(t, b, "to"); got != "old" || h.Get("X-Oss-Copy-Source-Version-Id") != id || h.Get("X-Oss-Version-Id") == "" {
		t.Errorf("got %q, %v", got, h)
	}
	if err := b.DeleteObject("k"); err != nil {
		t.Fatal(err)
	}
	_, err := b.CopyObject("k", "to")
	wantCode(t, err, 404, "NoSuchKey")
}
