package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/dir"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// original is an archive with three snapshots to copy, and its objects as a copy
// is to have them.
type original struct {
	*snapshot.Archive
	store   *archivetest.Memory
	key     manifest.Signer
	entries []snapshot.Entry
	objects map[string][]byte
}

// newOriginal returns the one there is, which no test changes.
func newOriginal(t *testing.T) *original {
	t.Helper()
	theOriginal.Lock()
	defer theOriginal.Unlock()
	if theOriginal.original == nil {
		theOriginal.original = makeOriginal(t)
	}
	return theOriginal.original
}

var theOriginal struct {
	sync.Mutex
	*original
}

func makeOriginal(t *testing.T) *original {
	t.Helper()
	s := newService(t)
	fillRagged(t, s.client("source"))
	fillPlain(t, s.client("source"), "plain", 500)
	createTable(t, s.client("source"), "empty", 1, "k:STRING")
	store := new(archivetest.Memory)
	a, key := newArchive(t, store)
	o := &original{Archive: a, store: store, key: key}
	for _, tables := range [][]string{{"ragged", "plain", "empty"}, {"plain"}, {"ragged", "plain"}} {
		run := exporting(t, s, a, key, tables...)
		run.ChunkBytes = 16 << 10
		e, err := first(run.Run(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		o.entries = append(o.entries, e)
	}
	o.objects = contents(t, store)
	delete(o.objects, manifest.StoreName(o.Policy.ID()))
	return o
}

// of returns the names of the objects of snapshot seq that end so.
func (o *original) of(seq int, suffix string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(o.objects)) {
		if strings.HasPrefix(name, "snapshots/"+o.entries[seq-1].Manifest.Snapshot+"/") && strings.HasSuffix(name, suffix) {
			names = append(names, name)
		}
	}
	return names
}

func copying(from *snapshot.Archive, to archive.Store, snapshots ...string) snapshot.Copy {
	return snapshot.Copy{From: from, To: to, Snapshots: snapshots, Workers: 3}
}

func mustCopy(t *testing.T, c snapshot.Copy) *snapshot.CopyReport {
	t.Helper()
	report, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// wantObjects compares all that a store holds.
func wantObjects(t *testing.T, store archive.Store, want map[string][]byte) {
	t.Helper()
	got := contents(t, store)
	for name, data := range want {
		if !bytes.Equal(got[name], data) {
			t.Errorf("%s: the copy has %d bytes, want the %d of the source", name, len(got[name]), len(data))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is in the copy, and should not be", name)
		}
	}
}

// wantHonest makes sure that the store claims no snapshot that is not whole.
func wantHonest(t *testing.T, store archive.Store, trust manifest.Trust) {
	t.Helper()
	objects := contents(t, store)
	if _, ok := objects[manifest.PolicyName(1)]; !ok {
		for name := range objects {
			if strings.HasPrefix(name, "manifests/") {
				t.Fatalf("%s is there, and no policy", name)
			}
		}
		return
	}
	trust.Seq, trust.Head = 0, manifest.Hash{}
	if _, err := (snapshot.Verify{Archive: open(t, store, trust), Level: snapshot.Hashes}).Run(t.Context()); err != nil {
		t.Fatalf("the copy claims what it does not have: %v", err)
	}
}

func wantWhole(t *testing.T, store archive.Store, trust manifest.Trust) {
	t.Helper()
	report, err := snapshot.Verify{Archive: open(t, store, trust), Level: snapshot.Rows}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Notes) > 0 {
		t.Errorf("notes on the copy: %q", report.Notes)
	}
}

func states(r *snapshot.CopyReport) string {
	var all []string
	for _, s := range r.Snapshots {
		all = append(all, s.State)
	}
	return strings.Join(all, ", ")
}

func TestACopyIsTheSameArchive(t *testing.T) {
	o := newOriginal(t)
	directory, err := dir.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer directory.Close()
	there := mustCopy(t, copying(o.Archive, directory))
	back := new(archivetest.Memory)
	again := mustCopy(t, copying(open(t, directory, o.Anchor(o.entries[2])), back))
	for _, r := range []*snapshot.CopyReport{there, again} {
		if states(r) != "whole, whole, whole" || len(r.Lacking()) != 0 {
			t.Errorf("snapshots are %s", states(r))
		}
		if r.Copied.Objects != int64(len(o.objects)) || r.Present.Objects != 0 {
			t.Errorf("%d objects copied and %d there, want %d and 0", r.Copied.Objects, r.Present.Objects, len(o.objects))
		}
		if r.Seq != 3 || r.Digest != o.entries[2].Digest || r.Snapshot != o.entries[2].Manifest.Snapshot {
			t.Errorf("the newest snapshot is %d, %s, %s", r.Seq, r.Snapshot, r.Digest)
		}
		if len(r.Notes)+len(r.Problems) > 0 {
			t.Errorf("notes %q, problems %q", r.Notes, r.Problems)
		}
	}
	wantObjects(t, directory, o.objects)
	wantObjects(t, back, o.objects)
	wantWhole(t, back, o.Anchor(o.entries[2]))
}

func TestCopyingAgainPutsNothingAndReadsEveryObjectOfTheCopyOnce(t *testing.T) {
	o := newOriginal(t)
	to := new(archivetest.Memory)
	mustCopy(t, copying(o.Archive, to))
	reads := map[string]int{}
	watched := &archivetest.Faulty{Store: to, Cue: func(c archivetest.Call) archivetest.Fault {
		if c.Op == "put" || c.Op == "delete" {
			t.Errorf("%s %s", c.Op, c.Name)
		}
		if c.Op == "get" && strings.HasPrefix(c.Name, "snapshots/") {
			reads[c.Name]++
		}
		return archivetest.None
	}}
	r := mustCopy(t, copying(o.Archive, watched))
	if r.Copied.Objects != 0 || r.Present.Objects != int64(len(o.objects)) {
		t.Errorf("%d objects copied and %d there, want 0 and %d", r.Copied.Objects, r.Present.Objects, len(o.objects))
	}
	for name, n := range reads {
		if n != 1 {
			t.Errorf("%s was read %d times", name, n)
		}
	}
	vault := new(archivetest.Vault)
	mustCopy(t, copying(o.Archive, vault))
	mustCopy(t, copying(o.Archive, noReads{vault, t}))
}

// noReads is a store that vouches for digests, so that nothing of a snapshot has
// to be read.
type noReads struct {
	*archivetest.Vault
	t *testing.T
}

func (n noReads) Put(_ context.Context, name string, _ io.ReadSeeker, _ archive.PutOptions) error {
	n.t.Errorf("put %s", name)
	return fs.ErrExist
}

func (n noReads) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if strings.HasPrefix(name, "snapshots/") {
		n.t.Errorf("get %s", name)
	}
	return n.Vault.Get(ctx, name)
}

func TestACopyThatEndsAtAnyPutClaimsNothingItDoesNotHaveAndGoesOn(t *testing.T) {
	o := newOriginal(t)
	step := 1
	if testing.Short() {
		step = 3
	}
	for _, fault := range []archivetest.Fault{archivetest.Before, archivetest.After} {
		for n := 1; n <= len(o.objects); n += step {
			to := new(archivetest.Memory)
			dying := &archivetest.Faulty{Store: to, Cue: func(c archivetest.Call) archivetest.Fault {
				if c.Op == "put" && c.N >= n {
					return fault
				}
				return archivetest.None
			}}
			_, err := copying(o.Archive, dying).Run(t.Context())
			if !errors.Is(err, archive.ErrUnavailable) || isVerdict(err) {
				t.Fatalf("put %d: got %v, want ErrUnavailable and no verdict", n, err)
			}
			wantHonest(t, to, o.Trust)
			r := mustCopy(t, copying(o.Archive, to))
			if total := r.Copied.Objects + r.Present.Objects; total != int64(len(o.objects)) || states(r) != "whole, whole, whole" {
				t.Errorf("put %d: %d objects after going on, want %d; snapshots are %s", n, total, len(o.objects), states(r))
			}
			wantObjects(t, to, o.objects)
		}
	}
}

func TestTroubleWithTheSourceOfACopyIsNoVerdict(t *testing.T) {
	o := newOriginal(t)
	tried := 0
	for n := 1; ; n++ {
		to := new(archivetest.Memory)
		from := open(t, &archivetest.Faulty{Store: o.store}, o.Trust)
		from.Store.(*archivetest.Faulty).Cue = archivetest.OnNth("get", n+1, archivetest.Cut) // the first was of Open
		_, err := copying(from, to).Run(t.Context())
		if err == nil {
			break
		}
		tried++
		if !errors.Is(err, archive.ErrUnavailable) || isVerdict(err) {
			t.Errorf("get %d: got %v, want ErrUnavailable and no verdict", n, err)
		}
		wantHonest(t, to, o.Trust)
	}
	if tried < len(o.objects) {
		t.Errorf("%d faults tried, want at least %d", tried, len(o.objects))
	}
}

func TestWhatIsWrongInTheSourceIsNotCopiedAndNamed(t *testing.T) {
	o := newOriginal(t)
	flipped := func(data []byte) []byte {
		data = bytes.Clone(data)
		data[len(data)/2] ^= 1
		return data
	}
	gone := func([]byte) []byte { return nil }
	grown := func(data []byte) []byte { return append(bytes.Clone(data), 'x') }
	for _, c := range []struct {
		what, name string
		damage     func([]byte) []byte
		want       error
		states     string
	}{
		{"a chunk with another bit", o.of(2, ".parquet")[1], flipped, archive.ErrCorrupt, "whole, absent, absent"},
		{"a chunk that is longer", o.of(2, ".parquet")[0], grown, archive.ErrCorrupt, "whole, absent, absent"},
		{"a chunk that is missing", o.of(2, ".parquet")[0], gone, snapshot.ErrMissing, "whole, absent, absent"},
		{"a page that is missing", o.of(1, "plain/r0000.dsse.json")[0], gone, snapshot.ErrMissing, "absent, absent, absent"},
		{"a page with another bit", o.of(3, "ragged/r0000.dsse.json")[0], flipped, archive.ErrCorrupt, "whole, whole, absent"},
		{"a plan that is missing", o.of(3, "plan.dsse.json")[0], gone, snapshot.ErrMissing, "whole, whole, absent"},
		{"a text with another bit", "README.md", flipped, archive.ErrCorrupt, "absent, absent, absent"},
	} {
		t.Run(c.what, func(t *testing.T) {
			store := o.store.Clone()
			if data := c.damage(o.objects[c.name]); data != nil {
				store.Replace(c.name, data)
			} else if err := store.Delete(t.Context(), c.name); err != nil {
				t.Fatal(err)
			}
			to := new(archivetest.Memory)
			r, err := copying(open(t, store, o.Trust), to).Run(t.Context())
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.name) {
				t.Fatalf("got %v, want %v about %s", err, c.want, c.name)
			}
			if len(r.Problems) != 1 || states(r) != c.states {
				t.Errorf("problems %q; snapshots are %s, want %s", r.Problems, states(r), c.states)
			}
			copied := contents(t, to)
			if copied[c.name] != nil {
				t.Errorf("%s was copied", c.name)
			}
			wantHonest(t, to, o.Trust)
			if policy := copied[manifest.PolicyName(1)] != nil; policy == (c.name == "README.md") {
				t.Errorf("the policy was copied: %v", policy)
			}
			for seq := 1; seq <= 3; seq++ {
				for _, chunk := range o.of(seq, ".parquet") {
					if !strings.Contains(c.what, "page") && chunk != c.name && copied[chunk] == nil {
						t.Errorf("%s was not copied", chunk)
					}
				}
			}
			mustCopy(t, copying(o.Archive, to))
			wantObjects(t, to, o.objects)
		})
	}
}

// TestAManifestThatContradictsItsPagesIsNotCopied has the only documents that no
// digest gives away: all of them are signed.
func TestAManifestThatContradictsItsPagesIsNotCopied(t *testing.T) {
	o := newOriginal(t)
	store := o.store.Clone()
	m := *o.entries[2].Manifest
	m.Tables = slices.Clone(m.Tables)
	m.Tables[1].Root = manifest.Sum([]byte("another"))
	sealed, err := manifest.Seal(t.Context(), &m, o.key)
	if err != nil {
		t.Fatal(err)
	}
	store.Replace(manifest.ManifestName(3), sealed)
	to := new(archivetest.Memory)
	r, err := copying(open(t, store, o.Trust), to).Run(t.Context())
	if !errors.Is(err, manifest.ErrInvalid) || states(r) != "whole, whole, absent" {
		t.Errorf("got %v, want ErrInvalid; snapshots are %s", err, states(r))
	}
}

func TestACopyWithAChunkOfItsOwnIsReportedAndLeftAlone(t *testing.T) {
	o := newOriginal(t)
	name := o.of(2, ".parquet")[1]
	changed := bytes.Clone(o.objects[name])
	changed[len(changed)/2] ^= 1
	type store interface {
		archive.Store
		Replace(name string, data []byte)
	}
	for _, data := range [][]byte{changed, changed[:len(changed)-1]} {
		for _, to := range []store{new(archivetest.Memory), new(archivetest.Vault), &archivetest.Vault{NoChecksums: true}} {
			mustCopy(t, copying(o.Archive, to))
			to.Replace(name, data)
			r, err := copying(o.Archive, to).Run(t.Context())
			if !errors.Is(err, archive.ErrCorrupt) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "target") {
				t.Errorf("%T: got %v, want ErrCorrupt about %s in the target", to, err, name)
			}
			if r == nil || states(r) != "whole, incomplete, whole" {
				t.Errorf("%T: snapshots are %s", to, states(r))
			}
			if !bytes.Equal(contents(t, to)[name], data) {
				t.Errorf("%T: the object was replaced", to)
			}
		}
	}
}

func TestNothingIsWrittenWhereSomethingElseIs(t *testing.T) {
	o := newOriginal(t)
	other := new(archivetest.Memory)
	newArchive(t, other)
	forked := new(archivetest.Memory)
	mustCopy(t, copying(o.Archive, forked, "1"))
	m := *o.entries[1].Manifest
	m.Tool = "another"
	sealed, err := manifest.Seal(t.Context(), &m, o.key)
	if err != nil {
		t.Fatal(err)
	}
	forged := forked.Clone()
	forked.Replace(manifest.ManifestName(2), sealed)
	nobodys := bytes.Clone(sealed)
	nobodys[len(nobodys)/2] ^= 1
	forged.Replace(manifest.ManifestName(2), nobodys)
	m.Seq, m.Prev = 4, manifest.Sum([]byte("another"))
	branched := new(archivetest.Memory)
	mustCopy(t, copying(o.Archive, branched))
	if sealed, err = manifest.Seal(t.Context(), &m, o.key); err != nil {
		t.Fatal(err)
	}
	branched.Replace(manifest.ManifestName(4), sealed)
	project := new(archivetest.Memory)
	project.Replace("README.md", []byte("# My project\n"))
	overwriting := &archivetest.Vault{IgnoreCreateOnly: true}

	for _, c := range []struct {
		what string
		to   archive.Store
		want error
		text string
	}{
		{"another archive", other, fs.ErrExist, "another archive"},
		{"a fork", forked, manifest.ErrRollback, "forked"},
		{"a manifest nobody signed", forged, archive.ErrCorrupt, "not signed"},
		{"a chain that goes on from elsewhere", branched, manifest.ErrRollback, "does not continue"},
		{"a project", project, fs.ErrExist, "README.md"},
	} {
		t.Run(c.what, func(t *testing.T) {
			before := contents(t, c.to)
			_, err := copying(o.Archive, c.to).Run(t.Context())
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v and %q", err, c.want, c.text)
			}
			wantObjects(t, c.to, before)
		})
	}
	if _, err := copying(o.Archive, overwriting).Run(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a store that overwrites: got %v, want ErrUnsupported", err)
	}
	if isArchive(t, overwriting) {
		t.Error("there is an archive in a store that overwrites")
	}
}

func TestCopiesThatRaceEndAlike(t *testing.T) {
	o := newOriginal(t)
	to := new(archivetest.Memory)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			if r, err := copying(o.Archive, to).Run(t.Context()); err != nil || states(r) != "whole, whole, whole" {
				t.Errorf("%v, %+v", err, r)
			}
		})
	}
	wait.Wait()
	wantObjects(t, to, o.objects)
}

func TestWhatAppearsInTheTargetMeanwhileIsComparedToo(t *testing.T) {
	o := newOriginal(t)
	for _, name := range []string{manifest.PolicyName(1), manifest.ManifestName(2), o.of(2, ".parquet")[0], o.of(2, "plan.dsse.json")[0]} {
		to := new(archivetest.Memory)
		rival := &archivetest.Faulty{Store: to, Cue: func(c archivetest.Call) archivetest.Fault {
			if c.Op == "put" && c.Name == name {
				to.Replace(name, []byte("another"))
			}
			return archivetest.None
		}}
		_, err := copying(o.Archive, rival).Run(t.Context())
		want := archive.ErrCorrupt
		if name == manifest.PolicyName(1) {
			want = fs.ErrExist // it is the archive of others now
		}
		if !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
		if want == fs.ErrExist && len(to.Names()) > 3 {
			t.Errorf("the archive of others has %q", to.Names())
		}
	}
}

// TestAnExportIntoTheCopyMeanwhileIsAFork and no damage, and ends the run: a number
// both take has two manifests from then on.
func TestAnExportIntoTheCopyMeanwhileIsAFork(t *testing.T) {
	o := newOriginal(t)
	m := *o.entries[1].Manifest
	m.Tool = "another"
	sealed, err := manifest.Seal(t.Context(), &m, o.key)
	if err != nil {
		t.Fatal(err)
	}
	to := new(archivetest.Memory)
	rival := &archivetest.Faulty{Store: to, Cue: func(c archivetest.Call) archivetest.Fault {
		if c.Op == "put" && c.Name == manifest.ManifestName(2) {
			to.Replace(c.Name, sealed)
		}
		return archivetest.None
	}}
	r, err := copying(o.Archive, rival).Run(t.Context())
	if !errors.Is(err, manifest.ErrRollback) || errors.Is(err, archive.ErrCorrupt) || r != nil || !strings.Contains(err.Error(), "forked") {
		t.Errorf("got %v, want ErrRollback alone", err)
	}
	if len(o.of(3, "")) == 0 || slices.ContainsFunc(to.Names(), func(name string) bool { return slices.Contains(o.of(3, ""), name) }) {
		t.Error("the copy went on")
	}
}

func TestACopyThatIsAheadOfItsSourceIsCompleteAndSaid(t *testing.T) {
	o := newOriginal(t)
	to := new(archivetest.Memory)
	mustCopy(t, copying(o.Archive, to))
	behind := o.store.Clone()
	if err := behind.Delete(t.Context(), manifest.ManifestName(3)); err != nil {
		t.Fatal(err)
	}
	r := mustCopy(t, copying(open(t, behind, manifest.Trust{Archive: o.Trust.Archive}), to))
	if r.Copied.Objects != 0 || r.Seq != 3 || r.Digest != o.entries[2].Digest {
		t.Errorf("%d objects copied, newest %d, %s; want none, 3, %s", r.Copied.Objects, r.Seq, r.Digest, o.entries[2].Digest)
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "number 3, the source's number 2") {
		t.Errorf("notes %q", r.Notes)
	}
}

func TestWhatWasSeenOfACopyMustHold(t *testing.T) {
	o := newOriginal(t)
	for _, c := range []struct {
		seen manifest.Trust
		want error
	}{
		{manifest.Trust{Archive: o.Trust.Archive}, nil},
		{o.Anchor(o.entries[1]), nil},
		{manifest.Trust{Archive: manifest.Sum([]byte("another"))}, manifest.ErrUntrusted},
		{manifest.Trust{Archive: o.Trust.Archive, Seq: 2, Head: o.entries[0].Digest}, manifest.ErrRollback},
		{manifest.Trust{Archive: o.Trust.Archive, Seq: 4, Head: o.entries[0].Digest}, manifest.ErrRollback},
	} {
		to := new(archivetest.Memory)
		run := copying(o.Archive, to)
		run.Seen = c.seen
		if _, err := run.Run(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("seen %d: got %v, want %v", c.seen.Seq, err, c.want)
		}
		if c.want != nil && len(to.Names()) > 0 {
			t.Errorf("seen %d: %d objects were written", c.seen.Seq, len(to.Names()))
		}
	}
}

func TestSomeSnapshotsComeWithTheWholeChain(t *testing.T) {
	o := newOriginal(t)
	to := new(archivetest.Memory)
	r := mustCopy(t, copying(o.Archive, to, o.entries[1].Manifest.Snapshot))
	if states(r) != "incomplete, whole, absent" || r.Seq != 2 {
		t.Errorf("snapshots are %s, newest %d", states(r), r.Seq)
	}
	for i, want := range []string{"rows of snapshots 1 are not", "snapshots 3 are not in this copy"} {
		if len(r.Notes) != 2 || !strings.Contains(r.Notes[i], want) {
			t.Errorf("notes %q, want %q", r.Notes, want)
		}
	}
	a := open(t, to, o.Trust)
	if _, err := (snapshot.Verify{Archive: a, Snapshot: "2", Level: snapshot.Rows}).Run(t.Context()); err != nil {
		t.Errorf("the snapshot chosen: %v", err)
	}
	if _, err := (snapshot.Verify{Archive: a}).Run(t.Context()); !errors.Is(err, snapshot.ErrMissing) {
		t.Errorf("verify of all: got %v, want ErrMissing", err)
	}
	// What an earlier run brought counts.
	r = mustCopy(t, copying(o.Archive, to, "latest"))
	if states(r) != "incomplete, whole, whole" || r.Copied.Objects != int64(len(o.of(3, "")))+1 {
		t.Errorf("snapshots are %s, %d objects copied", states(r), r.Copied.Objects)
	}
	// A snapshot that lost a chunk since is not whole any more.
	if err := to.Delete(t.Context(), o.of(2, ".parquet")[0]); err != nil {
		t.Fatal(err)
	}
	if r = mustCopy(t, copying(o.Archive, to, "latest")); states(r) != "incomplete, incomplete, whole" {
		t.Errorf("snapshots are %s", states(r))
	}
	if r = mustCopy(t, copying(o.Archive, to)); states(r) != "whole, whole, whole" {
		t.Errorf("snapshots are %s", states(r))
	}
	wantObjects(t, to, o.objects)
	if _, err := copying(o.Archive, to, "7").Run(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a snapshot there is not: got %v", err)
	}
}

func TestAManifestIsLockedAsLongAsTheSnapshotsAfterIt(t *testing.T) {
	o := newOriginal(t)
	until := time.Now().Add(1000 * time.Hour).Truncate(time.Second)
	v := new(archivetest.Vault)
	a := o.retained(t, until)
	mustCopy(t, copying(a, v, "1"))
	if covered, others := o.locks(t, v, 1, archive.Lock{Mode: archive.Governance}); covered+others != 0 {
		t.Errorf("%d and %d objects are locked before any snapshot asks for it", covered, others)
	}
	if r := mustCopy(t, copying(a, v, "2")); r.Relocked != 4 || states(r) != "whole, whole" {
		t.Errorf("%d objects locked when a snapshot asks for it, want 4; snapshots are %s", r.Relocked, states(r))
	}
	if _, err := (snapshot.Verify{Archive: open(t, v, o.Trust), Retention: true}).Run(t.Context()); err != nil {
		t.Errorf("verify of retention: %v", err)
	}
}

func TestACopyGivesBackWhatTheOriginalLost(t *testing.T) {
	o := newOriginal(t)
	to, lost := new(archivetest.Memory), o.store.Clone()
	mustCopy(t, copying(o.Archive, to))
	for _, name := range []string{o.of(1, ".parquet")[0], o.of(2, "r0000.dsse.json")[0], manifest.ManifestName(2), "verify.sh"} {
		if err := lost.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	r := mustCopy(t, copying(open(t, to, o.Trust), lost))
	if r.Copied.Objects != 4 || states(r) != "whole, whole, whole" {
		t.Errorf("%d objects copied, want 4; snapshots are %s", r.Copied.Objects, states(r))
	}
	wantWhole(t, lost, o.Trust)
}

func TestAStrayObjectInACopyIsNotTakenForAChunk(t *testing.T) {
	o := newOriginal(t)
	to := new(archivetest.Memory)
	mustCopy(t, copying(o.Archive, to))
	first := o.of(1, "/plain/r0000-000000.parquet")[0]
	to.Replace(strings.Replace(first, "r0000-", "r0000.7-", 1), []byte("left over"))
	if r := mustCopy(t, copying(o.Archive, to, "3")); states(r) != "whole, whole, whole" {
		t.Errorf("snapshots are %s", states(r))
	}
	if err := to.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if r := mustCopy(t, copying(o.Archive, to, "3")); states(r) != "incomplete, whole, whole" {
		t.Errorf("snapshots are %s", states(r))
	}
}

func TestAnArchiveWithoutSnapshotsIsCopied(t *testing.T) {
	from, to := new(archivetest.Memory), new(archivetest.Memory)
	a, _ := newArchive(t, from)
	r := mustCopy(t, copying(a, to))
	if r.Seq != 0 || r.Copied.Objects != 3 {
		t.Errorf("newest %d, %d objects; want 0 and 3", r.Seq, r.Copied.Objects)
	}
	wantWhole(t, to, a.Trust)
}

// retained is the original with its second snapshot signed to be retained.
func (o *original) retained(t *testing.T, until time.Time) *snapshot.Archive {
	t.Helper()
	store := o.store.Clone()
	m := *o.entries[1].Manifest
	m.Retention = manifest.Retention{Mode: string(archive.Governance), Until: manifest.At(until).String()}
	sealed, err := manifest.Seal(t.Context(), &m, o.key)
	if err != nil {
		t.Fatal(err)
	}
	store.Replace(manifest.ManifestName(2), sealed)
	if err := store.Delete(t.Context(), manifest.ManifestName(3)); err != nil {
		t.Fatal(err)
	}
	return open(t, store, o.Trust)
}

// locks counts the objects of a snapshot that are locked that long, its manifest
// among them, and all others that are locked at all.
func (o *original) locks(t *testing.T, v *archivetest.Vault, seq int, want archive.Lock) (covered, others int) {
	t.Helper()
	own := append(o.of(seq, ""), manifest.ManifestName(int64(seq)))
	for _, name := range v.Names() {
		info, err := v.Inspect(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case slices.Contains(own, name) && info.Lock.Covers(want):
			covered++
		case !slices.Contains(own, name) && info.Lock.Mode != archive.Unlocked:
			others++
		}
	}
	return covered, others
}

func TestACopyIsRetainedAsWasSigned(t *testing.T) {
	o := newOriginal(t)
	until := time.Now().Add(1000 * time.Hour).Truncate(time.Second)
	a := o.retained(t, until)
	signed := archive.Lock{Mode: archive.Governance, Until: until}
	want := len(o.of(2, "")) + 1

	v := new(archivetest.Vault)
	r := mustCopy(t, copying(a, v))
	// The texts, the policy and the manifest before it are needed to read it.
	if covered, others := o.locks(t, v, 2, signed); covered != want || others != 4 {
		t.Errorf("%d objects of the snapshot are locked, %d others; want %d and 4", covered, others, want)
	}
	if _, err := (snapshot.Verify{Archive: open(t, v, o.Trust), Retention: true}).Run(t.Context()); err != nil {
		t.Errorf("verify of retention: %v", err)
	}
	if r.Unretained != 0 || len(r.Notes) > 0 {
		t.Errorf("%d objects unretained, notes %q", r.Unretained, r.Notes)
	}

	covering := &archivetest.Vault{Default: archive.Compliance, DefaultPeriod: archive.Period{Years: 1}}
	mustCopy(t, copying(a, covering))
	if covered, _ := o.locks(t, covering, 2, archive.Lock{Mode: archive.Compliance, Until: time.Now().AddDate(1, 0, -1)}); covered != want {
		t.Errorf("%d objects have the bucket's own lock, which is more; want %d", covered, want)
	}

	for what, weak := range map[string]*archivetest.Vault{"no locks": {NoLocks: true}, "no versions": {NoVersions: true}} {
		for _, run := range []string{"first", "second"} {
			r := mustCopy(t, copying(a, weak))
			if r.Unretained != int64(want)+4 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "retained less") {
				t.Errorf("%s, %s run: %d objects unretained, want %d; notes %q", what, run, r.Unretained, want+4, r.Notes)
			}
		}
		if states(r) != "whole, whole" {
			t.Errorf("%s: snapshots are %s", what, states(r))
		}
	}
	memory := new(archivetest.Memory)
	if r := mustCopy(t, copying(a, memory)); r.Unretained != int64(want)+4 {
		t.Errorf("in memory: %d objects unretained, want %d", r.Unretained, want+4)
	}
}

// TestALockLeftToTheBucketOfACopyIsLookedAt where that does less than it said.
func TestALockLeftToTheBucketOfACopyIsLookedAt(t *testing.T) {
	o := newOriginal(t)
	asked := archive.Lock{Mode: archive.Governance, Until: time.Now().Add(100 * time.Hour).Truncate(time.Second)}
	for _, behind := range []time.Duration{time.Minute, 30 * 24 * time.Hour} {
		v := &archivetest.Vault{Default: archive.Governance, DefaultPeriod: month}
		store := &watching{Vault: v}
		run := copying(o.Archive, store)
		run.Lock = asked
		v.Now = func() time.Time { return time.Now().Add(-behind) }
		mustCopy(t, run)
		for name, opts := range store.put {
			info, err := v.Inspect(t.Context(), name)
			if err != nil || !info.Lock.Covers(asked) || opts.Lock.Mode != archive.Unlocked {
				t.Errorf("%s behind: %s was put with %v and is locked %v until %s, %v", behind, name, opts.Lock, info.Lock.Mode, info.Lock.Until, err)
			}
		}
		if many := behind > time.Hour; (store.locks > 0) != many {
			t.Errorf("%s behind: %d locks were set", behind, store.locks)
		}
	}
}

// refusing is a store that shows only when asked that it locks nothing.
type refusing struct{ *archivetest.Vault }

func (r refusing) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	if opts.Lock != (archive.Lock{}) {
		return errors.ErrUnsupported
	}
	return r.Vault.Put(ctx, name, body, opts)
}

func TestALockAskedForIsNeverLeftOut(t *testing.T) {
	o := newOriginal(t)
	run := copying(o.Archive, refusing{new(archivetest.Vault)})
	run.Lock = archive.Lock{Mode: archive.Governance, Until: time.Now().Add(100 * time.Hour).Truncate(time.Second)}
	if _, err := run.Run(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
	wantObjects(t, run.To, nil)
	dropping := &archivetest.Vault{DropLocks: true}
	mustCopy(t, copying(o.Archive, dropping))
	run.To = dropping
	if _, err := run.Run(t.Context()); !errors.Is(err, snapshot.ErrWeaker) {
		t.Errorf("a server that drops locks: got %v, want ErrWeaker", err)
	}
	firm := &archivetest.Vault{Default: archive.Compliance, DefaultPeriod: archive.Period{Days: 1}}
	run.To = firm
	mustCopy(t, run)
	for _, name := range firm.Names() {
		if info, err := firm.Inspect(t.Context(), name); err != nil || info.Lock != (archive.Lock{Mode: archive.Compliance, Until: run.Lock.Until.UTC()}) {
			t.Errorf("%s is locked %+v, %v: less than asked, or than the bucket does", name, info.Lock, err)
		}
	}
}

// silent is a store whose bucket does not say how it retains objects.
type silent struct{ *wormStore }

func (silent) DefaultLock(context.Context) (archive.Mode, archive.Period, error) {
	return archive.Unlocked, archive.Period{}, archivetest.ErrInjected
}

func TestABucketThatCannotBeAskedForItsLockIsNotOneWithout(t *testing.T) {
	o := newOriginal(t)
	to := silent{newWorm(400)}
	run := copying(o.Archive, to)
	run.Lock = archive.Lock{Mode: archive.Governance, Until: time.Now().Add(100 * time.Hour)}
	if _, err := run.Run(t.Context()); !errors.Is(err, archive.ErrUnavailable) || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	wantObjects(t, to, nil)
	r := mustCopy(t, copying(o.retained(t, time.Now().Add(100*time.Hour)), to))
	if r.Unretained != 0 {
		t.Errorf("%d objects unretained: %q", r.Unretained, r.Notes)
	}
}

func TestARetentionThatIsOverIsNotAskedFor(t *testing.T) {
	o := newOriginal(t)
	a := o.retained(t, time.Now().Add(-time.Hour))
	v := new(archivetest.Vault)
	r := mustCopy(t, copying(a, v))
	if covered, others := o.locks(t, v, 2, archive.Lock{Mode: archive.Governance}); covered+others != 0 || r.Unretained != 0 {
		t.Errorf("%d and %d objects are locked, %d unretained; want none", covered, others, r.Unretained)
	}
}

func TestALockAskedForIsOnEverythingOrNothingIsCopied(t *testing.T) {
	o := newOriginal(t)
	asked := archive.Lock{Mode: archive.Compliance, Until: time.Now().Add(100 * time.Hour).Truncate(time.Second)}
	v := new(archivetest.Vault)
	mustCopy(t, copying(o.Archive, v))
	run := copying(o.Archive, v)
	run.Lock = asked
	for _, relocked := range []int{len(o.objects), 0} {
		r := mustCopy(t, run)
		if r.Relocked != int64(relocked) {
			t.Errorf("%d objects locked, want %d", r.Relocked, relocked)
		}
	}
	for _, name := range v.Names() {
		if info, err := v.Inspect(t.Context(), name); err != nil || !info.Lock.Covers(asked) {
			t.Errorf("%s is locked %v until %s, %v", name, info.Lock.Mode, info.Lock.Until, err)
		}
	}
	fresh := new(archivetest.Vault)
	run.To = fresh
	mustCopy(t, run)
	for _, name := range fresh.Names() {
		if info, err := fresh.Inspect(t.Context(), name); err != nil || !info.Lock.Covers(asked) {
			t.Errorf("new: %s is locked %v until %s, %v", name, info.Lock.Mode, info.Lock.Until, err)
		}
	}
	for _, to := range []archive.Store{new(archivetest.Memory), &archivetest.Vault{NoLocks: true}} {
		run.To = to
		if _, err := run.Run(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%T: got %v, want ErrUnsupported", to, err)
		}
		wantObjects(t, to, nil)
	}
	run.Lock.Until = time.Now().Add(-time.Hour)
	if _, err := run.Run(t.Context()); err == nil {
		t.Error("a lock until a date that is past was taken")
	}
}

// frozenVault holds the objects with chunks in an archive tier.
func frozenVault(t *testing.T, v *archivetest.Vault, objects map[string][]byte, bulk func(name string) bool) *archivetest.Vault {
	t.Helper()
	v.FreezeBulk = true
	for name, data := range objects {
		if err := v.Put(t.Context(), name, bytes.NewReader(data), archive.PutOptions{Bulk: bulk(name)}); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func isChunk(name string) bool { return strings.HasSuffix(name, ".parquet") }

func TestFrozenObjectsOfTheSourceAreCounted(t *testing.T) {
	o := newOriginal(t)
	v := frozenVault(t, new(archivetest.Vault), o.objects, isChunk)
	from := open(t, v, o.Trust)
	to := new(archivetest.Memory)
	chunks := 0
	for name := range o.objects {
		if isChunk(name) {
			chunks++
		}
	}
	r, err := copying(from, to).Run(t.Context())
	if !errors.Is(err, archive.ErrFrozen) || isVerdict(err) {
		t.Fatalf("got %v, want ErrFrozen", err)
	}
	if r.Frozen.Objects != int64(chunks) || states(r) != "absent, absent, absent" {
		t.Errorf("%d objects frozen, want %d; snapshots are %s", r.Frozen.Objects, chunks, states(r))
	}
	wantHonest(t, to, o.Trust)
	if _, err := (snapshot.Thaw{Store: v, Trust: o.Trust, Snapshots: []string{"2"}}).Ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := mustCopy(t, copying(from, to, "2")); states(r) != "incomplete, whole, absent" {
		t.Errorf("snapshots are %s", states(r))
	}
}

func TestACopyIntoAnArchiveTierGoesOn(t *testing.T) {
	o := newOriginal(t)
	v := &archivetest.Vault{FreezeBulk: true, NoChecksums: true}
	dying := &archivetest.Faulty{Store: v, Cue: func(c archivetest.Call) archivetest.Fault {
		if c.Op == "put" && c.N > 8 {
			return archivetest.Before
		}
		return archivetest.None
	}}
	if _, err := copying(o.Archive, dying).Run(t.Context()); err == nil {
		t.Fatal("the copy was not interrupted")
	}
	r := mustCopy(t, copying(o.Archive, v))
	if r.Unconfirmed == 0 || states(r) != "whole, whole, whole" {
		t.Errorf("%d objects unconfirmed, snapshots are %s", r.Unconfirmed, states(r))
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "archive tier of the target") {
		t.Errorf("notes %q", r.Notes)
	}
	// That it cannot be read does not hide that it has another size.
	name := o.of(1, ".parquet")[0]
	short := frozenVault(t, &archivetest.Vault{NoChecksums: true}, map[string][]byte{name: o.objects[name][1:]}, isChunk)
	if _, err := copying(o.Archive, short).Run(t.Context()); !errors.Is(err, archive.ErrCorrupt) || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v, want ErrCorrupt about %s", err, name)
	}
}
