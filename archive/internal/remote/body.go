package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Part is what came in answer to a request for an object from some offset on.
type Part struct {
	Body io.ReadCloser
	Size int64 // of the whole object in bytes; -1: the server did not say
}

// Body reads an object, and asks again for the rest of it where the connection
// breaks off. It ends without an error only after the whole of the object.
type Body struct {
	ctx   context.Context
	retry Retry
	open  func(offset int64) (Part, error)

	part   io.ReadCloser
	offset int64
	size   int64
	broke  int64     // offset of the last break
	stalls int       // breaks in a row with next to nothing between them
	since  time.Time // of the first of them
	err    error
}

// progress is how many bytes between two breaks are more than next to nothing. A
// body that has less for as long as a request is tried is given up: whoever gets
// a few at a time would be at it for days.
const progress = 16 << 10

// NewBody opens an object with open, which must from then on always give the
// same version of it.
func NewBody(ctx context.Context, retry Retry, open func(offset int64) (Part, error)) (*Body, error) {
	b := &Body{ctx: ctx, retry: retry, open: open, size: -1}
	if err := b.reopen(); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Body) reopen() error {
	return b.retry.Do(b.ctx, func(int) error {
		part, err := b.open(b.offset)
		if err != nil {
			return err
		}
		if b.size >= 0 && part.Size >= 0 && part.Size != b.size {
			part.Body.Close()
			return fmt.Errorf("has %d bytes, had %d before the connection broke off", part.Size, b.size)
		}
		if b.size < 0 {
			b.size = part.Size
		}
		b.part = part.Body
		return nil
	})
}

// Size is how many bytes the object has, -1 where the server did not say.
func (b *Body) Size() int64 { return b.size }

// Read reads on. Its errors wrap [archive.ErrUnavailable] or are those of the
// context.
func (b *Body) Read(p []byte) (int, error) {
	for b.err == nil {
		if b.err = b.ctx.Err(); b.err != nil {
			break
		}
		n, err := b.part.Read(p)
		b.offset += int64(n)
		if b.offset-b.broke >= progress {
			b.stalls = 0
		}
		if err != nil {
			b.err = b.after(err)
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, b.err
}

// after decides how to go on after a part that ended with reason: nil if there
// is more to read.
func (b *Body) after(reason error) error {
	if b.ctx.Err() != nil {
		return b.ctx.Err()
	}
	if errors.Is(reason, io.EOF) {
		if b.size < 0 || b.offset == b.size {
			return io.EOF
		}
		reason = io.ErrUnexpectedEOF
	}
	b.broke = b.offset
	if b.stalls++; b.stalls == 1 {
		b.since = time.Now()
	}
	wait := bound(b.stalls)
	if b.offset > b.size && b.size >= 0 || time.Since(b.since)+wait > b.retry.limit() {
		return Unavailable(b.ctx, fmt.Errorf("after %d of %d bytes: %w", b.offset, b.size, reason))
	}
	if b.retry.OnRetry != nil {
		b.retry.OnRetry(reason)
	}
	b.part.Close()
	if err := sleep(b.ctx, wait); err != nil {
		return err
	}
	if err := b.reopen(); err != nil {
		return Unavailable(b.ctx, fmt.Errorf("broke off after %d bytes (%v), and then: %w", b.offset, reason, err))
	}
	return nil
}

// Close releases the connection.
func (b *Body) Close() error { return b.part.Close() }
