package manifest

// Format is the version of the format this package writes, and the newest it
// reads.
const Format = 1

// Limits on what is read and written. A reader refuses what is over them with
// [ErrLimit] before it does any work in proportion, and a writer refuses to make
// it. None of them limits the size of a table.
const (
	// MaxManifest, MaxPage, MaxPlan, MaxPolicy, MaxStore and MaxReceipt are sizes of sealed
	// documents in bytes. A page in a manifest costs about 900, a chunk in a page 600.
	MaxManifest = 8 << 20
	MaxPage     = 8 << 20
	MaxPlan     = 8 << 20
	MaxPolicy   = 256 << 10 // 16 keys of ML-DSA-65 take 60 KB, and as many signatures 72 KB
	MaxStore    = 256 << 10
	MaxReceipt  = 16 << 20

	// MaxHead and MaxNotarization are likewise.
	MaxHead         = 64 << 10
	MaxNotarization = 64 << 10

	// MaxAnchors is the number of anchors in a receipt.
	MaxAnchors = 64

	// MaxTries is how many objects are looked at, and written past, where one is to be
	// numbered on: what is no good among them does not count, but is not read for ever.
	MaxTries = 64

	// MaxLine is the longest line of a page in bytes: two keys of MaxKey bytes in
	// hex, and room.
	MaxLine = 64 << 10

	// MaxTrust is the longest trust file in bytes.
	MaxTrust = 64 << 10

	// MaxSignatures is the number of signatures in an envelope, and MaxKeys that
	// of keys in a policy.
	MaxSignatures = 16
	MaxKeys       = 16

	// MaxPolicies is the number of versions of an archive's policy.
	MaxPolicies = 1000

	// MaxFiles is the number of fixed files in a policy.
	MaxFiles = 16

	// MaxTimestamp is the size of a time stamp in bytes.
	MaxTimestamp = 64 << 10

	// MaxCapabilities is the number of capabilities in a report of a store, and
	// MaxLabel the length in bytes of the name of one, of a key or of a file.
	MaxCapabilities = 64
	MaxLabel        = 64

	// MaxRetainYears and MaxRetainDays bound how long snapshots are retained by
	// default: 100 years, counted either way.
	MaxRetainYears = 100
	MaxRetainDays  = 36_500

	// MaxSeq is the newest manifest an archive can have: its name has 8 digits.
	MaxSeq = 99_999_999

	// MaxTables is the number of tables in a snapshot.
	MaxTables = 1024

	// MaxRanges is the number of ranges of a table, MaxAttempts how often one can
	// be begun again, and MaxRangeChunks the number of chunks in one: their names
	// have 4, 4 and 6 digits.
	MaxRanges      = 10_000
	MaxAttempts    = 10_000
	MaxRangeChunks = 1_000_000

	// MaxChunks is the number of chunks in a snapshot.
	MaxChunks = 10_000_000

	// MaxChunkSize is the size of a chunk as stored in bytes, which every object
	// store takes in one request.
	MaxChunkSize = 5_000_000_000

	// MaxChunkRaw is the size of a chunk's rows in PlainBuffer in bytes, and
	// MaxChunkRows their number. They bound the memory a reader needs.
	MaxChunkRaw  = 4 << 30
	MaxChunkRows = 5_000_000

	// MaxKeyColumns is the number of primary key columns, the service's limit.
	MaxKeyColumns = 4

	// MaxKey is the length of a key in bytes: four columns of 1 KiB, the service's
	// limit, every byte escaped, and a terminator of two bytes each.
	MaxKey = MaxKeyColumns * (2*1024 + 2)

	// MaxColumns is the number of columns of a table.
	MaxColumns = 4096

	// MaxName is the length of a table's or a column's name in bytes, the
	// service's limit.
	MaxName = 255

	// MaxText is the length of any other text for people in bytes.
	MaxText = 4096

	// MaxCell is the size of a cell's value in bytes, the service's limit.
	MaxCell = 2 << 20
)

// maxInteger is the largest integer every JSON reader keeps to the unit.
const maxInteger = 1<<53 - 1
