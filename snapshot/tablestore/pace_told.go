package tablestore

import (
	"time"
)

// Paced says how fast an instance was worked, and what slowed it.
type Paced struct {
	Preset Preset    `json:"preset"`
	Reads  PacedLane `json:"reads"`  // requests for rows
	Writes PacedLane `json:"writes"` // requests that put, change or remove rows

	// ReadUnits and WriteUnits are the capacity units these cost by what the
	// service said.
	ReadUnits  int64 `json:"read_units"`
	WriteUnits int64 `json:"write_units"`
}

// PacedLane is Paced for reading or for writing.
type PacedLane struct {
	Requests      int64  `json:"requests"`       // sent, each time they were
	Bytes         int64  `json:"bytes"`          // of them and their answers
	Throttled     int64  `json:"throttled"`      // requests refused for load
	RowsThrottled int64  `json:"rows_throttled"` // rows refused for load, in requests that were not
	Slowed        int64  `json:"slowed"`         // times fewer at once were allowed, because of that
	Eased         int64  `json:"eased"`          // times fewer at once were allowed, because answers took long
	AtOnce        AtOnce `json:"at_once"`
	Rate          Rate   `json:"requests_per_second"`
	Waited        Waited `json:"waited_seconds"`

	readUnits, writeUnits int64
}

// AtOnce says how many requests were under way together.
type AtOnce struct {
	Lowest  int `json:"lowest"`  // that were allowed while more were wanted
	Highest int `json:"highest"` // that were
	Now     int `json:"now"`     // that are allowed; 0: any number
}

// Rate is of requests that ended, in stretches of a second in which some were
// under way.
type Rate struct {
	Lowest  float64 `json:"lowest"`
	Highest float64 `json:"highest"`
	Last    float64 `json:"last"`
}

// Waited adds up how long requests did, in seconds; many do at once.
type Waited struct {
	Turn    float64 `json:"turn"`    // for another to end
	Units   float64 `json:"units"`   // for the hard limit of capacity units
	Bytes   float64 `json:"bytes"`   // for the hard limit of bytes
	Refused float64 `json:"refused"` // before they were made again, refused for load
}

// Paced says how the instance was worked until now.
func (in *Instance) Paced() Paced {
	p := Paced{Preset: in.preset, Reads: in.pacer.reads.sofar(), Writes: in.pacer.writes.sofar()}
	p.ReadUnits = p.Reads.readUnits + p.Writes.readUnits
	p.WriteUnits = p.Reads.writeUnits + p.Writes.writeUnits
	return p
}

// Throttled reports whether the service refused anything for load.
func (p Paced) Throttled() bool {
	return p.Reads.Throttled+p.Reads.RowsThrottled+p.Writes.Throttled+p.Writes.RowsThrottled > 0
}

// sofar returns what there is to tell.
func (l *lane) sofar() PacedLane {
	l.mu.Lock()
	defer l.mu.Unlock()
	told := l.told
	told.Rate = l.second.so(time.Now())
	told.AtOnce.Now = int(l.limit)
	if told.AtOnce.Lowest == 0 || told.AtOnce.Lowest > told.AtOnce.Highest {
		told.AtOnce.Lowest = told.AtOnce.Highest
	}
	return told
}

func (t *PacedLane) count(o outcome, size int) {
	t.Bytes += int64(size)
	t.readUnits += int64(o.read)
	t.writeUnits += int64(o.write)
	t.RowsThrottled += int64(o.rows)
	if o.answered && o.share == 1 && o.rows == 0 {
		t.Throttled++
	}
}

// rate counts in stretches of a second.
type rate struct {
	told  Rate
	since time.Time
	n     int
}

// wake begins another stretch after a while in which nothing was asked for.
func (r *rate) wake(now time.Time) {
	if now.Sub(r.since) > 2*time.Second {
		r.since, r.n = now, 0
	}
}

func (r *rate) count(now time.Time) {
	r.n++
	if now.Sub(r.since) < time.Second {
		return
	}
	r.told = r.so(now)
	r.since, r.n = now, 0
}

// so returns the rates with that of the stretch under way, if there is no other
// or it has lasted a second.
func (r *rate) so(now time.Time) Rate {
	took, told := now.Sub(r.since), r.told
	if r.n == 0 || took <= 0 || told.Last > 0 && took < time.Second {
		return told
	}
	told.Last = float64(r.n) / took.Seconds()
	if told.Lowest == 0 || told.Last < told.Lowest {
		told.Lowest = told.Last
	}
	told.Highest = max(told.Highest, told.Last)
	return told
}
