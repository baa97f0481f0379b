package snapshot_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// plainStamp is a time stamp for tests: the digest and a time. Whether it is one is
// what the caller says, and none of this package's business.
func plainStamp(digest manifest.Hash, at time.Time) []byte {
	return fmt.Appendf(nil, "%s %s", digest, at.UTC().Format(time.RFC3339))
}

func checkPlainStamp(data []byte, digest manifest.Hash) (snapshot.Stamp, error) {
	over, text, _ := strings.Cut(string(data), " ")
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return snapshot.Stamp{}, errors.New("is no time stamp")
	}
	if over != digest.String() {
		return snapshot.Stamp{}, errors.New("is over something else")
	}
	return snapshot.Stamp{Time: manifest.At(at), TSA: "test", Serial: "1", Policy: "1.2"}, nil
}

// stampable is an archive with three snapshots.
func stampable(t *testing.T, store archive.Store) (*snapshot.Archive, []snapshot.Entry) {
	t.Helper()
	s := newService(t)
	fillPlain(t, s.client("source"), "plain", 20)
	a, key := newArchive(t, store)
	for range 3 {
		export(t, s, a, key, "plain")
	}
	chain, err := a.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a, chain
}

func stampAt(t *testing.T, a *snapshot.Archive, e snapshot.Entry, at time.Time) string {
	t.Helper()
	name, err := a.PutTimestamp(t.Context(), e.Manifest.Seq, plainStamp(e.Digest, at), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func stampReport(t *testing.T, a *snapshot.Archive, which string) *snapshot.Report {
	t.Helper()
	report, err := snapshot.Verify{Archive: a, Snapshot: which, Level: snapshot.Objects, Stamps: checkPlainStamp}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestTimestampsCoverEarlierSnapshots(t *testing.T) {
	a, chain := stampable(t, new(archivetest.Memory))
	for _, p := range stampReport(t, a, "").Timestamps.Snapshots {
		if p.Proof != nil {
			t.Errorf("without a time stamp: %+v", p)
		}
	}
	now := time.Now().Truncate(time.Second)
	stampAt(t, a, chain[1], now.Add(2*time.Hour))
	second := stampAt(t, a, chain[1], now.Add(time.Hour))
	if second != "timestamps/00000002-2.tsr" {
		t.Errorf("the second is %s", second)
	}
	report := stampReport(t, a, "")
	got := report.Timestamps
	if got.Objects != 2 || got.Good != 2 || len(got.Snapshots) != 3 || len(report.Notes) > 0 {
		t.Fatalf("got %+v, %q", got, report.Notes)
	}
	for i, p := range got.Snapshots[:2] {
		if p.Seq != int64(i)+1 || p.Proof == nil || p.Proof.Over != 2 || p.Proof.Object != second || !p.Proof.Time.Equal(now.Add(time.Hour)) {
			t.Errorf("snapshot %d: %+v", i+1, p.Proof)
		}
	}
	if got.Snapshots[2].Proof != nil {
		t.Errorf("a later snapshot: %+v", got.Snapshots[2].Proof)
	}
	// The first was stamped itself, later: the one before proves more.
	stampAt(t, a, chain[0], now.Add(3*time.Hour))
	if p := stampReport(t, a, "1").Timestamps.Snapshots; len(p) != 1 || p[0].Proof.Over != 2 {
		t.Errorf("got %+v", p)
	}
	stampAt(t, a, chain[0], now)
	if p := stampReport(t, a, "1").Timestamps.Snapshots; p[0].Proof.Over != 1 {
		t.Errorf("got %+v", p)
	}
}

// TestTimestampsThatAreNone are noted and spoil nothing, and block nobody.
func TestTimestampsThatAreNone(t *testing.T) {
	store := new(archivetest.Memory)
	a, chain := stampable(t, store)
	junk := map[string][]byte{
		"timestamps/00000003-1.tsr": []byte("junk"),
		"timestamps/00000003-2.tsr": {},
		"timestamps/00000003-3.tsr": make([]byte, manifest.MaxTimestamp+1),
		"timestamps/00000003-5.tsr": plainStamp(chain[1].Digest, time.Now()), // of another manifest
		"timestamps/00000009-1.tsr": plainStamp(chain[2].Digest, time.Now()), // of none that there is
		"timestamps/3-1.tsr":        []byte("no name of ours"),
	}
	for name, data := range junk {
		if err := store.Put(t.Context(), name, bytes.NewReader(data), archive.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if name := stampAt(t, a, chain[2], time.Now().Add(-time.Hour)); name != "timestamps/00000003-4.tsr" {
		t.Errorf("put as %s", name)
	}
	report := stampReport(t, a, "")
	if got := report.Timestamps; got.Objects != 5 || got.Good != 1 || got.Snapshots[2].Proof.Object != "timestamps/00000003-4.tsr" {
		t.Errorf("got %+v", got)
	}
	all := strings.Join(report.Notes, "\n")
	for _, says := range []string{"00000003-1.tsr proves no time: is no time stamp", "00000003-2.tsr", "00000003-3.tsr proves no time: archive: read timestamps/00000003-3.tsr: has more than 65536 bytes", "00000003-5.tsr proves no time: is over something else", "one of the two clocks was wrong"} {
		if !strings.Contains(all, says) {
			t.Errorf("notes have no %q:\n%s", says, all)
		}
	}
	for n := range manifest.MaxTries {
		_ = store.Put(t.Context(), manifest.TimestampName(3, int64(n)+1), strings.NewReader("junk"), archive.PutOptions{})
	}
	if _, err := a.PutTimestamp(t.Context(), 3, []byte("x"), time.Now()); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "all 64 names") {
		t.Errorf("with all names taken: %v", err)
	}
	if _, err := a.PutTimestamp(t.Context(), 2, make([]byte, manifest.MaxTimestamp+1), time.Now()); !errors.Is(err, manifest.ErrLimit) {
		t.Errorf("one that is too large: %v", err)
	}
}

// TestTimestampsThatCannotBeRead are no verdict.
func TestTimestampsThatCannotBeRead(t *testing.T) {
	a, chain := stampable(t, new(archivetest.Memory))
	name := stampAt(t, a, chain[2], time.Now())
	a.Store = &archivetest.Faulty{Store: a.Store, Cue: func(c archivetest.Call) archivetest.Fault {
		if c.Op == "get" && c.Name == name {
			return archivetest.Before
		}
		return archivetest.None
	}}
	if _, err := (snapshot.Verify{Archive: a, Stamps: checkPlainStamp}).Run(t.Context()); !errors.Is(err, archive.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := snapshot.RequireTimestamp(checkPlainStamp)(t.Context(), a, chain[0]); !errors.Is(err, archive.ErrUnavailable) || snapshot.IsVerdict(err) {
		t.Errorf("where they are required: %v", err)
	}
	if _, err := (snapshot.Verify{Archive: a}).Run(t.Context()); err != nil {
		t.Errorf("a verification that does not look at them: %v", err)
	}
}

// TestTimestampsAreLocked like the archive's own objects.
func TestTimestampsAreLocked(t *testing.T) {
	vault, key := new(archivetest.Vault), newKey(t)
	setup := snapshot.Setup{Mode: archive.Compliance, Period: archive.Period{Years: 7}}
	a := open(t, vault, initiate(t, vault, setup, policyOf(1, key), key).Trust)
	now := time.Now()
	name, err := a.PutTimestamp(t.Context(), 1, []byte("x"), now)
	if err != nil {
		t.Fatal(err)
	}
	info, err := vault.Inspect(t.Context(), name)
	if want := (archive.Lock{Mode: archive.Compliance, Until: now.AddDate(7, 0, 0)}); err != nil || !info.Lock.Covers(want) {
		t.Errorf("got %+v, %v", info.Lock, err)
	}
}

func TestAProvenTimeIsRequired(t *testing.T) {
	a, chain := stampable(t, new(archivetest.Memory))
	for _, step := range []struct {
		stamp  int   // this snapshot
		proven int64 // up to which then
	}{{0, 0}, {1, 1}, {2, 2}, {3, 3}} {
		if step.stamp > 0 {
			stampAt(t, a, chain[step.stamp-1], time.Now())
		}
		verified := snapshot.Verify{Archive: a, Require: []snapshot.Requirement{snapshot.RequireTimestamp(checkPlainStamp)}}
		report, err := verified.Run(t.Context())
		if report == nil || len(report.Problems) != 3-int(step.proven) || errors.Is(err, manifest.ErrUntrusted) != (step.proven < 3) {
			t.Errorf("stamped %d: %v", step.stamp, err)
		}
		for _, e := range chain {
			met, err := snapshot.RequireTimestamp(checkPlainStamp)(t.Context(), a, e)
			var missing *snapshot.NoTimeError
			switch seq := e.Manifest.Seq; {
			case seq <= step.proven && (err != nil || !strings.Contains(met, fmt.Sprintf("snapshot %d was there at ", seq))):
				t.Errorf("stamped %d: snapshot %d: %q, %v", step.stamp, seq, met, err)
			case seq > step.proven && (!errors.As(err, &missing) || missing.Seq != seq || missing.Proven != step.proven):
				t.Errorf("stamped %d: snapshot %d: %q, %+v", step.stamp, seq, met, missing)
			}
		}
	}
	// One over the newest covers all; what is wrong elsewhere is told, and proves nothing.
	a, chain = stampable(t, new(archivetest.Memory))
	put(t, a.Store, manifest.TimestampName(2, 1), []byte("rubbish"))
	if _, err := snapshot.RequireTimestamp(checkPlainStamp)(t.Context(), a, chain[1]); err == nil || !strings.Contains(err.Error(), manifest.TimestampName(2, 1)+" is none: ") {
		t.Errorf("with rubbish: %v", err)
	}
	stampAt(t, a, chain[2], time.Now())
	if _, err := snapshot.RequireTimestamp(checkPlainStamp)(t.Context(), a, chain[0]); err != nil {
		t.Errorf("under a later one: %v", err)
	}
}
