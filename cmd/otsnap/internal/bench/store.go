package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	s3sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/s3"
	"github.com/otsnap/otsnap/archive/s3/s3test"
	"golang.org/x/sync/errgroup"
)

// What is put and got: objects as large as chunks are, several at once.
const (
	objectBytes  = 16 << 20
	objectCount  = 16
	objectsAbout = 4 // at once
	rounds       = 3
)

// way is one way to move objects.
type way struct {
	name string
	put  func(ctx context.Context, name string, data []byte, digest [sha256.Size]byte) error
	get  func(ctx context.Context, name string) (io.ReadCloser, error)

	putWall, putCPU, getWall, getCPU time.Duration
}

// benchStores moves the same bytes to and from an S3 server on this machine, by
// our store and by the SDK's own transfer manager in turns.
func benchStores(ctx context.Context, dir string) error {
	server, err := s3test.Start(ctx, "versitygw", filepath.Join(dir, "s3"))
	if err != nil {
		return err
	}
	defer server.Stop()
	if err := server.Bucket(ctx, "bench", s3test.BucketOptions{}); err != nil {
		return err
	}
	// The SDK's default chain has the credentials from here.
	os.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
	os.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
	ways, err := storeWays(ctx, server)
	if err != nil {
		return err
	}
	data := make([]byte, objectBytes)
	rand.NewChaCha8([32]byte{1}).Read(data)
	digest := sha256.Sum256(data)
	for round := range rounds {
		for i := range ways {
			if err := ways[i].run(ctx, round, data, digest); err != nil {
				return fmt.Errorf("%s: %w", ways[i].name, err)
			}
		}
	}
	return reportStores(ways)
}

func storeWays(ctx context.Context, server *s3test.Server) ([]way, error) {
	config, err := s3.ParseURL(server.URL("bench", "otsnap"))
	if err != nil {
		return nil, err
	}
	store, err := s3.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	client := s3sdk.New(s3sdk.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(server.Endpoint), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
	})
	manager := transfermanager.New(client)
	return []way{{
		name: "transfer manager of aws-sdk-go-v2",
		put: func(ctx context.Context, name string, data []byte, _ [sha256.Size]byte) error {
			_, err := manager.UploadObject(ctx, &transfermanager.UploadObjectInput{
				Bucket: aws.String("bench"), Key: aws.String("sdk/" + name), Body: bytes.NewReader(data),
			})
			return err
		},
		get: func(ctx context.Context, name string) (io.ReadCloser, error) {
			object, err := manager.GetObject(ctx, &transfermanager.GetObjectInput{Bucket: aws.String("bench"), Key: aws.String("sdk/" + name)})
			if err != nil {
				return nil, err
			}
			return io.NopCloser(object.Body), nil
		},
	}, {
		name: "otsnap, create-only, SHA-256 checked",
		put: func(ctx context.Context, name string, data []byte, digest [sha256.Size]byte) error {
			return store.Put(ctx, name, bytes.NewReader(data), archive.PutOptions{SHA256: digest, Bulk: true})
		},
		get: func(ctx context.Context, name string) (io.ReadCloser, error) { return store.Get(ctx, name) },
	}}, nil
}

// run puts the objects of a round and gets them again.
func (w *way) run(ctx context.Context, round int, data []byte, digest [sha256.Size]byte) error {
	put := func(ctx context.Context, name string) error { return w.put(ctx, name, data, digest) }
	get := func(ctx context.Context, name string) error {
		body, err := w.get(ctx, name)
		if err != nil {
			return err
		}
		defer body.Close()
		n, err := io.Copy(io.Discard, body)
		if err == nil && n != objectBytes {
			err = fmt.Errorf("got %d bytes", n)
		}
		return err
	}
	if err := timed(ctx, round, put, &w.putWall, &w.putCPU); err != nil {
		return err
	}
	return timed(ctx, round, get, &w.getWall, &w.getCPU)
}

func timed(ctx context.Context, round int, move func(context.Context, string) error, wall, cpu *time.Duration) error {
	began, used := time.Now(), cpuTime()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(objectsAbout)
	for i := range objectCount {
		group.Go(func() error { return move(ctx, fmt.Sprintf("%d/%d", round, i)) })
	}
	err := group.Wait()
	*wall += time.Since(began)
	*cpu += cpuTime() - used
	return err
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportStores prints the ways. Ratios above 1 are in favour of otsnap.
func reportStores(ways []way) error {
	const megabytes = rounds * objectCount * objectBytes / 1e6
	fmt.Printf("\n%d objects of %d MiB to and from versitygw on this machine, %d at once\n\n", rounds*objectCount, objectBytes>>20, objectsAbout)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tput MB/s\tput CPU ms/MB\tget MB/s\tget CPU ms/MB\tput, times faster\tget, times faster\t")
	for i, w := range ways {
		faster := []any{"", ""}
		if i > 0 {
			faster = []any{
				fmt.Sprintf("%.2f", ways[0].putWall.Seconds()/w.putWall.Seconds()),
				fmt.Sprintf("%.2f", ways[0].getWall.Seconds()/w.getWall.Seconds()),
			}
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%.0f\t%.2f\t%s\t%s\t\n", w.name, megabytes/w.putWall.Seconds(), w.putCPU.Seconds()*1e3/megabytes,
			megabytes/w.getWall.Seconds(), w.getCPU.Seconds()*1e3/megabytes, faster[0], faster[1])
	}
	return t.Flush()
}
