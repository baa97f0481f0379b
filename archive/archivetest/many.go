package archivetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/otsnap/otsnap/archive"
)

// putters is how many objects are put at a time, as by an export.
const putters = 16

// manyObjects is ten times what services list in one page.
const manyObjects = 10_000

// TestManyObjects holds a Store to listing 10,000 objects in order, put by 16 at
// a time. It is skipped with -short.
func TestManyObjects(t *testing.T, open func(t *testing.T) archive.Store) {
	if testing.Short() {
		t.Skip("puts 10,000 objects")
	}
	s := open(t)
	names := manyNames()
	shuffled := slices.Clone(names)
	rand.New(rand.NewPCG(5, 6)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	each(shuffled, func(name string) {
		if err := tryPut(t, s, name, name); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Run("AllAreListedInOrder", func(t *testing.T) { wantObjects(t, s, "", names) })
	t.Run("PrefixesAreListed", func(t *testing.T) {
		for _, prefix := range []string{"t/", "t", "t+", "t+x/r0001-", "%74/", "é", "t/r0001", "t0/r0000-000999"} {
			wantObjects(t, s, prefix, withPrefix(names, prefix))
		}
	})
	t.Run("AListThatIsLeftIsLeft", func(t *testing.T) {
		for _, n := range []int{1, 999, 1000, 1001, 5500} {
			got := make([]string, 0, n)
			for o, err := range s.List(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				if got = append(got, o.Name); len(got) == n {
					break
				}
			}
			if !slices.Equal(got, names[:n]) {
				t.Errorf("the first %d of the list are others than those in byte order", n)
			}
		}
	})
	t.Run("AListGoesOnWhileItsObjectsAreDeleted", func(t *testing.T) { listWhileDeleting(t, s, names) })
}

// manyNames returns names in byte order whose folders need escapes, so that the
// marks between pages do.
func manyNames() []string {
	folders := []string{"%74", "t", "t x", "t&x", "t+x", "t-", "t.x", "t0", "é", "訂單"}
	names := make([]string, manyObjects)
	for i := range names {
		n := i / len(folders)
		names[i] = fmt.Sprintf("%s/r%04d-%06d.parquet", folders[i%len(folders)], n/500, n)
	}
	slices.Sort(names)
	return names
}

func withPrefix(names []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, prefix) })
}

// each calls do for all names, a number of them at a time.
func each(names []string, do func(name string)) {
	work := make(chan string)
	var wg sync.WaitGroup
	for range putters {
		wg.Go(func() {
			for name := range work {
				do(name)
			}
		})
	}
	for _, name := range names {
		work <- name
	}
	close(work)
	wg.Wait()
}

// wantObjects holds a store to listing objects whose content is their name.
func wantObjects(t *testing.T, s archive.Store, prefix string, names []string) {
	t.Helper()
	i := 0
	for o, err := range s.List(t.Context(), prefix) {
		switch {
		case err != nil:
			t.Fatalf("List(%q) after %d objects: %v", prefix, i, err)
		case i >= len(names):
			t.Fatalf("List(%q) goes on after all %d objects, with %q", prefix, len(names), o.Name)
		case o.Name != names[i] || o.Size != int64(len(names[i])):
			t.Fatalf("List(%q): element %d is %q of %d bytes, want %q of %d", prefix, i, o.Name, o.Size, names[i], len(names[i]))
		}
		i++
	}
	if i != len(names) {
		t.Errorf("List(%q) ends after %d objects, want %d: none may be left out", prefix, i, len(names))
	}
}

// listWhileDeleting deletes some of the objects while all are listed: the others
// must all be in the list, and in order.
func listWhileDeleting(t *testing.T, s archive.Store, names []string) {
	var stay, leave []string
	for i, name := range names {
		if i%20 == 0 {
			leave = append(leave, name)
		} else {
			stay = append(stay, name)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		each(leave, func(name string) {
			if err := s.Delete(t.Context(), name); err != nil {
				t.Error(err)
			}
		})
	})
	var got []string
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, o.Name)
	}
	wg.Wait()
	if !slices.IsSorted(got) {
		t.Error("a list during deletions is out of order")
	}
	gone := make(map[string]bool)
	for _, name := range leave {
		gone[name] = true
	}
	if got = slices.DeleteFunc(got, func(name string) bool { return gone[name] }); !slices.Equal(got, stay) {
		t.Errorf("a list during deletions has %d of the %d objects that stay", len(got), len(stay))
	}
	wantObjects(t, s, "", stay)
}

// largeSize is more than any buffer, and no multiple of one.
const largeSize = 300_000_007 // bytes

// TestLargeObject puts an object of 300 MB that is nowhere in memory as a whole,
// with its digest, and reads it back. It is skipped with -short.
func TestLargeObject(t *testing.T, open func(t *testing.T) archive.Store) {
	if testing.Short() {
		t.Skip("puts 300 MB")
	}
	s := open(t)
	digest := sha256.New()
	if _, err := io.Copy(digest, &pattern{size: largeSize}); err != nil {
		t.Fatal(err)
	}
	opts := archive.PutOptions{Bulk: true}
	digest.Sum(opts.SHA256[:0])
	if err := s.Put(t.Context(), "large", &pattern{size: largeSize}, opts); err != nil {
		t.Fatal(err)
	}
	for o, err := range s.List(t.Context(), "") {
		if err != nil || o.Size != largeSize {
			t.Errorf("listed with %d bytes, error %v; want %d", o.Size, err, largeSize)
		}
	}
	body, err := s.Get(t.Context(), "large")
	if errors.Is(err, archive.ErrFrozen) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	digest.Reset()
	n, err := io.Copy(digest, body)
	if err != nil || n != largeSize {
		t.Errorf("read back %d bytes and error %v, want %d", n, err, largeSize)
	}
	if !bytes.Equal(digest.Sum(nil), opts.SHA256[:]) {
		t.Error("other bytes came back than were put")
	}
}

// pattern is a body of any size that takes no memory. No two of its blocks are
// the same, so that none can be left out, doubled or swapped unnoticed.
type pattern struct {
	size, offset int64
}

// noise is a block; its length is a prime, so that it fits no buffer.
var noise = func() []byte {
	block := make([]byte, 1_048_583)
	rand.NewChaCha8([32]byte{1}).Read(block)
	return block
}()

func (p *pattern) Read(b []byte) (int, error) {
	if p.offset >= p.size {
		return 0, io.EOF
	}
	block, at := p.offset/int64(len(noise)), p.offset%int64(len(noise))
	n := copy(b[:min(int64(len(b)), p.size-p.offset)], noise[at:])
	number := [2]byte{byte(block), byte(block >> 8)}
	for i := range b[:n] {
		b[i] ^= number[(int(at)+i)%2]
	}
	p.offset += int64(n)
	return n, nil
}

func (p *pattern) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += p.offset
	case io.SeekEnd:
		offset += p.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start")
	}
	p.offset = offset
	return offset, nil
}
