package archivetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/otsnap/otsnap/archive"
)

// TestModel makes random calls, and holds a Store to answering them as one in
// memory does. open returns at least one store, all of the same empty archive, as
// several processes have it: what one does, the others see.
func TestModel(t *testing.T, open func(t *testing.T) []archive.Store) {
	seeds, calls := 3, 200
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("Seed%d", seed), func(t *testing.T) {
			m := &model{t: t, stores: open(t), rand: rand.New(rand.NewPCG(uint64(seed), 7))}
			for range 10 {
				m.names = append(m.names, m.name())
			}
			for n := range calls {
				m.call(n)
				if t.Failed() {
					t.Fatalf("call %d of seed %d was the first that went wrong; before it:\n%s", n, seed, strings.Join(m.log[max(0, len(m.log)-30):], "\n"))
				}
			}
		})
	}
	t.Run("ManyAtOnce", func(t *testing.T) { manyAtOnce(t, open(t)) })
}

// model is a Store beside one that is right.
type model struct {
	t      *testing.T
	stores []archive.Store
	memory Memory
	rand   *rand.Rand
	names  []string
	log    []string
}

// leaves are runes that names are made of.
var leaves = []rune("ab01+ %&=?#;'\"<>~*@,é\u0301\u00a0\u2028\ufeff訂\U0001F4E6")

// name returns a random name. Its folder is never a name.
func (m *model) name() string {
	var leaf strings.Builder
	leaf.WriteByte('x') // some servers mind a space first
	for range 1 + m.rand.IntN(8) {
		leaf.WriteRune(leaves[m.rand.IntN(len(leaves))])
	}
	return fmt.Sprintf("folder %d/%s", m.rand.IntN(3), leaf.String())
}

func (m *model) call(n int) {
	at := m.rand.IntN(len(m.stores))
	s, name := m.stores[at], m.names[m.rand.IntN(len(m.names))]
	switch m.rand.IntN(10) {
	case 0, 1, 2, 3:
		content := strings.Repeat(fmt.Sprintf("content %d ", n), m.rand.IntN(3)*m.rand.IntN(1000))
		m.note("store %d: Put(%q), %d bytes", at, name, len(content))
		m.same("Put", name, tryPut(m.t, s, name, content), tryPut(m.t, &m.memory, name, content))
	case 4, 5, 6:
		m.note("store %d: Get(%q)", at, name)
		got, err := readWhole(m.t, s, name)
		want, wantErr := readWhole(m.t, &m.memory, name)
		m.same("Get", name, err, wantErr)
		if !bytes.Equal(got, want) {
			m.t.Errorf("Get(%q): %.40q (%d bytes), want %.40q (%d)", name, got, len(got), want, len(want))
		}
	case 7:
		m.note("store %d: Delete(%q)", at, name)
		m.same("Delete", name, s.Delete(m.t.Context(), name), m.memory.Delete(m.t.Context(), name))
	default:
		prefix := []string{"", "folder 1", "folder 1/", name, name[:len("folder 0/x")]}[m.rand.IntN(5)]
		m.note("store %d: List(%q)", at, prefix)
		if got, want := listed(m.t, s, prefix), listed(m.t, &m.memory, prefix); !slices.Equal(got, want) {
			m.t.Errorf("List(%q):\n got %q\nwant %q", prefix, got, want)
		}
	}
}

func (m *model) note(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

// same holds an error to being the one that is right.
func (m *model) same(op, name string, got, want error) {
	for _, kind := range []error{fs.ErrExist, fs.ErrNotExist} {
		if errors.Is(got, kind) != errors.Is(want, kind) {
			m.t.Errorf("%s(%q): got %v, want %v", op, name, got, want)
		}
	}
	if (got == nil) != (want == nil) {
		m.t.Errorf("%s(%q): got %v, want %v", op, name, got, want)
	}
}

func readWhole(t *testing.T, s archive.Store, name string) ([]byte, error) {
	body, err := s.Get(t.Context(), name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// listed returns names and sizes.
func listed(t *testing.T, s archive.Store, prefix string) []string {
	t.Helper()
	var list []string
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("List(%q): %v", prefix, err)
		}
		list = append(list, fmt.Sprintf("%s (%d)", o.Name, o.Size))
	}
	return list
}

// manyAtOnce has many put the same few names while one deletes each, and reads
// them all the while. Of each name there are as many puts that succeeded as
// deletes, and one more if the object is there. A Put that cannot tell, since its
// object was gone before it had looked at it, may say so.
func manyAtOnce(t *testing.T, stores []archive.Store) {
	const names, workers, rounds = 4, 8, 12
	name := func(n int) string { return fmt.Sprintf("a/object %d", n) }
	var mu sync.Mutex
	var puts, unsure, deletes [names]int
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			s := stores[w%len(stores)]
			for round := range rounds {
				n := (w + round) % names
				content := strings.Repeat(fmt.Sprintf("%d %d,", w, round), 1000)
				err := tryPut(t, s, name(n), content)
				mu.Lock()
				switch {
				case err == nil:
					puts[n]++
				case judge(err) == refused:
					unsure[n]++
				case !errors.Is(err, fs.ErrExist):
					t.Errorf("Put beside others: got %v, want nil, fs.ErrExist, or archive.ErrUnavailable and nothing else", err)
				}
				mu.Unlock()
				wholeOrMissing(t, s, name(n))
				if w >= names { // one for each name
					continue
				}
				switch err := s.Delete(t.Context(), name(w)); {
				case err == nil:
					deletes[w]++ // its own slot
				case !errors.Is(err, fs.ErrNotExist):
					t.Errorf("Delete beside others: got %v, want nil or fs.ErrNotExist", err)
				}
			}
		})
	}
	wg.Wait()
	left := listed(t, stores[0], "")
	for _, s := range stores[1:] {
		if got := listed(t, s, ""); !slices.Equal(got, left) {
			t.Errorf("one store lists %q, another of the same archive %q", left, got)
		}
	}
	for n := range names {
		gone := deletes[n]
		if slices.ContainsFunc(left, func(o string) bool { return strings.HasPrefix(o, name(n)) }) {
			gone++
		}
		if gone < puts[n] || gone > puts[n]+unsure[n] {
			t.Errorf("%s: %d puts succeeded (%d more are unsure), and %d objects were deleted or are there; each Put has to find the name free, and each Delete to free it", name(n), puts[n], unsure[n], gone)
		}
	}
}

// wholeOrMissing reads an object that others put and delete: it is what one of
// them put, whole, or the read fails.
func wholeOrMissing(t *testing.T, s archive.Store, name string) {
	data, err := readWhole(t, s, name)
	if err != nil {
		return // missing, or gone while it was read
	}
	first, _, _ := strings.Cut(string(data), ",")
	if string(data) != strings.Repeat(first+",", 1000) {
		t.Errorf("Get beside others: %.40q (%d bytes), which nobody put", data, len(data))
	}
}
