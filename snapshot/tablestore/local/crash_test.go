package local

import (
	"bufio"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

// crashDir names the directory the test binary serves when it is run as the
// child of TestAcknowledgedWritesSurviveAKill.
const crashDir = "LOCAL_TEST_CRASH_DIR"

// TestMain serves until it is killed when it is asked to.
func TestMain(m *testing.M) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	s, err := Open(Options{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(httptest.NewServer(s).URL)
	select {}
}

// child starts the test binary as a server on dir and returns a client for it
// and what kills it.
func child(t *testing.T, dir string) (c *tablestore.TableStoreClient, kill func()) {
	t.Helper()
	url, kill := childAt(t, dir)
	return clientOf(url, "demo"), kill
}

// childAt starts the test binary as a server on dir and returns its URL and what
// kills it.
func childAt(t *testing.T, dir string) (url string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	out := must[interface{ Read([]byte) (int, error) }](t)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "http://") {
		t.Fatalf("the child says %q, %v", line, err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // SIGKILL: nothing is flushed, nothing is closed
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	return strings.TrimSpace(line), kill
}

// TestAcknowledgedWritesSurviveAKill kills the server in the middle of many
// writes, three times over, and finds every row it acknowledged.
func TestAcknowledgedWritesSurviveAKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := range 3 {
		c, kill := child(t, dir)
		if round == 0 {
			must[*tablestore.CreateTableResponse](t)(c.CreateTable(streaming()))
		}
		for row := range writeUntilKilled(c, kill, round) {
			acknowledged[row] = true
		}
	}
	c, _ := child(t, dir)
	found := map[string]bool{}
	for _, row := range scanAll(t, c, everything()) {
		found[row] = true
	}
	if len(acknowledged) < 100 {
		t.Fatalf("only %d writes were acknowledged", len(acknowledged))
	}
	for row := range acknowledged {
		if !found[row] {
			t.Errorf("%s was acknowledged and is lost", row)
		}
	}
	// A row whose write was not acknowledged may be there, but whole.
	for row := range found {
		if !strings.Contains(row, "x@1=v") {
			t.Errorf("%q is half a row", row)
		}
	}
	// The stream tells of the rows that are there and of no others.
	records, _ := readOn(t, c, begin(t, c, firstShard), 0)
	for _, record := range records {
		name := strings.TrimSuffix(strings.TrimPrefix(record, "put "), ": x=v")
		if !found["["+name+"] x@1=v"] {
			t.Errorf("record %q is of no row", record)
		}
	}
	if len(records) != len(found) {
		t.Errorf("%d records of %d rows", len(records), len(found))
	}
}

// writeUntilKilled writes with several workers, kills the server under them, and
// returns what it had acknowledged.
func writeUntilKilled(c *tablestore.TableStoreClient, kill func(), round int) map[string]bool {
	var mu sync.Mutex
	var count atomic.Int64
	var wg sync.WaitGroup
	acknowledged := map[string]bool{}
	for worker := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				pk := key(fmt.Sprintf("r%dw%d", round, worker), i)
				if put(c, pk, col{"x", "v", 1}) != nil {
					return
				}
				mu.Lock()
				acknowledged[show(pk, nil)+" x@1=v"] = true
				mu.Unlock()
				if count.Add(1) == 200 {
					go kill()
				}
			}
		})
	}
	wg.Wait()
	kill()
	return acknowledged
}
