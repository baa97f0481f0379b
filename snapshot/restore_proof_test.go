package snapshot

import (
	"slices"
	"testing"

	"github.com/otsnap/otsnap/manifest"
)

func TestKeysAreToldInOrderOrWhenTheyAreTooFarOff(t *testing.T) {
	var told []string
	o := keyOrder{tell: func(was, _ manifest.Key) error {
		told = append(told, string(was))
		return nil
	}}
	pair := func(was string, size int) {
		t.Helper()
		if err := o.pair(manifest.Key(was), make(manifest.Key, size)); err != nil {
			t.Fatal(err)
		}
	}
	pair("a", 1)
	for _, was := range []string{"b", "c", "d"} {
		o.wait(manifest.Key(was))
	}
	pair("e", 1)
	pair("c", 1)
	if want := []string{"a"}; !slices.Equal(told, want) {
		t.Fatalf("told %q while b waits, want %q", told, want)
	}
	if err := o.drop(manifest.Key("b")); err != nil {
		t.Fatal(err)
	}
	pair("d", 1)
	if want := []string{"a", "c", "d", "e"}; !slices.Equal(told, want) {
		t.Fatalf("told %q, want %q", told, want)
	}
	told = nil
	o.wait(manifest.Key("f"))
	pair("g", maxWaiting/2)
	if len(told) > 0 {
		t.Fatalf("told %q before f", told)
	}
	pair("h", maxWaiting/2)
	pair("i", 1)
	pair("f", 1)
	if want := []string{"g", "h", "i", "f"}; !slices.Equal(told, want) || o.size != 0 {
		t.Fatalf("told %q, want %q; %d bytes are left", told, want, o.size)
	}
}
