package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// killer runs the real program and kills it.
type killer struct {
	t       *testing.T
	program string
	dir     string
	env     []string // beside the test's own
	random  *rand.Rand
}

// newKiller builds the program.
func newKiller(t *testing.T, seed uint64) *killer {
	t.Helper()
	k := &killer{t: t, dir: t.TempDir(), random: rand.New(rand.NewPCG(20261122, seed))}
	k.program = filepath.Join(k.dir, "otsnap")
	if out, err := exec.Command("go", "build", "-o", k.program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return k
}

// start runs otsnap until it ends or, with a limit, is killed by SIGKILL.
func (k *killer) start(limit time.Duration, args ...string) (output string, killed bool, err error) {
	ctx, cancel := context.WithCancel(k.t.Context())
	defer cancel()
	if limit > 0 {
		time.AfterFunc(limit, cancel)
	}
	output, err = k.command(ctx, args...)
	return output, ctx.Err() != nil, err
}

// command runs otsnap until it ends or, when ctx does, is killed by SIGKILL.
func (k *killer) command(ctx context.Context, args ...string) (output string, err error) {
	cmd := exec.CommandContext(ctx, k.program, args...)
	cmd.Env = append(os.Environ(), "TABLESTORE_ACCESS_KEY_ID=local", "TABLESTORE_ACCESS_KEY_SECRET=local")
	cmd.Env = append(cmd.Env, k.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

func (k *killer) must(args ...string) string {
	k.t.Helper()
	out, _, err := k.start(0, args...)
	if err != nil {
		k.t.Fatalf("otsnap %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// untilDone runs a command, killing it up to three times at random moments within
// the time it takes, and resuming it each time. The first command of its sort is
// left alone, to see how long that is.
func (k *killer) untilDone(whole *time.Duration, command []string) (kills int) {
	k.t.Helper()
	if *whole == 0 {
		begin := time.Now()
		k.must(command...)
		*whole = time.Since(begin)
		return 0
	}
	for try := 0; ; try++ {
		args := command
		if try > 0 {
			args = append(args[:len(args):len(args)], "--resume")
		}
		limit := time.Duration(0)
		if try < 3 {
			limit = time.Millisecond + time.Duration(k.random.Int64N(int64(*whole)))
		}
		out, killed, err := k.start(limit, args...)
		if err == nil {
			return kills
		}
		if killed {
			kills++
			continue
		}
		if strings.Contains(out, "already; nothing was written") {
			// It was killed between its last act, which is to remove its state file,
			// and its end. The comparison that follows tells whether that is so.
			return kills
		}
		if strings.Contains(out, "no unfinished export") {
			// It was killed before its plan was stored, or after its manifest was.
			k.must(command...)
			return kills
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			k.t.Fatal(err)
		}
		k.t.Fatalf("otsnap %s: exit code %d\n%s", strings.Join(args, " "), exit.ExitCode(), out)
	}
}

// TestKilledRunsResumeToTheSameState kills export and restore by SIGKILL. The
// number of rounds is OTSNAP_KILL_ROUNDS, 5 unless set.
func TestKilledRunsResumeToTheSameState(t *testing.T) {
	if testing.Short() {
		t.Skip("kills many processes")
	}
	rounds := 5
	if n, err := strconv.Atoi(os.Getenv("OTSNAP_KILL_ROUNDS")); err == nil {
		rounds = n
	}
	k := newKiller(t, uint64(rounds))
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(server)
	defer server.Close()
	defer listener.Close()
	client := tablestore.NewClient(listener.URL, "source", "local", "local")
	if _, err := sample.Load(t.Context(), client, sample.Movies, sample.Oddities); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(k.dir, "key.pem")
	k.must("key", "gen", "--out", key)
	kills := 0
	var exportTime, restoreTime time.Duration // of the undisturbed round, which is the first
	for n := range rounds + 1 {
		name := "round" + strconv.Itoa(n)
		archive, trust := filepath.Join(k.dir, name), filepath.Join(k.dir, name+".trust")
		k.must("init", archive, "--key", key, "--trust", trust)
		export := []string{"export", listener.URL + "?instance=source", archive, "--key", key, "--trust", trust, "--chunk-size", "32KiB", "--split-size", "128KiB"}
		kills += k.untilDone(&exportTime, export)
		if out := k.must("verify", archive, "--level", "rows", "--trust", trust, "--json"); strings.Contains(out, "is named by no manifest") {
			t.Errorf("round %d: the resumed export left something over:\n%s", n, out)
		}
		target := listener.URL + "?instance=target" + strconv.Itoa(n)
		restore := []string{"restore", archive, target, "--trust", trust, "--state", filepath.Join(k.dir, name+".state")}
		kills += k.untilDone(&restoreTime, restore)
		k.must("compare", archive, target, "--trust", trust)
	}
	t.Logf("%d processes killed in %d rounds", kills, rounds)
	if kills < rounds {
		t.Errorf("%d kills in %d rounds prove little", kills, rounds)
	}
}
