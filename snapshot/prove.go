package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"sort"
	"strconv"
	"unicode/utf8"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// Prove makes a proof of one row of a snapshot, for somebody who does not have the
// archive. [CheckProof] accepts it.
type Prove struct {
	Archive *Archive
	Entry   Entry               // the snapshot, as Find returns it
	Table   manifest.TableEntry // the table, as FindTable returns it
	Key     manifest.Key        // of the row, whole
	// Absence has it proved that there is no such row, if there is none. Where its
	// place is inside a chunk, the rows beside it are in the proof, whole.
	Absence bool
}

// Run reads the table's pages and one chunk and returns the proof, after checking
// it. Without Absence, no such row is fs.ErrNotExist. A proof that would be too
// large is manifest.ErrLimit; other errors are those of [Read.Rows].
func (p Prove) Run(ctx context.Context) ([]byte, error) {
	data, err := p.run(ctx)
	if err != nil {
		return nil, inTable(p.Table.Table, err)
	}
	return data, nil
}

func (p Prove) run(ctx context.Context) ([]byte, error) {
	proof := manifest.Proof{Format: manifest.Format, Table: p.Table.Table.Name, Key: p.Key}
	if err := p.addSigned(ctx, &proof); err != nil {
		return nil, err
	}
	pages, err := tablePages(ctx, p.Archive, p.Entry, p.Table)
	if err != nil {
		return nil, err
	}
	var lines []manifest.Hash
	for _, page := range pages {
		for _, line := range page.Lines() {
			lines = append(lines, manifest.LeafHash(line))
		}
	}
	jobs := tableJobs(p.Entry, p.Table, pages)
	after := sort.Search(len(jobs), func(i int) bool { return bytes.Compare(jobs[i].chunk.First, p.Key) > 0 })
	if at := after - 1; at >= 0 && bytes.Compare(p.Key, jobs[at].chunk.Last) <= 0 {
		chunk := manifest.NewProofChunk(jobs[at].chunk, int64(at), lines)
		if chunk.Rows, err = p.rows(ctx, jobs[at]); err != nil {
			return nil, err
		}
		proof.Chunks = append(proof.Chunks, chunk)
	} else if !p.Absence {
		return nil, p.noRow()
	} else {
		for i := max(after-1, 0); i <= after && i < len(jobs); i++ {
			proof.Chunks = append(proof.Chunks, manifest.NewProofChunk(jobs[i].chunk, int64(i), lines))
		}
	}
	data, err := proof.Encode()
	if err != nil {
		return nil, err
	}
	if _, err := CheckProof(data, p.Archive.Trust); err != nil {
		return nil, fmt.Errorf("the proof just made does not hold: %w", err)
	}
	return data, nil
}

func (p Prove) noRow() error {
	return fmt.Errorf("no row has the key %s in snapshot %d: %w", row.FormatKey(p.Table.Table.Key, p.Key), p.Entry.Manifest.Seq, fs.ErrNotExist)
}

// addSigned reads what carries signatures, as it is stored.
func (p Prove) addSigned(ctx context.Context, proof *manifest.Proof) error {
	for version := range p.Archive.Policy.Version {
		name := manifest.PolicyName(version + 1)
		policy, err := archive.ReadAll(ctx, p.Archive.Store, name, manifest.MaxPolicy)
		if err != nil {
			return missing(name, err)
		}
		proof.Policies = append(proof.Policies, string(policy))
	}
	o := manifest.Object{Name: manifest.ManifestName(p.Entry.Manifest.Seq), Size: p.Entry.Size, SHA256: p.Entry.Digest}
	sealed, err := archive.Fetch(ctx, p.Archive.Store, o)
	if err != nil {
		return missing(o.Name, err)
	}
	proof.Manifest = string(sealed)
	return nil
}

// rows returns the row with the key, or those between which it would be, out of a
// chunk whose rows are all rebuilt and have the signed digest.
func (p Prove) rows(ctx context.Context, j job) ([]manifest.ProofRow, error) {
	object := j.object()
	data, err := archive.Fetch(ctx, p.Archive.Store, object)
	if err != nil {
		return nil, missing(object.Name, err)
	}
	found := around{key: p.Key, columns: j.layout.Key}
	encoder := row.NewEncoder(*j.layout)
	for rec, err := range archive.Read(ctx, data, *j.layout, j.chunk) {
		if err == nil {
			err = encoder.Reset(rec)
		}
		for i := 0; err == nil && i < int(rec.NumRows()); i++ {
			err = found.add(encoder, i)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", object.Name, err)
		}
	}
	var tree manifest.Tree
	for _, leaf := range found.leaves {
		tree.Add(leaf)
	}
	if tree.Root() != j.chunk.RowDigest {
		return nil, fmt.Errorf("%s: rows have digest %s, signed is %s: %w", object.Name, tree.Root(), j.chunk.RowDigest, archive.ErrCorrupt)
	}
	if found.exact == nil && !p.Absence {
		return nil, p.noRow()
	}
	return found.rows()
}

// around goes through the rows of a chunk, and keeps the one with a key or the two
// beside its place.
type around struct {
	key     manifest.Key
	columns []manifest.KeyColumn
	leaves  []manifest.Hash // of all rows

	exact, before, after []byte
	place                int64 // of the first row whose key is not before the key
	wire, at             []byte
}

func (a *around) add(from *row.Encoder, i int) (err error) {
	if a.wire, err = from.AppendRow(a.wire[:0], i); err != nil {
		return err
	}
	a.at = from.AppendKey(a.at[:0], i)
	switch order := bytes.Compare(a.at, a.key); {
	case order < 0:
		a.before = append(a.before[:0], a.wire...)
		a.place++
	case order == 0:
		a.exact = bytes.Clone(a.wire)
	case a.after == nil:
		a.after = bytes.Clone(a.wire)
	}
	a.leaves = append(a.leaves, manifest.LeafHash(a.wire))
	return nil
}

func (a *around) rows() ([]manifest.ProofRow, error) {
	wires, first := [][]byte{a.exact}, a.place
	if a.exact == nil {
		wires, first = [][]byte{a.before, a.after}, a.place-1
	}
	var rows []manifest.ProofRow
	for i, wire := range wires {
		r := manifest.NewProofRow(wire, first+int64(i), a.leaves)
		said, err := readRow(a.columns, wire)
		if err != nil {
			return nil, err
		}
		r.Key, r.Cells = said.key, said.cells
		rows = append(rows, r)
	}
	return rows, nil
}

// Proven is what a proof has shown.
type Proven struct {
	*manifest.Proven
	Present bool // whether there is a row with the key
	// Rows is the row; of one that is not there, the rows beside its place, or none
	// where its place is between chunks, before the first or after the last.
	Rows []row.Row
}

// CheckProof checks a proof, given what is trusted of the archive, of which nothing
// else is needed: all that [manifest.OpenProof] does, that the rows are rows of the
// table in the one form there is, that they say what the proof says they do, and
// that they answer for its key.
//
// That a row is there is beyond doubt if the signatures are. That none is there
// rests on the order of rows and chunks, which those who signed vouch for: an export
// refuses rows out of order, and so does verify at level rows.
func CheckProof(data []byte, trust manifest.Trust) (*Proven, error) {
	opened, err := manifest.OpenProof(data, trust)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	p := &Proven{Proven: opened}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("snapshot: proof: %w: %w", err, manifest.ErrInvalid)
	}
	return p, nil
}

func (p *Proven) check() error {
	columns := p.Table.Table.Key
	if _, left, err := row.CutKey(columns, p.Key, len(columns)); err != nil || len(left) > 0 {
		return fmt.Errorf("%s is no key of the table", p.Key)
	}
	for i, c := range p.Chunks {
		var keys []manifest.Key
		for n, r := range c.Rows {
			said, err := readRow(columns, r.Row)
			if err == nil {
				err = said.compare(r)
			}
			if err != nil {
				return fmt.Errorf("chunk %d: row %d: %w", i, n, err)
			}
			keys = append(keys, said.at)
			p.Rows = append(p.Rows, said.row)
		}
		if err := within(c, keys); err != nil {
			return fmt.Errorf("chunk %d: %w", i, err)
		}
		if len(p.Chunks) == 1 && len(keys) > 0 {
			return p.among(keys)
		}
		if len(keys) > 0 {
			return fmt.Errorf("chunk %d: has rows beside another chunk", i)
		}
	}
	return p.between()
}

// within holds the keys of rows of a chunk to its first and its last.
func within(c manifest.ProvenChunk, keys []manifest.Key) error {
	for i, key := range keys {
		first, last := bytes.Compare(key, c.Chunk.First), bytes.Compare(key, c.Chunk.Last)
		index := c.Rows[i].Index
		if first < 0 || last > 0 || (first == 0) != (index == 0) || (last == 0) != (index == c.Chunk.Rows-1) {
			return fmt.Errorf("row %d of %d has the key %s, and those of the chunk are %s to %s", index, c.Chunk.Rows, key, c.Chunk.First, c.Chunk.Last)
		}
	}
	return nil
}

// among decides what rows of one chunk prove.
func (p *Proven) among(keys []manifest.Key) error {
	switch {
	case len(keys) == 1 && bytes.Equal(keys[0], p.Key):
		p.Present = true
		return nil
	case len(keys) == 2 && bytes.Compare(keys[0], p.Key) < 0 && bytes.Compare(p.Key, keys[1]) < 0:
		return nil
	}
	return fmt.Errorf("its rows do not answer for the key %s", p.Key)
}

// between checks that the key's place is where there are no rows: between two
// chunks, before the first, after the last, or in a table without any.
func (p *Proven) between() error {
	all, absent := p.Table.Totals.Chunks, false
	if n := len(p.Chunks); n == 0 {
		absent = all == 0
	} else {
		first, last := p.Chunks[0], p.Chunks[n-1]
		before, after := bytes.Compare(p.Key, last.Chunk.First) < 0, bytes.Compare(p.Key, first.Chunk.Last) > 0
		absent = n == 2 && before && after || n == 1 && (before && first.Index == 0 || after && last.Index == all-1)
	}
	if absent {
		return nil
	}
	return fmt.Errorf("its chunks do not answer for the key %s", p.Key)
}

// spelled is a row of a proof taken apart.
type spelled struct {
	row        row.Row
	at         manifest.Key
	key, cells []manifest.ProofCell
}

// readRow takes apart a row of a table with that key, which must be in canonical
// order.
func readRow(columns []manifest.KeyColumn, wire []byte) (spelled, error) {
	key, cells, rest, err := row.Take(wire)
	if err != nil {
		return spelled{}, err
	}
	if len(rest) > 0 || !bytes.Equal(row.Compose(nil, key, cells), wire) {
		return spelled{}, errors.New("is not in the one form of a row")
	}
	var s spelled
	if len(key) != len(columns) {
		return spelled{}, fmt.Errorf("%d key columns, the table has %d", len(key), len(columns))
	}
	for i, c := range key {
		if c.Name != columns[i].Name || c.Value.Type() != columns[i].Type {
			return spelled{}, fmt.Errorf("key column %q %s, the table has %q %s", c.Name, c.Value.Type(), columns[i].Name, columns[i].Type)
		}
		s.row.Key = append(s.row.Key, c.Value)
		s.at = row.AppendKey(s.at, c.Value)
		s.key = append(s.key, manifest.ProofCell{Name: c.Name, Type: c.Value.Type(), Value: spell(c.Value)})
	}
	s.row.Cells = cells
	for i, c := range cells {
		if i > 0 && c.Name == cells[i-1].Name && c.Version == cells[i-1].Version {
			return spelled{}, fmt.Errorf("a version of %q stands twice", c.Name)
		}
		s.cells = append(s.cells, manifest.ProofCell{
			Name: printable(c.Name), Version: strconv.FormatInt(c.Version, 10), Type: c.Value.Type(), Value: spell(c.Value),
		})
	}
	return s, nil
}

// compare checks that a proof says of a row what the row says.
func (s spelled) compare(r manifest.ProvenRow) error {
	if !reflect.DeepEqual(s.key, r.Key) || !reflect.DeepEqual(s.cells, r.Cells) {
		return errors.New("what it says of the row is not what the row is")
	}
	return nil
}

// spell writes a value in words: all of it, whatever it is.
func spell(v row.Value) string {
	switch v.Type() {
	case manifest.String:
		return printable(v.Text())
	case manifest.Binary:
		return fmt.Sprintf("hex:%x", v.Text())
	}
	return string(v.AppendText(nil))
}

// printable returns text, or hex of what is not UTF-8 and JSON could not hold.
func printable(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return fmt.Sprintf("hex:%x", text)
}
