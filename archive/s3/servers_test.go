package s3_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/s3"
	"github.com/otsnap/otsnap/archive/s3/s3test"
)

// raw talks to a server without a Store in between, as root.
type raw struct {
	t      *testing.T
	server *s3test.Server
	client *awss3.Client
	bucket string
}

func newRaw(t *testing.T, s *s3test.Server, opts s3test.BucketOptions) raw {
	return raw{t, s, s.Client(), bucket(t, s, opts)}
}

// put puts a small object; its error is the server's.
func (r raw) put(key string, change func(*awss3.PutObjectInput), options ...func(*awss3.Options)) (*awss3.PutObjectOutput, error) {
	sum := sha256.Sum256([]byte("content"))
	in := &awss3.PutObjectInput{
		Bucket: &r.bucket, Key: &key, Body: strings.NewReader("content"),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	}
	if change != nil {
		change(in)
	}
	return r.client.PutObject(r.t.Context(), in, options...)
}

func (r raw) mustPut(key string, change func(*awss3.PutObjectInput)) string {
	r.t.Helper()
	out, err := r.put(key, change)
	if err != nil {
		r.t.Fatal(err)
	}
	return aws.ToString(out.VersionId)
}

func (r raw) head(key string) *awss3.HeadObjectOutput {
	r.t.Helper()
	out, err := r.client.HeadObject(r.t.Context(), &awss3.HeadObjectInput{Bucket: &r.bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r raw) delete(key, version string, bypass bool) error {
	in := &awss3.DeleteObjectInput{Bucket: &r.bucket, Key: &key}
	if version != "" {
		in.VersionId = &version
	}
	if bypass {
		in.BypassGovernanceRetention = aws.Bool(true)
	}
	_, err := r.client.DeleteObject(r.t.Context(), in)
	return err
}

func (r raw) retain(key, version string, mode types.ObjectLockRetentionMode, until time.Time, bypass bool) error {
	in := &awss3.PutObjectRetentionInput{
		Bucket: &r.bucket, Key: &key, VersionId: &version, ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		Retention: &types.ObjectLockRetention{Mode: mode, RetainUntilDate: &until},
	}
	if bypass {
		in.BypassGovernanceRetention = aws.Bool(true)
	}
	_, err := r.client.PutObjectRetention(r.t.Context(), in)
	return err
}

// said is the server's answer in a word or two.
func said(err error, accepted string) string {
	var api smithy.APIError
	switch {
	case err == nil:
		return accepted
	case errors.As(err, &api):
		return api.ErrorCode()
	}
	return err.Error()
}

func locked(mode types.ObjectLockMode, days int) func(*awss3.PutObjectInput) {
	return func(in *awss3.PutObjectInput) {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = mode, aws.Time(time.Now().AddDate(0, 0, days))
	}
}

func createOnly(in *awss3.PutObjectInput) { in.IfNoneMatch = aws.String("*") }

var (
	plain      = s3test.BucketOptions{}
	withOlder  = s3test.BucketOptions{Versioned: true}
	withLock   = s3test.BucketOptions{Lock: true}
	complyLong = s3test.BucketOptions{Lock: true, DefaultMode: archive.Compliance, DefaultDays: 30}
)

// behaviour is one thing that servers do differently, and what each is known to
// answer: a change in a server shows here first.
type behaviour struct {
	name                   string
	versitygw, minio, ceph string
	try                    func(r raw) string
	bucket                 s3test.BucketOptions
}

var behaviours = []behaviour{
	{"create-only, plain bucket", "PreconditionFailed", "PreconditionFailed", "PreconditionFailed", func(r raw) string {
		r.mustPut("a", nil)
		_, err := r.put("a", createOnly)
		return said(err, "ignored")
	}, plain},
	{"create-only, versions", "PreconditionFailed", "PreconditionFailed", "ignored", func(r raw) string {
		r.mustPut("a", nil)
		_, err := r.put("a", createOnly)
		return said(err, "ignored")
	}, withOlder},
	{"create-only under a delete marker", "PreconditionFailed", "taken", "taken", func(r raw) string {
		r.mustPut("a", nil)
		if err := r.delete("a", "", false); err != nil {
			r.t.Fatal(err)
		}
		_, err := r.put("a", createOnly)
		return said(err, "taken")
	}, withOlder},
	{"wrong x-amz-checksum-sha256", "BadDigest", "XAmzContentChecksumMismatch", "taken", func(r raw) string {
		wrong := sha256.Sum256(nil)
		_, err := r.put("a", func(in *awss3.PutObjectInput) {
			in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(wrong[:]))
		})
		return said(err, "taken")
	}, plain},
	{"wrong signed SHA-256", "XAmzContentSHA256Mismatch", "XAmzContentSHA256Mismatch", "XAmzContentSHA256Mismatch", func(r raw) string {
		_, err := r.put("a", func(in *awss3.PutObjectInput) { in.ChecksumSHA256, in.ChecksumAlgorithm = nil, "" }, wrongPayload)
		return said(err, "taken")
	}, plain},
	{"HEAD shows SHA-256", "yes", "yes", "no", func(r raw) string {
		r.mustPut("a", nil)
		return yes(r.head("a").ChecksumSHA256 != nil)
	}, plain},
	{"class STANDARD_IA", "dropped", "InvalidStorageClass", "kept", func(r raw) string {
		_, err := r.put("a", func(in *awss3.PutObjectInput) { in.StorageClass = types.StorageClassStandardIa })
		if err != nil {
			return said(err, "")
		}
		return kept(r.head("a").StorageClass == types.StorageClassStandardIa)
	}, plain},
	{"SSE AES256", "dropped", "kept", "dropped", func(r raw) string {
		_, err := r.put("a", func(in *awss3.PutObjectInput) { in.ServerSideEncryption = types.ServerSideEncryptionAes256 })
		if err != nil {
			return said(err, "")
		}
		return kept(r.head("a").ServerSideEncryption == types.ServerSideEncryptionAes256)
	}, plain},
	{"SSE aws:kms", "dropped", "kept", "kept", func(r raw) string {
		_, err := r.put("a", func(in *awss3.PutObjectInput) {
			in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryptionAwsKms, aws.String(s3test.KMSKey)
		})
		if err != nil {
			return said(err, "")
		}
		return kept(r.head("a").ServerSideEncryption == types.ServerSideEncryptionAwsKms)
	}, plain},
	{"lock in a bucket without", "InvalidRequest", "InvalidRequest", "InvalidRequest", func(r raw) string {
		_, err := r.put("a", locked(types.ObjectLockModeCompliance, 1))
		return said(err, "dropped")
	}, plain},
	{"... and leaves the object", "yes", "no", "no", func(r raw) string {
		r.put("a", locked(types.ObjectLockModeCompliance, 1))
		out, err := r.client.ListObjectsV2(r.t.Context(), &awss3.ListObjectsV2Input{Bucket: &r.bucket})
		if err != nil {
			r.t.Fatal(err)
		}
		return yes(len(out.Contents) > 0)
	}, plain},
	{"HEAD shows a lock", "yes", "yes", "yes", func(r raw) string {
		r.mustPut("a", locked(types.ObjectLockModeCompliance, 1))
		return yes(r.head("a").ObjectLockMode == types.ObjectLockModeCompliance)
	}, withLock},
	{"COMPLIANCE: root deletes", "AccessDenied", "InvalidRequest", "AccessDenied", func(r raw) string {
		version := r.mustPut("a", locked(types.ObjectLockModeCompliance, 1))
		return said(r.delete("a", version, true), "deleted")
	}, withLock},
	{"COMPLIANCE: root shortens", "AccessDenied", "InvalidRequest", "AccessDenied", func(r raw) string {
		version := r.mustPut("a", locked(types.ObjectLockModeCompliance, 2))
		return said(r.retain("a", version, types.ObjectLockRetentionModeCompliance, time.Now().AddDate(0, 0, 1), true), "shortened")
	}, withLock},
	{"COMPLIANCE: root weakens", "AccessDenied", "InvalidRequest", "AccessDenied", func(r raw) string {
		version := r.mustPut("a", locked(types.ObjectLockModeCompliance, 1))
		return said(r.retain("a", version, types.ObjectLockRetentionModeGovernance, time.Now().AddDate(0, 0, 2), true), "weakened")
	}, withLock},
	{"GOVERNANCE: delete", "AccessDenied", "InvalidRequest", "AccessDenied", func(r raw) string {
		version := r.mustPut("a", locked(types.ObjectLockModeGovernance, 1))
		return said(r.delete("a", version, false), "deleted")
	}, withLock},
	{"GOVERNANCE: delete with bypass", "deleted", "deleted", "deleted", func(r raw) string {
		version := r.mustPut("a", locked(types.ObjectLockModeGovernance, 1))
		return said(r.delete("a", version, true), "deleted")
	}, withLock},
	{"legal hold: root deletes", "AccessDenied", "InvalidRequest", "AccessDenied", func(r raw) string {
		version := r.mustPut("a", func(in *awss3.PutObjectInput) { in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn })
		return said(r.delete("a", version, true), "deleted")
	}, withLock},
	{"default lock: root deletes", "AccessDenied", "InvalidRequest", "AccessDenied", func(r raw) string {
		return said(r.delete("a", r.mustPut("a", nil), true), "deleted")
	}, complyLong},
	{"default lock: HEAD shows it", "no", "yes", "yes", func(r raw) string {
		r.mustPut("a", nil)
		return yes(r.head("a").ObjectLockMode == types.ObjectLockModeCompliance)
	}, complyLong},
	{"newer version over a lock", "taken, found", "taken, found", "taken, found", func(r raw) string {
		r.mustPut("an/archive/a", locked(types.ObjectLockModeCompliance, 1))
		_, err := r.put("an/archive/a", nil)
		return said(err, "taken") + ", " + r.shadows()
	}, withLock},
	{"delete marker over a lock", "taken, found", "taken, found", "taken, found", func(r raw) string {
		r.mustPut("an/archive/a", locked(types.ObjectLockModeCompliance, 1))
		return said(r.delete("an/archive/a", "", false), "taken") + ", " + r.shadows()
	}, withLock},
	{"our probe: create-only, plain", "supported", "supported", "supported", probed(archive.CanCreateOnly), plain},
	{"our probe: create-only, versions", "supported", "supported", "supported", probed(archive.CanCreateOnly), withOlder},
	{"our probe: checksums", "supported", "supported", "absent", probed(archive.CanChecksum), plain},
	{"our probe: versioning", "supported", "supported", "supported", probed(archive.CanVersion), withOlder},
	{"our probe: object lock", "supported", "supported", "supported", probed(archive.CanLock), withLock},
	{"our probe: object lock, bucket without", "absent", "absent", "absent", probed(archive.CanLock), withOlder},
	{"our probe: legal hold", "supported", "supported", "supported", probed(archive.CanHold), withLock},
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func kept(is bool) string {
	if is {
		return "kept"
	}
	return "dropped"
}

// wrongPayload signs for other bytes than are sent.
func wrongPayload(o *awss3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("wrongPayload",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				return next.HandleInitialize(v4.SetPayloadHash(ctx, fmt.Sprintf("%x", sha256.Sum256([]byte("other")))), in)
			}), middleware.Before)
	})
}

func (r raw) shadows() string {
	for _, err := range open(r.t, r.server, r.bucket, nil).Shadows(r.t.Context(), "") {
		return said(err, "found")
	}
	return "not found"
}

func probed(name string) func(r raw) string {
	return func(r raw) string {
		store := open(r.t, r.server, r.bucket, nil)
		put(r.t, store, "policy/1", "content", archive.PutOptions{})
		return string(probe(r.t, store, "policy/1")[name].State)
	}
}

func probe(t *testing.T, store *s3.Store, name string) map[string]archive.Capability {
	t.Helper()
	capabilities, err := store.Probe(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]archive.Capability{}
	for _, c := range capabilities {
		found[c.Name] = c
	}
	want(t, store, name, "content")
	for o, err := range store.List(t.Context(), "") {
		if err != nil || o.Name != name {
			t.Errorf("the probe left %s, %v", o.Name, err)
		}
	}
	return found
}

func (b behaviour) known(kind string) string {
	return map[string]string{s3test.VersityGW: b.versitygw, s3test.MinIO: b.minio, s3test.Ceph: b.ceph}[kind]
}

// TestServers holds what servers enforce, ignore and drop against what is known
// of them, and shows it as a table (go test -v).
func TestServers(t *testing.T) {
	kinds, err := s3test.Kinds()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			s := server(t, kind)
			for _, b := range behaviours {
				got := b.try(newRaw(t, s, b.bucket))
				found[kind] = append(found[kind], got)
				if got != b.known(kind) {
					t.Errorf("%s: %s, and was %s when this was written", b.name, got, b.known(kind))
				}
			}
		})
	}
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\t%s\n", strings.Join(kinds, "\t"))
	for i, b := range behaviours {
		row := []string{b.name}
		for _, kind := range kinds {
			if i < len(found[kind]) {
				row = append(row, found[kind][i])
			} else {
				row = append(row, "-")
			}
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
	t.Logf("what each server does:\n%s", table.String())
}
