package oss

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// noEnvironment leaves no variable that says where credentials are.
func noEnvironment(t *testing.T) {
	t.Helper()
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "ALIBABA_CLOUD_") || strings.HasPrefix(name, "OSS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
	t.Setenv("ALIBABA_CLOUD_CONFIG_FILE", filepath.Join(t.TempDir(), "none.json"))
	t.Setenv("ALIBABA_CLOUD_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
}

func wantKeys(t *testing.T, c *credentials, want keys) {
	t.Helper()
	got, err := c.GetCredentialsE()
	if err != nil || got != want {
		t.Errorf("got %+v, error %v; want %+v", got, err, want)
	}
}

func TestTheEnvironmentIsAskedFirst(t *testing.T) {
	noEnvironment(t)
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "id2")
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret2")
	t.Setenv("ALIBABA_CLOUD_SECURITY_TOKEN", "token2")
	wantKeys(t, newCredentials(""), keys{"id2", "secret2", "token2"})
	wantKeys(t, newCredentials("env"), keys{"id2", "secret2", "token2"})

	t.Setenv("OSS_ACCESS_KEY_ID", "id1")
	t.Setenv("OSS_ACCESS_KEY_SECRET", "secret1")
	wantKeys(t, newCredentials("default"), keys{"id1", "secret1", ""})
}

func TestAProfileIsTakenFromEitherFile(t *testing.T) {
	noEnvironment(t)
	config := filepath.Join(t.TempDir(), "config.json")
	write(t, config, `{"current":"main","profiles":[
		{"name":"main","mode":"AK","access_key_id":"id1","access_key_secret":"secret1"},
		{"name":"other","mode":"StsToken","access_key_id":"id2","access_key_secret":"secret2","sts_token":"token2"}]}`)
	t.Setenv("ALIBABA_CLOUD_CONFIG_FILE", config)
	wantKeys(t, newCredentials("default"), keys{"id1", "secret1", ""})
	wantKeys(t, newCredentials("profile:other"), keys{"id2", "secret2", "token2"})

	file := filepath.Join(t.TempDir(), "credentials")
	write(t, file, "[officer]\ntype = access_key\naccess_key_id = id3\naccess_key_secret = secret3\n")
	t.Setenv("ALIBABA_CLOUD_CREDENTIALS_FILE", file)
	wantKeys(t, newCredentials("profile:officer"), keys{"id3", "secret3", ""})
}

func TestWithoutCredentialsTheErrorNamesEveryPlaceAndNoSecret(t *testing.T) {
	noEnvironment(t)
	config := filepath.Join(t.TempDir(), "config.json")
	write(t, config, `access_key_id: LTAI5t, access_key_secret: hunter2`)
	t.Setenv("ALIBABA_CLOUD_CONFIG_FILE", config)
	file := filepath.Join(t.TempDir(), "credentials")
	write(t, file, "[default]\naccess_key_secret hunter2\n")
	t.Setenv("ALIBABA_CLOUD_CREDENTIALS_FILE", file)
	_, err := newCredentials("default").GetCredentialsE()
	if err == nil {
		t.Fatal("got credentials, want none")
	}
	for _, place := range []string{"OSS_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_ID", "OIDC", "profile", "ECS", "URI"} {
		if !strings.Contains(err.Error(), place) {
			t.Errorf("got %v, want a word on %s", err, place)
		}
	}
	if strings.Contains(err.Error(), "hunter2") || temporary(err) {
		t.Errorf("got %v (temporary: %t), want an error without the secret, for good", err, temporary(err))
	}
}

func TestCredentialsOfAURIAreRefreshed(t *testing.T) {
	noEnvironment(t)
	var n atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, session(int(n.Add(1)), time.Now().Add(time.Minute))) // due at once
	}))
	t.Cleanup(server.Close)
	t.Setenv("ALIBABA_CLOUD_CREDENTIALS_URI", server.URL)
	c := newCredentials("uri")
	wantKeys(t, c, keys{"id1", "secret1", "token1"})
	wantKeys(t, c, keys{"id2", "secret2", "token2"})
}

// session is a reply with credentials as Alibaba's services word it.
func session(n int, expires time.Time) string {
	return fmt.Sprintf(`{"Code":"Success","AccessKeyId":"id%d","AccessKeySecret":"secret%d","SecurityToken":"token%d","Expiration":%q}`,
		n, n, n, expires.UTC().Format(time.RFC3339))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAnECSInstanceHasTheKeysOfItsRole(t *testing.T) {
	noEnvironment(t)
	t.Setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "")
	var n atomic.Int32
	divert(t, map[string]http.Handler{"100.100.100.200": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			io.WriteString(w, "metadata token")
		case r.Header.Get("x-aliyun-ecs-metadata-token") != "metadata token":
			http.Error(w, "no token", http.StatusForbidden)
		case r.URL.Path == "/latest/meta-data/ram/security-credentials/":
			io.WriteString(w, "exporter")
		case r.URL.Path == "/latest/meta-data/ram/security-credentials/exporter":
			io.WriteString(w, session(int(n.Add(1)), time.Now().Add(time.Hour)))
		case r.URL.Path == "/latest/meta-data/ram/security-credentials/broken":
			io.WriteString(w, `{"AccessKeyId":"id","AccessKeySecret":"hunter2","SecurityToken":"t"}`)
		default:
			http.NotFound(w, r)
		}
	})})
	c := newCredentials("ecs-ram-role")
	wantKeys(t, c, keys{"id1", "secret1", "token1"})
	wantKeys(t, c, keys{"id1", "secret1", "token1"})
	wantKeys(t, newCredentials("ecs-ram-role:exporter"), keys{"id2", "secret2", "token2"})
	wantKeys(t, newCredentials("default"), keys{"id3", "secret3", "token3"})

	c.renew(c.generation())
	wantKeys(t, c, keys{"id4", "secret4", "token4"})

	for role, want := range map[string]string{"none": "httpStatus", "broken": "without what it must have"} {
		_, err := newCredentials("ecs-ram-role:" + role).GetCredentialsE()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("role %s: got %v, want an error with %q and without the secret", role, err, want)
		}
	}
}

func TestAnOIDCTokenIsExchangedForKeys(t *testing.T) {
	noEnvironment(t)
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, "oidc token")
	t.Setenv("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token)
	t.Setenv("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/p")
	t.Setenv("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/exporter")
	var n atomic.Int32
	divert(t, map[string]http.Handler{"sts.aliyuncs.com": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("Action") != "AssumeRoleWithOIDC" || r.FormValue("RoleArn") != "acs:ram::1:role/exporter" {
			http.Error(w, "unexpected "+r.URL.String(), http.StatusBadRequest)
			return
		}
		if r.FormValue("OIDCToken") != "oidc token" {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"RequestId":"7C","Code":"AuthenticationFail.OIDCToken.Invalid","Message":"This JSON Web Token is invalid.","OIDCToken":"hunter2"}`)
			return
		}
		fmt.Fprintf(w, `{"Credentials":%s}`, session(int(n.Add(1)), time.Now().Add(time.Minute)))
	})})
	c := newCredentials("oidc")
	wantKeys(t, c, keys{"id1", "secret1", "token1"})
	wantKeys(t, newCredentials("default"), keys{"id2", "secret2", "token2"})

	write(t, token, "another")
	wantKeys(t, c, keys{"id1", "secret1", "token1"}) // not refreshed, but good for a minute
	_, err := newCredentials("oidc").GetCredentialsE()
	if err == nil || !strings.Contains(err.Error(), "AuthenticationFail.OIDCToken.Invalid") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want the service's code and no token", err)
	}
}

// divert has the providers, which take their transport from the default one,
// reach these handlers under the names of hosts.
func divert(t *testing.T, hosts map[string]http.Handler) {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := hosts[r.Host]; h != nil {
			h.ServeHTTP(w, r)
			return
		}
		http.Error(w, "no host "+r.Host, http.StatusBadGateway)
	})
	secure := httptest.NewTLSServer(handler)
	t.Cleanup(secure.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			handler.ServeHTTP(w, r)
			return
		}
		tunnel(w, secure.Listener.Addr().String())
	}))
	t.Cleanup(proxy.Close)
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	old := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = old })
	http.DefaultTransport = &http.Transport{
		Proxy:             http.ProxyURL(address),
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: "example.com"},
		DisableKeepAlives: true,
	}
}

// tunnel joins the connection of a CONNECT with another.
func tunnel(w http.ResponseWriter, to string) {
	there, err := net.Dial("tcp", to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	go io.Copy(there, here)
	io.Copy(here, there)
}

func TestKeysInUseOutliveARefreshThatFails(t *testing.T) {
	var fail bool
	var asked int
	c := &credentials{open: func() []source {
		return []source{{"fake", func() (keys, error) {
			asked++
			if fail {
				return keys{}, errors.New("the service is away")
			}
			return keys{"id", "secret", ""}, nil
		}}}
	}}
	wantKeys(t, c, keys{"id", "secret", ""})
	fail = true
	for range 3 {
		wantKeys(t, c, keys{"id", "secret", ""})
	}
	if asked != 2 {
		t.Errorf("asked %d times, want 2: the second failed, and rests", asked)
	}

	c.renew(c.generation()) // they are of no use any more
	_, err := c.GetCredentialsE()
	if err == nil || !temporary(err) {
		t.Errorf("got %v (temporary: %t), want an error that may pass", err, temporary(err))
	}
	fail = false
	wantKeys(t, c, keys{"id", "secret", ""})
}

func TestKeysAreRenewedOnceForAllWhoHadThem(t *testing.T) {
	opened := 0
	c := &credentials{open: func() []source {
		opened++
		n := opened
		return []source{{"fake", func() (keys, error) { return keys{fmt.Sprint("id", n), "secret", ""}, nil }}}
	}}
	wantKeys(t, c, keys{"id1", "secret", ""})
	generation := c.generation()
	for range 4 {
		c.renew(generation)
		wantKeys(t, c, keys{"id2", "secret", ""})
	}
}

func TestErrorsOfProvidersAreScrubbed(t *testing.T) {
	tests := []struct{ text, want string }{
		{"plain", "plain"},
		{`Post "https://sts.aliyuncs.com/?AccessKeyId=a&Signature=hunter2": EOF`, `Post "https://sts.aliyuncs.com/?...": EOF`},
		{`refresh failed: {"Code":"NoPermission","Message":"You are not authorized","AccessKeySecret":"hunter2"}`,
			"refresh failed: Code NoPermission, Message You are not authorized"},
		{`unmarshal aliyun cli config from '/c' failed: access_key_secret=hunter2`, "unmarshal aliyun cli"},
		{"key-value delimiter not found: access_key_secret hunter2", "key-value"},
		{"a\nhunter2", "a"},
		{"Secret: hunter2 was wrong", "Secret ... was wrong"},
		{`refused: {"Code":"SignatureDoesNotMatch","Message":"Specified signature is not matched with our calculation. server string to sign is:POST&%2F&AccessKeyId%3Dsts1%26SecurityToken%3Dhunter2%26Version%3D1"}`,
			"refused: Code SignatureDoesNotMatch, Message Specified signature is not matched with our calculation. server string to sign is:POST&%2F&AccessKeyId%3Dsts1%26SecurityToken ..."},
		{`refused: {"Code":"X","Message":"no token: hunter2"}`, "refused: Code X, Message no token ..."},
		{`refused: {"Message":"` + strings.Repeat("x", 1000) + `"}`, "refused: Message " + strings.Repeat("x", 300)},
	}
	for _, test := range tests {
		if got := scrub(test.text); got != test.want {
			t.Errorf("scrub(%q): got %q, want %q", test.text, got, test.want)
		}
	}
}
