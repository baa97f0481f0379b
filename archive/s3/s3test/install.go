// Package s3test runs real S3 servers for tests: versitygw and MinIO, which it
// builds from the Go module proxy when they are first needed, and Ceph's RGW
// where its daemons are installed. They listen on 127.0.0.1 alone and end with
// the process that started them.
package s3test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// built are the servers that are built from source: known versions, so that what
// they are expected to do stays true.
var built = map[string]struct{ pkg, version string }{
	VersityGW: {"github.com/versity/versitygw/cmd/versitygw", "v1.8.0"},
	MinIO:     {"github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c"},
}

// Install returns the path of the server's binary. It builds it with the go
// command, which takes minutes, unless that was done before: binaries are kept
// in the user's cache directory, in otsnap-test/bin.
func Install(ctx context.Context, name string) (string, error) {
	path, err := install(ctx, name)
	if err != nil {
		return "", fmt.Errorf("s3test: install %s: %w", name, err)
	}
	return path, nil
}

func install(ctx context.Context, name string) (string, error) {
	source, ok := built[name]
	if !ok {
		return "", errors.New("is not a server that can be built")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "otsnap-test", "bin")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(folder, name+"@"+source.version+executable)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	unlock, err := lock(filepath.Join(folder, name+".lock")) // another test may be building it
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, build(ctx, source.pkg+"@"+source.version, folder, path)
}

var executable = map[bool]string{true: ".exe"}[runtime.GOOS == "windows"]

// build installs into a folder of its own first: a binary that is there is whole.
func build(ctx context.Context, pkg, folder, path string) error {
	temp, err := os.MkdirTemp(folder, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	cmd := exec.CommandContext(ctx, "go", "install", pkg)
	cmd.Dir = temp
	cmd.Env = append(os.Environ(), "GOBIN="+temp, "GOFLAGS=", "GOWORK=off", "GOOS=", "GOARCH=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go install %s: %w\n%s", pkg, err, out)
	}
	files, err := filepath.Glob(filepath.Join(temp, "*"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("go install %s left %d files, want one", pkg, len(files))
	}
	return os.Rename(files[0], path)
}
