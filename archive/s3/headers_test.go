package s3_test

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/s3"
	"github.com/otsnap/otsnap/archive/s3/s3test"
	"github.com/otsnap/otsnap/manifest"
)

// TestWhatAServerDropsIsUnsupported asks each server for what it is known to keep
// or not: either it is there afterwards, or there is no object.
func TestWhatAServerDropsIsUnsupported(t *testing.T) {
	tests := []struct {
		name   string
		config func(*s3.Config)
		kept   []string // by these servers
		says   string
		sees   func(archive.Info) bool
	}{
		{
			"Class", func(c *s3.Config) { c.Class = "STANDARD_IA" }, []string{s3test.Ceph}, "storage class STANDARD_IA",
			func(i archive.Info) bool { return i.Class == "STANDARD_IA" },
		},
		{
			"UnknownClass", func(c *s3.Config) { c.Class = "BOGUS" }, nil, "storage class BOGUS", nil,
		},
		{
			"SSE", func(c *s3.Config) { c.SSE = "AES256" }, []string{s3test.MinIO}, "encryption AES256",
			func(i archive.Info) bool { return i.Encryption == "AES256" },
		},
		{
			"KMS", func(c *s3.Config) { c.SSE, c.KMSKey = "aws:kms", s3test.KMSKey }, []string{s3test.MinIO, s3test.Ceph}, "encryption aws:kms " + s3test.KMSKey,
			func(i archive.Info) bool {
				return strings.HasPrefix(i.Encryption, "aws:kms ") && strings.HasSuffix(i.Encryption, s3test.KMSKey)
			},
		},
	}
	each(t, func(t *testing.T, s *s3test.Server) {
		for _, test := range tests {
			for _, kind := range kindsOfBuckets[:2] {
				t.Run(test.name+kind.name, func(t *testing.T) {
					store := open(t, s, bucket(t, s, kind.opts), test.config)
					err := store.Put(t.Context(), "bulk", strings.NewReader("rows"), archive.PutOptions{Bulk: true})
					if strings.Contains(strings.Join(test.kept, " "), s.Kind) {
						info, inspectErr := store.Inspect(t.Context(), "bulk")
						if err != nil || inspectErr != nil || !test.sees(info) {
							t.Errorf("Put: %v; Inspect: %+v, %v; want it as asked", err, info, inspectErr)
						}
						return
					}
					wantDropped(t, store, "bulk", err, test.says)
				})
			}
		}
		t.Run("Lock", func(t *testing.T) {
			store := open(t, s, bucket(t, s, withOlder), nil)
			err := store.Put(t.Context(), "a", strings.NewReader("rows"), archive.PutOptions{Lock: archive.Lock{Mode: archive.Compliance, Until: time.Now().AddDate(0, 0, 1)}})
			if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "a lock of compliance until") {
				t.Errorf("Put: got %v, want errors.ErrUnsupported and the lock that was asked for", err)
			}
			if s.Kind != s3test.VersityGW { // which refuses, and has taken the object
				put(t, store, "a", "rows", archive.PutOptions{})
			}
			err = store.Lock(t.Context(), "a", archive.Lock{Mode: archive.Governance, Until: time.Now().AddDate(0, 0, 1)})
			if !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("Lock in a bucket without: got %v, want errors.ErrUnsupported", err)
			}
		})
	})
}

func wantDropped(t *testing.T, s *s3.Store, name string, err error, says string) {
	t.Helper()
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), says) {
		t.Errorf("Put: got %v, want errors.ErrUnsupported and the words %q", err, says)
	}
	if _, err := s.Inspect(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Inspect afterwards: got %v, want no object", err)
	}
	for shadow, err := range s.Shadows(t.Context(), "") {
		t.Errorf("there is %+v, %v afterwards", shadow, err)
	}
}

// TestBulkAloneHasTheClass keeps all else readable at once.
func TestBulkAloneHasTheClass(t *testing.T) {
	f := newFake(t)
	classes := map[string]string{}
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodPut:
			classes[r.URL.Path] = r.Header.Get("X-Amz-Storage-Class")
		case r.Method == http.MethodHead && classes[r.URL.Path] != "":
			w.Header().Set("X-Amz-Storage-Class", classes[r.URL.Path])
		}
		return false
	}
	s := f.open(t, func(c *s3.Config) { c.Class = "GLACIER" })
	put(t, s, "manifest", "signed", archive.PutOptions{})
	put(t, s, "chunk", "rows", archive.PutOptions{Bulk: true})
	if classes["/bucket/manifest"] != "" || classes["/bucket/chunk"] != "GLACIER" {
		t.Errorf("asked for the classes %v, want GLACIER for the chunk alone", classes)
	}
}

// TestInspectReadsHeaders has a server say what none here does.
func TestInspectReadsHeaders(t *testing.T) {
	until := time.Date(2026, 12, 21, 0, 0, 0, 0, time.UTC)
	const restored = `ongoing-request="false", expiry-date="Mon, 21 Dec 2026 00:00:00 GMT"`
	tests := []struct {
		name    string
		headers map[string]string
		want    archive.Info
	}{
		{"Plain", nil, archive.Info{Class: "STANDARD"}},
		{"Glacier", map[string]string{"X-Amz-Storage-Class": "GLACIER"}, archive.Info{Class: "GLACIER", Frozen: true}},
		{"DeepArchive", map[string]string{"X-Amz-Storage-Class": "DEEP_ARCHIVE"}, archive.Info{Class: "DEEP_ARCHIVE", Frozen: true}},
		{"GlacierInstant", map[string]string{"X-Amz-Storage-Class": "GLACIER_IR"}, archive.Info{Class: "GLACIER_IR"}},
		{"Thawing", map[string]string{"X-Amz-Storage-Class": "GLACIER", "X-Amz-Restore": `ongoing-request="true"`}, archive.Info{Class: "GLACIER", Frozen: true, Thawing: true}},
		{"Thawed", map[string]string{"X-Amz-Storage-Class": "DEEP_ARCHIVE", "X-Amz-Restore": restored}, archive.Info{Class: "DEEP_ARCHIVE", ThawedTo: until}},
		{"Tiering", map[string]string{"X-Amz-Storage-Class": "INTELLIGENT_TIERING"}, archive.Info{Class: "INTELLIGENT_TIERING"}},
		{"TieringFrozen", map[string]string{"X-Amz-Storage-Class": "INTELLIGENT_TIERING", "X-Amz-Archive-Status": "ARCHIVE_ACCESS"}, archive.Info{Class: "INTELLIGENT_TIERING", Frozen: true}},
		{"KMS", map[string]string{"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "arn:aws:kms:eu-west-1:1:key/k"}, archive.Info{Class: "STANDARD", Encryption: "aws:kms arn:aws:kms:eu-west-1:1:key/k"}},
		{"Locked", map[string]string{"X-Amz-Object-Lock-Mode": "COMPLIANCE", "X-Amz-Object-Lock-Retain-Until-Date": "2026-12-21T00:00:00.000Z", "X-Amz-Object-Lock-Legal-Hold": "ON"}, archive.Info{Class: "STANDARD", Lock: archive.Lock{Mode: archive.Compliance, Until: until, Hold: true}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			f.headers = test.headers
			s := f.open(t, nil)
			put(t, s, "a", "rows", archive.PutOptions{})
			info, err := s.Inspect(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			test.want.Object = archive.Object{Name: "a", Size: 4}
			test.want.SHA256, test.want.Modified = info.SHA256, info.Modified
			if info != test.want || info.SHA256 == (manifest.Hash{}) {
				t.Errorf("got %+v,\nwant %+v", info, test.want)
			}
		})
	}
	t.Run("ADigestOfPartsIsNone", func(t *testing.T) {
		f := newFake(t)
		s := f.open(t, nil)
		put(t, s, "a", "rows", archive.PutOptions{})
		for _, headers := range []map[string]string{
			{"X-Amz-Checksum-Type": "COMPOSITE"},
			{"X-Amz-Checksum-Sha256": "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=-2"},
		} {
			f.headers = headers
			info, err := s.Inspect(t.Context(), "a")
			if err != nil || info.SHA256 != (manifest.Hash{}) {
				t.Errorf("%v: got digest %v, error %v; want none", headers, info.SHA256, err)
			}
		}
	})
}

// TestThaw is a server with a tier that is restored from, as Amazon documents it.
func TestThaw(t *testing.T) {
	f := newFake(t)
	var asked []string
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodPost && r.URL.Query().Has("restore"):
			data, _ := io.ReadAll(r.Body)
			if strings.Contains(string(data), "Nonsense") {
				fail(w, http.StatusBadRequest, "MalformedXML")
				return true
			}
			asked = append(asked, string(data))
			if f.headers["X-Amz-Restore"] == `ongoing-request="true"` {
				fail(w, http.StatusConflict, "RestoreAlreadyInProgress")
				return true
			}
			w.WriteHeader(http.StatusAccepted)
			return true
		case r.Method == http.MethodGet && object(r) && f.headers["X-Amz-Restore"] == "":
			failWith(w, http.StatusForbidden, "InvalidObjectState", "The operation is not valid for the object's storage class")
			return true
		}
		return false
	}
	s := f.open(t, nil)
	put(t, s, "a", "rows", archive.PutOptions{})
	f.headers = map[string]string{"X-Amz-Storage-Class": "GLACIER"}

	_, err := s.Get(t.Context(), "a")
	if !errors.Is(err, archive.ErrFrozen) || !errors.Is(err, archive.ErrUnavailable) {
		t.Errorf("Get: got %v, want archive.ErrFrozen and archive.ErrUnavailable", err)
	}
	for _, tier := range append(s.Tiers(), "") {
		if err := s.Thaw(t.Context(), "a", 3, tier); err != nil {
			t.Errorf("Thaw, tier %q: %v", tier, err)
			continue
		}
		got := asked[len(asked)-1]
		if !strings.Contains(got, "<Days>3</Days>") || strings.Contains(got, "<Tier>") != (tier != "") || !strings.Contains(got, tier) {
			t.Errorf("Thaw, tier %q asked %s", tier, got)
		}
	}
	if err := s.Thaw(t.Context(), "a", 3, "Nonsense"); err == nil {
		t.Error("Thaw with a tier there is not: got nil")
	}
	before := len(asked)
	f.headers["X-Amz-Restore"] = `ongoing-request="true"`
	if err := s.Thaw(t.Context(), "a", 3, "Bulk"); err != nil || len(asked) != before {
		t.Errorf("Thaw of what is thawing: got %v, asked %d times; want nil and no request", err, len(asked)-before)
	}
	f.headers = nil
	if err := s.Thaw(t.Context(), "a", 3, "Bulk"); err != nil || len(asked) != before {
		t.Errorf("Thaw of what is not frozen: got %v, asked %d times; want nil and no request", err, len(asked)-before)
	}
	if err := s.Thaw(t.Context(), "none", 3, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Thaw of what is not there: got %v, want fs.ErrNotExist", err)
	}
}

// TestRequestPayer looks for the header that agrees to pay, which has to be signed.
func TestRequestPayer(t *testing.T) {
	f := newFake(t)
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Amz-Request-Payer") != "requester" || !strings.Contains(r.Header.Get("Authorization"), "x-amz-request-payer") {
			t.Errorf("%s %s does not say who pays", r.Method, r.URL)
		}
		return false
	}
	s := f.open(t, func(c *s3.Config) { c.RequestPayer = true })
	put(t, s, "a", "rows", archive.PutOptions{})
	want(t, s, "a", "rows")
}

// TestTheDigestIsSigned keeps what is sent from being changed over plain HTTP,
// and a wrong digest from being believed by a server that looks at no checksum.
func TestTheDigestIsSigned(t *testing.T) {
	f := newFake(t)
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		const digest = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73" // of "content"
		if r.Method == http.MethodPut && (r.Header.Get("X-Amz-Content-Sha256") != digest || r.Header.Get("X-Amz-Checksum-Sha256") != "7XACtDnprIRfIjV9giusFERzD722AW0+yUMil7nsn3M=") {
			t.Errorf("PUT signs the digest %s, and sends %s", r.Header.Get("X-Amz-Content-Sha256"), r.Header.Get("X-Amz-Checksum-Sha256"))
		}
		if strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
			t.Error("PUT is in chunks, which some servers keep as they are")
		}
		return false
	}
	put(t, f.open(t, nil), "a", "content", archive.PutOptions{})
}
