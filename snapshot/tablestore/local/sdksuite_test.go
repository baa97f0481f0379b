package local

import (
	"bytes"
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
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/protobuf/proto"
)

const sdkModule = "github.com/aliyun/aliyun-tablestore-go-sdk"

// suite is one of the SDK's, run as its authors run it against the service.
type suite struct {
	name    string
	tests   int // it has at least
	options Options

	// notOurs are the tests that ask for more than this server is: what they
	// fail with must not be mistaken for a mistake in the rest.
	notOurs map[string]string
}

var suites = []suite{
	{
		name: "TableStoreSuite", tests: 35,
		notOurs: map[string]string{
			"TestSQL":           "SQL",
			"TestSQLWithSearch": "SQL over a search index",
		},
	},
	{
		name: "TimeseriesSuite", tests: 20,
		// It looks at an analytical store while it is being built.
		options: Options{IndexBuild: time.Hour},
		notOurs: map[string]string{
			"TestCreateAndDeleteAnalyticalStore": "SQL over an analytical store",
			"TestDescribeIndexSyncPhase":         "the wide-column table under a timeseries table",
		},
	},
}

// TestSDKLiveSuite runs the tests the SDK's authors run against the service.
// They need modules of their own, hence the variable.
func TestSDKLiveSuite(t *testing.T) {
	if os.Getenv("OTSNAP_SDK_SUITE") == "" {
		t.Skip("set OTSNAP_SDK_SUITE=1 to run the SDK's own suites, which may download their test dependencies")
	}
	dir := copySDK(t)
	for _, su := range suites {
		t.Run(su.name, func(t *testing.T) { su.run(t, dir) })
	}
}

func (su *suite) run(t *testing.T, dir string) {
	s, err := Open(su.options)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h := httptest.NewServer(searchable{s})
	defer h.Close()

	results, output := su.runAt(t, dir, h.URL)
	defer func() {
		if t.Failed() {
			t.Logf("%s", output)
		}
	}()
	if len(results) < su.tests {
		t.Fatalf("the suite reported %d tests, want all of them: %v", len(results), results)
	}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		reason, exempt := su.notOurs[name]
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

// copySDK copies the SDK to where its tests can be run, and cuts short the
// minutes the timeseries suite waits for what the service does in its own time
// and this server at once. Nothing else is changed.
func copySDK(t *testing.T) (dir string) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", sdkModule)
	source, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "sdk")
	if err := os.CopyFS(dir, os.DirFS(strings.TrimSpace(string(source)))); err != nil {
		t.Fatal(err)
	}
	waiting := filepath.Join(dir, "tablestore", "timeseries_api_test.go")
	text := must[[]byte](t)(os.ReadFile(waiting))
	text = bytes.ReplaceAll(text, []byte("time.Second"), []byte("time.Millisecond"))
	if err := os.Chmod(waiting, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(waiting, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runAt runs the suite in a copy of the SDK against a server and returns what
// became of each test, and all it printed.
func (su *suite) runAt(t *testing.T, dir, url string) (results map[string]string, output []byte) {
	t.Helper()
	var flags []string
	for name, value := range map[string]string{
		"OtsEndpoint": url, "InstanceName": "demo", "Region": "local",
		"OtsAccessId": DefaultAccessKeyID, "OtsAccessKey": DefaultAccessKeySecret,
	} {
		flags = append(flags, "-X", sdkModule+"/testConfig."+name+"="+value)
	}
	test := exec.CommandContext(t.Context(), "go", "test", "-mod=mod", "-vet=off", "-count=1",
		"-ldflags", strings.Join(flags, " "), "-run", "^TestApi$", "./tablestore", "-check.f", su.name, "-check.v")
	test.Dir = dir
	output, err := test.CombinedOutput()
	if err == nil && len(su.notOurs) > 0 {
		t.Errorf("the suite passes as a whole, exempt tests and all")
	}
	results = map[string]string{}
	line := regexp.MustCompile(`(?m)^(PASS|FAIL|SKIP|MISS|PANIC): \S+ ` + su.name + `\.(Test\w+)`)
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
