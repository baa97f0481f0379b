package osstest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive/oss/osstest"
)

// stranger is a client of the server with another key.
func (f *fixture) stranger(t *testing.T, id, secret string, options ...oss.ClientOption) *oss.Bucket {
	t.Helper()
	options = append([]oss.ClientOption{oss.AuthVersion(oss.AuthV4), oss.Region(osstest.DefaultRegion)}, options...)
	c, err := oss.New(f.url, id, secret, options...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Bucket("bucket")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStrangersAreRefused(t *testing.T) {
	const id, secret = osstest.DefaultAccessKeyID, osstest.DefaultAccessKeySecret
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	for _, test := range []struct {
		name, id, secret string
		options          []oss.ClientOption
		status           int
		code             string
	}{
		{"V4, wrong secret", id, "wrong", nil, 403, "SignatureDoesNotMatch"},
		{"V1, wrong secret", id, "wrong", []oss.ClientOption{oss.AuthVersion(oss.AuthV1)}, 403, "SignatureDoesNotMatch"},
		{"V4, unknown key", "nobody", secret, nil, 403, "InvalidAccessKeyId"},
		{"V1, unknown key", "nobody", secret, []oss.ClientOption{oss.AuthVersion(oss.AuthV1)}, 403, "InvalidAccessKeyId"},
		{"a token with a key that has none", id, secret, []oss.ClientOption{oss.SecurityToken("token")}, 403, "InvalidAccessKeyId"},
		{"wrong region", id, secret, []oss.ClientOption{oss.Region("cn-beijing")}, 400, "InvalidArgument"},
		{"wrong product", id, secret, []oss.ClientOption{oss.CloudBoxId("cb-1")}, 400, "InvalidArgument"},
		{"V2", id, secret, []oss.ClientOption{oss.AuthVersion(oss.AuthV2)}, 400, "InvalidArgument"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := f.stranger(t, test.id, test.secret, test.options...)
			wantCode(t, b.PutObject("k", strings.NewReader("x")), test.status, test.code)
			_, err := b.GetObjectDetailedMeta("k") // a HEAD has no body: the code is in a header
			wantCode(t, err, test.status, test.code)
		})
	}
	if all, err := f.Objects("bucket"); err != nil || len(all) > 0 {
		t.Errorf("a refused request left %v, %v", all, err)
	}
}

func TestNobodyIsAnonymous(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	reply, err := http.Get(f.url + "/bucket/k")
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	body, _ := io.ReadAll(reply.Body)
	if reply.StatusCode != 403 || !strings.Contains(string(body), "<Code>AccessDenied</Code>") {
		t.Errorf("got %s %s", reply.Status, body)
	}
}

func TestTokensOfSTS(t *testing.T) {
	const id, secret = osstest.DefaultAccessKeyID, osstest.DefaultAccessKeySecret
	f := newFixture(t, osstest.Options{SecurityToken: "first"}, osstest.BucketOptions{})
	for name, auth := range auths {
		token := func(text string) error {
			return f.stranger(t, id, secret, append(auth, oss.SecurityToken(text))...).PutObject("k", strings.NewReader("x"))
		}
		if err := token("first"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantCode(t, token("other"), 403, "InvalidSecurityToken")
		wantCode(t, token(""), 403, "InvalidAccessKeyId")
	}
	f.AddCredentials(osstest.Credentials{AccessKeyID: "second-id", AccessKeySecret: "second-secret", SecurityToken: "second", Expires: time.Now().Add(time.Hour)})
	second := f.stranger(t, "second-id", "second-secret", oss.SecurityToken("second"))
	put(t, second, "k", "y")

	f.ExpireToken("first")
	first := f.stranger(t, id, secret, oss.SecurityToken("first"))
	wantCode(t, first.PutObject("k", strings.NewReader("x")), 403, "SecurityTokenExpired")
	if got := get(t, second, "k"); got != "y" {
		t.Errorf("got %q", got)
	}
	f.clock.move(2 * time.Hour)
	_, err := second.GetObject("k")
	wantCode(t, err, 403, "SecurityTokenExpired")
}

func TestClocksMayDifferByAQuarterOfAnHour(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	for name, auth := range auths {
		b := f.bucket(t, auth...)
		for _, skew := range []time.Duration{-14 * time.Minute, 14 * time.Minute} {
			f.SetSkew(skew)
			if err := b.PutObject("k", strings.NewReader("x")); err != nil {
				t.Errorf("%s, %s: %v", name, skew, err)
			}
		}
		for _, skew := range []time.Duration{-16 * time.Minute, 16 * time.Minute} {
			f.SetSkew(skew)
			wantCode(t, b.PutObject("k", strings.NewReader("x")), 403, "RequestTimeTooSkewed")
		}
	}
}

func TestPresignedURLs(t *testing.T) {
	for name, auth := range auths {
		for _, token := range []string{"", "to/ken+="} {
			t.Run(name+" token "+token, func(t *testing.T) {
				f := newFixture(t, osstest.Options{SecurityToken: token}, osstest.BucketOptions{})
				b := f.bucket(t, append(auth, oss.SecurityToken(token))...)
				url, err := b.SignURL("k ey", oss.HTTPPut, 60, oss.ContentType("text/plain"))
				if err != nil {
					t.Fatal(err)
				}
				if err := b.PutObjectWithURL(url, strings.NewReader("body"), oss.ContentType("text/plain")); err != nil {
					t.Fatal(err)
				}
				wantCode(t, b.PutObjectWithURL(url, strings.NewReader("body"), oss.ContentType("text/html")), 403, "SignatureDoesNotMatch")

				url, err = b.SignURL("k ey", oss.HTTPGet, 60, oss.ResponseContentType("x/y"))
				if err != nil {
					t.Fatal(err)
				}
				result, err := b.DoGetObjectWithURL(url, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer result.Response.Close()
				if got := result.Response.Headers.Get("Content-Type"); got != "x/y" {
					t.Errorf("Content-Type %q", got)
				}
				_, err = b.GetObjectWithURL(strings.Replace(url, "x%2Fy", "x%2Fz", 1))
				wantCode(t, err, 403, "SignatureDoesNotMatch")
				_, err = b.GetObjectWithURL(strings.Replace(url, "/k%20ey", "/other", 1))
				wantCode(t, err, 403, "SignatureDoesNotMatch")
				f.SetSkew(2 * time.Minute)
				_, err = b.GetObjectWithURL(url)
				wantCode(t, err, 403, "AccessDenied")
			})
		}
	}
}

func TestKeysMayDoWhatTheirPolicyAllows(t *testing.T) {
	f := newFixture(t, osstest.Options{}, osstest.BucketOptions{})
	f.AddCredentials(osstest.Credentials{AccessKeyID: "exporter", AccessKeySecret: "s", Allow: func(action, resource string) bool {
		return action == "oss:PutObject" && strings.HasPrefix(resource, "acs:oss:*:*:bucket/archive/")
	}})
	b := f.stranger(t, "exporter", "s")
	put(t, b, "archive/k", "x")
	wantCode(t, b.PutObject("elsewhere", strings.NewReader("x")), 403, "AccessDenied")
	_, err := b.GetObject("archive/k")
	wantCode(t, err, 403, "AccessDenied")
	wantCode(t, b.DeleteObject("archive/k"), 403, "AccessDenied")
}
