package sample

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

const wideCount = 250_000

// wide is a table for measurements, made up: 12 attributes of every type, some
// of few values and some of noise, a fifth of the cells absent. A fifth of the
// rows were updated once, in one to three cells.
func wide() set {
	meta := &tablestore.TableMeta{TableName: Wide}
	meta.AddPrimaryKeyColumn("user", tablestore.PrimaryKeyType_STRING)
	meta.AddPrimaryKeyColumn("time", tablestore.PrimaryKeyType_INTEGER)
	return set{meta: meta, versions: 1, rows: wideRows(time.Now().Add(-time.Hour).UnixMilli())}
}

func wideRows(began int64) iter.Seq2[*tablestore.PutRowChange, error] {
	return func(yield func(*tablestore.PutRowChange, error) bool) {
		rnd := rand.New(rand.NewPCG(5, 6))
		for i := range int64(wideCount) {
			if !yield(wideRow(rnd, i, began+i/100), nil) {
				return
			}
		}
	}
}

func wideRow(rnd *rand.Rand, i, written int64) *tablestore.PutRowChange {
	const epoch = 1_763_000_000_000
	when := epoch + 17*i + rnd.Int64N(17)
	r := put(Wide)
	r.PrimaryKey.AddPrimaryKeyColumn("user", fmt.Sprintf("user#%08d", i/10))
	r.PrimaryKey.AddPrimaryKeyColumn("time", when)
	updates := 0
	if rnd.IntN(5) == 0 {
		updates = 1 + rnd.IntN(3)
	}
	cells := wideCells(rnd, i, when)
	updated := written + 1 + rnd.Int64N(1_000_000)
	for j, c := range cells {
		version := written
		if rnd.IntN(len(cells)-j) < updates {
			version, updates = updated, updates-1
		}
		if rnd.IntN(5) > 0 {
			r.AddColumnWithTimestamp(c.name, c.value, version)
		}
	}
	return r
}

type wideCell struct {
	name  string
	value any
}

func wideCells(rnd *rand.Rand, i, when int64) []wideCell {
	noise := make([]byte, 32)
	for j := range noise {
		noise[j] = byte(rnd.Uint32())
	}
	return []wideCell{
		{"blob", noise},
		{"country", []string{"US", "CN", "DE", "FR", "BR", "IN", "JP", "NG"}[rnd.IntN(8)]},
		{"device", fmt.Sprintf("device-%03d", rnd.IntN(200))},
		{"flag", rnd.IntN(2) == 0},
		{"price", float64(rnd.IntN(100_000)) / 100},
		{"qty", rnd.Int64N(100)},
		{"request_id", fmt.Sprintf("%016x%016x", rnd.Uint64(), rnd.Uint64())},
		{"rnd", rnd.Int64()},
		{"score", rnd.NormFloat64()},
		{"status", []string{"ok", "ok", "ok", "failed", "pending"}[rnd.IntN(5)]},
		{"updated_at", when + rnd.Int64N(1000)},
		{"url", fmt.Sprintf("https://example.com/items/%d?session=%08x", i%100_000, rnd.Uint32())},
	}
}
