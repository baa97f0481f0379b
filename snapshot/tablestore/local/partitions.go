package local

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"
)

// The bounds on what is kept of the writes to a table. A partition takes 24 bytes
// a second, so that is 4 MB.
const (
	maxPartitions  = 256
	maxLoadSeconds = 600
)

// Load is what was asked to be written within a second.
type Load struct {
	Rows    int64 // that were let through, whether or not their conditions then held
	Units   int64 // write capacity units of those
	Refused int64 // rows answered OTSServerBusy, see [Options.PartitionWrites]
}

// LoadSecond is what was asked to be written to a table within a second.
type LoadSecond struct {
	At         time.Time // when the second began
	Partitions []Load    // in the order of their keys
}

// Partition says into which partitions a table is cut, as the service cuts one by
// itself as it grows: a partition begins with each of the values of the first
// primary key column given, all int64, string or []byte and in ascending order,
// 255 at most. The table need not exist yet. One nobody cut is a single partition.
// What [Server.Writes] counted of the table is forgotten.
func (s *Server) Partition(instance, table string, at ...any) error {
	p := partitions{}
	for i, v := range at {
		bound, typ, err := partitionBound(v)
		if err != nil {
			return fmt.Errorf("local: partitions of table %s: %w", table, err)
		}
		if i > 0 && (typ != p.typ || bytes.Compare(bound, p.bounds[i-1]) <= 0) {
			return fmt.Errorf("local: partitions of table %s: %v does not follow %v: values must ascend and be of one type", table, v, at[i-1])
		}
		p.typ, p.bounds = typ, append(p.bounds, bound)
	}
	if len(at) >= maxPartitions {
		return fmt.Errorf("local: partitions of table %s: %d values, the limit is %d", table, len(at), maxPartitions-1)
	}
	s.loads.set(tableName{instance, table}, p)
	return nil
}

// partitionBound is where among encoded keys those with a first column of v begin.
func partitionBound(v any) (bound []byte, typ byte, err error) {
	switch v := v.(type) {
	case int64:
		return appendKeyValue(nil, integerValue(v)), typeInteger, nil
	case string:
		return appendKeyValue(nil, bytesValue(typeString, []byte(v))), typeString, nil
	case []byte:
		return appendKeyValue(nil, bytesValue(typeBinary, v)), typeBinary, nil
	}
	return nil, 0, fmt.Errorf("%v is a %T: want int64, string or []byte", v, v)
}

// Writes tells what was asked to be written to each partition of a table, in
// every second that saw a write, oldest first: of the last ten minutes, since the
// table was made or [Server.Partition] was called. What goes into the tables of
// indexes is not counted. Seconds are those of the server's clock: one that runs
// tenfold, [Options.Clock], shows what happens within a tenth of a second.
func (s *Server) Writes(instance, table string) []LoadSecond {
	return s.loads.of(tableName{instance, table})
}

type tableName struct{ instance, table string }

// partitions is how a table is cut. Tables whose first primary key column is of
// another type are not.
type partitions struct {
	typ    byte
	bounds [][]byte // as keys begin behind [rowsPrefix]
}

// find returns which partition a row is in, by its key in the database.
func (p *partitions) find(d *definition, key []byte) int {
	if d.Key[0].Type != p.typ {
		return 0
	}
	i, found := slices.BinarySearchFunc(p.bounds, key[rowsPrefixLen:], bytes.Compare)
	if found {
		i++
	}
	return i
}

// loads counts the writes to tables.
type loads struct {
	limit int64 // write capacity units of a partition and second; 0: none

	mu     sync.Mutex
	tables map[tableName]*tableLoad
}

type tableLoad struct {
	partitions
	seconds []loadSecond // oldest first
}

type loadSecond struct {
	unix int64
	load []Load // by partition
}

func newLoads(limit int64) *loads {
	return &loads{limit: limit, tables: map[tableName]*tableLoad{}}
}

func (l *loads) set(name tableName, p partitions) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tables[name] = &tableLoad{partitions: p}
}

// forget drops what was counted of a table, but not how it is cut.
func (l *loads) forget(name tableName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tables[name]; t != nil {
		l.tables[name] = &tableLoad{partitions: t.partitions}
	}
}

// admit counts a row about to be written. It is an error when the row's partition
// took all it takes in this second.
func (l *loads) admit(ch *change, now int64) error {
	name := tableName{ch.table.Instance, ch.table.Name}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tables[name]
	if t == nil {
		t = new(tableLoad)
		l.tables[name] = t
	}
	load := &t.second(now / 1000).load[t.find(ch.table, ch.key)]
	if l.limit > 0 && load.Units >= l.limit {
		load.Refused++
		return Fault{Kind: FaultBusy}.refusal()
	}
	load.Rows++
	load.Units += int64(units(ch.size()))
	return nil
}

// second returns the count of a second. A clock that was set back goes on in the
// newest.
func (t *tableLoad) second(unix int64) *loadSecond {
	if n := len(t.seconds); n > 0 && unix <= t.seconds[n-1].unix {
		return &t.seconds[n-1]
	}
	expired := 0
	for expired < len(t.seconds) && t.seconds[expired].unix <= unix-maxLoadSeconds {
		expired++
	}
	t.seconds = append(slices.Delete(t.seconds, 0, expired), loadSecond{unix, make([]Load, len(t.bounds)+1)})
	return &t.seconds[len(t.seconds)-1]
}

func (l *loads) of(name tableName) (seconds []LoadSecond) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tables[name]; t != nil {
		for _, s := range t.seconds {
			seconds = append(seconds, LoadSecond{time.Unix(s.unix, 0), slices.Clone(s.load)})
		}
	}
	return seconds
}
