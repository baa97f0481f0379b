package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// TestMemoryIsKeptTo runs the program on cells of 2 MB that do not compress, with more
// workers than it has memory for.
func TestMemoryIsKeptTo(t *testing.T) {
	if os.Getenv("OTSNAP_SOAK") == "" || runtime.GOOS != "linux" {
		t.Skip("moves gigabytes, and looks into /proc; OTSNAP_SOAK=1 runs it")
	}
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() { front.Close(); server.Close() })
	fillLarge(t, front.URL, 300)

	k := newKiller(t, 0)
	file := func(name string) string { return filepath.Join(k.dir, name) }
	k.env = []string{"OTSNAP_TRUST=" + file("trust")}
	k.must("key", "gen", "--out", file("key"))
	k.must("init", file("archive"), "--key", file("key"))
	const memory = 448
	flags := []string{"--workers", "16", "--memory", fmt.Sprintf("%dMiB", memory), "--quiet"}
	commands := [][]string{
		{"export", front.URL + "?instance=source", file("archive"), "--key", file("key"), "--split-size", "64MiB"},
		{"verify", file("archive"), "--level", "rows"},
		{"restore", file("archive"), front.URL + "?instance=target", "--state", file("state")},
		{"compare", file("archive"), front.URL + "?instance=target"},
	}
	for _, args := range commands {
		peak := k.peak(append(args, flags...))
		t.Logf("%s: %d MiB", args[0], peak>>20)
		if peak > memory<<20 {
			t.Errorf("%s took %d MiB, and was to keep to %d", args[0], peak>>20, memory)
		}
	}
}

// fillLarge makes a table of rows with 2 MB of noise each.
func fillLarge(t *testing.T, url string, rows int64) {
	t.Helper()
	client := sdk.NewClient(url, "source", local.DefaultAccessKeyID, local.DefaultAccessKeySecret)
	meta := &sdk.TableMeta{TableName: "large"}
	meta.AddPrimaryKeyColumn("id", sdk.PrimaryKeyType_INTEGER)
	_, err := client.CreateTable(&sdk.CreateTableRequest{TableMeta: meta, TableOption: &sdk.TableOption{TimeToAlive: -1, MaxVersion: 1}, ReservedThroughput: &sdk.ReservedThroughput{}})
	if err != nil {
		t.Fatal(err)
	}
	noise := rand.NewChaCha8([32]byte{})
	for id := range rows {
		cell := make([]byte, 2<<20)
		noise.Read(cell)
		row := &sdk.PutRowChange{TableName: "large", PrimaryKey: new(sdk.PrimaryKey)}
		row.PrimaryKey.AddPrimaryKeyColumn("id", id)
		row.AddColumn("cell", cell)
		row.SetCondition(sdk.RowExistenceExpectation_IGNORE)
		if _, err := client.PutRow(&sdk.PutRowRequest{PutRowChange: row}); err != nil {
			t.Fatal(err)
		}
	}
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak runs otsnap and returns the most bytes it had in memory, but for the last few
// milliseconds. What the system tells after its end can be of the test: it is that of
// the process before it became another program, too.
func (k *killer) peak(args []string) (most int64) {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), k.program, args...)
	cmd.Env = append(os.Environ(), "TABLESTORE_ACCESS_KEY_ID=local", "TABLESTORE_ACCESS_KEY_SECRET=local")
	cmd.Env = append(cmd.Env, k.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if found := peakLine.FindSubmatch(status); found != nil {
			kib, _ := strconv.ParseInt(string(found[1]), 10, 64)
			most = kib << 10
		}
		select {
		case err := <-ended:
			if err != nil || most == 0 {
				k.t.Fatalf("otsnap %s: %v, %d bytes\n%s", strings.Join(args, " "), err, most, out.String())
			}
			return most
		case <-time.After(5 * time.Millisecond):
		}
	}
}
