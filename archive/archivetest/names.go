package archivetest

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive"
)

// goodNames have what has been lost on the way to some server: what URLs, forms,
// XML, shells and file systems escape, fold, trim or normalise.
var goodNames = []string{
	"a/b", "with space", "space at the end ", "a/ ", "two  spaces", "-rf", "~", "*", "a..b/c.", "a/b...",
	"a+b&c=d?e#f%20g", "1+1", "1 1", "1%201", "1%2B1", "%", "%%", "%zz", "%2F", "%2e%2e/x", "%00", "%C3%A9",
	"?versionId=null", "x?acl", "#", ";a=b", "a,b", "a:b", "a@b", "$(id)", "`id`", "|", "!",
	"'quoted'", `"quoted"`, "<tag>", "a&amp;b", "a&b", "]]>", "&#10;", "<![CDATA[x", "{json}",
	"caf\u00e9", "cafe\u0301", "\u212b", "\u00c5", "\ufb01le", "file", "I", "\u0130", "\u0131",
	"訂單/表", "한국어", "\u1112\u1161\u11ab", "สวัสดี", "\U0001F4E6", "\U0001F468\u200d\U0001F469\u200d\U0001F467", "\U00020000",
	"\u202eevil", "שלום/עולם", "مرحبا", "\ufeffbom", "line\u2028separator", "paragraph\u2029separator", "no\u00a0break", "soft\u00adhyphen", "zero\u200bwidth",
	strings.Repeat("n", 255), strings.Repeat("é", 127), strings.Repeat("long/", 102) + "ng", strings.Repeat("訂", 85) + "/" + strings.Repeat("訂", 85),
}

// refusable are good names that some server has a right to refuse. None may
// change one.
var refusable = []string{
	" space first", " ", " ../x", "  /x", "x/..%2fy", "\uffff", "\ufffe", "\ufffd", "\ue000", "\U0010FFFF", "con", "nul.txt", "a/aux", "~/x", "a*b?c", "trailing.",
}

func names(t *testing.T, s archive.Store) {
	var kept []string
	for _, name := range goodNames {
		err := tryPut(t, s, name, "content of "+name)
		// Some file systems take two of these for one.
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			t.Errorf("Put(%q): got %v, want it taken: CheckName allows it", name, err)
			continue
		}
		kept = append(kept, name)
	}
	if len(kept) < len(goodNames)-6 {
		t.Errorf("took %d of %d names for different ones", len(kept), len(goodNames))
	}
	wantNames(t, s, kept)
}

func oddNames(t *testing.T, s archive.Store) {
	var kept []string
	for _, name := range refusable {
		if err := tryPut(t, s, name, "content of "+name); err == nil {
			kept = append(kept, name)
		}
	}
	wantNames(t, s, kept)
}

// wantNames holds a store to having these objects, by list and by name.
func wantNames(t *testing.T, s archive.Store, names []string) {
	t.Helper()
	slices.Sort(names)
	wantList(t, s, "", names...)
	for _, name := range names {
		want(t, s, name, "content of "+name)
		wantList(t, s, name, slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, name) })...)
	}
	for _, name := range names {
		if err := s.Delete(t.Context(), name); err != nil {
			t.Error(fmt.Errorf("Delete(%q): %w", name, err))
		}
	}
	wantList(t, s, "")
}
