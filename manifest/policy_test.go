package manifest

import (
	"errors"
	"strings"
	"testing"
)

func TestPolicyIsPinnedByItsID(t *testing.T) {
	f := newFixture(t)
	if f.policy.ID() != must(PolicyID(f.sealedPolicy))(t) || f.policy.ID().IsZero() {
		t.Errorf("the id of the opened policy is %s", f.policy.ID())
	}
	other := testPolicy(f.exporter, f.notary)
	other.Threshold = 1
	sealed := must(SealPolicy(t.Context(), other, f.exporter))(t)
	if _, err := OpenPolicy(sealed, f.policy.ID()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("another policy: got %v, want %v", err, ErrUntrusted)
	}
	if _, err := OpenPolicy(f.sealedPolicy, Hash{}); !errors.Is(err, ErrUntrusted) {
		t.Errorf("no id: got %v, want %v", err, ErrUntrusted)
	}
}

func TestPolicyNeedsItsOwnSignatures(t *testing.T) {
	f := newFixture(t)
	if _, err := SealPolicy(t.Context(), testPolicy(f.exporter, f.notary), f.exporter); !errors.Is(err, ErrUntrusted) {
		t.Errorf("sealed by one of two: got %v, want %v", err, ErrUntrusted)
	}
	payload := must(policyKind.open(f.sealedPolicy))(t).payload
	one := must(policyKind.seal(t.Context(), payload, []Signer{f.exporter, f.stranger}))(t)
	if _, err := OpenPolicy(one, f.policy.ID()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("signed by one of two: got %v, want %v", err, ErrUntrusted)
	}
}

func TestNothingOpensUnderAPolicyThatWasNotOpened(t *testing.T) {
	f := newFixture(t)
	for name, p := range map[string]*Policy{"none": nil, "one just made": testPolicy(f.exporter, f.notary)} {
		_, manifestErr := Open(f.sealed, p)
		_, pageErr := OpenPage(f.sealedPages[0], p)
		_, planErr := OpenPlan(f.sealedPlan, p)
		_, chainErr := NewChain(Trust{Archive: f.policy.ID()}, p, 1)
		for _, err := range []error{manifestErr, pageErr, planErr, chainErr} {
			if !errors.Is(err, ErrUntrusted) {
				t.Errorf("%s: got %v, want %v", name, err, ErrUntrusted)
			}
		}
	}
}

func TestPolicyCheck(t *testing.T) {
	f := newFixture(t)
	tests := []struct {
		name    string
		signers []Signer
		says    string // empty: they are enough
	}{
		{"both", []Signer{f.notary, f.exporter}, ""},
		{"nobody", nil, "signed by 0 trusted keys, 2 needed; missing exporter-prod"},
		{"the exporter", []Signer{f.exporter}, "ok exporter-prod sha256:" + f.exporter.Key().ID().String() + "; missing notary"},
		{"the exporter twice", []Signer{f.exporter, f.exporter}, "is there twice"},
		{"a stranger too", []Signer{f.exporter, f.notary, f.stranger}, f.stranger.Key().ID().String() + " is not in the policy"},
	}
	for _, test := range tests {
		err := f.policy.Check(test.signers...)
		if test.says == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.says)
		}
	}
}

func TestOnlyExportersSignPagesAndPlans(t *testing.T) {
	f := newFixture(t)
	page := must(SealPage(t.Context(), f.pages[0], f.notary))(t)
	if _, err := OpenPage(page, f.policy); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "exporter-prod") {
		t.Errorf("page by a notary: got %v, want %v", err, ErrUntrusted)
	}
	plan := must(SealPlan(t.Context(), f.plan, f.stranger))(t)
	if _, err := OpenPlan(plan, f.policy); !errors.Is(err, ErrUntrusted) {
		t.Errorf("plan by a stranger: got %v, want %v", err, ErrUntrusted)
	}
}

func TestPolicyRules(t *testing.T) {
	exporter, notary := testKey(t, "exporter"), testKey(t, "notary")
	tests := []struct {
		name  string
		spoil func(*Policy)
		want  error
		says  string
	}{
		{"format 0", func(p *Policy) { p.Format = 0 }, ErrInvalid, "format 0"},
		{"format 2", func(p *Policy) { p.Format = 2 }, ErrFormat, "format 2"},
		{"version 2", func(p *Policy) { p.Version = 2 }, ErrInvalid, "version 2"},
		{"no time", func(p *Policy) { p.Created = Time{} }, ErrInvalid, "year 1"},
		{"threshold 0", func(p *Policy) { p.Threshold = 0 }, ErrInvalid, "threshold 0"},
		{"threshold over the keys", func(p *Policy) { p.Threshold = 3 }, ErrInvalid, "threshold 3"},
		{"no keys", func(p *Policy) { p.Keys = nil }, ErrInvalid, "role exporter"},
		{"no exporter", func(p *Policy) { p.Keys[0].Role = Notary }, ErrInvalid, "role exporter"},
		{"another role", func(p *Policy) { p.Keys[1].Role = "owner" }, ErrInvalid, `role "owner"`},
		{"one key twice", func(p *Policy) { p.Keys[1] = NewPolicyKey("again", Notary, exporter.Key()) }, ErrInvalid, "same key"},
		{"one name twice", func(p *Policy) { p.Keys[1].Name = p.Keys[0].Name }, ErrInvalid, "two keys are named"},
		{"a name with an escape", func(p *Policy) { p.Keys[0].Name = "a\x1b[2J" }, ErrInvalid, "name"},
		{"no name", func(p *Policy) { p.Keys[0].Name = "" }, ErrInvalid, "name"},
		{"the other algorithm", func(p *Policy) { p.Keys[0].Algorithm = ECDSAP256 }, ErrInvalid, "algorithm"},
		{"a key that is not base64", func(p *Policy) { p.Keys[0].SPKI = "*" }, ErrInvalid, "spki"},
		{"a key with a line break", func(p *Policy) { p.Keys[0].SPKI += "\n" }, ErrInvalid, "line break"},
		{"a key that is none", func(p *Policy) { p.Keys[0].SPKI = "AAAA" }, ErrInvalid, "SubjectPublicKeyInfo"},
		{"seventeen keys", func(p *Policy) { p.Keys = make([]PolicyKey, MaxKeys+1) }, ErrLimit, "17 keys"},
		{"a file in a folder", func(p *Policy) { p.Files[0].Name = "policy/x" }, ErrInvalid, "file"},
		{"a file above", func(p *Policy) { p.Files[0].Name = ".." }, ErrInvalid, "file"},
		{"a file named as a folder", func(p *Policy) { p.Files[0].Name = "manifests" }, ErrInvalid, "taken"},
		{"a file named as stamps are", func(p *Policy) { p.Files[0].Name = "timestamps" }, ErrInvalid, "taken"},
		{"a file twice", func(p *Policy) { p.Files = append(p.Files, p.Files[0]) }, ErrInvalid, "taken"},
		{"a file without a digest", func(p *Policy) { p.Files[0].SHA256 = Hash{} }, ErrInvalid, "no digest"},
		{"many files", func(p *Policy) { p.Files = make([]FileRef, MaxFiles+1) }, ErrLimit, "files"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := testPolicy(exporter, notary)
			p.Files = FileRefs(Files())
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			test.spoil(p)
			if _, err := SealPolicy(t.Context(), p, exporter, notary); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.says)
			}
		})
	}
}
