package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/archive/oss/osstest"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// Secrets nobody but who is asked for them may see.
const (
	canaryTable      = "canaryTablestoreSecret7dQ2x"
	canaryTableToken = "canaryTablestoreToken5fW9k"
	canaryOSS        = "canaryOSSSecret3hK8vLq"
	canaryOSSToken   = "canaryOSSToken6jP4mRt"
	canaryS3         = "canaryS3Secret9sD1nBz"
	canaryS3Token    = "canaryS3Token2gX7cYw"
	canaryProxy      = "canaryProxyPassword8zM"
	canaryFile       = "canaryCredentialsFile4bN"
	canaryPass       = "canaryPassphraseInAVariable6tH"
	canaryPassFile   = "canaryPassphraseInAFile2vE"
)

// canary runs the program with such secrets, and keeps all that it writes.
type canary struct {
	*killer
	work    string // all the program may write to
	source  string
	buckets *osstest.Server
	secrets map[string][]byte
	outputs map[string]string // by command
	server  *local.Server
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	c := &canary{killer: newKiller(t, 5), outputs: map[string]string{}, secrets: map[string][]byte{}}
	c.work = filepath.Join(c.dir, "work")
	for _, folder := range []string{"tmp", "home", "config", "state", "cache", "archive"} {
		if err := os.MkdirAll(filepath.Join(c.work, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	server, err := local.Open(local.Options{Keys: map[string]string{"id": canaryTable}})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() {
		front.Close()
		server.Close()
	})
	c.server, c.source = server, front.URL+"?instance=shop"
	if _, err := sample.Load(t.Context(), tablestore.NewClient(front.URL, "shop", "id", canaryTable), sample.Oddities); err != nil {
		t.Fatal(err)
	}
	c.buckets, err = osstest.New(osstest.Options{AccessKeyID: "id", AccessKeySecret: canaryOSS, SecurityToken: canaryOSSToken})
	if err != nil {
		t.Fatal(err)
	}
	c.env = []string{
		"TABLESTORE_ACCESS_KEY_ID=id", "TABLESTORE_ACCESS_KEY_SECRET=" + canaryTable,
		"OSS_ACCESS_KEY_ID=id", "OSS_ACCESS_KEY_SECRET=" + canaryOSS, "OSS_SESSION_TOKEN=" + canaryOSSToken,
		"AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=" + canaryS3, "AWS_SESSION_TOKEN=" + canaryS3Token, "AWS_REGION=eu-central-1",
		"TMPDIR=" + filepath.Join(c.work, "tmp"), "HOME=" + filepath.Join(c.work, "home"),
		"XDG_CONFIG_HOME=" + filepath.Join(c.work, "config"), "XDG_STATE_HOME=" + filepath.Join(c.work, "state"), "XDG_CACHE_HOME=" + filepath.Join(c.work, "cache"),
	}
	for _, secret := range []string{canaryTable, canaryTableToken, canaryOSS, canaryOSSToken, canaryS3, canaryS3Token, canaryProxy, canaryFile, canaryPass, canaryPassFile} {
		c.secrets[secret] = []byte(secret)
	}
	return c
}

// runs runs a command, whatever comes of it, and keeps what it says.
func (c *canary) runs(args ...string) (output string, failed bool) {
	c.t.Helper()
	output, _, err := c.start(0, args...)
	c.outputs[fmt.Sprintf("%d: otsnap %s", len(c.outputs), strings.Join(args, " "))] = output
	return output, err != nil
}

func (c *canary) works(args ...string) {
	c.t.Helper()
	if output, failed := c.runs(args...); failed {
		c.t.Fatalf("otsnap %s:\n%s", strings.Join(args, " "), output)
	}
}

func (c *canary) fails(args ...string) {
	c.t.Helper()
	if output, failed := c.runs(args...); !failed {
		c.t.Fatalf("otsnap %s did not fail:\n%s", strings.Join(args, " "), output)
	}
}

// privateKey adds the parts of a private key to the secrets.
func (c *canary) privateKey(path string) {
	c.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		c.t.Fatal(err)
	}
	c.secrets["private key in PEM"] = bytes.Split(text, []byte("\n"))[1]
	c.secrets["private key"] = key.(ed25519.PrivateKey).Seed()
}

// TestNoSecretIsWrittenAnywhere does the whole job with secrets that are easy to
// find, lets much of it fail, and looks for them in the archives, in everything else
// the program wrote, and in what it said.
func TestNoSecretIsWrittenAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	c := newCanary(t)
	key := filepath.Join(c.dir, "exporter.pem")
	c.works("key", "gen", "--out", key)
	c.privateKey(key)
	archive := filepath.Join(c.work, "archive", "shop")
	if err := c.buckets.CreateBucket("backups", osstest.BucketOptions{}); err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(c.buckets)
	t.Cleanup(front.Close)
	bucket := "oss://backups/shop?region=cn-hangzhou&path-style=true&endpoint=" + front.URL
	target := strings.Replace(c.source, "shop", "rescue", 1)

	c.works("key", "show", key, "--json")
	c.works("init", archive, "--key", key, "--json")
	c.works("init", bucket, "--key", key)
	c.works("export", c.source, archive, bucket, "--key", key, "--json")
	c.works("export", c.source, archive, bucket, "--key", key)
	c.killedHalfWay(archive, key)
	for i, place := range []string{archive, bucket} {
		c.works("verify", place, "--level", "rows", "--json", "--record", "--receipt-key", key, "--receipt", filepath.Join(c.work, fmt.Sprint("receipt", i, ".json")))
		c.works("list", place)
		c.works("show", place, "--json")
	}
	plan := filepath.Join(c.work, "plan.json")
	c.works("restore", archive, target, "--plan", plan)
	c.failsHalfWay("restore", archive, target)
	c.works("restore", archive, target, "--resume", "--json")
	c.works("compare", bucket, target, "--json")
	c.works("schema", archive, "--format", "go")
	c.works("cat", archive, sample.Oddities)
	c.works("copy", bucket, filepath.Join(c.work, "archive", "copy"))
	c.wrongKeys(archive, bucket, key)
	c.hostileServers(archive, key)
	c.passphrases(archive)
	c.nothingFound()
}

// killedHalfWay kills an export, so that what it had not cleared away yet is seen.
func (c *canary) killedHalfWay(archive, key string) {
	output, _, _ := c.start(150*time.Millisecond, "export", c.source, archive, "--key", key)
	c.outputs["killed export"] = output
}

// failsHalfWay runs a command whose writes are refused from the second on.
func (c *canary) failsHalfWay(args ...string) {
	c.t.Helper()
	fault, err := local.ParseFault("BatchWriteRow:unavailable")
	if err == nil {
		err = c.server.Misbehave(fault)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.fails(append(args, "--give-up-after", "200ms")...)
	if err := c.server.Misbehave(); err != nil {
		c.t.Fatal(err)
	}
}

// with runs f with other variables.
func (c *canary) with(env []string, f func()) {
	before := c.env
	c.env = append(append([]string{}, before...), env...)
	f()
	c.env = before
}

// wrongKeys are secrets that the servers refuse.
func (c *canary) wrongKeys(archive, bucket, key string) {
	c.t.Helper()
	c.with([]string{"TABLESTORE_ACCESS_KEY_SECRET=" + canaryTableToken}, func() { c.fails("export", c.source, archive, "--key", key, "--json") })
	c.with([]string{"TABLESTORE_SECURITY_TOKEN=" + canaryTableToken, "TABLESTORE_ACCESS_KEY_ID=other"}, func() { c.fails("export", c.source, archive, "--key", key) })
	c.with([]string{"OSS_ACCESS_KEY_SECRET=" + canaryS3}, func() { c.fails("verify", bucket) })
	c.with([]string{"OSS_SESSION_TOKEN=" + canaryS3Token}, func() { c.fails("verify", bucket, "--json") })
	c.with([]string{"HTTP_PROXY=http://user:" + canaryProxy + "@127.0.0.1:1"}, func() {
		c.fails("export", "http://shop.cn-hangzhou.ots.example.invalid", archive, "--key", key, "--give-up-after", "200ms")
	})
	file := filepath.Join(c.dir, "credentials")
	for _, text := range []string{"access_key_id=" + canaryFile, canaryFile, `{"AccessKeyId": ` + canaryFile + `}`, "access_key_id=id\naccess_key_secret=" + canaryFile} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			c.t.Fatal(err)
		}
		c.fails("export", c.source, archive, "--key", key, "--credentials", file)
	}
	c.fails("export", "http://id:"+canaryTable+"@127.0.0.1:1?instance=shop", archive, "--key", key)
}

// passphrases are of keys that sign, and of keys they do not fit.
func (c *canary) passphrases(archive string) {
	c.t.Helper()
	file := filepath.Join(c.dir, "passphrase")
	if err := os.WriteFile(file, []byte(canaryPassFile+"\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	talker := filepath.Join(c.dir, "talker")
	if err := os.WriteFile(talker, []byte("#!/bin/sh\nenv >&2\nenv\nexit 3\n"), 0o755); err != nil {
		c.t.Fatal(err)
	}
	locked, other := filepath.Join(c.dir, "locked.pem"), filepath.Join(c.work, "archive", "locked")
	c.works("key", "gen", "--out", locked, "--passphrase-file", file)
	c.works("init", other, "--key", locked, "--passphrase-file", file, "--json")
	c.works("export", c.source, other, "--key", locked, "--passphrase-file", file)
	c.with([]string{"OTSNAP_KEY_PASSPHRASE=" + canaryPass}, func() {
		c.fails("export", c.source, other, "--key", locked)
		c.fails("export", c.source, other, "--key", "exec:"+filepath.Join(c.dir, "nowhere"), "--json")
		c.works("key", "gen", "--out", filepath.Join(c.dir, "locked2.pem"), "--passphrase")
		c.works("key", "show", filepath.Join(c.dir, "locked2.pem"), "--json")
	})
	// A program that signs is given what key services may need, and nothing else.
	none := []string{"OTSNAP_KEY_PASSPHRASE=" + canaryPass}
	for _, name := range []string{"OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		none = append(none, name+"=")
	}
	c.with(none, func() { c.fails("key", "show", "exec:"+talker) })
	c.fails("export", c.source, archive, "--key", file) // the passphrase in place of the key
}

// hostileServers answer with whatever they were sent, as some proxies do.
func (c *canary) hostileServers(archive, key string) {
	c.t.Helper()
	for _, status := range []int{400, 403, 500, 302} {
		echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var sent bytes.Buffer
			_ = r.Header.Write(&sent)
			told := fmt.Sprintf("%s %s\n%s", r.Method, r.URL, sent.String())
			w.Header().Set("Location", "/?"+url.QueryEscape(told))
			w.WriteHeader(status)
			switch {
			case r.Header.Get("X-Ots-Apiversion") != "":
				w.Write(otsError("OTSParameterInvalid", told))
			default:
				fmt.Fprintf(w, "<Error><Code>InvalidArgument</Code><Message>%s</Message><RequestId>1</RequestId></Error>", told)
			}
		}))
		const patience = "--give-up-after=100ms"
		c.with([]string{"TABLESTORE_SECURITY_TOKEN=" + canaryTableToken}, func() {
			c.fails("export", echo.URL+"?instance=shop", archive, "--key", key, patience)
		})
		id := "--archive-id=" + strings.Repeat("ab", 32)
		c.fails("verify", "oss://backups/shop?region=cn-hangzhou&path-style=true&endpoint="+echo.URL, id, patience)
		c.fails("verify", "s3://backups/shop?region=eu-central-1&path-style=true&endpoint="+echo.URL, id, patience, "--json")
		echo.Close()
	}
}

// otsError is an error of Tablestore's in protobuf.
func otsError(code, message string) []byte {
	out := append([]byte{0x0a, byte(len(code))}, code...)
	out = append(out, 0x12, byte(len(message)&0x7f|0x80), byte(len(message)>>7))
	return append(out, message...)
}

// nothingFound looks for every secret in every spelling.
func (c *canary) nothingFound() {
	c.t.Helper()
	for command, output := range c.outputs {
		// What the user typed may be told back, but not by us.
		c.look("what is said by "+strings.ReplaceAll(command, canaryTable, "…"), []byte(output))
	}
	files := 0
	err := filepath.WalkDir(c.work, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files++
		c.look(path, data)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	objects, err := c.buckets.Objects("backups")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, o := range objects {
		data, err := c.buckets.Read("backups", o.Key)
		if err != nil {
			c.t.Fatal(err)
		}
		c.look("the bucket's "+o.Key, data)
	}
	if files < 20 || len(objects) < 10 || len(c.outputs) < 30 {
		c.t.Errorf("only %d files, %d objects and %d outputs were looked at", files, len(objects), len(c.outputs))
	}
}

func (c *canary) look(where string, data []byte) {
	c.t.Helper()
	for name, secret := range c.secrets {
		for _, form := range []string{
			string(secret), hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret),
			url.QueryEscape(string(secret)), fmt.Sprint([]byte(secret)),
		} {
			if at := bytes.Index(data, []byte(form)); at >= 0 {
				c.t.Errorf("%s has %s: %q", where, name, data[max(0, at-200):min(len(data), at+len(form)+20)])
				break
			}
		}
	}
}
