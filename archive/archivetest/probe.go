package archivetest

import (
	"context"
	"errors"
	"testing"

	"github.com/otsnap/otsnap/archive"
)

// ProbeStore is a store that finds out what its server can do.
type ProbeStore interface {
	archive.Store
	archive.Prober
}

// TestProbe holds a store to finding out states, by names of capabilities (of a
// bucket whose state is known), and to leaving everything as it was. open returns
// an empty store.
func TestProbe(t *testing.T, open func(t *testing.T) ProbeStore, states map[string]archive.State) {
	t.Run("StatesAreFound", func(t *testing.T) { probeStates(t, open(t), states) })
	t.Run("NothingIsChanged", func(t *testing.T) { probeChangesNothing(t, open(t)) })
	t.Run("ACancelledCallFails", func(t *testing.T) { probeCancelled(t, open(t)) })
}

// capabilities are all there are.
var capabilities = map[string]bool{
	archive.CanCreateOnly: true, archive.CanChecksum: true, archive.CanVersion: true, archive.CanLock: true,
	archive.CanHold: true, archive.CanBucketLock: true, archive.CanTier: true, archive.CanEncrypt: true,
}

func probe(t *testing.T, s ProbeStore, name string) map[string]archive.Capability {
	t.Helper()
	list, err := s.Probe(t.Context(), name)
	if err != nil {
		t.Fatalf("Probe(%q): %v", name, err)
	}
	found := make(map[string]archive.Capability)
	for _, one := range list {
		if _, twice := found[one.Name]; twice || !capabilities[one.Name] {
			t.Errorf("Probe tells %q twice, or as something package archive has no name for", one.Name)
		}
		switch one.State {
		case archive.Supported, archive.Absent, archive.Unknown:
		default:
			t.Errorf("Probe says %q is %q, which is no state", one.Name, one.State)
		}
		found[one.Name] = one
	}
	return found
}

func probeStates(t *testing.T, s ProbeStore, states map[string]archive.State) {
	put(t, s, "policy/object", "signed")
	found := probe(t, s, "policy/object")
	for name, state := range states {
		if one, ok := found[name]; !ok || one.State != state {
			t.Errorf("Probe says %q is %q (%s), want %q", name, one.State, one.Detail, state)
		}
	}
	if _, ok := found[archive.CanCreateOnly]; !ok {
		t.Errorf("Probe does not say whether a second Put is refused; init needs to know")
	}
}

// probeChangesNothing does not hold where a second Put is taken: that cannot be
// found out without one.
func probeChangesNothing(t *testing.T, s ProbeStore) {
	put(t, s, "policy/object", "signed")
	put(t, s, "policy/other", "other")
	var before archive.Info
	inspector, inspects := s.(archive.Inspector)
	if inspects {
		before = inspect(t, inspector, "policy/object")
	}
	for range 2 {
		if probe(t, s, "policy/object")[archive.CanCreateOnly].State == archive.Absent {
			t.Skip("a second Put is taken here")
		}
	}
	want(t, s, "policy/object", "signed")
	want(t, s, "policy/other", "other")
	wantList(t, s, "", "policy/object", "policy/other")
	if inspects {
		if now := inspect(t, inspector, "policy/object"); now != before {
			t.Errorf("Inspect is %+v, was %+v before Probe", now, before)
		}
	}
	shadower, ok := s.(archive.Shadower)
	if !ok {
		return
	}
	for shadow, err := range shadower.Shadows(t.Context(), "") {
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		t.Errorf("Probe laid something over an object: %+v, error %v", shadow, err)
	}
}

func probeCancelled(t *testing.T, s ProbeStore) {
	put(t, s, "policy/object", "signed")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Probe(ctx, "policy/object"); !errors.Is(err, context.Canceled) {
		t.Errorf("Probe with a cancelled context: got %v, want context.Canceled", err)
	}
	want(t, s, "policy/object", "signed")
}
