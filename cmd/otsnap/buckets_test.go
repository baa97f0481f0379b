package main

import (
	"bytes"
	"context"
	"net/http/httptest"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	s3sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/otsnap/otsnap/archive/oss/osstest"
	"github.com/otsnap/otsnap/archive/s3/s3test"
	"github.com/rogpeppe/go-internal/testscript"
)

// buckets are the object storage of a script.
type buckets struct {
	s3    *s3test.Server
	oss   *osstest.Server
	front *httptest.Server // of oss
}

// scriptBucket makes a bucket, with a server if there is none yet, at $S3AT or
// $OSSAT, and sets $NAME to the address of an archive in it: bucket s3|oss NAME [lock|versioned].
func scriptBucket(ts *testscript.TestScript, _ bool, args []string) {
	kind, name, feature := args[0], args[1], strings.Join(args[2:], " ")
	b := &serviceOf(ts).buckets
	if kind == "s3" {
		b.startS3(ts)
		opts := s3test.BucketOptions{Lock: feature == "lock", Versioned: feature == "versioned"}
		ts.Check(b.s3.Bucket(context.Background(), name, opts))
		ts.Setenv(name, b.s3.URL(name, "shop"))
		return
	}
	b.startOSS(ts)
	ts.Check(b.oss.CreateBucket(name, osstest.BucketOptions{}))
	ts.Setenv(name, "oss://"+name+"/shop?region=cn-hangzhou&path-style=true&endpoint="+b.front.URL)
}

func (b *buckets) startS3(ts *testscript.TestScript) {
	if b.s3 != nil {
		return
	}
	var err error
	b.s3, err = s3test.Start(context.Background(), s3test.VersityGW, ts.MkAbs("s3"))
	ts.Check(err)
	ts.Defer(b.s3.Stop)
	ts.Setenv("S3AT", b.s3.Endpoint)
	for _, setting := range b.s3.Env() {
		name, value, _ := strings.Cut(setting, "=")
		ts.Setenv(name, value)
	}
}

func (b *buckets) startOSS(ts *testscript.TestScript) {
	if b.oss != nil {
		return
	}
	var err error
	b.oss, err = osstest.New(osstest.Options{})
	ts.Check(err)
	b.front = httptest.NewServer(b.oss)
	ts.Defer(b.front.Close)
	ts.Setenv("OSSAT", b.front.URL)
	ts.Setenv("OSS_ACCESS_KEY_ID", osstest.DefaultAccessKeyID)
	ts.Setenv("OSS_ACCESS_KEY_SECRET", osstest.DefaultAccessKeySecret)
}

// scriptAttack does to an object of a bucket on S3 what somebody with root's key
// can do, lock or not: attack overlay|hide BUCKET SUFFIX, for the first object
// whose name ends so.
func scriptAttack(ts *testscript.TestScript, _ bool, args []string) {
	ctx := context.Background()
	client, bucket := serviceOf(ts).buckets.s3.Client(), aws.String(args[1])
	list, err := client.ListObjectsV2(ctx, &s3sdk.ListObjectsV2Input{Bucket: bucket})
	ts.Check(err)
	for _, object := range list.Contents {
		if !strings.HasSuffix(*object.Key, args[2]) {
			continue
		}
		if args[0] == "hide" {
			_, err = client.DeleteObject(ctx, &s3sdk.DeleteObjectInput{Bucket: bucket, Key: object.Key})
		} else {
			_, err = client.PutObject(ctx, &s3sdk.PutObjectInput{Bucket: bucket, Key: object.Key, Body: bytes.NewReader([]byte("not what it was"))})
		}
		ts.Check(err)
		return
	}
	ts.Fatalf("no object in %s ends in %s", args[1], args[2])
}
