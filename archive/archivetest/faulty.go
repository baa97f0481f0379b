package archivetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/otsnap/otsnap/archive"
)

// ErrInjected is the error a [Faulty] store fails with. It wraps
// [archive.ErrUnavailable], as an outage would.
var ErrInjected = fmt.Errorf("injected fault: %w", archive.ErrUnavailable)

// Fault is something that goes wrong.
type Fault int

// The faults, and the calls they apply to. A call takes no notice of others.
const (
	None   Fault = iota
	Before       // any: fails before anything is done
	After        // put, delete: is done, and the answer is lost; list: breaks off after half of the objects
	Cut          // get: the body breaks off with an error after half of its bytes
	Short        // get: the body ends after half of its bytes as if that were all
	Long         // get: the body has a byte too many
	Flip         // get: one bit of the body is another
)

// Call is a call of a [Faulty] store.
type Call struct {
	Op   string // "put", "get", "list" or "delete"
	Name string // of the object; of a list, the prefix
	N    int    // how many calls of this Op there have been, this one included
}

// Faulty is a Store that fails on cue.
type Faulty struct {
	archive.Store
	// Cue says what goes wrong with a call; nil: nothing. It is asked one call
	// at a time.
	Cue func(Call) Fault

	mu    sync.Mutex
	calls map[string]int
}

var _ archive.Store = (*Faulty)(nil)

// OnNth returns a cue that gives fault to the n-th call of op and lets all
// others be.
func OnNth(op string, n int, fault Fault) func(Call) Fault {
	return func(c Call) Fault {
		if c.Op == op && c.N == n {
			return fault
		}
		return None
	}
}

func (f *Faulty) cue(op, name string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = make(map[string]int)
	}
	f.calls[op]++
	if f.Cue == nil {
		return None
	}
	return f.Cue(Call{op, name, f.calls[op]})
}

// Put passes body on unless its cue is Before, and its answer unless After.
func (f *Faulty) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	return f.do("put", name, func() error { return f.Store.Put(ctx, name, body, opts) })
}

// Delete passes the call on unless its cue is Before, and its answer unless After.
func (f *Faulty) Delete(ctx context.Context, name string) error {
	return f.do("delete", name, func() error { return f.Store.Delete(ctx, name) })
}

func (f *Faulty) do(op, name string, call func() error) error {
	fault := f.cue(op, name)
	injected := fmt.Errorf("faulty: %s %s: %w", op, name, ErrInjected)
	if fault == Before {
		return injected
	}
	err := call()
	if fault == After {
		return injected
	}
	return err
}

// Get opens an object, whose body its cue may damage.
func (f *Faulty) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	fault := f.cue("get", name)
	if fault == Before {
		return nil, fmt.Errorf("faulty: get %s: %w", name, ErrInjected)
	}
	body, err := f.Store.Get(ctx, name)
	if err != nil || fault == None || fault == After {
		return body, err
	}
	data, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	return io.NopCloser(damage(data, fault)), nil
}

func damage(data []byte, fault Fault) io.Reader {
	half := len(data) / 2
	switch fault {
	case Cut:
		return io.MultiReader(bytes.NewReader(data[:half]), broken{})
	case Short:
		data = data[:half]
	case Long:
		data = append(data, 0)
	case Flip:
		flip(data, half)
	}
	return bytes.NewReader(data)
}

func flip(data []byte, i int) {
	if i < len(data) {
		data[i] ^= 1
	}
}

// broken is the rest of a body that breaks off.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, ErrInjected }

// List yields nothing but an error if its cue is Before, and half of the
// objects and an error if it is After.
func (f *Faulty) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	fault := f.cue("list", prefix)
	if fault != Before && fault != After {
		return f.Store.List(ctx, prefix)
	}
	return func(yield func(archive.Object, error) bool) {
		for _, o := range f.half(ctx, prefix, fault) {
			if !yield(o, nil) {
				return
			}
		}
		yield(archive.Object{}, fmt.Errorf("faulty: list %q: %w", prefix, ErrInjected))
	}
}

func (f *Faulty) half(ctx context.Context, prefix string, fault Fault) []archive.Object {
	if fault == Before {
		return nil
	}
	var list []archive.Object
	for o, err := range f.Store.List(ctx, prefix) {
		if err != nil {
			break
		}
		list = append(list, o)
	}
	return list[:len(list)/2]
}
