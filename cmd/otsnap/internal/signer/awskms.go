package signer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"github.com/otsnap/otsnap/manifest"
)

// awsKey is a key of AWS KMS. What it signs is the SHA-256 made here: whole
// messages may have 4096 bytes there, and pages are longer.
type awsKey struct {
	place
	client *kms.Client
	o      Options
}

func openAWS(ctx context.Context, text string, o Options) (manifest.Signer, error) {
	p, err := parsePlace("awskms", text, "region", "endpoint", "profile")
	if err != nil {
		return nil, err
	}
	cfg, err := p.loadAWS(ctx)
	if err != nil {
		return nil, &Error{Name: p.String(), Err: fmt.Errorf("AWS configuration: %w", err), Advice: "mend the shared configuration files of AWS, or name a profile that is there with profile="}
	}
	if cfg.Region == "" {
		return nil, &Error{Name: p.String(), Err: errors.New("it is not said in which region it is"), Advice: "add ?region=REGION, or name the key by its ARN"}
	}
	k := &awsKey{place: p, o: o, client: kms.NewFromConfig(cfg, func(options *kms.Options) {
		options.Retryer = aws.NopRetryer{} // request repeats, and says so
		if endpoint := p.parameters["endpoint"]; endpoint != "" {
			options.BaseEndpoint = &endpoint
		}
	})}
	key, err := k.public(ctx)
	if err != nil {
		return nil, err
	}
	return &elsewhere{key: key, name: p.String(), sign: k.sign}, nil
}

func (p place) loadAWS(ctx context.Context) (aws.Config, error) {
	region := p.parameters["region"]
	if named, err := arn.Parse(p.key); err == nil && region == "" {
		region = named.Region
	}
	options := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})}
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	if profile := p.parameters["profile"]; profile != "" {
		options = append(options, config.WithSharedConfigProfile(profile))
	}
	return config.LoadDefaultConfig(ctx, options...)
}

// public returns the public half, of the only kind that both clouds have.
func (k *awsKey) public(ctx context.Context) (manifest.PublicKey, error) {
	out, err := request(ctx, k.o, func(ctx context.Context) (*kms.GetPublicKeyOutput, *failure) {
		out, err := k.client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &k.key})
		return out, k.failure("kms:GetPublicKey", err)
	})
	if err != nil {
		return manifest.PublicKey{}, err
	}
	if out.KeySpec != types.KeySpecEccNistP256 || out.KeyUsage != types.KeyUsageTypeSignVerify {
		return manifest.PublicKey{}, &Error{Name: k.String(), Err: fmt.Errorf("it is %s for %s", out.KeySpec, out.KeyUsage), Advice: onlyP256}
	}
	return public(k.String(), out.PublicKey)
}

func (k *awsKey) sign(ctx context.Context, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	out, err := request(ctx, k.o, func(ctx context.Context) (*kms.SignOutput, *failure) {
		out, err := k.client.Sign(ctx, &kms.SignInput{
			KeyId: &k.key, Message: digest[:], MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
		})
		return out, k.failure("kms:Sign", err)
	})
	if err != nil {
		return nil, err
	}
	return out.Signature, nil
}

// awsRetryable are the errors AWS's own tools would repeat a request after.
var awsRetryable = retry.IsErrorRetryables(retry.DefaultRetryables)

// failure says what an error of the SDK means. right is what the request needs.
func (k *awsKey) failure(right string, err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Error: Error{Name: k.String()}}
	var api smithy.APIError
	if errors.As(err, &api) {
		status := httpStatus(err)
		f.again = status >= http.StatusInternalServerError || awsRetryable.IsErrorRetryable(err).Bool()
		f.Err = fmt.Errorf("%s: %s (HTTP %d)", api.ErrorCode(), strings.TrimSuffix(api.ErrorMessage(), "."), status)
		f.Advice = adviceOnAWS(api.ErrorCode(), right)
	} else {
		f.Err, f.again, f.Advice = bare(err), true, noAnswer
		if text := err.Error(); strings.Contains(text, "get credentials") || strings.Contains(text, "get identity") || strings.Contains(text, "no EC2 IMDS role found") {
			f.Err, f.again = errors.New("no AWS credentials were found"), false
			f.Advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role for this machine"
			return f
		}
	}
	if f.again {
		f.NoVerdict, f.Advice = true, noAnswer
	}
	return f
}

func adviceOnAWS(code, right string) string {
	switch code {
	case "AccessDeniedException":
		return "the credentials need the right " + right + " on the key, in IAM and in the key's own policy"
	case "NotFoundException", "InvalidArnException":
		return "there is no such key in that account and region; check the name, region= and endpoint="
	case "DisabledException", "KMSInvalidStateException":
		return "the key is disabled or about to be deleted; enable it, or let another key of the policy sign"
	case "InvalidKeyUsageException", "UnsupportedOperationException":
		return onlyP256
	case "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "IncompleteSignature", "ExpiredTokenException", "SignatureDoesNotMatch":
		return "check the AWS credentials in use (AWS_ACCESS_KEY_ID, AWS_PROFILE, profile=) and the clock of this machine"
	}
	return "mend what the key service complains of, or let another key of the policy sign"
}

func httpStatus(err error) int {
	var answered interface{ HTTPStatusCode() int }
	if errors.As(err, &answered) {
		return answered.HTTPStatusCode()
	}
	return 0
}
