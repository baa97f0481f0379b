package snapshot_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// proving is an archive with tables to prove rows of, and which signer can sign more.
type proving struct {
	*snapshot.Archive
	entry snapshot.Entry
	key   manifest.Signer
}

// newProving has a table of rows of every shape, one of many chunks, one of a row
// and one of none.
func newProving(t testing.TB) proving {
	t.Helper()
	s := newService(t)
	c := s.client("source")
	fillRagged(t, c)
	fillPlain(t, c, "plain", 1001)
	createTable(t, c, "empty", 1, "k:STRING")
	createTable(t, c, "single", 1, "k:STRING")
	putRow(t, c, "single", map[string]any{"k": "only"}, []string{"k"}, cell{name: "n", value: int64(1)})
	a, key := newArchive(t, new(archivetest.Memory))
	return proving{a, export(t, s, a, key, "empty", "plain", "ragged", "single"), key}
}

func (p proving) table(t testing.TB, name string) manifest.TableEntry {
	t.Helper()
	table, err := snapshot.FindTable(p.entry, name)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func (p proving) prove(t testing.TB, table string, key manifest.Key) ([]byte, error) {
	t.Helper()
	return snapshot.Prove{Archive: p.Archive, Entry: p.entry, Table: p.table(t, table), Key: key, Absence: true}.Run(t.Context())
}

// proof is prove and CheckProof.
func (p proving) proof(t testing.TB, table string, key manifest.Key) *snapshot.Proven {
	t.Helper()
	data, err := p.prove(t, table, key)
	if err != nil {
		t.Fatal(err)
	}
	proven, err := snapshot.CheckProof(data, manifest.Trust{Archive: p.Policy.ID()})
	if err != nil {
		t.Fatal(err)
	}
	return proven
}

// each goes through the rows of a table.
func (p proving) each(t testing.TB, table string, visit func(n int, key manifest.Key, r row.Row)) {
	t.Helper()
	n := 0
	for r, err := range (snapshot.Read{Archive: p.Archive, Entry: p.entry, Table: p.table(t, table)}).Rows(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		visit(n, keyOf(*r), row.Row{Key: slices.Clone(r.Key), Cells: slices.Clone(r.Cells)})
		n++
	}
}

func keyOf(r row.Row) manifest.Key {
	var key manifest.Key
	for _, v := range r.Key {
		key = row.AppendKey(key, v)
	}
	return key
}

func same(a, b row.Row) bool {
	return slices.Equal(a.Key, b.Key) && slices.Equal(a.Cells, b.Cells)
}

func TestEveryRowCanBeProved(t *testing.T) {
	p := newProving(t)
	for table, step := range map[string]int{"ragged": 1, "single": 1, "plain": 50} {
		last := int(p.table(t, table).Totals.Rows) - 1
		p.each(t, table, func(n int, key manifest.Key, want row.Row) {
			if n%step != 0 && n != last {
				return
			}
			got := p.proof(t, table, key)
			if !got.Present || len(got.Rows) != 1 || !same(got.Rows[0], want) {
				t.Errorf("%s: row %d is proved as %+v, want %+v", table, n, got.Rows, want)
			}
			if got.Digest != p.entry.Digest || got.Manifest.Snapshot != p.entry.Manifest.Snapshot || len(got.Signers) != 1 {
				t.Errorf("%s: row %d is proved of %s, signed by %v", table, n, got.Manifest.Snapshot, got.Signers)
			}
		})
	}
}

// TestTheFirstAndTheLastRowOfEveryChunkCanBeProved meets trees of all the shapes
// the chunks have.
func TestTheFirstAndTheLastRowOfEveryChunkCanBeProved(t *testing.T) {
	p := newProving(t)
	chunks := chunksOf(t, p, "plain")
	if len(chunks) < 5 {
		t.Fatalf("%d chunks, want more", len(chunks))
	}
	for i, c := range chunks {
		for _, end := range []struct {
			key manifest.Key
			row int64
		}{{c.First, 0}, {c.Last, c.Rows - 1}} {
			got := p.proof(t, "plain", end.key)
			if !got.Present || got.Chunks[0].Index != int64(i) || got.Chunks[0].Rows[0].Index != end.row {
				t.Errorf("row %d of chunk %d is proved as row %d of chunk %d", end.row, i, got.Chunks[0].Rows[0].Index, got.Chunks[0].Index)
			}
		}
	}
}

// chunksOf returns the chunks of a table, in order.
func chunksOf(t testing.TB, p proving, table string) []manifest.Chunk {
	t.Helper()
	var chunks []manifest.Chunk
	entry := p.table(t, table)
	for _, ref := range entry.Pages {
		sealed, err := archive.Fetch(t.Context(), p.Store, p.entry.Manifest.PageObject(entry, ref))
		if err != nil {
			t.Fatal(err)
		}
		page, err := manifest.OpenPage(sealed, p.Policy)
		if err != nil {
			t.Fatal(err)
		}
		chunks = append(chunks, page.Chunks...)
	}
	return chunks
}

func stringKey(s string) manifest.Key { return row.AppendKey(nil, row.StringValue(s)) }

func TestTheAbsenceOfARowCanBeProved(t *testing.T) {
	p := newProving(t)
	chunks := chunksOf(t, p, "plain")
	end := string(chunks[0].Last[:len(chunks[0].Last)-2])
	for _, test := range []struct {
		name, table  string
		key          manifest.Key
		chunks, rows int
	}{
		{"inside a chunk", "plain", stringKey("row-000001x"), 1, 2},
		{"between two chunks", "plain", stringKey(end + "x"), 2, 0},
		{"before the first row", "plain", stringKey("a"), 1, 0},
		{"after the last row", "plain", stringKey("z"), 1, 0},
		{"in an empty table", "empty", stringKey("a"), 0, 0},
		{"before the only row", "single", stringKey("a"), 1, 0},
		{"after the only row", "single", stringKey("z"), 1, 0},
	} {
		got := p.proof(t, test.table, test.key)
		if got.Present || len(got.Chunks) != test.chunks || len(got.Rows) != test.rows {
			t.Errorf("%s: present %t, %d chunks, %d rows", test.name, got.Present, len(got.Chunks), len(got.Rows))
		}
		_, err := snapshot.Prove{Archive: p.Archive, Entry: p.entry, Table: p.table(t, test.table), Key: test.key}.Run(t.Context())
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s, not asked for: got %v, want %v", test.name, err, fs.ErrNotExist)
		}
	}
}

// TestAProofShowsOneRowAlone looks for the values of other rows.
func TestAProofShowsOneRowAlone(t *testing.T) {
	p := newProving(t)
	data, err := p.prove(t, "plain", stringKey("row-000500"))
	if err != nil {
		t.Fatal(err)
	}
	c := p.proof(t, "plain", stringKey("row-000500")).Chunks[0].Chunk
	ends := []string{string(c.First[:10]), string(c.Last[:10])}
	for i := range 1001 {
		key := fmt.Sprintf("row-%06d", i)
		found := bytes.Contains(data, []byte(key)) || bytes.Contains(data, fmt.Appendf(nil, "%x", key))
		if want := i == 500 || slices.Contains(ends, key); found && !want {
			for _, ref := range p.table(t, "plain").Pages { // where the key space was split
				found = found && !bytes.HasPrefix(ref.From, []byte(key))
			}
			if found {
				t.Errorf("the proof of row 500 shows the key %s", key)
			}
		}
	}
}

// TestEveryByteOfARowsProofCounts flips a bit of each byte in turn.
func TestEveryByteOfARowsProofCounts(t *testing.T) {
	p := newProving(t)
	trust := manifest.Trust{Archive: p.Policy.ID()}
	between := []byte{0x80, 0, 0, 0, 0, 0, 0, 1, 'b', 0, 0} // neighbours are in the proof
	versions := keyOf(row.Row{Key: []row.Value{row.IntegerValue(1), row.BinaryValue([]byte("a"))}})
	for step, key := range map[int]manifest.Key{1: versions, 7: between} {
		data, err := p.prove(t, "ragged", key)
		if err != nil {
			t.Fatal(err)
		}
		if testing.Short() {
			step = 23
		}
		at := bytes.Index(data, []byte(`"key":"`)) + len(`"key":"`)
		for i := 0; i < len(data); i += step {
			changed := bytes.Clone(data)
			changed[i] ^= 1 << (i % 8)
			got, err := snapshot.CheckProof(changed, trust)
			if err == nil && !(i >= at && i < at+2*len(key) && !got.Present) {
				t.Errorf("byte %d of %d, %q for %q, is accepted", i, len(data), changed[i], data[i])
			}
		}
	}
}

// TestAProofThatDoesNotAnswerIsRefused changes what a good proof says. All of it was
// signed, but for the last few.
func TestAProofThatDoesNotAnswerIsRefused(t *testing.T) {
	p := newProving(t)
	trust := manifest.Trust{Archive: p.Policy.ID()}
	get := func(key string) manifest.Proof {
		data, err := p.prove(t, "plain", stringKey(key))
		if err != nil {
			t.Fatal(err)
		}
		var proof manifest.Proof
		if err := json.Unmarshal(data, &proof); err != nil {
			t.Fatal(err)
		}
		return proof
	}
	chunks := chunksOf(t, p, "plain")
	end := string(chunks[0].Last[:len(chunks[0].Last)-2])
	present, beside, between, before, after := get("row-000500"), get("row-000500x"), get(end+"x"), get("a"), get("z")
	tests := map[string]func() manifest.Proof{
		"a row with another key":          func() manifest.Proof { present.Key = stringKey("row-000501"); return present },
		"neighbours of another place":     func() manifest.Proof { beside.Key = stringKey("row-000700x"); return beside },
		"neighbours, one of them asked":   func() manifest.Proof { beside.Key = stringKey("row-000500"); return beside },
		"chunks of another place":         func() manifest.Proof { between.Key = stringKey("row-000900x"); return between },
		"chunks, one with the key inside": func() manifest.Proof { between.Key = stringKey(end); return between },
		"the first chunk, not before it":  func() manifest.Proof { before.Key = stringKey("row-000000"); return before },
		"the first chunk, after it":       func() manifest.Proof { before.Key = stringKey("z"); return before },
		"the last chunk, before it":       func() manifest.Proof { after.Key = stringKey("a"); return after },
		"no chunk":                        func() manifest.Proof { after.Chunks = nil; return after },
		"half a key":                      func() manifest.Proof { x := get("row-000500"); x.Key = x.Key[:5]; return x },
		"a key and more":                  func() manifest.Proof { x := get("row-000500"); x.Key = append(x.Key, 1); return x },
		"a row of another table":          func() manifest.Proof { x := get("row-000500"); x.Table = "single"; return x },
		"another value in words": func() manifest.Proof {
			x := get("row-000500")
			x.Chunks[0].Rows[0].Cells[0].Value = "7"
			return x
		},
		"another type in words": func() manifest.Proof {
			x := get("row-000500")
			x.Chunks[0].Rows[0].Cells[0].Type = manifest.String
			return x
		},
		"a cell less in words": func() manifest.Proof {
			x := get("row-000500")
			x.Chunks[0].Rows[0].Cells = x.Chunks[0].Rows[0].Cells[1:]
			return x
		},
		"another key in words": func() manifest.Proof {
			x := get("row-000500")
			x.Chunks[0].Rows[0].Key[0].Value = "row-000501"
			return x
		},
		"rows beside a second chunk": func() manifest.Proof {
			x, y := get(end+"x"), get(end)
			x.Chunks[0].Rows = y.Chunks[0].Rows
			return x
		},
	}
	for name, proof := range tests {
		changed := proof()
		data, err := changed.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := snapshot.CheckProof(data, trust); !errors.Is(err, manifest.ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, manifest.ErrInvalid)
		}
	}
}

// TestTrustedKeysCannotSignARowOfAnotherForm seals a table of one row that is not in
// the one form rows have.
func TestTrustedKeysCannotSignARowOfAnotherForm(t *testing.T) {
	p := newProving(t)
	key := []row.Cell{{Name: "k", Value: row.StringValue("only")}}
	cells := []row.Cell{{Name: "a", Version: 1, Value: row.IntegerValue(1)}, {Name: "n", Version: 1, Value: row.IntegerValue(1)}}
	good := row.Compose(nil, key, cells)
	swapped := bytes.Clone(good) // n before a: each cell keeps its checksum, and the row's is wrong
	i, j := bytes.Index(good, []byte("\x03\x04\x01\x00\x00\x00a")), bytes.Index(good, []byte("\x03\x04\x01\x00\x00\x00n"))
	copy(swapped[i:], good[j:len(good)-2])
	copy(swapped[i+len(good)-2-j:], good[i:j])
	tests := map[string]struct {
		wire     []byte
		wordless bool // only the words are missing
	}{
		"as it should be":         {good, true},
		"of another key column":   {row.Compose(nil, []row.Cell{{Name: "l", Value: row.StringValue("only")}}, cells), false},
		"of another type":         {row.Compose(nil, []row.Cell{{Name: "k", Value: row.BinaryValue([]byte("only"))}}, cells), false},
		"with two keys":           {row.Compose(nil, append(slices.Clone(key), key...), cells), false},
		"without a key":           {row.Compose(nil, nil, cells), false},
		"with a version twice":    {row.Compose(nil, key, []row.Cell{cells[0], cells[0]}), false},
		"with more after it":      {append(bytes.Clone(good), 0), false},
		"with cells out of order": {swapped, false},
		"with another key":        {row.Compose(nil, []row.Cell{{Name: "k", Value: row.StringValue("other")}}, cells), true},
		"of no bytes":             {nil, false},
	}
	for name, test := range tests {
		data := p.forge(t, test.wire)
		_, err := snapshot.CheckProof(data, manifest.Trust{Archive: p.Policy.ID()})
		wordless := strings.Contains(fmt.Sprint(err), "what it says of the row is not what the row is")
		if !errors.Is(err, manifest.ErrInvalid) || wordless != test.wordless {
			t.Errorf("a row %s: got %v", name, err)
		}
	}
}

// forge signs a snapshot in which the table single has one row of those bytes, and
// returns the proof of it, without words.
func (p proving) forge(t *testing.T, wire []byte) []byte {
	t.Helper()
	m := *p.entry.Manifest
	m.Tables = nil
	table := p.table(t, "single")
	c := chunksOf(t, p, "single")[0]
	leaf := []manifest.Hash{manifest.LeafHash(wire)}
	c.RowDigest = leaf[0]
	page := manifest.Page{Chunks: []manifest.Chunk{c}}
	lines := []manifest.Hash{manifest.LeafHash(page.Lines()[0])}
	table.Root = lines[0]
	m.Tables, m.Totals = []manifest.TableEntry{table}, table.Totals
	sealed, err := manifest.Seal(t.Context(), &m, p.key)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := archive.ReadAll(t.Context(), p.Store, manifest.PolicyName(1), manifest.MaxPolicy)
	if err != nil {
		t.Fatal(err)
	}
	chunk := manifest.NewProofChunk(c, 0, lines)
	chunk.Rows = []manifest.ProofRow{manifest.NewProofRow(wire, 0, leaf)}
	proof := manifest.Proof{Format: 1, Policies: []string{string(policy)}, Manifest: string(sealed), Table: "single", Key: stringKey("only"), Chunks: []manifest.ProofChunk{chunk}}
	data, err := proof.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestADamagedChunkProvesNothing(t *testing.T) {
	p := newProving(t)
	objects := contents(t, p.Store)
	for name := range objects {
		if strings.Contains(name, "/single/") && strings.HasSuffix(name, ".parquet") {
			objects[name][len(objects[name])/2] ^= 1
		}
	}
	p.Archive = open(t, storeWith(t, objects), p.Trust)
	if _, err := p.prove(t, "single", stringKey("only")); !errors.Is(err, archive.ErrCorrupt) {
		t.Errorf("got %v, want %v", err, archive.ErrCorrupt)
	}
	for name := range objects {
		if strings.Contains(name, "/single/") && strings.HasSuffix(name, ".parquet") {
			delete(objects, name)
		}
	}
	p.Archive = open(t, storeWith(t, objects), p.Trust)
	if _, err := p.prove(t, "single", stringKey("only")); !errors.Is(err, snapshot.ErrMissing) {
		t.Errorf("got %v, want %v", err, snapshot.ErrMissing)
	}
}

// checkProof is a reader of proofs after FORMAT.md that shares no code with this
// one. It leaves signatures to openssl, and takes the key's place on trust.
const checkProof = `
import sys, json, base64, hashlib
H = lambda b: hashlib.sha256(b).digest()
def follow(leaf, i, n, path):
    r, last = leaf, n - 1
    for p in map(bytes.fromhex, path):
        assert last > 0
        if i % 2 or i == last:
            r = H(b'\x01' + p + r)
            while i % 2 == 0 and i: i >>= 1; last >>= 1
        else: r = H(b'\x01' + r + p)
        i >>= 1; last >>= 1
    assert last == 0
    return r.hex()
for name in sys.argv[2:]:
    p = json.load(open(name))
    payload = lambda e: base64.b64decode(json.loads(e)['payload'])
    assert H(payload(p['policies'][0])).hex() == sys.argv[1]
    m = json.loads(payload(p['manifest']))['predicate']
    t = [t for t in m['tables'] if t['table']['name'] == p['table']][0]
    for c in p['chunks']:
        line = json.loads(c['line'])
        rng, at = line['name'][1:-8].split('-')
        i = int(at) + sum(x['totals']['chunks'] for x in t['pages'][:int(rng.split('.')[0])])
        assert follow(H(b'\0' + c['line'].encode()), i, t['totals']['chunks'], c['path']) == t['root']
        for r in c['rows']:
            row = base64.b64decode(r['row'])
            assert follow(H(b'\0' + row), r['index'], line['rows'], r['path']) == line['row_digest']
            assert all(x['name'].encode() in row for x in r['key'])
`

func writeFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proof.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPythonChecksAProof(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	p := newProving(t)
	args := []string{"-c", checkProof, p.Policy.ID().String()}
	for _, key := range []string{"row-000000", "row-000500", "row-000500x", "row-001000", "a"} {
		data, err := p.prove(t, "plain", stringKey(key))
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, writeFile(t, data))
	}
	if out, err := exec.CommandContext(t.Context(), python, args...).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	data, err := p.prove(t, "plain", stringKey("row-000500"))
	if err != nil {
		t.Fatal(err)
	}
	changed := writeFile(t, bytes.Replace(data, []byte(`"row":"AQ`), []byte(`"row":"BQ`), 1))
	if out, err := exec.CommandContext(t.Context(), python, "-c", checkProof, p.Policy.ID().String(), changed).CombinedOutput(); err == nil {
		t.Errorf("accepts a row that was changed: %s", out)
	}
}

// FuzzCheckProof changes good proofs. Whatever is accepted shows a row that is there,
// or a key of which there is none.
func FuzzCheckProof(f *testing.F) {
	p := newProving(f)
	rows := map[string]row.Row{}
	for _, name := range []string{"plain", "ragged", "single"} {
		p.each(f, name, func(_ int, key manifest.Key, r row.Row) { rows[name+string(key)] = r })
	}
	for _, seed := range []struct {
		table string
		key   manifest.Key
	}{
		{"plain", stringKey("row-000500")}, {"plain", stringKey("row-000500x")}, {"plain", stringKey("a")}, {"empty", stringKey("a")}, {"single", stringKey("only")},
		{"ragged", keyOf(row.Row{Key: []row.Value{row.IntegerValue(2), row.BinaryValue([]byte("a"))}})},
	} {
		data, err := p.prove(f, seed.table, seed.key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	trust := manifest.Trust{Archive: p.Policy.ID()}
	f.Fuzz(func(t *testing.T, data []byte) {
		proven, err := snapshot.CheckProof(data, trust)
		if err != nil {
			return
		}
		want, there := rows[proven.Table.Table.Name+string(proven.Key)]
		if proven.Present != there || there && !same(proven.Rows[0], want) {
			t.Errorf("%s %s: proved %t %+v, there is %t %+v", proven.Table.Table.Name, proven.Key, proven.Present, proven.Rows, there, want)
		}
	})
}
