package manifest

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

func checkTime(what string, t Time) error {
	if year := t.UTC().Year(); year < 1970 || year > 9999 {
		return invalid("%s is in the year %d", what, year)
	}
	return nil
}

// checkPrintable refuses text for people that is too long or moves a terminal's cursor.
func checkPrintable(what, text string) error {
	if len(text) > MaxText {
		return overLimit("%s has %d bytes; at most %d", what, len(text), MaxText)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return invalid("%s %q has control characters", what, clip(text))
	}
	return nil
}

func checkPresent(what, text string) error {
	if text == "" {
		return invalid("%s is empty", what)
	}
	return checkPrintable(what, text)
}

func checkColumnName(name string) error {
	if len(name) == 0 || len(name) > MaxName {
		return invalid("column name %q has %d bytes, want 1 to %d", clip(name), len(name), MaxName)
	}
	if !utf8.ValidString(name) {
		return invalid("column name %q is not valid UTF-8", clip(name))
	}
	return nil
}

func (i Instance) validate() error {
	if err := checkPresent("instance name", i.Name); err != nil {
		return err
	}
	if err := checkPresent("endpoint", i.Endpoint); err != nil {
		return err
	}
	if strings.ContainsAny(i.Endpoint, "@?# ") {
		return invalid("an endpoint is a bare address, without user or query")
	}
	return nil
}

// Validate checks every rule a description of a table must keep.
func (t Table) Validate() error {
	if err := checkEntryName(t.Name); err != nil {
		return err
	}
	if err := t.validate(); err != nil {
		return fmt.Errorf("table %s: %w", t.Name, err)
	}
	return nil
}

func (t Table) validate() error {
	if err := checkKeyColumns(t.Key); err != nil {
		return err
	}
	taken := make(map[string]bool, len(t.Key))
	for _, k := range t.Key {
		taken[k.Name] = true
	}
	if err := checkColumns("predefined", t.Defined, taken); err != nil {
		return err
	}
	if err := checkColumns("promoted", t.Columns, taken); err != nil {
		return err
	}
	if err := t.validateChunkColumns(); err != nil {
		return err
	}
	if err := t.validateSettings(); err != nil {
		return err
	}
	if err := t.validateIndexes(); err != nil {
		return err
	}
	return t.validateTimeseries()
}

// validateChunkColumns checks the columns chunks have. SQL engines ignore the case
// of names, so no two may differ by it alone.
func (t Table) validateChunkColumns() error {
	taken := map[string]bool{"__ts": true, "__tsx": true, "__more": true}
	take := func(name string) error {
		if err := checkIdentifier("column name", name); err != nil {
			return err
		}
		folded := strings.ToLower(name)
		if taken[folded] {
			return invalid("column name %q is taken when case is ignored", name)
		}
		taken[folded] = true
		return nil
	}
	for _, k := range t.Key {
		if err := take(k.Name); err != nil {
			return err
		}
	}
	for i, c := range t.Columns {
		if err := take(c.Name); err != nil {
			return err
		}
		if i > 0 && t.Columns[i-1].Name >= c.Name {
			return invalid("promoted column %q does not sort after %q", c.Name, t.Columns[i-1].Name)
		}
	}
	return nil
}

func checkKeyColumns(key []KeyColumn) error {
	if len(key) == 0 || len(key) > MaxKeyColumns {
		return invalid("%d primary key columns, want 1 to %d", len(key), MaxKeyColumns)
	}
	seen := make(map[string]bool, len(key))
	for i, k := range key {
		if err := checkColumnName(k.Name); err != nil {
			return err
		}
		if seen[k.Name] {
			return invalid("primary key column %q is there twice", k.Name)
		}
		seen[k.Name] = true
		if k.Type != Integer && k.Type != String && k.Type != Binary {
			return invalid("primary key column %q has type %q", k.Name, clip(string(k.Type)))
		}
		if k.AutoIncrement && (i == 0 || k.Type != Integer) {
			return invalid("primary key column %q cannot be an auto-increment column", k.Name)
		}
	}
	return nil
}

func checkColumns(what string, columns []Column, taken map[string]bool) error {
	if len(columns) > MaxColumns {
		return overLimit("%d %s columns; at most %d", len(columns), what, MaxColumns)
	}
	seen := make(map[string]bool, len(columns))
	for _, c := range columns {
		if err := checkColumnName(c.Name); err != nil {
			return err
		}
		if seen[c.Name] || taken[c.Name] {
			return invalid("%s column %q is there twice", what, c.Name)
		}
		seen[c.Name] = true
		switch c.Type {
		case Integer, String, Binary, Double, Boolean:
		default:
			return invalid("%s column %q has type %q", what, c.Name, clip(string(c.Type)))
		}
	}
	return nil
}

func (t Table) validateSettings() error {
	o := t.Options
	if o.TTL < -1 || o.MaxVersions < -1 || o.Deviation < 0 {
		return invalid("options: ttl %d, max_versions %d, deviation %d", o.TTL, o.MaxVersions, o.Deviation)
	}
	if t.Throughput.Read < 0 || t.Throughput.Write < 0 {
		return invalid("throughput of %d and %d units", t.Throughput.Read, t.Throughput.Write)
	}
	if s := t.Stream; s.Hours < 0 || !s.Enabled && s.Hours != 0 {
		return invalid("stream: enabled %t with %d hours", s.Enabled, s.Hours)
	}
	for _, name := range t.Stream.Columns {
		if err := checkColumnName(name); err != nil {
			return fmt.Errorf("stream: %w", err)
		}
	}
	for _, text := range t.NotCaptured {
		if err := checkPresent("not_captured", text); err != nil {
			return err
		}
	}
	return t.Encryption.validate()
}

func (e Encryption) validate() error {
	for _, text := range []string{e.KeyType, e.KeyID, e.RoleARN} {
		if err := checkPrintable("encryption", text); err != nil {
			return err
		}
	}
	return nil
}

func (t Table) validateIndexes() error {
	seen := make(map[string]bool)
	for _, x := range t.Indexes {
		if err := x.validate(); err != nil {
			return fmt.Errorf("index %q: %w", clip(x.Name), err)
		}
		if seen[x.Name] {
			return invalid("index %q is there twice", x.Name)
		}
		seen[x.Name] = true
	}
	clear(seen)
	for _, x := range t.SearchIndexes {
		if err := checkPresent("search index name", x.Name); err != nil {
			return err
		}
		if seen[x.Name] {
			return invalid("search index %q is there twice", clip(x.Name))
		}
		if x.TTL < -1 {
			return invalid("search index %q lives %d seconds", clip(x.Name), x.TTL)
		}
		seen[x.Name] = true
	}
	return nil
}

func (x Index) validate() error {
	if err := CheckTableName(x.Name); err != nil {
		return err
	}
	if x.Type != "GLOBAL" && x.Type != "LOCAL" {
		return invalid("type %q; GLOBAL or LOCAL", clip(x.Type))
	}
	if len(x.Key) == 0 {
		return invalid("no key column")
	}
	for _, columns := range [][]string{x.Key, x.Columns} {
		for _, name := range columns {
			if err := checkColumnName(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkBounds checks that a range is one: From before To, where an empty To is
// the end of the table.
func checkBounds(from, to Key) error {
	if len(from) > MaxKey || len(to) > MaxKey {
		return overLimit("a bound of %d bytes; at most %d", max(len(from), len(to)), MaxKey)
	}
	if len(to) > 0 && bytes.Compare(from, to) >= 0 {
		return invalid("from %s is not before to %s", from, to)
	}
	return nil
}

// tiling checks ranges one after another: side by side, from the start of a table
// to its end.
type tiling struct {
	n    int
	next Key // where the next range must begin
	done bool
}

func (t *tiling) add(from, to Key) error {
	if t.n >= MaxRanges {
		return overLimit("more than %d ranges", MaxRanges)
	}
	if err := checkBounds(from, to); err != nil {
		return fmt.Errorf("range %d: %w", t.n, err)
	}
	if t.done {
		return invalid("range %d follows the end of the table", t.n)
	}
	if !bytes.Equal(from, t.next) {
		return invalid("range %d begins at %q, want %q where the one before ends", t.n, from, t.next)
	}
	t.n, t.next, t.done = t.n+1, to, len(to) == 0
	return nil
}

func (t *tiling) finish() error {
	if !t.done {
		return invalid("the ranges stop at %q, before the end of the table", t.next)
	}
	return nil
}

// validate checks that the numbers can belong together.
func (t Totals) validate() error {
	numbers := []int64{t.Chunks, t.Rows, t.Cells, t.RawBytes, t.StoredBytes}
	for _, n := range numbers {
		if n < 0 || n > maxInteger {
			return invalid("totals: %d is not a count", n)
		}
	}
	if t.Chunks > MaxChunks {
		return overLimit("%d chunks; at most %d", t.Chunks, MaxChunks)
	}
	if t.Chunks == 0 && t != (Totals{}) {
		return invalid("totals: something in no chunks")
	}
	if t.Chunks > t.Rows || t.Chunks > t.StoredBytes || t.Rows > t.RawBytes {
		return invalid("totals: %d chunks, %d rows, %d raw and %d stored bytes do not go together",
			t.Chunks, t.Rows, t.RawBytes, t.StoredBytes)
	}
	return nil
}

// plus returns the sum of two valid totals, or why there is none.
func (t Totals) plus(o Totals) (Totals, error) {
	t.Add(o)
	return t, t.validate()
}

// checkSum checks that parts, each valid, add up to want.
func checkSum(want Totals, parts int, part func(int) Totals) error {
	if err := want.validate(); err != nil {
		return err
	}
	var sum Totals
	for i := range parts {
		if err := part(i).validate(); err != nil {
			return err
		}
		var err error
		if sum, err = sum.plus(part(i)); err != nil {
			return err
		}
	}
	if sum != want {
		return invalid("totals are %+v, the parts add up to %+v", want, sum)
	}
	return nil
}

// Validate checks every rule a plan must keep.
func (pl *Plan) Validate() error {
	if err := checkFormatNumber(pl.Format); err != nil {
		return err
	}
	if pl.Archive.IsZero() {
		return invalid("archive is zero")
	}
	if err := CheckSnapshotID(pl.Snapshot); err != nil {
		return err
	}
	if err := checkPresent("tool", pl.Tool); err != nil {
		return err
	}
	if err := pl.Instance.validate(); err != nil {
		return err
	}
	if err := checkTime("started", pl.Started); err != nil {
		return err
	}
	if pl.ChunkBytes < 1 || pl.ChunkBytes > MaxChunkRaw || pl.GroupBytes < 1 || pl.GroupBytes > MaxChunkRaw ||
		pl.GroupRows < 1 || pl.GroupRows > MaxChunkRows {
		return invalid("chunk_bytes %d, group_bytes %d, group_rows %d", pl.ChunkBytes, pl.GroupBytes, pl.GroupRows)
	}
	if err := checkOrder(len(pl.Tables), func(i int) string { return pl.Tables[i].Table.Name }); err != nil {
		return err
	}
	for _, t := range pl.Tables {
		if err := t.validate(); err != nil {
			return err
		}
	}
	if pl.Retention == (Retention{}) {
		return nil
	}
	if pl.Retention.Mode == NoRetention {
		return invalid("retention none; a plan without retention leaves it out")
	}
	return pl.Retention.validate()
}

func (t PlanTable) validate() error {
	if err := t.Table.Validate(); err != nil {
		return err
	}
	var ranges tiling
	for _, r := range t.Ranges {
		if err := ranges.add(r.From, r.To); err != nil {
			return fmt.Errorf("table %s: %w", t.Table.Name, err)
		}
	}
	if err := ranges.finish(); err != nil {
		return fmt.Errorf("table %s: %w", t.Table.Name, err)
	}
	return nil
}

// checkOrder checks the tables of a document: some, not too many, by name.
func checkOrder(n int, name func(int) string) error {
	if n == 0 {
		return invalid("no tables")
	}
	if n > MaxTables {
		return overLimit("%d tables; at most %d", n, MaxTables)
	}
	for i := 1; i < n; i++ {
		if name(i-1) >= name(i) {
			return invalid("table %q does not sort after %q", clip(name(i)), clip(name(i-1)))
		}
	}
	return nil
}

// Validate checks every rule a page must keep.
func (p *Page) Validate() error {
	if err := checkFormatNumber(p.Format); err != nil {
		return err
	}
	if p.Archive.IsZero() {
		return invalid("archive is zero")
	}
	if err := CheckSnapshotID(p.Snapshot); err != nil {
		return err
	}
	if err := checkEntryName(p.Table); err != nil {
		return err
	}
	if p.Range < 0 || p.Range >= MaxRanges {
		return invalid("range %d", p.Range)
	}
	if err := checkBounds(p.From, p.To); err != nil {
		return err
	}
	for i, c := range p.Chunks {
		if err := p.validateChunk(i, c); err != nil {
			return fmt.Errorf("chunk %q: %w", clip(c.Name), err)
		}
	}
	return checkSum(p.Totals, len(p.Chunks), func(i int) Totals { return p.Chunks[i].Totals() })
}

func (p *Page) validateChunk(i int, c Chunk) error {
	rng, _, index, err := ParseChunkName(c.Name)
	if err != nil {
		return err
	}
	if rng != p.Range || index != int64(i) {
		return invalid("is chunk %d of range %d, want %d of %d", index, rng, i, p.Range)
	}
	if err := c.validate(); err != nil {
		return err
	}
	if bytes.Compare(c.First, p.From) < 0 {
		return invalid("begins at %s, before its range", c.First)
	}
	if len(p.To) > 0 && bytes.Compare(c.Last, p.To) >= 0 {
		return invalid("ends at %s, after its range", c.Last)
	}
	if i > 0 && bytes.Compare(p.Chunks[i-1].Last, c.First) >= 0 {
		return invalid("begins at %s, not after the chunk before", c.First)
	}
	return nil
}

func (c Chunk) validate() error {
	if c.SHA256.IsZero() || c.RowDigest.IsZero() {
		return invalid("a digest is zero")
	}
	if c.Size < 1 || c.Rows < 1 || c.RawBytes < c.Rows || c.Cells < 0 || c.Cells > c.RawBytes {
		return invalid("size %d, rows %d, cells %d and raw_bytes %d do not go together", c.Size, c.Rows, c.Cells, c.RawBytes)
	}
	if c.Size > MaxChunkSize || c.Rows > MaxChunkRows || c.RawBytes > MaxChunkRaw {
		return overLimit("size %d, rows %d, raw_bytes %d; at most %d, %d, %d",
			c.Size, c.Rows, c.RawBytes, int64(MaxChunkSize), MaxChunkRows, int64(MaxChunkRaw))
	}
	if len(c.First) > MaxKey || len(c.Last) > MaxKey {
		return overLimit("a key of %d bytes; at most %d", max(len(c.First), len(c.Last)), MaxKey)
	}
	order := bytes.Compare(c.First, c.Last)
	if len(c.First) == 0 || order > 0 || (order == 0) != (c.Rows == 1) {
		return invalid("%d rows from %s to %s", c.Rows, c.First, c.Last)
	}
	return nil
}

// Validate checks every rule a manifest must keep.
func (m *Manifest) Validate() error {
	if err := checkFormatNumber(m.Format); err != nil {
		return err
	}
	if err := m.validateChain(); err != nil {
		return err
	}
	if err := m.validateOrigin(); err != nil {
		return err
	}
	if err := m.validateSettings(); err != nil {
		return err
	}
	if err := checkOrder(len(m.Tables), func(i int) string { return m.Tables[i].Table.Name }); err != nil {
		return err
	}
	for _, t := range m.Tables {
		if err := t.Validate(); err != nil {
			return err
		}
	}
	return checkSum(m.Totals, len(m.Tables), func(i int) Totals { return m.Tables[i].Totals })
}

// validateChain checks a manifest's place in its archive.
func (m *Manifest) validateChain() error {
	if m.Archive.IsZero() || m.Policy.IsZero() || m.Plan.IsZero() {
		return invalid("the digest of the archive, the policy or the plan is zero")
	}
	if m.Seq < 1 || m.Seq > MaxSeq {
		return invalid("seq %d, want 1 to %d", m.Seq, MaxSeq)
	}
	if m.Prev.IsZero() != (m.Seq == 1) {
		return invalid("seq %d with prev %s; only the first manifest has none before it", m.Seq, m.Prev)
	}
	if err := CheckSnapshotID(m.Snapshot); err != nil {
		return err
	}
	if m.Parent == "" {
		return nil
	}
	if m.Parent == m.Snapshot {
		return invalid("snapshot %s is its own parent", m.Snapshot)
	}
	return CheckSnapshotID(m.Parent)
}

// validateOrigin checks who made the snapshot, of what and when.
func (m *Manifest) validateOrigin() error {
	if err := checkPresent("tool", m.Tool); err != nil {
		return err
	}
	if err := checkPrintable("build", m.Build); err != nil {
		return err
	}
	if err := m.Instance.validate(); err != nil {
		return err
	}
	if err := checkTime("started", m.Started); err != nil {
		return err
	}
	if err := checkTime("finished", m.Finished); err != nil {
		return err
	}
	if m.Finished.Before(m.Started.Time) {
		return invalid("finished %s, before it started %s", m.Finished, m.Started)
	}
	return nil
}

func (m *Manifest) validateSettings() error {
	if m.Consistency.Kind != "window" || len(m.Consistency.Positions) > 0 {
		return invalid("consistency %q with %d positions; want window with none",
			clip(m.Consistency.Kind), len(m.Consistency.Positions))
	}
	if err := m.Retention.validate(); err != nil {
		return err
	}
	return m.Encryption.validate()
}

func (r Retention) validate() error {
	switch r.Mode {
	case NoRetention:
		if r.Until != "" {
			return invalid("retention none until %q", clip(r.Until))
		}
	case Governance, Compliance:
		if _, err := time.Parse(time.RFC3339, r.Until); err != nil {
			return invalid("retention until %q is not a time", clip(r.Until))
		}
	default:
		return invalid("retention mode %q", clip(r.Mode))
	}
	return nil
}

// Validate checks every rule a manifest's entry of a table must keep.
func (t TableEntry) Validate() error {
	if err := t.Table.Validate(); err != nil {
		return err
	}
	if err := t.validate(); err != nil {
		return fmt.Errorf("table %s: %w", t.Table.Name, err)
	}
	return nil
}

func (t TableEntry) validate() error {
	var ranges tiling
	for i, ref := range t.Pages {
		if ref.Range != int64(i) {
			return invalid("page of range %d at position %d", ref.Range, i)
		}
		if err := ranges.add(ref.From, ref.To); err != nil {
			return err
		}
		if ref.SHA256.IsZero() || ref.Size < 1 {
			return invalid("page of range %d has no digest or no size", i)
		}
		if ref.Size > MaxPage {
			return overLimit("page of range %d has %d bytes; at most %d", i, ref.Size, MaxPage)
		}
	}
	if err := ranges.finish(); err != nil {
		return err
	}
	if t.Totals.Chunks == 0 && t.Root != new(Tree).Root() {
		return invalid("root %s of no chunks", t.Root)
	}
	return checkSum(t.Totals, len(t.Pages), func(i int) Totals { return t.Pages[i].Totals })
}
