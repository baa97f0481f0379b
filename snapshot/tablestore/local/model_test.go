package local

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

// model is a table as a map says it: rows by key, columns by name, values by
// version.
type model map[string]map[string]map[int64]string

func (m model) show() (rows []string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		text := fmt.Sprintf("[%s 0]", k)
		for _, name := range slices.Sorted(maps.Keys(m[k])) {
			versions := slices.SortedFunc(maps.Keys(m[k][name]), func(a, b int64) int { return cmp.Compare(b, a) })
			for _, v := range versions {
				text += fmt.Sprintf(" %s@%d=%s", name, v, m[k][name][v])
			}
		}
		rows = append(rows, text)
	}
	return rows
}

func (m model) set(k, name string, version int64, value string) {
	if m[k] == nil {
		m[k] = map[string]map[int64]string{}
	}
	if m[k][name] == nil {
		m[k][name] = map[int64]string{}
	}
	m[k][name][version] = value
}

// TestRandomChangesAgreeWithAModel makes changes at random, with a restart now
// and then, and compares the whole table.
func TestRandomChangesAgreeWithAModel(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	pick := func(values string) string { i := dice.IntN(len(values)); return values[i : i+1] }
	dir, want := t.TempDir(), model{}
	for round := range 3 {
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			_, c := serve(t, Options{Dir: dir})
			if round == 0 {
				must[*tablestore.CreateTableResponse](t)(c.CreateTable(tableOf("t")))
			}
			for range 150 {
				k := pick("abcdefgh")
				switch dice.IntN(6) {
				case 0:
					if err := remove(c, key(k, 0)); err != nil {
						t.Fatal(err)
					}
					delete(want, k)
				case 1:
					delete(want, k)
					var cols []col
					for i := range 1 + dice.IntN(4) {
						cell := col{pick("xyz"), fmt.Sprint(i), 1 + dice.Int64N(5)}
						cols = append(cols, cell)
						want.set(k, cell.name, cell.version, fmt.Sprint(i))
					}
					if err := put(c, key(k, 0), cols...); err != nil {
						t.Fatal(err)
					}
				default:
					err := update(c, key(k, 0), func(ch *tablestore.UpdateRowChange) {
						for range 1 + dice.IntN(3) {
							want.change(ch, k, pick("xyz"), dice)
						}
					})
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			wantRows(t, scanAll(t, c, everything()), want.show()...)
		})
	}
}

// change adds one random change of a column to an update, and makes it.
func (m model) change(ch *tablestore.UpdateRowChange, k, name string, dice *rand.Rand) {
	version := 1 + dice.Int64N(5)
	switch dice.IntN(4) {
	case 0:
		ch.DeleteColumn(name)
		delete(m[k], name)
	case 1:
		ch.DeleteColumnWithTimestamp(name, version)
		delete(m[k][name], version)
	default:
		value := fmt.Sprint(dice.IntN(100))
		ch.PutColumnWithTimestamp(name, value, version)
		m.set(k, name, version, value)
	}
}
