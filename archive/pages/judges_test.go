package pages_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/otsnap/otsnap/archive/archivetest"
)

// pairs writes the same random records to files, by us and by the library, which
// knows no encoding but PLAIN here.
func pairs(t *testing.T, n int, seed uint64) (files [][2]string) {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		rnd := rand.New(rand.NewPCG(uint64(i), seed))
		records := []arrow.RecordBatch{random(rnd, 1+rnd.IntN(3000)), random(rnd, 1+rnd.IntN(100)), random(rnd, 1+rnd.IntN(9000))}
		pair := [2]string{filepath.Join(dir, fmt.Sprintf("ours-%d.parquet", i)), filepath.Join(dir, fmt.Sprintf("theirs-%d.parquet", i))}
		for j, data := range [][]byte{write(t, records...), byLibrary(t, records...)} {
			if err := os.WriteFile(pair[j], data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		files = append(files, pair)
	}
	return files
}

// TestDuckDBReadsTheSame compares all rows and their order, and then those that
// meet conditions, which make DuckDB skip values.
func TestDuckDBReadsTheSame(t *testing.T) {
	conditions := []string{"true", "r0 % 7 = 0", "o3 > '8'", "o1 > 0 and file_row_number % 3 = 1", "file_row_number between 2990 and 3110", "o2", "o4 is null"}
	var questions []string
	for i, pair := range pairs(t, 8, 3) {
		from := func(file string) string { return "read_parquet('" + file + "', file_row_number = true)" }
		questions = append(questions, fmt.Sprintf("select %d, 'rows', count(*)::varchar, '0' from (from %s except all from %s)", i, from(pair[0]), from(pair[1])))
		for j, condition := range conditions {
			sum := func(file string) string {
				return "(select count(*) || ' ' || coalesce(bit_xor(hash(x)), 0) from " + from(file) + " x where " + condition + ")"
			}
			questions = append(questions, fmt.Sprintf("select %d, 'condition %d', %s, %s", i, j, sum(pair[0]), sum(pair[1])))
		}
	}
	for _, row := range archivetest.DuckDB(t, strings.Join(questions, " union all ")) {
		if row[2] != row[3] {
			t.Errorf("file %s, %s: %s, want %s", row[0], row[1], row[2], row[3])
		}
	}
}

func TestHyparquetReadsTheSame(t *testing.T) {
	for _, difference := range archivetest.Hyparquet(t, pairs(t, 8, 4)) {
		t.Error(difference)
	}
}
