package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/otsnap/otsnap/archive"
)

// locking is what a bucket can do about locks.
type locking struct {
	state  archive.State
	mode   archive.Mode // of objects put without a lock
	period archive.Period
}

func (s *Store) bucketLocking(ctx context.Context) (locking, error) {
	return s.locking.get(func() (locking, error) {
		var out *s3.GetObjectLockConfigurationOutput
		err := s.do(ctx, "s3:GetBucketObjectLockConfiguration", func(o func(*s3.Options)) (err error) {
			out, err = s.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &s.config.Bucket}, o)
			return err
		})
		switch {
		case denied(err), code(err) == "InvalidArgument", code(err) == "InvalidRequest":
			return locking{state: archive.Unknown}, nil
		case err != nil && (unsupported(err) || code(err) == "ObjectLockConfigurationNotFoundError" || code(err) == "NoSuchObjectLockConfiguration"):
			return locking{state: archive.Absent}, nil
		case err != nil:
			return locking{}, err
		case out.ObjectLockConfiguration == nil || out.ObjectLockConfiguration.ObjectLockEnabled != types.ObjectLockEnabledEnabled:
			return locking{state: archive.Absent}, nil
		}
		l := locking{state: archive.Supported}
		if rule := out.ObjectLockConfiguration.Rule; rule != nil && rule.DefaultRetention != nil {
			l.mode, _ = archive.ParseMode(string(rule.DefaultRetention.Mode))
			l.period = archive.Period{Years: int(aws.ToInt32(rule.DefaultRetention.Years)), Days: int(aws.ToInt32(rule.DefaultRetention.Days))}
		}
		return l, nil
	})
}

// DefaultLock is the default retention of the bucket.
func (s *Store) DefaultLock(ctx context.Context) (archive.Mode, archive.Period, error) {
	l, err := s.bucketLocking(ctx)
	if err == nil && l.state == archive.Unknown {
		err = errors.New("the server does not tell; if it has locks, the credentials need the right s3:GetBucketObjectLockConfiguration")
	}
	if err != nil {
		return archive.Unlocked, archive.Period{}, s.failed(ctx, "read the default lock of bucket", s.config.Bucket, err)
	}
	return l.mode, l.period, nil
}

// retention asks for the retention of an object of which HEAD shows none: some
// servers show one there alone, and AWS only to those with the right to ask.
func (s *Store) retention(ctx context.Context, key, version string, lock *archive.Lock) error {
	bucket, err := s.bucketLocking(ctx)
	if err != nil || bucket.state == archive.Absent {
		return err
	}
	var out *s3.GetObjectRetentionOutput
	err = s.do(ctx, "s3:GetObjectRetention", func(o func(*s3.Options)) (err error) {
		out, err = s.client.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: &s.config.Bucket, Key: &key, VersionId: optional(version)}, o)
		return err
	})
	switch {
	case err == nil && out.Retention != nil:
		found := lockOf(string(out.Retention.Mode), out.Retention.RetainUntilDate)
		lock.Mode, lock.Until = found.Mode, found.Until
		return nil
	case err == nil, unlocked(err), denied(err) && bucket.state == archive.Unknown:
		return nil
	}
	return err
}

// unlocked reports whether err says that an object has no lock.
func unlocked(err error) bool {
	switch code(err) {
	case "NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError":
		return true
	}
	return unsupported(err) || noLocks(err)
}

// noLocks reports whether err says that the bucket was made without locks.
func noLocks(err error) bool {
	text := strings.ToLower(err.Error())
	return code(err) == "InvalidBucketObjectLockConfiguration" ||
		code(err) == "InvalidRequest" && (strings.Contains(text, "object lock") || strings.Contains(text, "objectlock"))
}

// retains reports whether a lock keeps an object now.
func retains(l archive.Lock) bool {
	return l.Hold || l.Mode != archive.Unlocked && l.Until.After(time.Now())
}

func lockedError(l archive.Lock) error { return fmt.Errorf("%w: %s", archive.ErrLocked, describe(l)) }

// lockedOr is the error of a removal: a locked object's only where the object is
// seen to be locked or the server says so, since without a right it is refused
// all the same.
func (s *Store) lockedOr(ctx context.Context, key, version string, err error) error {
	refused := denied(err) || code(err) == "InvalidRequest" || code(err) == "ObjectLocked" || code(err) == "MethodNotAllowed"
	if !refused {
		return err
	}
	if info, headErr := s.head(ctx, key, version); headErr == nil && retains(info.Lock) {
		return lockedError(info.Lock)
	}
	text := strings.ToLower(err.Error())
	if strings.Contains(text, "worm") || strings.Contains(text, "object lock") || strings.Contains(text, "objectlock") || strings.Contains(text, "retention") || code(err) == "ObjectLocked" {
		return fmt.Errorf("%w: %w", archive.ErrLocked, err)
	}
	return err
}

// Lock extends the retention of an object, or makes it firmer.
func (s *Store) Lock(ctx context.Context, name string, lock archive.Lock) error {
	if err := s.lock(ctx, name, lock); err != nil {
		return s.failed(ctx, "lock", name, err)
	}
	return nil
}

func (s *Store) lock(ctx context.Context, name string, lock archive.Lock) error {
	info, err := s.inspect(ctx, name)
	if err != nil {
		return err
	}
	lock.Hold = false
	if info.Lock.Covers(lock) {
		return nil
	}
	target := stronger(info.Lock, lock)
	key := s.config.key(name)
	// Only from governance to compliance does a lock have to be lifted.
	lift := info.Lock.Mode == archive.Governance && target.Mode == archive.Compliance
	err = s.putRetention(ctx, key, info.Version, target, false)
	if lift && retained(err) {
		err = s.putRetention(ctx, key, info.Version, target, true)
	}
	if lift && retained(err) {
		return fmt.Errorf("%w: it is locked in governance mode, which only the right s3:BypassGovernanceRetention lifts, also to lock it more firmly: %w", err, archive.ErrLocked)
	}
	if err != nil {
		return err
	}
	info, err = s.head(ctx, key, info.Version)
	if err != nil {
		return err
	}
	if !info.Lock.Covers(target) {
		return fmt.Errorf("asked for a lock of %s, the server has %s: %w", describe(target), describe(info.Lock), errors.ErrUnsupported)
	}
	return nil
}

// retained reports whether err is how servers refuse to touch what is locked:
// MinIO says InvalidRequest, others AccessDenied.
func retained(err error) bool {
	return denied(err) || code(err) == "InvalidRequest" || code(err) == "ObjectLocked"
}

// stronger is a lock that covers both. One that is past its date keeps nothing.
func stronger(now, asked archive.Lock) archive.Lock {
	if !retains(archive.Lock{Mode: now.Mode, Until: now.Until}) {
		return archive.Lock{Mode: asked.Mode, Until: asked.Until}
	}
	target := archive.Lock{Mode: now.Mode, Until: now.Until}
	if asked.Mode.Covers(now.Mode) {
		target.Mode = asked.Mode
	}
	if asked.Until.After(now.Until) {
		target.Until = asked.Until
	}
	return target
}

func (s *Store) putRetention(ctx context.Context, key, version string, lock archive.Lock, bypass bool) error {
	right := "s3:PutObjectRetention"
	if bypass {
		right += " and s3:BypassGovernanceRetention"
	}
	err := s.do(ctx, right, func(o func(*s3.Options)) error {
		in := &s3.PutObjectRetentionInput{
			Bucket: &s.config.Bucket, Key: &key, VersionId: optional(version), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
			Retention: &types.ObjectLockRetention{
				Mode: types.ObjectLockRetentionMode(strings.ToUpper(string(lock.Mode))), RetainUntilDate: aws.Time(lock.Until.UTC()),
			},
		}
		if bypass {
			in.BypassGovernanceRetention = aws.Bool(true)
		}
		_, err := s.client.PutObjectRetention(ctx, in, o)
		return err
	})
	return s.lockRefused(ctx, right, err)
}

// lockRefused is the error of a request about locks.
func (s *Store) lockRefused(ctx context.Context, right string, err error) error {
	if err != nil && unlocked(err) {
		return fmt.Errorf("bucket %s was made without object lock, so nothing in it can be locked: %w: %w", s.config.Bucket, err, errors.ErrUnsupported)
	}
	return s.absent(ctx, right, err)
}

// Hold puts a legal hold on an object, or takes it off.
func (s *Store) Hold(ctx context.Context, name string, on bool) error {
	if err := s.hold(ctx, name, on); err != nil {
		return s.failed(ctx, "hold", name, err)
	}
	return nil
}

func (s *Store) hold(ctx context.Context, name string, on bool) error {
	info, err := s.inspect(ctx, name)
	if err != nil || info.Lock.Hold == on && on {
		return err
	}
	key := s.config.key(name)
	if err := s.putHold(ctx, key, info.Version, on); err != nil {
		return err
	}
	info, err = s.head(ctx, key, info.Version)
	if err == nil && info.Lock.Hold != on {
		return fmt.Errorf("the server took the request and did not change the legal hold: %w", errors.ErrUnsupported)
	}
	return err
}

func (s *Store) putHold(ctx context.Context, key, version string, on bool) error {
	state := types.ObjectLockLegalHoldStatusOff
	if on {
		state = types.ObjectLockLegalHoldStatusOn
	}
	err := s.do(ctx, "s3:PutObjectLegalHold", func(o func(*s3.Options)) error {
		_, err := s.client.PutObjectLegalHold(ctx, &s3.PutObjectLegalHoldInput{
			Bucket: &s.config.Bucket, Key: &key, VersionId: optional(version), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
			LegalHold: &types.ObjectLockLegalHold{Status: state},
		}, o)
		return err
	})
	return s.lockRefused(ctx, "s3:PutObjectLegalHold", err)
}
