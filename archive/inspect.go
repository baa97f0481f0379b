package archive

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/otsnap/otsnap/manifest"
)

// ErrFrozen is wrapped, with [ErrUnavailable], by errors of Get that say an
// object is in an archive tier and has to be thawed before it can be read.
var ErrFrozen = errors.New("object is in an archive tier and must be thawed first")

// Info is what a store knows of an object without reading it.
type Info struct {
	Object
	Version    string        // the store's id of the version that counts; empty: the bucket keeps none
	SHA256     manifest.Hash // which the server checked when it took the object; zero: it keeps none
	Modified   time.Time     // in UTC
	Class      string        // storage class in the store's words; empty: it does not say
	Encryption string        // server-side encryption in the store's words; empty: none
	Lock       Lock
	Frozen     bool      // has to be thawed before it can be read
	Thawing    bool      // frozen, and asked for
	ThawedTo   time.Time // when an object thawed for a while freezes again; zero: it is not
}

// Inspector is a store that tells what it knows of an object.
type Inspector interface {
	// Inspect returns what the store knows of the object called name. If there is
	// none, its error wraps [fs.ErrNotExist].
	Inspect(ctx context.Context, name string) (Info, error)
}

// Thawer is a store with tiers that cannot be read at once.
type Thawer interface {
	Inspector
	// Tiers names the speeds at which objects thaw, in the store's words, fastest
	// first.
	Tiers() []string
	// Thaw asks for a readable copy of a frozen object for a number of days, from
	// the time it is there; an empty tier is the store's usual one. It does not
	// wait. Asking again for one that is thawing is no error.
	Thaw(ctx context.Context, name string, days int, tier string) error
}

// Shadow is something laid over an object after it was put: a newer version, or
// a delete marker. The object itself is still there, and is what this package's
// stores read: in a bucket that keeps versions, an object is its oldest version.
type Shadow struct {
	Name     string
	Version  string
	Marker   bool // a delete marker
	Size     int64
	Modified time.Time
}

// Shadower is a store that keeps versions and tells what hides an object from
// readers who take the newest.
type Shadower interface {
	// Shadows yields what is laid over objects whose names begin with prefix, in
	// the byte order of names. Where the bucket keeps no versions there is
	// nothing. An error is the last element; one that wraps [errors.ErrUnsupported]
	// says that this reader cannot know.
	Shadows(ctx context.Context, prefix string) iter.Seq2[Shadow, error]
}

// Capability is something a store can do, or cannot, as far as it was found out.
type Capability struct {
	Name   string
	State  State
	Detail string // for people; empty: nothing to add
}

// State says whether a store has a capability.
type State string

// The states of a capability.
const (
	Supported State = "supported"
	Absent    State = "absent"
	Unknown   State = "unknown"
)

// Names of capabilities.
const (
	CanCreateOnly = "create-only"   // a second Put of a name is refused
	CanChecksum   = "checksums"     // the server checks and keeps SHA-256
	CanVersion    = "versioning"    // the bucket keeps versions
	CanLock       = "object lock"   // objects can be locked one by one
	CanHold       = "legal hold"    // and held
	CanBucketLock = "bucket WORM"   // the bucket retains all its objects
	CanTier       = "archive tiers" // classes that must be thawed
	CanEncrypt    = "encryption"    // server-side encryption as asked for
)

// Prober is a store that finds out what its server can do.
type Prober interface {
	// Probe tries what can be tried. name is an object that exists; a second Put
	// of it must fail. What a server claims and does not do is Absent, what
	// cannot be tried, as for lack of rights, Unknown.
	Probe(ctx context.Context, name string) ([]Capability, error)
}
