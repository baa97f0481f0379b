package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/rfc3161/tsatest"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"otsnap": main})
}

// TestScripts runs testdata/*.txtar. Beside testscript's own commands there are:
//
//	tablestore            serve a Tablestore, whose address becomes $URL
//	load INSTANCE TABLE…  fill sample tables
//	change INSTANCE       change movies: row 7 goes, row 9 gets a new title, row 99999 comes
//	misbehave FAULT…      make requests go wrong, as local.ParseFault says; without: no more
//	hold ACTION N         let the Nth request for the action from now on wait
//	held                  wait until it does
//	release               let it go on
//	exits CODE COMMAND…   run a command that must end with this code
//	flip FILE             flip one bit in the middle of a file
//
//	bucket s3|oss NAME [lock|versioned]   make a bucket; $NAME is an archive's address in it
//	attack overlay|hide BUCKET SUFFIX     lay a newer version, or a delete marker, over an object
//
//	tsa FILE              serve time-stamping authorities at $TSA/…, as tsatest.Server says; FILE gets their root
//
//	smalldisk DIR         mount a disk of 512 kB, where [mount] says that it can be done
//	quickstart FILE       build the programs and write the README's quickstart as a script
//
// The condition [root] is true for who may write anywhere, and [servers] where an S3
// server may be built and started.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Condition:           scriptCondition,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"tablestore": scriptTablestore,
			"load":       scriptLoad,
			"change":     scriptChange,
			"misbehave":  scriptMisbehave,
			"hold":       scriptHold,
			"held":       scriptHeld,
			"release":    scriptRelease,
			"exits":      scriptExits,
			"flip":       scriptFlip,
			"smalldisk":  scriptSmallDisk,
			"tsa":        scriptTSA,
			"bucket":     scriptBucket,
			"attack":     scriptAttack,
			"quickstart": scriptQuickstart,
		},
	})
}

func setUp(env *testscript.Env) error {
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
	env.Setenv("TABLESTORE_ACCESS_KEY_ID", local.DefaultAccessKeyID)
	env.Setenv("TABLESTORE_ACCESS_KEY_SECRET", local.DefaultAccessKeySecret)
	env.Values[serviceKey{}] = new(service)
	return nil
}

func scriptCondition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "servers":
		return !testing.Short(), nil
	case "mount":
		return exec.Command("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt").Run() == nil, nil
	}
	return false, fmt.Errorf("no condition %q", name)
}

// service is the Tablestore of a script.
type service struct {
	gate
	buckets buckets
	server  *local.Server
}

type serviceKey struct{}

func serviceOf(ts *testscript.TestScript) *service { return ts.Value(serviceKey{}).(*service) }

// gate makes one request wait until it is told to go on.
type gate struct {
	mu       sync.Mutex
	action   string
	n        int
	waiting  chan struct{}
	released chan struct{}
}

func (g *gate) hold(action string, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.action, g.n = action, n
	g.waiting, g.released = make(chan struct{}), make(chan struct{})
}

// open lets everything pass.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.released != nil {
		close(g.released)
	}
	g.action, g.released = "", nil
}

func (g *gate) pass(action string) {
	g.mu.Lock()
	if action == g.action {
		g.n--
	}
	stop, waiting, released := action == g.action && g.n == 0, g.waiting, g.released
	g.mu.Unlock()
	if stop {
		close(waiting)
		<-released
	}
}

func scriptTablestore(ts *testscript.TestScript, _ bool, _ []string) {
	server, err := local.Open(local.Options{})
	ts.Check(err)
	s := serviceOf(ts)
	s.server = server
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.pass(strings.TrimPrefix(r.URL.Path, "/"))
		server.ServeHTTP(w, r)
	}))
	ts.Defer(func() {
		s.open()
		front.Close()
		ts.Check(server.Close())
	})
	ts.Setenv("URL", front.URL)
}

func client(ts *testscript.TestScript, instance string) *tablestore.TableStoreClient {
	return tablestore.NewClient(ts.Getenv("URL"), instance, local.DefaultAccessKeyID, local.DefaultAccessKeySecret)
}

func scriptLoad(ts *testscript.TestScript, _ bool, args []string) {
	_, err := sample.Load(context.Background(), client(ts, args[0]), args[1:]...)
	ts.Check(err)
}

func scriptChange(ts *testscript.TestScript, _ bool, args []string) {
	c := client(ts, args[0])
	key := func(id int64) *tablestore.PrimaryKey {
		k := new(tablestore.PrimaryKey)
		k.AddPrimaryKeyColumn("id", id)
		return k
	}
	gone := &tablestore.DeleteRowChange{TableName: sample.Movies, PrimaryKey: key(7)}
	gone.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
	_, err := c.DeleteRow(&tablestore.DeleteRowRequest{DeleteRowChange: gone})
	ts.Check(err)
	renamed := &tablestore.UpdateRowChange{TableName: sample.Movies, PrimaryKey: key(9)}
	renamed.SetCondition(tablestore.RowExistenceExpectation_EXPECT_EXIST)
	renamed.PutColumn("Title", "\x1b[31mRenamed")
	_, err = c.UpdateRow(&tablestore.UpdateRowRequest{UpdateRowChange: renamed})
	ts.Check(err)
	added := &tablestore.PutRowChange{TableName: sample.Movies, PrimaryKey: key(99999)}
	added.SetCondition(tablestore.RowExistenceExpectation_IGNORE)
	added.AddColumn("Title", "Brand new")
	_, err = c.PutRow(&tablestore.PutRowRequest{PutRowChange: added})
	ts.Check(err)
}

func scriptMisbehave(ts *testscript.TestScript, _ bool, args []string) {
	var faults []local.Fault
	for _, text := range args {
		f, err := local.ParseFault(text)
		ts.Check(err)
		faults = append(faults, f)
	}
	ts.Check(serviceOf(ts).server.Misbehave(faults...))
}

func scriptHold(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	serviceOf(ts).hold(args[0], n)
}

func scriptHeld(ts *testscript.TestScript, _ bool, _ []string) { <-serviceOf(ts).waiting }

func scriptRelease(ts *testscript.TestScript, _ bool, _ []string) { serviceOf(ts).open() }

func scriptExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		got = ended.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func scriptFlip(ts *testscript.TestScript, _ bool, args []string) {
	matches, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(matches) == 0 {
		ts.Fatalf("no file %s", args[0])
	}
	data, err := os.ReadFile(matches[0])
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.Remove(matches[0]))
	ts.Check(os.WriteFile(matches[0], data, 0o644))
}

func scriptTSA(ts *testscript.TestScript, _ bool, args []string) {
	server := tsatest.NewServer()
	front := httptest.NewServer(server)
	ts.Defer(front.Close)
	ts.Setenv("TSA", front.URL)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), server.Root.PEM(), 0o644))
}

func scriptSmallDisk(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	ts.Check(ts.Exec("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", path))
	ts.Defer(func() { ts.Check(ts.Exec("umount", "-l", path)) })
}

// scriptQuickstart takes the commands from the README, so that they are the ones
// people read, and lets them use a port that is free.
func scriptQuickstart(ts *testscript.TestScript, _ bool, args []string) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	ts.Check(err)
	_, after, found := strings.Cut(string(readme), "<!-- quickstart -->\n```sh\n")
	script, _, closed := strings.Cut(after, "```")
	if !found || !closed {
		ts.Fatalf("README.md has no quickstart")
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, port, err := net.SplitHostPort(free.Addr().String())
	ts.Check(errors.Join(err, free.Close()))
	// The server ends with the script, also with one that fails half way.
	script = "trap 'kill $! 2>/dev/null || true' EXIT\n" + strings.ReplaceAll(script, "8087", port)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(script), 0o644))

	bin := ts.MkAbs("bin")
	build := exec.Command("go", "build", "-o", bin+string(filepath.Separator), ".", "../tablestore-local", "./internal/sample/otsnap-sample")
	if out, err := build.CombinedOutput(); err != nil {
		ts.Fatalf("go build: %v\n%s", err, out)
	}
	ts.Setenv("PATH", bin+string(filepath.ListSeparator)+ts.Getenv("PATH"))
}

// TestHelpShowsAnExample keeps every command's help useful.
func TestHelpShowsAnExample(t *testing.T) {
	for _, cmd := range new(app).root().Commands() {
		if cmd.Hidden || cmd.Name() == "help" || cmd.HasSubCommands() {
			continue
		}
		if !strings.Contains(cmd.Example, fmt.Sprintf("otsnap %s", cmd.Name())) {
			t.Errorf("otsnap %s --help has no example of it", cmd.Name())
		}
	}
}
