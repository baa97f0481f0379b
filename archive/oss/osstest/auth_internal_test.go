package osstest

import (
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// signing is a request with a signature that is known to be right.
type signing struct {
	name, method, bucket, key string
	query                     string // in no order
	header                    map[string]string
	now                       time.Time
	token                     string
}

// vectors are those Alibaba publishes in its documentation and with its SDKs.
// The key is ak, its secret sk.
var vectors = []signing{
	{
		name: "V1, headers", method: "PUT", bucket: "examplebucket", key: "nelson",
		header: map[string]string{
			"Content-MD5": "eB5eJF1ptWaXm4bijSPyxw==", "Content-Type": "text/html", "x-oss-meta-author": "alice",
			"x-oss-meta-magic": "abracadabra", "x-oss-date": "Wed, 28 Dec 2022 10:27:41 GMT",
			"Date": "Wed, 28 Dec 2022 10:27:41 GMT", "Authorization": "OSS ak:kSHKmLxlyEAKtZPkJhG9bZb5k7M=",
		},
		now: time.Date(2022, 12, 28, 10, 27, 41, 0, time.UTC),
	},
	{
		name: "V1, sub-resource", method: "PUT", bucket: "examplebucket", key: "nelson", query: "acl",
		header: map[string]string{
			"Content-MD5": "eB5eJF1ptWaXm4bijSPyxw==", "Content-Type": "text/html", "x-oss-meta-author": "alice",
			"x-oss-meta-magic": "abracadabra", "x-oss-date": "Wed, 28 Dec 2022 10:27:41 GMT",
			"Date": "Wed, 28 Dec 2022 10:27:41 GMT", "Authorization": "OSS ak:/afkugFbmWDQ967j1vr6zygBLQk=",
		},
		now: time.Date(2022, 12, 28, 10, 27, 41, 0, time.UTC),
	},
	{
		name: "V1, parameters that are not signed", method: "GET", bucket: "examplebucket", query: "resourceGroup&non-resousce=null",
		header: map[string]string{
			"x-oss-date": "Wed, 28 Dec 2022 10:27:41 GMT", "Date": "Wed, 28 Dec 2022 10:27:41 GMT",
			"Authorization": "OSS ak:vkQmfuUDyi1uDi3bKt67oemssIs=",
		},
		now: time.Date(2022, 12, 28, 10, 27, 41, 0, time.UTC),
	},
	{
		name: "V1, two sub-resources", method: "GET", bucket: "examplebucket", query: "resourceGroup&acl",
		header: map[string]string{
			"x-oss-date": "Wed, 28 Dec 2022 10:27:41 GMT", "Date": "Wed, 28 Dec 2022 10:27:41 GMT",
			"Authorization": "OSS ak:x3E5TgOvl/i7PN618s5mEvpJDYk=",
		},
		now: time.Date(2022, 12, 28, 10, 27, 41, 0, time.UTC),
	},
	{
		name: "V1, URL", method: "GET", bucket: "bucket", key: "key",
		query: "Expires=1699807420&OSSAccessKeyId=ak&Signature=dcLTea%2BYh9ApirQ8o8dOPqtvJXQ%3D&versionId=versionId",
		now:   time.Unix(1699807000, 0),
	},
	{
		name: "V1, URL with a token", method: "GET", bucket: "bucket", key: "key+123", token: "token",
		query: "Expires=1699808204&OSSAccessKeyId=ak&Signature=jzKYRrM5y6Br0dRFPaTGOsbrDhY%3D&security-token=token&versionId=versionId",
		now:   time.Unix(1699808000, 0),
	},
	v4("V4, headers", "20231216T162057Z", "", "Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"),
	v4("V4, headers and token", "20231217T034736Z", "token", "Signature=b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea"),
	v4("V4, additional headers", "20231216T172512Z", "",
		"AdditionalHeaders=abc;zabc,Signature=4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f"),
	v4URL("V4, URL", "20231217T025437Z", "", "", "a39966c61718be0d5b14e668088b3fa07601033f6518ac7b523100014269c0fe"),
	v4URL("V4, URL with a token", "20231217T035628Z", "token", "", "3817ac9d206cd6dfc90f1c09c00be45005602e55898f26f5ddb06d7892e1f8b5"),
	v4URL("V4, URL with additional headers", "20231217T033009Z", "", "abc;zabc", "6bd984bfe531afb6db1f7550983a741b103a8c58e5e14f83ea474c2322dfa2b7"),
}

const queryV4 = "param1=value1&%2Bparam1=value3&%7Cparam1=value4&%2Bparam2=&%7Cparam2=&param2="

// v4 is a vector whose header is signed.
func v4(name, at, token, rest string) signing {
	now, err := time.Parse(timeV4, at)
	if err != nil {
		panic(err)
	}
	s := signing{
		name: name, method: "PUT", bucket: "bucket", key: "1234+-/123/1.txt", query: queryV4, now: now, token: token,
		header: map[string]string{
			"x-oss-head1": "value", "abc": "value", "ZAbc": "value", "XYZ": "value", "content-type": "text/plain",
			"x-oss-content-sha256": unsignedPayload, "x-oss-date": at,
			"Authorization": algorithmV4 + " Credential=ak/" + at[:8] + "/cn-hangzhou/oss/aliyun_v4_request," + rest,
		},
	}
	if token != "" {
		s.header["x-oss-security-token"] = token
	}
	return s
}

// v4URL is a vector whose URL is signed.
func v4URL(name, at, token, additional, signature string) signing {
	now, err := time.Parse(timeV4, at)
	if err != nil {
		panic(err)
	}
	q := url.Values{
		"x-oss-signature-version": {algorithmV4}, "x-oss-expires": {"599"}, "x-oss-date": {at}, "x-oss-signature": {signature},
		"x-oss-credential": {"ak/" + at[:8] + "/cn-hangzhou/oss/aliyun_v4_request"},
	}
	if token != "" {
		q.Set("x-oss-security-token", token)
	}
	if additional != "" {
		q.Set("x-oss-additional-headers", additional)
	}
	return signing{
		name: name, method: "PUT", bucket: "bucket", key: "1234+-/123/1.txt", query: queryV4 + "&" + q.Encode(), now: now, token: token,
		header: map[string]string{
			"x-oss-head1": "value", "abc": "value", "ZAbc": "value", "XYZ": "value", "content-type": "application/octet-stream",
		},
	}
}

func (v signing) call(t *testing.T) *call {
	t.Helper()
	s, err := New(Options{AccessKeyID: "ak", AccessKeySecret: "sk", SecurityToken: v.token})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(v.method, "http://127.0.0.1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range v.header {
		r.Header.Set(name, value)
	}
	query, err := parseParams(v.query)
	if err != nil {
		t.Fatal(err)
	}
	return &call{s: s, r: r, now: v.now, clock: v.now, bucket: v.bucket, key: v.key, query: query}
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			if _, err := v.call(t).authenticate(); err != nil {
				t.Fatal(err)
			}
			v.key += "x"
			var f *fault
			if _, err := v.call(t).authenticate(); !errors.As(err, &f) || f.Code != "SignatureDoesNotMatch" {
				t.Errorf("for another object: %v", err)
			}
		})
	}
}

func TestAuthorizationHeaders(t *testing.T) {
	const scope = "ak/20231216/cn-hangzhou/oss/aliyun_v4_request"
	for _, test := range []struct {
		header string
		want   error
	}{
		{"OSS ak:signature", nil},
		{"OSS4-HMAC-SHA256 Credential=" + scope + ",Signature=s", nil},
		{"OSS4-HMAC-SHA256 Credential=" + scope + ", AdditionalHeaders=a;b, Signature=s", nil},
		{"OSS ak", errAuthorization},
		{"OSS :s", errAuthorization},
		{"OSS2 AccessKeyId:ak,Signature:s", errAuthorization},
		{"AWS ak:s", errAuthorization},
		{"OSS4-HMAC-SHA256", errAuthorization},
		{"OSS4-HMAC-SHA256 Signature=s", errAuthorization},
		{"OSS4-HMAC-SHA256 Credential=" + scope, errAuthorization},
		{"OSS4-HMAC-SHA256 Credential" + scope + ",Signature=s", errAuthorization},
		{"OSS4-HMAC-SHA256 Credential=" + scope + ",Signature=s,UnknownKey=1", errAuthorization},
		{"OSS4-HMAC-SHA256 Credential=" + scope + ",Signature=s,Signature=s", errAuthorization},
		{"OSS4-HMAC-SHA256 Credential=ak/2022-12-20/cn-hangzhou/oss/aliyun_v4_request,Signature=s", errSigningDate},
		{"OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/abc,Signature=s", errSigningTerminal},
		{"OSS4-HMAC-SHA256 Credential=ak/20231216/oss/aliyun_v4_request,Signature=s", errAuthorization},
	} {
		if _, err := parseAuthorization(test.header); err != test.want {
			t.Errorf("%s: got %v, want %v", test.header, err, test.want)
		}
	}
}

func TestAV4RequestMustFitItsScope(t *testing.T) {
	good := v4("", "20231216T162057Z", "", "Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe")
	for _, test := range []struct {
		name, header, value, code string
	}{
		{"a body that is signed", "x-oss-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "InvalidArgument"},
		{"no word of the body", "x-oss-content-sha256", "", "InvalidArgument"},
		{"no date", "x-oss-date", "", "AccessDenied"},
		{"a date that is none", "x-oss-date", "yesterday", "AccessDenied"},
		{"another day", "x-oss-date", "20231217T162057Z", "InvalidArgument"},
		{"another second", "x-oss-date", "20231216T162058Z", "SignatureDoesNotMatch"},
		{"another header", "x-oss-head1", "other", "SignatureDoesNotMatch"},
		{"one header more", "x-oss-head2", "value", "SignatureDoesNotMatch"},
		{"one header that is not signed", "other", "value", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := good.call(t)
			c.r.Header.Set(test.header, test.value)
			_, err := c.authenticate()
			var f *fault
			if errors.As(err, &f); err == nil && test.code != "" || err != nil && f.Code != test.code {
				t.Errorf("got %v, want code %q", err, test.code)
			}
		})
	}
}
