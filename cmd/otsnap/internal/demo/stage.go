package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
)

// demo is a demo under way.
type demo struct {
	dir            string // everything happens in here
	env            []string
	out            io.Writer
	begun          time.Time
	servers        []*exec.Cmd
	source, target instance
	commands       int
	proofs         []string
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, filepath.FromSlash(name)) }

func (d *demo) title(text string) { fmt.Fprintf(d.out, "\n== %s\n", text) }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// proved notes a result for the summary.
func (d *demo) proved(format string, args ...any) {
	d.proofs = append(d.proofs, fmt.Sprintf(format, args...))
}

func (d *demo) summary() {
	d.title("What this has shown")
	for _, p := range d.proofs {
		d.say("  ok  %s", p)
	}
	d.say("  %s in %s; nothing is left behind", console.Count(d.commands, "command"), console.Duration(time.Since(d.begun)))
}

// command shows and runs a command line, which must end with the exit code want.
func (d *demo) command(ctx context.Context, want int, args ...string) error {
	return d.commandIn(ctx, "", want, args...)
}

func (d *demo) commandIn(ctx context.Context, dir string, want int, args ...string) error {
	prompt := "$ "
	if dir != "" {
		prompt = "$ cd " + dir + "; "
	}
	d.say("\n%s%s", prompt, shellQuote(args))
	cmd := d.prepare(ctx, args...)
	cmd.Dir = d.path(dir)
	output := &indented{w: d.out}
	cmd.Stdout, cmd.Stderr = output, output
	d.commands++
	begun := time.Now()
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return err
	}
	code := cmd.ProcessState.ExitCode()
	d.say("  (exit code %d, %s)", code, console.Duration(time.Since(begun)))
	if code != want {
		return fmt.Errorf("%s: exit code %d, want %d", args[0], code, want)
	}
	return nil
}

// prepare makes a command that runs in the demo's environment and is asked to
// stop when ctx ends.
func (d *demo) prepare(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	if built := d.path("bin/" + args[0]); isFile(built) {
		cmd.Path, cmd.Err = built, nil
	}
	cmd.Dir, cmd.Env = d.dir, d.env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// startServer starts a tablestore-local and waits until it says where it listens.
func (d *demo) startServer(ctx context.Context, name string) (instance, error) {
	args := []string{"tablestore-local", "--listen", "127.0.0.1:0"}
	d.say("\n$ %s &", shellQuote(args))
	cmd := d.prepare(ctx, args...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return instance{}, err
	}
	cmd.Stderr = d.out
	if err := cmd.Start(); err != nil {
		return instance{}, err
	}
	d.servers = append(d.servers, cmd)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return instance{}, fmt.Errorf("tablestore-local: %w", err)
	}
	d.say("  %s", strings.TrimSpace(line))
	_, address, ok := strings.Cut(strings.TrimSpace(line), "listening on ")
	if !ok {
		return instance{}, fmt.Errorf("tablestore-local says %q and not where it listens", line)
	}
	return newInstance(address, name), nil
}

// stopServers ends the servers this demo started, and no other process.
func (d *demo) stopServers() error {
	var errs []error
	for _, s := range d.servers {
		_ = s.Process.Signal(syscall.SIGTERM) // it may be gone already
		var ended *exec.ExitError
		if err := s.Wait(); err != nil && !errors.As(err, &ended) && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// tree lists the files of an archive, folders in turn.
func (d *demo) tree(root string) error {
	var t console.Table
	t.Row("object", "bytes")
	err := fs.WalkDir(os.DirFS(d.path(root)), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		t.Row(path, console.Number(info.Size()))
		return nil
	})
	t.Print(d.out)
	return err
}

// flipBit changes one bit in the middle of the largest chunk below root, and
// returns its name.
func flipBit(root string) (string, error) {
	var largest string
	var size int64
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".parquet") {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil {
		return "", err
	}
	file := filepath.Join(root, filepath.FromSlash(largest))
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	data[len(data)/2] ^= 1
	if err := os.Remove(file); err != nil { // objects are read-only
		return "", err
	}
	return largest, os.WriteFile(file, data, 0o644)
}

// shellQuote writes a command line the way it is typed.
func shellQuote(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = a
		if strings.ContainsAny(a, "?*&; $'\"") {
			quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// indented writes every line with two blanks before it.
type indented struct {
	w      io.Writer
	inLine bool
}

func (i *indented) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if !i.inLine {
			fmt.Fprint(i.w, "  ")
		}
		if _, err := i.w.Write(line); err != nil {
			return 0, err
		}
		i.inLine = !bytes.HasSuffix(line, []byte("\n"))
	}
	return len(p), nil
}
