package dir

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"
)

// named is a file with a name in incoming, for systems that have no other.
type named struct {
	*os.File
	root *os.Root
	at   string
}

func createNamed(root *os.Root) (file, error) {
	if err := root.Mkdir(incoming, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	at := path.Join(incoming, rand.Text())
	f, err := root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	return &named{f, root, at}, nil
}

func (n *named) link(name string) error { return n.root.Link(n.at, name) }

func (n *named) discard() {
	n.Close()
	n.root.Remove(n.at)
}
