package row

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/otsnap/otsnap/manifest"
)

// TestWholeBoundsHaveTheSameKeys cuts keys anywhere and holds the bounds made of
// whole values against all the keys there are.
func TestWholeBoundsHaveTheSameKeys(t *testing.T) {
	texts := []string{"", "\x00", "\x00\x01", "a", "a\x00", "a\x00b", "b", "\u007f", "\u0080", "é", "\u07ff", "\ud7ff", "\ue000", "\uffff", "\U0010ffff", "\U0010ffffa"}
	values := map[manifest.Type][]Value{}
	for _, s := range texts {
		values[manifest.String] = append(values[manifest.String], StringValue(s))
		values[manifest.Binary] = append(values[manifest.Binary], BinaryValue([]byte(s)), BinaryValue([]byte(s+"\xff")))
	}
	for _, n := range []int64{math.MinInt64, -256, -1, 0, 1, 255, 256, 65535, math.MaxInt64} {
		values[manifest.Integer] = append(values[manifest.Integer], IntegerValue(n))
	}
	for _, types := range [][]manifest.Type{{manifest.String}, {manifest.Integer}, {manifest.Binary}, {manifest.String, manifest.Integer}, {manifest.Integer, manifest.String}, {manifest.Binary, manifest.String}} {
		cols := make([]manifest.KeyColumn, len(types))
		keys := []manifest.Key{{}}
		for i, typ := range types {
			cols[i] = manifest.KeyColumn{Name: string(rune('a' + i)), Type: typ}
			var longer []manifest.Key
			for _, k := range keys {
				for _, v := range values[typ] {
					longer = append(longer, AppendKey(slices.Clone(k), v))
				}
			}
			keys = longer
		}
		random := rand.New(rand.NewPCG(1, 2))
		bound := func() manifest.Key {
			k := keys[random.IntN(len(keys))]
			k = slices.Clone(k[:random.IntN(len(k)+1)])
			switch random.IntN(3) {
			case 0:
				return Following(k)
			case 1:
				return append(k, byte(random.Uint32()))
			}
			return k
		}
		for range 3000 {
			r := manifest.Range{From: bound(), To: bound()}
			whole, any := Whole(cols, r)
			for _, k := range []manifest.Key{whole.From, whole.To} {
				if err := wholeValues(cols, k); any && err != nil {
					t.Fatalf("%v: bounds %x to %x become %x: %v", types, r.From, r.To, k, err)
				}
			}
			for _, k := range keys {
				in := bytes.Compare(k, r.From) >= 0 && (len(r.To) == 0 || bytes.Compare(k, r.To) < 0)
				has := any && bytes.Compare(k, whole.From) >= 0 && (len(whole.To) == 0 || bytes.Compare(k, whole.To) < 0)
				if in != has {
					t.Fatalf("%v: key %x is in %x to %x: %t; of whole values, %x to %x: %t", types, k, r.From, r.To, in, whole.From, whole.To, has)
				}
			}
		}
	}
}

// wholeValues says what of a key the service would refuse in a bound.
func wholeValues(cols []manifest.KeyColumn, k manifest.Key) error {
	if _, err := AppendBound(nil, cols, k, false); err != nil {
		return err
	}
	for i := 0; len(k) > 0; i++ {
		of, _ := kindOf(cols[i].Type)
		value, rest, err := cutKeyValue(nil, of, k)
		if err != nil {
			return err
		}
		if of == text && !utf8.Valid(value) {
			return fmt.Errorf("%q is no UTF-8", value)
		}
		k = rest
	}
	return nil
}
