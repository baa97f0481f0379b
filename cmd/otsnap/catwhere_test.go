package main

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// TestConditionsOnSamples reads tables of real data under conditions made of
// their own values, and compares with what the conditions leave of all rows.
func TestConditionsOnSamples(t *testing.T) {
	at := exportSamples(t, sample.Movies, sample.Oddities)
	rounds := 80
	if testing.Short() {
		rounds = 20
	}
	for _, table := range []string{sample.Movies, sample.Oddities} {
		read := tableIn(t, filepath.Join(at, "backup"), filepath.Join(at, "trust"), table, new(gets))
		all := rowsOf(t, read)
		random := rand.New(rand.NewPCG(7, uint64(len(all))))
		some := 0
		for range rounds {
			text := condition(random, read.Table.Table.Key, all, 2)
			where, err := row.ParseFilter(text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			read.Where, read.Columns = where, nil
			if random.IntN(3) == 0 {
				name, _, _ := anyCell(random, read.Table.Table.Key, all)
				read.Columns = []string{name, "[a-m]*"}
			}
			want := left(read, all)
			got := rowsOf(t, read)
			if !slices.EqualFunc(got, want, func(a, b row.Row) bool { return slices.Equal(a.Key, b.Key) && slices.Equal(a.Cells, b.Cells) }) {
				t.Fatalf("table %s, where %s, columns %q: %d rows, or other cells; want %d", table, where, read.Columns, len(got), len(want))
			}
			if len(got) > 0 && len(got) < len(all) {
				some++
			}
		}
		if some < rounds/3 {
			t.Errorf("table %s: only %d of %d conditions tell anything", table, some, rounds)
		}
	}
}

// exportSamples exports sample tables, in many small row groups, and returns the
// folder that has the archive as backup, and its trust file as trust.
func exportSamples(t testing.TB, tables ...string) string {
	t.Helper()
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() { front.Close(); server.Close() })
	if _, err := sample.Load(t.Context(), sdk.NewClient(front.URL, "shop", local.DefaultAccessKeyID, local.DefaultAccessKeySecret), tables...); err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	env := map[string]string{
		"OTSNAP_TRUST":                 filepath.Join(at, "trust"),
		"TABLESTORE_ACCESS_KEY_ID":     local.DefaultAccessKeyID,
		"TABLESTORE_ACCESS_KEY_SECRET": local.DefaultAccessKeySecret,
	}
	key, backup := filepath.Join(at, "key"), filepath.Join(at, "backup")
	for _, args := range [][]string{
		{"key", "gen", "--out", key},
		{"init", backup, "--key", key},
		{"export", front.URL + "?instance=shop", backup, "--key", key, "--chunk-size", "64KiB"},
	} {
		var said strings.Builder
		a := &app{stdout: &said, stderr: &said, getenv: func(name string) string { return env[name] }, now: time.Now}
		if code := run(args, a); code != 0 {
			t.Fatalf("otsnap %v ends with %d: %s", args, code, said.String())
		}
	}
	return at
}

// left returns what a reading is to have, by going through all rows.
func left(read snapshot.Read, all []row.Row) []row.Row {
	var rows []row.Row
	for _, r := range all {
		if !read.Where.Match(read.Table.Table.Key, &r) {
			continue
		}
		cells := slices.DeleteFunc(slices.Clone(r.Cells), func(c row.Cell) bool {
			return len(read.Columns) > 0 && !slices.ContainsFunc(read.Columns, func(glob string) bool {
				match, _ := path.Match(glob, c.Name)
				return match
			})
		})
		rows = append(rows, row.Row{Key: r.Key, Cells: cells})
	}
	return rows
}

// condition returns a condition on values there are.
func condition(random *rand.Rand, key []manifest.KeyColumn, all []row.Row, depth int) string {
	if depth > 0 {
		a, b := condition(random, key, all, depth-1), condition(random, key, all, depth-1)
		switch random.IntN(5) {
		case 0:
			return "(" + a + ") and (" + b + ")"
		case 1:
			return "(" + a + ") or (" + b + ")"
		case 2:
			return "not (" + a + ")"
		}
	}
	name, value, isKey := anyCell(random, key, all)
	quoted := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	other, stranger, strangerIsKey := anyCell(random, key, all)
	if !isKey && !strangerIsKey && other != name && random.IntN(4) == 0 {
		value = stranger // perhaps of another type
	}
	switch random.IntN(6) {
	case 0:
		return "exists " + quoted
	case 1:
		if value.Type() == manifest.String || value.Type() == manifest.Binary {
			return quoted + " prefix " + conditionLiteral(value, 3)
		}
	case 2:
		return fmt.Sprintf("%s in (%s, %s)", quoted, conditionLiteral(value, 0), conditionLiteral(value, 0))
	}
	return quoted + " " + []string{"=", "!=", "<", "<=", ">", ">="}[random.IntN(6)] + " " + conditionLiteral(value, 0)
}

// anyCell returns name and value of a cell there is, or of a key column.
func anyCell(random *rand.Rand, key []manifest.KeyColumn, all []row.Row) (name string, value row.Value, isKey bool) {
	r := all[random.IntN(len(all))]
	if i := random.IntN(len(r.Cells) + len(key)); i < len(r.Cells) {
		return r.Cells[i].Name, r.Cells[i].Value, false
	}
	i := random.IntN(len(key))
	return key[i].Name, r.Key[i], true
}

// conditionLiteral writes a value, or what a STRING or BINARY starts with, as a condition
// has it.
func conditionLiteral(v row.Value, most int) string {
	text := string(v.AppendText(nil))
	switch v.Type() {
	case manifest.String:
		if most > 0 {
			text = text[:min(len(text), most)]
		}
		return "'" + strings.ReplaceAll(text, "'", "''") + "'"
	case manifest.Binary:
		raw, _ := base64.StdEncoding.DecodeString(text)
		if most > 0 {
			raw = raw[:min(len(raw), most)]
		}
		return fmt.Sprintf("x'%x'", raw)
	}
	return text
}
