package tablestore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/otsnap/otsnap/snapshot"
)

// ErrCredentials is wrapped by errors that say the access key is unknown,
// disabled, wrong, expired or not allowed to do this. Such errors are also
// [snapshot.ErrUnavailable].
var ErrCredentials = errors.New("credentials refused")

// Codes the service answers with, as far as something here depends on them.
const (
	codeAuthFailed       = "OTSAuthFailed"
	codeConditionFailed  = "OTSConditionCheckFail"
	codeNoPermission     = "OTSNoPermissionAccess"
	codeObjectNotExist   = "OTSObjectNotExist"
	codeObjectExists     = "OTSObjectAlreadyExist"
	codeParameterInvalid = "OTSParameterInvalid"
	codeQuotaExhausted   = "OTSQuotaExhausted"
	codeTableNotReady    = "OTSTableNotReady"
	codeUnsupported      = "OTSUnsupportOperation"
)

// passing are the codes that go away by themselves. The SDK holds some of them
// for final where an action is not idempotent; every action here is, because
// rows are put with their versions. Where the service chooses their keys see
// mayBeDone.
var passing = map[string]bool{
	"OTSServerBusy":                              true,
	"OTSServerUnavailable":                       true,
	"OTSPartitionUnavailable":                    true, // a partition splits or moves
	"OTSTimeout":                                 true,
	"OTSInternalServerError":                     true,
	"OTSStorageServerBusy":                       true,
	"OTSRequestTimeout":                          true,
	"OTSRowOperationConflict":                    true,
	"OTSNotEnoughCapacityUnit":                   true,
	codeTableNotReady:                            true, // up to a minute after CreateTable
	"OTSTooFrequentReservedThroughputAdjustment": true, // once in two minutes
}

// Error is what the service answered instead of doing what it was asked.
type Error struct {
	Action    string // of the API, such as GetRange
	Table     string // empty where the action has none
	Status    int    // of HTTP; 200 for one row of a batch
	Code      string // such as OTSServerBusy; empty if the answer was not the service's
	Message   string
	RequestID string // what the service's support asks for
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Action)
	if e.Table != "" {
		b.WriteString(", table " + e.Table)
	}
	b.WriteString(": ")
	if e.Code != "" {
		b.WriteString(e.Code + " ")
	}
	fmt.Fprintf(&b, "(HTTP %d", e.Status)
	if e.RequestID != "" {
		b.WriteString(", request " + printable(e.RequestID, 64))
	}
	b.WriteString(")")
	if e.Message != "" {
		b.WriteString(": " + printable(e.Message, 512))
	}
	return b.String()
}

// Is lets errors.Is find [snapshot.ErrUnavailable], [ErrCredentials],
// [fs.ErrNotExist] and [fs.ErrExist].
func (e *Error) Is(target error) bool {
	switch target {
	case snapshot.ErrUnavailable:
		return e.passes() || e.refused()
	case ErrCredentials:
		return e.refused()
	case fs.ErrNotExist:
		return e.Code == codeObjectNotExist
	case fs.ErrExist:
		return e.Code == codeObjectExists
	}
	return false
}

// refused reports whether the service knew what it was asked and would not do
// it for this key.
func (e *Error) refused() bool {
	return e.Code == codeAuthFailed || e.Code == codeNoPermission
}

// passes reports whether the same request may succeed later.
func (e *Error) passes() bool {
	if e.Code == codeQuotaExhausted {
		return strings.HasPrefix(e.Message, "Too frequent table operations")
	}
	if passing[e.Code] {
		return true
	}
	return e.Status >= 500 || e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout
}

// undone are the passing codes that say that nothing was done. Of the others, as
// of answers that got lost, nobody knows.
var undone = map[string]bool{
	"OTSServerBusy":            true,
	"OTSPartitionUnavailable":  true,
	"OTSStorageServerBusy":     true,
	"OTSRowOperationConflict":  true,
	"OTSNotEnoughCapacityUnit": true,
	codeTableNotReady:          true,
	codeQuotaExhausted:         true,
}

// mayBeDone reports whether what was asked for may have been done by the attempt
// that ended with err: not if the service refused it, and not if no connection
// was made.
func mayBeDone(err error) bool {
	if refusal := new(Error); errors.As(err, &refusal) {
		return !undone[refusal.Code] && (refusal.passes() || refusal.Code == "")
	}
	dial := new(net.OpError)
	return !errors.As(err, &dial) || dial.Op != "dial"
}

// transportError says that a question or its answer was lost or damaged on the way.
type transportError struct {
	what  string // was asked
	cause error
}

func (e *transportError) Error() string        { return e.what + ": " + e.cause.Error() }
func (e *transportError) Unwrap() error        { return e.cause }
func (e *transportError) Is(target error) bool { return target == snapshot.ErrUnavailable }

// errUnreadable marks an answer that came whole and makes no sense. It is tried
// again, but not for long: what is wrong with it rarely passes.
var errUnreadable = errors.New("the answer cannot be read")

// shortly is how long trouble is tried that usually stays: long enough for a
// name server or a proxy to recover, short enough for somebody who mistyped.
const shortly = 10 * time.Second

// patience returns how long it is worth trying again after err: 0, shortly or
// giveUpAfter.
func (in *Instance) patience(err error) time.Duration {
	var refusal *Error
	if errors.As(err, &refusal) {
		if refusal.passes() {
			return in.giveUpAfter
		}
		return 0
	}
	var lost *transportError
	if !errors.As(err, &lost) || misconfigured(err) {
		return 0
	}
	if errors.Is(err, errUnreadable) || !in.reached.Load() && unreachable(err) {
		return min(shortly, in.giveUpAfter)
	}
	return in.giveUpAfter
}

// misconfigured reports whether what answers at the endpoint is not what was
// asked for.
func misconfigured(err error) bool {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &certificate) || errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch)
}

// unreachable reports whether nothing answers at the endpoint. If something ever
// did, that passes; if not, the endpoint may be wrong.
func unreachable(err error) bool {
	var lookup *net.DNSError
	return errors.As(err, &lookup) && lookup.IsNotFound || errors.Is(err, syscall.ECONNREFUSED)
}

// printable returns at most limit bytes of s with nothing in it that moves a
// cursor or turns the direction of text.
func printable(s string, limit int) string {
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
