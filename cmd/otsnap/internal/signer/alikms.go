package signer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"

	"github.com/alibabacloud-go/darabonba-openapi/v2/client"
	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"

	"github.com/otsnap/otsnap/archive/oss"
	"github.com/otsnap/otsnap/manifest"
)

// alibabaKey is one version of a key of Alibaba Cloud KMS. The requests are those
// of its generated SDK (2016-01-20, RPC, signed with ACS3-HMAC-SHA256), whose
// core this uses.
type alibabaKey struct {
	place
	id, version string
	protocol    string
	endpoint    string
	credentials func(context.Context) (oss.AccessKey, error)
	http        *plainClient
	o           Options
}

func openAlibaba(ctx context.Context, text string, o Options) (manifest.Signer, error) {
	p, err := parsePlace("alikms", text, "region", "endpoint", "credentials")
	if err != nil {
		return nil, err
	}
	k := &alibabaKey{place: p, id: path.Dir(p.key), version: path.Base(p.key), o: o, http: newPlainClient()}
	if k.id == "." || k.id == "/" || strings.HasSuffix(p.key, "/") {
		return nil, &Error{Name: p.String(), Err: errors.New("its version is missing"), Advice: "write alikms:///KEY/VERSION: a signature is made by one version of a key, and the policy names it"}
	}
	if k.protocol, k.endpoint, err = p.alibabaEndpoint(); err != nil {
		return nil, &Error{Name: p.String(), Err: err, Advice: "add ?region=REGION, as in cn-hangzhou"}
	}
	if k.credentials, err = oss.AccessKeys(p.parameters["credentials"]); err != nil {
		return nil, &Error{Name: p.String(), Err: err}
	}
	key, err := k.public(ctx)
	if err != nil {
		return nil, err
	}
	return &elsewhere{key: key, name: p.String(), sign: k.sign}, nil
}

// alibabaEndpoint is protocol and host of the service.
func (p place) alibabaEndpoint() (protocol, host string, err error) {
	if endpoint := p.parameters["endpoint"]; endpoint != "" {
		protocol, host, _ = strings.Cut(endpoint, "://")
		return protocol, host, nil
	}
	region := p.parameters["region"]
	if region == "" || strings.ContainsAny(region, "./:@") {
		return "", "", errors.New("it is not said in which region it is")
	}
	return "https", "kms." + region + ".aliyuncs.com", nil
}

// alibabaAnswer is what the two requests are answered with.
type alibabaAnswer struct {
	PublicKey string // PEM
	Value     string // base64
}

func (k *alibabaKey) public(ctx context.Context) (manifest.PublicKey, error) {
	answer, err := k.call(ctx, "GetPublicKey", nil)
	if err != nil {
		return manifest.PublicKey{}, err
	}
	block, _ := pem.Decode([]byte(answer.PublicKey))
	if block == nil {
		return manifest.PublicKey{}, &Error{Name: k.String(), Err: errors.New("the service returned no public key"), Advice: onlyP256}
	}
	return public(k.String(), block.Bytes)
}

func (k *alibabaKey) sign(ctx context.Context, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	answer, err := k.call(ctx, "AsymmetricSign", map[string]string{
		"Algorithm": "ECDSA_SHA_256", "Digest": base64.StdEncoding.EncodeToString(digest[:]),
	})
	if err != nil {
		return nil, err
	}
	sig, err := base64.StdEncoding.DecodeString(answer.Value)
	if err != nil {
		return nil, &Error{Name: k.String(), Err: fmt.Errorf("the service returned no signature: %w", err)}
	}
	return sig, nil
}

func (k *alibabaKey) call(ctx context.Context, action string, more map[string]string) (alibabaAnswer, error) {
	query := map[string]*string{"KeyId": &k.id, "KeyVersionId": &k.version}
	for name, value := range more {
		query[name] = &value
	}
	return request(ctx, k.o, func(ctx context.Context) (alibabaAnswer, *failure) {
		c, err := k.client(ctx)
		if err != nil {
			return alibabaAnswer{}, &failure{Error: Error{Name: k.String(), Err: err,
				Advice: "set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or say where the credentials are with credentials="}}
		}
		answer, err := c.CallApiWithCtx(ctx, &openapi.Params{
			Action: &action, Version: dara.String("2016-01-20"), Protocol: dara.String(strings.ToUpper(k.protocol)), Pathname: dara.String("/"),
			Method: dara.String("POST"), AuthType: dara.String("AK"), Style: dara.String("RPC"), ReqBodyType: dara.String("formData"), BodyType: dara.String("json"),
		}, &openapi.OpenApiRequest{Query: query}, &dara.RuntimeOptions{})
		if err != nil {
			return alibabaAnswer{}, k.failure(action, err)
		}
		body, _ := answer["body"].(map[string]any)
		text := func(name string) string { text, _ := body[name].(string); return text }
		return alibabaAnswer{PublicKey: text("PublicKey"), Value: text("Value")}, nil
	})
}

// client is one with the credentials of the moment.
func (k *alibabaKey) client(ctx context.Context) (*client.Client, error) {
	key, err := k.credentials(ctx)
	if err != nil {
		return nil, err
	}
	c, err := client.NewClient(&openapi.Config{
		AccessKeyId: &key.ID, AccessKeySecret: &key.Secret, SecurityToken: &key.Token,
		Endpoint: &k.endpoint, Protocol: &k.protocol, HttpClient: k.http,
	})
	if err == nil {
		c.DisableSDKError = dara.Bool(true) // its text repeats whole answers
	}
	return c, err
}

// plainClient is a client without the SDK's own transports, which are made anew
// for every request, and without redirects, which would carry a token elsewhere.
type plainClient struct{ http.Client }

// maxAnswer is more than any answer has, in bytes.
const maxAnswer = 1 << 20

func newPlainClient() *plainClient {
	c := &plainClient{}
	c.Transport = http.DefaultTransport.(*http.Transport).Clone()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// Call is for the SDK.
func (c *plainClient) Call(r *http.Request, _ *http.Transport) (*http.Response, error) {
	response, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxAnswer), response.Body}
	return response, nil
}

// failure says what an error of the SDK means.
func (k *alibabaKey) failure(action string, err error) *failure {
	f := &failure{Error: Error{Name: k.String()}}
	var answer interface {
		GetStatusCode() *int
		GetCode() *string
		GetMessage() *string
	}
	if !errors.As(err, &answer) || answer.GetStatusCode() == nil {
		f.Err, f.again, f.NoVerdict, f.Advice = bare(err), true, true, noAnswer
		return f
	}
	status, code := dara.IntValue(answer.GetStatusCode()), dara.StringValue(answer.GetCode())
	_, message, _ := strings.Cut(dara.StringValue(answer.GetMessage()), ", ") // "code: 403, …"
	f.Err = fmt.Errorf("%s: %s (HTTP %d)", code, message, status)
	if f.again = status >= http.StatusInternalServerError || strings.Contains(code, "Throttling"); f.again {
		f.NoVerdict, f.Advice = true, noAnswer
		return f
	}
	f.Advice = adviceOnAlibaba(code, action)
	return f
}

func adviceOnAlibaba(code, action string) string {
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(code, part) {
				return true
			}
		}
		return false
	}
	switch {
	case has("AccessKeyId", "SecurityToken", "SignatureDoesNotMatch", "IncompleteSignature", "Timestamp"):
		return "check the access key in use, and the clock of this machine"
	case has("NotFound"):
		return "there is no such key or version in that account and region; check the name, region= and endpoint="
	case has("NoPermission", "Forbidden.RAM", "Forbidden.Access", "NoAuthorization"):
		return "the credentials need the right kms:" + action + " on the key"
	case has("Disabled", "PendingDeletion", "Unavailable", "StateInvalid"):
		return "the key is disabled or about to be deleted; enable it, or let another key of the policy sign"
	case has("UnsupportedOperation", "InvalidParameter"):
		return onlyP256
	}
	return "mend what the key service complains of, or let another key of the policy sign"
}
