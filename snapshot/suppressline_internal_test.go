package snapshot

import (
	"bytes"
	"testing"

	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

func TestEntriesOfListsAreKeys(t *testing.T) {
	columns := []manifest.KeyColumn{{Name: "s", Type: manifest.String}, {Name: "n", Type: manifest.Integer}, {Name: "b", Type: manifest.Binary}}
	for text, want := range map[string][]row.Value{
		`["US"]`:                           {row.StringValue("US")},
		"\t[ \"US\" ,\r7 ] ":               {row.StringValue("US"), row.IntegerValue(7)},
		`["",-9223372036854775808,"hex:"]`: {row.StringValue(""), row.IntegerValue(-1 << 63), row.BinaryValue(nil)},
		`["Ber*",0,"hex:00ff"]`:            {row.StringValue("Ber*"), row.IntegerValue(0), row.BinaryValue([]byte{0, 255})},
		`["a]\",[",1,"base64:AP8="]`:       {row.StringValue(`a]",[`), row.IntegerValue(1), row.BinaryValue([]byte{0, 255})},
		`["a",1,{"b64":"AP8="}]`:           {row.StringValue("a"), row.IntegerValue(1), row.BinaryValue([]byte{0, 255})},
		`["a",1, { "b64" : "AP8=" } ]`:     {row.StringValue("a"), row.IntegerValue(1), row.BinaryValue([]byte{0, 255})},
		`["a",1,"\u0068ex:00"]`:            {row.StringValue("a"), row.IntegerValue(1), row.BinaryValue([]byte{0})},
		`["\ud83d\ude00\\ud83d"]`:          {row.StringValue("😀" + `\ud83d`)},
		`["a\u0000\ufffd日本"]`:              {row.StringValue("a\x00\ufffd日本")},
		`["\\", 9223372036854775807]`:      {row.StringValue(`\`), row.IntegerValue(1<<63 - 1)},
	} {
		var key manifest.Key
		for _, v := range want {
			key = row.AppendKey(key, v)
		}
		for _, line := range []string{`{"table":"t","prefix":` + text + `}`, `{ "prefix":` + text + ` , "table" : "\u0074" }`} {
			e, err := parseListed([]byte(line))
			if err != nil || e.table != "t" || e.whole {
				t.Fatalf("%s: %+v, %v", line, e, err)
			}
			got, n, err := e.key(columns)
			if err != nil || n != len(want) || !bytes.Equal(got, key) {
				t.Errorf("%s: %x of %d values, %v; want %x", line, []byte(got), n, err, []byte(key))
			}
		}
	}
}
