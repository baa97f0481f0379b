package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"time"

	"github.com/otsnap/otsnap/archive/dir"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore"
)

// trustworks are what an export spends on being believed, by the functions that do it.
var trustworks = []struct{ name, functions string }{
	{"SHA-256, of rows and chunks, twice each", `crypto/.*sha256\.`},
	{"signatures made and checked", `crypto/(internal/fips140/)?(ed25519|ecdsa)`},
	{"reading back and checking, digests included", `otsnap/archive\.Check`},
}

// runProfiled is an export in this process, in which a profile of the CPU can be
// taken: "export URL FOLDER WORKERS", an archive and the profile go to FOLDER.
func runProfiled(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return errors.New("export needs an address, a table, a folder and the number of workers")
	}
	var workers int
	if _, err := fmt.Sscan(args[3], &workers); err != nil {
		return err
	}
	config, err := tablestore.ParseURL(args[0])
	if err != nil {
		return err
	}
	config.AccessKeyID, config.AccessKeySecret = "local", "local"
	from, err := tablestore.Open(config)
	if err != nil {
		return err
	}
	_, key, err := manifest.GenerateKey(manifest.Ed25519)
	if err != nil {
		return err
	}
	store, err := dir.Create(filepath.Join(args[2], "profiled"))
	if err != nil {
		return err
	}
	policy := manifest.NewPolicy(time.Now(), 1, manifest.NewPolicyKey("exporter", manifest.Exporter, key.Key()))
	made, err := snapshot.Init(ctx, store, policy, snapshot.Setup{Kind: "dir"}, key)
	if err != nil {
		return err
	}
	to, err := snapshot.Open(ctx, store, made.Trust)
	if err != nil {
		return err
	}
	profile, err := os.Create(filepath.Join(args[2], "cpu.pprof"))
	if err != nil {
		return err
	}
	defer profile.Close()
	if err := pprof.StartCPUProfile(profile); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	_, err = snapshot.Export{
		From: from, To: []*snapshot.Archive{to}, Signers: []manifest.Signer{key}, Tables: []string{args[1]}, Workers: workers, Tool: "bench",
	}.Run(ctx)
	return err
}

// shares prints which part of the CPU of an export goes into being believed, from a
// profile of one.
func (b *bench) shares(ctx context.Context, table string) error {
	if _, err := b.output(ctx, b.self, "export", b.url+"?instance=source", table, b.dir, b.workers); err != nil {
		return err
	}
	fmt.Printf("\nof the CPU of an export, by a profile of it:\n")
	for _, work := range trustworks {
		share, err := b.share(ctx, work.functions)
		if err != nil {
			return err
		}
		fmt.Printf("  %s\t%s\n", share, work.name)
	}
	return nil
}

var accounting = regexp.MustCompile(`Showing nodes accounting for \S+, (\S+) of`)

// share asks the tool that comes with Go, for which part of the samples a function of
// these names was on the stack.
func (b *bench) share(ctx context.Context, functions string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodefraction=0", "-nodecount=100000", "-focus="+functions, filepath.Join(b.dir, "cpu.pprof"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go tool pprof: %w: %s", err, out)
	}
	if found := accounting.FindSubmatch(out); found != nil {
		return string(found[1]), nil
	}
	return "0%", nil
}
