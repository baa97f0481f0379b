package s3

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Config says where an archive is and how it is to be kept there.
type Config struct {
	Bucket string
	Prefix string // of all keys, without a slash at either end; empty: none

	Region    string // empty: the environment's, or what the bucket turns out to have
	Endpoint  string // scheme, host and port of a server that is not AWS's; empty: AWS
	PathStyle bool   // http://host/bucket/key instead of http://bucket.host/key

	Class        string // storage class of bulk objects; empty, and for all others: the bucket's default
	SSE          string // server-side encryption: AES256, aws:kms or aws:kms:dsse; empty: the bucket's default
	KMSKey       string // id, alias or ARN of the key of aws:kms; empty: the account's default
	RequestPayer bool   // whoever asks agrees to pay
	Profile      string // of the shared configuration files; empty: the environment's

	GiveUpAfter time.Duration // how long one request is tried; 0: [remote.GiveUpAfter]
	OnRetry     func(error)   // told before a request is repeated; may be nil
	Idle        time.Duration // how long a connection may stand still; 0: [remote.Idle]
}

// parameters are those of the URL.
var parameters = []string{"class", "endpoint", "kms-key", "path-style", "profile", "region", "request-payer", "sse"}

// ParseURL reads a place of the form
//
//	s3://bucket/prefix?region=&endpoint=&path-style=true&class=&sse=&kms-key=&request-payer=requester&profile=
//
// in which everything after the bucket may be left out. It does not look at the
// environment and does not connect.
func ParseURL(text string) (Config, error) {
	c, err := parseURL(text)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return Config{}, fmt.Errorf("s3: %w", err)
	}
	return c, nil
}

// parseURL does not quote text in its errors until it is known to hold no
// credentials.
func parseURL(text string) (Config, error) {
	u, err := url.Parse(text)
	if err != nil {
		var parseErr *url.Error
		if errors.As(err, &parseErr) {
			err = parseErr.Err
		}
		return Config{}, fmt.Errorf("not a URL: %w", err)
	}
	switch {
	case u.User != nil:
		return Config{}, errors.New("credentials do not belong in a URL, where logs and process lists show them; use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or profile=")
	case u.Scheme != "s3":
		return Config{}, fmt.Errorf("scheme %q; write s3://bucket/prefix", u.Scheme)
	case u.Opaque != "" || u.Host == "":
		return Config{}, errors.New("the URL names no bucket; write s3://bucket/prefix")
	case u.Fragment != "" || strings.HasSuffix(text, "#"):
		return Config{}, errors.New("the URL has a part after #; write %23 for a # in a prefix")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Config{}, errors.New("parameters are malformed; write them as in ?region=eu-west-1&class=STANDARD_IA")
	}
	c := Config{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	for name, values := range query {
		if len(values) != 1 {
			return Config{}, fmt.Errorf("parameter %s is there %d times", name, len(values))
		}
		if err := c.set(name, values[0]); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

func (c *Config) set(name, value string) error {
	if !slices.Contains(parameters, name) {
		return fmt.Errorf("no parameter %q; there are %s", name, strings.Join(parameters, ", "))
	}
	if value == "" {
		return fmt.Errorf("parameter %s is empty; leave it out or give it a value", name)
	}
	switch name {
	case "region":
		c.Region = value
	case "endpoint":
		c.Endpoint = value
	case "path-style":
		if value != "true" && value != "false" {
			return fmt.Errorf("path-style is true or false, not %q", value)
		}
		c.PathStyle = value == "true"
	case "class":
		c.Class = value
	case "sse":
		c.SSE = value
	case "kms-key":
		c.KMSKey = value
	case "request-payer":
		if value != "requester" {
			return fmt.Errorf("request-payer can only be requester, not %q", value)
		}
		c.RequestPayer = true
	case "profile":
		c.Profile = value
	}
	return nil
}

var (
	bucketForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	regionForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)
	classForm   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	encryptions = []string{"", "AES256", "aws:kms", "aws:kms:dsse"}
)

// maxPrefix leaves room for a slash and an object's name in the 1024 bytes S3
// takes.
const maxPrefix = 1024 - 1 - 512

// check finds what cannot be right, and writes what can be written in several
// ways in one.
func (c *Config) check() error {
	if err := checkBucket(c.Bucket); err != nil {
		return err
	}
	if err := checkPrefix(c.Prefix); err != nil {
		return err
	}
	if c.Region != "" && !regionForm.MatchString(c.Region) {
		return fmt.Errorf("region %q; it is a name such as eu-west-1", c.Region)
	}
	if c.Class != "" && !classForm.MatchString(c.Class) {
		return fmt.Errorf("class %q; it is a name such as STANDARD_IA, GLACIER_IR or DEEP_ARCHIVE", c.Class)
	}
	if c.KMSKey != "" && c.SSE == "" {
		c.SSE = "aws:kms"
	}
	if !slices.Contains(encryptions, c.SSE) {
		return fmt.Errorf("sse %q; there are AES256, aws:kms and aws:kms:dsse", c.SSE)
	}
	if c.KMSKey != "" && c.SSE == "AES256" {
		return errors.New("kms-key goes with sse=aws:kms, not with AES256, whose keys are S3's own")
	}
	var err error
	c.Endpoint, err = checkEndpoint(c.Endpoint)
	return err
}

func checkBucket(name string) error {
	_, notAddress := netip.ParseAddr(name)
	switch {
	case !bucketForm.MatchString(name) || strings.Contains(name, "..") || notAddress == nil:
		return fmt.Errorf("bucket name %q; it is 3 to 63 of a-z, 0-9, - and ., begins and ends with a letter or digit, and is no IP address", name)
	case strings.HasSuffix(name, "--x-s3"):
		return fmt.Errorf("%s is a directory bucket, which lists in no order and has no locks; use a general purpose bucket", name)
	case strings.HasSuffix(name, "--ol-s3"):
		return fmt.Errorf("%s is an Object Lambda access point, which may change what is read; use the bucket behind it", name)
	}
	return nil
}

func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if len(prefix) > maxPrefix {
		return fmt.Errorf("prefix of %d bytes, at most %d are possible", len(prefix), maxPrefix)
	}
	if !utf8.ValidString(prefix) || strings.ContainsFunc(prefix, unicode.IsControl) {
		return fmt.Errorf("prefix %q is not UTF-8 or has a control character", prefix)
	}
	for part := range strings.SplitSeq(prefix, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("prefix %q has an empty part, . or .., which servers take for something else", prefix)
		}
	}
	return nil
}

// checkEndpoint returns scheme, host and, where it is not the scheme's own, port.
func checkEndpoint(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", errors.New("the endpoint is not a URL; write it as in https://minio.example.com:9000")
	}
	if u.User != nil {
		return "", errors.New("the endpoint has credentials in it; they belong in the environment or in a profile")
	}
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	if scheme != "http" && scheme != "https" || host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("endpoint %q; write scheme, host and port alone, as in https://minio.example.com:9000", text)
	}
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		port = ""
	}
	if port != "" {
		return scheme + "://" + net.JoinHostPort(host, port), nil
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return scheme + "://" + host, nil
}

// String returns the URL that [ParseURL] reads as c, always in the same form. It
// holds no secrets.
func (c Config) String() string {
	_ = c.check() // for the one form; what is wrong is shown as it is
	query := url.Values{}
	add := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	add("region", c.Region)
	add("endpoint", c.Endpoint)
	if c.PathStyle {
		add("path-style", "true")
	}
	add("class", c.Class)
	add("sse", c.SSE)
	add("kms-key", c.KMSKey)
	if c.RequestPayer {
		add("request-payer", "requester")
	}
	add("profile", c.Profile)
	u := url.URL{Scheme: "s3", Host: c.Bucket, RawQuery: query.Encode()}
	if c.Prefix != "" {
		u.Path = "/" + c.Prefix
	}
	return u.String()
}

// key is the key of the object called name.
func (c Config) key(name string) string {
	if c.Prefix == "" {
		return name
	}
	return c.Prefix + "/" + name
}

// name is the name of the object with that key.
func (c Config) name(key string) string {
	if c.Prefix == "" {
		return key
	}
	return strings.TrimPrefix(key, c.Prefix+"/")
}
