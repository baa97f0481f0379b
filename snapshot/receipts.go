package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// receiptFetchers is how many receipts are read at once. They are large at worst.
const receiptFetchers = 8

// ReceiptEntry is an object among the receipts of an archive.
type ReceiptEntry struct {
	Number  int64             // the one in its name
	Digest  manifest.Hash     // of the object; zero if it could not be read as one
	Sealed  []byte            // its bytes
	Receipt *manifest.Receipt // nil: it is no receipt of the archive, as Wrong says, and counts for nothing
	Keys    []string          // names of the keys of the policy that signed it
	Wrong   error             // of a receipt: one before it was removed, replaced or left out; manifest.ErrRollback
}

// Receipts reads the archive's receipts in the order of their numbers, and holds each
// against the ones before it. An error says that they cannot be read, and ends the
// sequence; what is wrong with one is in its entry. That the newest were removed does
// not show: whoever holds a receipt with a higher number knows.
func (a *Archive) Receipts(ctx context.Context) iter.Seq2[ReceiptEntry, error] {
	return func(yield func(ReceiptEntry, error) bool) {
		numbers, err := a.receiptNumbers(ctx)
		if err != nil {
			yield(ReceiptEntry{}, err)
			return
		}
		chain := manifest.NewReceiptChain(a.Policy)
		for some := range slices.Chunk(numbers, receiptFetchers) {
			entries, err := a.receipts(ctx, some)
			if err != nil {
				yield(ReceiptEntry{}, err)
				return
			}
			for _, e := range entries {
				if e.Wrong == nil {
					e.Receipt, e.Keys, e.Wrong = chain.Add(e.Number, e.Sealed)
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// receiptNumbers lists the numbers that have an object, whatever it is.
func (a *Archive) receiptNumbers(ctx context.Context) ([]int64, error) {
	var numbers []int64
	for object, err := range a.Store.List(ctx, manifest.ReceiptFolder+"/") {
		if err != nil {
			return nil, fmt.Errorf("snapshot: list receipts: %w", err)
		}
		if n, ok := manifest.ParseReceiptName(object.Name); ok {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

// receipts reads the objects with these numbers at once.
func (a *Archive) receipts(ctx context.Context, numbers []int64) ([]ReceiptEntry, error) {
	entries := make([]ReceiptEntry, len(numbers))
	group, within := errgroup.WithContext(ctx)
	for i, n := range numbers {
		group.Go(func() (err error) {
			entries[i], err = a.receipt(within, n)
			return err
		})
	}
	return entries, group.Wait()
}

// receipt reads the object with that number. One that is too large, or was removed since
// it was listed, is no receipt; not being able to read it is an error.
func (a *Archive) receipt(ctx context.Context, number int64) (ReceiptEntry, error) {
	e := ReceiptEntry{Number: number}
	name := manifest.ReceiptName(number)
	sealed, err := archive.ReadAll(ctx, a.Store, name, manifest.MaxReceipt)
	switch {
	case isNotExist(err), errors.Is(err, manifest.ErrLimit):
		e.Wrong = missing(name, err)
	case err != nil:
		return e, fmt.Errorf("snapshot: receipts: %w", err)
	default:
		e.Sealed, e.Digest = sealed, manifest.Sum(sealed)
	}
	return e, nil
}

// Head returns the newest manifest of which it and all before it are good, a zero Entry
// where there is none. What an anchor says does not matter for it, nor what is wrong
// after it: [Archive.Chain] is for that.
func (a *Archive) Head(ctx context.Context) (Entry, error) {
	newest, err := a.newest(ctx)
	if err != nil && !errors.Is(err, ErrMissing) {
		return Entry{}, err
	}
	entries, err := a.read(ctx, newest)
	if err != nil && !IsVerdict(err) {
		return Entry{}, err
	}
	if len(entries) == 0 {
		return Entry{}, nil
	}
	return entries[len(entries)-1], nil
}

// IsVerdict reports whether an error says something of an archive or of tables, and not
// that they could not be looked at.
func IsVerdict(err error) bool {
	for _, noVerdict := range []error{archive.ErrUnavailable, ErrUnavailable, archive.ErrFrozen, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, noVerdict) {
			return false
		}
	}
	for _, verdict := range []error{
		manifest.ErrUntrusted, manifest.ErrRollback, manifest.ErrInvalid, manifest.ErrFormat, manifest.ErrLimit,
		archive.ErrCorrupt, ErrMissing, ErrWeaker, ErrShadowed, ErrDiffers,
	} {
		if errors.Is(err, verdict) {
			return true
		}
	}
	return false
}

// About fills in of which archive a receipt is, and where that ends now.
func (a *Archive) About(ctx context.Context, r *manifest.Receipt) error {
	head, err := a.Head(ctx)
	if err != nil {
		return err
	}
	r.Format, r.Archive, r.Version, r.Policy = manifest.Format, a.Policy.ID(), a.Policy.Version, a.Policy.Digest()
	r.Seq, r.Digest = 0, manifest.Hash{}
	if head.Manifest != nil {
		r.Seq, r.Digest = head.Manifest.Seq, head.Digest
	}
	return nil
}

// AppendReceipt signs r as the next of the archive's receipts and puts it there, locked as
// the archive's own objects are. It sets the members of r that are about the archive, and
// its place. Nobody's signature that counts is among the signers': ErrWish, and then
// nothing is put.
//
// However many receipts there are, only the newest is read, unless it depends on those
// before it whether that counts: then all are. Objects under later numbers that are none
// or do not count are passed over, manifest.MaxTries of them at most.
func (a *Archive) AppendReceipt(ctx context.Context, r manifest.Receipt, now time.Time, signers ...manifest.Signer) (ReceiptEntry, error) {
	e, err := a.appendReceipt(ctx, r, now, signers)
	if err != nil {
		return ReceiptEntry{}, fmt.Errorf("snapshot: receipt: %w", err)
	}
	return e, nil
}

func (a *Archive) appendReceipt(ctx context.Context, r manifest.Receipt, now time.Time, signers []manifest.Signer) (ReceiptEntry, error) {
	if err := a.renewed(ctx); err != nil {
		return ReceiptEntry{}, err
	}
	if err := a.About(ctx, &r); err != nil {
		return ReceiptEntry{}, err
	}
	if err := a.MayRecord(r.Seq, signers...); err != nil {
		return ReceiptEntry{}, err
	}
	last, junk, err := a.lastReceipt(ctx)
	if err != nil {
		return ReceiptEntry{}, err
	}
	r.Number = last.Number
	for range manifest.MaxTries {
		if r.Number++; junk[r.Number] {
			continue
		}
		r.Before, r.Prev = last.Number, last.Digest
		put, err := a.putReceipt(ctx, r, last.seq(), now, signers)
		if !errors.Is(err, fs.ErrExist) {
			return put, err
		}
		if last, junk, err = a.lastReceipt(ctx); err != nil { // somebody was quicker, or it is junk
			return ReceiptEntry{}, err
		}
		r.Number = max(r.Number, last.Number)
	}
	return ReceiptEntry{}, fmt.Errorf("the names after %s are taken up to %s, by what is no receipt: %w",
		manifest.ReceiptName(last.Number), manifest.ReceiptName(r.Number), manifest.ErrLimit)
}

// MayRecord reports whether the archive's chain of receipts takes one that these sign,
// after manifest seq: if not, the error is ErrWish.
func (a *Archive) MayRecord(seq int64, signers ...manifest.Signer) error {
	if slices.ContainsFunc(signers, func(s manifest.Signer) bool { return a.Policy.MayReport(s.Key(), seq) }) {
		return nil
	}
	return fmt.Errorf("snapshot: a receipt in the archive must be signed by a key of its policy that is not revoked; none of the %d given is one: %w", len(signers), ErrWish)
}

// putReceipt signs and puts one, after a receipt that names manifest seq.
func (a *Archive) putReceipt(ctx context.Context, r manifest.Receipt, seq int64, now time.Time, signers []manifest.Signer) (ReceiptEntry, error) {
	sealed, err := manifest.SealReceipt(ctx, &r, signers...)
	if err != nil {
		return ReceiptEntry{}, err
	}
	e := ReceiptEntry{Number: r.Number, Digest: manifest.Sum(sealed), Sealed: sealed}
	if !a.isReceipt(&e, seq) {
		return ReceiptEntry{}, fmt.Errorf("receipt %d would not be taken: %w", r.Number, e.Wrong)
	}
	return e, a.putOwn(ctx, manifest.ReceiptName(r.Number), sealed, now)
}

// Receipt reads the receipt with that number, and those before it where it depends on
// them whether it counts; it does not tell what is wrong with them. If there is no object
// with the number, that is fs.ErrNotExist; if there is one that is no receipt of the
// archive, or does not count, the error says why.
func (a *Archive) Receipt(ctx context.Context, number int64) (ReceiptEntry, error) {
	e, err := a.receipt(ctx, number)
	switch {
	case err != nil:
		return ReceiptEntry{}, err
	case errors.Is(e.Wrong, ErrMissing):
		return ReceiptEntry{}, fmt.Errorf("snapshot: there is no %s: %w", manifest.ReceiptName(number), fs.ErrNotExist)
	case a.isReceipt(&e, manifest.MaxSeq):
		return e, nil
	case e.Receipt != nil:
		if e, err = a.inChain(ctx, number); err != nil {
			return ReceiptEntry{}, err
		}
	}
	if e.Receipt == nil {
		return ReceiptEntry{}, fmt.Errorf("snapshot: %s is no receipt of this archive: %w", manifest.ReceiptName(number), e.Wrong)
	}
	e.Wrong = nil
	return e, nil
}

// inChain reads the receipts up to that number, and returns the object with it.
func (a *Archive) inChain(ctx context.Context, number int64) (ReceiptEntry, error) {
	for e, err := range a.Receipts(ctx) {
		if err != nil || e.Number == number {
			return e, err
		}
	}
	return ReceiptEntry{}, fmt.Errorf("snapshot: %s was there, and is not any more: %w", manifest.ReceiptName(number), fs.ErrNotExist)
}

// isReceipt reports whether the object is a receipt with its own number that counts after
// one that names manifest seq, and fills in what it says, or why not. One that would count
// if nothing were before it has both.
func (a *Archive) isReceipt(e *ReceiptEntry, seq int64) bool {
	if e.Wrong != nil {
		return false
	}
	if e.Receipt, e.Keys, e.Wrong = manifest.OpenReceipt(e.Sealed, a.Policy); e.Wrong != nil {
		return false
	}
	if e.Receipt.Number != e.Number {
		e.Wrong = fmt.Errorf("it holds receipt %d: %w", e.Receipt.Number, manifest.ErrInvalid)
		e.Receipt = nil
		return false
	}
	_, e.Keys, e.Wrong = manifest.OpenReceiptAfter(e.Sealed, a.Policy, seq)
	return e.Wrong == nil
}

// seq is the number of the manifest that it names, 0 of none.
func (e ReceiptEntry) seq() int64 {
	if e.Receipt == nil {
		return 0
	}
	return e.Receipt.Seq
}

// lastReceipt returns the newest receipt that counts, a zero entry where there is none,
// and the numbers after it that have an object.
func (a *Archive) lastReceipt(ctx context.Context) (last ReceiptEntry, junk map[int64]bool, err error) {
	numbers, err := a.receiptNumbers(ctx)
	if err != nil {
		return ReceiptEntry{}, nil, err
	}
	junk = map[int64]bool{}
	good := int64(-1) // number of the newest that counts; -1: not known
	for _, n := range slices.Backward(numbers) {
		e, err := a.receipt(ctx, n)
		if err != nil || a.isReceipt(&e, manifest.MaxSeq) {
			return e, junk, err
		}
		if e.Receipt != nil && good < 0 { // by a key that counted once
			if good, err = a.lastInChain(ctx); err != nil {
				return ReceiptEntry{}, nil, err
			}
		}
		if n == good {
			e.Wrong = nil
			return e, junk, nil
		}
		if junk[n] = true; len(junk) > manifest.MaxTries {
			return ReceiptEntry{}, nil, fmt.Errorf("the newest %d objects under %s/ are no receipts that count: %w", len(junk), manifest.ReceiptFolder, manifest.ErrLimit)
		}
	}
	return ReceiptEntry{}, junk, nil
}

// lastInChain is the number of the newest receipt that counts, 0 where there is none, by
// reading all of them.
func (a *Archive) lastInChain(ctx context.Context) (number int64, err error) {
	for e, err := range a.Receipts(ctx) {
		if err != nil {
			return 0, err
		}
		if e.Receipt != nil {
			number = e.Number
		}
	}
	return number, nil
}
