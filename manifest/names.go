package manifest

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// PolicyName returns the name of a policy's object.
func PolicyName(version int64) string { return fmt.Sprintf("policy/%08d.dsse.json", version) }

// ParsePolicyName returns the number in a name that [PolicyName] made, and false for
// any other.
func ParsePolicyName(name string) (version int64, ok bool) {
	return parseNumbered(name, "policy/", PolicyName)
}

// StoreFolder is the folder of [StoreName].
const StoreFolder = "store"

// StoreName is the name of the object with the report of the store that the
// archive with that id was made in. Attempts to make an archive each have an id of
// their own, and so do not meet here.
func StoreName(archive Hash) string { return StoreFolder + "/" + archive.String() + ".dsse.json" }

// RestoreFolder returns the folder of the state of restores, of what and into what
// the digest says. Nothing signed names what is in it.
func RestoreFolder(of Hash) string { return "restores/" + of.String()[:32] + "/" }

const (
	manifestPrefix = "manifests/"
	manifestSuffix = ".dsse.json"
)

// ManifestName returns the name of the object of the manifest with number seq.
func ManifestName(seq int64) string {
	return fmt.Sprintf("%s%08d%s", manifestPrefix, seq, manifestSuffix)
}

// ParseManifestName returns the number in a name that [ManifestName] made, and
// false for any other.
func ParseManifestName(name string) (seq int64, ok bool) {
	return parseNumbered(name, manifestPrefix, ManifestName)
}

const timestampSuffix = ".tsr"

// TimestampName returns the name of the object of the nth time stamp, from 1, over
// the manifest with number seq.
func TimestampName(seq, n int64) string {
	return fmt.Sprintf("%s%d%s", TimestampsOf(seq), n, timestampSuffix)
}

// TimestampsOf is how the names of all time stamps over a manifest begin.
func TimestampsOf(seq int64) string { return fmt.Sprintf("%s/%08d-", TimestampFolder, seq) }

// ParseTimestampName returns the numbers in a name that [TimestampName] made, n up to
// MaxTries, and false for any other.
func ParseTimestampName(name string) (seq, n int64, ok bool) {
	return parseTwice(name, TimestampFolder+"/", timestampSuffix, TimestampName)
}

// parseNumbered returns the number in a name that make makes of one.
func parseNumbered(name, prefix string, make func(int64) string) (n int64, ok bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	digits, ok = strings.CutSuffix(digits, manifestSuffix)
	if !ok {
		return 0, false
	}
	n, err := parseNumber(digits, MaxSeq)
	if err != nil || n < 1 || make(n) != name {
		return 0, false
	}
	return n, true
}

// The folders of what is said about manifests after they were made.
const (
	HeadFolder         = "heads"
	TimestampFolder    = "timestamps"
	NotarizationFolder = "notarizations"
	ReceiptFolder      = "receipts"
)

// ReceiptName returns the name of the object of the receipt with that number in the
// archive's chain of receipts.
func ReceiptName(number int64) string {
	return fmt.Sprintf("%s/%08d%s", ReceiptFolder, number, manifestSuffix)
}

// ParseReceiptName returns the number in a name that [ReceiptName] made, and false for
// any other.
func ParseReceiptName(name string) (number int64, ok bool) {
	return parseNumbered(name, ReceiptFolder+"/", ReceiptName)
}

// NotarizationName returns the name of the object of a notarization of manifest seq:
// the nth attempt, from 1, since anybody may have put something else under a name.
func NotarizationName(seq, n int64) string {
	return fmt.Sprintf("%s%d%s", NotarizationsOf(seq), n, manifestSuffix)
}

// NotarizationsOf is how the names of all notarizations of a manifest begin.
func NotarizationsOf(seq int64) string { return fmt.Sprintf("%s/%08d-", NotarizationFolder, seq) }

// ParseNotarizationName returns the numbers in a name that [NotarizationName] made, and
// false for any other.
func ParseNotarizationName(name string) (seq, n int64, ok bool) {
	return parseTwice(name, NotarizationFolder+"/", manifestSuffix, NotarizationName)
}

// HeadPrefix returns what the names of all heads of an archive begin with, in the place
// where they are kept: another archive, or a folder of nothing but heads.
func HeadPrefix(archive Hash) string { return HeadFolder + "/" + archive.String() + "/" }

// HeadName returns the name of the object of the head of an archive at manifest seq:
// the nth attempt, from 1.
func HeadName(archive Hash, seq, n int64) string {
	return fmt.Sprintf("%s%08d-%d%s", HeadPrefix(archive), seq, n, manifestSuffix)
}

// ParseHeadName returns the numbers in a name that [HeadName] made for the archive, and
// false for any other.
func ParseHeadName(archive Hash, name string) (seq, n int64, ok bool) {
	return parseTwice(name, HeadPrefix(archive), manifestSuffix, func(seq, n int64) string { return HeadName(archive, seq, n) })
}

// parseTwice returns the two numbers in a name that make makes of them, the second at
// most MaxTries.
func parseTwice(name, prefix, suffix string, make func(seq, n int64) string) (seq, n int64, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, 0, false
	}
	if rest, ok = strings.CutSuffix(rest, suffix); !ok {
		return 0, 0, false
	}
	first, second, _ := strings.Cut(rest, "-")
	seq, err := parseNumber(first, MaxSeq)
	if err != nil || seq < 1 {
		return 0, 0, false
	}
	n, err = parseNumber(second, MaxTries)
	if err != nil || n < 1 || make(seq, n) != name {
		return 0, 0, false
	}
	return seq, n, true
}

func snapshotPrefix(snapshot string) string { return "snapshots/" + snapshot + "/" }

// PlanName returns the name of the object of a snapshot's plan.
func PlanName(snapshot string) string { return snapshotPrefix(snapshot) + "plan.dsse.json" }

// PageName returns the name of the object of the page of a table's range.
func PageName(snapshot, table string, rng int64) string {
	return fmt.Sprintf("%s%s/r%04d.dsse.json", snapshotPrefix(snapshot), table, rng)
}

// ChunkName returns the last part of the name of a chunk's object: chunk index of
// range rng. Attempt is 0, or counts how often the range was begun again while
// objects of an earlier attempt could not be removed.
func ChunkName(rng, attempt, index int64) string {
	if attempt == 0 {
		return fmt.Sprintf("r%04d-%06d.parquet", rng, index)
	}
	return fmt.Sprintf("r%04d.%d-%06d.parquet", rng, attempt, index)
}

// ParseChunkName returns the numbers in a name that [ChunkName] made.
func ParseChunkName(name string) (rng, attempt, index int64, err error) {
	rng, attempt, index, ok := parseChunkName(name)
	if !ok {
		return 0, 0, 0, invalid("chunk name %q", clip(name))
	}
	return rng, attempt, index, nil
}

func parseChunkName(name string) (rng, attempt, index int64, ok bool) {
	var err error
	rest, ok := strings.CutPrefix(name, "r")
	if !ok {
		return 0, 0, 0, false
	}
	if rest, ok = strings.CutSuffix(rest, ".parquet"); !ok {
		return 0, 0, 0, false
	}
	first, last, ok := strings.Cut(rest, "-")
	if !ok {
		return 0, 0, 0, false
	}
	if r, a, ok := strings.Cut(first, "."); ok {
		first = r
		if attempt, err = parseNumber(a, MaxAttempts-1); err != nil {
			return 0, 0, 0, false
		}
	}
	if rng, err = parseNumber(first, MaxRanges-1); err != nil {
		return 0, 0, 0, false
	}
	if index, err = parseNumber(last, MaxRangeChunks-1); err != nil {
		return 0, 0, 0, false
	}
	if ChunkName(rng, attempt, index) != name {
		return 0, 0, 0, false
	}
	return rng, attempt, index, true
}

// parseNumber reads decimal digits, at most 8 of them.
func parseNumber(digits string, most int64) (int64, error) {
	if len(digits) == 0 || len(digits) > 8 {
		return 0, invalid("number %q", clip(digits))
	}
	var n int64
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0, invalid("number %q", digits)
		}
		n = 10*n + int64(c-'0')
	}
	if n > most {
		return 0, overLimit("number %d; at most %d", n, most)
	}
	return n, nil
}

// ChunkObject returns the object of a chunk of a table.
func ChunkObject(snapshot, table string, c Chunk) Object {
	return Object{Name: snapshotPrefix(snapshot) + table + "/" + c.Name, Size: c.Size, SHA256: c.SHA256}
}

// PageObject returns the object of a page of one of m's tables.
func (m *Manifest) PageObject(t TableEntry, ref PageRef) Object {
	return Object{Name: PageName(m.Snapshot, t.Table.Name, ref.Range), Size: ref.Size, SHA256: ref.SHA256}
}

// PlanObject returns the object of the plan m was made after.
func (m *Manifest) PlanObject() Object {
	return Object{Name: PlanName(m.Snapshot), Size: -1, SHA256: m.Plan}
}

const snapshotTime = "20060102T150405Z"

// NewSnapshotID returns a name for a snapshot begun now. The first 4 bytes of
// random keep two that begin in the same second apart.
func NewSnapshotID(now time.Time, random []byte) string {
	var suffix [4]byte
	copy(suffix[:], random)
	return now.UTC().Format(snapshotTime) + "-" + hex.EncodeToString(suffix[:])
}

// CheckSnapshotID refuses what [NewSnapshotID] does not make.
func CheckSnapshotID(id string) error {
	moment, suffix, ok := strings.Cut(id, "-")
	t, err := time.Parse(snapshotTime, moment)
	raw, hexErr := parseHex([]byte(suffix))
	if !ok || err != nil || t.Format(snapshotTime) != moment || hexErr != nil || len(raw) != 4 {
		return invalid("snapshot %q is not named like 20261122T160501Z-1f7a9c04", clip(id))
	}
	return nil
}

// CheckTableName refuses names the service does not take for a table: letters,
// digits and underscores, 1 to 255 of them, not a digit first. Such a name is
// safe as a part of an object's name.
func CheckTableName(name string) error { return checkIdentifier("table name", name) }

func checkIdentifier(what, name string) error {
	if len(name) == 0 || len(name) > MaxName {
		return invalid("%s %q has %d bytes, want 1 to %d", what, clip(name), len(name), MaxName)
	}
	for i, c := range []byte(name) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return invalid("%s %q; letters, digits and underscores, not a digit first", what, clip(name))
		}
	}
	return nil
}

// checkLabel refuses names that are not plain and short: of keys and of files at
// the top of an archive.
func checkLabel(what, name string) error {
	if len(name) == 0 || len(name) > MaxLabel {
		return invalid("%s %q has %d bytes, want 1 to %d", what, clip(name), len(name), MaxLabel)
	}
	for i, c := range []byte(name) {
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !plain && (i == 0 || !strings.ContainsRune("._-@", rune(c))) {
			return invalid("%s %q; letters, digits, and . _ - @ after the first", what, clip(name))
		}
	}
	return nil
}
