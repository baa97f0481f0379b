// Package page writes a receipt as a page for people: one HTML file that needs
// nothing beside itself, is made to be printed, and carries the signed receipt and the
// way to check it.
package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html/template"
	"io"
	"strings"
	"unicode/utf16"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

//go:embed page.html
var source string

//go:embed page.css
var style string

// Receipt is a receipt that was opened, with what the page tells of it.
type Receipt struct {
	Sealed  []byte
	Receipt *manifest.Receipt
	Keys    []Key // that signed it, those that count first; what is said of no other signature
}

// Key is a key that signed.
type Key struct {
	Name string // by which the archive's policy knows it; empty: it does not
	Role string
	Void bool // the policy names it, and its signature does not count: it was revoked, say
	Key  manifest.PublicKey
}

// Write writes the page. It refuses nothing: what of the report is not as this program
// writes it is left to the signed receipt at the end.
func (r Receipt) Write(w io.Writer) error {
	var report snapshot.Report
	_ = json.Unmarshal(r.Receipt.Report, &report) // signed, and of any shape
	return pages.Execute(w, view{Receipt: r.Receipt, Report: &report, Keys: r.Keys, sealed: r.Sealed})
}

var pages = template.Must(template.New("receipt").Funcs(template.FuncMap{
	"text":   console.Printable,
	"number": console.Number[int64],
	"bytes":  console.Bytes,
	"count":  func(all []string) string { return console.Count(len(all), "problem") },
	"joined": func(all []string) string { return console.Printable(strings.Join(all, ", ")) },
}).Parse(source))

// view is what the template reads.
type view struct {
	*manifest.Receipt
	Report *snapshot.Report
	Keys   []Key
	sealed []byte
}

func (v view) Style() template.CSS { return template.CSS(style) }

// Policy is the one by which a browser treats the page: nothing is loaded or run, and
// there is one style.
func (v view) Policy() string {
	digest := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'; base-uri 'none'; form-action 'none'"
}

// Deed is what was done, for people.
func (v view) Deed() string {
	switch v.Kind {
	case "verify":
		return "verification of an archive"
	case "compare":
		return "comparison of live tables with a snapshot"
	case "restore":
		return "restore"
	}
	return v.Kind
}

func (v view) Good() bool { return v.Exit == 0 }

// Verdict is the meaning of the exit code, as FORMAT.md says.
func (v view) Verdict() string {
	meanings := map[int64]string{
		0:  "No problem was found.",
		10: "Untrusted: something is not signed as it must be, or is of another archive.",
		11: "Rollback: snapshots, or versions of the policy, were hidden, removed or replaced.",
		12: "An object is missing.",
		13: "Corrupt: something is not what was signed.",
		14: "Differences were found.",
		15: "Something is over a limit.",
		16: "Something was written by a newer program than the one that looked.",
		17: "Objects are locked less than was signed, or something lies over them.",
	}
	if text, ok := meanings[v.Exit]; ok {
		return text
	}
	return "Problems were found."
}

func (v view) Took() string { return console.Duration(v.Finished.Sub(v.Started.Time)) }

func (v view) ProgramKnown() bool { return !v.Program.IsZero() }

func (v view) AnchorDigest(a manifest.Anchor) string {
	if a.Digest.IsZero() {
		return "not known"
	}
	return a.Digest.String()
}

// Result is what is told of a table that was compared.
func (v view) Result(t snapshot.TableReport) string { return Result(t) }

// Result says in a word or two what a comparison found of a table.
func Result(t snapshot.TableReport) string {
	switch {
	case !t.Compared:
		return "NOT COMPARED"
	case t.Missing > 0, t.Extra > 0 && !t.Others, t.Changed > t.Kept, t.Counted-t.Extra != t.Rows:
		return "DIFFERS"
	case t.Changed > 0:
		return fmt.Sprintf("equal but for %s left alone", console.Count(t.Changed, "row"))
	case t.Suppressed != nil && t.Suppressed.Rows > 0:
		return fmt.Sprintf("equal but for %s left out", console.Count(t.Suppressed.Rows, "row"))
	}
	return "equal"
}

// Level is what a notary did before signing, for people.
func (v view) Level(level string) string {
	switch level {
	case snapshot.AtExport:
		return "signed at the export, read nothing again"
	case manifest.NotarizedHashes:
		return "hashed every byte"
	case manifest.NotarizedRows:
		return "rebuilt and hashed every row"
	}
	return console.Printable(level)
}

func (v view) Retention(r manifest.Retention) string { return Retention(r) }

// Retention says how a snapshot is to be retained, as it was signed.
func Retention(r manifest.Retention) string {
	if r.Until == "" {
		return "none"
	}
	return r.Mode + " until " + r.Until
}

func (k Key) ID() string { return k.Key.ID().String() }

// PEM is the key as openssl reads it.
func (k Key) PEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.Key.SPKI()}))
}

// Digested reports whether openssl is asked for ECDSA over SHA-256, and not for a
// signature over the bytes themselves.
func (k Key) Digested() bool { return k.Key.Algorithm() == "ecdsa-p256" }

func (k Key) Algorithm() string { return k.Key.Algorithm() }

// Signed is the sealed receipt, in which everything beyond plain ASCII, and what HTML
// would take for its own, is written as JSON escapes it: so it stands in the page as it
// does in a file, whatever it says.
func (v view) Signed() template.HTML {
	var b strings.Builder
	for _, r := range string(v.sealed) {
		switch {
		case r < ' ' || r == 0x7f: // between the parts, where a blank is as good
			b.WriteByte(' ')
		case r == '<' || r == '>' || r == '&' || r > 0x7f && r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		case r >= 0x10000:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			b.WriteRune(r)
		}
	}
	return template.HTML(b.String())
}
