package osstest

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

func FuzzAuthorization(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.header["Authorization"])
	}
	f.Add("OSS4-HMAC-SHA256 Credential=a/20231216/b/c/aliyun_v4_request, AdditionalHeaders=x;y,Signature=z")
	f.Fuzz(func(t *testing.T, header string) {
		a, err := parseAuthorization(header)
		if err != nil {
			return
		}
		again, err := parseAuthorization(a.header())
		if err != nil || !reflect.DeepEqual(a, again) {
			t.Errorf("%q: %+v, and then %+v, %v", header, a, again, err)
		}
	})
}

func FuzzXML(f *testing.F) {
	f.Add([]byte(`<Delete><Quiet>true</Quiet><Object><Key>a</Key><VersionId>v</VersionId></Object></Delete>`))
	f.Add([]byte(`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>`))
	f.Add([]byte(`<RestoreRequest><Days>2</Days><JobParameters><Tier>Bulk</Tier></JobParameters></RestoreRequest>`))
	f.Add([]byte(`<InitiateWormConfiguration><RetentionPeriodInDays>1</RetentionPeriodInDays></InitiateWormConfiguration>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, v := range []any{&deleteRequest{}, &completeRequest{}, &restoreRequest{}, &retention{}, &versioningConfiguration{}} {
			if decodeXML(body, v) != nil {
				continue
			}
			if name := reflect.ValueOf(v).Elem().FieldByName("XMLName"); name.IsValid() {
				name.SetZero() // encoding/xml reads names with a prefix that it does not write
			}
			encoded, err := xml.Marshal(v)
			if err != nil {
				t.Fatalf("%T: %v", v, err)
			}
			again := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			err = decodeXML(encoded, again)
			if name := reflect.ValueOf(again).Elem().FieldByName("XMLName"); name.IsValid() {
				name.SetZero()
			}
			if err != nil || !reflect.DeepEqual(v, again) {
				t.Errorf("%q: %+v, and then %+v, %v", body, v, again, err)
			}
		}
	})
}

// FuzzRequest sends requests with the right signature: none may break the server
// or make it say 500.
func FuzzRequest(f *testing.F) {
	f.Add("PUT", "/bucket/k", "", "Range", "bytes=0-1", []byte("x"))
	f.Add("GET", "/bucket/k", "versionId=null", "Range", "bytes=-1", []byte(nil))
	f.Add("GET", "/bucket/", "list-type=2&prefix=k&delimiter=%2F&max-keys=1&encoding-type=url", "", "", []byte(nil))
	f.Add("GET", "/bucket/", "versions&key-marker=k&version-id-marker=CAEQ", "", "", []byte(nil))
	f.Add("GET", "/bucket/", "uploads&max-uploads=1", "", "", []byte(nil))
	f.Add("POST", "/bucket/", "delete", "", "", []byte(`<Delete><Object><Key>k</Key></Object></Delete>`))
	f.Add("POST", "/bucket/", "worm", "", "", []byte(`<InitiateWormConfiguration><RetentionPeriodInDays>1</RetentionPeriodInDays></InitiateWormConfiguration>`))
	f.Add("POST", "/bucket/k", "restore", "", "", []byte(`<RestoreRequest><Days>2</Days></RestoreRequest>`))
	f.Add("POST", "/bucket/k", "uploads", "X-Oss-Storage-Class", "Archive", []byte(nil))
	f.Add("PUT", "/bucket/k2", "", "X-Oss-Copy-Source", "/bucket/k?versionId=null", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path, query, name, value string, body []byte) {
		s, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CreateBucket("bucket", BucketOptions{Class: classArchive}); err != nil {
			t.Fatal(err)
		}
		for _, first := range []bool{true, false} {
			r, err := http.NewRequest(method, "http://127.0.0.1/", bytes.NewReader(body))
			if err != nil || method == "CONNECT" {
				return
			}
			if !first {
				r.URL.Path, r.URL.RawQuery = path, query
				if name != "" {
					r.Header.Set(name, value)
				}
			} else {
				r.Method, r.URL.Path = "PUT", "/bucket/k" // something to work on
			}
			if !signV4(s, r) {
				return
			}
			r.Header.Set("Content-Length", "1")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code >= 500 && w.Code != http.StatusNotImplemented {
				t.Errorf("%s %s?%s %s: %q: %d %s", method, path, query, name, value, w.Code, w.Body)
			}
			if first && w.Code != http.StatusOK {
				t.Fatalf("put: %d %s", w.Code, w.Body)
			}
		}
	})
}

// signV4 signs r as a client would; false if it cannot be.
func signV4(s *Server, r *http.Request) bool {
	now := time.Now().UTC()
	query, err := parseParams(r.URL.RawQuery)
	if err != nil || r.Header.Get("Authorization") != "" {
		return false
	}
	r.Header.Set("X-Oss-Date", now.Format(timeV4))
	r.Header.Set("X-Oss-Content-Sha256", unsignedPayload)
	c := &call{s: s, r: r, query: query}
	if c.address() != nil {
		return false
	}
	a := authorization{
		V4: true, KeyID: DefaultAccessKeyID, Day: now.Format(dayV4), Region: DefaultRegion, Product: productV4,
		timestamp: now.Format(timeV4), contentHash: unsignedPayload,
	}
	_, a.Signature = c.sign(a, DefaultAccessKeySecret)
	r.Header.Set("Authorization", a.header())
	return !strings.ContainsAny(r.URL.Path, "\x00")
}
