package local

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/cockroachdb/pebble/v2"
)

// Generated is a table whose rows are made when they are read and kept nowhere: the
// same rows each time. It takes no writes and cannot be changed or deleted. Its key is
// the INTEGER "id", from 0 to Rows-1.
type Generated struct {
	Instance, Table string
	Rows            int64
}

// ParseGenerated reads instance/table:rows, as in source/events:1000000.
func ParseGenerated(text string) (Generated, error) {
	instance, rest, named := strings.Cut(text, "/")
	table, rows, counted := strings.Cut(rest, ":")
	n, err := strconv.ParseInt(rows, 10, 64)
	if !named || !counted || instance == "" || err != nil || n < 1 {
		return Generated{}, fmt.Errorf("local: %q is not like source/events:1000000", text)
	}
	return Generated{instance, table, n}, nil
}

// generate adds the tables whose rows are generated to the catalog. Their ids are the
// highest there are.
func (s *Server) generate(tables []Generated) error {
	for i, g := range tables {
		if err := errors.Join(checkTableName(g.Table), s.checkNew(g.Instance, g.Table)); err != nil {
			return fmt.Errorf("table %s of instance %s, which is to be generated: %w", g.Table, g.Instance, err)
		}
		s.tables.put(&definition{
			ID: math.MaxUint64 - uint64(i), Instance: g.Instance, Name: g.Table, Created: s.clock(),
			Key: []keyColumn{{Name: "id", Type: typeInteger}},
			Columns: []typedColumn{
				{"amount", otsprotocol.DefinedColumnType_DCT_DOUBLE}, {"at", otsprotocol.DefinedColumnType_DCT_INTEGER},
				{"kind", otsprotocol.DefinedColumnType_DCT_STRING}, {"token", otsprotocol.DefinedColumnType_DCT_STRING},
			},
			Options: options{TimeToLive: -1, MaxVersions: 1, Deviation: 86400, AllowUpdate: true},
			virtual: g.Rows,
		})
	}
	return nil
}

// refuseGenerated refuses to change a table whose rows are generated.
func (d *definition) refuseGenerated() error {
	if d.virtual > 0 {
		return unsupported("Changing a table whose rows are generated")
	}
	return nil
}

// rowIterator goes through stored rows, as a [pebble.Iterator] does.
type rowIterator interface {
	First() bool
	Last() bool
	Next() bool
	Prev() bool
	Value() []byte // until the next step
	Close() error
}

var _ rowIterator = (*pebble.Iterator)(nil)

// rows goes through the rows of a table from low to before high.
func (d *definition) rows(db *pebble.DB, low, high position) (rowIterator, error) {
	if d.virtual > 0 {
		return newGenerator(d, low, high), nil
	}
	return db.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: high})
}

// storedRow returns the stored form of one row; pebble.ErrNotFound: there is none.
func (d *definition) storedRow(db *pebble.DB, key []byte) ([]byte, io.Closer, error) {
	if d.virtual == 0 {
		return db.Get(key)
	}
	g := newGenerator(d, key, append(bytes.Clone(key), 0))
	if !g.First() {
		return nil, nil, pebble.ErrNotFound
	}
	return g.Value(), g, nil
}

// generator goes through the rows of a generated table.
type generator struct {
	at, from, to int64 // row numbers; rows are from to before to
	key          cell
	cells        []cell
	text         [16]byte
	stored       []byte
}

func newGenerator(d *definition, low, high position) *generator {
	g := &generator{
		from: d.numberAt(low), to: d.numberAt(high),
		key: cell{name: []byte("id"), value: integerValue(0)},
	}
	for _, c := range d.Columns {
		v := bytesValue(typeString, g.text[:])
		switch c.Type {
		case otsprotocol.DefinedColumnType_DCT_INTEGER:
			v = integerValue(0)
		case otsprotocol.DefinedColumnType_DCT_DOUBLE:
			v = integerValue(0)
			v[0] = typeDouble
		}
		g.cells = append(g.cells, cell{name: []byte(c.Name), value: v, hasVersion: true})
	}
	return g
}

// numberAt returns the number of the first row that is not before a position.
func (d *definition) numberAt(p position) int64 {
	rest, ok := bytes.CutPrefix(p, rowsPrefix(d.ID))
	if !ok {
		return d.virtual // bounds before a table's rows begin are not made
	}
	var key [8]byte
	copy(key[:], rest)
	number := int64(binary.BigEndian.Uint64(key[:]) ^ 1<<63)
	if number < 0 {
		return 0
	}
	if number < d.virtual && len(rest) > len(key) {
		number++
	}
	return min(number, d.virtual)
}

func (g *generator) First() bool   { g.at = g.from; return g.make() }
func (g *generator) Last() bool    { g.at = g.to - 1; return g.make() }
func (g *generator) Next() bool    { g.at++; return g.make() }
func (g *generator) Prev() bool    { g.at--; return g.make() }
func (g *generator) Value() []byte { return g.stored }
func (g *generator) Close() error  { return nil }

// firstVersion is the version of the first row's cells, in milliseconds: the start of 2026.
const firstVersion = 1_767_225_600_000

// generatedKinds are as long as one another: all rows of a table have one size.
var generatedKinds = []string{"search", "browse", "basket", "bought"}

// make makes the row that is at, if that is one of the range.
func (g *generator) make() bool {
	if g.at < g.from || g.at >= g.to {
		return false
	}
	n := uint64(g.at)
	random := scatter(n)
	set := func(c *cell, v uint64) { binary.LittleEndian.PutUint64(c.value[1:], v) }
	set(&g.key, n)
	g.key.make()
	for i := range g.cells {
		c := &g.cells[i]
		switch string(c.name) {
		case "amount":
			set(c, math.Float64bits(float64(random%1_000_000)/100))
		case "at":
			set(c, firstVersion+n*10+random>>32%10)
		case "kind":
			c.value = append(binary.LittleEndian.AppendUint32(append(c.value[:0], typeString), 6), generatedKinds[random>>60&3]...)
		case "token":
			var digits [8]byte
			binary.BigEndian.PutUint64(digits[:], random)
			hex.Encode(c.value.bytes(), digits[:])
		}
		c.version = firstVersion + int64(n)
		c.make()
	}
	g.stored = appendStored(g.stored[:0], []cell{g.key}, g.cells, math.MaxInt64)
	return true
}

// make writes a cell anew, where it was written before.
func (c *cell) make() { c.raw, c.sum = appendCell(c.raw[:0], c.name, c.value, c.version, c.hasVersion) }

// scatter is SplitMix64: numbers next to each other give bits that look like chance.
func scatter(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// generatedPoints are the split points of a generated table. All its rows having one
// size, none needs to be looked at.
func (d *definition) generatedPoints(size int64) (points [][]byte, err error) {
	prefix := rowsPrefix(d.ID)
	g := newGenerator(d, prefix, successor(prefix))
	g.First()
	s, err := parseStored(g.stored)
	if err != nil {
		return nil, err
	}
	each := (size + int64(s.size) - 1) / int64(s.size)
	for n := each; n < d.virtual; n += each {
		g.at = n
		g.make()
		points = append(points, appendRow(appendHeader(nil), []cell{g.key}, nil))
	}
	return points, nil
}
