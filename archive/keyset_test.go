package archive_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

func setOf(starts ...string) archive.KeySet {
	var keys []manifest.Key
	for _, s := range starts {
		keys = append(keys, manifest.Key(s))
	}
	return archive.NewKeySet(keys)
}

func TestKeySetKnowsItsBoundaries(t *testing.T) {
	s := setOf("m", "b", "bb", "d\xff", "m", "mm")
	for key, want := range map[string]bool{
		"": false, "a\xff\xff": false, "b": true, "ba": true, "b\xff\xff": true, "c": false,
		"d": false, "d\xfe": false, "d\xff": true, "d\xff\xff": true, "e": false, "l": false, "m": true, "mz": true, "n": false,
	} {
		if got := s.Has(manifest.Key(key)); got != want {
			t.Errorf("Has %q: %t", key, got)
		}
	}
	for _, test := range []struct {
		first, last     string
		covers, touches bool
	}{
		{"a", "a\xff", false, false}, {"a", "b", false, true}, {"b", "b", true, true}, {"ba", "bz", true, true},
		{"b", "c", false, true}, {"c", "d", false, false}, {"c", "d\xff", false, true}, {"c", "z", false, true},
		{"n", "z", false, false}, {"a", "z", false, true}, {"b", "m", false, true},
	} {
		first, last := manifest.Key(test.first), manifest.Key(test.last)
		if got := s.Covers(first, last); got != test.covers {
			t.Errorf("Covers %q to %q: %t", first, last, got)
		}
		if got := s.Touches(first, last); got != test.touches {
			t.Errorf("Touches %q to %q: %t", first, last, got)
		}
	}
	if s := setOf(); s.Has(manifest.Key("a")) || s.Touches(nil, manifest.Key("z")) || s.Meets(nil) || !s.IsEmpty() {
		t.Error("the empty set has keys")
	}
	if s := setOf("a", ""); !s.Has(nil) || !s.Has(manifest.Key("z")) || !s.Covers(nil, manifest.Key("z")) || s.IsEmpty() {
		t.Error("what starts with nothing is not all keys")
	}
}

// TestKeySetIsWhatTryingEachStartGives compares sets of random keys with going
// through what they were made of.
func TestKeySetIsWhatTryingEachStartGives(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	random := func() string {
		var b strings.Builder
		for range rnd.IntN(5) {
			b.WriteString(pick(rnd, "\x00", "a", "b", "\xff"))
		}
		return b.String()
	}
	var all []string // keys of up to three letters
	for _, a := range []string{"", "\x00", "a", "b", "\xff"} {
		for _, b := range []string{"", "\x00", "a", "b", "\xff"} {
			for _, c := range []string{"", "\x00", "a", "b", "\xff"} {
				all = append(all, a+b+c)
			}
		}
	}
	for range 300 {
		var starts []string
		for range rnd.IntN(8) {
			starts = append(starts, "a"+random())
		}
		s := setOf(starts...)
		has := func(key string) bool {
			return slices.ContainsFunc(starts, func(start string) bool { return strings.HasPrefix(key, start) })
		}
		for _, key := range all {
			if got := s.Has(manifest.Key(key)); got != has(key) {
				t.Fatalf("set of %q, key %q: %t", starts, key, got)
			}
			meets := has(key) || slices.ContainsFunc(starts, func(start string) bool { return strings.HasPrefix(start, key) })
			if got := s.Meets(manifest.Key(key)); got != meets {
				t.Fatalf("set of %q meets %q: %t", starts, key, got)
			}
		}
		first, last := []byte(random()), []byte(random())
		if bytes.Compare(first, last) > 0 {
			first, last = last, first
		}
		touches := has(string(first)) || slices.ContainsFunc(starts, func(start string) bool {
			return bytes.Compare(first, []byte(start)) <= 0 && bytes.Compare([]byte(start), last) <= 0
		})
		if got := s.Touches(first, last); got != touches {
			t.Fatalf("set of %q touches %q to %q: %t", starts, first, last, got)
		}
	}
}
