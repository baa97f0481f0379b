package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// phase is a moment of a restore: a request, and whether the server has done what
// it asks when the program dies.
type phase struct {
	action string
	done   bool
}

func (p phase) String() string {
	if p.done {
		return p.action + " done"
	}
	return p.action + " begun"
}

// phases are those of a restore.
func phases() (all []phase) {
	for _, action := range []string{"CreateTable", "BatchWriteRow", "GetRange", "UpdateTable", "CreateIndex", "CreateSearchIndex"} {
		all = append(all, phase{action, false}, phase{action, true})
	}
	return all
}

// deadly is a server that kills who sends it a certain request.
type deadly struct {
	http.Handler

	mu    sync.Mutex
	phase phase
	after int    // requests that go right first
	kill  func() // nil: nobody is killed
}

func (d *deadly) arm(p phase, after int, kill func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.phase, d.after, d.kill = p, after, kill
}

// meets returns what kills the sender of a request, if that is due.
func (d *deadly) meets(r *http.Request) (kill func(), done bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kill == nil || strings.TrimPrefix(r.URL.Path, "/") != d.phase.action {
		return nil, false
	}
	if d.after--; d.after >= 0 {
		return nil, false
	}
	kill, d.kill = d.kill, nil
	return kill, d.phase.done
}

func (d *deadly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kill, done := d.meets(r)
	if kill == nil {
		d.Handler.ServeHTTP(w, r)
		return
	}
	if done {
		d.Handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	kill()
	panic(http.ErrAbortHandler)
}

// TestKilledInEveryPhaseARestoreGoesOn kills a restore by SIGKILL at every kind of
// request it makes, before the server has acted on it and after, and resumes it.
// OTSNAP_KILL_ROUNDS is how many it kills, 24 unless set.
func TestKilledInEveryPhaseARestoreGoesOn(t *testing.T) {
	if testing.Short() {
		t.Skip("kills many processes")
	}
	rounds := 24
	if n, err := strconv.Atoi(os.Getenv("OTSNAP_KILL_ROUNDS")); err == nil {
		rounds = n
	}
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	front := &deadly{Handler: server}
	listener := httptest.NewServer(front)
	defer server.Close()
	defer listener.Close()
	source := newShop(t, listener.URL, "source")
	kinds := wideTables()
	for _, kind := range []string{"versions", "stream", "global", "indexed", "search"} {
		source.make(kind, kinds[kind])
	}
	k := newKiller(t, uint64(rounds))
	k.env = []string{"XDG_CONFIG_HOME=" + filepath.Join(k.dir, "config")}
	key, archive := filepath.Join(k.dir, "key.pem"), filepath.Join(k.dir, "backup")
	k.must("key", "gen", "--out", key)
	k.must("init", archive, "--key", key)
	k.must("export", listener.URL+"?instance=source", archive, "--key", key)

	kills := map[phase]int{}
	for n := range rounds {
		p := phases()[n%len(phases())]
		target := fmt.Sprintf("%s?instance=target%d", listener.URL, n)
		args := []string{"restore", archive, target, "--workers", "2"}
		if n/len(phases())%2 == 1 {
			args = append(args, "--state", "dir://"+archive)
		}
		ctx, cancel := context.WithCancel(t.Context())
		front.arm(p, k.random.IntN(3), cancel)
		_, err := k.command(ctx, args...)
		killed := ctx.Err() != nil
		cancel()
		front.arm(p, 0, nil)
		switch {
		case killed:
			kills[p]++
			k.must(append(args, "--resume")...)
		case err != nil:
			t.Fatalf("round %d, which was to be killed at %s: %v", n, p, err)
		}
		k.must("compare", archive, target)
		for _, table := range []string{"versions", "stream", "global", "indexed", "search"} {
			if d := descriptionDifferences(t, source.describe(table), newShop(t, listener.URL, fmt.Sprint("target", n)).describe(table)); len(d) > 0 {
				t.Errorf("round %d, %s: table %s came back with another %q", n, p, table, d)
			}
		}
	}
	all := 0
	for _, p := range phases() {
		t.Logf("%-24s killed %d times", p, kills[p])
		all += kills[p]
	}
	if all < rounds*2/3 {
		t.Errorf("%d kills in %d rounds prove little", all, rounds)
	}
}
