package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/otsnap/otsnap/manifest"
)

// trustFile is where a reader keeps what it trusts about one archive: its id, and
// how far it has seen it. It holds no secret, and the archive's keeper must not be
// able to write it.
type trustFile struct {
	path string
	own  bool // of this archive alone: nobody named it
}

// trustFile chooses the file: the one named, the one in the environment, or one
// of the archive's own among the user's configuration.
func (a *app) trustFile(where place, named string) (trustFile, error) {
	if named == "" {
		named = a.getenv("OTSNAP_TRUST")
	}
	if named != "" {
		return trustFile{path: named}, nil
	}
	folder, err := a.configDir()
	if err != nil {
		return trustFile{}, err
	}
	return trustFile{filepath.Join(folder, localName(where.label, where.name)+".trust"), true}, nil
}

// configDir is where otsnap keeps files of its own.
func (a *app) configDir() (string, error) {
	folder, err := os.UserConfigDir()
	if err != nil {
		return "", advise(misused("there is no place for the trust file: %w", err), "name one with --trust FILE or OTSNAP_TRUST")
	}
	return filepath.Join(folder, "otsnap"), nil
}

// localName is a file name for something with a long name: recognisable by its
// label, and distinct by a digest of the whole.
func localName(label, long string) string {
	digest := sha256.Sum256([]byte(long))
	return fmt.Sprintf("%s-%x", label, digest[:4])
}

// load reads what is trusted. id is the archive's id if the user gave it, which
// is enough where there is no file yet, and must agree with it where there is.
func (f trustFile) load(id string) (manifest.Trust, error) {
	var given manifest.Hash
	if id != "" {
		if err := given.UnmarshalText([]byte(id)); err != nil {
			return manifest.Trust{}, misused("--archive-id: %w", err)
		}
	}
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) && id != "" {
		return manifest.Trust{Archive: given}, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return manifest.Trust{}, advise(labelled{fmt.Errorf("nothing says that it can be trusted: no trust file %s", f.path), manifest.ErrUntrusted},
			"give the id written down when the archive was made, with --archive-id ID, or name the trust file with --trust FILE")
	}
	if err != nil {
		return manifest.Trust{}, err
	}
	trust, err := manifest.ParseTrust(data)
	if err != nil {
		return manifest.Trust{}, advise(misused("trust file %s: %w", f.path, err), "it is no trust file, or a damaged one: move it away, and give the archive's id once with --archive-id ID to have it made anew")
	}
	if id != "" && trust.Archive != given {
		return manifest.Trust{}, advise(labelled{fmt.Errorf("trust file %s is of archive %s, asked for is %s", f.path, trust.Archive, given), manifest.ErrUntrusted},
			"name another file with --trust FILE")
	}
	return trust, nil
}

// vacant reports why there can be no new trust file, without making one.
func (f trustFile) vacant() error {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return fmt.Errorf("trust file: %w", err)
	}
	_, err := os.Lstat(f.path)
	if err == nil && f.unused() {
		return nil
	}
	if err == nil {
		return advise(fmt.Errorf("there is a trust file %s already: %w", f.path, fs.ErrExist), "it is of an archive made earlier; name another file with --trust FILE")
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("trust file: %w", err)
	}
	return nil
}

// unused reports whether the file is of this place and has seen no snapshot: an
// init that was interrupted may have left it.
func (f trustFile) unused() bool {
	data, err := os.ReadFile(f.path)
	if err != nil || !f.own {
		return false
	}
	trust, err := manifest.ParseTrust(data)
	return err == nil && trust.Seq == 0
}

// begin writes the file of an archive that is about to be.
func (f trustFile) begin(t manifest.Trust) error {
	if f.unused() {
		return replaceFile(f.path, t.Format())
	}
	return newFile(f.path, t.Format(), 0o644)
}

// advance replaces the file by one that says t, unless it says so or more
// already. A reader sees the old file or the new one.
func (f trustFile) advance(t manifest.Trust) error {
	old, err := os.ReadFile(f.path)
	if err == nil {
		if seen, err := manifest.ParseTrust(old); err == nil && seen.Archive == t.Archive {
			if t = later(seen, t); t == seen {
				return nil
			}
		}
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	return replaceFile(f.path, t.Format())
}

// later is what is trusted after both: the newer snapshot, and the newer policy.
func later(a, b manifest.Trust) manifest.Trust {
	if b.Seq > a.Seq {
		a.Seq, a.Head = b.Seq, b.Head
	}
	if b.Version > a.Version {
		a.Version, a.Policy = b.Version, b.Policy
	}
	return a
}

// replaceFile writes data to path so that a crash leaves the old file or the new.
func replaceFile(path string, data []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".otsnap-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	if err := writeDurably(temporary, data, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}

// writeDurably fills, syncs and closes a new file.
func writeDurably(f *os.File, data []byte, mode fs.FileMode) error {
	_, err := f.Write(data)
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}
