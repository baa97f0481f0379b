package manifest

import _ "embed"

//go:embed files/README.md
var readme string

//go:embed files/verify.sh
var verifyScript string

// File is a fixed file at the top of an archive.
type File struct {
	Name string
	Data []byte
}

// Files returns the files every new archive gets: how to read it, and a script
// that checks it, both without this program. Its policy binds their digests.
func Files() []File {
	return []File{
		{Name: "README.md", Data: []byte(readme)},
		{Name: "verify.sh", Data: []byte(verifyScript)},
	}
}

// FileRefs returns how a policy names files.
func FileRefs(files []File) []FileRef {
	refs := make([]FileRef, len(files))
	for i, f := range files {
		refs[i] = FileRef{Name: f.Name, SHA256: Sum(f.Data)}
	}
	return refs
}
