package s3_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/s3"
	"github.com/otsnap/otsnap/archive/s3/s3test"
	"github.com/otsnap/otsnap/manifest"
)

// BenchmarkPut puts chunks of 64 MiB in turn by the SDK's own uploader and by a
// Store, one at a time, and reports how much of the uploader's throughput a Store
// has. A Store sends the digest it is given; the uploader sends parts, 5 at a time,
// with CRC32.
func BenchmarkPut(b *testing.B) {
	eachPair(b, func(b *testing.B, p pair) {
		opts := archive.PutOptions{SHA256: manifest.Hash(sha256.Sum256(p.data)), Bulk: true}
		uploader := transfermanager.New(p.client)
		var theirs, ours time.Duration
		for i := 0; b.Loop(); i++ {
			begin := time.Now()
			_, err := uploader.UploadObject(b.Context(), &transfermanager.UploadObjectInput{
				Bucket: &p.bucket, Key: aws.String(fmt.Sprintf("theirs/%d", i)), Body: bytes.NewReader(p.data),
			})
			if err != nil {
				b.Fatal(err)
			}
			theirs += time.Since(begin)
			begin = time.Now()
			if err := p.store.Put(b.Context(), fmt.Sprintf("ours/%d", i), bytes.NewReader(p.data), opts); err != nil {
				b.Fatal(err)
			}
			ours += time.Since(begin)
		}
		p.report(b, theirs, ours)
	})
}

// BenchmarkGet reads one chunk in turn by the SDK's GetObject and by a Store.
func BenchmarkGet(b *testing.B) {
	eachPair(b, func(b *testing.B, p pair) {
		if err := p.store.Put(b.Context(), "chunk", bytes.NewReader(p.data), archive.PutOptions{}); err != nil {
			b.Fatal(err)
		}
		var theirs, ours time.Duration
		for b.Loop() {
			begin := time.Now()
			out, err := p.client.GetObject(b.Context(), &awss3.GetObjectInput{Bucket: &p.bucket, Key: aws.String("an/archive/chunk")})
			if err != nil {
				b.Fatal(err)
			}
			p.read(b, out.Body)
			theirs += time.Since(begin)
			begin = time.Now()
			body, err := p.store.Get(b.Context(), "chunk")
			if err != nil {
				b.Fatal(err)
			}
			p.read(b, body)
			ours += time.Since(begin)
		}
		p.report(b, theirs, ours)
	})
}

// pair is a Store and the SDK's client on the same bucket.
type pair struct {
	store  *s3.Store
	client *awss3.Client
	bucket string
	data   []byte
}

func eachPair(b *testing.B, bench func(b *testing.B, p pair)) {
	kinds, err := s3test.Kinds()
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 64<<20)
	rand.NewChaCha8([32]byte{}).Read(data)
	for _, kind := range kinds {
		b.Run(kind, func(b *testing.B) {
			dir, err := os.MkdirTemp(servers.dir, "bench")
			if err != nil {
				b.Fatal(err)
			}
			server, err := s3test.Start(context.Background(), kind, dir)
			if err != nil {
				b.Fatal(err)
			}
			defer server.Stop()
			b.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
			b.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
			if err := server.Bucket(b.Context(), "bench", s3test.BucketOptions{}); err != nil {
				b.Fatal(err)
			}
			c, err := s3.ParseURL(server.URL("bench", "an/archive"))
			if err != nil {
				b.Fatal(err)
			}
			store, err := s3.Open(b.Context(), c)
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			bench(b, pair{store, server.Client(), "bench", data})
		})
	}
}

func (p pair) read(b *testing.B, body io.ReadCloser) {
	n, err := io.Copy(io.Discard, body)
	body.Close()
	if err != nil || n != int64(len(p.data)) {
		b.Fatalf("read %d bytes, error %v", n, err)
	}
}

func (p pair) report(b *testing.B, theirs, ours time.Duration) {
	mb := float64(len(p.data)) * float64(b.N) / 1e6
	b.ReportMetric(mb/theirs.Seconds(), "sdk-MB/s")
	b.ReportMetric(mb/ours.Seconds(), "ours-MB/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}
