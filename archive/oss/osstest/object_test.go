package osstest_test

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive/oss/osstest"
)

func TestContentMD5IsChecked(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	sum := md5.Sum([]byte("body"))
	right := base64.StdEncoding.EncodeToString(sum[:])
	put(t, b, "right", "body", oss.ContentMD5(right))
	for name, digest := range map[string]string{
		"wrong": base64.StdEncoding.EncodeToString(make([]byte, 16)), "short": "AAAA", "malformed": "not base64",
	} {
		wantCode(t, b.PutObject(name, strings.NewReader("body"), oss.ContentMD5(digest)), 400, "InvalidDigest")
		_, err := b.GetObject(name)
		wantCode(t, err, 404, "NoSuchKey")
	}
	put(t, f.bucket(t, oss.EnableMD5(true)), "by the SDK", "body")
}

func TestKeysAndArgumentsThatOSSRefuses(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	body := func() io.Reader { return strings.NewReader("x") }
	for _, key := range []string{"/a", `\a`, strings.Repeat("k", 1024), "\xff"} {
		wantCode(t, b.PutObject(key, body()), 400, "InvalidObjectName")
	}
	for name, option := range map[string]oss.Option{
		"class":     oss.ObjectStorageClass("BOGUS"),
		"overwrite": oss.SetHeader("X-Oss-Forbid-Overwrite", "yes"),
		"metadata":  oss.Meta("m", strings.Repeat("v", 8<<10)),
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, b.PutObject("k", body(), option), 400, "InvalidArgument") })
	}
	wantCode(t, b.PutObject("k", body(), oss.ServerSideEncryption("ROT13")), 400, "InvalidEncryptionAlgorithmError")
	_, err := b.ListObjects(oss.MaxKeys(1001))
	wantCode(t, err, 400, "InvalidArgument")
	_, err = b.ListObjects(oss.MaxKeys(0))
	wantCode(t, err, 400, "InvalidArgument")
	_, err = b.ListObjectsV2(oss.ContinuationToken("!"))
	wantCode(t, err, 400, "InvalidArgument")

	elsewhere, err := f.client(t).Bucket("no-such-bucket")
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, elsewhere.PutObject("k", body()), 404, "NoSuchBucket")
	_, err = elsewhere.GetObjectDetailedMeta("k")
	wantCode(t, err, 404, "NoSuchBucket")
}

func TestWhatTheServerDoesNotKnowIsRefused(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	put(t, b, "k", "x")
	_, err := b.AppendObject("append", strings.NewReader("x"), 0)
	wantCode(t, err, 501, "NotImplemented")
	wantCode(t, b.PutSymlink("link", "k"), 501, "NotImplemented")
	wantCode(t, b.PutObjectTagging("k", oss.Tagging{}), 501, "NotImplemented")
	wantCode(t, b.PutObject("k", strings.NewReader("x"), oss.ObjectACL(oss.ACLPublicRead)), 501, "NotImplemented")
	wantCode(t, b.PutObject("k", strings.NewReader("x"), oss.SetHeader("X-Oss-Object-Worm-Mode", "COMPLIANCE")), 501, "NotImplemented")
	_, err = f.client(t).GetBucketLifecycle("bucket")
	wantCode(t, err, 501, "NotImplemented")
	// Retention of single objects, which the SDK does not have.
	for key, name := range map[string]string{"k": "retention", "": "objectWorm"} {
		_, err = f.client(t).Conn.Do("GET", "bucket", key, map[string]any{name: nil}, nil, nil, 0, nil)
		wantCode(t, err, 501, "NotImplemented")
	}
	if got := get(t, b, "k"); got != "x" {
		t.Errorf("got %q", got)
	}
}

func TestRanges(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	put(t, b, "k", "0123456789")
	put(t, b, "empty", "")
	for _, test := range []struct {
		key, header, lenient, standard string // "416" is a refusal
	}{
		{"k", "bytes=2-4", "234", "234"},
		{"k", "bytes=0-9", "0123456789", "0123456789"},
		{"k", "bytes=7-", "789", "789"},
		{"k", "bytes=-3", "789", "789"},
		{"k", "bytes=1-2,5-6", "12", "12"},
		{"k", "byte=2-4", "whole", "whole"},
		{"k", "bytes=4-2", "whole", "whole"},
		{"k", "bytes=x-y", "whole", "whole"},
		{"k", "bytes=-0", "whole", "whole"},
		{"k", "bytes=5-10", "whole", "56789"},
		{"k", "bytes=-11", "whole", "0123456789"},
		{"k", "bytes=10-", "whole", "416"},
		{"k", "bytes=10-20", "whole", "416"},
		{"empty", "bytes=0-", "whole", "416"},
	} {
		for behavior, want := range map[string]string{"": test.lenient, "standard": test.standard} {
			options := []oss.Option{oss.SetHeader("Range", test.header)}
			if behavior != "" {
				options = append(options, oss.RangeBehavior(behavior))
			}
			result, err := b.DoGetObject(&oss.GetObjectRequest{ObjectKey: test.key}, options)
			if want == "416" {
				wantCode(t, err, 416, "InvalidRange")
				continue
			}
			if err != nil {
				t.Errorf("%s %q: %v", test.header, behavior, err)
				continue
			}
			body, _ := io.ReadAll(result.Response)
			result.Response.Close()
			status := 206
			if want == "whole" {
				status, want = 200, map[string]string{"k": "0123456789", "empty": ""}[test.key]
			}
			if string(body) != want || result.Response.StatusCode != status {
				t.Errorf("%s %q: got %d %q, want %d %q", test.header, behavior, result.Response.StatusCode, body, status, want)
			}
			if got := result.Response.Headers.Get("X-Oss-Hash-Crc64ecma"); test.key == "k" && got != crcOf("0123456789") {
				t.Errorf("%s: the checksum %s is not that of the whole object", test.header, got)
			}
		}
	}
}

func TestConditions(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	etag := put(t, b, "k", "x").Get("Etag")
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for _, test := range []struct {
		name   string
		option oss.Option
		status int
	}{
		{"If-Match", oss.IfMatch(etag), 200},
		{"If-Match, other", oss.IfMatch(`"other"`), 412},
		{"If-None-Match", oss.IfNoneMatch(etag), 304},
		{"If-None-Match, other", oss.IfNoneMatch(`"other"`), 200},
		{"If-Modified-Since, past", oss.IfModifiedSince(past), 200},
		{"If-Modified-Since, future", oss.IfModifiedSince(future), 304},
		{"If-Unmodified-Since, past", oss.IfUnmodifiedSince(past), 412},
		{"If-Unmodified-Since, future", oss.IfUnmodifiedSince(future), 200},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			reply, err := b.Do(method, "k", nil, []oss.Option{test.option}, nil, nil)
			if reply == nil {
				t.Fatal(err)
			}
			reply.Body.Close()
			if reply.StatusCode != test.status {
				t.Errorf("%s %s: %d, want %d", method, test.name, reply.StatusCode, test.status)
			}
		}
	}
}

func TestForbiddenOverwrites(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	never := oss.ForbidOverWrite(true)
	put(t, b, "k", "first", never)
	wantCode(t, b.PutObject("k", strings.NewReader("second"), never), 409, "FileAlreadyExists")
	put(t, b, "other", "other")
	_, err := b.CopyObject("other", "k", never)
	wantCode(t, err, 409, "FileAlreadyExists")
	_, err = b.InitiateMultipartUpload("k", never)
	wantCode(t, err, 409, "FileAlreadyExists")
	upload, err := b.InitiateMultipartUpload("k")
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.UploadPart(upload, strings.NewReader("third"), 5, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.CompleteMultipartUpload(upload, []oss.UploadPart{p}, never)
	wantCode(t, err, 409, "FileAlreadyExists")
	if got := get(t, b, "k"); got != "first" {
		t.Errorf("got %q", got)
	}
	if _, err = b.CompleteMultipartUpload(upload, []oss.UploadPart{p}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, b, "k"); got != "third" {
		t.Errorf("got %q", got)
	}
	put(t, b, "k", "fourth")
	put(t, b, "k", "fifth", oss.ForbidOverWrite(false))
}

func TestForbiddingOverwritesMeansNothingWithVersions(t *testing.T) {
	for _, versioning := range []string{"Enabled", "Suspended"} {
		f := newFixture(t, osstest.Options{}, osstest.BucketOptions{Versioning: versioning})
		b := f.bucket(t)
		put(t, b, "k", "first", oss.ForbidOverWrite(true))
		put(t, b, "k", "second", oss.ForbidOverWrite(true))
		if got := get(t, b, "k"); got != "second" {
			t.Errorf("%s: got %q", versioning, got)
		}
	}
}

func TestOneOfManyCompletionsWins(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	const writers = 16
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			if i%2 == 0 { // half of them put, half of them complete
				errs[i] = b.PutObject("one", strings.NewReader("put"), oss.ForbidOverWrite(true))
				return
			}
			upload, err := b.InitiateMultipartUpload("one")
			if err != nil {
				errs[i] = err
				return
			}
			p, err := b.UploadPart(upload, strings.NewReader("part"), 4, 1)
			if err != nil {
				errs[i] = err
				return
			}
			_, errs[i] = b.CompleteMultipartUpload(upload, []oss.UploadPart{p}, oss.ForbidOverWrite(true))
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		wantCode(t, err, 409, "FileAlreadyExists")
	}
	if won != 1 {
		t.Errorf("%d won", won)
	}
}

func TestAnUploadIsCompletedOnce(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{Versioning: "Enabled"})
	b := f.bucket(t)
	upload, err := b.InitiateMultipartUpload("k")
	if err != nil {
		t.Fatal(err)
	}
	list := parts(t, b, upload, bytes.Repeat([]byte("x"), 4<<20))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := b.CompleteMultipartUpload(upload, slices.Clone(list)); err != nil {
				wantCode(t, err, 404, "NoSuchUpload")
			}
		})
	}
	wg.Wait()
	if all, err := f.Objects("bucket"); err != nil || len(all) != 1 {
		t.Errorf("%d versions, %v", len(all), err)
	}
}

func TestCopies(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	if err := f.CreateBucket("other", osstest.BucketOptions{}); err != nil {
		t.Fatal(err)
	}
	b := f.bucket(t)
	put(t, b, "fr om/日本", "body", oss.Meta("a", "1"), oss.ContentType("x/y"))
	if _, err := b.CopyObjectTo("other", "to", "fr om/日本", oss.ObjectStorageClass(oss.StorageIA)); err != nil {
		t.Fatal(err)
	}
	other, err := f.client(t).Bucket("other")
	if err != nil {
		t.Fatal(err)
	}
	h, err := other.GetObjectDetailedMeta("to")
	if err != nil {
		t.Fatal(err)
	}
	if h.Get("X-Oss-Meta-A") != "1" || h.Get("Content-Type") != "x/y" || h.Get("X-Oss-Storage-Class") != "IA" {
		t.Errorf("got %v", h)
	}
	if got := get(t, other, "to"); got != "body" {
		t.Errorf("got %q", got)
	}
	if err := b.SetObjectMeta("fr om/日本", oss.Meta("b", "2")); err != nil {
		t.Fatal(err)
	}
	if h, err = b.GetObjectDetailedMeta("fr om/日本"); err != nil || h.Get("X-Oss-Meta-B") != "2" || h.Get("X-Oss-Meta-A") != "" {
		t.Errorf("got %v, %v", h, err)
	}
	_, err = b.CopyObject("missing", "to")
	wantCode(t, err, 404, "NoSuchKey")
	_, err = b.CopyObject("fr om/日本", "to", oss.CopySourceIfMatch("other"))
	wantCode(t, err, 412, "PreconditionFailed")
	_, err = b.CopyObjectFrom("no-such-bucket", "k", "to")
	wantCode(t, err, 404, "NoSuchBucket")
}

func TestDeletingMany(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	for _, k := range []string{"a", "b&<c>", "d e"} {
		put(t, b, k, k)
	}
	result, err := b.DeleteObjects([]string{"a", "b&<c>", "missing"})
	if err != nil || strings.Join(result.DeletedObjects, "|") != "a|b&<c>|missing" {
		t.Errorf("got %v, %v", result.DeletedObjects, err)
	}
	all, err := f.Objects("bucket")
	if err != nil || len(all) != 1 || all[0].Key != "d e" {
		t.Errorf("left: %v, %v", all, err)
	}
	if _, err := b.DeleteObjects([]string{"d e"}, oss.DeleteObjectsQuiet(true)); err != nil {
		t.Fatal(err)
	}
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	_, err = b.DeleteObjects(many)
	wantCode(t, err, 400, "MalformedXML")
	_, err = b.DeleteMultipleObjectsXml("<Delete><Object></Delete>")
	wantCode(t, err, 400, "MalformedXML")
	_, err = b.DeleteMultipleObjectsXml("<Other><Object><Key>a</Key></Object></Other>")
	wantCode(t, err, 400, "MalformedXML")
	_, err = b.DeleteMultipleObjectsXml("<Delete><Object><Key>a</Key></Object></Delete><Delete/>")
	wantCode(t, err, 400, "MalformedXML")
}

func TestDelimitersGroup(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	for _, k := range []string{"a", "p/1", "p/2", "p/q/3", "p/q/4", "p/r/5", "z/6"} {
		put(t, b, k, k)
	}
	for _, test := range []struct{ prefix, want string }{
		{"", "a p/ z/"}, {"p/", "p/1 p/2 p/q/ p/r/"}, {"p", "p/"}, {"p/q/", "p/q/3 p/q/4"}, {"none", ""},
	} {
		for _, size := range []int{1, 2, 1000} {
			var v1, v2, versions []string
			for marker := ""; ; {
				page, err := b.ListObjects(oss.Prefix(test.prefix), oss.Delimiter("/"), oss.MaxKeys(size), oss.Marker(marker))
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range page.Objects {
					v1 = append(v1, o.Key)
				}
				v1 = append(v1, page.CommonPrefixes...)
				if marker = page.NextMarker; !page.IsTruncated {
					break
				}
			}
			for token := ""; ; {
				page, err := b.ListObjectsV2(oss.Prefix(test.prefix), oss.Delimiter("/"), oss.MaxKeys(size), oss.ContinuationToken(token))
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range page.Objects {
					v2 = append(v2, o.Key)
				}
				v2 = append(v2, page.CommonPrefixes...)
				if token = page.NextContinuationToken; !page.IsTruncated {
					break
				}
			}
			for key, id := "", ""; ; {
				page, err := b.ListObjectVersions(oss.Prefix(test.prefix), oss.Delimiter("/"), oss.MaxKeys(size), oss.KeyMarker(key), oss.VersionIdMarker(id))
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range page.ObjectVersions {
					versions = append(versions, o.Key)
				}
				versions = append(versions, page.CommonPrefixes...)
				if key, id = page.NextKeyMarker, page.NextVersionIdMarker; !page.IsTruncated {
					break
				}
			}
			for name, got := range map[string][]string{"V1": v1, "V2": v2, "versions": versions} {
				if strings.Join(got, " ") != test.want {
					t.Errorf("%s of %q by %d: %v, want %s", name, test.prefix, size, got, test.want)
				}
			}
		}
	}
}

func TestListsStartWhereAsked(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	for _, k := range []string{"a", "b", "c"} {
		put(t, b, k, k, oss.ObjectStorageClass(oss.StorageIA))
	}
	for after, want := range map[string]int{"": 3, "a": 2, "aa": 2, "c": 0} {
		page, err := b.ListObjectsV2(oss.StartAfter(after), oss.FetchOwner(true))
		if err != nil || len(page.Objects) != want {
			t.Errorf("after %q: %d objects, %v, want %d", after, len(page.Objects), err, want)
		}
	}
	page, err := b.ListObjectsV2(oss.Prefix("b"), oss.FetchOwner(true))
	if err != nil || len(page.Objects) != 1 {
		t.Fatal(page, err)
	}
	o := page.Objects[0]
	sum := md5.Sum([]byte("b"))
	if o.Size != 1 || o.StorageClass != "IA" || o.Type != "Normal" || o.Owner.ID == "" || o.ETag != fmt.Sprintf(`"%X"`, sum) || time.Since(o.LastModified).Abs() > time.Minute {
		t.Errorf("got %+v", o)
	}
}

// parts uploads bodies as parts 1, 2 and so on.
func parts(t *testing.T, b *oss.Bucket, upload oss.InitiateMultipartUploadResult, bodies ...[]byte) []oss.UploadPart {
	t.Helper()
	var list []oss.UploadPart
	for i, body := range bodies {
		p, err := b.UploadPart(upload, bytes.NewReader(body), int64(len(body)), i+1)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func TestMultipartUploads(t *testing.T) {
	f := newFixture(t, osstest.Options{Dir: t.TempDir()}, osstest.BucketOptions{})
	b := f.bucket(t)
	upload, err := b.InitiateMultipartUpload("m ü", oss.Meta("a", "1"), oss.ObjectStorageClass(oss.StorageIA), oss.ServerSideEncryption("AES256"))
	if err != nil {
		t.Fatal(err)
	}
	one, two, three := bytes.Repeat([]byte("1"), 100<<10), bytes.Repeat([]byte("2"), 200<<10), []byte("3")
	list := parts(t, b, upload, one, two, three)

	uploaded, err := b.ListUploadedParts(upload, oss.MaxParts(2))
	if err != nil || len(uploaded.UploadedParts) != 2 || !uploaded.IsTruncated || uploaded.NextPartNumberMarker != "2" || uploaded.UploadedParts[1].Size != 200<<10 {
		t.Errorf("parts: %+v, %v", uploaded, err)
	}
	uploaded, err = b.ListUploadedParts(upload, oss.PartNumberMarker(2))
	if err != nil || len(uploaded.UploadedParts) != 1 || uploaded.IsTruncated || uploaded.UploadedParts[0].PartNumber != 3 {
		t.Errorf("parts: %+v, %v", uploaded, err)
	}
	pending, err := b.ListMultipartUploads(oss.Prefix("m"))
	if err != nil || len(pending.Uploads) != 1 || pending.Uploads[0].Key != "m ü" || pending.Uploads[0].UploadID != upload.UploadID {
		t.Errorf("uploads: %+v, %v", pending, err)
	}

	var h http.Header
	if _, err := b.CompleteMultipartUpload(upload, list, oss.GetResponseHeader(&h)); err != nil {
		t.Fatal(err)
	}
	want := string(one) + string(two) + string(three)
	if got := get(t, b, "m ü"); got != want {
		t.Errorf("%d bytes came back, want %d", len(got), len(want))
	}
	if h.Get("X-Oss-Hash-Crc64ecma") != crcOf(want) {
		t.Errorf("the checksum is not that of the whole object: %v", h)
	}
	head, err := b.GetObjectDetailedMeta("m ü")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"X-Oss-Meta-A": "1", "X-Oss-Storage-Class": "IA", "X-Oss-Object-Type": "Multipart", "X-Oss-Server-Side-Encryption": "AES256",
		"Content-Md5": "", "X-Oss-Hash-Crc64ecma": crcOf(want),
	} {
		if got := head.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if !strings.HasSuffix(head.Get("Etag"), `-3"`) {
		t.Errorf("ETag %s", head.Get("Etag"))
	}
	_, err = b.CompleteMultipartUpload(upload, list)
	wantCode(t, err, 404, "NoSuchUpload")
}

func TestPartsMustFit(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	upload, err := b.InitiateMultipartUpload("k")
	if err != nil {
		t.Fatal(err)
	}
	list := parts(t, b, upload, bytes.Repeat([]byte("1"), 100<<10-1), []byte("2"))
	_, err = b.CompleteMultipartUpload(upload, list)
	wantCode(t, err, 400, "EntityTooSmall")
	_, err = b.CompleteMultipartUpload(upload, []oss.UploadPart{{PartNumber: 1, ETag: list[1].ETag}})
	wantCode(t, err, 400, "InvalidPart")
	_, err = b.CompleteMultipartUpload(upload, []oss.UploadPart{{PartNumber: 7, ETag: list[1].ETag}})
	wantCode(t, err, 400, "InvalidPart")
	_, err = b.CompleteMultipartUpload(upload, []oss.UploadPart{list[1], list[1]})
	wantCode(t, err, 400, "InvalidPartOrder")
	_, err = b.CompleteMultipartUpload(upload, nil)
	wantCode(t, err, 400, "MalformedXML")
	_, err = b.UploadPart(upload, strings.NewReader("x"), 1, 10001)
	if err == nil {
		t.Error("part 10001 was taken")
	}
	other := upload
	other.Key = "other"
	_, err = b.UploadPart(other, strings.NewReader("x"), 1, 1)
	wantCode(t, err, 404, "NoSuchUpload")

	// A part that is sent again takes the place of the first.
	list[0], err = b.UploadPart(upload, bytes.NewReader(bytes.Repeat([]byte("3"), 100<<10)), 100<<10, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = b.CompleteMultipartUpload(upload, list); err != nil {
		t.Fatal(err)
	}
	if got := get(t, b, "k"); got != strings.Repeat("3", 100<<10)+"2" {
		t.Errorf("%d bytes came back", len(got))
	}
}

func TestUploadsAreAborted(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	upload, err := b.InitiateMultipartUpload("k")
	if err != nil {
		t.Fatal(err)
	}
	parts(t, b, upload, []byte("1"))
	wantCode(t, f.client(t).DeleteBucket("bucket"), 409, "BucketNotEmpty")
	if err := b.AbortMultipartUpload(upload); err != nil {
		t.Fatal(err)
	}
	wantCode(t, b.AbortMultipartUpload(upload), 404, "NoSuchUpload")
	_, err = b.UploadPart(upload, strings.NewReader("x"), 1, 1)
	wantCode(t, err, 404, "NoSuchUpload")
	if err := f.client(t).DeleteBucket("bucket"); err != nil {
		t.Fatal(err)
	}
}

func TestUploadsPage(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	want := map[string]bool{}
	for _, key := range []string{"a", "a", "a", "b", "c/1"} {
		upload, err := b.InitiateMultipartUpload(key)
		if err != nil {
			t.Fatal(err)
		}
		want[upload.UploadID] = true
	}
	key, id := "", ""
	for range 10 {
		page, err := b.ListMultipartUploads(oss.MaxUploads(2), oss.KeyMarker(key), oss.UploadIDMarker(id))
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range page.Uploads {
			if !want[u.UploadID] {
				t.Errorf("%s is there twice", u.UploadID)
			}
			delete(want, u.UploadID)
		}
		if key, id = page.NextKeyMarker, page.NextUploadIDMarker; !page.IsTruncated {
			break
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	page, err := b.ListMultipartUploads(oss.Delimiter("/"), oss.KeyMarker("b"))
	if err != nil || len(page.Uploads) > 0 || len(page.CommonPrefixes) != 1 || page.CommonPrefixes[0] != "c/" {
		t.Errorf("got %+v, %v", page, err)
	}
}

func TestFilesGoUpAndDownInParts(t *testing.T) {
	for name, auth := range auths {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, osstest.Options{Dir: t.TempDir()}, osstest.BucketOptions{})
			b := f.bucket(t, auth...)
			dir := t.TempDir()
			want := bytes.Repeat([]byte("0123456789abcde"), 70000)
			if err := os.WriteFile(dir+"/up", want, 0o600); err != nil {
				t.Fatal(err)
			}
			// The first try ends half-way; the second goes on from its checkpoint.
			var mu sync.Mutex
			sent := map[string]int{}
			f.SetBefore(func(r *http.Request) (int, string) {
				mu.Lock()
				defer mu.Unlock()
				n := r.URL.Query().Get("partNumber")
				if sent[n]++; n == "5" && sent[n] == 1 {
					return 503, "ServiceUnavailable"
				}
				return 0, ""
			})
			options := []oss.Option{oss.Routines(1), oss.Checkpoint(true, dir+"/cp")}
			wantCode(t, b.UploadFile("k", dir+"/up", 100<<10, options...), 503, "ServiceUnavailable")
			if err := b.UploadFile("k", dir+"/up", 100<<10, options...); err != nil {
				t.Fatal(err)
			}
			// The SDK may forget what went right while it looked at what went wrong.
			if sent["1"]+sent["2"]+sent["3"]+sent["4"] == 8 {
				t.Error("the upload started from its beginning")
			}
			f.SetBefore(nil)
			if err := b.DownloadFile("k", dir+"/down", 100<<10, oss.Routines(3), oss.Checkpoint(true, dir+"/cp2")); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(dir + "/down")
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes came back, %v", len(got), err)
			}
			if err := b.CopyFile("bucket", "k", "copy", 300<<10, oss.Routines(2)); err != nil {
				t.Fatal(err)
			}
			if get(t, b, "copy") != string(want) {
				t.Error("the copy differs")
			}
		})
	}
}

func TestABodyThatIsCutLeavesNothing(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	url, err := b.SignURL("k", oss.HTTPPut, 60)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(url, f.url)
	fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000\r\n\r\nhalf", path, strings.TrimPrefix(f.url, "http://"))
	conn.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, conn)
	conn.Close()
	if all, err := f.Objects("bucket"); err != nil || len(all) > 0 {
		t.Errorf("left: %v, %v", all, err)
	}
}

// put by hand, for requests that the SDK cannot make.
func raw(t *testing.T, f *fixture, head string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s\r\nHost: %s\r\nConnection: close\r\n\r\n", head, strings.TrimPrefix(f.url, "http://"))
	reply, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(reply)
}

func TestAPutNeedsALengthThatIsAllowed(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	url, err := f.bucket(t).SignURL("k", oss.HTTPPut, 60)
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(url, f.url)
	if got := raw(t, f, "PUT "+path+" HTTP/1.1"); !strings.Contains(got, "411 ") || !strings.Contains(got, "MissingContentLength") {
		t.Errorf("got %s", got)
	}
	if got := raw(t, f, "PUT "+path+" HTTP/1.1\r\nContent-Length: 5368709121"); !strings.Contains(got, "400 ") || !strings.Contains(got, "EntityTooLarge") {
		t.Errorf("got %s", got)
	}
}

func TestEncryptionIsEchoed(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	b := f.bucket(t)
	h := put(t, b, "aes", "x", oss.ServerSideEncryption("AES256"))
	if h.Get("X-Oss-Server-Side-Encryption") != "AES256" {
		t.Errorf("got %v", h)
	}
	put(t, b, "kms", "x", oss.ServerSideEncryption("KMS"), oss.ServerSideEncryptionKeyID("key-1"))
	h, err := b.GetObjectDetailedMeta("kms")
	if err != nil || h.Get("X-Oss-Server-Side-Encryption") != "KMS" || h.Get("X-Oss-Server-Side-Encryption-Key-Id") != "key-1" {
		t.Errorf("got %v, %v", h, err)
	}
	put(t, b, "none", "x")
	if h, err = b.GetObjectDetailedMeta("none"); err != nil || h.Get("X-Oss-Server-Side-Encryption") != "" {
		t.Errorf("got %v, %v", h, err)
	}
	_, err = f.client(t).GetBucketEncryption("bucket")
	wantCode(t, err, 404, "NoSuchServerSideEncryptionRule")

	if err := f.CreateBucket("encrypted", osstest.BucketOptions{Encryption: "KMS", EncryptionKeyID: "key-2"}); err != nil {
		t.Fatal(err)
	}
	rule, err := f.client(t).GetBucketEncryption("encrypted")
	if err != nil || rule.SSEDefault.SSEAlgorithm != "KMS" || rule.SSEDefault.KMSMasterKeyID != "key-2" {
		t.Errorf("got %+v, %v", rule, err)
	}
	e, err := f.client(t).Bucket("encrypted")
	if err != nil {
		t.Fatal(err)
	}
	if h := put(t, e, "k", "x"); h.Get("X-Oss-Server-Side-Encryption") != "KMS" || h.Get("X-Oss-Server-Side-Encryption-Key-Id") != "key-2" {
		t.Errorf("got %v", h)
	}
}
