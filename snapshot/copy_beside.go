package snapshot

import (
	"bytes"
	"context"
	"encoding/asn1"
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

	// check says why an object is no good.
	check func(a *Archive, e Entry, number int64, data []byte) error
}

// besides are all kinds there are. Heads are of other archives, and not copied.
func besides() []beside {
	return []beside{
		{
			folder: manifest.NotarizationFolder + "/", limit: manifest.MaxNotarization, of: true,
			parse: manifest.ParseNotarizationName, name: manifest.NotarizationName, most: manifest.MaxTries,
			check: func(a *Archive, e Entry, _ int64, data []byte) error {
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
			check: func(_ *Archive, e Entry, _ int64, data []byte) error { return looksStamped(data, e.Digest) },
		},
		{
			folder: manifest.ReceiptFolder + "/", limit: manifest.MaxReceipt, most: 1,
			parse: func(name string) (number, n int64, ok bool) {
				number, ok = manifest.ParseReceiptName(name)
				return number, 1, ok
			},
			name: func(number, _ int64) string { return manifest.ReceiptName(number) },
			check: func(a *Archive, _ Entry, number int64, data []byte) error {
				_, err := manifest.OpenLink(number, data, a.Policy)
				return err
			},
		},
	}
}

// looksStamped reports why data cannot be a time stamp over the digest. Whether it is
// a good one depends on whom a reader trusts, and is for readers to find out.
func looksStamped(data []byte, digest manifest.Hash) error {
	var answer asn1.RawValue
	rest, err := asn1.Unmarshal(data, &answer)
	if err != nil || len(rest) > 0 || answer.Tag != asn1.TagSequence || !answer.IsCompound {
		return fmt.Errorf("it is no time stamp: %w", manifest.ErrInvalid)
	}
	if !bytes.Contains(data, digest[:]) {
		return fmt.Errorf("it is no time stamp over manifest %s: %w", digest, manifest.ErrInvalid)
	}
	return nil
}

// sibling is an object of a kind, as a store lists it.
type sibling struct{ n, size int64 }

// besideCopy copies the objects of a kind.
type besideCopy struct {
	*copier
	kind     beside
	from, to map[int64][]sibling

	left map[string]error // what is no good, and why
}

// beside copies what was said later about the snapshots whose manifests the target
// has. What is no good is left, and noted.
func (x *copier) beside(ctx context.Context) error {
	for _, kind := range besides() {
		b := &besideCopy{copier: x, kind: kind, left: map[string]error{}}
		var err error
		if b.from, err = x.listBeside(ctx, x.From.Store, kind); err != nil {
			return err
		}
		if b.to, err = x.listBeside(ctx, x.To, kind); err != nil {
			return fmt.Errorf("target: %w", err)
		}
		if err := b.run(ctx); err != nil {
			return err
		}
		b.told()
	}
	return nil
}

// listBeside lists what is named like the kind, by number: of snapshots the target has.
func (x *copier) listBeside(ctx context.Context, store archive.Store, kind beside) (map[int64][]sibling, error) {
	found := map[int64][]sibling{}
	for object, err := range store.List(ctx, kind.folder) {
		if err != nil {
			return nil, err
		}
		number, n, ok := kind.parse(object.Name)
		if ok && (!kind.of || number <= x.newest && x.report.Snapshots[number-1].State != Absent) {
			found[number] = append(found[number], sibling{n, object.Size})
		}
	}
	return found, nil
}

// run copies in the order of the numbers, some at once. How many objects there may be
// with the number of a snapshot is limited, how many receipts is not: after
// manifest.MaxTries that are none, those alone are read that the newest receipt comes
// after.
func (b *besideCopy) run(ctx context.Context) error {
	numbers := slices.Sorted(maps.Keys(b.from))
	for i := 0; i < len(numbers); i += receiptFetchers {
		if !b.kind.of && len(b.left) > manifest.MaxTries {
			linked, err := b.linked(ctx, numbers[i:])
			if err != nil {
				return err
			}
			return b.some(ctx, linked)
		}
		if err := b.some(ctx, numbers[i:min(i+receiptFetchers, len(numbers))]); err != nil {
			return err
		}
	}
	return nil
}

func (b *besideCopy) some(ctx context.Context, numbers []int64) error {
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(receiptFetchers)
	for _, number := range numbers {
		group.Go(func() error { return b.bring(within, number) })
	}
	return group.Wait()
}

// linked returns those of the numbers that the newest receipt comes after, and its
// own, in order. The others are left.
func (b *besideCopy) linked(ctx context.Context, numbers []int64) ([]int64, error) {
	skip := func(numbers []int64) {
		for _, n := range numbers {
			b.leave(b.kind.name(n, 1), fmt.Errorf("there is too much among the receipts that is none: %w", manifest.ErrLimit))
		}
	}
	var linked []int64
	for tries := 0; len(numbers) > 0 && tries <= manifest.MaxTries; {
		last := len(numbers) - 1
		number := numbers[last]
		numbers = numbers[:last]
		data, err := b.read(ctx, number, b.from[number][0])
		switch {
		case errors.Is(err, archive.ErrFrozen): // it may be one: which others are is not known
			linked = append(linked, number)
			tries++
			continue
		case err != nil && !isOther(err):
			return nil, err
		case err != nil:
			b.leave(b.kind.name(number, 1), err)
			tries++
			continue
		}
		linked = append(linked, number)
		link, err := manifest.OpenLink(number, data, b.From.Policy)
		if err != nil {
			return nil, err
		}
		switch at, ok := slices.BinarySearch(numbers, link.Before); {
		case ok:
			skip(numbers[at+1:])
			numbers = numbers[:at+1]
		case at == 0: // it was copied before
			skip(numbers)
			numbers = nil
		}
	}
	skip(numbers)
	slices.Reverse(linked)
	return linked, nil
}

// read reads an object of the source, a good one: what is no good is an isOther.
func (b *besideCopy) read(ctx context.Context, number int64, o sibling) ([]byte, error) {
	if o.size > b.kind.limit {
		return nil, fmt.Errorf("it has %d bytes; at most %d: %w", o.size, b.kind.limit, manifest.ErrLimit)
	}
	data, err := archive.ReadAll(ctx, b.From.Store, b.kind.name(number, o.n), b.kind.limit)
	if err != nil {
		return nil, err
	}
	return data, b.kind.check(b.From, b.about(number), number, data)
}

// about is the snapshot with that number; none of a kind with numbers of its own.
func (b *besideCopy) about(number int64) Entry {
	if !b.kind.of {
		return Entry{}
	}
	return b.chain[number-1]
}

func (b *besideCopy) lockFor(number int64) archive.Lock {
	if !b.kind.of {
		return b.locks[0]
	}
	return b.lock(b.chain[number-1])
}

// bring makes sure that the target has the good objects with that number. There they
// may have another n, where something else has theirs.
func (b *besideCopy) bring(ctx context.Context, number int64) error {
	to := slices.Clone(b.to[number])
	for _, o := range b.from[number] {
		name := b.kind.name(number, o.n)
		data, err := b.read(ctx, number, o)
		switch {
		case errors.Is(err, archive.ErrFrozen):
			if err := b.frozen(ctx, number, o, err); err != nil {
				return err
			}
			continue
		case err != nil && !isOther(err):
			return err
		case err != nil:
			b.leave(name, err)
			continue
		}
		it := item{Object: manifest.Object{Name: name, Size: int64(len(data)), SHA256: manifest.Sum(data)}, lock: b.lockFor(number), data: data}
		there, err := b.there(ctx, number, it, o.n, to)
		if err != nil {
			return err
		}
		if there {
			b.count(false, it.Size, nil)
			continue
		}
		free := b.kind.free(o.n, to)
		if free == 0 {
			b.clash(name, "the target has something else there")
			continue
		}
		to = append(to, sibling{free, it.Size})
		it.Name = b.kind.name(number, free)
		if err := b.put(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// frozen counts an object of the source that is in an archive tier, unless the target has
// a good one of its name and size, or one that is frozen there too.
func (b *besideCopy) frozen(ctx context.Context, number int64, o sibling, cold error) error {
	object := manifest.Object{Name: b.kind.name(number, o.n), Size: o.size}
	err := cold
	if slices.Contains(b.to[number], o) {
		var data []byte
		if data, err = archive.ReadAll(ctx, b.To, object.Name, b.kind.limit); err == nil {
			err = b.kind.check(b.From, b.about(number), number, data)
		}
		if errors.Is(err, archive.ErrFrozen) {
			b.target.unconfirmed.Add(1)
			err = nil
		}
		if err == nil {
			_, err = b.target.confirm(ctx, item{Object: object, lock: b.lockFor(number), same: true})
		}
	}
	switch {
	case err == nil:
		b.count(false, o.size, nil)
		return nil
	case !errors.Is(err, archive.ErrFrozen) && !isOther(err):
		return fmt.Errorf("target: %w", err)
	}
	_, err = b.settle(frozenError{object, cold})
	return err
}

// there reports whether the target has the item among those of its size, n first.
func (b *besideCopy) there(ctx context.Context, number int64, it item, n int64, to []sibling) (bool, error) {
	to = slices.DeleteFunc(slices.Clone(to), func(s sibling) bool { return s.size != it.Size })
	if same := slices.IndexFunc(to, func(s sibling) bool { return s.n == n }); same > 0 {
		to[0], to[same] = to[same], to[0]
	}
	for _, s := range to {
		it.Name = b.kind.name(number, s.n)
		_, err := b.target.confirm(ctx, it)
		switch {
		case err == nil:
			return true, nil
		case !isNotExist(err) && !errors.Is(err, archive.ErrCorrupt):
			return false, err
		}
	}
	return false, nil
}

// leave notes what is not copied.
func (b *besideCopy) leave(name string, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left[name] = why
}

// clash notes a good object that the target has no name for.
func (b *besideCopy) clash(name, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note("%s is not copied: %s", name, why)
}

// told notes in one line what was left.
func (b *besideCopy) told() {
	if len(b.left) == 0 {
		return
	}
	first := slices.Min(slices.Collect(maps.Keys(b.left)))
	if len(b.left) == 1 {
		b.note("%s is not copied: %v", first, b.left[first])
		return
	}
	b.note("%d objects under %s are not copied, such as %s: %v", len(b.left), b.kind.folder, first, b.left[first])
}

// free returns n, or the first other one that is not taken; 0: there is none.
func (b beside) free(n int64, taken []sibling) int64 {
	for other := int64(1); slices.ContainsFunc(taken, func(s sibling) bool { return s.n == n }); other++ {
		if n = other; other > b.most {
			return 0
		}
	}
	return n
}

// put brings one object. Another that was put under its name in the same moment is
// noted.
func (b *besideCopy) put(ctx context.Context, it item) error {
	brought, size, err := b.bringOne(ctx, it)
	if errors.Is(err, archive.ErrCorrupt) {
		b.clash(it.Name, "something else was put there meanwhile; copy again")
		return nil
	}
	if ok, err := b.settle(err); err != nil || !ok {
		return err
	}
	b.count(brought, size, nil)
	return nil
}

// isOther reports whether an error of reading an object, or of what is in it, says that
// it is not what its name says.
func isOther(err error) bool {
	return isNotExist(err) || errors.Is(err, manifest.ErrLimit) ||
		errors.Is(err, manifest.ErrInvalid) || errors.Is(err, manifest.ErrUntrusted) || errors.Is(err, manifest.ErrFormat)
}
