package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Hash is a SHA-256 digest. In JSON and on paper it is 64 lower-case hex digits.
type Hash [sha256.Size]byte

// Sum returns the SHA-256 of data.
func Sum(data []byte) Hash { return sha256.Sum256(data) }

// IsZero reports whether h is the hash of nothing: how an absent digest is written.
func (h Hash) IsZero() bool { return h == Hash{} }

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes h as 64 lower-case hex digits.
func (h Hash) MarshalText() ([]byte, error) { return h.AppendText(nil) }

// AppendText is MarshalText behind what text holds.
func (h Hash) AppendText(text []byte) ([]byte, error) { return hex.AppendEncode(text, h[:]), nil }

// UnmarshalText accepts 64 lower-case hex digits and nothing else, so a digest
// has one spelling.
func (h *Hash) UnmarshalText(text []byte) error {
	if err := checkHex(text); err != nil {
		return err
	}
	if len(text) != 2*len(h) {
		return fmt.Errorf("digest has %d hex digits, want %d", len(text), 2*len(h))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// Key is a primary key, or a bound between keys, as opaque order-preserving
// bytes: bytes.Compare of two keys is their order in the table. The empty key
// is the start of the table as a lower bound and its end as an upper one. A key
// that stops after some of its columns sorts before every key it begins, and
// stands for "from the smallest such key on". In JSON it is lower-case hex.
// Package row makes and reads them.
type Key []byte

func (k Key) String() string { return hex.EncodeToString(k) }

// MarshalText writes k as lower-case hex.
func (k Key) MarshalText() ([]byte, error) { return k.AppendText(nil) }

// AppendText is MarshalText behind what text holds.
func (k Key) AppendText(text []byte) ([]byte, error) { return hex.AppendEncode(text, k), nil }

// UnmarshalText accepts an even number of lower-case hex digits.
func (k *Key) UnmarshalText(text []byte) error {
	raw, err := parseHex(text)
	if err != nil {
		return err
	}
	*k = nil
	if len(raw) > 0 {
		*k = raw
	}
	return nil
}

func checkHex(text []byte) error {
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("%q is not lower-case hex", text)
		}
	}
	return nil
}

func parseHex(text []byte) ([]byte, error) {
	if err := checkHex(text); err != nil {
		return nil, err
	}
	raw := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(raw, text); err != nil {
		return nil, err
	}
	return raw, nil
}

// timeLayout is the one spelling of a [Time].
const timeLayout = "2006-01-02T15:04:05Z"

// Time is a moment in UTC, to the second. In JSON it is RFC 3339 with a Z.
type Time struct{ time.Time }

// At returns the second t falls into.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Second)} }

func (t Time) String() string { return t.UTC().Format(timeLayout) }

// MarshalText writes t as 2006-01-02T15:04:05Z.
func (t Time) MarshalText() ([]byte, error) { return t.AppendText(nil) }

// AppendText is MarshalText behind what text holds.
func (t Time) AppendText(text []byte) ([]byte, error) {
	return t.UTC().AppendFormat(text, timeLayout), nil
}

// UnmarshalText accepts 2006-01-02T15:04:05Z and no other spelling.
func (t *Time) UnmarshalText(text []byte) error {
	parsed, err := time.Parse(timeLayout, string(text))
	if err != nil || parsed.Format(timeLayout) != string(text) {
		return fmt.Errorf("%q is not a time like %s", text, timeLayout)
	}
	t.Time = parsed.UTC()
	return nil
}

// MarshalJSON writes t as a string. It hides the method of [time.Time], whose
// spelling differs.
func (t Time) MarshalJSON() ([]byte, error) { return []byte(`"` + t.String() + `"`), nil }

// UnmarshalJSON accepts a string as UnmarshalText does.
func (t *Time) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	return t.UnmarshalText([]byte(s))
}

// Type is the type of a value, in the words Tablestore uses.
type Type string

// The types of values. A primary key column is INTEGER, STRING or BINARY.
const (
	Integer Type = "INTEGER" // signed 64 bits
	String  Type = "STRING"  // UTF-8, at most 2 MiB, in a primary key 1 KiB
	Binary  Type = "BINARY"  // bytes, the same limits
	Double  Type = "DOUBLE"  // IEEE 754, 64 bits
	Boolean Type = "BOOLEAN"
)

// Column is a name and a type.
type Column struct {
	Name string `json:"name"`
	Type Type   `json:"type"`
}

// KeyColumn is one column of a primary key. AutoIncrement says that the service
// chose its values.
type KeyColumn struct {
	Name          string `json:"name"`
	Type          Type   `json:"type"`
	AutoIncrement bool   `json:"auto_increment"`
}

// Options are the settings of a table that change what its cells mean.
type Options struct {
	TTL           int64 `json:"ttl"`             // seconds a cell lives; -1: for ever
	MaxVersions   int64 `json:"max_versions"`    // versions of a cell kept; -1: all
	Deviation     int64 `json:"deviation"`       // seconds a written version may differ from the service's clock
	AllowUpdate   bool  `json:"allow_update"`    // whether UpdateRow is allowed
	UpdateFullRow bool  `json:"update_full_row"` // whether an update reads its row and writes all of it; cells then have no versions of one's own
}

// Throughput is what a table reserves, in capacity units a second.
type Throughput struct {
	Read  int64 `json:"read"`
	Write int64 `json:"write"`
}

// Stream is the setting of a table's change stream.
type Stream struct {
	Enabled bool     `json:"enabled"`
	Hours   int64    `json:"hours"`   // how long records are kept; 0 when not enabled
	Columns []string `json:"columns"` // original columns carried in every record
}

// Encryption is the server-side encryption of a table or an archive.
type Encryption struct {
	Enabled bool   `json:"enabled"`
	KeyType string `json:"key_type"`
	KeyID   string `json:"key_id"`
	RoleARN string `json:"role_arn"`
}

// Index is a secondary index of a table.
type Index struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"` // GLOBAL or LOCAL
	Key     []string `json:"key"`
	Columns []string `json:"columns"`
}

// SearchIndex is a search index of a table: its name and its schema, in the
// JSON of the service's own SDK.
type SearchIndex struct {
	Name   string `json:"name"`
	Schema string `json:"schema"`
	TTL    int64  `json:"ttl,omitzero"` // seconds a row lives in it; 0 or -1: for ever
}

// Table describes a table: all that is needed to make it again, empty, and the
// columns its chunks have.
type Table struct {
	Name          string        `json:"name"`
	Key           []KeyColumn   `json:"key"`
	Defined       []Column      `json:"defined"` // predefined attribute columns
	Columns       []Column      `json:"columns"` // attributes that have a column of their own in the chunks, by name
	Options       Options       `json:"options"`
	Throughput    Throughput    `json:"throughput"`
	Stream        Stream        `json:"stream"`
	Encryption    Encryption    `json:"encryption"`
	Indexes       []Index       `json:"indexes"`
	SearchIndexes []SearchIndex `json:"search_indexes"`
	// NotCaptured names every property the export saw and could not keep.
	NotCaptured []string `json:"not_captured"`
	// Timeseries is set for a part of a table of the timeseries model.
	Timeseries Timeseries `json:"timeseries,omitzero"`
}

// Range is a part of a table's key space: From inclusive, To exclusive. The
// empty From is the start of the table, the empty To its end. The ranges of a
// table lie side by side from start to end.
type Range struct {
	From Key `json:"from"`
	To   Key `json:"to"`
}

// Instance is where a table lives. It never carries a credential.
type Instance struct {
	Endpoint string `json:"endpoint"`
	Name     string `json:"name"`
}

// Chunk is one line of a page: one Parquet object with a run of rows of one
// table in primary-key order.
type Chunk struct {
	Name      string `json:"name"`   // last part of the object's name, see [ChunkName]
	SHA256    Hash   `json:"sha256"` // of the object
	Size      int64  `json:"size"`   // of the object, bytes
	Rows      int64  `json:"rows"`
	Cells     int64  `json:"cells"`      // attribute cells, every version counted
	RawBytes  int64  `json:"raw_bytes"`  // of the rows in PlainBuffer
	RowDigest Hash   `json:"row_digest"` // RFC 6962 tree over the rows in PlainBuffer
	First     Key    `json:"first"`
	Last      Key    `json:"last"`
}

// Totals returns what c adds to the totals of its page.
func (c Chunk) Totals() Totals {
	return Totals{Chunks: 1, Rows: c.Rows, Cells: c.Cells, RawBytes: c.RawBytes, StoredBytes: c.Size}
}

// Totals add up chunks.
type Totals struct {
	Chunks      int64 `json:"chunks"`
	Rows        int64 `json:"rows"`
	Cells       int64 `json:"cells"`
	RawBytes    int64 `json:"raw_bytes"`
	StoredBytes int64 `json:"stored_bytes"`
}

// Add adds o to t.
func (t *Totals) Add(o Totals) {
	t.Chunks += o.Chunks
	t.Rows += o.Rows
	t.Cells += o.Cells
	t.RawBytes += o.RawBytes
	t.StoredBytes += o.StoredBytes
}

// Page lists the chunks of one range in key order. It is signed by the exporter
// so that a resumed export can trust it, and named by digest in the manifest.
type Page struct {
	Format   int64  `json:"format"`
	Archive  Hash   `json:"archive"`
	Snapshot string `json:"snapshot"`
	Table    string `json:"table"`
	Range    int64  `json:"range"` // number of the range, from 0
	From     Key    `json:"from"`
	To       Key    `json:"to"`
	Totals   Totals `json:"totals"`
	// Chunks follow the header as lines of their own; see FORMAT.md.
	Chunks []Chunk `json:"-"`
}

// PageRef names one page in a manifest.
type PageRef struct {
	Range  int64  `json:"range"`
	SHA256 Hash   `json:"sha256"` // of the page's object
	Size   int64  `json:"size"`
	From   Key    `json:"from"`
	To     Key    `json:"to"`
	Totals Totals `json:"totals"`
}

// TableEntry is a table in a manifest: its description and its rows.
type TableEntry struct {
	Table  Table     `json:"table"`
	Pages  []PageRef `json:"pages"` // by range, from 0 without a gap
	Totals Totals    `json:"totals"`
	// Root is the RFC 6962 tree hash over the chunk lines of all pages in order;
	// Totals.Chunks is its size, and the two are signed together.
	Root Hash `json:"root"`
}

// Plan is what an export set out to do. It is signed, because a resumed export
// works from it.
type Plan struct {
	Format     int64       `json:"format"`
	Archive    Hash        `json:"archive"`
	Snapshot   string      `json:"snapshot"`
	Tool       string      `json:"tool"`
	Instance   Instance    `json:"instance"`
	Started    Time        `json:"started"`
	ChunkBytes int64       `json:"chunk_bytes"` // a chunk ends with the row group that makes it reach this, in PlainBuffer bytes
	GroupBytes int64       `json:"group_bytes"` // a row group ends with the row that makes it reach this
	GroupRows  int64       `json:"group_rows"`
	Tables     []PlanTable `json:"tables"`
	// Retention is what the snapshot's objects are put with; the zero value: they
	// are left to the store. A resumed export keeps what the first run asked.
	Retention Retention `json:"retention,omitzero"`
}

// PlanTable is a table of a plan and the ranges it is cut into.
type PlanTable struct {
	Table  Table   `json:"table"`
	Ranges []Range `json:"ranges"`
}

// Consistency says what moment a snapshot shows. Kind "window": every row is as
// it was at some moment between the manifest's Started and Finished.
type Consistency struct {
	Kind      string   `json:"kind"`
	Positions []string `json:"positions"` // stream positions; none for "window"
}

// The modes of retention.
const (
	NoRetention = "none"
	Governance  = "governance" // those with a special right can lift it
	Compliance  = "compliance" // nobody can lift it before its date
)

// Retention is what was asked of the store for the snapshot's objects.
type Retention struct {
	Mode  string `json:"mode"`  // [NoRetention], [Governance] or [Compliance]
	Until string `json:"until"` // RFC 3339, empty for "none"
}

// Store says what the storage of an archive could do when the archive was made
// there, and how long its snapshots are to be retained. It is signed by as many
// keys as a manifest, and there is at most one in an archive.
type Store struct {
	Format       int64          `json:"format"`
	Archive      Hash           `json:"archive"`
	Created      Time           `json:"created"`
	Kind         string         `json:"kind"` // dir, s3, oss and the like
	Capabilities []Capability   `json:"capabilities"`
	Retention    StoreRetention `json:"retention"`
}

// Capability is something the storage can do, or cannot, as far as was found out.
type Capability struct {
	Name   string `json:"name"`
	State  string `json:"state"`  // "supported", "absent" or "unknown"
	Detail string `json:"detail"` // for people
}

// StoreRetention is how firmly, and how long from the start of its export on, a
// snapshot of the archive is retained where no more is asked.
type StoreRetention struct {
	Mode  string `json:"mode"` // as in a [Retention]
	Years int64  `json:"years"`
	Days  int64  `json:"days"` // added to the years
}

// Manifest is the signed statement of a snapshot. Only [Open] makes one out of
// stored bytes.
type Manifest struct {
	Format      int64        `json:"format"`
	Archive     Hash         `json:"archive"` // digest of the archive's first policy
	Seq         int64        `json:"seq"`     // from 1, without a gap
	Prev        Hash         `json:"prev"`    // of the object of manifest Seq-1; zero for the first
	Policy      Hash         `json:"policy"`  // of the payload of the policy in force
	Snapshot    string       `json:"snapshot"`
	Tool        string       `json:"tool"`  // name and version
	Build       string       `json:"build"` // go version and revision
	Instance    Instance     `json:"instance"`
	Started     Time         `json:"started"`
	Finished    Time         `json:"finished"`
	Consistency Consistency  `json:"consistency"`
	Plan        Hash         `json:"plan"` // of the plan's object
	Tables      []TableEntry `json:"tables"`
	Totals      Totals       `json:"totals"`
	Retention   Retention    `json:"retention"`
	Encryption  Encryption   `json:"encryption"`
	Parent      string       `json:"parent"` // snapshot this one builds on; empty: it stands alone
}

// Object names one stored object and says what it must be.
type Object struct {
	Name   string
	Size   int64 // bytes; -1 where only the digest is signed
	SHA256 Hash
}
