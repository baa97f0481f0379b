package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/manifest"
)

// TestRegeneratedKeysAreInASignedReceipt restores a table whose keys the service
// completes, and reads what the receipt signs.
func TestRegeneratedKeysAreInASignedReceipt(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the program")
	}
	url, _ := startServer(t)
	source := newShop(t, url, "shop")
	source.make("counted", wideTables()["counted"])
	source.make("plain", wideTables()["plain"])
	k := newKiller(t, 5)
	k.env = []string{"XDG_CONFIG_HOME=" + filepath.Join(k.dir, "config")}
	path := func(name string) string { return filepath.Join(k.dir, name) }
	k.must("key", "gen", "--out", path("key.pem"))
	k.must("init", path("backup"), "--key", path("key.pem"))
	k.must("export", url+"?instance=shop", path("backup"), "--key", path("key.pem"))

	restore := []string{"restore", path("backup"), url + "?instance=rescue", "--auto-increment", "regenerate"}
	if out, _, err := k.start(0, restore...); err == nil || !strings.Contains(out, "give --receipt FILE and --receipt-key") {
		t.Errorf("without a receipt: %v\n%s", err, out)
	}
	out := k.must(append(restore, "--receipt", path("receipt.json"), "--receipt-key", path("key.pem"))...)
	if !strings.Contains(out, "k2: the service chooses new values") {
		t.Errorf("the choice is not told:\n%s", out)
	}

	sealed, err := os.ReadFile(path("receipt.json"))
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(path("key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := manifest.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	signedReceipt, err := manifest.OpenReceiptBy(sealed, key.Key())
	if err != nil {
		t.Fatal(err)
	}
	var signed receiptDocument
	if err := json.Unmarshal(signedReceipt.Report, &signed); err != nil {
		t.Fatal(err)
	}
	keys, err := os.ReadFile(path("receipt.json.keys.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if signed.Keys == nil || signed.Keys.SHA256 != sha256.Sum256(keys) || signed.Keys.Rows != 30 || strings.Count(string(keys), "\n") != 30 {
		t.Errorf("the receipt signs keys %+v", signed.Keys)
	}
	var first struct{ Table, Was, Is string }
	line, _, _ := strings.Cut(string(keys), "\n")
	if err := json.Unmarshal([]byte(line), &first); err != nil || first.Table != "counted" || !strings.HasPrefix(first.Was, `("key 00", `) || !strings.HasPrefix(first.Is, `("key 00", `) {
		t.Errorf("the first line is %s, %v", line, err)
	}
	described := newShop(t, url, "rescue").describe("counted")
	if d := descriptionDifferences(t, source.describe("counted"), described); len(d) > 0 {
		t.Errorf("the table came back with another %q: %s", d, fmt.Sprint(described))
	}
}
