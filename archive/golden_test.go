package archive_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

var newGolden = flag.String("new-golden", "", "write a golden chunk of this name, as when the format gets a new version")

// golden is the description beside a chunk in testdata: all that is needed to
// read it, and its rows in PlainBuffer.
type golden struct {
	Key     []manifest.KeyColumn `json:"key"`
	Columns []manifest.Column    `json:"columns"`
	Chunk   manifest.Chunk       `json:"chunk"`
	Rows    []string             `json:"rows"` // hex
}

// TestGoldenChunksAreReadForEver reads a chunk of every version there ever was.
// Files in testdata are added, never changed.
func TestGoldenChunksAreReadForEver(t *testing.T) {
	if *newGolden != "" {
		writeGolden(t, *newGolden)
	}
	files, err := filepath.Glob("testdata/*.parquet")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden chunks: %v", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			g, l, data := readGolden(t, name)
			if err := archive.Check(t.Context(), data, l, g.Chunk); err != nil {
				t.Fatal(err)
			}
			if got := rebuilt(t, data, l, g.Chunk); strings.Join(got, "\n") != strings.Join(g.Rows, "\n") {
				t.Errorf("rows are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(g.Rows, "\n"))
			}
		})
	}
}

// TestDamagedGoldenChunksAreRefused cuts the chunks at one byte in 61 and changes
// one in 23.
func TestDamagedGoldenChunksAreRefused(t *testing.T) {
	files, err := filepath.Glob("testdata/*.parquet")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		g, l, data := readGolden(t, name)
		for i := 0; i < len(data); i += 61 {
			refused(t, data[:i], l, passing(g.Chunk, data[:i]), "")
		}
		want := strings.Join(g.Rows, "\n")
		for i := 0; i < len(data); i += 23 {
			damaged := bytes.Clone(data)
			damaged[i] ^= 1 << (i % 8)
			signed := passing(g.Chunk, damaged)
			err := archive.Check(t.Context(), damaged, l, signed)
			if err != nil && !errors.Is(err, archive.ErrCorrupt) {
				t.Errorf("byte %d changed: got %v, want ErrCorrupt", i, err)
			}
			if err == nil && strings.Join(rebuilt(t, damaged, l, signed), "\n") != want {
				t.Errorf("byte %d changed: other rows were accepted", i)
			}
		}
	}
}

func readGolden(t *testing.T, name string) (golden, row.Layout, []byte) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(strings.TrimSuffix(name, ".parquet") + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	if manifest.Sum(data) != g.Chunk.SHA256 {
		t.Fatalf("%s was changed", name)
	}
	l, err := row.NewLayout(g.Key, g.Columns)
	if err != nil {
		t.Fatal(err)
	}
	return g, l, data
}

// rebuilt returns the rows of a chunk in PlainBuffer, as hex.
func rebuilt(t *testing.T, data []byte, l row.Layout, c manifest.Chunk) []string {
	t.Helper()
	var rows []string
	e := row.NewEncoder(l)
	for rec, err := range archive.Read(t.Context(), data, l, c) {
		if err == nil {
			err = e.Reset(rec)
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			r, err := e.AppendRow(nil, i)
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, hex.EncodeToString(r))
		}
	}
	return rows
}

func writeGolden(t *testing.T, name string) {
	t.Helper()
	l := orders(t)
	rnd := rand.New(rand.NewPCG(31, 32))
	var rows [][]byte
	for i := range 200 {
		rows = append(rows, order(rnd, 7*i))
	}
	rows = append(rows, wire([]cell{{name: "customer", value: "zoë"}, {name: "id", value: int64(-1 << 63)}, {name: "part", value: []byte{}}}, nil))
	data, c := write(t, l, batch(t, l, rows[:190]...), batch(t, l, rows[190:]...))
	g := golden{Key: l.Key, Columns: l.Columns, Chunk: c}
	for _, r := range rows {
		g.Rows = append(g.Rows, hex.EncodeToString(r))
	}
	text, err := json.MarshalIndent(g, "", "\t")
	if err == nil {
		err = errors.Join(
			os.MkdirAll("testdata", 0o755),
			os.WriteFile(filepath.Join("testdata", name+".parquet"), data, 0o644),
			os.WriteFile(filepath.Join("testdata", name+".json"), append(text, '\n'), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
}
