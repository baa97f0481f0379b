package tablestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// errOrder says that values of an AUTO_INCREMENT column do not ascend.
var errOrder = errors.New("the service gave it a key that is not after that of the row before")

// generator is a Write whose keys the service chooses. It sends one request at a
// time, has the keys returned and looks at their order, because the service
// documents that values ascend but not in what order it takes the rows of one
// request.
type generator struct {
	*writer
	column int // of the key, whose values are chosen
	trial  *trial

	most, limit int          // rows of the next request, and of any
	last        manifest.Key // that was chosen
}

// made is a row the service made.
type made struct {
	key   manifest.Key
	value int64 // that was chosen
}

// generate writes the record row after row. What it counts is always the rows at
// the record's head.
func (w *writer) generate(ctx context.Context) error {
	g := &generator{
		writer: w,
		column: slices.IndexFunc(w.write.Table.Key, func(c manifest.KeyColumn) bool { return c.AutoIncrement }),
		trial:  w.in.newTrial("BatchWriteRow", w.table),
		most:   maxRows,
		limit:  maxRows,
	}
	if g.column < 0 {
		return fmt.Errorf("table %s has no AUTO_INCREMENT column", w.table)
	}
	if err := g.encoder.Reset(g.write.Record); err != nil {
		return fmt.Errorf("table %s: %w", w.table, err)
	}
	g.encoder.Generate(g.column)
	rows := int(g.write.Record.NumRows())
	for i := range rows {
		if err := g.checkOrder(i); err != nil {
			return err
		}
	}
	for next := 0; next < rows; {
		n, err := g.step(ctx, next)
		g.acknowledged.Add(int64(n))
		next += n
		if err != nil {
			return err
		}
	}
	return nil
}

// step makes some of the rows from one on, and waits if the next try is not yet
// worth it. It returns how many it made.
func (g *generator) step(ctx context.Context, from int) (int, error) {
	p, err := g.collect(from)
	if err != nil {
		return 0, err
	}
	if len(p.rows) == 0 {
		return g.wide(ctx, from)
	}
	rows, err := g.attempt(ctx, p)
	if len(rows) > 0 {
		g.trial.progressed()
	}
	g.most = min(2*g.most, g.limit)
	if err == nil {
		return len(rows), nil
	}
	// The fewer rows a request has, the fewer have to be taken back next time.
	g.most = max(1, len(p.rows)/2)
	if errors.Is(err, errOrder) && len(p.rows) > 1 {
		g.most, g.limit = 1, 1
		return len(rows), nil
	}
	return len(rows), g.again(ctx, err)
}

// again waits after an attempt that made less than it should have, unless what it
// did is not known.
func (g *generator) again(ctx context.Context, err error) error {
	if errors.Is(err, snapshot.ErrUnsure) {
		return err
	}
	return g.trial.again(ctx, err)
}

// collect makes a request of the rows from one on, with none if that is too large
// for a request of its own.
func (g *generator) collect(from int) (*parcel, error) {
	p := newParcel(g.table, ignoreExistence+returnKey, maxRows, 0)
	for i := from; i < int(g.write.Record.NumRows()) && len(p.rows) < g.most; i++ {
		whole, err := g.encode(i)
		if err != nil {
			return nil, fmt.Errorf("table %s: row %s: %w", g.table, g.format(i), err)
		}
		if !whole || !p.fits(g.scratch) {
			break
		}
		p.add(otsprotocol.OperationType_PUT, g.scratch, i)
	}
	return p, nil
}

// attempt sends a request once and returns the rows at its head that were made.
// Those made behind one that was not, which would have smaller values than that,
// it deletes again.
func (g *generator) attempt(ctx context.Context, p *parcel) (rows []made, err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p.trial = g.trial
	results, err := g.exchange(ctx, p)
	if err != nil {
		return nil, g.judge(p.rows, err)
	}
	var astray []manifest.Key
	for i, result := range results {
		m, fault := g.read(result)
		switch {
		case fault != nil && err == nil:
			err = g.judge(p.rows[i:i+1], fault)
		case fault != nil && mayBeDone(fault):
			return rows, g.judge(p.rows[i:i+1], fault)
		case fault != nil:
		case err != nil:
			astray = append(astray, m.key)
		case bytes.Equal(m.key, g.last):
			return rows, g.naming(p.rows[i:i+1], fmt.Errorf("%w: %w", snapshot.ErrUnsure, errOrder))
		case bytes.Compare(m.key, g.last) < 0:
			astray, err = append(astray, m.key), g.naming(p.rows[i:i+1], errOrder)
		default:
			rows, g.last = append(rows, m), m.key
		}
	}
	return rows, g.takeBack(ctx, p, astray, err)
}

// judge says which rows an error is about, and whether they may have been made.
func (g *generator) judge(rows []int, err error) error {
	if mayBeDone(err) {
		err = fmt.Errorf("%w: %w", snapshot.ErrUnsure, err)
	}
	return g.naming(rows, err)
}

// takeBack deletes rows that were made too early, because of err.
func (g *generator) takeBack(ctx context.Context, p *parcel, keys []manifest.Key, err error) error {
	if len(keys) == 0 || errors.Is(err, snapshot.ErrUnsure) {
		return err
	}
	if failed := g.in.delete(ctx, g.write.Table, keys); failed != nil {
		return g.naming(p.rows, fmt.Errorf("%w: %w; what it made could not be deleted again: %w", snapshot.ErrUnsure, err, failed))
	}
	return err
}

// read finds the key of a row that was made.
func (g *generator) read(result rowResult) (made, error) {
	if !result.ok {
		return made{}, g.refusal(result)
	}
	key, err := row.ParseKey(g.write.Table.Key, result.row)
	if err != nil {
		return made{}, fmt.Errorf("the key that was chosen: %w", err)
	}
	values, err := row.Parse(result.row[len(row.AppendHeader(nil)):])
	if err != nil || len(values.Key) != len(g.write.Table.Key) {
		return made{}, fmt.Errorf("the key that was chosen is not whole: %w", errUnreadable)
	}
	return made{key: key, value: values.Key[g.column].Integer()}, nil
}

// wide makes a row too large for a request of its own: it is put with its first
// cells, and the row of the key that was chosen is updated with the others. If
// they cannot be added it is deleted again.
func (g *generator) wide(ctx context.Context, i int) (int, error) {
	p, next, err := g.part(otsprotocol.OperationType_PUT, ignoreExistence+returnKey, i, 0)
	if err != nil {
		return 0, err
	}
	rows, err := g.attempt(ctx, p)
	if err != nil {
		return 0, g.again(ctx, err)
	}
	g.trial.progressed()
	if err := g.widen(ctx, i, next, rows[0].value); err != nil {
		return 0, g.takeBack(ctx, p, []manifest.Key{rows[0].key}, err)
	}
	return 1, nil
}

// widen adds the cells from one on to row i, which is under the chosen value.
// That may be tried again: it changes nothing when done twice.
func (g *generator) widen(ctx context.Context, i, next int, value int64) error {
	g.encoder.Replace(g.column, value)
	defer g.encoder.Generate(g.column)
	for next < g.encoder.Cells(i) {
		p, after, err := g.part(otsprotocol.OperationType_UPDATE, expectExistence, i, next)
		if err != nil {
			return err
		}
		if _, err := g.deliver(ctx, p); err != nil {
			return err
		}
		next = after
	}
	return nil
}
