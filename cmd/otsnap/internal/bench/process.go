package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/otsnap/otsnap/manifest"
)

// bench is a run: a server in a process of its own, and the programs measured
// against it.
type bench struct {
	dir, flights, workers string
	limit                 string // of flights; 0: none
	self, otsnap, url     string
	serve                 []string // further arguments of the server
	server                *exec.Cmd
	rows                  int64
	rawBytes, storedBytes int64
}

// job is a command to measure.
type job struct {
	name, baseline string
	args           []string
}

// build builds the programs, starts the server, and makes a key.
func (b *bench) build(ctx context.Context) error {
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	b.otsnap = filepath.Join(b.dir, "otsnap")
	server := filepath.Join(b.dir, "tablestore-local")
	for program, source := range map[string]string{b.otsnap: "./cmd/otsnap", server: "./cmd/tablestore-local"} {
		if _, err := b.output(ctx, "go", "build", "-o", program, source); err != nil {
			return err
		}
	}
	if err := b.startServer(ctx, server); err != nil {
		return err
	}
	_, err = b.output(ctx, b.otsnap, "key", "gen", "--out", filepath.Join(b.dir, "key.pem"))
	return err
}

// prepare is build, and fills the server and makes an empty archive.
func (b *bench) prepare(ctx context.Context) error {
	if err := b.build(ctx); err != nil {
		return err
	}
	s, err := b.measure(ctx, job{name: "load", args: []string{b.self, "sdk", "load", b.url, "source", b.flights, b.limit}})
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	b.rows = s.rows
	_, err = b.output(ctx, b.otsnap, "init", filepath.Join(b.dir, "archive"), "--key", filepath.Join(b.dir, "key.pem"), "--trust", filepath.Join(b.dir, "trust"))
	return err
}

func (b *bench) startServer(ctx context.Context, program string) error {
	args := append([]string{"--listen", "127.0.0.1:0", "--dir", filepath.Join(b.dir, "tables")}, b.serve...)
	b.server = exec.CommandContext(ctx, program, args...)
	b.server.Stderr = os.Stderr
	out, err := b.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.server.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server did not start: %w", err)
	}
	_, b.url, _ = strings.Cut(strings.TrimSpace(line), "listening on ")
	return nil
}

func (b *bench) stopServer() {
	if b.server == nil || b.server.Process == nil {
		return
	}
	b.server.Process.Signal(syscall.SIGTERM)
	b.server.Wait()
}

// output runs a command that is not measured.
func (b *bench) output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := b.command(ctx, append([]string{name}, args...))
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(problems.Bytes()))
	}
	return out.Bytes(), nil
}

func (b *bench) command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "TABLESTORE_ACCESS_KEY_ID=local", "TABLESTORE_ACCESS_KEY_SECRET=local")
	return cmd
}

// measure runs a job. A job that prints a number moved that many rows, any other
// all of them.
func (b *bench) measure(ctx context.Context, j job) (step, error) {
	cmd := b.command(ctx, j.args)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	fmt.Fprintf(os.Stderr, "bench: %s\n", j.name)
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return step{}, fmt.Errorf("%w: %s", err, bytes.TrimSpace(problems.Bytes()))
	}
	s := step{name: j.name, baseline: j.baseline, rows: b.rows, wall: time.Since(begin)}
	s.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.peak = usage.Maxrss << 10 // Linux gives KiB
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64); err == nil {
		s.rows = n
	}
	if b.rows > 0 && s.rows != b.rows {
		return step{}, fmt.Errorf("it moved %d rows of %d", s.rows, b.rows)
	}
	return s, nil
}

// sizes asks for what the export signed: bytes of the rows and of the chunks.
func (b *bench) sizes(ctx context.Context, archive string) error {
	m, err := b.shown(ctx, archive, filepath.Join(b.dir, "trust"))
	if err != nil {
		return err
	}
	b.rawBytes, b.storedBytes = m.Totals.RawBytes, m.Totals.StoredBytes
	return nil
}

// shown returns the newest manifest of an archive.
func (b *bench) shown(ctx context.Context, archive, trust string) (*manifest.Manifest, error) {
	out, err := b.output(ctx, b.otsnap, "show", archive, "--json", "--trust", trust)
	if err != nil {
		return nil, err
	}
	var shown struct{ Manifest manifest.Manifest }
	return &shown.Manifest, json.Unmarshal(out, &shown)
}
