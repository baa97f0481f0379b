package archivetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

// TestStore holds a Store to its contract. Each subtest opens an empty store of
// its own.
func TestStore(t *testing.T, open func(t *testing.T) archive.Store) {
	tests := []struct {
		name string
		run  func(t *testing.T, s archive.Store)
	}{
		{"PutIsReadBack", putIsReadBack},
		{"PutIsWriteOnce", putIsWriteOnce},
		{"PutStartsAtTheOffsetOfItsBody", putStartsAtOffset},
		{"ABodyMayComeInAnyPieces", bodyInPieces},
		{"WhatGetOpensReadsLikeAnyReader", readsLikeAny},
		{"ABodyMayBeLeftEarly", leftEarly},
		{"OneOfManyRacingPutsWins", racingPuts},
		{"ADigestThatIsRightIsTaken", rightDigest},
		{"ADigestThatIsWrongIsNeverVouchedFor", wrongDigest},
		{"BulkObjectsAreObjects", bulkObject},
		{"WithoutLocksALockIsRefused", lockWithoutLocks},
		{"AnEmptyObjectIsAnObject", emptyObject},
		{"ALargeObjectIsWhole", largeObject},
		{"ABodyThatFailsLeavesNothing", failingBody},
		{"AnObjectIsNotListedBeforeItIsWhole", halfWritten},
		{"ListIsInByteOrderOfWholeNames", listOrder},
		{"ListTakesAnyPrefix", listPrefixes},
		{"ListStopsWhenTheCallerDoes", listStops},
		{"ListOfNothingIsEmpty", listNothing},
		{"ManyObjectsAreListed", listMany},
		{"WhatIsMissingIsErrNotExist", missing},
		{"DeleteFreesTheName", deleteFrees},
		{"DeleteLeavesTheOthers", deleteLeaves},
		{"PutsSucceedWhileTheirNeighboursAreDeleted", putBesideDelete},
		{"AReaderSurvivesDeleteOrFails", readerAndDelete},
		{"NamesAreKeptToTheByte", names},
		{"OddNamesAreKeptToTheByteOrRefused", oddNames},
		{"BadNamesAreRefused", badNames},
		{"ACancelledCallDoesNothing", cancelled},
		{"ACancelledBodyEndsWithAnError", cancelledBody},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func putIsReadBack(t *testing.T, s archive.Store) {
	put(t, s, "snapshots/one/chunk", "rows")
	want(t, s, "snapshots/one/chunk", "rows")
	wantList(t, s, "", "snapshots/one/chunk")
}

func putIsWriteOnce(t *testing.T, s archive.Store) {
	put(t, s, "a/object", "first")
	for _, content := range []string{"second", "first", ""} {
		if err := tryPut(t, s, "a/object", content); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Put over an object: got %v, want fs.ErrExist", err)
		}
	}
	want(t, s, "a/object", "first")
	wantList(t, s, "", "a/object")
}

func putStartsAtOffset(t *testing.T, s archive.Store) {
	body := strings.NewReader("header and rest")
	if _, err := body.Seek(7, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "object", body, archive.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	want(t, s, "object", "and rest")
}

func bodyInPieces(t *testing.T, s archive.Store) {
	content := strings.Repeat("0123456789", 5000)
	for name, pieces := range map[string]func(*strings.Reader) io.Reader{
		"byte by byte":      func(r *strings.Reader) io.Reader { return iotest.OneByteReader(r) },
		"half of what fits": func(r *strings.Reader) io.Reader { return iotest.HalfReader(r) },
		"end with the data": func(r *strings.Reader) io.Reader { return eager{r} },
		"nothing at times":  func(r *strings.Reader) io.Reader { return &hesitant{Reader: r} },
	} {
		whole := strings.NewReader(content)
		body := struct {
			io.Reader
			io.Seeker
		}{pieces(whole), whole}
		if err := s.Put(t.Context(), name, body, archive.PutOptions{}); err != nil {
			t.Errorf("Put of a body that comes %s: %v", name, err)
			continue
		}
		want(t, s, name, content)
	}
}

// hesitant reads nothing every second time, which a reader may.
type hesitant struct {
	io.Reader
	now bool
}

func (h *hesitant) Read(p []byte) (int, error) {
	if h.now = !h.now; h.now {
		return 0, nil
	}
	return h.Reader.Read(p)
}

// eager ends with its last bytes, not after them.
type eager struct{ *strings.Reader }

func (e eager) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err == nil && e.Len() == 0 {
		err = io.EOF
	}
	return n, err
}

func readsLikeAny(t *testing.T, s archive.Store) {
	for name, content := range map[string]string{"empty": "", "small": "rows", "large": strings.Repeat("rows ", 20_000)} {
		put(t, s, name, content)
		body, err := s.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(body, []byte(content)); err != nil {
			t.Errorf("reading the %s object: %v", name, err)
		}
		if err := body.Close(); err != nil {
			t.Errorf("closing what was read: %v", err)
		}
	}
}

// leftEarly opens more bodies than there are connections, or files, to be had if
// a closed one kept its own.
func leftEarly(t *testing.T, s archive.Store) {
	content := strings.Repeat("rows ", 200_000)
	put(t, s, "object", content)
	for range 100 {
		body, err := s.Get(t.Context(), "object")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(body, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if err := body.Close(); err != nil {
			t.Errorf("closing a body early: %v", err)
		}
	}
	want(t, s, "object", content)
}

func racingPuts(t *testing.T, s archive.Store) {
	const racers = 16
	content := func(i int) string { return strings.Repeat(string(rune('a'+i)), 100_000+i) }
	errs := make([]error, racers)
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() { errs[i] = tryPut(t, s, "manifests/next", content(i)) })
	}
	wg.Wait()

	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("both %d and %d won", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, fs.ErrExist):
			t.Errorf("racer %d: got %v, want nil or fs.ErrExist", i, err)
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	want(t, s, "manifests/next", content(winner))
	wantList(t, s, "", "manifests/next")
}

func rightDigest(t *testing.T, s archive.Store) {
	for name, content := range map[string]string{"empty": "", "small": "rows", "large": strings.Repeat("rows ", 500_000)} {
		opts := archive.PutOptions{SHA256: sha256.Sum256([]byte(content))}
		if err := s.Put(t.Context(), name, strings.NewReader(content), opts); err != nil {
			t.Errorf("Put(%q) with the digest of what is put: got %v", name, err)
			continue
		}
		want(t, s, name, content)
	}
	body := strings.NewReader("header and rest")
	if _, err := body.Seek(7, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	opts := archive.PutOptions{SHA256: sha256.Sum256([]byte("and rest"))}
	if err := s.Put(t.Context(), "rest", body, opts); err != nil {
		t.Errorf("Put with the digest of body from its offset on: got %v", err)
	}
}

// wrongDigest lets a store ignore the digest. One that looks at it leaves nothing,
// and none may later say that the server checked it.
func wrongDigest(t *testing.T, s archive.Store) {
	wrong := manifest.Hash(sha256.Sum256([]byte("other rows")))
	err := s.Put(t.Context(), "a/object", strings.NewReader("rows"), archive.PutOptions{SHA256: wrong})
	if errors.Is(err, fs.ErrExist) {
		t.Errorf("Put of a free name with a wrong digest: got %v; fs.ErrExist says somebody else's object is there", err)
	}
	if err != nil {
		wantMissing(t, s, "a/object")
		wantList(t, s, "")
		put(t, s, "a/object", "rows")
		return
	}
	want(t, s, "a/object", "rows")
	if inspector, ok := s.(archive.Inspector); ok {
		if info, err := inspector.Inspect(t.Context(), "a/object"); err != nil || info.SHA256 == wrong {
			t.Errorf("Inspect says the server checked a digest that is not that of the object; error %v", err)
		}
	}
}

func bulkObject(t *testing.T, s archive.Store) {
	if err := s.Put(t.Context(), "a/bulk", strings.NewReader("rows"), archive.PutOptions{Bulk: true}); err != nil {
		t.Fatal(err)
	}
	wantList(t, s, "", "a/bulk")
	if err := tryPut(t, s, "a/bulk", "others"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Put over a bulk object: got %v, want fs.ErrExist", err)
	}
}

// lockWithoutLocks is for stores that are no Locker; [TestLocks] is for those
// that are.
func lockWithoutLocks(t *testing.T, s archive.Store) {
	if _, ok := s.(archive.Locker); ok {
		t.Skip("is an archive.Locker")
	}
	until := time.Now().AddDate(0, 0, 1)
	for name, lock := range map[string]archive.Lock{
		"governance": {Mode: archive.Governance, Until: until},
		"compliance": {Mode: archive.Compliance, Until: until},
		"hold":       {Hold: true},
	} {
		err := s.Put(t.Context(), name, strings.NewReader("rows"), archive.PutOptions{Lock: lock})
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Put with a lock (%s) into a store without: got %v, want errors.ErrUnsupported: nobody may believe it is locked", name, err)
		}
	}
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		want(t, s, o.Name, "rows")
		remove(t, s, o.Name)
	}
}

func emptyObject(t *testing.T, s archive.Store) {
	put(t, s, "empty", "")
	want(t, s, "empty", "")
	wantList(t, s, "", "empty")
	if err := tryPut(t, s, "empty", "content"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Put over an empty object: got %v, want fs.ErrExist", err)
	}
}

func largeObject(t *testing.T, s archive.Store) {
	data := make([]byte, 5<<20+1)
	for i, r := 0, rand.New(rand.NewPCG(1, 2)); i < len(data); i++ {
		data[i] = byte(r.Uint32())
	}
	put(t, s, "large", string(data))
	if got := get(t, s, "large"); got != string(data) {
		t.Errorf("got other bytes back (%d, put %d)", len(got), len(data))
	}
	for o, err := range s.List(t.Context(), "") {
		if err != nil || o.Size != int64(len(data)) {
			t.Errorf("listed with size %d, error %v; want %d", o.Size, err, len(data))
		}
	}
}

func failingBody(t *testing.T, s archive.Store) {
	broken := errors.New("the disk the body comes from broke")
	body := &failing{Reader: bytes.NewReader(make([]byte, 1<<20)), after: 300_000, err: broken}
	if err := s.Put(t.Context(), "a/object", body, archive.PutOptions{}); !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of the body", err)
	}
	wantMissing(t, s, "a/object")
	wantList(t, s, "")
	put(t, s, "a/object", "second try")
	want(t, s, "a/object", "second try")
}

// failing is a body that cannot be read past some offset.
type failing struct {
	*bytes.Reader
	after int
	err   error
}

func (f *failing) Read(p []byte) (int, error) {
	left := f.after - (int(f.Size()) - f.Len())
	if left <= 0 {
		return 0, f.err
	}
	return f.Reader.Read(p[:min(left, len(p))])
}

// WriteTo hides the one of bytes.Reader, which would go round Read.
func (f *failing) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{f})
}

func halfWritten(t *testing.T, s archive.Store) {
	body := &watched{Reader: bytes.NewReader(make([]byte, 1<<20)), read: func() {
		wantMissing(t, s, "a/object")
		wantList(t, s, "")
	}}
	if err := s.Put(t.Context(), "a/object", body, archive.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	wantList(t, s, "", "a/object")
}

// watched calls read before its first and its last bytes are read.
type watched struct {
	*bytes.Reader
	read func()
}

func (w *watched) Read(p []byte) (int, error) {
	if n := w.Len(); n == int(w.Size()) || n <= len(p) {
		w.read()
	}
	return w.Reader.Read(p)
}

// WriteTo hides the one of bytes.Reader, which would go round Read.
func (w *watched) WriteTo(to io.Writer) (int64, error) {
	return io.Copy(to, struct{ io.Reader }{w})
}

// ordered are names in byte order, which is not the order of a walk through
// folders: "-" and "." sort before "/", "0" after it.
var ordered = []string{
	"A/x", "README.md", "a", "b-c", "b.c", "b/c", "b/c-d/e", "b/c.d", "b/c0", "b/d/e", "b0", "bc/a", "é/z", "日本",
}

func listOrder(t *testing.T, s archive.Store) {
	shuffled := slices.Clone(ordered)
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for _, name := range shuffled {
		put(t, s, name, name)
	}
	wantList(t, s, "", ordered...)
	for o, err := range s.List(t.Context(), "") {
		if err != nil || o.Size != int64(len(o.Name)) {
			t.Errorf("%s: size %d, error %v; want %d", o.Name, o.Size, err, len(o.Name))
		}
	}
}

func listPrefixes(t *testing.T, s archive.Store) {
	for _, name := range ordered {
		put(t, s, name, "")
	}
	prefixes := []string{
		"b", "b/", "b/c", "b/c-", "b/c-d/", "b/c-d/e", "b/c-d/e/", "b-", "é", "é/z",
		"none", "/", "/b", ".", "..", "../", "b/../b", "b//", "日", "\xff",
	}
	for _, prefix := range prefixes {
		var names []string
		for _, name := range ordered {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
		wantList(t, s, prefix, names...)
	}
}

func listStops(t *testing.T, s archive.Store) {
	for _, name := range []string{"a", "b/c", "d"} {
		put(t, s, name, "")
	}
	var names []string
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, o.Name)
		if len(names) == 2 {
			break
		}
	}
	if !slices.Equal(names, []string{"a", "b/c"}) {
		t.Errorf("got %q before stopping", names)
	}
}

func listNothing(t *testing.T, s archive.Store) {
	wantList(t, s, "")
	wantList(t, s, "a/")
}

// listMany has more objects than services list at once (1000).
func listMany(t *testing.T, s archive.Store) {
	names := make([]string, 1100)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < len(names); i += 4 {
				names[i] = fmt.Sprintf("t/r%04d-%06d.parquet", i/100, i%100)
				if err := tryPut(t, s, names[i], "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantList(t, s, "", names...)
	wantList(t, s, "t/r0003-", names[300:400]...)
}

func missing(t *testing.T, s archive.Store) {
	put(t, s, "a/object", "content")
	for _, name := range []string{"none", "a", "a/none", "none/object", "a/object2", "a/object/none"} {
		wantMissing(t, s, name)
		if err := s.Delete(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Delete(%q): got %v, want fs.ErrNotExist", name, err)
		}
	}
	want(t, s, "a/object", "content")
}

func deleteFrees(t *testing.T, s archive.Store) {
	put(t, s, "a/b/object", "first")
	remove(t, s, "a/b/object")
	wantMissing(t, s, "a/b/object")
	wantList(t, s, "")
	if err := s.Delete(t.Context(), "a/b/object"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("second Delete: got %v, want fs.ErrNotExist", err)
	}
	put(t, s, "a/b/object", "second")
	want(t, s, "a/b/object", "second")
	remove(t, s, "a/b/object")
	put(t, s, "a", "where a folder was")
	want(t, s, "a", "where a folder was")
}

func deleteLeaves(t *testing.T, s archive.Store) {
	for _, name := range []string{"a/b", "a/b-c", "a/b0", "a/c/d"} {
		put(t, s, name, name)
	}
	remove(t, s, "a/b")
	wantList(t, s, "", "a/b-c", "a/b0", "a/c/d")
	want(t, s, "a/b-c", "a/b-c")
}

func putBesideDelete(t *testing.T, s archive.Store) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 25 {
				name := fmt.Sprintf("a/b/%d-%d", w, i)
				if err := errors.Join(tryPut(t, s, name, name), s.Delete(t.Context(), name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantList(t, s, "")
}

func readerAndDelete(t *testing.T, s archive.Store) {
	content := strings.Repeat("content ", 100_000)
	put(t, s, "object", content)
	body, err := s.Get(t.Context(), "object")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	remove(t, s, "object")
	if data, err := io.ReadAll(body); err == nil && string(data) != content {
		t.Errorf("read %d bytes without an error, want all %d or an error", len(data), len(content))
	}
}

func badNames(t *testing.T, s archive.Store) {
	bad := []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "./a", ".hidden", "a/.hidden",
		`a\b`, "a\x00b", "a\nb", "a\x7fb", "a\u0085b", "a\xffb", strings.Repeat("p", 256), strings.Repeat("long/", 103),
	}
	for _, name := range bad {
		_, err := s.Get(t.Context(), name)
		for op, err := range map[string]error{
			"Put":    tryPut(t, s, name, "content"),
			"Get":    err,
			"Delete": s.Delete(t.Context(), name),
		} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s(%q): got %v, want fs.ErrInvalid", op, name, err)
			}
		}
	}
	wantList(t, s, "")
}

func cancelled(t *testing.T, s archive.Store) {
	put(t, s, "old", "content")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := s.Get(ctx, "old")
	var listErr error
	for _, err := range s.List(ctx, "") {
		listErr = err
	}
	for op, err := range map[string]error{
		"Put":    s.Put(ctx, "new", strings.NewReader("content"), archive.PutOptions{}),
		"Get":    getErr,
		"List":   listErr,
		"Delete": s.Delete(ctx, "old"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: got %v, want context.Canceled", op, err)
		}
	}
	wantList(t, s, "", "old")
}

func cancelledBody(t *testing.T, s archive.Store) {
	put(t, s, "object", strings.Repeat("content ", 1_000_000))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, err := s.Get(ctx, "object")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.ReadFull(body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, body); !errors.Is(err, context.Canceled) {
		t.Errorf("reading on after cancel: got %v, want context.Canceled", err)
	}
}

func tryPut(t *testing.T, s archive.Store, name, content string) error {
	return s.Put(t.Context(), name, strings.NewReader(content), archive.PutOptions{})
}

func put(t *testing.T, s archive.Store, name, content string) {
	t.Helper()
	if err := tryPut(t, s, name, content); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, s archive.Store, name string) {
	t.Helper()
	if err := s.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s archive.Store, name string) string {
	t.Helper()
	body, err := s.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func want(t *testing.T, s archive.Store, name, content string) {
	t.Helper()
	if got := get(t, s, name); got != content {
		t.Errorf("%s holds %.40q (%d bytes), want %.40q (%d)", name, got, len(got), content, len(content))
	}
}

func wantMissing(t *testing.T, s archive.Store, name string) {
	t.Helper()
	body, err := s.Get(t.Context(), name)
	if err == nil {
		body.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get(%q): got %v, want fs.ErrNotExist", name, err)
	}
}

func wantList(t *testing.T, s archive.Store, prefix string, names ...string) {
	t.Helper()
	var got []string
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("List(%q): %v", prefix, err)
		}
		got = append(got, o.Name)
	}
	if !slices.Equal(got, names) {
		t.Errorf("List(%q):\n got %q\nwant %q", prefix, got, names)
	}
}
