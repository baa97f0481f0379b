package archive

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrLocked is wrapped by errors of a store that refuses to remove or change an
// object because it is retained.
var ErrLocked = errors.New("object is locked")

// Mode is how firmly an object is locked.
type Mode string

// The modes, weakest first.
const (
	Unlocked   Mode = ""
	Governance Mode = "governance" // those with a special right can lift it
	Compliance Mode = "compliance" // nobody can lift it before its date
)

// ParseMode returns the mode of that name: governance or compliance.
func ParseMode(name string) (Mode, error) {
	switch mode := Mode(strings.ToLower(name)); mode {
	case Governance, Compliance:
		return mode, nil
	}
	return Unlocked, fmt.Errorf("archive: no lock mode %q; there are governance and compliance", name)
}

// Covers reports whether m is as firm as o.
func (m Mode) Covers(o Mode) bool {
	return m == o || o == Unlocked || m == Compliance
}

func (m Mode) String() string {
	if m == Unlocked {
		return "none"
	}
	return string(m)
}

// Lock is what keeps an object from being changed or removed.
type Lock struct {
	Mode  Mode
	Until time.Time // of Mode, in UTC; zero where that is Unlocked
	Hold  bool      // a legal hold, which has no end until it is taken off
}

// Covers reports whether l retains an object as firmly and as long as o asks.
// Services keep seconds, so parts of one do not count.
func (l Lock) Covers(o Lock) bool {
	if o.Hold && !l.Hold {
		return false
	}
	return o.Mode == Unlocked || l.Mode.Covers(o.Mode) && l.Until.Unix() >= o.Until.Unix()
}

// Locker is a store that can keep objects from being changed or removed.
//
// Errors that say the store or its bucket cannot do what is asked wrap
// [errors.ErrUnsupported]; it was not done.
type Locker interface {
	Inspector
	// DefaultLock is what the bucket does to every object put without a lock: its
	// mode, and for how long from then on. A bucket without one is Unlocked.
	DefaultLock(ctx context.Context) (Mode, Period, error)
	// Lock makes sure that the object called name is locked as firmly and as long
	// as mode and date of lock say, and at least as it is now: a lock is never
	// shortened or weakened.
	Lock(ctx context.Context, name string, lock Lock) error
	// Hold puts a legal hold on the object called name, or takes it off.
	Hold(ctx context.Context, name string, on bool) error
}

// BucketLocker is a store whose bucket can retain every object in it for a number
// of days after it was last modified (Alibaba OSS: bucket WORM).
type BucketLocker interface {
	// BucketLock returns the state. A bucket that never had one has the zero value.
	BucketLock(ctx context.Context) (BucketLock, error)
	// StartBucketLock begins one. It is void a day later unless it was completed,
	// and until then can be aborted.
	StartBucketLock(ctx context.Context, days int) (BucketLock, error)
	// CompleteBucketLock makes it final: it can only be extended from then on.
	CompleteBucketLock(ctx context.Context) error
	AbortBucketLock(ctx context.Context) error
	ExtendBucketLock(ctx context.Context, days int) error
}

// BucketLock is the retention policy of a bucket.
type BucketLock struct {
	ID       string
	State    BucketLockState
	Days     int       // after an object's last modification
	Created  time.Time // in UTC
	Deadline time.Time // of one that is open: when it becomes void
	Expired  bool      // open, and past the deadline
}

// BucketLockState is how far a bucket's lock has come.
type BucketLockState string

// The states of a bucket's lock.
const (
	BucketUnlocked BucketLockState = ""
	BucketOpen     BucketLockState = "in progress" // protects, but can be aborted, and is void after a day
	BucketLocked   BucketLockState = "locked"
)

// Period is a length of time as people and laws count it.
type Period struct {
	Years, Days int
}

// maxYears is longer than any law asks for and short enough for every service;
// S3 takes 100 years, OSS 70.
const maxYears = 100

var periodForm = regexp.MustCompile(`^(?:([0-9]{1,3})y)?(?:([0-9]{1,5})d)?$`)

// ParsePeriod reads years and days such as 7y, 90d or 1y30d, up to 100 years.
func ParsePeriod(text string) (Period, error) {
	parts := periodForm.FindStringSubmatch(text)
	if parts == nil || text == "" {
		return Period{}, fmt.Errorf("archive: %q is no period; write years and days, as in 7y or 90d", text)
	}
	years, _ := strconv.Atoi("0" + parts[1])
	days, _ := strconv.Atoi("0" + parts[2])
	p := Period{Years: years, Days: days}
	if p.IsZero() || years > maxYears || days > maxYears*365 {
		return Period{}, fmt.Errorf("archive: period %q: at least a day and at most %d years", text, maxYears)
	}
	return p, nil
}

// IsZero reports whether p is no time at all.
func (p Period) IsZero() bool { return p == Period{} }

// After returns the moment p after t.
func (p Period) After(t time.Time) time.Time { return t.AddDate(p.Years, 0, p.Days) }

func (p Period) String() string {
	switch {
	case p.Years != 0 && p.Days != 0:
		return fmt.Sprintf("%dy%dd", p.Years, p.Days)
	case p.Years != 0:
		return fmt.Sprintf("%dy", p.Years)
	}
	return fmt.Sprintf("%dd", p.Days)
}
