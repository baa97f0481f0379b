package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/page"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// printKeys lists the keys of a policy.
func printKeys(w io.Writer, keys []manifest.PolicyKey) {
	var t console.Table
	t.Row("name", "role", "type", "key id")
	for _, k := range keys {
		id := "unreadable"
		if key, err := k.Key(); err == nil {
			id = "sha256:" + key.ID().String()
		}
		t.Row(console.Quote(k.Name), k.Role, k.Algorithm, id)
	}
	t.Print(w)
}

func printInstance(i manifest.Instance) string {
	return fmt.Sprintf("%s at %s", console.Quote(i.Name), console.Quote(i.Endpoint))
}

// printReport writes what a run proved, table by table, and what it found.
func printReport(w io.Writer, r *snapshot.Report, took string) {
	switch r.Kind {
	case "verify":
		printVerified(w, r, took)
		if r.Timestamps != nil {
			printStamps(w, r.Timestamps)
		}
	default:
		printCompared(w, r, took)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", console.Printable(n))
	}
}

// proof is what each level of a verification shows for a table.
func proof(level string) string {
	switch level {
	case snapshot.Objects.String():
		return "signatures, sizes"
	case snapshot.Hashes.String():
		return "signatures, hashes"
	}
	return "signatures, hashes, rows rebuilt"
}

func printVerified(w io.Writer, r *snapshot.Report, took string) {
	var t console.Table
	t.Row("table", "good chunks", "rows signed", "stored", "proved")
	var good int64
	for _, x := range r.Tables {
		good += x.Chunks
		t.Row(console.Quote(x.Name), console.Number(x.Chunks), console.Number(x.Rows), console.Bytes(x.StoredBytes), proof(r.Level))
	}
	if len(r.Tables) > 0 {
		t.Print(w)
	}
	if len(r.Problems) > 0 {
		for _, line := range r.Coverage {
			fmt.Fprintln(w, line)
		}
		fmt.Fprintf(w, "NOT verified: %s; %s of %s are good\n", console.Count(len(r.Problems), "problem"),
			console.Number(good), console.Count(r.Totals.Chunks, "chunk"))
		return
	}
	fmt.Fprintf(w, "verified: %s up to number %d, %s, %s, %s, in %s\n", console.Count(r.Snapshots, "snapshot"), r.Seq,
		console.Count(len(r.Tables), "table"), console.Count(r.Totals.Chunks, "chunk"), console.Count(r.Totals.Rows, "row"), took)
	if r.Snapshots == 0 {
		fmt.Fprintln(w, "there is no snapshot yet: policy and settings are in order, and of data nothing is proved")
	} else {
		fmt.Fprintln(w, meaning(r.Level))
	}
	for _, line := range r.Coverage {
		fmt.Fprintln(w, line)
	}
	for _, x := range r.Anchors {
		fmt.Fprintf(w, "anchor: %s has snapshot %d, and so has the archive\n", console.Printable(x.Source), x.Seq)
	}
	printNotaries(w, r)
}

// mostNotarized is how many notarized snapshots a verification names.
const mostNotarized = 20

// printNotaries tells which of the snapshots verified are notarized, the newest first.
func printNotaries(w io.Writer, r *snapshot.Report) {
	if len(r.Notarized) == 0 {
		return
	}
	fmt.Fprintf(w, "notarized: %s of %s\n", console.Number(len(r.Notarized)), console.Count(r.Snapshots, "snapshot"))
	named := 0
	for _, s := range slices.Backward(r.Notarized) {
		if named++; named > mostNotarized {
			fmt.Fprintf(w, "  and %s before\n", console.Count(len(r.Notarized)-mostNotarized, "snapshot"))
			return
		}
		for _, n := range s.Notarizations {
			fmt.Fprintf(w, "  number %d %s\n", s.Seq, console.Printable(n.String()))
		}
	}
}

// meaning says in a sentence what a verification without a problem has shown.
func meaning(level string) string {
	switch level {
	case snapshot.Objects.String():
		return "proved: the chain and every signature; every object is there and has its signed size. Contents were not read."
	case snapshot.Hashes.String():
		return "proved: the chain and every signature; every byte of every object is what was signed."
	}
	return "proved: the chain and every signature; every byte is what was signed; every row was rebuilt from Parquet and has the digest of what the service sent."
}

func printCompared(w io.Writer, r *snapshot.Report, took string) {
	var t console.Table
	restored := r.Kind == "restore"
	head := []string{"table", "signed", "live", "missing", "extra", "changed", "result"}
	if restored {
		head = []string{"table", "chunks", "signed", "decoded", "acknowledged", "counted back", "result"}
	}
	signed := slices.Index(head, "signed")
	if r.Suppress != nil {
		head = slices.Insert(head, signed+1, "left out")
	}
	t.Row(head...)
	var rows int64
	for _, x := range r.Tables {
		rows += x.Rows
		name, n := console.Quote(x.Name), console.Number[int64]
		if x.Target != "" {
			name += " as " + console.Quote(x.Target)
		}
		cells := []string{name, n(x.Rows), n(x.Counted), n(x.Missing), n(x.Extra), n(x.Changed), page.Result(x)}
		if restored {
			cells = []string{name, n(x.Chunks), n(x.Rows), n(x.Decoded), n(x.Acknowledged), n(x.Counted), page.Result(x)}
		}
		if l := x.Suppressed; l != nil {
			cells[signed] = n(l.Signed)
			cells = slices.Insert(cells, signed+1, n(l.Rows))
		}
		t.Row(cells...)
	}
	t.Print(w)
	for _, x := range r.Tables {
		for _, d := range x.Differences {
			fmt.Fprintf(w, "differs: %s\n", console.Printable(d.String()))
		}
		if named, all := int64(len(x.Differences)), x.Missing+x.Extra+x.Changed; named > 0 && named < all {
			fmt.Fprintf(w, "differs: %s: and more; %s differ in all\n", console.Quote(x.Name), console.Count(all, "row"))
		}
	}
	if len(r.Problems) > 0 {
		return
	}
	verb := "compared"
	if restored {
		verb = "restored and compared"
	}
	fmt.Fprintf(w, "%s: snapshot %d (%s) with instance %s, %s, %s, in %s\n", verb, r.Seq, r.Snapshot,
		printInstance(*r.Instance), console.Count(len(r.Tables), "table"), console.Count(rows, "row"), took)
	fmt.Fprintln(w, compared(r))
}

// compared says in a sentence what a comparison without a problem has shown.
func compared(r *snapshot.Report) string {
	var kept, left int64
	others := false
	for _, t := range r.Tables {
		kept += t.Changed
		others = others || t.Others
		if t.Suppressed != nil {
			left += t.Suppressed.Rows
		}
	}
	text := "proved: every row, cell, type and version is what was signed"
	if r.Plan != nil && r.Plan.Rows != nil {
		text = "proved: of the rows and cells that were chosen, and of no others, each is what was signed"
		others = true
	}
	if kept > 0 {
		text += fmt.Sprintf(", but for %s that were there and were left alone", console.Count(kept, "row"))
	}
	if r.Suppress != nil {
		text += fmt.Sprintf(", but for %s on lists, which must not come back", console.Count(left, "row"))
	}
	if others {
		return text + "; other rows were left alone."
	}
	return text + "; there is no other row."
}
