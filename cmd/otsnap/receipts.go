package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/page"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

func (a *app) receiptsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "receipts",
		Short: "List, show and check signed receipts",
		Long: `List, show and check signed receipts. A receipt says who did what with an archive,
with which program, where the archive ended, how much was covered, and what was
found. verify, restore and compare write one with --receipt FILE, beside it a page
for people, and with --record they put it into the archive, where each receipt
names the one before it. A run that was interrupted, or could not reach the
archive, came to no verdict and leaves none.

A receipt that is removed from the middle shows. The newest ones can be cut off
without a trace in the archive: who needs them keeps them, and gives them to
receipts check.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, "say what to do: list, show or check")
		},
	}
	cmd.AddCommand(a.receiptsListCommand(), a.receiptsShowCommand(), a.receiptsCheckCommand())
	return cmd
}

func (a *app) receiptsListCommand() *cobra.Command {
	var flags archiveFlags
	cmd := &cobra.Command{
		Use:     "list ARCHIVE",
		Short:   "List the receipts in an archive",
		Example: `  otsnap receipts list /backup/shop`,
		Args:    arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.receiptsList(cmd.Context(), args[0], flags)
		},
	}
	flags.add(cmd)
	return cmd
}

// receiptLine is a receipt in a list.
type receiptLine struct {
	Number   int64         `json:"number"`
	Object   manifest.Hash `json:"object"` // digest of it
	Kind     string        `json:"kind"`
	Finished manifest.Time `json:"finished"`
	Exit     int64         `json:"exit"`
	Keys     []string      `json:"keys"`
	Host     string        `json:"host"`
	User     string        `json:"user"`
	Seq      int64         `json:"seq"`
	Digest   manifest.Hash `json:"digest"`
	Coverage []string      `json:"coverage"`
	Problem  string        `json:"problem,omitempty"` // with those before it
}

// after is the newest manifest that a receipt below that number names.
func (l receiptList) after(number int64) (seq int64) {
	for _, r := range l.Receipts {
		if r.Number < number {
			seq = max(seq, r.Seq)
		}
	}
	return seq
}

// receiptList is what receipts list tells.
type receiptList struct {
	Archive  manifest.Hash `json:"archive"`
	Receipts []receiptLine `json:"receipts"`
	Notes    []string      `json:"notes"` // of what is no receipt
}

// readReceipts reads the archive's receipts; problems are those of the chain.
func (o *opened) readReceipts(ctx context.Context, each func(snapshot.ReceiptEntry)) (list receiptList, problems []error, err error) {
	list = receiptList{Archive: o.Policy.ID(), Receipts: []receiptLine{}, Notes: []string{}}
	for e, err := range o.Receipts(ctx) {
		if err != nil {
			return list, nil, err
		}
		if e.Receipt == nil {
			list.Notes = append(list.Notes, fmt.Sprintf("%s is no receipt of this archive: %s", manifest.ReceiptName(e.Number), sentence(e.Wrong.Error())))
			continue
		}
		r := e.Receipt
		line := receiptLine{
			Number: e.Number, Object: e.Digest, Kind: r.Kind, Finished: r.Finished, Exit: r.Exit, Keys: e.Keys,
			Host: r.Host, User: r.User, Seq: r.Seq, Digest: r.Digest, Coverage: reportOf(r).Coverage,
		}
		if e.Wrong != nil {
			line.Problem = sentence(e.Wrong.Error())
			problems = append(problems, advise(e.Wrong, "somebody may have removed or replaced a receipt; look for it among older versions of the objects, in other copies and with who keeps theirs: otsnap receipts check ARCHIVE FILE"))
		}
		list.Receipts = append(list.Receipts, line)
		each(e)
	}
	return list, problems, nil
}

// reportOf is the report in a receipt, as far as it is as this program writes it.
func reportOf(r *manifest.Receipt) *snapshot.Report {
	report := new(snapshot.Report)
	_ = json.Unmarshal(r.Report, report)
	return report
}

func (a *app) receiptsList(ctx context.Context, location string, flags archiveFlags) error {
	from, err := a.openArchive(ctx, location, flags)
	if err != nil {
		return err
	}
	list, problems, err := from.readReceipts(ctx, func(snapshot.ReceiptEntry) {})
	if err != nil {
		return err
	}
	newest, err := from.Head(ctx)
	if err != nil {
		return err
	}
	for _, line := range list.Receipts {
		list.Notes = append(list.Notes, hidden(manifest.ReceiptName(line.Number), line.Seq, newest)...)
	}
	err = a.answer(list, func(w io.Writer) { printReceipts(w, list) })
	return errors.Join(append(problems, err)...)
}

// hidden says that a receipt names a snapshot after the newest good one there is.
func hidden(name string, seq int64, newest snapshot.Entry) []string {
	end := int64(0)
	if newest.Manifest != nil {
		end = newest.Manifest.Seq
	}
	if seq <= end {
		return nil
	}
	return []string{fmt.Sprintf("%s names snapshot %d, and the newest good one of the archive is %d: snapshots were hidden, deleted or damaged; see: otsnap receipts check", name, seq, end)}
}

func printReceipts(w io.Writer, list receiptList) {
	var t console.Table
	t.Row("number", "finished", "kind", "exit", "signed by", "on", "newest snapshot", "covered")
	for _, r := range list.Receipts {
		covered := ""
		if len(r.Coverage) > 0 {
			covered = console.Printable(r.Coverage[0])
		}
		t.Row(console.Number(r.Number), r.Finished.Format(time.RFC3339), r.Kind, console.Number(r.Exit), console.Printable(strings.Join(r.Keys, ", ")),
			console.Quote(r.User+"@"+r.Host), console.Number(r.Seq), covered)
	}
	if len(list.Receipts) > 0 {
		t.Print(w)
	}
	fmt.Fprintf(w, "%s\n", console.Count(len(list.Receipts), "receipt"))
	for _, n := range list.Notes {
		fmt.Fprintf(w, "note: %s\n", console.Printable(n))
	}
}

// receiptSource is where receipts that are not the archive's own come from.
type receiptSource struct {
	archive archiveFlags
	key     string
	html    string
}

func (s *receiptSource) add(cmd *cobra.Command) {
	s.archive.add(cmd)
	cmd.Flags().StringVar(&s.key, "key", "", "public `KEY` of who signed a FILE, for one that the archive's policy does not name")
}

// others are the keys beside those of the policy.
func (a *app) otherKeys(ctx context.Context, s receiptSource) ([]manifest.PublicKey, error) {
	if s.key == "" {
		return nil, nil
	}
	key, err := a.publicKey(ctx, s.key, s.archive.giveUpAfter)
	return []manifest.PublicKey{key}, err
}

func (a *app) receiptsShowCommand() *cobra.Command {
	var s receiptSource
	cmd := &cobra.Command{
		Use:   "show ARCHIVE NUMBER|FILE",
		Short: "Show one receipt, after checking its signatures",
		Example: `  otsnap receipts show /backup/shop 4 --html audit.html
  otsnap receipts show /backup/shop audit.json --key auditor.pem.pub`,
		Args: arguments([]string{"ARCHIVE", "NUMBER or FILE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.receiptsShow(cmd.Context(), args[0], args[1], s)
		},
	}
	s.add(cmd)
	cmd.Flags().StringVar(&s.html, "html", "", "new `FILE` for the receipt as a page to read and print")
	return cmd
}

// receiptShown is what receipts show tells.
type receiptShown struct {
	Keys    []keyShown        `json:"keys"`
	Receipt *manifest.Receipt `json:"receipt"`
	Notes   []string          `json:"notes"`
}

type keyShown struct {
	Name   string        `json:"name,omitempty"` // in the policy
	ID     manifest.Hash `json:"id"`
	Counts bool          `json:"counts"` // false: the policy names it, and not for this receipt
}

func (a *app) receiptsShow(ctx context.Context, location, which string, s receiptSource) error {
	from, err := a.openArchive(ctx, location, s.archive)
	if err != nil {
		return err
	}
	others, err := a.otherKeys(ctx, s)
	if err != nil {
		return err
	}
	shown, err := a.readReceipt(ctx, from, which, others)
	if err != nil {
		return err
	}
	newest, err := from.Head(ctx)
	if err != nil {
		return err
	}
	if s.html != "" {
		if err := a.writePage(s.html, shown); err != nil {
			return err
		}
	}
	result := receiptShown{Receipt: shown.Receipt, Notes: append([]string{}, hidden("the receipt", shown.Receipt.Seq, newest)...)}
	for _, k := range shown.Keys {
		result.Keys = append(result.Keys, keyShown{k.Name, k.Key.ID(), !k.Void})
	}
	return a.answer(result, func(w io.Writer) { printReceipt(w, result) })
}

// readReceipt reads the receipt with a number, or one in a file.
func (a *app) readReceipt(ctx context.Context, from *opened, which string, others []manifest.PublicKey) (page.Receipt, error) {
	list, _, err := from.readReceipts(ctx, func(snapshot.ReceiptEntry) {})
	if err != nil {
		return page.Receipt{}, err
	}
	number, notNumber := strconv.ParseInt(which, 10, 64)
	if notNumber == nil {
		e, err := from.Receipt(ctx, number)
		if err != nil {
			return page.Receipt{}, err
		}
		return a.openReceipt(e.Sealed, from.Policy, list.after(number), others...)
	}
	return a.openReceiptFile(which, from, list, others)
}

// openReceiptFile opens a receipt somebody kept, with the receipts of the archive.
func (a *app) openReceiptFile(path string, from *opened, list receiptList, others []manifest.PublicKey) (page.Receipt, error) {
	sealed, err := readReceiptFile(path)
	if err != nil {
		return page.Receipt{}, err
	}
	shown, err := a.openReceipt(sealed, from.Policy, 0, others...)
	if err == nil && shown.Receipt.Number > 0 {
		shown, err = a.openReceipt(sealed, from.Policy, list.after(shown.Receipt.Number), others...)
	}
	if err != nil {
		return shown, strange(path, err)
	}
	return shown, nil
}

// strange says what to do about a receipt nobody who is known has signed.
func strange(which string, err error) error {
	return advise(fmt.Errorf("%s: %w", which, err), "if somebody signed it whom the archive's policy does not name, give their public key: --key PUB")
}

func readReceiptFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, manifest.MaxReceipt+1))
}

func (a *app) writePage(path string, shown page.Receipt) error {
	out, err := a.output(path)
	if err != nil {
		return err
	}
	defer out.discard()
	if err := shown.Write(out); err != nil {
		return err
	}
	return out.keep()
}

func printReceipt(w io.Writer, s receiptShown) {
	r := s.Receipt
	if r.Number > 0 {
		fmt.Fprintf(w, "number      %d, after %d\n", r.Number, r.Before)
	}
	fmt.Fprintf(w, "archive id  %s\n", r.Archive)
	fmt.Fprintf(w, "done        %s, exit code %d\n", r.Kind, r.Exit)
	fmt.Fprintf(w, "window      %s to %s\n", r.Started.Format(time.RFC3339), r.Finished.Format(time.RFC3339))
	fmt.Fprintf(w, "by          %s on %s\n", console.Quote(r.User), console.Quote(r.Host))
	fmt.Fprintf(w, "with        %s\n", console.Printable(r.Tool+" ("+r.Build+")"))
	fmt.Fprintf(w, "program     sha256:%s\n", r.Program)
	fmt.Fprintf(w, "newest      snapshot %d, manifest sha256:%s\n", r.Seq, r.Digest)
	fmt.Fprintf(w, "policy      version %d, sha256:%s\n", r.Version, r.Policy)
	for _, k := range s.Keys {
		name := "a key the policy does not name"
		if k.Name != "" {
			name = console.Quote(k.Name)
		}
		void := ""
		if !k.Counts {
			void = ", does not count"
		}
		fmt.Fprintf(w, "signed by   %s, sha256:%s%s\n", name, k.ID, void)
	}
	for _, anchor := range r.Anchors {
		fmt.Fprintf(w, "held to     %s: snapshot %d, sha256:%s\n", console.Printable(anchor.Source), anchor.Seq, anchor.Digest)
	}
	report := reportOf(r)
	for _, line := range report.Coverage {
		fmt.Fprintf(w, "covered     %s\n", console.Printable(line))
	}
	for _, line := range report.Problems {
		fmt.Fprintf(w, "problem     %s\n", console.Printable(line))
	}
	for _, line := range append(report.Notes, s.Notes...) {
		fmt.Fprintf(w, "note: %s\n", console.Printable(line))
	}
}

func (a *app) receiptsCheckCommand() *cobra.Command {
	var s receiptSource
	cmd := &cobra.Command{
		Use:   "check ARCHIVE [FILE...]",
		Short: "Check the receipts in an archive, and those you keep",
		Long: `Check the receipts in an archive: the signatures of each, that none between two of
them was removed or replaced, and that the archive still has the snapshot each
names as its newest. So they are a memory of the archive: a snapshot that was
removed shows, also to who never saw it.

Receipts in FILEs are checked likewise, and those that were put into the archive
must still be there.`,
		Example: `  otsnap receipts check /backup/shop
  otsnap receipts check /backup/shop audit-2026.json audit-2027.json --key auditor.pem.pub`,
		Args: func(cmd *cobra.Command, args []string) error {
			return arguments([]string{"ARCHIVE"}, len(args))(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.receiptsCheck(cmd.Context(), args[0], args[1:], s)
		},
	}
	s.add(cmd)
	return cmd
}

// receiptsChecked is what receipts check tells.
type receiptsChecked struct {
	Archive  manifest.Hash `json:"archive"`
	Receipts int           `json:"receipts"` // in the archive, that count
	Files    int           `json:"files"`    // that are good
	Newest   int64         `json:"newest"`   // number of the newest receipt; 0: there is none
	Notes    []string      `json:"notes"`
	Problems []string      `json:"problems"`
}

func (a *app) receiptsCheck(ctx context.Context, location string, files []string, s receiptSource) error {
	from, err := a.openArchive(ctx, location, s.archive)
	if err != nil {
		return err
	}
	others, err := a.otherKeys(ctx, s)
	if err != nil {
		return err
	}
	chain, err := from.Chain(ctx)
	if err != nil {
		return err
	}
	var wrongHeads []error
	list, problems, err := from.readReceipts(ctx, func(e snapshot.ReceiptEntry) {
		wrongHeads = append(wrongHeads, headIn(chain, manifest.ReceiptName(e.Number), e.Receipt))
	})
	if err != nil {
		return err
	}
	checked := receiptsChecked{Archive: list.Archive, Receipts: len(list.Receipts), Notes: list.Notes, Problems: []string{}}
	if len(list.Receipts) > 0 {
		checked.Newest = list.Receipts[len(list.Receipts)-1].Number
	}
	problems = append(wrongHeads, problems...)
	for _, file := range files {
		err := a.checkReceiptFile(file, from, chain, list, others)
		if err == nil {
			checked.Files++
		}
		problems = append(problems, err)
	}
	err = errors.Join(problems...)
	if err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			checked.Problems = append(checked.Problems, sentence(line))
		}
	}
	told := a.answer(checked, func(w io.Writer) { printChecked(w, checked) })
	if err == nil && len(chain) > 0 {
		from.remember(chain[len(chain)-1])
	}
	return errors.Join(err, told)
}

// headIn checks that the archive has the manifest a receipt names.
func headIn(chain []snapshot.Entry, name string, r *manifest.Receipt) error {
	switch {
	case r.Seq > int64(len(chain)):
		return fmt.Errorf("%s names snapshot %d, and the archive ends at %d: something is hidden or deleted: %w", name, r.Seq, len(chain), manifest.ErrRollback)
	case r.Seq > 0 && chain[r.Seq-1].Digest != r.Digest:
		return fmt.Errorf("%s names manifest %s of snapshot %d, and the archive has %s: it was forked: %w", name, r.Digest, r.Seq, chain[r.Seq-1].Digest, manifest.ErrRollback)
	}
	return nil
}

// checkReceiptFile checks a receipt somebody kept.
func (a *app) checkReceiptFile(path string, from *opened, chain []snapshot.Entry, list receiptList, others []manifest.PublicKey) error {
	shown, err := a.openReceiptFile(path, from, list, others)
	if err != nil {
		return err
	}
	r := shown.Receipt
	if err := headIn(chain, path, r); err != nil {
		return err
	}
	i := slices.IndexFunc(list.Receipts, func(l receiptLine) bool { return l.Number == r.Number })
	switch {
	case r.Number == 0 || i >= 0 && list.Receipts[i].Object == manifest.Sum(shown.Sealed):
		return nil
	case i >= 0:
		return fmt.Errorf("%s is receipt %d, and the archive has another one: %w", path, r.Number, manifest.ErrRollback)
	}
	return fmt.Errorf("%s is receipt %d, and the archive has none with that number: it was removed: %w", path, r.Number, manifest.ErrRollback)
}

func printChecked(w io.Writer, c receiptsChecked) {
	for _, n := range c.Notes {
		fmt.Fprintf(w, "note: %s\n", console.Printable(n))
	}
	if len(c.Problems) > 0 {
		fmt.Fprintf(w, "NOT good: %s\n", console.Count(len(c.Problems), "problem"))
		return
	}
	fmt.Fprintf(w, "checked: %s in the archive, the newest number %d, and %s\n", console.Count(c.Receipts, "receipt"), c.Newest, console.Count(c.Files, "file"))
	fmt.Fprintln(w, "none between them was removed or replaced, and the archive has every snapshot they name; whether newer receipts were removed, only who holds one can tell")
}
