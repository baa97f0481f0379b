// Package s3 keeps an archive in a bucket of Amazon S3 or of a server that
// speaks its protocol, such as MinIO, Ceph RGW or versitygw. Every object is one
// PutObject, which the server refuses over an existing one and whose SHA-256 it
// checks. Servers drop headers they do not know without a word: what was asked
// for in one is read back before Put believes it.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/internal/remote"
)

// Store keeps objects in a bucket. It may be used concurrently.
type Store struct {
	config      Config
	client      *s3.Client
	credentials *credentials
	transport   *http.Transport
	retry       remote.Retry

	mu     sync.Mutex
	region string
	seen   bool              // the bucket has answered as one that exists
	wrote  bool              // a PUT has succeeded
	oldest map[string]string // version ids by key, see cache

	versioning once[versioning]
	locking    once[locking]
}

var (
	_ archive.Store    = (*Store)(nil)
	_ archive.Locker   = (*Store)(nil)
	_ archive.Thawer   = (*Store)(nil)
	_ archive.Shadower = (*Store)(nil)
	_ archive.Prober   = (*Store)(nil)
)

// defaultRegion is where a request goes that knows no better: from there S3
// tells where the bucket is, and servers of one region take it for theirs.
const defaultRegion = "us-east-1"

// Open makes a store. Credentials are those that other AWS tools would use: of
// the environment, of a profile, of the machine's or the container's role. It
// does not connect to the bucket.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	load := func(ctx context.Context) (aws.Config, error) { return loadConfig(ctx, c) }
	cfg, err := load(ctx)
	if err != nil {
		return nil, fmt.Errorf("s3: open %s: AWS configuration: %w", c, remote.Unavailable(ctx, err))
	}
	s := &Store{
		config:      c,
		credentials: &credentials{load: load, provider: cfg.Credentials},
		transport:   newTransport(c, cfg),
		region:      cfg.Region,
		oldest:      map[string]string{},
	}
	s.retry = remote.Retry{GiveUpAfter: c.GiveUpAfter, OnRetry: s.onRetry, Temporary: temporary}
	s.client = s3.NewFromConfig(cfg, s.clientOptions)
	return s, nil
}

func loadConfig(ctx context.Context, c Config) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{config.WithDefaultRegion(defaultRegion), config.WithLogger(logging.Nop{})}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.Profile))
	}
	return config.LoadDefaultConfig(ctx, options...)
}

// newTransport is remote's, with the certificates that the AWS configuration
// trusts (AWS_CA_BUNDLE, ca_bundle).
func newTransport(c Config, cfg aws.Config) *http.Transport {
	idle := c.Idle
	if idle <= 0 {
		idle = remote.Idle
	}
	t := remote.Transport(idle)
	if client, ok := cfg.HTTPClient.(interface{ GetTransport() *http.Transport }); ok {
		if tls := client.GetTransport().TLSClientConfig.Clone(); tls != nil {
			tls.NextProtos = t.TLSClientConfig.NextProtos // the SDK's would offer HTTP/2
			t.TLSClientConfig = tls
		}
	}
	return t
}

func (s *Store) clientOptions(o *s3.Options) {
	o.HTTPClient = &http.Client{
		Transport: answers{remote.Bounded{RoundTripper: s.transport}},
		// A redirect names another region, for which the request has to be signed anew.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	o.Credentials = s.credentials
	o.Retryer = aws.NopRetryer{}
	o.Logger = logging.Nop{}
	o.UsePathStyle = s.config.PathStyle
	if s.config.Endpoint != "" {
		o.BaseEndpoint = &s.config.Endpoint
	}
	// What is put has its SHA-256 in a header, and what is read is compared with
	// what was signed: the SDK's own checksums would come on top.
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	if s.config.RequestPayer {
		o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("x-amz-request-payer", "requester"))
	}
}

// Close ends idle connections. Bodies being read stay readable.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

func (s *Store) onRetry(reason error) {
	if s.config.OnRetry != nil {
		s.config.OnRetry(s.explain("", reason))
	}
}

// Get opens an object.
func (s *Store) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	b, err := s.get(ctx, name)
	if err != nil {
		return nil, s.failed(ctx, "get", name, err)
	}
	return &body{Body: b, store: s, ctx: ctx, name: name}, nil
}

func (s *Store) get(ctx context.Context, name string) (*remote.Body, error) {
	if err := archive.CheckName(name); err != nil {
		return nil, err
	}
	var b *remote.Body
	err := s.current(ctx, name, func(version string) (err error) {
		if b != nil {
			b.Close()
		}
		r := &reading{store: s, ctx: ctx, key: s.config.key(name), version: version}
		b, err = remote.NewBody(ctx, s.retry, func(offset int64) (remote.Part, error) {
			var part remote.Part
			err := s.once(ctx, func(o func(*s3.Options)) (err error) {
				part, err = r.open(offset, o)
				return err
			})
			return part, err
		})
		if code(err) == "InvalidObjectState" {
			return fmt.Errorf("%w (%s)", archive.ErrFrozen, brief(err))
		}
		return s.absent(ctx, reads(version), err)
	})
	if err != nil && b != nil {
		b.Close()
		b = nil
	}
	return b, err
}

// reading opens one version of an object, from the first request on always the
// same.
type reading struct {
	store   *Store
	ctx     context.Context
	key     string
	version string
	etag    string // where there is no version
}

func (r *reading) open(offset int64, o func(*s3.Options)) (remote.Part, error) {
	in := &s3.GetObjectInput{Bucket: &r.store.config.Bucket, Key: &r.key, VersionId: optional(r.version)}
	if offset > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
		if r.version == "" {
			in.IfMatch = optional(r.etag)
		}
	}
	out, err := r.store.client.GetObject(r.ctx, in, o)
	if err != nil {
		return remote.Part{}, err
	}
	r.store.learn(out.VersionId)
	part := remote.Part{Body: out.Body, Size: aws.ToInt64(out.ContentLength)}
	if offset == 0 && out.ContentLength == nil {
		out.Body.Close()
		return remote.Part{}, errors.New("the answer does not tell its length, so that its end could be anywhere; is there a proxy?")
	}
	if offset > 0 {
		part.Size, err = wholeSize(aws.ToString(out.ContentRange), offset)
		if err != nil {
			out.Body.Close()
			return remote.Part{}, err
		}
	}
	if r.version == "" {
		r.version, r.etag = aws.ToString(out.VersionId), aws.ToString(out.ETag)
	}
	return part, nil
}

// wholeSize reads the size of an object out of the Content-Range of an answer
// that should begin at offset.
func wholeSize(header string, offset int64) (int64, error) {
	var first, last, whole int64
	if _, err := fmt.Sscanf(header, "bytes %d-%d/%d", &first, &last, &whole); err != nil || first != offset {
		return 0, fmt.Errorf("the server was asked for the bytes from %d on and sent %q", offset, header)
	}
	return whole, nil
}

// optional is a parameter that is left out where it is empty.
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// body says of which object its errors are.
type body struct {
	*remote.Body
	store *Store
	ctx   context.Context
	name  string
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	if err != nil && err != io.EOF {
		err = b.store.failed(b.ctx, "get", b.name, b.store.explain("s3:GetObject", err))
	}
	return n, err
}

// List yields objects in the byte order of their names, a page at a time. Where
// the bucket keeps versions it reads all of them to find the oldest.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		err := s.list(ctx, prefix, func(o archive.Object) bool { return yield(o, nil) })
		if err != nil {
			yield(archive.Object{}, s.failed(ctx, "list", fmt.Sprintf("%q", prefix), err))
		}
	}
}

func (s *Store) list(ctx context.Context, prefix string, yield func(archive.Object) bool) error {
	asked, ok := listable(prefix)
	if !ok {
		return ctx.Err()
	}
	versions, err := s.keepsVersions(ctx)
	if err != nil {
		return err
	}
	objects := s.objects(ctx, s.config.key(asked))
	if versions {
		objects = s.oldestVersions(ctx, s.config.key(asked))
	}
	last := ""
	for o, err := range objects {
		if err != nil {
			return err
		}
		if o.Name <= last {
			return fmt.Errorf("the server lists %q after %q, which is not in the byte order of names", o.Name, last)
		}
		last = o.Name
		if !strings.HasPrefix(o.Name, prefix) || archive.CheckName(o.Name) != nil {
			continue // not ours
		}
		if !yield(o) {
			return nil
		}
	}
	return ctx.Err()
}

// listable returns the part of prefix a server can be asked for, and whether any
// name can begin with prefix at all.
func listable(prefix string) (string, bool) {
	asked := prefix
	for i := 1; i < utf8.UTFMax && !utf8.ValidString(asked) && len(asked) > 0; i++ {
		asked = asked[:len(asked)-1] // a rune that was cut
	}
	return asked, archive.CheckName(asked) == nil || archive.CheckName(asked+"x") == nil
}

// objects lists a bucket that keeps no versions.
func (s *Store) objects(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &s.config.Bucket, Prefix: &prefix, EncodingType: "url"}
		for {
			var out *s3.ListObjectsV2Output
			err := s.do(ctx, "s3:ListBucket", func(o func(*s3.Options)) (err error) {
				out, err = s.client.ListObjectsV2(ctx, in, o)
				return err
			})
			if err != nil {
				yield(archive.Object{}, err)
				return
			}
			for _, entry := range out.Contents {
				key, err := decodeKey(string(out.EncodingType), aws.ToString(entry.Key))
				if !yield(archive.Object{Name: s.config.name(key), Size: aws.ToInt64(entry.Size)}, err) || err != nil {
					return
				}
			}
			next := aws.ToString(out.NextContinuationToken)
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			if next == "" || next == aws.ToString(in.ContinuationToken) {
				yield(archive.Object{}, errors.New("the server says there is more to list and not where"))
				return
			}
			in.ContinuationToken = &next
		}
	}
}

// Delete removes an object: where the bucket keeps versions all that ever had
// its name, so that the name is free.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.delete(ctx, name); err != nil {
		return s.failed(ctx, "delete", name, err)
	}
	return nil
}

func (s *Store) delete(ctx context.Context, name string) error {
	if err := archive.CheckName(name); err != nil {
		return err
	}
	versions, err := s.keepsVersions(ctx)
	if err != nil {
		return err
	}
	if versions {
		return s.deleteVersions(ctx, s.config.key(name))
	}
	if _, err := s.inspect(ctx, name); err != nil {
		return err // a DELETE of what is not there is a success
	}
	if versions, _ := s.keepsVersions(ctx); versions { // as has shown only now
		return s.deleteVersions(ctx, s.config.key(name))
	}
	return s.remove(ctx, s.config.key(name), "")
}

// remove removes one version, or the object of a bucket that keeps none.
func (s *Store) remove(ctx context.Context, key, version string) error {
	right := "s3:DeleteObject"
	if version != "" {
		right = "s3:DeleteObjectVersion"
	}
	err := s.do(ctx, right, func(o func(*s3.Options)) error {
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.config.Bucket, Key: &key, VersionId: optional(version)}, o)
		return err
	})
	s.forget(key)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.lockedOr(ctx, key, version, err)
}
