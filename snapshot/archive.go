package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// fetchers is how many small objects are read at once.
const fetchers = 16

// Archive is a store whose policy was checked against what the reader trusts.
type Archive struct {
	Store  archive.Store
	Policy *manifest.Policy // the newest version
	Trust  manifest.Trust
	Place  string // what people call it, as in errors of an export to several; may be empty

	// Anchors are what the archive is held against beside Trust, wherever its chain is
	// read: one that ends before an anchor, or has another manifest in its place, is
	// manifest.ErrRollback. Without a digest an anchor says that there are as many
	// manifests at least, without a number that one of them has the digest. Sources go
	// into messages after "the".
	Anchors []manifest.Anchor

	earlier []manifest.Anchor // heads before the newest of their place
	sealed  [][]byte          // the objects of the policy's versions, as they are stored
	wrong   error             // with what is there for the version after the newest; nil: nothing is
}

func (a *Archive) String() string {
	if a.Place != "" {
		return a.Place
	}
	return "archive " + a.Policy.ID().String()[:16]
}

// Entry is a manifest with the digest of its object.
type Entry struct {
	Manifest *manifest.Manifest
	Digest   manifest.Hash
	Size     int64 // of the object, bytes

	// SignedBy and Notaries name the keys of the policy that signed the manifest: all,
	// and those of notaries. Only an entry of a chain that was read has them.
	SignedBy, Notaries []string

	// After is what is wrong with the chain after the entry, where it was asked for
	// by its number or id: it is good, and whether later ones are cannot be told.
	After error

	held []manifest.Anchor // what the chain was held against, where the entry was looked for by [Archive.Find]
}

// Exists reports whether the store holds an archive, as far as can be seen: it
// chooses words, and nothing is done for its false.
func Exists(ctx context.Context, store archive.Store) bool {
	return errors.Is(absent(ctx, store), fs.ErrExist)
}

// absent makes sure that the store holds no archive yet. One that does is
// fs.ErrExist; that it could not be asked is no answer.
func absent(ctx context.Context, store archive.Store) error {
	name := manifest.PolicyName(1)
	body, err := store.Get(ctx, name)
	switch {
	case isNotExist(err):
		return nil
	case err == nil:
		body.Close()
	case !errors.Is(err, archive.ErrFrozen): // which is there as well
		return fmt.Errorf("whether there is an archive already, %s: %w", name, err)
	}
	return fmt.Errorf("there is an archive already: %s: %w", name, fs.ErrExist)
}

// put stores data under name. An object that is there already is as good if its
// bytes are these, as after a Put whose answer was lost; else it is fs.ErrExist.
func put(ctx context.Context, store archive.Store, name string, data []byte) error {
	_, err := putWith(ctx, store, name, data, archive.PutOptions{})
	return err
}

// putWith is put with options, and tells whether the object was there before: it
// may then be locked otherwise.
func putWith(ctx context.Context, store archive.Store, name string, data []byte, opts archive.PutOptions) (before bool, err error) {
	opts.SHA256 = manifest.Sum(data)
	err = store.Put(ctx, name, bytes.NewReader(data), opts)
	if !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	same := manifest.Object{Name: name, Size: int64(len(data)), SHA256: opts.SHA256}
	_, fetchErr := archive.Fetch(ctx, store, same)
	switch {
	case errors.Is(fetchErr, archive.ErrFrozen) && vouched(ctx, store, same):
		return true, nil
	case errors.Is(fetchErr, archive.ErrCorrupt), errors.Is(fetchErr, archive.ErrFrozen):
		return true, err
	}
	return true, fetchErr
}

// vouched reports whether the store says that an object it does not let anybody
// read now has the digest.
func vouched(ctx context.Context, store archive.Store, o manifest.Object) bool {
	inspector, ok := store.(archive.Inspector)
	if !ok {
		return false
	}
	info, err := inspector.Inspect(ctx, o.Name)
	return err == nil && info.Size == o.Size && info.SHA256 == o.SHA256
}

// Open checks the policy of the archive in the store, all versions of it, against
// trust. A policy that trust does not name is manifest.ErrUntrusted, one that lacks a
// version seen earlier manifest.ErrRollback; a store without a policy is no archive,
// fs.ErrNotExist.
//
// What comes after the last good version, and is none, does not keep the archive from
// being opened: [Archive.Chain] refuses it, and [Archive.Find] finds by number.
func Open(ctx context.Context, store archive.Store, trust manifest.Trust) (*Archive, error) {
	sealed, err := archive.ReadAll(ctx, store, manifest.PolicyName(1), manifest.MaxPolicy)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("snapshot: this is no archive: it has no %s: %w", manifest.PolicyName(1), fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot: open archive: %w", err)
	}
	policy, err := manifest.OpenPolicy(sealed, trust.Archive)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %s: %w", manifest.PolicyName(1), err)
	}
	a := &Archive{Store: store, Policy: policy, Trust: trust, sealed: [][]byte{sealed}}
	if err := a.renew(ctx); err != nil {
		return nil, fmt.Errorf("snapshot: open archive: %w", err)
	}
	if err := trust.CheckPolicy(a.Policy); err != nil {
		return nil, fmt.Errorf("snapshot: %w", cmp.Or(a.wrong, err))
	}
	return a, nil
}

// Chain reads every manifest, checks the signatures of each and the chain from
// the first to the newest, and that the archive still holds what trust has seen.
// A hole is ErrMissing, a chain that was cut short or rewritten is
// manifest.ErrRollback.
//
// Names are for anyone with access to the store to make up, so work is only done
// for as many manifests as there are without a hole, a few at a time.
func (a *Archive) Chain(ctx context.Context) ([]Entry, error) {
	newest, err := a.newest(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := a.upTo(ctx, newest, nil)
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// orPolicy returns what is wrong with the policy in place of nothing, or of what may
// come of that: manifests that cannot be judged.
func (a *Archive) orPolicy(err error) error {
	if a.wrong != nil && (err == nil || errors.Is(err, manifest.ErrUntrusted) || errors.Is(err, manifest.ErrRollback)) {
		return fmt.Errorf("snapshot: %w", a.wrong)
	}
	return err
}

// chain is Chain, but that the entries before the first that is wrong come with
// the error, unless an anchor is violated.
func (a *Archive) chain(ctx context.Context) ([]Entry, error) {
	newest, hole := a.newest(ctx)
	if hole != nil && !errors.Is(hole, ErrMissing) {
		return nil, hole
	}
	return a.upTo(ctx, newest, hole)
}

// upTo reads the manifests up to the newest, after which there is a hole or nothing,
// and holds them against the anchors.
func (a *Archive) upTo(ctx context.Context, newest int64, hole error) ([]Entry, error) {
	entries, err := a.read(ctx, newest)
	wrong := cmp.Or(err, hole)
	if _, violated := a.against(entries, wrong == nil); violated != nil {
		return nil, violated
	}
	return entries, a.orPolicy(wrong)
}

// read reads the manifests up to the newest. Those before the first that is wrong come
// with the error.
func (a *Archive) read(ctx context.Context, newest int64) ([]Entry, error) {
	trust := a.Trust
	trust.Seq, trust.Head = 0, manifest.Hash{} // an anchor, as others are: see against
	chain, err := manifest.NewChain(trust, a.Policy, 1)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	var entries []Entry
	for next := int64(1); next <= newest; next += batch {
		for i, r := range a.judged(ctx, chain, next, min(newest, next+batch-1)) {
			if r.err != nil {
				return entries, fmt.Errorf("snapshot: chain of manifests: %w", r.err)
			}
			if r.Judged == nil {
				return entries, fmt.Errorf("snapshot: %s: %w", manifest.ManifestName(next+int64(i)), r.bad)
			}
			if err := chain.Link(r.Judged); err != nil {
				return entries, fmt.Errorf("snapshot: %s: %w", manifest.ManifestName(next+int64(i)), err)
			}
			entries = append(entries, Entry{
				Manifest: r.Manifest, Digest: r.Digest, Size: r.Size,
				SignedBy: r.SignedBy(""), Notaries: r.SignedBy(manifest.Notary),
			})
		}
	}
	return entries, nil
}

// batch is how many manifests are read before their places in the chain are looked at.
const batch = 8 * fetchers

// judged is a manifest that was opened, or why it was not: it could not be read, or is
// bad.
type judged struct {
	*manifest.Judged
	err, bad error
}

// judged reads and opens manifests first to last, some at once.
func (a *Archive) judged(ctx context.Context, chain *manifest.Chain, first, last int64) []judged {
	results := make([]judged, last-first+1)
	var group errgroup.Group
	group.SetLimit(fetchers)
	for i := range results {
		group.Go(func() error {
			name := manifest.ManifestName(first + int64(i))
			sealed, err := archive.ReadAll(ctx, a.Store, name, manifest.MaxManifest)
			if err != nil {
				results[i].err = missing(name, err)
				return nil
			}
			results[i].Judged, results[i].bad = chain.Judge(sealed)
			return nil
		})
	}
	group.Wait()
	return results
}

// newest returns the number of the newest manifest, 0 where there is none. A
// number that is left out is ErrMissing; then it is the one before.
func (a *Archive) newest(ctx context.Context) (int64, error) {
	var newest int64
	for object, err := range a.Store.List(ctx, "manifests/") {
		if err != nil {
			return 0, fmt.Errorf("snapshot: list manifests: %w", err)
		}
		seq, ok := manifest.ParseManifestName(object.Name)
		if !ok {
			continue
		}
		if newest++; seq != newest {
			return newest - 1, fmt.Errorf("snapshot: chain of manifests: %s: %w, though there is %s", manifest.ManifestName(newest), ErrMissing, object.Name)
		}
	}
	return newest, nil
}

// Find returns one snapshot: the newest for "" and "latest", else the one with
// that number in the chain, or that id, or the only one whose id begins so; a
// number of less than eight digits is never taken for the start of an id. The
// chain is checked first. No such snapshot is fs.ErrNotExist.
//
// Whoever may put objects can put one that is no manifest where the next is to be,
// and in a locked bucket it stays for years. So a snapshot that is asked for by
// number or id is found also where something after it is wrong; see Entry.After. What
// is wrong must come after all that Anchors name.
func (a *Archive) Find(ctx context.Context, which string) (Entry, error) {
	chain, err := a.chain(ctx)
	return a.findBefore(chain, err, which)
}

// findBefore is find in a chain that after the entries given is as wrong says.
func (a *Archive) findBefore(chain []Entry, wrong error, which string) (Entry, error) {
	held, err := a.against(chain, false)
	if err != nil {
		return Entry{}, err
	}
	if wrong == nil {
		e, err := find(chain, which)
		e.held = held
		return e, err
	}
	spoilt := errors.Is(wrong, manifest.ErrInvalid) || errors.Is(wrong, manifest.ErrUntrusted) || errors.Is(wrong, manifest.ErrLimit) || errors.Is(wrong, ErrMissing)
	if which == "" || which == "latest" || len(chain) == 0 || !spoilt || errors.Is(wrong, manifest.ErrRollback) {
		return Entry{}, wrong
	}
	e, err := find(chain, which)
	if err != nil {
		return Entry{}, wrong
	}
	if x := a.unreached(chain); x != nil {
		return Entry{}, fmt.Errorf("%w; so the archive cannot be held against what the %s says", wrong, x.Source)
	}
	e.After, e.held = wrong, held
	return e, nil
}

func find(chain []Entry, which string) (Entry, error) {
	if len(chain) == 0 {
		return Entry{}, fmt.Errorf("snapshot: the archive has no snapshot yet: %w", fs.ErrNotExist)
	}
	if which == "" || which == "latest" {
		return chain[len(chain)-1], nil
	}
	if seq, err := strconv.ParseInt(which, 10, 64); err == nil && len(which) < len("20060102") {
		if seq < 1 || seq > int64(len(chain)) {
			return Entry{}, fmt.Errorf("snapshot: no snapshot %q among %d: %w", which, len(chain), fs.ErrNotExist)
		}
		return chain[seq-1], nil
	}
	var found []Entry
	for _, e := range chain {
		if strings.HasPrefix(e.Manifest.Snapshot, which) {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return Entry{}, fmt.Errorf("snapshot: no snapshot %q among %d: %w", which, len(chain), fs.ErrNotExist)
	case 1:
		return found[0], nil
	default:
		return Entry{}, fmt.Errorf("snapshot: %q is the start of %d snapshot ids; give more of it", which, len(found))
	}
}

// Anchor is what to trust after having seen the entry: an archive that ends
// before it, or has another one in its place, is refused from then on, and so is one
// without the newest version of the policy.
func (a *Archive) Anchor(entry Entry) manifest.Trust {
	trust := a.Trust
	if entry.Manifest != nil && entry.Manifest.Seq > trust.Seq {
		trust.Seq, trust.Head = entry.Manifest.Seq, entry.Digest
	}
	return trust.WithPolicy(a.Policy)
}

// Unfinished returns the ids of exports that wrote a plan and no manifest,
// oldest first.
func (a *Archive) Unfinished(ctx context.Context) ([]string, error) {
	chain, err := a.Chain(ctx)
	if err != nil {
		return nil, err
	}
	return a.unfinished(ctx, chain)
}

func (a *Archive) unfinished(ctx context.Context, chain []Entry) ([]string, error) {
	var ids []string
	for object, err := range a.Store.List(ctx, "snapshots/") {
		if err != nil {
			return nil, fmt.Errorf("snapshot: list snapshots: %w", err)
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(object.Name, "snapshots/"), "/")
		if manifest.CheckSnapshotID(id) == nil && object.Name == manifest.PlanName(id) && committed(chain, id) == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// committed returns the entry of a snapshot, nil if there is none.
func committed(chain []Entry, id string) *Entry {
	for i := range chain {
		if chain[i].Manifest.Snapshot == id {
			return &chain[i]
		}
	}
	return nil
}
