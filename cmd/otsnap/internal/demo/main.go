// Demo shows otsnap at work on this machine: it builds the programs, serves two
// Tablestore instances, and backs up, checks, restores, compares and attacks a
// few tables with the commands a user would type. It exits with 0 only if every
// one of them did what it should.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		stop()
		os.Exit(1)
	}
}

// run plays the demo in a directory of its own, and leaves nothing behind.
func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "otsnap-demo-")
	if err != nil {
		return err
	}
	d := &demo{dir: dir, out: os.Stdout, begun: time.Now()}
	defer func() { err = errors.Join(err, d.stopServers(), os.RemoveAll(dir)) }()
	for _, act := range []func(context.Context) error{
		d.build, d.serve, d.load, d.export, d.verify, d.restore, d.recount, d.edit, d.tamper, d.rollBack, d.withoutOtsnap,
	} {
		if err := act(ctx); err != nil {
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			return err
		}
	}
	d.summary()
	return nil
}

// The names the demo uses.
const (
	keyFile   = "exporter.pem"
	trustName = "shop.trust"
	backup    = "backup"
)

// build makes the programs, as make build does.
func (d *demo) build(ctx context.Context) error {
	d.title("Build otsnap, and a Tablestore for this machine to try it on")
	const module = "github.com/otsnap/otsnap/cmd/"
	bin := filepath.Join(d.dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin+string(filepath.Separator),
		module+"otsnap", module+"tablestore-local", module+"otsnap/internal/sample/otsnap-sample")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	d.env = append(os.Environ(),
		"PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"XDG_CONFIG_HOME="+filepath.Join(d.dir, "config"),
		"TABLESTORE_ACCESS_KEY_ID=local",
		"TABLESTORE_ACCESS_KEY_SECRET=local",
		"OTSNAP_TRUST="+filepath.Join(d.dir, trustName),
	)
	d.say("  export TABLESTORE_ACCESS_KEY_ID=local TABLESTORE_ACCESS_KEY_SECRET=local")
	d.say("  export OTSNAP_TRUST=$PWD/%s", trustName)
	return nil
}

// serve starts two instances that share nothing.
func (d *demo) serve(ctx context.Context) error {
	d.title("Two Tablestore instances: one with data to be, one that stays empty")
	var err error
	if d.source, err = d.startServer(ctx, "shop"); err != nil {
		return err
	}
	d.target, err = d.startServer(ctx, "rescue")
	return err
}

func (d *demo) load(ctx context.Context) error {
	d.title("Real tables, written by the official SDK, and one of nothing but oddities")
	return d.command(ctx, 0, "otsnap-sample", d.source.url, "cities", "movies", "oddities")
}

func (d *demo) export(ctx context.Context) error {
	d.title("A key, an archive, a snapshot")
	for _, args := range [][]string{
		{"otsnap", "key", "gen", "--out", keyFile},
		{"otsnap", "init", backup, "--key", keyFile},
		{"otsnap", "export", d.source.url, backup, "--key", keyFile, "--chunk-size", "8MiB"},
	} {
		if err := d.command(ctx, 0, args...); err != nil {
			return err
		}
	}
	d.title("What is in the archive")
	if err := d.tree(backup); err != nil {
		return err
	}
	return d.command(ctx, 0, "otsnap", "list", backup)
}

func (d *demo) verify(ctx context.Context) error {
	d.title("Is it all there, signed and whole? Every row is rebuilt from Parquet")
	if err := d.command(ctx, 0, "otsnap", "verify", backup, "--level", "rows"); err != nil {
		return err
	}
	d.proved("verify rebuilt every row of the archive from Parquet and matched its signed digest")
	return nil
}

func (d *demo) restore(ctx context.Context) error {
	d.title("Bring it back into the second, empty instance, and compare cell by cell")
	if err := d.command(ctx, 0, "otsnap", "restore", backup, d.target.url); err != nil {
		return err
	}
	if err := d.command(ctx, 0, "otsnap", "compare", backup, d.target.url); err != nil {
		return err
	}
	d.proved("restore filled an empty instance, and compare found every cell, type and version as signed")
	return nil
}

// recount reads both instances with the official SDK, so that the proof does not
// hang on otsnap alone.
func (d *demo) recount(ctx context.Context) error {
	d.title("Read both instances with the official SDK, without otsnap, row by row")
	var total int64
	for _, table := range []string{"cities", "movies", "oddities"} {
		n, err := sameRows(ctx, d.source, d.target, table)
		if err != nil {
			return err
		}
		d.say("  %s: %s, equal in every column, type, value and version", table, console.Count(n, "row"))
		total += n
	}
	d.proved("the official SDK reads the same %s from both instances", console.Count(total, "row"))
	return nil
}

func (d *demo) edit(ctx context.Context) error {
	d.title("Somebody edits one cell of the restored instance")
	if err := d.target.rename(1, "Not the film it was"); err != nil {
		return err
	}
	if err := d.command(ctx, 14, "otsnap", "compare", backup, d.target.url, "--table", "movies"); err != nil {
		return err
	}
	d.proved("compare named the one cell that was edited (exit code 14)")
	return nil
}

func (d *demo) tamper(ctx context.Context) error {
	d.title("Somebody changes one bit of one chunk, in a copy of the archive")
	if err := os.CopyFS(d.path("tampered"), os.DirFS(d.path(backup))); err != nil {
		return err
	}
	chunk, err := flipBit(d.path("tampered"))
	if err != nil {
		return err
	}
	d.say("  one bit of %s is another now", chunk)
	if err := d.command(ctx, 13, "otsnap", "verify", "tampered"); err != nil {
		return err
	}
	if err := d.command(ctx, 13, "otsnap", "restore", "tampered", d.target.sibling("elsewhere").url); err != nil {
		return err
	}
	d.proved("one changed bit is found and named, and nothing of that archive is restored (exit code 13)")
	return nil
}

func (d *demo) rollBack(ctx context.Context) error {
	d.title("Somebody hides the newest snapshot, in another copy")
	if err := os.CopyFS(d.path("hidden"), os.DirFS(d.path(backup))); err != nil {
		return err
	}
	if err := os.Remove(d.path("hidden/manifests/00000001.dsse.json")); err != nil {
		return err
	}
	if err := d.command(ctx, 11, "otsnap", "list", "hidden"); err != nil {
		return err
	}
	d.proved("a snapshot that was seen once cannot be hidden (exit code 11)")
	return nil
}

// withoutOtsnap runs the script in the archive, where its tools are installed.
func (d *demo) withoutOtsnap(ctx context.Context) error {
	for _, tool := range []string{"bash", "openssl", "jq", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			d.say("\n(verify.sh was left out: there is no %s here)", tool)
			return nil
		}
	}
	d.title("Check it without otsnap: openssl, jq, sha256sum")
	id, err := archiveID(d.path(trustName))
	if err != nil {
		return err
	}
	if err := d.commandIn(ctx, backup, 0, "bash", "verify.sh", id); err != nil {
		return err
	}
	d.proved("openssl, jq and sha256sum came to the same verdict")
	return nil
}

func archiveID(trustFile string) (string, error) {
	text, err := os.ReadFile(trustFile)
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if id, ok := strings.CutPrefix(line, "archive "); ok {
			return id, nil
		}
	}
	return "", fmt.Errorf("%s names no archive", trustFile)
}
