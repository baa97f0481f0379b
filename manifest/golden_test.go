package manifest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// update writes the files in testdata anew. Those of a format that was released
// never change: a difference is a break of the format.
var update = flag.Bool("update", false, "write the files in testdata")

// golden compares what is in testdata with what the program makes today.
func golden(t *testing.T, name string, made []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", filepath.FromSlash(name))
	if *update {
		if err := os.WriteFile(path, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data := must(os.ReadFile(path))(t)
	if !bytes.Equal(data, made) {
		t.Errorf("%s is not what is written today", name)
	}
	return data
}

// goldenArchive is the id of the archive in testdata/v1.
const goldenArchive = "b3bfbf6584935a809e38e52ef0643bcb8e40c0d8058b21de42a42842a64092c9"

func TestFormatOneOpensForEver(t *testing.T) {
	f := newFixture(t)
	second := f.following(t)
	var archive Hash
	if err := archive.UnmarshalText([]byte(goldenArchive)); err != nil {
		t.Fatal(err)
	}
	p, err := OpenPolicy(golden(t, "v1/policy.dsse.json", f.sealedPolicy), archive)
	if err != nil {
		t.Fatal(err)
	}
	c := must(NewChain(Trust{Archive: archive}, p, 1))(t)
	for i, s := range []*snapshotFixture{&f.snapshotFixture, &second} {
		m := must(c.Add(golden(t, fmt.Sprintf("v1/manifest-%d.dsse.json", i+1), s.sealed)))(t)
		if !reflect.DeepEqual(m, s.manifest) {
			t.Errorf("manifest %d is\n%+v, want\n%+v", i+1, m, s.manifest)
		}
	}
	pl := must(OpenPlan(golden(t, "v1/plan.dsse.json", f.sealedPlan), p))(t)
	if !reflect.DeepEqual(pl, f.plan) {
		t.Errorf("the plan is\n%+v, want\n%+v", pl, f.plan)
	}
	pg := must(OpenPage(golden(t, "v1/page.dsse.json", f.sealedPages[0]), p))(t)
	if !reflect.DeepEqual(pg, f.pages[0]) {
		t.Errorf("the page is\n%+v, want\n%+v", pg, f.pages[0])
	}
	retained := must(OpenPlan(golden(t, "v1/plan-retained.dsse.json", must(SealPlan(t.Context(), f.retained(), f.exporter))(t)), p))(t)
	if !reflect.DeepEqual(retained, f.retained()) {
		t.Errorf("the plan with a retention is\n%+v, want\n%+v", retained, f.retained())
	}
	series := f.snapshot(t, timeseriesPlan(f.policy.ID()), nil)
	opened := must(Open(golden(t, "v1/manifest-timeseries.dsse.json", series.sealed), p))(t)
	if !reflect.DeepEqual(opened, series.manifest) {
		t.Errorf("the manifest of a timeseries table is\n%+v, want\n%+v", opened, series.manifest)
	}
	store := testStore(archive)
	reported := must(OpenStore(golden(t, "v1/store.dsse.json", must(SealStore(t.Context(), store, f.exporter, f.notary))(t)), p))(t)
	if !reflect.DeepEqual(reported, store) {
		t.Errorf("the store is\n%+v, want\n%+v", reported, store)
	}
	for k, e := range endorsements(f) {
		sealed := golden(t, "v1/"+k.name+".dsse.json", must(sealEndorsement(t.Context(), *k, e.document, []Signer{f.notary}))(t))
		got, names, err := e.open(sealed, p)
		if err != nil || !reflect.DeepEqual(got, e.document) || !slices.Equal(names, []string{"notary"}) {
			t.Errorf("the %s is\n%+v by %q, %v, want\n%+v", k.name, got, names, err, e.document)
		}
		golden(t, "v1/"+k.name+".payload.json", must(endorsementPayload(e.document))(t))
	}
	next := f.rotated(t)
	golden(t, "v1/policy-2.payload.json", must(encode(*next))(t))
	rotated := must(OpenNextPolicy(golden(t, "v1/policy-2.dsse.json", f.sealNext(t, next, f.exporter, f.notary, f.stranger)), p))(t)
	if rotated.Digest() != Sum(must(encode(*next))(t)) || rotated.ID() != archive || !reflect.DeepEqual(rotated.Keys, next.Keys) {
		t.Errorf("the second policy is\n%+v, want\n%+v", rotated, next)
	}
	golden(t, "v1/trust-policy", Trust{Archive: Hash{1}, Seq: 17, Head: Hash{2}, Version: 2, Policy: Hash{3}}.Format())
	golden(t, "v1/store.payload.json", must(store.payload())(t))
	golden(t, "v1/trust", Trust{Archive: Hash{1}, Seq: 17, Head: Hash{2}}.Format())
	golden(t, "v1/page.payload.jsonl", must(f.pages[0].payload())(t))
	golden(t, "v1/manifest.payload.json", must(f.manifest.payload())(t))
	golden(t, "v1/plan.payload.json", must(f.plan.payload())(t))
	golden(t, "v1/policy.payload.json", must(policyKind.open(f.sealedPolicy))(t).payload)
}

// sentinels by the first part of the names of files in testdata/bad.
var sentinels = map[string]error{
	"untrusted": ErrUntrusted, "format": ErrFormat, "limit": ErrLimit, "invalid": ErrInvalid, "rollback": ErrRollback,
}

// TestBadFilesFailWithTheNamedError opens testdata/bad/ERROR-KIND-WHAT. But for
// what is named, each is in order and signed by the keys of testdata/v1.
func TestBadFilesFailWithTheNamedError(t *testing.T) {
	f := newFixture(t)
	if *update {
		writeBadFiles(t, f)
	}
	files := must(os.ReadDir("testdata/bad"))(t)
	if len(files) < 75 {
		t.Fatalf("only %d files", len(files))
	}
	for _, file := range files {
		sentinel, rest, _ := strings.Cut(file.Name(), "-")
		kind, _, _ := strings.Cut(rest, "-")
		err := openAs(kind, must(os.ReadFile(filepath.Join("testdata/bad", file.Name())))(t), f.policy)
		for name, other := range sentinels {
			if errors.Is(err, other) != (name == sentinel) {
				t.Errorf("%s: got %v", file.Name(), err)
			}
		}
	}
}

func openAs(kind string, sealed []byte, p *Policy) error {
	var err error
	switch kind {
	case "manifest", "timeseries":
		_, err = Open(sealed, p)
	case "page":
		_, err = OpenPage(sealed, p)
	case "plan":
		_, err = OpenPlan(sealed, p)
	case "store":
		_, err = OpenStore(sealed, p)
	case "next":
		_, err = OpenNextPolicy(sealed, p)
	case "policy":
		var id Hash
		if id, err = PolicyID(sealed); err == nil {
			_, err = OpenPolicy(sealed, id)
		}
	case "head":
		_, _, err = OpenHead(sealed, p)
	case "notarization":
		_, _, err = OpenNotarization(sealed, p)
	case "receipt":
		_, _, err = OpenReceipt(sealed, p)
	default:
		err = errors.New("no such kind")
	}
	return err
}

// writeBadFiles makes testdata/bad out of the fixture's documents by changing a
// word in a payload, then signing it.
func writeBadFiles(t *testing.T, f *fixture) {
	t.Helper()
	both := []Signer{f.exporter, f.notary}
	payloads := map[string]string{
		"manifest": string(must(f.manifest.payload())(t)),
		"page":     string(must(f.pages[0].payload())(t)),
		"plan":     string(must(f.plan.payload())(t)),
		"policy":   string(must(policyKind.open(f.sealedPolicy))(t).payload),
		"store":    string(must(testStore(f.policy.ID()).payload())(t)),
	}
	kinds := map[string]kind{"manifest": manifestKind, "page": pageKind, "plan": planKind, "policy": policyKind, "store": storeKind}
	for k, e := range endorsements(f) {
		payloads[k.name], kinds[k.name] = string(must(endorsementPayload(e.document))(t)), *k
	}
	write := func(name, payload string, signers []Signer) {
		_, rest, _ := strings.Cut(name, "-")
		kind, _, _ := strings.Cut(rest, "-")
		sealed := must(kinds[kind].seal(t.Context(), []byte(payload), signers))(t)
		if err := os.WriteFile(filepath.Join("testdata", "bad", name+".json"), sealed, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	payloads["timeseries"] = string(must(f.snapshot(t, timeseriesPlan(f.policy.ID()), nil).manifest.payload())(t))
	kinds["timeseries"] = manifestKind
	for _, bad := range badPayloads() {
		_, rest, _ := strings.Cut(bad[0], "-")
		kind, _, _ := strings.Cut(rest, "-")
		if !strings.Contains(payloads[kind], bad[1]) {
			t.Errorf("%s: the payload has no %q", bad[0], bad[1])
		}
		write(bad[0], strings.Replace(payloads[kind], bad[1], bad[2], 1), both)
	}
	writeBadNext(t, f)
	write("untrusted-manifest-one-of-two", payloads["manifest"], both[:1])
	write("untrusted-manifest-notary-alone", payloads["manifest"], both[1:])
	write("untrusted-manifest-stranger", payloads["manifest"], []Signer{f.exporter, f.stranger})
	write("untrusted-page-notary", payloads["page"], both[1:])
	write("untrusted-page-stranger", payloads["page"], []Signer{f.stranger})
	for k := range endorsements(f) {
		write("untrusted-"+k.name+"-stranger", payloads[k.name], []Signer{f.stranger})
	}
	write("untrusted-notarization-exporter", payloads["notarization"], both[:1])
	write("untrusted-store-one-of-two", payloads["store"], both[:1])
	write("untrusted-store-stranger", payloads["store"], []Signer{f.exporter, f.stranger})
	write("untrusted-plan-notary", payloads["plan"], both[1:])
	write("untrusted-policy-one-of-two", payloads["policy"], both[:1])
	write("untrusted-policy-stranger", payloads["policy"], []Signer{f.exporter, f.stranger})
}

// timeseriesPart is how timeseriesTables describes a part.
func timeseriesPart(part string) string {
	return `{"part":"` + part + `","ttl":86400,"meta_ttl":604800,"update_attributes":false,"unhashed":true,"keys":["_m_name","region"],` +
		`"analytical_stores":[{"name":"hot","ttl":-1,"sync":"FULL"}],"lastpoint_indexes":["cpu_last"]}`
}

// badPayloads are the name of a file, and what to replace by what.
func badPayloads() [][3]string {
	const zero = "0000000000000000000000000000000000000000000000000000000000000000"
	const planEnd = `"to":""}]}]}`
	line := `{"name":"r0000-000000.parquet"`
	retention := func(value string) string { return `"to":""}]}],"retention":` + value + `}` }
	return [][3]string{
		{"invalid-manifest-member-twice", `"seq":1`, `"seq":1,"seq":1`},
		{"invalid-manifest-member-unknown", `"seq":1`, `"seq":1,"more":1`},
		{"invalid-manifest-member-missing", `"seq":1,`, ``},
		{"invalid-manifest-member-null", `"parent":""`, `"parent":null`},
		{"invalid-manifest-member-in-capitals", `"seq":1`, `"Seq":1`},
		{"invalid-manifest-exponent", `"seq":1`, `"seq":1e0`},
		{"invalid-manifest-fraction", `"seq":1`, `"seq":1.0`},
		{"invalid-manifest-large-integer", `"max_versions":3`, `"max_versions":9007199254740992`},
		{"invalid-manifest-lone-surrogate", `"build":"`, `"build":"\ud83d`},
		{"invalid-manifest-invalid-utf8", `"build":"`, "\"build\":\"\xff"},
		{"invalid-manifest-control-character", `"build":"`, `"build":"\u001b[2J`},
		{"invalid-manifest-trailing-data", `{"_type"`, `{}{"_type"`},
		{"invalid-manifest-other-statement", `in-toto.io/Statement/v1`, `in-toto.io/Statement/v2`},
		{"invalid-manifest-other-predicate", `otsnap/manifest/v1`, `otsnap/receipt/v1`},
		{"invalid-manifest-subject-name", `orders/r0000.dsse.json`, `orders/r0001.dsse.json`},
		{"invalid-manifest-subject-missing", `"subject":[`, `"subject":[],"x":[`},
		{"invalid-manifest-seq-zero", `"seq":1`, `"seq":0`},
		{"invalid-manifest-seq-negative", `"seq":1`, `"seq":-1`},
		{"invalid-manifest-second-without-prev", `"seq":1`, `"seq":2`},
		{"invalid-manifest-first-with-prev", `"prev":"0`, `"prev":"1`},
		{"invalid-manifest-snapshot-path", `"snapshot":"20261122`, `"snapshot":"../../../`},
		{"invalid-manifest-table-path", `"name":"orders"`, `"name":"../orders"`},
		{"invalid-manifest-tables-unsorted", `"name":"orders"`, `"name":"zebras"`},
		{"invalid-manifest-ranges-gap", `"to":"8010"`, `"to":"8011"`},
		{"invalid-manifest-ranges-number", `"range":1`, `"range":2`},
		{"invalid-manifest-totals", `"totals":{"chunks":4,"rows":42`, `"totals":{"chunks":4,"rows":43`},
		{"invalid-manifest-negative-count", `"rows":21`, `"rows":-21`},
		{"invalid-manifest-sum-overflow", `"rows":21`, `"rows":9007199254740991`},
		{"invalid-manifest-root-of-nothing", `"root":"e3b0`, `"root":"e3b1`},
		{"invalid-manifest-finished-before-started", `"finished":"2026`, `"finished":"2025`},
		{"invalid-manifest-time-with-zone", `"finished":"2026-11-22T16:06:31Z"`, `"finished":"2026-11-22T16:06:31+00:00"`},
		{"invalid-manifest-consistency", `"kind":"window"`, `"kind":"instant"`},
		{"invalid-manifest-retention", `"mode":"none"`, `"mode":"governance"`},
		{"invalid-manifest-own-parent", `"parent":""`, `"parent":"` + testSnapshot + `"`},
		{"invalid-manifest-credential", `"endpoint":"https://`, `"endpoint":"https://user:password@`},
		{"invalid-manifest-key-type", `"type":"BINARY"`, `"type":"DOUBLE"`},
		{"invalid-manifest-column-twice", `"columns":[{"name":"country"`, `"columns":[{"name":"price"`},
		{"untrusted-manifest-other-archive", `"archive":"` + goldenArchive[:8], `"archive":"00000000`},
		{"untrusted-manifest-other-policy", `"policy":"` + goldenArchive[:8], `"policy":"00000000`},
		{"format-manifest-newer", `"predicate":{"format":1`, `"predicate":{"more":{},"format":2`},
		{"limit-manifest-chunks", `"chunks":2,"rows":21`, `"chunks":10000001,"rows":10000001`},

		{"invalid-timeseries-nothing", timeseriesPart("meta"), `{"part":"","ttl":0,"meta_ttl":0,"update_attributes":false,"unhashed":false,"keys":[],"analytical_stores":[],"lastpoint_indexes":[]}`},
		{"invalid-timeseries-null", timeseriesPart("meta"), `null`},
		{"invalid-timeseries-missing", `,"timeseries":` + timeseriesPart("meta"), ``},
		{"invalid-timeseries-part", `"part":"data"`, `"part":"points"`},
		{"invalid-timeseries-part-of-another-name", `"part":"data"`, `"part":"meta"`},
		{"invalid-timeseries-name-ends-twice", `"name":"cpu.meta"`, `"name":"cpu.meta.meta"`},
		{"invalid-timeseries-name-is-only-an-end", `"name":"cpu.meta"`, `"name":".meta"`},
		{"invalid-timeseries-name-path", `"name":"cpu.meta"`, `"name":"cpu/../.meta"`},
		{"invalid-timeseries-name-other-end", `"name":"cpu.meta"`, `"name":"cpu.meti"`},
		{"invalid-timeseries-key", `"name":"_time"`, `"name":"time"`},
		{"invalid-timeseries-options", `"max_versions":1`, `"max_versions":2`},
		{"invalid-timeseries-ttl", `"meta_ttl":604800`, `"meta_ttl":-2`},
		{"invalid-timeseries-sync", `"sync":"FULL"`, `"sync":"full"`},
		{"invalid-timeseries-store-name", `"name":"hot"`, `"name":"a b"`},
		{"invalid-timeseries-index-twice", `"lastpoint_indexes":["cpu_last"]`, `"lastpoint_indexes":["cpu_last","cpu_last"]`},
		{"invalid-timeseries-member-unknown", `"unhashed":true`, `"unhashed":true,"more":1`},
		{"invalid-timeseries-member-missing", `"unhashed":true,`, ``},
		{"invalid-timeseries-subject-path", `cpu.meta/r0000.dsse.json`, `cpu/meta/r0000.dsse.json`},

		{"invalid-page-no-last-newline", "}\n" + `{"name":"r0000-000001`, "}" + `{"name":"r0000-000001`},
		{"invalid-page-line-ends", "}\n" + line, "}\r\n" + line},
		{"invalid-page-empty-line", "}\n" + line, "}\n\n" + line},
		{"invalid-page-line-with-a-space", line, line + ` `},
		{"invalid-page-line-with-an-escape", `{"name":"r0000-000000`, `{"name":"\u00720000-000000`},
		{"invalid-page-member-twice", line, line + `,"rows":10`},
		{"invalid-page-chunk-path", `"r0000-000000.parquet"`, `"../r0000-000000.parquet"`},
		{"invalid-page-chunk-of-another-range", `"r0000-000000.parquet"`, `"r0001-000000.parquet"`},
		{"invalid-page-chunk-number", `"r0000-000000.parquet"`, `"r0000-000002.parquet"`},
		{"invalid-page-chunk-without-digest", `"sha256":"` + Sum(chunkBody(0, 0)).String(), `"sha256":"` + zero},
		{"invalid-page-chunk-empty", `"rows":10,"cells":30,"raw_bytes":4096,"row_digest"`, `"rows":0,"cells":30,"raw_bytes":4096,"row_digest"`},
		{"invalid-page-keys-overlap", `"last":"20ff"`, `"last":"40ff"`},
		{"invalid-page-keys-backwards", `"first":"2001"`, `"first":"21"`},
		{"invalid-page-key-missing", `"first":"2001"`, `"first":""`},
		{"invalid-page-key-after-the-range", `"last":"40ff"`, `"last":"8010"`},
		{"invalid-page-keys-of-one-row", `"last":"20ff"`, `"last":"2001"`},
		{"invalid-page-totals", `"totals":{"chunks":2,"rows":21`, `"totals":{"chunks":2,"rows":22`},
		{"invalid-page-table-path", `"table":"orders"`, `"table":".."`},
		{"invalid-page-bounds", `"from":""`, `"from":"8010"`},
		{"untrusted-page-other-archive", `"archive":"` + goldenArchive[:8], `"archive":"00000000`},
		{"format-page-newer", `{"format":1`, `{"more":{},"format":2`},
		{"limit-page-chunk-size", `"size":41`, `"size":5000000001`},
		{"limit-page-chunk-rows", `"rows":10,"cells":30,"raw_bytes":4096,"row_digest"`, `"rows":5000001,"cells":30,"raw_bytes":5000001,"row_digest"`},
		{"limit-page-long-line", `"first":"2001"`, `"first":"` + strings.Repeat("00", MaxLine/2) + `"`},
		{"limit-page-long-key", `"first":"2001"`, `"first":"` + strings.Repeat("00", MaxKey+1) + `"`},

		{"invalid-plan-ranges-gap", `"from":"8010"`, `"from":"8011"`},
		{"invalid-plan-ranges-end", planEnd, `"to":"ff"}]}]}`},
		{"invalid-plan-no-ranges", `"ranges":[{"from":"","to":""}]`, `"ranges":[]`},
		{"invalid-plan-chunk-bytes", `"chunk_bytes":67108864`, `"chunk_bytes":0`},
		{"invalid-plan-member-unknown", `"tool":`, `"more":1,"tool":`},
		{"untrusted-plan-other-archive", `"archive":"` + goldenArchive[:8], `"archive":"00000000`},
		{"format-plan-newer", `{"format":1`, `{"format":2`},

		{"invalid-plan-retention-of-nothing", planEnd, retention(`{"mode":"","until":""}`)},
		{"invalid-plan-retention-none", planEnd, retention(`{"mode":"none","until":""}`)},
		{"invalid-plan-retention-null", planEnd, retention(`null`)},
		{"invalid-plan-retention-until", planEnd, retention(`{"mode":"compliance","until":"2033-11-31T16:05:01Z"}`)},
		{"invalid-plan-retention-mode", planEnd, retention(`{"mode":"COMPLIANCE","until":"2033-11-22T16:05:01Z"}`)},
		{"invalid-plan-retention-twice", planEnd, retention(`{"mode":"governance","until":"2033-11-22T16:05:01Z"},"retention":{"mode":"compliance","until":"2033-11-22T16:05:01Z"}`)},

		{"invalid-store-kind", `"kind":"s3"`, `"kind":"s3://bucket"`},
		{"invalid-store-state", `"state":"absent"`, `"state":"perhaps"`},
		{"invalid-store-capability-twice", `"name":"object lock"`, `"name":"create-only"`},
		{"invalid-store-capability-name", `"name":"object lock"`, `"name":"\u0007"`},
		{"invalid-store-retention-without-period", `"years":7`, `"years":0`},
		{"invalid-store-retention-without-mode", `"mode":"compliance"`, `"mode":"none"`},
		{"invalid-store-member-unknown", `"kind":`, `"more":1,"kind":`},
		{"invalid-store-member-missing", `,"days":0`, ``},
		{"untrusted-store-other-archive", `"archive":"` + goldenArchive[:8], `"archive":"00000000`},
		{"format-store-newer", `{"format":1`, `{"format":2`},

		{"invalid-head-seq", `"seq":1`, `"seq":0`},
		{"invalid-head-version", `"version":1`, `"version":0`},
		{"invalid-head-member-unknown", `"tool":`, `"more":1,"tool":`},
		{"untrusted-head-other-archive", `"archive":"` + goldenArchive[:8], `"archive":"00000000`},
		{"format-head-newer", `{"format":1`, `{"format":2`},

		{"invalid-notarization-level", `"level":"rows"`, `"level":"objects"`},
		{"invalid-notarization-snapshot-path", `"snapshot":"2026`, `"snapshot":"../2026`},
		{"invalid-notarization-totals", `"chunks":`, `"chunks":-`},
		{"invalid-notarization-member-missing", `,"build":"go1.26.8"`, ``},
		{"untrusted-notarization-other-archive", `"archive":"` + goldenArchive[:8], `"archive":"00000000`},
		{"format-notarization-newer", `{"format":1`, `{"format":2`},

		{"invalid-receipt-kind", `"kind":"verify"`, `"kind":"Verify it"`},
		{"invalid-receipt-before-itself", `"before":2`, `"before":3`},
		{"invalid-receipt-first-with-prev", `,"before":2`, ``},
		{"invalid-receipt-number-zero", `"number":3`, `"number":0`},
		{"invalid-receipt-anchor", `"source":"trust file"`, `"source":""`},
		{"invalid-receipt-exit", `"exit":0`, `"exit":256`},
		{"invalid-receipt-finished-before-started", `"started":"2026`, `"started":"2027`},
		{"invalid-receipt-report-missing", `,"report":{"level":"rows","rate":1.5,"notes":[],"problems":null}`, ``},
		{"invalid-receipt-report-no-object", `"report":{"level":"rows","rate":1.5,"notes":[],"problems":null}`, `"report":[]`},
		{"invalid-receipt-report-member-twice", `{"level":"rows",`, `{"level":"rows","level":"objects",`},
		{"invalid-receipt-report-with-a-space", `{"level":"rows",`, `{"level": "rows",`},
		{"invalid-receipt-report-deep", `"problems":null`, `"problems":` + strings.Repeat("[", 40) + strings.Repeat("]", 40)},
		{"untrusted-receipt-other-archive", `"archive":"` + goldenArchive[:8], `"archive":"00000000`},
		{"format-receipt-newer", `{"format":1`, `{"format":2`},

		{"invalid-policy-threshold", `"threshold":2`, `"threshold":0`},
		{"invalid-policy-role", `"role":"notary"`, `"role":"owner"`},
		{"invalid-policy-algorithm", `"algorithm":"ed25519"`, `"algorithm":"none"`},
		{"invalid-policy-member-unknown", `"threshold":`, `"more":1,"threshold":`},
		{"format-policy-newer", `{"format":1`, `{"format":2`},
	}
}
