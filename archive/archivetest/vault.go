package archivetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// Storage classes of a [Vault], as Inspect tells them.
const (
	ClassStandard = "STANDARD"
	ClassArchive  = "ARCHIVE"
)

// Vault is a store in memory that can do all a store may: keep versions, lock
// and hold objects, retain a whole bucket, check digests, and freeze and thaw.
// The zero value is empty, ready, and does all of it but freeze. Its fields take
// abilities away; they are set before it is used, or between calls.
//
// Some of its methods are no Store's: Overlay, Mark and Bypass do what others
// with rights to the bucket can do, and Tamper, Replace, Unlock and Erase what
// only those who run the storage can.
type Vault struct {
	Now func() time.Time // nil: time.Now

	// Default and DefaultPeriod are the bucket's lock of every object put without
	// one.
	Default       archive.Mode
	DefaultPeriod archive.Period

	// FreezeBulk puts objects that are Bulk in [ClassArchive], frozen at once.
	FreezeBulk bool
	// ThawTime is how long an object takes to thaw; 0: it is there at once.
	ThawTime time.Duration
	// Encryption is what Inspect says of server-side encryption.
	Encryption string

	IgnoreCreateOnly bool // a second Put of a name is taken: as a newer version or, without versions, over the first
	NoVersions       bool // and so no locks: they are a version's
	NoLocks          bool // locks and holds are refused with errors.ErrUnsupported
	// DropLocks takes locks and holds, says nothing, and forgets them, as some
	// servers do. A good store notices and refuses; this one is to test who asks it.
	DropLocks    bool
	NoBucketLock bool
	NoChecksums  bool // PutOptions.SHA256 is not looked at, and no digest kept
	NoTiers      bool // FreezeBulk does nothing
	// Blind is a reader without the right to list versions: Shadows does not know.
	Blind bool
	// Unsure are the capabilities that Probe answers Unknown.
	Unsure []string

	mu      sync.Mutex
	objects map[string][]*version // oldest first, never empty
	serial  int                   // of versions
	bucket  archive.BucketLock
}

var (
	_ archive.Store        = (*Vault)(nil)
	_ archive.Locker       = (*Vault)(nil)
	_ archive.BucketLocker = (*Vault)(nil)
	_ archive.Thawer       = (*Vault)(nil)
	_ archive.Shadower     = (*Vault)(nil)
	_ archive.Prober       = (*Vault)(nil)
)

// version is one version of an object, or a delete marker.
type version struct {
	id       string
	marker   bool
	data     []byte
	sum      manifest.Hash
	modified time.Time
	lock     archive.Lock
	archived bool
	thawed   time.Time // when the copy asked for is there; zero: none was
	freezes  time.Time // when it is gone again
}

// Put stores body under a name that is still free.
func (v *Vault) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	if err := v.put(ctx, name, body, opts); err != nil {
		return fmt.Errorf("vault: put %.600s: %w", name, err)
	}
	return nil
}

func (v *Vault) put(ctx context.Context, name string, body io.Reader, opts archive.PutOptions) error {
	if err := archive.CheckName(name); err != nil {
		return err
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	made := &version{data: data, archived: opts.Bulk && v.FreezeBulk && !v.NoTiers}
	if !v.NoChecksums {
		made.sum = sha256.Sum256(data)
		if opts.SHA256 != (manifest.Hash{}) && opts.SHA256 != made.sum {
			return fmt.Errorf("bytes came that are not those of the digest: %w", archive.ErrUnavailable)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if made.lock, err = v.lockOf(opts.Lock); err != nil {
		return err
	}
	return v.store(name, made)
}

func (v *Vault) store(name string, made *version) error {
	old := v.object(name)
	if old == nil || v.IgnoreCreateOnly && !v.NoVersions {
		v.add(name, made)
		return nil
	}
	if !v.IgnoreCreateOnly {
		return fs.ErrExist
	}
	return v.overwrite(name, made)
}

// overwrite is what a bucket without versions does.
func (v *Vault) overwrite(name string, made *version) error {
	if v.retained(v.object(name)) {
		return archive.ErrLocked
	}
	delete(v.objects, name)
	v.add(name, made)
	return nil
}

func (v *Vault) add(name string, made *version) {
	if v.objects == nil {
		v.objects = make(map[string][]*version)
	}
	v.serial++
	made.id = fmt.Sprintf("v%08d", v.serial)
	made.modified = v.now().Truncate(time.Second)
	v.objects[name] = append(v.objects[name], made)
}

// object returns the version that is the object: the oldest. nil: there is none.
func (v *Vault) object(name string) *version {
	for _, one := range v.objects[name] {
		if !one.marker {
			return one
		}
	}
	return nil
}

func (v *Vault) now() time.Time {
	if v.Now == nil {
		return time.Now().UTC()
	}
	return v.Now().UTC()
}

// find is object for a call that may be made.
func (v *Vault) find(ctx context.Context, name string) (*version, error) {
	if err := archive.CheckName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found := v.object(name)
	if found == nil {
		return nil, fs.ErrNotExist
	}
	return found, nil
}

// Get opens an object. Of one that is frozen the error wraps [archive.ErrFrozen].
func (v *Vault) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	found, err := v.find(ctx, name)
	if err == nil && v.frozen(found) {
		err = fmt.Errorf("%w: %w", archive.ErrFrozen, archive.ErrUnavailable)
	}
	if err != nil {
		return nil, fmt.Errorf("vault: get %.600s: %w", name, err)
	}
	return io.NopCloser(&reader{ctx, bytes.NewReader(found.data)}), nil
}

// List yields the objects that were there when the iteration began.
func (v *Vault) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		for _, o := range v.list(prefix) {
			if ctx.Err() != nil {
				break
			}
			if !yield(o, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(archive.Object{}, fmt.Errorf("vault: list %q: %w", prefix, err))
		}
	}
}

func (v *Vault) list(prefix string) []archive.Object {
	v.mu.Lock()
	defer v.mu.Unlock()
	var list []archive.Object
	for _, name := range v.names(prefix) {
		if o := v.object(name); o != nil {
			list = append(list, archive.Object{Name: name, Size: int64(len(o.data))})
		}
	}
	return list
}

// names returns the names anything is under, in byte order.
func (v *Vault) names(prefix string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(v.objects)), func(name string) bool {
		return !strings.HasPrefix(name, prefix)
	})
}

// Delete removes an object and all that is laid over it, unless any of it is
// retained.
func (v *Vault) Delete(ctx context.Context, name string) error {
	return v.remove(ctx, name, v.retained)
}

// Bypass is Delete by somebody with the right to lift governance: only
// compliance, holds and the bucket's lock still stop it.
func (v *Vault) Bypass(ctx context.Context, name string) error {
	return v.remove(ctx, name, func(one *version) bool {
		bare := *one
		if bare.lock.Mode == archive.Governance {
			bare.lock.Mode = archive.Unlocked
		}
		return v.retained(&bare)
	})
}

func (v *Vault) remove(ctx context.Context, name string, kept func(*version) bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, err := v.find(ctx, name)
	if err == nil && slices.ContainsFunc(v.objects[name], kept) {
		err = archive.ErrLocked
	}
	if err != nil {
		return fmt.Errorf("vault: delete %.600s: %w", name, err)
	}
	delete(v.objects, name)
	return nil
}

// Inspect returns what is known of an object.
func (v *Vault) Inspect(ctx context.Context, name string) (archive.Info, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	o, err := v.find(ctx, name)
	if err != nil {
		return archive.Info{}, fmt.Errorf("vault: inspect %.600s: %w", name, err)
	}
	info := archive.Info{
		Object:     archive.Object{Name: name, Size: int64(len(o.data))},
		Version:    o.id,
		SHA256:     o.sum,
		Modified:   o.modified,
		Class:      ClassStandard,
		Encryption: v.Encryption,
		Lock:       o.lock,
	}
	if v.NoVersions {
		info.Version = ""
	}
	if !o.archived {
		return info, nil
	}
	info.Class = ClassArchive
	info.Frozen = v.frozen(o)
	info.Thawing = v.now().Before(o.thawed)
	if !info.Frozen {
		info.ThawedTo = o.freezes
	}
	return info, nil
}

// Shadows yields what is laid over objects.
func (v *Vault) Shadows(ctx context.Context, prefix string) iter.Seq2[archive.Shadow, error] {
	return func(yield func(archive.Shadow, error) bool) {
		err := ctx.Err()
		if err == nil && v.Blind {
			err = fmt.Errorf("no right to list versions: %w", errors.ErrUnsupported)
		}
		if err != nil {
			yield(archive.Shadow{}, fmt.Errorf("vault: shadows of %q: %w", prefix, err))
			return
		}
		for _, s := range v.shadows(prefix) {
			if !yield(s, nil) {
				return
			}
		}
	}
}

func (v *Vault) shadows(prefix string) []archive.Shadow {
	v.mu.Lock()
	defer v.mu.Unlock()
	var list []archive.Shadow
	for _, name := range v.names(prefix) {
		versions := v.objects[name]
		below := slices.Index(versions, v.object(name)) + 1
		if below == 0 {
			continue
		}
		for _, one := range versions[below:] {
			list = append(list, archive.Shadow{
				Name: name, Version: one.id, Marker: one.marker, Size: int64(len(one.data)), Modified: one.modified,
			})
		}
	}
	return list
}

// Probe says what the fields leave of what a Vault can do.
func (v *Vault) Probe(ctx context.Context, name string) ([]archive.Capability, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.find(ctx, name); err != nil {
		return nil, fmt.Errorf("vault: probe with %.600s: %w", name, err)
	}
	locks := !v.NoLocks && !v.DropLocks && !v.NoVersions
	var list []archive.Capability
	for _, one := range []struct {
		name string
		can  bool
	}{
		{archive.CanCreateOnly, !v.IgnoreCreateOnly},
		{archive.CanChecksum, !v.NoChecksums},
		{archive.CanVersion, !v.NoVersions},
		{archive.CanLock, locks},
		{archive.CanHold, locks},
		{archive.CanBucketLock, !v.NoBucketLock},
		{archive.CanTier, !v.NoTiers},
		{archive.CanEncrypt, v.Encryption != ""},
	} {
		found := archive.Capability{Name: one.name, State: archive.Absent}
		if one.can {
			found.State = archive.Supported
		}
		if slices.Contains(v.Unsure, one.name) {
			found.State, found.Detail = archive.Unknown, "could not be tried"
		}
		list = append(list, found)
	}
	return list, nil
}
