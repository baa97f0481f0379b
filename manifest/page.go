package manifest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
)

// SealPage validates pg and signs it.
func SealPage(ctx context.Context, pg *Page, s Signer) ([]byte, error) {
	payload, err := pg.payload()
	if err != nil {
		return nil, fmt.Errorf("manifest: page: %w", err)
	}
	sealed, err := pageKind.seal(ctx, payload, []Signer{s})
	if err != nil {
		return nil, fmt.Errorf("manifest: page: %w", err)
	}
	return sealed, nil
}

func (p *Page) payload() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	payload, err := appendDocument(make([]byte, 0, (len(p.Chunks)+1)*aboutLine), p)
	if err != nil {
		return nil, invalid("%w", err)
	}
	payload = append(payload, '\n')
	for i := range p.Chunks {
		if payload, err = appendDocument(payload, &p.Chunks[i]); err != nil {
			return nil, invalid("chunk %q: %w", clip(p.Chunks[i].Name), err)
		}
		payload = append(payload, '\n')
	}
	return payload, nil
}

// aboutLine is how long the line of a chunk with short keys is, in bytes.
const aboutLine = 350

// Lines returns the chunks of the page as they are stored, one a line without its
// newline: the leaves of the table's Merkle tree. A valid chunk has one such line.
func (p *Page) Lines() [][]byte {
	lines := make([][]byte, len(p.Chunks))
	for i := range p.Chunks {
		lines[i] = p.Chunks[i].line()
	}
	return lines
}

func (c *Chunk) line() []byte {
	line, err := appendDocument(make([]byte, 0, aboutLine), c)
	if err != nil {
		return nil // only for a chunk that is not valid
	}
	return line
}

// OpenPage returns the page in sealed: one that an exporter of p signed, that
// belongs to p's archive, and that keeps every rule.
func OpenPage(sealed []byte, p *Policy) (*Page, error) {
	pg, err := openPage(sealed, p)
	if err != nil {
		return nil, fmt.Errorf("manifest: page: %w", err)
	}
	return pg, nil
}

func openPage(sealed []byte, p *Policy) (*Page, error) {
	payload, err := p.exported(pageKind, sealed)
	if err != nil {
		return nil, err
	}
	pg, err := parsePage(payload)
	if err != nil {
		return nil, err
	}
	return pg, p.governs(pg.Archive)
}

func parsePage(payload []byte) (*Page, error) {
	body, ok := bytes.CutSuffix(payload, []byte("\n"))
	if !ok {
		return nil, invalid("the last line does not end")
	}
	p := new(Page)
	lines := lineReader{chunks: len(body) / aboutLine}
	n := 0
	for line := range bytes.SplitSeq(body, []byte("\n")) {
		n++
		if err := lines.read(p, n, line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return p, p.Validate()
}

// lineReader reads the lines of a page.
type lineReader struct {
	chunks    int    // there are about so many
	canonical []byte // the line that was read last, in its one spelling
}

// read reads line n into p: the head, or a chunk.
func (r *lineReader) read(p *Page, n int, line []byte) error {
	if len(line) > MaxLine {
		return overLimit("%d bytes; at most %d", len(line), MaxLine)
	}
	if n == 1 {
		err := r.decode(line, p)
		if err == nil {
			return nil
		}
		return cmp.Or(checkFormat(line), err)
	}
	var c Chunk
	if err := r.decode(line, &c); err != nil {
		return err
	}
	if p.Chunks == nil {
		p.Chunks = make([]Chunk, 0, r.chunks)
	}
	p.Chunks = append(p.Chunks, c)
	return nil
}

// decode is the function of that name for a line of a page, which has one spelling:
// the one encode gives it.
func (r *lineReader) decode(line []byte, v any) (err error) {
	if err := decode(line, v); err != nil {
		return invalid("%w", err)
	}
	if r.canonical, err = appendDocument(r.canonical[:0], v); err != nil {
		return invalid("%w", err)
	}
	if !bytes.Equal(r.canonical, line) {
		return invalid("not in the one spelling of such a line")
	}
	return nil
}

// Ref returns how a manifest names the page, given its sealed bytes.
func (p *Page) Ref(sealed []byte) PageRef {
	return PageRef{
		Range:  p.Range,
		SHA256: Sum(sealed),
		Size:   int64(len(sealed)),
		From:   p.From,
		To:     p.To,
		Totals: p.Totals,
	}
}

// Matches checks that the page is the one m means by ref, an entry of its table
// t. Its digest is checked where it is fetched.
func (p *Page) Matches(m *Manifest, t TableEntry, ref PageRef) error {
	if p.Archive != m.Archive || p.Snapshot != m.Snapshot || p.Table != t.Table.Name {
		return fmt.Errorf("manifest: page: %w", invalid("of table %s in snapshot %s, want %s in %s",
			p.Table, p.Snapshot, t.Table.Name, m.Snapshot))
	}
	if p.Range != ref.Range || !bytes.Equal(p.From, ref.From) || !bytes.Equal(p.To, ref.To) {
		return fmt.Errorf("manifest: page: %w", invalid("table %s: range %d from %q to %q, want %d from %q to %q",
			p.Table, p.Range, p.From, p.To, ref.Range, ref.From, ref.To))
	}
	if p.Totals != ref.Totals {
		return fmt.Errorf("manifest: page: %w", invalid("table %s: range %d: totals are %+v, the manifest has %+v",
			p.Table, p.Range, p.Totals, ref.Totals))
	}
	return nil
}
