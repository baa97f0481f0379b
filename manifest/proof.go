package manifest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
)

// MaxProof is the size of a proof in bytes: a manifest, policies, and the rows.
const MaxProof = 64 << 20

// maxProofChunks is the number of chunks in a proof, and that of rows in one of
// them: two neighbours show that there is nothing between them.
const maxProofChunks = 2

// Proof is a document that proves one row of a snapshot, or that there is none with
// a key, to somebody who has the archive's id and nothing of the archive. Nobody
// signs it: it leads from the row to what was signed.
type Proof struct {
	Format   int64        `json:"format"`
	Policies []string     `json:"policies"` // the objects of all versions of the policy, the first one first
	Manifest string       `json:"manifest"` // the object of the manifest
	Table    string       `json:"table"`
	Key      Key          `json:"key"` // what is asked for, a whole key
	Chunks   []ProofChunk `json:"chunks"`
}

// ProofChunk is a chunk, without its rows but for those it comes with.
type ProofChunk struct {
	Line string     `json:"line"` // of its page, without the newline
	Path []Hash     `json:"path"` // from the line to the table's root
	Rows []ProofRow `json:"rows"`
}

// ProofRow is a row of a chunk. Key and Cells are what Row says, for people.
type ProofRow struct {
	Index int64       `json:"index"` // in the chunk, from 0
	Row   string      `json:"row"`   // its PlainBuffer, in base64
	Path  []Hash      `json:"path"`  // from the row to the chunk's row digest
	Key   []ProofCell `json:"key"`
	Cells []ProofCell `json:"cells"`
}

// ProofCell is a cell of a row in words.
type ProofCell struct {
	Name    string `json:"name"`
	Version string `json:"version,omitzero"` // milliseconds since 1970; a key has none
	Type    Type   `json:"type"`
	Value   string `json:"value"`
}

// NewProofRow returns row i of a chunk, given the hashes of all the chunk's rows.
// Key and Cells are left to the caller.
func NewProofRow(row []byte, i int64, leaves []Hash) ProofRow {
	return ProofRow{Index: i, Row: base64.StdEncoding.EncodeToString(row), Path: Path(leaves, i)}
}

// NewProofChunk returns chunk i of a table, given the hashes of all its chunks'
// lines.
func NewProofChunk(c Chunk, i int64, leaves []Hash) ProofChunk {
	return ProofChunk{Line: string(c.line()), Path: Path(leaves, i)}
}

// Encode returns the proof as it is kept: the one spelling it has. What is over
// [MaxProof] is [ErrLimit].
func (p *Proof) Encode() ([]byte, error) {
	data, err := encode(*p)
	if err != nil {
		return nil, fmt.Errorf("manifest: proof: %w", invalid("%w", err))
	}
	if data = append(data, '\n'); len(data) > MaxProof {
		return nil, fmt.Errorf("manifest: proof: %w", overLimit("%d bytes; at most %d are written", len(data), MaxProof))
	}
	return data, nil
}

// Proven is what a proof has shown of a table: that these chunks, and these rows of
// them, stand at these places in it. What the rows mean, and whether they answer
// for Key, is for who can read rows; see package snapshot.
type Proven struct {
	Policy   *Policy // the newest version in the proof
	Manifest *Manifest
	Digest   Hash        // of the manifest's object
	Signers  []PolicyKey // who of those that count for the manifest signed it, in the order of the policy
	Table    TableEntry
	Key      Key
	Chunks   []ProvenChunk // none, one, or two neighbours
}

// ProvenChunk is a chunk of a table.
type ProvenChunk struct {
	Chunk Chunk
	Index int64       // in the table, from 0
	Rows  []ProvenRow // none, one, or two neighbours
}

// ProvenRow is a row of a chunk: its PlainBuffer, and what the proof says, which
// nothing has compared yet, that this means.
type ProvenRow struct {
	Index      int64 // in the chunk, from 0
	Row        []byte
	Key, Cells []ProofCell
}

// OpenProof returns what the proof in data proves to who trusts an archive so: the
// policy is that archive's, and no older than one seen, as many of its keys signed the
// manifest as it asks for, the manifest is none that trust knows another one for, and
// every path leads to a digest that was signed. Errors are those of [Open], of
// [Trust.CheckPolicy] and of [Chain.Add].
func OpenProof(data []byte, trust Trust) (*Proven, error) {
	p, err := openProof(data, trust)
	if err != nil {
		return nil, fmt.Errorf("manifest: proof: %w", err)
	}
	return p, nil
}

func openProof(data []byte, trust Trust) (*Proven, error) {
	if err := trust.validate(); err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	p, err := parseProof(data)
	if err != nil {
		return nil, err
	}
	proven := &Proven{Key: p.Key}
	if err := proven.openSigned(p, trust); err != nil {
		return nil, err
	}
	if m := proven.Manifest; m.Seq == trust.Seq && proven.Digest != trust.Head {
		return nil, rollback("manifest %d is %s, but %s was seen earlier: the archive has been forked", m.Seq, proven.Digest, trust.Head)
	}
	if proven.Table, err = proven.Manifest.table(p.Table); err != nil {
		return nil, err
	}
	for i, c := range p.Chunks {
		opened, err := c.open(proven.Table)
		if err != nil {
			return nil, fmt.Errorf("chunk %d: %w", i, err)
		}
		if i > 0 && opened.Index != proven.Chunks[i-1].Index+1 {
			return nil, invalid("chunks %d and %d of the table are no neighbours", proven.Chunks[i-1].Index, opened.Index)
		}
		proven.Chunks = append(proven.Chunks, opened)
	}
	return proven, nil
}

// parseProof reads a proof, which has one spelling: a byte of it that differs makes
// another proof or none.
func parseProof(data []byte) (*Proof, error) {
	if len(data) > MaxProof {
		return nil, overLimit("%d bytes; at most %d are read", len(data), MaxProof)
	}
	line, ok := bytes.CutSuffix(data, []byte("\n"))
	if !ok {
		return nil, invalid("its end is missing")
	}
	if err := checkFormat(line); err != nil {
		return nil, err
	}
	p := new(Proof)
	if err := new(lineReader).decode(line, p); err != nil {
		return nil, err
	}
	if err := checkFormatNumber(p.Format); err != nil {
		return nil, err
	}
	if len(p.Chunks) > maxProofChunks {
		return nil, overLimit("%d chunks; at most %d", len(p.Chunks), maxProofChunks)
	}
	if len(p.Key) == 0 || len(p.Key) > MaxKey {
		return nil, invalid("a key of %d bytes; 1 to %d", len(p.Key), MaxKey)
	}
	return p, nil
}

// openSigned opens what carries signatures.
func (p *Proven) openSigned(from *Proof, trust Trust) error {
	if n := len(from.Policies); n < 1 || n > MaxPolicies {
		return invalid("%d policies; 1 to %d", n, MaxPolicies)
	}
	for i, sealed := range from.Policies {
		var err error
		if i == 0 {
			p.Policy, err = openPolicy([]byte(sealed), trust.Archive)
		} else {
			p.Policy, err = openNextPolicy([]byte(sealed), p.Policy)
		}
		if err != nil {
			return fmt.Errorf("policy %d: %w", i+1, err)
		}
	}
	if err := trust.CheckPolicy(p.Policy); err != nil {
		return err
	}
	sealed := []byte(from.Manifest)
	var err error
	if p.Manifest, err = open(sealed, p.Policy); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	p.Digest = Sum(sealed)
	p.Signers, err = p.Policy.signers(sealed, p.Manifest.Seq)
	return err
}

// signers returns the keys that count for manifest seq and signed it.
func (p *Policy) signers(sealed []byte, seq int64) ([]PolicyKey, error) {
	o, err := manifestKind.open(sealed)
	if err != nil {
		return nil, err
	}
	v := p.At(seq)
	var signers []PolicyKey
	for _, k := range v.ballot(v.parsed, seq, false).keys {
		if o.by(k.key) {
			signers = append(signers, v.Keys[slices.IndexFunc(v.Keys, func(e PolicyKey) bool { return e.Name == k.name })])
		}
	}
	return signers, nil
}

// table returns the table of that name.
func (m *Manifest) table(name string) (TableEntry, error) {
	for _, t := range m.Tables {
		if t.Table.Name == name {
			return t, nil
		}
	}
	return TableEntry{}, invalid("manifest %d has no table %q", m.Seq, clip(name))
}

// open checks that c is a chunk of the table, and its rows.
func (c ProofChunk) open(t TableEntry) (ProvenChunk, error) {
	var p ProvenChunk
	if len(c.Line) > MaxLine {
		return p, overLimit("a line of %d bytes; at most %d", len(c.Line), MaxLine)
	}
	if err := new(lineReader).decode([]byte(c.Line), &p.Chunk); err != nil {
		return p, fmt.Errorf("line: %w", err)
	}
	if err := p.Chunk.validate(); err != nil {
		return p, err
	}
	var err error
	if p.Index, err = t.place(p.Chunk); err != nil {
		return p, err
	}
	if err := checkPath("line", LeafHash([]byte(c.Line)), p.Index, t.Totals.Chunks, c.Path, t.Root); err != nil {
		return p, err
	}
	if len(c.Rows) > maxProofChunks {
		return p, overLimit("%d rows; at most %d", len(c.Rows), maxProofChunks)
	}
	for i, r := range c.Rows {
		opened, err := r.open(p.Chunk)
		if err != nil {
			return p, fmt.Errorf("row %d: %w", i, err)
		}
		if i > 0 && opened.Index != p.Rows[i-1].Index+1 {
			return p, invalid("rows %d and %d of the chunk are no neighbours", p.Rows[i-1].Index, opened.Index)
		}
		p.Rows = append(p.Rows, opened)
	}
	return p, nil
}

// place returns which chunk of the table c must be, counted from 0, by its name,
// after holding it to the range of its page.
func (t TableEntry) place(c Chunk) (int64, error) {
	rng, _, index, err := ParseChunkName(c.Name)
	if err != nil {
		return 0, err
	}
	if rng >= int64(len(t.Pages)) || index >= t.Pages[rng].Totals.Chunks {
		return 0, invalid("the table has no chunk %s", c.Name)
	}
	ref := t.Pages[rng]
	if bytes.Compare(c.First, ref.From) < 0 || len(ref.To) > 0 && bytes.Compare(c.Last, ref.To) >= 0 {
		return 0, invalid("chunk %s has keys outside of its range", c.Name)
	}
	for _, before := range t.Pages[:rng] {
		index += before.Totals.Chunks
	}
	return index, nil
}

// open checks that r is a row of the chunk.
func (r ProofRow) open(c Chunk) (ProvenRow, error) {
	row, err := decodeBase64(r.Row)
	if err != nil {
		return ProvenRow{}, invalid("row: %w", err)
	}
	if err := checkPath("row", LeafHash(row), r.Index, c.Rows, r.Path, c.RowDigest); err != nil {
		return ProvenRow{}, err
	}
	return ProvenRow{Index: r.Index, Row: row, Key: r.Key, Cells: r.Cells}, nil
}

// checkPath checks that a path leads from leaf i of n to a root that was signed.
func checkPath(what string, leaf Hash, i, n int64, path []Hash, root Hash) error {
	if len(path) > maxPath {
		return overLimit("a path of %d hashes; at most %d", len(path), maxPath)
	}
	got, err := FollowPath(leaf, i, n, path)
	if err != nil {
		return err
	}
	if got != root {
		return invalid("the path of the %s leads to %s, signed is %s", what, got, root)
	}
	return nil
}
