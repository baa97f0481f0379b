package page

import (
	"bytes"
	"context"
	"encoding/json"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// hostile is text that tries to leave its place.
const hostile = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\u202egnp.exe\x1b[2J\n{\"payloadType\" ' onload=x"

// made is a page of a receipt that says hostile things, signed by one key of each type.
func made(t *testing.T, kind string) (string, Receipt) {
	t.Helper()
	now := manifest.At(time.Now())
	report := snapshot.Report{
		Kind: kind, Started: now, Finished: now, Level: hostile, Coverage: []string{hostile}, Notes: []string{hostile}, Problems: []string{hostile},
		Instance:   &manifest.Instance{Name: hostile, Endpoint: hostile},
		Tables:     []snapshot.TableReport{{Name: hostile, Target: hostile, Differences: []snapshot.Difference{{Table: hostile, Kind: "changed", Key: hostile, Cell: hostile, Signed: hostile, Live: hostile}}}},
		BySnapshot: []snapshot.SnapshotReport{{Snapshot: hostile, SignedBy: []string{hostile}, Seen: &snapshot.Seen{Locks: &snapshot.Locks{}}}},
		Retention:  &snapshot.RetentionReport{},
		Notarized: []snapshot.NotarizedBy{{Seq: 7, Snapshot: hostile, Notarizations: []snapshot.Notarized{
			{By: []string{hostile}, Level: hostile, At: now, Name: hostile},
		}}},
		Timestamps: &snapshot.TimestampReport{Snapshots: []snapshot.ProvenTime{{Seq: 7, Snapshot: hostile, Proof: &snapshot.Proof{
			Stamp: snapshot.Stamp{Time: now, Accuracy: hostile, TSA: hostile, Serial: hostile, Policy: hostile}, Over: 8, Object: hostile,
		}}}},
		Plan: &snapshot.PlanSummary{Mode: hostile},
	}
	raw, err := manifest.NewRaw(report)
	if err != nil {
		t.Fatal(err)
	}
	r := &manifest.Receipt{
		Format: 1, Archive: manifest.Hash{1}, Kind: kind, Seq: 7, Digest: manifest.Hash{2}, Version: 1, Policy: manifest.Hash{3},
		Anchors: []manifest.Anchor{{Source: "<b>trust file</b>", Seq: 7}}, Started: now, Finished: now, Host: "<i>host", Tool: "<u>tool", Exit: 13, Report: raw,
	}
	var signers []manifest.Signer
	shown := Receipt{Receipt: r}
	for _, algorithm := range []string{"ed25519", "ecdsa-p256"} {
		_, key, err := manifest.GenerateKey(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		signers = append(signers, key)
		shown.Keys = append(shown.Keys, Key{Name: "<s>key", Role: "exporter", Key: key.Key()})
	}
	if shown.Sealed, err = manifest.SealReceipt(context.Background(), r, signers...); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := shown.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String(), shown
}

func TestThePageIsInertAndStandsAlone(t *testing.T) {
	for _, kind := range []string{"verify", "restore", "compare", "drill"} {
		text, shown := made(t, kind)
		for _, never := range []string{"<script", "<img", "<b>", "<i>", "<u>", "<s>", "src=", "href", "url(", "@import", "http:", "https:", "\u202e", "\x1b"} {
			if strings.Contains(strings.ReplaceAll(strings.ReplaceAll(text, html.EscapeString("<img src=x"), ""), "img src=x", ""), never) {
				t.Errorf("%s: the page holds %q", kind, never)
			}
		}
		if tags := regexp.MustCompile(`<[a-z]+[^>]* on[a-z]+=`).FindString(text); tags != "" {
			t.Errorf("%s: the page runs %s", kind, tags)
		}
		style := text[strings.Index(text, "<style>")+len("<style>") : strings.Index(text, "</style>")]
		if !strings.Contains(html.UnescapeString(text), (view{}).Policy()) || style != string((view{}).Style()) {
			t.Errorf("%s: the browser would refuse the style", kind)
		}
		for _, want := range []string{"Corrupt: something is not what was signed", shown.Receipt.Archive.String(), shown.Receipt.Digest.String(), shown.Keys[1].ID(), "What the archive was held against"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the page lacks %q", kind, want)
			}
		}
	}
}

// table returns the rows of the table under a heading, each as the text of its cells; nil
// where there is no such heading.
func table(page, heading string) (rows [][]string) {
	_, part, ok := strings.Cut(page, "<h2>"+heading+"</h2>")
	if !ok {
		return nil
	}
	part, _, _ = strings.Cut(part, "</table>")
	tags := regexp.MustCompile("<[^>]*>")
	for _, row := range strings.Split(part, "<tr>")[1:] {
		var cells []string
		for _, cell := range regexp.MustCompile(`(?s)<t[hd][^>]*>(.*?)</t[hd]>`).FindAllStringSubmatch(row, -1) {
			cells = append(cells, html.UnescapeString(tags.ReplaceAllString(cell[1], "")))
		}
		rows = append(rows, cells)
	}
	return rows
}

// TestThePageSaysWhoNotarizedAndWhatTimesAreProven, and has no such part if the report
// has none.
func TestThePageSaysWhoNotarizedAndWhatTimesAreProven(t *testing.T) {
	at := manifest.At(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC))
	report := &snapshot.Report{
		Kind: "verify", Snapshots: 2,
		Notarized: []snapshot.NotarizedBy{{Seq: 1, Snapshot: "one", Notarizations: []snapshot.Notarized{
			{By: []string{"auditor", "bank"}, Level: manifest.NotarizedRows, At: at, Name: "notarizations/00000001-1.dsse.json"},
			{By: []string{"clerk"}, Level: snapshot.AtExport, At: at, Name: "manifests/00000001.dsse.json"},
		}}},
		Timestamps: &snapshot.TimestampReport{Objects: 3, Good: 1, Snapshots: []snapshot.ProvenTime{
			{Seq: 1, Snapshot: "one", Proof: &snapshot.Proof{Stamp: snapshot.Stamp{Time: at, Accuracy: "1.5s", TSA: "CN=tsa", Serial: "0x7"}, Over: 2, Object: "timestamps/00000002-1.tsr"}},
			{Seq: 3, Snapshot: "three"},
		}},
	}
	shown := func(report *snapshot.Report) string {
		raw, err := manifest.NewRaw(report)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := (Receipt{Receipt: &manifest.Receipt{Kind: "verify", Started: at, Finished: at, Report: raw}}).Write(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	text := shown(report)
	for heading, want := range map[string][][]string{
		"Who notarized": {
			{"Number", "Snapshot", "Notary", "When", "Level", "Signature"},
			{"1", "one", "auditor, bank", "2026-11-22T10:00:00Z", "rebuilt and hashed every row", "notarizations/00000001-1.dsse.json"},
			{"1", "one", "clerk", "2026-11-22T10:00:00Z", "signed at the export, read nothing again", "manifests/00000001.dsse.json"},
		},
		"Proven times": {
			{"Number", "Snapshot", "Was there at", "Said by", "Serial", "Over number", "Time stamp"},
			{"1", "one", "2026-11-22T10:00:00Z, give or take 1.5s", "CN=tsa", "0x7", "2", "timestamps/00000002-1.tsr"},
			{"3", "three", "not proven"},
		},
	} {
		if got := table(text, heading); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q, want %q", heading, got, want)
		}
		if got := table(shown(&snapshot.Report{Kind: "verify"}), heading); got != nil {
			t.Errorf("%s of a report without: %q", heading, got)
		}
	}
}

func TestThePageCarriesItsOwnProof(t *testing.T) {
	text, shown := made(t, "verify")
	var lines []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, `{"payloadType"`) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if len(lines) != 1 || lines[0] != string(shown.Sealed) {
		t.Fatalf("the page holds %d documents", len(lines))
	}
	for _, tool := range []string{"sh", "jq", "openssl", "base64"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	_, after, _ := strings.Cut(text, `<pre class="check">`)
	script, _, _ := strings.Cut(after, "</pre>")
	folder := t.TempDir()
	run := func(page string) (string, error) {
		if err := os.WriteFile(filepath.Join(folder, "receipt.html"), []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-e", "-c", html.UnescapeString(script))
		cmd.Dir = folder
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run(text)
	if err != nil || !strings.Contains(out, "Verified OK") || !strings.Contains(out, "Signature Verified Successfully") ||
		!strings.Contains(out, shown.Keys[0].ID()) || !strings.Contains(out, shown.Keys[1].ID()) {
		t.Errorf("the lines on the page: %v\n%s", err, out)
	}
	if payload, err := os.ReadFile(filepath.Join(folder, "payload.json")); err != nil || !json.Valid(payload) {
		t.Errorf("payload: %v", err)
	}
	at := strings.Index(text, `"payload":"`) + 200
	changed := text[:at] + "AAAA" + text[at+4:]
	if out, err := run(changed); err == nil {
		t.Errorf("a page that was changed is good:\n%s", out)
	}
}

func TestStrangeEnvelopesStayInTheirPlace(t *testing.T) {
	sealed := "{\"payloadType\":\"a\",\n\"keyid\":\"</pre><script>\u202e\U0001f600&\x7f\"}"
	got := string(view{sealed: []byte(sealed)}.Signed())
	if strings.ContainsAny(got, "<>&\n\u202e\x7f") || !json.Valid([]byte(got)) {
		t.Errorf("got %s", got)
	}
}
