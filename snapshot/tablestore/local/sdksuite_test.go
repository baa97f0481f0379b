package local

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

const sdkModule = "github.com/aliyun/aliyun-tablestore-go-sdk"

// notOurs are the tests of the SDK's suite that ask for more than this server
// is: what they fail with must not be mistaken for a mistake in the rest.
var notOurs = map[string]string{
	"TestSQL":           "SQL",
	"TestSQLWithSearch": "SQL over a search index",
}

// TestSDKLiveSuite runs the tests the SDK's authors run against the service.
// They need modules of their own, hence the variable.
func TestSDKLiveSuite(t *testing.T) {
	if os.Getenv("OTSNAP_SDK_SUITE") == "" {
		t.Skip("set OTSNAP_SDK_SUITE=1 to run the SDK's own suite, which may download its test dependencies")
	}
	s, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h := httptest.NewServer(searchable{s})
	defer h.Close()

	results, output := runSDKSuite(t, h.URL)
	defer func() {
		if t.Failed() {
			t.Logf("%s", output)
		}
	}()
	if len(results) < 35 {
		t.Fatalf("the suite reported %d tests, want all of them: %v", len(results), results)
	}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		reason, exempt := notOurs[name]
		switch result := results[name]; {
		case exempt && result == "PASS":
			t.Errorf("%s passes: it is no longer to be exempt", name)
		case exempt:
			t.Logf("%s: %s (%s)", result, name, reason)
		case result != "PASS" && result != "SKIP":
			t.Errorf("%s: %s", result, name)
		default:
			t.Logf("%s: %s", result, name)
		}
	}
}

// runSDKSuite runs the suite in a copy of the SDK and returns what became of
// each test, and all it printed.
func runSDKSuite(t *testing.T, url string) (results map[string]string, output []byte) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", sdkModule)
	source, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "sdk")
	if err := os.CopyFS(dir, os.DirFS(strings.TrimSpace(string(source)))); err != nil {
		t.Fatal(err)
	}
	var flags []string
	for name, value := range map[string]string{
		"OtsEndpoint": url, "InstanceName": "demo", "Region": "local",
		"OtsAccessId": DefaultAccessKeyID, "OtsAccessKey": DefaultAccessKeySecret,
	} {
		flags = append(flags, "-X", sdkModule+"/testConfig."+name+"="+value)
	}
	suite := exec.CommandContext(t.Context(), "go", "test", "-mod=mod", "-vet=off", "-count=1",
		"-ldflags", strings.Join(flags, " "), "-run", "^TestApi$", "./tablestore", "-check.f", "TableStoreSuite", "-check.v")
	suite.Dir = dir
	output, err = suite.CombinedOutput()
	if err == nil && len(notOurs) > 0 {
		t.Errorf("the suite passes as a whole, exempt tests and all")
	}
	results = map[string]string{}
	line := regexp.MustCompile(`(?m)^(PASS|FAIL|SKIP|MISS|PANIC): \S+ TableStoreSuite\.(Test\w+)`)
	for _, m := range line.FindAllStringSubmatch(string(output), -1) {
		results[m[2]] = m[1]
	}
	return results, output
}

// searchable adds to the server the little of searching that the suite's set-up
// waits for: a count of the rows of the table. It is the test's, not the
// server's, which has none.
type searchable struct{ *Server }

func (s searchable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/Search" {
		s.Server.ServeHTTP(w, r)
		return
	}
	body, err := proto.Marshal(s.count(r))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(body)
}

func (s searchable) count(r *http.Request) proto.Message {
	body, _ := io.ReadAll(r.Body)
	var req otsprotocol.SearchRequest
	if err := proto.Unmarshal(body, &req); err != nil {
		return &otsprotocol.Error{Code: proto.String("OTSParameterInvalid"), Message: proto.String(err.Error())}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	hits := int64(0)
	if d, err := s.table(r.Header.Get(headerInstance), req.GetTableName()); err == nil {
		rows := rowsPrefix(d.ID)
		it, _ := s.db.NewIter(&pebble.IterOptions{LowerBound: rows, UpperBound: successor(rows)})
		defer it.Close()
		for it.First(); it.Valid(); it.Next() {
			hits++
		}
	}
	return &otsprotocol.SearchResponse{TotalHits: &hits, IsAllSucceeded: proto.Bool(true)}
}
