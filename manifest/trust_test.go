package manifest

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestTrustFileReadsBack(t *testing.T) {
	for _, want := range []Trust{
		{Archive: Hash{1}},
		{Archive: Hash{1}, Seq: 17, Head: Hash{2}},
		{Archive: Hash{1}, Seq: MaxSeq, Head: Hash{2}},
		{Archive: Hash{1}, Version: 2, Policy: Hash{3}},
		{Archive: Hash{1}, Seq: 17, Head: Hash{2}, Version: MaxPolicies, Policy: Hash{3}},
	} {
		text := want.Format()
		got, err := ParseTrust(text)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
}

func TestTrustFileIsAPageForPeople(t *testing.T) {
	got := string(Trust{Archive: Hash{1}, Seq: 17, Head: Hash{2}}.Format())
	if want := string(must(os.ReadFile("testdata/v1/trust"))(t)); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestTrustFileAllowsCommentsAndLineEnds(t *testing.T) {
	text := string(Trust{Archive: Hash{1}, Seq: 17, Head: Hash{2}}.Format())
	for _, text := range []string{
		"\n# mine\n" + text + "\n# end",
		strings.ReplaceAll(text, "\n", "\r\n"),
		strings.TrimSuffix(text, "\n"),
	} {
		if _, err := ParseTrust([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestTrustFilesThatAreNone(t *testing.T) {
	good := string(Trust{Archive: Hash{1}, Seq: 17, Head: Hash{2}}.Format())
	tests := []struct {
		name     string
		old, new string
		says     string
	}{
		{"empty", good, "", "no line for archive"},
		{"no head", "\nhead ", "\n# ", "no line for head"},
		{"another order", "\narchive ", "\nhead ", "want archive"},
		{"a line twice", "seq 17", "seq 17\nseq 17", "want head"},
		{"something more", "seq 17", "seq 17\nnote x", "want head"},
		{"something after", good, good + "head 00", "want policy"},
		{"something after the policy", good, good + "policy 2 " + Hash{3}.String() + "\nhead 00", "nothing may follow"},
		{"the first policy", good, good + "policy 1 " + Hash{3}.String(), "version 1"},
		{"a policy too many", good, good + "policy 1001 " + Hash{3}.String(), "version 1001"},
		{"a policy without a digest", good, good + "policy 2", "hex digits"},
		{"a policy of zeros", good, good + "policy 2 " + Hash{}.String(), "version 2"},
		{"a conflict marker", "seq 17", "<<<<<<< HEAD\nseq 17", "want seq"},
		{"a space too many", "seq 17", "seq  17", "number"},
		{"a space after", "seq 17", "seq 17 ", "number"},
		{"a zero too many", "seq 17", "seq 017", "number"},
		{"a sign", "seq 17", "seq -1", "number"},
		{"a large number", "seq 17", "seq 100000000", "number"},
		{"a head without a number", "seq 17", "seq 0", "seq 0 with head"},
		{"a number without a head", "head 02", "head 00", "seq 17 with head"},
		{"no archive", "archive 01", "archive 00", "archive is zero"},
		{"a short digest", "archive 01", "archive ", "62 hex digits"},
		{"capitals", "archive 01", "archive 0A", "lower-case"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(good, test.old) {
				t.Fatalf("the file has no %q", test.old)
			}
			_, err := ParseTrust([]byte(strings.Replace(good, test.old, test.new, 1)))
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
	if _, err := ParseTrust(make([]byte, MaxTrust+1)); !errors.Is(err, ErrLimit) {
		t.Errorf("a large one: got %v, want %v", err, ErrLimit)
	}
}
