package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// generator is a table whose keys the service completes, on its way.
type generator struct {
	x      *restorer
	t      *restored
	layout row.Layout
	column int // of the key, that is AUTO_INCREMENT

	left   int64                      // rows on lists that were come upon
	chunks int                        // that were read to their end
	read   func(manifest.Chunk) Event // what there is to tell of one
}

func (x *restorer) generator(t *restored, read func(manifest.Chunk) Event) *generator {
	key := t.signed.Table.Key
	return &generator{
		x: x, t: t, layout: row.Layout{Key: key, Columns: t.signed.Table.Columns},
		column: slices.IndexFunc(key, func(k manifest.KeyColumn) bool { return k.AutoIncrement }),
		read:   read,
	}
}

// twin is a row, signed or live, by what it has in common with its like.
type twin struct {
	keyed
	group manifest.Key  // the columns of the key before the AUTO_INCREMENT one
	tail  manifest.Key  // and after it
	like  manifest.Hash // of the row, had it the value 0 there
}

// twins yields each row of the records.
func (g *generator) twins(records iter.Seq2[arrow.RecordBatch, error]) iter.Seq2[twin, error] {
	return func(yield func(twin, error) bool) {
		alike := row.NewEncoder(g.layout)
		alike.Replace(g.column, 0)
		n := 0 // of the row in its record
		each := func(yield func(arrow.RecordBatch, error) bool) {
			for record, err := range records {
				if err == nil {
					err = alike.Reset(record)
				}
				n = 0
				if !yield(record, err) {
					return
				}
			}
		}
		var wire []byte
		for r, err := range rows(g.layout, each) {
			if err == nil {
				wire, err = alike.AppendRow(wire[:0], n)
			}
			n++
			of := twin{keyed: r, like: manifest.Sum(wire)}
			if err == nil {
				err = g.cut(&of)
			}
			if !yield(of, err) || err != nil {
				return
			}
		}
	}
}

// cut finds the parts of a key.
func (g *generator) cut(t *twin) (err error) {
	if t.group, _, err = row.CutKey(g.layout.Key, t.key, g.column); err != nil {
		return err
	}
	_, t.tail, err = row.CutKey(g.layout.Key, t.key, g.column+1)
	return err
}

// signed yields the selected rows of all chunks after a key.
func (g *generator) signed(ctx context.Context, after manifest.Key) iter.Seq2[twin, error] {
	return func(yield func(twin, error) bool) {
		for n, j := range g.t.jobs {
			if bytes.Compare(j.chunk.Last, after) > 0 {
				for r, err := range g.twins(g.x.selected(ctx, g.t, j, &g.left)) {
					if err == nil && bytes.Compare(r.key, after) <= 0 {
						continue
					}
					if !yield(r, err) || err != nil {
						return
					}
				}
			}
			if n == g.chunks { // not so where it is read once more
				g.chunks++
				g.x.progress.add(g.t.table.Name, g.read(j.chunk))
			}
		}
	}
}

// live yields the rows of the target after a key.
func (g *generator) live(ctx context.Context, after manifest.Key) iter.Seq2[twin, error] {
	scan := Scan{Table: g.t.table, Layout: g.layout, From: after, Rows: groupRows, Bytes: groupBytes}
	return func(yield func(twin, error) bool) {
		for r, err := range g.twins(records(g.x.Check.Scan(ctx, scan))) {
			if err == nil && bytes.Compare(r.key, after) <= 0 {
				continue
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// side is one of the two tables a pairing goes over.
type side struct {
	next    func() (twin, error, bool)
	head    twin // the row at hand
	ok      bool // whether there is one
	last    manifest.Key
	count   int64 // rows before the one at hand; last is the key of the last of them
	waiting waiting
}

func (s *side) advance() (err error) {
	if s.ok {
		s.last = s.head.key
		s.count++
	}
	s.head, err, s.ok = s.next()
	return err
}

// in reports whether the row at hand is in a group.
func (s *side) in(group manifest.Key) bool { return s.ok && bytes.Equal(s.head.group, group) }

// waiting holds rows of the group at hand whose likes did not come when they did.
type waiting struct {
	rows map[manifest.Hash][]twin // those alike in the order of their keys
	size int                      // bytes they take, about
}

func (t twin) size() int { return len(t.key) + len(t.row) + 128 }

func (w *waiting) add(t twin) {
	if w.rows == nil {
		w.rows = map[manifest.Hash][]twin{}
	}
	w.rows[t.like] = append(w.rows[t.like], t)
	w.size += t.size()
}

// take returns the first that is like t, which then no longer waits.
func (w *waiting) take(t twin) (found twin, ok bool) {
	alike := w.rows[t.like]
	if len(alike) == 0 {
		return twin{}, false
	}
	found = alike[0]
	w.size -= found.size()
	if w.rows[t.like] = alike[1:]; len(alike) == 1 {
		delete(w.rows, t.like)
	}
	return found, true
}

// drain returns all of them, in the order of their keys.
func (w *waiting) drain() []twin {
	var all []twin
	for _, alike := range w.rows {
		all = append(all, alike...)
	}
	slices.SortFunc(all, func(a, b twin) int { return bytes.Compare(a.key, b.key) })
	*w = waiting{}
	return all
}

// maxWaiting is how many bytes of rows may wait: what one request that was carried
// out in part leaves waiting is below 8 MiB.
const maxWaiting = 64 << 20

// errWaiting is that more do: the table has other rows than this restore writes.
var errWaiting = fmt.Errorf("more than %d MiB of rows have no like where it should be: %w", maxWaiting>>20, ErrDiffers)

// pairing finds for each row that was signed one that is live. In a group, which
// is rows alike in the columns before the AUTO_INCREMENT one, a row may wait for
// its like until the end; rows alike in all are paired in order.
type pairing struct {
	signed, live side
	group        manifest.Key
	to           pairs
}

// pairs is told what becomes of the rows of a pairing, group by group.
type pairs interface {
	pair(signed, live twin) error

	// wait is told of a signed row that may be paired later in its group.
	wait(signed twin)

	// missing is told of a signed row that has no like, extra of such a live one. No
	// live row of the group is to come when missing is called, and all that were not
	// live come in the order of their keys.
	missing(ctx context.Context, signed twin) error
	extra(live twin) error

	// even is called where no row waits, and end at the end of a group.
	even()
	end() error
}

// pairUp goes over the rows after these keys.
func (g *generator) pairUp(ctx context.Context, p *pairing, signed, live manifest.Key) error {
	var stop func()
	p.signed.next, stop = iter.Pull2(g.signed(ctx, signed))
	defer stop()
	p.live.next, stop = iter.Pull2(g.live(ctx, live))
	defer stop()
	return p.run(ctx)
}

func (p *pairing) run(ctx context.Context) error {
	err := errors.Join(p.signed.advance(), p.live.advance())
	for err == nil && (p.signed.ok || p.live.ok) {
		err = p.step(ctx)
	}
	if err != nil {
		return err
	}
	return p.turn(ctx)
}

func (p *pairing) step(ctx context.Context) error {
	signed, live := p.signed.in(p.group), p.live.in(p.group)
	switch {
	case signed && live:
		return p.both()
	case signed:
		return p.signedAlone(ctx)
	case live:
		return p.liveAlone()
	}
	return p.turn(ctx)
}

// both takes the next step where both sides have rows of the group. Rows that are
// no likes wait on both sides, so that one row more or less puts no other out of
// step.
func (p *pairing) both() error {
	s, l := &p.signed, &p.live
	if found, ok := s.waiting.take(l.head); ok {
		return p.paired(found, l.head, l)
	}
	if found, ok := l.waiting.take(s.head); ok {
		return p.paired(s.head, found, s)
	}
	if s.head.like == l.head.like {
		return p.paired(s.head, l.head, s, l)
	}
	p.to.wait(s.head)
	s.waiting.add(s.head)
	l.waiting.add(l.head)
	if s.waiting.size+l.waiting.size > maxWaiting {
		return errWaiting
	}
	return errors.Join(s.advance(), l.advance())
}

// paired tells of a pair and goes on where it came from.
func (p *pairing) paired(signed, live twin, from ...*side) error {
	if err := p.to.pair(signed, live); err != nil {
		return err
	}
	for _, s := range from {
		if err := s.advance(); err != nil {
			return err
		}
	}
	if p.signed.waiting.size+p.live.waiting.size == 0 {
		p.to.even()
	}
	return nil
}

// signedAlone takes the next step where the live rows of the group are over.
func (p *pairing) signedAlone(ctx context.Context) error {
	s := &p.signed
	if found, ok := p.live.waiting.take(s.head); ok {
		return p.paired(s.head, found, s)
	}
	for _, before := range s.waiting.drain() {
		if err := p.to.missing(ctx, before); err != nil {
			return err
		}
	}
	if err := p.to.missing(ctx, s.head); err != nil {
		return err
	}
	return s.advance()
}

// liveAlone takes the next step where the signed rows of the group are over.
func (p *pairing) liveAlone() error {
	l := &p.live
	if found, ok := p.signed.waiting.take(l.head); ok {
		return p.paired(found, l.head, l)
	}
	if err := p.to.extra(l.head); err != nil {
		return err
	}
	return l.advance()
}

// turn ends a group, and begins the next one.
func (p *pairing) turn(ctx context.Context) error {
	for _, s := range p.signed.waiting.drain() {
		if err := p.to.missing(ctx, s); err != nil {
			return err
		}
	}
	for _, l := range p.live.waiting.drain() {
		if err := p.to.extra(l); err != nil {
			return err
		}
	}
	if err := p.to.end(); err != nil {
		return err
	}
	p.group = p.signed.head.group
	if !p.signed.ok || p.live.ok && bytes.Compare(p.live.head.group, p.group) < 0 {
		p.group = p.live.head.group
	}
	return nil
}
