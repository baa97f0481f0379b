package manifest

import (
	"reflect"
	"strings"
	"testing"
)

// sample has a member of every kind a document has.
type sample struct {
	Text   string   `json:"text"`
	Number int64    `json:"number"`
	Flag   bool     `json:"flag"`
	Hash   Hash     `json:"hash"`
	Key    Key      `json:"key"`
	Time   Time     `json:"time"`
	List   []string `json:"list"`
	Inner  []inner  `json:"inner"`
	Maybe  inner    `json:"maybe,omitzero"`
	Few    []string `json:"few,omitzero"`
	Hidden string   `json:"-"`
}

type inner struct {
	Type Type `json:"type"`
}

const sampleJSON = `{"text":"a","number":7,"flag":true,` +
	`"hash":"00000000000000000000000000000000000000000000000000000000000000ff",` +
	`"key":"00ff","time":"2026-11-22T16:05:01Z","list":["x","y"],"inner":[{"type":"STRING"}]}`

func TestDecodeAcceptsOneDocument(t *testing.T) {
	want := sample{
		Text: "a", Number: 7, Flag: true, Hash: Hash{31: 0xff}, Key: Key{0, 0xff}, Time: testTime(0),
		List: []string{"x", "y"}, Inner: []inner{{Type: String}},
	}
	for _, text := range []string{
		sampleJSON,
		" \n" + strings.ReplaceAll(sampleJSON, ",", " ,\t") + "\r\n ",
		strings.Replace(sampleJSON, `"a"`, `"\u0061"`, 1),
	} {
		var got sample
		if err := decode([]byte(text), &got); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}

func TestDecodeKeepsEveryCharacter(t *testing.T) {
	for text, want := range map[string]string{
		`"\u00e9\ud83d\ude00"`:  "é😀",
		"\"\ufffd\"":            "\ufffd",
		`"\ufffd"`:              "\ufffd",
		`"\\ud83d"`:             `\ud83d`,
		`"\"\\\/\b\f\n\r\t"`:    "\"\\/\b\f\n\r\t",
		`"\u0000\u001b\u202e<"`: "\x00\x1b\u202e<",
	} {
		var got sample
		if err := decode([]byte(strings.Replace(sampleJSON, `"a"`, text, 1)), &got); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got.Text != want {
			t.Errorf("%s: got %q, want %q", text, got.Text, want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		name     string
		old, new string // what to change in sampleJSON
		says     string
	}{
		{"nothing", sampleJSON, ``, "ends too early"},
		{"only space", sampleJSON, ` `, "ends too early"},
		{"null", sampleJSON, `null`, "found null"},
		{"an array", sampleJSON, `[]`, `found "["`},
		{"a cut document", `}]}`, ``, "ends too early"},
		{"a cut array", `,"y"],"inner":[{"type":"STRING"}]}`, ``, "ends too early"},
		{"a cut value", `true,`, `tru`, "invalid"},
		{"a document that follows", `}]}`, `}]}{}`, "more follows"},
		{"a bracket that follows", `}]}`, `}]}]`, "more follows"},
		{"a comma that follows", `}]}`, `}]},`, "more follows"},
		{"garbage that follows", `}]}`, `}]}x`, "more follows"},
		{"a byte order mark", `{"text"`, "\ufeff" + `{"text"`, "invalid"},
		{"a comment", `{"text"`, `/**/{"text"`, "invalid"},
		{"a comma before the end", `"y"]`, `"y",]`, "invalid"},
		{"a comma before the end of an object", `"STRING"}`, `"STRING",}`, "invalid"},
		{"the wrong bracket", `"y"]`, `"y"}`, "invalid"},
		{"single quotes", `"a"`, `'a'`, "invalid"},
		{"an unknown member", `"text"`, `"more":0,"text"`, `unknown member "more"`},
		{"an unknown member that nests", `"text"`, `"more":` + strings.Repeat("[", 1<<16) + `,"text"`, `unknown member "more"`},
		{"an empty name", `"text"`, `"":0,"text"`, `unknown member ""`},
		{"a field that is no member", `"text"`, `"Hidden":"","text"`, `unknown member "Hidden"`},
		{"the name of no member", `"text"`, `"-":"","text"`, `unknown member "-"`},
		{"the tag of an optional member", `"text"`, `"maybe,omitzero":{"type":"STRING"},"text"`, "unknown member"},
		{"an optional member twice", `"text"`, `"maybe":{"type":"STRING"},"maybe":{"type":"STRING"},"text"`, `"maybe" is there twice`},
		{"an optional member that says nothing", `"text"`, `"maybe":{"type":""},"text"`, `"maybe" says nothing`},
		{"an optional array of nothing", `"text"`, `"few":[],"text"`, `"few" says nothing`},
		{"null for an optional member", `"text"`, `"maybe":null,"text"`, "maybe: found null"},
		{"half of an optional member", `"text"`, `"maybe":{},"text"`, `maybe: member "type" is missing`},
		{"another case", `"text"`, `"Text"`, `unknown member "Text"`},
		{"a letter that folds to another", `"list"`, `"liſt"`, `unknown member "liſt"`},
		{"a member twice", `"number"`, `"text":"a","number"`, `"text" is there twice`},
		{"a member twice, once escaped", `"number"`, `"te\u0078t":"a","number"`, `"text" is there twice`},
		{"a missing member", `,"number":7`, ``, `"number" is missing`},
		{"a missing inner member", `"type":"STRING"`, ``, `inner: [0]: member "type" is missing`},
		{"null for text", `"a"`, `null`, "text: found null"},
		{"null for a number", `7`, `null`, "number: found null"},
		{"null for a flag", `true`, `null`, "flag: found null"},
		{"null for an array", `["x","y"]`, `null`, "list: found null"},
		{"null in an array", `"y"]`, `null]`, "list: [1]: found null"},
		{"null for a key", `"00ff"`, `null`, "key: found null"},
		{"a number for text", `"a"`, `1`, "text: found the number 1"},
		{"a number for a type", `"STRING"`, `1`, "type: found the number 1"},
		{"text for a number", `7`, `"7"`, `number: found the string "7"`},
		{"a flag for a number", `7`, `true`, "number: found true"},
		{"a number for a flag", `true`, `1`, "flag: found the number 1"},
		{"text for a flag", `true`, `"true"`, "flag: found the string"},
		{"an object for text", `"a"`, `{}`, `text: found "{"`},
		{"an object for an array", `["x","y"]`, `{}`, `list: found "{"`},
		{"text for an object", `{"type":"STRING"}`, `"STRING"`, "inner: [0]: found the string"},
		{"an exponent", `7`, `1e1`, "not a plain integer"},
		{"a fraction", `7`, `7.0`, "not a plain integer"},
		{"minus zero", `7`, `-0`, "not a plain integer"},
		{"a plus", `7`, `+7`, "invalid"},
		{"a leading zero", `7`, `07`, "invalid"},
		{"hex", `7`, `0x7`, "invalid"},
		{"2^53", `7`, `9007199254740992`, "2^53-1"},
		{"-2^53", `7`, `-9007199254740992`, "2^53-1"},
		{"over 64 bits", `7`, `9223372036854775808`, "not a plain integer"},
		{"a long number", `7`, strings.Repeat("7", 100_000), "not a plain integer"},
		{"invalid UTF-8", `"a"`, "\"\xff\"", "UTF-8"},
		{"an overlong encoding", `"a"`, "\"\xc0\xaf\"", "UTF-8"},
		{"a surrogate in UTF-8", `"a"`, "\"\xed\xa0\x80\"", "UTF-8"},
		{"a lone high surrogate", `"a"`, `"\ud83d"`, "surrogate"},
		{"a lone low surrogate", `"a"`, `"\ude00"`, "surrogate"},
		{"surrogates the wrong way round", `"a"`, `"\ude00\ud83d"`, "surrogate"},
		{"two high surrogates", `"a"`, `"\uD83D\uD83D"`, "surrogate"},
		{"a high surrogate and a letter", `"a"`, `"\ud83d\u0061"`, "surrogate"},
		{"a lone surrogate in a name", `"text"`, `"\ud83d"`, "surrogate"},
		{"an escape that is none", `"a"`, `"\x61"`, "invalid"},
		{"half an escape", `"a"`, `"\u00"`, "invalid"},
		{"a newline in text", `"a"`, "\"\n\"", "invalid"},
		{"upper-case hex", `00ff"`, `00FF"`, "not lower-case hex"},
		{"half a byte", `"00ff"`, `"00f"`, "odd length"},
		{"a short digest", `"hash":"00`, `"hash":"`, "62 hex digits"},
		{"a time with a fraction", `01Z`, `01.5Z`, "not a time"},
		{"a time with a zone", `01Z`, `01+00:00`, "not a time"},
		{"a time of one digit", `T16:`, `T6:`, "not a time"},
		{"a time that is none", `11-22T`, `11-31T`, "not a time"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(sampleJSON, test.old) {
				t.Fatalf("the sample has no %q", test.old)
			}
			var got sample
			err := decode([]byte(strings.Replace(sampleJSON, test.old, test.new, 1)), &got)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want an error with %q", err, test.says)
			}
			if err != nil && len(err.Error()) > 300 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestEncodeIsTheInverse(t *testing.T) {
	for _, want := range []sample{
		{Time: testTime(0)},
		{Time: testTime(0), Maybe: inner{Type: String}, Few: []string{""}},
		{Text: "<&>\u2028\ufffd😀\x00", Number: -maxInteger, Flag: true, Key: Key{0}, Time: testTime(1), List: []string{""}},
	} {
		text, err := encode(want)
		if err != nil {
			t.Fatal(err)
		}
		var got sample
		if err := decode(text, &got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}

func TestEncodeWritesTheDocumentedSpelling(t *testing.T) {
	text, err := encode(sample{Text: "<é>", Time: testTime(0)})
	want := `{"text":"<é>","number":0,"flag":false,"hash":"` + strings.Repeat("0", 64) +
		`","key":"","time":"2026-11-22T16:05:01Z","list":[],"inner":[]}`
	if err != nil || string(text) != want {
		t.Errorf("got %s, %v, want %s", text, err, want)
	}
}

func TestAnOptionalMemberIsLeftOutOrSaysSomething(t *testing.T) {
	for want, s := range map[string]sample{
		`"inner":[]}`: {Few: []string{}},
		`"inner":[],"maybe":{"type":"STRING"},"few":["x"]}`: {Maybe: inner{Type: String}, Few: []string{"x"}},
	} {
		if text, err := encode(s); err != nil || !strings.HasSuffix(string(text), want) {
			t.Errorf("got %s, %v, want it to end in %s", text, err, want)
		}
	}
	var only struct {
		Maybe inner `json:"maybe,omitzero"`
	}
	if text, err := encode(only); err != nil || string(text) != "{}" {
		t.Errorf("got %s, %v, want {}", text, err)
	}
	if err := decode([]byte("{}"), &only); err != nil {
		t.Error(err)
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	for name, s := range map[string]sample{
		"invalid UTF-8":        {Text: "\xff"},
		"a surrogate in UTF-8": {List: []string{"\xed\xa0\x80"}},
		"2^53":                 {Number: maxInteger + 1},
		"-2^53":                {Number: -maxInteger - 1},
	} {
		if text, err := encode(s); err == nil {
			t.Errorf("%s: got %s", name, text)
		}
	}
}

// TestDocumentsNestAtMostEightDeep keeps documents readable for parsers with a low
// limit. The decoder itself goes no deeper than these types.
func TestDocumentsNestAtMostEightDeep(t *testing.T) {
	for _, document := range []any{envelope{}, statement{}, Page{}, Chunk{}, Plan{}, Policy{}, Store{}} {
		if got := depth(reflect.TypeOf(document)); got > 8 {
			t.Errorf("%T nests %d deep", document, got)
		}
	}
}

func depth(t reflect.Type) int {
	if t.Implements(reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()) {
		return 0
	}
	deepest := 0
	switch t.Kind() {
	case reflect.Slice:
		return 1 + depth(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if tag := t.Field(i).Tag.Get("json"); tag != "" && tag != "-" {
				deepest = max(deepest, depth(t.Field(i).Type))
			}
		}
		return 1 + deepest
	}
	return 0
}
