package main

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot/tablestore"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// propertyTables have, together, every property of a table the program writes.
func propertyTables() []manifest.Table {
	options := manifest.Options{TTL: -1, MaxVersions: 1, Deviation: 86400, AllowUpdate: true}
	return []manifest.Table{{
		Name:    "plain",
		Key:     []manifest.KeyColumn{{Name: "id", Type: manifest.Integer}},
		Options: options,
	}, {
		Name: "everything",
		Key: []manifest.KeyColumn{
			{Name: "s", Type: manifest.String}, {Name: "b", Type: manifest.Binary},
			{Name: "auto", Type: manifest.Integer, AutoIncrement: true},
		},
		Defined: []manifest.Column{
			{Name: "blob", Type: manifest.Binary}, {Name: "flag", Type: manifest.Boolean}, {Name: "number", Type: manifest.Integer},
			{Name: "price", Type: manifest.Double}, {Name: "text", Type: manifest.String},
		},
		Options:     manifest.Options{TTL: 864000, MaxVersions: 7, Deviation: 123456, AllowUpdate: true, UpdateFullRow: true},
		Stream:      manifest.Stream{Enabled: true, Hours: 48, Columns: []string{"price"}},
		NotCaptured: []string{"a line that\nwould not be a comment"},
	}, {
		Name:    "frozen",
		Key:     []manifest.KeyColumn{{Name: "k", Type: manifest.String}},
		Options: manifest.Options{TTL: 86400, MaxVersions: 1, Deviation: 86400},
		SearchIndexes: []manifest.SearchIndex{
			{Name: "search", Schema: `{"FieldSchemas":[{"FieldName":"city","FieldType":"KEYWORD","Index":true}]}`, TTL: 86400},
		},
	}, {
		Name:    "indexed",
		Key:     []manifest.KeyColumn{{Name: "k", Type: manifest.String}, {Name: "n", Type: manifest.Integer}},
		Defined: []manifest.Column{{Name: "city", Type: manifest.String}, {Name: "price", Type: manifest.Double}},
		Options: options,
		Indexes: []manifest.Index{
			{Name: "by_city", Type: "GLOBAL", Key: []string{"city"}, Columns: []string{"price"}},
			{Name: "within_k", Type: "LOCAL", Key: []string{"k", "city"}, Columns: []string{"price"}},
		},
	}}
}

// runProgram writes the program, and runs it with the version of the SDK in our
// go.mod against an instance of the server at url.
func runProgram(t *testing.T, source []byte, url, instance string) {
	t.Helper()
	bin := buildProgram(t, source)
	run := exec.CommandContext(t.Context(), bin)
	run.Env = append(os.Environ(), "TABLESTORE_ENDPOINT="+url, "TABLESTORE_INSTANCE="+instance,
		"TABLESTORE_ACCESS_KEY_ID="+local.DefaultAccessKeyID, "TABLESTORE_ACCESS_KEY_SECRET="+local.DefaultAccessKeySecret)
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, source)
	}
}

func buildProgram(t *testing.T, source []byte) string {
	t.Helper()
	main := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(main, source, 0o644); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "recreate")
	for _, args := range [][]string{{"vet", main}, {"build", "-o", bin, main}} {
		if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s\n%s", args[0], err, out, source)
		}
	}
	return bin
}

func TestTheProgramMakesTheTablesAgain(t *testing.T) {
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() { front.Close(); server.Close() })
	want := propertyTables()
	source, err := goProgram(schemaResult{Seq: 1, Snapshot: "s", Instance: manifest.Instance{Name: "shop"}, Tables: want})
	if err != nil {
		t.Fatal(err)
	}
	runProgram(t, source, front.URL, "first")
	in, err := tablestore.Open(tablestore.Config{Endpoint: front.URL, Instance: "first",
		AccessKeyID: local.DefaultAccessKeyID, AccessKeySecret: local.DefaultAccessKeySecret})
	if err != nil {
		t.Fatal(err)
	}
	var made []manifest.Table
	for _, w := range want {
		got, err := in.Describe(t.Context(), w.Name)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, got)
		sortIndexes(got.Indexes)
		if !reflect.DeepEqual(told(got), told(w)) {
			t.Errorf("table %s is\n%+v, want\n%+v", w.Name, got, w)
		}
	}
	// And once more, from what an export would have seen of these.
	source, err = goProgram(schemaResult{Seq: 1, Snapshot: "s", Instance: manifest.Instance{Name: "shop"}, Tables: made})
	if err != nil {
		t.Fatal(err)
	}
	runProgram(t, source, front.URL, "second")
	for _, w := range want {
		if got, want := describedAs(t, front.URL, "second", w.Name), describedAs(t, front.URL, "first", w.Name); !reflect.DeepEqual(got, want) {
			t.Errorf("DescribeTable of %s is\n%+v, want\n%+v", w.Name, got, want)
		}
	}
}

func sortIndexes(all []manifest.Index) {
	slices.SortFunc(all, func(a, b manifest.Index) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
}

// told leaves of a table what a service says of it, whoever writes it down.
func told(t manifest.Table) []any {
	return []any{t.Name, slices.Clip(t.Key), append([]manifest.Column{}, t.Defined...), t.Options, t.Throughput,
		t.Stream.Enabled, t.Stream.Hours, append([]string{}, t.Stream.Columns...), t.Encryption.Enabled,
		indexTexts(t.Indexes), searchTexts(t.SearchIndexes)}
}

// indexTexts leaves out the columns the service adds to the key of an index.
func indexTexts(all []manifest.Index) []string {
	var texts []string
	for _, i := range all {
		texts = append(texts, i.Name+" "+i.Type+" "+i.Key[0]+" "+i.Columns[0])
	}
	return texts
}

// searchTexts leaves out of schemas what the service adds.
func searchTexts(all []manifest.SearchIndex) []string {
	var texts []string
	for _, i := range all {
		texts = append(texts, fmt.Sprint(i.Name, " ", i.TTL))
	}
	return texts
}

// describedAs is all DescribeTable says of a table through the SDK, but for what
// is of one call and of one stream.
func describedAs(t *testing.T, url, instance, table string) *sdk.DescribeTableResponse {
	t.Helper()
	d, err := sdk.NewClient(url, instance, local.DefaultAccessKeyID, local.DefaultAccessKeySecret).DescribeTable(&sdk.DescribeTableRequest{TableName: table})
	if err != nil {
		t.Fatal(err)
	}
	d.ResponseInfo = sdk.ResponseInfo{}
	if d.StreamDetails != nil {
		d.StreamDetails.StreamId, d.StreamDetails.LastEnableTime = nil, 0
	}
	slices.SortFunc(d.IndexMetas, func(a, b *sdk.IndexMeta) int { return bytes.Compare([]byte(a.IndexName), []byte(b.IndexName)) })
	return d
}

// TestTheProgramOfAnyTableIsGo compiles what the local server may not serve, and
// names that would be Go if they were not quoted.
func TestTheProgramOfAnyTableIsGo(t *testing.T) {
	tables := propertyTables()
	tables[0].Name = "x\"}) panic(`\n// *" // the format knows better, the program does not rely on it
	tables[0].Encryption = manifest.Encryption{Enabled: true, KeyType: "SSE_BYOK", KeyID: "key\"", RoleARN: "acs:ram::1:role/x"}
	tables[0].SearchIndexes = []manifest.SearchIndex{{Name: "search", Schema: `{"FieldSchemas":[{"FieldName":"city","FieldType":"KEYWORD","Index":true}]}`}}
	tables[1].Encryption = manifest.Encryption{Enabled: true, KeyType: "SSE_KMS_SERVICE"}
	source, err := goProgram(schemaResult{Seq: 1, Snapshot: "s", Instance: manifest.Instance{Name: "shop\n"}, Tables: tables})
	if err != nil {
		t.Fatal(err)
	}
	buildProgram(t, source)
	if _, err := goProgram(schemaResult{}); err != nil {
		t.Errorf("no table: %v", err)
	}
}
