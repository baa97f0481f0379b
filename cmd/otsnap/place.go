package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/dir"
	"github.com/otsnap/otsnap/archive/oss"
	"github.com/otsnap/otsnap/archive/s3"
	"github.com/otsnap/otsnap/manifest"
)

// place is where an archive is or will be.
type place struct {
	kind  string // dir, s3 or oss
	name  string // in full: the same archive has the same name from everywhere
	path  string // the same without the server's address
	label string // its last part, for people
	// open opens the store, create makes it first where that is ours to do: a
	// directory is made, a bucket is not.
	open, create func(context.Context, storeOptions) (archive.Store, error)
}

// storeOptions are what the user asked of a store for one run.
type storeOptions struct {
	giveUpAfter time.Duration // of one request; 0: the store's own
	readBack    string        // how much of what was put is read again; empty: the store's own
	onRetry     func(error)
}

// idle is how long a connection may stand still: not longer than a request is
// tried. 0: the store's own.
func (o storeOptions) idle() time.Duration {
	if o.giveUpAfter > 0 && o.giveUpAfter < time.Minute {
		return o.giveUpAfter
	}
	return 0
}

// halfAddress is what becomes of an address with a slash too few.
var halfAddress = regexp.MustCompile(`^(?i:s3|oss|https?):`)

// locate finds the place of an ARCHIVE argument. It is the one switch over URL
// schemes.
func locate(location string) (place, error) {
	scheme, rest, hasScheme := strings.Cut(location, "://")
	switch {
	case halfAddress.MatchString(location) && !hasScheme:
		return place{}, misused("%s: write s3://BUCKET/PREFIX or oss://BUCKET/PREFIX; for a directory of that name, ./%s", location, location)
	case location == "":
		return place{}, misused("the archive's address is empty")
	case !hasScheme:
		return directory(location)
	case scheme == "dir":
		return directory(rest)
	case scheme == "s3":
		return onS3(location)
	case scheme == "oss":
		return onOSS(location)
	case scheme == "http", scheme == "https":
		return place{}, advise(misused("%s is the address of an instance, not of an archive", location),
			"the order is: otsnap export INSTANCE ARCHIVE, otsnap restore ARCHIVE INSTANCE")
	}
	return place{}, misused("no archive can be at %s:// addresses; there are s3://BUCKET/PREFIX, oss://BUCKET/PREFIX and the paths of directories", scheme)
}

func directory(location string) (place, error) {
	full, err := filepath.Abs(location)
	if err != nil {
		return place{}, misused("archive %q: %w", location, err)
	}
	using := func(open func(string) (*dir.Store, error)) func(context.Context, storeOptions) (archive.Store, error) {
		return func(_ context.Context, o storeOptions) (archive.Store, error) {
			if o.readBack != "" {
				return nil, misused("--read-back is for oss:// archives; a directory keeps what was synced to its disk")
			}
			return store(open(full))
		}
	}
	return place{kind: "dir", name: full, path: full, label: filepath.Base(full), open: using(dir.Open), create: using(dir.Create)}, nil
}

func onS3(location string) (place, error) {
	config, err := s3.ParseURL(location)
	if err != nil {
		return place{}, misused("%w", err)
	}
	open := func(ctx context.Context, o storeOptions) (archive.Store, error) {
		if o.readBack != "" {
			return nil, misused("--read-back is for oss:// archives; S3 checks the SHA-256 of what it takes itself")
		}
		config := config
		config.GiveUpAfter, config.OnRetry, config.Idle = o.giveUpAfter, o.onRetry, o.idle()
		return store(s3.Open(ctx, config))
	}
	return bucket("s3", config.Bucket, config.Prefix, config.Endpoint, open), nil
}

func onOSS(location string) (place, error) {
	config, err := oss.ParseURL(location)
	if err != nil {
		return place{}, misused("%w", err)
	}
	open := func(ctx context.Context, o storeOptions) (archive.Store, error) {
		config := config
		config.GiveUpAfter, config.OnRetry, config.Idle = o.giveUpAfter, o.onRetry, o.idle()
		switch which := oss.ReadBack(o.readBack); which {
		case "": // as the address says
		case oss.ReadBackAll, oss.ReadBackSample, oss.ReadBackNone:
			config.ReadBack = which
		default:
			return nil, misused("--read-back %s: there are all, sample and none", which)
		}
		return store(oss.Open(ctx, config))
	}
	return bucket("oss", config.Bucket, config.Prefix, config.Endpoint, open), nil
}

// bucket is a place in a bucket. Buckets of a cloud have one name from all its
// endpoints; those of other servers are told apart by theirs.
func bucket(kind, bucket, prefix, endpoint string, open func(context.Context, storeOptions) (archive.Store, error)) place {
	within := kind + "://" + path.Join(bucket, prefix)
	name := within
	if endpoint != "" && !strings.Contains(endpoint, ".amazonaws.com") && !strings.Contains(endpoint, ".aliyuncs.com") {
		name += " at " + endpoint
	}
	return place{kind: kind, name: name, path: within, label: path.Base(path.Join(bucket, prefix)), open: open, create: open}
}

// store keeps a nil pointer from becoming a Store that is not nil.
func store[S archive.Store](s S, err error) (archive.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// is reports whether two places are one, as far as addresses tell: a bucket may
// have several, and a directory too.
func (p place) is(o place) bool {
	if p.kind != "dir" || o.kind != "dir" {
		return p.name == o.name
	}
	a, errA := os.Stat(p.name)
	b, errB := os.Stat(o.name)
	return p.name == o.name || errA == nil && errB == nil && os.SameFile(a, b)
}

// within reports whether a place is o, or a folder in it, as far as addresses tell.
func (p place) within(o place) bool {
	if p.is(o) {
		return true
	}
	if p.kind != "dir" || o.kind != "dir" {
		return p.kind == o.kind && strings.HasPrefix(p.path, o.path+"/") && strings.TrimPrefix(p.name, p.path) == strings.TrimPrefix(o.name, o.path)
	}
	up, err := filepath.EvalSymlinks(p.name)
	for part := p.name; errors.Is(err, fs.ErrNotExist) && part != filepath.Dir(part); { // it is still to be made
		part = filepath.Dir(part)
		up, err = filepath.EvalSymlinks(part)
	}
	for ; err == nil && up != filepath.Dir(up); up = filepath.Dir(up) {
		if (place{kind: "dir", name: up}).is(o) {
			return true
		}
	}
	return false
}

// noArchive adds to the error of a place without an archive what may be the reason.
func (p place) noArchive(location string, err error) error {
	return advise(err, "%s A new archive is made by: otsnap init %s --key FILE", p.look(), quoted(location))
}

// archiveGone is the error of a place where there was an archive.
func (p place) archiveGone(seen int64, err error) error {
	gone := fmt.Errorf("%s: snapshots up to number %d were seen here, and now it is no archive: %w", p.name, seen, err)
	return advise(labelled{gone, manifest.ErrRollback}, "%s Then somebody may have removed it: look among older versions of the objects, and in other copies", p.look())
}

func (p place) look() string {
	if p.kind == "dir" {
		return "is the path right, and the disk mounted?"
	}
	return "are bucket and prefix right?"
}

// retried tells of a request that a store refused or lost and that is made again.
func (a *app) retried(reason error) {
	if a.shown != nil {
		a.shown.Retry(sentence(reason.Error()))
		return
	}
	a.warn("trying again: %s", sentence(reason.Error()))
}

// quoted writes an argument so that a shell takes it as one.
func quoted(arg string) string {
	if strings.ContainsAny(arg, "?*&; $'\"()<>|#!`\\[]{}~") {
		return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
	}
	return arg
}
