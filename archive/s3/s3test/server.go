package s3test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/otsnap/otsnap/archive"
)

// The kinds of servers.
const (
	VersityGW = "versitygw"
	MinIO     = "minio"
	Ceph      = "ceph" // needs ceph-mon, ceph-mgr, ceph-osd and radosgw on the PATH
)

// ErrNotInstalled is wrapped by the error of Start where a server cannot be built
// and is not on this machine.
var ErrNotInstalled = errors.New("not installed here")

// Kinds are the servers tests are to run against: those in OTSNAP_S3, separated
// by commas, or versitygw.
func Kinds() ([]string, error) {
	text := os.Getenv("OTSNAP_S3")
	if text == "" {
		return []string{VersityGW}, nil
	}
	kinds := strings.Split(text, ",")
	for _, kind := range kinds {
		if !slices.Contains([]string{VersityGW, MinIO, Ceph}, kind) {
			return nil, fmt.Errorf("s3test: OTSNAP_S3 names %q; there are %s, %s and %s", kind, VersityGW, MinIO, Ceph)
		}
	}
	return kinds, nil
}

// Credentials of the server's root user, and its region.
const (
	accessKey = "otsnaptest"
	secretKey = "otsnap-test-secret"
	region    = "us-east-1"
)

// KMSKey is the name of the one key that MinIO and Ceph encrypt with when asked
// for aws:kms.
const KMSKey = "otsnap-test-key"

// Server is a running server.
type Server struct {
	Kind      string
	Endpoint  string // http://127.0.0.1:port
	AccessKey string
	SecretKey string

	processes []*process
}

// Start starts a server that keeps everything in dir, and waits until it answers.
func Start(ctx context.Context, kind, dir string) (*Server, error) {
	var s *Server
	var err error
	for range 3 { // a free port may be taken before the server listens on it
		s, err = start(ctx, kind, dir)
		if err == nil || !errors.Is(err, errEnded) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("s3test: start %s: %w", kind, err)
	}
	return s, nil
}

// errEnded is wrapped by the error of a server that ended at once.
var errEnded = errors.New("ended")

func start(ctx context.Context, kind, dir string) (*Server, error) {
	begin := map[string]func(context.Context, *Server, string, string) error{VersityGW: startVersityGW, MinIO: startMinIO, Ceph: startCeph}[kind]
	if begin == nil {
		return nil, errors.New("there is no such server")
	}
	addresses, err := free(1)
	if err != nil {
		return nil, err
	}
	s := &Server{Kind: kind, Endpoint: "http://" + addresses[0], AccessKey: accessKey, SecretKey: secretKey}
	err = begin(ctx, s, dir, addresses[0])
	if err == nil {
		err = s.ready(ctx)
	}
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func startVersityGW(ctx context.Context, s *Server, dir, address string) error {
	binary, err := Install(ctx, VersityGW)
	if err != nil {
		return err
	}
	folders := make([]string, 3)
	for i, name := range []string{"iam", "versions", "data"} {
		folders[i] = filepath.Join(dir, name)
		if err := os.MkdirAll(folders[i], 0o755); err != nil {
			return err
		}
	}
	return s.run(dir, []string{"ROOT_ACCESS_KEY=" + accessKey, "ROOT_SECRET_KEY=" + secretKey},
		binary, "--quiet", "--region", region, "--port", address, "--iam-dir", folders[0], "posix", "--versioning-dir", folders[1], folders[2])
}

func startMinIO(ctx context.Context, s *Server, dir, address string) error {
	binary, err := Install(ctx, MinIO)
	if err != nil {
		return err
	}
	env := []string{
		"MINIO_ROOT_USER=" + accessKey, "MINIO_ROOT_PASSWORD=" + secretKey, "MINIO_UPDATE=off", "MINIO_BROWSER=off",
		"MINIO_KMS_SECRET_KEY=" + KMSKey + ":" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"HOME=" + dir,
	}
	return s.run(dir, env, binary, "server", "--quiet", "--address", address, filepath.Join(dir, "data"))
}

// Stop ends the server. What it kept stays where it is.
func (s *Server) Stop() {
	for _, p := range slices.Backward(s.processes) {
		p.stop()
	}
	s.processes = nil
}

// ready waits until requests are answered, or a process has ended.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	client := s.Client()
	for {
		_, err := client.ListBuckets(ctx, &s3.ListBucketsInput{})
		if err == nil {
			return nil
		}
		for _, p := range s.processes {
			if ended, reason := p.ended(); ended {
				return fmt.Errorf("%s %w (%v):\n%s", filepath.Base(p.cmd.Path), errEnded, reason, p.tail())
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("does not answer: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Client is the SDK's own client for the server, with root's credentials.
func (s *Server) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &s.Endpoint, UsePathStyle: true, Region: region, HTTPClient: &http.Client{Timeout: time.Minute},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}, nil
		}),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

// URL is that of an archive in the bucket, as otsnap takes it.
func (s *Server) URL(bucket, prefix string) string {
	query := url.Values{"endpoint": {s.Endpoint}, "region": {region}, "path-style": {"true"}}
	u := url.URL{Scheme: "s3", Host: bucket, RawQuery: query.Encode()}
	if prefix != "" {
		u.Path = "/" + prefix
	}
	return u.String()
}

// Env are the variables that give a process root's credentials, and no others.
func (s *Server) Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey, "AWS_SESSION_TOKEN=", "AWS_PROFILE=",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "AWS_EC2_METADATA_DISABLED=true",
	}
}

// BucketOptions are what a bucket is made with.
type BucketOptions struct {
	Versioned   bool
	Suspended   bool         // versioned once, and no more
	Lock        bool         // object lock, with which goes Versioned
	DefaultMode archive.Mode // of objects put without a lock, for DefaultDays
	DefaultDays int
}

// Bucket makes a bucket.
func (s *Server) Bucket(ctx context.Context, name string, opts BucketOptions) error {
	if err := s.bucket(ctx, name, opts); err != nil {
		return fmt.Errorf("s3test: bucket %s on %s: %w", name, s.Kind, err)
	}
	return nil
}

func (s *Server) bucket(ctx context.Context, name string, opts BucketOptions) error {
	client := s.Client()
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name, ObjectLockEnabledForBucket: aws.Bool(opts.Lock)})
	if err != nil {
		return err
	}
	var states []types.BucketVersioningStatus
	if opts.Versioned || opts.Suspended {
		states = append(states, types.BucketVersioningStatusEnabled)
	}
	if opts.Suspended {
		states = append(states, types.BucketVersioningStatusSuspended)
	}
	for _, state := range states {
		_, err := client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
			Bucket: &name, VersioningConfiguration: &types.VersioningConfiguration{Status: state}, ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		})
		if err != nil {
			return err
		}
	}
	if opts.DefaultMode == archive.Unlocked {
		return nil
	}
	_, err = client.PutObjectLockConfiguration(ctx, &s3.PutObjectLockConfigurationInput{
		Bucket: &name, ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		ObjectLockConfiguration: &types.ObjectLockConfiguration{
			ObjectLockEnabled: types.ObjectLockEnabledEnabled,
			Rule: &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{
				Mode: types.ObjectLockRetentionMode(strings.ToUpper(string(opts.DefaultMode))), Days: aws.Int32(int32(opts.DefaultDays)),
			}},
		},
	})
	return err
}

// free returns addresses on which nobody listens now.
func free(n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// process is a part of a server.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // after done
}

// run starts a process that belongs to the server.
func (s *Server) run(dir string, env []string, binary string, args ...string) error {
	f, err := os.CreateTemp(dir, filepath.Base(binary)+"-*.log")
	if err != nil {
		return err
	}
	defer f.Close()
	p := &process{cmd: exec.Command(binary, args...), log: f.Name(), done: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = dir, f, f, bound()
	started := make(chan error)
	go func() {
		// The child is bound to the thread that starts it, so that has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	return nil
}

func (p *process) ended() (bool, error) {
	select {
	case <-p.done:
		return true, p.err
	default:
		return false, nil
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill() // it has ended, or it will
	<-p.done
}

func (p *process) tail() string { return tail(p.log) }

// tail is the end of a file.
func tail(path string) string {
	const most = 2000
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-most):])
}
