package dir

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
)

func TestStore(t *testing.T) {
	archivetest.TestStore(t, func(t *testing.T) archive.Store { return open(t, t.TempDir()) })
}

func TestStoreWhereFilesNeedNames(t *testing.T) {
	archivetest.TestStore(t, func(t *testing.T) archive.Store {
		s := open(t, t.TempDir())
		s.create = createNamed
		return s
	})
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *Store, name, content string) error {
	return s.Put(t.Context(), name, strings.NewReader(content), archive.PutOptions{})
}

func list(t *testing.T, s *Store) ([]string, error) {
	var names []string
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			return names, err
		}
		names = append(names, o.Name)
	}
	return names, nil
}

func TestCreateMakesParents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "backups", "tables")
	for range 2 {
		s, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		t.Errorf("got %v, %v", info, err)
	}
}

func TestOpenSaysWhyItCannot(t *testing.T) {
	at := t.TempDir()
	if err := os.WriteFile(filepath.Join(at, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		open func(string) (*Store, error)
		path string
		want error
	}{
		{Open, "none", fs.ErrNotExist},
		{Open, "file", syscall.ENOTDIR},
		{Open, "file/below", syscall.ENOTDIR},
		{Create, "file", syscall.ENOTDIR},
		{Create, "file/below", syscall.ENOTDIR},
	}
	for _, test := range tests {
		_, err := test.open(filepath.Join(at, test.path))
		if !errors.Is(err, test.want) || !errors.Is(err, archive.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable with %v", test.path, err, test.want)
		}
	}
}

func TestStoresOfOneDirectoryShareIt(t *testing.T) {
	at := t.TempDir()
	const racers = 8
	errs := make([]error, racers)
	var wg sync.WaitGroup
	for i := range racers {
		s := open(t, at)
		wg.Go(func() { errs[i] = put(t, s, "manifests/1", strings.Repeat("x", i)) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, fs.ErrExist):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d puts won", won, racers)
	}
}

func TestNothingButObjectsIsLeft(t *testing.T) {
	for name, create := range map[string]func(*os.Root) (file, error){"nameless": create, "named": createNamed} {
		t.Run(name, func(t *testing.T) {
			at := t.TempDir()
			s := open(t, at)
			s.create = create
			broken := io.NewSectionReader(brokenDisk{}, 0, 100)
			if err := s.Put(t.Context(), "a/b", broken, archive.PutOptions{}); !errors.Is(err, errBroken) {
				t.Fatalf("got %v, want the body's error", err)
			}
			for _, name := range []string{"a/b", "c"} {
				if err := put(t, s, name, "content"); err != nil {
					t.Fatal(err)
				}
			}
			if err := put(t, s, "c", "again"); !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
			if err := s.Delete(t.Context(), "a/b"); err != nil {
				t.Fatal(err)
			}
			var files []string
			err := filepath.WalkDir(at, func(path string, d fs.DirEntry, err error) error {
				if path != at && d.Name() != incoming {
					files = append(files, d.Name())
				}
				return err
			})
			if err != nil || len(files) != 1 || files[0] != "c" {
				t.Errorf("left %q, error %v; want only c", files, err)
			}
		})
	}
}

var errBroken = errors.New("broken disk")

type brokenDisk struct{}

func (brokenDisk) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

func TestOpenClearsAwayWhatIsStale(t *testing.T) {
	at := t.TempDir()
	if err := os.Mkdir(filepath.Join(at, incoming), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "new": 23 * time.Hour} {
		path := filepath.Join(at, incoming, name)
		if err := os.WriteFile(path, []byte("half an obj"), 0o644); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	names, err := list(t, open(t, at))
	if err != nil || len(names) != 0 {
		t.Errorf("listed %q, %v; what is being written is no object", names, err)
	}
	left, err := os.ReadDir(filepath.Join(at, incoming))
	if err != nil || len(left) != 1 || left[0].Name() != "new" {
		t.Errorf("left %v, %v; want only new", left, err)
	}
}

func TestFilesNobodyPutAreNotListed(t *testing.T) {
	at := t.TempDir()
	s := open(t, at)
	if err := put(t, s, "object", "content"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".DS_Store", "line\nbreak", "\xff"} {
		if err := os.WriteFile(filepath.Join(at, name), nil, 0o644); err != nil {
			t.Skip("this file system has names of its own: ", err)
		}
	}
	if names, err := list(t, s); err != nil || len(names) != 1 {
		t.Errorf("listed %q, %v", names, err)
	}
}

// A link could show one object under the name of another, or a file that does
// not belong to the archive.
func TestLinksAreRefused(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"to a file outside":   filepath.Join(outside, "secret"),
		"to a folder outside": outside,
		"to an object":        "folder/object",
		"to a folder":         "folder",
		"to nothing":          "none",
	} {
		t.Run(name, func(t *testing.T) {
			at := t.TempDir()
			s := open(t, at)
			if err := put(t, s, "folder/object", "content"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, filepath.Join(at, "link")); err != nil {
				t.Skip("no symbolic links here: ", err)
			}
			names, err := list(t, s)
			if err != nil || len(names) != 1 {
				t.Errorf("listed %v, %v; want the object alone", names, err)
			}
			errs := map[string]error{"Put": put(t, s, "link", "new"), "Put below": put(t, s, "link/new", "new")}
			for _, name := range []string{"link", "link/secret", "link/object"} {
				_, errs["Get "+name] = s.Get(t.Context(), name)
				errs["Delete "+name] = s.Delete(t.Context(), name)
			}
			for op, err := range errs {
				want := fs.ErrNotExist
				if strings.HasPrefix(op, "Put") {
					want = archive.ErrUnavailable
				}
				if !errors.Is(err, want) || !strings.Contains(err.Error(), "is a symbolic link, and no object") {
					t.Errorf("%s: got %v, want a refusal", op, err)
				}
			}
			for _, err := range s.List(t.Context(), "link/") {
				if !errors.Is(err, archive.ErrUnavailable) {
					t.Errorf("below the link: %v", err)
				}
				names = append(names, "and an error")
			}
			if len(names) != 2 {
				t.Errorf("below the link there is nothing, and no error: %q", names)
			}
			if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
				t.Errorf("outside there is %v, %v", left, err)
			}
		})
	}
}

func TestTheDirectoryItselfMayBeALink(t *testing.T) {
	at := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(at, link); err != nil {
		t.Skip("no symbolic links here: ", err)
	}
	if err := put(t, open(t, link), "a/object", "content"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(at, "a", "object"))
	if err != nil || !bytes.Equal(got, []byte("content")) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAFolderIsNoObject(t *testing.T) {
	s := open(t, t.TempDir())
	if err := put(t, s, "a/b", "content"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "there is a folder of that name", "a/b/c": "not a directory"} {
		err := put(t, s, name, "content")
		if errors.Is(err, fs.ErrExist) || !errors.Is(err, archive.ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("Put(%q): got %v, want %q", name, err, want)
		}
	}
}
