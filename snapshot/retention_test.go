package snapshot_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

func (k *kept) sharedNames() []string {
	return []string{"README.md", "policy/00000001.dsse.json", manifest.StoreName(k.Policy.ID()), "verify.sh"}
}

func (k *kept) lockOf(t *testing.T, name string) archive.Lock {
	t.Helper()
	info, err := k.vault.Inspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Lock
}

// needs names all that a snapshot needs to be read.
func (k *kept) needs(e snapshot.Entry) []string {
	names := append(k.of(e, ""), k.sharedNames()...)
	for seq := int64(1); seq <= e.Manifest.Seq; seq++ {
		names = append(names, manifest.ManifestName(seq))
	}
	return names
}

func TestLocksAreShownBySnapshot(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), year, archive.Period{})
	if err := k.vault.Hold(t.Context(), k.of(k.last, ".parquet")[0], true); err != nil {
		t.Fatal(err)
	}
	report, err := snapshot.Retention{Archive: k.Archive}.Show(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Snapshots) != 2 || report.Kind != "show" || report.Changed != 0 {
		t.Fatalf("got %+v", report)
	}
	one, two := report.Snapshots[0], report.Snapshots[1]
	if one.Governance != one.Objects || one.Objects != int64(len(k.of(k.first, "")))+1 || one.Unlocked+one.Held > 0 ||
		one.Signed != k.first.Manifest.Retention || *one.Earliest != manifest.At(signed(k.first).Until) {
		t.Errorf("the first is %+v", one)
	}
	if two.Unlocked != two.Objects || two.Held != 1 || two.Earliest != nil || two.Signed.Mode != "none" {
		t.Errorf("the second is %+v", two)
	}
	if report.Needed.Objects != 4 || report.Needed.Governance != report.Needed.Objects {
		t.Errorf("what they need is %+v", report.Needed)
	}
	if _, err := (snapshot.Retention{Archive: k.Archive, Snapshot: "7"}).Show(t.Context()); err == nil {
		t.Error("there is no snapshot 7")
	}
	memory := open(t, storeWith(t, contents(t, k.vault)), k.Trust)
	if _, err := (snapshot.Retention{Archive: memory}).Show(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a store that does not tell: %v", err)
	}
}

func TestExtendLocksAllThatASnapshotNeeds(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), year, month)
	want := archive.Lock{Mode: archive.Compliance, Until: time.Now().UTC().AddDate(5, 0, 0).Truncate(time.Second)}
	before := k.lockOf(t, k.of(k.first, ".parquet")[0])
	var events []snapshot.Event
	run := snapshot.Retention{Archive: k.Archive, Snapshot: "latest", Workers: 1, Progress: func(e snapshot.Event) { events = append(events, e) }}
	report, err := run.Extend(t.Context(), want.Mode, want.Until)
	if err != nil {
		t.Fatal(err)
	}
	needs := k.needs(k.last)
	for _, name := range needs {
		if got := k.lockOf(t, name); got != want {
			t.Errorf("%s is locked %+v, want %+v", name, got, want)
		}
	}
	if got := k.lockOf(t, k.of(k.first, ".parquet")[0]); got != before {
		t.Errorf("a chunk of the other is locked %+v, was %+v", got, before)
	}
	if int(report.Changed) != len(needs) || report.Snapshots[0].Compliance != report.Snapshots[0].Objects {
		t.Errorf("got %+v, want %d changed", report, len(needs))
	}
	if !slices.ContainsFunc(events, func(e snapshot.Event) bool {
		return e.Stage == "extend" && e.Done == int64(len(needs)) && e.Total == e.Done
	}) {
		t.Errorf("no event of all being done: %+v", events)
	}
	if again, err := run.Extend(t.Context(), want.Mode, want.Until); err != nil || again.Changed != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	if _, err := k.verify(t, snapshot.Objects); err != nil {
		t.Error(err)
	}
}

func TestALockIsNeverShortenedOrWeakened(t *testing.T) {
	whole := newKept(t, new(archivetest.Vault), year, month)
	later := whole.vault.Clone()
	far := archive.Lock{Mode: archive.Governance, Until: time.Now().AddDate(3, 0, 0)}
	if err := later.Lock(t.Context(), whole.of(whole.last, ".parquet")[1], far); err != nil {
		t.Fatal(err)
	}
	firm := whole.vault.Clone()
	if err := firm.Lock(t.Context(), whole.of(whole.last, ".parquet")[1], archive.Lock{Mode: archive.Compliance, Until: time.Now().AddDate(0, 0, 10)}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		vault *archivetest.Vault
		which string
		mode  archive.Mode
		days  int
		says  string
	}{
		"earlier than signed":         {whole.vault, "1", archive.Compliance, 300, "never shortened"},
		"earlier than one object's":   {later, "2", archive.Governance, 900, "never shortened"},
		"earlier than one of several": {whole.vault, "", archive.Governance, 300, whole.first.Manifest.Snapshot},
		"less firm":                   {firm, "2", archive.Governance, 900, "firmer"},
		"past":                        {whole.vault, "2", archive.Governance, -1, "has passed"},
		"no mode":                     {whole.vault, "2", archive.Unlocked, 900, "no lock mode"},
		"no such mode":                {whole.vault, "2", "legal", 900, "no lock mode"},
		"no locks":                    {func() *archivetest.Vault { v := whole.vault.Clone(); v.NoLocks = true; return v }(), "2", archive.Governance, 900, "no locks"},
		"locks that are dropped":      {func() *archivetest.Vault { v := whole.vault.Clone(); v.DropLocks = true; return v }(), "2", archive.Governance, 900, "keeps governance"},
	} {
		k := *whole
		k.vault = test.vault.Clone()
		run := snapshot.Retention{Archive: open(t, k.vault, k.Trust), Snapshot: test.which}
		_, err := run.Extend(t.Context(), test.mode, time.Now().AddDate(0, 0, test.days))
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", name, err, test.says)
		}
		for _, object := range k.vault.Names() {
			if was, _ := test.vault.Inspect(t.Context(), object); k.lockOf(t, object) != was.Lock {
				t.Errorf("%s: %s is locked otherwise", name, object)
			}
		}
	}
}

func TestAHoldThatIsDroppedIsFound(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), month)
	k.vault.DropLocks = true
	if _, err := (snapshot.Retention{Archive: k.Archive}).Hold(t.Context(), true); !errors.Is(err, snapshot.ErrWeaker) {
		t.Errorf("got %v, want ErrWeaker", err)
	}
}

// TestWhatSnapshotsShareKeepsWhatIsFirmer extends a snapshot beside one that is
// locked for ages.
func TestWhatSnapshotsShareKeepsWhatIsFirmer(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), month, month)
	ages := time.Now().UTC().AddDate(30, 0, 0).Truncate(time.Second)
	if _, err := (snapshot.Retention{Archive: k.Archive, Snapshot: "2"}).Extend(t.Context(), archive.Compliance, ages); err != nil {
		t.Fatal(err)
	}
	soon := time.Now().UTC().AddDate(2, 0, 0).Truncate(time.Second)
	if _, err := (snapshot.Retention{Archive: k.Archive, Snapshot: "1"}).Extend(t.Context(), archive.Governance, soon); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(k.sharedNames(), manifest.ManifestName(1)) {
		if got := k.lockOf(t, name); got != (archive.Lock{Mode: archive.Compliance, Until: ages}) {
			t.Errorf("%s is locked %+v", name, got)
		}
	}
	for _, name := range k.of(k.first, "") {
		if got := k.lockOf(t, name); got != (archive.Lock{Mode: archive.Governance, Until: soon}) {
			t.Errorf("%s is locked %+v", name, got)
		}
	}
}

func TestABrokenExtensionGoesOn(t *testing.T) {
	whole := newKept(t, new(archivetest.Vault), month, month)
	until := time.Now().UTC().AddDate(2, 0, 0).Truncate(time.Second)
	broken := 0
	for n := 5; ; n += 3 {
		k := *whole
		k.vault = whole.vault.Clone()
		store := &dying{Vault: k.vault, at: n, after: n%2 == 0}
		a, err := snapshot.Open(t.Context(), store, k.Trust)
		if err == nil {
			_, err = snapshot.Retention{Archive: a, Snapshot: "2"}.Extend(t.Context(), archive.Compliance, until)
		}
		if !store.dead {
			break
		}
		broken++
		if !errors.Is(err, archive.ErrUnavailable) {
			t.Errorf("call %d: got %v", n, err)
		}
		again, err := snapshot.Retention{Archive: open(t, k.vault, k.Trust), Snapshot: "2"}.Extend(t.Context(), archive.Compliance, until)
		if err != nil {
			t.Fatalf("call %d, then: %v", n, err)
		}
		for _, name := range k.needs(k.last) {
			if got := k.lockOf(t, name); got.Mode != archive.Compliance || !got.Until.Equal(until) {
				t.Errorf("call %d, then %d changed: %s is locked %+v", n, again.Changed, name, got)
			}
		}
	}
	if broken < 10 {
		t.Errorf("only %d times", broken)
	}
}

func TestAHoldIsOnAllThatASnapshotNeedsAndOffWhenNobodyNeedsIt(t *testing.T) {
	k := newKept(t, new(archivetest.Vault), month, archive.Period{}, year)
	all := k.vault.Names()
	held := func() (names []string) {
		for _, name := range all {
			if k.lockOf(t, name).Hold {
				names = append(names, name)
			}
		}
		return names
	}
	locks := map[string]archive.Lock{}
	for _, name := range all {
		locks[name] = k.lockOf(t, name)
	}
	chain, err := k.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	needs := func(numbers ...int) []string {
		var names []string
		for _, n := range numbers {
			names = append(names, k.needs(chain[n-1])...)
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	for i, step := range []struct {
		which string
		on    bool
		want  []string
		note  string
	}{
		{"2", true, needs(2), ""},
		{"1", true, needs(1, 2), ""},
		{"2", true, needs(1, 2), ""},
		{"2", false, needs(1), "1 other snapshots are held"},
		{"3", true, needs(1, 3), ""},
		{"1", false, needs(3), "1 other snapshots are held"},
		{"3", false, nil, ""},
		{"", true, needs(1, 2, 3), ""},
		{"", false, nil, ""},
	} {
		was := held()
		report, err := snapshot.Retention{Archive: k.Archive, Snapshot: step.which}.Hold(t.Context(), step.on)
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		now := held()
		if slices.Sort(now); !slices.Equal(now, step.want) {
			t.Errorf("step %d: held are %q, want %q", i, now, step.want)
		}
		if diff := len(now) - len(was); int(report.Changed) != max(diff, -diff) {
			t.Errorf("step %d: %d changed, want %d", i, report.Changed, diff)
		}
		if text := strings.Join(report.Notes, "\n"); (text == "") != (step.note == "") || !strings.Contains(text, step.note) {
			t.Errorf("step %d: notes %q", i, text)
		}
	}
	for _, name := range all {
		if got := k.lockOf(t, name); got != locks[name] {
			t.Errorf("%s is locked %+v, was %+v", name, got, locks[name])
		}
	}
}

func TestABucketsLockIsShownAndNotChanged(t *testing.T) {
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 100)
	store := newWorm(400)
	a, key := archiveIn(t, store, archive.Compliance, year)
	export(t, s, a, key, "plain")
	run := snapshot.Retention{Archive: a}
	report, err := run.Show(t.Context())
	if err != nil || report.Snapshots[0].Compliance != report.Snapshots[0].Objects {
		t.Errorf("got %+v, %v", report, err)
	}
	_, extend := run.Extend(t.Context(), archive.Compliance, time.Now().AddDate(3, 0, 0))
	_, hold := run.Hold(t.Context(), true)
	for _, err := range []error{extend, hold} {
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), "bucket") {
			t.Errorf("got %v", err)
		}
	}
}
