package tablestore

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	cloud := func(host string) Config {
		return Config{Endpoint: "https://" + host, Instance: "demo", Region: "cn-hangzhou"}
	}
	for address, want := range map[string]Config{
		"https://demo.cn-hangzhou.ots.aliyuncs.com":            cloud("demo.cn-hangzhou.ots.aliyuncs.com"),
		"https://demo.cn-hangzhou.ots.aliyuncs.com/":           cloud("demo.cn-hangzhou.ots.aliyuncs.com"),
		"https://demo.cn-hangzhou.ots-internal.aliyuncs.com":   cloud("demo.cn-hangzhou.ots-internal.aliyuncs.com"),
		"https://demo.cn-hangzhou.vpc.ots.aliyuncs.com":        cloud("demo.cn-hangzhou.vpc.ots.aliyuncs.com"),
		"https://demo.cn-hangzhou.tablestore.aliyuncs.com":     cloud("demo.cn-hangzhou.tablestore.aliyuncs.com"),
		"https://demo.cn-hangzhou.vpc.tablestore.aliyuncs.com": cloud("demo.cn-hangzhou.vpc.tablestore.aliyuncs.com"),
		"http://127.0.0.1:8087?instance=demo":                  {Endpoint: "http://127.0.0.1:8087", Instance: "demo"},
		"http://localhost:8087/?instance=demo":                 {Endpoint: "http://localhost:8087", Instance: "demo"},
		"http://[::1]:8087?instance=demo":                      {Endpoint: "http://[::1]:8087", Instance: "demo"},
		"https://gw.example.com?instance=demo&region=cn-x":     {Endpoint: "https://gw.example.com", Instance: "demo", Region: "cn-x"},
		"http://gw.example.com?instance=demo&insecure=true":    {Endpoint: "http://gw.example.com", Instance: "demo", Insecure: true},
		"https://demo.cn-x.ots.aliyuncs.com?instance=demo":     {Endpoint: "https://demo.cn-x.ots.aliyuncs.com", Instance: "demo", Region: "cn-x"},
	} {
		got, err := ParseURL(address)
		if err != nil {
			t.Errorf("ParseURL(%q): %v", address, err)
			continue
		}
		if got.String() != want.String() || got.Insecure != want.Insecure {
			t.Errorf("ParseURL(%q) = %v, insecure %t", address, got, got.Insecure)
		}
		got.AccessKeyID, got.AccessKeySecret = "id", "secret"
		if _, err := Open(got); err != nil {
			t.Errorf("Open(ParseURL(%q)): %v", address, err)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for address, want := range map[string]string{
		"":                                  "not an address",
		"demo.cn-hangzhou.ots.aliyuncs.com": "not an address",
		"https:demo.cn-hangzhou.ots.aliyuncs.com":                "not an address",
		"https://LTAI:hush@demo.cn-hangzhou.ots.aliyuncs.com":    "credentials do not belong",
		"https://LTAI:hush/x@demo.cn-hangzhou.ots.aliyuncs.com":  "not an address",
		"https://demo.cn-x.ots.aliyuncs.com?secret=hush":         "credentials do not belong",
		"https://demo.cn-x.ots.aliyuncs.com?%zzhush":             "malformed",
		"https://demo.cn-x.ots.aliyuncs.com/table":               "path",
		"https://demo.cn-x.ots.aliyuncs.com#hush":                "fragment",
		"http://demo.cn-hangzhou.ots.aliyuncs.com":               "in the clear",
		"http://gw.example.com?instance=demo&insecure=perhaps":   "neither true nor false",
		"http://gw.example.com?instance=demo&insecure=false":     "in the clear",
		"ftp://gw.example.com?instance=demo":                     "neither https nor http",
		"https://gw.example.com":                                 "does not name an instance",
		"https://gw.example.com?instance=":                       "without a value",
		"https://gw.example.com?instance=a&instance=b":           "more than once",
		"https://demo.cn-x.ots.aliyuncs.com?instance=other":      "the query says another",
		"https://demo.cn-x.ots.aliyuncs.com?region=cn-y":         "the query says another",
		"https://cn-x.ots.aliyuncs.com":                          "does not name an instance",
		"https://a.demo.cn-hangzhou.ots.aliyuncs.com":            "does not name an instance",
		"https://demo.cn-hangzhou.ots.aliyuncs.com.attacker.com": "does not name an instance",
	} {
		_, err := ParseURL(address)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseURL(%q): got %v, want an error with %q", address, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("ParseURL(%q): the error repeats what may be a secret: %v", address, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	good := Config{Endpoint: "https://demo.cn-x.ots.aliyuncs.com", Instance: "demo", AccessKeyID: "id", AccessKeySecret: "secret"}
	if _, err := Open(good); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Config){
		"not an address":       func(c *Config) { c.Endpoint = "demo" },
		"holds credentials":    func(c *Config) { c.Endpoint = "https://id:hush@demo.example.com" },
		"after the host":       func(c *Config) { c.Endpoint += "/table" },
		"in the clear":         func(c *Config) { c.Endpoint = "http://demo.example.com" },
		"no instance":          func(c *Config) { c.Instance = "" },
		"no access key id":     func(c *Config) { c.AccessKeyID = "" },
		"no access key secret": func(c *Config) { c.AccessKeySecret = "" },
		"cannot be sent":       func(c *Config) { c.AccessKeyID = "id\n" },
		"negative":             func(c *Config) { c.WriteRequests = -1 },
	} {
		c := good
		spoil(&c)
		_, err := Open(c)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("the error holds a secret: %v", err)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	c := Config{
		Endpoint:        "https://demo.cn-x.ots.aliyuncs.com",
		Instance:        "demo",
		Region:          "cn-x",
		AccessKeyID:     "LTAIvisible",
		AccessKeySecret: "hush-secret",
		SecurityToken:   "hush-token",
	}
	in, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, v := range []any{c, &c, in, struct{ C Config }{c}, struct{ In *Instance }{in}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("opened", "config", c, "instance", in)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("opened", "config", c)
	hidden := regexp.MustCompile(`hush|` + fmt.Sprintf("%x", "hush"))
	if at := hidden.FindIndex(out.Bytes()); at != nil {
		t.Errorf("a secret is printed: %s", out.Bytes()[max(0, at[0]-60):at[1]+10])
	}
	if !strings.Contains(out.String(), "LTAIvisible") {
		t.Error("the access key id, which is not secret, is nowhere")
	}
}

// The SDK's module path has a newer-looking version from 2019, which any tool
// that updates dependencies picks.
func TestSDKIsPinned(t *testing.T) {
	const want = "\tgithub.com/aliyun/aliyun-tablestore-go-sdk v1.8.0\n"
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(mod, []byte(want)) {
		t.Errorf("go.mod does not have the line %q", want)
	}
	if bytes.Contains(mod, []byte("replace github.com/aliyun/aliyun-tablestore-go-sdk")) {
		t.Error("go.mod replaces the SDK")
	}
}
