package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/spf13/cobra"
)

// bucketLockOptions are the flags of lock bucket.
type bucketLockOptions struct {
	retryFlag
	create, extend  int
	complete, abort bool
	yes             bool
}

func (a *app) bucketLockCommand() *cobra.Command {
	var o bucketLockOptions
	cmd := &cobra.Command{
		Use:   "bucket ARCHIVE",
		Short: "Show, begin, complete or extend the retention policy of an OSS bucket",
		Long: `Show, begin, complete or extend the retention policy (WORM) of an OSS bucket.

It holds for EVERY object in the bucket, also those that are no archive: nobody can
remove or change one for that many days after it was last modified.
  --create DAYS  begins it. It is void 24 hours later unless it is completed, and
                 until then can be taken back with --abort.
  --complete     makes it final. From then on nobody can take it back, shorten it or
                 delete the bucket, Alibaba Cloud's support included. Asks for --yes.
  --extend DAYS  makes a final one longer. Asks for --yes.
Without these it is shown. S3 locks objects one by one: see otsnap lock extend.`,
		Example: `  otsnap lock bucket 'oss://backup/shop?region=cn-hangzhou'
  otsnap lock bucket 'oss://backup/shop?region=cn-hangzhou' --create 2557
  otsnap lock bucket 'oss://backup/shop?region=cn-hangzhou' --complete --yes`,
		Args: arguments([]string{"ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error { return a.bucketLock(cmd, args[0], o) },
	}
	o.retryFlag.add(cmd)
	cmd.Flags().IntVar(&o.create, "create", 0, "begin to retain objects for so many `DAYS`")
	cmd.Flags().BoolVar(&o.complete, "complete", false, "make it final")
	cmd.Flags().IntVar(&o.extend, "extend", 0, "make a final one as long as so many `DAYS`")
	cmd.Flags().BoolVar(&o.abort, "abort", false, "take back one that is not final")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do what cannot be undone")
	return cmd
}

func (a *app) bucketLock(cmd *cobra.Command, location string, o bucketLockOptions) error {
	for flag, days := range map[string]int{"create": o.create, "extend": o.extend} {
		if cmd.Flags().Changed(flag) && days < 1 {
			return usage(cmd, "--%s %d: at least a day", flag, days)
		}
	}
	chosen := 0
	for _, flag := range []string{"create", "complete", "extend", "abort"} {
		if cmd.Flags().Changed(flag) {
			chosen++
		}
	}
	if chosen > 1 {
		return usage(cmd, "one thing at a time: --create, --complete, --extend or --abort")
	}
	if (o.complete || o.extend > 0) && !o.yes {
		return advise(usage(cmd, "this cannot be undone, by anybody"), "say --yes if every object in the bucket, of the archive or not, is to stay that long")
	}
	where, err := locate(location)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	store, err := where.open(ctx, storeOptions{giveUpAfter: o.giveUpAfter.Duration, onRetry: a.retried})
	if err != nil {
		return err
	}
	locker, ok := store.(archive.BucketLocker)
	if !ok {
		return advise(fmt.Errorf("%s: only OSS retains by bucket", where.name), "%s", elsewhere(where.kind))
	}
	if err := o.apply(ctx, locker); err != nil {
		return fmt.Errorf("%s: %w", where.name, err)
	}
	lock, err := locker.BucketLock(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", where.name, err)
	}
	return a.answer(newBucketLockResult(lock), func(w io.Writer) { printBucketLock(w, location, lock) })
}

// elsewhere says how objects are retained where it is not by bucket.
func elsewhere(kind string) string {
	if kind == "s3" {
		return "S3 locks objects one by one: otsnap init and export with --retain and --lock, otsnap lock extend"
	}
	return "a directory cannot be locked; copy the archive to a bucket: otsnap copy --help"
}

func (o bucketLockOptions) apply(ctx context.Context, locker archive.BucketLocker) error {
	switch {
	case o.create > 0:
		_, err := locker.StartBucketLock(ctx, o.create)
		return err
	case o.complete:
		return locker.CompleteBucketLock(ctx)
	case o.extend > 0:
		return locker.ExtendBucketLock(ctx, o.extend)
	case o.abort:
		return locker.AbortBucketLock(ctx)
	}
	return nil
}

// bucketLockResult is a bucket's lock in JSON.
type bucketLockResult struct {
	ID       string `json:"id,omitempty"`
	State    string `json:"state"` // none, in progress, void or locked
	Days     int    `json:"days"`
	Created  string `json:"created,omitempty"`
	Deadline string `json:"deadline,omitempty"`
}

func newBucketLockResult(l archive.BucketLock) bucketLockResult {
	r := bucketLockResult{ID: l.ID, State: string(l.State), Days: l.Days, Created: moment(l.Created), Deadline: moment(l.Deadline)}
	switch {
	case l.Expired:
		r.State = "void"
	case l.State == archive.BucketUnlocked:
		r.State = "none"
	}
	return r
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func printBucketLock(w io.Writer, location string, l archive.BucketLock) {
	switch {
	case l.Expired:
		fmt.Fprintf(w, "bucket lock  void: it was begun %s and not completed within 24 hours. Nothing is retained.\n", moment(l.Created))
	case l.State == archive.BucketUnlocked:
		fmt.Fprintln(w, "bucket lock  none: the bucket retains nothing")
	case l.State == archive.BucketOpen:
		fmt.Fprintf(w, "bucket lock  in progress, %s, begun %s\n", console.Count(l.Days, "day"), moment(l.Created))
		fmt.Fprintf(w, "deadline     %s: from then on it is void, unless it is made final by\n", moment(l.Deadline))
		fmt.Fprintf(w, "             otsnap lock bucket %s --complete --yes\n", quoted(location))
	default:
		fmt.Fprintf(w, "bucket lock  locked: every object stays for %s after its last modification\n", console.Count(l.Days, "day"))
		fmt.Fprintf(w, "created      %s\n", moment(l.Created))
	}
}
