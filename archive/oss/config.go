package oss

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otsnap/otsnap/archive"
)

// Config says where an archive is and how it is reached.
type Config struct {
	Bucket string
	// Prefix is put before all names, with a slash between; empty for an archive
	// that has the bucket to itself. At most 510 bytes.
	Prefix string

	Region string // as in cn-hangzhou; needed where Endpoint does not name it
	// Endpoint is a host with or without https:// or http:// before it, which is
	// https. Empty: that of Region.
	Endpoint   string
	Internal   bool // the endpoint inside Alibaba Cloud's network
	Accelerate bool // the endpoint of transfer acceleration, which the bucket has to allow
	PathStyle  bool // the bucket in the path; Alibaba's own endpoints refuse it

	// Class is the storage class of bulk objects: Standard, IA, Archive,
	// ColdArchive or DeepColdArchive. Empty: the bucket's.
	Class  string
	SSE    string // server-side encryption: AES256 or KMS; empty: the bucket's
	KMSKey string // with KMS: the key's id; empty: the service's own

	ReadBack    ReadBack // empty: ReadBackSample
	Credentials string   // see CredentialKinds; empty: default

	GiveUpAfter time.Duration // how long a request is tried; 0: 5 minutes
	Idle        time.Duration // how long a connection may stand still; 0: a minute
	OnRetry     func(error)   // told why a request is repeated; may be nil
}

// ReadBack says which objects are read again after they were put. Those of an
// archive tier cannot be; their size and CRC64 are compared instead.
type ReadBack string

// What is read back. An object whose CRC64 the service did not tell always is.
const (
	ReadBackAll    ReadBack = "all"
	ReadBackSample ReadBack = "sample" // about one bulk object in 16, chosen at random, and all others
	ReadBackNone   ReadBack = "none"
)

// frozenClasses have to be thawed before they are read.
var frozenClasses = []string{"Archive", "ColdArchive", "DeepColdArchive"}

// maxPrefix leaves room for a slash and the longest name in the 1023 bytes a key
// may have.
const maxPrefix = 510

// ParseURL reads oss://BUCKET/PREFIX with the parameters region, endpoint,
// internal, accelerate, path-style, class, sse, kms-key, read-back and
// credentials, each at most once.
func ParseURL(text string) (Config, error) {
	c, err := parseURL(text)
	if err != nil {
		return Config{}, fmt.Errorf("oss: %w", err)
	}
	return c, nil
}

func parseURL(text string) (Config, error) {
	u, err := url.Parse(text)
	if err != nil {
		// Its text would be repeated, and with it a password.
		return Config{}, errors.New("not a URL; write oss://BUCKET/PREFIX?region=REGION")
	}
	switch {
	case u.Scheme != "oss" || u.Opaque != "":
		return Config{}, errors.New("not an oss:// URL; write oss://BUCKET/PREFIX?region=REGION")
	case u.User != nil:
		return Config{}, errors.New("URL with a user or a password; keys come from the environment, a profile or a role (parameter credentials)")
	case u.Fragment != "" || strings.HasSuffix(text, "#"):
		return Config{}, errors.New("URL with a '#'; write %23 in a prefix")
	case u.Port() != "":
		return Config{}, errors.New("URL with a port; give the address as endpoint=https://HOST:PORT")
	}
	c := Config{Bucket: u.Host, Prefix: strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/")}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Config{}, errors.New("parameters of the URL cannot be read; write name=value&name=value")
	}
	for name, values := range query {
		if len(values) != 1 {
			return Config{}, fmt.Errorf("URL parameter %s is given %d times", name, len(values))
		}
		if err := c.set(name, values[0]); err != nil {
			return Config{}, err
		}
	}
	if err := c.check(); err != nil {
		return Config{}, err
	}
	_, _, err = c.address()
	return c, err
}

var parameters = []string{
	"region", "endpoint", "internal", "accelerate", "path-style", "class", "sse", "kms-key", "read-back", "credentials",
}

func (c *Config) set(name, value string) error {
	switch name {
	case "region":
		c.Region = value
	case "endpoint":
		c.Endpoint = value
	case "internal":
		return setBool(&c.Internal, name, value)
	case "accelerate":
		return setBool(&c.Accelerate, name, value)
	case "path-style":
		return setBool(&c.PathStyle, name, value)
	case "class":
		c.Class = value
	case "sse":
		c.SSE = value
	case "kms-key":
		c.KMSKey = value
	case "read-back":
		c.ReadBack = ReadBack(value)
	case "credentials":
		c.Credentials = value
	case "object-worm", "worm", "lock", "object-lock", "retain":
		return fmt.Errorf("URL parameter %s: %w: there is no retention of single objects on OSS here, only that of the whole bucket (bucket WORM), which otsnap lock bucket shows, starts and completes", name, errors.ErrUnsupported)
	default:
		return fmt.Errorf("unknown URL parameter %q; there are %s", name, strings.Join(parameters, ", "))
	}
	return nil
}

func setBool(to *bool, name, value string) error {
	if value != "true" && value != "false" {
		return fmt.Errorf("URL parameter %s is %q; write true or false", name, value)
	}
	*to = value == "true"
	return nil
}

// String returns the URL of c.
func (c Config) String() string {
	query := url.Values{}
	for name, value := range map[string]string{
		"region": c.Region, "endpoint": c.Endpoint, "class": c.Class, "sse": c.SSE, "kms-key": c.KMSKey,
		"read-back": string(c.ReadBack), "credentials": c.Credentials,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, value := range map[string]bool{"internal": c.Internal, "accelerate": c.Accelerate, "path-style": c.PathStyle} {
		if value {
			query.Set(name, strconv.FormatBool(value))
		}
	}
	u := url.URL{Scheme: "oss", Host: c.Bucket, RawQuery: query.Encode()}
	if c.Prefix != "" {
		u.Path = "/" + c.Prefix
	}
	return u.String()
}

var (
	bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)
	regionForm = regexp.MustCompile(`^[a-z]{2,}(-[a-z0-9]+)+$`)
)

// check reports what cannot be right about c, whatever the service says.
func (c Config) check() error {
	switch {
	case !bucketForm.MatchString(c.Bucket):
		return fmt.Errorf("bucket name %q: OSS takes 3 to 63 lower-case letters, digits and hyphens", c.Bucket)
	case strings.HasPrefix(c.Region, "oss-"):
		return fmt.Errorf("region %q: write it without oss-, as in cn-hangzhou", c.Region)
	case strings.HasSuffix(c.Region, "-internal"):
		return fmt.Errorf("region %q: write it without -internal and add internal=true", c.Region)
	case c.Region != "" && !regionForm.MatchString(c.Region):
		return fmt.Errorf("region %q is no region; they are called like cn-hangzhou", c.Region)
	case c.Internal && c.Accelerate:
		return errors.New("internal and accelerate exclude each other")
	case c.Endpoint != "" && (c.Internal || c.Accelerate):
		return errors.New("endpoint excludes internal and accelerate, which choose one")
	case c.Class != "" && c.Class != "Standard" && c.Class != "IA" && !slices.Contains(frozenClasses, c.Class):
		return fmt.Errorf("storage class %q: OSS has Standard, IA, Archive, ColdArchive and DeepColdArchive", c.Class)
	case c.SSE != "" && c.SSE != "AES256" && c.SSE != "KMS":
		return fmt.Errorf("server-side encryption %q: OSS has AES256 and KMS", c.SSE)
	case c.KMSKey != "" && c.SSE != "KMS":
		return errors.New("kms-key goes with sse=KMS only")
	case c.ReadBack != "" && c.ReadBack != ReadBackAll && c.ReadBack != ReadBackSample && c.ReadBack != ReadBackNone:
		return fmt.Errorf("read-back %q: there are all, sample and none", c.ReadBack)
	}
	if err := checkKind(c.Credentials); err != nil {
		return err
	}
	return checkPrefix(c.Prefix)
}

func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if len(prefix) > maxPrefix {
		return fmt.Errorf("prefix of %d bytes, at most %d are allowed", len(prefix), maxPrefix)
	}
	if err := archive.CheckName(prefix); err != nil {
		return fmt.Errorf("prefix: %w", err)
	}
	return nil
}

// ownEndpoint are Alibaba's endpoints whose names say the region.
var ownEndpoint = regexp.MustCompile(`^oss-([a-z0-9-]+?)(-internal)?\.aliyuncs\.com$`)

// address returns the endpoint, with its scheme, and the region that is signed
// for.
func (c Config) address() (endpoint, region string, err error) {
	if c.Endpoint != "" {
		return c.explicit()
	}
	if c.Region == "" {
		return "", "", errors.New("no region: add region=REGION, as in region=cn-hangzhou, which requests are signed for")
	}
	switch {
	case c.Accelerate:
		endpoint = "https://oss-accelerate.aliyuncs.com"
	case c.Internal:
		endpoint = "https://oss-" + c.Region + "-internal.aliyuncs.com"
	default:
		endpoint = "https://oss-" + c.Region + ".aliyuncs.com"
	}
	if c.PathStyle {
		return "", "", errors.New("path-style goes with an endpoint of another vendor; Alibaba's own refuse it")
	}
	return endpoint, c.Region, nil
}

// explicit is address for a c with an endpoint.
func (c Config) explicit() (endpoint, region string, err error) {
	endpoint = c.Endpoint
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "", "", errors.New("the endpoint is not a host with https:// or http:// before it")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return "", "", errors.New("the endpoint has more to it than scheme, host and port")
	case strings.HasPrefix(u.Host, c.Bucket+"."):
		return "", "", fmt.Errorf("endpoint %s begins with the bucket's name; leave that out, it is put there by itself", u.Host)
	}
	own := ownEndpoint.FindStringSubmatch(u.Hostname())
	if own != nil && c.PathStyle {
		return "", "", errors.New("path-style goes with an endpoint of another vendor; Alibaba's own refuse it")
	}
	if c.Region != "" {
		return u.Scheme + "://" + u.Host, c.Region, nil
	}
	if own == nil || strings.HasPrefix(own[1], "accelerate") {
		return "", "", fmt.Errorf("endpoint %s does not say the region requests are signed for: add region=REGION, as in region=cn-hangzhou", u.Host)
	}
	return u.Scheme + "://" + u.Host, own[1], nil
}
