package tablestore

import (
	"fmt"
	"math"
	"time"

	"github.com/otsnap/otsnap/snapshot"
)

// Preset names how hard an instance is worked while nothing else limits that.
type Preset string

const (
	// Gentle leaves room for an instance that serves users meanwhile: from 1 to 4
	// requests at once each way, fewer as soon as answers take twice as long.
	Gentle Preset = "gentle"

	// Steady is the default: from 1 to 128 requests at once each way, fewer when
	// answers take several times as long, or are refused.
	Steady Preset = "steady"

	// Full takes what it can get, up to 256 requests at once each way: only being
	// refused slows it down.
	Full Preset = "full"
)

// Pace says how hard an instance is worked. Reading and writing are paced apart.
// The zero Pace is Steady without hard limits.
//
// How many requests are under way at once is found out as TCP does it, by
// additive increase and multiplicative decrease (Chiu and Jain, 1989), once in a
// round of as many answers as there were requests at once:
//
//   - one more, after a round without refusals that used all it was allowed;
//   - fewer, after a round of which a part was refused for load, in proportion to
//     that part as in DCTCP (RFC 8257), by half at most. So a service that refuses
//     everything is left alone quickly. A request refused again while others get
//     through does not count: its partition is hot, it is made again at growing
//     intervals, and the others need not wait for it;
//   - fewer, after a round most of which took well over the shortest time seen in
//     the last minute for answers of that size: TCP Vegas' sign of a queue, as in
//     Netflix's concurrency-limits. The minimum slides, because a service that has
//     become slower for good is not thereby overloaded.
type Pace struct {
	Preset Preset // empty: Steady

	// ReadUnits and WriteUnits bound the capacity units a second, as the service
	// reports them; it counts every 4 KiB begun of a row written, and of an answer
	// read. 0: no limit.
	ReadUnits, WriteUnits float64

	// Bytes bounds the bytes a second of requests with their answers, those that
	// read and those that write by themselves. 0: no limit.
	Bytes float64
}

// ParsePace returns the pace of a preset's name.
func ParsePace(preset string) (Pace, error) {
	if _, known := tempers[Preset(preset)]; !known {
		return Pace{}, fmt.Errorf("pace %q is none of gentle, steady and full", preset)
	}
	return Pace{Preset: Preset(preset)}, nil
}

// temper is how a preset answers to what it meets.
type temper struct {
	first, least, most float64 // requests at once

	refused float64 // what the refused part of a round is multiplied by to be cut off

	// A round is slow if most of it took longer than patience times the shortest
	// time, and grace beyond. 0: none is.
	patience float64
	grace    time.Duration
	slow     float64 // the part cut off after a slow round
}

// A restore keeps four workers with four requests each busy by default, so Steady
// begins above what it is asked for and slows nothing on a service that has
// nothing else to do.
var tempers = map[Preset]temper{
	Gentle: {first: 1, least: 1, most: 4, refused: 4, patience: 2, grace: 5 * time.Millisecond, slow: 0.5},
	Steady: {first: 32, least: 1, most: 128, refused: 2, patience: 4, grace: 100 * time.Millisecond, slow: 0.2},
	Full:   {first: 64, least: 1, most: 256, refused: 1},
}

// unbounded is the temper of requests that are few.
var unbounded = temper{first: math.Inf(1), least: math.Inf(1), most: math.Inf(1)}

// mostCut is the largest part of what is under way that one round cuts off.
const mostCut = 0.5

// named returns the preset, also of the zero Pace.
func (p Pace) named() Preset {
	if p.Preset == "" {
		return Steady
	}
	return p.Preset
}

func (p Pace) check() error {
	if _, err := ParsePace(string(p.named())); err != nil {
		return err
	}
	for _, limit := range []float64{p.ReadUnits, p.WriteUnits, p.Bytes} {
		if limit != 0 && !(limit >= 1 && limit <= math.MaxInt64) {
			return fmt.Errorf("a limit of %v a second is less than 1, or no number", limit)
		}
	}
	return nil
}

// unit is what one capacity unit covers, in bytes.
const unit = 4096

// Estimate says what rows of rawBytes in PlainBuffer together take under the
// limits of the pace.
func (p Pace) Estimate(rows, rawBytes int64) snapshot.Estimate {
	whole := rawBytes / unit
	begun := whole
	if rawBytes%unit > 0 {
		begun++
	}
	e := snapshot.Estimate{WriteUnits: max(rows, begun), WriteUnitsAtMost: rows + whole, ReadUnits: begun}
	e.WriteUnitsAtMost = max(e.WriteUnits, e.WriteUnitsAtMost)
	e.WriteSeconds = max(seconds(e.WriteUnits, p.WriteUnits), seconds(rawBytes, p.Bytes))
	e.ReadSeconds = max(seconds(e.ReadUnits, p.ReadUnits), seconds(rawBytes, p.Bytes))
	return e
}

// seconds is how long n takes at a rate, 0 if there is none.
func seconds(n int64, rate float64) float64 {
	if rate == 0 {
		return 0
	}
	return float64(n) / rate
}
