package sample

import (
	"iter"
	"math"
	"strings"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

// oddities is what the service allows and few tables have, one kind a row.
func oddities() set {
	meta := &tablestore.TableMeta{TableName: Oddities}
	meta.AddPrimaryKeyColumn("bin", tablestore.PrimaryKeyType_BINARY)
	meta.AddPrimaryKeyColumn("num", tablestore.PrimaryKeyType_INTEGER)
	return set{meta: meta, versions: 5, rows: oddRows(time.Now().UnixMilli())}
}

// odd is a row of oddities under construction.
type odd struct{ *tablestore.PutRowChange }

func newOdd(bin string, num int64) odd {
	r := put(Oddities)
	r.PrimaryKey.AddPrimaryKeyColumn("bin", []byte(bin))
	r.PrimaryKey.AddPrimaryKeyColumn("num", num)
	return odd{r}
}

func (o odd) with(name string, value any) odd {
	o.AddColumn(name, value)
	return o
}

func (o odd) at(version int64, name string, value any) odd {
	o.AddColumnWithTimestamp(name, value, version)
	return o
}

func oddRows(now int64) iter.Seq2[*tablestore.PutRowChange, error] {
	all := []odd{
		newOdd("\x00", math.MinInt64).with("is", "the first key of all"),
		newOdd("\x00", math.MaxInt64).with("is", "the last number under a zero byte"),
		newOdd("\x00\x00", 0).with("is", "a key of zero bytes"),
		newOdd("\x00\xff", 0).with("is", "a key that looks like an escape"),
		newOdd("\x00\xff\x00", -1).with("is", "one more"),
		newOdd("bare", 0),
		newOdd("bytes", 0).with("data", []byte("\x00\x01\x00\xfe\xff\x00")).with("none", []byte{}),
		newOdd("case", 0).with("Name", "Ada").with("name", "Grace").with("NAME", int64(3)),
		newOdd("empty", 0).with("text", "").with("zero", int64(0)).with("no", false),
		newOdd("floats", 0).with("nzero", math.Copysign(0, -1)).with("huge", math.MaxFloat64).
			with("tiny", math.SmallestNonzeroFloat64).with("third", 1.0/3),
		newOdd("integers", 0).with("low", int64(math.MinInt64)).with("high", int64(math.MaxInt64)),
		newOdd("long", 0).with("text", strings.Repeat("so long, ", 10_000)),
		newOdd("names", 0).with("__ts", int64(1)).with("__more", "mine").with("_", true),
		newOdd("scripts", 0).with("text", "Ünïcödé, 中文, العربية, 🧭, \u202eright to left, \x1b[31mred"),
		newOdd("types", 1).with("value", int64(42)),
		newOdd("types", 2).with("value", "forty-two"),
		newOdd("types", 3).with("value", 42.0),
		newOdd("types", 4).with("value", true),
		newOdd("types", 5).with("value", []byte("42")),
		newOdd("versions", 1).at(now-3000, "price", 1.0).at(now-2000, "price", 2.0).at(now-1000, "price", 3.0).
			at(now-1000, "currency", "EUR"),
		newOdd("versions", 2).at(now-3000, "price", int64(1)).at(now-2000, "price", "two").at(now-1000, "price", 3.0),
		newOdd("versions", 3).at(now-5000, "old", "alone").at(now-1000, "new", "alone"),
		newOdd("\xff\xff", math.MaxInt64).with("is", "the last key of all"),
	}
	return func(yield func(*tablestore.PutRowChange, error) bool) {
		for _, o := range all {
			if !yield(o.PutRowChange, nil) {
				return
			}
		}
	}
}
