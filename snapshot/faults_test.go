package snapshot_test

import (
	"errors"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

var faultKinds = []local.FaultKind{
	local.FaultBusy, local.FaultUnavailable, local.FaultInternal, local.FaultNotReady, local.FaultTooFrequent,
	local.FaultCutBefore, local.FaultTimeout, local.FaultCutAfter, local.FaultTruncate, local.FaultFlip,
	local.FaultCorrupt, local.FaultRows, local.FaultRowsTimeout, local.FaultEmptyPage,
}

// mainJob exports, verifies, restores and compares, and returns the row digests
// of what it wrote.
func mainJob(t *testing.T, s *service, target string) []manifest.Hash {
	t.Helper()
	a, key := newArchive(t, new(archivetest.Memory))
	e := export(t, s, a, key, "ragged", "plain")
	if _, err := (snapshot.Verify{Archive: a, Level: snapshot.Rows}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := restoring(t, s, a, target).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := (snapshot.Compare{Archive: a, With: s.instance(t, target)}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return rowDigests(t, a, e)
}

func rowDigests(t *testing.T, a *snapshot.Archive, e snapshot.Entry) []manifest.Hash {
	t.Helper()
	var digests []manifest.Hash
	objects := contents(t, a.Store)
	for _, table := range e.Manifest.Tables {
		for _, ref := range table.Pages {
			page, err := manifest.OpenPage(objects[e.Manifest.PageObject(table, ref).Name], a.Policy)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page.Chunks {
				digests = append(digests, c.RowDigest)
			}
		}
	}
	return digests
}

func TestTheMainJobEndsRightWhateverTheServiceDoes(t *testing.T) {
	s := newService(t)
	fillRagged(t, s.client("source"))
	fillPlain(t, s.client("source"), "plain", 1000)
	want := mainJob(t, s, "t-undisturbed")
	cases := map[string][]local.Fault{}
	for _, kind := range faultKinds {
		cases[string(kind)] = []local.Fault{{Kind: kind, Probability: 0.2}}
		cases["mixed"] = append(cases["mixed"], local.Fault{Kind: kind, Probability: 0.02})
	}
	for name, faults := range cases {
		t.Run(name, func(t *testing.T) {
			if err := s.Misbehave(faults...); err != nil {
				t.Fatal(err)
			}
			defer s.Misbehave()
			got := mainJob(t, s, "t-"+name)
			if len(got) != len(want) {
				t.Fatalf("%d chunks, undisturbed %d", len(got), len(want))
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("chunk %d has other rows than undisturbed", i)
				}
			}
		})
	}
}

// TestAServiceThatNeverAnswersRightIsUnavailable gives up, says so, and leaves
// no snapshot and no claim about the data.
func TestAServiceThatNeverAnswersRightIsUnavailable(t *testing.T) {
	s := newService(t)
	fillRagged(t, s.client("source"))
	a, key := newArchive(t, new(archivetest.Memory))
	e := export(t, s, a, key, "ragged")
	for _, c := range []struct {
		action string
		kinds  []local.FaultKind
	}{
		{"GetRange", []local.FaultKind{local.FaultBusy, local.FaultCutBefore, local.FaultTimeout, local.FaultTruncate, local.FaultFlip, local.FaultCorrupt}},
		{"BatchWriteRow", []local.FaultKind{local.FaultBusy, local.FaultCutAfter, local.FaultTimeout, local.FaultFlip, local.FaultRows, local.FaultRowsTimeout}},
	} {
		for _, kind := range c.kinds {
			t.Run(c.action+" "+string(kind), func(t *testing.T) {
				if err := s.Misbehave(local.Fault{Action: c.action, Kind: kind, Rows: 1}); err != nil {
					t.Fatal(err)
				}
				defer s.Misbehave()
				in := impatient(t, s, "source")
				var err error
				if c.action == "GetRange" {
					run := exporting(t, s, a, key, "ragged")
					run.From = in
					_, err = run.Run(t.Context())
				} else {
					name := "t-" + string(kind)
					in = impatient(t, s, name)
					_, err = snapshot.Restore{From: a, To: in, Check: in}.Run(t.Context())
				}
				if !errors.Is(err, snapshot.ErrUnavailable) {
					t.Errorf("got %v, want ErrUnavailable", err)
				}
				if isVerdict(err) || errors.Is(err, snapshot.ErrDiffers) {
					t.Errorf("%v is a verdict about the data", err)
				}
			})
		}
	}
	chain, err := a.Chain(t.Context())
	if err != nil || len(chain) != 1 || chain[0].Digest != e.Digest {
		t.Errorf("the archive holds %d snapshots, %v; want the one there was", len(chain), err)
	}
}

// impatient is an instance that is given up soon.
func impatient(t *testing.T, s *service, name string) *tablestore.Instance {
	t.Helper()
	in, err := tablestore.Open(tablestore.Config{
		Endpoint: s.url, Instance: name, AccessKeyID: "local", AccessKeySecret: "local", GiveUpAfter: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return in
}
