package archivetest

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive"
)

func TestMemory(t *testing.T) {
	TestStore(t, func(*testing.T) archive.Store { return new(Memory) })
}

func TestFaultyWithoutCueIsTheStoreItWraps(t *testing.T) {
	TestStore(t, func(*testing.T) archive.Store { return &Faulty{Store: new(Memory)} })
}

func TestCloneIsIndependent(t *testing.T) {
	var m Memory
	m.Replace("a", []byte("one"))
	c := m.Clone()
	c.Replace("a", []byte("two"))
	c.Replace("b", nil)
	want(t, &m, "a", "one")
	want(t, c, "a", "two")
	wantList(t, &m, "", "a")
	if got := c.Names(); len(got) != 2 {
		t.Errorf("clone has names %q", got)
	}
}

func TestFaults(t *testing.T) {
	const content = "0123456789"
	tests := []struct {
		name   string
		op     string
		fault  Fault
		err    bool   // of the call or of its body
		get    string // what the body has
		exists bool   // object "new" after a put, object "old" after a delete
	}{
		{name: "PutBefore", op: "put", fault: Before, err: true},
		{name: "PutAfter", op: "put", fault: After, err: true, exists: true},
		{name: "DeleteBefore", op: "delete", fault: Before, err: true, exists: true},
		{name: "DeleteAfter", op: "delete", fault: After, err: true},
		{name: "GetBefore", op: "get", fault: Before, err: true},
		{name: "GetCut", op: "get", fault: Cut, err: true, get: "01234"},
		{name: "GetShort", op: "get", fault: Short, get: "01234"},
		{name: "GetLong", op: "get", fault: Long, get: content + "\x00"},
		{name: "GetFlip", op: "get", fault: Flip, get: "0123446789"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var m Memory
			m.Replace("old", []byte(content))
			s := &Faulty{Store: &m, Cue: OnNth(test.op, 1, test.fault)}
			var got string
			var err error
			exists := false
			switch test.op {
			case "put":
				err = tryPut(t, s, "new", content)
				exists = len(m.Names()) == 2
			case "delete":
				err = s.Delete(t.Context(), "old")
				exists = len(m.Names()) == 1
			case "get":
				got, err = readAll(t, s, "old")
			}
			if (err != nil) != test.err || err != nil && !errors.Is(err, ErrInjected) {
				t.Errorf("got error %v", err)
			}
			if got != test.get {
				t.Errorf("got %q, want %q", got, test.get)
			}
			if exists != test.exists {
				t.Errorf("object exists: %v, want %v", exists, test.exists)
			}
			for _, name := range m.Names() {
				want(t, &m, name, content)
			}
		})
	}
}

func TestListBreaksOff(t *testing.T) {
	var m Memory
	for name := range strings.SplitSeq("a b c d", " ") {
		m.Replace(name, nil)
	}
	for fault, whole := range map[Fault]int{Before: 0, After: 2} {
		s := &Faulty{Store: &m, Cue: OnNth("list", 1, fault)}
		n := 0
		var last error
		for _, err := range s.List(t.Context(), "") {
			if last = err; err == nil {
				n++
			}
		}
		if n != whole || !errors.Is(last, archive.ErrUnavailable) {
			t.Errorf("fault %d: %d objects and error %v, want %d and one", fault, n, last, whole)
		}
	}
}

func readAll(t *testing.T, s archive.Store, name string) (string, error) {
	body, err := s.Get(t.Context(), name)
	if err != nil {
		return "", err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	return string(data), err
}
