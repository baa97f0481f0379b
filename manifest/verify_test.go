package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// writeArchive lays out an archive of two snapshots in a directory.
func writeArchive(t *testing.T) (dir string, f *fixture, trust Trust) {
	t.Helper()
	dir, f = t.TempDir(), newFixture(t, Files()...)
	for _, file := range Files() {
		writeObject(t, dir, file.Name, file.Data)
	}
	writeObject(t, dir, PolicyName(1), f.sealedPolicy)
	second := f.following(t)
	for _, s := range []*snapshotFixture{&f.snapshotFixture, &second} {
		writeSnapshot(t, dir, s)
	}
	return dir, f, Trust{Archive: f.policy.ID(), Seq: 2, Head: Sum(second.sealed)}
}

func writeSnapshot(t *testing.T, dir string, s *snapshotFixture) {
	t.Helper()
	writeObject(t, dir, ManifestName(s.manifest.Seq), s.sealed)
	writeObject(t, dir, s.manifest.PlanObject().Name, s.sealedPlan)
	for i, pg := range s.pages {
		writeObject(t, dir, PageName(pg.Snapshot, pg.Table, pg.Range), s.sealedPages[i])
		for n, c := range pg.Chunks {
			writeObject(t, dir, ChunkObject(pg.Snapshot, pg.Table, c).Name, chunkBody(pg.Range, int64(n)))
		}
	}
}

func writeObject(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// runScript runs verify.sh in dir and returns what it printed and its exit code.
func runScript(t *testing.T, dir string, args ...string) (string, int) {
	t.Helper()
	for _, tool := range []string{"bash", "openssl", "jq", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	script, err := filepath.Abs("files/verify.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{script}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestScriptAcceptsAGoodArchive(t *testing.T) {
	dir, _, trust := writeArchive(t)
	for _, name := range []string{NotarizationName(1, 1), NotarizationName(2, 1), TimestampName(2, 1), TimestampFolder + "/README.tsr", HeadName(trust.Archive, 1, 1)} {
		writeObject(t, dir, name, []byte("not looked at"))
	}
	out, code := runScript(t, dir, trust.Archive.String(), fmt.Sprint(trust.Seq), trust.Head.String())
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	for _, want := range []string{
		"ok  README.md", "ok  manifest 2", "table orders: 4 chunks, Merkle root", "table users: 0 chunks, Merkle root",
		fmt.Sprintf("newest   2 %s", trust.Head), "beside   2 notarizations, 1 time stamps, 0 receipts, none of them checked",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output has no %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "UNPROVEN") {
		t.Errorf("something is unproven:\n%s", out)
	}
}

func TestScriptSaysWhatIsUnproven(t *testing.T) {
	dir, f, _ := writeArchive(t)
	out, code := runScript(t, dir)
	if code != 0 || strings.Count(out, "UNPROVEN") != 2 || !strings.Contains(out, f.policy.ID().String()) {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestScriptRefusesATamperedArchive(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	const chunk = "snapshots/" + testSnapshot + "/orders/r0000-000001.parquet"
	const page = "snapshots/" + testSnapshot + "/orders/r0001.dsse.json"
	tests := []struct {
		name   string
		code   int
		says   string
		tamper func(t *testing.T, dir string, f *fixture)
	}{
		{"another archive id", 10, "you asked for", nil},
		{"policy of one signature", 10, "missing notary", func(t *testing.T, dir string, f *fixture) {
			p := must(policyKind.open(f.sealedPolicy))(t)
			writeObject(t, dir, PolicyName(1), must(policyKind.seal(t.Context(), p.payload, []Signer{f.exporter}))(t))
		}},
		{"no policy", 12, "policy/00000001.dsse.json is missing", remove(PolicyName(1))},
		{"a fixed file changed", 13, "README.md", edit("README.md", "otsnap", "0tsnap")},
		{"a fixed file gone", 12, "README.md is missing", remove("README.md")},
		{"manifest of one signature", 10, "signed by 1 trusted keys, 2 needed; ok exporter-prod; missing notary", func(t *testing.T, dir string, f *fixture) {
			writeObject(t, dir, ManifestName(1), must(Seal(t.Context(), f.manifest, f.exporter))(t))
		}},
		{"manifest signed by a stranger", 10, "signed by 1 trusted keys", func(t *testing.T, dir string, f *fixture) {
			writeObject(t, dir, ManifestName(1), must(Seal(t.Context(), f.manifest, f.exporter, f.stranger))(t))
		}},
		{"manifest with one signature twice", 10, "signed by 1 trusted keys", func(t *testing.T, dir string, f *fixture) {
			sealed := must(Seal(t.Context(), f.manifest, f.exporter))(t)
			i, j := bytes.Index(sealed, []byte(`{"keyid"`)), bytes.LastIndexByte(sealed, ']')
			twice := append(append(bytes.Clone(sealed[:j]), ','), sealed[i:]...)
			writeObject(t, dir, ManifestName(1), twice)
		}},
		{"manifests swapped", 11, "holds manifest 2", func(t *testing.T, dir string, f *fixture) {
			second := f.following(t)
			writeObject(t, dir, ManifestName(1), second.sealed)
			writeObject(t, dir, ManifestName(2), f.sealed)
		}},
		{"first manifest signed again", 11, "does not follow", func(t *testing.T, dir string, f *fixture) {
			f.manifest.Tool = "otsnap 0.1.1"
			writeObject(t, dir, ManifestName(1), must(Seal(t.Context(), f.manifest, f.exporter, f.notary))(t))
		}},
		{"first manifest gone", 12, "manifest 1 is missing", remove(ManifestName(1))},
		{"newest manifest gone", 11, "ends at manifest 1, but you have seen 2", remove(ManifestName(2))},
		{"plan gone", 12, "plan.dsse.json is missing", remove(PlanName(testSnapshot))},
		{"page gone", 12, "r0001.dsse.json is missing", remove(page)},
		{"page of another range", 13, page, func(t *testing.T, dir string, f *fixture) {
			writeObject(t, dir, page, f.sealedPages[0])
		}},
		{"chunk gone", 12, chunk, remove(chunk)},
		{"chunk changed", 13, chunk, edit(chunk, "chunk", "Chunk")},
		{"chunk longer", 13, chunk, edit(chunk, "chunk", "chunk ")},
		{"a link to a chunk", 12, chunk + " is missing", linked(chunk)},
		{"a link to a page", 12, page + " is missing", linked(page)},
		{"a link to a plan", 12, "plan.dsse.json is missing", linked(PlanName(testSnapshot))},
		{"a link to a manifest", 12, ManifestName(1) + " is missing", linked(ManifestName(1))},
		{"a link to a policy", 12, PolicyName(1) + " is missing", linked(PolicyName(1))},
		{"a link to a fixed file", 12, "README.md is missing", linked("README.md")},
		{"a link to nothing", 12, chunk + " is missing", func(t *testing.T, dir string, f *fixture) {
			linked(chunk)(t, dir, f)
			remove(chunk+".there")(t, dir, f)
		}},
		{"a manifest of 9 MiB", 15, "has more than 8388608 bytes", grown(ManifestName(1), 9<<20)},
		{"a policy of 257 KiB", 15, "has more than 262144 bytes", grown(PolicyName(1), 257<<10)},
		{"not an envelope", 13, "is not an envelope", edit(ManifestName(1), `"payload"`, `"payl0ad"`)},
		{"empty file", 13, "is not an envelope", func(t *testing.T, dir string, _ *fixture) {
			writeObject(t, dir, ManifestName(1), nil)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir, f, trust := writeArchive(t)
			if test.tamper == nil {
				trust.Archive = Hash{1}
			} else {
				test.tamper(t, dir, f)
			}
			out, code := runScript(t, dir, trust.Archive.String(), fmt.Sprint(trust.Seq), trust.Head.String())
			if code != test.code || !strings.Contains(out, test.says) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, test.code, test.says, out)
			}
		})
	}
}

// TestScriptRefusesWhatWasSignedWrongly gives the script manifests that trusted
// keys signed although they break a rule.
func TestScriptRefusesWhatWasSignedWrongly(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	tests := []struct {
		name    string
		code    int
		says    string
		replace []string
	}{
		{"newer format", 16, "format 2", []string{`"predicate":{"format":1`, `"predicate":{"format":2`}},
		{"totals", 13, "totals do not add up", []string{`"rows":42`, `"rows":43`}},
		{"ranges", 13, "side by side", []string{`"to":"8010"`, `"to":"8011"`}},
		{"subjects", 13, "subjects", []string{`orders/r0000.dsse`, `orders/r0002.dsse`}},
		{"root", 13, "Merkle root", []string{`"root":"`, `"root":"00`}},
		{"another archive", 10, "another archive", []string{`"archive":"`, `"archive":"00`}},
		{"a path for a table", 13, "table name", []string{
			`"name":"orders"`, `"name":"../orders"`, `/orders/`, `/../orders/`,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir, f, trust := writeArchive(t)
			good := string(must(f.manifest.payload())(t))
			bad := strings.NewReplacer(test.replace...).Replace(good)
			if bad == good {
				t.Fatalf("payload has no %q", test.replace[0])
			}
			writeObject(t, dir, ManifestName(1), must(manifestKind.seal(t.Context(), []byte(bad), []Signer{f.exporter, f.notary}))(t))
			out, code := runScript(t, dir, trust.Archive.String())
			if code != test.code || !strings.Contains(out, test.says) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, test.code, test.says, out)
			}
		})
	}
}

func remove(name string) func(*testing.T, string, *fixture) {
	return func(t *testing.T, dir string, _ *fixture) {
		if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			t.Fatal(err)
		}
	}
}

// linked moves an object aside and puts a link to it in its place.
func linked(name string) func(*testing.T, string, *fixture) {
	return func(t *testing.T, dir string, _ *fixture) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		err := os.Rename(path, path+".there")
		if err == nil {
			err = os.Symlink(path+".there", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// grown adds spaces to an object, which change nothing in JSON.
func grown(name string, size int64) func(*testing.T, string, *fixture) {
	return func(t *testing.T, dir string, _ *fixture) {
		data := must(os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))))(t)
		writeObject(t, dir, name, append(data, bytes.Repeat([]byte(" "), int(size)-len(data))...))
	}
}

func edit(name, old, new string) func(*testing.T, string, *fixture) {
	return func(t *testing.T, dir string, _ *fixture) {
		data := must(os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))))(t)
		if !bytes.Contains(data, []byte(old)) {
			t.Fatalf("%s has no %q", name, old)
		}
		writeObject(t, dir, name, bytes.Replace(data, []byte(old), []byte(new), 1))
	}
}

// writeRotated lays out an archive whose second snapshot is under a second version of
// the policy.
func writeRotated(t *testing.T) (dir string, f *fixture, trust Trust) {
	t.Helper()
	dir, f, _ = writeArchive(t)
	next := f.rotated(t)
	next.From, next.Keys[0].Revoked = 2, 2
	sealed := f.sealNext(t, next, f.exporter, f.notary, f.stranger)
	p := must(OpenNextPolicy(sealed, f.policy))(t)
	writeObject(t, dir, PolicyName(2), sealed)
	second := f.secondUnder(t, p.Digest(), f.stranger, f.notary)
	writeSnapshot(t, dir, &second)
	return dir, f, Trust{Archive: p.ID(), Seq: 2, Head: Sum(second.sealed)}.WithPolicy(p)
}

// secondUnder is the second snapshot, signed by others under another policy.
func (f *fixture) secondUnder(t *testing.T, policy Hash, signers ...Signer) snapshotFixture {
	t.Helper()
	other := *f
	other.exporter = signers[0]
	s := other.following(t)
	s.manifest.Policy = policy
	s.sealed = must(Seal(t.Context(), s.manifest, signers...))(t)
	return s
}

func TestScriptFollowsThePolicy(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	tests := []struct {
		name   string
		code   int
		says   string
		tamper func(t *testing.T, dir string, f *fixture)
	}{
		{"as it is", 0, "ok  policy 2, from manifest 2 on: 3 keys, 2 must sign, and of groups witnesses=1", func(*testing.T, string, *fixture) {}},
		{"second version hidden", 10, "signed by 1 trusted keys", remove(PolicyName(2))},
		{"first version again", 11, "holds version 1", func(t *testing.T, dir string, f *fixture) {
			writeObject(t, dir, PolicyName(2), f.sealedPolicy)
		}},
		{"a version left out", 12, "version 3 of the policy is missing", func(t *testing.T, dir string, f *fixture) {
			writeObject(t, dir, PolicyName(4), f.sealedPolicy)
		}},
		{"a version the old one does not agree to", 10, "policy/00000002.dsse.json is signed by 1 trusted keys", func(t *testing.T, dir string, f *fixture) {
			next := f.rotated(t)
			writeObject(t, dir, PolicyName(2), f.sealNext(t, next, f.notary, f.stranger))
		}},
		{"a version by the old one alone", 10, "void exporter-prod; ok notary; missing exporter-2", func(t *testing.T, dir string, f *fixture) {
			next := f.rotated(t)
			writeObject(t, dir, PolicyName(2), f.sealNext(t, next, f.exporter, f.notary))
		}},
		{"a manifest under the old version", 10, "made under version 1 of the policy; version 2 is in force", func(t *testing.T, dir string, f *fixture) {
			s := f.secondUnder(t, f.policy.ID(), f.stranger, f.notary)
			writeSnapshot(t, dir, &s)
		}},
		{"a manifest by the revoked key", 10, "void exporter-prod; ok notary; missing exporter-2", func(t *testing.T, dir string, f *fixture) {
			s := f.secondUnder(t, f.policy.ID(), f.exporter, f.notary)
			writeSnapshot(t, dir, &s)
		}},
		{"a manifest that nobody of the group signed", 10, "by 1 trusted keys, 2 needed; 0 of group witnesses, 1 needed; void exporter-prod; missing notary; ok exporter-2", func(t *testing.T, dir string, f *fixture) {
			s := f.secondUnder(t, f.policy.ID(), f.stranger, f.exporter)
			writeSnapshot(t, dir, &s)
		}},
		{"a manifest under a version that is not here", 11, "a newer one is hidden", func(t *testing.T, dir string, f *fixture) {
			s := f.secondUnder(t, Hash{7}, f.stranger, f.notary)
			writeSnapshot(t, dir, &s)
		}},
		{"pages by the revoked key", 10, "plan.dsse.json is signed by 0 trusted keys", func(t *testing.T, dir string, f *fixture) {
			next := f.rotated(t)
			next.From, next.Keys[0].Revoked = 2, 2
			p := f.openNext(t, next, f.exporter, f.notary, f.stranger)
			s := f.following(t)
			s.manifest.Policy = p.Digest()
			s.sealed = must(Seal(t.Context(), s.manifest, f.stranger, f.notary))(t)
			writeSnapshot(t, dir, &s)
		}},
		{"a key from that manifest on", 0, "ok  manifest 2", windowed(2, true)},
		{"a manifest by a key from the next one on", 10, "manifests/00000002.dsse.json is signed by 1 trusted keys, 2 needed; missing exporter-prod; ok notary; void exporter-2", windowed(3, true)},
		{"pages by a key from the next one on", 10, "plan.dsse.json is signed by 0 trusted keys, 1 needed; missing exporter-prod; void exporter-2", windowed(3, false)},
		{"a thousand versions and one", 15, "the policy has more than 1000 versions", func(t *testing.T, dir string, _ *fixture) {
			for version := int64(3); version <= MaxPolicies+1; version++ {
				writeObject(t, dir, PolicyName(version), nil)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir, f, trust := writeRotated(t)
			test.tamper(t, dir, f)
			out, code := runScript(t, dir, trust.Archive.String())
			if code != test.code || !strings.Contains(out, test.says) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, test.code, test.says, out)
			}
		})
	}
}

// windowed puts a policy whose second exporter counts from a manifest on, and a second
// snapshot all of which that one signed, or all but the manifest.
func windowed(from int64, manifest bool) func(*testing.T, string, *fixture) {
	return func(t *testing.T, dir string, f *fixture) {
		next := f.rotated(t)
		next.From, next.Keys[0].Revoked, next.Keys[2].From = 2, 0, from
		sealed := f.sealNext(t, next, f.exporter, f.notary)
		p := must(OpenNextPolicy(sealed, f.policy))(t)
		writeObject(t, dir, PolicyName(2), sealed)
		s := f.secondUnder(t, p.Digest(), f.stranger, f.notary)
		if !manifest {
			s.sealed = must(Seal(t.Context(), s.manifest, f.exporter, f.notary))(t)
		}
		writeSnapshot(t, dir, &s)
	}
}

// TestScriptRemembersThePolicy gives the version of the policy last seen.
func TestScriptRemembersThePolicy(t *testing.T) {
	dir, f, trust := writeRotated(t)
	head := []string{trust.Archive.String(), fmt.Sprint(trust.Seq), trust.Head.String()}
	for _, test := range []struct {
		name            string
		version, digest string
		code            int
		says            string
	}{
		{"the newest", "2", trust.Policy.String(), 0, "ok  manifest 2"},
		{"the first", "1", f.policy.ID().String(), 0, "ok  manifest 2"},
		{"one that is hidden", "3", trust.Policy.String(), 11, "version 3 of the policy is hidden or deleted"},
		{"another one", "2", f.policy.ID().String(), 11, "but you have seen " + f.policy.ID().String()},
		{"no number", "x", trust.Policy.String(), 2, "usage"},
		{"no digest", "2", "x", 2, "usage"},
	} {
		out, code := runScript(t, dir, append(head, test.version, test.digest)...)
		if code != test.code || !strings.Contains(out, test.says) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s", test.name, code, test.code, test.says, out)
		}
	}
}
