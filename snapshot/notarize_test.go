package snapshot_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// notarial is an archive with two snapshots by an exporter, and a notary whose key
// nobody needed to make them.
type notarial struct {
	t                *testing.T
	service          *service
	archive          *snapshot.Archive
	exporter, notary manifest.Signer
	entries          []snapshot.Entry
}

func newNotarial(t *testing.T, store archive.Store, setup snapshot.Setup) *notarial {
	t.Helper()
	n := &notarial{t: t, service: newService(t), exporter: newKey(t), notary: newKey(t)}
	fillPlain(t, n.service.client("source"), "plain", 300)
	policy := policyOf(1, n.exporter)
	policy.Keys = append(policy.Keys, manifest.NewPolicyKey("auditor", manifest.Notary, n.notary.Key()))
	n.archive = open(t, store, initiate(t, store, setup, policy, n.exporter).Trust)
	for range 2 {
		export(t, n.service, n.archive, n.exporter, "plain")
	}
	n.entries = chainOf(t, n.archive)
	return n
}

func chainOf(t *testing.T, a *snapshot.Archive) []snapshot.Entry {
	t.Helper()
	chain, err := a.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func notarizing(a *snapshot.Archive, keys ...manifest.Signer) snapshot.Notarize {
	return snapshot.Notarize{Archive: a, Level: snapshot.Rows, Signers: keys, Tool: "otsnap test", Build: "go test"}
}

// run notarizes, and returns what became of each snapshot.
func (n *notarial) run(run snapshot.Notarize) []string {
	n.t.Helper()
	report, err := run.Run(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return outcomes(report)
}

func outcomes(r *snapshot.NotarizeReport) []string {
	var all []string
	for _, s := range r.Snapshots {
		all = append(all, strings.TrimSpace(s.State+" "+s.Name))
	}
	return all
}

// seal makes a notarization of the second snapshot, after a change.
func (n *notarial) seal(change func(*manifest.Notarization), keys ...manifest.Signer) []byte {
	n.t.Helper()
	e := n.entries[1]
	document := &manifest.Notarization{
		Format: manifest.Format, Archive: n.archive.Policy.ID(), Seq: 2, Digest: e.Digest, Snapshot: e.Manifest.Snapshot,
		Level: manifest.NotarizedRows, Totals: e.Manifest.Totals, Started: manifest.At(time.Now()), Finished: manifest.At(time.Now()), Tool: "t", Build: "b",
	}
	change(document)
	sealed, err := manifest.SealNotarization(n.t.Context(), document, keys...)
	if err != nil {
		n.t.Fatal(err)
	}
	return sealed
}

func TestANotaryReadsEverythingAndSaysSo(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	first, second := manifest.NotarizationName(1, 1), manifest.NotarizationName(2, 1)
	dry := notarizing(n.archive, n.notary)
	dry.DryRun = true
	if got, want := n.run(dry), []string{"due", "due"}; !slices.Equal(got, want) {
		t.Errorf("dry run: %q, want %q", got, want)
	}
	one := notarizing(n.archive, n.notary)
	one.Snapshot, one.Level = "2", snapshot.Hashes
	if got, want := n.run(one), []string{"notarized " + second}; !slices.Equal(got, want) {
		t.Errorf("one: %q, want %q", got, want)
	}
	deeper := manifest.NotarizationName(2, 2)
	for _, want := range [][]string{{"notarized " + first, "notarized " + deeper}, {"before " + first, "before " + deeper}} {
		if got := n.run(notarizing(n.archive, n.notary)); !slices.Equal(got, want) {
			t.Errorf("all: %q, want %q", got, want)
		}
	}
	report, err := snapshot.Verify{Archive: n.archive, Require: []snapshot.Requirement{snapshot.RequireNotary}}.Run(t.Context())
	if err != nil || len(report.Notarized) != 2 || len(report.Notes) > 0 {
		t.Fatalf("verify: %+v, %v", report, err)
	}
	by := report.Notarized[1]
	if by.Seq != 2 || len(by.Notarizations) != 2 || by.Notarizations[0].Level != "hashes" || by.Notarizations[1].Level != "rows" ||
		!slices.Equal(by.Notarizations[0].By, []string{"auditor"}) || by.Notarizations[1].Name != deeper {
		t.Errorf("verify tells %+v", by)
	}
	claims, err := n.archive.NotarizationClaims(t.Context(), 2)
	if err != nil || !maps.Equal(claims, map[int64]int{1: 1, 2: 2}) {
		t.Errorf("claims %v, %v", claims, err)
	}
}

// TestWhatIsNoNotarization: nothing but a signature of a notary of this archive over this
// manifest, and all of what it names, counts. What else is there is in nobody's way.
func TestWhatIsNoNotarization(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	all := contents(t, n.archive.Store)
	same := func(*manifest.Notarization) {}
	other := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	name := manifest.NotarizationName(2, 1)
	for what, data := range map[string][]byte{
		"by the exporter":            n.seal(same, n.exporter),
		"by a stranger":              n.seal(same, newKey(t)),
		"by another archive's":       n.seal(same, other.notary),
		"of another archive":         other.seal(same, other.notary),
		"of another archive by ours": other.seal(same, n.notary),
		"of another manifest":        n.seal(func(m *manifest.Notarization) { m.Seq, m.Digest = 1, n.entries[0].Digest }, n.notary),
		"of before a fork":           n.seal(func(m *manifest.Notarization) { m.Digest = manifest.Sum([]byte("another manifest 2")) }, n.notary),
		"of a part":                  n.seal(func(m *manifest.Notarization) { m.Totals.Chunks--; m.Totals.Rows-- }, n.notary),
		"the manifest itself":        all[manifest.ManifestName(2)],
		"rubbish":                    []byte("rubbish"),
		"nothing":                    {},
		"too large":                  bytes.Repeat([]byte(" "), manifest.MaxNotarization+1),
	} {
		store := storeWith(t, all)
		put(t, store, name, data)
		a := open(t, store, n.archive.Trust)
		good, notes, err := a.Notarizations(t.Context(), n.entries[1])
		if err != nil || len(good) > 0 || len(notes) != 1 || !strings.HasPrefix(notes[0], name+" is no notarization that counts: ") {
			t.Errorf("%s: %+v, %q, %v", what, good, notes, err)
		}
		var missing *snapshot.NotNotarizedError
		if _, err := snapshot.RequireNotary(t.Context(), a, n.entries[1]); !errors.Is(err, manifest.ErrUntrusted) || !errors.As(err, &missing) || missing.Seq != 2 {
			t.Errorf("%s: required: %v", what, err)
		}
		if _, err := (snapshot.Verify{Archive: a}).Run(t.Context()); err != nil {
			t.Errorf("%s spoils a verification: %v", what, err)
		}
		if got := n.run(notarizing(a, n.notary)); got[1] != "notarized "+manifest.NotarizationName(2, 2) {
			t.Errorf("%s: then %q", what, got)
		}
		if met, err := snapshot.RequireNotary(t.Context(), a, n.entries[1]); err != nil || !strings.Contains(met, "by auditor (rows, ") {
			t.Errorf("%s: and then %q, %v", what, met, err)
		}
	}
}

func TestJunkUnderEveryNameOfANotarization(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	for i := range int64(manifest.MaxTries) {
		put(t, n.archive.Store, manifest.NotarizationName(2, i+1), fmt.Append(nil, i))
	}
	report, err := notarizing(n.archive, n.notary).Run(t.Context())
	if !errors.Is(err, manifest.ErrLimit) || report.Snapshots[0].State != snapshot.NotarizedNow || report.Snapshots[1].State != snapshot.Due {
		t.Errorf("got %q, %v", outcomes(report), err)
	}
	_, err = snapshot.RequireNotary(t.Context(), n.archive, n.entries[1])
	if err == nil || len(err.Error()) > 2000 || !strings.Contains(err.Error(), "and 61 more objects") {
		t.Errorf("got %v", err)
	}
}

func TestADamagedSnapshotIsNotNotarized(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	all := contents(t, n.archive.Store)
	for name := range all {
		if !strings.HasPrefix(name, "snapshots/"+n.entries[0].Manifest.Snapshot+"/") {
			continue
		}
		for what, change := range map[string]func(map[string][]byte){
			"missing": func(o map[string][]byte) { delete(o, name) },
			"damaged": func(o map[string][]byte) { o[name] = slices.Clone(o[name]); o[name][len(o[name])/2] ^= 1 },
		} {
			objects := maps.Clone(all)
			change(objects)
			a := open(t, storeWith(t, objects), n.archive.Trust)
			report, err := notarizing(a, n.notary).Run(t.Context())
			if !isVerdict(err) || !slices.Equal(outcomes(report), []string{"refused", "notarized " + manifest.NotarizationName(2, 1)}) || len(report.Problems) == 0 {
				t.Errorf("%s %s: %q, %v", name, what, outcomes(report), err)
			}
			if good, _, err := a.Notarizations(t.Context(), n.entries[0]); err != nil || len(good) > 0 {
				t.Errorf("%s %s: it is notarized all the same, %v", name, what, err)
			}
		}
	}
}

func TestTroubleWithTheStoreNotarizesNothing(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	all := contents(t, n.archive.Store)
	second := n.entries[1].Manifest.Snapshot
	for what, test := range map[string]struct {
		cue  func(archivetest.Call) archivetest.Fault
		want []string // nil: unavailable
	}{
		"a chunk cannot be read": {func(c archivetest.Call) archivetest.Fault {
			if c.Op == "get" && strings.Contains(c.Name, second) && strings.HasSuffix(c.Name, ".parquet") {
				return archivetest.Before
			}
			return archivetest.None
		}, nil},
		"the answer to a put is lost": {archivetest.OnNth("put", 2, archivetest.After), []string{
			"notarized " + manifest.NotarizationName(1, 1), "notarized " + manifest.NotarizationName(2, 1)}},
		"a put fails": {archivetest.OnNth("put", 2, archivetest.Before), nil},
	} {
		store := storeWith(t, all)
		a := open(t, &archivetest.Faulty{Store: store, Cue: test.cue}, n.archive.Trust)
		report, err := notarizing(a, n.notary).Run(t.Context())
		switch {
		case test.want == nil && (!errors.Is(err, archivetest.ErrInjected) || isVerdict(err) || report.Snapshots[0].State != snapshot.NotarizedNow):
			t.Errorf("%s: %q, %v", what, outcomes(report), err)
		case test.want != nil && err != nil && !errors.Is(err, archivetest.ErrInjected):
			t.Errorf("%s: %v", what, err)
		}
		// Again, and all is done, once.
		a = open(t, store, n.archive.Trust)
		n.run(notarizing(a, n.notary))
		if claims, err := a.NotarizationClaims(t.Context(), 2); err != nil || !maps.Equal(claims, map[int64]int{1: 1, 2: 1}) {
			t.Errorf("%s: then %v, %v", what, claims, err)
		}
	}
}

// TestTwoRunsOfOneNotary: the second finds the work done when it puts.
func TestTwoRunsOfOneNotary(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	plain := n.archive.Store
	n.archive.Store = &meanwhile{Store: plain, before: "00000001-1.dsse.json", do: func() {
		n.run(notarizing(open(t, plain, n.archive.Trust), n.notary))
	}}
	slower := notarizing(n.archive, n.notary)
	slower.Now = func() time.Time { return time.Now().Add(time.Hour) }
	want := []string{"before " + manifest.NotarizationName(1, 1), "before " + manifest.NotarizationName(2, 1)}
	if got := n.run(slower); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOnlyANotaryNotarizes(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	store := &watched{Store: n.archive.Store}
	a := open(t, store, n.archive.Trust)
	for what, test := range map[string]struct {
		keys []manifest.Signer
		says string
	}{
		"an exporter":               {[]manifest.Signer{n.exporter}, "key key-1 (exporter) cannot notarize snapshot 2; notaries of the policy are auditor"},
		"a stranger":                {[]manifest.Signer{newKey(t)}, "which is not in the policy, cannot notarize"},
		"a notary with an exporter": {[]manifest.Signer{n.notary, n.exporter}, "key key-1 (exporter) cannot"},
		"nobody":                    {nil, "there is no key to sign with"},
	} {
		_, err := notarizing(a, test.keys...).Run(t.Context())
		if !errors.Is(err, manifest.ErrUntrusted) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	run := notarizing(a, n.notary)
	run.Level = snapshot.Objects
	if _, err := run.Run(t.Context()); !errors.Is(err, snapshot.ErrWish) {
		t.Errorf("without reading: %v", err)
	}
	if pages, chunks := store.reset(); pages+chunks != 0 {
		t.Errorf("%d pages and %d chunks were read first", pages, chunks)
	}
}

// TestNotariesComeAndGo: one that came later looks back, one that was revoked has no say
// from there on.
func TestNotariesComeAndGo(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	n.run(notarizing(n.archive, n.notary))
	later := newKey(t)
	next := n.archive.Policy.Next(time.Now(), 3)
	next.Keys[1].Revoked = 2
	next.Keys = append(next.Keys, manifest.NewPolicyKey("later", manifest.Notary, later.Key()))
	draft, err := manifest.DraftPolicy(next, n.archive.Policy)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := manifest.SignPolicy(t.Context(), draft, n.exporter)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, n.archive, sealed)
	a := open(t, n.archive.Store, n.archive.Trust)
	for i, want := range []bool{true, false} {
		if _, err := snapshot.RequireNotary(t.Context(), a, n.entries[i]); (err == nil) != want {
			t.Errorf("snapshot %d: %v", i+1, err)
		}
	}
	if got, want := n.run(notarizing(a, n.notary)), []string{"before " + manifest.NotarizationName(1, 1), "unread"}; !slices.Equal(got, want) {
		t.Errorf("by the one that was revoked: %q, want %q", got, want)
	}
	revoked := notarizing(a, n.notary)
	revoked.Snapshot = "2"
	if _, err := revoked.Run(t.Context()); !errors.Is(err, manifest.ErrUntrusted) || !strings.Contains(err.Error(), "auditor (notary, revoked from snapshot 2 on)") {
		t.Errorf("one by the one that was revoked: %v", err)
	}
	if got, want := n.run(notarizing(a, later)), []string{"notarized " + manifest.NotarizationName(1, 2), "notarized " + manifest.NotarizationName(2, 2)}; !slices.Equal(got, want) {
		t.Errorf("by the one that came later: %q, want %q", got, want)
	}
}

// TestANotaryAtTheExport: it counts, and says less than one who reads.
func TestANotaryAtTheExport(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	run := exporting(t, n.service, n.archive, n.exporter, "plain")
	run.Signers = append(run.Signers, n.notary)
	if _, err := run.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := chainOf(t, n.archive)[2]
	good, _, err := n.archive.Notarizations(t.Context(), e)
	if err != nil || len(good) != 1 || good[0].Level != snapshot.AtExport || !slices.Equal(good[0].By, []string{"auditor"}) {
		t.Errorf("got %+v, %v", good, err)
	}
	if newest, err := n.archive.NewestNotarized(t.Context(), 4); err != nil || newest == nil || newest.Manifest.Seq != 3 {
		t.Errorf("the newest that is notarized is %+v, %v", newest, err)
	}
	if got := n.run(notarizing(n.archive, n.notary)); got[2] != "notarized "+manifest.NotarizationName(3, 1) {
		t.Errorf("then %q", got)
	}
}

func TestARestoreThatRequiresANotary(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	one := notarizing(n.archive, n.notary)
	one.Snapshot = "1"
	n.run(one)
	require := []snapshot.Requirement{snapshot.RequireNotary}
	run := restoring(t, n.service, n.archive, "target")
	run.Require = require
	if _, err := run.Run(t.Context()); !errors.Is(err, manifest.ErrUntrusted) || !strings.Contains(err.Error(), "nothing was written: snapshot 2 is signed by key-1 and notarized by nobody; notaries of the policy are auditor") {
		t.Errorf("the newest: %v", err)
	}
	if _, err := run.Plan(t.Context()); !errors.Is(err, manifest.ErrUntrusted) {
		t.Errorf("its plan: %v", err)
	}
	if tables, err := n.service.client("target").ListTable(); err != nil || len(tables.TableNames) > 0 {
		t.Errorf("tables %+v, %v", tables, err)
	}
	newest, err := n.archive.NewestNotarized(t.Context(), 2)
	if err != nil || newest == nil || newest.Manifest.Seq != 1 {
		t.Fatalf("the newest that is notarized is %+v, %v", newest, err)
	}
	run.Snapshot = "1"
	report, err := run.Run(t.Context())
	if err != nil || !slices.ContainsFunc(report.Notes, func(s string) bool { return strings.HasPrefix(s, "snapshot 1 is notarized by auditor (rows, ") }) {
		t.Errorf("by number: %+v, %v", report, err)
	}
	for which, want := range map[string]error{"1": nil, "2": manifest.ErrUntrusted} {
		_, err := snapshot.Compare{Archive: n.archive, Snapshot: which, With: n.service.instance(t, "target"), Require: require}.Run(t.Context())
		if !errors.Is(err, want) {
			t.Errorf("compare with %s: %v", which, err)
		}
	}
	if _, err := (snapshot.Verify{Archive: n.archive, Require: require}).Run(t.Context()); !errors.Is(err, manifest.ErrUntrusted) {
		t.Errorf("verify of both: %v", err)
	}
}

func TestNotarizationsAreLockedLikeTheirSnapshot(t *testing.T) {
	vault := new(archivetest.Vault)
	n := newNotarial(t, vault, snapshot.Setup{Mode: archive.Governance, Period: archive.Period{Days: 2}})
	run := exporting(t, n.service, n.archive, n.exporter, "plain")
	run.Mode, run.Retain = archive.Compliance, archive.Period{Days: 30}
	if _, err := run.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	unlocked := &archivetest.Vault{NoLocks: true}
	if _, err := (snapshot.Copy{From: n.archive, To: unlocked}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.run(notarizing(n.archive, n.notary))
	for seq, want := range map[int64]archive.Lock{
		1: {Mode: archive.Governance, Until: time.Now().AddDate(0, 0, 1)},
		3: {Mode: archive.Compliance, Until: time.Now().AddDate(0, 0, 29)},
	} {
		info, err := vault.Inspect(t.Context(), manifest.NotarizationName(seq, 1))
		if err != nil || !info.Lock.Covers(want) {
			t.Errorf("snapshot %d: %+v, %v", seq, info.Lock, err)
		}
	}
	// A copy is notarized where there are no locks, too, and it is said.
	report, err := notarizing(open(t, unlocked, n.archive.Trust), n.notary).Run(t.Context())
	if err != nil || len(report.Notes) != 3 || !strings.Contains(report.Notes[2], "is not locked compliance until") {
		t.Errorf("a copy: %q, %v", report.Notes, err)
	}
}

// likeAStamp is what a copy takes for a time stamp.
func likeAStamp(digest manifest.Hash) []byte {
	return append([]byte{0x30, 34, 0x04, 32}, digest[:]...)
}

func TestCopiesHaveTheNotarizations(t *testing.T) {
	n := newNotarial(t, new(archivetest.Memory), snapshot.Setup{})
	target := new(archivetest.Memory)
	put(t, n.archive.Store, manifest.NotarizationName(2, 1), []byte("rubbish"))
	put(t, n.archive.Store, manifest.NotarizationName(2, 3), bytes.Repeat([]byte(" "), manifest.MaxNotarization+1))
	oldest, err := n.archive.Find(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	put(t, n.archive.Store, manifest.TimestampName(1, 1), likeAStamp(oldest.Digest))
	put(t, n.archive.Store, manifest.TimestampName(1, 2), []byte("none"))
	put(t, n.archive.Store, manifest.TimestampName(2, 1), likeAStamp(manifest.Hash{9}))
	put(t, n.archive.Store, manifest.TimestampName(7, 1), []byte("of no snapshot"))
	appendReceipt(t, n.archive, "one", n.exporter)
	put(t, n.archive.Store, manifest.ReceiptName(2), []byte("none"))
	appendReceipt(t, n.archive, "three", n.exporter)
	put(t, target, manifest.ReceiptName(3), []byte("there already"))
	put(t, n.archive.Store, manifest.HeadName(manifest.Hash{1}, 1, 1), []byte("of another archive"))
	n.run(notarizing(n.archive, n.notary))
	all := contents(t, n.archive.Store)
	put(t, target, manifest.NotarizationName(1, 1), []byte("there already"))
	copying := snapshot.Copy{From: n.archive, To: target}
	first, err := copying.Run(t.Context())
	if err != nil || len(first.Notes) != 4 { // one of each kind, and of the receipt for which there is no place
		t.Fatalf("%q, %v", first.Notes, err)
	}
	again, err := copying.Run(t.Context())
	if err != nil || again.Copied.Objects != 0 || again.Present != first.Copied {
		t.Errorf("again: %+v, %v", again, err)
	}
	copied := contents(t, target)
	var beside []string
	for name, data := range copied {
		folder, _, _ := strings.Cut(name, "/")
		if !slices.Contains([]string{"notarizations", "timestamps", "receipts", "heads"}, folder) {
			continue
		}
		for original, same := range all {
			if bytes.Equal(data, same) {
				beside = append(beside, name+" is "+original)
			}
		}
	}
	slices.Sort(beside)
	if want := []string{
		"notarizations/00000001-2.dsse.json is notarizations/00000001-1.dsse.json",
		"notarizations/00000002-2.dsse.json is notarizations/00000002-2.dsse.json",
		"receipts/00000001.dsse.json is receipts/00000001.dsse.json",
		"timestamps/00000001-1.tsr is timestamps/00000001-1.tsr",
	}; !slices.Equal(beside, want) {
		t.Errorf("the copy has\n%s", strings.Join(beside, "\n"))
	}
	require := snapshot.Verify{Archive: open(t, target, n.archive.Trust), Require: []snapshot.Requirement{snapshot.RequireNotary}}
	if _, err := require.Run(t.Context()); err != nil {
		t.Errorf("verify: %v", err)
	}
	some := new(archivetest.Memory)
	if _, err := (snapshot.Copy{From: n.archive, To: some, Snapshots: []string{"1"}}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := contents(t, some)[manifest.NotarizationName(2, 2)]; ok {
		t.Error("the copy of snapshot 1 has a notarization of 2")
	}
	_, err = snapshot.Copy{From: n.archive, To: &archivetest.Faulty{Store: new(archivetest.Memory), Cue: func(c archivetest.Call) archivetest.Fault {
		if c.Op == "put" && strings.HasPrefix(c.Name, "notarizations/") {
			return archivetest.Before
		}
		return archivetest.None
	}}}.Run(t.Context())
	if !errors.Is(err, archivetest.ErrInjected) {
		t.Errorf("a notarization that cannot be put: %v", err)
	}
}
