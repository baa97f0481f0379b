package local

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// serviceError is an error as the service answers it: a status, a code programs
// branch on and a sentence for people.
type serviceError struct {
	status  int
	code    string
	message string
}

func (e *serviceError) Error() string { return e.code + ": " + e.message }

func (e *serviceError) proto() *otsprotocol.Error {
	return &otsprotocol.Error{Code: proto.String(e.code), Message: proto.String(e.message)}
}

// asServiceError turns what is not the client's doing into the service's
// internal error.
func asServiceError(err error) *serviceError {
	var e *serviceError
	if errors.As(err, &e) {
		return e
	}
	return &serviceError{http.StatusInternalServerError, "OTSInternalServerError", "Internal server error: " + err.Error()}
}

func invalid(format string, args ...any) error {
	return &serviceError{http.StatusBadRequest, "OTSParameterInvalid", fmt.Sprintf(format, args...)}
}

// broken is what a buffer that cannot be parsed is answered with.
func broken(format string, args ...any) error { return invalid(format, args...) }

func invalidKey(format string, args ...any) error {
	return &serviceError{http.StatusBadRequest, "OTSInvalidPK", fmt.Sprintf(format, args...)}
}

// unsupported says that the service can do this and this server cannot.
func unsupported(what string) error {
	return &serviceError{http.StatusBadRequest, "OTSUnsupportOperation", what + " is not supported by tablestore-local."}
}

func authFailed(format string, args ...any) error {
	return &serviceError{http.StatusForbidden, "OTSAuthFailed", fmt.Sprintf(format, args...)}
}

func errTableNotExist() error {
	return &serviceError{http.StatusNotFound, "OTSObjectNotExist", "Requested table does not exist."}
}

func errNotReady() error {
	return &serviceError{http.StatusNotFound, "OTSTableNotReady", "The table is not ready."}
}

func errTableExists() error {
	return &serviceError{http.StatusConflict, "OTSObjectAlreadyExist", "Requested table already exists."}
}

func errIndexNotExist(name string) error {
	return &serviceError{http.StatusNotFound, "OTSObjectNotExist", fmt.Sprintf("Requested index does not exist: '%s'.", name)}
}

func errIndexExists(name string) error {
	return &serviceError{http.StatusConflict, "OTSObjectAlreadyExist", fmt.Sprintf("Requested index already exists: '%s'.", name)}
}

func errStreamNotExist() error {
	return &serviceError{http.StatusNotFound, "OTSObjectNotExist", "Requested stream does not exist."}
}

func errTrimmed() error {
	return &serviceError{http.StatusNotFound, "OTSTrimmedDataAccess", "Requested stream data is already trimmed or does not exist."}
}

func errTableQuota() error {
	return &serviceError{http.StatusForbidden, "OTSQuotaExhausted", "Number of tables exceeded the quota."}
}

func errColumnCount(table string, n int) error {
	return &serviceError{http.StatusBadRequest, "OTSOutOfColumnCountLimit",
		fmt.Sprintf("The number of attribute columns of a row of table '%s' exceeds the limit, limit count: %d, column count: %d.", table, maxFullColumns, n)}
}

func errCondition() error {
	return &serviceError{http.StatusForbidden, "OTSConditionCheckFail", "Condition check failed."}
}

func errClosed() error {
	return &serviceError{http.StatusServiceUnavailable, "OTSServerUnavailable", "The server is closed."}
}

func errTooFrequent() error {
	return &serviceError{http.StatusForbidden, "OTSTooFrequentReservedThroughputAdjustment", "Reserved throughput adjustment is too frequent."}
}
