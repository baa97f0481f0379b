package archive_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
)

func TestCheckNameAcceptsEveryNameTheArchiveHas(t *testing.T) {
	id := "20261122T160501Z-1f7a9c04"
	table := strings.Repeat("t", 255)
	for _, name := range []string{
		"README.md", "verify.sh",
		manifest.PolicyName(1), manifest.ManifestName(99_999_999), manifest.PlanName(id),
		manifest.PageName(id, table, 9999),
		manifest.ChunkObject(id, table, manifest.Chunk{Name: manifest.ChunkName(9999, 99, 999_999)}).Name,
	} {
		if err := archive.CheckName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestCheckNameSaysWhatIsWrong(t *testing.T) {
	for name, want := range map[string]string{
		"":                           "empty part",
		"a//b":                       "empty part",
		"a/":                         "empty part",
		"a/../b":                     "begins with a dot",
		"a\nb":                       "control character",
		`a\b`:                        "backslash",
		"a\xff":                      "not UTF-8",
		strings.Repeat("n", 256):     "part of 256 bytes",
		strings.Repeat("part/", 150): "750 bytes, at most 512",
	} {
		err := archive.CheckName(name)
		if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("CheckName(%q): got %v, want fs.ErrInvalid with %q", name, err, want)
		}
	}
}
