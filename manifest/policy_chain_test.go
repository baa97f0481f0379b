package manifest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rotated is a second version of the fixture's policy, from manifest 3 on: the
// stranger exports in place of the exporter, whose key is revoked.
func (f *fixture) rotated(t testing.TB) *Policy {
	t.Helper()
	p := f.policy.Next(testTime(60).Time, 3)
	p.Keys[0].Revoked = 3
	p.Keys[1].Group = "witnesses"
	p.Keys = append(p.Keys, NewPolicyKey("exporter-2", Exporter, f.stranger.Key()))
	p.Groups = []PolicyGroup{{Name: "witnesses", Threshold: 1}}
	return p
}

func (f *fixture) sealNext(t testing.TB, next *Policy, signers ...Signer) []byte {
	t.Helper()
	return must(policyKind.seal(t.Context(), must(encode(*next))(t), signers))(t)
}

func (f *fixture) openNext(t testing.TB, next *Policy, signers ...Signer) *Policy {
	t.Helper()
	return must(OpenNextPolicy(f.sealNext(t, next, signers...), f.policy))(t)
}

// sealUnder makes manifest seq after the one before, naming a policy.
func (f *fixture) sealUnder(t testing.TB, seq int64, prev []byte, policy Hash, signers ...Signer) []byte {
	t.Helper()
	m := *f.manifest
	m.Seq, m.Prev, m.Policy = seq, Sum(prev), policy
	return must(Seal(t.Context(), &m, signers...))(t)
}

func TestPolicyIsRotated(t *testing.T) {
	f := newFixture(t)
	s := chainOf(t, f, 2)
	p := f.openNext(t, f.rotated(t), f.exporter, f.notary, f.stranger)
	s = append(s, f.sealUnder(t, 3, s[1], p.Digest(), f.stranger, f.notary))
	seen := Trust{Archive: p.ID(), Seq: 3, Head: Sum(s[2]), Version: 2, Policy: p.Digest()}
	for _, trust := range []Trust{{Archive: p.ID()}, {Archive: p.ID(), Seq: 2, Head: Sum(s[1])}, seen} {
		if got, err := walk(trust, p, 1, s); err != nil || got != seen {
			t.Errorf("with %+v: got %+v, %v, want %+v", trust, got, err, seen)
		}
	}
	if got, err := walk(Trust{Archive: p.ID()}, p, 1, nil); err != nil || got.Version != 2 {
		t.Errorf("without snapshots: got %+v, %v", got, err)
	}
	if p.ID() != f.policy.ID() || p.Digest() == p.ID() || len(p.Versions()) != 2 || p.Versions()[0].Version != 1 {
		t.Errorf("the policy is %+v", p)
	}
}

// TestPolicyInForceDecides has an attacker with the key that was revoked, and with
// all keys of the first version but the notary's.
func TestPolicyInForceDecides(t *testing.T) {
	f := newFixture(t)
	s := chainOf(t, f, 2)
	p := f.openNext(t, f.rotated(t), f.exporter, f.notary, f.stranger)
	under := func(policy Hash, signers ...Signer) []byte { return f.sealUnder(t, 3, s[1], policy, signers...) }
	third := under(p.Digest(), f.stranger, f.notary)
	early := f.sealUnder(t, 2, s[0], p.Digest(), f.exporter, f.notary)
	tests := []struct {
		name   string
		sealed [][]byte
		policy *Policy
		want   error
		says   string
	}{
		{"under the old version", [][]byte{s[0], s[1], under(f.policy.ID(), f.exporter, f.notary)}, p, ErrUntrusted, "made under version 1 of the policy; version 2 is in force for it, from manifest 3 on"},
		{"by the revoked key", [][]byte{s[0], s[1], under(p.Digest(), f.exporter, f.notary)}, p, ErrUntrusted, "signed by 1 trusted key, 2 needed; ok notary"},
		{"by the revoked key, which is named", [][]byte{s[0], s[1], under(p.Digest(), f.exporter, f.notary)}, p, ErrUntrusted, "void exporter-prod sha256:" + f.exporter.Key().ID().String() + ", it is revoked from 3 on"},
		{"by one key alone", [][]byte{s[0], s[1], under(p.Digest(), f.stranger)}, p, ErrUntrusted, "missing notary"},
		{"without the group", [][]byte{s[0], s[1], under(p.Digest(), f.stranger, f.exporter)}, p, ErrUntrusted, "0 of group witnesses, 1 needed"},
		{"under the new version too early", [][]byte{s[0], early}, p, ErrUntrusted, "made under version 2 of the policy; version 1 is in force"},
		{"by the new key too early", [][]byte{s[0], f.sealUnder(t, 2, s[0], p.ID(), f.stranger, f.notary)}, p, ErrUntrusted, "missing exporter-prod"},
		{"with the new version hidden", [][]byte{s[0], s[1], third}, f.policy, ErrUntrusted, "signed by 1 trusted key, 2 needed"},
		{"with the new version hidden, by keys of the old", [][]byte{s[0], s[1], under(p.Digest(), f.exporter, f.notary)}, f.policy, ErrRollback, "a newer version is hidden"},
	}
	for _, test := range tests {
		if _, err := walk(Trust{Archive: p.ID()}, test.policy, 1, test.sealed); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.says)
		}
	}
}

func TestTrustRemembersThePolicy(t *testing.T) {
	f := newFixture(t)
	p := f.openNext(t, f.rotated(t), f.exporter, f.notary, f.stranger)
	other := f.rotated(t)
	other.Keys[2].Name = "mallory"
	forked := f.openNext(t, other, f.exporter, f.notary, f.stranger)
	trust := Trust{Archive: p.ID()}.WithPolicy(p)
	if err := trust.CheckPolicy(p); err != nil {
		t.Errorf("the same: %v", err)
	}
	if err := (Trust{Archive: p.ID()}).CheckPolicy(p); err != nil {
		t.Errorf("a newer one: %v", err)
	}
	for _, hidden := range []*Policy{f.policy, forked} {
		_, err := NewChain(trust, hidden, 1)
		if !errors.Is(err, ErrRollback) {
			t.Errorf("version %d, %s: got %v, want %v", hidden.Version, hidden.Digest(), err, ErrRollback)
		}
	}
}

// TestRevocationReachesBack revokes a key from a number that is past: a manifest
// that has enough signatures without it stays good, and its pages with it.
func TestRevocationReachesBack(t *testing.T) {
	keys := []Signer{testKey(t, "exporter"), testKey(t, "notary"), testKey(t, "stranger")}
	first := testPolicy(keys[0], keys[1])
	first.Keys = append(first.Keys, NewPolicyKey("exporter-2", Exporter, keys[2].Key()))
	p1, _ := openTestPolicy(t, first, keys[0], keys[1])
	f := &fixture{exporter: keys[0], notary: keys[1], stranger: keys[2], policy: p1}
	f.snapshotFixture = f.snapshot(t, testPlan(p1.ID()), nil)
	next := p1.Next(testTime(60).Time, 3)
	next.Keys[0].Revoked = 1
	p := f.openNext(t, next, keys[0], keys[1], keys[2])
	for _, test := range []struct {
		name    string
		signers []Signer
		good    bool
	}{{"all three", keys, true}, {"the revoked one and the notary", keys[:2], false}, {"the others", keys[1:], true}} {
		_, err := Open(must(Seal(t.Context(), f.manifest, test.signers...))(t), p)
		if test.good != (err == nil) || !test.good && !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if _, err := OpenPage(f.sealedPages[0], p.At(1)); err != nil {
		t.Errorf("the page of a manifest that stays: %v", err)
	}
	if _, err := OpenPage(f.sealedPages[0], p.At(3)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a page the revoked key signs now: got %v, want %v", err, ErrUntrusted)
	}
}

func TestNextPolicyRules(t *testing.T) {
	f := newFixture(t)
	all := []Signer{f.exporter, f.notary, f.stranger}
	tests := []struct {
		name  string
		spoil func(*Policy)
		want  error
		says  string
	}{
		{"the first again", func(p *Policy) { *p = *testPolicy(f.exporter, f.notary) }, ErrRollback, "it is version 1, want 2"},
		{"a version left out", func(p *Policy) { p.Version = 3 }, ErrRollback, "it is version 3, want 2"},
		{"after another", func(p *Policy) { p.Prev = Hash{9} }, ErrRollback, "version 2 follows policy"},
		{"after none", func(p *Policy) { p.Prev = Hash{} }, ErrInvalid, "names no policy before"},
		{"from nowhere", func(p *Policy) { p.From = 0 }, ErrInvalid, "from manifest 0 on"},
		{"from too far", func(p *Policy) { p.From = MaxSeq + 1 }, ErrInvalid, "from manifest"},
		{"too many versions", func(p *Policy) { p.Version = MaxPolicies + 1 }, ErrLimit, "at most 1000"},
		{"another salt", func(p *Policy) { p.Salt = Hash{9} }, ErrInvalid, "salt"},
		{"a file left out", func(p *Policy) { p.Files = nil }, ErrInvalid, "leaves out file README.md"},
		{"a file changed", func(p *Policy) { p.Files[0].SHA256 = Hash{9} }, ErrInvalid, "leaves out file README.md"},
		{"a threshold the keys left cannot meet", func(p *Policy) { p.Threshold = 3 }, ErrInvalid, "threshold 3 with 2 keys"},
		{"an exporter that is too late", func(p *Policy) { p.Keys[2].From = 4 }, ErrInvalid, "no key has the role exporter from manifest 3 on"},
		{"a key with a past", func(p *Policy) { p.Keys[2].From = 1 }, ErrInvalid, "from manifest 1 on"},
		{"a key revoked before it counts", func(p *Policy) { p.Keys[1].From, p.Keys[1].Revoked = 7, 7 }, ErrInvalid, "before it counts"},
		{"a group that is not there", func(p *Policy) { p.Keys[2].Group = "pq" }, ErrInvalid, "group pq"},
		{"a group twice", func(p *Policy) { p.Groups = append(p.Groups, p.Groups[0]) }, ErrInvalid, "two groups"},
		{"a group without a name", func(p *Policy) { p.Groups[0].Name = "" }, ErrInvalid, "group"},
		{"a group that asks nothing", func(p *Policy) { p.Groups[0].Threshold = 0 }, ErrInvalid, "threshold 0"},
		{"a group that cannot sign", func(p *Policy) { p.Groups[0].Threshold = 2 }, ErrInvalid, "threshold 2 with 1 keys"},
		{"a group with an officer", func(p *Policy) { p.Keys[0].Role, p.Keys[0].Group = Officer, "witnesses" }, ErrInvalid, "officers and others"},
		{"too many groups", func(p *Policy) { p.Groups = make([]PolicyGroup, MaxKeys+1) }, ErrLimit, "17 groups"},
		{"officers that are to sign snapshots", func(p *Policy) { p.Keys[1].Role = Officer }, ErrInvalid, "threshold 2 with 1 keys"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := f.rotated(t)
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			test.spoil(p)
			_, err := OpenNextPolicy(f.sealNext(t, p, all...), f.policy)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.says)
			}
			if _, err := DraftPolicy(p, f.policy); !errors.Is(err, test.want) {
				t.Errorf("draft: got %v, want %v", err, test.want)
			}
		})
	}
}

func TestNextPolicyNeedsBothThresholds(t *testing.T) {
	f := newFixture(t)
	tests := []struct {
		name    string
		signers []Signer
		says    string
	}{
		{"the old alone", []Signer{f.exporter, f.notary}, "version 2: untrusted: signed by 1 trusted key, 2 needed; ok notary"},
		{"the new alone", []Signer{f.notary, f.stranger}, "not agreed to by version 1: untrusted: signed by 1 trusted key, 2 needed"},
		{"nobody of the group", []Signer{f.exporter, f.stranger}, "not agreed to by version 1"},
		{"the new key alone", []Signer{f.stranger}, "signed by 0 trusted keys"},
	}
	for _, test := range tests {
		_, err := OpenNextPolicy(f.sealNext(t, f.rotated(t), test.signers...), f.policy)
		if !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.says)
		}
	}
}

// TestARevokedKeyIsNotTakenBack goes on to a third version.
func TestARevokedKeyIsNotTakenBack(t *testing.T) {
	f := newFixture(t)
	p2 := f.openNext(t, f.rotated(t), f.exporter, f.notary, f.stranger)
	all := []Signer{f.exporter, f.notary, f.stranger}
	for name, spoil := range map[string]func(*Policy){
		"as if nothing had been": func(p *Policy) { p.Keys[0].Revoked = 0 },
		"for a little longer":    func(p *Policy) { p.Keys[0].Revoked = 4 },
	} {
		p3 := p2.Next(testTime(120).Time, 9)
		spoil(p3)
		if _, err := OpenNextPolicy(f.sealNext(t, p3, all...), p2); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "not taken back") {
			t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
		}
	}
	p3 := p2.Next(testTime(120).Time, 9)
	p3.Keys = p3.Keys[1:] // it may be forgotten
	if _, err := OpenNextPolicy(f.sealNext(t, p3, f.exporter, f.notary), p2); !errors.Is(err, ErrUntrusted) {
		t.Errorf("agreed to by the revoked key: got %v, want %v", err, ErrUntrusted)
	}
	opened := must(OpenNextPolicy(f.sealNext(t, p3, f.stranger, f.notary), p2))(t)
	if _, err := Open(f.sealUnder(t, 9, f.sealed, opened.Digest(), f.exporter, f.notary), opened); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a manifest by the forgotten key: got %v, want %v", err, ErrUntrusted)
	}
	for seq, want := range map[int64]int64{1: 1, 2: 1, 3: 2, 8: 2, 9: 3, MaxSeq: 3} {
		if got := opened.At(seq).Version; got != want {
			t.Errorf("manifest %d: version %d is in force, want %d", seq, got, want)
		}
	}
	if _, err := OpenNextPolicy(f.sealNext(t, p2.Next(testTime(120).Time, 2), f.stranger, f.notary), p2); !errors.Is(err, ErrInvalid) {
		t.Errorf("from before the version before: got %v, want %v", err, ErrInvalid)
	}
}

// TestOneOfEachGroup is "one classical and one post-quantum", with the algorithms
// there are.
func TestOneOfEachGroup(t *testing.T) {
	keys := map[string]Signer{}
	p := testPolicy(testKey(t, "exporter"), testKey(t, "notary"))
	p.Threshold, p.Keys = 1, nil
	for _, name := range []string{"a1", "a2", "b1", "b2", "o1"} {
		_, s, err := GenerateKey(map[byte]string{'a': Ed25519, 'b': ECDSAP256, 'o': Ed25519}[name[0]])
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = s
		entry := NewPolicyKey(name, Exporter, s.Key())
		entry.Group = name[:1]
		if name == "o1" {
			entry.Role = Officer
		}
		p.Keys = append(p.Keys, entry)
	}
	p.Groups = []PolicyGroup{{"a", 1}, {"b", 1}, {"o", 1}}
	for _, test := range []struct {
		signers string
		good    bool // for a manifest
		policy  bool
	}{
		{"a1 b1", true, false}, {"a2 b1", true, false}, {"a1 a2", false, false}, {"b1 b2", false, false}, {"a1", false, false},
		{"a1 b1 o1", false, true}, {"a1 o1", false, false},
	} {
		var signers []Signer
		for name := range strings.FieldsSeq(test.signers) {
			signers = append(signers, keys[name])
		}
		if err := p.Check(signers...); (err == nil) != test.good {
			t.Errorf("%s for a manifest: %v", test.signers, err)
		}
		if _, err := SealPolicy(t.Context(), p, signers...); (err == nil) != test.policy {
			t.Errorf("%s for a policy: %v", test.signers, err)
		}
	}
}

func TestDraftIsSignedBySeveral(t *testing.T) {
	f := newFixture(t)
	next := f.rotated(t)
	draft := must(DraftPolicy(next, f.policy))(t)
	if _, err := OpenNextPolicy(draft, f.policy); !errors.Is(err, ErrUntrusted) {
		t.Errorf("unsigned: got %v, want %v", err, ErrUntrusted)
	}
	for _, s := range []Signer{f.exporter, f.notary, f.notary, f.stranger} {
		draft = must(SignPolicy(t.Context(), draft, s))(t)
	}
	d := must(ReadDraft(draft))(t)
	if len(d.Keys) != 3 || d.Policy.Version != 2 {
		t.Errorf("the draft is %+v", d)
	}
	if p := must(OpenNextPolicy(draft, f.policy))(t); p.Digest() != d.Digest {
		t.Errorf("digest %s, the draft's was %s", p.Digest(), d.Digest)
	}
	if _, err := SignPolicy(t.Context(), f.sealed, f.exporter); !errors.Is(err, ErrInvalid) {
		t.Errorf("a manifest for a draft: got %v, want %v", err, ErrInvalid)
	}
}

func TestAlikeAreTheKeysThatCount(t *testing.T) {
	f := newFixture(t)
	next := f.rotated(t)
	next.Keys[2].From = 2
	next.Keys[1].Revoked = 6
	next.Keys = append(next.Keys, NewPolicyKey("late", Notary, testKeyMade(t)))
	next.Keys[3].Group, next.Keys[3].From = "witnesses", 5
	p := f.openNext(t, next, f.exporter, f.notary, f.stranger)
	for _, test := range []struct {
		a, b int64
		want bool
	}{{1, 2, true}, {2, 3, false}, {3, 4, true}, {4, 5, false}, {5, 6, false}, {6, 99, true}} {
		if got := p.At(test.a).Alike(p.At(test.b)); got != test.want {
			t.Errorf("%d and %d: %v", test.a, test.b, got)
		}
	}
}

func testKeyMade(t *testing.T) PublicKey {
	t.Helper()
	_, s, err := GenerateKey(Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	return s.Key()
}

// writeBadNext makes the files of testdata/bad for a second version.
func writeBadNext(t *testing.T, f *fixture) {
	t.Helper()
	good := string(must(encode(*f.rotated(t)))(t))
	all := []Signer{f.exporter, f.notary, f.stranger}
	write := func(name, payload string, signers ...Signer) {
		sealed := must(policyKind.seal(t.Context(), []byte(payload), signers))(t)
		if err := os.WriteFile(filepath.Join("testdata", "bad", name+".json"), sealed, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range [][3]string{
		{"rollback-next-version", `"version":2`, `"version":3`},
		{"rollback-next-prev", `"prev":"` + goldenArchive[:8], `"prev":"00000000`},
		{"invalid-next-prev-missing", `"prev":"` + goldenArchive + `",`, ``},
		{"invalid-next-from-missing", `"from":3,`, ``},
		{"invalid-next-from-zero", `"from":3`, `"from":0`},
		{"invalid-next-salt", `"salt":"` + f.policy.Salt.String()[:8], `"salt":"00000000`},
		{"invalid-next-revoked-twice", `"revoked":3`, `"revoked":3,"revoked":4`},
		{"invalid-next-revoked-zero", `"revoked":3`, `"revoked":0`},
		{"invalid-next-group-missing", `,"groups":[{"name":"witnesses","threshold":1}]`, ``},
		{"invalid-next-group-empty", `"groups":[{"name":"witnesses","threshold":1}]`, `"groups":[]`},
		{"invalid-next-group-threshold", `"witnesses","threshold":1`, `"witnesses","threshold":2`},
		{"invalid-next-files", `"name":"README.md"`, `"name":"README.txt"`},
		{"limit-next-version", `"version":2`, `"version":1001`},
		{"format-next-newer", `{"format":1`, `{"format":2`},
	} {
		if !strings.Contains(good, bad[1]) {
			t.Errorf("%s: the payload has no %q", bad[0], bad[1])
		}
		write(bad[0], strings.Replace(good, bad[1], bad[2], 1), all...)
	}
	write("untrusted-next-old-alone", good, f.exporter, f.notary)
	write("untrusted-next-new-alone", good, f.notary, f.stranger)
}
