package oss_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive/oss"
)

func TestURLsAreReadAndWritten(t *testing.T) {
	tests := []struct {
		url  string
		want oss.Config
	}{
		{"oss://backups?region=cn-hangzhou", oss.Config{Bucket: "backups", Region: "cn-hangzhou"}},
		{"oss://backups/a/b%23c?region=cn-hangzhou", oss.Config{Bucket: "backups", Prefix: "a/b#c", Region: "cn-hangzhou"}},
		{"oss://backups/a?internal=true&region=cn-hangzhou", oss.Config{Bucket: "backups", Prefix: "a", Region: "cn-hangzhou", Internal: true}},
		{"oss://backups?accelerate=true&region=cn-hangzhou", oss.Config{Bucket: "backups", Region: "cn-hangzhou", Accelerate: true}},
		{"oss://backups?endpoint=oss-cn-shanghai-internal.aliyuncs.com", oss.Config{Bucket: "backups", Endpoint: "oss-cn-shanghai-internal.aliyuncs.com"}},
		{"oss://backups?endpoint=http%3A%2F%2F127.0.0.1%3A9000&path-style=true&region=cn-hangzhou",
			oss.Config{Bucket: "backups", Endpoint: "http://127.0.0.1:9000", PathStyle: true, Region: "cn-hangzhou"}},
		{"oss://backups?class=ColdArchive&credentials=profile%3Aofficer&kms-key=k1&read-back=all&region=eu-central-1&sse=KMS",
			oss.Config{Bucket: "backups", Region: "eu-central-1", Class: "ColdArchive", SSE: "KMS", KMSKey: "k1", ReadBack: oss.ReadBackAll, Credentials: "profile:officer"}},
	}
	for _, test := range tests {
		got, err := oss.ParseURL(test.url)
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		got.OnRetry, test.want.OnRetry = nil, nil
		if got.String() != test.want.String() {
			t.Errorf("%s:\n got %+v\nwant %+v", test.url, got, test.want)
		}
		if got.String() != test.url {
			t.Errorf("written as %s, want %s", got.String(), test.url)
		}
	}
}

func TestURLsThatMeanNothingAreRefused(t *testing.T) {
	tests := []struct{ url, want string }{
		{"s3://backups?region=cn-hangzhou", "not an oss:// URL"},
		{"oss:backups", "not an oss:// URL"},
		{"oss://Backups?region=cn-hangzhou", "bucket name"},
		{"oss://?region=cn-hangzhou", "bucket name"},
		{"oss://backups", "add region=REGION"},
		{"oss://backups?region=oss-cn-hangzhou", "without oss-"},
		{"oss://backups?region=cn-hangzhou-internal", "add internal=true"},
		{"oss://backups?region=Hangzhou", "is no region"},
		{"oss://backups?region=cn-hangzhou&region=cn-shanghai", "given 2 times"},
		{"oss://backups?region=cn-hangzhou&regoin=x", "unknown URL parameter"},
		{"oss://backups?region=cn-hangzhou&internal=1", "write true or false"},
		{"oss://backups?region=cn-hangzhou&internal=true&accelerate=true", "exclude each other"},
		{"oss://backups?endpoint=oss-cn-hangzhou.aliyuncs.com&internal=true", "excludes internal"},
		{"oss://backups?endpoint=backups.oss-cn-hangzhou.aliyuncs.com", "begins with the bucket's name"},
		{"oss://backups?endpoint=oss-accelerate.aliyuncs.com", "does not say the region"},
		{"oss://backups?endpoint=https://127.0.0.1:1", "does not say the region"},
		{"oss://backups?endpoint=ftp://127.0.0.1:1&region=cn-hangzhou", "not a host"},
		{"oss://backups?endpoint=https://h/path&region=cn-hangzhou", "more to it"},
		{"oss://backups?region=cn-hangzhou&path-style=true", "another vendor"},
		{"oss://backups?region=cn-hangzhou&class=GLACIER", "storage class"},
		{"oss://backups?region=cn-hangzhou&sse=aws:kms", "encryption"},
		{"oss://backups?region=cn-hangzhou&kms-key=k", "sse=KMS only"},
		{"oss://backups?region=cn-hangzhou&read-back=some", "read-back"},
		{"oss://backups?region=cn-hangzhou&credentials=root", "credentials"},
		{"oss://backups?region=cn-hangzhou&credentials=profile:", "credentials"},
		{"oss://backups/a//b?region=cn-hangzhou", "empty part"},
		{"oss://backups/" + strings.Repeat("long/", 103) + "?region=cn-hangzhou", "prefix of"},
		{"oss://backups:9000/a?region=cn-hangzhou", "port"},
		{"oss://backups/a?region=cn-hangzhou#x", "%23"},
		{"oss://backups/a?region=%zz", "cannot be read"},
	}
	for _, test := range tests {
		if _, err := oss.ParseURL(test.url); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.80s: got %v, want an error with %q", test.url, err, test.want)
		}
	}
}

func TestURLsWithKeysAreRefusedAndNotRepeated(t *testing.T) {
	for _, url := range []string{"oss://LTAI5t:hunter2@backups?region=cn-hangzhou", "oss://LTAI5t:hunter2@back ups/%zz", "oss://LTAI5t:hunter2@[::1"} {
		if _, err := oss.ParseURL(url); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want an error without the password", err)
		}
	}
}

func TestObjectWormInAURLIsNotSupported(t *testing.T) {
	_, err := oss.ParseURL("oss://backups?region=cn-hangzhou&object-worm=true")
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "bucket WORM") {
		t.Errorf("got %v, want ErrUnsupported and a word on bucket WORM", err)
	}
}
