package dir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of 256 KiB and returns how to make it read-only.
func smallDisk(t *testing.T) (path string, readOnly func()) {
	t.Helper()
	path = t.TempDir()
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("cannot mount a small disk: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return path, func() {
		if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFullDiskIsUnavailable(t *testing.T) {
	for name, create := range map[string]func(*os.Root) (file, error){"nameless": create, "named": createNamed} {
		t.Run(name, func(t *testing.T) {
			path, _ := smallDisk(t)
			s := open(t, path)
			s.create = create
			err := put(t, s, "a/large", strings.Repeat("x", 1<<20))
			if !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, archive.ErrUnavailable) {
				t.Fatalf("got %v, want ErrUnavailable with ENOSPC", err)
			}
			if want := "dir: put a/large: no space left on device: storage unavailable"; err.Error() != want {
				t.Errorf("got %q, want %q", err, want)
			}
			if names, err := list(t, s); err != nil || len(names) != 0 {
				t.Errorf("left %q, %v", names, err)
			}
			if err := put(t, s, "a/small", "x"); err != nil {
				t.Errorf("the disk is still full: %v", err)
			}
		})
	}
}

func TestAReadOnlyDiskIsReadable(t *testing.T) {
	path, readOnly := smallDisk(t)
	s := open(t, path)
	if err := put(t, s, "a/object", "content"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	readOnly()
	s = open(t, path)
	for _, err := range []error{put(t, s, "a/new", "x"), s.Delete(t.Context(), "a/object")} {
		if !errors.Is(err, syscall.EROFS) || !errors.Is(err, archive.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable with EROFS", err)
		}
	}
	if err := put(t, s, "a/object", "x"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Put over an object: got %v, want fs.ErrExist", err)
	}
	if _, err := archive.ReadAll(t.Context(), s, "a/object", 100); err != nil {
		t.Error(err)
	}
}

func TestModesOfFilesAndFolders(t *testing.T) {
	at := t.TempDir()
	s := open(t, at)
	umask := unix.Umask(0)
	err := put(t, s, "a/b/object", "content")
	unix.Umask(umask)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"a": 0o755, "a/b": 0o755, "a/b/object": 0o644} {
		info, err := os.Stat(filepath.Join(at, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
}

func TestPipesAreNotOpened(t *testing.T) {
	at := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(at, "pipe"), 0o600); err != nil {
		t.Skip("no pipes here: ", err)
	}
	if _, err := open(t, at).Get(t.Context(), "pipe"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want a refusal", err)
	}
}
