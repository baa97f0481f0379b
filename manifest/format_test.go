package manifest

import (
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestFormatDocumentIsComplete holds FORMAT.md to the code: every member, type and
// limit there is stands in it.
func TestFormatDocumentIsComplete(t *testing.T) {
	text := string(must(os.ReadFile("FORMAT.md"))(t))
	want := []string{
		manifestKind.payloadType, pageKind.payloadType, planKind.payloadType, policyKind.payloadType,
		storeKind.payloadType, receiptKind.payloadType, notarizationKind.payloadType, headKind.payloadType, "`" + StoreFolder + "/<archive>.dsse.json`", Supported, Absent, Unknown, NoRetention, Governance, Compliance,
		statementType, predicateType, Exporter, Notary, Officer, Ed25519, ECDSAP256, MLDSA65,
		PolicyName(1), string(Integer), string(String), string(Binary), string(Double), string(Boolean),
	}
	for _, document := range []any{envelope{}, statement{}, Page{}, Chunk{}, Plan{}, Policy{}, Store{}, Receipt{}, Notarization{}, Head{}} {
		want = append(want, members(reflect.TypeOf(document))...)
	}
	want = append(want, folders...)
	for _, limit := range []int64{
		MaxTimestamp, MaxTries, MaxReceipt, MaxHead, MaxNotarization, MaxAnchors, MaxDepth,
		MaxManifest, MaxPolicy, MaxStore, MaxCapabilities, MaxLabel, MaxRetainYears, MaxRetainDays, MaxLine, MaxSignatures, MaxPolicies, MaxSeq, MaxTables, MaxRanges, MaxRangeChunks, MaxChunks,
		MaxChunkSize, MaxChunkRaw, MaxChunkRows, MaxKeyColumns, MaxKey, MaxColumns, MaxName, MaxText, MaxCell,
	} {
		want = append(want, fmt.Sprint(limit))
	}
	for _, s := range want {
		if !regexp.MustCompile(`(^|[^A-Za-z0-9_])` + regexp.QuoteMeta(s) + `($|[^A-Za-z0-9_])`).MatchString(text) {
			t.Errorf("FORMAT.md has no %q", s)
		}
	}
}

// members returns the names of all the members of a document.
func members(t reflect.Type) []string {
	var names []string
	switch t.Kind() {
	case reflect.Slice:
		return members(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
				names = append(append(names, name), members(t.Field(i).Type)...)
			}
		}
	}
	return names
}

// TestFormatDocumentsExampleRow checks the one digest FORMAT.md gives in full.
func TestFormatDocumentsExampleRow(t *testing.T) {
	text := string(must(os.ReadFile("FORMAT.md"))(t))
	_, example, ok := strings.Cut(text, "of version 1000:\n")
	row, rest, _ := strings.Cut(example, "leaf ")
	if !ok {
		t.Fatal("FORMAT.md has no example")
	}
	data := must(hex.DecodeString(strings.Join(strings.Fields(row), "")))(t)
	if leaf := LeafHash(data).String(); !strings.HasPrefix(rest, leaf) {
		t.Errorf("the leaf is %s", leaf)
	}
}
