package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/internal/remote"
)

// object is read from a server whose connections break off after so many bytes
// each, with an error or, cleanly, with none.
type object struct {
	content string
	breaks  []int // one for each connection; those after it are whole
	clean   bool
	unsized bool
	grow    int   // bytes by which the object is longer from the second connection on
	opening error // of connections after the first

	offsets []int64
	closed  int
}

func (o *object) open(offset int64) (remote.Part, error) {
	o.offsets = append(o.offsets, offset)
	n := len(o.offsets)
	if n > 1 && o.opening != nil {
		return remote.Part{}, o.opening
	}
	size := int64(len(o.content))
	if n > 1 {
		size += int64(o.grow)
	}
	if o.unsized {
		size = -1
	}
	rest := o.content[offset:]
	if n > len(o.breaks) {
		return remote.Part{Body: &part{o, strings.NewReader(rest)}, Size: size}, nil
	}
	r := io.Reader(strings.NewReader(rest[:min(o.breaks[n-1], len(rest))]))
	if !o.clean {
		r = io.MultiReader(r, broken{})
	}
	return remote.Part{Body: &part{o, r}, Size: size}, nil
}

type part struct {
	object *object
	io.Reader
}

func (p *part) Close() error { p.object.closed++; return nil }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBusy }

const text = "0123456789abcdefghij"

func read(t *testing.T, o *object, r remote.Retry) (string, error) {
	t.Helper()
	r.Temporary = busy
	b, err := remote.NewBody(t.Context(), r, o.open)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(b)
	if closeErr := b.Close(); closeErr != nil {
		t.Error(closeErr)
	}
	return string(data), err
}

func TestBody(t *testing.T) {
	tests := []struct {
		name    string
		object  object
		offsets []int64
	}{
		{"Whole", object{content: text}, []int64{0}},
		{"Empty", object{}, []int64{0}},
		{"OfNoSize", object{content: text, unsized: true}, []int64{0}},
		{"Broken", object{content: text, breaks: []int{5, 5}}, []int64{0, 5, 10}},
		{"BrokenBeforeTheFirstByte", object{content: text, breaks: []int{0, 0, 3}}, []int64{0, 0, 0, 3}},
		{"BrokenBeforeTheLastByte", object{content: text, breaks: []int{19}}, []int64{0, 19}},
		{"EndsEarlyWithoutAnError", object{content: text, breaks: []int{7, 7}, clean: true}, []int64{0, 7, 14}},
		{"BrokenOfNoSize", object{content: text, breaks: []int{5}, unsized: true}, []int64{0, 5}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := 0
				got, err := read(t, &test.object, remote.Retry{OnRetry: func(error) { told++ }})
				if err != nil || got != test.object.content {
					t.Errorf("read %q, error %v; want %q", got, err, test.object.content)
				}
				if len(test.object.offsets) != len(test.offsets) || told != len(test.offsets)-1 {
					t.Fatalf("asked from %v on, told of %d breaks; want %v", test.object.offsets, told, test.offsets)
				}
				for i, offset := range test.offsets {
					if test.object.offsets[i] != offset {
						t.Errorf("asked from %v on, want %v", test.object.offsets, test.offsets)
					}
				}
				if test.object.closed != len(test.offsets) {
					t.Errorf("closed %d of %d connections", test.object.closed, len(test.offsets))
				}
			})
		})
	}
}

// TestABodyThatNeverMovesIsGivenUp has a server that takes requests and sends no
// bytes: it is given as long as one that takes none.
func TestABodyThatNeverMovesIsGivenUp(t *testing.T) {
	for _, limit := range []time.Duration{0, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			o := &object{content: text, breaks: append([]int{4}, make([]int, 100)...)}
			begin := time.Now()
			got, err := read(t, o, remote.Retry{GiveUpAfter: limit})
			if !errors.Is(err, archive.ErrUnavailable) || !errors.Is(err, errBusy) || got != text[:4] {
				t.Errorf("read %q, error %v; want what came, and archive.ErrUnavailable", got, err)
			}
			want := limit
			if want == 0 {
				want = remote.GiveUpAfter
			}
			if took := time.Since(begin); took > want || took < want/2 {
				t.Errorf("gave up after %s and %d tries, want about %s", took, len(o.offsets), want)
			}
		})
	}
}

// TestABodyThatDripsIsGivenUp breaks off after every byte.
func TestABodyThatDripsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content := strings.Repeat(text, 10)
		got, err := read(t, &object{content: content, breaks: breaksOf(1, len(content))}, remote.Retry{})
		if !errors.Is(err, archive.ErrUnavailable) || len(got) > 30 {
			t.Errorf("read %d bytes, error %v; want archive.ErrUnavailable after a few", len(got), err)
		}
	})
}

// TestABodyThatMovesIsNotGivenUp breaks off a hundred times, and has each time
// come a little further.
func TestABodyThatMovesIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const step = 16 << 10
		content := strings.Repeat("0123456789abcdef", 100*step/16)
		got, err := read(t, &object{content: content, breaks: breaksOf(step, 100)}, remote.Retry{})
		if err != nil || got != content {
			t.Errorf("read %d bytes, error %v; want %d", len(got), err, len(content))
		}
	})
}

// breaksOf is n connections that each give so many bytes.
func breaksOf(bytes, n int) []int {
	breaks := make([]int, n)
	for i := range breaks {
		breaks[i] = bytes
	}
	return breaks
}

func TestABodyOfAnotherSizeIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, grow := range []int{1, -1} {
			got, err := read(t, &object{content: text, breaks: []int{5}, grow: grow}, remote.Retry{})
			if !errors.Is(err, archive.ErrUnavailable) || got != text[:5] {
				t.Errorf("an object that changed its size by %d: read %q, error %v; want archive.ErrUnavailable", grow, got, err)
			}
		}
	})
}

func TestABodyThatIsRefusedIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := read(t, &object{content: text, breaks: []int{5}, opening: errWrong}, remote.Retry{})
		if !errors.Is(err, archive.ErrUnavailable) || !errors.Is(err, errWrong) || got != text[:5] {
			t.Errorf("read %q, error %v; want archive.ErrUnavailable and the refusal", got, err)
		}
	})
}

// TestABodyThatIsTooLongIsAnError has a server send more than it said.
func TestABodyThatIsTooLongIsAnError(t *testing.T) {
	b, err := remote.NewBody(t.Context(), remote.Retry{Temporary: busy}, func(int64) (remote.Part, error) {
		return remote.Part{Body: io.NopCloser(bytes.NewReader([]byte(text))), Size: 5}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.Size() != 5 {
		t.Errorf("Size is %d, want 5", b.Size())
	}
	if data, err := io.ReadAll(b); !errors.Is(err, archive.ErrUnavailable) {
		t.Errorf("read %q, error %v; want archive.ErrUnavailable", data, err)
	}
}

func TestAnErrorOfOpeningIsItself(t *testing.T) {
	_, err := remote.NewBody(t.Context(), remote.Retry{Temporary: busy}, func(int64) (remote.Part, error) { return remote.Part{}, errWrong })
	if err != errWrong {
		t.Errorf("got %v, want the error as it is", err)
	}
}

func TestACancelledBodyEndsWithTheErrorOfItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b, err := remote.NewBody(ctx, remote.Retry{Temporary: busy}, (&object{content: text}).open)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := io.ReadFull(b, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	cancel()
	for range 2 {
		if n, err := b.Read(make([]byte, 3)); n != 0 || err != context.Canceled {
			t.Errorf("read %d bytes, error %v; want the error of the context", n, err)
		}
	}
}
