package row

// vote finds the version that most cells of a row carry, as Boyer and Moore do:
// the winner is the majority if there is one, and otherwise depends on nothing
// but the versions in their order.
type vote struct {
	winner int64
	lead   int
	cells  int
	splits int // cells that were not for the winner of that moment
}

func (v *vote) cast(version int64) {
	v.cells++
	switch {
	case v.lead == 0:
		v.winner, v.lead = version, 1
	case v.winner == version:
		v.lead++
	default:
		v.lead--
		v.splits++
	}
}

// unanimous reports whether all cells carry the winner.
func (v *vote) unanimous() bool { return v.splits == 0 }
