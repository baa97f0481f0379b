package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/rfc3161"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// timestampOptions are the flags of timestamp.
type timestampOptions struct {
	archive  archiveFlags
	snapshot string
	tsas     []string
	ca       caFlag
}

func (a *app) timestampCommand() *cobra.Command {
	var o timestampOptions
	cmd := &cobra.Command{
		Use:   "timestamp ARCHIVE --tsa URL",
		Short: "Have a time-stamping authority say when a snapshot was there",
		Long: `Have a time-stamping authority (TSA, RFC 3161) say when a snapshot was there, and
keep what it says in the archive. The TSA gets the SHA-256 of the manifest and nothing
else. Whoever steals keys later can sign other snapshots, and have none that was there
before. One time stamp covers all earlier snapshots, which the manifest names through
the chain, so one over the newest is enough.

The answer is checked before it is kept: its signature, that it is about this
manifest and this request, and that the TSA's certificate is for time stamps and
leads to one in the --tsa-ca file. Without that file the answer is checked against
nothing but itself. Several --tsa are tried in order; the first that answers well wins.

Time stamps are read by otsnap verify --tsa-ca FILE, and by openssl. Readers ask for
them by --require timestamp: otsnap verify, restore, compare and cat then refuse what
has no proven time. A certificate that has expired since is as good for otsnap;
openssl wants to be told as of when, by -attime and the seconds since 1970.`,
		Example: `  otsnap timestamp /backup/shop --tsa http://tsa.example.org/tsr --tsa-ca tsa-ca.pem
  otsnap timestamp 's3://BUCKET/shop?region=eu-central-1' --tsa https://one.example/ --tsa http://two.example/ --tsa-ca both.pem
  openssl ts -verify -data manifests/00000017.dsse.json -in timestamps/00000017-1.tsr -CAfile tsa-ca.pem`,
		Args: arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.tsas) == 0 {
				return usage(cmd, "--tsa URL is missing: the address of a time-stamping authority")
			}
			return a.timestamp(cmd.Context(), args[0], o)
		},
	}
	o.archive.add(cmd)
	addSnapshotFlag(cmd, &o.snapshot, "the newest")
	cmd.Flags().StringArrayVar(&o.tsas, "tsa", nil, "`URL` of a time-stamping authority, http or https; may be repeated")
	o.ca.add(cmd, "the answer has to lead to")
	return cmd
}

// caFlag names a file with the certificates of who vouches for TSAs.
type caFlag string

func (f *caFlag) add(cmd *cobra.Command, which string) {
	cmd.Flags().StringVar((*string)(f), "tsa-ca", "", "`FILE` with certificates in PEM, one of which "+which)
}

// roots reads the file; nil where none is named.
func (f caFlag) roots() (*x509.CertPool, error) {
	if f == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(string(f))
	if err != nil {
		return nil, misused("--tsa-ca: %w", err)
	}
	roots, err := rfc3161.ReadRoots(pem)
	if err != nil {
		return nil, advise(misused("--tsa-ca %s: %w", f, err), "the TSA publishes the certificate of its root; in DER, turn it into PEM by: openssl x509 -inform DER")
	}
	return roots, nil
}

// timestampResult is what timestamp tells.
type timestampResult struct {
	Archive  manifest.Hash `json:"archive"`
	Seq      int64         `json:"seq"`
	Snapshot string        `json:"snapshot"`
	Digest   manifest.Hash `json:"digest"` // of the manifest's object: what was stamped
	Object   string        `json:"object"` // name of the time stamp
	URL      string        `json:"url"`
	Vouched  bool          `json:"vouched"` // the TSA's certificate leads to one in --tsa-ca
	snapshot.Stamp
	OpenSSL string `json:"openssl"` // a command that checks it
}

func (a *app) timestamp(ctx context.Context, location string, o timestampOptions) error {
	for _, address := range o.tsas {
		if err := rfc3161.CheckURL(address); err != nil {
			return misused("--tsa: %w", err)
		}
	}
	roots, err := o.ca.roots()
	if err != nil {
		return err
	}
	from, err := a.openArchive(ctx, location, o.archive)
	if err != nil {
		return err
	}
	e, err := from.Find(ctx, o.snapshot)
	if err != nil {
		return err
	}
	client := rfc3161.Client{Roots: roots, GiveUpAfter: o.archive.giveUpAfter.Duration, OnRetry: a.retried}
	answer, err := client.Stamp(ctx, e.Digest, o.tsas...)
	if err != nil {
		return fmt.Errorf("snapshot %d was not stamped: %w", e.Manifest.Seq, err)
	}
	name, err := from.PutTimestamp(ctx, e.Manifest.Seq, answer.Data, a.now())
	if err != nil {
		return err
	}
	a.compareClocks(answer.Time)
	result := timestampResult{
		Archive: from.Policy.ID(), Seq: e.Manifest.Seq, Snapshot: e.Manifest.Snapshot, Digest: e.Digest, Object: name,
		URL: answer.URL, Vouched: roots != nil, Stamp: stampOf(answer.Stamp), OpenSSL: opensslLine(from.place, e.Manifest.Seq, name, o.ca),
	}
	err = a.answer(result, func(w io.Writer) { printTimestamp(w, result) })
	if err == nil {
		from.rememberNewest(ctx)
	}
	return err
}

// compareClocks warns where one of two clocks must be wrong.
func (a *app) compareClocks(stamped time.Time) {
	if apart := a.now().Sub(stamped).Abs(); apart > 15*time.Minute {
		a.warn("warning: the clock of the TSA and that of this machine are %s apart", console.Duration(apart))
	}
}

// stampOf is a time stamp as reports have it. Parts of a second are rounded up: later
// is less than is proven.
func stampOf(s rfc3161.Stamp) snapshot.Stamp {
	said := snapshot.Stamp{Time: manifest.At(s.Time.Add(time.Second - time.Nanosecond)), TSA: s.TSA, Serial: s.Serial, Policy: s.Policy}
	if s.Accuracy > 0 {
		said.Accuracy = s.Accuracy.String()
	}
	return said
}

// stampCheck is how time stamps are checked against roots; nil: they are not.
func stampCheck(roots *x509.CertPool) snapshot.StampCheck {
	if roots == nil {
		return nil
	}
	return func(data []byte, digest manifest.Hash) (snapshot.Stamp, error) {
		said, err := rfc3161.Check(data, rfc3161.Want{Digest: digest, Roots: roots})
		if err != nil {
			return snapshot.Stamp{}, err
		}
		return stampOf(*said), nil
	}
}

// opensslLine is a command that checks a time stamp: in a bucket, of objects that were
// fetched.
func opensslLine(where place, seq int64, stamp string, ca caFlag) string {
	data := manifest.ManifestName(seq)
	if where.kind == "dir" {
		data, stamp = filepath.Join(where.path, data), filepath.Join(where.path, stamp)
	}
	if ca == "" {
		ca = "tsa-ca.pem"
	}
	return fmt.Sprintf("openssl ts -verify -data %s -in %s -CAfile %s", quoted(data), quoted(stamp), quoted(string(ca)))
}

func printTimestamp(w io.Writer, r timestampResult) {
	fmt.Fprintf(w, "stamped     snapshot %d, %s\n", r.Seq, r.Snapshot)
	fmt.Fprintf(w, "time        %s%s\n", r.Time, within(r.Accuracy))
	fmt.Fprintf(w, "by          %s\n", console.Printable(r.TSA))
	fmt.Fprintf(w, "serial      %s\n", r.Serial)
	fmt.Fprintf(w, "policy      %s\n", r.Policy)
	fmt.Fprintf(w, "object      %s\n", r.Object)
	if r.Vouched {
		fmt.Fprintf(w, "proved: %s there at that time.\n", snapshotsWere(1, r.Seq))
	} else {
		fmt.Fprintln(w, "NOT proved: the answer was checked against nothing but itself, so anybody may have given it. Name who vouches for the TSA by --tsa-ca FILE.")
	}
	fmt.Fprintf(w, "check it by: %s\n", r.OpenSSL)
}

func within(accuracy string) string {
	if accuracy == "" {
		return ""
	}
	return ", give or take " + accuracy
}

// snapshotsWere names some, as the beginning of a sentence.
func snapshotsWere(first, last int64) string {
	if first == last {
		return fmt.Sprintf("snapshot %d was", first)
	}
	return fmt.Sprintf("snapshots %d to %d were", first, last)
}

// printStamps tells when snapshots were there, those of one proof in one line.
func printStamps(w io.Writer, r *snapshot.TimestampReport) {
	for rest := r.Snapshots; len(rest) > 0; {
		n := 1
		for n < len(rest) && sameProof(rest[n].Proof, rest[0].Proof) {
			n++
		}
		were := snapshotsWere(rest[0].Seq, rest[n-1].Seq)
		if p := rest[0].Proof; p != nil {
			fmt.Fprintf(w, "time stamp: %s there at %s%s, by %s, serial %s, over snapshot %d (%s)\n",
				were, p.Time, within(p.Accuracy), console.Printable(p.TSA), p.Serial, p.Over, p.Object)
		} else {
			fmt.Fprintf(w, "time stamp: none proves when %s there\n", were)
		}
		rest = rest[n:]
	}
}

func sameProof(a, b *snapshot.Proof) bool {
	return a == b || a != nil && b != nil && *a == *b
}
