package dir

import (
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// nameless is a file that has no name yet and leaves nothing behind if the
// process dies.
type nameless struct {
	*os.File
	root *os.Root
}

// create opens a nameless file, or a named one where the file system has no
// nameless ones or /proc, by which they are linked, is not mounted.
func create(root *os.Root) (file, error) {
	f, err := root.OpenFile(".", unix.O_TMPFILE|os.O_WRONLY, 0o644)
	if err != nil {
		return createNamed(root)
	}
	n := &nameless{f, root}
	if _, err := os.Lstat(n.proc()); err != nil {
		f.Close()
		return createNamed(root)
	}
	return n, nil
}

func (n *nameless) proc() string { return fmt.Sprintf("/proc/self/fd/%d", n.Fd()) }

func (n *nameless) link(name string) error {
	folder, err := n.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer folder.Close()
	return unix.Linkat(unix.AT_FDCWD, n.proc(), int(folder.Fd()), path.Base(name), unix.AT_SYMLINK_FOLLOW)
}

func (n *nameless) discard() { n.Close() }
