package archivetest

import (
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// duckDB is the package that brings DuckDB to Node.js, and its version.
const duckDB = "@duckdb/node-api@1.5.6-r.1"

//go:embed duckdb.mjs
var duckDBScript string

// DuckDB runs SQL statements in an empty database in memory and returns the rows
// of the last one, each value as DuckDB prints it and a null as "NULL". DuckDB
// reads our files with code that shares nothing with ours.
//
// It is fetched with npm at first use and kept in the user's cache directory.
// Where that is not possible, and with -short, the test is skipped.
func DuckDB(t testing.TB, sql string) [][]string {
	t.Helper()
	if testing.Short() {
		t.Skip("DuckDB is not run with -short")
	}
	home, err := installDuckDB()
	if err != nil {
		t.Skip("no DuckDB: ", err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "--input-type=module", "-")
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "DUCKDB_SQL="+sql)
	cmd.Stdin = strings.NewReader(duckDBScript)
	var message strings.Builder
	cmd.Stderr = &message
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("DuckDB: %v\n%s\n%s", err, sql, message.String())
	}
	var rows [][]string
	if err := json.Unmarshal(out, &rows); err != nil {
		t.Fatalf("DuckDB answered %q: %v", out, err)
	}
	return rows
}

// installDuckDB returns the folder DuckDB is installed in. Test binaries that
// run at the same time may each install it; the first one's is kept.
var installDuckDB = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	home := filepath.Join(cache, "otsnap-test", strings.NewReplacer("/", "-", "@", "").Replace(duckDB))
	if _, err := os.Stat(home); err == nil {
		return home, nil
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(home), "install-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	npm := exec.Command("npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", fresh, duckDB)
	if err := npm.Run(); err != nil {
		return "", err
	}
	if err := os.Rename(fresh, home); err != nil {
		if _, missing := os.Stat(home); missing != nil {
			return "", err
		}
	}
	return home, nil
})
