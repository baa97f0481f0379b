package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/otsnap/otsnap"

// listed is what go list tells of a package.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Standard   bool
	Module     *struct{ Path string }
}

// inside reports whether path is the package or folder named, in this module.
func inside(path, folder string) bool {
	return path == module+"/"+folder || strings.HasPrefix(path, module+"/"+folder+"/")
}

// TestLayers holds the arrows between packages: cmd -> snapshot/tablestore ->
// snapshot -> archive -> manifest -> the standard library.
func TestLayers(t *testing.T) {
	packages := goList(t)
	const (
		sdk    = "github.com/aliyun/aliyun-tablestore-go-sdk"
		pebble = "github.com/cockroachdb/pebble"
	)
	clouds := map[string]string{ // SDKs of object storage, and who imports them
		"github.com/aws/":                     "archive/s3",
		"github.com/aliyun/aliyun-oss-go-sdk": "archive/oss",
		"github.com/aliyun/credentials-go":    "archive/oss",
		"github.com/alibabacloud-go/":         "cmd/otsnap/internal/signer",
	}
	testsOnly := []string{
		module + "/snapshot/tablestore/local", module + "/cmd/otsnap/internal/sample", module + "/archive/archivetest",
		module + "/archive/s3/s3test", module + "/cmd/otsnap/internal/signer/signertest", module + "/archive/oss/osstest",
		module + "/cmd/otsnap/internal/rfc3161/tsatest", "github.com/digitorus/",
		"github.com/Shopify/toxiproxy", "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager",
	}
	standard := map[string]bool{}
	for _, p := range packages {
		standard[p.ImportPath] = p.Standard
	}
	for _, p := range packages {
		if p.Module == nil || p.Module.Path != module {
			continue
		}
		for _, imported := range p.Imports {
			ours := strings.HasPrefix(imported, module)
			allowed := true
			switch {
			case inside(p.ImportPath, "manifest"):
				allowed = standard[imported] || strings.HasPrefix(imported, "filippo.io/mldsa") // which is the standard library's from Go 1.27 on
			case inside(p.ImportPath, "archive"):
				allowed = !ours || inside(imported, "archive") || inside(imported, "manifest")
			case inside(p.ImportPath, "snapshot/tablestore/local"):
				allowed = !ours
			case inside(p.ImportPath, "snapshot/tablestore"):
				allowed = !ours || !inside(imported, "cmd") && !inside(imported, "snapshot/tablestore/local")
			case inside(p.ImportPath, "snapshot"):
				allowed = !ours || inside(imported, "archive") || inside(imported, "manifest")
			}
			if !allowed {
				t.Errorf("%s must not import %s", p.ImportPath, imported)
			}
			if strings.HasPrefix(imported, sdk) && !inside(p.ImportPath, "snapshot/tablestore") && !inside(p.ImportPath, "cmd/otsnap/internal") {
				t.Errorf("%s imports the Tablestore SDK; only snapshot/tablestore and programs around otsnap do", p.ImportPath)
			}
			if strings.HasPrefix(imported, pebble) && !inside(p.ImportPath, "snapshot/tablestore/local") {
				t.Errorf("%s imports Pebble; only snapshot/tablestore/local does", p.ImportPath)
			}
			for sdk, home := range clouds {
				if strings.HasPrefix(imported, sdk) && !inside(p.ImportPath, home) && !inside(p.ImportPath, "cmd/otsnap/internal") {
					t.Errorf("%s imports %s; only %s does", p.ImportPath, imported, home)
				}
			}
		}
		if p.ImportPath != module+"/cmd/otsnap" {
			continue
		}
		for _, d := range p.Deps {
			if strings.HasPrefix(d, pebble) || slices.ContainsFunc(testsOnly, func(prefix string) bool { return strings.HasPrefix(d, prefix) }) {
				t.Errorf("the otsnap binary links %s; a binary that holds production credentials must not", d)
			}
		}
	}
}

// goList returns every package of the module and all they depend on.
func goList(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports,Deps,Standard,Module", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		var ended *exec.ExitError
		if errors.As(err, &ended) {
			t.Fatalf("%v: %s", err, ended.Stderr)
		}
		t.Fatal(err)
	}
	var packages []listed
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
