package oss

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive"
)

// Limits of a bucket's lock.
const (
	minDays  = 1
	maxDays  = 25550          // 70 years
	voidness = 24 * time.Hour // after which one that is not complete is void
)

// wormFresh is how long what was learned of the bucket's lock counts.
const wormFresh = time.Minute

// BucketLock returns the retention policy of the bucket (bucket WORM).
func (s *Store) BucketLock(ctx context.Context) (archive.BucketLock, error) {
	lock, err := s.askWorm(ctx)
	return lock, failed(ctx, "lock of bucket", s.config.Bucket, err)
}

func (s *Store) askWorm(ctx context.Context) (archive.BucketLock, error) {
	c := call{method: http.MethodGet, params: map[string]any{"worm": nil}, right: "oss:GetBucketWorm"}
	_, answer, err := s.ask(ctx, c, nil)
	var lock archive.BucketLock
	var r *refusal
	switch {
	case hasCode(err, "NoSuchWORMConfiguration"), errors.As(err, &r) && r.status == http.StatusNotImplemented:
	case err != nil:
		return lock, err
	default:
		if lock, err = readWorm(answer); err != nil {
			return lock, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worm, s.wormAsked = lock, time.Now()
	return lock, nil
}

func readWorm(answer []byte) (archive.BucketLock, error) {
	var told struct {
		XMLName xml.Name `xml:"WormConfiguration"`
		ID      string   `xml:"WormId"`
		State   string
		Days    int    `xml:"RetentionPeriodInDays"`
		Created string `xml:"CreationDate"`
	}
	if err := xml.Unmarshal(answer, &told); err != nil {
		return archive.BucketLock{}, fmt.Errorf("an answer that cannot be read: %w", err)
	}
	created, err := wormTime(told.Created)
	lock := archive.BucketLock{ID: told.ID, Days: told.Days, Created: created}
	switch told.State {
	case "Locked":
		lock.State = archive.BucketLocked
	case "InProgress", "Expired":
		if err != nil {
			return archive.BucketLock{}, fmt.Errorf("the lock is open, and the service does not say since when: %w", err)
		}
		lock.State = archive.BucketOpen
		lock.Deadline = lock.Created.Add(voidness)
		lock.Expired = told.State == "Expired" || !time.Now().Before(lock.Deadline)
	default:
		return archive.BucketLock{}, fmt.Errorf("the lock is in the state %q, which is not known here", told.State)
	}
	return lock, nil
}

// wormTime reads a time, which the service writes with and without a zone.
func wormTime(text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	return time.Parse("2006-01-02T15:04:05", strings.TrimSuffix(text, "Z"))
}

// freshWorm is the bucket's lock as it was a short while ago at most.
func (s *Store) freshWorm(ctx context.Context) (archive.BucketLock, error) {
	s.mu.Lock()
	lock, asked := s.worm, s.wormAsked
	s.mu.Unlock()
	if time.Since(asked) < wormFresh {
		return lock, nil
	}
	lock, err := s.askWorm(ctx)
	if err != nil {
		return lock, fmt.Errorf("lock of the bucket: %w", err)
	}
	return lock, nil
}

// DefaultLock is what the bucket does to every object: if its lock is complete,
// it retains each for a number of days, whoever asks.
func (s *Store) DefaultLock(ctx context.Context) (archive.Mode, archive.Period, error) {
	lock, err := s.freshWorm(ctx)
	if err != nil {
		return archive.Unlocked, archive.Period{}, failed(ctx, "default lock of bucket", s.config.Bucket, err)
	}
	if lock.State != archive.BucketLocked {
		return archive.Unlocked, archive.Period{}, nil
	}
	return archive.Compliance, archive.Period{Days: lock.Days}, nil
}

// lockOf is the lock of an object that was last modified at some time.
func (s *Store) lockOf(ctx context.Context, modified time.Time) (archive.Lock, error) {
	lock, err := s.freshWorm(ctx)
	if err != nil {
		return archive.Lock{}, err
	}
	return lockUntil(lock, modified), nil
}

// lockUntil is what a bucket's lock, if it is complete, does to an object that
// was last modified at some time.
func lockUntil(lock archive.BucketLock, modified time.Time) archive.Lock {
	if lock.State != archive.BucketLocked {
		return archive.Lock{}
	}
	return archive.Lock{Mode: archive.Compliance, Until: modified.AddDate(0, 0, lock.Days)}
}

// maxAhead is how long a Put waits for the service's clock.
const maxAhead = time.Minute

// allow reports why an object cannot have a lock. The bucket retains by the clock
// of the service: where this machine's is ahead, what was to be retained for as
// long as the bucket does would fall short by the difference, for ever. So a Put
// waits until it does not.
func (s *Store) allow(ctx context.Context, asked archive.Lock) error {
	if asked == (archive.Lock{}) {
		return nil
	}
	if asked.Hold {
		return fmt.Errorf("OSS has no legal hold on single objects here: %w", errors.ErrUnsupported)
	}
	lock, err := s.freshWorm(ctx)
	if err != nil {
		return err
	}
	now := s.serverTime()
	has := lockUntil(lock, now)
	if has.Covers(asked) {
		return nil
	}
	short := asked.Until.Sub(has.Until)
	if has.Mode.Covers(asked.Mode) && short <= maxAhead {
		return wait(ctx, short)
	}
	days := int((asked.Until.Sub(now) - maxAhead + 24*time.Hour - 1) / (24 * time.Hour))
	return fmt.Errorf("asked for retention until %s: OSS retains by bucket here, and %s; lock it for %d days or more with otsnap lock bucket%s: %w",
		stamp(asked.Until), described(lock), days, s.ahead(), errors.ErrUnsupported)
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// heard notes the service's clock, which answers tell to the second.
func (s *Store) heard(header http.Header) {
	at, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told, s.toldAt = at, time.Now()
}

// serverTime is what the service's clock shows now, or up to a second more.
func (s *Store) serverTime() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told.IsZero() {
		return time.Now()
	}
	return s.told.Add(time.Since(s.toldAt))
}

// ahead says by how much this machine's clock is ahead, if that matters.
func (s *Store) ahead() string {
	ahead := time.Since(s.serverTime())
	if ahead < maxAhead {
		return ""
	}
	return fmt.Sprintf(" (and set this machine's clock, which is ahead of the service's by %s)", ahead.Round(time.Second))
}

// described says for people what a bucket's lock is.
func described(lock archive.BucketLock) string {
	switch {
	case lock.State == archive.BucketLocked:
		return fmt.Sprintf("the bucket retains for %d days", lock.Days)
	case lock.Expired:
		return fmt.Sprintf("the bucket's lock of %d days was not completed by %s and is void", lock.Days, stamp(lock.Deadline))
	case lock.State == archive.BucketOpen:
		return fmt.Sprintf("the bucket's lock of %d days is not complete, and void on %s unless it is completed before", lock.Days, stamp(lock.Deadline))
	}
	return "the bucket retains nothing"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// StartBucketLock begins a lock of the bucket. It is void a day later unless it
// was completed.
func (s *Store) StartBucketLock(ctx context.Context, days int) (archive.BucketLock, error) {
	lock, err := s.startWorm(ctx, days)
	return lock, failed(ctx, "lock bucket", s.config.Bucket, err)
}

func (s *Store) startWorm(ctx context.Context, days int) (archive.BucketLock, error) {
	if err := checkDays(days); err != nil {
		return archive.BucketLock{}, err
	}
	lock, err := s.askWorm(ctx)
	switch {
	case err != nil:
		return lock, err
	case lock.State == archive.BucketLocked:
		return lock, fmt.Errorf("%s already; it can be extended: %w", described(lock), archive.ErrLocked)
	case lock.State == archive.BucketOpen && !lock.Expired:
		return lock, fmt.Errorf("%s; complete or abort it first: %w", described(lock), archive.ErrLocked)
	}
	body, err := xml.Marshal(oss.InitiateWormConfiguration{RetentionPeriodInDays: days})
	if err != nil {
		return lock, err
	}
	begun := s.changeWorm(ctx, call{method: http.MethodPost, params: map[string]any{"worm": nil}, right: "oss:InitiateBucketWorm"}, body)
	// A request that was repeated may have been refused for the first one's sake.
	lock, err = s.askWorm(ctx)
	if err == nil && lock.State == archive.BucketOpen && lock.Days == days && !lock.Expired {
		return lock, nil
	}
	if err = errors.Join(begun, err); err == nil {
		err = fmt.Errorf("asked for a lock of %d days, and now %s", days, described(lock))
	}
	return lock, err
}

func checkDays(days int) error {
	if days < minDays || days > maxDays {
		return fmt.Errorf("a lock of %d days: OSS has %d to %d: %w", days, minDays, maxDays, errors.ErrUnsupported)
	}
	return nil
}

// changeWorm sends a change of the bucket's lock.
func (s *Store) changeWorm(ctx context.Context, c call, body []byte) error {
	if body != nil {
		c.options = []oss.Option{oss.ContentType("application/xml")}
	}
	_, _, err := s.ask(ctx, c, body)
	return err
}

// CompleteBucketLock makes a lock that was started final.
func (s *Store) CompleteBucketLock(ctx context.Context) error {
	return failed(ctx, "complete lock of bucket", s.config.Bucket, s.completeWorm(ctx))
}

func (s *Store) completeWorm(ctx context.Context) error {
	lock, err := s.askWorm(ctx)
	switch {
	case err != nil:
		return err
	case lock.State == archive.BucketLocked:
		return nil
	case lock.State == archive.BucketUnlocked:
		return fmt.Errorf("no lock was started: %w", errors.ErrUnsupported)
	case lock.Expired:
		return fmt.Errorf("%s; start it again: %w", described(lock), errors.ErrUnsupported)
	}
	done := s.changeWorm(ctx, call{method: http.MethodPost, params: map[string]any{"wormId": lock.ID}, right: "oss:CompleteBucketWorm"}, nil)
	lock, err = s.askWorm(ctx)
	if err == nil && lock.State == archive.BucketLocked {
		return nil
	}
	if err = errors.Join(done, err); err == nil {
		err = errors.New("the service took it, and " + described(lock))
	}
	return err
}

// AbortBucketLock ends a lock that was started and is not complete.
func (s *Store) AbortBucketLock(ctx context.Context) error {
	return failed(ctx, "abort lock of bucket", s.config.Bucket, s.abortWorm(ctx))
}

func (s *Store) abortWorm(ctx context.Context) error {
	lock, err := s.askWorm(ctx)
	switch {
	case err != nil:
		return err
	case lock.State == archive.BucketLocked:
		return fmt.Errorf("%s, for good; nobody can end that: %w", described(lock), archive.ErrLocked)
	case lock.State == archive.BucketUnlocked:
		return fmt.Errorf("no lock was started: %w", errors.ErrUnsupported)
	}
	done := s.changeWorm(ctx, call{method: http.MethodDelete, params: map[string]any{"worm": nil}, right: "oss:AbortBucketWorm"}, nil)
	lock, err = s.askWorm(ctx)
	if err == nil && lock.State == archive.BucketUnlocked {
		return nil
	}
	if err = errors.Join(done, err); err == nil {
		err = errors.New("the service took it, and " + described(lock))
	}
	return err
}

// ExtendBucketLock has a complete lock retain for more days.
func (s *Store) ExtendBucketLock(ctx context.Context, days int) error {
	return failed(ctx, "extend lock of bucket", s.config.Bucket, s.extendWorm(ctx, days))
}

func (s *Store) extendWorm(ctx context.Context, days int) error {
	if err := checkDays(days); err != nil {
		return err
	}
	lock, err := s.askWorm(ctx)
	switch {
	case err != nil:
		return err
	case lock.State != archive.BucketLocked:
		return fmt.Errorf("%s; only a complete lock can be extended: %w", described(lock), errors.ErrUnsupported)
	case days < lock.Days:
		return fmt.Errorf("%s, which cannot be shortened to %d: %w", described(lock), days, archive.ErrLocked)
	case days == lock.Days:
		return nil
	}
	body, err := xml.Marshal(oss.ExtendWormConfiguration{RetentionPeriodInDays: days})
	if err != nil {
		return err
	}
	c := call{method: http.MethodPost, params: map[string]any{"wormId": lock.ID, "wormExtend": nil}, right: "oss:ExtendBucketWorm"}
	done := s.changeWorm(ctx, c, body)
	lock, err = s.askWorm(ctx)
	if err == nil && lock.State == archive.BucketLocked && lock.Days >= days {
		return nil
	}
	if err = errors.Join(done, err); err == nil {
		err = errors.New("the service took it, and " + described(lock))
	}
	return err
}
