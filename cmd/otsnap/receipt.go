package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/page"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// receiptFlags say whether a run is to leave a signed report of itself, and where.
type receiptFlags struct {
	file   string
	keys   []string
	record bool
}

func (f *receiptFlags) add(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "receipt", "", "new `FILE` for a signed receipt, with --receipt-key; beside it a page for people, FILE with .html")
	cmd.Flags().StringArrayVar(&f.keys, "receipt-key", nil, "private `KEY` to sign the receipt with: a file, or as in otsnap key --help (repeat for more)")
	cmd.Flags().BoolVar(&f.record, "record", false, "put the receipt into the archive too, after those that are there; with --receipt-key, a key of the archive's policy")
	a.addPassphraseFlag(cmd)
}

func (f *receiptFlags) check(cmd *cobra.Command) error {
	switch {
	case f.file != "" && len(f.keys) == 0:
		return usage(cmd, "--receipt: with which key is it to be signed? Say --receipt-key")
	case f.record && len(f.keys) == 0:
		return usage(cmd, "--record: with which key is the receipt to be signed? Say --receipt-key, with a key of the archive's policy")
	case len(f.keys) > 0 && f.file == "" && !f.record:
		return usage(cmd, "--receipt-key: where is the receipt to go? Say --receipt FILE, or --record to put it into the archive, or both")
	}
	return nil
}

// pageOf is the name of the page beside a receipt.
func pageOf(file string) string { return strings.TrimSuffix(file, ".json") + ".html" }

// receipt is the signed report of a run on its way to files and into the archive, and
// beside it the keys the service chose. A nil receipt is not wanted.
type receipt struct {
	app     *app
	kind    string
	from    *opened
	signers []manifest.Signer
	record  bool

	file, page *output // nil: no file is wanted
	keys       *output // nil: the run chooses no keys
	keysName   string
	digest     hash.Hash
	rows       int64
}

// newReceipt begins the receipt of a run, before it: what would keep the receipt from
// being written is told then, as far as it can be. Files are made under names of their
// own until all is in them.
func (a *app) newReceipt(ctx context.Context, kind string, from *opened, f receiptFlags, signers []manifest.Signer) (*receipt, error) {
	if len(signers) == 0 {
		return nil, nil
	}
	r := &receipt{app: a, kind: kind, from: from, signers: signers, record: f.record, digest: sha256.New()}
	if f.record {
		head, err := from.Head(ctx)
		if err == nil {
			seq := int64(0)
			if head.Manifest != nil {
				seq = head.Manifest.Seq
			}
			err = from.MayRecord(seq, signers...)
		}
		if err != nil {
			return nil, fmt.Errorf("--record: %w", err)
		}
		r.warnOfReceipts(ctx)
	}
	if f.file == "" {
		return r, nil
	}
	var err error
	if r.file, err = a.output(f.file); err != nil {
		return nil, err
	}
	if r.page, err = a.output(pageOf(f.file)); err != nil {
		r.discard()
		return nil, err
	}
	return r, nil
}

// warnOfReceipts tells of what is wrong with the receipts that are there: a new one comes
// after the last that counts all the same.
func (r *receipt) warnOfReceipts(ctx context.Context) {
	for e, err := range r.from.Receipts(ctx) {
		switch {
		case err != nil:
			r.app.warn("warning: whether the receipts in the archive are whole is not known: %s", sentence(err.Error()))
		case e.Receipt != nil && e.Wrong != nil:
			r.app.warn("warning: the chain of receipts in the archive is broken: %s; the new one comes after the last that counts. See: otsnap receipts check", sentence(e.Wrong.Error()))
		}
	}
}

// choosesKeys makes the file for keys that the service chooses.
func (r *receipt) choosesKeys(path string) error {
	r.keysName = path + ".keys.jsonl"
	var err error
	r.keys, err = r.app.output(r.keysName)
	return err
}

func (r *receipt) discard() {
	if r == nil {
		return
	}
	for _, o := range []*output{r.file, r.page, r.keys} {
		if o != nil {
			o.discard()
		}
	}
}

// keyMap notes which key became which.
func (r *receipt) keyMap(table manifest.Table, was, is manifest.Key) error {
	line, err := json.Marshal(struct {
		Table string       `json:"table"`
		Was   string       `json:"was"`
		Is    string       `json:"is"`
		From  manifest.Key `json:"was_key"`
		To    manifest.Key `json:"is_key"`
	}{table.Name, row.FormatKey(table.Key, was), row.FormatKey(table.Key, is), was, is})
	if err != nil {
		return err
	}
	r.rows++
	_, err = io.MultiWriter(r.keys, r.digest).Write(append(line, '\n'))
	return err
}

// receiptDocument is the report that is signed, and the digest of the keys.
type receiptDocument struct {
	*snapshot.Report
	Tables []tableCounts `json:"tables"` // in place of the report's
	Keys   *keysFile     `json:"keys,omitempty"`
}

// tableCounts is a table's part of a report without keys and values of rows: a receipt
// may be locked for years and be read by many, and live rows never were in the archive.
type tableCounts struct {
	snapshot.TableReport
	Differences *struct{} `json:"differences,omitempty"` // always nil: hides those of the report
}

type keysFile struct {
	File   string        `json:"file"`
	SHA256 manifest.Hash `json:"sha256"`
	Rows   int64         `json:"rows"`
}

// errNoVerdict says why there is no receipt of a run.
var errNoVerdict = errors.New("no receipt was signed: the run came to no verdict")

// keep signs the receipt of a run that ended with outcome, and puts it where it is
// wanted. It returns the outcome; that there is no receipt is a part of it. A run that
// came to no verdict has none.
func (r *receipt) keep(ctx context.Context, report *snapshot.Report, outcome error) error {
	if r == nil {
		return outcome
	}
	if ctx.Err() != nil {
		r.app.warn("%v", errNoVerdict)
		return outcome
	}
	if outcome != nil && !snapshot.IsVerdict(outcome) {
		return errors.Join(outcome, errNoVerdict)
	}
	if report == nil {
		report = r.cutShort(outcome)
	}
	exit := 0
	if outcome != nil {
		exit = judge(ctx, outcome).exit
	}
	err := r.write(ctx, report, exit)
	switch {
	case err == nil:
		return outcome
	case outcome == nil:
		return unreceipted{err}
	}
	return beside{outcome, err}
}

// unreceipted is what went wrong with the receipt of a run that itself went well.
type unreceipted struct{ error }

func (u unreceipted) Unwrap() error { return u.error }

// beside is the outcome of a run, and what else went wrong: that is told, and does not
// say what the outcome means.
type beside struct{ outcome, also error }

func (b beside) Error() string { return b.outcome.Error() + "\n" + b.also.Error() }
func (b beside) Unwrap() error { return b.outcome }

// cutShort is the report of a run that found a problem before it had one.
func (r *receipt) cutShort(outcome error) *snapshot.Report {
	return &snapshot.Report{
		Kind: r.kind, Archive: r.from.Policy.ID(), Started: manifest.At(r.app.begun), Finished: manifest.At(r.app.now()),
		Tables: []snapshot.TableReport{}, Notes: []string{"the run ended with the first problem"}, Problems: strings.Split(outcome.Error(), "\n"),
	}
}

// write writes the receipt of a run.
func (r *receipt) write(ctx context.Context, report *snapshot.Report, exit int) error {
	document, err := r.document(ctx, report, exit)
	if err != nil {
		return noReceipt(err)
	}
	var e snapshot.ReceiptEntry
	var refused error
	if r.record {
		if e, refused = r.from.AppendReceipt(ctx, document, r.app.now(), r.signers...); refused == nil {
			r.app.warn("the receipt is number %d in the archive", e.Number)
		}
	}
	if r.file == nil {
		return noReceipt(refused)
	}
	sealed := e.Sealed
	if sealed == nil { // what is not in the archive has no place there
		if sealed, err = manifest.SealReceipt(ctx, &document, r.signers...); err != nil {
			return noReceipt(errors.Join(refused, err))
		}
	}
	err = r.writeFiles(sealed)
	switch {
	case err == nil && refused != nil:
		return fmt.Errorf("the receipt is in %s, and not in the archive: %w", r.file.path, refused)
	case err != nil && e.Number > 0:
		return fmt.Errorf("the receipt is number %d in the archive, and not in files as it was to be: %w", e.Number, err)
	}
	return noReceipt(errors.Join(refused, err))
}

// noReceipt says of what went wrong that there is no receipt.
func noReceipt(err error) error {
	if err != nil {
		err = fmt.Errorf("there is no receipt: %w", err)
	}
	return err
}

// document is what is signed.
func (r *receipt) document(ctx context.Context, report *snapshot.Report, exit int) (manifest.Receipt, error) {
	d := manifest.Receipt{
		Kind: r.kind, Anchors: r.anchors(report), Started: report.Started, Finished: report.Finished,
		Tool: "otsnap " + version, Build: build().String(), Program: programDigest(), Exit: int64(exit),
	}
	d.Host, d.User = whoAmI()
	if err := r.from.About(ctx, &d); err != nil {
		return d, err
	}
	told := receiptDocument{Report: report, Tables: make([]tableCounts, len(report.Tables))}
	for i, t := range report.Tables {
		told.Tables[i].TableReport = t
	}
	for i, problem := range report.Problems {
		report.Problems[i] = sentence(problem)
	}
	if r.rows > 0 {
		told.Keys = &keysFile{File: r.keysName, SHA256: manifest.Hash(r.digest.Sum(nil)), Rows: r.rows}
		if err := r.keys.keep(); err != nil {
			return d, err
		}
	}
	var err error
	d.Report, err = manifest.NewRaw(told)
	return d, err
}

// anchors are what the archive was held against: those that held, or all of a run that
// ended before it could tell. Of more than a receipt can have, it has those at the
// highest numbers.
func (r *receipt) anchors(report *snapshot.Report) []manifest.Anchor {
	anchors := slices.Clone(report.Anchors)
	if len(report.BySnapshot) == 0 {
		anchors = slices.Clone(r.from.Archive.Anchors)
		if t := r.from.Trust; t.Seq > 0 {
			anchors = append(anchors, manifest.Anchor{Source: "trust file", Seq: t.Seq, Digest: t.Head})
		}
	}
	if len(anchors) > manifest.MaxAnchors {
		slices.SortStableFunc(anchors, func(a, b manifest.Anchor) int { return cmp.Compare(b.Seq, a.Seq) })
		anchors = anchors[:manifest.MaxAnchors]
	}
	return anchors
}

func (r *receipt) writeFiles(sealed []byte) error {
	shown, err := r.app.openReceipt(sealed, r.from.Policy, 0, keysOf(r.signers)...)
	if err != nil {
		return err
	}
	if err := shown.Write(r.page); err != nil {
		return err
	}
	if _, err := r.file.Write(sealed); err != nil {
		return err
	}
	if err := r.file.keep(); err != nil {
		return err
	}
	if err := r.page.keep(); err != nil {
		return fmt.Errorf("%s was written, the page was not: %w", r.file.path, err)
	}
	return nil
}

func keysOf(signers []manifest.Signer) []manifest.PublicKey {
	var keys []manifest.PublicKey
	for _, s := range signers {
		keys = append(keys, s.Key())
	}
	return keys
}

// openReceipt opens a receipt that a key of the policy has signed, or one of others, and
// finds out all of these that have. Keys of the policy have to count after a receipt that
// names manifest seq; those that do not are told as such.
func (a *app) openReceipt(sealed []byte, p *manifest.Policy, seq int64, others ...manifest.PublicKey) (page.Receipt, error) {
	shown := page.Receipt{Sealed: sealed}
	_, _, err := manifest.OpenReceiptAfter(sealed, p, seq)
	good := err == nil
	seen := map[manifest.PublicKey]bool{}
	var void []page.Key
	for _, k := range namedKeys(p) {
		r, notBy := manifest.OpenReceiptBy(sealed, k.Key)
		if seen[k.Key] || notBy != nil {
			continue
		}
		shown.Receipt, seen[k.Key] = r, true
		if p.MayReport(k.Key, max(r.Seq, seq)) {
			shown.Keys = append(shown.Keys, k)
			continue
		}
		k.Void = true
		void = append(void, k)
	}
	for _, key := range others {
		r, notBy := manifest.OpenReceiptBy(sealed, key)
		if notBy != nil {
			continue
		}
		if good = true; !seen[key] {
			shown.Receipt, seen[key] = r, true
			shown.Keys = append(shown.Keys, page.Key{Key: key})
		}
	}
	shown.Keys = append(shown.Keys, void...)
	switch {
	case !good:
		return shown, err
	case shown.Receipt.Archive != p.ID():
		return shown, fmt.Errorf("the receipt is of archive %s: %w", shown.Receipt.Archive, manifest.ErrUntrusted)
	}
	return shown, nil
}

// namedKeys are the keys of all versions of a policy.
func namedKeys(p *manifest.Policy) []page.Key {
	var keys []page.Key
	for _, v := range p.Versions() {
		for _, k := range v.Keys {
			if key, err := k.Key(); err == nil {
				keys = append(keys, page.Key{Name: k.Name, Role: k.Role, Key: key})
			}
		}
	}
	return keys
}

// whoAmI is the machine and the user, as far as they are known.
func whoAmI() (host, name string) {
	host, _ = os.Hostname()
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return plain(host), plain(name)
}

// plain is text that a receipt takes.
func plain(s string) string {
	s = strings.ReplaceAll(console.Printable(s), "\n", " ")
	return s[:min(len(s), 255)]
}

// programDigest is the SHA-256 of the program's own file, zero if that cannot be read.
// On Linux it is the file that was started, also if another has its name by now.
func programDigest() manifest.Hash {
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		path, pathErr := os.Executable()
		if pathErr != nil {
			return manifest.Hash{}
		}
		if file, err = os.Open(path); err != nil {
			return manifest.Hash{}
		}
	}
	defer file.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		return manifest.Hash{}
	}
	return manifest.Hash(digest.Sum(nil))
}
