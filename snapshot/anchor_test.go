package snapshot_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// reader opens the scene's archive, changed, as one who knows its id and anchors.
func (s *scene) reader(t *testing.T, objects map[string][]byte, anchors ...manifest.Anchor) *snapshot.Archive {
	t.Helper()
	a := open(t, storeWith(t, objects), manifest.Trust{Archive: s.id})
	a.Anchors = anchors
	return a
}

// recorded puts a head of the archive at an entry into a place.
func (s *scene) recorded(t *testing.T, in archive.Store, e snapshot.Entry, by manifest.Signer) *snapshot.RecordedHead {
	t.Helper()
	done, err := s.recording(t, in, e, by).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func (s *scene) recording(t *testing.T, in archive.Store, e snapshot.Entry, by manifest.Signer) snapshot.RecordHead {
	return snapshot.RecordHead{Archive: s.reader(t, s.objects), Newest: e, In: in, Signers: []manifest.Signer{by}, Tool: "otsnap test"}
}

// TestOneAnchorShowsACutTail and a fork by all keys, which cannot be seen without.
func TestOneAnchorShowsACutTail(t *testing.T) {
	s := newScene(t)
	cut := s.put(map[string][]byte{s.newest(): nil})
	fork := s.resigned(`otsnap test`, `otsnap tes7`, s.one, s.two)
	second := new(archivetest.Memory)
	s.recorded(t, second, s.last, s.two)
	byHead := s.reader(t, s.objects)
	if skipped, err := byHead.HoldAgainst(t.Context(), second, "elsewhere"); err != nil || len(skipped) > 0 || len(byHead.Anchors) != 1 {
		t.Fatalf("the head that was recorded: %v, skipped %q, anchors %v", err, skipped, byHead.Anchors)
	}
	for name, x := range map[string]struct {
		anchor    manifest.Anchor
		seesForks bool
	}{
		"a number":              {manifest.Anchor{Source: "contract", Seq: 2}, false},
		"a number and a digest": {manifest.Anchor{Source: "contract", Seq: 2, Digest: s.last.Digest}, true},
		"a digest":              {manifest.Anchor{Source: "contract", Digest: s.last.Digest}, true},
		"a head elsewhere":      {byHead.Anchors[0], true},
	} {
		t.Run(name, func(t *testing.T) {
			s.refusedBy(t, cut, x.anchor)
			if x.seesForks {
				s.refusedBy(t, fork, x.anchor)
			}
			whole := s.reader(t, s.objects, x.anchor)
			report, err := snapshot.Verify{Archive: whole, Level: snapshot.Objects}.Run(t.Context())
			want := x.anchor
			want.Seq = 2
			if err != nil || !slices.Equal(report.Anchors, []manifest.Anchor{want}) {
				t.Errorf("the archive as it is: %v, %+v", err, report)
			}
			if e, err := whole.Find(t.Context(), "1"); err != nil || e.After != nil {
				t.Errorf("snapshot 1 of the archive as it is: %v, %v", err, e.After)
			}
		})
	}
	if e, err := s.reader(t, cut).Find(t.Context(), "latest"); err != nil || e.Manifest.Seq != 1 {
		t.Errorf("without an anchor a cut tail is no finding: %v", err)
	}
}

// refusedBy makes sure that an anchor has all that reads a chain refuse it, also who
// asks for an earlier snapshot.
func (s *scene) refusedBy(t *testing.T, objects map[string][]byte, x manifest.Anchor) {
	t.Helper()
	a := s.reader(t, objects, x)
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, manifest.ErrRollback) || !strings.Contains(err.Error(), x.Source) {
			t.Errorf("%s: got %v, want ErrRollback by the %s", what, err, x.Source)
		}
	}
	_, err := a.Chain(t.Context())
	check("chain", err)
	for _, which := range []string{"", "latest", "1", s.first.Manifest.Snapshot} {
		_, err = a.Find(t.Context(), which)
		check("find "+which, err)
	}
	_, err = snapshot.Verify{Archive: a}.Run(t.Context())
	check("verify", err)
	_, err = snapshot.Verify{Archive: a, Snapshot: "1"}.Run(t.Context())
	check("verify snapshot 1", err)
	_, err = restoring(t, s.service, a, "nowhere").Run(t.Context())
	check("restore", err)
	_, err = snapshot.Copy{From: a, To: new(archivetest.Memory)}.Run(t.Context())
	check("copy", err)
	if tables, err := s.service.instance(t, "nowhere").Tables(t.Context()); err != nil || len(tables) > 0 {
		t.Errorf("restore left tables %v, %v", tables, err)
	}
}

// TestJunkDoesNotHideAViolatedAnchor from who goes past it by number.
func TestJunkDoesNotHideAViolatedAnchor(t *testing.T) {
	s := newScene(t)
	newest := manifest.Anchor{Source: "contract", Seq: 2, Digest: s.last.Digest}
	fork := s.resigned(`otsnap test`, `otsnap tes7`, s.one, s.two)
	for name, x := range map[string]struct {
		objects map[string][]byte
		want    error
	}{
		"a cut tail, and junk for a policy":         {s.put(map[string][]byte{s.newest(): nil, manifest.PolicyName(2): []byte("junk")}), manifest.ErrRollback},
		"a fork, and junk for a policy":             {with(fork, manifest.PolicyName(2), "junk"), manifest.ErrRollback},
		"a fork, and junk after it":                 {with(fork, manifest.ManifestName(3), "junk"), manifest.ErrRollback},
		"a fork, and a manifest further":            {with(fork, manifest.ManifestName(9), "junk"), manifest.ErrRollback},
		"junk in place of what the anchor names":    {s.put(map[string][]byte{s.newest(): []byte("junk")}), manifest.ErrInvalid},
		"a cut tail, and a manifest further":        {with(s.put(map[string][]byte{s.newest(): nil}), manifest.ManifestName(9), "junk"), snapshot.ErrMissing},
		"junk in place of what a digest alone says": {s.put(map[string][]byte{s.newest(): []byte("junk")}), manifest.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.reader(t, x.objects, newest)
			if strings.Contains(name, "digest alone") {
				a.Anchors[0].Seq = 0
			}
			if _, err := a.Find(t.Context(), "1"); !errors.Is(err, x.want) {
				t.Errorf("snapshot 1: got %v, want %v", err, x.want)
			}
		})
	}
	// What comes after all that anchors name is no reason to stop.
	after := with(s.objects, manifest.ManifestName(3), "junk")
	if e, err := s.reader(t, after, newest).Find(t.Context(), "2"); err != nil || e.After == nil {
		t.Errorf("snapshot 2 before junk: %v, after it %v", err, e.After)
	}
	// So for the trust file.
	a := open(t, storeWith(t, with(fork, manifest.ManifestName(9), "junk")), s.seen(2))
	if _, err := a.Find(t.Context(), "1"); !errors.Is(err, manifest.ErrRollback) {
		t.Errorf("by the trust file: got %v, want ErrRollback", err)
	}
}

// with returns objects with one more.
func with(objects map[string][]byte, name, data string) map[string][]byte {
	objects = maps.Clone(objects)
	objects[name] = []byte(data)
	return objects
}

func TestHeadsAreRecordedOnce(t *testing.T) {
	s := newScene(t)
	place := new(archivetest.Memory)
	name := func(n int64) string { return manifest.HeadName(s.id, 2, n) }
	place.Replace(name(1), []byte("junk"))
	place.Replace(name(2), s.objects[s.newest()])
	if done := s.recorded(t, place, s.last, s.one); done.Before || done.Name != name(3) || !slices.Equal(done.SignedBy, []string{"key-1"}) {
		t.Errorf("past junk: %+v", done)
	}
	for _, by := range []manifest.Signer{s.one, s.two} {
		if done := s.recorded(t, place, s.last, by); !done.Before || done.Name != name(3) {
			t.Errorf("again: %+v", done)
		}
	}
	if len(place.Names()) != 3 {
		t.Errorf("the place holds %q", place.Names())
	}

	// Who may not speak for the archive puts nothing there.
	if _, err := s.recording(t, place, s.last, s.stranger).Run(t.Context()); !errors.Is(err, manifest.ErrUntrusted) {
		t.Errorf("a stranger: got %v, want ErrUntrusted", err)
	}
	// Another manifest of that number is a fork.
	forked := s.last
	forked.Digest = manifest.Sum([]byte("another"))
	if _, err := s.recording(t, place, forked, s.one).Run(t.Context()); !errors.Is(err, manifest.ErrRollback) {
		t.Errorf("a fork: got %v, want ErrRollback", err)
	}
	// Where every name is taken, it ends.
	full := new(archivetest.Memory)
	for n := range int64(manifest.MaxTries) {
		full.Replace(name(n+1), []byte("junk"))
	}
	if _, err := s.recording(t, full, s.last, s.one).Run(t.Context()); !errors.Is(err, manifest.ErrLimit) {
		t.Errorf("no name left: got %v, want ErrLimit", err)
	}
	// Memory locks nothing, and who insists on a lock is told.
	run := s.recording(t, new(archivetest.Memory), s.last, s.one)
	run.Lock = archive.Lock{Mode: archive.Compliance, Until: s.last.Manifest.Started.AddDate(1, 0, 0)}
	if _, err := run.Run(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a lock: got %v, want ErrUnsupported", err)
	}
}

func TestGoodHeadsSkipJunk(t *testing.T) {
	s := newScene(t)
	place := new(archivetest.Memory)
	a := s.reader(t, s.objects)
	for what, in := range map[string]archive.Store{"nothing": place, "the archive": a.Store} {
		if _, _, err := a.GoodHeads(t.Context(), in); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("in %s: got %v, want ErrNotExist", what, err)
		}
	}
	s.recorded(t, place, s.first, s.one)
	done := s.recorded(t, place, s.last, s.one)
	good := contents(t, place)[done.Name]
	for name, data := range map[string][]byte{
		manifest.HeadName(s.id, 99, 1):            []byte("junk"),
		manifest.HeadName(s.id, 98, 1):            good, // at another number
		manifest.HeadName(s.id, 97, 1):            s.forged(t, 97),
		manifest.HeadName(s.id, 96, 1):            make([]byte, manifest.MaxHead+1),
		manifest.HeadPrefix(s.id) + "99999999":    []byte("no name of a head"),
		manifest.HeadName(manifest.Hash{1}, 3, 1): []byte("of another archive"),
	} {
		place.Replace(name, data)
	}
	heads, skipped, err := a.GoodHeads(t.Context(), place)
	if err != nil || len(heads) != 2 || heads[0].Seq != 2 || heads[0].Digest != s.last.Digest || heads[1].Seq != 1 || len(skipped) != 4 {
		t.Errorf("got %v, %+v, skipped %q", err, heads, skipped)
	}
	// A key of the archive that says two things of one number is a fork whatever the
	// archive holds.
	forked := s.last
	forked.Digest = manifest.Sum([]byte("another"))
	other := new(archivetest.Memory)
	s.recorded(t, other, forked, s.two)
	place.Replace(manifest.HeadName(s.id, 2, 7), contents(t, other)[manifest.HeadName(s.id, 2, 1)])
	if _, err := a.HoldAgainst(t.Context(), place, "elsewhere"); err != nil || len(a.Anchors) != 2 {
		t.Fatalf("two heads at one number: %v, %v", err, a.Anchors)
	}
	if _, err := a.Chain(t.Context()); !errors.Is(err, manifest.ErrRollback) {
		t.Errorf("two heads at one number: got %v, want ErrRollback", err)
	}
	// Who fills the place up is not taken for one who says that nothing is there.
	for n := range int64(manifest.MaxTries) {
		place.Replace(manifest.HeadName(s.id, 99, n+1), []byte("junk"))
	}
	if _, _, err := a.GoodHeads(t.Context(), place); !errors.Is(err, manifest.ErrUntrusted) {
		t.Errorf("a place full of junk: got %v, want ErrUntrusted", err)
	}
}

// TestEveryHeadIsHeldAgainst: who steals a key replaces manifest 2, goes on to 3, and
// records a head of that, cannot remove the honest head at 2.
func TestEveryHeadIsHeldAgainst(t *testing.T) {
	s := newScene(t)
	fork := s.reader(t, s.put(map[string][]byte{s.newest(): nil}))
	s.export(fork, s.one, s.two)
	third := s.export(fork, s.one, s.two)
	objects, elsewhere, place := contents(t, fork.Store), new(archivetest.Memory), new(archivetest.Memory)
	recording := func(in archive.Store) error {
		_, err := snapshot.RecordHead{Archive: s.reader(t, objects), Newest: third, In: in, Signers: []manifest.Signer{s.one}, Tool: "otsnap test"}.Run(t.Context())
		return err
	}
	if err := recording(elsewhere); err != nil {
		t.Fatal(err)
	}
	s.recorded(t, place, s.last, s.one)
	if err := recording(place); !errors.Is(err, manifest.ErrRollback) || len(place.Names()) != 1 {
		t.Errorf("a head of the fork beside the honest one: got %v, want ErrRollback; there is %q", err, place.Names())
	}
	name := manifest.HeadName(s.id, 3, 1)
	place.Replace(name, contents(t, elsewhere)[name])
	a := s.reader(t, objects)
	if skipped, err := a.HoldAgainst(t.Context(), place, "elsewhere"); err != nil || len(skipped) > 0 {
		t.Fatalf("got %v, skipped %q", err, skipped)
	}
	for _, which := range []string{"latest", "1"} {
		if _, err := a.Find(t.Context(), which); !errors.Is(err, manifest.ErrRollback) || !strings.Contains(err.Error(), "manifest 2 is") {
			t.Errorf("snapshot %s: got %v, want ErrRollback by the head at 2", which, err)
		}
	}
	// Where junk between the two keeps the honest one from being read, that is told first.
	for n := range int64(manifest.MaxTries) {
		place.Replace(manifest.HeadName(s.id, 2, n+2), []byte("junk"))
	}
	place.Replace(manifest.HeadName(s.id, 2, 1), []byte("junk"))
	place.Replace(manifest.HeadName(s.id, 1, 1), []byte("unread"))
	skipped, err := s.reader(t, objects).HoldAgainst(t.Context(), place, "elsewhere")
	if err != nil || len(skipped) != manifest.MaxTries+1 || !strings.Contains(skipped[0], "1 older ones were not looked at") {
		t.Errorf("got %v, skipped %d, first %q", err, len(skipped), skipped[:min(len(skipped), 1)])
	}
}

// forged is a head of the archive that a stranger has signed.
func (s *scene) forged(t *testing.T, seq int64) []byte {
	t.Helper()
	p := s.reader(t, s.objects).Policy
	sealed, err := manifest.SealHead(t.Context(), &manifest.Head{
		Format: manifest.Format, Archive: s.id, Seq: seq, Digest: s.last.Digest,
		Version: 1, Policy: p.Digest(), Time: s.last.Manifest.Finished, Tool: "otsnap test",
	}, s.stranger)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// TestAPlaceThatIsNotReachedIsNoVerdict on the archive, whatever fails there.
func TestAPlaceThatIsNotReachedIsNoVerdict(t *testing.T) {
	s := newScene(t)
	place := new(archivetest.Memory)
	s.recorded(t, place, s.last, s.one)
	for _, op := range []string{"list", "get"} {
		a := s.reader(t, s.objects)
		failing := &archivetest.Faulty{Store: place, Cue: func(c archivetest.Call) archivetest.Fault {
			if c.Op == op {
				return archivetest.Before
			}
			return archivetest.None
		}}
		_, err := a.HoldAgainst(t.Context(), failing, "elsewhere")
		if !errors.Is(err, archive.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) || len(a.Anchors) > 0 {
			t.Errorf("%s fails: got %v, anchors %v", op, err, a.Anchors)
		}
	}
}

// TestAHeadNamesTheNewestPolicy, so that who sees it and an older policy is not
// deceived.
func TestAHeadNamesTheNewestPolicy(t *testing.T) {
	s := newScene(t)
	place := new(archivetest.Memory)
	before := s.recorded(t, place, s.last, s.one)
	a := s.reader(t, s.objects)
	next := a.Policy.Next(s.last.Manifest.Finished.Time, 3)
	next.Keys = append(next.Keys, manifest.NewPolicyKey("third", "exporter", s.stranger.Key()))
	draft, err := manifest.DraftPolicy(next, a.Policy)
	if err == nil {
		draft, err = manifest.SignPolicy(t.Context(), draft, s.one, s.two)
	}
	if err != nil {
		t.Fatal(err)
	}
	renewed := with(s.objects, manifest.PolicyName(2), string(draft))
	run := s.recording(t, place, s.last, s.one)
	run.Archive = s.reader(t, renewed)
	done, err := run.Run(t.Context())
	if err != nil || done.Before || done.Name == before.Name {
		t.Fatalf("a head under a newer policy: %v, %+v", err, done)
	}
	if _, err := s.reader(t, renewed).HoldAgainst(t.Context(), place, "elsewhere"); err != nil {
		t.Errorf("the policy as it is: %v", err)
	}
	if _, err := a.HoldAgainst(t.Context(), place, "elsewhere"); !errors.Is(err, manifest.ErrRollback) {
		t.Errorf("the newer policy hidden: got %v, want ErrRollback", err)
	}
}

func TestHeadsListsTheNewestFirst(t *testing.T) {
	place := new(archivetest.Memory)
	id := manifest.Hash{7}
	const all = manifest.MaxTries + 9
	for seq := range int64(all) {
		place.Replace(manifest.HeadName(id, seq+1, 1), []byte(fmt.Sprint(seq)))
	}
	names, n, err := snapshot.Heads(t.Context(), place, id)
	if err != nil || n != all || len(names) != manifest.MaxTries || names[0] != manifest.HeadName(id, all, 1) || names[len(names)-1] != manifest.HeadName(id, 10, 1) {
		t.Errorf("got %v, %d, %q", err, n, names)
	}
}
