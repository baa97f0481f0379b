package s3

import (
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// Inspect tells what HEAD does.
func (s *Store) Inspect(ctx context.Context, name string) (archive.Info, error) {
	info, err := s.inspect(ctx, name)
	if err != nil {
		return archive.Info{}, s.failed(ctx, "inspect", name, err)
	}
	return info, nil
}

func (s *Store) inspect(ctx context.Context, name string) (info archive.Info, err error) {
	if err := archive.CheckName(name); err != nil {
		return info, err
	}
	if err := ctx.Err(); err != nil {
		return info, err
	}
	err = s.current(ctx, name, func(version string) (err error) {
		info, err = s.head(ctx, s.config.key(name), version)
		return err
	})
	return info, err
}

// head reads what is known of one version.
func (s *Store) head(ctx context.Context, key, version string) (archive.Info, error) {
	out, err := s.headObject(ctx, key, version)
	if version == nullVersion && errors.Is(err, fs.ErrNotExist) {
		// versitygw knows the object by this id in a GET alone.
		out, err = s.headObject(ctx, key, "")
		if err == nil && aws.ToString(out.VersionId) != "" && *out.VersionId != nullVersion {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		return archive.Info{}, err
	}
	if out.ContentLength == nil {
		return archive.Info{}, errors.New("the server does not say how long it is; is there a proxy?")
	}
	info := infoOf(out)
	info.Name = s.config.name(key)
	if info.Version == "" {
		info.Version = version
	}
	if info.Lock.Mode == archive.Unlocked {
		if err := s.retention(ctx, key, info.Version, &info.Lock); err != nil {
			return archive.Info{}, err
		}
	}
	return info, nil
}

func (s *Store) headObject(ctx context.Context, key, version string) (*s3.HeadObjectOutput, error) {
	var out *s3.HeadObjectOutput
	err := s.do(ctx, reads(version), func(o func(*s3.Options)) (err error) {
		out, err = s.client.HeadObject(ctx, &s3.HeadObjectInput{
			Bucket: &s.config.Bucket, Key: &key, VersionId: optional(version), ChecksumMode: types.ChecksumModeEnabled,
		}, o)
		return err
	})
	if err == nil {
		s.learn(out.VersionId)
	}
	return out, s.absent(ctx, reads(version), err)
}

// reads is the right to read an object, or a version of it.
func reads(version string) string {
	if version == "" {
		return "s3:GetObject"
	}
	return "s3:GetObjectVersion"
}

func infoOf(out *s3.HeadObjectOutput) archive.Info {
	info := archive.Info{
		Object:     archive.Object{Size: aws.ToInt64(out.ContentLength)},
		Version:    aws.ToString(out.VersionId),
		SHA256:     fullDigest(out.ChecksumType, aws.ToString(out.ChecksumSHA256)),
		Modified:   aws.ToTime(out.LastModified).UTC(),
		Class:      string(out.StorageClass),
		Encryption: encryption(out),
		Lock:       lockOf(string(out.ObjectLockMode), out.ObjectLockRetainUntilDate),
	}
	info.Lock.Hold = out.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn
	if info.Class == "" {
		info.Class = string(types.StorageClassStandard) // of which S3 says nothing
	}
	thaw(&info, out)
	return info
}

// fullDigest is the SHA-256 of a whole object. That of one put in parts is one
// over the digests of the parts.
func fullDigest(kind types.ChecksumType, text string) manifest.Hash {
	sum, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(sum) != len(manifest.Hash{}) || kind == types.ChecksumTypeComposite {
		return manifest.Hash{}
	}
	return manifest.Hash(sum)
}

// encryption is the kind and, of KMS, the key.
func encryption(out *s3.HeadObjectOutput) string {
	kind := string(out.ServerSideEncryption)
	if kind == "" && out.SSECustomerAlgorithm != nil {
		kind = "SSE-C"
	}
	return strings.TrimSpace(kind + " " + aws.ToString(out.SSEKMSKeyId))
}

func lockOf(mode string, until *time.Time) archive.Lock {
	parsed, err := archive.ParseMode(mode)
	if err != nil {
		return archive.Lock{}
	}
	return archive.Lock{Mode: parsed, Until: aws.ToTime(until).UTC()}
}

var expiry = regexp.MustCompile(`expiry-date="([^"]*)"`)

// thaw says whether the object can be read: those in an archive tier not, until
// a copy of them has been restored.
func thaw(info *archive.Info, out *s3.HeadObjectOutput) {
	cold := out.ArchiveStatus != "" || out.StorageClass == types.StorageClassGlacier || out.StorageClass == types.StorageClassDeepArchive
	restore := aws.ToString(out.Restore)
	switch {
	case strings.Contains(restore, `ongoing-request="true"`):
		info.Frozen, info.Thawing = cold, cold
	case strings.Contains(restore, `ongoing-request="false"`):
		if found := expiry.FindStringSubmatch(restore); found != nil {
			if until, err := time.Parse(time.RFC1123, found[1]); err == nil {
				info.ThawedTo = until.UTC()
			}
		}
	default:
		info.Frozen = cold
	}
}

// Tiers names the speeds at which S3 restores. DEEP_ARCHIVE has no Expedited.
func (s *Store) Tiers() []string { return []string{"Expedited", "Standard", "Bulk"} }

// Thaw asks S3 to restore a copy. Of an object that can be read already it asks
// nothing, unless that is for a while only, which becomes that many days from
// now.
func (s *Store) Thaw(ctx context.Context, name string, days int, tier string) error {
	if err := s.thaw(ctx, name, days, tier); err != nil {
		return s.failed(ctx, "thaw", name, err)
	}
	return nil
}

func (s *Store) thaw(ctx context.Context, name string, days int, tier string) error {
	info, err := s.inspect(ctx, name)
	if err != nil || info.Thawing || !info.Frozen && info.ThawedTo.IsZero() {
		return err
	}
	request := &types.RestoreRequest{}
	switch {
	case info.Class != string(types.StorageClassIntelligentTiering):
		request.Days = aws.Int32(int32(days))
		if tier != "" {
			request.GlacierJobParameters = &types.GlacierJobParameters{Tier: types.Tier(tier)}
		}
	case tier != "":
		request.Tier = types.Tier(tier) // it moves back for good, not for some days
	}
	key := s.config.key(name)
	err = s.do(ctx, "s3:RestoreObject", func(o func(*s3.Options)) error {
		_, err := s.client.RestoreObject(ctx, &s3.RestoreObjectInput{
			Bucket: &s.config.Bucket, Key: &key, VersionId: optional(info.Version),
			RestoreRequest: request, ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		}, o)
		return err
	})
	switch {
	case code(err) == "RestoreAlreadyInProgress":
		return nil
	case unsupported(err):
		return errors.Join(err, errors.ErrUnsupported)
	}
	return s.absent(ctx, "s3:RestoreObject", err)
}
