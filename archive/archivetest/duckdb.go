package archivetest

import (
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// InstallDuckDB returns the folder in which DuckDB is installed for Node.js, after
// fetching it with npm if it was not there.
var InstallDuckDB = nodePackages("@duckdb/node-api@1.5.6-r.1")

var installHyparquet = nodePackages("hyparquet@1.31.5", "hyparquet-compressors@1.1.2")

//go:embed duckdb.mjs
var duckDBScript string

//go:embed hyparquet.mjs
var hyparquetScript string

// DuckDB runs SQL statements in an empty database in memory and returns the rows
// of the last one, each value as DuckDB prints it and a null as "NULL". DuckDB
// reads our files with code that shares nothing with ours.
//
// It is fetched with npm at first use. Where that is not possible, and with
// -short, the test is skipped.
func DuckDB(t testing.TB, sql string) (rows [][]string) {
	t.Helper()
	runNode(t, InstallDuckDB, duckDBScript, "DUCKDB_SQL="+sql, &rows)
	return rows
}

// Hyparquet reads pairs of Parquet files with hyparquet, a reader that shares
// nothing with DuckDB's nor with ours, and returns what differs between the files
// of each pair. It is fetched and skipped as DuckDB is.
func Hyparquet(t testing.TB, pairs [][2]string) (differences []string) {
	t.Helper()
	files, err := json.Marshal(pairs)
	if err != nil {
		t.Fatal(err)
	}
	runNode(t, installHyparquet, hyparquetScript, "PAIRS="+string(files), &differences)
	return differences
}

// runNode runs a script where packages are installed, and decodes its answer.
func runNode(t testing.TB, install func() (string, error), script, environment string, answer any) {
	t.Helper()
	if testing.Short() {
		t.Skip("other readers are not run with -short")
	}
	home, err := install()
	if err != nil {
		t.Skip("no other reader: ", err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "--input-type=module", "-")
	cmd.Dir = home
	cmd.Env = append(os.Environ(), environment)
	cmd.Stdin = strings.NewReader(script)
	var message strings.Builder
	cmd.Stderr = &message
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%.1000s\n%s", err, environment, message.String())
	}
	if err := json.Unmarshal(out, answer); err != nil {
		t.Fatalf("node answered %q: %v", out, err)
	}
}
