package tablestore

import (
	"errors"
	"net/http"
)

// outcome is what an answer says about load and cost.
type outcome struct {
	answered    bool    // by the service, with what was asked for or because of load without
	share       float64 // refused for load: 1, or of the rows of a batch
	rows        int     // refused for load, of a batch
	read, write float64 // capacity units
}

// cost is what a request takes out of the buckets of its lane.
type cost struct{ units, bytes float64 }

// averaged is over how many answers averages are.
const averaged = 8

// toward moves an average of costs by one more.
func (c cost) toward(next cost) cost {
	if c == (cost{}) {
		return next
	}
	return cost{c.units + (next.units-c.units)/averaged, c.bytes + (next.bytes-c.bytes)/averaged}
}

// isRead and isWrite name the requests that are paced, for they carry rows.
func isRead(action string) bool {
	switch action {
	case "GetRange", "GetRow", "BatchGetRow", "GetStreamRecord", "GetTimeseriesData", "ScanTimeseriesData", "QueryTimeseriesMeta":
		return true
	}
	return false
}

func isWrite(action string) bool {
	switch action {
	case "BatchWriteRow", "PutRow", "UpdateRow", "DeleteRow", "PutTimeseriesData", "UpdateTimeseriesMeta":
		return true
	}
	return false
}

// writeCost says what writing costs before it is done: of every row the units of
// its size in PlainBuffer, which is a little more than what the service counts.
func writeCost(r request) cost {
	c := cost{bytes: float64(len(r.body))}
	if r.action != "BatchWriteRow" {
		c.units = units(len(r.body))
		return c
	}
	// The request is our own and well formed.
	_ = eachMessage(r.body, 1, func(table []byte) error {
		return eachMessage(table, 2, func(row []byte) error {
			c.units += units(len(row))
			return nil
		})
	})
	return c
}

// units is how many capacity units so many bytes are, at least 1.
func units(size int) float64 { return float64(max(1, (size+unit-1)/unit)) }

// outcomeOf reads what the service said to a request. Who wants the rows of an
// answer that makes no sense finds out too, and makes an error of it.
func outcomeOf(action string, answer []byte, err error) outcome {
	var refusal *Error
	switch {
	case errors.As(err, &refusal) && refusal.throttles():
		return outcome{answered: true, share: 1}
	case err != nil:
		return outcome{}
	case action == "BatchWriteRow":
		return batchOutcome(answer)
	}
	o := outcome{answered: true}
	switch action {
	case "GetRange", "GetRow", "PutRow", "UpdateRow", "DeleteRow":
		if first, _, err := nextField(answer); err == nil && first.number == 1 {
			o.read, o.write = consumed(first.data)
		}
	}
	return o
}

func batchOutcome(answer []byte) outcome {
	o := outcome{answered: true}
	all := 0
	_ = eachMessage(answer, 1, func(table []byte) error {
		return eachMessage(table, 2, func(row []byte) error {
			all++
			result, err := parseResult(row)
			if refusal := (&Error{Status: http.StatusOK, Code: result.code, Message: result.message}); !result.ok && refusal.throttles() {
				o.rows++
			}
			o.read += result.read
			o.write += result.write
			return err
		})
	})
	if all > 0 {
		o.share = float64(o.rows) / float64(all)
	}
	return o
}

// throttles reports whether the service would not do it for there was too much
// to do: in all, for this table, or for a part of it that splits or moves.
func (e *Error) throttles() bool {
	switch e.Code {
	case "OTSServerBusy", "OTSStorageServerBusy", "OTSServerUnavailable", "OTSPartitionUnavailable", "OTSNotEnoughCapacityUnit", "OTSTimeout":
		return true
	case codeQuotaExhausted:
		return e.passes()
	}
	return e.Status == http.StatusTooManyRequests
}

// consumed reads a ConsumedCapacity. What cannot be read is 0.
func consumed(message []byte) (read, write float64) {
	_ = eachMessage(message, 1, func(units []byte) error {
		for len(units) > 0 {
			f, rest, err := nextField(units)
			if err != nil {
				return err
			}
			switch units = rest; {
			case f.number == 1 && f.wire == wireVarint:
				read += float64(max(0, int32(f.value)))
			case f.number == 2 && f.wire == wireVarint:
				write += float64(max(0, int32(f.value)))
			}
		}
		return nil
	})
	return read, write
}
