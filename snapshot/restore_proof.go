package snapshot

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/otsnap/otsnap/manifest"
)

// compareGenerated proves that every row signed is live once, and no other, and
// tells KeyMap which key became which, in the order of the old ones. A row that
// stands so far from its like that the keys in between take more than 64 MiB is
// told of when that is found.
func (x *restorer) compareGenerated(ctx context.Context, t *restored) error {
	p := x.proof(t)
	err := p.pairUp(ctx, p.pairing, nil, nil)
	if errors.Is(err, errWaiting) {
		err = errors.Join(err, p.pairing.turn(ctx)) // which names the first of them
	}
	if err != nil && !errors.Is(err, ErrDiffers) {
		return inTable(t.table, err)
	}
	r, found := t.report, &p.found
	r.Compared = true
	if found.Suppressed != nil {
		found.Suppressed.Rows = p.left
	}
	found.Rows, found.Counted = p.pairing.signed.count, p.pairing.live.count
	r.Rows, r.Counted, r.Missing, r.Extra, r.Changed = found.Rows, found.Counted, found.Missing, found.Extra, found.Changed
	found.suppressedOf(t.signed, x.Rows)
	r.Differences, r.Suppressed = append(r.Differences, found.Differences...), found.Suppressed
	if len(t.jobs) == 0 {
		x.progress.add(t.table.Name, Event{Done: 1})
	}
	if err != nil {
		return inTable(t.table, err)
	}
	return p.names.judge(t.table.Name, found)
}

// proof compares, and puts the keys in order.
type proof struct {
	*generator
	pairing        *pairing
	found          TableReport
	names          *comparer // that names what differs
	missed, others []twin    // of the group at hand: one more than are named, at most
	keys           keyOrder
}

func (x *restorer) proof(t *restored) *proof {
	g := x.generator(t, func(c manifest.Chunk) Event { return Event{Done: 1, Rows: c.Rows, RawBytes: c.RawBytes} })
	p := &proof{generator: g, names: x.comparer()}
	p.found.Suppressed = x.Suppress.report(t.signed.Table.Name)
	p.names.suppress = nil // it would know rows by keys that are chosen anew
	p.pairing = &pairing{to: p}
	p.keys.tell = func(was, is manifest.Key) error { return nil }
	if x.KeyMap != nil {
		p.keys.tell = func(was, is manifest.Key) error { return x.KeyMap(t.table, was, is) }
	}
	return p
}

func (p *proof) pair(signed, live twin) error { return p.keys.pair(signed.key, live.key) }

func (p *proof) wait(signed twin) { p.keys.wait(signed.key) }

func (p *proof) even() {}

func (p *proof) missing(_ context.Context, s twin) error {
	if len(p.missed) > p.names.limit {
		p.found.Missing++
	} else {
		p.missed = append(p.missed, s)
	}
	return p.keys.drop(s.key)
}

func (p *proof) extra(l twin) error {
	if p.listed(l) {
		return nil
	}
	if len(p.others) > p.names.limit {
		p.found.Extra++
	} else {
		p.others = append(p.others, l)
	}
	return nil
}

// end notes what differs in a group. A missing row and an extra one are one row
// that was changed, if they are the only ones with their other key columns.
func (p *proof) end() error {
	few := len(p.missed) <= p.names.limit && len(p.others) <= p.names.limit
	for _, s := range p.missed {
		difference := pair{order: -1, signed: s.keyed}
		if i := only(p.others, s.tail); few && i >= 0 && only(p.missed, s.tail) >= 0 {
			difference = pair{signed: s.keyed, live: p.others[i].keyed}
			p.others = slices.Delete(p.others, i, i+1)
		}
		if err := p.note(difference); err != nil {
			return err
		}
	}
	for _, l := range p.others {
		if err := p.note(pair{order: 1, live: l.keyed}); err != nil {
			return err
		}
	}
	p.missed, p.others = nil, nil
	return nil
}

// listed counts an extra row whose columns before the one the service has chosen are
// those of a row that must not come back. It is not named.
func (p *proof) listed(l twin) bool {
	without := p.x.rowsOf(p.t).Without
	if !without.Meets(l.group) {
		return false
	}
	p.found.Extra++
	if without.Has(l.group) { // and not just rows beside it
		p.found.Suppressed.Live++
	}
	return true
}

func (p *proof) note(d pair) error {
	return p.names.note(job{table: &p.t.signed, layout: &p.layout}, &p.found, d)
}

// only returns the place of the one row with that tail; -1: there is not one.
func only(list []twin, tail manifest.Key) int {
	found := -1
	for i, t := range list {
		if !bytes.Equal(t.tail, tail) {
			continue
		}
		if found >= 0 {
			return -1
		}
		found = i
	}
	return found
}

// keyOrder tells of pairs of keys in the order of the old ones, in which those come
// that wait or are paired at once.
type keyOrder struct {
	tell  func(was, is manifest.Key) error
	queue []newKey // from the first that waits on
	size  int
}

type newKey struct {
	was, is manifest.Key
	known   bool // or that there is none
}

func (k newKey) size() int { return len(k.was) + len(k.is) + 64 }

func (o *keyOrder) add(k newKey) {
	o.queue = append(o.queue, k)
	o.size += k.size()
}

func (o *keyOrder) wait(was manifest.Key) { o.add(newKey{was: was}) }

// find returns the place of a key in the queue, or where it would be.
func (o *keyOrder) find(was manifest.Key) (int, bool) {
	return slices.BinarySearchFunc(o.queue, was, func(k newKey, was manifest.Key) int { return bytes.Compare(k.was, was) })
}

func (o *keyOrder) pair(was, is manifest.Key) error {
	i, waits := o.find(was)
	switch {
	case waits:
		o.queue[i].is, o.queue[i].known = is, true
		o.size += len(is)
	case i == 0: // none waits, or it was too long ago
		return o.tell(was, is)
	default:
		o.add(newKey{was, is, true})
	}
	return o.advance()
}

// drop says that a key has become none.
func (o *keyOrder) drop(was manifest.Key) error {
	if i, waits := o.find(was); waits {
		o.queue[i].known = true
	}
	return o.advance()
}

// advance tells what is known, and no longer waits for what is too far off.
func (o *keyOrder) advance() error {
	for len(o.queue) > 0 && (o.queue[0].known || o.size > maxWaiting) {
		first := o.queue[0]
		o.queue = o.queue[1:]
		o.size -= first.size()
		if first.is == nil {
			continue
		}
		if err := o.tell(first.was, first.is); err != nil {
			return err
		}
	}
	return nil
}
