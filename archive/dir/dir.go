// Package dir keeps an archive in a directory: an object is a file, a slash in
// its name is a folder. What it has reported as stored survives a crash of the
// machine.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/otsnap/otsnap/archive"
)

const (
	// incoming is where objects are written that cannot be written without a
	// name. No object can be called so.
	incoming = ".incoming"
	// stale is how old a file in incoming is when nobody can be writing it any more.
	stale = 24 * time.Hour
)

// Store keeps objects in a directory. It never leaves it, not by a symbolic
// link either, and writes files with mode 0644 and folders with 0755, less the
// umask.
type Store struct {
	root   *os.Root
	create func(*os.Root) (file, error) // [create], but for tests
}

var (
	_ archive.Store  = (*Store)(nil)
	_ archive.Prober = (*Store)(nil)
)

// Create makes the directory if it is not there, parents included, and opens it.
func Create(path string) (*Store, error) {
	if err := makeDurable(filepath.Clean(path)); err != nil {
		return nil, fmt.Errorf("dir: create %s: %w", path, unavailable(err))
	}
	return Open(path)
}

// makeDurable makes the directory and its parents and sees to it that they stay.
func makeDurable(path string) error {
	err := os.Mkdir(path, 0o755)
	parent := filepath.Dir(path)
	if errors.Is(err, fs.ErrNotExist) && parent != path {
		if err := makeDurable(parent); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o755)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // or it is not a directory, which Open says better
	}
	if err != nil {
		return err
	}
	return syncFolder(os.Open(parent))
}

// Open opens a directory that exists, and clears away what an interrupted Put
// may have left there more than a day ago.
func Open(path string) (*Store, error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, fmt.Errorf("dir: open %s: %w", path, unavailable(err))
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("dir: open %s: %w", path, unavailable(err))
	}
	s := &Store{root, create}
	s.sweep(time.Now().Add(-stale))
	return s, nil
}

// Close releases the directory. Bodies being read stay readable.
func (s *Store) Close() error { return s.root.Close() }

// sweep removes what was written to incoming before the deadline. What it
// cannot remove does no harm.
func (s *Store) sweep(deadline time.Time) {
	files, err := fs.ReadDir(s.root.FS(), incoming)
	if err != nil {
		return
	}
	for _, file := range files {
		if info, err := file.Info(); err == nil && info.ModTime().Before(deadline) {
			s.root.Remove(path.Join(incoming, file.Name()))
		}
	}
}

// Put stores body under a name that is still free. A directory has no locks and
// one storage class.
func (s *Store) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	if err := archive.CheckName(name); err != nil {
		return fmt.Errorf("dir: put: %w", err)
	}
	if opts.Lock != (archive.Lock{}) {
		return fmt.Errorf("dir: put %s: a directory cannot lock objects: %w", name, errors.ErrUnsupported)
	}
	if err := s.put(ctx, name, body); err != nil {
		return fmt.Errorf("dir: put %s: %w", name, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, name string, body io.Reader) error {
	if err := s.vacant(name); err != nil {
		return err
	}
	f, err := s.create(s.root)
	if err != nil {
		return unavailable(err)
	}
	defer f.discard()
	if err := fill(ctx, f, body); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.publish(f, name)
}

// vacant reports why name cannot be put, as far as can be seen beforehand.
func (s *Store) vacant(name string) error {
	_, err := s.lstat(name)
	var other *archive.NotObjectError
	switch {
	case errors.As(err, &other):
		return unavailable(errors.New(other.Error()))
	case err == nil:
		if err := s.syncFolders(path.Dir(name)); err != nil {
			return unavailable(err)
		}
		return s.taken(name)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return unavailable(err)
}

// taken is the error for a name that is in use, by an object or by a folder.
func (s *Store) taken(name string) error {
	if info, err := s.root.Lstat(name); err == nil && info.IsDir() {
		return unavailable(errors.New("there is a folder of that name"))
	}
	return fs.ErrExist
}

// file is an object being written. It has no name under which it could be
// found, until link gives it one.
type file interface {
	io.Writer
	Sync() error
	// link gives the file its name in an existing folder, or fails with
	// fs.ErrExist or fs.ErrNotExist.
	link(name string) error
	// discard releases the file; what was not linked is gone.
	discard()
}

// fill writes body and flushes it to the disk.
func fill(ctx context.Context, f file, body io.Reader) error {
	r := &reader{ctx: ctx, body: body}
	_, err := io.Copy(f, r)
	if r.err != nil {
		return r.err
	}
	if err == nil {
		err = f.Sync()
	}
	return unavailable(err)
}

// publish links the file under its name and flushes all folders above. Folders
// vanish when Delete empties them: then they are made again.
func (s *Store) publish(f file, name string) error {
	const tries = 100
	err := error(fs.ErrNotExist)
	for i := 0; i < tries && errors.Is(err, fs.ErrNotExist); i++ {
		if err = s.mkdirs(path.Dir(name)); err == nil {
			err = f.link(name)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return unavailable(err)
	}
	// Also where the object was there: who put it may have died before this, and
	// the caller may rely on it.
	if err := s.syncFolders(path.Dir(name)); err != nil {
		return unavailable(err)
	}
	if err != nil {
		return s.taken(name)
	}
	return nil
}

// mkdirs makes the folder and those above it.
func (s *Store) mkdirs(folder string) error {
	if folder == "." {
		return nil
	}
	err := s.root.Mkdir(folder, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.mkdirs(path.Dir(folder)); err != nil {
			return err
		}
		err = s.root.Mkdir(folder, 0o755)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// syncFolders flushes the folder and all above it: whoever made them may not
// have come to it yet. One that has vanished was emptied by Delete.
func (s *Store) syncFolders(folder string) error {
	for {
		if err := syncFolder(s.root.Open(folder)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if folder == "." {
			return nil
		}
		folder = path.Dir(folder)
	}
}

// syncFolder flushes and closes an opened folder. Windows and some network file
// systems have no such call and need none.
func syncFolder(f *os.File, err error) error {
	if err != nil {
		return err
	}
	defer f.Close()
	if runtime.GOOS == "windows" {
		return nil
	}
	if err := f.Sync(); !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// Get opens an object.
func (s *Store) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	f, err := s.open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("dir: get %s: %w", name, err)
	}
	return body{&reader{ctx: ctx, body: f}, f}, nil
}

func (s *Store) open(ctx context.Context, name string) (*os.File, error) {
	if err := s.present(ctx, name); err != nil {
		return nil, err
	}
	f, err := s.root.Open(name)
	return f, missing(err)
}

// Delete removes an object, and the folders that are empty without it.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.remove(ctx, name); err != nil {
		return fmt.Errorf("dir: delete %s: %w", name, err)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, name string) error {
	if err := s.present(ctx, name); err != nil {
		return err
	}
	if err := s.root.Remove(name); err != nil {
		return missing(err)
	}
	folder := path.Dir(name)
	err := s.syncFolders(folder)
	for ; folder != "." && s.root.Remove(folder) == nil; folder = path.Dir(folder) {
	}
	return unavailable(err)
}

// present reports why there is no object called name, if there is none.
func (s *Store) present(ctx context.Context, name string) error {
	if err := archive.CheckName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := s.lstat(name)
	var other *archive.NotObjectError
	switch {
	case errors.As(err, &other):
		return other
	case err != nil:
		return missing(err)
	case info.IsDir():
		return fs.ErrNotExist
	}
	return nil
}

// lstat describes the file or folder called name. It refuses what an archive
// does not have: links, devices and the like, also on the way.
func (s *Store) lstat(name string) (info fs.FileInfo, err error) {
	parts := strings.Split(name, "/")
	for i := range parts {
		if i > 0 && !info.IsDir() {
			return nil, fs.ErrNotExist
		}
		at := strings.Join(parts[:i+1], "/")
		if info, err = s.root.Lstat(at); err != nil {
			return nil, err
		}
		if err := regular(at, info); err != nil {
			return nil, err
		}
	}
	return info, nil
}

func regular(name string, info fs.FileInfo) error {
	if info.IsDir() || info.Mode().IsRegular() {
		return nil
	}
	what := "a device or the like"
	if info.Mode().Type() == fs.ModeSymlink {
		what = "a symbolic link"
	}
	return &archive.NotObjectError{Name: name, What: what}
}

// List yields objects in the byte order of their names. It holds the names in
// one folder at a time, and in those above it.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		w := walk{s, ctx, prefix, yield}
		err := w.folder("")
		if err == nil {
			err = ctx.Err()
		}
		if err != nil && err != errStopped {
			yield(archive.Object{}, fmt.Errorf("dir: list %q: %w", prefix, err))
		}
	}
}

// errStopped ends a walk whose caller has heard enough.
var errStopped = errors.New("stopped")

type walk struct {
	store  *Store
	ctx    context.Context
	prefix string
	yield  func(archive.Object, error) bool
}

// folder lists the folder whose name with a slash behind it, or nothing for the
// root, is at.
func (w walk) folder(at string) error {
	entries, err := fs.ReadDir(w.store.root.FS(), path.Clean(at+"."))
	if errors.Is(err, fs.ErrNotExist) && at != "" {
		return nil // emptied since it was seen
	}
	if err != nil {
		return unavailable(err)
	}
	// Among whole names a folder sorts as if it ended in a slash.
	key := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(key(a), key(b)) })
	for _, entry := range entries {
		if err := w.visit(at+key(entry), entry); err != nil {
			return err
		}
	}
	return nil
}

// visit lists what is called name, which in a folder ends in a slash, as far as
// it can have the prefix.
func (w walk) visit(name string, entry fs.DirEntry) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if archive.CheckName(strings.TrimSuffix(name, "/")) != nil {
		return nil // no object of ours
	}
	if entry.IsDir() && strings.HasPrefix(w.prefix, name) {
		return w.folder(name)
	}
	if info, err := entry.Info(); err == nil && strings.HasPrefix(w.prefix, name+"/") {
		if err := regular(name, info); err != nil {
			return unavailable(errors.New(err.Error())) // what is behind it is not this archive's, and nothing is no answer
		}
	}
	if !strings.HasPrefix(name, w.prefix) {
		return nil
	}
	if entry.IsDir() {
		return w.folder(name)
	}
	return w.object(name, entry)
}

func (w walk) object(name string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unavailable(err)
	}
	if !info.Mode().IsRegular() {
		return nil // a link or a device is no object
	}
	if !w.yield(archive.Object{Name: name, Size: info.Size()}, nil) {
		return errStopped
	}
	return nil
}

// reader ends with its context and keeps the error it ended with.
type reader struct {
	ctx  context.Context
	body io.Reader
	err  error
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		r.err = err
		return 0, err
	}
	n, err := r.body.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// body is an object being read.
type body struct {
	io.Reader
	io.Closer
}

// missing makes fs.ErrNotExist of the ways in which there can be no file, and
// archive.ErrUnavailable of all else.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fs.ErrNotExist
	}
	return unavailable(err)
}

// unavailable says that the disk, not the object, is to blame. It leaves out
// the names that os adds: the caller's are the ones to show.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch {
	case errors.As(err, &pathErr):
		err = pathErr.Err
	case errors.As(err, &linkErr):
		err = linkErr.Err
	}
	return fmt.Errorf("%w: %w", err, archive.ErrUnavailable)
}

// Probe tells what a directory can do, and tries whether it is create-only.
func (s *Store) Probe(ctx context.Context, name string) ([]archive.Capability, error) {
	createOnly := archive.Capability{Name: archive.CanCreateOnly, State: archive.Supported}
	switch err := s.Put(ctx, name, strings.NewReader(""), archive.PutOptions{}); {
	case err == nil:
		createOnly.State = archive.Absent
	case !errors.Is(err, fs.ErrExist):
		return nil, err
	}
	capabilities := []archive.Capability{createOnly}
	for _, name := range []string{
		archive.CanChecksum, archive.CanVersion, archive.CanLock, archive.CanHold, archive.CanBucketLock, archive.CanTier, archive.CanEncrypt,
	} {
		capabilities = append(capabilities, archive.Capability{Name: name, State: archive.Absent})
	}
	return capabilities, nil
}
