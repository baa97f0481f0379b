package s3_test

import (
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive/s3"
)

func TestURLs(t *testing.T) {
	tests := []struct {
		url, canonical string
		want           s3.Config
	}{
		{"s3://bucket", "s3://bucket", s3.Config{Bucket: "bucket"}},
		{"s3://bucket/", "s3://bucket", s3.Config{Bucket: "bucket"}},
		{"s3://my.bucket/a/b/", "s3://my.bucket/a/b", s3.Config{Bucket: "my.bucket", Prefix: "a/b"}},
		{"s3://bucket/with%20space/%E8%A8%82%3F%23", "s3://bucket/with%20space/%E8%A8%82%3F%23", s3.Config{Bucket: "bucket", Prefix: "with space/訂?#"}},
		{
			"s3://bucket/p?region=eu-west-1&class=DEEP_ARCHIVE&profile=audit&request-payer=requester",
			"s3://bucket/p?class=DEEP_ARCHIVE&profile=audit&region=eu-west-1&request-payer=requester",
			s3.Config{Bucket: "bucket", Prefix: "p", Region: "eu-west-1", Class: "DEEP_ARCHIVE", Profile: "audit", RequestPayer: true},
		},
		{
			"s3://bucket?path-style=true&endpoint=HTTP://MinIO.example.com:80/",
			"s3://bucket?endpoint=http%3A%2F%2Fminio.example.com&path-style=true",
			s3.Config{Bucket: "bucket", Endpoint: "http://minio.example.com", PathStyle: true},
		},
		{
			"s3://bucket?endpoint=minio.example.com:9000&path-style=false",
			"s3://bucket?endpoint=https%3A%2F%2Fminio.example.com%3A9000",
			s3.Config{Bucket: "bucket", Endpoint: "https://minio.example.com:9000"},
		},
		{"s3://bucket?endpoint=https://[::1]:443", "s3://bucket?endpoint=https%3A%2F%2F%5B%3A%3A1%5D", s3.Config{Bucket: "bucket", Endpoint: "https://[::1]"}},
		{"s3://bucket?sse=AES256", "s3://bucket?sse=AES256", s3.Config{Bucket: "bucket", SSE: "AES256"}},
		{
			"s3://bucket?kms-key=alias/archive", "s3://bucket?kms-key=alias%2Farchive&sse=aws%3Akms",
			s3.Config{Bucket: "bucket", SSE: "aws:kms", KMSKey: "alias/archive"},
		},
	}
	for _, test := range tests {
		t.Run(test.url, func(t *testing.T) {
			got, err := s3.ParseURL(test.url)
			if err != nil {
				t.Fatal(err)
			}
			if got.OnRetry != nil {
				t.Error("OnRetry is set")
			}
			got.OnRetry = nil
			if got.String() != test.canonical || got.Bucket != test.want.Bucket || got.Prefix != test.want.Prefix || got.Region != test.want.Region ||
				got.Endpoint != test.want.Endpoint || got.PathStyle != test.want.PathStyle || got.Class != test.want.Class || got.SSE != test.want.SSE ||
				got.KMSKey != test.want.KMSKey || got.RequestPayer != test.want.RequestPayer || got.Profile != test.want.Profile {
				t.Errorf("got %+v as %s,\nwant %+v as %s", got, got, test.want, test.canonical)
			}
			again, err := s3.ParseURL(got.String())
			if err != nil || again.String() != got.String() {
				t.Errorf("%s is read as %s, error %v", got, again, err)
			}
		})
	}
}

func TestBadURLs(t *testing.T) {
	tests := []struct{ url, says string }{
		{"", "write s3://bucket/prefix"},
		{"bucket/prefix", "write s3://bucket/prefix"},
		{"http://bucket", `scheme "http"`},
		{"s3:bucket", "names no bucket"},
		{"s3:///prefix", "names no bucket"},
		{"s3://bucket:9000/prefix", "bucket name"},
		{"s3://Bucket", "bucket name"},
		{"s3://my_bucket", "bucket name"},
		{"s3://ab", "bucket name"},
		{"s3://a..b", "bucket name"},
		{"s3://192.168.1.1", "bucket name"},
		{"s3://" + strings.Repeat("b", 64), "bucket name"},
		{"s3://bucket--use1-az4--x-s3", "directory bucket"},
		{"s3://bucket--ol-s3", "Object Lambda"},
		{"s3://AKID:hunter2@bucket/prefix", "credentials do not belong in a URL"},
		{"s3://AKID@bucket/prefix", "credentials do not belong in a URL"},
		{"s3://bucket/prefix#part", "write %23"},
		{"s3://bucket/a//b", "empty part"},
		{"s3://bucket/a/../b", "empty part, . or .."},
		{"s3://bucket/%01", "control character"},
		{"s3://bucket/%ff", "not UTF-8"},
		{"s3://bucket/" + strings.Repeat("p", 512), "at most 511"},
		{"s3://bucket?regoin=eu-west-1", "there are class, endpoint, kms-key, path-style, profile, region, request-payer, sse"},
		{"s3://bucket?region=a&region=b", "2 times"},
		{"s3://bucket?region=", "region is empty"},
		{"s3://bucket?region=eu%20west", "region"},
		{"s3://bucket?path-style=yes", "true or false"},
		{"s3://bucket?request-payer=me", "requester"},
		{"s3://bucket?class=COLD%20STORE", "class"},
		{"s3://bucket?sse=aes", "there are AES256, aws:kms and aws:kms:dsse"},
		{"s3://bucket?sse=AES256&kms-key=k", "sse=aws:kms"},
		{"s3://bucket?endpoint=ftp://host", "scheme, host and port"},
		{"s3://bucket?endpoint=http://host/path", "scheme, host and port"},
		{"s3://bucket?endpoint=http://AKID:hunter2@host", "credentials"},
		{"s3://bucket?a;b", "malformed"},
	}
	for _, test := range tests {
		t.Run(test.url, func(t *testing.T) {
			c, err := s3.ParseURL(test.url)
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.HasPrefix(err.Error(), "s3: ") {
				t.Errorf("got %+v, error %v; want an error that says %q", c, err, test.says)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the credentials: %v", err)
			}
		})
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("s3://bucket/prefix?region=eu-west-1&endpoint=http://host:9000&path-style=true")
	f.Add("s3://bucket/%E8%A8%82?sse=aws:kms&kms-key=alias/a")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := s3.ParseURL(text)
		if err != nil {
			return
		}
		again, err := s3.ParseURL(c.String())
		if err != nil || again.String() != c.String() {
			t.Errorf("%q is %s, which is read as %s, error %v", text, c, again, err)
		}
	})
}
