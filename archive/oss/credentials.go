package oss

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"github.com/aliyun/credentials-go/credentials/providers"
)

// CredentialKinds are the values of [Config.Credentials]: default tries the
// others in the order of Alibaba's SDKs, the OSS_ variables of its OSS tools
// first. Some take a name, some need one.
var CredentialKinds = []string{"default", "env", "oidc", "profile:NAME", "ecs-ram-role", "ecs-ram-role:ROLE", "uri"}

// splitKind parts a kind of credentials from its name.
func splitKind(kind string) (string, string) {
	kind, name, _ := strings.Cut(kind, ":")
	if kind == "" {
		kind = "default"
	}
	return kind, name
}

func checkKind(text string) error {
	kind, name := splitKind(text)
	named := strings.Contains(text, ":")
	switch {
	case kind == "profile" && name != "":
		return nil
	case kind == "ecs-ram-role" && (name != "") == named:
		return nil
	case !named && (kind == "default" || kind == "env" || kind == "oidc" || kind == "uri"):
		return nil
	}
	return fmt.Errorf("credentials %q: there are %s", text, strings.Join(CredentialKinds, ", "))
}

// keys are credentials as the SDK takes them.
type keys struct{ id, secret, token string }

func (k keys) GetAccessKeyID() string     { return k.id }
func (k keys) GetAccessKeySecret() string { return k.secret }
func (k keys) GetSecurityToken() string   { return k.token }

// source is one place credentials come from.
type source struct {
	name string
	get  func() (keys, error)
}

// credentials are asked for at every request. They stay with the source that
// first had some, and are refreshed by it. Alibaba's providers are not safe for
// concurrent use and cannot be cancelled, which is made up for here.
type credentials struct {
	open func() []source

	mu      sync.Mutex
	sources []source // those left to try; one, once it had credentials
	last    keys
	known   bool      // last are credentials
	stale   bool      // and known to be of no use any more
	renewed int       // how often sources were opened
	rest    time.Time // until when a refresh that failed is not tried again
}

// restAfter is how long credentials still in use do without a refresh after one
// failed. They are refreshed 3 minutes before they end.
const restAfter = 5 * time.Second

var _ oss.CredentialsProviderE = (*credentials)(nil)

func newCredentials(kind string) *credentials {
	return &credentials{open: func() []source { return sources(kind) }}
}

// credentialError says that there are no credentials. It may pass if there had
// been some.
type credentialError struct {
	error
	temporary bool
}

func (e *credentialError) Unwrap() error { return e.error }

// ready makes sure that there are credentials, or returns when ctx is done.
func (c *credentials) ready(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		_, err := c.GetCredentialsE()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// GetCredentials is GetCredentialsE for the interface's sake.
func (c *credentials) GetCredentials() oss.Credentials {
	k, _ := c.GetCredentialsE()
	return k
}

// GetCredentialsE returns key, secret and token of one moment.
func (c *credentials) GetCredentialsE() (oss.Credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	usable := c.known && !c.stale
	if usable && time.Now().Before(c.rest) {
		return c.last, nil
	}
	k, err := c.fetch()
	switch {
	case err == nil:
		c.last, c.known, c.stale = k, true, false
		return k, nil
	case usable:
		c.rest = time.Now().Add(restAfter)
		return c.last, nil
	}
	c.sources = nil
	return keys{}, &credentialError{err, c.known}
}

func (c *credentials) fetch() (keys, error) {
	if c.sources == nil {
		c.sources = c.open()
	}
	var reasons []string
	for _, s := range c.sources {
		k, err := s.get()
		if err == nil && (k.id == "" || k.secret == "") {
			err = errors.New("an empty key or secret")
		}
		if err == nil {
			c.sources = []source{s}
			return k, nil
		}
		reasons = append(reasons, s.name+": "+scrub(err.Error()))
	}
	return keys{}, fmt.Errorf("no credentials (%s)", strings.Join(reasons, "; "))
}

// generation tells renew which credentials did not work.
func (c *credentials) generation() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renewed
}

// renew has the next request fetch new credentials, unless that was done since
// generation.
func (c *credentials) renew(generation int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.renewed == generation {
		c.renewed++
		c.sources, c.stale = nil, true
	}
}

// sources opens those of a kind.
func sources(text string) []source {
	kind, name := splitKind(text)
	env := []source{
		{"OSS_ACCESS_KEY_ID", ossEnvironment},
		opened("ALIBABA_CLOUD_ACCESS_KEY_ID", func() (providers.CredentialsProvider, error) {
			return providers.NewEnvironmentVariableCredentialsProviderBuilder().Build()
		}),
	}
	oidc := opened("OIDC role", func() (providers.CredentialsProvider, error) {
		return providers.NewOIDCCredentialsProviderBuilder().Build()
	})
	profiles := []source{
		opened("profile of the command line's configuration", func() (providers.CredentialsProvider, error) {
			return providers.NewCLIProfileCredentialsProviderBuilder().WithProfileName(name).Build()
		}),
		opened("profile of the credentials file", func() (providers.CredentialsProvider, error) {
			return providers.NewProfileCredentialsProviderBuilder().WithProfileName(name).Build()
		}),
	}
	ecs := opened("ECS RAM role", func() (providers.CredentialsProvider, error) {
		return providers.NewECSRAMRoleCredentialsProviderBuilder().WithRoleName(name).Build()
	})
	uri := opened("credentials URI", func() (providers.CredentialsProvider, error) {
		return providers.NewURLCredentialsProviderBuilder().Build()
	})
	switch kind {
	case "env":
		return env
	case "oidc":
		return []source{oidc}
	case "profile":
		return profiles
	case "ecs-ram-role":
		return []source{ecs}
	case "uri":
		return []source{uri}
	}
	return append(append(append(env, oidc), profiles...), ecs, uri)
}

// ossEnvironment are the variables of Alibaba's tools for OSS.
func ossEnvironment() (keys, error) {
	k := keys{os.Getenv("OSS_ACCESS_KEY_ID"), os.Getenv("OSS_ACCESS_KEY_SECRET"), os.Getenv("OSS_SESSION_TOKEN")}
	switch {
	case k.id == "":
		return keys{}, errors.New("not set")
	case k.secret == "":
		return keys{}, errors.New("set, but not OSS_ACCESS_KEY_SECRET")
	}
	return k, nil
}

// opened is a source with one of Alibaba's providers.
func opened(name string, build func() (providers.CredentialsProvider, error)) source {
	provider, err := build()
	return source{name, func() (k keys, failed error) {
		if err != nil {
			return keys{}, err
		}
		// The providers follow pointers in replies without looking.
		defer func() {
			if recover() != nil {
				k, failed = keys{}, errors.New("a reply without what it must have")
			}
		}()
		got, err := provider.GetCredentials()
		if err != nil {
			return keys{}, err
		}
		return keys{got.AccessKeyId, got.AccessKeySecret, got.SecurityToken}, nil
	}}
}

var (
	queries = regexp.MustCompile(`\?[^\s"']*`)
	facts   = regexp.MustCompile(`"(Code|Message|RequestId)"\s*:\s*"([^"\\]*)"`)
	secrets = regexp.MustCompile(`(?i)(secret|token|password)"?\s*([:=]|%3d)\s*\S+`)
)

// scrub cuts from an error of Alibaba's providers what may hold secrets: they
// repeat whole files and replies, and the queries of signed requests.
func scrub(text string) string {
	var told []string
	end := len(text)
	for _, mark := range []string{"{", "\n", "config from", "delimiter not found"} {
		if i := strings.Index(text, mark); i >= 0 {
			end = min(end, i)
		}
	}
	for _, fact := range facts.FindAllStringSubmatch(text[end:], 3) {
		told = append(told, fact[1]+" "+harmless(fact[2]))
	}
	text = strings.TrimRight(harmless(text[:end]), " :")
	if len(told) > 0 {
		text += ": " + strings.Join(told, ", ")
	}
	return text
}

// harmless is a text without secrets and of no more than 300 bytes.
func harmless(text string) string {
	text = secrets.ReplaceAllString(queries.ReplaceAllString(text, "?..."), "$1 ...")
	return text[:min(len(text), 300)]
}
