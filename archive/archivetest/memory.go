// Package archivetest is the contract of archive.Store, and of what a store may do
// beside, as test suites, with stores to test other code against (two in memory
// and one that fails on cue) and bad networks to put before real ones.
package archivetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/otsnap/otsnap/archive"
)

// Memory is a Store in memory. The zero value is empty and ready.
type Memory struct {
	mu      sync.Mutex
	objects map[string][]byte
}

var _ archive.Store = (*Memory)(nil)

// Put stores body under a name that is still free.
func (m *Memory) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	if err := archive.CheckName(name); err != nil {
		return fmt.Errorf("memory: put: %w", err)
	}
	if opts.Lock != (archive.Lock{}) {
		return fmt.Errorf("memory: put %s: no locks in memory: %w", name, errors.ErrUnsupported)
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("memory: put %s: %w", name, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: put %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[name]; ok {
		return fmt.Errorf("memory: put %s: %w", name, fs.ErrExist)
	}
	m.set(name, data)
	return nil
}

// Get opens an object.
func (m *Memory) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	data, err := m.get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("memory: get %s: %w", name, err)
	}
	return io.NopCloser(&reader{ctx, bytes.NewReader(data)}), nil
}

func (m *Memory) get(ctx context.Context, name string) ([]byte, error) {
	if err := archive.CheckName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return data, nil
}

// List yields the objects that were there when the iteration began.
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		for _, o := range m.list(prefix) {
			if err := ctx.Err(); err != nil {
				yield(archive.Object{}, fmt.Errorf("memory: list %q: %w", prefix, err))
				return
			}
			if !yield(o, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(archive.Object{}, fmt.Errorf("memory: list %q: %w", prefix, err))
		}
	}
}

func (m *Memory) list(prefix string) []archive.Object {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []archive.Object
	for _, name := range slices.Sorted(maps.Keys(m.objects)) {
		if strings.HasPrefix(name, prefix) {
			list = append(list, archive.Object{Name: name, Size: int64(len(m.objects[name]))})
		}
	}
	return list
}

// Delete removes an object.
func (m *Memory) Delete(ctx context.Context, name string) error {
	if _, err := m.get(ctx, name); err != nil {
		return fmt.Errorf("memory: delete %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, name)
	return nil
}

// Replace puts data where name is, whatever was there: what whoever owns the
// storage can do, and no Store offers.
func (m *Memory) Replace(name string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(name, slices.Clone(data))
}

// Names returns the names of all objects in byte order.
func (m *Memory) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.objects))
}

// Clone returns a store with the same objects, to be changed on its own.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{objects: maps.Clone(m.objects)}
}

func (m *Memory) set(name string, data []byte) {
	if m.objects == nil {
		m.objects = make(map[string][]byte)
	}
	m.objects[name] = data
}

// reader is a body that ends with its context.
type reader struct {
	ctx  context.Context
	body io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.body.Read(p)
}
