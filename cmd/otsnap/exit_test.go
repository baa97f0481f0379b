package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{errors.New("anything"), exitError},
		{misused("no"), exitUsage},
		{fmt.Errorf("a: %w", labelled{errors.New("b"), errKey}), exitKey},
		{fmt.Errorf("a: %w", manifest.ErrUntrusted), exitUntrusted},
		{manifest.ErrRollback, exitRollback},
		{snapshot.ErrMissing, exitMissing},
		{archive.ErrCorrupt, exitCorrupt},
		{manifest.ErrInvalid, exitCorrupt},
		{snapshot.ErrDiffers, exitDiffers},
		{manifest.ErrLimit, exitLimit},
		{manifest.ErrFormat, exitFormat},
		{archive.ErrUnavailable, exitUnavailable},
		{snapshot.ErrUnavailable, exitUnavailable},
		// What says most about the archive comes first.
		{errors.Join(archive.ErrCorrupt, snapshot.ErrMissing, manifest.ErrUntrusted), exitUntrusted},
		// What the user typed is never blamed on the archive.
		{misused("policy: %w", manifest.ErrInvalid), exitUsage},
		{advise(labelled{manifest.ErrInvalid, errKey}, "a hint"), exitKey},
	} {
		if got := judge(t.Context(), test.err).exit; got != test.want {
			t.Errorf("%v exits with %d, want %d", test.err, got, test.want)
		}
	}
}

func TestInterruptionIsNoVerdict(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stderr bytes.Buffer
	a := &app{stderr: &stderr, resume: "go on"}
	if got := a.finish(ctx, fmt.Errorf("chunk: %w", archive.ErrCorrupt)); got != exitInterrupted {
		t.Errorf("exits with %d, want %d", got, exitInterrupted)
	}
	if want := "otsnap: interrupted\nhint: go on\n"; stderr.String() != want {
		t.Errorf("says %q, want %q", stderr.String(), want)
	}
}

func TestErrorsAreDisarmedAndOneLineEach(t *testing.T) {
	var stderr bytes.Buffer
	a := &app{stderr: &stderr}
	a.finish(t.Context(), errors.Join(errors.New("snapshot: table x: manifest: bad \x1b[31mred"), errors.New("two")))
	want := "otsnap: table x: bad \\x1b[31mred\notsnap: two\n"
	if stderr.String() != want {
		t.Errorf("says %q, want %q", stderr.String(), want)
	}
}

func TestSuccessIsSilent(t *testing.T) {
	var stdout, stderr bytes.Buffer
	a := &app{stdout: &stdout, stderr: &stderr, now: time.Now, json: true}
	if got := a.finish(t.Context(), nil); got != 0 || stdout.Len()+stderr.Len() > 0 {
		t.Errorf("exits with %d and says %q, %q", got, stdout.String(), stderr.String())
	}
}
