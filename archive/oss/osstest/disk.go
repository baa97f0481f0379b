package osstest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// blobs keeps the bytes of objects and parts under names it makes up.
type blobs interface {
	create(size int64) (blobWriter, error) // size is a hint
	open(name string) (io.ReadSeekCloser, error)
	remove(name string) // of nothing, it does nothing
}

type blobWriter interface {
	io.WriteCloser
	Name() string
}

func readBlob(b blobs, name string) ([]byte, error) {
	r, err := b.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// memory is blobs in memory.
type memory struct {
	mu    sync.Mutex
	bytes map[string][]byte
}

func newMemory() *memory { return &memory{bytes: map[string][]byte{}} }

type memoryWriter struct {
	bytes.Buffer
	name string
	to   *memory
}

func (m *memory) create(size int64) (blobWriter, error) {
	w := &memoryWriter{name: randomID(16), to: m}
	w.Grow(int(min(max(size, 0), 512<<20))) // what was announced may not come
	return w, nil
}

func (w *memoryWriter) Name() string { return w.name }

func (w *memoryWriter) Close() error {
	w.to.mu.Lock()
	defer w.to.mu.Unlock()
	w.to.bytes[w.name] = w.Bytes()
	return nil
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

func (m *memory) open(name string) (io.ReadSeekCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.bytes[name]
	if !ok {
		return nil, fmt.Errorf("blob %q: %w", name, os.ErrNotExist)
	}
	return nopCloser{bytes.NewReader(b)}, nil
}

func (m *memory) remove(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.bytes, name)
}

// files is blobs as files DIR/blobs/NAME.
type files string

func (f files) path(name string) string { return filepath.Join(string(f), "blobs", name) }

type fileWriter struct {
	*os.File
	name string
}

func (w fileWriter) Name() string { return w.name }

func (f files) create(int64) (blobWriter, error) {
	name := randomID(16)
	file, err := os.OpenFile(f.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return fileWriter{file, name}, nil
}

func (f files) open(name string) (io.ReadSeekCloser, error) {
	file, err := os.Open(f.path(name))
	if err != nil {
		return nil, err
	}
	return file, nil
}

func (f files) remove(name string) {
	if name != "" {
		os.Remove(f.path(name))
	}
}

// disk is the directory where buckets are saved; empty saves nothing. A bucket is
//
//	buckets/NAME/bucket.json
//	buckets/NAME/objects/SHA-256 OF THE KEY.json  all versions of it
//	buckets/NAME/uploads/ID.json
type disk string

func (d disk) bucketPath(name string, elem ...string) string {
	return filepath.Join(append([]string{string(d), "buckets", name}, elem...)...)
}

func (d disk) objectPath(b *bucket, key string) string {
	sum := sha256.Sum256([]byte(key))
	return d.bucketPath(b.Name, "objects", hex.EncodeToString(sum[:])+".json")
}

func (d disk) saveBucket(b *bucket) error {
	return d.save(d.bucketPath(b.Name, "bucket.json"), b)
}

func (d disk) dropBucket(b *bucket) error {
	if d == "" {
		return nil
	}
	return os.RemoveAll(d.bucketPath(b.Name))
}

func (d disk) saveObject(b *bucket, key string, all []*version) error {
	if len(all) == 0 {
		return d.drop(d.objectPath(b, key))
	}
	return d.save(d.objectPath(b, key), all)
}

func (d disk) saveUpload(b *bucket, u *upload) error {
	return d.save(d.bucketPath(b.Name, "uploads", u.ID+".json"), u)
}

func (d disk) dropUpload(b *bucket, u *upload) error {
	return d.drop(d.bucketPath(b.Name, "uploads", u.ID+".json"))
}

// save writes v where nobody sees half of it.
func (d disk) save(path string, v any) error {
	if d == "" {
		return nil
	}
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary := path + ".new" // the server's mutex is held: no other is being written
	if err := os.WriteFile(temporary, body, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func (d disk) drop(path string) error {
	if d == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// load reads what another server saved.
func (s *Server) load() error {
	for _, dir := range []string{"blobs", "buckets"} {
		if err := os.MkdirAll(filepath.Join(string(s.disk), dir), 0o755); err != nil {
			return err
		}
	}
	found, err := filepath.Glob(s.disk.bucketPath("*", "bucket.json"))
	if err != nil {
		return err
	}
	for _, path := range found {
		b := newBucket("", s.now(), BucketOptions{})
		if err := read(path, b); err != nil {
			return err
		}
		if err := s.loadContents(b); err != nil {
			return err
		}
		s.buckets[b.Name] = b
	}
	return nil
}

func (s *Server) loadContents(b *bucket) error {
	err := each(s.disk.bucketPath(b.Name, "objects", "*.json"), func(all *[]*version) {
		if len(*all) == 0 {
			return
		}
		key := (*all)[0].Key
		b.objects[key], b.keys = *all, append(b.keys, key)
		for _, v := range *all {
			s.sequence = max(s.sequence, v.Sequence)
		}
	})
	slices.Sort(b.keys)
	return cmp.Or(err, each(s.disk.bucketPath(b.Name, "uploads", "*.json"), func(u *upload) { b.uploads[u.ID] = u }))
}

func each[T any](pattern string, f func(*T)) error {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, path := range found {
		v := new(T)
		if err := read(path, v); err != nil {
			return err
		}
		f(v)
	}
	return nil
}

func read(path string, v any) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
