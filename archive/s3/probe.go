package s3

import (
	"context"

	"github.com/otsnap/otsnap/archive"
)

// Probe finds out what the server can do.
func (s *Store) Probe(ctx context.Context, name string) ([]archive.Capability, error) {
	return nil, s.failed(ctx, "probe", s.config.Bucket, archive.ErrUnavailable)
}
