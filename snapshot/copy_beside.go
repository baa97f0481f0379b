package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// beside is a kind of object that says something about snapshots after they were made.
// Nothing names these objects, and anybody may put what is none under their names.
type beside struct {
	folder string
	limit  int64
	parse  func(name string) (number, n int64, ok bool)
	name   func(number, n int64) string
	most   int64 // n

	// of reports whether number is that of a snapshot; else it is one of its own.
	of bool

	// check says why an object is no good; nil: it is copied as it is.
	check func(a *Archive, e Entry, data []byte) error
}

// besides are all kinds there are. Heads are of other archives, and not copied.
func besides() []beside {
	return []beside{
		{
			folder: manifest.NotarizationFolder + "/", limit: manifest.MaxNotarization, of: true,
			parse: manifest.ParseNotarizationName, name: manifest.NotarizationName, most: manifest.MaxTries,
			check: func(a *Archive, e Entry, data []byte) error {
				n, _, err := manifest.OpenNotarization(data, a.Policy)
				if err != nil {
					return err
				}
				return n.Of(e.Manifest, e.Digest)
			},
		},
		{
			folder: manifest.TimestampFolder + "/", limit: manifest.MaxTimestamp, of: true,
			parse: manifest.ParseTimestampName, name: manifest.TimestampName, most: manifest.MaxTries,
		},
		{
			folder: manifest.ReceiptFolder + "/", limit: manifest.MaxReceipt, most: 1,
			parse: func(name string) (number, n int64, ok bool) {
				number, ok = manifest.ParseReceiptName(name)
				return number, 1, ok
			},
			// Not checked: the chain needs also those whose key was revoked for a time past.
			name: func(number, _ int64) string { return manifest.ReceiptName(number) },
		},
	}
}

// beside copies what was said later about the snapshots whose manifests the target
// has. What is no good is left, and noted.
func (x *copier) beside(ctx context.Context) error {
	for _, kind := range besides() {
		from, err := x.listBeside(ctx, x.From.Store, kind)
		if err != nil {
			return err
		}
		to, err := x.listBeside(ctx, x.To, kind)
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		group, within := errgroup.WithContext(ctx)
		group.SetLimit(fetchers)
		for _, number := range slices.Sorted(maps.Keys(from)) {
			group.Go(func() error { return x.bringBeside(within, kind, number, from[number], to[number]) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// listBeside lists what is named like the kind, by number: of snapshots the target has.
func (x *copier) listBeside(ctx context.Context, store archive.Store, kind beside) (map[int64][]int64, error) {
	found := map[int64][]int64{}
	for object, err := range store.List(ctx, kind.folder) {
		if err != nil {
			return nil, err
		}
		number, n, ok := kind.parse(object.Name)
		if ok && (!kind.of || number <= x.newest && x.report.Snapshots[number-1].State != Absent) {
			found[number] = append(found[number], n)
		}
	}
	return found, nil
}

// bringBeside makes sure that the target has the good objects with that number. There
// they may have another n, where something else has theirs.
func (x *copier) bringBeside(ctx context.Context, kind beside, number int64, from, to []int64) error {
	var e Entry
	lock := x.locks[0]
	if kind.of {
		e = x.chain[number-1]
		lock = x.lock(e)
	}
	has := map[manifest.Hash]int64{}
	for _, n := range to {
		data, err := readBeside(ctx, x.To, kind, kind.name(number, n))
		if err != nil && !isOther(err) {
			return fmt.Errorf("target: %w", err)
		}
		if err == nil {
			has[manifest.Sum(data)] = n
		}
	}
	taken := slices.Clone(to)
	for _, n := range from {
		name := kind.name(number, n)
		data, err := readBeside(ctx, x.From.Store, kind, name)
		if err == nil && kind.check != nil {
			err = kind.check(x.From, e, data)
		}
		if err != nil && !isOther(err) {
			return err
		}
		if err != nil {
			x.noteLocked("%s is not copied: %v", name, err)
			continue
		}
		it := item{Object: manifest.Object{Name: name, Size: int64(len(data)), SHA256: manifest.Sum(data)}, lock: lock, data: data}
		if there, ok := has[it.SHA256]; ok {
			it.Name, it.listed, it.same = kind.name(number, there), true, true
		} else {
			free := kind.free(n, taken)
			if free == 0 {
				x.noteLocked("%s is not copied: the target has something else there", name)
				continue
			}
			taken = append(taken, free)
			it.Name = kind.name(number, free)
		}
		if err := x.putBeside(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// free returns n, or the first other one that is not taken; 0: there is none.
func (b beside) free(n int64, taken []int64) int64 {
	for other := int64(1); slices.Contains(taken, n); other++ {
		if n = other; other > b.most {
			return 0
		}
	}
	return n
}

// putBeside brings one object. Another that was put under its name in the same moment is
// noted.
func (x *copier) putBeside(ctx context.Context, it item) error {
	brought, size, err := x.bringOne(ctx, it)
	if errors.Is(err, archive.ErrCorrupt) {
		x.noteLocked("%s is not copied, something else was put there meanwhile; copy again", it.Name)
		return nil
	}
	if ok, err := x.settle(err); err != nil || !ok {
		return err
	}
	x.count(brought, size, nil)
	return nil
}

// readBeside reads an object of at most as many bytes as its kind has.
func readBeside(ctx context.Context, store archive.Store, kind beside, name string) ([]byte, error) {
	return archive.ReadAll(ctx, store, name, kind.limit)
}

// isOther reports whether an error of reading an object, or of what is in it, says that
// it is not what its name says, or cannot be read by anybody now.
func isOther(err error) bool {
	return isNotExist(err) || errors.Is(err, archive.ErrFrozen) || errors.Is(err, manifest.ErrLimit) ||
		errors.Is(err, manifest.ErrInvalid) || errors.Is(err, manifest.ErrUntrusted) || errors.Is(err, manifest.ErrFormat)
}

// noteLocked is note for where others note things too.
func (x *copier) noteLocked(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.note(format, args...)
}
