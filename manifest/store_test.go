package manifest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func testStore(archive Hash) *Store {
	return &Store{
		Format: 1, Archive: archive, Created: testTime(0), Kind: "s3",
		Capabilities: []Capability{
			{Name: "create-only", State: Supported},
			{Name: "object lock", State: Supported, Detail: "versions are kept"},
			{Name: "archive tiers", State: Unknown, Detail: "not tried"},
			{Name: "bucket WORM", State: Absent},
		},
		Retention: StoreRetention{Mode: Compliance, Years: 7},
	}
}

// retained is the fixture's plan with a retention asked for.
func (f *fixture) retained() *Plan {
	pl := testPlan(f.policy.ID())
	pl.Retention = Retention{Mode: Compliance, Until: "2033-11-22T16:05:01Z"}
	return pl
}

func TestWhatASealedStoreSaysIsRead(t *testing.T) {
	f := newFixture(t)
	want := testStore(f.policy.ID())
	sealed := must(SealStore(t.Context(), want, f.exporter, f.notary))(t)
	if got := must(OpenStore(sealed, f.policy))(t); !reflect.DeepEqual(got, want) {
		t.Errorf("the store is\n%+v, want\n%+v", got, want)
	}
}

func TestAStoreIsSignedAsTheManifestsAre(t *testing.T) {
	f := newFixture(t)
	for name, signers := range map[string][]Signer{
		"the exporter alone": {f.exporter}, "the notary alone": {f.notary}, "a stranger for the notary": {f.exporter, f.stranger},
	} {
		sealed := must(SealStore(t.Context(), testStore(f.policy.ID()), signers...))(t)
		if _, err := OpenStore(sealed, f.policy); !errors.Is(err, ErrUntrusted) {
			t.Errorf("signed by %s: got %v, want %v", name, err, ErrUntrusted)
		}
	}
	other := must(SealStore(t.Context(), testStore(Hash{1}), f.exporter, f.notary))(t)
	if _, err := OpenStore(other, f.policy); !errors.Is(err, ErrUntrusted) {
		t.Errorf("of another archive: got %v, want %v", err, ErrUntrusted)
	}
	if _, err := OpenStore(f.sealedPlan, f.policy); !errors.Is(err, ErrInvalid) {
		t.Errorf("a plan in its place: got %v, want %v", err, ErrInvalid)
	}
}

func TestStoreRules(t *testing.T) {
	text := must(testStore(Hash{1}).payload())(t)
	fresh := func() *Store { return must(parseStore(text))(t) }
	many := make([]Capability, MaxCapabilities+1)
	for i := range many {
		many[i] = Capability{Name: fmt.Sprint(i), State: Unknown}
	}
	checkRules(t, fresh, []rule[*Store]{
		{"format", func(s *Store) { s.Format = 2 }, ErrFormat, "format 2"},
		{"no archive", func(s *Store) { s.Archive = Hash{} }, ErrInvalid, "archive is zero"},
		{"no time", func(s *Store) { s.Created = Time{} }, ErrInvalid, "created"},
		{"no kind", func(s *Store) { s.Kind = "" }, ErrInvalid, "kind"},
		{"a kind that is an address", func(s *Store) { s.Kind = "s3://bucket" }, ErrInvalid, "kind"},
		{"many capabilities", func(s *Store) { s.Capabilities = many }, ErrLimit, "65 capabilities"},
		{"one twice", func(s *Store) { s.Capabilities[1].Name = "create-only" }, ErrInvalid, "twice"},
		{"no name", func(s *Store) { s.Capabilities[0].Name = "" }, ErrInvalid, "0 bytes"},
		{"a long name", func(s *Store) { s.Capabilities[0].Name = strings.Repeat("x", 65) }, ErrInvalid, "65 bytes"},
		{"a name that moves the cursor", func(s *Store) { s.Capabilities[0].Name = "a\x1b[2J" }, ErrInvalid, "does not print"},
		{"a state", func(s *Store) { s.Capabilities[0].State = "perhaps" }, ErrInvalid, "perhaps"},
		{"a detail", func(s *Store) { s.Capabilities[0].Detail = "\n" }, ErrInvalid, "control"},
		{"a mode", func(s *Store) { s.Retention.Mode = "legal" }, ErrInvalid, "retention mode"},
		{"no period", func(s *Store) { s.Retention.Years = 0 }, ErrInvalid, "retention compliance of 0 years"},
		{"a period of nothing", func(s *Store) { s.Retention.Mode = NoRetention }, ErrInvalid, "retention none of 7 years"},
		{"negative days", func(s *Store) { s.Retention.Days = -1 }, ErrInvalid, "-1 days"},
		{"ages", func(s *Store) { s.Retention.Years = 101 }, ErrInvalid, "101 years"},
	})
}

func TestAPlanKeepsWhatWasAskedOfTheStore(t *testing.T) {
	f := newFixture(t)
	want := f.retained()
	sealed := must(SealPlan(t.Context(), want, f.exporter))(t)
	if got := must(OpenPlan(sealed, f.policy))(t); !reflect.DeepEqual(got, want) {
		t.Errorf("the plan is\n%+v, want\n%+v", got, want)
	}
	for name, r := range map[string]Retention{
		"none":         {Mode: NoRetention},
		"no mode":      {Until: "2033-11-22T16:05:01Z"},
		"no date":      {Mode: Governance},
		"another mode": {Mode: "legal", Until: "2033-11-22T16:05:01Z"},
	} {
		want.Retention = r
		if err := want.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
		}
	}
}
