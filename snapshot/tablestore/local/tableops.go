package local

import (
	"slices"
	"time"
)

// admitTableOp refuses an operation that changes tables when it follows too many
// others, see [Options.TableOps].
func (s *Server) admitTableOp(instance string) error {
	if s.ops == 0 {
		return nil
	}
	now := s.clock()
	recent := slices.DeleteFunc(s.recent[instance], func(at time.Time) bool { return now.Sub(at) >= time.Second })
	refused := len(recent) >= s.ops
	if !refused {
		recent = append(recent, now)
	}
	s.recent[instance] = recent
	if refused {
		return Fault{Kind: FaultTooFrequent}.refusal()
	}
	return nil
}
