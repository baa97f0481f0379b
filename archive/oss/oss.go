// Package oss keeps an archive in a bucket of Alibaba Cloud OSS.
//
// OSS keeps MD5 and CRC64 of an object and no SHA-256, so what was written is
// read back: all of it, a sample, or nothing, as [Config] says. Retention is the
// bucket's own (bucket WORM), counted from an object's last modification; there
// is none for single objects here.
//
// Where a bucket keeps versions, OSS does not heed the header that forbids
// overwriting. An object is then its oldest version, and whoever put a later one
// takes it back. In a bucket whose versioning is suspended a second write
// replaces the first whatever is asked, so there is no Put.
package oss

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/internal/remote"
)

var (
	_ archive.Store        = (*Store)(nil)
	_ archive.BucketLocker = (*Store)(nil)
	_ archive.Thawer       = (*Store)(nil)
	_ archive.Shadower     = (*Store)(nil)
	_ archive.Prober       = (*Store)(nil)
)

// Store is an archive in a bucket. It is safe for concurrent use.
type Store struct {
	config      Config
	bucket      *oss.Bucket
	credentials *credentials
	retry       remote.Retry
	reached     atomic.Bool // the service answered, so its name is right

	mu         sync.Mutex // guards what follows
	versioning versioning
	worm       archive.BucketLock
	wormAsked  time.Time // when worm was last asked for; zero: never
	told       time.Time // the service's clock, as last told; zero: never
	toldAt     time.Time
}

// Open returns a store that works as c says. It sends nothing: a bucket that is
// not there, or credentials that do not work, show at the first use.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("oss: %w", err)
	}
	endpoint, region, err := c.address()
	if err != nil {
		return nil, fmt.Errorf("oss: %w", err)
	}
	s := &Store{config: c, credentials: newCredentials(c.Credentials)}
	s.retry = remote.Retry{GiveUpAfter: c.GiveUpAfter, OnRetry: c.OnRetry, Temporary: s.temporary}
	idle := c.Idle
	if idle <= 0 {
		idle = remote.Idle
	}
	client, err := oss.New(endpoint, "", "",
		oss.AuthVersion(oss.AuthV4),
		oss.Region(region),
		oss.SetCredentialsProvider(s.credentials),
		oss.ForcePathStyle(c.PathStyle),
		oss.UserAgent("otsnap"),
		oss.EnableCRC(false), // it passes a missing CRC; this package compares
		oss.HTTPClient(&http.Client{
			Transport: remote.Bounded{RoundTripper: remote.Transport(idle)},
			// A redirect would carry the signature of another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}))
	if err != nil {
		return nil, fmt.Errorf("oss: endpoint %s: %w", endpoint, err)
	}
	if s.bucket, err = client.Bucket(c.Bucket); err != nil {
		return nil, fmt.Errorf("oss: %w", err)
	}
	return s, nil
}

// key returns the key of the object called name.
func (s *Store) key(name string) (string, error) {
	if err := archive.CheckName(name); err != nil {
		return "", err
	}
	return s.root() + name, nil
}

// root is what all keys of the archive begin with.
func (s *Store) root() string {
	if s.config.Prefix == "" {
		return ""
	}
	return s.config.Prefix + "/"
}
